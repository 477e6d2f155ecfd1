"""One name, one meaning, one order of arguments: in functions, criteria and commands."""

import dataclasses
import inspect

import numpy as np
import pytest
from files import SPEC, small_tree
from test_house import public_names

import relabel

#: Name that is not used -> what it is called everywhere.
RETIRED = {
    "seed": "rng",
    "random_state": "rng",
    "hdi_prob": "ci_prob",
    "variables": "var_names",
    "by": "var_names",
    "to": "reference",
    "pivot": "reference",
    "start": "reference",
    "sample_axes": "sample_dims",
    "n_kicks": "n_perturbations",
}
#: Where an argument of this name has this default, in every function that takes it.
DEFAULTS = {"rng": 0, "inputs": "auto", "targets": "auto", "progress": False}
VERBS = ["align", "undo", "apply", "diagnose", "compare", "summary", "average", "reduce"]


def signatures():
    """Yield name and parameters of all public functions and criteria."""
    for name, value in public_names():
        if inspect.isroutine(value) or (inspect.isclass(value) and dataclasses.is_dataclass(value)):
            yield name, inspect.signature(value).parameters


def test_a_probability_content_is_one_name():
    found = dict(signatures())
    for name in ("relabel.summary", "relabel.stats.regions"):
        assert "ci_prob" in found[name]
        assert "prob" not in found[name]


@pytest.mark.parametrize("name", [name for name, _ in signatures()])
def test_no_retired_names(name):
    found = dict(signatures())[name]
    if name in ("relabel.Provenance", "relabel.Diagnosis"):
        return  # what is stored, not what is asked for
    assert {old: RETIRED[old] for old in found if old in RETIRED} == {}


@pytest.mark.parametrize("name", [n for n, v in public_names() if inspect.isroutine(v)])
def test_one_default(name):
    for argument, parameter in dict(signatures())[name].items():
        if argument in DEFAULTS and parameter.default is not inspect.Parameter.empty:
            assert parameter.default == DEFAULTS[argument], argument


@pytest.mark.parametrize("verb", VERBS)
def test_draws_come_first(verb):
    first, *_ = inspect.signature(getattr(relabel, verb)).parameters.values()
    assert first.name in ("data", "aligned")
    assert first.annotation is not inspect.Parameter.empty


@pytest.mark.parametrize("verb", ["align", "diagnose", "compare", "average", "reduce"])
def test_long_verbs_tell_their_progress(verb):
    assert "progress" in inspect.signature(getattr(relabel, verb)).parameters


@pytest.fixture(scope="module")
def aligned():
    return relabel.align(small_tree(draws=60), SPEC)


CALLS = {
    "align": lambda data, aligned, **more: relabel.align(data, SPEC, **more),
    "diagnose": lambda data, aligned, **more: relabel.diagnose(aligned, **more),
    "compare": lambda data, aligned, **more: relabel.compare(data, SPEC, ["mean"], **more),
    "average": lambda data, aligned, **more: relabel.average(aligned, **more),
    "reduce": lambda data, aligned, **more: relabel.reduce(aligned, **more),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("inputs", ["auto", None, "constant_data/X", "array"])
def test_inputs_mean_the_same_in_every_verb(call, inputs, aligned):
    data = small_tree(draws=60)
    if isinstance(inputs, str) and inputs == "array":
        inputs = data["constant_data"]["X"].values
    call(data, aligned, inputs=inputs)


@pytest.mark.parametrize("verb", CALLS)
def test_progress_is_a_bar_or_a_callable(verb, aligned):
    calls, data = [], small_tree(draws=60)
    more = {"targets": np.zeros(len(data["constant_data"]["X"]))} if verb == "average" else {}
    CALLS[verb](data, aligned, progress=lambda *call: calls.append(call), **more)
    assert calls
    assert all(isinstance(s, str) and 0 <= done <= total for s, done, total in calls)
    CALLS[verb](data, aligned, progress=True, **more)
    with pytest.raises(relabel.SpecError, match="progress must be a bool or a callable, not 3"):
        CALLS[verb](data, aligned, progress=3, **more)


@pytest.mark.parametrize("verb", ["align", "diagnose"])
def test_integers_of_numpy_and_generators_are_taken(verb, aligned):
    data = small_tree(draws=60)
    first = CALLS[verb](data, aligned, rng=np.int64(3))
    second = CALLS[verb](data, aligned, rng=3)
    CALLS[verb](data, aligned, rng=np.random.default_rng(3))
    if verb == "align":
        assert first.identical(second)
    for wrong in (-1, 1.5, True, "0", None):
        with pytest.raises(relabel.SpecError, match="rng must be a non-negative integer or a num"):
            CALLS[verb](data, aligned, rng=wrong)
