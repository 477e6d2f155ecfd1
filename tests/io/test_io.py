"""Files: what is written, what is kept, and what a failure leaves."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
import warnings
from contextlib import contextmanager

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from files import (
    DATA,
    REPOSITORY,
    SPEC,
    fingerprint,
    hdf5_contents,
    run,
    small_tree,
    write,
    zarr_contents,
)

import relabel
from relabel import FileError
from relabel.alignment.provenance import relabelled
from relabel.data.containers import unpack
from relabel.io import temporary, writing
from relabel.io.reading import read_point
from relabel.io.spec_files import read_spec
from relabel.sources import netcdf
from relabel.sources import zarr as zarr_stores


def align_file(source, target, **options):
    draws = relabel.open_draws(source)
    aligned = relabel.align(draws, SPEC)
    relabel.save(aligned, target, source=source, changed=relabelled(aligned), **options)
    return relabel.open_draws(target)


def undo_file(source, target):
    aligned = relabel.open_draws(source)
    original = relabel.undo(aligned)
    relabel.save(original, target, source=source, changed=relabelled(aligned))
    return relabel.open_draws(target)


def zarr_store(tree, path, version, consolidated):
    tree.to_zarr(path, consolidated=consolidated, zarr_format=version)
    return path


SOURCES = {
    "netcdf": lambda tree, folder: write(tree, folder / "in.nc"),
    "zarr2": lambda tree, folder: zarr_store(tree, folder / "in.zarr", 2, False),
    "zarr2 consolidated": lambda tree, folder: zarr_store(tree, folder / "in.zarr", 2, True),
    "zarr3": lambda tree, folder: zarr_store(tree, folder / "in.zarr", 3, False),
    "zarr3 consolidated": lambda tree, folder: zarr_store(tree, folder / "in.zarr", 3, True),
}


def test_metadata_that_are_null_are_not_consolidated(tmp_path):
    source = zarr_store(small_tree(), tmp_path / "in.zarr", 3, False)
    root = source / "zarr.json"
    written = json.loads(root.read_bytes()) | {"consolidated_metadata": None}  # by zarr 3.0
    root.write_text(json.dumps(written), encoding="utf-8")
    found = align_file(source, tmp_path / "out.zarr")
    expected = relabel.align(small_tree(), SPEC)
    xr.testing.assert_equal(found["posterior"].to_dataset(), expected["posterior"].to_dataset())


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
@pytest.mark.parametrize("kind", ["netcdf", "zarr2 consolidated", "zarr3"])
def test_all_conversions_equal_memory_and_undo_is_bitwise(kind, suffix, tmp_path):
    tree = small_tree(warmup=True, dtype="f4")
    source = SOURCES[kind](tree, tmp_path)
    before = fingerprint(source)
    found = align_file(source, tmp_path / f"out.{suffix}")
    expected = relabel.align(tree, SPEC)
    assert set(found.groups) == set(expected.groups)
    for group, dataset in unpack(expected).items():
        if group in ("relabel", "warmup_relabel"):
            xr.testing.assert_equal(found[group].to_dataset(), dataset)
        else:
            xr.testing.assert_identical(found[group].to_dataset(), dataset)
    assert found["posterior"]["W1"].dtype == np.float32
    assert "W1" in found["warmup_posterior"]
    original = undo_file(tmp_path / f"out.{suffix}", tmp_path / f"back.{suffix}")
    xr.testing.assert_identical(original, tree)
    for name in ("W1", "b1", "W2", "b2"):
        assert (
            original["posterior"][name].values.tobytes() == tree["posterior"][name].values.tobytes()
        )
    assert fingerprint(source) == before
    assert {p.name for p in tmp_path.iterdir()} == {source.name, f"out.{suffix}", f"back.{suffix}"}


# ---------------------------------------------------------------------- bit for bit


def odd_netcdf(path):
    """A netCDF file with all that xarray would not write again as it was."""
    tree = small_tree()
    tree["posterior"]["label"] = xr.DataArray(np.array(["x", "größer"], dtype=object), dims="pair")
    encoding = {
        "/posterior": {
            "W1": {"zlib": True, "complevel": 7, "shuffle": True, "chunksizes": (1, 7, 2, 3)},
            "b1": {"_FillValue": -9999.0, "dtype": "f8"},
            "sigma": {"scale_factor": 0.5, "dtype": "f8"},
            "W2": {"fletcher32": True},
        },
        "/sample_stats": {"lp": {"compression": "lzf", "chunksizes": (1, 4)}},
    }
    tree.to_netcdf(
        path, engine="h5netcdf", encoding=encoding, unlimited_dims={"/posterior": ["draw"]}
    )
    with h5py.File(path, "r+") as file:
        extra = file.create_group("extra/deep")
        extra.create_dataset("raw", data=np.arange(5, dtype=">i2"))
        extra.create_dataset("pair", data=np.ones(3, dtype=[("a", "i4"), ("b", "f8")]))
        extra.create_dataset("to", data=np.array(file["posterior"].ref, dtype=h5py.ref_dtype))
        ragged = np.array([np.arange(2), np.arange(3)], dtype=object)
        extra.create_dataset("ragged", data=ragged, dtype=h5py.vlen_dtype("i4"))
        extra.create_dataset("opaque", data=np.void(b"abc"))
        extra.attrs["nothing"] = h5py.Empty("f4")
        file["posterior"].attrs["fixed"] = np.bytes_(b"ascii")
    return path


def test_netcdf_is_copied_bit_for_bit(tmp_path):
    source = odd_netcdf(tmp_path / "in.nc")
    align_file(source, tmp_path / "out.nc")
    before, after = hdf5_contents(source), hdf5_contents(tmp_path / "out.nc")
    assert list(before) == list(after)
    moved = {"posterior/W1", "posterior/b1", "posterior/W2", "posterior/b2"}
    for name, items in before.items():
        if name in moved:
            assert items["="][0] != after[name]["="][0] or name == "posterior/b2"
            items["="], after[name]["="] = items["="][1:], after[name]["="][1:]
        assert items == after[name], name
    undo_file(tmp_path / "out.nc", tmp_path / "back.nc")
    assert hdf5_contents(tmp_path / "back.nc") == hdf5_contents(source)


@pytest.mark.parametrize("kind", [k for k in SOURCES if k != "netcdf"])
def test_zarr_is_copied_bit_for_bit(kind, tmp_path):
    source = SOURCES[kind](small_tree(), tmp_path)
    root = zarr.open_group(source, mode="r+", use_consolidated=False)
    extra = {"data": np.arange(6).reshape(2, 3), "chunks": (1, 2)}
    if "zarr2" in kind:
        extra["attributes"] = {"_ARRAY_DIMENSIONS": ["one", "two"], "nested": {"x": [1, None]}}
    else:
        extra["dimension_names"] = ["one", "two"]
    root.create_group("extra").create_array("raw", **extra)
    (source / "notes.txt").write_text("kept")
    if "consolidated" in kind:
        with warnings.catch_warnings(action="ignore"):
            zarr.consolidate_metadata(source)
    align_file(source, tmp_path / "out.zarr")
    before, after = zarr_contents(source), zarr_contents(tmp_path / "out.zarr")
    assert list(before) == list(after)
    differ = {name for name in before if before[name] != after[name]}
    stems = {"/".join(name.split("/")[:2]) for name in differ}
    assert {"posterior/W1", "posterior/b1", "posterior/W2"} <= stems
    assert stems <= {"posterior/W1", "posterior/b1", "posterior/W2", "posterior/b2"}
    assert not any(name.endswith((".zarray", ".zattrs", "zarr.json")) for name in differ)
    consolidated = "consolidated" in kind
    assert zarr_stores._is_consolidated(tmp_path / "out.zarr") == consolidated
    undo_file(tmp_path / "out.zarr", tmp_path / "back.zarr")
    tree = relabel.open_draws(tmp_path / "back.zarr")
    xr.testing.assert_identical(
        tree["posterior"].to_dataset(), small_tree()["posterior"].to_dataset()
    )
    again = zarr_contents(tmp_path / "back.zarr")
    metadata = [n for n in before if n.endswith((".zarray", ".zattrs", "zarr.json", ".txt", "/"))]
    assert all(again[name] == before[name] for name in metadata)


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_fill_values_are_written_as_they_were(suffix, tmp_path):
    tree = small_tree()
    b1 = tree["posterior"]["b1"]
    b1[0, 3] = np.nan
    encoding = {"/posterior": {"b1": {"_FillValue": -9999.0}}}
    source = tmp_path / f"in.{suffix}"
    if suffix == "nc":
        tree.to_netcdf(source, engine="h5netcdf", encoding=encoding)
    else:
        tree.to_zarr(source, encoding=encoding, consolidated=False)
    draws = relabel.open_draws(source)
    aligned = relabel.align(draws, SPEC, nonfinite="skip")
    target = tmp_path / f"out.{suffix}"
    relabel.save(aligned, target, source=source, changed=relabelled(aligned))
    stored = (
        h5py.File(target)["posterior/b1"] if suffix == "nc" else zarr.open(target)["posterior/b1"]
    )
    assert (stored[0, 3] == -9999.0).all()
    xr.testing.assert_equal(
        relabel.open_draws(target)["posterior"].to_dataset(), aligned["posterior"].to_dataset()
    )


def test_packed_draws_are_refused(tmp_path):
    source = tmp_path / "in.nc"
    packed = {"W1": {"scale_factor": 0.001, "dtype": "i2", "_FillValue": -1}}
    small_tree().to_netcdf(source, engine="h5netcdf", encoding={"/posterior": packed})
    with pytest.raises(FileError, match="posterior/W1 is stored packed"):
        align_file(source, tmp_path / "out.nc")
    assert [p.name for p in tmp_path.iterdir()] == ["in.nc"]
    align_file(source, tmp_path / "out.zarr")  # written anew, unpacked


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_files_without_groups(suffix, tmp_path):
    dataset = small_tree()["posterior"].to_dataset()
    source = write(dataset, tmp_path / f"in.{suffix}")
    look = hdf5_contents if suffix == "nc" else zarr_contents
    found = align_file(source, tmp_path / f"out.{suffix}")
    assert isinstance(found, xr.Dataset)
    xr.testing.assert_identical(found, relabel.align(dataset, SPEC))
    before, after = look(source), look(tmp_path / f"out.{suffix}")
    assert set(before) < set(after)
    again = align_file(tmp_path / f"out.{suffix}", tmp_path / f"again.{suffix}")
    assert set(again.variables) == set(found.variables)
    original = undo_file(tmp_path / f"again.{suffix}", tmp_path / f"back.{suffix}")
    xr.testing.assert_identical(original, dataset)
    assert original.encoding.get("unlimited_dims", set()) == set()
    if suffix == "nc":
        assert set(hdf5_contents(tmp_path / "back.nc")) == set(before)


def test_links_in_and_out(tmp_path):
    source = write(small_tree(), tmp_path / "in.nc")
    (tmp_path / "link.nc").symlink_to(source)
    align_file(tmp_path / "link.nc", tmp_path / "out.nc")
    store = write(small_tree(), tmp_path / "in.zarr")
    (tmp_path / "link.zarr").symlink_to(store)
    (tmp_path / "old.zarr").symlink_to(write(small_tree(), tmp_path / "older.zarr"))
    older = fingerprint(tmp_path / "older.zarr")
    align_file(tmp_path / "link.zarr", tmp_path / "old.zarr", force=True)
    assert fingerprint(tmp_path / "older.zarr") == older  # the link is replaced, not what it names
    assert "relabel" in relabel.open_draws(tmp_path / "old.zarr")


def test_a_read_only_store_can_be_copied(tmp_path):
    source = write(small_tree(), tmp_path / "in.zarr")
    for path in [source, *source.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    align_file(source, tmp_path / "out.zarr")
    assert all(p.stat().st_mode & 0o200 for p in (tmp_path / "out.zarr").rglob("*"))
    for path in [source, *(p for p in source.rglob("*") if p.is_dir())]:
        path.chmod(0o755)


# ---------------------------------------------------------------------- again, and back


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_aligning_an_aligned_file_composes(suffix, tmp_path):
    tree = small_tree(warmup=True)
    source = write(tree, tmp_path / f"in.{suffix}")
    align_file(source, tmp_path / f"one.{suffix}")
    draws = relabel.open_draws(tmp_path / f"one.{suffix}")
    criterion = relabel.criteria.ToReference({"chain": 2, "draw": 50})
    aligned = relabel.align(draws, SPEC, criterion=criterion)
    target = tmp_path / f"two.{suffix}"
    relabel.save(aligned, target, source=tmp_path / f"one.{suffix}", changed=relabelled(aligned))
    two = relabel.open_draws(target)
    notes = json.loads(two["relabel"].attrs["relabel"])
    assert notes["criterion"]["name"] == "reference"
    assert notes["earlier"]["criterion"]["name"] == "normal"
    direct = relabel.align(relabel.align(tree, SPEC), SPEC, criterion=criterion)
    for group in ("posterior", "warmup_posterior"):
        xr.testing.assert_identical(two[group].to_dataset(), direct[group].to_dataset())
    for name in ("h_index", "h_factor", "loss"):
        xr.testing.assert_equal(two["relabel"][name], direct["relabel"][name])
    xr.testing.assert_identical(undo_file(target, tmp_path / f"back.{suffix}"), tree)


# ---------------------------------------------------------------------- arviz


@pytest.mark.parametrize("source_name", ["tanh_shallow.nc", "made by arviz"])
def test_arviz_opens_the_result(source_name, tmp_path):
    import arviz

    source = DATA / source_name
    if source_name == "made by arviz":
        tree = small_tree(warmup=True)
        source = tmp_path / "in.nc"
        early = arviz.__version__.startswith("0.")
        data = arviz.InferenceData.from_datatree(tree) if early else tree
        data.to_netcdf(source, engine="h5netcdf")
        spec = SPEC
    else:
        spec = relabel.Spec({"unit": "permutation"})
    draws = relabel.open_draws(source)
    aligned = relabel.align(draws, spec)
    target = tmp_path / "out.nc"
    relabel.save(aligned, target, source=source, changed=relabelled(aligned))
    data = arviz.from_netcdf(target)
    groups = data.groups() if callable(data.groups) else data.groups
    assert any(name.strip("/") == "relabel" for name in groups)
    xr.testing.assert_equal(
        xr.Dataset(data["posterior"].data_vars), xr.Dataset(aligned["posterior"].data_vars)
    )


# ---------------------------------------------------------------------- nothing is lost


def files_in(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_no_overwriting_without_force(suffix, tmp_path):
    source = write(small_tree(), tmp_path / f"in.{suffix}")
    target = write(small_tree(draws=4), tmp_path / f"out.{suffix}")
    before = fingerprint(target)
    with pytest.raises(
        FileError, match="exists already; overwrite it with --force \\(or force=True\\)"
    ):
        align_file(source, target)
    assert fingerprint(target) == before
    found = align_file(source, target, force=True)
    assert found["posterior"].sizes["draw"] == 20
    assert {p.name for p in tmp_path.iterdir()} == {source.name, target.name}


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_output_equal_to_input(suffix, tmp_path):
    source = write(small_tree(), tmp_path / f"in.{suffix}")
    before = fingerprint(source)
    link = tmp_path / f"link.{suffix}"
    link.symlink_to(source)
    (tmp_path / "sub").mkdir()
    for target in (source, link, tmp_path / "sub" / ".." / source.name):
        with pytest.raises(FileError, match="output and input are the same"):
            align_file(source, target, force=True)
    if suffix == "zarr":
        with pytest.raises(FileError, match="lies inside the input"):
            align_file(source, source / "out.nc")
        inner = write(small_tree(), tmp_path / "in.zarr" / "inner.nc")
        with pytest.raises(FileError, match="holds the input"):
            align_file(inner, source, force=True)
        inner.unlink()
    assert fingerprint(source) == before


def test_targets_that_are_no_place_for_draws(tmp_path):
    source = write(small_tree(), tmp_path / "in.nc")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "letter.txt").write_text("dear")
    (tmp_path / "folder.zarr").mkdir()
    (tmp_path / "folder.zarr" / "letter.txt").write_text("dear")
    (tmp_path / "file.zarr").write_text("dear")
    os.mkfifo(tmp_path / "pipe")
    cases = {
        "folder": "is a folder; name a file in it.*one file per member is not written",
        "folder.zarr": "is a folder, but not a Zarr store; it is not replaced",
        "file.zarr": "is a file; a name that ends in .zarr is that of a folder",
        "missing/out.nc": "there is no folder",
        "in.nc/out.nc": "there is no folder",
        "pipe": "is not an ordinary file",
        "aligned": "the name must end in .nc, .*zarr .Zarr., .pt, .*member_00",
        "aligned.csv": "the name must end in .nc, .*which says what to write",
        "aligned.NCX": "the name must end in .nc, .*which says what to write",
    }
    before = fingerprint(tmp_path)
    for name, message in cases.items():
        with pytest.raises(FileError, match=message):
            align_file(source, tmp_path / name, force=True)
    assert fingerprint(tmp_path) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_without_permission(tmp_path):
    source = write(small_tree(), tmp_path / "in.nc")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    with pytest.raises(FileError, match="cannot be written to"):
        align_file(source, closed / "out.nc")


def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    source = write(small_tree(), tmp_path / "in.nc")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(FileError, match="cannot be written to"):
        align_file(source, tmp_path / "out.nc")


FULL_DISK = """
import resource, sys
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from relabel.cli.app import main
main()
"""


@contextmanager
def largest_file(size):
    """No file may become larger than this; Python ignores the signal that comes with it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(("start", "end"), [("nc", "nc"), ("zarr", "nc"), ("nc", "zarr")])
def test_a_full_disk_leaves_nothing(start, end, tmp_path):
    source = write(small_tree(draws=400), tmp_path / f"in.{start}")
    align_file(source, tmp_path / f"whole.{end}")
    whole = max(len(content) for content, _ in fingerprint(tmp_path / f"whole.{end}").values())
    target = write(small_tree(draws=4), tmp_path / f"out.{end}")
    before = fingerprint(tmp_path)
    # The size of a netCDF file varies by some 2 %: threads write its blocks in any order.
    for share in (0.0, 0.3, 0.5, 0.8, 0.9, 0.95):
        with largest_file(int(share * whole)), pytest.raises(FileError, match=r"[Ff]ile too large"):
            align_file(source, target, force=True)
        assert fingerprint(tmp_path) == before, share
        assert all(p.suffix != ".part" for p in tmp_path.iterdir()), share


def test_a_full_disk_is_one_line_for_the_user(tmp_path):
    source = write(small_tree(draws=400), tmp_path / "in.nc")
    align_file(source, tmp_path / "whole.nc")
    limit = int(0.95 * (tmp_path / "whole.nc").stat().st_size)
    before = fingerprint(tmp_path)
    told = run(
        limit, "align", source, "-o", tmp_path / "out.nc", "--units", "h=tanh", code=FULL_DISK
    )
    assert told.returncode == 2, told.stderr
    assert re.fullmatch("error: .*out.nc: could not be written: .*[Ff]ile too large\n", told.stderr)
    assert fingerprint(tmp_path) == before


@pytest.mark.parametrize("failure", [OSError("disk is gone"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("where", ["overwrite", "_sync", "_rename"])
@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_a_failure_leaves_nothing(suffix, where, failure, tmp_path, monkeypatch):
    source = write(small_tree(), tmp_path / f"in.{suffix}")
    target = write(small_tree(draws=4), tmp_path / f"out.{suffix}")
    before = fingerprint(tmp_path)

    def fail(*args, **kwargs):
        raise failure

    for module in (netcdf, zarr_stores) if where == "overwrite" else (writing,):
        monkeypatch.setattr(module, where, fail)
    expected = FileError if isinstance(failure, OSError) else type(failure)
    with pytest.raises(expected):
        align_file(source, target, force=True)
    assert fingerprint(tmp_path) == before


def test_a_store_that_cannot_take_its_place(tmp_path, monkeypatch):
    source = write(small_tree(), tmp_path / "in.zarr")
    target = write(small_tree(draws=4), tmp_path / "out.zarr")
    before = fingerprint(tmp_path)
    rename = type(target).rename

    monkeypatch.setattr(temporary, "_exchanged", lambda one, other: False)
    calls = []

    def fail_once(self, other):
        calls.append(self)
        if len(calls) == 3:  # the lock, the old store, the new one
            raise OSError("moved away")
        return rename(self, other)

    monkeypatch.setattr(type(target), "rename", fail_once)
    with pytest.raises(FileError, match="moved away"):
        align_file(source, target, force=True)
    assert fingerprint(tmp_path) == before


SLOW = """
import signal, sys, time
import relabel.io.writing, relabel.cli.app
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
def slow(part):
    print("here", flush=True)
    time.sleep(60)
relabel.io.writing._sync = slow
relabel.cli.app.main()
"""


def test_ctrl_c(tmp_path):
    source = write(small_tree(), tmp_path / "in.nc")
    before = fingerprint(tmp_path)
    target = tmp_path / "out.nc"
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, "align", source, "-o", target, "--units", "h=tanh"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "here\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr == "interrupted: nothing was written\n"
    assert fingerprint(tmp_path) == before


# ---------------------------------------------------------------------- specs and points


def test_read_spec(tmp_path):
    path = tmp_path / "spec.toml"
    path.write_text(SPEC.to_toml() + '[criterion]\nname = "mean"\nscale = "none"\n')
    assert read_spec(path) == (SPEC, {"name": "mean", "scale": "none"})
    path.write_text(SPEC.to_toml())
    assert read_spec(path) == (SPEC, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[units", "not valid TOML"),
        (b"\xff\xfe", "cannot be read"),
        (b"[axes]\nW = 'x -> h'", "no table 'units'"),
        (b"[units]\nh = 'tanh'\n[criterion]\nscale = 'none'", "needs a name"),
        (b"criterion = 3\n[units]\nh = 'tanh'", "needs a name"),
        (b"", "no table 'units'"),
    ],
)
def test_specs_that_are_none(content, message, tmp_path):
    path = tmp_path / "spec.toml"
    path.write_bytes(content)
    with pytest.raises(relabel.RelabelError, match=message):
        read_spec(path)


def test_spec_files_that_are_not_there(tmp_path):
    with pytest.raises(FileError, match="no such file"):
        read_spec(tmp_path / "spec.toml")
    with pytest.raises(FileError, match="cannot be read"):
        read_spec(tmp_path)


def test_reference_points(tmp_path):
    tree = small_tree()
    source = write(tree, tmp_path / "in.nc")
    point, what = read_point(source)
    best = tree["sample_stats"]["lp"].argmax(...)
    xr.testing.assert_equal(point, tree["posterior"].to_dataset().isel(best))
    assert "lp" in what
    aligned = align_file(source, tmp_path / "out.nc")
    point, what = read_point(tmp_path / "out.nc")
    xr.testing.assert_allclose(point["W1"], aligned["posterior"]["W1"].mean(["chain", "draw"]))
    assert "mean" in what
    single = xr.DataTree.from_dict(
        {"posterior": tree["posterior"].to_dataset().isel(chain=0, draw=0)}
    )
    point, what = read_point(write(single, tmp_path / "point.nc"))
    xr.testing.assert_equal(point["W1"], single["posterior"]["W1"])
    assert "point" in what
    del tree["sample_stats"]
    with pytest.raises(FileError, match="no sample_stats/lp"):
        read_point(write(tree, tmp_path / "bare.nc"))
    del tree["posterior"]
    with pytest.raises(FileError, match="no group 'posterior'"):
        read_point(write(tree, tmp_path / "none.nc"))
