"""Relabelling by a few pivotal observations that are seldom allocated together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import cut_tree, linkage
from scipy.spatial.distance import squareform

from relabel._util.validate import choice, integer
from relabel.groups import Score
from relabel.groups.elements import Element
from relabel.matching.criteria.base import Reference, Remarks
from relabel.matching.criteria.ecr import ByMismatches, mismatches
from relabel.matching.features import Block, Layout, Source

__all__ = ["Pivotal", "together"]

Array = NDArray[Any]

_METHODS = ("difference", "inside", "outside")
_LINKAGES = ("average", "complete", "single")


@dataclass(frozen=True)
class Pivotal(ByMismatches):
    r"""The labels of *K* pivots, one observation of each group, name the slots.

    Let :math:`c_{ij}` be the share of draws that allocate the observations *i* and *j* to one
    component, which no labels change. Hierarchical clustering with the dissimilarity
    :math:`1 - c_{ij}` makes *K* groups; the pivot of group *G* is the *i* in *G* of largest

    .. math:: \sum_{j \in G} c_{ij} - \sum_{j \notin G} c_{ij}

    and the component of pivot *k* goes into slot *k*. Draws in which two pivots share a component
    cannot be relabelled by them alone: they are counted in a warning, flagged in
    ``pivots_coincide``, and labelled as far as their pivots differ; what is left open is decided
    by how many observations of its group a slot then holds. Slots are in the order of the first
    observation of each group.

    The loss of a draw has the number of pivots that are not in their slots as its whole part, and
    the share of observations that are not in the slot of their group as the rest (over n + 1).

    Parameters
    ----------
    z : str or ndarray, default "allocation/z"
        As in :class:`relabel.criteria.ECR`.
    method : {"difference", "inside", "outside"}
        The pivot has the largest sum within its group less that outside, the largest within, or
        the smallest outside.
    linkage : {"average", "complete", "single"}
        How the clustering measures the dissimilarity of two groups.
    max_obs : int, default 2000
        At most so many of the observations, evenly spaced, are clustered: time and memory grow
        with its square.

    References
    ----------
    Egidi, L., Pappadà, R., Pauli, F. & Torelli, N. (2018). Relabelling in Bayesian mixture models
    by pivotal units. *Statistics and Computing* 28(4), 957-969.
    https://doi.org/10.1007/s11222-017-9774-2

    Examples
    --------
    >>> import xarray as xr, relabel
    >>> draws = xr.Dataset(
    ...     {"mu": (("chain", "draw", "component"), [[[0.0, 5.0], [5.1, 0.1]]]),
    ...      "z": (("chain", "draw", "obs"), [[[1, 0, 1], [0, 1, 0]]])})
    >>> criterion = relabel.criteria.Pivotal(z="z")
    >>> aligned = relabel.align(draws, {"component": "permutation"}, criterion=criterion)
    >>> aligned["mu"].values[0]
    array([[5. , 0. ],
           [5.1, 0.1]])
    """

    z: str | Array = "allocation/z"
    method: Literal["difference", "inside", "outside"] = "difference"
    linkage: Literal["average", "complete", "single"] = "average"
    max_obs: int = 2000
    name: ClassVar[str] = "pivotal"

    def __post_init__(self) -> None:
        """Check the options."""
        self.check_option("method", choice, _METHODS)
        self.check_option("linkage", choice, _LINKAGES)
        self.check_option("max_obs", integer, 1)

    @property
    def reads(self) -> dict[str, Any]:
        """Return where allocations are."""
        return {"z": self.z}

    def only_reference(self, source: Source, first: Block | None) -> Reference:
        """Return the pivots, one per group, and the group of every observation that has one."""
        (size,) = source.layout.sizes.values()
        n_obs = source.block(0).beside["z"].shape[1]
        chosen = np.linspace(0, n_obs - 1, min(n_obs, self.max_obs)).astype(int)
        similar = together(source, chosen, size)
        known = np.flatnonzero(similar.diagonal() > 0)  # the others were never allocated
        chosen, similar = chosen[known], similar[np.ix_(known, known)]
        groups = _groups(similar, size, self.linkage)
        each = range(groups.max(initial=-1) + 1)
        pivots = np.array([self._pivot(similar, groups == g) for g in each], dtype=np.intp)
        whole = np.full(n_obs, -1)
        whole[chosen] = groups
        return Reference(beside={"pivot": whole, "pivots": chosen[pivots]})

    def _pivot(self, similar: Array, group: Array) -> int:
        """Position of the observation that stands for a group."""
        inside, outside = (
            similar[group][:, group].sum(axis=1),
            similar[group][:, ~group].sum(axis=1),
        )
        value = {"difference": inside - outside, "inside": inside, "outside": -outside}
        return int(np.flatnonzero(group)[value[self.method].argmax()])

    def score(self, block: Block, layout: Layout, reference: Reference, units: str) -> Score:
        """Score by minus the pivots that are not in a slot; below one, by other observations."""
        z, pivots = block.beside["z"], reference.beside["pivots"]
        rest = mismatches(z, reference.beside["pivot"], layout.sizes[units])
        even = rest.even / (z.shape[1] + 1)
        labels = z[:, pivots]  # (draws, pivots)
        held = labels[:, :, None] == np.arange(layout.sizes[units])
        even[:, : pivots.size] += held
        even -= held.sum(axis=1, keepdims=True)
        return Score(even, rest.odd)

    def remarks(
        self, source: Source, layout: Layout, reference: Reference, elements: Mapping[str, Element]
    ) -> Remarks:
        """Flag the draws whose pivots share a component."""
        pivots = reference.beside["pivots"]
        blocks = (source.block(b).beside["z"][:, pivots] for b in range(len(source.slices)))
        labels = np.sort(np.concatenate(list(blocks)), axis=1)
        shared = (labels[:, 1:] == labels[:, :-1]) & (labels[:, 1:] >= 0)
        coincide = shared.any(axis=1).astype(np.int8)
        warnings = []
        if coincide.any():
            warnings.append(
                f"in {int(coincide.sum())} of {coincide.size} draws two pivots share a component "
                "(flagged in pivots_coincide): their labels follow from the other observations"
            )
        (size,) = layout.sizes.values()
        if pivots.size < size:
            warnings.append(
                f"there are {pivots.size} pivots for {size} components, since there are no more "
                "observations: the labels of the others mean nothing"
            )
        return Remarks(warnings, {"pivots_coincide": coincide})


def together(source: Source, chosen: Array, n_units: int) -> Array:
    """Share of draws that allocate two observations alike, of those that allocate both: (n, n).

    One product of matrices per block; observations that are never both allocated share 0.
    """
    alike = np.zeros((chosen.size, chosen.size), np.float32)
    both = np.zeros((chosen.size, chosen.size), np.float32)
    n_complete = 0
    for number in range(len(source.slices)):
        z = source.block(number).beside["z"][:, chosen]
        for label in range(n_units):
            held = (z == label).astype(np.float32)
            alike += held.T @ held
        there = z >= 0
        if there.all():
            n_complete += len(z)
        else:
            known = there.astype(np.float32)
            both += known.T @ known
    both += n_complete
    shares: Array = alike / np.maximum(both, 1)
    return shares


def _groups(similar: Array, size: int, method: str) -> Array:
    """Group of every observation, numbered by their first members."""
    n_obs = len(similar)
    if n_obs <= size:
        return np.arange(n_obs)
    apart = np.clip(1.0 - similar.astype(float), 0.0, 1.0)
    np.fill_diagonal(apart, 0.0)
    tree = linkage(squareform(apart, checks=False), method)
    found = cut_tree(tree, n_clusters=size)[:, 0]
    _, first, inverse = np.unique(found, return_index=True, return_inverse=True)
    groups: Array = np.argsort(np.argsort(first))[inverse]
    return groups
