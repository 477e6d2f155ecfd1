"""Relabelling by the data that are allocated to each label: running means and deviations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from relabel._util.validate import choice
from relabel.groups import Score
from relabel.groups.elements import Element, monomial
from relabel.matching.criteria.base import Criterion, Reference, Statistics
from relabel.matching.features import Block, Layout, Source
from relabel.matching.moments import Pooled
from relabel.numerics.assignment import assign

__all__ = ["DataBased"]

Array = NDArray[Any]

_LEAST = 1e-12  # share of a variance that is only rounding


@dataclass(frozen=True)
class DataBased(Criterion):
    r"""The data in each slot as near as possible to what the slot has held.

    .. math:: \sum_t \min_{\sigma_t} \sum_{k} \sum_{i: z_{ti} = \sigma_t(k)} \sum_d
        \left(\frac{x_{id} - \mu_{kd}}{s_{kd}}\right)^2

    A first pass over the draws puts each into the slots whose data, in the draws before it, have
    the nearest mean :math:`\mu_k` in deviations :math:`s_k`, and adds its data to them. A second
    pass matches all draws to the means and deviations that the first ended with. Only counts,
    sums and squares of the data of each label are needed of a draw, one pass over z. Every slot
    begins with one observation that stands for its start, so that it has a mean and a deviation
    however little it held. Missing allocations and observations do not count.

    Parameters
    ----------
    z : str or ndarray, default "allocation/z"
        As in :class:`relabel.criteria.ECR`.
    x : str or ndarray, default "observed_data/y"
        Address of the data, or an array of shape (n,) or (n, d); nan where missing.
    reference : {"draw", "data"}
        The slots before the first pass: those of one draw (that of the highest `lp`), or means
        evenly spaced over the range of the data, the highest first, which asks for no draw and
        gives the slots the same order whatever the labels were.

    References
    ----------
    Rodríguez, C. E. & Walker, S. G. (2014). Label switching in Bayesian mixture models:
    deterministic relabeling strategies. *Journal of Computational and Graphical Statistics*
    23(1), 25-45. https://doi.org/10.1080/10618600.2012.735624

    Examples
    --------
    >>> import numpy as np, xarray as xr, relabel
    >>> draws = xr.Dataset(
    ...     {"mu": (("chain", "draw", "component"), [[[0.0, 5.0], [5.1, 0.1]]]),
    ...      "z": (("chain", "draw", "obs"), [[[0, 0, 1, 1], [1, 1, 0, 0]]])})
    >>> x = np.array([0.1, -0.2, 4.9, 5.3])
    >>> criterion = relabel.criteria.DataBased(z="z", x=x, reference="data")
    >>> relabel.align(draws, {"component": "permutation"}, criterion=criterion)["mu"].values[0]
    array([[5. , 0. ],
           [5.1, 0.1]])
    """

    z: str | Array = "allocation/z"
    x: str | Array = "observed_data/y"
    reference: Literal["draw", "data"] = "draw"
    name: ClassVar[str] = "data-based"
    renamed_options: ClassVar[Mapping[str, str]] = {"start": "reference"}

    def __post_init__(self) -> None:
        """Check the options."""
        self.check_option("reference", choice, ("draw", "data"))

    @property
    def reads(self) -> dict[str, Any]:
        """Return where allocations and data are."""
        return {"z": self.z, "x": self.x}

    def statistics(
        self, block: Block, layout: Layout, elements: Mapping[str, Element]
    ) -> Statistics:
        """Return counts, sums and squares of the data of every slot, (K,), (K, d) and (K, d)."""
        (element,) = map(monomial, elements.values())
        parts = zip(("n", "sum", "squares"), _sums(block, element.size), strict=True)
        return {name: element.act(part, signed=False, power=0).sum(axis=0) for name, part in parts}

    def form_reference(
        self, statistics: Statistics, pooled: Pooled, layout: Layout, previous: Reference | None
    ) -> Reference:
        """Return mean and inverse variance of the data of every slot, both (K, d)."""
        n = statistics["n"][:, None]
        mean = statistics["sum"] / np.maximum(n, 1)
        variance = statistics["squares"] / np.maximum(n, 1) - mean**2
        return _slots(mean, variance)

    def only_reference(self, source: Source, first: Block | None) -> Reference:
        """Return what the slots held after the first pass over the draws."""
        block = source.block(0)
        (size,) = source.layout.sizes.values()
        x, _ = _centred(block.fixed["x"])
        start = _ramp(x, size)
        if self.reference == "draw" or not x.size:
            spread = np.broadcast_to(x.var(axis=0), (size, x.shape[1]))
            start = _Totals.of_one(np.zeros_like(spread), spread)
            start.add(*(part[0] for part in _sums(first or source.draw(0), size)))
        totals = start.copy()
        for number in range(len(source.slices)):
            for parts in zip(*_sums(source.block(number), size), strict=True):
                n, total, squares = (part[None] for part in parts)
                order = assign(-_costs(n, total, squares, totals.slots()))[0]
                totals.add(*(part[order] for part in parts))
        slots = totals.slots()
        if self.reference == "data":
            return slots
        return _in_labels_of(first or source.draw(0), slots, size)

    def score(self, block: Block, layout: Layout, reference: Reference, units: str) -> Score:
        """Score by minus the squared deviations of a unit's data from those of a slot."""
        even = -_costs(*_sums(block, layout.sizes[units]), reference)
        return Score(even, np.broadcast_to(0.0, even.shape))


@dataclass
class _Totals:
    """Counts, sums and squares of the data of every slot: (K,), (K, d) and (K, d)."""

    n: Array
    sum: Array
    squares: Array

    @classmethod
    def of_one(cls, mean: Array, variance: Array) -> _Totals:
        """One observation of each slot, which has a variance of its own."""
        return cls(np.ones(len(mean)), mean.copy(), mean**2 + variance)

    def copy(self) -> _Totals:
        return _Totals(self.n.copy(), self.sum.copy(), self.squares.copy())

    def add(self, n: Array, total: Array, squares: Array) -> None:
        self.n += n
        self.sum += total
        self.squares += squares

    def slots(self) -> Reference:
        mean = self.sum / self.n[:, None]
        return _slots(mean, self.squares / self.n[:, None] - mean**2)


def _slots(mean: Array, variance: Array) -> Reference:
    """Means and inverse variances; what does not vary anywhere has the variance 1."""
    floor = _LEAST * variance.max(axis=0, initial=0.0)
    variance = np.maximum(variance, np.where(floor > 0, floor, 1.0))
    return Reference(beside={"mean": mean, "precision": 1.0 / variance})


def _in_labels_of(first: Block, slots: Reference, size: int) -> Reference:
    """Slots in such an order that a draw keeps its labels, whatever the order was before."""
    order = np.argsort(assign(-_costs(*_sums(first, size), slots))[0])
    return Reference(beside={name: array[order] for name, array in slots.beside.items()})


def _ramp(x: Array, size: int) -> _Totals:
    """Slots evenly spaced over the range of the data, the highest first."""
    low, high = (x.min(axis=0), x.max(axis=0)) if len(x) else (np.zeros(x.shape[1]),) * 2
    step = (high - low) / (size + 1)
    means = high - np.arange(1, size + 1)[:, None] * step
    return _Totals.of_one(means, np.broadcast_to(step**2, means.shape))


def _centred(x: Array) -> tuple[Array, Array]:
    """Observations that are all there, about their mean, which keeps digits; which those are."""
    there: Array = ~np.asarray(np.isnan(x).any(axis=1))
    known = x[there]
    return known - known.mean(axis=0) if len(known) else known, there


def _sums(block: Block, size: int) -> tuple[Array, Array, Array]:
    """Counts, sums and squares of the data of every label, (draws, K) and twice (draws, K, d)."""
    memo = block.memo
    if "n" not in memo:
        x, there = _centred(block.fixed["x"])
        z = block.beside["z"] if there.all() else block.beside["z"][:, there]
        n_draws, n_labels = len(z), size + 1  # one for missing
        cells = (z + (1 + np.arange(n_draws)[:, None] * n_labels)).ravel()
        n_cells = n_draws * n_labels

        def of(weights: Array | None) -> Array:
            if weights is not None:
                weights = np.tile(weights, n_draws)
            counts = np.bincount(cells, weights, minlength=n_cells)
            return counts.reshape(n_draws, n_labels)[:, 1:].astype(float)

        memo["n"] = of(None)
        memo["sum"] = np.stack([of(column) for column in x.T], axis=2)
        memo["squares"] = np.stack([of(column**2) for column in x.T], axis=2)
    return memo["n"], memo["sum"], memo["squares"]


def _costs(n: Array, total: Array, squares: Array, slots: Reference) -> Array:
    """Squared deviations of every label's data from every slot, (draws, slots, labels)."""
    mean, precision = slots.beside["mean"], slots.beside["precision"]
    cost = precision @ squares.swapaxes(1, 2)
    cost -= (2 * mean * precision) @ total.swapaxes(1, 2)
    cost += (mean**2 * precision).sum(axis=1)[:, None] * n[:, None, :]
    costs: Array = cost
    return costs
