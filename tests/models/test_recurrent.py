"""Recurrent networks: their outputs before and after, by a reference in NumPy; planted labels."""

import numpy as np
import pytest
import xarray as xr
from scipy.special import expit

import relabel
from relabel import Spec, SpecError, Transformation
from relabel.data.provenance import Provenance
from relabel.groups import group_of
from relabel.groups.elements import Monomial
from relabel.models import gru, lstm, rnn

SAMPLE = ("chain", "draw")
KINDS = {"rnn": 1, "lstm": 4, "gru": 3}


def step(kind, into, over, h, c, nonlinearity):
    """One step of a cell from the sums of its inputs and of its states, biases included."""
    if kind == "rnn":
        return nonlinearity(into + over), c
    if kind == "lstm":
        i, f, g, o = np.split(into + over, 4)
        c = expit(f) * c + expit(i) * np.tanh(g)
        return expit(o) * np.tanh(c), c
    (ri, zi, ni), (rh, zh, nh) = np.split(into, 3), np.split(over, 3)
    z = expit(zi + zh)
    return (1 - z) * np.tanh(ni + expit(ri + rh) * nh) + z * h, c


def outputs(kind, w, xs, n_layers=1, *, both=False, nonlinearity=np.tanh):
    """All outputs of one draw, of weights as PyTorch names them."""
    ends = ("", "_reverse") if both else ("",)
    number = 0
    for layer in range(n_layers):
        sides = []
        for end in ends:
            name = f"_l{layer}{end}"
            h = w["h0"][number] if "h0" in w else np.zeros(w[f"weight_hh{name}"].shape[1])
            c = w["c0"][number] if "c0" in w else np.zeros_like(h)
            hs = []
            for x in xs[::-1] if end else xs:
                into = w[f"weight_ih{name}"] @ x + w[f"bias_ih{name}"]
                over = w[f"weight_hh{name}"] @ h + w[f"bias_hh{name}"]
                h, c = step(kind, into, over, h, c, nonlinearity)
                hs.append(h)
            sides.append(hs[::-1] if end else hs)
            number += 1
        xs = [np.concatenate(parts) for parts in zip(*sides, strict=True)]
    return np.stack([w["fc.weight"] @ x + w["fc.bias"] for x in xs])


def point(rng, kind, n_layers=1, *, both=False, width=4, n_in=3, n_out=2, initial=()):
    """Weights of one network."""
    rows, ends = KINDS[kind] * width, ("", "_reverse") if both else ("",)
    w, read = {}, n_in
    for layer in range(n_layers):
        for end in ends:
            w[f"weight_ih_l{layer}{end}"] = rng.normal(size=(rows, read)) / np.sqrt(read)
            w[f"weight_hh_l{layer}{end}"] = rng.normal(size=(rows, width)) / np.sqrt(width)
            w[f"bias_ih_l{layer}{end}"] = rng.normal(size=rows)
            w[f"bias_hh_l{layer}{end}"] = rng.normal(size=rows)
        read = width * len(ends)
    w |= {name: rng.normal(size=(n_layers * len(ends), width)) for name in initial}
    return w | {"fc.weight": rng.normal(size=(n_out, read)), "fc.bias": rng.normal(size=n_out)}


def scattered(rng, centre, batch, noise):
    """Draws about a point."""
    return xr.Dataset(
        {
            name: (
                (*SAMPLE, *(f"{name}_{i}" for i in range(value.ndim))),
                value + noise * rng.normal(size=(*batch, *value.shape)),
            )
            for name, value in centre.items()
        }
    )


def random_element(rng, spec, sizes, batch):
    elements = {}
    for units, symmetry in spec.units.items():
        index = rng.permuted(np.tile(np.arange(sizes[units]), (*batch, 1)), axis=-1)
        group = group_of(symmetry)
        factor = rng.choice([-1.0, 1.0], size=index.shape) if group.signs else np.ones(index.shape)
        if group.gauges():
            factor = factor * rng.lognormal(size=index.shape)
        elements[units] = Monomial(index, factor)
    return Transformation(elements)


def all_outputs(kind, data, xs, *args, **kwargs):
    draws = [
        {name: v.values[c, d] for name, v in data.items() if not name.startswith("relabel")}
        for c in range(data.sizes["chain"])
        for d in range(data.sizes["draw"])
    ]
    return np.stack([outputs(kind, w, xs, *args, **kwargs) for w in draws])


def relu(z):
    return np.maximum(z, 0)


CASES = {
    "rnn": (rnn(), "rnn", 1, False, np.tanh),
    "rnn-relu": (rnn(activation="relu"), "rnn", 1, False, relu),
    "rnn-relu-2": (rnn(2, "relu", initial="h0"), "rnn", 2, False, relu),
    "rnn-permutation": (rnn(2, "permutation"), "rnn", 2, False, np.tanh),
    "lstm": (lstm(initial=("h0", "c0")), "lstm", 1, False, np.tanh),
    "lstm-2": (lstm(2, bidirectional=True, initial=("h0", "c0")), "lstm", 2, True, np.tanh),
    "lstm-permutation": (lstm(activation="permutation"), "lstm", 1, False, np.tanh),
    "gru": (gru(), "gru", 1, False, np.tanh),
    "gru-2": (gru(2, bidirectional=True, initial="h0"), "gru", 2, True, np.tanh),
}


@pytest.mark.parametrize("case", CASES)
def test_no_output_changes(case):
    spec, kind, n_layers, both, nonlinearity = CASES[case]
    rng, batch = np.random.default_rng(len(case)), (2, 2)
    initial = [name for name in ("h0", "c0") if name in spec.axes]
    data = scattered(rng, point(rng, kind, n_layers, both=both, initial=initial), batch, 0.3)
    xs = rng.normal(size=(5, 3))
    before = all_outputs(kind, data, xs, n_layers, both=both, nonlinearity=nonlinearity)
    resolved = spec.bind(data)
    g = random_element(rng, spec, resolved.sizes, batch)
    moved = g.apply({"posterior": data}, resolved)["posterior"]
    for name in data.data_vars:  # but for what reads no units, everything is moved
        assert (moved[name].values != data[name].values).any() == (name != "fc.bias")
    aligned = relabel.align(moved, spec)
    for after in (moved, aligned):
        found = all_outputs(kind, after, xs, n_layers, both=both, nonlinearity=nonlinearity)
        np.testing.assert_allclose(found, before, rtol=1e-10, atol=1e-12)
    warnings = Provenance.of(aligned).warnings
    assert len(warnings) == ("relu" in case)
    assert all(repr(units) in said for units in spec.units for said in warnings)
    back = relabel.undo(aligned)
    if "relu" in case:
        xr.testing.assert_allclose(back, moved, rtol=1e-12)
    else:
        assert back.identical(moved)


def test_only_the_candidate_changes_its_sign():
    """A sign on the rows of the gates as well would change the outputs."""
    rng = np.random.default_rng(0)
    data = scattered(rng, point(rng, "lstm"), (1, 1), 0.0)
    right, wrong = lstm(), lstm()
    lines = {name: line.replace("^0", "") for name, line in wrong.axes.items()}
    wrong = Spec(wrong.units, lines)
    xs = rng.normal(size=(5, 3))
    flip = Monomial(np.arange(4)[None, None], np.array([[[1.0, -1.0, 1.0, 1.0]]]))
    for spec, same in ((right, True), (wrong, False)):
        moved = Transformation({"h": flip}).apply({"posterior": data}, spec.bind(data))["posterior"]
        change = all_outputs("lstm", moved, xs) - all_outputs("lstm", data, xs)
        assert (np.abs(change).max() < 1e-12) == same


def recovered(kind, spec, *, width=16, n_draws=20, noise=0.05, seed=0, n_layers=1):
    """Share of draws that end in one labelling, from random elements of one set of draws."""
    rng = np.random.default_rng(seed)
    centre = point(rng, kind, n_layers, width=width)
    data, batch = scattered(rng, centre, (2, n_draws // 2), noise), (2, n_draws // 2)
    resolved = spec.bind(data)
    g = random_element(rng, spec, resolved.sizes, batch)
    mixed = g.apply({"posterior": data}, resolved)["posterior"]
    aligned = relabel.align(mixed, spec)
    stored = {n.removeprefix("relabel_"): v for n, v in aligned.items() if n.startswith("relabel_")}
    total = Transformation.from_dataset(xr.Dataset(stored), list(spec.units)) @ g
    alike = np.ones(batch, dtype=bool)
    for element in total.elements.values():
        codes = (element.index + 1) * np.sign(element.factor)
        kinds, counts = np.unique(codes.reshape(n_draws, -1), axis=0, return_counts=True)
        alike &= (codes == kinds[counts.argmax()]).all(axis=-1)
    return alike.mean()


@pytest.mark.parametrize(
    ("kind", "spec"),
    [("rnn", rnn()), ("rnn", rnn(activation="relu")), ("lstm", lstm()), ("gru", gru())],
)
def test_planted_labels_are_found(kind, spec):
    assert recovered(kind, spec) == 1


# ---------------------------------------------------------------------- the presets


def test_one_kernel_for_every_gate_is_the_same_as_a_stack():
    """The names of Flax, against those of PyTorch with the same numbers."""
    rng = np.random.default_rng(1)
    for kind, preset, biases in (
        ("lstm", lstm, {"hi": 0, "hf": 1, "hg": 2, "ho": 3}),
        ("gru", gru, {"ir": 0, "iz": 1, "in": 2, "hn": 2}),
    ):
        centre = point(rng, kind)
        data = scattered(rng, centre, (1, 2), 0.0)
        spec = preset(naming="flax", prefix="cell.", readout="out")
        flax = {"out.kernel": data["fc.weight"].values.swapaxes(2, 3), "out.bias": data["fc.bias"]}
        for number, letter in enumerate("ifgo" if kind == "lstm" else "rzn"):
            rows = slice(4 * number, 4 * number + 4)
            for side in "ih":
                values = data[f"weight_{side}h_l0"].values[:, :, rows].swapaxes(2, 3)
                flax[f"cell.{side}{letter}.kernel"] = values
        for name, number in biases.items():
            rows = slice(4 * number, 4 * number + 4)
            flax[f"cell.{name}.bias"] = data[f"bias_{name[0]}h_l0"].values[:, :, rows]
        assert set(flax) == set(spec.axes)
        dims = {n: (*SAMPLE, *(f"{n}_{i}" for i in range(v.ndim - 2))) for n, v in flax.items()}
        flax = xr.Dataset({n: (dims[n], np.asarray(v)) for n, v in flax.items()})
        g = random_element(rng, spec, {"h": 4}, (1, 2))
        one = g.apply({"posterior": flax}, spec.bind(flax))["posterior"]
        two = g.apply({"posterior": data}, preset().bind(data))["posterior"]
        for number, letter in enumerate("ifgo" if kind == "lstm" else "rzn"):
            rows = slice(4 * number, 4 * number + 4)
            for side in "ih":
                expected = two[f"weight_{side}h_l0"].values[:, :, rows].swapaxes(2, 3)
                np.testing.assert_array_equal(one[f"cell.{side}{letter}.kernel"], expected)
        for name, number in biases.items():
            rows = slice(4 * number, 4 * number + 4)
            expected = two[f"bias_{name[0]}h_l0"].values[:, :, rows]
            np.testing.assert_array_equal(one[f"cell.{name}.bias"], expected)


def test_lines():
    assert rnn(naming="flax", prefix="cell.", readout="out").axes == {
        "cell.i.kernel": "x -> h",
        "cell.h.kernel": "h -> h",
        "cell.i.bias": "-> h",
        "out.kernel": "h -> y",
        "out.bias": "-> y",
    }
    assert gru(2, naming="nnx", prefix="rnn_{}.", readout={"V": "h2 ->"}).axes == {
        "rnn_0.dense_i.kernel": "x -> (h1^0 + h1^0 + h1)",
        "rnn_0.dense_h.kernel": "h1 -> (h1^0 + h1^0 + h1)",
        "rnn_0.dense_i.bias": "-> (h1^0 + h1^0 + h1)",
        "rnn_1.dense_i.kernel": "h1 -> (h2^0 + h2^0 + h2)",
        "rnn_1.dense_h.kernel": "h2 -> (h2^0 + h2^0 + h2)",
        "rnn_1.dense_i.bias": "-> (h2^0 + h2^0 + h2)",
        "V": "h2 ->",
    }
    assert lstm(activation="permutation", bias=False).axes["weight_hh_l0"] == "(h + h + h + h) <- h"
    assert rnn(activation="relu", gauges={"h": "unit"}).gauges == {"h": "unit"}
    two = lstm(2, initial="h0")
    assert two.axes["h0"] == "(only_h1 + only_h2) ... (h1 | h2)"
    assert two.sizes == {"only_h1": 1, "only_h2": 1}


@pytest.mark.parametrize(
    ("preset", "options", "fragment"),
    [
        (rnn, {"n_layers": 0}, "rnn: n_layers must be a positive integer, not 0"),
        (
            rnn,
            {"activation": "gelu"},
            "rnn: activation must be one of 'tanh', 'relu', 'permutation', not 'gelu'",
        ),
        (lstm, {"activation": "relu"}, "lstm: activation must be one of 'tanh', 'permutation'"),
        (gru, {"activation": "relu"}, "gru: activation must be one of 'tanh', 'permutation'"),
        (gru, {"naming": "keras"}, "naming must be one of 'torch', 'flax', 'nnx', not 'keras'"),
        (
            gru,
            {"naming": "flax", "bidirectional": True},
            "bidirectional=True needs naming='torch'",
        ),
        (gru, {"naming": "flax", "n_layers": 2}, "needs one '{}' for the layer's number"),
        (lstm, {"readout": ""}, "states that are outputs themselves have no symmetry"),
        (lstm, {"initial": ("h0", "h0")}, "two variables are named 'h0'"),
    ],
)
def test_refused(preset, options, fragment):
    with pytest.raises(SpecError) as caught:
        preset(**options)
    assert fragment in str(caught.value)


def test_integers_of_numpy_are_integers():
    assert gru(np.int64(2), naming="flax", prefix="GRU_{}.") == gru(
        2, naming="flax", prefix="GRU_{}."
    )
