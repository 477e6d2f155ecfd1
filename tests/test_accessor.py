"""`tree.relabel` and `dataset.relabel`: registered on import, thin over the functions."""

import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from files import SPEC, small_tree

import relabel

ORDERS = ["import relabel, xarray", "import xarray, relabel"]


@pytest.fixture(params=["tree", "dataset"])
def draws(request):
    tree = small_tree()
    return tree if request.param == "tree" else tree["posterior"].to_dataset()


def test_methods_are_the_functions(draws):
    aligned = draws.relabel.align(SPEC, rng=3)
    assert type(aligned) is type(draws)
    assert aligned.identical(relabel.align(draws, SPEC, rng=3))
    assert aligned.relabel.undo().identical(relabel.undo(aligned))
    assert aligned.relabel.provenance == relabel.Provenance.of(aligned)
    assert aligned.relabel.provenance.options["rng"] == 3


def test_diagnosis_and_confidence():
    aligned = small_tree(draws=60).relabel.align(SPEC)
    data, diagnosis = aligned.relabel.diagnose(rng=1)
    assert diagnosis == relabel.diagnose(aligned, rng=1)[1]
    confidence = data.relabel.confidence["h"]
    assert confidence.dims == ("h",)
    np.testing.assert_allclose(confidence, diagnosis.numbers["confidence"]["h"], rtol=1e-12)


def test_what_was_not_done_is_said():
    draws = small_tree()
    with pytest.raises(relabel.DataError, match="not aligned"):
        _ = draws.relabel.provenance
    with pytest.raises(relabel.DataError, match="not aligned"):
        _ = draws.relabel.confidence
    with pytest.raises(relabel.DataError, match="diagnose"):
        _ = draws.relabel.align(SPEC).relabel.confidence


@pytest.mark.parametrize("order", ORDERS)
def test_registered_in_either_order_of_imports(order):
    code = f"{order}; print(*(hasattr(c, 'relabel') for c in (xarray.DataTree, xarray.Dataset)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]


def test_the_group_is_reached_by_its_name():
    aligned = small_tree().relabel.align(SPEC)
    assert isinstance(aligned["relabel"], xr.DataTree)
    assert "h_index" in aligned["relabel"]
