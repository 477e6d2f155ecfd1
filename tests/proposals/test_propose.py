"""The guess at a spec: right where names and shapes tell, in doubt where they do not."""

import math
import re

import numpy as np
import pytest
import xarray as xr
from files import RECORDED, REPOSITORY

from relabel.data.containers import unpack
from relabel.data.participants import sharing
from relabel.errors import DataError, SpecError
from relabel.io.reading import open_draws
from relabel.models import hmm, mlp
from relabel.models.attention import mixer, vit
from relabel.models.convolutional import resnet
from relabel.models.recurrent import gru, lstm, rnn
from relabel.proposals.feedforward import Array
from relabel.proposals.layer_names import read_names
from relabel.proposals.proposal import Proposal, propose
from relabel.spec.spec import Spec

SAMPLE = ("chain", "draw")
DATA = REPOSITORY / "data"


def draws(shapes: dict, dims: dict | None = None, dtype="float64") -> xr.Dataset:
    """Draws of variables of these shapes, with default dimension names unless given."""
    rng = np.random.default_rng(0)
    variables = {}
    for name, shape in shapes.items():
        core = (dims or {}).get(name, tuple(f"{name}_dim_{i}" for i in range(len(shape))))
        values = rng.normal(size=(2, 3, *shape)).astype(dtype)
        variables[name] = ((*SAMPLE, *core), values)
    return xr.Dataset(variables)


def binds(proposal: Proposal, data) -> bool:
    return proposal.spec.bind(sharing(unpack(data))) is not None


# ---------------------------------------------------------------------- where names and shapes tell

#: What samplers and libraries write: shapes, then the axes that they mean.
CONVOLUTIONAL = {
    "torch, norms, flattened, in the order of a file": (
        {
            "bn1.bias": (4,),
            "bn1.num_batches_tracked": (),
            "bn1.running_mean": (4,),
            "bn1.running_var": (4,),
            "bn1.weight": (4,),
            "conv1.weight": (4, 1, 3, 3),
            "conv2.bias": (6,),
            "conv2.weight": (6, 4, 3, 3),
            "fc1.bias": (8,),
            "fc1.weight": (8, 96),
            "fc2.weight": (3, 8),
        },
        {
            "conv1.weight": "h1^0 <- x ...",
            "conv2.weight": "h2 <- h1 ...",
            "conv2.bias": "-> h2",
            "fc1.weight": "h3 <- (h2 p2)",
            "fc1.bias": "-> h3",
            "fc2.weight": "y <- h3",
            "bn1.bias": "-> h1",
            "bn1.running_mean": "h1^0",
            "bn1.running_var": "h1^0",
            "bn1.weight": "-> h1",
        },
    ),
    "torch, numbered, ten layers before two": (
        {
            "10.bias": (2,),
            "10.weight": (2, 5),
            "2.weight": (5, 5, 3),
            "3.bias": (5,),
            "3.weight": (5,),
            "3.running_mean": (5,),
            "0.weight": (5, 1, 3),
            "7.weight": (5, 1, 3),
        },
        {
            "0.weight": "h1 <- x ...",
            "2.weight": "h2^0 <- h1 ...",
            "7.weight": "h2 ...",
            "10.weight": "y <- h2",
            "10.bias": "-> y",
            "3.bias": "-> h2",
            "3.weight": "-> h2",
            "3.running_mean": "h2^0",
        },
    ),
    "flax": (
        {
            "params/Conv_0/bias": (4,),
            "params/Conv_0/kernel": (3, 3, 1, 4),
            "params/Dense_0/kernel": (36, 7),
            "params/Dense_1/kernel": (7, 2),
            "params/LayerNorm_0/scale": (7,),
            "params/LayerNorm_0/bias": (7,),
        },
        {
            "params/Conv_0/kernel": "... x -> h1",
            "params/Conv_0/bias": "-> h1",
            "params/Dense_0/kernel": "(p1 h1) -> h2^0",
            "params/Dense_1/kernel": "h2 -> y",
            "params/LayerNorm_0/scale": "-> h2",
            "params/LayerNorm_0/bias": "-> h2",
        },
    ),
    "an embedding and two heads": (
        {
            "emb.weight": (50, 6),
            "body.weight": (9, 6),
            "mean.weight": (2, 9),
            "spread.weight": (2, 9),
            "spread.bias": (2,),
        },
        {
            "emb.weight": "x -> h1",
            "body.weight": "h2 <- h1",
            "mean.weight": "y1 <- h2",
            "spread.weight": "y2 <- h2",
            "spread.bias": "-> y2",
        },
    ),
    "square, but the names tell": (
        {f"{i}.{k}": s for i in (0, 2, 4) for k, s in (("weight", (5, 5)), ("bias", (5,)))},
        {
            "0.weight": "h1 <- x",
            "0.bias": "-> h1",
            "2.weight": "h2 <- h1",
            "2.bias": "-> h2",
            "4.weight": "y <- h2",
            "4.bias": "-> y",
        },
    ),
}


@pytest.mark.parametrize("case", CONVOLUTIONAL)
def test_names_of_pytorch_and_flax_tell(case):
    shapes, axes = CONVOLUTIONAL[case]
    data = draws(shapes)
    proposal = propose(data)
    assert proposal.certain, proposal.doubts
    assert dict(proposal.spec.axes) == axes
    assert binds(proposal, data)


#: Layers of Flax, numbered in the order in which they are made, and the axes of each.
ORDERS = {
    "nested calls of Flax": (
        {"a.kernel": (6, 2), "c.kernel": (4, 8), "b.kernel": (8, 6)},
        {"c.kernel": "x -> h1", "b.kernel": "h1 -> h2", "a.kernel": "h2 -> y"},
    ),
    "nested calls of Flax with convolutions": (
        {
            "Conv_0.kernel": (3, 3, 4, 6),
            "Conv_1.kernel": (3, 3, 1, 4),
            "Dense_0.kernel": (7, 2),
            "Dense_1.kernel": (24, 7),
        },
        {
            "Conv_1.kernel": "... x -> h1",
            "Conv_0.kernel": "... h1 -> h2",
            "Dense_1.kernel": "(p2 h2) -> h3",
            "Dense_0.kernel": "h3 -> y",
        },
    ),
}


@pytest.mark.parametrize("case", ORDERS)
def test_nested_calls_are_numbered_backwards(case):
    shapes, axes = ORDERS[case]
    arrays = [
        Array(name, tuple(f"{name}_{i}" for i in range(len(shape))), shape)
        for name, shape in shapes.items()
    ]
    reading = read_names(arrays)
    assert reading is not None
    assert reading.named([f"h{i}" for i in range(1, len(shapes))]) == axes
    proposal = propose(draws(shapes))
    assert proposal.spec.axes == axes
    assert binds(proposal, draws(shapes))


def shapes_of(spec: Spec, sizes: dict) -> dict:
    """Shapes of all variables of a spec, from the sizes of its axes."""
    numbers = {"qkv": 3, "dim": 4, "y": 10, "x": 3, "pos": 9} | sizes
    shapes = {}
    for key, line in spec.axes.items():
        spaced = line.replace("->", "").replace("<-", "").replace("^0", "").replace("...", "_ _")
        stored = re.findall(r"\([^)]*\)|\S+", spaced)
        shapes[key] = tuple(
            math.prod(numbers.get(name, 2) for name in axis.strip("()").split()) for axis in stored
        )
    return shapes


PRESETS = {
    "resnet": (resnet((2, 1)), {"r1": 8, "r2": 12, "c1_0": 5}),
    "bottlenecks": (resnet((1, 1), bottleneck=True), {"r0": 8, "r1": 9, "r2": 12}),
    "without norms": (resnet((1, 1), norm=False, bias=True, prefix="net."), {"r1": 8, "r2": 9}),
    "vit of flax": (vit(2, naming="flax"), {"r": 8, "a0": 2, "a1": 2}),
    "mixer": (mixer(2), {"r": 8, "t0": 5, "m0": 6}),
}


@pytest.mark.parametrize("case", PRESETS)
def test_names_of_known_networks_tell_the_preset(case):
    spec, sizes = PRESETS[case]
    data = draws(shapes_of(spec, sizes) | {"bn1.num_batches_tracked": ()})
    proposal = propose(data)
    assert proposal.certain, proposal.doubts
    assert proposal.spec.axes == spec.axes
    assert set(proposal.spec.units.values()) == {"permutation"}


@pytest.mark.parametrize("naming", ["timm", "torchvision"])
def test_the_number_of_heads_is_asked_for(naming):
    shapes = shapes_of(vit(2, heads=2, naming=naming), {"r": 8, "a0": 2, "a1": 2})
    proposal = propose(draws(shapes))
    assert not proposal.certain
    assert "attention heads" in proposal.doubts[0]
    assert proposal.spec.sizes == {"qkv": 3, "a0": 1, "a1": 1}


def test_layers_of_flax_may_be_numbered_backwards():
    """``Dense(2)(relu(Dense(6)(relu(Dense(8)(x)))))`` makes the last layer first."""
    shapes = {"Dense_0.kernel": (6, 2), "Dense_1.kernel": (8, 6), "Dense_2.kernel": (4, 8)}
    proposal = propose(draws(shapes | {"Dense_0.bias": (2,), "Dense_2.bias": (8,)}))
    assert proposal.certain
    assert proposal.spec.axes["Dense_0.kernel"] == "h2 -> y"
    assert proposal.spec.axes["Dense_2.bias"] == "-> h1"
    both = {"Dense_0.kernel": (8, 4), "Dense_1.kernel": (4, 8)}
    assert "more than one order" in propose(draws(both)).doubts[0]
    normed = {"Dense_0.kernel": (4, 8), "Dense_1.kernel": (8, 8), "Dense_2.kernel": (8, 2)}
    norms = {f"LayerNorm_{i}.{k}": (8,) for i in range(2) for k in ("scale", "bias")}
    doubts = propose(draws(normed | norms)).doubts
    assert any("which it follows" in doubt for doubt in doubts)


def test_a_known_network_may_lack_biases():
    spec = vit(1, heads=1)
    shapes = shapes_of(spec, {"r": 8, "a0": 1})
    without = {"blocks.0.attn.qkv.bias", "cls_token"}
    proposal = propose(draws({name: s for name, s in shapes.items() if name not in without}))
    assert set(spec.axes) - set(proposal.spec.axes) == without
    assert not propose(draws({n: s for n, s in shapes.items() if n != "norm.weight"})).certain


def test_what_a_known_network_does_not_have_is_a_doubt():
    shapes = shapes_of(resnet((1,)), {"r1": 8, "c1_0": 5})
    proposal = propose(draws(shapes | {"extra.weight": (8,)}))
    assert "extra.weight" in proposal.doubts[0]
    with pytest.raises(SpecError, match="did you mean 'c1_0'"):
        propose(draws(shapes), units={"c1_1": "relu"})


def test_norms_of_several_layers_of_their_size_are_not_guessed():
    shapes = {"conv1.weight": (4, 1, 3), "conv2.weight": (4, 4, 3), "fc.weight": (2, 4)}
    assert propose(draws(shapes)).certain
    assert not propose(draws({"a.scale": (4,), "a.bias": (4,)} | shapes)).certain


#: Names and shapes that networks other than a plain chain have as well -> a word of the doubt.
NOT_SURE = {
    "residual layers": (
        {"inp.weight": (8, 4), "b1.weight": (8, 8), "b2.weight": (8, 8), "out.weight": (2, 8)},
        "residual",
    ),
    "residual layers of flax": (
        {f"Dense_{i}.kernel": s for i, s in enumerate([(4, 8), (8, 8), (8, 8), (8, 2)])},
        "residual",
    ),
    "a list of layers is no sequence": (
        {f"layers.{i}.weight": s for i, s in enumerate([(8, 4), (8, 8), (8, 8), (2, 8)])},
        "residual",
    ),
    "blocks, wide within": (
        {"0.weight": (6, 3, 3), "1.conv.0.weight": (9, 6, 1), "1.conv.2.weight": (6, 9, 1)}
        | {"3.weight": (2, 6)},
        "residual",
    ),
    "one layer of another kind, applied again and again": (
        {"i.weight": (8, 4), "a.weight": (8, 8), "o.weight": (2, 8)},
        "residual",
    ),
    "gates": ({"w1.weight": (8, 4), "w2.weight": (4, 8), "w3.weight": (8, 4)}, "parallel"),
    "an embedding that is the output too": (
        {"emb.weight": (11, 6), "fc1.weight": (9, 6), "fc2.weight": (6, 9)},
        "residual",
    ),
    "concatenated inputs": (
        {"l1.weight": (8, 4), "l2.weight": (4, 8), "l3.weight": (2, 8)},
        "their concatenation",
    ),
    "a norm of groups": (
        {"0.weight": (8, 3, 3), "1.weight": (8,), "1.bias": (8,), "3.weight": (2, 8)},
        "GroupNorm",
    ),
    "a norm of the inputs": (
        {"0.weight": (8,), "0.bias": (8,), "1.weight": (8, 8), "3.weight": (2, 8)},
        "inputs",
    ),
    "a square transposed convolution": (
        {"0.weight": (8, 3, 3, 3), "2.weight": (8, 8, 2, 2), "4.weight": (2, 8, 1, 1)},
        "transposed",
    ),
    "a network of which only a part follows": (
        {"rnn.hh": (8, 8), "rnn.ih.weight": (8, 5), "fc.weight": (2, 8)},
        "sizes alone",
    ),
    "hand-written, without numbers": (
        {"U": (5, 8), "V": (8, 8), "W": (8, 2), "c": (2,)},
        "recurrent",
    ),
}


@pytest.mark.parametrize("case", NOT_SURE)
def test_what_other_networks_are_named_like_is_in_doubt(case):
    shapes, word = NOT_SURE[case]
    proposal = propose(draws(shapes), activation="relu")
    assert not proposal.certain
    assert any(word in doubt for doubt in proposal.doubts), proposal.doubts


def test_weights_that_are_stored_twice_are_in_doubt():
    data = draws({f"{2 * i}.weight": s for i, s in enumerate([(8, 4), (8, 8), (8, 8), (2, 8)])})
    assert propose(data).certain
    data["4.weight"].values[:] = data["2.weight"].values
    assert "'2.weight' and '4.weight' hold the same" in propose(data).doubts[0]
    turned = draws({"enc.weight": (8, 4), "dec.weight": (4, 8)})
    turned["dec.weight"].values[:] = turned["enc.weight"].values.swapaxes(2, 3)
    assert "hold the same numbers" in propose(turned).doubts[-1]


def test_steps_of_a_sequence_are_not_in_doubt():
    sizes = [(8, 4), (8, 8), (8, 8), (2, 8)]
    for prefix in ("", "net."):
        shapes = {f"{prefix}{2 * i}.weight": size for i, size in enumerate(sizes)}
        assert propose(draws(shapes)).certain
    neighbours = {f"fc{i}.weight": s for i, s in enumerate([(8, 4), (8, 8), (2, 8)])}
    proposal = propose(draws(neighbours))
    assert proposal.certain
    assert any("not to be added up" in note for note in proposal.assumptions)
    assert "relabel.check_function" in proposal.assumptions[-1]


def test_concatenated_layers_are_not_flattened_windows():
    cat = {"a.weight": (8, 4), "b.weight": (8, 8), "c.weight": (2, 16)}
    assert not propose(draws(cat)).certain
    words = {"emb.weight": (11, 6), "fc1.weight": (9, 42), "fc2.weight": (3, 9)}
    assert propose(draws(words)).spec.axes["fc1.weight"] == "h2 <- (p1 h1)"


def test_channels_and_norms_are_not_flipped():
    """Max pooling and padding do not commute with a flip, a norm behind a sigmoid neither."""
    conv = {"0.weight": (6, 3, 3, 3), "3.weight": (8, 6, 3, 3), "7.weight": (4, 32)}
    last = {"9.weight": (2, 4), "9.bias": (2,)}
    for activation, channels in [("tanh", "permutation"), ("sigmoid", "permutation")]:
        proposal = propose(draws(conv | {"7.bias": (4,), **last}), activation=activation)
        assert proposal.certain
        assert list(proposal.spec.units.values()) == [channels, channels, activation]
    normed = {"0.weight": (6, 3), "2.weight": (6,), "2.bias": (6,), "3.weight": (2, 6)}
    for activation, symmetry in [("sigmoid", "permutation"), ("cos", "permutation"),
                                 ("tanh", "tanh"), ("relu", "relu")]:  # fmt: skip
        spec = propose(draws(normed), activation=activation).spec
        assert set(spec.units.values()) == {symmetry}


def test_slopes_of_an_activation_are_in_doubt_where_units_are_scaled():
    shapes = {"0.weight": (8, 4), "1.weight": (8,), "2.weight": (2, 8)}
    assert propose(draws(shapes)).certain
    assert "PReLU" in propose(draws(shapes), activation="relu").doubts[0]


def test_a_transposed_convolution_is_known_by_its_bias():
    shapes = {"0.weight": (4, 6, 2, 2), "0.bias": (6,), "2.weight": (6, 5, 2, 2), "2.bias": (5,)}
    proposal = propose(draws(shapes | {"4.weight": (2, 5, 1, 1)}), activation="relu")
    assert proposal.certain
    assert proposal.spec.axes["2.weight"] == "h1 -> h2 ..."


LAYOUTS = {
    "numpyro": (
        {"W1": (3, 4), "W2": (4, 1), "b1": (4,), "b2": (1,), "sigma": ()},
        {"W1": "x -> h", "b1": "-> h", "W2": "h -> y", "b2": "-> y"},
    ),
    "lower case, no biases": (
        {"w1": (3, 4), "w2": (4, 5), "w3": (5, 2)},
        {"w1": "x -> h1", "w2": "h1 -> h2", "w3": "h2 -> y"},
    ),
    "layers": (
        {"layers.0.w": (2, 4), "layers.0.b": (4,), "layers.1.w": (4, 1), "layers.1.b": (1,)},
        {
            "layers.0.w": "x -> h",
            "layers.0.b": "-> h",
            "layers.1.w": "h -> y",
            "layers.1.b": "-> y",
        },
    ),
    "torch sequential": (
        {"0.weight": (5, 3), "0.bias": (5,), "2.weight": (2, 5), "2.bias": (2,)},
        {"0.weight": "h <- x", "0.bias": "-> h", "2.weight": "y <- h", "2.bias": "-> y"},
    ),
    "torch modules": (
        {"fc1.weight": (5, 3), "fc1.bias": (5,), "fc2.weight": (4, 5), "out.weight": (1, 4)},
        {
            "fc1.weight": "h1 <- x",
            "fc1.bias": "-> h1",
            "fc2.weight": "h2 <- h1",
            "out.weight": "y <- h2",
        },
    ),
    "flax": (
        {
            "nn/Dense_0.kernel": (3, 5),
            "nn/Dense_0.bias": (5,),
            "nn/Dense_1.kernel": (5, 1),
            "nn/Dense_1.bias": (1,),
        },
        {
            "nn/Dense_0.kernel": "x -> h",
            "nn/Dense_0.bias": "-> h",
            "nn/Dense_1.kernel": "h -> y",
            "nn/Dense_1.bias": "-> y",
        },
    ),
    "pymc, one output": (
        {"weights_in_1": (2, 5), "weights_1_2": (5, 4), "weights_2_out": (4,)},
        {"weights_in_1": "x -> h1", "weights_1_2": "h1 -> h2", "weights_2_out": "h2 ->"},
    ),
    "pymc, biases": (
        {
            "w_in": (2, 5),
            "w_out": (5, 1),
            "bias_in": (5,),
            "bias_out": (1,),
        },
        {"w_in": "x -> h", "bias_in": "-> h", "w_out": "h -> y", "bias_out": "-> y"},
    ),
    "biases numbered otherwise": (
        {"w_in_1": (2, 5), "w_1_2": (5, 5), "w_2_out": (5, 1), "bias_1": (5,), "bias_2": (5,)},
        {
            "w_in_1": "x -> h1",
            "bias_1": "-> h1",
            "w_1_2": "h1 -> h2",
            "bias_2": "-> h2",
            "w_2_out": "h2 -> y",
        },
    ),
    "numbers beyond nine": (
        {f"W{i}": (i + 1, i + 2) for i in range(9, 12)},
        {"W9": "x -> h1", "W10": "h1 -> h2", "W11": "h2 -> y"},
    ),
    "biases tell what shapes do not": (
        {"W1": (1, 5), "W2": (5, 1), "b1": (5,), "b2": (1,)},
        {"W1": "x -> h", "b1": "-> h", "W2": "h -> y", "b2": "-> y"},
    ),
    "and the other way round": (
        {"W1": (5, 1), "W2": (1, 5), "b1": (5,), "b2": (1,)},
        {"W1": "h <- x", "b1": "-> h", "W2": "y <- h", "b2": "-> y"},
    ),
    "no numbers, biases tell": (
        {"V": (5, 1), "W": (2, 5), "b": (5,), "c": (1,)},
        {"W": "x -> h", "b": "-> h", "V": "h -> y", "c": "-> y"},
    ),
    "no numbers, one output": (
        {"W": (2, 5), "V": (5,), "b": (5,)},
        {"W": "x -> h", "b": "-> h", "V": "h ->"},
    ),
    "five matrices without numbers": (
        {name: (i, i + 1) for i, name in enumerate(["w", "u", "v", "fc", "dense"], 3)}
        | {"b": (4,), "c": (8,)},
        {"w": "x -> h1", "b": "-> h1", "u": "h1 -> h2", "v": "h2 -> h3", "fc": "h3 -> h4"}
        | {"dense": "h4 -> y", "c": "-> y"},
    ),
    "eight matrices stored in two ways": (
        {f"W{i}": (i, i + 1) for i in range(3, 10)} | {"W10": (2, 10)},
        {"W3": "x -> h1"}
        | {f"W{i}": f"h{i - 3} -> h{i - 2}" for i in range(4, 10)}
        | {"W10": "y <- h7"},
    ),
    "stored in two ways": (
        {"W1": (3, 5), "b1": (5,), "W2": (1, 5)},
        {"W1": "x -> h", "b1": "-> h", "W2": "y <- h"},
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_axes(name):
    shapes, axes = LAYOUTS[name]
    data = draws(shapes)
    proposal = propose(data)
    assert proposal.doubts == ()
    assert proposal.certain
    assert proposal.spec.axes == axes
    assert set(proposal.spec.units.values()) == {"permutation"}
    assert binds(proposal, data)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_order_of_the_variables_does_not_matter(name):
    shapes, _ = LAYOUTS[name]
    back = dict(reversed(shapes.items()))
    assert propose(draws(back)).spec == propose(draws(shapes)).spec


@pytest.mark.parametrize("file", ["tanh_shallow.nc", "tanh_deep.nc"])
def test_real_draws(file):
    with xr.open_datatree(DATA / file, engine="h5netcdf") as data:
        proposal = propose(data)
        assert proposal.certain
        assert proposal.spec == mlp(1 if "shallow" in file else 2, "tanh")
        assert binds(proposal, data)


def test_named_dimensions_tell_where_all_is_square():
    dims = {"W1": ("unit", "input"), "W2": ("output", "unit"), "b1": ("unit",)}
    data = draws({"W1": (4, 4), "W2": (4, 4), "b1": (4,)}, dims)
    proposal = propose(data, units={"h": "tanh"})
    assert proposal == Proposal(Spec({"h": "tanh"}, {"W1": "h <- x", "b1": "-> h", "W2": "y <- h"}))


def test_named_dimensions_of_a_deep_square_network():
    dims = {"W1": ("a", "u1"), "W2": ("u1", "u2"), "W3": ("u2", "z")}
    proposal = propose(draws(dict.fromkeys(dims, (4, 4)), dims), units={"g": "relu", "h": "tanh"})
    assert proposal.spec.axes == {"W1": "x -> g", "W2": "g -> h", "W3": "h -> y"}
    assert proposal.certain
    assert proposal.assumptions == ()


@pytest.mark.parametrize("ends", [("input", "z"), ("a", "output"), ("in_dim", "z"), ("a", "y")])
@pytest.mark.parametrize("turned", [False, True])
def test_words_for_inputs_and_outputs_tell_the_order(ends, turned):
    dims = {"V": ("u", ends[1]), "W": (ends[0], "u")}
    shapes = {"V": (5, 1), "W": (2, 5)}
    if turned:
        dims, shapes = ({k: v[::-1] for k, v in table.items()} for table in (dims, shapes))
    proposal = propose(draws(shapes, dims))
    assert proposal.certain
    assert proposal.spec.axes == (
        {"W": "h <- x", "V": "y <- h"} if turned else {"W": "x -> h", "V": "h -> y"}
    )


def test_nothing_is_assumed_of_a_square_matrix_that_dimension_names_tell():
    for dims in (
        {"W1": ("a", "u"), "W2": ("u", "z")},
        {"W1": ("a", "u"), "W2": ("u2", "z"), "b1": ("u",)},
    ):
        shapes = {"W1": (4, 4), "W2": (4, 2), "b1": (4,)}
        proposal = propose(draws({name: shapes[name] for name in dims}, dims), {"h": "tanh"})
        assert proposal.certain
        assert proposal.assumptions == ()


def test_two_different_shared_names_are_not_one_axis():
    """The sizes would fit a network 4-4-4 stored (in, out); the names say otherwise."""
    dims = {"W1": ("u", "a"), "W2": ("y", "u"), "b0": ("a",), "b9": ("y",)}
    data = draws({"W1": (4, 4), "W2": (4, 4), "b0": (4,), "b9": (4,)}, dims)
    assert propose(data).spec.axes["W1"] == "h <- x"


# ---------------------------------------------------------------------- assumptions


def test_a_square_matrix_is_stored_like_the_others():
    for shapes, axes in (
        ({"W1": (3, 4), "W2": (4, 4), "W3": (4, 1)}, ["x -> h1", "h1 -> h2", "h2 -> y"]),
        ({"W1": (4, 3), "W2": (4, 4), "W3": (1, 4)}, ["h1 <- x", "h2 <- h1", "y <- h2"]),
    ):
        proposal = propose(draws(shapes))
        assert list(proposal.spec.axes.values()) == axes
        assert proposal.certain
        how = "(in, out)" if "->" in axes[0] else "(out, in)"
        assert f"W2 is square and taken to be stored {how} like the others" in proposal.assumptions


def test_several_square_matrices():
    shapes = {"W1": (4, 4), "W2": (4, 4), "W3": (4, 1)}
    assert propose(draws(shapes)).assumptions[0].startswith("W1, W2 are square and taken")


def test_assumptions_about_order_and_storage():
    (note, _) = propose(draws(LAYOUTS["no numbers, biases tell"][0])).assumptions
    assert "the names do not number the layers" in note
    assert "W, V stored (in, out): 2 → 5 → 1" in note
    (note, _) = propose(draws(LAYOUTS["stored in two ways"][0])).assumptions
    assert "W1 stored (in, out) and W2 stored (out, in): 3 → 5 → 1" in note


def test_activation_of_the_attribute():
    data = draws({"W1": (3, 4), "W2": (4, 5), "W3": (5, 1)})
    data.attrs["activation"] = "relu"
    proposal = propose(data)
    assert proposal.spec.units == {"h1": "relu", "h2": "relu"}
    assert proposal.assumptions[0] == (
        "the activation of all hidden layers is relu, by the attribute of the posterior"
    )


@pytest.mark.parametrize("attribute", ["swoosh", '["tanh", "relu"]', 3, np.array([1, 2])])
def test_unknown_activation_of_the_attribute(attribute):
    data = draws({"W1": (3, 4), "W2": (4, 1)})
    data.attrs["activation"] = attribute
    proposal = propose(data)
    assert proposal.spec.units == {"h": "permutation"}
    assert proposal.certain
    (note,) = proposal.assumptions
    assert f"the attribute activation = {attribute!r} is not known" in note


def test_no_activation():
    (note,) = propose(draws({"W1": (3, 4), "W2": (4, 1)})).assumptions
    assert note.startswith("the activation is not known: units are only permuted, which is always")
    assert "units={'h': 'tanh'}" in note


def test_units_win_over_the_attribute():
    data = draws({"W1": (3, 4), "W2": (4, 1)})
    data.attrs["activation"] = "relu"
    proposal = propose(data, units={"hidden": "tanh"})
    assert proposal.spec == Spec({"hidden": "tanh"}, {"W1": "x -> hidden", "W2": "hidden -> y"})
    assert proposal.assumptions == ()


def test_units_are_named_in_order():
    proposal = propose(draws(LAYOUTS["lower case, no biases"][0]), {"b": "relu", "a": "tanh"})
    assert proposal.spec.units == {"b": "relu", "a": "tanh"}
    assert proposal.spec.axes == {"w1": "x -> b", "w2": "b -> a", "w3": "a -> y"}


def test_units_named_like_inputs_and_outputs():
    proposal = propose(
        draws({"W1": (3, 4), "W2": (4, 5), "W3": (5, 1)}), {"y": "tanh", "x": "tanh"}
    )
    assert proposal.spec.axes == {"W1": "x_ -> y", "W2": "y -> x", "W3": "x -> y_"}


@pytest.mark.parametrize("units", [{"h": "tanh"}, {"a": "tanh", "b": "tanh", "c": "tanh"}])
def test_wrong_number_of_units(units):
    with pytest.raises(SpecError) as caught:
        propose(draws({"W1": (3, 4), "W2": (4, 5), "W3": (5, 1)}), units=units)
    assert f"for {len(units)} sets" in str(caught.value)
    assert "hidden layers have 4, 5 units" in str(caught.value)
    assert "{'h1': 'tanh', 'h2': 'tanh'}" in str(caught.value)


def test_unknown_activation_of_units():
    with pytest.raises(SpecError, match="unknown activation 'tahn'"):
        propose(draws({"W1": (3, 4), "W2": (4, 1)}), units={"h": "tahn"})


# ---------------------------------------------------------------------- doubts

#: Draws of which names and shapes fit two networks, and how the doubt tells them apart.
AMBIGUOUS = {
    "all square": (
        {"W1": (4, 4), "W2": (4, 4), "b1": (4,), "b2": (4,)},
        [
            "(1) W1, W2 stored (in, out): 4 → 4 → 4",
            "(2) W1, W2 stored (out, in): 4 → 4 → 4",
            "W1 = 'x -> h' if W1 is stored (in, out), 'h <- x' if (out, in)",
        ],
    ),
    "deep and square": (
        {f"W{i}": (3, 3) for i in range(1, 5)},
        ["W1, W2, W3, W4 stored (in, out): 3 → 3", "W1, W2, W3, W4 stored (out, in): 3 → 3"],
    ),
    "both ways": (
        {"W1": (1, 5), "W2": (5, 1)},
        [
            "(1) W1, W2 stored (in, out): 1 → 5 → 1",
            "(2) W1, W2 stored (out, in): 5 → 1 → 5",
        ],
    ),
    "no order": (
        {"W": (2, 5), "V": (5, 1), "b": (5,)},
        [
            "(1) W, V stored (in, out): 2 → 5 → 1",
            "(2) V, W stored (out, in): 1 → 5 → 2",
        ],
    ),
    "more than three": (
        {"W": (4, 4), "V": (4, 4), "U": (4, 4)},
        ["(3) ", ": 4 → 4 → 4 → 4; and 9 more. The first"],
    ),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_ambiguous(name):
    shapes, fragments = AMBIGUOUS[name]
    data = draws(shapes)
    proposal = propose(data)
    assert not proposal.certain
    (doubt,) = proposal.doubts
    assert [f for f in fragments if f not in doubt] == []
    assert "The first is proposed" in doubt
    first = next(iter(shapes))
    assert proposal.spec.axes[first].startswith("x -> h")
    assert binds(proposal, data)
    assert not any("square" in note for note in proposal.assumptions)


def test_many_square_layers_are_quick_and_short():
    proposal = propose(draws({f"W{i}": (2, 2) for i in range(40)}))
    (doubt,) = proposal.doubts
    assert "W0, W1, W2, ..., W38, W39 stored (in, out)" in doubt
    assert len(proposal.spec.units) == 39


@pytest.mark.parametrize("shape", [(4,), (20, 4), (4, 7, 2)])
def test_what_has_the_size_of_a_layer_is_in_doubt(shape):
    data = draws({"W1": (3, 4), "b1": (4,), "W2": (4, 1), "tau": shape})
    proposal = propose(data)
    assert "tau" not in proposal.spec.axes
    (doubt,) = proposal.doubts
    assert doubt.startswith("tau (")
    assert "has an axis of the size of h, and neither its name nor its dimensions" in doubt
    assert "'h^0'" in doubt


def test_what_has_another_size_is_left_out():
    shapes = {"W1": (3, 4), "b1": (4,), "W2": (4, 1), "sigma": (), "f": (20,), "cov": (3, 3, 3)}
    proposal = propose(draws(shapes))
    assert proposal.certain
    assert set(proposal.spec.axes) == {"W1", "b1", "W2"}


def test_dimension_names_clear_what_has_the_size_of_a_layer():
    dims = {"W1": ("input", "unit"), "W2": ("unit", "output"), "f": ("obs",)}
    proposal = propose(draws({"W1": (3, 4), "W2": (4, 1), "f": (4,)}, dims))
    assert proposal.certain


@pytest.mark.parametrize("shape", [(3,), (7,)])
def test_a_bias_of_no_layer_is_in_doubt(shape):
    proposal = propose(draws({"W1": (3, 4), "W2": (4, 1), "b1": shape}))
    assert set(proposal.spec.axes) == {"W1", "W2"}
    assert proposal.doubts == (
        f"b1 ({shape[0]}) looks like a bias, but it is not clear which layer it belongs to",
    )


def test_a_bias_of_either_layer_is_in_doubt():
    proposal = propose(draws({"w_in": (3, 4), "w_1": (4, 4), "w_out": (4, 2), "bias": (4,)}))
    assert "bias" not in proposal.spec.axes
    assert "bias (4) has an axis of the size of h1 and h2" in proposal.doubts[0]


def test_scales_of_weights_are_not_weights():
    shapes = {"W1": (3, 5), "W2": (5, 1), "W1_scale": (3, 5), "W2_scale": (5, 1)}
    proposal = propose(draws(shapes))
    assert proposal.spec.axes == {"W1": "x -> h", "W2": "h -> y"}
    assert [doubt.split()[0] for doubt in proposal.doubts] == ["W1_scale", "W2_scale"]


def test_two_networks_are_in_doubt():
    shapes = {"mu.w1": (3, 5), "mu.w2": (5, 1), "sd.w1": (3, 4), "sd.w2": (4, 1)}
    proposal = propose(draws(shapes))
    assert proposal.spec is None
    assert (
        "more than one network (mu.w1, mu.w2 stored (in, out): 3 → 5 → 1; sd.w1"
        in (proposal.doubts[0])
    )


def test_a_spec_that_does_not_bind_is_in_doubt():
    data = draws({"W1": (3, 4), "b1": (4,), "W2": (4, 1)})
    proposal = propose(data, units={"h": "sigmoid"})
    assert not proposal.certain
    (doubt,) = proposal.doubts
    assert doubt.startswith(
        "as sigmoid it does not fit: units 'h' (sigmoid): a flip moves the bias"
    )
    assert proposal.spec.units == {"h": "permutation"}
    assert binds(proposal, data)


def test_a_companion_that_flips_is_in_doubt():
    dims = {"W1": ("input", "unit"), "W2": ("unit", "output"), "tau": ("unit",)}
    data = draws({"W1": (3, 4), "W2": (4, 1), "tau": (4,)}, dims)
    assert propose(data).certain  # permuted with its dimension
    (doubt,) = propose(data, units={"h": "tanh"}).doubts
    assert "as tanh it does not fit: variable 'tau' shares the dimension 'unit'" in doubt


def test_no_units_is_in_doubt():
    proposal = propose(draws({"W1": (3, 0), "W2": (0, 1)}))
    assert proposal.spec is None
    assert "no units 'h': size 0" in proposal.doubts[0]


@pytest.mark.parametrize(
    ("shapes", "seen"),
    [
        ({"W1": (3, 4), "b1": (4,)}, "W1 (3 × 4), b1 (4)"),
        ({"w1": (5,), "b1": (5,), "w2": (5,)}, "w1 (5), b1 (5), w2 (5)"),
        ({"W1": (3, 4), "w_tau": (4,)}, "W1 (3 × 4), w_tau (4)"),
        ({f"W{c}": (3, 3) for c in "abcdef"}, "Wa (3 × 3)"),
        ({"W1": (3, 4), "W2": (5, 1)}, "W1 (3 × 4), W2 (5 × 1)"),
        ({"sigma": ()}, "only scalars"),
        ({f"v{i}": (i,) for i in range(2, 14)}, "and 2 more"),
    ],
)
def test_nothing_found(shapes, seen):
    proposal = propose(draws(shapes))
    assert proposal.spec is None
    assert not proposal.certain
    (doubt,) = proposal.doubts
    assert "neither two or more weight matrices in a row that share a size" in doubt
    assert seen in doubt
    assert "axes={'W1': 'x -> h'" in doubt


@pytest.mark.parametrize("dtype", ["object", "int64"])
def test_weights_are_floats(dtype):
    assert propose(draws({"W1": (3, 4), "W2": (4, 1)}, dtype=dtype)).spec is None


@pytest.mark.parametrize(
    "data",
    [
        xr.Dataset(),
        draws({"W1": (3, 4)}).isel(draw=slice(0)),
        draws({"W1": (3, 4)}).isel(chain=0),
        xr.DataTree.from_dict({"/prior": draws({"W1": (3, 4)})}),
        {"posterior": draws({"W1": (3, 4)})},
    ],
)
def test_no_draws(data):
    with pytest.raises(DataError):
        propose(data)


# ---------------------------------------------------------------------- dimensions only


def mixture(**changes) -> xr.DataTree:
    dims = {"mu": ("component",), "w": ("component",), "z": ("obs",)} | changes
    sizes = {"component": 3, "obs": 9, "state": 4, "item": 5}
    shapes = {name: tuple(sizes[d] for d in core) for name, core in dims.items()}
    return xr.DataTree.from_dict({"/posterior": draws(shapes, dims)})


def test_a_shared_dimension():
    data = mixture()
    proposal = propose(data)
    assert proposal.spec == Spec({"component": "permutation"})
    assert proposal.certain
    (note,) = proposal.assumptions
    assert "several variables share component" in note
    assert "taken to be exchangeable" in note
    assert binds(proposal, data)


def test_units_that_are_dimensions():
    assert propose(mixture(), {"component": "permutation"}).spec == Spec(
        {"component": "permutation"}
    )
    assert propose(mixture(), {"component": "permutation"}).assumptions == ()
    proposal = propose(mixture(), {"obs": "permutation"})
    assert proposal == Proposal(Spec({"obs": "permutation"}))


def test_units_that_are_no_dimensions():
    with pytest.raises(SpecError, match=r"no dimension is named k; .* share are component"):
        propose(mixture(), {"k": "permutation"})


def test_units_without_the_arrow_that_they_need():
    proposal = propose(mixture(), {"component": "relu"})
    assert proposal.spec == Spec({"component": "permutation"})
    assert "as relu it does not fit" in proposal.doubts[0]


def test_two_shared_dimensions_are_in_doubt():
    proposal = propose(mixture(a=("state",), b=("state",)))
    assert proposal.spec.units == {"component": "permutation", "state": "permutation"}
    assert "share the dimensions component, state: keep as units only those" in proposal.doubts[0]


def test_dimensions_of_the_data_come_last():
    data = mixture(p=("obs", "component"))
    data["observed_data"] = xr.DataTree(xr.Dataset({"y": ("obs", np.zeros(9))}))
    assert propose(data).spec == Spec({"component": "permutation"})
    assert propose(data).certain
    assert propose(mixture(p=("obs", "component"))).spec == Spec({"component": "permutation"})
    nameless = mixture(p=("obs", "component"))["posterior"].to_dataset().rename(component="grp")
    assert set(propose(nameless).spec.units) == {"grp", "obs"}


def test_a_dimension_of_the_data_is_in_doubt():
    data = mixture()
    data["constant_data"] = xr.DataTree(xr.Dataset({"size": ("component", np.zeros(3))}))
    (doubt,) = propose(data).doubts
    assert "the data have the dimension 'component' too" in doubt


@pytest.mark.parametrize("name", ["true_mu", "mu_true"])
def test_true_values_are_no_data(name):
    data = mixture()
    data["constant_data"] = xr.DataTree(xr.Dataset({name: ("component", np.zeros(3))}))
    assert propose(data).certain


@pytest.mark.parametrize(
    ("labels", "certain"),
    [
        ([0, 1, 2], True),
        (["c1", "c2", "c3"], True),
        (["Berlin", "Paris", "Rome"], False),
    ],
)
def test_entries_with_names_are_in_doubt(labels, certain):
    posterior = mixture()["posterior"].to_dataset().assign_coords(component=labels)
    proposal = propose(posterior)
    assert proposal.certain == certain
    assert certain or "have names (Berlin, Paris, Rome, ...)" in proposal.doubts[0]


def test_factors_are_no_network():
    """Loadings and scores share a size like two layers do, but their names say no such thing."""
    dims = {"Lambda": ("item", "factor"), "eta": ("factor", "obs"), "psi": ("item",)}
    posterior = draws({"Lambda": (12, 3), "eta": (3, 30), "psi": (12,)}, dims)
    data = xr.DataTree.from_dict(
        {
            "/posterior": posterior,
            "/observed_data": xr.Dataset({"Y": (("obs", "item"), np.ones((30, 12)))}),
        }
    )
    assert propose(data).spec == Spec({"factor": "signed"})
    assert propose(data).certain


# ---------------------------------------------------------------------- labels, two sides, signs


def states(**more) -> xr.Dataset:
    """A hidden Markov model of three states."""
    rng = np.random.default_rng(0)
    found = {
        "mu": ((*SAMPLE, "state"), rng.normal(size=(2, 5, 3))),
        "p0": ((*SAMPLE, "state"), rng.dirichlet(np.ones(3), (2, 5))),
        "P": ((*SAMPLE, "state", "state_to"), rng.dirichlet(np.ones(3), (2, 5, 3))),
        "path": ((*SAMPLE, "time"), rng.integers(0, 3, (2, 5, 20))),
    }
    return xr.Dataset(found | more)


def test_a_transition_matrix_and_paths():
    proposal = propose(states())
    assert proposal.certain
    assert proposal.spec == hmm(["mu", "p0"], z="path")
    assert "two axes of 'state', state and state_to" in proposal.assumptions[1]
    assert "'path' are labels of 'state'" in proposal.assumptions[2]
    assert binds(proposal, states())
    given = propose(states(), {"state": "permutation"})
    assert given.spec == proposal.spec
    assert given.certain


@pytest.mark.parametrize("other", ["to", "P_dim_1"])
@pytest.mark.parametrize("turned", [False, True])
def test_a_transition_matrix_that_only_its_values_tell(other, turned):
    dims = ("state", "state_to")[:: -1 if turned else 1]
    data = states().transpose(..., *dims).rename(state_to=other)
    proposal = propose(data)
    assert proposal.spec == hmm(["mu", "p0"], z="path")
    (doubt,) = proposal.doubts
    assert f"taken from its size and its values, not from the name '{other}'" in doubt
    theta = states(P=((*SAMPLE, "state", "word"), np.random.default_rng(0).random((2, 5, 3, 3))))
    assert propose(theta).spec == Spec({"state": "permutation"}, values={"path": "state"})


def test_more_axes_than_two():
    rng = np.random.default_rng(0)
    P = ((*SAMPLE, "time", "from_state", "to_state"), rng.dirichlet(np.ones(3), (2, 5, 20, 3)))
    assert propose(states(P=P)).spec.axes["P"] == "_ state state"


@pytest.mark.parametrize("dtype", ["int8", "float64"])
@pytest.mark.parametrize(
    ("name", "change", "declared", "doubt"),
    [
        ("z", lambda z: z, True, None),
        ("z", lambda z: np.where(z == 2, -1, z), True, None),  # one state is empty
        ("z", lambda z: z + 1, False, "from 1 to 3 of the 3 units 'state': they look 1-based"),
        ("counts", lambda z: z, False, "integers that could be labels of the units 'state'"),
        ("counts", lambda z: z + 3, False, None),
        ("z", lambda z: z + 3, False, None),
    ],
)
def test_labels_by_name_and_range(dtype, name, change, declared, doubt):
    z = change(states()["path"].values).astype(dtype)
    if dtype == "float64":
        z[z < 0] = np.nan
        declared &= np.nanmax(z) == 2  # floats that hold few numbers may be anything
    data = states().drop_vars("path").assign({name: ((*SAMPLE, "time"), z)})
    proposal = propose(data)
    assert proposal.spec.values == ({name: "state"} if declared else {})
    assert len(proposal.doubts) == (doubt is not None)
    assert doubt is None or doubt in proposal.doubts[0]


def factors(**more) -> xr.Dataset:
    rng = np.random.default_rng(0)
    found = {
        "Lambda": ((*SAMPLE, "item", "factor"), rng.normal(size=(2, 5, 6, 3))),
        "eta": ((*SAMPLE, "person", "factor"), rng.normal(size=(2, 5, 9, 3))),
    }
    return xr.Dataset(found | more)


def test_signs_of_factors():
    proposal = propose(factors())
    assert proposal.spec == Spec({"factor": "signed"})
    assert proposal.certain
    assert "may change their sign" in proposal.assumptions[1]
    assert "say 'orthogonal' (criterion rsp or procrustes)" in proposal.assumptions[1]
    root = np.random.default_rng(0).normal(size=(2, 5, 3, 3))
    phi = ((*SAMPLE, "factor", "factor_"), root @ root.swapaxes(-1, -2))
    tau = ((*SAMPLE, "factor"), np.ones((2, 5, 3)))
    proposal = propose(factors(tau=tau, Phi=phi))
    assert proposal.certain
    assert proposal.spec.axes == {
        "Lambda": "_ factor",
        "eta": "_ factor",
        "tau": "factor^0",
        "Phi": "factor factor",
    }


def test_factors_of_one_sign_are_only_permuted():
    assert propose(abs(factors())).spec == Spec({"factor": "permutation"})


def test_constrained_loadings_are_in_doubt():
    data = factors()
    data["Lambda"].values[..., 0, 2] = 0
    (doubt,) = propose(data).doubts
    assert "entries of 'Lambda' are zero in all draws" in doubt


# ---------------------------------------------------------------------- text


@pytest.mark.parametrize("name", [*AMBIGUOUS, *LAYOUTS])
def test_toml_reads_back(name):
    proposal = propose(draws((AMBIGUOUS | LAYOUTS)[name][0]))
    text = proposal.to_toml()
    assert Spec.from_toml(text) == proposal.spec
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert len(comments) == len(proposal.assumptions) + len(proposal.doubts)
    assert all(f"# in doubt: {doubt}" in comments for doubt in proposal.doubts)
    assert all(f"# assumed: {note}" in comments for note in proposal.assumptions)


def test_toml_without_a_spec_or_notes():
    assert Proposal(None, ("why", "not\nso")).to_toml() == "# in doubt: why\n# in doubt: not so\n"
    assert Proposal(Spec({"h": "tanh"})).to_toml() == '[units]\nh = "tanh"\n'


def test_a_single_output_has_a_scalar_bias():
    """Weights of one output as a vector, and its bias as a number."""
    draws = open_draws(RECORDED / "samplers" / "pymc_named.nc")
    proposal = propose(draws, units={"hidden": "sigmoid"})
    assert proposal.certain
    assert proposal.spec.axes["b2"] == "->"
    assert proposal.spec.units == {"hidden": "sigmoid"}


def recurrent(rows: int, *, layers: int = 1, both: bool = False, size: int = 6) -> dict:
    """Shapes of PyTorch's arrays, with a dense layer behind."""
    shapes = {}
    for layer in range(layers):
        n_in = 5 if layer == 0 else size * (1 + both)
        for end in ("", "_reverse")[: 1 + both]:
            shapes[f"net.weight_ih_l{layer}{end}"] = (rows * size, n_in)
            shapes[f"net.weight_hh_l{layer}{end}"] = (rows * size, size)
            shapes[f"net.bias_ih_l{layer}{end}"] = shapes[f"net.bias_hh_l{layer}{end}"] = (
                rows * size,
            )
    return shapes | {"fc.weight": (2, size * (1 + both)), "fc.bias": (2,)}


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize(("rows", "preset"), [(4, lstm), (3, gru), (1, rnn)])
def test_names_of_recurrent_networks_tell_the_preset(rows, preset, both, layers):
    data = draws(recurrent(rows, layers=layers, both=both) | {"words.weight": (30, 5)})
    proposal = propose(data, activation="tanh")
    assert proposal.certain, proposal.doubts
    assert proposal.spec == preset(layers, prefix="net.", bidirectional=both)
    assert any("words.weight carry no units" in note for note in proposal.assumptions)


def test_what_may_carry_units_of_a_recurrent_network_is_a_doubt():
    proposal = propose(draws(recurrent(4) | {"norm.weight": (6,)}))
    assert "norm.weight" in proposal.doubts[0]
    assert set(propose(draws(recurrent(1))).spec.units.values()) == {"permutation"}


@pytest.mark.parametrize("order", ["of a model", "of the alphabet"])
def test_a_norm_goes_with_the_convolution_of_its_number(order):
    shapes = {
        "conv1.weight": (8, 1, 3), "bn1.weight": (8,), "bn1.bias": (8,), "bn1.running_mean": (8,),
        "conv2.weight": (12, 8, 3), "bn2.weight": (12,), "bn2.running_mean": (12,),
        "fc1.weight": (8, 48), "fc1.bias": (8,), "fc2.weight": (4, 8),
    }  # fmt: skip
    names = shapes if order == "of a model" else sorted(shapes)
    proposal = propose(draws({name: shapes[name] for name in names}), activation="relu")
    assert proposal.spec.axes["conv1.weight"] == "h1^0 <- x ..."
    assert proposal.spec.axes["bn1.weight"] == "-> h1"
    unsure = any("not clear which it follows" in doubt for doubt in proposal.doubts)
    assert unsure == (order == "of the alphabet")


@pytest.mark.parametrize("units", [None, {"h": "batchnorm"}])
def test_batchnorm_is_no_activation(units):
    data = draws({"0.weight": (5, 3), "0.bias": (5,), "2.weight": (2, 5)})
    with pytest.raises(SpecError, match="is no activation"):
        propose(data, units) if units else propose(data, activation="batchnorm")
    with pytest.raises(SpecError, match="is no activation"):
        mlp(1, "batchnorm")
    with pytest.raises(SpecError, match="is no activation"):
        vit(1, heads=2, activation="batchnorm")
