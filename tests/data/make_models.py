"""Make the small files in tests/data/models: a mixture, a hidden Markov model, a factor model.

    pip install "arviz<1" h5netcdf h5py numpyro pymc
    python make_models.py

Chains start at random, so that each has labels of its own. Seeds are fixed: the same versions on
the same kind of machine give the same draws. For size, values are rounded to single precision and
draws are thinned.
"""

from pathlib import Path

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pymc as pm
import xarray as xr
from jax import random
from numpyro.infer import MCMC, NUTS, init_to_value

FOLDER = Path(__file__).resolve().parent / "models"
SEED = 11

Arrays = dict[str, np.ndarray]


def pymc_mixture() -> None:
    """Three normal components of the plane, allocations summed out, by NUTS in PyMC."""
    rng = np.random.default_rng(SEED)
    true_mu = np.array([[-2.0, 0.0], [1.5, 1.5], [1.0, -2.0]])
    true_z = np.sort(rng.choice(3, p=[0.5, 0.3, 0.2], size=80))
    x = true_mu[true_z] + 0.7 * rng.normal(size=(80, 2))
    coords = {"component": ["a", "b", "c"], "dim": ["east", "north"], "obs": np.arange(80)}
    with pm.Model(coords=coords):
        w = pm.Dirichlet("w", np.ones(3), dims="component")
        mu = pm.Normal("mu", 0, 3, dims=("component", "dim"))
        sigma = pm.HalfNormal("sigma", 1.5, dims="component")
        parts = pm.logp(pm.Normal.dist(mu[None], sigma[None, :, None]), x[:, None, :]).sum(axis=2)
        joint = parts + pm.math.log(w)[None]
        pm.Potential("density", pm.math.logsumexp(joint, axis=1).sum())
        starts = [
            {"mu": x[rng.choice(80, 3, replace=False)], "sigma": np.full(3, 1.0)} for _ in range(4)
        ]
        idata = pm.sample(
            400,
            tune=500,
            chains=4,
            cores=1,
            initvals=starts,
            random_seed=SEED,
            progressbar=False,
        )
    posterior = idata.posterior.isel(draw=slice(None, None, 5))
    stats = idata.sample_stats[["lp", "diverging"]].isel(draw=slice(None, None, 5))
    prob = xr.apply_ufunc(
        lambda mu, sigma, w: mixture_prob(x, mu, sigma, w),
        posterior["mu"],
        posterior["sigma"],
        posterior["w"],
        input_core_dims=[["component", "dim"], ["component"], ["component"]],
        output_core_dims=[["obs", "component"]],
    )
    data = xr.Dataset({"x": (("obs", "dim"), x), "true_z": ("obs", true_z)})
    save(
        "pymc_mixture.nc",
        posterior=posterior,
        sample_stats=stats,
        allocation=xr.Dataset({"prob": prob}),
        constant_data=data.assign(true_mu=(("component", "dim"), true_mu)),
    )


def mixture_prob(x: np.ndarray, mu: np.ndarray, sigma: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Allocation probabilities of normal components in the plane."""
    away = np.square((x[:, None, :] - mu[..., None, :, :]) / sigma[..., None, :, None]).sum(-1)
    log = np.log(w / sigma**2)[..., None, :] - 0.5 * away
    prob = np.exp(log - log.max(axis=-1, keepdims=True))
    return prob / prob.sum(axis=-1, keepdims=True)


def numpyro_hmm() -> None:
    """Three states with normal emissions by NUTS in NumPyro; paths are drawn afterwards."""
    rng = np.random.default_rng(SEED)
    true_mu, stay = np.array([-2.0, 0.5, 3.0]), 0.85
    true_z = np.zeros(150, dtype=int)
    for t in range(1, 150):
        true_z[t] = true_z[t - 1] if rng.random() < stay else (true_z[t - 1] + 1) % 3
    x = true_mu[true_z] + 0.8 * rng.normal(size=150)
    chains = [hmm_chain(x, rng.choice(x, 3, replace=False), chain) for chain in range(4)]
    whole = {name: np.stack([chain[name] for chain in chains]) for name in chains[0]}
    sample = ("chain", "draw")
    names = {"mu": "state", "sigma": "state", "initial": "state"}
    posterior = {name: ((*sample, dim), whole[name]) for name, dim in names.items()}
    posterior["transition"] = ((*sample, "state", "state_to"), whole["transition"])
    save(
        "numpyro_hmm.nc",
        posterior=xr.Dataset(posterior),
        sample_stats=xr.Dataset({name: (sample, whole[name]) for name in ("lp", "diverging")}),
        allocation=xr.Dataset({"z": ((*sample, "time"), whole["z"].astype(np.int8))}),
        constant_data=xr.Dataset(
            {"x": ("time", x), "true_z": ("time", true_z), "true_mu": ("state", true_mu)}
        ),
    )


def hmm_model(x: np.ndarray) -> None:
    """Normal emissions; paths are summed out."""
    with numpyro.plate("state", 3):
        mu = numpyro.sample("mu", dist.Normal(0, 3))
        sigma = numpyro.sample("sigma", dist.HalfNormal(1.5))
        transition = numpyro.sample("transition", dist.Dirichlet(jnp.ones(3)))
    initial = numpyro.sample("initial", dist.Dirichlet(jnp.ones(3)))
    log_likely = dist.Normal(mu, sigma).log_prob(x[:, None])
    numpyro.factor("evidence", filtered(log_likely, initial, transition)[1])


def filtered(log_likely, initial, transition):
    """Probabilities of states given the past, and the log evidence."""

    def step(carry, row):
        ahead, total = carry
        joint = jnp.log(ahead) + row
        new = jax.nn.logsumexp(joint)
        now = jnp.exp(joint - new)
        return (now @ transition, total + new), now

    (_, total), forward = jax.lax.scan(step, (initial, 0.0), log_likely)
    return forward, total


def path(key, draw, x):
    """Draw a path given the parameters, from the last state to the first."""
    log_likely = dist.Normal(draw["mu"], draw["sigma"]).log_prob(x[:, None])
    forward, _ = filtered(log_likely, draw["initial"], draw["transition"])

    def back(carry, row):
        state, key = carry
        key, now = random.split(key)
        drawn = random.categorical(now, jnp.log(row) + jnp.log(draw["transition"][:, state]))
        return (drawn, key), drawn

    key, now = random.split(key)
    last = random.categorical(now, jnp.log(forward[-1]))
    _, earlier = jax.lax.scan(back, (last, key), forward[:-1], reverse=True)
    return jnp.append(earlier, last)


def hmm_chain(x: np.ndarray, start: np.ndarray, chain: int) -> Arrays:
    """Run one chain from means that are points of the series."""
    values = {
        "mu": jnp.array(start),
        "sigma": jnp.ones(3),
        "transition": jnp.full((3, 3), 1 / 3),
        "initial": jnp.full(3, 1 / 3),
    }
    kernel = NUTS(hmm_model, init_strategy=init_to_value(values=values))
    mcmc = MCMC(kernel, num_warmup=400, num_samples=400, thinning=4, progress_bar=False)
    mcmc.run(random.PRNGKey(SEED + chain), x, extra_fields=("potential_energy", "diverging"))
    draws, extra = mcmc.get_samples(), mcmc.get_extra_fields()
    keys = random.split(random.PRNGKey(100 + chain), 100)
    found = {name: np.asarray(value) for name, value in draws.items()}
    found["z"] = np.asarray(jax.vmap(path, (0, 0, None))(keys, draws, x))
    found["lp"] = -np.asarray(extra["potential_energy"])
    found["diverging"] = np.asarray(extra["diverging"])
    return found


def gibbs_factors() -> None:
    """Three factors of ten items, loadings and scores, by a Gibbs sampler of our own."""
    rng = np.random.default_rng(SEED)
    n, p, q = 80, 10, 3
    true_loadings = np.where(
        np.arange(p)[:, None] % q == np.arange(q), rng.uniform(0.6, 1.0, (p, q)), 0.0
    )
    true_scores = rng.normal(size=(n, q))
    y = true_scores @ true_loadings.T + 0.6 * rng.normal(size=(n, p))
    chains = [gibbs_chain(y, q, np.random.default_rng(SEED + chain)) for chain in range(4)]
    whole = {name: np.stack([chain[name] for chain in chains]) for name in chains[0]}
    sample = ("chain", "draw")
    save(
        "gibbs_factors.nc",
        posterior=xr.Dataset(
            {
                "Lambda": ((*sample, "item", "factor"), whole["Lambda"]),
                "psi": ((*sample, "item"), whole["psi"]),
                "eta": ((*sample, "obs", "factor"), whole["eta"]),
            },
            coords={"item": [f"y{i}" for i in range(p)], "factor": [f"F{k}" for k in range(q)]},
        ),
        sample_stats=xr.Dataset({"lp": (sample, whole["lp"])}),
        constant_data=xr.Dataset(
            {"y": (("obs", "item"), y), "true_Lambda": (("item", "factor"), true_loadings)}
        ),
    )


def gibbs_chain(y: np.ndarray, q: int, rng: np.random.Generator) -> Arrays:
    """Sample loadings and scores given each other; sparse (horseshoe-like) priors fix rotations.

    Loadings are N(0, tau^2) with tau^2 ~ IG(1/2, 1/8) of their own, a Cauchy prior of scale 1/2, so
    that the posterior has the signed permutations of a sparse solution as modes, not all rotations.
    """
    n, p = y.shape
    loadings, tau2, psi = rng.normal(size=(p, q)), np.ones((p, q)), np.ones(p)
    kept: dict[str, list[np.ndarray]] = {"Lambda": [], "psi": [], "eta": [], "lp": []}
    for step in range(1500 + 900):
        precision = np.eye(q) + (loadings / psi[:, None]).T @ loadings
        root = np.linalg.cholesky(np.linalg.inv(precision))
        mean = np.linalg.solve(precision, (loadings / psi[:, None]).T @ y.T).T
        eta = mean + rng.normal(size=(n, q)) @ root.T
        for i in range(p):
            inner = np.linalg.inv(eta.T @ eta / psi[i] + np.diag(1 / tau2[i]))
            middle = inner @ (eta.T @ y[:, i]) / psi[i]
            loadings[i] = middle + np.linalg.cholesky(inner) @ rng.normal(size=q)
        tau2 = (0.125 + 0.5 * loadings**2) / rng.standard_gamma(1.0, size=(p, q))
        left = np.square(y - eta @ loadings.T).sum(axis=0)
        psi = (0.5 + 0.5 * left) / rng.standard_gamma(1.0 + n / 2, size=p)
        if step >= 1500 and step % 12 == 0:
            covariance = loadings @ loadings.T + np.diag(psi)
            fit = np.trace(np.linalg.solve(covariance, y.T @ y))
            prior = -np.log1p((loadings / 0.5) ** 2).sum() - (2 * np.log(psi) + 0.5 / psi).sum()
            lp = prior - 0.5 * (fit + n * np.linalg.slogdet(covariance)[1])
            for name, value in (("Lambda", loadings), ("psi", psi), ("eta", eta), ("lp", lp)):
                kept[name].append(np.array(value))
    return {name: np.stack(values) for name, values in kept.items()}


def save(name: str, **groups: xr.Dataset) -> None:
    """Write as ArviZ does: single precision for the draws, compressed."""
    for group in ("posterior", "allocation"):
        if group in groups:
            wide = [v for v in groups[group] if groups[group][v].dtype == np.float64]
            groups[group] = groups[group].assign({v: groups[group][v].astype("f4") for v in wide})
    for dataset in groups.values():
        dataset.attrs = {}
    az.InferenceData(**groups).to_netcdf(FOLDER / name)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for make in (pymc_mixture, numpyro_hmm, gibbs_factors):
        make()
