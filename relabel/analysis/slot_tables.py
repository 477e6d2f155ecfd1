"""What is known of every slot of aligned draws: its label, and the entries that it holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.analysis.credible_regions import check_prob, regions
from relabel.diagnostics.aligned import Aligned
from relabel.diagnostics.diagnosing import label_confidence
from relabel.diagnostics.kernels.rhat_ess import pointwise
from relabel.errors import SpecError
from relabel.spec.arrays import SAMPLE_DIMS, closest
from relabel.spec.variables import BoundVariable

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["entries_per_slot", "slots", "summary"]

Array = NDArray[Any]

_BLOCK = 1_000_000  # values that are sorted, or labels that are counted, at a time


def slots(aligned: Any, units: str | Sequence[str] | None = None) -> pd.DataFrame:
    """Return how far the label of every slot can be believed.

    Parameters
    ----------
    aligned : InferenceData, DataTree or Dataset
        What :func:`relabel.align` returned.
    units : str or sequence of str, optional
        Sets of units; all by default.

    Returns
    -------
    DataFrame
        Indexed by ``units`` and ``slot``, with the columns

        ==============  ==============================================================
        ``confidence``  mean probability that the slot holds the right unit, with the
                        right sign, as :func:`relabel.diagnose` says it: 0 in draws in
                        which the slot is empty. What it has stored is used, else it
                        is computed with its defaults; nan for fewer than 20 draws
        ``margin``      mean gain over the best assignment that changes the slot, in the
                        unit of the criterion's loss; nan where none was computed
        ``empty``       share of the draws in which no label names the slot; only where
                        the spec declares ``values``
        ==============  ==============================================================

        Draws that are not finite, and chains that are flagged, have no part in any of them.

    Raises
    ------
    SpecError
        If there are no such units.
    DataError
        If the draws were not aligned, or the record is damaged.

    Examples
    --------
    >>> import relabel
    >>> from relabel.simulate import mixture
    >>> simulated = mixture(3, separation=6, draws=50)
    >>> aligned = relabel.align(simulated.data, simulated.spec)
    >>> slots(aligned).round(2)[["confidence", "empty"]]
                    confidence  empty
    units     slot
    component 0            1.0    0.0
              1            1.0    0.0
              2            1.0    0.0
    """
    import pandas as pd

    read = Aligned.read(aligned)
    stored = read.groups["relabel"]
    chosen = _chosen(units, read.bound.sizes)
    sound, confidence = _believed(read, chosen)
    tables = []
    for name in chosen:
        size = read.bound.sizes[name]
        columns = {"confidence": confidence[name], "margin": np.full(size, np.nan)}
        if f"{name}_margin" in stored:
            columns["margin"] = _mean_over_draws(read, stored[f"{name}_margin"], name, sound)
        labels = [v for v in read.bound.variables if v.labels_of == name]
        if labels:
            columns["empty"] = _empty(read, labels, size, read.draws.rows[sound])
        tables.append(pd.DataFrame(columns, index=_index({"units": [name] * size}, range(size))))
    return pd.concat(tables)


def summary(
    aligned: Any,
    units: str | Sequence[str] | None = None,
    *,
    var_names: str | Sequence[str] | None = None,
    prob: float = 0.9,
) -> pd.DataFrame:
    """Return a summary of every entry of every slot, as ``arviz.summary`` gives it of variables.

    Parameters
    ----------
    aligned : InferenceData, DataTree or Dataset
        What :func:`relabel.align` returned.
    units : str or sequence of str, optional
        Sets of units; all by default.
    var_names : str or sequence of str, optional
        Variables of the posterior that carry units; all by default. Statistics of convergence
        cost milliseconds for each entry.
    prob : float, default 0.9
        Of intervals and of the region.

    Returns
    -------
    DataFrame
        Indexed by ``units``, ``slot`` and ``entry`` (``W1[0, 2]``). An entry between two sets of
        units is listed with both; one of an array that has the same units on both sides with the
        slot on its first.

        ==========================  ==================================================
        ``mean``, ``sd``            over the draws of all chains
        ``hdi_lb``, ``hdi_ub``      highest density interval of this entry alone
        ``region_lb``, ``_ub``      :func:`relabel.stats.regions` of all entries that are listed
        ``ess_bulk``, ``r_hat``     by ArviZ; nan for constants. A single chain is split
                                    into four segments
        ==========================  ==================================================

        ``attrs["share"]`` is the share of the draws that the region holds.

    Raises
    ------
    SpecError
        If there are no such units or variables, or `prob` is no probability.
    DataError
        If the draws were not aligned, or the record is damaged.

    Examples
    --------
    >>> import relabel
    >>> from relabel.simulate import mixture
    >>> simulated = mixture(3, separation=6, draws=50)
    >>> aligned = relabel.align(simulated.data, simulated.spec)
    >>> table = summary(aligned, var_names="mu")
    >>> table.index.get_level_values("entry").tolist()
    ['mu[0]', 'mu[1]', 'mu[2]']
    >>> bool((table["region_lb"] <= table["hdi_lb"]).all())
    True
    """
    import pandas as pd

    check_prob(prob)
    read = Aligned.read(aligned)
    chosen = _chosen(units, read.bound.sizes)
    variables = _carrying(read, chosen, var_names)
    by_name = {variable.name: variable for variable in variables}
    box = regions(aligned, list(by_name), prob=prob)
    tables = {name: _entries(read, v, box[name], prob) for name, v in by_name.items()}
    rows = []
    for name in chosen:
        for variable in variables:
            axes = [axis for axis, units_of, _ in variable.unit_axes() if units_of == name]
            if axes:
                table = _part(read, variable, tables[variable.name])
                slot = np.indices(variable.shape)[axes[0]].reshape(-1)
                index = _index({"units": [name] * len(table)}, slot, entry=table.index)
                rows.append(table.set_axis(index))
    found = pd.concat(rows)
    order = np.lexsort((found.index.get_level_values("slot"), found.index.codes[0]))
    sorted_rows: pd.DataFrame = found.iloc[order]
    sorted_rows.attrs["share"] = box.attrs["share"]
    return sorted_rows


def entries_per_slot(aligned: Any, units: str | Sequence[str] | None = None) -> dict[str, int]:
    """Return how many entries :func:`summary` lists of a slot, for every variable.

    Parameters
    ----------
    aligned : InferenceData, DataTree or Dataset
        What :func:`relabel.align` returned.
    units : str or sequence of str, optional
        Sets of units; all by default. Of several that one variable carries, the one of which a
        slot has the most entries.

    Returns
    -------
    dict of str to int

    Examples
    --------
    >>> import relabel
    >>> from relabel.simulate import mixture
    >>> simulated = mixture(3, dim=2, draws=5)
    >>> entries_per_slot(relabel.align(simulated.data, simulated.spec))
    {'mu': 2, 'sigma': 2, 'w': 1}
    """
    read = Aligned.read(aligned)
    chosen = _chosen(units, read.bound.sizes)
    carrying = _carrying(read, chosen, None)
    counts = {v.name: dict.fromkeys(chosen, 0) for v in carrying}
    for v in carrying:
        for name in {u for _, u, _ in v.unit_axes() if u in chosen}:
            counts[v.name][name] += int(np.prod(v.shape)) // read.bound.sizes[name]
    return {name: max(of_units.values()) for name, of_units in counts.items()}


def _index(first: dict[str, list[str]], slot: Any, **more: Any) -> pd.MultiIndex:
    """Make an index of units, slot and, it may be, more."""
    import pandas as pd

    levels = {**first, "slot": list(map(int, slot)), **{k: list(v) for k, v in more.items()}}
    return pd.MultiIndex.from_arrays(list(levels.values()), names=list(levels))


def _chosen(units: str | Sequence[str] | None, sizes: dict[str, int]) -> list[str]:
    """Return the names of the sets of units that are asked for."""
    names = list(sizes) if units is None else [units] if isinstance(units, str) else list(units)
    for name in names:
        if name not in sizes:
            raise SpecError(f"there are no units {name!r}{closest(name, sizes)}")
    return names


def _carrying(
    read: Aligned, units: Sequence[str], var_names: str | Sequence[str] | None
) -> list[BoundVariable]:
    """Return the quantities of the posterior that carry some of these units."""
    measured = [
        variable
        for variable in read.bound.measured()
        if any(name in units for _, name, _ in variable.unit_axes())
    ]
    known = [variable.name for variable in measured]
    names = [var_names] if isinstance(var_names, str) else var_names
    for name in names or ():
        if name not in known:
            raise SpecError(
                f"no variable {name!r} of the posterior carries the units {', '.join(units)}"
                f"{closest(name, known)}"
            )
    return measured if names is None else [v for name in names for v in measured if v.name == name]


# ---------------------------------------------------------------------- labels


def _believed(read: Aligned, units: Sequence[str]) -> tuple[Array, dict[str, Array]]:
    """Which draws belong to sound chains, and the mean probability of each slot's label in them.

    Of the draws that take part, as a diagnosis has them; from its record if there is one.
    """
    stored = read.groups["relabel"]
    names = {name: f"{name}_label_probability" for name in units}
    if not all(name in stored for name in names.values()):
        sound, known = label_confidence(read)
        unknown = {name: np.full(read.bound.sizes[name], np.nan) for name in units}
        return sound, unknown | {name: known[name] for name in units if name in known}
    sound = np.ones(len(read.draws.chain), dtype=bool)
    if "chain_flagged" in stored:
        flagged = stored["chain_flagged"].values.astype(bool)
        sound = ~flagged[read.draws.chain] | flagged.all()
    confidence = {}
    for name, variable in names.items():
        label = stored[variable].transpose(*SAMPLE_DIMS, name).values[~read.draws.excluded]
        confidence[name] = np.nan_to_num(label[sound]).mean(axis=0)
    return sound, confidence


def _mean_over_draws(read: Aligned, array: xr.DataArray, units: str, sound: Array) -> Array:
    """Mean over the sound draws; nan for slots that have no value in any."""
    values = array.transpose(*SAMPLE_DIMS, units).values[~read.draws.excluded][sound]
    known = np.isfinite(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _empty(read: Aligned, labels: Sequence[BoundVariable], size: int, rows: Array) -> Array:
    """Share of some draws in which no label names a slot; missing labels name none."""
    named = np.zeros((len(rows), size), dtype=bool)
    for variable in labels:
        array = read.draws.groups[variable.group][variable.name].transpose(*SAMPLE_DIMS, ...)
        flat = array.values.reshape(read.draws.excluded.size, -1)
        step = max(1, _BLOCK // max(1, flat.shape[1]))
        for i in range(0, len(rows), step):
            part = flat[rows[i : i + step]]
            valid = part >= 0  # False for nan and -1, which stand for missing labels
            draw = np.nonzero(valid)[0]
            named[i + draw, part[valid].astype(np.int64)] = True
    empty: Array = 1.0 - named.mean(axis=0)
    return empty


# ---------------------------------------------------------------------- entries


def _entries(
    read: Aligned, variable: BoundVariable, box: xr.DataArray, prob: float
) -> pd.DataFrame:
    """Summarise all entries of one variable, in the order in which they are stored."""
    import pandas as pd

    array = read.groups["posterior"][variable.name].transpose(*SAMPLE_DIMS, *variable.dims)
    values = array.values.reshape(*array.shape[:2], -1)
    pooled = values.reshape(-1, values.shape[2])[read.draws.rows]
    low, high = _hdi(pooled, prob)
    bounds = box.transpose(*variable.dims, "ci_bound").values.reshape(-1, 2)
    rhat, ess = pointwise(np.where(read.draws.excluded[..., None], np.nan, values))
    columns = {
        "mean": pooled.mean(axis=0, dtype=float),
        "sd": pooled.std(axis=0, ddof=min(1, len(pooled) - 1), dtype=float),
        "hdi_lb": low,
        "hdi_ub": high,
        "region_lb": bounds[:, 0],
        "region_ub": bounds[:, 1],
        "ess_bulk": ess,
        "r_hat": rhat,
    }
    return pd.DataFrame(columns, index=_labels(variable, array))


def _part(read: Aligned, variable: BoundVariable, table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the table of a whole variable that are entries of one part."""
    if variable.window is None:
        return table
    shape = [read.groups["posterior"][variable.name].sizes[dim] for dim in variable.dims]
    return table.iloc[variable.of(np.arange(len(table)).reshape(shape)).reshape(-1)]


def _labels(variable: BoundVariable, array: xr.DataArray) -> list[str]:
    """Name every entry by its coordinates, or by numbers where there are none."""
    whole = variable.window is None
    shape = variable.shape if whole else array.shape[2:]
    places = [range(size) for size in shape]
    if len(shape) == len(variable.dims):
        places = [
            array[d].values.tolist() if d in array.coords else p
            for d, p in zip(variable.dims, places, strict=True)
        ]
    index = np.indices(shape).reshape(len(places), -1).T.tolist()
    rows = ([str(p[i]) for p, i in zip(places, row, strict=True)] for row in index)
    return [f"{variable.name}[{', '.join(row)}]" for row in rows]


def _hdi(pooled: Array, prob: float) -> tuple[Array, Array]:
    """Return the shortest interval that holds a share of the draws of each entry, as ArviZ does."""
    m = len(pooled)
    steps = min(int(np.floor(prob * m)), m - 1)
    low, high = [], []
    step = max(1, _BLOCK // m)
    for i in range(0, pooled.shape[1], step):
        ordered = np.sort(pooled[:, i : i + step], axis=0)
        at = (ordered[steps:] - ordered[: m - steps]).argmin(axis=0)[None]
        low.append(np.take_along_axis(ordered, at, axis=0)[0])
        high.append(np.take_along_axis(ordered, at + steps, axis=0)[0])
    return np.concatenate(low), np.concatenate(high)
