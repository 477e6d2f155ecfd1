"""Which variables beside the posterior could be a network's inputs or targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import xarray as xr

from relabel.data.addresses import variable_at

__all__ = ["TARGET_GROUPS", "automatic_inputs", "find_inputs", "find_targets", "is_auto"]

#: Groups in which targets are looked for.
TARGET_GROUPS = ("constant_data", "observed_data")

_TARGETS = ("y", "target", "targets", "response", "obs", "y_obs")


def is_auto(given: Any) -> bool:
    """Whether an option is ``"auto"``; it may be an array, too.

    Examples
    --------
    >>> is_auto("auto"), is_auto(None), is_auto("constant_data/X")
    (True, False, False)
    """
    return isinstance(given, str) and given == "auto"


def find_inputs(groups: Mapping[str, xr.Dataset], n_inputs: int | None = None) -> list[str]:
    """Return the addresses of variables that could be a network's inputs.

    Parameters
    ----------
    groups : mapping of str to Dataset
    n_inputs : int, optional
        Number of inputs of the network. Without it variables of any shape are inputs.

    Returns
    -------
    list of str
        Numeric variables of constant_data with two axes, the last of this size, that are not named
        like targets (``y``) or a truth (``true_*``).

    Examples
    --------
    >>> data = xr.Dataset({"X": (("obs", "x"), [[1.0, 2.0]]), "y": ("obs", [0.5])})
    >>> find_inputs({"constant_data": data}, 2)
    ['constant_data/X']
    """
    return [
        f"constant_data/{name}"
        for name, variable in groups.get("constant_data", xr.Dataset()).data_vars.items()
        if (variable.ndim > 0 if n_inputs is None else variable.shape[1:] == (n_inputs,))
        and variable.dtype.kind in "fiu"
        and str(name).lower() not in _TARGETS
        and not str(name).startswith("true_")
    ]


def find_targets(groups: Mapping[str, xr.Dataset], n: int) -> list[str]:
    """Return the addresses of variables that could be a network's targets.

    Parameters
    ----------
    groups : mapping of str to Dataset
    n : int
        Number of rows of the inputs.

    Returns
    -------
    list of str
        Variables of constant_data and observed_data that are named like targets (``y``) and have
        so many rows.

    Examples
    --------
    >>> find_targets({"observed_data": xr.Dataset({"y": ("obs", [0.5])})}, 1)
    ['observed_data/y']
    """
    return [
        f"{group}/{name}"
        for group in TARGET_GROUPS
        for name, variable in groups.get(group, xr.Dataset()).data_vars.items()
        if str(name).lower() in _TARGETS and variable.ndim > 0 and len(variable) == n
    ]


def automatic_inputs(
    groups: Mapping[str, xr.Dataset], used: str | None = None, n_inputs: int | None = None
) -> tuple[str | None, str]:
    """Choose the inputs for ``inputs="auto"``.

    They are those that the alignment used; else the only variable that could be inputs; else the
    only one of several for which there are targets, with as many rows.

    Parameters
    ----------
    groups : mapping of str to Dataset
    used : str, optional
        Address of the inputs of the alignment, from its record.
    n_inputs : int, optional
        Number of inputs of the network, where it is known.

    Returns
    -------
    address : str or None
        None if the inputs are not known.
    reason : str
        Why they are not known; empty otherwise.

    Examples
    --------
    >>> data = xr.Dataset({"X": (("obs", "x"), [[1.0], [2.0]]), "Z": (("new", "x"), [[3.0]])})
    >>> automatic_inputs({"constant_data": data}, None, 1)
    (None, 'several variables could be: constant_data/X, constant_data/Z')
    >>> automatic_inputs({"constant_data": data.assign(y=("obs", [0.0, 1.0]))}, None, 1)
    ('constant_data/X', '')
    """
    if used in [f"{group}/{name}" for group, dataset in groups.items() for name in dataset]:
        return used, ""
    found = find_inputs(groups, n_inputs)
    rows = {address: len(variable_at(groups, address, "inputs")) for address in found}
    paired = [address for address, n in rows.items() if find_targets(groups, n)]
    found = paired if len(paired) == 1 else found
    if len(found) == 1:
        return found[0], ""
    several = f"several variables could be: {', '.join(found)}"
    return None, several if found else "none stored"
