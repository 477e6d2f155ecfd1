"""Signs that the spec of a network does not fit the draws."""

from __future__ import annotations

from relabel.data.ties import tied_weights
from relabel.errors import SpecError
from relabel.groups import group_of
from relabel.matching.draws import Draws

__all__ = ["about_networks"]


def about_networks(draws: Draws) -> list[str]:
    """Return warnings about signs, activations, biases, walkers and weights stored twice."""
    return [
        *_signs_together(draws),
        *_another_activation(draws),
        *_two_biases(draws),
        *_walkers(draws),
        *_torn_ties(draws),
    ]


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
