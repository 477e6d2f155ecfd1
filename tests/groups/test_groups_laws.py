"""What every group must answer rightly: the best element, its margins, its gauge, its action."""

import numpy as np
import pytest
from group_laws import LAWS
from hypothesis import given
from hypothesis import strategies as st
from strategies import ACTIVATIONS, FUNCTIONS, SCALED, random_element, rngs

from relabel.errors import SpecError
from relabel.groups import (
    GROUPS,
    Action,
    Activation,
    Dense,
    EvenPermutation,
    Group,
    Monomial,
    Permutation,
    ScaledPermutation,
    Score,
    activation_of,
    group_of,
    group_of_activation,
    register,
)

activations = st.sampled_from(ACTIVATIONS)
ROTATES = group_of("orthogonal")
#: Every name that is registered; of the family, some members.
NAMES = [name for name in GROUPS if not name.endswith("^d")] + ["x^3", "x^4", "x^5"]
GROUPS_OF_UNITS = sorted({group_of(name) for name in NAMES} - {ROTATES}, key=repr)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@given(st.sampled_from(NAMES), st.integers(1, 5), rngs)
def test_laws_of_every_registered_symmetry(law, name, size, rng):
    law(name, size, rng)


def test_the_sign_of_nothing_is_plus():
    score = Score(np.zeros((1, 2, 2)), -np.zeros((1, 2, 2)))
    assert group_of("tanh").match(score).factor.tolist() == [[1, 1]]


def test_one_unit_without_a_sign_has_nothing_to_change_to():
    one = Monomial.identity((1,), 1)
    score = Score(np.ones((1, 1, 1)), np.full((1, 1, 1), 3.0))
    assert group_of("relu").margin(score, one).tolist() == [[np.inf]]
    assert group_of("tanh").margin(score, one).tolist() == [[6.0]]


@given(st.sampled_from(SCALED), st.sampled_from(["balanced", "unit"]), st.integers(1, 5), rngs)
def test_gauge_answers_alike_all_along_an_orbit(activation, name, size, rng):
    group = group_of(activation)
    incoming, outgoing = rng.lognormal(size=(2, 7, size))
    scale = rng.lognormal(size=(7, size))
    first = group.gauge(name, incoming, outgoing)
    moved = group.gauge(name, incoming * scale**2, outgoing * scale ** (-2 * group.degree))
    np.testing.assert_allclose(moved * scale, first, rtol=1e-12)


@given(st.sampled_from(SCALED), rngs)
def test_balanced_gauge_is_the_least_sum_of_squares(activation, rng):
    group = group_of(activation)
    incoming, outgoing = rng.lognormal(size=(2, 5, 3))
    best = group.gauge("balanced", incoming, outgoing)

    def norm(scale):
        return incoming * scale**2 + outgoing * scale ** (-2.0 * group.degree)

    for step in (0.99, 1.01, 0.5, 2.0):
        assert (norm(best) < norm(best * step)).all()


@pytest.mark.parametrize("name", ["balanced", "unit"])
def test_gauge_leaves_dead_units_alone(name):
    incoming, outgoing = np.array([[0.0, 0.0, 4.0]]), np.array([[0.0, 3.0, 0.0]])
    scale = ScaledPermutation().gauge(name, incoming, outgoing)
    assert scale.tolist() == [[1, 1, 1 if name == "balanced" else 0.5]]


@pytest.mark.parametrize("group", [g for g in GROUPS_OF_UNITS if not g.gauges()], ids=repr)
def test_no_scale_no_gauge(group):
    with pytest.raises(NotImplementedError, match="no scale"):
        group.gauge("balanced", np.ones((1, 1)), np.ones((1, 1)))


@given(activations, st.integers(1, 4), rngs)
def test_the_action_keeps_the_function_of_a_layer(activation, size, rng):
    """f(w x) v is the same before and after, with the roles' powers and signs, unit by unit."""
    group, function = group_of(activation), FUNCTIONS[activation]
    g = random_element(rng, activation, (6, size))
    head, tail = group.action("head"), group.action("tail")
    w, v = rng.normal(size=(6, 3, size)), rng.normal(size=(6, size, 2))
    x = rng.normal(size=(9, 3))
    before = function(x @ w) @ v
    moved = function(x @ g.act(w, 1, power=head.power, signed=head.signed)) @ g.act(
        v, 0, power=tail.power, signed=tail.signed
    )
    if group.shifts:  # f(-z) = 1 - f(z): the next bias takes up the rest
        flipped = (g.inverse().factor < 0)[:, :, None]
        moved = moved + (v * flipped).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(moved, before, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in NAMES if activation_of(name).function])
def test_every_activation_has_the_symmetry_of_its_group(name):
    group, function = group_of(name), activation_of(name).function
    z, scale = np.linspace(-7, 7, 141), 1.7
    if group.shifts:
        np.testing.assert_allclose(function(-z), 1 - function(z), atol=1e-12)
    elif group.signs:
        odd = group.action("tail").signed
        np.testing.assert_allclose(function(-z), -function(z) if odd else function(z), atol=1e-12)
    else:
        assert not np.allclose(function(-z), function(z))
        assert not np.allclose(function(-z), -function(z))
    if group.gauges():
        np.testing.assert_allclose(function(scale * z), scale**group.degree * function(z))
    else:
        assert not np.allclose(function(scale * z), scale * function(z))


@given(activations)
def test_only_what_keeps_the_prior_is_called_exact(activation):
    group = group_of(activation)
    assert group.exact == (not group.shifts and not group.gauges())


def test_names_are_read_kindly():
    assert group_of("Leaky-ReLU") == group_of("leaky_relu")
    assert group_of(" TANH ") == group_of("tanh")
    assert group_of("x^2") == group_of("square")
    assert group_of("x^1") == group_of("linear")


@pytest.mark.parametrize("name", ["x^0", "x^", "x^-1", "tahn", ""])
def test_unknown_activations_are_listed(name):
    with pytest.raises(SpecError, match=r"known are abs, .*'permutation' is valid"):
        group_of(name)


def test_exponents_of_an_action():
    assert Action(-1, True).raised(2) == Action(-2, False)
    assert Action(1, True).raised(3) == Action(3, True)
    assert Action(0, True).raised(2).trivial


def test_what_is_no_activation_says_why():
    with pytest.raises(SpecError, match=r"'BatchNorm' is no activation: it scales what comes"):
        group_of_activation("BatchNorm")


@pytest.mark.parametrize("name", NAMES)
def test_scales_and_degree(name):
    group = group_of(name)
    assert group.scales == (bool(group.gauges()) and name not in ("orthogonal", "rotation"))
    expected = {"batchnorm": 0, "square": 2, "x^3": 3, "x^4": 4, "x^5": 5}
    assert group.degree == expected.get(name, 1 if group.scales else 0)


# ---------------------------------------------------------------------- names


@pytest.fixture
def registry():
    """The registry, with what a test adds to it taken out again."""
    before = dict(GROUPS._known)
    yield GROUPS
    GROUPS._known.clear()
    GROUPS._known.update(before)


@pytest.mark.usefixtures("registry")
def test_a_registered_group_and_activation_are_found():
    register("Swoosh-2", Permutation())
    register("sech", Activation(EvenPermutation(), lambda z: 1 / np.cosh(z)))
    assert group_of("swoosh_2") == Permutation()
    assert activation_of("SWOOSH-2").function is None
    assert activation_of("sech").parity == "even"
    for law in LAWS:
        law("sech", 4, np.random.default_rng(0))


@pytest.mark.usefixtures("registry")
def test_a_registered_family_takes_a_degree():
    register("sin^d", lambda d: Activation(Permutation(), lambda z: np.sin(z) ** d))
    assert activation_of("sin^4").function(np.array(1.0)) == np.sin(1.0) ** 4
    with pytest.raises(SpecError, match=r"unknown activation 'sin\^d'"):
        group_of("sin^d")


@pytest.mark.usefixtures("registry")
def test_two_symmetries_of_one_name_are_refused():
    with pytest.raises(SpecError, match="two symmetries are named 'tanh'"):
        register("TANH", Permutation())


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("entry", [Permutation, "permutation", 3])
def test_what_is_registered_must_be_a_group_or_an_activation(entry):
    register("swoosh", entry)
    with pytest.raises(SpecError, match="symmetry 'swoosh' must be an instance of Group or"):
        group_of("swoosh")


def test_a_derivative_that_is_given_is_used():
    cube = Activation(ScaledPermutation(3, "odd"), lambda z: z**3, derivative=lambda z: 3 * z**2)
    assert cube.slope(np.array([2.0])).tolist() == [12.0]
    assert cube.parity == "odd"


def test_a_group_says_its_label_and_its_action_alone():
    assert Group.__abstractmethods__ == {"action"}


def test_an_unknown_name_has_a_close_one_and_a_way_out():
    with pytest.raises(SpecError, match=r"did you mean 'tanh'\?.* install that package"):
        group_of("tahn")


# ---------------------------------------------------------------------- rotations


def rotations(rng, *shape):
    return np.linalg.qr(rng.normal(size=(*shape, shape[-1])))[0]


@given(st.integers(1, 5), rngs)
def test_the_best_rotation(size, rng):
    """Better than others; never worse than any signed permutation; margins are not known."""
    means, units = rng.normal(size=(size, 7)), rng.normal(size=(6, size, 7))
    even = -(units**2).sum(axis=2)[:, None, :] - (means**2).sum(axis=1)[:, None]
    score = Score(even, 2 * np.einsum("kr,tjr->tkj", means, units))
    best = ROTATES.match(score)
    loss = ((best.act(units) - means) ** 2).sum(axis=(1, 2))
    np.testing.assert_allclose(score.of(best), -loss, rtol=1e-9, atol=1e-9)
    for _ in range(10):
        other = Dense(rotations(rng, 6, size))
        assert (score.of(other) <= score.of(best) + 1e-9).all()
    assert (score.of(group_of("signed").match(score)) <= score.of(best) + 1e-9).all()
    assert np.isnan(ROTATES.margin(score, best)).all()


@given(st.integers(1, 4), rngs)
def test_rotations_match_equivariantly(size, rng):
    odd, turn = rng.normal(size=(6, size, size)), Dense(rotations(rng, 6, size))
    even = np.zeros_like(odd)
    moved = Score(even, odd @ turn.matrix.swapaxes(1, 2))
    again = ROTATES.match(moved) @ turn
    np.testing.assert_allclose(again.matrix, ROTATES.match(Score(even, odd)).matrix, atol=1e-6)


def test_what_a_gauge_leaves():
    assert ROTATES.remaining("none") == ROTATES
    assert ROTATES.remaining("varimax") == group_of("signed")
    assert ROTATES.remaining("varimax-kaiser") == group_of("signed")
    assert group_of("relu").remaining("unit") == group_of("relu")
