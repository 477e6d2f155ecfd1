"""Recovery of labels in mixtures and factor models: every criterion beside the best achievable.

Mixtures are posteriors by Gibbs sampling from data (`relabel.simulate.mixture`), each draw under
its own permutation; what is right is defined by the true allocation of the data. Factor models are
draws about a sparse truth (`relabel.simulate.factors`), each under its own signed permutation, or
under its own rotation for criteria that undo rotations.

``truth`` is the assignment to the true parameters, which no method knows: of components by their
allocation probabilities (the score of Stephens 2000 with the true probabilities for the reference),
of factors by the squared distance of loadings and scores, or of loadings alone, which is all that
most criteria use. Where it is low, labels are lost in the data.

A cell holds the share of labels that are right and, in brackets, of draws with every label right,
each up to one global relabelling; a dash that the criterion does not apply, and why is printed
beside the tables (on stderr).

Run ``python benchmarks/models_recovery.py`` (a few minutes); ``--quick`` shows that it runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from scipy.stats import norm

import relabel
from relabel.errors import RelabelError
from relabel.groups.elements import Monomial
from relabel.matching.criteria import CRITERIA, criterion_of
from relabel.numerics.assignment import assign
from relabel.simulate import Simulated, factors, mixture, recovery, recovery_of_loadings
from relabel.spec.transformation import Transformation

Array = NDArray[Any]
Shares = tuple[float, float]

PROB, Z, X = "allocation/prob", "allocation/z", "constant_data/x"


@dataclass(frozen=True)
class Row:
    """One line of a table: a criterion of `relabel.matching.criteria.CRITERIA`, if it is there."""

    label: str
    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    rotated: bool = False


MIXTURES = [
    Row("mean", "mean"),
    Row("mean of mu", "mean", {"var_names": "mu"}),
    Row("normal", "normal"),
    Row("map draw", "reference", {"reference": "map"}),
    Row("order by mu", "order", {"var_names": "mu"}),
    Row("pra", "pra"),
    Row("stephens", "stephens", {"prob": PROB}),
    Row("ecr", "ecr", {"z": Z}),
    Row("ecr-iterative-1", "ecr-iterative-1", {"z": Z}),
    Row("ecr-iterative-2", "ecr-iterative-2", {"z": Z, "prob": PROB}),
    Row("data-based", "data-based", {"z": Z, "x": X}),
    Row("sjw", "sjw", {"z": Z, "x": X}),
    Row("pivotal", "pivotal", {"z": Z}),
]

FACTORS = [
    Row("mean", "mean"),
    Row("mean of loadings", "mean", {"var_names": "Lambda"}),
    Row("normal", "normal", {"var_names": "Lambda"}),
    Row("map draw", "reference", {"reference": "map", "var_names": "Lambda"}),
    Row("order by first item", "order", {"var_names": "Lambda[0]"}),
    Row("rsp", "rsp", rotated=True),
    Row("procrustes", "procrustes", rotated=True),
    Row("weighted-procrustes", "weighted-procrustes", rotated=True),
    Row("matchalign", "matchalign", rotated=True),
]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one small case of each")
    parser.add_argument("--seeds", type=int, default=2, help="simulated posteriors per cell")
    options = parser.parse_args()
    sizes = (2, 3) if options.quick else (2, 3, 5, 8, 12, 20)
    spread = (4.0,) if options.quick else (2.0, 3.0, 4.0, 6.0)
    draws, seeds = (15, 1) if options.quick else (75, options.seeds)

    def mixtures(separation: float, size: int, seed: int) -> Simulated:
        n = 50 + 25 * size
        return mixture(size, n=n, separation=separation, draws=draws, rng=seed)

    def loadings(noise: float, size: int, seed: int) -> Simulated:
        return factors(4 * size, size, n=50, noise=noise, draws=draws, rng=seed)

    def rotated(noise: float, size: int, seed: int) -> Simulated:
        return factors(4 * size, size, n=50, noise=noise, draws=draws, rng=seed, rotation=True)

    print("## Mixtures\n")
    for line in table("separation", "K", spread, sizes, seeds, MIXTURES, mixtures, mixtures):
        print(line, flush=True)
    print("\n## Factor models\n")
    sizes = tuple(size for size in sizes if size <= 12)
    spread = (0.3,) if options.quick else (0.1, 0.3, 0.5, 0.7)
    for line in table("noise", "q", spread, sizes, seeds, FACTORS, loadings, rotated):
        print(line, flush=True)


def table(
    what: str,
    size_name: str,
    levels: tuple[float, ...],
    sizes: tuple[int, ...],
    seeds: int,
    rows: list[Row],
    plain: Callable[[float, int, int], Simulated],
    turned: Callable[[float, int, int], Simulated],
) -> Iterator[str]:
    """Yield the lines of a Markdown table, level after level."""
    known = [row for row in rows if row.name in CRITERIA]
    yield f"| {what} | criterion | " + " | ".join(f"{size_name} = {size}" for size in sizes) + " |"
    yield "|---|---|" + "---|" * len(sizes)
    for level in levels:
        cells: dict[str, list[str]] = {}
        for size in sizes:
            found: dict[str, list[Shares | None]] = {}
            for seed in range(seeds):
                simulated = plain(level, size, seed)
                rotated = turned(level, size, seed) if any(r.rotated for r in known) else simulated
                results: dict[str, Shares | None] = dict(best(simulated))
                for row in known:
                    results[row.label] = one(rotated if row.rotated else simulated, row)
                for label, shares in results.items():
                    found.setdefault(label, []).append(shares)
            for label, pairs in found.items():
                cells.setdefault(label, []).append(shown(pairs))
        for label, texts in cells.items():
            yield f"| {level:g} | {label} | " + " | ".join(texts) + " |"


def shown(shares: list[Shares | None]) -> str:
    """Means over the simulated posteriors as the text of a cell."""
    if any(pair is None for pair in shares):
        return "–"
    labels, draws = np.mean([pair for pair in shares if pair is not None], axis=0)
    return f"{labels:.2f} ({draws:.2f})"


def one(simulated: Simulated, row: Row) -> Shares | None:
    """Align by one criterion; None where it does not apply."""
    spec = (
        replace(simulated.spec, units={"factor": "orthogonal"}) if row.rotated else simulated.spec
    )
    try:
        criterion = criterion_of(row.name, row.settings)
        aligned = relabel.align(simulated.data, spec, criterion=criterion)
    except RelabelError as error:
        print(f"{row.label}: {error}", file=sys.stderr)
        return None
    if row.rotated:
        return pair_of(recovery_of_loadings(aligned["posterior"]["Lambda"], simulated.clean))
    return pair_of(recovery(aligned["relabel"], simulated.planted))


def best(simulated: Simulated) -> dict[str, Shares]:
    """Recovery by the true parameters."""
    if "Lambda" in simulated.truth:
        choices = {"truth": None, "truth, loadings": ("Lambda",)}
        return {label: by_true_loadings(simulated, names) for label, names in choices.items()}
    truth, x = simulated.truth, simulated.data["constant_data"]["x"].values
    joint = norm.logpdf(x[:, None], truth["mu"], truth["sigma"]) + np.log(truth["w"])
    prob = simulated.data["allocation"]["prob"].values
    score = log_softmax(joint, axis=1).T @ prob  # (chain, draw, slot, component)
    size = score.shape[-1]
    index = assign(score.reshape(-1, size, size)).reshape(*score.shape[:2], size)
    found = Transformation({"component": Monomial(index, np.ones(index.shape))})
    return {"truth": pair_of(recovery(found, simulated.planted))}


def by_true_loadings(simulated: Simulated, variables: tuple[str, ...] | None) -> Shares:
    """Recovery by squared distance to the true values of some variables, or all."""
    point = simulated.data["truth"].to_dataset()
    criterion = relabel.criteria.ToReference(point, scale="none", var_names=variables)
    aligned = relabel.align(simulated.data, simulated.spec, criterion=criterion)
    return pair_of(recovery(aligned["relabel"], simulated.planted))


def pair_of(shares: dict[str, float]) -> Shares:
    """Share of labels and share of draws."""
    (units,) = set(shares) - {"draws"}
    return shares[units], shares["draws"]


if __name__ == "__main__":
    main()
