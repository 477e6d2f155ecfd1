"""A second opinion: which labels other criteria would give, and whose are the more probable."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel.alignment.evidence import Evidence
from relabel.groups.elements import monomial
from relabel.matching.criteria import Criterion, Mean, Normal
from relabel.matching.descent import descend
from relabel.matching.features import Source
from relabel.matching.search import Elements, exact
from relabel.matching.solve import solve
from relabel.matching.task import Task

__all__ = ["Opinion", "second_opinions"]

Array = NDArray[Any]

_SHARE = 0.01  # of draws, labelled otherwise, that is worth saying
_WORTH = 1.0  # nats for each draw labelled otherwise, by which labels have to be better


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
        those of this criterion.
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
    def better(self) -> bool:
        """Whether the labels of this criterion are others, and clearly the more probable."""
        return self.matters and self.nats < -_WORTH * self.differ

    def __str__(self) -> str:
        """Return a clause."""
        if not self.matters:
            return f"{self.criterion} gives the same labels"
        ours = "those here" if self.nats >= 0 else f"those of {self.criterion}"
        return (
            f"{self.criterion} labels {self.differ:.0%} of the draws otherwise; {ours} are the "
            f"more probable, by {abs(self.nats):.2g} nats a draw"
        )


def second_opinions(evidence: Evidence, criterion: Criterion) -> list[Opinion]:
    """Label some of the draws by other criteria, and compare.

    Parameters
    ----------
    evidence : Evidence
        The draws that are labelled again, and the labels of the alignment.
    criterion : Criterion
        The criterion of the alignment.
    """
    here, n_draws = evidence.nats(evidence.labels), evidence.problem.n_draws
    return [
        Opinion(name, n_draws, _differing(evidence.labels, found), evidence.nats(found) - here)
        for name, found in _others(evidence, criterion)
    ]


def _others(evidence: Evidence, criterion: Criterion) -> Iterator[tuple[str, Elements]]:
    """Yield other criteria and their labels."""
    others: list[tuple[str, Criterion, Source]] = [
        ("normal", Normal(), evidence.problem),
        ("normal with shared scales", Normal(scales="shared"), evidence.problem),
        ("mean", Mean(), evidence.draws.problem(Mean())),
    ]
    if evidence.allocating is not None and evidence.allocations is not None:
        others.append((evidence.allocating.name, evidence.allocating, evidence.allocations))
    for name, other, source in others:
        if other != criterion:
            yield name, _labelled(source, other, evidence.labels)


def _labelled(source: Source, criterion: Criterion, labels: Elements) -> Elements:
    """Label the draws by a criterion.

    Sets of units that interact need a search, which is not done again: there each descends from
    the labels of the alignment.
    """
    if exact(source.layout):
        return solve(source, criterion, source.draw(0)).elements
    task = Task.of(source, criterion, None, None)
    state = replace(task.unmoved(), elements={u: g.copy() for u, g in labels.items()})
    descend(task, state, None)
    return state.elements


def _differing(one: Elements, two: Elements) -> float:
    """Share of draws that differ by another element than most draws do."""
    parts = []
    for units, element in two.items():
        between = monomial(element) @ monomial(one[units]).inverse()
        parts += [between.index, (between.factor < 0).astype(np.intp)]
    rows = np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
    _, counts = np.unique(rows, axis=0, return_counts=True)
    return float(1 - counts.max() / len(rows))
