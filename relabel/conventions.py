"""Networks whose variables are named as PyTorch and Flax name them: layers, norms, embeddings.

The last part of a name tells what an array is and how it is stored: ``weight`` is (out, in, ...),
``kernel`` is (..., in, out), a ``weight`` or ``scale`` of one axis belongs to a norm.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from relabel.architecture import Array

__all__ = ["Reading", "read_names"]

Kind = Literal["layer", "norm", "embedding", "other"]

_COLLECTIONS = ("params", "batch_stats")
_STATISTICS = ("running_mean", "running_var", "mean", "var")
_IGNORED = ("num_batches_tracked",)
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
        """What it is, as far as names and shapes tell."""
        if self.weight is None or not self.weight.shape:
            return "other"
        if "embedding" in self.parts or (len(self.weight.shape) == 2 and "emb" in self.name):
            return "embedding"
        return "norm" if len(self.weight.shape) == 1 else "layer"

    @property
    def turned(self) -> bool:
        """Whether its weight is stored (out, in, ...)."""
        return "weight" in self.parts

    @property
    def sizes(self) -> tuple[int, int]:
        """Number of inputs and outputs of a layer."""
        assert self.weight is not None
        shape = self.weight.shape
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
    doubts, notes : list of str
    """

    axes: dict[str, str] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)
    read: set[int] = field(default_factory=set)
    doubts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

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
    their names, whichever fits the sizes. A layer that reads the outputs of an earlier one is a
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
            "the layers could be connected in more than one order; the one in which they lie in "
            "the draws is shown: check which axis each weight reads"
        )
    return found[0]


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
    """Orders of the modules that are worth trying."""
    yield list(modules)
    keys: tuple[Callable[[Module], object], ...] = (
        lambda m: _natural(m.name),
        lambda m: (m.kind == "layer" and m.n_spatial == 0, bool(_LAST.search(m.name)), m.numbers),
    )
    for key in keys:
        yield sorted(modules, key=key)  # type: ignore[arg-type]


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort 2 before 10."""
    return [
        (int(piece), "") if piece.isdigit() else (-1, piece) for piece in re.split(r"(\d+)", name)
    ]


def _chain(modules: Sequence[Module]) -> Reading | None:
    """Connect the modules in this order; None if sizes do not let them."""
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
    """Add a layer after what is there; return the node that it writes."""
    assert module.weight is not None
    n_in, n_out = module.sizes
    if module.kind == "embedding":
        return None if reading.sizes else _add_embedding(reading, module)
    if not reading.sizes:
        reading.sizes.append(n_in)
    current = len(reading.sizes) - 1
    size = reading.sizes[current]
    if module.n_spatial and n_in == 1 and n_out == size and size > 1:  # depthwise
        _add(reading, module, f"{{{current}}} ...", current)
        return current
    if n_in == size:
        tail, source = f"{{{current}}}", current
    elif not module.n_spatial and size > 1 and current > 0 and n_in % size == 0:
        flat = f"{{{current}}} p{current}" if module.turned else f"p{current} {{{current}}}"
        tail, source = f"({flat})", current
        reading.notes.append(
            f"{module.weight.name} reads the {size} channels before it as flattened windows of "
            f"{n_in // size} positions, "
            + ("channels" if module.turned else "positions")
            + " first"
        )
    elif n_in in reading.sizes[1:] and not module.n_spatial:
        source = max(node for node in range(1, current) if reading.sizes[node] == n_in)
        tail = f"{{{source}}}"
        reading.notes.append(
            f"{module.weight.name} is taken for a branch: it reads the {n_in} units that an "
            "earlier layer writes"
        )
    else:
        return None
    return _add_layer(reading, module, tail, source, n_out)


def _add_layer(reading: Reading, module: Module, tail: str, source: int, n_out: int) -> int:
    """Add a layer that writes a new node."""
    node = len(reading.sizes)
    reading.sizes.append(n_out)
    reading.read.add(source)
    more = " ..." if module.n_spatial else ""
    if module.turned:
        line = f"{{{node}}} <- {tail}{more}"
    else:
        line = f"{more.strip()} {tail} -> {{{node}}}".strip()
    _add(reading, module, line, node)
    return node


def _add(reading: Reading, module: Module, line: str, node: int) -> None:
    """Write down the lines of a layer."""
    assert module.weight is not None
    reading.axes[module.weight.name] = line
    if "bias" in module.parts:
        arrow = "" if line.startswith(f"{{{node}}} ...") else "-> "
        reading.axes[module.parts["bias"].name] = f"{arrow}{{{node}}}"


def _add_embedding(reading: Reading, module: Module) -> int:
    """Add a table of embeddings, stored (words, units)."""
    assert module.weight is not None
    reading.sizes += [module.weight.shape[0], module.weight.shape[1]]
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
    chosen = (same or before or fitting)[-1:]
    if not chosen:
        return None
    if len(fitting) > 1:
        reading.notes.append(
            f"{norm.name} has the size of several layers, and is taken to follow {chosen[0].name}"
        )
    return written[chosen[0].name]


def _add_norm(reading: Reading, norm: Module, node: int) -> None:
    """Add a norm: it takes over the sign and scale of its units from the layer before it."""
    assert norm.weight is not None
    place = f"{{{node}}}"
    for key, line in reading.axes.items():
        if line.startswith(f"{place} <-") or line.endswith(f"-> {place}"):
            reading.axes[key] = line.replace(place, f"{place}^0")
    for part, array in norm.parts.items():
        statistic = part in _STATISTICS
        reading.axes[array.name] = f"{place}^0" if statistic else f"-> {place}"
