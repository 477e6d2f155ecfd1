"""The iterated mean: every draw as near as possible to the mean of all aligned draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from relabel._util.validate import choice, integer
from relabel.groups import Score
from relabel.groups.elements import Element
from relabel.matching.criteria.base import Criterion, Reference, Statistics, unary_distance
from relabel.matching.features import Block, Layout, aligned_own, aligned_pair
from relabel.matching.moments import Pooled

__all__ = ["SCALES", "ByMean", "Mean"]

Array = NDArray[Any]

#: Values of the option `scale`.
SCALES = ("pooled", "none")


@dataclass(frozen=True)
class Mean(Criterion):
    r"""The Fréchet mean of the draws on the quotient by the symmetry group.

    Minimises

    .. math:: \sum_t \min_{g_t} \sum_v \lVert g_t \theta_{t,v} - m_v \rVert^2 / s_v^2

    over the elements :math:`g_t` and the reference *m* in turn, so the loss never rises. The
    scales :math:`s_v` are pooled over units and draws, which no relabelling changes.

    Parameters
    ----------
    scale : {"pooled", "none"}
        ``"pooled"`` divides every variable by its standard deviation pooled over units and draws
        (about zero where the variable flips with its units).
    max_sweeps : int, default 100
        Bound on the number of times the mean is formed anew.
    var_names : tuple of str, optional
        Variables to match on, as ``name`` or ``posterior/name``; all that carry units by default.

    References
    ----------
    Stephens, M. (2000). Dealing with label switching in mixture models. *Journal of the Royal
    Statistical Society B* 62(4), 795-809. https://doi.org/10.1111/1467-9868.00265

    Examples
    --------
    >>> Mean(scale="none").describe()
    {'name': 'mean', 'scale': 'none', 'max_sweeps': 100, 'var_names': None}
    """

    scale: Literal["pooled", "none"] = "pooled"
    max_sweeps: int = 100
    var_names: tuple[str, ...] | None = None
    name: ClassVar[str] = "mean"
    is_distance: ClassVar[bool] = True
    rotates: ClassVar[bool] = True
    forms_mean: ClassVar[bool] = True
    renamed_options: ClassVar[Mapping[str, str]] = {"variables": "var_names"}

    def __post_init__(self) -> None:
        """Check the options."""
        self.check_option("scale", choice, SCALES)
        self.check_option("max_sweeps", integer, 1)
        self.check_var_names()

    @property
    def scale_free(self) -> bool:
        """Whether every variable is divided by its own scale."""
        return self.scale == "pooled"

    @property
    def matched_variables(self) -> tuple[str, ...] | None:
        """Names of the variables that units are matched on."""
        return self.var_names

    def statistics(
        self, block: Block, layout: Layout, elements: Mapping[str, Element]
    ) -> Statistics:
        """Return sums of the aligned features."""
        sums: Statistics = {"n": len(block)}
        for units in layout.sizes:
            sums[f"own {units}"] = aligned_own(block, layout, units, elements[units]).sum(axis=0)
        for number in range(len(layout.pairs)):
            sums[f"pair {number}"] = aligned_pair(block, layout, number, elements).sum(axis=0)
        return sums

    def form_reference(
        self, statistics: Statistics, pooled: Pooled, layout: Layout, previous: Reference | None
    ) -> Reference:
        """Return the mean of the aligned draws."""
        n = statistics["n"]
        standard = self.scale == "pooled"
        own = {units: statistics[f"own {units}"] / n for units in layout.sizes}
        pairs = tuple(statistics[f"pair {p}"] / n for p in range(len(layout.pairs)))
        return Reference(
            own,
            layout.centre,
            {u: 1 / pooled.own[u] if standard else np.ones(m.shape[1]) for u, m in own.items()},
            pairs,
            tuple(1 / v if standard else 1.0 for v in pooled.pairs),
        )

    def score(self, block: Block, layout: Layout, reference: Reference, units: str) -> Score:
        """Score by minus the squared distance of own features."""
        return unary_distance(
            layout.features(block, units),
            layout.signed(units),
            reference.own[units],
            reference.weight[units],
        )


class ByMean(Criterion):
    """A criterion that compares features as :class:`Mean` does; it has one, and is none.

    Subclasses say in :attr:`mean` with which options.
    """

    is_distance: ClassVar[bool] = True

    @property
    def mean(self) -> Mean:
        """The mean that features are compared by."""
        return Mean()

    @property
    def scale_free(self) -> bool:
        """Whether every variable is divided by its own scale."""
        return self.mean.scale_free

    @property
    def matched_variables(self) -> tuple[str, ...] | None:
        """Names of the variables that units are matched on."""
        return self.mean.var_names

    def statistics(
        self, block: Block, layout: Layout, elements: Mapping[str, Element]
    ) -> Statistics:
        """Return sums of the aligned features."""
        return self.mean.statistics(block, layout, elements)

    def form_reference(
        self, statistics: Statistics, pooled: Pooled, layout: Layout, previous: Reference | None
    ) -> Reference:
        """Return the mean of the aligned draws."""
        return self.mean.form_reference(statistics, pooled, layout, previous)

    def score(self, block: Block, layout: Layout, reference: Reference, units: str) -> Score:
        """Score by minus the squared distance of own features."""
        return self.mean.score(block, layout, reference, units)
