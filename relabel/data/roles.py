"""Which variables beside the posterior could be a network's inputs or targets."""

from __future__ import annotations

from collections.abc import Mapping

import xarray as xr

__all__ = ["TARGET_GROUPS", "find_inputs", "find_targets"]

#: Groups in which targets are looked for.
TARGET_GROUPS = ("constant_data", "observed_data")


_TARGETS = ("y", "target", "targets", "response", "obs", "y_obs")


def find_inputs(groups: Mapping[str, xr.Dataset], n_inputs: int) -> list[str]:
    """Return the addresses of variables that could be a network's inputs.

    Parameters
    ----------
    groups : mapping of str to Dataset
    n_inputs : int
        Number of inputs of the network.

    Returns
    -------
    list of str
        Numeric variables of constant_data with two axes, the last of this size, that are not named
        like targets (``y``) or a truth (``true_*``).
    """
    return [
        f"constant_data/{name}"
        for name, variable in groups.get("constant_data", xr.Dataset()).data_vars.items()
        if variable.ndim == 2
        and variable.shape[1] == n_inputs
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
    """
    return [
        f"{group}/{name}"
        for group in TARGET_GROUPS
        for name, variable in groups.get(group, xr.Dataset()).data_vars.items()
        if str(name).lower() in _TARGETS and variable.ndim > 0 and len(variable) == n
    ]
