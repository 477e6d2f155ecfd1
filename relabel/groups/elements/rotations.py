"""Orthogonal matrices: units that rotate and mix."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from relabel.errors import DataError
from relabel.groups.elements.base import Element, Stored

__all__ = ["Dense"]

Array = NDArray[Any]

_ORTHOGONAL = 1e-6  # largest entry of G G' - 1 that can be rounding, were it stored as float32


@dataclass(frozen=True)
class Dense(Element):
    r"""Orthogonal matrices, one for every draw of a batch.

    Attributes
    ----------
    matrix : ndarray, shape (..., K, K)
        Slot *k* holds :math:`\sum_j G_{kj} x_j`.

    Examples
    --------
    >>> import numpy as np
    >>> from relabel.groups.elements import Monomial
    >>> quarter = Dense(np.array([[0.0, -1.0], [1.0, 0.0]]))
    >>> quarter.act(np.array([3.0, 1.0]))
    array([-1.,  3.])
    >>> swap = Monomial(np.array([1, 0]), np.ones(2))
    >>> (swap @ quarter).act(np.array([3.0, 1.0]))
    array([ 3., -1.])
    """

    matrix: Array

    stored: ClassVar[tuple[Stored, ...]] = (
        Stored(
            "rotation",
            ("{units}", "{units}_unit"),
            "slot k of {units} holds the sum over units j of rotation[k, j] times unit j",
        ),
    )

    @classmethod
    def identity(cls, batch: tuple[int, ...], size: int) -> Dense:
        """Return the element that changes nothing, for every draw of the batch."""
        return cls(np.broadcast_to(np.eye(size), (*batch, size, size)).copy())

    @classmethod
    def of(cls, element: Element) -> Dense:
        """Return the matrices of permutations with signs."""
        if isinstance(element, cls):
            return element
        if element.mixes:
            raise TypeError(f"expected rotations, not a {type(element).__name__}")
        return cls(element.matrices())

    @classmethod
    def checked(cls, units: str, *arrays: Array) -> Dense:
        """Make rotations of a stored array; a DataError if a matrix is not orthogonal."""
        matrix = arrays[0].astype(float)
        rest = matrix @ matrix.swapaxes(-1, -2) - np.eye(matrix.shape[-1])
        if not (np.abs(rest) < _ORTHOGONAL).all():
            raise DataError(f"relabel/{units}_rotation holds matrices that are not orthogonal")
        return cls(matrix)

    @property
    def arrays(self) -> tuple[Array, ...]:
        """What the element consists of; batch axes lead."""
        return (self.matrix,)

    def matrices(self) -> Array:
        """Return the matrix of every draw, shape (*batch, K, K)."""
        return self.matrix

    def act(self, array: Array, axis: int = 0, *, power: int = 1, signed: bool = True) -> Array:
        """Act on one axis by the matrix.

        Parameters
        ----------
        array : ndarray of shape (*batch, *core)
            What is acted on, of floating numbers; its dtype is kept.
        axis : int, default 0
            The axis of the units, counted among the core axes.
        power : int, default 1
            Makes no difference: a rotation has no absolute value to raise to a power.
        signed : bool, default True
            Must be true: no rotation can act on an axis that does not change its sign.

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

    def __matmul__(self, other: Element) -> Element:
        """Compose: ``(g @ h).act(x) == g.act(h.act(x))``."""
        if other.mixes and not isinstance(other, Dense):
            return NotImplemented
        return Dense(self.matrix @ Dense.of(other).matrix)

    def __rmatmul__(self, other: Element) -> Element:
        """Compose with permutations and signs: ``other @ self``."""
        return NotImplemented if other.mixes else Dense(other.act(self.matrix))

    def inverse(self) -> Dense:
        """Return the element that undoes this one: the transpose."""
        return Dense(self.matrix.swapaxes(-1, -2).copy())


def _products(matrix: Array, cells: Array) -> Array:
    """Matrices (n, K, K) on the third axis of cells (n, before, K, after)."""
    if cells.shape[3] == 1:  # the units are the last axis: one product for all rows
        last: Array = (cells[..., 0] @ matrix.swapaxes(1, 2))[..., None]
        return last
    products: Array = matrix[:, None] @ cells
    return products
