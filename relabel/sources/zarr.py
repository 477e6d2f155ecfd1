"""Zarr stores, as ArviZ writes them."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xarray as xr

from relabel._util.text import join
from relabel.data.containers import PREFIX, DrawsLike
from relabel.errors import FileError
from relabel.sources.arviz_files import (
    Changes,
    changes_of,
    check_names,
    groups_of,
    open_tree,
    overwrite,
)
from relabel.sources.base import Source
from relabel.sources.failures import first_line
from relabel.sources.zarr_folder import METADATA, foreign_files, leads_outside, stored_files

__all__ = ["ZARR"]

_ROOT = ("zarr.json", ".zgroup", ".zmetadata")


def _detect(path: Path, _start: bytes) -> bool:
    return path.is_dir() and any((path / name).exists() for name in _ROOT)


def _read(paths: Sequence[Path], *, follow_links: bool = False) -> xr.DataTree | xr.Dataset:
    path = paths[0]
    _refuse_pickles(path, stored_files(path, follow_links=follow_links))
    with _quiet():
        consolidated = _is_consolidated(path)
        if consolidated:
            _check_consolidated(path)
        return open_tree(path, "Zarr", engine="zarr", consolidated=consolidated, chunks=None)


def _write(data: DrawsLike, path: Path) -> None:
    """Write all groups to a new store."""
    from relabel.sources.zarr_writing import writing

    check_names(data)
    with _quiet(), writing(path) as store:
        xr.DataTree.from_dict(groups_of(data)).to_zarr(store, mode="w", consolidated=False)


def _update(data: DrawsLike, path: Path, source: Path, changed: Collection[str]) -> None:
    """Copy the store, then replace values in the copy.

    Where links lead out of its folder, `data` were opened by somebody who allowed that: their
    values are written anew.
    """
    if leads_outside(source):
        _write(data, path)
        return
    check_names(data)
    changes = changes_of(data, changed)
    for file in stored_files(source):
        copy = path / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    _replace(path, changes)


def _replace(path: Path, changes: Changes) -> None:
    """Replace values in a store."""
    import zarr

    from relabel.sources.zarr_writing import writing

    with _quiet(), writing(path) as store:
        root = zarr.open_group(store, mode="r+", use_consolidated=False)
        version = root.metadata.zarr_format
        if changes.flat and "relabel" in root.attrs:
            for name in [name for name in root.array_keys() if name.startswith(PREFIX)]:
                del root[name]
            del root.attrs["relabel"]
        for name in [place for place in changes.places if place in root]:
            del root[name]
        for place, variable in changes.arrays.items():
            overwrite(root[place], variable, place)
        for group, dataset in changes.own.items():
            dataset.to_zarr(store, group=group, mode="a", consolidated=False, zarr_format=version)
        if _is_consolidated(path):
            zarr.consolidate_metadata(store, zarr_format=version)


def _is_consolidated(path: Path) -> bool:
    if (path / ".zmetadata").exists():
        return True
    root = path / "zarr.json"
    about = json.loads(root.read_bytes()) if root.exists() else None
    return isinstance(about, dict) and about.get("consolidated_metadata") is not None  # or null


def _check_consolidated(path: Path) -> None:
    """Raise FileError if the metadata that a store holds twice are not the same."""
    try:
        own, copied = (_metadata(path, consolidated=flag) for flag in (False, True))
    except Exception as error:
        raise FileError(f"{path}: cannot be read as Zarr: {first_line(error)}") from error
    differ = sorted(
        name for name in own.keys() | copied.keys() if own.get(name) != copied.get(name)
    )
    if differ:
        raise FileError(
            f"{path}: its consolidated metadata disagree with those of {join(differ, most=3)}; if "
            "the latter are right, call zarr.consolidate_metadata(path)"
        )


def _metadata(path: Path, *, consolidated: bool) -> dict[str, str]:
    """Return the metadata of all arrays, and the attributes of all groups, as text."""
    import zarr

    root = zarr.open_group(path, mode="r", use_consolidated=consolidated)
    return {
        name: json.dumps(
            node.metadata.to_dict() if isinstance(node, zarr.Array) else node.attrs.asdict(),
            default=str,
            sort_keys=True,
        )
        for name, node in (("/", root), *root.members(max_depth=None))
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep zarr's warnings about its own metadata from the user."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Consolidated metadata", UserWarning)
        warnings.filterwarnings("ignore", "The data type", FutureWarning)
        warnings.filterwarnings("ignore", "Object at .* is not recognized", UserWarning)
        yield


def _refuse_pickles(store: Path, files: Iterable[Path]) -> None:
    """Raise FileError if a codec of the store is pickle: old versions of numcodecs would run it."""
    for path in [path for path in files if path.name in METADATA - {".zattrs", ".zgroup"}]:
        try:
            codecs = _codecs(json.loads(path.read_bytes()))
        except (ValueError, OSError, RecursionError) as error:
            raise FileError(
                f"{store}: cannot be read as Zarr: {path.relative_to(store)} is damaged"
            ) from error
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
    options=("follow_links",),
    separate="join them with xarray",
    suffixes=(".zarr",),
    write=_write,
    update=_update,
    folder=True,
    foreign=foreign_files,
)
