"""A third party's likelihood family: counts whose log rate is the output."""

import numpy as np
from scipy import special

from relabel import SpecError
from relabel.diagnostics.likelihood import Family


class PoissonLog(Family):
    """Poisson targets; outputs are the logarithms of their rates."""

    name = "poisson_log"
    outputs_are = "outputs are the log rates"

    def guess(self, targets, variables):
        """Whether targets are integers from 0 on, one for each output."""
        counts = targets is not None and targets.dtype.kind in "iu" and targets.min() >= 0
        return bool(counts) and targets.size == len(targets) * variables.n_outputs

    def check(self, targets, n, n_outputs, where):
        """Return counts of shape (n, n_outputs)."""
        counts = super().check(targets, n, n_outputs, where)
        if (counts < 0).any() or (counts != np.round(counts)).any():
            raise SpecError(f"likelihood: targets {where} must be non-negative integers")
        return counts

    def log_density(self, outputs, targets, parameters):
        """Log probability of the counts, shape (draws, n)."""
        terms = targets * outputs - np.exp(outputs) - special.gammaln(targets + 1)
        return terms.sum(axis=-1)

    def predict(self, outputs, parameters):
        """Return the rates."""
        return np.exp(outputs)

    def kl(self, f, g, parameters, weight=1.0):
        """Bregman distance of the convex e^f, shape (draws,)."""
        terms = np.exp(g) - np.exp(f) - np.exp(f) * (g - f)
        return weight * np.maximum(terms, 0.0).sum(axis=(1, 2))

    def gradient(self, f, g, parameters, weight=1.0):
        """Gradient by *g*, shape (draws, n, n_outputs)."""
        return weight * (np.exp(g) - np.exp(f))

    def root(self, f, parameters, weight=1.0):
        """Root of the Fisher metric, shape (draws, n, n_outputs, n_outputs)."""
        return np.sqrt(weight * np.exp(f))[..., None] * np.eye(f.shape[-1])
