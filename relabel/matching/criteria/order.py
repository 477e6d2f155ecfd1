"""A canonical form: units in the order of a coordinate, with pinned signs; no reference."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from relabel.errors import SpecError
from relabel.groups import Score
from relabel.groups.elements import Element, Monomial, monomial
from relabel.matching.criteria.base import Criterion, Reference, Remarks, Statistics, add
from relabel.matching.criteria.mean import Mean
from relabel.matching.features import Block, Layout, Source
from relabel.matching.moments import Pooled, pooled_moments

__all__ = ["Order", "overlaps"]

Array = NDArray[Any]

_WEAK = 0.01  # overlap from which the record says so
_MOST_SHOWN = 5  # pairs of slots in a warning
_ROUNDING = 1e-9  # relative gain below which other labels are not better


@dataclass(frozen=True)
class Order(Criterion):
    r"""Order units by one coordinate and make one coordinate of each positive.

    Ordering is the assignment to a ramp: :math:`\max_\sigma \sum_k k\,x_{\sigma(k)}` sorts *x*.
    Reproducible without any reference, but where the coordinate separates units weakly, an
    ordering cuts modes in two and glues halves together (Celeux 1998; Stephens 2000): compare it
    with the mean before you rely on it.

    How well the coordinate separates neighbouring slots goes into the record's warnings, where it
    does so badly: the *overlap* of slots *k* and *k* + 1 is the share of pairs of draws *t*, *s* in
    which :math:`x_{t,k} > x_{s,k+1}`, 0 where they are apart and 1/6 where two units do not differ
    in the coordinate at all (the lower of two beyond the higher of two others). With one set of
    units, or sets that share no variable, it is followed by the share of draws that lie nearer, in
    all variables, to the mean of the ordered draws under other labels: those are where an ordering
    cuts.

    Parameters
    ----------
    var_names : str or mapping of units to str
        The coordinate: ``"bias"``, ``"norm"`` (of all incoming weights), a variable with one value
        per unit (``"b1"``), or one entry of a variable (``"W1[0]"``, counted over its other axes).
        Biases that read a sigmoid layer are taken centred (bias plus half the sum of the weights
        that read it), which does not depend on the flips of the layer before.
    pin : str or mapping of units to str, optional
        The coordinate whose sign is made positive, in the same notation; `var_names` by default.
        Used for units that have a sign.

    References
    ----------
    Pourzanjani, A. A., Jiang, R. M. & Petzold, L. R. (2017). Improving the identifiability of
    neural networks for Bayesian inference. *NIPS Workshop on Bayesian Deep Learning*.

    Stephens, M. (2000). Dealing with label switching in mixture models. *Journal of the Royal
    Statistical Society B* 62(4), 795-809. https://doi.org/10.1111/1467-9868.00265

    Examples
    --------
    >>> import numpy as np, xarray as xr, relabel
    >>> mu = np.array([[[0.0, 5.0], [5.1, 0.1], [-0.1, 4.9]]])
    >>> draws = xr.Dataset({"mu": (("chain", "draw", "component"), mu)})
    >>> units = {"component": "permutation"}
    >>> relabel.align(draws, units, criterion=relabel.criteria.Order("mu"))["mu"].values[0, 1]
    array([0.1, 5.1])
    """

    var_names: str | Mapping[str, str] = "bias"
    pin: str | Mapping[str, str] | None = None
    name: ClassVar[str] = "order"
    renamed_options: ClassVar[Mapping[str, str]] = {"by": "var_names"}

    def __post_init__(self) -> None:
        """Check the options."""
        for option, key in (("var_names", self.var_names), ("pin", self.pin)):
            given: Any = [key] if not isinstance(key, Mapping) else [*key, *key.values()]
            if option == "pin" and key is None:
                continue
            if not given or not all(isinstance(text, str) and text for text in given):
                raise SpecError(
                    f"criterion order: {option} must be a coordinate such as 'bias' or 'W1[0]', or "
                    f"a table from units to coordinates, not {key!r}"
                )

    def statistics(
        self, block: Block, layout: Layout, elements: Mapping[str, Element]
    ) -> Statistics:
        """Return nothing: there is no reference to form."""
        return {}

    def form_reference(
        self, statistics: Statistics, pooled: Pooled, layout: Layout, previous: Reference | None
    ) -> Reference:
        """Return an empty reference, which also takes the pairs out of the loss."""
        pairs = tuple(
            np.zeros((layout.sizes[p.units[0]], layout.sizes[p.units[1]], 1)) for p in layout.pairs
        )
        return Reference({}, {}, {}, pairs, tuple(0.0 for _ in pairs))

    def score(self, block: Block, layout: Layout, reference: Reference, units: str) -> Score:
        """Score by the ramp; the pinned coordinate decides on signs."""
        values, flips = self._coordinate(block, layout, units, self.var_names)
        ramp = np.arange(layout.sizes[units], dtype=float)
        odd = np.zeros(ramp.size)[:, None] * values[:, None, :]
        if layout.groups[units].signs:
            pinned, pin_flips = self._coordinate(
                block, layout, units, self.var_names if self.pin is None else self.pin
            )
            if not pin_flips:
                raise SpecError(
                    f"criterion order: the coordinate that pins the signs of {units!r} does not "
                    "change with them; name an incoming weight or a bias in pin"
                )
            odd = odd + pinned[:, None, :]
            values = np.where((pinned < 0) & flips, -values, values)
        return Score(ramp[:, None] * values[:, None, :], odd)

    def remarks(
        self, source: Source, layout: Layout, reference: Reference, elements: Mapping[str, Element]
    ) -> Remarks:
        """Say which neighbouring slots the ordering separates weakly, and how often it cuts."""
        warnings = []
        for units, element in ((u, monomial(g)) for u, g in elements.items()):
            ordered = self._ordered(source, layout, units, element)
            found = overlaps(ordered)
            weak = np.flatnonzero(found > _WEAK)
            if weak.size:
                weak = weak[np.argsort(-found[weak], kind="stable")]
                shown = ", ".join(f"{k} and {k + 1} ({found[k]:.2f})" for k in weak[:_MOST_SHOWN])
                more = f" and {weak.size - _MOST_SHOWN} more" if weak.size > _MOST_SHOWN else ""
                warnings.append(
                    f"the ordering of {units!r} by {self._key(self.var_names, units)!r} separates "
                    f"slots weakly: overlap of {shown}{more}; 0.17 is that of two units that do "
                    "not differ in it" + _cut(source, layout, units, element)
                )
        return Remarks(warnings)

    def _ordered(self, source: Source, layout: Layout, units: str, element: Monomial) -> Array:
        """The coordinate of every slot, (draws, K)."""
        parts = []
        for number, rows in enumerate(source.slices):
            values, flips = self._coordinate(source.block(number), layout, units, self.var_names)
            parts.append(element[rows].act(values, signed=flips, power=0))
        return np.concatenate(parts)

    @staticmethod
    def _key(key: str | Mapping[str, str], units: str) -> str:
        """What orders, or pins, these units."""
        return key if isinstance(key, str) else key.get(units, "bias")

    def _coordinate(
        self, block: Block, layout: Layout, units: str, key: str | Mapping[str, str]
    ) -> tuple[Array, bool]:
        """One number per unit, and whether it flips with the unit."""
        unknown = sorted(set(key) - set(layout.sizes)) if isinstance(key, Mapping) else []
        if unknown:
            raise SpecError(
                f"criterion order: there are no units {unknown[0]!r}; there are "
                f"{', '.join(layout.sizes)}"
            )
        text = self._key(key, units)
        columns = layout.columns[units]
        if text == "norm":
            return self._norm(block, layout, units), False
        if text == "bias":
            single = [c for c in columns if c.incoming and _count(columns, c.variable) == 1]
            if len(single) != 1:
                offered = _offered(columns)
                example = next((name for name in offered if name != "norm"), "norm")
                raise SpecError(
                    f"criterion order: which coordinate orders the units {units!r}? They have no "
                    f"unique bias; name one, as in var_names={example!r}: there are "
                    f"{', '.join(offered)}"
                )
            text = single[0].variable
        match = re.fullmatch(r"(.+?)(?:\[(\d+)\])?", text)
        assert match is not None
        name, position = match[1], int(match[2] or 0)
        found = [i for i, c in enumerate(columns) if (c.variable, c.position) == (name, position)]
        if not found or (match[2] is None and _count(columns, name) != 1):
            raise SpecError(
                f"criterion order: {text!r} is not one coordinate of the units {units!r}; "
                f"there are {', '.join(_offered(columns))}"
            )
        return block.own[units][:, :, found[0]], columns[found[0]].signed

    def _norm(self, block: Block, layout: Layout, units: str) -> Array:
        """Norm of all that is written to each unit."""
        incoming = np.array([c.incoming for c in layout.columns[units]], dtype=bool)
        squares = (block.own[units][:, :, incoming] ** 2).sum(axis=2)
        for number, side in layout.touching(units):
            if layout.pairs[number].incoming[side]:
                squares = squares + block.norms[number][side]
        norms: Array = np.sqrt(squares)
        return norms


def _offered(columns: tuple[Any, ...]) -> list[str]:
    """Return the coordinates as `var_names` takes them; the norm is that of incoming weights."""
    found = {
        c.variable if _count(columns, c.variable) == 1 else f"{c.variable}[{c.position}]"
        for c in columns
    }
    return [*(["norm"] if any(c.incoming for c in columns) else []), *sorted(found)]


def _count(columns: tuple[Any, ...], variable: str) -> int:
    """How many features of a variable there are."""
    return sum(column.variable == variable for column in columns)


def overlaps(ordered: Array) -> Array:
    """Share of pairs of draws in which a slot lies beyond the next one, shape (K - 1,).

    Parameters
    ----------
    ordered : ndarray of shape (draws, K)
        One coordinate of every slot. Pairs that tie count half.

    Examples
    --------
    >>> import numpy as np
    >>> overlaps(np.array([[0.0, 1.0], [2.0, 3.0]]))
    array([0.25])
    """
    columns = np.sort(ordered, axis=0).T
    found = [
        np.searchsorted(upper, lower, "left").sum() + np.searchsorted(upper, lower, "right").sum()
        for lower, upper in pairwise(columns)
    ]
    return np.array(found, dtype=float) / (2.0 * len(ordered) ** 2)


def _cut(source: Source, layout: Layout, units: str, element: Monomial) -> str:
    """How many draws lie nearer to the mean of the ordered draws under other labels."""
    if layout.coupled:
        return ""
    mean, pooled = Mean(), pooled_moments(source)
    one = replace(layout, sizes={units: layout.sizes[units]})
    total: Statistics = {}
    for number, rows in enumerate(source.slices):
        part = mean.statistics(source.block(number), one, {units: element[rows]})
        total = add(total, part) if total else part
    middle = mean.form_reference(total, pooled, one, None)
    moved = 0
    for number, rows in enumerate(source.slices):
        score = mean.score(source.block(number), one, middle, units)
        best = one.groups[units].match(score)
        gain = score.of(best) - score.of(element[rows])
        moved += int((gain > _ROUNDING * np.abs(score.of(best))).sum())
    n_draws = source.n_draws
    return f"; {moved} of {n_draws} draws lie nearer to the mean of the ordered ones otherwise"
