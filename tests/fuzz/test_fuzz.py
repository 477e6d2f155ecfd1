"""The fuzzer on a few files, always the same; and that it sees what it looks for."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pool
import pytest
from attack import Outcome, attack
from damage import damage, damaged_json
from run import summed

FEW = range(30)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    return pool.prepare(tmp_path_factory.mktemp("originals"))


def test_a_few_damaged_files_are_read_or_refused(originals):
    found = list(pool.outcomes(attack, FEW, originals, seed=0, processes=1))
    summary = summed(found, seed=0, seconds=0.0)
    assert summary["files"] == len(FEW)
    assert summary["violations"] == []


def test_a_case_is_the_same_whatever_ran_before(originals, tmp_path):
    def damaged(case, name):
        folder = tmp_path / name
        folder.mkdir()
        generator = np.random.default_rng([0, case])
        (folder / "x.bin").write_bytes(bytes(range(256)) * 40)
        said = damage(generator, [folder / "x.bin"])
        return said, (folder / "x.bin").read_bytes()

    assert damaged(7, "one") == damaged(7, "two")
    assert damaged(7, "three") != damaged(8, "four")


@pytest.mark.parametrize("case", range(60))
def test_damage_changes_something(case, tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"a": [1, 2.5, {"b": "text"}], "c": null}', encoding="utf-8")
    before = path.read_bytes()
    said = damage(np.random.default_rng([1, case]), [path])
    assert said
    assert path.read_bytes() != before or "became" in said or "replaced" in said or "swap" in said


def test_entries_of_json_are_changed_one_at_a_time():
    said = {damaged_json(np.random.default_rng(n), '{"a": [1, 2], "b": "x"}') for n in range(40)}
    assert len(said) > 15


# A worker imports what it calls: these are at the level of the module.


def hangs(seed: int, case: int, originals: Path, folder: Path) -> Outcome:
    time.sleep(600 if case == 1 else 0)
    return Outcome(case, ended="worked")


def dies(seed: int, case: int, originals: Path, folder: Path) -> Outcome:
    if case == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    return Outcome(case, ended="worked")


@pytest.mark.parametrize(("wrong", "kind"), [(hangs, "hang"), (dies, "signal")])
def test_a_hang_and_an_end_by_a_signal_are_seen(wrong, kind, tmp_path):
    found = list(pool.outcomes(wrong, range(4), tmp_path, processes=1, timeout=8.0))
    summary = summed(found, seed=0, seconds=0.0)
    assert [(one["case"], one["kind"]) for one in summary["violations"]] == [(1, kind)]
    assert (summary["files"], summary["worked"]) == (4, 3)


def _aligns_badly(monkeypatch, change):
    """Damage nothing, and have `relabel.undo` go wrong."""
    import attack as attacking

    import relabel

    monkeypatch.setattr(attacking.damage, "damage", lambda rng, paths: "nothing: nothing")
    monkeypatch.setattr(attacking, "SHARE_OF_COMMANDS", 0.0)
    monkeypatch.setattr(attacking, "_drawn", lambda rng: attacking._all()["zarr3"])
    undo = relabel.undo
    monkeypatch.setattr(relabel, "undo", lambda draws: change(undo(draws)))


def _kinds(originals, folder):
    return {one["kind"] for one in attack(0, 0, originals, folder).violations}


def test_values_that_change_in_silence_are_seen(originals, tmp_path, monkeypatch):
    def one_more(tree):
        tree["posterior/W1"] = tree["posterior/W1"].copy()
        tree["posterior/W1"][0, 0, 0, 0] += 1e-12
        return tree

    _aligns_badly(monkeypatch, one_more)
    assert _kinds(originals, tmp_path) == {"silent"}


def test_what_is_right_is_not_blamed(originals, tmp_path, monkeypatch):
    _aligns_badly(monkeypatch, lambda tree: tree)
    assert _kinds(originals, tmp_path) == set()


def test_a_changed_source_and_what_is_left_are_seen(originals, tmp_path, monkeypatch):
    def touches(tree):
        (tmp_path / ".rest.part").write_bytes(b"x")
        (tmp_path / "in.zarr" / "zarr.json").write_bytes(b"{}")
        return tree

    _aligns_badly(monkeypatch, touches)
    assert _kinds(originals, tmp_path) == {"source", "left"}


@pytest.mark.parametrize(
    ("error", "kind"), [(KeyError("no"), "unreadable"), (OSError("no"), "unreadable")]
)
def test_errors_that_are_not_ours_are_seen(error, kind, originals, tmp_path, monkeypatch):
    def fails(tree):
        raise error

    _aligns_badly(monkeypatch, fails)
    assert _kinds(originals, tmp_path) == {kind}
