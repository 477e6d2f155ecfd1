"""A Zarr store as a source: it is only read, and nothing outside it unasked."""

import json
import os
import shutil
import socket
import time
import warnings

import numpy as np
import pytest
import xarray as xr
import zarr
from files import SPEC, fingerprint, run, small_tree

import relabel
from relabel import FileError
from relabel.alignment.provenance import relabelled
from relabel.sources.zarr_folder import METADATA, foreign_files, leads_outside, stored_files


@pytest.fixture(params=[2, 3])
def store(request, tmp_path):
    """A store of one version of the format, in a folder of its own."""
    folder = tmp_path / "mine"
    folder.mkdir()
    small_tree().to_zarr(folder / "in.zarr", consolidated=False, zarr_format=request.param)
    return folder / "in.zarr"


def chunks(store, place):
    """The files that hold the values of an array."""
    files = (p for p in (store / place).rglob("*") if p.is_file())
    return sorted(p for p in files if p.name not in METADATA)


def outside(path):
    """Move something out of the folder of the store, and leave a link."""
    folder = next(above for above in path.parents if above.name == "mine")
    target = folder.with_name(f"elsewhere_{path.name}")
    shutil.move(path, target)
    path.symlink_to(target)
    return target


def align_to(store, target, **options):
    draws = relabel.open_draws(store, **options)
    aligned = relabel.align(draws, SPEC)
    relabel.save(aligned, target, source=store, changed=relabelled(aligned))
    return relabel.open_draws(target).load()


# ------------------------------------------------------------------ links


@pytest.mark.parametrize("what", ["a chunk", "an array", "a group", "metadata"])
def test_links_out_of_the_folder_are_refused_unasked(what, store):
    places = {
        "a chunk": chunks(store, "posterior/W1")[0],
        "an array": store / "posterior" / "W1",
        "a group": store / "sample_stats",
        "metadata": next(p for p in sorted((store / "posterior").iterdir()) if p.is_file()),
    }
    path = places[what]
    target = outside(path)
    before = fingerprint(store.parent.parent)
    name = path.relative_to(store).as_posix()
    with pytest.raises(FileError, match=rf"in\.zarr: {name} is a link to .*follow_links=True"):
        relabel.open_draws(store)
    aligned = align_to(store, store.with_name("out.zarr"), follow_links=True)
    now = fingerprint(store.parent.parent)
    assert before.items() <= now.items()
    assert target.exists()
    assert not any(p.is_symlink() for p in store.with_name("out.zarr").rglob("*"))
    undone = relabel.undo(aligned)["posterior"].to_dataset()
    xr.testing.assert_equal(undone, small_tree()["posterior"].to_dataset())


def test_the_command_refuses_links_in_one_line(store):
    outside(store / "sample_stats")
    ended = run("align", store, "-o", store.with_name("out.nc"), "--units", "h=tanh")
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "sample_stats is a link" in ended.stderr
    assert not store.with_name("out.nc").exists()


def test_links_within_the_folder_are_followed_and_not_written_through(store):
    shared = store.parent / "shared"
    shutil.move(store / "posterior" / "W1", shared)
    (store / "posterior" / "W1").symlink_to(shared)
    before = fingerprint(store.parent)
    align_to(store, store.with_name("out.zarr"))
    assert before.items() <= fingerprint(store.parent).items()
    assert not (store.with_name("out.zarr") / "posterior" / "W1").is_symlink()


def test_the_store_itself_may_be_a_link(store, tmp_path):
    link = tmp_path / "link.zarr"
    link.symlink_to(store)
    before = fingerprint(store)
    align_to(link, tmp_path / "out.zarr")
    assert fingerprint(store) == before


def test_links_to_nothing_and_in_circles_are_refused(store):
    link = store / "posterior" / "more"
    link.symlink_to(store / "no such thing")
    with pytest.raises(FileError, match=r"posterior/more is a link to nothing"):
        relabel.open_draws(store)
    link.unlink()
    link.symlink_to(store)
    with pytest.raises(FileError, match=r"posterior/more is a link to a folder that it is in"):
        relabel.open_draws(store)
    link.unlink()
    link.symlink_to(link)
    with pytest.raises(FileError, match=r"posterior/more is a link to nothing"):
        relabel.open_draws(store)


def test_hard_linked_chunks_are_not_written_through(store, tmp_path):
    twin = tmp_path / "twin.zarr"
    shutil.copytree(store, twin, copy_function=os.link)
    before = fingerprint(twin)
    align_to(store, tmp_path / "out.zarr")
    assert fingerprint(twin) == before
    names = {p.relative_to(twin) for p in before}
    copies = [tmp_path / "out.zarr" / name for name in names]
    assert all(copy.stat().st_nlink == 1 for copy in copies if copy.exists())


# ------------------------------------------------------------------ what is no file


@pytest.mark.parametrize("place", ["posterior/pipe", "posterior/W1/pipe"])
def test_pipes_are_refused_without_waiting(place, store):
    os.mkfifo(store / place)
    began = time.monotonic()
    with pytest.raises(FileError, match=rf"in\.zarr: {place} is not an ordinary file"):
        relabel.open_draws(store)
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("name", ["zarr.json", ".zgroup"])
def test_a_pipe_instead_of_metadata_is_refused_without_waiting(name, store):
    (store / name).unlink(missing_ok=True)
    os.mkfifo(store / name)
    ended = run("convert", store, "-o", store.with_name("out.nc"))
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.endswith(f"{name} is not an ordinary file\n")


def test_sockets_and_devices_are_refused(store, monkeypatch):
    chunk = chunks(store, "posterior/W1")[0]
    chunk.unlink()
    chunk.symlink_to("/dev/zero")
    with pytest.raises(FileError, match="is not an ordinary file"):
        relabel.open_draws(store, follow_links=True)
    chunk.unlink()
    monkeypatch.chdir(chunk.parent)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(chunk.name)
        with pytest.raises(FileError, match="is not an ordinary file"):
            relabel.open_draws(store)


# ------------------------------------------------------------------ damage


@pytest.mark.parametrize("suffix", ["zarr", "nc"])
@pytest.mark.parametrize("place", ["constant_data/X", "sample_stats/lp", "posterior/sigma"])
def test_damaged_chunks_outside_the_spec_are_named(place, suffix, store):
    chunk = chunks(store, place)[0]
    chunk.write_bytes(chunk.read_bytes()[:10])
    before = fingerprint(store.parent)
    ended = run("align", store, "-o", store.with_name(f"out.{suffix}"), "--units", "h=tanh")
    if ended.returncode == 0:  # the chunk was copied as it was, and nobody had to read it
        assert suffix == "zarr"
        copy = store.with_name("out.zarr") / chunk.relative_to(store)
        assert copy.read_bytes() == chunk.read_bytes()
        return
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert str(store) in ended.stderr
    assert place in ended.stderr
    assert fingerprint(store.parent) == before


# ------------------------------------------------------------------ metadata twice


def consolidated(path, version):
    with warnings.catch_warnings(action="ignore"):
        small_tree().to_zarr(path, consolidated=True, zarr_format=version)
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_metadata_that_agree_are_read(version, tmp_path):
    store = consolidated(tmp_path / "in.zarr", version)
    assert "posterior" in relabel.open_draws(store)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("what", ["shape", "attribute", "missing", "dtype"])
def test_metadata_that_disagree_are_refused(what, version, tmp_path):
    store = consolidated(tmp_path / "in.zarr", version)
    path = store / (".zmetadata" if version == 2 else "zarr.json")
    about = json.loads(path.read_bytes())
    inner = about["metadata"] if version == 2 else about["consolidated_metadata"]["metadata"]
    key = "posterior/b1/.zarray" if version == 2 else "posterior/b1"
    if what == "shape":
        inner[key]["shape"] = [2, 10, 3]
    elif what == "dtype":
        inner[key]["dtype" if version == 2 else "data_type"] = "<f4" if version == 2 else "float32"
    elif what == "attribute":
        (inner["posterior/.zattrs"] if version == 2 else inner["posterior"]["attributes"])["x"] = 1
    else:
        for name in [name for name in inner if name.startswith("posterior/b1")]:
            del inner[name]
    path.write_text(json.dumps(about))
    with pytest.raises(FileError, match=r"consolidated metadata disagree with those of posterior"):
        relabel.open_draws(store)


# ------------------------------------------------------------------ what is in a store


def test_files_of_a_store_are_all_known(store):
    assert foreign_files(store) == []
    assert not leads_outside(store)
    assert sorted(stored_files(store)) == sorted(p for p in store.rglob("*") if p.is_file())


def test_scalars_shards_and_empty_arrays_are_known(tmp_path):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    root.create_array("scalar", data=np.array(1.5))
    root.create_array("empty", shape=(0, 3), dtype="f8")
    root.create_array("sharded", data=np.arange(64.0), chunks=(4,), shards=(16,))
    assert foreign_files(tmp_path / "a.zarr") == []
    (tmp_path / "a.zarr" / "sharded" / "c" / "4").write_text("beyond the array")
    assert [p.name for p in foreign_files(tmp_path / "a.zarr")] == ["4"]


def test_files_that_a_result_holds_are_those_of_its_source(store):
    target = store.with_name("out.zarr")
    align_to(store, target)
    assert foreign_files(target) == []


def test_metadata_that_only_a_writer_needs(tmp_path):
    store = tmp_path / "in.zarr"
    small_tree().to_zarr(store, consolidated=False, zarr_format=2)
    about = json.loads((store / "posterior" / "W1" / ".zarray").read_text())
    about["compressor"] = {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1}
    about["compressor"]["blocksize"] = float("inf")
    (store / "posterior" / "W1" / ".zarray").write_text(
        json.dumps(about).replace("Infinity", "1e400")
    )
    with pytest.raises(FileError, match=r"out\.zarr.*zarr cannot write it: .*infinity"):
        align_to(store, tmp_path / "out.zarr")
    assert not (tmp_path / "out.zarr").exists()
