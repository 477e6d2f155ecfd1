"""The main job: align, undo and apply, ArviZ data in and the same kind of ArviZ data out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.allocated import AllocationProblem, located, with_labels
from relabel.companions import with_covariances
from relabel.containers import pack, sharing, unpack
from relabel.criteria import (
    Activations,
    Criterion,
    Mean,
    Permutations,
    ToReference,
    criterion_of,
)
from relabel.criteria.base import Reference, Remarks
from relabel.diagnostics.chains import flag_chains
from relabel.diagnostics.comparison import all_outputs
from relabel.draws import Draws, log_density
from relabel.elements import Element, Monomial, monomial
from relabel.errors import DataError, SpecError
from relabel.features import ActivationProblem, Problem, Source
from relabel.groups import group_of
from relabel.permutations import given_elements
from relabel.probes import Probes, find_probes
from relabel.record import (
    check_same_draws,
    found_variables,
    provenance_of,
    refuse_reduced,
    stored_elements,
)
from relabel.solve import Progress, Solution, rough_elements, solve
from relabel.spec import SAMPLE_DIMS, Bound, Spec
from relabel.transformation import Transformation

__all__ = ["align", "apply", "provenance", "relabelled", "spec_of", "undo"]

Array = NDArray[Any]
Data = TypeVar("Data")

_APART = "chains that have no part in the reference"
_PROBE_SWEEPS = 2  # a start need not be converged


def align(
    data: Data,
    spec: Spec | Mapping[str, str],
    *,
    criterion: Criterion | str | None = None,
    inputs: Array | str | None = "auto",
    nonfinite: Literal["raise", "skip"] = "raise",
    exclude_flagged: bool = False,
    n_first: int = 1,
    n_random: int = 0,
    n_kicks: int = 30,
    seed: int = 0,
    progress: Progress | None = None,
) -> Data:
    r"""Relabel every draw so that all of them sit in one reference mode.

    For each draw *t* the element :math:`g_t` of the model's symmetry group is found that brings
    it nearest to the reference; which distance, and which reference, is the criterion's choice.
    One set of units is solved exactly (a linear assignment); several sets by coordinate ascent
    from many starts, of which the best is kept.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset
        Draws with the dimensions chain and draw. Dask-backed variables stay lazy in the result.
    spec : Spec, or mapping of str to str
        Units and axes; a mapping is the dims-only form, as in ``{"hidden": "tanh"}``, where
        integers in the group ``allocation`` that name the units are their labels.
    criterion : Criterion or str, optional
        As an object, or by its name where all options stay as they are; :class:`relabel.Mean` by
        default. One that compares allocations or probabilities finds them where there is only one
        variable of them.
    inputs : ndarray of shape (n, n_inputs), str or None, default "auto"
        Inputs at which units are compared by their activations, a start that deep networks need:
        an array, the address of a variable (``"constant_data/X"``), None for none (the start then
        compares units on standard normal points; the loss decides as always), or ``"auto"``
        for the only variable of constant_data that fits, if it is the only one.
    nonfinite : {"raise", "skip"}
        What to do with draws that hold NaN or infinities: refuse them, or leave them out, as they
        are and marked in ``relabel/excluded``.
    exclude_flagged : bool, default False
        Whether chains that sit in other modes, judged by `lp` (and by outputs, where inputs are
        known), have no part in the reference. They are aligned to it all the same.
    n_first : int, default 1
        Number of draws that are tried as the first reference: the usual one, and others at random.
        The descent that ends with the lowest loss is kept. More of them help where an iterated
        mean has several local optima; each costs a whole alignment.
    n_random : int, default 0
        Random starts per draw, for networks with several hidden layers.
    n_kicks : int, default 30
        Rounds of iterated local search on draws whose starts disagree, likewise.
    seed : int, default 0
        Seed of the random starts, the kicks and the probe inputs.
    progress : callable, optional
        Called with the name of a stage, the blocks done and the number of blocks.

    Returns
    -------
    Same type as `data`
        With every variable that carries units relabelled, in all groups that share the draws, and
        a group ``relabel`` (in a Dataset: variables ``relabel_*``):

        ====================  ======================  ==================================
        ``{units}_index``     chain, draw, {units}    slot *k* holds the unit ``index[k]``
        ``{units}_factor``    chain, draw, {units}    what multiplied it
        ``{units}_rotation``  …, {units}, {units}_unit  instead of both, of units that rotate
        ``{variable}_offset`` chain, draw, …          what was subtracted, over a centred axis
        ``{units}_margin``    chain, draw, {units}    gain over the best that changes the slot
        ``loss``              chain, draw             loss of the aligned draw
        ``start``             chain, draw             which start won
        ====================  ======================  ==================================

        and the attribute ``relabel``, JSON text with spec, criterion, losses and warnings. Draws
        that were aligned before compose: the group tells the way from the original draws.

    Raises
    ------
    SpecError
        If the spec or an option does not fit the draws.
    DataError
        If the draws cannot be used: none, not finite, of a dtype that cannot hold the result.

    See Also
    --------
    undo : The way back.

    Notes
    -----
    Permutations, and flips of odd or even units, preserve likelihood and exchangeable, symmetric
    priors, so a relabelled draw is a draw of the same posterior. Scales (ReLU) and affine flips
    (sigmoid) preserve the likelihood only: the result is a section of the orbit. So do rotations
    of factors, unless the prior is isotropic over factors.

    References
    ----------
    Stephens, M. (2000). Dealing with label switching in mixture models. *Journal of the Royal
    Statistical Society B* 62(4), 795-809. https://doi.org/10.1111/1467-9868.00265

    Examples
    --------
    >>> import numpy as np, xarray as xr, relabel
    >>> mu = np.array([[[0.0, 5.0], [5.1, 0.1], [-0.1, 4.9]]])
    >>> draws = xr.Dataset({"mu": (("chain", "draw", "component"), mu)})
    >>> aligned = relabel.align(draws, {"component": "permutation"})
    >>> aligned["mu"].values[0]
    array([[ 0. ,  5. ],
           [ 0.1,  5.1],
           [-0.1,  4.9]])
    >>> bool((relabel.undo(aligned)["mu"] == draws["mu"]).all())
    True
    """
    spec = spec_of(spec)
    if isinstance(criterion, str):
        criterion = criterion_of(criterion)
    criterion = Mean() if criterion is None else criterion
    _check_options(criterion, n_first=n_first, n_random=n_random, n_kicks=n_kicks, seed=seed)
    groups = unpack(data)
    if "relabel" in groups:
        stored_elements(groups, "")
        refuse_reduced(groups)
    spec = _as_before(spec, groups)
    criterion = located(criterion, spec, sharing(groups))
    spec = with_labels(spec, criterion, sharing(groups))
    draws = Draws.read(sharing(groups), spec, nonfinite)
    criterion = criterion.resolved(draws.bound)
    criterion.check_rotations(draws.bound)
    probes = find_probes(draws.bound, groups, inputs, criterion, seed)
    search = {"n_random": n_random, "n_kicks": n_kicks, "seed": seed}
    search |= {"n_first": n_first} if n_first > 1 else {}
    job = _Job(groups, criterion, probes, search, progress, exclude_flagged)
    flagged = job.flagged(draws)
    solution = job.run(draws, flagged)
    found = {"": (draws, solution)}
    warmup = sharing(groups, "warmup_")
    if warmup:
        warm = Draws.read(warmup, spec.present_in(warmup), nonfinite)
        found["warmup_"] = (warm, job.follow_warmup(warm, draws, solution))
    changed: dict[str, xr.Dataset | None] = {}
    for prefix, (part, result) in found.items():
        notes = provenance_of(part, result, criterion, job.options)
        if exclude_flagged:
            notes["no_part_in_reference"] = np.flatnonzero(flagged).tolist()
        own = found_variables(part, result)
        changed |= _transformed(groups, prefix, part.bound, part.transformation(result), own, notes)
    return pack(data, changed)


def undo(data: Data) -> Data:
    """Return the draws as they were before any alignment.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset
        Aligned draws: there must be a group ``relabel``.

    Returns
    -------
    Same type as `data`
        Bit for bit the original values where elements are permutations and signs; up to rounding
        where they scale or shift. The group ``relabel`` is gone.

    Raises
    ------
    DataError
        If the draws were not aligned, or the record of it is damaged.

    Examples
    --------
    >>> import numpy as np, xarray as xr, relabel
    >>> mu = np.array([[[0.0, 5.0], [5.1, 0.1], [-0.1, 4.9]]])
    >>> draws = xr.Dataset({"mu": (("chain", "draw", "component"), mu)})
    >>> aligned = relabel.align(draws, {"component": "permutation"})
    >>> relabel.undo(aligned).identical(draws)
    True
    """
    groups = unpack(data)
    stored_elements(groups, "")
    refuse_reduced(groups)
    changed: dict[str, xr.Dataset | None] = {}
    for prefix in ("", "warmup_"):
        if f"{prefix}relabel" in groups:
            spec, done = stored_elements(groups, prefix)
            shared = sharing(groups, prefix)
            fresh = done.inverse().apply(shared, spec.present_in(shared).bind(shared))
            changed |= {f"{prefix}{g}": ds for g, ds in fresh.items() if ds is not shared[g]}
            changed[f"{prefix}relabel"] = None
    return pack(data, changed)


def apply(data: Data, aligned: Any, *, spec: Spec | Mapping[str, str] | None = None) -> Data:
    """Relabel other data that share the draws, as `aligned` was relabelled.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset
        Draws in their original labels, of the same chains and draws as `aligned`.
    aligned : InferenceData, DataTree or Dataset
        What :func:`align` returned.
    spec : Spec, or mapping of str to str, optional
        The axes of the variables of `data`, if they are not those of `aligned`; the units must be
        the same. A mapping is the dims-only form, which is also taken where `data` has no variable
        of `aligned` that carries units.

    Returns
    -------
    Same type as `data`
        With the group ``relabel`` of `aligned`, so that :func:`undo` works.

    Raises
    ------
    DataError, SpecError
        If `aligned` was not aligned, if `data` has other draws, or if `data` was aligned already.

    Examples
    --------
    >>> import numpy as np, xarray as xr, relabel
    >>> sample = ("chain", "draw")
    >>> mu = np.array([[[0.0, 5.0], [5.1, 0.1], [-0.1, 4.9]]])
    >>> draws = xr.Dataset({"mu": ((*sample, "component"), mu)})
    >>> aligned = relabel.align(draws, {"component": "permutation"})
    >>> w = np.array([[[0.2, 0.8], [0.7, 0.3], [0.3, 0.7]]])
    >>> weights = xr.Dataset({"w": ((*sample, "component"), w)})
    >>> relabel.apply(weights, aligned)["w"].values[0]
    array([[0.2, 0.8],
           [0.3, 0.7],
           [0.3, 0.7]])
    """
    groups, source = unpack(data), unpack(aligned)
    spec = None if spec is None else spec_of(spec)
    if "relabel" in groups:
        raise DataError("these draws were aligned before; undo that first")
    stored_elements(source, "")
    refuse_reduced(source)
    changed: dict[str, xr.Dataset | None] = {}
    for prefix in ("", "warmup_"):
        if f"{prefix}relabel" in source and f"{prefix}posterior" in groups:
            changed |= _carried_over(groups, source, prefix, spec)
    return pack(data, changed)


def _carried_over(
    groups: Mapping[str, xr.Dataset],
    source: Mapping[str, xr.Dataset],
    prefix: str,
    spec: Spec | None,
) -> dict[str, xr.Dataset | None]:
    """Relabel groups by the elements that are stored with others."""
    stored_spec, transformation = stored_elements(source, prefix)
    shared = sharing(groups, prefix)
    check_same_draws(source[f"{prefix}relabel"], shared["posterior"])
    if spec is None:
        spec = _spec_for(shared, source[f"{prefix}relabel"], stored_spec)
    elif prefix:
        spec = spec.present_in(shared)
    bound = spec.bind(shared)
    for units, element in transformation.elements.items():
        if bound.sizes.get(units) != element.size:
            raise DataError(
                f"the relabelling is of {element.size} units {units!r}; these draws have "
                f"{bound.sizes.get(units, 'none')} of them"
            )
        was, now = stored_spec.units[units], bound.spec.units[units]
        if group_of(was) != group_of(now):
            raise SpecError(
                f"the units {units!r} were aligned as {was!r}, and the spec declares them {now!r}: "
                f"declare them {was!r}; '{units}^0' in axes is for what is only permuted"
            )
    own = source[f"{prefix}relabel"]
    notes = json.loads(own.attrs["relabel"])
    own = own.drop_vars(notes.pop("offsets", []))
    if transformation.offsets is not None:
        transformation = replace(transformation, offsets=transformation.offsets.restricted(bound))
    notes |= {
        "spec": bound.resolved().as_dict(),
        "variables": [v.address for v in bound.variables],
    }
    return _transformed(groups, prefix, bound, transformation, own.drop_attrs(deep=False), notes)


def _spec_for(groups: Mapping[str, xr.Dataset], own: xr.Dataset, stored: Spec) -> Spec:
    """The stored spec; where none of its variables is there, dimensions tell, if named so."""
    known = json.loads(own.attrs["relabel"])["variables"]
    there = {f"{group}/{name}" for group, ds in groups.items() for name in ds.data_vars}
    dims = {dim for dataset in groups.values() for dim in dataset.dims}
    return stored if there & set(known) or not dims & set(stored.units) else Spec(stored.units)


def provenance(data: Any) -> dict[str, Any]:
    """Return what the group ``relabel`` says of how it was made.

    Raises
    ------
    DataError
        If the draws were not aligned, or the record is damaged.
    """
    groups = unpack(data)
    stored_elements(groups, "")
    notes: dict[str, Any] = json.loads(groups["relabel"].attrs["relabel"])
    return notes


def relabelled(aligned: Any) -> list[str]:
    """Return the addresses ``group/name`` of all variables that an alignment wrote.

    Raises
    ------
    DataError
        If the draws were not aligned, or the record is damaged.
    """
    provenance(aligned)
    groups = unpack(aligned)
    return [
        f"{prefix}{address}"
        for prefix in ("", "warmup_")
        if f"{prefix}relabel" in groups
        for address in json.loads(groups[f"{prefix}relabel"].attrs["relabel"])["variables"]
    ]


# ---------------------------------------------------------------------- the job


#: A row of a problem; a reference that is kept; or None, the labels as they are.
_Start = tuple[Problem, int] | Reference | None


@dataclass(frozen=True)
class _Job:
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
    notes = json.loads(groups["relabel"].attrs["relabel"])
    same_options = all(notes["options"].get(key) == value for key, value in options.items())
    same_criterion = notes["criterion"] == json.loads(json.dumps(criterion.describe()))
    loss = groups["relabel"]["loss"].values
    same_draws = bool(
        np.isclose(np.nansum(loss), notes.get("loss_of_draws", np.nan), rtol=1e-9, atol=0)
    )
    return same_options and bool(same_criterion) and same_draws


def spec_of(spec: Any) -> Spec:
    """Return a spec that may have been given as a table of units.

    Raises
    ------
    SpecError
        If it is neither.
    """
    if not isinstance(spec, (Spec, Mapping)):
        raise SpecError(
            f"spec is a relabel.Spec or a table such as {{'h': 'tanh'}}, not a "
            f"{type(spec).__name__}; of a proposal, pass proposal.spec"
        )
    return spec if isinstance(spec, Spec) else Spec(units=spec)


def _check_options(criterion: Any, **counts: Any) -> None:
    """Check what the type checker would, for those who have none."""
    if not isinstance(criterion, Criterion):
        raise SpecError(f"criterion must be an object such as relabel.Mean(), not {criterion!r}")
    for name, value in counts.items():
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 0:
            raise SpecError(f"{name} is a whole number from 0 on, not {value!r}")
    if counts.get("n_first") == 0:
        raise SpecError("n_first is 1 or more: some draw has to be the first reference")


def _as_before(spec: Spec, groups: Mapping[str, xr.Dataset]) -> Spec:
    """The spec of an earlier alignment, where the axes are left out and the units are the same."""
    if spec.axes or "relabel" not in groups:
        return spec
    earlier, _ = stored_elements(groups, "")
    alike = earlier.units == spec.units and all(
        dict(own).items() <= dict(before).items()
        for own, before in ((spec.values, earlier.values), (spec.gauges, earlier.gauges))
    )
    return earlier if alike else spec


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


# ---------------------------------------------------------------------- what comes out


def _transformed(
    groups: Mapping[str, xr.Dataset],
    prefix: str,
    bound: Bound,
    transformation: Transformation,
    own: xr.Dataset,
    notes: dict[str, Any],
) -> dict[str, xr.Dataset | None]:
    """Changed groups of the result: the relabelled ones, and the record, composed if need be."""
    shared = sharing(groups, prefix)
    fresh = transformation.apply(shared, bound)
    changed: dict[str, xr.Dataset | None] = {
        f"{prefix}{group}": dataset
        for group, dataset in fresh.items()
        if dataset is not shared[group]
    }
    if f"{prefix}relabel" in groups:
        spec, done = stored_elements(groups, prefix)
        if spec != bound.resolved():
            raise SpecError(
                "these draws were aligned before under another spec, and the two cannot be "
                "composed; undo the first (relabel.undo), then align"
            )
        transformation = transformation @ done
        earlier = json.loads(groups[f"{prefix}relabel"].attrs["relabel"])
        notes["earlier"] = {k: v for k, v in earlier.items() if k not in ("diagnosis", "added")}
    stored = own.assign(transformation.to_dataset().data_vars)
    if transformation.offsets is not None:
        notes["offsets"] = list(transformation.offsets.values)
    coords = {d: shared["posterior"][d] for d in SAMPLE_DIMS if d in shared["posterior"].coords}
    stored = stored.assign_coords(coords)
    stored.attrs = {"relabel": json.dumps(notes)}
    changed[f"{prefix}relabel"] = stored
    return changed
