"""Is there any structure, or did the alignment sort noise? The shuffled null, and other starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel.groups.elements import Element, Monomial, take_units
from relabel.matching.criteria import Criterion
from relabel.matching.features import Problem, aligned_own, aligned_pair
from relabel.matching.moments import pooled_moments
from relabel.matching.solve import solve
from relabel.numerics.assignment import assign
from relabel.numerics.rotations import procrustes

__all__ = ["Null", "agreement_of_starts", "shuffled_null", "variance_explained"]

Array = NDArray[Any]

_UNITS = 8000  # of all draws that are looked at together
_LEAST_DRAWS = 50
Step = Callable[[int, int], None]


@dataclass(frozen=True)
class Null:
    """Variance that the slots explain, beside that of shuffled units.

    Attributes
    ----------
    explained : float
        Share of the aligned draws, all sets of units together.
    shuffled : ndarray of shape (replicates,)
        Share of draws whose units were shuffled and aligned again.
    by_units : dict of str to (float, ndarray)
        The same for each set of units.
    """

    explained: float
    shuffled: Array
    by_units: dict[str, tuple[float, Array]]

    def interval(self, shuffled: Array) -> tuple[float, float]:
        """Monte Carlo interval of a shuffled value: mean ± 1.96 standard deviations."""
        spread = 1.96 * float(shuffled.std(ddof=1)) if len(shuffled) > 1 else float("nan")
        return float(shuffled.mean()) - spread, float(shuffled.mean()) + spread


def shuffled_null(
    problem: Problem,
    criterion: Criterion,
    *,
    rows: Array | None = None,
    n_replicates: int = 10,
    max_draws: int = 500,
    seed: int = 0,
    step: Step | None = None,
) -> Null:
    r"""Compare the variance that slots explain with what the same alignment makes of noise.

    .. math:: V = 1 - \frac{\sum_t \sum_k \lVert x_{tk} - m_k \rVert^2}
        {\sum_t \sum_k \lVert x_{tk} - m \rVert^2}

    with standardised features, :math:`m_k` the mean of slot *k* and *m* the mean of all units
    (zero for features that flip with their unit). An alignment makes *V* as large as it can, and
    it is far from zero for units that were assigned at random. So the units of all draws are
    pooled, shuffled and assigned to draws again, which leaves nothing but chance in a label; the
    same criterion aligns them; and *V* is compared. What does not flip with its unit keeps its mean
    over the units of a draw (weights of a mixture still add up to one), since a sum over units
    makes them differ within a draw without any structure.

    Parameters
    ----------
    problem : Problem
        The aligned draws.
    criterion : Criterion
        By which they were aligned.
    rows : ndarray of int, optional
        Draws to look at (those of chains that sit in one mode); all by default.
    n_replicates : int, default 10
        Shuffled copies: the null varies by a few thousandths from one to the next, so the interval
        of ten is narrow beside any difference that matters.
    max_draws : int, default 500
        Draws, evenly spaced, that all this is computed on, fewer where there are more than 16
        units: *V* has a standard error below 0.02 from then on, and the null costs ten alignments
        of them.
    seed : int, default 0
        Random seed of the shuffling.
    step : callable, optional
        Called with the number of copies done, and of all.

    Returns
    -------
    Null

    Examples
    --------
    >>> import relabel
    >>> from relabel.diagnostics.aligned import Aligned
    >>> from relabel.simulate import network
    >>> simulated = network((2, 3, 1), "tanh", draws=100, noise=0.1)
    >>> aligned = Aligned.read(relabel.align(simulated.data, simulated.spec))
    >>> found = shuffled_null(aligned.problem, relabel.criteria.Mean())
    >>> round(found.explained, 2), bool(found.shuffled.mean() < 0.8)
    (0.96, True)
    """
    chosen = _thinned(problem.n_draws if rows is None else rows, _enough(problem, max_draws))
    some = problem.selected(chosen)
    sizes = some.resolved.sizes
    still: dict[str, Element] = {u: Monomial.identity((some.n_draws,), k) for u, k in sizes.items()}
    actual = variance_explained(some, still)
    rng = np.random.default_rng(seed)
    found: dict[str, list[float]] = {name: [] for name in actual}
    for replicate in range(n_replicates):
        noise = _shuffled(some, rng)
        solution = solve(noise, criterion, noise.draw(0), n_perturbations=0)
        for name, value in variance_explained(noise, solution.elements).items():
            found[name].append(value)
        if step is not None:
            step(replicate + 1, n_replicates)
    by_units = {u: (actual[u], np.array(found[u])) for u in sizes}
    return Null(actual[""], np.array(found[""]), by_units)


def variance_explained(problem: Problem, elements: Mapping[str, Element]) -> dict[str, float]:
    """Share of the variance of units that lies between slots, of every set and (``""``) of all.

    Parameters
    ----------
    problem : Problem
    elements : mapping of str to Monomial or Dense
        Labels to judge.

    Returns
    -------
    dict of str to float
        A pair counts for both its sets. nan where units do not vary at all.
    """
    layout, pooled = problem.layout, pooled_moments(problem)
    within = dict.fromkeys([*layout.sizes, ""], 0.0)
    total = dict(within)
    blocks = range(len(problem.slices))
    parts = [
        (problem.block(n), {u: e[problem.slices[n]] for u, e in elements.items()}) for n in blocks
    ]
    for units in layout.sizes:
        aligned = np.concatenate([aligned_own(b, layout, units, e[units]) for b, e in parts])
        around = aligned - pooled.centre[units]
        for name in (units, ""):
            total[name] += float((around**2 / pooled.own[units]).sum())
            within[name] += float((aligned.var(axis=0) / pooled.own[units]).sum()) * len(aligned)
    for number, pair in enumerate(layout.pairs):
        aligned = np.concatenate([aligned_pair(b, layout, number, e) for b, e in parts])
        middle = 0.0 if any(pair.signed) else aligned.mean()
        for name in {*pair.units, ""}:
            total[name] += float(((aligned - middle) ** 2).sum()) / pooled.pairs[number]
            within[name] += float(aligned.var(axis=0).sum()) * len(aligned) / pooled.pairs[number]
    return {u: 1 - within[u] / total[u] if total[u] > 0 else float("nan") for u in total}


def agreement_of_starts(
    problem: Problem,
    criterion: Criterion,
    *,
    rows: Array | None = None,
    n_starts: int = 3,
    max_draws: int = 500,
    seed: int = 0,
    step: Step | None = None,
) -> dict[str, Array] | None:
    """Align again from other first draws, and count how many labels come out alike.

    Parameters
    ----------
    problem, criterion, rows, max_draws, step
        As in :func:`shuffled_null`.
    n_starts : int, default 3
        Other first draws, taken at random: an alignment that depends on its start shows it in any.
    seed : int, default 0
        Random seed of the choice.

    Returns
    -------
    dict of str to ndarray of shape (n_starts, K), or None
        For each slot the share of labels (unit and sign) that agree with the present ones, up to
        one relabelling of all draws. None where the reference is given, so that there is no start.
    """
    if criterion.max_sweeps == 0 and criterion.initial() is None:
        return None
    chosen = _thinned(problem.n_draws if rows is None else rows, _enough(problem, max_draws))
    some = problem.selected(chosen)
    rng = np.random.default_rng(seed)
    firsts = rng.choice(some.n_draws, size=min(n_starts, some.n_draws), replace=False)
    mixed = _relabelled(some, rng)
    found: dict[str, list[Array]] = {units: [] for units in some.resolved.sizes}
    for number, first in enumerate(firsts):
        solution = solve(mixed[0], criterion, mixed[0].draw(int(first)), n_perturbations=0)
        for units, element in solution.elements.items():
            found[units].append(_alike(element @ mixed[1][units]))
        if step is not None:
            step(number + 1, len(firsts))
    return {units: np.array(shares) for units, shares in found.items()}


def _enough(problem: Problem, most: int) -> int:
    """Number of draws to look at: fewer where there are many units."""
    return max(_LEAST_DRAWS, min(most, _UNITS // sum(problem.resolved.sizes.values())))


def _thinned(rows: Array | int, most: int) -> Array:
    """Evenly spaced rows, at most so many."""
    rows = np.arange(rows) if isinstance(rows, int) else rows
    chosen: Array = rows[np.unique(np.linspace(0, len(rows) - 1, most).round().astype(int))]
    return chosen


def _shuffled(problem: Problem, rng: np.random.Generator) -> Problem:
    """Pool the units of all draws, and assign them to draws at random.

    Of what does not flip, the mean over the units of a draw stays with the draw, and only
    differences between units are shuffled: weights that add up to one still do.
    """
    arrays = dict(problem.arrays)
    n_draws = problem.n_draws
    for units, size in problem.resolved.sizes.items():
        order = rng.permutation(n_draws * size)
        for variable in problem.resolved.measured():
            carried = variable.unit_axes()
            for axis, name, action in carried:
                if name == units:
                    whole = arrays[variable.name]
                    values = variable.of(whole)
                    front = np.moveaxis(values, axis + 1, 1)
                    summing = len(carried) == 1 and not action.signed and size > 1
                    moved = np.moveaxis(_reordered(front, order, summing=summing), 1, axis + 1)
                    arrays[variable.name] = variable.placed(whole, moved)
    return problem.of(arrays)


def _reordered(front: Array, order: Array, *, summing: bool) -> Array:
    """Put units (draws, K, ...) in another order; `summing` keeps the mean of every draw."""
    mean = front.mean(axis=1, keepdims=True) if summing else np.zeros(())
    size = front.shape[1]
    pool = (front - mean).reshape(-1, *front.shape[2:])[order].reshape(front.shape)
    if not summing:
        return pool
    apart = pool - pool.mean(axis=1, keepdims=True)
    reordered: Array = mean + apart * np.sqrt(size / (size - 1))
    return reordered


def _relabelled(problem: Problem, rng: np.random.Generator) -> tuple[Problem, dict[str, Element]]:
    """Give every draw a random permutation of its units, so that no start profits from labels."""
    elements: dict[str, Element] = {}
    arrays = dict(problem.arrays)
    for units, size in problem.resolved.sizes.items():
        index = rng.permuted(np.tile(np.arange(size), (problem.n_draws, 1)), axis=1)
        elements[units] = Monomial(index, np.ones(index.shape))
        for variable in problem.resolved.measured():
            for axis, name, _ in variable.unit_axes():
                if name == units:
                    whole = arrays[variable.name]
                    moved = take_units(variable.of(whole), index, axis)
                    arrays[variable.name] = variable.placed(whole, moved)
    return problem.of(arrays), elements


def _alike(element: Element) -> Array:
    """Share of the labels that one relabelling of all draws accounts for, by their present slot.

    Of rotations: share of the draws in which a unit keeps its largest part, and its sign, in its
    slot, after the one rotation of all draws that brings them nearest.
    """
    size = element.size
    if element.mixes:
        matrices = element.matrices()
        common = procrustes(matrices.mean(axis=0))
        rest = common.T @ matrices
        kept = np.abs(rest).argmax(axis=2) == np.arange(size)
        upright: Array = (kept & (np.einsum("tkk->tk", rest) > 0)).mean(axis=0)
        return upright
    counts = np.zeros((2, size, size))
    labels = element.labels()
    slots = np.broadcast_to(np.arange(size), labels.shape)
    np.add.at(counts, (labels % 2, slots, labels // 2), 1)
    best = counts.max(axis=0)
    index = assign(best[None])[0]
    shares = np.empty(size)
    shares[index] = best[np.arange(size), index] / len(labels)
    return shares
