"""NumPy's ``.npz`` files, and plain dictionaries of arrays of any library."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel._util.validate import mapping
from relabel.data.containers import DrawsLike
from relabel.errors import FileError
from relabel.sources.base import Source
from relabel.sources.failures import check_expansion, check_file, reading
from relabel.sources.members import (
    MEMBERS,
    NAMED,
    STACKED,
    as_paths,
    from_members,
    noted,
    prefixed,
    split_members,
)
from relabel.sources.samples import as_it_came, notes_of, tree_of

__all__ = [
    "NPZ",
    "from_dict",
    "from_npz",
    "names_in_archive",
    "read_array",
    "read_npz",
    "refuse_archive",
    "to_dict",
]

Array = NDArray[Any]


#: Readers of the header by version; version 3 has only been written for named fields.
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def from_dict(samples: Mapping[str, Any], *, sample_dims: str | None = None) -> xr.DataTree:
    """Lay out a plain dictionary of draws.

    Parameters
    ----------
    samples : mapping of str to array
        Name -> draws, as arrays of NumPy, JAX, PyTorch or TensorFlow.
    sample_dims : str, optional
        The leading axes: ``"chain draw"``, ``"draw chain"`` or ``"draw"``. By default they follow
        from the shapes; where these leave a doubt, this is an error.

    Returns
    -------
    DataTree

    Raises
    ------
    DataError
        If arrays disagree about the draws, or are not real numbers of at least single precision.

    Examples
    --------
    >>> tree = from_dict({"mu": np.zeros((100, 4, 3))}, sample_dims="draw chain")
    >>> dict(tree["posterior"].sizes)
    {'chain': 4, 'draw': 100, 'mu_dim_0': 3}
    """
    mapping("samples", samples, "{'mu': array}")
    return noted(tree_of(samples, source="dictionary", sample_dims=sample_dims), form=STACKED)


def to_dict(data: DrawsLike) -> dict[str, Array]:
    """Return draws as a plain dictionary, with the names and leading axes of their source.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset

    Returns
    -------
    dict of str to array

    Examples
    --------
    >>> to_dict(from_dict({"mu": np.zeros((100, 4, 3))}, sample_dims="draw chain"))["mu"].shape
    (100, 4, 3)
    """
    return as_it_came(data)


def from_npz(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    sample_dims: str | None = None,
) -> xr.DataTree:
    """Read draws from ``.npz`` files, one for all draws or one for each member.

    Parameters
    ----------
    source : path-like, or sequence of path-like
        One file holds stacked arrays, or all members under names such as ``member_00.0.weight``.
        Several files, or a folder of them, are members.
    sample_dims : str, optional
        The leading axes of stacked arrays, as for :func:`from_dict`; ``""`` for a single draw.

    Returns
    -------
    DataTree

    Raises
    ------
    FileError
        If a file is damaged, or holds objects, which only a pickle could load.
    DataError
        If arrays disagree, or members differ.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "draws.npz"
    ...     np.savez(path, mu=np.zeros((4, 100, 3)))
    ...     dict(from_npz(path, sample_dims="chain draw")["posterior"].sizes)
    {'chain': 4, 'draw': 100, 'mu_dim_0': 3}
    """
    return _read(as_paths(source), sample_dims=sample_dims)


def _read(paths: Sequence[Path], *, sample_dims: str | None = None) -> xr.DataTree:
    read = [read_npz(path) for path in paths]
    if len(paths) > 1:
        label = f"{paths[0]} and {len(paths) - 1} more"
        tree = from_members(read, source=label, names=[path.stem for path in paths])
        return noted(tree, source="npz")
    label = str(paths[0])
    found = split_members(read[0], label) if sample_dims is None else None
    if found is None:
        tree = tree_of(read[0], source=label, sample_dims=sample_dims)
        return noted(tree, source="npz", form=STACKED)
    names, members, separator = found
    tree = from_members(members, source=label, names=names, form=NAMED)
    return noted(tree, source="npz", separator=separator)


def read_npz(path: Path) -> dict[str, Array]:
    """Read all arrays of one file; objects are refused."""
    check_file(path)
    with reading(path, ".npz"), zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        check_expansion(path, sum(entry.file_size for entry in entries))
        if len({entry.filename for entry in entries}) < len(entries):
            raise FileError(f"{path}: two of its arrays have the same name")
        arrays = {}
        for entry in entries:
            with archive.open(entry) as stream:
                name = entry.filename.removesuffix(".npy")
                arrays[name] = read_array(stream, entry.file_size, f"{name!r}")
        return arrays


def read_array(stream: IO[bytes], size: int, label: str) -> Array:
    """Read one array in NumPy's format, after its header was found to fit its size.

    Parameters
    ----------
    stream : binary file
        At its beginning.
    size : int
        Number of bytes in it.
    label : str
        Its name, for messages; :func:`~relabel.sources.failures.reading` adds the file.

    Raises
    ------
    FileError
        If it holds objects.
    ValueError
        If its header announces more or fewer bytes than follow.
    """
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise FileError(f"{label} has named fields, and draws must be numbers")
    shape, _, dtype = _HEADERS[version](stream)
    if dtype.hasobject:
        raise FileError(
            f"{label} is an array of objects, which is a pickle, and a pickle runs code when it is "
            "loaded; load it yourself in Python, where you trust it, and save arrays of numbers"
        )
    announced, found = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if announced != found or any(n < 0 for n in shape):
        raise ValueError(
            f"{label} announces {dtype} of shape {shape}, {announced} bytes, but {found} follow"
        )
    stream.seek(0)
    array: Array = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def _write(data: DrawsLike, path: Path) -> None:
    """Write draws in the form in which they came."""
    members = notes_of(data).get("form") in (MEMBERS, NAMED)
    arrays = prefixed(data, ".") if members else as_it_came(data)
    with path.open("xb") as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


def names_in_archive(path: Path, start: bytes) -> list[str]:
    """Return the names of the entries of a zip archive; of one that was cut short, the first.

    Parameters
    ----------
    path : Path
    start : bytes
        How the file begins.

    Returns
    -------
    list of str
        Empty if the file is not a zip archive.
    """
    if not start.startswith(b"PK\x03\x04"):
        return []
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except Exception:  # noqa: BLE001  of a damaged archive zipfile raises almost anything
        with path.open("rb") as file:
            first = file.read(4096)
    return [first[30 : 30 + int.from_bytes(first[26:28], "little")].decode(errors="replace")]


def _detect(path: Path, start: bytes) -> bool:
    names = names_in_archive(path, start)
    return bool(names) and all(name.endswith(".npy") for name in names)


def refuse_archive(path: Path, start: bytes) -> None:
    """Raise FileError if a file, which no source knows, is a zip archive."""
    if names_in_archive(path, start):
        raise FileError(
            f"{path}: a zip archive, but neither one of PyTorch (with data.pkl) nor one of NumPy "
            "(.npy only); unpack it first"
        )


NPZ = Source(".npz", _detect, _read, ("sample_dims",), suffixes=(".npz",), write=_write)
