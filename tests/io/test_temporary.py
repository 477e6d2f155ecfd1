"""The private folder beside a target: nobody else's link is followed, and nothing is left."""

import os
import re
import signal
import time

import pytest
from files import fingerprint, run, small_tree, started, write

import relabel
from relabel.io import temporary
from relabel.io.temporary import abandoned, private_folder, put

HOLDING = """
import sys, time
from pathlib import Path
from relabel.io.temporary import private_folder
with private_folder(Path(sys.argv[1])) as folder:
    (folder / "half").write_bytes(b"half of it")
    print("here", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def killed(tmp_path):
    """A private folder whose process was killed."""
    process = started(HOLDING, tmp_path / "out.nc")
    assert process.stdout.readline() == "here\n"
    assert abandoned(tmp_path) == []  # it lives
    process.kill()
    process.communicate()
    (part,) = tmp_path.iterdir()
    return part


def test_names_are_random_and_folders_private(tmp_path):
    target = tmp_path / "out.nc"
    with private_folder(target) as one, private_folder(target) as other:
        assert one != other
        for part in (one, other):
            assert re.fullmatch(r"\.out\.nc\.[0-9a-f]{16}\.part", part.name)
            assert part.stat().st_mode & 0o777 == 0o700
        assert abandoned(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_planted_link_is_not_followed(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "lock.new").write_text("precious")
    folder = tmp_path / "work"
    folder.mkdir()
    planted = folder / f".out.nc.{'0' * 16}.part"
    planted.symlink_to(victim)
    names = iter(["0" * 16, "1" * 16])
    monkeypatch.setattr(temporary.secrets, "token_hex", lambda _: next(names))
    with private_folder(folder / "out.nc") as part:
        assert part.name == f".out.nc.{'1' * 16}.part"
    assert planted.is_symlink()
    assert [p.name for p in victim.iterdir()] == ["lock.new"]
    assert (victim / "lock.new").read_text() == "precious"


@pytest.mark.parametrize("error", [OSError(28, "full"), KeyboardInterrupt(), SystemExit(143)])
def test_nothing_is_left_of_a_failure(error, tmp_path):
    def fail():
        with private_folder(tmp_path / "out.zarr") as part:
            (part / "out.zarr" / "deep").mkdir(parents=True)
            (part / "out.zarr" / "deep" / "c").write_bytes(b"chunk")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_second_signal_does_not_stop_the_removal(tmp_path, monkeypatch):
    remove, calls = temporary._remove, []

    def interrupted(part):
        calls.append(part)
        if len(calls) == 1:
            raise KeyboardInterrupt
        remove(part)

    monkeypatch.setattr(temporary, "_remove", interrupted)
    with pytest.raises(KeyboardInterrupt), private_folder(tmp_path / "out.nc"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_told_of(killed):
    (said,) = abandoned(killed.parent)
    assert said == f"{killed} was left by a run that was killed; delete it"
    assert (killed / "half").read_bytes() == b"half of it"  # and is not touched


def test_the_former_content_is_told_of(killed):
    (killed / "replaced").mkdir()
    (said,) = abandoned(killed.parent)
    assert said.endswith(f"as it replaced out.nc; its former content is in {killed / 'replaced'}")


def test_functions_warn_and_the_command_says_so_once(killed):
    folder = killed.parent
    source = write(small_tree(), folder / "in.nc")
    with pytest.warns(UserWarning, match="was left by a run that was killed"):
        relabel.save(relabel.open_draws(source), folder / "one.nc", source=source, changed=())
    done = run("convert", source, "-o", folder / "two.nc")
    assert done.returncode == 0
    assert done.stderr == f"note: {killed} was left by a run that was killed; delete it\n"


@pytest.mark.parametrize("files", [(), ("lock.new",)])
def test_a_process_may_be_killed_before_it_has_its_lock(files, tmp_path):
    part = tmp_path / f".out.nc.{'a' * 16}.part"
    part.mkdir()
    for name in files:
        (part / name).touch()
    assert abandoned(tmp_path) == []  # it may be about to lock it
    grow_old(part, 2 * temporary._YOUNG)
    assert len(abandoned(tmp_path)) == 1


def test_without_locks_age_tells(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(temporary.fcntl, "flock", flock)
    with private_folder(tmp_path / "out.nc") as part:
        assert [path.name for path in part.iterdir()] == ["lock.new"]
        grow_old(part, 2 * temporary._YOUNG)
        assert abandoned(tmp_path) == []
        grow_old(part, 2 * temporary._AGE)
        assert len(abandoned(tmp_path)) == 1


def grow_old(path, seconds):
    then = time.time() - seconds
    os.utime(path, (then, then))


@pytest.mark.parametrize("plant", ["link", "pipe"])
def test_a_planted_lock_is_not_opened(plant, tmp_path):
    part = tmp_path / f".out.nc.{'a' * 16}.part"
    part.mkdir()
    if plant == "link":
        (part / "lock").symlink_to(tmp_path / "nothing")
    else:
        os.mkfifo(part / "lock")
    began = time.monotonic()
    abandoned(tmp_path)
    assert time.monotonic() - began < 1
    assert not (tmp_path / "nothing").exists()


def test_links_and_other_names_are_not_private_folders(tmp_path):
    (tmp_path / f".out.nc.{'a' * 16}.part").symlink_to(tmp_path)
    (tmp_path / ".out.nc.12345.part").mkdir()
    assert abandoned(tmp_path) == []
    assert abandoned(tmp_path / "no such folder") == []


# ------------------------------------------------------------------ names


@pytest.fixture
def new(tmp_path):
    """Something finished, a file or a folder, and the name it is to have."""

    def made(folder):
        part = tmp_path / "part"
        part.mkdir()
        path = part / "out"
        if folder:
            path.mkdir()
            (path / "content").write_text("new")
        else:
            path.write_text("new")
        return path, tmp_path / "out"

    return made


def content(path):
    return (path / "content" if path.is_dir() else path).read_text()


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("folder", [False, True])
def test_a_name_is_taken_only_once(folder, links, new, monkeypatch):
    path, target = new(folder)
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError()))
    put(path, target, force=False)
    assert content(target) == "new"
    path.parent.joinpath("out2").write_text("newer")
    with pytest.raises(FileExistsError):
        put(path.parent / "out2", target, force=False)
    assert content(target) == "new"


@pytest.mark.parametrize("folder", [False, True])
def test_of_a_link_the_link_is_replaced(folder, new, tmp_path):
    path, target = new(folder)
    other = tmp_path / "other"
    other.mkdir() if folder else other.write_text("old")
    target.symlink_to(other)
    put(path, target, force=True)
    assert not target.is_symlink()
    assert content(target) == "new"
    assert list(other.iterdir()) == [] if folder else other.read_text() == "old"


@pytest.mark.parametrize("at_once", [True, False])
def test_a_folder_is_replaced(at_once, new, monkeypatch):
    path, target = new(True)
    target.mkdir()
    (target / "content").write_text("old")
    if not at_once:
        monkeypatch.setattr(temporary, "_exchanged", lambda *_: False)
    put(path, target, force=True)
    assert content(target) == "new"


def test_a_kill_leaves_source_and_target_whole(tmp_path):
    source = write(small_tree(), tmp_path / "in.zarr")
    target = write(small_tree(draws=4), tmp_path / "out.zarr")
    before = fingerprint(tmp_path)
    code = (
        "import os, signal, sys, relabel.io.writing as w\n"
        "w._sync = lambda new: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from relabel.cli.app import main; main()"
    )
    ended = run("convert", source, "-o", target, "--force", code=code)
    assert ended.returncode == -signal.SIGKILL
    now = fingerprint(tmp_path)
    assert before.items() <= now.items()
    extra = {path.relative_to(tmp_path).parts[0] for path in now.keys() - before.keys()}
    assert [bool(temporary._PART.fullmatch(name)) for name in extra] == [True]
    assert relabel.open_draws(target).load()["posterior"].sizes["draw"] == 4
