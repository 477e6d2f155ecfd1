"""The kernels against enumeration, and against a general optimiser."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from strategies import rngs

from relabel.groups import ScaledPermutation
from relabel.numerics.assignment import alternatives, assign, settle_gauges

sizes = st.integers(1, 5)


def all_totals(score):
    """Permutations, and the total of each for every draw."""
    size = score.shape[-1]
    perms = np.array(list(itertools.permutations(range(size))))
    return perms, score[:, np.arange(size), perms].sum(axis=-1)


@given(sizes, st.booleans(), rngs)
def test_assign_is_the_best_permutation(size, rounded, rng):
    score = rng.normal(size=(20, size, size))
    score = score.round(0) if rounded else score  # many ties
    index = assign(score)
    _, totals = all_totals(score)
    picked = np.take_along_axis(score, index[:, :, None], axis=2)[:, :, 0].sum(axis=1)
    assert (np.sort(index, axis=1) == np.arange(size)).all()
    np.testing.assert_allclose(picked, totals.max(axis=1), rtol=1e-12, atol=1e-12)


def test_assign_takes_the_fast_path_and_the_slow_one_alike():
    rng = np.random.default_rng(0)
    far = -((rng.normal(size=(9, 1, 4)) * 0.01 + np.arange(4) - np.arange(4)[:, None]) ** 2)
    assert (assign(far) == np.arange(4)).all()
    crowded = far + 100 * np.eye(4)[0]  # all slots want unit 0, which changes no comparison
    assert (assign(crowded) == np.arange(4)).all()


@given(sizes, st.booleans(), rngs)
def test_alternatives_by_enumeration(size, rounded, rng):
    score = rng.normal(size=(12, size, size))
    score = score.round(0) if rounded else score
    index = assign(score)
    perms, totals = all_totals(score)
    found = alternatives(score, index)
    assert found.shape == (12, size)
    for slot in range(size):
        other = perms[:, slot] != index[:, slot, None]
        best_other = np.where(other, totals, -np.inf).max(axis=1)
        np.testing.assert_allclose(found[:, slot], totals.max(axis=1) - best_other, atol=1e-10)


def test_alternatives_in_many_blocks():
    rng = np.random.default_rng(1)
    score = rng.normal(size=(3000, 4, 4))
    index = assign(score)
    whole = alternatives(score, index)
    parts = [alternatives(score[i : i + 7], index[i : i + 7]) for i in range(0, 3000, 7)]
    assert np.array_equal(whole, np.concatenate(parts))


# ---------------------------------------------------------------------- gauges


def relu_terms(rng, sizes, n_draws=3, degree=1):
    """Squared weights and biases of a deep network, with named axes and powers."""
    names = [None, *(f"h{i}" for i in range(1, len(sizes) - 1)), None]
    terms = []
    for i in range(len(sizes) - 1):
        head, tail = (names[i + 1], int(names[i + 1] is not None)), (names[i], -degree)
        tail = tail if names[i] else (None, 0)
        terms.append((rng.normal(size=(n_draws, sizes[i], sizes[i + 1])) ** 2, (tail, head)))
        terms.append((rng.normal(size=(n_draws, sizes[i + 1])) ** 2, (head,)))
    return terms, {n: k for n, k in zip(names, sizes, strict=True) if n}


def rescaled(terms, scales):
    """The squared entries under scales."""
    result = []
    for squares, axes in terms:
        values = squares
        for position, (units, power) in enumerate(axes):
            if units is not None:
                shape = [len(values)] + [1] * (values.ndim - 1)
                shape[position + 1] = -1
                values = values * (scales[units] ** (2 * power)).reshape(shape)
        result.append(values)
    return result


def gauge_of(name, degree=1):
    group = ScaledPermutation(degree)
    return lambda incoming, outgoing: group.gauge(name, incoming, outgoing)


def norms(terms, values, units):
    """Squared norms into and out of every unit."""
    sums = {1: 0.0, -1: 0.0}
    for (_, axes), array in zip(terms, values, strict=True):
        for position, (name, power) in enumerate(axes):
            if name == units:
                others = tuple(a for a in range(1, array.ndim) if a != position + 1)
                sums[int(np.sign(power))] = sums[int(np.sign(power))] + array.sum(axis=others)
    return sums[1], sums[-1]


@given(st.lists(st.integers(1, 5), min_size=3, max_size=6), st.sampled_from([1, 2, 3]), rngs)
def test_balanced_balances_every_unit(sizes, degree, rng):
    terms, units = relu_terms(rng, sizes, degree=degree)
    scales = settle_gauges(terms, units, dict.fromkeys(units, gauge_of("balanced", degree)))
    values = rescaled(terms, scales)
    for name in units:
        incoming, outgoing = norms(terms, values, name)
        np.testing.assert_allclose(incoming, degree * outgoing, rtol=1e-10)


def test_balanced_is_the_least_norm():
    rng = np.random.default_rng(4)
    terms, units = relu_terms(rng, (2, 3, 2, 1), n_draws=1)
    scales = settle_gauges(terms, units, dict.fromkeys(units, gauge_of("balanced")))

    def norm(logs):
        parts = {"h1": np.exp(logs[None, :3]), "h2": np.exp(logs[None, 3:])}
        return sum(values.sum() for values in rescaled(terms, parts))

    best = minimize(norm, np.zeros(5), tol=1e-14)
    logs = np.log(np.concatenate([scales["h1"][0], scales["h2"][0]]))
    assert norm(logs) <= best.fun * (1 + 1e-12)
    np.testing.assert_allclose(logs, best.x, atol=1e-5)


@given(st.lists(st.integers(1, 5), min_size=3, max_size=5), rngs)
def test_unit_gauge_has_incoming_norm_one(sizes, rng):
    terms, units = relu_terms(rng, sizes)
    scales = settle_gauges(terms, units, dict.fromkeys(units, gauge_of("unit")))
    values = rescaled(terms, scales)
    for name in units:
        np.testing.assert_allclose(norms(terms, values, name)[0], 1.0, rtol=1e-12)


@pytest.mark.parametrize("dead", ["incoming", "outgoing"])
def test_a_unit_of_zero_norm_is_left_alone(dead):
    rng = np.random.default_rng(0)
    terms, units = relu_terms(rng, (3, 4, 2))
    if dead == "incoming":
        terms[0][0][:, :, 1] = 0
        terms[1][0][:, 1] = 0
    else:
        terms[2][0][:, 1, :] = 0
    scales = settle_gauges(terms, units, {"h1": gauge_of("balanced")})
    assert (scales["h1"][:, 1] == 1).all()
    incoming, outgoing = norms(terms, rescaled(terms, scales), "h1")
    live = [0, 2, 3]
    np.testing.assert_allclose(incoming[:, live], outgoing[:, live], rtol=1e-12)


def test_what_is_settled_stays_bit_for_bit():
    rng = np.random.default_rng(0)
    terms, units = relu_terms(rng, (3, 4, 4, 2), n_draws=50)
    gauges = dict.fromkeys(units, gauge_of("balanced"))
    values = rescaled(terms, settle_gauges(terms, units, gauges))
    settled = [(v, axes) for v, (_, axes) in zip(values, terms, strict=True)]
    for scale in settle_gauges(settled, units, gauges).values():
        assert (scale == 1).all()


def test_draws_do_not_depend_on_each_other():
    rng = np.random.default_rng(0)
    terms, units = relu_terms(rng, (3, 4, 4, 2), n_draws=30)
    gauges = dict.fromkeys(units, gauge_of("balanced"))
    whole = settle_gauges(terms, units, gauges)
    one = settle_gauges([(v[7:8], axes) for v, axes in terms], units, gauges)
    for name in units:
        np.testing.assert_allclose(one[name][0], whole[name][7], rtol=1e-13)


@pytest.mark.parametrize("outside", [1.0, 1e-2, 0.0])
def test_recurrent_weights_are_balanced_too(outside):
    """The same units on both axes: "h -> h"."""
    rng = np.random.default_rng(0)
    ends = outside * rng.normal(size=(2, 3, 4)) ** 2, outside * rng.normal(size=(2, 4, 1)) ** 2
    terms = [
        (ends[0], ((None, 0), ("h", 1))),
        (ends[1], (("h", -1), (None, 0))),
        (rng.normal(size=(2, 4, 4)) ** 2, (("h", -1), ("h", 1))),
    ]
    scales = settle_gauges(terms, {"h": 4}, {"h": gauge_of("balanced")})
    incoming, outgoing = norms(terms, rescaled(terms, scales), "h")
    np.testing.assert_allclose(incoming, outgoing, rtol=1e-10)


def test_two_units_that_only_feed_each_other_are_balanced():
    """Scaling both at once would overshoot for ever."""
    rng = np.random.default_rng(0)
    squares = rng.lognormal(size=(2, 2, 2)) * np.array([[0.0, 1.0], [1.0, 0.0]])
    terms = [(squares, (("h", -1), ("h", 1)))]
    scales = settle_gauges(terms, {"h": 2}, {"h": gauge_of("balanced")})
    incoming, outgoing = norms(terms, rescaled(terms, scales), "h")
    np.testing.assert_allclose(incoming, outgoing, rtol=1e-10)
