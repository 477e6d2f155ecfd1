"""The laws of symmetry groups, each a function of a name that specs may use.

They hold for every registered symmetry, and for those of other packages: a law is put to a name,
not to a class, and knows nothing of how a group does what it does.
"""

import itertools

import numpy as np
import xarray as xr

from relabel.groups import Group, Monomial, Score, activation_of, group_of
from relabel.spec.spec import Spec
from relabel.spec.transformation import Transformation

BATCH = (2, 3)  # chains, draws


def three(name, size, rng):
    """Three random elements of a batch."""
    return (group_of(name).random(BATCH, size, rng) for _ in range(3))


def same(one, two):
    """Equal up to the rounding of scales and rotations."""
    np.testing.assert_allclose(one.matrices(), two.matrices(), rtol=1e-12, atol=1e-12)


def acted(element, array, axis, action):
    return element.act(array, axis, power=action.power, signed=action.signed)


def actions(name):
    """What the factor does to axes of every role that determines it."""
    found = [group_of(name).action(role) for role in ("head", "tail", "neutral")]
    return [action for action in found if action is not None]


def whole_group(group, size):
    """Every permutation with every pattern of signs that the group has."""
    signs = (1.0, -1.0) if group.signs else (1.0,)
    pairs = itertools.product(
        itertools.permutations(range(size)), itertools.product(signs, repeat=size)
    )
    index, factor = zip(*pairs, strict=True)
    return np.array(index), np.array(factor)


def random_score(rng, group, size, n_draws, *, rounded=False):
    """A score, with many ties if rounded; without a sign there is nothing odd."""
    even, odd = rng.normal(size=(2, n_draws, size, size))
    odd = odd if group.signs else np.zeros_like(odd)
    return Score(even.round(0), odd.round(0)) if rounded else Score(even, odd)


def axioms(name, size, rng):
    g, h, k = three(name, size, rng)
    one = group_of(name).identity(BATCH, size)
    same((g @ h) @ k, g @ (h @ k))
    same(g @ one, g)
    same(one @ g, g)
    same(g @ g.inverse(), one)
    same(g.inverse() @ g, one)
    same((g @ h).inverse(), h.inverse() @ g.inverse())
    assert not one.moves().any()
    assert one.equals(one).all()


def closure(name, size, rng):
    group = group_of(name)
    g, h, _ = three(name, size, rng)
    product = (g @ h).inverse()
    assert type(product) is type(group.identity(BATCH, size))
    assert product.mixes == group.rotates
    assert (product.batch, product.size) == (BATCH, size)
    product.checked("h", *product.arrays)
    if not group.rotates:
        index, factor = product.arrays
        assert (np.sort(index) == np.arange(size)).all()
        assert group.signs or (factor > 0).all()
        assert group.scales or (np.abs(factor) == 1).all()


def product_and_inverse_are_those_of_matrices(name, size, rng):
    g, h, _ = three(name, size, rng)
    np.testing.assert_allclose(
        (g @ h).matrices(), g.matrices() @ h.matrices(), rtol=1e-12, atol=1e-13
    )
    np.testing.assert_allclose(
        g.inverse().matrices(), np.linalg.inv(g.matrices()), rtol=1e-10, atol=1e-12
    )


def act_is_an_action(name, size, rng):
    g, h, _ = three(name, size, rng)
    values = rng.normal(size=(*BATCH, 2, size, 3))
    for action in actions(name):
        twice = acted(g, acted(h, values, 1, action), 1, action)
        once = acted(g @ h, values, 1, action)
        np.testing.assert_allclose(once, twice, rtol=1e-10, atol=1e-12)


def undo(name, size, rng):
    """The inverse brings an array back, bit by bit where units are not scaled and do not mix."""
    group = group_of(name)
    (g, _, _), values = three(name, size, rng), rng.normal(size=(*BATCH, size, 3))
    for action in actions(name):
        back = acted(g.inverse(), acted(g, values, 0, action), 0, action)
        if group.scales or group.rotates:
            np.testing.assert_allclose(back, values, rtol=1e-12, atol=1e-12)
        else:
            assert np.array_equal(back, values)


def selection(name, size, rng):
    g, h, _ = three(name, size, rng)
    rows = rng.random(BATCH) < 0.5
    mixed = g.where(rows, h)
    assert mixed.equals(g)[rows].all()
    assert mixed.equals(h)[~rows].all()
    copy = h.copy()
    copy.put(rows, g[rows])
    assert copy.equals(mixed).all()
    same(g.reshape(6).reshape(*BATCH), g)
    same(g[:1, :1].broadcast(*BATCH)[1], g[:1, :1].broadcast(1, 3)[0])


def stored_and_read_back(name, size, rng):
    g = group_of(name).random(BATCH, size, rng)
    stored = Transformation({"h": g}).to_dataset()
    assert all(set(v.dims[:2]) == {"chain", "draw"} for v in stored.values())
    read = Transformation.from_dataset(stored, ["h"]).elements["h"]
    assert read.equals(g).all()
    assert type(read) is type(g)


def best_element_and_margin(name, size, rng):
    """The best element and its margins, by enumeration of the whole group."""
    group, size = group_of(name), min(size, 4)
    score = random_score(rng, group, size, 8, rounded=rng.random() < 0.5)
    best = group.match(score)
    margin = group.margin(score, best)
    assert margin.shape == (8, size)
    if group.rotates:  # a continuum: no random element is better, and none is the next
        score = Score(np.zeros_like(score.odd), score.odd)
        for other in (group.random((8,), size, rng) for _ in range(20)):
            assert (score.of(group.match(score)) >= score.of(other) - 1e-12).all()
        assert np.isnan(margin).all()
        return
    index, factor = whole_group(group, size)
    slots = np.arange(size)
    pairs = score.even[:, slots, index] + factor * score.odd[:, slots, index]
    totals = pairs.sum(axis=-1)
    np.testing.assert_allclose(score.of(best), totals.max(axis=1), rtol=1e-12, atol=1e-12)
    chosen, sign = best.arrays
    assert (np.abs(sign) == 1).all()
    for slot in range(size):
        kept = (index[:, slot] == chosen[:, slot, None]) & (factor[:, slot] == sign[:, slot, None])
        other = np.where(kept, -np.inf, totals).max(axis=1)
        np.testing.assert_allclose(margin[:, slot], totals.max(axis=1) - other, atol=1e-10)


def match_is_equivariant(name, size, rng):
    """A relabelled draw gets the element that first undoes the relabelling."""
    group = group_of(name)
    if group.rotates:
        return
    score = random_score(rng, group, size, 6)
    g = Monomial(
        rng.permuted(np.tile(np.arange(size), (6, 1)), axis=1),
        rng.choice([-1.0, 1.0], size=(6, size)) if group.signs else np.ones((6, size)),
    )
    columns = g.index[:, None, :]
    even = np.take_along_axis(score.even, columns, axis=2)
    odd = np.take_along_axis(score.odd, columns, axis=2) * g.factor[:, None, :]
    assert (group.match(Score(even, odd)) @ g).equals(group.match(score)).all()


def gauge_is_one_point_of_an_orbit(name, size, rng):
    group = group_of(name)
    for gauge in group.gauges():
        assert isinstance(group.remaining(gauge), Group)
        if group.rotates:
            continue
        incoming, outgoing = rng.lognormal(size=(2, 7, size))
        scale = rng.lognormal(size=(7, size))
        first = group.gauge(gauge, incoming, outgoing)
        moved = group.gauge(gauge, incoming * scale**2, outgoing * scale ** (-2 * group.degree))
        assert (first > 0).all()
        np.testing.assert_allclose(moved * scale, first, rtol=1e-12)
        dead = group.gauge(gauge, np.zeros((1, size)), np.zeros((1, size)))
        assert (dead == 1).all()


def action_keeps_the_function_of_a_layer(name, size, rng):
    """f(w x) v is the same before and after, with the roles' powers and signs, unit by unit."""
    activation = activation_of(name)
    group, function = activation.symmetry, activation.function
    if function is None:
        return
    g = group.random((6,), size, rng)
    w, v = rng.normal(size=(6, 3, size)), rng.normal(size=(6, size, 2))
    x = rng.normal(size=(9, 3))
    before = function(x @ w) @ v
    moved = function(x @ acted(g, w, 1, group.action("head"))) @ acted(
        g, v, 0, group.action("tail")
    )
    if group.shifts:  # f(-z) = 1 - f(z): the next bias takes up the rest
        flipped = (g.inverse().factor < 0)[:, :, None]
        moved = moved + (v * flipped).sum(axis=1, keepdims=True)
    size_of = np.abs(before).max()
    np.testing.assert_allclose(moved, before, rtol=1e-9, atol=1e-9 * size_of)


def function_has_the_parity_and_slope_it_claims(name, size, rng):
    activation = activation_of(name)
    f = activation.function
    if f is None:
        return
    z = np.linspace(-4.7, 4.7, 95)
    assert np.allclose(f(-z), -f(z), rtol=1e-12, atol=1e-13) == (activation.parity == "odd")
    assert np.allclose(f(-z), f(z), rtol=1e-12, atol=1e-13) == (activation.parity == "even")
    assert np.allclose(f(-z), 1 - f(z), rtol=1e-12, atol=1e-13) == activation.symmetry.shifts
    smooth = z[(np.abs(z) > 0.04) & (np.abs(np.abs(z) - 1) > 0.04) & (np.abs(z) < 2.9)]
    steps = (f(smooth + 1e-6) - f(smooth - 1e-6)) / 2e-6
    np.testing.assert_allclose(activation.slope(smooth), steps, rtol=1e-6, atol=1e-6)
    if activation.limits is not None:
        far = f(np.array([-1e9, 1e9]))
        np.testing.assert_allclose(far, activation.limits, atol=1e-6)


def transformation_is_an_action_on_draws(name, size, rng):
    """Draws of which axes carry the units: undone by the inverse, and stored like the draws."""
    group = group_of(name)
    axes = {"W": "x -> h", "V": "h -> y", "c": "-> y"}
    shapes = {"W": (3, size), "V": (size, 2), "c": (2,)}
    draws = xr.Dataset(
        {
            key: (("chain", "draw", *(f"{key}_{i}" for i in range(len(shape)))), values)
            for key, shape in shapes.items()
            for values in [rng.normal(size=(*BATCH, *shape))]
        }
    )
    resolved = Spec({"h": name}, axes).bind(draws)
    move = Transformation({"h": group.random(BATCH, size, rng)})
    moved = move.apply({"posterior": draws}, resolved)
    back = move.inverse().apply(moved, resolved)["posterior"]
    for key in draws:
        np.testing.assert_allclose(back[key], draws[key], rtol=1e-9, atol=1e-9)
        assert back[key].dims == draws[key].dims


def a_sign_of_nothing_is_plus(name, size, rng):
    group = group_of(name)
    if not group.rotates:
        nothing = Score(np.zeros((1, size, size)), -np.zeros((1, size, size)))
        assert (Monomial.of(group.match(nothing)).factor == 1).all()


LAWS = [
    axioms,
    closure,
    product_and_inverse_are_those_of_matrices,
    act_is_an_action,
    undo,
    selection,
    stored_and_read_back,
    best_element_and_margin,
    match_is_equivariant,
    gauge_is_one_point_of_an_orbit,
    action_keeps_the_function_of_a_layer,
    function_has_the_parity_and_slope_it_claims,
    transformation_is_an_action_on_draws,
    a_sign_of_nothing_is_plus,
]
