"""One alignment: first reference, search, draws that follow, and their results joined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel._util.text import plain
from relabel.alignment.provenance import (
    stored_elements,
)
from relabel.data.provenance import Provenance
from relabel.errors import DataError, SpecError
from relabel.groups.elements import Element, Monomial, monomial
from relabel.matching.allocation_features import AllocationProblem
from relabel.matching.covariance_features import with_covariances
from relabel.matching.criteria import (
    Activations,
    Criterion,
    Mean,
    Permutations,
    ToReference,
)
from relabel.matching.criteria.base import Reference, Remarks
from relabel.matching.draws import Draws, log_density
from relabel.matching.features import ActivationProblem, Problem, Source
from relabel.matching.given_permutations import given_elements
from relabel.matching.probes import Probes
from relabel.matching.solve import Progress, Solution, rough_elements, solve
from relabel.models.network import all_outputs
from relabel.numerics.chains import flag_chains
from relabel.spec.spec import SAMPLE_DIMS, Bound

__all__ = ["Job"]

Array = NDArray[Any]
Data = TypeVar("Data")


_APART = "chains that have no part in the reference"


_PROBE_SWEEPS = 2  # a start need not be converged


#: A row of a problem; a reference that is kept; or None, the labels as they are.
_Start = tuple[Problem, int] | Reference | None


@dataclass(frozen=True)
class Job:
    """Everything :func:`solve` needs beside the draws."""

    groups: Mapping[str, xr.Dataset]
    criterion: Criterion
    probes: Probes | None
    search: dict[str, Any]
    progress: Progress | None
    exclude_flagged: bool

    def run(self, draws: Draws, flagged: Array) -> Solution:
        """Align the draws; those of flagged chains to the reference of the others."""
        if not flagged.any():
            return self._run(draws)
        away = np.broadcast_to(flagged[:, None], draws.excluded.shape)
        main = replace(draws, excluded=draws.excluded | away)
        rest = replace(draws, excluded=draws.excluded | ~away)
        leading = self._run(main)
        parts = [(main, leading), (rest, self.follow(rest, main, leading.reference, True))]
        return _joined(parts)

    def flagged(self, draws: Draws) -> Array:
        """Which chains are to be kept out of the reference: bool of shape (chain,)."""
        if not self.exclude_flagged:
            return np.zeros(len(draws.excluded), dtype=bool)
        lp = log_density(draws.groups)
        known = self.probes is not None and self.probes.where is not None
        if lp is None and not known:
            raise DataError(
                "exclude_flagged: chains are judged by their log density sample_stats/lp, or by "
                "their outputs at known inputs, and there is neither"
            )
        outputs = None
        if self.probes is not None and known:
            outputs = all_outputs(
                self.probes.network, draws.bound, draws.groups["posterior"], self.probes.points
            )
            outputs[draws.excluded] = np.nan
        if lp is not None:
            lp = np.where(draws.excluded, np.nan, lp)
        return ~flag_chains(lp, outputs).sound

    def _run(self, draws: Draws) -> Solution:
        """Align the draws that form the reference."""
        problem = draws.problem(self.criterion)
        if isinstance(self.criterion, Permutations):
            return self._carry_out(problem, draws, None)
        alike = _aligned_alike(self.groups, self.criterion, self.options)
        if self.criterion.max_sweeps > 0 and alike:
            return self._solve(problem, draws, None, self.criterion)
        to = self.criterion.first
        if isinstance(to, xr.Dataset):
            start = (_given(to, draws.bound, problem), 0)
            return self._solve(problem, draws, start, self.criterion)
        row = _first_row(draws, to, problem, self.criterion)
        if to == "medoid":
            assert isinstance(self.criterion, ToReference)
            middle = Mean(scale=self.criterion.scale, variables=self.criterion.variables)
            row = int(self._solve(problem, draws, (problem, row), middle).loss.argmin())
        return self._solve(problem, draws, (problem, row), self.criterion)

    @property
    def options(self) -> dict[str, Any]:
        """What the record keeps of the options."""
        where = self.probes.where if self.probes else None
        chosen = {"exclude_flagged": True} if self.exclude_flagged else {}
        return {"inputs": where} | self.search | chosen

    def follow(
        self, draws: Draws, leading: Draws, reference: Reference, same_arrays: bool = False
    ) -> Solution:
        """Align further draws to the reference of others, which may have more variables.

        Permutations that users give are those of these draws as well if the arrays are the same.
        """
        problem = draws.problem(self.criterion)
        if not (isinstance(self.criterion, Activations) or self.criterion.reads):
            layout = leading.problem(self.criterion).layout
            reference = reference.restricted(layout, problem.layout)
        if isinstance(self.criterion, Permutations) and same_arrays:
            return self._carry_out(problem, draws, reference)
        return self._solve(problem, draws, reference, self.criterion)

    def follow_warmup(self, warm: Draws, draws: Draws, solution: Solution) -> Solution:
        """Align the warm-up to the reference of the draws.

        Without allocations of its own it is matched to the mean of the aligned draws.
        """
        if self.criterion.found_in(warm.bound):
            return self.follow(warm, draws, solution.reference)
        job = replace(self, criterion=Mean())
        problem = draws.problem(job.criterion)
        given: dict[str, Element] = {}  # as matched: scales come from the gauge
        for units, element in solution.elements.items():
            index = monomial(element).index
            given[units] = Monomial(index, np.ones(index.shape))
        mean = solve(problem, job.criterion, None, given=given).reference
        result = job.follow(warm, draws, mean)
        told = (
            f"the warm-up has nothing that criterion {self.criterion.name} reads: its draws were "
            "matched to the mean of the aligned ones"
        )
        result.remarks.warnings.append(told)
        return result

    def _carry_out(self, problem: Problem, draws: Draws, reference: Reference | None) -> Solution:
        """Relabel by what the user gave."""
        assert isinstance(self.criterion, Permutations)
        given = given_elements(draws, self.criterion, self.groups)
        found = solve(problem, self.criterion, reference, given=dict(given), progress=self.progress)
        return _with_gauge(found, problem)

    def _solve(
        self, problem: Problem, draws: Draws, start: _Start, criterion: Criterion
    ) -> Solution:
        """Solve from a draw, from a reference, or from the labels as they are."""
        if criterion.reads:
            source: Source = AllocationProblem(draws, criterion, self.groups)
            first = source.draw(start[1]) if isinstance(start, tuple) else start
        else:
            by_activations = isinstance(criterion, Activations)
            view = self._seen if by_activations else self._as_compared
            source = view(problem)
            first = view(start[0]).draw(start[1]) if isinstance(start, tuple) else start
        found = solve(
            source,
            criterion,
            first,
            chain=draws.chain,
            known_starts=self._known_starts(problem, start, criterion),
            progress=self.progress,
            **self.search,
        )
        if not isinstance(start, Reference):
            found = _with_last(found, criterion.final_elements(found.reference, draws.bound))
        return _with_gauge(found, problem)

    def _known_starts(
        self, problem: Problem, start: _Start, criterion: Criterion
    ) -> dict[str, dict[str, Element]]:
        """Matching of activations, for deep networks whose forward pass is known."""
        if self.probes is None or not isinstance(start, tuple) or not problem.layout.coupled:
            return {}
        if criterion.reads or isinstance(criterion, Activations):
            return {}
        if not set(problem.layout.sizes) <= {layer.name for layer in self.probes.network.layers}:
            return {}  # units that are read and that nothing computes have no activations
        first = self._seen(start[0]).draw(start[1])
        rough = Activations(max_sweeps=_PROBE_SWEEPS)
        found = rough_elements(self._seen(problem), rough, first, self.progress)
        return {"activations" if self.probes.where else "probes": found}

    def _as_compared(self, problem: Problem) -> Source:
        """The draws as their criterion sees them."""
        return with_covariances(problem, self.criterion, self.groups)

    def _seen(self, problem: Problem) -> Source:
        """The draws through the activations of their units."""
        assert self.probes is not None
        return ActivationProblem(problem, self.probes.network, self.probes.points)


def _aligned_alike(
    groups: Mapping[str, xr.Dataset], criterion: Criterion, options: Mapping[str, Any]
) -> bool:
    """Whether these very draws were aligned before, by the same criterion and options.

    Draws of several alignments, put together, are not: their losses do not add up to the record's.
    Of inputs that were given as an array the record does not know which they were.
    """
    given = "'given'" in str(criterion.describe())
    if "relabel" not in groups or options["inputs"] == "given" or given:
        return False
    stored_elements(groups, "")
    earlier = Provenance.within(groups)
    same_options = all(earlier.options.get(key) == value for key, value in options.items())
    same_criterion = earlier.criterion == plain(criterion.describe())
    loss = groups["relabel"]["loss"].values
    same_draws = bool(
        np.isclose(np.nansum(loss), earlier.loss_of_draws or np.nan, rtol=1e-9, atol=0)
    )
    return same_options and bool(same_criterion) and same_draws


def _joined(parts: list[tuple[Draws, Solution]]) -> Solution:
    """Solutions of two sets of draws as one, in the order of all draws."""
    order = np.argsort(np.concatenate([part.rows for part, _ in parts]))
    first = parts[0][1]
    elements = {}
    for units in first.elements:
        both = [solution.elements[units] for _, solution in parts]
        arrays = zip(*(element.arrays for element in both), strict=True)
        elements[units] = type(both[0])(*(np.concatenate(a)[order] for a in arrays))
    apart = [text for _, solution in parts[1:] for text in solution.remarks.warnings]
    margin = {
        units: np.concatenate([solution.margin[units] for _, solution in parts])[order]
        for units in first.margin
    }
    return replace(
        first,
        elements=elements,
        margin=margin,
        loss=np.concatenate([solution.loss for _, solution in parts])[order],
        start=np.concatenate([solution.start for _, solution in parts])[order],
        losses=[*first.losses, sum(solution.losses[-1] for _, solution in parts)],
        loss_before=sum(solution.loss_before for _, solution in parts),
        remarks=Remarks(
            [*first.remarks.warnings, *(f"{_APART}: {text}" for text in apart)],
            {
                name: np.concatenate([s.remarks.variables[name] for _, s in parts])[order]
                for name in first.remarks.variables
            },
        ),
    )


def _with_gauge(solution: Solution, problem: Problem) -> Solution:
    """Compose what was matched with the gauge that was fixed before."""
    elements = dict(solution.elements)
    for units, rotation in problem.rotations.items():
        elements[units] = elements[units] @ rotation
    for units, scale in problem.scales.items():
        unmoved = Monomial.identity(elements[units].batch, elements[units].size)
        elements[units] = elements[units] @ Monomial(unmoved.index, scale)
    return replace(solution, elements=elements)


def _with_last(solution: Solution, last: Mapping[str, Element]) -> Solution:
    """Put one element on top of all draws alike, and on the reference."""
    if not last:
        return solution
    elements, own = dict(solution.elements), dict(solution.reference.own)
    for units, element in last.items():
        elements[units] = element @ elements[units]
        own[units] = element.act(own[units])
    return replace(solution, elements=elements, reference=replace(solution.reference, own=own))


def _first_row(draws: Draws, to: Any, problem: Problem, criterion: Criterion) -> int:
    """Row of the draw that serves as the first reference."""
    chosen = criterion.chosen_row(problem)
    if chosen is not None:
        return chosen
    posterior = draws.groups["posterior"]
    if isinstance(to, int):
        row = np.flatnonzero(draws.rows == to)
        if not row.size:
            raise SpecError(
                f"criterion {criterion.name}: there is no finite draw number {to}; there are "
                f"{draws.excluded.size} draws"
            )
        return int(row[0])
    if isinstance(to, Mapping):
        place = []
        for dim in SAMPLE_DIMS:
            index = posterior.indexes.get(dim)
            labels = list(range(posterior.sizes[dim])) if index is None else list(index)
            if to[dim] not in labels:
                raise SpecError(f"criterion {criterion.name}: there is no {dim} {to[dim]!r}")
            place.append(labels.index(to[dim]))
        row = np.flatnonzero(draws.rows == place[0] * posterior.sizes["draw"] + place[1])
        if not row.size:
            raise DataError(
                f"criterion {criterion.name}: the draw {dict(to)} is not finite, or its chain has "
                "no part in the reference"
            )
        return int(row[0])
    lp = log_density(draws.groups)
    if lp is not None and np.isfinite(lp.reshape(-1)[draws.rows]).any():
        return int(np.nanargmax(lp.reshape(-1)[draws.rows]))
    if to == "map":
        medoid = ", or use 'medoid'" if isinstance(criterion, ToReference) else ""
        raise DataError(
            f"criterion {criterion.name}: 'map' needs the log density sample_stats/lp of the same "
            f"draws, which is not there; name a draw by its chain and draw{medoid}"
        )
    return _central_row(draws, problem)


def _central_row(draws: Draws, problem: Problem) -> int:
    """The draw whose norms, variable by variable, are nearest to their medians."""
    norms = np.stack(
        [
            np.concatenate(
                [
                    (problem.array(variable, rows) ** 2).reshape(rows.stop - rows.start, -1).sum(1)
                    for rows in problem.slices
                ]
            )
            for variable in draws.bound.measured()
            if not variable.carried
        ]
    )
    distance = np.log(norms + np.finfo(float).tiny)
    distance -= np.median(distance, axis=1, keepdims=True)
    return int((distance**2).sum(axis=0).argmin())


def _given(point: xr.Dataset, bound: Bound, problem: Problem) -> Problem:
    """A given reference point, laid out as the draws are."""
    arrays = {}
    apart = not (problem.scales or bound.shifts or problem.layout.coupled)
    for variable in bound.measured():
        if variable.name not in point:
            if apart and variable not in problem.used:
                continue
            raise SpecError(
                f"criterion reference: the given point has no variable {variable.name!r}; it has "
                f"{', '.join(map(str, point.data_vars)) or 'none'}"
            )
        array = point[variable.name]
        array = array.squeeze([dim for dim in SAMPLE_DIMS if array.sizes.get(dim) == 1], drop=True)
        if set(variable.dims) == set(array.dims):
            array = array.transpose(*variable.dims)
        values = array.values
        shape = tuple(problem.arrays[variable.name].shape[1:])
        if values.shape != shape:
            raise SpecError(
                f"criterion reference: {variable.name!r} has the shape {values.shape} in the given "
                f"point; one draw has {shape}"
            )
        if not np.isfinite(values).all():
            raise DataError(f"criterion reference: {variable.name!r} is not finite")
        arrays[variable.name] = values.reshape(1, *shape)
    return Problem(
        bound, arrays, [v.name for v in problem.used], ways=problem.ways, spreads=problem.spreads
    )
