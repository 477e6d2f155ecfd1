"""Which source a file belongs to: by its content when it is read, by its suffix when written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from relabel.errors import FileError, SpecError
from relabel.sources import emcee, flat, flax, netcdf, npz, pytorch, safetensors, stan, zarr
from relabel.sources.base import SOURCES, Source, start_of
from relabel.sources.members import as_paths, listed

__all__ = ["SOURCES", "all_sources", "files_of", "source_of", "writer_of"]

PathLike = str | os.PathLike[str]

# From the most general to the most specific: where several recognise a file, the last has it.
for _source in (
    netcdf.NETCDF,
    zarr.ZARR,
    pytorch.PYTORCH,
    flax.MSGPACK,
    safetensors.SAFETENSORS,
    npz.NPZ,
    flat.NPY,
    flax.ORBAX,
    stan.STAN_CSV,
    emcee.EMCEE,
):
    SOURCES.register(_source.name, _source)


def all_sources() -> list[Source]:
    """Return all sources, those of other packages last.

    Raises
    ------
    SpecError
        If a source of another package cannot be loaded, or is not a Source of that name.
    """
    return [_checked(name, entry) for name, entry in SOURCES.items()]


def _checked(name: str, entry: object) -> Source:
    if not isinstance(entry, Source) or entry.name != name:
        raise SpecError(
            f"the entry point {name!r} of relabel.sources must be a relabel.sources.Source of that "
            f"name, not {entry!r}"
        )
    return entry


def source_of(path: Path) -> Source | None:
    """Return the source that recognises a file or folder by its content.

    Sources of other packages are asked first: they know their own files among HDF5 files and
    archives.

    Returns
    -------
    Source or None
        None if no source recognises it.

    Raises
    ------
    FileError
        If the file cannot be read, is a pickle, or a zip archive of something else.
    """
    start = start_of(path)
    for source in reversed(all_sources()):
        if source.detect(path, start):
            return source
    pytorch.refuse_pickle(path, start)
    npz.refuse_archive(path, start)
    return None


def files_of(given: PathLike | Sequence[PathLike]) -> tuple[list[Path], Source]:
    """Return the files that are meant, and their common source. Each is looked at once.

    Parameters
    ----------
    given : path-like, or sequence of path-like
        A file, several files of one kind, a pattern such as ``"fit_*.csv"``, or a folder of such
        files.

    Raises
    ------
    FileError
        If there are no such files, or they are of no known kind, of several kinds, or of a kind
        that is read one at a time.
    """
    known = cache(source_of)
    paths = as_paths(given, lambda folder: known(folder) is not None)
    alone = len(paths) == 1 and paths == listed(given)
    sources: list[Source] = []
    for path in paths:
        source = known(path)
        if source is None:
            raise FileError(_unknown(path, alone))
        if source.separate and len(paths) > 1:
            raise FileError(
                f"{path}: {source.name} data are opened one at a time; {source.separate}"
            )
        sources.append(source)
        if source is not sources[0]:
            raise FileError(
                f"{path} is {source.name}, but {paths[0]} is {sources[0].name}: members must be of "
                "one kind"
            )
    return paths, sources[0]


def _unknown(path: Path, alone: bool) -> str:
    """Say that a file is of no known kind."""
    if not alone:
        return (
            f"{path}: not a file of weights or draws of a known kind; a list or folder of members "
            "must hold nothing else"
        )
    others = ", ".join(name for name in SOURCES if name != netcdf.NETCDF.name)
    empty = "" if path.stat().st_size else " (it is empty)"
    return f"{path}: not a netCDF-4 file{empty}, nor of another known kind: {others}"


def writer_of(path: Path) -> Source | None:
    """Return the source that writes files of this suffix, None if there is none.

    Raises
    ------
    FileError
        If there are several.

    Examples
    --------
    >>> writer_of(Path("aligned.nc")).name, writer_of(Path("aligned.csv"))
    ('netCDF', None)
    """
    suffix = path.suffix.lower()
    found = [source for source in all_sources() if source.write and suffix in source.suffixes]
    if len(found) > 1:
        names = " and ".join(source.name for source in found)
        raise FileError(f"{path}: {names} both write files that end in {suffix}; uninstall one")
    return found[0] if found else None
