"""The report of an alignment, and the inputs at which it compares outputs."""

import numpy as np
import pytest

import relabel
from relabel.errors import SpecError
from relabel.simulate import network
from relabel.stats import alignment_report

ADDRESS = "constant_data/X"


@pytest.fixture(scope="module")
def simulated():
    return network((2, 3, 1), "tanh", chains=2, draws=20)


@pytest.fixture(scope="module")
def aligned(simulated):
    return relabel.align(simulated.data, simulated.spec)


def rows(report):
    return report.to_dataframe().index.tolist()


def test_the_table(simulated, aligned):
    report = alignment_report(simulated.data, aligned)
    frame = report.to_dataframe()
    assert list(frame) == ["rhat", "ess"]
    assert frame.loc["weights before", "rhat"] > frame.loc["weights after", "rhat"]
    found = dict(report.table)["outputs"]
    assert frame.loc["outputs"].tolist() == [found.rhat, found.ess]
    assert f"{found.rhat:.3f}" in str(report)


def test_inputs_of_the_alignment(simulated, aligned):
    report = alignment_report(simulated.data, aligned)
    assert rows(report) == ["weights before", "weights after", "outputs"]
    assert f"inputs: {ADDRESS}, the only variable that fits" in report.notes


def test_inputs_as_an_array_and_by_address(simulated, aligned):
    values = simulated.data[ADDRESS].values
    by_address = alignment_report(simulated.data, aligned, inputs=ADDRESS)
    by_value = alignment_report(simulated.data, aligned, inputs=values)
    assert by_address.table == by_value.table
    assert "inputs: given" in by_value.notes
    elsewhere = alignment_report(simulated.data, aligned, inputs=values[:7])
    assert dict(elsewhere.table)["outputs"] != dict(by_value.table)["outputs"]
    with pytest.raises(SpecError, match="inputs"):
        alignment_report(simulated.data, aligned, inputs=values[:, :1])
    with pytest.raises(SpecError, match="no variable 'constant_data/Z'"):
        alignment_report(simulated.data, aligned, inputs="constant_data/Z")


def test_no_inputs(simulated, aligned):
    report = alignment_report(simulated.data, aligned, inputs=None)
    assert rows(report) == ["weights before", "weights after"]
    reason = f"the inputs {ADDRESS} were not to be used"
    assert f"outputs were not looked at: {reason}" in report.notes


def test_inputs_that_the_alignment_did_not_use_or_store(simulated):
    unused = relabel.align(simulated.data, simulated.spec, inputs=None)
    assert rows(alignment_report(simulated.data, unused)) == ["weights before", "weights after"]
    values = np.random.default_rng(0).normal(size=(9, 2))
    given = relabel.align(simulated.data, simulated.spec, inputs=values)
    report = alignment_report(simulated.data, given)
    assert "outputs were not looked at: the inputs were given as an array" in report.notes
    assert "outputs" in rows(alignment_report(simulated.data, given, inputs=values))
