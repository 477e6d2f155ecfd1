"""What netCDF and Zarr, the files of ArviZ, have in common."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import xarray as xr
from xarray.conventions import encode_cf_variable

from relabel.data.containers import OWN, DrawsLike, is_inference_data, own_variables, unpack
from relabel.errors import FileError
from relabel.sources.failures import first_line
from relabel.spec.spec import SAMPLE_DIMS

__all__ = ["Changes", "changes_of", "check_names", "groups_of", "open_tree", "overwrite"]

_BLOCK_BYTES = 2**26
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
    try:
        tree = xr.open_datatree(path, **options)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise FileError(f"{path}: cannot be read as {name}: {first_line(error)}") from error
    if not tree.children and set(SAMPLE_DIMS) & set(tree.dims):
        return tree.to_dataset()
    if not tree.children and not tree.data_vars:
        raise FileError(f"{path}: holds no groups and no variables; was it written completely?")
    return tree


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
        path: node.to_dataset(inherit=False).drop_encoding()
        for path, node in tree.subtree_with_keys
    }


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
        place: groups[place].drop_encoding() for place in places if place in groups
    }
    if isinstance(data, xr.Dataset) and own:
        own = {None: data[own_variables(data)].reset_coords(drop=True).drop_encoding()}
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
    bytes_a_row = max(1, variable.dtype.itemsize * int(np.prod(variable.shape[1:])))
    step = max(1, _BLOCK_BYTES // bytes_a_row)
    for start in range(0, variable.shape[0], step):
        block = encode_cf_variable(variable[start : start + step].load(), name=place)
        stored[start : start + step] = block.values
