"""What tells slots apart: log odds by variable, against the draws themselves."""

import numpy as np
import pytest

from relabel.groups import Permutation, SignedPermutation
from relabel.matching.criteria.base import Reference
from relabel.matching.features import Column, Layout, Pair
from relabel.matching.separations import separation_of

MEAN = np.array([[0.0, 0.3], [2.0, 0.4], [5.0, 0.3]])
SD = np.array([[0.5, 0.1], [0.4, 0.1], [1.0, 0.2]])


def layout(signed=False, group=None, pairs=()):
    columns = tuple(Column(name, 0, signed, True) for name in ("mu", "w"))
    return Layout({"h": 3}, {"h": group or Permutation()}, {"h": columns}, pairs)


def log_density(values, slot):
    return -np.log(SD[slot]) - 0.5 * ((values - MEAN[slot]) / SD[slot]) ** 2


def test_log_odds_are_those_of_the_draws():
    rng = np.random.default_rng(0)
    draws = MEAN + SD * rng.normal(size=(200_000, 3, 2))
    found = separation_of(Reference({"h": MEAN}, precision={"h": SD**-2.0}), layout(), "h")
    assert found.variables == ("mu", "w")
    for slot, rival in enumerate(found.rival):
        gain = log_density(draws[:, slot], slot) + log_density(draws[:, rival], rival)
        gain -= log_density(draws[:, slot], rival) + log_density(draws[:, rival], slot)
        np.testing.assert_allclose(found.log_odds[slot], gain.mean(axis=0), rtol=0.02, atol=0.02)


def test_the_rival_is_the_hardest_to_tell():
    found = separation_of(Reference({"h": MEAN}, precision={"h": SD**-2.0}), layout(), "h")
    assert found.rival.tolist() == [1, 0, 1]


def test_the_other_sign_may_be_the_rival():
    near_zero = np.array([[0.1, 0.0], [5.0, 3.0], [-9.0, 2.0]])
    reference = Reference({"h": near_zero}, precision={"h": np.ones((3, 2))})
    found = separation_of(reference, layout(True, SignedPermutation()), "h")
    assert found.rival[0] == 0
    assert found.log_odds[0] == pytest.approx([0.02, 0.0])


def test_units_that_differ_by_their_signs_alone_are_not_told_apart():
    opposite = np.array([[2.0, 1.0], [-2.0, -1.0], [-9.0, 2.0]])
    reference = Reference({"h": opposite}, precision={"h": np.ones((3, 2))})
    found = separation_of(reference, layout(True, SignedPermutation()), "h")
    assert found.rival[:2].tolist() == [1, 0]
    assert found.log_odds[:2] == pytest.approx(np.zeros((2, 2)))


def test_arrays_shared_with_other_sets_count():
    pair = Pair("T", ("h", "g"), (False, False), (False, False))
    both = Layout(
        {"h": 2, "g": 3}, {"h": Permutation(), "g": Permutation()}, {"h": (), "g": ()}, (pair,)
    )
    mean = np.array([[0.0, 1.0, 2.0], [1.0, 1.0, 4.0]])
    reference = Reference(
        {"h": np.zeros((2, 0)), "g": np.zeros((3, 0))},
        pairs=(mean,),
        pair_weight=(0.5 / 0.25,),
        precision={"h": np.zeros((2, 0)), "g": np.zeros((3, 0))},
    )
    found = separation_of(reference, both, "h")
    assert found.variables == ("T",)
    np.testing.assert_allclose(found.log_odds[:, 0], (1 + 0 + 4) / 0.25)


def test_one_unit_has_no_rival():
    alone = Layout({"h": 1}, {"h": Permutation()}, {"h": (Column("mu", 0, False, True),)}, ())
    reference = Reference({"h": np.ones((1, 1))}, precision={"h": np.ones((1, 1))})
    found = separation_of(reference, alone, "h")
    assert found.log_odds.tolist() == [[0.0]]
