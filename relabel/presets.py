"""Ready specs of common models: they only build a :class:`relabel.Spec`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from relabel.errors import SpecError
from relabel.spec import Spec

__all__ = ["dense_line", "hidden_names", "mlp"]

_LAYOUTS = ("(in, out)", "(out, in)")


def mlp(
    n_hidden: int,
    activation: str | Sequence[str],
    *,
    weight: str | Sequence[str] = "W{}",
    bias: str | Sequence[str | None] | None = "b{}",
    first: int = 1,
    layout: Literal["(in, out)", "(out, in)"] = "(in, out)",
    gauges: Mapping[str, str] | None = None,
) -> Spec:
    """Return the spec of a feed-forward network of dense layers.

    The units are called ``h`` where there is one hidden layer, else ``h1``, ``h2``, ...; inputs
    are ``x``, outputs ``y``. Sizes follow from the draws.

    Parameters
    ----------
    n_hidden : int
        Number of hidden layers; there is one weight matrix more.
    activation : str or sequence of str
        Activation of all hidden layers, or one for each in order. ``"permutation"`` is always
        safe (see :func:`relabel.groups.group_of`).
    weight : str or sequence of str, default "W{}"
        Names of the weight matrices, in order: a pattern in which ``{}`` is the number of the
        layer, or all names.
    bias : str, sequence of (str or None), or None, default "b{}"
        Names of the biases, likewise. None stands for a network without biases, and within a
        sequence for a layer without.
    first : int, default 1
        Number of the first layer in the patterns.
    layout : {"(in, out)", "(out, in)"}, default "(in, out)"
        How matrices are stored; PyTorch has ``"(out, in)"``.
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
    >>> mlp(1, "tanh").axes
    {'W1': 'x -> h', 'b1': '-> h', 'W2': 'h -> y', 'b2': '-> y'}
    >>> spec = mlp(2, ["relu", "tanh"], weight="layers.{}.w", bias=None, first=0,
    ...            layout="(out, in)")
    >>> spec.units
    {'h1': 'relu', 'h2': 'tanh'}
    >>> spec.axes
    {'layers.0.w': 'h1 <- x', 'layers.1.w': 'h2 <- h1', 'layers.2.w': 'y <- h2'}
    """
    if type(n_hidden) is not int or n_hidden < 1:
        raise SpecError(f"mlp: n_hidden must be 1 or more, not {n_hidden!r}: no layer, no units")
    if layout not in _LAYOUTS:
        raise SpecError(f"mlp: layout must be '(in, out)' or '(out, in)', not {layout!r}")
    nodes = ["x", *hidden_names(n_hidden), "y"]
    weights = _names("weight", weight, n_hidden + 1, first)
    biases: list[str | None] = [None] * (n_hidden + 1)
    if bias is not None:
        biases = _names("bias", bias, n_hidden + 1, first)
    lines: list[tuple[str | None, str]] = []
    for name, bias_name, tail, head in zip(weights, biases, nodes, nodes[1:], strict=False):
        lines.append((name, dense_line(tail, head, layout == "(out, in)")))
        lines.append((bias_name, f"-> {head}"))
    axes: dict[str, str] = {}
    for key, line in lines:
        if key in axes:
            raise SpecError(f"mlp: two variables are named {key!r}; each needs a name of its own")
        if key is not None:
            axes[key] = line
    activations = _activations(activation, n_hidden)
    return Spec(dict(zip(nodes[1:-1], activations, strict=True)), axes, gauges=gauges or {})


def hidden_names(n_hidden: int) -> list[str]:
    """Name the hidden layers of a network.

    Examples
    --------
    >>> hidden_names(1), hidden_names(2)
    (['h'], ['h1', 'h2'])
    """
    return ["h"] if n_hidden == 1 else [f"h{i}" for i in range(1, n_hidden + 1)]


def dense_line(tail: str, head: str, turned: bool) -> str:
    """Write the axes of a weight matrix, which is `turned` if it is stored (out, in)."""
    return f"{head} <- {tail}" if turned else f"{tail} -> {head}"


def _activations(activation: str | Sequence[str], n_hidden: int) -> list[str]:
    """Return one activation for each hidden layer."""
    if isinstance(activation, str):
        return [activation] * n_hidden
    if len(activation) != n_hidden:
        raise SpecError(
            f"mlp: {len(activation)} activations for {n_hidden} hidden layers; give one for each, "
            "or one text for all"
        )
    return list(activation)


def _names(
    what: str, given: str | Sequence[str | None], number: int, first: int
) -> list[str | None]:
    """Return the names of all layers, from a pattern or as given."""
    if isinstance(given, str):
        if given.count("{}") != 1:
            raise SpecError(
                f"mlp: {what}={given!r} is a pattern and needs one '{{}}' for the layer's number, "
                f"as in 'layers.{{}}.w'; or give all {number} names in a list"
            )
        return [given.replace("{}", str(i)) for i in range(first, first + number)]
    if len(given) != number:
        raise SpecError(
            f"mlp: {len(given)} names for {what}, but there are {number} layers (hidden ones and "
            "the output); give one for each" + (", or None" if what == "bias" else "")
        )
    if what == "weight" and None in given:
        raise SpecError("mlp: every layer needs the name of its weight; None is for biases")
    return list(given)
