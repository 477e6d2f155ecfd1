"""Permutations with a factor per slot."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, overload

import numpy as np
from numpy.typing import NDArray

from relabel.errors import DataError
from relabel.groups.elements.base import Element, Stored

__all__ = ["Monomial", "monomial", "pick", "take_units"]

Array = NDArray[Any]

_ROWS_PER_BLOCK = 2**16  # bounds the memory of the gather's row numbers


def take_units(array: Array, index: Array, axis: int) -> Array:
    """Gather along one axis with an index per draw.

    Parameters
    ----------
    array : ndarray of shape (*batch, *core)
        The batch axes of `index` lead.
    index : ndarray of int, shape (*batch, K)
        Which entry of `axis` goes to each slot.
    axis : int
        The gathered axis, counted among the core axes (from 0).

    Returns
    -------
    ndarray
        Of the shape of `array`.
    """
    if array.size == 0:
        return array.copy()
    batch = index.ndim - 1
    n_draws, size = math.prod(index.shape[:-1]), index.shape[-1]
    n_before = math.prod(array.shape[batch : batch + axis])
    n_after = math.prod(array.shape[batch + axis + 1 :])
    cells = array.reshape(n_draws, n_before * size, n_after)
    taken = np.empty_like(cells, order="C")
    first = np.arange(n_before)[:, None] * size
    per_block = max(1, _ROWS_PER_BLOCK // max(1, n_before * size))
    for start in range(0, n_draws, per_block):
        block = cells[start : start + per_block]
        units = index.reshape(n_draws, 1, size)[start : start + per_block]
        offset = np.arange(len(block))[:, None, None] * (n_before * size)
        rows = (offset + first + units).reshape(-1)
        block.reshape(-1, n_after).take(
            rows, axis=0, out=taken[start : start + per_block].reshape(-1, n_after), mode="clip"
        )
    return taken.reshape(array.shape)


def pick(table: Array, index: Array) -> Array:
    """Return the entries (slot, index[slot]) of a table of every draw.

    Parameters
    ----------
    table : ndarray of shape (draws, K, K)
    index : ndarray of int, shape (draws, K)

    Returns
    -------
    ndarray of shape (draws, K)
    """
    picked: Array = np.take_along_axis(table, index[:, :, None], axis=2)[:, :, 0]
    return picked


@dataclass(frozen=True)
class Monomial(Element):
    r"""Permutations with a factor per slot, one for every draw of a batch.

    In matrix form a permutation matrix whose entries carry a factor. Acting on an axis of *K* units
    it gathers and multiplies,

    .. math:: (g x)_k = f_k \, x_{i_k},

    so slot *k* of the result holds unit ``index[k]`` of the draw, multiplied by ``factor[k]``.

    Attributes
    ----------
    index : ndarray of int, shape (..., K)
        A permutation of ``range(K)`` in gather form: slot *k* takes unit ``index[k]``.
    factor : ndarray, shape (..., K)
        What slot *k* is multiplied by: :math:`\pm 1` for signs, any non-zero number for scales.

    Examples
    --------
    >>> import numpy as np
    >>> g = Monomial(np.array([2, 0, 1]), np.array([1.0, -1.0, 1.0]))
    >>> g.act(np.array([10.0, 20.0, 30.0]))
    array([ 30., -10.,  20.])
    >>> g.inverse().act(g.act(np.array([10.0, 20.0, 30.0])))
    array([10., 20., 30.])
    """

    index: Array
    factor: Array

    mixes: ClassVar[bool] = False
    stored: ClassVar[tuple[Stored, ...]] = (
        Stored("index", ("{units}",), "slot k of {units} holds the draw's unit index[k]"),
        Stored("factor", ("{units}",), "what slot k of {units} was multiplied by"),
    )

    @classmethod
    def identity(cls, batch: tuple[int, ...], size: int) -> Monomial:
        """Return the element that changes nothing, for every draw of the batch."""
        index = np.broadcast_to(np.arange(size), (*batch, size)).copy()
        return cls(index, np.ones((*batch, size)))

    @classmethod
    def of(cls, element: Element) -> Monomial:
        """Return the element if it permutes units."""
        if not isinstance(element, cls):
            raise TypeError("expected permutations and factors, not rotations")
        return element

    @classmethod
    def checked(cls, units: str, *arrays: Array) -> Monomial:
        """Make permutations of stored arrays.

        Raises
        ------
        DataError
            If a row is not a permutation, or a factor is zero or not finite.
        """
        if not np.isfinite(arrays[0]).all():
            raise DataError(f"relabel/{units}_index holds rows that are no permutations")
        index, factor = arrays[0].astype(np.int64), arrays[1].astype(float)
        if (index != arrays[0]).any() or not (
            np.sort(index, axis=-1) == np.arange(index.shape[-1])
        ).all():
            raise DataError(f"relabel/{units}_index holds rows that are no permutations")
        if not (np.isfinite(factor) & (factor != 0)).all():
            raise DataError(f"relabel/{units}_factor holds factors that are zero or not finite")
        return cls(index, factor)

    @property
    def arrays(self) -> tuple[Array, ...]:
        """What the element consists of; batch axes lead."""
        return self.index, self.factor

    def act(self, array: Array, axis: int = 0, *, power: int = 1, signed: bool = True) -> Array:
        r"""Act on one axis: gather, then multiply by :math:`\pm|f|^{power}`.

        Parameters
        ----------
        array : ndarray of shape (*batch, *core)
            What is acted on; its dtype is kept.
        axis : int, default 0
            The axis of the units, counted among the core axes.
        power : int, default 1
            Power of the absolute value of the factor; 0 leaves scales out.
        signed : bool, default True
            Whether the sign of the factor acts as well.

        Returns
        -------
        ndarray of the shape and dtype of `array`
        """
        moved = take_units(array, self.index, axis)
        multiplier = self.multiplier(power=power, signed=signed)
        if multiplier is None:
            return moved
        core = moved.ndim - len(self.batch)
        shape = (*self.batch, *(self.size if a == axis else 1 for a in range(core)))
        moved *= multiplier.reshape(shape).astype(array.dtype)
        return moved

    def multiplier(self, *, power: int = 1, signed: bool = True) -> Array | None:
        r"""What multiplies the slots, :math:`\mathrm{sign}(f)^{signed} |f|^{power}`; None for 1."""
        if power == 0:
            return np.where(self.factor < 0, -1.0, 1.0) if signed else None
        scale = np.abs(self.factor).astype(float) ** power
        return np.where(self.factor < 0, -scale, scale) if signed else scale

    @overload
    def __matmul__(self, other: Monomial) -> Monomial: ...

    @overload
    def __matmul__(self, other: Element) -> Element: ...

    def __matmul__(self, other: Element) -> Element:
        """Compose: ``(g @ h).act(x) == g.act(h.act(x))``."""
        if not isinstance(other, Monomial):
            return NotImplemented
        index = np.take_along_axis(other.index, self.index, axis=-1)
        return Monomial(index, self.factor * np.take_along_axis(other.factor, self.index, axis=-1))

    def inverse(self) -> Monomial:
        """Return the element that undoes this one."""
        index = np.argsort(self.index, axis=-1, kind="stable")
        return Monomial(index, 1.0 / np.take_along_axis(self.factor, index, axis=-1))

    def equals(self, other: Element) -> Array:
        """Which draws have the same element in both: bool of the shape of the batch."""
        if not isinstance(other, Monomial):
            return super().equals(other)
        same: Array = ((self.index == other.index) & (self.factor == other.factor)).all(axis=-1)
        return same

    def labels(self) -> Array:
        """Return the unit and the sign of every slot in one number: ``2 * unit + changed``."""
        return 2 * self.index + (self.factor < 0)

    def gain(self, even: Array, odd: Array) -> Array:
        """Return the sum of ``even + sign * odd`` over its pairs (slot, unit), shape (draws,)."""
        sign = np.where(self.factor < 0, -1.0, 1.0)
        total: Array = (pick(even, self.index) + sign * pick(odd, self.index)).sum(axis=-1)
        return total

    def act_on_features(self, features: Array, signed: Array) -> Array:
        """Move features of units to their slots, and change the sign of those that have one."""
        moved = self.act(features, signed=False, power=0)
        if signed.any():
            flips = np.where(signed, -1.0, 1.0)
            moved *= np.where(self.factor[..., None] < 0, flips, 1.0)
        return moved


def monomial(element: Element) -> Monomial:
    """Return the element if it permutes units; a rotation is an error of the program."""
    return Monomial.of(element)
