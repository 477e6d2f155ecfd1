"""How a file gets its name: whole or not at all, once, and nothing is left behind."""

import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr

import relabel
from relabel import FileError
from relabel.io.temporary import abandoned, private_folder, put

COMMAND = [sys.executable, "-m", "relabel"]


def draws(n=50):
    rng = np.random.default_rng(0)
    mu = rng.permuted(np.array([0.0, 5, 10]) + 0.1 * rng.normal(size=(2, n, 3)), axis=2)
    return xr.DataTree.from_dict({"posterior": xr.Dataset({"mu": (("chain", "draw", "k"), mu)})})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("suffix", [".nc", ".zarr", ".npz", ".safetensors", ".msgpack"])
def test_nothing_but_the_target_is_there(suffix, tmp_path):
    relabel.save(draws(), tmp_path / f"out{suffix}")
    assert names(tmp_path) == [f"out{suffix}"]


def test_the_folder_is_private_and_goes_whatever_happens(tmp_path):
    def interrupted():
        with private_folder(tmp_path / "out.nc") as folder:
            assert folder.parent == tmp_path
            assert folder.stat().st_mode & 0o777 == 0o700
            (folder / "out.nc").write_bytes(b"half")
            assert abandoned(tmp_path) == []  # its process lives
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names(tmp_path) == []


def test_names_are_random(tmp_path):
    with private_folder(tmp_path / "a.nc") as one, private_folder(tmp_path / "a.nc") as two:
        assert one != two


@pytest.mark.parametrize("folder", [False, True])
def test_one_of_two_writers_wins(folder, tmp_path):
    target = tmp_path / "out"
    with private_folder(target) as one, private_folder(target) as two:
        for number, part in enumerate((one, two)):
            new = part / "out"
            if folder:
                new.mkdir()
                new = new / "inside"
            new.write_text(str(number))
        put(one / "out", target, force=False)
        with pytest.raises(FileExistsError):
            put(two / "out", target, force=False)
        assert (target / "inside" if folder else target).read_text() == "0"
        put(two / "out", target, force=True)
        assert (target / "inside" if folder else target).read_text() == "1"


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_two_commands_that_write_one_name(suffix, tmp_path):
    source = tmp_path / "in.nc"
    relabel.save(draws(), source)
    line = [*COMMAND, "align", str(source), "-o", str(tmp_path / f"out{suffix}"), "-q"]
    line += ["--units", "k=permutation"]
    both = [subprocess.Popen(line, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate(timeout=100)[1] for process in both]
    statuses = sorted(process.returncode for process in both)
    assert statuses == [0, 2], errors
    assert sum("exist" in error or "another process" in error for error in errors) == 1
    assert names(tmp_path) == ["in.nc", f"out{suffix}"]
    assert relabel.open_draws(tmp_path / f"out{suffix}")["relabel"]


def test_what_a_killed_run_left_is_told_of(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from relabel.io.temporary import *\n"
        "with private_folder(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "out.nc")], check=False)
    (left,) = names(tmp_path)
    with pytest.warns(UserWarning, match=f"{left} was left by a run that was killed; delete it"):
        relabel.save(draws(), tmp_path / "out.nc")
    assert names(tmp_path) == [left, "out.nc"]


SLOW = """
import sys, time
import relabel.io.writing, relabel.cli.app
def slow(new):
    print("here", flush=True)
    time.sleep(60)
relabel.io.writing._sync = slow
relabel.cli.app.main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_leave_nothing(number, tmp_path):
    source = tmp_path / "in.nc"
    relabel.save(draws(), source)
    line = [sys.executable, "-c", SLOW, "convert", str(source), "-o", str(tmp_path / "out.zarr")]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "here\n"
    time.sleep(0.1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert "Traceback" not in errors
    assert names(tmp_path) == ["in.nc"]


def test_force_replaces_only_what_would_be_written(tmp_path):
    store = tmp_path / "out.zarr"
    relabel.save(draws(), store)
    relabel.save(draws(20), store, force=True)
    assert relabel.open_draws(store)["posterior"].sizes["draw"] == 20
    (store / "notes.txt").write_text("mine")
    with pytest.raises(FileError, match=r"holds files that are not Zarr's .*notes\.txt"):
        relabel.save(draws(), store, force=True)
    assert (store / "notes.txt").read_text() == "mine"
    text = tmp_path / "out.nc"
    text.write_text(json.dumps({"not": "draws"}))
    with pytest.raises(FileError, match="its content is not netCDF, so it is not replaced"):
        relabel.save(draws(), text, force=True)
    assert json.loads(text.read_text()) == {"not": "draws"}


def test_of_a_link_only_the_link_is_replaced(tmp_path):
    real = tmp_path / "real.nc"
    relabel.save(draws(), real)
    before = real.read_bytes()
    (tmp_path / "out.nc").symlink_to(real)
    relabel.save(draws(20), tmp_path / "out.nc", force=True)
    assert real.read_bytes() == before
    assert not (tmp_path / "out.nc").is_symlink()


FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
sys.argv = ["relabel", *sys.argv[2:]]
from relabel.cli.app import main
main()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="no limits on the size of files")
@pytest.mark.parametrize("suffix", [".nc", ".zarr", ".npz", ".safetensors", ".msgpack"])
def test_a_full_disk_leaves_one_line_and_nothing_else(suffix, tmp_path):
    source = tmp_path / "in.nc"
    relabel.save(draws(2000), source)
    size = 2 * 2000 * 3 * 8
    for limit in (10, size // 3, size - 100):
        target = tmp_path / f"out{suffix}"
        line = [sys.executable, "-c", FULL, str(limit), "convert", str(source), "-o", str(target)]
        ran = subprocess.run(line, capture_output=True, text=True, check=False, timeout=100)
        if ran.returncode == 0:  # in pieces, or compressed, it fits
            shutil.rmtree(target) if target.is_dir() else target.unlink()
            continue
        assert ran.returncode == 2, ran.stderr
        assert len(ran.stderr.strip().splitlines()) == 1, ran.stderr
        assert ran.stderr.startswith(f"error: {target}: could not be written:"), ran.stderr
        assert names(tmp_path) == ["in.nc"]
        assert source.exists()
