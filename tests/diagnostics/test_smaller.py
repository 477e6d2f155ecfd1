"""The nearest network with fewer units, against a general optimiser and planted answers."""

import numpy as np
import pytest
from scipy.optimize import least_squares
from test_redundancy import declared, gaussian, one_layer, random_layer

from relabel.diagnostics.kernels.refit import Site
from relabel.diagnostics.kernels.removal import redundancy
from relabel.diagnostics.kernels.smaller import n_refitted, nearest_loss
from relabel.diagnostics.likelihood import Bernoulli, Fitted


def optimised(x, arrays, keep, sd):
    """Least loss of one draw with the units that stay, all parameters free, from their values."""
    W, b, V, c = (arrays[name][0] for name in "WbVc")
    f = np.tanh(x @ W + b) @ V + c
    shapes = [(W[:, keep], W.shape[0] * keep.sum()), (b[keep], keep.sum()), (V[keep], keep.sum())]
    start = np.concatenate([part.ravel() for part, _ in shapes] + [c])

    def residual(p):
        w, rest = p[: shapes[0][1]].reshape(-1, keep.sum()), p[shapes[0][1] :]
        bias, v, top = rest[: keep.sum()], rest[keep.sum() : -1], rest[-1]
        return ((np.tanh(x @ w + bias) @ v + top) - f[:, 0]) / sd

    return least_squares(residual, start, method="lm", xtol=1e-14, ftol=1e-14).cost


@pytest.mark.parametrize("seed", range(6))
def test_it_comes_near_the_optimum_and_never_below(seed):
    rng = np.random.default_rng(seed)
    network, arrays = random_layer(rng, n_draws=1, n_units=3)
    arrays["V"][0, 2] *= 0.05
    x = rng.normal(size=(60, 2))
    keep = np.array([True, True, False])
    site = Site.of(network, "h", arrays, x, gaussian(1, 0.1))
    found = nearest_loss(site, keep[None], goal=0.0)[0]
    only_read = site.refit(keep[None], 10)[0]
    least = optimised(x, arrays, keep, 0.1)
    assert least * (1 - 1e-6) <= found <= only_read
    assert found - least < 0.1 * (only_read - least) + 1e-6


def test_a_share_of_the_load_is_taken_over():
    """Two units and a third that only mends their shape: the two alone could do it."""
    x = np.linspace(-2, 2, 50)[:, None]
    W, b, V, c = [[[1.0, -0.7]]], [[0.3, 0.9]], [[[1.5], [0.8]]], [[0.1]]
    target = np.tanh(x @ np.array(W[0]) + np.array(b[0])) @ np.array(V[0]) + 0.1
    bent = np.array(W[0]) * 1.15
    rest = target - (np.tanh(x @ bent + np.array(b[0])) @ np.array(V[0]) + 0.1)
    slope = float((rest * x).sum() / (x**2).sum())
    W3 = np.concatenate([bent, [[0.01]]], axis=1)[None]
    V3 = np.concatenate([np.array(V[0]), [[slope / 0.01]]])[None]
    network, arrays = one_layer(W3, np.array([[*b[0], 0.0]]), V3, np.array(c))
    fitted = gaussian(1, 0.001)
    found = redundancy(network, arrays, x, fitted)["h"]
    assert found.removal_loss[0, 2] > found.limit
    assert found.effective_width.tolist() == [2]
    assert "all parameters" in found.how


@pytest.mark.parametrize("family", ["normal", "bernoulli"])
@pytest.mark.parametrize("n_out", [1, 2])
def test_units_that_are_gone_stay_gone(family, n_out):
    rng = np.random.default_rng(3)
    network, arrays = random_layer(rng, n_draws=4, n_units=4, n_out=n_out)
    x = rng.normal(size=(40, 2))
    fitted = gaussian(4) if family == "normal" else Fitted(Bernoulli())
    site = Site.of(network, "h", arrays, x, fitted)
    keep = rng.random((4, 4)) < 0.6
    keep[:, 0] = True
    one = nearest_loss(site, keep, goal=0.0)
    for name, axis in (("W", 1), ("b", 0), ("V", 0)):
        values = np.moveaxis(arrays[name], axis + 1, 1)
        arrays[name] = np.moveaxis(
            np.where(keep.reshape(4, 4, *[1] * (values.ndim - 2)), values, 5.0), 1, axis + 1
        )
    other = Site.of(network, "h", arrays, x, fitted)
    same = Site(**{**other.__dict__, "outputs": site.outputs, "sums": site.sums})
    two = nearest_loss(same, keep, goal=0.0)
    np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-3)
    assert (one <= site.refit(keep, 10) * (1 + 1e-9) + 1e-9).all()


def test_two_hidden_layers_and_both_storages():
    rng = np.random.default_rng(5)
    arrays = {
        "W1": rng.normal(size=(3, 2, 3)),
        "b1": rng.normal(size=(3, 3)),
        "W2": rng.normal(size=(3, 2, 3)),
        "b2": rng.normal(size=(3, 2)),
        "W3": rng.normal(size=(3, 2)),
        "b3": rng.normal(size=3),
    }
    arrays["W2"][:, :, 2] *= 0.1
    axes = {
        "W1": "x -> h1",
        "b1": "-> h1",
        "W2": "h2 <- h1",
        "b2": "-> h2",
        "W3": "h2 ->",
        "b3": "",
    }
    network = declared({"h1": "tanh", "h2": "tanh"}, axes, arrays)
    x = rng.normal(size=(40, 2))
    site = Site.of(network, "h1", arrays, x, gaussian(3, 0.05))
    keep = np.array([[True, True, False]] * 3)
    found = nearest_loss(site, keep, goal=0.0)
    before = site.refit(keep, 10)
    assert (found <= before * (1 + 1e-6)).all()
    assert (found < 0.9 * before).any()
    assert n_refitted(site) == 3 * (2 + 1 + 2) + 2


def test_it_stops_when_the_goal_is_reached_or_out_of_reach():
    rng = np.random.default_rng(6)
    network, arrays = random_layer(rng, n_draws=2, n_units=2)
    x = rng.normal(size=(30, 2))
    site = Site.of(network, "h", arrays, x, gaussian(2))
    keep = np.ones((2, 2), dtype=bool)
    assert nearest_loss(site, keep, goal=1.0).max() < 1e-6
