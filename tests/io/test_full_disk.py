"""A full disk, at many points of each writer: an error of one line, and nothing left."""

import errno
import resource
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from files import fingerprint, run, small_tree, write

import relabel
from relabel import FileError, simulate

POINTS = 20
NEEDS = {"safetensors": "safetensors", "msgpack": "msgpack", "pt": "torch"}
WRITERS = ["nc", "zarr", "npz", "npy", "safetensors", "msgpack", "pt"]

LIMITED = """
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


def draws_for(suffix):
    """Draws that this writer takes."""
    if NEEDS.get(suffix) and find_spec(NEEDS[suffix]) is None:
        pytest.skip(f"{NEEDS[suffix]} is not installed")
    tree = simulate.network((2, 3, 1), "tanh", chains=2, draws=300, rng=3).data
    if suffix == "npy":
        tree["posterior"] = tree["posterior"].to_dataset()[["W1"]]
    return tree


def limits(path):
    """Twenty sizes below that of the largest file, more of them near its end."""
    whole = max(len(content) for content, _ in fingerprint(path).values())
    return sorted({int(whole * (1 - (1 - k / POINTS) ** 2) * 0.97) for k in range(POINTS)})


@pytest.mark.parametrize("suffix", WRITERS)
def test_nothing_is_left_at_twenty_points(suffix, tmp_path):
    data = draws_for(suffix)
    relabel.save(data, tmp_path / f"whole.{suffix}")
    relabel.save(data, tmp_path / f"old.{suffix}")
    before = fingerprint(tmp_path)
    names = sorted(tmp_path.iterdir())
    tried = limits(tmp_path / f"whole.{suffix}")
    assert len(tried) == POINTS
    for limit in tried:
        for name in ("new", "old"):
            with largest_file(limit), pytest.raises(FileError) as failed:
                relabel.save(data, tmp_path / f"{name}.{suffix}", force=True)
            assert str(failed.value).count("\n") == 0, limit
            assert "could not be written" in str(failed.value)
            assert fingerprint(tmp_path) == before, limit
            assert sorted(tmp_path.iterdir()) == names, limit


@pytest.mark.parametrize("start", ["nc", "zarr"])
def test_a_store_at_every_file(start, tmp_path, monkeypatch):
    """Whichever file of a store is the first that does not fit."""
    source = write(small_tree(), tmp_path / f"in.{start}")
    draws = relabel.open_draws(source)
    before = fingerprint(tmp_path)
    write_bytes, written, room = Path.write_bytes, [], 0

    def full(self, content):
        written.append(self)
        if len(written) > room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    failures = []
    while (failure := failure_of(draws, tmp_path / "out.zarr", source)) is not None:
        failures.append(failure)
        written.clear()
        room += 1 if start == "zarr" else 4
        assert fingerprint(tmp_path) == before
        assert len(list(tmp_path.iterdir())) == 1
    assert len(failures) >= (2 if start == "zarr" else 10)
    said = f"{tmp_path / 'out.zarr'}: could not be written: No space left on device"
    assert set(failures) == {said}


def failure_of(draws, target, source):
    """What is said when draws cannot be written, None if they could."""
    try:
        relabel.save(draws, target, source=source, changed=["posterior/W1", "posterior/b1"])
    except FileError as error:
        return str(error)
    return None


@pytest.mark.parametrize("share", [0.0, 0.4, 0.9])
@pytest.mark.parametrize("suffix", ["nc", "zarr", "npz", "safetensors", "msgpack"])
def test_the_command_says_one_line(suffix, share, tmp_path):
    draws_for(suffix)
    source = write(small_tree(draws=300), tmp_path / "in.nc")
    whole = tmp_path / f"whole.{suffix}"
    relabel.save(relabel.open_draws(source), whole, source=source, changed=())
    limit = int(share * max(len(content) for content, _ in fingerprint(whole).values()))
    before, names = fingerprint(tmp_path), sorted(tmp_path.iterdir())
    ended = run(limit, "convert", source, "-o", tmp_path / f"out.{suffix}", code=LIMITED)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert ended.stderr.startswith(f"error: {tmp_path / 'out'}.{suffix}: could not be written: ")
    assert fingerprint(tmp_path) == before
    assert sorted(tmp_path.iterdir()) == names
