"""What ArviZ's own converters read, where they read the same: values and names of dimensions.

They are not used (the modules in relabel/sources say why), but they must not disagree.
"""

import warnings

import numpy as np
import pytest
from files import RECORDED

from relabel.sources import from_emcee, from_numpyro, from_stan
from relabel.sources.walkers import unpooled


@pytest.fixture(scope="module")
def az():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("arviz")


def equal(ours, theirs, names):
    for name in names:
        np.testing.assert_array_equal(ours[name].values, theirs[name].values, err_msg=name)
        assert ours[name].dims == theirs[name].dims
        assert ours[name].dtype == theirs[name].dtype


def test_numpyro(az):
    numpyro = pytest.importorskip("numpyro")
    jax = pytest.importorskip("jax")
    dist = numpyro.distributions

    def model(y):
        with numpyro.plate("component", 3):
            mu = numpyro.sample("mu", dist.Normal(0, 3))
        numpyro.sample("w", dist.Normal(0, 1).expand([2, 4]).to_event(2))
        numpyro.sample("y", dist.Normal(mu.sum(), 1), obs=y)

    kernel = numpyro.infer.NUTS(model)
    length = {"num_warmup": 30, "num_samples": 20, "num_chains": 2}
    mcmc = numpyro.infer.MCMC(kernel, **length, chain_method="sequential", progress_bar=False)
    fields = ("potential_energy", "accept_prob", "num_steps", "diverging")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mcmc.run(jax.random.PRNGKey(0), np.ones(5), extra_fields=fields)
        theirs = az.from_numpyro(mcmc)
    ours = from_numpyro(mcmc)
    assert set(ours["posterior"].data_vars) == set(theirs["posterior"].data_vars)
    equal(ours["posterior"], theirs["posterior"], ["mu", "w"])
    names = ["lp", "acceptance_rate", "n_steps", "diverging"]
    equal(ours["sample_stats"], theirs["sample_stats"], names)


def test_emcee(az):
    emcee = pytest.importorskip("emcee")
    sampler = emcee.EnsembleSampler(8, 3, lambda theta: -0.5 * (theta**2).sum())
    sampler.run_mcmc(np.random.default_rng(0).normal(size=(8, 3)), 20)
    ours = from_emcee(sampler, var_names=["a", "b", "c"])
    steps = unpooled(ours["posterior"].to_dataset())
    theirs = az.from_emcee(sampler, var_names=["a", "b", "c"])["posterior"]
    assert dict(theirs.sizes) == {"chain": 8, "draw": 20}  # a chain of every walker
    for name in "abc":
        np.testing.assert_array_equal(steps[name], theirs[name].transpose("draw", "chain"))


def test_cmdstanpy(az):
    cmdstanpy = pytest.importorskip("cmdstanpy")
    paths = [str(RECORDED / "sources" / f"stan_chain_{i}.csv") for i in range(1, 5)]
    fit = cmdstanpy.from_csv(paths)
    theirs = az.from_cmdstanpy(fit)
    ours = from_stan(fit)
    equal(ours["posterior"], theirs["posterior"], list(ours["posterior"].data_vars))
    names = ["lp", "acceptance_rate", "step_size", "tree_depth", "n_steps", "diverging", "energy"]
    equal(ours["sample_stats"], theirs["sample_stats"], names)
