"""What values say about a parameter: parts of a whole, and scales, which have no sign to flip."""

from __future__ import annotations

import re

import xarray as xr

from relabel.spec.arrays import SAMPLE_DIMS, core_dims

__all__ = ["no_sign", "sums_to_one"]

_SCALE = {"sigma", "sd", "std", "stdev", "tau", "scale", "var", "variance", "prec", "precision"}
_TOLERANCE = 1e-4  # of a sum of probabilities in single precision


def sums_to_one(variable: xr.DataArray) -> bool:
    """Whether the values are never negative and add up to one over an axis, in all draws.

    Examples
    --------
    >>> w = xr.DataArray([[[0.3, 0.7], [0.5, 0.5]]], dims=("chain", "draw", "k"))
    >>> sums_to_one(w), sums_to_one(2 * w)
    (True, False)
    """
    if variable.dtype.kind != "f":
        return False
    first = variable.isel(dict.fromkeys(SAMPLE_DIMS, 0))
    return any(
        variable.sizes[dim] > 1
        and bool((abs(first.sum(dim) - 1) < _TOLERANCE).all())
        and bool((variable >= 0).all())
        and bool((abs(variable.sum(dim) - 1) < _TOLERANCE).all())
        for dim in core_dims(variable)
    )


def no_sign(name: str, variable: xr.DataArray) -> str:
    """Say why a parameter has no sign that could be flipped; empty if that is not known.

    Examples
    --------
    >>> positive = xr.DataArray([[[0.5, 3.0]]], dims=("chain", "draw", "k"))
    >>> no_sign("sigma_k", positive), no_sign("beta", positive)
    ('is positive in all draws and named like a scale', '')
    """
    if sums_to_one(variable):
        return "is never negative and adds up to one"
    words = {word.rstrip("s") for word in re.findall(r"[a-z]+", name.lower())}
    if words & _SCALE and not bool((variable <= 0).any()):
        return "is positive in all draws and named like a scale"
    return ""
