"""Simultaneous credible regions: one box that holds whole draws, not one entry at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel._util.validate import real, string, strings
from relabel.data.containers import DrawsLike, unpack
from relabel.data.provenance import Provenance
from relabel.data.selection import positions_of
from relabel.errors import DataError, SpecError
from relabel.spec.arrays import SAMPLE_DIMS, closest, core_dims, draw_values

__all__ = ["BOUNDS", "Box", "box_of", "regions"]

Array = NDArray[Any]

#: Coordinates of the dimension ``ci_bound``, as in ArviZ.
BOUNDS = ("lower", "upper")

_BLOCK = 1_000_000  # values that are sorted at a time


def regions(
    data: DrawsLike,
    var_names: str | Sequence[str] | None = None,
    *,
    coords: Mapping[str, Any] | None = None,
    group: str = "posterior",
    ci_prob: float = 0.9,
) -> xr.Dataset:
    r"""Return the simultaneous credible region of all entries of some variables together.

    With :math:`r_{tr}` the rank of draw *t* among the *m* draws of entry *r*, the depth of a draw
    is that of its most extreme entry,

    .. math:: S_t = \max\bigl(m + 1 - \min_r r_{tr},\; \max_r r_{tr}\bigr),

    and with :math:`s` the :math:`\lfloor m \cdot p \rfloor`-th smallest of these, *p* the
    probability, the region of entry *r* is bounded by its order statistics of rank
    :math:`m + 1 - s` and :math:`s`. The box holds at least that share of whole draws, which
    intervals that are formed entry by entry do not.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset
        Draws; those of all chains are pooled.
    var_names : str or sequence of str, optional
        Variables, numeric. By default all that an alignment relabelled, but for labels.
    coords : mapping of str to object, optional
        Dimension -> labels (or a slice of labels) of the entries that the region is of, as in
        ArviZ; a dimension without coordinates is labelled 0, 1, ... By default all entries.
    group : str, default "posterior"
        Group of these variables.
    ci_prob : float, default 0.9
        Share of the draws that the region must hold.

    Returns
    -------
    Dataset
        The variables, with ``ci_bound`` (``"lower"``, ``"upper"``) for chain and draw. Attributes:
        `ci_prob`; `share` of the draws that the region holds; `n_draws` that were used;
        `left_out`, the number of draws with a NaN or an infinity.

    Raises
    ------
    SpecError
        If `ci_prob` is not a probability, a variable is unknown or not numeric, or a dimension or
        label in `coords` is unknown.
    DataError
        If there is no such group, no finite draw, or too few draws for `ci_prob`; or if no
        variables are named and the draws were not aligned.

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
    >>> box = regions(data, "mu", ci_prob=0.9)
    >>> box["mu"].dims, box.attrs["share"] >= 0.9
    (('component', 'ci_bound'), True)
    >>> bool((box["mu"].sel(ci_bound="upper") > 2).all())  # 1.64 for one entry at a time
    True
    >>> regions(data, "mu", coords={"component": [0, 1]})["mu"].shape
    (2, 2)
    """
    ci_prob = real("ci_prob", ci_prob, 0, 1, open_ends=True)
    arrays = _arrays(unpack(data), strings("var_names", var_names), coords, group)
    flat = {name: draw_values(array) for name, array in arrays.items()}
    box = box_of({name: v.reshape(len(v), -1) for name, v in flat.items()}, ci_prob)
    found = {}
    for name, array in arrays.items():
        kept = {k: v for k, v in array.coords.items() if not {k, *v.dims} & set(SAMPLE_DIMS)}
        bounds = box.bounds[name].reshape(*flat[name].shape[1:], len(BOUNDS))
        dims = (*core_dims(array), "ci_bound")
        found[name] = xr.DataArray(bounds, kept, dims, attrs=array.attrs)
    result = xr.Dataset(found, coords={"ci_bound": list(BOUNDS)})
    result.attrs = {
        "ci_prob": ci_prob,
        "share": box.share,
        "n_draws": box.n_draws,
        "left_out": box.left_out,
    }
    return result


@dataclass(frozen=True)
class Box:
    """A simultaneous credible region.

    Attributes
    ----------
    bounds : dict of str to ndarray of shape (entries, 2)
        Lower and upper bound of every entry, by variable.
    share : float
        Share of the draws that it holds.
    n_draws, left_out : int
        Number of draws that were used, and of those with a NaN or an infinity.
    """

    bounds: dict[str, Array]
    share: float
    n_draws: int
    left_out: int


def box_of(arrays: Mapping[str, Array], ci_prob: float) -> Box:
    """Compute the region of entries given as arrays: see :func:`regions`.

    Parameters
    ----------
    arrays : mapping of str to ndarray of shape (draws, entries)
    ci_prob : float

    Raises
    ------
    DataError
        If there are too few finite draws.
    """
    finite = np.logical_and.reduce([_finite(values) for values in arrays.values()])
    rows = np.flatnonzero(finite)
    kept = int(np.floor(len(rows) * ci_prob + 1e-9))
    if kept < 1:
        raise DataError(
            f"regions: there are too few finite draws ({len(rows)} of {finite.size}) for "
            f"ci_prob={ci_prob:g}: the region would hold none"
        )
    depth = np.zeros(len(rows), dtype=np.int64)
    for values in arrays.values():
        for block in _blocks(values, rows):
            np.maximum(depth, _depth(block), out=depth)
    s = int(np.partition(depth, kept - 1)[kept - 1])
    return Box(
        {name: _order_statistics(values, rows, s) for name, values in arrays.items()},
        float((depth <= s).mean()),
        len(rows),
        int(finite.size - len(rows)),
    )


def _arrays(
    groups: Mapping[str, xr.Dataset],
    var_names: Sequence[str] | None,
    coords: Mapping[str, Any] | None,
    group: str,
) -> dict[str, xr.DataArray]:
    """Return the variables, with the entries that are selected."""
    if string("group", group) not in groups:
        raise DataError(f"there is no group {group!r}{closest(group, groups)}")
    dataset = groups[group]
    names = _relabelled(groups, group) if var_names is None else var_names
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
        raise SpecError(
            f"regions: the alignment relabelled no quantities of the group {group!r}; name the "
            "variables in var_names"
        )
    chosen = positions_of(dataset[list(names)], coords)
    return {
        name: dataset[name].isel({d: at for d, at in chosen.items() if d in dataset[name].dims})
        for name in names
    }


def _relabelled(groups: Mapping[str, xr.Dataset], group: str) -> list[str]:
    """Return the names of the quantities that an alignment relabelled in one group."""
    if "relabel" not in groups:
        raise DataError(
            "regions: these draws were not aligned, so name the variables in var_names; a region "
            "says nothing of labels that switch between draws"
        )
    record = Provenance.within(groups)
    labels = {key if "/" in key else f"posterior/{key}" for key in record.spec.values}
    paths = [address.rpartition("/") for address in record.variables if address not in labels]
    return [name for path, _, name in paths if path == group]


def _finite(values: Array) -> Array:
    """Return which draws are finite in all entries, bool of shape (draws,)."""
    if values.dtype.kind != "f":
        return np.ones(len(values), dtype=bool)
    step = max(1, _BLOCK // max(1, values.shape[1]))
    parts = [np.isfinite(values[i : i + step]).all(axis=1) for i in range(0, len(values), step)]
    return np.concatenate(parts)


def _blocks(values: Array, rows: Array) -> Iterator[Array]:
    """Yield some entries at a time, each with the draws `rows`: shape (entries, draws)."""
    step = max(1, _BLOCK // len(rows))
    for i in range(0, values.shape[1], step):
        part = values[:, i : i + step]
        yield np.ascontiguousarray((part if len(rows) == len(part) else part[rows]).T)


def _depth(block: Array) -> Array:
    """Return the smallest rank *s* at which each draw lies within the bounds of all entries."""
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


def _order_statistics(values: Array, rows: Array, s: int) -> Array:
    """Return the order statistics that bound every entry, shape (entries, 2)."""
    low, high = len(rows) - s, s - 1
    parts = [
        np.partition(block, [low, high], axis=1)[:, [low, high]] for block in _blocks(values, rows)
    ]
    return np.concatenate(parts) if parts else np.empty((0, 2), dtype=values.dtype)
