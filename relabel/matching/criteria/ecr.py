"""Relabelling by allocations: as many observations as possible keep the class of a pivot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from relabel.errors import SpecError
from relabel.groups import Score
from relabel.groups.elements import Element, Monomial, monomial
from relabel.matching.criteria.base import Criterion, Reference, Statistics, is_draw
from relabel.matching.features import Block, Layout, Source
from relabel.matching.moments import Pooled

__all__ = ["ECR", "allocated", "mismatches", "most_frequent"]

Array = NDArray[Any]


class ByMismatches(Criterion):
    """A criterion that counts the observations which a slot does not hold in the reference."""

    def statistics(
        self, block: Block, layout: Layout, elements: Mapping[str, Element]
    ) -> Statistics:
        """Return how often each observation was in each slot, shape (n, K)."""
        (element,) = map(monomial, elements.values())
        return {"counts": allocated(block.beside["z"], element)}

    def form_reference(
        self, statistics: Statistics, pooled: Pooled, layout: Layout, previous: Reference | None
    ) -> Reference:
        """Return every observation's most frequent slot, the first of several; -1 for none."""
        return most_frequent(statistics["counts"])

    def score(self, block: Block, layout: Layout, reference: Reference, units: str) -> Score:
        """Score by minus the number of a unit's observations that a slot does not hold."""
        return mismatches(block.beside["z"], reference.beside["pivot"], layout.sizes[units])


@dataclass(frozen=True)
class ECR(ByMismatches):
    r"""Equivalence classes representatives: allocations as near as possible to a pivot.

    .. math:: \sum_t \min_{\sigma_t} \#\{i : \sigma_t^{-1}(z_{ti}) \ne z^*_i\}

    One assignment per draw on the table of labels against pivot labels. Missing allocations, of a
    draw or of the pivot, do not count.

    Parameters
    ----------
    z : str or ndarray, default "allocation/z"
        Address of the allocations, or an array of shape (chain, draw, n); labels from 0, −1 where
        missing.
    reference : "map", mapping, ndarray or list, default "map"
        The pivot: the draw of highest ``sample_stats/lp``; ``{"chain": c, "draw": d}``, coordinates
        of a draw; or labels of shape (n,), or the address of such.

    References
    ----------
    Papastamoulis, P. & Iliopoulos, G. (2010). An artificial allocations based solution to the
    label switching problem in Bayesian analysis of mixtures of distributions. *Journal of
    Computational and Graphical Statistics* 19(2), 313-331. https://doi.org/10.1198/jcgs.2010.09008

    Examples
    --------
    >>> import numpy as np, xarray as xr, relabel
    >>> draws = xr.Dataset(
    ...     {"mu": (("chain", "draw", "component"), [[[0.0, 5.0], [5.1, 0.1]]]),
    ...      "z": (("chain", "draw", "obs"), [[[0, 0, 1], [1, 1, 0]]])})
    >>> criterion = relabel.criteria.ECR(z="z", reference=np.array([1, 1, 0]))
    >>> aligned = relabel.align(draws, {"component": "permutation"}, criterion=criterion)
    >>> aligned["mu"].values[0]
    array([[5. , 0. ],
           [5.1, 0.1]])
    >>> aligned["z"].values[0]
    array([[1, 1, 0],
           [1, 1, 0]])
    """

    z: str | Array = "allocation/z"
    reference: str | Mapping[str, Any] | Sequence[int] | Array = "map"
    name: ClassVar[str] = "ecr"
    named_references: ClassVar[tuple[str, ...]] = ("map",)
    renamed_options: ClassVar[Mapping[str, str]] = {"pivot": "reference"}

    def __post_init__(self) -> None:
        """Check the options."""
        given: Any = self.reference
        if isinstance(given, (list, tuple)):
            object.__setattr__(self, "reference", _labels(given))
        elif not (is_draw(given) or isinstance(given, (str, np.ndarray))):
            raise SpecError(
                "criterion ecr: reference must be 'map', {'chain': c, 'draw': d}, labels in an "
                f"array, or the address of such, not {given!r}"
            )

    @property
    def reads(self) -> dict[str, Any]:
        """Return where allocations are, and the pivot if it is not one of the draws."""
        pivot = {} if self.first_reference is not None else {"reference": self.reference}
        return {"z": self.z} | pivot

    @property
    def first_reference(self) -> Any:
        """Return the draw that is the pivot; None where its labels are given."""
        if is_draw(self.reference):
            return self.reference
        return "map" if isinstance(self.reference, str) and self.reference == "map" else None

    def only_reference(self, source: Source, first: Block | None) -> Reference | None:
        """Return the pivot, if it is given."""
        if self.first_reference is not None:
            return None
        return Reference(beside={"pivot": source.block(0).fixed["reference"]})


def most_frequent(counts: Array) -> Reference:
    """Return the pivot of counts (n, K): each observation's first most frequent slot, or -1."""
    pivot = np.where(counts.any(axis=1), counts.argmax(axis=1), -1)
    return Reference(beside={"pivot": pivot})


def mismatches(z: Array, pivot: Array, n_units: int) -> Score:
    """Score by minus the number of a unit's observations that the pivot has in other slots."""
    n_labels = n_units + 1  # one for missing
    table = ((pivot + 1) * n_labels + 1) + z
    table += np.arange(len(z))[:, None] * n_labels**2
    counts = np.bincount(table.ravel(), minlength=len(z) * n_labels**2)
    counts = counts.reshape(len(z), n_labels, n_labels)[:, 1:, 1:]  # pivot label, own label
    even = (counts - counts.sum(axis=1, keepdims=True)).astype(float)
    return Score(even, np.broadcast_to(0.0, even.shape))


def _labels(pivot: Sequence[Any]) -> Array:
    """Return labels that were given as a list."""
    try:
        labels = np.asarray(pivot)
    except ValueError:
        labels = np.empty(0, object)  # lists of unequal lengths
    if labels.ndim != 1 or not labels.size or labels.dtype.kind not in "iuf":
        raise SpecError(
            f"criterion ecr: reference must hold labels of shape (n,), numbers, not {pivot!r}"
        )
    return labels


def allocated(z: Array, element: Monomial) -> Array:
    """Count how often each observation was in each slot, (draws, n) to (n, K); missing left out."""
    n_labels = element.size + 1
    slot = np.zeros((len(z), n_labels), np.intp)
    slot[:, 1:] = element.inverse().index + 1
    table = np.take_along_axis(slot, z + 1, axis=1)
    table += np.arange(z.shape[1]) * n_labels
    counts = np.bincount(table.ravel(), minlength=z.shape[1] * n_labels)
    return counts.reshape(z.shape[1], n_labels)[:, 1:]
