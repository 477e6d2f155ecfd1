"""Which units are copies of one another: distances, merge losses, Bayes factors of closeness."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from relabel.diagnostics.kernels.refit import Site, outgoing
from relabel.diagnostics.kernels.removal import blocks, joined, thin
from relabel.diagnostics.likelihood import Fitted
from relabel.errors import SpecError
from relabel.groups import group_of
from relabel.models.forward_pass import Network, matrix_of
from relabel.spec.spec import SAMPLE_DIMS

__all__ = ["Closeness", "Pair", "Pairs", "pairs", "prior_draws"]

Array = NDArray[Any]

_N_PRIOR = 10_000  # simulated networks: a probability of 1 % is known to a tenth of itself
_N_RATIOS = 4_000  # draws of a ratio of two probabilities, for its interval
_LEAST_SEGMENTS = 8  # of all chains together, from which effective sample sizes are estimated
_MEMORY = 2**26

#: Distances in prior units: a tenth of a prior standard deviation is next to nothing, half of one
#: is within the ordinary.
_TAUS = (0.1, 0.25, 0.5)

#: As the defaults of :func:`relabel.diagnostics.kernels.removal.redundancy`.
_MAX_INPUTS, _MAX_STEPS = 1000, 10


@dataclass(frozen=True)
class Closeness:
    """How much the data raise the probability that units are closer than `tau`.

    Attributes
    ----------
    tau : float
        In prior units.
    data, prior : float
        Probabilities of a pair that close.
    factor, low, high : float
        Their ratio, and its interval.
    """

    tau: float
    data: float
    prior: float
    factor: float
    low: float
    high: float


@dataclass(frozen=True)
class Pair:
    """What is found of one pair of slots.

    Attributes
    ----------
    slots : tuple of int
    distance, correlation, merge_loss : float
        Medians over the draws.
    mergeable : float
        Share of draws in which one unit could stand for both, everything else refitted.
    copies : float
        Share of draws in which it could with everything else as it is, and neither unit is
        negligible.
    kind : {"split", "cancelling"}
        Whether their contributions have the same sign in most of these draws.
    closeness : tuple of Closeness
        One for each tau; empty where no prior is known.
    duplicated : bool
    """

    slots: tuple[int, int]
    distance: float
    correlation: float
    merge_loss: float
    mergeable: float
    copies: float
    kind: Literal["split", "cancelling"]
    closeness: tuple[Closeness, ...]
    duplicated: bool


@dataclass(frozen=True)
class Pairs:
    """Pairs of slots of one set of units, the nearest first.

    Attributes
    ----------
    units : str
    slots : ndarray of int, shape (P, 2)
    distance, correlation : ndarray of shape (draws, P)
    rows : ndarray of int, shape (R,)
        The draws in which units were merged.
    merge_loss, held_loss : ndarray of shape (R, P)
        Loss of putting one unit in the place of two, with everything else refitted, and with
        everything else (but biases) as it is. Where refits are not exact, candidates are tried
        until one is below the limit, and a held loss is taken to be the merge loss where that is
        above the limit already.
    lone_loss : ndarray of shape (R, K)
        Loss of leaving a unit out with everything else (but biases) as it is.
    same_sign : ndarray of bool, shape (draws, P)
        Whether the contributions of two units add up.
    n_parameters : int
        Of one unit.
    limit : float
        Loss below which one unit can be done without.
    closeness : tuple of tuple of Closeness
        For each pair; empty where no prior is known.
    closest : tuple of Closeness
        The same of the closest of all pairs, whichever it is: like is compared with like.
    how : str
    """

    units: str
    slots: Array
    distance: Array
    correlation: Array
    rows: Array
    merge_loss: Array
    held_loss: Array
    lone_loss: Array
    same_sign: Array
    n_parameters: int
    limit: float
    closeness: tuple[tuple[Closeness, ...], ...]
    closest: tuple[Closeness, ...]
    how: str

    @property
    def copies(self) -> Array:
        """In which draws two units are copies: bool of shape (R, P)."""
        i, j = self.slots.T
        matter = (self.lone_loss[:, i] >= self.limit) & (self.lone_loss[:, j] >= self.limit)
        copies: Array = (self.held_loss < self.limit) & matter
        return copies

    @property
    def pairs(self) -> list[Pair]:
        """What is found of each pair."""
        return [self._pair(number) for number in range(len(self.slots))]

    @property
    def duplicated(self) -> list[Pair]:
        """Pairs that are claimed to be duplicated."""
        return [pair for pair in self.pairs if pair.duplicated]

    def _pair(self, number: int) -> Pair:
        copies = self.copies[:, number]
        same = self.same_sign[self.rows, number]
        same = same[copies] if copies.any() else same
        close = self.closeness[number] if self.closeness else ()
        supported = any(c.low > 1 for c in close) if close else True
        i, j = self.slots[number]
        return Pair(
            (int(i), int(j)),
            float(np.median(self.distance[:, number])),
            float(np.median(self.correlation[:, number])),
            float(np.median(self.merge_loss[:, number])),
            float((self.merge_loss[:, number] < self.limit).mean()),
            float(copies.mean()),
            "split" if same.mean() > 0.5 else "cancelling",
            close,
            bool(copies.mean() > 0.5 and supported),
        )


def pairs(
    network: Network,
    arrays: Mapping[str, Array],
    inputs: Array,
    fitted: Fitted,
    *,
    removal_loss: Mapping[str, Array] | None = None,
    priors: Mapping[str, float] | None = None,
    prior: Mapping[str, Array] | None = None,
    chains: Array | None = None,
    level: float = 0.95,
    max_pairs: int = 45,
    max_draws: int = 400,
    seed: int = 0,
) -> dict[str, Pairs]:
    r"""Compare every two units of a layer, and find those that are copies of one another.

    The distance of two units is that of what is written to them,

    .. math:: D_{ij} = \min_s \lVert (w, b)_i - s\,(w, b)_j \rVert

    with the sign *s* free where the activation is odd, even or flips about its centre, in units of
    the prior's standard deviations (of the pooled ones of the draws, where no prior is known).
    Distances and correlations describe; they do not decide, since nets without a spare unit may
    well have units that are closer than those of nets with one.

    What decides is the loss of putting one unit in the place of two. Its incoming weights are those
    of either, or their mean weighted by the outgoing weights, whichever is best. The **merge loss**
    is what is left after everything that reads the layer was refitted, as for removal. It is small
    as well where a unit is spare for any other reason, so it does not identify copies. Two units
    are **copies** in a draw if one can stand for both while *all other units stay as they are*
    (only its own outgoing weights and the biases are refitted), and neither is negligible: leaving
    it out, only biases refitted, costs more than the limit. So three copies are three pairs, though
    a third unit could always stand in; and a unit that all others make up for together is spare,
    not duplicated. Two linear units are copies in this sense however far apart their weights are,
    since the sum of two lines is a line. A pair of slots is *duplicated* if it is copies in more
    than half of the draws.

    Where the prior is known, the data must also have brought the units together: the probability
    of :math:`D_{ij} < \tau` is divided by the prior's probability that the closest of all pairs is
    that close, and the interval of this ratio must lie above 1 for some :math:`\tau`, with the
    level shared out over them (Bonferroni). The interval is that of a ratio of two Beta
    distributions with the effective sample size of the draws, from the means of segments of the
    chains. Units with a scale of their own (ReLU) have no such factor, since their draws were
    brought to a gauge and those of the prior were not.

    Parameters
    ----------
    network, arrays, inputs, fitted
        As in :func:`relabel.diagnostics.kernels.removal.redundancy`.
    removal_loss : mapping of str to ndarray of shape (draws, K), optional
        By units, where they were worked out before with the same inputs.
    priors : mapping of str to float, optional
        Prior standard deviation of the incoming weights and biases, by variable; the prior is taken
        to be normal about zero.
    prior : mapping of str to ndarray of shape (n, ...), optional
        Draws of the prior instead.
    chains : ndarray of int, shape (draws,), optional
        Which chain each draw belongs to, in order; one chain by default.
    level : float, default 0.95
        Level of the chi-squared quantile of losses, and of the intervals.
    max_pairs : int, default 45
        Of more pairs (more than 10 units), the nearest by median distance.
    max_draws : int, default 400
        Units are merged in that many evenly spaced draws; a share is then known to 2.5 per cent.
    seed : int, default 0
        Random seed of the simulated prior and the intervals.

    Returns
    -------
    dict of str to Pairs
        For every set of two or more units that something reads.

    Raises
    ------
    SpecError
        If a prior is not positive, or lacks variables of some units.

    References
    ----------
    Müller, P. & Rios Insua, D. (1998). Issues in Bayesian analysis of neural network models.
    *Neural Computation* 10(3), 749-770. https://doi.org/10.1162/089976698300017737

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from relabel.diagnostics.likelihood import Normal
    >>> from relabel.spec.spec import Spec
    >>> sample = ("chain", "draw")
    >>> W, V = [[[[1.0, -1.0, -0.5]]]], [[[[1.0], [-2.0], [3.0]]]]
    >>> draws = xr.Dataset({"W": ((*sample, "x", "h"), W), "V": ((*sample, "h", "y"), V),
    ...                     "b": ((*sample, "h"), [[[0.0, 0.0, 1.0]]])})
    >>> spec = Spec({"h": "tanh"}, {"W": "x -> h", "b": "-> h", "V": "h -> y"})
    >>> arrays = {name: draws[name].values[0] for name in ("W", "b", "V")}
    >>> fitted = Fitted(Normal(), {"scale": np.array([[0.1]])})
    >>> inputs = np.linspace(-2, 2, 50)[:, None]
    >>> found = pairs(Network.of(spec.bind(draws)), arrays, inputs, fitted)["h"]
    >>> [(pair.slots, pair.kind) for pair in found.duplicated]
    [((0, 1), 'split')]
    """
    inputs, fitted = thin(inputs, fitted, _MAX_INPUTS)
    n_draws = len(next(iter(arrays.values())))
    rows = np.unique(np.linspace(0, n_draws - 1, max_draws).round().astype(int))
    chains = np.zeros(n_draws, int) if chains is None else np.asarray(chains)
    merged = {name: values[rows] for name, values in arrays.items()}
    found = {}
    for layer in network.layers:
        units = layer.name
        if not layer.activation or not network.readers(units):
            continue
        space = _Space.of(network, arrays, units, priors, prior)
        if space.own.shape[1] < 2:
            continue
        slots, distance, sign, least = _distances(space, max_pairs)
        p, limit = _limit_of(network, units, arrays, inputs, fitted, level)
        removal = None if removal_loss is None else removal_loss[units][rows]
        job = _Merging(network, units, inputs, limit)
        merge, held, lone = job.losses(merged, fitted[rows], slots, sign[rows], removal)
        found[units] = Pairs(
            units,
            slots,
            distance,
            _correlations(network, arrays, inputs, units, slots),
            rows,
            merge,
            held,
            lone,
            _same_sign(outgoing(network, arrays, units), slots, sign, space.outer),
            p,
            limit,
            *_all_closeness(space, distance, least, level, chains, seed),
            space.how,
        )
    return found


def _limit_of(
    network: Network,
    units: str,
    arrays: Mapping[str, Array],
    inputs: Array,
    fitted: Fitted,
    level: float,
) -> tuple[int, float]:
    """Number of parameters of one unit, and the loss below which it can be done without."""
    one = {name: values[:1] for name, values in arrays.items()}
    p = Site.of(network, units, one, inputs, fitted[:1]).n_parameters
    return p, float(fitted.limit(p, level))


def _same_sign(v: Array, slots: Array, sign: Array, outer: float) -> Array:
    """Whether the contributions of two units add up in each draw, (draws, P)."""
    outer_sign = sign if outer < 0 else np.ones_like(sign)
    inner = (v[:, slots[:, 0]] * v[:, slots[:, 1]]).sum(axis=2)
    same: Array = outer_sign * inner > 0
    return same


def prior_draws(groups: Mapping[str, xr.Dataset], network: Network) -> dict[str, Array] | None:
    """Return the draws of the group ``prior``, if it has all that is written to units.

    Returns
    -------
    dict of str to ndarray of shape (draws, ...), or None
    """
    dataset = groups.get("prior")
    names = {
        variable.key
        for layer in network.layers
        if layer.activation
        for variable in (*(v for v, _ in layer.weights), *layer.biases)
    }
    if dataset is None or not names <= set(map(str, dataset.data_vars)):
        return None
    found = {}
    for name in names:
        if not set(SAMPLE_DIMS) <= set(dataset[name].dims):
            return None
        values = dataset[name].transpose(*SAMPLE_DIMS, ...).values
        found[name] = values.reshape(-1, *values.shape[2:])
    return found


# -------------------------------------------------------------------------------- distances


@dataclass(frozen=True)
class _Space:
    """What is written to the units, in units of standard deviations.

    `simulated` are draws of the prior in the same units, `normal` says that it is standard normal.
    """

    own: Array  # (draws, K, d)
    simulated: Array | None
    normal: bool
    flips: bool
    outer: float
    how: str

    @classmethod
    def of(
        cls,
        network: Network,
        arrays: Mapping[str, Array],
        units: str,
        priors: Mapping[str, float] | None,
        prior: Mapping[str, Array] | None,
    ) -> _Space:
        """Collect and scale incoming weights and biases."""
        layer = network.layer(units)
        group = group_of(layer.activation or "")
        action = group.action("tail")
        outer = -1.0 if action is not None and action.signed else 1.0
        incoming = [(v, tail) for v, tail in layer.weights] + [(v, None) for v in layer.biases]
        own, drawn = [], []
        for variable, tail in incoming:
            values = _by_unit(variable, tail, arrays[variable.key])
            sd = _scale(variable.key, values, priors, prior)
            own.append(values / sd)
            if prior is not None and variable.key in prior and priors is None:
                drawn.append(_by_unit(variable, tail, prior[variable.key]) / sd)
        gauged = bool(group.gauges())
        whole = len(drawn) == len(incoming) and not gauged
        simulated = np.concatenate(drawn, axis=2) if whole else None
        known = priors is not None or bool(drawn)
        how = f"Distances are in {'prior' if known else 'pooled posterior'} standard deviations"
        how += "; units have a scale of their own, so none is compared with the prior's."
        how = how if known and gauged else how.replace("; units", ".|").split("|", maxsplit=1)[0]
        joined = np.concatenate(own, axis=2)
        return cls(joined, simulated, priors is not None and not gauged, group.signs, outer, how)

    def closest(self, seed: int) -> Array | None:
        """Distance of the closest pair in draws of the prior; None where it is not known."""
        if self.simulated is None and not self.normal:
            return None
        n_units, n_features = self.own.shape[1:]
        draws = self.simulated
        if draws is None:
            draws = np.random.default_rng(seed).normal(size=(_N_PRIOR, n_units, n_features))
        least = np.full(len(draws), np.inf)
        for i, j in combinations(range(n_units), 2):
            least = np.minimum(least, _apart(draws, i, j, flips=self.flips)[0])
        return least


def _by_unit(variable: Any, tail: str | None, values: Array) -> Array:
    """Reshape one variable to (draws, K, features)."""
    if tail is None:
        return values.reshape(len(values), -1, 1)
    return matrix_of(variable, tail, values).swapaxes(1, 2)


def _scale(
    name: str,
    values: Array,
    priors: Mapping[str, float] | None,
    prior: Mapping[str, Array] | None,
) -> float:
    """Standard deviation that is the unit of one variable."""
    if priors is not None:
        if name not in priors:
            raise SpecError(
                f"priors: there is none for {name!r}, which is written to units; give the prior "
                "standard deviation of each incoming weight and bias"
            )
        if not 0 < priors[name] < np.inf:
            raise SpecError(f"priors: {name!r} must have a positive sd, not {priors[name]!r}")
        return float(priors[name])
    source = prior[name] if prior is not None and name in prior else values
    sd = float(np.std(source))
    return sd if sd > 0 else 1.0


def _apart(own: Array, i: int, j: int, *, flips: bool) -> tuple[Array, Array]:
    """Distance of two units in every draw, and the sign that makes it least."""
    same = np.linalg.norm(own[:, i] - own[:, j], axis=1)
    if not flips:
        return same, np.ones(len(own))
    other = np.linalg.norm(own[:, i] + own[:, j], axis=1)
    return np.minimum(same, other), np.where(other < same, -1.0, 1.0)


def _distances(space: _Space, max_pairs: int) -> tuple[Array, Array, Array, Array]:
    """Pairs in the order of their median distance, with distances and signs (draws, P).

    Last, the distance of the closest of all pairs, (draws,).
    """
    slots = np.array(list(combinations(range(space.own.shape[1]), 2)))
    every = [_apart(space.own, i, j, flips=space.flips) for i, j in slots]
    nearest = np.argsort([np.median(d) for d, _ in every], kind="stable")[:max_pairs]
    distance = np.stack([every[p][0] for p in nearest], axis=1)
    sign = np.stack([every[p][1] for p in nearest], axis=1)
    return slots[nearest], distance, sign, np.min([d for d, _ in every], axis=0)


def _correlations(
    network: Network, arrays: Mapping[str, Array], inputs: Array, units: str, slots: Array
) -> Array:
    """Correlation of the activations over the inputs, zero for constants: (draws, P)."""
    parts = []
    for rows in blocks(network, arrays, units, len(inputs), _MEMORY):
        part = {name: values[rows] for name, values in arrays.items()}
        a = network.activations(part, inputs)[units]
        a = a - a.mean(axis=1, keepdims=True)
        gram = a.swapaxes(1, 2) @ a
        sd = np.sqrt(np.einsum("tkk->tk", gram))
        both = sd[:, slots[:, 0]] * sd[:, slots[:, 1]]
        inner = gram[:, slots[:, 0], slots[:, 1]]
        parts.append(np.clip(inner / np.where(both > 0, both, 1.0) * (both > 0), -1.0, 1.0))
    return np.concatenate(parts)


# -------------------------------------------------------------------------------- merging


@dataclass(frozen=True)
class _Merging:
    """The units that are merged, and how."""

    network: Network
    units: str
    inputs: Array
    limit: float

    def losses(
        self,
        arrays: Mapping[str, Array],
        fitted: Fitted,
        slots: Array,
        sign: Array,
        removal: Array | None,
    ) -> tuple[Array, ...]:
        """Merge, held and lone losses: (draws, P), (draws, P), (draws, K)."""
        parts = []
        for rows in blocks(self.network, arrays, self.units, len(self.inputs), _MEMORY):
            part = {name: values[rows] for name, values in arrays.items()}
            site = Site.of(self.network, self.units, part, self.inputs, fitted[rows])
            known = site.removal_losses(_MAX_STEPS) if removal is None else removal[rows]
            parts.append(self._block(site, slots, sign[rows], known))
        return joined(parts)

    def _block(self, site: Site, slots: Array, sign: Array, removal: Array) -> tuple[Array, ...]:
        """Losses of one block of draws."""
        every: Array = np.ones(removal.shape, dtype=bool)
        others = [_without(every, k) for k in range(every.shape[1])]
        lone = np.stack([site.refit(w, _MAX_STEPS, held=w) for w in others], axis=1)
        merge, held = np.empty(sign.shape), np.empty(sign.shape)
        for p, (i, j) in enumerate(slots):
            mixed = site.replaced(i, _mixture(site, i, j, sign[:, p]))
            least = np.minimum(removal[:, i], removal[:, j])
            least = self._lowered(least, least >= self.limit, mixed, others[j])
            inside = least < self.limit
            merge[:, p], rest = least, _without(others[i], j)
            least = np.where(inside | site.exact, np.inf, least)
            for place, keep in ((mixed, others[j]), (site, others[j]), (site, others[i])):
                open_ = inside & (least >= self.limit)
                least = self._lowered(least, open_, place, keep, rest)
            held[:, p] = least
        return merge, held, lone

    def _lowered(
        self, loss: Array, wanted: Array, site: Site, keep: Array, held: Array | None = None
    ) -> Array:
        """Lower losses by those of another candidate; only where `wanted`, unless it is cheap."""
        rows = np.flatnonzero(wanted | site.exact)
        if not len(rows):
            return loss
        part = site if len(rows) == len(loss) else site[rows]
        other = part.refit(keep[rows], _MAX_STEPS, None if held is None else held[rows])
        lowered = loss.copy()
        lowered[rows] = np.minimum(loss[rows], other)
        return lowered


def _without(keep: Array, unit: int) -> Array:
    """Take one unit out of a selection."""
    fewer = keep.copy()
    fewer[:, unit] = False
    return fewer


def _mixture(site: Site, i: int, j: int, sign: Array) -> Array:
    """Activations of the mean of two units, weighted by their outgoing weights: (draws, n)."""
    z = site.done.sums[site.units]
    reach = np.linalg.norm(site.weights[:, [i, j]], axis=2)
    total = reach.sum(axis=1, keepdims=True)
    share = np.where(total > 0, reach / np.where(total > 0, total, 1.0), 0.5)
    mean = share[:, :1] * z[:, :, i] + (share[:, 1] * sign)[:, None] * z[:, :, j]
    return site.layer.apply(mean)


# -------------------------------------------------------------------------------- Bayes factors


def _all_closeness(
    space: _Space,
    distance: Array,
    least: Array,
    level: float,
    chains: Array,
    seed: int,
) -> tuple[tuple[tuple[Closeness, ...], ...], tuple[Closeness, ...]]:
    """Closeness of every pair, and of the closest; empty where the prior is not known."""
    closest = space.closest(seed)
    if closest is None:
        return (), ()
    miss = (1 - level) / len(_TAUS)

    def of(d: Array) -> tuple[Closeness, ...]:
        return tuple(_closeness(d, closest, tau, miss, chains, seed) for tau in _TAUS)

    return tuple(of(d) for d in distance.T), of(least)


def _closeness(
    distance: Array, closest: Array, tau: float, miss: float, chains: Array, seed: int
) -> Closeness:
    """Ratio of the probabilities of a pair that close, with the interval of 1 - `miss`."""
    near = distance < tau
    data, prior = float(near.mean()), float((closest < tau).mean())
    size = min(_effective_size(near.astype(float), chains), _effective_size(distance, chains))
    rng = np.random.default_rng(seed)
    n_prior = len(closest)
    above = stats.beta.rvs(
        data * size + 0.5, (1 - data) * size + 0.5, size=_N_RATIOS, random_state=rng
    )
    below = stats.beta.rvs(
        prior * n_prior + 0.5, (1 - prior) * n_prior + 0.5, size=_N_RATIOS, random_state=rng
    )
    low, high = np.quantile(above / below, [miss / 2, 1 - miss / 2])
    factor = (data * size + 0.5) / (size + 1) * (n_prior + 1) / (prior * n_prior + 0.5)
    return Closeness(tau, data, prior, float(factor), float(low), float(high))


def _effective_size(values: Array, chains: Array) -> float:
    """Effective sample size from the means of segments of the chains.

    The number of draws where nothing varies; at least 1, at most the number of draws.
    """
    variance = float(values.var())
    if variance == 0:
        return float(len(values))
    labels = np.unique(chains)
    per_chain = max(2, -(-_LEAST_SEGMENTS // len(labels)))
    means = [
        segment.mean()
        for label in labels
        for segment in np.array_split(values[chains == label], per_chain)
        if len(segment)
    ]
    if len(means) < 2:
        return 1.0
    error = float(np.var(means, ddof=1)) / len(means)
    size = variance / error if error > 0 else len(values)
    return float(np.clip(size, 1.0, len(values)))
