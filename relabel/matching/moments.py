"""Moments of features that no relabelling changes: pooled over units and draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel.matching.features import Source

__all__ = ["Pooled", "pooled_moments"]

Array = NDArray[Any]

#: Share of a squared size below which a variance is rounding: the mean of a million equal numbers
#: is off by 1e-11 of their size.
_ROUNDING = 1e-20

#: Mean squares below this, or above its inverse, and variances below that share of a mean square
#: are looked at: see :mod:`relabel.matching.features.conditioning`.
_LEAST, _NARROW = 2.0**-720, 2.0**-38


@dataclass(frozen=True)
class Pooled:
    """Second moments that no relabelling changes: pooled over units and draws.

    Attributes
    ----------
    own : dict of str to ndarray of shape (R,)
        Variance of every own feature; about zero where it flips with its unit.
    centre : dict of str to ndarray of shape (R,)
        Mean of every own feature; zero where it flips with its unit.
    pairs : tuple of float
        Variance of every pair's entries, likewise.
    ordinary : bool
        Whether float64 held the squares of all features, and their spread beside their size.
    """

    own: dict[str, Array]
    centre: dict[str, Array]
    pairs: tuple[float, ...]
    ordinary: bool = True


def pooled_moments(source: Source) -> Pooled:
    """Moments pooled over units and draws, about zero where a feature flips with its unit.

    A feature that is constant has no variance to divide by; it is given the value 1, since it
    distinguishes no labels.
    """
    layout = source.layout
    if not (layout.pairs or any(layout.columns.values())):  # nothing to compute
        none = {units: np.zeros(0) for units in layout.sizes}
        return Pooled(none, none, ())
    own = {u: _Moments(np.zeros(len(c)), np.zeros(len(c))) for u, c in layout.columns.items()}
    pairs = [_Moments(np.zeros(()), np.zeros(())) for _ in layout.pairs]
    for number in range(len(source.slices)):
        block = source.block(number)
        for units, array in block.own.items():
            n_rows = array.shape[0] * array.shape[1]
            own[units].add(array.reshape(n_rows, array.shape[2]), ~layout.signed(units))
        for moments, pair, array in zip(pairs, layout.pairs, block.pairs, strict=True):
            moments.add(array.reshape(-1), np.array(not any(pair.signed)))
    return Pooled(
        {units: moments.variance() for units, moments in own.items()},
        {units: moments.mean for units, moments in own.items()},
        tuple(float(moments.variance()) for moments in pairs),
        all(moments.ordinary() for moments in (*own.values(), *pairs)),
    )


@dataclass
class _Moments:
    """Mean and sum of squares about it, block after block (Chan, Golub & LeVeque 1983)."""

    mean: Array
    squares: Array
    n: int = 0

    def add(self, values: Array, centred: Array) -> None:
        """Add the rows of a block; where `centred` is False the mean is taken to be zero."""
        n, total = len(values), self.n + len(values)
        mean = np.where(centred, values.mean(axis=0), 0.0)
        step = mean - self.mean if self.n else np.zeros_like(mean)
        with np.errstate(over="ignore", invalid="ignore"):  # seen in `ordinary`
            self.squares = self.squares + ((values - mean) ** 2).sum(axis=0)
            self.squares += step**2 * (self.n * n / total)
        self.mean = self.mean + step * (n / total) if self.n else mean
        self.n = total

    def variance(self) -> Array:
        """Return the variance, or 1 where it is only rounding."""
        variance, size = self._sizes()
        positive: Array = np.where(
            variance > _ROUNDING * size, variance, np.where(size > 0, size, 1.0)
        )
        return positive

    def ordinary(self) -> bool:
        """Whether the squares are in a range that is held, and no spread is small beside a size.

        A feature that is zero throughout, or so small that its squares are zero, is not known to be
        ordinary.
        """
        variance, size = self._sizes()
        held = (size > _LEAST) & (size < 1 / _LEAST)
        return bool((held & (variance > _NARROW * size)).all())

    def _sizes(self) -> tuple[Array, Array]:
        """Return the variances and the mean squares."""
        with np.errstate(over="ignore", invalid="ignore"):
            variance = self.squares / self.n
            return variance, variance + self.mean**2
