"""Criteria: what a relabelling maximises. One file each; the table below names them all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from relabel.criteria.activations import Activations
from relabel.criteria.base import Criterion
from relabel.criteria.gaussian import Gaussian
from relabel.criteria.given import ToReference
from relabel.criteria.matchalign import MatchAlign
from relabel.criteria.mean import Mean
from relabel.criteria.order import Order
from relabel.criteria.procrustes import Procrustes
from relabel.criteria.rsp import RSP
from relabel.criteria.wprocrustes import WeightedProcrustes
from relabel.errors import SpecError

__all__ = [
    "CRITERIA",
    "RSP",
    "Activations",
    "Criterion",
    "Gaussian",
    "MatchAlign",
    "Mean",
    "Order",
    "Procrustes",
    "ToReference",
    "WeightedProcrustes",
    "criterion_of",
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
        RSP,
        Procrustes,
        WeightedProcrustes,
        MatchAlign,
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
    if name not in CRITERIA:
        raise SpecError(f"unknown criterion {name!r}; there are {', '.join(CRITERIA)}")
    criterion = CRITERIA[name]
    known = [f.name for f in fields(criterion)]  # type: ignore[arg-type]
    given = dict(options or {})
    for key in given:
        if key not in known:
            raise SpecError(
                f"criterion {name}: unknown option {key!r}; there are {', '.join(known)}"
            )
    try:
        return criterion(**given)
    except TypeError as error:
        raise SpecError(f"criterion {name}: {error}") from error
