"""Whether a record belongs to the values that it stands beside."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from relabel.alignment.provenance import in_order, stored_elements
from relabel.data.checksums import AFTER, checksums
from relabel.data.containers import Groups, sharing
from relabel.data.provenance import Provenance
from relabel.errors import DataError, SpecError
from relabel.spec.spec import SAMPLE_DIMS, ResolvedSpec

__all__ = ["absent", "bound", "check_sums", "checked_values"]


def checked_values(groups: Groups, *, partial: bool = False) -> Groups:
    """Return the groups with the record in the order of the draws; refuse one of other values.

    Reads all values that were relabelled, lazy ones block by block. Records without checksums, of
    format 1 and 2, are not compared with the values.

    Parameters
    ----------
    groups : dict of str to Dataset
        All groups of aligned draws.
    partial : bool, default False
        Whether recorded variables may be absent; then values are not compared.

    Raises
    ------
    DataError
        If the record is damaged, names variables that are absent, or is of other values.
    """
    checked = dict(groups)
    for prefix in ("", "warmup_"):
        if f"{prefix}relabel" not in groups:
            continue
        _, done = stored_elements(groups, prefix)
        own = checked[f"{prefix}relabel"] = in_order(groups, prefix)
        shared, record = sharing(groups, prefix), Provenance.within(groups, prefix)
        missing = absent(groups, prefix)
        if missing and not partial:
            raise DataError(
                f"the record of the alignment names {', '.join(missing)}, which the draws do not "
                "have, or not with the same draws (renamed, dropped or selected?): put back what "
                "is missing, or undo what is left with undo(..., partial=True), --partial"
            )
        resolved = bound(record, shared)
        for units, element in done.elements.items():
            if resolved.sizes.get(units, element.size) != element.size:
                raise DataError(
                    f"the group '{prefix}relabel' is damaged: it is of {element.size} units "
                    f"{units!r}, and the draws have {resolved.sizes[units]}"
                )
        if AFTER in record.checksums and not missing:
            said = "are not those that the alignment wrote (reordered, mixed or edited?)"
            check_sums(own, AFTER, shared, record, said)
    return checked


def absent(groups: Mapping[str, xr.Dataset], prefix: str) -> list[str]:
    """Return the recorded addresses of which there is no variable with the same draws."""
    shared = sharing(groups, prefix)
    return [
        f"{prefix}{address}"
        for address in Provenance.within(groups, prefix).variables
        for group, _, name in [address.rpartition("/")]
        if group not in shared
        or name not in shared[group].data_vars
        or not set(SAMPLE_DIMS) <= set(shared[group][name].dims)
    ]


def bound(record: Provenance, shared: Mapping[str, xr.Dataset]) -> ResolvedSpec:
    """Return the recorded spec on the draws, without variables that they lack.

    Raises
    ------
    DataError
        If it does not fit them.
    """
    try:
        return record.spec.present_in(shared).bind(shared)
    except SpecError as error:
        raise DataError(
            f"the record of the alignment does not fit the draws beside it: {error}"
        ) from error


def check_sums(
    own: xr.Dataset,
    which: str,
    shared: Mapping[str, xr.Dataset],
    record: Provenance,
    said: str,
) -> None:
    """Refuse draws whose values are not those of a checksum; `said` ends the sentence on them."""
    stored = own[which].transpose(*SAMPLE_DIMS).values
    found = checksums(shared, record.variables).values
    other = stored != found
    if not other.any():
        return
    at = tuple(int(i) for i in np.argwhere(other)[0])
    place = ", ".join(
        f"{dim} {own[dim].values[i] if dim in own.coords else i}"
        for dim, i in zip(SAMPLE_DIMS, at, strict=True)
    )
    number, total = int(other.sum()), other.size
    raise DataError(
        f"the values of {number} of {total} draws {said}; the first is {place}. Change draws in "
        "all groups alike, as in data.isel(draw=slice(None, None, 2)), or use the aligned draws "
        "as they were written"
    )
