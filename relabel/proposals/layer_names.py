"""Networks whose variables are named as PyTorch and Flax name them: layers, norms, embeddings.

The last part of a name says what an array is and how it is stored: ``weight`` is (out, in, ...),
``kernel`` is (..., in, out), a ``weight`` or ``scale`` of one axis belongs to a norm. Names do not
say what is computed between the layers; where sizes leave room for a connection that skips some,
only layers that are steps of one sequence (``0.weight``, ``2.weight``) exclude it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from relabel._util.text import natural_key
from relabel.proposals.feedforward import Array

__all__ = ["Reading", "follows_conventions", "read_names"]

Kind = Literal["layer", "norm", "embedding", "other"]

_COLLECTIONS = ("params", "batch_stats")
_STATISTICS = ("running_mean", "running_var", "mean", "var")
_IGNORED = ("num_batches_tracked",)
_NORM_OF_UNITS = re.compile(r"layer_?norm|ln|rms|batch|bn", re.IGNORECASE)
_NORM_OF_GROUPS = re.compile(r"group|gn|instance", re.IGNORECASE)
_TRANSPOSED = re.compile(r"transp|deconv|up", re.IGNORECASE)
_LAST = re.compile(r"(out|output|head|classifier|fc|last|final|logits|y)", re.IGNORECASE)


@dataclass(frozen=True)
class Module:
    """The arrays of one module, by the last part of their names."""

    name: str
    parts: Mapping[str, Array]

    @cached_property
    def weight(self) -> Array | None:
        """Its main array."""
        named = (self.parts.get(key) for key in ("weight", "kernel", "embedding", "scale"))
        return next((array for array in named if array is not None), None)

    @property
    def kind(self) -> Kind:
        """Kind of module, as far as names and shapes show it."""
        if self.weight is None or not self.weight.shape:
            return "other"
        named = len(self.weight.shape) == 2 and "emb" in self.name and "bias" not in self.parts
        if "embedding" in self.parts or named:
            return "embedding"
        if len(self.weight.shape) == 1:
            return "norm"
        bias = self.parts.get("bias")
        sound = bias is None or bias.shape == (self.sizes[1],)
        return "layer" if sound and not set(_STATISTICS) & set(self.parts) else "other"

    @property
    def turned(self) -> bool:
        """Whether its weight is stored (out, in, ...)."""
        return "weight" in self.parts and not self.transposed

    @property
    def transposed(self) -> bool:
        """Whether it is a transposed convolution of PyTorch, by the size of its bias."""
        weight, bias = self.parts.get("weight"), self.parts.get("bias")
        if weight is None or bias is None or len(weight.shape) < 3:
            return False
        return bias.shape == weight.shape[1:2] != weight.shape[:1]

    @property
    def sizes(self) -> tuple[int, int]:
        """Number of inputs and outputs of a layer."""
        assert self.weight is not None
        shape = self.weight.shape
        if self.transposed:
            return shape[0], shape[1]
        return (shape[1], shape[0]) if self.turned else (shape[-2], shape[-1])

    @property
    def n_spatial(self) -> int:
        """Number of axes of a convolution's window; 0 of a dense layer."""
        assert self.weight is not None
        return len(self.weight.shape) - 2

    @property
    def numbers(self) -> tuple[int, ...]:
        """Numbers in the name."""
        return tuple(int(number) for number in re.findall(r"\d+", self.name))

    @property
    def place(self) -> tuple[str, str]:
        """Name of the module that contains it, and its own name within that."""
        before, _, own = self.name.rpartition(".")
        return before, own


@dataclass
class Reading:
    """A network read from names.

    Attributes
    ----------
    axes : dict of str to str
        Axes with ``{3}`` for node 3.
    sizes : list of int
        Sizes of the nodes; node 0 are the inputs.
    read : set of int
        Nodes that a layer reads.
    writers : dict of int to Module
        The layer that writes a node.
    sources : dict of int to int
        The node that this layer reads.
    normed, convolved : set of int
        Nodes that a norm belongs to, and channels of convolutions.
    slopes : list of str
        Arrays that may be the slopes of activations as well as norms.
    doubts, notes : list of str
    """

    axes: dict[str, str] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)
    read: set[int] = field(default_factory=set)
    writers: dict[int, Module] = field(default_factory=dict)
    sources: dict[int, int] = field(default_factory=dict)
    normed: set[int] = field(default_factory=set)
    convolved: set[int] = field(default_factory=set)
    slopes: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def has_positions(self) -> bool:
        """Whether the last node has positions, which the next layer may flatten."""
        last = self.writers.get(len(self.sizes) - 1)
        return last is not None and (last.n_spatial > 0 or last.kind == "embedding")

    @property
    def hidden(self) -> list[int]:
        """Nodes that are written and read."""
        return [node for node in range(1, len(self.sizes)) if node in self.read]

    @property
    def outputs(self) -> list[int]:
        """Nodes that nothing reads."""
        return [node for node in range(1, len(self.sizes)) if node not in self.read]

    def named(self, hidden: Sequence[str]) -> dict[str, str]:
        """Return the axes with names for the nodes."""
        outputs = ["y"] if len(self.outputs) == 1 else [f"y{i + 1}" for i in range(len(self.sizes))]
        names = {0: "x", **dict(zip(self.hidden, hidden, strict=True))}
        names |= dict(zip(self.outputs, outputs, strict=False))
        table = [names[node] for node in range(len(self.sizes))]
        return {key: line.format(*table) for key, line in self.axes.items()}


def read_names(arrays: Sequence[Array]) -> Reading | None:
    """Read a chain of layers from names; None where names follow no convention.

    Layers are taken in the order in which they lie in the draws, else in that of the numbers in
    their names, whichever fits the sizes. Flax numbers layers in the order in which they are made,
    which is backwards where calls are nested. A layer that reads the outputs of an earlier one is a
    branch (several outputs). Norms go with the layer of their size that has their number, or that
    comes before them.

    Parameters
    ----------
    arrays : sequence of Array
        The variables of the posterior.

    Returns
    -------
    Reading or None
    """
    modules = _modules(arrays)
    if modules is None or sum(module.kind == "layer" for module in modules) < 2:
        return None
    found: list[Reading] = []
    for order in _orders(modules):
        reading = _chain(order)
        if reading is not None and all(reading.axes != other.axes for other in found):
            found.append(reading)
    if not found:
        return None
    if len(found) > 1:
        found[0].doubts.append(
            "the layers could be connected in more than one order; the order in which they are "
            "stored is proposed: check which axis each weight reads"
        )
    _look_for_skips(found[0], _sequences(modules))
    return found[0]


def follows_conventions(arrays: Sequence[Array]) -> bool:
    """Whether the name of some matrix or kernel is one of PyTorch or Flax."""
    ends = [re.split(r"[./]", array.name) for array in arrays if len(array.shape) > 1]
    return any(len(words) > 1 and words[-1] in ("weight", "kernel") for words in ends)


def _modules(arrays: Sequence[Array]) -> list[Module] | None:
    """Collect arrays by module; None if one is named by no convention."""
    parts: dict[str, dict[str, Array]] = {}
    for array in arrays:
        words = re.split(r"[./]", array.name)
        words = [word for word in words if word not in _COLLECTIONS]
        if words[-1] in _IGNORED or not array.shape:
            continue
        parts.setdefault(".".join(words[:-1]), {})[words[-1]] = array
    modules = [Module(name, found) for name, found in parts.items()]
    known = {"weight", "kernel", "bias", "scale", "embedding", *_STATISTICS}
    sound = all(m.kind != "other" and m.parts.keys() <= known for m in modules)
    return modules if sound else None


def _orders(modules: Sequence[Module]) -> Iterator[list[Module]]:
    """Yield the orders of the modules to try."""
    yield list(modules)
    keys: tuple[Callable[[Module], object], ...] = (
        lambda m: natural_key(m.name),
        lambda m: (m.kind == "layer" and m.n_spatial == 0, bool(_LAST.search(m.name)), m.numbers),
    )
    for key in keys:
        yield sorted(modules, key=key)  # type: ignore[arg-type]
    if any("kernel" in module.parts for module in modules):  # f(Dense()(g(Dense()(x)))) in Flax
        yield sorted(modules, key=lambda m: natural_key(m.name), reverse=True)
        yield sorted(
            modules, key=lambda m: (m.kind == "layer" and m.n_spatial == 0, [-n for n in m.numbers])
        )


def _chain(modules: Sequence[Module]) -> Reading | None:
    """Connect the modules in this order; None if their sizes do not fit."""
    reading = Reading()
    written: dict[str, int] = {}  # module -> node
    layers = [module for module in modules if module.kind in ("layer", "embedding")]
    for module in layers:
        place = _connect(reading, module)
        if place is None:
            return None
        written[module.name] = place
    for norm in (m for m in modules if m.kind == "norm"):
        node = _node_of_norm(norm, modules, written, reading)
        if node is None:
            return None
        _add_norm(reading, norm, node)
    return reading


def _connect(reading: Reading, module: Module) -> int | None:
    """Add a layer to the network and return the node that it writes; None if it does not fit."""
    assert module.weight is not None
    n_in, n_out = module.sizes
    if module.kind == "embedding":
        return None if reading.sizes else _add_embedding(reading, module)
    if not reading.sizes:
        reading.sizes.append(n_in)
    current = len(reading.sizes) - 1
    size = reading.sizes[current]
    convolved = current in reading.convolved
    if module.n_spatial and convolved and n_in == 1 and n_out == size and size > 1:  # depthwise
        _add(reading, module, f"{{{current}}} ...", current)
        return current
    if n_in == size:
        tail, source = f"{{{current}}}", current
    elif not module.n_spatial and size > 1 and reading.has_positions and n_in % size == 0:
        channels_first = module.turned and convolved
        flat = f"{{{current}}} p{current}" if channels_first else f"p{current} {{{current}}}"
        tail, source = f"({flat})", current
        reading.notes.append(
            f"{module.weight.name} reads the {size} channels before it as flattened windows of "
            f"{n_in // size} positions, "
            + ("channels" if channels_first else "positions")
            + " first"
        )
        _doubt_sums(reading, module, n_in)
    elif n_in in reading.sizes[1:] and not module.n_spatial:
        source = max(node for node in range(1, current) if reading.sizes[node] == n_in)
        tail = f"{{{source}}}"
        reading.notes.append(
            f"{module.weight.name} is taken to be a branch: it reads the {n_in} units that an "
            "earlier layer writes"
        )
        _doubt_sums(reading, module, n_in)
    else:
        return None
    return _add_layer(reading, module, tail, source, n_out)


def _doubt_sums(reading: Reading, module: Module, n_in: int) -> None:
    """Add a doubt if a layer reads as many units as several nodes have together."""
    assert module.weight is not None
    sizes = reading.sizes
    sums = [sum(sizes[i:]) for i in range(len(sizes) - 1)]
    sums += [a + b for a, b in itertools.combinations(sizes, 2)]
    if n_in in sums:
        reading.doubts.append(
            f"{module.weight.name} reads {n_in} units, as many as several layers have together: "
            "does it read their concatenation?"
        )


def _add_layer(reading: Reading, module: Module, tail: str, source: int, n_out: int) -> int:
    """Add a layer that writes a new node."""
    node = len(reading.sizes)
    reading.sizes.append(n_out)
    reading.read.add(source)
    reading.writers[node], reading.sources[node] = module, source
    if module.n_spatial:
        reading.convolved.add(node)
        _note_square(reading, module)
    more = " ..." if module.n_spatial else ""
    if module.transposed:
        line = f"{tail} -> {{{node}}}{more}"
    elif module.turned:
        line = f"{{{node}}} <- {tail}{more}"
    else:
        line = f"{more.strip()} {tail} -> {{{node}}}".strip()
    _add(reading, module, line, node)
    return node


def _add(reading: Reading, module: Module, line: str, node: int) -> None:
    """Add the lines of a layer."""
    assert module.weight is not None
    reading.axes[module.weight.name] = line
    if "bias" in module.parts:
        arrow = "" if line.startswith(f"{{{node}}} ...") else "-> "
        reading.axes[module.parts["bias"].name] = f"{arrow}{{{node}}}"


def _add_embedding(reading: Reading, module: Module) -> int:
    """Add a table of embeddings, stored (words, units)."""
    assert module.weight is not None
    reading.sizes += [module.weight.shape[0], module.weight.shape[1]]
    reading.writers[1], reading.sources[1] = module, 0
    reading.axes[module.weight.name] = "{0} -> {1}"
    return 1


def _node_of_norm(
    norm: Module, modules: Sequence[Module], written: Mapping[str, int], reading: Reading
) -> int | None:
    """Find the node that a norm belongs to; a doubt if several fit."""
    assert norm.weight is not None
    size = norm.weight.shape[0]
    fitting = [m for m in modules if m.name in written and reading.sizes[written[m.name]] == size]
    same = [m for m in fitting if m.numbers == norm.numbers]
    before = [m for m in fitting if list(modules).index(m) < list(modules).index(norm)]
    if len(fitting) > 1 and not same and not before:
        return None
    both = [m for m in same if m in before]
    channels = [m for m in same if m.n_spatial]
    chosen = (both or channels or same or before or fitting)[-1:]
    if not chosen:
        return None
    kernels = any("kernel" in m.parts for m in fitting)
    unsure = len(same) > 1 if not before else bool(same) and chosen[-1] is not before[-1]
    if len(fitting) > 1 and (kernels or unsure):
        reading.doubts.append(
            f"{norm.name} has the size of several layers, and it is not clear which it follows"
        )
    elif not before and reading.sizes[0] == size and not (same and len(fitting) == 1):
        reading.doubts.append(
            f"{norm.name} has the size of the inputs too and comes before all layers: does it "
            "normalise them? Then its arrays carry no units ('...')"
        )
    if len(fitting) > 1:
        reading.notes.append(
            f"{norm.name} has the size of several layers, and is taken to follow {chosen[0].name}"
        )
    return written[chosen[0].name]


def _add_norm(reading: Reading, norm: Module, node: int) -> None:
    """Add a norm: it takes over the sign and scale of its units from the layer before it."""
    assert norm.weight is not None
    place = f"{{{node}}}"
    reading.normed.add(node)
    _judge_norm(reading, norm, node)
    for key, line in reading.axes.items():
        if line.startswith(f"{place} <-") or f"-> {place}" in line:
            reading.axes[key] = line.replace(place, f"{place}^0")
    for part, array in norm.parts.items():
        statistic = part in _STATISTICS
        reading.axes[array.name] = f"{place}^0" if statistic else f"-> {place}"


def _judge_norm(reading: Reading, norm: Module, node: int) -> None:
    """Add a doubt or a note if a norm may be one of groups of channels, or slopes."""
    assert norm.weight is not None
    own = norm.place[1]
    if "weight" in norm.parts and len(norm.parts) == 1 and not _NORM_OF_UNITS.search(own):
        reading.slopes.append(norm.weight.name)
    if set(_STATISTICS) & set(norm.parts) or _NORM_OF_UNITS.search(own):
        return
    if "bias" in norm.parts and (node in reading.convolved or _NORM_OF_GROUPS.search(own)):
        reading.doubts.append(
            f"{norm.name} keeps no running statistics: if it is a GroupNorm, its units are "
            "exchangeable only within their group, and groups as a whole; with a LayerNorm of all "
            "channels the proposal is right"
        )
    elif _NORM_OF_GROUPS.search(own):
        reading.doubts.append(f"{norm.name} seems to normalise groups of units")
    elif "bias" in norm.parts:
        reading.notes.append(f"{norm.name} is taken to be a norm of all units (LayerNorm)")


def _note_square(reading: Reading, module: Module) -> None:
    """Add a note or a doubt on a square kernel of PyTorch, taken to be that of a convolution."""
    if "weight" not in module.parts or module.sizes[0] != module.sizes[1]:
        return
    assert module.weight is not None
    even = all(size % 2 == 0 for size in module.weight.shape[2:])
    others = any(writer.transposed for writer in reading.writers.values())
    text = (
        f"{module.weight.name} has as many inputs as outputs and is taken to be stored (out, in); "
        "a transposed convolution is stored (in, out)"
    )
    unsure = even or others or _TRANSPOSED.search(module.name)
    (reading.doubts if unsure else reading.notes).append(text)


# ---------------------------------------------------------------------- connections that skip


def _sequences(modules: Sequence[Module]) -> set[str]:
    """Return the modules that consist of numbered steps alone, as ``nn.Sequential``.

    Steps without arrays leave gaps; a list of layers, which may be connected in any way, has none.
    """
    inside: dict[str, list[str]] = {}
    for module in modules:
        parts = module.name.split(".")
        for i, part in enumerate(parts):
            inside.setdefault(".".join(parts[:i]), []).append(part)
    found = set()
    for name, parts in inside.items():
        if all(part.isdigit() for part in parts):
            steps = sorted({int(part) for part in parts})
            if name == "" or steps != list(range(steps[0], steps[0] + len(steps))):
                found.add(name)
    return found


def _look_for_skips(reading: Reading, sequences: set[str]) -> None:
    """Add a doubt or a note if a connection that skips layers would fit the sizes."""
    readers: dict[int, list[str]] = {}
    for node, source in reading.sources.items():
        readers.setdefault(source, []).append(reading.writers[node].place[0])
    open_ = [
        node
        for node, m in reading.writers.items()
        if m.place[0] not in sequences or set(readers.get(node, ())) != {m.place[0]}
    ]
    if reading.writers.get(1) is None or reading.writers[1].kind != "embedding":
        open_ = [0, *open_]
    pairs = [
        (i, j)
        for i in open_
        for j in open_
        if i < j and reading.sizes[i] == reading.sizes[j] and {i, j} & set(reading.hidden)
    ]
    doubtful = [pair for pair in pairs if not _is_plain(reading, *pair)]
    if not pairs:
        return
    i, j = (doubtful or pairs)[0]
    ends = ["the inputs" if node == 0 else f"what {reading.writers[node].name} writes"
            for node in (i, j)]  # fmt: skip
    text = f"{ends[0]} and {ends[1]} have one size ({reading.sizes[i]})"
    if doubtful:
        reading.doubts.append(
            f"{text}, so that they may be added up or be in parallel (residual connections, "
            "parallel layers), which names do not show; the spec is right only for a plain chain "
            "of layers"
        )
    else:
        reading.notes.append(f"{text}; they are taken not to be added up (residual connection)")


def _is_plain(reading: Reading, i: int, j: int) -> bool:
    """Whether layers of one size are neighbours and numbered, as in plain networks."""
    if reading.sources[j] != i:
        return False
    if i == 0 or j not in reading.hidden:
        return True
    before, after = (re.sub(r"\d+", "#", reading.writers[node].name) for node in (i, j))
    return before == after
