"""Who may write a name: of two writers one, and with force only over what is ours."""

import os
import re
import shutil

import numpy as np
import pytest
from files import fingerprint, run, small_tree, started, write

import relabel
from relabel import FileError
from relabel.io.writing import check_target

# The process stops before the finished file gets its name, until it is told to go on.
WAITING = """
import sys
from relabel.io import writing
named = writing._rename
def wait(*args, **options):
    print("here", flush=True)
    sys.stdin.readline()
    named(*args, **options)
writing._rename = wait
from relabel.cli.app import main
main()
"""

KINDS = ["nc", "zarr", "npz", "safetensors", "msgpack"]


def two_writers(target, *options):
    """Let two processes finish a file, then both give it the name; return them as they end."""
    source = write(small_tree(), target.parent / "in.nc")
    args = ("convert", source, "-o", target, "-q", *options)
    processes = [started(WAITING, *args) for _ in range(2)]
    try:
        for process in processes:
            assert process.stdout.readline() == "here\n", process.communicate()
        ended = []
        for process in processes:
            _, stderr = process.communicate("\n", timeout=60)
            ended.append((process.returncode, stderr))
        return ended
    finally:
        for process in processes:
            process.kill()


@pytest.mark.parametrize("suffix", KINDS)
def test_of_two_writers_one_wins(suffix, tmp_path):
    target = tmp_path / f"out.{suffix}"
    first, second = two_writers(target)
    assert first == (0, "")
    assert second[0] == 2
    assert re.fullmatch(r"error: .*: was written by another process in the meantime.*\n", second[1])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.nc", target.name]
    if suffix in ("nc", "zarr"):
        relabel.open_draws(target).load()


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_of_two_writers_by_force_the_last_wins(suffix, tmp_path):
    target = write(small_tree(draws=4), tmp_path / f"out.{suffix}")
    assert two_writers(target, "--force") == [(0, ""), (0, "")]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.nc", target.name]
    assert relabel.open_draws(target).load()["posterior"].sizes["draw"] == 20


# ------------------------------------------------------------------ force


@pytest.mark.parametrize(
    "name",
    ["notes.txt", "posterior/notes.txt", "posterior/W1/notes.txt", "posterior/W1/c/0/0/0/9"],
)
def test_a_store_with_other_files_is_not_replaced(name, tmp_path):
    source = write(small_tree(), tmp_path / "in.nc")
    target = write(small_tree(), tmp_path / "out.zarr")
    (target / name).write_text("mine")
    before = fingerprint(tmp_path)
    ended = run("convert", source, "-o", target, "--force")
    assert ended.returncode == 2
    assert re.fullmatch(f"error: .*holds files that are not Zarr's .*{name}.*\n", ended.stderr)
    assert fingerprint(tmp_path) == before


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("consolidated", [False, True])
def test_a_store_of_ours_is_replaced(version, consolidated, tmp_path):
    source = write(small_tree(), tmp_path / "in.nc")
    target = tmp_path / "out.zarr"
    small_tree(draws=4, warmup=True).to_zarr(target, zarr_format=version, consolidated=consolidated)
    relabel.save(relabel.open_draws(source), target, source=source, force=True)
    assert "warmup_posterior" not in relabel.open_draws(target)
    relabel.save(relabel.open_draws(source), target, source=source, force=True)


def test_a_file_that_the_source_has_too_is_written_again(tmp_path):
    source = write(small_tree(), tmp_path / "in.zarr")
    (source / "notes.txt").write_text("ours")
    target = tmp_path / "out.zarr"
    draws = relabel.open_draws(source)
    relabel.save(draws, target, source=source, changed=())
    relabel.save(draws, target, source=source, changed=(), force=True)
    assert (target / "notes.txt").read_text() == "ours"
    (target / "notes.txt").write_text("edited")
    with pytest.raises(FileError, match=r"not Zarr's .*notes\.txt"):
        relabel.save(draws, target, source=source, changed=(), force=True)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("out.nc", b"a letter", "its content is not netCDF"),
        ("out.npz", b"\x89HDF\r\n\x1a\n", "its content is not"),
        ("out.safetensors", b"a letter to my aunt", "its content is not"),
    ],
)
def test_a_file_of_another_kind_is_not_replaced(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileError, match=f"{name}: .*{message}"):
        check_target(tmp_path / name, None, force=True)


def test_an_empty_file_is_replaced(tmp_path):
    (tmp_path / "out.nc").touch()
    relabel.save(small_tree(), tmp_path / "out.nc", force=True)
    assert "posterior" in relabel.open_draws(tmp_path / "out.nc")


def test_folders_and_pipes_are_not_replaced(tmp_path):
    (tmp_path / "photos.zarr").mkdir()
    (tmp_path / "photos.zarr" / "one.jpg").touch()
    os.mkfifo(tmp_path / "pipe.nc")
    for name, message in (("photos.zarr", "not a Zarr store"), ("pipe.nc", "not an ordinary file")):
        with pytest.raises(FileError, match=message):
            check_target(tmp_path / name, None, force=True)


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_of_a_link_only_the_link_is_replaced(suffix, tmp_path):
    other = write(small_tree(draws=4), tmp_path / f"other.{suffix}")
    before = fingerprint(other)
    target = tmp_path / f"out.{suffix}"
    target.symlink_to(other)
    relabel.save(small_tree(), target, force=True)
    assert not target.is_symlink()
    assert fingerprint(other) == before


def test_a_link_in_a_store_is_not_ours(tmp_path):
    target = write(small_tree(), tmp_path / "out.zarr")
    shutil.rmtree(target / "sample_stats")
    (tmp_path / "elsewhere").mkdir()
    np.save(tmp_path / "elsewhere" / "kept.npy", np.arange(3))
    (target / "sample_stats").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileError, match="sample_stats"):
        relabel.save(small_tree(), target, force=True)
    assert (tmp_path / "elsewhere" / "kept.npy").exists()
