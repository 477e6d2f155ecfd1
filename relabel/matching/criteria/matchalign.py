"""MatchAlign: varimax with Kaiser's rows in every draw, then matching to one pivot draw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from relabel._util.validate import choice
from relabel.errors import SpecError
from relabel.groups import GreedySigned, Group, SignedPermutation
from relabel.matching.criteria.base import is_draw
from relabel.matching.criteria.factor_criteria import OfLoadings
from relabel.matching.features import MatchingRule, Problem
from relabel.numerics.ranges import safe_exponent

__all__ = ["MatchAlign", "median_draw"]

Array = NDArray[Any]


@dataclass(frozen=True)
class MatchAlign(OfLoadings):
    r"""Rotated columns matched to those of a pivot draw, one after the other.

    Every draw is rotated by varimax with Kaiser's normalisation. For the columns of the pivot in
    turn, the nearest of the draw's columns that are left is taken, with the sign that is nearer.
    Reproduces the published algorithm; :class:`relabel.criteria.RSP` is better: it assigns all
    columns at once, and to the mean of the aligned draws instead of a noisy one.

    Parameters
    ----------
    variable : str, optional
        The loadings; see :class:`relabel.criteria.RSP`.
    reference : "median", int, or {"chain": c, "draw": d}
        The pivot: the draw whose largest singular value is the median, one by its number (chain
        after chain), or one by its coordinates.
    matching : {"greedy", "assignment"}
        ``"assignment"`` matches all columns of a draw at once.

    References
    ----------
    Poworoznek, E., Anceschi, N., Ferrari, F. & Dunson, D. (2021). Efficiently resolving rotational
    ambiguity in Bayesian matrix sampling with matching. https://doi.org/10.48550/arXiv.2107.13783

    Examples
    --------
    >>> import numpy as np, xarray as xr, relabel
    >>> one = np.array([[1.0, 0.1], [2.0, 0.0], [0.1, 1.0], [0.0, 3.0]])
    >>> quarter = np.array([[0.6, -0.8], [0.8, 0.6]])
    >>> dims = ("chain", "draw", "item", "factor")
    >>> draws = xr.Dataset({"Lambda": (dims, np.stack([one, one @ quarter])[None])})
    >>> spec = relabel.Spec({"factor": "orthogonal"}, {"Lambda": "item factor"})
    >>> aligned = relabel.align(draws, spec, criterion=relabel.criteria.MatchAlign())
    >>> bool(np.allclose(aligned["Lambda"][0, 0], aligned["Lambda"][0, 1]))
    True
    """

    variable: str | None = None
    reference: str | int | Mapping[str, Any] = "median"
    matching: Literal["greedy", "assignment"] = "greedy"
    name: ClassVar[str] = "matchalign"
    named_references: ClassVar[tuple[str, ...]] = ("median",)
    renamed_options: ClassVar[Mapping[str, str]] = {"pivot": "reference"}

    def __post_init__(self) -> None:
        """Check the options."""
        self.check_variable()
        self.check_option("matching", choice, ("greedy", "assignment"))
        self.check_option("reference", _pivot)

    @property
    def first_reference(self) -> Any:
        """Return the draw that is the pivot."""
        return None if self.reference == "median" else self.reference

    def chosen_row(self, problem: Problem) -> int | None:
        """Return the median draw, if that is the pivot."""
        if self.first_reference is not None:
            return None
        (loadings,) = problem.used
        axis = loadings.unit_axes()[0][0]
        rows = np.moveaxis(problem.array(loadings, slice(0, problem.n_draws)), axis + 1, -1)
        return median_draw(rows.reshape(len(rows), -1, rows.shape[-1]))

    def rule(self, group: Group, units: str) -> MatchingRule:
        """Rotate, and match signed permutations."""
        self.check_signs(group, units)
        if not group.rotates:
            raise SpecError(
                f"criterion matchalign: the units {units!r} are declared {group.label}, which no "
                "rotation leaves alone; declare them 'orthogonal', or use rsp with rotation='none'"
            )
        greedy = self.matching == "greedy"
        return MatchingRule(GreedySigned() if greedy else SignedPermutation(), "varimax-kaiser")


def _pivot(option: str, value: Any) -> Any:
    """Return the pivot: a word, the number of a draw, or a draw by its coordinates."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= 0:
        return int(value)
    if is_draw(value) or value == "median":
        return value
    raise SpecError(
        f"{option} must be 'median', the number of a draw, or {{'chain': c, 'draw': d}}, not "
        f"{value!r}"
    )


def median_draw(loadings: Array) -> int:
    """Return the draw whose largest singular value is the (lower) median.

    Parameters
    ----------
    loadings : ndarray of shape (draws, p, q)

    Examples
    --------
    >>> import numpy as np
    >>> median_draw(np.array([[[3.0]], [[1.0]], [[2.0]]]))
    2
    """
    exponent = safe_exponent(float(np.abs(loadings).max(initial=0.0)))
    if exponent:
        loadings = np.ldexp(loadings, -exponent)
    norms = np.sqrt(np.maximum(np.linalg.eigvalsh(loadings.swapaxes(1, 2) @ loadings)[:, -1], 0))
    return int(np.argsort(norms, kind="stable")[(len(norms) - 1) // 2])
