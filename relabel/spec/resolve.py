"""A declaration against draws: which axis of which variable carries which units."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from relabel.errors import DataError, SpecError
from relabel.groups import Action, Group, Role, group_of
from relabel.spec.axis_sizes import adding_up, blocks_of, solve_sizes
from relabel.spec.notation import Axes, Axis, Blocks, StoredAxis, parse, terms_of
from relabel.spec.variables import (
    SAMPLE_DIMS,
    Address,
    BoundAxis,
    BoundVariable,
    Shift,
    core_dims,
    core_shape,
    is_bias,
    is_drawn,
    shown,
    with_companions,
    written_to,
)

__all__ = ["Binder", "check_draws", "closest"]


@dataclass(frozen=True)
class Binder:
    """The tables of a spec beside the groups of data that they are checked against."""

    units: Mapping[str, str]
    axes: Mapping[str, str]
    values: Mapping[str, str]
    sizes: Mapping[str, int]
    groups: Mapping[str, xr.Dataset]

    def resolve(self) -> tuple[dict[str, int], tuple[BoundVariable, ...], tuple[Shift, ...]]:
        """Return the number of units of each set, the variables that carry them, the shifts."""
        check_draws(self.groups)
        lines = self._lines()
        values = {a: units for key, units in self.values.items() for a in self._locate(key)}
        sizes = self._solve_sizes(lines)
        lines |= {a: self._axes_of(a, parse("...")) for a in values if a not in lines}
        variables = tuple(
            part
            for address, axes in lines.items()
            for part in self._parts(address, axes, sizes, values.get(address))
        )
        for units in self.units:
            self._check_two_sides(units, variables)
        return {name: sizes[name] for name in self.units}, variables, self._shifts(variables)

    def finds(self, key: str) -> bool:
        """Whether a key of the spec stands for any variable of the groups."""
        return bool(self._named(key))

    def _group(self, units: str) -> Group:
        return group_of(self.units[units])

    def _array(self, address: Address) -> xr.DataArray:
        return self.groups[address[0]][address[1]]

    def _drawn(self) -> Iterator[tuple[Address, xr.DataArray]]:
        """Every variable that has a value for each draw."""
        for group, dataset in self.groups.items():
            for name, variable in dataset.data_vars.items():
                if is_drawn(variable):
                    yield (group, str(name)), variable

    # ------------------------------------------------------------------ one line per variable

    def _lines(self) -> dict[Address, Axes]:
        """Axes of every variable that carries units, ``...`` filled up."""
        if not self.axes:
            return self._lines_from_dims()
        lines: dict[Address, Axes] = {}
        for key in sorted(self.axes, key=lambda key: "/" in key):  # a group's own line wins
            for address in self._locate(key):
                lines[address] = self._axes_of(address, parse(self.axes[key]))
        return lines | self._companions(lines)

    def _axes_of(self, address: Address, axes: Axes) -> Axes:
        """Fill ``...`` up to the number of axes of one variable."""
        dims = core_dims(self._array(address))
        expanded = axes.expand(len(dims))
        if expanded is None:
            raise SpecError(
                f"{shown(address)} has {len(dims)} axes a draw {dims}, but {axes.text!r} "
                f"names {len(axes.stored)}; name each, or end with '...'"
            )
        return replace(axes, stored=expanded, rest=None)

    def _locate(self, key: str) -> list[Address]:
        """Find the variables that a key of the spec stands for."""
        found = self._named(key)
        drawn = [address for address in found if is_drawn(self._array(address))]
        if drawn:
            return drawn
        if found:
            dims = ", ".join(map(str, self._array(found[0]).dims)) or "none"
            raise SpecError(
                f"{shown(found[0])} does not have the dimensions chain and draw (it has: {dims}), "
                "so it holds no draws; take it out of the spec"
            )
        known = {name if "/" not in key else f"{g}/{name}" for (g, name), _ in self._drawn()}
        where = ", ".join(sorted(known)) if len(known) <= 20 else f"{len(known)} variables"
        raise SpecError(f"unknown variable {key!r}{closest(key, known)}; the draws have {where}")

    def _named(self, key: str) -> list[Address]:
        """Variables that a key names, with draws or without."""
        return self._in_one_group(key) or [
            (group, key) for group, dataset in self.groups.items() if key in dataset.data_vars
        ]

    def _in_one_group(self, key: str) -> list[Address]:
        """Read a key as ``group/name``."""
        parts = key.split("/")
        for cut in range(1, len(parts)):
            group, name = "/".join(parts[:cut]), "/".join(parts[cut:])
            if group in self.groups and name in self.groups[group].data_vars:
                return [(group, name)]
        return []

    def _lines_from_dims(self) -> dict[Address, Axes]:
        """The dims-only form: dimensions that are named like units carry them."""
        lines: dict[Address, Axes] = {}
        for address, variable in self._drawn():
            dims = core_dims(variable)
            if set(dims) & set(self.units):
                stored = tuple((Axis(d if d in self.units else None),) for d in dims)
                lines[address] = Axes(stored, None, " ".join(dims))
        found = {name for axes in lines.values() for name in axes.names()}
        for name in self.units:
            if name not in found and name not in self.values.values():
                dims_of_all = {d for _, variable in self._drawn() for d in core_dims(variable)}
                raise SpecError(
                    f"no variable has a dimension {name!r}{closest(name, dims_of_all)}; "
                    f"name the axes, as in relabel.Spec(units, axes={{'W1': 'x -> {name}', ...}}), "
                    "or have relabel.propose(draws, units=...) guess them"
                )
        self._check_one_signed(lines)
        self._check_second_axes(lines)
        return lines

    def _check_second_axes(self, lines: Mapping[Address, Axes]) -> None:
        """Refuse to guess whether a second axis, named much like the units, is of these as well."""
        for address, axes in lines.items():
            variable = self._array(address)
            carried = dict(zip(core_dims(variable), map(_only_name, axes.stored), strict=True))
            for dim, units in carried.items():
                for other, second in carried.items():
                    alike = units and len(units) > 1 and units.rstrip("s") in other
                    if alike and second is None and _same_size(variable, dim, other):
                        raise SpecError(
                            f"{shown(address)} has the dimensions {dim!r} and {other!r}, of one "
                            f"size: are both of the units {units!r}, as in a matrix of transitions "
                            f"({address[1]} = '{units} {units}'), or one only "
                            f"({address[1]} = {axes.text.replace(other, '_')!r})? Name the axes of "
                            "all variables to say so; relabel.hmm and relabel.propose do"
                        )

    def _check_one_signed(self, lines: Mapping[Address, Axes]) -> None:
        """Refuse to guess that a quantity which never changes sign flips with its unit."""
        for address, axes in lines.items():
            names = map(_only_name, axes.stored)
            signed = [name for name in names if name and self._flips(name, "neutral")]
            variable = self._array(address)
            if not signed or variable.dtype.kind not in "fi":
                continue
            for never, other in (("negative", variable < 0), ("positive", variable > 0)):
                if not other.any():
                    name, line = address[1], axes.text.replace(signed[0], f"{signed[0]}^0")
                    if self._group(signed[0]).rotates:
                        raise SpecError(
                            f"{shown(address)} has the dimension {signed[0]!r} and is never "
                            f"{never}: is it a scale, which cannot follow factors that rotate and "
                            f"mix ({name} = '...' leaves it alone; or declare {signed[0]!r} "
                            f"signed), or are these loadings ({name} = {axes.text!r})? Name the "
                            "axes of all variables to say so"
                        )
                    raise SpecError(
                        f"{shown(address)} has the dimension {signed[0]!r} and is never {never}: "
                        f"is it a scale, which is permuted but not flipped ({name} = {line!r}), or "
                        f"a weight ({name} = {axes.text!r})? Name the axes of all variables to "
                        "say so"
                    )

    def _flips(self, units: str, role: Role) -> bool:
        """Whether the factor of these units does anything to an axis of this role."""
        action = self._group(units).action(role)
        return action is None or not action.trivial

    def _companions(self, lines: Mapping[Address, Axes]) -> dict[Address, Axes]:
        """Undeclared variables that share a units' dimension: carried along, or asked about."""
        carriers: dict[str, set[str]] = {}
        for address, axes in lines.items():
            for dim, stored in zip(core_dims(self._array(address)), axes.stored, strict=True):
                name = _only_name(stored)
                if name in self.units:
                    carriers.setdefault(dim, set()).add(str(name))
        found: dict[Address, Axes] = {}
        for address, variable in self._drawn():
            dims = core_dims(variable)
            if address in lines or not set(dims) & set(carriers):
                continue
            for dim in dims:
                self._check_companion(address, dim, sorted(carriers.get(dim, ())))
            stored_axes = tuple((Axis(next(iter(carriers.get(dim, ())), None)),) for dim in dims)
            found[address] = Axes(stored_axes, None, " ".join(dims))
        self._check_second_axes(found)
        return found

    def _check_companion(self, address: Address, dim: str, units: Sequence[str]) -> None:
        """Refuse to guess how an undeclared variable follows the units of its dimension."""
        what = f"{shown(address)} shares the dimension {dim!r} with the units"
        variable = self._array(address)
        size = variable.sizes[dim]
        square = [d for d in core_dims(variable) if variable.sizes[d] == size] != [dim]
        if len(units) > 1:
            raise SpecError(
                f"{what} {' and '.join(map(repr, units))}, and the spec does not say which of them "
                f"it carries; add {address[1]!r} to axes ('...' leaves it alone)"
            )
        for name in units:
            both = f"'{name} {name}' if both axes are of these units (covariances), "
            both = both if square and size > 1 else ""
            if self._group(name).rotates:
                raise SpecError(
                    f"{what} {name!r}, which rotate, but the spec does not say whether it does; "
                    f"add {address[1]!r} to axes: '{name}' for what rotates (loadings, scores), "
                    f"{both}'...' for what is left alone"
                )
            if self._flips(name, "neutral"):
                raise SpecError(
                    f"{what} {name!r}, but the spec does not say how it follows a change of sign "
                    f"or scale; add {address[1]!r} to axes: '{name}^0' (only permuted), '{name}' "
                    f"with an arrow as for weights, {both}or '...' (left alone)"
                )

    # ------------------------------------------------------------------ sizes

    def _solve_sizes(self, lines: Mapping[Address, Axes]) -> dict[str, int]:
        """Infer the size of every named axis; those follow that alone are unknown on theirs."""
        axes_and_sizes = [
            (address, terms, int(size))
            for address, axes in lines.items()
            for stored, size in zip(axes.stored, core_shape(self._array(address)), strict=True)
            for terms in adding_up(stored)
        ]
        known = solve_sizes(axes_and_sizes, self.sizes)
        for name in self.units:
            if name not in known:
                raise SpecError(
                    f"the number of units {name!r} is not known; give sizes={{{name!r}: ...}}"
                )
            if known[name][0] == 0:
                raise DataError(f"there are no units {name!r}: size 0 in {known[name][1]}")
        return {name: size for name, (size, _) in known.items()}

    # ------------------------------------------------------------------ variables

    def _parts(
        self, address: Address, axes: Axes, sizes: Mapping[str, int], labels_of: str | None
    ) -> Iterator[BoundVariable]:
        """Resolve the axes of one variable, or of every part of it."""
        variable = self._array(address)
        dims, shape = core_dims(variable), core_shape(variable)
        laid = [blocks_of(stored, n, sizes) for stored, n in zip(axes.stored, shape, strict=True)]
        whole = not any(isinstance(stored, Blocks) for stored in axes.stored)
        parts = []
        for number, chosen in enumerate(axes.parts()):
            blocks = [terms[n] for terms, n in zip(laid, chosen, strict=True)]
            bound = tuple(
                replace(self._axis(address, axis, size), place=place)
                for place, block in enumerate(blocks)
                for axis, size in zip(block.product, block.sizes, strict=True)
            )
            window = None if whole else tuple((block.start, block.stop) for block in blocks)
            part = BoundVariable(*address, dims, bound, labels_of, window, number, text=axes.text)
            _check_dtype(part, variable)
            parts.append(part)
        if labels_of is not None:
            _check_label_dtype(parts[0], variable, labels_of, sizes[labels_of])
        many = any(len(part.unit_axes()) > 2 for part in parts)
        carried = many or axes.relates_parameters()
        yield from (replace(part, carried=carried) for part in with_companions(parts))

    def _axis(self, address: Address, axis: Axis, size: int) -> BoundAxis:
        """Resolve how the factor of its units acts on one axis."""
        if axis.name is None or axis.name not in self.units:
            none = Action(0, False)
            return BoundAxis(axis.name, None, axis.role, size, axis.exponent, none, axis.absolute)
        group = self._group(axis.name)
        if group.rotates and (axis.exponent != 1 or axis.absolute):
            raise SpecError(
                f"{shown(address)}: units {axis.name!r} that rotate mix; what belongs to each of "
                f"them ('{axis}': a variance, a shrinkage) has no meaning "
                f"after that; declare {axis.name!r} signed, or leave the variable alone ('...')"
            )
        action = Action(0, False) if axis.exponent == 0 else group.action(axis.role)
        if action is None:
            raise SpecError(
                f"{shown(address)}: the units {axis.name!r} ({self.units[axis.name]}: "
                f"{group.label}) need an arrow, which tells incoming weights from outgoing ones: "
                f"write '-> {axis}' or '{axis} ->', or '{axis.name}^0' if it is only permuted"
            )
        action = action.raised(axis.exponent)
        if axis.absolute:
            action = Action(action.power, False)
        return BoundAxis(
            axis.name, axis.name, axis.role, size, axis.exponent, action, axis.absolute
        )

    def _check_two_sides(self, units: str, variables: Sequence[BoundVariable]) -> None:
        """Refuse units whose change of sign or scale nothing compensates."""
        heads = [v for v in variables if v.has_side(units, "head")]
        tails = [v for v in variables if v.has_side(units, "tail")]
        if not (heads or tails) or not self._flips(units, "head"):
            return
        told = f"units {units!r} ({self.units[units]})"
        if not heads:
            raise SpecError(
                f"{told} are read but nothing writes them: declare the incoming weights and "
                f"biases, as in 'x -> {units}' and '-> {units}'"
            )
        if not tails and self._flips(units, "tail"):
            raise SpecError(
                f"{told} are written but nothing reads them, so that flips or scales would "
                f"change the model: declare the outgoing weights, as in '{units} -> y', or use "
                "'permutation'"
            )
        fed = [v for v in variables if v.between()[0] and not v.carried]
        if not any(axis.units == units and axis.role == "head" for v in fed for axis in v.axes):
            named = ", ".join(dict.fromkeys(v.name for v in heads))
            raise SpecError(
                f"only biases ({named}) write the units {units!r}: is an arrow the wrong way "
                f"round? Incoming weights are 'x -> {units}', or '{units} <- x' if stored (out, in)"
            )

    def _shifts(self, variables: Sequence[BoundVariable]) -> tuple[Shift, ...]:
        """Find the bias that takes up each affine flip: the one with the head of the reader."""
        shifts = []
        for reader in variables:
            head = reader.between()[1]
            for units in self.units:
                if not self._group(units).shifts or not reader.has_side(units, "tail"):
                    self._check_no_covariance(units, reader)
                    continue
                if reader.has_side(units, "head"):
                    raise SpecError(
                        f"{reader.name!r} carries the units {units!r} ({self.units[units]}) on "
                        "both sides: a flip would change their initial state, which is not in the "
                        "draws; use 'permutation'"
                    )
                self._check_not_normed(units, reader)
                biases = [v for v in variables if is_bias(v, reader)]
                if len(biases) > 1:
                    biases = [v for v in biases if written_to(v) == written_to(reader)]
                if len(biases) != 1:
                    found = ", ".join(v.name for v in biases) or "none"
                    line = f"-> {' '.join(map(str, head))}".strip()
                    raise SpecError(
                        f"units {units!r} ({self.units[units]}): a flip moves the bias that goes "
                        f"with {reader.name!r}, {line!r}; there must be exactly one, found "
                        f"{found}. Declare it in axes, or use 'permutation'"
                    )
                if self._array((reader.group, biases[0].name)).dtype.kind != "f":
                    raise DataError(
                        f"{shown((reader.group, biases[0].name))} is moved by the flips of "
                        f"{units!r} and cannot stay an integer; convert it to float64"
                    )
                shifts.append(Shift(units, reader, biases[0]))
        return tuple(shifts)

    def _check_not_normed(self, units: str, reader: BoundVariable) -> None:
        """Refuse flips that a BatchNorm follows: its running mean would shift the other way."""
        for axis in reader.axes:
            if axis.units and axis.role == "head" and not self._group(axis.units).biases_count:
                raise SpecError(
                    f"{shown((reader.group, reader.name))} is read from {units!r} "
                    f"({self.units[units]}) and written to {axis.units!r}, which a BatchNorm "
                    "follows: whether a flip moves a bias or a running mean cannot be told; "
                    f"declare {units!r} 'permutation'"
                )

    def _check_no_covariance(self, units: str, variable: BoundVariable) -> None:
        """Refuse covariances of parameters that a flip adds to one another."""
        affine = self._group(units).shifts
        if affine and variable.carried and any(a.units == units for a in variable.axes):
            raise SpecError(
                f"{shown((variable.group, variable.name))} is carried along with the units "
                f"{units!r} ({self.units[units]}), a flip of which adds weights to biases: what "
                "relates these cannot follow; use 'permutation', or leave it alone ('...')"
            )


def check_draws(groups: Mapping[str, xr.Dataset]) -> None:
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


def closest(name: str, known: Collection[str]) -> str:
    """Offer the known name that is most like a wrong one."""
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def _same_size(variable: xr.DataArray, one: str, two: str) -> bool:
    return bool(variable.sizes[one] == variable.sizes[two])


def _only_name(stored: StoredAxis) -> str | None:
    """Name of a stored axis that is one axis; None of others."""
    terms = terms_of(stored)
    return terms[0][0].name if len(terms) == 1 and len(terms[0]) == 1 else None


def _check_dtype(bound: BoundVariable, variable: xr.DataArray) -> None:
    """Check that the dtype can hold what relabelling makes of it."""
    kind, which = variable.dtype.kind, shown((bound.group, bound.name))
    if kind not in "fiub":
        raise DataError(
            f"{which} has the dtype {variable.dtype}, which cannot be relabelled; convert it to "
            "float64 first"
        )
    for axis in bound.axes:
        if (kind in "iub" and axis.action.power != 0) or (kind in "ub" and axis.action.signed):
            raise DataError(
                f"{which} has the dtype {variable.dtype}, but units {axis.units!r} may change its "
                f"scale or sign; convert it to float64, or write '{axis.units}^0' if it is only "
                "permuted"
            )


def _check_label_dtype(
    bound: BoundVariable, variable: xr.DataArray, units: str, n_units: int
) -> None:
    """Check that every label fits into the dtype: any unit may move to the last slot."""
    dtype = variable.dtype
    most = {"b": 1, "f": 2 ** (np.finfo(dtype).nmant + 1) if dtype.kind == "f" else 0}
    highest = most[dtype.kind] if dtype.kind in most else int(np.iinfo(dtype).max)
    if highest < n_units - 1:
        raise DataError(
            f"{shown((bound.group, bound.name))} has the dtype {dtype}, which holds labels up to "
            f"{highest}, but there are {n_units} units {units!r}; convert it to a larger integer "
            "dtype (int32)"
        )
