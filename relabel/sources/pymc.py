"""Draws of PyMC: ArviZ data, and the MultiTrace of older code, which ArviZ itself does not read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.data.containers import is_inference_data, unpack
from relabel.errors import DataError
from relabel.sources.parts import lengths, posterior_of, stats_group, without_slashes
from relabel.sources.samples import tree_of

__all__ = ["from_pymc"]

Array = NDArray[Any]

_SOURCE = "pymc"
_TRANSFORMED = re.compile(r"_[a-z0-9]+__$")

#: PyMC's statistics -> names of ArviZ; others are left out.
_STATS = {
    "lp": "lp",
    "model_logp": "lp",
    "diverging": "diverging",
    "energy": "energy",
    "depth": "tree_depth",
    "tree_size": "n_steps",
    "n_steps": "n_steps",
    "mean_tree_accept": "acceptance_rate",
    "step_size": "step_size",
}


def from_pymc(trace: Any, *, model: Any = None) -> xr.DataTree:
    """Read the draws of PyMC: either result of ``pm.sample``.

    ArviZ data are returned with all their groups and coordinates. A ``MultiTrace``
    (``pm.sample(..., return_inferencedata=False)``) gets the same groups; draws of the tuning
    become ``warmup_posterior``. Transformed variables (``sigma_log__``) are left out: only the
    variable itself carries units.

    Parameters
    ----------
    trace : InferenceData, DataTree or MultiTrace
    model : pymc.Model, optional
        The model that has the names of dimensions and the coordinates of a MultiTrace; by default
        the model that was sampled.

    Returns
    -------
    DataTree

    Raises
    ------
    DataError
        If it is none of these, there are no draws, or chains differ in length.

    References
    ----------
    Abril-Pla et al. (2023), https://doi.org/10.7717/peerj-cs.1516

    Examples
    --------
    >>> tree = xr.DataTree.from_dict({"posterior": xr.Dataset({
    ...     "sigma": (("chain", "draw"), np.ones((2, 5))),
    ...     "sigma_log__": (("chain", "draw"), np.zeros((2, 5)))})})
    >>> list(from_pymc(tree)["posterior"].data_vars)
    ['sigma']
    """
    if is_inference_data(trace) or isinstance(trace, (xr.DataTree, xr.Dataset)):
        return xr.DataTree.from_dict(
            {path: _without_transformed(group) for path, group in unpack(trace).items()}
        )
    if not (hasattr(trace, "varnames") and hasattr(trace, "get_values")):
        raise DataError(
            "pymc: the trace must be an InferenceData, a DataTree or a MultiTrace, not "
            f"{type(trace).__name__}"
        )
    return _tree_of_multitrace(trace, model)


def _without_transformed(group: xr.Dataset) -> xr.Dataset:
    names = [name for name in group.data_vars if _TRANSFORMED.search(str(name))]
    return without_slashes(group.drop_vars(names))


def _tree_of_multitrace(trace: Any, model: Any) -> xr.DataTree:
    chains = list(trace.chains)
    names = [name for name in trace.varnames if not _TRANSFORMED.search(name)]
    if not chains or not names or not len(trace):
        raise DataError("pymc: the trace has no draws")
    samples = {name: trace.get_values(name, combine=False, squeeze=False) for name in names}
    numbers = [len(values) for values in samples[names[0]]]
    if len(set(numbers)) > 1:
        draws = lengths([f"chain {chain}" for chain in chains], numbers)
        raise DataError(
            f"pymc: the chains differ in length: {draws}; shorten them, as in "
            f"trace[-{min(numbers)}:], or sample again"
        )
    arrays = {name: np.stack(values) for name, values in samples.items()}
    stats = _statistics(trace)
    start = _n_tuning(trace, numbers[0])
    dims, coords = _dims_of(_model_of(trace, chains, model), arrays)
    groups = {}
    for prefix, rows in (("", slice(start, None)), ("warmup_", slice(0, start))):
        if rows.stop != 0:
            part = {name: array[:, rows] for name, array in arrays.items()}
            tree = tree_of(part, source=_SOURCE, sample_dims="chain draw", dims=dims)
            groups[f"{prefix}posterior"] = posterior_of(tree).assign_coords(coords)
            kept = {name: array[:, rows] for name, array in stats.items()}
            groups |= {f"{prefix}sample_stats": stats_group(kept)} if kept else {}
    return xr.DataTree.from_dict(groups)


def _statistics(trace: Any) -> dict[str, Array]:
    """Return the statistics of the sampler that ArviZ has names for, (chain, draw)."""
    stats = {}
    for name in [name for name in _STATS if name in trace.stat_names]:
        values = np.stack(trace.get_sampler_stats(name, combine=False, squeeze=False))
        values = values.reshape(*values.shape[:2], -1)  # one column for each step method
        if values.shape[2] == 1 and values.dtype.kind in "fiub":
            stats[_STATS[name]] = values[:, :, 0]
    return stats


def _n_tuning(trace: Any, n_draws: int) -> int:
    """Number of draws of the tuning at the beginning of every chain, by the sampler's report."""
    kept = getattr(getattr(trace, "report", None), "n_draws", None)
    return 0 if kept is None else max(0, n_draws - int(kept))


def _model_of(trace: Any, chains: Sequence[int], model: Any) -> Any:
    if model is not None:
        return model
    straces = getattr(trace, "_straces", {})
    return getattr(straces.get(chains[0]), "model", None)


def _dims_of(
    model: Any, arrays: Mapping[str, Array]
) -> tuple[dict[str, Sequence[str]], dict[str, Any]]:
    """Return names of axes and labels along them, as the model has them."""
    known = getattr(model, "named_vars_to_dims", {})
    dims = {
        name: [dim or f"{name}_dim_{i}" for i, dim in enumerate(known[name])]
        for name, array in arrays.items()
        if name in known and len(known[name]) == array.ndim - 2
    }
    used = {dim for named in dims.values() for dim in named}
    labels = getattr(model, "coords", {})
    return dict(dims), {dim: np.asarray(labels[dim]) for dim in used if labels.get(dim) is not None}
