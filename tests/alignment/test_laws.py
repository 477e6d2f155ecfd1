"""The laws of the alignment, over all groups, layouts and batch shapes."""

import itertools
import warnings

import numpy as np
import pytest
import xarray as xr
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import ACTIVATIONS, N_IN, SCALED, Net, act, batches, nets, rngs

import relabel
from relabel import Spec, Transformation
from relabel.criteria import Activations, Mean, Normal, Order, ToReference
from relabel.data.provenance import Provenance
from relabel.groups import group_of
from relabel.groups.elements import Monomial
from relabel.matching.features import Problem, aligned_own, aligned_pair
from relabel.matching.solve import solve
from relabel.simulate import network, recovery

SAMPLE = ("chain", "draw")


def tree_of(dataset, **groups):
    return xr.DataTree.from_dict({"posterior": dataset, **groups})


def posterior(tree):
    return tree["posterior"].to_dataset()


def elements(tree, net):
    return Transformation.from_dataset(tree["relabel"].to_dataset(), list(net.units))


def assert_equal(one, two, tolerance=0.0):
    """The same values, in the same layout; bit by bit without a tolerance."""
    assert list(one.data_vars) == list(two.data_vars)
    for name in one.data_vars:
        assert one[name].dims == two[name].dims
        assert one[name].dtype == two[name].dtype
        if tolerance:
            scale = float(np.abs(two[name]).max())
            np.testing.assert_allclose(one[name], two[name], rtol=tolerance, atol=tolerance * scale)
        else:
            assert np.array_equal(one[name].values, two[name].values)


def assert_same_function(net, one, two, rng, tolerance=1e-12):
    inputs = rng.normal(size=(7, N_IN))
    before, after = net.outputs(one, inputs), net.outputs(two, inputs)
    scale = 1 + np.abs(before).max(axis=(2, 3), keepdims=True) + term_size(net, one, inputs)
    assert (np.abs(after - before) <= tolerance * scale).all()


def term_size(net, dataset, inputs):
    """How large the terms are that a network's outputs are sums of: rounding is relative to it."""
    large = abs(dataset)
    sizes = net.outputs(large, np.abs(inputs))
    return np.abs(sizes).max(axis=(2, 3), keepdims=True)


# ---------------------------------------------------------------------- law 2: invariance


@given(nets(), batches, rngs)
def test_any_element_keeps_the_network(net, batch, rng):
    draws = net.store(net.random_weights(rng, batch))
    moved = act(net, net.random_transformation(rng, batch), draws)
    assert_same_function(net, draws, moved, rng)


@given(nets(), batches, rngs)
@settings(max_examples=30)
def test_aligning_keeps_the_network(net, batch, rng):
    draws = net.store(net.random_weights(rng, batch))
    aligned = relabel.align(tree_of(draws), net.spec)
    assert_same_function(net, draws, posterior(aligned), rng)
    assert_equal(act(net, elements(aligned, net), draws), posterior(aligned))


# ---------------------------------------------------------------------- law 3: equivariance


@given(nets(max_layers=1, max_units=5), batches, rngs)
@settings(max_examples=40)
def test_equivariance_on_unstructured_draws(net, batch, rng):
    draws = net.store(net.random_weights(rng, batch))
    criterion = ToReference(net.store(net.random_weights(rng, ())))
    g = net.random_transformation(rng, batch)
    aligned = relabel.align(tree_of(draws), net.spec, criterion=criterion)
    other = relabel.align(tree_of(act(net, g, draws)), net.spec, criterion=criterion)
    assert_equal(posterior(other), posterior(aligned), 0.0 if net.bitwise else 1e-10)
    np.testing.assert_allclose(
        other["relabel"]["loss"], aligned["relabel"]["loss"], rtol=1e-9, atol=1e-9
    )


@given(nets(max_layers=3), batches, rngs)
@settings(max_examples=30)
def test_equivariance_of_deep_networks(net, batch, rng):
    point = net.random_weights(rng, ())
    draws = net.store(net.scattered(rng, point, batch, 0.05))
    criterion = ToReference(net.store(point))
    g = net.random_transformation(rng, batch)
    aligned = relabel.align(tree_of(draws), net.spec, criterion=criterion)
    other = relabel.align(tree_of(act(net, g, draws)), net.spec, criterion=criterion)
    assert_equal(posterior(other), posterior(aligned), 0.0 if net.bitwise else 1e-10)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("switching", ["draw", "chain"])
def test_what_was_planted_is_found(activation, switching):
    """Without a given reference: up to one global relabelling."""
    sim = network((3, 4, 3, 2), activation, noise=0.1, draws=20, switching=switching)
    aligned = relabel.align(sim.data, sim.spec)
    assert recovery(aligned["relabel"], sim.planted) == {"h1": 1.0, "h2": 1.0, "draws": 1.0}


@pytest.mark.parametrize(
    ("names", "seed"),
    [(("tanh", "relu"), 0), (("sigmoid", "abs"), 1), (("cos", "sigmoid"), 2), (("x^3", "gelu"), 3)],
)
def test_mixed_activations_without_noise(names, seed):
    sim = network((3, 4, 4, 2), names, noise=0.0, rng=seed, draws=10)
    aligned = relabel.align(sim.data, sim.spec)
    assert recovery(aligned["relabel"], sim.planted)["draws"] == 1.0
    for name in sim.truth:
        spread = posterior(aligned)[name].std(SAMPLE)
        assert float(spread.max()) < 1e-9


@pytest.mark.parametrize("activation", ["gelu", "tanh", "relu"])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_networks_without_biases(activation, depth):
    """A middle layer without biases has no features of its own."""
    sim = network((3, *[3] * depth, 2), activation, noise=0.02, draws=10, biases=False)
    aligned = relabel.align(sim.data, sim.spec)
    assert recovery(aligned["relabel"], sim.planted)["draws"] == 1.0


# ---------------------------------------------------------------------- laws 4 and 5


@given(nets(), batches, st.sampled_from([0.1, 0.5]), rngs)
@settings(max_examples=40)
def test_aligned_draws_stay_as_they_are(net, batch, noise, rng):
    point = net.random_weights(rng, ())
    draws = net.store(net.scattered(rng, point, batch, noise))
    draws = act(net, net.random_transformation(rng, batch), draws)
    once = relabel.align(tree_of(draws), net.spec)
    twice = relabel.align(once, net.spec)
    scaled = set(net.activations) & set(SCALED)
    assert_equal(posterior(twice), posterior(once), 1e-10 if scaled else 0.0)
    for units in net.units:
        index = f"{units}_index"
        assert np.array_equal(once["relabel"][index], twice["relabel"][index])


@pytest.mark.parametrize("seed", range(4))
def test_aligned_draws_stay_as_they_are_however_diffuse(seed):
    """Where there are many optima, the one that was found is kept."""
    sim = network((3, 4, 4, 1), "tanh", noise=1.5, chains=2, draws=10, rng=seed)
    once = relabel.align(sim.data, sim.spec)
    twice = relabel.align(once, sim.spec)
    assert_equal(posterior(twice), posterior(once))


@given(nets(max_layers=1), batches, rngs)
def test_unstructured_draws_stay_as_they_are_too(net, batch, rng):
    criterion = ToReference(net.store(net.random_weights(rng, ())))
    draws = net.store(net.random_weights(rng, batch))
    once = relabel.align(tree_of(draws), net.spec, criterion=criterion)
    twice = relabel.align(once, net.spec, criterion=criterion)
    assert_equal(
        posterior(twice), posterior(once), 1e-10 if set(net.activations) & set(SCALED) else 0
    )


@given(nets(), batches, st.integers(1, 2), rngs)
@settings(max_examples=30)
def test_undo(net, batch, times, rng):
    draws = net.store(net.random_weights(rng, batch))
    tree = tree_of(draws)
    aligned = tree
    for seed in range(times):
        point = net.store(net.random_weights(np.random.default_rng(seed), ()))
        aligned = relabel.align(aligned, net.spec, criterion=ToReference(point))
    back = relabel.undo(aligned)
    assert set(back.children) == {"posterior"}
    assert_equal(posterior(back), draws, 0.0 if net.bitwise else 1e-11)


# ---------------------------------------------------------------------- law 7: monotone loss


@given(nets(), st.sampled_from(["mean", "normal", "full"]), rngs)
@settings(max_examples=40)
def test_the_loss_never_rises(net, kind, rng):
    draws = net.store(net.random_weights(rng, (2, 15)))
    criterion = {"mean": Mean(), "normal": Normal(), "full": Normal(covariance="full")}[kind]
    notes = Provenance.of(relabel.align(tree_of(draws), net.spec, criterion=criterion)).as_dict()
    losses = np.array(notes["losses"])
    assert (np.diff(losses) <= 1e-9 * np.abs(losses[:-1])).all()


@pytest.mark.parametrize("noise", [0.0, 1e-14, 1e-12, 1e-10, 1e-8, 1e-6])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_draws_that_hardly_differ(noise, activation):
    """All of the loss is rounding: that is no reason to fail."""
    for seed in range(3):
        sim = network((2, 4, 4, 1), activation, noise=noise, draws=12, rng=seed)
        for criterion in (Mean(), Normal()):
            aligned = relabel.align(sim.data, sim.spec, criterion=criterion)
            assert recovery(aligned["relabel"], sim.planted)["draws"] == 1.0
            assert (aligned["relabel"]["loss"] >= 0).all() or not criterion.is_distance


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("noise", [0.0, 1e-12, 1e-9, 1e-6])
def test_gaussian_of_draws_that_hardly_differ(activation, noise):
    for seed in range(6):
        sim = network((4, 4, 2, 2), activation, noise=noise, chains=1, draws=5, rng=seed)
        aligned = relabel.align(sim.data, sim.spec, criterion=Normal(covariance="full"))
        assert recovery(aligned["relabel"], sim.planted)["draws"] == 1.0


@pytest.mark.parametrize("offset", [1e2, 1e5, 1e7, 1e9])
@pytest.mark.parametrize("spread", [0.1, 1.5])
def test_draws_far_from_zero(offset, spread):
    """Components that lie far from zero are told apart as they would be near it."""
    rng = np.random.default_rng(0)
    truth = np.array([[0.0, 0], [3, 1], [6, -2]])
    clean = truth + spread * rng.normal(size=(2, 100, 3, 2))
    index = rng.permuted(np.tile(np.arange(3), (2, 100, 1)), axis=-1)
    values = np.take_along_axis(clean, index[..., None], axis=2)
    values = (values * 2**10).round() / 2**10  # so that adding the offset rounds nothing
    near, far = (
        relabel.align(
            xr.Dataset({"mu": ((*SAMPLE, "component", "dim"), values + add)}),
            {"component": "permutation"},
            criterion=ToReference({"chain": 0, "draw": 0}),
        )
        for add in (0.0, offset)
    )
    assert np.array_equal(near["relabel_component_index"], far["relabel_component_index"])
    np.testing.assert_allclose(far["relabel_loss"], near["relabel_loss"], rtol=1e-4, atol=1e-4)
    data = xr.Dataset({"mu": ((*SAMPLE, "component", "dim"), values + offset)})
    losses = Provenance.of(relabel.align(data, {"component": "permutation"})).losses
    assert (np.diff(losses) <= 1e-6 * losses[0]).all()


@given(
    st.lists(st.sampled_from(["gelu", "tanh", "cos", "sigmoid"]), min_size=1, max_size=2),
    st.integers(2, 4),
    rngs,
)
@settings(max_examples=40)
def test_every_draw_is_at_its_best_under_the_final_reference(names, size, rng):
    """Also where nothing was gained over the labels as they came: no single set can be bettered."""
    net = Net((size,) * len(names), tuple(names))
    draws = net.store(net.random_weights(rng, (1, 5)))
    solution, problem = solved(net, draws, Mean())
    for units in net.units:
        margin = margins_by_definition(solution, problem, units)
        assert (margin >= -1e-9).all()
        np.testing.assert_allclose(solution.margin[units], margin, rtol=1e-8, atol=1e-8)


def test_labels_that_are_kept_for_their_lower_loss_are_at_their_best_too():
    """Where the loop ends above the labels as they came, it must go on from these."""
    net = Net((3,), ("cos",))
    for seed in range(150):
        rng = np.random.default_rng(seed)
        draws = net.store(net.scattered(rng, net.random_weights(rng, ()), (1, 3), 1.0))
        solution, problem = solved(net, draws, Mean())
        assert (margins_by_definition(solution, problem, "h1") >= -1e-9).all()


def solved(net, draws, criterion, *, block_size=None, row=0, **options):
    """Solve the draws of a network with the loop itself."""
    arrays = {
        name: (v := draws[name].transpose(*SAMPLE, ...).values).reshape(-1, *v.shape[2:])
        for name in draws.data_vars
    }
    problem = Problem(net.spec.bind(draws), arrays, block_size=block_size)
    chain = np.repeat(np.arange(draws.sizes["chain"]), draws.sizes["draw"])
    return solve(problem, criterion, problem.draw(row), chain=chain, **options), problem


def margins_by_definition(solution, problem, units):
    """Loss of the best element of one set that changes a slot, less the loss that was found."""
    layout, reference = problem.layout, solution.reference
    size, signs = layout.sizes[units], layout.groups[units].signs
    block = problem.block(0)
    patterns = list(itertools.product((1.0, -1.0) if signs else (1.0,), repeat=size))
    here = solution.elements[units]
    base = loss_by_definition(block, layout, reference, solution.elements)
    best = np.full((len(block), size), np.inf)
    for perm, pattern in itertools.product(itertools.permutations(range(size)), patterns):
        g = Monomial(*(np.tile(part, (len(block), 1)) for part in (perm, pattern)))
        loss = loss_by_definition(block, layout, reference, solution.elements | {units: g}) - base
        changed = (g.index != here.index) | (g.factor != here.factor)
        best = np.where(changed, np.minimum(best, loss[:, None]), best)
    return best


def loss_by_definition(block, layout, reference, elements):
    """Weighted squared distance of the aligned features from the reference."""
    total = 0.0
    for units in layout.sizes:
        aligned = aligned_own(block, layout, units, elements[units])
        squares = (aligned - reference.own[units]) ** 2 * reference.weight[units]
        total = total + squares.sum(axis=(1, 2))
    for number, weight in enumerate(reference.pair_weight):
        aligned = aligned_pair(block, layout, number, elements)
        total = total + weight * ((aligned - reference.pairs[number]) ** 2).sum(axis=(1, 2, 3))
    return total


# ---------------------------------------------------------------------- law 8: lazy and blocks


@given(nets(), st.integers(1, 3), st.integers(2, 5), st.booleans(), rngs)
@settings(max_examples=10)
def test_lazy_equals_eager(net, chains, draws_per_chunk, core, rng):
    draws = net.store(net.random_weights(rng, (3, 5)))
    chunks = {"chain": chains, "draw": draws_per_chunk}
    if core:
        chunks |= dict.fromkeys(set(draws.dims) - set(SAMPLE), 1)
    eager = relabel.align(tree_of(draws), net.spec)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lazy = relabel.align(tree_of(draws.chunk(chunks)), net.spec)
    for variable in posterior(lazy).data_vars.values():
        assert variable.chunks is not None
    tolerance = 0.0 if net.bitwise else 1e-12  # chunks lie in memory as they like
    assert_equal(posterior(lazy).compute(), posterior(eager), tolerance)
    assert_equal(posterior(relabel.undo(lazy)).compute(), posterior(relabel.undo(eager)), tolerance)
    for name, values in eager["relabel"].data_vars.items():
        np.testing.assert_allclose(lazy["relabel"][name], values, rtol=1e-9, atol=1e-9)


@given(nets(max_layers=3), st.sampled_from([1, 2, 7, 16, 1000]), st.sampled_from([0, 3]), rngs)
def test_any_block_size_gives_the_same(net, block_size, n_random, rng):
    draws = net.store(net.random_weights(rng, (2, 20)))
    found = [
        solved(net, draws, Mean(), block_size=size, row=3, n_random=n_random, rng=5)[0]
        for size in (None, block_size)
    ]
    one, two = found
    for units in net.units:
        assert one.elements[units].equals(two.elements[units]).all()
        np.testing.assert_allclose(one.margin[units], two.margin[units], rtol=1e-6, atol=1e-8)
    assert np.array_equal(one.start, two.start)
    np.testing.assert_allclose(one.loss, two.loss, rtol=1e-9)


def test_the_seed_decides_and_nothing_else():
    sim = network((2, 4, 4, 4, 1), noise=1.0, draws=15)
    first, again = (relabel.align(sim.data, sim.spec, n_random=3, rng=4) for _ in range(2))
    xr.testing.assert_identical(first["relabel"].to_dataset(), again["relabel"].to_dataset())


# ---------------------------------------------------------------------- what comes along


def test_label_values_follow_by_the_inverse():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, size=30)
    clean = np.array([0.0, 4.0, 9.0]) + 0.1 * rng.normal(size=(2, 25, 3))
    index = rng.permuted(np.tile(np.arange(3), (2, 25, 1)), axis=-1)
    names = np.argsort(index, axis=-1)  # where each unit went
    draws = xr.Dataset(
        {
            "mu": ((*SAMPLE, "component"), np.take_along_axis(clean, index, axis=-1)),
            "z": ((*SAMPLE, "obs"), names[..., truth].astype("int16")),
        }
    )
    spec = Spec({"component": "permutation"}, {"mu": "component"}, {"z": "component"})
    for data in (draws, draws.chunk({"draw": 4, "obs": 7})):
        aligned = relabel.align(data, spec)
        assert aligned["z"].dtype == "int16"
        means = np.take_along_axis(aligned["mu"].values, aligned["z"].values.astype(int), axis=-1)
        assert (means.std(axis=(0, 1)) < 0.2).all()
        assert (aligned["z"].values == aligned["z"].values[0, 0]).all()
        assert_equal(relabel.undo(aligned).compute(), draws)


def test_labels_do_not_change_what_is_found():
    """The same draws under other labels end in the same place, allocations included."""
    rng = np.random.default_rng(3)
    clean = xr.Dataset(
        {
            "mu": ((*SAMPLE, "c"), rng.normal(size=(2, 15, 4))),
            "z": ((*SAMPLE, "obs"), rng.integers(0, 4, size=(2, 15, 9))),
        }
    )
    spec = Spec({"c": "permutation"}, {"mu": "c"}, {"z": "c"})
    net = Net((4,), ("gelu",))
    first = relabel.align(clean, spec, criterion="normal")  # allocations of noise have ties
    for _ in range(5):
        g = Transformation({"c": net.random_transformation(rng, (2, 15)).elements["h1"]})
        moved = g.apply({"posterior": clean}, spec.bind(clean))["posterior"]
        again = relabel.align(moved, spec, criterion="normal")
        assert float(again["relabel_loss"].sum()) == pytest.approx(
            float(first["relabel_loss"].sum()), rel=1e-9
        )


def test_warmup_and_deterministics_come_along():
    sim = network((2, 4, 1), noise=0.05, draws=20)
    whole = posterior(sim.data)
    warm, kept = whole.isel(draw=slice(0, 5)), whole.isel(draw=slice(5, None))
    kept = kept.assign_coords(draw=np.arange(15))
    h = np.tanh(kept["W1"].values.swapaxes(2, 3) @ np.ones(2) + kept["b1"].values)
    tree = xr.DataTree.from_dict(
        {
            "posterior": kept,
            "warmup_posterior": warm,
            "activations": xr.Dataset({"a": ((*SAMPLE, "unit"), h)}, {"draw": np.arange(15)}),
            "observed_data": xr.Dataset({"t": ("obs", np.arange(3.0))}),
            "prior": kept.copy(),
        }
    )
    spec = Spec(sim.spec.units, {**sim.spec.axes, "activations/a": "h"})
    aligned = relabel.align(tree, spec)
    new = aligned["posterior"]
    expected = np.tanh(new["W1"].values.swapaxes(2, 3) @ np.ones(2) + new["b1"].values)
    np.testing.assert_allclose(aligned["activations"]["a"], expected, rtol=1e-12)
    assert float(aligned["warmup_posterior"]["W1"].std(SAMPLE).max()) < 0.2
    joined = np.concatenate([aligned["warmup_posterior"]["W1"].values, new["W1"].values], axis=1)
    assert joined.std(axis=(0, 1)).max() < 0.2
    assert_equal(aligned["prior"].to_dataset(), tree["prior"].to_dataset())
    back = relabel.undo(aligned)
    assert set(back.children) == set(tree.children)
    for name in tree.children:
        assert_equal(back[name].to_dataset(), tree[name].to_dataset())


def test_companions_are_permuted_or_squared():
    rng = np.random.default_rng(0)
    net = Net((4,), ("tanh",))
    draws = net.store(net.random_weights(rng, (2, 10)))
    tau = rng.lognormal(size=(2, 10, 4))
    draws["tau"], draws["V"] = ((*SAMPLE, "k"), tau), ((*SAMPLE, "k"), tau**2)
    spec = Spec(net.units, {**net.spec.axes, "tau": "h1^0", "V": "-> h1^2"})
    aligned = relabel.align(tree_of(draws), spec)
    assert (aligned["relabel"]["h1_factor"] < 0).any()
    index = aligned["relabel"]["h1_index"].values
    assert np.array_equal(aligned["posterior"]["tau"], np.take_along_axis(tau, index, axis=-1))
    assert np.array_equal(aligned["posterior"]["V"], np.take_along_axis(tau**2, index, axis=-1))


@pytest.mark.parametrize("gauge", ["balanced", "unit"])
def test_squared_companions_do_not_disturb_the_gauge(gauge):
    """A variance carries the square of the scale; the gauge is the same wherever it starts."""
    rng = np.random.default_rng(0)
    net = Net((3,), ("relu",), gauge=gauge)
    draws = net.store(net.random_weights(rng, (2, 10)))
    draws["V"] = ((*SAMPLE, "k"), rng.lognormal(size=(2, 10, 3)))
    spec = Spec(net.units, {**net.spec.axes, "V": "-> h1^2"}, gauges={"h1": gauge})
    scale = net.random_transformation(rng, (2, 10))
    moved = scale.apply({"posterior": draws}, spec.bind(draws))["posterior"]
    point = ToReference(draws.isel(chain=0, draw=0))
    one, two = (relabel.align(tree_of(d), spec, criterion=point) for d in (draws, moved))
    assert_equal(posterior(two), posterior(one), 1e-10)


@pytest.mark.parametrize("gauge", ["balanced", "unit"])
@pytest.mark.parametrize("degree", [1, 2, 3])
def test_aligned_draws_are_in_their_gauge(gauge, degree):
    rng = np.random.default_rng(degree)
    name = {1: "relu", 2: "square", 3: "x^3"}[degree]
    net = Net((4, 3), (name, name), gauge=gauge)
    draws = net.store(net.random_weights(rng, (2, 5)))
    new = posterior(relabel.align(tree_of(draws), net.spec))
    w = {k: v.values for k, v in new.data_vars.items()}
    for i in (1, 2):
        incoming = (w[f"W{i}"] ** 2).sum(axis=-2) + w[f"b{i}"] ** 2
        outgoing = (w[f"W{i + 1}"] ** 2).sum(axis=-1)
        target = degree * outgoing if gauge == "balanced" else 1.0
        np.testing.assert_allclose(incoming, target * np.ones_like(incoming), rtol=1e-10)


def hidden_markov(rng, n_states, batch=(2, 30), noise=0.02):
    """Transition matrices and means of one mode, with states permuted."""
    truth = rng.dirichlet(np.ones(n_states), size=n_states)
    clean_p = truth + noise * rng.normal(size=(*batch, n_states, n_states))
    clean_mu = np.linspace(0, 1, n_states) + noise * rng.normal(size=(*batch, n_states))
    index = rng.permuted(np.tile(np.arange(n_states), (*batch, 1)), axis=-1)
    p = np.take_along_axis(clean_p, index[..., :, None], axis=-2)
    p = np.take_along_axis(p, index[..., None, :], axis=-1)
    mu = np.take_along_axis(clean_mu, index, axis=-1)
    return xr.Dataset({"P": ((*SAMPLE, "a", "b"), p), "mu": ((*SAMPLE, "s"), mu)}), index


@pytest.mark.parametrize("axes", ["state state", "state -> state"])
@pytest.mark.parametrize("seed", range(4))
def test_two_sided_axes(axes, seed):
    draws, index = hidden_markov(np.random.default_rng(seed), 4)
    spec = Spec({"state": "permutation"}, {"P": axes, "mu": "state"})
    aligned = relabel.align(tree_of(draws), spec)
    for name in ("P", "mu"):
        assert float(aligned["posterior"][name].std(SAMPLE).max()) < 0.1
    found = aligned["relabel"]["state_index"].values
    composed = np.take_along_axis(index, found, axis=-1)
    assert (composed == composed[0, 0]).all()
    assert_equal(posterior(relabel.undo(aligned)), draws)
    losses = np.array(Provenance.of(aligned).losses)
    assert (np.diff(losses) <= 0).all()


def test_units_on_both_sides_have_no_margin():
    """Their gain is not linear in the labels: rather none than one that promises too much."""
    draws, _ = hidden_markov(np.random.default_rng(1), 4)
    point = draws.isel(chain=1, draw=4)
    spec = Spec({"state": "permutation"}, {"P": "state state", "mu": "state"})
    aligned = relabel.align(tree_of(draws), spec, criterion=ToReference(point, scale="none"))
    assert np.isnan(aligned["relabel"]["state_margin"].values).all()


def test_recurrent_odd_units():
    """h -> h: rows and columns flip and move together."""
    rng = np.random.default_rng(0)
    truth = {
        "W": rng.normal(size=(2, 4)),
        "U": rng.normal(size=(4, 4)),
        "V": rng.normal(size=(4, 1)),
    }
    clean = xr.Dataset(
        {
            k: ((*SAMPLE, f"{k}0", f"{k}1"), v + 0.05 * rng.normal(size=(2, 20, *v.shape)))
            for k, v in truth.items()
        }
    )
    spec = Spec({"h": "tanh"}, {"W": "x -> h", "U": "h -> h", "V": "h -> y"})
    g = Transformation(
        {"h": Net((4,), ("tanh",)).random_transformation(rng, (2, 20)).elements["h1"]}
    )
    draws = g.apply({"posterior": clean}, spec.bind(clean))["posterior"]
    states = [np.zeros((2, 20, 4)), np.zeros((2, 20, 4))]
    for x in rng.normal(size=(5, 2)):
        for i, d in enumerate((clean, draws)):
            total = x @ d["W"].values + (states[i][..., None, :] @ d["U"].values)[..., 0, :]
            states[i] = np.tanh(total)
    one, two = (
        (s[..., None, :] @ d["V"].values) for s, d in zip(states, (clean, draws), strict=True)
    )
    np.testing.assert_allclose(one, two, rtol=1e-10, atol=1e-13)
    aligned = relabel.align(tree_of(draws), spec)
    assert recovery(aligned["relabel"], g)["draws"] == 1.0


def brute_force_two_sided(draws, point):
    """Least loss of every draw of a hidden Markov model over all permutations of its states."""
    p, mu = (draws[n].values.reshape(-1, *draws[n].shape[2:]) for n in ("P", "mu"))
    best = np.full(len(p), np.inf)
    for perm in itertools.permutations(range(mu.shape[1])):
        moved = p[:, perm][:, :, perm]
        loss = ((moved - point["P"].values) ** 2).sum(axis=(1, 2))
        loss += ((mu[:, perm] - point["mu"].values) ** 2).sum(axis=1)
        best = np.minimum(best, loss)
    return best


def test_two_sided_axes_reach_the_optimum():
    draws, _ = hidden_markov(np.random.default_rng(9), 4, noise=0.15)
    point = draws.isel(chain=1, draw=4)
    spec = Spec({"state": "permutation"}, {"P": "state state", "mu": "state"})
    criterion = ToReference(point, scale="none")
    aligned = relabel.align(tree_of(draws), spec, criterion=criterion)
    loss = aligned["relabel"]["loss"].values.reshape(-1)
    best = brute_force_two_sided(draws, point)
    np.testing.assert_allclose(loss, best, atol=1e-10)
    new = posterior(aligned)
    direct = ((new["P"] - point["P"]) ** 2).sum(("a", "b")) + ((new["mu"] - point["mu"]) ** 2).sum(
        "s"
    )
    np.testing.assert_allclose(direct.values.reshape(-1), loss, atol=1e-10)


# ---------------------------------------------------------------------- other criteria


@given(st.sampled_from([n for n in ACTIVATIONS if n not in ("cos", "abs", "square")]), rngs)
def test_activations_do_not_depend_on_labels(activation, rng):
    sim = network((2, 3, 3, 1), activation, noise=0.05, draws=6, rng=int(rng.integers(99)))
    x = sim.data["constant_data"]["X"].values
    aligned = relabel.align(sim.data, sim.spec, criterion=Activations(), inputs=x)
    other = relabel.align(tree_of(sim.clean), sim.spec, criterion=Activations(), inputs=x)
    one, two = (t["relabel"]["loss"].sum() for t in (aligned, other))
    assert float(one) == pytest.approx(float(two), rel=1e-6)


@given(st.sampled_from(["gelu", "tanh", "cos", "sigmoid"]), batches, rngs)
def test_order_is_a_canonical_form(activation, batch, rng):
    net = Net((4,), (activation,))
    draws = net.store(net.random_weights(rng, batch))
    g = net.random_transformation(rng, batch)
    criterion = Order(var_names="b1")
    one = relabel.align(tree_of(draws), net.spec, criterion=criterion)
    two = relabel.align(tree_of(act(net, g, draws)), net.spec, criterion=criterion)
    assert_equal(posterior(two), posterior(one), 1e-10)
    b1 = one["posterior"]["b1"].values
    assert (np.diff(b1) >= 0).all()
    if group_of(activation).signs:
        assert (b1 >= 0).all()


@given(nets(max_layers=1), rngs)
def test_the_given_point_is_its_own_best(net, rng):
    """The loss of the reference itself is zero, and it is not moved."""
    assume(not set(net.activations) & set(SCALED))
    draws = net.store(net.random_weights(rng, (2, 4)))
    criterion = ToReference({"chain": 1, "draw": 2})
    aligned = relabel.align(tree_of(draws), net.spec, criterion=criterion)
    here = {"chain": 1, "draw": 2}
    assert float(aligned["relabel"]["loss"].isel(here)) == pytest.approx(0, abs=1e-9)
    assert_equal(posterior(aligned).isel(here), draws.isel(here), 1e-12)


# ---------------------------------------------------------------------- law 10: honesty


def relative_margin(tree, units):
    margin = tree["relabel"][f"{units}_margin"].min(units)
    return float((margin / abs(tree["relabel"]["loss"])).median())


@pytest.mark.parametrize("activation", ["gelu", "tanh", "relu", "sigmoid"])
def test_margins_of_pure_noise_are_small(activation):
    """Where there is nothing to find, the worst margin of a draw is near zero beside its loss."""
    noise, signal = (network((3, 6, 2), activation, noise=s, draws=60, rng=2) for s in (1e6, 0.05))
    by_mean = [relabel.align(sim.data, sim.spec, criterion="mean") for sim in (noise, signal)]
    assert relative_margin(by_mean[0], "h") < 0.15
    assert relative_margin(by_mean[1], "h") > 1.0
    found = [relabel.align(sim.data, sim.spec)["relabel"]["h_margin"] for sim in (noise, signal)]
    assert float(found[0].min("h").median()) < 2.0  # in nats: odds of 7 to 1
    assert float(found[1].min("h").median()) > 20.0


@pytest.mark.parametrize("hidden", [(4,), (4, 4)])
def test_pure_noise_is_not_recovered(hidden):
    sim = network((3, *hidden, 2), "tanh", noise=1e6, draws=60)
    share = recovery(relabel.align(sim.data, sim.spec)["relabel"], sim.planted)
    assert share["draws"] < 0.2
