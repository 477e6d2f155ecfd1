"""The protocol of criteria, and the part that all of them share: pairs of sets of units."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from relabel._util.validate import choice, integer, strings
from relabel.errors import DataError, SpecError
from relabel.groups import Score
from relabel.groups.elements import Dense, Element, Monomial
from relabel.matching.allocation_features import FIXED, AllocationProblem
from relabel.matching.draws import Draws
from relabel.matching.features import (
    Block,
    Conditioning,
    Layout,
    MatchingRule,
    Pair,
    Problem,
    Source,
)
from relabel.matching.moments import Pooled
from relabel.matching.probes import Probes
from relabel.spec.spec import ResolvedSpec

__all__ = [
    "GIVEN",
    "Criterion",
    "FromDrawOrLabels",
    "Reference",
    "Remarks",
    "StartReference",
    "Statistics",
    "add",
    "is_draw",
    "pair_score",
    "unary_distance",
]

Array = NDArray[Any]

#: What the first reference is formed from, where it is formed anew: one draw, or all draws with the
#: labels that they came with.
StartReference = Literal["draw", "labels", "both"]

#: What a record keeps of an option that was an array or a dataset.
GIVEN = "given"

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
        Subtracted from all features (see :class:`relabel.matching.features.Layout`); `own` is
        relative to it.
    weight : dict of str to ndarray of shape (R,)
        Weights of the squared differences of own features.
    pairs : tuple of ndarray of shape (K1, K2, R)
    pair_weight : tuple of float
    pair_constant : float
        Added to the loss of every draw whatever the labels (a log determinant).
    root : dict of str to ndarray of shape (K, R, R)
        Where a criterion has full covariances: the factor L of the precision of each slot,
        precision = L L'.
    beside : dict of str to ndarray
        Anything else that the criterion compares (a pivot allocation).
    precision : dict of str to ndarray of shape (K, R)
        Where every slot has scales of its own: the reciprocal variances of own features.
    penalty : float
        The contribution of the reference itself to the total loss (a prior).
    conditioning : Conditioning
        How the features were changed that it was formed from; so are those it is compared with.
    """

    own: dict[str, Array] = field(default_factory=dict)
    centre: dict[str, Array] = field(default_factory=dict)
    weight: dict[str, Array] = field(default_factory=dict)
    pairs: tuple[Array, ...] = ()
    pair_weight: tuple[float, ...] = ()
    pair_constant: float = 0.0
    root: dict[str, Array] = field(default_factory=dict)
    beside: dict[str, Array] = field(default_factory=dict)
    precision: dict[str, Array] = field(default_factory=dict)
    penalty: float = 0.0
    conditioning: Conditioning = field(default_factory=Conditioning)

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
            precision={
                u: self.precision[u][:, places]
                for u, places in columns.items()
                if u in self.precision
            },
            conditioning=self.conditioning,
        )


def _place(wanted: Any, known: Sequence[Any]) -> int:
    """Position of a column or pair in a layout."""
    if wanted not in known:
        raise DataError(f"the reference has no variable {wanted.variable!r}")
    return list(known).index(wanted)


@dataclass(frozen=True)
class Remarks:
    """Remarks of a criterion on a result.

    Attributes
    ----------
    warnings : list of str
        Sentences for the record.
    values : dict of str to ndarray of shape (draws,)
        Variables for the group ``relabel``, by their names there.
    """

    warnings: list[str] = field(default_factory=list)
    values: dict[str, Array] = field(default_factory=dict)


class Criterion(ABC):
    """What a relabelling maximises, and how its reference is formed.

    Criteria are small frozen dataclasses; their fields are their options. The loop of
    :mod:`relabel.matching.solve` drives them all, and nothing else asks which one it has: a
    criterion of another package need only implement :meth:`statistics`, :meth:`form_reference` and
    :meth:`score`, and be named by an entry point of the group ``relabel.criteria``. All other
    methods and attributes have defaults.

    Attributes
    ----------
    name : str
        As on the command line, and in the record of an alignment.
    is_distance : bool
        Whether its loss is a distance or a divergence, so that a negative one is rounding.
    monotone : bool
        Whether its loss can be compared from one sweep to the next, and never rises.
    forms_mean : bool
        Whether the reference is the mean of the aligned draws (`own`, `pairs`), and the score falls
        with squared distances to it on scales that stay while draws are matched. Each draw is then
        matched to the mean of the others in the end (:mod:`relabel.matching.others`).
    named_references : tuple of str
        Draws that the option `reference` takes by name.
    renamed_options : mapping of str to str
        Names that options had in older records -> present names.
    """

    name: ClassVar[str]
    is_distance: ClassVar[bool] = False
    monotone: ClassVar[bool] = True
    forms_mean: ClassVar[bool] = False
    named_references: ClassVar[tuple[str, ...]] = ()
    renamed_options: ClassVar[Mapping[str, str]] = {}

    # ------------------------------------------------------------------ the loop

    @abstractmethod
    def statistics(
        self, block: Block, layout: Layout, elements: Mapping[str, Element]
    ) -> Statistics:
        """Return sums over the aligned draws of a block."""

    @abstractmethod
    def form_reference(
        self, statistics: Statistics, pooled: Pooled, layout: Layout, previous: Reference | None
    ) -> Reference:
        """Form the reference from the sums over all draws."""

    @abstractmethod
    def score(self, block: Block, layout: Layout, reference: Reference, units: str) -> Score:
        """Score every (slot, unit) by everything that does not depend on other sets of units."""

    def penalty(self, reference: Reference) -> float:
        """Return the contribution of the reference itself to the total loss (a prior)."""
        return reference.penalty

    @property
    def rotates(self) -> bool:
        """Whether its score is that of rotations too: slots differ by their means alone."""
        return False

    @property
    def scale_free(self) -> bool:
        """Whether labels stay the same if one of the variables is multiplied by a number."""
        return False

    @property
    def unconstrained(self) -> bool:
        """Whether it compares scales by their logs and probabilities by their logits.

        It does so where the spec declares their supports.
        """
        return False

    @property
    def max_sweeps(self) -> int:
        """How often the reference may be formed anew; 0 where it is given."""
        return 0

    # ------------------------------------------------------------------ how draws are seen

    @property
    def matched_variables(self) -> tuple[str, ...] | None:
        """Names of the variables that units are matched on; None for all that carry units."""
        return None

    @property
    def reads(self) -> dict[str, Any]:
        """Return what is compared instead of the features of units: option -> address or array.

        Known are ``z`` (allocations), ``prob`` (their probabilities), ``x`` (data), ``reference``
        (one allocation of all observations) and ``parameter NAME``.
        """
        return {}

    @property
    def n_inputs(self) -> int | None:
        """Most inputs at which activations are compared; None where none are compared."""
        return None

    def source(self, problem: Problem, draws: Draws, probes: Probes | None) -> Source:
        """Return the draws as this criterion sees them.

        By default that is the features of their units (`problem`), or what :attr:`reads` names.

        Parameters
        ----------
        problem : Problem
            The draws as features of their units; or a given point, where this asks for the first
            reference.
        draws : Draws
            The same draws as they are stored.
        probes : Probes, optional
            The network and the inputs at which its units are compared, where they are known.
        """
        return AllocationProblem(draws, self) if self.reads else problem

    def rules(self, resolved: ResolvedSpec) -> dict[str, MatchingRule]:
        """Return how sets of units are rotated and matched, where the spec does not decide."""
        return {}

    def spreads(self, resolved: ResolvedSpec) -> tuple[str, ...]:
        """Return the names of standard deviations that help to fix scales."""
        return ()

    def numbers_per_draw(self, n_units: int) -> int:
        """Return how many numbers a draw takes while it is compared, beside those read of it."""
        return 0

    # ------------------------------------------------------------------ before the loop

    def resolved(self, resolved: ResolvedSpec) -> Criterion:
        """Return the criterion with everything filled in that follows from the draws.

        Raises
        ------
        SpecError
            If it does not fit the spec.
        """
        return self

    def check_rotations(self, resolved: ResolvedSpec) -> None:
        """Raise SpecError if units are to be rotated, and the score is not that of rotations."""
        rules = {u: MatchingRule.of(resolved, u) for u in resolved.sizes} | self.rules(resolved)
        for units, rule in rules.items():
            if rule.group.rotates and not self.rotates:
                raise SpecError(
                    f"criterion {self.name} matches no rotations, and the gauge 'none' leaves "
                    f"those of {units!r}: fix them by the gauge 'varimax', declare {units!r} "
                    "'signed', or use procrustes or mean"
                )

    def found_in(self, resolved: ResolvedSpec) -> bool:
        """Whether these draws have everything that is read of every draw, by its address."""
        addresses = {name for v in resolved.variables for name in (v.address, v.name)}
        read = (given for name, given in self.reads.items() if name not in FIXED)
        return all(isinstance(given, str) and given in addresses for given in read)

    # ------------------------------------------------------------------ the first reference

    @property
    def first_reference(self) -> Any:
        """Return the draw or point that the first reference is formed from.

        ``"map"``, ``"medoid"``, the number of a draw, ``{"chain": c, "draw": d}`` or a Dataset with
        one point; None for the usual draw: that of highest `lp`, or else a central one.
        """
        return None

    @property
    def starts(self) -> tuple[str, ...]:
        """Where the loop starts: from one ``draw``, or from the ``labels`` the draws came with.

        Of several, the one that ends with the lowest loss is kept.
        """
        return ("draw",)

    @property
    def tries_starts(self) -> bool:
        """Whether many starts are tried on a sample of the draws, and the best one is followed."""
        return False

    @property
    def relaxed(self) -> Criterion | None:
        """A criterion with fewer local optima, whose labels are one of the starts."""
        return None

    def chosen_row(self, problem: Problem) -> int | None:
        """Return the row of the draw for the first reference, if the criterion chooses it."""
        return None

    def initial(self) -> Criterion | None:
        """Return the criterion whose solution this one refines, if it does."""
        return None

    # ------------------------------------------------------------------ other ways than the loop

    def given(self, draws: Draws) -> Mapping[str, Element] | None:
        """Return the elements of all draws, where the user gave them; None where they are found."""
        return None

    def only_reference(self, source: Source, first: Block | None) -> Reference | None:
        """Return the only reference, where it is not formed from aligned draws sweep by sweep.

        `first` is the draw that would serve as the first reference.
        """
        return None

    def pick(self, source: Source, reference: Reference) -> Mapping[str, Element] | None:
        """Return elements of all draws, where they are not those of the highest score."""
        return None

    # ------------------------------------------------------------------ after the loop

    def turned(
        self, source: Source, reference: Reference, elements: Mapping[str, Element]
    ) -> dict[str, Dense]:
        """Return rotations of the aligned draws that bring them nearer to the reference.

        Asked for where draws are rotated to a gauge that several rotations of a draw fulfil. The
        loop goes on with the draws that are turned; identities end it, and so does an empty result.
        """
        return {}

    def final_elements(self, reference: Reference, resolved: ResolvedSpec) -> dict[str, Element]:
        """Return elements that are put on top of those of all draws alike when the loop ended."""
        return {}

    def remarks(
        self, source: Source, layout: Layout, reference: Reference, elements: Mapping[str, Element]
    ) -> Remarks:
        """Return what the user should know of this result."""
        return Remarks()

    def for_features(self) -> Criterion | None:
        """Return the criterion to realign units with by their features, as after a shuffle.

        It must form its reference from the draws alone. None where this criterion compares
        something else than features of units; the default criterion serves then.
        """
        return None if self.reads else self

    # ------------------------------------------------------------------ in a record

    def describe(self) -> dict[str, Any]:
        """Return name and options, for the record of an alignment.

        Of arrays and datasets it says that they were given. :meth:`from_record` is the inverse.
        """
        options = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return {"name": self.name} | {key: _described(value) for key, value in options.items()}

    @classmethod
    def from_record(cls, options: Mapping[str, Any]) -> Criterion:
        """Rebuild the criterion from the options that :meth:`describe` returned.

        Options that were given as arrays or datasets are not in a record: they get their defaults.
        """
        return cls(**{key: value for key, value in options.items() if value != GIVEN})

    # ------------------------------------------------------------------ options

    def check_option(self, option: str, check: Callable[..., Any], *args: Any, **more: Any) -> None:
        """Check an option, and keep what the check returns: for ``__post_init__``.

        Parameters
        ----------
        option : str
        check : callable
            Of :mod:`relabel._util.validate`: takes the name for messages, the value, and the other
            arguments.
        """
        value = check(f"criterion {self.name}: {option}", getattr(self, option), *args, **more)
        object.__setattr__(self, option, value)

    def check_var_names(self) -> None:
        """Make the option `var_names` a tuple of names of the posterior; None stays None."""
        self.check_option("var_names", _names)


class FromDrawOrLabels(Criterion):
    """A criterion whose first reference is formed from one draw, from the labels, or from both.

    Attributes
    ----------
    reference : {"draw", "labels", "both"}
        Of ``"both"`` the start that ends with the lower loss is kept.
    """

    reference: StartReference

    @property
    def starts(self) -> tuple[str, ...]:
        """Where the loop starts."""
        return ("labels", "draw") if self.reference == "both" else (self.reference,)

    def check_start(self) -> None:
        """Check the options `reference` and `max_sweeps` of a reference that is formed anew."""
        self.check_option("reference", choice, ("draw", "labels", "both"))
        self.check_option("max_sweeps", integer, 1)


def _names(option: str, value: Any) -> tuple[str, ...] | None:
    """Return names of variables as a tuple; one may stand alone, and ``posterior/`` is implied."""
    names = strings(option, value)
    return None if names is None else tuple(name.removeprefix("posterior/") for name in names)


def _described(value: Any) -> Any:
    """Return what the record keeps of an option."""
    if isinstance(value, dict):
        return {key: _described(entry) for key, entry in value.items()}
    if isinstance(value, np.generic):
        return value.item()
    plain = value is None or isinstance(value, (str, int, float, bool, list, tuple))
    return value if plain else GIVEN


def is_draw(value: Any) -> bool:
    """Whether a value names a draw by its coordinates, ``{"chain": c, "draw": d}``."""
    return isinstance(value, Mapping) and set(value) == {"chain", "draw"}


def add(one: Statistics, two: Statistics) -> Statistics:
    """Return the sums of the statistics of two blocks."""
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
        The units on the axes of the array.
    array : ndarray of shape (draws, K1, K2, R)
        The draws.
    norms : ndarray of shape (draws, K)
        Squared norms of the units on the scored side.
    mean : ndarray of shape (K1, K2, R)
        The reference.
    weight : float
        Weight of squared distances.
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
