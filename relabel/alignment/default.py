"""The criterion where none was given: allocations decide where they are there, else parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from relabel.groups import group_of
from relabel.matching.allocation_features import PROBABILITIES, with_labels
from relabel.matching.criteria import Criterion, ECRIterative1, Normal, Stephens
from relabel.spec.arrays import named_variables
from relabel.spec.spec import SAMPLE_DIMS, Spec

__all__ = ["Default", "default_criterion"]


@dataclass(frozen=True)
class Default:
    """The criterion that is taken where none is named, and why.

    Attributes
    ----------
    criterion : Criterion
    because : str
        The reason, as a clause.
    """

    criterion: Criterion
    because: str


def default_criterion(spec: Spec, groups: Mapping[str, xr.Dataset]) -> Default:
    """Choose a criterion by what the draws hold, and say why.

    Where observations were allocated to units that are only permuted, what a unit *is* shows in
    its observations, whatever its parameters do: allocation probabilities are compared by
    :class:`relabel.criteria.Stephens`, allocations by :class:`relabel.criteria.ECRIterative1`.
    Everything else is compared by :class:`relabel.criteria.Normal`.

    Parameters
    ----------
    spec : Spec
    groups : mapping of str to Dataset
        The groups that share the draws.

    Returns
    -------
    Default
    """
    plain = Normal()
    if len(spec.units) != 1:
        return Default(plain, "there are several sets of units")
    ((units, symmetry),) = spec.units.items()
    group = group_of(symmetry)
    if group.signs or group.scales or group.rotates:
        return Default(plain, "units are more than permuted")
    prob = next(_probabilities(spec, units, groups), None)
    if prob is not None:
        return Default(Stephens(prob=prob), f"{prob} holds probabilities of allocations")
    declared = with_labels(spec, plain, groups).values
    found = [
        where
        for where, labelled in declared.items()
        if labelled == units and named_variables(groups, where)
    ]
    if len(found) == 1:
        return Default(ECRIterative1(z=found[0]), f"{found[0]} holds allocations")
    if found:
        named = ", ".join(found)
        return Default(plain, f"there are several variables of allocations ({named})")
    return Default(plain, "there are no allocations")


def _probabilities(spec: Spec, units: str, groups: Mapping[str, xr.Dataset]) -> Iterator[str]:
    """Yield addresses of allocation probabilities: one row for each observation, units last."""
    for group, dataset in groups.items():
        for name, variable in dataset.data_vars.items():
            address = f"{group}/{name}"
            line = spec.axes.get(address, spec.axes.get(str(name)))
            axes = line.split() if line is not None else [str(dim) for dim in variable.dims]
            known = str(name) in PROBABILITIES and len(axes) > 1 and axes[-1] == units
            if known and set(SAMPLE_DIMS) <= set(variable.dims) and _sums_to_one(variable):
                yield address


def _sums_to_one(variable: xr.DataArray) -> bool:
    """Whether the rows of the first draw do."""
    first = np.asarray(variable.isel(dict.fromkeys(SAMPLE_DIMS, 0)).values, dtype=float)
    return bool(first.size and np.allclose(first.sum(axis=-1), 1.0, atol=1e-4))
