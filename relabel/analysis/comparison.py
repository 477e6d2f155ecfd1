"""Several criteria on the same draws: their results, where they agree and where they differ."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from relabel._util.progress import Report, reporting
from relabel._util.text import columns, formatted, plain
from relabel._util.validate import iterable
from relabel.alignment.alignment import align
from relabel.alignment.provenance import stored_elements
from relabel.alignment.separated import sentence, separations_in
from relabel.data.containers import DrawsLike, Groups, unpack
from relabel.data.participants import sharing
from relabel.data.provenance import Provenance
from relabel.diagnostics.kernels.quantities import weights_of
from relabel.diagnostics.kernels.rhat_ess import Convergence, convergence
from relabel.errors import SpecError
from relabel.groups import group_of
from relabel.groups.elements import Dense, Element, Monomial
from relabel.matching.allocation_features import located, with_labels
from relabel.matching.criteria import CRITERIA, Criterion, criterion_of
from relabel.matching.criteria.ecr import allocated
from relabel.matching.separations import Separation
from relabel.numerics.labels import checked_labels
from relabel.numerics.rotations import procrustes
from relabel.spec.arrays import SAMPLE_DIMS, chain_draw_values, draw_values
from relabel.spec.spec import ResolvedSpec, Spec, spec_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Comparison", "Difference", "Run", "compare"]

Array = NDArray[Any]

#: Criteria that are compared by default, if the draws hold the variables that they read.
_DEFAULTS = ("normal", "mean", "stephens", "ecr-iterative-1", "ecr-iterative-2")

#: The same where the only units rotate.
_DEFAULTS_OF_FACTORS = ("rsp", "procrustes", "matchalign")


#: Options of :func:`relabel.align` that are the same for all criteria.
_OPTIONS = frozenset(signature(align).parameters) - {"data", "spec", "criterion", "progress"}


@dataclass(frozen=True)
class Run:
    """Result of one criterion.

    Attributes
    ----------
    name : str
    criterion : dict
        Options of the criterion.
    objective, before : float
        Loss under this criterion, after and before the alignment. Losses of two criteria cannot be
        compared.
    losses : list of float
        Loss after every sweep.
    converged : bool
    n_moved : int
        Number of draws that were relabelled.
    seconds : float
        Processor time of the alignment.
    convergence : Convergence
        Largest R-hat and smallest ESS of the variables that carry units, after the alignment.
    separations : dict of str to Separation
        Units -> how far their slots are told apart, and by which variables, under normals that are
        fitted to the labels; empty for units that rotate.
    warnings : list of str
    """

    name: str
    criterion: dict[str, Any]
    objective: float
    before: float
    losses: list[float]
    converged: bool
    n_moved: int
    seconds: float
    convergence: Convergence
    separations: dict[str, Separation]
    warnings: list[str]


@dataclass(frozen=True)
class Difference:
    """Draws in which two criteria differ, after one relabelling of all draws of the second.

    Attributes
    ----------
    one, two : str
        Names of the criteria.
    n_draws : int
        Number of draws in which a label or sign differs.
    by_chain : list of float
        Share of such draws in every chain.
    slots : dict of str to list of int
        Units -> number of these draws in which each slot of the first holds another unit.
    """

    one: str
    two: str
    n_draws: int
    by_chain: list[float]
    slots: dict[str, list[int]]

    def __str__(self) -> str:
        """Return a sentence."""
        worst = int(np.argmax(self.by_chain))
        where = f"most in chain {worst} ({100 * self.by_chain[worst]:.1f} %)"
        parts = [f"{self.one} and {self.two} differ in {self.n_draws} draws, {where}"]
        for units, counts in self.slots.items():
            most = [k for k in np.argsort(counts)[::-1][:2].tolist() if counts[k]]
            if most:
                named = " and ".join(f"{k} ({counts[k]})" for k in most)
                parts.append(f"slots of {units!r} most often concerned: {named}")
        return "; ".join(parts)


@dataclass(frozen=True)
class Comparison:
    """Result of :func:`relabel.compare`; prints as a report.

    Attributes
    ----------
    runs : list of Run
        Result of every criterion.
    before : Convergence
        R-hat and ESS of the variables before any alignment.
    agreement : ndarray of shape (criteria, criteria)
        Share of draws with the same labels and signs, up to one relabelling of all draws.
    similarity : ndarray of shape (criteria, criteria), or None
        Share of observations in the same class of the modal clusterings, up to one relabelling;
        None without allocations.
    clusters : ndarray of int, shape (criteria, n), or None
        Modal clusterings: the most frequent (or most probable) slot of every observation, in the
        slots of the first criterion; -1 where all allocations are missing.
    differences : list of Difference
        Pairs of criteria that do not agree in all draws.
    """

    runs: list[Run]
    before: Convergence
    agreement: Array
    similarity: Array | None
    clusters: Array | None
    differences: list[Difference]

    def to_dataframe(self) -> pd.DataFrame:
        """Return the table of criteria, indexed by their names."""
        import pandas as pd

        return pd.DataFrame([_row(run) for run in self.runs]).set_index("criterion")

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; NaN becomes None."""
        rows = [
            _row(run)
            | {"options": run.criterion, "losses": run.losses}
            | {"separations": {u: s.as_dict() for u, s in run.separations.items()}}
            for run in self.runs
        ]
        values = {
            "criteria": rows,
            "before": {"rhat": self.before.rhat, "ess": self.before.ess},
            "agreement": self.agreement,
            "similarity": self.similarity,
            "clusters": self.clusters,
            "differences": [vars(difference) for difference in self.differences],
        }
        return {name: plain(value) for name, value in values.items()}

    def to_json(self) -> str:
        """Return :meth:`as_dict` as JSON text."""
        return json.dumps(self.as_dict())

    def tables(self) -> Iterator[tuple[str, list[str], list[list[str]]]]:
        """Yield title, header and rows of every table of the report."""
        header = ["", "objective", "before", "sweeps", "moved", "seconds", "max R-hat", "min ESS"]
        first = ["as they came", *["–"] * 5, *_statistics(self.before)]
        yield "criteria", header, [first, *(_cells(run) for run in self.runs)]
        names = [run.name for run in self.runs]
        yield "draws labelled alike", ["", *names], _matrix(names, self.agreement)
        if self.similarity is not None:
            title = "observations in the same modal class"
            yield title, ["", *names], _matrix(names, self.similarity)

    def __str__(self) -> str:
        """Return the report."""
        lines: list[str] = []
        for title, header, rows in self.tables():
            lines += [*([""] if lines else []), title, *columns(header, rows)]
        differences = [str(d) for d in self.differences] or ["all criteria label all draws alike"]
        return "\n".join([*lines, "", *differences, *self._separations(), *self.notes()])

    def _separations(self) -> list[str]:
        """Return what tells the slots apart, under the labels of every criterion."""
        return [
            f"{run.name}: {units}: {sentence(found)}"
            for run in self.runs
            for units, found in run.separations.items()
        ]

    def notes(self) -> list[str]:
        """Return the warnings, each with the criteria that have it."""
        names: dict[str, list[str]] = {}
        for run in self.runs:
            for warning in run.warnings:
                names.setdefault(warning, []).append(run.name)
        return [f"{', '.join(some)}: {warning}" for warning, some in names.items()]


def compare(
    data: DrawsLike,
    spec: Spec | Mapping[str, str],
    criteria: Sequence[str | Criterion] | Mapping[str, Criterion] | None = None,
    *,
    progress: bool | Report = False,
    **options: Any,
) -> Comparison:
    r"""Align the same draws by several criteria and compare the results.

    Labels are compared up to one relabelling *h* of all draws, which nothing determines: with
    elements :math:`a_t` and :math:`b_t` of two criteria, *h* is the most frequent
    :math:`a_t b_t^{-1}`, and its share is the agreement. For units that rotate, *h* is a rotation,
    and labels are those of the signed permutation nearest to :math:`a_t b_t^{-1} h^{-1}`. Modal
    clusterings alone mislead: they can agree in 95 % of the observations where 20 % of the draws
    are labelled right.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset
        Draws, as for :func:`relabel.align`.
    spec : Spec, or mapping of str to str
        Units and axes, as for :func:`relabel.align`.
    criteria : sequence of (str or Criterion), or mapping of str to Criterion, optional
        Criteria by name or as objects, or objects by names of your own. By default normal and
        mean, and stephens and both iterations of ECR if there are ``allocation/z`` and
        ``allocation/prob``; rsp, procrustes and matchalign if the only units rotate.
    progress : bool or callable, default False
        True shows a bar; a callable gets ``(stage, done, total)``, with the name of the criterion
        in the stage.
    **options
        Further options of :func:`relabel.align`, such as ``inputs`` and ``rng``.

    Returns
    -------
    Comparison

    Raises
    ------
    SpecError
        If a criterion is unknown, named twice, or cannot be used on these draws.

    References
    ----------
    Papastamoulis, P. (2016). label.switching: an R package for dealing with the label switching
    problem in MCMC outputs. *Journal of Statistical Software* 69(1), 1-24.
    https://doi.org/10.18637/jss.v069.c01

    Examples
    --------
    >>> import numpy as np, xarray as xr, relabel
    >>> mu = np.array([[[0.0, 5.0], [5.1, 0.1], [-0.1, 4.9], [5.0, 0.2]]])
    >>> draws = xr.Dataset({"mu": (("chain", "draw", "component"), mu)})
    >>> criteria = ["mean", relabel.criteria.Order("mu")]
    >>> found = relabel.compare(draws, {"component": "permutation"}, criteria)
    >>> found.agreement
    array([[1., 1.],
           [1., 1.]])
    """
    unknown = sorted(set(options) - _OPTIONS)
    if unknown:
        raise SpecError(
            f"compare: unknown option {unknown[0]!r}; known are {', '.join(sorted(_OPTIONS))}"
        )
    spec, groups = spec_of(spec), sharing(unpack(data))
    chosen = _named(_default_criteria(groups, spec) if criteria is None else criteria)
    if not chosen:
        raise SpecError("compare: criteria must name at least one; leave it out for the defaults")
    chosen = {name: located(criterion, spec, groups) for name, criterion in chosen.items()}
    for criterion in chosen.values():
        spec = with_labels(spec, criterion, groups)
    read = [criterion.reads.get("prob") for criterion in chosen.values()]
    prob = next((address for address in read if isinstance(address, str)), None)
    runs, elements, clusters = [], [], []
    with reporting(progress) as report:
        for name, criterion in chosen.items():
            own = options | {"criterion": criterion, "progress": _named_report(report, name)}
            run, resolved, found, aligned = _run(data, spec, name, own)
            runs.append(run)
            elements.append(found)
            kept = _kept(aligned["relabel"])
            clusters.append(_clusters(resolved, sharing(aligned), prob, kept))
    modal = _in_slots_of_first(clusters)
    return Comparison(
        runs,
        convergence(weights_of(resolved, groups["posterior"])),
        _agreement(elements, kept),
        None if modal is None else (modal[:, None] == modal[None]).mean(axis=2),
        modal,
        _differences([run.name for run in runs], elements, kept),
    )


def _named_report(report: Report, name: str) -> Report:
    """Return a report whose stages begin with the name of a criterion."""
    return lambda stage, done, total: report(f"{name}: {stage}", done, total)


def _default_criteria(groups: Groups, spec: Spec) -> list[str]:
    """Return the default criteria that fit the symmetry, and whose variables there are."""
    if [group_of(symmetry).rotates for symmetry in spec.units.values()] == [True]:
        return list(_DEFAULTS_OF_FACTORS)
    here = {f"{group}/{name}" for group, dataset in groups.items() for name in dataset}
    here |= {str(name) for name in groups["posterior"]}
    defaults = [located(criterion_of(name), spec, groups) for name in _DEFAULTS]
    return [c.name for c in defaults if set(c.reads.values()) <= here]


def _named(
    criteria: Sequence[str | Criterion] | Mapping[str, Criterion],
) -> dict[str, Criterion]:
    """Return the criteria by their names in the report."""
    if isinstance(criteria, Mapping):
        for name, criterion in criteria.items():
            if not isinstance(criterion, Criterion):
                raise SpecError(
                    f"compare: criterion {name!r} must be an object such as "
                    f"relabel.criteria.Mean(), not {criterion!r}"
                )
        return dict(criteria)
    if isinstance(criteria, (str, Criterion)):
        criteria = [criteria]
    named: dict[str, Criterion] = {}
    for entry in iterable("criteria", criteria, "['mean', 'stephens']"):
        criterion = criterion_of(entry) if isinstance(entry, str) else entry
        if not isinstance(criterion, Criterion):
            raise SpecError(
                f"compare: a criterion must be a name ({', '.join(CRITERIA)}) or an object such as "
                f"relabel.criteria.Mean(), not {entry!r}"
            )
        if criterion.name in named:
            raise SpecError(
                f"compare: criterion {criterion.name!r} occurs twice; give a mapping from names "
                "of your own to criteria"
            )
        named[criterion.name] = criterion
    return named


def _run(
    data: DrawsLike, spec: Spec, name: str, options: Mapping[str, Any]
) -> tuple[Run, ResolvedSpec, dict[str, Element], Groups]:
    """Align by one criterion; the elements carry the draws as they were given to the result."""
    begin = time.process_time()
    aligned = align(data, spec, **options)
    seconds = time.process_time() - begin
    record, groups = Provenance.of(aligned), unpack(aligned)
    spec, transformation = stored_elements(groups, "")
    resolved = spec.bind(sharing(groups))
    run = Run(
        name,
        {k: v for k, v in record.criterion.items() if k != "name"},
        record.losses[-1],
        record.loss_before,
        list(record.losses),
        record.converged,
        record.n_moved,
        seconds,
        convergence(weights_of(resolved, groups["posterior"])),
        separations_in(groups["relabel"], resolved.sizes),
        list(record.warnings),
    )
    return run, resolved, transformation.elements, groups


# ---------------------------------------------------------------------- labels


def _kept(record: xr.Dataset) -> Array:
    """Return which draws were relabelled, bool of shape (chain, draw): not those left out."""
    if "excluded" not in record:
        return np.ones([record.sizes[dim] for dim in SAMPLE_DIMS], dtype=bool)
    kept: Array = chain_draw_values(record["excluded"]) == 0
    return kept


def _differing(one: Mapping[str, Element], two: Mapping[str, Element], kept: Array) -> Array:
    """Return which labels differ up to one relabelling of all draws: bool (draws, slots).

    The slots of all sets of units stand in a row; excluded draws differ in nothing.
    """
    parts = []
    for units, element in one.items():
        labels = _labels_without_rotation(element @ two[units].inverse())
        parts.append(labels.reshape(-1, element.size))
    codes = np.concatenate(parts, axis=1)
    kinds, counts = np.unique(codes[kept.ravel()], axis=0, return_counts=True)
    differing: Array = (codes != kinds[counts.argmax()]) & kept.reshape(-1, 1)
    return differing


def _labels_without_rotation(relative: Element) -> Array:
    """Return units and signs after the rotation that all draws share has been undone.

    That rotation is the mean over the draws that are nearest to the most frequent labels.
    """
    labels = relative.labels()
    if not relative.mixes:
        return labels
    size, matrices = relative.size, relative.matrices()
    rows = labels.reshape(-1, size)
    _, kind, counts = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    usual = kind.reshape(-1) == counts.argmax()
    mean = matrices.reshape(-1, size, size)[usual].mean(axis=0)
    back = Dense(np.broadcast_to(procrustes(mean), matrices.shape)).inverse()
    return (relative @ back).labels()


def _agreement(elements: Sequence[Mapping[str, Element]], kept: Array) -> Array:
    """Return the share of draws with the same labels, for each two, without excluded draws."""
    share = np.eye(len(elements))
    for i, j in combinations(range(len(elements)), 2):
        differs = _differing(elements[i], elements[j], kept).any(axis=1)
        share[i, j] = share[j, i] = 1 - differs.sum() / kept.sum()
    return share


def _differences(
    names: Sequence[str], elements: Sequence[Mapping[str, Element]], kept: Array
) -> list[Difference]:
    """Return where each two differ."""
    found = []
    for i, j in combinations(range(len(names)), 2):
        differs = _differing(elements[i], elements[j], kept)
        draws = differs.any(axis=1)
        if not draws.any():
            continue
        counts = differs.sum(axis=0)
        ends = np.cumsum([element.size for element in elements[i].values()])
        slots = {
            units: part.tolist()
            for units, part in zip(elements[i], np.split(counts, ends[:-1]), strict=True)
        }
        by_chain = draws.reshape(kept.shape).sum(axis=1) / np.maximum(kept.sum(axis=1), 1)
        number = int(draws.sum())
        found.append(Difference(names[i], names[j], number, by_chain.tolist(), slots))
    return found


# ---------------------------------------------------------------------- clusterings


def _clusters(
    resolved: ResolvedSpec, groups: Mapping[str, xr.Dataset], prob: str | None, kept: Array
) -> tuple[Array, int] | None:
    """Return the modal clustering of the aligned draws, and its number of classes.

    It follows from the allocations, if the spec declares any, else from the probabilities that were
    compared. None without either.
    """
    for variable in sorted(resolved.variables, key=lambda v: v.labels_of is None):
        array = groups[variable.group][variable.name]
        if variable.labels_of is not None:
            counts = _counts(array, resolved.sizes[variable.labels_of], kept)
        elif prob in (variable.address, variable.name):
            ((place, _, _),) = variable.unit_axes()
            if not kept.all():
                array = array.where(xr.DataArray(kept, dims=SAMPLE_DIMS))
            mean = array.mean(SAMPLE_DIMS).transpose(..., variable.dims[place]).values
            counts = np.nan_to_num(mean.reshape(-1, mean.shape[-1]))
        else:
            continue
        return np.where(counts.any(axis=1), counts.argmax(axis=1), -1), counts.shape[1]
    return None


def _counts(labels: xr.DataArray, size: int, kept: Array) -> Array:
    """Count how often each observation was in each slot, shape (n, K), without missing labels."""
    values = draw_values(labels)
    z = values.reshape(len(values), -1)[kept.ravel()]
    z = checked_labels(z, size, str(labels.name)).astype(np.intp)
    return allocated(z, Monomial.identity((len(z),), size))


def _in_slots_of_first(found: Sequence[tuple[Array, int] | None]) -> Array | None:
    """Return the modal clusterings of all criteria, each relabelled to fit that of the first."""
    known = [entry for entry in found if entry is not None]
    if len(known) < len(found):
        return None
    first, size = known[0]
    rows = []
    for own, _ in known:
        both = (first >= 0) & (own >= 0)
        table = np.bincount(own[both] * size + first[both], minlength=size**2)
        _, slot = linear_sum_assignment(-table.reshape(size, size))
        rows.append(np.where(own >= 0, slot[own], -1))
    return np.stack(rows)


# ---------------------------------------------------------------------- report


def _row(run: Run) -> dict[str, Any]:
    """Return one row of the table of criteria."""
    return {
        "criterion": run.name,
        "objective": run.objective,
        "before": run.before,
        "sweeps": len(run.losses),
        "converged": run.converged,
        "n_moved": run.n_moved,
        "seconds": run.seconds,
        "rhat": run.convergence.rhat,
        "ess": run.convergence.ess,
    }


def _cells(run: Run) -> list[str]:
    """Return one row of the report."""
    sweeps = f"{len(run.losses)}{'' if run.converged else ' (not converged)'}"
    numbers = [f"{run.objective:.6g}", f"{run.before:.6g}", sweeps, str(run.n_moved)]
    return [run.name, *numbers, f"{run.seconds:.2f}", *_statistics(run.convergence)]


def _statistics(found: Convergence) -> list[str]:
    return [formatted(found.rhat, ".3f"), formatted(found.ess, ".0f")]


def _matrix(names: Sequence[str], share: Array) -> list[list[str]]:
    return [
        [name, *(f"{entry:.3f}" for entry in row)] for name, row in zip(names, share, strict=True)
    ]
