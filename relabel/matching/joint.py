"""The problem of all sets of units jointly, relaxed: Frank-Wolfe, then rounding.

References
----------
Vogelstein, J. T. et al. (2015). Fast approximate quadratic programming for graph matching.
*PLOS ONE* 10(4), e0121002. https://doi.org/10.1371/journal.pone.0121002

Crisostomi, D. et al. (2024). C²M³: Cycle-consistent multi-model merging.
https://doi.org/10.48550/arXiv.2405.17897
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel.groups import Score
from relabel.matching.quadratic import MAX_STEPS, STANDSTILL, best_step, dense, inner
from relabel.matching.search import Elements, View

__all__ = ["relax_jointly"]

Array = NDArray[Any]
_Points = dict[str, Array]  # of each set: even and odd part, shape (2, draws, K, K)


def relax_jointly(view: View, begin: Elements | None = None) -> Elements:
    r"""Frank-Wolfe with exact line search over the convex hulls of all groups, then round.

    The gain is bilinear in every two sets of units that meet, so along a line it is a parabola.

    Parameters
    ----------
    view : View
        No set of units may rotate.
    begin : dict of str to Monomial, optional
        The point is begun from halfway between these and the mean of all elements; from that mean
        by default.

    Returns
    -------
    dict of str to Monomial
    """
    groups = view.layout.groups
    point = {u: _centre(view, u) for u in groups}
    if begin is not None:
        point = {u: 0.5 * (centre + dense(begin[u])) for u, centre in point.items()}
    result, active = {u: p.copy() for u, p in point.items()}, np.arange(len(view))
    slope = _slope(view, point)
    for _ in range(MAX_STEPS):
        rising = {u: np.stack(view.unary[u]) + slope[u] for u in groups}
        corner = {u: dense(g.match(Score(*rising[u]))) for u, g in groups.items()}
        away = {u: corner[u] - point[u] for u in groups}
        further = _slope(view, corner)
        bend = {u: further[u] - slope[u] for u in groups}
        rise = np.sum([inner(rising[u], away[u]) for u in groups], axis=0)
        share = best_step(rise, 0.5 * np.sum([inner(bend[u], away[u]) for u in groups], axis=0))
        moved = np.zeros(len(active))
        for u in groups:
            point[u] = point[u] + share[:, None, None] * away[u]
            slope[u] = slope[u] + share[:, None, None] * bend[u]
            result[u][:, active] = point[u]
            moved = np.maximum(moved, inner(away[u][:1], away[u][:1]) / point[u].shape[-1])
        rows = np.flatnonzero(share**2 * moved > STANDSTILL**2)
        if not rows.size:
            break
        active, view = active[rows], view.select(rows)
        point, slope = ({u: p[:, rows] for u, p in every.items()} for every in (point, slope))
    return {u: g.match(Score(*result[u])) for u, g in groups.items()}


def _centre(view: View, units: str) -> Array:
    """The mean of all elements of one set."""
    size = view.layout.sizes[units]
    even = np.full((len(view), size, size), 1.0 / size)
    return np.stack([even, np.zeros_like(even) if view.layout.groups[units].signs else even])


def _slope(view: View, point: _Points) -> _Points:
    """Gradient of what the pairs gain."""
    slope = {u: np.zeros(p.shape) for u, p in point.items()}
    for number, pair in enumerate(view.layout.pairs):
        for side, units in enumerate(pair.units):
            array = np.moveaxis(view.block.pairs[number], side + 1, 1)
            mean = np.moveaxis(view.reference.pairs[number], side, 0)
            mean = 2 * view.reference.pair_weight[number] * mean
            other = point[pair.units[1 - side]][int(pair.signed[1 - side])]
            n, k, m, r = array.shape
            moved = other @ array.transpose(0, 2, 1, 3).reshape(n, m, k * r)
            moved = moved.reshape(n, m, k, r).transpose(0, 1, 3, 2).reshape(n, m * r, k)
            slope[units][int(pair.signed[side])] += mean.reshape(k, m * r) @ moved
    return slope
