"""Criteria by their protocol: records and back, names of options, and nobody who asks which one."""

import ast
import json
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from files import SPEC, small_tree

import relabel
from relabel.criteria import Criterion, Mean
from relabel.data.provenance import Provenance
from relabel.errors import DataError, SpecError
from relabel.matching.criteria import CRITERIA, criterion_of, current_options, options_of, rebuilt
from relabel.matching.criteria.registry import is_fully_described
from relabel.matching.features import Problem
from relabel.spec.spec import Spec

SAMPLE = ("chain", "draw")
UNITS = {"component": "permutation"}
REQUIRED = {"permutations": {"index": "extra/perm"}}
BUILT = [kind(**REQUIRED.get(name, {})) for name, kind in CRITERIA.items()]
each = pytest.mark.parametrize("criterion", BUILT, ids=lambda criterion: criterion.name)


def mixture(m=12, seed=0):
    rng = np.random.default_rng(seed)
    mu = 3.0 * np.arange(3) + 0.1 * rng.normal(size=(2, m, 3))
    return xr.Dataset({"mu": ((*SAMPLE, "component"), rng.permuted(mu, axis=2))})


# ---------------------------------------------------------------------- records


@each
def test_a_record_gives_the_criterion_back(criterion):
    described = json.loads(json.dumps(criterion.describe()))
    found = rebuilt(described)
    assert found.reason == found.stand_in == ""
    assert found.criterion.describe() == criterion.describe()
    assert type(found.criterion) is type(criterion)
    assert is_fully_described(described)


@each
def test_options_of_older_records(criterion):
    for old, new in criterion.renamed_options.items():
        assert new in options_of(criterion.name)
        value = criterion.describe()[new]
        options = {old: value, "of_another_version": 3}
        assert current_options(criterion.name, options) == {new: value}
        assert rebuilt({"name": criterion.name, **options, **REQUIRED.get(criterion.name, {})})
        with pytest.raises(SpecError, match=f"unknown option '{old}'"):
            criterion_of(criterion.name, {old: value})


def test_old_names_are_those_of_the_first_records():
    """Options of version 0.1.0 that have another name now."""
    first = {
        "mean": {"variables"},
        "reference": {"to", "variables"},
        "pra": {"pivot", "variables"},
        "ecr": {"pivot"},
        "ecr-iterative-1": {"start"},
        "ecr-iterative-2": {"start"},
        "stephens": {"start"},
        "data-based": {"start"},
        "sjw": {"seed"},
        "order": {"by"},
        "permutations": {"variables"},
        "rsp": {"start"},
        "procrustes": {"start"},
        "weighted-procrustes": {"start"},
        "matchalign": {"pivot"},
        "wasserstein": {"to", "variables"},
        "activations": set(),
        "pivotal": set(),
    }
    assert {n: set(kind.renamed_options) for n, kind in CRITERIA.items() if n in first} == first


@pytest.mark.parametrize(
    ("criterion", "given", "compares"),
    [
        (relabel.criteria.Stephens(prob=np.ones((1, 1, 2, 2))), ("prob",), "by their parameters"),
        (relabel.criteria.ECR(reference=np.array([0, 1])), ("reference",), ""),
        (relabel.criteria.ToReference(mixture(1), scale="none"), ("reference",), ""),
        (relabel.criteria.Permutations({"h": np.zeros(1)}), ("index",), ""),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_the_record_does_not_hold_is_said(criterion, given, compares):
    described = json.loads(json.dumps(criterion.describe()))
    assert not is_fully_described(described)
    found = rebuilt(described)
    assert found.given == given
    assert f"{criterion.name!r} was given {given[0]} as an array or dataset" in found.reason
    assert compares in found.stand_in
    assert bool(compares) == bool(found.stand_in)
    assert not set(given) & set(found.reads)


@pytest.mark.parametrize(
    ("criterion", "expected"),
    [
        (Mean(scale="none", max_sweeps=7), Mean(scale="none", max_sweeps=7)),
        (relabel.criteria.ToReference(scale="none", var_names="b"), Mean("none", var_names="b")),
        (relabel.criteria.PRA(var_names="b"), Mean("none", var_names="b")),
        (relabel.criteria.Wasserstein(var_names="b"), Mean("none", var_names="b")),
        (relabel.criteria.Activations(), Mean("none")),
        (relabel.criteria.Stephens(), relabel.criteria.Normal()),
        (relabel.criteria.Order("b"), relabel.criteria.Order("b")),
    ],
    ids=lambda value: value.name,
)
def test_shuffled_units_are_realigned_by(criterion, expected):
    assert rebuilt(criterion.describe()).for_features == expected


# ---------------------------------------------------------------------- the protocol


@each
def test_no_option_of_a_base_is_taken_away(criterion):
    own = {entry.name for entry in fields(criterion)}
    for base in type(criterion).__mro__[1:]:
        if is_dataclass(base):
            assert {entry.name for entry in fields(base)} <= own, base


def test_nobody_asks_which_criterion_it_is():
    """No isinstance, issubclass or name of a concrete criterion outside of its own file."""
    package = Path(relabel.__file__).parent
    kinds = {kind.__name__ for kind in CRITERIA.values()}
    names = set(CRITERIA)
    found = []
    for path in sorted(package.rglob("*.py")):
        if path.relative_to(package).parts[0] in ("numerics", "groups", "spec", "models"):
            continue  # which know of no criteria
        if path.parent.name == "criteria" and path.stem not in ("base", "registry"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            asked: set[str] = set()
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in (
                "isinstance",
                "issubclass",
            ):
                asked = {n.id for n in ast.walk(node.args[1]) if isinstance(n, ast.Name)} & kinds
            if isinstance(node, ast.Compare) and any(
                getattr(n, "attr", getattr(n, "id", "")) in ("name", "criterion")
                for n in (node.left, *node.comparators)
            ):
                words = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant)} & names
                words |= {
                    n.value.id
                    for n in ast.walk(node)
                    if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)
                } & kinds
                asked |= {word for word in words if word != "reference"}
            found += [(path.name, node.lineno, word) for word in asked]
    assert found == []


@dataclass(frozen=True)
class Strange(Criterion):
    """A criterion that uses the hooks which few of relabel's own use."""

    name = "strange"
    matched_variables = ("mu",)
    first: object = "medoid"
    elements: object = None
    chosen: object = None

    @property
    def first_reference(self):
        return self.first

    def statistics(self, block, layout, elements):
        return Mean().statistics(block, layout, elements)

    def form_reference(self, statistics, pooled, layout, previous):
        return Mean().form_reference(statistics, pooled, layout, previous)

    def score(self, block, layout, reference, units):
        return Mean().score(block, layout, reference, units)

    def given(self, draws):
        return self.elements

    def chosen_row(self, problem):
        assert isinstance(problem, Problem)
        return self.chosen


def test_a_criterion_that_is_not_registered_works_and_is_said_to_be_unknown():
    draws = mixture()
    aligned = relabel.align(draws, UNITS, criterion=Strange())
    medoid = relabel.criteria.ToReference("medoid")
    expected = relabel.align(draws, UNITS, criterion=medoid)
    assert aligned["mu"].equals(expected["mu"])
    assert relabel.undo(aligned).identical(draws)
    _, diagnosis = relabel.diagnose(aligned)
    (finding,) = (f for f in diagnosis.findings if f.code == "criterion")
    assert finding.message.startswith("criterion 'strange' is not installed: units are realigned")
    again = relabel.align(aligned, UNITS)
    (warning,) = Provenance.of(again).warnings
    assert warning.startswith("these draws were aligned before, and criterion 'strange' is not")
    assert "strange (first=medoid)" in str(relabel.stats.alignment_report(draws, aligned))


def test_a_criterion_chooses_the_row_of_its_first_reference():
    draws = mixture()
    raw = draws["mu"].values.reshape(-1, 3)
    assert len(np.unique(np.argsort(raw, axis=1), axis=0)) > 1
    for row in range(6):
        criterion = Strange(first=None, chosen=row)
        found = relabel.align(draws, UNITS, criterion=criterion)["mu"].values.reshape(-1, 3)
        assert (np.argsort(found, axis=1) == np.argsort(raw[row])).all()


def test_elements_that_a_criterion_gives_are_carried_out():
    from relabel.groups.elements import Monomial

    draws = mixture()
    index = np.tile([2, 0, 1], (24, 1))
    given = {"component": Monomial(index, np.ones(index.shape))}
    aligned = relabel.align(draws, UNITS, criterion=Strange(elements=given))
    np.testing.assert_array_equal(aligned["mu"], draws["mu"].values[..., [2, 0, 1]])


def test_map_offers_what_else_the_criterion_takes():
    draws = mixture()
    for criterion, offered in (
        (relabel.criteria.ToReference("map"), "or use 'medoid'"),
        (relabel.criteria.PRA("map"), "or use 'medoid'"),
    ):
        with pytest.raises(DataError, match=offered):
            relabel.align(draws, UNITS, criterion=criterion)


# ---------------------------------------------------------------------- each thing is done once


def test_a_spec_is_bound_once_and_offsets_are_found_once(monkeypatch):
    from relabel.matching.features import problem
    from relabel.spec import centring

    calls = []
    bind, means = Spec.bind, centring.means_over

    def counted_bind(self, data):
        calls.append("bind")
        return bind(self, data)

    def counted_means(values, axis):
        calls.append("means")
        return means(values, axis)

    monkeypatch.setattr(Spec, "bind", counted_bind)
    for module in (centring, problem):
        monkeypatch.setattr(module, "means_over", counted_means)
    rng = np.random.default_rng(0)
    shapes = {"W1": (2, 3), "b1": (3,), "W2": (3, 4), "b2": (4,)}
    values = {name: rng.normal(size=(2, 5, *shape)) for name, shape in shapes.items()}
    dims = {name: [f"{name}_{i}" for i in range(len(shape))] for name, shape in shapes.items()}
    draws = xr.Dataset({name: ((*SAMPLE, *dims[name]), v) for name, v in values.items()})
    axes = {"W1": "x -> h", "b1": "-> h", "W2": "h -> y", "b2": "-> y"}
    spec = Spec({"h": "tanh"}, axes, gauges={"y": "centred"})
    aligned = relabel.align(draws, spec, exclude_flagged=False)
    assert sorted(calls) == ["bind", "means", "means"]  # W2 and b2
    np.testing.assert_allclose(aligned["W2"].sum("W2_1"), 0, atol=1e-12)
    calls.clear()
    z = xr.Dataset({"z": ((*SAMPLE, "obs"), rng.integers(0, 3, (2, 12, 9)))})
    z["z"].values[..., 0], z["z"].values[..., 1] = 0, 2
    tree = xr.DataTree.from_dict({"posterior": mixture(), "allocation": z})
    relabel.align(tree, UNITS)
    assert calls == ["bind"]


def test_draws_of_flagged_chains_are_split():
    tree = small_tree()
    lp = np.random.default_rng(0).normal(size=(2, 20)) - [[0.0], [500.0]]
    tree["sample_stats"] = xr.DataTree(xr.Dataset({"lp": (SAMPLE, lp)}))
    aligned = relabel.align(tree, SPEC, exclude_flagged=True, inputs=None)
    assert Provenance.of(aligned).no_part_in_reference == (1,)
    xr.testing.assert_identical(relabel.undo(aligned), tree)
