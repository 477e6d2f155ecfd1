"""Relabelling by allocation probabilities: Kullback-Leibler divergence from their mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from relabel.groups import Score
from relabel.groups.elements import Element, Monomial, monomial
from relabel.matching.criteria.base import (
    FromDrawOrLabels,
    Reference,
    StartReference,
    Statistics,
)
from relabel.matching.features import Block, Layout
from relabel.matching.moments import Pooled

__all__ = ["Stephens", "aligned_sum"]

Array = NDArray[Any]

_LEAST = 1e-6  # of a probability, so that logarithms stay finite


@dataclass(frozen=True)
class Stephens(FromDrawOrLabels):
    r"""Allocation probabilities as near as possible to their mean, in Kullback-Leibler divergence.

    .. math:: \sum_t \min_{\sigma_t} \sum_{i,k}
        p_{t i \sigma_t(k)} \log \frac{p_{t i \sigma_t(k)}}{q_{ik}},
        \qquad q_{ik} = \frac1m \sum_t p_{t i \sigma_t(k)}

    where :math:`p_{tik}` is the probability that observation *i* comes from component *k* in draw
    *t*. Matching and mean in turn never raise the loss. Probabilities are clipped to
    [1e-6, 1 − 1e-6] and made to sum to one; observations whose probabilities are missing (nan, in
    an array or in the group ``allocation``) count as uniform, which favours no labelling.

    Parameters
    ----------
    prob : str or ndarray, default "allocation/prob"
        Address of the probabilities, or an array of shape (chain, draw, n, K).
    reference : {"draw", "labels", "both"}
        The first reference: one draw (that of the highest `lp`), or the mean over the labels that
        the draws came with. With ``"draw"`` those labels are kept if they turn out no worse.
    max_sweeps : int, default 100
        Bound on the number of times the mean is formed anew.

    References
    ----------
    Stephens, M. (2000). Dealing with label switching in mixture models. *Journal of the Royal
    Statistical Society B* 62(4), 795-809. https://doi.org/10.1111/1467-9868.00265

    Examples
    --------
    >>> import numpy as np, xarray as xr, relabel
    >>> prob = np.array([[[[0.9, 0.1], [0.2, 0.8]], [[0.1, 0.9], [0.7, 0.3]]]])
    >>> draws = xr.Dataset(
    ...     {"mu": (("chain", "draw", "component"), [[[0.0, 5.0], [5.1, 0.1]]]),
    ...      "prob": (("chain", "draw", "obs", "component"), prob)})
    >>> units = {"component": "permutation"}
    >>> criterion = relabel.criteria.Stephens(prob="prob")
    >>> relabel.align(draws, units, criterion=criterion)["mu"].values[0]
    array([[5. , 0. ],
           [5.1, 0.1]])
    """

    prob: str | Array = "allocation/prob"
    reference: StartReference = "draw"
    max_sweeps: int = 100
    name: ClassVar[str] = "stephens"
    is_distance: ClassVar[bool] = True
    renamed_options: ClassVar[Mapping[str, str]] = {"start": "reference"}

    def __post_init__(self) -> None:
        """Check the options."""
        self.check_start()

    @property
    def reads(self) -> dict[str, Any]:
        """Return where the probabilities are."""
        return {"prob": self.prob}

    def statistics(
        self, block: Block, layout: Layout, elements: Mapping[str, Element]
    ) -> Statistics:
        """Return the sum of the aligned probabilities, shape (K, n)."""
        (element,) = map(monomial, elements.values())
        clipped, weight = _clipped(block.beside["prob"])
        return {"n": len(block), "sum": aligned_sum(clipped, element, weight)}

    def form_reference(
        self, statistics: Statistics, pooled: Pooled, layout: Layout, previous: Reference | None
    ) -> Reference:
        """Return the logarithm of the mean of the aligned probabilities, shape (K, n)."""
        return Reference(beside={"log q": np.log(statistics["sum"] / statistics["n"])})

    def score(self, block: Block, layout: Layout, reference: Reference, units: str) -> Score:
        """Score by minus the divergence of a unit's probabilities from those of a slot."""
        clipped, weight = _clipped(block.beside["prob"])
        if "entropy" not in block.memo:
            block.memo["entropy"] = _negative_entropy(clipped, weight)
        weighted = reference.beside["log q"] * weight[:, None, :]
        even = weighted @ clipped - block.memo["entropy"][:, None, :]
        return Score(even, np.broadcast_to(0.0, even.shape))


def aligned_sum(prob: Array, element: Monomial, weight: Array) -> Array:
    """Sum over draws of weighted probabilities in slot order, (draws, n, K) to (K, n)."""
    gather = np.zeros((*element.index.shape, element.size))
    np.put_along_axis(gather, element.index[:, :, None], 1.0, axis=2)
    aligned = gather @ prob.swapaxes(1, 2)
    aligned *= weight[:, None, :]
    total: Array = aligned.sum(axis=0)
    return total


def _clipped(prob: Array) -> tuple[Array, Array]:
    """Probabilities within the bounds, and what makes those of an observation sum to one."""
    clipped = np.clip(prob, _LEAST, 1.0 - _LEAST, dtype=float)
    sums = clipped.reshape(-1, prob.shape[2]) @ np.ones(prob.shape[2])
    if np.isnan(sums).any():
        clipped = np.where(np.isnan(sums).reshape(*prob.shape[:2], 1), 1.0, clipped)
        sums = np.where(np.isnan(sums), float(prob.shape[2]), sums)
    return clipped, 1.0 / sums.reshape(prob.shape[:2])


def _negative_entropy(clipped: Array, weight: Array) -> Array:
    """Sum over observations of p log p, for each draw and unit."""
    logs = np.log(clipped)
    logs *= clipped
    own = (weight[:, None, :] @ logs)[:, 0]
    total: Array = own + ((weight * np.log(weight))[:, None, :] @ clipped)[:, 0]
    return total
