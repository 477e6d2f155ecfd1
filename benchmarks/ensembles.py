"""Few and dissimilar draws: ensembles of trained networks, and how much first references bring.

The library is compared with two baselines, written here in NumPy and SciPy from what the papers
say and with nothing of the library: MergeMany, which matches each network to the mean of the others
by coordinate ascent over the layers (Ainsworth, Hayase & Srinivasa 2023), and C2M3, which maximises
the agreement of all networks at once by Frank-Wolfe over their relaxed permutations (Crisostomi et
al. 2024). All minimise the same: the squared distances to the mean network, units exchanged only.
``distance`` is their sum per network, times are seconds per network, and ``error`` is the
test error of the mean network. The networks of ``tests/data/sources`` are trained; those for the
digits are trained here, if scikit-learn is there for its data.

``python benchmarks/ensembles.py`` prints distances (some minutes; ``--orders`` repeats them from
other orders of the members), ``--labels`` the share of planted labels found with 5 to 20 members,
``--first`` losses and times for several first references.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment, minimize_scalar

import relabel
from relabel import simulate
from relabel.criteria import Mean, Normal

Array = NDArray[Any]
Layers = list[tuple[Array, Array]]  # of every layer the weights (members, out, in) and the biases

SOURCES = Path(__file__).parents[1] / "tests" / "data" / "sources"


# ---------------------------------------------------------------------- the networks


def stored_ensemble() -> tuple[Layers, Array, Array]:
    """Twenty networks 10-64-64-1 that were trained, inputs and targets of the test set."""
    draws = relabel.open_draws(SOURCES / "ensemble_10-64-64-1.safetensors")["posterior"]
    layers = []
    for number in (0, 2, 4):
        weight, bias = (
            draws[f"{number}.{part}"].values.astype(float) for part in ("weight", "bias")
        )
        layers.append((weight.reshape(-1, *weight.shape[2:]), bias.reshape(-1, *bias.shape[2:])))
    data = np.load(SOURCES / "ensemble_10-64-64-1_data.npz")
    return layers, data["X_test"], data["y_test"]


def digit_ensemble(sizes: tuple[int, ...], members: int) -> tuple[Layers, Array, Array] | None:
    """Train networks on the digits of scikit-learn, where that is installed."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        return None
    x, y = load_digits(return_X_y=True)
    x = x / 16.0
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:1400], order[1400:]
    nets = [trained(x[train], y[train], sizes, seed) for seed in range(members)]
    layers = [
        (np.stack([net[i][0] for net in nets]), np.stack([net[i][1] for net in nets]))
        for i in range(len(sizes) - 1)
    ]
    return layers, x[test], y[test]


def trained(x: Array, y: Array, sizes: tuple[int, ...], seed: int) -> list[list[Array]]:
    """Train a classifier with ReLU units by Adam."""
    rng = np.random.default_rng(seed)
    pairs = itertools.pairwise(sizes)
    net = [[rng.normal(size=(o, i)) * np.sqrt(2 / i), np.zeros(o)] for i, o in pairs]
    first = [[np.zeros_like(p) for p in layer] for layer in net]
    second = [[np.zeros_like(p) for p in layer] for layer in net]
    target = np.eye(sizes[-1])[y]
    for step in range(1, 1501):
        rows = rng.integers(len(x), size=64)
        values = [x[rows]]
        for number, (weight, bias) in enumerate(net):
            out = values[-1] @ weight.T + bias
            values.append(np.maximum(out, 0.0) if number + 1 < len(net) else out)
        odds = np.exp(values[-1] - values[-1].max(axis=1, keepdims=True))
        slope = (odds / odds.sum(axis=1, keepdims=True) - target[rows]) / len(rows)
        for number in range(len(net) - 1, -1, -1):
            gradients = [slope.T @ values[number] + 1e-4 * net[number][0], slope.sum(axis=0)]
            slope = (slope @ net[number][0]) * (values[number] > 0)
            for part, gradient in enumerate(gradients):
                first[number][part] = 0.9 * first[number][part] + 0.1 * gradient
                second[number][part] = 0.999 * second[number][part] + 0.001 * gradient**2
                rate = 2e-3 * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
                net[number][part] -= (
                    rate * first[number][part] / (np.sqrt(second[number][part]) + 1e-8)
                )
    return net


def distance(layers: Layers) -> float:
    """Squared distance to the mean network, per network."""
    arrays = [array for layer in layers for array in layer]
    return sum(float(((x - x.mean(axis=0)) ** 2).sum()) for x in arrays) / len(arrays[0])


def test_error(layers: Layers, x: Array, y: Array) -> float:
    """Test error of the mean network: share of digits, or mean squared error."""
    for number, (weight, bias) in enumerate(layers):
        x = x @ weight.mean(axis=0).T + bias.mean(axis=0)
        if number + 1 < len(layers):
            x = np.maximum(x, 0.0)
    if x.shape[1] > 1:
        return float((x.argmax(axis=1) != y).mean())
    return float(((x[:, 0] - y.ravel()) ** 2).mean())


# ---------------------------------------------------------------------- the methods


def by_library(layers: Layers, **options: Any) -> Layers:
    """Align by the library."""
    arrays, lines, units = {}, {}, {}
    for number, (weight, bias) in enumerate(layers, start=1):
        left = f"h{number}" if number < len(layers) else "y"
        right = f"h{number - 1}" if number > 1 else "x"
        if number < len(layers):
            units[left] = "permutation"
        lines |= {f"W{number}": f"{left} <- {right}", f"b{number}": f"-> {left}"}
        arrays[f"W{number}"] = (("chain", "draw", left, right), weight[None])
        arrays[f"b{number}"] = (("chain", "draw", left), bias[None])
    spec = relabel.Spec(units, lines)
    options = {"criterion": Mean(scale="none"), "inputs": None} | options
    found = relabel.align(xr.Dataset(arrays), spec, **options)
    numbers = range(1, len(layers) + 1)
    return [(found[f"W{n}"].values[0], found[f"b{n}"].values[0]) for n in numbers]


def exchanged(layers: Layers, member: int, layer: int, order: Array) -> None:
    """Put the units of one layer of one network into another order."""
    weight, bias = layers[layer]
    weight[member], bias[member] = weight[member][order], bias[member][order]
    following = layers[layer + 1][0]
    following[member] = following[member][:, order]


def by_mean_of_others(layers: Layers, seed: int = 0) -> Layers:
    """MergeMany: one network after the other is matched to the mean of the others."""
    layers = [(weight.copy(), bias.copy()) for weight, bias in layers]
    rng, members = np.random.default_rng(seed), len(layers[0][0])
    while True:
        moved = False
        for member in rng.permutation(members):
            others = [tuple(p.sum(axis=0) - p[member] for p in layer) for layer in layers]
            while True:
                gained = False
                for layer in rng.permutation(len(layers) - 1):
                    (weight, bias), following = layers[layer], layers[layer + 1][0]
                    scores = others[layer][0] @ weight[member].T
                    scores += np.outer(others[layer][1], bias[member])
                    scores += others[layer + 1][0].T @ following[member]
                    slots, order = linear_sum_assignment(scores, maximize=True)
                    if scores[slots, order].sum() > np.trace(scores) + 1e-9:
                        exchanged(layers, member, layer, order)
                        gained = True
                moved |= gained
                if not gained:
                    break
        if not moved:
            return layers


def by_joint_frank_wolfe(layers: Layers, steps: int = 500) -> Layers:
    """C2M3: the agreement of all networks, maximised over relaxed permutations jointly."""
    members, hidden = len(layers[0][0]), len(layers) - 1
    points = [
        np.broadcast_to(
            np.eye(layers[k][1].shape[1]), (members, *[layers[k][1].shape[1]] * 2)
        ).copy()
        for k in range(hidden)
    ]
    before = agreement(layers, points)
    for _ in range(steps):
        corners = []
        for slope in slopes(layers, points):
            corner = np.zeros_like(slope)
            for member in range(members):
                corner[(member, *linear_sum_assignment(slope[member], maximize=True))] = 1.0
            corners.append(corner)
        share = best_share(layers, points, corners)
        points = [p + share * (c - p) for p, c in zip(points, corners, strict=True)]
        after = agreement(layers, points)
        if after - before <= 1e-7 * abs(before):
            break
        before = after
    layers = [(weight.copy(), bias.copy()) for weight, bias in layers]
    for layer, point in enumerate(points):
        for member in range(members):
            exchanged(layers, member, layer, linear_sum_assignment(point[member], maximize=True)[1])
    return layers


def relaxed(layers: Layers, points: list[Array]) -> list[Array]:
    """Weights with biases beside them, under relaxed permutations."""
    moved = []
    for number, (weight, bias) in enumerate(layers):
        turned = weight @ points[number - 1].swapaxes(1, 2) if number else weight
        joined = np.concatenate([turned, bias[..., None]], axis=2)
        moved.append(points[number] @ joined if number < len(points) else joined)
    return moved


def agreement(layers: Layers, points: list[Array]) -> float:
    """Sum of inner products of all pairs of networks."""
    moved = relaxed(layers, points)
    return 0.5 * sum(float((a.sum(axis=0) ** 2).sum() - (a**2).sum()) for a in moved)


def slopes(layers: Layers, points: list[Array]) -> list[Array]:
    """Gradient of the agreement in every relaxed permutation."""
    others = [a.sum(axis=0) - a for a in relaxed(layers, points)]
    found = []
    for layer in range(len(points)):
        weight, bias = layers[layer]
        if layer:
            weight = weight @ points[layer - 1].swapaxes(1, 2)
        joined = np.concatenate([weight, bias[..., None]], axis=2)
        slope = others[layer] @ joined.swapaxes(1, 2)
        following, here = layers[layer + 1][0], others[layer + 1][..., :-1]
        if layer + 1 < len(points):
            following = points[layer + 1] @ following
        found.append(slope + here.swapaxes(1, 2) @ following)
    return found


def best_share(layers: Layers, points: list[Array], corners: list[Array]) -> float:
    """Find the best step towards the corners."""

    def loss(share: float) -> float:
        there = [p + share * (c - p) for p, c in zip(points, corners, strict=True)]
        return -agreement(layers, there)

    found = minimize_scalar(loss, bounds=(0.0, 1.0), method="bounded")
    return 1.0 if loss(1.0) <= found.fun else float(found.x)


METHODS: dict[str, Callable[[Layers], Layers]] = {
    "as they are": lambda layers: layers,
    "library": by_library,
    "MergeMany": by_mean_of_others,
    "C2M3": by_joint_frank_wolfe,
}


# ---------------------------------------------------------------------- tables


def compare_distances(repeats: int) -> None:
    """Print distance, time and test error of all methods."""
    nets, x, y = stored_ensemble()
    cases = [(f"10-64-64-1, {n}", [(w[:n], b[:n]) for w, b in nets], x, y) for n in (3, 5, 10, 20)]
    for sizes, members in (((64, 32, 32, 32, 10), 8), ((64, 64, 64, 10), 5)):
        digits = digit_ensemble(sizes, members)
        if digits is not None:
            cases.append((f"{'-'.join(map(str, sizes))}, {members}", *digits))
    print(f"{'networks':<24}{'method':<14}{'distance':>10}{'time':>8}{'error':>8}")
    for name, layers, x, y in cases:
        for method, function in METHODS.items():
            for seed in range(repeats if method != "as they are" else 1):
                order = np.random.default_rng(seed).permutation(len(layers[0][0]))
                order = order if seed else np.arange(len(order))
                start = time.perf_counter()
                found = function([(w[order], b[order]) for w, b in layers])
                seconds = (time.perf_counter() - start) / len(order)
                figures = f"{distance(found):10.3f}{seconds:8.3f}{test_error(found, x, y):8.3f}"
                print(f"{name:<24}{method:<14}{figures}", flush=True)


def recover_labels() -> None:
    """Print the share of members of planted ensembles with all labels right."""
    print(f"{'network':<14}{'members':>8}{'noise':>7}{'Normal':>9}{'Mean':>9}{'time':>8}")
    for sizes, activation in (((5, 8, 1), "tanh"), ((10, 32, 1), "relu"), ((5, 8, 8, 1), "tanh")):
        for members in (5, 10, 20):
            for noise in (0.1, 0.3, 0.6):
                shares: dict[str, list[float]] = {"normal": [], "mean": []}
                start = time.perf_counter()
                for seed in range(10):
                    planted = simulate.network(
                        sizes, activation, chains=1, draws=members, noise=noise, rng=seed
                    )
                    for name, criterion in (("normal", Normal()), ("mean", Mean())):
                        found = relabel.align(planted.data, planted.spec, criterion=criterion)
                        shares[name].append(
                            simulate.recovery(found["relabel"], planted.planted)["draws"]
                        )
                seconds = (time.perf_counter() - start) / 20
                figures = "".join(f"{np.mean(s):9.3f}" for s in shares.values())
                name = "-".join(map(str, sizes))
                print(f"{name:<14}{members:8}{noise:7}{figures}{seconds:8.2f}", flush=True)


def try_first_references() -> None:
    """Print losses and times for several first references, relative to one."""
    print(f"{'draws':<30}{'criterion':<10}{'n_first':>8}{'loss':>14}{'time':>8}")
    for name, draws, spec in first_reference_cases():
        for criterion in (Normal(), Mean()):
            for n_first in (1, 2, 5, 10):
                start = time.perf_counter()
                found = relabel.align(draws, spec, criterion=criterion, n_first=n_first)
                seconds = time.perf_counter() - start
                loss = relabel.Provenance.of(found).losses[-1]
                figures = f"{n_first:8}{loss:14.4f}{seconds:8.2f}"
                print(f"{name:<30}{criterion.name:<10}{figures}", flush=True)


def first_reference_cases() -> list[tuple[str, Any, Any]]:
    """Ensembles, mixtures, shallow and deep networks."""
    cases: list[tuple[str, Any, Any]] = []
    for noise in (0.3, 1.0):
        for sizes, activation in (((5, 8, 1), "tanh"), ((5, 8, 8, 8, 1), "tanh")):
            for n in (10, 200):
                made = simulate.network(sizes, activation, chains=1, draws=n, noise=noise, rng=1)
                name = f"{'-'.join(map(str, sizes))}, {n}, noise {noise}"
                cases.append((name, made.data, made.spec))
    for separation in (2.0, 4.0):
        made = simulate.mixture(5, separation=separation, rng=1)
        cases.append((f"mixture of 5, {separation} sds", made.data, made.spec))
    draws = relabel.open_draws(SOURCES / "ensemble_10-64-64-1.safetensors")
    cases.append(("10-64-64-1, 20, trained", draws, relabel.propose(draws).spec))
    return cases


def main() -> None:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--orders", type=int, default=1, help="orders of the members to repeat")
    parser.add_argument("--labels", action="store_true", help="planted labels instead")
    parser.add_argument("--first", action="store_true", help="several first references instead")
    options = parser.parse_args()
    if options.labels:
        recover_labels()
    elif options.first:
        try_first_references()
    else:
        compare_distances(options.orders)


if __name__ == "__main__":
    main()
