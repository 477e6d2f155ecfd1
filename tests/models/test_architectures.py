"""Presets of convolutional, residual and attention networks: lines, messages, recovery."""

import numpy as np
import pytest
import xarray as xr

import relabel
from relabel.errors import SpecError
from relabel.models.forward_pass import Network
from relabel.simulate import ARCHITECTURES, architecture, planted_draws, recovery
from relabel.simulate.architectures import resnet_shapes

SAMPLE = ("chain", "draw")

EVERY = {
    "lenet": relabel.models.lenet(),
    "lenet flax": relabel.models.lenet(3, 1, ["relu", "tanh", "gelu"], naming="flax", norm="bn{}"),
    "resnet": relabel.models.resnet(),
    "resnet relu": relabel.models.resnet((3, 4, 6, 3), bottleneck=True, activation="relu"),
    "resnet flax": relabel.models.resnet(
        (1, 1), naming="flax", statistics="batch_stats.", prefix="p."
    ),
    "vit": relabel.models.vit(2, heads=4, gauges={"m1": "unit"}, activation="relu"),
    "vit torch": relabel.models.vit(2, heads=4, naming="torch", prefix="encoder."),
    "vit torchvision": relabel.models.vit(2, heads=4, naming="torchvision"),
    "vit flax": relabel.models.vit(2, naming="flax"),
    "mixer": relabel.models.mixer(2),
    "mixer flax": relabel.models.mixer(2, naming="flax", activation="relu"),
}


def filled(**shapes):
    """One draw of ones, by shape."""
    return xr.Dataset(
        {
            name: ((*SAMPLE, *(f"{name}_{i}" for i in range(len(shape)))), np.ones((1, 1, *shape)))
            for name, shape in shapes.items()
        }
    )


@pytest.mark.parametrize("name", EVERY)
def test_written_as_text_and_read_back(name):
    spec = EVERY[name]
    assert relabel.Spec.from_toml(spec.to_toml()) == spec
    assert relabel.Spec.from_json(spec.to_json()) == spec


# ---------------------------------------------------------------------- names and lines


def test_names_of_torchvision():
    """All floating arrays of ResNet-18 and ResNet-50, and no others."""
    for blocks, narrow, number in [((2, 2, 2, 2), False, 102), ((3, 4, 6, 3), True, 267)]:
        shapes = resnet_shapes(blocks, (8, 8, 8, 8), bottleneck=narrow)
        spec = relabel.models.resnet(blocks, bottleneck=narrow)
        assert set(spec.axes) == set(shapes)
        assert len(shapes) == number
        assert set(spec.bind(filled(**shapes)).sizes.values()) <= {8, 32}


def test_streams_of_residual_networks():
    assert list(relabel.models.resnet((1, 2)).units) == ["r1", "c1_0", "r2", "c2_0", "c2_1"]
    deep = relabel.models.resnet((1, 1), bottleneck=True)
    assert list(deep.units) == ["r0", "r1", "c1_0_1", "c1_0_2", "r2", "c2_0_1", "c2_0_2"]
    assert deep.axes["conv1.weight"] == "r0^0 <- x ..."
    assert deep.axes["layer2.0.downsample.0.weight"] == "r2^0 <- r1 ..."
    assert deep.axes["layer2.0.conv3.weight"] == "r2^0 <- c2_0_2 ..."
    assert deep.axes["layer2.0.bn3.running_var"] == "r2^0"
    one = relabel.models.resnet((1, 1), downsample=(False, False), bias=True, norm=False)
    assert list(one.units) == ["r1", "c1_0", "c2_0"]
    assert one.axes["layer2.0.conv1.bias"] == "-> c2_0"
    assert "bn1.running_mean" not in relabel.models.resnet(statistics=False).axes
    flax = EVERY["resnet flax"].axes
    assert flax["p.ResNetBlock_1.Conv_1.kernel"] == "... c2_0 -> r2^0"
    assert flax["batch_stats.ResNetBlock_1.norm_proj.var"] == "r2^0"
    assert flax["p.bn_init.scale"] == "-> r1"


def test_signs_where_pooling_and_padding_allow_them():
    assert relabel.models.lenet(1, 2, "tanh", pool="max").units == {
        "c1": "permutation",
        "h1": "tanh",
    }
    assert relabel.models.lenet(1, 2, "tanh", pool="mean").units == {"c1": "tanh", "h1": "tanh"}
    assert relabel.models.lenet(1, 2, "sigmoid", pool=None).units == {
        "c1": "permutation",
        "h1": "sigmoid",
    }
    assert relabel.models.lenet(1, 2, "square").units == {"c1": "square", "h1": "square"}
    tanh = relabel.models.resnet((1, 1), activation="tanh").units
    assert tanh == {"r1": "permutation", "c1_0": "tanh", "r2": "tanh", "c2_0": "tanh"}
    even = relabel.models.resnet(
        (1, 1), activation="abs"
    ).units  # a stream is added up on both sides
    assert even == {"r1": "permutation", "c1_0": "abs", "r2": "permutation", "c2_0": "abs"}


def test_lines_that_are_changed():
    spec = relabel.models.vit(
        1, heads=2, axes={"cls_token": None, "pos_embed": "_ r", "reg": "_ r"}
    )
    assert "cls_token" not in spec.axes
    assert spec.axes["pos_embed"] == spec.axes["reg"] == "_ r"
    blocks = relabel.models.vit(1, heads=2, naming="torch")
    assert "r" not in blocks.units
    whole = relabel.models.vit(1, heads=2, naming="torch", axes={"embed": "_ r", "head": "y <- r"})
    assert whole.units["r"] == "permutation"
    assert set(blocks.axes) == set(whole.axes) - {"embed", "head"}


def test_positions_of_a_flattened_convolution():
    spec = relabel.models.lenet(1, 1, naming="flax")
    shapes = {"Conv_0.kernel": (3, 3, 1, 2), "Conv_0.bias": (2,), "Dense_0.bias": (4,)}
    for positions in (1, 9):
        data = filled(**shapes, **{"Dense_0.kernel": (positions * 2, 4)})
        dense = next(v for v in spec.bind(data).variables if v.name == "Dense_0.kernel")
        assert dense.shape == (positions, 2, 4)
    with pytest.raises(SpecError, match=r"an axis of size 7 cannot be \(pos c1\)"):
        spec.bind(filled(**shapes, **{"Dense_0.kernel": (7, 4)}))


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (
            lambda: relabel.models.lenet(0),
            "lenet: n_conv must be a positive integer, not 0; see relabel.mlp",
        ),
        (lambda: relabel.models.lenet(-1), "lenet: n_conv must be a positive integer, not -1"),
        (lambda: relabel.models.lenet(2, 0), "lenet: n_dense must be a positive integer, not 0"),
        (lambda: relabel.models.lenet(conv="conv"), "conv='conv' is a pattern and needs one '{}'"),
        (lambda: relabel.models.lenet(conv=["0"]), "1 names in conv for 2 layers"),
        (lambda: relabel.models.lenet(activation=["relu"]), "1 values of activation for 4 layers"),
        (lambda: relabel.models.lenet(bias=[True]), "1 values of bias for 5 layers"),
        (
            lambda: relabel.models.lenet(conv="a{}", dense="a{}"),
            "two variables are named 'a1.weight'",
        ),
        (
            lambda: relabel.models.lenet(naming="hwio"),
            "naming must be one of 'torch', 'flax', not 'hwio'",
        ),
        (
            lambda: relabel.models.lenet(pool="min"),
            "pool must be one of 'max', 'mean', None, not 'min'",
        ),
        (
            lambda: relabel.models.resnet(18),
            r"blocks must be a sequence such as \(2, 2, 2, 2\), .*, not 18",
        ),
        (
            lambda: relabel.models.resnet((2, 0)),
            "each number in blocks must be a positive integer, not 0",
        ),
        (lambda: relabel.models.resnet(()), "blocks must be a sequence"),
        (lambda: relabel.models.resnet((2, True)), "positive integer, not True"),
        (
            lambda: relabel.models.resnet(downsample=(True,)),
            "downsample has 1 entries for 4 stages",
        ),
        (lambda: relabel.models.resnet(axes={"bn.weight": None}), "leaves 'bn.weight' out"),
        (lambda: relabel.models.vit(2), "heads is missing: the number of attention heads"),
        (lambda: relabel.models.vit(0, heads=2), "depth must be a positive integer, not 0"),
        (lambda: relabel.models.vit(2, heads=0), "heads must be a positive integer, not 0"),
        (
            lambda: relabel.models.vit(2, heads=2, naming="jax"),
            "naming must be one of 'timm', 'torchvision'",
        ),
        (
            lambda: relabel.models.mixer(2, naming="torch"),
            "naming must be one of 'timm', 'flax', not 'torch'",
        ),
        (lambda: relabel.models.mixer(2, activation="geglu"), "unknown activation 'geglu'"),
    ],
)
def test_presets_that_do_not_fit(build, said):
    with pytest.raises(SpecError, match=said):
        build()


def test_integers_of_numpy_are_integers():
    one, two = np.int64(1), np.int32(2)
    models = relabel.models
    assert models.lenet(two, one) == models.lenet(2, 1)
    assert models.resnet(np.array([2, 2])) == models.resnet((2, 2))
    assert models.vit(one, heads=two) == models.vit(1, heads=2)
    assert type(models.vit(one, heads=two).sizes["a0"]) is int
    assert models.mixer(two) == models.mixer(2)


def test_heads_that_do_not_divide_the_width():
    data = architecture("vit", draws=1).clean
    with pytest.raises(SpecError, match=r"axis of size 192 cannot be \(qkv a0 dim\)"):
        relabel.models.vit(3, heads=5).bind(data)


# ---------------------------------------------------------------------- alignment


def aligned(simulated, **options):
    return relabel.align(simulated.data, simulated.spec, **options)


@pytest.mark.parametrize(
    ("kind", "activation"),
    [
        *((kind, None) for kind in ARCHITECTURES),
        ("lenet", "tanh"),
        ("resnet", "relu"),
        ("vit", "relu"),
    ],
)
@pytest.mark.parametrize("noise", [0.05, 0.3])
def test_planted_labels_are_found(kind, activation, noise):
    simulated = architecture(kind, activation=activation, draws=4, noise=noise, rng=1)
    found = aligned(simulated)
    assert recovery(found["relabel"], simulated.planted)["draws"] == 1.0
    notes = found["relabel"].attrs["relabel"]
    assert "are both declared as biases" not in notes


def test_undone_bit_by_bit():
    simulated = architecture("resnet", draws=2)
    again = relabel.undo(aligned(simulated))
    assert again["posterior"].to_dataset().identical(simulated.data["posterior"].to_dataset())


def test_counts_of_batches_are_left_alone():
    simulated = architecture("resnet", draws=2)
    data = simulated.data["posterior"].to_dataset()
    data["bn1.num_batches_tracked"] = (SAMPLE, np.full((1, 2), 7))
    found = relabel.align(data, simulated.spec)
    assert found["bn1.num_batches_tracked"].dtype == data["bn1.num_batches_tracked"].dtype


def test_blocks_that_the_preset_was_not_told_of():
    simulated = architecture("vit", draws=2)
    told = relabel.align(simulated.data, relabel.models.vit(2, heads=16))["relabel"].attrs[
        "relabel"
    ]
    assert "'blocks.2.norm1.weight' (64), 'blocks.2.norm1.bias' (64)" in told
    assert "its function has changed" in told
    assert "its function has changed" not in aligned(simulated)["relabel"].attrs["relabel"]


def test_scales_are_balanced_along_the_stream():
    spec = relabel.models.resnet((1, 1), norm=False, activation="relu")
    shapes = resnet_shapes((1, 1), (4, 6))
    shapes = {name: shape for name, shape in shapes.items() if name in spec.axes}
    simulated = planted_draws(spec, shapes, draws=3)
    found = relabel.align(simulated.data, spec)
    squares = {k: v.values**2 for k, v in found["posterior"].data_vars.items()}
    written = [squares[k].sum((3, 4, 5)) for k in ("conv1.weight", "layer1.0.conv2.weight")]
    read = [squares[k].sum((2, 4, 5)) for k in ("layer1.0.conv1.weight", "layer2.0.conv1.weight")]
    read.append(squares["layer2.0.downsample.0.weight"].sum((2, 4, 5)))
    np.testing.assert_allclose(sum(written), sum(read), rtol=1e-10)


def test_normalised_networks_are_not_evaluated():
    """What is normalised is no dense layer: there is no forward pass to take probes from."""
    for kind in ("resnet", "mixer"):
        simulated = architecture(kind, draws=1)
        with pytest.raises(SpecError):
            Network.of(simulated.spec.bind(simulated.clean))


def test_companions_and_heads_by_plain_lines():
    """Scales of units and of weights, several heads: what is forgotten would stay behind."""
    spec = relabel.Spec(
        {"h1": "tanh", "h2": "tanh"},
        {
            "embed": "_ x",
            "W1": "x -> h1",
            "tau1": "h1^0",
            "lambda1": "_ |h1|",
            "W2": "h1 -> h2",
            "ard2": "h1^0",
            "mean": "h2 -> y",
            "log_sd": "h2 -> z",
            "joined": "(h1 + h2) -> u",
        },
    )
    shapes = {
        "embed": (5, 3),
        "W1": (3, 16),
        "tau1": (16,),
        "lambda1": (3, 16),
        "W2": (16, 20),
        "ard2": (16,),
        "mean": (20, 2),
        "log_sd": (20, 2),
        "joined": (36, 4),
    }
    simulated = planted_draws(spec, shapes, draws=5, noise=0.1)
    found = aligned(simulated)
    assert recovery(found["relabel"], simulated.planted)["draws"] == 1.0
    index = found["relabel"]["h1_index"].values
    moved = simulated.data["posterior"]
    assert np.array_equal(
        found["posterior"]["tau1"], np.take_along_axis(moved["tau1"].values, index, -1)
    )
    assert np.array_equal(
        found["posterior"]["lambda1"],
        np.take_along_axis(moved["lambda1"].values, index[:, :, None], -1),
    )


# ---------------------------------------------------------------------- the order of the search


def scrambled(simulated, seed=0):
    """The same spec with its units in another order."""
    units = list(simulated.spec.units.items())
    np.random.default_rng(seed).shuffle(units)
    return relabel.Spec(dict(units), simulated.spec.axes, sizes=simulated.spec.sizes)


def layout_of(spec, simulated):
    from relabel.matching.draws import Draws

    groups = {"posterior": simulated.data["posterior"].to_dataset()}
    return Draws.read(groups, spec, "raise").problem(relabel.criteria.Mean()).layout


def test_the_informed_order_is_that_of_the_data():
    """It begins where units are told apart by themselves, and does not depend on the spec."""
    simulated = architecture("lenet", draws=1)
    for seed in range(5):
        layout = layout_of(scrambled(simulated, seed), simulated)
        assert layout.informed_order() == ["c1", "c2", "h1", "h2"]
    simulated = architecture("resnet", draws=1)
    layout = layout_of(scrambled(simulated), simulated)
    order = layout.informed_order()
    assert order[0] == "r1"
    assert sorted(order) == sorted(simulated.spec.units)
    for at, units in enumerate(order[1:], start=1):  # each shares something with those before
        assert layout.neighbours(units) & set(order[:at])


def test_deep_networks_whatever_the_order_of_their_units():
    """Where noise is strong, a search that follows a bad order of the spec loses its way."""
    depth = 16
    spec = relabel.mlp(depth, "tanh", naming="torch", bias=None)
    sizes = [3, *[16] * depth, 2]
    shapes = {f"W{i}": (sizes[i], sizes[i - 1]) for i in range(1, depth + 2)}
    simulated = planted_draws(spec, shapes, draws=10, noise=0.3, rng=0)
    found = relabel.align(simulated.data, scrambled(simulated), inputs=None, n_perturbations=0)
    assert recovery(found["relabel"], simulated.planted)["draws"] == 1.0
