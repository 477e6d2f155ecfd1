"""One line of axes for every variable that carries units: declared, or read off dimension names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import xarray as xr

from relabel._util.text import join
from relabel.errors import SpecError
from relabel.groups import Role, activation_of, group_of
from relabel.spec.arrays import (
    Address,
    closest,
    core_dims,
    drawn_variables,
    is_drawn,
    named_variables,
    variable_text,
)
from relabel.spec.leftovers import Leftover, is_default, leftovers, other_dims
from relabel.spec.notation import Axes, Axis, StoredAxis, parse, terms_of
from relabel.spec.support import no_sign

__all__ = ["declared_lines", "expanded", "has_effect", "lines_from_dims", "located"]


def has_effect(symmetry: str, role: Role) -> bool:
    """Whether the factor of units of this symmetry does anything to an axis of this role."""
    action = group_of(symmetry).action(role)
    return action is None or not action.trivial


def located(groups: Mapping[str, xr.Dataset], key: str) -> list[Address]:
    """Return the variables with draws that a key of a spec stands for.

    Raises
    ------
    SpecError
        If there is none; the message offers the closest name.
    """
    found = named_variables(groups, key)
    drawn = [address for address in found if is_drawn(_array(groups, address))]
    if drawn:
        return drawn
    if found:
        dims = ", ".join(map(str, _array(groups, found[0]).dims)) or "none"
        raise SpecError(
            f"{variable_text(found[0])} does not have the dimensions chain and draw (it has: "
            f"{dims}), so it holds no draws; take it out of the spec"
        )
    known = {name if "/" not in key else f"{g}/{name}" for (g, name), _ in drawn_variables(groups)}
    names = ", ".join(sorted(known)) if len(known) <= 20 else f"{len(known)} variables"
    raise SpecError(f"unknown variable {key!r}{closest(key, known)}; the draws have {names}")


def expanded(groups: Mapping[str, xr.Dataset], address: Address, axes: Axes) -> Axes:
    """Fill ``...`` up to the number of axes of one variable.

    Raises
    ------
    SpecError
        If the variable has another number of axes.
    """
    dims = core_dims(_array(groups, address))
    stored = axes.expand(len(dims))
    if stored is None:
        raise SpecError(
            f"{variable_text(address)} has {len(dims)} axes a draw {dims}, but {axes.text!r} "
            f"names {len(axes.stored)}; name each, or end with '...'"
        )
    return replace(axes, stored=stored, rest=None)


def declared_lines(
    groups: Mapping[str, xr.Dataset], units: Mapping[str, str], axes: Mapping[str, str]
) -> dict[Address, Axes]:
    """Return the axes of every variable that a spec declares, ``...`` filled up.

    Variables that are not declared, but have a dimension of units that are only permuted, are
    carried along.

    Parameters
    ----------
    groups : mapping of str to Dataset
    units, axes : mapping of str to str
        Tables of the spec.

    Returns
    -------
    dict of (str, str) to Axes

    Raises
    ------
    SpecError
        If a variable is unknown, has another number of axes, or is not declared although it might
        follow its units in more than one way.
    """
    lines: dict[Address, Axes] = {}
    for key in sorted(axes, key=lambda key: "/" in key):  # a group's own line wins
        for address in located(groups, key):
            lines[address] = expanded(groups, address, parse(axes[key]))
    return lines | _undeclared(groups, units, lines)


def lines_from_dims(
    groups: Mapping[str, xr.Dataset], units: Mapping[str, str], values: Mapping[str, str]
) -> dict[Address, Axes]:
    """Return the axes of every variable that has a dimension with the name of units.

    Raises
    ------
    SpecError
        If units have no such dimension and no labels, or names leave open how a variable follows
        its units.
    """
    lines: dict[Address, Axes] = {}
    for address, variable in drawn_variables(groups):
        dims = core_dims(variable)
        if set(dims) & set(units):
            stored = tuple((Axis(d if d in units else None),) for d in dims)
            lines[address] = Axes(stored, None, " ".join(dims))
    found = {name for axes in lines.values() for name in axes.names()} | set(values.values())
    for name in units:
        if name not in found:
            known = {d for _, variable in drawn_variables(groups) for d in core_dims(variable)}
            raise SpecError(
                f"no variable has a dimension {name!r}{closest(name, known)}; "
                f"name the axes, as in relabel.Spec(units, axes={{'W1': 'x -> {name}', ...}}), "
                "or let relabel.propose(draws, units=...) guess them"
            )
    _check_default_names(groups, units, lines)
    lines = _with_signs(groups, units, lines)
    _check_second_axes(groups, lines)
    return lines


def _undeclared(
    groups: Mapping[str, xr.Dataset], units: Mapping[str, str], lines: Mapping[Address, Axes]
) -> dict[Address, Axes]:
    """Axes of undeclared variables that have a dimension of units which are only permuted."""
    carriers: dict[str, set[str]] = {}
    for address, axes in lines.items():
        for dim, stored in zip(core_dims(_array(groups, address)), axes.stored, strict=True):
            name = _only_name(stored)
            if name in units:
                carriers.setdefault(dim, set()).add(str(name))
    found: dict[Address, Axes] = {}
    for address, variable in drawn_variables(groups):
        dims = core_dims(variable)
        if address in lines or not set(dims) & set(carriers):
            continue
        for dim in dims:
            _check_undeclared(address, variable, dim, units, sorted(carriers.get(dim, ())))
        stored_axes = tuple((Axis(next(iter(carriers.get(dim, ())), None)),) for dim in dims)
        found[address] = Axes(stored_axes, None, " ".join(dims))
    _check_second_axes(groups, found)
    return found


def _check_undeclared(
    address: Address,
    variable: xr.DataArray,
    dim: str,
    units: Mapping[str, str],
    carried: Sequence[str],
) -> None:
    """Raise SpecError if an undeclared variable could follow the units of a dimension in two ways.

    `carried` are the units that declared variables carry on the dimension.
    """
    what = f"{variable_text(address)} shares the dimension {dim!r} with the units"
    if len(carried) > 1:
        raise SpecError(
            f"{what} {' and '.join(map(repr, carried))}, and the spec does not say which of them "
            f"it carries; add {address[1]!r} to axes ('...' leaves it alone)"
        )
    size = variable.sizes[dim]
    square = [d for d in core_dims(variable) if variable.sizes[d] == size] != [dim]
    for name in carried:
        both = f"'{name} {name}' if both axes are of these units (covariances), "
        both = both if square and size > 1 else ""
        if group_of(units[name]).rotates:
            raise SpecError(
                f"{what} {name!r}, which rotate, but the spec does not say whether it does; "
                f"add {address[1]!r} to axes: '{name}' for what rotates (loadings, scores), "
                f"{both}'...' for what is left alone"
            )
        if has_effect(units[name], "neutral"):
            raise SpecError(
                f"{what} {name!r}, but the spec does not say how it follows a change of sign "
                f"or scale; add {address[1]!r} to axes: '{name}^0' (only permuted), '{name}' "
                f"with an arrow as for weights, {both}or '...' (left alone)"
            )


def _check_second_axes(groups: Mapping[str, xr.Dataset], lines: Mapping[Address, Axes]) -> None:
    """Raise SpecError if a second axis is named much like the units and has their size."""
    for address, axes in lines.items():
        variable = _array(groups, address)
        carried = dict(zip(core_dims(variable), map(_only_name, axes.stored), strict=True))
        for dim, units in carried.items():
            for other, second in carried.items():
                alike = units and len(units) > 1 and units.rstrip("s") in other
                same_size = variable.sizes[dim] == variable.sizes[other]
                if alike and second is None and same_size:
                    raise SpecError(
                        f"{variable_text(address)} has the dimensions {dim!r} and {other!r}, of "
                        f"one size: are both of the units {units!r}, as in a transition matrix "
                        f"({address[1]} = '{units} {units}'), or only one "
                        f"({address[1]} = {axes.text.replace(other, '_')!r})? Name the axes of "
                        "all variables to say so; relabel.hmm and relabel.propose do"
                    )


def _with_signs(
    groups: Mapping[str, xr.Dataset], units: Mapping[str, str], lines: Mapping[Address, Axes]
) -> dict[Address, Axes]:
    """Return the lines in which parts of a whole and scales are only permuted (``h^0``).

    Raises
    ------
    SpecError
        If another variable that never changes its sign would flip with its units.
    """
    settled = dict(lines)
    for address, axes in lines.items():
        names = map(_only_name, axes.stored)
        signed = next((n for n in names if n and has_effect(units[n], "neutral")), None)
        variable = _array(groups, address)
        if signed is None or variable.dtype.kind not in "fi":
            continue
        never = next(
            (
                sign
                for sign, other in (("negative", variable < 0), ("positive", variable > 0))
                if not other.any()
            ),
            None,
        )
        if never is None:
            continue
        if group_of(units[signed]).rotates or not no_sign(address[1], variable):
            raise SpecError(_which_sign(address, axes, signed, never, units))
        stored = tuple(
            (Axis(signed, exponent=0),) if _only_name(axis) == signed else axis
            for axis in axes.stored
        )
        settled[address] = replace(axes, stored=stored, text=_permuted(axes.text, signed))
    return settled


def _permuted(text: str, units: str) -> str:
    """Write a line whose units are only permuted."""
    return " ".join(f"{name}^0" if name == units else name for name in text.split())


def _which_sign(
    address: Address, axes: Axes, signed: str, never: str, units: Mapping[str, str]
) -> str:
    """Ask whether a variable that never changes its sign is a scale or a weight."""
    what = f"{variable_text(address)} has the dimension {signed!r} and is never {never}"
    name, line = address[1], _permuted(axes.text, signed)
    if group_of(units[signed]).rotates:
        return (
            f"{what}: is it a scale, which cannot follow factors that rotate and mix "
            f"({name} = '...' leaves it alone; or declare {signed!r} signed), or are these "
            f"loadings ({name} = {axes.text!r})? Name the axes of all variables to say so"
        )
    return (
        f"{what}: is it a scale, which is permuted but not flipped ({name} = {line!r}), or "
        f"a weight ({name} = {axes.text!r})? Name the axes of all variables to say so"
    )


def _check_default_names(
    groups: Mapping[str, xr.Dataset], units: Mapping[str, str], lines: Mapping[Address, Axes]
) -> None:
    """Raise SpecError if units are named like one variable's dimension, and others may have them.

    Samplers call dimensions without a name ``mu_dim_0``, ``cov_dim_0``, ...: such a name says
    nothing of other variables. Those whose first axis has that size, or the same axis as in the
    variable that has the name, are likely to be of the same units.
    """
    for name in filter(is_default, units):
        own = {a: core_dims(_array(groups, a)) for a, axes in lines.items() if name in axes.names()}
        size = max((_array(groups, a).sizes[name] for a in own), default=0)
        likely = {0, *(dims.index(name) for dims in own.values())}
        carried = {a: [d for d in dims if d not in units] for a, dims in own.items()}
        found = leftovers(groups, lines, size, other_dims(groups, carried))
        others = [left for left in found if likely & set(left.places) and not left.other]
        if own and others:
            raise SpecError(_other_variables(name, units[name], own, others))


def _other_variables(
    name: str, symmetry: str, own: Mapping[Address, Sequence[str]], others: Sequence[Leftover]
) -> str:
    """Ask which other variables carry units that were named like one variable's dimension."""
    short = _short_name(symmetry)
    lines = {
        address[1]: " ".join(short if dim == name else "_" for dim in dims)
        for address, dims in own.items()
    } | {left.name: left.line(short) for left in others}
    what = (
        f"{name!r} is the default name of a dimension of {', '.join(a[1] for a in own)}, and says "
        f"nothing of {join(others)}, which would stay behind: if they are of the same units, name "
        "the axes of all"
    )
    if short == "h":
        return (
            f"{what} with arrows, as in axes={{'W1': 'x -> h', 'b1': '-> h', 'W2': 'h -> y'}}, or "
            f"take those of relabel.propose(draws, units={{'h': {symmetry!r}}})"
        )
    square = [left.name for left in others if len(left.places) > 1]
    both = f" ('{short} {short}' in {', '.join(square)} if both axes are theirs)" if square else ""
    return (
        f"{what}: relabel.Spec({{{short!r}: {symmetry!r}}}, axes={lines}){both}, with '...' for "
        "what carries none of them"
    )


def _short_name(symmetry: str) -> str:
    """Return a name for units of a symmetry."""
    if activation_of(symmetry).function is not None:
        return "h"
    return "component" if symmetry == "permutation" else "factor"


def _array(groups: Mapping[str, xr.Dataset], address: Address) -> xr.DataArray:
    return groups[address[0]][address[1]]


def _only_name(stored: StoredAxis) -> str | None:
    """Return the name of a stored axis that is one axis; None for products and blocks."""
    terms = terms_of(stored)
    return terms[0][0].name if len(terms) == 1 and len(terms[0]) == 1 else None
