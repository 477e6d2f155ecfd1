"""Specs from TOML files."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from relabel.errors import SpecError
from relabel.sources.failures import check_file, first_line, reading
from relabel.spec.spec import Spec

__all__ = ["read_spec"]


def read_spec(path: str | os.PathLike[str]) -> tuple[Spec, dict[str, Any] | None]:
    """Read a spec file.

    Parameters
    ----------
    path : path-like
        TOML with the tables of :class:`relabel.Spec`, and optionally ``[criterion]`` with a
        ``name`` and options.

    Returns
    -------
    Spec
    dict or None
        The table ``criterion``, if there is one.

    Raises
    ------
    FileError, SpecError
        If it cannot be read, or is not a spec.
    """
    path = Path(path)
    check_file(path)
    with reading(path, "a spec"):
        text = path.read_text(encoding="utf-8")
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError, MemoryError) as error:  # also of integers of 5,000 digits
        raise SpecError(f"{path}: not valid TOML: {first_line(error)}") from error
    criterion = tables.pop("criterion", None)
    if criterion is not None and (not isinstance(criterion, dict) or "name" not in criterion):
        raise SpecError(f'{path}: the table [criterion] needs a name, as in name = "mean"')
    return Spec.from_dict(tables), criterion
