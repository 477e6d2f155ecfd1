"""CPU seconds and memory of every mixture criterion, beside two floors measured in the same run.

Draws of a Gaussian mixture of the sizes on which the R package label.switching was timed (K = 10
components, n = 1000 observations, m = 5000 draws), with a random permutation of the labels in
every draw, are regenerated from a seed. Timed is the solve, from arrays to elements: not the
reading of the file, nor the writing of the result.

The floors: SciPy's assignment alone, once per draw, on the costs of a random labelling under the
final reference of ecr; and one pass over the probabilities p that adds them up. Memory is what is
allocated by the solve at its peak, over the size of p, which is 0.4 GB and never copied.

Run ``python benchmarks/criteria_speed.py`` (about a minute; ``--quick`` for a small run).
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # CPU seconds of one core

import argparse
import time
import tracemalloc
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

import relabel
from relabel.alignment.job import Job
from relabel.data.participants import sharing
from relabel.matching.allocation_features import with_labels
from relabel.matching.criteria import CRITERIA, Criterion
from relabel.matching.criteria.factor_criteria import OfLoadings
from relabel.matching.draws import Draws
from relabel.matching.solve import Solution

Array = NDArray[Any]

UNITS = {"component": "permutation"}
FIRST = {"chain": 0, "draw": 0}
#: Criteria that may start from the labels as they came as well.
FROM_LABELS = ("stephens", "ecr-iterative-1", "ecr-iterative-2")
SJW_UNITS = 7  # it enumerates all permutations, so it is timed on fewer components


@dataclass(frozen=True)
class Mixture:
    """Draws in groups, and the permutation that undoes the switching of each."""

    groups: dict[str, xr.Dataset]
    planted: Array

    @property
    def n_units(self) -> int:
        """Number of components."""
        return int(self.planted.shape[1])

    @property
    def prob(self) -> Array:
        """Allocation probabilities, (chain, draw, obs, component)."""
        values: Array = self.groups["allocation"]["prob"].values
        return values


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeat", type=int, default=3, help="runs, of which the median is shown")
    options = parser.parse_args()
    k, n, m = (4, 60, 40) if options.quick else (10, 1000, 5000)
    mixture = simulate(k, n, m, options.seed)
    few = simulate(min(k, SJW_UNITS), n, m, options.seed)
    print(f"K = {k}, n = {n}, m = {m}; seed {options.seed}\n")
    assignment, one_pass = floors(mixture)
    print(f"floors: assignment alone {assignment:.3f} s, one pass over p {one_pass:.3f} s\n")
    print("| criterion | CPU seconds | sweeps | share right | memory / p |")
    print("|---|---|---|---|---|")
    for label, criterion in criteria(mixture):
        used = few if criterion.name == "sjw" else mixture
        seconds, solution = timed(used, criterion, options.repeat)
        shares = f"{share_right(used, solution):.3f}", f"{memory(used, criterion):.3f}"
        cells = (label, f"{seconds:.2f}", str(len(solution.losses)), *shares)
        print(f"| {' | '.join(cells)} |", flush=True)


def criteria(mixture: Mixture) -> list[tuple[str, Criterion]]:
    """Every criterion that takes mixtures, with what it is called in the table."""
    options: dict[str, dict[str, Any]] = {
        "reference": {"reference": FIRST},
        "order": {"var_names": "mu"},
        "ecr": {"reference": FIRST},
        "pra": {"reference": FIRST},
        "sjw": {"weights": None},
        "permutations": {"index": np.argsort(mixture.planted, axis=1)[None]},
    }
    found = []
    for name, kind in CRITERIA.items():
        if name == "activations" or issubclass(kind, OfLoadings):
            continue  # of networks, of factors
        label = f"{name} (K = {min(mixture.n_units, SJW_UNITS)})" if name == "sjw" else name
        found.append((label, kind(**options.get(name, {}))))
        if name in FROM_LABELS:
            found.append((f"{label}, reference = labels", kind(reference="labels")))
    return found


def simulate(n_units: int, n_obs: int, n_draws: int, seed: int) -> Mixture:
    """Draws of means, allocations and their probabilities, permuted in every draw."""
    rng = np.random.default_rng(seed)
    x = rng.normal(3.0 * rng.integers(0, n_units, n_obs), 1.0)
    mu = 3.0 * np.arange(n_units) + 0.05 * rng.normal(size=(n_draws, n_units))
    prob = np.empty((n_draws, n_obs, n_units))
    z = np.empty((n_draws, n_obs), np.int8)
    planted = rng.permuted(np.tile(np.arange(n_units), (n_draws, 1)), axis=1)
    for rows in np.array_split(np.arange(n_draws), max(1, n_draws // 250)):
        order = planted[rows]
        mu[rows] = np.take_along_axis(mu[rows], order, axis=1)
        weight = np.exp(-0.5 * (x[:, None] - mu[rows][:, None, :]) ** 2)
        prob[rows] = weight / weight.sum(axis=2, keepdims=True)
        bound = prob[rows].cumsum(axis=2)
        z[rows] = (rng.random((len(rows), n_obs, 1)) > bound).sum(axis=2).clip(max=n_units - 1)
    sample = ("chain", "draw")
    parameters = {"mu": mu, "sigma": np.ones_like(mu)}
    groups = {
        "posterior": xr.Dataset(
            {k: ((*sample, "component"), v[None]) for k, v in parameters.items()}
        ),
        "allocation": xr.Dataset(
            {
                "prob": ((*sample, "obs", "component"), prob[None]),
                "z": ((*sample, "obs"), z[None]),
            }
        ),
        "observed_data": xr.Dataset({"y": ("obs", x)}),
    }
    return Mixture(groups, planted)


def solve(mixture: Mixture, criterion: Criterion) -> Solution:
    """Find the elements, from draws in memory."""
    spec = with_labels(relabel.Spec(UNITS), criterion, sharing(mixture.groups))
    draws = Draws.read(sharing(mixture.groups), spec, "raise", mixture.groups)
    search = {"n_random": 0, "n_perturbations": 0, "rng": 0}
    return Job(criterion, None, search).run(draws)


def timed(mixture: Mixture, criterion: Criterion, repeat: int) -> tuple[float, Solution]:
    """Median of the CPU seconds, and what was found."""
    seconds = []
    for _ in range(repeat):
        begin = time.process_time()
        solution = solve(mixture, criterion)
        seconds.append(time.process_time() - begin)
    return float(np.median(seconds)), solution


def memory(mixture: Mixture, criterion: Criterion) -> float:
    """Peak of what the solve allocates, over the size of the probabilities."""
    tracemalloc.start()
    solve(mixture, criterion)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return float(peak / mixture.prob.nbytes)


def share_right(mixture: Mixture, solution: Solution) -> float:
    """Share of draws with the planted labels, up to one relabelling of all."""
    index = solution.elements["component"].index
    labels = np.take_along_axis(mixture.planted, index, axis=1)
    return float(np.unique(labels, axis=0, return_counts=True)[1].max() / len(labels))


def floors(mixture: Mixture) -> tuple[float, float]:
    """CPU seconds of one assignment per draw, and of one pass over the probabilities."""
    z, k = mixture.groups["allocation"]["z"].values[0].astype(int), mixture.n_units
    pivot = np.take_along_axis(mixture.planted, z, axis=1)[0]
    cells = pivot * k + z + np.arange(len(z))[:, None] * k * k
    scores = np.bincount(cells.ravel(), minlength=len(z) * k * k).reshape(-1, k, k)
    begin = time.process_time()
    for score in scores:
        linear_sum_assignment(score, maximize=True)
    assignment = time.process_time() - begin
    begin = time.process_time()
    mixture.prob.sum()
    return assignment, time.process_time() - begin


if __name__ == "__main__":
    main()
