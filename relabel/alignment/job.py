"""One alignment: draws that lead form the reference, others follow it, and they are joined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel._util.progress import Report
from relabel.alignment.references import Start, start_of
from relabel.groups.elements import Dense, Element, Monomial, monomial
from relabel.matching.criteria import Activations, Criterion, Mean, Normal, Remarks
from relabel.matching.draws import Draws
from relabel.matching.features import ActivationProblem, Problem, Source
from relabel.matching.probes import Probes
from relabel.matching.solve import Solution, rough_elements, solve

__all__ = ["Job"]

Array = NDArray[Any]

_APART = "chains that have no part in the reference"
_MOST_TURNS = 20  # of draws with several rotations to one gauge
_PROBE_SWEEPS = 2  # a start need not be converged


@dataclass(frozen=True)
class Job:
    """Everything :func:`relabel.matching.solve.solve` needs beside the draws.

    Attributes
    ----------
    criterion : Criterion
    probes : Probes, optional
        The network and the points at which its units are compared.
    search : dict
        Options of the search.
    report : callable, optional
        Called with the name of a stage, the blocks done and the number of blocks.
    """

    criterion: Criterion
    probes: Probes | None
    search: dict[str, Any]
    report: Report | None = None

    def run(self, draws: Draws, apart: Array | None = None, as_before: bool = False) -> Solution:
        """Align the draws; those of chains that are `apart` to the reference of the others.

        Parameters
        ----------
        draws : Draws
        apart : ndarray of bool, shape (chain,), optional
            Chains that have no part in the reference.
        as_before : bool, default False
            Whether the draws were aligned in this very way before: then they are refined from the
            labels they have.
        """
        if apart is None or not apart.any():
            return self._lead(draws, as_before)
        main, rest = draws.split(apart)
        leading = self._lead(main, as_before)
        following = self.follow(rest, leading, given=self.criterion.given(rest))
        return _joined([(main, leading), (rest, following)])

    def follow(
        self, draws: Draws, leading: Solution, given: Mapping[str, Element] | None = None
    ) -> Solution:
        """Align further draws to the reference of others, which may have more variables.

        Elements that are `given` are kept.
        """
        problem = draws.problem(self.criterion)
        source = self.criterion.source(problem, draws, self.probes)
        reference = leading.reference.restricted(leading.layout, source.layout)
        found = solve(
            source,
            self.criterion,
            reference,
            given=given,
            chain=draws.chain,
            progress=self.report,
            **self.search,
        )
        return _with_gauge(found, problem)

    def follow_warmup(self, warm: Draws, draws: Draws, solution: Solution) -> Solution:
        """Align the warm-up to the reference of the draws.

        Without allocations of its own it is matched to the mean of the aligned draws.
        """
        warm = replace(warm, unconstrained=draws.unconstrained)
        if self.criterion.found_in(warm.resolved):
            return self.follow(warm, solution)
        job = replace(self, criterion=Mean())
        matched: dict[str, Element] = {}  # without scales, which come from the gauge
        for units, element in solution.elements.items():
            index = monomial(element).index
            matched[units] = Monomial(index, np.ones(index.shape))
        leading = solve(draws.problem(job.criterion), job.criterion, None, given=matched)
        result = job.follow(warm, leading)
        result.remarks.warnings.append(
            f"the warm-up has nothing that criterion {self.criterion.name} reads: its draws were "
            "matched to the mean of the aligned ones"
        )
        return result

    def _lead(self, draws: Draws, as_before: bool) -> Solution:
        """Align the draws that form the reference."""
        problem = draws.problem(self.criterion)
        given = self.criterion.given(draws)
        if given is not None:
            source = self.criterion.source(problem, draws, self.probes)
            found = solve(source, self.criterion, None, given=given, progress=self.report)
            return _with_gauge(found, problem)
        if as_before and self.criterion.max_sweeps > 0:
            return self._match(draws, problem, None, self.criterion)
        start = start_of(draws, problem, self.criterion)
        first = self.criterion.first_reference
        if isinstance(first, str) and first == "medoid":
            middle = self.criterion.for_features() or Normal()
            loss = self._match(draws, problem, start, middle).loss
            start = Start(problem, int(loss.argmin()))
        return self._match(draws, problem, start, self.criterion)

    def _match(
        self, draws: Draws, problem: Problem, start: Start | None, criterion: Criterion
    ) -> Solution:
        """Solve from a draw or a point, or from the labels as they are (None)."""
        source, first = criterion.source(problem, draws, self.probes), None
        if start is not None:
            own = start.problem is problem
            seen = source if own else criterion.source(start.problem, draws, self.probes)
            first = seen.draw(start.row)
        found = solve(
            source,
            criterion,
            first,
            chain=draws.chain,
            known_starts=self._known_starts(source, problem, start),
            progress=self.report,
            **self.search,
        )
        problem, found = self._turned(draws, problem, found, criterion)
        last = criterion.final_elements(found.reference, draws.resolved)
        return _with_gauge(_with_last(found, last), problem)

    def _turned(
        self, draws: Draws, problem: Problem, found: Solution, criterion: Criterion
    ) -> tuple[Problem, Solution]:
        """Rotate draws otherwise as long as that brings them nearer to the reference."""
        for _ in range(_MOST_TURNS):
            source = criterion.source(problem, draws, self.probes)
            turns = criterion.turned(source, found.reference, found.elements)
            if not any(turn.moves().any() for turn in turns.values()):
                break
            rotations = {
                u: Dense((turn @ found.elements[u] @ problem.rotations[u]).matrices())
                for u, turn in turns.items()
            }
            problem = problem.turned(rotations)
            source = criterion.source(problem, draws, self.probes)
            fresh = solve(
                source, criterion, None, chain=draws.chain, progress=self.report, **self.search
            )
            found = replace(
                fresh, losses=[*found.losses, *fresh.losses], loss_before=found.loss_before
            )
        return problem, found

    def _known_starts(
        self, source: Source, problem: Problem, start: Start | None
    ) -> dict[str, dict[str, Element]]:
        """Match activations, as a start for deep networks whose forward pass is known."""
        if self.probes is None or start is None or not source.layout.coupled:
            return {}
        network, points = self.probes.network, self.probes.points
        if not set(problem.layout.sizes) <= {layer.name for layer in network.layers}:
            return {}  # units that are read and that nothing computes have no activations
        if not all(np.isfinite(values).all() for values in problem.arrays.values()):
            return {}  # weights that are not compared may hold anything
        first = ActivationProblem(start.problem, network, points).draw(start.row)
        rough = Activations(max_sweeps=_PROBE_SWEEPS)
        seen = ActivationProblem(problem, network, points)
        found = rough_elements(seen, rough, first, self.report)
        return {"activations" if self.probes.where else "probes": found}


def _joined(parts: list[tuple[Draws, Solution]]) -> Solution:
    """Join the solutions of two sets of draws, in the order of all draws."""
    order = np.argsort(np.concatenate([part.rows for part, _ in parts]))
    solutions = [solution for _, solution in parts]
    first, *others = solutions

    def joined(arrays: list[Array]) -> Array:
        return np.concatenate(arrays)[order]

    elements: dict[str, Element] = {}
    for units, element in first.elements.items():
        arrays = zip(*(solution.elements[units].arrays for solution in solutions), strict=True)
        elements[units] = type(element)(*(joined(list(a)) for a in arrays))
    warnings = [f"{_APART}: {text}" for other in others for text in other.remarks.warnings]
    variables = {
        name: joined([solution.remarks.values[name] for solution in solutions])
        for name in first.remarks.values
    }
    return replace(
        first,
        elements=elements,
        margin={u: joined([solution.margin[u] for solution in solutions]) for u in first.margin},
        loss=joined([solution.loss for solution in solutions]),
        start=joined([solution.start for solution in solutions]),
        gap=joined([solution.gap for solution in solutions]),
        losses=[*first.losses, sum(solution.losses[-1] for solution in solutions)],
        loss_before=sum(solution.loss_before for solution in solutions),
        remarks=Remarks([*first.remarks.warnings, *warnings], variables),
    )


def _with_gauge(solution: Solution, problem: Problem) -> Solution:
    """Compose the matched elements with the gauge that was fixed before."""
    elements = dict(solution.elements)
    for units, rotation in problem.rotations.items():
        elements[units] = elements[units] @ rotation
    for units, scale in problem.scales.items():
        unmoved = Monomial.identity(elements[units].batch, elements[units].size)
        elements[units] = elements[units] @ Monomial(unmoved.index, scale)
    return replace(solution, elements=elements)


def _with_last(solution: Solution, last: Mapping[str, Element]) -> Solution:
    """Put one element on top of those of all draws alike, and on the reference."""
    if not last:
        return solution
    elements, own = dict(solution.elements), dict(solution.reference.own)
    for units, element in last.items():
        elements[units] = element @ elements[units]
        own[units] = element.act(own[units])
    return replace(solution, elements=elements, reference=replace(solution.reference, own=own))
