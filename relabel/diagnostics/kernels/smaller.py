"""The nearest network with fewer units: everything of the units that stay is refitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel.diagnostics.kernels.refit import Site, masked_inverse, stored
from relabel.models.forward_pass import Pass, matrix_of
from relabel.spec.spec import ResolvedVariable

__all__ = ["MOST_REFITTED", "n_refitted", "nearest_loss"]

Array = NDArray[Any]

MOST_REFITTED = 64  # parameters; the work grows with their square, and with the draws

_BYTES = 2**25  # of the Jacobian of a block
_MAX_STEPS = 12
_DAMPING = 1e-2  # at the start: incoming weights bend the function more than outgoing ones
_HOPELESS = 1e-3  # of the goal; a step that promises less will not get there


def n_refitted(site: Site) -> int:
    """Number of parameters: incoming weights, biases and outgoing weights, readers' biases."""
    n_units = site.basis.shape[2]
    read = sum(int(np.prod(r.biases[0].shape)) for r in site.readers if r.biases)
    return int(n_units * site.n_parameters + read)


def nearest_loss(site: Site, keep: Array, goal: float) -> Array:
    """Loss of doing without some units, with all parameters of those that stay refitted.

    Refitting what reads the units leaves out that the others would move a little where one is
    missing, and calls units needed that are not. Here their incoming weights and biases move as
    well: damped Gauss-Newton steps (Fisher scoring) from the refit of what is read, until the loss
    is below the goal or no step promises to bring it there. An upper bound of the least loss.

    Parameters
    ----------
    site : Site
        The draws, and the units.
    keep : ndarray of bool, shape (draws, K)
        Units that stay.
    goal : float
        Loss at which it is clear that the units can go.

    Returns
    -------
    ndarray of shape (draws,)

    References
    ----------
    Marquardt, D. W. (1963). An algorithm for least-squares estimation of nonlinear parameters.
    *Journal of the Society for Industrial and Applied Mathematics* 11(2), 431-441.
    https://doi.org/10.1137/0111030
    """
    n_draws, n_inputs, n_outputs = site.outputs.shape
    step = max(1, _BYTES // (8 * n_inputs * n_outputs * n_refitted(site)))
    blocks = [slice(start, start + step) for start in range(0, n_draws, step)]
    return np.concatenate([_descend(site[rows], keep[rows], goal) for rows in blocks])


def _descend(site: Site, keep: Array, goal: float) -> Array:
    """Damped Gauss-Newton steps of one block of draws; those that are done drop out."""
    plan = _Parameters(site)
    arrays = {**site.arrays, **site.as_arrays(site.read_weights(keep))}
    rows, damping, free = np.arange(len(keep)), np.full(len(keep), _DAMPING), plan.free(keep)
    done, best = plan.evaluated(site, arrays)
    for _ in range(_MAX_STEPS):
        hessian, gradient = plan.scoring(site, arrays, done)
        inverse = masked_inverse(hessian[:, None], free[:, None], damping)[:, 0]
        change = -(inverse @ (gradient * free)[:, :, None])[:, :, 0]
        promise = -0.5 * (gradient * change).sum(axis=1)
        going = (best[rows] > goal) & (promise > _HOPELESS * goal)
        if not going.any():
            break
        site, arrays = site[going], {name: values[going] for name, values in arrays.items()}
        done = done.chosen(going, site.network.source)
        rows, damping, free, change = rows[going], damping[going], free[going], change[going]
        trial = plan.moved(arrays, change)
        after, loss = plan.evaluated(site, trial)
        better = loss < best[rows]
        best[rows] = np.where(better, loss, best[rows])
        arrays = {n: np.where(_like(better, v), trial[n], v) for n, v in arrays.items()}
        done = done.where(better, after, site.network.source)
        damping = np.where(better, damping / 5, damping * 5)
    return best


def _like(mask: Array, values: Array) -> Array:
    """Give a mask of draws as many axes as an array of theirs."""
    return mask.reshape(-1, *[1] * (values.ndim - 1))


class _Parameters:
    """The parameters that are refitted, laid out in a row: each a variable read as a matrix.

    Every entry is (variable, node it is read from or None for a bias, node it is written to).
    """

    def __init__(self, site: Site) -> None:
        layer, units = site.layer, site.units
        self.entries: list[tuple[ResolvedVariable, str | None, str]] = []
        self.entries += [(v, tail, units) for v, tail in layer.weights]
        self.entries += [(v, None, units) for v in layer.biases[:1]]
        for reader in site.readers:
            self.entries += [(v, t, reader.name) for v, t in reader.weights if t == units][:1]
            self.entries += [(v, None, reader.name) for v in reader.biases[:1]]
        self.units = units

    def free(self, keep: Array) -> Array:
        """Which parameters belong to units that stay, or to readers: (draws, P)."""
        parts = []
        for variable, tail, head in self.entries:
            size = int(np.prod(variable.shape))
            if head == self.units:
                parts.append(np.tile(keep, (1, size // keep.shape[1])))
            elif tail == self.units:
                parts.append(np.repeat(keep, size // keep.shape[1], axis=1))
            else:
                parts.append(np.ones((len(keep), size), dtype=bool))
        return np.concatenate(parts, axis=1)

    def evaluated(self, site: Site, arrays: Mapping[str, Array]) -> tuple[Pass, Array]:
        """Evaluate the network, and how far its outputs are from those of the draws."""
        network = site.network
        with np.errstate(over="ignore", invalid="ignore"):
            done = network.forward(arrays, site.done.values[network.source])
            loss = site.fitted.kl(site.outputs, network.joined_outputs(done))
        return done, np.where(np.isnan(loss), np.inf, loss)

    def scoring(self, site: Site, arrays: Mapping[str, Array], done: Pass) -> tuple[Array, Array]:
        """Gauss-Newton matrix (draws, P, P) and gradient (draws, P)."""
        network, parts = site.network, []
        heads = list(dict.fromkeys(head for _, _, head in self.entries))
        flow = network.jacobians(arrays, done, heads)
        outputs = network.joined_outputs(done)
        shape = outputs.shape
        for _, tail, head in self.entries:
            down = np.broadcast_to(flow[head], (*shape, flow[head].shape[-1]))
            if tail is None:
                parts.append(down)
                continue
            above = np.broadcast_to(done.values[tail], (*shape[:2], done.values[tail].shape[-1]))
            both = above[:, :, None, :, None] * down[:, :, :, None, :]
            parts.append(both.reshape(*shape, -1))
        jacobian = np.concatenate(parts, axis=3)
        rooted = (site.fitted.root(outputs) @ jacobian).reshape(len(outputs), -1, jacobian.shape[3])
        slope = site.fitted.gradient(site.outputs, outputs).reshape(len(outputs), 1, -1)
        gradient = (slope @ jacobian.reshape(rooted.shape))[:, 0]
        return rooted.swapaxes(1, 2) @ rooted, gradient

    def moved(self, arrays: Mapping[str, Array], change: Array) -> dict[str, Array]:
        """Add a step to the variables, each as it is stored."""
        fresh, start = dict(arrays), 0
        for variable, tail, _ in self.entries:
            size = int(np.prod(variable.shape))
            part, start = change[:, start : start + size], start + size
            own = arrays[variable.key]
            if tail is not None:
                matrix = matrix_of(variable, tail, own)
                part = stored(variable, tail, part.reshape(matrix.shape))
            fresh[variable.key] = own + part.reshape(own.shape)
        return fresh
