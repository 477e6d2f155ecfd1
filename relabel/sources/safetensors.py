"""Safetensors files: read and written by NumPy alone."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.errors import DataError, FileError
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
from relabel.sources.samples import as_it_came, notes_of

__all__ = ["from_safetensors", "is_safetensors", "read_safetensors", "write_safetensors"]

Array = NDArray[Any]

# In the order of the format, by which the library sorts what it writes.
_DTYPES = {
    "BOOL": "|b1",
    "U8": "|u1",
    "I8": "|i1",
    "I16": "<i2",
    "U16": "<u2",
    "I32": "<i4",
    "U32": "<u4",
    "F32": "<f4",
    "F64": "<f8",
    "I64": "<i8",
    "U64": "<u8",
}
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}
_HALVES = {"F16": "float16", "BF16": "bfloat16"}


def from_safetensors(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *, axes: str | None = None
) -> xr.DataTree:
    """Read draws from safetensors files, one for each member or one for all.

    Neither PyTorch nor the package safetensors is needed.

    Parameters
    ----------
    source : path-like, or sequence of path-like
        Several files are members, in the given order. One file holds all members under names such
        as ``member_00.0.weight`` (any word and number, then a dot), or stacked arrays.
    axes : str, optional
        The leading axes of stacked arrays: ``"draw"``, ``"chain draw"`` or ``"draw chain"``;
        ``""`` says that the file is a single member.

    Returns
    -------
    DataTree
        The file's own metadata are kept, and written back by :func:`write_safetensors`.

    Raises
    ------
    FileError
        If a file cannot be read, or is damaged or cut short.
    DataError
        If members differ, a tensor is of half precision, or one file could be either a member or
        stacked draws and `axes` does not say.

    References
    ----------
    The format: https://huggingface.co/docs/safetensors

    Examples
    --------
    >>> import io, tempfile
    >>> from pathlib import Path
    >>> members = [{"0.weight": np.full((2, 3), number)} for number in (0.0, 1.0)]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "ensemble.safetensors"
    ...     with path.open("wb") as file:
    ...         write_safetensors(from_members(members, source="an example"), file)
    ...     dict(from_safetensors(path)["posterior"].sizes)
    {'chain': 1, 'draw': 2, '0.weight_dim_0': 2, '0.weight_dim_1': 3}
    """
    paths = as_paths(source)
    read = [read_safetensors(path) for path in paths]
    metadata = common_metadata([about for _, about in read])
    if len(paths) > 1:
        names = [path.stem for path in paths]
        tree = from_members([arrays for arrays, _ in read], source=_label(paths), names=names)
        return noted(tree, source="safetensors", form=MEMBERS, metadata=metadata)
    return noted(
        _from_one(read[0][0], str(paths[0]), axes), source="safetensors", metadata=metadata
    )


def _label(paths: Sequence[Path]) -> str:
    return f"{paths[0]} and {len(paths) - 1} more"


def _from_one(arrays: Mapping[str, Any], label: str, axes: str | None) -> xr.DataTree:
    found = split_members(arrays, label) if axes is None else None
    if found is not None:
        names, members, separator = found
        tree = from_members(members, source=label, names=names, form=NAMED)
        return noted(tree, separator=separator)
    return noted(single(arrays, label, axes), form=STACKED)


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors do."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(9)
    plausible = int.from_bytes(start[:8], "little") < 2**40 or path.suffix == ".safetensors"
    return start[8:] == b"{" and plausible


def read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Read one file.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict of str to array
        Read-only views of the file, which is mapped into memory. What NumPy has no dtype for
        is an object that names the dtype.
    dict of str to str
        The metadata.

    Raises
    ------
    FileError
        If it cannot be read, or is not whole.
    """
    try:
        data = np.memmap(path, dtype=np.uint8, mode="r")
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: cannot be read: {error}") from error
    header, begin = _header(path, data)
    metadata = header.pop("__metadata__", None) or {}
    try:
        places = {name: _place(entry) for name, entry in header.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(f"{path}: a safetensors file with a damaged header") from error
    _check_places(path, places, data.size - begin)
    return {name: place.view(data[begin:]) for name, place in places.items()}, metadata


def _header(path: Path, data: Array) -> tuple[dict[str, Any], int]:
    """The JSON header, and where the data begin."""
    length = int.from_bytes(data[:8].tobytes(), "little")
    if length > data.size - 8:
        raise FileError(
            f"{path}: a safetensors file whose header should have {length} bytes, but the whole "
            f"file has {data.size}: it is damaged or was cut short"
        )
    try:
        header = json.loads(data[8 : 8 + length].tobytes(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path}: a safetensors file with a damaged header") from error
    if not isinstance(header, dict):
        raise FileError(f"{path}: a safetensors file with a damaged header")
    return header, 8 + length


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)


@dataclass(frozen=True)
class _Place:
    """Where a tensor lies in the data, and what it is."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    def view(self, data: Array) -> Any:
        if self.dtype not in _DTYPES:
            return _Unknown(_HALVES.get(self.dtype, self.dtype.lower().replace("f8_", "float8_")))
        return data[self.begin : self.end].view(np.dtype(_DTYPES[self.dtype])).reshape(self.shape)


@dataclass(frozen=True)
class _Unknown:
    """Stands for a tensor that NumPy has no dtype for, and which is refused by its name."""

    dtype: str
    shape: tuple[int, ...] = ()


def _place(entry: Mapping[str, Any]) -> _Place:
    begin, end = (int(offset) for offset in entry["data_offsets"])
    shape = tuple(int(size) for size in entry["shape"])
    if min(begin, *shape) < 0:
        raise ValueError("a negative size")
    code = _DTYPES.get(str(entry["dtype"]))
    if code is not None and end - begin != math.prod(shape) * np.dtype(code).itemsize:
        raise ValueError("a shape that does not fill its place")
    return _Place(str(entry["dtype"]), shape, begin, end)


def _check_places(path: Path, places: Mapping[str, _Place], size: int) -> None:
    """Refuse tensors that overlap, leave gaps, or reach beyond the file."""
    end = 0
    for place in sorted(places.values(), key=lambda place: (place.begin, place.end)):
        if place.begin != end or place.end < end:
            raise FileError(f"{path}: a safetensors file with a damaged header")
        end = place.end
    if end != size:
        raise FileError(
            f"{path}: a safetensors file whose tensors need {end} bytes, but there are {size}: it "
            "is damaged or was cut short"
        )


def write_safetensors(data: Any, file: BinaryIO) -> None:
    """Write draws to an open file, in the form in which they came.

    Members get names such as ``member_00.0.weight``; draws that came stacked are written as they
    came. Metadata are those of the source. What is written is what the library safetensors writes.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset
    file : binary file

    Raises
    ------
    DataError
        If a dtype has no name in the format.
    """
    notes = notes_of(data)
    members = notes.get("form") in (MEMBERS, NAMED)
    arrays = prefixed(data, ".") if members else as_it_came(data)
    header: dict[str, Any] = {}
    if "metadata" in notes:
        header["__metadata__"] = json.loads(str(notes["metadata"]))
    codes = {name: _code(name, array) for name, array in arrays.items()}
    rank = list(_DTYPES)
    order = sorted(arrays, key=lambda name: (-rank.index(codes[name]), name))
    end = 0
    for name in order:
        begin, end = end, end + arrays[name].nbytes
        shape = list(arrays[name].shape)
        header[name] = {"dtype": codes[name], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in order:
        file.write(np.ascontiguousarray(arrays[name], np.dtype(_DTYPES[codes[name]])).tobytes())


def _code(name: str, array: Array) -> str:
    code = _NAMES.get(array.dtype.newbyteorder("<"))
    if code is None:
        raise DataError(f"{name!r} has the dtype {array.dtype}, which safetensors does not know")
    return code
