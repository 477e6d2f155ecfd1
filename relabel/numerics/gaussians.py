r"""Covariances of Gaussians: their Bures distance and their Wasserstein barycentre.

The squared 2-Wasserstein distance between :math:`N(m_1, A)` and :math:`N(m_2, B)` is

.. math:: \lVert m_1 - m_2\rVert^2 + \operatorname{tr} A + \operatorname{tr} B
    - 2 \operatorname{tr} (A^{1/2} B A^{1/2})^{1/2}

and the last trace is the nuclear norm of :math:`A^{1/2} B^{1/2}`. Arrays in and out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["COVARIANCE", "COVARIANCE_OF", "SD_OF", "barycentre", "fidelity", "root_of", "spread_of"]

Array = NDArray[Any]

#: Names that companions of a mean have: standard deviations, the covariance of one variable, and
#: the covariance of all.
SD_OF, COVARIANCE_OF, COVARIANCE = "{}_sd", "{}_cov", "covariance"

_MOST_STEPS = 500
_TOLERANCE = 1e-12  # relative change of a barycentre that ends the iteration
_SINGULAR = 1e-12  # eigenvalues below this share of the largest count as zero


def root_of(covariance: Array) -> Array:
    """Return the symmetric square root of positive semidefinite matrices, (..., R, R).

    Eigenvalues below zero, which rounding leaves, count as zero.

    Examples
    --------
    >>> import numpy as np
    >>> root_of(np.array([[4.0, 0.0], [0.0, 9.0]]))
    array([[2., 0.],
           [0., 3.]])
    """
    if not covariance.shape[-1]:
        return covariance
    values, vectors = np.linalg.eigh(covariance)
    roots = np.sqrt(np.maximum(values, 0.0))
    root: Array = (vectors * roots[..., None, :]) @ vectors.swapaxes(-1, -2)
    return root


def spread_of(root: Array) -> Array:
    """Return the trace of the covariance of which this is the symmetric root, shape (...)."""
    trace: Array = np.square(root).sum(axis=(-2, -1))
    return trace


def fidelity(one: Array, two: Array) -> Array:
    r"""Return the trace of :math:`(A^{1/2} B A^{1/2})^{1/2}` from the symmetric roots of *A*, *B*.

    Parameters
    ----------
    one, two : ndarray of shape (..., R, R)
        The leading axes broadcast.

    Returns
    -------
    ndarray of shape (...)

    References
    ----------
    Bhatia, R., Jain, T. & Lim, Y. (2019). On the Bures-Wasserstein distance between positive
    definite matrices. *Expositiones Mathematicae* 37(2), 165-191.
    https://doi.org/10.1016/j.exmath.2018.01.002

    Examples
    --------
    >>> import numpy as np
    >>> float(fidelity(np.diag([1.0, 2.0]), np.diag([3.0, 1.0])))
    5.0
    """
    product = one @ two
    if product.shape[-1] <= 1:
        return np.asarray(np.abs(product).sum(axis=(-2, -1)))
    trace: Array = np.linalg.svd(product, compute_uv=False).sum(axis=-1)
    return trace


def barycentre(roots: Array, start: Array | None = None) -> Array:
    r"""Return the covariance of the Wasserstein barycentre of Gaussians.

    The fixed-point iteration

    .. math:: S \leftarrow S^{-1/2} \Big( \frac1n \sum_t (S^{1/2} \Sigma_t S^{1/2})^{1/2} \Big)^2
        S^{-1/2}

    lowers :math:`\sum_t B^2(S, \Sigma_t)` at every step and converges to its only minimum where a
    :math:`\Sigma_t` is not singular.

    Parameters
    ----------
    roots : ndarray of shape (n, K, R, R)
        Symmetric roots of the covariances, for each of *K* barycentres.
    start : ndarray of shape (K, R, R), optional
        Where to begin; the result is never worse. The mean covariance by default, and where
        `start` is singular.

    Returns
    -------
    ndarray of shape (K, R, R)

    References
    ----------
    Álvarez-Esteban, P. C., del Barrio, E., Cuesta-Albertos, J. A. & Matrán, C. (2016). A
    fixed-point approach to barycenters in Wasserstein space. *Journal of Mathematical Analysis and
    Applications* 441(2), 744-762. https://doi.org/10.1016/j.jmaa.2016.04.045

    Examples
    --------
    >>> import numpy as np
    >>> roots = np.array([[np.diag([1.0, 2.0])], [np.diag([3.0, 4.0])]])
    >>> barycentre(roots)[0].round(9)
    array([[4., 0.],
           [0., 9.]])
    """
    n_members, _, size = roots.shape[:3]
    if not size:
        return np.zeros(roots.shape[1:])
    mean = (roots @ roots).mean(axis=0)
    current = mean if start is None else np.where(_singular(start)[:, None, None], mean, start)
    if n_members == 1:
        return np.asarray(mean)
    for _ in range(_MOST_STEPS):
        fresh = _step(current, roots)
        done = np.abs(fresh - current).max() <= _TOLERANCE * np.abs(current).max()
        current = fresh
        if done:
            break
    if start is None:
        return np.asarray(current)
    better = _total(current, roots) <= _total(start, roots)
    return np.where(better[:, None, None], current, start)


def _step(current: Array, roots: Array) -> Array:
    """One step of the fixed-point iteration."""
    values, vectors = np.linalg.eigh(current)
    kept = values > _SINGULAR * values[:, -1:]
    size = np.sqrt(np.where(kept, values, 0.0))
    forth = (vectors * size[:, None, :]) @ vectors.swapaxes(1, 2)
    back = (vectors * np.where(kept, 1 / np.where(kept, size, 1.0), 0.0)[:, None, :]) @ (
        vectors.swapaxes(1, 2)
    )
    inner = forth @ roots
    middle = root_of(inner @ inner.swapaxes(-1, -2)).mean(axis=0)
    fresh = back @ middle @ middle @ back
    symmetric: Array = (fresh + fresh.swapaxes(1, 2)) / 2
    return symmetric


def _total(current: Array, roots: Array) -> Array:
    """Sum of the squared Bures distances, up to a constant, shape (K,)."""
    root = root_of(current)
    total: Array = len(roots) * spread_of(root) - 2 * fidelity(root, roots).sum(axis=0)
    return total


def _singular(covariance: Array) -> Array:
    values = np.linalg.eigvalsh(covariance)
    singular: Array = values[:, 0] <= _SINGULAR * values[:, -1]
    return singular
