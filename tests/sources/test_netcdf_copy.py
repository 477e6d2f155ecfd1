"""netCDF is written in blocks, and failures to read and write are told and leave nothing."""

import os
import re
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
import xarray as xr
from files import RECORDED, REPOSITORY, SPEC, fingerprint, hdf5_contents, small_tree, write

import relabel
from relabel import FileError
from relabel.sources import arviz_files, hdf5_copy, netcdf


def with_bulk(path, size=200_000, **options):
    """Draws beside a variable that is no part of them, in chunks."""
    write(small_tree(), path)
    with h5py.File(path, "r+") as file:
        bulk = np.random.default_rng(0).normal(size=(4, size // 4))
        file.create_dataset("extra/bulk", data=bulk, chunks=(1, 500), **options)
    return path


def damage(path, name, byte=100):
    """Change bytes within the first chunk of a dataset."""
    with h5py.File(path, "r") as file:
        chunk = file[name].id.get_chunk_info(0)
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset + byte)
        file.write(b"\xff" * 8)


def align_file(source, target):
    draws = relabel.open_draws(source)
    relabel.save(relabel.align(draws, SPEC), target, source=source)


# ---------------------------------------------------------------------- blocks


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of at most 1 kB; returns the sizes that were read from files."""
    sizes = []
    read = arviz_files._Stored._values

    def counted(self, key):
        found = read(self, key)
        sizes.append(found.nbytes)
        return found

    monkeypatch.setattr(arviz_files, "_BLOCK_BYTES", 1024)
    monkeypatch.setattr(netcdf, "_LARGE", 1024)
    monkeypatch.setattr(arviz_files._Stored, "_values", counted)
    return sizes


def test_a_file_is_converted_block_by_block(small_blocks, tmp_path):
    source = with_bulk(tmp_path / "in.nc", 4000)
    draws = relabel.open_draws(source)
    relabel.save(draws, tmp_path / "out.nc")
    assert max(small_blocks) <= 1024
    assert sum(small_blocks) > 32_000
    xr.testing.assert_identical(relabel.open_draws(tmp_path / "out.nc").load(), draws.load())


@pytest.mark.parametrize("dtype", ["f4", "f8", "i2", "u1", "bool", "S3"])
def test_blocks_hold_values_of_any_type(dtype, small_blocks, tmp_path):
    values = (np.arange(3000) % 7).astype(dtype).reshape(3, 10, 100)
    tree = small_tree()
    tree["extra"] = xr.Dataset({"x": (("a", "b", "c"), values, {"units": "m"})}, {"when": 3.5})
    source = tmp_path / "in.nc"
    tree.to_netcdf(source, engine="h5netcdf")
    draws = relabel.open_draws(source)
    relabel.save(draws, tmp_path / "out.nc")
    found = relabel.open_draws(tmp_path / "out.nc")["extra"]
    xr.testing.assert_identical(found.to_dataset(), draws["extra"].to_dataset())
    assert found["x"].dtype == draws["extra"]["x"].dtype


def test_relabelled_values_are_written_block_by_block(small_blocks, tmp_path):
    source = write(small_tree(draws=200), tmp_path / "in.nc")
    align_file(source, tmp_path / "out.nc")
    expected = relabel.align(small_tree(draws=200), SPEC)
    found = relabel.open_draws(tmp_path / "out.nc")
    xr.testing.assert_identical(
        found["posterior"].to_dataset().load(), expected["posterior"].to_dataset()
    )


# ---------------------------------------------------------------------- damage


def test_what_is_not_ours_is_copied_although_it_is_damaged(tmp_path):
    source = with_bulk(tmp_path / "in.nc", fletcher32=True)
    damage(source, "extra/bulk")
    align_file(source, tmp_path / "out.nc")
    with h5py.File(source) as before, h5py.File(tmp_path / "out.nc") as after:
        for i in range(400):
            chunk = before["extra/bulk"].id.get_chunk_info(i)
            place = chunk.chunk_offset
            old = before["extra/bulk"].id.read_direct_chunk(place)
            assert after["extra/bulk"].id.read_direct_chunk(place) == old


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_damaged_values_are_named_whoever_reads_them(suffix, tmp_path):
    source = with_bulk(tmp_path / "in.nc", fletcher32=True)
    damage(source, "extra/bulk")
    draws = relabel.open_draws(source)
    with pytest.raises(FileError, match=r"in\.nc: extra/bulk cannot be read") as told:
        relabel.save(draws, tmp_path / f"out.{suffix}")
    assert "\n" not in str(told.value)
    assert [p.name for p in tmp_path.iterdir()] == ["in.nc"]
    with pytest.raises(FileError, match=r"in\.nc: extra/bulk cannot be read"):
        _ = draws["extra"]["bulk"].values


def test_a_damaged_coordinate_is_named(tmp_path):
    tree = small_tree()
    encoding = {"/posterior": {"draw": {"fletcher32": True, "chunksizes": (5,)}}}
    tree.to_netcdf(tmp_path / "in.nc", engine="h5netcdf", encoding=encoding)
    damage(tmp_path / "in.nc", "posterior/draw", 8)
    with pytest.raises(FileError, match=r"in\.nc: posterior/draw cannot be read"):
        relabel.open_draws(tmp_path / "in.nc")


# ---------------------------------------------------------------------- failures to write


class Failing:
    """`FileIO` whose writes fail from some number on, and then each time."""

    def __init__(self, after, failure):
        self.left, self.failure, self.tried = after, failure, 0

    def __call__(self, path, mode):
        file, rules = hdf5_copy_file(path, mode), self

        class Raw:
            def __getattr__(self, name):
                return getattr(file, name)

            def write(self, buffer):
                rules.left -= 1
                if rules.left < 0:
                    rules.tried += 1
                    raise rules.failure
                return file.write(buffer)

        return Raw()


hdf5_copy_file = hdf5_copy.FileIO


@pytest.mark.parametrize("after", [*range(12), 15, 20, 25])
def test_a_failure_to_write_is_told_once_and_leaves_nothing(after, tmp_path, monkeypatch):
    source = write(small_tree(), tmp_path / "in.nc")
    target = write(small_tree(draws=4), tmp_path / "out.nc")
    before = fingerprint(tmp_path)
    failing = Failing(after, OSError(28, "No space left on device"))
    monkeypatch.setattr(hdf5_copy, "FileIO", failing)
    draws = relabel.open_draws(source)
    aligned = relabel.align(draws, SPEC)
    message = r"out\.nc: could not be written: No space left"
    with pytest.raises(FileError, match=message):
        relabel.save(aligned, target, source=source, force=True)
    assert fingerprint(tmp_path) == before
    assert failing.tried == 1
    with pytest.raises(FileError, match=message):
        relabel.save(aligned, target, force=True)  # from scratch
    assert fingerprint(tmp_path) == before


def test_an_interrupt_while_hdf5_writes(tmp_path, monkeypatch):
    source = write(small_tree(), tmp_path / "in.nc")
    before = fingerprint(tmp_path)
    monkeypatch.setattr(hdf5_copy, "FileIO", Failing(5, KeyboardInterrupt()))
    aligned = relabel.align(relabel.open_draws(source), SPEC)
    with pytest.raises(KeyboardInterrupt):
        relabel.save(aligned, tmp_path / "out.nc", source=source)
    assert fingerprint(tmp_path) == before


def test_values_can_be_written_after_a_failure(tmp_path, monkeypatch):
    source = write(small_tree(), tmp_path / "in.nc")
    aligned = relabel.align(relabel.open_draws(source), SPEC)
    with monkeypatch.context() as patched:
        patched.setattr(hdf5_copy, "FileIO", Failing(3, OSError(5, "Input/output error")))
        with pytest.raises(FileError, match="Input/output error"):
            relabel.save(aligned, tmp_path / "out.nc", source=source)
    relabel.save(aligned, tmp_path / "out.nc", source=source)
    assert list(hdf5_contents(tmp_path / "out.nc")) == list(hdf5_contents(source))


# ---------------------------------------------------------------------- damaged files

ATTACK = """
import random, sys
import relabel
from pathlib import Path
source, folder, first, stop, cuts = Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:])
whole = source.read_bytes()
spec = relabel.mlp(2, "tanh")
for seed in range(first, stop):
    rng, content = random.Random(seed), bytearray(whole)
    if cuts:
        content = content[: rng.randrange(64, len(content))]
    else:
        last = len(content) if rng.random() < 0.5 else 20_000
        content[rng.randrange(last)] ^= 1 << rng.randrange(8)
    path = folder / "in.nc"
    path.write_bytes(content)
    print(seed, flush=True)
    for target in ("out.nc", "back.nc", "copy.nc"):
        (folder / target).unlink(missing_ok=True)
    try:
        draws = relabel.open_draws(path)
        relabel.save(draws, folder / "copy.nc")
        if "aligned" in source.name:
            relabel.save(relabel.undo(draws), folder / "back.nc", source=path)
        else:
            relabel.save(relabel.align(draws, spec), folder / "out.nc", source=path)
            relabel.save(relabel.undo(relabel.open_draws(folder / "out.nc")), folder / "back.nc")
    except relabel.RelabelError as error:
        assert "\\n" not in str(error), error
    except UserWarning:
        pass
"""


@pytest.mark.parametrize(("first", "last", "cuts"), [(0, 12, 0), (0, 12, 1)])
@pytest.mark.parametrize("name", ["raw_0.1.0.nc", "aligned_format2.nc"])
def test_damaged_files_are_refused_or_read(name, first, last, cuts, tmp_path):
    source = shutil.copyfile(RECORDED / "golden" / name, tmp_path / name)
    done = subprocess.run(
        [sys.executable, "-c", ATTACK, source, tmp_path, str(first), str(last), str(cuts)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-10:] + done.stderr[-3000:]
    assert not re.findall("Exception ignored", done.stderr)
