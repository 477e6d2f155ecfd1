"""Allocation and state probabilities, against direct sums and against sums over all paths."""

from itertools import pairwise, product

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import relabel
from relabel.errors import DataError, RelabelError, SpecError
from relabel.numerics.densities import allocate, log_density

SAMPLE = ("chain", "draw")
RNG = np.random.default_rng(0)
SHAPE = (2, 5, 3)  # chains, draws, components
D = 3
REAL, POINTS = RNG.normal(0, 3, 8), RNG.normal(0, 2, (8, D))
MEAN, SPREAD = RNG.normal(0, 2, SHAPE), RNG.gamma(2.0, 1.0, SHAPE) + 0.2
VECTOR = RNG.normal(0, 2, (*SHAPE, D))


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
