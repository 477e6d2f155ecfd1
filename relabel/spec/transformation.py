"""The elements of all draws as labelled arrays: apply, invert, compose, store and read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.errors import DataError
from relabel.groups import Action
from relabel.groups.elements import ELEMENTS, Element, Monomial, Stored, monomial
from relabel.numerics.labels import moved_labels
from relabel.spec.arrays import SAMPLE_DIMS, chain_draw_values
from relabel.spec.centring import Offsets
from relabel.spec.spec import ResolvedSpec
from relabel.spec.variables import ResolvedVariable, Shift

__all__ = ["Transformation"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Transformation:
    """One element of the symmetry group for every draw and set of units.

    Attributes
    ----------
    elements : dict of str to Element
        Units -> elements with the batch shape (chain, draw).
    offsets : Offsets or None
        What is subtracted before elements act, where the spec has centred axes.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from relabel.spec.spec import Spec
    >>> draws = xr.Dataset({"mu": (("chain", "draw", "component"), [[[3.0, 1.0]]])})
    >>> resolved = Spec({"component": "permutation"}).bind(draws)
    >>> swap = Transformation({"component": Monomial(np.array([[[1, 0]]]), np.ones((1, 1, 2)))})
    >>> swap.apply({"posterior": draws}, resolved)["posterior"]["mu"].values
    array([[[1., 3.]]])
    """

    elements: dict[str, Element]
    offsets: Offsets | None = None

    @classmethod
    def identity(cls, sizes: Mapping[str, int], batch: tuple[int, int]) -> Transformation:
        """Return the transformation that changes nothing."""
        return cls({units: Monomial.identity(batch, size) for units, size in sizes.items()})

    def inverse(self) -> Transformation:
        """Return the transformation that undoes this one."""
        back = Transformation({units: g.inverse() for units, g in self.elements.items()})
        return back if self.offsets is None else replace(back, offsets=self._negative())

    def __matmul__(self, other: Transformation) -> Transformation:
        """Compose: ``(a @ b).apply(x) == a.apply(b.apply(x))``."""
        both = Transformation({u: g @ other.elements[u] for u, g in self.elements.items()})
        if self.offsets is None:
            return replace(both, offsets=other.offsets)
        back = Transformation({units: g.inverse() for units, g in other.elements.items()})
        return replace(both, offsets=back._carried(self.offsets).plus(other.offsets))

    def _negative(self) -> Offsets:
        """Return the offsets of the inverse: added, in the labels after the elements."""
        assert self.offsets is not None
        moved = self._carried(self.offsets)
        return replace(moved, values={name: -array for name, array in moved.values.items()})

    def _carried(self, offsets: Offsets) -> Offsets:
        """Return offsets on whose axes the elements have acted."""
        draws, resolved = offsets.as_draws()
        moved = Transformation(self.elements).apply({"posterior": draws}, resolved)
        return offsets.from_draws(moved["posterior"])

    def apply(
        self, groups: Mapping[str, xr.Dataset], resolved: ResolvedSpec
    ) -> dict[str, xr.Dataset]:
        """Transform every variable that carries units, in all groups.

        Offsets are subtracted first, from variables of the posterior that `resolved` says are
        centred. Dimensions, coordinates, attributes, encodings and dtypes stay. Variables backed by
        dask stay lazy. Signs and permutations gather and negate only, so that they can be undone
        bit by bit; scales multiply.

        Parameters
        ----------
        groups : mapping of str to Dataset
            The groups that share the draws.
        resolved : ResolvedSpec
            The spec, bound to these groups.

        Returns
        -------
        dict of str to Dataset
        """
        result = dict(groups)
        for name in dict.fromkeys(variable.group for variable in resolved.variables):
            dataset = groups[name]
            if self.offsets is not None and name == "posterior":
                dataset = self.offsets.subtracted(dataset, resolved)
            parts: dict[str, list[ResolvedVariable]] = {}
            for variable in resolved.in_group(name):
                parts.setdefault(variable.name, []).append(variable)
            fresh = {v: self._transformed(dataset, parts[v], resolved.shifts) for v in parts}
            result[name] = dataset.assign(fresh)
        return result

    def _transformed(
        self, dataset: xr.Dataset, parts: Sequence[ResolvedVariable], shifts: Sequence[Shift]
    ) -> xr.DataArray:
        """Transform one variable, of which these are all parts."""
        old = dataset[parts[0].name]
        arrays, dims = [old], [list(parts[0].dims)]
        moving = [s for s in shifts if s.bias in parts]
        for shift in moving:
            arrays.append(dataset[shift.reader.name])
            dims.append(list(shift.reader.dims))
        used = self._used(parts, moving)
        stored = [part for units in used for part in _labelled(units, self.elements[units])]

        def kernel(*blocks: Array) -> Array:
            values, readers, rest = blocks[0], blocks[1 : len(arrays)], iter(blocks[len(arrays) :])
            elements = {}
            for units in used:
                element = self.elements[units]
                elements[units] = type(element)(*(next(rest) for _ in element.arrays))
            values = np.ascontiguousarray(values)
            result = values if parts[0].window is None else values.copy()
            for variable in parts:
                fresh = variable.of(values)
                for shift, reader in zip(moving, readers, strict=True):
                    if shift.bias == variable:
                        added = shift_of(shift, shift.reader.of(reader), elements[shift.units])
                        added = added.reshape(fresh.shape).astype(values.dtype)
                        fresh = np.where(added == 0, fresh, fresh + added)
                if variable.window is None:
                    result = act_on(variable, fresh, elements).reshape(values.shape)
                elif self._used([variable], moving):
                    variable.of(result)[...] = act_on(variable, fresh, elements)
            return result

        core = [[d for d in part.dims if d not in SAMPLE_DIMS] for part in stored]
        new: xr.DataArray = xr.apply_ufunc(
            kernel,
            *arrays,
            *stored,
            input_core_dims=[*dims, *core],
            output_core_dims=[dims[0]],
            dask="parallelized",
            dask_gufunc_kwargs={"allow_rechunk": True},
            output_dtypes=[old.dtype],
            keep_attrs=False,
        ).transpose(*old.dims)
        new = new.assign_coords(old.coords)
        new.attrs, new.encoding = old.attrs, old.encoding
        return new

    def _used(self, parts: Sequence[ResolvedVariable], moving: Sequence[Shift]) -> list[str]:
        """Return the sets of units that act on these parts of a variable."""
        used = dict.fromkeys(units for part in parts for _, units, _ in part.unit_axes())
        used |= dict.fromkeys(shift.units for shift in moving if shift.bias in parts)
        used |= dict.fromkeys(part.labels_of for part in parts if part.labels_of is not None)
        return list(used)

    # ------------------------------------------------------------------ stored form

    def to_dataset(self) -> xr.Dataset:
        """Return the labelled arrays ``{units}_index`` and ``_factor``, or ``{units}_rotation``.

        Each kind of element says which are its own. And ``{variable}_offset`` of every variable
        that was centred.
        """
        variables = {}
        for units, element in self.elements.items():
            for stored, array in zip(element.stored, element.arrays, strict=True):
                about = stored.meaning.format(units=units)
                kept = xr.Variable(
                    (*SAMPLE_DIMS, *_dims(stored, units)), array, {"long_name": about}
                )
                variables[f"{units}_{stored.name}"] = kept
        offsets = {} if self.offsets is None else self.offsets.to_dataset().data_vars
        return xr.Dataset(variables).assign(offsets)

    @classmethod
    def from_dataset(
        cls, dataset: xr.Dataset, units: Sequence[str], resolved: ResolvedSpec | None = None
    ) -> Transformation:
        """Read the labelled arrays back; offsets if `resolved`, the spec on the draws, is given.

        Raises
        ------
        DataError
            If one is missing, or is not an element of its kind: not a permutation, a factor that is
            zero or not finite, a matrix that is not orthogonal.
        """
        elements: dict[str, Element] = {}
        for name in units:
            found = [kind for kind in ELEMENTS if f"{name}_{kind}" in dataset]
            kind = ELEMENTS[found[0] if found else "index"]
            arrays = []
            for stored in kind.stored:
                key = f"{name}_{stored.name}"
                if key not in dataset:
                    raise DataError(f"the group 'relabel' has no variable {key!r}; it is damaged")
                dims = (*SAMPLE_DIMS, *_dims(stored, name))
                if set(dataset[key].dims) != set(dims) or dataset[key].dtype.kind not in "iuf":
                    raise DataError(
                        f"relabel/{key} must be numbers with the dimensions {', '.join(dims)}, not "
                        f"{dataset[key].dtype} with {', '.join(map(str, dataset[key].dims))}; it "
                        "is damaged"
                    )
                arrays.append(chain_draw_values(dataset[key], *_dims(stored, name)))
            if len({array.shape[2:][-1] for array in arrays}) > 1 or not arrays[0].size:
                raise DataError(f"relabel/{name}_* have no or different sizes; they are damaged")
            elements[name] = kind.checked(name, *arrays)
        return cls(elements, None if resolved is None else Offsets.from_dataset(dataset, resolved))


def _labelled(units: str, element: Element) -> list[xr.DataArray]:
    """Return the arrays of an element with dimension names of their own."""
    return [
        xr.DataArray(
            part, dims=(*SAMPLE_DIMS, *(f"__{units}_{i}_{a}" for a in range(part.ndim - 2)))
        )
        for i, part in enumerate(element.arrays)
    ]


def _dims(stored: Stored, units: str) -> tuple[str, ...]:
    """Return the dimensions after chain and draw of one stored array of an element."""
    return tuple(dim.format(units=units) for dim in stored.dims)


def act_on(variable: ResolvedVariable, values: Array, elements: Mapping[str, Element]) -> Array:
    """Act with all elements on the values of one variable, batch axes first, products split.

    Raises
    ------
    DataError
        If the dtype of the values does not hold what they become.
    """
    result = values
    for axis, units, action in variable.unit_axes():
        _check_held(variable, result, elements[units], action)
        result = elements[units].act(result, axis, power=action.power, signed=action.signed)
    if variable.labels_of is not None:
        slots = monomial(elements[variable.labels_of]).inverse().index
        result = moved_labels(result, slots, variable.address, variable.labels_of)
    return result


def _check_held(
    variable: ResolvedVariable, values: Array, element: Element, action: Action
) -> None:
    """Raise DataError unless a dtype holds negatives of its integers, and the scales."""
    dtype, held = values.dtype, True
    if dtype.kind == "i" and action.signed:
        held = not ((values == np.iinfo(dtype).min).any() and (element.arrays[-1] < 0).any())
    elif dtype.kind == "f" and dtype.itemsize < 8 and action.power != 0 and not element.mixes:
        with np.errstate(over="ignore", under="ignore"):
            factor = (np.abs(element.arrays[-1]) ** action.power).astype(dtype)
        held = bool((np.isfinite(factor) & (factor > 0)).all())
    if not held:
        raise DataError(
            f"{variable.address}: its dtype {dtype} does not hold the values with their sign or "
            "scale changed; convert it to a wider dtype (float64) first"
        )


def shift_of(shift: Shift, reader: Array, element: Element) -> Array:
    """Return what an affine flip adds to a bias: the sum of what its reader reads of flipped units.

    The result has the axes of the bias, products split; `reader` is not yet transformed. It is zero
    in draws without flips, whatever these hold.
    """
    element = monomial(element)
    flipped = np.zeros((*element.batch, element.size))
    np.put_along_axis(flipped, element.index, (element.factor < 0).astype(float), axis=-1)
    touched = (flipped != 0).any(axis=-1).reshape(*element.batch, *(1,) * (reader.ndim - 2))
    return sum_over_units(shift, np.where(touched, reader, 0), flipped)


def sum_over_units(shift: Shift, reader: Array, weight: Array) -> Array:
    """Sum a reader's values over its tail axes, each unit weighted; axes as in the bias."""
    n_batch = weight.ndim - 1
    values = reader.reshape(*weight.shape[:-1], *shift.reader.shape)
    names = [axis.name for axis in shift.reader.axes]
    labels = list(range(n_batch, n_batch + len(names)))
    at = next(
        i for i, a in enumerate(shift.reader.axes) if a.units == shift.units and a.role == "tail"
    )
    kept = [labels[axis] for axis in _kept_axes(shift)]
    lead = list(range(n_batch))
    total: Array = np.einsum(values, [*lead, *labels], weight, [*lead, labels[at]], [*lead, *kept])
    return total


def _kept_axes(shift: Shift) -> list[int]:
    """Return the positions in the reader of the axes of the bias; equal names in their order."""
    free = [i for i, axis in enumerate(shift.reader.axes) if axis.role != "tail"]
    kept = []
    for axis in shift.bias.axes:
        kept.append(next(i for i in free if shift.reader.axes[i].name == axis.name))
        free.remove(kept[-1])
    return kept
