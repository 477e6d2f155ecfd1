"""The forward pass that a feed-forward spec describes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.errors import SpecError
from relabel.groups import activation_of
from relabel.spec.arrays import SAMPLE_DIMS, draw_values
from relabel.spec.centring import centred
from relabel.spec.gauges import centred_axes
from relabel.spec.notation import parse
from relabel.spec.spec import ResolvedSpec
from relabel.spec.variables import ResolvedVariable

__all__ = [
    "ONLY_DENSE",
    "Layer",
    "Network",
    "NotDenseError",
    "Pass",
    "all_outputs",
    "outputs_of",
]

Array = NDArray[Any]

#: Advice where a network has layers that are not dense.
ONLY_DENSE = (
    "only networks of dense layers are evaluated; pass forward= to relabel.average, or leave "
    "inputs=None"
)


class NotDenseError(SpecError):
    """Error for a network with layers that are not dense, which no change of the spec can fix."""


@dataclass(frozen=True)
class Layer:
    """One node of the network: a sum, and the function that is applied to it.

    `weights` are pairs (variable, name of the node it reads), `biases` variables.
    """

    name: str
    activation: str | None
    weights: tuple[tuple[ResolvedVariable, str], ...]
    biases: tuple[ResolvedVariable, ...]

    def apply(self, sums: Array) -> Array:
        """Apply the activation; outputs have none."""
        function = activation_of(self.activation).function if self.activation else None
        return function(sums) if function else sums

    def slope(self, sums: Array) -> Array | None:
        """Return the derivative of the activation; None for outputs, where it is 1."""
        return activation_of(self.activation).slope(sums) if self.activation else None


@dataclass(frozen=True)
class Pass:
    """Result of one forward pass.

    Attributes
    ----------
    sums : dict of str to ndarray of shape (draws, n, size)
        Sum at each node, before its activation.
    values : dict of str to ndarray of shape (draws, n, size)
        Its activations; the inputs are included, of shape (n, n_inputs).
    """

    sums: dict[str, Array]
    values: dict[str, Array]

    def chosen(self, rows: Any, source: str) -> Pass:
        """Return the pass of some draws; the inputs, named by `source`, are the same for all."""
        values = {n: v if n == source else v[rows] for n, v in self.values.items()}
        return Pass({name: values[rows] for name, values in self.sums.items()}, values)

    def where(self, mask: Array, other: Pass, source: str) -> Pass:
        """Return the draws of another pass where `mask`, bool of shape (draws,), is true."""
        here = mask[:, None, None]
        values = {
            n: v if n == source else np.where(here, other.values[n], v)
            for n, v in self.values.items()
        }
        sums = {n: np.where(here, other.sums[n], v) for n, v in self.sums.items()}
        return Pass(sums, values)


@dataclass(frozen=True)
class Network:
    """A feed-forward network of dense layers, in the order of evaluation.

    Attributes
    ----------
    source : str
        Axis of the inputs.
    n_inputs : int
        Its size.
    layers : tuple of Layer
        Every other node, each after those it reads.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from relabel.spec.spec import Spec
    >>> spec = Spec(units={"h": "relu"}, axes={"W": "x -> h", "V": "h -> y"})
    >>> sample = ("chain", "draw")
    >>> draws = xr.Dataset({"W": ((*sample, "a", "b"), [[[[1.0, -1.0]]]]),
    ...                     "V": ((*sample, "c", "d"), [[[[2.0], [3.0]]]])})
    >>> network = Network.of(spec.bind(draws))
    >>> arrays = {name: draws[name].values[0] for name in ("W", "V")}
    >>> network.outputs(arrays, np.array([[1.0], [-1.0]]))["y"]
    array([[[2.],
            [3.]]])
    """

    source: str
    n_inputs: int
    layers: tuple[Layer, ...]

    @classmethod
    def of(cls, resolved: ResolvedSpec) -> Network:
        """Read the network off the arrows of the posterior's variables.

        Raises
        ------
        SpecError
            If the arrows do not describe a feed-forward network of dense layers with activations
            that are known as functions; a NotDenseError where other layers are the reason.
        """
        weights, biases = _weights_and_biases(resolved)
        heads = {h for _, _, h in weights}
        sources = {t for _, t, _ in weights} - heads
        if len(sources) != 1:
            raise _error_of(resolved)(
                "the arrows do not describe one feed-forward network: "
                f"inputs {sorted(sources) or 'none'} (there must be exactly one)"
            )
        if not heads >= set(resolved.sizes):
            raise _error_of(resolved)(
                f"no dense layer writes the units {', '.join(sorted(set(resolved.sizes) - heads))}"
            )
        (source,) = sources
        layers: list[Layer] = []
        done = {source}
        while heads:
            ready = sorted(h for h in heads if all(t in done for _, t, k in weights if k == h))
            if not ready:
                raise NotDenseError(
                    f"the arrows run in a circle through {', '.join(sorted(heads))}"
                )
            layers += [_layer(name, resolved, weights, biases) for name in ready]
            done |= set(ready)
            heads -= set(ready)
        first = next(v for v, t, _ in weights if t == source)
        n_inputs = next(a.size for a in first.axes if a.name == source)
        return cls(source, n_inputs, tuple(layers))

    def activations(self, arrays: Mapping[str, Array], inputs: Array) -> dict[str, Array]:
        """Evaluate every node of every draw.

        Parameters
        ----------
        arrays : mapping of str to ndarray of shape (draws, ...)
            The posterior's variables, one draw after the other.
        inputs : ndarray of shape (n, n_inputs)
            Points to evaluate at.

        Returns
        -------
        dict of str to ndarray of shape (draws, n, size)
            By the axis' name; outputs are included, inputs are not.

        Raises
        ------
        SpecError
            If the inputs have another number of columns than the network has inputs.
        """
        values = dict(self.forward(arrays, inputs).values)
        del values[self.source]
        return values

    def forward(self, arrays: Mapping[str, Array], inputs: Array) -> Pass:
        """Evaluate every node and keep the sums; arguments as in :meth:`activations`."""
        inputs = np.asarray(inputs, dtype=float)
        if inputs.ndim != 2 or inputs.shape[1] != self.n_inputs:
            raise SpecError(
                f"inputs have the shape {inputs.shape}; the network reads {self.n_inputs} "
                f"inputs ({self.source!r}), so (n, {self.n_inputs}) is needed"
            )
        return self._evaluate(arrays, Pass({}, {self.source: inputs}), self.layers)

    def resume(self, arrays: Mapping[str, Array], done: Pass, node: str) -> Pass:
        """Evaluate the nodes that depend on one node, from its values in `done`.

        Parameters
        ----------
        arrays : mapping of str to ndarray of shape (draws, ...)
            Variables, those between the node and the outputs possibly changed.
        done : Pass
            An earlier pass; the values of `node` may have been replaced.
        node : str
            Name of the node.

        Returns
        -------
        Pass
        """
        stale, layers = {node}, []
        for layer in self.layers:
            if layer.name != node and any(tail in stale for _, tail in layer.weights):
                stale.add(layer.name)
                layers.append(layer)
        return self._evaluate(arrays, done, layers)

    def _evaluate(self, arrays: Mapping[str, Array], done: Pass, layers: Sequence[Layer]) -> Pass:
        """Evaluate some nodes on top of a pass."""
        sums, values = dict(done.sums), dict(done.values)
        for layer in layers:
            total: Any = 0.0
            for variable, tail in layer.weights:
                total = total + values[tail] @ matrix_of(variable, tail, arrays[variable.key])
            for variable in layer.biases:
                shape = (*variable.shape, *_single(variable))[-1:]
                total = total + arrays[variable.key].reshape(-1, 1, *shape)
            sums[layer.name], values[layer.name] = total, layer.apply(total)
        return Pass(sums, values)

    def jacobians(
        self, arrays: Mapping[str, Array], done: Pass, nodes: Sequence[str]
    ) -> dict[str, Array]:
        """Compute the derivatives of all outputs by the sums at some nodes.

        Parameters
        ----------
        arrays : mapping of str to ndarray of shape (draws, ...)
        done : Pass
            Pass at which they are taken.
        nodes : sequence of str

        Returns
        -------
        dict of str to ndarray of shape (draws or 1, n or 1, n_outputs, size)
            By reverse accumulation; the outputs of several nodes stand side by side in the order
            of :meth:`outputs`.
        """
        ends = self.ends
        sizes = [done.sums[end].shape[-1] for end in ends]
        places = dict(
            zip(ends, np.split(np.eye(sum(sizes)), np.cumsum(sizes)[:-1], axis=1), strict=True)
        )
        flow: dict[str, Any] = {end: eye[None, None] for end, eye in places.items()}
        found = {}
        for layer in reversed(self.layers):
            if layer.name not in flow:
                continue
            slope = layer.slope(done.sums[layer.name])
            down = flow[layer.name] if slope is None else flow[layer.name] * slope[:, :, None, :]
            if layer.name in nodes:
                found[layer.name] = down
            for variable, tail in layer.weights:
                if tail == self.source or not self._leads_to(nodes, tail):
                    continue
                matrix = matrix_of(variable, tail, arrays[variable.key])
                flow[tail] = flow.get(tail, 0.0) + down @ matrix.swapaxes(1, 2)[:, None]
        return found

    def _leads_to(self, nodes: Sequence[str], node: str) -> bool:
        """Whether a node is one of some nodes, or depends on one."""
        layer = next(layer for layer in self.layers if layer.name == node)
        return node in nodes or any(
            tail != self.source and self._leads_to(nodes, tail) for _, tail in layer.weights
        )

    @property
    def ends(self) -> list[str]:
        """Names of the nodes that nothing reads: the outputs."""
        read = {tail for layer in self.layers for _, tail in layer.weights}
        return [layer.name for layer in self.layers if layer.name not in read]

    def layer(self, name: str) -> Layer:
        """Return one node by its name."""
        return next(layer for layer in self.layers if layer.name == name)

    def readers(self, node: str) -> list[Layer]:
        """Return the nodes that read a node."""
        return [layer for layer in self.layers if any(t == node for _, t in layer.weights)]

    def joined_outputs(self, done: Pass) -> Array:
        """Return the outputs of a pass side by side, shape (draws, n, n_outputs)."""
        return np.concatenate([done.values[end] for end in self.ends], axis=-1)

    def outputs(self, arrays: Mapping[str, Array], inputs: Array) -> dict[str, Array]:
        """Evaluate the nodes that nothing reads; arguments as in :meth:`activations`."""
        values = self.activations(arrays, inputs)
        return {name: values[name] for name in self.ends}


def matrix_of(variable: ResolvedVariable, tail: str, values: Array) -> Array:
    """Return the draws of a weight as matrices from `tail` to its reader, (draws, in, out)."""
    matrix = values.reshape(-1, *variable.shape, *_single(variable))
    return matrix if variable.axes[0].name == tail else matrix.swapaxes(1, 2)


def _single(variable: ResolvedVariable) -> tuple[int, ...]:
    """Return the size of the axis that a single output lacks; nothing for several outputs."""
    return () if variable.between()[1] else (1,)


def _error_of(resolved: ResolvedSpec) -> type[SpecError]:
    """Return the type of error for layers that do not follow one another."""
    arrows = [variable for variable in resolved.measured() if any(variable.between())]
    blocks = any(v.window is not None or len(v.axes) > 2 for v in arrows)
    normed = any(all(v.between()) and any(a.exponent == 0 for a in v.axes) for v in arrows)
    return NotDenseError if blocks or normed else SpecError


def _weights_and_biases(
    resolved: ResolvedSpec,
) -> tuple[list[tuple[ResolvedVariable, str, str]], list[tuple[ResolvedVariable, str]]]:
    """Sort the posterior's variables into weights (tail, head) and biases.

    A single output is often stored without an axis of its own: ``h ->`` with a scalar bias. Its
    node has no name.
    """
    weights: list[tuple[ResolvedVariable, str, str]] = []
    biases: list[tuple[ResolvedVariable, str]] = []
    seen: set[tuple[Any, ...]] = set()
    for variable in resolved.measured():
        tail, head = variable.between()
        if variable.carried and parse(variable.text).relates_parameters():
            continue
        ends = (variable.name, tail, head)
        gated = bool(tail and head) and any(axis.exponent == 0 for axis in variable.axes)
        if variable.window is not None and (gated or ends in seen):
            raise NotDenseError(
                f"variable {variable.name!r} is several blocks ({variable.text!r}) that are not "
                "layers of their own"
            )
        seen.add(ends)
        if not variable.axes:
            biases.append((variable, ""))
        elif not (tail or head) or not all(a.follows_as_weights for a in variable.axes):
            continue
        elif len(tail) == len(variable.axes) == 1 and tail[0] is not None:
            weights.append((variable, tail[0], ""))
        elif len(head) == len(variable.axes) == 1 and head[0] is not None:
            biases.append((variable, head[0]))
        elif len(tail) == len(head) == 1 and len(variable.axes) == 2 and tail[0] and head[0]:
            weights.append((variable, tail[0], head[0]))
        else:
            raise NotDenseError(f"variable {variable.name!r} does not belong to a dense layer")
    return weights, biases


def _layer(
    name: str,
    resolved: ResolvedSpec,
    weights: list[tuple[ResolvedVariable, str, str]],
    biases: list[tuple[ResolvedVariable, str]],
) -> Layer:
    """Collect what is written to one node."""
    activation = resolved.spec.units.get(name)
    if activation is not None and activation_of(activation).function is None:
        raise SpecError(f"units {name!r}: {activation!r} does not name one activation function")
    if name in centred_axes(resolved.spec.gauges) and any(tail == name for _, tail, _ in weights):
        raise NotDenseError(
            f"{name!r} is centred and read on: the layer between (a LayerNorm) is not known"
        )
    return Layer(
        name,
        activation,
        tuple((variable, tail) for variable, tail, head in weights if head == name),
        tuple(variable for variable, head in biases if head == name),
    )


def outputs_of(
    network: Network, resolved: ResolvedSpec, posterior: xr.Dataset, points: Array
) -> dict[str, Array]:
    """Evaluate the network of every draw.

    Parameters
    ----------
    network : Network
    resolved : ResolvedSpec
    posterior : Dataset
    points : ndarray of shape (n, n_inputs)

    Returns
    -------
    dict of str to ndarray of shape (chain, draw, n, size)
        By the name of the output's axis, centred if that axis is: they are the same before and
        after an alignment. Draws that are not finite have outputs that are not finite.
    """
    shape = tuple(posterior.sizes[dim] for dim in SAMPLE_DIMS)
    parts = resolved.by_part({name: draw_values(posterior[name]) for name in resolved.names()})
    for variable in resolved.measured():
        parts[variable.key] = centred(resolved, variable, parts[variable.key])
    with np.errstate(invalid="ignore", over="ignore"):
        outputs = network.outputs(parts, points)
    return {name: value.reshape(*shape, *value.shape[1:]) for name, value in outputs.items()}


def all_outputs(
    network: Network, resolved: ResolvedSpec, posterior: xr.Dataset, points: Array
) -> Array:
    """Evaluate as :func:`outputs_of`; all outputs on one axis, shape (chain, draw, n · outputs)."""
    found = outputs_of(network, resolved, posterior, points).values()
    return np.concatenate([values.reshape(*values.shape[:2], -1) for values in found], axis=2)
