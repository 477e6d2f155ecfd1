"""Units on both sides of an array: planted labels found, and optima reached.

Draws about one true point, each under its own random element, are matched to the truth. Compared
are the library; matching the linearised loss from the identity and from the linear part, accepted
when the loss falls (what a straightforward implementation does, written here without anything of
the library); and FAQ of SciPy (``scipy.optimize.quadratic_assignment``), which knows permutations
of one array and nothing that is linear: elsewhere it is left out. ``found`` is the share of draws
with every label and sign right; ``optimum`` the share whose loss is that of the best element, all
of them tried where there are few, else not above that of the planted element. Noise is relative to
the true values; with ``only noise`` draws and point have nothing in common. Times are relative to
the library's, within this run.

Run ``python benchmarks/two_sided.py`` (about a minute).
"""

from __future__ import annotations

import argparse
import itertools
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment, quadratic_assignment

import relabel

Array = NDArray[Any]
Labels = tuple[Array, Array]  # the unit of every slot, and its sign

ELMAN = {"W": "x -> h", "U": "h -> h", "b": "-> h", "V": "h -> y"}
GATES = {"W": "h <- x", **{f"U{g}": "h^0 <- h" for g in "ifo"}, "Uc": "h <- h", "V": "y <- h"}
LITTLE = {"W": "one -> h", "U": "h -> h"}  # one own feature a unit
TRANSITIONS = {"P": "h -> h"}

CASES = [
    ("transitions", TRANSITIONS, 6, "permutation", None),
    ("transitions", TRANSITIONS, 8, "permutation", None),
    ("recurrent", ELMAN, 5, "tanh", None),
    ("recurrent", ELMAN, 6, "tanh", None),
    ("transitions", TRANSITIONS, 8, "permutation", 0.3),
    ("transitions", TRANSITIONS, 20, "permutation", 0.3),
    ("transitions", TRANSITIONS, 20, "permutation", 0.6),
    ("recurrent", ELMAN, 16, "tanh", 0.3),
    ("recurrent", ELMAN, 32, "tanh", 0.3),
    ("recurrent", ELMAN, 32, "tanh", 0.6),
    ("little own", LITTLE, 16, "tanh", 0.3),
    ("little own", LITTLE, 32, "tanh", 0.3),
    ("little own", LITTLE, 32, "tanh", 0.6),
    ("four gates", GATES, 16, "tanh", 0.6),
]


@dataclass
class Case:
    """Draws, the point they are matched to, and what was planted."""

    lines: dict[str, str]
    size: int
    signs: bool
    point: dict[str, Array]
    draws: dict[str, Array]
    planted: list[Labels] | None

    def flips(self, name: str) -> list[tuple[int, bool]]:
        """The axes of units, and whether the array flips along them."""
        words = self.lines[name].replace("->", " ").replace("<-", " ").split()
        return [(i, self.signs and w == "h") for i, w in enumerate(words) if w[0] == "h"]

    def moved(self, name: str, values: Array, labels: Labels) -> Array:
        """One array in slot order."""
        for axis, flips in self.flips(name):
            values = values.take(labels[0], axis=axis)
            if flips:
                values = np.moveaxis(np.moveaxis(values, axis, -1) * labels[1], -1, axis)
        return values

    def loss(self, t: int, labels: Labels) -> float:
        """Squared distance of one draw under its labels."""
        return sum(
            float(((self.moved(n, self.draws[n][t], labels) - m) ** 2).sum())
            for n, m in self.point.items()
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=60, help="draws in each row")
    options = parser.parse_args()
    print(f"{'':27}{'found':^24}{'optimum':^24}{'time':^16}")
    columns = [*("library", "linear.", "FAQ") * 2, "linear.", "FAQ"]
    print(f"{'':>12}{'K':>5}{'noise':>10}" + "".join(f"{c:>8}" for c in columns))
    for row in CASES:
        name, lines, size, symmetry, noise = row
        case = simulated(lines, size, symmetry, noise, options.draws)
        found, optimum, times = measured(case, symmetry)
        figures = [*found, *optimum, *(t / times[0] if t else None for t in times[1:])]
        cells = "".join("       -" if f is None else f"{f:8.3g}" for f in figures)
        print(f"{name:>12}{size:5}{noise or 'only':>10}{cells}", flush=True)


def simulated(
    lines: dict[str, str], size: int, symmetry: str, noise: float | None, draws: int
) -> Case:
    """Draws about a point, each under labels of its own."""
    rng = np.random.default_rng(size)
    lengths = {"x": 2, "y": 1, "o": 1, "h": size}
    point, values = {}, {}
    for name, line in lines.items():
        words = line.replace("->", " ").replace("<-", " ").split()
        point[name] = rng.normal(size=[lengths[w[0]] for w in words])
        errors = rng.normal(size=(draws, *point[name].shape))
        values[name] = errors if noise is None else point[name] + noise * errors
    case = Case(lines, size, symmetry == "tanh", point, values, None)
    if noise is None:
        return case
    given = [
        (rng.permutation(size), rng.choice([-1.0, 1.0], size) if case.signs else np.ones(size))
        for _ in range(draws)
    ]
    for name, clean in values.items():
        case.draws[name] = np.stack([case.moved(name, clean[t], g) for t, g in enumerate(given)])
    case.planted = [(np.argsort(i), s[np.argsort(i)]) for i, s in given]  # what undoes them
    return case


def measured(case: Case, symmetry: str) -> tuple[list[Any], list[Any], list[Any]]:
    """Shares of labels found and of optima, and seconds, of the three methods."""
    faq = by_faq if list(case.lines) == list(TRANSITIONS) else None
    results: list[list[Labels] | None] = []
    times: list[float | None] = []
    for method in (lambda c: by_library(c, symmetry), by_linearisation, faq):
        start = time.perf_counter()
        results.append(None if method is None else method(case))
        times.append(None if method is None else time.perf_counter() - start)
    best = least(case)
    found = [None if r is None or case.planted is None else agreement(r, case) for r in results]
    optimum = [
        None
        if r is None
        else float(np.mean([case.loss(t, g) <= best[t] + 1e-9 for t, g in enumerate(r)]))
        for r in results
    ]
    return found, optimum, times


def agreement(found: list[Labels], case: Case) -> float:
    """Share of draws in which every label and sign is what was planted."""
    assert case.planted is not None
    return float(
        np.mean(
            [
                (index == i).all() and (sign == s).all()
                for (index, sign), (i, s) in zip(found, case.planted, strict=True)
            ]
        )
    )


def least(case: Case) -> Array:
    """Least loss of every draw over the whole group, or that of what was planted."""
    n = len(next(iter(case.draws.values())))
    if case.planted is not None:
        return np.array([case.loss(t, g) for t, g in enumerate(case.planted)])
    best = np.full(n, np.inf)
    signs = itertools.product((1.0, -1.0) if case.signs else (1.0,), repeat=case.size)
    patterns = [np.array(s) for s in signs]
    flat = {name: values.reshape(n, -1) for name, values in case.draws.items()}
    fixed = sum((v**2).sum(axis=1) for v in flat.values())
    fixed = fixed + sum((m**2).sum() for m in case.point.values())
    for index in itertools.permutations(range(case.size)):
        back = np.argsort(index)  # the point is carried to the labels of the draws
        total = np.zeros((n, len(patterns)))
        for name, values in flat.items():
            table = [case.moved(name, case.point[name], (back, s[back])) for s in patterns]
            total += values @ np.stack(table).reshape(len(patterns), -1).T
        best = np.minimum(best, fixed - 2 * total.max(axis=1))
    return best


# ---------------------------------------------------------------------- the methods


def by_library(case: Case, symmetry: str) -> list[Labels]:
    """Align with the true point."""
    lead = ("chain", "draw")
    names = {n: [f"{n}{i}" for i in range(m.ndim)] for n, m in case.point.items()}
    draws = xr.Dataset({n: ((*lead, *names[n]), v[None]) for n, v in case.draws.items()})
    point = xr.Dataset({n: (names[n], m) for n, m in case.point.items()})
    criterion = relabel.criteria.ToReference(point, scale="none")
    spec = relabel.Spec({"h": symmetry}, case.lines)
    own = relabel.align(xr.DataTree.from_dict({"posterior": draws}), spec, criterion=criterion)
    own = own["relabel"]
    return list(zip(own["h_index"].values[0], own["h_factor"].values[0], strict=True))


def by_linearisation(case: Case) -> list[Labels]:
    """Match the linearised loss until it falls no more; the better of two starts."""
    n = len(next(iter(case.draws.values())))
    result = []
    for t in range(n):
        unmoved = (np.arange(case.size), np.ones(case.size))
        ends = []
        for start in (unmoved, matched(case, t, unmoved, two_sided=False)):
            here, loss = start, case.loss(t, start)
            while True:
                there = matched(case, t, here)
                fresh = case.loss(t, there)
                if fresh >= loss - 1e-12:
                    break
                here, loss = there, fresh
            ends.append((loss, here))
        result.append(min(ends, key=lambda end: end[0])[1])
    return result


def matched(case: Case, t: int, here: Labels, *, two_sided: bool = True) -> Labels:
    """Match one draw: arrays with units on both sides are relabelled on one of them as before."""
    index, sign = here
    even, odd = np.zeros((case.size, case.size)), np.zeros((case.size, case.size))
    for name, mean in case.point.items():
        axes = case.flips(name)
        if len(axes) == 2 and not two_sided:
            continue
        for axis, flips in axes:
            values = case.draws[name][t]
            for other, turned in axes:
                if other != axis:
                    values = values.take(index, axis=other)
                    values = values * (np.expand_dims(sign, axis) if turned else 1.0)
            gain = np.moveaxis(mean, axis, 0).reshape(case.size, -1)
            gain = gain @ np.moveaxis(values, axis, 0).reshape(case.size, -1).T
            (odd if flips else even)[...] += gain
    folded = even + (np.abs(odd) if case.signs else odd)
    best = linear_sum_assignment(folded, maximize=True)[1]
    turned = case.signs & (odd[np.arange(case.size), best] < 0)
    return best, np.where(turned, -1.0, 1.0)


def by_faq(case: Case) -> list[Labels]:
    """SciPy's FAQ, draw by draw, from the barycentre."""
    ones = np.ones(case.size)
    return [
        (quadratic_assignment(case.point["P"], draw, options={"maximize": True}).col_ind, ones)
        for draw in case.draws["P"]
    ]


if __name__ == "__main__":
    main()
