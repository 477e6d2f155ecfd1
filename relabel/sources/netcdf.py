"""netCDF-4 files, as ArviZ writes them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import H5NetCDFStore
from xarray.backends.common import ArrayWriter
from xarray.conventions import encode_cf_variable, encode_dataset_coordinates

from relabel.data.containers import PREFIX, DrawsLike, unpack
from relabel.errors import FileError
from relabel.sources.arviz_files import (
    blocks_of,
    changes_of,
    check_names,
    groups_of,
    name_failures,
    overwrite,
    plain_form,
)
from relabel.sources.base import HDF5, Source
from relabel.sources.failures import naming, reading
from relabel.sources.hdf5_copy import copied, reachable, written
from relabel.sources.hdf5_links import check_links, graph_of, lost_parts
from relabel.sources.hdf5_links import check_names as check_paths

__all__ = ["NETCDF"]

_CLASSIC = b"CDF"
_LARGE = 2**24  # bytes
_ASKED = "follow_links"  # key of encodings: the user has asked for files outside the folder


def _detect(path: Path, start: bytes) -> bool:
    if start.startswith(_CLASSIC):
        raise FileError(
            f"{path}: a classic netCDF-3 file, which has no groups; save the draws as netCDF-4 "
            "(InferenceData.to_netcdf)"
        )
    return start.startswith(HDF5)


def _read(paths: Sequence[Path], *, follow_links: bool = False) -> xr.DataTree | xr.Dataset:
    """Open a file, without guesses and warnings of xarray."""
    import h5netcdf

    path = paths[0]
    check_links(path, follow_links=follow_links)
    with reading(path, "netCDF"):
        file = reachable(path, "r")
        graph = graph_of(path, file)
        check_paths(path, graph)
        netcdf = h5netcdf.File(file, "r", phony_dims="access", decode_vlen_strings=True)
        lost = {
            place: name
            for place, key in graph.paths()
            if graph.nodes[key].apart and (name := lost_parts(place, file[place].id))
        }
        datasets = {group: _read_group(path, netcdf, group, lost) for group in graph.groups()}
        tree = xr.DataTree.from_dict(datasets)
    tree.set_close(file.close)
    if follow_links:
        for node in tree.subtree:
            for variable in node.variables.values():
                variable.encoding[_ASKED] = True
    return plain_form(tree, path)


def _read_group(path: Path, netcdf: Any, group: str, lost: Mapping[str, str]) -> xr.Dataset:
    """Open one group; its variables are read when they are first used.

    Parameters
    ----------
    lost : mapping of str to str
        Files that are not there, by the variables whose values they hold.
    """
    inner = group.strip("/") and f"{group}/"
    with naming(f"{path}: the group {group}"):
        store = H5NetCDFStore(netcdf, group=group, mode="r")
        try:
            dataset = xr.open_dataset(store, decode_timedelta=False, cache=False)
        except Exception:
            _read_dimensions(path, netcdf[group])
            raise
        missing = {str(n): lost[f"{inner}{n}"] for n in dataset.variables if f"{inner}{n}" in lost}
        name_failures(dataset, f"{path}: {inner}", missing)
    return dataset


def _read_dimensions(path: Path, group: Any) -> None:
    """Read all coordinates of dimensions, to say which of them cannot be read."""
    for name, variable in group.variables.items():
        with naming(f"{path}: {group.name.strip('/')}/{name}".replace(": /", ": ")):
            if variable.dimensions == (name,):
                variable[:]


def _write(data: DrawsLike, path: Path) -> None:
    """Write all groups to a new file."""
    check_names(data)
    with written(path, "w") as file:
        for group, dataset in groups_of(data).items():
            _write_group(file, group.strip("."), dataset)


def _update(data: DrawsLike, path: Path, source: Path, changed: Collection[str]) -> None:
    """Copy the file, then replace values in the copy."""
    check_names(data)
    changes = changes_of(data, changed)
    check_links(source, follow_links=_asked(data))
    with copied(source, path, changes.arrays) as file:
        if changes.flat:
            _clear_root(file)
        for name in [place for place in changes.places if place in file]:
            del file[name]
        for place, variable in changes.arrays.items():
            with naming(f"{source}: {place}"):
                stored = file[place]
            overwrite(stored, variable, place)
        for group, dataset in changes.own.items():
            _write_group(file, group, dataset)


def _asked(data: DrawsLike) -> bool:
    """Whether the user had files outside the folder read when these draws were opened."""
    variables = [v for dataset in unpack(data).values() for v in dataset.variables.values()]
    return any(variable.encoding.get(_ASKED, False) for variable in variables)


class _Hollow(ArrayWriter):
    """A writer that leaves out values of arrays that stand for others."""

    def add(self, source: Any, target: Any, region: Any = None) -> None:
        """Write one variable."""
        if not (isinstance(source, np.ndarray) and source.size > 1 and not any(source.strides)):
            target[...] = source


def _write_group(file: Any, group: str | None, dataset: xr.Dataset) -> None:
    """Write a dataset into one group of an open HDF5 file, large variables block by block."""
    import h5netcdf

    large = {n: v for n, v in dataset.variables.items() if _is_large(dataset, n)}
    hollow = dataset.copy(deep=False)
    for name, variable in large.items():
        hollow.variables[name].data = np.broadcast_to(np.zeros((), variable.dtype), variable.shape)
    with h5netcdf.File(file, "r+") as netcdf:
        store: Any = H5NetCDFStore(netcdf, group=group or "/", mode="r+")
        variables, attributes = encode_dataset_coordinates(hollow.compute())
        store.store(variables, attributes, writer=_Hollow())  # type: ignore[no-untyped-call]
    for name, variable in large.items():
        stored = file[f"{group or ''}/{name}"]
        for block in blocks_of(variable.shape, variable.dtype.itemsize):
            part = xr.Variable(variable.dims, variable[block].values, variable.attrs)
            stored[block] = encode_cf_variable(part, name=name).values


def _is_large(dataset: xr.Dataset, name: Any) -> bool:
    """Whether values are better written in blocks: numbers that xarray stores as they are."""
    variable = dataset.variables[name]
    plain = variable.dtype.kind in "iufb" and variable.size > 1 and not variable.chunks
    return plain and name not in dataset.xindexes and variable.nbytes > _LARGE


def _clear_root(file: Any) -> None:
    """Delete the variables of an earlier alignment from a netCDF file without groups."""
    if "relabel" not in file.attrs:
        return
    for name in [name for name in file if name.startswith(PREFIX)]:
        for axis in file[name].dims:
            for scale in list(axis.values()):
                axis.detach_scale(scale)
        del file[name]
    del file.attrs["relabel"]
    for name in [name for name in file if _is_idle_dimension(file[name])]:
        del file[name]


def _is_idle_dimension(dataset: Any) -> bool:
    """Whether a netCDF dimension has neither a coordinate nor a variable along it."""
    about = dataset.attrs.get("NAME", b"")
    bare = bytes(about).startswith(b"This is a netCDF dimension but not a netCDF variable")
    return bare and "REFERENCE_LIST" not in dataset.attrs


NETCDF = Source(
    "netCDF",
    _detect,
    _read,
    options=("follow_links",),
    separate="join them with xarray",
    suffixes=(".nc", ".nc4", ".netcdf", ".cdf", ".h5", ".hdf5"),
    write=_write,
    update=_update,
)
