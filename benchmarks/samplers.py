"""A sampler for many chains at once: Hamiltonian Monte Carlo in NumPy, for the benchmarks only.

State arrays are (chains, dims), so that hundreds of chains cost little more than one. Every chain
has a step size of its own, by dual averaging (Hoffman & Gelman 2014,
https://jmlr.org/papers/v15/hoffman14a.html, section 3.2), and a diagonal metric of its own, from
windows of doubling length. The number of leapfrog steps is drawn anew in every iteration and is
the same for all chains. Nothing passes between chains.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Draws", "TanhRegression", "hmc"]

Array = NDArray[Any]
Density = Callable[[Array], tuple[Array, Array]]

DIVERGENT = 1000.0  # error of the energy above which a trajectory is called divergent
TARGET = 0.8  # acceptance probability that the step sizes aim at


@dataclass(frozen=True)
class Draws:
    """What a run returns.

    Attributes
    ----------
    values : ndarray of shape (chains, draws, dims)
    lp : ndarray of shape (chains, draws)
        Log density.
    diverging : ndarray of bool, shape (chains, draws)
        Whether any trajectory since the draw before diverged.
    accepted : ndarray of shape (chains,)
        Mean acceptance probability after warm-up.
    """

    values: Array
    lp: Array
    diverging: Array
    accepted: Array


def hmc(
    density: Density,
    start: Array,
    *,
    warmup: int,
    draws: int,
    thinning: int = 1,
    steps: int = 30,
    rng: np.random.Generator,
) -> Draws:
    """Sample many chains of one density.

    Parameters
    ----------
    density : callable
        Maps points (chains, dims) to the log density (chains,) and its gradient (chains, dims).
    start : ndarray of shape (chains, dims)
    warmup : int
        Iterations in which step sizes and metrics are adapted; none of them is kept.
    draws, thinning : int
        Draws kept of each chain, and iterations for each.
    steps : int, default 30
        Most leapfrog steps in an iteration; their number is uniform from 1.
    rng : numpy.random.Generator

    Returns
    -------
    Draws
    """
    chains = _Chains(density, start, steps, rng)
    step_size, metric = _StepSize(np.full(len(start), 0.1)), _Metric(start.shape)
    renewals = _windows(warmup)
    for i in range(warmup):
        accept, _ = chains.move(step_size.now, metric.sd)
        step_size.update(accept)
        metric.see(chains.at)
        if i in renewals:
            metric.renew()
            step_size = _StepSize(step_size.averaged)
    kept, accepted = [], np.zeros(len(start))
    for _ in range(draws):
        diverging = np.zeros(len(start), dtype=bool)
        for _ in range(thinning):
            accept, diverged = chains.move(step_size.averaged, metric.sd)
            accepted += accept
            diverging |= diverged
        kept.append((chains.at.copy(), chains.lp.copy(), diverging))
    values, lp, flags = (np.stack(part, axis=1) for part in zip(*kept, strict=True))
    return Draws(values, lp, flags, accepted / (draws * thinning))


class _Chains:
    """Where all chains are, and how they move."""

    def __init__(self, density: Density, start: Array, steps: int, rng: np.random.Generator):
        self.density, self.steps, self.rng = density, steps, rng
        self.at = start.copy()
        self.lp, self.gradient = density(self.at)

    def move(self, step: Array, sd: Array) -> tuple[Array, Array]:
        """One iteration; returns acceptance probabilities and which trajectories diverged."""
        momentum = self.rng.normal(size=self.at.shape)  # in units of 1 / sd
        energy = self.lp - 0.5 * (momentum**2).sum(axis=1)
        stride = step[:, None] * sd
        at, lp, gradient = self.at, self.lp, self.gradient
        with np.errstate(over="ignore", invalid="ignore"):  # divergent ones are rejected below
            for _ in range(self.rng.integers(1, self.steps + 1)):
                momentum = momentum + 0.5 * stride * gradient
                at = at + stride * momentum
                lp, gradient = self.density(at)
                momentum = momentum + 0.5 * stride * gradient
            change = lp - 0.5 * (momentum**2).sum(axis=1) - energy
        change = np.where(np.isfinite(change), change, -np.inf)
        accept = np.exp(np.minimum(change, 0))
        taken = self.rng.uniform(size=len(accept)) < accept
        self.at = np.where(taken[:, None], at, self.at)
        self.gradient = np.where(taken[:, None], gradient, self.gradient)
        self.lp = np.where(taken, lp, self.lp)
        return accept, change < -DIVERGENT


class _StepSize:
    """Dual averaging of the logarithm of each chain's step size."""

    def __init__(self, start: Array):
        self.centre = np.log(10 * start)
        self.now, self.log_averaged = start, np.log(start)
        self.error, self.count = np.zeros(len(start)), 0

    def update(self, accept: Array) -> None:
        """Follow the acceptance probabilities of one iteration."""
        self.count += 1
        weight = 1 / (self.count + 10)
        self.error = (1 - weight) * self.error + weight * (TARGET - accept)
        log_now = self.centre - np.sqrt(self.count) / 0.05 * self.error
        weight = self.count**-0.75
        self.log_averaged = weight * log_now + (1 - weight) * self.log_averaged
        self.now = np.exp(log_now)

    @property
    def averaged(self) -> Array:
        """The step sizes to go on with."""
        return np.exp(self.log_averaged)


class _Metric:
    """Standard deviation of every coordinate of every chain, over a window."""

    def __init__(self, shape: tuple[int, ...]):
        self.sd = np.ones(shape)
        self._clear()

    def _clear(self) -> None:
        self.count = 0
        self.mean, self.squares = np.zeros_like(self.sd), np.zeros_like(self.sd)

    def see(self, at: Array) -> None:
        """Add one point of each chain."""
        self.count += 1
        change = at - self.mean
        self.mean += change / self.count
        self.squares += change * (at - self.mean)

    def renew(self) -> None:
        """Take the window's variances, drawn a little towards small ones, and start another."""
        variance = (self.squares + 5e-3) / (self.count + 5)
        self.sd = np.sqrt(variance)
        self._clear()


def _windows(warmup: int) -> set[int]:
    """Iterations after which the metric is renewed: windows that double; the last tenth is free."""
    last = warmup - max(warmup // 10, 1)
    at, length, ends = warmup // 10, max(warmup // 20, 1), set()
    while at + 3 * length <= last:
        at += length
        ends.add(at)
        length *= 2
    return ends | {last}


@dataclass(frozen=True)
class TanhRegression:
    """Posterior of y = tanh(X @ W1 + b1) @ W2 + b2 + noise, the noise inferred.

    Every weight and bias is Normal(0, prior_sd), sigma is HalfNormal(1). A point is W1 (in, out)
    row by row, b1, W2, b2 and the logarithm of sigma; the density is that of these coordinates.
    """

    X: Array
    y: Array
    units: int
    prior_sd: float

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every variable, in the order of the coordinates."""
        n_in, H = self.X.shape[1], self.units
        return {"W1": (n_in, H), "b1": (H,), "W2": (H, 1), "b2": (1,), "log_sigma": ()}

    @property
    def dims(self) -> int:
        """Number of coordinates."""
        return sum(int(np.prod(shape)) for shape in self.shapes.values())

    def unpack(self, points: Array) -> dict[str, Array]:
        """Split points (..., dims) into variables (..., shape)."""
        parts, at = {}, 0
        for name, shape in self.shapes.items():
            size = int(np.prod(shape))
            parts[name] = points[..., at : at + size].reshape(*points.shape[:-1], *shape)
            at += size
        return parts

    def from_prior(self, chains: int, rng: np.random.Generator) -> Array:
        """Draw points (chains, dims) from the prior."""
        points = rng.normal(scale=self.prior_sd, size=(chains, self.dims))
        points[:, -1] = np.log(np.abs(rng.normal(size=chains)))
        return points

    def __call__(self, points: Array) -> tuple[Array, Array]:
        """Log density (chains,) and gradient (chains, dims)."""
        part = self.unpack(points)
        n, chains, H = len(self.y), len(points), self.units
        into = np.moveaxis(part["W1"], 1, 0).reshape(-1, chains * H)
        out = part["W2"][..., 0]
        active = np.tanh((self.X @ into).reshape(n, chains, H) + part["b1"])
        precision = np.exp(-2 * part["log_sigma"])
        residual = self.y[:, None] - (active * out).sum(axis=2) - part["b2"][:, 0]  # (n, chains)
        squares = (residual**2).sum(axis=0) * precision
        residual = residual * precision
        back = residual[:, :, None] * out * (1 - active**2)
        grad_into = (self.X.T @ back.reshape(n, -1)).reshape(-1, chains, H)
        grad_out = (residual[:, :, None] * active).sum(axis=0)
        parts = (
            np.moveaxis(grad_into, 0, 1).reshape(chains, -1),
            back.sum(axis=0),
            grad_out,
            residual.sum(axis=0)[:, None],
            (squares - n)[:, None],
        )
        prior, slope = self._prior(points)
        lp = prior - 0.5 * squares - n * (part["log_sigma"] + 0.5 * np.log(2 * np.pi))
        return lp, np.concatenate(parts, axis=1) + slope

    def _prior(self, points: Array) -> tuple[Array, Array]:
        """Log density of the prior, and its gradient."""
        weights, log_sigma = points[:, :-1], points[:, -1]
        variance = np.exp(2 * log_sigma)
        lp = -0.5 * (weights**2).sum(axis=1) / self.prior_sd**2
        lp -= weights.shape[1] * np.log(self.prior_sd * np.sqrt(2 * np.pi))
        lp += 0.5 * np.log(2 / np.pi) - 0.5 * variance + log_sigma
        slope = np.concatenate([-weights / self.prior_sd**2, (1 - variance)[:, None]], axis=1)
        return lp, slope
