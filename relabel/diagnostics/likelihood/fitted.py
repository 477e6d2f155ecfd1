"""A likelihood with the parameters of some draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from relabel.diagnostics.likelihood.base import Family

__all__ = ["Fitted"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Fitted:
    r"""A likelihood that is resolved for some draws.

    Attributes
    ----------
    family : Family
    parameters : mapping of str to ndarray
        What the family takes beside the outputs, draws first.
    weight : float
        How many observations each of the inputs stands for.
    how : str
        A sentence on where all this comes from.

    Examples
    --------
    >>> import numpy as np
    >>> from relabel.diagnostics.likelihood import Normal
    >>> fitted = Fitted(Normal(), {"scale": np.array([[0.5]])})
    >>> fitted.kl(np.zeros((1, 3, 1)), np.ones((1, 3, 1)))
    array([6.])
    """

    family: Family
    parameters: Mapping[str, Array] = field(default_factory=dict)
    weight: float = 1.0
    how: str = ""

    def __getitem__(self, rows: Any) -> Fitted:
        """Select draws."""
        return replace(self, parameters={n: v[rows] for n, v in self.parameters.items()})

    def thinned(self, weight: float) -> Fitted:
        """Return the likelihood where each input stands for `weight` times as many observations."""
        return replace(self, weight=self.weight * weight)

    @property
    def nats(self) -> bool:
        """Whether divergences are in nats; they are not where no likelihood is known."""
        return self.family.nats

    def kl(self, f: Array, g: Array) -> Array:
        """Divergence of the outputs *g* from *f* (draws, n, n_outputs), shape (draws,)."""
        return self.family.kl(f, g, self.parameters, self.weight)

    def gradient(self, f: Array, g: Array) -> Array:
        """Gradient of :meth:`kl` by *g*, shape (draws, n, n_outputs)."""
        return self.family.gradient(f, g, self.parameters, self.weight)

    def root(self, f: Array) -> Array:
        """Root of the Fisher metric, shape (draws, n or 1, n_outputs, n_outputs)."""
        return self.family.root(f, self.parameters, self.weight)

    def limit(self, n_parameters: Any, level: float = 0.95) -> Array:
        """Divergence below which so many parameters are not needed; see :meth:`Family.limit`."""
        return self.family.limit(n_parameters, level)
