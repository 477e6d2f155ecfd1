r"""Elements of the symmetry groups, batched over draws.

A :class:`Monomial` is a permutation matrix whose entries carry a factor. Acting on an axis of
size *K* it gathers and multiplies,

.. math:: (g x)_k = f_k \, x_{i_k},

so slot *k* of the result holds unit ``index[k]`` of the draw, multiplied by ``factor[k]``.
Batch axes lead: ``index`` and ``factor`` have the shape ``(..., K)``.

A :class:`Dense` element is an orthogonal matrix, :math:`(g x)_k = \sum_j G_{kj} x_j`. Both answer
the same questions, and one may be composed with the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from relabel.numerics.assignment import assign

__all__ = ["Dense", "Element", "Monomial", "monomial", "nearest", "take_units"]

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


@dataclass(frozen=True)
class Monomial:
    r"""Permutations with a factor per slot, one for every draw of a batch.

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

    @classmethod
    def identity(cls, batch: tuple[int, ...], size: int) -> Monomial:
        """Return the element that changes nothing, for every draw of the batch."""
        index = np.broadcast_to(np.arange(size), (*batch, size)).copy()
        return cls(index, np.ones((*batch, size)))

    @property
    def arrays(self) -> tuple[Array, ...]:
        """What the element consists of; batch axes lead."""
        return self.index, self.factor

    def copy(self) -> Monomial:
        """Return a copy that shares no memory."""
        return Monomial(self.index.copy(), self.factor.copy())

    def reshape(self, *batch: int) -> Monomial:
        """Give the batch axes another shape; memory is shared."""
        shape = (*batch, self.size)
        return Monomial(self.index.reshape(shape), self.factor.reshape(shape))

    @property
    def batch(self) -> tuple[int, ...]:
        """Shape of the leading axes."""
        return tuple(self.index.shape[:-1])

    @property
    def size(self) -> int:
        """Number of units *K*."""
        return int(self.index.shape[-1])

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
    def __matmul__(self, other: Dense) -> Dense: ...

    def __matmul__(self, other: Element) -> Element:
        """Compose: ``(g @ h).act(x) == g.act(h.act(x))``."""
        if isinstance(other, Dense):
            return Dense(self.act(other.matrix))
        index = np.take_along_axis(other.index, self.index, axis=-1)
        return Monomial(index, self.factor * np.take_along_axis(other.factor, self.index, axis=-1))

    def inverse(self) -> Monomial:
        """Return the element that undoes this one."""
        index = np.argsort(self.index, axis=-1, kind="stable")
        return Monomial(index, 1.0 / np.take_along_axis(self.factor, index, axis=-1))

    def __getitem__(self, rows: Any) -> Monomial:
        """Select draws: `rows` indexes the batch axes."""
        return Monomial(self.index[rows], self.factor[rows])

    def put(self, rows: Any, other: Element) -> None:
        """Overwrite the elements of some draws, in place."""
        other = monomial(other)
        self.index[rows], self.factor[rows] = other.index, other.factor

    def where(self, condition: Array, other: Element) -> Monomial:
        """Take this element where `condition` (shape of the batch) holds, else `other`."""
        here, other = condition[..., None], monomial(other)
        return Monomial(
            np.where(here, self.index, other.index), np.where(here, self.factor, other.factor)
        )

    def equals(self, other: Element) -> Array:
        """Which draws have the same element in both: bool of the shape of the batch."""
        if isinstance(other, Dense):
            return other.equals(self)
        same: Array = ((self.index == other.index) & (self.factor == other.factor)).all(axis=-1)
        return same

    def moves(self) -> Array:
        """Which draws are changed at all: bool of the shape of the batch."""
        return ~self.equals(Monomial.identity(self.batch, self.size))


@dataclass(frozen=True)
class Dense:
    r"""Orthogonal matrices, one for every draw of a batch.

    Attributes
    ----------
    matrix : ndarray, shape (..., K, K)
        Slot *k* holds :math:`\sum_j G_{kj} x_j`.

    Examples
    --------
    >>> import numpy as np
    >>> quarter = Dense(np.array([[0.0, -1.0], [1.0, 0.0]]))
    >>> quarter.act(np.array([3.0, 1.0]))
    array([-1.,  3.])
    >>> swap = Monomial(np.array([1, 0]), np.ones(2))
    >>> (swap @ quarter).act(np.array([3.0, 1.0]))
    array([ 3., -1.])
    """

    matrix: Array

    @classmethod
    def identity(cls, batch: tuple[int, ...], size: int) -> Dense:
        """Return the element that changes nothing, for every draw of the batch."""
        return cls(np.broadcast_to(np.eye(size), (*batch, size, size)).copy())

    @classmethod
    def of(cls, element: Element) -> Dense:
        """Return the matrices of permutations with signs."""
        if isinstance(element, Dense):
            return element
        return cls(element.act(cls.identity(element.batch, element.size).matrix))

    @property
    def arrays(self) -> tuple[Array, ...]:
        """What the element consists of; batch axes lead."""
        return (self.matrix,)

    @property
    def batch(self) -> tuple[int, ...]:
        """Shape of the leading axes."""
        return tuple(self.matrix.shape[:-2])

    @property
    def size(self) -> int:
        """Number of units *K*."""
        return int(self.matrix.shape[-1])

    def copy(self) -> Dense:
        """Return a copy that shares no memory."""
        return Dense(self.matrix.copy())

    def reshape(self, *batch: int) -> Dense:
        """Give the batch axes another shape; memory is shared."""
        return Dense(self.matrix.reshape(*batch, self.size, self.size))

    def act(self, array: Array, axis: int = 0, *, power: int = 1, signed: bool = True) -> Array:
        """Act on one axis by the matrix.

        Parameters
        ----------
        array : ndarray of shape (*batch, *core)
            What is acted on, of floating numbers; its dtype is kept.
        axis : int, default 0
            The axis of the units, counted among the core axes.
        power, signed
            As :meth:`Monomial.act` takes them. A rotation has no absolute value to raise to a
            power; an axis that does not change its sign is one that no rotation can act on.

        Returns
        -------
        ndarray of the shape and dtype of `array`
        """
        if not signed:
            raise ValueError("a rotation mixes units: it cannot act on an axis without signs")
        batch = len(self.batch)
        shape = array.shape
        before = math.prod(shape[batch : batch + axis])
        after = math.prod(shape[batch + axis + 1 :])
        cells = array.reshape(math.prod(self.batch), before, self.size, after)
        matrix = self.matrix.reshape(-1, self.size, self.size).astype(array.dtype, copy=False)
        moving = self.moves().reshape(-1)
        if moving.all():
            return _products(matrix, cells).reshape(shape)
        result = cells.copy()  # draws that stay do so whatever they hold
        result[moving] = _products(matrix[moving], cells[moving])
        return result.reshape(shape)

    def __matmul__(self, other: Element) -> Dense:
        """Compose: ``(g @ h).act(x) == g.act(h.act(x))``."""
        return Dense(self.matrix @ Dense.of(other).matrix)

    def inverse(self) -> Dense:
        """Return the element that undoes this one: the transpose."""
        return Dense(self.matrix.swapaxes(-1, -2).copy())

    def __getitem__(self, rows: Any) -> Dense:
        """Select draws: `rows` indexes the batch axes."""
        return Dense(self.matrix[rows])

    def put(self, rows: Any, other: Element) -> None:
        """Overwrite the elements of some draws, in place."""
        self.matrix[rows] = Dense.of(other).matrix

    def where(self, condition: Array, other: Element) -> Dense:
        """Take this element where `condition` (shape of the batch) holds, else `other`."""
        return Dense(np.where(condition[..., None, None], self.matrix, Dense.of(other).matrix))

    def equals(self, other: Element) -> Array:
        """Which draws have the same element in both: bool of the shape of the batch."""
        same: Array = (self.matrix == Dense.of(other).matrix).all(axis=(-1, -2))
        return same

    def moves(self) -> Array:
        """Which draws are changed at all: bool of the shape of the batch."""
        return ~self.equals(Dense.identity(self.batch, self.size))


def _products(matrix: Array, cells: Array) -> Array:
    """Matrices (n, K, K) on the third axis of cells (n, before, K, after)."""
    if cells.shape[3] == 1:  # the units are the last axis: one product for all rows
        last: Array = (cells[..., 0] @ matrix.swapaxes(1, 2))[..., None]
        return last
    products: Array = matrix[:, None] @ cells
    return products


#: One element per draw of a batch, of either kind.
Element = Monomial | Dense


def nearest(element: Element) -> Monomial:
    """Return the signed permutation that is nearest to each element, which may rotate."""
    if isinstance(element, Monomial):
        return element
    index = assign(np.abs(element.matrix).reshape(-1, element.size, element.size))
    index = index.reshape(*element.batch, element.size)
    entries = np.take_along_axis(element.matrix, index[..., None], axis=-1)[..., 0]
    return Monomial(index, np.where(entries < 0, -1.0, 1.0))


def monomial(element: Element) -> Monomial:
    """Return the element if it permutes units; a rotation is an error of the program."""
    if isinstance(element, Dense):
        raise TypeError("expected permutations and factors, not rotations")
    return element
