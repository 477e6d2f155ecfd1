"""Modes that are left: aligned draws, sorted into sets that do not overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from relabel.diagnostics.kernels.rhat_ess import effective_size
from relabel.diagnostics.kernels.unimodality import dip_test, holm

__all__ = ["Clusters", "clusters", "separation"]

Array = NDArray[Any]
_MOST_PAIRED = 64  # chains, whose pairs are compared one by one
_LEAST_DRAWS = 20  # of a chain, for a mean and a spread of its own
_LEAST_SHARE = 0.02  # of the draws, in a mode that is split off within chains
_N_AXES = 5
_SLOW = 2.0  # times the separation of a chain's own halves, which are shorter than chains
_PARTS = 10  # of a chain: every other one chooses the direction, the rest are compared along it


@dataclass(frozen=True)
class Clusters:
    """The draws, sorted into modes.

    Attributes
    ----------
    mode : ndarray of int, shape (draws,)
        From 0 on; the mode with most draws first.
    dip_p : dict of int to float
        For each mode the smallest p-value of the dip tests within it, after Holm's correction.
    """

    mode: Array
    dip_p: dict[int, float]


def clusters(
    views: Sequence[Array],
    chain: Array,
    *,
    apart: float = 2.0,
    alpha: float = 0.01,
) -> Clusters:
    r"""Sort aligned draws into modes, with the chain as the sampling unit.

    First whole chains: two chains are linked unless their draws are separated, in weights or in
    outputs, by more than `apart` and by more than twice what separates the halves of either chain
    (slow chains cover parts of a mode, the more so in many dimensions, and so do their halves); the
    linked groups are modes. Two sets of draws are separated when, along the
    direction of the difference of their means (each feature divided by its variance within them),

    .. math:: J = \frac{\lvert m_1 - m_2 \rvert}{s_1 + s_2} > \text{apart}.

    Then draws within these groups, for chains that move between modes, and for many short chains:
    along the leading principal components, a dip test on as many draws as they are effectively
    worth (Holm's correction over all of them), and a split at the best cut where that is separated
    too; again within each part. What is not separated is one mode: there is no such thing as
    noise.

    Parameters
    ----------
    views : sequence of ndarray of shape (draws, F)
        Weights and outputs: modes that differ in either are separated.
    chain : ndarray of int, shape (draws,)
        Which chain each draw belongs to.
    apart : float, default 2.0
        Two normal distributions have two peaks from J = 1 on; halves of a normal distribution that
        is cut have J = 1.3, of a uniform one 1.7, so that a slow chain that covers half a mode
        stays linked.
    alpha : float, default 0.01
        Level of the dip tests.

    Returns
    -------
    Clusters

    References
    ----------
    Hartigan, J. A. & Hartigan, P. M. (1985). The dip test of unimodality. *Annals of Statistics*
    13(1), 70-84. https://doi.org/10.1214/aos/1176346577

    Examples
    --------
    >>> import numpy as np
    >>> values = np.random.default_rng(0).normal(size=(400, 6))
    >>> values[:100, 0] += 12
    >>> found = clusters([values], np.repeat(np.arange(4), 100))
    >>> np.bincount(found.mode)
    array([300, 100])
    """
    label = _by_chain(views, chain, apart)
    fresh_draw = _moves(views, chain)
    dip_p: dict[int, float] = {}
    waiting = list(np.unique(label))
    while waiting:
        group = waiting.pop()
        rows = np.flatnonzero(label == group)
        p_value, right = _within(views, rows[fresh_draw[rows]], chain, apart, alpha)
        if right is None:
            dip_p[int(group)] = p_value
        else:
            fresh = label.max() + 1
            side = np.zeros(len(label), dtype=bool)
            side[rows[fresh_draw[rows]][right]] = True
            last = np.maximum.accumulate(np.where(fresh_draw, np.arange(len(label)), 0))
            label[rows[side[last[rows]]]] = fresh
            waiting += [group, fresh]
    names, counts = np.unique(label, return_counts=True)
    order = names[np.argsort(-counts, kind="stable")]
    mode = np.argsort(np.argsort(-counts, kind="stable"), kind="stable")[
        np.searchsorted(names, label)
    ]
    return Clusters(mode, {i: dip_p[int(g)] for i, g in enumerate(order)})


def _moves(views: Sequence[Array], chain: Array) -> Array:
    """Which draws differ from the one before: a chain that stands still is one draw, many times."""
    moved = np.ones(len(chain), dtype=bool)
    changed = [(view[1:] != view[:-1]).any(axis=1) for view in views]
    moved[1:] = np.logical_or.reduce(changed) | (chain[1:] != chain[:-1])
    return moved


def separation(one: Array, two: Array) -> float:
    """How far two sets of draws are apart, beside their spread, in the direction they differ in.

    Parameters
    ----------
    one, two : ndarray of shape (draws, F)
        In the order in which they were drawn: every other tenth chooses the direction, the rest are
        compared along it, so that noise in many features is not taken for a difference.

    Returns
    -------
    float
        J of :func:`clusters`.

    Examples
    --------
    >>> import numpy as np
    >>> one, two = np.random.default_rng(0).normal(size=(2, 200, 5))
    >>> separation(one, two) < 1, separation(one, two + np.array([9, 0, 0, 0, 0])) > 3
    (True, True)
    """
    parts = [_parted(draws) for draws in (one, two)]
    gap = parts[0][0].mean(axis=0) - parts[1][0].mean(axis=0)
    variance = (parts[0][0].var(axis=0) + parts[1][0].var(axis=0)) / 2
    if (gap[variance == 0] != 0).any():
        return np.inf
    direction = np.divide(gap, variance, out=np.zeros_like(gap), where=variance > 0)
    a, b = (part[1] @ direction for part in parts)
    spread = a.std() + b.std()
    return float(max(a.mean() - b.mean(), 0.0) / spread) if spread > 0 else 0.0


def _parted(draws: Array) -> tuple[Array, Array]:
    """Draws that choose a direction, and draws that are compared along it; all, if they are few."""
    if len(draws) < 2 * _PARTS:
        return draws, draws
    odd = (np.arange(len(draws)) * _PARTS // len(draws)) % 2 == 1
    return draws[~odd], draws[odd]


def _wander(draws: Array) -> float:
    """How far apart the two halves of one chain are: a chain that is slow has no more than that."""
    half = len(draws) // 2
    return separation(draws[:half], draws[half:])


def _by_chain(views: Sequence[Array], chain: Array, apart: float) -> Array:
    """Mode of every draw by its chain: groups of chains that are linked."""
    chains, place, counts = np.unique(chain, return_inverse=True, return_counts=True)
    if len(chains) > _MOST_PAIRED or counts.min() < _LEAST_DRAWS:
        return np.zeros(len(chain), dtype=int)
    rows = [np.flatnonzero(place == c) for c in range(len(chains))]
    linked = np.ones((len(chains), len(chains)), dtype=bool)
    for view in views:
        own = [_wander(view[r]) for r in rows]
        for a, b in combinations(range(len(chains)), 2):
            bound = max(apart, _SLOW * own[a], _SLOW * own[b])
            linked[a, b] &= separation(view[rows[a]], view[rows[b]]) <= bound
    linked &= linked.T
    label: Array = connected_components(linked, directed=False)[1]
    return label[place]


def _within(
    views: Sequence[Array], rows: Array, chain: Array, apart: float, alpha: float
) -> tuple[float, Array | None]:
    """Smallest p-value of dip tests of some draws, and which of them to split off, if any."""
    axes = [axis for view in views for axis in _axes(view[rows])]
    p_values = np.array([dip_test(axis, effective_size(axis, chain[rows])) for axis in axes])
    adjusted = holm(p_values)
    if np.isnan(adjusted).all():
        return float("nan"), None
    best: tuple[float, Array | None] = (apart, None)
    for axis, p_value in zip(axes, adjusted, strict=True):
        if p_value < alpha:
            index, right = _best_cut(axis)
            if index > best[0]:
                best = index, right
    return float(np.nanmin(adjusted)), best[1]


def _axes(values: Array) -> list[Array]:
    """Draws along the leading principal components of features on the scale of their main mode."""
    spread = _shortest_half(values)
    moving = spread > 1e-12 * np.abs(values).max(axis=0, initial=0.0)
    if len(values) < 2 * _LEAST_DRAWS or not moving.any():
        return []
    standard = (values[:, moving] - values[:, moving].mean(axis=0)) / spread[moving]
    if standard.shape[1] > len(standard):
        _, vectors = np.linalg.eigh(standard @ standard.T)
        return [vectors[:, -1 - i] for i in range(min(_N_AXES, len(standard) - 1))]
    _, vectors = np.linalg.eigh(standard.T @ standard)
    n_axes = min(_N_AXES, standard.shape[1])
    return [standard @ vectors[:, -1 - i] for i in range(n_axes)]


def _shortest_half(values: Array) -> Array:
    """Width of the shortest interval with half of the draws: that of one mode, not of all."""
    ordered = np.sort(values, axis=0)
    half = len(ordered) // 2
    width = (ordered[half:] - ordered[: len(ordered) - half]).min(axis=0)
    spread: Array = np.where(width > 0, width, values.std(axis=0))
    return spread


def _best_cut(values: Array) -> tuple[float, Array]:
    """Largest separation of two parts of a line, and which draws are right of the cut."""
    order = np.argsort(values, kind="stable")
    x = values[order] - values.mean()
    n = len(x)
    count = np.arange(1, n)
    total, squares = np.cumsum(x), np.cumsum(x**2)
    left, right = total[:-1] / count, (total[-1] - total[:-1]) / (n - count)
    inner = np.maximum(squares[:-1] / count - left**2, 0.0)
    outer = np.maximum((squares[-1] - squares[:-1]) / (n - count) - right**2, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        index = np.nan_to_num((right - left) / (np.sqrt(inner) + np.sqrt(outer)), posinf=np.inf)
    least = max(2, int(_LEAST_SHARE * n))
    index[: least - 1] = index[n - least :] = 0.0
    best = int(index.argmax())
    mask = np.zeros(n, dtype=bool)
    mask[order[best + 1 :]] = True
    return float(index[best]), mask
