"""A variable that carries units, whole or part of one that is stored: what all code works on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import xarray as xr
from numpy.typing import NDArray

from relabel.groups import Action, Role
from relabel.spec.arrays import SAMPLE_DIMS, is_drawn

__all__ = [
    "SAMPLE_DIMS",
    "ResolvedAxis",
    "ResolvedVariable",
    "Shift",
    "is_drawn",
]

Array = NDArray[Any]


@dataclass(frozen=True)
class ResolvedAxis:
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
class ResolvedVariable:
    """One variable that carries units, or one part of it where an axis is several blocks.

    Attributes
    ----------
    group, name : str
        Where it is.
    dims : tuple of str
        Its dimensions after chain and draw, as stored.
    axes : tuple of ResolvedAxis
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
    support : str or None
        Between which bounds its values lie, where the spec says so.
    """

    group: str
    name: str
    dims: tuple[str, ...]
    axes: tuple[ResolvedAxis, ...]
    labels_of: str | None = None
    window: tuple[tuple[int, int], ...] | None = None
    part: int = 0
    carried: bool = False
    text: str = ""
    support: str | None = None

    def of(self, stored: Array) -> Array:
        """Return this part of stored values (batch axes, `dims`) as (batch axes, `axes`): a view.

        Examples
        --------
        >>> import numpy as np
        >>> axes = (ResolvedAxis("h", "h", "head", 2, 1, Action(0, True)),)
        >>> part = ResolvedVariable("posterior", "b", ("gates",), axes, window=((2, 4),))
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
        """Its axes in the notation, without arrows: for variables known by their dimensions."""
        return " ".join(
            (axis.name or "_") + ("" if axis.exponent == 1 else f"^{axis.exponent}")
            for axis in self.axes
        )

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
    reader: ResolvedVariable
    bias: ResolvedVariable
