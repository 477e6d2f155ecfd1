"""Weighted orthogonal Procrustes: items that vary less count for more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from relabel._util.validate import choice
from relabel.groups.elements import Element
from relabel.matching.criteria.base import Reference, Statistics
from relabel.matching.criteria.procrustes import Procrustes
from relabel.matching.features import Block, Layout, aligned_own
from relabel.matching.moments import Pooled

__all__ = ["WeightedProcrustes"]

Array = NDArray[Any]

_RIDGE = 1e-9  # of the mean variance of an item, so that few draws have a determinant


@dataclass(frozen=True)
class WeightedProcrustes(Procrustes):
    r"""Rotations towards the mean, every item weighted by how well its loadings are known (WOP).

    .. math:: \sum_t \min_{G_t} \sum_i w_i \lVert G_t \lambda_{ti} - \bar\lambda_i \rVert^2,
        \qquad w_i \propto \lvert S_i \rvert^{-1/q}

    with :math:`S_i` the second moments of item *i*'s loadings about :math:`\bar\lambda_i`. Weights
    (of geometric mean one) are formed anew with the mean in every sweep, so the weighted loss need
    not fall from one to the next.

    Parameters
    ----------
    variable, final, reference, max_sweeps
        As in :class:`relabel.criteria.Procrustes`.
    spread : {"aligned", "drawn"}
        Whether :math:`S_i` is that of the rotated draws, or of the draws as they came, about the
        mean of the rotated ones. The latter depends on the arbitrary rotations that the draws came
        with; it reproduces what the R package factor.switching 1.4 gives.

    References
    ----------
    Aßmann, C., Boysen-Hogrefe, J. & Pape, M. (2016). Bayesian analysis of static and dynamic
    factor models: an ex-post approach towards the rotation problem. *Journal of Econometrics*
    192(1), 190-206. https://doi.org/10.1016/j.jeconom.2015.10.010

    Examples
    --------
    >>> WeightedProcrustes(final="none").describe()["final"]
    'none'
    """

    spread: Literal["aligned", "drawn"] = "aligned"
    name: ClassVar[str] = "weighted-procrustes"
    monotone: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        self.check_option("spread", choice, ("aligned", "drawn"))

    def statistics(
        self, block: Block, layout: Layout, elements: Mapping[str, Element]
    ) -> Statistics:
        """Return sums of the aligned loadings, and of those whose spread makes the weights."""
        sums = super().statistics(block, layout, elements)
        for units in layout.sizes:
            own = layout.features(block, units)
            if self.spread == "aligned":
                own = aligned_own(block, layout, units, elements[units])
            items = own.transpose(2, 1, 0)
            sums[f"spread {units}"] = own.sum(axis=0)
            sums[f"products {units}"] = items @ items.swapaxes(1, 2)
        return sums

    def form_reference(
        self, statistics: Statistics, pooled: Pooled, layout: Layout, previous: Reference | None
    ) -> Reference:
        """Return the mean of the aligned loadings, and the weights of the items."""
        plain, n = super().form_reference(statistics, pooled, layout, previous), statistics["n"]
        weight = {}
        for units, mean in plain.own.items():
            middle, about = mean.T, (statistics[f"spread {units}"] / n).T
            moments = statistics[f"products {units}"] / n
            moments = moments - middle[:, :, None] * about[:, None, :]
            moments -= about[:, :, None] * middle[:, None, :]
            moments += middle[:, :, None] * middle[:, None, :]
            weight[units] = item_weights(moments) if n > 1 else np.ones(len(middle))
        return replace(plain, weight=weight)


def item_weights(moments: Array) -> Array:
    r"""Weights :math:`|S_i|^{-1/q}` of geometric mean one; items without spread get one.

    Parameters
    ----------
    moments : ndarray of shape (items, q, q)

    Returns
    -------
    ndarray of shape (items,)
    """
    size = moments.shape[-1]
    variance = np.einsum("iaa->i", moments) / size
    varies = variance > 1e-30 * variance.max(initial=0.0)
    scale = np.where(varies, variance, 1.0)
    unit = np.eye(size)
    relative = np.where(varies[:, None, None], moments / scale[:, None, None], unit)
    logs = -np.linalg.slogdet(relative + _RIDGE * unit)[1] / size - np.log(scale)
    logs = logs - logs[varies].mean() if varies.any() else logs
    return np.where(varies, np.exp(logs), 1.0)
