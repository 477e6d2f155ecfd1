"""Probabilities of labels: against sums over all matchings, and against known labels."""

from itertools import permutations, product

import numpy as np
import pytest

import relabel
from relabel.diagnostics.aligned import Aligned
from relabel.diagnostics.kernels.certainty import soft_labels
from relabel.diagnostics.kernels.matchings import matching_probabilities
from relabel.groups import group_of
from relabel.simulate import network, recovery

RNG = np.random.default_rng(0)


def brute_force(log_weight):
    """Probability of every pair, and of the identity, by the sum over all permutations."""
    size = log_weight.shape[1]
    every = np.array(list(permutations(range(size))))
    total = log_weight[:, np.arange(size), every].sum(axis=2)
    probability = np.exp(total - np.logaddexp.reduce(total, axis=1)[:, None])
    pairs = np.zeros_like(log_weight)
    for p, chosen in zip(probability.T, every, strict=True):
        pairs[:, np.arange(size), chosen] += p[:, None]
    return pairs, probability[:, 0]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("scale", [0.3, 3.0, 30.0])
def test_matchings_are_those_of_brute_force(size, scale):
    log_weight = scale * RNG.normal(size=(40, size, size)) + 500 * RNG.normal(size=(40, 1, size))
    pairs, unmoved = matching_probabilities(log_weight)
    expected, identity = brute_force(log_weight)
    np.testing.assert_allclose(pairs, expected, atol=1e-9)
    np.testing.assert_allclose(unmoved, identity, atol=1e-9)


def test_weights_below_all_numbers_leave_the_best_matching():
    far = np.array([[[-1e5, 0.0], [-3e5, -1e5]]])
    pairs, unmoved = matching_probabilities(far)
    assert np.isfinite(pairs).all()
    np.testing.assert_allclose(pairs[0], np.eye(2))
    assert unmoved[0] == 1


def posterior_like(size, n_draws, spread, rng):
    """Log densities of units that scatter about slots: what the sampler has to deal with."""
    centres = rng.normal(size=(size, 3))
    values = centres + spread * rng.normal(size=(n_draws, size, 3))
    return -(((values[:, None] - centres[:, None]) ** 2).sum(axis=3)) / (2 * spread**2)


@pytest.mark.parametrize("spread", [0.3, 1.0])
@pytest.mark.parametrize("size", [2, 4, 7])
def test_the_sampler_agrees_with_the_sum(size, spread):
    log_weight = posterior_like(size, 300, spread, np.random.default_rng(size))
    exact, identity = matching_probabilities(log_weight)
    sampled, same = matching_probabilities(log_weight, exact_up_to=0, n_exchanges=3000)
    np.testing.assert_allclose(sampled.sum(axis=2), 1, atol=1e-9)
    np.testing.assert_allclose(sampled.sum(axis=1), 1, atol=0.02)
    np.testing.assert_allclose(sampled.mean(axis=0), exact.mean(axis=0), atol=0.01)
    assert np.sqrt(((sampled - exact) ** 2).mean()) < 0.03
    assert np.abs(same.mean() - identity.mean()) < 0.01


def scrambled(size, n_draws, spread, rng, *, signs):
    """Units about slots, matched to the true centres; which labels are right."""
    centres = 1.5 * rng.normal(size=(size, 2))
    values = centres + spread * rng.normal(size=(n_draws, size, 2))
    choices = list(
        product(permutations(range(size)), product([1, -1] if signs else [1], repeat=size))
    )
    best = np.full(n_draws, np.inf)
    found = np.zeros((n_draws, size, 2))
    right = np.zeros((n_draws, size), dtype=bool)
    for index, flips in choices:
        moved = values[:, list(index)] * np.array(flips)[:, None]
        distance = ((moved - centres) ** 2).sum(axis=(1, 2))
        better = distance < best
        best[better], found[better] = distance[better], moved[better]
        right[better] = (np.array(index) == np.arange(size)) & (np.array(flips) == 1)
    return found, right


@pytest.mark.parametrize("signs", [False, True])
def test_claims_are_true_as_often_as_they_say(signs):
    rng = np.random.default_rng(1)
    group = group_of("tanh" if signs else "permutation")
    claims, truth = [], []
    for _ in range(6):
        values, right = scrambled(3, 1500, 0.9, rng, signs=signs)
        claims.append(soft_labels(values, np.array([signs, signs]), group).label)
        truth.append(right)
    claims, truth = np.concatenate(claims).ravel(), np.concatenate(truth).ravel()
    assert abs(claims.mean() - truth.mean()) < 0.02
    for low, high in ((0.3, 0.5), (0.5, 0.7), (0.7, 0.9), (0.9, 1.0)):
        some = (claims > low) & (claims <= high)
        assert some.sum() > 300
        assert abs(claims[some].mean() - truth[some].mean()) < 0.05


def test_fitting_to_sorted_labels_would_claim_too_much():
    values, right = scrambled(3, 3000, 1.8, np.random.default_rng(2), signs=False)
    group, kinds = group_of("permutation"), np.zeros(2, bool)
    hard = soft_labels(values, kinds, group, max_iterations=0).label.mean()
    soft = soft_labels(values, kinds, group).label.mean()
    assert abs(soft - right.mean()) < 0.5 * abs(hard - right.mean())


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("activation", ["tanh", "permutation", "cos"])
def test_units_far_apart_are_certain(size, activation):
    rng = np.random.default_rng(0)
    values = np.arange(2, 2 + size)[:, None] * 10 + rng.normal(size=(50, size, 3))
    found = soft_labels(values, np.array([True, True, False]), group_of(activation))
    assert found.label.min() > 0.999
    assert found.pair.min() > 0.999
    assert found.unmoved.min() > 0.999
    assert found.how == "exact"


def test_a_label_that_is_not_the_best_is_improbable():
    rng = np.random.default_rng(0)
    values = np.array([0.0, 10.0])[:, None] + rng.normal(size=(200, 2, 1))
    values[7] = values[7, ::-1]
    found = soft_labels(values, np.array([False]), group_of("permutation"))
    assert found.label[7].max() < 1e-3
    assert found.pair[7].max() < 1e-3
    assert found.unmoved[7] < 1e-3
    assert np.delete(found.label, 7, axis=0).min() > 0.99


def test_many_features_are_compressed():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 200))
    values = centres + 0.3 * rng.normal(size=(100, 3, 200))
    signed = np.arange(200) % 2 == 0
    found = soft_labels(values, signed, group_of("tanh"))
    assert found.how == "exact, on 60 principal components of 200 features"
    assert found.label.min() > 0.99


@pytest.mark.parametrize("n_draws", [1, 2, 5])
def test_few_draws_and_constant_ones_give_numbers(n_draws):
    values = np.broadcast_to(np.array([[1.0, 0.0], [5.0, 0.0]]), (n_draws, 2, 2))
    found = soft_labels(values, np.array([False, False]), group_of("permutation"))
    assert np.isfinite(found.label).all()
    assert found.label.min() > 0.9


def test_a_shrinkage_that_the_draws_choose_claims_better():
    """Covariances of their own are fitted to chance where units overlap (Brier score)."""
    group, kinds = group_of("permutation"), np.zeros(6, bool)
    every = np.array(list(permutations(range(3))))
    chosen, least = [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        centres = rng.normal(size=(3, 6))
        moved = (centres + 2.2 * rng.normal(size=(60, 3, 6)))[:, every]
        best = ((moved - centres) ** 2).sum(axis=(2, 3)).argmin(axis=1)
        values, right = moved[np.arange(60), best], every[best] == np.arange(3)
        label = soft_labels(values, kinds, group).label
        chosen.append(((label - right) ** 2).mean())
        label = soft_labels(values, kinds, group, shrinkage=(2.0,)).label
        least.append(((label - right) ** 2).mean())
    assert np.mean(chosen) < 0.9 * np.mean(least)


def test_relu_units_are_compared_with_incoming_norms_one():
    """Balanced, a weight that passes through zero makes right labels look impossible."""
    made = network((2, 2, 1), "relu", draws=250, noise=0.3, rng=1)
    aligned = relabel.align(made.data, made.spec, criterion="mean")
    assert recovery(aligned["relabel"], made.planted)["h"] == 1
    read = Aligned.read(aligned)
    features = read.features("h")
    norms = (features.values + read_centre(read, "h"))[:, :, :3]
    np.testing.assert_allclose((norms**2).sum(axis=2), 1, rtol=1e-9)
    label = soft_labels(features.values, features.signed, group_of("relu")).label
    assert (label < 0.1).mean() < 0.002


def read_centre(read, units):
    """What was subtracted from the features: the mean of all units."""
    raw = np.concatenate([read.smooth.block(n).own[units] for n in range(len(read.smooth.slices))])
    return raw.mean(axis=(0, 1))
