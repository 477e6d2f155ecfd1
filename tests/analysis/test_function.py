"""Outputs before and after an alignment, by a forward pass of the user's own."""

import numpy as np
import pytest
import xarray as xr

import relabel
from relabel.errors import DataError, SpecError
from relabel.simulate import network

INPUTS = np.random.default_rng(0).normal(size=(4, 2))


@pytest.fixture(scope="module")
def both():
    simulated = network((2, 3, 3, 1), "tanh", chains=2, draws=12)
    return simulated.data, relabel.align(simulated.data, simulated.spec)


def forward(p, x, skip=0.0):
    h = np.tanh(x @ p["W1"] + p["b1"])
    return (np.tanh(h @ p["W2"] + p["b2"]) + skip * h) @ p["W3"] + p["b3"]


def test_a_plain_network_is_as_it_was(both):
    found = relabel.check_function(*both, forward, INPUTS)
    assert found.sound
    assert found.change < 1e-13
    assert len(found.draws) == len(found.changes) == 20
    assert str(found).startswith("outputs of 20 draws changed by at most")


def test_a_residual_network_is_not(both):
    found = relabel.check_function(*both, lambda p, x: forward(p, x, 1.0), INPUTS, n_draws=100)
    assert not found.sound
    assert found.draws == [(chain, draw) for chain in range(2) for draw in range(12)]
    before, after = (data["posterior"].to_dataset() for data in both)
    changes = []
    for chain, draw in found.draws:
        old, new = (
            forward({k: v.values[chain, draw] for k, v in d.items()}, INPUTS, 1.0)
            for d in (before, after[list(before)])
        )
        changes.append(np.abs(new - old).max() / np.abs(old).max())
    np.testing.assert_allclose(found.changes, changes, rtol=1e-12)
    assert "connections that skip layers" in str(found)


def test_names_of_the_source_and_precision(both):
    before, after = (data["posterior"].to_dataset().astype("float32") for data in both)
    for data in (before, after):
        data["W1"].attrs["source_name"] = "first/W"
    found = relabel.check_function(
        before, after, lambda p, x: forward({**p, "W1": p["first/W"]}, x), INPUTS
    )
    assert found.sound
    assert found.tolerance == 1e-3


def test_what_is_finite_only_before(both):
    before, after = (data["posterior"].to_dataset() for data in both)
    after = after.assign(W3=after["W3"] * np.nan)
    assert relabel.check_function(before, after, forward, INPUTS).change == np.inf


def test_forward_passes_that_tell_nothing(both):
    rng = np.random.default_rng(0)
    for wrong, said in [
        (lambda p, x: rng.normal(size=3), "called again"),
        (lambda p, x: np.ones(3), "load the parameters"),
        (lambda p, x: "text", "one array of numbers, not str"),
        (lambda p, x: [np.ones(2), np.ones(3)], "one array of numbers"),
        (None, "must be a function"),
    ]:
        with pytest.raises(SpecError, match=said):
            relabel.check_function(*both, wrong, INPUTS)
    with pytest.raises(SpecError, match="n_draws must be a positive integer, not 0"):
        relabel.check_function(*both, forward, INPUTS, n_draws=0)


def test_inputs_by_address_and_those_of_the_alignment(both):
    given = both[0]["constant_data"]["X"].values
    by_value = relabel.check_function(*both, forward, given, n_draws=np.int64(5))
    for inputs in ("constant_data/X", "auto"):
        found = relabel.check_function(*both, forward, inputs, n_draws=5)
        np.testing.assert_array_equal(found.changes, by_value.changes)
    default = relabel.check_function(*both, forward)
    np.testing.assert_array_equal(
        default.changes, relabel.check_function(*both, forward, given).changes
    )
    with pytest.raises(SpecError, match="inputs: there is no variable 'constant_data/Y'"):
        relabel.check_function(*both, forward, "constant_data/Y")


@pytest.mark.parametrize("groups", [["posterior"], ["posterior", "constant_data"]])
def test_a_forward_pass_without_inputs(both, groups):
    """None is passed on, and so it is where no inputs are known."""
    trees = [xr.DataTree.from_dict({g: d[g].to_dataset() for g in groups}) for d in both]
    seen = []
    relabel.check_function(*trees, lambda p, x: [seen.append(x), forward(p, INPUTS)][1], None)
    assert set(seen) == {None}
    if groups == ["posterior"]:
        relabel.check_function(*trees, lambda p, x: [seen.append(x), forward(p, INPUTS)][1])
        assert set(seen) == {None}


def test_other_inputs_are_passed_on(both):
    batch = {"x": INPUTS}
    found = relabel.check_function(*both, lambda p, given: forward(p, given["x"]), batch)
    np.testing.assert_array_equal(
        found.changes, relabel.check_function(*both, forward, INPUTS).changes
    )


def test_the_table_and_progress(both):
    seen = []
    found = relabel.check_function(
        *both, forward, INPUTS, n_draws=3, progress=lambda *step: seen.append(step)
    )
    assert seen == [("check function", i, 3) for i in (1, 2, 3)]
    frame = found.to_dataframe()
    assert frame.index.names == ["chain", "draw"]
    assert frame["change"].tolist() == found.changes.tolist()
    assert frame.loc[found.draws[1], "change"] == found.changes[1]


def test_other_draws(both):
    before, after = (data["posterior"].to_dataset() for data in both)
    with pytest.raises(DataError, match="no variable 'W2'"):
        relabel.check_function(before, after.drop_vars("W2"), forward, INPUTS)
    with pytest.raises(DataError, match="give the draws that were aligned"):
        relabel.check_function(before.isel(draw=slice(5)), after, forward, INPUTS)


def test_ties_that_the_spec_tears_are_told():
    """An embedding that is the output too, with the units of both or of one."""
    rng = np.random.default_rng(0)
    table, inner = rng.normal(size=(1, 5, 7, 3)), rng.normal(size=(1, 5, 3, 3))
    lead = ("chain", "draw")
    data = xr.Dataset(
        {
            "words": ((*lead, "a", "b"), table),
            "fc": ((*lead, "c", "d"), inner),
            "out": ((*lead, "e", "f"), table.swapaxes(2, 3).copy()),
        }
    )
    units = {"r": "permutation", "h": "permutation"}
    said = "'words' and 'out' held the same numbers"
    torn = relabel.Spec(units, {"words": "x -> r", "fc": "r -> h", "out": "h -> x"})
    one = relabel.Spec({"r": "permutation"}, {"words": "x -> r", "fc": "r -> r", "out": "r -> x"})
    for spec, warned in [(torn, True), (one, False)]:
        told = relabel.align(data, spec).attrs["relabel"]
        assert (said in told) == warned
