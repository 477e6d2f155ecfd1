"""Criteria: what a relabelling maximises. One file each; the table below names them all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from relabel.errors import SpecError
from relabel.matching.criteria.activations import Activations
from relabel.matching.criteria.base import Criterion
from relabel.matching.criteria.data_based import DataBased
from relabel.matching.criteria.ecr import ECR
from relabel.matching.criteria.ecr_iterative_1 import ECRIterative1
from relabel.matching.criteria.ecr_iterative_2 import ECRIterative2
from relabel.matching.criteria.gaussian import Gaussian
from relabel.matching.criteria.given import ToReference
from relabel.matching.criteria.matchalign import MatchAlign
from relabel.matching.criteria.mean import Mean
from relabel.matching.criteria.order import Order
from relabel.matching.criteria.permutations import Permutations
from relabel.matching.criteria.pivotal import Pivotal
from relabel.matching.criteria.pra import PRA
from relabel.matching.criteria.procrustes import Procrustes
from relabel.matching.criteria.rsp import RSP
from relabel.matching.criteria.sjw import SJW
from relabel.matching.criteria.stephens import Stephens
from relabel.matching.criteria.wasserstein import Wasserstein
from relabel.matching.criteria.wprocrustes import WeightedProcrustes
from relabel.spec.resolve import closest

__all__ = [
    "CRITERIA",
    "ECR",
    "PRA",
    "RSP",
    "SJW",
    "Activations",
    "Criterion",
    "DataBased",
    "ECRIterative1",
    "ECRIterative2",
    "Gaussian",
    "MatchAlign",
    "Mean",
    "Order",
    "Permutations",
    "Pivotal",
    "Procrustes",
    "Stephens",
    "ToReference",
    "Wasserstein",
    "WeightedProcrustes",
    "criterion_of",
    "options_of",
]

#: Name, as on the command line -> criterion.
CRITERIA: dict[str, type[Criterion]] = {
    criterion.name: criterion
    for criterion in (
        Mean,
        ToReference,
        Gaussian,
        Activations,
        Order,
        Stephens,
        ECR,
        ECRIterative1,
        ECRIterative2,
        PRA,
        DataBased,
        SJW,
        Pivotal,
        Permutations,
        RSP,
        Procrustes,
        WeightedProcrustes,
        MatchAlign,
        Wasserstein,
    )
}


def criterion_of(name: str, options: Mapping[str, Any] | None = None) -> Criterion:
    """Build a criterion from its name and options.

    Parameters
    ----------
    name : str
        One of :data:`CRITERIA`.
    options : mapping, optional
        Field -> value.

    Returns
    -------
    Criterion

    Raises
    ------
    SpecError
        If the name or an option is unknown, or a value does not fit.

    Examples
    --------
    >>> criterion_of("mean", {"scale": "none"})
    Mean(scale='none', max_sweeps=100, variables=None)
    """
    known = options_of(name)
    criterion = CRITERIA[name]
    given = dict(options or {})
    for key in given:
        if key not in known:
            raise SpecError(
                f"criterion {name}: unknown option {key!r}{closest(str(key), known)}; there are "
                f"{', '.join(known)}"
            )
    try:
        return criterion(**given)
    except TypeError as error:
        raise SpecError(f"criterion {name}: {error}") from error


def options_of(name: str) -> list[str]:
    """Return the names of a criterion's options.

    Raises
    ------
    SpecError
        If there is no such criterion.

    Examples
    --------
    >>> options_of("stephens")
    ['prob', 'start', 'max_sweeps']
    """
    if name not in CRITERIA:
        raise SpecError(
            f"unknown criterion {name!r}{closest(str(name), CRITERIA)}; there are "
            f"{', '.join(CRITERIA)}"
        )
    return [f.name for f in fields(CRITERIA[name])]  # type: ignore[arg-type]
