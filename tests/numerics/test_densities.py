"""Densities against scipy.stats; allocation and state probabilities against brute force."""

from itertools import pairwise, product

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import relabel
from relabel.errors import DataError, RelabelError, SpecError
from relabel.numerics.densities import DENSITIES, allocate, log_density

SAMPLE = ("chain", "draw")
RNG = np.random.default_rng(0)
SHAPE = (2, 5, 3)  # chains, draws, components
D = 3


def positive(*more: int) -> np.ndarray:
    return RNG.gamma(2.0, 1.0, (*SHAPE, *more)) + 0.2


def real(*more: int) -> np.ndarray:
    return RNG.normal(0, 2, (*SHAPE, *more))


def share(*more: int) -> np.ndarray:
    return RNG.uniform(0.05, 0.95, (*SHAPE, *more))


def covariance() -> np.ndarray:
    root = real(D, D)
    return root @ root.swapaxes(-1, -2) + np.eye(D)


SIGMA, SPREAD, SIMPLEX = covariance(), positive(), RNG.dirichlet(np.ones(D), SHAPE)
REAL, POSITIVE = RNG.normal(0, 3, 8), RNG.gamma(2.0, 1.0, 8)
COUNTS, UNIT = RNG.poisson(4, 8), RNG.uniform(size=8)
POINTS, BITS = RNG.normal(0, 2, (8, D)), RNG.integers(0, 2, (8, D))
MEAN, SCALE, VECTOR = real(), positive(), real(D)
DF, SHARE, ITEMS = positive() + 1, share(), share(D)
TABLE = RNG.multinomial(6, np.ones(D) / D, 8)

# family, x, parameters, log density of one observation under the parameters of one component
CASES = [
    ("normal", REAL, {"mean": MEAN, "sd": SPREAD}, stats.norm.logpdf),
    (
        "normal",
        REAL,
        {"mean": MEAN, "variance": SPREAD},
        lambda x, m, v: stats.norm.logpdf(x, m, v**0.5),
    ),
    (
        "normal",
        REAL,
        {"mean": MEAN, "precision": SPREAD},
        lambda x, m, t: stats.norm.logpdf(x, m, t**-0.5),
    ),
    (
        "student_t",
        REAL,
        {"df": DF, "location": MEAN, "scale": SCALE},
        stats.t.logpdf,
    ),
    (
        "lognormal",
        REAL,
        {"mean": MEAN, "sd": SPREAD},
        lambda x, m, s: stats.lognorm.logpdf(x, s, scale=np.exp(m)),
    ),
    ("exponential", REAL, {"rate": SCALE}, lambda x, r: stats.expon.logpdf(x, scale=1 / r)),
    ("exponential", POSITIVE, {"scale": SCALE}, lambda x, s: stats.expon.logpdf(x, scale=s)),
    (
        "gamma",
        REAL,
        {"shape": DF, "rate": SCALE},
        lambda x, a, r: stats.gamma.logpdf(x, a, scale=1 / r),
    ),
    (
        "gamma",
        POSITIVE,
        {"shape": DF, "scale": SCALE},
        lambda x, a, s: stats.gamma.logpdf(x, a, scale=s),
    ),
    ("beta", UNIT, {"alpha": DF, "beta": SCALE}, stats.beta.logpdf),
    ("poisson", COUNTS, {"rate": SCALE}, stats.poisson.logpmf),
    (
        "negative_binomial",
        COUNTS,
        {"mean": SCALE, "dispersion": DF},
        lambda x, m, a: stats.nbinom.logpmf(x, a, a / (a + m)),
    ),
    ("negative_binomial", COUNTS, {"size": DF, "p": SHARE}, stats.nbinom.logpmf),
    (
        "binomial",
        COUNTS,
        {"p": SHARE, "trials": np.full(SHAPE, 7)},
        lambda x, p, n: stats.binom.logpmf(x, n, p),
    ),
    (
        "binomial_trials",
        np.stack([COUNTS, np.arange(3, 11)], axis=1),
        {"p": SHARE},
        lambda x, p: stats.binom.logpmf(x[0], x[1], p),
    ),
    ("bernoulli", BITS, {"p": ITEMS}, lambda x, p: stats.bernoulli.logpmf(x, p).sum()),
    ("categorical", COUNTS % D, {"p": SIMPLEX}, lambda x, p: np.log(p[x])),
    ("multinomial", TABLE, {"p": SIMPLEX}, lambda x, p: stats.multinomial.logpmf(x, x.sum(), p)),
    (
        "multivariate_normal",
        POINTS,
        {"mean": VECTOR, "covariance": SIGMA},
        stats.multivariate_normal.logpdf,
    ),
    (
        "multivariate_normal",
        POINTS,
        {"mean": VECTOR, "precision": SIGMA},
        lambda x, m, s: stats.multivariate_normal.logpdf(x, m, np.linalg.inv(s)),
    ),
    (
        "multivariate_normal",
        POINTS,
        {"mean": VECTOR, "cholesky": np.linalg.cholesky(SIGMA)},
        lambda x, m, s: stats.multivariate_normal.logpdf(x, m, s @ s.T),
    ),
    (
        "multivariate_normal",
        POINTS,
        {"mean": VECTOR, "sd": positive(D)},
        lambda x, m, s: stats.multivariate_normal.logpdf(x, m, np.diag(s**2)),
    ),
    (
        "multivariate_normal",
        POINTS,
        {"mean": VECTOR, "variance": positive(D)},
        lambda x, m, s: stats.multivariate_normal.logpdf(x, m, np.diag(s)),
    ),
    (
        "spherical_normal",
        POINTS,
        {"mean": VECTOR, "sd": SCALE},
        lambda x, m, s: stats.multivariate_normal.logpdf(x, m, s**2 * np.eye(D)),
    ),
    (
        "spherical_normal",
        POINTS,
        {"mean": VECTOR, "variance": SCALE},
        lambda x, m, s: stats.multivariate_normal.logpdf(x, m, s * np.eye(D)),
    ),
    (
        "spherical_normal",
        POINTS,
        {"mean": VECTOR, "precision": SCALE},
        lambda x, m, s: stats.multivariate_normal.logpdf(x, m, np.eye(D) / s),
    ),
]
IDS = [f"{family}-{'-'.join(parameters)}" for family, _, parameters, _ in CASES]


def test_every_family_and_every_way_is_tested():
    tested = {(family, " ".join(parameters)) for family, _, parameters, _ in CASES}
    known = {(name, way) for name, family in DENSITIES.items() for way in family.parameters}
    same = {("lognormal", "mean variance"), ("lognormal", "mean precision")}  # as the normal
    assert known - same == tested


@pytest.mark.parametrize(("family", "x", "parameters", "truth"), CASES, ids=IDS)
def test_against_scipy(family, x, parameters, truth):
    log = log_density(family, x, parameters)
    assert log.shape == (2, 5, 8, 3)
    assert log.dtype == float
    for chain, draw, i, k in product(range(2), (0, 4), range(8), range(3)):
        one = truth(x[i], *(value[chain, draw, k] for value in parameters.values()))
        assert log[chain, draw, i, k] == pytest.approx(one, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("family", "x", "parameters", "truth"), CASES, ids=IDS)
def test_parameters_of_all_components_and_missing_observations(family, x, parameters, truth):
    shared = {name: value[:, :, :1] for name, value in parameters.items()}
    log = log_density(family, x, shared)
    assert np.allclose(log, log_density(family, x, parameters)[..., :1], equal_nan=True)
    gone = x.astype(float)
    gone[2] = np.nan
    log = log_density(family, gone, parameters)
    assert (log[:, :, 2] == 0).all()
    rest = np.arange(8) != 2
    assert np.array_equal(log[:, :, rest], log_density(family, x, parameters)[:, :, rest])


def test_edges():
    mean = {"rate": np.array([0.0 + 1e-300, 2.0])}
    assert np.isneginf(log_density("poisson", np.array([1.5, -1.0]), mean)).all()
    assert np.isneginf(
        log_density("beta", np.array([0.0, 1.0]), {"alpha": [2.0], "beta": [2.0]})
    ).all()
    p = np.array([[0.0, 1.0, 0.5]])
    assert log_density("bernoulli", np.array([[0, 1, 1]]), {"p": p})[0, 0] == np.log(0.5)
    assert np.isneginf(log_density("bernoulli", np.array([[1, 1, 1], [0, 1, 2]]), {"p": p})).all()
    assert log_density("bernoulli", np.array([[np.nan, 1, 1]]), {"p": p})[0, 0] == np.log(0.5)
    assert np.isneginf(log_density("categorical", np.array([0, 3, -1]), {"p": p})).all()
    assert np.isneginf(log_density("binomial", np.array([8]), {"p": [0.5], "trials": [7]})).all()
    matrix = np.stack([np.full((2, 2), np.nan), np.eye(2)])
    log = log_density(
        "multivariate_normal", np.zeros((1, 2)), {"mean": np.zeros((2, 2)), "covariance": matrix}
    )
    assert np.isnan(log[0, 0])
    assert np.isfinite(log[0, 1])


@pytest.mark.parametrize(
    ("family", "x", "parameters", "error", "said"),
    [
        ("gauss", [0.0], {}, SpecError, "unknown family 'gauss'; known are normal, multi"),
        ("gaussian", [0.0], {}, SpecError, "unknown family 'gaussian'; known are normal, multi"),
        ("norml", [0.0], {}, SpecError, "unknown family 'norml' .did you mean 'normal'"),
        ("normal", [0.0], {"mean": [0.0]}, SpecError, "parameters are mean, sd; or mean, variance"),
        ("normal", [0.0], {"mean": [0.0], "sd": [-1.0]}, DataError, "sd must be positive; .* -1"),
        ("normal", [0.0], {"mean": [0.0], "sd": 1.0}, DataError, "one axis is of components"),
        ("normal", [[0.0]], {"mean": [0.0], "sd": [1.0]}, DataError, r"\(1, 1\); it takes \(n,\)"),
        ("bernoulli", [1], {"p": [[1.5]]}, DataError, "p lies between 0 and 1; here from 1.5"),
        ("bernoulli", [[1, 0]], {"p": [[0.5]]}, DataError, r"observations have 2 entries each"),
        ("binomial_trials", [1], {"p": [0.5]}, DataError, "have 1 columns, not 2"),
        (
            "multivariate_normal",
            [[0.0, np.nan]],
            {"mean": [[0.0, 0.0]], "sd": [[1.0, 1.0]]},
            DataError,
            "missing in part",
        ),
        (
            "multivariate_normal",
            [[0.0, 0.0]],
            {"mean": [[0.0, 0.0]], "covariance": [[[1.0, 2.0], [2.0, 1.0]]]},
            DataError,
            "a covariance is not positive definite",
        ),
    ],
)
def test_what_does_not_fit(family, x, parameters, error, said):
    with pytest.raises(error, match=said):
        log_density(family, np.array(x), {k: np.array(v) for k, v in parameters.items()})


# ---------------------------------------------------------------------- allocation probabilities


def mixture(**more: np.ndarray) -> xr.Dataset:
    shape = (*SAMPLE, "component")
    w = np.random.default_rng(1).dirichlet(np.ones(3), (2, 5))
    found = {"mu": (shape, MEAN.copy()), "sigma": (shape, SPREAD.copy()), "w": (shape, w)}
    return xr.Dataset(found, {"component": ["a", "b", "c"]}).assign(more)


NORMAL = {"mean": "mu", "sd": "sigma"}


def direct(draws: xr.Dataset, x: np.ndarray) -> np.ndarray:
    """w f / sum w f, in the plainest way."""
    each = [
        draws["w"].values[..., None, k]
        * stats.norm.pdf(x, MEAN[..., None, k], SPREAD[..., None, k])
        for k in range(3)
    ]
    return np.stack(each, axis=-1) / sum(each)[..., None]


def test_allocation_probabilities(monkeypatch):
    draws = mixture()
    prob = relabel.models.allocation_probabilities(draws, REAL, "normal", NORMAL)
    assert prob.dims == (*SAMPLE, "obs", "component")
    assert prob.dtype == float
    assert list(prob["component"].values) == ["a", "b", "c"]
    np.testing.assert_allclose(prob, direct(draws, REAL), rtol=1e-12)
    monkeypatch.setattr(
        "relabel.models.responsibilities._BLOCK", 8 * 8 * 3 * 3
    )  # three draws at a time
    xr.testing.assert_identical(
        prob, relabel.models.allocation_probabilities(draws, REAL, "normal", NORMAL)
    )


def test_densities_that_underflow():
    """Far from all components the nearest one takes all; a component of weight zero takes none."""
    log = np.array([[[-4000.0, -4000.0 + np.log(3)], [-5000.0, -4000.0], [-np.inf, -9000.0]]])
    np.testing.assert_allclose(allocate(log)[0], [[0.25, 0.75], [0, 1], [0, 1]], rtol=1e-12)
    assert np.isnan(allocate(np.full((1, 1, 2), -np.inf))).all()


def test_axes_in_any_order_and_names_of_the_data():
    draws = mixture()
    prob = relabel.models.allocation_probabilities(draws, REAL, "normal", NORMAL)
    turned = draws.transpose("component", "draw", "chain")
    x = xr.DataArray(REAL, {"galaxy": list("abcdefgh")}, ["galaxy"])
    named = relabel.models.allocation_probabilities(turned, x, "normal", NORMAL)
    assert named.dims == (*SAMPLE, "galaxy", "component")
    assert list(named["galaxy"].values) == list("abcdefgh")
    assert np.array_equal(named, prob)
    vectors = xr.Dataset(
        {
            "mu": ((*SAMPLE, "d", "k"), VECTOR.swapaxes(-1, -2)),
            "s": draws["w"].rename(component="k") * 0 + 1,
        }
    )
    several = relabel.models.allocation_probabilities(
        vectors,
        POINTS,
        "multivariate_normal",
        {"mean": "mu", "sd": np.ones(D)},
        weights=None,
        component="k",
    )
    truth = allocate(
        log_density("multivariate_normal", POINTS, {"mean": VECTOR, "sd": np.ones((*SHAPE, D))})
    )
    np.testing.assert_allclose(several, truth, rtol=1e-12)


def test_default_dimensions_and_shared_parameters():
    draws = mixture()
    renamed = xr.Dataset(
        {
            "mu": ((*SAMPLE, "mu_dim_0"), MEAN),
            "w": ((*SAMPLE, "w_dim_0"), draws["w"].values),
            "sigma": (SAMPLE, SPREAD[..., 0]),
        }
    )
    prob = relabel.models.allocation_probabilities(renamed, REAL, "normal", NORMAL)
    shared = draws.assign(
        sigma=draws["sigma"].isel(component=0, drop=True).expand_dims(component=draws["component"])
    )
    truth = relabel.models.allocation_probabilities(shared, REAL, "normal", NORMAL)
    np.testing.assert_allclose(prob, truth, rtol=1e-12)
    assert prob.dims[-1] == "w_dim_0"


def test_probabilities_follow_the_draws():
    """Added to the data they are aligned with it, whatever its type."""
    draws = mixture()
    prob = relabel.models.allocation_probabilities(draws, REAL, "normal", NORMAL)
    spec = relabel.mixture(prob="prob")
    dataset = relabel.align(relabel.models.with_allocation(draws, prob), spec)
    tree = xr.DataTree.from_dict(
        {"posterior": draws, "allocation": xr.Dataset({"z": prob[..., 0]})}
    )
    added = relabel.models.with_allocation(tree, prob)
    assert "prob" not in tree["allocation"]
    aligned = relabel.align(added, relabel.mixture(prob="allocation/prob"))
    again = relabel.models.allocation_probabilities(aligned, REAL, "normal", NORMAL)
    assert not np.array_equal(again, prob)
    np.testing.assert_allclose(aligned["allocation"]["prob"], again, rtol=1e-12)
    assert dataset["prob"].dims == prob.dims
    again = relabel.models.with_allocation(dataset, prob, name="other")
    assert relabel.undo(again)["prob"].identical(prob.rename("prob"))
    with pytest.raises(DataError, match="of other draws: draw has the size 4"):
        relabel.models.with_allocation(tree, prob[:, :4])


def test_draws_with_nan_and_observations_that_fit_nothing():
    draws = mixture()
    draws["mu"].values[0, 3, 1] = np.nan
    prob = relabel.models.allocation_probabilities(draws, REAL, "normal", NORMAL)
    assert np.array_equal(
        np.isnan(prob).any(["obs", "component"]), np.isnan(draws["mu"]).any("component")
    )
    x = np.append(REAL, 1e300)
    with pytest.raises(DataError, match=r"density 0 at observation 8 \(1e\+300\) in chain 0"):
        relabel.models.allocation_probabilities(draws, x, "normal", NORMAL)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"weights": "v"}, SpecError, "unknown variable 'v'; the draws have mu, sigma, w"),
        ({"parameters": {"mean": "mu", "sd": "sgma"}}, SpecError, "did you mean 'sigma'"),
        ({"group": "prior"}, SpecError, "no group 'prior'"),
        ({"weights": "mu"}, DataError, "'mu' must hold probabilities that add up to one"),
        ({"weights": None, "parameters": {"mean": 0.0, "sd": 1.0}}, SpecError, "component="),
        (
            {"parameters": {"mean": [0.0, 1.0], "sd": 1.0}},
            DataError,
            "a parameter must be a number or the name of a variable",
        ),
        (
            {"family": "bernoulli", "parameters": {"p": "w"}},
            DataError,
            "must hold a vector for each of the 3 components",
        ),
        (
            {"family": "bernoulli", "parameters": {"prob": [0.5, 0.5]}},
            SpecError,
            "bernoulli: the parameters are p; given are prob",
        ),
    ],
)
def test_options_that_do_not_fit(options, error, said):
    given = {"family": "normal", "parameters": NORMAL} | options
    with pytest.raises(error, match=said):
        relabel.models.allocation_probabilities(mixture(), REAL, **given)


# ---------------------------------------------------------------------- state probabilities


def hidden(seed: int = 2) -> xr.Dataset:
    rng = np.random.default_rng(seed)
    P = rng.dirichlet(np.ones(3), SHAPE)
    P[0, 0] = [[0, 1, 0], [0.5, 0, 0.5], [0, 1, 0]]  # some paths are impossible
    found = {
        "mu": ((*SAMPLE, "state"), rng.normal(size=SHAPE)),
        "P": ((*SAMPLE, "state", "state_to"), P),
        "p0": ((*SAMPLE, "state"), rng.dirichlet(np.ones(3), SHAPE[:2])),
    }
    return xr.Dataset(found)


def paths(draw: xr.Dataset, x: np.ndarray) -> np.ndarray:
    """State probabilities of one draw as sums over all paths, (n, K)."""
    total = np.zeros((len(x), 3))
    for path in product(range(3), repeat=len(x)):
        p = draw["p0"].values[path[0]]
        for a, b in pairwise(path):
            p *= draw["P"].values[a, b]
        p *= np.prod(stats.norm.pdf(x, draw["mu"].values[list(path)]))
        total[np.arange(len(x)), path] += p
    return total / total.sum(axis=1, keepdims=True)


def test_state_probabilities_are_sums_over_paths():
    draws, x = hidden(), REAL[:6]
    found = relabel.models.state_probabilities(
        draws, x, "normal", {"mean": "mu", "sd": 1.0}, initial="p0"
    )
    assert found.dims == (*SAMPLE, "obs", "state")
    parts = relabel.models.state_probabilities(
        draws, x, "normal", {"mean": "mu", "sd": 1.0}, initial="p0", lengths=[4, 2]
    )
    for chain, draw in ((0, 0), (0, 3), (1, 4)):
        one = draws.isel(chain=chain, draw=draw)
        np.testing.assert_allclose(found[chain, draw], paths(one, x), rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(parts[chain, draw, :4], paths(one, x[:4]), atol=1e-14)
        np.testing.assert_allclose(parts[chain, draw, 4:], paths(one, x[4:]), atol=1e-14)


def test_long_paths_do_not_underflow():
    draws = hidden()
    draws["mu"] = draws["mu"] * 0 + xr.DataArray([0.0, 50.0, 100.0], dims="state")
    draws["P"] = draws["P"] * 0 + 1 / 3
    x = np.tile([0.0, 100.0, 50.0], 400)
    found = relabel.models.state_probabilities(draws, x, "normal", {"mean": "mu", "sd": 1.0})
    assert np.array_equal(found.argmax("state")[0, 0, :3], [0, 2, 1])
    np.testing.assert_allclose(found.sum("state"), 1)
    np.testing.assert_allclose(found.max("state"), 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lengths": [3, 4]}, r"lengths \[3, 4\] do not add up to the 6 observations"),
        ({"transition": "mu"}, "a transition matrix of 3 states has two"),
        ({"transition": "Q"}, "'Q' must hold probabilities that add up to one"),
        ({"initial": "mu"}, "'mu' must hold probabilities"),
        ({"x": np.append(REAL[:5], np.inf)}, "every path of states has density 0"),
    ],
)
def test_state_options_that_do_not_fit(options, said):
    draws = hidden().assign(Q=hidden()["P"].transpose(..., "state_to", "state") * 2)
    given = {"x": REAL[:6]} | options
    with pytest.raises(DataError, match=said):
        relabel.models.state_probabilities(
            draws, family="normal", parameters={"mean": "mu", "sd": 1.0}, **given
        )


def test_transitions_that_are_nan_give_nan():
    matrix = np.tile([[0.9, 0.1], [0.2, 0.8]], (1, 3, 1, 1))
    matrix[0, 1] = np.nan
    draws = xr.Dataset(
        {
            "mu": (("chain", "draw", "state"), np.tile([0.0, 3.0], (1, 3, 1))),
            "P": (("chain", "draw", "state", "to"), matrix),
        }
    )
    found = relabel.models.state_probabilities(
        draws, np.zeros(4), "normal", {"mean": "mu", "sd": 1.0}
    )
    assert np.isnan(found.values[0, 1]).all()
    assert np.isfinite(found.values[0, ::2]).all()


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (np.array(["a"]), {}, "dtype <U1"),
        (3.0, {}, r"shape \(\)"),
        (np.zeros(3), {"component": "nope"}, "'nope' is not a dimension"),
        (np.zeros(3), {"obs": "component"}, "cannot be 'component'"),
    ],
)
def test_observations_and_dimensions_that_do_not_fit(x, options, message):
    draws = xr.Dataset({"mu": (("chain", "draw", "component"), np.zeros((1, 2, 2)))})
    with pytest.raises(RelabelError, match=message):
        relabel.models.allocation_probabilities(
            draws, x, "normal", {"mean": "mu", "sd": 1.0}, weights=None, **options
        )
