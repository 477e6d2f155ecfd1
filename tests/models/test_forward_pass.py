"""The forward pass against one written out by hand, and its refusals."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy import special
from strategies import FUNCTIONS, JOINED, N_IN, Net, batches, nets, rngs

from relabel import Spec, SpecError
from relabel.groups import GROUPS, activation_of
from relabel.models.forward_pass import Network

SAMPLE = ("chain", "draw")


def arrays_of(draws):
    """One draw after the other."""
    stacked = {}
    for name in draws.data_vars:
        values = draws[name].transpose(*SAMPLE, ...).values
        stacked[name] = values.reshape(-1, *values.shape[2:])
    return stacked


def dense_layouts(net):
    return net.layout not in JOINED


@given(nets(max_layers=3).filter(dense_layouts), batches, rngs)
def test_outputs(net, batch, rng):
    draws = net.store(net.random_weights(rng, batch))
    resolved = net.spec.bind(draws)
    inputs = rng.normal(size=(6, N_IN))
    found = Network.of(resolved).outputs(resolved.by_part(arrays_of(draws)), inputs)
    expected = net.outputs(draws, inputs)
    assert list(found) == ["y"]
    np.testing.assert_allclose(found["y"].reshape(expected.shape), expected, rtol=1e-9, atol=1e-9)


@given(nets(max_layers=3).filter(dense_layouts), rngs)
def test_activations_of_all_layers(net, rng):
    draws = net.store(net.random_weights(rng, (1, 3)))
    weights = net.load(draws)
    inputs = rng.normal(size=(6, N_IN))
    resolved = net.spec.bind(draws)
    found = Network.of(resolved).activations(resolved.by_part(arrays_of(draws)), inputs)
    assert list(found) == [*net.units, "y"]
    first = inputs @ weights["W1"][0] + weights["b1"][0][:, None]
    np.testing.assert_allclose(found["h1"], FUNCTIONS[net.activations[0]](first), rtol=1e-12)


def test_skip_connections_and_order_of_names():
    """Layers are evaluated after what they read, whatever their names."""
    rng = np.random.default_rng(0)
    shapes = {"A": (2, 3), "B": (3, 4), "C": (2, 4), "D": (4, 1), "E": (3, 1)}
    draws = xr.Dataset(
        {n: ((*SAMPLE, f"{n}0", f"{n}1"), rng.normal(size=(1, 5, *s))) for n, s in shapes.items()}
    )
    axes = {"A": "x -> z", "B": "z -> a", "C": "x -> a", "D": "a -> y", "E": "z -> y"}
    spec = Spec({"z": "tanh", "a": "relu"}, axes)
    network = Network.of(spec.bind(draws))
    w = arrays_of(draws)
    x = rng.normal(size=(7, 2))
    z = np.tanh(x @ w["A"])
    a = np.maximum(z @ w["B"] + x @ w["C"], 0)
    np.testing.assert_allclose(network.outputs(w, x)["y"], a @ w["D"] + z @ w["E"], rtol=1e-12)
    assert [layer.name for layer in network.layers] == ["z", "a", "y"]


def test_several_outputs():
    rng = np.random.default_rng(0)
    net = Net((3,), ("tanh",))
    draws = net.store(net.random_weights(rng, (1, 2)))
    draws["S"] = ((*SAMPLE, "i", "j"), rng.normal(size=(1, 2, 3, 1)))
    spec = Spec(net.units, {**net.spec.axes, "S": "h1 -> s"})
    found = Network.of(spec.bind(draws)).outputs(arrays_of(draws), rng.normal(size=(4, N_IN)))
    assert {name: value.shape for name, value in found.items()} == {"s": (2, 4, 1), "y": (2, 4, 2)}


def test_companions_are_no_weights():
    rng = np.random.default_rng(0)
    net = Net((3,), ("tanh",))
    draws = net.store(net.random_weights(rng, (1, 2)))
    with_tau = draws.assign(tau=((*SAMPLE, "k"), rng.lognormal(size=(1, 2, 3))))
    spec = Spec(net.units, {**net.spec.axes, "tau": "-> h1^0"})
    x = rng.normal(size=(4, N_IN))
    one = Network.of(net.spec.bind(draws)).outputs(arrays_of(draws), x)["y"]
    two = Network.of(spec.bind(with_tau)).outputs(arrays_of(with_tau), x)["y"]
    assert np.array_equal(one, two)


@pytest.mark.parametrize("shape", [(5,), (5, 3), (2, 5, 4), ()])
def test_inputs_of_another_shape_are_refused(shape):
    rng = np.random.default_rng(0)
    net = Net((3,), ("tanh",))
    draws = net.store(net.random_weights(rng, (1, 2)))
    with pytest.raises(SpecError, match=r"reads 4 inputs \('x'\)"):
        Network.of(net.spec.bind(draws)).outputs(arrays_of(draws), np.zeros(shape))


@pytest.mark.parametrize(
    ("units", "axes", "message"),
    [
        ({"h": "tanh"}, {"W": "x -> h", "V": "h -> y", "U": "h -> h"}, "circle"),
        ({"h": "tanh"}, {"W": "x -> h", "V": "h -> y", "U": "u -> h"}, "exactly one"),
        ({"h": "permutation"}, {"W": "x -> h", "V": "h -> y", "U": "_ _"}, "not name one"),
        ({"h": "prelu"}, {"W": "x -> h", "V": "h -> y", "U": "_ _"}, "not name one"),
        ({"h": "gelu"}, {"W": "_ h", "V": "_ h", "U": "_ _"}, "none"),
    ],
)
def test_what_is_no_network(units, axes, message):
    values = np.ones((1, 2, 3, 3))
    draws = xr.Dataset(dict.fromkeys(axes, ((*SAMPLE, "i", "j"), values)))
    with pytest.raises(SpecError, match=message):
        Network.of(Spec(units, axes).bind(draws))


EVALUATED = [name for name in GROUPS if name != "x^d" and activation_of(name).function]


@given(st.sampled_from(sorted(EVALUATED)))
def test_functions_are_finite_everywhere(name):
    z = np.array([-800.0, -30, -1, 0, 1, 30, 800])
    with np.errstate(under="ignore"):
        assert np.isfinite(activation_of(name).function(z)).all()


@pytest.mark.parametrize(
    ("name", "at_one"),
    [
        ("gelu", special.ndtr(1.0)),
        ("silu", special.expit(1.0)),
        ("softplus", np.log1p(np.e)),
        ("mish", np.tanh(np.log1p(np.e))),
        ("selu", 1.0507009873554805),
        ("leaky_relu", 1.0),
        ("softsign", 0.5),
        ("hard_sigmoid", 2 / 3),
        ("x^3", 1.0),
    ],
)
def test_values_at_one(name, at_one):
    assert activation_of(name).function(np.array(1.0)) == pytest.approx(at_one, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "at_minus_two"),
    [("leaky_relu", -0.02), ("elu", np.expm1(-2.0)), ("relu6", 0.0), ("x^3", -8.0), ("abs", 2.0)],
)
def test_values_at_minus_two(name, at_minus_two):
    assert activation_of(name).function(np.array(-2.0)) == pytest.approx(at_minus_two, rel=1e-12)
