"""Removal losses against refits written out by hand; planted redundancy of every kind."""

import numpy as np
import pytest
import xarray as xr
from scipy import optimize, special

from relabel import Spec, SpecError, simulate
from relabel.diagnostics.kernels.refit import Site, masked_inverse
from relabel.diagnostics.kernels.removal import KINDS, Redundancy, redundancy
from relabel.diagnostics.kernels.smaller import nearest_loss
from relabel.diagnostics.likelihood import Bernoulli, Fitted, Normal, family_of
from relabel.models.forward_pass import Network

SAMPLE = ("chain", "draw")
ACTIVATIONS = {
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "sigmoid": special.expit,
    "softplus": lambda z: np.logaddexp(0, z),
}


def one_layer(W, b, V, c, activation="tanh"):
    """Network and arrays of draws (T, n_in, K), (T, K), (T, K, m), (T, m)."""
    arrays = {"W": W, "b": b, "V": V, "c": c}
    arrays = {n: np.asarray(v, dtype=float) for n, v in arrays.items() if v is not None}
    axes = {"W": "x -> h", "b": "-> h", "V": "h -> y", "c": "-> y"}
    return declared({"h": activation}, {n: axes[n] for n in arrays}, arrays), arrays


def declared(units, axes, arrays):
    names = {n: [f"{n}{i}" for i in range(v.ndim - 1)] for n, v in arrays.items()}
    draws = xr.Dataset({n: ((*SAMPLE, *names[n]), v[None]) for n, v in arrays.items()})
    return Network.of(Spec(units, axes).bind(draws))


def random_layer(rng, n_draws=3, n_in=2, n_units=4, n_out=1, activation="tanh"):
    return one_layer(
        rng.normal(size=(n_draws, n_in, n_units)),
        rng.normal(size=(n_draws, n_units)),
        rng.normal(size=(n_draws, n_units, n_out)),
        rng.normal(size=(n_draws, n_out)),
        activation,
    )


def gaussian(n_draws, sd=0.3):
    return Fitted(Normal(), {"scale": np.full((n_draws, 1), sd)})


def least(fitted, f, design, start):
    """Least divergence of f from design @ U, by a general optimiser."""
    f = f[None]

    def value(u):
        return fitted.kl(f, (design @ u.reshape(design.shape[1], -1))[None])[0]

    found = optimize.minimize(value, start.ravel(), method="BFGS", options={"gtol": 1e-7})
    return found.fun


# ---------------------------------------------------------------- losses


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("n_out", [1, 3])
def test_gaussian_losses_are_least_squares(activation, n_out):
    rng = np.random.default_rng(0)
    network, arrays = random_layer(rng, n_out=n_out, activation=activation)
    x = rng.normal(size=(30, 2))
    sd = np.array([[0.1], [0.2], [0.5]])
    found = redundancy(network, arrays, x, Fitted(Normal(), {"scale": sd}))["h"]
    for t in range(3):
        a = ACTIVATIONS[activation](x @ arrays["W"][t] + arrays["b"][t])
        f = a @ arrays["V"][t] + arrays["c"][t]
        for k in range(4):
            design = np.column_stack([np.delete(a, k, axis=1), np.ones(30)])
            rest = f - design @ np.linalg.lstsq(design, f, rcond=None)[0]
            loss = np.square(rest).sum() / (2 * sd[t, 0] ** 2)
            np.testing.assert_allclose(found.removal_loss[t, k], loss, rtol=1e-6, atol=1e-9)
    assert found.n_parameters == 3 + n_out


def test_noise_of_each_output_counts():
    rng = np.random.default_rng(1)
    network, arrays = random_layer(rng, n_out=2)
    x = rng.normal(size=(30, 2))
    fitted = Fitted(Normal(), {"scale": np.tile([0.1, 0.4], (3, 1))})
    both = redundancy(network, arrays, x, fitted)["h"]
    parts = 0
    for m, sd in enumerate((0.1, 0.4)):
        V, c = arrays["V"][:, :, m : m + 1], arrays["c"][:, m : m + 1]
        alone, single = one_layer(arrays["W"], arrays["b"], V, c)
        parts = parts + redundancy(alone, single, x, gaussian(3, sd))["h"].removal_loss
    np.testing.assert_allclose(both.removal_loss, parts, rtol=1e-8)


def test_no_bias_is_refitted_where_there_is_none():
    rng = np.random.default_rng(2)
    W, b, V = rng.normal(size=(2, 2, 3)), rng.normal(size=(2, 3)), rng.normal(size=(2, 3, 1))
    network, arrays = one_layer(W, b, V, None)
    x = rng.normal(size=(30, 2))
    found = redundancy(network, arrays, x, gaussian(2))["h"].removal_loss
    a = np.tanh(x @ W[0] + b[0])
    design = a[:, 1:]
    f = a @ V[0]
    rest = f - design @ np.linalg.lstsq(design, f, rcond=None)[0]
    np.testing.assert_allclose(found[0, 0], np.square(rest).sum() / (2 * 0.09), rtol=1e-6)


@pytest.mark.parametrize(("family", "n_out"), [("bernoulli", 1), ("categorical", 3)])
def test_classification_losses_are_the_least(family, n_out):
    rng = np.random.default_rng(3)
    network, arrays = random_layer(rng, n_draws=2, n_units=3, n_out=n_out)
    x, fitted = rng.normal(size=(40, 2)), Fitted(family_of(family))
    found = redundancy(network, arrays, x, fitted)["h"].removal_loss
    for t in range(2):
        a = np.tanh(x @ arrays["W"][t] + arrays["b"][t])
        f = a @ arrays["V"][t] + arrays["c"][t]
        for k in range(3):
            design = np.column_stack([np.delete(a, k, axis=1), np.ones(40)])
            best = least(fitted, f, design, np.zeros((3, n_out)))
            assert best - 1e-6 <= found[t, k] <= best * 1.02 + 0.02


@pytest.mark.parametrize("family", ["normal", "bernoulli"])
def test_deep_losses_are_local_optima_of_networks(family):
    """An upper bound by construction; a general optimiser does not find much better ones."""
    rng = np.random.default_rng(4)
    draws = simulate.network((2, 3, 3, 1), "tanh", chains=1, draws=2, rng=5)
    data = draws.data["posterior"].to_dataset()
    network = Network.of(draws.spec.bind(data))
    arrays = {n: data[n].values[0] * 2 for n in draws.spec.axes}
    x = rng.normal(size=(40, 2))
    fitted = gaussian(2, 0.3) if family == "normal" else Fitted(family_of(family))
    found = redundancy(network, arrays, x, fitted)
    for t in range(2):
        w = {n: v[t] for n, v in arrays.items()}
        a = np.tanh(x @ w["W1"] + w["b1"])
        f = np.tanh(a @ w["W2"] + w["b2"]) @ w["W3"] + w["b3"]
        for k in range(3):
            design = np.column_stack([np.delete(a, k, axis=1), np.ones(40)])

            def value(u, design=design, w=w, f=f, t=t):
                g = np.tanh(design @ u.reshape(3, 3)) @ w["W3"] + w["b3"]
                return fitted[t : t + 1].kl(f[None], g[None])[0]

            start = np.vstack([np.delete(w["W2"], k, axis=0), w["b2"]]).ravel()
            best = optimize.minimize(value, start, method="BFGS").fun
            assert found["h1"].removal_loss[t, k] <= best * 1.05 + 1.0  # of a limit of 6
        a2 = np.tanh(a @ w["W2"] + w["b2"])
        for k in range(3):
            design = np.column_stack([np.delete(a2, k, axis=1), np.ones(40)])
            best = least(fitted[t : t + 1], f, design, np.zeros((3, 1)))
            np.testing.assert_allclose(found["h2"].removal_loss[t, k], best, rtol=0.02, atol=0.02)
    assert "upper bounds" in found["h1"].how


def test_wide_readers_are_refitted_by_least_squares():
    """Still exact where a unit is redundant, and never worse than the plain fit of the sums."""
    draws = simulate.network((2, 12, 12, 1), "tanh", chains=1, draws=2, rng=5)
    data = draws.data["posterior"].to_dataset()
    network = Network.of(draws.spec.bind(data))
    arrays = {n: data[n].values[0].copy() for n in draws.spec.axes}
    arrays["W1"][:, :, 1], arrays["b1"][:, 1] = arrays["W1"][:, :, 0], arrays["b1"][:, 0]
    x = np.random.default_rng(0).normal(size=(40, 2))
    site = Site.of(network, "h1", arrays, x, gaussian(2, 0.1))
    assert site.wide
    found = site.removal_losses(10)
    assert (found[:, :2] < 1e-6).all()
    for k in range(2, 12):
        keep = np.ones((2, 12), dtype=bool)
        keep[:, k] = False
        plain = site.plain.solve(keep)
        assert (found[:, k] <= site.loss(plain) + 1e-9).all()
    how = redundancy(network, arrays, x, gaussian(2, 0.1))["h1"].how
    assert "weighted least squares" in how


def test_certain_classes_do_no_harm():
    """Where all probabilities are 0 or 1 to the last bit, the metric vanishes."""
    rng = np.random.default_rng(0)
    network, arrays = random_layer(rng)
    arrays["V"] = arrays["V"] * 1e4
    found = redundancy(network, arrays, rng.normal(size=(20, 2)), Fitted(Bernoulli()))["h"]
    assert np.isfinite(found.removal_loss).all()


def test_several_readers_and_skip_connections():
    rng = np.random.default_rng(6)
    shapes = {"A": (2, 3), "a": (3,), "B": (3, 2), "C": (3, 1), "D": (2, 1), "d": (1,)}
    arrays = {n: rng.normal(size=(2, *s)) for n, s in shapes.items()}
    axes = {"A": "x -> z", "a": "-> z", "B": "z -> u", "C": "z -> y", "D": "u -> y", "d": "-> y"}
    network = declared({"z": "tanh", "u": "tanh"}, axes, arrays)
    x = rng.normal(size=(40, 2))
    found = redundancy(network, arrays, x, gaussian(2))
    assert found["z"].n_parameters == 2 + 1 + 3
    w = {n: v[0] for n, v in arrays.items()}
    z = np.tanh(x @ w["A"] + w["a"])
    f = z @ w["C"] + np.tanh(z @ w["B"]) @ w["D"] + w["d"]

    def value(u):
        g = z[:, 1:] @ u[:2, None] + np.tanh(z[:, 1:] @ u[2:6].reshape(2, 2)) @ w["D"] + u[6]
        return np.square(f - g).sum() / (2 * 0.09)

    start = np.concatenate([w["C"][1:].ravel(), w["B"][1:].ravel(), w["d"]])
    best = optimize.minimize(value, start, method="BFGS").fun
    np.testing.assert_allclose(found["z"].removal_loss[0, 0], best, rtol=0.05)


def test_a_masked_inverse_is_that_of_the_part():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(5, 20, 4))
    gram, mask = a.swapaxes(1, 2) @ a, rng.random((5, 4)) < 0.7
    found = masked_inverse(gram, mask)
    for t in range(5):
        part = np.ix_(mask[t], mask[t])
        np.testing.assert_allclose(found[t][part], np.linalg.inv(gram[t][part]), rtol=1e-9)
        assert not found[t][~mask[t]].any()


# ---------------------------------------------------------------- planted redundancy


def planted(seed=0, n_draws=20, noise=0.02):
    """Two units that matter, and room for planted ones: W (T, 2, K) etc. as lists of units."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-2, 2, size=(80, 2))
    units = [((1.5, -0.5), 0.3, 2.0), ((-0.4, 1.2), -0.6, -1.5)]

    def build(*extra, activation="tanh"):
        every = [*units, *extra]
        jitter = noise * rng.normal(size=(n_draws, 2, 2))
        W = np.tile(np.array([u[0] for u in every]).T, (n_draws, 1, 1))
        W[:, :, :2] += jitter
        b = np.tile([u[1] for u in every], (n_draws, 1))
        V = np.tile(np.array([[u[2]] for u in every]), (n_draws, 1, 1))
        return one_layer(W, b, V, np.full((n_draws, 1), 0.4), activation)

    return x, build


def test_nothing_is_spare_where_every_unit_matters():
    x, build = planted()
    found = redundancy(*build(), x, gaussian(20, 0.1))["h"]
    assert found.n_spare == 0
    assert found.spare == found.spare_alone == []
    assert (found.effective_width == 2).all()


@pytest.mark.parametrize(
    ("kind", "activation", "unit"),
    [
        ("dead", "tanh", ((1.0, 1.0), 0.5, 1e-6)),
        ("dead", "relu", ((1.0, 1.0), -9.0, 2.0)),
        ("constant", "tanh", ((1e-9, 0.0), 0.5, 2.0)),
        ("constant", "sigmoid", ((1e-9, 0.0), 1.5, 2.0)),
        ("linear", "tanh", ((0.05, 0.05), 0.0, 1.0)),
        ("linear", "relu", ((0.3, 0.4), 9.0, 1.0)),
        ("saturated", "tanh", ((400.0, 300.0), 11.0, 1.0)),
        ("saturated", "sigmoid", ((400.0, 300.0), 11.0, 1.0)),
        ("active", "relu", ((0.5, 1.0), 0.1, 1.0)),
    ],
)
def test_kinds(kind, activation, unit):
    x, build = planted()
    found = redundancy(*build(unit, activation=activation), x, gaussian(20, 0.1))["h"]
    assert {KINDS[code] for code in found.kind[:, 2]} == {kind}
    assert found.kind_shares[kind][2] == 1.0
    if kind in ("dead", "constant"):
        assert found.spare == [2]
        assert (found.removal_loss[:, 2] < 1e-3).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_exact_duplicates_lose_nothing(sign):
    """Copies share a load: each can go alone, but only one of them."""
    x, build = planted(noise=0.0)
    copy = (tuple(sign * w for w in (1.5, -0.5)), sign * 0.3, 0.7)
    found = redundancy(*build(copy), x, gaussian(20, 0.1))["h"]
    assert (found.removal_loss[:, [0, 2]] < 1e-6).all()
    assert (found.removal_loss[:, 1] > 100).all()
    assert found.spare_alone == [0, 2]
    assert (found.effective_width == 2).all()
    assert found.n_spare == len(found.spare) == 1


def test_large_weights_that_cancel():
    x, build = planted(noise=0.0)
    pair = [((0.7, 0.7), 0.1, 1e3), ((0.7, 0.7), 0.1, -1e3)]
    found = redundancy(*build(*pair), x, gaussian(20, 0.1))["h"]
    assert (found.removal_loss[:, 2:] > -1e-9).all()
    assert (found.effective_width == 2).all()
    assert found.spare == [2, 3]


def test_duplicates_in_deep_networks():
    draws = simulate.network((2, 3, 3, 1), "tanh", chains=1, draws=4, noise=0.0, rng=5)
    data = draws.clean
    network = Network.of(draws.spec.bind(data))
    arrays = {n: 2 * data[n].values[0] for n in draws.spec.axes}
    arrays["W1"][:, :, 2], arrays["b1"][:, 2] = -arrays["W1"][:, :, 0], -arrays["b1"][:, 0]
    x = np.random.default_rng(0).normal(size=(60, 2))
    found = redundancy(network, arrays, x, gaussian(4, 0.01))
    assert (found["h1"].removal_loss[:, [0, 2]] < 1e-4).all()
    assert found["h1"].n_spare == 1
    assert found["h2"].n_spare == 0


def test_all_units_may_go():
    x, build = planted()
    found = redundancy(*build(), x, gaussian(20, 1e3))["h"]
    assert (found.effective_width == 0).all()
    np.testing.assert_array_equal(found.width_pmf, [1, 0, 0])
    assert found.spare == [0, 1]


def test_shared_loads_are_not_counted_twice():
    """Three copies, each of them eliminated in two thirds of the draws: two are spare."""
    out = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [0, 1, 1, 0]] * 10, dtype=bool)
    loss = np.where([True, True, True, False], 0.0, 99.0) * np.ones((30, 1))
    found = Redundancy("h", loss, np.zeros((30, 4)), out, 4, 4.7, None, "")
    assert found.spare_alone == [0, 1, 2]
    assert found.likely_width == found.median_width == 2
    assert found.spare == [0, 1]
    np.testing.assert_array_equal(found.width_pmf, [0, 0, 1, 0, 0])


def test_equally_likely_widths_count_as_the_larger():
    out = np.array([[True, False], [False, False]] * 5)
    found = Redundancy("h", np.zeros((10, 2)), np.zeros((10, 2)), out, 4, 4.7, None, "")
    assert found.likely_width == 2
    assert found.n_spare == 0
    assert found.spare == []


def test_elimination_totals_stay_below_their_limit():
    """The units that stay explain the draw; one more may go only if more than V is refitted."""
    rng = np.random.default_rng(7)
    network, arrays = random_layer(rng, n_draws=30, n_units=5)
    x, fitted = rng.normal(size=(25, 2)), gaussian(30, 0.6)
    found = redundancy(network, arrays, x, fitted)["h"]
    assert len(np.unique(found.effective_width)) > 1
    for t in range(30):
        a = np.tanh(x @ arrays["W"][t] + arrays["b"][t])
        f = a @ arrays["V"][t]

        def loss(keep, a=a, f=f):
            design = np.column_stack([a[:, keep], np.ones(25)])
            rest = f - design @ np.linalg.lstsq(design, f, rcond=None)[0]
            return np.square(rest).sum() / (2 * 0.36)

        keep, greedy = ~found.eliminated[t], np.ones(5, dtype=bool)
        for gone in range(1, 6):
            trials = [(loss(np.where(np.arange(5) == k, False, greedy)), k) for k in range(5)]
            total, k = min(trial for trial in trials if greedy[trial[1]])
            if total >= fitted.limit(4 * gone):
                break
            greedy[k] = False
        if greedy.sum() == keep.sum():
            np.testing.assert_array_equal(keep, greedy)
        else:
            assert not (keep & ~greedy).any()
            site = Site.of(network, "h", {n: v[[t]] for n, v in arrays.items()}, x, fitted[[t]])
            limit = float(fitted.limit(4 * found.eliminated[t].sum()))
            assert nearest_loss(site, keep[None], limit)[0] < limit


# ---------------------------------------------------------------- laws


@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid"])
@pytest.mark.parametrize("sizes", [(2, 4, 1), (2, 3, 3, 1)])
def test_nothing_depends_on_labels_signs_or_scales(activation, sizes):
    planted_draws = simulate.network(sizes, activation, chains=1, draws=6, rng=1)
    resolved = planted_draws.spec.bind(planted_draws.clean)
    network = Network.of(resolved)
    x = planted_draws.data["constant_data"]["X"].values
    names = list(planted_draws.spec.axes)
    fitted = gaussian(6, 0.05)
    found = []
    for data in (planted_draws.clean, planted_draws.data["posterior"].to_dataset()):
        arrays = {n: data[n].values[0] for n in names}
        found.append(redundancy(network, arrays, x, fitted))
    for units, element in planted_draws.planted.elements.items():
        clean, moved = found[0][units], found[1][units]
        index = element.index[0]
        exact = network.readers(units)[0].name == "y"
        expected = np.take_along_axis(clean.removal_loss, index, axis=1)
        close = {"rtol": 1e-5, "atol": 1e-3} if exact else {"rtol": 0.1, "atol": 1.0}
        np.testing.assert_allclose(moved.removal_loss, expected, **close)
        np.testing.assert_array_equal(moved.kind, np.take_along_axis(clean.kind, index, axis=1))
        np.testing.assert_array_equal(moved.effective_width, clean.effective_width)
        if moved.proximate is not None and activation == "tanh":
            np.testing.assert_array_equal(moved.proximate.rank[:, 0], clean.proximate.rank[:, 0])


def test_blocks_do_not_matter():
    rng = np.random.default_rng(8)
    network, arrays = random_layer(rng, n_draws=9)
    x = rng.normal(size=(25, 2))
    whole = redundancy(network, arrays, x, gaussian(9))["h"]
    parts = redundancy(network, arrays, x, gaussian(9), memory=2**15)["h"]
    np.testing.assert_allclose(whole.removal_loss, parts.removal_loss, rtol=1e-9)
    np.testing.assert_array_equal(whole.eliminated, parts.eliminated)


def test_inputs_are_thinned_and_scaled_up():
    rng = np.random.default_rng(9)
    network, arrays = random_layer(rng)
    x = rng.normal(size=(4000, 2))
    whole = redundancy(network, arrays, x, gaussian(3), max_inputs=4000)["h"]
    thinned = redundancy(network, arrays, x, gaussian(3))["h"]
    np.testing.assert_allclose(thinned.removal_loss, whole.removal_loss, rtol=0.2)


def test_proximate_rank():
    """One dead, one constant and two merging units fall away one by one as epsilon grows."""
    W = [[[2.0, 2.05, 1.0, 1e-3, -3.0]]]
    b = [[0.0, 0.0, 1.0, 5.0, 0.0]]
    V = [[[1.0], [1.0], [0.02], [4.0], [2.0]]]
    network, arrays = one_layer(W, b, V, [[0.0]])
    x = np.linspace(-1, 1, 20)[:, None]
    grid = [1e-4, 2e-3, 0.03, 0.06, 10.0]
    found = redundancy(network, arrays, x, gaussian(1), epsilon=grid)["h"].proximate
    np.testing.assert_array_equal(found.rank, [[5, 4, 3, 2, 0]])
    assert found.quantiles().shape == (3, 5)


def test_proximate_rank_of_units_with_two_incoming_weights():
    """Units are near only if both are: the distance is over the entries of both arrays."""
    W, U = [[[2.0, 2.0, 1.0]]], [[[0.0, 0.5, 4.0]]]
    arrays = {"W": W, "U": U, "V": [[[100.0], [100.0], [100.0]]]}
    arrays = {name: np.array(values) for name, values in arrays.items()}
    network = declared({"h": "tanh"}, {"W": "x -> h", "U": "x -> h", "V": "h -> y"}, arrays)
    x, grid = np.linspace(-1, 1, 20)[:, None], [0.4, 0.6, 1.9, 2.5, 4.1]
    found = redundancy(network, arrays, x, gaussian(1), epsilon=grid)["h"].proximate
    np.testing.assert_array_equal(found.rank, [[3, 2, 2, 1, 0]])
    swapped = {"W": arrays["U"], "U": arrays["W"], "V": arrays["V"]}
    again = redundancy(network, swapped, x, gaussian(1), epsilon=grid)["h"].proximate
    np.testing.assert_array_equal(again.rank, found.rank)


def test_proximate_rank_of_units_that_cancel():
    W, b = [[[2.0, -2.0]]], [[0.5, -0.5]]
    network, arrays = one_layer(W, b, [[[1.0], [1.0]]], [[0.0]])
    x = np.linspace(-1, 1, 20)[:, None]
    found = redundancy(network, arrays, x, gaussian(1), epsilon=[1e-6])["h"]
    assert found.proximate.rank[0, 0] == 0
    assert (found.effective_width == 0).all()


def test_bad_inputs():
    network, arrays = random_layer(np.random.default_rng(0))
    with pytest.raises(SpecError, match="inputs have the shape"):
        redundancy(network, arrays, np.zeros(4), gaussian(3))
    with pytest.raises(SpecError, match="reads 2 inputs"):
        redundancy(network, arrays, np.zeros((4, 3)), gaussian(3))
