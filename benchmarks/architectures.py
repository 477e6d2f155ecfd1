"""Recovery of planted permutations in convolutional, residual and attention networks.

Draws of random networks with the names of PyTorch (16 to 128 units in a set), each under a random
element of its group, are aligned without being told the truth. The columns are shares of draws in
which every label of every set of units is right:

- ``descent``: plain coordinate ascent from the labels as they came, towards the true weights, the
  sets visited in random order and scored by inner products: the weight matching of Ainsworth et al.
  (2023), https://doi.org/10.48550/arXiv.2209.04836;
- ``identity``, ``forward``, ``informed``: one start of the library towards the true weights: the
  labels as they came; a sweep in the order of the spec; one that goes where most is known;
- ``scrambled``: the sweep in the order of the spec, with the units of the spec in random order;
- ``align``: the library, which does not know the truth; ``seconds`` is its processor time.

Run ``python benchmarks/architectures.py`` (about two minutes); ``--large`` times ResNet-18 at full
width instead.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

import relabel
from relabel.groups.elements import Monomial
from relabel.matching.criteria.base import Reference
from relabel.matching.draws import Draws
from relabel.matching.features import Layout, Problem
from relabel.matching.moments import pooled_moments
from relabel.matching.search import View, ascend, identity
from relabel.simulate import Simulated, architecture, planted_draws, recovery
from relabel.simulate.architectures import resnet_shapes
from relabel.spec.transformation import Transformation

Array = NDArray[Any]

ROWS = [
    ("lenet", "permutation"),
    ("lenet", "relu"),
    ("resnet", "permutation"),
    ("resnet", "relu"),
    ("bare resnet", "permutation"),
    ("bottleneck", "permutation"),
    ("vit", "gelu"),
    ("mixer", "gelu"),
    ("16 dense layers", "tanh"),
]
COLUMNS = ("descent", "identity", "forward", "scrambled", "informed", "align", "seconds")


def main() -> None:
    """Print the table, or time a large network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1, help="networks per row")
    parser.add_argument("--draws", type=int, default=20, help="draws of each")
    parser.add_argument("--noise", type=float, nargs="+", default=[0.05, 0.3, 1.0])
    parser.add_argument("--large", choices=("permutation", "relu"), help="time ResNet-18 instead")
    options = parser.parse_args()
    if options.large:
        return large(options.large)
    print(f"{'network':>28}  noise  " + "  ".join(f"{name:>9}" for name in COLUMNS))
    for kind, activation in ROWS:
        for noise in options.noise:
            rows = [
                one(simulate(kind, activation, options.draws, noise, seed), seed)
                for seed in range(options.seeds)
            ]
            figures = "  ".join(f"{value:9.2f}" for value in np.mean(rows, axis=0))
            print(f"{kind + ', ' + activation:>28}  {noise:5.2f}  {figures}", flush=True)
    return None


def simulate(kind: str, activation: str, draws: int, noise: float, seed: int) -> Simulated:
    """Simulate draws of one network."""
    if kind == "bare resnet":  # nothing but convolutions: no norm, no biases
        spec = relabel.models.resnet((2, 2, 2), norm=False, activation=activation)
        shapes = resnet_shapes((2, 2, 2), (16, 24, 32))
    elif kind == "16 dense layers":
        spec = relabel.mlp(16, activation, naming="torch", bias=None)
        sizes = [3, *[16] * 16, 2]
        return planted_draws(
            spec,
            {f"W{i}": (sizes[i], sizes[i - 1]) for i in range(1, 18)},
            draws=draws,
            noise=noise,
            rng=seed,
        )
    else:
        return architecture(kind, activation=activation, draws=draws, noise=noise, rng=seed)
    shapes = {name: shape for name, shape in shapes.items() if name in spec.axes}
    return planted_draws(spec, shapes, draws=draws, noise=noise, rng=seed)


def one(simulated: Simulated, seed: int) -> list[float]:
    """Shares of draws with all labels right, in the order of the columns."""
    groups = {"posterior": simulated.data["posterior"].to_dataset()}
    draws = Draws.read(groups, simulated.spec, "raise")
    problem = draws.problem(relabel.criteria.Mean())
    layout, reference = true_reference(problem, simulated)
    rng = np.random.default_rng(seed)
    order = list(layout.sizes)
    sweeps = [None, order, list(rng.permutation(order)), layout.informed_order()]
    shares = [share(descent(problem, layout, reference, rng), simulated)]
    shares += [share(ascent(problem, layout, reference, s), simulated) for s in sweeps]
    begin = time.process_time()
    aligned = relabel.align(simulated.data, simulated.spec)
    spent = time.process_time() - begin
    return [*shares, recovery(aligned["relabel"], simulated.planted)["draws"], spent]


def true_reference(problem: Problem, simulated: Simulated) -> tuple[Layout, Reference]:
    """The true weights as the reference of the draws."""
    arrays = {name: values[None] for name, values in simulated.truth.items()}
    truth = problem.of(arrays)
    pooled = pooled_moments(problem)
    layout = replace(problem.layout, centre=pooled.centre)
    criterion = relabel.criteria.Mean()
    alone = criterion.statistics(truth.draw(0), layout, identity(layout, 1))
    return layout, criterion.form_reference(alone, pooled, layout, None)


def share(found: Sequence[dict[str, Monomial]], simulated: Simulated) -> float:
    """Share of draws in which all labels are right, from the elements block by block."""
    elements = {}
    for units in simulated.spec.units:
        parts = [part[units] for part in found]
        index, factor = (
            np.concatenate(arrays)[None] for arrays in zip(*(p.arrays for p in parts), strict=True)
        )
        elements[units] = Monomial(index, factor)
    return recovery(Transformation(elements), simulated.planted)["draws"]


def ascent(
    problem: Problem, layout: Layout, reference: Reference, sweep: Sequence[str] | None
) -> list[dict[str, Any]]:
    """One start of the library."""
    found = []
    for number in range(len(problem.slices)):
        view = View.of(problem.block(number), layout, reference, relabel.criteria.Mean())
        found.append(ascend(view, identity(layout, len(view)), sweep)[0])
    return found


# ---------------------------------------------------------------------- the baseline


def descent(
    problem: Problem, layout: Layout, reference: Reference, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Match set after set in random order, by inner products, until nothing changes."""
    found = []
    for number in range(len(problem.slices)):
        block = problem.block(number)
        for t in range(len(block)):
            own = {units: features[t] for units, features in block.own.items()}
            found.append(match_one(layout, reference, own, [p[t] for p in block.pairs], rng))
    return found


def match_one(
    layout: Layout,
    reference: Reference,
    own: dict[str, Array],
    pairs: list[Array],
    rng: np.random.Generator,
) -> dict[str, Monomial]:
    """Match the sets of one draw, in which everything flips with its units or nothing does."""
    found = {units: Monomial.identity((), size) for units, size in layout.sizes.items()}
    for _ in range(100):
        moved = False
        for units in rng.permutation(list(found)):
            centre = layout.centre[units]
            gain = reference.own[units] * reference.weight[units] @ (own[units] - centre).T
            for p, side in layout.touching(units):
                other = found[layout.pairs[p].units[1 - side]]
                draw = other.act(np.moveaxis(pairs[p], side, 0).swapaxes(0, 1)).swapaxes(0, 1)
                mean = np.moveaxis(reference.pairs[p], side, 0).reshape(len(gain), -1)
                gain = gain + reference.pair_weight[p] * mean @ draw.reshape(len(gain), -1).T
            signed = layout.groups[units].signs
            index = linear_sum_assignment(np.abs(gain) if signed else gain, maximize=True)[1]
            negative = signed & (gain[np.arange(len(index)), index] < 0)
            fresh = Monomial(index, np.where(negative, -1.0, 1.0))
            moved |= not bool(fresh.equals(found[units]))
            found[units] = fresh
        if not moved:
            break
    return {units: g.reshape(1) for units, g in found.items()}


# ---------------------------------------------------------------------- a network of real size


def large(activation: str) -> None:
    """Time the alignment of five members of ResNet-18 at full width, in single precision."""
    spec = relabel.models.resnet(activation=activation)
    shapes = resnet_shapes((2, 2, 2, 2), (64, 128, 256, 512), first=7, n_classes=1000)
    simulated = planted_draws(spec, shapes, draws=5, noise=0.3)
    members = simulated.data["posterior"].to_dataset().astype(np.float32)
    planted = simulated.planted
    del simulated
    before = resident()
    begin = time.process_time()
    aligned = relabel.align(members, spec)
    spent = time.process_time() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    names = {f"relabel_{units}_{part}": f"{units}_{part}" for units in spec.units
             for part in ("index", "factor")}  # fmt: skip
    found: xr.Dataset = aligned[list(names)].rename(names)
    print(
        f"ResNet-18, {activation}: 5 members, {members.nbytes / 2**30:.2f} GiB; "
        f"{spent:.0f} s of processor, {peak - before:.2f} GiB beside them; draws recovered: "
        f"{recovery(found, planted)['draws']:.2f}"
    )


def resident() -> float:
    """Memory of this process in GiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**30


if __name__ == "__main__":
    main()
