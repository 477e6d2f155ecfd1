"""Messages about files that cannot be read or written, and packages that are not installed."""

from __future__ import annotations

import errno
import importlib
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from relabel.errors import DataError, FileError, RelabelError

__all__ = ["check_expansion", "check_file", "first_line", "naming", "package", "reading"]

#: An archive may always unpack to so many bytes, and beyond that to so many times its own size.
_SMALL, _RATIO = 2**30, 100


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
        return str(error.strerror).strip().splitlines()[0]
    if isinstance(error, RecursionError):
        return "its content is nested too deeply"
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def reading(paths: Path | Sequence[Path], kind: str) -> Iterator[None]:
    r"""Turn every failure to read a file into a FileError that names it.

    Errors of this package pass; one about draws or a file that names none of the files gets the
    first of them in front.

    Parameters
    ----------
    paths : Path, or sequence of Path
        What is read.
    kind : str
        As what, for the message.

    Raises
    ------
    FileError, DataError
        The cause is the error that was raised.

    Examples
    --------
    >>> with reading(Path("a.npz"), ".npz"):
    ...     raise EOFError("no data")
    Traceback (most recent call last):
    relabel.errors.FileError: a.npz: cannot be read as .npz; it is damaged or was cut short: no data
    """
    several = [paths] if isinstance(paths, Path) else list(paths)
    others = [f"{len(several) - 1} more"] * (len(several) > 1)
    label = " and ".join([*map(str, several[:1]), *others])
    try:
        yield
    except (FileError, DataError) as error:
        if not several or any(str(path) in str(error) for path in several):
            raise
        raise type(error)(f"{label}: {error}") from error
    except RelabelError:
        raise
    except Exception as error:
        whole = isinstance(paths, Path) and _is_file(paths)
        size = f" ({several[0].stat().st_size} bytes)" if whole else ""
        raise FileError(f"{label}: {_why(error, kind, size)}") from error


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Turn every failure to read a part of a file into a FileError that says which it was.

    Libraries raise errors of many classes where a file is damaged (KeyError, UnicodeDecodeError,
    OverflowError, ...).

    Parameters
    ----------
    place : str
        File, group and variable.

    Raises
    ------
    FileError
        The cause is the error that was raised.

    Examples
    --------
    >>> with naming("draws.nc: posterior/mu"):
    ...     raise EOFError("no data")
    Traceback (most recent call last):
    relabel.errors.FileError: draws.nc: posterior/mu cannot be read: no data
    """
    try:
        yield
    except RelabelError:
        raise
    except Exception as error:
        full = "there is not enough memory: " * isinstance(error, MemoryError)
        raise FileError(f"{place} cannot be read: {full}{first_line(error)}") from error


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _why(error: Exception, kind: str, size: str) -> str:
    """Say why a file cannot be read."""
    if isinstance(error, MemoryError):
        return f"there is not enough memory to read it as {kind}: {first_line(error)}"
    # EINVAL is what a reader gets that goes to a place before the beginning: the file is damaged.
    if isinstance(error, OSError) and error.strerror and error.errno != errno.EINVAL:
        return f"cannot be read: {first_line(error)}"
    return f"cannot be read as {kind}; it is damaged or was cut short{size}: {first_line(error)}"


def check_file(path: Path) -> None:
    """Raise FileError unless a path is a file or a folder; pipes and devices are never opened.

    Raises
    ------
    FileError
        If there is nothing, or something else.

    Examples
    --------
    >>> check_file(Path("no_such_file.nc"))
    Traceback (most recent call last):
    relabel.errors.FileError: no_such_file.nc: no such file or folder
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        if path.is_symlink():
            raise FileError(f"{path}: a link to something that does not exist") from error
        raise FileError(f"{path}: no such file or folder") from error
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: cannot be read: {first_line(error)}") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(mode), "a device")
        raise FileError(f"{path}: is {kind}, not a file; save the draws in a file first")


def check_expansion(path: Path, n_bytes: int) -> None:
    """Raise FileError if a file would unpack to far more than draws can be packed into.

    Parameters
    ----------
    path : Path
    n_bytes : int
        The size of all its arrays.

    Raises
    ------
    FileError
        If they have more than 1 GiB and more than 100 times the size of the file.
    """
    size = path.stat().st_size
    if n_bytes > max(_SMALL, _RATIO * size):
        raise FileError(
            f"{path}: has {size} bytes and announces arrays of {n_bytes} bytes, more than {_RATIO} "
            "times as many; draws cannot be packed so tightly, so it is not read; if you trust "
            "it, load it yourself in Python and save it uncompressed"
        )


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
