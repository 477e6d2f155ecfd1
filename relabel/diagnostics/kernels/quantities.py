"""R-hat and ESS before and after: of weights, of what no relabelling changes, of outputs, of lp."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.matching.features import Layout, Problem
from relabel.spec.gauges import centred_axis
from relabel.spec.spec import SAMPLE_DIMS, ResolvedSpec

__all__ = ["N_POINTS", "invariants", "weights_of"]

Array = NDArray[Any]

N_POINTS = 64  # inputs, evenly spaced, at which outputs are compared
_ROUNDING = 1e-6  # of the largest summary: draws may be stored with single precision
_MOST_PRODUCTS = 8  # features whose products are summed, of each kind


def weights_of(resolved: ResolvedSpec, posterior: xr.Dataset) -> list[Array]:
    """Return every variable of the posterior that relabelling can change, (chain, draw, ...)."""
    shifted = {shift.bias for shift in resolved.shifts}
    changed = [
        v.name
        for v in resolved.measured()
        if v.unit_axes() or v in shifted or centred_axis(v, resolved.spec.gauges) is not None
    ]
    return [posterior[name].transpose(*SAMPLE_DIMS, ...).values for name in dict.fromkeys(changed)]


def invariants(problem: Problem, layout: Layout) -> dict[str, Array]:
    """Summaries of the units that no relabelling changes.

    Parameters
    ----------
    problem : Problem
        The draws, in any labelling.
    layout : Layout
        Meaning of the features, and their centres.

    Returns
    -------
    dict of str to ndarray of shape (draws, ...)
        For each set of units: sums over units of the products of (some of) its own features, of one
        kind each, flipping or not; sums of those that do not flip; and the sorted norms.
    """
    found: dict[str, list[Array]] = {}
    for number in range(len(problem.slices)):
        block = problem.block(number)
        for units in layout.sizes:
            values = layout.features(block, units)
            if not values.shape[2]:
                continue
            signed = layout.signed(units)
            summaries = [values[:, :, ~signed].sum(axis=1)]
            if not layout.groups[units].rotates:
                summaries.append(np.sort((values**2).sum(axis=2), axis=1))
            for kind in (signed, ~signed):
                some = values[:, :, _some(np.flatnonzero(kind))]
                products = some.swapaxes(1, 2) @ some
                upper = np.triu_indices(some.shape[2])
                summaries.append(products[:, upper[0], upper[1]])
            found.setdefault(units, []).append(np.concatenate(summaries, axis=1))
    return {units: _varying(np.concatenate(parts)) for units, parts in found.items()}


def _varying(summaries: Array) -> Array:
    """Leave out what varies by rounding only, such as the sum of weights that add up to one."""
    size = np.sqrt((summaries**2).mean(axis=0)).max(initial=0.0)
    kept: Array = summaries[:, summaries.std(axis=0) > _ROUNDING * size]
    return kept


def _some(columns: Array) -> Array:
    """At most so many columns, evenly spaced."""
    most = np.unique(np.linspace(0, len(columns) - 1, _MOST_PRODUCTS).round().astype(int))
    chosen: Array = columns[most[most >= 0]] if len(columns) else columns
    return chosen
