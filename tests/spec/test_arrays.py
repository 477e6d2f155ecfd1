"""Variables of data: their values with the draws first, and what a key stands for."""

import numpy as np
import pytest
import xarray as xr

from relabel.errors import SpecError
from relabel.spec.arrays import (
    chain_draw_values,
    core_dims,
    core_shape,
    draw_values,
    drawn_variables,
    is_drawn,
    named_variables,
    variable_text,
)
from relabel.spec.lines import located


def stored(*dims) -> xr.DataArray:
    """Values that tell chain, draw and entry apart, in any order of the dimensions."""
    values = np.arange(24).reshape(2, 3, 4)
    return xr.DataArray(values, dims=("chain", "draw", "x")).transpose(*dims)


@pytest.mark.parametrize("dims", [("chain", "draw", "x"), ("x", "draw", "chain")])
def test_values_with_the_draws_first(dims):
    variable = stored(*dims)
    np.testing.assert_array_equal(chain_draw_values(variable), np.arange(24).reshape(2, 3, 4))
    np.testing.assert_array_equal(draw_values(variable), np.arange(24).reshape(6, 4))


def test_an_order_of_the_other_dimensions():
    variable = stored("chain", "draw", "x").expand_dims("y", axis=1)
    assert chain_draw_values(variable).shape == (2, 3, 1, 4)
    assert chain_draw_values(variable, "x", "y").shape == (2, 3, 4, 1)
    assert draw_values(variable, "x", "y").shape == (6, 4, 1)


def test_values_of_no_entries():
    assert draw_values(stored("chain", "draw", "x")[..., :0]).shape == (6, 0)
    assert draw_values(stored("chain", "draw", "x")[..., 0]).shape == (6,)


def test_one_draw():
    variable = stored("x", "chain", "draw")
    assert is_drawn(variable)
    assert not is_drawn(variable.isel(chain=0))
    assert core_dims(variable) == ("x",)
    assert core_shape(variable) == (4,)
    assert type(core_shape(variable)[0]) is int


def test_keys_and_what_they_stand_for():
    draws = xr.Dataset({"a": (("chain", "draw"), [[1.0]]), "p/q": (("chain", "draw"), [[2.0]])})
    groups = {"posterior": draws, "posterior/p": draws, "constant_data": xr.Dataset({"a": 0.0})}
    every = [("posterior", "a"), ("posterior/p", "a"), ("constant_data", "a")]
    assert named_variables(groups, "a") == every
    assert named_variables(groups, "constant_data/a") == [("constant_data", "a")]
    assert named_variables(groups, "posterior/p/q") == [("posterior", "p/q")]
    assert named_variables(groups, "posterior/p/a") == [("posterior/p", "a")]
    assert named_variables(groups, "p/q") == [("posterior", "p/q"), ("posterior/p", "p/q")]
    assert named_variables(groups, "b") == []
    assert [a for a, _ in drawn_variables(groups)] == [
        (group, name) for group in ("posterior", "posterior/p") for name in ("a", "p/q")
    ]
    assert located(groups, "a") == every[:2]
    with pytest.raises(SpecError, match=r"variable constant_data/a does not have the dimensions"):
        located(groups, "constant_data/a")


def test_names_in_messages():
    assert variable_text(("posterior", "W")) == "variable 'W'"
    assert variable_text(("allocation", "z")) == "variable allocation/z"
