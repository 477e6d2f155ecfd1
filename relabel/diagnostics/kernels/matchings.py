r"""Probabilities over all perfect matchings of slots and units.

With weights :math:`w_{kj} \ge 0`, the probability of a permutation is

.. math:: P(\sigma) = \frac{1}{Z} \prod_k w_{k\sigma(k)}, \qquad
    Z = \operatorname{perm}(w) = \sum_\sigma \prod_k w_{k\sigma(k)}.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from relabel.numerics.assignment import alternatives, assign

__all__ = ["EXACT_UP_TO", "matching_probabilities"]

Array = NDArray[Any]

#: Units up to which all matchings are summed over: 2^K sets a draw.
EXACT_UP_TO = 10

_BYTES = 2**25  # of the largest array of a block
_CERTAIN = 20.0  # nats; all else together is then less probable than rounding of a report


def matching_probabilities(
    log_weight: Array, *, exact_up_to: int = EXACT_UP_TO, n_exchanges: int = 1600, seed: int = 0
) -> tuple[Array, Array]:
    r"""Return how probable each pair is, and how probable the matching *k* with *k* is.

    Up to `exact_up_to` units by dynamic programming over the sets of units used so far (forward
    and backward), :math:`O(2^K K)` a draw. Beyond, by sampling: a Gibbs sampler that exchanges the
    units of two slots with the probability this has given all others, started at the most probable
    matching. Each exchange counts by its probability (Rao and Blackwell). Draws of which every
    change of a slot costs more than 20 nats are taken to be certain. The sampler is good where
    labels are ambiguous by exchanges of two units; where only longer cycles lead on, through
    improbable exchanges, it may stay with the best matching.

    Parameters
    ----------
    log_weight : ndarray of shape (draws, K, K)
        Logarithm of the weight of putting unit *j* into slot *k*.
    exact_up_to : int, default 10
        Number of units up to which the sum is exact; work and memory double with every unit.
    n_exchanges : int, default 1600
        Exchanges that each slot is offered by the sampler: errors of a few hundredths for one
        draw, which average out over draws. A tenth more are made and thrown away at the start.
    seed : int, default 0
        Random seed of the sampler.

    Returns
    -------
    pairs : ndarray of shape (draws, K, K)
        Rows sum to one, and columns too where the sum is exact.
    unmoved : ndarray of shape (draws,)
        Probability of the identity.

    References
    ----------
    Stephens, M. (2000). Dealing with label switching in mixture models. *Journal of the Royal
    Statistical Society B* 62(4), 795-809. https://doi.org/10.1111/1467-9868.00265

    Examples
    --------
    >>> import numpy as np
    >>> pairs, unmoved = matching_probabilities(np.log([[[3.0, 1.0], [1.0, 1.0]]]))
    >>> pairs[0]
    array([[0.75, 0.25],
           [0.25, 0.75]])
    >>> unmoved
    array([0.75])
    """
    n_draws, size = log_weight.shape[:2]
    if size > exact_up_to:
        n_sweeps = max(20, n_exchanges // max(1, size - 1))
        return _sampled(log_weight, n_sweeps, np.random.default_rng(seed))
    pairs, unmoved = np.empty_like(log_weight), np.empty(n_draws)
    step = max(1, _BYTES // (16 * 2**size))
    for start in range(0, n_draws, step):
        rows = slice(start, start + step)
        pairs[rows], unmoved[rows] = _all_matchings(_scaled(log_weight[rows]))
    lost = np.flatnonzero(~np.isfinite(unmoved))  # even the best matching is below all numbers
    pairs[lost], unmoved[lost], _ = _best_only(log_weight[lost])
    return pairs, unmoved


def _scaled(log_weight: Array) -> Array:
    """Scale rows and columns towards sums of one, which changes no probability (Sinkhorn)."""
    for axis in (2, 1):
        log_weight = log_weight - log_weight.max(axis=axis, keepdims=True)
    scaled = np.exp(log_weight)
    for axis in (2, 1) * 10:
        scaled /= scaled.sum(axis=axis, keepdims=True)
    return scaled


def _all_matchings(weight: Array) -> tuple[Array, Array]:
    """Sum over all matchings, set by set; draws last, so that steps run over contiguous memory."""
    n_draws, size = weight.shape[:2]
    w = np.ascontiguousarray(weight.transpose(1, 2, 0))
    full = 2**size - 1
    forward, backward = np.zeros((2, full + 1, n_draws))
    forward[0] = backward[full] = 1.0
    steps = _steps(size)
    for slot, j, before, after in steps:
        forward[after] += forward[before] * w[slot, j]
    pairs = np.zeros_like(w)
    for slot, j, before, after in reversed(steps):
        rest = backward[after]
        backward[before] += w[slot, j] * rest
        pairs[slot, j] = np.einsum("st,st->t", forward[before], rest)
    total = np.where(forward[full] > 0, forward[full], np.nan)
    unmoved = np.einsum("kkt->kt", w).prod(axis=0) / total
    return (pairs * w / total).transpose(2, 0, 1), unmoved


@lru_cache(maxsize=16)
def _steps(size: int) -> list[tuple[int, int, Array, Array]]:
    """For every slot and unit: sets of units that the slots before may have used, and with it."""
    used = np.arange(2**size)
    count = (used[:, None] >> np.arange(size) & 1).sum(axis=1)
    steps = []
    for slot in range(size):
        for j in range(size):
            before = used[(count == slot) & (used >> j & 1 == 0)]
            if before.size:
                steps.append((slot, j, before, before | 1 << j))
    return steps


def _best_only(log_weight: Array) -> tuple[Array, Array, Array]:
    """The most probable matching alone, and which it is."""
    size = log_weight.shape[1]
    index = assign(log_weight)
    pairs = np.zeros_like(log_weight)
    np.put_along_axis(pairs, index[:, :, None], 1.0, axis=2)
    return pairs, (index == np.arange(size)).all(axis=1).astype(float), index


def _sampled(log_weight: Array, n_sweeps: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Sample the matchings of the draws that are not certain."""
    size = log_weight.shape[1]
    pairs, unmoved, index = _best_only(log_weight)
    open_ = np.flatnonzero(alternatives(log_weight, index).min(axis=1) < _CERTAIN)
    step = max(1, _BYTES // (32 * size**2))
    for start in range(0, open_.size, step):
        rows = open_[start : start + step]
        pairs[rows], unmoved[rows] = _exchanged(log_weight[rows], index[rows], n_sweeps, rng)
    return pairs, unmoved


def _exchanged(
    log_weight: Array, index: Array, n_sweeps: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Exchange the units of two slots, of all slots in turn, many times."""
    n_draws, size = index.shape
    weight = np.ascontiguousarray(log_weight).reshape(-1)
    counts, unmoved = np.zeros(weight.size), np.zeros(n_draws)
    base = np.arange(n_draws)[:, None] * size**2
    n_warmup = n_sweeps // 10
    for sweep in range(n_warmup + n_sweeps):
        for one, two in _rounds(rng.permutation(size)):
            here, there = index[:, one], index[:, two]
            cells = [base + size * a + b for a in (one, two) for b in (here, there)]
            stay_one, go_one, go_two, stay_two = cells
            gain = weight[go_one] + weight[go_two] - weight[stay_one] - weight[stay_two]
            change = expit(gain)
            if sweep >= n_warmup:
                for kept in (stay_one, stay_two):
                    counts[kept] += 1 - change
                for gone in (go_one, go_two):
                    counts[gone] += change
            moved = rng.random(change.shape) < change
            index[:, one], index[:, two] = (
                np.where(moved, there, here),
                np.where(moved, here, there),
            )
        if sweep >= n_warmup:
            unmoved += (index == np.arange(size)).all(axis=1)
    pairs = counts.reshape(log_weight.shape)
    return pairs / pairs.sum(axis=2, keepdims=True), unmoved / n_sweeps


def _rounds(order: Array) -> list[tuple[Array, Array]]:
    """Pair every slot with every other once, in rounds of disjoint pairs (a round robin)."""
    ring = list(order) + [-1] * (len(order) % 2)
    half = len(ring) // 2
    rounds = []
    for _ in range(len(ring) - 1):
        pairs = [(a, b) for a, b in zip(ring[:half], reversed(ring[half:]), strict=True)]
        met = np.array([pair for pair in pairs if -1 not in pair])
        rounds.append((met[:, 0], met[:, 1]))
        ring = [ring[0], ring[-1], *ring[1:-1]]
    return rounds
