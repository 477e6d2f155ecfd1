"""What a file of draws is, told from its content; and the writers, by the suffix of a name."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import xarray as xr

from relabel.errors import DataError, FileError
from relabel.sources.emcee import from_emcee, is_emcee
from relabel.sources.flat import from_npy, write_npy
from relabel.sources.flax import from_flax, is_orbax, write_msgpack
from relabel.sources.members import as_paths
from relabel.sources.npz import from_npz, write_npz
from relabel.sources.pytorch import UNSAFE, from_torch, write_torch
from relabel.sources.safetensors import from_safetensors, is_safetensors, write_safetensors
from relabel.sources.stan import from_stan, is_stan_csv

__all__ = ["WRITERS", "kind_of", "missing_package", "open_source", "write_source"]

Read = Callable[..., xr.DataTree]

#: What PyTorch wrote before its files were zip archives: a pickled number.
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."

#: Kinds that are ArviZ data already, and not read here.
_ARVIZ = ("netCDF", "Zarr")


def _one(paths: list[Path], kind: str) -> Path:
    """The only path of a kind that is read one at a time."""
    if len(paths) > 1:
        raise FileError(
            f"{paths[0]}: {kind} files are read one at a time; join their arrays with np.stack"
        )
    return paths[0]


#: Kind -> its reader, which takes a list of paths and `axes`. Another source is one line here and
#: one in :func:`kind_of`.
READERS: dict[str, Read] = {
    "PyTorch": lambda paths, axes: from_torch(paths, axes=axes),
    "safetensors": lambda paths, axes: from_safetensors(paths, axes=axes),
    ".npz": lambda paths, axes: from_npz(paths, axes=axes),
    ".npy": lambda paths, axes: from_npy(_one(paths, ".npy"), axes=axes),
    "msgpack": lambda paths, axes: from_flax(paths, axes=axes),
    "Orbax": lambda paths, axes: from_flax(paths, axes=axes),
    "Stan CSV": lambda paths, axes: from_stan(_told(paths, axes)),
    "emcee": lambda paths, axes: from_emcee(_one(_told(paths, axes), "emcee")),
}


def _told(paths: list[Path], axes: str | None) -> list[Path]:
    """Paths of files that tell their chains and draws themselves."""
    if axes is not None:
        raise DataError(
            f"{paths[0]}: the file says itself what are chains and draws; leave axes={axes!r} out"
        )
    return paths


#: Suffix -> what writes draws to an open file.
WRITERS: dict[str, Callable[[Any, BinaryIO], None]] = {
    ".pt": write_torch,
    ".pth": write_torch,
    ".safetensors": write_safetensors,
    ".npz": write_npz,
    ".npy": write_npy,
    ".msgpack": write_msgpack,
}

_PACKAGES = {".pt": "torch", ".pth": "torch", ".msgpack": "msgpack"}


def open_source(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    axes: str | None = None,
    truncate: bool = False,
) -> xr.DataTree | None:
    """Read draws of any kind that is known here but ArviZ's own.

    Parameters
    ----------
    paths : path-like, or sequence of path-like
        A file, several files of one kind (members or chains, in the given order), a pattern such
        as ``"fit_*.csv"``, or a folder of such files (in natural order: ``member_2`` before
        ``member_10``).
    axes : str, optional
        The leading axes of stacked arrays, where the file does not tell.
    truncate : bool, default False
        Take the first draws of Stan's chains where they were cut short or differ in length.

    Returns
    -------
    DataTree or None
        None if it is one netCDF file or Zarr store, or nothing that is known.

    Raises
    ------
    FileError
        If a file is damaged, would run code, or the files are of several kinds.
    DataError
        If what they hold are no draws of one model.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(Path(folder) / "draws.npz", mu=np.zeros((100, 3)), tau=np.zeros(100))
    ...     tree = open_source(Path(folder) / "draws.npz")
    >>> dict(tree["posterior"].sizes)
    {'chain': 1, 'draw': 100, 'mu_dim_0': 3}
    """
    found = as_paths(paths, lambda folder: kind_of(folder) is not None)
    kinds = [kind_of(path) for path in found]
    if truncate and kinds[0] != "Stan CSV":
        raise DataError(f"{found[0]}: only chains of Stan are truncated, and this is {kinds[0]}")
    if len(found) == 1 and kinds[0] in (*_ARVIZ, None):
        one = isinstance(paths, str | os.PathLike) and Path(paths) != found[0]
        if not one:
            return None
    for path, kind in zip(found, kinds, strict=True):
        _check_kind(path, kind, found[0], kinds[0])
    if truncate:
        return from_stan(_told(found, axes), truncate=True)
    return READERS[str(kinds[0])](found, axes)


def _check_kind(path: Path, kind: str | None, first: Path, wanted: str | None) -> None:
    """Refuse a member that is of no kind, of another kind than the first, or ArviZ data."""
    if kind is None:
        raise FileError(
            f"{path}: not a file of weights or draws that is known; a list or folder of members "
            "holds nothing else"
        )
    if kind in _ARVIZ:
        raise FileError(f"{path}: {kind} data are opened one at a time; join them with xarray")
    if kind != wanted:
        raise FileError(f"{path} is {kind}, but {first} is {wanted}: members must be of one kind")


def kind_of(path: Path) -> str | None:
    """Tell what a file or folder is, from its content.

    Returns
    -------
    str or None
        A key of ``READERS``, ``"netCDF"`` or ``"Zarr"``; None if it is none of them.

    Raises
    ------
    FileError
        If it is a pickle, or a zip archive of something else.
    """
    if path.is_dir():
        if any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zmetadata")):
            return "Zarr"
        return "Orbax" if is_orbax(path) else None
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error
    if start.startswith((b"\x89HDF\r\n\x1a\n", b"CDF")):
        return "emcee" if is_emcee(path) else "netCDF"
    if start.startswith(b"PK\x03\x04"):
        return _kind_of_zip(path)
    if start.startswith(b"\x93NUMPY"):
        return ".npy"
    if start.startswith(_OLD_TORCH):
        return "PyTorch"
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise FileError(f"{path}: is a pickle, and {UNSAFE}")
    if is_safetensors(path):
        return "safetensors"
    if is_stan_csv(path):
        return "Stan CSV"
    return "msgpack" if _is_msgpack_map(start) else None


def _kind_of_zip(path: Path) -> str:
    """PyTorch or NumPy; an archive that was cut short is known by its first entry."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        with path.open("rb") as file:
            start = file.read(4096)
        names = [start[30 : 30 + int.from_bytes(start[26:28], "little")].decode(errors="replace")]
    if any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        return "PyTorch"
    if names and all(name.endswith(".npy") for name in names):
        return ".npz"
    raise FileError(
        f"{path}: a zip archive, but neither one of PyTorch (with data.pkl) nor one of NumPy (.npy "
        "only); unpack it first"
    )


def _is_msgpack_map(start: bytes) -> bool:
    """Whether a map begins whose first key is text, as Flax writes it."""
    if not start:
        return False
    skip = {0xDE: 3, 0xDF: 5}.get(start[0], 1 if 0x81 <= start[0] <= 0x8F else 0)
    key = start[skip : skip + 1]
    return skip > 0 and key != b"" and (0xA0 <= key[0] <= 0xBF or 0xD9 <= key[0] <= 0xDB)


def missing_package(suffix: str) -> str | None:
    """Return the package that writing a file of this suffix needs, if it is missing."""
    package = _PACKAGES.get(suffix)
    return package if package is not None and find_spec(package) is None else None


def write_source(data: Any, path: str | os.PathLike[str], suffix: str) -> None:
    """Write draws in the form in which they came, to a file that is not there yet.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset
    path : path-like
        :func:`relabel.save` gives one that gets its name when it is complete.
    suffix : str
        A key of ``WRITERS``.
    """
    with Path(path).open("xb") as file:
        WRITERS[suffix](data, file)
