"""Draw posteriors of which it is known how many units they need: tests/data/redundancy.

    pip install numpyro "arviz<1" xarray h5netcdf h5py scipy
    python make_truths.py                     # sample and write all files
    python make_truths.py tanh_2-4-1          # one of them
    python make_truths.py --check [NAME ...]  # figures about the files; samples nothing

Data are simulated from a network of known weights, and a network of as many units, or of more, is
fitted to them by NumPyro's NUTS. Weights are stored (in, out):

    f = act(X @ W1 + b1) @ W2 + b2
    y ~ Normal(f, sigma)  or  y ~ Bernoulli(logits=f)

Every chain starts at a draw from the prior. Seeds are fixed: the same versions on the same kind of
machine give the same draws; others give other draws of the same posteriors.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import xarray as xr
from numpyro.infer import MCMC, NUTS, init_to_sample

FOLDER = Path(__file__).resolve().parent / "redundancy"
CHAINS, DRAWS, WARMUP, THINNING = 4, 250, 1500, 2

Arrays = dict[str, np.ndarray]
Shape = tuple[int, ...]


def weights(W1: list, b1: list, W2: list, b2: float) -> Arrays:
    """Write down a network: rows of W1 are inputs, entries of W2 are outgoing weights."""
    return {
        "W1": np.array(W1),
        "b1": np.array(b1),
        "W2": np.array(W2)[:, None],
        "b2": np.array([b2]),
    }


TWO = weights([[2.0, -1.0], [0.5, 1.8]], [0.5, -0.8], [1.5, 1.2], 0.2)
# Units 0 and 2 are near one another and work against one another: a naive distance calls them
# duplicates.
FOUR = weights(
    [[2.0, -1.0, 1.6, 0.3], [0.5, 1.8, 0.9, -1.5]],
    [0.5, -0.8, 0.1, 0.9],
    [1.8, 1.2, -1.5, 1.0],
    0.2,
)
LOGITS = TWO | {"W2": np.array([[6.0], [5.0]]), "b2": np.array([-0.5])}
RELU = weights([[1.2, -0.9, 0.2], [0.4, 0.8, -1.3]], [0.3, -0.2, 0.4], [1.3, -1.1, 0.9], 0.1)


@dataclass(frozen=True)
class Case:
    """One file: the truth, the network fitted to its data, and the priors."""

    truth: Arrays
    units: int
    seed: int  # of the sampler; the data have their own
    count: int = 200
    data_seed: int = 1
    activation: str = "tanh"
    likelihood: str = "normal"
    noise: float = 0.1
    prior_sd: float = 1.5  # of W1, b1 and b2
    out_sd: float = 1.5  # of W2


CASES = {
    "tanh_2-2-1": Case(TWO, units=2, seed=4),
    "tanh_2-4-1": Case(FOUR, units=4, seed=1),
    "tanh_2-4-1_two_spare": Case(TWO, units=4, seed=1),
    "tanh_2-3-1_bernoulli": Case(
        LOGITS, units=3, seed=1, count=500, likelihood="bernoulli", out_sd=5.0
    ),
    "relu_2-3-1": Case(
        RELU,
        units=3,
        seed=1,
        count=100,
        activation="relu",
        noise=0.3,
        prior_sd=1.0,
        out_sd=1.0,
    ),
}
ACTIVATIONS = {"tanh": jnp.tanh, "relu": jax.nn.relu}
DIMS = {
    "W1": ("input", "unit"),
    "b1": ("unit",),
    "W2": ("unit", "output"),
    "b2": ("output",),
    "X": ("obs", "input"),
    "y": ("obs",),
}


def shapes(case: Case) -> dict[str, Shape]:
    """Shape of every weight and bias of the fitted network."""
    n_in, H = len(case.truth["W1"]), case.units
    return {"W1": (n_in, H), "b1": (H,), "W2": (H, 1), "b2": (1,)}


def outputs(case: Case, values: Mapping[str, np.ndarray], X: np.ndarray) -> jax.Array:
    """Outputs (n,) of one network."""
    hidden = ACTIVATIONS[case.activation](X @ values["W1"] + values["b1"])
    return (hidden @ values["W2"] + values["b2"])[:, 0]


def model(case: Case, X: np.ndarray, y: np.ndarray) -> None:
    """State the Bayesian network."""
    values = {}
    for name, shape in shapes(case).items():
        sd = case.out_sd if name == "W2" else case.prior_sd
        values[name] = numpyro.sample(name, dist.Normal(0, sd).expand(shape).to_event())
    f = outputs(case, values, X)
    if case.likelihood == "bernoulli":
        numpyro.sample("y", dist.Bernoulli(logits=f), obs=y)
    else:
        sigma = numpyro.sample("sigma", dist.HalfNormal(1))
        numpyro.sample("y", dist.Normal(f, sigma), obs=y)


def simulate(case: Case) -> Arrays:
    """Standard normal inputs, and targets from the true network."""
    rng = np.random.default_rng(case.data_seed)
    X = rng.normal(size=(case.count, len(case.truth["W1"])))
    f = np.asarray(outputs(case, case.truth, X))
    if case.likelihood == "bernoulli":
        y = (rng.uniform(size=case.count) < 1 / (1 + np.exp(-f))).astype(np.int8)
    else:
        y = f + case.noise * rng.normal(size=case.count)
    return {"X": X, "y": y}


def sample(case: Case, data: Arrays, seed: int) -> tuple[Arrays, Arrays]:
    """Run NUTS; return the draws and the sampler's statistics."""
    mcmc = MCMC(
        NUTS(model, init_strategy=init_to_sample, target_accept_prob=0.9),
        num_warmup=WARMUP,
        num_samples=DRAWS * THINNING,
        thinning=THINNING,
        num_chains=CHAINS,
        chain_method="sequential",
        progress_bar=False,
    )
    fields = ("potential_energy", "diverging")
    mcmc.run(jax.random.PRNGKey(seed), case, data["X"], data["y"], extra_fields=fields)
    extra = mcmc.get_extra_fields(group_by_chain=True)
    stats = {
        "lp": -np.asarray(extra["potential_energy"]),
        "diverging": np.asarray(extra["diverging"]),
    }
    draws = mcmc.get_samples(group_by_chain=True)
    return {name: np.asarray(value) for name, value in draws.items()}, stats


def dataset(arrays: Arrays, lead: tuple[str, ...] = ()) -> xr.Dataset:
    """Name the axes; those of the truth have their own names, for it may have fewer units."""
    variables = {}
    for name in sorted(arrays):
        dims = DIMS.get(name.removeprefix("true_"), ())
        if name.startswith("true_"):
            dims = tuple("true_unit" if dim == "unit" else dim for dim in dims)
        variables[name] = (lead + dims, arrays[name])
    data = xr.Dataset(variables)
    return data.assign_coords({d: np.arange(n) for d, n in data.sizes.items()})


def attributes(case: Case, seed: int) -> dict[str, str | int]:
    """What the file says about the network, the priors and the sampler."""
    priors = dict.fromkeys(shapes(case), f"Normal(0, {case.prior_sd})")
    priors["W2"] = f"Normal(0, {case.out_sd})"
    if case.likelihood == "normal":
        priors["sigma"] = "HalfNormal(1)"
    sizes = [len(case.truth["W1"]), case.units, 1]
    return {
        "activation": case.activation,
        "sizes": json.dumps(sizes),
        "layout": "in_out",
        "priors": json.dumps(priors),
        "likelihood": {
            "normal": "Normal(f, sigma)",
            "bernoulli": "Bernoulli(logits=f)",
        }[case.likelihood],
        "truth_units": case.truth["W1"].shape[1],
        "seed": seed,
        "inference_library": "numpyro",
        "inference_library_version": numpyro.__version__,
    }


def make(case: Case, seed: int) -> xr.DataTree:
    """Simulate, sample, and put everything together."""
    data = simulate(case)
    draws, stats = sample(case, data, seed)
    constants = data | {f"true_{name}": value for name, value in case.truth.items()}
    if case.likelihood == "normal":
        constants["true_sigma"] = np.array(case.noise)
    groups = {
        "posterior": dataset(draws, ("chain", "draw")),
        "sample_stats": dataset(stats, ("chain", "draw")),
        "constant_data": dataset(constants),
    }
    groups["posterior"].attrs = attributes(case, seed)
    return xr.DataTree.from_dict(groups)


def write(tree: xr.DataTree, path: Path) -> None:
    """Write a compressed netCDF file."""
    compress = {"zlib": True, "complevel": 9, "shuffle": True}
    encoding = {
        group.path: {name: compress for name, v in group.data_vars.items() if v.ndim}
        for group in tree.children.values()
    }
    path.parent.mkdir(exist_ok=True)
    tree.to_netcdf(path, engine="h5netcdf", encoding=encoding)


# ---------------------------------------------------------------------- figures about the files


def check(case: Case, tree: xr.DataTree) -> dict[str, object]:
    """Measure whether the chains agree, and what the true units are worth."""
    import arviz

    draws, stats = tree["posterior"].dataset, tree["sample_stats"].dataset
    X = tree["constant_data"]["X"].values
    values = {name: draws[name].values for name in shapes(case)}
    network = jax.vmap(jax.vmap(lambda v: outputs(case, v, X)))
    f = np.asarray(network(values))
    return {
        "R-hat of weights": rhat(arviz, *values.values()),
        "R-hat of outputs": rhat(arviz, f),
        "least ESS of outputs": float(arviz.ess(arviz.convert_to_dataset({"f": f}))["f"].min()),
        "R-hat of lp": rhat(arviz, stats["lp"].values),
        "median lp": stats["lp"].median("draw").values.round(1).tolist(),
        "divergent": int(stats["diverging"].sum()),
        "removal losses": removal_losses(case, X).round(1).tolist(),
        "closest pair": round(closest_pair(case.truth), 2),
    }


def rhat(arviz: object, *arrays: np.ndarray) -> float:
    """Largest rank-normalised split R-hat."""
    flat = np.concatenate([a.reshape(*a.shape[:2], -1) for a in arrays], axis=-1)
    return round(float(arviz.rhat(arviz.convert_to_dataset({"x": flat}))["x"].max()), 3)


def removal_losses(case: Case, X: np.ndarray) -> np.ndarray:
    """Nats lost by the truth without one unit, outgoing weights and bias of the rest refitted."""
    hidden = np.asarray(ACTIVATIONS[case.activation](X @ case.truth["W1"] + case.truth["b1"]))
    f = np.asarray(outputs(case, case.truth, X))
    losses = []
    for unit in range(hidden.shape[1]):
        rest = np.column_stack([np.delete(hidden, unit, axis=1), np.ones(len(X))])
        losses.append(least_loss(case, rest, f))
    return np.array(losses)


def least_loss(case: Case, design: np.ndarray, f: np.ndarray) -> float:
    """Smallest Kullback-Leibler divergence of a linear fit from the outputs f."""
    if case.likelihood == "normal":
        fitted = design @ np.linalg.lstsq(design, f, rcond=None)[0]
        return float(((f - fitted) ** 2).sum() / (2 * case.noise**2))
    from scipy.optimize import minimize

    p = 1 / (1 + np.exp(-f))
    entropy = (p * f - np.logaddexp(0, f)).sum()
    loss = lambda c: entropy - (p * (design @ c) - np.logaddexp(0, design @ c)).sum()  # noqa: E731
    return float(minimize(loss, np.zeros(design.shape[1]), method="BFGS").fun)


def closest_pair(truth: Arrays) -> float:
    """Least distance between two units up to sign, over the mean of their norms."""
    units = np.vstack([truth["W1"], truth["b1"]]).T
    norms = np.linalg.norm(units, axis=1)
    return min(
        float(np.linalg.norm(units[i] - sign * units[j]) * 2 / (norms[i] + norms[j]))
        for i in range(len(units))
        for j in range(i)
        for sign in (1, -1)
    )


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[[], *CASES], help="all, if none is given")
    parser.add_argument("--check", action="store_true", help="only print figures")
    options = parser.parse_args()
    numpyro.enable_x64()
    for name in options.names or CASES:
        path = FOLDER / f"{name}.nc"
        if not options.check:
            write(make(CASES[name], CASES[name].seed), path)
        with xr.open_datatree(path, engine="h5netcdf") as tree:
            figures = check(CASES[name], tree.load())
        lines = [f"{label}: {figure}" for label, figure in figures.items()]
        print(f"{name}: {path.stat().st_size / 1e3:.0f} kB", *lines, sep="\n  ")  # noqa: T201


if __name__ == "__main__":
    main()
