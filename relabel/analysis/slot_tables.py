"""Tables of the slots of aligned draws: confidence of their labels, summaries of their entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel._util.progress import Report, reporting
from relabel._util.validate import real, string, strings
from relabel.analysis.credible_regions import box_of
from relabel.data.containers import DrawsLike
from relabel.data.selection import positions_of
from relabel.diagnostics.aligned import Aligned
from relabel.diagnostics.diagnosing import label_confidence
from relabel.diagnostics.kernels.rhat_ess import pointwise
from relabel.errors import SpecError
from relabel.spec.arrays import SAMPLE_DIMS, chain_draw_values, closest, draw_values
from relabel.spec.variables import ResolvedVariable

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["entries_per_slot", "slots", "summary"]

Array = NDArray[Any]

_BLOCK = 1_000_000  # values that are sorted, or labels that are counted, at a time


def slots(aligned: DrawsLike, units: str | Sequence[str] | None = None) -> pd.DataFrame:
    """Return the confidence of the label of every slot.

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
                        right sign, as in :func:`relabel.diagnose`: 0 in draws in which
                        the slot is empty. It is read from a stored diagnosis, else
                        computed with the defaults; nan for fewer than 20 draws
        ``margin``      mean gain over the best assignment that changes the slot, in the
                        unit of the criterion's loss; nan where none was computed
        ``empty``       share of the draws in which no label names the slot; only where
                        the spec declares ``values``
        ==============  ==============================================================

        Draws that are not finite and chains that are flagged are excluded.

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
    chosen = _chosen(units, read.resolved.sizes)
    sound, confidence = _confidence(read, chosen)
    tables = []
    for name in chosen:
        size = read.resolved.sizes[name]
        columns = {"confidence": confidence[name], "margin": np.full(size, np.nan)}
        if f"{name}_margin" in stored:
            columns["margin"] = _mean_over_draws(read, stored[f"{name}_margin"], name, sound)
        labels = [v for v in read.resolved.variables if v.labels_of == name]
        if labels:
            columns["empty"] = _empty(read, labels, size, read.draws.rows[sound])
        tables.append(pd.DataFrame(columns, index=_index([name] * size, range(size))))
    return pd.concat(tables)


def summary(
    aligned: DrawsLike,
    units: str | Sequence[str] | None = None,
    *,
    var_names: str | Sequence[str] | None = None,
    coords: Mapping[str, Any] | None = None,
    group: str = "posterior",
    ci_prob: float = 0.9,
    progress: bool | Report = False,
) -> pd.DataFrame:
    """Return a summary of every entry of every slot, as ``arviz.summary`` of variables.

    Parameters
    ----------
    aligned : InferenceData, DataTree or Dataset
        What :func:`relabel.align` returned.
    units : str or sequence of str, optional
        Sets of units; all by default.
    var_names : str or sequence of str, optional
        Variables that carry units; all by default. Statistics of convergence take milliseconds
        for each entry.
    coords : mapping of str to object, optional
        Dimension, or set of units -> labels (or a slice of labels) to select, as in ArviZ: of
        entries, of slots, or of chains and draws. Dimensions without coordinates, and units that
        are not named like a dimension, are labelled 0, 1, ...
    group : str, default "posterior"
        Group of the variables, which must share the draws of the posterior.
    ci_prob : float, default 0.9
        Probability content of the intervals and of the region.
    progress : bool or callable, default False
        True shows a bar; a callable gets ``(stage, done, total)``.

    Returns
    -------
    DataFrame
        Indexed by ``units``, ``slot`` and ``entry`` (``W1[0, 2]``). An entry between two sets of
        units has a row for both; in an array with the same units on both sides the slot is that
        of the first.

        ==========================  ==================================================
        ``mean``, ``sd``            over the draws of all chains
        ``hdi_lb``, ``hdi_ub``      highest density interval of this entry alone
        ``region_lb``, ``_ub``      :func:`relabel.stats.regions` of all selected entries
        ``ess_bulk``, ``r_hat``     by ArviZ; nan for constants. A single chain is split
                                    into four segments
        ==========================  ==================================================

        ``attrs["share"]`` is the share of the draws that the region holds.

    Raises
    ------
    SpecError
        If there are no such units, variables, dimensions or labels, or `ci_prob` is not a
        probability.
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
    >>> summary(aligned, coords={"component": 1}).index.get_level_values("entry").tolist()
    ['mu[1]', 'sigma[1]', 'w[1]']
    """
    import pandas as pd

    ci_prob = real("ci_prob", ci_prob, 0, 1, open_ends=True)
    read = Aligned.read(aligned)
    chosen = _chosen(units, read.resolved.sizes)
    names = strings("var_names", var_names)
    variables = _carrying(read, chosen, names, string("group", group))
    by_name = {variable.name: variable for variable in variables}
    selected = positions_of(read.groups[group], coords, read.resolved.sizes)
    entries = {name: _selected_entries(read, v, selected) for name, v in by_name.items()}
    variables = [v for v in variables if len(entries[v.name])]
    if not variables:
        raise SpecError(f"summary: coords={dict(coords or {})} selects no entry of these variables")
    by_name = {variable.name: variable for variable in variables}
    tables, share = _entry_tables(read, by_name, entries, selected, ci_prob, progress)
    rows = []
    for name in chosen:
        for variable in variables:
            axes = [axis for axis, units_of, _ in variable.unit_axes() if units_of == name]
            if axes:
                slot = np.indices(variable.shape)[axes[0]].reshape(-1)
                place = _places(read, variable)
                kept = np.isin(place, entries[variable.name])
                table = tables[variable.name].loc[place[kept]]
                index = _index([name] * len(table), slot[kept], entry=table.pop("entry"))
                rows.append(table.set_axis(index))
    found = pd.concat(rows)
    order = np.lexsort((found.index.get_level_values("slot"), found.index.codes[0]))
    sorted_rows: pd.DataFrame = found.iloc[order]
    sorted_rows.attrs["share"] = share
    return sorted_rows


def entries_per_slot(
    aligned: DrawsLike, units: str | Sequence[str] | None = None
) -> dict[str, int]:
    """Return how many entries of a slot :func:`summary` has, for every variable.

    Parameters
    ----------
    aligned : InferenceData, DataTree or Dataset
        What :func:`relabel.align` returned.
    units : str or sequence of str, optional
        Sets of units; all by default. Where a variable carries several, the number is that of the
        set whose slots have the most entries.

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
    chosen = _chosen(units, read.resolved.sizes)
    carrying = _carrying(read, chosen, None, "posterior")
    counts = {v.name: dict.fromkeys(chosen, 0) for v in carrying}
    for v in carrying:
        for name in {u for _, u, _ in v.unit_axes() if u in chosen}:
            counts[v.name][name] += int(np.prod(v.shape)) // read.resolved.sizes[name]
    return {name: max(of_units.values()) for name, of_units in counts.items()}


def _index(units: list[str], slot: Any, **more: Any) -> pd.MultiIndex:
    """Build the MultiIndex (units, slot[, ...])."""
    import pandas as pd

    levels = {"units": units, "slot": list(map(int, slot))}
    levels |= {name: list(level) for name, level in more.items()}
    return pd.MultiIndex.from_arrays(list(levels.values()), names=list(levels))


def _chosen(units: str | Sequence[str] | None, sizes: dict[str, int]) -> list[str]:
    """Return the names of the sets of units that are asked for."""
    names = list(strings("units", units) or sizes)
    for name in names:
        if name not in sizes:
            raise SpecError(f"there are no units {name!r}{closest(name, sizes)}")
    return names


def _carrying(
    read: Aligned, units: Sequence[str], var_names: Sequence[str] | None, group: str
) -> list[ResolvedVariable]:
    """Return the quantities of a group that carry some of these units."""
    carrying = [
        variable
        for variable in read.resolved.in_group(group)
        if variable.labels_of is None and any(name in units for _, name, _ in variable.unit_axes())
    ]
    known = list(dict.fromkeys(variable.name for variable in carrying))
    for name in var_names or ():
        if name not in known:
            raise SpecError(
                f"no variable {name!r} of the group {group!r} carries the units "
                f"{', '.join(units)}{closest(name, known)}"
            )
    if not carrying:
        raise SpecError(
            f"no variable of the group {group!r} carries the units {', '.join(units)} and shares "
            "the draws of the posterior"
        )
    return [v for name in var_names or known for v in carrying if v.name == name]


# ---------------------------------------------------------------------- labels


def _confidence(read: Aligned, units: Sequence[str]) -> tuple[Array, dict[str, Array]]:
    """Return which draws belong to sound chains, and the confidence of each slot's label in them.

    Both are of the draws that are not excluded, from a stored diagnosis if there is one.
    """
    stored = read.groups["relabel"]
    names = {name: f"{name}_label_probability" for name in units}
    if not all(name in stored for name in names.values()):
        sound, known = label_confidence(read)
        unknown = {name: np.full(read.resolved.sizes[name], np.nan) for name in units}
        return sound, unknown | {name: known[name] for name in units if name in known}
    sound = np.ones(len(read.draws.chain), dtype=bool)
    if "chain_flagged" in stored:
        flagged = stored["chain_flagged"].values.astype(bool)
        sound = ~flagged[read.draws.chain] | flagged.all()
    confidence = {}
    for name, variable in names.items():
        label = chain_draw_values(stored[variable], name)[~read.draws.excluded]
        confidence[name] = np.nan_to_num(label[sound]).mean(axis=0)
    return sound, confidence


def _mean_over_draws(read: Aligned, array: xr.DataArray, units: str, sound: Array) -> Array:
    """Return the mean over the sound draws; nan for slots without a value in any of them."""
    values = chain_draw_values(array, units)[~read.draws.excluded][sound]
    known = np.isfinite(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _empty(read: Aligned, labels: Sequence[ResolvedVariable], size: int, rows: Array) -> Array:
    """Return the share of some draws in which no label names a slot."""
    named = np.zeros((len(rows), size), dtype=bool)
    for variable in labels:
        values = draw_values(read.draws.groups[variable.group][variable.name])
        flat = values.reshape(len(values), -1)
        step = max(1, _BLOCK // max(1, flat.shape[1]))
        for i in range(0, len(rows), step):
            part = flat[rows[i : i + step]]
            valid = part >= 0  # False for nan and -1, which are missing labels
            draw = np.nonzero(valid)[0]
            named[i + draw, part[valid].astype(np.int64)] = True
    empty: Array = 1.0 - named.mean(axis=0)
    return empty


# ---------------------------------------------------------------------- entries


def _places(read: Aligned, variable: ResolvedVariable) -> Array:
    """Return the position of every entry of a variable, or part of one, in the stored variable."""
    stored = read.groups[variable.group][variable.name]
    shape = [stored.sizes[dim] for dim in variable.dims]
    return variable.of(np.arange(int(np.prod(shape))).reshape(shape)).reshape(-1)


def _selected_entries(
    read: Aligned, variable: ResolvedVariable, selected: Mapping[str, Array]
) -> Array:
    """Return the positions of the entries of a stored variable that are selected."""
    shape = [read.groups[variable.group][variable.name].sizes[dim] for dim in variable.dims]
    kept = np.ones(shape, dtype=bool)
    for axis, dim in enumerate(variable.dims):
        if dim in selected:
            others = np.setdiff1d(np.arange(shape[axis]), selected[dim])
            np.moveaxis(kept, axis, 0)[others] = False
    kept = kept.reshape(-1)
    for part in read.resolved.in_group(variable.group) if selected else ():
        if part.name == variable.name:
            for units in {units for _, units, _ in part.unit_axes()} - set(variable.dims):
                axis = next(axis for axis, name, _ in part.unit_axes() if name == units)
                slot = np.indices(part.shape)[axis].reshape(-1)
                kept[_places(read, part)] &= np.isin(slot, selected.get(units, slot))
    return np.flatnonzero(kept)


def _entry_tables(
    read: Aligned,
    variables: Mapping[str, ResolvedVariable],
    entries: Mapping[str, Array],
    selected: Mapping[str, Array],
    ci_prob: float,
    progress: bool | Report,
) -> tuple[dict[str, pd.DataFrame], float]:
    """Summarise the selected entries of stored variables, by their positions; share of the box."""
    import pandas as pd

    rows = {dim: selected[dim] for dim in SAMPLE_DIMS if dim in selected}
    excluded = xr.DataArray(read.draws.excluded, dims=SAMPLE_DIMS).isel(rows).values
    values = {}
    for name, v in variables.items():
        stored = chain_draw_values(read.groups[v.group][name].isel(rows), *v.dims)
        flat = stored.reshape(*excluded.shape, -1)
        whole = len(entries[name]) == flat.shape[2]
        values[name] = flat if whole else flat[:, :, entries[name]]
    box = box_of({n: v.reshape(excluded.size, -1) for n, v in values.items()}, ci_prob)
    tables = {}
    with reporting(progress) as report:
        for number, (name, array) in enumerate(values.items(), 1):
            pooled = array[~excluded]
            low, high = _hdi(pooled, ci_prob)
            rhat, ess = pointwise(np.where(excluded[..., None], np.nan, array))
            columns = {
                "entry": _labels(read, variables[name])[entries[name]],
                "mean": pooled.mean(axis=0, dtype=float),
                "sd": pooled.std(axis=0, ddof=min(1, len(pooled) - 1), dtype=float),
                "hdi_lb": low,
                "hdi_ub": high,
                "region_lb": box.bounds[name][:, 0],
                "region_ub": box.bounds[name][:, 1],
                "ess_bulk": ess,
                "r_hat": rhat,
            }
            tables[name] = pd.DataFrame(columns, index=entries[name])
            report("summary", number, len(values))
    return tables, box.share


def _labels(read: Aligned, variable: ResolvedVariable) -> Array:
    """Name every entry of a stored variable by its coordinates, or by numbers without them."""
    array = read.groups[variable.group][variable.name]
    whole = variable.window is None
    shape = variable.shape if whole else tuple(array.sizes[dim] for dim in variable.dims)
    labels: list[Any] = [range(size) for size in shape]
    if len(shape) == len(variable.dims):
        labels = [
            array[dim].values.tolist() if dim in array.coords else numbers
            for dim, numbers in zip(variable.dims, labels, strict=True)
        ]
    index = np.indices(shape).reshape(len(labels), -1).T.tolist()
    rows = ([str(own[i]) for own, i in zip(labels, row, strict=True)] for row in index)
    return np.array([f"{variable.name}[{', '.join(row)}]" for row in rows], dtype=object)


def _hdi(pooled: Array, ci_prob: float) -> tuple[Array, Array]:
    """Return the bounds of the shortest interval of each entry, as ArviZ does."""
    m = len(pooled)
    steps = min(int(np.floor(ci_prob * m)), m - 1)
    low, high = [], []
    step = max(1, _BLOCK // m)
    for i in range(0, pooled.shape[1], step):
        ordered = np.sort(pooled[:, i : i + step], axis=0)
        at = (ordered[steps:] - ordered[: m - steps]).argmin(axis=0)[None]
        low.append(np.take_along_axis(ordered, at, axis=0)[0])
        high.append(np.take_along_axis(ordered, at + steps, axis=0)[0])
    return np.concatenate(low), np.concatenate(high)
