"""Chains that sit in other modes, have not settled, or do not move."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

__all__ = ["Chains", "distance_of_means", "flag_chains"]

Array = NDArray[Any]

_SHORT = 50  # draws of a chain, below which its spread is not that of the mode
_LEAST_LP = 5  # draws of a chain, for a median and a spread of its log density
_LEAST_DRAWS = 10  # of a chain, for a mean of its outputs
_HALF_NORMAL = 2.5  # sd of a normal distribution over the median deviation of its upper half
_FAR = 1e12  # standard deviations; chains that do not move are farther apart


@dataclass(frozen=True)
class Chains:
    """Flags of chains and their reasons.

    Attributes
    ----------
    reasons : dict of int to str
        Position of every flagged chain -> reason.
    lp_median : ndarray of shape (chains,)
        Median log density of every chain; nan where there is no `lp`.
    function_distance : ndarray of shape (chains,)
        Distance of the mean outputs from those of the main chains, in standard deviations; nan
        without outputs.
    """

    reasons: dict[int, str]
    lp_median: Array
    function_distance: Array
    n_chains: int = field(kw_only=True)

    @property
    def sound(self) -> Array:
        """Which chains are not flagged; all, if every one is: bool of shape (chains,)."""
        kept = np.ones(self.n_chains, dtype=bool)
        kept[list(self.reasons)] = False
        return kept if kept.any() else ~kept


def flag_chains(
    lp: Array | None,
    outputs: Array | None = None,
    *,
    n_sd: float = 5.0,
    n_nats: float = 5.0,
    function_sd: float = 3.0,
    n_segments: int = 4,
) -> Chains:
    r"""Flag chains that are not draws of the mode that the others sit in.

    A chain is flagged when

    * its median log density lies below the best chain's by more than
      ``n_sd`` · sd within chains + ``n_nats``;
    * its mean outputs differ from those of the main chains by more than `function_sd` standard
      deviations (root mean square of both chains' own) at a twentieth of the inputs. Chains are
      linked where they differ by less, and the largest linked group is the main one; of two of the
      same size, that with the higher log density;
    * the log density drifts: the medians of `n_segments` parts of it differ by more than the first
      rule's bound;
    * it does not move at all.

    In short chains (fewer than 50 draws) the spread within a chain is not reliable. So the spread
    of the upper half of the medians counts as well (from their median absolute deviation), and the
    expected excess of the largest of so many; with fewer than 5 draws no chain is flagged by its
    log density. Outputs are compared for chains of 10 draws and more.

    Parameters
    ----------
    lp : ndarray of shape (chain, draw), optional
        Log posterior density, up to a constant; nan where a draw takes no part.
    outputs : ndarray of shape (chain, draw, n), optional
        Outputs of the network at n inputs, likewise.
    n_sd, n_nats : float, default 5.0
        A chain in the same mode has a median within one standard deviation of the others', however
        slowly it mixes, since `lp` is of many dimensions; five more and a factor :math:`e^5` of
        density leave nothing to chance.
    function_sd : float, default 3.0
        Means of chains that share a mode differ by less than one posterior standard deviation as
        soon as each chain has two effective draws; three is beyond what slow mixing explains.
    n_segments : int, default 4
        As many as split R-hat has for two chains.

    Returns
    -------
    Chains

    Notes
    -----
    The number of chains in a mode is no measure of its posterior mass.

    Examples
    --------
    >>> import numpy as np
    >>> lp = np.random.default_rng(0).normal(size=(4, 100))
    >>> lp[2] -= 50
    >>> flag_chains(lp).reasons
    {2: 'median lp 50.4 below the best chain (bound 9.79)'}
    """
    given = lp if lp is not None else outputs
    if given is None:
        raise ValueError("neither lp nor outputs")
    n_chains = len(given)
    median, distance = np.full(n_chains, np.nan), np.full(n_chains, np.nan)
    reasons: dict[int, str] = {}
    if lp is not None:
        median = _quiet(np.nanmedian, lp)
    if lp is not None and lp.shape[1] >= _LEAST_LP:
        reasons |= _below_the_best(lp, median, n_sd, n_nats)
    if outputs is not None and outputs.shape[1] >= _LEAST_DRAWS:
        main, distance = _main_group(outputs, median, reasons, function_sd)
        for c in np.flatnonzero(~main & np.isfinite(distance)):
            apart = f"outputs {distance[c]:.1f} sd from those of the main chains"
            reasons.setdefault(int(c), f"{apart} (bound {function_sd:g})")
    if lp is not None:
        for chain, why in _drifting(lp, n_sd, n_nats, n_segments).items():
            reasons.setdefault(chain, why)
    still = _standing_still(lp, outputs)
    reasons |= {int(chain): "its draws are all the same" for chain in np.flatnonzero(still)}
    return Chains(dict(sorted(reasons.items())), median, distance, n_chains=n_chains)


def _quiet(statistic: Any, values: Array) -> Array:
    """Return a statistic over draws, nan where a chain has no values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        result: Array = statistic(values, axis=1)
    return result


def _standing_still(lp: Array | None, outputs: Array | None) -> Array:
    """Return which chains never move; an `lp` that is the same in all chains is a placeholder."""
    values = lp if outputs is None else outputs
    assert values is not None
    flat = values.reshape(*values.shape[:2], -1)
    still: Array = (_quiet(np.nanmax, flat) == _quiet(np.nanmin, flat)).all(axis=-1)
    placeholder = outputs is None and bool(still.all())
    return np.zeros_like(still) if values.shape[1] < 2 or placeholder else still


def _below_the_best(lp: Array, median: Array, n_sd: float, n_nats: float) -> dict[int, str]:
    bound = _bound(lp, n_sd, n_nats)
    if lp.shape[1] < _SHORT:
        better = median[median >= np.nanmedian(median)]
        spread = _HALF_NORMAL * float(np.median(np.abs(better - np.median(better))))
        largest = np.sqrt(2 * np.log(max(len(median), 1)))
        bound = max(bound, n_sd * spread + n_nats) + largest * spread
    gap = np.nanmax(median, initial=-np.inf) - median
    return {
        int(c): f"median lp {gap[c]:.1f} below the best chain (bound {bound:.3g})"
        for c in np.flatnonzero(gap > bound)
    }


def _bound(lp: Array, n_sd: float, n_nats: float) -> float:
    """Return a difference of log densities beyond chance, from the chains that move."""
    spread = _quiet(np.nanstd, lp)
    moving = spread[spread > 0]
    return n_sd * float(np.median(moving)) + n_nats if moving.size else n_nats


def _drifting(lp: Array, n_sd: float, n_nats: float, n_segments: int) -> dict[int, str]:
    length = lp.shape[1] // n_segments
    if lp.shape[1] < _SHORT:
        return {}
    parts = lp[:, : length * n_segments].reshape(len(lp) * n_segments, length)
    bound = _bound(parts, n_sd, n_nats)
    medians = _quiet(np.nanmedian, parts).reshape(len(lp), n_segments)
    drift = medians.max(axis=1) - medians.min(axis=1)
    return {
        int(c): f"its lp drifts by {drift[c]:.1f} between its parts (bound {bound:.3g})"
        for c in np.flatnonzero(drift > bound)
    }


def _main_group(
    outputs: Array, median: Array, reasons: dict[int, str], function_sd: float
) -> tuple[Array, Array]:
    """Return which chains are the main group in function space, and the distances from it."""
    mean, variance = _quiet(np.nanmean, outputs), _quiet(np.nanvar, outputs)
    n_chains = len(mean)
    apart = np.stack(
        [distance_of_means(mean, variance, *one) for one in zip(mean, variance, strict=True)]
    )
    left = np.array([c not in reasons for c in range(n_chains)])
    linked = (apart <= function_sd) & left & left[:, None]
    _, label = connected_components(linked, directed=False)
    rank = np.where(np.isfinite(median), median, 0.0)
    groups = [np.flatnonzero((label == g) & left) for g in np.unique(label[left])]
    if not groups:
        return ~left, np.full(n_chains, np.nan)
    best = max(groups, key=lambda chains: (len(chains), rank[chains].max()))
    main = np.isin(np.arange(n_chains), best)
    return main, np.where(main, 0.0, apart[:, best].min(axis=1))


def distance_of_means(
    mean: Array, variance: Array, other_mean: Array, other_variance: Array
) -> Array:
    """Return the distance of two mean functions, at the inputs with the largest differences.

    Parameters
    ----------
    mean, variance, other_mean, other_variance : ndarray of shape (..., n)

    Returns
    -------
    ndarray of shape (...)
        95 % quantile over inputs of the difference of the means, in standard deviations (root mean
        square of the two).
    """
    spread = np.sqrt((variance + other_variance) / 2)
    gap = np.abs(mean - other_mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(gap > 0, gap / spread, 0.0)
    distance: Array = np.quantile(np.minimum(ratio, _FAR), 0.95, axis=-1)
    return distance
