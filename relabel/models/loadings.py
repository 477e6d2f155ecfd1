"""The variable that holds the loadings of a factor model, and the rotations to its gauge."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel.errors import SpecError
from relabel.numerics.rotations import varimax
from relabel.spec.spec import ResolvedSpec
from relabel.spec.variables import ResolvedVariable

__all__ = ["loadings_of", "rotations_of"]

Array = NDArray[Any]

_NAMED = re.compile(r"lambda|load", re.IGNORECASE)


def loadings_of(
    resolved: ResolvedSpec,
    units: str,
    *,
    among: Sequence[ResolvedVariable] | None = None,
    wanted: str | None = None,
) -> ResolvedVariable:
    """Find the variable of the posterior that holds the loadings of some factors.

    Parameters
    ----------
    resolved : ResolvedSpec
    units : str
        The factors.
    among : sequence of ResolvedVariable, optional
        Variables to choose from; all of the posterior by default.
    wanted : str, optional
        Its name. Without it, the only variable with an axis of the factors and one other, or the
        only one of these with ``lambda`` or ``load`` in its name.

    Returns
    -------
    ResolvedVariable

    Raises
    ------
    SpecError
        If there is none, or more than one could be it.
    """
    fitting = [
        v
        for v in (resolved.measured() if among is None else among)
        if [u for _, u, _ in v.unit_axes()] == [units]
    ]
    if wanted is not None:
        name = wanted.removeprefix("posterior/")
        found = [v for v in fitting if v.name == name]
        if not found:
            raise SpecError(
                f"variable {wanted!r} is not one of the posterior that carries the units {units!r} "
                f"once, as loadings do; there are {_names(fitting)}"
            )
        if len(found) > 1:
            raise SpecError(
                f"variable {wanted!r} is several blocks ({found[0].text!r}), and loadings are one; "
                "store them by themselves"
            )
        return found[0]
    two = [v for v in fitting if len(v.axes) == 2]
    named = [v for v in two if _NAMED.search(v.name)]
    for found in (two, named):
        if len(found) == 1:
            return found[0]
    if not two:
        raise SpecError(
            f"no variable could hold the loadings of {units!r}: it would carry them on one of two "
            f"axes, as in 'item {units}'; declare it, or name it with variable=..."
        )
    raise SpecError(
        f"which variable holds the loadings of {units!r}, {_names(two)}? Name it: variable=... of "
        "rsp, procrustes, weighted-procrustes and matchalign, var_names=... of other criteria"
    )


def rotations_of(variable: ResolvedVariable, values: Array, gauge: str) -> Array:
    """Return the rotations that bring every draw to its gauge.

    Parameters
    ----------
    variable : ResolvedVariable
        The loadings.
    values : ndarray of shape (draws, *variable.shape)
    gauge : {"varimax", "varimax-kaiser"}

    Returns
    -------
    ndarray of shape (draws, q, q)
        Matrices *G* such that new factor *k* is the sum over *j* of *G[k, j]* times factor *j*.
    """
    axis = variable.unit_axes()[0][0]
    rows = np.moveaxis(values, axis + 1, -1)
    rows = rows.reshape(len(values), -1, rows.shape[-1])
    turned: Array = varimax(rows, kaiser=gauge == "varimax-kaiser").swapaxes(1, 2)
    return turned


def _names(variables: Sequence[ResolvedVariable]) -> str:
    return ", ".join(v.name for v in variables) or "none"
