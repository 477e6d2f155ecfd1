"""Bernoulli targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from relabel.diagnostics.likelihood.base import Family, Parameters, Variables
from relabel.diagnostics.likelihood.noise import noise_names
from relabel.errors import SpecError

__all__ = ["Bernoulli"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Bernoulli(Family):
    r"""Targets 0 and 1; the one output is the logit.

    .. math:: p(y = 1) = 1 / (1 + e^{-f})

    Examples
    --------
    >>> targets = np.array([[0.0], [1.0]])
    >>> Bernoulli().log_density(np.zeros((1, 2, 1)), targets, {}).round(3)
    array([[-0.693, -0.693]])
    """

    name = "bernoulli"
    outputs_are = "the output is the logit"

    def guess(self, targets: Array | None, variables: Variables) -> bool:
        """Whether targets are 0 and 1, there is one output, and no variable for noise."""
        return (
            targets is not None
            and variables.n_outputs == 1
            and targets.size == len(targets)
            and np.array_equal(np.unique(targets), [0, 1])
            and not noise_names(variables)
        )

    def check_outputs(self, n_outputs: int) -> None:
        """Raise SpecError unless there is one output."""
        if n_outputs != 1:
            raise SpecError(
                f"likelihood: bernoulli needs one output, the logit; there are {n_outputs}"
            )

    def check(self, targets: Array, n: int, n_outputs: int, where: str) -> Array:
        """Return targets as float64 of shape (n, 1)."""
        values = super().check(targets, n, n_outputs, where)
        if not np.isin(values, [0, 1]).all():
            raise SpecError(
                f"likelihood: targets {where} of shape {targets.shape} are not Bernoulli: they "
                f"must be 0 or 1 (they go from {targets.min()} to {targets.max()})"
            )
        return values

    def log_density(self, outputs: Array, targets: Array, parameters: Parameters) -> Array:
        """Log probability of the targets, shape (draws, n)."""
        return np.asarray((targets * outputs - np.logaddexp(0, outputs))[..., 0])

    def predict(self, outputs: Array, parameters: Parameters) -> Array:
        """Return the probability of a one."""
        probability: Array = special.expit(outputs)
        return probability

    def kl(self, f: Array, g: Array, parameters: Parameters, weight: float = 1.0) -> Array:
        """Bregman distance of the convex log(1 + e^f), shape (draws,)."""
        terms = np.logaddexp(0, g) - np.logaddexp(0, f) - special.expit(f) * (g - f)
        summed: Array = np.maximum(terms, 0.0).reshape(len(f), -1).sum(axis=1)
        return weight * summed

    def gradient(self, f: Array, g: Array, parameters: Parameters, weight: float = 1.0) -> Array:
        """Gradient by *g*, shape (draws, n, 1)."""
        slope: Array = weight * (special.expit(g) - special.expit(f))
        return slope

    def root(self, f: Array, parameters: Parameters, weight: float = 1.0) -> Array:
        """Root of the Fisher metric, shape (draws, n, 1, 1)."""
        p = special.expit(f)
        root: Array = np.sqrt(weight * p * (1 - p))[..., None] * np.eye(f.shape[-1])
        return root
