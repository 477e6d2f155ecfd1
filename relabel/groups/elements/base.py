"""What every kind of element answers: how it acts, how it is composed, how it is stored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from relabel._util.registry import Registry
from relabel.numerics.assignment import assign

__all__ = ["ELEMENTS", "Element", "Stored"]

Array = NDArray[Any]


class Stored(NamedTuple):
    """How one array of an element is stored; ``{units}`` stands for the name of the units.

    Attributes
    ----------
    name : str
        The variable is called ``{units}_{name}``.
    dims : tuple of str
        Its dimensions after those of the batch, as in ``("{units}",)``.
    meaning : str
        One line, for whoever opens the file.
    """

    name: str
    dims: tuple[str, ...]
    meaning: str


class Element(ABC):
    r"""One element of a symmetry group for every draw of a batch.

    A kind of element is a frozen dataclass whose fields are its arrays. Batch axes lead. It acts
    linearly on *K* units; in matrix form :math:`(g x)_k = \sum_j G_{kj} x_j`, where *k* is a slot
    of the result and *j* a unit of the draw.

    A subclass has to define :attr:`stored`, :attr:`arrays`, :meth:`identity`, :meth:`of`,
    :meth:`checked`, :meth:`act`, :meth:`inverse` and ``@``. The rest follows, and may be overridden
    by something faster or more exact.

    Attributes
    ----------
    stored : tuple of Stored
        How its arrays are stored, in the order of :attr:`arrays`.
    mixes : bool
        Whether a slot may hold a mixture of units. If not, an element is a permutation with a
        factor per slot.
    """

    stored: ClassVar[tuple[Stored, ...]]
    mixes: ClassVar[bool] = True

    @abstractmethod
    def __init__(self, *arrays: Array) -> None:
        """Make an element of its arrays."""

    @property
    @abstractmethod
    def arrays(self) -> tuple[Array, ...]:
        """What the element consists of; batch axes lead."""

    @classmethod
    @abstractmethod
    def identity(cls, batch: tuple[int, ...], size: int) -> Self:
        """Return the element that changes nothing, for every draw of the batch."""

    @classmethod
    @abstractmethod
    def of(cls, element: Element) -> Self:
        """Return an element of any kind as one of this kind.

        Raises
        ------
        TypeError
            If this kind cannot express it.
        """

    @classmethod
    @abstractmethod
    def checked(cls, units: str, *arrays: Array) -> Self:
        """Make an element of stored arrays, which may be damaged.

        Parameters
        ----------
        units : str
            Name of the units, for messages.
        *arrays : ndarray
            In the order of :attr:`stored`.

        Raises
        ------
        DataError
            If they are no element of this kind.
        """

    @abstractmethod
    def act(self, array: Array, axis: int = 0, *, power: int = 1, signed: bool = True) -> Array:
        """Act on one axis.

        Parameters
        ----------
        array : ndarray of shape (*batch, *core)
            What is acted on; its dtype is kept.
        axis : int, default 0
            The axis of the units, counted among the core axes.
        power : int, default 1
            Power of the factor, as the :class:`~relabel.groups.Action` of the axis says.
        signed : bool, default True
            Whether signs act.

        Returns
        -------
        ndarray of the shape and dtype of `array`
        """

    @abstractmethod
    def inverse(self) -> Self:
        """Return the element that undoes this one."""

    @abstractmethod
    def __matmul__(self, other: Element) -> Element:
        """Compose: ``(g @ h).act(x) == g.act(h.act(x))``.

        ``NotImplemented`` where this kind cannot express the product; then the other kind's
        ``__rmatmul__`` is asked.
        """

    def __rmatmul__(self, other: Element) -> Element:
        """Compose with an element of a kind that does not know this one: ``other @ self``."""
        return NotImplemented

    # ------------------------------------------------------------------ what follows

    @property
    def batch(self) -> tuple[int, ...]:
        """Shape of the leading axes."""
        first = self.arrays[0]
        return tuple(first.shape[: first.ndim - len(self.stored[0].dims)])

    @property
    def size(self) -> int:
        """Number of units *K*."""
        return int(self.arrays[0].shape[-1])

    def copy(self) -> Self:
        """Return a copy that shares no memory."""
        return type(self)(*(array.copy() for array in self.arrays))

    def reshape(self, *batch: int) -> Self:
        """Give the batch axes another shape; memory is shared."""
        lead = len(self.batch)
        return type(self)(*(array.reshape(*batch, *array.shape[lead:]) for array in self.arrays))

    def broadcast(self, *batch: int) -> Self:
        """Repeat the element over a larger batch."""
        lead = len(self.batch)
        shapes = [(*batch, *array.shape[lead:]) for array in self.arrays]
        pairs = zip(self.arrays, shapes, strict=True)
        return type(self)(*(np.broadcast_to(array, shape).copy() for array, shape in pairs))

    def __getitem__(self, rows: Any) -> Self:
        """Select draws: `rows` indexes the batch axes."""
        return type(self)(*(array[rows] for array in self.arrays))

    def put(self, rows: Any, other: Element) -> None:
        """Overwrite the elements of some draws, in place."""
        for array, fresh in zip(self.arrays, self.of(other).arrays, strict=True):
            array[rows] = fresh

    def where(self, condition: Array, other: Element) -> Self:
        """Take this element where `condition` (shape of the batch) holds, else `other`."""
        lead, chosen = len(self.batch), []
        for one, two in zip(self.arrays, self.of(other).arrays, strict=True):
            here = condition.reshape(*condition.shape, *(1,) * (one.ndim - lead))
            chosen.append(np.where(here, one, two))
        return type(self)(*chosen)

    def matrices(self) -> Array:
        """Return the matrix of every draw, shape (*batch, K, K)."""
        one = np.broadcast_to(np.eye(self.size), (*self.batch, self.size, self.size))
        return self.act(one.copy())

    def equals(self, other: Element) -> Array:
        """Which draws have the same element in both: bool of the shape of the batch."""
        same: Array = (self.matrices() == other.matrices()).all(axis=(-1, -2))
        return same

    def moves(self) -> Array:
        """Which draws are changed at all: bool of the shape of the batch."""
        return ~self.equals(self.identity(self.batch, self.size))

    def labels(self) -> Array:
        r"""Return the unit and the sign of every slot in one number.

        Where units mix, those of the signed permutation that is nearest.

        Returns
        -------
        ndarray of int, shape (*batch, K)
            ``2 * unit``, and 1 more where the sign is changed.
        """
        matrix = self.matrices()
        index = assign(np.abs(matrix).reshape(-1, self.size, self.size))
        index = index.reshape(*self.batch, self.size)
        entries = np.take_along_axis(matrix, index[..., None], axis=-1)[..., 0]
        return 2 * index + (entries < 0)

    def gain(self, even: Array, odd: Array) -> Array:
        r"""Return the total gain of a score, shape (draws,).

        Where units mix, that is :math:`\sum_{kj} G_{kj} odd_{kj}` and the mean over all
        permutations of what is even, which must not depend on the permutation.

        Parameters
        ----------
        even, odd : ndarray of shape (draws, K, K)
            Parts of a :class:`~relabel.groups.Score`.
        """
        mixed = np.einsum("tkj,tkj->t", self.matrices(), odd)
        return np.asarray(mixed + even.sum(axis=(1, 2)) / self.size)

    def act_on_features(self, features: Array, signed: Array) -> Array:
        """Act on features of units, some of which change their sign; scales are left out.

        Parameters
        ----------
        features : ndarray of shape (*batch, K, R)
        signed : ndarray of bool, shape (R,)
            Which features change their sign with the unit. Where units mix, all do.
        """
        return self.act(features)


#: Kinds of elements by the name of their first stored array.
ELEMENTS: Registry[type[Element]] = Registry(
    "kind of element", "kinds of elements", "relabel.elements"
)
