"""Share of draws with all labels right by a plain call of ``align``, where the truth is planted.

The draws are made so that labels are beyond doubt (unless the row says otherwise), but that most of
their numbers tell nothing: equal weights and spreads, irrelevant inputs, an initial distribution at
its prior, empty components and spare units that lie anywhere. ``mean`` is the criterion
:class:`relabel.criteria.Mean`, which gives every variable the same say.

Run ``python benchmarks/labels.py`` (about a minute).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

import relabel

Array = NDArray[Any]

CHAINS = 4


@dataclass
class Planted:
    """Draws whose labels are known.

    Attributes
    ----------
    spec : Spec or dict
    units : str
    real : list of int
        Units whose labels are to be found; empty components have none.
    values : dict of str to (axes, ndarray)
        Variables in the order of the truth; the units' axis is named as the units.
    flips : sequence of str
        Variables that change their signs with the units.
    """

    spec: Any
    units: str
    real: list[int]
    values: dict[str, tuple[tuple[str, ...], Array]]
    flips: Sequence[str] = field(default_factory=tuple)

    def draws(self, rng: np.random.Generator) -> tuple[xr.Dataset, Array]:
        """Return the draws with shuffled units, and which unit of the truth each one is."""
        size = self._size()
        chains, n_draws = next(iter(self.values.values()))[1].shape[:2]
        order = np.argsort(rng.random((chains, n_draws, size)), axis=2)
        signs = rng.choice([-1.0, 1.0], size=order.shape)
        variables = {}
        for name, (axes, truth) in self.values.items():
            values = truth
            for axis in [i for i, a in enumerate(axes) if a.removesuffix("_to") == self.units]:
                ones = [1] * len(axes)
                shape = (*order.shape[:2], *ones[:axis], size, *ones[axis + 1 :])
                values = np.take_along_axis(values, order.reshape(shape), axis=2 + axis)
                values = values * signs.reshape(shape) if name in self.flips else values
            variables[name] = (("chain", "draw", *axes), values)
        return xr.Dataset(variables), order

    def _size(self) -> int:
        for axes, values in self.values.values():
            if self.units in axes:
                return int(values.shape[2 + axes.index(self.units)])
        raise AssertionError(self.units)


def share_right(order: Array, index: Array, real: Sequence[int]) -> float:
    """Share of draws in which every real unit is where most draws have it."""
    size = order.shape[-1]
    truth = np.take_along_axis(order, index, axis=2).reshape(-1, size)
    counts = np.zeros((size, size))
    for slot in range(size):
        np.add.at(counts, (slot, truth[:, slot]), 1)
    _, owner = linear_sum_assignment(counts, maximize=True)
    slots = [slot for slot in range(size) if owner[slot] in real]
    return float((truth[:, slots] == owner[slots]).all(axis=1).mean())


# ---------------------------------------------------------------------- the posteriors


def mixture(rng: np.random.Generator, size: int, draws: int = 100) -> Planted:
    """Means fifty posterior sds apart, equal weights and spreads."""
    shape = (CHAINS, draws, size)
    weight = 1 / size + 0.02 * rng.normal(size=shape)
    values = {
        "mu": 5 * np.arange(size) + 0.1 * rng.normal(size=shape),
        "w": weight / weight.sum(axis=-1, keepdims=True),
        "sigma": 1 + 0.05 * rng.normal(size=shape),
    }
    return _mixture(values, range(size))


def with_empty(
    rng: np.random.Generator, size: int, n_real: int, wide: float, draws: int = 100
) -> Planted:
    """Real components beside empty ones, whose means lie anywhere."""
    real, empty = (CHAINS, draws, n_real), (CHAINS, draws, size - n_real)
    weight = np.concatenate(
        [1 / n_real + 0.02 * rng.normal(size=real), 0.002 * rng.random(empty)], axis=2
    )
    means = [5 * np.arange(n_real) + 0.1 * rng.normal(size=real), wide * rng.normal(size=empty)]
    spreads = [1 + 0.05 * rng.normal(size=real), np.exp(rng.normal(size=empty))]
    values = {
        "mu": np.concatenate(means, axis=2),
        "w": weight / weight.sum(axis=-1, keepdims=True),
        "sigma": np.concatenate(spreads, axis=2),
    }
    return _mixture(values, range(n_real))


def _mixture(values: dict[str, Array], real: Sequence[int]) -> Planted:
    named = {name: (("component",), array) for name, array in values.items()}
    return Planted({"component": "permutation"}, "component", list(real), named)


def markov(rng: np.random.Generator, size: int, draws: int = 100) -> Planted:
    """A hidden Markov model with its initial distribution at its prior."""
    shape = (CHAINS, draws, size)
    stay = 0.05 + 0.85 * np.eye(size) + 0.02 * rng.normal(size=(*shape, size))
    values = {
        "mu": (("state",), 5 * np.arange(size) + 0.1 * rng.normal(size=shape)),
        "sigma": (("state",), 1 + 0.05 * rng.normal(size=shape)),
        "pi0": (("state",), rng.dirichlet(np.ones(size), size=shape[:2])),
        "P": (("state", "state_to"), stay / stay.sum(axis=-1, keepdims=True)),
    }
    axes = {"mu": "state", "sigma": "state", "pi0": "state", "P": "state state"}
    spec = relabel.Spec({"state": "permutation"}, axes)
    return Planted(spec, "state", list(range(size)), values)


def relevant(
    rng: np.random.Generator, n_relevant: int, n_inputs: int, size: int = 5, draws: int = 100
) -> Planted:
    """A tanh network in which only some inputs matter."""
    shape = (CHAINS, draws, n_inputs, size)
    first = 0.3 * rng.normal(size=shape)
    places = rng.permuted(np.tile(np.linspace(0.5, 3.0, size), (n_relevant, 1)), axis=1)
    first[:, :, :n_relevant] = places + 0.05 * rng.normal(size=(CHAINS, draws, n_relevant, size))
    second = 1 + 0.05 * rng.normal(size=(CHAINS, draws, size))
    values = {"W1": (("input", "unit"), first), "W2": (("unit",), second)}
    spec = relabel.Spec({"unit": "tanh"}, {"W1": "input -> unit", "W2": "unit ->"})
    return Planted(spec, "unit", list(range(size)), values, flips=("W1", "W2"))


def spare(
    rng: np.random.Generator, size: int, n_real: int, wide: float, draws: int = 100
) -> Planted:
    """A tanh network with units that it does not need, whose incoming weights lie anywhere."""
    n_spare = size - n_real
    places = np.random.default_rng(100).normal(size=(3, n_real))
    first = np.concatenate(
        [
            places + 0.05 * rng.normal(size=(CHAINS, draws, 3, n_real)),
            wide * rng.normal(size=(CHAINS, draws, 3, n_spare)),
        ],
        axis=3,
    )
    second = np.concatenate(
        [
            1 + 0.05 * rng.normal(size=(CHAINS, draws, n_real)),
            0.001 * rng.normal(size=(CHAINS, draws, n_spare)),
        ],
        axis=2,
    )
    values = {"W1": (("input", "unit"), first), "W2": (("unit",), second)}
    spec = relabel.Spec({"unit": "tanh"}, {"W1": "input -> unit", "W2": "unit ->"})
    return Planted(spec, "unit", list(range(n_real)), values, flips=("W1", "W2"))


def one_feature(
    rng: np.random.Generator, size: int, n_features: int, distance: float, draws: int = 100
) -> Planted:
    """GELU units that differ in their biases alone, by so many posterior sds."""
    shape = (CHAINS, draws, n_features - 2, size)
    bias = distance * np.arange(size) + rng.normal(size=(CHAINS, draws, size))
    values = {
        "W1": (("input", "unit"), rng.normal(size=shape)),
        "b1": (("unit",), bias),
        "W2": (("unit",), rng.normal(size=(CHAINS, draws, size))),
    }
    axes = {"W1": "input -> unit", "b1": "-> unit", "W2": "unit ->"}
    return Planted(relabel.Spec({"unit": "gelu"}, axes), "unit", list(range(size)), values)


def items(rng: np.random.Generator, size: int, n_informative: int, n_items: int) -> Planted:
    """Latent classes that a few items tell apart."""
    base = np.full((size, n_items), 0.5)
    base[:, :n_informative] = 0.1 + 0.8 * np.eye(size)[:, :n_informative]
    theta = base + 0.04 * rng.normal(size=(CHAINS, 100, size, n_items))
    weight = 1 / size + 0.02 * rng.normal(size=(CHAINS, 100, size))
    values = {"theta": (("class", "item"), theta), "w": (("class",), weight)}
    return Planted({"class": "permutation"}, "class", list(range(size)), values)


CASES: list[tuple[str, Any, tuple[Any, ...]]] = [
    *((f"mixture, {k} equal weights", mixture, (k,)) for k in (2, 3, 4, 6, 10)),
    *(
        (f"{r} of {k} components real, others sd {wide}", with_empty, (k, r, wide))
        for k, r, wide in (
            (3, 2, 10),
            (3, 2, 300),
            (3, 2, 1000),
            (4, 2, 300),
            (4, 3, 300),
            (6, 3, 300),
            (8, 4, 1000),
            (8, 6, 30),
        )
    ),
    *((f"HMM, {k} states, pi0 at its prior", markov, (k,)) for k in (3, 4)),
    *((f"{r} of {n} inputs relevant", relevant, (r, n)) for r, n in ((1, 3), (2, 20), (1, 30))),
    *(
        (f"{r} of {h} units needed, others sd {wide}", spare, (h, r, wide))
        for h, r, wide in ((3, 2, 3), (3, 2, 100), (4, 3, 100), (6, 3, 100), (6, 4, 10))
    ),
    *(
        (f"{k} units, one of {n} features, {d} sds", one_feature, (k, n, d))
        for k, n, d in ((3, 4, 8), (5, 4, 8), (3, 12, 8), (8, 30, 6), (5, 30, 4))
    ),
    ("3 classes, 3 of 15 items", items, (3, 3, 15)),
]


def results(
    seeds: int, names: Sequence[str]
) -> Iterator[tuple[str, dict[str, tuple[float, float]]]]:
    """Yield every case with share and seconds of each criterion."""
    for title, make, options in CASES:
        found = dict.fromkeys(names, (0.0, 0.0))
        for seed in range(seeds):
            rng = np.random.default_rng([seed, *map(int, options)])
            planted = make(rng, *options)
            data, order = planted.draws(rng)
            for name in names:
                criterion = None if name == "default" else name
                begin = time.process_time()
                aligned = relabel.align(data, planted.spec, criterion=criterion)
                spent = time.process_time() - begin
                index = aligned[f"relabel_{planted.units}_index"].values
                share, seconds = found[name]
                right = share_right(order, index, planted.real)
                found[name] = share + right / seeds, seconds + spent
        yield title, found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="simulated posteriors per row")
    parser.add_argument("--criteria", default="default,mean", help="names, joined by commas")
    options = parser.parse_args()
    names = options.criteria.split(",")
    print(f"{'draws':>45}  " + "  ".join(f"{name:>9} {'s':>6}" for name in names))
    for title, found in results(options.seeds, names):
        figures = "  ".join(f"{share:9.3f} {seconds:6.2f}" for share, seconds in found.values())
        print(f"{title:>45}  {figures}", flush=True)


if __name__ == "__main__":
    main()
