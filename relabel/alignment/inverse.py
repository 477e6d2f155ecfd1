"""The way back: draws as they were before any alignment."""

from __future__ import annotations

import xarray as xr

from relabel.alignment.provenance import (
    refuse_reduced,
    stored_elements,
)
from relabel.alignment.result import moved
from relabel.data.containers import Data, pack, unpack
from relabel.data.participants import participants
from relabel.data.provenance import Provenance

__all__ = ["undo"]


def undo(data: Data, *, group: str = "posterior") -> Data:
    """Return the draws as they were before any alignment.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset
        Aligned draws: there must be a group ``relabel``.
    group : str, default "posterior"
        The posterior that was aligned, in a tree of several models, as in ``"model/posterior"``.

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
    groups = unpack(data, group)
    stored_elements(groups, "")
    refuse_reduced(groups)
    changed: dict[str, xr.Dataset | None] = {}
    for prefix in ("", "warmup_"):
        if f"{prefix}relabel" in groups:
            _, done = stored_elements(groups, prefix)
            taking = participants(groups, prefix)
            spec, views = Provenance.within(groups, prefix).spec, taking.views()
            resolved = spec.present_in(views).bind(views)
            changed |= moved(groups, taking, prefix, resolved, done.inverse())
            changed[f"{prefix}relabel"] = None
    return pack(data, changed, group)
