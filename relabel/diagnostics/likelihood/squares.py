"""The normal law with a known scale: divergences are sums of squares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from relabel.diagnostics.likelihood.base import Family, Parameters

__all__ = ["Squares"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Squares(Family):
    r"""Outputs are means, and parameter ``scale`` is the standard deviation.

    .. math:: \mathrm{KL} = \sum_i \frac{(f_i - g_i)^2}{2\sigma^2}

    ``scale`` has the shape (draws, 1 or n_outputs).
    """

    outputs_are = "outputs are the means"
    quadratic = True

    def log_density(self, outputs: Array, targets: Array, parameters: Parameters) -> Array:
        """Log density of the targets, shape (draws, n)."""
        density: Array = stats.norm.logpdf(targets, outputs, _sd(parameters)).sum(axis=-1)
        return density

    def predict(self, outputs: Array, parameters: Parameters) -> Array:
        """Return the outputs."""
        return outputs

    def kl(self, f: Array, g: Array, parameters: Parameters, weight: float = 1.0) -> Array:
        """Half the squared change of the outputs in standard deviations, shape (draws,)."""
        squares: Array = np.square((f - g) / _sd(parameters)).sum(axis=(1, 2))
        return 0.5 * weight * squares

    def gradient(self, f: Array, g: Array, parameters: Parameters, weight: float = 1.0) -> Array:
        """Gradient by *g*, shape (draws, n, n_outputs)."""
        slope: Array = weight * (g - f) / _sd(parameters) ** 2
        return slope

    def root(self, f: Array, parameters: Parameters, weight: float = 1.0) -> Array:
        """Root of the Fisher metric, shape (draws, 1, n_outputs, n_outputs)."""
        root: Array = np.sqrt(weight) / _sd(parameters)[..., None] * np.eye(f.shape[-1])
        return root


def _sd(parameters: Parameters) -> Array:
    """Return the standard deviation with an axis for the inputs."""
    return parameters["scale"][:, None, :]
