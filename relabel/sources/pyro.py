"""Draws of Pyro: MCMC objects and dictionaries of tensors.

ArviZ's ``from_pyro`` is not used: arviz 1.x has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.errors import DataError
from relabel.sources.parts import flattened, stats_group
from relabel.sources.samples import tree_of

__all__ = ["from_pyro"]

Array = NDArray[Any]

_SOURCE = "pyro"


def from_pyro(source: Any, *, sample_dims: str | None = None) -> xr.DataTree:
    """Read the draws of Pyro: an ``MCMC`` that has run, or a dictionary of its samples.

    Names with a ``/`` get a dot instead; :func:`relabel.sources.samples.samples_of` returns the
    draws under their original names, as arrays for ``torch.as_tensor``.

    Parameters
    ----------
    source : MCMC, or mapping of str to tensor
        The result of ``mcmc.get_samples(group_by_chain=True)``, ``mcmc.get_samples()``, or
        ``Predictive``.
    sample_dims : str, optional
        Leading axes of samples that are given as a mapping: ``"chain draw"`` where they are grouped
        by chain, else ``"draw"``. By default they follow from the shapes where these leave no
        doubt.

    Returns
    -------
    DataTree
        ``posterior``, and of an MCMC by NUTS or HMC ``sample_stats`` with ``diverging``. Pyro does
        not store log densities.

    Raises
    ------
    DataError
        If the MCMC has not run, or axes are not clear.

    References
    ----------
    Bingham et al. (2019), https://jmlr.org/papers/v20/18-403.html

    Examples
    --------
    >>> draws = from_pyro({"w": np.zeros((4, 100, 3))}, sample_dims="chain draw")
    >>> dict(draws["posterior"].sizes)
    {'chain': 4, 'draw': 100, 'w_dim_0': 3}
    """
    if isinstance(source, Mapping):
        return tree_of(flattened(source), source=_SOURCE, sample_dims=sample_dims)
    if not hasattr(source, "get_samples"):
        raise DataError(
            "pyro: the source must be an MCMC or a mapping from names to tensors, not "
            f"{type(source).__name__}"
        )
    if not getattr(source, "_samples", True):
        raise DataError("pyro: the MCMC has not run yet; call mcmc.run first")
    arrays = flattened(source.get_samples(group_by_chain=True))
    groups = {}
    divergences = source.diagnostics().get("divergences")
    if divergences:
        n_chains, n_draws = next(iter(arrays.values())).shape[:2]
        groups["sample_stats"] = stats_group({"diverging": _marked(divergences, n_chains, n_draws)})
    return tree_of(arrays, source=_SOURCE, sample_dims="chain draw", groups=groups)


def _marked(divergences: Mapping[str, Any], n_chains: int, n_draws: int) -> Array:
    """Mark the divergences, given by ``chain {i}``, as (chain, draw)."""
    diverging = np.zeros((n_chains, n_draws), bool)
    for chain in range(n_chains):
        diverging[chain, np.asarray(divergences.get(f"chain {chain}", []), int)] = True
    return diverging
