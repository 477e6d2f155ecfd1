"""Arguments checked in one way: what is wrong, with which name, and what it must be."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np

from relabel.errors import SpecError

__all__ = [
    "choice",
    "flag",
    "integer",
    "iterable",
    "mapping",
    "real",
    "seed_of",
    "string",
    "strings",
]


def integer(name: str, value: Any, low: int | None = None, high: int | None = None) -> int:
    """Return an integer within bounds as a Python integer.

    Parameters
    ----------
    name : str
        What the message calls the argument, as in ``"n_first"``.
    value : int
        Integers of NumPy are integers, booleans are not.
    low, high : int, optional
        Bounds, both included.

    Raises
    ------
    SpecError
        If it is not an integer, or out of bounds.

    Examples
    --------
    >>> integer("n_first", 3, low=1)
    3
    >>> integer("n_first", 0, low=1)
    Traceback (most recent call last):
    relabel.errors.SpecError: n_first must be a positive integer, not 0
    """
    whole = isinstance(value, Integral) and not isinstance(value, (bool, np.bool_))
    if not whole or (low is not None and value < low) or (high is not None and value > high):
        raise SpecError(f"{name} must be {_kind('an', 'integer', low, high)}, not {value!r}")
    return int(value)


def real(
    name: str,
    value: Any,
    low: float | None = None,
    high: float | None = None,
    *,
    open_ends: bool = False,
) -> float:
    """Return a finite number within bounds as a Python float.

    Parameters
    ----------
    name : str
        What the message calls the argument.
    value : float
        Numbers of NumPy are numbers, booleans are not.
    low, high : float, optional
        Bounds, included unless `open_ends`.
    open_ends : bool, default False
        Whether the bounds themselves are refused.

    Raises
    ------
    SpecError
        If it is not a finite number, or out of bounds.

    Examples
    --------
    >>> real("ci_prob", 1.0, 0, 1, open_ends=True)
    Traceback (most recent call last):
    relabel.errors.SpecError: ci_prob must be a number between 0 and 1 (exclusive), not 1.0
    """
    number = isinstance(value, (Real, np.number)) and not isinstance(value, (bool, np.bool_))
    if number:
        below = low is not None and (value <= low if open_ends else value < low)
        above = high is not None and (value >= high if open_ends else value > high)
        if np.isfinite(value) and not below and not above:
            return float(value)
    bounds = _kind("a", "number", low, high, exclusive=open_ends)
    raise SpecError(f"{name} must be {bounds}, not {value!r}")


def choice(name: str, value: Any, options: Collection[Any]) -> Any:
    """Return one of some options.

    Raises
    ------
    SpecError
        If it is none of them; the message lists them.

    Examples
    --------
    >>> choice("nonfinite", "drop", ("raise", "skip"))
    Traceback (most recent call last):
    relabel.errors.SpecError: nonfinite must be one of 'raise', 'skip', not 'drop'
    """
    try:
        known = value in options
    except (TypeError, ValueError):
        known = False
    if not known:
        listed = ", ".join(map(repr, options))
        raise SpecError(f"{name} must be one of {listed}, not {value!r}")
    return value


def flag(name: str, value: Any) -> bool:
    """Return a truth value; those of NumPy are taken.

    Raises
    ------
    SpecError
        If it is something else.

    Examples
    --------
    >>> flag("force", "yes")
    Traceback (most recent call last):
    relabel.errors.SpecError: force must be True or False, not 'yes'
    """
    if not isinstance(value, (bool, np.bool_)):
        raise SpecError(f"{name} must be True or False, not {value!r}")
    return bool(value)


def string(name: str, value: Any) -> str:
    """Return a string.

    Raises
    ------
    SpecError
        If it is something else.

    Examples
    --------
    >>> string("units", ["h"])
    Traceback (most recent call last):
    relabel.errors.SpecError: units must be a string, not ['h']
    """
    if not isinstance(value, str):
        raise SpecError(f"{name} must be a string, not {value!r}")
    return value


def mapping(name: str, value: Any, example: str) -> Mapping[Any, Any]:
    """Return a table.

    Raises
    ------
    SpecError
        If it is not a mapping.

    Examples
    --------
    >>> mapping("units", 3, "{'h': 'tanh'}")
    Traceback (most recent call last):
    relabel.errors.SpecError: units must be a table such as {'h': 'tanh'}, not 3
    """
    if not isinstance(value, Mapping):
        raise SpecError(f"{name} must be a table such as {example}, not {value!r}")
    return value


def iterable(name: str, value: Any, example: str) -> Any:
    """Return what can be looped over.

    Raises
    ------
    SpecError
        If it cannot.

    Examples
    --------
    >>> iterable("sizes", 3, "(2, 3, 1)")
    Traceback (most recent call last):
    relabel.errors.SpecError: sizes must be a sequence such as (2, 3, 1), not 3
    """
    if not isinstance(value, Iterable):
        raise SpecError(f"{name} must be a sequence such as {example}, not {value!r}")
    return value


def strings(name: str, value: Any) -> tuple[str, ...] | None:
    """Return one string or several as a tuple of strings; None stays None.

    Raises
    ------
    SpecError
        If it is something else, or empty.

    Examples
    --------
    >>> strings("var_names", "mu"), strings("var_names", ["mu", "sigma"])
    (('mu',), ('mu', 'sigma'))
    """
    if value is None:
        return None
    several = (value,) if isinstance(value, str) else value
    if not isinstance(several, (tuple, list)) or not all(isinstance(s, str) for s in several):
        raise SpecError(f"{name} must be a string or a list of strings, not {value!r}")
    if not several:
        raise SpecError(f"{name} must name at least one; leave it out for all")
    return tuple(several)


def seed_of(rng: Any) -> int:
    """Return the integer that seeds everything random of a call.

    Parameters
    ----------
    rng : int or numpy.random.Generator
        A non-negative integer is its own seed. From a Generator one integer is drawn, so that the
        record of the call can name it.

    Raises
    ------
    SpecError
        If it is neither.

    References
    ----------
    Scientific Python SPEC 7, https://scientific-python.org/specs/spec-0007/

    Examples
    --------
    >>> seed_of(7)
    7
    >>> import numpy as np
    >>> seed_of(np.random.default_rng(7)) == seed_of(np.random.default_rng(7))
    True
    """
    if isinstance(rng, np.random.Generator):
        return int(rng.integers(2**32))
    whole = isinstance(rng, Integral) and not isinstance(rng, (bool, np.bool_))
    if not whole or rng < 0:
        raise SpecError(
            f"rng must be a non-negative integer or a numpy.random.Generator, not {rng!r}"
        )
    return int(rng)


def _kind(
    article: str,
    noun: str,
    low: float | None,
    high: float | None,
    *,
    exclusive: bool = False,
) -> str:
    """Describe numbers within bounds in words."""
    if low is not None and high is not None:
        ends = " (exclusive)" if exclusive else ""
        return f"{article} {noun} between {low:g} and {high:g}{ends}"
    if low is not None:
        if low == 0:
            positive = exclusive and noun == "number"
            return f"a {'positive' if positive else 'non-negative'} {noun}"
        if low == 1 and noun == "integer":
            return "a positive integer"
        return f"{article} {noun} {'above' if exclusive else 'of at least'} {low:g}"
    if high is not None:
        return f"{article} {noun} {'below' if exclusive else 'of at most'} {high:g}"
    return f"{article} {noun}" if noun == "integer" else "a finite number"
