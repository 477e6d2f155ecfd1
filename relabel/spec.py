"""The spec: one declaration of the units and of the axes that carry them."""

from __future__ import annotations

import difflib
import json
import math
import tomllib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import tomli_w
import xarray as xr

from relabel.errors import DataError, SpecError
from relabel.groups import Action, Group, Role, group_of
from relabel.notation import Axes, Axis, parse

__all__ = ["SAMPLE_DIMS", "Bound", "BoundAxis", "BoundVariable", "Shift", "Spec"]

#: Dimensions that index draws.
SAMPLE_DIMS = ("chain", "draw")


@dataclass(frozen=True)
class Spec:
    """Which units a model has, and which axes of which variables carry them.

    Parameters
    ----------
    units : mapping of str to str
        Name of each set of exchangeable units -> its activation, or ``"permutation"``
        (see :func:`relabel.groups.group_of`).
    axes : mapping of str to str, optional
        Variable -> its axes in the notation of :mod:`relabel.notation`. A plain name stands for
        that variable in every group that shares the draws, ``group/name`` for one group alone.
        Left out altogether, the dimension names of the dataset are the notation: every variable
        with a dimension named like a set of units carries it.
    values : mapping of str to str, optional
        Variable -> the units that its integer *values* name (allocations).
    sizes : mapping of str to int, optional
        Sizes of axes, where the variables do not tell.
    gauges : mapping of str to str, optional
        Units -> how a continuous scale is fixed: ``"balanced"`` (default) or ``"unit"``.

    Raises
    ------
    SpecError
        If a name, an activation or a line of the notation is not understood.

    Examples
    --------
    >>> spec = Spec(units={"h": "tanh"}, axes={"W": "x -> h", "b": "-> h", "V": "h -> y"})
    >>> print(spec.to_toml())
    [units]
    h = "tanh"
    <BLANKLINE>
    [axes]
    W = "x -> h"
    b = "-> h"
    V = "h -> y"
    <BLANKLINE>
    >>> Spec.from_toml(spec.to_toml()) == spec
    True
    """

    units: Mapping[str, str]
    axes: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    gauges: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check all that can be checked without draws."""
        for entry in fields(self):
            table = getattr(self, entry.name)
            if not isinstance(table, Mapping):
                raise SpecError(f"spec: {entry.name} must be a table, not {table!r}")
            object.__setattr__(self, entry.name, dict(table))
        if not self.units:
            raise SpecError("spec: no units; name at least one set, as in units={'h': 'tanh'}")
        for name, symmetry in self.units.items():
            _check_units_name(name)
            if not isinstance(symmetry, str):
                raise SpecError(f"spec: units {name!r}: the activation is a text, not {symmetry!r}")
            group_of(symmetry)
        parsed = {variable: parse(text) for variable, text in self.axes.items()}
        carried = set[str]().union(*(axes.names() for axes in parsed.values()))
        carried |= set(self.values.values())
        for name in self.units if self.axes else ():
            if name not in carried:
                raise SpecError(f"spec: no axis carries the units {name!r}{_closest(name, carried)}")
        self._check_tables(carried)

    def _check_tables(self, carried: set[str]) -> None:
        """Check values, sizes and gauges against the units."""
        for variable, name in self.values.items():
            if name not in self.units:
                raise SpecError(f"spec: values of {variable!r} name {name!r}, which are no units")
        for name, size in self.sizes.items():
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise SpecError(f"spec: sizes: {name!r} must be a positive integer, not {size!r}")
            if self.axes and name not in carried:
                raise SpecError(f"spec: sizes name {name!r}, which no axis has")
        for name, gauge in self.gauges.items():
            known = group_of(self.units[name]).gauges() if name in self.units else ()
            if gauge not in known:
                offered = f"choose from {', '.join(known)}" if known else "it has no scale to fix"
                raise SpecError(f"spec: gauges: {gauge!r} is no gauge of {name!r}; {offered}")

    # ------------------------------------------------------------------ text and back

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Return the tables that are not empty, as plain dictionaries."""
        tables = {entry.name: dict(getattr(self, entry.name)) for entry in fields(self)}
        return {name: table for name, table in tables.items() if table}

    @classmethod
    def from_dict(cls, tables: Mapping[str, Any]) -> Spec:
        """Build a spec from its tables; an unknown table is an error."""
        known = [entry.name for entry in fields(cls)]
        for name in tables:
            if name not in known:
                raise SpecError(f"spec: unknown table {name!r}; there are {', '.join(known)}")
        if "units" not in tables:
            raise SpecError("spec: there is no table 'units'; it names each set, as in h = \"tanh\"")
        return cls(**tables)

    def to_toml(self) -> str:
        """Write the spec as TOML."""
        return tomli_w.dumps(self.as_dict())

    @classmethod
    def from_toml(cls, text: str) -> Spec:
        """Read a spec from TOML text."""
        try:
            return cls.from_dict(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise SpecError(f"spec: not valid TOML: {error}") from error

    def to_json(self) -> str:
        """Write the spec as JSON."""
        return json.dumps(self.as_dict())

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """Read a spec from JSON text."""
        try:
            return cls.from_dict(json.loads(text))
        except json.JSONDecodeError as error:
            raise SpecError(f"spec: not valid JSON: {error}") from error

    # ------------------------------------------------------------------ against draws

    def bind(self, data: xr.Dataset | Mapping[str, xr.Dataset]) -> Bound:
        """Check the spec against draws, once; all later code trusts the result.

        Parameters
        ----------
        data : Dataset, or mapping of str to Dataset
            The draws; as a mapping, the groups that share them (``posterior``, ...).

        Returns
        -------
        Bound

        Raises
        ------
        SpecError
            For an unknown variable, sizes that disagree, a missing arrow, units that are written
            but not read, and the like.
        DataError
            If there are no draws, or a variable is not numeric.
        """
        groups = {"posterior": data} if isinstance(data, xr.Dataset) else dict(data)
        _check_draws(groups)
        lines = self._lines(groups)
        values = {
            address: units
            for key, units in self.values.items()
            for address in _locate(key, groups)
        }
        sizes = _solve_sizes(lines, groups, self)
        variables = [
            self._bind_variable(groups, address, axes, sizes, values.get(address))
            for address, axes in lines.items()
        ]
        variables += [
            self._bind_variable(groups, address, parse("..."), sizes, units)
            for address, units in values.items()
            if address not in lines
        ]
        bound = Bound(self, {name: sizes[name] for name in self.units}, tuple(variables), ())
        _check_two_sides(bound)
        return Bound(self, bound.sizes, bound.variables, _find_shifts(bound))

    def _lines(self, groups: Mapping[str, xr.Dataset]) -> dict[Address, Axes]:
        """Parsed notation of every variable that carries units."""
        if not self.axes:
            return self._lines_from_dims(groups)
        lines: dict[Address, Axes] = {}
        for key in sorted(self.axes, key=lambda key: "/" in key):  # a group's own line wins
            axes = parse(self.axes[key])
            for address in _locate(key, groups):
                n_dims = groups[address[0]][address[1]].ndim - len(SAMPLE_DIMS)
                expanded = axes.expand(n_dims)
                if expanded is None:
                    dims = _core_dims(groups[address[0]][address[1]])
                    raise SpecError(
                        f"{_show(address)} has {n_dims} axes a draw {dims}, but {axes.text!r} "
                        f"names {len(axes.stored)}; name each, or end with '...'"
                    )
                lines[address] = Axes(expanded, None, axes.text)
        return lines | self._companions(lines, groups)

    def _lines_from_dims(self, groups: Mapping[str, xr.Dataset]) -> dict[Address, Axes]:
        """The dims-only form: dimensions that are named like units carry them."""
        lines: dict[Address, Axes] = {}
        for group, dataset in groups.items():
            for name, variable in dataset.data_vars.items():
                dims = _core_dims(variable)
                if set(dims) & set(self.units) and _is_drawn(variable):
                    stored = tuple((Axis(d if d in self.units else None),) for d in dims)
                    lines[group, str(name)] = Axes(stored, None, " ".join(dims))
        found = {axis.name for axes in lines.values() for (axis,) in axes.stored}
        for name in self.units:
            if name not in found and name not in self.values.values():
                dims = {d for dataset in groups.values() for d in map(str, dataset.dims)}
                raise SpecError(
                    f"no variable has a dimension {name!r}{_closest(name, dims - {*SAMPLE_DIMS})}; "
                    "name the axes, as in axes={'W1': 'x -> " + name + "'}"
                )
        self._check_one_signed(lines, groups)
        return lines

    def _check_one_signed(
        self, lines: Mapping[Address, Axes], groups: Mapping[str, xr.Dataset]
    ) -> None:
        """Refuse to guess that a quantity which never changes sign flips with its unit."""
        for (group, name), axes in lines.items():
            signed = [a.name for (a,) in axes.stored if a.name and self._flips(a.name, "neutral")]
            variable = groups[group][name]
            if signed and variable.dtype.kind in "fiu" and bool((variable >= 0).all()):
                line = axes.text.replace(signed[0], f"{signed[0]}^0")
                raise SpecError(
                    f"{_show((group, name))} has the dimension {signed[0]!r} and is never negative: "
                    f"is it a scale, which is permuted but not flipped ({name} = {line!r}), or a "
                    f"weight ({name} = {axes.text!r})? Name the axes of all variables to say so"
                )

    def _flips(self, units: str, role: Role) -> bool:
        """Whether the factor of these units does anything to an axis of this role."""
        action = group_of(self.units[units]).action(role)
        return action is None or not action.trivial

    def _companions(
        self, lines: Mapping[Address, Axes], groups: Mapping[str, xr.Dataset]
    ) -> dict[Address, Axes]:
        """Undeclared variables that share a units' dimension: carried along, or asked about."""
        carriers = {
            dim: axis.name
            for address, axes in lines.items()
            for dim, product in zip(_core_dims(groups[address[0]][address[1]]), axes.stored)
            for axis in product
            if len(product) == 1 and axis.name in self.units
        }
        found: dict[Address, Axes] = {}
        for group, dataset in groups.items():
            for name, variable in dataset.data_vars.items():
                shared = [dim for dim in _core_dims(variable) if dim in carriers]
                address = (group, str(name))
                if not shared or not _is_drawn(variable) or address in lines:
                    continue
                units = [carriers[dim] for dim in shared if carriers[dim] is not None]
                flipped = [u for u in units if u is not None and self._flips(u, "neutral")]
                if flipped:
                    raise SpecError(
                        f"{_show(address)} shares the dimension {shared[0]!r} with the units "
                        f"{flipped[0]!r}, but the spec does not say how it follows a change of "
                        f"sign or scale; add {name!r} to axes: '{flipped[0]}^0' (only permuted), "
                        f"'{flipped[0]}' with an arrow as for weights, or '...' (left alone)"
                    )
                stored = tuple((Axis(carriers.get(dim)),) for dim in _core_dims(variable))
                found[address] = Axes(stored, None, " ".join(_core_dims(variable)))
        return found

    def _bind_variable(
        self,
        groups: Mapping[str, xr.Dataset],
        address: Address,
        axes: Axes,
        sizes: Mapping[str, int],
        labels_of: str | None,
    ) -> BoundVariable:
        """Resolve the axes of one variable."""
        variable = groups[address[0]][address[1]]
        dims = _core_dims(variable)
        expanded = axes.expand(len(dims)) or ()
        bound = tuple(
            self._bind_axis(address, axis, sizes, int(variable.sizes[dim]))
            for dim, product in zip(dims, expanded, strict=True)
            for axis in product
        )
        result = BoundVariable(address[0], address[1], dims, bound, labels_of)
        _check_dtype(result, variable)
        return result

    def _bind_axis(
        self, address: Address, axis: Axis, sizes: Mapping[str, int], stored_size: int
    ) -> BoundAxis:
        """Resolve one axis: its size and how the factor of its units acts on it."""
        size = stored_size if axis.name is None else sizes[axis.name]
        if axis.name not in self.units:
            return BoundAxis(axis.name, None, axis.role, size, axis.exponent, Action(0, False))
        assert axis.name is not None
        group = group_of(self.units[axis.name])
        action = Action(0, False) if axis.exponent == 0 else group.action(axis.role)
        if action is None:
            raise SpecError(
                f"{_show(address)}: the units {axis.name!r} ({self.units[axis.name]}: "
                f"{group.label}) need an arrow, which tells incoming weights from outgoing ones: "
                f"write '-> {axis.name}' or '{axis.name} ->', or '{axis.name}^0' if it is only "
                "permuted"
            )
        action = action.raised(axis.exponent)
        return BoundAxis(axis.name, axis.name, axis.role, size, axis.exponent, action)


@dataclass(frozen=True)
class BoundAxis:
    """One axis of a bound variable; `units` is None where it carries none."""

    name: str | None
    units: str | None
    role: Role
    size: int
    exponent: int
    action: Action


@dataclass(frozen=True)
class BoundVariable:
    """One variable that carries units.

    Attributes
    ----------
    group, name : str
        Where it is.
    dims : tuple of str
        Its dimensions after chain and draw, as stored.
    axes : tuple of BoundAxis
        Its axes; products are split, so there may be more than `dims`.
    labels_of : str or None
        The units that its values name.
    """

    group: str
    name: str
    dims: tuple[str, ...]
    axes: tuple[BoundAxis, ...]
    labels_of: str | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of `axes`."""
        return tuple(axis.size for axis in self.axes)

    @property
    def address(self) -> str:
        """``group/name``."""
        return f"{self.group}/{self.name}"

    def unit_axes(self) -> list[tuple[int, str, Action]]:
        """Return (position, units, action) of every axis that carries units."""
        return [(i, a.units, a.action) for i, a in enumerate(self.axes) if a.units is not None]

    def between(self) -> tuple[tuple[str | None, ...], tuple[str | None, ...]]:
        """Return the names on the tail and on the head of the arrow."""
        return (
            tuple(axis.name for axis in self.axes if axis.role == "tail"),
            tuple(axis.name for axis in self.axes if axis.role == "head"),
        )


@dataclass(frozen=True)
class Shift:
    """An affine flip of `units` adds what `reader` reads of them to `bias`."""

    units: str
    reader: BoundVariable
    bias: BoundVariable


@dataclass(frozen=True)
class Bound:
    """A spec that fits the draws: all axes resolved.

    Attributes
    ----------
    spec : Spec
    sizes : dict of str to int
        Number of units of each set.
    variables : tuple of BoundVariable
        Every variable that carries units, in all groups.
    shifts : tuple of Shift
        Biases that affine flips move.
    """

    spec: Spec
    sizes: dict[str, int]
    variables: tuple[BoundVariable, ...]
    shifts: tuple[Shift, ...]

    def group(self, units: str) -> Group:
        """Return the symmetry group of a set of units."""
        return group_of(self.spec.units[units])

    def in_group(self, group: str) -> tuple[BoundVariable, ...]:
        """Return the variables of one group of the data."""
        return tuple(v for v in self.variables if v.group == group)


# ---------------------------------------------------------------------- helpers of bind

Address = tuple[str, str]


def _check_units_name(name: Hashable) -> None:
    if not isinstance(name, str) or not parse(name).names() == {name}:
        raise SpecError(f"spec: {name!r} cannot name a set of units; use letters, digits and _")
    if name in SAMPLE_DIMS or "/" in name:
        raise SpecError(f"spec: units cannot be named {name!r}, which has a meaning of its own")


def _closest(name: str, known: Sequence[str] | set[str]) -> str:
    """Offer the known name that is most like a wrong one."""
    matches = difflib.get_close_matches(name, [str(k) for k in known], n=1, cutoff=0.5)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def _show(address: Address) -> str:
    group, name = address
    return f"variable {name!r}" if group == "posterior" else f"variable {group}/{name}"


def _is_drawn(variable: xr.DataArray) -> bool:
    return set(SAMPLE_DIMS) <= set(variable.dims)


def _core_dims(variable: xr.DataArray) -> tuple[str, ...]:
    return tuple(str(dim) for dim in variable.dims if dim not in SAMPLE_DIMS)


def _check_draws(groups: Mapping[str, xr.Dataset]) -> None:
    """Refuse data without draws."""
    if "posterior" not in groups:
        raise DataError(f"there is no group 'posterior'; found {', '.join(groups) or 'nothing'}")
    posterior = groups["posterior"]
    if not posterior.data_vars:
        raise DataError("the group 'posterior' has no variables: was the file written completely?")
    for dim in SAMPLE_DIMS:
        if dim not in posterior.dims:
            dims = ", ".join(map(str, posterior.dims)) or "none"
            raise DataError(
                f"the posterior has no dimension {dim!r} (it has: {dims}); draws need chain and "
                "draw: rename the dimensions, or add one with expand_dims"
            )
        if posterior.sizes[dim] == 0:
            raise DataError(f"the posterior has no draws: dimension {dim!r} has size 0")


def _locate(key: str, groups: Mapping[str, xr.Dataset]) -> list[Address]:
    """Find the variables that a key of the spec stands for."""
    parts = key.split("/")
    for cut in range(1, len(parts)):
        group, name = "/".join(parts[:cut]), "/".join(parts[cut:])
        if group in groups and name in groups[group].data_vars:
            return [(group, name)]
    found = [
        (group, key)
        for group, dataset in groups.items()
        if key in dataset.data_vars and _is_drawn(dataset[key])
    ]
    if not found:
        known = {str(name) for dataset in groups.values() for name in dataset.data_vars}
        where = f"{', '.join(sorted(known))}" if len(known) <= 20 else f"{len(known)} variables"
        raise SpecError(
            f"unknown variable {key!r}{_closest(key, known)}; the draws have {where}"
        )
    return found


def _solve_sizes(
    lines: Mapping[Address, Axes], groups: Mapping[str, xr.Dataset], spec: Spec
) -> dict[str, int]:
    """Infer the size of every named axis; products follow when one factor is unknown."""
    known: dict[str, tuple[int, str]] = {n: (s, "sizes of the spec") for n, s in spec.sizes.items()}
    open_axes = [
        (address, product, int(groups[address[0]][address[1]].sizes[dim]))
        for address, axes in lines.items()
        for dim, product in zip(_core_dims(groups[address[0]][address[1]]), axes.stored)
    ]
    while open_axes:
        waiting = []
        for address, product, size in open_axes:
            names = [axis.name for axis in product]
            missing = [name for name in names if name is not None and name not in known]
            if len(product) > 1 and (None in names or len(missing) > 1):
                waiting.append((address, product, size))
                continue
            rest = math.prod(known[n][0] for n in names if n is not None and n not in missing)
            _agree(address, names, size, rest, missing, known)
            if missing:
                known[missing[0]] = (size // rest, _show(address))
        if len(waiting) == len(open_axes):
            address, product, size = waiting[0]
            raise SpecError(
                f"{_show(address)}: cannot tell how {size} splits into "
                f"({' '.join(a.name or '_' for a in product)}); give the sizes, as in "
                f"sizes={{{product[0].name!r}: ...}}"
            )
        open_axes = waiting
    for name in spec.units:
        if name not in known:
            raise SpecError(f"the number of units {name!r} is not known; give sizes={{{name!r}: ...}}")
    return {name: size for name, (size, _) in known.items()}


def _agree(
    address: Address,
    names: Sequence[str | None],
    size: int,
    rest: int,
    missing: Sequence[str],
    known: Mapping[str, tuple[int, str]],
) -> None:
    """Check one stored axis against the sizes known so far."""
    if names == [None] or (missing and size % rest == 0) or (not missing and size == rest):
        return
    if len(names) == 1 and names[0] is not None:
        other_size, other = known[names[0]]
        raise SpecError(
            f"sizes of {names[0]!r} disagree: {size} in {_show(address)}, {other_size} in {other}; "
            "is one of them stored the other way round (write the arrow as in 'h <- x')?"
        )
    sources = ", ".join(f"{n} = {known[n][0]} ({known[n][1]})" for n in names if n in known)
    raise SpecError(
        f"{_show(address)}: an axis of size {size} cannot be ({' '.join(map(str, names))}) "
        f"with {sources}"
    )


def _check_dtype(bound: BoundVariable, variable: xr.DataArray) -> None:
    """Check that the dtype can hold what relabelling makes of it."""
    kind = variable.dtype.kind
    if kind not in "fiub":
        raise DataError(
            f"{_show((bound.group, bound.name))} has the dtype {variable.dtype}, which cannot be "
            "relabelled; convert it to float64 first"
        )
    if bound.labels_of is not None and kind not in "iu":
        raise DataError(
            f"{_show((bound.group, bound.name))} holds labels of {bound.labels_of!r} and must be "
            f"of an integer dtype, not {variable.dtype}"
        )
    for axis in bound.axes:
        if kind in "iub" and axis.action.power != 0 or kind in "ub" and axis.action.signed:
            raise DataError(
                f"{_show((bound.group, bound.name))} has the dtype {variable.dtype}, but units "
                f"{axis.units!r} may change its scale or sign; convert it to float64, or write "
                f"'{axis.units}^0' if it is only permuted"
            )


def _check_two_sides(bound: Bound) -> None:
    """Refuse units whose change of sign or scale nothing compensates."""
    for units in bound.spec.units:
        heads = [v for v in bound.variables if units in v.between()[1]]
        tails = [v for v in bound.variables if units in v.between()[0]]
        group, name = bound.group(units), bound.spec.units[units]
        if not (heads or tails):
            continue
        flips = {role: not (group.action(role) or Action(1, True)).trivial for role in ("head", "tail")}
        if flips["head"] and not heads:
            raise SpecError(
                f"units {units!r} ({name}) are read but nothing writes them: declare the incoming "
                f"weights and biases, as in 'x -> {units}' and '-> {units}'"
            )
        if flips["tail"] and not tails:
            raise SpecError(
                f"units {units!r} ({name}) are written but nothing reads them, so that flips or "
                f"scales would change the model: declare the outgoing weights, as in "
                f"'{units} -> y', or use 'permutation'"
            )
        if flips["head"] and all(not v.between()[0] for v in heads):
            named = ", ".join(v.name for v in heads)
            raise SpecError(
                f"only biases ({named}) write the units {units!r}: is an arrow the wrong way round? "
                f"Incoming weights are 'x -> {units}', or '{units} <- x' if stored (out, in)"
            )


def _find_shifts(bound: Bound) -> tuple[Shift, ...]:
    """Find the bias that takes up each affine flip: same head and neutral axes as the reader."""
    shifts = []
    for reader in bound.variables:
        tail, head = reader.between()
        for units in sorted({a.units for a in reader.axes if a.role == "tail" and a.units}):
            if not bound.group(units).shifts:
                continue
            biases = [
                v
                for v in bound.in_group(reader.group)
                if not v.between()[0] and v.between()[1] == head and v.labels_of is None
            ]
            if len(biases) != 1:
                found = ", ".join(v.name for v in biases) or "none"
                raise SpecError(
                    f"units {units!r} ({bound.spec.units[units]}): a flip moves the bias that goes "
                    f"with {reader.name!r}, '-> {' '.join(map(str, head))}'; there must be exactly "
                    f"one, found {found}. Declare it in axes, or use 'permutation'"
                )
            shifts.append(Shift(units, reader, biases[0]))
    return tuple(shifts)


def non_finite(bound: Bound, groups: Mapping[str, xr.Dataset]) -> np.ndarray[Any, Any]:
    """Which draws have a NaN or an infinity in a declared variable: bool (chain, draw)."""
    posterior = groups["posterior"]
    bad = np.zeros((posterior.sizes["chain"], posterior.sizes["draw"]), bool)
    for variable in bound.variables:
        values = groups[variable.group][variable.name]
        if values.dtype.kind == "f":
            core = [dim for dim in values.dims if dim not in SAMPLE_DIMS]
            finite = np.isfinite(values).all(core).transpose(*SAMPLE_DIMS)
            bad |= ~finite.values
    return bad
