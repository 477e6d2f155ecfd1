"""How certain is each label? Probabilities of labels under a Gaussian for every slot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from relabel.diagnostics.kernels.matchings import EXACT_UP_TO, matching_probabilities
from relabel.groups import Group, Score
from relabel.groups.elements import monomial
from relabel.matching.criteria.full_covariance import full_score, precision_root

__all__ = ["Certainty", "soft_labels"]

Array = NDArray[Any]

_ROUNDING = 1e-10  # share of a feature's second moment below which its variance is rounding
_SETTLED = 3e-4  # change of a slot's mean probability at which the fit ends
_FOLD_ITERATIONS = 15  # enough to compare, since all start from the same labels
_SURE = 0.99  # mean probability of a draw's labels from which on the shrinkage does not matter
_WORK = 4_000_000  # draws × K 2^K of a step of the fit, so that ten units cost no more than eight
#: Draws; Gaussians that are fitted to fewer make any label look certain.
FEWEST = 20

_FEWER = 200  # draws that are fitted where matchings are sampled: many units are enough
_EXCHANGES = 400  # of the sampler in a step of the fit, whose errors average out over draws


@dataclass(frozen=True)
class Certainty:
    """How certain the labels of one set of units are.

    Attributes
    ----------
    label : ndarray of shape (draws, K)
        Probability that the unit in this slot belongs there, with this sign.
    unmoved : ndarray of shape (draws,)
        Probability that all labels of the draw are right.
    pair : ndarray of shape (draws, K)
        The margin as a probability: of the present labelling against the best single other one
        that changes this slot.
    how : str
        "exact" or "sampled", and what was left out.
    n_features : int
        Number of features that distinguish the units.
    """

    label: Array
    unmoved: Array
    pair: Array
    how: str
    n_features: int


def soft_labels(
    values: Array,
    signed: Array,
    group: Group,
    *,
    fit: Array | None = None,
    shrinkage: Sequence[float] = (2.0, 20.0, 200.0, 2000.0),
    max_features: int = 60,
    max_fit: int = 1000,
    max_iterations: int = 200,
    exact_up_to: int = EXACT_UP_TO,
    seed: int = 0,
) -> Certainty:
    r"""Probability of every label, were the slots independent Gaussians.

    The units of a draw are a set: which belongs to which slot is not known. With slot *k*
    distributed as :math:`N(\mu_k, \Sigma_k)` and all elements equally probable beforehand,

    .. math:: P(\sigma, s \mid x_t) \propto \prod_k N(s_k x_{t\sigma(k)}; \mu_k, \Sigma_k).

    The Gaussians are fitted to these probabilities, not to the labels (EM from the labels as they
    are; Stephens 2000, Sperrin et al. 2010 for mixtures): slots fitted to draws that were sorted
    by the same slots look better separated than they are, and their probabilities too high.

    Parameters
    ----------
    values : ndarray of shape (draws, K, R)
        Features in slot order.
    signed : ndarray of bool, shape (R,)
        Which of them flip with the unit.
    group : Group
        Whether there are signs.
    fit : ndarray of bool, shape (draws,), optional
        Draws the Gaussians are fitted to (those of chains that sit in one mode); all by default.
    shrinkage : sequence of float, default (2, 20, 200, 2000)
        Weight of the diagonal pooled over slots in :math:`\Sigma_k`, in draws per feature, from
        just enough that a covariance is never singular to nearly equal covariances. The first is
        used where labels are sure; where they are not, that under which draws that were left out
        are most probable (two halves, each judged by the other).
    max_features : int, default 60
        With more features, the leading principal components of that number (pooled over slots;
        signed and unsigned ones apart) are used instead: a covariance has to be estimated.
    max_fit : int, default 1000
        Draws, evenly spaced, that the Gaussians are fitted to: the error of a mean is then about
        1/30 of a standard deviation.
    max_iterations : int, default 200
        ResolvedSpec on the steps of EM.
    exact_up_to : int, default 10
        Units up to which permutations are summed exactly; beyond, they are sampled.
    seed : int, default 0
        Random seed of the sampler.

    Returns
    -------
    Certainty

    References
    ----------
    Sperrin, M., Jaki, T. & Wit, E. (2010). Probabilistic relabelling strategies for the label
    switching problem in Bayesian mixture models. *Statistics and Computing* 20, 357-366.
    https://doi.org/10.1007/s11222-009-9129-8

    Examples
    --------
    Two units far apart, and one draw in which they are not:

    >>> import numpy as np
    >>> from relabel.groups import group_of
    >>> rng = np.random.default_rng(0)
    >>> values = np.array([0.0, 5.0])[:, None] + rng.normal(size=(500, 2, 1))
    >>> values[0, :, 0] = 2.5
    >>> found = soft_labels(values, np.array([False]), group_of("permutation"))
    >>> float(found.unmoved[0].round(2)), bool(found.unmoved.mean() > 0.98)
    (0.5, True)
    """
    size = values.shape[1]
    how = "exact" if size <= exact_up_to else "sampled"
    if values.shape[2] > max_features:
        how += f", on {max_features} principal components of {values.shape[2]} features"
        values, signed = _compressed(values, signed, max_features)
    options = {"exact_up_to": exact_up_to, "seed": seed}
    rough = options | {"n_exchanges": _EXCHANGES}
    rows = np.arange(len(values)) if fit is None else np.flatnonzero(fit)
    most = _WORK // (size * 2**size)
    if size > exact_up_to:
        most, max_iterations = _FEWER, min(max_iterations, _FOLD_ITERATIONS)
    max_fit = min(max_fit, most)
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, max_fit).round().astype(int))]
    some, chosen = values[rows], shrinkage[0]
    slots = _fitted(some, signed, group, chosen, rough, max_iterations)
    unsure = slots.probabilities(some, group, rough)[2].mean() < _SURE
    if unsure and size <= exact_up_to and len(shrinkage) > 1:
        chosen = _best_shrinkage(some, signed, group, shrinkage, rough)
        slots = _fitted(some, signed, group, chosen, rough, max_iterations)
    plus, _, unmoved, score = slots.probabilities(values, group, options)
    label = np.clip(np.einsum("tkk->tk", plus), 0.0, 1.0)
    pair = _against_the_next(score, group)
    return Certainty(label, np.clip(unmoved, 0.0, 1.0), pair, how, values.shape[2])


def _fitted(
    values: Array,
    signed: Array,
    group: Group,
    shrinkage: float,
    options: dict[str, Any],
    max_iterations: int,
) -> _Slots:
    """Fit the slots by EM, from the labels as they are."""
    n_draws, size, _ = values.shape
    plus, minus = np.broadcast_to(np.eye(size), (n_draws, size, size)), None
    slots, before = _Slots.fitted(values, signed, plus, minus, shrinkage), np.inf
    for _ in range(max_iterations):
        plus, minus = slots.probabilities(values, group, options)[:2]
        slots = _Slots.fitted(values, signed, plus, minus, shrinkage)
        own = np.einsum("tkk->tk", plus).mean(axis=0)
        if np.abs(own - before).max() < _SETTLED:
            break
        before = own
    return slots


def _best_shrinkage(
    values: Array,
    signed: Array,
    group: Group,
    candidates: Sequence[float],
    options: dict[str, Any],
) -> float:
    """Choose the shrinkage under which either half of the draws is most probable given the other.

    Where units overlap, covariances of their own are fitted to chance, and labels claimed too much.
    """
    half = np.arange(len(values)) % 2 == 0
    found = []
    for shrinkage in candidates:
        total = 0.0
        for part in (half, ~half):
            slots = _fitted(values[part], signed, group, shrinkage, options, _FOLD_ITERATIONS)
            _, _, unmoved, score = slots.probabilities(values[~part], group, options)
            own = np.einsum("tkk->t", score.even + score.odd)
            total += float((own - np.log(np.maximum(unmoved, np.finfo(float).tiny))).sum())
        found.append(total)
    return candidates[int(np.argmax(found))]


@dataclass(frozen=True)
class _Slots:
    """A Gaussian for every slot: means (K, R) and triangular roots of precisions (K, R, R)."""

    mean: Array
    root: Array
    signed: Array

    @classmethod
    def fitted(
        cls, values: Array, signed: Array, plus: Array, minus: Array | None, shrinkage: float
    ) -> _Slots:
        """Fit to units weighed by the probability of each slot and sign."""
        n_draws, size, n_features = values.shape
        flat = values.reshape(-1, n_features)
        minus = np.zeros_like(plus) if minus is None else minus
        even = (plus + minus).transpose(1, 0, 2).reshape(size, -1)
        odd = (plus - minus).transpose(1, 0, 2).reshape(size, -1)
        total = even.sum(axis=1)
        mean = np.where(signed, odd @ flat, even @ flat) / total[:, None]
        crossed = signed[:, None] ^ signed
        scatter = np.empty((size, n_features, n_features))
        for k in range(size):
            products = flat.T @ (flat * even[k, :, None])
            if crossed.any():
                products = np.where(crossed, flat.T @ (flat * odd[k, :, None]), products)
            scatter[k] = products / total[k] - np.outer(mean[k], mean[k])
        square = (flat**2).mean(axis=0)
        floor = np.where(square > 0, _ROUNDING * square, 1.0)
        spread = np.maximum(np.einsum("krr->kr", scatter).mean(axis=0), floor)
        nu = shrinkage * n_features
        wider = _beyond_sums(values, signed)
        scatter = (scatter + np.diag(floor)) * np.outer(wider, wider)
        spread = spread * wider**2
        return cls(
            mean,
            precision_root((n_draws * scatter + nu * np.diag(spread)) / (n_draws + nu)),
            signed,
        )

    def probabilities(
        self, values: Array, group: Group, options: dict[str, Any]
    ) -> tuple[Array, Array | None, Array, Score]:
        """Probability of every unit, slot and sign; of the present labelling; log densities."""
        score = full_score(values, self.signed, self.mean, self.root)
        if not group.signs:
            pairs, unmoved = matching_probabilities(score.even + score.odd, **options)
            return pairs, None, unmoved, score
        folded = np.logaddexp(score.even + score.odd, score.even - score.odd)
        pairs, unmoved = matching_probabilities(folded, **options)
        upright = expit(2 * score.odd)
        unmoved = unmoved * np.einsum("tkk->tk", upright).prod(axis=1)
        return pairs * upright, pairs * (1 - upright), unmoved, score


def _beyond_sums(values: Array, signed: Array) -> Array:
    r"""Factor of a feature's standard deviation that makes up for sums over units.

    Where units add up to something that varies little (weights of a mixture), what one slot says
    has been said by the others. The differences between units are then wider than the units
    themselves, by :math:`\sqrt{(K - q) / (K - 1)}` with *q* the variance of the sum over that of
    independent units; the likelihood of a labelling is one of differences.
    """
    size = values.shape[1]
    if size < 2:
        return np.ones(values.shape[2])
    apart = values - values.mean(axis=0)
    alone = (apart**2).sum(axis=(0, 1))
    together = (apart.sum(axis=1) ** 2).sum(axis=0)
    ratio = np.divide(together, alone, out=np.ones_like(alone), where=alone > 0)
    ratio = np.where(signed, 1.0, np.minimum(ratio, 1.0))
    factor: Array = np.sqrt((size - ratio) / (size - 1))
    return factor


def _against_the_next(score: Score, group: Group) -> Array:
    """Probability of the labels as they are, against the best other labels of each slot."""
    best = monomial(group.match(score))
    margin = group.margin(score, best)
    size = score.even.shape[1]
    behind = score.of(best) - np.einsum("tkk->t", score.even + score.odd)
    differs = (best.index != np.arange(size)) | (best.factor < 0)
    probability: Array = expit(np.where(differs, -behind[:, None], margin))
    return probability


def _compressed(values: Array, signed: Array, most: int) -> tuple[Array, Array]:
    """Leading principal components; signed and unsigned features are not mixed."""
    flat = values.reshape(-1, values.shape[2])
    parts = []
    for kind in (False, True):
        part = flat[:, signed == kind]
        scale = np.sqrt((part**2).mean(axis=0))
        part = part / np.where(scale > 0, scale, 1.0)
        variance, axes = np.linalg.eigh(part.T @ part / len(part))
        parts += [(v, kind, part, axes[:, i]) for i, v in enumerate(variance)]
    parts.sort(key=lambda found: -found[0])
    kept = np.stack([part @ axis for _, _, part, axis in parts[:most]], axis=1)
    kinds = np.array([kind for _, kind, _, _ in parts[:most]])
    return kept.reshape(*values.shape[:2], -1), kinds
