"""A bound is never below the gain of any labelling; a gap says how far a loss may be from it."""

import numpy as np
import pytest
from coupled import coupled, highest
from hypothesis import given, settings
from hypothesis import strategies as st

import relabel
from relabel.matching.bounds import bounded
from relabel.matching.certificate import gap_of, upper_bound
from relabel.matching.criteria.base import Reference
from relabel.matching.joint import relax_jointly
from relabel.matching.layers import Tree
from relabel.matching.search import ascend, identity
from relabel.simulate import network

T, F = True, False
RING = ((0, 1, T, T), (1, 2, T, F), (2, 0, F, T), (0, 0, T, T))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    signs=st.booleans(),
    noise=st.sampled_from([0.0, 0.3, 1.0, 3.0]),
    width=st.integers(1, 2),
    steps=st.sampled_from([0, 1, 20]),
)
def test_no_labelling_gains_more_than_the_bound(seed, signs, noise, width, steps):
    rng = np.random.default_rng(seed)
    view = coupled((2, 3, 2), RING, signs, rng, draws=2, noise=noise, width=width)
    _, gain = ascend(view, identity(view.layout, 2))
    best = highest(view)
    plain, found = bounded(view, gain).total, bounded(view, gain, steps).total
    slack = 1e-9 * (1 + np.abs(best))
    assert (found >= best - slack).all()
    assert (found <= plain + slack).all()


@pytest.mark.parametrize("signs", [False, True])
def test_the_bound_against_the_optimum_of_layers(signs):
    rng = np.random.default_rng(0)
    view = coupled((4, 4, 4), ((0, 1, T, T), (1, 2, T, T)), signs, rng, draws=20, own=3)
    _, gain = ascend(view, identity(view.layout, 20))
    optimum = Tree.of(view.layout).best(view, gain, np.inf)[2]
    plain, found = bounded(view, optimum).total, bounded(view, optimum, 50).total
    assert (found >= optimum - 1e-9).all()
    assert (found - optimum).sum() < 0.8 * (plain - optimum).sum()


def test_the_relaxed_problem_ends_with_labellings():
    rng = np.random.default_rng(0)
    view = coupled((6, 7), ((0, 1, T, T),), False, rng, draws=20, noise=0.2, own=2)
    _, gain = ascend(view, identity(view.layout, 20))
    _, joint = ascend(view, relax_jointly(view))
    assert joint.mean() > gain.mean()


def test_gaps_do_not_depend_on_a_constant():
    loss, bound, no = np.array([4.0, 5.0]), np.array([2.0, 5.0]), np.zeros(2)
    one = gap_of(loss, bound, no, Reference())
    two = gap_of(loss - 9, bound - 9, no, Reference(pair_constant=-9.0))
    assert one.tolist() == two.tolist() == [0.5, 0.0]


def test_nothing_known_is_a_gap_of_one():
    rng = np.random.default_rng(0)
    view = coupled((3, 3), ((0, 1, T, T),), False, rng)
    gain = view.gain(identity(view.layout, 3))
    known = np.array([np.inf, gain[1], np.inf])
    bound = upper_bound(view, gain, known)
    assert bound[1] == gain[1]
    assert (bound >= gain).all()


def test_the_record_says_what_is_proved():
    simulated = network((2, 9, 9, 9, 1), noise=0.5, draws=10)
    plain = relabel.align(simulated.data, simulated.spec, n_perturbations=0)
    more = relabel.align(simulated.data, simulated.spec, n_perturbations=0, certify=True)
    gaps = [aligned["relabel"]["gap"].values for aligned in (plain, more)]
    assert (gaps[0] >= gaps[1] - 1e-12).all()
    assert gaps[1].mean() < gaps[0].mean() < 1
    assert "largest gap" in plain["relabel"].attrs["relabel"]
    assert "optimum" in str(relabel.stats.alignment_report(simulated.data, plain))
