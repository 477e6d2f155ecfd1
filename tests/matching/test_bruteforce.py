"""Law 6: against enumeration of the whole group, on random, planted and real draws.

The losses here are worked out from the arrays themselves, by the definition, and every element of
the group is tried. All comparisons are under one given reference, so that the optimum is defined.
"""

import itertools

import numpy as np
import pytest
import xarray as xr
from files import REPOSITORY
from scipy.optimize import linear_sum_assignment
from strategies import ACTIVATIONS, Net, act

import relabel
from relabel import Spec, Transformation
from relabel.criteria import ToReference
from relabel.groups import group_of
from relabel.groups.elements import Monomial
from relabel.simulate import network

DATA = REPOSITORY / "data"
SAMPLE = ("chain", "draw")


def flat(values, n_lead=2):
    return values.reshape(-1, *values.shape[n_lead:])


def whole_group(size, *, signs):
    """All permutations, and all patterns of signs."""
    perms = np.array(list(itertools.permutations(range(size))))
    patterns = np.array(list(itertools.product((1.0, -1.0), repeat=size if signs else 0)))
    return perms, patterns if signs else np.ones((1, size))


# ---------------------------------------------------------------------- one set of units


def features(weights, activation):
    """All numbers of every unit (draws, K, R), and which of them flip with it."""
    parts = [
        flat(weights["W1"]).swapaxes(1, 2),
        flat(weights["b1"])[..., None],
        flat(weights["W2"]),
    ]
    group = group_of(activation)
    widths = [part.shape[2] for part in parts]
    signed = [group.action(role).signed for role in ("head", "head", "tail")]
    return np.concatenate(parts, axis=2), np.repeat(signed, widths)


def pair_losses(units, slots, signed, standard):
    """Squared distance of every slot, unit and sign (+, -): (draws, K, K, 2)."""
    mean = np.where(signed, 0.0, units.mean(axis=(0, 1)))
    scale = ((units - mean) ** 2).mean(axis=(0, 1)) if standard else np.ones(len(signed))
    flips = np.stack([np.ones(len(signed)), np.where(signed, -1.0, 1.0)])
    moved = units[:, None, :, None, :] * flips
    return ((moved - slots[None, :, None, None, :]) ** 2 / scale).sum(axis=-1)


def enumerate_group(losses, *, signs):
    """Best element, its loss, and per slot the best loss that changes unit or sign."""
    size = losses.shape[1]
    perms, patterns = whole_group(size, signs=signs)
    negative = (patterns < 0).astype(int)
    slots = np.arange(size)
    index, factor, best, other = [], [], [], []
    for one in losses:
        picked = one[slots, perms]  # (perms, K, sign)
        totals = np.zeros((len(perms), len(patterns)))
        for k in slots:
            totals += picked[:, k][:, negative[:, k]]
        p, s = np.unravel_index(totals.argmin(), totals.shape)
        index.append(perms[p])
        factor.append(patterns[s])
        best.append(totals[p, s])
        changed = [
            np.where(
                (perms[:, k] == perms[p, k])[:, None] & (patterns[:, k] == patterns[s, k]),
                np.inf,
                totals,
            ).min()
            for k in slots
        ]
        other.append(changed)
    return np.array(index), np.array(factor), np.array(best), np.array(other)


def check_one_set(aligned, units, slots, activation, signed, *, standard=True):
    """The alignment is the best element of the whole group, in loss, element and margins."""
    signs = group_of(activation).signs
    losses = pair_losses(units, slots, signed, standard)
    index, factor, best, other = enumerate_group(losses, signs=signs)
    own = aligned["relabel"]
    np.testing.assert_allclose(flat(own["loss"].values), best, rtol=1e-10, atol=1e-10)
    assert np.array_equal(flat(own["h1_index"].values), index)
    assert np.array_equal(np.sign(flat(own["h1_factor"].values)), factor)
    margin = flat(own["h1_margin"].values)
    expected = other - best[:, None]
    finite = np.isfinite(expected)
    assert np.array_equal(np.isfinite(margin), finite)
    np.testing.assert_allclose(margin[finite], expected[finite], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("scale", ["pooled", "none"])
def test_one_set_on_unstructured_draws(activation, size, scale):
    rng = np.random.default_rng(size)
    net = Net((size,), (activation,))
    draws = net.store(net.random_weights(rng, (2, 12)))
    if group_of(activation).gauges():  # an alignment brings them to their gauge
        draws = relabel.align(xr.DataTree.from_dict({"posterior": draws}), net.spec)
        draws = draws["posterior"].to_dataset()
    point = {name: draws[name].values[0, 0] for name in draws.data_vars}
    tree = xr.DataTree.from_dict({"posterior": draws})
    aligned = relabel.align(tree, net.spec, criterion=ToReference(net.store(point), scale=scale))
    units, signed = features(net.load(draws), activation)
    check_one_set(aligned, units, units[0], activation, signed, standard=scale == "pooled")


@pytest.mark.parametrize("activation", ["gelu", "tanh", "cos", "sigmoid"])
@pytest.mark.parametrize("size", [5, 6])
def test_one_larger_set_on_unstructured_draws(activation, size):
    rng = np.random.default_rng(size)
    net = Net((size,), (activation,))
    draws = net.store(net.random_weights(rng, (1, 12)))
    point = net.random_weights(rng, ())
    tree = xr.DataTree.from_dict({"posterior": draws})
    aligned = relabel.align(tree, net.spec, criterion=ToReference(net.store(point)))
    units, signed = features(net.load(draws), activation)
    slots = features({k: v[None, None] for k, v in point.items()}, activation)[0][0]
    check_one_set(aligned, units, slots, activation, signed)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_element_applied_to_the_draws_themselves(activation):
    """The score says what really happens when an element is applied."""
    rng = np.random.default_rng(5)
    net = Net((3,), (activation,))
    spec = net.spec
    tree = xr.DataTree.from_dict({"posterior": net.store(net.random_weights(rng, (1, 8)))})
    first = relabel.align(tree, spec)  # brings scales to their gauge
    draws = first["posterior"].to_dataset()
    point = draws.isel(chain=0, draw=3)
    again = xr.DataTree.from_dict({"posterior": draws})
    aligned = relabel.align(again, spec, criterion=ToReference(point, scale="none"))
    perms, patterns = whole_group(3, signs=group_of(activation).signs)
    losses = []
    for index, factor in itertools.product(perms, patterns):
        g = Monomial(*(np.broadcast_to(part, (1, 8, 3)).copy() for part in (index, factor)))
        moved = act(net, Transformation({"h1": g}), draws)
        parts = [
            ((moved[v] - point[v]) ** 2).sum([d for d in moved[v].dims if d not in SAMPLE])
            for v in ("W1", "b1", "W2")
        ]
        losses.append(sum(parts).values)
    found = act(net, Transformation.from_dataset(aligned["relabel"].to_dataset(), ["h1"]), draws)
    xr.testing.assert_allclose(found, aligned["posterior"].to_dataset(), rtol=1e-12)
    np.testing.assert_allclose(aligned["relabel"]["loss"], np.min(losses, axis=0), atol=1e-10)


def test_one_set_on_real_draws():
    tree = xr.open_datatree(DATA / "tanh_shallow.nc", engine="h5netcdf")
    posterior = tree["posterior"].to_dataset().isel(draw=slice(None, None, 5)).load()
    tree.close()
    axes = {"W1": "x -> h1", "b1": "-> h1", "W2": "h1 -> y", "b2": "-> y"}
    spec = Spec({"h1": "tanh"}, axes)
    weights = {name: posterior[name].values for name in axes}
    units, signed = features(weights, "tanh")
    small = xr.DataTree.from_dict({"posterior": posterior})
    point = posterior.isel(chain=2, draw=7)
    aligned = relabel.align(small, spec, criterion=ToReference(point))
    check_one_set(aligned, units, units[2 * posterior.sizes["draw"] + 7], "tanh", signed)
    assert len(np.unique(aligned["relabel"]["h1_index"].values.reshape(-1, 4), axis=0)) > 1


# ---------------------------------------------------------------------- two hidden layers


class TwoLayers:
    """Odd units in two hidden layers: the loss of draws under a reference, by its definition."""

    def __init__(self, weights, point):
        w = {name: flat(values) for name, values in weights.items()}
        over = {"W1": (0, 2), "W2": (0, 1, 2), "W3": (0, 1), "b1": (0, 1), "b2": (0, 1)}
        inverse = {n: 1 / (w[n] ** 2).mean(axis=axis, keepdims=True)[0] for n, axis in over.items()}
        scaled = {n: inverse[n] * point[n] for n in over}
        self.one = np.einsum("txj,xk->tkj", w["W1"], scaled["W1"])
        self.one += scaled["b1"][:, None] * w["b1"][:, None, :]
        self.two = np.einsum("tjy,ky->tkj", w["W3"], scaled["W3"])
        self.two += scaled["b2"][:, None] * w["b2"][:, None, :]
        self.pair, self.mean = w["W2"], scaled["W2"]
        self.constant = sum(
            (inverse[n] * (w[n] ** 2 + point[n] ** 2)).reshape(len(w["W1"]), -1).sum(axis=1)
            for n in over
        )

    def best(self):
        """Least loss of every draw over all pairs of elements."""
        size, size_two = self.one.shape[1], self.two.shape[1]
        perms, patterns = whole_group(size, signs=True)
        perms_two = np.array(list(itertools.permutations(range(size_two))))
        best = np.full(len(self.one), -np.inf)
        for perm, signs in itertools.product(perms, patterns):
            gain = (signs * self.one[:, np.arange(size), perm]).sum(axis=1)
            score = self.two + np.einsum(
                "tkj,kl->tlj", signs[:, None] * self.pair[:, perm], self.mean
            )
            # signs of the second set separate over its slots: each takes the better of its two
            total = np.abs(score)[:, np.arange(size_two), perms_two].sum(axis=2).max(axis=1)
            best = np.maximum(best, gain + total)
        return self.constant - 2 * best

    def ascend(self, sweep=None):
        """Loss of every draw by plain coordinate ascent from the identity, or after a sweep."""
        return np.array([self._ascend(t, sweep) for t in range(len(self.one))])

    def _ascend(self, t, sweep):
        sizes = self.one.shape[1], self.two.shape[1]
        g = [(np.arange(k), np.ones(k)) for k in sizes]
        if sweep is not None:
            g[sweep] = _matched((self.one, self.two)[sweep][t])
            g[1 - sweep] = _matched(self._score(t, g, 1 - sweep))
        last = -np.inf
        while (total := self._total(t, g)) > last + 1e-10:
            last = total
            for side in (0, 1):
                g[side] = _matched(self._score(t, g, side))
        return self.constant[t] - 2 * last

    def _score(self, t, g, side):
        index, sign = g[1 - side]
        if side == 0:
            return self.one[t] + (self.mean * sign) @ self.pair[t][:, index].T
        return self.two[t] + self.mean.T @ (sign[:, None] * self.pair[t][index])

    def _total(self, t, g):
        (p, s), (q, r) = g
        pair = s[:, None] * r * self.pair[t][p][:, q] * self.mean
        own = (s * self.one[t][np.arange(len(p)), p]).sum()
        return own + (r * self.two[t][np.arange(len(q)), q]).sum() + pair.sum()


def _matched(score):
    index = linear_sum_assignment(np.abs(score), maximize=True)[1]
    return index, np.where(score[np.arange(len(index)), index] < 0, -1.0, 1.0)


SPEC = network((3, 4, 4, 1)).spec


def two_layers(kind):
    """Draws, the reference, and inputs."""
    if kind == "real":
        tree = xr.open_datatree(DATA / "tanh_deep.nc", engine="h5netcdf").load()
        tree.close()
        names = list(SPEC.axes)
        draws = tree["posterior"].to_dataset()[names].isel(draw=slice(None, None, 2))
        point = {name: tree["constant_data"][f"true_{name}"].values for name in names}
        return draws, point, tree["constant_data"]["X"].values
    sim = network((3, 4, 4, 1), noise=0.5, draws=125)
    draws, point = sim.data["posterior"].to_dataset(), sim.truth
    if kind == "unstructured":
        rng = np.random.default_rng(11)
        draws = draws.map(lambda v: v.copy(data=rng.normal(size=v.shape)))
        point = {name: rng.normal(size=value.shape) for name, value in point.items()}
    return draws, point, sim.data["constant_data"]["X"].values


@pytest.mark.parametrize("kind", ["unstructured", "planted", "real"])
def test_two_layers_reach_the_optimum(kind, record_testsuite_property):
    draws, point, inputs = two_layers(kind)
    net = TwoLayers({name: draws[name].values for name in draws.data_vars}, point)
    best = net.best()
    starts = [net.ascend(sweep) for sweep in (None, 0, 1)]
    for start in starts:
        assert (start >= best - 1e-9).all()
    reference = xr.Dataset(
        {n: ([f"{n}_dim_{i}" for i in range(v.ndim)], v) for n, v in point.items()}
    )
    tree = xr.DataTree.from_dict({"posterior": draws})
    for given, least in ((inputs, 0.999), (None, 0.99)):
        aligned = relabel.align(tree, SPEC, criterion=ToReference(reference), inputs=given)
        loss = flat(aligned["relabel"]["loss"].values)
        assert (loss >= best - 1e-8).all()
        for start in starts:
            assert (loss <= start + 1e-8).all()
        rate = float((loss <= best + 1e-8).mean())
        record_testsuite_property(
            f"{kind}, {'with' if given is not None else 'without'} inputs", rate
        )
        assert rate >= least
