"""The protocol of a source, and the registry of all of them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from relabel._util.registry import Registry
from relabel.data.containers import DrawsLike
from relabel.sources.failures import check_file, reading

__all__ = ["HDF5", "SOURCES", "Source", "start_of"]

#: How every HDF5 file begins.
HDF5 = b"\x89HDF\r\n\x1a\n"

_START = 64  # bytes of a file that sources are shown


@dataclass(frozen=True)
class Source:
    """A kind of file that holds draws: how it is recognised, read and written.

    :func:`relabel.open_draws`, :func:`relabel.save` and the command use every source of
    :data:`SOURCES`. Another package adds one by an entry point of the group ``relabel.sources``.

    Parameters
    ----------
    name : str
        The kind as messages name it, such as ``"Stan CSV"``; it is the name in the registry too.
    detect : callable
        ``detect(path, start)`` says from the content whether a file or folder is of this kind.
        `start` are the first 64 bytes of a file, and empty for a folder.
    read : callable
        ``read(paths, **options)`` returns the draws of one or several files of this kind as a
        DataTree or Dataset, see :func:`relabel.sources.samples.tree_of`. It raises FileError for a
        damaged file, DataError where the content is not draws of one model.
    options : collection of str
        Names of the options of :func:`relabel.open_draws` that `read` takes.
    separate : str
        Not empty where files of this kind are read one at a time: how to join them, for the
        message.
    suffixes : tuple of str
        Names of files with these suffixes (in lower case) are written as this kind.
    write : callable, optional
        ``write(data, path)`` writes draws to a path where nothing is yet. Without it, files of
        this kind are only read.
    update : callable, optional
        ``update(data, path, source, changed)`` writes a copy of the file `source`, which is of
        this kind, in which only the variables at the addresses `changed` and the group ``relabel``
        are those of `data`.
    folder : bool, default False
        Whether this kind is a folder.
    needs : pair of str, optional
        An optional package that `write` needs: the module, and the argument of ``pip install``.

    Examples
    --------
    A file with one number in every line::

        def read(paths):
            return tree_of({"x": np.loadtxt(paths[0])}, source="numbers", sample_dims="draw")

        NUMBERS = Source(
            "numbers", detect=lambda path, start: path.suffix == ".numbers", read=read,
            separate="join them with np.concatenate",
        )

    and in the ``pyproject.toml`` of the package that it is in::

        [project.entry-points."relabel.sources"]
        numbers = "their_package:NUMBERS"
    """

    name: str
    detect: Callable[[Path, bytes], bool]
    read: Callable[..., xr.DataTree | xr.Dataset]
    options: Collection[str] = ()
    separate: str = ""
    suffixes: tuple[str, ...] = ()
    write: Callable[[DrawsLike, Path], None] | None = None
    update: Callable[[DrawsLike, Path, Path, Collection[str]], None] | None = None
    folder: bool = False
    needs: tuple[str, str] | None = None


#: All sources by name. :mod:`relabel.sources.kinds` registers those of this package.
SOURCES: Registry[Source] = Registry("source", "sources", "relabel.sources")


def start_of(path: Path) -> bytes:
    """Return the first bytes of a file, as :attr:`Source.detect` gets them; none of a folder.

    Raises
    ------
    FileError
        If the file cannot be read.
    """
    check_file(path)
    if path.is_dir():
        return b""
    with reading(path, "a file"), path.open("rb") as file:
        return file.read(_START)
