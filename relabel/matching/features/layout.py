"""What features mean, the features of some draws, and features in slot order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel.groups import Group
from relabel.groups.elements import Element

__all__ = ["Block", "Column", "Layout", "Pair", "aligned_own", "aligned_pair"]

Array = NDArray[Any]


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
        Subtracted from own features before they are compared: no distance changes, but digits are
        kept where features lie far from zero. Zero for features that flip.
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
        """Order the sets so that each comes when most features of its units are known.

        These are the features that its units have by themselves, or share with sets that come
        before. The order in which the sets were declared decides only where their numbers are
        equal.
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
        Arrays that criteria read instead of features of units (allocations), draws first.
    fixed : dict of str to ndarray
        Likewise, the same in every draw (data, a pivot).
    memo : dict of str to ndarray
        A few numbers per draw that a criterion computes once.
    """

    own: dict[str, Array]
    pairs: tuple[Array, ...]
    norms: tuple[tuple[Array, Array], ...]
    beside: dict[str, Array] = field(default_factory=dict)
    fixed: dict[str, Array] = field(default_factory=dict)
    memo: dict[str, Array] = field(default_factory=dict)

    @classmethod
    def of(cls, own: dict[str, Array], pairs: tuple[Array, ...]) -> Block:
        """Build a block and compute its norms."""
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


def aligned_own(block: Block, layout: Layout, units: str, element: Element) -> Array:
    """Return the own features of one set of units in slot order, centred.

    Parameters
    ----------
    block : Block
        The features of some draws.
    layout : Layout
        What they mean.
    units : str
        The set of units.
    element : Element
        Its elements, one per draw.

    Returns
    -------
    ndarray of shape (draws, K, R)

    Examples
    --------
    >>> import numpy as np
    >>> from relabel.groups import Permutation
    >>> from relabel.groups.elements import Monomial
    >>> block = Block.of({"h": np.array([[[1.0], [2.0]]])}, ())
    >>> layout = Layout({"h": 2}, {"h": Permutation()}, {"h": (Column("b", 0, False, True),)}, ())
    >>> aligned_own(block, layout, "h", Monomial(np.array([[1, 0]]), np.ones((1, 2))))
    array([[[2.],
            [1.]]])
    """
    features = layout.features(block, units)
    return element.act_on_features(features, layout.signed(units))


def aligned_pair(
    block: Block, layout: Layout, number: int, elements: Mapping[str, Element]
) -> Array:
    """Return what two sets of units share, in slot order on both sides.

    Parameters
    ----------
    block : Block
        The features of some draws.
    layout : Layout
        What they mean.
    number : int
        Which of ``layout.pairs``.
    elements : mapping of str to Element
        Units -> elements, one per draw.

    Returns
    -------
    ndarray of shape (draws, K1, K2, R)

    Examples
    --------
    >>> import numpy as np
    >>> from relabel.groups import Permutation
    >>> from relabel.groups.elements import Monomial
    >>> pair = Pair("P", ("state", "state"), (False, False), (False, False))
    >>> layout = Layout({"state": 2}, {"state": Permutation()}, {"state": ()}, (pair,))
    >>> values = np.array([[[[9.0], [1.0]], [[2.0], [8.0]]]])
    >>> block = Block.of({"state": np.zeros((1, 2, 0))}, (values,))
    >>> swap = Monomial(np.array([[1, 0]]), np.ones((1, 2)))
    >>> aligned_pair(block, layout, 0, {"state": swap})[..., 0]
    array([[[8., 2.],
            [1., 9.]]])
    """
    pair, values = layout.pairs[number], block.pairs[number]
    for side in (0, 1):
        values = elements[pair.units[side]].act(values, side, power=0, signed=pair.signed[side])
    return values
