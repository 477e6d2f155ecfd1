"""Arrays that are stored twice, because a network uses one array in two places."""

from __future__ import annotations

import itertools

import numpy as np
import xarray as xr

from relabel.spec.arrays import is_drawn

__all__ = ["tied_weights"]


def tied_weights(posterior: xr.Dataset) -> list[tuple[str, str, bool]]:
    """Find arrays that are stored twice, since a network uses one array in two places.

    An example is the embedding of words and the layer that writes words. Only the first draw is
    compared, and only arrays with two axes or more and more than one value.

    Returns
    -------
    list of (str, str, bool)
        Names of the two, and whether one is the transpose of the other.
    """
    kinds: dict[tuple[object, ...], list[tuple[str, np.ndarray]]] = {}
    for name, variable in posterior.data_vars.items():
        if variable.ndim < 4 or variable.dtype.kind != "f" or not is_drawn(variable):
            continue
        values = variable.isel(chain=0, draw=0).values
        low, high = values.min(initial=np.inf), values.max(initial=-np.inf)
        if low < high:
            key = (tuple(sorted(values.shape)), float(low), float(high))
            kinds.setdefault(key, []).append((str(name), values))
    found = []
    for alike in kinds.values():
        for (one, values), (other, others) in itertools.combinations(alike, 2):
            if np.array_equal(values, others) or np.array_equal(values, others.T):
                found.append((one, other, not np.array_equal(values, others)))
    return found
