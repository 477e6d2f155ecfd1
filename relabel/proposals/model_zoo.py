"""Presets whose names are those of the draws: residual and recurrent networks, transformers, ..."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from relabel._util.text import join
from relabel.models.attention import mixer, vit
from relabel.models.convolutional import resnet
from relabel.models.recurrent import gru, lstm, rnn
from relabel.proposals.feedforward import Array
from relabel.spec.notation import parse, terms_of
from relabel.spec.spec import Spec

__all__ = ["Known", "known_network"]


#: Arrays that networks of one kind may lack: ``qkv_bias=False``, pooling instead of a token.
_MAY_LACK = ("bias", "cls_token", "class_token", "cls")


class Known(NamedTuple):
    """A preset that fits the names.

    Attributes
    ----------
    spec : Spec
    doubts, notes : tuple of str
    """

    spec: Spec
    doubts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def known_network(arrays: Sequence[Array], activation: str) -> Known | None:
    """Return the preset that has the names of the draws; None if none has.

    Parameters
    ----------
    arrays : sequence of Array
        The variables of the posterior.
    activation : str
        Activation of all units; ``"permutation"`` is always safe.

    Returns
    -------
    Known or None
    """
    names = {array.name: array for array in arrays if array.shape}
    for find in (_residual, _recurrent, _transformer, _mixer):
        for preset, build in find(names, activation):
            spec = build()
            missing = [name for name in spec.axes if name not in names]
            if missing and all(name.endswith(_MAY_LACK) for name in missing):
                spec, missing = build(axes=dict.fromkeys(missing)), []
            if not missing:
                left = {name: names[name] for name in sorted(set(names) - set(spec.axes))}
                return _known(spec, preset, left, names)
    return None


def _known(spec: Spec, preset: str, left: Mapping[str, Array], names: Mapping[str, Array]) -> Known:
    """Return the spec with the name of its preset, and doubts on arrays that are left over."""
    doubts, notes = [], [f"the names are those of {preset}"]
    heads = [units for units, size in spec.sizes.items() if size == 1]
    if heads:
        doubts.append(
            "the number of attention heads does not follow from the shapes; it is set to 1 (heads "
            f"are left alone) for {', '.join(heads)}: write it into the table [sizes]"
        )
    sizes = set(_sizes_of_units(spec, names)) - {1}
    doubtful = [name for name, array in left.items() if sizes & set(array.shape)]
    alone = [name for name in left if name not in doubtful]
    if doubtful:
        doubts.append(
            f"{join(doubtful, most=5)} are not part of the preset, and have axes of its sizes: "
            "add their axes ('...' for variables that carry no units)"
        )
    if alone:
        notes.append(f"{join(alone, most=5)} carry no units, and are left alone")
    return Known(spec, tuple(doubts), tuple(notes))


def _sizes_of_units(spec: Spec, names: Mapping[str, Array]) -> Iterator[int]:
    """Yield the sizes of stored axes that are those of units alone."""
    for name, line in spec.axes.items():
        shape = names[name].shape
        for stored, size in zip(parse(line).expand(len(shape)) or (), shape, strict=False):
            terms = terms_of(stored)
            if len(terms) == 1 and len(terms[0]) == 1 and terms[0][0].name in spec.units:
                yield size


#: How a preset is written, and a function that builds it.
Candidate = tuple[str, Callable[..., Spec]]


def _residual(names: Mapping[str, Array], activation: str) -> Iterator[Candidate]:
    """Residual networks with the names of torchvision."""
    found = [re.fullmatch(r"(.*?)layer(\d+)\.(\d+)\.conv(\d+)\.weight", name) for name in names]
    hits = [(m[1], int(m[2]), int(m[3]), int(m[4])) for m in found if m]
    if not hits or len({prefix for prefix, *_ in hits}) > 1:
        return
    prefix = hits[0][0]
    stages = sorted({stage for _, stage, _, _ in hits})
    if stages != list(range(1, len(stages) + 1)):
        return
    options: dict[str, Any] = {
        "blocks": tuple(1 + max(b for _, s, b, _ in hits if s == stage) for stage in stages),
        "bottleneck": any(i == 3 for *_, i in hits),
        "norm": f"{prefix}bn1.weight" in names,
        "bias": f"{prefix}conv1.bias" in names,
        "statistics": f"{prefix}bn1.running_mean" in names,
        "downsample": [f"{prefix}layer{s}.0.downsample.0.weight" in names for s in stages],
        "activation": activation,
        "prefix": prefix,
    }
    preset = f"relabel.models.resnet({options['blocks']}, bottleneck={options['bottleneck']})"
    yield preset, partial(resnet, **options)


#: Rows of the recurrent matrix for each unit -> preset.
_CELLS: dict[int, Callable[..., Spec]] = {4: lstm, 3: gru, 1: rnn}


def _recurrent(names: Mapping[str, Array], activation: str) -> Iterator[Candidate]:
    """Recurrent networks of PyTorch; the dense layers that read the last states are found too."""
    hits = [m for m in (re.fullmatch(r"(.*?)weight_hh_l(\d+)(_reverse)?", n) for n in names) if m]
    layers = sorted({int(m[2]) for m in hits})
    if len({m[1] for m in hits}) != 1 or layers != list(range(len(layers))):
        return
    prefix, both_ways = hits[0][1], any(m[3] for m in hits)
    rows, size = names[f"{prefix}weight_hh_l0"].shape
    cell = _CELLS.get(rows // size)
    if cell is None or rows % size:
        return
    last = "h" if len(layers) == 1 else f"h{len(layers)}"
    states = f"({last} + {last}_reverse)" if both_ways else last
    options: dict[str, Any] = {
        "n_layers": len(layers),
        "prefix": prefix,
        "bidirectional": both_ways,
        "bias": f"{prefix}bias_hh_l0" in names,
        "readout": _readout(names, states, size * (1 + both_ways)),
    }
    if cell is rnn:  # names do not distinguish tanh from relu
        options["activation"] = activation if activation in ("tanh", "relu") else "permutation"
    preset = f"relabel.models.{cell.__name__}({len(layers)}, prefix={prefix!r})"
    yield preset, partial(cell, **options)


def _readout(names: Mapping[str, Array], states: str, size: int) -> dict[str, str]:
    """Return the axes of the dense layers that read as many states as there are."""
    lines: dict[str, str] = {}
    found = [
        name.removesuffix("weight")
        for name, array in names.items()
        if name.endswith(".weight") and len(array.shape) == 2 and array.shape[1] == size
    ]
    for number, name in enumerate(found, 1):
        output = "y" if len(found) == 1 else f"y{number}"
        lines[f"{name}weight"] = f"{output} <- {states}"
        if f"{name}bias" in names:
            lines[f"{name}bias"] = f"-> {output}"
    return lines


def _transformer(names: Mapping[str, Array], activation: str) -> Iterator[Candidate]:
    """Transformers; the number of heads follows from the shapes of Flax's arrays only."""
    for naming, pattern in (
        ("timm", r"(.*?)blocks\.(\d+)\.attn\.qkv\.weight"),
        (
            "torchvision",
            r"(.*?)encoder\.layers\.encoder_layer_(\d+)\.self_attention\.in_proj_weight",
        ),
        ("torch", r"(.*?)layers\.(\d+)\.self_attn\.in_proj_weight"),
        ("flax", r"(.*?)Transformer\.encoderblock_(\d+)\.\w+\.query\.kernel"),
    ):
        depth, prefix = _blocks(names, pattern)
        if depth:
            heads = None if naming == "flax" else 1
            options: dict[str, Any] = {"heads": heads, "naming": naming, "prefix": prefix}
            options["activation"] = activation
            yield f"relabel.models.vit({depth}, naming={naming!r})", partial(vit, depth, **options)


def _mixer(names: Mapping[str, Array], activation: str) -> Iterator[Candidate]:
    """MLP-mixers."""
    for naming, pattern in (
        ("timm", r"(.*?)blocks\.(\d+)\.mlp_tokens\.fc1\.weight"),
        ("flax", r"(.*?)MixerBlock_(\d+)\.token_mixing\.Dense_0\.kernel"),
    ):
        depth, prefix = _blocks(names, pattern)
        if depth:
            options: dict[str, Any] = {"naming": naming, "prefix": prefix, "activation": activation}
            preset = f"relabel.models.mixer({depth}, naming={naming!r})"
            yield preset, partial(mixer, depth, **options)


def _blocks(names: Mapping[str, Array], pattern: str) -> tuple[int, str]:
    """Return the number of blocks whose names fit, and their prefix; 0 if they are not a stack."""
    hits = [m for m in (re.fullmatch(pattern, name) for name in names) if m]
    prefixes = {m[1] for m in hits}
    numbers = sorted(int(m[2]) for m in hits)
    if len(prefixes) != 1 or numbers != list(range(len(numbers))):
        return 0, ""
    return len(numbers), prefixes.pop()
