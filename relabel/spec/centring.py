r"""Centring of the variables that are written to an axis, and the offsets that are subtracted.

Of every variable :math:`x_{ky}` that is written to a centred axis *y* the mean over *y* is
subtracted, draw by draw: :math:`x_{ky} - o_k` with :math:`o_k = \frac1Y \sum_y x_{ky}`. These
*offsets* are kept in the labels of the original draws, so that it can be undone. They
follow the elements of the other axes as the variable itself does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.errors import DataError
from relabel.spec.arrays import SAMPLE_DIMS, chain_draw_values
from relabel.spec.gauges import centred_axes, centred_axis
from relabel.spec.spec import ResolvedSpec
from relabel.spec.variables import ResolvedVariable, Shift

__all__ = ["Offsets", "centred", "centred_variables", "means_over", "said_of", "subtract"]

Array = NDArray[Any]

_ROUNDINGS = 8.0  # a mean of so many units in the last place of the largest entry is none


def means_over(values: Array, axis: int) -> Array:
    """Return the mean over one axis in float64; zero where it is no more than rounding.

    So centred values have the mean zero, and are left bit for bit as they are.

    Examples
    --------
    >>> import numpy as np
    >>> means_over(np.array([[1.0, 3.0], [-2.0, 2.0 + 1e-15]]), 1)
    array([2., 0.])
    """
    with np.errstate(invalid="ignore"):
        mean = values.mean(axis, dtype=float)
        size = np.abs(values).max(axis).astype(float)
        none = np.abs(mean) <= _ROUNDINGS * np.finfo(values.dtype).eps * size
    means: Array = np.where(none, 0.0, mean)
    return means


def subtract(values: Array, offset: Array, axis: int) -> Array:
    """Subtract one number along an axis; the dtype is kept.

    Where values have the mean `offset` the result has the mean zero to the rounding of its own
    entries, however much larger the offset was: what its rounding leaves is subtracted too.

    Parameters
    ----------
    values : ndarray
    offset : ndarray
        Of the shape of `values` without the axis. Where it is zero nothing changes.
    axis : int
        Counted from the first axis.

    Returns
    -------
    ndarray of the shape and dtype of `values`
    """
    offset = np.expand_dims(np.asarray(offset, dtype=float), axis)
    with np.errstate(invalid="ignore"):
        moved = values.astype(float) - offset
        rest = moved.mean(axis, keepdims=True)
        moved -= np.where(np.abs(rest) <= 2 * np.finfo(float).eps * np.abs(offset), rest, 0.0)
    return moved.astype(values.dtype)


def centred(resolved: ResolvedSpec, variable: ResolvedVariable, values: Array) -> Array:
    """Return the values of one variable, (draws, *axes), in the gauge of the spec."""
    axis = centred_axis(variable, resolved.spec.gauges)
    if axis is None:
        return values
    return subtract(values, means_over(values, axis + 1), axis + 1)


def centred_variables(resolved: ResolvedSpec) -> dict[str, ResolvedVariable]:
    """Return the variables that are centred, by the names of their offsets."""
    return {
        _name(variable): variable
        for variable in resolved.variables
        if centred_axis(variable, resolved.spec.gauges) is not None
    }


def said_of(resolved: ResolvedSpec) -> str:
    """Return the sentence of the record on centred axes; empty if there are none."""
    names = " and ".join(map(repr, centred_axes(resolved.spec.gauges)))
    return f"what is written to {names} was centred" if names else ""


@dataclass(frozen=True)
class Offsets:
    """Offsets that are subtracted from the centred variables of the posterior.

    Attributes
    ----------
    resolved : ResolvedSpec
        The spec, bound to the draws.
    values : dict of str to ndarray
        ``{variable}_offset`` -> an array (chain, draw, *axes but the centred one), in the labels
        of the draws before any element acts.
    """

    resolved: ResolvedSpec
    values: dict[str, Array]

    @classmethod
    def of(cls, resolved: ResolvedSpec, posterior: xr.Dataset, excluded: Array) -> Offsets | None:
        """Compute the offsets of all draws; None if no axis is centred.

        Excluded draws, bool of shape (chain, draw), have the offset zero.
        """
        found = {}
        for name, variable in centred_variables(resolved).items():
            stored = chain_draw_values(posterior[variable.name])
            means = means_over(variable.of(stored), _place(resolved, variable))
            means[excluded] = 0.0
            found[name] = means
        return cls(resolved, found) if found else None

    def subtracted(self, dataset: xr.Dataset, resolved: ResolvedSpec) -> xr.Dataset:
        """Subtract the offsets from the variables of a dataset that `resolved` says are centred.

        Dimensions, coordinates, attributes, encodings and dtypes stay, and what is lazy stays so.
        """
        fresh: dict[str, xr.DataArray] = {}
        for name, variable in centred_variables(resolved).items():
            if name in self.values:
                old = fresh.get(variable.name, dataset[variable.name])
                new = _without(old, variable, self.values[name], _place(resolved, variable))
                fresh[variable.name] = new
        return dataset.assign(fresh)

    def restricted(self, resolved: ResolvedSpec) -> Offsets | None:
        """Return the offsets of other data that share the draws; zero where none are known."""
        found = {}
        for name, variable in centred_variables(resolved).items():
            shape = _shape(resolved, variable)
            batch = next(iter(self.values.values())).shape[:2]
            known = self.values.get(name, np.zeros((*batch, *shape)))
            if known.shape[2:] != shape:
                raise DataError(
                    f"the offsets of {variable.name!r} have the shape {known.shape[2:]} a "
                    f"draw; these draws need {shape}: is this another variable of that name?"
                )
            found[name] = known
        return Offsets(resolved, found) if found else None

    def plus(self, other: Offsets | None) -> Offsets:
        """Add other offsets of the same draws."""
        total = dict(self.values)
        for name, more in ({} if other is None else other.values).items():
            total[name] = total[name] + more if name in total else more
        return replace(self, values=total)

    # ------------------------------------------------------------------ as variables of their own

    def as_draws(self) -> tuple[xr.Dataset, ResolvedSpec]:
        """Return the offsets as draws, and their axes, so that elements can act on them.

        The offsets of each variable are one without the centred axis.
        """
        slim = {
            variable: _reduced(self.resolved, variable)
            for name, variable in centred_variables(self.resolved).items()
            if name in self.values
        }
        shifts = tuple(
            Shift(shift.units, slim[shift.reader], slim[shift.bias])
            for shift in self.resolved.shifts
            if shift.reader in slim and shift.bias in slim
        )
        kept = tuple(slim.values())
        arrays = {v.name: ((*SAMPLE_DIMS, *v.dims), self.values[v.name]) for v in kept}
        return xr.Dataset(arrays), replace(self.resolved, variables=kept, shifts=shifts)

    def from_draws(self, dataset: xr.Dataset) -> Offsets:
        """Return offsets of the same variables from the form of :meth:`as_draws`."""
        return replace(self, values={name: dataset[name].values for name in self.values})

    # ------------------------------------------------------------------ stored form

    def to_dataset(self) -> xr.Dataset:
        """Return the labelled arrays ``{variable}_offset``."""
        draws, resolved = self.as_draws()
        whole = centred_variables(self.resolved)
        for variable in resolved.variables:
            old = whole[variable.name]
            axis = old.axes[_place(resolved, old) - len(SAMPLE_DIMS)].name
            about = f"what was subtracted from {old.name}: its mean over {axis}"
            draws[variable.name].attrs = {"long_name": about}
        return draws

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset, resolved: ResolvedSpec) -> Offsets | None:
        """Read the labelled arrays back.

        Raises
        ------
        DataError
            If one is missing, has another shape, or is not finite.
        """
        found = {}
        for name, variable in centred_variables(resolved).items():
            if name not in dataset:
                raise DataError(f"the group 'relabel' has no variable {name!r}; it is damaged")
            values = chain_draw_values(dataset[name]).astype(float)
            if values.shape[2:] != _shape(resolved, variable) or not np.isfinite(values).all():
                raise DataError(
                    f"relabel/{name} does not fit the variable {variable.name!r}, or is not finite"
                )
            found[name] = values
        return cls(resolved, found) if found else None


def _place(resolved: ResolvedSpec, variable: ResolvedVariable) -> int:
    """Return the position of the centred axis in stored values, chain and draw counted."""
    axis = centred_axis(variable, resolved.spec.gauges)
    assert axis is not None
    return axis + len(SAMPLE_DIMS)


def _shape(resolved: ResolvedSpec, variable: ResolvedVariable) -> tuple[int, ...]:
    """Return the sizes of the axes of a variable but the centred one."""
    return _reduced(resolved, variable).shape


def _name(variable: ResolvedVariable) -> str:
    """Return the name of the offsets of one variable, or part of it (``theta[1]_offset``)."""
    return f"{variable.key}_offset"


def _reduced(resolved: ResolvedSpec, variable: ResolvedVariable) -> ResolvedVariable:
    """Return the offsets of a variable as a variable: without the axis over which it is centred.

    Dimensions keep their names, unless one stored axis is the product of several, or the name is
    that of other units.
    """
    name, left_out = _name(variable), _place(resolved, variable) - len(SAMPLE_DIMS)
    kept = [i for i in range(len(variable.axes)) if i != left_out]
    axes = tuple(replace(variable.axes[i], place=place) for place, i in enumerate(kept))
    dims = tuple(f"{name}_dim_{i}" for i in range(len(axes)))
    if variable.window is None and len(variable.dims) == len(variable.axes):
        stored = [variable.dims[i] for i in kept]
        dims = tuple(
            own if dim in resolved.sizes and axis.units != dim else dim
            for own, dim, axis in zip(dims, stored, axes, strict=True)
        )
    return replace(variable, name=name, dims=dims, axes=axes, window=None, part=0)


def _without(
    old: xr.DataArray, variable: ResolvedVariable, offset: Array, place: int
) -> xr.DataArray:
    """Return one variable minus its offset; a lazy one stays lazy."""
    labels = [f"__offset_{i}" for i in range(offset.ndim - len(SAMPLE_DIMS))]
    new: xr.DataArray = xr.apply_ufunc(
        partial(_kernel, variable=variable, axis=place),
        old,
        xr.DataArray(offset, dims=(*SAMPLE_DIMS, *labels)),
        input_core_dims=[list(variable.dims), labels],
        output_core_dims=[list(variable.dims)],
        dask="parallelized",
        dask_gufunc_kwargs={"allow_rechunk": True},
        output_dtypes=[old.dtype],
        keep_attrs=False,
    ).transpose(*old.dims)
    new = new.assign_coords(old.coords)
    new.attrs, new.encoding = old.attrs, old.encoding
    return new


def _kernel(values: Array, offset: Array, *, variable: ResolvedVariable, axis: int) -> Array:
    """Subtract on stored values, whose two sample axes lead."""
    return variable.placed(values, subtract(variable.of(values), offset, axis))
