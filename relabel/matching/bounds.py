r"""How high the gain of a draw may be at most, whatever the labels of its sets of units.

A pair of sets gains :math:`2w\langle F A F'^{\mathsf T}, M\rangle` less its squared norms, A the
array of the draw, M that of the reference, F and F' the elements of either side. M is split,
:math:`M = M_1 + M_2`. By the rearrangement inequality, a row of A in a slot gains no more against
the row of :math:`M_1` than when both are sorted, whatever F' (absolute values, where F' changes
signs). The columns of :math:`M_2` bound the other share alike. Each set of units is then one
assignment, and their sum is an upper bound. It is convex in :math:`M_1`, so a few steps along
subgradients lower it; without steps, :math:`M_1 = M_2`.

References
----------
Gilmore, P. C. (1962). Optimal and suboptimal algorithms for the quadratic assignment problem.
*Journal of the SIAM* 10(2), 305-313. https://doi.org/10.1137/0110022

Lawler, E. L. (1963). The quadratic assignment problem. *Management Science* 9(4), 586-599.
https://doi.org/10.1287/mnsc.9.4.586

Polyak, B. T. (1969). Minimization of unsmooth functionals. *USSR Computational Mathematics and
Mathematical Physics* 9(3), 14-29. https://doi.org/10.1016/0041-5553(69)90061-5
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel.groups import Score
from relabel.groups.elements import Element, Monomial, monomial
from relabel.matching.search import View

__all__ = ["Bound", "boundable", "bounded", "constant", "side_score"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Bound:
    """An upper bound on the gain of every draw, as a sum over the sets of units.

    Attributes
    ----------
    total : ndarray of shape (draws,)
        No labelling gains more.
    parts : dict of (pair, side) to Score
        What each side of each pair gains at most, linear in the element of that side.
    scores : dict of str to Score
        The sums of own scores and parts.
    highest : dict of str to ndarray of shape (draws,)
        The gain of the best element of each set by these scores.
    """

    total: Array
    parts: dict[tuple[int, int], Score]
    scores: dict[str, Score]
    highest: dict[str, Array]


def boundable(view: View) -> bool:
    """Whether the gain has a bound: units do not mix, and matches are optimal."""
    groups = view.layout.groups.values()
    return not any(group.rotates or not group.optimal for group in groups)


def bounded(view: View, gain: Array, steps: int = 0) -> Bound:
    """Bound the gain of every draw from above.

    Parameters
    ----------
    view : View
        Some draws under a reference; see :func:`boundable`.
    gain : ndarray of shape (draws,)
        The gain of a labelling that is known: draws whose bound meets it take no more steps.
    steps : int, default 0
        Steps along subgradients.

    Returns
    -------
    Bound
        The lowest of all steps.
    """
    split = [0.5 * np.broadcast_to(m, a.shape) for m, a in _both(view)]
    best = split
    found, elements = _at(view, split)
    lowest, pace = found.total, np.ones(len(view))
    for _ in range(steps if split else 0):
        slopes = _slopes(view, split, elements)
        square = sum(np.einsum("nabr,nabr->n", slope, slope) for slope in slopes)
        far = np.maximum(found.total - gain, 0.0) * (lowest - gain > view.tolerance)
        step = pace * far / np.where(square > 0, square, np.inf)
        if not step.any():
            break
        split = [m - step[:, None, None, None] * s for m, s in zip(split, slopes, strict=True)]
        found, elements = _at(view, split)
        better = found.total < lowest
        pace = np.where(better, pace, 0.8 * pace)
        lowest = np.minimum(lowest, found.total)
        chosen = better[:, None, None, None]
        best = [np.where(chosen, new, old) for new, old in zip(split, best, strict=True)]
    return found if best is split else _at(view, best)[0]


def constant(view: View) -> Array:
    """Return what the pairs gain whatever the labels, shape (draws,)."""
    total = np.full(len(view), -view.reference.pair_constant)
    for number, weight in enumerate(view.reference.pair_weight):
        mean = view.reference.pairs[number]
        total -= weight * (view.block.norms[number][0].sum(axis=1) + (mean**2).sum())
    return total


def side_score(view: View, number: int, side: int, mean: Array) -> Score:
    """Bound what each unit of one side of a pair gains in each slot, whatever the other side.

    Parameters
    ----------
    view : View
    number : int
        Which pair.
    side : {0, 1}
    mean : ndarray of shape (draws or 1, K1, K2, R)
        The reference of the pair, or a share of it.

    Returns
    -------
    Score
        Without the squared norms.
    """
    own, other = _signed(view, number, side)
    units = np.moveaxis(view.block.pairs[number], side + 1, 1)
    slots = np.moveaxis(mean, side + 1, 1)
    if other:
        units, slots = np.abs(units), np.abs(slots)
    n, k = units.shape[:2]
    units = np.sort(units, axis=2)
    slots = 2 * view.reference.pair_weight[number] * np.sort(slots, axis=2)
    slots = slots.reshape(len(slots), k, -1)
    high = slots @ units.reshape(n, k, -1).swapaxes(1, 2)
    if other or not own:
        return Score(high, np.broadcast_to(0.0, high.shape))
    low = -slots @ units[:, :, ::-1].reshape(n, k, -1).swapaxes(1, 2)
    return Score(0.5 * (high + low), 0.5 * (high - low))


def _both(view: View) -> list[tuple[Array, Array]]:
    return list(zip(view.reference.pairs, view.block.pairs, strict=True))


def _signed(view: View, number: int, side: int) -> tuple[bool, bool]:
    """Whether the units of this side, and those of the other, change the signs of a pair."""
    pair = view.layout.pairs[number]
    own, other = (
        pair.signed[s] and view.layout.groups[pair.units[s]].signs for s in (side, 1 - side)
    )
    return own, other


def _at(view: View, split: Sequence[Array]) -> tuple[Bound, dict[str, Element]]:
    """The bound of one split, and the elements that it takes."""
    parts, scores = {}, dict(view.unary)
    for number, pair in enumerate(view.layout.pairs):
        shares = (split[number], view.reference.pairs[number] - split[number])
        for side in (0, 1):
            part = side_score(view, number, side, shares[side])
            old = scores[pair.units[side]]
            scores[pair.units[side]] = Score(old.even + part.even, old.odd + part.odd)
            parts[number, side] = part
    elements = {u: view.layout.groups[u].match(score) for u, score in scores.items()}
    highest = {u: score.of(elements[u]) for u, score in scores.items()}
    total = constant(view) + sum(highest.values())
    return Bound(total, parts, scores, highest), elements


def _slopes(view: View, split: Sequence[Array], elements: Mapping[str, Element]) -> list[Array]:
    """Subgradients of the bound in the first share of every pair."""
    slopes = []
    for number, pair in enumerate(view.layout.pairs):
        shares = (split[number], view.reference.pairs[number] - split[number])
        one, two = (
            _rearranged(view, number, side, shares[side], monomial(elements[pair.units[side]]))
            for side in (0, 1)
        )
        slopes.append(2 * view.reference.pair_weight[number] * (one - two))
    return slopes


def _rearranged(view: View, number: int, side: int, mean: Array, element: Monomial) -> Array:
    """The array of a pair, one side in slot order, and along the other in the order of `mean`."""
    own, other = _signed(view, number, side)
    slots = np.moveaxis(mean, side + 1, 1)
    units = np.moveaxis(view.block.pairs[number], side + 1, 1)
    rows = np.take_along_axis(units, element.index[:, :, None, None], axis=1)
    if other:
        order, rows = np.argsort(np.abs(slots), axis=2), np.abs(rows)
    else:
        order = np.argsort(slots, axis=2)
        if own:
            rows = rows * np.where(element.factor < 0, -1.0, 1.0)[:, :, None, None]
    result = np.empty(rows.shape)
    np.put_along_axis(result, order, np.sort(rows, axis=2), axis=2)
    if other:
        result *= np.where(slots < 0, -1.0, 1.0)
    return np.moveaxis(result, 1, side + 1)
