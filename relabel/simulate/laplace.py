"""True small networks, the modes of their posteriors, and draws about these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import least_squares

from relabel.errors import DataError
from relabel.groups import Group, activation_of
from relabel.groups.scaled import balanced

__all__ = ["WIDE", "Task"]

Array = NDArray[Any]

WIDE = 10.0  # prior sd of the output's bias over that of all else: affine flips move it
_BENT = 0.75  # of p: how far below a mode the median draw may lie (p/2 for a normal posterior)
_TRIES, _TRIES_OF_TWO = 2000, 1000  # truths that are tried
_BATCH = 50  # truths that are judged together
_STARTS = 20  # from which another mode is looked for
_APART = (30.0, 500.0)  # nats between the functions of two modes
_BISECTIONS = 12  # for targets between the outputs of two modes
_NEARLY = 0.5  # nats
_SURPLUS = 10  # normal draws to choose each draw of a posterior from
_RIPPLE = 2.0  # sd of the noise that a network with two modes leaves unexplained
_STEP = 1e-6  # of a numeric derivative
_GRID = np.linspace(-4.0, 4.0, 401)  # log-scales at which their law is tabulated


@dataclass(frozen=True)
class Task:
    """Inputs, noise and priors; parameters are vectors, unit after unit (w, b, v), then the bias.

    `inputs` has a column of ones, `size` counts the units of the truth, `n_split` those that are
    there twice.
    """

    inputs: Array
    activation: str
    group: Group
    size: int
    n_split: int
    sigma: float
    prior_sd: float
    separation: float

    # ------------------------------------------------------------------ the network

    @property
    def _width(self) -> int:
        """Parameters of one unit."""
        return int(self.inputs.shape[1]) + 1

    def _units(self, theta: Array) -> Array:
        """Return the parameters by unit, shape (..., K, parameters of one unit)."""
        units: Array = theta[..., :-1].reshape(*theta.shape[:-1], -1, self._width)
        return units

    def _prior(self, n_parameters: int) -> Array:
        """Standard deviation of every parameter."""
        return np.append(np.full(n_parameters - 1, self.prior_sd), WIDE * self.prior_sd)

    def _function(self, sums: Array) -> Array:
        """Apply the activation."""
        function = activation_of(self.activation).function
        assert function is not None
        return function(sums)

    def _activations(self, units: Array) -> tuple[Array, Array]:
        """Sums and activations of some units, shape (..., K, n)."""
        sums = units[..., :-1] @ self.inputs.T
        return sums, self._function(sums)

    def outputs(self, theta: Array) -> Array:
        """Evaluate networks, shape (..., n)."""
        units = self._units(theta)
        active = self._activations(units)[1]
        f: Array = (units[..., -1:] * active).sum(axis=-2) + theta[..., -1:]
        return f

    def jacobian(self, theta: Array) -> Array:
        """Derivatives of the outputs of one network, shape (n, p)."""
        units = self._units(theta)
        sums, active = self._activations(units)
        slope = (self._function(sums + _STEP) - self._function(sums - _STEP)) / (2 * _STEP)
        inner = (units[:, -1:] * slope).T[:, :, None] * self.inputs[:, None, :]
        own = np.concatenate([inner, active.T[:, :, None]], axis=2)
        return np.concatenate([own.reshape(len(own), -1), np.ones((len(own), 1))], axis=1)

    def log_density(self, theta: Array, targets: Array) -> Array:
        """Log posterior density but for its normalisation, of networks of any width."""
        sd = self._prior(theta.shape[-1])
        rows = theta.reshape(-1, theta.shape[-1])
        fit = np.concatenate(
            [
                np.square(self.outputs(part) - targets).sum(axis=-1)
                for part in np.array_split(rows, len(rows) // 1000 + 1)
            ]
        )
        fit = fit.reshape(theta.shape[:-1]) / self.sigma**2
        constants = np.log(sd).sum() + len(targets) * np.log(self.sigma)
        constants += 0.5 * (len(targets) + len(sd)) * np.log(2 * np.pi)
        density: Array = -0.5 * (fit + np.square(theta / sd).sum(axis=-1)) - constants
        return density

    def gradient(self, theta: Array, targets: Array) -> Array:
        """Gradient of the log density of one network."""
        pull = self.jacobian(theta).T @ (targets - self.outputs(theta)) / self.sigma**2
        gradient: Array = pull - theta / self._prior(len(theta)) ** 2
        return gradient

    # ------------------------------------------------------------------ truths and modes

    def found(
        self, two: bool, gap: float, least_loss: float, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Find one or two modes, shape (modes, p), and targets that make them modes."""
        noise = self.sigma * rng.normal(size=len(self.inputs))
        for _ in range((_TRIES_OF_TWO if two else _TRIES) // _BATCH):
            truths = self.prior_sd * rng.normal(size=(_BATCH, self.size * self._width + 1))
            for truth in truths[self._losses(truths).min(axis=1) > least_loss]:
                aim = self.outputs(truth) + (self._ripple(rng) if two else 0.0)
                other = self._elsewhere(truth, aim, rng) if two and self._clear(truth) else None
                if two and other is None:
                    continue
                modes, targets = self._modes(truth, other, gap, aim + noise)
                if modes is None or self._losses(modes[:1]).min() < least_loss:
                    continue
                if self._loss_refitted(modes[0]) < least_loss:
                    continue
                if all(self._clear(mode) and self._sound(mode, targets, rng) for mode in modes):
                    order = np.argsort(-self._losses(modes), axis=1)
                    units = np.take_along_axis(self._units(modes), order[:, :, None], axis=1)
                    return self._joined(units, modes[:, -1:]), targets
        raise DataError(
            f"no irreducible network with {self.size} units {self.activation!r}"
            f"{' and a second mode' if two else ''} was found: use more inputs (n), less noise "
            "(sigma), or another number of units"
        )

    def _losses(self, theta: Array) -> Array:
        """Nats that the removal of each unit costs, the others refitted, shape (networks, K)."""
        units = self._units(theta)
        active = self._activations(units)[1]
        basis = np.concatenate([active, np.ones_like(active[:, :1])], axis=1)
        gram = basis @ basis.swapaxes(1, 2)
        gram += 1e-9 * np.trace(gram, axis1=1, axis2=2)[:, None, None] * np.eye(self.size + 1)
        rest = 1 / np.einsum("tkk->tk", np.linalg.inv(gram))[:, :-1]
        losses: Array = 0.5 * units[:, :, -1] ** 2 * rest / self.sigma**2
        return losses

    def _loss_refitted(self, theta: Array) -> float:
        """Least nats that the removal of one unit costs, all weights of the others refitted."""
        units, aim = self._units(theta), self.outputs(theta)
        if len(units) == 1:
            return float(self._losses(theta[None]).min())
        rest = [np.append(np.delete(units, k, axis=0), theta[-1]) for k in range(len(units))]
        return min(self._apart(self._fitted(start, aim), theta) for start in rest)

    def _balanced(self, units: Array) -> Array:
        """Bring units with a scale to the point of largest prior density."""
        if not self.group.scales:
            return units
        squares = np.square(units)
        inner, outer = squares[..., :-1].sum(axis=-1), squares[..., -1]
        scale = balanced(inner, outer, self.group.degree)[..., None]
        return np.concatenate(
            [units[..., :-1] * scale, units[..., -1:] / scale**self.group.degree], axis=-1
        )

    def _covariance(self, theta: Array) -> Array:
        """Covariance of the Laplace approximation, without the directions of scales."""
        jacobian = self.jacobian(theta) / self.sigma
        precision = jacobian.T @ jacobian + np.diag(self._prior(len(theta)) ** -2.0)
        if self.group.scales:
            along = self._along_scales(theta, self.group.degree)
            precision += 1e6 * np.trace(precision) * along.T @ along
        return np.linalg.inv(precision)

    def _along_scales(self, theta: Array, degree: int) -> Array:
        """Directions in which the scales of units change, shape (K, p)."""
        units = self._units(theta).copy()
        units[:, -1] *= -degree
        units /= np.maximum(np.linalg.norm(units, axis=1, keepdims=True), 1e-300)
        along = np.zeros((self.size, self.size, self._width))
        along[np.arange(self.size), np.arange(self.size)] = units
        return np.pad(along.reshape(self.size, -1), ((0, 0), (0, 1)))

    def _clear(self, theta: Array) -> bool:
        """Whether units are far apart beside their spread, and each from its mirror image."""
        units, width = self._units(theta), self._width
        blocks = self._covariance(theta)[:-1, :-1].reshape(self.size, width, self.size, width)
        own = np.einsum("kakb->kab", blocks)
        for sign in (1.0, -1.0) if self.group.signs else (1.0,):
            gap = units[:, None] - sign * units
            both = own[:, None] + own
            distance = (gap * np.linalg.solve(both, gap[..., None])[..., 0]).sum(axis=-1)
            if sign > 0:
                distance[np.diag_indices(self.size)] = np.inf
            if distance.min() < self.separation**2:
                return False
        return True

    def _fitted(self, start: Array, targets: Array) -> Array:
        """Climb to a mode of the posterior."""
        sd = self._prior(len(start))

        def residuals(theta: Array) -> Array:
            return np.append((self.outputs(theta) - targets) / self.sigma, theta / sd)

        def slopes(theta: Array) -> Array:
            return np.concatenate([self.jacobian(theta) / self.sigma, np.diag(1 / sd)])

        found: Array = least_squares(residuals, start, slopes, method="lm", max_nfev=200).x
        return np.append(self._balanced(self._units(found)).reshape(-1), found[-1])

    def _apart(self, one: Array, two: Array) -> float:
        """Nats between two functions."""
        return float(0.5 * np.square(self.outputs(one) - self.outputs(two)).sum() / self.sigma**2)

    def _ripple(self, rng: np.random.Generator) -> Array:
        """Return the outputs of a network of twice the width, scaled to a multiple of the noise."""
        wide = self.outputs(self.prior_sd * rng.normal(size=2 * self.size * self._width + 1))
        ripple: Array = _RIPPLE * self.sigma * (wide - wide.mean()) / wide.std()
        return ripple

    def _elsewhere(self, truth: Array, aim: Array, rng: np.random.Generator) -> Array | None:
        """Look for another network that fits as well, or less well."""
        for _ in range(_STARTS):
            found = self._fitted(self.prior_sd * rng.normal(size=len(truth)), aim)
            if _APART[0] < self._apart(found, truth) < _APART[1] and self._clear(found):
                return found
        return None

    def _modes(
        self, truth: Array, other: Array | None, gap: float, aim: Array
    ) -> tuple[Array | None, Array]:
        """Find the modes near one or two networks, and move targets until `gap` holds."""
        if other is None:
            return self._fitted(truth, aim)[None], aim
        starts, shift = (truth, other), self.outputs(other) - self.outputs(truth)
        low, high, at = 0.0, 0.5, 0.0
        for step in range(_BISECTIONS):
            modes = np.stack([self._fitted(start, aim + at * shift) for start in starts])
            density = self.log_density(modes, aim + at * shift)
            if step == 0 and density[0] < density[1]:
                starts, shift, modes = starts[::-1], -shift, modes[::-1]
                density = density[::-1]
            found = density[0] - density[1]
            if self._apart(*modes) < _APART[0] or (step == 0 and found < gap):
                break
            if abs(found - gap) < _NEARLY:
                return modes, aim + at * shift
            low, high = (at, high) if found > gap else (low, at)
            at = (low + high) / 2
        return None, aim

    def _sound(self, mode: Array, targets: Array, rng: np.random.Generator) -> bool:
        """Whether this is a maximum, and the Laplace approximation about it a good one."""
        slope = self.gradient(mode, targets)
        if slope @ self._covariance(mode) @ slope > 0.1:
            return False
        step = 1e-4 * np.eye(len(mode))
        hessian = np.stack(
            [
                (self.gradient(mode - h, targets) - self.gradient(mode + h, targets)) / 2e-4
                for h in step
            ]
        )
        if np.linalg.eigvalsh(hessian + hessian.T).min() <= 0:
            return False
        some = self.laplace(mode, targets, 200, rng)
        drop = self.log_density(mode, targets) - np.median(self.log_density(some, targets))
        return bool(drop < _BENT * len(mode))

    # ------------------------------------------------------------------ draws

    def laplace(self, mode: Array, targets: Array, n_draws: int, rng: np.random.Generator) -> Array:
        """Draw about one mode, and of ten times as many draws keep those of the posterior."""
        values, vectors = np.linalg.eigh(self._covariance(mode))
        normal = rng.normal(size=(_SURPLUS * n_draws, len(mode)))
        drawn: Array = mode + normal @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
        weight = self.log_density(drawn, targets) + 0.5 * np.square(normal).sum(axis=1)
        kept = np.argpartition(-weight - rng.gumbel(size=len(weight)), n_draws)[:n_draws]
        chosen: Array = drawn[rng.permutation(kept)]
        return chosen

    def split_up(self, theta: Array, modes: Array, rng: np.random.Generator) -> Array:
        """Split the first units in two; `modes` has one row for every chain."""
        if not self.n_split:
            return theta
        units = self._units(theta).copy()
        copies = units[:, :, : self.n_split].copy()
        width = self._width
        for chain, mode in enumerate(modes):
            covariance = self._covariance(mode)
            for i in range(self.n_split):
                place = slice(i * width, (i + 1) * width - 1)
                apart = rng.multivariate_normal(
                    np.zeros(width - 1), covariance[place, place], size=theta.shape[1]
                )
                share = rng.uniform(0.25, 0.75, size=(theta.shape[1], 1))
                units[chain, :, i, :-1] += (1 - share) * apart
                units[chain, :, i, -1:] *= share
                copies[chain, :, i, :-1] -= share * apart
                copies[chain, :, i, -1:] *= 1 - share
        return self._joined(np.concatenate([units, copies], axis=2), theta[..., -1:])

    def with_spare(
        self, theta: Array, targets: Array, n_spare: int, rng: np.random.Generator
    ) -> Array:
        """Add units whose outgoing weight is drawn given everything else."""
        for _ in range(n_spare):
            units = self._units(theta)
            inner = self.prior_sd * rng.normal(size=(*theta.shape[:2], 1, self._width - 1))
            active = self._function(inner @ self.inputs.T)[:, :, 0]
            left = targets - self.outputs(theta)
            precision = (active**2).sum(axis=-1) / self.sigma**2 + self.prior_sd**-2.0
            mean = (active * left).sum(axis=-1) / self.sigma**2 / precision
            outer = mean + rng.normal(size=mean.shape) / np.sqrt(precision)
            own = np.concatenate([inner, outer[..., None, None]], axis=-1)
            theta = self._joined(np.concatenate([units, own], axis=2), theta[..., -1:])
        return theta

    def mean(self, mode: Array, n_spare: int) -> Array:
        """Return the truth of the clean draws: copies share a unit, spare units are zero."""
        units = self._units(mode).copy()
        units[: self.n_split, -1] /= 2
        spare = np.zeros((n_spare, self._width))
        whole = np.concatenate([units, units[: self.n_split], spare])
        return np.append(whole.reshape(-1), mode[-1])

    def scales(self, theta: Array, rng: np.random.Generator) -> Array:
        """Draw the scale of every unit from its law given everything that the data see."""
        degree = self.group.degree
        squares = np.square(self._units(theta) / self.prior_sd)
        inner, outer = squares[..., :-1].sum(axis=-1), squares[..., -1]
        # in log-scales t about the balanced point, where both norms fall on one curve
        middle = np.log(degree * outer / inner) / (2 + 2 * degree)
        inner, outer = inner * np.exp(2 * middle), outer * np.exp(-2 * degree * middle)
        slope = self._width - 1 - degree
        density = slope * _GRID - 0.5 * inner[..., None] * np.exp(2 * _GRID)
        density -= 0.5 * outer[..., None] * np.exp(-2 * degree * _GRID)
        mass = np.exp(density - density.max(axis=-1, keepdims=True)).cumsum(axis=-1)
        level = rng.random(mass.shape[:-1])[..., None] * mass[..., -1:]
        place = (mass < level).sum(axis=-1)
        jitter = rng.uniform(-0.5, 0.5, size=place.shape) * (_GRID[1] - _GRID[0])
        scale: Array = np.exp(middle + _GRID[place] + jitter)
        return scale

    # ------------------------------------------------------------------ layouts

    def _joined(self, units: Array, bias: Array) -> Array:
        """Make vectors of units and biases."""
        return np.concatenate([units.reshape(*bias.shape[:-1], -1), bias], axis=-1)

    def arrays(self, theta: Array) -> dict[str, Array]:
        """Return the parameters as variables, shapes (chain, draw, ...)."""
        units = self._units(theta)
        return {
            "W1": units[..., :-2].swapaxes(-1, -2),
            "b1": units[..., -2],
            "W2": units[..., -1:],
            "b2": theta[..., -1:],
        }

    def theta(self, dataset: xr.Dataset) -> Array:
        """Undo :meth:`arrays`."""
        w, b, v, d = (dataset[name].values for name in ("W1", "b1", "W2", "b2"))
        units = np.concatenate([w.swapaxes(-1, -2), b[..., None], v], axis=-1)
        return self._joined(units, d)
