"""Normals with full covariances: scores, their prior, and the factors of precisions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel.groups import Score

__all__ = ["full_score", "precision_root", "wishart_penalty"]

Array = NDArray[Any]


def full_score(features: Array, signed: Array, means: Array, roots: Array) -> Score:
    """Score units as slots by log densities, split by parity in the sign.

    Parameters
    ----------
    features : ndarray of shape (draws, K, R)
    signed : ndarray of bool, shape (R,)
    means : ndarray of shape (K, R)
    roots : ndarray of shape (K, R, R)
        L of every slot, where its precision is L L'.

    Returns
    -------
    Score
        Both parts of shape (draws, K, K), slots before units.
    """
    n_draws, n_units, n_features = features.shape
    even, odd = np.zeros((2, n_draws, n_units, n_units))
    if not n_features:
        return Score(even, odd)
    flat = features.reshape(-1, n_features)
    for slot, (mean, root) in enumerate(zip(means, roots, strict=True)):
        turned = flat @ np.where(signed[:, None], root, 0.0)
        fixed = flat @ np.where(signed[:, None], 0.0, root) - mean @ root
        shape = (n_draws, n_units)
        log_root = np.log(np.diagonal(root)).sum()
        squares = (turned**2).sum(axis=1) + (fixed**2).sum(axis=1)
        even[:, slot] = log_root - 0.5 * squares.reshape(shape)
        odd[:, slot] = -(turned * fixed).sum(axis=1).reshape(shape)
    return Score(even, odd)


def wishart_penalty(roots: Array, target: Array, nu: float) -> float:
    """Minus the log density of an inverse Wishart prior at all slots, without constants."""
    log_roots = np.log(np.einsum("krr->kr", roots)).sum()
    traces = (target[:, None] * roots**2).sum()
    return float(nu * (0.5 * traces - log_roots))


def precision_root(covariance: Array) -> Array:
    """Triangular L of every slot with L L' the inverse of its covariance, (K, R, R)."""
    if not covariance.shape[-1]:
        return covariance
    sd = np.sqrt(np.einsum("krr->kr", covariance))
    factor = np.linalg.cholesky(covariance / (sd[:, :, None] * sd[:, None, :]))
    root: Array = np.linalg.inv(factor).swapaxes(1, 2) / sd[:, :, None]
    return root
