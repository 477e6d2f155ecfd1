"""Heaps of HDF5 files that HDF5 would read without an end are refused before it does."""

import struct
import subprocess
import sys

import h5py
import numpy as np
import pytest
import xarray as xr

from relabel.data.containers import unpack
from relabel.errors import FileError
from relabel.io.reading import open_draws
from relabel.sources.hdf5_links import check_links

TITLE = "draws of a network"
LARGE = 40_000  # values of a variable that is not searched for heaps


def posterior(**attrs):
    values = np.arange(2.0 * LARGE).reshape(2, LARGE)
    return xr.Dataset({"w": (("chain", "draw"), values)}, attrs={"title": TITLE, **attrs})


def saved(path, dataset, **options):
    xr.DataTree.from_dict({"posterior": dataset}).to_netcdf(path, engine="h5netcdf", **options)
    return path


def opened(path):
    return unpack(open_draws(path))["posterior"].load()


def endless(number, size):
    """Return a heap whose first object has this number and this size."""
    return struct.pack("<4sIQHHIQ", b"GCOL", 1, 4096, number, 0, 0, size)


def heap_of(content):
    """Return where the heap with the title lies, and where in it the object is."""
    return content.rindex(b"GCOL", 0, content.index(TITLE.encode()))


@pytest.mark.parametrize(("number", "size"), [(0, 0), (7, 2**64 - 16), (7, 2**64 - 48)])
def test_a_heap_without_an_end_is_refused(tmp_path, number, size):
    content = bytearray(saved(tmp_path / "good.nc", posterior()).read_bytes())
    place = heap_of(content)
    content[place : place + 32] = endless(number, size)
    path = tmp_path / "damaged.nc"
    path.write_bytes(content)
    command = [
        sys.executable,
        "-m",
        "relabel",
        "inspect",
        str(path),
    ]  # it could not be stopped here
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert f"the heap at byte {place}" in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("chunks", [None, (1, LARGE)])
def test_values_that_look_like_such_a_heap_are_read(tmp_path, chunks):
    draws = posterior()
    draws["w"].values.reshape(-1).view(np.uint8)[:32] = np.frombuffer(endless(0, 0), np.uint8)
    encoding = {"/posterior": {"w": {"chunksizes": chunks}}} if chunks else {}
    path = saved(tmp_path / "draws.nc", draws, encoding=encoding)
    xr.testing.assert_identical(opened(path), draws)


def test_texts_that_look_like_a_heap_are_read(tmp_path):
    path = saved(tmp_path / "draws.nc", posterior(note="GCOL\x01 is how a heap begins"))
    assert opened(path).attrs["note"].startswith("GCOL")


def test_a_block_before_the_file(tmp_path):
    path = tmp_path / "draws.h5"
    with h5py.File(path, "w", userblock_size=2**18) as file:
        file["w"] = np.zeros(LARGE)
        file.attrs["title"] = TITLE
    check_links(path, follow_links=False)
    content = bytearray(path.read_bytes())
    place = heap_of(content)
    content[place : place + 32] = endless(0, 0)
    path.write_bytes(content)
    with pytest.raises(FileError, match=f"the heap at byte {place}"):
        check_links(path, follow_links=False)
