"""Sets of units that are joined as layers are: the optimum over all of them, exactly."""

import numpy as np
import pytest
import xarray as xr
from coupled import coupled, highest
from hypothesis import given, settings
from hypothesis import strategies as st

import relabel
from relabel.matching.layers import Tree
from relabel.matching.search import ascend, identity

T, F = True, False
CHAIN = ((0, 1, T, T), (1, 2, T, T))
SHAPES = [
    ((3, 3, 3), CHAIN),
    ((3, 2, 3), ((1, 0, T, F), (1, 2, F, T))),
    ((2, 3, 2), ((0, 1, T, T), (0, 1, F, T), (2, 1, T, T))),  # two arrays between two sets
    ((3, 2, 2, 2), ((0, 1, T, T), (2, 0, T, T), (0, 3, T, T))),  # a star
    ((2, 2, 3), ((0, 1, T, T),)),  # one set by itself
    ((3, 3, 2), ((0, 1, T, T), (1, 1, T, T), (1, 2, T, T))),  # an array within a set
]


def solved(view):
    n = len(view)
    _, gain = ascend(view, identity(view.layout, n))
    elements, best, bound = Tree.of(view.layout).best(view, gain, np.inf)
    better = np.isfinite(best)
    np.testing.assert_allclose(view.gain(elements)[better], best[better], atol=1e-9)
    np.testing.assert_allclose(bound, np.maximum(best, gain), atol=1e-9)
    return bound


@pytest.mark.parametrize("signs", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 1000), noise=st.sampled_from([0.0, 0.3, 1.0]))
def test_the_optimum_is_that_of_all_labellings(shape, signs, seed, noise):
    if (signs and len(shape[0]) > 3) or (signs and sum(shape[0]) > 7):
        sizes = (2,) * len(shape[0])
    else:
        sizes = shape[0]
    view = coupled(sizes, shape[1], signs, np.random.default_rng(seed), noise=noise)
    np.testing.assert_allclose(solved(view), highest(view), atol=1e-9)


def test_a_draw_that_takes_too_much_is_given_up():
    view = coupled((3, 3, 3), CHAIN, False, np.random.default_rng(1), noise=1.0)
    _, best, bound = Tree.of(view.layout).best(view, np.full(3, -1e9), 1)
    assert (best == -np.inf).all()
    assert (bound >= highest(view) - 1e-9).all()


def test_sets_in_a_ring_are_no_tree():
    ring = coupled((2, 2, 2), (*CHAIN, (2, 0, T, T)), False, np.random.default_rng(0))
    assert Tree.of(ring.layout) is None
    large = coupled((8, 2, 2), CHAIN, False, np.random.default_rng(0))
    assert Tree.of(large.layout) is None


def deep(noise, rng, draws=40, size=3):
    shapes = {"W1": (2, size), "W5": (size, 1), "b5": (1,)}
    shapes |= {f"W{n}": (size, size) for n in (2, 3, 4)} | {f"b{n}": (size,) for n in (1, 2, 3, 4)}
    values = {
        name: rng.normal(size=s) + noise * rng.normal(size=(draws, *s))
        for name, s in shapes.items()
    }
    for layer in range(1, 5):
        w, b, out = f"W{layer}", f"b{layer}", f"W{layer + 1}"
        for t in range(draws):
            order, sign = rng.permutation(size), rng.choice([-1.0, 1.0], size)
            values[w][t] = (values[w][t] * sign)[:, order]
            values[b][t] = (values[b][t] * sign)[order]
            values[out][t] = (values[out][t] * sign[:, None])[order]
    return xr.Dataset(
        {
            name: (("chain", "draw", *(f"{name}{i}" for i in range(v.ndim - 1))), v[None])
            for name, v in values.items()
        }
    )


@pytest.mark.parametrize("noise", [0.3, 1.0])
def test_narrow_deep_networks_are_proved_optimal(noise):
    draws = deep(noise, np.random.default_rng(3))
    aligned = relabel.align(draws, relabel.mlp(4, "tanh"), inputs=None)
    assert (aligned["relabel_gap"] == 0).all()


def test_no_further_search_finds_anything_lower():
    draws = deep(1.0, np.random.default_rng(3), draws=20)
    to_one = relabel.criteria.ToReference(draws.isel(chain=0, draw=0))
    spec, given = relabel.mlp(4, "tanh"), {"criterion": to_one, "inputs": None}
    plain = relabel.align(draws, spec, n_perturbations=0, **given)
    further = relabel.align(draws, spec, n_random=20, n_perturbations=50, **given)
    np.testing.assert_allclose(further["relabel_loss"], plain["relabel_loss"], rtol=1e-9)
