"""Ready specs of recurrent networks, as PyTorch and Flax name and stack their weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from relabel._util.validate import choice, integer, iterable
from relabel.errors import SpecError
from relabel.models.tables import joined_lines
from relabel.spec.spec import Spec

__all__ = ["gru", "lstm", "rnn"]

Naming = Literal["torch", "flax", "nnx"]

_NAMINGS = ("torch", "flax", "nnx")


@dataclass(frozen=True)
class _Cell:
    """One kind of cell.

    Attributes
    ----------
    gates : str
        Letter of every gate, in the order in which they are stacked.
    candidate : str
        The gate that the tanh is applied to; the others have sigmoids.
    flax_biases : tuple of str
        Names of the kernels of a Flax cell that have a bias beside them.
    nnx_bias : str
        Which of the stacked kernels of an nnx cell has a bias beside it.
    """

    gates: str
    candidate: str
    flax_biases: tuple[str, ...]
    nnx_bias: str

    def lines(self, units: str, *, signed: bool) -> list[str]:
        """Return the axes of every gate: only the candidate changes signs."""
        plain = f"{units}^0" if signed else units
        return [units if gate == self.candidate else plain for gate in self.gates]


_RNN = _Cell(" ", " ", ("i",), "i")
_LSTM = _Cell("ifgo", "g", ("hi", "hf", "hg", "ho"), "h")
_GRU = _Cell("rzn", "n", ("ir", "iz", "in", "hn"), "i")


@dataclass(frozen=True)
class _Layer:
    """One layer in one direction: its number, the ending of its names, its units and its inputs."""

    number: int
    ending: str
    units: str
    below: str


def rnn(
    n_layers: int = 1,
    activation: Literal["tanh", "relu", "permutation"] = "tanh",
    *,
    naming: Naming = "torch",
    prefix: str = "",
    bidirectional: bool = False,
    bias: bool = True,
    readout: str | Mapping[str, str] = "fc",
    initial: str | Sequence[str] = (),
    gauges: Mapping[str, str] | None = None,
) -> Spec:
    r"""Return the spec of an Elman network (``torch.nn.RNN``, ``flax.linen.SimpleCell``).

    With :math:`h_t = f(W x_t + U h_{t-1} + b)` and the readout :math:`y_t = V h_t + c`, units are
    permuted on the rows of *W*, *U* and *b* and on the columns of *U* and *V*; tanh units change
    their signs and ReLU units their scales on all of these,
    :math:`U_{ij} \to U_{ij} \lambda_i / \lambda_j`.

    Parameters
    ----------
    n_layers : int, default 1
        Number of layers, one upon the other.
    activation : {"tanh", "relu", "permutation"}, default "tanh"
        Activation of all layers, with the signs of tanh units or the scales of ReLU units; or only
        permutations, which are always safe.
    naming : {"torch", "flax", "nnx"}, default "torch"
        How the variables are named and stored: ``weight_ih_l0`` of PyTorch (out, in); ``i.kernel``
        and ``h.kernel`` of a Flax cell (in, out); ``dense_i.kernel`` of one of Flax's nnx.
    prefix : str, default ""
        String before the names, such as ``"lstm."``. For several layers of Flax it is a pattern,
        in which ``{}`` is the number of the layer, from 0 on.
    bidirectional : bool, default False
        Whether there is a second set of units in every layer that runs backwards (PyTorch only).
    bias : bool, default True
        Whether the layers have biases.
    readout : str or mapping of str to str, default "fc"
        The dense layer that reads the last layer's states, by its name, or variables and their
        axes, as in ``{"V": "h -> y"}``. Units are called ``h`` where there is one layer, else
        ``h1``, ``h2``, ...; those that run backwards end in ``_reverse``.
    initial : str or sequence of str, optional
        Initial states that are parameters too. Their last axis is that of the units; with several
        layers their first axis is that of the layers (and directions), as in PyTorch.
    gauges : mapping of str to str, optional
        Units -> how their scale is fixed; see :class:`relabel.Spec`.

    Returns
    -------
    Spec

    Raises
    ------
    SpecError
        If an option is not known, a pattern lacks its ``{}``, or a name occurs twice.

    References
    ----------
    Albertini, F. & Sontag, E. D. (1993). For neural networks, function determines form.
    *Neural Networks* 6(7), 975-990. https://doi.org/10.1016/S0893-6080(09)80007-5

    Examples
    --------
    >>> spec = rnn(prefix="rnn.")
    >>> spec.units
    {'h': 'tanh'}
    >>> for name, line in spec.axes.items():
    ...     print(f"{name}: {line}")
    rnn.weight_ih_l0: h <- x
    rnn.weight_hh_l0: h <- h
    rnn.bias_ih_l0: -> h
    rnn.bias_hh_l0: -> h
    fc.weight: y <- h
    fc.bias: -> y
    """
    choice("rnn: activation", activation, ("tanh", "relu", "permutation"))
    stack = _Stack("rnn", _RNN, n_layers, activation, naming, prefix, bidirectional, bias)
    return stack.spec(readout, initial, gauges)


def lstm(
    n_layers: int = 1,
    *,
    activation: Literal["tanh", "permutation"] = "tanh",
    naming: Naming = "torch",
    prefix: str = "",
    bidirectional: bool = False,
    bias: bool = True,
    readout: str | Mapping[str, str] = "fc",
    initial: str | Sequence[str] = (),
) -> Spec:
    r"""Return the spec of an LSTM (``torch.nn.LSTM``, ``flax.linen.OptimizedLSTMCell``).

    With the gates :math:`i, f, o = \sigma(W x_t + U h_{t-1} + b)`, the candidate
    :math:`g = \tanh(W_g x_t + U_g h_{t-1} + b_g)`, :math:`c_t = f c_{t-1} + i g` and
    :math:`h_t = o \tanh c_t`, units are permuted in all gates, on the columns of every *U*, in the
    readout and in the initial states. A change of sign of :math:`c_t` and :math:`h_t` acts on the
    rows of the candidate, on the columns of all *U*, on the readout and on the initial states;
    the rows of the gates keep their sign. Both are exact. Projections (``proj_size``) are not
    covered.

    Parameters
    ----------
    n_layers : int, default 1
        Number of layers, one upon the other.
    activation : {"tanh", "permutation"}, default "tanh"
        Permutations with the signs that tanh leaves, or permutations only.
    naming : {"torch", "flax", "nnx"}, default "torch"
        How the variables are named and stored: gates stacked in ``weight_ih_l0`` of PyTorch; one
        ``ii.kernel``, ``if.kernel``, ... each, as in Flax; stacked in ``dense_i.kernel``, as in
        Flax's ``nnx.OptimizedLSTMCell``.
    prefix, bidirectional, bias, readout, initial
        As in :func:`rnn`; initial states are those of *h* and of *c*.

    Returns
    -------
    Spec

    Raises
    ------
    SpecError
        If an option is not known, a pattern lacks its ``{}``, or a name occurs twice.

    References
    ----------
    Hochreiter, S. & Schmidhuber, J. (1997). Long short-term memory. *Neural Computation* 9(8),
    1735-1780. https://doi.org/10.1162/neco.1997.9.8.1735

    Examples
    --------
    >>> for name, line in lstm(prefix="lstm.", bias=False).axes.items():
    ...     print(f"{name}: {line}")
    lstm.weight_ih_l0: (h^0 + h^0 + h + h^0) <- x
    lstm.weight_hh_l0: (h^0 + h^0 + h + h^0) <- h
    fc.weight: y <- h
    fc.bias: -> y
    >>> spec = lstm(2, bidirectional=True)
    >>> list(spec.units)
    ['h1', 'h1_reverse', 'h2', 'h2_reverse']
    >>> spec.axes["weight_ih_l1"]
    '(h2^0 + h2^0 + h2 + h2^0) <- (h1 + h1_reverse)'
    """
    choice("lstm: activation", activation, ("tanh", "permutation"))
    stack = _Stack("lstm", _LSTM, n_layers, activation, naming, prefix, bidirectional, bias)
    return stack.spec(readout, initial)


def gru(
    n_layers: int = 1,
    *,
    activation: Literal["tanh", "permutation"] = "tanh",
    naming: Naming = "torch",
    prefix: str = "",
    bidirectional: bool = False,
    bias: bool = True,
    readout: str | Mapping[str, str] = "fc",
    initial: str | Sequence[str] = (),
) -> Spec:
    r"""Return the spec of a GRU (``torch.nn.GRU``, ``flax.linen.GRUCell``).

    With the gates :math:`r, z = \sigma(W x_t + U h_{t-1} + b)`, the candidate
    :math:`n = \tanh(W_n x_t + b_n + r (U_n h_{t-1} + b_{hn}))` and
    :math:`h_t = (1 - z) n + z h_{t-1}`, units are permuted as in :func:`lstm`. A change of sign
    acts on the rows of the candidate, both biases included, on the columns of all *U*, on the
    readout and on the initial state. Both are exact.

    Parameters
    ----------
    n_layers : int, default 1
        Number of layers, one upon the other.
    activation : {"tanh", "permutation"}, default "tanh"
        Permutations with the signs that tanh leaves, or permutations only.
    naming : {"torch", "flax", "nnx"}, default "torch"
        As in :func:`lstm`; kernels of Flax are ``ir.kernel``, ``iz.kernel``, ...
    prefix, bidirectional, bias, readout, initial
        As in :func:`rnn`.

    Returns
    -------
    Spec

    Raises
    ------
    SpecError
        If an option is not known, a pattern lacks its ``{}``, or a name occurs twice.

    References
    ----------
    Cho, K. et al. (2014). Learning phrase representations using RNN encoder-decoder for
    statistical machine translation. https://doi.org/10.48550/arXiv.1406.1078

    Examples
    --------
    >>> for name, line in gru(initial="h0").axes.items():
    ...     print(f"{name}: {line}")
    weight_ih_l0: (h^0 + h^0 + h) <- x
    weight_hh_l0: (h^0 + h^0 + h) <- h
    bias_ih_l0: -> (h^0 + h^0 + h)
    bias_hh_l0: -> (h^0 + h^0 + h)
    fc.weight: y <- h
    fc.bias: -> y
    h0: ... h
    >>> spec = gru(naming="flax", prefix="GRUCell_0.", readout="Dense_0")
    >>> spec.axes["GRUCell_0.hr.kernel"], spec.axes["GRUCell_0.hn.kernel"]
    ('h -> h^0', 'h -> h')
    """
    choice("gru: activation", activation, ("tanh", "permutation"))
    stack = _Stack("gru", _GRU, n_layers, activation, naming, prefix, bidirectional, bias)
    return stack.spec(readout, initial)


@dataclass(frozen=True)
class _Stack:
    """Layers of one kind of cell."""

    preset: str
    cell: _Cell
    n_layers: int
    activation: str
    naming: str
    prefix: str
    bidirectional: bool
    bias: bool

    def __post_init__(self) -> None:
        """Check the options that all kinds share."""
        integer(f"{self.preset}: n_layers", self.n_layers, low=1)
        choice(f"{self.preset}: naming", self.naming, _NAMINGS)
        if self.naming == "torch":
            return
        if self.bidirectional:
            raise SpecError(
                f"{self.preset}: bidirectional=True needs naming='torch'; name the axes of "
                "bidirectional cells of Flax in Spec(axes=...)"
            )
        if self.n_layers > 1 and self.prefix.count("{}") != 1:
            raise SpecError(
                f"{self.preset}: with several layers of Flax prefix={self.prefix!r} is a pattern "
                "and needs one '{}' for the layer's number, as in 'LSTMCell_{}.'"
            )

    def spec(
        self,
        readout: str | Mapping[str, str],
        initial: str | Sequence[str],
        gauges: Mapping[str, str] | None = None,
    ) -> Spec:
        """Join the lines of all layers, the readout and the initial states."""
        layers = list(self._layers())
        lines = [line for layer in layers for line in self._lines(layer)]
        lines += self._readout(readout, layers)
        several = iterable(f"{self.preset}: initial", initial, "['h0', 'c0']")
        names = [initial] if isinstance(initial, str) else list(several)
        lines += [(name, self._initial([layer.units for layer in layers])) for name in names]
        axes = joined_lines(self.preset, lines)
        units = {layer.units: self.activation for layer in layers}
        sizes = {f"only_{name}": 1 for name in units} if names and len(units) > 1 else {}
        return Spec(units, axes, sizes=sizes, gauges=gauges or {})

    def _layers(self) -> Iterator[_Layer]:
        """Yield every layer, from the inputs on, both directions side by side."""
        below, endings = "x", ("", "_reverse") if self.bidirectional else ("",)
        for number in range(self.n_layers):
            name = "h" if self.n_layers == 1 else f"h{number + 1}"
            for ending in endings:
                yield _Layer(number, ending, name + ending, below)
            below = _joined([name + ending for ending in endings])

    def _lines(self, layer: _Layer) -> Iterator[tuple[str, str]]:
        """Yield the names and axes of one layer."""
        gates = self.cell.lines(layer.units, signed=self.activation == "tanh")
        sources = {"i": layer.below, "h": layer.units}
        if self.naming == "flax":
            yield from self._by_gate(layer, gates, sources)
            return
        stack = _joined(gates)
        if self.naming == "nnx":
            start = self.prefix.replace("{}", str(layer.number))
            for kind, tail in sources.items():
                yield f"{start}dense_{kind}.kernel", f"{tail} -> {stack}"
            if self.bias:
                yield f"{start}dense_{self.cell.nnx_bias}.bias", f"-> {stack}"
            return
        end = f"_l{layer.number}{layer.ending}"
        for kind, tail in sources.items():
            yield f"{self.prefix}weight_{kind}h{end}", f"{stack} <- {tail}"
        for kind in sources if self.bias else ():
            yield f"{self.prefix}bias_{kind}h{end}", f"-> {stack}"

    def _by_gate(
        self, layer: _Layer, gates: Sequence[str], sources: Mapping[str, str]
    ) -> Iterator[tuple[str, str]]:
        """Yield the names and axes of one layer that has a kernel for every gate."""
        start = self.prefix.replace("{}", str(layer.number))
        for letter, gate in zip(self.cell.gates, gates, strict=True):
            names = {f"{kind}{letter}".strip(): tail for kind, tail in sources.items()}
            for name, tail in names.items():
                yield f"{start}{name}.kernel", f"{tail} -> {gate}"
            for name in names if self.bias else ():
                if name in self.cell.flax_biases:
                    yield f"{start}{name}.bias", f"-> {gate}"

    def _readout(
        self, readout: str | Mapping[str, str], layers: Sequence[_Layer]
    ) -> list[tuple[str, str]]:
        """Return the names and axes of the layer that reads the last states."""
        if isinstance(readout, Mapping):
            return list(readout.items())
        if not readout:
            raise SpecError(
                f"{self.preset}: readout must be the name of the layer that reads the states, or "
                f"a table of variables and axes, not {readout!r}: states that are outputs "
                "themselves have no symmetry"
            )
        states = _joined([layer.units for layer in layers if layer.number == self.n_layers - 1])
        if self.naming == "torch":
            return [(f"{readout}.weight", f"y <- {states}"), (f"{readout}.bias", "-> y")]
        return [(f"{readout}.kernel", f"{states} -> y"), (f"{readout}.bias", "-> y")]

    def _initial(self, units: Sequence[str]) -> str:
        """Return the axes of an initial state; several layers stand on its first axis."""
        arrow = "-> " if self.activation == "relu" else ""
        if len(units) == 1:
            return f"... {arrow}{units[0]}"
        first = " + ".join(f"only_{name}" for name in units)
        return f"({first}) ... {arrow}({' | '.join(units)})"


def _joined(names: Sequence[str]) -> str:
    """Write one stored axis that is several blocks."""
    return names[0] if len(names) == 1 else f"({' + '.join(names)})"
