"""What netCDF and Zarr, the files of ArviZ, have in common."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import xarray as xr
from xarray.backends import BackendArray
from xarray.conventions import encode_cf_variable
from xarray.core import indexing

from relabel.data.containers import OWN, DrawsLike, is_inference_data, own_variables, unpack
from relabel.errors import FileError
from relabel.sources.failures import naming, reading
from relabel.spec.spec import SAMPLE_DIMS

__all__ = [
    "Changes",
    "blocks_of",
    "changes_of",
    "check_names",
    "groups_of",
    "name_failures",
    "open_tree",
    "overwrite",
    "plain_form",
]

_BLOCK_BYTES = 2**24
_LOST = "{} is kept in the file {}, which is not there"
_PACKED = ("scale_factor", "add_offset")


def open_tree(path: Path, name: str, **options: Any) -> xr.DataTree | xr.Dataset:
    """Open a file; its variables are read when they are first used.

    Parameters
    ----------
    path : Path
    name : str
        The format, for messages.
    **options
        Options of :func:`xarray.open_datatree`.

    Returns
    -------
    DataTree or Dataset
        A Dataset if the file has no groups and holds the draws at its root.

    Raises
    ------
    FileError
        If it cannot be read, or holds nothing.
    """
    with reading(path, name):
        tree = xr.open_datatree(path, cache=False, **options)
    for group, node in tree.subtree_with_keys:
        name_failures(node, f"{path}: " if group == "." else f"{path}: {group}/")
    return plain_form(tree, path)


def plain_form(tree: xr.DataTree, path: Path) -> xr.DataTree | xr.Dataset:
    """Return a Dataset if there are no groups, and the draws at the root.

    Raises
    ------
    FileError
        If there is nothing.
    """
    if not tree.children and set(SAMPLE_DIMS) & set(tree.dims):
        return tree.to_dataset()
    if not tree.children and not tree.data_vars:
        raise FileError(f"{path}: holds no groups and no variables; was it written completely?")
    return tree


class _Stored(BackendArray):
    """The values of a variable in a file, which is named if they cannot be read."""

    def __init__(self, variable: xr.Variable, place: str, lost: str | None) -> None:
        self.variable, self.place, self.lost = variable, place, lost
        self.shape, self.dtype = variable.shape, variable.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        kinds = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, kinds, self._values)

    def _values(self, key: Any) -> Any:
        if self.lost is not None:
            raise FileError(_LOST.format(self.place, self.lost))
        with naming(self.place):
            return self.variable[key].values


def name_failures(
    dataset: xr.Dataset | xr.DataTree, prefix: str, lost: Mapping[str, str] | None = None
) -> None:
    """Have an error name the variable, whenever one of a file is read.

    Parameters
    ----------
    dataset : Dataset or DataTree
        Opened with ``cache=False``; from here on what was read is kept.
    prefix : str
        The file and the group.
    lost : mapping of str to str, optional
        Files that are not there, by the variables whose values they hold.

    Raises
    ------
    FileError
        If values of an index are lost: these are in memory already.
    """
    for name, variable in dataset.variables.items():
        missing = (lost or {}).get(str(name))
        if name in dataset.xindexes and missing is not None:
            raise FileError(_LOST.format(f"{prefix}{name}", missing))
        if name not in dataset.xindexes:
            stored = _Stored(variable.copy(deep=False), f"{prefix}{name}", missing)
            lazy: Any = indexing.LazilyIndexedArray(stored)
            cached: Any = indexing.MemoryCachedArray
            variable.data = cached(indexing.CopyOnWriteArray(lazy))


def check_names(data: DrawsLike) -> None:
    """Raise FileError unless both formats can hold all names."""
    for group, dataset in unpack(data).items():
        wrong = [str(name) for name in (*dataset.variables, *dataset.dims) if "/" in str(name)]
        if wrong:
            raise FileError(
                f"the group {group} has the name {wrong[0]!r}, and a file cannot hold names with "
                "'/'; rename it, as in data.rename({old: old.replace('/', '.')})"
            )


def groups_of(data: DrawsLike) -> dict[str, xr.Dataset]:
    """Return all groups of draws by their paths, without the encodings of their files."""
    given = data.to_datatree() if is_inference_data(data) else data
    tree = given if isinstance(given, xr.DataTree) else xr.DataTree(cast(xr.Dataset, given))
    return {
        path: _without_encoding(node.to_dataset(inherit=False))
        for path, node in tree.subtree_with_keys
    }


def _without_encoding(dataset: xr.Dataset) -> xr.Dataset:
    """Return a dataset as new ones are encoded; ``drop_encoding`` of xarray 2025.11 reads it."""
    fresh = dataset.copy(deep=False)
    fresh.encoding = {}
    for variable in fresh.variables.values():
        variable.encoding = {}
    return fresh


@dataclass(frozen=True)
class Changes:
    """The differences of aligned draws from their file.

    Attributes
    ----------
    arrays : dict of str to Variable
        Relabelled variables by their place in the file.
    own : dict of str or None to Dataset
        What the alignment added, by group. Where the draws are at the root of a file without
        groups, the single key is None, and `flat` is true.
    places : tuple of str
        Groups of the file that an alignment of these draws may have added.
    flat : bool
    """

    arrays: dict[str, xr.Variable]
    own: dict[str | None, xr.Dataset]
    places: tuple[str, ...]
    flat: bool


def changes_of(data: DrawsLike, changed: Collection[str]) -> Changes:
    """Take the variables at the addresses ``group/name``, and what the alignment added."""
    groups = unpack(data)
    flat = isinstance(data, xr.Dataset)
    arrays = {}
    for address in changed:
        group, _, name = address.rpartition("/")
        arrays[name if flat else address] = groups[group][name].variable
    nodes = sorted({_node(address) for address in changed}) or [""]
    places = tuple(f"{node}{name}" for node in nodes for name in OWN)
    own: dict[str | None, xr.Dataset] = {
        place: _without_encoding(groups[place]) for place in places if place in groups
    }
    if isinstance(data, xr.Dataset) and own:
        own = {None: _without_encoding(data[own_variables(data)].reset_coords(drop=True))}
    return Changes(arrays, own, places, flat)


def _node(address: str) -> str:
    """Return the path of the model of a variable, before group and name."""
    parts = address.split("/")[:-2]
    return "".join(f"{part}/" for part in parts)


def overwrite(stored: Any, variable: xr.Variable, place: str) -> None:
    """Overwrite the values of one stored array (of h5py or zarr), block by block.

    Raises
    ------
    ValueError
        If the shapes differ, or the array is stored packed, which would lose digits.
    """
    if stored.shape != variable.shape:
        raise ValueError(f"{place} has the shape {variable.shape}, the file {stored.shape}")
    packed = [key for key in _PACKED if key in stored.attrs]
    if packed:
        raise ValueError(
            f"{place} is stored packed ({', '.join(packed)}), which would lose digits; "
            "save the draws without packing"
        )
    for block in blocks_of(variable.shape, variable.dtype.itemsize):
        stored[block] = encode_cf_variable(variable[block].load(), name=place).values


def blocks_of(shape: tuple[int, ...], item_bytes: int) -> Iterator[tuple[slice, ...]]:
    """Yield blocks that together are an array, each of at most 16 MB where rows are smaller.

    Examples
    --------
    >>> list(blocks_of((3, 2**20), 16))
    [(slice(0, 1, None),), (slice(1, 2, None),), (slice(2, 3, None),)]
    >>> list(blocks_of((), 8)), list(blocks_of((0, 5), 8))
    ([()], [])
    >>> len(list(blocks_of((1, 4, 2**20), 8)))
    2
    """
    if not shape:
        yield ()
        return
    row = max(1, item_bytes * math.prod(shape[1:]))
    if row > _BLOCK_BYTES and len(shape) > 1:
        for first in range(shape[0]):
            for rest in blocks_of(shape[1:], item_bytes):
                yield (slice(first, first + 1), *rest)
        return
    step = max(1, _BLOCK_BYTES // row)
    for start in range(0, shape[0], step):
        yield (slice(start, min(start + step, shape[0])),)
