"""The loop: match every draw to the reference, add up statistics, form the reference anew.

Several sets of units that share variables (deep networks) are solved by coordinate ascent over the
sets, which is only as good as its start. Every draw is therefore solved from several starts and
keeps the best by its own loss. Nothing here depends on how draws are cut into blocks, but for units
that tie exactly (duplicates, zeros), where the last bits of a sum decide.

The parts: :mod:`relabel.matching.task` (draws and criterion), :mod:`relabel.matching.starts`
(search from many starts), :mod:`relabel.matching.descent` (matching and updates in turn),
:mod:`relabel.matching.jointly` and :mod:`relabel.matching.others` (draws that the mean, which holds
them, holds where they are).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel._util.progress import Report
from relabel.matching.criteria.base import Criterion, Reference
from relabel.matching.descent import descend
from relabel.matching.features import Block, Source
from relabel.matching.first_references import best_begin
from relabel.matching.search import TOLERANCE, Elements, same
from relabel.matching.starts import Search
from relabel.matching.state import STARTS, Solution, State
from relabel.matching.task import Task

__all__ = ["STARTS", "Solution", "rough_elements", "solve"]

Array = NDArray[Any]


def solve(
    source: Source,
    criterion: Criterion,
    first: Block | Reference | None,
    *,
    given: Mapping[str, Any] | None = None,
    chain: Array | None = None,
    known_starts: Mapping[str, Elements] | None = None,
    n_first: int = 1,
    n_random: int = 0,
    n_perturbations: int = 30,
    certify: bool = False,
    rng: int = 0,
    progress: Report | None = None,
) -> Solution:
    r"""Align all draws: match, add up, form the reference anew, until the loss stands still.

    Parameters
    ----------
    source : Source
        The features of all draws.
    criterion : Criterion
        Its score is maximised.
    first : Block or Reference
        One draw (or given point): the first reference, or the only one if the criterion keeps it.
        A Reference is kept. None starts from the labels as they are, with the reference that fits
        these best, and tries no other starts: for draws that were aligned before.
    given : dict of str to Element, optional
        Elements that are kept as they are; only their losses and margins are computed, under the
        reference that fits them best, or under `first` if that is a Reference.
    chain : ndarray of int, shape (draws,), optional
        Which chain each draw belongs to; draws of one chain try each other's labellings.
    known_starts : mapping of str to elements, optional
        Further starts by name (a matching of activations).
    n_first : int, default 1
        Number of draws that are tried as the first reference: `first`, and others at random;
        those of a smaller number are among those of a larger one.
    n_random : int, default 0
        Random starts per draw.
    n_perturbations : int, default 30
        Rounds of iterated local search on draws whose starts disagree.
    certify : bool, default False
        Whether to spend more on bounds of the losses.
    rng : int, default 0
        Seed of the random starts and of the perturbations.
    progress : callable, optional
        Called with a stage's name, the blocks done and the number of blocks.

    Returns
    -------
    Solution

    Raises
    ------
    RuntimeError
        If the loss rises from one sweep to the next, though the criterion says it never does.

    Notes
    -----
    Several sets of units: where one small set touches all pairs, its elements are all tried. Where
    the sets are joined without a cycle and each can be listed, the joint optimum is found by
    passing messages (:mod:`relabel.matching.layers`). Both make every draw globally optimal
    under the reference. Elsewhere a draw's labelling is a local optimum over single sets, the best
    that any start led to; draws whose starts disagree are also begun from the relaxed problem of
    all sets (:mod:`relabel.matching.joint`), and perturbed (a few units of one set exchanged at
    random, the others matched anew), which is iterated local search. All draws are searched anew
    whenever the descent stands still. Units on both sides of an array: see
    :mod:`relabel.matching.quadratic`. How far a loss may be above the lowest one:
    :mod:`relabel.matching.certificate`.

    References
    ----------
    Lourenço, H. R., Martin, O. C. & Stützle, T. (2003). Iterated local search. *Handbook of
    Metaheuristics*, 320-353. https://doi.org/10.1007/0-306-48056-5_11
    """
    task = replace(Task.of(source, criterion, first, progress), certify=certify)
    first = task.seen(first) if isinstance(first, Block) else first
    if given is not None:
        return _kept(task, dict(given), first)
    search = Search(chain, dict(known_starts or {}), n_random, n_perturbations, rng)
    return _solved(task, search, first, n_first)


def rough_elements(
    source: Source, criterion: Criterion, first: Block, progress: Report | None = None
) -> Elements:
    """Align all draws without any of the searches and checks of :func:`solve`: for use as a start.

    Parameters
    ----------
    source, criterion, progress
        As in :func:`solve`.
    first : Block
        The first reference.

    Returns
    -------
    dict of str to Element
    """
    task = Task.of(source, criterion, first, progress)
    first = task.seen(first)
    state, reference = task.unmoved(), task.reference_at(first)
    Search().run(task, state, reference, thorough=False)
    descend(task, state, reference)
    return state.elements


def _kept(task: Task, elements: Elements, first: Block | Reference | None) -> Solution:
    """Keep the elements, and compute their losses and margins."""
    state, unmoved = replace(task.unmoved(), elements=elements), task.unmoved()
    if isinstance(first, Reference):
        reference = own = first
    else:
        reference, own = (task.reference_of(labels, None) for labels in (state, unmoved))
    before = task.total(task.compared(unmoved, own), own)
    losses = [task.total(task.compared(state, reference), reference)]
    return task.solution(state, reference, losses, before, best=False)


def _solved(
    task: Task, search: Search, first: Block | Reference | None, n_first: int = 1
) -> Solution:
    """Go from the first reference to the last; of several first references, the best."""
    if not isinstance(first, Reference):
        first = task.criterion.only_reference(task.source, first) or first
    if isinstance(first, Reference):
        return _matched(task, search, task.unmoved(), first)
    if first is None:
        return _refined(task, task.unmoved(), None, None)
    firsts: list[Block | None] = []
    for start in task.criterion.starts:
        more = _other_draws(task, n_first, search.rng)
        firsts += [first, *more] if start == "draw" else [None]
    if task.criterion.tries_starts:
        begin = best_begin(task, search, [one for one in firsts if one is not None])
        state = task.unmoved()
        search.run(task, state, begin.reference, thorough=False)
        found = _refined(task, state, begin.reference, search)
        return replace(found, begin=begin.name)
    solutions = (
        _refined(task, task.unmoved(), None, None) if one is None else _from_draw(task, search, one)
        for one in firsts
    )
    return min(solutions, key=lambda solution: solution.losses[-1])


def _other_draws(task: Task, n_first: int, seed: int) -> list[Block]:
    """Choose draws at random to try as first references, where the first does not stay."""
    criterion, n_draws = task.criterion, task.source.n_draws
    if n_first < 2 or (criterion.max_sweeps == 0 and criterion.initial() is None):
        return []
    rng = np.random.default_rng(seed)
    rows = rng.permutation(n_draws)[: n_first - 1]  # so that more of them are never worse
    return [task.source.draw(int(row)) for row in rows]


def _from_draw(task: Task, search: Search, first: Block) -> Solution:
    """Start from one draw."""
    state, initial = task.unmoved(), task.criterion.initial()
    if initial is not None:
        begin = _solved(task.afresh(initial), search, first)
        state.elements, state.start = begin.elements, begin.start
        return _refined(task, state, None, search)
    reference = task.reference_at(first)
    if task.criterion.max_sweeps == 0:
        return _matched(task, search, state, reference)
    search.run(task, state, reference, thorough=False)
    return _refined(task, state, reference, search)


def _matched(task: Task, search: Search, state: State, reference: Reference) -> Solution:
    """Match once: the reference stays."""
    before = task.total(task.compared(task.unmoved(), reference), reference)
    picked = task.criterion.pick(task.source, reference)
    if picked is None:
        search.run(task, state, reference)
    else:
        state.elements = dict(picked)
        task.compared(state, reference)
    losses = [task.total(state, reference)]
    return task.solution(state, reference, losses, before, best=picked is None)


def _refined(
    task: Task, state: State, reference: Reference | None, search: Search | None
) -> Solution:
    """Descend; descend from the labels as they are instead, where these are not worse."""
    found = descend(task, state, reference, search, leaving_out=True)
    losses, unmoved = found.losses, task.unmoved()
    own = task.reference_of(unmoved, found.reference)
    before = task.total(task.compared(unmoved, own), own)
    moved = not bool(same(state.elements, unmoved.elements).all())
    if moved and before <= losses[-1] + TOLERANCE * abs(losses[-1]):
        state = unmoved
        found = descend(task, state, own, search, leaving_out=True)
        losses += found.losses
    return task.solution(state, found.reference, losses, before, found.converged)
