"""Orthogonal Procrustes: rotations towards the mean of the rotated loadings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from relabel._util.validate import choice
from relabel.errors import SpecError
from relabel.groups import Group
from relabel.groups.elements import Dense, Element
from relabel.matching.criteria.base import FromDrawOrLabels, Reference, StartReference
from relabel.matching.criteria.factor_criteria import OfLoadings
from relabel.matching.features import MatchingRule
from relabel.numerics.rotations import varimax
from relabel.spec.spec import ResolvedSpec

__all__ = ["Procrustes"]


@dataclass(frozen=True)
class Procrustes(FromDrawOrLabels, OfLoadings):
    r"""Every draw rotated as near as possible to the mean of the rotated draws (OP).

    .. math:: \sum_t \min_{G_t' G_t = I} \lVert \Lambda_t G_t' - \bar\Lambda \rVert^2

    over the rotations and the mean in turn, so the loss never rises. Each rotation is the polar
    factor of :math:`\bar\Lambda' \Lambda_t`. The loss is the same for any further rotation of
    all draws, so a last one, the same for all, may be put on top.

    Parameters
    ----------
    variable : str, optional
        The loadings; see :class:`relabel.criteria.RSP`.
    final : {"varimax", "none"}
        Whether the mean is rotated by varimax at the end, and every draw with it.
    reference : {"draw", "labels", "both"}
        See :class:`relabel.criteria.RSP`.
    max_sweeps : int, default 100
        Bound on the number of times the mean is formed anew.

    References
    ----------
    Aßmann, C., Boysen-Hogrefe, J. & Pape, M. (2016). Bayesian analysis of static and dynamic
    factor models: an ex-post approach towards the rotation problem. *Journal of Econometrics*
    192(1), 190-206. https://doi.org/10.1016/j.jeconom.2015.10.010

    Examples
    --------
    >>> import numpy as np, xarray as xr, relabel
    >>> one = np.array([[1.0, 0.1], [2.0, 0.0], [0.1, 1.0], [0.0, 3.0]])
    >>> quarter = np.array([[0.6, -0.8], [0.8, 0.6]])
    >>> dims = ("chain", "draw", "item", "factor")
    >>> draws = xr.Dataset({"Lambda": (dims, np.stack([one, one @ quarter])[None])})
    >>> spec = relabel.Spec({"factor": "orthogonal"}, {"Lambda": "item factor"})
    >>> aligned = relabel.align(draws, spec, criterion=relabel.criteria.Procrustes())
    >>> bool(np.allclose(aligned["Lambda"][0, 0], aligned["Lambda"][0, 1]))
    True
    """

    variable: str | None = None
    final: Literal["varimax", "none"] = "varimax"
    reference: StartReference = "draw"
    max_sweeps: int = 100
    name: ClassVar[str] = "procrustes"
    renamed_options: ClassVar[Mapping[str, str]] = {"start": "reference"}

    def __post_init__(self) -> None:
        """Check the options."""
        self.check_variable()
        self.check_option("final", choice, ("varimax", "none"))
        self.check_start()

    def rule(self, group: Group, units: str) -> MatchingRule:
        """Match rotations."""
        self.check_signs(group, units)
        if not group.rotates:
            raise SpecError(
                f"criterion {self.name}: the units {units!r} are declared {group.label}, which no "
                "rotation leaves alone; declare them 'orthogonal', or use rsp with rotation='none'"
            )
        return MatchingRule(group)

    def final_elements(self, reference: Reference, resolved: ResolvedSpec) -> dict[str, Element]:
        """Return the rotation of the mean by varimax."""
        if self.final == "none":
            return {}
        found: dict[str, Element] = {}
        for units in self.rules(resolved):
            turned = varimax(reference.own[units].T[None])[0]
            found[units] = Dense(np.ascontiguousarray(turned.T))
        return found
