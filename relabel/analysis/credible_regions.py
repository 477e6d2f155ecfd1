"""Simultaneous credible regions: one box that holds whole draws, not one entry at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.data.containers import Groups, unpack
from relabel.errors import DataError, SpecError
from relabel.spec.arrays import SAMPLE_DIMS, closest

__all__ = ["BOUNDS", "check_prob", "regions"]

Array = NDArray[Any]

#: Coordinates of the dimension ``ci_bound``, as in ArviZ.
BOUNDS = ("lower", "upper")

_BLOCK = 1_000_000  # values that are sorted at a time


def regions(
    aligned: Any,
    var_names: str | Sequence[str] | None = None,
    *,
    prob: float = 0.9,
    group: str = "posterior",
) -> xr.Dataset:
    r"""Return the simultaneous credible region of all entries of some variables together.

    With :math:`r_{tr}` the rank of draw *t* among the *m* draws of entry *r*, each draw is as far
    out as its most extreme entry,

    .. math:: S_t = \max\bigl(m + 1 - \min_r r_{tr},\; \max_r r_{tr}\bigr),

    and with :math:`s` the :math:`\lfloor m \cdot prob \rfloor`-th smallest of these, the region
    of entry *r* is bounded by its order statistics of rank :math:`m + 1 - s` and :math:`s`. The
    box holds at least that share of the draws as wholes, which intervals that are formed entry by
    entry do not.

    Parameters
    ----------
    aligned : InferenceData, DataTree or Dataset
        Draws; those of all chains are pooled.
    var_names : str or sequence of str, optional
        Variables, numeric. By default all that the alignment relabelled, but for labels.
    prob : float, default 0.9
        Share of the draws that the region is to hold.
    group : str, default "posterior"
        Where the variables are.

    Returns
    -------
    Dataset
        The variables, with ``ci_bound`` (``"lower"``, ``"upper"``) for chain and draw. Attributes:
        `prob`; `share`, of the draws that the region holds; `n_draws` that took part; `left_out`,
        draws that hold a NaN or an infinity.

    Raises
    ------
    SpecError
        If `prob` is no probability, or a variable is unknown or not numeric.
    DataError
        If there is no such group, no finite draw, or too few draws for `prob`; or if no variables
        are named and the draws were not aligned.

    Notes
    -----
    Equal values of an entry share all their ranks: the smallest of them counts above, the largest
    below, so that :math:`S_t` is the smallest *s* whose box holds draw *t*. With many entries and
    few draws nearly every draw is the outermost in some entry; the box is then the whole range of
    the draws and `share` is 1: more draws, or fewer variables, make it narrower. Entries are read
    and sorted block by block, twice.

    References
    ----------
    Besag, J., Green, P., Higdon, D. & Mengersen, K. (1995). Bayesian computation and stochastic
    systems. *Statistical Science* 10(1), 3-41. https://doi.org/10.1214/ss/1177010123

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> draws = np.random.default_rng(0).normal(size=(4, 250, 8))
    >>> data = xr.Dataset({"mu": (("chain", "draw", "component"), draws)})
    >>> box = regions(data, "mu", prob=0.9)
    >>> box["mu"].dims, box.attrs["share"] >= 0.9
    (('component', 'ci_bound'), True)
    >>> bool((box["mu"].sel(ci_bound="upper") > 2).all())  # 1.64 for one entry at a time
    True
    """
    check_prob(prob)
    arrays = _arrays(unpack(aligned), var_names, group)
    finite = np.logical_and.reduce([_finite(array) for array in arrays.values()])
    rows = np.flatnonzero(finite)
    kept = int(np.floor(len(rows) * prob + 1e-9))
    if kept < 1:
        raise DataError(
            f"regions: there are too few finite draws ({len(rows)} of {finite.size}) for "
            f"prob={prob}: the region would hold none"
        )
    depth = np.zeros(len(rows), dtype=np.int64)
    for array in arrays.values():
        for block in _blocks(array, rows):
            np.maximum(depth, _depth(block), out=depth)
    s = int(np.partition(depth, kept - 1)[kept - 1])
    found = {name: _bounds(array, rows, s) for name, array in arrays.items()}
    result = xr.Dataset(found, coords={"ci_bound": list(BOUNDS)})
    result.attrs = {
        "prob": prob,
        "share": float((depth <= s).mean()),
        "n_draws": len(rows),
        "left_out": int(finite.size - len(rows)),
    }
    return result


def check_prob(prob: Any) -> None:
    """Refuse what is no probability between 0 and 1."""
    number = isinstance(prob, (int, float, np.number)) and not isinstance(prob, bool)
    if not (number and 0 < prob < 1):
        raise SpecError(f"prob is a number between 0 and 1, not {prob!r}")


def _arrays(
    groups: Groups, var_names: str | Sequence[str] | None, group: str
) -> dict[str, xr.DataArray]:
    """Return the variables, chain and draw first."""
    if group not in groups:
        raise DataError(f"there is no group {group!r}{closest(group, groups)}")
    dataset = groups[group]
    names = [var_names] if isinstance(var_names, str) else var_names
    if names is None:
        names = _relabelled(groups, group)
    for name in names:
        if name not in dataset.data_vars:
            raise SpecError(
                f"{group} has no variable {name!r}{closest(name, [str(v) for v in dataset])}"
            )
        missing = [dim for dim in SAMPLE_DIMS if dim not in dataset[name].dims]
        if missing or dataset[name].dtype.kind not in "fiub":
            what = f"no dimension {missing[0]!r}" if missing else f"dtype {dataset[name].dtype}"
            raise SpecError(f"regions: {group}/{name} has {what}; name numeric draws in var_names")
    if not names:
        raise SpecError("regions: var_names is empty; name at least one variable")
    return {name: dataset[name].transpose(*SAMPLE_DIMS, ...) for name in names}


def _relabelled(groups: Mapping[str, xr.Dataset], group: str) -> list[str]:
    """Names of the quantities that an alignment relabelled in one group."""
    if "relabel" not in groups:
        raise DataError(
            "regions: these draws were not aligned, so name the variables in var_names; of labels "
            "that switch between draws a region says nothing"
        )
    notes = json.loads(groups["relabel"].attrs["relabel"])
    labels = {key if "/" in key else f"posterior/{key}" for key in notes["spec"].get("values", {})}
    paths = [address.rpartition("/") for address in notes["variables"] if address not in labels]
    return [name for path, _, name in paths if path == group]


def _finite(array: xr.DataArray) -> Array:
    """Which draws, one after the other, are finite throughout."""
    values = array.values.reshape(array.shape[0] * array.shape[1], -1)
    if values.dtype.kind != "f":
        return np.ones(len(values), dtype=bool)
    step = max(1, _BLOCK // max(1, values.shape[1]))
    parts = [np.isfinite(values[i : i + step]).all(axis=1) for i in range(0, len(values), step)]
    return np.concatenate(parts)


def _blocks(array: xr.DataArray, rows: Array) -> Iterator[Array]:
    """Yield some entries at a time, each with all its draws: shape (entries, draws)."""
    values = array.values.reshape(array.shape[0] * array.shape[1], -1)
    step = max(1, _BLOCK // len(rows))
    for i in range(0, values.shape[1], step):
        part = values[:, i : i + step]
        yield np.ascontiguousarray((part if len(rows) == len(part) else part[rows]).T)


def _depth(block: Array) -> Array:
    """Smallest rank *s* at which each draw lies within the bounds of all these entries."""
    m = block.shape[1]
    order = np.argsort(block, axis=1)
    place = np.broadcast_to(np.arange(m), block.shape)
    ordered = np.take_along_axis(block, order, axis=1)
    fresh = ordered[:, 1:] != ordered[:, :-1]
    first = last = place
    if not fresh.all():
        edge = np.ones((len(block), 1), dtype=bool)
        first = np.maximum.accumulate(np.where(np.hstack([edge, fresh]), place, 0), axis=1)
        ends = np.where(np.hstack([fresh, edge]), place, m)
        last = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
    depth = np.empty(block.shape, dtype=np.int64)
    np.put_along_axis(depth, order, np.maximum(m - last, first + 1), axis=1)
    deepest: Array = depth.max(axis=0, initial=0)
    return deepest


def _bounds(array: xr.DataArray, rows: Array, s: int) -> xr.DataArray:
    """Return the order statistics that bound every entry, with the entry's own dimensions."""
    m = len(rows)
    low, high = m - s, s - 1
    parts = [
        np.partition(block, [low, high], axis=1)[:, [low, high]] for block in _blocks(array, rows)
    ]
    dims = array.dims[2:]
    values = np.concatenate(parts) if parts else np.empty((0, 2), dtype=array.dtype)
    coords = {k: v for k, v in array.coords.items() if not set(v.dims) & set(SAMPLE_DIMS)}
    coords = {k: v for k, v in coords.items() if k not in SAMPLE_DIMS}
    shape = (*array.shape[2:], len(BOUNDS))
    return xr.DataArray(values.reshape(shape), coords, (*dims, "ci_bound"), attrs=array.attrs)
