"""Variables by their addresses ``group/name``, for options that take an array or an address."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.errors import SpecError
from relabel.spec.arrays import closest, named_variables

__all__ = ["values_of", "variable_at"]

Array = NDArray[Any]


def variable_at(
    groups: Mapping[str, xr.Dataset],
    address: str,
    what: str,
    candidates: Collection[str] | None = None,
) -> xr.DataArray:
    """Return the variable at an address.

    Parameters
    ----------
    groups : mapping of str to Dataset
        Groups to look in.
    address : str
        ``group/name``; the name is enough where only one group has it.
    what : str
        Name of the option, with which the message begins, as in ``"inputs"``.
    candidates : collection of str, optional
        Addresses that the message offers; by default the one that is most like `address`.

    Returns
    -------
    DataArray

    Raises
    ------
    SpecError
        If there is no such variable, or several groups have it.

    Examples
    --------
    >>> groups = {"constant_data": xr.Dataset({"X": ("obs", [1.0, 2.0])})}
    >>> variable_at(groups, "X", "inputs").equals(variable_at(groups, "constant_data/X", "inputs"))
    True
    >>> variable_at(groups, "constant_data/x", "inputs")
    Traceback (most recent call last):
    relabel.errors.SpecError: inputs: there is no variable 'constant_data/x' \
(did you mean 'constant_data/X'?); write group/name
    """
    found = named_variables(groups, address)
    if len(found) == 1:
        ((group, name),) = found
        return groups[group][name]
    if found:
        raise SpecError(
            f"{what}: {address!r} is in the groups {', '.join(group for group, _ in found)}; write "
            "group/name"
        )
    if candidates is not None:
        offer = f"; candidates are {', '.join(candidates) or 'none'}"
    else:
        known = [f"{group}/{name}" for group, ds in groups.items() for name in ds.data_vars]
        offer = f"{closest(address, known)}; write group/name"
    raise SpecError(f"{what}: there is no variable {address!r}{offer}")


def values_of(
    groups: Mapping[str, xr.Dataset],
    given: Any,
    what: str,
    candidates: Collection[str] | None = None,
) -> Array:
    """Return an array as it is given, or the values of the variable at an address.

    Parameters
    ----------
    groups : mapping of str to Dataset
    given : array_like or str
        Values, or an address as :func:`variable_at` takes it.
    what, candidates
        As for :func:`variable_at`.

    Returns
    -------
    ndarray

    Raises
    ------
    SpecError
        As :func:`variable_at`.

    Examples
    --------
    >>> values_of({"constant_data": xr.Dataset({"y": ("obs", [1, 2])})}, "y", "targets")
    array([1, 2])
    >>> values_of({}, [1, 2], "targets")
    array([1, 2])
    """
    if isinstance(given, str):
        given = variable_at(groups, given, what, candidates)
    return np.asarray(given)
