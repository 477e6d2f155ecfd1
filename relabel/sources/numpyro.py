"""Draws of NumPyro: MCMC objects and the samples of ``get_samples``.

ArviZ's ``from_numpyro`` is not used: it runs the model and its log-likelihood, stores nested
samples as objects, makes a chain of every walker, and needs an MCMC object. The tests compare the
values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.data.containers import DrawsLike, unpack
from relabel.errors import DataError, SpecError
from relabel.sources.parts import data_group, flattened, posterior_of, stats_group
from relabel.sources.samples import as_array, samples_of, tree_of
from relabel.sources.walkers import pooled, unpooled
from relabel.spec.spec import SAMPLE_DIMS

__all__ = ["from_numpyro", "to_numpyro"]

Array = NDArray[Any]

_SOURCE = "numpyro"

#: NumPyro's extra fields -> names of ArviZ.
_STATS = {
    "accept_prob": "acceptance_rate",
    "num_steps": "n_steps",
    "adapt_state.step_size": "step_size",
}


def from_numpyro(
    source: Any,
    *,
    sample_dims: str | None = None,
    warmup: Mapping[str, Any] | None = None,
    constant_data: Mapping[str, Any] | None = None,
    dims: Mapping[str, Sequence[str]] | None = None,
    coords: Mapping[str, Any] | None = None,
) -> xr.DataTree:
    """Read the draws of NumPyro: an ``MCMC`` that has run, or its samples.

    Weights of ``random_flax_module`` and ``random_nnx_module`` are named ``nn/Dense_0.kernel``,
    which files cannot hold; here they are ``nn.Dense_0.kernel``, and :func:`to_numpyro` restores
    the names. Axes of plates are named like their plates.

    Parameters
    ----------
    source : MCMC, or mapping of str to array
        The result of ``mcmc.get_samples()`` or ``mcmc.get_samples(group_by_chain=True)``; values
        may be dictionaries themselves.
    sample_dims : str, optional
        Leading axes of samples that are given as a mapping: ``"chain draw"`` where they are grouped
        by chain, else ``"draw"``. By default they follow from the shapes where these leave no
        doubt.
    warmup : mapping of str to array, optional
        Draws of the warm-up, grouped by chain. NumPyro discards them when it runs: call
        ``mcmc.get_samples(group_by_chain=True)`` after ``mcmc.warmup(..., collect_warmup=True)``.
    constant_data : mapping of str to array, optional
        Data to store with the draws, such as the inputs ``X``.
    dims : mapping of str to sequence of str, optional
        Names of the axes of single sites, beside those of plates.
    coords : mapping of str to array, optional
        Labels along these axes.

    Returns
    -------
    DataTree
        ``posterior``; of an MCMC also ``sample_stats``: ``diverging``, and the fields named by
        ``extra_fields``, with ``lp`` as the negative of ``"potential_energy"``. The walkers of an
        ensemble sampler (AIES, ESS) are one chain, see :func:`relabel.sources.walkers.pooled`.

    Raises
    ------
    DataError
        If the MCMC has not run, its samples are not named, or axes are not clear.

    References
    ----------
    Phan, Pradhan and Jankowiak (2019), https://doi.org/10.48550/arXiv.1912.11554

    Examples
    --------
    >>> samples = {"nn/Dense_0.kernel": np.zeros((4, 100, 2, 3)), "sigma": np.ones((4, 100))}
    >>> draws = from_numpyro(samples)
    Traceback (most recent call last):
    ...
    relabel.errors.DataError: numpyro: all arrays begin with the sizes (4, 100): name these axes, \
by sample_dims='chain draw', sample_dims='draw chain' or, if only the first is an axis of draws, \
sample_dims='draw' (of the command: --sample-dims)
    >>> draws = from_numpyro(samples, sample_dims="chain draw")
    >>> sorted(draws["posterior"].data_vars)
    ['nn.Dense_0.kernel', 'sigma']
    >>> sorted(to_numpyro(draws))
    ['nn/Dense_0.kernel', 'sigma']
    """
    if isinstance(source, Mapping):
        tree = _tree(source, sample_dims, {}, dims or {})
    else:
        tree = _tree_of_mcmc(source, dims or {})
    groups = {name: node.to_dataset() for name, node in tree.children.items()}
    if warmup is not None:
        names = _dims_of(groups["posterior"])
        groups["warmup_posterior"] = posterior_of(_tree(warmup, "chain draw", {}, names))
    if coords:
        groups = {name: _labelled(group, coords) for name, group in groups.items()}
    if constant_data is not None:
        groups["constant_data"] = data_group(constant_data)
    return xr.DataTree.from_dict(groups)


def to_numpyro(
    data: DrawsLike, *, group_by_chain: bool = False, module: str | None = None
) -> dict[str, Any]:
    """Return draws as ``get_samples`` does, for example for ``Predictive``.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset
        Draws from :func:`from_numpyro`, aligned or not.
    group_by_chain : bool, default False
        Whether the leading axes are chain and draw, or one of all draws, one chain after the other.
    module : str, optional
        Return the parameters of this module only, as nested dictionaries for the module itself
        (under ``vmap``): ``module="nn"`` gives ``{"Dense_0": {"kernel": ..., "bias": ...}}``.

    Returns
    -------
    dict
        Name of the site -> draws, nested as the samples were.

    Raises
    ------
    SpecError
        If there is no such module.

    Examples
    --------
    >>> samples = {"nn/Dense_0.kernel": np.zeros((4, 100, 2, 3))}
    >>> draws = from_numpyro(samples, sample_dims="chain draw")
    >>> to_numpyro(draws, module="nn")["Dense_0"]["kernel"].shape
    (400, 2, 3)
    """
    posterior = unpack(data).get("posterior", xr.Dataset())
    if "walkers" in posterior.attrs:
        arrays = {name: a.swapaxes(0, 1) for name, a in unpooled(posterior).items()}
    else:
        arrays = samples_of(data)
    if not group_by_chain:
        arrays = {name: a.reshape(-1, *a.shape[2:]) for name, a in arrays.items()}
    sites = json.loads(posterior.attrs.get("numpyro_nested", "[]"))
    nested: dict[str, Any] = {}
    for name, array in arrays.items():
        inside = any(name.startswith(f"{site}/") for site in sites)
        _put(nested, name.split("/") if inside else [name], array)
    return nested if module is None else _module(nested, module)


def _put(tree: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value


def _module(samples: Mapping[str, Any], module: str) -> dict[str, Any]:
    """Return the parameters of one module by layers."""
    layers: dict[str, Any] = {}
    for name, value in samples.items():
        if name.startswith(f"{module}/"):
            _put(layers, name.removeprefix(f"{module}/").split("."), value)
    if not layers:
        found = sorted({name.split("/")[0] for name in samples if "/" in name})
        raise SpecError(f"numpyro: no module {module!r}; found {', '.join(found) or 'none'}")
    return layers


def _tree(
    samples: Mapping[str, Any],
    sample_dims: str | None,
    stats: Mapping[str, Array],
    dims: Mapping[str, Sequence[str]],
) -> xr.DataTree:
    """Lay samples out as draws; nested ones get flat names."""
    groups = {"sample_stats": stats_group(stats)} if stats else {}
    flat = flattened(samples)
    names = _fitting(dims, flat)
    tree = tree_of(flat, source=_SOURCE, sample_dims=sample_dims, dims=names, groups=groups)
    return _noting_nested(tree, samples)


def _noting_nested(tree: xr.DataTree, samples: Mapping[str, Any]) -> xr.DataTree:
    nested = [name for name, value in samples.items() if isinstance(value, Mapping)]
    if nested:
        noted = posterior_of(tree).assign_attrs(numpyro_nested=json.dumps(nested))
        tree["posterior"].dataset = noted
    return tree


def _fitting(
    dims: Mapping[str, Sequence[str]], samples: Mapping[str, Any]
) -> dict[str, Sequence[str]]:
    """Change names that a dimension cannot have: those of variables and of chain and draw."""
    taken = {*samples, *SAMPLE_DIMS}
    return {
        name: [(f"{dim}_dim" if dim in taken else dim).replace("/", ".") for dim in named]
        for name, named in dims.items()
    }


def _dims_of(posterior: xr.Dataset) -> dict[str, list[str]]:
    """Names of the axes of every variable, under the names of their source."""
    return {
        str(variable.attrs["source_name"]): [str(dim) for dim in variable.dims[2:]]
        for variable in posterior.data_vars.values()
    }


def _labelled(group: xr.Dataset, coords: Mapping[str, Any]) -> xr.Dataset:
    return group.assign_coords({dim: v for dim, v in coords.items() if dim in group.dims})


# Of a run


def _tree_of_mcmc(mcmc: Any, dims: Mapping[str, Sequence[str]]) -> xr.DataTree:
    if not hasattr(mcmc, "get_samples"):
        raise DataError(
            "numpyro: the source must be an MCMC or a mapping from names to arrays, not "
            f"{type(mcmc).__name__}"
        )
    if mcmc.last_state is None:
        raise DataError("numpyro: the MCMC has not run yet; call mcmc.run first")
    samples = mcmc.get_samples(group_by_chain=True)
    if not isinstance(samples, Mapping):
        raise DataError(
            f"numpyro: samples have the type {type(samples).__name__}, without names; read them "
            "with from_pytree"
        )
    stats = _statistics(mcmc.get_extra_fields(group_by_chain=True))
    if _is_ensemble(mcmc.sampler):
        arrays = {name: as_array(v, name, _SOURCE) for name, v in flattened(samples).items()}
        by_step = [{name: a.swapaxes(0, 1) for name, a in d.items()} for d in (arrays, stats)]
        return _noting_nested(pooled(*by_step, source=_SOURCE), samples)
    sizes = {name: np.shape(value)[2:] for name, value in flattened(samples).items()}
    return _tree(samples, "chain draw", stats, _plates(mcmc, sizes) | dict(dims))


def _is_ensemble(kernel: Any) -> bool:
    """Whether chains are walkers; NumPyro is not imported to find out."""
    return any(kind.__name__ == "EnsembleSampler" for kind in type(kernel).__mro__)


def _statistics(fields: Mapping[str, Any]) -> dict[str, Array]:
    stats = {}
    for field, value in flattened(fields).items():
        name = field.removeprefix("hmc_state.")  # of HMC within Gibbs
        if hasattr(value, "shape") and np.ndim(value) >= 2:
            if name == "potential_energy":
                stats["lp"] = -np.asarray(value)
            else:
                stats[_STATS.get(name, name).replace("/", ".")] = np.asarray(value)
    return stats


def _plates(mcmc: Any, sizes: Mapping[str, tuple[int, ...]]) -> dict[str, list[str]]:
    """Name the axes of sites by the plates of the model, which is traced, not run."""
    import jax
    from numpyro import handlers

    model = getattr(mcmc.sampler, "model", None)
    sites: dict[str, list[tuple[int, str, int]]] = {}

    def note() -> None:
        trace = handlers.trace(handlers.seed(model, rng_seed=0))
        for name, site in trace.get_trace(*mcmc._args, **mcmc._kwargs).items():
            if site["type"] == "sample" and name in sizes and site["cond_indep_stack"]:
                event = site["fn"].event_dim
                plates = [(f.dim - event, f.name, f.size) for f in site["cond_indep_stack"]]
                sites[name] = plates

    if model is None:
        return {}
    try:
        jax.eval_shape(note)
    except Exception:  # noqa: BLE001  the model is the user's code; these are only names
        return {}
    return {name: _named(name, sizes[name], plates) for name, plates in sites.items()}


def _named(name: str, shape: tuple[int, ...], plates: list[tuple[int, str, int]]) -> list[str]:
    dims = [f"{name}_dim_{i}" for i in range(len(shape))]
    for axis, plate, size in plates:
        if -len(shape) <= axis and shape[axis] == size:
            dims[axis] = plate
    return dims
