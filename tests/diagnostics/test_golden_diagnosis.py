"""What `diagnose` writes as JSON stays what it was when these results were recorded."""

import json
import math

import jsonschema
import pytest
from diagnosis_cases import CASES, diagnosis_of
from files import RECORDED

from relabel.diagnostics.diagnosis import schema

#: Keys of texts, which may be worded anew.
TEXTS = ("version", "message", "remedy", "how", "likelihood", "flagged", "reasons")


def same(now, then):
    """Whether values agree; numbers to 1e-9, texts only in being texts."""
    if isinstance(then, dict):
        return now.keys() == then.keys() and all(
            worded_alike(now[key], then[key]) if key in TEXTS else same(now[key], then[key])
            for key in then
        )
    if isinstance(then, list):
        return len(now) == len(then) and all(map(same, now, then))
    if isinstance(then, float) and isinstance(now, (int, float)):
        return math.isclose(now, then, rel_tol=1e-9, abs_tol=1e-9)
    return type(now) is type(then) and now == then


def worded_alike(now, then):
    return type(now) is type(then) and (not isinstance(then, dict) or now.keys() == then.keys())


@pytest.mark.parametrize("name", CASES)
def test_the_json_is_what_it_was(name):
    text = (RECORDED / "golden" / f"diagnosis_{name}.json").read_text(encoding="utf-8")
    found = json.loads(diagnosis_of(name).to_json())
    then = json.loads(text)
    jsonschema.Draft202012Validator(schema()).validate(found)
    jsonschema.Draft202012Validator(schema()).validate(then)
    assert [key for key in then if not worded_alike(found[key], then[key])] == []
    different = [key for key in then if key not in TEXTS and not same(found[key], then[key])]
    assert different == []
    assert found.keys() == then.keys()


def test_a_changed_value_is_noticed():
    then = {"a": [{"b": 1.0, "flagged": "why"}, None]}
    assert same({"a": [{"b": 1.0 + 1e-12, "flagged": "other"}, None]}, then)
    for other in (
        {"a": [{"b": 1.001, "flagged": "why"}, None]},
        {"a": [{"b": 1.0, "flagged": None}, None]},
        {"a": [{"b": 1.0}, None]},
        {"a": [{"b": 1.0, "flagged": "why"}]},
    ):
        assert not same(other, then)
