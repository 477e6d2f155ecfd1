"""Some of the draws, by which labels are judged: how probable the draws are under any labels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from relabel.groups.elements import Element, Monomial, monomial
from relabel.matching.allocation_features import AllocationProblem
from relabel.matching.criteria import Criterion, Normal
from relabel.matching.criteria.base import Reference
from relabel.matching.criteria.ecr import allocated
from relabel.matching.criteria.stephens import aligned_sum
from relabel.matching.draws import Draws
from relabel.matching.features import Block, Problem, Source
from relabel.matching.sample import evenly
from relabel.matching.search import Elements
from relabel.matching.task import Task

__all__ = ["Evidence"]

Array = NDArray[Any]

_MOST, _LEAST = 400, 50  # draws that are looked at
_NUMBERS = 4_000_000  # of all of them


@dataclass(frozen=True)
class Evidence:
    """Evenly spaced draws of every chain, as parameters and as allocations.

    Attributes
    ----------
    draws : Draws
        These draws.
    problem : Problem
        Their parameters, as normals compare them.
    labels : dict of str to Monomial
        The labels that are judged, without scales.
    allocations : Source, optional
        What `allocating` compares of the same draws.
    allocating : Criterion, optional
        The criterion that compares allocations or their probabilities.
    """

    draws: Draws
    problem: Problem
    labels: Elements
    allocations: Source | None = None
    allocating: Criterion | None = None

    @classmethod
    def of(
        cls, draws: Draws, elements: Mapping[str, Element], allocating: Criterion | None
    ) -> Evidence | None:
        """Choose draws; None where labels are no permutations, or there is nothing to judge by.

        Parameters
        ----------
        draws : Draws
            All draws that were aligned.
        elements : mapping of str to Element
            Their elements.
        allocating : Criterion, optional
            The criterion that compares their allocations, where there are any.
        """
        rotated = any(draws.resolved.group(units).rotates for units in draws.resolved.sizes)
        if rotated or not draws.resolved.measured():
            return None
        some, rows = _some_of(draws)
        if rows.size < 2:
            return None
        problem = some.problem(Normal())
        labels: Elements = {units: _bare(element[rows]) for units, element in elements.items()}
        if allocating is None:
            return cls(some, problem, labels)
        return cls(some, problem, labels, AllocationProblem(some, allocating), allocating)

    def nats(self, labels: Elements) -> float:
        """Return minus the log density of a draw, on average, where it is labelled like this.

        Parameters are modelled by normals within slots, allocations by the frequencies of the
        slots for each observation; both are fitted to these labels.
        """
        task = Task.of(self.problem, Normal(), None, None)
        total, _ = _loss(task, labels)
        if self.allocations is not None:
            (element,) = labels.values()
            total += _of_allocations(self.allocations, monomial(element))
        return total / self.problem.n_draws

    def fitted(self) -> tuple[Reference, Task]:
        """Return the normals that were fitted within the slots."""
        task = Task.of(self.problem, Normal(), None, None)
        return _loss(task, self.labels)[1], task


def _some_of(draws: Draws) -> tuple[Draws, Array]:
    """Return evenly spaced draws of evenly spaced chains, and their rows among all draws."""
    n_chains, n_draws = draws.excluded.shape
    numbers = sum(math.prod(variable.shape) for variable in draws.resolved.measured())
    most = max(_LEAST, min(_MOST, _NUMBERS // max(1, numbers)))
    chains = evenly(n_chains, most)
    places = evenly(n_draws, max(1, most // len(chains)))
    some = draws.thinned(chains, places, Normal())
    whole = (chains[:, None] * n_draws + places).ravel()[some.rows]
    return some, np.searchsorted(draws.rows, whole)


def _bare(element: Element) -> Monomial:
    """Return the permutation and the signs of an element, without its scales."""
    found = monomial(element)
    return Monomial(found.index, np.where(found.factor < 0, -1.0, 1.0))


def _loss(task: Task, labels: Elements) -> tuple[float, Reference]:
    """Return the loss under normals that are fitted to these labels, and these normals."""
    state = replace(task.unmoved(), elements=dict(labels))
    reference = task.reference_of(state, None)
    return task.total(task.compared(state, reference), reference), reference


def _of_allocations(source: Source, element: Monomial) -> float:
    r"""Return minus the log probability of all allocations, :math:`-\sum C_{ik} \log(C_{ik}/n)`.

    :math:`C_{ik}` is how often observation *i* was in slot *k* (or the sum of its probabilities).
    """
    parts = (_counted(source.block(i), element[rows]) for i, rows in enumerate(source.slices))
    counts = reduce(np.add, parts)
    totals = counts.sum(axis=1)
    return float(xlogy(totals, totals).sum() - xlogy(counts, counts).sum())


def _counted(block: Block, element: Monomial) -> Array:
    """Add up what the observations of a block tell of each slot, shape (n, K)."""
    if "z" in block.beside:
        return allocated(block.beside["z"], element)
    prob = np.nan_to_num(block.beside["prob"])
    return aligned_sum(prob, element, np.ones(prob.shape[:2])).T
