"""Recovery of planted transformations: share of draws with every label and sign right.

Draws of random networks, each under its own random signed permutation, are aligned with the true
weights. The baseline is plain coordinate ascent from the identity (the weight matching of
Ainsworth et al. 2023, https://doi.org/10.48550/arXiv.2209.04836, with signs), written here on
purpose without anything of the library. ``optimum`` is the share of draws whose loss is not above
that of the planted element: where it is 1 and recovery is not, the noise has made another
labelling the better one, and no method can know.

Run ``python benchmarks/recovery.py`` (about two minutes).
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

import relabel
from relabel.simulate import Simulated, network, recovery

Array = NDArray[Any]

CASES = [
    ((1, 5, 5, 1), 0.0),
    ((3, 10, 10, 1), 0.0),
    ((3, 10, 10, 1), 0.5),
    ((3, 10, 10, 1), 1.0),
    ((5, 8, 8, 8, 8, 8, 8, 2), 0.0),
    ((5, 8, 8, 8, 8, 8, 8, 2), 0.3),
    ((5, 30, 30, 30, 2), 0.0),
]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="simulated posteriors per row")
    parser.add_argument("--draws", type=int, default=40, help="draws in each")
    parser.add_argument(
        "--n-perturbations", type=int, default=30, help="rounds of iterated local search"
    )
    options = parser.parse_args()
    header = ("network", "noise", "baseline", "no inputs", "inputs", "mean", "optimum")
    print("  ".join(f"{h:>16}" if h == "network" else f"{h:>9}" for h in header))
    for sizes, noise in CASES:
        rows = [
            one(
                network(sizes, noise=noise, chains=1, draws=options.draws, rng=seed),
                options.n_perturbations,
            )
            for seed in range(options.seeds)
        ]
        name = "-".join(map(str, sizes))
        figures = "  ".join(f"{value:9.3f}" for value in np.mean(rows, axis=0))
        print(f"{name:>16}  {noise:9.1f}  {figures}", flush=True)


def one(simulated: Simulated, n_perturbations: int) -> tuple[float, ...]:
    """Recovery by the baseline and by the library; share of draws at the optimum."""
    truth = relabel.criteria.ToReference(simulated.data["truth"].to_dataset())
    shares = [baseline_recovery(simulated)]
    for inputs, criterion in ((None, truth), ("auto", truth), (None, relabel.criteria.Mean())):
        aligned = relabel.align(
            simulated.data,
            simulated.spec,
            inputs=inputs,
            criterion=criterion,
            n_perturbations=n_perturbations,
        )
        shares.append(recovery(aligned["relabel"], simulated.planted)["draws"])
        if inputs is None and criterion is truth:
            loss = aligned["relabel"]["loss"].values
    best = np.minimum(loss, planted_loss(simulated))
    return (*shares, float((loss <= best * (1 + 1e-9) + 1e-12).mean()))


def planted_loss(simulated: Simulated) -> Array:
    """Loss of the planted labelling: the clean draws against the truth, pooled scales."""
    total = np.zeros(simulated.clean["W1"].shape[:2])
    for name, line in simulated.spec.axes.items():
        axes = line.replace("->", " ").split()
        carried = [i for i, axis in enumerate(axes) if axis in simulated.spec.units]
        if not carried:
            continue
        values = simulated.clean[name].values
        core = tuple(range(2, values.ndim))
        pooled = (values**2).mean(axis=(0, 1, *(i + 2 for i in carried)), keepdims=True)
        total += ((values - simulated.truth[name]) ** 2 / pooled).sum(axis=core)
    return total


# ---------------------------------------------------------------------- the baseline


def baseline_recovery(simulated: Simulated) -> float:
    """Share of draws that coordinate ascent from the identity gets wholly right."""
    draws = {k: v.values[0] for k, v in simulated.data["posterior"].data_vars.items()}
    n_layers = len(simulated.truth) // 2
    right = 0
    for t in range(len(draws["W1"])):
        found = weight_matching({k: v[t] for k, v in draws.items()}, simulated.truth, n_layers)
        right += all(
            (index == p).all() and (sign * s[index] == 1).all()
            for (index, sign), (p, s) in zip(found, planted(simulated, t), strict=True)
        )
    return right / len(draws["W1"])


def planted(simulated: Simulated, t: int) -> list[tuple[Array, Array]]:
    """For each hidden layer: the unit that belongs into each slot, and the signs planted."""
    elements = simulated.planted.elements.values()
    return [(np.argsort(g.index[0, t]), g.factor[0, t]) for g in elements]


def weight_matching(
    draw: dict[str, Array], truth: dict[str, Array], n_layers: int
) -> list[tuple[Array, Array]]:
    """Match layer after layer, the others held fixed, until nothing changes."""
    hidden = [len(truth[f"b{layer}"]) for layer in range(1, n_layers)]
    found = [(np.arange(k), np.ones(k)) for k in hidden]
    for _ in range(100):
        before = [(index.copy(), sign.copy()) for index, sign in found]
        for layer, size in enumerate(hidden, 1):
            gain = np.outer(truth[f"b{layer}"], draw[f"b{layer}"])
            gain += truth[f"W{layer}"].T @ moved(draw[f"W{layer}"], found, layer - 1, axis=0)
            out = moved(draw[f"W{layer + 1}"], found, layer + 1, axis=1)
            gain += truth[f"W{layer + 1}"] @ out.T
            index = linear_sum_assignment(np.abs(gain), maximize=True)[1]
            found[layer - 1] = (index, np.where(gain[np.arange(size), index] < 0, -1.0, 1.0))
        if all(
            (a == b).all() and (s == t).all() for (a, s), (b, t) in zip(before, found, strict=True)
        ):
            break
    return found


def moved(matrix: Array, found: list[tuple[Array, Array]], layer: int, axis: int) -> Array:
    """Relabel one side of a matrix by what was found for that hidden layer, if it is one."""
    if not 1 <= layer <= len(found):
        return matrix
    index, sign = found[layer - 1]
    return matrix[index] * sign[:, None] if axis == 0 else matrix[:, index] * sign


if __name__ == "__main__":
    main()
