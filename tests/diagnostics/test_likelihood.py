"""Divergences against scipy.stats; what is found in data, what is refused and how it is said."""

import numpy as np
import pytest
import xarray as xr
from scipy import special, stats

from relabel import Spec, SpecError
from relabel.diagnostics.likelihood import Fitted, Likelihood, find_likelihood
from relabel.models.network import Network

SAMPLE = ("chain", "draw")


def case(n_out=1, n=30, n_chains=2, n_draws=5, seed=0, **more):
    """Groups, network, arrays and inputs; `more` are further posterior variables (chain, draw)."""
    rng = np.random.default_rng(seed)
    shapes = {"W": (2, 3), "b": (3,), "V": (3, n_out), "c": (n_out,)}
    values = {k: rng.normal(size=(n_chains, n_draws, *s)) for k, s in shapes.items()}
    dims = {k: [f"{k}{i}" for i in range(len(s))] for k, s in shapes.items()}
    posterior = xr.Dataset({k: ((*SAMPLE, *dims[k]), v) for k, v in values.items()})
    for name, value in more.items():
        extra = np.ndim(value) - 2
        posterior[name] = ((*SAMPLE, *(f"{name}{i}" for i in range(extra))), np.asarray(value))
    axes = {"W": "x -> h", "b": "-> h", "V": "h -> y", "c": "-> y"}
    network = Network.of(Spec({"h": "tanh"}, axes).bind(posterior))
    arrays = {k: v.reshape(-1, *v.shape[2:]) for k, v in values.items()}
    x = rng.normal(size=(n, 2))
    return {"posterior": posterior}, network, arrays, x


def outputs(network, arrays, x):
    return network.joined_outputs(network.forward(arrays, x))


def with_targets(groups, y, name="y", group="constant_data"):
    y = np.asarray(y)
    dims = ("obs", "out")[: y.ndim]
    return {**groups, group: xr.Dataset({name: (dims, y)})}


# ---------------------------------------------------------------- divergences


def test_gaussian_divergence():
    rng = np.random.default_rng(0)
    f, g = rng.normal(size=(2, 4, 7, 2))
    sd = rng.uniform(0.5, 2, size=(4, 1))
    expected = [np.square(f[t] - g[t]).sum() / (2 * sd[t, 0] ** 2) for t in range(4)]
    np.testing.assert_allclose(Fitted("gaussian", sd).kl(f, g), expected)


def test_bernoulli_divergence():
    rng = np.random.default_rng(0)
    f, g = rng.normal(size=(2, 4, 7, 1)) * 3
    p, q = special.expit(f), special.expit(g)
    expected = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).sum(axis=(1, 2))
    np.testing.assert_allclose(Fitted("bernoulli", None).kl(f, g), expected)


def test_categorical_divergence():
    rng = np.random.default_rng(0)
    f, g = rng.normal(size=(2, 4, 7, 3)) * 3
    p, q = special.softmax(f, axis=-1), special.softmax(g, axis=-1)
    expected = stats.entropy(p, q, axis=-1).sum(axis=1)
    np.testing.assert_allclose(Fitted("categorical", None).kl(f, g), expected)


@pytest.mark.parametrize("family", ["bernoulli", "categorical"])
def test_extreme_logits(family):
    f = np.full((1, 3, 1 if family == "bernoulli" else 2), 800.0)
    f[..., -1] *= -1
    found = Fitted(family, None).kl(f, 0.999 * f)
    assert np.isfinite(found).all()
    assert (found >= 0).all()


@pytest.mark.parametrize(
    ("family", "n_out"), [("gaussian", 2), ("bernoulli", 1), ("categorical", 3)]
)
def test_gradient_and_metric_are_derivatives(family, n_out):
    rng = np.random.default_rng(1)
    f, g = rng.normal(size=(2, 1, 1, n_out))
    fitted = Fitted(family, np.array([[0.7]]) if family == "gaussian" else None, weight=3.0)
    step = 1e-4 * np.eye(n_out)
    slope = [(fitted.kl(f, g + s) - fitted.kl(f, g - s))[0] / 2e-4 for s in step]
    np.testing.assert_allclose(fitted.gradient(f, g)[0, 0], slope, rtol=1e-5)
    turn = [(fitted.gradient(f, f + s) - fitted.gradient(f, f - s))[0, 0] / 2e-4 for s in step]
    root = fitted.root(f)[0, 0]
    np.testing.assert_allclose(root.T @ root, turn, rtol=1e-5, atol=1e-8)
    assert fitted.kl(f, f)[0] == 0


def test_limits():
    fitted = Fitted("gaussian", np.ones((1, 1)))
    np.testing.assert_allclose(fitted.limit([1, 4]), stats.chi2.ppf(0.95, [1, 4]) / 2)
    np.testing.assert_array_equal(
        Fitted("gaussian", np.ones((1, 1)), nats=False).limit([1, 9]), 0.5
    )


# ---------------------------------------------------------------- what is found


@pytest.mark.parametrize("group", ["constant_data", "observed_data"])
def test_noise_from_a_variable(group):
    sigma = np.full((2, 5), 0.3) + np.arange(5) / 100
    groups, network, arrays, x = case(sigma=sigma)
    y = outputs(network, arrays, x).mean(axis=0)[:, 0]
    noisy = y + np.random.default_rng(0).normal(size=len(y))
    groups = with_targets(groups, noisy, group=group)
    found = find_likelihood(groups, None, network, arrays, x, agreement=100)
    np.testing.assert_array_equal(found.sd[:, 0], sigma.ravel())
    assert found.how == "Gaussian noise: posterior variable 'sigma'."
    rows = np.array([1, 3])
    part = {k: v[rows] for k, v in arrays.items()}
    some = find_likelihood(groups, None, network, part, x, rows=rows, agreement=100)
    np.testing.assert_array_equal(some.sd[:, 0], sigma.ravel()[rows])


def test_noise_from_a_logarithm_and_per_output():
    groups, network, arrays, x = case(n_out=2, log_sigma=np.full((2, 5, 2), -1.0))
    found = find_likelihood(groups, "gaussian", network, arrays, x)
    np.testing.assert_allclose(found.sd, np.full((10, 2), np.exp(-1)))


def test_noise_from_residuals():
    groups, network, arrays, x = case()
    y = np.random.default_rng(0).normal(size=len(x))
    found = find_likelihood(with_targets(groups, y), None, network, arrays, x)
    f = outputs(network, arrays, x)[:, :, 0]
    np.testing.assert_allclose(found.sd[:, 0], np.sqrt(np.square(f - y).mean(axis=1)))
    assert "root mean square residual" in found.how
    assert "constant_data/y" in found.how


def test_a_variable_that_is_no_noise_is_not_taken_for_it():
    groups, network, arrays, x = case(sd=np.full((2, 5), 50.0))
    y = np.random.default_rng(0).normal(size=len(x))
    found = find_likelihood(with_targets(groups, y), None, network, arrays, x)
    assert (found.sd < 50).all()
    assert "'sd'" in found.how


def test_two_candidates_are_not_chosen_between():
    noise = np.ones((2, 5))
    groups, network, arrays, x = case(sigma=noise, noise=noise)
    y = np.random.default_rng(0).normal(size=len(x))
    found = find_likelihood(with_targets(groups, y), None, network, arrays, x)
    assert "is not clear" in found.how


def test_classes():
    rng = np.random.default_rng(0)
    groups, network, arrays, x = case()
    for y in (rng.integers(0, 2, len(x)), rng.integers(0, 2, len(x)).astype(bool)):
        found = find_likelihood(with_targets(groups, y), None, network, arrays, x)
        assert found.family == "bernoulli"
    assert "logit" in found.how
    groups, network, arrays, x = case(n_out=3)
    codes = rng.integers(0, 3, len(x))
    for y in (codes, codes.astype(float), np.eye(3)[codes]):
        found = find_likelihood(with_targets(groups, y), None, network, arrays, x)
        assert found.family == "categorical"


def test_nothing_known():
    groups, network, arrays, x = case()
    found = find_likelihood(groups, None, network, arrays, x, relative=0.02)
    assert not found.nats
    assert "No likelihood is known" in found.how
    assert "2 %" in found.how
    f = outputs(network, arrays, x)
    spread = np.sqrt(np.square(f.std(axis=1)).mean())
    changed = f + 0.02 * spread
    np.testing.assert_allclose(found.kl(f, changed), 0.5, rtol=1e-9)
    counts = np.random.default_rng(0).integers(0, 9, len(x))
    assert not find_likelihood(with_targets(groups, counts), None, network, arrays, x).nats


def test_as_given():
    groups, network, arrays, x = case(tau=np.full((2, 5), 0.2))
    found = find_likelihood(groups, Likelihood("gaussian", scale=0.5), network, arrays, x)
    np.testing.assert_array_equal(found.sd, 0.5)
    found = find_likelihood(groups, Likelihood("gaussian", scale="tau"), network, arrays, x)
    np.testing.assert_array_equal(found.sd, 0.2)
    named = with_targets(groups, np.zeros(len(x)), name="t")
    asked = Likelihood("gaussian", targets="constant_data/t")
    assert "constant_data/t" in find_likelihood(named, asked, network, arrays, x).how
    assert find_likelihood(groups, "bernoulli", network, arrays, x).family == "bernoulli"


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("kw", "message"),
    [
        ({"family": "poisson"}, "the family is one of gaussian, bernoulli, categorical"),
        ({"family": "bernoulli", "scale": 1.0}, "scale is for gaussian noise"),
        ({"family": "gaussian", "scale": -1.0}, "scale is a positive number"),
        ({"family": "gaussian", "scale": True}, "scale is a positive number"),
        ({"family": "gaussian", "scale": np.nan}, "scale is a positive number"),
    ],
)
def test_a_wrong_declaration(kw, message):
    with pytest.raises(SpecError, match=message):
        Likelihood(**kw)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (3, "not a int"),
        ("normal", "not 'normal'"),
        (Likelihood("gaussian", scale="sigmo"), "no variable 'sigmo' .did you mean 'sigma'"),
        (Likelihood("gaussian", scale="W"), "one positive number a draw"),
        (Likelihood("gaussian", scale="low"), "must be positive in every draw"),
        (Likelihood("gaussian", targets="constant_data/z"), "no variable 'constant_data/z'"),
        (Likelihood("gaussian", targets="constant_data/short"), "there are 30 inputs"),
        (Likelihood("bernoulli", targets="constant_data/real"), "are not Bernoulli"),
        (Likelihood("categorical", targets="constant_data/real"), "are not categorical"),
        (Likelihood("gaussian", targets="constant_data/wide"), "do not fit the network's 1 output"),
    ],
)
def test_what_does_not_fit(wanted, message):
    groups, network, arrays, x = case(sigma=np.ones((2, 5)), low=np.full((2, 5), -1.0))
    rng = np.random.default_rng(0)
    groups["constant_data"] = xr.Dataset(
        {
            "short": ("few", rng.normal(size=7)),
            "real": ("obs", rng.normal(size=30)),
            "wide": (("obs", "out"), rng.normal(size=(30, 2))),
        }
    )
    with pytest.raises(SpecError, match=message):
        find_likelihood(groups, wanted, network, arrays, x)


def test_bernoulli_needs_one_output():
    groups, network, arrays, x = case(n_out=2)
    with pytest.raises(SpecError, match="needs one output"):
        find_likelihood(groups, "bernoulli", network, arrays, x)
