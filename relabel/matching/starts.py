"""Every draw solved from many starts, of which it keeps the best by its own loss.

A draw stays open as long as its starts disagree; open draws are searched further, by means that
cost more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel.groups.elements import Monomial
from relabel.matching.bounds import boundable
from relabel.matching.criteria.base import Reference
from relabel.matching.features import Layout
from relabel.matching.joint import relax_jointly
from relabel.matching.layers import Tree
from relabel.matching.profiles import by_profiles, no_features
from relabel.matching.quadratic import listed, whole_group
from relabel.matching.search import (
    Elements,
    Perturbation,
    View,
    ascend,
    chain_candidates,
    exact,
    exhaust,
    identity,
    relax,
    same,
    small_centre,
)
from relabel.matching.state import STARTS, State
from relabel.matching.task import Task

__all__ = ["Search", "solvable"]

Array = NDArray[Any]

_AGREEING = 3  # starts that end alike before a draw counts as settled
_MOST = 0.75  # share of them that have to, where a set stands on both sides of an array
_FEW = 8  # units of sets so small that starts agree by chance: there all of them have to
_PAIRS_OF_ELEMENTS = 4e7  # of a draw that are scored at most: two edges of 3840 elements
_RELAXED_RANDOM = 5  # random points that the relaxed problem is begun from


@dataclass(frozen=True)
class Search:
    """How far draws are searched.

    Attributes
    ----------
    chain : ndarray of int, shape (draws,), optional
        Which chain each draw belongs to; draws of one chain try each other's elements.
    known_starts : mapping of str to elements
        Further starts by name.
    n_random : int
        Random starts per draw.
    n_perturbations : int
        Rounds of iterated local search on draws that are still open.
    rng : int
        Seed of the random starts and perturbations.
    """

    chain: Array | None = None
    known_starts: Mapping[str, Elements] = field(default_factory=dict)
    n_random: int = 0
    n_perturbations: int = 0
    rng: int = 0

    def run(self, task: Task, state: State, reference: Reference, thorough: bool = True) -> bool:
        """Solve the draws that are open from every start; True if that changed any element.

        Unless `thorough`, open draws are not searched further, and stay open.
        """
        before = {u: g.copy() for u, g in state.elements.items()}
        state.bound[:] = np.inf
        if exact(task.layout):
            self._match(task, state, reference)
        else:
            if thorough:  # the reference may have moved away from draws that were settled
                state.open[:] = True
            self._from_own_starts(task, state, reference)
            self._from_others_of_chain(task, state, reference)
            if thorough:
                self._further(task, state, reference)
                state.open[:] = False
        return not bool(same(state.elements, before).all())

    def _match(self, task: Task, state: State, reference: Reference) -> None:
        """Solve sets of units exactly, each by itself: no start matters."""
        for rows, view in task.views(reference, "matching"):
            state.put(rows, *ascend(view, state.rows(rows)))
            state.start[rows] = STARTS.index("exact")

    # ------------------------------------------------------------------ starts of every draw

    def _from_own_starts(self, task: Task, state: State, reference: Reference) -> None:
        """Try the starts that need no other draw, and close the draws that they settle."""
        layout, n_draws = task.layout, task.source.n_draws
        relaxing = _relaxing(layout)
        randoms = _random_elements(layout, n_draws, self.n_random, self.rng)
        relaxed = _random_elements(layout, n_draws, _RELAXED_RANDOM, self.rng) if relaxing else []
        for rows, view in _open_views(task, state, reference):
            state.gain[rows] = view.gain(state.rows(rows))
            ends = []
            for name, begin, sweep in self._own_starts(view, rows, randoms):
                plain = name == "identity" and relaxing  # far from it, exchanges take many steps
                elements, gain = ascend(view, begin, sweep, exchanging=not plain)
                state.keep_better(rows, elements, gain, view.tolerance, name)
                ends.append(gain)
            if relaxing:
                _from_relaxed(state, rows, view, ends, relaxed)
            state.open[rows] = ~_settled(ends, view)

    def _own_starts(
        self, view: View, rows: Array, randoms: Sequence[Elements]
    ) -> Iterator[tuple[str, Elements, list[str] | None]]:
        """Yield the name of every start, its elements, and the order of the first sweep."""
        layout = view.layout
        unmoved, order = identity(layout, len(rows)), list(layout.sizes)
        yield "identity", unmoved, None
        if any(layout.columns.values()):  # else there is nothing to begin a sweep with
            yield "forward", unmoved, order
        if len(order) > 1:
            yield "backward", unmoved, order[::-1]
        informed = layout.informed_order()
        if informed not in (order, order[::-1]):
            yield "informed", unmoved, informed
        if no_features(layout):
            yield "profiles", by_profiles(view), None
        known = [("random", elements) for elements in randoms] + [*self.known_starts.items()]
        for name, elements in known:
            yield name, {units: element[rows] for units, element in elements.items()}, None

    # ------------------------------------------------------------------ starts from other draws

    def _from_others_of_chain(self, task: Task, state: State, reference: Reference) -> None:
        """Try the elements of a draw's neighbours, and those most frequent in its chain."""
        if self.chain is None:
            return
        candidates = chain_candidates(state.elements, self.chain)
        for rows, view in task.views(reference, "searching"):
            for candidate in candidates:
                begin = {u: g[rows] for u, g in candidate.items()}
                other = np.flatnonzero(~same(begin, state.rows(rows)))
                if not other.size:
                    continue
                gain = view.select(other).gain({u: g[other] for u, g in begin.items()})
                better = other[gain > state.gain[rows][other] + view.tolerance[other]]
                if better.size:
                    some = view.select(better)
                    elements, gain = ascend(some, {u: g[better] for u, g in begin.items()})
                    where = np.arange(rows.start, rows.stop)[better]
                    state.keep_better(where, elements, gain, some.tolerance, "chain")
                    state.open[where] = True

    # ------------------------------------------------------------------ draws that stay open

    def _further(self, task: Task, state: State, reference: Reference) -> None:
        """Search the draws that are open by means that cost more."""
        centre = small_centre(task.layout)
        if centre is not None:
            _exhaustively(task, state, reference, centre)
            return
        tree = Tree.of(task.layout)
        if tree is not None:
            _along_tree(task, state, reference, tree)
        if state.open.any():
            _jointly(task, state, reference)
            self._perturb(task, state, reference)

    def _perturb(self, task: Task, state: State, reference: Reference) -> None:
        """Iterated local search: exchange a few units of one set, match the others, ascend."""
        layout = task.layout
        order = list(layout.sizes)
        open_rows = np.flatnonzero(state.open)
        rng = np.random.default_rng(self.rng)
        perturbations = [
            Perturbation.draw(rng, open_rows.size, layout, order[number % len(order)])
            for number in range(self.n_perturbations)
        ]
        for rows, view in _open_views(task, state, reference):
            inside = np.searchsorted(open_rows, rows)
            for perturbation in perturbations:
                begin, changed = state.rows(rows), perturbation.units
                begin[changed] = perturbation.element(inside, layout) @ begin[changed]
                for units in order:
                    if units != changed:
                        score, _ = view.score(units, begin)
                        begin[units] = layout.groups[units].match(score)
                elements, gain = ascend(view, begin)
                state.keep_better(rows, elements, gain, view.tolerance, "perturbed")


def solvable(layout: Layout) -> bool:
    """Whether searches find the optimum of every draw, unless that takes too much work."""
    return small_centre(layout) is not None or Tree.of(layout) is not None


def _open_views(task: Task, state: State, reference: Reference) -> Iterator[tuple[Array, View]]:
    """Yield positions and views of the draws that are open."""
    for rows, view in task.views(reference, "searching"):
        inside = np.flatnonzero(state.open[rows])
        if inside.size:
            yield np.arange(rows.start, rows.stop)[inside], view.select(inside)


def _settled(ends: Sequence[Array], view: View) -> Array:
    """Which draws are settled: several starts of theirs end with the best gain.

    None are where all draws will be solved to the global optimum anyway, at little cost.
    """
    if small_centre(view.layout) is not None:
        return np.zeros(len(view), bool)
    best = np.max(ends, axis=0) - view.tolerance
    if not _relaxing(view.layout):
        agree: Array = (np.stack(ends) >= best).sum(axis=0) >= min(len(ends), _AGREEING)
        return agree
    runs = np.stack(ends[1:])  # the identity is no evidence where labels switch
    n_best, n_runs = (runs >= best).sum(axis=0), np.isfinite(runs).sum(axis=0)
    least = np.maximum(_AGREEING, _MOST * n_runs)
    if _few(view.layout):
        least = np.maximum(n_runs, _RELAXED_RANDOM + 1)
    settled: Array = n_best >= least
    return settled


def _relaxing(layout: Layout) -> bool:
    """Whether some set stands on both sides of an array, and is too large to be listed."""
    return small_centre(layout) is None and any(
        layout.two_sided(u) and not listed(layout.groups[u], k) for u, k in layout.sizes.items()
    )


def _few(layout: Layout) -> bool:
    """Whether the sets are so small that starts agree by chance."""
    return max(layout.sizes.values()) <= _FEW


def _from_relaxed(
    state: State, rows: Array, view: View, ends: list[Array], randoms: Sequence[Elements]
) -> None:
    """Solve the relaxed problem from several points, until the draws are settled.

    Of few units, random labels are improved as they are, which is more of a check.
    """
    order = list(view.layout.sizes)
    begins: list[Elements | str] = ["centre", "profiles"]
    begins += [*({u: g[rows] for u, g in e.items()} for e in randoms), "best"]
    inside = np.arange(len(rows))
    for begin in begins:
        where, some, name = rows[inside], view.select(inside), "relaxed"
        if begin == "best":
            elements = relax(some, state.rows(where), order, around=True)
        elif isinstance(begin, str):
            elements = relax(some, begin, order)
        else:
            elements = {u: g[inside] for u, g in begin.items()}
            if _few(view.layout):
                name = "random"
            else:
                elements = relax(some, elements, order)
        elements, gain = ascend(some, elements)
        state.keep_better(where, elements, gain, some.tolerance, name)
        end = np.full(len(rows), -np.inf)
        end[inside] = gain
        ends.append(end)
        inside = np.flatnonzero(~_settled(ends, view))
        if not inside.size:
            break
    inside = np.flatnonzero(state.start[rows] == STARTS.index("identity"))
    if inside.size:  # these have not been exchanged yet
        where, some = rows[inside], view.select(inside)
        elements, gain = ascend(some, state.rows(where))
        state.keep_better(where, elements, gain, some.tolerance, "identity")


def _exhaustively(task: Task, state: State, reference: Reference, centre: str) -> None:
    """Try all elements of one small set on the draws that are open."""
    everything = whole_group(task.layout.groups[centre], task.layout.sizes[centre])
    for rows, view in _open_views(task, state, reference):
        for part in np.array_split(np.arange(len(rows)), math.ceil(len(rows) / 64)):
            some, where = view.select(part), rows[part]
            elements, gain = exhaust(some, centre, everything, state.gain[where])
            state.keep_better(where, elements, gain, some.tolerance, "exhaustive")
            if boundable(view):
                state.bound[where] = state.gain[where]


def _along_tree(task: Task, state: State, reference: Reference, tree: Tree) -> None:
    """Find the optimum over all sets of units jointly; draws that take too much stay open."""
    for rows, view in task.views(reference, "searching"):
        where = np.arange(rows.start, rows.stop)
        elements, gain, state.bound[rows] = tree.best(view, state.gain[rows], _PAIRS_OF_ELEMENTS)
        state.keep_better(where, elements, gain, view.tolerance, "layers")
        proved = state.bound[rows] <= state.gain[rows] + view.tolerance
        state.open[where[proved]] = False


def _jointly(task: Task, state: State, reference: Reference) -> None:
    """Solve the problem of all sets of units jointly, relaxed, on the draws that are open."""
    if any(group.rotates for group in task.layout.groups.values()):
        return
    for rows, view in _open_views(task, state, reference):
        for begin in (None, state.rows(rows)):
            elements, gain = ascend(view, relax_jointly(view, begin))
            state.keep_better(rows, elements, gain, view.tolerance, "joint")


def _random_elements(layout: Layout, n_draws: int, n_elements: int, seed: int) -> list[Elements]:
    """Draw elements of all draws at random; those of units that rotate stay the identity."""
    rng = np.random.default_rng(seed)
    result = []
    for _ in range(n_elements):
        elements = identity(layout, n_draws)
        for units, size in layout.sizes.items():
            if layout.groups[units].rotates:
                continue  # solved exactly from anywhere
            index = rng.permuted(np.tile(np.arange(size), (n_draws, 1)), axis=1)
            factor = rng.choice([-1.0, 1.0], size=index.shape)
            signs = layout.groups[units].signs
            elements[units] = Monomial(index, factor if signs else np.ones(index.shape))
        result.append(elements)
    return result
