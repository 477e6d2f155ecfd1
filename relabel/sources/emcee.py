"""Draws of emcee: samplers, backends and their HDF5 files.

ArviZ's ``from_emcee`` is not used: it makes a chain of every walker, and needs emcee even to read a
file. The tests compare the values.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel._util.validate import integer
from relabel.data.containers import DrawsLike, unpack
from relabel.errors import DataError, FileError, SpecError
from relabel.sources.base import HDF5, Source
from relabel.sources.failures import naming, reading
from relabel.sources.hdf5_links import check_links, inner_groups
from relabel.sources.parts import posterior_of
from relabel.sources.walkers import pooled, unpooled

__all__ = ["EMCEE", "from_emcee", "to_emcee"]

Array = NDArray[Any]

_SOURCE = "emcee"
_LOCKED = re.compile("unable to lock|already open for")


def from_emcee(
    source: Any,
    *,
    var_names: Sequence[str] | None = None,
    layout: Mapping[str, int | Sequence[int]] | None = None,
    discard: int = 0,
    thin: int = 1,
    group: str | None = None,
) -> xr.DataTree:
    """Read the draws of emcee: a sampler, a backend, or the HDF5 file of one.

    Walkers are not chains: the moves of a walker depend on where the others are. All walkers
    together are therefore one chain of step × walker draws, ordered by step (see
    :func:`relabel.sources.walkers.pooled`). R-hat between walkers would be meaningless; the
    effective sample size of the one chain counts walkers as if they were independent and is too
    high: use emcee's own ``get_autocorr_time``. To compare chains, run several ensembles.

    Parameters
    ----------
    source : EnsembleSampler, Backend, HDFBackend or path-like
        A file is read with h5py; emcee is not needed.
    var_names : sequence of str, optional
        One name for each dimension, which then is a variable of its own.
    layout : mapping of str to shape, optional
        Name -> shape of the arrays, in their order in a walker's vector, each in C order. Without
        `var_names` and `layout` the whole vector is one variable ``theta``.
    discard : int, default 0
        Number of steps to leave out at the beginning (burn-in).
    thin : int, default 1
        Keep every `thin`-th step, as emcee's ``get_chain(discard=discard, thin=thin)`` does: the
        first one kept is ``discard + thin - 1``.
    group : str, optional
        Name of the backend within the file; needed where a file holds several.

    Returns
    -------
    DataTree
        ``posterior``, and ``sample_stats`` with ``lp`` (emcee's ``log_prob``). Blobs are left out.

    Raises
    ------
    FileError
        If the file cannot be read, is locked by another process, or holds no backend of emcee.
    DataError
        If there are no steps, or none are left.
    SpecError
        If `var_names` or `layout` do not fit the dimensions, or `discard` or `thin` is not an
        integer of at least 0 and 1.

    References
    ----------
    Foreman-Mackey, Hogg, Lang and Goodman (2013), https://doi.org/10.1086/670067

    Examples
    --------
    >>> class Backend:  # stands for emcee.backends.Backend
    ...     iteration = 100
    ...     def get_chain(self): return np.zeros((100, 16, 7))
    ...     def get_log_prob(self): return np.zeros((100, 16))
    >>> draws = from_emcee(Backend(), layout={"W1": (1, 2), "b1": (2,), "W2": (2, 1), "b2": (1,)})
    >>> dict(draws["posterior"].sizes)["draw"], draws["posterior"].attrs["walkers"]
    (1600, 16)
    >>> to_emcee(draws).shape
    (100, 16, 7)
    """
    discard, thin = integer("discard", discard, low=0), integer("thin", thin, low=1)
    chain, log_prob = _read(source, group)
    steps = slice(discard + thin - 1, None, thin)
    if not len(chain[steps]):
        raise DataError(
            f"emcee: of {len(chain)} steps none is left after discard={discard} and thin={thin}"
        )
    arrays = _split(chain[steps], var_names, layout)
    if taken := [name for name in ("step", "walker") if name in arrays]:
        raise SpecError(f"emcee: {taken[0]!r} is the name of a coordinate of the draws; rename it")
    tree = pooled(arrays, {"lp": log_prob[steps]}, source=_SOURCE)
    first = {"emcee_dimensions": json.dumps(list(arrays))}
    tree["posterior"].dataset = posterior_of(tree).assign_attrs(first)
    return tree


def to_emcee(data: DrawsLike) -> Array:
    """Return draws that came from emcee in its own form, (step, walker, dimension).

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset
        What :func:`from_emcee` returned, aligned or not.

    Raises
    ------
    DataError
        If they did not come from emcee, or draws or variables were removed since.

    Examples
    --------
    >>> class Backend:  # stands for emcee.backends.Backend
    ...     iteration = 3
    ...     def get_chain(self): return np.arange(24.0).reshape(3, 4, 2)
    ...     def get_log_prob(self): return np.zeros((3, 4))
    >>> np.array_equal(to_emcee(from_emcee(Backend())), Backend().get_chain())
    True
    """
    posterior = unpack(data).get("posterior", xr.Dataset())
    arrays = unpooled(posterior)
    order = json.loads(posterior.attrs.get("emcee_dimensions", "[]"))
    lost = [name for name in order if name not in arrays]
    if not order or lost:
        reason = f"it lacks {lost[0]!r}" if lost else "it does not say how vectors were laid out"
        raise DataError(f"emcee: the posterior cannot be laid out as vectors: {reason}")
    return np.concatenate([arrays[n].reshape(*arrays[n].shape[:2], -1) for n in order], axis=-1)


def _split(
    chain: Array, var_names: Sequence[str] | None, layout: Mapping[str, int | Sequence[int]] | None
) -> dict[str, Array]:
    """Split vectors (step, walker, dimension) into named arrays."""
    n_dims = chain.shape[2]
    if var_names is not None and layout is not None:
        raise SpecError("emcee: give var_names or layout, not both")
    if var_names is not None:
        if len(var_names) != n_dims or len(set(var_names)) != n_dims:
            raise SpecError(
                f"emcee: there are {n_dims} dimensions and {len(set(var_names))} different names "
                "in var_names; give one name for each, or a layout"
            )
        return {name: chain[:, :, i] for i, name in enumerate(var_names)}
    if layout is None:
        return {"theta": chain}
    shapes = {name: _shape(name, shape) for name, shape in layout.items()}
    sizes = [math.prod(shape) for shape in shapes.values()]
    if sum(sizes) != n_dims:
        parts = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise SpecError(
            f"emcee: vectors have {n_dims} dimensions, but the layout has {sum(sizes)} ({parts})"
        )
    bounds = pairwise(accumulate(sizes, initial=0))
    return {
        name: chain[:, :, start:stop].reshape(*chain.shape[:2], *shape)
        for (name, shape), (start, stop) in zip(shapes.items(), bounds, strict=True)
    }


def _shape(name: str, shape: Any) -> tuple[int, ...]:
    """One shape of a layout; a number is the size of a vector."""
    sizes = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    if not all(isinstance(size, int | np.integer) and size >= 0 for size in sizes):
        raise SpecError(f"emcee: layout[{name!r}] must be the shape of an array, not {shape!r}")
    return tuple(map(int, sizes))


def _read(source: Any, group: str | None) -> tuple[Array, Array]:
    """Return the steps that were made and their log densities."""
    backend = getattr(source, "backend", source)
    if hasattr(backend, "filename"):
        return _read_file(Path(backend.filename), group or backend.name)
    if isinstance(backend, (str, os.PathLike)):
        return _read_file(Path(backend), group)
    if not hasattr(backend, "get_chain"):
        raise DataError(
            f"emcee: the source must be a sampler, a backend or a path, not {type(source).__name__}"
        )
    if not getattr(backend, "iteration", 0):
        raise DataError("emcee: the sampler has made no steps yet; call run_mcmc first")
    return np.asarray(backend.get_chain()), np.asarray(backend.get_log_prob())


def _read_file(path: Path, group: str | None) -> tuple[Array, Array]:
    with _opened(path) as file:
        with reading(path, "HDF5"):
            found = _backends(file)
        name = group or (found[0] if len(found) == 1 else None)
        if name not in found:
            problem = f"no {name!r}" if name else ("several" if found else "none")
            raise FileError(
                f"{path}: {problem} among its backends of emcee ({', '.join(found) or 'none'}); "
                "name one by group="
            )
        backend = file[name]
        check_links(path, follow_links=False)
        with naming(f"{path}: {name}"):
            n_steps = int(backend.attrs["iteration"])  # space beyond is allocated, not filled
            if not n_steps:
                raise DataError(f"{path}: the sampler has made no steps yet")
            return backend["chain"][:n_steps], backend["log_prob"][:n_steps]


def _backends(file: Any) -> list[str]:
    """Names of the groups that are backends of emcee."""
    return [
        name
        for name, group in inner_groups(file).items()
        if {"nwalkers", "ndim", "iteration"} <= set(group.attrs)
        and {"chain", "log_prob"} <= set(group)
    ]


def _opened(path: Path) -> Any:
    """Open an HDF5 file for reading, without waiting for a process that writes it."""
    import h5py

    try:
        return h5py.File(path, "r")
    except FileNotFoundError as error:
        raise FileError(f"{path}: no such file") from error
    except OSError as error:
        if isinstance(error, BlockingIOError) or _LOCKED.search(str(error)):
            raise FileError(
                f"{path}: another process has it open for writing; wait until the sampler has "
                "ended, or copy the file between two steps and read the copy"
            ) from error
        raise FileError(f"{path}: cannot be read as HDF5: {error}") from error


def _detect(path: Path, start: bytes) -> bool:
    """Whether a file is HDF5 and holds a backend of emcee.

    Raises
    ------
    FileError
        If it is HDF5 and locked by another process, or damaged.
    """
    if not start.startswith(HDF5):
        return False
    with reading(path, "HDF5"), _opened(path) as file:
        return bool(_backends(file))


def _read_kind(paths: Sequence[Path], **options: Any) -> xr.DataTree:
    return from_emcee(paths[0], **options)


EMCEE = Source(
    "emcee",
    _detect,
    _read_kind,
    options=("var_names", "layout", "discard", "thin", "group"),
    separate="join their arrays with np.stack",
)
