"""Matching and reference updates in turn, until nothing changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relabel.matching.criteria.base import Reference
from relabel.matching.jointly import match_jointly
from relabel.matching.others import match_to_others, unsure
from relabel.matching.search import ascend, exact, same
from relabel.matching.starts import Search, solvable
from relabel.matching.state import State
from relabel.matching.task import Task

__all__ = ["Descent", "descend"]

_MAX_SEARCHES = 5  # how often all starts are tried; more would go on for ever on diffuse draws


@dataclass
class Descent:
    """Where a descent ended.

    Attributes
    ----------
    reference : Reference
    losses : list of float
        Total loss after every sweep.
    converged : bool
        Whether the last sweep changed nothing.
    """

    reference: Reference
    losses: list[float]
    converged: bool


def descend(
    task: Task,
    state: State,
    reference: Reference | None,
    search: Search | None = None,
    *,
    leaving_out: bool = False,
) -> Descent:
    """Update the reference and match in turn until nothing changes; `state` is updated.

    Parameters
    ----------
    task : Task
    state : State
        Where to begin.
    reference : Reference, optional
        The last one, if there is any.
    search : Search, optional
        How to search all draws anew where the descent stands still; not at all by default.
    leaving_out : bool, default False
        Whether draws are matched to the mean of the others (:mod:`relabel.matching.others`) where
        the descent stands still, and before that, if there is a search, to one another
        (:mod:`relabel.matching.jointly`).

    Raises
    ------
    RuntimeError
        If the loss rises, which no criterion that says it is monotone may let happen.
    """
    losses: list[float] = []
    changed, searches, searching = True, 0, not exact(task.layout)
    jointly = search is not None
    most = task.criterion.max_sweeps if solvable(task.layout) else _MAX_SEARCHES
    while changed and len(losses) < task.criterion.max_sweeps:
        reference = task.reference_of(state, reference)
        changed, rounding = _ascend_all(task, state, reference)
        if leaving_out and not changed:
            rows = unsure(task, state, reference)
            if jointly:
                changed, jointly = match_jointly(task, state, reference, rows), False
            changed = changed or match_to_others(task, state, reference, rows)
            searching = searching and rows.size < task.source.n_draws
            if changed:
                reference = task.reference_of(state, reference)
                task.compared(state, reference)
        if search is not None and searching and not changed and searches < most:
            changed = search.run(task, state, reference)
            searches += 1
        losses.append(task.total(state, reference))
        if task.criterion.monotone:
            _check_falling(losses, rounding)
    assert reference is not None
    return Descent(reference, losses, not changed)


def _ascend_all(task: Task, state: State, reference: Reference) -> tuple[bool, float]:
    """Ascend from the present elements; whether any changed, and the rounding of the total loss."""
    changed, rounding = False, 0.0
    state.bound[:] = np.inf
    for rows, view in task.views(reference, "matching"):
        rounding += float(view.tolerance.sum())
        before = state.rows(rows)
        elements, gain = ascend(view, before)
        moved = ~same(elements, before)
        changed |= bool(moved.any())
        state.open[rows] |= moved
        state.put(rows, elements, gain)
    return changed, rounding


def _check_falling(losses: Sequence[float], rounding: float) -> None:
    """Check that the loss did not rise by more than rounding: both steps lower it or leave it."""
    if len(losses) > 1 and losses[-1] > losses[-2] + 1e-9 * abs(losses[-2]) + rounding:
        raise RuntimeError(f"the loss rose from {losses[-2]} to {losses[-1]}")
