"""PyTorch's own BatchNorm, LayerNorm and softmax, before and after an alignment."""

import numpy as np
import pytest
import xarray as xr

import relabel
from relabel import Spec, Transformation
from relabel.groups import group_of
from relabel.simulate.planted import random_element

torch = pytest.importorskip("torch")

SAMPLE = ("chain", "draw")
C, D, K = 2, 10, 16


@pytest.fixture
def rng():
    torch.manual_seed(0)
    return np.random.default_rng(0)


def stacked(rng, module, noise=0.05):
    """Draws about a module's state, and the names of what is in them."""
    found = {}
    for name, tensor in module.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        value = tensor.numpy()
        value = value + noise * rng.normal(size=(C, D, *value.shape))
        value = np.abs(value) + 0.3 if name.endswith("running_var") else value
        found[name] = ((*SAMPLE, *(f"{name}_{i}" for i in range(value.ndim - 2))), value)
    return xr.Dataset(found)


def outputs(module, draws, inputs):
    """The forward pass of every draw."""
    found = []
    for chain in range(C):
        for draw in range(D):
            state = {n: torch.tensor(draws[n].values[chain, draw]) for n in module_names(module)}
            module.load_state_dict(state, strict=False)
            found.append(module(inputs).detach().numpy())
    return np.stack(found)


def module_names(module):
    return [n for n in module.state_dict() if not n.endswith("num_batches_tracked")]


def filled(module):
    """Random numbers for everything, running statistics as well."""
    module = module.double().eval()
    for name, tensor in module.state_dict().items():
        if tensor.dtype == torch.float64:
            tensor.copy_(torch.randn_like(tensor))
            if name.endswith("running_var"):
                tensor.abs_().add_(0.5)
    return module


def shares(aligned, planted, units):
    own = {n: str(n).removeprefix("relabel_") for n in aligned if str(n).startswith("relabel_")}
    found = Transformation.from_dataset(aligned[list(own)].rename(own), [units]) @ planted
    labels = found.elements[units].index.reshape(C * D, -1)
    return np.unique(labels, axis=0, return_counts=True)[1].max() / len(labels)


def batchnorm(eps):
    return filled(
        torch.nn.Sequential(
            torch.nn.Conv2d(2, K, 3),
            torch.nn.BatchNorm2d(K, eps=eps),
            torch.nn.GELU(),
            torch.nn.Flatten(),
            torch.nn.Linear(K * 4, 3),
        )
    )


BATCHNORM = Spec(
    {"c": "batchnorm"},
    {
        "0.weight": "c <- x ...",
        "0.bias": "-> c",
        "1.running_mean": "-> c",
        "1.running_var": "-> c^2",
        "1.weight": "c^0",
        "1.bias": "c^0",
        "4.weight": "y <- (c site)",
        "4.bias": "-> y",
    },
)


def test_batchnorm(rng):
    module = batchnorm(0.0)
    draws = stacked(rng, module)
    element = random_element(group_of("batchnorm"), (C, D), K, "draw", rng)
    planted = Transformation({"c": element})
    moved = planted.apply({"posterior": draws}, BATCHNORM.bind(draws))["posterior"]
    aligned = relabel.align(moved, BATCHNORM)
    inputs = torch.randn(5, 2, 4, 4, dtype=torch.float64)
    before = outputs(module, draws, inputs)
    for other in (moved, aligned, relabel.undo(aligned)):
        after = outputs(module, other, inputs)
        assert np.abs(after - before).max() < 1e-10 * np.abs(before).max()
    usual = batchnorm(1e-5)
    one, two = (outputs(usual, data, inputs) for data in (draws, aligned))
    assert 1e-10 < np.abs(one - two).max() / np.abs(one).max() < 1e-3
    assert shares(aligned, planted, "c") == 1.0


def layernorm():
    return filled(
        torch.nn.Sequential(
            torch.nn.Linear(3, K),
            torch.nn.LayerNorm(K),
            torch.nn.GELU(),
            torch.nn.Linear(K, 4),
            torch.nn.Softmax(dim=-1),
        )
    )


LAYERNORM = Spec(
    {"h": "permutation"},
    {
        "0.weight": "h <- x",
        "0.bias": "-> h",
        "1.weight": "h",
        "1.bias": "h",
        "3.weight": "y <- h",
        "3.bias": "-> y",
    },
    gauges={"h": "centred", "y": "centred"},
)


def test_layernorm_and_softmax(rng):
    module = layernorm()
    draws = stacked(rng, module)
    element = random_element(group_of("permutation"), (C, D), K, "draw", rng)
    planted = Transformation({"h": element})
    moved = planted.apply({"posterior": draws}, LAYERNORM.bind(draws))["posterior"]
    for name in ("0.weight", "0.bias", "3.weight", "3.bias"):
        first = moved[name].dims[2]  # (out, in): the same number for all outputs
        number = 10 * rng.normal(size=(C, D, 1, *moved[name].shape[3:]))
        moved[name] = moved[name] + number
        assert moved[name].dims[2] == first
    aligned = relabel.align(moved, LAYERNORM)
    inputs = torch.randn(5, 3, dtype=torch.float64)
    before = outputs(module, draws, inputs)
    for other in (moved, aligned, relabel.undo(aligned)):
        np.testing.assert_allclose(outputs(module, other, inputs), before, rtol=1e-10, atol=1e-12)
    assert shares(aligned, planted, "h") == 1.0
    bare = Spec(LAYERNORM.units, LAYERNORM.axes)
    by_mean = relabel.align(moved, bare, criterion=relabel.criteria.Mean())
    assert shares(by_mean, planted, "h") < 0.5  # a constant in all units swamps what tells them
