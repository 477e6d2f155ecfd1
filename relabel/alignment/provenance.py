"""The group ``relabel``: what an alignment found, and how it was made."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel._util.text import plain
from relabel._util.versions import installed
from relabel.alignment.checks import suspicions
from relabel.data.containers import node_of, unpack
from relabel.data.participants import Participants, participants
from relabel.data.provenance import Provenance
from relabel.errors import DataError
from relabel.groups import group_of
from relabel.matching.criteria import Criterion
from relabel.matching.draws import Draws
from relabel.matching.solve import STARTS, Solution
from relabel.spec.centring import said_of
from relabel.spec.coordinates import riding, staying
from relabel.spec.gauges import centred_axes
from relabel.spec.spec import SAMPLE_DIMS, ResolvedSpec, Spec
from relabel.spec.transformation import Transformation
from relabel.spec.variables import ResolvedVariable

__all__ = [
    "check_same_draws",
    "found_variables",
    "in_order",
    "provenance_of",
    "refuse_reduced",
    "relabelled",
    "rotations_left",
    "stored_elements",
    "written_by",
]


def found_variables(draws: Draws, solution: Solution) -> xr.Dataset:
    """Everything in the group ``relabel`` but the elements."""
    variables = {}
    about = "loss of the aligned draw under the criterion"
    variables["loss"] = xr.Variable(
        SAMPLE_DIMS, draws.spread(solution.loss, np.nan), {"long_name": about}
    )
    about = "share of the distance from the reference that a better labelling might save at most"
    variables["gap"] = xr.Variable(
        SAMPLE_DIMS, draws.spread(solution.gap, np.nan), {"long_name": about}
    )
    for units, margin in solution.margin.items():
        about = "gain over the best assignment that changes the unit or the sign of this slot"
        variables[f"{units}_margin"] = xr.Variable(
            (*SAMPLE_DIMS, units), draws.spread(margin, np.nan), {"long_name": about}
        )
    attrs = {
        "long_name": "start that led to the best labelling",
        "flag_values": np.arange(-1, len(STARTS), dtype=np.int8),
        "flag_meanings": " ".join(("none", *STARTS)),
    }
    variables["start"] = xr.Variable(SAMPLE_DIMS, draws.spread(solution.start, -1), attrs)
    for name, values in solution.remarks.values.items():
        fill = np.nan if values.dtype.kind == "f" else -1
        variables[name] = xr.Variable(SAMPLE_DIMS, draws.spread(values, fill))
    if draws.excluded.any():
        about = "1 where the draw was not finite and has been left as it is"
        variables["excluded"] = xr.Variable(
            SAMPLE_DIMS, draws.excluded.astype(np.int8), {"long_name": about}
        )
    return xr.Dataset(variables)


def provenance_of(
    draws: Draws,
    taking: Participants,
    whole: ResolvedSpec,
    solution: Solution,
    criterion: Criterion,
    options: dict[str, Any],
    apart: NDArray[np.bool_] | None,
) -> Provenance:
    """How the result was made, where chains `apart` had no part in the reference."""
    n_moved = int(np.logical_or.reduce([g.moves() for g in solution.elements.values()]).sum())
    loss = solution.losses[-1]
    sentence = (
        f"{n_moved} of {len(solution.loss)} draws were relabelled; "
        f"the loss went from {solution.loss_before:.6g} to {loss:.6g}"
    )
    shifted = said_of(draws.resolved)
    sentence += f"; {_on_the_gaps(solution)}"
    sentence += f"; {shifted} (this preserves the likelihood, not the prior)" if shifted else ""
    return Provenance(
        version=installed("posterior-relabel"),
        spec=whole.complete_spec(),
        criterion=plain(criterion.describe()),
        options=plain(options),
        versions={package: installed(package) for package in ("numpy", "scipy", "xarray")}
        | {"python": platform.python_version()},
        variables=written_by(whole, taking.views()),
        loss_before=solution.loss_before,
        losses=tuple(solution.losses),
        converged=solution.converged,
        loss_of_draws=float(solution.loss.sum()),
        n_moved=n_moved,
        result=sentence,
        warnings=(
            *_warnings(draws, solution),
            *taking.remarks(whole),
            *_left_coords(whole, taking),
        ),
        groups=taking.described(),
        flags=tuple(solution.remarks.values),
        no_part_in_reference=None if apart is None else tuple(np.flatnonzero(apart).tolist()),
    )


def written_by(resolved: ResolvedSpec, groups: Mapping[str, xr.Dataset]) -> tuple[str, ...]:
    """Return the addresses of the variables that carry units, and of their coordinates."""
    found = resolved.addresses()
    for group, dataset in groups.items():
        riders = riding(dataset, resolved.in_group(group))
        found += [rider.address for rider in riders if not _rotated(rider, resolved)]
    return tuple(found)


def _left_coords(resolved: ResolvedSpec, taking: Participants) -> list[str]:
    """Name coordinates over units and draws that nothing can move."""
    found = []
    for group, dataset in taking.views().items():
        variables = resolved.in_group(group)
        found += [
            f"coordinate {group}/{name} has units and only one of chain and draw, so it was left "
            "in the old labels"
            for name in staying(dataset, variables)
        ]
        found += [
            f"coordinate {rider.address} was left as it is: its units rotate, and what belongs to "
            "each of them has no meaning after that"
            for rider in riding(dataset, variables)
            if _rotated(rider, resolved)
        ]
    return found


def _rotated(variable: ResolvedVariable, resolved: ResolvedSpec) -> bool:
    """Whether units of a variable rotate."""
    return any(resolved.group(units).rotates for _, units, _ in variable.unit_axes())


def _on_the_prior(resolved: ResolvedSpec) -> list[str]:
    """What changes the prior: one line for all sets of units of a kind."""
    kinds: dict[str, list[str]] = {}
    for units, symmetry in resolved.spec.units.items():
        group = resolved.group(units)
        if group.rotates:
            said = (
                "rotations preserve the likelihood, and the prior only if it is isotropic over the "
                "units"
            )
        elif not group.exact:
            said = f"{group.label} preserves the likelihood, not the prior"
        else:
            continue
        kinds.setdefault(said, []).append(f"{units!r} ({symmetry})")
    return [
        f"units {', '.join(names)}: {said}; the relabelled draws are a section of the orbit"
        for said, names in kinds.items()
    ]


def _on_the_gaps(solution: Solution) -> str:
    """Say how many labellings are known to be the best ones, and how far the others may be."""
    share, largest = (solution.gap == 0).mean(), solution.gap.max()
    if share == 1:
        return "no labelling of any draw has a lower loss under the last reference"
    return (
        f"{100 * share:.4g} % of the labellings are proved to have the lowest loss under the last "
        f"reference, the largest gap is {largest:.2g}"
    )


def _warnings(draws: Draws, solution: Solution) -> list[str]:
    """What the user has to know of the result."""
    found = _on_the_prior(draws.resolved)
    shifted = said_of(draws.resolved)
    if shifted:
        found.append(
            f"{shifted}: that preserves the likelihood where only a softmax or a LayerNorm reads "
            "it, not the prior; the relabelled draws are a section of the orbit"
        )
    if draws.excluded.any():
        number = int(draws.excluded.sum())
        what = "1 draw is not finite and was left as it is"
        many = f"{number} draws are not finite and were left as they are"
        found.append(what if number == 1 else many)
    rotations = rotations_left(draws.resolved)
    more = f"; {rotations}" if rotations else ""
    if not solution.converged:
        found.append(
            f"not converged after {len(solution.losses)} sweeps: labels may mean little, or "
            f"max_sweeps is too low{more}"
        )
    elif len(solution.losses) > 10:
        found.append(
            f"{len(solution.losses)} sweeps were needed: where margins are small as well, labels "
            f"may not be stable{more}"
        )
    return found + solution.remarks.warnings + suspicions(draws, solution.elements)


def rotations_left(resolved: ResolvedSpec) -> str:
    """Say which units may be rotated beyond their signs, as factors are; empty if none may.

    These are units that are declared signed and that a matrix carries without an arrow, as
    loadings do: nothing of a network that only signs leave as it is.
    """
    found = [
        units
        for units, symmetry in resolved.spec.units.items()
        if symmetry == "signed"
        and any(
            axis.units == units and axis.role == "neutral" and axis.action.signed
            for variable in resolved.measured()
            for axis in variable.axes
            if len(variable.axes) > 1
        )
    ]
    if not found:
        return ""
    return (
        f"rotations of {' and '.join(map(repr, found))} may remain: if these are factors that "
        "nothing keeps from rotating, declare them 'orthogonal' (criterion rsp or procrustes)"
    )


def stored_elements(groups: Mapping[str, xr.Dataset], prefix: str) -> tuple[Spec, Transformation]:
    """Read the elements of an earlier alignment, and its spec for groups of the same draws."""
    record, dataset = Provenance.within(groups, prefix), in_order(groups, prefix)
    _check_present(dataset, record, prefix)
    taking = participants(groups, prefix)
    spec = taking.compared(record.spec.remaining_in(taking.views()))
    resolved = None
    if centred_axes(spec.gauges):
        resolved = record.spec.bind_present(taking.same)
    done = Transformation.from_dataset(dataset, list(record.spec.units), resolved)
    for units, element in done.elements.items():
        outside = ~group_of(record.spec.units[units]).contains(element)
        if outside.any():
            raise DataError(
                f"relabel/{units} holds elements that do not belong to the symmetry "
                f"{record.spec.units[units]!r}, in {int(outside.sum())} of {outside.size} draws: "
                "the record is damaged, or of several alignments"
            )
    return spec, done


def _check_present(own: xr.Dataset, record: Provenance, prefix: str) -> None:
    """Refuse a record without variables that it names, or whose numbers are of another kind."""
    for name in ("loss", *record.flags, *record.offsets, *record.checksums):
        if name not in own:
            raise DataError(f"the group '{prefix}relabel' has no variable {name!r}; it is damaged")
    kinds = {"loss": np.float64, **dict.fromkeys(record.checksums, np.int64)}
    for name, kind in kinds.items():
        if own[name].dtype != kind or set(own[name].dims) != set(SAMPLE_DIMS):
            raise DataError(
                f"{prefix}relabel/{name} must be {np.dtype(kind)} with the dimensions chain and "
                f"draw, not {own[name].dtype} with {own[name].dims}; it is damaged"
            )


def refuse_reduced(groups: Mapping[str, xr.Dataset]) -> None:
    """Refuse draws that were reduced: their values are no longer those of the draws."""
    if "relabel" in groups and Provenance.within(groups).reduced is not None:
        raise DataError(
            "these draws were reduced (relabel.reduce), so their values are no longer those of the "
            "draws; use the aligned draws from which they were made"
        )


def in_order(groups: Mapping[str, xr.Dataset], prefix: str) -> xr.Dataset:
    """Return the group ``relabel`` in the order of the draws, where their coordinates tell it."""
    own = groups[f"{prefix}relabel"]
    if f"{prefix}posterior" not in groups:
        raise DataError(f"there is a group '{prefix}relabel', and no group '{prefix}posterior'")
    posterior = groups[f"{prefix}posterior"]
    for dim in SAMPLE_DIMS:
        if dim in own.indexes and dim in posterior.indexes:
            mine, theirs = own.indexes[dim], posterior.indexes[dim]
            if not mine.equals(theirs) and mine.is_unique and theirs.is_unique:
                rows = mine.get_indexer(theirs)
                if len(mine) == len(theirs) and (rows >= 0).all():
                    own = own.isel({dim: rows})
    check_same_draws(own, posterior)
    return own


def check_same_draws(own: xr.Dataset, posterior: xr.Dataset) -> None:
    """Refuse a record of other draws: of another number, order or choice."""
    for dim in SAMPLE_DIMS:
        both = dim in own.coords and dim in posterior.coords
        same_size = own.sizes.get(dim) == posterior.sizes.get(dim)
        if not same_size or (both and not np.array_equal(own[dim], posterior[dim])):
            raise DataError(
                f"the group 'relabel' is of other draws than the posterior: {dim} has the sizes "
                f"{own.sizes.get(dim)} and {posterior.sizes.get(dim)}, or other coordinates. "
                "Select draws in all groups alike, as in data.isel(draw=slice(None, None, 2))"
            )


def relabelled(aligned: Any, group: str = "posterior") -> list[str]:
    """Return the addresses ``group/name`` of all variables that an alignment wrote.

    Parameters
    ----------
    aligned : InferenceData, DataTree or Dataset
    group : str, default "posterior"
        The posterior that was aligned, in a tree of several models.

    Raises
    ------
    DataError
        If the draws were not aligned, or the record is damaged.
    """
    groups, node = unpack(aligned, group), node_of(group)
    stored_elements(groups, "")
    return [
        f"{node}{prefix}{address}"
        for prefix in ("", "warmup_")
        if f"{prefix}relabel" in groups
        for address in Provenance.within(groups, prefix).variables
    ]
