"""A canonical form: units in the order of a coordinate, with pinned signs; no reference."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from relabel.criteria.base import Criterion, Reference, Statistics
from relabel.elements import Element
from relabel.errors import SpecError
from relabel.features import Block, Layout
from relabel.groups import Score
from relabel.moments import Pooled

__all__ = ["Order"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Order(Criterion):
    r"""Order units by one coordinate and make one coordinate of each positive.

    Ordering is the assignment to a ramp: :math:`\max_\sigma \sum_k k\,x_{\sigma(k)}` sorts *x*.
    Reproducible without any reference, but where the coordinate separates units weakly, an
    ordering cuts modes in two and glues halves together (Celeux 1998; Stephens 2000): compare it
    with the mean before you rely on it.

    Parameters
    ----------
    by : str or mapping of units to str
        ``"bias"``, ``"norm"`` (of all incoming weights), a variable with one value per unit
        (``"b1"``), or one entry of a variable (``"W1[0]"``, counted over its other axes).
        Biases that read a sigmoid layer are taken centred (bias plus half the sum of what is
        read), since only that does not depend on the flips of the layer before.
    pin : str or mapping of units to str, optional
        The coordinate whose sign is made positive, in the same notation; `by` by default. Used
        for units that have a sign.

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
    >>> relabel.align(draws, units, criterion=relabel.Order(by="mu"))["mu"].values[0, 1]
    array([0.1, 5.1])
    """

    by: str | Mapping[str, str] = "bias"
    pin: str | Mapping[str, str] | None = None
    name: ClassVar[str] = "order"

    def __post_init__(self) -> None:
        """Check the options."""
        for option, key in (("by", self.by), ("pin", self.pin)):
            given: Any = [key] if not isinstance(key, Mapping) else [*key, *key.values()]
            if option == "pin" and key is None:
                continue
            if not given or not all(isinstance(text, str) and text for text in given):
                raise SpecError(
                    f"criterion order: {option} is a coordinate such as 'bias' or 'W1[0]', or a "
                    f"table from units to coordinates, not {key!r}"
                )

    def statistics(
        self, block: Block, layout: Layout, elements: Mapping[str, Element]
    ) -> Statistics:
        """Return nothing: there is no reference to form."""
        return {}

    def reference(
        self, statistics: Statistics, pooled: Pooled, layout: Layout, previous: Reference | None
    ) -> Reference:
        """Return an empty reference, which also takes the pairs out of the loss."""
        pairs = tuple(
            np.zeros((layout.sizes[p.units[0]], layout.sizes[p.units[1]], 1)) for p in layout.pairs
        )
        return Reference({}, {}, {}, pairs, tuple(0.0 for _ in pairs))

    def unary(self, block: Block, layout: Layout, reference: Reference, units: str) -> Score:
        """Score by the ramp; the pinned coordinate decides on signs."""
        values, flips = self._coordinate(block, layout, units, self.by)
        ramp = np.arange(layout.sizes[units], dtype=float)
        odd = np.zeros(ramp.size)[:, None] * values[:, None, :]
        if layout.groups[units].signs:
            pinned, pin_flips = self._coordinate(
                block, layout, units, self.by if self.pin is None else self.pin
            )
            if not pin_flips:
                raise SpecError(
                    f"criterion order: the coordinate that pins the signs of {units!r} does not "
                    "change with them; name an incoming weight or a bias in pin"
                )
            odd = odd + pinned[:, None, :]
            values = np.where((pinned < 0) & flips, -values, values)
        return Score(ramp[:, None] * values[:, None, :], odd)

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
        text = key if isinstance(key, str) else key.get(units, "bias")
        columns = layout.columns[units]
        if text == "norm":
            return self._norm(block, layout, units), False
        if text == "bias":
            names = {c.variable for c in columns if c.incoming}
            single = [c for c in columns if c.incoming and _count(columns, c.variable) == 1]
            if len(single) != 1:
                raise SpecError(
                    f"criterion order: units {units!r} have no unique bias (incoming: "
                    f"{', '.join(sorted(names)) or 'none'}); name a coordinate, as in "
                    "by='W1[0]' or by='norm'"
                )
            text = single[0].variable
        match = re.fullmatch(r"(.+?)(?:\[(\d+)\])?", text)
        assert match is not None
        name, position = match[1], int(match[2] or 0)
        found = [i for i, c in enumerate(columns) if (c.variable, c.position) == (name, position)]
        if not found or (match[2] is None and _count(columns, name) != 1):
            offered = sorted({f"{c.variable}[{c.position}]" for c in columns})
            raise SpecError(
                f"criterion order: {text!r} is not one coordinate of the units {units!r}; "
                f"there are 'norm', {', '.join(offered)}"
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


def _count(columns: tuple[Any, ...], variable: str) -> int:
    """How many features of a variable there are."""
    return sum(column.variable == variable for column in columns)
