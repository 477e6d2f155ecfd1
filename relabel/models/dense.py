"""Ready spec of feed-forward networks of dense layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from relabel._util.validate import choice, integer
from relabel.errors import SpecError
from relabel.groups import group_of_activation
from relabel.models.tables import dense_line, hidden_names, joined_lines, layer_names, one_each
from relabel.spec.spec import Spec

__all__ = ["mlp"]


def mlp(
    n_hidden: int,
    activation: str | Sequence[str],
    *,
    weight: str | Sequence[str] = "W{}",
    bias: str | Sequence[str | None] | None = "b{}",
    first: int = 1,
    naming: Literal["flax", "torch"] = "flax",
    gauges: Mapping[str, str] | None = None,
) -> Spec:
    """Return the spec of a feed-forward network of dense layers.

    The units are called ``h`` where there is one hidden layer, else ``h1``, ``h2``, ...; inputs
    are ``x``, outputs ``y``. Sizes follow from the draws.

    Parameters
    ----------
    n_hidden : int
        Number of hidden layers; there is one more weight matrix.
    activation : str or sequence of str
        Activation of all hidden layers, or one for each in order. ``"permutation"`` is always
        safe (see :func:`relabel.groups.group_of`).
    weight : str or sequence of str, default "W{}"
        Names of the weight matrices, in order: a pattern in which ``{}`` is the number of the
        layer, or all names.
    bias : str, sequence of (str or None), or None, default "b{}"
        Names of the biases, likewise. None for a network without biases, and in a sequence for a
        layer without.
    first : int, default 1
        Number of the first layer in the patterns.
    naming : {"flax", "torch"}, default "flax"
        Whether matrices are stored (in, out), as in Flax and in most models that are written by
        hand, or (out, in), as in PyTorch.
    gauges : mapping of str to str, optional
        Units -> how their scale is fixed; see :class:`relabel.Spec`.

    Returns
    -------
    Spec

    Raises
    ------
    SpecError
        If numbers do not match, an activation is unknown, a pattern lacks its ``{}``, or a name
        occurs twice.

    Examples
    --------
    >>> mlp(1, "tanh").axes
    {'W1': 'x -> h', 'b1': '-> h', 'W2': 'h -> y', 'b2': '-> y'}
    >>> spec = mlp(2, ["relu", "tanh"], weight="layers.{}.w", bias=None, first=0,
    ...            naming="torch")
    >>> spec.units
    {'h1': 'relu', 'h2': 'tanh'}
    >>> spec.axes
    {'layers.0.w': 'h1 <- x', 'layers.1.w': 'h2 <- h1', 'layers.2.w': 'y <- h2'}
    """
    n_hidden = integer("mlp: n_hidden", n_hidden, low=1)
    first = integer("mlp: first", first)
    turned = choice("mlp: naming", naming, ("flax", "torch")) == "torch"
    nodes = ["x", *hidden_names(n_hidden), "y"]
    weights = layer_names("mlp", "weight", weight, n_hidden + 1, first)
    if None in weights:
        raise SpecError("mlp: every layer needs the name of its weight; None is for biases")
    biases: list[str | None] = [None] * (n_hidden + 1)
    if bias is not None:
        biases = layer_names("mlp", "bias", bias, n_hidden + 1, first)
    lines: list[tuple[str, str]] = []
    for name, bias_name, tail, head in zip(weights, biases, nodes, nodes[1:], strict=False):
        lines.append((name, dense_line(tail, head, turned)))
        lines += [(bias_name, f"-> {head}")] if bias_name is not None else []
    activations = one_each("mlp", "activation", activation, n_hidden)
    for symmetry in activations:
        group_of_activation(symmetry)
    units = dict(zip(nodes[1:-1], activations, strict=True))
    return Spec(units, joined_lines("mlp", lines), gauges=gauges or {})
