"""CPU seconds and memory of ``align`` beside two floors that are measured in the same run.

The floors, per sweep and start: SciPy's assignment alone, one per draw and set of units, on the
same costs; and the products that make these costs, once, by BLAS. A sweep or a start of the
coordinate ascent passes several times over a deep network, so a ratio of 1 is out of reach there.
Memory is what Python and NumPy allocate from the call of ``align`` to its peak, plus the posterior
itself, over the size of the posterior.

Run ``python benchmarks/speed.py`` (about two minutes). Ratios compare between machines; seconds
do not.
"""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

import relabel
from relabel.data.provenance import Provenance
from relabel.matching.features import Problem
from relabel.matching.solve import STARTS
from relabel.simulate import Simulated, network

Array = NDArray[Any]

CASES = [
    ("10-10-1 tanh, 8 × 1000", (10, 10, 1), "tanh", 8, 1000),
    ("10-64-64-1 tanh, 4 × 500", (10, 64, 64, 1), "tanh", 4, 500),
    ("10-64-64-1 relu, 4 × 500", (10, 64, 64, 1), "relu", 4, 500),
]


def main() -> None:
    """Print the table."""
    header = ("align s", "assign s", "products s", "sweeps", "starts", "ratio", "memory")
    print(f"{'':26}" + "".join(f"{h:>12}" for h in header))
    for name, sizes, activation, chains, draws in CASES:
        simulated = network(
            sizes, activation, chains=chains, draws=draws, noise=0.3, switching="draw"
        )
        print(f"{name:26}" + "".join(f"{cell:>12}" for cell in measure(simulated)), flush=True)


def measure(simulated: Simulated) -> list[str]:
    """Time one case."""
    aligned, seconds = timed(simulated)
    assignment, products = floors(simulated, aligned)
    sweeps = len(Provenance.of(aligned).losses)
    starts = count_starts(aligned)
    ratio = seconds / ((assignment + products) * (sweeps + starts))
    return [
        f"{seconds:.2f}",
        f"{assignment:.2f}",
        f"{products:.3f}",
        str(sweeps),
        str(starts),
        f"{ratio:.2f}",
        f"{memory(simulated):.2f}",
    ]


def timed(simulated: Simulated) -> tuple[Any, float]:
    """Align three times; the result and the median of the seconds."""
    seconds = []
    for _ in range(3):
        begin = time.process_time()
        aligned = relabel.align(simulated.data, simulated.spec)
        seconds.append(time.process_time() - begin)
    return aligned, float(np.median(seconds))


def count_starts(aligned: Any) -> int:
    """Starts that were tried on every draw: one if nothing depends on it."""
    exact = (aligned["relabel"]["start"].values == STARTS.index("exact")).all()
    return 1 if exact else len(("identity", "forward", "backward", "activations", "chain"))


def floors(simulated: Simulated, aligned: Any) -> tuple[float, float]:
    """Seconds of one assignment per draw and set on the costs of the raw draws; of the costs."""
    raw = features(simulated, simulated.data["posterior"].to_dataset())
    done = features(simulated, aligned["posterior"].to_dataset())
    means = {units: values.mean(axis=0) for units, values in done.items()}
    seconds = [one_floor(simulated, raw, means) for _ in range(3)]
    assignment, products = np.median(seconds, axis=0)
    return float(assignment), float(products)


def one_floor(
    simulated: Simulated, raw: dict[str, Array], means: dict[str, Array]
) -> tuple[float, float]:
    """Seconds of the assignments, and of the products that make their costs."""
    begin = time.process_time()
    costs = {u: means[u] @ values.swapaxes(1, 2) for u, values in raw.items()}
    products = time.process_time() - begin
    begin = time.process_time()
    for units, cost in costs.items():
        gains = np.abs(cost) if simulated.spec.units[units] == "tanh" else cost
        for gain in gains:
            linear_sum_assignment(gain, maximize=True)
    return time.process_time() - begin, products


def features(simulated: Simulated, posterior: xr.Dataset) -> dict[str, Array]:
    """Everything that belongs to each unit, (draws, K, features), pairs included."""
    resolved = simulated.spec.bind(posterior)
    arrays = {v.name: posterior[v.name].values.reshape(-1, *v.shape) for v in resolved.variables}
    block = Problem(resolved, arrays, block_size=10**9).block(0)
    result = dict(block.own)
    layout = Problem(resolved, arrays).layout
    for pair, values in zip(layout.pairs, block.pairs, strict=True):
        n = len(values)
        for side, units in enumerate(pair.units):
            part = np.moveaxis(values, side + 1, 1).reshape(n, values.shape[side + 1], -1)
            result[units] = np.concatenate([result[units], part], axis=2)
    return result


def memory(simulated: Simulated) -> float:
    """Peak of what is allocated by ``align``, and the posterior, over the posterior."""
    posterior = sum(v.nbytes for v in simulated.data["posterior"].data_vars.values())
    tracemalloc.start()
    relabel.align(simulated.data, simulated.spec)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return float((peak + posterior) / posterior)


if __name__ == "__main__":
    main()
