"""A declaration against draws: how the factor of every set of units acts on every variable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import xarray as xr

from relabel.errors import DataError, SpecError
from relabel.groups import Action, group_of
from relabel.spec.arrays import (
    Address,
    check_draws,
    closest,
    core_dims,
    core_shape,
    variable_text,
)
from relabel.spec.axis_sizes import adding_up, blocks_of, solve_sizes
from relabel.spec.flow import check_two_sides, shifts_of
from relabel.spec.lines import declared_lines, expanded, lines_from_dims, located
from relabel.spec.notation import Axes, Axis, Blocks, parse
from relabel.spec.variables import ResolvedAxis, ResolvedVariable, Shift

__all__ = ["check_draws", "closest", "resolve"]

#: Action on an axis that carries no units, or whose units are only permuted.
_NONE = Action(0, False)


def resolve(
    groups: Mapping[str, xr.Dataset],
    units: Mapping[str, str],
    axes: Mapping[str, str],
    values: Mapping[str, str],
    sizes: Mapping[str, int],
    *,
    whole: bool = True,
) -> tuple[dict[str, int], tuple[ResolvedVariable, ...], tuple[Shift, ...]]:
    """Resolve all axes of the draws.

    Parameters
    ----------
    groups : mapping of str to Dataset
        Groups that share the draws.
    units, axes, values, sizes : mapping
        Tables of the spec.
    whole : bool, default True
        Whether all variables of the model must be there: units that are written are read, and
        biases go with what reads.

    Returns
    -------
    sizes : dict of str to int
        Number of units of each set.
    variables : tuple of ResolvedVariable
        Everything that carries units.
    shifts : tuple of Shift
        Biases that affine flips move.

    Raises
    ------
    SpecError, DataError
        As :meth:`relabel.Spec.bind`.
    """
    check_draws(groups)
    lines = declared_lines(groups, units, axes) if axes else lines_from_dims(groups, units, values)
    labels_of = {a: named for key, named in values.items() for a in located(groups, key)}
    known = _sizes_of(groups, lines, units, sizes)
    lines |= {a: expanded(groups, a, parse("...")) for a in labels_of if a not in lines}
    variables = tuple(
        part
        for address, line in lines.items()
        for part in _parts(
            groups[address[0]][address[1]], address, line, known, units, labels_of.get(address)
        )
    )
    for name in units if whole else ():
        check_two_sides(name, units, variables)
    shifts = shifts_of(units, variables, groups, whole=whole)
    return {name: known[name] for name in units}, variables, shifts


def _sizes_of(
    groups: Mapping[str, xr.Dataset],
    lines: Mapping[Address, Axes],
    units: Mapping[str, str],
    given: Mapping[str, int],
) -> dict[str, int]:
    """Infer the size of every named axis; those follow that alone are unknown on theirs."""
    stored_axes = [
        (address, terms, size)
        for address, axes in lines.items()
        for stored, size in zip(
            axes.stored, core_shape(groups[address[0]][address[1]]), strict=True
        )
        for terms in adding_up(stored)
    ]
    known = solve_sizes(stored_axes, given)
    for name in units:
        if name not in known:
            raise SpecError(
                f"the number of units {name!r} is not known; give sizes={{{name!r}: ...}}"
            )
        if known[name][0] == 0:
            raise DataError(f"there are no units {name!r}: size 0 in {known[name][1]}")
    return {name: size for name, (size, _) in known.items()}


def _parts(
    variable: xr.DataArray,
    address: Address,
    axes: Axes,
    sizes: Mapping[str, int],
    units: Mapping[str, str],
    labels_of: str | None,
) -> Iterator[ResolvedVariable]:
    """Resolve the axes of one variable, or of every part of it."""
    dims, shape = core_dims(variable), core_shape(variable)
    laid_out = [blocks_of(stored, n, sizes) for stored, n in zip(axes.stored, shape, strict=True)]
    whole = not any(isinstance(stored, Blocks) for stored in axes.stored)
    parts = []
    for number, chosen in enumerate(axes.parts()):
        blocks = [terms[n] for terms, n in zip(laid_out, chosen, strict=True)]
        own = tuple(
            replace(_resolved_axis(address, axis, size, units), place=place)
            for place, block in enumerate(blocks)
            for axis, size in zip(block.product, block.sizes, strict=True)
        )
        window = None if whole else tuple((block.start, block.stop) for block in blocks)
        part = ResolvedVariable(*address, dims, own, labels_of, window, number, text=axes.text)
        _check_dtype(part, variable)
        parts.append(part)
    if labels_of is not None:
        _check_label_dtype(parts[0], variable, labels_of, sizes[labels_of])
    many = any(len(part.unit_axes()) > 2 for part in parts)
    carried = many or axes.relates_parameters()
    yield from (replace(part, carried=carried) for part in _with_companions(parts))


def _resolved_axis(
    address: Address, axis: Axis, size: int, units: Mapping[str, str]
) -> ResolvedAxis:
    """Resolve how the factor of its units acts on one axis."""
    if axis.name is None or axis.name not in units:
        return ResolvedAxis(axis.name, None, axis.role, size, axis.exponent, _NONE, axis.absolute)
    group = group_of(units[axis.name])
    if group.rotates and (axis.exponent != 1 or axis.absolute):
        raise SpecError(
            f"{variable_text(address)}: units {axis.name!r} that rotate mix; what belongs to each "
            f"of them ('{axis}': a variance, a shrinkage) has no meaning "
            f"after that; declare {axis.name!r} signed, or leave the variable alone ('...')"
        )
    action = _NONE if axis.exponent == 0 else group.action(axis.role)
    if action is None:
        raise SpecError(
            f"{variable_text(address)}: the units {axis.name!r} ({units[axis.name]}: "
            f"{group.label}) need an arrow, which says which weights are incoming and which "
            f"outgoing: write '-> {axis}' or '{axis} ->', or '{axis.name}^0' if it is only permuted"
        )
    action = action.raised(axis.exponent)
    if axis.absolute:
        action = Action(action.power, False)
    return ResolvedAxis(axis.name, axis.name, axis.role, size, axis.exponent, action, axis.absolute)


def _with_companions(parts: Sequence[ResolvedVariable]) -> Iterator[ResolvedVariable]:
    """Mark the axes without units of companions: what belongs to weights is no weight itself.

    So the standard deviations ``(|h| -> y + -> y)`` are neither centred over *y* nor biases of it.
    A part without units is a companion if nothing of its variable follows as weights do.
    """
    follow = [[a.follows_as_weights for a in part.axes if a.units] for part in parts]
    whole = any(any(own) for own in follow) or not any(follow)
    for part, own in zip(parts, follow, strict=True):
        if all(own) and (own or whole):
            yield part
        else:
            axes = (axis if axis.units else replace(axis, absolute=True) for axis in part.axes)
            yield replace(part, axes=tuple(axes))


def _check_dtype(part: ResolvedVariable, variable: xr.DataArray) -> None:
    """Raise DataError unless the dtype can hold what relabelling makes of it."""
    kind, what = variable.dtype.kind, variable_text((part.group, part.name))
    if kind not in "fiub":
        raise DataError(
            f"{what} has the dtype {variable.dtype}, which cannot be relabelled; convert it to "
            "float64 first"
        )
    for axis in part.axes:
        if (kind in "iub" and axis.action.power != 0) or (kind in "ub" and axis.action.signed):
            raise DataError(
                f"{what} has the dtype {variable.dtype}, but units {axis.units!r} may change its "
                f"scale or sign; convert it to float64, or write '{axis.units}^0' if it is only "
                "permuted"
            )


def _check_label_dtype(
    part: ResolvedVariable, variable: xr.DataArray, units: str, n_units: int
) -> None:
    """Raise DataError unless the dtype can hold every label: any unit may move to the last slot."""
    dtype = variable.dtype
    most = {"b": 1, "f": 2 ** (np.finfo(dtype).nmant + 1) if dtype.kind == "f" else 0}
    highest = most[dtype.kind] if dtype.kind in most else int(np.iinfo(dtype).max)
    if highest < n_units - 1:
        raise DataError(
            f"{variable_text((part.group, part.name))} has the dtype {dtype}, which holds labels "
            f"up to {highest}, but there are {n_units} units {units!r}; convert it to a larger "
            "integer dtype (int32)"
        )
