"""A second opinion: which labels other criteria would give, and whose are the more probable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel.groups.elements import Element, Monomial, monomial
from relabel.matching.criteria import Criterion, Mean, Normal
from relabel.matching.descent import descend
from relabel.matching.features import Problem
from relabel.matching.sample import Sample, evenly
from relabel.matching.search import Elements, exact
from relabel.matching.solve import solve
from relabel.matching.task import Task

__all__ = ["Opinion", "second_opinions"]

Array = NDArray[Any]

_DRAWS = 400  # that are labelled again
_SHARE = 0.01  # of draws, labelled otherwise, that is worth saying


@dataclass(frozen=True)
class Opinion:
    """What another criterion says of some of the draws.

    Attributes
    ----------
    criterion : str
    n_draws : int
        Draws that were labelled again.
    differ : float
        Share of them with other labels, but for one relabelling of all.
    nats : float
        How much more probable a draw is, on average, under the labels of the alignment than under
        those of this criterion, by normals that are fitted within the slots of each.
    """

    criterion: str
    n_draws: int
    differ: float
    nats: float

    @property
    def matters(self) -> bool:
        """Whether it is worth saying."""
        return self.differ > _SHARE

    @property
    def sentence(self) -> str:
        """Say it."""
        if not self.matters:
            return f"criterion {self.criterion} gives the same labels"
        better = "those here" if self.nats >= 0 else f"those of {self.criterion}"
        return (
            f"criterion {self.criterion} labels {self.differ:.0%} of the draws otherwise; "
            f"{better} are the more probable, by {abs(self.nats):.2g} nats a draw"
        )


def second_opinions(
    problem: Problem, criterion: Criterion, elements: Mapping[str, Element]
) -> list[Opinion]:
    """Label a sample of the draws by other criteria, and compare.

    Parameters
    ----------
    problem : Problem
        The draws as features of their units.
    criterion : Criterion
        The criterion of the alignment.
    elements : mapping of str to Element
        Its elements, for all draws.

    Returns
    -------
    list of Opinion
        Empty where units rotate, for which labels are no permutations.
    """
    if any(group.rotates for group in problem.layout.groups.values()) or problem.n_draws < 2:
        return []
    rows = evenly(problem.n_draws, _DRAWS)
    sample = Sample.of(problem, rows)
    task = Task.of(sample, Normal(), None, None)
    own: Elements = {u: _bare(element[rows]) for u, element in elements.items()}
    loss = _loss(task, own)
    return [
        Opinion(
            other.name, len(rows), _differing(own, found), (_loss(task, found) - loss) / len(rows)
        )
        for other, found in _others(sample, criterion, own)
    ]


def _others(
    sample: Sample, criterion: Criterion, own: Elements
) -> Iterator[tuple[Criterion, Elements]]:
    """Yield other criteria and what they make of the sample.

    Sets of units that interact need a search, which is not done again: there each descends from
    the labels of the alignment.
    """
    for other in (Normal(), Mean()):
        if other.name == criterion.name:
            continue
        if exact(sample.layout):
            yield other, solve(sample, other, sample.draw(0)).elements
        else:
            task = Task.of(sample, other, None, None)
            state = replace(task.unmoved(), elements={u: g.copy() for u, g in own.items()})
            descend(task, state, None)
            yield other, state.elements


def _bare(element: Element) -> Monomial:
    """Return the permutation and the signs of an element, without its scales."""
    found = monomial(element)
    return Monomial(found.index, np.where(found.factor < 0, -1.0, 1.0))


def _loss(task: Task, elements: Elements) -> float:
    state = replace(task.unmoved(), elements=dict(elements))
    reference = task.reference_of(state, None)
    return task.total(task.compared(state, reference), reference)


def _differing(one: Elements, two: Elements) -> float:
    """Share of draws that differ by another element than most draws do."""
    parts = []
    for units, element in two.items():
        between = monomial(element) @ monomial(one[units]).inverse()
        parts += [between.index, (between.factor < 0).astype(np.intp)]
    rows = np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
    _, counts = np.unique(rows, axis=0, return_counts=True)
    return float(1 - counts.max() / len(rows))
