"""Groups of options: a dataclass whose fields are options stands for all of them as a parameter."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints

__all__ = ["with_groups"]


def with_groups(function: Callable[..., None]) -> Callable[..., None]:
    """Return a function for Typer, with one parameter for each field of a group of options.

    Parameters
    ----------
    function : callable
        Its parameters are annotated as Typer wants them, or by a dataclass whose fields are.

    Returns
    -------
    callable
        Takes all of them by keyword, puts the groups together, and calls the function.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Point:
    ...     x: int
    ...     y: int = 0
    >>> def show(point: Point, loud: bool = False) -> None:
    ...     print(point, loud)
    >>> with_groups(show)(x=1, y=2, loud=True)
    Point(x=1, y=2) True
    >>> list(signature(with_groups(show)).parameters)
    ['x', 'y', 'loud']
    """
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters = []
    for name, parameter in signature(function).parameters.items():
        if name in groups:
            own = get_type_hints(groups[name], include_extras=True)
            parameters += [_parameter(field, own[field.name]) for field in fields(groups[name])]
        else:
            parameters.append(
                parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[name])
            )

    @functools.wraps(function)
    def called(**given: Any) -> None:
        for name, group in groups.items():
            values = {field.name: given.pop(field.name) for field in fields(group)}
            given[name] = group(**values)
        function(**given)

    called.__annotations__ = {p.name: p.annotation for p in parameters}
    called.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return called


def _parameter(field: Field[Any], annotation: Any) -> Parameter:
    """Turn a field into a parameter."""
    default = Parameter.empty if field.default is MISSING else field.default
    return Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
