"""Simulated mixtures, hidden Markov models and factor models are what they say."""

from itertools import permutations

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import norm

import relabel
from relabel import SpecError
from relabel.groups.elements import Dense, Monomial
from relabel.simulate import factors, hmm, mixture, network, recovery, recovery_of_loadings
from relabel.simulate.gibbs import Normals
from relabel.simulate.hidden_markov import _backward, _smoothed, filtered
from relabel.simulate.planted import shares_of
from relabel.spec.transformation import Transformation

MODELS = {
    "mixture": lambda **options: mixture(3, separation=6, draws=20, **options),
    "plane": lambda **options: mixture(4, separation=6, dim=2, draws=20, **options),
    "hmm": lambda **options: hmm(3, n=60, separation=6, draws=10, **options),
    "factors": lambda **options: factors(8, 3, n=20, draws=20, **options),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_planted_transformation_leads_back_to_clean(name):
    made = MODELS[name]()
    groups = {k: v.to_dataset() for k, v in made.data.children.items() if "chain" in v.dims}
    resolved = made.spec.bind(groups)
    back = made.planted.inverse().apply(groups, resolved)
    for variable, values in made.clean.items():
        np.testing.assert_array_equal(back["posterior"][variable].values, values)
    assert recovery(made.planted.inverse(), made.planted)["draws"] == 1.0
    moved = next(iter(made.planted.elements.values()))
    assert moved.moves().mean() > 0.5


@pytest.mark.parametrize("name", MODELS)
def test_the_seed_decides(name):
    one, two, three = (MODELS[name](rng=seed).clean for seed in (1, 1, 2))
    assert one.identical(two)
    assert not one.identical(three)


@pytest.mark.parametrize("name", MODELS)
def test_chains_may_switch_as_wholes(name):
    made = MODELS[name](switching="chain")
    for element in made.planted.elements.values():
        assert (element.index == element.index[:, :1]).all()
    with pytest.raises(SpecError, match="switching"):
        MODELS[name](switching="never")


@pytest.mark.parametrize("name", ["mixture", "plane", "hmm"])
def test_clean_slots_hold_the_true_components(name):
    made = MODELS[name]()
    mean = made.clean["mu"].mean(("chain", "draw")).values
    np.testing.assert_allclose(mean, made.truth["mu"], atol=1.0)
    groups = {k: made.data[k].to_dataset() for k in ("posterior", "allocation")}
    back = made.planted.inverse().apply(groups, made.spec.bind(groups))["allocation"]
    z, truth = back["z"].values, made.data["constant_data"]["true_z"].values
    assert (z == truth).mean() > 0.97
    agreed = np.take_along_axis(back["prob"].values, z[..., None].astype(int), axis=-1)
    assert agreed.mean() > 0.97
    np.testing.assert_allclose(back["prob"].sum(back["prob"].dims[-1]), 1.0)


def test_probabilities_and_lp_of_a_mixture():
    made = mixture(3, n=30, separation=2, chains=1, draws=60)
    draws, x = made.data["posterior"].to_dataset(), made.data["constant_data"]["x"].values
    mu, sigma, w = (draws[v].values[..., None, :] for v in ("mu", "sigma", "w"))
    joint = norm.logpdf(x[:, None], mu, sigma) + np.log(w)
    expected = np.exp(joint - logsumexp(joint, axis=-1, keepdims=True))
    np.testing.assert_allclose(made.data["allocation"]["prob"].values, expected, atol=1e-10)
    prior = -0.5 * ((mu - x.mean()) / np.ptp(x)) ** 2 - 5 * np.log(sigma) - sigma**-2.0
    lp = logsumexp(joint, axis=-1).sum(axis=-1) + prior.sum(axis=(-1, -2))
    difference = made.data["sample_stats"]["lp"].values - lp
    np.testing.assert_allclose(difference - difference[0, 0], 0, atol=1e-8)


def test_the_sampler_finds_the_moments_of_one_component():
    made = mixture(1, n=400, draws=400, rng=5)
    x = made.data["constant_data"]["x"].values
    mu, sigma = made.clean["mu"].values, made.clean["sigma"].values
    assert mu.mean() == pytest.approx(x.mean(), abs=4 * x.std() / 20 / np.sqrt(1600))
    assert mu.std() == pytest.approx(x.std() / 20, rel=0.1)
    assert sigma.mean() == pytest.approx(x.std(), rel=0.01)
    assert sigma.std() == pytest.approx(x.std() / np.sqrt(800), rel=0.1)


def test_means_are_drawn_about_the_mean_of_the_data():
    """Far from zero, with a variance that is held fixed: the conjugate posterior by hand."""
    rng = np.random.default_rng(0)
    normals = Normals(50 + rng.normal(size=(30, 1)))
    many = (20000, 1, 1)
    mu, _ = normals.draw(np.ones((20000, 30, 1)), np.full(many, 2.0), rng)
    precision = 30 / 4 + normals.spread[0] ** -2.0
    assert mu.mean() == pytest.approx(normals.x.mean(), abs=4 * (precision * 20000) ** -0.5)
    assert mu.std() == pytest.approx(precision**-0.5, rel=0.03)


def test_where_components_overlap_slots_are_those_of_the_best_agreement():
    made = mixture(3, n=60, separation=1.0, draws=50)
    groups = {k: made.data[k].to_dataset() for k in ("posterior", "allocation")}
    back = made.planted.inverse().apply(groups, made.spec.bind(groups))["allocation"]
    z, truth = back["z"].values, made.data["constant_data"]["true_z"].values
    orders = np.array(list(permutations(range(3))))
    agreement = (orders[:, z] == truth).mean(axis=-1)  # (order, chain, draw)
    assert (agreement[0] == agreement.max(axis=0)).all()
    assert (agreement.argmin(axis=0) != 0).any()


def test_filter_and_smoother_against_all_paths():
    rng = np.random.default_rng(0)
    density = rng.normal(size=(5, 2))
    first, moves = rng.dirichlet([1, 1]), rng.dirichlet([1, 1], size=2)
    paths = np.array(np.meshgrid(*[[0, 1]] * 5, indexing="ij")).reshape(5, -1).T
    joint = np.log(first[paths[:, 0]]) + density[np.arange(5), paths].sum(axis=1)
    joint += np.log(moves[paths[:, :-1], paths[:, 1:]]).sum(axis=1)
    forward, evidence = filtered(density, first, moves)
    assert evidence == pytest.approx(logsumexp(joint))
    weight = np.exp(joint - evidence)
    assert forward[-1, 1] == pytest.approx(weight[paths[:, -1] == 1].sum())
    smooth = _smoothed(forward, moves)
    np.testing.assert_allclose(smooth[:, 1], weight @ (paths == 1), rtol=1e-10)
    many = np.broadcast_to(forward, (20000, 5, 2))
    drawn = _backward(many, np.broadcast_to(moves, (20000, 2, 2)), rng)
    codes = np.bincount(drawn @ 2 ** np.arange(4, -1, -1), minlength=32) / 20000
    np.testing.assert_allclose(codes, weight, atol=0.015)


def test_missing_allocations_are_minus_one():
    whole, partly = (MODELS["mixture"](missing=share) for share in (0.0, 0.3))
    lost = partly.data["allocation"]["z"].values == -1
    assert lost.mean() == pytest.approx(0.3, abs=0.02)
    same = whole.data["allocation"]["z"].values == partly.data["allocation"]["z"].values
    assert same[~lost].all()


def test_rotations_are_orthogonal_and_leave_the_model():
    made = factors(8, 3, n=20, rotation=True, draws=20)
    turned, clean = made.data["posterior"].to_dataset(), made.clean
    identity = made.rotation @ made.rotation.swapaxes(2, 3)
    np.testing.assert_allclose(identity, np.broadcast_to(np.eye(3), identity.shape), atol=1e-12)
    for left, right in (("Lambda", "Lambda"), ("eta", "Lambda")):
        product = turned[left].values @ turned[right].values.swapaxes(2, 3)
        expected = clean[left].values @ clean[right].values.swapaxes(2, 3)
        np.testing.assert_allclose(product, expected, atol=1e-12)
    assert recovery_of_loadings(turned["Lambda"], clean)["draws"] < 0.2
    back = turned["Lambda"].values @ made.rotation.swapaxes(2, 3)
    assert recovery_of_loadings(back, clean)["draws"] == 1.0


def test_loadings_and_elements_tell_the_same_recovery():
    made = factors(12, 4, noise=0.6, draws=50)
    aligned = relabel.align(
        made.data, made.spec, criterion=relabel.criteria.Mean(var_names="Lambda")
    )
    by_elements = recovery(aligned["relabel"], made.planted)
    assert 0.5 < by_elements["draws"] < 1.0
    found = recovery_of_loadings(aligned["posterior"]["Lambda"], made.clean)
    assert found == pytest.approx(by_elements)


def test_labels_are_counted_up_to_the_best_global_relabelling():
    """No two draws are alike, so that the most frequent element says nothing."""
    index = np.array([[[1, 0, 2, 3], [0, 2, 1, 3], [0, 1, 3, 2], [3, 1, 2, 0]]])
    found = shares_of({"h": Monomial(index, np.ones(index.shape))})
    assert found == {"h": 0.5, "draws": 0.25}
    signs = np.where(np.arange(4) == 3, -1.0, 1.0) * np.ones(index.shape)
    assert shares_of({"h": Monomial(np.sort(index), signs)}) == {"h": 1.0, "draws": 1.0}


def _rotated():
    return Transformation({"factor": Dense.identity((1, 2), 2)})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mixture(0), "K must be a positive integer, not 0"),
        (lambda: mixture(2, n=1.5), "n must be a positive integer, not 1.5"),
        (lambda: mixture(2, missing=1.0), "missing must be a share"),
        (lambda: hmm(2, draws=True), "draws must be a positive integer, not True"),
        (lambda: factors(2, 3), "q must not be greater than p, the number of items 2, not 3"),
        (lambda: factors(noise=-1), "noise must be a non-negative number, not -1"),
        (lambda: mixture(separation=float("nan")), "separation must be a non-negative number"),
        (lambda: hmm(stay=-0.2), "stay must be a number between 0 and 1, not -0.2"),
        (lambda: recovery(_rotated(), factors(3, 2, chains=1, draws=2).planted), "were rotated"),
        (
            lambda: recovery_of_loadings(np.zeros((1, 2, 3, 4)), factors(3, 2).clean),
            "the shape of the clean",
        ),
    ],
)
def test_what_cannot_be_simulated(make, message):
    with pytest.raises(SpecError, match=message):
        make()


@pytest.mark.parametrize("name", MODELS)
def test_a_generator_is_drawn_from_once(name):
    drawn = MODELS[name](rng=np.random.default_rng(5)).clean
    seed = int(np.random.default_rng(5).integers(2**32))
    assert drawn.identical(MODELS[name](rng=seed).clean)
    with pytest.raises(SpecError, match="rng must be a non-negative integer"):
        MODELS[name](rng=-1)


def test_integers_of_numpy_are_integers():
    sizes = {"chains": np.int64(2), "draws": np.int32(3)}
    small = {"chains": 2, "draws": 3}
    assert mixture(np.int64(2), n=np.int64(9), **sizes).clean.identical(
        mixture(2, n=9, **small).clean
    )
    assert network(np.array([2, 3, 1]), **sizes).clean.identical(network((2, 3, 1), **small).clean)
