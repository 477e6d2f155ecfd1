"""Which units a network could do without: removal losses, effective width, kinds of units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel.errors import SpecError
from relabel.groups import group_of
from relabel.likelihood import Fitted
from relabel.network import Layer, Network, Pass, matrix_of
from relabel.spec import BoundVariable

__all__ = ["KINDS", "ProximateRank", "Redundancy", "Site", "redundancy", "thin"]

Array = NDArray[Any]

#: What a unit is in one draw; the codes of :attr:`Redundancy.kind` are positions in this list.
KINDS = ("active", "dead", "constant", "linear", "saturated")

_RIDGE = 1e-12  # of columns scaled to norm one: exact duplicates are solvable, nothing else changes
_MOST_COUPLED = 128  # parameters refitted jointly; H has their square, and costs their cube
_SETTLED = 1e-2  # a refit ends when a step promises less than this share, or this many nats
_MEMORY = 2**26  # bytes of the temporary arrays of one block
_UNIT, _ODD, _RIGHT = (0.0, 1.0), (-1.0, 1.0), (-np.pi / 2, np.pi / 2)

#: Range of the activations that have two horizontal asymptotes.
_RANGES = {
    **dict.fromkeys(("tanh", "erf", "softsign", "hardtanh"), _ODD),
    **dict.fromkeys(("sigmoid", "logistic", "hard_sigmoid", "normal_cdf"), _UNIT),
    **dict.fromkeys(("arctan", "atan"), _RIGHT),
}


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

    def summary(self, share: float = 0.9) -> Array:
        """Lower end, median and upper end of the central interval of draws, shape (3, E)."""
        ends = [(1 - share) / 2, 0.5, (1 + share) / 2]
        summary: Array = np.quantile(self.rank, ends, axis=0)
        return summary


@dataclass(frozen=True)
class Redundancy:
    """What one set of units could do without.

    Attributes
    ----------
    units : str
    removal_loss : ndarray of shape (draws, K)
        Divergence when this unit alone is taken out and what reads its layer is refitted. Exact
        for one hidden layer under Gaussian noise, an upper bound elsewhere.
    kind : ndarray of int, shape (draws, K)
        Positions in :data:`KINDS`.
    eliminated : ndarray of bool, shape (draws, K)
        Whether backward elimination took the unit out.
    n_parameters : int
        Of one unit: incoming weights, bias, outgoing weights.
    limit : float
        Loss below which one unit is not worth having.
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
    def effective_width(self) -> Array:
        """Number of units that each draw needs, int of shape (draws,)."""
        width: Array = (~self.eliminated).sum(axis=1)
        return width

    @property
    def width_pmf(self) -> Array:
        """Share of draws that need 0, 1, ..., K units, shape (K + 1,)."""
        counts = np.bincount(self.effective_width, minlength=self.eliminated.shape[1] + 1)
        pmf: Array = counts / len(self.eliminated)
        return pmf

    @property
    def median_width(self) -> float:
        """Median of the effective width."""
        return float(np.median(self.effective_width))

    @property
    def likely_width(self) -> int:
        """Effective width of most draws, the mode of :attr:`width_pmf`; of equals, the largest."""
        pmf = self.width_pmf
        return len(pmf) - 1 - int(pmf[::-1].argmax())

    @property
    def n_spare(self) -> int:
        """How many units can be done without, all at once: K less the likely width."""
        return int(self.eliminated.shape[1]) - self.likely_width

    @property
    def spare(self) -> list[int]:
        """Slots that elimination took out in more than half of the draws.

        At most :attr:`n_spare`; there are fewer where it is clear that units are spare, but not
        which, since one may stand in for another.
        """
        share = self.eliminated.mean(axis=0)
        ordered = np.argsort(-share, kind="stable")[: self.n_spare]
        return sorted(int(slot) for slot in ordered if share[slot] > 0.5)

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


# -------------------------------------------------------------------------------- the question


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

    For one hidden layer and Gaussian noise this is a Schur complement of the Gram matrix of the
    activations, exact. Otherwise the readers' weights are refitted by Fisher scoring (Gauss-Newton
    through the rest of the network, with steps that are damped until the divergence falls) from
    the better of two least-squares fits, one of the outputs to first order and one of the readers'
    sums. Where more than 128 weights would have to be refitted jointly, it is left at those two,
    the first with one weight per input for all readers. The loss is always the divergence of a
    network that was evaluated: an upper bound.

    The **effective width** of a draw is what greedy backward elimination leaves: the unit of least
    loss goes, the rest is refitted, as long as the total loss stays below
    :math:`\tfrac12\chi^2_{0.95}` with as many degrees of freedom as parameters were saved. One
    unit at a time over-counts where units share a load, so a slot is called **spare** if it was
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
        The likelihood of these draws (see :func:`relabel.likelihood.find_likelihood`).
    level : float, default 0.95
        Level of the chi-squared quantile that a loss is held against; the customary one.
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
    >>> from relabel.spec import Spec
    >>> sample = ("chain", "draw")
    >>> W, V = [[[[1.0, 1.0, -0.5]]]], [[[[1.0], [2.0], [3.0]]]]
    >>> draws = xr.Dataset({"W": ((*sample, "x", "h"), W), "V": ((*sample, "h", "y"), V),
    ...                     "b": ((*sample, "h"), [[[0.0, 0.0, 1.0]]])})
    >>> spec = Spec({"h": "tanh"}, {"W": "x -> h", "b": "-> h", "V": "h -> y"})
    >>> arrays = {name: draws[name].values[0] for name in ("W", "b", "V")}
    >>> inputs = np.linspace(-2, 2, 50)[:, None]
    >>> fitted = Fitted("gaussian", np.array([[0.1]]))
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
    """Say how the losses came about."""
    if site.exact:
        return "Refits are exact (least squares)."
    way = "weighted least squares" if site.wide else "Fisher scoring"
    return (
        f"Refits are by {way}; losses are those of networks that were evaluated, upper bounds of "
        "the least ones."
    )


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
    joint = (n_units**2 + n_read**2) // 2 if n_joint <= _MOST_COUPLED and not plain else 0
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
    """Tell dead, constant, saturated and linear units from the others, by their activations."""
    a, z = site.basis, site.done.sums[site.units]
    group, name = group_of(site.layer.activation or ""), (site.layer.activation or "").lower()
    spread, mean = a.std(axis=1), np.abs(a.mean(axis=1) - (0.5 if group.shifts else 0.0))
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
    if name.replace("-", "_") in _RANGES:
        low, high = _RANGES[name.replace("-", "_")]
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
    w = np.concatenate([matrix_of(v, t, arrays[v.name]) for v, t in layer.weights], axis=1)
    w = w.swapaxes(1, 2)
    c = sum((arrays[v.name].reshape(len(w), -1) for v in layer.biases), np.zeros(w.shape[:2]))
    v = outgoing(network, arrays, units)
    group = group_of(layer.activation or "")
    action = group.action("tail")
    flips = (1.0, -1.0) if group.signs else (1.0,)
    outer = -1.0 if action is not None and action.signed else 1.0
    own = np.concatenate([w, c[:, :, None]], axis=2)
    apart = np.stack(
        [np.abs(own[:, :, None] - s * own[:, None]).max(axis=3) for s in flips], axis=-1
    )
    rank = [_cover(np.abs(w).max(axis=2), apart, v, float(e), outer) for e in epsilon]
    return ProximateRank(epsilon, np.stack(rank, axis=1))


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


def outgoing(network: Network, arrays: Mapping[str, Array], units: str) -> Array:
    """Weights of everything that reads some units, side by side, shape (draws, K, n_read)."""
    parts = []
    for reader in network.readers(units):
        every = [matrix_of(v, t, arrays[v.name]) for v, t in reader.weights if t == units]
        parts.append(sum(every[1:], every[0]))
    return np.concatenate(parts, axis=2)


# -------------------------------------------------------------------------------- refits


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
        Of the draws; where a unit was replaced, with its new activations.
    outputs : ndarray of shape (draws, n, n_outputs)
        Of the draws themselves.
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
            Pass(
                {name: values[rows] for name, values in self.done.sums.items()},
                {n: v if n == source else v[rows] for n, v in self.done.values.items()},
            ),
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
            self.arrays[reader.biases[0].name].reshape(len(weights), -1)
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
        return self.fitted.family == "gaussian" and self._straight

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
        """Loss without some units, everything that stays (and is not held) refitted: (draws,)."""
        u = self.curve.solve(keep, held)
        if self.exact:
            return self.curve.value(u)
        best = self.loss(u)
        other = self.plain.solve(keep, held)
        other = self.pack(self._matrix(other, self.plain), self.curve.width)
        loss = self.loss(other)
        u = np.where((loss < best)[:, None, None], other, u)
        best = np.minimum(loss, best)
        if self.wide:
            return best
        free = np.broadcast_to(self.curve.mask(keep, held), u.shape)
        return self._polish(u, best, free, max_steps)

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
        arrays = {**self.arrays, **self._as_arrays(self._matrix(u, self.curve))}
        return arrays, self.network.resume(arrays, self.done, self.units)

    def _as_arrays(self, weights: Array) -> dict[str, Array]:
        """Lay weights (draws, K or K + 1, n_read) out as the variables they are."""
        n_units, arrays, start = self.basis.shape[2], {}, 0
        for reader in self.readers:
            stop = start + self._size(reader)
            part, start = weights[:, :, start:stop], stop
            for number, variable in enumerate(v for v, t in reader.weights if t == self.units):
                matrix = part[:, :n_units] * (number == 0)
                arrays[variable.name] = _stored(variable, self.units, matrix)
            if reader.biases:
                bias = reader.biases[0]
                arrays[bias.name] = part[:, n_units].reshape(-1, *bias.shape)
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
        return not self.exact and n_read > 1 and n_weights > _MOST_COUPLED

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
        """Lay out weights (draws, columns, n_read) as a :class:`Curve` does."""
        if width == 1:
            return weights.swapaxes(1, 2)
        return weights.reshape(len(weights), 1, -1)

    def _matrix(self, u: Array, curve: Curve) -> Array:
        """Lay weights out the other way."""
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


def _stored(variable: BoundVariable, tail: str, matrix: Array) -> Array:
    """Store matrices (draws, in, out) as the variable they belong to."""
    turned = matrix if variable.axes[0].name == tail else matrix.swapaxes(1, 2)
    return turned.reshape(-1, *variable.shape)
