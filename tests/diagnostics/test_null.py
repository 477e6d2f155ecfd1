"""What slots explain beside shuffled units, and whether other starts lead to the same labels."""

import numpy as np
import pytest
import xarray as xr

import relabel
from relabel.diagnostics.aligned import Aligned
from relabel.diagnostics.kernels.null import agreement_of_starts, shuffled_null, variance_explained
from relabel.groups.elements import Monomial
from relabel.simulate import network


def read(data, spec, **options):
    return Aligned.read(relabel.align(data, spec, **options))


def test_variance_explained_is_that_of_its_formula():
    simulated = network((2, 3, 1), "tanh", draws=30)
    aligned = read(simulated.data, simulated.spec)
    features = aligned.features("h")
    values = features.values / np.sqrt(
        np.where(features.signed, (features.values**2).mean((0, 1)), features.values.var((0, 1)))
    )
    within = ((values - values.mean(axis=0)) ** 2).sum()
    centre = np.where(features.signed, 0.0, values.mean((0, 1)))
    total = ((values - centre) ** 2).sum()
    identity = {"h": Monomial.identity((aligned.problem.n_draws,), 3)}
    found = variance_explained(aligned.problem, identity)
    assert found["h"] == pytest.approx(1 - within / total, rel=1e-12)
    assert found[""] == found["h"]


def test_structure_is_far_above_the_null_and_noise_is_not():
    simulated = network((3, 4, 1), "tanh", draws=100, noise=0.1)
    aligned = read(simulated.data, simulated.spec)
    found = shuffled_null(aligned.problem, aligned.criterion)
    assert found.explained > found.shuffled.max() + 0.3
    rng = np.random.default_rng(0)
    noise = simulated.clean.map(lambda v: v.copy(data=rng.normal(size=v.shape)))
    aligned = read(noise, simulated.spec)
    found = shuffled_null(aligned.problem, aligned.criterion)
    assert abs(found.explained - found.shuffled.mean()) < 0.05


def test_two_hidden_layers():
    simulated = network((3, 4, 4, 1), "tanh", draws=40, noise=0.05)
    aligned = read(simulated.data, simulated.spec)
    found = shuffled_null(aligned.problem, aligned.criterion, n_replicates=3, max_draws=60)
    assert set(found.by_units) == {"h1", "h2"}
    for explained, shuffled in found.by_units.values():
        assert explained > shuffled.max() + 0.2


def test_labels_of_the_draws_do_not_matter_to_the_null():
    simulated = network((2, 3, 1), "relu", draws=50)
    aligned = read(simulated.data, simulated.spec)
    other = read(simulated.clean, simulated.spec)
    one = shuffled_null(aligned.problem, aligned.criterion, n_replicates=20)
    two = shuffled_null(other.problem, other.criterion, n_replicates=20)
    assert one.explained == pytest.approx(two.explained, rel=1e-6)
    low, high = one.interval(one.shuffled)
    assert low < two.shuffled.mean() < high


def test_the_interval_is_that_of_the_replicates():
    simulated = network((2, 3, 1), "tanh", draws=50)
    aligned = read(simulated.data, simulated.spec)
    found = shuffled_null(aligned.problem, aligned.criterion, n_replicates=30, seed=1)
    low, high = found.interval(found.shuffled)
    inside = (found.shuffled > low) & (found.shuffled < high)
    assert 0.8 <= inside.mean() <= 1
    again = shuffled_null(aligned.problem, aligned.criterion, n_replicates=30, seed=1)
    np.testing.assert_array_equal(again.shuffled, found.shuffled)


def test_starts_agree_on_structure_and_not_on_noise():
    simulated = network((3, 4, 1), "tanh", draws=100, noise=0.1)
    aligned = read(simulated.data, simulated.spec)
    shares = agreement_of_starts(aligned.problem, aligned.criterion)["h"]
    assert shares.shape == (3, 4)
    assert shares.min() > 0.99
    rng = np.random.default_rng(0)
    noise = simulated.clean.map(lambda v: v.copy(data=rng.normal(size=v.shape)))
    aligned = read(noise, simulated.spec)
    assert np.median(agreement_of_starts(aligned.problem, aligned.criterion)["h"]) < 0.8


def test_a_given_reference_has_no_start():
    simulated = network((2, 3, 1), "tanh", draws=20)
    aligned = read(simulated.data, simulated.spec)
    order = relabel.criteria.Order("b1")
    assert agreement_of_starts(aligned.problem, order) is None


def test_draws_that_are_all_alike():
    values = np.ones((2, 10, 3))
    draws = xr.Dataset({"mu": (("chain", "draw", "k"), values)})
    aligned = read(draws, {"k": "permutation"})
    found = shuffled_null(aligned.problem, aligned.criterion, n_replicates=2)
    assert np.isnan(found.explained)
