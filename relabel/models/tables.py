"""Tables that presets share: names of layers, one value for each layer, lines of axes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from relabel._util.validate import iterable, mapping, string, strings
from relabel.errors import SpecError
from relabel.spec.arrays import closest
from relabel.spec.notation import parse
from relabel.spec.spec import Spec
from relabel.spec.supports import POSITIVE, UNIT_INTERVAL

__all__ = [
    "allocated_spec",
    "dense_line",
    "hidden_names",
    "joined_lines",
    "layer_names",
    "one_each",
    "parameter_lines",
]

Lines = Sequence[tuple[str, str]]
Name = TypeVar("Name", str, str | None)
Value = TypeVar("Value", str, bool)


def joined_lines(
    preset: str, lines: Lines, changes: Mapping[str, str | None] | None = None
) -> dict[str, str]:
    """Join the lines of all variables to one table, and change some of them.

    Parameters
    ----------
    preset : str
        Name of the preset, for messages.
    lines : sequence of (str, str)
        Names of variables and their axes.
    changes : mapping of str to (str or None), optional
        Lines to add or to replace; None leaves a variable out.

    Raises
    ------
    SpecError
        If two lines are of one variable, or a variable that is to be left out is not there.

    Examples
    --------
    >>> joined_lines("vit", [("cls", "_ _ r"), ("pos", "_ _ r")], {"cls": None, "pos": "_ r"})
    {'pos': '_ r'}
    """
    axes: dict[str, str] = {}
    for key, line in lines:
        if string(f"{preset}: each name of a variable", key) in axes:
            raise SpecError(
                f"{preset}: two variables are named {key!r}; each needs a name of its own"
            )
        axes[key] = line
    added = mapping(f"{preset}: axes", {} if changes is None else changes, "{'W': 'x -> h'}")
    for key, change in added.items():
        if change is not None:
            axes[key] = change
        elif axes.pop(key, None) is None:
            raise SpecError(
                f"{preset}: axes leaves {key!r} out, which the preset does not have"
                f"{closest(key, axes)}"
            )
    return axes


def layer_names(
    preset: str, what: str, given: str | Sequence[Name], number: int, first: int
) -> list[Name]:
    """Return the names of some layers, from a pattern with one ``{}`` or as given.

    Raises
    ------
    SpecError
        If the pattern does not have exactly one ``{}``, or there are more or fewer names than
        layers.

    Examples
    --------
    >>> layer_names("lenet", "conv", "conv{}", 2, 1)
    ['conv1', 'conv2']
    """
    if isinstance(given, str):
        if given.count("{}") != 1:
            raise SpecError(
                f"{preset}: {what}={given!r} is a pattern and needs one '{{}}' for the layer's "
                f"number, as in 'layers.{{}}.w'; or give all {number} names in a list"
            )
        return [given.replace("{}", str(i)) for i in range(first, first + number)]
    return _checked_number(preset, what, "names in ", given, number)


def one_each(preset: str, what: str, given: Value | Sequence[Value], number: int) -> list[Value]:
    """Return one value for each layer, from one for all layers or as given.

    Raises
    ------
    SpecError
        If there are more or fewer values than layers.

    Examples
    --------
    >>> one_each("mlp", "activation", "tanh", 2)
    ['tanh', 'tanh']
    """
    if isinstance(given, (str, bool)):
        return [given] * number
    return _checked_number(preset, what, "values of ", given, number)


Entry = TypeVar("Entry")


def _checked_number(
    preset: str, what: str, kind: str, given: Sequence[Entry], number: int
) -> list[Entry]:
    if not isinstance(given, Iterable):
        raise SpecError(f"{preset}: {what} must be a string or one for each layer, not {given!r}")
    entries = list(given)
    if len(entries) != number:
        raise SpecError(
            f"{preset}: {len(entries)} {kind}{what} for {number} layers; give one for each"
        )
    return entries


def hidden_names(n_hidden: int) -> list[str]:
    """Return the names of the hidden layers of a network.

    Examples
    --------
    >>> hidden_names(1), hidden_names(2)
    (['h'], ['h1', 'h2'])
    """
    return ["h"] if n_hidden == 1 else [f"h{i}" for i in range(1, n_hidden + 1)]


def dense_line(tail: str, head: str, turned: bool) -> str:
    """Write the axes of a weight matrix, which is `turned` if it is stored (out, in)."""
    return f"{head} <- {tail}" if turned else f"{tail} -> {head}"


def parameter_lines(
    preset: str, units: str, parameters: Sequence[str] | Mapping[str, str]
) -> list[tuple[str, str]]:
    """Return names and axes of variables that are given as names, or with axes.

    Raises
    ------
    SpecError
        If a single string is given.
    """
    if isinstance(parameters, Mapping):
        return list(parameters.items())
    if isinstance(parameters, str):
        raise SpecError(
            f"{preset}: parameters must be a list of names, as in [{parameters!r}], or a table of "
            "names and axes"
        )
    names = iterable(f"{preset}: parameters", parameters, "['mu', 'sigma']")
    return [(name, units) for name in names]


def allocated_spec(
    preset: str,
    units: Mapping[str, str],
    lines: Lines,
    z: str | Sequence[str] | None = None,
    prob: str | Sequence[str] | None = None,
    *,
    scales: str | Sequence[str] | None = (),
    weights: str | Sequence[str] | None = (),
) -> Spec:
    """Return the spec of one set of units, with allocations and their probabilities.

    Parameters
    ----------
    preset : str
        Name of the preset, for messages.
    units : mapping of str to str
        One set of units.
    lines : sequence of (str, str)
        Names of variables and their axes.
    z, prob : str or sequence of str, optional
        Allocations and their probabilities.
    scales, weights : str, sequence of str, or None, default ()
        Names of the variables that are positive, and of those that are probabilities. None stands
        for ``sigma`` and ``w``, if they are among the lines and are no matrices (a covariance of
        each unit).

    Raises
    ------
    SpecError
        If there are no lines, two are of one variable, or scales or weights are none of them.

    Examples
    --------
    >>> lines = [("mu", "k"), ("sigma", "k")]
    >>> allocated_spec("mixture", {"k": "permutation"}, lines, scales=None, weights=None).supports
    {'sigma': 'positive'}
    >>> lines = [("mu", "k d"), ("sigma", "k d d")]
    >>> allocated_spec("mixture", {"k": "permutation"}, lines, scales=None).supports
    {}
    """
    (name,) = units
    string(f"{preset}: units", name)
    labels = strings(f"{preset}: z", z) or ()
    given = strings(f"{preset}: prob", prob) or ()
    lines = [*lines, *((key, f"... {name}") for key in given)]
    if not lines:
        raise SpecError(f"{preset}: no parameters; name the variables that {name!r} carry")
    spec = Spec(units, joined_lines(preset, lines), values=dict.fromkeys(labels, name))
    positive = _named(f"{preset}: scales", scales, "sigma", spec.axes)
    probabilities = _named(f"{preset}: weights", weights, "w", spec.axes)
    supports = dict.fromkeys(positive, POSITIVE) | dict.fromkeys(probabilities, UNIT_INTERVAL)
    return replace(spec, supports=supports)


def _named(
    option: str, given: str | Sequence[str] | None, usual: str, axes: Mapping[str, str]
) -> list[str]:
    """Return the variables that an option names; None stands for the usual one."""
    if given is None:
        return [usual] if usual in axes and _at_most_one_more(axes[usual]) else []
    names = [given] if isinstance(given, str) else list(iterable(option, given, "['sigma']"))
    for name in names:
        if name not in axes:
            raise SpecError(
                f"{option} name {name!r}, which is none of the parameters{closest(name, axes)}; "
                f"there are {', '.join(axes)}"
            )
    return names


def _at_most_one_more(line: str) -> bool:
    """Whether a variable has one axis, or one beside the units: it is no matrix of each unit."""
    axes = parse(line)
    return axes.rest is None and len(axes.stored) <= 2
