"""The groups of the result: relabelled values, and the record of how they came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import xarray as xr

from relabel.alignment.provenance import (
    stored_elements,
    written_by,
)
from relabel.data.checksums import AFTER, BEFORE, checksums
from relabel.data.containers import Groups
from relabel.data.participants import Participants
from relabel.data.provenance import Provenance
from relabel.errors import SpecError
from relabel.spec.spec import SAMPLE_DIMS, ResolvedSpec
from relabel.spec.transformation import Transformation

__all__ = ["after", "moved", "transformed"]


def moved(
    groups: Mapping[str, xr.Dataset],
    taking: Participants,
    prefix: str,
    resolved: ResolvedSpec,
    transformation: Transformation,
) -> dict[str, xr.Dataset]:
    """Groups that a transformation of the posterior's draws changes, by their full names.

    Groups of other draws are transformed by the elements of the draws whose labels they have.
    """
    fresh = transformation.apply(taking.same, resolved.within(taking.same))
    changed = {
        f"{prefix}{group}": dataset
        for group, dataset in fresh.items()
        if dataset is not groups[f"{prefix}{group}"]
    }
    for group, matched in taking.matched.items():
        if resolved.in_group(group):
            view = {group: matched.view()}
            own = resolved.within(view)
            after = transformation.at(*matched.rows).apply(view, own)[group]
            names = [address.removeprefix(f"{group}/") for address in written_by(own, view)]
            changed[f"{prefix}{group}"] = matched.restored(after, names)
    return changed


def after(taking: Participants, prefix: str, fresh: Mapping[str, xr.Dataset]) -> Groups:
    """Return the groups of the posterior's draws as they are after :func:`moved`."""
    return {name: fresh.get(f"{prefix}{name}", old) for name, old in taking.same.items()}


def transformed(
    groups: Mapping[str, xr.Dataset],
    taking: Participants,
    prefix: str,
    resolved: ResolvedSpec,
    transformation: Transformation,
    own: xr.Dataset,
    provenance: Provenance,
) -> dict[str, xr.Dataset | None]:
    """Changed groups of the result: the relabelled ones, and the record, composed if need be."""
    fresh = moved(groups, taking, prefix, resolved, transformation)
    if f"{prefix}relabel" in groups:
        _, done = stored_elements(groups, prefix)
        specs = (Provenance.within(groups, prefix).spec, resolved.complete_spec())
        before, now = (replace(spec, supports={}) for spec in specs)  # which move nothing
        if before != now:
            raise SpecError(
                "these draws were aligned before under another spec, and the two cannot be "
                "composed; undo the first (relabel.undo), then align"
            )
        transformation = transformation @ done
        earlier = Provenance.within(groups, prefix).without_findings()
        provenance = replace(provenance, earlier=earlier)
    stored = own.drop_vars([BEFORE, AFTER], errors="ignore")
    stored = stored.assign(transformation.to_dataset().data_vars)
    sums = _checksums(groups, taking, prefix, fresh, provenance)
    stored, provenance = stored.assign(sums), replace(provenance, checksums=tuple(sums))
    if transformation.offsets is not None:
        provenance = replace(provenance, offsets=tuple(transformation.offsets.values))
    posterior = taking.same["posterior"]
    coords = {d: posterior[d] for d in SAMPLE_DIMS if d in posterior.coords}
    stored = stored.assign_coords(coords)
    stored.attrs = provenance.attrs()
    return {**fresh, f"{prefix}relabel": stored}


def _checksums(
    groups: Mapping[str, xr.Dataset],
    taking: Participants,
    prefix: str,
    fresh: Mapping[str, xr.Dataset],
    provenance: Provenance,
) -> dict[str, xr.Variable]:
    """Checksums of the draws before any alignment and after this one.

    What lay before an earlier alignment is in its record; where that has other variables, or none
    of the checksums, it is not known.
    """
    covered = provenance.beside_posterior
    found = {AFTER: checksums(after(taking, prefix, fresh), covered).variable}
    if f"{prefix}relabel" not in groups:
        found[BEFORE] = checksums(taking.same, covered).variable
    else:
        earlier, own = Provenance.within(groups, prefix), groups[f"{prefix}relabel"]
        known = BEFORE in earlier.checksums and set(earlier.beside_posterior) == set(covered)
        found |= {BEFORE: own[BEFORE].variable} if known else {}
    about = {BEFORE: "before any alignment", AFTER: "after the alignment"}
    for name, variable in found.items():
        variable.attrs = {"long_name": f"checksum of the values of the draw {about[name]}"}
    return found
