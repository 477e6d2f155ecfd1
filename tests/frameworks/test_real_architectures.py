"""Networks of PyTorch and Flax compute the same before and after a relabelling by the presets."""

import numpy as np
import pytest
import xarray as xr

import relabel
from relabel.groups import group_of
from relabel.simulate import recovery
from relabel.simulate.planted import random_element
from relabel.spec.transformation import Transformation

torch = pytest.importorskip("torch")
nn = torch.nn

SAMPLE = ("chain", "draw")
N_DRAWS = 3


def draws_of(shapes, rng):
    """Random draws about a random network; variances are positive."""
    truth, draws = {}, {}
    for name, shape in shapes.items():
        spread = 0.3 if len(shape) < 2 else float(np.prod(shape[1:])) ** -0.5
        mean = rng.normal(size=shape)
        values = spread * (mean + 0.2 * rng.normal(size=(1, N_DRAWS, *shape)))
        dims = [f"{name}_{i}" for i in range(len(shape))]
        positive = name.endswith("var")
        truth[name] = (dims, np.exp(spread * mean) if positive else spread * mean)
        draws[name] = ((*SAMPLE, *dims), np.exp(values) if positive else values)
    return xr.Dataset(truth), xr.Dataset(draws)


def check(spec, shapes, forward):
    """The same outputs in every draw: as they are, after a random element, after align."""
    rng = np.random.default_rng(0)
    truth, draws = draws_of(shapes, rng)
    resolved = spec.bind(draws)
    planted = Transformation(
        {
            units: random_element(group_of(spec.units[units]), (1, N_DRAWS), size, "draw", rng)
            for units, size in resolved.sizes.items()
        }
    )
    moved = planted.apply({"posterior": draws}, resolved)["posterior"]
    for units, element in planted.elements.items():
        assert element.size == 1 or element.moves().any(), units
    aligned = relabel.align(moved, spec, criterion=relabel.criteria.ToReference(truth))
    for draw in range(N_DRAWS):
        at = {"chain": 0, "draw": draw}
        before, after, last = (
            forward({name: values[at].values for name, values in data.items() if name in shapes})
            for data in (draws, moved, aligned)
        )
        assert np.abs(before).max() > 1e-3
        scale = np.abs(before).max()
        assert np.abs(after - before).max() < 1e-10 * scale
        assert np.abs(last - before).max() < 1e-10 * scale
    assert any(not np.array_equal(moved[name], draws[name]) for name in shapes)
    stored = {v: v.removeprefix("relabel_") for v in aligned.data_vars if v not in shapes}
    assert recovery(aligned[list(stored)].rename(stored), planted)["draws"] == 1.0


def check_torch(spec, module, inputs):
    """Check a module, with all that its state holds."""
    module = module.double().eval()
    state = module.state_dict()
    shapes = {name: tuple(v.shape) for name, v in state.items() if v.is_floating_point()}

    def forward(arrays):
        tensors = {name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in arrays.items()}
        with torch.no_grad():
            return torch.func.functional_call(module, tensors, (inputs,)).numpy()

    check(spec, shapes, forward)


def images(*shape):
    return torch.from_numpy(np.random.default_rng(1).normal(size=shape))


# ---------------------------------------------------------------------- convolutions


def cnn(activation, pool, norm=False):
    norms = [nn.BatchNorm2d(n) if norm else nn.Identity() for n in (6, 8)]
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=not norm),
        norms[0],
        activation(),
        pool(2),
        nn.Conv2d(6, 8, 3, padding=1, bias=not norm),
        norms[1],
        activation(),
        pool(2),
        nn.Flatten(),
        nn.Linear(8 * 4, 10),
        activation(),
        nn.Linear(10, 2),
    )


@pytest.mark.parametrize(
    ("activation", "name", "pool", "symmetry"),
    [
        (nn.ReLU, "relu", "max", "relu"),
        (nn.Tanh, "tanh", "mean", "tanh"),
        (nn.Tanh, "tanh", "max", "permutation"),
        (nn.Sigmoid, "sigmoid", "mean", "permutation"),
        (nn.GELU, "gelu", "max", "gelu"),
    ],
)
@pytest.mark.parametrize("norm", [False, True])
def test_convolutions_flattened_into_dense_layers(activation, name, pool, symmetry, norm):
    spec = relabel.models.lenet(
        2,
        2,
        name,
        conv=["0", "4"],
        dense=["9", "11"],
        norm=["1", "5"] if norm else None,
        bias=[not norm, not norm, True, True],
        pool=pool,
    )
    assert spec.units == {"c1": symmetry, "c2": symmetry, "h1": name}
    module = cnn(activation, nn.MaxPool2d if pool == "max" else nn.AvgPool2d, norm)
    check_torch(spec, module, images(4, 3, 8, 8))


# ---------------------------------------------------------------------- residual networks


class Block(nn.Module):
    """A residual block with two convolutions, or with three."""

    def __init__(self, before, width, stride, bottleneck, norm):
        super().__init__()
        kind = nn.BatchNorm2d if norm else nn.Identity
        out = width * (4 if bottleneck else 1)
        if bottleneck:
            self.conv1 = nn.Conv2d(before, width, 1, bias=False)
            self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
            self.conv3, self.bn3 = nn.Conv2d(width, out, 1, bias=False), kind(out)
        else:
            self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
            self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = kind(width), kind(width)
        self.downsample = None
        if stride != 1 or before != out:
            short = nn.Conv2d(before, out, 1, stride, bias=False)
            self.downsample = nn.Sequential(short, kind(out))

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if hasattr(self, "conv3"):
            y = self.bn3(self.conv3(torch.relu(y)))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """The names and the forward pass of torchvision's residual networks."""

    def __init__(self, blocks, widths, bottleneck, norm):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0]) if norm else nn.Identity()
        stream = widths[0]
        for stage, (n, width) in enumerate(zip(blocks, widths, strict=True), 1):
            layers = []
            for b in range(n):
                stride = 2 if b == 0 and stage > 1 else 1
                layers.append(Block(stream, width, stride, bottleneck, norm))
                stream = width * (4 if bottleneck else 1)
            self.add_module(f"layer{stage}", nn.Sequential(*layers))
        self.n_stages = len(blocks)
        self.fc = nn.Linear(stream, 5)

    def forward(self, x):
        x = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in range(self.n_stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.fc(x.mean(dim=(2, 3)))


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize(
    ("activation", "norm"), [("permutation", True), ("relu", True), ("relu", False)]
)
def test_residual_networks(bottleneck, activation, norm):
    spec = relabel.models.resnet((2, 2), bottleneck=bottleneck, activation=activation, norm=norm)
    module = ResNet((2, 2), (4, 6), bottleneck, norm)
    check_torch(spec, module, images(2, 3, 32, 32))


# ---------------------------------------------------------------------- attention


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        n, length, width = x.shape
        parts = self.qkv(x).reshape(n, length, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(n, length, width))


class Mlp(nn.Module):
    def __init__(self, width, hidden, function):
        super().__init__()
        self.fc1, self.fc2, self.function = (
            nn.Linear(width, hidden),
            nn.Linear(hidden, width),
            function,
        )

    def forward(self, x):
        return self.fc2(self.function(self.fc1(x)))


class Named(nn.Module):
    """A module with one child."""

    def __init__(self, name, child):
        super().__init__()
        self.add_module(name, child)
        self.name = name

    def forward(self, x):
        return getattr(self, self.name)(x)


class TransformerBlock(nn.Module):
    def __init__(self, width, heads, hidden, function):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.mlp = Attention(width, heads), Mlp(width, hidden, function)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class MixerBlock(nn.Module):
    def __init__(self, width, length, hidden):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp_tokens = Mlp(length, hidden, nn.functional.gelu)
        self.mlp_channels = Mlp(width, hidden, nn.functional.gelu)

    def forward(self, x):
        x = x + self.mlp_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.mlp_channels(self.norm2(x))


class Patches(nn.Module):
    """A vision transformer (with the names of timm), or a mixer."""

    def __init__(self, width, blocks, first, *, tokens):
        super().__init__()
        self.first = first
        self.add_module(first, Named("proj", nn.Conv2d(3, width, 4, 4)))
        if tokens:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
            self.pos_embed = nn.Parameter(torch.zeros(1, 5, width))
        self.blocks = nn.Sequential(*blocks)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 5)

    def forward(self, x):
        x = getattr(self, self.first)(x).flatten(2).transpose(1, 2)
        if hasattr(self, "cls_token"):
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        return self.head(self.norm(self.blocks(x)).mean(dim=1))


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_vision_transformer(activation):
    function = getattr(nn.functional, activation)
    blocks = [TransformerBlock(12, 3, 10, function) for _ in range(2)]
    spec = relabel.models.vit(2, heads=3, activation=activation)
    check_torch(spec, Patches(12, blocks, "patch_embed", tokens=True), images(2, 3, 8, 8))


def test_mixer():
    blocks = [MixerBlock(8, 4, 6) for _ in range(2)]
    check_torch(
        relabel.models.mixer(2), Patches(8, blocks, "stem", tokens=False), images(2, 3, 8, 8)
    )


class Text(nn.Module):
    """An embedding, the encoder of PyTorch and two heads of a likelihood."""

    def __init__(self, activation):
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 10, 0.0, activation, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.mean, self.log_sd = nn.Linear(8, 3), nn.Linear(8, 3)

    def forward(self, x):
        x = self.encoder(self.embed(x))
        return torch.cat([self.mean(x), self.log_sd(x)], dim=-1)


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_encoder_of_torch(activation):
    around = {"embed.weight": "_ r"}
    for head in ("mean", "log_sd"):
        around |= {f"{head}.weight": f"{head} <- r", f"{head}.bias": f"-> {head}"}
    spec = relabel.models.vit(
        2, heads=2, activation=activation, naming="torch", prefix="encoder.", axes=around
    )
    words = torch.from_numpy(np.random.default_rng(1).integers(20, size=(2, 6)))
    check_torch(spec, Text(activation), words)


def test_encoder_of_torch_alone_keeps_its_stream():
    layer = nn.TransformerEncoderLayer(8, 2, 10, 0.0, "relu", batch_first=True)
    module = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    spec = relabel.models.vit(2, heads=2, activation="relu", naming="torch")
    assert "r" not in spec.units
    check_torch(spec, module, images(2, 6, 8))


# ---------------------------------------------------------------------- plain lines


class Lines(nn.Module):
    """An inverted bottleneck (expand, depthwise, project) on a stream, and grouped convolutions."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3)
        self.expand, self.project = nn.Conv2d(6, 9, 1), nn.Conv2d(9, 6, 1)
        self.depthwise = nn.Conv2d(9, 9, 3, padding=1, groups=9)
        self.spread = nn.Conv2d(6, 12, 1)
        self.grouped = nn.Conv2d(12, 8, 3, groups=2)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        x = self.stem(x)
        y = nn.functional.relu6(self.expand(x))
        x = x + self.project(nn.functional.relu6(self.depthwise(y)))
        y = nn.functional.silu(self.grouped(nn.functional.silu(self.spread(x))))
        return self.head(y.mean(dim=(2, 3)))


BOTTLENECK = {
    "stem.weight": "r <- x ...",
    "stem.bias": "-> r",
    "expand.weight": "e <- r ...",
    "expand.bias": "-> e",
    "depthwise.weight": "e ...",
    "depthwise.bias": "e",
    "project.weight": "r <- e ...",
    "project.bias": "-> r",
}
#: Groups of channels exchanged as a whole; and channels exchanged within each group.
GROUPS = {
    "spread.weight": "(g i) <- r ...",
    "spread.bias": "-> (g i)",
    "grouped.weight": "(g o) <- i ...",
    "grouped.bias": "-> (g o)",
    "head.weight": "y <- (g o)",
}
WITHIN = {
    "spread.weight": "(i1 + i2) <- r ...",
    "spread.bias": "-> (i1 + i2)",
    "grouped.weight": "(o1 + o2) <- (i1 | i2) ...",
    "grouped.bias": "-> (o1 + o2)",
    "head.weight": "y <- (o1 + o2)",
}


@pytest.mark.parametrize(
    ("lines", "units", "sizes"),
    [
        (GROUPS, ["g"], {"g": 2}),
        (WITHIN, ["i1", "i2", "o1", "o2"], {"i1": 6, "o1": 4}),
    ],
)
def test_inverted_bottleneck_and_grouped_convolutions(lines, units, sizes):
    named = dict.fromkeys(["r", "e", *units], "permutation")
    spec = relabel.Spec(named, BOTTLENECK | lines, sizes=sizes)
    assert relabel.Spec.from_toml(spec.to_toml()) == spec
    check_torch(spec, Lines(), images(2, 3, 8, 8))


# ---------------------------------------------------------------------- Flax


def test_flax_convolutions_and_attention():
    flax = pytest.importorskip("flax.linen")
    jax = pytest.importorskip("jax")

    class Convolutions(flax.Module):
        @flax.compact
        def __call__(self, x):
            for n in (6, 8):
                x = flax.max_pool(flax.relu(flax.Conv(n, (3, 3))(x)), (2, 2), (2, 2))
            x = flax.relu(flax.Dense(10)(x.reshape(len(x), -1)))
            return flax.Dense(2)(x)

    with jax.enable_x64(True):
        check_flax(
            relabel.models.lenet(2, 2, naming="flax"), Convolutions(), images(2, 8, 8, 3).numpy()
        )


def test_flax_transformer_and_residual_network():
    flax = pytest.importorskip("flax.linen")
    jax = pytest.importorskip("jax")

    class Mlp(flax.Module):
        @flax.compact
        def __call__(self, x):
            y = flax.gelu(flax.Dense(10)(x))
            return flax.Dense(x.shape[-1])(y)

    class Block(flax.Module):
        @flax.compact
        def __call__(self, x):
            y = flax.LayerNorm(name="LayerNorm_0")(x)
            name = "MultiHeadDotProductAttention_1"
            x = x + flax.MultiHeadDotProductAttention(num_heads=3, name=name)(y, y)
            return x + Mlp(name="MlpBlock_3")(flax.LayerNorm(name="LayerNorm_2")(x))

    class Encoder(flax.Module):
        @flax.compact
        def __call__(self, x):
            position = flax.initializers.normal()
            place = "posembed_input"
            x = Positions(position, name=place)(x)
            for i in range(2):
                x = Block(name=f"encoderblock_{i}")(x)
            return flax.LayerNorm(name="encoder_norm")(x)

    class Positions(flax.Module):
        made: object

        @flax.compact
        def __call__(self, x):
            return x + self.param("pos_embedding", self.made, (1, *x.shape[1:]))

    class Vit(flax.Module):
        @flax.compact
        def __call__(self, x):
            x = flax.Conv(12, (4, 4), (4, 4), name="embedding")(x)
            x = Encoder(name="Transformer")(x.reshape(len(x), -1, 12))
            return flax.Dense(5, name="head")(x.mean(axis=1))

    class Residual(flax.Module):
        @flax.compact
        def __call__(self, x):
            norm = {"use_running_average": True}
            x = flax.Conv(4, (3, 3), use_bias=False, name="conv_init")(x)
            x = flax.relu(flax.BatchNorm(**norm, name="bn_init")(x))
            for number, (width, stride) in enumerate([(4, 1), (6, 2)]):
                x = ResidualBlock(width, stride, name=f"ResNetBlock_{number}")(x)
            return flax.Dense(3, name="Dense_0")(x.mean(axis=(1, 2)))

    class ResidualBlock(flax.Module):
        width: int
        stride: int

        @flax.compact
        def __call__(self, x):
            norm = {"use_running_average": True}
            strides = (self.stride, self.stride)
            y = flax.Conv(self.width, (3, 3), strides, use_bias=False)(x)
            y = flax.relu(flax.BatchNorm(**norm)(y))
            y = flax.BatchNorm(**norm)(flax.Conv(self.width, (3, 3), use_bias=False)(y))
            if x.shape != y.shape:
                x = flax.Conv(self.width, (1, 1), strides, use_bias=False, name="conv_proj")(x)
                x = flax.BatchNorm(**norm, name="norm_proj")(x)
            return flax.relu(x + y)

    with jax.enable_x64(True):
        spec = relabel.models.vit(2, naming="flax", axes={"cls": None})
        check_flax(spec, Vit(), images(2, 8, 8, 3).numpy())
        spec = relabel.models.resnet((1, 1), naming="flax", activation="relu")
        check_flax(spec, Residual(), images(2, 8, 8, 3).numpy())


def check_flax(spec, module, inputs):
    """Check a module of Flax; ``/`` in the paths of its parameters is a dot."""
    import jax
    from flax.traverse_util import flatten_dict, unflatten_dict

    shapes_of = jax.eval_shape(module.init, jax.random.key(0), inputs)
    paths, shapes = {}, {}
    for path, value in flatten_dict(dict(shapes_of)).items():
        paths[".".join(path[1:])], shapes[".".join(path[1:])] = path, tuple(value.shape)

    @jax.jit
    def forward(arrays):
        return module.apply(unflatten_dict({paths[k]: v for k, v in arrays.items()}), inputs)

    check(spec, shapes, lambda arrays: np.asarray(forward(arrays)))
