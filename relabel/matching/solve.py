"""The one loop: match every draw to the reference, add up statistics, form the reference anew.

Several sets of units that share variables (deep networks) are solved by coordinate ascent over the
sets, which is only as good as its start. Every draw is therefore solved from several starts and
keeps the best by its own loss. Nothing here depends on how draws are cut into blocks, but for units
that tie exactly (duplicates, zeros), where the last bits of a sum decide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel.groups import Group, Score
from relabel.groups.elements import Monomial, monomial
from relabel.matching.criteria.base import Criterion, Reference, Remarks, Statistics, add
from relabel.matching.features import Block, Layout, Source
from relabel.matching.moments import Pooled, pooled_moments
from relabel.matching.quadratic import listed, whole_group
from relabel.matching.search import (
    TOLERANCE,
    Elements,
    Kick,
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

__all__ = ["STARTS", "Solution", "rough_elements", "solve"]

Array = NDArray[Any]
Progress = Callable[[str, int, int], None]

#: Names of the starts; a result stores their positions in this list.
STARTS = (
    "exact",  # one set of units, or sets that do not interact: no start matters
    "identity",
    "forward",
    "backward",
    "activations",
    "probes",
    "chain",
    "exhaustive",
    "random",
    "kicks",
    "informed",
    "relaxed",
)

_AGREEING = 3  # starts that end alike before a draw counts as settled
_MOST = 0.75  # share of them that have to, where a set stands on both sides of an array
_FEW = 8  # units of sets so small that starts agree by chance: there all of them have to
_MOST_SCORES = 2**26  # bytes of scores that are kept as long as the reference stays
_RELAXED_RANDOM = 5  # random points that the relaxed problem is begun from
_MAX_SEARCHES = 5  # how often all starts are tried; more would go on for ever on diffuse draws


@dataclass
class Solution:
    """What the loop found.

    Attributes
    ----------
    elements : dict of str to Monomial
        Units -> elements of shape (draws, K).
    reference : Reference
    loss : ndarray of shape (draws,)
        Loss of each draw under the last reference.
    margin : dict of str to ndarray of shape (draws, K)
        Gain over the best element that changes a slot's unit or sign, other sets held fixed; nan
        for units on both sides of one array.
    start : ndarray of int, shape (draws,)
        Which of :data:`STARTS` won.
    losses : list of float
        Total loss after every sweep, the criterion's penalty included.
    loss_before : float
        Total loss without relabelling, under the reference that fits that best.
    converged : bool
        False if `max_sweeps` ended the loop.
    remarks : Remarks
        What the criterion has to say of the result.
    """

    elements: Elements
    reference: Reference
    loss: Array
    margin: dict[str, Array]
    start: Array
    losses: list[float]
    loss_before: float
    converged: bool
    remarks: Remarks = field(default_factory=Remarks)


@dataclass
class _State:
    """The best elements of all draws so far, and what they are worth.

    A draw is `open` as long as its starts disagree, or it has moved since they were tried.
    """

    elements: Elements
    gain: Array
    start: Array
    open: Array

    @classmethod
    def unmoved(cls, layout: Layout, n_draws: int) -> _State:
        name = "exact" if exact(layout) else "identity"
        start = np.full(n_draws, STARTS.index(name), np.int8)
        gain = np.full(n_draws, -np.inf)
        return cls(identity(layout, n_draws), gain, start, np.ones(n_draws, bool))

    def rows(self, rows: Any) -> Elements:
        return {units: element[rows] for units, element in self.elements.items()}

    def keep(
        self, rows: Any, elements: Elements, gain: Array, tolerance: Array, start: int
    ) -> None:
        """Take over what is better by more than rounding."""
        better = gain > self.gain[rows] + tolerance
        self.gain[rows] = np.where(better, gain, self.gain[rows])
        self.start[rows] = np.where(better, start, self.start[rows])
        for units, element in self.elements.items():
            element.put(rows, elements[units].where(better, element[rows]))


# ---------------------------------------------------------------------- the loop


def solve(
    source: Source,
    criterion: Criterion,
    first: Block | Reference | None,
    *,
    given: Elements | None = None,
    chain: Array | None = None,
    known_starts: Mapping[str, Elements] | None = None,
    n_first: int = 1,
    n_random: int = 0,
    n_kicks: int = 30,
    seed: int = 0,
    progress: Progress | None = None,
) -> Solution:
    r"""Align all draws: match, add up, form the reference anew, until the loss stands still.

    Parameters
    ----------
    source : Source
        The features of all draws.
    criterion : Criterion
        What is maximised.
    first : Block or Reference
        One draw (or given point): the first reference, or the only one if the criterion keeps it.
        A Reference is kept. None starts from the labels as they are, with the reference that fits
        these best, and tries no other starts: for draws that were aligned before.
    given : dict of str to Monomial, optional
        Elements that are kept as they are; only their losses and margins are worked out, under
        the reference that fits them best, or under `first` if that is a Reference.
    chain : ndarray of int, shape (draws,), optional
        Which chain each draw belongs to; draws of one chain try each other's labellings.
    known_starts : mapping of str to elements, optional
        Further starts by name (a matching of activations).
    n_first : int, default 1
        Number of draws that are tried as the first reference: `first`, and others at random.
    n_random : int, default 0
        Random starts per draw.
    n_kicks : int, default 30
        Rounds of iterated local search on draws whose starts disagree.
    seed : int, default 0
        Seed of the random starts and of the kicks.
    progress : callable, optional
        Called with a stage's name, the blocks done and the number of blocks.

    Returns
    -------
    Solution

    Raises
    ------
    RuntimeError
        If the loss rises from one sweep to the next, which would be a fault of this library.

    Notes
    -----
    Several sets of units: a draw's labelling is a local optimum over single sets, the best that
    any start led to. Where one small set touches all pairs, its elements are all tried, which makes
    every draw globally optimal. Elsewhere draws whose starts disagree are kicked (a few units of
    one set exchanged at random, the others matched anew) and keep what is better, which is
    iterated local search. Units on both sides of an array: see :mod:`relabel.matching.quadratic`.

    References
    ----------
    Lourenço, H. R., Martin, O. C. & Stützle, T. (2003). Iterated local search. *Handbook of
    Metaheuristics*, 320-353. https://doi.org/10.1007/0-306-48056-5_11
    """
    options = (chain, dict(known_starts or {}), n_random, n_kicks, seed, progress, n_first)
    loop = _loop(source, criterion, first, *options)
    return loop.run(first) if given is None else loop.run_given(given, first)


def rough_elements(
    source: Source, criterion: Criterion, first: Block, progress: Progress | None = None
) -> Elements:
    """Align all draws without any of the searches and checks of :func:`solve`: for use as a start.

    Parameters
    ----------
    source, criterion, progress
        As in :func:`solve`.
    first : Block
        The first reference.

    Returns
    -------
    dict of str to Monomial
    """
    return _loop(source, criterion, first, progress=progress).run_roughly(first)


def _loop(
    source: Source,
    criterion: Criterion,
    first: Block | Reference | None,
    chain: Array | None = None,
    known_starts: dict[str, Elements] | None = None,
    n_random: int = 0,
    n_kicks: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
    n_first: int = 1,
) -> _Loop:
    """Set the loop up; a reference that is given brings its own centre."""
    pooled = pooled_moments(source)
    known = first if isinstance(first, Reference) else pooled
    layout = replace(source.layout, centre=known.centre)
    starts = known_starts or {}
    return _Loop(
        source, layout, pooled, criterion, chain, starts, n_random, n_kicks, seed, progress, n_first
    )


@dataclass
class _Scores:
    """Scores of blocks under the last reference, where those of all draws are small."""

    bytes_left: int = _MOST_SCORES
    reference: Reference | None = None
    known: dict[int, dict[str, Score]] = field(default_factory=dict)

    def of(self, number: int, reference: Reference) -> dict[str, Score] | None:
        """Scores of one block, if they are known."""
        if self.reference is not reference:
            self.reference, self.known, self.bytes_left = reference, {}, _MOST_SCORES
        return self.known.get(number)

    def keep(self, number: int, unary: dict[str, Score]) -> None:
        """Keep the scores of one block, if there is room."""
        size = 2 * sum(score.even.nbytes for score in unary.values())
        if number not in self.known and size <= self.bytes_left:
            self.known[number] = unary
            self.bytes_left -= size


@dataclass
class _Loop:
    source: Source
    layout: Layout
    pooled: Pooled
    criterion: Criterion
    chain: Array | None
    known_starts: dict[str, Elements]
    n_random: int
    n_kicks: int
    seed: int
    progress: Progress | None
    n_first: int
    rounding: float = 0.0  # of the total loss
    scores: _Scores = field(default_factory=_Scores)

    def run(self, first: Block | Reference | None) -> Solution:
        """Drive the loop from the first reference to the last; of several starts, the best."""
        if not isinstance(first, Reference):
            first = self.criterion.form(self.source, first) or first
        if isinstance(first, Reference):
            return self._to_reference(_State.unmoved(self.layout, self.source.n_draws), first)
        if first is None:
            return self._run_from(None)
        firsts: list[Block | None] = []
        for start in self.criterion.starts:
            firsts += [first, *self._other_draws()] if start == "draw" else [None]
        return min(map(self._run_from, firsts), key=lambda found: found.losses[-1])

    def _other_draws(self) -> list[Block]:
        """Draws to try as first references, chosen at random, where one does not stay."""
        if self.n_first < 2 or (self.criterion.max_sweeps == 0 and not self.criterion.initial()):
            return []
        n_draws = self.source.n_draws
        rng = np.random.default_rng(self.seed)
        rows = rng.choice(n_draws, size=min(self.n_first - 1, n_draws), replace=False)
        return [self.source.draw(int(row)) for row in rows]

    def _run_from(self, first: Block | None) -> Solution:
        """Start from one draw, or from the labels as they are."""
        state = _State.unmoved(self.layout, self.source.n_draws)
        if first is None:
            return self._iterate(state, None, searching=False)
        refined = self.criterion.initial()
        if refined is not None:
            begin = replace(self, criterion=refined, n_first=1).run(first)
            state.elements, state.start = begin.elements, begin.start
            return self._iterate(state, None)
        reference = self._reference_at(first)
        if self.criterion.max_sweeps == 0:
            return self._to_reference(state, reference)
        self._search(state, reference, thorough=False)
        return self._iterate(state, reference)

    def run_given(self, elements: Elements, first: Block | Reference | None) -> Solution:
        """Keep the elements; work out what they are worth."""
        state, unmoved = (_State.unmoved(self.layout, self.source.n_draws) for _ in range(2))
        state.elements = elements
        if isinstance(first, Reference):
            reference = own = first
        else:
            reference, own = (self._update(labels, None) for labels in (state, unmoved))
        before = self._total(self._gained(unmoved, own), own)
        losses = [self._total(self._gained(state, reference), reference)]
        return self._solution(state, reference, losses, before, True, best=False)

    def run_roughly(self, first: Block) -> Elements:
        """Descend from one draw, and no more."""
        state = _State.unmoved(self.layout, self.source.n_draws)
        reference = self._reference_at(first)
        self._search(state, reference, thorough=False)
        self._descend(state, reference, searching=False)
        return state.elements

    def _reference_at(self, first: Block) -> Reference:
        """Form the reference from one draw."""
        alone = self.criterion.statistics(first, self.layout, identity(self.layout, 1))
        return self.criterion.reference(alone, self.pooled, self.layout, None)

    def _to_reference(self, state: _State, reference: Reference) -> Solution:
        """Match once: the reference stays."""
        before = self._total(self._unmoved(reference), reference)
        picked = self.criterion.pick(self.source, reference)
        if picked is None:
            self._search(state, reference)
        else:
            state.elements = dict(picked)
            state = self._gained(state, reference)
        losses = [self._total(state, reference)]
        return self._solution(state, reference, losses, before, True, best=picked is None)

    def _iterate(
        self, state: _State, reference: Reference | None, *, searching: bool = True
    ) -> Solution:
        """Descend; descend from the labels as they are instead, where these are not worse."""
        reference, losses, done = self._descend(state, reference, searching)
        unmoved = _State.unmoved(self.layout, self.source.n_draws)
        own = self._update(unmoved, reference)
        still = self._unmoved(own)
        before = self._total(still, own)
        moved = not bool(same(state.elements, still.elements).all())
        if moved and before <= losses[-1] + TOLERANCE * abs(losses[-1]):
            state = still
            reference, more, done = self._descend(state, own, searching)
            losses += more
        return self._solution(state, reference, losses, before, done)

    def _descend(
        self, state: _State, reference: Reference | None, searching: bool
    ) -> tuple[Reference, list[float], bool]:
        """Update the reference and match in turn until nothing changes."""
        losses: list[float] = []
        changed, searches, alone = True, 0, exact(self.layout)
        while changed and len(losses) < self.criterion.max_sweeps:
            reference = self._update(state, reference)
            changed = self._polish(state, reference)
            if searching and not changed and not alone and searches < _MAX_SEARCHES:
                changed = self._search(state, reference)
                searches += 1
            losses.append(self._total(state, reference))
            if self.criterion.monotone:
                self._check_falling(losses)
        assert reference is not None
        return reference, losses, not changed

    def _check_falling(self, losses: Sequence[float]) -> None:
        """The loss may not rise, but for rounding: both steps of the loop lower it or leave it."""
        if (
            self.criterion.monotone
            and len(losses) > 1
            and losses[-1] > losses[-2] + 1e-9 * abs(losses[-2]) + self.rounding
        ):
            raise RuntimeError(f"the loss rose from {losses[-2]} to {losses[-1]}")

    def _unmoved(self, reference: Reference) -> _State:
        """All draws as they are, under a reference."""
        return self._gained(_State.unmoved(self.layout, self.source.n_draws), reference)

    def _gained(self, state: _State, reference: Reference) -> _State:
        """What the elements of all draws are worth under a reference."""
        for rows, view in self._views(reference, "comparing"):
            state.gain[rows] = view.gain(state.rows(rows))
        return state

    def _solution(
        self,
        state: _State,
        reference: Reference,
        losses: list[float],
        before: float,
        done: bool,
        best: bool = True,
    ) -> Solution:
        margin = self._margins(state, reference, best)
        loss = -state.gain
        if self.criterion.is_distance:
            loss = np.maximum(loss, 0.0)  # what is below zero is rounding
        elements, start = state.elements, state.start
        remarks = self.criterion.remarks(self.source, self.layout, reference, elements)
        return Solution(elements, reference, loss, margin, start, losses, before, done, remarks)

    # -------------------------------------------------------------- one sweep

    def _views(self, reference: Reference, stage: str) -> Iterator[tuple[slice, View]]:
        slices = self.source.slices
        for number, rows in enumerate(slices):
            block = self.source.block(number)
            unary = self.scores.of(number, reference)
            view = View.of(block, self.layout, reference, self.criterion, unary)
            self.scores.keep(number, view.unary)
            yield rows, view
            if self.progress is not None:
                self.progress(stage, number + 1, len(slices))

    def _update(self, state: _State, previous: Reference | None) -> Reference:
        """Form the reference from the aligned draws."""
        layout = self.layout
        total: Statistics | None = None
        for number, rows in enumerate(self.source.slices):
            part = self.criterion.statistics(self.source.block(number), layout, state.rows(rows))
            total = part if total is None else add(total, part)
        assert total is not None
        return self.criterion.reference(total, self.pooled, layout, previous)

    def _polish(self, state: _State, reference: Reference) -> bool:
        """Ascend from the present elements under a new reference."""
        changed, self.rounding = False, 0.0
        for rows, view in self._views(reference, "matching"):
            self.rounding += float(view.tolerance.sum())
            before = state.rows(rows)
            elements, gain = ascend(view, before)
            moved = ~same(elements, before)
            changed |= bool(moved.any())
            state.open[rows] |= moved
            state.gain[rows] = gain
            for units, element in state.elements.items():
                element.put(rows, elements[units])
        return changed

    def _total(self, state: _State, reference: Reference) -> float:
        total = float(-state.gain.sum() + self.criterion.penalty(reference))
        return max(total, 0.0) if self.criterion.is_distance else total  # below zero is rounding

    def _margins(self, state: _State, reference: Reference, best: bool) -> dict[str, Array]:
        """Margins of every slot under the last reference, the other sets held fixed.

        Units on both sides of one array have no linear score, and so no exact margin: nan.
        Elements that are not those of the highest score (`best` is False) may have negative ones.
        """
        layout = self.layout
        margin = {u: np.empty((self.source.n_draws, k)) for u, k in layout.sizes.items()}
        for rows, view in self._views(reference, "margins"):
            elements = state.rows(rows)
            for units, group in layout.groups.items():
                if layout.two_sided(units):
                    margin[units][rows] = np.nan
                    continue
                score, _ = view.score(units, elements)
                margin[units][rows] = (
                    group.margin(score, elements[units])
                    if best
                    else _margin_of_any(group, score, monomial(elements[units]))
                )
        return margin

    # -------------------------------------------------------------- starts

    def _search(self, state: _State, reference: Reference, thorough: bool = True) -> bool:
        """Solve the draws that are open from every start; True if that improved any."""
        before = {u: g.copy() for u, g in state.elements.items()}
        if exact(self.layout):
            self._start_exact(state, reference)
        else:
            randoms = self._random_elements(self.n_random)
            relaxed = self._random_elements(_RELAXED_RANDOM) if self.relaxing else []
            for rows, view in self._open_views(state, reference):
                state.gain[rows] = view.gain(state.rows(rows))
                ends = self._start_all(state, rows, view, randoms)
                if self.relaxing:
                    self._start_relaxed(state, rows, view, ends, relaxed)
                state.open[rows] = ~self._settled(ends, view)
            if self.chain is not None:
                self._start_chain(state, reference)
            if thorough:
                self._search_further(state, reference)
                state.open[:] = False
        return not bool(same(state.elements, before).all())

    def _open_views(self, state: _State, reference: Reference) -> Iterator[tuple[Array, View]]:
        """Views of the draws that are open, with their positions."""
        for rows, view in self._views(reference, "searching"):
            inside = np.flatnonzero(state.open[rows])
            if inside.size:
                yield np.arange(rows.start, rows.stop)[inside], view.select(inside)

    def _start_exact(self, state: _State, reference: Reference) -> None:
        for rows, view in self._views(reference, "matching"):
            elements, gain = ascend(view, state.rows(rows))
            state.start[rows] = STARTS.index("exact")
            state.gain[rows] = gain
            for units, element in state.elements.items():
                element.put(rows, elements[units])

    def _start_all(
        self, state: _State, rows: Array, view: View, randoms: Sequence[Elements]
    ) -> list[Array]:
        """Try the starts that need no other draw; the gains that each of them ends with."""
        layout = self.layout
        unmoved = identity(layout, len(view))
        order = list(layout.sizes)
        ends = []
        runs: list[tuple[str, Elements, list[str] | None]] = [("identity", unmoved, None)]
        if any(layout.columns.values()):  # else there is nothing to begin a sweep with
            runs.append(("forward", unmoved, order))
        if len(order) > 1:
            runs.append(("backward", unmoved, order[::-1]))
        informed = layout.informed_order()
        if informed not in (order, order[::-1]):
            runs.append(("informed", unmoved, informed))
        runs += [("random", {u: g[rows] for u, g in e.items()}, None) for e in randoms]
        for name, known in self.known_starts.items():
            runs.append((name, {u: g[rows] for u, g in known.items()}, None))
        for name, begin, sweep in runs:
            plain = name == "identity" and self.relaxing  # far from it, exchanges take many steps
            elements, gain = ascend(view, begin, sweep, exchanging=not plain)
            state.keep(rows, elements, gain, view.tolerance, STARTS.index(name))
            ends.append(gain)
        return ends

    def _settled(self, ends: Sequence[Array], view: View) -> Array:
        """Which draws are settled: where the best end is that of several starts.

        None where all draws will be solved to the global optimum anyway, at little cost.
        """
        if small_centre(self.layout) is not None:
            return np.zeros(len(view), bool)
        best = np.max(ends, axis=0) - view.tolerance
        if not self.relaxing:
            agree: Array = (np.stack(ends) >= best).sum(axis=0) >= min(len(ends), _AGREEING)
            return agree
        runs = np.stack(ends[1:])  # the identity is no evidence where labels switch
        n_best, n_runs = (runs >= best).sum(axis=0), np.isfinite(runs).sum(axis=0)
        least = np.maximum(_AGREEING, _MOST * n_runs)
        if self.few:
            least = np.maximum(n_runs, _RELAXED_RANDOM + 1)
        settled: Array = n_best >= least
        return settled

    @property
    def relaxing(self) -> bool:
        """Whether some set stands on both sides of an array, and is too large to be listed."""
        layout = self.layout
        return small_centre(layout) is None and any(
            layout.two_sided(u) and not listed(layout.groups[u], k) for u, k in layout.sizes.items()
        )

    @property
    def few(self) -> bool:
        """Whether the sets are so small that starts agree by chance."""
        return max(self.layout.sizes.values()) <= _FEW

    def _start_relaxed(
        self,
        state: _State,
        rows: Array,
        view: View,
        ends: list[Array],
        randoms: Sequence[Elements],
    ) -> None:
        """Solve the relaxed problem from several points, until the draws are settled.

        Of few units, random labels are improved as they are, which is more of a check.
        """
        order = list(self.layout.sizes)
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
                if self.few:
                    name = "random"
                else:
                    elements = relax(some, elements, order)
            elements, gain = ascend(some, elements)
            state.keep(where, elements, gain, some.tolerance, STARTS.index(name))
            end = np.full(len(rows), -np.inf)
            end[inside] = gain
            ends.append(end)
            inside = np.flatnonzero(~self._settled(ends, view))
            if not inside.size:
                break
        inside = np.flatnonzero(state.start[rows] == STARTS.index("identity"))
        if inside.size:  # these have not been exchanged yet
            where, some = rows[inside], view.select(inside)
            elements, gain = ascend(some, state.rows(where))
            state.keep(where, elements, gain, some.tolerance, STARTS.index("identity"))

    def _random_elements(self, n_elements: int) -> list[Elements]:
        rng = np.random.default_rng(self.seed)
        layout, n_draws = self.layout, self.source.n_draws
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

    def _start_chain(self, state: _State, reference: Reference) -> None:
        """Take over what won for a draw's neighbours or most often in its chain, where better."""
        assert self.chain is not None
        candidates = chain_candidates(state.elements, self.chain)
        for rows, view in self._views(reference, "searching"):
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
                    state.keep(where, elements, gain, some.tolerance, STARTS.index("chain"))
                    state.open[where] = True

    def _search_further(self, state: _State, reference: Reference) -> None:
        """Search the draws that are open by means that cost more."""
        centre = small_centre(self.layout)
        if centre is not None:
            self._start_exhaustive(state, reference, centre)
        elif state.open.any():
            self._kick(state, reference)

    def _kick(self, state: _State, reference: Reference) -> None:
        """Iterated local search: exchange a few units of one set, match the others, ascend."""
        layout = self.layout
        order = list(layout.sizes)
        open_rows = np.flatnonzero(state.open)
        rng = np.random.default_rng(self.seed)
        kicks = [
            Kick.draw(rng, open_rows.size, layout, order[number % len(order)])
            for number in range(self.n_kicks)
        ]
        for rows, view in self._open_views(state, reference):
            inside = np.searchsorted(open_rows, rows)
            for kick in kicks:
                begin = state.rows(rows)
                begin[kick.units] = kick.turn(inside, view.layout) @ begin[kick.units]
                for units in order:
                    if units != kick.units:
                        score, _ = view.score(units, begin)
                        begin[units] = layout.groups[units].match(score)
                elements, gain = ascend(view, begin)
                state.keep(rows, elements, gain, view.tolerance, STARTS.index("kicks"))

    def _start_exhaustive(self, state: _State, reference: Reference, centre: str) -> None:
        """Try all elements of one small set on the draws that are open."""
        layout = self.layout
        everything = whole_group(layout.groups[centre], layout.sizes[centre])
        for rows, view in self._open_views(state, reference):
            for part in np.array_split(np.arange(len(rows)), math.ceil(len(rows) / 64)):
                some, where = view.select(part), rows[part]
                elements, gain = exhaust(some, centre, everything, state.gain[where])
                state.keep(where, elements, gain, some.tolerance, STARTS.index("exhaustive"))


def _margin_of_any(group: Group, score: Score, element: Monomial) -> Array:
    """Margins of elements that need not be optimal: below zero where another one does better."""
    best = monomial(group.match(score))
    alike = (best.index == element.index) & ((best.factor < 0) == (element.factor < 0))
    behind = score.of(best) - score.of(element)
    margin: Array = np.where(alike, group.margin(score, best), 0.0) - behind[:, None]
    return margin
