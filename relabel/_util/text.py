"""Text for people and for JSON: names in natural order, lists, tables, numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["columns", "formatted", "join", "natural_key", "or_none", "plain"]


def natural_key(name: str) -> list[tuple[int, int | str]]:
    """Return a sort key in which ``layer10`` follows ``layer9``.

    Examples
    --------
    >>> sorted(["w10", "w9", "w1"], key=natural_key)
    ['w1', 'w9', 'w10']
    """
    parts = re.split(r"(\d+)", name)
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts if part]


def join(items: Iterable[Any], *, most: int = 10, between: str = ", ") -> str:
    """Name the first of some items, and say how many more there are.

    Examples
    --------
    >>> join(range(5), most=3)
    '0, 1, 2, and 2 more'
    """
    texts = [str(item) for item in items]
    more = f"{between}and {len(texts) - most} more" if len(texts) > most else ""
    return between.join(texts[:most]) + more


def formatted(value: float | None, form: str) -> str:
    """Format a number; a dash stands for one that is missing or NaN.

    Examples
    --------
    >>> formatted(1.0234, ".3f"), formatted(None, ".3f")
    ('1.023', '–')
    """
    return "–" if value is None or math.isnan(value) else format(value, form)


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lay cells out in columns that are as wide as their widest cell.

    Examples
    --------
    >>> columns(["name", "size"], [["mu", "3"], ["sigma", "12"]])
    ['name   size', 'mu     3', 'sigma  12']
    """
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *rows]
    ]


def or_none(value: Any) -> float | None:
    """Return a finite number as a float, and None for anything that JSON cannot hold.

    Examples
    --------
    >>> or_none(1), or_none(float("nan")), or_none(None)
    (1.0, None, None)
    """
    number = math.nan if value is None else float(value)
    return number if math.isfinite(number) else None


def plain(value: Any) -> Any:
    """Return plain values for JSON: mappings, lists, numbers of NumPy; NaN becomes None.

    Examples
    --------
    >>> import numpy as np
    >>> plain({"a": np.float64("nan"), "b": np.arange(2)})
    {'a': None, 'b': [0, 1]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return or_none(value) if isinstance(value, float) else value
