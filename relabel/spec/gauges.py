r"""The gauge ``centred`` of a named axis: which axes may have it, and what it acts on.

A softmax over *y* does not see a number that is added to all of its inputs, and neither does a
LayerNorm: :math:`V \to V + 1u'`, :math:`c \to c + \alpha 1` leave the likelihood as it is, for any
vector *u* over what is read and any number :math:`\alpha`. The gauge takes the point of the orbit
at which everything that is written to the axis has mean zero over it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import xarray as xr

from relabel.errors import DataError, SpecError
from relabel.groups import Role, group_of
from relabel.spec.arrays import closest
from relabel.spec.notation import Axes, terms_of
from relabel.spec.variables import ResolvedVariable

__all__ = [
    "CENTRED",
    "centred_axes",
    "centred_axis",
    "check_centred",
    "check_gauge",
    "check_norms",
    "in_circles",
    "written",
]

#: Name of the gauge.
CENTRED = "centred"

_SIDES: tuple[Role, ...] = ("head", "tail")


def centred_axes(gauges: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the axes that are centred.

    Examples
    --------
    >>> centred_axes({"h": "unit", "y": "centred"})
    ('y',)
    """
    return tuple(name for name, gauge in gauges.items() if gauge == CENTRED)


def centred_axis(variable: ResolvedVariable, gauges: Mapping[str, str]) -> int | None:
    """Return the position of the axis over which a variable is centred; None if it is not.

    Centred are quantities of the posterior, over the axis at the head of their arrow. Companions
    (of units with an exponent or between bars), what is read, and axes without an arrow are left
    alone.
    """
    found = _written_axes(variable, gauges)
    return found[0] if found else None


def written(lines: Collection[Axes]) -> set[str]:
    """Return the names of the axes that any of the lines writes to."""
    return {
        axis.name
        for line in lines
        for stored in line.stored
        for product in terms_of(stored)
        for axis in product
        if axis.name is not None and axis.role == "head" and axis.exponent == 1
    }


def check_gauge(name: str, gauge: str, units: Mapping[str, str], lines: Collection[Axes]) -> None:
    """Check one entry of the gauges of a spec against its units and its lines of axes.

    Raises
    ------
    SpecError
        If the gauge is none of the units' gauges, or an axis cannot be centred.
    """
    if gauge == CENTRED:
        _check_may_centre(name, units, lines)
    elif name not in units:
        raise SpecError(
            f"spec: gauges name {name!r}, which are no units{closest(name, units)}; "
            f"the gauge of an axis that is no units is {CENTRED!r}"
        )
    else:
        known = group_of(units[name]).gauges()
        if gauge not in known:
            offered = f"choose from {', '.join(known)}" if known else "it has no scale to fix"
            raise SpecError(f"spec: gauges: {gauge!r} is no gauge of {name!r}; {offered}")


def _check_may_centre(name: str, units: Mapping[str, str], lines: Collection[Axes]) -> None:
    """Raise SpecError if an axis cannot be centred.

    Its units may change neither sign nor scale, and something must write to it. Where axes are left
    out, only the draws show what writes to it.
    """
    actions = [group_of(units[name]).action(side) for side in _SIDES] if name in units else []
    if any(action is None or not action.trivial for action in actions):
        raise SpecError(
            f"spec: the units {name!r} ({units[name]}) may change their signs or scales one by "
            "one, and what a LayerNorm or a softmax reads may not, since these mix all units; "
            f"declare {name!r} 'permutation' to centre them, or take the gauge out"
        )
    heads = written(lines)
    if lines and name not in heads:
        raise SpecError(
            f"spec: gauges: {name!r} is to be centred, but no line of axes writes to it"
            f"{closest(name, heads)}; name what is at the head of an arrow, as in 'h -> {name}' "
            f"and '-> {name}'"
        )


def check_centred(
    variables: Collection[ResolvedVariable],
    gauges: Mapping[str, str],
    groups: Mapping[str, xr.Dataset],
) -> None:
    """Check that the axes with the gauge ``centred`` can be centred.

    Raises
    ------
    SpecError
        If a variable has two such axes, if an axis has one entry, or if nothing of the posterior
        is written to it.
    DataError
        If a variable holds integers.
    """
    found = set()
    for variable in variables:
        axes = _written_axes(variable, gauges)
        names = [variable.axes[axis].name for axis in axes]
        if len(axes) > 1:
            raise SpecError(
                f"variable {variable.name!r} is written to {len(axes)} axes that are to be centred "
                f"({', '.join(map(repr, names))}); centre one of them"
            )
        for axis in axes:
            _check_entries(variable, axis, groups)
        found |= set(names)
    for name in centred_axes(gauges):
        if name not in found:
            raise SpecError(
                f"gauges: {name!r} is to be centred, but no variable of the posterior is written "
                f"to it; declare those that are, as in 'h -> {name}' and '-> {name}'"
            )


def in_circles(variables: Collection[ResolvedVariable]) -> set[str]:
    """Return the scaled units that read one another in a circle, as recurrent ones do.

    A scale cancels on the way round, so their incoming norms need not have any scale at which they
    are one.
    """
    readers: dict[str, set[str]] = {}
    for variable in variables:
        axes = (
            [] if variable.carried else [(units, a.power) for _, units, a in variable.unit_axes()]
        )
        for units, power in axes:
            if power < 0:
                readers.setdefault(units, set()).update(u for u, p in axes if p > 0)
    for _ in range(len(readers)):  # readers of readers are readers
        for reached in readers.values():
            reached.update(*[readers.get(name, set()) for name in reached])
    return {units for units, reached in readers.items() if units in reached}


def check_norms(variables: Collection[ResolvedVariable], gauges: Mapping[str, str]) -> None:
    """Check that no units with the gauge ``unit`` read one another in a circle.

    Raises
    ------
    SpecError
        If there are any.
    """
    for units in sorted(in_circles(variables)):
        if gauges.get(units) == "unit":
            raise SpecError(
                f"gauges: units {units!r} are read by themselves (a recurrent matrix, or a circle "
                "of arrows), so that no scale need make their incoming norms one; use the gauge "
                "'balanced', which always has a point"
            )


def _check_entries(variable: ResolvedVariable, axis: int, groups: Mapping[str, xr.Dataset]) -> None:
    """Raise an error unless a variable can be centred: floats, and more than one entry."""
    name = variable.axes[axis].name
    if variable.axes[axis].size == 1:
        raise SpecError(
            f"variable {variable.name!r}: the axis {name!r} has one entry, which centring would "
            "make zero; a single output or unit has no such symmetry: take the gauge out"
        )
    dtype = groups[variable.group][variable.name].dtype
    if dtype.kind != "f":
        raise DataError(
            f"variable {variable.name!r} has the dtype {dtype} and is to be centred over {name!r}; "
            "convert it to float64"
        )


def _written_axes(variable: ResolvedVariable, gauges: Mapping[str, str]) -> list[int]:
    """Return the positions of the axes over which a variable is centred."""
    names = centred_axes(gauges)
    if variable.group != "posterior" or variable.labels_of is not None or variable.carried:
        return []
    return [
        position
        for position, axis in enumerate(variable.axes)
        if axis.name in names and axis.role == "head" and axis.follows_as_weights
    ]
