"""The way back: draws as they were before any alignment."""

from __future__ import annotations

import warnings

import xarray as xr

from relabel._util.validate import flag
from relabel.alignment.provenance import refuse_reduced, stored_elements
from relabel.alignment.records import absent, bound, check_sums, checked_values
from relabel.data.checksums import BEFORE
from relabel.data.containers import Data, Groups, pack, sharing, unpack
from relabel.data.provenance import Provenance
from relabel.spec.spec import ResolvedSpec
from relabel.spec.transformation import Transformation

__all__ = ["said_of_absent", "undo"]


def undo(data: Data, *, partial: bool = False) -> Data:
    """Return the draws as they were before any alignment.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset
        Aligned draws: there must be a group ``relabel``.
    partial : bool, default False
        Whether to undo what is left where variables of the record were renamed or dropped. A
        warning names them; values are then not compared with the record.

    Returns
    -------
    Same type as `data`
        Bit for bit the original values where elements are permutations and signs; up to rounding
        where they scale or shift. The group ``relabel`` is gone.

    Raises
    ------
    DataError
        If the draws were not aligned, the record of it is damaged, variables that it names are
        absent, or values are not those that the alignment wrote. Records of format 1 and 2 hold no
        checksums, and values are not compared with them.

    Warns
    -----
    UserWarning
        If variables are absent and `partial` is true.

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
    left = said_of_absent(groups) if flag("partial", partial) else ""
    if left:
        warnings.warn(left, UserWarning, stacklevel=2)
    groups = checked_values(groups, partial=partial)
    changed: dict[str, xr.Dataset | None] = {}
    for prefix in ("", "warmup_"):
        if f"{prefix}relabel" in groups:
            changed |= _undone(groups, prefix)
    return pack(data, changed)


def said_of_absent(groups: Groups) -> str:
    """Say which recorded variables are absent, and so are not undone; empty if none are."""
    prefixes = [prefix for prefix in ("", "warmup_") if f"{prefix}relabel" in groups]
    missing = [address for prefix in prefixes for address in absent(groups, prefix)]
    return (
        f"not undone, since the draws do not have them: {', '.join(missing)}; the other variables "
        "were undone, and their values were not compared with the record"
        if missing
        else ""
    )


def _undone(groups: Groups, prefix: str) -> dict[str, xr.Dataset | None]:
    """Undo the groups of the draws, or of the warm-up, and take the record away."""
    _, done = stored_elements(groups, prefix)
    record, shared = Provenance.within(groups, prefix), sharing(groups, prefix)
    resolved = bound(record, shared)
    fresh = done.inverse().apply(shared, resolved)
    if BEFORE in record.checksums and _is_exact(resolved, done) and not absent(groups, prefix):
        said = "do not come back to those before the alignment: the record is damaged"
        check_sums(groups[f"{prefix}relabel"], BEFORE, fresh, record, said)
    changed: dict[str, xr.Dataset | None] = {
        f"{prefix}{group}": dataset
        for group, dataset in fresh.items()
        if dataset is not shared[group]
    }
    return changed | {f"{prefix}relabel": None}


def _is_exact(resolved: ResolvedSpec, done: Transformation) -> bool:
    """Whether values come back bit for bit: nothing was scaled, shifted, centred or rotated."""
    groups = [resolved.group(units) for units in resolved.spec.units]
    return done.offsets is None and not any(g.scales or g.shifts or g.rotates for g in groups)
