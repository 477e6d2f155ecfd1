"""Addresses ``group/name``, and the variables that could be a network's inputs or targets."""

import numpy as np
import pytest
import xarray as xr

from relabel.data.addresses import values_of, variable_at
from relabel.data.roles import automatic_inputs, find_inputs, is_auto
from relabel.errors import SpecError


def groups(**observed) -> dict[str, xr.Dataset]:
    """Two variables that could be inputs of two columns, and more that could not."""
    constant = xr.Dataset(
        {
            "X": (("obs", "x"), np.ones((4, 2))),
            "Z": (("new", "x"), np.zeros((3, 2))),
            "names": (("obs", "s"), np.full((4, 2), "a")),
            "true_W": (("y", "h"), np.ones((5, 2))),
            "t": ("obs", np.arange(4)),
        }
    )
    posterior = xr.Dataset({"t": (("chain", "draw"), np.ones((1, 2)))})
    data = xr.Dataset({k: (f"{k}_obs", np.ones(n)) for k, n in observed.items()})
    return {"posterior": posterior, "constant_data": constant, "observed_data": data}


def test_a_variable_by_its_address():
    known = groups()
    assert variable_at(known, "constant_data/X", "inputs").shape == (4, 2)
    assert variable_at(known, "X", "inputs").shape == (4, 2)
    assert values_of(known, "posterior/t", "inputs").shape == (1, 2)
    assert values_of(known, [[1, 2]], "inputs").shape == (1, 2)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("constant_data/x", r"inputs: there is no variable 'constant_data/x' \(did you mean"),
        ("constant/X", r"did you mean 'constant_data/X'\?\); write group/name"),
        ("qqqq", "inputs: there is no variable 'qqqq'; write group/name"),
        ("t", "inputs: 't' is in the groups posterior, constant_data; write group/name"),
    ],
)
def test_addresses_of_nothing(address, message):
    with pytest.raises(SpecError, match=message):
        variable_at(groups(), address, "inputs")


def test_candidates_are_offered():
    with pytest.raises(SpecError, match=r"no variable 'Y'; candidates are constant_data/X$"):
        values_of(groups(), "Y", "inputs", ["constant_data/X"])
    with pytest.raises(SpecError, match=r"no variable 'Y'; candidates are none$"):
        variable_at(groups(), "Y", "inputs", [])


def test_what_could_be_inputs():
    assert find_inputs(groups(), 2) == ["constant_data/X", "constant_data/Z"]
    assert find_inputs(groups(), np.int64(2)) == find_inputs(groups(), 2)
    assert find_inputs(groups(), 3) == []
    assert find_inputs(groups()) == ["constant_data/X", "constant_data/Z", "constant_data/t"]
    assert find_inputs({"posterior": xr.Dataset()}) == []


def test_inputs_that_auto_takes():
    several = "several variables could be: constant_data/X, constant_data/Z"
    assert automatic_inputs(groups(), None, 2) == (None, several)
    assert automatic_inputs(groups(), "constant_data/Z", 2) == ("constant_data/Z", "")
    assert automatic_inputs(groups(), "given", 2) == (None, several)
    assert automatic_inputs(groups(y=3), None, 2) == ("constant_data/Z", "")
    assert automatic_inputs(groups(), None, 3) == (None, "none stored")
    alone = groups()
    alone["constant_data"] = alone["constant_data"].drop_vars(["Z"])
    assert automatic_inputs(alone, None, 2) == ("constant_data/X", "")


def test_auto_is_a_word():
    assert is_auto("auto")
    assert not is_auto(np.array(["auto", "auto"]))
    assert not is_auto(np.ones((2, 2)))
    assert not is_auto(None)
