"""Safetensors files: read and checked by the library safetensors, without PyTorch.

The library keeps metadata in no order and takes the last of several tensors of one name; so the
header is read here as well, and metadata are written in the order in which they came.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.data.containers import DrawsLike
from relabel.errors import DataError
from relabel.sources.base import Source
from relabel.sources.failures import check_file, package, reading
from relabel.sources.members import (
    MEMBERS,
    NAMED,
    STACKED,
    as_paths,
    common_metadata,
    from_members,
    noted,
    prefixed,
    single,
    split_members,
)
from relabel.sources.samples import Unreadable, as_it_came, notes_of

__all__ = ["SAFETENSORS", "from_safetensors", "is_safetensors", "read_safetensors"]

Array = NDArray[Any]

_INSTALL = '"posterior-relabel[safetensors]"'
_METADATA = "__metadata__"

#: Dtypes that draws may have: their names in the format, and in NumPy.
_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "U16": "uint16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
}
_HALVES = {"F16": "float16", "BF16": "bfloat16"}


def from_safetensors(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    sample_dims: str | None = None,
) -> xr.DataTree:
    """Read draws from safetensors files, one for each member or one for all.

    This needs the package safetensors (``pip install "posterior-relabel[safetensors]"``), not
    PyTorch.

    Parameters
    ----------
    source : path-like, or sequence of path-like
        Several files are members, in the given order. One file holds all members under names such
        as ``member_00.0.weight`` (any word and number, then a dot), or stacked arrays.
    sample_dims : str, optional
        The leading axes of stacked arrays: ``"draw"``, ``"chain draw"`` or ``"draw chain"``;
        ``""`` means that the file is a single member.

    Returns
    -------
    DataTree
        The metadata of the file are kept, and :func:`relabel.save` writes them again.

    Raises
    ------
    FileError
        If a file cannot be read, is damaged or cut short, or the package is missing.
    DataError
        If members differ, a tensor has half precision, or one file could be either a member or
        stacked draws and `sample_dims` is not given.

    References
    ----------
    The format: https://huggingface.co/docs/safetensors

    Examples
    --------
    >>> import tempfile
    >>> import safetensors.numpy
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "ensemble.safetensors"
    ...     members = {f"member_{number}.0.weight": np.zeros((2, 3)) for number in range(5)}
    ...     safetensors.numpy.save_file(members, path)
    ...     dict(from_safetensors(path)["posterior"].sizes)
    {'chain': 1, 'draw': 5, '0.weight_dim_0': 2, '0.weight_dim_1': 3}
    """
    return _read(as_paths(source), sample_dims=sample_dims)


def _read(paths: Sequence[Path], *, sample_dims: str | None = None) -> xr.DataTree:
    read = [read_safetensors(path) for path in paths]
    metadata = common_metadata([about for _, about in read])
    if len(paths) > 1:
        label = f"{paths[0]} and {len(paths) - 1} more"
        names = [path.stem for path in paths]
        tree = from_members([arrays for arrays, _ in read], source=label, names=names)
        return noted(tree, source="safetensors", form=MEMBERS, metadata=metadata)
    tree = _from_one(read[0][0], str(paths[0]), sample_dims)
    return noted(tree, source="safetensors", metadata=metadata)


def _from_one(arrays: Mapping[str, Any], label: str, sample_dims: str | None) -> xr.DataTree:
    found = split_members(arrays, label) if sample_dims is None else None
    if found is not None:
        names, members, separator = found
        tree = from_members(members, source=label, names=names, form=NAMED)
        return noted(tree, separator=separator)
    return noted(single(arrays, label, sample_dims), form=STACKED)


def read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Read one file.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict of str to array
        In the order of the file; Unreadable where NumPy does not have the dtype of a tensor.
    dict of str to str
        The metadata.

    Raises
    ------
    FileError
        If it cannot be read, is damaged or cut short, or the package safetensors is missing.
    """
    library = package("safetensors", _INSTALL, f"{path}: safetensors")
    check_file(path)
    with (
        reading(path, "safetensors"),
        library.safe_open(path, framework="numpy") as file,  # checks the header
    ):
        header = _header(path)
        metadata = header.pop(_METADATA, {})
        arrays = {
            name: file.get_tensor(name) if entry["dtype"] in _DTYPES else _unreadable(entry)
            for name, entry in header.items()
        }
        return arrays, metadata


def _header(path: Path) -> dict[str, Any]:
    """Return the header of a file whose header is sound, in its order."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(length), object_pairs_hook=_unique)
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("its header has one name twice")
    return found


def _unreadable(entry: Mapping[str, Any]) -> Unreadable:
    dtype = entry["dtype"]
    name = _HALVES.get(dtype, dtype.lower().replace("f8_", "float8_"))
    return Unreadable(name, tuple(entry["shape"]))


def is_safetensors(path: Path, start: bytes) -> bool:
    """Whether a file begins with a length and a header, as safetensors do.

    Parameters
    ----------
    path : Path
    start : bytes
        How the file begins.

    Examples
    --------
    >>> is_safetensors(Path("weights"), (2).to_bytes(8, "little") + b"{}")
    True
    """
    plausible = int.from_bytes(start[:8], "little") < 2**40 or path.suffix == ".safetensors"
    return start[8:9] == b"{" and plausible


def _write(data: DrawsLike, path: Path) -> None:
    """Write draws in the form in which they came.

    Members get names such as ``member_00.0.weight``; draws that came stacked are written as they
    came. Metadata are those of the source.
    """
    package("safetensors", _INSTALL, "safetensors")
    from safetensors.numpy import save

    notes = notes_of(data)
    members = notes.get("form") in (MEMBERS, NAMED)
    arrays = prefixed(data, ".") if members else as_it_came(data)
    for name, array in arrays.items():
        if array.dtype.name not in _DTYPES.values():
            raise DataError(
                f"{name!r} has the dtype {array.dtype}, which safetensors does not know"
            )
    content = memoryview(save({name: np.asarray(a, order="C") for name, a in arrays.items()}))
    with path.open("xb") as file:
        if "metadata" not in notes:
            file.write(content)
            return
        end = 8 + int.from_bytes(content[:8], "little")
        header = {_METADATA: json.loads(str(notes["metadata"]))} | json.loads(bytes(content[8:end]))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        file.write(len(text).to_bytes(8, "little") + text)
        file.write(content[end:])


SAFETENSORS = Source(
    "safetensors",
    is_safetensors,
    _read,
    options=("sample_dims",),
    suffixes=(".safetensors",),
    write=_write,
    needs=("safetensors", _INSTALL),
)
