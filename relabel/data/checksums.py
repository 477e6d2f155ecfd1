"""One number for the values of every draw, which tells whether they are those of a record.

The bytes of a draw are hashed as they are: a NaN with another payload and -0.0 are other values.
Chunks, memory order, byte order and the place of chain and draw among the dimensions make no
difference. The hash finds accidents; it is no protection against forgery.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.spec.arrays import SAMPLE_DIMS

__all__ = ["AFTER", "BEFORE", "checksums"]

Array = NDArray[Any]

#: Names of the variables of the group ``relabel`` that hold the checksums.
BEFORE, AFTER = "checksum_before", "checksum_after"

_WORDS_PER_BLOCK = 2**15  # what fits into a cache
_MIX = np.uint64(0x9E3779B97F4A7C15)


def checksums(groups: Mapping[str, xr.Dataset], addresses: Iterable[str]) -> xr.DataArray:
    """Return one integer for the values of every draw; lazy where the values are.

    Parameters
    ----------
    groups : mapping of str to Dataset
        The groups that share the draws.
    addresses : iterable of str
        Addresses ``group/name`` of the variables. Their order makes no difference.

    Returns
    -------
    DataArray of int64, dims (chain, draw)
    """
    total: Any = 0
    for address in sorted(set(addresses)):
        group, _, name = address.rpartition("/")
        total = total + _of_variable(groups[group][name], address)
    found: xr.DataArray = total.transpose(*SAMPLE_DIMS).astype(np.int64)
    return found


def _of_variable(variable: xr.DataArray, address: str) -> xr.DataArray:
    """Hash of every draw of one variable, as uint64."""
    core = [dim for dim in variable.dims if dim not in SAMPLE_DIMS]
    shape = tuple(variable.sizes[dim] for dim in core)
    kind = variable.dtype.newbyteorder("<").str
    text = f"{address} {kind} {shape}"
    seed = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
    bare = variable.variable
    hashed: xr.DataArray = xr.apply_ufunc(
        _hash,
        xr.DataArray(bare.data, dims=bare.dims),
        kwargs={"n_core": len(core), "seed": seed},
        input_core_dims=[core],
        dask="parallelized",
        dask_gufunc_kwargs={"allow_rechunk": True},
        output_dtypes=[np.uint64],
    )
    return hashed


def _hash(values: Array, *, n_core: int, seed: int) -> Array:
    """Hash the core of every draw: words are mixed, weighted by place, summed and mixed again."""
    batch = values.shape[: values.ndim - n_core]
    n_draws, size = int(np.prod(batch)), int(np.prod(values.shape[values.ndim - n_core :]))
    total = np.zeros(n_draws, np.uint64)
    if size:
        cells = values.reshape(n_draws, size)
        step = max(1, _WORDS_PER_BLOCK // size)
        for start in range(0, n_draws, step):
            words = _words(cells[start : start + step])
            words = _mixed(words)
            words *= _weights(seed, words.shape[1])
            words.sum(axis=1, out=total[start : start + step])
    mixed: Array = _mixed(total + np.uint64(seed)).reshape(batch)
    return mixed


def _words(cells: Array) -> Array:
    """Bytes of every row as a fresh array of uint64; small items are one word each."""
    ordered = np.ascontiguousarray(cells, dtype=cells.dtype.newbyteorder("<"))
    width = min(ordered.dtype.itemsize, 8)
    return ordered.view(f"<u{width}").astype(np.uint64)


def _mixed(words: Array) -> Array:
    """Spread every bit over the word, in place."""
    words ^= words >> np.uint64(32)
    words *= _MIX
    words ^= words >> np.uint64(29)
    return words


@lru_cache(maxsize=8)
def _weights(seed: int, number: int) -> Array:
    """Odd numbers, one for every place."""
    places = np.arange(1, number + 1, dtype=np.uint64) * _MIX + np.uint64(seed)
    return _mixed(_mixed(places)) | np.uint64(1)
