"""Several criteria on the same draws: what each found, where they agree and where they do not."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from relabel._util.progress import Report
from relabel.alignment.alignment import align
from relabel.alignment.provenance import stored_elements
from relabel.data.containers import sharing, unpack
from relabel.data.provenance import Provenance
from relabel.diagnostics.kernels.quantities import weights_of
from relabel.diagnostics.kernels.rhat_ess import Convergence, convergence
from relabel.errors import SpecError
from relabel.groups import group_of
from relabel.groups.elements import Dense, Element, Monomial
from relabel.matching.allocation_features import located, with_labels
from relabel.matching.criteria import CRITERIA, Criterion, criterion_of
from relabel.matching.criteria.ecr import allocated
from relabel.numerics.labels import checked_labels
from relabel.numerics.rotations import procrustes
from relabel.spec.arrays import SAMPLE_DIMS
from relabel.spec.spec import Bound, Spec, spec_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Comparison", "Difference", "Run", "compare"]

Array = NDArray[Any]

#: Compared when nothing is named, as far as the draws hold what they read.
_USUAL = ("mean", "gaussian", "stephens", "ecr-iterative-1", "ecr-iterative-2")

#: Likewise, where the only units rotate.
_USUAL_OF_FACTORS = ("rsp", "procrustes", "matchalign")


@dataclass(frozen=True)
class Run:
    """What one criterion made of the draws.

    Attributes
    ----------
    name : str
    criterion : dict
        Its options.
    objective, before : float
        Its own loss, at its labels and at those the draws came with; of two criteria these are not
        comparable.
    losses : list of float
        After every sweep.
    converged : bool
    n_moved : int
        Draws that were relabelled.
    seconds : float
        Processor time of the whole alignment.
    convergence : Convergence
        Largest R-hat and smallest ESS of the variables that carry units, afterwards.
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
    warnings: list[str]


@dataclass(frozen=True)
class Difference:
    """Where two criteria differ, after one relabelling of all draws of the second.

    Attributes
    ----------
    one, two : str
        Names of the criteria.
    n_draws : int
        Draws in which any label or sign differs.
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
        """Say it in a sentence."""
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
    """What :func:`compare` found; prints as a report.

    Attributes
    ----------
    runs : list of Run
    before : Convergence
        R-hat and ESS of the variables as they came.
    agreement : ndarray of shape (criteria, criteria)
        Share of draws with the same labels and signs, up to one relabelling of all draws.
    similarity : ndarray of shape (criteria, criteria), or None
        Share of observations in the same class of the modal clusterings, up to one relabelling;
        None without allocations.
    clusters : ndarray of int, shape (criteria, n), or None
        Modal clusterings: every observation's most frequent (or most probable) slot, in the
        slots of the first criterion; -1 where all allocations are missing.
    differences : list of Difference
        Every pair that does not agree in all draws.
    """

    runs: list[Run]
    before: Convergence
    agreement: Array
    similarity: Array | None
    clusters: Array | None
    differences: list[Difference]

    def to_frame(self) -> pd.DataFrame:
        """Return the table of criteria as a DataFrame."""
        import pandas as pd

        return pd.DataFrame([_row(run) for run in self.runs]).set_index("criterion")

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values; nan becomes None."""
        rows = [_row(r) | {"options": r.criterion, "losses": r.losses} for r in self.runs]
        matrices = {"agreement": self.agreement, "similarity": self.similarity}
        return {
            "criteria": [_without_nan(row) for row in rows],
            "before": _without_nan({"rhat": self.before.rhat, "ess": self.before.ess}),
            **{k: None if v is None else v.tolist() for k, v in matrices.items()},
            "clusters": None if self.clusters is None else self.clusters.tolist(),
            "differences": [vars(difference) for difference in self.differences],
        }

    def to_json(self) -> str:
        """Return everything as JSON text."""
        return json.dumps(self.as_dict())

    def tables(self) -> Iterator[tuple[str, list[str], list[list[str]]]]:
        """Yield title, header and rows of every table of the report."""
        header = ["", "objective", "before", "sweeps", "moved", "seconds", "max R-hat", "min ESS"]
        as_they_came = ["as they came", *["–"] * 5, *_statistics(self.before)]
        yield "criteria", header, [as_they_came, *(_cells(run) for run in self.runs)]
        names = [run.name for run in self.runs]
        yield "draws labelled alike", ["", *names], _matrix(names, self.agreement)
        if self.similarity is not None:
            title = "observations in the same modal class"
            yield title, ["", *names], _matrix(names, self.similarity)

    def __str__(self) -> str:
        """Lay the report out as plain lines."""
        lines: list[str] = []
        for title, header, rows in self.tables():
            widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
            lines += [*([""] if lines else []), title]
            for row in [header, *rows]:
                cells = (f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True))
                lines.append("  ".join(cells).rstrip())
        told = [str(d) for d in self.differences] or ["all criteria label all draws alike"]
        return "\n".join([*lines, "", *told, *self.notes()])

    def notes(self) -> list[str]:
        """Return what has to be known of single runs."""
        told: dict[str, list[str]] = {}
        for run in self.runs:
            for warning in run.warnings:
                told.setdefault(warning, []).append(run.name)
        return [f"{', '.join(names)}: {warning}" for warning, names in told.items()]


def compare(
    data: Any,
    spec: Spec | Mapping[str, str],
    criteria: Sequence[str | Criterion] | Mapping[str, Criterion] | None = None,
    *,
    progress: bool | Report = False,
    **options: Any,
) -> Comparison:
    r"""Align the same draws by several criteria and compare what they found.

    Labels are compared up to one relabelling *h* of all draws, which nothing determines: with
    elements :math:`a_t` and :math:`b_t` of two criteria, *h* is the most frequent
    :math:`a_t b_t^{-1}`, and its share is the agreement. Of units that rotate, *h* is a rotation,
    and labels are those of the signed permutation nearest to :math:`a_t b_t^{-1} h^{-1}`. Modal
    clusterings alone mislead: they can be alike in 95 % of the observations where 20 % of the draws
    are labelled right.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset
        Draws, as for :func:`relabel.align`.
    spec : Spec, or mapping of str to str
        Likewise.
    criteria : sequence of (str or Criterion), or mapping of str to Criterion, optional
        Which criteria; by default mean and gaussian, and stephens and both iterations of ECR where
        there are ``allocation/z`` and ``allocation/prob``; rsp, procrustes and matchalign where
        the only units rotate.
    progress : bool or callable, default False
        As for :func:`relabel.align`.
    **options
        Passed on to :func:`relabel.align`.

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
    spec = spec_of(spec)
    chosen = _named(_usual(data, spec) if criteria is None else criteria)
    if not chosen:
        raise SpecError("compare: no criterion is named")
    groups = sharing(unpack(data))
    chosen = {name: located(criterion, spec, groups) for name, criterion in chosen.items()}
    for criterion in chosen.values():
        spec = with_labels(spec, criterion, groups)
    read = [criterion.reads.get("prob") for criterion in chosen.values()]
    prob = next((address for address in read if isinstance(address, str)), None)
    runs, elements, clusters = [], [], []
    before = None
    for name, criterion in chosen.items():
        run, bound, found, aligned = _run(data, spec, name, criterion, progress, options)
        runs.append(run)
        elements.append(found)
        if before is None:
            before = convergence(weights_of(bound, unpack(data)["posterior"]))
        kept = _kept(aligned["relabel"])
        clusters.append(_clusters(bound, sharing(aligned), prob, kept))
    assert before is not None
    modal = _in_slots_of_first(clusters)
    return Comparison(
        runs,
        before,
        _agreement(elements, kept),
        None if modal is None else (modal[:, None] == modal[None]).mean(axis=2),
        modal,
        _differences([run.name for run in runs], elements, kept),
    )


def _usual(data: Any, spec: Spec) -> list[str]:
    """The criteria that the draws hold everything for, and that know the symmetry."""
    if [group_of(symmetry).rotates for symmetry in spec.units.values()] == [True]:
        return list(_USUAL_OF_FACTORS)
    groups = sharing(unpack(data))
    here = {f"{group}/{name}" for group, dataset in groups.items() for name in dataset}
    here |= {str(name) for name in groups["posterior"]}
    defaults = [located(criterion_of(name), spec, groups) for name in _USUAL]
    return [c.name for c in defaults if set(c.reads.values()) <= here]


def _named(
    criteria: Sequence[str | Criterion] | Mapping[str, Criterion],
) -> dict[str, Criterion]:
    """Criteria by the names they go by in the report."""
    if isinstance(criteria, Mapping):
        return dict(criteria)
    if isinstance(criteria, (str, Criterion)):
        criteria = [criteria]
    named: dict[str, Criterion] = {}
    for entry in criteria:
        criterion = criterion_of(entry) if isinstance(entry, str) else entry
        if not isinstance(criterion, Criterion):
            raise SpecError(
                f"compare: a criterion is a name ({', '.join(CRITERIA)}) or an object such as "
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
    data: Any,
    spec: Spec,
    name: str,
    criterion: Criterion,
    progress: bool | Report,
    options: Mapping[str, Any],
) -> tuple[Run, Bound, dict[str, Element], dict[str, xr.Dataset]]:
    """Align by one criterion; its elements tell the way from the draws as they came."""
    begin = time.process_time()
    aligned = align(data, spec, criterion=criterion, progress=progress, **options)
    seconds = time.process_time() - begin
    notes, groups = Provenance.of(aligned).as_dict(), unpack(aligned)
    _, transformation = stored_elements(groups, "")
    bound = Spec.from_dict(notes["spec"]).bind(sharing(groups))
    run = Run(
        name,
        {k: v for k, v in notes["criterion"].items() if k != "name"},
        notes["losses"][-1],
        notes["loss_before"],
        notes["losses"],
        notes["converged"],
        notes["n_moved"],
        seconds,
        convergence(weights_of(bound, groups["posterior"])),
        notes["warnings"],
    )
    return run, bound, transformation.elements, groups


# ---------------------------------------------------------------------- labels


def _kept(record: xr.Dataset) -> Array:
    """Which draws took part, bool of shape (chain, draw): those left out were not relabelled."""
    if "excluded" not in record:
        return np.ones([record.sizes[dim] for dim in SAMPLE_DIMS], dtype=bool)
    there: Array = record["excluded"].transpose(*SAMPLE_DIMS).values == 0
    return there


def _differing(one: Mapping[str, Element], two: Mapping[str, Element], kept: Array) -> Array:
    """Which labels differ up to one relabelling of all draws: bool of shape (draws, slots).

    Every set of units in a row; draws that took no part differ in nothing.
    """
    parts = []
    for units, element in one.items():
        labels = _labels_towards_usual(element @ two[units].inverse())
        parts.append(labels.reshape(-1, element.size))
    codes = np.concatenate(parts, axis=1)
    kinds, counts = np.unique(codes[kept.ravel()], axis=0, return_counts=True)
    differing: Array = (codes != kinds[counts.argmax()]) & kept.reshape(-1, 1)
    return differing


def _labels_towards_usual(relative: Element) -> Array:
    """Units and signs that are left when the rotation that all draws have alike is undone.

    That rotation is the mean over the draws that are nearest to the most frequent labels.
    """
    labels = relative.labels()
    if not relative.mixes:
        return labels
    size, matrices = relative.size, relative.matrices()
    rows = labels.reshape(-1, size)
    _, kind, counts = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    alike = kind.reshape(-1) == counts.argmax()
    mean = matrices.reshape(-1, size, size)[alike].mean(axis=0)
    back = Dense(np.broadcast_to(procrustes(mean), matrices.shape)).inverse()
    return (relative @ back).labels()


def _agreement(elements: Sequence[Mapping[str, Element]], kept: Array) -> Array:
    """Share of draws that each two label alike, of those that took part."""
    share = np.eye(len(elements))
    for i, j in combinations(range(len(elements)), 2):
        differs = _differing(elements[i], elements[j], kept).any(axis=1)
        share[i, j] = share[j, i] = 1 - differs.sum() / kept.sum()
    return share


def _differences(
    names: Sequence[str], elements: Sequence[Mapping[str, Element]], kept: Array
) -> list[Difference]:
    """Where each two differ."""
    found = []
    for i, j in combinations(range(len(names)), 2):
        differs = _differing(elements[i], elements[j], kept)
        concerned = differs.any(axis=1)
        if not concerned.any():
            continue
        counts = differs.sum(axis=0)
        ends = np.cumsum([element.size for element in elements[i].values()])
        slots = {
            units: part.tolist()
            for units, part in zip(elements[i], np.split(counts, ends[:-1]), strict=True)
        }
        by_chain = concerned.reshape(kept.shape).sum(axis=1) / np.maximum(kept.sum(axis=1), 1)
        number = int(concerned.sum())
        found.append(Difference(names[i], names[j], number, by_chain.tolist(), slots))
    return found


# ---------------------------------------------------------------------- clusterings


def _clusters(
    bound: Bound, groups: Mapping[str, xr.Dataset], prob: str | None, kept: Array
) -> tuple[Array, int] | None:
    """Modal clustering of the aligned draws, and its number of classes; None without allocations.

    By the allocations, if the spec declares any, else by the probabilities that were compared.
    """
    for variable in sorted(bound.variables, key=lambda v: v.labels_of is None):
        array = groups[variable.group][variable.name]
        if variable.labels_of is not None:
            counts = _counts(array, bound.sizes[variable.labels_of], kept)
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
    """How often each observation was in each slot, shape (n, K); missing labels left out."""
    values = labels.transpose(*SAMPLE_DIMS, ...).values
    z = values.reshape(values.shape[0] * values.shape[1], -1)[kept.ravel()]
    z = checked_labels(z, size, str(labels.name)).astype(np.intp)
    return allocated(z, Monomial.identity((len(z),), size))


def _in_slots_of_first(found: Sequence[tuple[Array, int] | None]) -> Array | None:
    """Modal clusterings of all criteria, each relabelled once to fit that of the first."""
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


# ---------------------------------------------------------------------- shown


def _row(run: Run) -> dict[str, Any]:
    """One line of the table of criteria."""
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
    """One line of the report."""
    sweeps = f"{len(run.losses)}{'' if run.converged else ' (not converged)'}"
    numbers = [f"{run.objective:.6g}", f"{run.before:.6g}", sweeps, str(run.n_moved)]
    return [run.name, *numbers, f"{run.seconds:.2f}", *_statistics(run.convergence)]


def _statistics(found: Convergence) -> list[str]:
    return [
        "–" if np.isnan(found.rhat) else f"{found.rhat:.3f}",
        "–" if np.isnan(found.ess) else f"{found.ess:.0f}",
    ]


def _matrix(names: Sequence[str], share: Array) -> list[list[str]]:
    return [
        [name, *(f"{entry:.3f}" for entry in row)] for name, row in zip(names, share, strict=True)
    ]


def _without_nan(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in row.items()}
