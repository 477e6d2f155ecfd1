"""A check of another package: in Python, in the command, in the schema, in files."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import jsonschema
import numpy as np
import pytest

import relabel
from relabel.diagnostics.checks import CHECKS
from relabel.diagnostics.checks.base import Case, Check
from relabel.diagnostics.checks.null import NullCheck
from relabel.diagnostics.diagnosis import schema
from relabel.diagnostics.finding import Finding
from relabel.simulate import network

SITE = Path(__file__).parent / "site"
SET = "most_moved=0.01"


@pytest.fixture(scope="module")
def aligned():
    simulated = network((2, 3, 1), "tanh", chains=2, draws=20)
    return relabel.align(simulated.data, simulated.spec)


@pytest.fixture(scope="module")
def right(aligned):
    """The diagnosis without checks of others."""
    return relabel.diagnose(aligned)[1]


def test_it_costs_one_file_and_one_line():
    """Nothing else in this package or in the example speaks of it."""
    naming = [
        path
        for root in (SITE, Path(relabel.__file__).parent)
        for path in root.rglob("*")
        if path.suffix in {".py", ".txt", ".json"}
        and re.search(r"MovedCheck|most_moved|much-moved", path.read_text(encoding="utf-8"))
    ]
    assert sorted(path.name for path in naming) == ["check.py", "entry_points.txt"]
    lines = (SITE / "relabel_example-0.1.dist-info" / "entry_points.txt").read_text().splitlines()
    assert sum("MovedCheck" in line for line in lines) == 1


def test_it_shows_wherever_checks_show(installed, aligned, tmp_path):
    data, found = relabel.diagnose(aligned)
    index = aligned["relabel"]["h_index"].values
    share = float((index != np.arange(3)).mean())
    assert found.numbers["moved"] == {"h": pytest.approx(share)}
    assert found.to_dataframe()["moved"].mean() == pytest.approx(share)
    assert f"moved       h: {share:.0%} of the labels" in str(found)
    assert "much-moved" not in found.codes
    assert "moved" in schema()["properties"]
    jsonschema.Draft202012Validator(schema()).validate(json.loads(found.to_json()))
    relabel.save(data, tmp_path / "a.nc")
    moved = relabel.open_draws(tmp_path / "a.nc")["relabel"]["h_moved"]
    assert moved.dims == ("chain", "draw")
    assert moved.attrs["long_name"] == "number of labels that alignment changed"
    np.testing.assert_array_equal(moved, (index != np.arange(3)).sum(axis=2))
    assert "h_moved" not in relabel.align(data, {"h": "tanh"})["relabel"]


def test_its_threshold_is_one_like_others(installed, aligned):
    _, found = relabel.diagnose(aligned, thresholds=relabel.Thresholds(most_moved=0.01))
    (finding,) = [f for f in found.findings if f.code == "much-moved"]
    assert finding.evidence == {"share": found.numbers["moved"]["h"]}
    assert relabel.Thresholds().most_moved == 0.999
    with pytest.raises(relabel.SpecError, match="threshold most_moved must be a number between"):
        relabel.Thresholds(most_moved=1)


def test_without_the_package_nothing_of_it_is_known(aligned):
    assert "moved" not in CHECKS
    assert "moved" not in schema()["properties"]
    with pytest.raises(relabel.SpecError, match="there is no threshold 'most_moved'"):
        relabel.Thresholds(most_moved=0.01)


def test_a_diagnosis_is_read_without_the_package(installed, aligned, run, tmp_path):
    data, found = relabel.diagnose(aligned)
    relabel.save(data, tmp_path / "a.nc")
    assert json.loads(data["relabel"].attrs["relabel"])["diagnosis"] == found.to_dict()
    done = run("diagnose", tmp_path / "a.nc", "--json", installed=False)
    assert done.returncode == 0, done.stderr
    assert "moved" not in json.loads(done.stdout)


def test_the_command(aligned, run, tmp_path):
    relabel.save(aligned, tmp_path / "a.nc")
    done = run("diagnose", tmp_path / "a.nc", "--json", "--set", SET, "-o", tmp_path / "b.nc")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["moved"]["h"] > 0.01
    assert "much-moved" in [finding["code"] for finding in found["findings"]]
    assert "h_moved" in relabel.open_draws(tmp_path / "b.nc")["relabel"]
    done = run("diagnose", tmp_path / "a.nc")
    assert "moved       h: " in done.stdout
    done = run("diagnose", tmp_path / "a.nc", "--set", SET, installed=False)
    assert done.returncode == 2
    assert "there is no threshold 'most_moved'" in done.stderr


# ---------------------------------------------------------------------- checks that go wrong


@dataclass(frozen=True)
class Broken(Check[int]):
    """A check of another package, which one test or the other breaks."""

    name: ClassVar = "broken"

    def run(self, case: Case) -> int:
        return 1


@dataclass(frozen=True)
class Dependent(Check[int]):
    """Needs the broken one."""

    name: ClassVar = "dependent"
    needs: ClassVar = (Broken,)

    def run(self, case: Case) -> int:
        return case[Broken]


@pytest.fixture
def broken(monkeypatch):
    """Register the check with one method replaced."""

    def breaking(**methods):
        for name, method in methods.items():
            monkeypatch.setattr(Broken, name, method)

    monkeypatch.setattr(CHECKS, "_known", dict(CHECKS._known))
    CHECKS.register("broken", Broken)
    CHECKS.register("dependent", Dependent)
    return breaking


def divides_by_zero(self, *args):
    return 1 / 0


def twice(self, case, result):
    return {"loss": case.aligned.groups["relabel"]["loss"].variable}


def other_shape(self, case, result):
    return {"own": case.aligned.groups["relabel"]["h_index"].variable[..., :2]}


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ({"run": divides_by_zero}, "ZeroDivisionError: division by zero"),
        ({"findings": divides_by_zero}, "ZeroDivisionError: division by zero"),
        ({"measure": divides_by_zero}, "ZeroDivisionError: division by zero"),
        ({"measure": lambda self, case, result: {}}, "measurements are not of the type Nothing"),
        ({"measure_slots": lambda *_: {"h": []}}, "there are 0 rows for the 3 slots of 'h'"),
        ({"variables": twice}, "there is a variable 'loss' already"),
        ({"variables": other_shape}, "conflicting sizes"),
        ({"findings": lambda *_: [Finding("own", "info", "")]}, "'own' is not among its codes"),
        (
            {"findings": lambda *_: [Finding("open", "info", "", {"a": object()})]},
            "not JSON serializable",
        ),
    ],
)
def test_an_error_is_a_finding_and_the_others_are_not_lost(aligned, right, broken, methods, said):
    broken(**methods)
    data, found = relabel.diagnose(aligned)
    assert found.codes[0] == "check-failed"
    first = found.findings[0]
    assert first.message.startswith("the check 'broken' failed (")
    assert said in first.message
    assert (first.severity, first.evidence["check"]) == ("error", "broken")
    assert not found.labels_trustworthy
    assert found.numbers == right.numbers
    (dependent,) = [f for f in found.findings if f.evidence.get("question") == "dependent"]
    assert "the check 'broken', which it needs, failed" in dependent.message
    rest = [f for f in found.findings if f not in (first, dependent)]
    assert rest == list(right.findings)
    assert "h_label_probability" in data["relabel"]
    assert "!! check-failed: the check 'broken' failed" in str(found)


def test_what_is_wrong_with_the_input_is_an_error(aligned, broken):
    def refuses(self, case):
        raise relabel.SpecError("this input does not fit")

    broken(run=refuses)
    with pytest.raises(relabel.SpecError, match="this input does not fit"):
        relabel.diagnose(aligned)


def test_an_error_of_a_check_of_this_package_is_raised(aligned, monkeypatch):
    monkeypatch.setattr(NullCheck, "run", divides_by_zero)
    with pytest.raises(ZeroDivisionError):
        relabel.diagnose(aligned)


def test_lines_that_cannot_be_shown(aligned, broken):
    broken(lines=lambda self, numbers: [("own", numbers["nothing"])])
    _, found = relabel.diagnose(aligned)
    assert re.search(r"^broken +cannot be shown \(KeyError: 'nothing'\)$", str(found), re.MULTILINE)
