"""The minimal equivalent network: what was planted comes off, and the function stays.

Networks are planted and evaluated here by hand, not by the library.
"""

import json
import warnings
from itertools import pairwise

import numpy as np
import pytest
import xarray as xr
from files import RECORDED
from scipy import special

import relabel
from relabel import DataError, Spec, SpecError
from relabel.analysis import reduction
from relabel.analysis.reduction import reduce

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    import arviz

SAMPLE = ("chain", "draw")
BATCH = (2, 3)
DATA = RECORDED

FUNCTIONS = {
    "tanh": np.tanh,
    "gelu": lambda z: z * special.ndtr(z),
    "cos": np.cos,
    "sigmoid": special.expit,
    "relu": lambda z: np.maximum(z, 0),
    "abs": np.abs,
    "square": np.square,
    "x^3": lambda z: z**3,
}
#: Of copies with incoming weights -(w, b): what the outgoing weight is to be multiplied by, and
#: what of it the reader's bias gets.
FLIPS = {"tanh": (-1, 0), "cos": (1, 0), "sigmoid": (-1, 1), "abs": (1, 0), "square": (1, 0)}
FLIPS["x^3"] = (-1, 0)
DEGREES = {"relu": 1, "abs": 1, "square": 2, "x^3": 3}

AXES = {
    "in_out": {"W1": "x -> h", "b1": "-> h", "W2": "h -> y", "b2": "-> y"},
    "out_in": {"W1": "h <- x", "b1": "-> h", "W2": "y <- h", "b2": "-> y"},
    "single": {"W1": "x -> h", "b1": "-> h", "W2": "h ->", "b2": ""},
    "flat": {"W1": "(x -> h)", "b1": "-> h", "W2": "(h -> y)", "b2": "-> y"},
}
DEEP = {
    "W1": "x -> h1",
    "b1": "-> h1",
    "W2": "h1 -> h2",
    "b2": "-> h2",
    "W3": "h2 -> y",
    "b3": "-> y",
}


# ---------------------------------------------------------------------- by hand


def dataset(arrays, dtype="f8"):
    """Draws (chain, draw, ...) as a dataset."""
    return xr.Dataset(
        {
            name: ((*SAMPLE, *(f"{name}_{i}" for i in range(a.ndim - 2))), a.astype(dtype))
            for name, a in arrays.items()
        }
    )


def as_tree(arrays, inputs=None, dtype="f8", **more):
    groups = {"posterior": dataset(arrays, dtype), **more}
    if inputs is not None:
        groups["constant_data"] = xr.Dataset({"X": (("obs", "input"), inputs)})
    return xr.DataTree.from_dict(groups)


def stored(layer, layout):
    """Lay a network of one hidden layer out as one of the layouts does."""
    out = dict(layer)
    if layout == "out_in":
        out |= {name: layer[name].swapaxes(-1, -2) for name in ("W1", "W2")}
    if layout == "flat":
        out |= {name: layer[name].reshape(*BATCH, -1) for name in ("W1", "W2")}
    if layout == "single":
        out |= {name: layer[name][..., 0] for name in ("W2", "b2")}
    return out


def loaded(data, layout, n_in, n_out):
    """Read it back as (chain, draw, in, out), in double precision."""
    w = {name: data[name].transpose(*SAMPLE, ...).values.astype(float) for name in AXES["in_out"]}
    if layout == "out_in":
        w |= {name: w[name].swapaxes(-1, -2) for name in ("W1", "W2")}
    size = w["b1"].shape[-1]
    shapes = {"W1": (n_in, size), "W2": (size, n_out), "b2": (n_out,)}
    return w | {name: w[name].reshape(*BATCH, *shape) for name, shape in shapes.items()}


def forward(w, x, *activations):
    """Outputs (chain, draw, n, out) of W1, b1, W2, ...; biases may be missing."""
    for n, name in enumerate([*activations, None], 1):
        bias = w.get(f"b{n}")
        x = x @ w[f"W{n}"] + (0 if bias is None else bias[..., None, :])
        x = FUNCTIONS[name](x) if name else x
    return x


def random_net(rng, *sizes):
    arrays = {}
    for n, (n_in, n_out) in enumerate(pairwise(sizes), 1):
        arrays[f"W{n}"] = rng.normal(size=(*BATCH, n_in, n_out))
        arrays[f"b{n}"] = rng.normal(size=(*BATCH, n_out))
    return arrays


def add_units(w, n, *units):
    """Add units (incoming weights, bias, outgoing weights) to hidden layer `n`."""
    new = dict(w)
    for into, bias, out in units:
        new[f"W{n}"] = np.concatenate([new[f"W{n}"], into[..., None]], axis=-1)
        new[f"b{n}"] = np.concatenate([new[f"b{n}"], bias[..., None]], axis=-1)
        new[f"W{n + 1}"] = np.concatenate([new[f"W{n + 1}"], out[..., None, :]], axis=-2)
    return new


def planted(rng, w, activation, n=1):
    """Units that add nothing, put into hidden layer `n` in another order in every draw."""
    f = FUNCTIONS[activation]
    w = {name: values.copy() for name, values in w.items()}
    into, bias, out = w[f"W{n}"], w[f"b{n}"], w[f"W{n + 1}"]
    n_in, n_out = into.shape[-2], out.shape[-1]
    some = rng.normal(size=(3, *BATCH, n_in)), rng.normal(size=(3, *BATCH))
    effect = rng.normal(size=(3, *BATCH, n_out))
    scale = rng.lognormal(size=BATCH) if activation in DEGREES else np.ones(BATCH)
    power = scale ** -DEGREES.get(activation, 0)
    extra = [  # a split, a dead unit, a constant one, two that cancel
        (scale[..., None] * into[..., 0], scale * bias[..., 0], power[..., None] * effect[0]),
        (some[0][0], some[1][0], 0 * effect[0]),
        (0 * some[0][0], some[1][1], effect[1]),
        (some[0][2], some[1][2], effect[2]),
        (some[0][2], some[1][2], -effect[2]),
    ]
    w[f"W{n + 1}"][..., 0, :] -= effect[0]
    w[f"b{n + 1}"] -= f(some[1][1])[..., None] * effect[1]
    if activation in FLIPS:  # a split of the other sign
        factor, constant = FLIPS[activation]
        extra.append((-into[..., 1], -bias[..., 1], factor * 0.5 * out[..., 1, :]))
        w[f"b{n + 1}"] += constant * 0.5 * out[..., 1, :]
        w[f"W{n + 1}"][..., 1, :] *= 0.5
    return shuffled(rng, add_units(w, n, *extra), n)


def shuffled(rng, w, n):
    """Exchange the units of a hidden layer, in every draw differently."""
    size = w[f"b{n}"].shape[-1]
    index = rng.permuted(np.broadcast_to(np.arange(size), (*BATCH, size)), axis=-1)
    return w | {
        f"W{n}": np.take_along_axis(w[f"W{n}"], index[..., None, :], axis=-1),
        f"b{n}": np.take_along_axis(w[f"b{n}"], index, axis=-1),
        f"W{n + 1}": np.take_along_axis(w[f"W{n + 1}"], index[..., None], axis=-2),
    }


def canonical(w, activation, rank):
    """Units of a network of one hidden layer, one of each orbit, in the order of their bias."""
    units = np.concatenate(
        [w["W1"].swapaxes(-1, -2), w["b1"][..., None], w["W2"]], axis=-1
    )  # (chain, draw, unit, number)
    n_in, bias = w["W1"].shape[-2], w["b2"].copy()
    size = units.shape[-2]
    order = np.argsort(~(units != 0).any(axis=-1), axis=-1, kind="stable")
    units = np.take_along_axis(units, order[..., None], axis=-2)
    assert (units[..., rank:, :] == 0).all() or size == rank
    units = units[..., :rank, :]
    if activation in DEGREES:
        norm = np.linalg.norm(units[..., : n_in + 1], axis=-1, keepdims=True)
        units[..., : n_in + 1] /= norm
        units[..., n_in + 1 :] *= norm ** DEGREES[activation]
    if activation in FLIPS:
        factor, constant = FLIPS[activation]
        flip = units[..., :1] < 0
        bias += (constant * np.where(flip, units[..., n_in + 1 :], 0)).sum(axis=-2)
        units[..., : n_in + 1] *= np.where(flip, -1, 1)
        units[..., n_in + 1 :] *= np.where(flip, factor, 1)
    order = np.argsort(units[..., n_in], axis=-1)
    return np.take_along_axis(units, order[..., None], axis=-2), bias


def aligned_of(arrays, spec, inputs=None, **options):
    return relabel.align(as_tree(arrays, inputs, **options), spec, n_perturbations=0)


def kept(data, units="h"):
    return data["relabel"][f"{units}_kept"].values


def change(data):
    return data["relabel"]["function_change"].values


def notes(data):
    return json.loads(data["relabel"].attrs["relabel"])["reduced"]


def posterior(data):
    return data["posterior"].to_dataset()


# ---------------------------------------------------------------------- what was planted


CASES = [(a, "in_out") for a in FUNCTIONS]
CASES += [(a, layout) for a in ("relu", "sigmoid") for layout in AXES if layout != "in_out"]


@pytest.mark.parametrize(("activation", "layout"), CASES)
def test_the_minimal_network_comes_back(activation, layout):
    rng = np.random.default_rng(1)
    n_out = 1 if layout == "single" else 2
    x = rng.normal(size=(12, 3))
    minimal = random_net(rng, 3, 3, n_out)
    net = planted(rng, minimal, activation)
    size = net["b1"].shape[-1]
    np.testing.assert_allclose(forward(net, x, activation), forward(minimal, x, activation))
    sizes = {"x": 3, "h": size, "y": n_out} if layout == "flat" else {}
    spec = Spec({"h": activation}, AXES[layout], sizes=sizes)
    found = reduce(aligned_of(stored(net, layout), spec), tolerance=0)
    assert (kept(found).sum(axis=-1) == 3).all()
    w = loaded(posterior(found), layout, 3, n_out)
    expected = forward(net, x, activation)
    np.testing.assert_allclose(forward(w, x, activation), expected, rtol=1e-9, atol=1e-11)
    for mine, true in zip(
        canonical(w, activation, 3), canonical(minimal, activation, 3), strict=True
    ):
        np.testing.assert_allclose(mine, true, rtol=1e-9, atol=1e-11)
    gone = kept(found) == 0
    assert (np.moveaxis(w["W1"], 2, 3)[gone] == 0).all()
    assert (w["b1"][gone] == 0).all()
    assert (w["W2"][gone] == 0).all()
    assert change(found).max() < 1e-11
    assert notes(found)["warnings"][0].startswith("only what the weights show was removed: no inp")


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    "activations", [("tanh", "tanh"), ("relu", "sigmoid"), ("sigmoid", "relu")]
)
def test_two_hidden_layers(activations, known):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(12, 2))
    net = random_net(rng, 2, 2, 3, 1)
    for n in (2, 1):
        net = planted(rng, net, activations[n - 1], n)
    spec = Spec(dict(zip(("h1", "h2"), activations, strict=True)), DEEP)
    found = reduce(aligned_of(net, spec, x if known else None))
    for units, rank in (("h1", 2), ("h2", 3)):
        left = kept(found, units).sum(axis=-1)
        assert (left <= rank).all()
        if not (known and "relu" in activations):  # which may be off at all inputs
            assert (left == rank).all()
    w = {name: posterior(found)[name].values for name in DEEP}
    expected = forward(net, x, *activations)
    np.testing.assert_allclose(forward(w, x, *activations), expected, rtol=1e-9, atol=1e-10)


def test_what_only_dead_units_read_is_dead():
    """And a unit that has lost its inputs is a constant: to a fixed point, both ways."""
    rng = np.random.default_rng(3)
    net = random_net(rng, 2, 3, 3, 1)
    net["W2"][..., 0, 1:] = 0  # unit 0 of h1 is read by unit 0 of h2, which is dead
    net["W3"][..., 0, :] = 0
    net["W1"][..., 1] = 0  # unit 1 of h1 is constant, and alone feeds unit 1 of h2
    net["W2"][..., [0, 2], 1] = 0
    found = reduce(aligned_of(net, Spec({"h1": "tanh", "h2": "tanh"}, DEEP)))
    for units in ("h1", "h2"):
        assert (kept(found, units).sum(axis=-1) == 1).all()
    x = rng.normal(size=(9, 2))
    w = {name: posterior(found)[name].values for name in DEEP}
    np.testing.assert_allclose(
        forward(w, x, "tanh", "tanh"), forward(net, x, "tanh", "tanh"), atol=1e-12
    )


def test_a_network_that_is_one_constant():
    rng = np.random.default_rng(4)
    net = random_net(rng, 2, 3, 1)
    net["W1"][...] = 0
    found = reduce(aligned_of(net, Spec({"h": "tanh"}, AXES["in_out"]), rng.normal(size=(5, 2))))
    assert not kept(found).any()
    expected = forward(net, np.zeros((1, 2)), "tanh")[:, :, 0]
    np.testing.assert_allclose(posterior(found)["b2"].values, expected, rtol=1e-12)


def test_nothing_to_remove_changes_nothing():
    rng = np.random.default_rng(5)
    aligned = aligned_of(random_net(rng, 2, 3, 1), Spec({"h": "tanh"}, AXES["in_out"]))
    found = reduce(aligned, inputs=rng.normal(size=(20, 2)))
    xr.testing.assert_identical(posterior(found), posterior(aligned))
    assert kept(found).all()
    assert (change(found) == 0).all()


def test_opposite_relu_units_are_no_duplicates():
    rng = np.random.default_rng(6)
    net = random_net(rng, 2, 2, 1)
    net["W1"][..., 1], net["b1"][..., 1] = -net["W1"][..., 0], -net["b1"][..., 0]
    spec = Spec({"h": "relu"}, AXES["in_out"])
    assert kept(reduce(aligned_of(net, spec), inputs=10 * rng.normal(size=(200, 2)))).all()
    assert (kept(reduce(aligned_of(net, Spec({"h": "abs"}, spec.axes)))).sum(axis=-1) == 1).all()


# ---------------------------------------------------------------------- who reads


READERS = {
    "A": "x -> h",
    "a": "-> h",
    "B": "h -> g",
    "b": "-> g",
    "C": "h -> y",
    "c": "-> y",
    "D": "g -> y",
    "E": "x -> y",
    "F": "h -> s",
    "f": "-> s",
    "G": "x -> g",
}


def readers_outputs(w, x):
    h = special.expit(x @ w["A"] + w["a"][..., None, :])
    g = np.tanh(h @ w["B"] + x @ w["G"] + w["b"][..., None, :])
    s = h @ w["F"] + w["f"][..., None, :]
    return h @ w["C"] + g @ w["D"] + x @ w["E"] + w["c"][..., None, :], s


def test_several_readers():
    """A sigmoid layer read by a hidden layer and two outputs, beside connections that skip it."""
    rng = np.random.default_rng(7)
    n = {"x": 2, "h": 4, "g": 3, "y": 1, "s": 2}
    w = {}
    for name, line in READERS.items():
        w[name] = rng.normal(size=(*BATCH, *(n[a] for a in line.split() if a != "->")))
    for i, sign in ((1, -1), (2, 1)):
        w["A"][..., i], w["a"][..., i] = sign * w["A"][..., 0], sign * w["a"][..., 0]
    w["A"][..., 3] = 0
    found = reduce(aligned_of(w, Spec({"h": "sigmoid", "g": "tanh"}, READERS)))
    assert (kept(found).sum(axis=-1) == 1).all()
    assert kept(found, "g").all()
    x = rng.normal(size=(10, 2))
    small = {name: posterior(found)[name].values for name in READERS}
    for after, before in zip(readers_outputs(small, x), readers_outputs(w, x), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-10, atol=1e-12)


def test_without_biases():
    rng = np.random.default_rng(8)
    net = planted(rng, random_net(rng, 3, 2, 2, 1), "tanh", 1)
    net = {name: values for name, values in net.items() if name[0] == "W"}
    axes = {name: line for name, line in DEEP.items() if name[0] == "W"}
    found = reduce(aligned_of(net, Spec({"h1": "tanh", "h2": "tanh"}, axes)))
    assert (kept(found, "h1").sum(axis=-1) == 2).all()  # the constant is tanh(0), so it goes
    x = rng.normal(size=(10, 3))
    w = {name: posterior(found)[name].values for name in axes}
    np.testing.assert_allclose(
        forward(w, x, "tanh", "tanh"), forward(net, x, "tanh", "tanh"), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("tolerance", [0, 0.5])
def test_a_constant_needs_a_bias_to_go_into(tolerance):
    rng = np.random.default_rng(9)
    net = random_net(rng, 2, 2, 1)
    del net["b2"]
    net["W1"][..., 1], net["b1"][..., 1], net["W2"][..., 1, :] = 0, 2, 30
    net["W2"][..., 0, :] = 30
    axes = {name: line for name, line in AXES["in_out"].items() if name != "b2"}
    aligned = aligned_of(net, Spec({"h": "tanh"}, axes), rng.normal(size=(10, 2)))
    assert kept(reduce(aligned, tolerance=tolerance)).all()


# ---------------------------------------------------------------------- tolerance


def nearly(rng):
    """Unit 1 moves by 0.3 % of the outputs' scale over the inputs, unit 2 by 0.6 %."""
    net = random_net(rng, 1, 3, 1)
    x = np.linspace(-1, 1, 21)[:, None]
    net["W1"][...], net["b1"][...] = [[2.0, 1e-3, 1e-3]], [0.0, 0.5, 0.3]
    net["W2"][...] = [[1.0], [1.0], [1.0]]
    scale = forward(net, x, "tanh").std(axis=2, keepdims=True)[..., 0, :]
    for unit, size in ((1, 0.003), (2, 0.006)):
        b = net["b1"][..., unit]
        swing = (np.tanh(b + 1e-3) - np.tanh(b - 1e-3)) / 2
        net["W2"][..., unit, :] = size * scale / swing[..., None]
    return net, x


@pytest.mark.parametrize(("tolerance", "left"), [(1e-6, 3), (0.004, 2), (0.008, 2), (0.02, 1)])
def test_the_cheapest_goes_first(tolerance, left):
    net, x = nearly(np.random.default_rng(10))
    spec = Spec({"h": "tanh"}, AXES["in_out"])
    found = reduce(aligned_of(net, spec, x), tolerance=tolerance)
    assert (kept(found).sum(axis=-1) == left).all()
    w = {name: posterior(found)[name].values for name in AXES["in_out"]}
    if left == 2:  # the smaller one is gone, into the bias or into the one that is like it
        assert (np.abs(np.abs(w["b1"]).max(axis=-1) - 0.3) < 1e-12).all()
    before, after = (forward(v, x, "tanh") for v in (net, w))
    scale = np.median(before.std(axis=2), axis=(0, 1))
    differ = (np.abs(after - before) / scale).max(axis=(2, 3))
    np.testing.assert_allclose(change(found), differ, rtol=1e-6, atol=1e-12)
    assert (differ <= tolerance).all()


def test_every_draw_has_its_own_units():
    rng = np.random.default_rng(11)
    net = random_net(rng, 2, 4, 1)
    net["W2"][0, 0, 1:] = 0
    net["W1"][1, 2, :, 0] = net["b1"][1, 2, 0] = 0
    found = reduce(aligned_of(net, Spec({"h": "tanh"}, AXES["in_out"])))
    assert kept(found).sum(axis=-1).tolist() == [[1, 4, 4], [4, 4, 3]]


def test_what_is_off_at_the_inputs():
    """A ReLU unit that no input reaches goes by default, but the weights do not show it."""
    rng = np.random.default_rng(12)
    net = random_net(rng, 2, 3, 1)
    net["b1"][..., 0] = -50
    aligned = aligned_of(net, Spec({"h": "relu"}, AXES["in_out"]), rng.uniform(size=(30, 2)))
    assert kept(reduce(aligned, tolerance=0)).all()
    assert (kept(reduce(aligned)).sum(axis=-1) <= 2).all()


def test_inputs_that_tell_no_scale():
    """One input only: every network is a constant there, and outputs have no spread."""
    rng = np.random.default_rng(13)
    net = random_net(rng, 2, 3, 1)
    found = reduce(
        aligned_of(net, Spec({"h": "tanh"}, AXES["in_out"])), inputs=rng.normal(size=(1, 2))
    )
    assert not kept(found).any()
    assert change(found).max() < 1e-12


def test_outputs_that_overflow():
    """What cannot be compared is not removed, unless the weights show it."""
    rng = np.random.default_rng(24)
    net = random_net(rng, 2, 3, 1)
    net["W2"][0, 0, 2] = 0
    aligned = aligned_of(net, Spec({"h": "x^3"}, AXES["in_out"]))
    found = reduce(aligned, inputs=1e110 * rng.normal(size=(9, 2)), tolerance=0.01)
    assert kept(found).sum(axis=-1).tolist() == [[2, 3, 3], [3, 3, 3]]


# ---------------------------------------------------------------------- data in and out


@pytest.mark.parametrize("kind", ["tree", "dataset", "dask", "inference"])
def test_kinds_of_data(kind):
    rng = np.random.default_rng(14)
    net, x = planted(rng, random_net(rng, 2, 3, 1), "tanh"), rng.normal(size=(8, 2))
    spec = Spec({"h": "tanh"}, AXES["in_out"])
    tree = as_tree(net, x)
    tree["posterior"]["W1"].attrs["about"] = "weights"
    tree["posterior"]["W1"].encoding = {"zlib": True}
    data = tree
    if kind == "dataset":
        data = posterior(tree)
    if kind == "dask":
        data = tree.map_over_datasets(lambda ds: ds.chunk({"draw": 1}) if "draw" in ds.dims else ds)
    if kind == "inference":
        if not arviz.__version__.startswith("0."):
            pytest.skip("arviz 1 has no InferenceData")
        data = arviz.InferenceData(
            posterior=posterior(tree), constant_data=tree["constant_data"].to_dataset()
        )
    aligned = relabel.align(data, spec)
    found = reduce(aligned)
    assert type(found) is type(aligned)
    own = found if kind == "dataset" else found["relabel"]
    prefix = "relabel_" if kind == "dataset" else ""
    assert own[f"{prefix}h_kept"].dtype == "int8"
    assert own[f"{prefix}h_kept"].dims == (*SAMPLE, "h")
    assert (own[f"{prefix}h_kept"].sum("h") == 3).all()
    assert own[f"{prefix}function_change"].dims == SAMPLE
    values = found if kind == "dataset" else found["posterior"]
    assert values["W1"].attrs == {"about": "weights"}
    assert values["W1"].encoding == {"zlib": True}
    assert values["W1"].dims == (*SAMPLE, "W1_0", "W1_1")
    w = {name: values[name].values for name in net}
    np.testing.assert_allclose(forward(w, x, "tanh"), forward(net, x, "tanh"), rtol=1e-10)


def test_single_precision():
    rng = np.random.default_rng(15)
    x = rng.normal(size=(20, 2))
    for activation in ("tanh", "relu", "sigmoid"):
        net = planted(rng, random_net(rng, 2, 3, 1), activation)
        spec = Spec({"h": activation}, AXES["in_out"])
        aligned = aligned_of(net, spec, x, dtype="f4")
        for tolerance in (0, 1e-4):
            found = reduce(aligned, tolerance=tolerance)
            assert (kept(found).sum(axis=-1) == 3).all()
            assert {found["posterior"][name].dtype for name in net} == {np.dtype("f4")}
            assert change(found).max() < 1e-5


def test_draws_last_and_order_of_variables():
    rng = np.random.default_rng(16)
    net = planted(rng, random_net(rng, 2, 3, 1), "tanh")
    tree = as_tree(net, rng.normal(size=(8, 2)))
    last = tree.map_over_datasets(
        lambda ds: ds.transpose(..., "draw", "chain") if "draw" in ds.dims else ds
    )
    spec = Spec({"h": "tanh"}, AXES["in_out"])
    a, b = (reduce(relabel.align(t, spec)) for t in (tree, last))
    assert list(b["posterior"].data_vars) == list(net)
    assert b["posterior"]["W1"].dims == last["posterior"]["W1"].dims
    xr.testing.assert_allclose(
        posterior(a), posterior(b).transpose(*SAMPLE, ...), rtol=1e-12, atol=1e-14
    )
    xr.testing.assert_equal(a["relabel"]["h_kept"], b["relabel"]["h_kept"])


def test_draws_that_are_not_finite_are_left_alone():
    rng = np.random.default_rng(17)
    net = planted(rng, random_net(rng, 2, 3, 1), "tanh")
    net["W1"][1, 1, 0, 0] = np.nan
    tree = as_tree(net, rng.normal(size=(8, 2)))
    aligned = relabel.align(tree, Spec({"h": "tanh"}, AXES["in_out"]), nonfinite="skip")
    found = reduce(aligned)
    assert kept(found)[1, 1].all()
    assert np.isnan(change(found)[1, 1])
    assert (np.delete(kept(found).reshape(6, -1), 4, axis=0).sum(axis=-1) == 3).all()
    place = {"chain": 1, "draw": 1}
    xr.testing.assert_identical(posterior(found).isel(place), posterior(aligned).isel(place))
    json.dumps(notes(found), allow_nan=False)


def test_what_no_longer_matches_is_listed():
    rng = np.random.default_rng(18)
    net = planted(rng, random_net(rng, 2, 3, 1), "tanh")
    size = net["b1"].shape[-1]
    posterior_of = {**net, "tau": rng.normal(size=(*BATCH, size)) ** 2}
    x = rng.normal(size=(8, 2))
    hidden = dataset({"a": np.tanh(x @ net["W1"] + net["b1"][..., None, :])})
    tree = as_tree(posterior_of, x, unit_values=hidden, warmup_posterior=dataset(posterior_of))
    axes = {**AXES["in_out"], "tau": "h^0", "unit_values/a": "_ <- h"}
    aligned = relabel.align(tree, Spec({"h": "tanh"}, {**axes, "unit_values/a": "_ h ->"}))
    found = reduce(aligned)
    assert notes(found)["left"] == ["posterior/tau", "unit_values/a", "warmup_posterior"]
    for group in ("unit_values", "warmup_posterior"):
        xr.testing.assert_identical(found[group].to_dataset(), aligned[group].to_dataset())
    xr.testing.assert_identical(found["posterior"]["tau"], aligned["posterior"]["tau"])


def test_the_record():
    rng = np.random.default_rng(19)
    net, x = planted(rng, random_net(rng, 2, 3, 1), "tanh"), rng.normal(size=(8, 2))
    aligned = aligned_of(net, Spec({"h": "tanh"}, AXES["in_out"]), x)
    found = reduce(aligned)
    told = notes(found)
    n_removed = int((kept(found) == 0).sum())
    assert told["removed"] == {"h": n_removed}
    assert told["inputs"] == "constant_data/X"
    assert told["tolerance"] == 1e-6
    assert told["warnings"] == []
    assert told["result"].startswith("of 9 units 'h', 3 are left on average (3 to 3); outputs")
    assert found["relabel"]["function_change"].attrs["inputs"] == "constant_data/X"
    for name in aligned["relabel"].data_vars:
        xr.testing.assert_identical(found["relabel"][name], aligned["relabel"][name])


# ---------------------------------------------------------------------- twice


@pytest.mark.parametrize("kind", ["tree", "dataset"])
def test_once_more_changes_nothing(kind):
    rng = np.random.default_rng(20)
    net, x = planted(rng, random_net(rng, 2, 3, 1), "sigmoid"), rng.normal(size=(8, 2))
    aligned = aligned_of(net, Spec({"h": "sigmoid"}, AXES["in_out"]), x)
    if kind == "dataset":
        aligned = relabel.align(dataset(net), Spec({"h": "sigmoid"}, AXES["in_out"]))
    found = reduce(aligned, inputs=x)
    for again in (reduce(found, inputs=x), reduce(found)):
        xr.testing.assert_identical(again, found)
    for other in ({"tolerance": 0.1}, {"inputs": 2 * x}, {"inputs": "constant_data/X"}):
        with pytest.raises(DataError, match="reduced before, with the tolerance 1e-06"):
            reduce(found, **other)


@pytest.mark.parametrize("activation", FUNCTIONS)
def test_a_reduced_network_is_not_reducible(activation):
    rng = np.random.default_rng(21)
    net, x = planted(rng, random_net(rng, 2, 3, 1), activation), rng.normal(size=(8, 2))
    spec = Spec({"h": activation}, AXES["in_out"])
    found = reduce(aligned_of(net, spec, x))
    as_new = xr.DataTree.from_dict(
        {group: found[group].to_dataset() for group in ("posterior", "constant_data")}
    )
    aligned = relabel.align(as_new, spec)
    again = reduce(aligned)
    xr.testing.assert_identical(posterior(again), posterior(aligned))
    assert (kept(again).sum(axis=-1) == 3).all()


# ---------------------------------------------------------------------- refusals


def test_refusals():
    rng = np.random.default_rng(22)
    net = random_net(rng, 2, 3, 1)
    tree = as_tree(net)
    with pytest.raises(DataError, match="not aligned"):
        reduce(tree)
    with pytest.raises(DataError, match="must be an InferenceData"):
        reduce(net)
    aligned = aligned_of(net, Spec({"h": "tanh"}, AXES["in_out"]))
    for tolerance in (-0.1, 1, 1.5, np.nan, "small", True):
        with pytest.raises(SpecError, match="tolerance"):
            reduce(aligned, tolerance=tolerance)
    with pytest.raises(SpecError, match="n_tries"):
        reduce(aligned, n_tries=0)
    with pytest.raises(SpecError, match="n_ulps"):
        reduce(aligned, n_ulps=0)
    with pytest.raises(SpecError, match="no variable 'constant_data/Z'"):
        reduce(aligned, inputs="constant_data/Z")
    with pytest.raises(SpecError, match=r"the network reads \(n, 2\)"):
        reduce(aligned, inputs=np.zeros((5, 3)))


def test_no_network():
    rng = np.random.default_rng(23)
    mixture = xr.Dataset({"mu": ((*SAMPLE, "component"), rng.normal(size=(*BATCH, 3)))})
    with pytest.raises(SpecError, match="axes of all weights and biases with arrows"):
        reduce(relabel.align(mixture, {"component": "permutation"}))
    net = random_net(rng, 2, 3, 1)
    with pytest.raises(SpecError, match="does not name one activation"):
        reduce(aligned_of(net, Spec({"h": "permutation"}, AXES["in_out"])))
    whole = {name: np.round(9 * values) for name, values in net.items()}
    with pytest.raises(DataError, match="dtype int64, which cannot hold sums"):
        reduce(aligned_of(whole, Spec({"h": "tanh"}, AXES["in_out"]), dtype="i8"))


# ---------------------------------------------------------------------- real draws


OWN = {"W1": "layers.0.w", "b1": "layers.0.b", "W2": "layers.1.w", "b2": "layers.1.b"}


@pytest.mark.parametrize("name", ["relu_3-4-1", "sigmoid_2-4-1", "tanh_1-5-1", "tanh_3-4-4-1"])
def test_posteriors(name):
    with xr.open_datatree(DATA / f"{name}.nc", engine="h5netcdf") as file:
        tree = xr.DataTree.from_dict(
            {g: file[g].to_dataset().load() for g in ("posterior", "constant_data")}
        )
    tree["posterior"] = tree["posterior"].isel(draw=slice(None, None, 5))
    activation = name.split("_")[0]
    own = OWN if activation == "sigmoid" else {}
    units = {"h1": "tanh", "h2": "tanh"} if name == "tanh_3-4-4-1" else {"h": activation}
    lines = DEEP if len(units) == 2 else AXES["in_out"]
    spec = Spec(units, {own.get(v, v): line for v, line in lines.items()})
    x = tree["constant_data"]["X"].values
    aligned = relabel.align(tree, spec, n_perturbations=0)
    plain = {v: posterior(tree)[own.get(v, v)].values for v in lines}
    before = forward(plain, x, *units.values())
    scale = np.median(before.std(axis=2), axis=(0, 1))
    removed = []
    for tolerance in (1e-6, 0.05):
        found = reduce(aligned, inputs="constant_data/X", tolerance=tolerance)
        w = {v: posterior(found)[own.get(v, v)].values for v in lines}
        differ = np.abs(forward(w, x, *units.values()) - before) / scale
        assert differ.max() <= tolerance + 1e-10
        np.testing.assert_allclose(change(found), differ.max(axis=(2, 3)), atol=1e-10)
        removed.append(sum(notes(found)["removed"].values()))
        assert removed[-1] == sum(int((kept(found, u) == 0).sum()) for u in units)
    if name in ("relu_3-4-1", "tanh_3-4-4-1"):  # as wide as the network that made the data
        assert removed == [0, 0]
    else:
        assert removed[0] < 0.01 * before.shape[0] * before.shape[1] < removed[1]


# ---------------------------------------------------------------------- options


def test_without_inputs_only_the_weights_decide():
    """A unit that is off at all inputs stays where these are not to be used."""
    net = {
        "W1": np.ones((*BATCH, 1, 2)),
        "b1": np.broadcast_to([1.0, -20.0], (*BATCH, 2)).copy(),
        "W2": np.ones((*BATCH, 2, 1)),
        "b2": np.zeros((*BATCH, 1)),
    }
    aligned = aligned_of(net, Spec({"h": "relu"}, AXES["in_out"]), np.linspace(-1, 1, 7)[:, None])
    known, unknown = reduce(aligned), reduce(aligned, inputs=None)
    assert (kept(known).sum(axis=-1) == 1).all()
    assert kept(unknown).all()
    assert notes(known)["inputs"] == "constant_data/X"
    assert notes(unknown)["inputs"] is None
    assert "inputs=None" in notes(unknown)["warnings"][0]
    xr.testing.assert_identical(reduce(aligned, inputs="auto"), known)
    for same in ({}, {"inputs": None}):
        xr.testing.assert_identical(reduce(unknown, **same), unknown)
    with pytest.raises(DataError, match="reduced before"):
        reduce(unknown, inputs="constant_data/X")
    with pytest.raises(DataError, match="reduced before"):
        reduce(known, inputs=None)


def test_numbers_of_numpy_and_progress(monkeypatch):
    rng = np.random.default_rng(24)
    net, x = planted(rng, random_net(rng, 2, 3, 1), "tanh"), rng.normal(size=(8, 2))
    aligned = aligned_of(net, Spec({"h": "tanh"}, AXES["in_out"]), x)
    monkeypatch.setattr(reduction, "_CELLS", 1)
    seen = []
    found = reduce(
        aligned,
        n_tries=np.int64(3),
        tolerance=np.float64(1e-6),
        n_ulps=np.float32(32),
        progress=lambda *step: seen.append(step),
    )
    n_draws = BATCH[0] * BATCH[1]
    assert seen == [("reduce", i, n_draws) for i in range(1, n_draws + 1)]
    xr.testing.assert_identical(posterior(found), posterior(reduce(aligned)))
    assert type(notes(found)["n_tries"]) is int
