"""Simulated draws of convolutional, residual and attention networks."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel._util.validate import choice, integer, seed_of
from relabel.groups import group_of
from relabel.models.attention import mixer, vit
from relabel.models.convolutional import lenet, resnet
from relabel.simulate.planted import Simulated, dataset_of, random_element
from relabel.spec.arrays import SAMPLE_DIMS
from relabel.spec.spec import Spec
from relabel.spec.transformation import Transformation

__all__ = ["ARCHITECTURES", "architecture", "planted_draws", "resnet_shapes"]

Array = NDArray[Any]
Shapes = dict[str, tuple[int, ...]]

#: Names that :func:`architecture` takes.
ARCHITECTURES = ("lenet", "resnet", "bottleneck", "vit", "mixer")


def architecture(
    kind: str,
    *,
    activation: str | None = None,
    draws: int = 20,
    noise: float = 0.1,
    rng: int | np.random.Generator = 0,
) -> Simulated:
    """Simulate draws of a network of 16 to 32 channels with the names of PyTorch.

    Parameters
    ----------
    kind : {"lenet", "resnet", "bottleneck", "vit", "mixer"}
        Two convolutions (16, 24) and three dense layers (32, 16); three stages of two residual
        blocks (16, 24, 32), or of two bottlenecks with four times as many channels in the stream;
        three transformer blocks of 16 heads; three mixer blocks.
    activation : str, optional
        Activation or symmetry of the units; by default that of the preset.
    draws : int, default 20
        Number of draws, in one chain.
    noise, rng
        As in :func:`planted_draws`.

    Returns
    -------
    Simulated

    Raises
    ------
    SpecError
        If the kind is not known.

    Examples
    --------
    >>> simulated = architecture("lenet", draws=2)
    >>> simulated.clean["fc1.weight"].shape
    (1, 2, 32, 384)
    """
    choice("architecture: kind", kind, ARCHITECTURES)
    if kind == "lenet":
        spec, shapes = lenet(activation=activation or "relu"), _lenet_shapes()
    elif kind == "vit":
        spec, shapes = vit(3, heads=16, activation=activation or "gelu"), _vit_shapes(3, 64, 16)
    elif kind == "mixer":
        spec, shapes = mixer(3, activation=activation or "gelu"), _mixer_shapes(3, 32, 16)
    else:
        narrow = kind == "bottleneck"
        spec = resnet((2, 2, 2), bottleneck=narrow, activation=activation or "permutation")
        shapes = resnet_shapes((2, 2, 2), (16, 24, 32), bottleneck=narrow)
    return planted_draws(spec, shapes, draws=draws, noise=noise, rng=rng)


def planted_draws(
    spec: Spec,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    draws: int = 20,
    noise: float = 0.1,
    rng: int | np.random.Generator = 0,
) -> Simulated:
    r"""Simulate draws of any network, each under a random element of its symmetry group.

    .. math:: \theta_t = g_t \cdot (\theta_0 + \text{noise} \cdot s \odot \varepsilon_t)

    where :math:`s` is one over the root of the number of a weight's inputs, and 0.2 for variables
    with one axis. Weights of norms lie about one; running variances are lognormal.

    Parameters
    ----------
    spec : Spec
        Units and axes of the network.
    shapes : mapping of str to tuple of int
        Shape of every array of one draw, by name.
    draws : int, default 20
        Number of draws, in one chain.
    noise : float, default 0.1
        Spread of the draws about the truth, relative to the spread of the weights.
    rng : int or numpy.random.Generator, default 0
        Random seed.

    Returns
    -------
    Simulated
        Without probe inputs.

    Examples
    --------
    >>> spec = Spec({"h": "tanh"}, {"W": "x -> h", "V": "h -> y"})
    >>> simulated = planted_draws(spec, {"W": (2, 3), "V": (3, 1)}, draws=5)
    >>> simulated.clean["W"].shape
    (1, 5, 2, 3)
    """
    integer("draws", draws, low=1)
    rng = np.random.default_rng(seed_of(rng))
    truth, clean = {}, {}
    for name, shape in shapes.items():
        spread = 0.2 if len(shape) < 2 else float(np.prod(shape[1:])) ** -0.5
        centre = 1.0 if len(shape) == 1 and not name.endswith(("bias", "mean", "var")) else 0.0
        truth[name] = centre + spread * rng.normal(size=shape)
        clean[name] = truth[name] + noise * spread * rng.normal(size=(1, draws, *shape))
        if name.endswith("running_var"):
            truth[name], clean[name] = np.exp(truth[name]), np.exp(clean[name])
    known = dataset_of(clean, SAMPLE_DIMS)
    resolved = spec.bind(known)
    planted = Transformation(
        {
            units: random_element(group_of(spec.units[units]), (1, draws), size, "draw", rng)
            for units, size in resolved.sizes.items()
        }
    )
    posterior = planted.apply({"posterior": known}, resolved)["posterior"]
    groups = {"posterior": posterior, "truth": dataset_of(truth, ())}
    return Simulated(xr.DataTree.from_dict(groups), spec, truth, planted, known)


def _layer(name: str, *shape: int) -> Shapes:
    """Return the shapes of weight and bias."""
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _lenet_shapes() -> Shapes:
    return {
        **_layer("conv1", 16, 3, 5, 5),
        **_layer("conv2", 24, 16, 3, 3),
        **_layer("fc1", 32, 24 * 16),
        **_layer("fc2", 16, 32),
        **_layer("fc3", 10, 16),
    }


def resnet_shapes(
    blocks: tuple[int, ...],
    widths: tuple[int, ...],
    *,
    bottleneck: bool = False,
    first: int = 3,
    n_classes: int = 10,
) -> Shapes:
    """Return the shapes of a residual network with the names of torchvision.

    Parameters
    ----------
    blocks, widths : tuple of int
        Number of blocks, and of channels within a block, of each stage.
    bottleneck : bool, default False
        Whether blocks have three convolutions, the last with four times as many channels.
    first : int, default 3
        Width of the first kernel.
    n_classes : int, default 10
        Number of outputs.

    Examples
    --------
    >>> shapes = resnet_shapes((2, 2, 2, 2), (64, 128, 256, 512), first=7, n_classes=1000)
    >>> trained = [s for name, s in shapes.items() if "running" not in name]
    >>> sum(int(np.prod(shape)) for shape in trained)
    11689512
    """
    shapes: Shapes = {}

    def conv(name: str, norm: str, *shape: int) -> None:
        shapes[f"{name}.weight"] = shape
        for key in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm}.{key}"] = shape[:1]

    conv("conv1", "bn1", widths[0], 3, first, first)
    stream = widths[0]
    for stage, (n, width) in enumerate(zip(blocks, widths, strict=True), 1):
        out = width * (4 if bottleneck else 1)
        for b in range(n):
            block = f"layer{stage}.{b}"
            sizes = [stream, width, width, out] if bottleneck else [stream, width, out]
            for i, (tail, head) in enumerate(pairwise(sizes), 1):
                kernel = 1 if bottleneck and i != 2 else 3
                conv(f"{block}.conv{i}", f"{block}.bn{i}", head, tail, kernel, kernel)
            if b == 0 and (bottleneck or stage > 1):
                conv(f"{block}.downsample.0", f"{block}.downsample.1", out, stream, 1, 1)
            stream = out
    return shapes | _layer("fc", n_classes, stream)


def _vit_shapes(depth: int, width: int, n_hidden: int) -> Shapes:
    shapes: Shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 17, width),
        **_layer("patch_embed.proj", width, 3, 4, 4),
    }
    for i in range(depth):
        block = f"blocks.{i}"
        shapes |= _layer(f"{block}.norm1", width)
        shapes |= _layer(f"{block}.attn.qkv", 3 * width, width)
        shapes |= _layer(f"{block}.attn.proj", width, width)
        shapes |= _layer(f"{block}.norm2", width)
        shapes |= _layer(f"{block}.mlp.fc1", n_hidden, width)
        shapes |= _layer(f"{block}.mlp.fc2", width, n_hidden)
    return shapes | _layer("norm", width) | _layer("head", 10, width)


def _mixer_shapes(depth: int, width: int, n_hidden: int) -> Shapes:
    shapes = _layer("stem.proj", width, 3, 4, 4)
    for i in range(depth):
        block = f"blocks.{i}"
        shapes |= _layer(f"{block}.norm1", width)
        shapes |= _layer(f"{block}.mlp_tokens.fc1", n_hidden, 16)
        shapes |= _layer(f"{block}.mlp_tokens.fc2", 16, n_hidden)
        shapes |= _layer(f"{block}.norm2", width)
        shapes |= _layer(f"{block}.mlp_channels.fc1", 2 * width, width)
        shapes |= _layer(f"{block}.mlp_channels.fc2", width, 2 * width)
    return shapes | _layer("norm", width) | _layer("head", 10, width)
