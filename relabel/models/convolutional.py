"""Ready specs of convolutional and residual networks: they only build a :class:`relabel.Spec`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from relabel._util.validate import choice, integer, iterable, string
from relabel.errors import SpecError
from relabel.groups import group_of, group_of_activation
from relabel.models.tables import dense_line, joined_lines, layer_names, one_each
from relabel.spec.spec import Spec

__all__ = ["lenet", "of_channels", "resnet"]

Naming = Literal["torch", "flax"]
Pool = Literal["max", "mean"] | None
Lines = list[tuple[str, str]]

_POOLS = ("max", "mean", None)


def lenet(
    n_conv: int = 2,
    n_dense: int = 3,
    activation: str | Sequence[str] = "relu",
    *,
    conv: str | Sequence[str] | None = None,
    dense: str | Sequence[str] | None = None,
    norm: str | Sequence[str] | None = None,
    bias: bool | Sequence[bool] = True,
    naming: Naming = "torch",
    pool: Pool = "max",
    statistics: bool | str = True,
    axes: Mapping[str, str | None] | None = None,
    gauges: Mapping[str, str] | None = None,
) -> Spec:
    """Return the spec of a plain convolutional network: convolutions, then dense layers.

    Channels are the units ``c1``, ``c2``, ..., hidden units of the dense layers ``h1``, ``h2``,
    ...; the image's channels are ``x``, outputs ``y``. Where the last convolution is flattened, the
    positions of its channels are ``pos`` (of size 1 behind a global pooling). Kernels may have any
    number of spatial axes.

    Parameters
    ----------
    n_conv, n_dense : int, default 2 and 3
        Number of convolutions, and of dense layers, the output included.
    activation : str or sequence of str, default "relu"
        Activation of all hidden layers, or one for each, convolutions first. ``"permutation"`` is
        always safe. Channels keep their sign (are only permuted) where max pooling follows, which
        does not commute with it, and where a flip would add a constant (sigmoid), which padding
        with zeros does not carry on.
    conv, dense : str or sequence of str, optional
        Names of the layers: a pattern in which ``{}`` is the number, from 1 on in PyTorch and from
        0 on in Flax; or all names, as of ``nn.Sequential``: ``conv=["0", "3"],
        dense=["7", "9", "11"]``. By default ``"conv{}"`` and ``"fc{}"`` in PyTorch, ``"Conv_{}"``
        and ``"Dense_{}"`` in Flax.
    norm : str or sequence of str, optional
        Names of batch norms, one behind each convolution, likewise; none by default.
    bias : bool or sequence of bool, default True
        Whether layers have a bias; or for each, convolutions first.
    naming : {"torch", "flax"}, default "torch"
        Names and order of axes: ``weight`` as (out, in, height, width) and (out, in), flattened as
        (channel, height, width); or ``kernel`` as (height, width, in, out) and (in, out), flattened
        as (height, width, channel).
    pool : {"max", "mean", None}, default "max"
        Pooling between convolutions.
    statistics : bool or str, default True
        Whether running statistics of batch norms are among the draws; a string is put before their
        names, as in ``"batch_stats."``.
    axes : mapping of str to (str or None), optional
        Lines that are added to the spec, that replace those of the preset, or (None) are left out.
    gauges : mapping of str to str, optional
        Units -> how their scale is fixed; see :class:`relabel.Spec`.

    Returns
    -------
    Spec

    Raises
    ------
    SpecError
        If numbers do not match, a pattern lacks its ``{}``, or a name occurs twice.

    Examples
    --------
    >>> spec = lenet(2, 2)
    >>> spec.units
    {'c1': 'relu', 'c2': 'relu', 'h1': 'relu'}
    >>> for name, line in spec.axes.items():
    ...     print(f"{name:12} {line}")
    conv1.weight c1 <- x ...
    conv1.bias   -> c1
    conv2.weight c2 <- c1 ...
    conv2.bias   -> c2
    fc1.weight   h1 <- (c2 pos)
    fc1.bias     -> h1
    fc2.weight   y <- h1
    fc2.bias     -> y
    >>> lenet(1, 1, naming="flax").axes
    {'Conv_0.kernel': '... x -> c1', 'Conv_0.bias': '-> c1',
     'Dense_0.kernel': '(pos c1) -> y', 'Dense_0.bias': '-> y'}
    """
    style = _STYLES[choice("lenet: naming", naming, _STYLES)]
    choice("lenet: pool", pool, _POOLS)
    if n_conv == 0:
        raise SpecError("lenet: n_conv must be a positive integer, not 0; see relabel.mlp")
    n_conv = integer("lenet: n_conv", n_conv, low=1)
    n_dense = integer("lenet: n_dense", n_dense, low=1)
    conv, dense = style.conv if conv is None else conv, style.dense if dense is None else dense
    convs = layer_names("lenet", "conv", conv, n_conv, style.first)
    denses = layer_names("lenet", "dense", dense, n_dense, style.first)
    norms = layer_names("lenet", "norm", norm, n_conv, style.first) if norm is not None else []
    biases = one_each("lenet", "bias", bias, n_conv + n_dense)
    channels = [f"c{i}" for i in range(1, n_conv + 1)]
    hidden = [f"h{i}" for i in range(1, n_dense)]
    lines: Lines = []
    for i, (name, tail, head) in enumerate(
        zip(convs, ["x", *channels[:-1]], channels, strict=True)
    ):
        after = f"{head}^0" if norms else head
        lines += style.conv_lines(name, tail, after, has_bias=biases[i])
        lines += style.norm_lines(norms[i], head, statistics) if norms else []
    tails = [style.flattened(channels[-1]), *hidden]
    for name, tail, head, own in zip(denses, tails, [*hidden, "y"], biases[n_conv:], strict=True):
        lines += style.dense_lines(name, tail, head, has_bias=own)
    given = one_each("lenet", "activation", activation, n_conv + len(hidden))
    units = {c: of_channels(a, pool) for c, a in zip(channels, given, strict=False)}
    for name in given[n_conv:]:
        group_of_activation(name)
    units |= dict(zip(hidden, given[n_conv:], strict=True))
    return Spec(units, joined_lines("lenet", lines, axes), gauges=gauges or {})


def resnet(
    blocks: Sequence[int] = (2, 2, 2, 2),
    *,
    bottleneck: bool = False,
    norm: bool = True,
    activation: str = "permutation",
    naming: Naming = "torch",
    downsample: Sequence[bool] | None = None,
    bias: bool = False,
    pool: Pool = "max",
    statistics: bool | str = True,
    prefix: str = "",
    axes: Mapping[str, str | None] | None = None,
    gauges: Mapping[str, str] | None = None,
) -> Spec:
    """Return the spec of a residual network with the names of torchvision (or of Flax's example).

    All that is added up has one set of units: the residual stream of stage *s* is ``r{s}``, written
    by the last convolution of each of its blocks and by the shortcut with which it begins, read by
    the first convolution of each block. The channels within block *b* are ``c{s}_{b}``, of a
    bottleneck ``c{s}_{b}_1`` and ``c{s}_{b}_2``. What the first convolution of the network writes
    is ``r1`` where the first stage has no shortcut, and else ``r0``.

    Parameters
    ----------
    blocks : sequence of int, default (2, 2, 2, 2)
        Number of blocks of each stage: (2, 2, 2, 2) is ResNet-18, (3, 4, 6, 3) ResNet-34, and with
        `bottleneck` ResNet-50.
    bottleneck : bool, default False
        Whether blocks have three convolutions instead of two.
    norm : bool, default True
        Whether each convolution is followed by a batch norm. Its running statistics are carried
        along; its count of batches belongs to no unit.
    activation : str, default "permutation"
        Permutations are always safe. With ``"relu"`` units may be scaled as well: the scale is that
        of the batch norm's weight and bias, since what comes before it is only permuted; all
        writers and readers of a stream share it. Signs are kept where max pooling follows, and
        where a flip would add a constant, as in :func:`lenet`. Streams of even activations, of
        which inputs and outputs flip in different ways, are only permuted.
    naming : {"torch", "flax"}, default "torch"
        Names and order of axes. The names of Flax are those of its ImageNet example
        (``conv_init``, ``ResNetBlock_0.Conv_0``, ``conv_proj``).
    downsample : sequence of bool, optional
        Whether each stage begins with a shortcut that has weights; a stage without goes on in the
        stream of the one before. By default all stages do but the first of a network without
        bottlenecks.
    bias : bool, default False
        Whether convolutions have a bias.
    pool : {"max", "mean", None}, default "max"
        Pooling behind the first convolution.
    statistics : bool or str, default True
        As in :func:`lenet`.
    prefix : str, default ""
        What all other names begin with, such as ``"params."``.
    axes, gauges
        As in :func:`lenet`.

    Returns
    -------
    Spec

    Raises
    ------
    SpecError
        If there are no blocks, or `downsample` does not fit them.

    Notes
    -----
    All layers of the draws must be declared: `blocks` that are fewer than those of the network give
    a relabelling that changes its function.

    References
    ----------
    He, K., Zhang, X., Ren, S. & Sun, J. (2016). Deep residual learning for image recognition.
    https://doi.org/10.1109/CVPR.2016.90

    Examples
    --------
    >>> spec = resnet((1, 1), norm=False)
    >>> list(spec.units)
    ['r1', 'c1_0', 'r2', 'c2_0']
    >>> for name, line in spec.axes.items():
    ...     print(f"{name:28} {line}")
    conv1.weight                 r1 <- x ...
    layer1.0.conv1.weight        c1_0 <- r1 ...
    layer1.0.conv2.weight        r1 <- c1_0 ...
    layer2.0.downsample.0.weight r2 <- r1 ...
    layer2.0.conv1.weight        c2_0 <- r1 ...
    layer2.0.conv2.weight        r2 <- c2_0 ...
    fc.weight                    y <- r2
    fc.bias                      -> y
    >>> {k: v for k, v in resnet((1,), activation="relu").axes.items() if k.startswith("bn1")}
    {'bn1.weight': '-> r1', 'bn1.bias': '-> r1', 'bn1.running_mean': 'r1^0',
     'bn1.running_var': 'r1^0'}
    """
    style = _STYLES[choice("resnet: naming", naming, _STYLES)]
    choice("resnet: pool", pool, _POOLS)
    if np.ndim(blocks) != 1 or not len(blocks):
        raise SpecError(
            f"resnet: blocks must be a sequence such as (2, 2, 2, 2), with the number of blocks of "
            f"each stage, not {blocks!r}"
        )
    blocks = [integer("resnet: each number in blocks", n, low=1) for n in blocks]
    shortcut = [bottleneck or s > 0 for s in range(len(blocks))]
    if downsample is not None:
        shortcut = [bool(given) for given in iterable("resnet: downsample", downsample, "(0, 1)")]
    if len(shortcut) != len(blocks):
        raise SpecError(f"resnet: downsample has {len(shortcut)} entries for {len(blocks)} stages")
    build = _Residual(style, string("resnet: prefix", prefix), norm, bias, statistics)
    stream = "r0" if shortcut[0] else "r1"
    lines = build.step(*style.stem, "x", stream)
    # a stream is read through activations and without: both must flip alike
    added = activation if group_of(activation).commutes else "permutation"
    inner = of_channels(activation, None)
    units = {stream: of_channels(added, pool)}
    for number, (stage, b) in enumerate((s, b) for s, n in enumerate(blocks) for b in range(n)):
        before = stream
        names = style.block(stage + 1, b, number, bottleneck)
        if b == 0 and shortcut[stage]:
            stream = f"r{stage + 1}"
            units[stream] = added
            lines += build.step(*style.shortcut(names), before, stream)
        within = [f"c{stage + 1}_{b}" + (f"_{i}" if bottleneck else "") for i in (1, 2)]
        within = within if bottleneck else within[:1]
        units |= dict.fromkeys(within, inner)
        for i, (tail, head) in enumerate(zip([before, *within], [*within, stream], strict=True), 1):
            lines += build.step(*style.inner(names, i), tail, head)
    lines += style.dense_lines(prefix + style.last, stream, "y", has_bias=True)
    return Spec(units, joined_lines("resnet", lines, axes), gauges=gauges or {})


# ---------------------------------------------------------------------- names and orders of axes


@dataclass(frozen=True)
class _Style:
    """Names of arrays, order of axes and names of layers of a framework: those of PyTorch."""

    weight: str = "weight"
    scale: str = "weight"
    running: tuple[str, str] = ("running_mean", "running_var")
    turned: bool = True  # (out, in)
    conv: str = "conv{}"
    dense: str = "fc{}"
    first: int = 1
    stem: tuple[str, str] = ("conv1", "bn1")
    last: str = "fc"

    def conv_lines(self, name: str, tail: str, head: str, *, has_bias: bool) -> Lines:
        """Kernel and bias of a convolution."""
        line = f"{head} <- {tail} ..." if self.turned else f"... {tail} -> {head}"
        return [(f"{name}.{self.weight}", line), *self._bias(name, head, has_bias)]

    def dense_lines(self, name: str, tail: str, head: str, *, has_bias: bool) -> Lines:
        """Weight and bias of a dense layer."""
        line = dense_line(tail, head, self.turned)
        return [(f"{name}.{self.weight}", line), *self._bias(name, head, has_bias)]

    def _bias(self, name: str, head: str, has_bias: bool) -> Lines:
        return [(f"{name}.bias", f"-> {head}")] if has_bias else []

    def norm_lines(self, name: str, units: str, statistics: bool | str, prefix: str = "") -> Lines:
        """Arrays of a batch norm: weight and bias follow a scale, the statistics do not."""
        lines = [(f"{prefix}{name}.{key}", f"-> {units}") for key in (self.scale, "bias")]
        if statistics is False:
            return lines
        before = statistics if isinstance(statistics, str) else prefix
        return lines + [(f"{before}{name}.{key}", f"{units}^0") for key in self.running]

    def flattened(self, channels: str) -> str:
        """All positions of some channels as one axis."""
        return f"({channels} pos)" if self.turned else f"(pos {channels})"

    def block(self, stage: int, b: int, number: int, bottleneck: bool) -> str:
        """Name of a residual block."""
        return f"layer{stage}.{b}"

    def shortcut(self, block: str) -> tuple[str, str]:
        """Convolution and norm of a block's shortcut."""
        return f"{block}.downsample.0", f"{block}.downsample.1"

    def inner(self, block: str, i: int) -> tuple[str, str]:
        """Convolution and norm number `i` of a block, from 1."""
        return f"{block}.conv{i}", f"{block}.bn{i}"


@dataclass(frozen=True)
class _Flax(_Style):
    """Flax's names and order of axes."""

    weight: str = "kernel"
    scale: str = "scale"
    running: tuple[str, str] = ("mean", "var")
    turned: bool = False
    conv: str = "Conv_{}"
    dense: str = "Dense_{}"
    first: int = 0
    stem: tuple[str, str] = ("conv_init", "bn_init")
    last: str = "Dense_0"

    def block(self, stage: int, b: int, number: int, bottleneck: bool) -> str:
        """Name of a residual block: they are numbered through."""
        return f"{'Bottleneck' if bottleneck else ''}ResNetBlock_{number}"

    def shortcut(self, block: str) -> tuple[str, str]:
        """Convolution and norm of a block's shortcut."""
        return f"{block}.conv_proj", f"{block}.norm_proj"

    def inner(self, block: str, i: int) -> tuple[str, str]:
        """Convolution and norm number `i` of a block, from 1."""
        return f"{block}.Conv_{i - 1}", f"{block}.BatchNorm_{i - 1}"


_STYLES: dict[str, _Style] = {"torch": _Style(), "flax": _Flax()}


@dataclass(frozen=True)
class _Residual:
    """Options that all convolutions of a residual network share."""

    style: _Style
    prefix: str
    norm: bool
    bias: bool
    statistics: bool | str

    def step(self, conv: str, norm: str, tail: str, head: str) -> Lines:
        """Lines of a convolution and of the norm behind it."""
        after = f"{head}^0" if self.norm else head
        lines = self.style.conv_lines(self.prefix + conv, tail, after, has_bias=self.bias)
        if self.norm:
            lines += self.style.norm_lines(norm, head, self.statistics, self.prefix)
        return lines


def of_channels(activation: str, pool: Pool) -> str:
    """Return the symmetry of channels: that of the activation if pooling and padding commute.

    Parameters
    ----------
    activation : str
    pool : {"max", "mean", None}
        Pooling behind the activation. Max pooling does not commute with a change of sign.

    Examples
    --------
    >>> of_channels("tanh", "mean"), of_channels("tanh", "max"), of_channels("relu", "max")
    ('tanh', 'permutation', 'relu')
    """
    group = group_of_activation(activation)
    action = group.action("tail")
    flipped = action is not None and action.signed
    return "permutation" if group.shifts or (flipped and pool == "max") else activation
