r"""Matching units that stand on both sides of an array: a quadratic assignment for every draw.

With X the matrix of an element (slots by units, entries 0 and ±1), |X| its absolute values, and F,
F' either of them as the two sides flip or do not, a draw gains

.. math:: \langle L, X \rangle + \sum_p \langle F_p A_p F'^{\mathsf{T}}_p, M_p \rangle,

A its arrays, M those of the reference, L what is linear (own features, variables shared with other
sets of units). Squared norms do not depend on X. No method is exact at little cost, so this is a
local search: Frank-Wolfe on the relaxed problem, then exchanges of two units and changes of two
signs until none gains. Groups that are small enough are listed instead.

References
----------
Koopmans, T. C. & Beckmann, M. (1957). Assignment problems and the location of economic activities.
*Econometrica* 25(1), 53-76. https://doi.org/10.2307/1907742
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel.groups import Group, Score
from relabel.groups.elements import Monomial, monomial

__all__ = [
    "MAX_STEPS",
    "STANDSTILL",
    "Quadratic",
    "Stack",
    "best_step",
    "dense",
    "inner",
    "listed",
    "order_of",
    "whole_group",
]

Array = NDArray[Any]

_LARGEST_LISTED = 5040  # elements of a group small enough to try them all: 7!, and 2^5 5! = 3840
MAX_STEPS = 30  # of Frank-Wolfe, as in scipy.optimize.quadratic_assignment
STANDSTILL = 0.03  # root mean squared change of a row of X at which it stops, likewise
_EXCHANGES = 20  # bound on the exchanges, per unit
_NUMBERS = 2**18  # of gains of all elements, and of their terms, held at once

#: Two units of a pair of slots exchanged (or not), and the signs that either is then given.
_MOVES = ((True, 1, 1), (True, -1, 1), (True, -1, -1), (False, -1, 1), (False, -1, -1))


@dataclass(frozen=True)
class Stack:
    """Two-sided arrays of one kind, stacked and weighted: the gain is the product with `mean`.

    Attributes
    ----------
    array : ndarray of shape (draws, K, K, R)
        The draws.
    mean : ndarray of shape (K, K, R)
        The reference.
    signed : tuple of bool
        Whether the entries flip with the unit on either side.
    """

    array: Array
    mean: Array
    signed: tuple[bool, bool]

    def __getitem__(self, rows: Array) -> Stack:
        """Select draws."""
        return Stack(self.array[rows], self.mean, self.signed)

    def slopes(self, first: Array, second: Array) -> tuple[Array, Array]:
        """Gradients of the gain in what acts on either side, all of shape (draws, K, K)."""
        n, k, _, r = self.array.shape
        by_first = self.array.transpose(0, 1, 3, 2).reshape(n, k, -1)
        by_second = self.array.transpose(0, 2, 3, 1).reshape(n, k, -1)
        one = self.mean.reshape(k, -1) @ (second @ by_second).reshape(n, k * r, k)
        other = self.mean.transpose(1, 0, 2).reshape(k, -1)
        return one, other @ (first @ by_first).reshape(n, k * r, k)

    def moved(self, element: Monomial) -> Array:
        """The arrays in slot order."""
        array = element.act(self.array, 0, power=0, signed=self.signed[0])
        return element.act(array, 1, power=0, signed=self.signed[1])

    def table(self, everything: Monomial) -> Array:
        """The reference under the inverse of every element of a list, shape (elements, K K R)."""
        inverse = everything.inverse()
        table = np.broadcast_to(self.mean, (len(everything.index), *self.mean.shape))
        for side in (0, 1):
            table = inverse.act(table, side, power=0, signed=self.signed[side])
        return table.reshape(len(table), -1)

    def profiles(self) -> tuple[Array, Array]:
        """Return what no permutation of the other units changes, for units and for slots.

        The entry on the diagonal, the sorted rows and the sorted columns, halved in weight because
        every entry lies in one of each; absolute values where signs act. Shapes (draws, K, F) and
        (K, F).
        """
        return self._profiles(self.array), self._profiles(self.mean[None])[0]

    def _profiles(self, array: Array) -> Array:
        n, k = array.shape[:2]
        values = np.abs(array) if any(self.signed) else array
        own = np.einsum("nkkr->nkr", array if self.signed[0] == self.signed[1] else values)
        others = ~np.eye(k, dtype=bool)
        lines = [own]
        for side in (values, values.swapaxes(1, 2)):
            rows = np.sort(side[:, others].reshape(n, k, k - 1, -1), axis=2)
            lines.append(rows.reshape(n, k, -1) * math.sqrt(0.5))
        return np.concatenate(lines, axis=2)


@dataclass(frozen=True)
class Quadratic:
    """Quadratic assignments: one set of units in some draws, the other sets held fixed.

    Attributes
    ----------
    group : Group
    linear : Score
        What is linear in the element.
    stacks : sequence of Stack
        What is quadratic.

    Examples
    --------
    Three states in a draw that has them in another order than the reference.

    >>> import numpy as np
    >>> from relabel.groups import Permutation
    >>> mean = np.array([[0.8, 0.2, 0.0], [0.0, 0.7, 0.3], [0.4, 0.0, 0.6]])
    >>> draw = mean[[2, 0, 1]][:, [2, 0, 1]]
    >>> nothing = Score(np.zeros((1, 3, 3)), np.zeros((1, 3, 3)))
    >>> stack = Stack(draw[None, :, :, None], mean[:, :, None], (False, False))
    >>> problem = Quadratic(Permutation(), nothing, [stack])
    >>> problem.best().index, problem.by_profiles().index
    (array([[1, 2, 0]]), array([[1, 2, 0]]))
    """

    group: Group
    linear: Score
    stacks: Sequence[Stack]

    def __len__(self) -> int:
        """Return the number of draws."""
        return len(self.linear.even)

    def __getitem__(self, rows: Array) -> Quadratic:
        """Select draws."""
        if len(rows) == len(self):
            return self
        linear = Score(self.linear.even[rows], self.linear.odd[rows])
        return Quadratic(self.group, linear, [stack[rows] for stack in self.stacks])

    def gain(self, element: Monomial) -> Array:
        """Gain of one element per draw, but for what no element changes; shape (draws,)."""
        total = self.linear.of(element)
        for stack in self.stacks:
            total = total + stack.moved(element).reshape(len(self), -1) @ stack.mean.reshape(-1)
        return total

    # -------------------------------------------------------------- small groups

    def of_all(self, everything: Monomial, tables: Sequence[Array] | None = None) -> Array:
        """Gain of every element of a list for every draw, shape (draws, elements)."""
        if not self.stacks:
            slots, sign = np.arange(everything.size), np.where(everything.factor < 0, -1.0, 1.0)
            even, odd = (part[:, slots, everything.index] for part in self.linear)
            alone: Array = (even + sign * odd).sum(axis=-1)
            return alone
        parts = [*self.linear, *(stack.array for stack in self.stacks)]
        total = np.zeros((len(self), len(everything.index)))
        for part, table in zip(parts, tables or self._tables(everything), strict=True):
            total += part.reshape(len(self), -1) @ table.T
        return total

    def _tables(self, everything: Monomial) -> list[Array]:
        """What every element multiplies each part of the score by, shapes (elements, numbers)."""
        matrices = dense(everything).reshape(2, len(everything.index), -1)
        return [*matrices, *(stack.table(everything) for stack in self.stacks)]

    def best(self) -> Monomial:
        """The best element of every draw, all of them tried."""
        size = self.linear.even.shape[1]
        everything = whole_group(self.group, size)
        width = size * size * max((stack.mean.shape[2] for stack in self.stacks), default=1)
        best, chosen = np.full(len(self), -np.inf), np.zeros(len(self), int)
        for part in _parts(len(everything.index), _NUMBERS // width):
            some = everything[part]
            tables = self._tables(some)
            for rows in _parts(len(self), _NUMBERS // (len(part) * size)):
                gain = self[rows].of_all(some, tables)
                here = gain.argmax(axis=1)
                most = gain[np.arange(len(rows)), here]
                better = most > best[rows]
                chosen[rows] = np.where(better, part[here], chosen[rows])
                best[rows] = np.where(better, most, best[rows])
        return everything[chosen]

    # -------------------------------------------------------------- local search

    def improved(self, element: Monomial, tolerance: Array, *, exchanging: bool = True) -> Monomial:
        """Improve every element: to the best one, or by a match, or else by exchanges that gain.

        `tolerance` is the gain that is only rounding, shape (draws,). Elements that none of these
        improves are returned as they are.
        """
        if listed(self.group, element.size):
            fresh, exchanging = self.best(), False
        else:
            even, odd = self._slope(dense(element))
            score = Score(self.linear.even + even, self.linear.odd + odd)
            fresh = monomial(self.group.match(score))
        gained = self.gain(fresh) - self.gain(element) > tolerance
        result = fresh.where(gained, element)
        rows = np.flatnonzero(~gained)
        if exchanging and rows.size:
            result.put(rows, self[rows].exchanged(element[rows], tolerance[rows]))
        return result

    def exchanged(self, element: Monomial, tolerance: Array) -> Monomial:
        """Exchange two units, or change two signs, the best way first, until nothing gains."""
        element, active, some = element.copy(), np.arange(len(self)), self
        for _ in range(_EXCHANGES * element.size if element.size > 1 else 0):
            gain, turn = some._best_exchange(element[active])
            better = np.flatnonzero(gain > tolerance[active])
            if not better.size:
                break
            active, some = active[better], some[better]
            element.put(active, turn[better] @ element[active])
        return element

    def relaxed(self, begin: Array) -> Monomial:
        r"""Frank-Wolfe with exact line search on the convex hull of the group, then round.

        The hull is that of pairs of an even part E, doubly stochastic, and an odd part O with
        :math:`|O| \le E`; the gain is quadratic in both, and its gradient is a :class:`Score`,
        which the group matches to find the best corner.

        Parameters
        ----------
        begin : ndarray of shape (2, draws, K, K)
            E and O to begin from.

        References
        ----------
        Vogelstein, J. T. et al. (2015). Fast approximate quadratic programming for graph matching.
        *PLOS ONE* 10(4), e0121002. https://doi.org/10.1371/journal.pone.0121002
        """
        result, active, some = begin.copy(), np.arange(len(self)), self
        point, slope = begin, self._slope(begin)
        for _ in range(MAX_STEPS):
            corner = dense(some.group.match(Score(*(np.stack(some.linear) + slope))))
            bend = some._slope(corner) - slope
            direction = corner - point
            rise = inner(np.stack(some.linear) + slope, direction)
            share = best_step(rise, 0.5 * inner(bend, direction))
            point = point + share[:, None, None] * direction
            slope = slope + share[:, None, None] * bend
            result[:, active] = point
            moving = share**2 * inner(direction[:1], direction[:1]) > (
                STANDSTILL**2 * point.shape[-1]
            )
            if not moving.any():
                break
            rows = np.flatnonzero(moving)
            active, some = active[rows], some[rows]
            point, slope = point[:, rows], slope[:, rows]
        return monomial(self.group.match(Score(*result)))

    def centre(self) -> Array:
        """The mean of all elements, as :meth:`relaxed` takes it."""
        size = self.linear.even.shape[1]
        even = np.full(self.linear.even.shape, 1.0 / size)
        return np.stack([even, np.zeros_like(even) if self.group.signs else even])

    def by_profiles(self) -> Monomial:
        """Match by what is linear and by the profiles of the units; signs by :meth:`_resigned`."""
        even = self.linear.even.copy()
        for stack in self.stacks:
            units, slots = stack.profiles()
            even += slots @ units.swapaxes(1, 2)
            even -= 0.5 * ((units**2).sum(axis=2)[:, None] + (slots**2).sum(axis=1)[:, None])
        element = monomial(self.group.match(Score(even, self.linear.odd)))
        return self._resigned(element) if self.group.signs else element

    def _resigned(self, element: Monomial) -> Monomial:
        """Give the slots the signs of the leading eigenvector of what they gain with one another.

        With the units of the slots fixed, the gain is s' Q s + h' s: a quadratic form in (s, 1).
        """
        n, size = element.index.shape
        form = np.zeros((n, size + 1, size + 1))
        sign = np.where(element.factor < 0, -1.0, 1.0)
        odd = np.take_along_axis(self.linear.odd, element.index[:, :, None], axis=2)[..., 0]
        form[:, :size, size] = odd * sign
        for stack in self.stacks:
            gain = np.einsum("nklr,klr->nkl", stack.moved(element), stack.mean)
            if all(stack.signed):
                form[:, :size, :size] += gain + gain.swapaxes(1, 2)
            elif any(stack.signed):
                form[:, :size, size] += gain.sum(axis=2 if stack.signed[0] else 1)
        form[:, size, :size] = form[:, :size, size]
        np.einsum("nkk->nk", form)[...] = 0.0
        leading: Array = np.linalg.eigh(form)[1][:, :, -1]
        turned = (leading[:, :size] < 0) != (leading[:, size:] < 0)
        return Monomial(element.index, np.where(turned, -sign, sign))

    def _slope(self, point: Array) -> Array:
        """Gradient of what is quadratic, shape (2, draws, K, K)."""
        total = np.zeros(point.shape)
        for stack in self.stacks:
            parts = stack.slopes(*(point[int(signed)] for signed in stack.signed))
            for signed, part in zip(stack.signed, parts, strict=True):
                total[int(signed)] += part
        return total

    def _best_exchange(self, element: Monomial) -> tuple[Array, Monomial]:
        """The best exchange of every draw, and what it gains."""
        n, size = element.index.shape
        values = [_Values.of(self, element, swapping) for swapping in (False, True)]
        present = values[0].under(1, 1)
        best: Array = np.full(present.shape, -np.inf)
        which = np.zeros(present.shape, np.int8)
        for code, (swapping, one, two) in enumerate(_MOVES if self.group.signs else _MOVES[:1]):
            value = values[swapping].under(one, two)
            which[value > best] = code
            best = np.maximum(best, value)
        best = np.where(np.eye(size, dtype=bool), -np.inf, best - present).reshape(n, -1)
        rows, place = np.arange(n), best.argmax(axis=1)
        first, second = np.divmod(place, size)
        moves = np.array(_MOVES)[which.reshape(n, -1)[rows, place]]
        turn = Monomial.identity((n,), size)
        turn.index[rows, first] = np.where(moves[:, 0] == 1, second, first)
        turn.index[rows, second] = np.where(moves[:, 0] == 1, first, second)
        turn.factor[rows, first], turn.factor[rows, second] = moves[:, 1], moves[:, 2]
        return best[rows, place], turn


@dataclass
class _Values:
    r"""What every two slots *a*, *b* add to the gain, by the signs *s*, *t* they are given.

    .. math:: E_{ab} + E_{ba} + s\,O_{ab} + t\,O_{ba} + s t\,B_{ab}

    Each of shape (draws, K, K): `even` and `odd` are what slot *a* adds, `both` is symmetric.
    """

    even: Array
    odd: Array
    both: Array

    @classmethod
    def of(cls, problem: Quadratic, element: Monomial, swapping: bool) -> _Values:
        """Compute them with the units of the two slots exchanged, or as they are."""
        placed = [
            np.take_along_axis(part, element.index[:, None, :], axis=2) for part in problem.linear
        ]
        placed[1] = placed[1] * np.where(element.factor < 0, -1.0, 1.0)[:, None, :]
        if not swapping:
            placed = [np.einsum("naa->na", part)[:, :, None] for part in placed]
        shape = (len(problem), element.size, element.size)
        even, odd = (np.broadcast_to(part, shape).copy() for part in placed)
        values = cls(even, odd, np.zeros(shape))
        for stack in problem.stacks:
            values._add(stack.signed, *_outside(stack, element, swapping))
        return values

    def _add(
        self, signed: tuple[bool, bool], row: Array, column: Array, own: Array, cross: Array
    ) -> None:
        """Add the entries of one stack: along the row, the column, the diagonal, and between."""
        for flips, part in (
            (signed[0], row),
            (signed[1], column),
            (signed[0] != signed[1], own),
        ):
            if flips:
                self.odd += part
            else:
                self.even += part
        if all(signed):
            self.both += cross + cross.swapaxes(1, 2)
        elif any(signed):  # the entry between flips with the slot on the side that flips
            self.odd += cross if signed[0] else cross.swapaxes(1, 2)
        else:
            self.even += cross

    def under(self, one: int, two: int) -> Array:
        """The values under two signs."""
        first, second = self.even + one * self.odd, self.even + two * self.odd
        total: Array = first + second.swapaxes(1, 2) + (one * two) * self.both
        return total


def _outside(stack: Stack, element: Monomial, swapping: bool) -> tuple[Array, Array, Array, Array]:
    """Parts of the gain of a stack that slots *a*, *b* have a part in, each (draws, K, K).

    Along the row and along the column of slot *a*, without the entries between *a* and *b*; the
    entry of *a* itself; that of *a* and *b*.
    """
    array, mean = stack.moved(element), stack.mean
    if not swapping:
        gain = np.einsum("nabr,abr->nab", array, mean)
        own = np.einsum("naa->na", gain)[:, :, None]
        row = gain.sum(axis=2)[:, :, None] - own - gain
        column = gain.sum(axis=1)[:, :, None] - own - gain.swapaxes(1, 2)
        return row, column, np.broadcast_to(own, gain.shape), gain
    of_slots, of_units = np.einsum("aar->ar", mean), np.einsum("naar->nar", array)
    lines = []
    for left, right in ((mean, array), (mean.swapaxes(0, 1), array.swapaxes(1, 2))):
        n, k = right.shape[:2]
        line = left.reshape(k, -1) @ right.reshape(n, k, -1).swapaxes(1, 2)
        line -= np.einsum("ar,nbar->nab", of_slots, right)
        line -= np.einsum("abr,nbr->nab", left, of_units)
        lines.append(line)
    own = of_slots @ of_units.swapaxes(1, 2)
    return lines[0], lines[1], own, np.einsum("abr,nbar->nab", mean, array)


def dense(element: Any) -> Array:
    """Matrices of elements, shape (2, draws, K, K): without their signs, and with them."""
    element = monomial(element)
    result = np.zeros((2, *element.index.shape, element.size))
    places, sign = element.index[..., None], np.where(element.factor < 0, -1.0, 1.0)[..., None]
    np.put_along_axis(result[0], places, 1.0, axis=-1)
    np.put_along_axis(result[1], places, sign, axis=-1)
    return result


def inner(one: Array, two: Array) -> Array:
    """Products of (2, draws, K, K), draw by draw."""
    product: Array = np.einsum("pnkj,pnkj->n", one, two)
    return product


def best_step(rise: Array, bend: Array) -> Array:
    """Where in [0, 1] the parabola rise x + bend x^2 is highest."""
    inside = rise / np.where(bend < 0, -2.0 * bend, 1.0)
    ends = np.where(rise + bend > 0, 1.0, 0.0)
    return np.where(bend < 0, np.clip(inside, 0.0, 1.0), ends)


def _parts(n: int, step: int) -> list[Array]:
    """Cut numbers from 0 to n into runs of at least one and, if possible, at most `step`."""
    return np.array_split(np.arange(n), math.ceil(n / max(1, step)))


def order_of(group: Group, size: int) -> int:
    """Number of elements of a group of permutations, with signs or without."""
    return math.factorial(size) * (2**size if group.signs else 1)


def listed(group: Group, size: int) -> bool:
    """Whether all elements of a group may be tried."""
    return not group.rotates and order_of(group, size) <= _LARGEST_LISTED


@lru_cache(maxsize=8)
def whole_group(group: Group, size: int) -> Monomial:
    """All elements of a small group, as a batch."""
    index = np.array(list(itertools.permutations(range(size))))
    signs = (1.0, -1.0) if group.signs else (1.0,)
    factor = np.array(list(itertools.product(signs, repeat=size)))
    return Monomial(np.repeat(index, len(factor), axis=0), np.tile(factor, (len(index), 1)))
