"""Draw the two posteriors of this folder with NumPyro's NUTS.

    pip install numpyro xarray h5netcdf h5py
    python make_data.py             # sample and write tanh_shallow.nc, tanh_deep.nc
    python make_data.py shallow     # one of the two
    pip install "arviz<1"
    python make_data.py --check     # print figures about the files; samples nothing

Both are tanh networks fitted to data of a known network, weights stored (in, out):

    f = tanh(X @ W1 + b1) @ W2 + b2        (shallow: 2-4-1; the deep one, 3-4-4-1,
    y ~ Normal(f, sigma)                    has one more such layer, W3 and b3)

Priors: every weight and bias ~ Normal(0, PRIOR_SCALE), in the shallow network
sigma ~ HalfNormal(1); in the deep one sigma is known. They are symmetric about zero
and the same for all units, so permuting hidden units and flipping their signs changes
neither prior nor likelihood.

The seeds are fixed: the same versions on the same kind of machine give the same files.
Other versions give draws of the same posteriors, but rounding makes chains part.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from itertools import pairwise, permutations
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import xarray as xr
from numpyro.infer import MCMC, NUTS, init_to_sample

FOLDER = Path(__file__).resolve().parent
CHAINS = 4
PRIOR_SCALE = 1.5

SHALLOW_SIZES = (2, 4, 1)
# With most seeds a chain or two ends in a lesser mode, 170 to 230 nats below; not with this.
SHALLOW_SEED = 4
SHALLOW_SIGMA = 0.2
SHALLOW_TRUTH = {
    "W1": np.array([[2.0, -0.3, 1.3, -1.2], [0.2, 1.8, 1.4, 1.5]]),
    "b1": np.array([0.8, -0.6, 1.2, 0.3]),
    "W2": np.array([[1.5], [-1.2], [1.8], [1.0]]),
    "b2": np.array([0.3]),
}
SHALLOW_DIMS = {
    "W1": ("input", "unit"),
    "b1": ("unit",),
    "W2": ("unit", "output"),
    "b2": ("output",),
    "X": ("obs", "input"),
    "y": ("obs",),
}

DEEP_SIZES = (3, 4, 4, 1)
DEEP_SEED = 2
DEEP_SIGMA = 0.1

Arrays = dict[str, np.ndarray]
Weights = Mapping[str, np.ndarray] | Mapping[str, jax.Array]


def network(weights: Weights, x: np.ndarray | jax.Array) -> jax.Array:
    """Return the outputs (n,) of the tanh network at the inputs (n, in)."""
    depth = sum(name.startswith("W") for name in weights)
    hidden = jnp.asarray(x)
    for layer in range(1, depth):
        hidden = jnp.tanh(hidden @ weights[f"W{layer}"] + weights[f"b{layer}"])
    return (hidden @ weights[f"W{depth}"] + weights[f"b{depth}"])[:, 0]


def shapes(sizes: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight and bias of a network."""
    found: dict[str, tuple[int, ...]] = {}
    for layer, (into, out) in enumerate(pairwise(sizes), 1):
        found[f"W{layer}"] = (into, out)
        found[f"b{layer}"] = (out,)
    return found


def model(x: np.ndarray, y: np.ndarray, sizes: tuple[int, ...], sigma: float | None = None) -> None:
    """State the Bayesian network; without a given sigma it is inferred."""
    weights = {
        name: numpyro.sample(name, dist.Normal(0, PRIOR_SCALE).expand(shape).to_event())
        for name, shape in shapes(sizes).items()
    }
    scale = numpyro.sample("sigma", dist.HalfNormal(1)) if sigma is None else sigma
    numpyro.sample("y", dist.Normal(network(weights, x), scale), obs=y)


def simulate(rng: np.random.Generator, truth: Arrays, count: int, sigma: float) -> Arrays:
    """Simulate inputs and noisy targets from the true network."""
    x = rng.normal(size=(count, truth["W1"].shape[0]))
    y = np.asarray(network(truth, x)) + rng.normal(scale=sigma, size=count)
    return {"X": x, "y": y}


def random_truth(rng: np.random.Generator, sizes: tuple[int, ...]) -> Arrays:
    """Draw the weights of a true network."""
    return {name: rng.normal(size=shape) for name, shape in shapes(sizes).items()}


def random_scrambles(rng: np.random.Generator, width: int) -> Arrays:
    """Draw a signed permutation of both hidden layers for every chain."""
    scrambles = {}
    for layer in (1, 2):
        perms = [rng.permutation(width) for _ in range(CHAINS)]
        scrambles[f"scramble_perm{layer}"] = np.stack(perms)
        signs = rng.choice([-1.0, 1.0], size=(CHAINS, width))
        scrambles[f"scramble_sign{layer}"] = signs
    return scrambles


def scramble(weights: Arrays, scrambles: Arrays, chain: int) -> Arrays:
    """Relabel the units of a deep network (or of many, axes leading) as a chain's start."""
    p1, s1, p2, s2 = (
        scrambles[f"scramble_{name}"][chain] for name in ("perm1", "sign1", "perm2", "sign2")
    )
    return {
        "W1": weights["W1"][..., p1] * s1,
        "b1": weights["b1"][..., p1] * s1,
        "W2": weights["W2"][..., p1, :][..., p2] * s1[:, None] * s2,
        "b2": weights["b2"][..., p2] * s2,
        "W3": weights["W3"][..., p2, :] * s2[:, None],
        "b3": weights["b3"],
    }


def sample(
    seed: int,
    warmup: int,
    draws: int,
    *args: object,
    start: Mapping[str, np.ndarray] | None = None,
    thinning: int = 1,
) -> tuple[Arrays, Arrays]:
    """Run NUTS on the model; return the draws and the sampler's statistics."""
    mcmc = MCMC(
        NUTS(model, init_strategy=init_to_sample, target_accept_prob=0.9),
        num_warmup=warmup,
        num_samples=draws * thinning,
        thinning=thinning,
        num_chains=CHAINS,
        chain_method="parallel",
        progress_bar=False,
    )
    fields = ("potential_energy", "diverging")
    mcmc.run(jax.random.PRNGKey(seed), *args, init_params=start, extra_fields=fields)
    extra = mcmc.get_extra_fields(group_by_chain=True)
    stats = {
        "lp": -np.asarray(extra["potential_energy"]),
        "diverging": np.asarray(extra["diverging"]),
    }
    posterior = mcmc.get_samples(group_by_chain=True)
    return {name: np.asarray(value) for name, value in posterior.items()}, stats


def dataset(
    arrays: Arrays,
    dims: Mapping[str, tuple[str, ...]],
    lead: tuple[str, ...] = (),
) -> xr.Dataset:
    """Name the axes of arrays; unnamed ones get ArviZ's default `name_dim_i`."""
    variables = {}
    for name in sorted(arrays):
        rest = arrays[name].ndim - len(lead)
        named = dims.get(name, tuple(f"{name}_dim_{i}" for i in range(rest)))
        variables[name] = (lead + named, arrays[name])
    data = xr.Dataset(variables)
    return data.assign_coords({d: np.arange(n) for d, n in data.sizes.items()})


def write(
    path: Path,
    sizes: tuple[int, ...],
    draws: tuple[Arrays, Arrays],
    constants: Arrays,
    dims: Mapping[str, tuple[str, ...]],
) -> None:
    """Write draws, statistics and constants as one compressed netCDF file."""
    groups = {
        "posterior": dataset(draws[0], dims, ("chain", "draw")),
        "sample_stats": dataset(draws[1], {}, ("chain", "draw")),
        "constant_data": dataset(constants, dims),
    }
    groups["posterior"].attrs = {
        "activation": "tanh",
        "sizes": json.dumps(sizes),
        "layout": "in_out",
        "inference_library": "numpyro",
        "inference_library_version": numpyro.__version__,
    }
    compress = {"zlib": True, "complevel": 9, "shuffle": True}
    encoding = {
        f"/{group}": {name: compress for name in data.data_vars if data[name].ndim}
        for group, data in groups.items()
    }
    xr.DataTree.from_dict(groups).to_netcdf(path, engine="h5netcdf", encoding=encoding)


def with_truth(data: Arrays, truth: Arrays, sigma: float) -> Arrays:
    """Join data and truth, as they are stored."""
    true = {f"true_{name}": value for name, value in truth.items()}
    return data | true | {"true_sigma": np.array(sigma)}


def make_shallow(path: Path) -> None:
    """Sample the shallow network, every chain started at a draw of the prior."""
    rng = np.random.default_rng(SHALLOW_SEED)
    data = simulate(rng, SHALLOW_TRUTH, 400, SHALLOW_SIGMA)
    draws = sample(SHALLOW_SEED, 1500, 500, data["X"], data["y"], SHALLOW_SIZES)
    dims = SHALLOW_DIMS | {f"true_{k}": SHALLOW_DIMS[k] for k in SHALLOW_TRUTH}
    constants = with_truth(data, SHALLOW_TRUTH, SHALLOW_SIGMA)
    write(path, SHALLOW_SIZES, draws, constants, dims)


def make_deep(path: Path) -> None:
    """Sample the deep network, every chain started at its own copy of the truth."""
    rng = np.random.default_rng(DEEP_SEED)
    truth = random_truth(rng, DEEP_SIZES)
    data = simulate(rng, truth, 400, DEEP_SIGMA)
    scrambles = random_scrambles(rng, DEEP_SIZES[1])
    starts = [scramble(truth, scrambles, chain) for chain in range(CHAINS)]
    draws = sample(
        DEEP_SEED,
        500,
        250,
        data["X"],
        data["y"],
        DEEP_SIZES,
        DEEP_SIGMA,
        start={name: np.stack([s[name] for s in starts]) for name in truth},
        thinning=2,
    )
    dims = dict.fromkeys(scrambles, ("chain", "unit"))
    constants = with_truth(data, truth, DEEP_SIGMA) | scrambles
    write(path, DEEP_SIZES, draws, constants, dims)


def draws_and_truth(tree: xr.DataTree) -> tuple[Arrays, Arrays]:
    """Return the weights (chain, draw, ...) of a file and the true ones."""
    constants = tree["constant_data"].dataset
    posterior = tree["posterior"].dataset.drop_vars("sigma", errors="ignore")
    weights = {str(name): draws.values for name, draws in posterior.items()}
    return weights, {name: constants[f"true_{name}"].values for name in weights}


def signed_match(rows: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, ...]:
    """Find the signed permutation of rows (..., j, d) nearest to a reference."""
    overlap = np.einsum("kd,...jd->...kj", reference, rows)
    perms = np.array(list(permutations(range(len(reference)))))
    gain = np.abs(overlap)[..., np.arange(perms.shape[1]), perms].sum(-1)
    index = perms[gain.argmax(-1)]
    chosen = np.take_along_axis(overlap, index[..., None], -1)[..., 0]
    return index, np.where(chosen < 0, -1.0, 1.0)


def units(weights: Arrays, layer: int) -> np.ndarray:
    """Return everything that belongs to each unit of a hidden layer: (..., unit, d)."""
    into, bias, out = (weights[n] for n in (f"W{layer}", f"b{layer}", f"W{layer + 1}"))
    return np.concatenate([np.swapaxes(into, -1, -2), bias[..., None], out], -1)


def match_shallow(tree: xr.DataTree) -> Arrays:
    """Relabel every draw of the shallow file to the truth."""
    weights, truth = draws_and_truth(tree)
    index, sign = signed_match(units(weights, 1), units(truth, 1))
    copies = np.concatenate([index, sign], -1)
    visited = [len(np.unique(chain, axis=0)) for chain in copies]
    total = len(np.unique(copies.reshape(-1, copies.shape[-1]), axis=0))
    print(f"  copies of the mode (of 384) visited per chain: {visited}, by all: {total}")
    w1 = np.take_along_axis(weights["W1"], index[..., None, :], -1)
    w2 = np.take_along_axis(weights["W2"], index[..., None], -2)
    return {
        "W1": w1 * sign[..., None, :],
        "b1": np.take_along_axis(weights["b1"], index, -1) * sign,
        "W2": w2 * sign[..., None],
        "b2": weights["b2"],
    }


def invert(scrambles: Arrays) -> Arrays:
    """Return the scrambles that undo the given ones."""
    inverse = {}
    for layer in (1, 2):
        back = scrambles[f"scramble_perm{layer}"].argsort(-1)
        sign = scrambles[f"scramble_sign{layer}"]
        inverse[f"scramble_perm{layer}"] = back
        inverse[f"scramble_sign{layer}"] = np.take_along_axis(sign, back, -1)
    return inverse


def unscramble_deep(tree: xr.DataTree) -> Arrays:
    """Undo the stored scramble of every chain of the deep file."""
    weights, truth = draws_and_truth(tree)
    constants = tree["constant_data"].dataset
    inverse = invert({str(name): array.values for name, array in constants.items()})
    chains = [scramble({k: w[c] for k, w in weights.items()}, inverse, c) for c in range(CHAINS)]
    undone = {name: np.stack([chain[name] for chain in chains]) for name in truth}
    for layer in (1, 2):
        index, sign = signed_match(units(undone, layer), units(truth, layer))
        right = ((index == np.arange(index.shape[-1])) & (sign > 0)).all(-1).mean()
        print(f"  draws still in their chain's starting copy, hidden layer {layer}: {right:.1%}")
    return undone


def worst_rhat(arrays: Arrays) -> float:
    """Return the largest rank-normalised split R-hat of arrays (chain, draw, ...)."""
    import arviz

    rhat = arviz.rhat(dataset(arrays, {}, ("chain", "draw")))
    return max(float(rhat[name].max()) for name in rhat.data_vars)


def check(path: Path, relabel: Callable[[xr.DataTree], Arrays]) -> None:
    """Print how far the chains agree, before and after relabelling."""
    tree = xr.open_datatree(path, engine="h5netcdf").load()
    print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")
    weights, _ = draws_and_truth(tree)
    stats = tree["sample_stats"].dataset
    outputs = jax.vmap(jax.vmap(network, (0, None)), (0, None))
    print("  median lp per chain:", stats["lp"].median("draw").values.round(1))
    print("  divergent draws per chain:", stats["diverging"].sum("draw").values)
    aligned = relabel(tree)
    x = tree["constant_data"].dataset["X"].values
    f = np.asarray(outputs(weights, x))
    change = np.abs(np.asarray(outputs(aligned, x)) - f).max()
    print(f"  max R-hat of the weights, raw: {worst_rhat(weights):.3f}")
    print(f"  max R-hat of the outputs at X: {worst_rhat({'f': f}):.3f}")
    print(f"  max R-hat of the weights, relabelled: {worst_rhat(aligned):.3f}")
    print(f"  largest change of an output by relabelling: {change:.1e}")
    posterior = tree["posterior"].dataset
    if "sigma" in posterior:
        print(f"  R-hat of sigma: {worst_rhat({'sigma': posterior['sigma'].values}):.3f}")


def main() -> None:
    """Read the command line and run."""
    jobs = {
        "shallow": (make_shallow, match_shallow),
        "deep": (make_deep, unscramble_deep),
    }
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("which", nargs="?", choices=["both", *jobs], default="both")
    parser.add_argument("--check", action="store_true", help="only print figures")
    options = parser.parse_args()
    numpyro.enable_x64()
    numpyro.set_host_device_count(CHAINS)
    for name, (make, relabel) in jobs.items():
        path = FOLDER / f"tanh_{name}.nc"
        if options.which not in ("both", name):
            continue
        if options.check:
            check(path, relabel)
        else:
            make(path)


if __name__ == "__main__":
    main()
