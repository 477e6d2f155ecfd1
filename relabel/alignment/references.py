"""Which draws form the reference: chains that are kept out of it, and the draw it begins with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.errors import DataError, SpecError
from relabel.matching.criteria import Criterion
from relabel.matching.draws import Draws, log_density
from relabel.matching.features import Problem, check_values
from relabel.matching.probes import Probes
from relabel.models.forward_pass import all_outputs
from relabel.numerics.chains import flag_chains
from relabel.numerics.ranges import safe_exponent
from relabel.spec.spec import SAMPLE_DIMS, ResolvedSpec
from relabel.spec.variables import ResolvedVariable

__all__ = ["Start", "flagged_chains", "start_of"]

Array = NDArray[Any]


def flagged_chains(draws: Draws, probes: Probes | None) -> Array:
    """Return which chains sit in other modes: bool of shape (chain,).

    They are judged by `lp`, and by the outputs of the network where its inputs are known.

    Raises
    ------
    DataError
        If neither is there.
    """
    lp, outputs = log_density(draws.groups), None
    if lp is not None:
        lp = np.where(draws.excluded, np.nan, lp)
    if probes is not None and probes.where is not None:
        posterior = draws.groups["posterior"]
        outputs = all_outputs(probes.network, draws.resolved, posterior, probes.points)
        outputs[draws.excluded] = np.nan
    if lp is None and outputs is None:
        raise DataError(
            "exclude_flagged: chains are judged by their log density sample_stats/lp, or by "
            "their outputs at known inputs, and there is neither"
        )
    return ~flag_chains(lp, outputs).sound


@dataclass(frozen=True)
class Start:
    """The draw, or the given point, that the first reference is formed from.

    Attributes
    ----------
    problem : Problem
        Draws laid out as features; or the given point alone.
    row : int
        Its row among them.
    """

    problem: Problem
    row: int


def start_of(draws: Draws, problem: Problem, criterion: Criterion) -> Start:
    """Return what the first reference is formed from.

    Parameters
    ----------
    draws : Draws
        The draws that take part.
    problem : Problem
        The same, as features.
    criterion : Criterion
        Its attribute `first_reference` says which draw or point that is. ``"medoid"`` stands for
        the usual draw here: the medoid is found from there.

    Raises
    ------
    SpecError, DataError
        If there is no such draw, or if a given point does not fit.
    """
    first, name = criterion.first_reference, f"criterion {criterion.name}"
    if isinstance(first, xr.Dataset):
        return Start(_given_point(first, draws.resolved, problem, name), 0)
    row = criterion.chosen_row(problem)
    if row is not None:
        return Start(problem, row)
    if isinstance(first, int):
        return Start(problem, _numbered_row(draws, first, name))
    if isinstance(first, Mapping):
        return Start(problem, _named_row(draws, first, name))
    lp = log_density(draws.groups)
    if lp is not None and np.isfinite(lp.reshape(-1)[draws.rows]).any():
        return Start(problem, int(np.nanargmax(lp.reshape(-1)[draws.rows])))
    if first == "map":
        others = [f", or use {name!r}" for name in criterion.named_references if name != "map"]
        raise DataError(
            f"{name}: 'map' needs the log density sample_stats/lp of the same draws, which is not "
            f"there; name a draw by its chain and draw{''.join(others)}"
        )
    return Start(problem, _central_row(draws, problem))


def _numbered_row(draws: Draws, number: int, name: str) -> int:
    """Row of a draw that is named by its number, chain after chain."""
    row = np.flatnonzero(draws.rows == number)
    if not row.size:
        raise SpecError(
            f"{name}: draw {number} does not exist or is not finite ({draws.excluded.size} draws)"
        )
    return int(row[0])


def _named_row(draws: Draws, named: Mapping[str, Any], name: str) -> int:
    """Row of a draw that is named by its coordinates."""
    posterior = draws.groups["posterior"]
    place = []
    for dim in SAMPLE_DIMS:
        index = posterior.indexes.get(dim)
        labels = list(range(posterior.sizes[dim])) if index is None else list(index)
        if named[dim] not in labels:
            raise SpecError(f"{name}: there is no {dim} {named[dim]!r}")
        place.append(labels.index(named[dim]))
    row = np.flatnonzero(draws.rows == place[0] * posterior.sizes["draw"] + place[1])
    if not row.size:
        raise DataError(
            f"{name}: the draw {dict(named)} is not finite, or its chain has no part in the "
            "reference"
        )
    return int(row[0])


def _central_row(draws: Draws, problem: Problem) -> int:
    """Row of the draw whose norms, variable by variable, are nearest to their medians."""
    measured = [v for v in draws.resolved.measured() if not v.carried]
    norms = np.stack([_norms(problem, variable) for variable in measured])
    norms[~np.isfinite(norms).all(axis=1)] = 1.0  # variables that are not compared say nothing
    distance = np.log(norms + np.finfo(float).tiny)
    distance -= np.median(distance, axis=1, keepdims=True)
    return int((distance**2).sum(axis=0).argmin())


def _norms(problem: Problem, variable: ResolvedVariable) -> Array:
    """Squared norms of all draws of one variable, in units in which float64 holds them."""
    sizes = [float(np.abs(problem.array(variable, rows)).max()) for rows in problem.slices]
    exponent = safe_exponent(max(sizes))
    parts = []
    for rows in problem.slices:
        values = problem.array(variable, rows)
        values = np.ldexp(values, -exponent) if exponent else values
        parts.append((values**2).reshape(rows.stop - rows.start, -1).sum(1))
    return np.concatenate(parts)


def _given_point(point: xr.Dataset, resolved: ResolvedSpec, problem: Problem, name: str) -> Problem:
    """Lay out a given point as the draws are."""
    arrays = {}
    apart = not (problem.scales or resolved.shifts or problem.layout.coupled)
    for variable in resolved.measured():
        if variable.name not in point:
            if apart and variable not in problem.used:
                continue
            raise SpecError(
                f"{name}: the given point has no variable {variable.name!r}; it has "
                f"{', '.join(map(str, point.data_vars)) or 'none'}"
            )
        array = point[variable.name]
        array = array.squeeze([dim for dim in SAMPLE_DIMS if array.sizes.get(dim) == 1], drop=True)
        if set(variable.dims) == set(array.dims):
            array = array.transpose(*variable.dims)
        values = array.values
        shape = tuple(problem.arrays[variable.name].shape[1:])
        if values.shape != shape:
            raise SpecError(
                f"{name}: {variable.name!r} has the shape {values.shape} in the given point; one "
                f"draw has {shape}"
            )
        if not np.isfinite(values).all():
            raise DataError(f"{name}: {variable.name!r} is not finite")
        check_values(variable, values, f"{name}: in the given point, ")
        arrays[variable.name] = values.reshape(1, *shape)
    return problem.of(arrays)
