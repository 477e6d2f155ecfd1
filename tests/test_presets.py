"""The preset of feed-forward networks."""

from itertools import pairwise

import numpy as np
import pytest
import xarray as xr

from relabel.errors import SpecError
from relabel.presets import mlp
from relabel.spec import Spec


def test_one_hidden_layer():
    assert mlp(1, "tanh") == Spec(
        {"h": "tanh"}, {"W1": "x -> h", "b1": "-> h", "W2": "h -> y", "b2": "-> y"}
    )


def test_two_hidden_layers():
    assert mlp(2, activation="tanh") == Spec(
        {"h1": "tanh", "h2": "tanh"},
        {
            "W1": "x -> h1",
            "b1": "-> h1",
            "W2": "h1 -> h2",
            "b2": "-> h2",
            "W3": "h2 -> y",
            "b3": "-> y",
        },
    )


@pytest.mark.parametrize("n_hidden", [1, 2, 3, 12])
@pytest.mark.parametrize("layout", ["(in, out)", "(out, in)"])
def test_any_depth_binds_to_draws(n_hidden, layout):
    sizes = [3, *range(4, 4 + n_hidden), 2]
    variables = {}
    for i, (n_in, n_out) in enumerate(pairwise(sizes), 1):
        shape = (n_in, n_out) if layout == "(in, out)" else (n_out, n_in)
        variables[f"W{i}"] = (("chain", "draw", f"W{i}_0", f"W{i}_1"), np.ones((1, 2, *shape)))
        variables[f"b{i}"] = (("chain", "draw", f"b{i}_0"), np.ones((1, 2, n_out)))
    spec = mlp(n_hidden, "tanh", layout=layout)
    assert list(spec.bind(xr.Dataset(variables)).sizes.values()) == sizes[1:-1]
    other = mlp(n_hidden, "tanh", layout="(out, in)" if layout == "(in, out)" else "(in, out)")
    with pytest.raises(SpecError, match="disagree"):
        other.bind(xr.Dataset(variables))


def test_out_in():
    axes = mlp(2, "relu", layout="(out, in)").axes
    assert [axes[name] for name in ("W1", "W2", "W3")] == ["h1 <- x", "h2 <- h1", "y <- h2"]
    assert [axes[name] for name in ("b1", "b2", "b3")] == ["-> h1", "-> h2", "-> y"]


def test_one_activation_per_layer():
    assert mlp(3, ("relu", "tanh", "gelu")).units == {"h1": "relu", "h2": "tanh", "h3": "gelu"}


def test_without_biases():
    assert mlp(1, "tanh", bias=None).axes == {"W1": "x -> h", "W2": "h -> y"}


def test_some_biases():
    axes = mlp(2, "tanh", bias=["b1", None, "c"]).axes
    assert axes["c"] == "-> y"
    assert list(axes) == ["W1", "b1", "W2", "W3", "c"]


def test_patterns():
    spec = mlp(1, "tanh", weight="layers.{}.w", bias="layers.{}.b", first=0)
    assert spec.axes == {
        "layers.0.w": "x -> h",
        "layers.0.b": "-> h",
        "layers.1.w": "h -> y",
        "layers.1.b": "-> y",
    }


def test_explicit_names():
    spec = mlp(1, "tanh", weight=["W", "V"], bias=["b", "c"])
    assert spec.axes == {"W": "x -> h", "b": "-> h", "V": "h -> y", "c": "-> y"}


def test_gauges_pass_through():
    assert mlp(2, ["relu", "tanh"], gauges={"h1": "unit"}).gauges == {"h1": "unit"}
    with pytest.raises(SpecError, match="no scale to fix"):
        mlp(1, "tanh", gauges={"h": "unit"})


@pytest.mark.parametrize(
    ("arguments", "options", "fragment"),
    [
        ((0, "tanh"), {}, "n_hidden must be 1 or more, not 0"),
        ((-1, "tanh"), {}, "n_hidden must be 1 or more"),
        ((True, "tanh"), {}, "n_hidden must be 1 or more, not True"),
        ((1.0, "tanh"), {}, "n_hidden must be 1 or more, not 1.0"),
        (("tanh", 1), {}, "n_hidden must be 1 or more, not 'tanh'"),
        ((1, "tanhh"), {}, "unknown activation 'tanhh'"),
        ((2, ["tanh"]), {}, "1 activations for 2 hidden layers"),
        ((1, []), {}, "0 activations for 1 hidden layers"),
        ((1, "tanh"), {"layout": "in_out"}, "layout must be '(in, out)' or '(out, in)'"),
        ((1, "tanh"), {"weight": "W"}, "weight='W' is a pattern and needs one '{}'"),
        ((1, "tanh"), {"bias": "b{}{}"}, "bias='b{}{}' is a pattern"),
        ((1, "tanh"), {"weight": ["W"]}, "1 names for weight, but there are 2 layers"),
        ((1, "tanh"), {"bias": ["a", "b", "c"]}, "3 names for bias, but there are 2 layers"),
        ((1, "tanh"), {"weight": ["W", None]}, "every layer needs the name of its weight"),
        ((1, "tanh"), {"weight": ["W", "W"]}, "two variables are named 'W'"),
        ((1, "tanh"), {"bias": "W{}"}, "two variables are named 'W1'"),
    ],
)
def test_errors(arguments, options, fragment):
    with pytest.raises(SpecError) as caught:
        mlp(*arguments, **options)
    assert fragment in str(caught.value)
