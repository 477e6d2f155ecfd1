"""All draws as features of their units, block by block, in centred and gauge-fixed coordinates."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from relabel.errors import DataError, SpecError
from relabel.groups import Group
from relabel.groups.elements import Dense
from relabel.matching.features.layout import Block, Column, Layout, Pair
from relabel.matching.features.unconstrained import Unconstrained
from relabel.models.loadings import loadings_of, rotations_of
from relabel.numerics.assignment import settle_gauges
from relabel.numerics.ranges import safe_exponent
from relabel.spec.centring import centred_variables, means_over, subtract
from relabel.spec.gauges import centred_axis
from relabel.spec.spec import ResolvedSpec, ResolvedVariable
from relabel.spec.transformation import sum_over_units

__all__ = ["MatchingRule", "Problem", "Source", "slices_of"]

Array = NDArray[Any]

# Size of the largest array of a block: several of them should stay in the cache, and all of them
# together small beside the draws.
_LEAST_BYTES, _MOST_BYTES, _SHARE = 2**18, 2**22, 1 / 32

_MOST_OF_LOADINGS = 150  # exponent of loadings whose fourth powers are held


@dataclass(frozen=True)
class MatchingRule:
    """How one set of units is matched.

    Attributes
    ----------
    group : Group
        What is left to match.
    rotation : {"none", "varimax", "varimax-kaiser"}
        How every draw is rotated first.
    """

    group: Group
    rotation: str = "none"

    @classmethod
    def of(cls, resolved: ResolvedSpec, units: str) -> MatchingRule:
        """Return the rule that follows from the spec."""
        group, gauge = resolved.group(units), resolved.gauge(units)
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
    resolved : ResolvedSpec
        The spec, bound to the data.
    arrays : mapping of str to ndarray of shape (draws, ...)
        Every declared variable of the posterior, one draw after the other.
    var_names : sequence of str, optional
        Variables to match on; all by default.
    block_size : int, optional
        Draws in a block; by default as many as keep a block in the cache.
    rules : mapping of str to MatchingRule, optional
        Units -> how their rotation is fixed and what is left to match; by default as the spec says.
    spreads : collection of str, optional
        Standard deviations that help to fix scales: the norms are then those of second moments.
    offsets : mapping of str to ndarray of shape (draws, ...), optional
        ``{variable}_offset`` -> what is subtracted from a centred variable; by default it is
        computed from `arrays`.
    unconstrained : Unconstrained, optional
        What brings scales and probabilities to the real line; by default they stay as they are.
    """

    def __init__(
        self,
        resolved: ResolvedSpec,
        arrays: Mapping[str, Array],
        var_names: Sequence[str] | None = None,
        block_size: int | None = None,
        rules: Mapping[str, MatchingRule] | None = None,
        spreads: Collection[str] = (),
        offsets: Mapping[str, Array] | None = None,
        unconstrained: Unconstrained | None = None,
    ) -> None:
        self.resolved = resolved
        self.spreads = tuple(spreads)
        self.rules = {u: MatchingRule.of(resolved, u) for u in resolved.sizes} | dict(rules or {})
        self.arrays = arrays
        self._offsets = offsets
        self.unconstrained = Unconstrained() if unconstrained is None else unconstrained
        self.n_draws = len(next(iter(arrays.values())))
        largest = max(
            [int(np.prod(a.shape[1:])) for a in arrays.values()]
            + [size**2 for size in resolved.sizes.values()]
        )
        self.block_size = block_size or self.block_size_for(8 * largest)
        self.used = _used_variables(resolved, var_names)
        self.layout = _layout(
            resolved, self.used, {u: rule.group for u, rule in self.rules.items()}
        )
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
    def offsets(self) -> Mapping[str, Array]:
        """What is subtracted from every centred variable, as ``{variable}_offset``, draws first."""
        if self._offsets is not None:
            return self._offsets
        found = {}
        for name, variable in centred_variables(self.resolved).items():
            axis = centred_axis(variable, self.resolved.spec.gauges)
            if axis is not None and variable.name in self.arrays:
                stored = self.arrays[variable.name]
                parts = [means_over(variable.of(stored[rows]), axis + 1) for rows in self.slices]
                found[name] = np.concatenate(parts)
        return found

    @cached_property
    def scales(self) -> dict[str, Array]:
        """Gauge of every set of units that has one: positive scales of shape (draws, K)."""
        groups = {u: self.resolved.group(u) for u in self.resolved.sizes}
        gauged = {u: g for u, g in groups.items() if g.gauges() and not g.rotates}
        if not gauged:
            return {}
        gauges = {
            u: partial(group.gauge, str(self.resolved.gauge(u))) for u, group in gauged.items()
        }
        parts = []
        for rows in self.slices:
            terms = [
                (_squares(v, self._centred(v, rows)), _powers(v, gauged, self.spreads))
                for v in self.resolved.measured()
                if not v.carried and any(v_units in gauged for _, v_units, _ in v.unit_axes())
            ]
            parts.append(settle_gauges(terms, self.resolved.sizes, gauges))
        return {u: np.concatenate([part[u] for part in parts]) for u in gauged}

    @cached_property
    def rotations(self) -> dict[str, Dense]:
        """Gauge of every set of units that varimax rotates: elements of shape (draws,)."""
        found = {}
        for units, rule in self.rules.items():
            if rule.rotation != "none":
                loadings = loadings_of(self.resolved, units, among=self.used)
                values = self._values(loadings, slice(0, self.n_draws))
                exponent = safe_exponent(float(np.abs(values).max(initial=0.0)), _MOST_OF_LOADINGS)
                values = np.ldexp(values, -exponent) if exponent else values
                found[units] = Dense(rotations_of(loadings, values, rule.rotation))
        return found

    def array(self, variable: ResolvedVariable, rows: slice) -> Array:
        """One variable in centred, gauge-fixed coordinates, shape (draws, *axes).

        Where scales and probabilities are compared without bounds, these are logs and logits.
        """
        values = self._rescaled(variable, self._centred(variable, rows), rows)
        return self.unconstrained.apply(variable, values)

    def _rescaled(self, variable: ResolvedVariable, values: Array, rows: slice) -> Array:
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

    def _centred(self, variable: ResolvedVariable, rows: slice) -> Array:
        """One variable with the biases of affine units centred: c + sum(v) / 2."""
        values = self._values(variable, rows)
        for shift in self.resolved.shifts:
            if shift.bias == variable:
                reader = self._values(shift.reader, rows)
                halves = np.full((len(values), self.resolved.sizes[shift.units]), 0.5)
                values = values + sum_over_units(shift, reader, halves)
        return values

    def gauged(self, rows: slice) -> dict[str, Array]:
        """Every variable by its `key`, in its gauge: what the network evaluates.

        Biases of affine units are not centred.
        """
        return {
            v.key: self._rescaled(v, self._values(v, rows), rows) for v in self.resolved.measured()
        }

    def _values(self, variable: ResolvedVariable, rows: slice) -> Array:
        """One variable, in float64, shape (draws, *axes), without the offset of a centred axis."""
        values = variable.of(self.arrays[variable.name][rows])
        axis = centred_axis(variable, self.resolved.spec.gauges)
        if axis is not None:
            values = subtract(values, self.offsets[f"{variable.key}_offset"][rows], axis + 1)
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
        """Lay out some of the draws, to match on the same variables."""
        return self.of({name: array[rows] for name, array in self.arrays.items()})

    def of(self, arrays: Mapping[str, Array]) -> Problem:
        """Lay out other draws, to match on the same variables."""
        return Problem(
            self.resolved,
            arrays,
            [v.name for v in self.used],
            rules=self.rules,
            spreads=self.spreads,
            unconstrained=self.unconstrained,
        )

    def turned(self, rotations: Mapping[str, Dense]) -> Problem:
        """Lay out the same draws, rotated otherwise."""
        turned = Problem(
            self.resolved,
            self.arrays,
            [v.name for v in self.used],
            self.block_size,
            self.rules,
            self.spreads,
            self._offsets,
        )
        turned.rotations = {**self.rotations, **rotations}
        return turned

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


def slices_of(n_draws: int, block_size: int) -> list[slice]:
    """Cut the draws into blocks."""
    starts = range(0, n_draws, block_size)
    return [slice(start, min(start + block_size, n_draws)) for start in starts]


def _used_variables(resolved: ResolvedSpec, names: Sequence[str] | None) -> list[ResolvedVariable]:
    """Variables of the posterior to match on."""
    found = [v for v in resolved.measured() if v.unit_axes()]
    if names is None:
        found = [v for v in found if not v.carried]
    else:
        unknown = set(names) - {v.name for v in found}
        if unknown:
            raise SpecError(
                f"criterion: var_names: {sorted(unknown)} carry no units; "
                f"there are {', '.join(dict.fromkeys(v.name for v in found))}"
            )
        found = [v for v in found if v.name in names]
    for variable in found:
        if len(variable.unit_axes()) > 2:
            raise SpecError(
                f"variable {variable.name!r} has {len(variable.unit_axes())} axes of units; units "
                "are matched on variables with one or two: name the others in var_names"
            )
    for units in resolved.sizes:
        if not any(units == u for v in found for _, u, _ in v.unit_axes()):
            carried = [v.name for v in resolved.measured() if v.carried and names is None]
            also = ", ".join(dict.fromkeys(carried))
            also = f"; {also} (three axes of units, or a covariance) is carried along only"
            raise SpecError(
                f"no variable to match on carries the units {units!r}{also if carried else ''}"
            )
    return found


def _layout(
    resolved: ResolvedSpec, used: Sequence[ResolvedVariable], groups: Mapping[str, Group]
) -> Layout:
    columns: dict[str, list[Column]] = {units: [] for units in resolved.sizes}
    pairs = []
    for variable in used:
        axes = variable.unit_axes()
        incoming = tuple(variable.axes[axis].role == "head" for axis, _, _ in axes)
        if len(axes) == 1:
            _, units, action = axes[0]
            n_features = int(np.prod(variable.shape)) // resolved.sizes[units]
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
                    "matched on variables with one: name these in var_names, or fix the rotation "
                    "by the gauge varimax"
                )
            pairs.append(
                Pair(
                    variable.name,
                    (here, there),
                    (one.signed, two.signed),
                    (incoming[0], incoming[1]),
                    variable.part,
                    math.prod(variable.shape) // (resolved.sizes[here] * resolved.sizes[there]),
                )
            )
    return Layout(
        resolved.sizes, dict(groups), {u: tuple(c) for u, c in columns.items()}, tuple(pairs)
    )


def _squares(variable: ResolvedVariable, values: Array) -> Array:
    """Return the squares of one variable, from which scales are computed.

    Raises
    ------
    DataError
        If float64 does not hold them.
    """
    size = float(np.abs(values).max(initial=0.0))
    if safe_exponent(size):
        raise DataError(
            f"variable {variable.name!r} has values of a size of {size:.3g}, whose squares float64 "
            "does not hold, and the scales of its units are computed from squares: rescale it"
        )
    squares: Array = values**2
    return squares


def _powers(
    variable: ResolvedVariable, gauged: Mapping[str, Group], spreads: Collection[str]
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
