"""Messages about files that cannot be read or written, and packages that are not installed."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from relabel.errors import FileError, RelabelError

__all__ = ["first_line", "package", "reading"]


@contextmanager
def reading(place: str, *, told: str = "") -> Iterator[None]:
    """Turn any failure to read something into a FileError that says what it was.

    Libraries raise errors of many classes when a file is damaged (KeyError, UnicodeDecodeError,
    MemoryError, ...): here, and only here, they become one.

    Parameters
    ----------
    place : str
        File, group and variable.
    told : str, optional
        The beginning of the message, instead of "`place` cannot be read".

    Raises
    ------
    FileError

    Examples
    --------
    >>> with reading("draws.nc: posterior/mu"):
    ...     {}["mu"]
    Traceback (most recent call last):
    relabel.errors.FileError: draws.nc: posterior/mu cannot be read: 'mu'
    """
    try:
        yield
    except RelabelError:
        raise
    except Exception as error:
        raise FileError(f"{told or f'{place} cannot be read'}: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    r"""Return the message of an error in one line, without the names of temporary files.

    Examples
    --------
    >>> first_line(ValueError("the header is damaged\n(in line 3)")), first_line(EOFError())
    ('the header is damaged', 'EOFError')
    """
    if isinstance(error, shutil.Error):  # holds one triple for each file that was not copied
        return str(error.args[0][0][2]).partition(": '")[0]
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.strip().splitlines()[0]
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def package(name: str, install: str, purpose: str) -> Any:
    """Import an optional package.

    Parameters
    ----------
    name : str
        The module to import.
    install : str
        The argument of ``pip install`` that brings it.
    purpose : str
        What needs it, for the message.

    Raises
    ------
    FileError
        If it is not installed.

    Examples
    --------
    >>> package("no_such_package", "no-such-package", "draws.xyz")
    Traceback (most recent call last):
    relabel.errors.FileError: draws.xyz needs the package no_such_package: pip install \
no-such-package
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise FileError(f"{purpose} needs the package {name}: pip install {install}") from error
