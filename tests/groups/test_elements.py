"""Law 1, the axioms of a group, and the action on arrays, for all groups and batch shapes."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import ACTIVATIONS, SCALED, random_element, rngs

from relabel.groups.elements import Dense, Monomial, monomial, take_units

activations = st.sampled_from(ACTIVATIONS)
leads = st.sampled_from([(), (1,), (5,), (2, 3), (2, 1, 3)])
sizes = st.integers(1, 6)


def same(one, two):
    """Equal up to the rounding of scales; exactly where all factors are signs."""
    assert np.array_equal(one.index, two.index)
    np.testing.assert_allclose(one.factor, two.factor, rtol=1e-14)


def as_matrices(element):
    """The matrix of every element: the definition that all else is compared with."""
    matrices = np.zeros((*element.index.shape, element.size))
    for place in np.ndindex(element.index.shape):
        matrices[(*place, element.index[place])] = element.factor[place]
    return matrices


@given(activations, leads, sizes, rngs)
def test_axioms(activation, lead, size, rng):
    g, h, k = (random_element(rng, activation, (*lead, size)) for _ in range(3))
    one = Monomial.identity(lead, size)
    same((g @ h) @ k, g @ (h @ k))
    same(g @ one, g)
    same(one @ g, g)
    same(g @ g.inverse(), one)
    same(g.inverse() @ g, one)
    same((g @ h).inverse(), h.inverse() @ g.inverse())


@given(activations, leads, sizes, rngs)
def test_product_and_inverse_are_those_of_matrices(activation, lead, size, rng):
    g, h = (random_element(rng, activation, (*lead, size)) for _ in range(2))
    np.testing.assert_allclose(as_matrices(g @ h), as_matrices(g) @ as_matrices(h), rtol=1e-14)
    np.testing.assert_allclose(
        as_matrices(g.inverse()), np.linalg.inv(as_matrices(g)), rtol=1e-12, atol=1e-14
    )


@given(st.sampled_from(["gelu", "tanh", "cos", "sigmoid"]), leads, sizes, rngs)
def test_closure_keeps_signs_exact(activation, lead, size, rng):
    g, h = (random_element(rng, activation, (*lead, size)) for _ in range(2))
    product = (g @ h).inverse()
    assert (np.abs(product.factor) == 1).all()
    assert (np.sort(product.index) == np.arange(size)).all()


@given(st.sampled_from(SCALED), leads, sizes, rngs)
def test_closure_keeps_factors_apart_from_zero(activation, lead, size, rng):
    product = random_element(rng, activation, (*lead, size)) @ random_element(
        rng, activation, (*lead, size)
    )
    assert (product.factor != 0).all()
    if activation == "relu":
        assert (product.factor > 0).all()


@given(leads, sizes, st.integers(0, 2), rngs)
def test_act_is_the_matrix_product_along_any_axis(lead, size, axis, rng):
    core = [3, 2, 4]
    core[axis] = size
    values = rng.normal(size=(*lead, *core))
    g = random_element(rng, "linear", (*lead, size))
    last = np.moveaxis(values, len(lead) + axis, -1).reshape(*lead, -1, size)
    expected = np.einsum("...kj,...rj->...rk", as_matrices(g), last)
    moved = np.moveaxis(g.act(values, axis), len(lead) + axis, -1).reshape(*lead, -1, size)
    np.testing.assert_allclose(moved, expected, rtol=1e-14)


@given(leads, sizes, rngs)
def test_act_is_an_action(lead, size, rng):
    g, h = (random_element(rng, "abs", (*lead, size)) for _ in range(2))
    values = rng.normal(size=(*lead, 2, size))
    for power, signed in itertools.product((-2, -1, 0, 1, 2), (True, False)):
        twice = g.act(h.act(values, 1, power=power, signed=signed), 1, power=power, signed=signed)
        once = (g @ h).act(values, 1, power=power, signed=signed)
        np.testing.assert_allclose(once, twice, rtol=1e-13)


@given(leads, sizes, rngs)
def test_signs_are_undone_bit_by_bit(lead, size, rng):
    g = random_element(rng, "tanh", (*lead, size))
    values = rng.normal(size=(*lead, size, 3)) * 10.0 ** rng.integers(-300, 300, (*lead, size, 3))
    assert np.array_equal(g.inverse().act(g.act(values)), values)


def test_act_leaves_its_argument_alone():
    values = np.array([[1.0, 2.0]])
    Monomial(np.array([[1, 0]]), np.array([[-1.0, 2.0]])).act(values)
    assert values.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "int64", "bool"])
def test_dtype_stays(dtype):
    values = np.array([[0, 1, 1]], dtype=dtype)
    g = Monomial(np.array([[2, 0, 1]]), np.ones((1, 3)))
    moved = g.act(values, power=0, signed=False)
    assert moved.dtype == dtype
    assert moved.tolist() == values[:, [2, 0, 1]].tolist()


def test_power_and_sign_of_the_factor():
    g = Monomial(np.array([0, 1]), np.array([-3.0, 2.0]))
    ones = np.ones(2)
    assert g.act(ones).tolist() == [-3, 2]
    assert g.act(ones, power=2, signed=False).tolist() == [9, 4]
    assert g.act(ones, power=0).tolist() == [-1, 1]
    np.testing.assert_allclose(g.act(ones, power=-2), [-1 / 9, 1 / 4])


def test_where_equals_moves_and_selection():
    g = Monomial(np.array([[1, 0], [0, 1], [0, 1]]), np.array([[1.0, 1], [1, 1], [1, -1]]))
    assert g.moves().tolist() == [True, False, True]
    one = Monomial.identity((3,), 2)
    mixed = g.where(np.array([True, True, False]), one)
    assert mixed.equals(g).tolist() == [True, True, False]
    assert mixed.equals(one).tolist() == [False, True, True]
    assert g[1:].index.tolist() == [[0, 1], [0, 1]]
    assert (g.batch, g.size) == ((3,), 2)


@given(leads, sizes, st.integers(0, 2), rngs)
def test_take_units_is_take_along_axis(lead, size, axis, rng):
    core = [2, 3, 4]
    core[axis] = size
    values = rng.normal(size=(*lead, *core))
    index = random_element(rng, "gelu", (*lead, size)).index
    shape = [*lead, *(size if a == axis else 1 for a in range(3))]
    expected = np.take_along_axis(values, index.reshape(shape), axis=len(lead) + axis)
    assert np.array_equal(take_units(values, index, axis), expected)


@pytest.mark.parametrize("shape", [(0, 3, 2), (4, 3, 0), (0, 3, 0)])
def test_take_units_of_nothing(shape):
    index = np.tile([2, 0, 1], (shape[0], 1))
    assert take_units(np.zeros(shape), index, 0).shape == shape


def test_take_units_in_many_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(50, 2, 5, 3))
    index = random_element(rng, "gelu", (50, 5)).index
    whole = take_units(values, index, 1)
    monkeypatch.setattr("relabel.groups.elements.monomials._ROWS_PER_BLOCK", 7)
    assert np.array_equal(take_units(values, index, 1), whole)


# ---------------------------------------------------------------------- rotations


def random_dense(rng, lead, size):
    return Dense(np.linalg.qr(rng.normal(size=(*lead, size, size)))[0])


@given(leads, sizes, rngs)
def test_axioms_of_rotations(lead, size, rng):
    g, h, k = (random_dense(rng, lead, size) for _ in range(3))
    one = Dense.identity(lead, size)
    for found, expected in [
        ((g @ h) @ k, g @ (h @ k)),
        (g @ one, g),
        (one @ g, g),
        (g @ g.inverse(), one),
        (g.inverse() @ g, one),
        ((g @ h).inverse(), h.inverse() @ g.inverse()),
    ]:
        np.testing.assert_allclose(found.matrix, expected.matrix, atol=1e-13)
    product = (g @ h).matrix
    np.testing.assert_allclose(product @ product.swapaxes(-1, -2), one.matrix, atol=1e-13)


@given(leads, sizes, rngs)
def test_both_kinds_compose(lead, size, rng):
    g, h = random_dense(rng, lead, size), random_element(rng, "tanh", (*lead, size))
    matrix = as_matrices(h)
    assert np.array_equal(Dense.of(h).matrix, matrix)
    np.testing.assert_allclose((g @ h).matrix, g.matrix @ matrix, atol=1e-14)
    np.testing.assert_allclose((h @ g).matrix, matrix @ g.matrix, atol=1e-14)
    values = rng.normal(size=(*lead, 2, size, 3))
    for one, two in ((g, h), (h, g)):
        np.testing.assert_allclose((one @ two).act(values, 1), one.act(two.act(values, 1), 1))
    assert Dense.of(h).equals(h).all()
    assert h.equals(Dense.of(h)).all()


@given(leads, sizes, st.integers(0, 2), rngs)
def test_rotations_act_along_any_axis(lead, size, axis, rng):
    core = [3, 2, 4]
    core[axis] = size
    values = rng.normal(size=(*lead, *core))
    g = random_dense(rng, lead, size)
    last = np.moveaxis(values, len(lead) + axis, -1).reshape(*lead, -1, size)
    expected = np.einsum("...kj,...rj->...rk", g.matrix, last)
    moved = np.moveaxis(g.act(values, axis), len(lead) + axis, -1).reshape(*lead, -1, size)
    np.testing.assert_allclose(moved, expected, rtol=1e-12, atol=1e-13)


def test_rotations_that_do_nothing_leave_everything():
    values = np.array([[[np.nan, 1.0]], [[np.inf, -0.0]], [[3.0, 4.0]]], dtype=np.float32)
    g = Dense.identity((3,), 2)
    g.put([2], Dense(np.array([[[0.0, -1.0], [1.0, 0.0]]])))
    assert g.moves().tolist() == [False, False, True]
    moved = g.act(values, 1)
    assert moved.dtype == np.float32
    assert np.array_equal(moved[:2], values[:2], equal_nan=True)
    assert moved[2].tolist() == [[-4, 3]]
    assert values[2].tolist() == [[3, 4]]


def test_selection_of_rotations():
    rng = np.random.default_rng(0)
    g, one = random_dense(rng, (4,), 3), Dense.identity((4,), 3)
    mixed = g.where(np.array([True, False, True, False]), one)
    assert mixed.equals(one).tolist() == [False, True, False, True]
    assert (g.batch, g.size, g[1:].batch, g.reshape(2, 2).batch) == ((4,), 3, (3,), (2, 2))
    copy = g.copy()
    copy.put(slice(None), one)
    assert g.moves().all()
    with pytest.raises(ValueError, match="without signs"):
        g.act(np.ones((4, 3)), signed=False)
    with pytest.raises(TypeError, match="rotations"):
        monomial(g)
    with pytest.raises(TypeError, match="rotations"):
        Monomial.identity((4,), 3).put(slice(None), g)
