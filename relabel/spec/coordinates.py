"""Coordinates over draws and units: they belong to units, so they move with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import xarray as xr

from relabel.groups import Action
from relabel.spec.arrays import SAMPLE_DIMS, core_dims, core_shape, is_drawn
from relabel.spec.variables import ResolvedAxis, ResolvedVariable

__all__ = ["riding", "staying"]

#: Coordinates follow their units; they are no weights, so no factor acts on them.
_PERMUTED = Action(0, False)


def riding(dataset: xr.Dataset, variables: Sequence[ResolvedVariable]) -> list[ResolvedVariable]:
    """Return the coordinates of one group that move with the units of its variables.

    These are the coordinates over chain, draw and a dimension that is one set of units in
    `variables`. Coordinates over units alone name the slots, and stay.

    Examples
    --------
    >>> from relabel.spec.spec import Spec
    >>> dims = ("chain", "draw", "k")
    >>> draws = xr.Dataset({"mu": (dims, [[[0.0, 5.0]]])}, {"id": (dims, [[["a", "b"]]])})
    >>> [v.name for v in riding(draws, Spec({"k": "permutation"}).bind(draws).variables)]
    ['id']
    """
    units = _units_of_dims(variables)
    found = []
    for name, coordinate in _over_units(dataset, units):
        if is_drawn(coordinate):
            dims = core_dims(coordinate)
            axes = tuple(
                ResolvedAxis(dim, units.get(dim), "neutral", size, 1, _PERMUTED, place=place)
                for place, (dim, size) in enumerate(zip(dims, core_shape(coordinate), strict=True))
            )
            group = variables[0].group
            found.append(ResolvedVariable(group, name, dims, axes, carried=True))
    return found


def staying(dataset: xr.Dataset, variables: Sequence[ResolvedVariable]) -> list[str]:
    """Return the coordinates over units and only one of chain and draw: nothing can move them."""
    return [
        name
        for name, coordinate in _over_units(dataset, _units_of_dims(variables))
        if not is_drawn(coordinate) and set(SAMPLE_DIMS) & set(coordinate.dims)
    ]


def _over_units(dataset: xr.Dataset, units: dict[str, str]) -> Iterator[tuple[str, xr.DataArray]]:
    """Yield the coordinates that have a dimension of units."""
    for name, coordinate in dataset.coords.items():
        if set(units) & set(coordinate.dims):
            yield str(name), coordinate


def _units_of_dims(variables: Sequence[ResolvedVariable]) -> dict[str, str]:
    """Return the dimensions that are one set of units, neither a product nor in blocks."""
    found: dict[str, str] = {}
    for variable in variables:
        places = [axis.place for axis in variable.axes]
        for axis in variable.axes:
            alone = variable.window is None and places.count(axis.place) == 1
            if alone and axis.units is not None:
                found.setdefault(variable.dims[axis.place], axis.units)
    return found
