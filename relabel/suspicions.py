"""Signs that a spec does not say what the draws are: told to the user, never acted upon."""

from __future__ import annotations

from collections.abc import Mapping

import xarray as xr

from relabel.binding import core_dims, is_drawn
from relabel.draws import Draws
from relabel.elements import Element
from relabel.errors import SpecError
from relabel.groups import group_of

__all__ = ["suspicions"]


def suspicions(draws: Draws, elements: Mapping[str, Element]) -> list[str]:
    """Return what looks wrong about a spec, a sentence each.

    Parameters
    ----------
    draws : Draws
        The draws and the spec that was bound to them.
    elements : mapping of str to Monomial or Dense
        What was done to them.

    Returns
    -------
    list of str
        Scales that were flipped, allocations that were left behind, an activation that
        contradicts the posterior's own attribute, two biases of one set of units.
    """
    return [
        *_flipped_scales(draws, elements),
        *_forgotten_labels(draws),
        *_another_activation(draws),
        *_two_biases(draws),
    ]


def _flipped_scales(draws: Draws, elements: Mapping[str, Element]) -> list[str]:
    """Variables of one sign that do not have it any more."""
    found = []
    for variable in draws.bound.measured():
        flipped = [
            units
            for _, units, action in variable.unit_axes()
            if action.signed and _changes_signs(elements[units])
        ]
        values = draws.groups["posterior"][variable.name]
        if flipped and (bool((values >= 0).all()) or bool((values <= 0).all())):
            remedy = f"write '{flipped[0]}^0', which is only permuted"
            if draws.bound.group(flipped[0]).rotates:
                remedy = f"leave it out ('...'), or declare {flipped[0]!r} signed"
            found.append(
                f"{variable.name!r} had one sign in all draws and has changed it with its units "
                f"{flipped[0]!r}: if it is a scale, {remedy}"
            )
    return found


def _changes_signs(element: Element) -> bool:
    """Whether any draw has a unit that is multiplied by a negative number."""
    return bool((element.arrays[-1] < 0).any())


def _forgotten_labels(draws: Draws) -> list[str]:
    """Integers that could name units, but are not declared to."""
    declared = {(v.group, v.name) for v in draws.bound.variables}
    found = []
    for group, dataset in draws.groups.items():
        for name, variable in dataset.data_vars.items():
            if (group, name) not in declared and group != "sample_stats":
                for units, size in draws.bound.sizes.items():
                    if _could_name(variable, size):
                        where = str(name) if group == "posterior" else f"{group}/{name}"
                        found.append(
                            f"{where!r} holds whole numbers that could name the {size} units "
                            f"{units!r}, and was left as it is: if they do, add it to values, as "
                            f"in values={{{where!r}: {units!r}}}"
                        )
    return found


def _could_name(variable: xr.DataArray, size: int) -> bool:
    """Whether an array of the draws holds each number from 0 (or 1) to the number of units."""
    if not is_drawn(variable) or variable.dtype.kind not in "iu" or not core_dims(variable):
        return False
    lowest, highest = int(variable.min()), int(variable.max())
    return size > 1 and lowest in (0, 1) and highest == size - 1 + lowest


def _another_activation(draws: Draws) -> list[str]:
    """An activation in the posterior's attributes that has another symmetry."""
    named = str(draws.groups["posterior"].attrs.get("activation", ""))
    try:
        group = group_of(named)
    except SpecError:
        return []
    return [
        f"units {units!r} are declared {symmetry}, but the posterior's attribute says {named}"
        for units, symmetry in draws.bound.spec.units.items()
        if symmetry != "permutation" and group_of(symmetry) != group
    ]


def _two_biases(draws: Draws) -> list[str]:
    """Several variables written to units by an arrow without a tail."""
    found = []
    for units in draws.bound.sizes:
        biases = [
            v.name
            for v in draws.bound.measured()
            if v.between() == ((), (units,)) and len(v.axes) == 1 and v.axes[0].exponent == 1
        ]
        if len(biases) > 1:
            found.append(
                f"{' and '.join(biases)} are both declared as biases of {units!r} and add up in "
                f"the network: if one is a companion, write '{units}^0'"
            )
    return found
