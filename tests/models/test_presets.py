"""Presets: feed-forward networks, mixtures, hidden Markov, topic and factor models."""

from itertools import pairwise

import numpy as np
import pytest
import xarray as xr

import relabel
from relabel.errors import SpecError
from relabel.models import factor_model, hmm, mixture, mlp, topic_model
from relabel.spec.spec import Spec


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
@pytest.mark.parametrize("naming", ["flax", "torch"])
def test_any_depth_binds_to_draws(n_hidden, naming):
    sizes = [3, *range(4, 4 + n_hidden), 2]
    variables = {}
    for i, (n_in, n_out) in enumerate(pairwise(sizes), 1):
        shape = (n_in, n_out) if naming == "flax" else (n_out, n_in)
        variables[f"W{i}"] = (("chain", "draw", f"W{i}_0", f"W{i}_1"), np.ones((1, 2, *shape)))
        variables[f"b{i}"] = (("chain", "draw", f"b{i}_0"), np.ones((1, 2, n_out)))
    spec = mlp(n_hidden, "tanh", naming=naming)
    assert list(spec.bind(xr.Dataset(variables)).sizes.values()) == sizes[1:-1]
    other = mlp(n_hidden, "tanh", naming="torch" if naming == "flax" else "flax")
    with pytest.raises(SpecError, match="disagree"):
        other.bind(xr.Dataset(variables))


def test_out_in():
    axes = mlp(2, "relu", naming="torch").axes
    assert [axes[name] for name in ("W1", "W2", "W3")] == ["h1 <- x", "h2 <- h1", "y <- h2"]
    assert [axes[name] for name in ("b1", "b2", "b3")] == ["-> h1", "-> h2", "-> y"]


def test_integers_of_numpy_are_integers():
    assert mlp(np.int64(3), "tanh", first=np.int8(0)) == mlp(3, "tanh", first=0)


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
        ((0, "tanh"), {}, "mlp: n_hidden must be a positive integer, not 0"),
        ((-1, "tanh"), {}, "n_hidden must be a positive integer, not -1"),
        ((True, "tanh"), {}, "n_hidden must be a positive integer, not True"),
        ((1.0, "tanh"), {}, "n_hidden must be a positive integer, not 1.0"),
        (("tanh", 1), {}, "n_hidden must be a positive integer, not 'tanh'"),
        ((1, "tanhh"), {}, "unknown activation 'tanhh'"),
        ((2, ["tanh"]), {}, "1 values of activation for 2 layers; give one for each"),
        ((1, []), {}, "0 values of activation for 1 layers"),
        ((1, "tanh"), {"naming": "in_out"}, "naming must be one of 'flax', 'torch', not 'in_out'"),
        ((1, "tanh"), {"weight": "W"}, "weight='W' is a pattern and needs one '{}'"),
        ((1, "tanh"), {"bias": "b{}{}"}, "bias='b{}{}' is a pattern"),
        ((1, "tanh"), {"weight": ["W"]}, "1 names in weight for 2 layers"),
        ((1, "tanh"), {"bias": ["a", "b", "c"]}, "3 names in bias for 2 layers"),
        ((1, "tanh"), {"weight": ["W", None]}, "every layer needs the name of its weight"),
        ((1, "tanh"), {"weight": ["W", "W"]}, "two variables are named 'W'"),
        ((1, "tanh"), {"bias": "W{}"}, "two variables are named 'W1'"),
    ],
)
def test_errors(arguments, options, fragment):
    with pytest.raises(SpecError) as caught:
        mlp(*arguments, **options)
    assert fragment in str(caught.value)


# ---------------------------------------------------------------------- mixtures and the like


SAMPLE = ("chain", "draw")


def ones(**shapes: tuple[int, ...]) -> xr.Dataset:
    """Draws of these shapes, with default dimensions."""
    found = {}
    for name, shape in shapes.items():
        dims = (f"{name}_dim_{i}" for i in range(len(shape)))
        found[name] = ((*SAMPLE, *dims), np.ones((1, 2, *shape)))
    return xr.Dataset(found)


def test_mixture():
    axes = {"mu": "component", "sigma": "component", "w": "component"}
    supports = {"sigma": "positive", "w": "unit_interval"}
    assert mixture() == Spec({"component": "permutation"}, axes, supports=supports)
    spec = mixture(
        {"mu": "k dim", "w": "k"}, z=["allocation/z", "new/z"], prob="allocation/prob", units="k"
    )
    assert spec.values == {"allocation/z": "k", "new/z": "k"}
    assert spec.axes["allocation/prob"] == "... k"
    data = {
        "posterior": ones(mu=(4, 2), w=(4,)),
        "allocation": ones(prob=(9, 4)).assign(ones(z=(9,)).astype(int)),
        "new": ones(z=(2, 3)).astype(int),
    }
    resolved = spec.bind(data)
    assert resolved.sizes == {"k": 4}
    carried = {v.address: [axis for axis, _, _ in v.unit_axes()] for v in resolved.variables}
    assert carried["allocation/prob"] == [1]


def test_hmm():
    spec = hmm(["mu"], transition="A", initial="p0", z="path", prob="prob", units="s")
    data = ones(A=(3, 3), p0=(3,), mu=(3,), prob=(7, 3))
    data = data.assign(ones(path=(7,)).astype(int))
    resolved = spec.bind(data)
    carried = {v.name: [axis for axis, _, _ in v.unit_axes()] for v in resolved.variables}
    assert carried == {"A": [0, 1], "p0": [0], "mu": [0], "prob": [1], "path": []}


def test_topic_model():
    spec = topic_model(z="z", parameters=["alpha"])
    data = ones(beta=(4, 9), theta=(6, 4), alpha=(4,))
    data = data.assign(ones(z=(6, 20)).astype(int))
    resolved = spec.bind(data)
    assert resolved.sizes == {"topic": 4}
    carried = {v.name: [axis for axis, _, _ in v.unit_axes()] for v in resolved.variables}
    assert carried == {"beta": [0], "theta": [1], "alpha": [0], "z": []}
    assert topic_model(documents=None).axes == {"beta": "topic _"}


def test_factor_model_and_its_companions():
    rng = np.random.default_rng(0)
    shapes = {"Lambda": (6, 3), "eta": (9, 3), "kappa": (3,), "Phi": (3, 3), "tau": (3,)}
    data = xr.Dataset(
        {n: (v.dims, rng.normal(size=v.shape)) for n, v in ones(**shapes).data_vars.items()}
    )
    spec = factor_model(means="kappa", covariances="Phi", parameters={"tau": "factor^0"})
    aligned = relabel.align(data, spec)
    index = aligned["relabel_factor_index"].values
    sign = aligned["relabel_factor_factor"].values
    assert (sign < 0).any()
    take = np.take_along_axis
    assert np.array_equal(aligned["kappa"], take(data["kappa"].values, index, -1) * sign)
    assert np.array_equal(aligned["tau"], take(data["tau"].values, index, -1))
    for draw in range(2):
        i, s = index[0, draw], sign[0, draw]
        phi = data["Phi"].values[0, draw][i][:, i] * s * s[:, None]
        assert np.array_equal(aligned["Phi"][0, draw], phi)
        before, after = (d.isel(chain=0, draw=draw) for d in (data, aligned))
        product = before["Lambda"].values @ before["eta"].values.T
        again = after["Lambda"].values @ after["eta"].values.T
        np.testing.assert_allclose(product, again, atol=1e-12)
    assert factor_model(scores=None, symmetry="permutation") == Spec(
        {"factor": "permutation"}, {"Lambda": "_ factor"}
    )


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: mixture([]), "mixture: no parameters"),
        (lambda: mixture("mu"), r"mixture: parameters must be a list of names, as in \['mu'\]"),
        (lambda: mixture(["mu", "mu"]), "mixture: two variables are named 'mu'"),
        (lambda: hmm(["P"]), "hmm: two variables are named 'P'"),
        (lambda: factor_model(symmetry="rotate"), "unknown activation 'rotate'"),
        (lambda: mixture(["mu"]).bind(ones(nu=(3,))), "unknown variable 'mu'.*did you mean 'nu'"),
        (lambda: hmm([]).bind(ones(P=(3, 2))), "sizes of 'state' disagree"),
    ],
)
def test_presets_that_do_not_fit(build, said):
    with pytest.raises(SpecError, match=said):
        build()
