"""Categorical targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from relabel.diagnostics.likelihood.base import Family, Parameters, Variables
from relabel.errors import SpecError

__all__ = ["Categorical"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Categorical(Family):
    r"""Targets are classes 0 ... C - 1; the C outputs are their logits.

    .. math:: p(y = c) = e^{f_c} \Big/ \sum_k e^{f_k}

    Examples
    --------
    >>> Categorical().log_density(np.zeros((1, 2, 4)), np.array([0, 3]), {}).round(3)
    array([[-1.386, -1.386]])
    """

    name = "categorical"
    outputs_are = "outputs are the logits"
    shift_invariant = True

    def guess(self, targets: Array | None, variables: Variables) -> bool:
        """Whether targets are classes of several outputs: codes, or columns with one 1 in a row."""
        n_outputs = variables.n_outputs or 0
        return targets is not None and n_outputs > 1 and _codes(targets, n_outputs) is not None

    def check(self, targets: Array, n: int, n_outputs: int, where: str) -> Array:
        """Return the classes as integers of shape (n,)."""
        codes = _codes(targets, n_outputs)
        if codes is None:
            raise SpecError(
                f"likelihood: targets {where} of shape {targets.shape} are not categorical: with "
                f"{n_outputs} outputs (logits) they must be integers from 0 to {n_outputs - 1}, "
                f"one for each of {n} inputs"
            )
        return codes

    def log_density(self, outputs: Array, targets: Array, parameters: Parameters) -> Array:
        """Log probability of the targets, shape (draws, n)."""
        level = special.logsumexp(outputs, axis=-1)
        return np.asarray(outputs[:, np.arange(len(targets)), targets] - level)

    def predict(self, outputs: Array, parameters: Parameters) -> Array:
        """Return the probabilities of the classes."""
        return _softmax(outputs)

    def kl(self, f: Array, g: Array, parameters: Parameters, weight: float = 1.0) -> Array:
        """Bregman distance of the convex log-sum-exp, shape (draws,)."""
        level = special.logsumexp(g, axis=-1) - special.logsumexp(f, axis=-1)
        terms = level - (_softmax(f) * (g - f)).sum(axis=-1)
        summed: Array = np.maximum(terms, 0.0).sum(axis=1)
        return weight * summed

    def gradient(self, f: Array, g: Array, parameters: Parameters, weight: float = 1.0) -> Array:
        """Gradient by *g*, shape (draws, n, n_outputs)."""
        return weight * (_softmax(g) - _softmax(f))

    def root(self, f: Array, parameters: Parameters, weight: float = 1.0) -> Array:
        """Root of the Fisher metric, shape (draws, n, n_outputs, n_outputs)."""
        p = _softmax(f)
        root: Array = np.sqrt(weight * p)[..., None] * (np.eye(f.shape[-1]) - p[..., None, :])
        return root


def _softmax(z: Array) -> Array:
    p: Array = special.softmax(z, axis=-1)
    return p


def _codes(targets: Array, n_outputs: int) -> Array | None:
    """Class of each row, from codes or one-hot columns; None if they are neither."""
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if targets.ndim == 2:
        hot = np.isin(targets, [0, 1]).all() and (targets.sum(axis=1) == 1).all()
        return targets.argmax(axis=1) if hot and targets.shape[1] == n_outputs else None
    whole = (targets == np.round(targets)).all()
    fits = whole and targets.min() >= 0 and targets.max() <= n_outputs - 1
    codes: Array = targets.astype(int)
    return codes if fits else None
