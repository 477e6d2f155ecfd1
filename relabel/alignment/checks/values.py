"""Values that do not follow single units: one-signed ones, and those of all units together."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.errors import SpecError
from relabel.groups.elements import Element
from relabel.matching.draws import Draws
from relabel.spec.arrays import SAMPLE_DIMS, core_dims, core_shape, drawn_variables
from relabel.spec.spec import ResolvedSpec, ResolvedVariable
from relabel.spec.support import sums_to_one

__all__ = ["Shared", "about_values", "refuse_flips", "refuse_flips_of_parts", "values_of_sets"]

Array = NDArray[Any]

#: So many weights have one sign by chance once in a thousand times.
_BY_CHANCE = 10

#: Draws in which one variable is compared with another that it may be made of.
_COMPARED = 8

#: Names of values of K - 1 of K units, which belong to all units together.
_REDUCED = {"logit", "stick", "contrast", "softmax"}


class Shared(NamedTuple):
    """A variable whose values belong to all units together."""

    name: str
    units: str
    declared: bool
    reason: str
    remedy: str


def about_values(
    draws: Draws, elements: Mapping[str, Element], shared: Sequence[Shared]
) -> list[str]:
    """Return warnings about values that were permuted or flipped and should not have been."""
    permuted = [
        f"{one.name!r} {one.reason}: such values belong to the units {one.units!r} in their order, "
        f"not to single units, and were permuted all the same: {one.remedy}"
        for one in shared
        if one.declared
    ]
    flipped = [
        f"{variable.name!r} had one sign in all draws and has changed it with its units "
        f"{units!r}: {_remedy(draws.resolved, variable, units)}"
        for variable, units in _flipped(draws, elements)
    ]
    return [*flipped, *permuted, *_only_permuted(draws), *_fixed_zeros(draws)]


# ---------------------------------------------------------------------- signs


def refuse_flips_of_parts(draws: Draws) -> None:
    """Raise SpecError if parts of a whole are declared to change their sign."""
    for variable in draws.resolved.measured():
        for units in _signed_units(variable):
            if draws.resolved.group(units).rotates:
                continue
            if sums_to_one(variable.chosen(draws.groups["posterior"][variable.name])):
                raise SpecError(
                    f"{variable.name!r} is never negative and adds up to one in all draws, so it "
                    f"cannot change its sign with the units {units!r}: "
                    f"{_remedy(draws.resolved, variable, units)}"
                )


def refuse_flips(draws: Draws, elements: Mapping[str, Element]) -> None:
    """Raise SpecError if values of one sign would have both, in one slot.

    A few weights may have one sign by chance, where the draws never visited another copy; that is
    a warning. So is a flip of all draws alike, to a reference in another copy.
    """
    for variable, units in _flipped(draws, elements):
        if draws.resolved.group(units).rotates or math.prod(variable.shape) < _BY_CHANCE:
            continue
        negative = elements[units].arrays[-1] < 0
        if (negative.any(0) & ~negative.all(0)).any():
            raise SpecError(
                f"{variable.name!r} has one sign in all draws and would lose it with its units "
                f"{units!r}: {_remedy(draws.resolved, variable, units)}"
            )


def _flipped(
    draws: Draws, elements: Mapping[str, Element]
) -> Iterator[tuple[ResolvedVariable, str]]:
    """Yield the variables that have one sign in all draws, and units that change it."""
    for variable in draws.resolved.measured():
        signed = _signed_units(variable)
        flipped = [units for units in signed if _changes_signs(elements[units])]
        if not flipped:
            continue
        values = variable.chosen(draws.groups["posterior"][variable.name])
        low, high = float(values.min()), float(values.max())
        if (low >= 0 or high <= 0) and low != high:
            yield variable, flipped[0]


def _signed_units(variable: ResolvedVariable) -> list[str]:
    """Return the units whose signs act on a variable, once: on both sides they may cancel."""
    signed = [units for _, units, action in variable.unit_axes() if action.signed]
    return [units for units in signed if signed.count(units) == 1 and not variable.carried]


def _remedy(resolved: ResolvedSpec, variable: ResolvedVariable, units: str) -> str:
    """Say how values that have no sign can follow their units."""
    if resolved.group(units).rotates:
        return f"if it is a scale, leave it out ('...'), or declare {units!r} signed"
    roles = {axis.role for axis in variable.axes if axis.units == units}
    others = [
        v for v in resolved.measured() if v.name != variable.name and roles & _roles_of(v, units)
    ]
    fixed = (
        f"if it is positive by its prior, nothing of the model can be flipped: declare {units!r} "
        "'permutation'"
    )
    return (
        f"if it is a scale, write '{units}^0', which is only permuted; {fixed}" if others else fixed
    )


def _roles_of(variable: ResolvedVariable, units: str) -> set[str]:
    """Return the roles in which the signs of units act on a variable."""
    return {axis.role for axis in variable.axes if axis.units == units and axis.action.signed}


def _changes_signs(element: Element) -> bool:
    """Whether any draw has a unit that is multiplied by a negative number."""
    return bool((element.arrays[-1] < 0).any())


def _only_permuted(draws: Draws) -> list[str]:
    """Say what was taken to be only permuted, where dimensions are the whole spec."""
    if draws.resolved.spec.axes:
        return []
    found = {
        variable.name: axis.units
        for variable in draws.resolved.measured()
        for axis in variable.axes
        if axis.units and axis.exponent == 0
    }
    return [
        f"{name!r} cannot be negative, and was permuted with the units {units!r} but not flipped "
        f"('{units}^0')"
        for name, units in found.items()
    ]


# ---------------------------------------------------------------------- values of all units


def _fixed_zeros(draws: Draws) -> list[str]:
    """Warn of entries that are zero in all draws for some units and not for others."""
    found = []
    for variable in draws.resolved.measured():
        stored = draws.groups["posterior"][variable.name]
        names = dict.fromkeys(units for _, units, _ in variable.unit_axes())
        if stored.dtype.kind != "f" or not names:
            continue
        first = stored.isel(dict.fromkeys(SAMPLE_DIMS, 0)).values
        open_names = [n for n in names if not _exchangeable(variable, variable.of(first) == 0, n)]
        if not open_names:
            continue
        always = variable.of((stored == 0).all(SAMPLE_DIMS).values)
        found += [
            f"{variable.name!r} is zero in all draws at some of the units {units!r} and not at "
            "others (a reference class, a triangle, a mask): that tells the units apart, and does "
            "not follow them as values of single units do: leave it out ('...'), or convert it "
            "first (contrasts to probabilities)"
            for units in open_names
            if not _exchangeable(variable, always, units)
        ]
    return found


def _exchangeable(variable: ResolvedVariable, pattern: Array, units: str) -> bool:
    """Whether a pattern stays the same when units are exchanged.

    A transposition and a cycle generate all permutations.
    """
    places = [i for i, name, _ in variable.unit_axes() if name == units]
    size = variable.shape[places[0]]
    if not pattern.any() or size < 2:
        return True
    order = np.arange(size)
    swap = np.concatenate([order[1::-1], order[2:]])
    for moved in (swap, np.roll(order, 1)):
        turned = pattern
        for place in places:
            turned = turned.take(moved, place)
        if not np.array_equal(turned, pattern):
            return False
    return True


def values_of_sets(draws: Draws) -> list[Shared]:
    """Find vectors that are sticks, or contrasts, of probabilities of the units.

    They are known by the probabilities that they give, and where there are K - 1 of them, by names
    of their own or of their dimensions.
    """
    found = []
    declared = {(v.group, v.name) for v in draws.resolved.variables if v.unit_axes()}
    taken = {(v.group, v.name) for v in draws.resolved.variables}
    for units, size in draws.resolved.sizes.items():
        if size < 2:
            continue
        wholes = _probabilities(draws, size)
        for (group, name), variable in drawn_variables(draws.groups):
            moved = (group, name) in declared
            if ((group, name) in taken and not moved) or group == "sample_stats":
                continue
            made = _made_of(variable, wholes, size) or (
                None if moved else _reduced(name, variable, units, size)
            )
            if made is not None:
                reason, remedy = made
                where = name if group == "posterior" else f"{group}/{name}"
                found.append(Shared(where, units, moved, reason, remedy))
    return found


def _probabilities(draws: Draws, size: int) -> dict[str, Array]:
    """Return the vectors of probabilities of so many units, in a few draws."""
    return {
        name: _few(variable)
        for (group, name), variable in drawn_variables(draws.groups)
        if group == "posterior" and core_shape(variable) == (size,) and sums_to_one(variable)
    }


def _few(variable: xr.DataArray) -> Array:
    """Return the values of the first draws of the first chain."""
    return np.asarray(
        variable.isel(chain=0, draw=slice(_COMPARED)).transpose("draw", ...).values, float
    )


def _made_of(
    variable: xr.DataArray, wholes: Mapping[str, Array], size: int
) -> tuple[str, str] | None:
    """Say which probabilities a vector gives, as sticks (K or K - 1 of them) or as contrasts."""
    shape = core_shape(variable)
    if variable.dtype.kind != "f" or shape not in ((size,), (size - 1,)):
        return None
    values = _few(variable)
    for name, whole in wholes.items():
        if (whole <= 0).any() or (shape == (size,) and np.allclose(values, whole)):
            continue
        sticks = whole / (1 - np.cumsum(whole, 1) + whole)
        logs = np.log(whole)
        kinds = {"the sticks": sticks[:, :-1]}
        if shape != (size,):
            kinds["the contrasts (against the last unit)"] = (logs - logs[:, -1:])[:, :-1]
            kinds["the contrasts (against the first unit)"] = (logs - logs[:, :1])[:, 1:]
            kinds["the unconstrained values"] = (logs - logs.mean(1, keepdims=True))[:, :-1]
        for what, expected in kinds.items():
            if np.allclose(values[:, : size - 1], expected, rtol=1e-3, atol=1e-5):
                return f"holds {what} of {name!r}", f"use {name!r}, and '...' for it"
    return None


def _reduced(name: str, variable: xr.DataArray, units: str, size: int) -> tuple[str, str] | None:
    """Say that a variable holds K - 1 of K values, if names and sizes say so."""
    dims, shape = core_dims(variable), core_shape(variable)
    words = {word.rstrip("s") for word in re.findall(r"[a-z]+", name.lower())}
    stem = units.lower().rstrip("s")
    fewer = [d for d, n in zip(dims, shape, strict=True) if n == size - 1]
    if variable.dtype.kind != "f" or not fewer:
        return None
    transformed = re.search(r"_(simplex|stickbreaking|stick_breaking)__$", name) is not None
    named = size > 2 and bool(words & _REDUCED)
    if transformed or named or any(len(stem) > 1 and stem in d.lower() for d in fewer):
        reason = f"has {size - 1} values for {size} units (contrasts or sticks?)"
        return reason, "convert it to a value for each unit, or name it with '...'"
    return None
