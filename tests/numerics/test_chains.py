"""Which chains are flagged, and which are not."""

import numpy as np
import pytest

from relabel.numerics.chains import distance_of_means, flag_chains

RNG = np.random.default_rng(0)


def slow(n_chains, n_draws, rng, memory=0.98):
    """Chains of one distribution that hardly move."""
    noise = rng.normal(size=(n_chains, n_draws)) * np.sqrt(1 - memory**2)
    values = np.empty((n_chains, n_draws))
    values[:, 0] = rng.normal(size=n_chains)
    for t in range(1, n_draws):
        values[:, t] = memory * values[:, t - 1] + noise[:, t]
    return values


def test_slow_chains_of_one_mode_are_not_flagged():
    rng = np.random.default_rng(3)
    for _ in range(20):
        lp = 3 * slow(6, 200, rng)
        outputs = np.stack([slow(6, 200, rng) for _ in range(5)], axis=2)
        assert not flag_chains(lp, outputs).reasons


def test_a_gap_in_lp_is_flagged_and_says_how_large():
    lp = RNG.normal(size=(5, 300))
    lp[[1, 4]] -= 30
    found = flag_chains(lp)
    assert list(found.reasons) == [1, 4]
    assert "median lp 3" in found.reasons[1]
    assert found.sound.tolist() == [True, False, True, True, False]


def test_the_bound_grows_with_the_spread():
    lp = 10 * RNG.normal(size=(4, 300))
    lp[2] -= 30
    assert not flag_chains(lp).reasons
    assert list(flag_chains(lp, n_sd=1).reasons) == [2]


def test_other_outputs_at_equal_lp():
    lp, outputs = RNG.normal(size=(5, 200)), RNG.normal(size=(5, 200, 30))
    outputs[3, :, :6] += 5
    found = flag_chains(lp, outputs)
    assert list(found.reasons) == [3]
    assert "outputs" in found.reasons[3]
    assert found.function_distance[3] > 3
    assert (found.function_distance[[0, 1, 2, 4]] == 0).all()


def test_outputs_alone_will_do_and_the_larger_group_is_the_main_one():
    outputs = RNG.normal(size=(5, 200, 8))
    outputs[[0, 1]] += 10
    assert list(flag_chains(None, outputs).reasons) == [0, 1]


def test_of_two_groups_of_one_size_the_denser_is_the_main_one():
    lp, outputs = RNG.normal(size=(4, 200)), RNG.normal(size=(4, 200, 8))
    outputs[[0, 1]] += 10
    lp[[0, 1]] += 3
    assert list(flag_chains(lp, outputs).reasons) == [2, 3]


def test_drift():
    lp = RNG.normal(size=(4, 400))
    lp[1] += np.linspace(-40, 0, 400)
    found = flag_chains(lp)
    assert list(found.reasons) == [1]


def test_a_chain_that_does_not_move():
    lp = RNG.normal(size=(4, 100))
    lp[2] = lp[2, 0]
    assert flag_chains(lp).reasons == {2: "its draws are all the same"}


def test_where_all_chains_are_flagged_all_take_part():
    found = flag_chains(None, np.zeros((3, 50, 4)))
    assert len(found.reasons) == 3
    assert found.sound.all()


def test_an_lp_that_is_the_same_throughout_says_nothing():
    assert not flag_chains(np.zeros((3, 50))).reasons
    moving = RNG.normal(size=(3, 50, 4))
    assert not flag_chains(np.zeros((3, 50)), moving).reasons
    moving[1] = 0.3
    assert list(flag_chains(RNG.normal(size=(3, 50)), moving).reasons) == [1]


@pytest.mark.parametrize(("n_chains", "n_draws"), [(100, 1), (20, 1), (6, 1), (8, 5)])
def test_short_chains_of_one_mode(n_chains, n_draws):
    rng = np.random.default_rng(5)
    for _ in range(20):
        lp = -0.5 * rng.chisquare(400, size=(n_chains, n_draws))
        outputs = rng.normal(size=(n_chains, n_draws, 7))
        assert not flag_chains(lp, outputs).reasons


def test_many_short_slow_chains():
    rng = np.random.default_rng(6)
    assert not flag_chains(30 * slow(1000, 5, rng, memory=0.95)).reasons


def test_short_chains_in_a_far_worse_mode():
    rng = np.random.default_rng(7)
    lp = rng.normal(size=(30, 5))
    lp[:10] -= 200
    assert list(flag_chains(lp).reasons) == list(range(10))


def test_draws_that_take_no_part_are_left_out():
    lp = RNG.normal(size=(3, 100))
    lp[0, :50] = np.nan
    outputs = np.repeat(lp[:, :, None], 2, axis=2)
    assert not flag_chains(lp, outputs).reasons


def test_neither_lp_nor_outputs():
    with pytest.raises(ValueError, match="neither"):
        flag_chains(None)


def test_distance_of_means():
    n = np.zeros(100)
    assert distance_of_means(n, n + 1, n + 2, n + 1) == pytest.approx(2.0)
    assert distance_of_means(n, n, n, n) == 0
    assert distance_of_means(n, n, n + 1, n) > 1e9
