"""Divergences against scipy.stats; what is found in data, what is refused and how it is said."""

import numpy as np
import pytest
import xarray as xr
from scipy import special, stats

import relabel
from relabel import Spec, SpecError
from relabel.diagnostics.likelihood import (
    FAMILIES,
    Bernoulli,
    Categorical,
    Family,
    Fitted,
    Likelihood,
    Normal,
    Relative,
    Variables,
    family_of,
    find_likelihood,
    guessed,
)
from relabel.diagnostics.likelihood.noise import noise_names
from relabel.models.forward_pass import Network
from relabel.numerics.densities import DENSITIES
from relabel.simulate import posterior as posterior_of

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


# ---------------------------------------------------------------- laws of every family

#: Family, its parameters, and the number of outputs.
LAWS = {
    "normal": (Normal(), {"scale": np.array([[0.7, 0.4]])}, 2),
    "relative": (Relative(), {"scale": np.array([[0.7]])}, 2),
    "bernoulli": (Bernoulli(), {}, 1),
    "categorical": (Categorical(), {}, 3),
}

#: All targets that one input can have, and what predictions are means of.
POSSIBLE = {
    "bernoulli": ([np.array([[0.0]]), np.array([[1.0]])], np.array([[0.0], [1.0]])),
    "categorical": ([np.array([c]) for c in range(3)], np.eye(3)),
}


def test_every_family_is_tested():
    assert {*FAMILIES, "relative"} == set(LAWS)


def test_families_are_named_as_densities_are():
    assert set(FAMILIES) <= set(DENSITIES)


@pytest.mark.parametrize("name", LAWS)
def test_gradient_and_metric_are_derivatives(name):
    family, parameters, n_out = LAWS[name]
    rng = np.random.default_rng(1)
    f, g = rng.normal(size=(2, 1, 1, n_out))
    fitted = Fitted(family, parameters, weight=3.0)
    step = 1e-4 * np.eye(n_out)
    slope = [(fitted.kl(f, g + s) - fitted.kl(f, g - s))[0] / 2e-4 for s in step]
    np.testing.assert_allclose(fitted.gradient(f, g)[0, 0], slope, rtol=1e-5)
    turn = [(fitted.gradient(f, f + s) - fitted.gradient(f, f - s))[0, 0] / 2e-4 for s in step]
    root = fitted.root(f)[0, 0]
    np.testing.assert_allclose(root.T @ root, turn, rtol=1e-5, atol=1e-8)
    assert fitted.kl(f, f)[0] == 0


@pytest.mark.parametrize("name", LAWS)
def test_inputs_add_up_and_weights_multiply(name):
    family, parameters, n_out = LAWS[name]
    f, g = np.random.default_rng(2).normal(size=(2, 1, 5, n_out))
    fitted = Fitted(family, parameters)
    parts = sum(fitted.kl(f[:, [i]], g[:, [i]]) for i in range(5))
    np.testing.assert_allclose(fitted.kl(f, g), parts)
    thinned = fitted.thinned(2.0).thinned(1.5)
    np.testing.assert_allclose(thinned.kl(f, g), 3 * parts)
    np.testing.assert_allclose(thinned.gradient(f, g), 3 * fitted.gradient(f, g))
    np.testing.assert_allclose(thinned.root(f), np.sqrt(3) * fitted.root(f))


@pytest.mark.parametrize("name", POSSIBLE)
def test_divergence_and_prediction_follow_from_the_density(name):
    family, parameters, n_out = LAWS[name]
    targets, values = POSSIBLE[name]
    f, g = np.random.default_rng(3).normal(size=(2, 4, 1, n_out))
    log_p, log_q = (
        np.column_stack([family.log_density(z, y, parameters) for y in targets]) for z in (f, g)
    )
    p = np.exp(log_p)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    np.testing.assert_allclose(family.kl(f, g, parameters), (p * (log_p - log_q)).sum(axis=1))
    np.testing.assert_allclose(family.predict(f, parameters)[:, 0], p @ values)


@pytest.mark.parametrize("name", ["normal", "relative"])
def test_normal_density_is_that_of_scipy(name):
    family, parameters, n_out = LAWS[name]
    rng = np.random.default_rng(4)
    f, y = rng.normal(size=(1, 6, n_out)), rng.normal(size=(6, n_out))
    density = stats.norm.pdf(y, f[0], parameters["scale"]).prod(axis=1)
    np.testing.assert_allclose(family.log_density(f, y, parameters)[0], np.log(density))
    np.testing.assert_array_equal(family.predict(f, parameters), f)


@pytest.mark.parametrize("name", LAWS)
def test_what_a_family_says_of_its_divergence_is_so(name):
    family, parameters, n_out = LAWS[name]
    f, g = np.random.default_rng(5).normal(size=(2, 1, 4, n_out))
    there = family.kl(f, g, parameters)
    shifted = family.kl(f, g + 0.3, parameters)
    assert np.allclose(shifted, there) == family.shift_invariant
    squares = np.square(family.root(f, parameters) @ (g - f)[..., None]).sum() / 2
    assert np.allclose(squares, there) == family.quadratic
    assert family.why_no_refits is None


# ---------------------------------------------------------------- divergences


def test_normal_divergence():
    rng = np.random.default_rng(0)
    f, g = rng.normal(size=(2, 4, 7, 2))
    sd = rng.uniform(0.5, 2, size=(4, 1))
    expected = [np.square(f[t] - g[t]).sum() / (2 * sd[t, 0] ** 2) for t in range(4)]
    fitted = Fitted(Normal(), {"scale": sd})
    np.testing.assert_allclose(fitted.kl(f, g), expected)
    np.testing.assert_allclose(fitted[[3, 1]].kl(f[[3, 1]], g[[3, 1]]), [expected[3], expected[1]])


def test_bernoulli_divergence():
    rng = np.random.default_rng(0)
    f, g = rng.normal(size=(2, 4, 7, 1)) * 3
    p, q = special.expit(f), special.expit(g)
    expected = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).sum(axis=(1, 2))
    np.testing.assert_allclose(Fitted(Bernoulli()).kl(f, g), expected)


def test_categorical_divergence():
    rng = np.random.default_rng(0)
    f, g = rng.normal(size=(2, 4, 7, 3)) * 3
    p, q = special.softmax(f, axis=-1), special.softmax(g, axis=-1)
    expected = stats.entropy(p, q, axis=-1).sum(axis=1)
    np.testing.assert_allclose(Fitted(Categorical()).kl(f, g), expected)


@pytest.mark.parametrize("family", [Bernoulli(), Categorical()], ids=str)
def test_extreme_logits(family):
    f = np.full((1, 3, 1 if family == Bernoulli() else 2), 800.0)
    f[..., -1] *= -1
    found = Fitted(family).kl(f, 0.999 * f)
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    f = 20 * np.random.default_rng(0).normal(size=(500, 1, f.shape[2]))
    assert (Fitted(family).kl(f, f * (1 + 1e-15)) >= 0).all()


def test_limits():
    scale = {"scale": np.ones((1, 1))}
    fitted = Fitted(Normal(), scale)
    np.testing.assert_allclose(fitted.limit([0, 1, 4]), [0, *stats.chi2.ppf(0.95, [1, 4]) / 2])
    np.testing.assert_array_equal(Fitted(Relative(), scale).limit([1, 9]), [0.5, 0.5])
    assert Fitted(Relative(), scale).limit(3) == 0.5


# ---------------------------------------------------------------- what is found


@pytest.mark.parametrize("group", ["constant_data", "observed_data"])
def test_noise_from_a_variable(group):
    sigma = np.full((2, 5), 0.3) + np.arange(5) / 100
    groups, network, arrays, x = case(sigma=sigma)
    y = outputs(network, arrays, x).mean(axis=0)[:, 0]
    noisy = y + np.random.default_rng(0).normal(size=len(y))
    groups = with_targets(groups, noisy, group=group)
    assert "it was not used" in find_likelihood(groups, None, network, arrays, x).how
    wanted = Normal(agreement=100)
    found = find_likelihood(groups, wanted, network, arrays, x)
    np.testing.assert_array_equal(found.parameters["scale"][:, 0], sigma.ravel())
    assert found.how == "Normal noise: posterior variable 'sigma'."
    rows = np.array([1, 3])
    part = {k: v[rows] for k, v in arrays.items()}
    some = find_likelihood(groups, wanted, network, part, x, rows=rows)
    np.testing.assert_array_equal(some.parameters["scale"][:, 0], sigma.ravel()[rows])
    del groups[group]  # nothing that it could disagree with
    assert find_likelihood(groups, None, network, arrays, x).how == found.how


def test_noise_from_a_logarithm_and_per_output():
    groups, network, arrays, x = case(n_out=2, log_sigma=np.full((2, 5, 2), -1.0))
    found = find_likelihood(groups, "normal", network, arrays, x)
    np.testing.assert_allclose(found.parameters["scale"], np.full((10, 2), np.exp(-1)))


def test_noise_from_residuals():
    groups, network, arrays, x = case()
    y = np.random.default_rng(0).normal(size=len(x))
    found = find_likelihood(with_targets(groups, y), None, network, arrays, x)
    f = outputs(network, arrays, x)[:, :, 0]
    scale = np.sqrt(np.square(f - y).mean(axis=1, keepdims=True))
    np.testing.assert_allclose(found.parameters["scale"], scale)
    assert "root mean square residual" in found.how
    assert "constant_data/y" in found.how


def test_a_variable_that_is_no_noise_is_not_taken_for_it():
    groups, network, arrays, x = case(sd=np.full((2, 5), 50.0))
    y = np.random.default_rng(0).normal(size=len(x))
    found = find_likelihood(with_targets(groups, y), None, network, arrays, x)
    assert (found.parameters["scale"] < 50).all()
    assert "'sd'" in found.how


def test_two_candidates_are_not_chosen_between():
    noise = np.ones((2, 5))
    groups, network, arrays, x = case(sigma=noise, noise=noise)
    y = np.random.default_rng(0).normal(size=len(x))
    found = find_likelihood(with_targets(groups, y), None, network, arrays, x)
    assert "is not clear" in found.how


CODES = np.arange(30) % 3

#: Outputs, whether a variable is named like the noise, targets, and whose they could be.
GUESSES = {
    "zeros and ones": (1, False, CODES % 2, Bernoulli()),
    "a column of them": (1, False, CODES[:, None] % 2, Bernoulli()),
    "zeros and ones and noise": (1, True, CODES % 2, Normal()),
    "floating zeros and ones": (1, False, CODES % 2.0, Bernoulli()),
    "floating zeros and ones and noise": (1, True, CODES % 2.0, Normal()),
    "zeros": (1, False, 0 * CODES, None),
    "two columns of zeros and ones": (1, False, np.eye(2)[CODES % 2], None),
    "counts": (1, False, CODES, None),
    "counts and noise": (1, True, CODES, None),
    "numbers": (1, False, CODES / 2, Normal()),
    "codes of two": (2, False, CODES % 2, Categorical()),
    "codes of two and noise": (2, True, CODES % 2, Categorical()),
    "a column of codes": (3, False, CODES[:, None], Categorical()),
    "floating codes": (3, False, CODES / 1, Categorical()),
    "one-hot columns": (3, False, np.eye(3)[CODES], Categorical()),
    "one-hot columns of integers": (3, False, np.eye(3, dtype=int)[CODES], Categorical()),
    "too many codes": (2, False, CODES, None),
    "negative codes": (3, False, CODES - 1, None),
    "one-hot columns of fewer": (3, False, np.eye(2)[CODES % 2], None),
    "several ones in a row": (2, False, np.ones((30, 2), int), None),
    "floating zeros and ones of two": (2, False, np.eye(2)[CODES % 2] * [1, 0], Normal()),
    "numbers of two": (2, False, np.eye(2)[CODES % 2] / 2, Normal()),
    "too few numbers": (2, False, CODES / 2, None),
    "nothing": (1, False, None, None),
    "nothing but noise": (1, True, None, Normal()),
}


@pytest.mark.parametrize("name", GUESSES)
def test_whose_targets_could_be(name):
    n_out, noise, targets, family = GUESSES[name]
    groups = case(n_out, **({"sigma": np.ones((2, 5))} if noise else {}))[0]
    assert guessed(targets, Variables(groups["posterior"], np.arange(10), n_out)) == family


def test_zeros_and_ones_are_normal_only_with_noise():
    for noise in ({}, {"sigma": np.ones((2, 5))}):
        variables = Variables(case(**noise)[0]["posterior"], np.arange(10), 1)
        assert Normal().guess(CODES % 2, variables) == bool(noise)


def test_targets_that_nobody_knows_leave_the_noise():
    groups, network, arrays, x = case(sigma=np.full((2, 5), 50.0))
    found = find_likelihood(with_targets(groups, CODES), None, network, arrays, x)
    assert found.how == "Normal noise: posterior variable 'sigma'."


def test_targets_that_differ_are_not_chosen_between():
    groups, network, arrays, x = case()
    y = np.random.default_rng(0).normal(size=(30, 1))
    groups |= with_targets(groups, y)
    same = with_targets(groups, y, group="observed_data")
    assert find_likelihood(same, None, network, arrays, x).nats
    other = with_targets(groups, y + 1, group="observed_data")
    assert not find_likelihood(other, None, network, arrays, x).nats
    cube = with_targets(groups, y, group="observed_data")
    cube["observed_data"]["target"] = (("a", "b", "c"), np.ones((30, 1, 1)))
    assert find_likelihood(cube, None, network, arrays, x).nats


def test_variables_that_could_be_the_noise():
    ones = np.ones((2, 5))
    groups = case(
        n_out=2, sigma=ones, Noise=ones[..., None] * [1, 2], sd=-ones, log_sigma=-ones,
        obs_sd=ones.astype(int), noise_sd=np.ones((2, 5, 3)), tau=ones,
    )[0]  # fmt: skip
    groups["posterior"]["y_sigma"] = ("chain", np.ones(2))
    for n_out, names in [(2, ["sigma", "Noise", "log_sigma"]), (1, ["sigma", "log_sigma"])]:
        assert noise_names(Variables(groups["posterior"], np.arange(10), n_out)) == names
    unknown = Variables(groups["posterior"], np.arange(10))
    assert noise_names(unknown) == ["sigma", "Noise", "log_sigma", "noise_sd"]


def test_residuals_of_several_outputs_in_blocks(monkeypatch):
    groups, network, arrays, x = case(n_out=2)
    y = np.random.default_rng(0).normal(size=(30, 2))
    found = find_likelihood(groups, None, network, arrays, x, targets=y)
    rest = outputs(network, arrays, x) - y
    scale = np.sqrt(np.square(rest).mean(axis=(1, 2)))
    np.testing.assert_allclose(found.parameters["scale"], scale[:, None])
    monkeypatch.setattr("relabel.diagnostics.likelihood.finding._BLOCK", 1)
    again = find_likelihood(groups, None, network, arrays, x, targets=y)
    np.testing.assert_allclose(again.parameters["scale"], found.parameters["scale"])


def test_classes():
    rng = np.random.default_rng(0)
    groups, network, arrays, x = case()
    for y in (rng.integers(0, 2, len(x)), rng.integers(0, 2, len(x)).astype(bool)):
        found = find_likelihood(with_targets(groups, y), None, network, arrays, x)
        assert found.family == Bernoulli()
    assert "logit" in found.how
    groups, network, arrays, x = case(n_out=3)
    codes = rng.integers(0, 3, len(x))
    for y in (codes, codes.astype(float), np.eye(3)[codes]):
        found = find_likelihood(with_targets(groups, y), None, network, arrays, x)
        assert found.family == Categorical()


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


def test_nothing_known_of_several_outputs():
    """Each output is held against its own spread, root mean square over the draws."""
    groups, network, arrays, x = case(n_out=2)
    for name in ("V", "c"):
        arrays[name][..., 1] *= 100
    found = find_likelihood(groups, None, network, arrays, x)
    f = outputs(network, arrays, x)
    spread = np.sqrt(np.square(f.std(axis=1)).mean(axis=0))
    assert spread[1] > 20 * spread[0]
    scale = 0.01 * spread * np.sqrt(f[0].size)
    np.testing.assert_allclose(found.parameters["scale"], np.tile(scale, (len(f), 1)))
    np.testing.assert_allclose(found.kl(f, f + 0.01 * spread), 0.5)
    for output in range(2):  # half of the change is in each
        change = 0.01 * spread * (np.arange(2) == output)
        np.testing.assert_allclose(found.kl(f, f + change), 0.25)


def test_an_output_that_does_not_vary():
    groups, network, arrays, x = case(n_out=2)
    for name in ("V", "c"):
        arrays[name][..., 1] = 0.0
    found = find_likelihood(groups, None, network, arrays, x)
    np.testing.assert_allclose(found.parameters["scale"][:, 1], 0.01 * np.sqrt(2 * len(x)))


class Mean(Family):
    """A family without a Fisher root, of targets that are nowhere near."""

    name = "mean"
    outputs_are = "outputs are whatever they are"

    def log_density(self, outputs, targets, parameters):
        return -np.abs(outputs - targets).sum(axis=-1)

    def predict(self, outputs, parameters):
        return outputs


def test_a_family_without_a_fisher_root():
    groups, network, arrays, x = case()
    found = find_likelihood(with_targets(groups, np.zeros(30)), Mean(), network, arrays, x)
    assert found.how == "Mean targets (constant_data/y); outputs are whatever they are."
    assert "mean has no divergence" in Mean().why_no_refits
    f = outputs(network, arrays, x)
    for call in (lambda: found.kl(f, f), lambda: found.gradient(f, f), lambda: found.root(f)):
        with pytest.raises(NotImplementedError, match="mean has no divergence"):
            call()


def test_what_such_a_family_leaves_open():
    made = posterior_of((2, 2, 1), "tanh", chains=2, draws=30)
    aligned = relabel.align(made.data, made.spec)
    _, found = relabel.diagnose(aligned, likelihood=Mean())
    left = {f.evidence["question"]: f.message for f in found.findings if f.code == "open"}
    assert "no divergence with gradient" in left["removal losses, widths, duplicated units"]
    assert found.numbers["likelihood"].startswith("Mean targets")
    assert found.numbers["confidence"]["h"]
    assert found.numbers["effective_width"] == {}
    X, y = (made.data["constant_data"][name].values for name in ("X", "y"))
    loss = relabel.average(aligned, inputs=X, targets=y, likelihood=Mean()).loss
    assert loss.measure == "minus the mean log predictive density (mean)"
    assert np.isfinite(loss.ensemble)


def test_as_given():
    groups, network, arrays, x = case(tau=np.full((2, 5), 0.2))
    found = find_likelihood(groups, Likelihood("normal", scale=0.5), network, arrays, x)
    np.testing.assert_array_equal(found.parameters["scale"], 0.5)
    found = find_likelihood(groups, Likelihood("normal", scale="tau"), network, arrays, x)
    np.testing.assert_array_equal(found.parameters["scale"], 0.2)
    named = with_targets(groups, np.zeros(len(x)), name="t")
    asked = Likelihood("normal", targets="constant_data/t")
    assert "constant_data/t" in find_likelihood(named, asked, network, arrays, x).how
    assert find_likelihood(groups, "bernoulli", network, arrays, x).family == Bernoulli()


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("kw", "message"),
    [
        ({"family": "cauchy"}, "'cauchy'; known are bernoulli, categorical, normal"),
        ({"family": "gaussian"}, "unknown likelihood family 'gaussian'"),
        ({"family": "norml"}, "did you mean 'normal'"),
        ({"family": 3}, "3 must be a .*Family, not a int"),
        ({"family": "bernoulli", "scale": 1.0}, "bernoulli has no option 'scale'; it has none"),
        ({"family": "normal", "scale": -1.0}, "scale.* must be a positive number, not -1.0"),
        ({"family": "normal", "scale": True}, "scale.* must be a positive number, not True"),
        ({"family": "normal", "scale": np.nan}, "scale.* must be a positive number, not nan"),
    ],
)
def test_a_wrong_declaration(kw, message):
    with pytest.raises(SpecError, match=message):
        Likelihood(**kw)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (3, "must be a relabel.Likelihood or the name of a family .bernoulli, .*, not 3"),
        ("gaussian", "unknown likelihood family 'gaussian'"),
        (Likelihood("normal", scale="sigmo"), "no variable 'sigmo' .did you mean 'sigma'"),
        (
            Likelihood("normal", scale="W"),
            "one positive number a draw, or one for each of 1 ",
        ),
        (Likelihood("normal", scale="low"), "must be positive in every draw"),
        (Likelihood("normal", targets="constant_data/z"), "no variable 'constant_data/z'"),
        (Likelihood("normal", targets="constant_data/short"), "there are 30 inputs"),
        (Likelihood("bernoulli", targets="constant_data/real"), "are not Bernoulli"),
        (Likelihood("categorical", targets="constant_data/real"), "are not categorical"),
        (Likelihood("normal", targets="constant_data/wide"), "do not fit the network's 1 output"),
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


def test_targets_that_tell_no_family():
    groups, network, arrays, x = case(n_out=2)
    with pytest.raises(SpecError, match="do not tell a family for 2 outputs; name one of bern"):
        find_likelihood(groups, None, network, arrays, x, targets=np.arange(30) + 0.5)
    stored = with_targets(groups, np.arange(30) + 0.5)
    assert find_likelihood(stored, None, network, arrays, x).family == Relative()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"agreement": 0.5}, "agreement must be a number of at least 1, not 0.5"),
        ({"shrinkage": 1.0}, "normal has no option 'shrinkage'; it has scale, agreement"),
        ({"scal": 1.0}, "no option 'scal' .did you mean 'scale'"),
    ],
)
def test_a_wrong_option(options, message):
    with pytest.raises(SpecError, match=message):
        family_of("normal", **options)


def test_the_share_must_be_positive():
    groups, network, arrays, x = case()
    with pytest.raises(SpecError, match="relative must be a positive number, not 0"):
        find_likelihood(groups, None, network, arrays, x, relative=0)


def test_bernoulli_needs_one_output():
    groups, network, arrays, x = case(n_out=2)
    with pytest.raises(SpecError, match="needs one output"):
        find_likelihood(groups, "bernoulli", network, arrays, x)
