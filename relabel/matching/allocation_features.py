"""The draws as seen by criteria that compare allocations instead of features of units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.data.labels_in_draws import could_name
from relabel.errors import DataError, SpecError
from relabel.matching.draws import Draws
from relabel.matching.features import Block, Layout, slices_of
from relabel.numerics.labels import checked_labels, checked_probabilities
from relabel.spec.spec import SAMPLE_DIMS, ResolvedVariable, Spec

if TYPE_CHECKING:
    from relabel.matching.criteria import Criterion

__all__ = ["FIXED", "PROBABILITIES", "AllocationProblem", "located", "with_labels"]

Array = NDArray[Any]

#: What criteria read that is the same in every draw.
FIXED = ("reference", "x")

#: Names of allocation probabilities.
#: Names that variables of allocation probabilities have.
PROBABILITIES = ("p", "prob", "probs", "probabilities", "responsibilities")

_BLOCK_BYTES = 2**21  # of the largest array of a block: several of them stay in the cache


def located(criterion: Criterion, spec: Spec, groups: Mapping[str, xr.Dataset]) -> Criterion:
    """Return the criterion with the addresses of what it reads, where the usual ones are not there.

    For allocations that is the only variable whose values the spec declares as labels; for
    probabilities, the only variable that is named like probabilities.
    """
    here = {f"{group}/{name}" for group, dataset in groups.items() for name in dataset}
    named = sorted(address for address in here if address.rpartition("/")[2] in PROBABILITIES)
    known = {"z": list(spec.values), "prob": named}
    found = {
        kind: known[kind][0]
        for kind, given in criterion.reads.items()
        if isinstance(given, str)
        and given == f"allocation/{kind}"
        and given not in here
        and len(known[kind]) == 1
    }
    changed: Criterion = replace(criterion, **found)  # type: ignore[type-var]
    return changed


def with_labels(spec: Spec, criterion: Criterion, groups: Mapping[str, xr.Dataset]) -> Spec:
    """Declare allocations that the spec does not declare.

    With one set of units there is no doubt whose labels they are. Allocations are what the
    criterion reads as such, and, where dimension names are the spec, integers in the group
    ``allocation`` that run from 0 (or 1, which is refused later) to the last unit.
    """
    if len(spec.units) != 1:
        return spec
    (units,) = spec.units
    declared = set(spec.values) | set(spec.axes)
    z = criterion.reads.get("z")
    values = {z: units} if isinstance(z, str) else {}
    sizes = [dataset.sizes[units] for dataset in groups.values() if units in dataset.sizes]
    if sizes and not spec.axes:
        values |= {
            f"allocation/{name}": units
            for name, variable in groups.get("allocation", xr.Dataset()).items()
            if variable.dtype.kind in "iu" and could_name(variable, sizes[0])
        }
    fresh = {
        where: units
        for where in values
        if not {where, where.rpartition("/")[2]} & declared and not _repeated(where, declared)
    }
    return replace(spec, values={**spec.values, **fresh}) if fresh else spec


def _repeated(where: str, declared: set[str]) -> bool:
    """Whether a plain name is declared with its group already."""
    return "/" not in where and any(name.rpartition("/")[2] == where for name in declared)


class AllocationProblem:
    """All draws, seen through what a criterion reads instead of the features of units.

    Arrays are kept as they are (a view where the draws are all there and the units come last) and
    handed out in blocks; what is backed by dask is read block by block.

    Parameters
    ----------
    draws : Draws
        The draws that take part.
    criterion : Criterion
        What is read.

    Raises
    ------
    SpecError
        If there are several sets of units, or a variable is not there or of another shape.
    DataError
        If allocations are no labels of the units, or probabilities no probabilities.
    """

    def __init__(self, draws: Draws, criterion: Criterion) -> None:
        self.n_draws = len(draws.rows)
        reader = _Reader.of(draws, criterion)
        self.beside: dict[str, Array] = {}
        self.fixed: dict[str, Array] = {}
        for name, given in criterion.reads.items():
            read = getattr(reader, name.partition(" ")[0])
            kept: dict[str, Any] = self.fixed if name in FIXED else self.beside
            kept[name] = read(given)
        reader.check_sizes(self.beside, self.fixed)
        units, size = reader.units, reader.size
        group = draws.resolved.group(units)
        self.layout = Layout({units: size}, {units: group}, {units: ()}, ())
        largest = max(math.prod(array.shape[1:]) for array in self.beside.values())
        numbers = max(largest, criterion.numbers_per_draw(size))
        self.block_size = max(1, _BLOCK_BYTES // (8 * numbers))
        self.slices = slices_of(self.n_draws, self.block_size)
        self._memos: dict[int, dict[str, Array]] = {}

    def block(self, number: int) -> Block:
        """One block; what a criterion computes of it once is kept."""
        return self._make_block(self.slices[number], self._memos.setdefault(number, {}))

    def draw(self, row: int) -> Block:
        """One draw."""
        return self._make_block(slice(row, row + 1), {})

    def _make_block(self, rows: slice, memo: dict[str, Array]) -> Block:
        beside = {name: np.asarray(array[rows]) for name, array in self.beside.items()}
        if "z" in beside:
            beside["z"] = beside["z"].astype(np.intp, copy=False)
        (size,) = self.layout.sizes.values()
        own = {units: np.zeros((rows.stop - rows.start, size, 0)) for units in self.layout.sizes}
        return Block(own, (), (), beside, self.fixed, memo)


@dataclass(frozen=True)
class _OnDemand:
    """Probabilities backed by dask, (chain, draw, ..., K): rows (draws, n, K) read when needed.

    A block is cut out of each of its chains: laying chains and draws out on one axis would make
    dask read far more.
    """

    array: Any
    draws: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all rows."""
        return len(self.draws), math.prod(self.array.shape[2:-1]), self.array.shape[-1]

    def __len__(self) -> int:
        return len(self.draws)

    def __getitem__(self, rows: slice) -> Array:
        chain, draw = np.divmod(self.draws[rows], self.array.shape[1])
        parts = []
        for one in np.unique(chain):
            own = draw[chain == one]
            block = np.asarray(self.array[int(one), int(own[0]) : int(own[-1]) + 1])
            parts.append(block[own - own[0]])
        return np.concatenate(parts).reshape(-1, *self.shape[1:])


@dataclass(frozen=True)
class _Reader:
    """Finds what a criterion reads, checks it and lays it out, draws first."""

    criterion: str
    draws: Draws
    units: str

    @classmethod
    def of(cls, draws: Draws, criterion: Criterion) -> _Reader:
        """Build the reader for the one set of units there is."""
        sizes = draws.resolved.sizes
        if len(sizes) != 1:
            raise SpecError(
                f"criterion {criterion.name} relabels one set of units, and the spec has "
                f"{len(sizes)} ({', '.join(sizes)}); use mean"
            )
        (units,) = sizes
        if draws.resolved.group(units).signs:
            raise SpecError(
                f"criterion {criterion.name} cannot determine signs, and the units {units!r} "
                f"({draws.resolved.spec.units[units]}) have them; declare them 'permutation', or "
                "use mean"
            )
        return cls(criterion.name, draws, units)

    @property
    def size(self) -> int:
        """Number of units."""
        return self.draws.resolved.sizes[self.units]

    def z(self, given: str | Array) -> Array:
        """Allocations, shape (draws, n), -1 where missing."""
        if not isinstance(given, str):
            values = self._rows(self._by_draw(given, "z"))
            return self._labels(values, "z")
        variable = self._bound(given, "z")
        if variable.labels_of != self.units:
            raise SpecError(
                f"criterion {self.criterion}: the values of {given!r} are not declared as labels; "
                f"add values={{{given!r}: {self.units!r}}} (in a spec file, the table [values])"
            )
        values = self._rows(self._flat(variable, variable.dims))
        return self._labels(values, variable.address)

    def prob(self, given: str | Array) -> Array | _OnDemand:
        """Allocation probabilities, shape (draws, n, K)."""
        if isinstance(given, str):
            variable = self._bound(given, "prob")
            values, address = self._units_last(variable, lazy=True), variable.address
        else:
            values, address = self._by_draw(given, "prob"), "prob"
        if values.shape[-1] != self.size:
            raise SpecError(
                f"criterion {self.criterion}: {address!r} has {values.shape[-1]} probabilities for "
                f"each observation (its last axis), but there are {self.size} units {self.units!r}"
            )
        if isinstance(values, np.ndarray):
            values = self._rows(values)
            values = values.reshape(len(values), -1, self.size)
        step = max(1, _BLOCK_BYTES // (8 * math.prod(values.shape[1:])))
        for rows in slices_of(len(values), step):
            checked_probabilities(values[rows], address, first=rows.start)
        found: Array | _OnDemand = values
        return found

    def parameter(self, given: str) -> Array:
        """One parameter of all components, shape (draws, K, ...); one number may be that of all."""
        shared = self.draws.groups["posterior"].get(given.removeprefix("posterior/"))
        if shared is not None and set(shared.dims) == set(SAMPLE_DIMS):
            one = self._rows(shared.transpose(*SAMPLE_DIMS).values.reshape(-1))
            return np.repeat(one[:, None], self.size, axis=1)
        values = self._units_last(self._bound(given, "a parameter"))
        return np.moveaxis(self._rows(values), -1, 1)

    def reference(self, given: str | Array) -> Array:
        """A reference allocation, shape (n,)."""
        labels: Array = self._labels(self._constant(given, "reference")[None], "the reference")[0]
        return labels

    def x(self, given: str | Array) -> Array:
        """Data, shape (n, features)."""
        values = self._constant(given, "x")
        if not values.ndim or not values.size or values.dtype.kind not in "iubf":
            raise DataError(
                f"criterion {self.criterion}: x must hold the data, numbers of shape (n,) or "
                f"(n, d), not of shape {values.shape} and dtype {values.dtype}"
            )
        values = values.reshape(len(values), -1).astype(float)
        unknown = np.isnan(values).any(axis=1)
        if np.isinf(values).any() or unknown.all():
            what = "are all missing (NaN)" if unknown.all() else "hold infinities"
            raise DataError(f"criterion {self.criterion}: the data x {what}")
        return values

    def check_sizes(self, beside: Mapping[str, Array], fixed: Mapping[str, Array]) -> None:
        """Raise SpecError unless all arrays have the same number of observations."""
        sizes = {name: array.shape[1] for name, array in beside.items() if name in ("z", "prob")}
        sizes |= {name: len(array) for name, array in fixed.items()}
        if len(set(sizes.values())) > 1:
            shown = ", ".join(f"{name} has {n}" for name, n in sizes.items())
            raise SpecError(
                f"criterion {self.criterion}: the numbers of observations differ: {shown}"
            )

    def _labels(self, values: Array, address: str) -> Array:
        """Labels laid out (draws, n), -1 where missing."""
        flat = values.reshape(len(values), -1)
        return checked_labels(np.asarray(flat), self.size, address, self.units)

    # ------------------------------------------------------------------ where things are

    def _bound(self, given: str, what: str) -> ResolvedVariable:
        """The bound variable of an address, or of a name that only one group has."""
        found = [v for v in self.draws.resolved.variables if given in (v.address, v.name)]
        if any(v.window is not None for v in found):
            raise SpecError(
                f"criterion {self.criterion}: {given!r} is several blocks ({found[0].text!r}), and "
                f"{what} is one; store it by itself"
            )
        if len(found) == 1:
            return found[0]
        if found:
            raise SpecError(
                f"criterion {self.criterion}: {given!r} is in the groups "
                f"{', '.join(v.group for v in found)}; write {what} as group/name"
            )
        stored = [
            f"{group}/{name}" for group, dataset in self.draws.groups.items() for name in dataset
        ]
        if any(given in (address, address.rpartition("/")[2]) for address in stored):
            remedy = (
                f"values={{{given!r}: {self.units!r}}}"
                if what == "z"
                else f"axes={{{given!r}: '_ {self.units}', ...}}"
            )
            raise SpecError(
                f"criterion {self.criterion}: the spec does not say that {given!r} carries the "
                f"units {self.units!r}; declare it: {remedy}"
            )
        group, _, name = given.rpartition("/")
        if group in self.draws.beside and name in self.draws.beside[group]:
            raise SpecError(
                f"criterion {self.criterion}: {what} ({given}) must be known in every draw of the "
                f"posterior, in its order, and the group {group!r} has other draws (thinned?): "
                "thin all groups alike, as in data.isel(draw=slice(None, None, 2)), or use mean"
            )
        raise SpecError(
            f"criterion {self.criterion}: there is no variable {given!r} of these draws for "
            f"{what}; there are {', '.join(stored)}"
        )

    def _units_last(self, variable: ResolvedVariable, *, lazy: bool = False) -> Any:
        """Values of a variable with its units on the last axis, shape (draws, ..., K)."""
        places = [i for i, axis in enumerate(variable.axes) if axis.units == self.units]
        if len(places) != 1 or len(variable.axes) != len(variable.dims):
            raise SpecError(
                f"criterion {self.criterion}: {variable.address!r} must have one axis of "
                f"{self.units!r}; it has ({variable.line})"
            )
        (place,) = places
        others = [dim for i, dim in enumerate(variable.dims) if i != place]
        return self._flat(variable, (*others, variable.dims[place]), lazy)

    def _flat(self, variable: ResolvedVariable, dims: tuple[str, ...], lazy: bool = False) -> Any:
        """Values of a variable, one draw after the other; those backed by dask may stay lazy."""
        array = self.draws.groups[variable.group][variable.name].transpose(*SAMPLE_DIMS, *dims)
        if lazy and array.chunks is not None and array.size:
            return _OnDemand(array.data, self.draws.rows)
        return self._one_after_other(array.values, variable.address)

    def _one_after_other(self, values: Array, address: str) -> Array:
        """Lay chains and draws out on one axis."""
        if not math.prod(values.shape):
            raise DataError(
                f"criterion {self.criterion}: {address} has the shape {values.shape}: there is "
                "nothing to compare"
            )
        flat: Array = values.reshape(-1, *values.shape[2:])
        return flat

    def _by_draw(self, given: Any, what: str) -> Array:
        """An array that was given for all draws, one draw after the other."""
        values = np.asarray(given)
        batch = self.draws.excluded.shape
        if values.shape[:2] != batch:
            raise SpecError(
                f"criterion {self.criterion}: {what} has the shape {values.shape}; its first two "
                f"axes must be chain and draw, {batch}"
            )
        return self._one_after_other(values, what)

    def _rows(self, values: Array) -> Array:
        """Those draws that take part."""
        return values[self.draws.rows] if self.draws.excluded.any() else values

    def _constant(self, given: str | Array, what: str) -> Array:
        """Values that are the same in every draw, as an array or by their address."""
        if not isinstance(given, str):
            return np.asarray(given)
        group, _, name = given.rpartition("/")
        groups = self.draws.beside
        found = [g for g, dataset in groups.items() if name in dataset and group in ("", g)]
        if len(found) != 1:
            known = [
                f"{g}/{n}" for g in ("constant_data", "observed_data") for n in groups.get(g, {})
            ]
            state = f"is in the groups {', '.join(found)}" if found else "is not there"
            raise SpecError(
                f"criterion {self.criterion}: {what} {given!r} {state}; write it as group/name"
                + (f", such as {', '.join(known)}" if known else "")
            )
        variable = groups[found[0]][name]
        if set(SAMPLE_DIMS) & set(variable.dims):
            raise SpecError(
                f"criterion {self.criterion}: {given!r} differs from draw to draw; {what} must be "
                "the same in all"
            )
        values: Array = variable.values
        return values
