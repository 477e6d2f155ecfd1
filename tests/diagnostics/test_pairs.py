"""Planted copies are found and told from spare units; losses against refits by hand."""

import numpy as np
import pytest
import xarray as xr
from test_redundancy import gaussian, one_layer, planted, random_layer

from relabel import Spec, SpecError, simulate
from relabel.diagnostics.kernels.removal import redundancy
from relabel.diagnostics.kernels.unit_pairs import pairs, prior_draws
from relabel.diagnostics.likelihood import Bernoulli, Fitted
from relabel.models.forward_pass import Network


def residual(f, design):
    rest = f - design @ np.linalg.lstsq(design, f, rcond=None)[0]
    return np.square(rest).sum()


def test_merge_losses_are_least_squares():
    rng = np.random.default_rng(0)
    network, arrays = random_layer(rng, n_out=2)
    x = rng.normal(size=(40, 2))
    found = pairs(network, arrays, x, gaussian(3))["h"]
    for p, (i, j) in enumerate(found.slots):
        for t in range(3):
            w = np.vstack([arrays["W"][t], arrays["b"][t]])
            s = 1 if np.sum((w[:, i] - w[:, j]) ** 2) <= np.sum((w[:, i] + w[:, j]) ** 2) else -1
            reach = np.linalg.norm(arrays["V"][t], axis=1)
            mean = (reach[i] * w[:, i] + s * reach[j] * w[:, j]) / (reach[i] + reach[j])
            one = np.column_stack([x, np.ones(40)])
            a = np.tanh(one @ w)
            f = a @ arrays["V"][t]
            rest = np.delete(a, [i, j], axis=1)
            news = [np.tanh(one @ v)[:, None] for v in (w[:, i], w[:, j], mean)]
            merge = min(residual(f, np.hstack([rest, new, one[:, 2:]])) for new in news)
            both = a[:, [i, j]] @ arrays["V"][t][[i, j]]
            held = min(residual(both, np.hstack([new, one[:, 2:]])) for new in news)
            same = np.sign(found.same_sign[t, p] - 0.5)
            assert same == np.sign(s * arrays["V"][t][i] @ arrays["V"][t][j])
            np.testing.assert_allclose(found.merge_loss[t, p], merge / 0.18, rtol=1e-5)
            np.testing.assert_allclose(found.held_loss[t, p], held / 0.18, rtol=1e-5)


def test_distances_in_prior_units():
    rng = np.random.default_rng(1)
    network, arrays = random_layer(rng)
    x = rng.normal(size=(40, 2))
    found = pairs(network, arrays, x, gaussian(3), priors={"W": 2.0, "b": 0.5})["h"]
    own = np.concatenate([arrays["W"] / 2, arrays["b"][:, None] / 0.5], axis=1)
    for p, (i, j) in enumerate(found.slots):
        same, other = own[:, :, i] - own[:, :, j], own[:, :, i] + own[:, :, j]
        least = np.minimum(np.linalg.norm(same, axis=1), np.linalg.norm(other, axis=1))
        np.testing.assert_allclose(found.distance[:, p], least)
    a = np.tanh(x @ arrays["W"][0] + arrays["b"][0])
    i, j = found.slots[0]
    np.testing.assert_allclose(found.correlation[0, 0], np.corrcoef(a[:, i], a[:, j])[0, 1])
    assert (np.diff(np.median(found.distance, axis=0)) >= 0).all()


@pytest.mark.parametrize(
    ("sign", "outgoing", "kind"),
    [(1, 0.7, "split"), (1, -0.7, "cancelling"), (-1, -0.7, "split"), (-1, 0.7, "cancelling")],
)
def test_a_planted_copy(sign, outgoing, kind):
    x, build = planted(noise=0.0)
    copy = (tuple(sign * w for w in (1.5, -0.5)), sign * 0.3, outgoing)
    found = pairs(*build(copy), x, gaussian(20, 0.1))["h"]
    assert [(p.slots, p.kind) for p in found.duplicated] == [((0, 2), kind)]
    assert found.slots[0].tolist() == [0, 2]
    assert (found.distance[:, 0] < 1e-12).all()
    assert abs(abs(found.pairs[0].correlation) - 1) < 1e-9


def test_three_copies_are_three_pairs():
    x, build = planted(noise=0.0)
    copies = [((1.5, -0.5), 0.3, 0.7), ((-1.5, 0.5), -0.3, 0.6)]
    found = pairs(*build(*copies), x, gaussian(20, 0.1))["h"]
    assert sorted(p.slots for p in found.duplicated) == [(0, 2), (0, 3), (2, 3)]


def test_units_that_cancel_altogether_are_copies():
    x, build = planted(noise=0.0)
    pair = [((0.7, 0.7), 0.1, 3.0), ((0.7, 0.7), 0.1, -3.0)]
    found = pairs(*build(*pair), x, gaussian(20, 0.1))["h"]
    assert [(p.slots, p.kind) for p in found.duplicated] == [((2, 3), "cancelling")]


@pytest.mark.parametrize(
    "extra", [((1.5, -0.5), 0.3, 1e-6), ((1e-9, 0.0), 0.5, 2.0), ((0.6, 0.8), 0.0, 1e-3)]
)
def test_a_spare_unit_is_mergeable_but_no_copy(extra):
    """A dead unit beside a live one, even with its weights: spare, not duplicated."""
    x, build = planted(noise=0.0)
    found = pairs(*build(extra), x, gaussian(20, 0.1))["h"]
    assert found.duplicated == []
    assert any(p.mergeable == 1.0 for p in found.pairs)


def ramps(w, b, v):
    """ReLU units in one dimension, five draws alike."""
    W, V = np.tile([w], (5, 1, 1)), np.tile(np.transpose([v]), (5, 1, 1))
    return one_layer(W, np.tile(b, (5, 1)), V, np.zeros((5, 1)), "relu")


def test_a_unit_that_two_others_make_up_for_is_no_copy():
    """x = max(x, 0) - max(-x, 0): any of the three can go, but no one unit is like another."""
    network, arrays = ramps([1.0, -1.0, 1.0], [0.0, 0.0, 9.0], [1.0, 1.5, 2.0])
    x = np.linspace(-2, 2, 60)[:, None]
    found = redundancy(network, arrays, x, gaussian(5, 0.1))["h"]
    assert found.spare_alone == [0, 1, 2]
    assert found.n_spare == 1
    compared = pairs(network, arrays, x, gaussian(5, 0.1))["h"]
    assert all(p.mergeable == 1.0 for p in compared.pairs)
    assert compared.duplicated == []


def test_two_linear_units_are_one():
    """However far apart their weights are: the sum of two lines is a line."""
    network, arrays = ramps([1.0, 0.3, -2.0], [0.0, 5.0, 9.0], [1.0, 1.5, 2.0])
    x = np.linspace(-2, 2, 60)[:, None]
    found = pairs(network, arrays, x, gaussian(5, 0.1))["h"]
    assert [p.slots for p in found.duplicated] == [(1, 2)]


def test_copies_in_deep_networks_and_classification():
    draws = simulate.network((2, 3, 3, 1), "tanh", chains=1, draws=4, noise=0.0, rng=5)
    network = Network.of(draws.spec.bind(draws.clean))
    arrays = {n: 2 * draws.clean[n].values[0] for n in draws.spec.axes}
    arrays["W1"][:, :, 2], arrays["b1"][:, 2] = -arrays["W1"][:, :, 0], -arrays["b1"][:, 0]
    x = np.random.default_rng(0).normal(size=(100, 2))
    for fitted in (gaussian(4, 0.01), Fitted(Bernoulli(), weight=1e4)):
        found = pairs(network, arrays, x, fitted)
        assert [p.slots for p in found["h1"].duplicated] == [(0, 2)]
        assert found["h2"].duplicated == []


def test_removal_losses_may_be_given():
    rng = np.random.default_rng(0)
    network, arrays = random_layer(rng)
    x = rng.normal(size=(40, 2))
    removal = {u: r.removal_loss for u, r in redundancy(network, arrays, x, gaussian(3)).items()}
    one = pairs(network, arrays, x, gaussian(3))["h"]
    two = pairs(network, arrays, x, gaussian(3), removal_loss=removal)["h"]
    np.testing.assert_array_equal(one.merge_loss, two.merge_loss)


def test_the_nearest_pairs_are_taken():
    rng = np.random.default_rng(0)
    network, arrays = random_layer(rng, n_units=6)
    x = rng.normal(size=(40, 2))
    every = pairs(network, arrays, x, gaussian(3))["h"]
    some = pairs(network, arrays, x, gaussian(3), max_pairs=4, max_draws=2)["h"]
    np.testing.assert_array_equal(some.slots, every.slots[:4])
    np.testing.assert_array_equal(some.rows, [0, 2])
    np.testing.assert_allclose(some.merge_loss, every.merge_loss[[0, 2], :4], rtol=1e-9)


# ---------------------------------------------------------------- Bayes factors


def prior_layer(n_draws, pull=0.0, seed=0):
    """Draws of a prior with unit scale, the second unit pulled towards the first."""
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(n_draws, 3, 3))
    own[:, 1] += pull * (own[:, 0] - own[:, 1])
    v, c = rng.normal(size=(n_draws, 3, 1)), rng.normal(size=(n_draws, 1))
    return one_layer(own[:, :, :2].swapaxes(1, 2), own[:, :, 2], v, c)


def test_the_prior_itself_is_no_evidence():
    network, arrays = prior_layer(2000)
    x = np.random.default_rng(0).normal(size=(30, 2))
    found = pairs(
        network,
        arrays,
        x,
        gaussian(2000),
        priors={"W": 1.0, "b": 1.0},
        chains=np.arange(2000) // 500,
    )["h"]
    assert all(c.low < 1 for p in found.pairs for c in p.closeness)
    assert all(c.low < 1 < c.high for c in found.closest)
    closest = found.pairs[0].closeness[-1]
    assert closest.data < closest.prior
    assert found.duplicated == []


@pytest.mark.parametrize("how", ["declared", "drawn"])
def test_units_brought_together_by_the_data(how):
    network, arrays = prior_layer(2000, pull=0.99)
    x = np.random.default_rng(0).normal(size=(30, 2))
    prior = {n: v for n, v in prior_layer(4000, seed=1)[1].items() if n in ("W", "b")}
    known = {"priors": {"W": 1.0, "b": 1.0}} if how == "declared" else {"prior": prior}
    found = pairs(network, arrays, x, gaussian(2000, 0.1), **known)["h"]
    (copy,) = found.duplicated
    assert copy.slots == (0, 1)
    assert copy.closeness[0].low > 1
    assert found.closest[0].data >= copy.closeness[0].data
    assert copy.closeness[0].low < copy.closeness[0].factor < copy.closeness[0].high
    again = pairs(network, arrays, x, gaussian(2000, 0.1), **known)["h"]
    assert again.closeness == found.closeness


def test_units_with_a_scale_have_no_bayes_factor():
    rng = np.random.default_rng(0)
    network, arrays = random_layer(rng, activation="relu")
    x = rng.normal(size=(40, 2))
    found = pairs(network, arrays, x, gaussian(3), priors={"W": 1.0, "b": 1.0})["h"]
    assert found.closeness == ()
    assert "scale of their own" in found.how


def test_priors_that_do_not_fit():
    network, arrays = random_layer(np.random.default_rng(0))
    with pytest.raises(SpecError, match="none for 'b'"):
        pairs(network, arrays, np.zeros((4, 2)), gaussian(3), priors={"W": 1.0})
    with pytest.raises(SpecError, match="positive sd"):
        pairs(network, arrays, np.zeros((4, 2)), gaussian(3), priors={"W": 1.0, "b": 0.0})


def test_the_group_prior():
    rng = np.random.default_rng(0)
    dims = ("chain", "draw")
    prior = xr.Dataset(
        {"W": ((*dims, "x", "h"), rng.normal(size=(1, 50, 2, 3))), "V": (dims, np.ones((1, 50)))}
    )
    posterior = xr.Dataset(
        {
            "W": ((*dims, "x", "h"), rng.normal(size=(2, 5, 2, 3))),
            "V": ((*dims, "h"), rng.normal(size=(2, 5, 3))),
        }
    )
    network = Network.of(Spec({"h": "tanh"}, {"W": "x -> h", "V": "h ->"}).bind(posterior))
    assert prior_draws({"prior": prior}, network)["W"].shape == (50, 2, 3)
    assert prior_draws({}, network) is None
    assert prior_draws({"prior": prior[["V"]]}, network) is None
