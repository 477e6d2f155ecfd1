"""netCDF-4 files, as ArviZ writes them."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import xarray as xr
from xarray.backends import H5NetCDFStore

from relabel.data.containers import PREFIX, DrawsLike
from relabel.errors import FileError
from relabel.sources.arviz_files import changes_of, check_names, groups_of, open_tree, overwrite
from relabel.sources.base import HDF5, Source

__all__ = ["NETCDF"]

_CLASSIC = b"CDF"


def _detect(path: Path, start: bytes) -> bool:
    if start.startswith(_CLASSIC):
        raise FileError(
            f"{path}: a classic netCDF-3 file, which has no groups; save the draws as netCDF-4 "
            "(InferenceData.to_netcdf)"
        )
    return start.startswith(HDF5)


def _read(paths: Sequence[Path]) -> xr.DataTree | xr.Dataset:
    """Open a file, without guesses and warnings of xarray."""
    options = {"decode_timedelta": False, "phony_dims": "access"}
    return open_tree(paths[0], "netCDF", engine="h5netcdf", **options)


def _write(data: DrawsLike, path: Path) -> None:
    """Write all groups to a new file."""
    check_names(data)
    with _hdf5(path, "w") as file:
        for group, dataset in groups_of(data).items():
            _write_group(file, group.strip("."), dataset)


def _update(data: DrawsLike, path: Path, source: Path, changed: Collection[str]) -> None:
    """Copy the file, then replace values in the copy."""
    check_names(data)
    changes = changes_of(data, changed)
    shutil.copyfile(source, path)
    with _hdf5(path, "r+") as file:
        if changes.flat:
            _clear_root(file)
        for name in [place for place in changes.places if place in file]:
            del file[name]
        for place, variable in changes.arrays.items():
            overwrite(file[place], variable, place)
        for group, dataset in changes.own.items():
            _write_group(file, group, dataset)


@contextmanager
def _hdf5(path: Path, mode: Literal["r+", "w"]) -> Iterator[Any]:
    """Open an HDF5 file for h5py and h5netcdf; it is changed in memory, and written at the end.

    HDF5 cannot give up a file that it failed to write: it tries again as it is closed, and once
    more as the process ends, which may crash. So it never writes to the disk itself.
    """
    import h5py

    with h5py.File(path, mode, driver="core", backing_store=False, track_order=True) as file:
        yield file
        file.flush()
        image = file.id.get_file_image()
    path.write_bytes(image)


def _write_group(file: Any, group: str | None, dataset: xr.Dataset) -> None:
    """Write a dataset into one group of an open HDF5 file."""
    import h5netcdf

    with h5netcdf.File(file, "r+") as netcdf:
        store = H5NetCDFStore(netcdf, group=group or "/", mode="r+")
        dataset.compute().dump_to_store(store)


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
    separate="join them with xarray",
    suffixes=(".nc", ".nc4", ".netcdf", ".cdf", ".h5", ".hdf5"),
    write=_write,
    update=_update,
)
