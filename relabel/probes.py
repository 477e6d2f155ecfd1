"""Inputs at which the units of a network are compared by their activations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.criteria import Activations, Criterion
from relabel.errors import SpecError
from relabel.network import Network
from relabel.spec import Bound

__all__ = ["find_inputs", "probe_points"]

Array = NDArray[Any]

_N_PROBES = 64


def probe_points(
    bound: Bound,
    groups: Mapping[str, xr.Dataset],
    inputs: Array | str | None,
    criterion: Criterion,
    seed: int,
) -> tuple[Network | None, Array | None, str | None]:
    """The network, the points at which to compare activations, and where they come from."""
    wanted = isinstance(criterion, Activations)
    named = not (inputs is None or (isinstance(inputs, str) and inputs == "auto"))
    try:
        network = Network.of(bound)
    except SpecError:
        if named or wanted:
            raise
        return None, None, None
    points, where = _input_values(network, groups, inputs)
    if points is None and wanted:
        raise SpecError(
            "criterion activations: name the inputs (inputs=..., --inputs constant_data/X)"
        )
    if wanted and any(bound.group(u).signs and not _tells_sign(bound, u) for u in bound.sizes):
        raise SpecError(
            "criterion activations: the activations of even units do not tell their signs; use mean"
        )
    if points is None:
        points = np.random.default_rng(seed).normal(size=(_N_PROBES, network.n_inputs))
    most = criterion.n_inputs if isinstance(criterion, Activations) else _N_PROBES
    chosen = np.unique(np.linspace(0, len(points) - 1, most).round().astype(int))
    return network, points[chosen], where


def _tells_sign(bound: Bound, units: str) -> bool:
    action = bound.group(units).action("tail")
    return action is not None and action.signed


def _input_values(
    network: Network, groups: Mapping[str, xr.Dataset], inputs: Array | str | None
) -> tuple[Array | None, str | None]:
    """Inputs as given, as named, or as found if only one variable fits."""
    if inputs is None:
        return None, None
    if isinstance(inputs, str) and inputs == "auto":
        found = find_inputs(groups, network.n_inputs)
        if len(found) != 1:
            return None, None
        inputs = found[0]
    if isinstance(inputs, str):
        group, _, name = inputs.rpartition("/")
        if group not in groups or name not in groups[group]:
            offered = ", ".join(find_inputs(groups, network.n_inputs)) or "none"
            raise SpecError(f"inputs: there is no variable {inputs!r}; candidates are {offered}")
        values, where = groups[group][name].values, inputs
    else:
        values, where = np.asarray(inputs), "given"
    if values.ndim != 2 or values.shape[1] != network.n_inputs or not len(values):
        raise SpecError(
            f"inputs: {where} has the shape {values.shape}; the network reads "
            f"(n, {network.n_inputs})"
        )
    if values.dtype.kind not in "fiub" or not np.isfinite(values).all():
        raise SpecError(f"inputs: {where} is not numeric and finite")
    return values.astype(float), where


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
        Numeric variables of constant_data and observed_data with two axes, the last of this size.
    """
    return [
        f"{group}/{name}"
        for group in ("constant_data", "observed_data")
        for name, variable in groups.get(group, xr.Dataset()).data_vars.items()
        if variable.ndim == 2 and variable.shape[1] == n_inputs and variable.dtype.kind in "fiu"
    ]
