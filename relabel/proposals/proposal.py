"""A proposal of the spec, from names and shapes of the draws, and what is in doubt about it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import xarray as xr

from relabel._util.text import join
from relabel._util.validate import mapping
from relabel.data.containers import DrawsLike, sharing, unpack
from relabel.data.ties import tied_weights
from relabel.errors import RelabelError, SpecError
from relabel.groups import group_of, group_of_activation
from relabel.models.convolutional import of_channels
from relabel.models.tables import dense_line, hidden_names
from relabel.proposals.feedforward import (
    Architecture,
    Array,
    End,
    find_architectures,
    is_ordered,
    shared_dims,
)
from relabel.proposals.latent_variables import complete, known_dims
from relabel.proposals.layer_names import Reading, follows_conventions, read_names
from relabel.proposals.model_zoo import Known, known_network
from relabel.spec.arrays import check_draws, closest, core_dims, core_shape, is_drawn
from relabel.spec.leftovers import is_default
from relabel.spec.spec import Spec

__all__ = ["Proposal", "propose"]

_PLAIN = (
    "each layer reads the units in its line, and between the layers there are only functions of "
    "single units, pooling and norms, which names do not show: relabel.check_function compares "
    "outputs before and after"
)


@dataclass(frozen=True)
class Proposal:
    """A proposed spec: what :func:`relabel.propose` returns.

    Attributes
    ----------
    spec : Spec or None
        The spec, which binds to the draws; None if nothing could be proposed.
    doubts : tuple of str
        Questions that names and shapes leave open: check the spec before you use it.
    assumptions : tuple of str
        Assumptions that are likely or safe.
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


def propose(
    data: DrawsLike, units: Mapping[str, str] | None = None, *, activation: str | None = None
) -> Proposal:
    """Propose a spec from the names and shapes of draws, and say what is in doubt about it.

    Nothing is guessed silently: a question that the draws leave open is a *doubt*; what is likely
    or safe is an *assumption*. These are the rules:

    1. **Known networks.** Names of torchvision's residual networks, of PyTorch's recurrent ones, of
       the usual vision transformers and MLP-mixers give the preset (:func:`relabel.models.resnet`,
       :func:`relabel.models.lstm`, ...). The number of
       attention heads, which PyTorch's shapes do not show, is a doubt.
    2. **Names of PyTorch and Flax.** ``weight`` is (out, in, ...), ``kernel`` (..., in, out).
       Convolutions, norms, embeddings and dense layers are connected in the order of the draws, or
       of the numbers in their names; flattened channels and further outputs are assumptions.
       Two layers of one size may be added up, be parallel or share weights, which names do not
       show. That is a doubt, but for steps of one ``nn.Sequential`` (``0.weight``, ``2.weight``:
       lists of modules leave no gaps) and, as an assumption, for two neighbours that are numbered.
       A norm of channels without running statistics (a GroupNorm?) is a doubt. Channels of
       convolutions are never flipped, since max pooling may follow.
    3. **Feed-forward networks.** Weights are variables of two axes a draw, named with a number,
       with a word such as ``in`` or ``out``, or with a word such as ``w``, ``kernel``, ``fc``;
       the last may have one axis, if there is one output. Biases have one axis and are named
       ``b``, ``bias``, ``intercept``, ... Numbers and ``in``, ``out`` in the names order the
       layers. Where they do not, all orders are tried, with all matrices stored the same way.
    4. **Which way a matrix is stored**, (in, out) or (out, in), follows from the sizes that
       neighbours share, from the sizes of biases and from dimension names that variables share;
       two different shared names are never one axis. A square matrix of which these say nothing is
       assumed to be stored like the others. If more than one network fits, the first is proposed
       and the doubt names them all.
    5. **Variables that carry no units** are left out. One that is not part of the network but has
       an axis of the size of a hidden layer, without a dimension name of its own, is a doubt.
    6. **Mixtures and the like.** Without a network, a named dimension that several variables share
       holds the units, in the dims-only form. Names such as ``component``, ``state``, ``topic``,
       ``factor`` come first, dimensions of observed or constant data last. More than one such
       dimension, names of the entries, or a dimension of the data is a doubt. A second axis of the
       same units (``state_to``, of a transition matrix), labels of the units (``z``) and signs of
       factors are assumptions where names say so, doubts where only sizes and values do.
    7. **The activation** is that of `units`, else the posterior's attribute ``activation``, else
       ``"permutation"``, which is always safe: the last two are assumptions.
    8. The spec is bound to the draws. If that fails, ``"permutation"`` is proposed instead, and why
       it failed is a doubt.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset
        Draws.
    units : mapping of str to str, optional
        Names of the hidden layers, from the inputs on, and their activations; or names of
        dimensions and the symmetry of the units that they hold.
    activation : str, optional
        Activation of all hidden layers of a network, instead of `units`. Streams and attention
        heads of known networks are only permuted all the same.

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
    for symmetry in mapping("units", {} if units is None else units, "{'h': 'tanh'}").values():
        group_of(symmetry)
    if activation is not None and not isinstance(activation, str):
        raise SpecError(f"activation must be a string such as 'tanh', not {activation!r}")
    posterior = groups["posterior"]
    arrays = [
        Array(str(name), core_dims(variable), core_shape(variable), variable.dtype.kind)
        for name, variable in posterior.data_vars.items()
        if is_drawn(variable)
    ]
    single = any(array.is_weight and len(array.shape) == 1 for array in arrays)
    arrays = [array for array in arrays if array.shape or (single and array.is_bias)]
    if activation is not None:
        group_of_activation(activation)
        default = _Default(activation, [])
    else:
        default = _activation(posterior.attrs.get("activation"))
    guess = _from_names(arrays, units, default)
    if guess is None:
        nets, doubts = find_architectures(arrays)
        if nets:
            guess = _from_network(nets, arrays, units, default)
        elif activation is not None:
            raise SpecError(
                f"activation={activation!r} is for the hidden layers of a network, and names and "
                "shapes do not look like one; give units instead"
            )
        else:
            guess = _from_dims(arrays, groups, units, doubts)
    tied = _tied(posterior, guess)
    return _checked(replace(guess, doubts=(*guess.doubts, *tied)), sharing(groups))


def _tied(posterior: xr.Dataset, guess: Proposal) -> list[str]:
    """Return doubts on arrays of the network that are stored twice."""
    if guess.spec is None or not guess.spec.axes:
        return []
    try:
        ties = tied_weights(posterior)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):  # raised again on loading
        return []
    return [
        f"{one!r} and {other!r} hold the same numbers: if a network uses one array in two "
        "places (tied weights), both need the same units on the same axes, and units that they "
        "connect are one set"
        for one, other, _ in ties
        if {one, other} & set(guess.spec.axes)
    ]


class _Default(NamedTuple):
    """Activation of units that none is given for, and what was assumed about it."""

    activation: str
    notes: list[str]


def _from_names(
    arrays: Sequence[Array], units: Mapping[str, str] | None, default: _Default
) -> Proposal | None:
    """Read the names that libraries give to the arrays of networks."""
    known = known_network(arrays, default.activation)
    for symmetry in (units or {}).values():
        group_of_activation(symmetry)
    if known is not None:
        return _from_known(known, units, default)
    reading = read_names(arrays)
    return None if reading is None else _from_reading(reading, units, default)


def _from_known(known: Known, units: Mapping[str, str] | None, default: _Default) -> Proposal:
    """Return the spec of a preset, with the activations that are given."""
    spec = known.spec
    for name in units or {}:
        if name not in spec.units:
            raise SpecError(
                f"there are no units {name!r}{closest(name, spec.units)}: {known.notes[0]}, whose "
                f"units are {', '.join(spec.units)}"
            )
    spec = replace(spec, units={**spec.units, **(units or {})})
    assumed = [] if units or "permutation" not in spec.units.values() else default.notes
    return Proposal(spec, known.doubts, (*known.notes, *assumed))


def _from_reading(reading: Reading, units: Mapping[str, str] | None, default: _Default) -> Proposal:
    """Turn a network that was read from names into a spec."""
    sizes = [reading.sizes[node] for node in reading.hidden]
    names, symmetries, assumptions = _named(sizes, units, default)
    safe = [
        _safe_symmetry(node, symmetry, reading)
        for node, symmetry in zip(reading.hidden, symmetries, strict=True)
    ]
    plain = [name for name, a, b in zip(names, symmetries, safe, strict=True) if a != b]
    if plain:
        assumptions.append(
            f"{', '.join(plain)} are only permuted: max pooling and padding may stand behind a "
            "convolution, and a norm before the activation or behind it"
        )
    doubts = list(reading.doubts)
    if reading.slopes and set(safe) != {"permutation"}:
        doubts.append(
            f"{', '.join(reading.slopes)}: a norm, which takes over the signs and scales of its "
            "units, or the slopes of an activation (PReLU), which are only permuted?"
        )
    chain = [_PLAIN] if reading.convolved or len(names) > 1 else []
    spec = Spec(dict(zip(names, safe, strict=True)), reading.named(names))
    return Proposal(spec, tuple(doubts), (*reading.notes, *assumptions, *chain))


def _safe_symmetry(node: int, symmetry: str, reading: Reading) -> str:
    """Return the symmetry of units behind which there may be pooling, padding or a norm."""
    if node in reading.convolved:
        symmetry = of_channels(symmetry, "max")
    if node in reading.normed and not group_of(symmetry).commutes:
        return "permutation"
    return symmetry


def _from_network(
    nets: Sequence[Architecture],
    arrays: Sequence[Array],
    units: Mapping[str, str] | None,
    default: _Default,
) -> Proposal:
    """Turn the networks that fit into a spec with its doubts."""
    uniform = [net for net in nets if net.alike]
    net = (uniform or nets)[0]
    names, symmetries, assumptions = _named(net.sizes[1:-1], units, default)
    doubts = []
    if len(uniform) > 1 or (not uniform and len(nets) > 1):
        doubts.append(_ambiguity(uniform or nets))
    else:
        assumptions = [*_storage_notes(net), *assumptions]
    source, target = _free("x", names), _free("y", names)
    nodes = [source, *names, target]
    axes: dict[str, str] = {}
    for i, (layer, bias) in enumerate(zip(net.layers, net.biases, strict=True)):
        line = dense_line(nodes[i], nodes[i + 1], layer.turned)
        axes[layer.weight.name] = f"{nodes[i]} ->" if layer.head is None else line
        if bias is not None:
            axes[bias.name] = f"-> {nodes[i + 1]}" if bias.shape else "->"
    doubts += _left_over(net, arrays, names)
    if not doubts:
        doubts += _unsure_order(net)
    if follows_conventions(arrays):
        doubts.append(
            "some names are those of PyTorch or Flax, but the arrays are not those of a plain "
            "chain of layers: this is a guess by sizes alone"
        )
    spec = Spec(dict(zip(names, symmetries, strict=True)), axes)
    return Proposal(spec, tuple(doubts), tuple(assumptions))


def _named(
    sizes: Sequence[int], units: Mapping[str, str] | None, default: _Default
) -> tuple[list[str], list[str], list[str]]:
    """Return names and activations of hidden layers of these sizes, and what was assumed."""
    if units:
        if len(units) != len(sizes):
            example = dict.fromkeys(hidden_names(len(sizes)), "tanh")
            raise SpecError(
                f"units are given for {len(units)} sets ({', '.join(units)}), but the draws look "
                f"like a network whose hidden layers have {', '.join(map(str, sizes))} units; name "
                f"one set for each, from the inputs on, as in {example}"
            )
        return list(units), list(units.values()), []
    return hidden_names(len(sizes)), [default.activation] * len(sizes), list(default.notes)


def _activation(attribute: object) -> _Default:
    """Return the activation that the posterior's attribute names, or the safe one."""
    safe = (
        "units are only permuted, which is always safe; naming an activation with more symmetry "
        "(tanh, relu, sigmoid, ...), as in units={'h': 'tanh'}, lets signs and scales be used"
    )
    if attribute is None:
        return _Default("permutation", [f"the activation is not known: {safe}"])
    try:
        group_of(str(attribute))
    except SpecError:
        note = f"the attribute activation = {attribute!r} is not known: {safe}"
        return _Default("permutation", [note])
    name = str(attribute)
    note = f"the activation of all hidden layers is {name}, by the attribute of the posterior"
    return _Default(name, [note])


def _free(name: str, taken: Sequence[str]) -> str:
    """Return a name for inputs or outputs that no units have."""
    while name in taken:
        name += "_"
    return name


def _ambiguity(nets: Sequence[Architecture]) -> str:
    """Describe the networks that fit, and how to choose one."""
    numbered = join((f"({i}) {net}" for i, net in enumerate(nets, 1)), most=3, between="; ")
    first, second = (layer.weight.name for layer in nets[0].layers[:2])
    return (
        f"names and shapes fit more than one network: {numbered}. The first is proposed. "
        f"Choose by the axes: {first} = 'x -> h' if {first} is stored (in, out), 'h <- x' if "
        f"(out, in), and {second} likewise; biases, or dimension names that variables share, would "
        "decide it"
    )


def _unsure_order(net: Architecture) -> list[str]:
    """Return a doubt on a chain that is ordered by sizes alone, if two layers have one size."""
    sizes = net.sizes
    ordered = is_ordered([layer.weight for layer in net.layers])
    if ordered or net.linked or len(set(sizes[1:-1])) == len(sizes) - 2:
        return []
    doubt = (
        f"the names do not number the layers, and two have one size ({net}): they may be "
        "connected in another way (parallel, recurrent, residual)"
    )
    return [doubt]


def _storage_notes(net: Architecture) -> list[str]:
    """Return the assumptions on the order of the layers and the storage of their matrices."""
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
        notes.append(f"not all matrices are stored the same way: {net}")
    if not is_ordered([layer.weight for layer in net.layers]):
        notes.append(f"the names do not number the layers; their order follows from sizes: {net}")
    return notes


def _left_over(net: Architecture, arrays: Sequence[Array], names: Sequence[str]) -> list[str]:
    """Return doubts on variables that may belong to the units but are not part of the network."""
    used = {layer.weight for layer in net.layers} | {bias for bias in net.biases if bias}
    doubts = []
    for array in arrays:
        if array in used:
            continue
        like = [n for i, n in enumerate(names) if any(_may_carry(net, i, e) for e in array.ends)]
        if like:
            doubts.append(
                f"{array} has an axis of the size of {' and '.join(like)}, and neither its name "
                "nor its dimensions say what it is; if it belongs to these units, add "
                f"{array.name!r} to axes ('-> {like[0]}' for a bias, '{like[0]}^0' if it is only "
                "permuted)"
            )
        elif array.is_bias:
            doubts.append(
                f"{array} looks like a bias, but it is not clear which layer it belongs to"
            )
    return doubts


def _may_carry(net: Architecture, i: int, end: End) -> bool:
    """Whether an axis of some other variable may be that of hidden layer `i`, unless named so."""
    head, tail, bias = net.layers[i].head, net.layers[i + 1].tail, net.biases[i]
    dims = {tail.dim, *([head.dim] if head else []), *(bias.dims if bias else ())}
    if end.dim in dims:
        return False  # Spec.bind checks these
    named = not is_default(end.dim) and not any(map(is_default, dims))
    return end.size == tail.size and not named


def _from_dims(
    arrays: Sequence[Array],
    groups: Mapping[str, xr.Dataset],
    units: Mapping[str, str] | None,
    doubts: Sequence[str],
) -> Proposal:
    """Propose dimensions that several variables share, in the dims-only form."""
    posterior = groups["posterior"]
    if units and set(units) <= set(map(str, posterior.dims)):
        whole = complete(Spec(units), sharing(groups), signs=False)
        return Proposal(whole.spec, whole.doubts, whole.notes)
    of_data = _dims_of_data(groups)
    shared = shared_dims(arrays)
    found = [dim for dim in shared if dim not in of_data] or shared
    found = known_dims(found) or found
    if not found:
        return Proposal(None, (*doubts, _nothing(arrays)))
    if units:
        raise SpecError(
            f"no dimension is named {', '.join(n for n in units if n not in posterior.dims)}; the "
            f"dimensions that several variables share are {', '.join(found)}: use these as units"
        )
    spec = Spec(dict.fromkeys(found, "permutation"))
    whole = complete(spec, sharing(groups), signs=True)
    only = "" if "signed" in whole.spec.units.values() else ", and are only permuted"
    note = (
        f"there is no feed-forward network, but several variables share {', '.join(found)}: the "
        f"entries of such a dimension are taken to be exchangeable{only}"
    )
    doubts = (*doubts, *_dims_doubts(found, of_data, posterior), *whole.doubts)
    return Proposal(whole.spec, doubts, (note, *whole.notes))


def _dims_of_data(groups: Mapping[str, xr.Dataset]) -> set[str]:
    """Return the dimensions of the data, without those of true values (``true_mu``)."""
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
    """Return reasons why the entries of a shared dimension may not be exchangeable."""
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


def _nothing(arrays: Sequence[Array]) -> str:
    """Describe why nothing is proposed."""
    return (
        "neither two or more weight matrices in a row that share a size, nor a named dimension "
        f"that several variables share, were found among {join(arrays) or 'only scalars'}; declare "
        "the units and the axes, as in units={'h': 'tanh'}, axes={'W1': 'x -> h', 'b1': '-> h', "
        "'W2': 'h -> y'}"
    )


def _checked(guess: Proposal, groups: Mapping[str, xr.Dataset]) -> Proposal:
    """Bind the spec; if that fails, propose only permutations, and add the reason to the doubts."""
    spec, doubts = guess.spec, guess.doubts
    while spec is not None:
        try:
            spec.bind(groups)
        except RelabelError as error:
            safe = replace(spec, units=dict.fromkeys(spec.units, "permutation"))
            doubts = (*doubts, f"as {', '.join(spec.units.values())} it does not fit: {error}")
            spec = safe if safe != spec else None
        else:
            break
    return Proposal(spec, doubts, guess.assumptions)
