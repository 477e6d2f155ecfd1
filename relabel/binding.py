"""A declaration against draws: which axis of which variable carries which units."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.errors import DataError, SpecError
from relabel.groups import Action, Group, Role, group_of
from relabel.notation import Axes, Axis, Blocks, Product, StoredAxis, parse, terms_of

__all__ = [
    "SAMPLE_DIMS",
    "Binder",
    "BoundAxis",
    "BoundVariable",
    "Shift",
    "check_draws",
    "closest",
    "core_dims",
    "is_drawn",
]

#: Dimensions that index draws.
SAMPLE_DIMS = ("chain", "draw")

#: (group, name) of a variable.
Address = tuple[str, str]

Array = NDArray[Any]


@dataclass(frozen=True)
class BoundAxis:
    """One axis of a bound variable; `units` is None where it carries none.

    `place` is the position of the stored axis that it is, or is a factor of.
    """

    name: str | None
    units: str | None
    role: Role
    size: int
    exponent: int
    action: Action
    absolute: bool = False
    place: int = 0

    @property
    def follows_as_weights(self) -> bool:
        """Whether the factor acts as it does on weights, not as on a companion (``h^2``)."""
        return self.exponent == 1 and not self.absolute


@dataclass(frozen=True)
class BoundVariable:
    """One variable that carries units, or one part of it where an axis is several blocks.

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
    window : tuple of (int, int), or None
        Where the part begins and ends on each of `dims`; None for a variable that is whole.
    part : int
        Number of the part.
    carried : bool
        Whether it is carried along only: it has more than two axes of units, or is a matrix
        between flat vectors of parameters (a covariance). Then it is not matched on and fixes no
        gauge.
    text : str
        The notation of the whole variable.
    """

    group: str
    name: str
    dims: tuple[str, ...]
    axes: tuple[BoundAxis, ...]
    labels_of: str | None = None
    window: tuple[tuple[int, int], ...] | None = None
    part: int = 0
    carried: bool = False
    text: str = ""

    def of(self, stored: Array) -> Array:
        """Return this part of stored values (batch axes, `dims`) as (batch axes, `axes`): a view.

        Examples
        --------
        >>> import numpy as np
        >>> axes = (BoundAxis("h", "h", "head", 2, 1, Action(0, True)),)
        >>> part = BoundVariable("posterior", "b", ("gates",), axes, window=((2, 4),))
        >>> part.of(np.arange(12).reshape(3, 4))
        array([[ 2,  3],
               [ 6,  7],
               [10, 11]])
        """
        batch = stored.shape[: stored.ndim - len(self.dims)]
        if self.window is not None:
            cuts: tuple[Any, ...] = (..., *(slice(*ends) for ends in self.window))
            stored = stored[cuts]
        return stored.reshape(*batch, *self.shape)

    def placed(self, stored: Array, values: Array) -> Array:
        """Return stored values with others for this part; without a copy if it is all of them."""
        if self.window is None:
            return values.reshape(stored.shape)
        result = stored.copy()
        self.of(result)[...] = values
        return result

    def chosen(self, variable: xr.DataArray) -> xr.DataArray:
        """Return this part of the variable as it is stored."""
        if self.window is None:
            return variable
        cuts = (slice(*ends) for ends in self.window)
        return variable.isel(dict(zip(self.dims, cuts, strict=True)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of `axes`."""
        return tuple(axis.size for axis in self.axes)

    @property
    def address(self) -> str:
        """``group/name``."""
        return f"{self.group}/{self.name}"

    @property
    def key(self) -> str:
        """Its name, with the number of the part where it is one of several."""
        return self.name if self.window is None else f"{self.name}[{self.part}]"

    @property
    def line(self) -> str:
        """Its axes in the notation, without arrows: for variables that were told by dimensions."""
        return " ".join(axis.name or "_" for axis in self.axes)

    def unit_axes(self) -> list[tuple[int, str, Action]]:
        """Return (position, units, action) of every axis that carries units."""
        return [(i, a.units, a.action) for i, a in enumerate(self.axes) if a.units is not None]

    def between(self) -> tuple[tuple[str | None, ...], tuple[str | None, ...]]:
        """Return the names on the tail and on the head of the arrow."""
        return (
            tuple(axis.name for axis in self.axes if axis.role == "tail"),
            tuple(axis.name for axis in self.axes if axis.role == "head"),
        )

    def has_side(self, units: str, role: Role) -> bool:
        """Whether weights of the units are on one side of the arrow; companions do not count."""
        return not self.carried and any(
            a.units == units and a.role == role and a.follows_as_weights for a in self.axes
        )


@dataclass(frozen=True)
class Shift:
    """An affine flip of `units` adds what `reader` reads of them to `bias`."""

    units: str
    reader: BoundVariable
    bias: BoundVariable


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
                f"{_show(address)} has {len(dims)} axes a draw {dims}, but {axes.text!r} "
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
                f"{_show(found[0])} does not have the dimensions chain and draw (it has: {dims}), "
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
                            f"{_show(address)} has the dimensions {dim!r} and {other!r}, of one "
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
                            f"{_show(address)} has the dimension {signed[0]!r} and is never "
                            f"{never}: is it a scale, which cannot follow factors that rotate and "
                            f"mix ({name} = '...' leaves it alone; or declare {signed[0]!r} "
                            f"signed), or are these loadings ({name} = {axes.text!r})? Name the "
                            "axes of all variables to say so"
                        )
                    raise SpecError(
                        f"{_show(address)} has the dimension {signed[0]!r} and is never {never}: "
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
        what = f"{_show(address)} shares the dimension {dim!r} with the units"
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
        known = {name: (size, "sizes of the spec") for name, size in self.sizes.items()}
        waiting = [
            (address, terms, int(size))
            for address, axes in lines.items()
            for stored, size in zip(axes.stored, _core_shape(self._array(address)), strict=True)
            for terms in _adding_up(stored)
        ]
        while waiting:
            open_axes, waiting = waiting, []
            for address, terms, size in open_axes:
                if not _learn(address, terms, size, known):
                    waiting.append((address, terms, size))
            if len(waiting) == len(open_axes):
                raise SpecError(_unsolved(*waiting[0], known))
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
        dims, shape = core_dims(variable), _core_shape(variable)
        split = [_split(stored, n, sizes) for stored, n in zip(axes.stored, shape, strict=True)]
        whole = not any(isinstance(stored, Blocks) for stored in axes.stored)
        parts = []
        for number, chosen in enumerate(axes.parts()):
            blocks = [terms[n] for terms, n in zip(split, chosen, strict=True)]
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
        yield from (replace(part, carried=carried) for part in _with_companions(parts))

    def _axis(self, address: Address, axis: Axis, size: int) -> BoundAxis:
        """Resolve how the factor of its units acts on one axis."""
        if axis.name is None or axis.name not in self.units:
            none = Action(0, False)
            return BoundAxis(axis.name, None, axis.role, size, axis.exponent, none, axis.absolute)
        group = self._group(axis.name)
        if group.rotates and (axis.exponent != 1 or axis.absolute):
            raise SpecError(
                f"{_show(address)}: units {axis.name!r} that rotate mix; what belongs to each of "
                f"them ('{axis}': a variance, a shrinkage) has no meaning "
                f"after that; declare {axis.name!r} signed, or leave the variable alone ('...')"
            )
        action = Action(0, False) if axis.exponent == 0 else group.action(axis.role)
        if action is None:
            raise SpecError(
                f"{_show(address)}: the units {axis.name!r} ({self.units[axis.name]}: "
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
        shown = f"units {units!r} ({self.units[units]})"
        if not heads:
            raise SpecError(
                f"{shown} are read but nothing writes them: declare the incoming weights and "
                f"biases, as in 'x -> {units}' and '-> {units}'"
            )
        if not tails and self._flips(units, "tail"):
            raise SpecError(
                f"{shown} are written but nothing reads them, so that flips or scales would "
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
                biases = [v for v in variables if _is_bias(v, reader)]
                if len(biases) > 1:
                    biases = [v for v in biases if _written_to(v) == _written_to(reader)]
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
                        f"{_show((reader.group, biases[0].name))} is moved by the flips of "
                        f"{units!r} and cannot stay an integer; convert it to float64"
                    )
                shifts.append(Shift(units, reader, biases[0]))
        return tuple(shifts)

    def _check_not_normed(self, units: str, reader: BoundVariable) -> None:
        """Refuse flips that a BatchNorm follows: its running mean would shift the other way."""
        for axis in reader.axes:
            if axis.units and axis.role == "head" and not self._group(axis.units).biases_count:
                raise SpecError(
                    f"{_show((reader.group, reader.name))} is read from {units!r} "
                    f"({self.units[units]}) and written to {axis.units!r}, which a BatchNorm "
                    "follows: whether a flip moves a bias or a running mean cannot be told; "
                    f"declare {units!r} 'permutation'"
                )

    def _check_no_covariance(self, units: str, variable: BoundVariable) -> None:
        """Refuse covariances of parameters that a flip adds to one another."""
        affine = self._group(units).shifts
        if affine and variable.carried and any(a.units == units for a in variable.axes):
            raise SpecError(
                f"{_show((variable.group, variable.name))} is carried along with the units "
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


def is_drawn(variable: xr.DataArray) -> bool:
    """Whether a variable has a value for each draw."""
    return set(SAMPLE_DIMS) <= set(variable.dims)


def core_dims(variable: xr.DataArray) -> tuple[str, ...]:
    """Return the dimensions of one draw, as stored."""
    return tuple(str(dim) for dim in variable.dims if dim not in SAMPLE_DIMS)


def _core_shape(variable: xr.DataArray) -> tuple[int, ...]:
    return tuple(variable.sizes[dim] for dim in variable.dims if dim not in SAMPLE_DIMS)


def _same_size(variable: xr.DataArray, one: str, two: str) -> bool:
    return bool(variable.sizes[one] == variable.sizes[two])


def _show(address: Address) -> str:
    group, name = address
    return f"variable {name!r}" if group == "posterior" else f"variable {group}/{name}"


def _is_bias(variable: BoundVariable, reader: BoundVariable) -> bool:
    """Whether a variable is written to the axes that a reader is, in its way, and has no others."""
    return (
        variable.labels_of is None
        and variable.group == reader.group
        and _head(variable) == _head(reader)
        and len(variable.axes) == len(_head(reader))
    )


def _with_companions(parts: Sequence[BoundVariable]) -> Iterator[BoundVariable]:
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


def _head(variable: BoundVariable) -> list[tuple[str | None, int, bool]]:
    """What is at the head of the arrow; companions (``h^2``) differ from weights in it."""
    return [(a.name, a.exponent, a.absolute) for a in variable.axes if a.role == "head"]


def _written_to(variable: BoundVariable) -> list[tuple[int, int]]:
    """Where the part lies on the stored axes that are written; empty for a whole variable."""
    if variable.window is None:
        return []
    return [variable.window[axis.place] for axis in variable.axes if axis.role == "head"]


def _only_name(stored: StoredAxis) -> str | None:
    """Name of a stored axis that is one axis; None of others."""
    terms = terms_of(stored)
    return terms[0][0].name if len(terms) == 1 and len(terms[0]) == 1 else None


def _adding_up(stored: StoredAxis) -> list[tuple[Product, ...]]:
    """Products that together are the whole stored axis; several such lists for alternatives."""
    terms = terms_of(stored)
    alternatives = isinstance(stored, Blocks) and stored.zipped
    return [(term,) for term in terms] if alternatives else [terms]


@dataclass(frozen=True)
class _Block:
    """One block of a stored axis: from where to where it goes, and the product that it is."""

    product: Product
    sizes: tuple[int, ...]
    start: int
    stop: int


def _split(stored: StoredAxis, size: int, known: Mapping[str, int]) -> list[_Block]:
    """Lay the blocks of one stored axis out; the one size without a name follows from the rest."""
    found = []
    for terms in _adding_up(stored):
        start = 0
        named = [math.prod(known[axis.name] for axis in term if axis.name) for term in terms]
        blank = [any(axis.name is None for axis in term) for term in terms]
        rest = size - sum(n for n, is_blank in zip(named, blank, strict=True) if not is_blank)
        for term, n, is_blank in zip(terms, named, blank, strict=True):
            sizes = tuple(known[a.name] if a.name else rest // max(n, 1) for a in term)
            stop = start + (rest if is_blank else n)
            found.append(_Block(term, sizes, start, stop))
            start = stop
    return found


def _learn(
    address: Address,
    terms: Sequence[Product],
    size: int,
    known: dict[str, tuple[int, str]],
) -> bool:
    """Check one stored axis against the sizes known so far, and add what follows from it.

    Returns False if the axis has to wait until more is known.
    """
    names = [axis.name for term in terms for axis in term]
    if names == [None]:
        return True
    open_names = {name for name in names if name not in known}
    if len(open_names) > 1 or names.count(None) > 1:
        return False
    (missing,) = open_names or {None}
    holders = [[axis.name for axis in term] for term in terms if open_names]
    holders = [names for names in holders if missing in names]
    if any(names.count(missing) > 1 for names in holders):
        return False

    def times(names: Sequence[str | None]) -> int:
        return math.prod(known[name][0] for name in names if name in known)

    every = [[axis.name for axis in term] for term in terms]
    rest = size - sum(times(names) for names in every if names not in holders)
    each = sum(times(names) for names in holders)
    fits = rest == 0 if not open_names else each > 0 and rest >= 0 and rest % each == 0
    if not fits or (len(terms) > 1 and open_names and rest == 0):
        raise SpecError(_disagreement(address, terms, size, known))
    if missing is not None:
        known[missing] = (rest // each, _show(address))
    return True


def _disagreement(
    address: Address,
    terms: Sequence[Product],
    size: int,
    known: Mapping[str, tuple[int, str]],
) -> str:
    """Say which sizes cannot both be right."""
    names = [axis.name for term in terms for axis in term]
    found = {name: known[name] for name in names if name is not None and name in known}
    if len(names) == 1 and names[0] is not None:
        other_size, other = known[names[0]]
        return (
            f"sizes of {names[0]!r} disagree: {size} in {_show(address)}, {other_size} in {other}; "
            "axes are written in the order in which they are stored, and presets expect the order "
            "that they describe; is one of them stored the other way round (write the arrow as in "
            "'h <- x', or the names in the stored order)?"
        )
    sources = ", ".join(f"{name} = {other} ({where})" for name, (other, where) in found.items())
    return f"{_show(address)}: an axis of size {size} cannot be ({_written(terms)})" + (
        f" with {sources}" if sources else ""
    )


def _written(terms: Sequence[Product]) -> str:
    """Write a stored axis, without arrows and exponents."""
    return " + ".join(" ".join(axis.name or "_" for axis in term) or "1" for term in terms)


def _unsolved(
    address: Address,
    terms: Sequence[Product],
    size: int,
    known: Mapping[str, tuple[int, str]],
) -> str:
    """Say which axis cannot be split, and what is needed for it."""
    axes = [axis for term in terms for axis in term]
    missing = next((a.name for a in axes if a.name and a.name not in known), None)
    remedy = (
        f"give the sizes, as in sizes={{{missing!r}: ...}}"
        if missing
        else "one '_' can be inferred; give the others names and sizes"
    )
    return f"{_show(address)}: cannot tell how {size} splits into ({_written(terms)}); {remedy}"


def _check_dtype(bound: BoundVariable, variable: xr.DataArray) -> None:
    """Check that the dtype can hold what relabelling makes of it."""
    kind, shown = variable.dtype.kind, _show((bound.group, bound.name))
    if kind not in "fiub":
        raise DataError(
            f"{shown} has the dtype {variable.dtype}, which cannot be relabelled; convert it to "
            "float64 first"
        )
    for axis in bound.axes:
        if (kind in "iub" and axis.action.power != 0) or (kind in "ub" and axis.action.signed):
            raise DataError(
                f"{shown} has the dtype {variable.dtype}, but units {axis.units!r} may change its "
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
            f"{_show((bound.group, bound.name))} has the dtype {dtype}, which holds labels up to "
            f"{highest}, but there are {n_units} units {units!r}; convert it to a larger integer "
            "dtype (int32)"
        )
