r"""Several draws matched to one another at once, by Frank-Wolfe over their relaxed elements.

The mean of few draws that are not matched yet is a poor reference, and a good one is needed to
match them. Here they are matched without one: what is maximised is the agreement of all pairs,

.. math:: \tfrac12 \sum_v w_v \Bigl[ \lVert \sum_t X_t x_{tv} \rVert^2
          - \sum_t \lVert X_t x_{tv} \rVert^2 \Bigr],

which is minus the squared distances to the mean, but for a constant. The elements are relaxed: to
mixtures :math:`X_t` of elements, whose gradient is the score of a draw against the sum of the
others. A step goes towards the elements of the highest score, all sets of all draws at once, and
its length is exact: along it the agreement is a polynomial of degree four.

References
----------
Crisostomi, D., Fumero, M., Baieri, D., Bernard, F. & Rodolà, E. (2024). C2M3: cycle-consistent
multi-model merging. *Advances in Neural Information Processing Systems* 37.

Frank, M. & Wolfe, P. (1956). An algorithm for quadratic programming. *Naval Research Logistics
Quarterly* 3, 95-110. https://doi.org/10.1002/nav.3800030109
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel.groups import Score
from relabel.matching.criteria.base import Reference
from relabel.matching.features import Block, Layout
from relabel.matching.quadratic import dense
from relabel.matching.sample import Sample
from relabel.matching.search import Elements
from relabel.matching.state import STARTS, State
from relabel.matching.task import Task

__all__ = ["match_jointly"]

Array = NDArray[Any]
Relaxed = dict[str, Array]  # of every set the mixtures X and |X|, shape (2, draws, K, K)

_STARTS = (0.4, 0.2)  # shares of the present elements in the mixtures that the climbs begin with
_MAX_STEPS = 200
_NUMBERS = 2**24  # of relaxed elements and draws that are held at once
_STANDSTILL = 1e-6  # relative gain of a step at which it stops


def match_jointly(task: Task, state: State, reference: Reference, rows: Array) -> bool:
    """Match some draws to one another and to the others; True if that lowers the total loss.

    Parameters
    ----------
    task : Task
    state : State
        Updated, its gains among it, only if the loss falls.
    reference : Reference
        That of the state as it is.
    rows : ndarray of int
        The draws; of more than fit at once the first.
    """
    layout, n_draws = task.layout, task.source.n_draws
    rows = np.sort(rows[: _most(layout)])
    if len(rows) < 2 or any(group.rotates for group in layout.groups.values()):
        return False
    block, begin = Sample.of(task.source, rows).whole, state.rows(rows)
    before = task.total(state, reference)
    joint = _Joint.of(block, layout, reference, n_draws, begin)
    better = False
    for share in _STARTS:
        there = task.unmoved()
        for units, element in there.elements.items():
            element.put(slice(None), state.elements[units])
        for units, element in _highest_agreement(joint, begin, share).items():
            there.elements[units].put(rows, element)
        mean = task.reference_of(there, reference)
        total = task.total(task.compared(there, mean), mean)
        if total < before:
            better, before = True, total
            state.put(slice(None), there.elements, there.gain)
            state.start[rows], state.open[rows] = STARTS.index("jointly"), True
    return better


def _highest_agreement(joint: _Joint, begin: Elements, share: float) -> Elements:
    """Climb from near the mean of all elements, and return those nearest to where it ends."""
    layout = joint.layout
    points = {units: dense(element) for units, element in begin.items()}
    points = {u: share * x + (1 - share) * _centre(layout, u, x) for u, x in points.items()}
    value, draws = -np.inf, joint.relaxed(points)
    for _ in range(_MAX_STEPS):
        corners = {
            u: dense(layout.groups[u].match(score))
            for u, score in joint.scores(points, draws).items()
        }
        steps = joint.along(points, draws, corners)
        length, reached = _highest(joint.agreement(steps))
        points = {u: x + length * (corners[u] - x) for u, x in points.items()}
        draws = [_at(length, coefficients) for coefficients in steps]
        if reached - value <= _STANDSTILL * abs(reached):
            break
        value = reached
    return {u: layout.groups[u].match(Score(x[0], x[1])) for u, x in points.items()}


def _at(share: float, coefficients: list[Array]) -> Array:
    """Return the draws some way along a step."""
    total = coefficients[0]
    for degree, part in enumerate(coefficients[1:], start=1):
        total = total + share**degree * part
    return total


def _most(layout: Layout) -> int:
    """Return how many draws are matched at once: as many as fit."""
    sizes = layout.sizes
    numbers = sum(k * (2 * k + len(layout.columns[u])) for u, k in sizes.items())
    numbers += sum(sizes[p.units[0]] * sizes[p.units[1]] * p.width for p in layout.pairs)
    return max(2, _NUMBERS // numbers)


def _centre(layout: Layout, units: str, points: Array) -> Array:
    """Mean of all elements of a set: no sign, and every unit in every slot alike."""
    centre = np.full_like(points, 1 / points.shape[-1])
    if layout.groups[units].signs:
        centre[1] = 0.0
    return centre


@dataclass(frozen=True)
class _Joint:
    """Some draws, in units in which all squared distances have the weight one.

    Attributes
    ----------
    layout : Layout
    own : dict of str to ndarray of shape (draws, K, R)
    pairs : list of ndarray of shape (draws, K1, K2, R)
    rest : list of ndarray
        Sums of the draws that stay where they are: first of all sets, then of all pairs.
    """

    layout: Layout
    own: dict[str, Array]
    pairs: list[Array]
    rest: list[Array]

    @classmethod
    def of(
        cls, block: Block, layout: Layout, reference: Reference, n_draws: int, begin: Elements
    ) -> _Joint:
        """Scale the draws, and take them out of the sums over all draws."""
        roots = {u: np.sqrt(_weights(reference, u)) for u in layout.sizes}
        own = {u: layout.features(block, u) * root for u, root in roots.items()}
        scales = [math.sqrt(weight) for weight in reference.pair_weight]
        pairs = [x * scale for x, scale in zip(block.pairs, scales, strict=True)]
        means = [reference.own[u] * root for u, root in roots.items()]
        means += [m * scale for m, scale in zip(reference.pairs, scales, strict=True)]
        alone = cls(layout, own, pairs, [])
        now = alone.relaxed({units: dense(element) for units, element in begin.items()})
        rest = [n_draws * m - x.sum(axis=0) for m, x in zip(means, now, strict=True)]
        return replace(alone, rest=rest)

    def relaxed(self, points: Relaxed) -> list[Array]:
        """All sets, then all pairs, of all draws under mixtures of elements."""
        found = [self._turned(u, x) for u, x in points.items()]
        for number, pair in enumerate(self.layout.pairs):
            one, two = (points[u][int(s)] for u, s in zip(pair.units, pair.signed, strict=True))
            found.append(_on_second(two, _on_first(one, self.pairs[number])))
        return found

    def along(self, points: Relaxed, draws: list[Array], corners: Relaxed) -> list[list[Array]]:
        """Coefficients of the draws as polynomials of the length of a step, by rising degree."""
        step = {u: corners[u] - x for u, x in points.items()}
        n_sets = len(self.layout.sizes)
        found = [[x, self._turned(u, step[u])] for x, u in zip(draws, step, strict=False)]
        for number, pair in enumerate(self.layout.pairs):
            sides = [(u, int(s)) for u, s in zip(pair.units, pair.signed, strict=True)]
            (one, up), (two, across) = ((points[u][s], step[u][s]) for u, s in sides)
            turned = _on_first(up, self.pairs[number])
            first = _on_second(two, turned)
            first += _on_second(across, _on_first(one, self.pairs[number]))
            found.append([draws[n_sets + number], first, _on_second(across, turned)])
        return found

    def agreement(self, steps: list[list[Array]]) -> Array:
        """Coefficients of the agreement along a step, by rising degree."""
        total = np.zeros(5)
        for parts, rest in zip(steps, self.rest, strict=True):
            sums = [part.sum(axis=0) for part in parts]
            sums[0] = sums[0] + rest
            for d, e in itertools.product(range(len(parts)), repeat=2):
                total[d + e] += 0.5 * (np.vdot(sums[d], sums[e]) - np.vdot(parts[d], parts[e]))
        return total

    def scores(self, points: Relaxed, draws: list[Array]) -> dict[str, Score]:
        """Score the units of every draw against the sums of the others."""
        others = [x.sum(axis=0) + r - x for x, r in zip(draws, self.rest, strict=True)]
        found = {u: [np.zeros(x.shape[1:]), np.zeros(x.shape[1:])] for u, x in points.items()}
        for number, (units, features) in enumerate(self.own.items()):
            signed = self.layout.signed(units)
            for parity, chosen in enumerate((~signed, signed)):
                if chosen.any():
                    turned = features[..., chosen].swapaxes(1, 2)
                    found[units][parity] += others[number][..., chosen] @ turned
        for number, pair in enumerate(self.layout.pairs):
            array, other = self.pairs[number], others[len(self.own) + number]
            (one, first), (two, second) = (
                (u, int(s)) for u, s in zip(pair.units, pair.signed, strict=True)
            )
            half = _on_second(points[two][second], array)
            found[one][first] += _flat(other) @ _flat(half).swapaxes(1, 2)
            half = _on_first(points[one][first], array)
            found[two][second] += _flat(other.swapaxes(1, 2)) @ _flat(half.swapaxes(1, 2)).swapaxes(
                1, 2
            )
        return {u: Score(even, odd) for u, (even, odd) in found.items()}

    def _turned(self, units: str, point: Array) -> Array:
        """Own features of one set under mixtures of elements."""
        features, signed = self.own[units], self.layout.signed(units)
        if signed.all():
            turned: Array = point[1] @ features
        elif not signed.any():
            turned = point[0] @ features
        else:
            turned = np.where(signed, point[1] @ features, point[0] @ features)
        return turned


def _weights(reference: Reference, units: str) -> Array:
    """Weights of squared differences; those of slots that have their own are averaged."""
    if units in reference.precision:
        weights: Array = 0.5 * reference.precision[units].mean(axis=0)
        return weights
    return reference.weight[units]


def _flat(array: Array) -> Array:
    """Everything but draws and the first axis of units in one axis."""
    return array.reshape(*array.shape[:2], -1)


def _on_first(points: Array, array: Array) -> Array:
    """Mix the units on the first axis of a pair."""
    mixed: Array = (points @ _flat(array)).reshape(array.shape)
    return mixed


def _on_second(points: Array, array: Array) -> Array:
    """Mix the units on the second axis of a pair."""
    if array.shape[3] == 1:
        return (array[..., 0] @ points.swapaxes(1, 2))[..., None]
    return _on_first(points, array.swapaxes(1, 2)).swapaxes(1, 2)


def _highest(coefficients: Array) -> tuple[float, float]:
    """Return where a polynomial is highest between 0 and 1, and its value there."""
    slope = np.arange(1, len(coefficients)) * coefficients[1:]
    roots = np.roots(slope[::-1])
    inside = roots.real[(np.abs(roots.imag) < 1e-9) & (roots.real > 0) & (roots.real < 1)]
    lengths = np.concatenate([[0.0, 1.0], inside])
    values = np.polyval(coefficients[::-1], lengths)
    best = int(values.argmax())
    return float(lengths[best]), float(values[best])
