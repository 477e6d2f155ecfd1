"""What criteria read beside the features of units: found, checked, laid out, judged."""

import tracemalloc

import numpy as np
import pytest
import xarray as xr

import relabel
from relabel import DataError, SpecError
from relabel.analysis.reports import alignment_report
from relabel.diagnostics.aligned import Aligned
from relabel.matching.allocation_features import AllocationProblem, with_labels
from relabel.matching.criteria.base import Statistics
from relabel.matching.criteria.ecr_iterative_2 import ECRIterative2
from relabel.matching.draws import Draws
from relabel.matching.solve import solve

UNITS = {"component": "permutation"}
SAMPLE = ("chain", "draw")


def overlapping(n=60, draws=80, seed=0):
    """Parameters that say nothing and allocations that say all, every draw permuted."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, n)
    theta = rng.normal(size=(2, draws, 3))
    prob = np.where(truth[:, None] == np.arange(3), 0.9, 0.05)
    index = rng.permuted(np.tile(np.arange(3), (2, draws, 1)), axis=2)
    z = np.argsort(index, axis=2)[..., truth]
    prob = np.moveaxis(prob[:, index], 0, 2)
    groups = {
        "posterior": xr.Dataset({"theta": ((*SAMPLE, "component"), theta)}),
        "allocation": xr.Dataset(
            {"z": ((*SAMPLE, "obs"), z), "prob": ((*SAMPLE, "obs", "component"), prob)}
        ),
    }
    return xr.DataTree.from_dict(groups), index


def alike(aligned, index):
    """Share of draws that one relabelling of all carries back."""
    found = np.take_along_axis(index, aligned["relabel"]["component_index"].values, axis=2)
    return np.unique(found.reshape(-1, 3), axis=0, return_counts=True)[1].max() / found[..., 0].size


@pytest.mark.parametrize("dims", [("component", "obs"), ("obs", "component")])
def test_units_on_any_axis_of_the_probabilities(dims):
    data, index = overlapping()
    prob = data["allocation"]["prob"].transpose(*SAMPLE, *dims)
    data["allocation"] = data["allocation"].to_dataset().assign(prob=prob)
    aligned = relabel.align(data, UNITS, criterion=relabel.criteria.Stephens())
    assert alike(aligned, index) == 1
    assert aligned["allocation"]["prob"].dims == (*SAMPLE, *dims)


def test_probabilities_are_checked():
    data, _ = overlapping()
    prob = data["allocation"]["prob"].copy()
    prob[1, 3, 7] *= 2
    data["allocation"] = data["allocation"].to_dataset().assign(prob=prob)
    message = "allocation/prob: the probabilities of observation 7 in draw 83 add up to 2"
    for criterion in (relabel.criteria.Stephens(), relabel.criteria.ECRIterative2()):
        with pytest.raises(DataError, match=message):
            relabel.align(data, UNITS, criterion=criterion)


def test_labels_that_count_from_one_are_recognised():
    data, _ = overlapping()
    data["allocation"] = data["allocation"].to_dataset().assign(z=data["allocation"]["z"] + 1)
    with pytest.raises(DataError, match="they look 1-based"):
        relabel.align(data, UNITS, criterion=relabel.criteria.ECRIterative1())
    with pytest.raises(DataError, match="they look 1-based"):
        relabel.align(
            data, UNITS, criterion=relabel.criteria.ECRIterative1(z=np.ones((2, 80, 60)) * 3)
        )


def test_the_last_of_several_most_probable_slots():
    total = np.array([[0.4, 0.2, 0.0], [0.4, 0.7, 0.0], [0.2, 0.1, 0.0]])  # slots by observations
    statistics: Statistics = {"sum": total}
    reference = ECRIterative2().form_reference(statistics, None, None, None)
    np.testing.assert_array_equal(reference.beside["pivot"], [1, 1, -1])


def test_labels_are_judged_by_what_told_them():
    data, index = overlapping()
    for criterion in (relabel.criteria.Stephens(), relabel.criteria.ECRIterative1()):
        aligned = relabel.align(data, UNITS, criterion=criterion)
        assert alike(aligned, index) == 1
        problem, _ = Aligned.read(aligned).compared
        assert list(problem.arrays) == ["allocation"]
        _, diagnosis = relabel.diagnose(aligned)
        numbers = diagnosis.numbers
        assert numbers["variance_explained"] > 0.99  # parameters explain next to nothing
        assert numbers["variance_explained"] > numbers["variance_explained_null"] + 0.3
    by_mean = relabel.align(data, relabel.mixture(["theta"]), criterion="mean")
    assert list(Aligned.read(by_mean).compared[0].arrays) == ["theta"]
    assert relabel.diagnose(by_mean)[1].numbers["variance_explained"] < 0.9


def test_allocations_that_were_not_compared_are_pointed_out():
    data, _ = overlapping()
    spec = relabel.Spec(UNITS, values={"allocation/z": "component"})
    notes = alignment_report(data, relabel.align(data, spec, criterion="mean")).notes
    (hint,) = [note for note in notes if "was not compared" in note]
    assert "--criterion ecr-iterative-1 --set z=allocation/z" in hint
    assert "--criterion stephens --set prob=allocation/prob" in hint
    notes = alignment_report(
        data, relabel.align(data, spec, criterion=relabel.criteria.Stephens())
    ).notes
    assert not [note for note in notes if "was not compared" in note]


def test_several_sets_of_units_and_signs_are_refused():
    data, _ = overlapping()
    axes = {"theta": "component", "allocation/prob": "_ component^0"}
    spec = relabel.Spec({"component": "signed"}, axes)
    with pytest.raises(SpecError, match="cannot determine signs"):
        relabel.align(data, spec, criterion=relabel.criteria.Stephens())
    two = xr.Dataset({"a": ((*SAMPLE, "g"), np.zeros((1, 2, 3)))})
    both = xr.DataTree.from_dict(
        {"posterior": data["posterior"].to_dataset().isel(chain=[0], draw=[0, 1]).merge(two)}
    )
    with pytest.raises(SpecError, match="relabels one set of units, and the spec has 2"):
        relabel.align(both, {**UNITS, "g": "permutation"}, criterion=relabel.criteria.Stephens())


def test_what_is_named_in_the_spec_is_found():
    data, index = overlapping()
    flat = data["posterior"].to_dataset()
    inside = data["allocation"].to_dataset().rename(z="which", prob="p")
    spec = relabel.mixture(["theta"], z="which", prob="p")
    for criterion in ("stephens", "ecr-iterative-1", "ecr-iterative-2"):
        aligned = relabel.align(flat.merge(inside), spec, criterion=criterion)
        found = np.take_along_axis(index, aligned["relabel_component_index"].values, axis=2)
        assert len(np.unique(found.reshape(-1, 3), axis=0)) == 1
    runs = relabel.compare(flat.merge(inside), spec).runs
    assert [run.name for run in runs][2:] == ["stephens", "ecr-iterative-1", "ecr-iterative-2"]
    with pytest.raises(SpecError, match="unknown criterion 'stephen'"):
        relabel.align(flat, UNITS, criterion="stephen")


def test_allocations_of_a_dims_only_spec_come_along():
    data, _ = overlapping()
    aligned = relabel.align(data, UNITS, criterion=relabel.criteria.Stephens())
    z = aligned["allocation"]["z"]
    assert (z == z[0, 0]).all()  # all draws tell the same classes
    counted = data["allocation"].to_dataset().assign(z=data["allocation"]["z"] + 1)
    data["allocation"] = counted
    with pytest.raises(DataError, match="they look 1-based"):
        relabel.align(data, UNITS, criterion=relabel.criteria.Stephens())
    data["allocation"] = counted.assign(z=counted["z"] + 10)  # counts, not labels
    kept = relabel.align(data, UNITS, criterion=relabel.criteria.Stephens())["allocation"]["z"]
    xr.testing.assert_equal(kept, data["allocation"]["z"])


def test_probabilities_are_never_copied_as_a_whole():
    rng = np.random.default_rng(0)
    prob = rng.dirichlet(np.full(10, 0.2), size=(2, 400, 1000))
    groups = {
        "posterior": xr.Dataset({"mu": ((*SAMPLE, "component"), rng.normal(size=(2, 400, 10)))}),
        "allocation": xr.Dataset({"prob": ((*SAMPLE, "obs", "component"), prob)}),
    }
    criterion = relabel.criteria.Stephens()
    tracemalloc.start()
    spec = with_labels(relabel.Spec(UNITS), criterion, groups)
    draws = Draws.read(groups, spec, "raise")
    solution = solve(AllocationProblem(draws, criterion), criterion, None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(solution.loss) == 800
    assert peak < 0.3 * prob.nbytes


def test_a_divergence_is_not_negative():
    data, _ = overlapping()
    one = data.isel(chain=[0], draw=[0])
    loss = relabel.align(one, UNITS, criterion=relabel.criteria.Stephens())["relabel"]["loss"]
    assert 0 <= loss.values.min() < 1e-9
