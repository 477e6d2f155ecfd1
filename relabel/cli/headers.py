"""Names of the variables in a file of draws, read from its header alone."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Header", "array_names", "read_header"]


class Header(NamedTuple):
    """What a file holds: addresses ``group/name`` of variables, and names of dimensions."""

    variables: list[str]
    dims: list[str]


def read_header(path: Path) -> Header:
    """Read names from a netCDF-4 file, a Zarr store or an .npz file, without any values.

    Parameters
    ----------
    path : path-like
        Of a file without groups, all variables are those of the posterior.

    Returns
    -------
    Header
        Empty for files of another kind.

    Raises
    ------
    OSError, ValueError
        If the file cannot be read.
    """
    if path.is_dir():
        return _zarr(path)
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(b"\x89HDF"):
        return _hdf5(path)
    if start.startswith(b"PK"):
        return Header([f"posterior/{name}" for name in array_names(path)], [])
    return Header([], [])


def array_names(path: Path) -> list[str]:
    """Return the names of the arrays in an .npz file."""
    with zipfile.ZipFile(path) as archive:
        return [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]


def _hdf5(path: Path) -> Header:
    """Read a netCDF-4 file: dimensions and their coordinates are HDF5's dimension scales."""
    import h5py

    variables, dims = [], []
    with h5py.File(path) as file:
        groups = {name: item for name, item in file.items() if isinstance(item, h5py.Group)}
        for group, items in {"posterior": file, **groups}.items():
            for name, item in items.items():
                if isinstance(item, h5py.Dataset) and item.is_scale:
                    dims.append(name)
                elif isinstance(item, h5py.Dataset):
                    variables.append(f"{group}/{name}")
    return Header(variables, list(dict.fromkeys(dims)))


def _zarr(store: Path) -> Header:
    """Read a Zarr store of either version of the format."""
    variables, dims = [], []
    for pattern in ("*/.zarray", "*/*/.zarray", "*/zarr.json", "*/*/zarr.json"):
        for about in sorted(store.glob(pattern)):
            array = about.parent.relative_to(store)
            own = _zarr_dims(about)
            if own is not None:
                dims += own
                if array.name not in own:
                    variables.append(str(array) if len(array.parts) > 1 else f"posterior/{array}")
    return Header(variables, list(dict.fromkeys(dims)))


def _zarr_dims(about: Path) -> list[str] | None:
    """Return the dimensions of an array from its metadata; None for a group."""
    found: dict[str, Any] = json.loads(about.read_bytes())
    if about.name == "zarr.json":
        return found.get("dimension_names") or [] if found["node_type"] == "array" else None
    attributes = about.with_name(".zattrs")
    notes = json.loads(attributes.read_bytes()) if attributes.exists() else {}
    return list(notes.get("_ARRAY_DIMENSIONS", []))
