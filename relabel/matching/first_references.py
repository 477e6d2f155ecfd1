"""Where the loop begins: many starts are tried on a sample of the draws, the best is followed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from relabel.groups.elements import Element, Monomial, monomial
from relabel.matching.criteria.base import Criterion, Reference, Statistics
from relabel.matching.criteria.mean import ByMean
from relabel.matching.descent import descend
from relabel.matching.features import Block, Layout
from relabel.matching.labellings import (
    COMPARED,
    by_cauchy,
    by_sorting,
    distances,
    noise,
    ranks,
    separation,
)
from relabel.matching.moments import Pooled
from relabel.matching.sample import Sample, evenly
from relabel.matching.search import Elements, exact, identity, same
from relabel.matching.starts import Search
from relabel.matching.task import Task

__all__ = ["Begin", "best_begin"]

Array = NDArray[Any]

_MOST, _LEAST = 400, 50  # draws that starts are tried on
_WORK = 4_000_000  # numbers that one start may compare
_PURSUED = 3  # starts that are descended from
_AGREEING = 2  # starts that have to lead to the same labels, or else all are tried
_RESOLUTION = 1e-6  # of losses that are the same
_CLEAR, _SHARE = 3.0, 0.99  # odds of 20 to 1 in nearly all draws: no other start is needed
_ROUGH_SWEEPS = 12


@dataclass(frozen=True)
class Begin:
    """Where the loop begins.

    Attributes
    ----------
    name : str
        The start that won.
    reference : Reference
        What it led to on the sample.
    elements : dict of str to Element
        The labels that it led to there.
    loss : float
        Their loss.
    """

    name: str
    reference: Reference
    elements: Elements
    loss: float


@dataclass(frozen=True)
class _Some(ByMean):
    """The mean of some features, by their weights; those of pooled scales come on top."""

    weight: Mapping[str, Array]
    with_pairs: bool = True
    max_sweeps: int = _ROUGH_SWEEPS
    name: ClassVar[str] = "some"
    monotone: ClassVar[bool] = False
    rotates: ClassVar[bool] = True

    def form_reference(
        self, statistics: Statistics, pooled: Pooled, layout: Layout, previous: Reference | None
    ) -> Reference:
        """Return the mean of the aligned draws, with the weights of some features."""
        whole = self.mean.form_reference(statistics, pooled, layout, previous)
        weight = {u: w * self.weight[u] for u, w in whole.weight.items()}
        pairs = whole.pair_weight if self.with_pairs else (0.0,) * len(whole.pair_weight)
        return replace(whole, weight=weight, pair_weight=pairs)


def best_begin(task: Task, search: Search, firsts: Sequence[Block]) -> Begin:
    """Try many starts on a sample of the draws; return the one with the lowest loss.

    The mean of all features comes first, and then that of the features that tell units apart.
    Where both lead to the same labels, and these are beyond doubt, nothing else is tried.
    """
    rows = evenly(task.source.n_draws, _sample_size(task.layout))
    known = {
        name: {u: g[rows] for u, g in elements.items()}
        for name, elements in search.known_starts.items()
    }
    chain = None if search.chain is None else search.chain[rows]
    sample = replace(task, source=Sample.of(task.source, rows), report=None).afresh(task.criterion)
    search = replace(search, chain=chain, known_starts=known)
    row = np.random.default_rng(search.rng).integers(sample.source.n_draws)
    firsts = [*firsts, sample.source.draw(int(row))]
    candidates = _candidates(sample, search, firsts)
    ends = [_followed(sample, *start) for start in islice(candidates, _AGREEING)]
    if _alike(ends) and _beyond_doubt(sample, ends[0]):
        return ends[0]
    return _best_of(sample, ends, candidates)


def _sample_size(layout: Layout) -> int:
    """Return how many draws starts are tried on."""
    largest = max(
        size**2 * max(1, min(len(layout.columns[units]), COMPARED))
        for units, size in layout.sizes.items()
    )
    most = _MOST if exact(layout) else _MOST // 4
    return max(_LEAST, min(most, _WORK // largest))


def _best_of(task: Task, ends: list[Begin], candidates: Iterator[tuple[str, Elements]]) -> Begin:
    """Return the best of all starts: each is judged, the most promising are descended from."""
    if task.criterion.relaxed is not None:
        ends = [*ends, _relaxed(task, task.criterion.relaxed, ends[0].elements)]
    begin = min(ends, key=_loss_of)
    tried: list[tuple[float, str, Elements]] = []
    for name, elements in candidates:
        if not any(bool(same(elements, other).all()) for _, _, other in tried):
            state = replace(task.unmoved(), elements=elements)
            reference = task.reference_of(state, None)
            total = task.total(task.compared(state, reference), reference)
            tried.append((total, name, elements))
    for _, name, elements in sorted(tried, key=lambda entry: entry[0])[:_PURSUED]:
        begin = min(begin, _followed(task, name, elements), key=_loss_of)
    return begin


def _loss_of(begin: Begin) -> float:
    """Order starts; of equal ones the first is kept."""
    return begin.loss


def _followed(task: Task, name: str, elements: Elements) -> Begin:
    """Descend from some elements; those are left as they are."""
    state = replace(task.unmoved(), elements={u: g.copy() for u, g in elements.items()})
    found = descend(task, state, None)
    return Begin(name, found.reference, state.elements, found.losses[-1])


def _relaxed(task: Task, criterion: Criterion, elements: Elements) -> Begin:
    """Descend by a criterion with fewer local optima, and from there by the task's own."""
    return _followed(
        task, "shared scales", _followed(task.afresh(criterion), "", elements).elements
    )


def _alike(ends: Sequence[Begin]) -> bool:
    """Whether all starts end at the same loss."""
    losses = [end.loss for end in ends]
    return max(losses) - min(losses) <= _RESOLUTION * max(1.0, *map(abs, losses))


def _beyond_doubt(task: Task, begin: Begin) -> bool:
    """Whether hardly any draw has a slot that another assignment fits nearly as well."""
    margins = task.margins(begin.elements, begin.reference)
    least = np.min([margin.min(axis=1) for margin in margins.values()], axis=0)
    return bool((least > _CLEAR).mean() > _SHARE)


# ---------------------------------------------------------------------- starts


def _candidates(
    task: Task, search: Search, firsts: Sequence[Block]
) -> Iterator[tuple[str, Elements]]:
    """Yield labellings of all draws of the sample, by name; the mean of all features first."""
    layout, block = task.layout, task.source.block(0)
    every = _Some({u: np.ones(len(c)) for u, c in layout.columns.items()})
    yield "mean", _rough(task, search, every, firsts[0])
    separations = {u: separation(block, layout, u) for u in layout.sizes}
    telling = {u: _telling(s, layout.sizes[u]) for u, s in separations.items()}
    if any(0 < (weight > 0).sum() < weight.size for weight in telling.values()):
        yield "telling features", _rough(task, search, _Some(telling), firsts[0])
    for number, first in enumerate(firsts[1:], 2):
        yield f"mean from draw {number}", _rough(task, search, every, first)
    if exact(layout):
        yield from _by_variables(task, search, firsts[0])
        if not any(group.rotates for group in layout.groups.values()):
            yield from _by_sets(task, separations)
            yield from _by_looks(task, search, every)


def _telling(separations: Array, n_units: int) -> Array:
    """Weigh features by how far they separate the units, beyond what noise does."""
    excess = np.minimum(2 * separations, 50)
    return np.where(separations > noise(n_units), np.exp(excess), 0.0)


def _by_variables(task: Task, search: Search, first: Block) -> Iterator[tuple[str, Elements]]:
    """Match by each variable alone."""
    columns = task.layout.columns
    names = list(dict.fromkeys(c.variable for every in columns.values() for c in every))
    for name in names if len(names) > 1 else ():
        weight = {
            units: np.array([float(column.variable == name) for column in every])
            for units, every in columns.items()
        }
        yield f"variable {name}", _rough(task, search, _Some(weight, False), first)


def _by_sets(task: Task, separations: Mapping[str, Array]) -> Iterator[tuple[str, Elements]]:
    """Label each set of units by itself."""
    block, layout = task.source.block(0), task.layout
    for units, found in separations.items():
        for way in (by_sorting, by_cauchy):
            for name, element in way(block, layout, units, found):
                yield name, identity(layout, len(block)) | {units: element}


def _by_looks(task: Task, search: Search, every: _Some) -> Iterator[tuple[str, Elements]]:
    """Match ranks, and distances from the middle of all units."""
    layout, block = task.layout, task.source.block(0)
    if not any(layout.columns.values()):
        return
    middle = {
        u: np.median(x.reshape(x.shape[0] * x.shape[1], x.shape[2]), axis=0)
        for u, x in block.own.items()
    }
    looks = {"ranks": ranks(block, layout), "distances": distances(block, layout, middle)}
    assert isinstance(task.source, Sample)
    for name, own in looks.items():
        seen = task.source.seen_as(own)
        elements = _rough(Task.of(seen, every, None, None), search, every, seen.draw(0))
        yield name, {u: _with_signs(block, layout, u, g) for u, g in elements.items()}


def _rough(task: Task, search: Search, criterion: _Some, first: Block) -> Elements:
    """Align the sample to the mean of some features, beginning with one draw."""
    task = task.afresh(criterion)
    state, reference = task.unmoved(), task.reference_at(first)
    search.run(task, state, reference, thorough=False)
    descend(task, state, reference)
    return state.elements


def _with_signs(block: Block, layout: Layout, units: str, element: Element) -> Element:
    """Choose the signs of units that are in their slots: along each slot's main direction."""
    signed = layout.signed(units)
    if not layout.groups[units].signs or not signed.any():
        return element
    index = monomial(element).index
    values = layout.features(block, units)[:, :, signed]
    slots = np.take_along_axis(values, index[:, :, None], axis=1).swapaxes(0, 1)
    main = np.linalg.eigh(slots.swapaxes(1, 2) @ slots)[1][:, :, -1]
    along = np.einsum("kdr,kr->dk", slots, main)
    return Monomial(index, np.where(along < 0, -1.0, 1.0))
