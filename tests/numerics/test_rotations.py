"""Kernels for rotations: varimax and Procrustes, against definitions, brute force and R."""

import itertools

import numpy as np
import pytest
from files import RECORDED
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from strategies import rngs

from relabel.numerics.rotations import procrustes, varimax

GOLDEN = np.load(RECORDED / "golden" / "fs_synth_sp_q5.npz")


def value(loadings):
    """The criterion, from its definition: variances of the squares, column by column."""
    return (loadings**2).var(axis=-2).sum(axis=-1)


def turned(loadings, one, two, angle):
    """Two columns turned in their plane."""
    result = loadings.copy()
    c, s = np.cos(angle), np.sin(angle)
    result[:, one] = c * loadings[:, one] + s * loadings[:, two]
    result[:, two] = c * loadings[:, two] - s * loadings[:, one]
    return result


def sparse(rng, draws, items, factors, noise=0.1):
    centre = rng.normal(size=(items, factors)) * (rng.random((items, factors)) < 0.5)
    draws = centre + noise * rng.normal(size=(draws, items, factors))
    return draws @ random_rotations(rng, len(draws), factors)


def random_rotations(rng, draws, size):
    return np.linalg.qr(rng.normal(size=(draws, size, size)))[0]


@given(st.integers(2, 9), st.integers(1, 6), st.booleans(), rngs)
@settings(max_examples=12, deadline=None)
def test_no_plane_can_be_improved(items, factors, kaiser, rng):
    draws = rng.normal(size=(4, items, factors))
    rotation = varimax(draws, kaiser=kaiser)
    np.testing.assert_allclose(
        rotation @ rotation.swapaxes(1, 2),
        np.broadcast_to(np.eye(factors), rotation.shape),
        atol=1e-13,
    )
    length = np.linalg.norm(draws, axis=2, keepdims=True) if kaiser else 1.0
    rotated = (draws / length) @ rotation
    for columns in rotated:
        for one, two in itertools.combinations(range(factors), 2):
            best = max(
                -minimize_scalar(
                    lambda a, c=columns, i=one, j=two: -value(turned(c, i, j, a)), bounds=bounds
                ).fun
                for bounds in ((-0.8, 0.0), (0.0, 0.8))
            )
            assert best <= value(columns) + 1e-9


def test_rotated_draws_stay_bit_by_bit():
    rng = np.random.default_rng(0)
    draws = sparse(rng, 40, 20, 4)
    rotated = draws @ varimax(draws)
    assert np.array_equal(varimax(rotated), np.broadcast_to(np.eye(4), (40, 4, 4)))


def test_a_signed_permutation_moves_nothing_but_labels():
    """The maximum that is found does not depend on the order or the signs of the columns."""
    rng = np.random.default_rng(1)
    draws = sparse(rng, 30, 25, 4)
    flipped = draws[:, :, [2, 0, 3, 1]] * np.array([1, -1, -1, 1])
    np.testing.assert_allclose(
        value(draws @ varimax(draws)), value(flipped @ varimax(flipped)), rtol=1e-8
    )


@pytest.mark.parametrize("scale", [1e-200, 1e-12, 1.0, 1e150])
def test_size_does_not_matter(scale):
    draws = sparse(np.random.default_rng(2), 5, 12, 3)
    np.testing.assert_allclose(varimax(scale * draws), varimax(draws), atol=1e-9)


@pytest.mark.parametrize("kaiser", [False, True])
def test_columns_and_rows_of_zeros(kaiser):
    rng = np.random.default_rng(3)
    draws = sparse(rng, 6, 10, 3)
    whole = varimax(draws, kaiser=kaiser)
    wide = np.zeros((6, 12, 5))
    wide[:, 1:11][:, :, [0, 2, 4]] = draws
    rotation = varimax(wide, kaiser=kaiser)
    assert (rotation[:, [1, 3], [1, 3]] == 1).all()
    for column in (1, 3):
        assert (np.delete(rotation[:, column], column, axis=1) == 0).all()
        assert (np.delete(rotation[:, :, column], column, axis=1) == 0).all()
    if kaiser:  # without Kaiser's rows, those of zeros count as items
        np.testing.assert_allclose(
            value(draws / np.linalg.norm(draws, axis=2, keepdims=True) @ rotation[:, ::2, ::2]),
            value(draws / np.linalg.norm(draws, axis=2, keepdims=True) @ whole),
            rtol=0.05,
        )


@pytest.mark.parametrize(
    "shape", [(3, 5, 1), (3, 1, 4), (2, 6, 2), (0, 5, 3), (2, 0, 3), (2, 3, 6)]
)
def test_shapes_at_the_edge(shape):
    rng = np.random.default_rng(4)
    for draws in (np.zeros(shape), rng.normal(size=shape), np.ones(shape)):
        rotation = varimax(draws)
        assert rotation.shape == (shape[0], shape[2], shape[2])
        unit = np.broadcast_to(np.eye(shape[2]), rotation.shape)
        np.testing.assert_allclose(rotation @ rotation.swapaxes(1, 2), unit, atol=1e-12)
        if not draws.any():
            assert np.array_equal(rotation, unit)


@pytest.mark.parametrize("shape", [(20, 6, 3), (20, 5, 4)])
def test_rows_that_are_nearly_alike(shape):
    """Steps in single precision, whose squares it lacks, are no warning."""
    draws = 100.0 + 0.01 * np.random.default_rng(0).normal(size=shape)
    rotation = varimax(draws)
    unit = np.broadcast_to(np.eye(shape[2]), rotation.shape)
    np.testing.assert_allclose(rotation @ rotation.swapaxes(1, 2), unit, atol=1e-12)
    assert (value(draws @ rotation) > value(draws)).all()


@pytest.mark.parametrize("shape", [(20, 2, 4), (20, 3, 5)])
def test_more_columns_than_rows_settle(shape):
    """What varimax empties holds rounding, which no angle is to be found in."""
    draws = np.random.default_rng(5).normal(size=shape)
    turned = draws @ varimax(draws)
    assert np.array_equal(varimax(turned), np.broadcast_to(np.eye(shape[2]), (20, *2 * shape[2:])))


@pytest.mark.parametrize("kind", ["raw", "kaiser"])
def test_varimax_of_r(kind):
    """Equal or better in every draw; R stops early, and at local maxima."""
    draws = GOLDEN["in_lambda"]
    length = np.linalg.norm(draws, axis=2, keepdims=True) if kind == "kaiser" else 1.0
    ours = value(draws / length @ varimax(draws, kaiser=kind == "kaiser"))
    theirs = value(GOLDEN[f"varimax_{kind}_loadings"] / length)
    assert (ours >= theirs - 1e-12).all()


@given(st.integers(1, 5), rngs)
@settings(max_examples=25, deadline=None)
def test_procrustes_is_the_best_of_many(size, rng):
    score = rng.normal(size=(3, size, size))
    best = procrustes(score)
    np.testing.assert_allclose(
        best @ best.swapaxes(1, 2), np.broadcast_to(np.eye(size), best.shape), atol=1e-13
    )
    gained = (best * score).sum(axis=(1, 2))
    np.testing.assert_allclose(gained, np.linalg.svd(score)[1].sum(axis=1), rtol=1e-12)
    for other in random_rotations(rng, 20, size):
        assert ((other * score).sum(axis=(1, 2)) <= gained + 1e-12).all()
