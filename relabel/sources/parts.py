"""Groups beside the posterior: statistics of the sampler, warm-up, data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.spec.spec import SAMPLE_DIMS

__all__ = ["data_group", "flattened", "lengths", "posterior_of", "stats_group", "without_slashes"]

Array = NDArray[Any]


def stats_group(values: Mapping[str, Array]) -> xr.Dataset:
    """Return statistics of the sampler, (chain, draw, ...) each, as the group ``sample_stats``.

    Examples
    --------
    >>> dict(stats_group({"lp": np.zeros((2, 5))}).sizes)
    {'chain': 2, 'draw': 5}
    """
    variables = {
        name: xr.Variable((*SAMPLE_DIMS, *_default_dims(name, array.ndim - 2)), array)
        for name, array in values.items()
    }
    stats = xr.Dataset(variables)
    return stats.assign_coords({dim: np.arange(stats.sizes[dim]) for dim in stats.sizes})


def data_group(values: Mapping[str, Any]) -> xr.Dataset:
    """Return arrays without draws as a group such as ``constant_data``.

    Examples
    --------
    >>> dict(data_group({"X": np.zeros((60, 2))}).sizes)
    {'X_dim_0': 60, 'X_dim_1': 2}
    """
    arrays = {name: np.asarray(value) for name, value in values.items()}
    return xr.Dataset(
        {name: (_default_dims(name, array.ndim), array) for name, array in arrays.items()}
    )


def _default_dims(name: str, number: int) -> list[str]:
    return [f"{name}_dim_{i}" for i in range(number)]


def posterior_of(tree: xr.DataTree) -> xr.Dataset:
    """Return the posterior of a tree as a plain dataset, shared."""
    return tree["posterior"].to_dataset()


def without_slashes(group: xr.Dataset) -> xr.Dataset:
    """Rename variables and dimensions with a ``/`` in their names, which files cannot hold.

    Examples
    --------
    >>> group = xr.Dataset({"nn/w": (("chain", "draw", "nn/w_dim_0"), np.zeros((2, 5, 3)))})
    >>> dict(without_slashes(group).sizes), without_slashes(group)["nn.w"].attrs
    ({'chain': 2, 'draw': 5, 'nn.w_dim_0': 3}, {'source_name': 'nn/w'})
    """
    named = [str(name) for name in (*group.variables, *group.dims) if "/" in str(name)]
    if not named:
        return group
    variables = {name: group[name].assign_attrs(source_name=name) for name in group.data_vars}
    return group.assign(variables).rename({name: name.replace("/", ".") for name in named})


def flattened(samples: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten nested dictionaries: the names of the levels are joined with ``/``.

    Examples
    --------
    >>> flattened({"nn": {"Dense_0": {"kernel": 1}}, "sigma": 2})
    {'nn/Dense_0/kernel': 1, 'sigma': 2}
    """
    flat: dict[str, Any] = {}
    for name, value in samples.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}/{rest}": entry for rest, entry in flattened(value).items()}
        else:
            flat[str(name)] = value
    return flat


def lengths(names: Sequence[str], numbers: Sequence[int]) -> str:
    """Say how many draws each chain has.

    Examples
    --------
    >>> lengths(["chain 0", "chain 1"], [100, 80])
    'chain 0 has 100, chain 1 has 80'
    """
    return ", ".join(f"{name} has {n}" for name, n in zip(names, numbers, strict=True))
