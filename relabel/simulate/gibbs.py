"""Parts of a Gibbs sampler that mixtures and hidden Markov models share; all chains at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel._util.validate import choice
from relabel.errors import SpecError
from relabel.groups import group_of
from relabel.groups.elements import Monomial
from relabel.numerics.assignment import assign
from relabel.simulate.planted import SWITCHING, Simulated, random_element
from relabel.spec.spec import Spec
from relabel.spec.transformation import Transformation

__all__ = [
    "Normals",
    "categorical",
    "one_hot",
    "places",
    "planted_allocations",
]

Array = NDArray[Any]

_SHAPE = 2.0  # of the inverse gamma prior of a variance, whose mean is then its scale
_SCALE = 1.0


@dataclass(frozen=True)
class Normals:
    r"""Data *x*, shape (n, dim), from normal components with diagonal covariances.

    The priors are conjugate, :math:`\mu \sim N(m, R^2)` with *m* and *R* the mean and the range of
    the data, and :math:`\sigma^2 \sim IG(2, 1)`. Parameters have the shape (..., K, dim).
    """

    x: Array

    @property
    def centre(self) -> Array:
        """Prior mean of the means."""
        centre: Array = self.x.mean(axis=0)
        return centre

    @property
    def spread(self) -> Array:
        """Prior standard deviation of the means."""
        spread: Array = np.maximum(np.ptp(self.x, axis=0), 1.0)
        return spread

    def log_density(self, mu: Array, sigma: Array) -> Array:
        """Log density of every point under every component, shape (..., n, K)."""
        wide = self.x[:, None, :]
        scaled = (wide - mu[..., None, :, :]) / sigma[..., None, :, :]
        constant = np.log(sigma).sum(axis=-1) + 0.5 * self.x.shape[1] * np.log(2 * np.pi)
        density: Array = -0.5 * np.square(scaled).sum(axis=-1) - constant[..., None, :]
        return density

    def log_prior(self, mu: Array, sigma: Array) -> Array:
        """Log prior density of means and standard deviations but for constants, shape (...)."""
        means = -0.5 * np.square((mu - self.centre) / self.spread)
        scales = -(2 * _SHAPE + 1) * np.log(sigma) - _SCALE / sigma**2
        prior: Array = (means + scales).sum(axis=(-2, -1))
        return prior

    def draw(self, member: Array, sigma: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        """Draw means, then standard deviations, given the indicators `member`, (..., n, K)."""
        count = member.sum(axis=-2)[..., None]
        total = member.swapaxes(-1, -2) @ self.x
        precision = count / sigma**2 + self.spread**-2.0
        middle = (total / sigma**2 + self.centre * self.spread**-2.0) / precision
        mu = middle + rng.normal(size=middle.shape) / np.sqrt(precision)
        squares = member.swapaxes(-1, -2) @ self.x**2 - 2 * mu * total + count * mu**2
        scale = _SCALE + 0.5 * np.maximum(squares, 0.0)
        return mu, np.sqrt(scale / rng.standard_gamma(_SHAPE + 0.5 * count, size=scale.shape))


def places(size: int, dim: int, separation: float, rng: np.random.Generator) -> Array:
    """Return means on a lattice with neighbours `separation` apart, in random order."""
    side = int(np.ceil(round(size ** (1 / dim), 9)))
    lattice = np.stack(np.unravel_index(np.arange(size), (side,) * dim), axis=1)
    return separation * rng.permutation(lattice - lattice.mean(axis=0))


def one_hot(z: Array, size: int) -> Array:
    """Return labels as indicators, 1.0 or 0.0, on one more axis than `z`."""
    member: Array = (z[..., None] == np.arange(size)).astype(float)
    return member


def categorical(log_weight: Array, rng: np.random.Generator) -> Array:
    """Draw from categories with these unnormalised log probabilities along the last axis."""
    mass = np.exp(log_weight - log_weight.max(axis=-1, keepdims=True)).cumsum(axis=-1)
    level = rng.random(mass.shape[:-1])[..., None] * mass[..., -1:]
    drawn: Array = (mass[..., :-1] < level).sum(axis=-1)
    return drawn


def planted_allocations(
    posterior: xr.Dataset,
    allocation: xr.Dataset,
    others: Mapping[str, xr.Dataset],
    spec: Spec,
    true_z: Array,
    truth: dict[str, Array],
    *,
    switching: str,
    missing: float,
    rng: np.random.Generator,
) -> Simulated:
    """Label the draws by the true allocation, and plant a permutation in each.

    Slot *k* holds the component that agrees in most points with the true component *k*, by the
    assignment that is best for all.
    """
    choice("switching", switching, SWITCHING)
    if not 0 <= missing < 1:
        raise SpecError(f"missing must be a share from 0 to below 1, not {missing!r}")
    (units,) = spec.units
    z = allocation["z"].values
    batch, size = (z.shape[0], z.shape[1]), int(posterior.sizes[units])
    agreement = one_hot(true_z, size).T @ one_hot(z, size)  # (chain, draw, true, drawn)
    index = assign(agreement.reshape(-1, size, size)).reshape(*batch, size)
    oracle = Transformation({units: Monomial(index, np.ones(index.shape))})
    groups = {"posterior": posterior, "allocation": allocation}
    resolved = spec.bind(groups)
    clean = oracle.apply(groups, resolved)
    element = random_element(group_of("permutation"), batch, size, switching, rng)
    planted = Transformation({units: element})
    moved = planted.apply(clean, resolved)
    if missing:
        lost = rng.random(z.shape) < missing
        moved["allocation"] = moved["allocation"].assign(
            z=(moved["allocation"]["z"].dims, np.where(lost, -1, moved["allocation"]["z"].values))
        )
    true = xr.Dataset({name: (posterior[name].dims[2:], value) for name, value in truth.items()})
    data = xr.DataTree.from_dict({**moved, **others, "truth": true})
    return Simulated(data, spec, truth, planted, clean["posterior"])
