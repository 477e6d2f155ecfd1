"""Feed-forward architectures that the names and shapes of variables fit."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from relabel.spec.leftovers import is_default, named_as_bias

__all__ = [
    "Architecture",
    "Array",
    "End",
    "Layer",
    "find_architectures",
    "is_ordered",
    "shared_dims",
]

_FIRST = {"in", "input", "inputs", "first", "x", "feature", "features", "covariates"}
_LAST = {"out", "output", "outputs", "last", "final", "head", "y", "target", "targets"}
_WEIGHT = {"w", "u", "v", "weight", "weights", "kernel", "kernels", "fc", "dense", "linear"}
_WEIGHT |= {"layer", "layers"}

_MAX_UNORDERED = 5  # matrices whose order is sought among all orders
_MAX_MIXED = 8  # matrices whose storage may differ from one to the next


class End(NamedTuple):
    """One axis of a variable."""

    dim: str
    size: int


@dataclass(frozen=True)
class Array:
    """A variable of the posterior, one draw of it."""

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    kind: str = "f"

    @property
    def ends(self) -> list[End]:
        """Its axes."""
        return [End(*end) for end in zip(self.dims, self.shape, strict=True)]

    @property
    def end(self) -> End | None:
        """The first axis, if there is one."""
        return self.ends[0] if self.shape else None

    @cached_property
    def words(self) -> list[str]:
        """Words and numbers of the name."""
        return re.findall(r"[a-z]+|\d+", self.name.lower())

    @cached_property
    def order(self) -> tuple[float, ...]:
        """Numbers in the name, and what words such as ``in`` say, on the place of the layer."""
        ranks = {**dict.fromkeys(_FIRST, -1.0), **dict.fromkeys(_LAST, math.inf)}
        places = [float(w) if w.isdigit() else ranks.get(w) for w in self.words]
        return tuple(place for place in places if place is not None)

    @property
    def is_bias(self) -> bool:
        """Whether it may be a bias; one without axes belongs to a single output."""
        return self.kind == "f" and len(self.shape) <= 1 and named_as_bias(self.name)

    @property
    def is_weight(self) -> bool:
        """Whether it may be a weight matrix, or the weights of a single output."""
        if self.kind != "f" or len(self.shape) > 2 or self.is_bias:
            return False
        if len(self.shape) == 2:
            return bool(self.order) or bool(_WEIGHT & set(self.words))
        known = [w.isdigit() or w in _WEIGHT | _FIRST | _LAST for w in self.words]
        return all(known) and bool(_WEIGHT & set(self.words))

    @property
    def family(self) -> tuple[str, ...]:
        """Words of the name that say nothing on the place of the layer."""
        return tuple(w for w in self.words if not w.isdigit() and w not in _FIRST | _LAST)

    def __str__(self) -> str:
        return f"{self.name} ({' × '.join(map(str, self.shape)) or 'a number'})"


@dataclass(frozen=True)
class Layer:
    """A weight and how it is stored: `turned` is (out, in); one axis is a single output."""

    weight: Array
    turned: bool

    @property
    def tail(self) -> End:
        """The axis that is read."""
        return self.weight.ends[-1 if self.turned else 0]

    @property
    def head(self) -> End | None:
        """The axis that is written; None for a single output."""
        if len(self.weight.shape) == 1:
            return None
        return self.weight.ends[0 if self.turned else 1]

    @property
    def square(self) -> bool:
        """Whether it is square, so that its shape does not show how it is stored."""
        return len(self.weight.shape) == 2 and self.weight.shape[0] == self.weight.shape[1]


@dataclass(frozen=True)
class Architecture:
    """A feed-forward network; `biases` holds one entry, or None, for each layer."""

    layers: tuple[Layer, ...]
    biases: tuple[Array | None, ...]

    @property
    def evidence(self) -> int:
        """Number of biases that fit, and of dimension names that support this network."""
        found = [bias is not None for bias in self.biases]
        found += [_linked(a.head, b.tail) for a, b in itertools.pairwise(self.layers)]
        found += [
            _linked(layer.head, bias.end if bias else None)
            for layer, bias in zip(self.layers, self.biases, strict=True)
        ]
        last = self.layers[-1].head
        found.append(bool(_FIRST & _words(self.layers[0].tail.dim)))
        found.append(last is not None and bool(_LAST & _words(last.dim)))
        return sum(found)

    @property
    def alike(self) -> bool:
        """Whether all matrices are stored the same way."""
        return len({layer.turned for layer in self.layers if layer.head is not None}) == 1

    @property
    def sizes(self) -> list[int]:
        """Sizes of inputs, hidden layers and outputs."""
        last = self.layers[-1].head
        return [layer.tail.size for layer in self.layers] + [last.size if last else 1]

    @property
    def linked(self) -> bool:
        """Whether dimension names connect all layers."""
        return all(_linked(a.head, b.tail) for a, b in itertools.pairwise(self.layers))

    def decided(self, i: int) -> bool:
        """Whether dimension names show how layer `i` is stored."""
        before = self.layers[i - 1].head if i > 0 else None
        after = self.layers[i + 1].tail if i + 1 < len(self.layers) else None
        layer, bias = self.layers[i], self.biases[i]
        return (
            _linked(before, layer.tail)
            or _linked(layer.head, after)
            or _linked(layer.head, bias.end if bias else None)
        )

    def __str__(self) -> str:
        stored: list[str] = []
        for turned, how in ((False, "(in, out)"), (True, "(out, in)")):
            names = [
                layer.weight.name
                for layer in self.layers
                if layer.turned == turned and layer.head is not None
            ]
            if names:
                stored.append(f"{', '.join(_shortened(names))} stored {how}")
        return f"{' and '.join(stored)}: {' → '.join(_shortened(list(map(str, self.sizes))))}"


def _linked(one: End | None, other: End | None) -> bool:
    """Whether two axes have one dimension."""
    return one is not None and other is not None and one.dim == other.dim


def _shortened(items: list[str]) -> list[str]:
    return items if len(items) <= 7 else [*items[:3], "...", *items[-2:]]


def _words(dim: str) -> set[str]:
    """Words in a dimension's name; none in a default name such as ``W1_dim_0``."""
    return set() if is_default(dim) else set(re.findall(r"[a-z]+", dim.lower()))


def shared_dims(arrays: Sequence[Array]) -> list[str]:
    """Return the named dimensions that several variables have, in order of appearance."""
    dims = [dim for array in arrays for dim in dict.fromkeys(array.dims) if not is_default(dim)]
    return [dim for dim in dict.fromkeys(dims) if dims.count(dim) > 1]


# ---------------------------------------------------------------------- finding networks


def find_architectures(arrays: Sequence[Array]) -> tuple[list[Architecture], list[str]]:
    """Return the networks with the most evidence, and doubts if there are several families."""
    weights = [array for array in arrays if array.is_weight]
    biases = [array for array in arrays if array.is_bias]
    shared = set(shared_dims(arrays))
    matrices = [weight for weight in weights if len(weight.shape) == 2]
    for pool in (weights, matrices):
        nets = _networks_of(pool, biases, shared)
        if nets:
            return nets, []
    families: dict[tuple[str, ...], list[Array]] = {}
    for matrix in matrices:
        families.setdefault(matrix.family, []).append(matrix)
    found = {key: _networks_of(pool, biases, shared) for key, pool in families.items()}
    found = {key: nets for key, nets in found.items() if nets}
    shortest = [key for key in found if len(key) == min(map(len, found))]
    if len(shortest) == 1:
        return found[shortest[0]], []
    networks = "; ".join(str(found[key][0]) for key in shortest)
    return [], [f"there is more than one network ({networks})"] if networks else []


def _networks_of(
    weights: Sequence[Array], biases: Sequence[Array], shared: set[str]
) -> list[Architecture]:
    """Return every network of all these weights, as far as none has more evidence."""
    if len(weights) < 2:
        return []
    numbered = is_ordered(weights)
    orders: Iterator[Sequence[Array]]
    if numbered:
        orders = iter([sorted(weights, key=lambda weight: weight.order)])
    else:
        orders = itertools.permutations(weights if len(weights) <= _MAX_UNORDERED else ())
    nets = []
    for order in orders:
        for turned in _storages(len(order), mixed=numbered):
            layers = tuple(Layer(w, t) for w, t in zip(order, turned, strict=True))
            if layers and _is_chain(layers, shared):
                nets.append(Architecture(layers, _placed(biases, layers, shared)))
    most = max((net.evidence for net in nets), default=0)
    return [net for net in nets if net.evidence == most]


def is_ordered(arrays: Sequence[Array]) -> bool:
    """Whether the names put the variables in one order."""
    orders = {array.order for array in arrays}
    return len(orders) == len(arrays) and () not in orders


def _storages(number: int, *, mixed: bool) -> Iterator[tuple[bool, ...]]:
    """Yield the ways to store so many matrices: all (in, out), all (out, in), then mixed ones."""
    uniform = [(False,) * number, (True,) * number]
    yield from uniform
    if mixed and number <= _MAX_MIXED:
        for turned in itertools.product((False, True), repeat=number):
            if turned not in uniform:
                yield turned


def _is_chain(layers: Sequence[Layer], shared: set[str]) -> bool:
    """Whether each layer reads what the one before it writes."""
    if layers[-1].head is None and layers[-1].turned != layers[-2].turned:
        return False  # a weight of one axis looks the same both ways: count it once
    return all(
        a.head is not None and _same_axis(a.head, b.tail, shared)
        for a, b in itertools.pairwise(layers)
    )


def _same_axis(one: End, other: End, shared: set[str]) -> bool:
    """Whether two axes may be the same units: two different shared names are not."""
    if one.dim == other.dim:
        return True
    return one.size == other.size and not {one.dim, other.dim} <= shared


def _placed(
    biases: Sequence[Array], layers: Sequence[Layer], shared: set[str]
) -> tuple[Array | None, ...]:
    """Assign biases to layers: by the numbers in their names, else where only one way fits."""
    result: list[Array | None] = [None] * len(layers)
    numbers = [layer.weight.order for layer in layers]
    by_number = is_ordered([layer.weight for layer in layers])
    if by_number and all(bias.order in numbers for bias in biases):
        for bias in biases:
            i = numbers.index(bias.order)
            if result[i] is None and _takes(layers[i], bias, shared):
                result[i] = bias
        return tuple(result)
    ordered = by_number and is_ordered(biases)
    queue = sorted(biases, key=lambda bias: bias.order) if ordered else list(biases)
    every = _assignments(queue, layers, range(len(layers)), shared, ordered)
    found = list(itertools.islice(every, 2))
    for bias, i in zip(queue, found[0], strict=True) if len(found) == 1 else ():
        result[i] = bias
    return tuple(result)


def _assignments(
    biases: Sequence[Array],
    layers: Sequence[Layer],
    free: Sequence[int],
    shared: set[str],
    ordered: bool,
) -> Iterator[tuple[int, ...]]:
    """Yield every way to assign each bias a layer of its own: the numbers of the layers."""
    if not biases:
        yield ()
        return
    for at, i in enumerate(free):
        if _takes(layers[i], biases[0], shared):
            rest = [*([] if ordered else free[:at]), *free[at + 1 :]]
            for others in _assignments(biases[1:], layers, rest, shared, ordered):
                yield (i, *others)


def _takes(layer: Layer, bias: Array, shared: set[str]) -> bool:
    """Whether a bias fits what a layer writes."""
    if layer.head is None or bias.end is None:
        return layer.head is None and bias.end is None
    return _same_axis(layer.head, bias.end, shared)
