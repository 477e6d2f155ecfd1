"""Residual modes: what is left of several hundred chains when the symmetries have been undone.

Two studies of a network of three tanh units, after Wiese et al. (2023), Towards efficient MCMC
sampling in Bayesian neural networks by exploiting symmetry,
https://doi.org/10.48550/arXiv.2304.02902. The data are our own, so figures are not theirs.

sinusoid
    y = sin(pi x) + 0.2 noise at 60 points of [-1.5, 1.5]: three monotone pieces, one for each
    unit. 300 chains. Raw weights lie in 3! * 2^3 = 48 copies; aligned, in one mode.
curve
    60 points in three separate intervals, as in the regression example of Izmailov et al. (2019),
    Subspace inference for Bayesian deep learning, https://arxiv.org/abs/1907.07504. Three units
    are too few for it, and different compromises are modes of their own that no symmetry joins.
    1274 chains.

Both data sets were chosen: eighteen sinusoids (frequency, interval, noise, prior) were tried for
one that has a single mode, and twenty-one curves for one that has a few large ones. Wider priors
or less noise give the sinusoid a second mode.

Every chain starts at a draw from the prior and never hears of the others, so how many end in a
mode measures its basin of attraction, not its posterior mass. The unit of all counts is the chain.
A chain of the curve is watched for 100 iterations only: R-hat within a group of chains is high
because chains creep along their mode, and falls when `thinning` is raised.

Run ``python benchmarks/residual_modes.py`` (about three minutes).
"""

from __future__ import annotations

import argparse
import json
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations, product
from math import factorial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from samplers import Draws, TanhRegression, hmc
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.stats import chi2

import relabel
from relabel.diagnostics.kernels.rhat_ess import convergence

Array = NDArray[Any]

UNITS = 3
PRIOR_SD = 1.0
FAR = 5.0  # nats between mean outputs at which groups of chains are told apart
SMALL = 0.02  # share of the chains below which a group is not listed


@dataclass(frozen=True)
class Study:
    """A data set, and how long to sample."""

    data: Callable[[np.random.Generator], tuple[Array, Array]]
    chains: int
    warmup: int
    draws: int
    thinning: int
    steps: int


def sinusoid(rng: np.random.Generator) -> tuple[Array, Array]:
    """Three monotone pieces of a sinusoid."""
    x = rng.uniform(-1.5, 1.5, size=60)
    return x[:, None], np.sin(np.pi * x) + 0.2 * rng.normal(size=60)


def curve(rng: np.random.Generator) -> tuple[Array, Array]:
    """A wave seen through three windows; inputs scaled to [-3.6, 3.6]."""
    x = np.concatenate(
        [rng.uniform(a, b, size=20) for a, b in ((-1, -2 / 3), (-1 / 6, 1 / 6), (2 / 3, 1))]
    )
    f = 0.8 * np.cos(5 * x) + 0.1 * x
    return 3.6 * x[:, None], f + 0.1 * rng.normal(size=60)


STUDIES = {
    "sinusoid": Study(sinusoid, chains=300, warmup=1000, draws=20, thinning=15, steps=40),
    "curve": Study(curve, chains=1274, warmup=1000, draws=10, thinning=10, steps=30),
}


def main() -> None:
    """Read the command line, sample or read, align, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", nargs="*", choices=[[], *STUDIES], help="both by default")
    parser.add_argument("--chains", type=int, help="number of chains")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="write the draws there")
    parser.add_argument("--read", type=Path, metavar="FOLDER", help="read them from there instead")
    options = parser.parse_args()
    for name in options.study or STUDIES:
        start = time.process_time()
        if options.read:
            data = relabel.open_draws(options.read / f"{name}.nc")
        else:
            data = draw(name, options.chains or STUDIES[name].chains, options.seed)
        if options.save:
            options.save.mkdir(parents=True, exist_ok=True)
            relabel.save(data, options.save / f"{name}.nc", force=True)
        did = "read" if options.read else "sampled"
        print(f"{name}: {did} in {time.process_time() - start:.0f} s")
        aligned = relabel.align(data, relabel.mlp(1, "tanh"))
        report(data, aligned)
        report_diagnosis(aligned)


# ---------------------------------------------------------------------- draws


def draw(name: str, chains: int, seed: int = 0) -> xr.DataTree:
    """Sample the posterior of one study."""
    study = STUDIES[name]
    rng = np.random.default_rng(seed)
    X, y = study.data(rng)
    density = TanhRegression(X, y, units=UNITS, prior_sd=PRIOR_SD)
    start = density.from_prior(chains, rng)
    length = {"warmup": study.warmup, "draws": study.draws, "thinning": study.thinning}
    found = hmc(density, start, **length, steps=study.steps, rng=rng)
    return as_tree(density, found, {**length, "seed": seed})


def as_tree(density: TanhRegression, found: Draws, run: dict[str, int]) -> xr.DataTree:
    """Draws as ArviZ lays them out, weights stored (in, out)."""
    lead = ("chain", "draw")
    values = density.unpack(found.values)
    values["sigma"] = np.exp(values.pop("log_sigma"))
    dims = {
        "W1": ("input", "unit"),
        "b1": ("unit",),
        "W2": ("unit", "output"),
        "b2": ("output",),
        "sigma": (),
    }
    priors = dict.fromkeys(("W1", "b1", "W2", "b2"), f"Normal(0, {density.prior_sd})")
    attributes = {
        "activation": "tanh",
        "sizes": json.dumps([density.X.shape[1], density.units, 1]),
        "layout": "in_out",
        "priors": json.dumps(priors | {"sigma": "HalfNormal(1)"}),
        "acceptance": float(found.accepted.mean()),
        **run,
    }
    groups = {
        "posterior": xr.Dataset(
            {name: (lead + dims[name], array) for name, array in values.items()}, attrs=attributes
        ),
        "sample_stats": xr.Dataset({"lp": (lead, found.lp), "diverging": (lead, found.diverging)}),
        "constant_data": xr.Dataset({"X": (("obs", "input"), density.X), "y": ("obs", density.y)}),
    }
    sizes = {"chain": found.lp.shape[0], "draw": found.lp.shape[1]}
    coords = {dim: np.arange(size) for dim, size in sizes.items()}
    for group in ("posterior", "sample_stats"):
        groups[group] = groups[group].assign_coords(coords)
    return xr.DataTree.from_dict(groups)


# ---------------------------------------------------------------------- figures


def report(data: xr.DataTree, aligned: xr.DataTree) -> None:
    """Print what the alignment did, which copies were visited, and which modes remain."""
    f = outputs(data)
    stats, run = data["sample_stats"], data["posterior"].attrs
    print(
        f"  {f.shape[0]} chains × {f.shape[1]} draws, acceptance {run['acceptance']:.2f}, ", end=""
    )
    print(f"{100 * stats['diverging'].values.mean():.1f} % of draws after a divergence")
    print("                  max R-hat   min ESS")
    for label, arrays in {
        "weights, raw": weights(data),
        "weights, aligned": weights(aligned),
        "outputs": [f],
    }.items():
        found = convergence(arrays)
        print(f"  {label:<16}{found.rhat:9.3f}{found.ess:10.0f}")
    report_copies(aligned["relabel"].to_dataset())
    report_groups(data, groups_of_chains(data, f), f)


def report_diagnosis(aligned: xr.DataTree) -> None:
    """Print what the library itself says."""
    _, diagnosis = relabel.diagnose(aligned, priors=dict.fromkeys(("W1", "b1", "W2"), PRIOR_SD))
    lines = [
        textwrap.shorten(line, 120, placeholder=" ...") for line in str(diagnosis).splitlines()
    ]
    print(textwrap.indent("\n".join(lines), "  "))
    print("  mode   draws  chains  median lp  distance in weights  in function")
    for mode in diagnosis.numbers["modes"]:
        n_chains, lp = len(mode["chains"]), mode["lp_median"]
        apart = f"{mode['weight_distance']:>19.1f}  {mode['function_distance']:>11.1f}"
        print(f"  {mode['mode']:>4}  {mode['n_draws']:>6}  {n_chains:>6}  {lp:>9.1f}  {apart}")


def report_copies(elements: xr.Dataset) -> None:
    """Print whether the chains are spread evenly over all copies, and how often they switch."""
    labels = copies(elements)
    size = elements["h_index"].shape[-1]
    counts = np.bincount(labels[:, -1], minlength=factorial(size) * 2**size)
    expected = counts.sum() / len(counts)
    statistic = ((counts - expected) ** 2 / expected).sum()
    p = chi2.sf(statistic, len(counts) - 1)
    switched = (labels != labels[:, :1]).any(axis=1).mean()
    print(f"  copies: {(counts > 0).sum()} of {len(counts)} visited, ", end="")
    print(f"{counts.min()} to {counts.max()} chains in each; ", end="")
    print(f"chi-square {statistic:.1f} on {len(counts) - 1}, p = {p:.2f}; ", end="")
    print(f"{100 * switched:.0f} % of chains switch while they are watched")


def copies(elements: xr.Dataset) -> Array:
    """Number of the element of the group that each draw (chain, draw) was under."""
    index, factor = elements["h_index"].values, elements["h_factor"].values
    size = index.shape[-1]
    group = [
        (order, signs)
        for order in permutations(range(size))
        for signs in product((1, -1), repeat=size)
    ]
    labels = np.full(index.shape[:-1], len(group) - 1)
    for number, (order, signs) in enumerate(group):
        labels[((index == order) & (factor == signs)).all(axis=-1)] = number
    return labels


def report_groups(data: xr.DataTree, groups: Array, f: Array) -> None:
    """Print the groups of chains whose outputs differ, each aligned to its own reference."""
    numbers, sizes = np.unique(groups, return_counts=True)
    lp, sigma = data["sample_stats"]["lp"].values, data["posterior"]["sigma"].values
    print(f"  groups of chains more than {FAR:g} nats apart in mean output: {len(numbers)}")
    print("  chains  median lp   sigma  R-hat of: raw  aligned  outputs")
    listed = numbers[sizes >= max(SMALL * len(groups), 2)]
    for number in sorted(listed, key=lambda k: -np.median(lp[groups == k])):
        own = groups == number
        part = of_chains(data, own)
        aligned = relabel.align(part, relabel.mlp(1, "tanh"))
        rhats = [convergence(a).rhat for a in (weights(part), weights(aligned), [f[own]])]
        figures = "".join(f"{rhat:9.3f}" for rhat in rhats)
        print(f"  {own.sum():6d}{np.median(lp[own]):11.1f}{np.median(sigma[own]):8.3f}", end="    ")
        print(figures)
    rest = len(groups) - sizes[np.isin(numbers, listed)].sum()
    print(f"  {rest:6d}  in groups smaller than {100 * SMALL:g} % of the chains")


def groups_of_chains(data: xr.DataTree, f: Array) -> Array:
    """Group chains (average linkage) by the distance in nats of their mean outputs."""
    sigma = np.median(data["posterior"]["sigma"].values)
    tree = linkage(f.mean(axis=1) / (np.sqrt(2) * sigma), "average")
    return fcluster(tree, np.sqrt(FAR), "distance")


def of_chains(data: xr.DataTree, chains: Array) -> xr.DataTree:
    """Take some of the chains."""
    return xr.DataTree.from_dict(
        {
            name: group.to_dataset().isel(chain=chains)
            if "chain" in group.dims
            else group.to_dataset()
            for name, group in data.children.items()
        }
    )


def outputs(data: xr.DataTree) -> Array:
    """Outputs (chain, draw, obs) of all draws at the inputs of the data."""
    w, X = data["posterior"], data["constant_data"]["X"].values
    hidden = np.tanh(X @ w["W1"].values + w["b1"].values[:, :, None, :])
    f: Array = (hidden @ w["W2"].values + w["b2"].values[:, :, None, :])[..., 0]
    return f


def weights(data: xr.DataTree) -> list[Array]:
    """Values of all weights and biases."""
    return [data["posterior"][name].values for name in ("W1", "b1", "W2", "b2")]


if __name__ == "__main__":
    main()
