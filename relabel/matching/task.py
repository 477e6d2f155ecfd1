"""All draws and the criterion that compares them: what every stage of the loop works on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel._util.progress import Report
from relabel.groups import Group, Score
from relabel.groups.elements import Monomial, monomial
from relabel.matching.certificate import gap_of, upper_bound
from relabel.matching.criteria.base import Criterion, Reference, Remarks, Statistics, add
from relabel.matching.features import Block, Conditioned, Conditioning, Layout, Source
from relabel.matching.moments import Pooled, pooled_moments
from relabel.matching.search import Elements, View, exact, identity
from relabel.matching.state import Solution, State

__all__ = ["Task"]

Array = NDArray[Any]

_MOST_SCORES = 2**26  # bytes of scores that are kept as long as the reference stays


@dataclass
class _Scores:
    """Scores of blocks under the last reference, where those of all draws are small."""

    bytes_left: int = _MOST_SCORES
    reference: Reference | None = None
    known: dict[int, dict[str, Score]] = field(default_factory=dict)

    def of(self, number: int, reference: Reference) -> dict[str, Score] | None:
        """Return the scores of one block, if they are known."""
        if self.reference is not reference:
            self.reference, self.known, self.bytes_left = reference, {}, _MOST_SCORES
        return self.known.get(number)

    def keep(self, number: int, unary: dict[str, Score]) -> None:
        """Keep the scores of one block, if they fit."""
        size = 2 * sum(score.even.nbytes for score in unary.values())
        if number not in self.known and size <= self.bytes_left:
            self.known[number] = unary
            self.bytes_left -= size


@dataclass(frozen=True)
class Task:
    """All draws, and the criterion that compares them.

    Attributes
    ----------
    source : Source
        The features of all draws.
    layout : Layout
        What they mean, with their centre.
    pooled : Pooled
        Their moments, which no relabelling changes.
    criterion : Criterion
    conditioning : Conditioning
        How the features of the source were changed, so that float64 compares them well.
    report : callable, optional
        Called with a stage's name, the blocks done and the number of blocks.
    certify : bool
        Whether to spend more on bounds of the losses.
    """

    source: Source
    layout: Layout
    pooled: Pooled
    criterion: Criterion
    conditioning: Conditioning
    report: Report | None = None
    certify: bool = False
    _scores: _Scores = field(default_factory=_Scores)

    @classmethod
    def of(cls, source: Source, criterion: Criterion, first: object, report: Report | None) -> Task:
        """Set the task up; a first reference that is given brings its own centre."""
        pooled = pooled_moments(source)
        if isinstance(first, Reference):
            conditioning = first.conditioning
        elif pooled.ordinary:
            conditioning = Conditioning()
        else:
            conditioning = Conditioning.of(source, together=not criterion.scale_free)
        if conditioning:
            source = Conditioned(source, conditioning)
            pooled = pooled_moments(source)
        centre = first.centre if isinstance(first, Reference) else pooled.centre
        layout = replace(source.layout, centre=centre)
        return cls(source, layout, pooled, criterion, conditioning, report)

    def views(self, reference: Reference, stage: str) -> Iterator[tuple[slice, View]]:
        """Yield the draws of every block, and their view under a reference."""
        slices = self.source.slices
        for number, rows in enumerate(slices):
            block = self.source.block(number)
            unary = self._scores.of(number, reference)
            view = View.of(block, self.layout, reference, self.criterion, unary)
            self._scores.keep(number, view.unary)
            yield rows, view
            if self.report is not None:
                self.report(stage, number + 1, len(slices))

    def afresh(self, criterion: Criterion) -> Task:
        """Return the same draws, compared by a criterion (or by this one on other draws)."""
        return replace(self, criterion=criterion, _scores=_Scores())

    def unmoved(self) -> State:
        """Return all draws as they are."""
        return State.unmoved(self.layout, self.source.n_draws)

    def reference_of(self, state: State, previous: Reference | None) -> Reference:
        """Form the reference from the aligned draws."""
        parts = (
            self.criterion.statistics(self.source.block(number), self.layout, state.rows(rows))
            for number, rows in enumerate(self.source.slices)
        )
        return self._formed(reduce(add, parts), previous)

    def reference_at(self, draw: Block) -> Reference:
        """Form the reference from one draw."""
        alone = self.criterion.statistics(draw, self.layout, identity(self.layout, 1))
        return self._formed(alone, None)

    def _formed(self, sums: Statistics, previous: Reference | None) -> Reference:
        """Form the reference from sums over draws, and note how their features were changed."""
        formed = self.criterion.form_reference(sums, self.pooled, self.layout, previous)
        return replace(formed, conditioning=self.conditioning) if self.conditioning else formed

    def seen(self, draw: Block) -> Block:
        """Return a draw that was laid out as the source was, changed as its features are."""
        return self.conditioning.block(draw, self.layout) if self.conditioning else draw

    def compared(self, state: State, reference: Reference) -> State:
        """Fill in the gains of the elements of all draws under a reference."""
        for rows, view in self.views(reference, "comparing"):
            state.gain[rows] = view.gain(state.rows(rows))
        return state

    def total(self, state: State, reference: Reference) -> float:
        """Return the total loss of all draws under their reference."""
        total = float(-state.gain.sum() + self.criterion.penalty(reference))
        return max(total, 0.0) if self.criterion.is_distance else total  # below zero is rounding

    def solution(
        self,
        state: State,
        reference: Reference,
        losses: Sequence[float],
        before: float,
        converged: bool = True,
        best: bool = True,
    ) -> Solution:
        """Return the solution with margins and remarks.

        Elements that are not those of the highest score (`best` is False) may have negative
        margins.
        """
        loss = -state.gain
        if self.criterion.is_distance:
            loss = np.maximum(loss, 0.0)  # what is below zero is rounding
        return Solution(
            state.elements,
            reference,
            self.source.layout,
            loss,
            self.margins(state.elements, reference, best),
            state.start,
            list(losses),
            before,
            converged,
            self.gaps(state, reference, best),
            self._remarks(reference, state.elements),
        )

    def _remarks(self, reference: Reference, elements: Elements) -> Remarks:
        """Return the criterion's remarks, and in which units the losses are."""
        found = self.criterion.remarks(self.source, self.layout, reference, elements)
        exponents = self.conditioning.exponents - {0}
        if not exponents or (self.criterion.is_distance and self.criterion.scale_free):
            return found
        powers = ", ".join(f"2**{-exponent}" for exponent in sorted(exponents))
        text = (
            "float64 does not hold the squares of some values: losses and margins are those of "
            f"these values times {powers}"
        )
        return replace(found, warnings=[*found.warnings, text])

    def gaps(self, state: State, reference: Reference, best: bool = True) -> Array:
        """Return how far each loss may be above the lowest (:mod:`relabel.matching.certificate`).

        Sets that are each solved exactly need no bound, if their elements are the best.
        """
        groups = self.layout.groups.values()
        if best and exact(self.layout) and all(group.optimal for group in groups):
            return np.zeros(self.source.n_draws)
        gap = np.ones(self.source.n_draws)
        for rows, view in self.views(reference, "bounding"):
            gain = state.gain[rows]
            bound = upper_bound(view, gain, state.bound[rows], self.certify)
            gap[rows] = gap_of(-gain, -bound, view.tolerance, reference)
        return gap

    def margins(
        self, elements: Elements, reference: Reference, best: bool = True
    ) -> dict[str, Array]:
        """Return margins of every slot under the last reference, the other sets held fixed.

        Units on both sides of one array have no linear score, and so no exact margin: nan.
        """
        layout = self.layout
        margin = {u: np.empty((self.source.n_draws, k)) for u, k in layout.sizes.items()}
        for rows, view in self.views(reference, "margins"):
            some = {units: element[rows] for units, element in elements.items()}
            for units, group in layout.groups.items():
                if layout.two_sided(units):
                    margin[units][rows] = np.nan
                    continue
                score, _ = view.score(units, some)
                margin[units][rows] = (
                    group.margin(score, some[units])
                    if best
                    else _margin_of_any(group, score, monomial(some[units]))
                )
        return margin


def _margin_of_any(group: Group, score: Score, element: Monomial) -> Array:
    """Return margins of elements that need not be optimal: below zero where another is better."""
    best = monomial(group.match(score))
    alike = (best.index == element.index) & ((best.factor < 0) == (element.factor < 0))
    behind = score.of(best) - score.of(element)
    margin: Array = np.where(alike, group.margin(score, best), 0.0) - behind[:, None]
    return margin
