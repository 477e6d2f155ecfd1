"""Normals within the slots: the labels under which the draws are most probable. The default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from relabel._util.validate import choice, integer, real
from relabel.errors import SpecError
from relabel.groups import Score
from relabel.groups.elements import Element
from relabel.matching.criteria.base import Criterion, Reference, Statistics
from relabel.matching.criteria.full_covariance import full_score, precision_root, wishart_penalty
from relabel.matching.features import Block, Layout, aligned_own, aligned_pair
from relabel.matching.moments import Pooled

__all__ = ["Normal"]

Array = NDArray[Any]

_RESOLUTION = 1e-10  # share of the pooled variance that every value is uncertain by
_ROUNDING = 1e-12  # of second moments, which hold a covariance only down to this share
_SHRINKAGE = {"diagonal": 0.4, "full": 2.0}
_CHANCE = 3.0  # standard errors of a log variance, by which those of few draws differ


@dataclass(frozen=True)
class Normal(Criterion):
    r"""Normals within the slots, scales within the slots: the default criterion.

    Draws in slot order are modelled as independent normals. Feature *f* of slot *k* has the mean
    :math:`m_{kf}` and the variance :math:`v_{kf}`; the entries of an array between two sets of
    units have a mean each and one variance per array. The loss of a draw is minus its log density
    in nats, without the constants in 2π:

    .. math:: \tfrac12 \sum_{kf} \Bigl[\log v_{kf} + \frac{(x_{kf} - m_{kf})^2}{v_{kf}}\Bigr].

    Labels, means and variances are chosen by maximum likelihood, in turn, so the total loss never
    rises; at the optimum it is half the log determinant of the scatter within the slots for every
    draw. It does not depend on the units of measurement. A variable that tells no units apart
    has no say, however much it spreads, and one that does has as much as its separation deserves:
    that is what dividing by *pooled* scales, as :class:`Mean` does, gets wrong. A margin is the log
    odds against the next best assignment.

    **Scales.** One slot may be far wider than the others (an empty component, a spare unit), so
    slots have scales of their own. But units that differ a little in spread must not be sorted by
    their spread: where the log variances of the slots differ by less than a threshold they are set
    equal. Precisely, the variances maximise the likelihood with a penalty on how far each is from
    what the slots have in common,

    .. math:: \tfrac T2 \sum_k \Bigl[\log v_{kf} + \frac{s_{kf}}{v_{kf}}
              + \lambda\, |\log v_{kf} - c_f|\Bigr],

    where :math:`s_{kf}` is the variance within the slot and λ the `shrinkage`: variances between
    :math:`(1 - \lambda) e^c` and :math:`(1 + \lambda) e^c` become :math:`e^c`, larger ones are
    divided by 1 + λ, smaller ones by 1 − λ. The problem is convex and is solved exactly.

    **Floor.** Every value is taken to be uncertain by 1e-10 of the pooled variance of its feature
    (1e-5 of its spread), so that a feature that is constant within a slot counts as very telling,
    but not as infinitely so.

    **Scales and probabilities** are compared by their logs and logits where the spec declares their
    `supports` (see :class:`relabel.Spec`), as presets do: near their bounds these are far closer to
    normal. Arrays between two sets of units (transition matrices) are compared as they are.

    **Full covariances** (``covariance="full"``) refine the result of the diagonal:
    :math:`N(\mu_k, \Sigma_k)` for slot *k*, with an inverse Wishart prior whose mode is the
    diagonal *T* of the covariance pooled over slots at the start, with the weight of `shrinkage`
    draws per feature, :math:`\hat\Sigma_k = (n S_k + \nu T) / (n + \nu)`, ν = `shrinkage` · R. For
    units whose features vary together. Costs :math:`O(K^2 R^2)` a draw: for units with many
    hundreds of weights, choose `var_names`.

    Parameters
    ----------
    covariance : {"diagonal", "full"}
        Whether the features of a slot are independent.
    scales : {"slot", "shared"}
        Whether slots may have scales of their own, or share them all (λ = ∞). Units that rotate
        share theirs. Of ``"full"`` covariances each slot has its own.
    shrinkage : float, optional
        Diagonal: λ above, between 0 and 1. By default 0.4, or three standard errors of the log
        variance of so many draws, :math:`3 \sqrt{2 / T}`, if that is more: few draws differ in
        spread by chance. Any value from 0.3 to 0.5 does as well on the draws of
        ``benchmarks/labels.py`` and on networks with planted labels; 0.1 sorts noise, 0.7 misses
        components that are empty. Full: weight of the prior in draws per feature, by default 2.
    max_sweeps : int, default 100
        Bound on the number of times the normals are fitted anew.
    var_names : tuple of str, optional
        Variables to match on, as ``name`` or ``posterior/name``; all that carry units by default.

    References
    ----------
    Friedman, H. P. & Rubin, J. (1967). On some invariant criteria for grouping data. *Journal of
    the American Statistical Association* 62, 1159-1178.
    https://doi.org/10.1080/01621459.1967.10500923

    Scott, A. J. & Symons, M. J. (1971). Clustering methods based on likelihood ratio criteria.
    *Biometrics* 27, 387-397. https://doi.org/10.2307/2529003

    Stephens, M. (2000). Dealing with label switching in mixture models. *Journal of the Royal
    Statistical Society B* 62(4), 795-809. https://doi.org/10.1111/1467-9868.00265

    Examples
    --------
    The weights tell nothing, and the means everything:

    >>> import numpy as np, xarray as xr, relabel
    >>> rng = np.random.default_rng(0)
    >>> order = np.argsort(rng.random((1, 200, 3)), axis=2)
    >>> mu = np.take_along_axis([0.0, 5.0, 9.0] + 0.1 * rng.normal(size=order.shape), order, 2)
    >>> w = 0.3 + 0.02 * rng.normal(size=order.shape)
    >>> dims = ("chain", "draw", "component")
    >>> draws = xr.Dataset({"mu": (dims, mu), "w": (dims, w)})
    >>> aligned = relabel.align(draws, {"component": "permutation"})
    >>> sorted(aligned["mu"].mean(["chain", "draw"]).values.round(1).tolist())
    [0.0, 5.0, 9.0]
    """

    covariance: Literal["diagonal", "full"] = "diagonal"
    scales: Literal["slot", "shared"] = "slot"
    shrinkage: float | None = None
    max_sweeps: int = 100
    var_names: tuple[str, ...] | None = None
    name: ClassVar[str] = "normal"
    forms_mean: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the options."""
        self.check_option("covariance", choice, ("diagonal", "full"))
        self.check_option("scales", choice, ("slot", "shared"))
        if self.shrinkage is not None:
            self.check_option("shrinkage", real, 0, open_ends=True)
        if self.covariance == "diagonal" and self.shrinkage is not None and self.shrinkage > 1:
            raise SpecError(
                f"criterion normal: shrinkage must be at most 1 for diagonal covariances, not "
                f"{self.shrinkage!r}; scales='shared' shares them all"
            )
        self.check_option("max_sweeps", integer, 1)
        self.check_var_names()

    @property
    def weight(self) -> float:
        """The shrinkage, filled in."""
        if self.covariance == "diagonal" and self.scales == "shared":
            return np.inf
        return _SHRINKAGE[self.covariance] if self.shrinkage is None else self.shrinkage

    def _share(self, n_draws: int) -> float:
        """Return how far log variances have to differ, if they come from so many draws."""
        given = self.shrinkage is not None or np.isinf(self.weight)
        return self.weight if given else max(self.weight, _CHANCE * np.sqrt(2 / n_draws))

    @property
    def tries_starts(self) -> bool:
        """Whether the first reference is looked for on a sample of the draws."""
        return self.covariance == "diagonal"

    @property
    def relaxed(self) -> Criterion | None:
        """Shared scales, which have fewer local optima, as a start for scales of the slots."""
        own = self.covariance == "diagonal" and self.scales == "slot"
        return replace(self, scales="shared", shrinkage=None) if own else None

    @property
    def matched_variables(self) -> tuple[str, ...] | None:
        """Names of the variables that units are matched on."""
        return self.var_names

    @property
    def rotates(self) -> bool:
        """Whether its score is that of rotations too: that of shared scales is."""
        return self.covariance == "diagonal"

    @property
    def scale_free(self) -> bool:
        """Whether labels stay the same if one of the variables is multiplied by a number."""
        return True

    @property
    def unconstrained(self) -> bool:
        """Whether it compares scales by their logs and probabilities by their logits."""
        return True

    def initial(self) -> Criterion | None:
        """Start full covariances from diagonal ones."""
        return Normal(var_names=self.var_names) if self.covariance == "full" else None

    # ------------------------------------------------------------------ the loop

    def statistics(
        self, block: Block, layout: Layout, elements: Mapping[str, Element]
    ) -> Statistics:
        """Return sums and sums of squares (or products) of the aligned features."""
        sums: Statistics = {"n": len(block)}
        for units in layout.sizes:
            aligned = aligned_own(block, layout, units, elements[units])
            if self.covariance == "full":
                slots = np.ascontiguousarray(aligned.swapaxes(0, 1))
                sums[f"own {units}"] = slots.sum(axis=1)
                sums[f"products {units}"] = slots.swapaxes(1, 2) @ slots
            else:
                sums[f"own {units}"] = aligned.sum(axis=0)
                sums[f"squares {units}"] = np.einsum("dkr,dkr->kr", aligned, aligned)
        for number in range(len(layout.pairs)):
            sums[f"pair {number}"] = aligned_pair(block, layout, number, elements).sum(axis=0)
            sums[f"norm {number}"] = float(block.norms[number][0].sum())
        return sums

    def form_reference(
        self, statistics: Statistics, pooled: Pooled, layout: Layout, previous: Reference | None
    ) -> Reference:
        """Fit the normals to all slots."""
        fit = self._full if self.covariance == "full" else self._diagonal
        return fit(statistics, pooled, layout, previous)

    def score(self, block: Block, layout: Layout, reference: Reference, units: str) -> Score:
        """Score by the log density of own features."""
        features, signed = layout.features(block, units), layout.signed(units)
        if self.covariance == "full":
            return full_score(features, signed, reference.own[units], reference.root[units])
        return diagonal_score(features, signed, reference.own[units], reference.precision[units])

    # ------------------------------------------------------------------ the two covariances

    def _diagonal(
        self, statistics: Statistics, pooled: Pooled, layout: Layout, previous: Reference | None
    ) -> Reference:
        """Fit a variance to every feature of every slot."""
        n = statistics["n"]
        own, precision, penalty = {}, {}, 0.0
        for units, group in layout.groups.items():
            mean, floor = statistics[f"own {units}"] / n, _RESOLUTION * pooled.own[units]
            within = np.maximum(statistics[f"squares {units}"] / n - mean**2, 0.0) + floor
            share = np.inf if group.rotates else self._share(n)
            logs, common = thresholded(np.log(within), share)
            own[units], precision[units] = mean, np.exp(-logs)
            if np.isfinite(share):
                penalty += 0.5 * n * share * float(np.abs(logs - common).sum())
            penalty += 0.5 * n * float((floor * precision[units]).sum())
        pairs, weights, constant, floors = _pairs(statistics, pooled, _RESOLUTION)
        penalty += n * sum(w * m.size * v for w, m, v in zip(weights, pairs, floors, strict=True))
        return Reference(
            own,
            layout.centre,
            {},
            pairs,
            weights,
            constant,
            precision=precision,
            penalty=float(penalty),
        )

    def _full(
        self, statistics: Statistics, pooled: Pooled, layout: Layout, previous: Reference | None
    ) -> Reference:
        """Fit a covariance to every slot, shrunk towards the pooled diagonal."""
        n = statistics["n"]
        own = {units: statistics[f"own {units}"] / n for units in layout.sizes}
        target, root, penalty = {}, {}, 0.0
        for units, mean in own.items():
            products = statistics[f"products {units}"] / n
            scatter = products - mean[:, :, None] * mean[:, None, :]
            rounding = _ROUNDING * np.einsum("krr->kr", products)
            spread = np.einsum("krr->kr", scatter).mean(axis=0)
            floor = np.maximum(rounding.max(axis=0), _ROUNDING * pooled.own[units])
            target[units] = previous.weight[units] if previous else np.maximum(spread, floor)
            nu = self.weight * mean.shape[1]
            scatter = scatter + np.einsum("kr,rs->krs", rounding, np.eye(mean.shape[1]))
            root[units] = precision_root((n * scatter + nu * np.diag(target[units])) / (n + nu))
            penalty += wishart_penalty(root[units], target[units], nu)
        pairs, weights, constant, _ = _pairs(statistics, pooled, _ROUNDING)
        return Reference(
            own, layout.centre, target, pairs, weights, constant, root, penalty=float(penalty)
        )


def _pairs(
    statistics: Statistics, pooled: Pooled, share: float
) -> tuple[tuple[Array, ...], tuple[float, ...], float, list[float]]:
    """Return means, weights, log determinant and floors of arrays between two sets of units."""
    n, numbers = statistics["n"], range(len(pooled.pairs))
    means = tuple(statistics[f"pair {p}"] / n for p in numbers)
    floors = [share * variance for variance in pooled.pairs]
    within = [
        max(statistics[f"norm {p}"] / (n * means[p].size) - float((means[p] ** 2).mean()), 0.0)
        + floors[p]
        for p in numbers
    ]
    constant = float(sum(0.5 * m.size * np.log(v) for m, v in zip(means, within, strict=True)))
    return means, tuple(0.5 / v for v in within), constant, floors


def thresholded(logs: Array, share: float) -> tuple[Array, Array]:
    r"""Return log variances of the slots, and what they have in common.

    Minimises over *u* and *c*

    .. math:: \sum_k [u_k + s_k e^{-u_k} + \lambda |u_k - c|],

    where `logs` are :math:`\log s_k`, shape (K, R), and `share` is λ (infinite: all are shared).
    The objective is convex; the derivative with respect to *c* is a sum of clipped terms, whose
    root is bisected.

    Examples
    --------
    >>> logs, common = thresholded(np.log([[1.0], [1.2], [1000.0]]), 0.4)
    >>> np.exp(logs).round(2).ravel().tolist()
    [1.38, 1.38, 714.29]
    """
    if not logs.size:
        return logs, logs.max(axis=0, initial=0.0)
    low, high = logs.min(axis=0), logs.max(axis=0)
    for _ in range(60):
        common = 0.5 * (low + high)
        slope = np.clip(1 - np.exp(np.clip(logs - common, -60, 60)), -share, share).sum(axis=0)
        high, low = np.where(slope >= 0, common, high), np.where(slope < 0, common, low)
    common = 0.5 * (low + high)
    wider = logs - np.log1p(share)
    narrower = logs - np.log1p(-share) if share < 1 else np.full_like(logs, np.inf)
    chosen: Array = np.where(wider > common, wider, np.where(narrower < common, narrower, common))
    return chosen, common


def diagonal_score(features: Array, signed: Array, mean: Array, precision: Array) -> Score:
    """Score units as slots by log densities of independent normals, split by parity in the sign.

    Parameters
    ----------
    features : ndarray of shape (draws, K, R)
    signed : ndarray of bool, shape (R,)
    mean, precision : ndarray of shape (K, R)

    Returns
    -------
    Score
        Both parts of shape (draws, K, K), slots before units.
    """
    n_draws, n_units, n_features = features.shape
    shape = (n_draws, n_units, len(mean))
    scaled = mean * precision
    constant = 0.5 * (np.log(precision) - mean * scaled).sum(axis=1)
    flat = features.reshape(n_draws * n_units, n_features)
    even = (constant - 0.5 * (flat**2 @ precision.T)).reshape(shape)
    odd = np.broadcast_to(0.0, shape)
    if signed.any():
        odd = (flat @ np.where(signed, scaled, 0.0).T).reshape(shape)
    if not signed.all():
        even += (flat @ np.where(signed, 0.0, scaled).T).reshape(shape)
    return Score(even.swapaxes(1, 2), odd.swapaxes(1, 2))
