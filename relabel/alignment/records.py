"""Whether a record belongs to the values that it stands beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from relabel.alignment.provenance import in_order, stored_elements
from relabel.data.checksums import AFTER, checksums
from relabel.data.containers import Groups
from relabel.data.participants import participants
from relabel.data.provenance import OWN_RECORD, Provenance
from relabel.errors import DataError, SpecError
from relabel.spec.spec import SAMPLE_DIMS, ResolvedSpec

__all__ = ["Standing", "bound", "check_sums", "checked_values", "standing"]


@dataclass(frozen=True)
class Standing:
    """Which of the variables that a record names are still there.

    Attributes
    ----------
    absent : list of str
        Addresses of which no group that takes part has a variable with draws.
    apart : list of str
        Addresses in groups that had the draws of the posterior, and now have some of them only,
        or another order.
    """

    absent: list[str]
    apart: list[str]

    @property
    def whole(self) -> bool:
        """Whether everything is there as it was, so that values can be compared."""
        return not self.absent and not self.apart


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
    _refuse_lost(groups)
    checked = dict(groups)
    for prefix in ("", "warmup_"):
        if f"{prefix}relabel" not in groups:
            continue
        _, done = stored_elements(groups, prefix)
        own = checked[f"{prefix}relabel"] = in_order(groups, prefix)
        taking, record = participants(groups, prefix), Provenance.within(groups, prefix)
        found = standing(groups, prefix)
        if not (found.whole or partial):
            raise DataError(
                f"the record of the alignment names {', '.join([*found.absent, *found.apart])}, "
                "which the draws do not have, or not with the same draws (renamed, dropped or "
                "selected?): put back what is missing, or undo what is left with "
                "undo(..., partial=True), --partial"
            )
        resolved = bound(record, taking.views())
        for units, element in done.elements.items():
            if resolved.sizes.get(units, element.size) != element.size:
                raise DataError(
                    f"the group '{prefix}relabel' is damaged: it is of {element.size} units "
                    f"{units!r}, and the draws have {resolved.sizes[units]}"
                )
        if AFTER in record.checksums and found.whole:
            said = "are not those that the alignment wrote (reordered, mixed or edited?)"
            check_sums(own, AFTER, taking.same, record, said)
    return checked


def _refuse_lost(groups: Groups) -> None:
    """Refuse draws of a warm-up that was aligned, and whose record is gone."""
    if "relabel" not in groups or "warmup_relabel" in groups:
        return
    record = Provenance.within(groups)
    known = {f"warmup_{address}" for address in record.variables}
    theirs = [name for name, how in record.groups.items() if how == OWN_RECORD and name in groups]
    if lost := [name for name in theirs if known & {f"{name}/{v}" for v in groups[name].variables}]:
        raise DataError(
            f"{', '.join(lost)} were relabelled too, and their record, the group 'warmup_relabel', "
            "is gone: put it back, or drop these groups"
        )


def standing(groups: Mapping[str, xr.Dataset], prefix: str) -> Standing:
    """Return which of the recorded variables are absent, or have other draws than they had."""
    record, taking = Provenance.within(groups, prefix), participants(groups, prefix)
    views = taking.views()
    absent = [address for address in record.variables if not _has_draws(views, address)]
    apart = [
        address
        for address in record.beside_posterior
        if address not in absent and not _has_draws(taking.same, address)
    ]
    return Standing(*([f"{prefix}{address}" for address in found] for found in (absent, apart)))


def _has_draws(groups: Mapping[str, xr.Dataset], address: str) -> bool:
    """Whether there is a variable or a coordinate with the dimensions chain and draw."""
    group, _, name = address.partition("/")  # names may have slashes, groups have none
    variables = groups[group].variables if group in groups else {}
    return name in variables and set(SAMPLE_DIMS) <= set(variables[name].dims)


def bound(record: Provenance, shared: Mapping[str, xr.Dataset]) -> ResolvedSpec:
    """Return the recorded spec on all groups that take part, without variables that they lack.

    Raises
    ------
    DataError
        If it does not fit them.
    """
    try:
        return record.spec.bind_present(shared)
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
    found = checksums(shared, record.beside_posterior).values
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
