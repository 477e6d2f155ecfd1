"""Draws from files of any kind, read as a whole, by variables, or as one point."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import xarray as xr

from relabel.data.containers import DrawsLike, unpack
from relabel.errors import DataError, FileError
from relabel.sources.base import Source
from relabel.sources.failures import first_line, reading
from relabel.sources.kinds import all_sources, files_of
from relabel.sources.members import listed
from relabel.spec.spec import SAMPLE_DIMS

__all__ = ["load", "open_draws", "read_point"]

PathLike = str | os.PathLike[str]


def open_draws(
    path: PathLike | Sequence[PathLike],
    *,
    sample_dims: str | None = None,
    truncate: bool = False,
    **options: Any,
) -> xr.DataTree | xr.Dataset:
    """Open saved draws: ArviZ's netCDF-4 or Zarr, weights of networks, draws of samplers.

    The kind of a file is recognised by its content. The file is never written to, and none of its
    code is run. Variables of netCDF and Zarr (of arviz 0.x and 1.x) are read when they are first
    used. Other kinds are read at once, see :mod:`relabel.sources`.

    Parameters
    ----------
    path : path-like, or sequence of path-like
        A file, a Zarr store, or several files of one kind, which are members or chains: a list in
        its order, or a pattern such as ``"fit_*.csv"`` or a folder in natural order (``member_2``
        before ``member_10``).
    sample_dims : str, optional
        The leading axes of stacked arrays, where the file does not define them: ``"chain draw"``,
        ``"draw chain"``, ``"draw"``, or ``""`` for a single member.
    truncate : bool, default False
        Whether to shorten Stan's chains to the shortest, where some were cut short or have
        different lengths.
    **options
        Further options of the reader of this kind, such as `layout` of ``.npy`` files and of
        emcee.

    Returns
    -------
    DataTree or Dataset
        A Dataset if the file has no groups and holds the draws at its root.

    Raises
    ------
    FileError
        If there is no such file, its kind is unknown, it is damaged, or would run code, or the
        files are of several kinds.
    DataError
        If the content is not draws of one model, or the reader of this kind has no such option.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(Path(folder) / "draws.npz", mu=np.zeros((100, 3)), tau=np.zeros(100))
    ...     tree = open_draws(Path(folder) / "draws.npz")
    >>> dict(tree["posterior"].sizes)
    {'chain': 1, 'draw': 100, 'mu_dim_0': 3}
    """
    given = listed(path)
    with reading(given, "draws"):
        paths, source = files_of(given)
    if sample_dims is not None:
        options["sample_dims"] = sample_dims
    if truncate:
        options["truncate"] = truncate
    for name, value in options.items():
        if name not in source.options:
            raise DataError(f"{paths[0]}: {_not_taken(name, value, source)}")
    with reading(paths, source.name):
        return source.read(paths, **options)


def _not_taken(name: str, value: Any, source: Source) -> str:
    """Say which kinds of files an option is for."""
    takers = [other.name for other in all_sources() if name in other.options]
    if not takers:
        return f"no kind of file has the option {name!r}"
    return (
        f"{name}={value!r} is for {', '.join(takers)}; this is {source.name}, so leave "
        f"{name}={value!r} out"
    )


def load(draws: DrawsLike, names: Collection[str], path: PathLike) -> None:
    """Read variables now, so that damage to the file is reported before any work is done.

    Parameters
    ----------
    draws : InferenceData, DataTree or Dataset
        Draws from :func:`open_draws`.
    names : collection of str
        Addresses ``group/name``, or names in the posterior and its warm-up; if empty, all variables
        of these two.
    path : path-like
        The file, for the message.

    Raises
    ------
    FileError
        If values cannot be read.
    """
    for group, dataset in unpack(draws).items():
        plain = group in ("posterior", "warmup_posterior")
        for name, variable in dataset.variables.items():
            if f"{group}/{name}" in names or (plain and (name in names or not names)):
                try:
                    variable.load()
                except Exception as error:
                    full = "there is not enough memory: " * isinstance(error, MemoryError)
                    raise FileError(
                        f"{path}: {group}/{name} cannot be read: {full}{first_line(error)}"
                    ) from error


def read_point(path: PathLike) -> tuple[xr.Dataset, str]:
    """Read a reference point from a file of draws.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    Dataset
        One point: the posterior itself if it has no draws; the mean of the draws if they were
        aligned; else the draw of highest ``sample_stats/lp``.
    str
        Which of the three it is.

    Raises
    ------
    FileError
        If the draws were not aligned and have no ``lp`` to choose one by.
    """
    draws = open_draws(path)
    groups = unpack(draws)
    if "posterior" not in groups:
        raise FileError(f"{path}: no group 'posterior' to take a reference from")
    load(draws, ["sample_stats/lp"] if "relabel" not in groups else [], path)
    posterior = groups["posterior"]
    if not set(SAMPLE_DIMS) & set(posterior.dims):
        return posterior, "the point in the file"
    if "relabel" in groups:
        return posterior.mean(SAMPLE_DIMS), "the mean of its aligned draws"
    lp = groups.get("sample_stats", xr.Dataset()).get("lp")
    if lp is None:
        raise FileError(
            f"{path}: its draws were not aligned and have no sample_stats/lp to choose one by; "
            "align them first, or store a single point"
        )
    load(draws, [], path)
    best = lp.fillna(-np.inf).argmax(SAMPLE_DIMS)
    return posterior.isel({dim: int(best[dim]) for dim in SAMPLE_DIMS}), "its draw of highest lp"
