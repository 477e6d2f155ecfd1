"""What a criterion answers, and the part that all of them share: pairs of sets of units."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from relabel.errors import DataError, SpecError
from relabel.groups import Score
from relabel.groups.elements import Element, Monomial
from relabel.matching.features import Block, Layout, Pair, Problem, Source, Way
from relabel.matching.moments import Pooled
from relabel.spec.spec import Bound

__all__ = [
    "FIXED",
    "Criterion",
    "Reference",
    "Remarks",
    "Start",
    "Statistics",
    "add",
    "check_count",
    "check_start",
    "checked_variables",
    "pair_score",
    "starts_of",
    "unary_distance",
]

Array = NDArray[Any]

#: Where the loop starts.
Start = Literal["draw", "labels", "both"]

#: Of what criteria read, that which is the same in every draw.
FIXED = ("pivot", "x")

#: Sums over draws, by name; those of two blocks add up.
Statistics = dict[str, Any]


@dataclass(frozen=True)
class Reference:
    """The point (or distribution) that draws are compared with.

    Attributes
    ----------
    own : dict of str to ndarray of shape (K, R)
        Mean of every slot.
    centre : dict of str to ndarray of shape (R,)
        What was subtracted from all features (see
        :class:`relabel.matching.features.Layout`); `own` is what is left.
    weight : dict of str to ndarray of shape (R,)
        What squared differences of own features are multiplied by.
    pairs : tuple of ndarray of shape (K1, K2, R)
    pair_weight : tuple of float
    pair_constant : float
        What the pairs add to the loss of every draw whatever the labels (a log determinant).
    root : dict of str to ndarray of shape (K, R, R)
        Where a criterion has full covariances: the factor L of the precision of each slot,
        precision = L L'.
    beside : dict of str to ndarray
        What a criterion compares that is no feature of a unit (a pivot allocation).
    """

    own: dict[str, Array] = field(default_factory=dict)
    centre: dict[str, Array] = field(default_factory=dict)
    weight: dict[str, Array] = field(default_factory=dict)
    pairs: tuple[Array, ...] = ()
    pair_weight: tuple[float, ...] = ()
    pair_constant: float = 0.0
    root: dict[str, Array] = field(default_factory=dict)
    beside: dict[str, Array] = field(default_factory=dict)

    def restricted(self, have: Layout, want: Layout) -> Reference:
        """Return the reference for draws that lack some of the variables.

        Raises
        ------
        DataError
            If slots have full covariances, or the draws have variables that the reference lacks.
        """
        if have.columns == want.columns and have.pairs == want.pairs:
            return self
        columns = {u: [_place(c, have.columns[u]) for c in want.columns[u]] for u in want.sizes}
        pairs = [_place(pair, have.pairs) for pair in want.pairs]
        if self.root:
            raise DataError(
                "the warm-up lacks variables of the posterior; take it out, or use mean"
            )
        return Reference(
            {u: self.own[u][:, places] for u, places in columns.items() if u in self.own},
            {u: self.centre[u][places] for u, places in columns.items() if u in self.centre},
            {u: self.weight[u][places] for u, places in columns.items() if u in self.weight},
            tuple(self.pairs[p] for p in pairs),
            tuple(self.pair_weight[p] for p in pairs),
            self.pair_constant,
        )


def _place(wanted: Any, known: Sequence[Any]) -> int:
    """Position of a column or pair in a layout."""
    if wanted not in known:
        raise DataError(f"the reference has no variable {wanted.variable!r}")
    return list(known).index(wanted)


@dataclass(frozen=True)
class Remarks:
    """What a criterion has to say of a result.

    Attributes
    ----------
    warnings : list of str
        Sentences for the record.
    variables : dict of str to ndarray of shape (draws,)
        Numbers for the record, by the name they get there.
    """

    warnings: list[str] = field(default_factory=list)
    variables: dict[str, Array] = field(default_factory=dict)


class Criterion(ABC):
    """What a relabelling maximises, and how its reference is formed.

    Criteria are small frozen dataclasses; their fields are their options and the variables they
    read. The loop of :mod:`relabel.matching.solve` drives them all.

    Attributes
    ----------
    name : str
        As on the command line.
    is_distance : bool
        Whether its loss is a distance or a divergence, so that a negative one is rounding.
    monotone : bool
        Whether its loss can be compared from one sweep to the next, and never rises.
    rotates : bool
        Whether its score is that of rotations too: slots must not differ by more than their means.
    """

    name: ClassVar[str]
    is_distance: ClassVar[bool] = False
    monotone: ClassVar[bool] = True
    rotates: ClassVar[bool] = False

    @property
    def reads(self) -> dict[str, Any]:
        """Return what is read beside the features of units: name -> address or array."""
        return {}

    def found_in(self, bound: Bound) -> bool:
        """Whether these draws have what is read of every draw; arrays are of other draws."""
        addresses = {name for v in bound.variables for name in (v.address, v.name)}
        read = (given for name, given in self.reads.items() if name not in FIXED)
        return all(isinstance(given, str) and given in addresses for given in read)

    @property
    def first(self) -> Any:
        """Return the draw that the first reference is formed from; None for the usual one."""
        return None

    def chosen_row(self, problem: Problem) -> int | None:
        """Return the row of the first reference, where the criterion tells by the draws itself."""
        return None

    @property
    def max_sweeps(self) -> int:
        """How often the reference may be formed anew; 0 where it is given."""
        return 0

    @property
    def variables(self) -> tuple[str, ...] | None:
        """Variables that units are matched on; None for all that carry units."""
        return None

    def form(self, source: Source, first: Block | None) -> Reference | None:
        """Return the only reference, where it is not formed from aligned draws sweep by sweep.

        `first` is the draw that would serve as the first reference.
        """
        return None

    def pick(self, source: Source, reference: Reference) -> dict[str, Monomial] | None:
        """Return elements of all draws, where they are not those of the highest score."""
        return None

    def remarks(
        self, source: Source, layout: Layout, reference: Reference, elements: Mapping[str, Element]
    ) -> Remarks:
        """Return what the user should know of this result."""
        return Remarks()

    @property
    def starts(self) -> tuple[str, ...]:
        """Where the loop starts: from one ``draw``, or from the ``labels`` the draws came with.

        Of several, the one that ends with the lowest loss is kept.
        """
        return ("draw",)

    def resolved(self, bound: Bound) -> Criterion:
        """Return the criterion with everything that the draws tell filled in.

        Raises
        ------
        SpecError
            If it does not fit the spec.
        """
        return self

    def check_rotations(self, bound: Bound) -> None:
        """Refuse units that are to be matched by rotations, where the score is not theirs."""
        ways = {units: Way.of(bound, units) for units in bound.sizes} | self.ways(bound)
        for units, way in ways.items():
            if way.group.rotates and not self.rotates:
                raise SpecError(
                    f"criterion {self.name} matches no rotations, and the gauge 'none' leaves "
                    f"those of {units!r}: fix them by the gauge 'varimax', declare {units!r} "
                    "'signed', or use procrustes or mean"
                )

    def ways(self, bound: Bound) -> dict[str, Way]:
        """How sets of units are rotated and matched, where the spec does not decide."""
        return {}

    def spreads(self, bound: Bound) -> tuple[str, ...]:
        """Name the standard deviations that help to fix scales."""
        return ()

    def final_elements(self, reference: Reference, bound: Bound) -> dict[str, Element]:
        """Elements that are put on top of all draws alike when the loop has ended."""
        return {}

    def initial(self) -> Criterion | None:
        """Return the criterion whose solution this one refines, if it does."""
        return None

    def work(self, n_units: int) -> int:
        """How many numbers a draw takes while it is compared, beside what is read of it."""
        return 0

    @abstractmethod
    def statistics(
        self, block: Block, layout: Layout, elements: Mapping[str, Element]
    ) -> Statistics:
        """Return sums over the aligned draws of a block."""

    @abstractmethod
    def reference(
        self, statistics: Statistics, pooled: Pooled, layout: Layout, previous: Reference | None
    ) -> Reference:
        """Form the reference from the sums over all draws."""

    @abstractmethod
    def unary(self, block: Block, layout: Layout, reference: Reference, units: str) -> Score:
        """Score every (slot, unit) by what does not depend on other sets of units."""

    def penalty(self, reference: Reference) -> float:
        """What the reference itself adds to the total loss (a prior on its parameters)."""
        return 0.0

    def describe(self) -> dict[str, Any]:
        """Return name and options, for the provenance of a result."""
        options = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return {"name": self.name} | {key: _described(value) for key, value in options.items()}


def _described(value: Any) -> Any:
    """What the record keeps of an option: of arrays and datasets, that they were given."""
    if isinstance(value, dict):
        return {key: _described(entry) for key, entry in value.items()}
    if isinstance(value, np.generic):
        return value.item()
    plain = value is None or isinstance(value, (str, int, float, bool, list, tuple))
    return value if plain else "given"


def check_count(criterion: str, option: str, value: Any) -> None:
    """Refuse what is no positive integer."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise SpecError(f"criterion {criterion}: {option} is a positive integer, not {value!r}")


def check_start(criterion: str, value: Any) -> None:
    """Refuse what is no start."""
    if value not in ("draw", "labels", "both"):
        raise SpecError(
            f"criterion {criterion}: start is 'draw', 'labels' or 'both', not {value!r}"
        )


def starts_of(start: Start) -> tuple[str, ...]:
    """Return the starts that an option stands for."""
    return ("labels", "draw") if start == "both" else (start,)


def checked_variables(criterion: str, value: Any) -> tuple[str, ...] | None:
    """Return names of variables as a tuple; one may stand alone, and ``posterior/`` is implied."""
    if value is None:
        return None
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, (tuple, list)) or not all(isinstance(n, str) for n in names):
        raise SpecError(f"criterion {criterion}: variables are names, not {value!r}")
    if not names:
        raise SpecError(f"criterion {criterion}: variables names none; leave it out for all")
    return tuple(name.removeprefix("posterior/") for name in names)


def add(one: Statistics, two: Statistics) -> Statistics:
    """Add the statistics of two blocks."""
    return {key: value + two[key] for key, value in one.items()}


def unary_distance(features: Array, signed: Array, mean: Array, weight: Array) -> Score:
    r"""Minus the squared distances of units and slots, split by parity in the sign.

    .. math:: -\sum_r w_r (s_r x_{jr} - m_{kr})^2

    where :math:`s_r` is the sign *s* if feature *r* flips with its unit, and 1 if not.

    Parameters
    ----------
    features : ndarray of shape (draws, K, R)
    signed : ndarray of bool, shape (R,)
    mean : ndarray of shape (K, R)
    weight : ndarray of shape (R,)

    Returns
    -------
    Score
        Both parts of shape (draws, K, K), slots before units.
    """
    units = features.swapaxes(1, 2)
    scaled = mean * weight
    norms = (features**2 @ weight)[:, None, :]
    even = -norms - (mean * scaled).sum(axis=1)[:, None]
    if not signed.all():
        even += np.where(signed, 0.0, 2 * scaled) @ units
    if not signed.any():
        return Score(even, np.broadcast_to(0.0, even.shape))
    return Score(even, np.where(signed, 2 * scaled, 0.0) @ units)


def pair_score(
    pair: Pair,
    array: Array,
    norms: Array,
    mean: Array,
    weight: float,
    side: int,
    other: Monomial,
) -> Score:
    """Minus the weighted squared distances on one side of a pair, the other side held fixed.

    Instead of relabelling every draw's array, the reference is carried back to the labels of the
    draw, so that each draw costs one gather of the small reference and one matrix product.

    Parameters
    ----------
    pair : Pair
        What the axes of the array carry.
    array : ndarray of shape (draws, K1, K2, R)
        The draws.
    norms : ndarray of shape (draws, K)
        Squared norms of the units on the scored side.
    mean : ndarray of shape (K1, K2, R)
        The reference.
    weight : float
        What squared distances are multiplied by.
    side : {0, 1}
        Which side is scored.
    other : Monomial
        The elements of the units on the other side, one per draw.

    Returns
    -------
    Score
        Both parts of shape (draws, K, K), slots before units.
    """
    n_draws, n_units = len(array), mean.shape[side]
    table = 2 * weight * np.moveaxis(mean, (1 - side, 2, side), (0, 1, 2))
    inverse = other.inverse()
    pulled = table[inverse.index]  # (draws, others, R, slots)
    if pair.signed[1 - side]:
        pulled *= np.where(inverse.factor < 0, -1.0, 1.0)[:, :, None, None]
    values = np.moveaxis(array, side + 1, 1)
    if values.shape[3] == 1:
        values = values[..., 0]
    products = values.reshape(n_draws, n_units, -1) @ pulled.reshape(n_draws, -1, n_units)
    products = products.swapaxes(1, 2)
    even = -weight * norms[:, None, :] - weight * (mean**2).sum(axis=(1 - side, 2))[:, None]
    if pair.signed[side]:
        return Score(np.broadcast_to(even, products.shape), products)
    return Score(even + products, np.broadcast_to(0.0, products.shape))
