"""The table of activations: each name has its group, and each function the symmetry it claims."""

import numpy as np
import pytest

from relabel.errors import SpecError
from relabel.groups import (
    GROUPS,
    AffineFlip,
    EvenPermutation,
    NormedPermutation,
    Orthogonal,
    Permutation,
    ScaledPermutation,
    SignedPermutation,
    activation_of,
    group_of,
)
from relabel.groups.activations import _TABLE

#: Name -> group, and whether the prior is preserved too.
TABLE = {
    **dict.fromkeys(
        ["permutation", "gelu", "silu", "swish", "softplus", "elu", "selu", "mish", "relu6"],
        (Permutation(), True),
    ),
    **dict.fromkeys(
        ["signed", "tanh", "erf", "arctan", "atan", "softsign", "hardtanh", "sin"],
        (SignedPermutation(), True),
    ),
    **dict.fromkeys(["cos", "gaussian"], (EvenPermutation(), True)),
    **dict.fromkeys(["sigmoid", "logistic", "hard_sigmoid", "normal_cdf"], (AffineFlip(), False)),
    **dict.fromkeys(["relu", "leaky_relu", "prelu", "maxout"], (ScaledPermutation(), False)),
    "abs": (ScaledPermutation(1, "even"), False),
    "square": (ScaledPermutation(2, "even"), False),
    "linear": (ScaledPermutation(1, "odd"), False),
    "identity": (ScaledPermutation(1, "odd"), False),
    "batchnorm": (NormedPermutation(), False),
    "orthogonal": (Orthogonal(), False),
    "rotation": (Orthogonal(), False),
}
#: Names that stand for a family of functions.
WITHOUT_FUNCTION = {"signed", "permutation", "prelu", "maxout", "orthogonal", "rotation"}
WITHOUT_FUNCTION |= {"batchnorm"}

FUNCTIONS = {name: activation_of(name).function for name in set(TABLE) - WITHOUT_FUNCTION}

Z = np.linspace(-4.7, 4.7, 95)  # symmetric about zero, which it includes


def is_odd(f):
    return np.allclose(f(-Z), -f(Z), rtol=1e-13, atol=1e-14)


def is_even(f):
    return np.allclose(f(-Z), f(Z), rtol=1e-13, atol=1e-14)


def is_affine(f):
    return np.allclose(f(-Z), 1 - f(Z), rtol=1e-13, atol=1e-14)


def is_homogeneous(f, degree):
    scales = (0.3, 1.7, 5.0)
    return all(np.allclose(f(s * Z), s**degree * f(Z), rtol=1e-12, atol=1e-13) for s in scales)


@pytest.mark.parametrize("name", TABLE)
def test_group_and_class(name):
    group, exact = TABLE[name]
    assert group_of(name) == group
    assert type(group_of(name)) is type(group)
    assert group_of(name).exact is exact


def test_the_table_is_complete():
    assert set(_TABLE) == {*TABLE, "x^d"}
    assert set(_TABLE) <= set(GROUPS)
    assert {name for name in TABLE if activation_of(name).function is None} == WITHOUT_FUNCTION


@pytest.mark.parametrize("degree", [1, 2, 3, 4, 10])
def test_powers(degree):
    parity = "odd" if degree % 2 else "even"
    assert group_of(f"x^{degree}") == ScaledPermutation(degree, parity)
    assert not group_of(f"x^{degree}").exact
    assert is_homogeneous(activation_of(f"x^{degree}").function, degree)


@pytest.mark.parametrize("name", ["TANH", " tanh ", "Tanh"])
def test_case_and_blanks(name):
    assert group_of(name) == SignedPermutation()
    assert activation_of(name).function is np.tanh


@pytest.mark.parametrize("name", ["leaky-relu", "Leaky_ReLU", "LEAKY-RELU"])
def test_hyphens(name):
    assert group_of(name) == ScaledPermutation()
    assert activation_of(name).function is FUNCTIONS["leaky_relu"]


@pytest.mark.parametrize(
    "name", ["tanhh", "", "x^0", "x^", "x^-1", "x^1.5", "x^03", "perm utation"]
)
def test_unknown(name):
    with pytest.raises(SpecError) as caught:
        group_of(name)
    message = str(caught.value)
    assert f"unknown activation {name!r}" in message
    assert all(known in message for known in GROUPS)
    assert "'permutation' is valid" in message


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_the_function_has_the_symmetry_of_its_group_and_no_more(name):
    f, group = FUNCTIONS[name], group_of(name)
    scaled = isinstance(group, ScaledPermutation)
    odd = isinstance(group, SignedPermutation) or (scaled and group.parity == "odd")
    even = isinstance(group, EvenPermutation) or (scaled and group.parity == "even")
    assert is_odd(f) == odd
    assert is_even(f) == even
    assert is_affine(f) == isinstance(group, AffineFlip)
    if scaled:
        assert is_homogeneous(f, group.degree)
    else:
        assert not any(is_homogeneous(f, degree) for degree in (1, 2, 3))


@pytest.mark.parametrize("name", sorted(n for n in FUNCTIONS if not group_of(n).shifts))
def test_a_factor_on_both_sides_cancels_in_the_network(name):
    """One unit times a factor, by the actions of the group, is the same function of the input."""
    group, f = group_of(name), activation_of(name).function
    factors = [1.0, *([-1.0] if group.signs else []), *([0.4, 3.0] if group.gauges() else [])]
    w, b, v = 0.7, -0.3, 1.9
    for factor in factors:
        head, tail = group.action("head"), group.action("tail")
        by = [
            (np.sign(factor) if act.signed else 1.0) * abs(factor) ** act.power
            for act in (head, tail)
        ]
        moved = f(by[0] * (w * Z + b)) * by[1] * v
        np.testing.assert_allclose(moved, f(w * Z + b) * v, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["sigmoid", "logistic", "hard_sigmoid", "normal_cdf"])
def test_an_affine_flip_moves_the_next_bias(name):
    f, (w, b, v, c) = FUNCTIONS[name], (0.7, -0.3, 1.9, 0.4)
    flipped = f(-(w * Z + b)) * -v + (c + v)
    np.testing.assert_allclose(flipped, f(w * Z + b) * v + c, rtol=1e-13)
    assert group_of(name).shifts


def test_functions_that_do_not_determine_one():
    assert all(activation_of(name).function is None for name in WITHOUT_FUNCTION)


@pytest.mark.parametrize("name", sorted(TABLE))
def test_only_scales_and_rotations_have_gauges(name):
    group = group_of(name)
    expected = ("balanced", "unit") if isinstance(group, ScaledPermutation) else ()
    if isinstance(group, NormedPermutation):
        expected = ("unit",)
    if isinstance(group, Orthogonal):
        expected = ("varimax", "varimax-kaiser", "none")
    assert group.gauges() == expected


@pytest.mark.parametrize("name", sorted(TABLE))
def test_a_neutral_axis_needs_an_arrow_where_the_sides_differ(name):
    group = group_of(name)
    told = isinstance(group, Permutation | SignedPermutation | Orthogonal)
    assert (group.action("neutral") is not None) == told
