"""Recurrent networks of PyTorch and Flax: their own forward pass before and after."""

import numpy as np
import pytest
import xarray as xr

import relabel
from relabel import Transformation
from relabel.groups import group_of
from relabel.groups.elements import Monomial
from relabel.models import gru, lstm, rnn

SAMPLE = ("chain", "draw")
BATCH = (2, 2)


def drawn(rng, shapes):
    """Draws of variables of some shapes."""
    return xr.Dataset(
        {
            name: (
                (*SAMPLE, *(f"{name}_{i}" for i in range(len(shape)))),
                0.6 * rng.normal(size=(*BATCH, *shape)),
            )
            for name, shape in shapes.items()
        }
    )


def random_element(rng, spec, width):
    elements = {}
    for units, symmetry in spec.units.items():
        group = group_of(symmetry)
        index = rng.permuted(np.tile(np.arange(width), (*BATCH, 1)), axis=-1)
        factor = rng.choice([-1.0, 1.0], size=index.shape) if group.signs else np.ones(index.shape)
        scale = rng.lognormal(size=index.shape) if group.gauges() else 1.0
        elements[units] = Monomial(index, factor * scale)
    return Transformation(elements)


def check(spec, data, outputs, width=4):
    """The framework's outputs for every draw, before, after an element, and after `align`."""
    rng = np.random.default_rng(7)

    def every(draws):
        return np.stack(
            [
                outputs({name: v.values[c, d] for name, v in draws[list(spec.axes)].items()})
                for c in range(BATCH[0])
                for d in range(BATCH[1])
            ]
        )

    assert set(spec.axes) == set(data.data_vars)
    before = every(data)
    resolved = spec.bind(data)
    assert set(resolved.sizes.values()) == {width}
    moved = random_element(rng, spec, width).apply({"posterior": data}, resolved)["posterior"]
    assert not moved.equals(data)
    for after in (moved, relabel.align(moved, spec)):
        np.testing.assert_allclose(every(after), before, rtol=1e-10, atol=1e-12)


TORCH = {
    "rnn": (rnn, {}),
    "rnn-relu": (rnn, {"activation": "relu", "n_layers": 2}),
    "lstm": (lstm, {"n_layers": 2, "bidirectional": True}),
    "lstm-permutation": (lstm, {"activation": "permutation", "bias": False}),
    "gru": (gru, {"n_layers": 2, "bidirectional": True}),
}


@pytest.mark.parametrize("case", TORCH)
def test_torch(case):
    torch = pytest.importorskip("torch")
    preset, options = TORCH[case]
    kind = {rnn: torch.nn.RNN, lstm: torch.nn.LSTM, gru: torch.nn.GRU}[preset]
    told = {"num_layers": options.get("n_layers", 1), "bias": options.get("bias", True)}
    told |= {k: v for k, v in options.items() if k == "bidirectional"}
    told |= {"nonlinearity": options["activation"]} if preset is rnn and options else {}
    both = 1 + options.get("bidirectional", False)

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = kind(3, 4, batch_first=True, dtype=torch.float64, **told)
            self.fc = torch.nn.Linear(4 * both, 2, dtype=torch.float64)

        def forward(self, x, state=None):
            return self.fc(self.cell(x, state)[0])

    model, rng = Model(), np.random.default_rng(0)
    initial = ("h0", "c0") if preset is lstm else ("h0",)
    spec = preset(prefix="cell.", initial=initial, **options)
    shapes = {name: tuple(p.shape) for name, p in model.state_dict().items()}
    shapes |= dict.fromkeys(initial, (told["num_layers"] * both, 1, 4))
    x = torch.as_tensor(rng.normal(size=(3, 5, 3)))

    def outputs(w):
        tensors = {name: torch.as_tensor(value) for name, value in w.items()}
        state = [tensors.pop(name).repeat(1, 3, 1) for name in initial]
        model.load_state_dict(tensors)
        with torch.no_grad():
            return model(x, tuple(state) if len(state) > 1 else state[0]).numpy()

    check(spec, drawn(rng, shapes), outputs)


FLAX = {
    "SimpleCell": rnn,
    "OptimizedLSTMCell": lstm,
    "GRUCell": gru,
}


@pytest.mark.parametrize("cell", FLAX)
def test_flax(cell):
    jax, linen = pytest.importorskip("jax"), pytest.importorskip("flax.linen")
    rng = np.random.default_rng(1)
    with jax.enable_x64(True):

        class Model(linen.Module):
            @linen.compact
            def __call__(self, x):
                states = linen.RNN(getattr(linen, cell)(4, param_dtype=float), name="rnn")(x)
                return linen.Dense(2, param_dtype=float)(states)

        x = rng.normal(size=(5, 3))
        model = Model()
        forward = jax.jit(model.apply)
        tree = model.init(jax.random.key(0), x)
        flat, treedef = jax.tree_util.tree_flatten_with_path(tree)
        names = [".".join(str(key.key) for key in path[1:]) for path, _ in flat]
        prefix = next(n for n in names if not n.startswith("Dense_0")).rsplit(".", 2)[0] + "."
        spec = FLAX[cell](naming="flax", prefix=prefix, readout="Dense_0")
        data = drawn(rng, {n: leaf.shape for n, (_, leaf) in zip(names, flat, strict=True)})

        def outputs(w):
            leaves = [w[name] for name in names]
            return np.asarray(forward(jax.tree_util.tree_unflatten(treedef, leaves), x))

        check(spec, data, outputs)


@pytest.mark.parametrize("cell", FLAX)
def test_nnx(cell):
    jax, nnx = pytest.importorskip("jax"), pytest.importorskip("flax.nnx")
    rng, preset = np.random.default_rng(2), FLAX[cell]
    with jax.enable_x64(True):
        made = getattr(nnx, cell)(3, 4, dtype=float, param_dtype=float, rngs=nnx.Rngs(0))
        graph, params, rest = nnx.split(made, nnx.Param, ...)
        flat = nnx.to_flat_state(params)
        names = ["cell." + ".".join(path) for path, _ in flat]
        shapes = {name: leaf.shape for name, (_, leaf) in zip(names, flat, strict=True)}
        spec = preset(naming="nnx", prefix="cell.", readout={"V": "y <- h"})
        xs = rng.normal(size=(5, 3))

        def outputs(w):
            leaves = [
                (path, leaf.replace(w[n])) for n, (path, leaf) in zip(names, flat, strict=True)
            ]
            model = nnx.merge(graph, nnx.from_flat_state(leaves), rest)
            carry = model.initialize_carry((3,), rngs=nnx.Rngs(0))
            carry = jax.tree.map(lambda state: state.astype(float), carry)
            found = []
            for x in xs:
                carry, state = model(carry, x)
                found.append(w["V"] @ np.asarray(state))
            return np.stack(found)

        check(spec, drawn(rng, shapes | {"V": (2, 4)}), outputs)
