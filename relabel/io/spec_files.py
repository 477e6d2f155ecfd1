"""Specs from TOML files."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from relabel.errors import FileError, SpecError
from relabel.sources.failures import first_line
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
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileError(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: cannot be read: {first_line(error)}") from error
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{path}: not valid TOML: {error}") from error
    criterion = tables.pop("criterion", None)
    if criterion is not None and (not isinstance(criterion, dict) or "name" not in criterion):
        raise SpecError(f'{path}: the table [criterion] needs a name, as in name = "mean"')
    return Spec.from_dict(tables), criterion
