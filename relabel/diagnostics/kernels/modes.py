"""What is in each mode, and how the modes differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel.diagnostics.kernels.clustering import Clusters, clusters, separation
from relabel.diagnostics.kernels.rhat_ess import convergence
from relabel.groups.elements import Element, Monomial
from relabel.matching.criteria import Criterion, ToReference
from relabel.matching.features import Problem, aligned_own, aligned_pair
from relabel.matching.solve import solve
from relabel.numerics.assignment import assign
from relabel.numerics.chains import distance_of_means

__all__ = ["Mode", "all_features", "find_modes"]

Array = NDArray[Any]

_MOST_COMPARED = 20  # modes of which all pairs are compared
_LEAST_DRAWS = 4  # of a chain that takes part in the R-hat of a mode, and half of the longest's


@dataclass(frozen=True)
class Mode:
    """One mode.

    Attributes
    ----------
    n_draws : int
    chains : list of int
        Positions of the chains that have draws in it.
    lp_median : float
    rhat : float
        Largest R-hat of weights within the mode, aligned to its own reference.
    dip_p : float
        Smallest p-value of the dip tests within it, after Holm's correction.
    weight_distance : float
        From the first mode, after the best relabelling: root mean square difference of mean
        features, in standard deviations within modes.
    function_distance : float
        From the first mode: difference of mean outputs in standard deviations, where it is large
        (the 95 % quantile over inputs); nan without outputs.
    equivalent_to : int or None
        An earlier mode with nearly the same outputs.
    equivalent_by : float
        Distance of their outputs, likewise; nan if there is none.
    cause : str or None
        Why, most likely.
    """

    n_draws: int
    chains: list[int]
    lp_median: float
    rhat: float
    dip_p: float
    weight_distance: float = 0.0
    function_distance: float = 0.0
    equivalent_to: int | None = None
    equivalent_by: float = float("nan")
    cause: str | None = None


@dataclass(frozen=True)
class _Part:
    """The draws of one mode, aligned to a reference of their own."""

    problem: Problem
    elements: dict[str, Element]
    middle: int
    values: Array
    outputs: Any  # an array or None

    @classmethod
    def of(
        cls, problem: Problem, rows: Array, lp: Array, criterion: Criterion, outputs: Array | None
    ) -> _Part:
        some = problem.selected(rows)
        first = int(np.nanargmax(lp[rows])) if np.isfinite(lp[rows]).any() else 0
        found = solve(some, criterion, some.draw(first), n_perturbations=0)
        values = all_features(some, found.elements)
        own = None if outputs is None else outputs[rows]
        return cls(some, found.elements, int(found.loss.argmin()), values, own)

    def carried(self, other: _Part) -> Array:
        """The features of this part under the labels of another, by one relabelling of all."""
        found = solve(
            self.problem.selected(np.array([self.middle])),
            ToReference(),
            other.problem.draw(other.middle),
        )
        moved = {}
        for units, own in self.elements.items():
            back = own[[self.middle]].inverse()
            there = other.elements[units][[other.middle]] @ found.elements[units] @ back
            moved[units] = there[np.zeros(own.batch, dtype=int)] @ own
        return all_features(self.problem, moved)


def all_features(problem: Problem, elements: Mapping[str, Element]) -> Array:
    """Every feature of every unit in slot order, shape (draws, F)."""
    layout, parts = problem.layout, []
    for number, rows in enumerate(problem.slices):
        block = problem.block(number)
        some = {units: element[rows] for units, element in elements.items()}
        arrays = [aligned_own(block, layout, units, some[units]) for units in layout.sizes]
        arrays += [aligned_pair(block, layout, p, some) for p in range(len(layout.pairs))]
        parts.append(np.concatenate([array.reshape(len(block), -1) for array in arrays], axis=1))
    return np.concatenate(parts)


def find_modes(
    problem: Problem,
    criterion: Criterion,
    chain: Array,
    *,
    lp: Array | None = None,
    outputs: Array | None = None,
    loose: Mapping[str, Array] | None = None,
    narrow: Array | None = None,
    apart: float = 2.0,
    alpha: float = 0.01,
    equivalent: float = 1.0,
) -> tuple[Array, list[Mode]]:
    """Sort aligned draws into modes and describe these.

    Parameters
    ----------
    problem : Problem
        The aligned draws.
    criterion : Criterion
        By which each mode is aligned to a reference of its own.
    chain : ndarray of int, shape (draws,)
    lp : ndarray of shape (draws,), optional
    outputs : ndarray of shape (draws, n), optional
        Outputs of the network.
    loose : mapping of str to ndarray of int, optional
        Slots whose labels are unreliable: their weights do not distinguish modes.
    narrow : ndarray of bool, shape (draws,), optional
        Draws that need fewer units than there are.
    apart, alpha : float
        As in :func:`relabel.diagnostics.kernels.clustering.clusters`.
    equivalent : float, default 1.0
        Two modes have nearly the same function if their mean outputs differ by less than one
        posterior standard deviation at 95 % of the inputs: their predictions hardly differ.

    Returns
    -------
    mode : ndarray of int, shape (draws,)
        The mode of highest median `lp` is 0 (without `lp`: the one with most draws).
    modes : list of Mode
    """
    views = _views(problem, outputs, loose or {})
    found = clusters(views, chain, apart=apart, alpha=alpha) if views else None
    if found is None:
        found = Clusters(np.zeros(problem.n_draws, dtype=int), {0: float("nan")})
    density = np.full(problem.n_draws, np.nan) if lp is None else lp
    mode, parts, dips = _merged(problem, criterion, found, density, outputs, apart)
    modes = [
        Mode(
            int((mode == m).sum()),
            [int(c) for c in np.unique(chain[mode == m])],
            float(np.nanmedian(density[mode == m])) if lp is not None else float("nan"),
            _rhat_within(part.values, chain[mode == m]),
            dips[m],
        )
        for m, part in enumerate(parts)
    ]
    order = sorted(range(len(modes)), key=lambda m: _rank(modes[m]), reverse=True)
    mode = np.argsort(order)[mode]
    modes, parts = [modes[m] for m in order], [parts[m] for m in order]
    width = [narrow is not None and bool(np.median(narrow[mode == m])) for m in range(len(modes))]
    return mode, _compared(modes, parts, width, equivalent)


def _rank(mode: Mode) -> tuple[float, int]:
    return (0.0 if np.isnan(mode.lp_median) else mode.lp_median, mode.n_draws)


def _views(problem: Problem, outputs: Array | None, loose: Mapping[str, Array]) -> list[Array]:
    """Weights of the slots that have a label, and outputs."""
    kept: list[Array] = []
    elements: dict[str, Element] = {}
    for units, size in problem.resolved.sizes.items():
        elements[units] = Monomial.identity((problem.n_draws,), size)
        kept.append(np.setdiff1d(np.arange(size), loose.get(units, ())))
    values = all_features(problem, elements)
    mask = np.concatenate(_firm(problem, dict(zip(problem.resolved.sizes, kept, strict=True))))
    views = [values[:, mask]] if mask.any() else []
    if outputs is not None:
        views.append(outputs)
    return views


def _firm(problem: Problem, kept: Mapping[str, Array]) -> list[Array]:
    """Which of all features belong to slots that are kept, on both sides of a pair."""
    layout, masks = problem.layout, []
    for units, size in layout.sizes.items():
        firm = np.isin(np.arange(size), kept[units])
        masks.append(np.repeat(firm, len(layout.columns[units])))
    for number, pair in enumerate(layout.pairs):
        one, two = (np.isin(np.arange(layout.sizes[u]), kept[u]) for u in pair.units)
        both = one[:, None] & two
        masks.append(np.repeat(both.reshape(-1), problem.block(0).pairs[number].shape[3]))
    return masks


def _merged(
    problem: Problem,
    criterion: Criterion,
    found: Clusters,
    lp: Array,
    outputs: Array | None,
    apart: float,
) -> tuple[Array, list[_Part], list[float]]:
    """Put together what one relabelling brings together: that is one mode, labelled in two ways."""
    mode = found.mode.copy()
    dips = dict(found.dip_p)
    parts = {
        m: _Part.of(problem, np.flatnonzero(mode == m), lp, criterion, outputs)
        for m in sorted(dips)
    }
    pairs = [(a, b) for a in parts for b in parts if a < b < _MOST_COMPARED]
    for a, b in pairs:
        if a not in parts or b not in parts or _distinct(parts[a], parts[b], apart):
            continue
        mode[mode == b] = a
        parts[a] = _Part.of(problem, np.flatnonzero(mode == a), lp, criterion, outputs)
        dips[a] = float(np.fmin(dips[a], dips.pop(b)))
        del parts[b]
    names = sorted(parts)
    return np.searchsorted(names, mode), [parts[m] for m in names], [dips[m] for m in names]


def _distinct(one: _Part, two: _Part, apart: float) -> bool:
    """Whether two parts stay apart under the best relabelling of one of them, or in outputs."""
    known = one.outputs is not None and two.outputs is not None
    if known and separation(one.outputs, two.outputs) > apart:
        return True
    return separation(one.values, two.carried(one)) > apart


def _rhat_within(values: Array, chain: Array) -> float:
    """Largest R-hat of the features of one mode."""
    chains, counts = np.unique(chain, return_counts=True)
    long = counts >= max(_LEAST_DRAWS, counts.max() / 2)
    if not long.any():
        return float("nan")
    length = int(counts[long].min())
    return convergence([np.stack([values[chain == c][:length] for c in chains[long]])]).rhat


def _compared(
    modes: list[Mode], parts: list[_Part], narrow: Sequence[bool], equivalent: float
) -> list[Mode]:
    """Distances from the first mode, and earlier modes that have the same function."""
    done = modes[:1]
    for m in range(1, len(modes)):
        own, first = parts[m], parts[0]
        mode = replace(
            modes[m],
            weight_distance=_weight_distance(first.values, own.carried(first)),
            function_distance=_function_distance(first, own),
        )
        for earlier in range(min(m, _MOST_COMPARED)):
            near = _function_distance(parts[earlier], own)
            if near < equivalent:
                cause = _cause(parts[earlier], own, narrow[earlier] or narrow[m])
                mode = replace(mode, equivalent_to=earlier, equivalent_by=near, cause=cause)
                break
        done.append(mode)
    return done


def _weight_distance(one: Array, two: Array) -> float:
    gap = one.mean(axis=0) - two.mean(axis=0)
    variance = (one.var(axis=0) + two.var(axis=0)) / 2
    scaled = np.divide(gap**2, variance, out=np.zeros_like(gap), where=variance > 0)
    return float(np.sqrt(scaled.mean()))


def _function_distance(one: _Part, two: _Part) -> float:
    if one.outputs is None or two.outputs is None:
        return float("nan")
    a, b = one.outputs, two.outputs
    return float(distance_of_means(a.mean(axis=0), a.var(axis=0), b.mean(axis=0), b.var(axis=0)))


def _cause(one: _Part, two: _Part, narrow: bool) -> str:
    """Name the likely reason why two modes with the same function have other weights."""
    resolved = one.problem.resolved
    plain = [
        u for u in resolved.sizes if not resolved.group(u).signs and not resolved.group(u).gauges()
    ]
    scaled = [
        u for u in resolved.sizes if not resolved.group(u).signs and resolved.group(u).gauges()
    ]
    incoming = [_nearer_if_flipped(one, two, name, incoming_only=True) for name in scaled]
    wholly = [_nearer_if_flipped(one, two, name, incoming_only=False) for name in plain]
    if any(wholly):
        return "perhaps an unresolved symmetry: signs of units, which the spec does not let change"
    if any(incoming):
        return "orientation flips: incoming weights of some units have the other sign"
    if narrow:
        return "spare or duplicated units, which can be arranged in several ways"
    return "unknown: a symmetry that the spec does not declare, or two ways to compute one function"


def _nearer_if_flipped(one: _Part, two: _Part, units: str, *, incoming_only: bool) -> bool:
    """Whether changes of sign more than halve the squared distance of two modes' units."""
    layout, ends = one.problem.layout, []
    for part in (one, two):
        block, element = part.problem.draw(part.middle), part.elements[units][[part.middle]]
        ends.append(aligned_own(block, layout, units, element)[0])
    columns = layout.columns[units]
    flips = np.array([-1.0 if c.incoming or not incoming_only else 1.0 for c in columns])
    left, right = ends
    plain = ((left[:, None] - right[None]) ** 2).sum(axis=2)
    flipped = ((left[:, None] - flips * right[None]) ** 2).sum(axis=2)
    rows = np.arange(len(left))
    cost = [c[rows, assign(-c[None])[0]].sum() for c in (plain, np.minimum(plain, flipped))]
    return bool(cost[1] < 0.5 * cost[0])
