"""Which variables of the draws hold labels, and the range of those they hold."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, product

import numpy as np
import xarray as xr

from relabel.numerics.labels import Labels, labels_in
from relabel.spec.arrays import SAMPLE_DIMS, core_dims, is_drawn

__all__ = ["could_name", "labels_of"]


def labels_of(variable: xr.DataArray) -> Labels:
    """Find the range of the labels in a variable, chunk by chunk where it is lazy."""
    parts = [labels_in(variable[chunk].values) for chunk in _chunks(variable)]
    odd = next((part.odd for part in parts if part.odd is not None), None)
    lows = [part.lowest for part in parts if part.lowest is not None]
    highs = [part.highest for part in parts if part.highest is not None]
    return Labels(min(lows, default=None), max(highs, default=None), odd)


def could_name(variable: xr.DataArray, size: int) -> bool:
    """Whether the values of a variable span the labels of some units: 0 to K - 1, or 1 to K.

    Missing labels do not count. Floats may hold labels, if their first draw does.

    Parameters
    ----------
    variable : DataArray
    size : int
        Number of units, K.
    """
    kind = variable.dtype.kind
    if size < 2 or not is_drawn(variable) or kind not in "iuf" or not core_dims(variable):
        return False
    if kind == "f":
        first = variable.isel(dict.fromkeys(SAMPLE_DIMS, 0)).values
        first = first[~np.isnan(first)]
        if not first.size or (first != np.rint(first)).any():
            return False
    found = labels_of(variable)
    return found.lowest in (0, 1) and found.highest == size - 1 + found.lowest


def _chunks(variable: xr.DataArray) -> Iterator[tuple[slice, ...]]:
    """Yield the chunks of a variable; a variable in memory is one chunk."""
    ends = [np.cumsum((0, *sizes)) for sizes in variable.chunks or ((n,) for n in variable.shape)]
    for cuts in product(*(pairwise(e) for e in ends)):
        yield tuple(slice(int(a), int(b)) for a, b in cuts)
