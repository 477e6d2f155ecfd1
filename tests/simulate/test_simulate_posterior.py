"""Simulated posteriors are posteriors, and hold what they say was planted."""

import numpy as np
import pytest

import relabel
from relabel import DataError, SpecError
from relabel.models.forward_pass import Network
from relabel.simulate import Regression, posterior, recovery, structureless

PRIOR_SD = {"tanh": 1.5, "relu": 1.5, "sigmoid": 4.0}
KINDS = [pytest.param(name, sd, id=name) for name, sd in PRIOR_SD.items()]


def arrays_of(dataset):
    return {n: dataset[n].values.reshape(-1, *dataset[n].shape[2:]) for n in dataset.data_vars}


def outputs(made, dataset):
    network = Network.of(made.spec.bind(made.clean))
    return network.outputs(arrays_of(dataset), made.data["constant_data"]["X"].values)["y"][..., 0]


def contributions(made):
    """What each slot of the clean draws adds to the outputs, (draws, n, K)."""
    network = Network.of(made.spec.bind(made.clean))
    arrays = arrays_of(made.clean)
    active = network.activations(arrays, made.data["constant_data"]["X"].values)["h"]
    return active * arrays["W2"][:, None, :, 0]


@pytest.mark.parametrize(("activation", "prior_sd"), KINDS)
def test_the_log_density_is_that_of_the_draws(activation, prior_sd):
    made = posterior(
        (2, 3, 1), activation, regression=Regression(prior_sd=prior_sd), spare=1, draws=20, rng=1
    )
    draws = made.data["posterior"].to_dataset()
    y = made.data["constant_data"]["y"].values
    lp = -0.5 * np.square((outputs(made, draws) - y) / made.sigma).sum(axis=1)
    lp -= len(y) * (np.log(made.sigma) + 0.5 * np.log(2 * np.pi))
    for name, sd in made.priors.items():
        values = draws[name].values.reshape(len(lp), -1)
        constant = np.log(sd) + 0.5 * np.log(2 * np.pi)
        lp += (-0.5 * np.square(values / sd) - constant).sum(axis=1)
    np.testing.assert_allclose(made.data["sample_stats"]["lp"].values.ravel(), lp, atol=1e-6)
    assert (draws["sigma"] == made.sigma).all()


@pytest.mark.parametrize(("activation", "prior_sd"), KINDS)
def test_draws_spread_as_a_posterior_does(activation, prior_sd):
    made = posterior((2, 3, 1), activation, regression=Regression(prior_sd=prior_sd), draws=500)
    lp = made.data["sample_stats"]["lp"].values.ravel()
    scales = 3 if activation == "relu" else 0  # drawn from their law, and not with the others
    half = (3 * 4 + 1 - scales) / 2  # of a normal posterior, lp is a chi-squared of p parameters
    assert abs(lp.std() - np.sqrt(half + scales / 2)) < 0.6
    f = outputs(made, made.data["posterior"].to_dataset())
    shares = f.var(axis=0).sum() / made.sigma**2
    assert abs(shares - 2 * half) < 2  # the trace of the hat matrix


@pytest.mark.parametrize(("activation", "prior_sd"), KINDS)
def test_the_planted_transformation_leads_back_to_clean(activation, prior_sd):
    made = posterior(
        (2, 3, 1), activation, regression=Regression(prior_sd=prior_sd), draws=20, switching="draw"
    )
    resolved = made.spec.bind(made.clean)
    draws = {"posterior": made.data["posterior"].to_dataset()}
    back = made.planted.inverse().apply(draws, resolved)["posterior"]
    for name, values in made.clean.items():
        np.testing.assert_allclose(back[name].values, values, atol=1e-12)
    np.testing.assert_allclose(
        outputs(made, draws["posterior"]), outputs(made, made.clean), atol=1e-10
    )


def test_spare_units_move_nothing_the_data_can_see():
    made = posterior((2, 4, 1), "tanh", spare=2, draws=100)
    assert made.spare == (2, 3)
    part = contributions(made)
    nats = 0.5 * np.square((part - part.mean(axis=1, keepdims=True)) / made.sigma).sum(axis=1)
    assert (np.median(nats[:, [2, 3]], axis=0) < 5).all()
    assert (nats[:, [0, 1]] > 30).all()
    incoming = made.clean["W1"].values[..., [2, 3]]
    assert abs(incoming.std() / made.priors["W1"] - 1) < 0.1
    assert all((made.truth[name][..., [2, 3]] == 0).all() for name in ("W1", "b1"))


def test_split_units_share_what_one_unit_does():
    made = posterior((2, 4, 1), "tanh", split=1, draws=100)
    assert made.split == ((0, 3),)
    v = made.clean["W2"].values[..., 0]
    share = v[..., 0] / (v[..., 0] + v[..., 3])
    assert ((share > 0.25) & (share < 0.75)).all()
    gap = made.clean["W1"].values[..., 0] - made.clean["W1"].values[..., 3]
    assert 0 < gap.std() < 0.5
    np.testing.assert_array_equal(made.truth["W2"][0], made.truth["W2"][3])


@pytest.mark.parametrize("gap", [0.0, 60.0])
def test_the_other_mode_has_the_stated_density(gap):
    made = posterior((2, 4, 1), "tanh", elsewhere=1, gap=gap, draws=200)
    lp = made.data["sample_stats"]["lp"].median("draw").values
    assert np.bincount(made.mode).tolist() == [3, 1]
    assert abs(lp[made.mode == 0].mean() - lp[made.mode == 1].mean() - gap) < 6
    f = outputs(made, made.clean).reshape(4, 200, -1).mean(axis=1)
    apart = 0.5 * np.square((f[made.mode == 1] - f[made.mode == 0]) / made.sigma).sum(axis=1)
    assert (apart > 20).all()


def test_labels_of_what_is_identified_are_found():
    made = posterior((2, 4, 1), "tanh", draws=50, switching="draw")
    aligned = relabel.align(made.data, made.spec)
    assert recovery(aligned["relabel"], made.planted)["draws"] > 0.99


def test_the_seed_decides():
    one, two, three = (posterior(draws=5, rng=seed).clean for seed in (1, 1, 2))
    assert one.identical(two)
    assert not one.identical(three)
    generator = np.random.default_rng(7)
    drawn = posterior(draws=5, rng=generator).clean
    seed = int(np.random.default_rng(7).integers(2**32))
    assert drawn.identical(posterior(draws=5, rng=seed).clean)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sizes": (2, 3, 3, 1)}, "one hidden layer, and one output"),
        ({"sizes": (2, 3, 2)}, "one hidden layer, and one output"),
        ({"activation": "permutation"}, "activation function"),
        ({"spare": 3}, "3 units, of which 3 are spare and 0 copies"),
        ({"spare": -1}, "spare must be a non-negative integer, not -1"),
        ({"split": 2}, "3 units, of which 0 are spare and 2 copies"),
        ({"elsewhere": 4}, "elsewhere must be less than chains=4, not 4"),
        ({"draws": 0}, "draws must be a positive integer, not 0"),
        ({"switching": "never"}, "switching must be one of 'draw', 'chain'"),
    ],
)
def test_what_cannot_be_planted(arguments, message):
    with pytest.raises(SpecError, match=message):
        posterior(**arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n must be a positive integer, not 0"),
        ({"sigma": 0.0}, "sigma must be a positive number, not 0.0"),
        ({"prior_sd": -1.0}, "prior_sd must be a positive number"),
        ({"least_loss": -1.0}, "least_loss must be a non-negative number"),
        ({"separation": np.inf}, "separation must be a non-negative number"),
    ],
)
def test_regressions_that_there_are_not(options, message):
    with pytest.raises(SpecError, match=message):
        Regression(**options)


def test_no_truth_is_found_in_noise():
    with pytest.raises(DataError, match="no irreducible network"):
        posterior((1, 6, 1), regression=Regression(n=20, sigma=5.0))


@pytest.mark.parametrize("law", ["normal", "heavy", "two"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_units_without_structure_are_alike(law, activation):
    made = structureless((2, 3, 1), activation, law=law, draws=2000, rng=4)
    w = made.clean["W1"].values.reshape(-1, 2, 3)
    middle, spread = np.median(w, axis=0), np.subtract(*np.quantile(w, [0.75, 0.25], axis=0))
    assert (np.ptp(middle, axis=1) < 0.5 * spread.min(axis=1)).all()
    assert (np.ptp(spread, axis=1) < 0.2 * spread.max(axis=1)).all()


def test_structureless_takes_one_layer_and_a_known_law():
    with pytest.raises(SpecError, match="there must be one hidden layer, not 2"):
        structureless((2, 3, 3, 1))
    with pytest.raises(SpecError, match="'cauchy'"):
        structureless(law="cauchy")
