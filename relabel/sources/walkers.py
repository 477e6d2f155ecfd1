"""Walkers of an ensemble sampler, which are not chains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.errors import DataError
from relabel.sources.parts import posterior_of, stats_group
from relabel.sources.samples import tree_of
from relabel.spec.spec import SAMPLE_DIMS

__all__ = ["pooled", "unpooled"]

Array = NDArray[Any]


def pooled(samples: Mapping[str, Array], stats: Mapping[str, Array], *, source: str) -> xr.DataTree:
    """Lay the draws of all walkers out as one chain, ordered by step.

    Every proposal of a walker depends on where the other walkers are. As chains, walkers would
    make R-hat and the effective sample size too good, and a walker that is left behind would look
    like a mode of its own. Here they are one chain of step × walker draws: draw
    ``step * n_walkers + walker`` belongs to that step and walker, as the coordinates ``step`` and
    ``walker`` of the dimension ``draw`` say.

    Parameters
    ----------
    samples : mapping of str to array, (step, walker, ...)
    stats : mapping of str to array, (step, walker)
    source : str
        Where they come from.

    Returns
    -------
    DataTree
        With the number of walkers in the attribute ``walkers`` of the posterior.

    Examples
    --------
    >>> tree = pooled({"w": np.zeros((50, 8, 3))}, {}, source="an example")
    >>> dict(tree["posterior"].sizes)
    {'chain': 1, 'draw': 400, 'w_dim_0': 3}
    >>> tree["posterior/walker"].values[:10]
    array([0, 1, 2, 3, 4, 5, 6, 7, 0, 1])
    """
    first = next(iter(samples.values()))
    n_steps, n_walkers = first.shape[:2]
    one = {name: _one_chain(array) for name, array in samples.items()}
    tree = tree_of(one, source=source, sample_dims="chain draw")
    coords = {
        "step": ("draw", np.repeat(np.arange(n_steps), n_walkers)),
        "walker": ("draw", np.tile(np.arange(n_walkers), n_steps)),
    }
    groups = {"posterior": posterior_of(tree).assign_attrs(walkers=n_walkers)}
    if stats:
        groups["sample_stats"] = stats_group({k: _one_chain(v) for k, v in stats.items()})
    return xr.DataTree.from_dict({name: g.assign_coords(coords) for name, g in groups.items()})


def _one_chain(array: Array) -> Array:
    """(step, walker, ...) to (1, step * walker, ...)."""
    return array.reshape(1, -1, *array.shape[2:])


def unpooled(posterior: xr.Dataset) -> dict[str, Array]:
    """Return the draws of walkers under the names of their source, (step, walker, ...).

    Raises
    ------
    DataError
        If the draws are not of walkers, or some were removed since.

    Examples
    --------
    >>> tree = pooled({"w": np.zeros((50, 8, 3))}, {}, source="an example")
    >>> unpooled(tree["posterior"].to_dataset())["w"].shape
    (50, 8, 3)
    """
    n_walkers = int(posterior.attrs.get("walkers", 0))
    if n_walkers < 1 or "chain" not in posterior.dims:
        raise DataError("these draws are not of walkers: the posterior has no attribute 'walkers'")
    if posterior.sizes["chain"] != 1 or posterior.sizes["draw"] % n_walkers:
        raise DataError(
            f"the posterior has {posterior.sizes['chain']} chains of {posterior.sizes['draw']} "
            f"draws, which are not all draws of {n_walkers} walkers; pass all of them"
        )
    arrays = {
        str(variable.attrs.get("source_name", name)): variable.transpose(*SAMPLE_DIMS, ...).values
        for name, variable in posterior.data_vars.items()
    }
    return {name: a.reshape(-1, n_walkers, *a.shape[2:]) for name, a in arrays.items()}
