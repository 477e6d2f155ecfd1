"""A guess at the spec, from the names and shapes of the draws, and what is unsure about it."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import xarray as xr

from relabel.binding import SAMPLE_DIMS, check_draws, core_dims, is_drawn
from relabel.containers import sharing, unpack
from relabel.errors import RelabelError, SpecError
from relabel.groups import group_of
from relabel.presets import dense_line, hidden_names
from relabel.spec import Spec

__all__ = ["Proposal", "propose"]

_FIRST = {"in", "input", "inputs", "first", "x", "feature", "features", "covariates"}
_LAST = {"out", "output", "outputs", "last", "final", "head", "y", "target", "targets"}
_BIAS = {"b", "c", "bias", "biases", "intercept", "intercepts", "offset", "offsets"}
_WEIGHT = {"w", "u", "v", "weight", "weights", "kernel", "kernels", "fc", "dense", "linear"}
_WEIGHT |= {"layer", "layers"}

_MAX_UNORDERED = 5  # matrices whose order is sought among all orders
_MAX_MIXED = 8  # matrices whose storage may differ from one to the next


@dataclass(frozen=True)
class Proposal:
    """A guess at a spec.

    Attributes
    ----------
    spec : Spec or None
        The guess, which binds to the draws; None if there is none.
    doubts : tuple of str
        What names and shapes do not tell: the spec is not to be used before a person has looked.
    assumptions : tuple of str
        What was taken for granted, and is likely or safe.
    """

    spec: Spec | None
    doubts: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()

    @property
    def certain(self) -> bool:
        """Whether there is a spec, and nothing about its axes is in doubt."""
        return self.spec is not None and not self.doubts

    def to_toml(self) -> str:
        """Write the spec as TOML, headed by assumptions and doubts as comments."""
        notes = [f"# assumed: {note}" for note in self.assumptions]
        notes += [f"# in doubt: {note}" for note in self.doubts]
        head = "".join(f"{' '.join(note.split())}\n" for note in notes)
        if self.spec is None:
            return head
        return f"{head}\n{self.spec.to_toml()}" if head else self.spec.to_toml()


def propose(data: Any, units: Mapping[str, str] | None = None) -> Proposal:
    """Guess a spec from the names and shapes of draws, and say what is unsure about it.

    Nothing is guessed silently. What the draws do not tell is a *doubt*; what is taken for granted
    is an *assumption*. These are the rules:

    1. **Feed-forward networks.** Weights are variables of two axes a draw, named with a number,
       with a word such as ``in`` or ``out``, or with a word such as ``w``, ``kernel``, ``fc``;
       the last may have one axis, if there is one output. Biases have one axis and are named
       ``b``, ``bias``, ``intercept``, ... Numbers and ``in``, ``out`` in the names order the
       layers. Where they do not, all orders are tried, stored alike.
    2. **Which way a matrix is stored**, (in, out) or (out, in), follows from the sizes that
       neighbours share, from the sizes of biases and from dimension names that variables share;
       two different shared names are never one axis. A square matrix of which these say nothing is
       taken to be stored like the others: an assumption. If more than one network fits, the first
       is shown and the doubt names them all.
    3. **Variables that carry no units** are left out. One that is not part of the network but has
       an axis of the size of a hidden layer, without a dimension name that tells, is a doubt.
    4. **Mixtures and the like.** Without a network, a named dimension that several variables share
       holds the units, in the dims-only form. Dimensions of observed or constant data are taken
       last. More than one such dimension, names of the entries, or a dimension of the
       data is a doubt.
    5. **The activation** is that of `units`, else the posterior's attribute ``activation``, else
       ``"permutation"``, which is always safe: the last two are assumptions.
    6. The spec is bound to the draws. If that fails, ``"permutation"`` is proposed instead, and why
       it failed is a doubt.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset
        Draws.
    units : mapping of str to str, optional
        Names of the hidden layers, from the inputs on, and their activations; or names of
        dimensions.

    Returns
    -------
    Proposal

    Raises
    ------
    DataError
        If there are no draws.
    SpecError
        If `units` has an unknown activation, or does not name as many sets as there are.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> sample = ("chain", "draw")
    >>> draws = xr.Dataset({"W1": ((*sample, "i", "j"), np.ones((1, 2, 3, 4))),
    ...                     "W2": ((*sample, "k", "l"), np.ones((1, 2, 4, 1)))})
    >>> proposal = propose(draws, units={"h": "tanh"})
    >>> proposal.certain, proposal.spec.axes
    (True, {'W1': 'x -> h', 'W2': 'h -> y'})
    >>> propose(draws).assumptions  # doctest: +ELLIPSIS
    ("the activation is not known: units are only permuted, which is always safe; ...",)
    """
    groups = unpack(data)
    check_draws(groups)
    for symmetry in (units or {}).values():
        group_of(symmetry)
    posterior = groups["posterior"]
    arrays = [
        _Array(str(name), core_dims(variable), _core_shape(variable), variable.dtype.kind)
        for name, variable in posterior.data_vars.items()
        if is_drawn(variable) and variable.ndim > len(SAMPLE_DIMS)
    ]
    nets, doubts = _find_networks(arrays)
    if nets:
        guess = _from_network(nets, arrays, units, posterior.attrs.get("activation"))
    else:
        guess = _from_dims(arrays, groups, units, doubts)
    return _checked(guess, sharing(groups))


# ---------------------------------------------------------------------- variables, layers, networks


class _End(NamedTuple):
    """One axis of a variable."""

    dim: str
    size: int


@dataclass(frozen=True)
class _Array:
    """A variable of the posterior, one draw of it."""

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    kind: str = "f"

    @property
    def ends(self) -> list[_End]:
        return [_End(*end) for end in zip(self.dims, self.shape, strict=True)]

    @cached_property
    def words(self) -> list[str]:
        """Words and numbers of the name."""
        return re.findall(r"[a-z]+|\d+", self.name.lower())

    @cached_property
    def order(self) -> tuple[float, ...]:
        """What the name says about the place of the layer."""
        ranks = {**dict.fromkeys(_FIRST, -1.0), **dict.fromkeys(_LAST, math.inf)}
        places = [float(w) if w.isdigit() else ranks.get(w) for w in self.words]
        return tuple(place for place in places if place is not None)

    @property
    def is_bias(self) -> bool:
        return self.kind == "f" and len(self.shape) == 1 and bool(_BIAS & set(self.words))

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
        """The words that do not number the layer."""
        return tuple(w for w in self.words if not w.isdigit() and w not in _FIRST | _LAST)

    def __str__(self) -> str:
        return f"{self.name} ({' × '.join(map(str, self.shape))})"


@dataclass(frozen=True)
class _Layer:
    """A weight and how it is stored: `turned` is (out, in); one axis stands for one output."""

    weight: _Array
    turned: bool

    @property
    def tail(self) -> _End:
        return self.weight.ends[-1 if self.turned else 0]

    @property
    def head(self) -> _End | None:
        if len(self.weight.shape) == 1:
            return None
        return self.weight.ends[0 if self.turned else 1]

    @property
    def square(self) -> bool:
        return len(self.weight.shape) == 2 and self.weight.shape[0] == self.weight.shape[1]


@dataclass(frozen=True)
class _Net:
    """A feed-forward network; `biases` holds one entry, or None, for each layer."""

    layers: tuple[_Layer, ...]
    biases: tuple[_Array | None, ...]

    @property
    def evidence(self) -> int:
        """How many biases fit, and how many dimension names say that it is this network."""
        found = [bias is not None for bias in self.biases]
        found += [_linked(a.head, b.tail) for a, b in itertools.pairwise(self.layers)]
        found += [
            _linked(layer.head, bias.ends[0] if bias else None)
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

    def decided(self, i: int) -> bool:
        """Whether dimension names tell how layer `i` is stored."""
        before = self.layers[i - 1].head if i > 0 else None
        after = self.layers[i + 1].tail if i + 1 < len(self.layers) else None
        layer, bias = self.layers[i], self.biases[i]
        return (
            _linked(before, layer.tail)
            or _linked(layer.head, after)
            or _linked(layer.head, bias.ends[0] if bias else None)
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


def _linked(one: _End | None, other: _End | None) -> bool:
    """Whether two axes have one dimension."""
    return one is not None and other is not None and one.dim == other.dim


def _shortened(items: list[str]) -> list[str]:
    return items if len(items) <= 7 else [*items[:3], "...", *items[-2:]]


def _words(dim: str) -> set[str]:
    """Words in a dimension's name; none in a default name such as ``W1_dim_0``."""
    return set() if _is_default(dim) else set(re.findall(r"[a-z]+", dim.lower()))


def _is_default(dim: str) -> bool:
    return re.fullmatch(r".*_dim_\d+", dim) is not None


def _core_shape(variable: xr.DataArray) -> tuple[int, ...]:
    return tuple(int(variable.sizes[dim]) for dim in core_dims(variable))


def _shared_dims(arrays: Sequence[_Array]) -> list[str]:
    """Named dimensions that several variables have, in the order they are met."""
    dims = [dim for array in arrays for dim in dict.fromkeys(array.dims) if not _is_default(dim)]
    return [dim for dim in dict.fromkeys(dims) if dims.count(dim) > 1]


# ---------------------------------------------------------------------- finding networks


def _find_networks(arrays: Sequence[_Array]) -> tuple[list[_Net], list[str]]:
    """Return the networks with the most evidence, and doubts if there are several families."""
    weights = [array for array in arrays if array.is_weight]
    biases = [array for array in arrays if array.is_bias]
    shared = set(_shared_dims(arrays))
    matrices = [weight for weight in weights if len(weight.shape) == 2]
    for pool in (weights, matrices):
        nets = _networks_of(pool, biases, shared)
        if nets:
            return nets, []
    families: dict[tuple[str, ...], list[_Array]] = {}
    for matrix in matrices:
        families.setdefault(matrix.family, []).append(matrix)
    found = {key: _networks_of(pool, biases, shared) for key, pool in families.items()}
    found = {key: nets for key, nets in found.items() if nets}
    shortest = [key for key in found if len(key) == min(map(len, found))]
    if len(shortest) == 1:
        return found[shortest[0]], []
    listed = "; ".join(str(found[key][0]) for key in shortest)
    return [], [f"there is more than one network ({listed})"] if listed else []


def _networks_of(
    weights: Sequence[_Array], biases: Sequence[_Array], shared: set[str]
) -> list[_Net]:
    """Return every network of all these weights, as far as none has more evidence."""
    if len(weights) < 2:
        return []
    numbered = _is_ordered(weights)
    orders: Iterator[Sequence[_Array]]
    if numbered:
        orders = iter([sorted(weights, key=lambda weight: weight.order)])
    else:
        orders = itertools.permutations(weights if len(weights) <= _MAX_UNORDERED else ())
    nets = []
    for order in orders:
        for turned in _storages(len(order), mixed=numbered):
            layers = tuple(_Layer(w, t) for w, t in zip(order, turned, strict=True))
            if layers and _is_chain(layers, shared):
                nets.append(_Net(layers, _placed(biases, layers, shared)))
    most = max((net.evidence for net in nets), default=0)
    return [net for net in nets if net.evidence == most]


def _is_ordered(arrays: Sequence[_Array]) -> bool:
    """Whether the names put the variables in one order."""
    orders = {array.order for array in arrays}
    return len(orders) == len(arrays) and () not in orders


def _storages(number: int, *, mixed: bool) -> Iterator[tuple[bool, ...]]:
    """Ways to store so many matrices: all (in, out), all (out, in), then mixed ones."""
    alike = [(False,) * number, (True,) * number]
    yield from alike
    if mixed and number <= _MAX_MIXED:
        for turned in itertools.product((False, True), repeat=number):
            if turned not in alike:
                yield turned


def _is_chain(layers: Sequence[_Layer], shared: set[str]) -> bool:
    """Whether each layer reads what the one before it writes."""
    if layers[-1].head is None and layers[-1].turned != layers[-2].turned:
        return False  # one axis looks the same both ways: count it once
    return all(
        a.head is not None and _same_axis(a.head, b.tail, shared)
        for a, b in itertools.pairwise(layers)
    )


def _same_axis(one: _End, other: _End, shared: set[str]) -> bool:
    """Whether two axes may be the same units: two different shared names are not."""
    if one.dim == other.dim:
        return True
    return one.size == other.size and not {one.dim, other.dim} <= shared


def _placed(
    biases: Sequence[_Array], layers: Sequence[_Layer], shared: set[str]
) -> tuple[_Array | None, ...]:
    """Give biases to layers: by the numbers in their names, else where only one way fits."""
    result: list[_Array | None] = [None] * len(layers)
    numbers = [layer.weight.order for layer in layers]
    by_number = _is_ordered([layer.weight for layer in layers])
    if by_number and all(bias.order in numbers for bias in biases):
        for bias in biases:
            i = numbers.index(bias.order)
            if result[i] is None and _takes(layers[i], bias, shared):
                result[i] = bias
        return tuple(result)
    ordered = by_number and _is_ordered(biases)
    queue = sorted(biases, key=lambda bias: bias.order) if ordered else list(biases)
    ways = itertools.islice(_ways(queue, layers, range(len(layers)), shared, ordered), 2)
    found = list(ways)
    for bias, i in zip(queue, found[0], strict=True) if len(found) == 1 else ():
        result[i] = bias
    return tuple(result)


def _ways(
    biases: Sequence[_Array],
    layers: Sequence[_Layer],
    free: Sequence[int],
    shared: set[str],
    ordered: bool,
) -> Iterator[tuple[int, ...]]:
    """Every way to give each bias a layer of its own."""
    if not biases:
        yield ()
        return
    for at, i in enumerate(free):
        if _takes(layers[i], biases[0], shared):
            rest = [*([] if ordered else free[:at]), *free[at + 1 :]]
            for way in _ways(biases[1:], layers, rest, shared, ordered):
                yield (i, *way)


def _takes(layer: _Layer, bias: _Array, shared: set[str]) -> bool:
    """Whether a bias fits what a layer writes."""
    return layer.head is not None and _same_axis(layer.head, bias.ends[0], shared)


# ---------------------------------------------------------------------- from findings to a guess


def _from_network(
    nets: Sequence[_Net],
    arrays: Sequence[_Array],
    units: Mapping[str, str] | None,
    attribute: object,
) -> Proposal:
    """Turn the networks that fit into a spec with its doubts."""
    alike = [net for net in nets if net.alike]
    net, n_hidden = (alike or nets)[0], len(nets[0].layers) - 1
    names, symmetries, assumptions = _named(net, n_hidden, units, attribute)
    doubts = []
    if len(alike) > 1 or (not alike and len(nets) > 1):
        doubts.append(_ambiguity(alike or nets))
    else:
        assumptions = [*_storage_notes(net), *assumptions]
    source, target = _free("x", names), _free("y", names)
    nodes = [source, *names, target]
    axes: dict[str, str] = {}
    for i, (layer, bias) in enumerate(zip(net.layers, net.biases, strict=True)):
        line = dense_line(nodes[i], nodes[i + 1], layer.turned)
        axes[layer.weight.name] = f"{nodes[i]} ->" if layer.head is None else line
        if bias is not None:
            axes[bias.name] = f"-> {nodes[i + 1]}"
    doubts += _left_over(net, arrays, names)
    spec = Spec(dict(zip(names, symmetries, strict=True)), axes)
    return Proposal(spec, tuple(doubts), tuple(assumptions))


def _named(
    net: _Net, n_hidden: int, units: Mapping[str, str] | None, attribute: object
) -> tuple[list[str], list[str], list[str]]:
    """Return names and activations of the hidden layers, and what was assumed for them."""
    if units:
        if len(units) != n_hidden:
            sizes = ", ".join(map(str, net.sizes[1:-1]))
            example = dict.fromkeys(hidden_names(n_hidden), "tanh")
            raise SpecError(
                f"units are given for {len(units)} sets ({', '.join(units)}), but the draws look "
                f"like a network of which the hidden layers have {sizes} units; name one set for "
                f"each, from the inputs on, as in {example}"
            )
        return list(units), list(units.values()), []
    symmetry, notes = _activation(attribute)
    return hidden_names(n_hidden), [symmetry] * n_hidden, notes


def _activation(attribute: object) -> tuple[str, list[str]]:
    """Return the activation that the posterior's attribute names, or the safe one."""
    safe = (
        "units are only permuted, which is always safe; naming an activation with more symmetry "
        "(tanh, relu, sigmoid, ...), as in units={'h': 'tanh'}, lets signs and scales be used"
    )
    if attribute is None:
        return "permutation", [f"the activation is not known: {safe}"]
    try:
        group_of(str(attribute))
    except SpecError:
        return "permutation", [f"the attribute activation = {attribute!r} is not known: {safe}"]
    name = str(attribute)
    return name, [
        f"the activation of all hidden layers is {name}: so says the posterior's attribute"
    ]


def _free(name: str, taken: Sequence[str]) -> str:
    """Return a name for inputs or outputs that no units have."""
    while name in taken:
        name += "_"
    return name


def _ambiguity(nets: Sequence[_Net]) -> str:
    """Say which networks fit, and how to choose."""
    listed = [f"({i}) {net}" for i, net in enumerate(nets[:3], 1)]
    if len(nets) > 3:
        listed.append(f"and {len(nets) - 3} more")
    first, second = (layer.weight.name for layer in nets[0].layers[:2])
    return (
        f"names and shapes fit more than one network: {'; '.join(listed)}. The first is shown. "
        f"Say which it is by the axes: {first} = 'x -> h' if {first} is stored (in, out), 'h <- x' "
        f"if (out, in), and {second} likewise; biases, or dimension names that variables share, "
        "would have told"
    )


def _storage_notes(net: _Net) -> list[str]:
    """What was assumed about the order of the layers and the storage of their matrices."""
    notes = []
    how = "(out, in)" if net.layers[0].turned else "(in, out)"
    square = [
        layer.weight.name
        for i, layer in enumerate(net.layers)
        if layer.square and not net.decided(i)
    ]
    if square:
        what = "is square" if len(square) == 1 else "are square"
        notes.append(f"{', '.join(square)} {what} and taken to be stored {how} like the others")
    if not net.alike:
        notes.append(f"not all matrices are stored alike: {net}")
    if not _is_ordered([layer.weight for layer in net.layers]):
        notes.append(f"the names do not number the layers; their order follows from sizes: {net}")
    return notes


def _left_over(net: _Net, arrays: Sequence[_Array], names: Sequence[str]) -> list[str]:
    """Doubts about variables that may belong to the units but are no part of the network."""
    used = {layer.weight for layer in net.layers} | {bias for bias in net.biases if bias}
    doubts = []
    for array in arrays:
        if array in used:
            continue
        like = [n for i, n in enumerate(names) if any(_may_carry(net, i, e) for e in array.ends)]
        if like:
            doubts.append(
                f"{array} has an axis of the size of {' and '.join(like)}, and neither its name "
                f"nor its dimensions say what it is; if it belongs to these units, add "
                f"{array.name!r} to axes ('-> {like[0]}' for a bias, '{like[0]}^0' if it is only "
                "permuted)"
            )
        elif array.is_bias:
            doubts.append(f"{array} looks like a bias, but it is not clear of which layer")
    return doubts


def _may_carry(net: _Net, i: int, end: _End) -> bool:
    """Whether an axis of some other variable may be that of hidden layer `i`, unless named so."""
    head, tail, bias = net.layers[i].head, net.layers[i + 1].tail, net.biases[i]
    dims = {tail.dim, *([head.dim] if head else []), *(bias.dims if bias else ())}
    if end.dim in dims:
        return False  # the spec's own check sees to these
    telling = not _is_default(end.dim) and not any(map(_is_default, dims))
    return end.size == tail.size and not telling


def _from_dims(
    arrays: Sequence[_Array],
    groups: Mapping[str, xr.Dataset],
    units: Mapping[str, str] | None,
    doubts: Sequence[str],
) -> Proposal:
    """Propose dimensions that several variables share, in the dims-only form."""
    posterior = groups["posterior"]
    if units and set(units) <= set(map(str, posterior.dims)):
        return Proposal(Spec(units))
    of_data = _dims_of_data(groups)
    shared = _shared_dims(arrays)
    found = [dim for dim in shared if dim not in of_data] or shared
    if not found:
        return Proposal(None, (*doubts, _nothing(arrays)))
    if units:
        raise SpecError(
            f"no dimension is named {', '.join(n for n in units if n not in posterior.dims)}; the "
            f"dimensions that several variables share are {', '.join(found)}: name these as units"
        )
    note = (
        f"there is no feed-forward network, but several variables share {', '.join(found)}: the "
        "entries of such a dimension are taken to be exchangeable, and are only permuted"
    )
    spec = Spec(dict.fromkeys(found, "permutation"))
    return Proposal(spec, (*doubts, *_dims_doubts(found, of_data, posterior)), (note,))


def _dims_of_data(groups: Mapping[str, xr.Dataset]) -> set[str]:
    """Dimensions of the data, leaving out true values of what was sampled (``true_mu``)."""
    sampled = [str(name) for name in groups["posterior"].data_vars]
    return {
        str(dim)
        for group in ("observed_data", "constant_data")
        for name, variable in groups.get(group, xr.Dataset()).data_vars.items()
        if not any(
            re.fullmatch(rf"{re.escape(s)}_.*|.*_{re.escape(s)}", str(name)) for s in sampled
        )
        for dim in variable.dims
    }


def _dims_doubts(found: Sequence[str], of_data: set[str], posterior: xr.Dataset) -> list[str]:
    """Reasons why the entries of a shared dimension may not be exchangeable."""
    doubts = []
    if len(found) > 1:
        doubts.append(
            f"several variables share the dimensions {', '.join(found)}: keep as units only those "
            "whose entries are exchangeable"
        )
    for dim in found:
        if dim in of_data:
            doubts.append(
                f"the data have the dimension {dim!r} too, so it may index observations, not units"
            )
        labels = [str(label) for label in posterior[dim].values]
        if len({label.rstrip("0123456789") for label in labels}) > 1:
            doubts.append(
                f"the entries of {dim!r} have names ({', '.join(labels[:3])}, ...): are they "
                "exchangeable?"
            )
    return doubts


def _nothing(arrays: Sequence[_Array]) -> str:
    """Say why there is no guess."""
    seen = ", ".join(map(str, arrays[:10])) or "only scalars"
    more = f" and {len(arrays) - 10} more" if len(arrays) > 10 else ""
    return (
        "neither two or more weight matrices in a row that share a size, nor a named dimension "
        f"that several variables share, were found among {seen}{more}; declare the units and the "
        "axes, as in units={'h': 'tanh'}, axes={'W1': 'x -> h', 'b1': '-> h', 'W2': 'h -> y'}"
    )


def _checked(guess: Proposal, groups: Mapping[str, xr.Dataset]) -> Proposal:
    """Bind the spec; what fails becomes a doubt, and only permutations are proposed."""
    spec, doubts = guess.spec, guess.doubts
    while spec is not None:
        try:
            spec.bind(groups)
        except RelabelError as error:
            safe = Spec(dict.fromkeys(spec.units, "permutation"), spec.axes)
            doubts = (*doubts, f"as {', '.join(spec.units.values())} it does not fit: {error}")
            spec = safe if safe != spec else None
        else:
            break
    return Proposal(spec, doubts, guess.assumptions)
