"""Hartigan's dip: how far a sample is from every distribution with one mode."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["dip", "dip_test", "holm"]

Array = NDArray[Any]

_N_NULL = (99, 1999)  # uniform samples: at first, and where the p-value might be small
_MAYBE = 0.1
_SIZES = (8, 16, 32, 64, 128)


def dip(values: Array) -> float:
    r"""Return the dip of a sample.

    .. math:: D = \min_{U \text{ unimodal}} \, \sup_x \lvert F_n(x) - U(x) \rvert

    The best unimodal distribution function is convex up to a mode and concave from there on. The
    modal interval is found by shrinking: within the present interval, the greatest convex minorant
    and the least concave majorant of :math:`F_n` are compared, and the ends move to where these two
    are farthest apart, until they are no farther apart than the distances met on the way.

    Parameters
    ----------
    values : ndarray of shape (n,)

    Returns
    -------
    float
        Between 1/(2n) and 1/4.

    References
    ----------
    Hartigan, J. A. & Hartigan, P. M. (1985). The dip test of unimodality. *Annals of Statistics*
    13(1), 70-84. https://doi.org/10.1214/aos/1176346577

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> one, two = rng.normal(size=400), rng.normal(size=400)
    >>> two[200:] += 6
    >>> bool(dip(one) < 0.03), bool(dip(two) > 0.08)
    (True, True)
    """
    x = np.sort(np.asarray(values, dtype=float))
    n = len(x)
    if n < 4 or x[0] == x[-1]:
        return 1 / (2 * n)
    rank = np.arange(1, n + 1, dtype=float)
    low, high, found = 0, n - 1, 1.0
    while True:
        below = _hull(x, rank - 1, low, high, convex=True)
        above = _hull(x, rank, low, high, convex=False)
        minorant = np.interp(x[low : high + 1], x[below], rank[below] - 1)
        majorant = np.interp(x[low : high + 1], x[above], rank[above])
        gap = majorant - minorant
        widest = int(gap.argmax())
        if gap[widest] <= found:
            break
        left = int(below[np.searchsorted(below, low + widest, side="right") - 1])
        right = int(above[np.searchsorted(above, low + widest)])
        before = np.max(rank[low : left + 1] - minorant[: left - low + 1], initial=0.0)
        after = np.max(majorant[right - low :] - (rank[right : high + 1] - 1), initial=0.0)
        found = max(found, float(before), float(after))
        if (left, right) == (low, high):
            break
        low, high = left, right
    return found / (2 * n)


def _hull(x: Array, y: Array, low: int, high: int, *, convex: bool) -> Array:
    """Positions of the corners of the greatest convex minorant, or least concave majorant."""
    turn = 1.0 if convex else -1.0
    corners: list[int] = []
    for i in range(low, high + 1):
        while len(corners) > 1:
            a, b = corners[-2], corners[-1]
            cross = (x[b] - x[a]) * (y[i] - y[a]) - (y[b] - y[a]) * (x[i] - x[a])
            if turn * cross > 0:
                break
            corners.pop()
        corners.append(i)
    return np.array(corners)


def dip_test(values: Array, n_effective: float) -> float:
    """Return the p-value of the dip against the uniform distribution.

    Parameters
    ----------
    values : ndarray of shape (n,)
    n_effective : float
        Effective number of independent values; so many, evenly spaced, are tested,
        rounded down to a power of two from 8 to 128: modes that are well apart need no more.

    Returns
    -------
    float
        By simulation from the uniform distribution, the hardest unimodal one; nan with fewer than
        8 effective values.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> values = np.concatenate([rng.normal(size=100), rng.normal(7, 1, size=100)])
    >>> dip_test(rng.permutation(values), 200) < 0.01
    True
    """
    sizes = [size for size in _SIZES if size <= min(n_effective, len(values))]
    if not sizes:
        return float("nan")
    n, p_value = sizes[-1], 0.0
    found = dip(values[np.linspace(0, len(values) - 1, n).round().astype(int)])
    for n_samples in _N_NULL:
        p_value = float((1 + (_null(n, n_samples) >= found - 1e-12).sum()) / (1 + n_samples))
        if p_value > _MAYBE:
            break
    return p_value


@lru_cache(maxsize=len(_SIZES) * len(_N_NULL))
def _null(n: int, n_samples: int) -> Array:
    """Dips of uniform samples."""
    rng = np.random.default_rng(n)
    return np.array([dip(rng.random(n)) for _ in range(n_samples)])


def holm(p_values: Array) -> Array:
    """Adjust p-values of several tests (Holm's step-down method); nan stays nan.

    References
    ----------
    Holm, S. (1979). A simple sequentially rejective multiple test procedure. *Scandinavian Journal
    of Statistics* 6(2), 65-70.

    Examples
    --------
    >>> import numpy as np
    >>> holm(np.array([0.01, 0.04, 0.03]))
    array([0.03, 0.06, 0.06])
    """
    adjusted = np.full(p_values.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p_values))
    order = known[np.argsort(p_values[known])]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1.0)
    return adjusted
