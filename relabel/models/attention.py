"""Ready specs of transformers and MLP-mixers: they only build a :class:`relabel.Spec`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from relabel._util.validate import choice, integer, string
from relabel.errors import SpecError
from relabel.groups import group_of_activation
from relabel.models.tables import joined_lines
from relabel.spec.spec import Spec

__all__ = ["mixer", "vit"]

#: Name of an array (without the number of its block) -> its axes.
Table = dict[str, str]


def _torch(name: str, weight: str, bias: str) -> Table:
    """Weight and bias of a layer in PyTorch."""
    return {f"{name}.weight": weight, f"{name}.bias": bias}


def _flax(name: str, kernel: str, bias: str) -> Table:
    """Kernel and bias of a layer in Flax."""
    return {f"{name}.kernel": kernel, f"{name}.bias": bias}


def _flax_norm(name: str) -> Table:
    return {f"{name}.scale": "r", f"{name}.bias": "r"}


def _torch_block(norm1: str, attention: str, out: str, norm2: str, fc1: str, fc2: str) -> Table:
    """A transformer block in PyTorch, which stacks queries, keys and values in one array."""
    weight, bias = (f"{attention}{end}" for end in ("weight", "bias"))
    return {
        **_torch(norm1, "r", "r"),
        weight: "(qkv a{} dim) <- r",
        bias: "-> (qkv a{} dim)",
        **_torch(out, "r <- (a{} dim)", "-> r"),
        **_torch(norm2, "r", "r"),
        **_torch(fc1, "m{} <- r", "-> m{}"),
        **_torch(fc2, "r <- m{}", "-> r"),
    }


_ATTENTION, _MLP = "MultiHeadDotProductAttention_1", "MlpBlock_3"

#: Naming -> arrays before the blocks, arrays of a block, arrays behind the blocks.
_VITS: dict[str, tuple[Table, Table, Table]] = {
    "timm": (
        {
            "cls_token": "_ _ r",
            "pos_embed": "_ _ r",
            **_torch("patch_embed.proj", "r <- x ...", "-> r"),
        },
        {
            f"blocks.{{}}.{name}": line
            for name, line in _torch_block(
                "norm1", "attn.qkv.", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"
            ).items()
        },
        {**_torch("norm", "r", "r"), **_torch("head", "y <- r", "-> y")},
    ),
    "torchvision": (
        {
            "class_token": "_ _ r",
            **_torch("conv_proj", "r <- x ...", "-> r"),
            "encoder.pos_embedding": "_ _ r",
        },
        {
            f"encoder.layers.encoder_layer_{{}}.{name}": line
            for name, line in _torch_block(
                "ln_1",
                "self_attention.in_proj_",
                "self_attention.out_proj",
                "ln_2",
                "mlp.0",
                "mlp.3",
            ).items()
        },
        {**_torch("encoder.ln", "r", "r"), **_torch("heads.head", "y <- r", "-> y")},
    ),
    "torch": (
        {},
        {
            f"layers.{{}}.{name}": line
            for name, line in _torch_block(
                "norm1", "self_attn.in_proj_", "self_attn.out_proj", "norm2", "linear1", "linear2"
            ).items()
        },
        {},
    ),
    "flax": (
        {
            "cls": "_ _ r",
            **_flax("embedding", "... x -> r", "-> r"),
            "Transformer.posembed_input.pos_embedding": "_ _ r",
        },
        {
            f"Transformer.encoderblock_{{}}.{name}": line
            for name, line in {
                **_flax_norm("LayerNorm_0"),
                **_flax(f"{_ATTENTION}.query", "r -> a{} dim", "-> a{} dim"),
                **_flax(f"{_ATTENTION}.key", "r -> a{} dim", "-> a{} dim"),
                **_flax(f"{_ATTENTION}.value", "r -> a{} dim", "-> a{} dim"),
                **_flax(f"{_ATTENTION}.out", "a{} dim -> r", "-> r"),
                **_flax_norm("LayerNorm_2"),
                **_flax(f"{_MLP}.Dense_0", "r -> m{}", "-> m{}"),
                **_flax(f"{_MLP}.Dense_1", "m{} -> r", "-> r"),
            }.items()
        },
        {**_flax_norm("Transformer.encoder_norm"), **_flax("head", "r -> y", "-> y")},
    ),
}

_MIXERS: dict[str, tuple[Table, Table, Table]] = {
    "timm": (
        _torch("stem.proj", "r <- x ...", "-> r"),
        {
            f"blocks.{{}}.{name}": line
            for name, line in {
                **_torch("norm1", "r", "r"),
                **_torch("mlp_tokens.fc1", "t{} <- pos", "-> t{}"),
                **_torch("mlp_tokens.fc2", "pos <- t{}", "-> pos"),
                **_torch("norm2", "r", "r"),
                **_torch("mlp_channels.fc1", "m{} <- r", "-> m{}"),
                **_torch("mlp_channels.fc2", "r <- m{}", "-> r"),
            }.items()
        },
        {**_torch("norm", "r", "r"), **_torch("head", "y <- r", "-> y")},
    ),
    "flax": (
        _flax("stem", "... x -> r", "-> r"),
        {
            f"MixerBlock_{{}}.{name}": line
            for name, line in {
                **_flax_norm("LayerNorm_0"),
                **_flax("token_mixing.Dense_0", "pos -> t{}", "-> t{}"),
                **_flax("token_mixing.Dense_1", "t{} -> pos", "-> pos"),
                **_flax_norm("LayerNorm_1"),
                **_flax("channel_mixing.Dense_0", "r -> m{}", "-> m{}"),
                **_flax("channel_mixing.Dense_1", "m{} -> r", "-> r"),
            }.items()
        },
        {**_flax_norm("pre_head_layer_norm"), **_flax("head", "r -> y", "-> y")},
    ),
}


def vit(
    depth: int,
    *,
    heads: int | None = None,
    activation: str = "gelu",
    naming: Literal["timm", "torchvision", "torch", "flax"] = "timm",
    prefix: str = "",
    axes: Mapping[str, str | None] | None = None,
    gauges: Mapping[str, str] | None = None,
) -> Spec:
    r"""Return the spec of a vision transformer, or of any stack of transformer blocks.

    All that is added up is one set of units, the residual stream ``r``, which layer norms allow to
    be permuted. Block *i* (from 0) has the attention heads ``a{i}``, which are permuted as a whole,
    with their queries, keys, values and what reads them, and the units ``m{i}`` of its dense
    layers. Channels within a head are ``dim``.

    Parameters
    ----------
    depth : int
        Number of blocks.
    heads : int, optional
        Number of heads of each block. It follows from the shapes of Flax's arrays, but not from
        those of PyTorch.
    activation : str, default "gelu"
        Activation of the dense layers: with ``"relu"`` their units are scaled as well.
    naming : {"timm", "torchvision", "torch", "flax"}, default "timm"
        Names of the arrays: those of timm (``blocks.0.attn.qkv.weight``), of torchvision
        (``encoder.layers.encoder_layer_0.self_attention.in_proj_weight``), of
        ``torch.nn.TransformerEncoder`` (``layers.0.self_attn.in_proj_weight``), or of Google's Flax
        models (``Transformer.encoderblock_0.MlpBlock_3.Dense_0.kernel``).
    prefix : str, default ""
        What all these names begin with, such as ``"encoder."``.
    axes : mapping of str to (str or None), optional
        Lines that are added to the spec, that replace those of the preset, or (None) are left out:
        other embeddings and heads, such as ``{"embed.weight": "_ r", "head.weight": "y <- r"}``.
    gauges : mapping of str to str, optional
        Units -> how their scale is fixed; see :class:`relabel.Spec`.

    Returns
    -------
    Spec

    Raises
    ------
    SpecError
        If a number is not positive, or the number of heads is needed.

    Notes
    -----
    ``naming="torch"`` names the blocks alone. The stream can only be permuted where that which
    writes and reads it is relabelled too, so ``r`` are units only where `axes` has lines with
    ``r``; these must be of all arrays that touch it, the norm at the end included.

    Within a head, queries and keys may be multiplied by any matrix and its inverse, and values and
    what reads them likewise. This is not undone: members of an ensemble differ by it.

    References
    ----------
    Dosovitskiy, A. et al. (2021). An image is worth 16x16 words: transformers for image recognition
    at scale. https://doi.org/10.48550/arXiv.2010.11929

    Theus, A. et al. (2025). Generalized linear mode connectivity for transformers.
    https://doi.org/10.48550/arXiv.2506.22712

    Examples
    --------
    >>> spec = vit(1, heads=3)
    >>> spec.units, spec.sizes
    ({'r': 'permutation', 'a0': 'permutation', 'm0': 'gelu'}, {'qkv': 3, 'a0': 3})
    >>> for name, line in spec.axes.items():
    ...     print(f"{name:23} {line}") if name.endswith("weight") else None
    patch_embed.proj.weight r <- x ...
    blocks.0.norm1.weight   r
    blocks.0.attn.qkv.weight (qkv a0 dim) <- r
    blocks.0.attn.proj.weight r <- (a0 dim)
    blocks.0.norm2.weight   r
    blocks.0.mlp.fc1.weight m0 <- r
    blocks.0.mlp.fc2.weight r <- m0
    norm.weight             r
    head.weight             y <- r
    >>> list(vit(2, heads=4, naming="torch", activation="relu").units)
    ['a0', 'm0', 'a1', 'm1']
    """
    depth = _checked_depth("vit", depth, naming, _VITS, activation)
    if heads is not None:
        heads = integer("vit: heads", heads, low=1)
    elif naming != "flax":
        raise SpecError(
            "vit: heads is missing: the number of attention heads does not follow from the shapes; "
            "give it, as in heads=12"
        )
    units: dict[str, str] = {}
    for i in range(depth):
        units |= {f"a{i}": "permutation", f"m{i}": activation}
    sizes: dict[str, int] = {} if naming == "flax" else {"qkv": 3}
    if heads is not None:
        sizes |= {f"a{i}": heads for i in range(depth)}
    lines = _lines(_VITS[naming], depth, prefix)
    within = {prefix + key.format(i) for key in _VITS[naming][1] for i in range(depth)}
    table = joined_lines("vit", lines, axes)
    if any("r" in line.split() for key, line in table.items() if key not in within):
        units = {"r": "permutation"} | units
    return Spec(units, table, sizes=sizes, gauges=gauges or {})


def mixer(
    depth: int,
    *,
    activation: str = "gelu",
    naming: Literal["timm", "flax"] = "timm",
    prefix: str = "",
    axes: Mapping[str, str | None] | None = None,
    gauges: Mapping[str, str] | None = None,
) -> Spec:
    """Return the spec of an MLP-mixer.

    The residual stream is ``r``. Block *i* (from 0) has the units ``t{i}`` that mix the positions
    ``pos`` of every channel, and the units ``m{i}`` that mix the channels of every position.

    Parameters
    ----------
    depth : int
        Number of blocks.
    activation : str, default "gelu"
        Activation of both kinds of units.
    naming : {"timm", "flax"}, default "timm"
        Names of the arrays: timm's (``blocks.0.mlp_tokens.fc1.weight``) or those of Google's Flax
        models (``MixerBlock_0.token_mixing.Dense_0.kernel``).
    prefix, axes, gauges
        As in :func:`vit`.

    Returns
    -------
    Spec

    Raises
    ------
    SpecError
        If a number is not positive.

    References
    ----------
    Tolstikhin, I. et al. (2021). MLP-Mixer: an all-MLP architecture for vision.
    https://doi.org/10.48550/arXiv.2105.01601

    Examples
    --------
    >>> spec = mixer(1, naming="flax")
    >>> spec.units
    {'r': 'permutation', 't0': 'gelu', 'm0': 'gelu'}
    >>> for name, line in spec.axes.items():
    ...     print(f"{name:40} {line}") if name.endswith("kernel") else None
    stem.kernel                              ... x -> r
    MixerBlock_0.token_mixing.Dense_0.kernel pos -> t0
    MixerBlock_0.token_mixing.Dense_1.kernel t0 -> pos
    MixerBlock_0.channel_mixing.Dense_0.kernel r -> m0
    MixerBlock_0.channel_mixing.Dense_1.kernel m0 -> r
    head.kernel                              r -> y
    """
    depth = _checked_depth("mixer", depth, naming, _MIXERS, activation)
    units = {"r": "permutation"}
    for i in range(depth):
        units |= {f"t{i}": activation, f"m{i}": activation}
    table = joined_lines("mixer", _lines(_MIXERS[naming], depth, prefix), axes)
    return Spec(units, table, gauges=gauges or {})


def _lines(tables: tuple[Table, Table, Table], depth: int, prefix: str) -> list[tuple[str, str]]:
    """Return the lines of the whole network, those of each block with its number."""
    string("prefix", prefix)
    before, block, behind = tables
    lines = list(before.items())
    for i in range(depth):
        lines += [(key.format(i), line.format(i)) for key, line in block.items()]
    return [(prefix + key, line) for key, line in [*lines, *behind.items()]]


def _checked_depth(
    preset: str, depth: int, naming: str, known: Mapping[str, object], activation: str
) -> int:
    """Check the options that both presets share, and return the number of blocks."""
    choice(f"{preset}: naming", naming, known)
    group_of_activation(activation)
    return integer(f"{preset}: depth", depth, low=1)
