"""Entries of dimensions by their labels, as ArviZ's ``coords`` names them."""

import numpy as np
import pytest
import xarray as xr

from relabel.data.selection import positions_of
from relabel.errors import SpecError


@pytest.fixture
def draws():
    return xr.Dataset({"mu": (("school", "x"), np.zeros((3, 2)))}, {"school": ["A", "B", "C"]})


@pytest.mark.parametrize(
    ("coords", "positions"),
    [
        (None, {}),
        ({}, {}),
        ({"school": "B"}, {"school": [1]}),
        ({"school": ["C", "A"]}, {"school": [2, 0]}),
        ({"school": np.array(["C"])}, {"school": [2]}),
        ({"school": slice("B", None)}, {"school": [1, 2]}),
        ({"x": 1}, {"x": [1]}),
        ({"x": np.int64(1), "school": "A"}, {"x": [1], "school": [0]}),
        ({"x": slice(0, 1)}, {"x": [0, 1]}),
        ({"h": [3, 0]}, {"h": [3, 0]}),
    ],
)
def test_labels_become_positions(draws, coords, positions):
    found = positions_of(draws, coords, {"h": 4, "x": 9})
    assert {dim: at.tolist() for dim, at in found.items()} == positions


@pytest.mark.parametrize(
    ("coords", "message"),
    [
        ("school", "coords must be a table from dimensions to labels, not 'school'"),
        ({"shool": "A"}, r"no dimension 'shool' \(did you mean 'school'\?\); there are h, school"),
        ({"school": "D"}, "'school' has no label 'D'; its labels are A, B, C"),
        ({"school": ["A", "D"]}, "has no label 'D'"),
        ({"x": 2}, "'x' has no label 2; its labels are 0, 1"),
        ({"x": -1}, "'x' has no label -1"),
        ({"x": "a"}, "'x' has no label 'a'"),
        ({"h": 4}, "'h' has no label 4; its labels are 0, 1, 2, 3"),
        ({"x": []}, r"\[\] selects nothing of 'x'"),
        ({"school": slice("X", "Z")}, "selects nothing of 'school'"),
    ],
)
def test_labels_that_there_are_not(draws, coords, message):
    with pytest.raises(SpecError, match=message):
        positions_of(draws, coords, {"h": 4})
