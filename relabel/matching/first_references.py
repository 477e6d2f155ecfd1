"""The first reference of a criterion that has to be told where to begin: many starts on a sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from relabel.groups import Score
from relabel.groups.elements import Monomial
from relabel.matching.criteria.base import Reference, Statistics
from relabel.matching.criteria.mean import ByMean, Mean
from relabel.matching.descent import Descent, descend
from relabel.matching.features import Block, Layout
from relabel.matching.moments import Pooled
from relabel.matching.sample import Sample, Seen, evenly
from relabel.matching.search import Elements, exact, identity, same
from relabel.matching.starts import Search
from relabel.matching.state import State
from relabel.matching.task import Task

__all__ = ["Begin", "best_begin"]

Array = NDArray[Any]

_MOST, _LEAST = 400, 50  # draws that starts are tried on
_WORK = 4_000_000  # numbers that one start may compare
_CLEAR, _SHARE = 3.0, 0.99  # odds of 20 to 1 in nearly all draws: no other start is needed
_PURSUED = 3  # starts that are descended from
_SORTED = 8  # features that units are sorted by
_ROUGH_SWEEPS = 12
_COMPARED = 12  # features that are compared in the robust metric
_ROBUST_DRAWS = 4
_ROBUST_SWEEPS = 4


@dataclass(frozen=True)
class Begin:
    """Where the loop begins: the reference of the best start, and the name of that."""

    name: str
    reference: Reference


@dataclass(frozen=True)
class _Some(ByMean):
    """The mean of some variables: the others have no weight."""

    weight: Mapping[str, Array]
    with_pairs: bool = True
    max_sweeps: int = _ROUGH_SWEEPS
    name: ClassVar[str] = "some"
    monotone: ClassVar[bool] = False

    def form_reference(
        self, statistics: Statistics, pooled: Pooled, layout: Layout, previous: Reference | None
    ) -> Reference:
        """Return the mean of the aligned draws, with the weights of some features."""
        whole = self.mean.form_reference(statistics, pooled, layout, previous)
        weight = {u: w * self.weight[u] for u, w in whole.weight.items()}
        share = 1.0 if self.with_pairs else 0.0
        return replace(whole, weight=weight, pair_weight=tuple(share * w for w in whole.pair_weight))


def best_begin(task: Task, search: Search, firsts: Sequence[Block]) -> Begin:
    """Try many starts on a sample of the draws; return the one with the lowest loss.

    The mean of all features comes first. Where it leads to labels that are beyond doubt, nothing
    else is tried.
    """
    rows = evenly(task.source.n_draws, _sample_size(task.layout))
    chain = None if search.chain is None else search.chain[rows]
    known = {
        name: {u: g[rows] for u, g in elements.items()}
        for name, elements in search.known_starts.items()
    }
    small = Task.of(Sample(task.source, rows), task.criterion, None, None)
    return _best(small, replace(search, chain=chain, known_starts=known), firsts)


def _sample_size(layout: Layout) -> int:
    """Return how many draws starts are tried on."""
    largest = max(
        size**2 * max(1, min(len(layout.columns[units]), _COMPARED))
        for units, size in layout.sizes.items()
    )
    return max(_LEAST, min(_MOST if exact(layout) else _MOST // 4, _WORK // largest))


def _best(task: Task, search: Search, firsts: Sequence[Block]) -> Begin:
    tried: list[tuple[float, str, Elements]] = []
    ends: list[tuple[float, Reference, str]] = []
    for name, elements in _candidates(task, search, firsts):
        if any(bool(same(elements, other).all()) for _, _, other in tried):
            continue
        if not tried:
            state, found = _descended(task, elements)
            if _beyond_doubt(task, state, found.reference):
                return Begin(name, found.reference)
            ends.append((found.losses[-1], found.reference, name))
            tried.append((found.losses[-1], name, elements))
            continue
        state = replace(task.unmoved(), elements=elements)
        reference = task.reference_of(state, None)
        tried.append((task.total(task.compared(state, reference), reference), name, elements))
    for _, name, elements in sorted(tried[1:], key=lambda entry: entry[0])[:_PURSUED]:
        _, found = _descended(task, elements)
        ends.append((found.losses[-1], found.reference, name))
    _, reference, name = min(ends, key=lambda end: end[0])
    return Begin(name, reference)


def _descended(task: Task, elements: Elements) -> tuple[State, Descent]:
    state = replace(task.unmoved(), elements={u: g.copy() for u, g in elements.items()})
    return state, descend(task, state, None)


def _beyond_doubt(task: Task, state: State, reference: Reference) -> bool:
    """Whether hardly any draw has a slot that another assignment fits nearly as well."""
    margins = task.margins(state.elements, reference)
    least = np.min([margin.min(axis=1) for margin in margins.values()], axis=0)
    return bool((least > _CLEAR).mean() > _SHARE)


def _candidates(
    task: Task, search: Search, firsts: Sequence[Block]
) -> Iterator[tuple[str, Elements]]:
    """Yield labellings of all draws of the sample, by name."""
    layout = task.layout
    every = {u: np.ones(len(c)) for u, c in layout.columns.items()}
    for number, first in enumerate(firsts):
        yield f"mean of draw {number}" if number else "mean", _rough(task, search, _Some(every), first)
    first = firsts[0]
    separation = {u: _separation(task, u) for u in layout.sizes}
    telling = {u: np.where(s > _noise(task, u), np.exp(np.minimum(2 * s, 50)), 0.0) for u, s in separation.items()}
    if any(0 < (t > 0).sum() < len(t) for t in telling.values()):
        yield "telling features", _rough(task, search, _Some(telling), first)
    if not exact(layout):
        return
    names = list(dict.fromkeys(c.variable for cs in layout.columns.values() for c in cs))
    for name in names if len(names) > 1 else ():
        chosen = {
            u: np.array([float(c.variable == name) for c in columns])
            for u, columns in layout.columns.items()
        }
        yield f"variable {name}", _rough(task, search, _Some(chosen, with_pairs=False), first)
    if any(group.rotates for group in layout.groups.values()):
        return
    yield from _sorted(task, separation)
    yield from _robust(task, separation)
    centre = {u: _medians(task, u) for u in layout.sizes}
    for name, view in (("ranks", _ranks), ("distances", _distances)):
        seen = Seen(task.source, view, centre)
        if not any(layout.columns.values()):
            continue
        other = Task.of(seen, _Some(every), None, None)
        yield name, _signed(task, _rough(other, search, _Some(every), seen.draw(0)))


def _rough(task: Task, search: Search, criterion: _Some, first: Block) -> Elements:
    """Align the sample to the mean of some features, beginning with one draw."""
    task = replace(task, criterion=criterion, _scores=type(task._scores)())
    state, reference = task.unmoved(), task.reference_at(first)
    search.run(task, state, reference, thorough=False)
    descend(task, state, reference)
    return state.elements


def _sorted(task: Task, separation: Mapping[str, Array]) -> Iterator[tuple[str, Elements]]:
    """Sort the units of each set by each of the features that separate them most."""
    block = task.source.block(0)
    for units, gains in separation.items():
        features, signed = task.layout.features(block, units), task.layout.signed(units)
        for number in np.argsort(-gains, kind="stable")[:_SORTED]:
            values = features[:, :, number]
            if signed[number]:
                factor = np.where(values < 0, -1.0, 1.0)
                values = values * factor
            else:
                factor = np.ones_like(values)
            index = np.argsort(values, axis=1, kind="stable")
            elements = identity(task.layout, task.source.n_draws)
            elements[units] = Monomial(index, np.take_along_axis(factor, index, axis=1))
            column = task.layout.columns[units][number]
            yield f"sorted by {column.variable}[{column.position}]", elements


def _robust(task: Task, separation: Mapping[str, Array]) -> Iterator[tuple[str, Elements]]:
    """Match each set to medians of its slots in a metric that bounds the say of what is far off.

    Units that lie anywhere (empty components, spare units) then take the slots that are left over.
    """
    block, layout = task.source.block(0), task.layout
    for units, gains in separation.items():
        if not gains.size:
            continue
        chosen = np.argsort(-gains, kind="stable")[:_COMPARED]
        values = layout.features(block, units)[:, :, chosen]
        signed = layout.signed(units)[chosen]
        for row in evenly(len(values), _ROBUST_DRAWS):
            middle = values[row]
            spread = _nearest(values, middle, signed)
            for _ in range(_ROBUST_SWEEPS):
                element = layout.groups[units].match(_cauchy(values, signed, middle, spread))
                aligned = element.act_on_features(values, signed)
                middle = np.median(aligned, axis=0)
                spread = np.maximum(1.5 * np.median(np.abs(aligned - middle), axis=0), 1e-3 * spread)
            yield f"robust from draw {row}", identity(layout, len(values)) | {units: element}


def _nearest(values: Array, middle: Array, signed: Array) -> Array:
    """Typical distance of the units of a reference to the nearest value of any unit, (K, R)."""
    distance = np.abs(values[:, None] - middle[:, None])
    other = np.abs(values[:, None] + middle[:, None])
    distance = np.where(signed, np.minimum(distance, other), distance).min(axis=2)
    typical = np.median(distance, axis=0)
    least = np.quantile(typical, 0.25, axis=0, method="lower")
    return np.broadcast_to(np.where(least > 0, least, 1.0), typical.shape)


def _cauchy(values: Array, signed: Array, middle: Array, spread: Array) -> Score:
    """Score units as slots by Cauchy densities, split by parity in the sign."""
    size = np.log(spread).sum(axis=1)[:, None]

    def density(sign: float) -> Array:
        turned = np.where(signed, sign, 1.0) * values
        away = (turned[:, None] - middle[:, None]) / spread[:, None]
        return -np.log1p(away**2).sum(axis=3) - size

    plus = density(1.0)
    if not signed.any():
        return Score(plus, np.zeros_like(plus))
    minus = density(-1.0)
    return Score(0.5 * (plus + minus), 0.5 * (plus - minus))


def _separation(task: Task, units: str) -> Array:
    """Log of how much each feature spreads over all units, and within sorted slots; (R,)."""
    block = task.source.block(0)
    values = task.layout.features(block, units)
    values = np.where(task.layout.signed(units), np.abs(values), values)
    ordered = np.sort(values, axis=1)
    whole = values.reshape(-1, values.shape[2]).var(axis=0)
    within = ordered.var(axis=0)
    tiny = 1e-10 * np.where(whole > 0, whole, 1.0)
    return 0.5 * (np.log(whole + tiny) - np.log(within + tiny)).mean(axis=0)


def _noise(task: Task, units: str) -> float:
    """Return the separation of a feature that tells units apart by nothing but their order."""
    n_units = task.layout.sizes[units]
    normal = np.random.default_rng(0).normal(size=(200, n_units))
    within = np.sort(normal, axis=1).var(axis=0)
    return float(-0.5 * np.log(within).mean()) + 0.15


def _medians(task: Task, units: str) -> Array:
    values = task.source.block(0).own[units]
    return np.median(values.reshape(-1, values.shape[2]), axis=0)


def _ranks(values: Array, centre: Array) -> Array:
    """Rank of every unit among those of its draw."""
    return np.argsort(np.argsort(values, axis=1), axis=1).astype(float)


def _distances(values: Array, centre: Array) -> Array:
    """Log distance from the pooled median."""
    distance = np.abs(values - centre)
    typical = np.median(distance.reshape(-1, values.shape[2]), axis=0)
    return np.log(distance + np.where(typical > 0, 0.1 * typical, 1.0))


def _signed(task: Task, elements: Elements) -> Elements:
    """Choose the signs of units that are in their slots: those along the slot's main direction."""
    block = task.source.block(0)
    for units, group in task.layout.groups.items():
        if not group.signs or not task.layout.signed(units).any():
            continue
        index = elements[units].arrays[0]
        values = task.layout.features(block, units)[:, :, task.layout.signed(units)]
        slots = np.take_along_axis(values, index[:, :, None], axis=1).swapaxes(0, 1)
        second = slots.swapaxes(1, 2) @ slots
        main = np.linalg.eigh(second)[1][:, :, -1]
        along = np.einsum("kdr,kr->dk", slots, main)
        elements = elements | {units: Monomial(index, np.where(along < 0, -1.0, 1.0))}
    return elements
