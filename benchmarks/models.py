"""CPU seconds of the criteria for latent-variable models, each beside floors of the same run.

Factor models: 5000 draws of 50 items and 8 factors, made from a seed: sparse loadings, noise of 0.1
in every entry, and in every draw a random signed permutation (``signed``) or rotation
(``rotated``). The floors are one of SciPy's assignments per draw, on the costs under the last
reference, and one pass over the loadings (the products that make these costs, by BLAS).

Run ``OPENBLAS_NUM_THREADS=1 python benchmarks/models.py`` (under a minute). Ratios compare between
machines; seconds do not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

import relabel
from relabel.data.provenance import Provenance
from relabel.matching.criteria import Criterion
from relabel.numerics.rotations import varimax

Array = NDArray[Any]

_DIMS = ("chain", "draw", "item", "factor")
_REPEATS = 3


def main() -> None:
    """Print the table."""
    print(f"{'':44}{'seconds':>9}{'sweeps':>8}{'floors: assignment':>20}{'pass':>8}")
    for name, seconds, sweeps, floors in factor_models():
        told = "".join(f"{floor:>{w}.3f}" for floor, w in zip(floors, (20, 8), strict=True))
        print(f"{name:44}{seconds:>9.2f}{sweeps:>8}{told}", flush=True)


def factor_models() -> list[tuple[str, float, int, tuple[float, float]]]:
    """Time the criteria for factor models."""
    found = []
    for kind in ("signed", "rotated"):
        draws = loadings(kind)
        floors = (assignments(draws), one_pass(draws))
        cases = [
            (
                "signed",
                "rsp, no rotation",
                relabel.criteria.RSP(rotation="none", reference="labels"),
            ),
            ("signed", "rsp, no rotation, both starts", relabel.criteria.RSP(rotation="none")),
            ("orthogonal", "rsp", relabel.criteria.RSP()),
            ("orthogonal", "procrustes", relabel.criteria.Procrustes()),
            ("orthogonal", "weighted-procrustes", relabel.criteria.WeightedProcrustes()),
            ("orthogonal", "matchalign", relabel.criteria.MatchAlign()),
        ]
        for symmetry, name, criterion in cases:
            if kind == "rotated" and symmetry == "signed":
                continue  # the wrong model
            seconds, sweeps = aligned(draws, symmetry, criterion)
            found.append((f"{kind} draws: {name}", seconds, sweeps, floors))
        seconds = timed(lambda draws=draws: varimax(draws))
        found.append((f"{kind} draws: varimax alone", seconds, 0, floors))
    return found


def loadings(kind: str, n_draws: int = 5000, items: int = 50, factors: int = 8) -> Array:
    """Draws (n_draws, items, factors) about a sparse matrix, each in its own orientation."""
    rng = np.random.default_rng(0)
    centre = rng.normal(size=(items, factors)) * (rng.random((items, factors)) < 0.4)
    draws = centre + 0.1 * rng.normal(size=(n_draws, items, factors))
    if kind == "rotated":
        turn = np.linalg.qr(rng.normal(size=(n_draws, factors, factors)))[0]
        return draws @ turn
    index = rng.permuted(np.tile(np.arange(factors), (n_draws, 1)), axis=1)
    signs = rng.choice([-1.0, 1.0], size=(n_draws, 1, factors))
    moved: Array = np.take_along_axis(draws, index[:, None, :], axis=2) * signs
    return moved


def aligned(draws: Array, symmetry: str, criterion: Criterion) -> tuple[float, int]:
    """Seconds of one alignment, everything included, and its sweeps."""
    data = xr.Dataset({"Lambda": (_DIMS, draws[None])})
    spec = relabel.Spec({"factor": symmetry}, {"Lambda": "item factor"})
    result: list[Any] = []
    seconds = timed(lambda: result.append(relabel.align(data, spec, criterion=criterion)))
    return seconds, len(Provenance.of(result[-1]).losses)


def assignments(draws: Array) -> float:
    """Seconds of one assignment per draw."""
    gains = np.abs(draws[0].T @ draws)

    def solve() -> None:
        for gain in gains:
            linear_sum_assignment(gain, maximize=True)

    return timed(solve)


def one_pass(draws: Array) -> float:
    """Seconds of the products of all draws with one reference."""
    return timed(lambda: draws[0].T @ draws)


def timed(work: Callable[[], Any]) -> float:
    """CPU seconds, the median of a few runs."""
    seconds = []
    for _ in range(_REPEATS):
        begin = time.process_time()
        work()
        seconds.append(time.process_time() - begin)
    return float(np.median(seconds))


if __name__ == "__main__":
    main()
