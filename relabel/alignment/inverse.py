"""The way back: draws as they were before any alignment."""

from __future__ import annotations

import xarray as xr

from relabel.alignment.provenance import (
    refuse_reduced,
    stored_elements,
)
from relabel.data.containers import Data, pack, sharing, unpack

__all__ = ["undo"]


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
