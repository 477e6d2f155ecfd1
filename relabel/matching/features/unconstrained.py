r"""Scales and probabilities as logarithms and logits, where a spec declares their supports.

Zeros, and ones of probabilities, have neither. They are taken for half the smallest distance from
the bound that the variable has in any draw that takes part,

.. math:: x \mapsto \log\max(x, f), \qquad
          x \mapsto \log\max(x, f) - \log\max(1 - x, g).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.errors import DataError
from relabel.spec.arrays import chain_draw_values, variable_text
from relabel.spec.spec import ResolvedSpec, ResolvedVariable
from relabel.spec.supports import UNIT_INTERVAL

__all__ = ["Unconstrained", "check_values"]

Array = NDArray[Any]

_ROUNDING = 1e-6  # by which probabilities in single precision may miss 0 and 1
_SMALLEST = float(np.nextafter(0.0, 1.0))


@dataclass(frozen=True)
class Unconstrained:
    """What brings variables with a support to the whole real line.

    Attributes
    ----------
    floors : mapping of str to tuple of float
        Address of every variable of the posterior with a support -> what is taken for no distance
        from its lower bound, and from its upper bound.
    """

    floors: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, resolved: ResolvedSpec, posterior: xr.Dataset, excluded: Array) -> Unconstrained:
        """Look through the draws that take part.

        Parameters
        ----------
        resolved : ResolvedSpec
        posterior : Dataset
        excluded : ndarray of bool, shape (chain, draw)

        Raises
        ------
        DataError
            If a value is outside of the support that is declared.
        """
        floors = {}
        for variable in resolved.measured():
            if variable.support is not None and variable.address not in floors:
                values = chain_draw_values(posterior[variable.name])[~excluded].astype(float)
                check_values(variable, values)
                floors[variable.address] = _floor(values), _floor(1.0 - values)
        return cls(floors)

    def apply(self, variable: ResolvedVariable, values: Array) -> Array:
        """Return values of one variable without bounds; as they are, where none are declared.

        Only variables that belong to one set of units are changed: the entries of an array between
        two sets have one variance, which logits near the bounds would blow up.
        """
        if variable.address not in self.floors or len(variable.unit_axes()) != 1:
            return values
        low, high = self.floors[variable.address]
        logs: Array = np.log(np.maximum(values, low))
        if variable.support == UNIT_INTERVAL:
            logs -= np.log(np.maximum(1.0 - values, high))
        return logs


def check_values(variable: ResolvedVariable, values: Array, where: str = "") -> None:
    """Raise DataError if values are outside of the support of a variable, if it has one."""
    if variable.support is None:
        return
    bounded = variable.support == UNIT_INTERVAL
    room = _ROUNDING if bounded else 0.0
    bad = values < -room
    if bounded:
        bad |= values > 1.0 + room
    if bad.any():
        name = variable_text((variable.group, variable.name))
        raise DataError(
            f"{where}{name} is declared {variable.support} (supports), but {bad.sum()} of its "
            f"{values.size} values are {'outside [0, 1]' if bounded else 'negative'}, the first "
            f"{values[bad][0]:.6g}; correct them, or take {variable.name!r} out of the table "
            "supports of the spec"
        )


def _floor(distances: Array) -> float:
    """Return half the smallest positive distance from a bound; one if there is none."""
    positive = distances[(distances > 0) & np.isfinite(distances)]
    return max(0.5 * float(positive.min()), _SMALLEST) if positive.size else 1.0
