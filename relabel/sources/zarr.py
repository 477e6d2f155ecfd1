"""Zarr stores, as ArviZ writes them."""

from __future__ import annotations

import json
import os
import shutil
import stat
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xarray as xr

from relabel.data.containers import OWN, PREFIX, DrawsLike
from relabel.errors import FileError
from relabel.sources.arviz_files import changes_of, check_names, groups_of, open_tree, overwrite
from relabel.sources.base import Source

__all__ = ["ZARR"]

_ROOT = ("zarr.json", ".zgroup", ".zmetadata")


def _detect(path: Path, _start: bytes) -> bool:
    return path.is_dir() and any((path / name).exists() for name in _ROOT)


def _read(paths: Sequence[Path]) -> xr.DataTree | xr.Dataset:
    path = paths[0]
    _refuse_pickles(path)
    with _quiet():
        consolidated = _is_consolidated(path)
        return open_tree(path, "Zarr", engine="zarr", consolidated=consolidated, chunks=None)


def _write(data: DrawsLike, path: Path) -> None:
    """Write all groups to a new store."""
    check_names(data)
    with _quiet():
        xr.DataTree.from_dict(groups_of(data)).to_zarr(path, mode="w", consolidated=False)


def _update(data: DrawsLike, path: Path, source: Path, changed: Collection[str]) -> None:
    """Copy the store, then replace values in the copy."""
    import zarr

    check_names(data)
    changes = changes_of(data, changed)
    shutil.copytree(source, path, copy_function=shutil.copyfile)
    for folder in [path, *(inner for inner in path.rglob("*") if inner.is_dir())]:
        folder.chmod(folder.stat().st_mode | stat.S_IRWXU)  # the source may be read-only
    with _quiet():
        root = zarr.open_group(path, mode="r+", use_consolidated=False)
        version = root.metadata.zarr_format
        if changes.flat and "relabel" in root.attrs:
            for name in [name for name in root.array_keys() if name.startswith(PREFIX)]:
                del root[name]
            del root.attrs["relabel"]
        for name in [name for name in root.group_keys() if name in OWN]:
            del root[name]
        for place, variable in changes.arrays.items():
            overwrite(root[place], variable, place)
        for group, dataset in changes.own.items():
            dataset.to_zarr(path, group=group, mode="a", consolidated=False, zarr_format=version)
        if _is_consolidated(path):
            zarr.consolidate_metadata(path, zarr_format=version)


def _is_consolidated(path: Path) -> bool:
    if (path / ".zmetadata").exists():
        return True
    root = path / "zarr.json"
    about = json.loads(root.read_bytes()) if root.exists() else None
    return isinstance(about, dict) and about.get("consolidated_metadata") is not None  # or null


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep zarr's warnings about its own metadata from the user."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Consolidated metadata", UserWarning)
        warnings.filterwarnings("ignore", "The data type", FutureWarning)
        warnings.filterwarnings("ignore", "Object at .* is not recognized", UserWarning)
        yield


def _refuse_pickles(store: Path) -> None:
    """Raise FileError if a codec of the store is pickle: old versions of numcodecs would run it."""
    about = {".zarray", ".zmetadata", "zarr.json"}
    for path in (Path(p, name) for p, _, names in os.walk(store) for name in about & set(names)):
        try:
            codecs = _codecs(json.loads(path.read_bytes()))
        except (ValueError, OSError, RecursionError) as error:
            raise FileError(f"{store}: cannot be read as Zarr: {path.name} is damaged") from error
        if "pickle" in codecs:
            raise FileError(
                f"{store}: holds values as pickles ({path.parent.name}), and a pickle runs code "
                "when it is loaded; load it yourself in Python, where you trust it, and save "
                "numbers"
            )


def _codecs(about: Any) -> set[str]:
    """Names of all codecs in the metadata of Zarr, of either version of the format."""
    if isinstance(about, dict):
        named = {str(about[key]).rpartition(".")[2] for key in ("id", "name") if key in about}
        return named.union(*map(_codecs, about.values()))
    return set().union(*map(_codecs, about)) if isinstance(about, list) else set()


ZARR = Source(
    "Zarr",
    _detect,
    _read,
    separate="join them with xarray",
    suffixes=(".zarr",),
    write=_write,
    update=_update,
    folder=True,
)
