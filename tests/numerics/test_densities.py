"""Densities against scipy.stats."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from relabel.errors import DataError, SpecError
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


def test_densities_that_underflow():
    """Far from all components the nearest one takes all; a component of weight zero takes none."""
    log = np.array([[[-4000.0, -4000.0 + np.log(3)], [-5000.0, -4000.0], [-np.inf, -9000.0]]])
    np.testing.assert_allclose(allocate(log)[0], [[0.25, 0.75], [0, 1], [0, 1]], rtol=1e-12)
    assert np.isnan(allocate(np.full((1, 1, 2), -np.inf))).all()
