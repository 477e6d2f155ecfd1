r"""Every draw matched to the mean of the others: exact coordinate descent of the total loss.

The mean that a draw is compared with holds the draw itself, with weight 1/n, and so holds it where
it is. Of thousands of draws that is nothing; of twenty trained networks it decides. With the scales
of the reference held, as they are while draws are matched, the total loss as a function of the
labels *g* of one draw, its mean formed anew, is

.. math:: \min_m L(m) = \text{const} + \frac{n - 1}{n} \lVert g x - m_{-} \rVert^2,
          \qquad m_{-} = m - \frac{e}{n - 1},

:math:`m_{-}` the mean of the others and :math:`e = x - m` the draw's difference from the mean as
it is labelled now. So matching to :math:`m_{-}` is the exact step for :class:`Mean`; for
:class:`Normal`, whose scales then only improve, it is a step of majorisation that is never weaker
than matching to *m*. Draws are visited one after the other, the mean moves with each: the total
loss never rises. Where no draw can move any more, none can in the ordinary sense either.

**Which draws.** With :math:`D = \lVert e \rVert^2` and the margin δ of a draw, the squared distance
to :math:`m_{-}` of other labels exceeds that of the present ones by at least

.. math:: \delta - \frac{2}{n - 1} \bigl[ D + \sqrt{D (D + \delta)} \bigr],

which is positive where :math:`\delta > 4 n D / (n - 1)^2`. Such draws cannot move and are not
visited: of many draws hardly any are left, of few all. There is no other rule for how many they
are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel.groups import Score
from relabel.matching.criteria.base import Reference
from relabel.matching.features import Block, Layout, aligned_own, aligned_pair
from relabel.matching.search import Elements, View, ascend, identity
from relabel.matching.state import State
from relabel.matching.task import Task

__all__ = ["match_to_others", "unsure"]

Array = NDArray[Any]

_MAX_ROUNDS = 100
_TINY = np.finfo(float).tiny


@dataclass(frozen=True)
class _Point:
    """A draw in slot order, or a mean of draws."""

    own: dict[str, Array]
    pairs: tuple[Array, ...]

    @classmethod
    def of(cls, block: Block, layout: Layout, elements: Elements) -> _Point:
        """Take one draw."""
        return cls(
            {u: aligned_own(block, layout, u, elements[u])[0] for u in layout.sizes},
            tuple(
                aligned_pair(block, layout, number, elements)[0]
                for number in range(len(layout.pairs))
            ),
        )

    def towards(self, other: _Point, share: float) -> _Point:
        """Go a share of the way to another point; away from it where that is negative."""
        return _Point(
            {u: x + share * (other.own[u] - x) for u, x in self.own.items()},
            tuple(x + share * (y - x) for x, y in zip(self.pairs, other.pairs, strict=True)),
        )


def unsure(task: Task, state: State, reference: Reference) -> Array:
    """Return the draws that may move to other slots of the mean of the others, least sure first.

    Units without margins (they rotate, or stand on both sides of an array) are not among them.
    """
    n = task.source.n_draws
    if not (task.criterion.forms_mean and task.criterion.monotone) or n < 2:
        return np.zeros(0, np.intp)
    margins = task.margins(state.elements, reference)
    least = np.fmin.reduce([margin.min(axis=1) for margin in margins.values()])
    bound = 4 * n / (n - 1) ** 2 * _distances(task, state, reference)
    rows = np.flatnonzero(least <= bound)
    order: Array = np.argsort(least[rows] / np.maximum(bound[rows], _TINY), kind="stable")
    return rows[order]


def match_to_others(task: Task, state: State, reference: Reference, rows: Array) -> bool:
    """Match some draws, in turn until none moves, to the mean of the others; True if any moved.

    If so, the gains of the state are not those under `reference` any more.

    Parameters
    ----------
    task : Task
    state : State
        Updated.
    reference : Reference
        That of the state as it is.
    rows : ndarray of int
        The draws.
    """
    moved = False
    for _ in range(_MAX_ROUNDS if rows.size else 0):
        changed = False
        for row in _movable(task, state, reference, rows).tolist():
            there = _matched(task, state, reference, row)
            if there is not None:
                reference, changed = there, True
        moved |= changed
        if not changed:
            break
    return moved


def _movable(task: Task, state: State, reference: Reference, rows: Array) -> Array:
    """Return the draws with a set of units that would move while all other draws stay."""
    wanted, found = np.zeros(task.source.n_draws, bool), np.zeros(task.source.n_draws, bool)
    wanted[rows] = True
    for where, view in task.views(reference, "matching"):
        inside = np.flatnonzero(wanted[where])
        if inside.size:
            some, place = view.select(inside), where.start + inside
            found[place] = _moves(some, state.rows(place), task.source.n_draws)
    return np.flatnonzero(found)


def _moves(view: View, present: Elements, n_draws: int) -> Array:
    """Which draws have a set of units that the mean of the others would move."""
    moves = np.zeros(len(view), bool)
    for units, group in view.layout.groups.items():
        score, _ = view.score(units, present)
        own = _own_part(view, units, present)
        share = 2 / (n_draws - 1)
        held = Score(score.even - share * own.even, score.odd - share * own.odd)
        gain = held.of(group.match(held)) - held.of(present[units])
        moves |= gain > view.rounding[units]
    return moves


def _own_part(view: View, units: str, present: Elements) -> Score:
    """Products of the units with their draw's differences from the mean, slots before units."""
    layout, reference, block = view.layout, view.reference, view.block
    features, signed = layout.features(block, units), layout.signed(units)
    differences = _weighted(
        reference, units, aligned_own(block, layout, units, present[units]) - reference.own[units]
    )
    turned = features.swapaxes(1, 2)
    parts = [np.where(chosen, differences, 0.0) @ turned for chosen in (~signed, signed)]
    for number, side in layout.touching(units):
        pair, other = layout.pairs[number], 1 - side
        apart = aligned_pair(block, layout, number, present) - reference.pairs[number]
        half = present[pair.units[other]].act(
            block.pairs[number], other, power=0, signed=pair.signed[other]
        )
        one, two = (
            np.moveaxis(x, side + 1, 1).reshape(*parts[0].shape[:2], -1) for x in (apart, half)
        )
        parts[int(pair.signed[side])] += reference.pair_weight[number] * one @ two.swapaxes(1, 2)
    return Score(*parts)


def _weighted(reference: Reference, units: str, differences: Array) -> Array:
    """Multiply differences from the mean by half the precision, or by the weights."""
    if units in reference.root:
        root = reference.root[units]
        turned: Array = 0.5 * np.einsum("dkr,krs->dks", differences, root @ root.swapaxes(1, 2))
        return turned
    half = 0.5 * reference.precision[units] if units in reference.precision else None
    weighted: Array = differences * (reference.weight[units] if half is None else half)
    return weighted


def _matched(task: Task, state: State, reference: Reference, row: int) -> Reference | None:
    """Match one draw; the mean that it moves along, or None where the draw stays."""
    layout, n, here = task.layout, task.source.n_draws, slice(row, row + 1)
    block, present = _one(task, row), state.rows(here)
    mean, place = _Point(reference.own, reference.pairs), _Point.of(block, layout, present)
    others = mean.towards(place, -1 / (n - 1))
    held = replace(reference, own=others.own, pairs=others.pairs)
    view = View.of(block, layout, held, task.criterion)
    elements, gain = ascend(view, present)
    if gain[0] <= view.gain(present)[0] + view.tolerance[0]:
        return None
    state.put(here, elements, gain)
    state.open[here] = True
    mean = others.towards(_Point.of(block, layout, elements), 1 / n)
    return replace(reference, own=mean.own, pairs=mean.pairs)


def _one(task: Task, row: int) -> Block:
    """Return one draw of its block."""
    slices = task.source.slices
    number = next(i for i, rows in enumerate(slices) if row < rows.stop)
    first = row - slices[number].start
    return task.source.block(number)[first : first + 1]


def _distances(task: Task, state: State, reference: Reference) -> Array:
    """Squared distances of all draws to the mean: how far they gain less than the mean itself."""
    layout = task.layout
    own = {u: (x + reference.centre[u])[None] for u, x in reference.own.items()}
    mean = Block.of(own, tuple(x[None] for x in reference.pairs))
    most = View.of(mean, layout, reference, task.criterion).gain(identity(layout, 1))
    distances: Array = np.maximum(most - state.gain, 0.0)
    return distances
