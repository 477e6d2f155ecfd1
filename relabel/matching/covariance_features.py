"""Covariances of members, read beside the features of units that they belong to."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.errors import DataError, SpecError
from relabel.matching.features import Block, Problem, Source
from relabel.numerics.gaussians import COVARIANCE, COVARIANCE_OF, SD_OF, root_of
from relabel.spec.spec import SAMPLE_DIMS

__all__ = ["CovarianceProblem", "with_covariances"]

Array = NDArray[Any]

_NEGATIVE = -1e-6  # share of the largest eigenvalue that rounding (of float32) may leave below zero


def with_covariances(problem: Problem, posterior: xr.Dataset, *, diagonal: bool) -> Source:
    """Return the draws with the covariances beside them.

    Parameters
    ----------
    problem : Problem
        The draws.
    posterior : Dataset
        Where the covariances are.
    diagonal : bool
        Whether only standard deviations are compared: covariances are then only checked.

    Raises
    ------
    SpecError
        If the spec does not declare covariances or standard deviations that are there.
    DataError
        If a covariance does not say what its rows are, or is none.
    """
    means = [v.name for v in problem.used if not _is_beside(v.name, posterior)]
    covered = {}
    wanted = [COVARIANCE, *(COVARIANCE_OF.format(name) for name in means)]
    for name in dict.fromkeys(wanted):
        if name in posterior:
            covered[name] = _rows_of(posterior, name)
    declared = {v.name for v in problem.resolved.measured()}
    for name in (*covered, *(SD_OF.format(name) for name in means)):
        if name in posterior and name not in declared:
            raise SpecError(
                f"criterion wasserstein: the spec does not say how {name!r} follows its units; "
                "extend it by relabel.sources.gaussian_spec(data, spec)"
            )
    if diagonal or not covered:
        return problem
    return CovarianceProblem(problem, covered)


def _is_beside(name: str, posterior: xr.Dataset) -> bool:
    """Whether a variable holds the standard deviations of another."""
    return any(SD_OF.format(other) == name for other in posterior.data_vars)


def _rows_of(posterior: xr.Dataset, name: str) -> dict[str, tuple[int, ...]]:
    """Variables that the rows of a covariance stand for, in order, with their shapes."""
    try:
        rows = [str(entry) for entry in json.loads(posterior[name].attrs["layout"])]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise DataError(
            f"variable {name!r} does not say what its rows are: its attribute 'layout' is a list "
            "of variables as JSON text, as relabel.sources.from_gaussian writes it"
        ) from error
    missing = [entry for entry in rows if entry not in posterior]
    if missing:
        raise DataError(f"variable {name!r} has rows of {missing[0]!r}, which is not there")
    found = {entry: posterior[entry].transpose(*SAMPLE_DIMS, ...).shape[2:] for entry in rows}
    n_rows = sum(math.prod(own) for own in found.values())
    shape = posterior[name].transpose(*SAMPLE_DIMS, ...).shape[2:]
    if shape != (n_rows, n_rows):
        raise DataError(
            f"variable {name!r} has the shape {shape} a draw, and its rows ({', '.join(rows)}) "
            f"have {n_rows} entries"
        )
    return found


class CovarianceProblem:
    """The draws as features, with the covariance of each unit's own features beside them.

    Standard deviations of features that have a covariance are no features. A block holds
    ``root {units}``, symmetric roots of the covariances, (draws, K, R, R), and for all draws
    ``columns {units}``, which of the own features these are.

    Parameters
    ----------
    problem : Problem
        The draws.
    covered : mapping of str to mapping of str to tuple of int
        Covariance -> the variables that its rows stand for, in order, with their shapes.
    """

    def __init__(
        self, problem: Problem, covered: Mapping[str, Mapping[str, tuple[int, ...]]]
    ) -> None:
        self.problem, self.n_draws, self.slices = problem, problem.n_draws, problem.slices
        self._blocks: dict[int, Block] = {}
        under = {name for rows in covered.values() for name in rows}
        idle = {SD_OF.format(name) for name in under}
        whole = problem.layout.columns
        self.kept = {
            units: np.array([c.variable not in idle for c in columns], dtype=bool)
            for units, columns in whole.items()
        }
        columns = {u: tuple(c for c in whole[u] if c.variable not in idle) for u in whole}
        self.layout = replace(problem.layout, columns=columns)
        self.columns = {
            units: np.flatnonzero([c.variable in under for c in own])
            for units, own in columns.items()
        }
        self.places = {name: self._places(rows) for name, rows in covered.items()}

    def _places(self, rows: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[Array, Array]]:
        """For each set of units: which of the covered columns a covariance has, and where.

        The second is of shape (K, columns): the rows of every unit.
        """
        ends = np.cumsum([math.prod(shape) for shape in rows.values()])
        first = dict(zip(rows, (0, *ends), strict=False))
        found = {}
        for units, size in self.layout.sizes.items():
            own = [self.layout.columns[units][column].variable for column in self.columns[units]]
            parts = []
            for variable in self.problem.used:
                if variable.name in first and [u for _, u, _ in variable.unit_axes()] == [units]:
                    ((axis, _, _),) = variable.unit_axes()
                    shape = rows[variable.name]
                    numbers = first[variable.name] + np.arange(math.prod(shape)).reshape(shape)
                    parts.append(np.moveaxis(variable.of(numbers), axis, 0).reshape(size, -1))
            if parts:
                here = np.flatnonzero([name in first for name in own])
                found[units] = (here, np.concatenate(parts, axis=1))
        return found

    def block(self, number: int) -> Block:
        """Features and covariances of one block, made once and kept."""
        if number not in self._blocks:
            self._blocks[number] = self._make_block(self.problem.block(number), self.slices[number])
        return self._blocks[number]

    def draw(self, row: int) -> Block:
        """Features and covariances of one draw."""
        return self._make_block(self.problem.draw(row), slice(row, row + 1))

    def _make_block(self, block: Block, rows: slice) -> Block:
        own = {units: array[:, :, self.kept[units]] for units, array in block.own.items()}
        beside, fixed = {}, {}
        for units in self.layout.sizes:
            if self.columns[units].size:
                beside[f"root {units}"] = self._roots(units, rows)
                fixed[f"columns {units}"] = self.columns[units]
        return replace(block, own=own, beside=beside, fixed=fixed)

    def _roots(self, units: str, rows: slice) -> Array:
        """Symmetric roots of the covariances of single units, in their gauge."""
        n_columns, n_units = self.columns[units].size, self.layout.sizes[units]
        whole = np.zeros((rows.stop - rows.start, n_units, n_columns, n_columns))
        for name, places in self.places.items():
            if units in places:
                columns, at = places[units]
                stored = self.problem.arrays[name][rows]
                whole[:, :, columns[:, None], columns] = stored[:, at[:, :, None], at[:, None, :]]
        scales = self.problem.scales.get(units)
        if scales is not None:
            factors = scales[rows][:, :, None] ** self._powers(units)
            whole *= factors[..., :, None] * factors[..., None, :]
        self._check(whole, units, rows)
        return root_of(whole)

    def _powers(self, units: str) -> Array:
        """Power of the scale on every covered column."""
        powers: list[int] = []
        for variable in self.problem.used:  # a variable of several blocks has several powers
            axes = variable.unit_axes()
            if [name for _, name, _ in axes] == [units]:
                n_columns = math.prod(variable.shape) // self.layout.sizes[units]
                powers += [axes[0][2].power] * n_columns
        kept: Array = np.array(powers)[self.kept[units]][self.columns[units]]
        return kept

    def _check(self, covariance: Array, units: str, rows: slice) -> None:
        """Raise DataError unless all matrices are covariances."""
        if not np.isfinite(covariance).all():
            draw = np.argwhere(~np.isfinite(covariance))[0][0]
            raise DataError(
                f"{', '.join(self.places)}: the covariance holds NaN or infinities in member "
                f"{rows.start + draw}; leave the member out, or match with covariance='diagonal'"
            )
        values = np.linalg.eigvalsh(covariance)
        bad = values[..., 0] < _NEGATIVE * np.abs(values[..., -1])
        if bad.any():
            draw, unit = np.argwhere(bad)[0]
            raise DataError(
                f"{', '.join(self.places)}: the covariance of the weights of unit {unit} of "
                f"{units!r} has a negative eigenvalue, {values[draw, unit, 0]:.3g}, in member "
                f"{rows.start + draw}; is it a precision, or was it cut off in rounding?"
            )
