"""Make the small files in tests/data/samplers as users of NumPyro and PyMC would save them.

    pip install "arviz<1" h5netcdf h5py numpyro pymc
    python make_files.py

Every file holds draws of one network, tanh(X @ W1 + b1) @ W2 + b2, by NUTS, 2 chains of 100. The
chains start at random, so that each has labels of its own. Seeds are fixed: the same versions on
the same kind of machine give the same draws.
"""

from collections.abc import Callable
from pathlib import Path

import arviz as az
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pymc as pm
from jax import random
from numpyro.infer import MCMC, NUTS

FOLDER = Path(__file__).resolve().parent / "samplers"
CHAINS = 2
DRAWS = 100
SEED = 8
NOISE = 0.2

Arrays = dict[str, np.ndarray]


def data(units: int) -> Arrays:
    """Simulate 60 points of a network of two inputs."""
    rng = np.random.default_rng(units)
    X = rng.normal(size=(60, 2))
    f = np.tanh(X @ rng.normal(scale=1.5, size=(2, units)) + rng.normal(size=units))
    y = f @ (np.arange(units) - 2.5) + NOISE * rng.normal(size=60)
    return {"X": X, "y": y}


def numpyro_default() -> None:
    """Shapes without names, which ArviZ calls W1_dim_0 and so on; single precision."""
    units = 3

    def model(X, y=None):
        W1 = numpyro.sample("W1", dist.Normal(0, 1.5).expand([2, units]).to_event(2))
        b1 = numpyro.sample("b1", dist.Normal(0, 1.5).expand([units]).to_event(1))
        W2 = numpyro.sample("W2", dist.Normal(0, 1.5).expand([units, 1]).to_event(2))
        b2 = numpyro.sample("b2", dist.Normal(0, 1.5).expand([1]).to_event(1))
        sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
        f = (jnp.tanh(X @ W1 + b1) @ W2 + b2)[:, 0]
        numpyro.sample("y", dist.Normal(f, sigma), obs=y)

    save_numpyro(model, data(units), "numpyro_default.nc")


def numpyro_plates() -> None:
    """Names of dimensions from plates, and a scale of its own for every unit."""
    units = 4

    def model(X, y=None):
        with numpyro.plate("hidden", units, dim=-1):
            scale = numpyro.sample("scale", dist.HalfNormal(2.0))
            b1 = numpyro.sample("b1", dist.Normal(0, 1.5))
            W2 = numpyro.sample("W2", dist.Normal(0, 1.5))
            with numpyro.plate("input", 2, dim=-2):
                W1 = numpyro.sample("W1", dist.Normal(0, scale))
        b2 = numpyro.sample("b2", dist.Normal(0, 1.5))
        sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
        f = jnp.tanh(X @ W1 + b1) @ W2 + b2
        with numpyro.plate("obs", len(X)):
            numpyro.sample("y", dist.Normal(f, sigma), obs=y)

    save_numpyro(model, data(units), "numpyro_plates.nc")


def save_numpyro(model: Callable[..., None], points: Arrays, name: str) -> None:
    """Sample and save with az.from_numpyro."""
    mcmc = MCMC(
        NUTS(model),
        num_warmup=500,
        num_samples=DRAWS,
        num_chains=CHAINS,
        chain_method="sequential",
        progress_bar=False,
    )
    extra = ("potential_energy", "num_steps", "accept_prob", "diverging")
    mcmc.run(random.PRNGKey(SEED), points["X"], points["y"], extra_fields=extra)
    idata = az.from_numpyro(mcmc, constant_data={"X": points["X"]}, log_likelihood=False)
    idata.to_netcdf(FOLDER / name)


def pymc_named() -> None:
    """Names of dimensions and their coordinates."""
    units = 4
    points = data(units)
    coords = {
        "obs": np.arange(60),
        "input": ["left", "right"],
        "hidden": [f"unit {k}" for k in range(units)],
    }
    with pm.Model(coords=coords) as model:
        X = pm.Data("X", points["X"], dims=("obs", "input"))
        W1 = pm.Normal("W1", 0, 1.5, dims=("input", "hidden"))
        b1 = pm.Normal("b1", 0, 1.5, dims="hidden")
        W2 = pm.Normal("W2", 0, 1.5, dims="hidden")
        b2 = pm.Normal("b2", 0, 1.5)
        sigma = pm.HalfNormal("sigma", 1.0)
        f = pm.math.tanh(X @ W1 + b1) @ W2 + b2
        pm.Normal("y", f, sigma, observed=points["y"], dims="obs")
    save_pymc(model, "pymc_named.nc", tune=500)


def pymc_unnamed() -> None:
    """Shapes alone, and the draws of the warm-up kept."""
    units = 3
    points = data(units)
    with pm.Model() as model:
        X = pm.Data("X", points["X"])
        W1 = pm.Normal("w_in", 0, 1.5, shape=(2, units))
        b1 = pm.Normal("b_in", 0, 1.5, shape=units)
        W2 = pm.Normal("w_out", 0, 1.5, shape=(units, 1))
        b2 = pm.Normal("b_out", 0, 1.5, shape=1)
        sigma = pm.HalfNormal("sigma", 1.0)
        f = (pm.math.tanh(X @ W1 + b1) @ W2 + b2)[:, 0]
        pm.Normal("y", f, sigma, observed=points["y"])
    save_pymc(model, "pymc_unnamed.nc", tune=100, compress=False, discard_tuned_samples=False)


def save_pymc(
    model: pm.Model, name: str, tune: int, compress: bool = True, **options: object
) -> None:
    """Sample, each chain from a start of its own, and save."""
    rng = np.random.default_rng(SEED)
    shapes = {v.name: v.shape.eval() for v in model.free_RVs if v.name != "sigma"}
    starts = [
        {v: rng.uniform(-2, 2, size=shape) for v, shape in shapes.items()} for _ in range(CHAINS)
    ]
    with model:
        idata = pm.sample(
            DRAWS,
            tune=tune,
            chains=CHAINS,
            cores=1,
            initvals=starts,
            random_seed=SEED,
            progressbar=False,
            **options,
        )
    for group in [g for g in idata.groups() if g.endswith("sample_stats")]:
        idata[group] = idata[group][["lp", "diverging", "step_size"]]  # the rest is bulk
    idata.to_netcdf(FOLDER / name, compress=compress)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for make in (numpyro_default, numpyro_plates, pymc_named, pymc_unnamed):
        make()
