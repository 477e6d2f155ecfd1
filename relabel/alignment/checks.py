"""Signs that a spec does not fit the draws: warnings for the user, never acted upon."""

from __future__ import annotations

import re
from collections.abc import Mapping

from relabel.data.labels_in_draws import could_name, labels_of
from relabel.data.ties import tied_weights
from relabel.errors import SpecError
from relabel.groups import group_of
from relabel.groups.elements import Element
from relabel.matching.draws import Draws
from relabel.spec.variables import is_drawn

__all__ = ["suspicions"]


def suspicions(draws: Draws, elements: Mapping[str, Element]) -> list[str]:
    """Return warnings about a spec, a sentence each.

    Parameters
    ----------
    draws : Draws
        The draws and the spec that was bound to them.
    elements : mapping of str to Monomial or Dense
        The elements that acted on them.

    Returns
    -------
    list of str
        Scales that were flipped, allocations that were left behind, labels that may count from
        one, square variables that were left behind, units whose signs nothing carries once, an
        activation that contradicts the posterior's own attribute, two biases of one set of units,
        layers that the spec does not name, draws of walkers, weights that were one array stored
        twice and are relabelled apart.
    """
    return [
        *_flipped_scales(draws, elements),
        *_forgotten_labels(draws),
        *_labels_from_one(draws),
        *_squares(draws),
        *_signs_together(draws),
        *_another_activation(draws),
        *_two_biases(draws),
        *_walkers(draws),
        *_torn_ties(draws),
        *_forgotten_layers(draws),
    ]


def _flipped_scales(draws: Draws, elements: Mapping[str, Element]) -> list[str]:
    """Warn of variables that had one sign and no longer have it."""
    found = []
    for variable in draws.resolved.measured():
        flipped = [
            units
            for _, units, action in variable.unit_axes()
            if action.signed and _changes_signs(elements[units])
        ]
        values = variable.chosen(draws.groups["posterior"][variable.name])
        if flipped and (bool((values >= 0).all()) or bool((values <= 0).all())):
            remedy = f"write '{flipped[0]}^0', which is only permuted"
            if draws.resolved.group(flipped[0]).rotates:
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
    """Warn of integers that could name units, but are not declared as labels."""
    declared = {(v.group, v.name) for v in draws.resolved.variables}
    found = []
    for group, dataset in draws.groups.items():
        for name, variable in dataset.data_vars.items():
            if (group, name) not in declared and group != "sample_stats":
                for units, size in draws.resolved.sizes.items():
                    if could_name(variable, size):
                        where = str(name) if group == "posterior" else f"{group}/{name}"
                        found.append(
                            f"{where!r} holds integers that could name the {size} units "
                            f"{units!r}, and was left as it is: if they do, add it to values, as "
                            f"in values={{{where!r}: {units!r}}}"
                        )
    return found


def _labels_from_one(draws: Draws) -> list[str]:
    """Warn of labels that are never 0, though all of them name units."""
    found = []
    for variable in draws.resolved.variables:
        if variable.labels_of is None:
            continue
        labels = labels_of(draws.groups[variable.group][variable.name])
        if labels.lowest is not None and labels.lowest > 0:
            n_units = draws.resolved.sizes[variable.labels_of]
            found.append(
                f"{variable.address} holds labels from {labels.lowest} to {labels.highest}, never "
                f"0, of {n_units} units {variable.labels_of!r}: if they count from one, subtract "
                "one (labels - 1) and align again"
            )
    return found


def _squares(draws: Draws) -> list[str]:
    """Warn of variables with two axes of the size of units, which the spec does not name."""
    declared = {(v.group, v.name) for v in draws.resolved.variables}
    found = []
    for name, variable in draws.groups["posterior"].data_vars.items():
        shape = variable.shape[2:]
        if ("posterior", name) in declared or not is_drawn(variable) or len(shape) != 2:
            continue
        for units, size in draws.resolved.sizes.items():
            if size > 1 and shape == (size, size):
                found.append(
                    f"{str(name)!r} has two axes as long as there are units {units!r}, and was "
                    f"left as it is: if it is of these (transitions, covariances), name the axes "
                    f"of all variables, with {name} = '{units} {units}'"
                )
    return found


def _signs_together(draws: Draws) -> list[str]:
    """Warn of units whose signs only show on both sides of arrays, where they cancel."""
    found = []
    for units in draws.resolved.sizes:
        flips = [
            sum(name == units and action.signed for _, name, action in variable.unit_axes())
            for variable in draws.resolved.measured()
            if not variable.carried
        ]
        if draws.resolved.group(units).signs and 2 in flips and 1 not in flips:
            found.append(
                f"the signs of {units!r} are known up to all of them at once, because every array "
                "that flips has these units on both sides; declare a variable that carries them "
                "once"
            )
    return found


def _another_activation(draws: Draws) -> list[str]:
    """Warn of an activation in the posterior's attributes that has another symmetry."""
    named = str(draws.groups["posterior"].attrs.get("activation", ""))
    try:
        group = group_of(named)
    except SpecError:
        return []
    return [
        f"units {units!r} are declared {symmetry}, but the posterior's attribute says {named}"
        for units, symmetry in draws.resolved.spec.units.items()
        if symmetry != "permutation" and group_of(symmetry) != group
    ]


def _two_biases(draws: Draws) -> list[str]:
    """Warn of several biases of one set of units, and fewer weights.

    A norm writes two, its weight and its bias; the units are then only permuted. The
    running mean of a BatchNorm is declared as a bias is.
    """
    found = []
    for units in draws.resolved.sizes:
        if not draws.resolved.group(units).biases_count:
            continue
        written = [
            v
            for v in draws.resolved.measured()
            if v.has_side(units, "head") and all(a.follows_as_weights for a in v.axes)
        ]
        biases = [v.name for v in written if v.between() == ((), (units,)) and len(v.axes) == 1]
        n_weights = len(written) - len(biases)  # as many as biases: each layer has its own
        normed = any(
            axis.units == units and axis.role == "head" and axis.exponent == 0
            for v in draws.resolved.measured()
            for axis in v.axes
            if v.between()[0]
        )
        if len(biases) > max(1, n_weights) and not normed:
            found.append(
                f"{' and '.join(biases)} are both declared as biases of {units!r} and add up in "
                f"the network: if one is a companion, write '{units}^0'"
            )
    return found


def _walkers(draws: Draws) -> list[str]:
    """Warn of draws of an ensemble of walkers, which are one chain."""
    number = draws.groups["posterior"].attrs.get("walkers")
    if number is None:
        return []
    about = (
        f"the draws are of {number} walkers, which depend on one another and are one chain here: "
        "effective sample sizes count them as if they were independent, and R-hat compares early "
        "steps with late ones"
    )
    return [about]


def _torn_ties(draws: Draws) -> list[str]:
    """Warn of arrays that are stored twice and declared differently."""
    carried: dict[str, set[tuple[int, int, str, object]]] = {}
    for v in draws.resolved.variables:
        if v.group == "posterior":
            last = len(v.axes) - 1
            axes = {(i, last - i, units, action) for i, units, action in v.unit_axes()}
            carried.setdefault(v.name, set()).update(axes)
    found = []
    for one, other, turned in tied_weights(draws.groups["posterior"]):
        first, second = (carried.get(name, set()) for name in (one, other))
        if turned:
            second = {(j, i, units, action) for i, j, units, action in second}
        if first != second:
            found.append(
                f"{one!r} and {other!r} held the same numbers and were relabelled in different "
                "ways: if the network uses one array in two places (tied weights), its function "
                "has changed: declare the same units on the same axes of both"
            )
    return found


def _forgotten_layers(draws: Draws) -> list[str]:
    """Warn of undeclared variables with an axis of the size of some units: further layers.

    These are variables whose names differ from declared ones by numbers (a preset was built with
    too few layers or blocks); and where the draws are the weights of networks, all of them.
    """
    spec, posterior = draws.resolved.spec, draws.groups["posterior"]
    declared = {v.name for v in draws.resolved.variables if v.group == "posterior"}
    declared |= set(spec.axes)  # with '...' it is said that no units are carried
    kinds = {_without_numbers(name) for name in declared if _without_numbers(name) != name}
    sizes = {size for size in draws.resolved.sizes.values() if size > 1}
    weights = "form" in posterior.attrs
    found = [
        repr(str(name))
        for name, variable in posterior.data_vars.items()
        if spec.axes and name not in declared and is_drawn(variable)
        if weights or _without_numbers(str(name)) in kinds
        if sizes & set(variable.shape[2:])
    ]
    if not found:
        return []
    shown = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
    message = (
        f"{shown} were left as they are, though they have axes of the size of units: if they are "
        "layers or norms of the same network, its function has changed: name them as well (number "
        "of layers or blocks of the preset, its norms), or with '...' if they carry no units"
    )
    return [message]


def _without_numbers(name: str) -> str:
    return re.sub(r"\d+", "#", name)
