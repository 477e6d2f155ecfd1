"""Which units a network could do without: removal losses, effective width, kinds of units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel.diagnostics.kernels.refit import MOST_COUPLED, Site, outgoing
from relabel.diagnostics.kernels.smaller import MOST_REFITTED, n_refitted, nearest_loss
from relabel.diagnostics.kernels.widths import Widths
from relabel.diagnostics.likelihood import Fitted
from relabel.errors import SpecError
from relabel.groups import activation_of, group_of
from relabel.models.forward_pass import Network, matrix_of

__all__ = ["KINDS", "ProximateRank", "Redundancy", "redundancy", "thin"]

Array = NDArray[Any]

#: What a unit is in one draw; the codes of :attr:`Redundancy.kind` are positions in this list.
KINDS = ("active", "dead", "constant", "linear", "saturated")

_REACH = 20  # times the limit; a refit of incoming weights was never seen to save as much
_MEMORY = 2**26  # bytes of the temporary arrays of one block


# -------------------------------------------------------------------------------- results


@dataclass(frozen=True)
class ProximateRank:
    """Upper bound of the least rank within a distance of each draw, as a curve.

    Attributes
    ----------
    epsilon : ndarray of shape (E,)
        Largest change of any weight.
    rank : ndarray of int, shape (draws, E)
        Number of units of the smallest network found.
    """

    epsilon: Array
    rank: Array

    def quantiles(self, share: float = 0.9) -> Array:
        """Lower end, median and upper end of the central interval of draws, shape (3, E)."""
        ends = [(1 - share) / 2, 0.5, (1 + share) / 2]
        quantiles: Array = np.quantile(self.rank, ends, axis=0)
        return quantiles


@dataclass(frozen=True)
class Redundancy(Widths):
    """What one set of units could do without.

    Attributes
    ----------
    units : str
    removal_loss : ndarray of shape (draws, K)
        Divergence when this unit alone is taken out and what reads its layer is refitted. Exact
        for one hidden layer under normal noise, an upper bound elsewhere.
    kind : ndarray of int, shape (draws, K)
        Positions in :data:`KINDS`.
    eliminated : ndarray of bool, shape (draws, K)
        Whether backward elimination took the unit out.
    n_parameters : int
        Of one unit: incoming weights, bias, outgoing weights.
    limit : float
        Loss below which one unit can be done without.
    proximate : ProximateRank or None
        For a network with one hidden layer.
    how : str
        How the losses were computed.
    """

    units: str
    removal_loss: Array
    kind: Array
    eliminated: Array
    n_parameters: int
    limit: float
    proximate: ProximateRank | None
    how: str

    @property
    def spare_alone(self) -> list[int]:
        """Slots that more than half of the draws could do without, each by itself.

        Units that share a load are all in this list, though not all of them can go.
        """
        return [int(k) for k in np.flatnonzero((self.removal_loss < self.limit).mean(axis=0) > 0.5)]

    @property
    def kind_shares(self) -> dict[str, Array]:
        """Share of draws in which each slot is of each kind, arrays of shape (K,)."""
        return {name: (self.kind == code).mean(axis=0) for code, name in enumerate(KINDS)}


# -------------------------------------------------------------------------------- removal


def redundancy(
    network: Network,
    arrays: Mapping[str, Array],
    inputs: Array,
    fitted: Fitted,
    *,
    level: float = 0.95,
    tolerance: float = 0.01,
    saturation: float = 0.98,
    epsilon: Sequence[float] | None = None,
    max_inputs: int = 1000,
    max_steps: int = 10,
    memory: int = _MEMORY,
) -> dict[str, Redundancy]:
    r"""Find the units that a network could do without.

    The loss of removing the units *S* of a layer is the divergence between the outputs of the draw
    and of the network without them, with the weights and biases of what reads the layer refitted:

    .. math:: L_S = \min_{V : V_S = 0} \sum_i \mathrm{KL}\bigl(p_{f(x_i)} \,\|\, p_{f_V(x_i)}\bigr)

    For one hidden layer and normal noise this is a Schur complement of the Gram matrix of the
    activations, exact. Otherwise the readers' weights are refitted by Fisher scoring (Gauss-Newton
    through the rest of the network, with steps that are damped until the divergence falls) from
    the better of two least-squares fits, one of the outputs to first order and one of the readers'
    sums. Where more than 128 weights would have to be refitted jointly, it is left at those two,
    the first with one weight per input for all readers. The loss is always the divergence of a
    network that was evaluated: an upper bound.

    The **effective width** of a draw is what greedy backward elimination leaves: the unit of least
    loss goes, the rest is refitted, as long as the total loss stays below
    :math:`\tfrac12\chi^2_{0.95}` with as many degrees of freedom as parameters were saved. Where
    the refit of what reads the units does not suffice, their incoming weights are refitted as well
    (:func:`relabel.diagnostics.kernels.smaller.nearest_loss`; up to 64 parameters): a smaller
    network that does the same need not have the very units of the larger one. One unit at a time
    over-counts where units share a load, so a slot is called **spare** if it was
    eliminated in more than half of the draws, and no more slots than the likely width (the mode
    over the draws) allows. The median would do where the widths agree; but each spare unit of a
    draw has some noise to explain and so a fair chance to look needed, and the more of them there
    are, the rarer the draws in which all go at once.

    Kinds, with sd and means over the inputs, *v* the outgoing weights and *s* the sd of the sums
    they enter: *dead* if the largest :math:`|v|\,\mathrm{sd}(a)/s` is below the tolerance (and
    likewise for the mean), *constant* if only the mean is not, *saturated* if a bounded activation
    is on average beyond 98 % of its range, measured from the middle, *linear* if a straight line
    in the sum leaves a relative residual below the tolerance: a ReLU that is always on, a tanh
    with sums within about ±0.3.

    Parameters
    ----------
    network : Network
    arrays : mapping of str to ndarray of shape (draws, ...)
        Variables of the draws, aligned.
    inputs : ndarray of shape (n, n_inputs)
    fitted : Fitted
        The likelihood of these draws (see :func:`relabel.diagnostics.likelihood.find_likelihood`).
    level : float, default 0.95
        Level of the chi-squared quantile that a loss is compared with; the customary one.
    tolerance : float, default 0.01
        A unit that moves nothing by more than one per cent of its spread is dead; a unit whose
        deviation from a line is one per cent of its own spread is linear. Kinds describe, they
        decide nothing.
    saturation : float, default 0.98
        tanh is 0.98 at 2.3, where its slope has fallen to 4 %.
    epsilon : sequence of float, optional
        Grid of the proximate rank; 16 values from 0.01 to 3 by default.
    max_inputs : int, default 1000
        Of more inputs, that many evenly spaced ones stand for all; a mean over 1000 points is
        known to about 3 %, which no decision turns on.
    max_steps : int, default 10
        Steps of a refit that is not exact; most end after two to four.
    memory : int, default 2**26
        Bytes that the temporary arrays of one block of draws may take.

    Returns
    -------
    dict of str to Redundancy
        For every set of units that something reads.

    Raises
    ------
    SpecError
        If the inputs do not fit the network, or no units are read by anything.

    References
    ----------
    Sussmann, H. J. (1992). Uniqueness of the weights for minimal feedforward nets with a given
    input-output map. *Neural Networks* 5(4), 589-593.
    https://doi.org/10.1016/S0893-6080(05)80037-1

    Hassibi, B. & Stork, D. G. (1993). Second order derivatives for network pruning: optimal brain
    surgeon. *Advances in Neural Information Processing Systems* 5, 164-171.

    Farrugia-Roberts, M. (2023). Proximity to losslessly compressible parameters.
    https://doi.org/10.48550/arXiv.2306.02834

    Examples
    --------
    Two of three units are copies of one another, so one of them is spare.

    >>> import numpy as np, xarray as xr
    >>> from relabel.diagnostics.likelihood import Normal
    >>> from relabel.spec.spec import Spec
    >>> sample = ("chain", "draw")
    >>> W, V = [[[[1.0, 1.0, -0.5]]]], [[[[1.0], [2.0], [3.0]]]]
    >>> draws = xr.Dataset({"W": ((*sample, "x", "h"), W), "V": ((*sample, "h", "y"), V),
    ...                     "b": ((*sample, "h"), [[[0.0, 0.0, 1.0]]])})
    >>> spec = Spec({"h": "tanh"}, {"W": "x -> h", "b": "-> h", "V": "h -> y"})
    >>> arrays = {name: draws[name].values[0] for name in ("W", "b", "V")}
    >>> inputs = np.linspace(-2, 2, 50)[:, None]
    >>> fitted = Fitted(Normal(), {"scale": np.array([[0.1]])})
    >>> found = redundancy(Network.of(spec.bind(draws)), arrays, inputs, fitted)["h"]
    >>> found.removal_loss.round(6) < found.limit
    array([[ True,  True, False]])
    >>> found.effective_width, found.n_spare
    (array([2]), 1)
    """
    inputs, fitted = thin(inputs, fitted, max_inputs)
    names = [a.name for a in network.layers if a.activation and network.readers(a.name)]
    if not names:
        raise SpecError("redundancy: no units of the network are read by anything")
    grid = np.geomspace(0.01, 3.0, 16) if epsilon is None else np.asarray(epsilon, dtype=float)
    found = {}
    for units in names:
        parts = []
        for rows in blocks(network, arrays, units, len(inputs), memory):
            part = {name: values[rows] for name, values in arrays.items()}
            site = Site.of(network, units, part, inputs, fitted[rows])
            loss = site.removal_losses(max_steps)
            out = _eliminate(site, loss, fitted, level, max_steps)
            parts.append((loss, out, _kinds(site, tolerance, saturation)))
        loss, out, kind = joined(parts)
        limit = float(fitted.limit(site.n_parameters, level))
        rank = _proximate_rank(network, arrays, units, grid)
        how = f"{fitted.how} {_method(site)}".strip()
        found[units] = Redundancy(units, loss, kind, out, site.n_parameters, limit, rank, how)
    return found


def _method(site: Site) -> str:
    """Say how the losses were computed."""
    method = "weighted least squares" if site.wide else "Fisher scoring"
    losses = (
        "Removal losses are exact (least squares)."
        if site.exact
        else f"Removal losses are by {method}: those of networks that were evaluated, upper bounds "
        "of the least ones."
    )
    if n_refitted(site) <= MOST_REFITTED:
        return f"{losses} Widths are by refits of all parameters of the layer."
    return f"{losses} Widths are by refits of what reads the layer, and may be too large."


def thin(inputs: Array, fitted: Fitted, most: int) -> tuple[Array, Fitted]:
    """Take evenly spaced inputs if there are too many; each then stands for several."""
    inputs = np.asarray(inputs, dtype=float)
    if inputs.ndim != 2 or not len(inputs):
        raise SpecError(f"inputs have the shape {inputs.shape}; (n, n_inputs) is needed")
    chosen = np.unique(np.linspace(0, len(inputs) - 1, most).round().astype(int))
    return inputs[chosen], fitted.thinned(len(inputs) / len(chosen))


def joined(parts: Sequence[tuple[Array, ...]]) -> tuple[Array, ...]:
    """Put the arrays of all blocks of draws together, one by one."""
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def blocks(
    network: Network, arrays: Mapping[str, Array], units: str, n: int, memory: int
) -> list[slice]:
    """Cut the draws so that the temporary arrays of a block stay within some memory."""
    first = {name: values[:1] for name, values in arrays.items()}
    done = network.forward(first, np.zeros((1, network.n_inputs)))
    n_draws = len(next(iter(arrays.values())))
    width = sum(values.shape[-1] for values in done.sums.values())
    n_units = done.sums[units].shape[-1] + 1
    n_read = sum(done.sums[layer.name].shape[-1] for layer in network.readers(units))
    n_out = sum(done.sums[end].shape[-1] for end in network.ends)
    plain = all(layer.name in network.ends for layer in network.readers(units)) and n_out == 1
    n_joint = n_units * n_read
    joint = (n_units**2 + n_read**2) // 2 if n_joint <= MOST_COUPLED and not plain else 0
    numbers = n * (4 * width + joint + 2 * n_out * n_read)
    numbers += 3 * (n_joint**2 if joint else n_read * n_units**2)
    size = max(1, memory // (8 * numbers))
    return [slice(start, min(start + size, n_draws)) for start in range(0, n_draws, size)]


def _eliminate(site: Site, loss: Array, fitted: Fitted, level: float, max_steps: int) -> Array:
    """Take units out one after the other, while the total loss is below its limit."""
    keep: Array = np.ones(loss.shape, dtype=bool)
    limits = fitted.limit(site.n_parameters * np.arange(1, keep.shape[1] + 1), level)
    rows, here, curve, gain = np.arange(len(loss)), site, site.curve, loss
    for limit in limits:
        unit = np.where(keep[rows], gain, np.inf).argmin(axis=1)
        trial = keep[rows]
        trial[np.arange(len(rows)), unit] = False
        u, inverse = curve.fit(trial)
        total = curve.value(u) if site.exact else here.refit(trial, max_steps)
        fits = total < limit
        maybe = ~fits & (total < _REACH * limit)
        if maybe.any() and n_refitted(site) <= MOST_REFITTED:
            fits[maybe] = nearest_loss(site[rows[maybe]], trial[maybe], float(limit)) < limit
        if not fits.any():
            break
        rows, u, inverse, trial = rows[fits], u[fits], inverse[fits], trial[fits]
        if not fits.all():
            curve = curve[fits]
            here = here if site.exact else here[fits]
        keep[rows] = trial
        gain = curve.increments(trial, u, inverse)
    return ~keep


def _kinds(site: Site, tolerance: float, saturation: float) -> Array:
    """Classify units as dead, constant, saturated or linear by their activations."""
    a, z = site.basis, site.done.sums[site.units]
    activation = activation_of(site.layer.activation or "")
    centre = 0.5 if activation.symmetry.shifts else 0.0
    spread, mean = a.std(axis=1), np.abs(a.mean(axis=1) - centre)
    scale = np.concatenate([site.done.sums[r.name].std(axis=1) for r in site.readers], axis=-1)
    reach = np.abs(site.weights[:, : a.shape[2]])
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.nan_to_num(reach / scale[:, None, :], nan=0.0, posinf=np.inf).max(axis=2)
        still = np.nan_to_num(share * spread) < tolerance
        level = np.nan_to_num(share * mean) >= tolerance
        centred = z - z.mean(axis=1, keepdims=True)
        slope = (centred * a).sum(axis=1) / np.square(centred).sum(axis=1)
        rest = a - a.mean(axis=1, keepdims=True) - np.nan_to_num(slope)[:, None] * centred
        linear = rest.std(axis=1) < tolerance * spread
    kind = np.where(linear, KINDS.index("linear"), KINDS.index("active")).astype(np.int8)
    if activation.limits is not None:
        low, high = activation.limits
        extent = np.abs(2 * (a - low) / (high - low) - 1).mean(axis=1)
        kind[extent > saturation] = KINDS.index("saturated")
    kind[still] = KINDS.index("dead")
    kind[still & level] = KINDS.index("constant")
    return kind


def _proximate_rank(
    network: Network, arrays: Mapping[str, Array], units: str, epsilon: Array
) -> ProximateRank | None:
    """Greedy upper bound on a grid; for one hidden layer that reads nothing but the inputs."""
    if len([a for a in network.layers if a.activation]) != 1:
        return None
    layer = network.layer(units)
    w = np.concatenate([matrix_of(v, t, arrays[v.key]) for v, t in layer.weights], axis=1)
    w = w.swapaxes(1, 2)
    c = sum((arrays[v.key].reshape(len(w), -1) for v in layer.biases), np.zeros(w.shape[:2]))
    v = outgoing(network, arrays, units)
    group = group_of(layer.activation or "")
    action = group.action("tail")
    flips = (1.0, -1.0) if group.signs else (1.0,)
    outer = -1.0 if action is not None and action.signed else 1.0
    own = np.concatenate([w, c[:, :, None]], axis=2)
    step = max(1, _MEMORY // (16 * own.shape[1] ** 2 * own.shape[2]))
    ranks = []
    for start in range(0, len(own), step):
        rows = slice(start, start + step)
        gaps = [np.abs(own[rows, :, None] - s * own[rows, None]).max(axis=3) for s in flips]
        apart, size = np.stack(gaps, axis=-1), np.abs(w[rows]).max(axis=2)
        cover = [_cover(size, apart, v[rows], float(e), outer) for e in epsilon]
        ranks.append(np.stack(cover, axis=1))
    return ProximateRank(epsilon, np.concatenate(ranks))


def _cover(size: Array, apart: Array, v: Array, epsilon: float, outer: float) -> Array:
    """Rank of the reduced networks at one distance: cover units by balls, drop what cancels."""
    left = size > epsilon
    rank = np.zeros(len(size), dtype=int)
    for centre in range(size.shape[1]):
        nearest = apart[:, centre].argmin(axis=2)
        group = left & (apart[:, centre].min(axis=2) <= epsilon) & left[:, centre, None]
        sign = np.where(nearest == 0, 1.0, outer) * group
        total = np.abs((sign[:, :, None] * v).sum(axis=1)).max(axis=1)
        rank += left[:, centre] & (total > epsilon * group.sum(axis=1))
        left &= ~group
    return rank
