"""Checks as such: their order, what they may ask of one another, thresholds, and the schema."""

import copy
import json
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pytest

import relabel
from relabel import SpecError, Thresholds
from relabel.diagnostics.aligned import Aligned
from relabel.diagnostics.checks import BUILT_IN, CHECKS, registered
from relabel.diagnostics.checks.base import Case, Check, Threshold
from relabel.diagnostics.checks.certainty import CertaintyCheck
from relabel.diagnostics.checks.chains import ChainsCheck
from relabel.diagnostics.checks.modes import ModesCheck
from relabel.diagnostics.checks.null import NullCheck
from relabel.diagnostics.checks.outputs import OutputsCheck
from relabel.diagnostics.checks.redundancy import RedundancyCheck
from relabel.diagnostics.diagnosis import schema
from relabel.diagnostics.finding import Finding
from relabel.diagnostics.measurements import ABSENT, plain_values, schema_of
from relabel.diagnostics.running import in_order, run_checks, with_needs
from relabel.diagnostics.thresholds import declared_thresholds
from relabel.diagnostics.write_schema import PATH, shipped_schema
from relabel.simulate import network


@pytest.fixture
def register(monkeypatch):
    """Register checks for one test, as a package of its own would."""
    monkeypatch.setattr(CHECKS, "_known", dict(CHECKS._known))
    return lambda *checks: [CHECKS.register(check.name, check) for check in checks]


def aligned_draws():
    simulated = network((2, 3, 1), "tanh", chains=2, draws=30)
    return relabel.align(simulated.data, simulated.spec)


# ---------------------------------------------------------------------- the registry


def test_every_built_in_check_is_registered_in_order():
    assert tuple(registered()) == BUILT_IN
    assert [check.name for check in BUILT_IN] == list(CHECKS)


def test_what_a_check_needs_runs_before_it():
    names = [check.name for check in in_order(registered())]
    assert sorted(names) == sorted(CHECKS)
    for check in BUILT_IN:
        for other in (*check.needs, *check.uses):
            assert names.index(other.name) < names.index(check.name)


def test_the_order_is_stable():
    free = [check for check in BUILT_IN if not check.needs and not check.uses]
    assert in_order(free) == free
    assert in_order(free[::-1]) == free[::-1]
    assert in_order([ModesCheck, OutputsCheck, CertaintyCheck])[:2] == [
        OutputsCheck,
        CertaintyCheck,
    ]


def test_some_checks_with_all_that_they_need():
    found = with_needs([CertaintyCheck])
    assert set(found) == {CertaintyCheck, *CertaintyCheck.needs}
    assert RedundancyCheck not in found


def test_every_check_has_a_file_and_a_question_of_its_own():
    modules = {check.__module__ for check in BUILT_IN}
    assert len(modules) == len(BUILT_IN)
    for check in BUILT_IN:
        assert check.__module__.rpartition(".")[2] == check.name
        assert check.__doc__
        assert set(check.unjudged) <= set(check.codes)


@dataclass(frozen=True)
class Alone(Check[int]):
    """Needs something that nobody registered."""

    name: ClassVar = "alone"

    def run(self, case: Case) -> int:
        return 1


@dataclass(frozen=True)
class Needy(Check[int]):
    """Needs what is not there."""

    name: ClassVar = "needy"
    needs: ClassVar = (Alone,)

    def run(self, case: Case) -> int:
        return case[Alone] + 1


def test_a_need_that_is_not_registered(register):
    register(Needy)
    with pytest.raises(SpecError, match="check 'needy' needs 'alone', which is not registered"):
        relabel.diagnose(aligned_draws())
    register(Alone)
    names = [check.name for check in in_order(registered())]
    assert names[-2:] == ["alone", "needy"]


def test_what_is_no_check_is_refused(register):
    class Undecorated(Alone):
        name: ClassVar = "undecorated"

    for name, entry in (("plain", object()), ("undecorated", Undecorated), ("other", Alone)):
        CHECKS._known[name] = entry
        with pytest.raises(SpecError, match=f"the check '{name}' must be a frozen dataclass"):
            registered()
        del CHECKS._known[name]


def test_a_check_gets_only_what_it_has_declared():
    case = Case(Aligned.read(aligned_draws()))
    with pytest.raises(LookupError, match="'outputs' is not declared among needs or uses"):
        case.get(OutputsCheck)
    done = run_checks(case, [check() for check in in_order([OutputsCheck, ChainsCheck])])
    assert done["chains"].result.sound.all()
    blank = Case(case.aligned, results={"outputs": None})
    assert blank.get(OutputsCheck) is None
    with pytest.raises(LookupError, match="has no result; declare it among needs"):
        blank[OutputsCheck]


def test_a_check_without_what_it_needs_leaves_its_keys_blank():
    done = run_checks(Case(Aligned.read(aligned_draws())), [NullCheck()])
    assert done["null"].result is None
    assert done["null"].numbers["variance_explained"] is None
    assert done["null"].findings == []


# ---------------------------------------------------------------------- thresholds


def test_thresholds_are_the_fields_of_checks():
    declared = declared_thresholds()
    assert set(declared) == {entry.name for check in BUILT_IN for entry in fields(check)}
    for name, (default, threshold) in declared.items():
        assert getattr(Thresholds(), name) == default
        assert 0 < default < (threshold.below or np.inf)
        assert f"    {name} : float, default {default:g}\n" in Thresholds.__doc__
        assert name in dir(Thresholds())
    for check in BUILT_IN:
        for entry in fields(check):
            about = declared[entry.name][1].about
            assert any(f"``{code}``" in about for code in check.codes), (check.name, entry.name)


def test_thresholds_reach_the_checks_that_declare_them():
    chosen = Thresholds(confidence=0.5, alpha=0.2)
    assert chosen.applied(CertaintyCheck) == CertaintyCheck(confidence=0.5)
    assert chosen.applied(ModesCheck) == ModesCheck(alpha=0.2)
    assert chosen.applied(NullCheck) == NullCheck()


def test_thresholds_are_values():
    one, two = Thresholds(null_gap=0.2, rhat=1.1), Thresholds(rhat=1.1, null_gap=0.2)
    assert one == two != Thresholds()
    assert len({one, two}) == 1
    assert repr(one) == "Thresholds(null_gap=0.2, rhat=1.1)"
    assert pickle.loads(pickle.dumps(one)) == copy.deepcopy(one) == one
    with pytest.raises(AttributeError):
        one.null_gap = 0.3
    with pytest.raises(AttributeError, match="there is no threshold 'nul_gap'"):
        one.nul_gap  # noqa: B018


@pytest.mark.parametrize("value", [0, -1, 1, np.nan, np.inf, "a", None, True, np.bool_(True)])
def test_thresholds_that_are_none(value):
    with pytest.raises(SpecError, match="threshold confidence must be a number between 0 and 1"):
        Thresholds(confidence=value)


def test_a_threshold_that_nobody_declares():
    with pytest.raises(SpecError, match=r"no threshold 'nul_gap' \(did you mean 'null_gap'\?\)"):
        Thresholds(nul_gap=0.2)


@dataclass(frozen=True)
class Otherwise(Alone):
    """Declares a threshold that another check has."""

    name: ClassVar = "otherwise"
    null_gap: Annotated[float, Threshold("``otherwise``: something else.")] = 3.0


def test_one_threshold_with_two_meanings(register):
    register(Otherwise)
    with pytest.raises(SpecError, match="'otherwise' declares the threshold 'null_gap' otherwise"):
        Thresholds()


# ---------------------------------------------------------------------- the schema


def test_the_schema_that_is_shipped_is_the_one_that_follows_from_the_types():
    """Write it anew by ``python -m relabel.diagnostics.write_schema``."""
    assert PATH.read_text(encoding="utf-8") == shipped_schema()
    assert json.loads(shipped_schema()) == schema()


def test_everything_in_the_schema_is_described():
    found = schema()
    assert found["required"] == list(found["properties"])
    for name, own in found["properties"].items():
        assert own["description"].endswith("."), name


@dataclass(frozen=True)
class Inner:
    number: int | str
    kind: Literal["a", "b"] = "a"
    gone: Annotated[float | None, "Left out."] = ABSENT


@dataclass(frozen=True)
class Outer:
    table: Annotated[dict[str, Inner | None], "By name."] = field(default_factory=dict)
    anything: dict[str, Any] = field(default_factory=dict)
    row: tuple[bool, ...] = ()


def test_the_schema_of_a_dataclass():
    inner = {
        "type": "object",
        "properties": {
            "number": {"type": ["integer", "string"]},
            "kind": {"enum": ["a", "b"]},
            "gone": {"type": ["number", "null"], "description": "Left out."},
        },
        "required": ["number", "kind"],
        "additionalProperties": False,
    }
    found = schema_of(Outer)["properties"]
    assert found["table"] == {
        "type": "object",
        "additionalProperties": {"anyOf": [inner, {"type": "null"}]},
        "description": "By name.",
    }
    assert found["anything"] == {"type": "object"}
    assert found["row"] == {"type": "array", "items": {"type": "boolean"}}
    assert plain_values(Outer({"x": Inner(np.int8(2))}))["table"] == {
        "x": {"number": 2, "kind": "a"}
    }


@pytest.mark.parametrize("hint", [set[int], dict[int, str], tuple[int, str], complex])
def test_types_without_a_schema(hint):
    with pytest.raises(TypeError, match="have no JSON Schema"):
        schema_of(hint)


@dataclass(frozen=True)
class ModesAgain:
    modes: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Findings:
    findings: list[int] = field(default_factory=list)


@pytest.mark.parametrize(("kind", "key"), [(ModesAgain, "modes"), (Findings, "findings")])
def test_a_key_that_is_there_already(register, kind, key):
    @dataclass(frozen=True)
    class Second(Alone):
        name: ClassVar = "second"
        measurements: ClassVar = kind

    register(Second)
    with pytest.raises(SpecError, match=f"'second' measures '{key}', which is there already"):
        relabel.diagnose(aligned_draws())


def test_a_column_of_slots_with_two_types(register):
    @dataclass(frozen=True)
    class Column:
        confidence: str = ""

    @dataclass(frozen=True)
    class Second(Alone):
        name: ClassVar = "second"
        slot: ClassVar = Column

    register(Second)
    with pytest.raises(SpecError, match="'second' has another column 'confidence' of slots"):
        schema()


# ---------------------------------------------------------------------- findings


def test_findings_are_in_the_order_of_severity_and_subject(register):
    def saying(check_name, about, severity):
        @dataclass(frozen=True)
        class Saying(Alone):
            name: ClassVar = check_name
            subject: ClassVar = about
            codes: ClassVar = (check_name,)

            def findings(self, case: Case, result: int | None) -> Iterator[Finding]:
                yield Finding(check_name, severity, "something")

        return Saying

    register(
        saying("last", "remarks", "warning"),
        saying("second", "modes", "warning"),
        saying("first", "sampler", "error"),
    )
    _, found = relabel.diagnose(aligned_draws())
    codes = [code for code in found.codes if code in CHECKS]
    assert [code for code in codes if code != "likelihood"] == ["first", "second", "last"]
    assert found.codes[-1] == "open"
    assert not found.labels_trustworthy
