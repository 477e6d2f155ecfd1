"""Numerical kernels: plain arrays in and out, draws along the first axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

__all__ = ["alternatives", "assign", "settle_gauges"]

Array = NDArray[Any]

_SMALL = 200  # units; a larger residual graph fills the cache by itself
_SETTLED = 1e-13  # draws that are in their gauge but for rounding stay bit for bit as they are

#: One variable in :func:`settle_gauges`: squared entries and, per axis, (units or None, power).
SquaredTerm = tuple[Array, tuple[tuple[str | None, int], ...]]


def assign(score: Array) -> Array:
    r"""Solve one linear assignment problem per draw.

    .. math:: \hat\sigma = \arg\max_{\sigma} \sum_k S_{k,\sigma(k)}

    Where the best unit of every slot is a different one, that choice is the optimum; a vectorised
    test finds these draws, and only the others go through the Hungarian algorithm. The test
    succeeds most often when the score is minus the full squared distance.

    Parameters
    ----------
    score : ndarray of shape (draws, K, K)
        ``score[t, k, j]`` is the gain of putting unit *j* of draw *t* into slot *k*.

    Returns
    -------
    ndarray of int, shape (draws, K)
        The unit of each slot.

    References
    ----------
    Crouse, D. F. (2016). On implementing 2D rectangular assignment algorithms.
    *IEEE Transactions on Aerospace and Electronic Systems* 52(4), 1679-1696.
    https://doi.org/10.1109/TAES.2016.140952

    Examples
    --------
    >>> import numpy as np
    >>> assign(np.array([[[0.0, 2.0], [1.0, 2.5]]]))
    array([[1, 0]])
    """
    n_units = score.shape[-1]
    index: Array = score.argmax(axis=-1)
    distinct = np.sort(index, axis=-1) == np.arange(n_units)
    for t in np.flatnonzero(~distinct.all(axis=-1)):
        index[t] = linear_sum_assignment(score[t], maximize=True)[1]
    return index


def alternatives(score: Array, index: Array) -> Array:
    r"""Gain of the best assignment over the best one that gives a slot another unit.

    Every other assignment differs from the optimal one by alternating cycles, so the loss of
    forcing slot *k* to change is the length of the shortest cycle through *k* in the residual
    graph with the lengths :math:`w_{ab} = S_{a,\sigma(a)} - S_{a,\sigma(b)}` (slot *a* takes the
    unit of slot *b*). All-pairs shortest paths (Floyd and Warshall) give all slots at once in
    :math:`O(K^3)` operations a draw.

    Parameters
    ----------
    score : ndarray of shape (draws, K, K)
        As in :func:`assign`.
    index : ndarray of int, shape (draws, K)
        An optimal assignment for `score`.

    Returns
    -------
    ndarray of shape (draws, K)
        Non-negative; infinite where *K* = 1, since there is no other unit.

    References
    ----------
    Floyd, R. W. (1962). Algorithm 97: Shortest path. *Communications of the ACM* 5(6), 345.
    https://doi.org/10.1145/367766.368168

    Examples
    --------
    >>> import numpy as np
    >>> score = np.array([[[0.0, 2.0], [1.0, 2.5]]])
    >>> alternatives(score, np.array([[1, 0]]))
    array([[0.5, 0.5]])
    """
    n_draws, n_units = index.shape
    result = np.empty((n_draws, n_units))
    per_block = 64 if n_units <= _SMALL else 1  # inner loops of some length, in cached memory
    for start in range(0, n_draws, per_block):
        rows = slice(start, start + per_block)
        # lengths[a, b, t]: the draws last, so that every step runs over contiguous memory
        lengths = np.take_along_axis(score[rows], index[rows, None, :], axis=2)
        lengths = np.ascontiguousarray(lengths.transpose(1, 2, 0))
        lengths = np.einsum("aat->at", lengths)[:, None, :] - lengths
        np.einsum("aat->at", lengths)[...] = np.inf
        distance, through = lengths.copy(), np.empty_like(lengths)
        for via in range(n_units):
            np.add(distance[:, via, None, :], distance[None, via, :, :], out=through)
            np.minimum(distance, through, out=distance)
        result[rows] = np.einsum("aat->ta", distance)
    return np.maximum(result, 0.0)


def settle_gauges(
    terms: Sequence[SquaredTerm],
    sizes: Mapping[str, int],
    gauges: Mapping[str, Callable[[Array, Array], Array]],
    *,
    tolerance: float = 1e-15,
    max_cycles: int = 10_000,
) -> dict[str, Array]:
    r"""Find the scales that bring every set of units to its gauge, given those of the others.

    The sets are visited cyclically: the squared norms of incoming and outgoing weights of each unit
    are computed under the present scales of the other sets, and the gauge of the set returns new
    scales. For the balanced gauge this is coordinate descent on a convex function (the squared norm
    of all weights on the orbit), so it ends at its only minimum.

    Parameters
    ----------
    terms : sequence of (ndarray of shape (draws, ...), axes)
        The squared entries of every variable and, for each axis, the units it carries (None for
        an axis of no units with a gauge) and the power of the scale that acts on it.
    sizes : mapping of str to int
        Number of units of each set.
    gauges : mapping of str to callable
        ``gauge(incoming, outgoing)`` takes the two squared norms at scale one, each of shape
        (draws, K), and returns the scales, of the same shape.
    tolerance : float, default 1e-15
        A draw is settled when no logarithm of a scale moved by more than this, or by more than a
        few units in the last place.
    max_cycles : int, default 10000
        ResolvedSpec on the cycles, for draws with units of (nearly) zero norm.

    Returns
    -------
    dict of str to ndarray of shape (draws, K)

    References
    ----------
    Neyshabur, B., Salakhutdinov, R. & Srebro, N. (2015). Path-SGD: path-normalized optimization
    in deep neural networks. https://doi.org/10.48550/arXiv.1506.02617

    Examples
    --------
    One unit with an incoming weight of 1 and an outgoing one of 4 is balanced at 2 and 2.

    >>> import numpy as np
    >>> terms = [(np.array([[1.0]]), (("h", 1),)), (np.array([[16.0]]), (("h", -1),))]
    >>> settle_gauges(terms, {"h": 1}, {"h": lambda a, b: (b / a) ** 0.25})
    {'h': array([[2.]])}
    """
    n_draws = terms[0][0].shape[0]
    scales = {name: np.ones((n_draws, sizes[name])) for name in gauges}
    floor = max(tolerance, 8 * np.finfo(float).eps)
    coupled = _self_coupled(terms)
    active = np.arange(n_draws)
    current = [_summed(squares, axes) for squares, axes in terms]
    for cycle in range(max_cycles):
        moved = np.zeros(active.size)
        now = {name: scale[active] for name, scale in scales.items()}
        for name, gauge in gauges.items():
            fresh = gauge(*_scaled_norms(current, now, name))
            moved = np.maximum(moved, np.abs(np.log(fresh / now[name])).max(axis=-1))
            if name in coupled and cycle % 2:  # coupled units would overshoot for ever
                fresh = np.sqrt(fresh * now[name])
            now[name] = fresh
        for name, scale in now.items():
            scales[name][active] = scale
        still = moved > floor
        if not still.any() or (len(gauges) == 1 and not coupled):
            break
        if still.mean() < 0.5:
            current = [(squares[still], axes) for squares, axes in current]
            active = active[still]
    return {name: np.where(np.abs(s - 1.0) < _SETTLED, 1.0, s) for name, s in scales.items()}


def _summed(squares: Array, axes: tuple[tuple[str | None, int], ...]) -> SquaredTerm:
    """Return squares summed over the axes without a scale: positions of a kernel, outputs."""
    idle = [i for i, (units, power) in enumerate(axes) if units is None or power == 0]
    kept = tuple(axis for i, axis in enumerate(axes) if i not in idle)
    return squares.sum(axis=tuple(i + 1 for i in idle)) if idle else squares, kept


def _self_coupled(terms: Sequence[SquaredTerm]) -> set[str]:
    """Return the units that a variable carries on two axes."""
    named = [[name for name, _ in axes if name is not None] for _, axes in terms]
    return {name for names in named for name in names if names.count(name) > 1}


def _scaled_norms(
    terms: Sequence[SquaredTerm], scales: Mapping[str, Array], name: str
) -> tuple[Array, Array]:
    """Return squared norms into and out of each unit of `name`, under the scales of the others."""
    norms = [np.zeros_like(scales[name]), np.zeros_like(scales[name])]
    for squares, axes in terms:
        for position, (units, power) in enumerate(axes):
            if units == name and power != 0:
                norms[int(power < 0)] += _sum_others(squares, axes, scales, position)
    return norms[0], norms[1]


def _sum_others(
    squares: Array, axes: tuple[tuple[str | None, int], ...], scales: Mapping[str, Array], keep: int
) -> Array:
    """Sum over all axes but one, each weighted by the squared scale that acts on it."""
    operands: list[Any] = [squares, list(range(squares.ndim))]
    for position, (units, power) in enumerate(axes):
        if position != keep and units is not None and power != 0:
            operands += [scales[units] ** (2 * power), [0, position + 1]]
    total: Array = np.einsum(*operands, [0, keep + 1])
    return total
