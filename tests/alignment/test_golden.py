"""Files that earlier versions wrote are still read, undone and aligned again."""

import numpy as np
import pytest
from files import RECORDED

import relabel
from relabel.data.provenance import Provenance

GOLDEN = sorted((RECORDED / "golden").glob("aligned_*.nc"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_files_are_undone(path):
    raw = relabel.open_draws(path.with_name(path.name.replace("aligned", "raw")))
    back = relabel.undo(relabel.open_draws(path))
    assert set(back.children) == set(raw.children)
    for name, variable in raw["posterior"].data_vars.items():
        np.testing.assert_allclose(back["posterior"][name], variable, rtol=0, atol=1e-14)
    for name in ("W1", "b1"):  # no scale or shift acts on these: bit for bit
        assert np.array_equal(back["posterior"][name], raw["posterior"][name])


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_files_are_aligned_again(path):
    aligned = relabel.open_draws(path)
    spec = Provenance.of(aligned).spec
    again = relabel.align(aligned, spec)
    for name, variable in aligned["posterior"].data_vars.items():
        assert np.array_equal(again["posterior"][name], variable)


def test_there_are_golden_files():
    assert GOLDEN
