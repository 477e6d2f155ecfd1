"""Which copies of the reference mode were visited, on planted elements."""

import itertools
import json
import math

import numpy as np
import pytest
import xarray as xr
from files import RECORDED

import relabel
from relabel import Spec
from relabel.diagnostics.checks.orbit import OrbitRow
from relabel.diagnostics.kernels.orbits import _rank, orbit
from relabel.diagnostics.measurements import plain_values
from relabel.groups.elements import Monomial
from relabel.simulate import network
from relabel.spec.transformation import Transformation

DATA = RECORDED
AXES = {"W": "x -> h", "b": "-> h", "V": "h -> y", "c": "-> y"}


def bound_to(symmetry, size, chains=4, draws=10):
    """A spec bound to one hidden layer of so many units."""
    shapes = {"W": (2, size), "b": (size,), "V": (size, 1), "c": (1,)}
    arrays = {
        name: (
            ("chain", "draw", *(f"{name}{i}" for i in range(len(shape)))),
            np.ones((chains, draws, *shape)),
        )
        for name, shape in shapes.items()
    }
    return Spec({"h": symmetry}, AXES).bind(xr.Dataset(arrays))


def random_elements(rng, batch, size, *, signs=True):
    index = rng.permuted(np.broadcast_to(np.arange(size), (*batch, size)), axis=-1)
    factor = rng.choice([-1.0, 1.0], size=index.shape) if signs else np.ones(index.shape)
    return Monomial(index, factor)


def held(element, draws):
    """The same element in all draws of a chain."""
    return Monomial(*(np.repeat(part, draws, axis=1) for part in (element.index, element.factor)))


@pytest.mark.parametrize(
    ("symmetry", "order", "tested"),
    [
        ("tanh", 3840, 3840),
        ("relu", 120, 120),
        ("gelu", 120, 120),
        ("sigmoid", 3840, 120),
        ("cos", 3840, 3840),
        ("linear", 3840, 3840),
    ],
)
def test_the_order_is_that_of_the_group(symmetry, order, tested):
    element = random_elements(np.random.default_rng(0), (4, 10), 5)
    found = orbit({"h": element}, bound_to(symmetry, 5), n_simulations=9)["h"]
    assert (found.order, found.order_tested) == (order, tested)


def test_the_order_of_a_large_group_is_exact():
    element = random_elements(np.random.default_rng(0), (4, 10), 40)
    found = orbit({"h": element}, bound_to("tanh", 40))["h"]
    assert found.order == math.factorial(40) * 2**40
    assert math.isnan(found.p_value)
    assert json.loads(json.dumps(plain_values(OrbitRow.of(found))))["order"] == found.order


def test_visits_switches_and_occupancy_are_counted():
    index = np.array([[[0, 1], [1, 0], [1, 0], [0, 1]], [[0, 1], [0, 1], [0, 1], [0, 1]]])
    factor = np.ones(index.shape)
    factor[0, 2] = -1
    found = orbit({"h": Monomial(index, factor)}, bound_to("tanh", 2, 2, 4))["h"]
    assert found.visited == 3
    np.testing.assert_allclose(found.shares, [0.75, 0.125, 0.125])
    np.testing.assert_allclose(found.switching_of_chains, [1.0, 0.0])
    assert found.switching == 0.5
    np.testing.assert_allclose(found.occupancy, [[0.75, 0.25], [0.25, 0.75]])
    assert found.overlap == pytest.approx(0.5)


def test_scales_are_no_copies():
    rng = np.random.default_rng(0)
    index = np.broadcast_to(np.arange(3), (4, 10, 3))
    found = orbit({"h": Monomial(index, rng.lognormal(size=index.shape))}, bound_to("relu", 3))["h"]
    assert (found.visited, found.switching, found.overlap) == (1, 0.0, 1.0)


def test_draws_and_chains_that_are_left_out_do_not_count():
    rng = np.random.default_rng(0)
    element = random_elements(rng, (6, 10), 3)
    resolved = bound_to("tanh", 3, 6, 10)
    excluded = np.zeros((6, 10), bool)
    excluded[1:3, 4] = True
    flagged = np.array([True, False, False, False, False, False])
    found = orbit({"h": element}, resolved, excluded=excluded, flagged=flagged)["h"]
    assert found.n_chains == 5
    assert math.isnan(found.switching_of_chains[0])
    kept = ~excluded & ~flagged[:, None]
    labels = (2 * element.index + (element.factor < 0))[kept]
    assert found.visited == len(np.unique(labels, axis=0))
    others = orbit({"h": element[1:]}, resolved, excluded=excluded[1:])["h"]
    row, same = (plain_values(OrbitRow.of(one)) for one in (found, others))
    assert row == {
        **same,
        "switching_of_chains": [None, *same["switching_of_chains"]],
        "p_value": found.p_value,
    }


def test_nothing_left_gives_no_numbers():
    element = random_elements(np.random.default_rng(0), (2, 3), 3)
    found = orbit({"h": element}, bound_to("tanh", 3), excluded=np.ones((2, 3), bool))["h"]
    row = plain_values(OrbitRow.of(found))
    assert (row["visited"], row["n_chains"]) == (0, 0)
    assert row["switching"] is None
    assert row["p_value"] is None


@pytest.mark.parametrize("signs", [True, False])
def test_the_rank_numbers_all_elements(signs):
    perms = list(itertools.permutations(range(4)))
    flips = list(itertools.product((0, 1), repeat=4)) if signs else [(0, 0, 0, 0)]
    labels = np.array(
        [[2 * i + s for i, s in zip(p, f, strict=True)] for p in perms for f in flips]
    )
    assert sorted(_rank(labels, signs=signs)) == list(range(len(labels)))


# ---------------------------------------------------------------------- the test of uniformity


def p_values(make, *, size, symmetry="tanh", n=150, chains=6, draws=20):
    """P-values of many simulated posteriors."""
    resolved = bound_to(symmetry, size, chains, draws)
    rng = np.random.default_rng(1)
    runs = [
        orbit({"h": make(rng, (chains, draws), size)}, resolved, n_simulations=99, seed=run)["h"]
        for run in range(n)
    ]
    return np.array([run.p_value for run in runs])


def chain_held(rng, batch, size):
    return held(random_elements(rng, (batch[0], 1), size), batch[1])


def two_spare(rng, batch, size):
    """Every chain keeps its copy, but for two units that change places and signs at random."""
    own = chain_held(rng, batch, size)
    spare = Monomial.identity(batch, size)
    swap = rng.random(batch) < 0.5
    spare.index[..., :2] = np.where(swap[..., None], [1, 0], [0, 1])
    spare.factor[..., :2] = rng.choice([-1.0, 1.0], size=(*batch, 2))
    return spare @ own


@pytest.mark.parametrize("make", [chain_held, two_spare])
def test_uniform_visits_are_not_rejected_too_often(make):
    """Of 150 the share below 0.05 has a standard error of 0.018."""
    p = p_values(make, size=3)
    assert (p <= 0.05).mean() < 0.11
    assert (p <= 0.3).mean() < 0.42


def test_draws_of_a_chain_are_no_independent_visits():
    """Taken one by one, draws that keep to few copies would be far from uniform: p < 1e-6."""
    rng = np.random.default_rng(1)
    element = two_spare(rng, (6, 200), 4)
    found = orbit({"h": element}, bound_to("tanh", 4, 6, 200))["h"]
    assert found.visited < found.order / 4
    assert found.p_value > 0.05


def started_together(rng, batch, size):
    """All chains keep to one copy, but for the spare units."""
    spare = two_spare(rng, batch, size)
    first = Monomial(spare.index[:1, :1], spare.factor[:1, :1])
    same = Monomial.identity(batch, size)
    same.index[..., :2] = np.where(rng.random((*batch, 1)) < 0.5, [1, 0], [0, 1])
    return same @ held(first, batch[1])


def test_chains_from_one_start_are_found():
    assert p_values(started_together, size=3, n=20).max() <= 0.02


def test_the_p_value_does_not_depend_on_the_reference():
    rng = np.random.default_rng(3)
    element = started_together(rng, (5, 30), 3)
    other = held(random_elements(rng, (1, 1), 3), 30)
    moved = Monomial(*(np.broadcast_to(part, (5, 30, 3)) for part in (other.index, other.factor)))
    resolved = bound_to("tanh", 3, 5, 30)
    one, two = (orbit({"h": g}, resolved)["h"] for g in (element, moved @ element))
    assert one.overlap == pytest.approx(two.overlap, abs=1e-12)
    assert one.p_value == pytest.approx(two.p_value, abs=0.01)


def test_too_few_chains_to_tell():
    element = random_elements(np.random.default_rng(0), (3, 10), 3)
    resolved = bound_to("tanh", 3, 3, 10)
    assert math.isnan(orbit({"h": element}, resolved)["h"].p_value)
    assert orbit({"h": element}, resolved, min_chains=3)["h"].p_value <= 1
    one = orbit({"h": element[:1]}, resolved, min_chains=1)["h"]
    assert math.isnan(one.p_value)
    assert math.isnan(one.overlap)


# ---------------------------------------------------------------------- draws


@pytest.mark.parametrize("switching", ["draw", "chain"])
def test_planted_elements_are_found(switching):
    simulated = network((2, 3, 1), "tanh", chains=6, draws=30, switching=switching, rng=2)
    aligned = relabel.align(simulated.data, simulated.spec)
    stored = Transformation.from_dataset(aligned["relabel"].to_dataset(), ["h"])
    resolved = simulated.spec.bind(simulated.clean)
    found = orbit(stored.elements, resolved)["h"]
    truth = orbit(simulated.planted.inverse().elements, resolved)["h"]
    assert found.visited == truth.visited
    assert found.switching == truth.switching
    np.testing.assert_allclose(found.shares, truth.shares)
    assert found.p_value > 0.05


def test_scrambled_chains_of_a_deep_network():
    """Every chain was started in a copy of its own and never left it."""
    with xr.open_datatree(DATA / "tanh_3-4-4-1.nc", engine="h5netcdf") as file:
        tree = file.load()
    aligned = relabel.align(tree, relabel.propose(tree).spec)
    stored = Transformation.from_dataset(aligned["relabel"].to_dataset(), ["h1", "h2"])
    resolved = relabel.propose(tree).spec.bind(tree["posterior"].to_dataset())
    for found in orbit(stored.elements, resolved).values():
        assert (found.order, found.visited, found.switching) == (384, 8, 0.0)
        assert found.p_value > 0.5
