"""The draws as criteria see them: features of single units, and pairs of sets of units.

A variable with one axis of units becomes *own features* of these units: an array
``(draws, K, R)`` with the remaining axes flattened. A variable with two (the weights between two
hidden layers, a transition matrix) is a *pair*: ``(draws, K1, K2, R)``. One that is several blocks
(stacked gates) gives features or a pair for each. Both are in gauge-fixed,
centred coordinates, in which every group acts by permutations and signs alone.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from relabel.errors import SpecError
from relabel.groups import Group
from relabel.groups.elements import Dense, Element
from relabel.models.loadings import loadings_of, rotations_of
from relabel.models.network import Network
from relabel.numerics.assignment import settle_gauges
from relabel.spec.centring import centred
from relabel.spec.spec import Bound, BoundVariable
from relabel.spec.transformation import sum_over_units

__all__ = [
    "ActivationProblem",
    "Block",
    "Column",
    "Layout",
    "Pair",
    "Problem",
    "Source",
    "Way",
    "layer_size",
    "slices_of",
]

Array = NDArray[Any]

# Size of the largest array of a block: several of them should stay in the cache, and all of them
# together small beside the draws.
_LEAST_BYTES, _MOST_BYTES, _SHARE = 2**18, 2**22, 1 / 32


@dataclass(frozen=True)
class Column:
    """One own feature: its variable, position in it, whether it flips, whether it is incoming."""

    variable: str
    position: int
    signed: bool
    incoming: bool


@dataclass(frozen=True)
class Pair:
    """One variable, or part of one, between two sets of units; whether it flips with either.

    `width` is how many entries there are for each two units.
    """

    variable: str
    units: tuple[str, str]
    signed: tuple[bool, bool]
    incoming: tuple[bool, bool]
    part: int = 0
    width: int = 1

    @property
    def two_sided(self) -> bool:
        """Whether both axes carry the same units."""
        return self.units[0] == self.units[1]


@dataclass(frozen=True)
class Layout:
    """What the features of every block mean.

    Attributes
    ----------
    sizes : dict of str to int
        Number of units of each set.
    groups : dict of str to Group
    columns : dict of str to tuple of Column
        Own features of each set, in order.
    pairs : tuple of Pair
    centre : dict of str to ndarray of shape (R,)
        Subtracted from own features before they are compared: no distance changes by it, but
        digits are kept where features lie far from zero. Zero for features that flip.
    """

    sizes: dict[str, int]
    groups: dict[str, Group]
    columns: dict[str, tuple[Column, ...]]
    pairs: tuple[Pair, ...]
    centre: dict[str, Array] = field(default_factory=dict)

    def features(self, block: Block, units: str) -> Array:
        """Own features of one set, centred, shape (draws, K, R)."""
        values, centre = block.own[units], self.centre.get(units)
        return values if centre is None or not centre.any() else values - centre

    def signed(self, units: str) -> Array:
        """Which own features flip with their unit: bool of shape (R,)."""
        return np.array([column.signed for column in self.columns[units]], dtype=bool)

    def touching(self, units: str) -> list[tuple[int, int]]:
        """Return (pair, side) of every pair with one side in these units, not both."""
        return [
            (p, side)
            for p, pair in enumerate(self.pairs)
            for side in (0, 1)
            if pair.units[side] == units and not pair.two_sided
        ]

    def neighbours(self, units: str) -> set[str]:
        """Return the sets whose scores depend on the labels of these units."""
        return {other for p in self.pairs if units in p.units for other in p.units} - (
            set() if self.two_sided(units) else {units}
        )

    def two_sided(self, units: str) -> list[int]:
        """Return the pairs both sides of which are these units."""
        return [p for p, q in enumerate(self.pairs) if q.two_sided and q.units[0] == units]

    def informed_order(self) -> list[str]:
        """Order the sets so that each comes when most is known that tells its units apart.

        That is the number of features that its units have by themselves, or share with sets that
        come before. The order in which the sets were declared decides only where these are equal.
        """
        known = {units: len(self.columns[units]) for units in self.sizes}
        order: list[str] = []
        while known:
            nearest = max(known, key=lambda units: known[units])
            order.append(nearest)
            del known[nearest]
            for number, side in self.touching(nearest):
                pair = self.pairs[number]
                if pair.units[1 - side] in known:
                    known[pair.units[1 - side]] += self.sizes[nearest] * pair.width
        return order

    @property
    def coupled(self) -> bool:
        """Whether the sets of units cannot be matched one by one."""
        return bool(self.pairs)


@dataclass(frozen=True)
class Block:
    """The features of some draws.

    Attributes
    ----------
    own : dict of str to ndarray of shape (draws, K, R)
    pairs : tuple of ndarray of shape (draws, K1, K2, R)
    norms : tuple of pairs of ndarray, shapes (draws, K1) and (draws, K2)
        Squared norms of the units on either side of each pair.
    beside : dict of str to ndarray
        What criteria read that is no feature of a unit (allocations), draws first.
    fixed : dict of str to ndarray
        Likewise, the same in every draw (data, a pivot).
    memo : dict of str to ndarray
        A few numbers per draw that a criterion works out once.
    """

    own: dict[str, Array]
    pairs: tuple[Array, ...]
    norms: tuple[tuple[Array, Array], ...]
    beside: dict[str, Array] = field(default_factory=dict)
    fixed: dict[str, Array] = field(default_factory=dict)
    memo: dict[str, Array] = field(default_factory=dict)

    @classmethod
    def of(cls, own: dict[str, Array], pairs: tuple[Array, ...]) -> Block:
        """Build a block, working out the norms."""
        norms = []
        for array in pairs:
            squares = np.einsum("dijr,dijr->dij", array, array)
            norms.append((squares.sum(axis=2), squares.sum(axis=1)))
        return cls(own, pairs, tuple(norms))

    def __len__(self) -> int:
        """Return the number of draws."""
        return len(next(iter(self.own.values())))

    def __getitem__(self, rows: Any) -> Block:
        """Select draws."""
        return Block(
            {units: array[rows] for units, array in self.own.items()},
            tuple(array[rows] for array in self.pairs),
            tuple((one[rows], two[rows]) for one, two in self.norms),
            {name: array[rows] for name, array in self.beside.items()},
            self.fixed,
        )


@dataclass(frozen=True)
class Way:
    """How one set of units is matched.

    Attributes
    ----------
    group : Group
        What is left to match.
    rotation : {"none", "varimax", "varimax-kaiser"}
        How every draw is rotated before.
    """

    group: Group
    rotation: str = "none"

    @classmethod
    def of(cls, bound: Bound, units: str) -> Way:
        """Return what the spec says."""
        group, gauge = bound.group(units), bound.gauge(units)
        return cls(group.remaining(gauge), gauge) if group.rotates and gauge else cls(group)


class Source(Protocol):
    """Where the loop takes features from, block by block."""

    layout: Layout
    n_draws: int

    @property
    def slices(self) -> list[slice]:
        """The draws of every block."""

    def block(self, number: int) -> Block:
        """Features of one block."""

    def draw(self, row: int) -> Block:
        """Features of one draw."""


class Problem:
    """All draws that are to be aligned, block by block.

    Parameters
    ----------
    bound : Bound
        The spec, bound to the data.
    arrays : mapping of str to ndarray of shape (draws, ...)
        Every declared variable of the posterior, one draw after the other.
    variables : sequence of str, optional
        Variables to match on; all by default.
    block_size : int, optional
        Draws in a block; by default as many as keep a block in the cache.
    ways : mapping of str to Way, optional
        Units -> how their rotation is fixed and what is left to match; as the spec says by default.
    spreads : collection of str, optional
        Standard deviations that help to fix scales: the norms are then those of second moments.
    """

    def __init__(
        self,
        bound: Bound,
        arrays: Mapping[str, Array],
        variables: Sequence[str] | None = None,
        block_size: int | None = None,
        ways: Mapping[str, Way] | None = None,
        spreads: Collection[str] = (),
    ) -> None:
        self.bound = bound
        self.spreads = tuple(spreads)
        self.ways = {u: Way.of(bound, u) for u in bound.sizes} | dict(ways or {})
        self.arrays = arrays
        self.n_draws = len(next(iter(arrays.values())))
        largest = max(
            [int(np.prod(a.shape[1:])) for a in arrays.values()]
            + [size**2 for size in bound.sizes.values()]
        )
        self.block_size = block_size or self.block_size_for(8 * largest)
        self.used = _used_variables(bound, variables)
        self.layout = _layout(bound, self.used, {u: way.group for u, way in self.ways.items()})
        self._blocks: dict[int, Block] = {}

    def block_size_for(self, bytes_a_draw: int) -> int:
        """How many draws make a block."""
        share = int(_SHARE * sum(array.nbytes for array in self.arrays.values()))
        return max(1, min(_MOST_BYTES, max(_LEAST_BYTES, share)) // bytes_a_draw)

    @property
    def slices(self) -> list[slice]:
        """The draws of every block."""
        return slices_of(self.n_draws, self.block_size)

    @cached_property
    def scales(self) -> dict[str, Array]:
        """Gauge of every set of units that has one: positive scales of shape (draws, K)."""
        groups = {u: self.bound.group(u) for u in self.bound.sizes}
        gauged = {u: g for u, g in groups.items() if g.gauges() and not g.rotates}
        if not gauged:
            return {}
        gauges = {u: partial(group.gauge, str(self.bound.gauge(u))) for u, group in gauged.items()}
        parts = []
        for rows in self.slices:
            terms = [
                (self._centred(v, rows) ** 2, _powers(v, gauged, self.spreads))
                for v in self.bound.measured()
                if not v.carried and any(v_units in gauged for _, v_units, _ in v.unit_axes())
            ]
            parts.append(settle_gauges(terms, self.bound.sizes, gauges))
        return {u: np.concatenate([part[u] for part in parts]) for u in gauged}

    @cached_property
    def rotations(self) -> dict[str, Dense]:
        """Gauge of every set of units that varimax rotates: elements of shape (draws,)."""
        found = {}
        for units, way in self.ways.items():
            if way.rotation != "none":
                loadings = loadings_of(self.bound, units, among=self.used)
                values = self._values(loadings, slice(0, self.n_draws))
                found[units] = Dense(rotations_of(loadings, values, way.rotation))
        return found

    def array(self, variable: BoundVariable, rows: slice) -> Array:
        """One variable in centred, gauge-fixed coordinates, shape (draws, *axes)."""
        return self._rescaled(variable, self._centred(variable, rows), rows)

    def _rescaled(self, variable: BoundVariable, values: Array, rows: slice) -> Array:
        """Bring values of one variable to the gauge."""
        for axis, units, action in variable.unit_axes():
            if units in self.rotations and action.signed:
                values = self.rotations[units][rows].act(values, axis)
            if units in self.scales and action.power != 0:
                scale = self.scales[units][rows] ** action.power
                shape = [len(scale)] + [1] * len(variable.axes)
                shape[axis + 1] = -1
                values = values * scale.reshape(shape)
        return values

    def _centred(self, variable: BoundVariable, rows: slice) -> Array:
        """One variable with the biases of affine units centred: c + sum(v) / 2."""
        values = self._values(variable, rows)
        for shift in self.bound.shifts:
            if shift.bias == variable:
                reader = self._values(shift.reader, rows)
                halves = np.full((len(values), self.bound.sizes[shift.units]), 0.5)
                values = values + sum_over_units(shift, reader, halves)
        return values

    def gauged(self, rows: slice) -> dict[str, Array]:
        """Every variable, by `key`, in its gauge, not centred: what the network evaluates."""
        return {
            v.key: self._rescaled(v, self._values(v, rows), rows) for v in self.bound.measured()
        }

    def _values(self, variable: BoundVariable, rows: slice) -> Array:
        """One variable, in float64, shape (draws, *axes), less what a centred axis does not see."""
        values = centred(self.bound, variable, variable.of(self.arrays[variable.name][rows]))
        return values.astype(float, copy=False)

    def block(self, number: int) -> Block:
        """Features of one block, made once and kept."""
        if number not in self._blocks:
            self._blocks[number] = self._make_block(self.slices[number])
        return self._blocks[number]

    def draw(self, row: int) -> Block:
        """Features of one draw."""
        return self._make_block(slice(row, row + 1))

    def selected(self, rows: Array) -> Problem:
        """Lay some of the draws out, to match on the same variables."""
        return self.of({name: array[rows] for name, array in self.arrays.items()})

    def of(self, arrays: Mapping[str, Array]) -> Problem:
        """Lay other draws out, to match on the same variables."""
        return Problem(
            self.bound, arrays, [v.name for v in self.used], ways=self.ways, spreads=self.spreads
        )

    def _make_block(self, rows: slice) -> Block:
        own: dict[str, list[Array]] = {units: [] for units in self.layout.sizes}
        pairs = []
        for variable in self.used:
            values = self.array(variable, rows)
            units = variable.unit_axes()
            front = [axis + 1 for axis, _, _ in units]
            values = np.moveaxis(values, front, range(1, 1 + len(front)))
            values = values.reshape(*values.shape[: 1 + len(front)], -1)
            if len(units) == 1:
                own[units[0][1]].append(values)
            else:
                pairs.append(values)
        n = rows.stop - rows.start
        joined = {
            u: np.concatenate(parts, axis=2) if parts else np.zeros((n, self.layout.sizes[u], 0))
            for u, parts in own.items()
        }
        return Block.of(joined, tuple(pairs))


class ActivationProblem:
    """The same draws, seen through what their units compute on probe inputs.

    A unit's activations do not depend on the labels of the units before it, so there are no pairs
    and every set of units stands by itself. Those of affine-flip units are centred at 1/2, where
    a flip is a change of sign.

    Parameters
    ----------
    problem : Problem
        The draws.
    network : Network
        Their forward pass.
    inputs : ndarray of shape (n, n_inputs)
        Where the units are evaluated.
    """

    def __init__(self, problem: Problem, network: Network, inputs: Array) -> None:
        self.problem, self.network, self.inputs = problem, network, inputs
        self.n_draws = problem.n_draws
        widest = max(layer_size(problem.bound, layer.name) for layer in network.layers)
        self.block_size = problem.block_size_for(8 * widest * len(inputs))
        groups, columns = problem.layout.groups, {}
        for units, group in groups.items():
            action = group.action("tail")
            signed = action is not None and action.signed
            columns[units] = tuple(Column(units, i, signed, True) for i in range(len(inputs)))
        self.layout = Layout(problem.layout.sizes, groups, columns, ())

    @property
    def slices(self) -> list[slice]:
        """The draws of every block."""
        return slices_of(self.n_draws, self.block_size)

    def block(self, number: int) -> Block:
        """Features of one block."""
        return self._make_block(self.slices[number])

    def draw(self, row: int) -> Block:
        """Features of one draw."""
        return self._make_block(slice(row, row + 1))

    def _make_block(self, rows: slice) -> Block:
        values = self.network.activations(self.problem.gauged(rows), self.inputs)
        own = {}
        for units, group in self.layout.groups.items():
            centre = 0.5 if group.shifts else 0.0
            own[units] = np.ascontiguousarray(values[units].swapaxes(1, 2) - centre)
        return Block.of(own, ())


def layer_size(bound: Bound, name: str) -> int:
    """Size of a named axis; 1 for an output that has none."""
    return next((a.size for v in bound.variables for a in v.axes if a.name == name), 1)


def slices_of(n_draws: int, block_size: int) -> list[slice]:
    """Cut the draws into blocks."""
    starts = range(0, n_draws, block_size)
    return [slice(start, min(start + block_size, n_draws)) for start in starts]


def _used_variables(bound: Bound, names: Sequence[str] | None) -> list[BoundVariable]:
    """Variables of the posterior to match on."""
    found = [v for v in bound.measured() if v.unit_axes()]
    if names is None:
        found = [v for v in found if not v.carried]
    else:
        unknown = set(names) - {v.name for v in found}
        if unknown:
            raise SpecError(
                f"criterion: variables {sorted(unknown)} carry no units; "
                f"there are {', '.join(dict.fromkeys(v.name for v in found))}"
            )
        found = [v for v in found if v.name in names]
    for variable in found:
        if len(variable.unit_axes()) > 2:
            raise SpecError(
                f"variable {variable.name!r} has {len(variable.unit_axes())} axes of units; units "
                "are matched on variables with one or two: name the others in variables=(...)"
            )
    for units in bound.sizes:
        if not any(units == u for v in found for _, u, _ in v.unit_axes()):
            carried = [v.name for v in bound.measured() if v.carried and names is None]
            also = ", ".join(dict.fromkeys(carried))
            also = f"; {also} (three axes of units, or a covariance) is carried along only"
            raise SpecError(
                f"no variable to match on carries the units {units!r}{also if carried else ''}"
            )
    return found


def _layout(bound: Bound, used: Sequence[BoundVariable], groups: Mapping[str, Group]) -> Layout:
    columns: dict[str, list[Column]] = {units: [] for units in bound.sizes}
    pairs = []
    for variable in used:
        axes = variable.unit_axes()
        incoming = tuple(variable.axes[axis].role == "head" for axis, _, _ in axes)
        if len(axes) == 1:
            _, units, action = axes[0]
            n_features = int(np.prod(variable.shape)) // bound.sizes[units]
            first = sum(column.variable == variable.name for column in columns[units])
            columns[units] += [
                Column(variable.name, first + i, action.signed, incoming[0])
                for i in range(n_features)
            ]
        else:
            (_, here, one), (_, there, two) = axes
            if groups[here].rotates or groups[there].rotates:
                raise SpecError(
                    f"variable {variable.name!r} has two axes of units, and units that rotate are "
                    "matched on variables with one: name these in variables=(...), or fix the "
                    "rotation by the gauge varimax"
                )
            pairs.append(
                Pair(
                    variable.name,
                    (here, there),
                    (one.signed, two.signed),
                    (incoming[0], incoming[1]),
                    variable.part,
                    math.prod(variable.shape) // (bound.sizes[here] * bound.sizes[there]),
                )
            )
    return Layout(
        bound.sizes, dict(groups), {u: tuple(c) for u, c in columns.items()}, tuple(pairs)
    )


def _powers(
    variable: BoundVariable, gauged: Mapping[str, Group], spreads: Collection[str]
) -> tuple[tuple[str | None, int], ...]:
    """Units and power of the scale on every axis, for the gauges.

    A companion written with an exponent or between bars follows the scale, but does not help to fix
    it, unless it is one of the `spreads`. Nor do biases, where the group says so.
    """
    reads = bool(variable.between()[0])
    counting = {units for units, group in gauged.items() if reads or group.biases_count}
    return tuple(
        (axis.units, axis.action.power)
        if axis.units in counting and (axis.follows_as_weights or variable.name in spreads)
        else (None, 0)
        for axis in variable.axes
    )


def aligned_own(block: Block, layout: Layout, units: str, element: Element) -> Array:
    """Own features of one set in slot order, centred, shape (draws, K, R)."""
    features = layout.features(block, units)
    return element.act_on_features(features, layout.signed(units))


def aligned_pair(
    block: Block, layout: Layout, number: int, elements: Mapping[str, Element]
) -> Array:
    """One pair in slot order on both sides, shape (draws, K1, K2, R)."""
    pair, values = layout.pairs[number], block.pairs[number]
    for side in (0, 1):
        values = elements[pair.units[side]].act(values, side, power=0, signed=pair.signed[side])
    return values
