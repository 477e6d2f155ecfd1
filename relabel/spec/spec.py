"""The spec: one declaration of the units and of the axes that carry them."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import tomli_w
import xarray as xr

from relabel._util.validate import integer
from relabel.errors import SpecError
from relabel.groups import Group, group_of
from relabel.spec.arrays import (
    SAMPLE_DIMS,
    chain_draw_values,
    closest,
    core_dims,
    named_variables,
)
from relabel.spec.gauges import CENTRED, check_centred, check_gauge, check_norms, written
from relabel.spec.notation import parse
from relabel.spec.resolve import resolve
from relabel.spec.supports import check_support, with_supports
from relabel.spec.variables import ResolvedAxis, ResolvedVariable, Shift

__all__ = [
    "SAMPLE_DIMS",
    "ResolvedAxis",
    "ResolvedSpec",
    "ResolvedVariable",
    "Shift",
    "Spec",
    "extremes",
    "non_finite",
    "spec_of",
]


#: Variables of the group ``relabel`` that are not named after units.
_RESERVED = ("loss", "gap", "start", "excluded", "mode", "chain_flagged", "function_change")


@dataclass(frozen=True)
class Spec:
    """Which units a model has, and which axes of which variables carry them.

    Parameters
    ----------
    units : mapping of str to str
        Name of each set of exchangeable units -> its activation, or ``"permutation"``
        (see :func:`relabel.groups.group_of`).
    axes : mapping of str to str, optional
        Variable -> its axes in the notation of :mod:`relabel.spec.notation`. A plain name means
        that variable in every group that shares the draws, ``group/name`` in one group alone.
        Without axes the dimension names of the dataset are the notation: every variable
        with a dimension named like a set of units carries it.
    values : mapping of str to str, optional
        Variable -> the units that its *values* name (allocations), 0 to K-1. Missing labels are
        -1, or NaN in floats.
    sizes : mapping of str to int, optional
        Sizes of axes that do not follow from the variables.
    gauges : mapping of str to str, optional
        Units -> how their continuous scale is fixed: ``"balanced"`` (default) or ``"unit"``; for
        orthogonal units how their rotation is fixed: ``"varimax"`` (default),
        ``"varimax-kaiser"`` or ``"none"``. An axis that variables write to, without units or with
        units that are only permuted, may be ``"centred"``: the mean over the axis is subtracted
        from everything at the head of an arrow, draw by draw. This changes nothing where only a
        softmax or a LayerNorm reads the axis. It preserves the likelihood, not the prior.
    supports : mapping of str to str, optional
        Variable -> where each of its values lies: ``"positive"`` (standard deviations, variances,
        precisions, rates) or ``"unit_interval"`` (probabilities, alone or on a simplex). The
        default criterion compares what belongs to single units by its logarithm or logit. Zeros,
        and ones of probabilities, count as half the smallest distance from the bound in the other
        draws. The values themselves are not changed.

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

    Standard deviations and weights of a mixture, compared on the log and the logit scale:

    >>> import numpy as np, relabel
    >>> rng = np.random.default_rng(0)
    >>> sigma = np.exp(0.5 * rng.normal(size=(1, 200, 2)) + [0.0, 6.0])
    >>> w = 1 / (1 + np.exp(rng.normal(size=(1, 200, 1)) + [2.0, -2.0]))
    >>> dims = ("chain", "draw", "component")
    >>> draws = xr.Dataset({"sigma": (dims, sigma), "w": (dims, w)})
    >>> supports = {"sigma": "positive", "w": "unit_interval"}
    >>> spec = Spec({"component": "permutation"}, supports=supports)
    >>> aligned = relabel.align(draws, spec)
    >>> bool((aligned["sigma"] == draws["sigma"]).all())
    True
    """

    units: Mapping[str, str]
    axes: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    gauges: Mapping[str, str] = field(default_factory=dict)
    supports: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check all that can be checked without draws."""
        for entry in fields(self):
            table = _checked_table(entry.name, getattr(self, entry.name))
            object.__setattr__(self, entry.name, table)
        if not self.units:
            raise SpecError("spec: no units; name at least one set, as in units={'h': 'tanh'}")
        for name, symmetry in self.units.items():
            _check_units_name(name)
            group_of(symmetry)
        carried = set(self.values.values())
        for variable, text in self.axes.items():
            carried |= _names_of(variable, text)
        for name in self.units if self.axes else ():
            if name not in carried:
                raise SpecError(f"spec: no axis carries the units {name!r}{closest(name, carried)}")
        self._check_references(carried)

    def _check_references(self, carried: set[str]) -> None:
        """Check values, sizes and gauges against the units, and the words of supports."""
        for variable, name in self.values.items():
            if name not in self.units:
                raise SpecError(
                    f"spec: values of {variable!r} name {name!r}, which are no units"
                    f"{closest(name, self.units)}"
                )
            if group_of(self.units[name]).rotates:
                raise SpecError(
                    f"spec: values of {variable!r} name {name!r}, which rotate and mix: there are "
                    f"no labels to follow; declare {name!r} signed or permutation"
                )
        for name in self.sizes:
            if self.axes and name not in carried:
                raise SpecError(
                    f"spec: sizes name {name!r}, which no axis has{closest(name, carried)}"
                )
        lines = [parse(text) for text in self.axes.values()]
        for name, gauge in self.gauges.items():
            check_gauge(name, gauge, self.units, lines)
        for variable, support in self.supports.items():
            check_support(variable, support)

    # ------------------------------------------------------------------ text and back

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Return the tables that are not empty, as plain dictionaries."""
        tables = {entry.name: dict(getattr(self, entry.name)) for entry in fields(self)}
        return {name: table for name, table in tables.items() if table}

    @classmethod
    def from_dict(cls, tables: Mapping[str, Any]) -> Spec:
        """Build a spec from its tables.

        Parameters
        ----------
        tables : mapping
            ``units`` and, where needed, ``axes``, ``values``, ``sizes``, ``gauges``,
            ``supports``.

        Raises
        ------
        SpecError
            If a table is unknown, ``units`` is missing, or the spec is refused.

        Examples
        --------
        >>> Spec.from_dict({"units": {"component": "permutation"}}).units
        {'component': 'permutation'}
        """
        known = [entry.name for entry in fields(cls)]
        if not isinstance(tables, Mapping):
            raise SpecError(f"spec: expected the tables {', '.join(known)}, found {tables!r}")
        for name in tables:
            if name not in known:
                raise SpecError(f"spec: unknown table {name!r}; there are {', '.join(known)}")
        if "units" not in tables:
            raise SpecError(
                "spec: there is no table 'units'; it names each set, as in h = \"tanh\""
            )
        return cls(**tables)

    def to_toml(self) -> str:
        """Write the spec as TOML."""
        return tomli_w.dumps(self.as_dict())

    @classmethod
    def from_toml(cls, text: str) -> Spec:
        """Read a spec from TOML text.

        Raises
        ------
        SpecError
            If the text is not valid TOML, or as :meth:`from_dict`.
        """
        try:
            return cls.from_dict(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise SpecError(f"spec: not valid TOML: {error}") from error

    def to_json(self) -> str:
        """Write the spec as JSON."""
        return json.dumps(self.as_dict())

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """Read a spec from JSON text.

        Raises
        ------
        SpecError
            If the text is not valid JSON, or as :meth:`from_dict`.
        """
        try:
            return cls.from_dict(json.loads(text))
        except json.JSONDecodeError as error:
            raise SpecError(f"spec: not valid JSON: {error}") from error

    # ------------------------------------------------------------------ against draws

    def bind(self, data: xr.Dataset | Mapping[str, xr.Dataset]) -> ResolvedSpec:
        """Check the spec against draws, once; all later code trusts the result.

        Parameters
        ----------
        data : Dataset, or mapping of str to Dataset
            The draws; as a mapping, the groups that share them (``posterior``, ...).

        Returns
        -------
        ResolvedSpec

        Raises
        ------
        SpecError
            For an unknown variable, sizes that disagree, a missing arrow, units that are written
            but not read, and the like.
        DataError
            If there are no draws, or a variable is not numeric.

        Examples
        --------
        >>> draws = xr.Dataset({"mu": (("chain", "draw", "component"), [[[0.0, 5.0]]])})
        >>> Spec({"component": "permutation"}).bind(draws).sizes
        {'component': 2}
        """
        groups = {"posterior": data} if isinstance(data, xr.Dataset) else dict(data)
        resolved = self._resolved(groups)
        check_centred(resolved.variables, self.gauges, groups)
        check_norms(resolved.variables, self.gauges)
        return resolved

    def bind_present(self, groups: Mapping[str, xr.Dataset]) -> ResolvedSpec:
        """Bind a spec that fitted the draws before to those of its variables that are left.

        Where some are absent, units need no longer be both written and read.

        Raises
        ------
        SpecError, DataError
            As :meth:`bind`; or if an affine flip moved a bias by weights that are absent.
        """
        rest = self.remaining_in(groups)
        if rest == self:
            return self.bind(groups)
        for key in set(self.axes) - set(rest.axes):
            for units, symmetry in self.units.items():
                if group_of(symmetry).shifts and parse(self.axes[key]).reads(units):
                    raise SpecError(
                        f"the flips of {units!r} ({symmetry}) moved a bias by {key!r}, which is "
                        "absent: without it the bias does not come back"
                    )
        return rest._resolved(groups, whole=False)

    def _resolved(self, groups: Mapping[str, xr.Dataset], *, whole: bool = True) -> ResolvedSpec:
        """Resolve the axes of the draws, and what the supports say of the variables."""
        sizes, variables, shifts = resolve(
            groups, self.units, self.axes, self.values, self.sizes, whole=whole
        )
        variables = with_supports(variables, self.supports, self.gauges, groups)
        return ResolvedSpec(self, sizes, variables, shifts)

    def present_in(self, groups: Mapping[str, xr.Dataset]) -> Spec:
        """Return the spec without the variables that some groups lack.

        The warm-up often has fewer variables than the posterior. A spec without axes is returned
        as it is.

        Raises
        ------
        SpecError
            If no variable is left.
        """
        return replace(self, **self._tables_in(groups))

    def remaining_in(self, groups: Mapping[str, xr.Dataset]) -> Spec:
        """Return the spec as :meth:`present_in`, also without units that nothing carries any more.

        Raises
        ------
        SpecError
            If no variable is left.
        """
        tables = self._tables_in(groups)
        axes, values = tables["axes"], tables["values"]
        carried = set(values.values()).union(*(_names_of(*entry) for entry in axes.items()))
        gone = {name for name in self.units if self.axes and name not in carried}
        if gone == set(self.units):
            raise SpecError(f"none of the variables that carry {', '.join(gone)} is left")
        tables["units"] = {n: symmetry for n, symmetry in self.units.items() if n not in gone}
        tables["gauges"] = {n: g for n, g in tables["gauges"].items() if n not in gone}
        tables["sizes"] = {n: s for n, s in self.sizes.items() if not self.axes or n in carried}
        return replace(self, **tables)

    def _tables_in(self, groups: Mapping[str, xr.Dataset]) -> dict[str, Any]:
        """Tables of axes, values, gauges and supports of the variables that some groups have."""
        axes = {key: line for key, line in self.axes.items() if named_variables(groups, key)}
        values = {key: units for key, units in self.values.items() if named_variables(groups, key)}
        if self.axes and not axes:
            raise SpecError(
                f"none of the variables {', '.join(self.axes)} is in the groups "
                f"{', '.join(groups)}: take these groups out, or save the variables there too"
            )
        heads = written([parse(line) for line in axes.values()])
        gauges = {n: g for n, g in self.gauges.items() if g != CENTRED or n in heads}
        supports = {key: of for key, of in self.supports.items() if named_variables(groups, key)}
        return {"axes": axes, "values": values, "gauges": gauges, "supports": supports}


@dataclass(frozen=True)
class ResolvedSpec:
    """A spec that fits the draws: all axes resolved.

    Attributes
    ----------
    spec : Spec
    sizes : dict of str to int
        Number of units of each set.
    variables : tuple of ResolvedVariable
        Every variable that carries units, in all groups; one whose axes are several blocks is
        there once for each of its parts.
    shifts : tuple of Shift
        Biases that affine flips move.
    """

    spec: Spec
    sizes: dict[str, int]
    variables: tuple[ResolvedVariable, ...]
    shifts: tuple[Shift, ...]

    def group(self, units: str) -> Group:
        """Return the symmetry group of a set of units."""
        return group_of(self.spec.units[units])

    def gauge(self, units: str) -> str | None:
        """Return how the scale or rotation of a set of units is fixed; None where it has none."""
        known = self.group(units).gauges()
        return self.spec.gauges.get(units, known[0]) if known else None

    def complete_spec(self) -> Spec:
        """Return a spec that names all axes, for one that left them to the dimension names."""
        if self.spec.axes:
            return self.spec
        axes = {v.address: v.line for v in self.variables if v.unit_axes()}
        return replace(self.spec, axes=axes)

    def addresses(self) -> list[str]:
        """Return the addresses ``group/name`` of the variables, each once."""
        return list(dict.fromkeys(v.address for v in self.variables))

    def by_part(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of the parts of :meth:`measured` variables, by their `key`."""
        return {v.key: v.of(arrays[v.name]) for v in self.measured() if v.name in arrays}

    def names(self) -> list[str]:
        """Return the names of :meth:`measured` variables, each once."""
        return list(dict.fromkeys(v.name for v in self.measured()))

    def measured(self) -> tuple[ResolvedVariable, ...]:
        """Return the variables of the posterior that are quantities, not labels."""
        return tuple(v for v in self.in_group("posterior") if v.labels_of is None)

    def within(self, groups: Collection[str]) -> ResolvedSpec:
        """Return the resolved spec with the variables of some groups only."""
        variables = tuple(v for v in self.variables if v.group in groups)
        shifts = tuple(shift for shift in self.shifts if shift.bias.group in groups)
        return replace(self, variables=variables, shifts=shifts)

    def in_group(self, group: str) -> tuple[ResolvedVariable, ...]:
        """Return the variables of one group of the data."""
        return tuple(v for v in self.variables if v.group == group)


def _checked_table(table: str, entries: object) -> dict[str, Any]:
    """Return a table as a dictionary from strings to strings, or of sizes to integers."""
    if not isinstance(entries, Mapping):
        raise SpecError(f"spec: {table} must be a table, not {entries!r}")
    checked: dict[str, Any] = {}
    for name, entry in entries.items():
        if not isinstance(name, str):
            raise SpecError(f"spec: {table}: names must be strings, not {name!r}")
        if table == "sizes":
            checked[name] = integer(f"spec: sizes: {name!r}", entry, low=1)
        elif isinstance(entry, str):
            checked[name] = str(entry)
        else:
            example = f'"{name}.{next(iter(entry), "")}"' if isinstance(entry, Mapping) else ""
            hint = f"; in TOML a name with dots needs quotes, as in {example}" if example else ""
            raise SpecError(f"spec: {table}: {name!r} must be a string, not {entry!r}{hint}")
    return checked


def _names_of(variable: str, text: str) -> set[str]:
    """Return the names in the axes of one variable; errors name the variable."""
    try:
        return parse(text).names()
    except SpecError as error:
        raise SpecError(f"spec: variable {variable!r}: {error}") from error


def _check_units_name(name: str) -> None:
    try:
        sound = parse(name).names() == {name}
    except SpecError:
        sound = False
    if not sound:
        raise SpecError(f"spec: {name!r} cannot name a set of units; use letters, digits and _")
    if name in (*SAMPLE_DIMS, *_RESERVED) or "/" in name:
        raise SpecError(f"spec: units cannot be named {name!r}, which has a meaning of its own")


def non_finite(resolved: ResolvedSpec, groups: Mapping[str, xr.Dataset]) -> np.ndarray[Any, Any]:
    """Return which draws have a NaN or an infinity in a declared variable: bool (chain, draw).

    NaN among labels are missing labels and do not count; nor do NaN among probabilities in the
    group ``allocation``, unless all of a draw are NaN.
    """
    posterior = groups["posterior"]
    bad = np.zeros((posterior.sizes["chain"], posterior.sizes["draw"]), bool)
    for _, low, high in extremes(resolved, groups, {v.address for v in resolved.variables}):
        bad |= ~(np.isfinite(low) & np.isfinite(high))
    return bad


def extremes(
    resolved: ResolvedSpec, groups: Mapping[str, xr.Dataset], addresses: Collection[str]
) -> Iterator[tuple[ResolvedVariable, np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """Yield declared variables of numbers with the lowest and highest value of every draw.

    Labels are none. A NaN counts as both, but for NaN among probabilities in the group
    ``allocation``, unless all of a draw are NaN. Arrays are float64 of shape (chain, draw).
    """
    for address, variable in {v.address: v for v in resolved.variables}.items():
        values = groups[variable.group][variable.name]
        if address not in addresses or variable.labels_of is not None or not values.size:
            continue
        if values.dtype.kind in "iuf":
            core, skip = core_dims(values), variable.group == "allocation"
            found = (values.min(core, skipna=skip), values.max(core, skipna=skip))
            low, high = (chain_draw_values(extreme).astype(float) for extreme in found)
            yield variable, low, high


def spec_of(spec: Any) -> Spec:
    """Return a spec that may be given as a table of units.

    Raises
    ------
    SpecError
        If it is neither.
    """
    if not isinstance(spec, (Spec, Mapping)):
        raise SpecError(
            f"spec must be a relabel.Spec or a table such as {{'h': 'tanh'}}, not a "
            f"{type(spec).__name__}; of a proposal, pass proposal.spec"
        )
    return spec if isinstance(spec, Spec) else Spec(units=spec)
