"""The groups of the result: relabelled values, and the record of how they came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import xarray as xr

from relabel.alignment.provenance import (
    stored_elements,
)
from relabel.data.checksums import AFTER, BEFORE, checksums
from relabel.data.containers import sharing
from relabel.data.provenance import Provenance
from relabel.errors import SpecError
from relabel.spec.spec import SAMPLE_DIMS, ResolvedSpec
from relabel.spec.transformation import Transformation

__all__ = ["transformed"]


def transformed(
    groups: Mapping[str, xr.Dataset],
    prefix: str,
    resolved: ResolvedSpec,
    transformation: Transformation,
    own: xr.Dataset,
    provenance: Provenance,
) -> dict[str, xr.Dataset | None]:
    """Changed groups of the result: the relabelled ones, and the record, composed if need be."""
    shared = sharing(groups, prefix)
    fresh = transformation.apply(shared, resolved)
    changed: dict[str, xr.Dataset | None] = {
        f"{prefix}{group}": dataset
        for group, dataset in fresh.items()
        if dataset is not shared[group]
    }
    if f"{prefix}relabel" in groups:
        spec, done = stored_elements(groups, prefix)
        if spec != resolved.complete_spec():
            raise SpecError(
                "these draws were aligned before under another spec, and the two cannot be "
                "composed; undo the first (relabel.undo), then align"
            )
        transformation = transformation @ done
        earlier = Provenance.within(groups, prefix).without_findings()
        provenance = replace(provenance, earlier=earlier)
    stored = own.drop_vars([BEFORE, AFTER], errors="ignore")
    stored = stored.assign(transformation.to_dataset().data_vars)
    sums = _checksums(groups, prefix, fresh, provenance)
    stored, provenance = stored.assign(sums), replace(provenance, checksums=tuple(sums))
    if transformation.offsets is not None:
        provenance = replace(provenance, offsets=tuple(transformation.offsets.values))
    coords = {d: shared["posterior"][d] for d in SAMPLE_DIMS if d in shared["posterior"].coords}
    stored = stored.assign_coords(coords)
    stored.attrs = provenance.attrs()
    changed[f"{prefix}relabel"] = stored
    return changed


def _checksums(
    groups: Mapping[str, xr.Dataset],
    prefix: str,
    fresh: Mapping[str, xr.Dataset],
    provenance: Provenance,
) -> dict[str, xr.Variable]:
    """Checksums of the draws before any alignment and after this one.

    What lay before an earlier alignment is in its record; where that has other variables, or none
    of the checksums, it is not known.
    """
    found = {AFTER: checksums(fresh, provenance.variables).variable}
    if provenance.earlier is None:
        found[BEFORE] = checksums(sharing(groups, prefix), provenance.variables).variable
    elif set(provenance.earlier.variables) == set(provenance.variables):
        own = groups[f"{prefix}relabel"]
        found |= {BEFORE: own[BEFORE].variable} if BEFORE in provenance.earlier.checksums else {}
    about = {BEFORE: "before any alignment", AFTER: "after the alignment"}
    for name, variable in found.items():
        variable.attrs = {"long_name": f"checksum of the values of the draw {about[name]}"}
    return found
