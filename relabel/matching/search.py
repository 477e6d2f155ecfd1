"""Searching one block of draws under one reference: ascent, exhaustion, perturbation.

Several sets of units that share variables (deep networks) have no exact solution at little cost:
coordinate ascent over the sets is only as good as its start, so draws are solved from many starts
(:mod:`relabel.matching.solve`) and, where these disagree, searched further.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel.groups import Score
from relabel.groups.elements import Element, Monomial, monomial
from relabel.matching.criteria.base import Criterion, Reference, pair_score
from relabel.matching.features import Block, Layout
from relabel.matching.quadratic import Quadratic, Stack, dense, listed, order_of

__all__ = [
    "TOLERANCE",
    "Elements",
    "Perturbation",
    "View",
    "ascend",
    "chain_candidates",
    "exact",
    "exhaust",
    "identity",
    "relax",
    "same",
    "small_centre",
]

Array = NDArray[Any]
Elements = dict[str, Element]

_STILL = 1e-11  # entries of a rotation that does not move any more
_MAX_PASSES = 100
_EXHAUSTIVE_ORDER = 400  # elements of a set that are tried with those of others: 2^4 4! = 384
_MAX_PERTURBED = 4  # units that a perturbation exchanges at most
_CHAIN_CANDIDATES = 3  # winning labellings of a chain that are tried on all of its draws
TOLERANCE = 1e-12  # relative gain below which two labellings count as equally good


@dataclass
class View:
    """One block under one reference: scores that no element changes are computed once.

    A draw that is a block by itself has large arrays. The last scores of each side of each of its
    pairs are kept in `last`, since all starts end with much the same labels.
    """

    block: Block
    layout: Layout
    reference: Reference
    unary: dict[str, Score] = field(default_factory=dict)
    last: dict[tuple[int, int], tuple[Element, Score]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        block: Block,
        layout: Layout,
        reference: Reference,
        criterion: Criterion,
        unary: dict[str, Score] | None = None,
    ) -> View:
        """Score a block by its own features, unless the scores are known."""
        if unary is None:
            unary = {u: criterion.score(block, layout, reference, u) for u in layout.sizes}
        return cls(block, layout, reference, unary)

    def __len__(self) -> int:
        return len(self.block)

    def select(self, rows: Array) -> View:
        """Return the view of some of its draws."""
        if len(rows) == len(self):
            return self
        unary = {u: _some(score, rows) for u, score in self.unary.items()}
        some = View(self.block[rows], self.layout, self.reference, unary)
        some.__dict__["rounding"] = {u: size[rows] for u, size in self.rounding.items()}
        return some

    def score(
        self,
        units: str,
        elements: Mapping[str, Element],
        *,
        known: set[str] | None = None,
        rows: Array | None = None,
    ) -> tuple[Score, dict[int, Score]]:
        """Score one set of units, given the elements of the others.

        Parameters
        ----------
        units : str
            The set that is scored.
        elements : mapping of str to Monomial
            Elements of all sets, for the draws in `rows`.
        known : set of str, optional
            Score only by what is shared with these, and by no two-sided pairs; all by default.
        rows : ndarray of int, optional
            Draws to score; all by default.

        Returns
        -------
        Score
            Linear in the element of `units` (two-sided pairs are linearised).
        dict of int to Score
            The contribution of each pair with one side in `units`.
        """
        total, parts = _some(self.unary[units], rows), {}
        for number, side in self.layout.touching(units):
            other = self.layout.pairs[number].units[1 - side]
            if known is None or other in known:
                parts[number] = self.pair(number, side, elements[other], rows)
                total = _sum_of(total, parts[number])
        for number in self.layout.two_sided(units) if known is None else ():
            for side in (0, 1):
                total = _sum_of(total, self.pair(number, side, elements[units], rows))
        return total, parts

    def quadratic(
        self,
        units: str,
        elements: Mapping[str, Element],
        *,
        known: set[str] | None = None,
        rows: Array | None = None,
    ) -> Quadratic:
        """Return the problem of one set with two-sided pairs; parameters as in :meth:`score`."""
        others = set(self.layout.sizes) if known is None else known
        linear, _ = self.score(units, elements, known=others, rows=rows)
        stacks = self.stacks[units]
        if rows is not None and len(rows) != len(self):
            stacks = [stack[rows] for stack in stacks]
        return Quadratic(self.layout.groups[units], linear, stacks)

    @cached_property
    def stacks(self) -> dict[str, list[Stack]]:
        """The two-sided pairs of every set, those that flip alike stacked and weighted."""
        found = {}
        for units in self.layout.sizes:
            alike: dict[tuple[bool, bool], list[int]] = {}
            for number in self.layout.two_sided(units):
                alike.setdefault(self.layout.pairs[number].signed, []).append(number)
            found[units] = [self._stack(numbers, signed) for signed, numbers in alike.items()]
        return found

    def _stack(self, numbers: Sequence[int], signed: tuple[bool, bool]) -> Stack:
        """Stack some pairs; draws and reference share twice the weight."""
        scales = [math.sqrt(2 * self.reference.pair_weight[number]) for number in numbers]
        both = ([self.block.pairs[n] for n in numbers], [self.reference.pairs[n] for n in numbers])
        array, mean = (
            np.concatenate([scale * part for scale, part in zip(scales, parts, strict=True)], -1)
            for parts in both
        )
        return Stack(array, mean, signed)

    def gain(self, elements: Mapping[str, Element]) -> Array:
        """Minus the loss of every draw."""
        total = -self.reference.pair_constant + np.zeros(len(self))
        for units, unary in self.unary.items():
            total += unary.of(elements[units])
        for number, pair in enumerate(self.layout.pairs):
            score = self.pair(number, 0, elements[pair.units[1]])
            total += score.of(elements[pair.units[0]])
        return total

    @cached_property
    def rounding(self) -> dict[str, Array]:
        """Gain of each set of units that is only rounding, shape (draws,)."""
        found = {}
        for units, score in self.unary.items():
            size = np.abs(score.even).max(axis=(1, 2))
            for number, pair in enumerate(self.layout.pairs):
                if units in pair.units:
                    largest = self.block.norms[number][pair.units.index(units)].max(axis=1)
                    size = np.maximum(size, self.reference.pair_weight[number] * largest)
            found[units] = TOLERANCE * size
        return found

    @property
    def tolerance(self) -> Array:
        """Gain of every draw that is only rounding, shape (draws,)."""
        largest: Array = np.maximum.reduce(list(self.rounding.values()))
        return largest

    def pair(self, number: int, side: int, other: Element, rows: Array | None = None) -> Score:
        """Score one side of a pair, in some draws (repeated, where `rows` repeats them)."""
        alone = len(self) == 1 and other.batch == (1,)
        if alone and (number, side) in self.last:
            before, score = self.last[number, side]
            if before.equals(other).all():
                return score
        array, norms = self.block.pairs[number], self.block.norms[number][side]
        if rows is not None and len(rows) != len(self):
            array, norms = array[rows], norms[rows]
        score = pair_score(
            self.layout.pairs[number],
            array,
            norms,
            self.reference.pairs[number],
            self.reference.pair_weight[number],
            side,
            monomial(other),
        )
        if alone:
            self.last[number, side] = (other.copy(), score)
        return score


def _some(score: Score, rows: Array | None) -> Score:
    """Scores of some draws."""
    if rows is None or len(rows) == len(score.even):
        return score
    return Score(score.even[rows], score.odd[rows])


def _sum_of(one: Score, two: Score) -> Score:
    return Score(one.even + two.even, one.odd + two.odd)


def ascend(
    view: View, begin: Elements, sweep: Sequence[str] | None = None, *, exchanging: bool = True
) -> tuple[Elements, Array]:
    """Coordinate ascent over the sets of units, every draw until nothing moves.

    A set is matched anew only in the draws in which a neighbour of it has moved. With a `sweep`,
    the first pass visits the sets in that order and scores each only by the variables it shares
    with sets already visited. Sets with two-sided pairs are improved by exchanges of two units as
    well, unless not `exchanging`. Returns the elements and their gains.
    """
    layout = view.layout
    elements = {u: g.copy() for u, g in begin.items()}
    seen: set[str] = set()
    for units in sweep or ():
        elements[units] = layout.groups[units].match(view.score(units, elements, known=seen)[0])
        seen.add(units)
    pair_gain = np.zeros((len(layout.pairs), len(view)))
    stale = {units: np.ones(len(view), bool) for units in layout.sizes}
    for _ in range(_MAX_PASSES):
        for units in layout.sizes:
            rows = np.flatnonzero(stale[units])
            if rows.size:
                moved, gains = _step(view, units, elements, rows, exchanging)
                for number, gain in gains.items():
                    pair_gain[number, rows] = gain
                stale[units][rows] = False
                for neighbour in layout.neighbours(units):
                    stale[neighbour][rows[moved]] = True
        if not any(rows.any() for rows in stale.values()):
            break
    if any(pair.two_sided for pair in layout.pairs):
        return elements, view.gain(elements)
    total = pair_gain.sum(axis=0) - view.reference.pair_constant
    for units, unary in view.unary.items():
        total += unary.of(elements[units])
    return elements, total


def _step(
    view: View, units: str, elements: Elements, rows: Array, exchanging: bool
) -> tuple[Array, dict[int, Array]]:
    """Match one set of units in some draws, the other sets held fixed; `elements` are updated.

    Returns which of the draws moved, and what each pair now adds to their gain.
    """
    present = {u: g[rows] for u, g in elements.items()}
    if view.layout.two_sided(units):
        here, problem = monomial(present[units]), view.quadratic(units, present, rows=rows)
        better = problem.improved(here, view.rounding[units][rows], exchanging=exchanging)
        elements[units].put(rows, better)
        return ~better.equals(here), {}
    score, parts = view.score(units, present, rows=rows)
    group, rounding = view.layout.groups[units], view.rounding[units][rows]
    fresh = group.match(score)
    gained = score.of(fresh) - score.of(present[units])
    moved = gained > rounding
    if group.rotates:  # about the best rotation gains are flat, and tell it to the root of rounding
        turned = np.abs(fresh.matrices() - present[units].matrices()).max(axis=(1, 2)) > _STILL
        moved = turned & (gained >= -rounding)
    if not group.optimal:
        moved = ~fresh.equals(present[units])
    chosen = fresh.where(moved, present[units])
    elements[units].put(rows, chosen)
    return moved, {number: part.of(chosen) for number, part in parts.items()}


def relax(
    view: View, begin: Elements | str, sweep: Sequence[str], *, around: bool = False
) -> Elements:
    """Solve sets of units one after the other, those with two-sided pairs by the relaxed problem.

    Parameters
    ----------
    view : View
    begin : dict of str to Monomial, {"centre", "profiles"}
        Where the relaxed problem is begun from: the mean of all elements, or half the way from
        there to given ones, or to those that match what no permutation changes.
    sweep : sequence of str
        The sets in the order in which they are visited.
    around : bool, default False
        Whether a set is scored by the variables that it shares with all others, where they stand
        at the beginning, and not only with those visited before.

    Returns
    -------
    dict of str to Monomial
    """
    layout = view.layout
    given = begin if isinstance(begin, dict) else identity(layout, len(view))
    elements = {units: element.copy() for units, element in given.items()}
    known = set(layout.sizes) if around else set()
    for units in sweep:
        if layout.two_sided(units):
            problem = view.quadratic(units, elements, known=known)
            point = problem.centre()
            if begin == "profiles":
                point = 0.5 * (point + dense(problem.by_profiles()))
            elif begin != "centre":
                point = 0.5 * (point + dense(given[units]))
            elements[units] = problem.relaxed(point)
        else:
            score, _ = view.score(units, elements, known=known)
            elements[units] = layout.groups[units].match(score)
        known = known | {units}
    return elements


def exhaust(view: View, centre: str, everything: Monomial, gain: Array) -> tuple[Elements, Array]:
    """Best over all elements of one set and, exactly, over the others given it.

    Without the `centre` the other sets do not interact, so each is one assignment. An upper bound
    (every slot takes its best unit) leaves few assignments to be solved.
    """
    layout, n_draws, order = view.layout, len(view), len(everything.index)
    alone = Quadratic(layout.groups[centre], view.unary[centre], view.stacks[centre]).of_all(
        everything
    )
    alone += _norms(view, centre)[:, None]
    bound = alone
    others = [units for units in layout.sizes if units != centre]
    scores = {units: _scores_given(view, units, centre, everything) for units in others}
    for units, score in scores.items():
        folded = score.even + (np.abs(score.odd) if layout.groups[units].signs else score.odd)
        bound = bound + folded.max(axis=-1).sum(axis=-1)
    ranking = np.argsort(-bound, axis=1)
    best = gain + view.reference.pair_constant
    elements = identity(layout, n_draws)
    active = np.arange(n_draws)
    for rank in range(order):
        tried = ranking[active, rank]
        promising = bound[active, tried] > best[active]
        active, tried = active[promising], tried[promising]
        if not active.size:
            break
        total = alone[active, tried]
        found: Elements = {centre: everything[tried]}
        for units in others:
            score = Score(*(part[active, tried] for part in scores[units]))
            found[units] = layout.groups[units].match(score)
            total = total + score.of(found[units])
        better = total > best[active]
        best[active] = np.where(better, total, best[active])
        for units, element in elements.items():
            element.put(active, found[units].where(better, element[active]))
    return elements, best - view.reference.pair_constant


def _norms(view: View, units: str) -> Array:
    """Return the gain of the two-sided pairs of a set whatever its element, shape (draws,)."""
    total = np.zeros(len(view))
    for number in view.layout.two_sided(units):
        norms = view.block.norms[number][0].sum(axis=1) + (view.reference.pairs[number] ** 2).sum()
        total -= view.reference.pair_weight[number] * norms
    return total


def _scores_given(view: View, units: str, centre: str, everything: Monomial) -> Score:
    """Scores of one set for every element of the centre, both parts (draws, order, K, K)."""
    order, n_draws = len(everything.index), len(view)
    size = view.layout.sizes[units]
    shape = (n_draws, order, size, size)
    even = np.broadcast_to(view.unary[units].even[:, None], shape).copy()
    odd = np.broadcast_to(view.unary[units].odd[:, None], shape).copy()
    rows = np.repeat(np.arange(n_draws), order)
    tiled = everything[np.tile(np.arange(order), n_draws)]
    for number, side in view.layout.touching(units):
        if view.layout.pairs[number].units[1 - side] == centre:
            part = view.pair(number, side, tiled, rows)
            even += part.even.reshape(shape)
            odd += part.odd.reshape(shape)
    return Score(even, odd)


def identity(layout: Layout, n_draws: int) -> Elements:
    """Return elements that change nothing, for every set of units."""
    groups = layout.groups
    return {units: groups[units].identity((n_draws,), k) for units, k in layout.sizes.items()}


def same(one: Elements, two: Elements) -> Array:
    """Which draws have the same elements of all sets."""
    same: Array = np.logical_and.reduce([element.equals(two[u]) for u, element in one.items()])
    return same


def chain_candidates(elements: Elements, chain: Array) -> list[Elements]:
    """For every draw: its neighbours' elements, and the most frequent ones of its chain."""
    n_draws = len(chain)
    flat = [part.reshape(n_draws, -1) for g in elements.values() for part in g.arrays]
    rows = np.concatenate(flat, axis=1)
    before = np.maximum(np.arange(n_draws) - 1, 0)
    after = np.minimum(np.arange(n_draws) + 1, n_draws - 1)
    sources = [np.where(chain[at] == chain, at, np.arange(n_draws)) for at in (before, after)]
    frequent = np.tile(np.arange(n_draws), (_CHAIN_CANDIDATES, 1))
    for number in np.unique(chain):
        members = np.flatnonzero(chain == number)
        _, first, counts = np.unique(rows[members], axis=0, return_index=True, return_counts=True)
        for rank, best in enumerate(np.lexsort((first, -counts))[:_CHAIN_CANDIDATES]):
            if counts[best] > 1:
                frequent[rank, members] = members[first[best]]
    return [{u: g[at] for u, g in elements.items()} for at in [*frequent, *sources]]


@dataclass(frozen=True)
class Perturbation:
    """For every open draw, a few slots of one set to exchange in a circle and to flip."""

    units: str
    slots: Array  # int, (open draws, slots)
    flips: Array  # +1 or -1, likewise

    @classmethod
    def draw(
        cls, rng: np.random.Generator, n_open: int, layout: Layout, units: str
    ) -> Perturbation:
        """Draw a perturbation for each of some draws."""
        size = layout.sizes[units]
        n_exchanged = min(size, int(rng.integers(2, _MAX_PERTURBED + 1)))
        slots = np.argsort(rng.random((n_open, size)), axis=1)[:, :n_exchanged].astype(np.int32)
        flips = rng.choice(np.array([-1, 1], np.int8), size=slots.shape)
        return cls(units, slots, flips if layout.groups[units].signs else np.abs(flips))

    def element(self, rows: Array, layout: Layout) -> Monomial:
        """Return the element that does so, for some of the open draws."""
        element = Monomial.identity((len(rows),), layout.sizes[self.units])
        slots = self.slots[rows]
        np.put_along_axis(element.index, slots, np.roll(slots, 1, axis=1), axis=1)
        np.put_along_axis(element.factor, slots, self.flips[rows].astype(float), axis=1)
        return element


def small_centre(layout: Layout) -> str | None:
    """Return the smallest set that takes part in every pair, if its group can be listed."""
    fitting = [
        (order, units)
        for units, size in layout.sizes.items()
        if (order := order_of(layout.groups[units], size)) <= _EXHAUSTIVE_ORDER
        and all(units in pair.units for pair in layout.pairs)
    ]
    return min(fitting)[1] if fitting else None


def exact(layout: Layout) -> bool:
    """Whether every set is solved exactly by itself: no start matters."""
    return all(
        pair.two_sided and listed(layout.groups[pair.units[0]], layout.sizes[pair.units[0]])
        for pair in layout.pairs
    )
