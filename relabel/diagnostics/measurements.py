"""Typed measurements: dataclasses, as plain values and as JSON Schema.

The fields of such a dataclass are the keys of the JSON. Their types are annotated by what they are,
as in ``share: Annotated[float | None, "Of the draws."] = None``. A field with a default is always
there, with its default where nothing was measured; one without is there only where something was.
The default ``ABSENT`` leaves the field out.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from relabel._util.text import plain

__all__ = ["ABSENT", "always_there", "blank_fields", "plain_values", "schema_of"]


class _Absent(Enum):
    """A sentinel that survives copies."""

    ABSENT = "absent"


#: Value of a field that the JSON leaves out.
ABSENT: Any = _Absent.ABSENT

_NAMES = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}


def always_there(entry: Field[Any]) -> bool:
    """Whether a field is in the JSON whether or not it was measured."""
    default = entry.default is not MISSING or entry.default_factory is not MISSING
    return default and entry.default is not ABSENT


def blank_fields(kind: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that are always there, with their defaults."""
    found = {}
    for entry in filter(always_there, fields(kind)):
        made = entry.default_factory
        found[entry.name] = plain_values(entry.default if made is MISSING else made())
    return found


def plain_values(value: Any) -> Any:
    """Return plain values for JSON: those of dataclasses too; NaN becomes None.

    Examples
    --------
    >>> import numpy as np
    >>> plain_values({"h": (np.float64("nan"), np.int8(2))})
    {'h': [None, 2]}
    """
    if is_dataclass(value) and not isinstance(value, type):
        found = {entry.name: getattr(value, entry.name) for entry in fields(value)}
        return {name: plain_values(own) for name, own in found.items() if own is not ABSENT}
    if isinstance(value, Mapping):
        return {str(key): plain_values(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_values(entry) for entry in value]
    return plain(value)


def schema_of(hint: Any) -> dict[str, Any]:
    """Return the JSON Schema of the plain values of a type.

    Parameters
    ----------
    hint : type
        A dataclass, ``bool``, ``int``, ``float``, ``str``, ``None``, ``Any``, ``Literal``, a list
        or tuple of one type, a dict with strings as keys, a union of these, or one of these that is
        ``Annotated`` by a description.

    Raises
    ------
    TypeError
        If it is something else.

    Examples
    --------
    >>> schema_of(dict[str, list[float | None]])["additionalProperties"]
    {'type': 'array', 'items': {'type': ['number', 'null']}}
    """
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return {}
    if hint in _NAMES:
        return {"type": _NAMES[hint]}
    if is_dataclass(hint):
        return _object(hint)
    if origin is Annotated:
        return schema_of(inner[0]) | {"description": inner[1]}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin in (Union, types.UnionType):
        return _either([schema_of(part) for part in inner])
    if origin is list or (origin is tuple and inner[1:] == (...,)):
        return {"type": "array", "items": schema_of(inner[0])}
    if origin is dict and inner[0] is str:
        return {"type": "object"} | _further(schema_of(inner[1]))
    raise TypeError(f"measurements of the type {hint!r} have no JSON Schema")


def _further(schema: dict[str, Any]) -> dict[str, Any]:
    """Schema of the values of a dictionary; nothing where they may be anything."""
    return {"additionalProperties": schema} if schema else {}


def _either(options: list[dict[str, Any]]) -> dict[str, Any]:
    """Schema of a union; of plain types their names are listed."""
    if all(set(option) == {"type"} for option in options):
        return {"type": [option["type"] for option in options]}
    return {"anyOf": options}


def _object(kind: Any) -> dict[str, Any]:
    """Schema of a dataclass."""
    hints = get_type_hints(kind, include_extras=True)
    properties = {entry.name: schema_of(hints[entry.name]) for entry in fields(kind)}
    required = [entry.name for entry in fields(kind) if entry.default is not ABSENT]
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
