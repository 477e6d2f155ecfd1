"""What the diagnosis finds of what was planted, how often it cries wolf, and what it costs.

Three studies. ``planted``: simulated posteriors (see :func:`relabel.simulate.posterior`) with spare
units, units that are there twice, chains in another mode, or none of it, and draws without any
structure; how often :func:`relabel.diagnose` says so, with Wilson's 95 % intervals. ``labels``:
whether the probabilities that it gives to labels are right, by their deciles. ``cost``: its time as
the number of draws grows.

Run ``python benchmarks/diagnosis.py`` (about eight minutes), or name one study.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import relabel
from relabel.diagnostics.aligned import Aligned
from relabel.diagnostics.kernels.certainty import soft_labels
from relabel.numerics.assignment import assign
from relabel.simulate import (
    Regression,
    Simulated,
    SimulatedPosterior,
    network,
    posterior,
    structureless,
)
from relabel.spec.transformation import Transformation

Array = NDArray[Any]

PRIOR_SD = {"tanh": 1.5, "relu": 1.5, "sigmoid": 4.0}  # sigmoid units are flatter
LAWS: tuple[Literal["normal", "heavy", "two"], ...] = ("normal", "heavy", "two")
NOISES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
LENGTHS = (250, 500, 1000, 2000, 4000, 8000)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", nargs="*", choices=["planted", "labels", "cost"], default=[])
    parser.add_argument("--runs", type=int, default=12, help="simulated posteriors of each kind")
    parser.add_argument("--seeds", type=int, default=2, help="of each kind in the study of labels")
    parser.add_argument("--draws", type=int, default=250, help="per chain in the study of labels")
    parser.add_argument("--misses", action="store_true", help="print what went wrong")
    options = parser.parse_args()
    studies = options.study or ["planted", "labels", "cost"]
    if "planted" in studies:
        planted_study(options.runs, misses=options.misses)
    if "labels" in studies:
        labels_study(options.seeds, options.draws)
    if "cost" in studies:
        cost_study()


# ---------------------------------------------------------------------- what was planted


def identified(seed: int) -> SimulatedPosterior:
    """Nothing planted; 2 to 6 units."""
    return simulated(seed, 2 + seed % 5)


def with_spare(seed: int) -> SimulatedPosterior:
    """One or two spare units beside one to four."""
    spare = 1 + seed % 2
    return simulated(seed, min(6, 1 + seed % 4 + spare), spare=spare)


def with_split(seed: int) -> SimulatedPosterior:
    """One unit of one to five that is there twice."""
    return simulated(seed, 2 + seed % 5, split=1)


def with_worse(seed: int) -> SimulatedPosterior:
    """One to three of four chains in a mode 60 nats below."""
    return simulated(seed, 3 + seed % 2, kinds=("tanh", "relu"), elsewhere=1 + seed % 3, gap=60.0)


def with_second(seed: int) -> SimulatedPosterior:
    """One of four chains in a mode of the same density."""
    return simulated(seed, 3 + seed % 2, kinds=("tanh", "relu"), elsewhere=1, gap=0.0)


def simulated(
    seed: int, size: int, kinds: tuple[str, ...] = ("tanh", "relu", "sigmoid"), **planted: Any
) -> SimulatedPosterior:
    """One posterior of a kind that changes with the seed; the next seed if none is found."""
    activation = kinds[(seed // 5) % len(kinds)]
    for attempt in range(20):
        try:
            return posterior(
                (2, size, 1),
                activation,
                regression=Regression(prior_sd=PRIOR_SD[activation]),
                rng=seed + 10_000 * attempt,
                **planted,
            )
        except relabel.DataError:
            continue
    raise relabel.DataError(f"nothing found for {activation}, {size} units")


def without_structure(seed: int) -> Simulated:
    """Units that are all alike."""
    activation = ("tanh", "relu", "sigmoid")[(seed // 5) % 3]
    return structureless((2, 2 + seed % 5, 1), activation, law=LAWS[seed % 3], rng=seed)


KINDS: dict[str, Callable[[int], Simulated]] = {
    "nothing": identified,
    "spare units": with_spare,
    "a split unit": with_split,
    "a worse mode": with_worse,
    "a second mode": with_second,
    "no structure": without_structure,
}


def planted_study(runs: int, *, misses: bool = False) -> None:
    """Print how often each question is answered rightly, for each kind of posterior."""
    print(f"{'planted':>14}  {'question':<22}  {'right':>9}  {'share':>6}  95 % interval")
    for kind, make in KINDS.items():
        tally: dict[str, list[bool]] = {}
        for seed in range(runs):
            made = make(seed)
            for question, correct, told in judged(made):
                tally.setdefault(question, []).append(correct)
                if misses and not correct:
                    units = made.spec.units["h"]
                    print(f"    {kind}, seed {seed} ({units}): {question}: {told}", flush=True)
        for question, rights in tally.items():
            n, right = len(rights), sum(rights)
            low, high = wilson(right, n)
            row = f"{kind:>14}  {question:<22}  {right:4d}/{n:<4d}  {right / n:6.3f}"
            print(f"{row}  {low:.3f} to {high:.3f}", flush=True)


def judged(made: Simulated) -> Iterator[tuple[str, bool, Any]]:
    """Align, diagnose, and compare with what was planted: question, right or not, what was said."""
    aligned = relabel.align(made.data, made.spec)
    priors = made.priors if isinstance(made, SimulatedPosterior) else None
    _, found = relabel.diagnose(aligned, priors=priors)
    if not isinstance(made, SimulatedPosterior):
        yield "labels not believed", not found.labels_trustworthy, found.codes
        return
    numbers = found.numbers
    unit = units_of_slots(aligned["relabel"], made.planted)
    n_spare = unit.size - numbers["effective_width"]["h"]["median"]
    wanted = len(made.spare) + len(made.split)
    yield "number of spare units", n_spare == wanted, n_spare
    slots = sorted(int(unit[k]) for k in numbers["spare_units"]["h"])
    if not made.split:
        yield "slots of spare units", slots == list(made.spare), slots
    pairs = [pair["slots"] for pair in numbers["duplicate_pairs"]]
    pairs = sorted(tuple(sorted(int(unit[k]) for k in pair)) for pair in pairs)
    yield "duplicates", pairs == sorted(made.split), pairs
    elsewhere = list(map(int, np.flatnonzero(made.mode)))
    flagged = numbers["chains_flagged"]
    yield "flagged chains", flagged == elsewhere, flagged
    partition = [sorted(mode["chains"]) for mode in numbers["modes"]]
    chains = [list(map(int, np.flatnonzero(made.mode == m))) for m in np.unique(made.mode)]
    yield "number of modes", len(partition) == len(chains), partition
    yield "chains of modes", sorted(partition) == sorted(chains), partition
    if not wanted:
        yield "labels believed", found.labels_trustworthy, found.codes


def wilson(right: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Interval of a share (Wilson 1927)."""
    p, rest = right / n, z * z / n
    middle, half = p + rest / 2, z * np.sqrt(p * (1 - p) / n + rest / (4 * n))
    return max(0.0, (middle - half) / (1 + rest)), min(1.0, (middle + half) / (1 + rest))


# ---------------------------------------------------------------------- probabilities of labels


def labels_study(seeds: int, draws: int) -> None:
    """Print claimed probabilities of labels beside the shares that are right."""
    claims: dict[str, list[tuple[Array, Array, Any]]] = {}
    for kind, noise, made in overlapping(seeds, draws):
        claims.setdefault(kind, []).append((*labels(made), noise))
    pooled = [
        entry for kind, entries in claims.items() if kind != "posteriors" for entry in entries
    ]
    tables = {"all networks": pooled} | claims
    print(f"{'claimed':>11}" + "".join(f"{name:>26}" for name in tables))
    print(" " * 11 + f"{'n':>10}{'claim':>8}{'right':>8}" * len(tables))
    columns = zip(*(deciles(entries) for entries in tables.values()), strict=True)
    for decile, row in enumerate(columns):
        cells = "".join(f"{n:10d}{claim:8.3f}{right:8.3f}" for n, claim, right in row)
        print(f" {decile / 10:.1f} to {decile / 10 + 0.1:.1f}{cells}")
    print(
        "\nlargest difference in a decile with 200 claims or more, in percentage points, by noise"
    )
    for noise in NOISES:
        print(f"{noise:>11}", end="")
        for name in list(tables)[:4]:
            rows = deciles([entry for entry in tables[name] if entry[2] == noise])
            print(f"{100 * max(abs(r - c) for n, c, r in rows if n >= 200):26.1f}", end="")
        print(flush=True)


def overlapping(seeds: int, draws: int) -> Iterator[tuple[str, Any, Simulated]]:
    """Simulated draws whose units overlap: of what kind, and how noisy."""
    for activation in ("tanh", "relu", "permutation"):
        for size in range(2, 7):
            for noise in NOISES:
                for seed in range(seeds):
                    made = network((2, size, 1), activation, draws=draws, noise=noise, rng=seed)
                    yield activation, noise, made
    for activation in ("tanh", "relu"):
        for size in (2, 3, 4):
            for sigma in (0.6, 1.0, 1.5):
                for seed in range(4 * seeds):
                    with contextlib.suppress(relabel.DataError):
                        made = posterior(
                            (2, size, 1),
                            activation,
                            draws=draws,
                            regression=Regression(60, sigma, least_loss=2.0, separation=1.5),
                            switching="draw",
                            rng=seed,
                        )
                        yield "posteriors", sigma, made


def labels(made: Simulated) -> tuple[Array, Array]:
    """Probabilities claimed for labels, and which are right, both of shape (draws, K).

    A label is right if its slot holds the unit, with the sign, that the most frequent assignment of
    units to slots gives it: that is the one global relabelling which nothing determines. Claims are
    what ``relabel.diagnose`` stores as ``h_label_probability`` where no chain is flagged.
    """
    aligned = Aligned.read(relabel.align(made.data, made.spec))
    features, group = aligned.features("h"), aligned.resolved.group("h")
    claim = soft_labels(features.values, features.signed, group).label
    element = (aligned.transformation @ made.planted).elements["h"]
    index, negative = element.index, element.factor < 0
    size = index.shape[-1]
    unit, sign = global_labels(index.reshape(-1, size), negative.reshape(-1, size))
    right = (index == unit) & (negative == sign)
    return claim, right.reshape(-1, size)


def deciles(entries: list[tuple[Array, Array, Any]]) -> list[tuple[int, float, float]]:
    """Number of claims, their mean, and the share that is right, for every decile."""
    claim = np.concatenate([c.ravel() for c, _, _ in entries])
    right = np.concatenate([r.ravel() for _, r, _ in entries])
    place = np.minimum((10 * claim).astype(int), 9)
    rows = [place == decile for decile in range(10)]
    none = float("nan")
    return [
        (
            int(some.sum()),
            *((claim[some].mean(), right[some].mean()) if some.any() else (none,) * 2),
        )
        for some in rows
    ]


def units_of_slots(found: Any, planted: Transformation) -> Array:
    """Which unit of the clean draws each slot holds."""
    element = (Transformation.from_dataset(found.to_dataset(), ["h"]) @ planted).elements["h"]
    size = element.size
    return global_labels(element.index.reshape(-1, size), element.factor.reshape(-1, size) < 0)[0]


def global_labels(index: Array, negative: Array) -> tuple[Array, Array]:
    """Unit and sign of every slot: the assignment that most labels agree with."""
    size = index.shape[1]
    counts = np.zeros((2, size, size))
    slots = np.broadcast_to(np.arange(size), index.shape)
    np.add.at(counts, (negative.astype(int), slots, index), 1)
    unit = assign(counts.max(axis=0)[None])[0]
    sign = counts.argmax(axis=0)[np.arange(size), unit].astype(bool)
    return unit, sign


# ---------------------------------------------------------------------- cost


def cost_study() -> None:
    """Print the time of a diagnosis."""
    script = (
        "import time, relabel; from relabel.simulate import posterior; "
        "a = relabel.align((s := posterior((2, 4, 1), chains=8, draws=500)).data, s.spec); "
        "t = time.perf_counter(); relabel.diagnose(a); u = time.perf_counter(); "
        "relabel.diagnose(a); print(u - t, time.perf_counter() - u)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    first, second = map(float, done.stdout.split())
    print(f"8 x 500 draws of a 2-4-1 network: {first:.2f} s the first time, {second:.2f} s after")
    print(f"{'4 x draws':>10}  {'seconds':>8}  {'ratio':>6}  {'draws':>6}")
    seconds = []
    for length in LENGTHS:
        made = posterior((2, 4, 1), draws=length)
        aligned = relabel.align(made.data, made.spec)
        seconds.append(min(clocked(aligned) for _ in range(2)))
        ratio, draws = seconds[-1] / seconds[0], length / LENGTHS[0]
        print(f"{length:10d}  {seconds[-1]:8.2f}  {ratio:6.2f}  {draws:6.0f}", flush=True)


def clocked(aligned: Any) -> float:
    """Seconds of one diagnosis."""
    start = time.perf_counter()
    relabel.diagnose(aligned)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
