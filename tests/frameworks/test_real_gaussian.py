"""Variational fits and Laplace approximations as NumPyro makes them, from several seeds."""

import json
from functools import cache

import numpy as np
import pytest

pytest.importorskip("numpyro")

import jax
import numpyro
import numpyro.distributions as dist
from jax import numpy as jnp
from numpyro.infer import SVI, Trace_ELBO, autoguide

import relabel
from relabel.groups.elements import Monomial
from relabel.spec.transformation import Transformation

N_UNITS, N_SEEDS = 3, 3
SHAPES = {"V": (N_UNITS, 1), "W": (2, N_UNITS), "b": (N_UNITS,), "c": (1,)}
SPEC = relabel.Spec({"h": "tanh"}, {"W": "x -> h", "b": "-> h", "V": "h -> y", "c": "-> y"})
RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 2))
Y = np.tanh(2 * X[:, 0]) - np.tanh(X[:, 1] - 1) + np.tanh(X.sum(axis=1) + 1)
Y += 0.1 * RNG.normal(size=80)


def network(params, x):
    return (jnp.tanh(x @ params["W"] + params["b"]) @ params["V"] + params["c"])[:, 0]


def model(x, y):
    params = {
        name: numpyro.sample(name, dist.Normal(jnp.zeros(shape), 1.0).to_event())
        for name, shape in SHAPES.items()
    }
    numpyro.sample("obs", dist.Normal(network(params, x), 0.1), obs=y)


@cache
def fits(kind):
    """Fit the network once for each seed, from starts of their own; compiled once."""
    guide = getattr(autoguide, kind)(model)
    svi = SVI(model, guide, numpyro.optim.Adam(lambda step: 0.05 * 0.999**step), Trace_ELBO())
    state = svi.init(jax.random.PRNGKey(0), X, Y)
    raw = svi.optim.get_params(state.optim_state)

    @jax.jit
    def fit(start):
        begun = state._replace(optim_state=svi.optim.init(start))
        ended = jax.lax.fori_loop(0, 4000, lambda _, s: svi.update(s, X, Y)[0], begun)
        return svi.get_params(ended)

    found = []
    for seed in range(N_SEEDS):
        rng = np.random.default_rng(seed)
        start = {
            name: jnp.asarray(rng.normal(size=value.shape), value.dtype) if "loc" in name else value
            for name, value in raw.items()
        }
        found.append(fit(start))
    return guide, found


@cache
def mean_field():
    """The lines of the documentation: locations and scales by name."""
    _, found = fits("AutoNormal")
    means = [{name: params[f"{name}_auto_loc"] for name in SHAPES} for params in found]
    sds = [{name: params[f"{name}_auto_scale"] for name in SHAPES} for params in found]
    return relabel.sources.from_gaussian(means, sd=sds)


@cache
def laplace():
    """The same for one covariance over all parameters, in the guide's order: sorted by name."""
    guide, found = fits("AutoLaplaceApproximation")
    normal = jax.jit(guide.get_posterior)  # compiled once, for all seeds
    normals = [normal(params) for params in found]
    means = np.stack([one.loc for one in normals])
    covariances = np.stack([one.covariance_matrix for one in normals])
    return relabel.sources.from_gaussian(means, cov=covariances, layout=SHAPES)


def member(tree, number):
    posterior = tree["posterior"]
    return {name: posterior[name].values[0, number].astype(float) for name in SHAPES}


def test_layout_is_that_of_the_guide():
    guide, found = fits("AutoLaplaceApproximation")
    tree = laplace()
    for number, params in enumerate(found):
        median = guide.median(params)
        for name, value in member(tree, number).items():
            np.testing.assert_allclose(value, median[name], rtol=1e-6)


@pytest.mark.parametrize("source", [mean_field, laplace])
def test_fits_are_aligned(source):
    tree = source()
    spec = relabel.sources.gaussian_spec(tree, SPEC)
    aligned = relabel.align(tree, spec, criterion="wasserstein")
    record = json.loads(aligned["relabel"].attrs["relabel"])
    assert record["losses"][-1] < 0.8 * record["loss_before"]
    for number in range(N_SEEDS):
        before, after = member(tree, number), member(aligned, number)
        np.testing.assert_allclose(network(before, X), network(after, X), rtol=1e-4, atol=1e-4)
    assert relabel.undo(aligned)["posterior"].to_dataset().identical(tree["posterior"].to_dataset())


def test_variance_of_the_outputs_stays():
    """By the delta method, J Σ Jᵀ: that of a covariance whose rows moved otherwise would not."""
    tree = laplace()
    aligned = relabel.align(
        tree, relabel.sources.gaussian_spec(tree, SPEC), criterion="wasserstein"
    )
    for number in range(N_SEEDS):
        variances = []
        for data in (tree, aligned):
            params = member(data, number)
            with jax.enable_x64(True):
                slopes = jax.jacobian(network)(jax.tree.map(jnp.asarray, params), jnp.asarray(X))
            flat = np.concatenate([np.asarray(slopes[n]).reshape(len(X), -1) for n in SHAPES], 1)
            cov = data["posterior/covariance"].values[0, number].astype(float)
            variances.append(np.einsum("ni,ij,nj->n", flat, cov, flat))
        np.testing.assert_allclose(*variances, rtol=1e-9)


@pytest.mark.parametrize("source", [mean_field, laplace])
def test_scrambled_fits_come_back(source):
    tree = source()
    spec = relabel.sources.gaussian_spec(tree, SPEC)
    groups = {"posterior": tree["posterior"].to_dataset()}
    rng = np.random.default_rng(1)
    index = np.array([[np.arange(N_UNITS)] + [rng.permutation(N_UNITS) for _ in range(1, N_SEEDS)]])
    factor = rng.choice([-1.0, 1.0], size=index.shape)
    factor[0, 0] = 1
    moved = Transformation({"h": Monomial(index, factor)}).apply(groups, spec.bind(groups))
    criterion = relabel.criteria.Wasserstein(reference={"chain": 0, "draw": 0})
    one = relabel.align(groups["posterior"], spec, criterion=criterion)
    two = relabel.align(moved["posterior"], spec, criterion=criterion)
    for name in groups["posterior"]:
        np.testing.assert_array_equal(one[name].values, two[name].values)
