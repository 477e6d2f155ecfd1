"""Densities of mixture components, and the allocation and state probabilities that they imply.

NumPy arrays in and out. Batch axes (draws) lead; parameters have the shape (..., K), those that are
vectors or matrices (..., K, d) or (..., K, d, d). An axis of size one stands for all components.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, gammaln, xlog1py, xlogy

from relabel.errors import DataError, SpecError

__all__ = [
    "DENSITIES",
    "allocate",
    "check_names",
    "density_of",
    "log_density",
    "smooth",
]

Array = NDArray[Any]

_LOG_2PI = float(np.log(2 * np.pi))


@dataclass(frozen=True)
class Density:
    """A family of densities.

    Attributes
    ----------
    density : callable
        ``density(x, **parameters)`` -> log densities (..., n, K). Scalar parameters come as
        (..., 1, K) and x as (n, 1); vectors and matrices as they are, with x of shape (n, d).
    parameters : tuple of str
        The ways to give its parameters, each a string of their names.
    ranks : mapping of str to int
        Parameters that are vectors (1) or matrices (2).
    items : bool
        Whether x must have the shape (n, d).
    missing : bool
        Whether the density itself deals with entries of x that are missing (NaN).
    """

    density: Callable[..., Array]
    parameters: tuple[str, ...]
    ranks: Mapping[str, int] = field(default_factory=dict)
    items: bool = False
    missing: bool = False


# ---------------------------------------------------------------------- the families


def _spread(**given: Array) -> Array:
    """Return a standard deviation, however the spread was given."""
    ((name, value),) = given.items()
    if name == "sd":
        return value
    root: Array = np.sqrt(value)
    return root if name == "variance" else np.reciprocal(root)


def _rate(**given: Array) -> Array:
    """Return a rate, which is the reciprocal of a scale."""
    ((name, value),) = given.items()
    return value if name == "rate" else np.reciprocal(value)


def _normal(x: Array, mean: Array, **spread: Array) -> Array:
    sd = _spread(**spread)
    return -0.5 * ((x - mean) / sd) ** 2 - np.log(sd) - 0.5 * _LOG_2PI


def _lognormal(x: Array, mean: Array, **spread: Array) -> Array:
    inside = x > 0
    log = np.log(np.where(inside, x, 1))
    return np.where(inside, _normal(log, mean, **spread) - log, -np.inf)


def _student(x: Array, df: Array, location: Array, scale: Array) -> Array:
    z = (x - location) / scale
    log: Array = gammaln((df + 1) / 2) - gammaln(df / 2) - np.log(np.sqrt(df * np.pi) * scale)
    return log - (df + 1) / 2 * np.log1p(z**2 / df)


def _exponential(x: Array, **given: Array) -> Array:
    rate = _rate(**given)
    return np.where(x >= 0, np.log(rate) - rate * x, -np.inf)


def _gamma(x: Array, shape: Array, **given: Array) -> Array:
    rate = _rate(**given)
    inside = np.where(x > 0, x, 1)
    log = shape * np.log(rate) - gammaln(shape) + xlogy(shape - 1, inside) - rate * inside
    return np.where(x > 0, log, -np.inf)


def _beta(x: Array, alpha: Array, beta: Array) -> Array:
    inside = np.where((x > 0) & (x < 1), x, 0.5)
    log = xlogy(alpha - 1, inside) + xlog1py(beta - 1, -inside) - betaln(alpha, beta)
    return np.where((x > 0) & (x < 1), log, -np.inf)


def _counts(x: Array) -> tuple[Array, Array]:
    """Return x as counts, and where it holds non-negative integers."""
    inside = (x >= 0) & (x == np.rint(x))
    return np.where(inside, x, 0), inside


def _poisson(x: Array, rate: Array) -> Array:
    count, inside = _counts(x)
    return np.where(inside, xlogy(count, rate) - rate - gammaln(count + 1), -np.inf)


def _negative_binomial(x: Array, **given: Array) -> Array:
    """Density with variance mean + mean² / dispersion; or of `size` successes."""
    if "mean" in given:
        size = given["dispersion"]
        p = size / (size + given["mean"])
    else:
        size, p = given["size"], given["p"]
    count, inside = _counts(x)
    log = gammaln(count + size) - gammaln(size) - gammaln(count + 1)
    return np.where(inside, log + xlogy(size, p) + xlog1py(count, -p), -np.inf)


def _binomial(x: Array, p: Array, trials: Array | None = None) -> Array:
    """Successes; without `trials`, x holds successes and trials, (n, 2)."""
    if trials is None:
        x, trials, p = x[:, :1], x[:, 1:], p[..., None, :]
    count, inside = _counts(x)
    inside = inside & (count <= trials)
    count = np.where(inside, count, 0)
    log = gammaln(trials + 1) - gammaln(count + 1) - gammaln(trials - count + 1)
    return np.where(inside, log + xlogy(count, p) + xlog1py(trials - count, -p), -np.inf)


def _bernoulli(x: Array, p: Array) -> Array:
    """Product over items; items that are missing have no part."""
    inside = ((x == 0) | (x == 1) | np.isnan(x)).all(axis=1, keepdims=True)
    return np.where(inside, _dot_log(x == 1, p) + _dot_log(x == 0, 1 - p), -np.inf)


def _categorical(x: Array, p: Array) -> Array:
    """Log p of the category, 0 to C-1."""
    count, whole = _counts(x[:, 0])
    inside = np.asarray(whole & (count < p.shape[-1]))
    with np.errstate(divide="ignore"):
        log = np.log(p)
    chosen = np.moveaxis(log[..., np.where(inside, count, 0).astype(np.intp)], -1, -2)
    return np.where(inside[:, None], chosen, -np.inf)


def _multinomial(x: Array, p: Array) -> Array:
    """Counts of the categories."""
    count, whole = _counts(x)
    inside = whole.all(axis=1, keepdims=True)
    ways = gammaln(count.sum(axis=1) + 1) - gammaln(count + 1).sum(axis=1)
    return np.where(inside, ways[:, None] + _dot_log(count, p), -np.inf)


def _dot_log(count: Array, p: Array) -> Array:
    """Sum over items of count x log p, with 0 log 0 = 0: (n, d) and (..., K, d) -> (..., n, K)."""
    zero = p == 0
    total: Array = count.astype(float) @ np.log(np.where(zero, 1, p)).swapaxes(-1, -2)
    if zero.any():
        hits = count.astype(float) @ zero.astype(float).swapaxes(-1, -2)
        total = np.where(hits > 0, -np.inf, total)
    return total


def _multivariate_normal(x: Array, mean: Array, **given: Array) -> Array:
    """Density of (n, d) observations, given a matrix or a vector of spreads."""
    gap = x - mean[..., None, :]  # (..., K, n, d)
    ((name, value),) = given.items()
    if name in ("sd", "variance"):
        sd = _spread(**given)
        z, half = gap / sd[..., None, :], np.log(sd).sum(axis=-1)
    else:
        root = value if name == "cholesky" else _root(value, name)
        half = np.log(np.diagonal(root, axis1=-2, axis2=-1)).sum(axis=-1)
        half = -half if name == "precision" else half
        z = gap @ (root if name == "precision" else np.linalg.inv(root).swapaxes(-1, -2))
    log: Array = -0.5 * (z**2).sum(axis=-1) - half[..., None] - 0.5 * x.shape[1] * _LOG_2PI
    return log.swapaxes(-1, -2)


def _spherical_normal(x: Array, mean: Array, **given: Array) -> Array:
    """Density of (n, d) observations with one spread in all directions."""
    sd, n_dims = _spread(**given)[..., None, :], x.shape[1]
    squares = ((x - mean[..., None, :]) ** 2).sum(axis=-1).swapaxes(-1, -2)
    log: Array = -0.5 * squares / sd**2 - n_dims * (np.log(sd) + 0.5 * _LOG_2PI)
    return log


def _root(matrix: Array, name: str) -> Array:
    """Lower triangular root of a matrix; NaN where the matrix is not finite."""
    finite = np.isfinite(matrix).all(axis=(-1, -2), keepdims=True)
    try:
        root = np.linalg.cholesky(np.where(finite, matrix, np.eye(matrix.shape[-1])))
    except np.linalg.LinAlgError as error:
        raise DataError(f"multivariate_normal: a {name} is not positive definite") from error
    return np.where(finite, root, np.nan)


_SPREAD = ("mean sd", "mean variance", "mean precision")
_MATRIX = {"mean": 1, "covariance": 2, "cholesky": 2, "precision": 2, "sd": 1, "variance": 1}

#: Name -> family. A new one is one line.
DENSITIES: dict[str, Density] = {
    "normal": Density(_normal, _SPREAD),
    "multivariate_normal": Density(
        _multivariate_normal, tuple(f"mean {name}" for name in _MATRIX if name != "mean"),
        _MATRIX, items=True,
    ),
    "spherical_normal": Density(_spherical_normal, _SPREAD, {"mean": 1}, items=True),
    "student_t": Density(_student, ("df location scale",)),
    "lognormal": Density(_lognormal, _SPREAD),
    "exponential": Density(_exponential, ("rate", "scale")),
    "gamma": Density(_gamma, ("shape rate", "shape scale")),
    "beta": Density(_beta, ("alpha beta",)),
    "poisson": Density(_poisson, ("rate",)),
    "negative_binomial": Density(_negative_binomial, ("mean dispersion", "size p")),
    "binomial": Density(_binomial, ("p trials",)),
    "binomial_trials": Density(_binomial, ("p",), items=True),
    "bernoulli": Density(_bernoulli, ("p",), {"p": 1}, items=True, missing=True),
    "categorical": Density(_categorical, ("p",), {"p": 1}, items=True),
    "multinomial": Density(_multinomial, ("p",), {"p": 1}, items=True),
}  # fmt: skip

_POSITIVE = {
    "sd",
    "variance",
    "scale",
    "rate",
    "shape",
    "df",
    "alpha",
    "beta",
    "dispersion",
    "size",
}


# ---------------------------------------------------------------------- log densities


def density_of(name: str) -> Density:
    """Return a family by its name.

    Raises
    ------
    SpecError
        If it is not known; the message lists those that are.
    """
    if name not in DENSITIES:
        close = get_close_matches(str(name), DENSITIES, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise SpecError(f"unknown family {name!r}{hint}; known are {', '.join(DENSITIES)}")
    return DENSITIES[name]


def log_density(family: str, x: Array, parameters: Mapping[str, Array]) -> Array:
    r"""Return log densities :math:`\log f(x_i \mid \theta_{tk})` of all components.

    ==========================  ===================================  ==========================
    family                      parameters                           x
    ==========================  ===================================  ==========================
    ``normal``, ``lognormal``   mean; sd, variance or precision      (n,)
    ``multivariate_normal``     mean (d); covariance, cholesky       (n, d)
                                or precision (d, d), sd or
                                variance (d)
    ``spherical_normal``        mean (d); sd, variance or precision  (n, d)
    ``student_t``               df, location, scale                  (n,)
    ``exponential``             rate or scale                        (n,)
    ``gamma``                   shape; rate or scale                 (n,)
    ``beta``                    alpha, beta                          (n,)
    ``poisson``                 rate                                 (n,)
    ``negative_binomial``       mean, dispersion; or size, p         (n,)
    ``binomial``                p, trials                            (n,)
    ``binomial_trials``         p                                    (n, 2): successes, trials
    ``bernoulli``               p (d): the product over items        (n, d), or (n,)
    ``categorical``             p (C)                                (n,): 0 to C-1
    ``multinomial``             p (C)                                (n, C): counts
    ==========================  ===================================  ==========================

    `mean`, `sd` of ``lognormal`` are those of the logarithm. The variance of
    ``negative_binomial`` is mean + mean² / dispersion. Observations that are missing (NaN) have
    the log density 0, items of ``bernoulli`` likewise.

    Parameters
    ----------
    family : str
        One of :data:`DENSITIES`.
    x : ndarray of shape (n,) or (n, d)
        Observations.
    parameters : mapping of str to ndarray
        Parameters by name, of shape (..., K) and further axes as in the table.

    Returns
    -------
    ndarray of float64, shape (..., n, K)
        Minus infinity where an observation cannot come from the component.

    Raises
    ------
    SpecError
        If the family is unknown or its parameters are others.
    DataError
        If shapes do not fit, or a parameter is out of its range.

    Examples
    --------
    >>> mean = np.array([0.0, 2.0])
    >>> log_density("normal", np.zeros(1), {"mean": mean, "sd": np.ones(2)}).round(3)
    array([[-0.919, -2.919]])
    """
    found = density_of(family)
    check_names(family, parameters)
    values = {name: np.asarray(value, dtype=float) for name, value in parameters.items()}
    for name, value in values.items():
        _check_range(family, name, value, found.ranks.get(name, 0))
    x = _observations(family, found, np.asarray(x, dtype=float))
    absent = np.isnan(x)
    gone = np.asarray(absent.all(axis=1))
    if not found.missing and absent.any():
        if absent.any(axis=1).sum() > gone.sum():
            raise DataError(
                f"{family}: some observations are missing in part (NaN); fill them in, or leave "
                "them out"
            )
        x = np.where(gone[:, None], 1.0, x)
    _check_sizes(family, found, x, values)
    if not found.items:
        values = {name: value[..., None, :] for name, value in values.items()}
    with np.errstate(over="ignore", invalid="ignore"):
        log = found.density(x, **values)
    if not found.missing and gone.any():
        log[..., gone, :] = 0.0
    return log


def check_names(family: str, parameters: Collection[str]) -> None:
    """Check that the parameters are those of the family, given in one way.

    Raises
    ------
    SpecError
        If the family is unknown or its parameters are others.
    """
    known = density_of(family).parameters
    if set(parameters) not in [set(way.split()) for way in known]:
        ways = "; or ".join(way.replace(" ", ", ") for way in known)
        raise SpecError(
            f"{family}: the parameters are {ways}; given are {', '.join(parameters) or 'none'}"
        )


def _check_range(family: str, name: str, value: Array, rank: int) -> None:
    """Raise DataError unless a parameter is in its range; NaN are left to other checks."""
    if value.ndim < rank + 1:
        raise DataError(f"{family}: {name} has the shape {value.shape}; one axis is of components")
    positive = name in _POSITIVE or (name == "precision" and rank < 2)
    if positive and (value <= 0).any():
        raise DataError(f"{family}: {name} must be positive; the smallest is {np.nanmin(value):g}")
    if name == "p" and ((value < 0) | (value > 1)).any():
        raise DataError(
            f"{family}: p lies between 0 and 1; here from {np.nanmin(value):g} to "
            f"{np.nanmax(value):g}"
        )


def _observations(family: str, found: Density, x: Array) -> Array:
    """Bring observations to the shape (n, 1) or (n, d)."""
    if x.ndim == 1:
        return x[:, None]
    if x.ndim != 2 or not found.items:
        raise DataError(
            f"{family}: observations have the shape {x.shape}; it takes "
            f"{'(n, d)' if found.items else '(n,)'}"
        )
    return x


def _check_sizes(family: str, found: Density, x: Array, values: Mapping[str, Array]) -> None:
    """Raise DataError unless vectors and matrices have as many entries as the observations."""
    if family in ("categorical", "binomial_trials"):
        wanted = {"categorical": 1, "binomial_trials": 2}[family]
        if x.shape[1] != wanted:
            raise DataError(f"{family}: observations have {x.shape[1]} columns, not {wanted}")
        return
    for name, rank in found.ranks.items():
        if name in values and values[name].shape[-rank:] != (x.shape[1],) * rank:
            raise DataError(
                f"{family}: {name} has the shape {values[name].shape}, but observations have "
                f"{x.shape[1]} entries each; it should end in {(x.shape[1],) * rank}"
            )


# ---------------------------------------------------------------------- probabilities


def allocate(log: Array) -> Array:
    """Turn log weights plus log densities into probabilities, in place.

    Parameters
    ----------
    log : ndarray of float64, shape (..., n, K)
        Overwritten.

    Returns
    -------
    ndarray of shape (..., n, K)
        NaN where a row has no component of positive density.

    Examples
    --------
    >>> allocate(np.log([[[0.1, 0.3], [0.5, 0.5]]]))
    array([[[0.25, 0.75],
            [0.5 , 0.5 ]]])
    """
    top = log.max(axis=-1, keepdims=True)
    log -= np.where(np.isneginf(top), np.nan, top)
    np.exp(log, out=log)
    log /= log.sum(axis=-1, keepdims=True)
    return log


def smooth(log: Array, transition: Array, initial: Array, lengths: Sequence[int]) -> Array:
    r"""Return smoothed state probabilities by the forward-backward recursions.

    With emissions :math:`b_{ik} = f(x_i \mid \theta_k)` and transitions :math:`P_{jk}`,
    :math:`\alpha_i \propto (\alpha_{i-1} P) \cdot b_i` and
    :math:`\beta_i \propto P (b_{i+1} \cdot \beta_{i+1})`; the probabilities are proportional to
    :math:`\alpha_i \beta_i` (Rabiner 1989, https://doi.org/10.1109/5.18626).

    Parameters
    ----------
    log : ndarray of shape (draws, n, K)
        Log densities of the observations.
    transition : ndarray of shape (draws, K, K)
        Row: from; column: to.
    initial : ndarray of shape (draws, K)
        Distribution of the first state of every sequence.
    lengths : sequence of int
        Lengths of the sequences that the n observations consist of.

    Returns
    -------
    ndarray of shape (draws, n, K)
        NaN in the sequences that are impossible.
    """
    result, ends = np.empty(log.shape), np.cumsum(lengths)
    with np.errstate(divide="ignore", invalid="ignore"):
        for start, stop in zip(ends - lengths, ends, strict=True):
            part = log[:, start:stop]
            forward = np.empty(part.shape)
            state = initial
            for i in range(part.shape[1]):
                state = _times(part[:, i], state)
                forward[:, i] = state
                state = np.einsum("bj,bjk->bk", state, transition)
            message = np.ones_like(initial)
            for i in range(part.shape[1] - 1, -1, -1):
                both = forward[:, i] * message
                result[:, start + i] = both / both.sum(axis=1, keepdims=True)
                message = np.einsum("bjk,bk->bj", transition, _times(part[:, i], message))
    return result


def _times(log: Array, weight: Array) -> Array:
    """Multiply weights by exponentials of logs, up to a factor of each row, without underflow."""
    return allocate(np.log(weight) + log)
