"""R-hat and effective sample size of many quantities at once, by ArviZ."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Convergence", "convergence", "effective_size", "pointwise"]

Array = NDArray[Any]

_MOST = 200
_SEGMENTS = 4


@dataclass(frozen=True)
class Convergence:
    """The worst of many quantities.

    Attributes
    ----------
    rhat : float
        Largest rank-normalised split R-hat; nan if it cannot be computed.
    ess : float
        Smallest bulk effective sample size.
    n : int
        How many quantities there are.
    n_used : int
        How many of them, evenly spaced, were looked at.
    segments : int
        Into how many segments a single chain was split; 1 if there are several chains.
    """

    rhat: float
    ess: float
    n: int
    n_used: int
    segments: int


def convergence(arrays: Iterable[Array]) -> Convergence:
    """Return the largest R-hat and the smallest ESS over all entries of some variables.

    Each quantity costs milliseconds, so of more than 200 that many are taken, evenly spaced. A
    single chain is split into four segments that count as chains.

    Parameters
    ----------
    arrays : iterable of ndarray of shape (chain, draw, ...)
        Draws that hold a NaN or an infinity are left out, and chains that have fewer than half as
        many draws left as the longest; the others are cut to the length of the shortest.

    Returns
    -------
    Convergence

    References
    ----------
    Vehtari, A., Gelman, A., Simpson, D., Carpenter, B. & Bürkner, P.-C. (2021). Rank-normalization,
    folding, and localization: an improved R-hat. *Bayesian Analysis* 16(2), 667-718.
    https://doi.org/10.1214/20-BA1221

    Examples
    --------
    >>> import numpy as np
    >>> draws = np.random.default_rng(0).normal(size=(4, 500, 3))
    >>> found = convergence([draws])
    >>> found.rhat < 1.02, found.ess > 1500, found.n
    (True, True, 3)
    """
    flat = [array.reshape(*array.shape[:2], -1) for array in arrays]
    columns = [(array, i) for array in flat for i in range(array.shape[2])]
    n = len(columns)
    if n == 0:
        return Convergence(np.nan, np.nan, 0, 0, 1)
    chosen = np.unique(np.linspace(0, n - 1, min(n, _MOST)).round().astype(int))
    values = [columns[c][0][:, :, columns[c][1]].astype(float) for c in chosen]
    stacked, segments = _in_chains(np.stack(values))
    rhat, ess = _statistics(stacked)
    if np.isnan(rhat).all():
        return Convergence(np.nan, np.nan, n, len(values), segments)
    return Convergence(float(np.nanmax(rhat)), float(np.nanmin(ess)), n, len(values), segments)


def pointwise(array: Array) -> tuple[Array, Array]:
    """Return R-hat and bulk ESS of every entry of one variable.

    Parameters
    ----------
    array : ndarray of shape (chain, draw, entry)
        Draws that are not finite are left out and a single chain is split, as in
        :func:`convergence`.

    Returns
    -------
    tuple of ndarray of shape (entry,)
        nan for constants, and where there are too few draws.

    Examples
    --------
    >>> import numpy as np
    >>> rhat, ess = pointwise(np.random.default_rng(0).normal(size=(4, 500, 3)))
    >>> bool(rhat.max() < 1.02), bool(ess.min() > 1500)
    (True, True)
    """
    stacked, _ = _in_chains(np.moveaxis(array, 2, 0).astype(float))
    return _statistics(stacked)


def _in_chains(values: Array) -> tuple[Array, int]:
    """Finite draws of quantities, a single chain in segments; and how many segments."""
    values = _finite(values)
    if values.shape[1] != 1 or values.shape[2] < 4 * _SEGMENTS:
        return values, 1
    length = values.shape[2] // _SEGMENTS
    return values[:, :, : _SEGMENTS * length].reshape(len(values), _SEGMENTS, length), _SEGMENTS


def _finite(values: Array) -> Array:
    """Finite draws of quantities (quantity, chain, draw), as many of every chain."""
    finite = np.asarray(np.isfinite(values).all(axis=0))
    if finite.all():
        return values
    counts = finite.sum(axis=1)
    chains = np.flatnonzero(counts >= max(1, counts.max() / 2))
    length = int(counts[chains].min()) if chains.size else 0
    cut = [values[:, c, np.flatnonzero(finite[c])[:length]] for c in chains.tolist()]
    return np.stack(cut, axis=1) if cut else values[:, :0, :0]


def effective_size(values: Array, chain: Array) -> float:
    """Effective number of independent values of a sequence, summed over its chains.

    Parameters
    ----------
    values, chain : ndarray of shape (draws,)
        In the order in which they were drawn, and which chain each belongs to.

    Returns
    -------
    float
        For every chain its own bulk effective sample size by ArviZ, whether or not chains agree; at
        least 1, and at most the number of its draws. Chains of fewer than 8 draws count as 1, and
        all do where there are more than 100.
    """
    chains, counts = np.unique(chain, return_counts=True)
    if counts.max() < 2 * _SEGMENTS or len(chains) > _MOST // 2:
        return float(len(chains))
    arviz, total = _arviz(), 0.0
    for name, count in zip(chains, counts, strict=True):
        own = values[chain == name]
        found = 1.0
        if count >= 2 * _SEGMENTS and np.ptp(own) > 0:
            found = float(arviz.ess(own[None]))
        total += min(max(found, 1.0), float(count)) if np.isfinite(found) else 1.0
    return total


def _arviz() -> Any:
    """Import ArviZ, which takes seconds, and keep its announcement of the day to itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz
    return arviz


def _statistics(values: Array) -> tuple[Array, Array]:
    """R-hat and ESS of quantities (quantity, chain, draw); nan for constants."""
    import xarray as xr

    found = np.full((2, len(values)), np.nan)
    if values.shape[1] < 2 or values.shape[2] < 4:
        return found[0], found[1]
    moving = np.ptp(values, axis=(1, 2)) > 0  # ArviZ gives nan for constants, and warns
    if moving.any():
        arviz = _arviz()
        laid_out = np.moveaxis(values[moving], 0, 2)
        dataset = xr.Dataset({"x": (("chain", "draw", "quantity"), laid_out)})
        found[0, moving] = arviz.rhat(dataset)["x"].values
        found[1, moving] = arviz.ess(dataset)["x"].values
    return found[0], found[1]
