"""Gaussian refinement: a full covariance for every slot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from relabel._util.validate import integer, real
from relabel.groups import Score
from relabel.groups.elements import Element
from relabel.matching.criteria.base import Criterion, Reference, Statistics
from relabel.matching.criteria.mean import Mean
from relabel.matching.features import Block, Layout, aligned_own, aligned_pair
from relabel.matching.moments import Pooled

__all__ = ["Gaussian"]

Array = NDArray[Any]

_ROUNDING = 1e-12  # of second moments, which hold a variance only down to this share


@dataclass(frozen=True)
class Gaussian(Criterion):
    r"""Slots as Gaussians with full covariances, shrunk; refines the iterated mean.

    The own features of slot *k* are modelled as :math:`N(\mu_k, \Sigma_k)`, the entries of
    weights between two sets of units as :math:`N(m, \tau^2)` with one variance per variable, and
    the loss of a draw is minus its log density (constants in 2π left out). Shrinkage is a prior
    on :math:`\Sigma_k`, an inverse Wishart with mode *T* (the diagonal of the covariance pooled
    over slots, at the start) with the weight of ``shrinkage`` draws per feature:

    .. math:: \hat\Sigma_k = \frac{n S_k + \nu T}{n + \nu}, \qquad \nu = \text{shrinkage} \cdot R

    so matching and updating still lower one and the same objective. Better than the mean when
    units spread widely and in different directions. Costs :math:`O(K^2 R^2)` a draw: for units
    with many hundreds of weights, choose `var_names`.

    Parameters
    ----------
    shrinkage : float, default 2.0
        Weight of the pooled diagonal, in draws per feature.
    max_sweeps : int, default 100
        ResolvedSpec on the number of times the Gaussians are fitted anew.
    var_names : tuple of str, optional
        Variables to match on; all that carry units by default.

    References
    ----------
    Stephens, M. (2000). Dealing with label switching in mixture models. *Journal of the Royal
    Statistical Society B* 62(4), 795-809. https://doi.org/10.1111/1467-9868.00265

    Examples
    --------
    >>> import numpy as np, xarray as xr, relabel
    >>> mu = np.array([[[0.0, 5.0], [5.1, 0.1], [-0.1, 4.9]]])
    >>> draws = xr.Dataset({"mu": (("chain", "draw", "component"), mu)})
    >>> units = {"component": "permutation"}
    >>> relabel.align(draws, units, criterion=relabel.criteria.Gaussian())["mu"].values[0, 1]
    array([0.1, 5.1])
    """

    shrinkage: float = 2.0
    max_sweeps: int = 100
    var_names: tuple[str, ...] | None = None
    name: ClassVar[str] = "gaussian"
    renamed_options: ClassVar[Mapping[str, str]] = {"variables": "var_names"}

    def __post_init__(self) -> None:
        """Check the options."""
        self.check_option("shrinkage", real, 0, open_ends=True)
        self.check_option("max_sweeps", integer, 1)
        self.check_var_names()

    @property
    def scale_free(self) -> bool:
        """Whether labels stay the same if one of the variables is multiplied by a number."""
        return True

    @property
    def matched_variables(self) -> tuple[str, ...] | None:
        """Names of the variables that units are matched on."""
        return self.var_names

    def initial(self) -> Criterion:
        """Start from the iterated mean."""
        return Mean(var_names=self.var_names)

    def statistics(
        self, block: Block, layout: Layout, elements: Mapping[str, Element]
    ) -> Statistics:
        """Return sums and sums of products of the aligned features."""
        sums: Statistics = {"n": len(block)}
        for units in layout.sizes:
            aligned = aligned_own(block, layout, units, elements[units])
            slots = np.ascontiguousarray(aligned.swapaxes(0, 1))
            sums[f"own {units}"] = slots.sum(axis=1)
            sums[f"products {units}"] = slots.swapaxes(1, 2) @ slots
        for number in range(len(layout.pairs)):
            aligned = aligned_pair(block, layout, number, elements)
            sums[f"pair {number}"] = aligned.sum(axis=0)
            sums[f"squares {number}"] = float((aligned**2).sum())
        return sums

    def form_reference(
        self, statistics: Statistics, pooled: Pooled, layout: Layout, previous: Reference | None
    ) -> Reference:
        """Fit a Gaussian to every slot, shrunk towards the pooled diagonal."""
        n = statistics["n"]
        own = {units: statistics[f"own {units}"] / n for units in layout.sizes}
        target, root = {}, {}
        for units, mean in own.items():
            products = statistics[f"products {units}"] / n
            scatter = products - mean[:, :, None] * mean[:, None, :]
            rounding = _ROUNDING * np.einsum("krr->kr", products)
            spread = np.einsum("krr->kr", scatter).mean(axis=0)
            floor = np.maximum(rounding.max(axis=0), _ROUNDING * pooled.own[units])
            target[units] = previous.weight[units] if previous else np.maximum(spread, floor)
            nu = self.shrinkage * mean.shape[1]
            scatter = scatter + np.einsum("kr,rs->krs", rounding, np.eye(mean.shape[1]))
            root[units] = precision_root((n * scatter + nu * np.diag(target[units])) / (n + nu))
        pairs = tuple(statistics[f"pair {p}"] / n for p in range(len(layout.pairs)))
        variances = [
            max(statistics[f"squares {p}"] / (n * mean.size) - float((mean**2).mean()), 1e-12 * v)
            for p, (mean, v) in enumerate(zip(pairs, pooled.pairs, strict=True))
        ]
        constant = sum(0.5 * m.size * np.log(v) for m, v in zip(pairs, variances, strict=True))
        weights = tuple(0.5 / v for v in variances)
        return Reference(own, layout.centre, target, pairs, weights, float(constant), root)

    def score(self, block: Block, layout: Layout, reference: Reference, units: str) -> Score:
        """Score by the log density of own features."""
        features, signed = layout.features(block, units), layout.signed(units)
        n_draws, n_units, n_features = features.shape
        even = np.zeros((n_draws, n_units, n_units))
        odd = np.zeros((n_draws, n_units, n_units))
        if not n_features:
            return Score(even, odd)
        flat = features.reshape(-1, n_features)
        for slot, (mean, root) in enumerate(
            zip(reference.own[units], reference.root[units], strict=True)
        ):
            turned = flat @ np.where(signed[:, None], root, 0.0)
            fixed = flat @ np.where(signed[:, None], 0.0, root) - mean @ root
            shape = (n_draws, n_units)
            log_root = np.log(np.diagonal(root)).sum()
            squares = (turned**2).sum(axis=1) + (fixed**2).sum(axis=1)
            even[:, slot] = log_root - 0.5 * squares.reshape(shape)
            odd[:, slot] = -(turned * fixed).sum(axis=1).reshape(shape)
        return Score(even, odd)

    def penalty(self, reference: Reference) -> float:
        """Return minus the log density of the covariances' prior, without constants."""
        total = 0.0
        for units, root in reference.root.items():
            nu = self.shrinkage * root.shape[1]
            for factor in root:
                log_root = np.log(np.diagonal(factor)).sum()
                trace = (reference.weight[units][:, None] * factor**2).sum()
                total += nu * float(0.5 * trace - log_root)
        return total


def precision_root(covariance: Array) -> Array:
    """Triangular L of every slot with L L' the inverse of its covariance, (K, R, R)."""
    if not covariance.shape[-1]:
        return covariance
    sd = np.sqrt(np.einsum("krr->kr", covariance))
    factor = np.linalg.cholesky(covariance / (sd[:, :, None] * sd[:, None, :]))
    root: Array = np.linalg.inv(factor).swapaxes(1, 2) / sd[:, :, None]
    return root
