"""Ready specs of common models: they only build a :class:`relabel.Spec`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from relabel.errors import SpecError
from relabel.groups import group_of_activation
from relabel.spec.arrays import closest
from relabel.spec.spec import Spec

__all__ = [
    "checked_lines",
    "dense_line",
    "factor_model",
    "hidden_names",
    "hmm",
    "mixture",
    "mlp",
    "names_of_layers",
    "topic_model",
]

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


def mixture(
    parameters: Sequence[str] | Mapping[str, str] = ("mu", "sigma", "w"),
    *,
    z: str | Sequence[str] | None = None,
    prob: str | Sequence[str] | None = None,
    units: str = "component",
) -> Spec:
    """Return the spec of a finite mixture: components are exchangeable.

    Parameters
    ----------
    parameters : sequence of str, or mapping of str to str, default ("mu", "sigma", "w")
        Names of the variables with one value for each component, weights included; or a mapping
        from names to axes, as in ``{"mu": "component dim", "w": "component"}``.
    z : str or sequence of str, optional
        Allocations: labels from 0 to K-1, of any shape, in any group (``"allocation/z"``).
    prob : str or sequence of str, optional
        Allocation probabilities, with the components last (``"allocation/prob"``).
    units : str, default "component"
        Name of the components.

    Returns
    -------
    Spec

    Raises
    ------
    SpecError
        If there are no parameters, or a name occurs twice.

    Examples
    --------
    >>> spec = mixture({"mu": "component dim", "w": "component"}, z="allocation/z")
    >>> spec.units, spec.axes, spec.values
    ({'component': 'permutation'}, {'mu': 'component dim', 'w': 'component'}, \
{'allocation/z': 'component'})
    """
    lines = _lines("mixture", units, parameters)
    return _units_spec("mixture", {units: "permutation"}, lines, z, prob)


def hmm(
    parameters: Sequence[str] | Mapping[str, str] = ("mu", "sigma"),
    *,
    transition: str = "P",
    initial: str | None = None,
    z: str | Sequence[str] | None = None,
    prob: str | Sequence[str] | None = None,
    units: str = "state",
) -> Spec:
    """Return the spec of a hidden Markov model: states are exchangeable.

    A relabelling permutes both axes of the transition matrix.

    Parameters
    ----------
    parameters : sequence of str, or mapping of str to str, default ("mu", "sigma")
        Names of the state-wise parameters, or names and axes, as in ``{"mu": "state dim"}``.
    transition : str, default "P"
        Transition matrix, of either orientation.
    initial : str, optional
        Distribution of the first state; None where it is fixed.
    z : str or sequence of str, optional
        State paths: labels from 0 to K-1, of any shape, in any group.
    prob : str or sequence of str, optional
        State probabilities, with the states last.
    units : str, default "state"
        Name of the states.

    Returns
    -------
    Spec

    Raises
    ------
    SpecError
        If a name occurs twice.

    Examples
    --------
    >>> spec = hmm(["mu"], initial="p0", z="path")
    >>> spec.axes, spec.values
    ({'P': 'state state', 'p0': 'state', 'mu': 'state'}, {'path': 'state'})
    """
    lines = [(transition, f"{units} {units}")]
    if initial is not None:
        lines.append((initial, units))
    lines += _lines("hmm", units, parameters)
    return _units_spec("hmm", {units: "permutation"}, lines, z, prob)


def topic_model(
    topics: str = "beta",
    documents: str | None = "theta",
    *,
    z: str | Sequence[str] | None = None,
    parameters: Sequence[str] | Mapping[str, str] = (),
    units: str = "topic",
) -> Spec:
    """Return the spec of a topic model: topics are exchangeable.

    Parameters
    ----------
    topics : str, default "beta"
        Words of each topic, stored topics x words.
    documents : str or None, default "theta"
        Topics of each document, stored documents x topics; None where it was not kept.
    z : str or sequence of str, optional
        Topics of the words: labels from 0 to K-1, of any shape (NaN or -1 where documents end).
    parameters : sequence of str, or mapping of str to str, optional
        Other variables with one value for each topic, or names and axes.
    units : str, default "topic"
        Name of the topics.

    Returns
    -------
    Spec

    Raises
    ------
    SpecError
        If a name occurs twice.

    Examples
    --------
    >>> topic_model(z="words/z").to_json()
    '{"units": {"topic": "permutation"}, "axes": {"beta": "topic _", "theta": "_ topic"}, \
"values": {"words/z": "topic"}}'
    """
    lines = [(topics, f"{units} _")]
    if documents is not None:
        lines.append((documents, f"_ {units}"))
    lines += _lines("topic_model", units, parameters)
    return _units_spec("topic_model", {units: "permutation"}, lines, z, None)


def factor_model(
    loadings: str = "Lambda",
    scores: str | None = "eta",
    *,
    means: str | None = None,
    covariances: str | None = None,
    parameters: Mapping[str, str] | None = None,
    symmetry: str = "signed",
    units: str = "factor",
) -> Spec:
    """Return the spec of a factor model: factors are exchangeable and may change their sign.

    Everything that a factor carries comes along: loadings, scores, factor means and both axes of
    factor covariances. Without them a relabelled draw is not a draw of the model.

    Parameters
    ----------
    loadings : str, default "Lambda"
        Loadings, stored items x factors.
    scores : str or None, default "eta"
        Factor scores, stored observations x factors; None where they were not kept.
    means : str, optional
        Factor means.
    covariances : str, optional
        Factor covariances or correlations, factors x factors.
    parameters : mapping of str to str, optional
        Other variables and their axes, such as ``{"tau": "factor^0"}`` for scales of the factors,
        which are permuted but keep their sign.
    symmetry : {"signed", "permutation", "orthogonal"}, default "signed"
        Permutations and signs; permutations only; or all rotations.
    units : str, default "factor"
        Name of the factors.

    Returns
    -------
    Spec

    Raises
    ------
    SpecError
        If the symmetry is not known, or a name occurs twice.

    Examples
    --------
    >>> spec = factor_model(means="kappa", covariances="Phi")
    >>> spec.units, spec.axes
    ({'factor': 'signed'}, {'Lambda': '_ factor', 'eta': '_ factor', 'kappa': 'factor', \
'Phi': 'factor factor'})
    """
    named = [(loadings, f"_ {units}"), (scores, f"_ {units}"), (means, units)]
    named.append((covariances, f"{units} {units}"))
    lines = [(name, line) for name, line in named if name is not None]
    lines += _lines("factor_model", units, parameters or {})
    return _units_spec("factor_model", {units: symmetry}, lines, None, None)


def _lines(
    preset: str, units: str, parameters: Sequence[str] | Mapping[str, str]
) -> list[tuple[str, str]]:
    """Names and axes of variables that were given as names, or with axes."""
    if isinstance(parameters, Mapping):
        return list(parameters.items())
    if isinstance(parameters, str):
        raise SpecError(
            f"{preset}: parameters is a list of names, as in [{parameters!r}], or names and axes"
        )
    return [(name, units) for name in parameters]


def _units_spec(
    preset: str,
    units: Mapping[str, str],
    lines: Sequence[tuple[str, str]],
    z: str | Sequence[str] | None,
    prob: str | Sequence[str] | None,
) -> Spec:
    """Join the lines of all variables, with allocations and their probabilities, to one spec."""
    (name,) = units
    lines = [*lines, *((key, f"... {name}") for key in _as_names(prob))]
    if not lines:
        raise SpecError(f"{preset}: no parameters; name the variables that {name!r} carry")
    axes: dict[str, str] = {}
    for key, line in lines:
        if key in axes:
            raise SpecError(f"{preset}: {key!r} is named twice; each variable has one line")
        axes[key] = line
    return Spec(units, axes, values=dict.fromkeys(_as_names(z), name))


def _as_names(given: str | Sequence[str] | None) -> list[str]:
    """Return names that were given as one, several or none."""
    return [given] if isinstance(given, str) else list(given or ())


def checked_lines(
    preset: str,
    lines: Sequence[tuple[str, str]],
    changes: Mapping[str, str | None] | None = None,
) -> dict[str, str]:
    """Join lines to a table, some of them changed by the user: added, replaced, or left out (None).

    Raises
    ------
    SpecError
        If two lines are of one variable, or a line that is to be left out is not there.

    Examples
    --------
    >>> checked_lines("vit", [("cls", "_ _ r"), ("pos", "_ _ r")], {"cls": None, "pos": "_ r"})
    {'pos': '_ r'}
    """
    axes: dict[str, str] = {}
    for key, line in lines:
        if key in axes:
            raise SpecError(f"{preset}: two variables are named {key!r}; each needs its own name")
        axes[key] = line
    for key, change in (changes or {}).items():
        if change is not None:
            axes[key] = change
        elif axes.pop(key, None) is None:
            raise SpecError(
                f"{preset}: axes leaves {key!r} out, which the preset has not{closest(key, axes)}"
            )
    return axes


def names_of_layers(
    preset: str, what: str, given: str | Sequence[str], number: int, first: int
) -> list[str]:
    """Return the names of some layers, from a pattern with one ``{}`` or as given.

    Raises
    ------
    SpecError
        If the pattern has no place for the number, or there are more or fewer names than layers.

    Examples
    --------
    >>> names_of_layers("lenet", "conv", "conv{}", 2, 1)
    ['conv1', 'conv2']
    """
    if isinstance(given, str):
        if given.count("{}") != 1:
            raise SpecError(
                f"{preset}: {what}={given!r} is a pattern and needs one '{{}}' for the layer's "
                f"number; or give all {number} names in a list"
            )
        return [given.replace("{}", str(i)) for i in range(first, first + number)]
    if len(given) != number:
        raise SpecError(f"{preset}: {len(given)} names in {what} for {number} layers; give each")
    return list(given)


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
    given = [activation] * n_hidden if isinstance(activation, str) else list(activation)
    if len(given) != n_hidden:
        raise SpecError(
            f"mlp: {len(given)} activations for {n_hidden} hidden layers; give one for each, "
            "or one text for all"
        )
    for name in given:
        group_of_activation(name)
    return given


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
