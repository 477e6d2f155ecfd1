"""Refits of what reads some units, and of the units themselves, when others are taken out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel.diagnostics.likelihood import Fitted
from relabel.models.forward_pass import Layer, Network, Pass, matrix_of
from relabel.spec.spec import ResolvedVariable

__all__ = ["MOST_COUPLED", "Curve", "Site", "masked_inverse", "outgoing", "stored"]

Array = NDArray[Any]

_RIDGE = 1e-12  # of columns scaled to norm one: exact duplicates are solvable, nothing else changes
MOST_COUPLED = 128  # parameters refitted jointly; H has their square, and costs their cube
_FAR_OFF = 30  # times the limit of one unit: a loss that no refit will bring below it
_SETTLED = 1e-2  # a refit ends when a step promises less than this share, or this many nats


def outgoing(network: Network, arrays: Mapping[str, Array], units: str) -> Array:
    """Weights of everything that reads some units, side by side, shape (draws, K, n_read)."""
    parts = []
    for reader in network.readers(units):
        every = [matrix_of(v, t, arrays[v.key]) for v, t in reader.weights if t == units]
        parts.append(sum(every[1:], every[0]))
    return np.concatenate(parts, axis=2)


@dataclass(frozen=True)
class Curve:
    r"""A sum of squares in the readers' weights, for a block of draws.

    .. math:: \tfrac12 \sum_c \bigl(y_c - 2\,c_c^\top u_c + u_c^\top H_c u_c\bigr)

    The weights are laid out as (draws, C, P): either one system for each reading unit (P = K + 1),
    or one for all of them (C = 1). The parameters of one hidden unit are `width` neighbours.

    Attributes
    ----------
    hessian : ndarray of shape (draws, C or 1, P, P)
    linear : ndarray of shape (draws, C, P)
    constant : ndarray of shape (draws,)
    own : ndarray of shape (draws, C, P)
        The draw's own weights.
    free : ndarray of bool, shape (C or 1, P)
        False for a bias that a reader does not have.
    width : int
    n_units : int
    """

    hessian: Array
    linear: Array
    constant: Array
    own: Array
    free: Array
    width: int
    n_units: int

    def __getitem__(self, rows: Any) -> Curve:
        """Select draws."""
        return replace(
            self,
            hessian=self.hessian[rows],
            linear=self.linear[rows],
            constant=self.constant[rows],
            own=self.own[rows],
        )

    def mask(self, keep: Array, held: Array | None = None) -> Array:
        """Which parameters are free: biases, and those of units that stay but are not held.

        Shape (draws, C or 1, P).
        """
        spread = np.repeat(keep if held is None else keep & ~held, self.width, axis=1)
        rest = np.ones((len(keep), self.own.shape[2] - spread.shape[1]), dtype=bool)
        mask: Array = np.concatenate([spread, rest], axis=1)[:, None] & self.free
        return mask

    def solve(self, keep: Array, held: Array | None = None) -> Array:
        """Weights of least value, without the units that go and with some `held` as they are."""
        return self.fit(keep, held)[0]

    def fit(self, keep: Array, held: Array | None = None) -> tuple[Array, Array]:
        """Weights of least value, and the inverse of the Hessian of what is free.

        With units held, only the few parameters that are free need any algebra, and the inverse is
        of these alone.
        """
        mask = self.mask(keep, held)
        fixed = np.zeros_like(self.own) if held is None else self.own * (self.mask(keep) & ~mask)
        right = self.linear - _times(self.hessian, fixed)
        every = np.arange(mask.shape[2])
        few = np.flatnonzero(mask.any(axis=(0, 1))) if held is not None else every
        part = (..., few[:, None], few)
        hessian = self.hessian if held is None else self.hessian[part]
        right, free = right[..., few], mask[..., few]
        inverse = masked_inverse(hessian, free)
        found = _times(inverse, right * free)
        found = found + _times(inverse, (right - _times(hessian, found)) * free)
        fixed[..., few] += found * free
        return fixed, inverse

    def value(self, u: Array) -> Array:
        """Return the sum of squares at some weights, shape (draws,)."""
        inner = (u * (_times(self.hessian, u) - 2 * self.linear)).sum(axis=(1, 2))
        value: Array = np.maximum(0.5 * (self.constant + inner), 0.0)
        return value

    def increments(self, keep: Array, u: Array, inverse: Array) -> Array:
        r"""Rise of the value when one more unit goes, inf for those that went: (draws, K).

        From what :meth:`fit` returned for the units that stay:
        :math:`\tfrac12 u_j^\top [(H^{-1})_{jj}]^{-1} u_j` at the best weights of those that stay.
        """
        n_columns = inverse.shape[2] // self.width
        shape = (*inverse.shape[:2], n_columns, self.width, n_columns, self.width)
        corner = inverse.reshape(shape)
        own = np.einsum("tcjajb->tcjab", corner)[:, :, : self.n_units]
        gone = ~np.broadcast_to(keep[:, None], own.shape[:3])
        own = own + gone[..., None, None] * np.eye(self.width)
        part = u.reshape(*u.shape[:2], -1, self.width)[:, :, : self.n_units]
        scale = np.sqrt(np.einsum("tcjaa->tcja", own))
        scale = np.where(scale > 0, scale, 1.0)
        level = own / (scale[..., :, None] * scale[..., None, :]) + _RIDGE * np.eye(self.width)
        part = part / scale
        rise = 0.5 * (part * np.linalg.solve(level, part[..., None])[..., 0]).sum(axis=(1, 3))
        return np.where(keep, np.maximum(rise, 0.0), np.inf)


def _times(matrix: Array, vector: Array) -> Array:
    product: Array = (matrix @ vector[..., None])[..., 0]
    return product


def masked_inverse(matrix: Array, mask: Array, damping: Array | float = 0.0) -> Array:
    """Inverse of the part of each symmetric matrix that a mask leaves, zero elsewhere.

    Rows are scaled to a unit diagonal, and a ridge of 1e-12 (plus `damping`) is added, so that
    exactly collinear columns do no harm.
    """
    diagonal = np.einsum("...ii->...i", matrix)
    scale = np.where(diagonal > 0, 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0)), 1.0)
    scale = scale * mask
    scaled = matrix * scale[..., :, None] * scale[..., None, :]
    place = np.arange(matrix.shape[-1])
    ridge = np.broadcast_to(np.asarray(damping, dtype=float)[..., None, None], scale.shape)
    scaled[..., place, place] += np.where(mask, ridge + _RIDGE, 1.0)
    inverse: Array = np.linalg.inv(scaled) * scale[..., :, None] * scale[..., None, :]
    return inverse


@dataclass(frozen=True)
class Site:
    """One set of units of some draws, what reads it, and the network behind.

    Attributes
    ----------
    network : Network
    units : str
    arrays : dict of str to ndarray of shape (draws, ...)
    fitted : Fitted
    done : Pass
        Evaluation of the draws; where a unit was replaced, with its new activations.
    outputs : ndarray of shape (draws, n, n_outputs)
        Outputs of the draws themselves.
    sums : ndarray of shape (draws, n, n_read)
        What the units and the biases give to each reading unit in the draws themselves.
    """

    network: Network
    units: str
    arrays: dict[str, Array]
    fitted: Fitted
    done: Pass
    outputs: Array
    sums: Array

    @classmethod
    def of(
        cls,
        network: Network,
        units: str,
        arrays: Mapping[str, Array],
        inputs: Array,
        fitted: Fitted,
    ) -> Site:
        """Evaluate the draws."""
        done = network.forward(arrays, inputs)
        outputs = network.joined_outputs(done)
        site = cls(network, units, dict(arrays), fitted, done, outputs, np.empty(0))
        return replace(site, sums=site.design @ site.weights)

    def __getitem__(self, rows: Any) -> Site:
        """Select draws."""
        source = self.network.source
        chosen = Site(
            self.network,
            self.units,
            {name: values[rows] for name, values in self.arrays.items()},
            self.fitted[rows],
            self.done.chosen(rows, source),
            self.outputs[rows],
            self.sums[rows],
        )
        kept = {n: v for n, v in self.__dict__.items() if n in ("curve", "_turned", "_products")}
        chosen.__dict__.update({name: value[rows] for name, value in kept.items()})
        return chosen

    def replaced(self, slot: int, activations: Array) -> Site:
        """Return the same draws where one unit computes something else, shape (draws, n)."""
        basis = self.basis.copy()
        basis[:, :, slot] = activations
        values = {**self.done.values, self.units: basis}
        other = replace(self, done=Pass(self.done.sums, values))
        if self.exact:
            other.__dict__["curve"] = self._with_column(slot, activations)
        return other

    def _with_column(self, slot: int, column: Array) -> Curve:
        """Replace one column of the design in a sum of squares that is exact."""
        curve = self.curve
        root = self.fitted.root(self.outputs) @ self._jacobian(self.arrays, self.done)
        weight = np.square(root).sum(axis=2)[:, 0]
        inner = _times(self._turned, column)
        inner[:, slot] = np.square(column).sum(axis=1)
        row = weight[:, : curve.hessian.shape[1], None] * inner[:, None]
        hessian, linear = curve.hessian.copy(), curve.linear.copy()
        hessian[:, :, slot], hessian[:, :, :, slot] = row, row
        linear[:, :, slot] = weight * _times(self.sums.swapaxes(1, 2), column)
        return replace(curve, hessian=hessian, linear=linear)

    # ------------------------------------------------------------------ the layer

    @property
    def layer(self) -> Layer:
        """The units themselves."""
        return self.network.layer(self.units)

    @property
    def readers(self) -> list[Layer]:
        """What reads them."""
        return self.network.readers(self.units)

    @property
    def basis(self) -> Array:
        """Activations, shape (draws, n, K)."""
        return self.done.values[self.units]

    @property
    def biased(self) -> bool:
        """Whether any reader has a bias."""
        return any(reader.biases for reader in self.readers)

    @property
    def design(self) -> Array:
        """Activations, and a column of ones where there are biases: (draws, n, K or K + 1)."""
        if not self.biased:
            return self.basis
        return np.concatenate([self.basis, np.ones((*self.basis.shape[:2], 1))], axis=2)

    @property
    def weights(self) -> Array:
        """The readers' weights and biases, shape (draws, K or K + 1, n_read)."""
        weights = outgoing(self.network, self.arrays, self.units)
        if not self.biased:
            return weights
        biases = [
            self.arrays[reader.biases[0].key].reshape(len(weights), -1)
            if reader.biases
            else np.zeros((len(weights), self._size(reader)))
            for reader in self.readers
        ]
        return np.concatenate([weights, np.concatenate(biases, axis=1)[:, None]], axis=1)

    def _size(self, node: Layer) -> int:
        return int(self.done.sums[node.name].shape[-1])

    @property
    def n_parameters(self) -> int:
        """Parameters of one unit: incoming weights, bias, outgoing weights."""
        size = self._size(self.layer)
        incoming = sum(int(np.prod(v.shape)) // size for v, _ in self.layer.weights)
        return incoming + bool(self.layer.biases) + sum(map(self._size, self.readers))

    @property
    def exact(self) -> bool:
        """Whether the divergence is a sum of squares in the readers' weights."""
        return self.fitted.family.quadratic and self._straight

    @property
    def _straight(self) -> bool:
        """Whether all readers are outputs."""
        return all(r.name in self.network.ends and not r.activation for r in self.readers)

    # ------------------------------------------------------------------ losses

    def removal_losses(self, max_steps: int) -> Array:
        """Loss of removing each unit by itself, shape (draws, K)."""
        n_draws, _, n_units = self.basis.shape
        keep = np.ones((n_draws, n_units), dtype=bool)
        if self.exact:
            return self.curve.increments(keep, *self.curve.fit(keep))
        losses = np.empty(keep.shape)
        for unit in range(n_units):
            keep[:, unit] = False
            losses[:, unit] = self.refit(keep, max_steps)
            keep[:, unit] = True
        return losses

    def refit(self, keep: Array, max_steps: int, held: Array | None = None) -> Array:
        """Loss without some units, everything that stays (and is not held) refitted: (draws,).

        Where least squares leave a loss far beyond what could be spared, that is where it is left.
        """
        u = self.curve.solve(keep, held)
        if self.exact:
            return self.curve.value(u)
        best = self.loss(u)
        other = self.plain.solve(keep, held)
        other = self.pack(self._matrix(other, self.plain), self.curve.width)
        loss = self.loss(other)
        u = np.where((loss < best)[:, None, None], other, u)
        best = np.minimum(loss, best)
        near = np.flatnonzero(best < _FAR_OFF * self.fitted.limit(self.n_parameters))
        if self.wide or not near.size:
            return best
        free = np.broadcast_to(self.curve.mask(keep, held), u.shape)
        here = self if near.size == len(best) else self[near]
        best[near] = here._polish(u[near], best[near], free[near], max_steps)
        return best

    def read_weights(self, keep: Array) -> Array:
        """Weights and biases of the readers, refitted without some units: as :attr:`weights`."""
        return self._matrix(self.curve.solve(keep), self.curve)

    def _polish(self, u: Array, best: Array, free: Array, max_steps: int) -> Array:
        """Fisher scoring with damping; every draw until a step promises next to nothing."""
        best, rows, here = best.copy(), np.arange(len(best)), self
        damping = np.zeros(len(best))
        for _ in range(max_steps):
            hessian, gradient = here._scoring(u)
            inverse = masked_inverse(hessian, free, damping)
            step = -_times(inverse, gradient * free)
            promise = -0.5 * (gradient * step).sum(axis=(1, 2))
            going = promise > _SETTLED * (1 + best[rows])
            if not going.any():
                break
            if not going.all():
                rows, u, step, free, damping = (x[going] for x in (rows, u, step, free, damping))
                here = here[going]
            loss = here.loss(u + step)
            gain = (best[rows] - loss) / promise[going]
            best[rows] = np.minimum(best[rows], loss)
            u = np.where((gain > 0)[:, None, None], u + step, u)
            damping = _damped(damping, gain)
        return best

    def loss(self, u: Array) -> Array:
        """Divergence of the network with some weights of the readers: one forward pass.

        Infinite where weights are so large that nothing can be computed.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            outputs = self.network.joined_outputs(self._pass(u)[1])
            loss = self.fitted.kl(self.outputs, outputs)
        return np.where(np.isnan(loss), np.inf, loss)

    def _pass(self, u: Array) -> tuple[dict[str, Array], Pass]:
        """Evaluate the rest of the network with some weights of the readers."""
        arrays = {**self.arrays, **self.as_arrays(self._matrix(u, self.curve))}
        return arrays, self.network.resume(arrays, self.done, self.units)

    def as_arrays(self, weights: Array) -> dict[str, Array]:
        """Return weights (draws, K or K + 1, n_read) as the variables that hold them."""
        n_units, arrays, start = self.basis.shape[2], {}, 0
        for reader in self.readers:
            stop = start + self._size(reader)
            part, start = weights[:, :, start:stop], stop
            for number, variable in enumerate(v for v, t in reader.weights if t == self.units):
                matrix = part[:, :n_units] * (number == 0)
                arrays[variable.key] = stored(variable, self.units, matrix)
            if reader.biases:
                bias = reader.biases[0]
                arrays[bias.key] = part[:, n_units].reshape(-1, *bias.shape)
        return arrays

    # ------------------------------------------------------------------ sums of squares

    @cached_property
    def curve(self) -> Curve:
        """Divergence to second order about the draw; exact where :attr:`exact` holds.

        Where there are too many weights, every reader is given the mean metric of all.
        """
        metric = self.fitted.root(self.outputs) @ self._jacobian(self.arrays, self.done)
        if self.wide:
            shared = np.sqrt(np.square(metric).sum(axis=2).mean(axis=2))
            metric = shared[:, :, None, None] * np.eye(metric.shape[3])
        return self._curve(metric, self._width)

    @cached_property
    def plain(self) -> Curve:
        """Squared change of what the readers add up, with no regard to what follows."""
        return self._curve(np.eye(self.sums.shape[2])[None, None], 1)

    def _jacobian(self, arrays: Mapping[str, Array], done: Pass) -> Array:
        """Derivatives of the outputs by the readers' sums: (draws or 1, n or 1, n_out, n_read)."""
        found = self.network.jacobians(arrays, done, [reader.name for reader in self.readers])
        parts = [found[reader.name] for reader in self.readers]
        lead = np.broadcast_shapes(*(part.shape[:2] for part in parts))
        return np.concatenate([np.broadcast_to(j, lead + j.shape[2:]) for j in parts], axis=3)

    def _scoring(self, u: Array) -> tuple[Array, Array]:
        """Gauss-Newton matrix and gradient at some weights of the readers."""
        arrays, done = self._pass(u)
        outputs, jacobian = self.network.joined_outputs(done), self._jacobian(arrays, done)
        hessian = self._hessian(self.fitted.root(outputs) @ jacobian, self._width)
        slope = self.fitted.gradient(self.outputs, outputs)
        pull = (slope[:, :, None] @ jacobian)[:, :, 0]
        return hessian, self.pack(self._turned @ pull, self._width)

    @property
    def _width(self) -> int:
        """Parameters of one unit that are refitted together."""
        return 1 if self.exact or self.wide else int(self.sums.shape[2])

    @property
    def wide(self) -> bool:
        """Whether too much is read to be refitted jointly: then only by weighted least squares."""
        n_read = self.sums.shape[2]
        n_weights = (self.basis.shape[2] + self.biased) * n_read
        return not self.exact and n_read > 1 and n_weights > MOST_COUPLED

    @cached_property
    def _turned(self) -> Array:
        """The design with the inputs last, shape (draws, K or K + 1, n)."""
        return np.ascontiguousarray(self.design.swapaxes(1, 2))

    @cached_property
    def _products(self) -> Array:
        """Products of every two columns of the design, shape (draws, pairs, n)."""
        one, two = np.triu_indices(self._turned.shape[1])
        products: Array = self._turned[:, one] * self._turned[:, two]
        return products

    def _curve(self, metric: Array, width: int) -> Curve:
        """Normal equations under a metric of the readers' sums, at the draw's own."""
        own = self.weights
        free = np.ones(own.shape[1:], dtype=bool)
        if self.biased:
            sizes = list(map(self._size, self.readers))
            free[-1] = np.repeat([bool(reader.biases) for reader in self.readers], sizes)
        hessian = self._hessian(metric, width)
        mask = self.pack(free[None], width)[0]
        mask = mask[:1] if hessian.shape[1] == 1 and mask.all() else mask
        if width == 1:
            weighted = np.square(metric).sum(axis=2) * self.sums
        else:
            weighted = _times(metric.swapaxes(-1, -2) @ metric, self.sums)
        constant = (weighted * self.sums).sum(axis=(1, 2))
        linear = self.pack(self._turned @ weighted, width)
        n_units = self.basis.shape[2]
        return Curve(hessian, linear, constant, self.pack(own, width), mask, width, n_units)

    def _hessian(self, metric: Array, width: int) -> Array:
        """Sum of design x metric x design over the inputs: one system, or its diagonal blocks."""
        turned = self._turned
        if width == 1:
            weight = np.square(metric).sum(axis=2)  # (draws, n or 1, n_read)
            weight = weight[..., :1] if (weight == weight[..., :1]).all() else weight
            if weight.shape[1] == 1:
                gram = (turned @ turned.swapaxes(1, 2))[:, None]
                gram = gram * np.moveaxis(weight, 2, 1)[..., None]
                return np.broadcast_to(gram, (len(turned), *gram.shape[1:]))
            columns = range(weight.shape[2])
            right = turned.swapaxes(1, 2)
            return np.stack([turned @ (weight[..., c, None] * right) for c in columns], axis=1)
        one, two = np.triu_indices(width)
        block = metric.swapaxes(-1, -2) @ metric if metric.shape[2] > 1 else None
        pairs = metric[..., 0, one] * metric[..., 0, two] if block is None else block[..., one, two]
        pairs = np.broadcast_to(pairs, (len(turned), turned.shape[2], len(one)))
        return _unfolded(self._products @ pairs, turned.shape[1], width)[:, None]

    def pack(self, weights: Array, width: int) -> Array:
        """Reshape weights (draws, columns, n_read) to those of a :class:`Curve`."""
        if width == 1:
            return weights.swapaxes(1, 2)
        return weights.reshape(len(weights), 1, -1)

    def _matrix(self, u: Array, curve: Curve) -> Array:
        """Reshape the weights of a curve to (draws, columns, n_read)."""
        return u.swapaxes(1, 2) if curve.width == 1 else u.reshape(len(u), -1, curve.width)


def _damped(damping: Array, gain: Array) -> Array:
    """Less damping where a step gained what it promised, more where it gained little or nothing."""
    more = np.where(gain > 0, np.maximum(2 * damping, 0.01), np.maximum(6 * damping, 0.1))
    return np.where(gain > 0.75, damping / 5, np.where(gain > 0.25, damping, more))


def _unfolded(sums: Array, n_columns: int, width: int) -> Array:
    """Make symmetric matrices (draws, P, P) of sums over pairs of columns and pairs of readers."""
    columns, readers = np.zeros((n_columns,) * 2, dtype=int), np.zeros((width,) * 2, dtype=int)
    for table, size in ((columns, n_columns), (readers, width)):
        place = np.triu_indices(size)
        table[place] = table[place[::-1]] = np.arange(len(place[0]))
    whole: Array = sums[:, columns[:, None, :, None], readers[None, :, None, :]]
    return whole.reshape(len(sums), n_columns * width, -1)


def stored(variable: ResolvedVariable, tail: str, matrix: Array) -> Array:
    """Store matrices (draws, in, out) as the variable they belong to."""
    turned = matrix if variable.axes[0].name == tail else matrix.swapaxes(1, 2)
    return turned.reshape(-1, *variable.shape)
