"""Features in a range in which float64 holds their squares, and offsets taken off where they hide.

Nothing here acts on ordinary draws: features of sizes between 2**-400 and 2**400 whose spread is no
less than a millionth of their size are compared as they are, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel.matching.features.layout import Block, Column, Layout, Pair
from relabel.matching.features.problem import Source
from relabel.numerics.ranges import safe_exponent

__all__ = ["Conditioned", "Conditioning"]

Array = NDArray[Any]

_NARROW = 2.0**-20  # share of a feature's size below which its spread is taken by itself


@dataclass(frozen=True)
class Change:
    """What is done to one feature: ``(x - shift) * 2**-exponent``, exact but for the digits lost.

    A shift lies within a millionth of the values, so that the difference is exact.
    """

    shift: float = 0.0
    exponent: int = 0


@dataclass(frozen=True)
class Conditioning:
    """How the features of a source are brought to where float64 compares them well.

    Permutations, and changes of sign, commute with it: features that flip are scaled only, since
    their offset says which sign they have.

    Attributes
    ----------
    own : dict of (units, Column) to Change
    pairs : dict of Pair to Change
    """

    own: dict[tuple[str, Column], Change] = field(default_factory=dict)
    pairs: dict[Pair, Change] = field(default_factory=dict)

    @classmethod
    def of(cls, source: Source, *, together: bool) -> Conditioning:
        """Look through the features of all draws.

        Parameters
        ----------
        source : Source
        together : bool
            Whether all features get one exponent, since distances add up over features as they are.
        """
        layout = source.layout
        own = {u: _Range(~layout.signed(u)) for u in layout.sizes}
        pairs = [_Range(np.array([not any(pair.signed)])) for pair in layout.pairs]
        for number in range(len(source.slices)):
            block = source.block(number)
            for units, values in block.own.items():
                own[units].add(values.reshape(math.prod(values.shape[:2]), values.shape[2]))
            for found, values in zip(pairs, block.pairs, strict=True):
                found.add(values.reshape(-1, 1))
        ranges = [*own.values(), *pairs]
        largest = [float(found.sizes().max(initial=0.0)) for found in ranges]
        common = safe_exponent(max(largest, default=0.0))
        changes = [r.changes(common if together else None) for r in ranges]
        columns = {
            (units, column): change
            for units, found in zip(own, changes, strict=False)
            for column, change in zip(layout.columns[units], found, strict=True)
        }
        rest = changes[len(own) :]
        return cls(columns, {p: c[0] for p, c in zip(layout.pairs, rest, strict=True)})

    def __bool__(self) -> bool:
        """Whether anything is changed."""
        return any(change != Change() for change in (*self.own.values(), *self.pairs.values()))

    @property
    def exponents(self) -> set[int]:
        """The exponents of all features."""
        return {change.exponent for change in (*self.own.values(), *self.pairs.values())}

    def block(self, block: Block, layout: Layout) -> Block:
        """Return the same draws with their features changed."""
        own = {}
        for units, values in block.own.items():
            changes = [self.own.get((units, c), Change()) for c in layout.columns[units]]
            own[units] = _changed(values, changes)
        pairs = tuple(
            _changed(values, [self.pairs.get(pair, Change())])
            for pair, values in zip(layout.pairs, block.pairs, strict=True)
        )
        return Block(
            own, pairs, Block.of(own, pairs).norms, self._beside(block.beside), block.fixed
        )

    def _beside(self, beside: Mapping[str, Array]) -> dict[str, Array]:
        """Scale the roots of covariances as the features that they belong to, by one exponent."""
        (exponent, *others) = sorted(self.exponents)
        scaled = not others and exponent
        return {
            name: np.ldexp(array, -exponent) if scaled and name.startswith("root ") else array
            for name, array in beside.items()
        }


class Conditioned:
    """Draws whose features are changed by a :class:`Conditioning`.

    Parameters
    ----------
    source : Source
    conditioning : Conditioning
    """

    def __init__(self, source: Source, conditioning: Conditioning) -> None:
        self.source, self.conditioning = source, conditioning
        self.layout, self.n_draws = source.layout, source.n_draws

    @property
    def slices(self) -> list[slice]:
        """The draws of every block."""
        return self.source.slices

    def block(self, number: int) -> Block:
        """Features of one block."""
        return self.conditioning.block(self.source.block(number), self.layout)

    def draw(self, row: int) -> Block:
        """Features of one draw."""
        return self.conditioning.block(self.source.draw(row), self.layout)


class _Range:
    """Lowest and highest values of features, and their first ones, block after block."""

    def __init__(self, movable: Array) -> None:
        self.movable = movable
        self.first = self.low = self.high = np.zeros(movable.shape)
        self.n = 0

    def add(self, values: Array) -> None:
        """Add the rows of a block."""
        if not values.size:
            return
        low, high = values.min(axis=0), values.max(axis=0)
        if not self.n:
            self.first, self.low, self.high = values[0].copy(), low, high
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
        self.n += len(values)

    def shifts(self) -> Array:
        """Return what is subtracted from every feature: its first value, or nothing."""
        size = np.maximum(np.abs(self.low), np.abs(self.high))
        with np.errstate(over="ignore"):
            spread = self.high - self.low
        narrow = self.movable & (spread > 0) & (spread < _NARROW * size)
        return np.where(narrow, self.first, 0.0)

    def sizes(self) -> Array:
        """Return the largest absolute value of every feature after the shift."""
        shift = self.shifts()
        return np.asarray(np.maximum(np.abs(self.low - shift), np.abs(self.high - shift)))

    def changes(self, common: int | None) -> list[Change]:
        """Return what is done to every feature; with one exponent, if that is given."""
        return [
            Change(float(shift), safe_exponent(float(size)) if common is None else common)
            for shift, size in zip(self.shifts(), self.sizes(), strict=True)
        ]


def _changed(values: Array, changes: list[Change]) -> Array:
    """Change features on the last axis; one change may be that of all."""
    shift = np.array([change.shift for change in changes])
    exponent = np.array([change.exponent for change in changes], dtype=int)
    moved = values - shift if shift.any() else values
    return np.ldexp(moved, -exponent) if exponent.any() else moved
