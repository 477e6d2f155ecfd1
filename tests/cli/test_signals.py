"""Signals end the command, at any step, and nothing is left."""

import logging
import signal
from contextlib import contextmanager

import pytest
from files import SPEC, fingerprint, run, small_tree, started, write

import relabel
from relabel.cli.signals import ending_on_signals

# The process says where it is, and stays there: before the finished file gets its name, amid the
# writing of it (zarr then has other threads that write), or before any work.
STAYING = """
import sys, time
where = sys.argv.pop(1)
def stay(*args, **options):
    print("here", flush=True)
    time.sleep(60)
if where == "rename":
    from relabel.io import writing
    writing._rename = stay
elif where == "sync":
    from relabel.io import writing
    writing._sync = stay
else:
    from relabel.io import reading
    reading.open_draws = stay
from relabel.cli.app import main
main()
"""

STATUS = {signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGINT: 130}


def ended_by(process, *numbers):
    """Send signals as soon as the process is where it should be; return how it ended."""
    try:
        assert process.stdout.readline() == "here\n", process.communicate()
        for number in numbers:
            process.send_signal(number)
        _, stderr = process.communicate(timeout=30)
        return process.returncode, stderr
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("suffix", ["nc", "zarr", "npz"])
@pytest.mark.parametrize("number", STATUS)
def test_a_signal_leaves_nothing(number, suffix, tmp_path):
    source = write(small_tree(), tmp_path / "in.nc")
    before = fingerprint(tmp_path)
    args = ("sync", "convert", source, "-o", tmp_path / f"out.{suffix}")
    status, stderr = ended_by(started(STAYING, *args), number)
    assert status == STATUS[number]
    said = "interrupted: nothing was written\n" if number == signal.SIGINT else ""
    assert stderr == said
    assert fingerprint(tmp_path) == before
    assert [p.name for p in tmp_path.iterdir()] == ["in.nc"]


@pytest.mark.parametrize("where", ["open", "rename"])
def test_at_other_steps_too(where, tmp_path):
    source = write(small_tree(), tmp_path / "in.zarr")
    target = write(small_tree(draws=4), tmp_path / "out.zarr")
    before = fingerprint(tmp_path)
    args = (where, "convert", source, "-o", target, "--force")
    assert ended_by(started(STAYING, *args), signal.SIGTERM) == (143, "")
    assert fingerprint(tmp_path) == before
    assert len(list(tmp_path.iterdir())) == 2


def test_undo_ends_too(tmp_path):
    aligned = relabel.align(small_tree(), SPEC)
    relabel.save(aligned, tmp_path / "in.nc")
    args = ("rename", "undo", tmp_path / "in.nc", "-o", tmp_path / "out.nc")
    assert ended_by(started(STAYING, *args), signal.SIGTERM) == (143, "")
    assert [p.name for p in tmp_path.iterdir()] == ["in.nc"]


def test_several_signals_are_as_one(tmp_path):
    """A session that ends sends SIGTERM and SIGHUP; some send SIGTERM twice."""
    source = write(small_tree(), tmp_path / "in.nc")
    args = ("sync", "convert", source, "-o", tmp_path / "out.zarr")
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
    status, stderr = ended_by(started(STAYING, *args), *numbers)
    assert status in STATUS.values()
    assert stderr in ("", "interrupted: nothing was written\n")
    assert [p.name for p in tmp_path.iterdir()] == ["in.nc"]


def test_a_signal_that_is_ignored_stays_ignored(tmp_path):
    source = write(small_tree(), tmp_path / "in.nc")
    code = (
        "import os, signal\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does\n"
        "from relabel.io import writing\n"
        "writing._sync = lambda new: os.kill(os.getpid(), signal.SIGHUP)\n"
        "from relabel.cli.app import main; main()"
    )
    ended = run("convert", source, "-o", tmp_path / "out.nc", code=code)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (tmp_path / "out.nc").exists()


READING = """
import asyncio, sys, time
from zarr.codecs import zstd
decode = zstd.ZstdCodec._decode_single
async def slow(self, *args):
    print("here", flush=True)
    await asyncio.sleep(60)
zstd.ZstdCodec._decode_single = slow
from relabel.cli.app import main
main()
"""


@pytest.mark.parametrize("number", STATUS)
def test_tasks_of_zarr_that_are_not_done_are_not_spoken_of(number, tmp_path):
    source = write(small_tree(), tmp_path / "in.zarr")
    args = ("align", source, "-o", tmp_path / "out.zarr", "--units", "h=tanh")
    status, stderr = ended_by(started(READING, *args), number)
    assert status == STATUS[number]
    assert stderr == ("interrupted: nothing was written\n" if number == signal.SIGINT else "")
    assert [p.name for p in tmp_path.iterdir()] == ["in.zarr"]


def test_ctrl_c_while_the_command_is_imported():
    code = (
        "import runpy, sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'relabel.cli.app': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "runpy.run_module('relabel', run_name='__main__')"
    )
    ended = run("convert", "in.nc", code=code)
    assert (ended.returncode, ended.stderr) == (130, "interrupted: nothing was written\n")


@contextmanager
def quiet_asyncio_put_back():
    level = logging.getLogger("asyncio").level
    try:
        yield
    finally:
        logging.getLogger("asyncio").setLevel(level)


def test_handlers_are_put_back():
    def mine(*_):
        raise AssertionError

    before = signal.signal(signal.SIGHUP, mine)
    try:
        others = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        with quiet_asyncio_put_back(), ending_on_signals():
            assert signal.getsignal(signal.SIGHUP) is mine
            with pytest.raises(SystemExit) as ended:
                signal.raise_signal(signal.SIGTERM)
        assert ended.value.code == 143
        assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == others
    finally:
        signal.signal(signal.SIGHUP, before)
