"""Variables of data: which hold draws, where they are, and their values with the draws first."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import xarray as xr
from numpy.typing import NDArray

from relabel.errors import DataError

__all__ = [
    "SAMPLE_DIMS",
    "Address",
    "chain_draw_values",
    "check_draws",
    "closest",
    "core_dims",
    "core_shape",
    "draw_values",
    "drawn_variables",
    "is_drawn",
    "named_variables",
    "variable_text",
]

Array = NDArray[Any]

#: Dimensions that index draws.
SAMPLE_DIMS = ("chain", "draw")

#: (group, name) of a variable.
Address = tuple[str, str]


def is_drawn(variable: xr.DataArray) -> bool:
    """Whether a variable has a value for each draw."""
    return set(SAMPLE_DIMS) <= set(variable.dims)


def core_dims(variable: xr.DataArray) -> tuple[str, ...]:
    """Return the dimensions of one draw, as stored."""
    return tuple(str(dim) for dim in variable.dims if dim not in SAMPLE_DIMS)


def core_shape(variable: xr.DataArray) -> tuple[int, ...]:
    """Return the shape of one draw, as stored."""
    return tuple(int(variable.sizes[dim]) for dim in core_dims(variable))


def chain_draw_values(variable: xr.DataArray, *dims: str) -> Array:
    """Return the values of a variable with the sample dimensions first.

    Parameters
    ----------
    variable : DataArray
        With the dimensions chain and draw, in any place.
    *dims : str
        Order of its other dimensions; as stored by default.

    Returns
    -------
    ndarray of shape (chain, draw, ...)

    Examples
    --------
    >>> chain_draw_values(xr.DataArray([[[1, 2]]], dims=("x", "draw", "chain"))).shape
    (2, 1, 1)
    """
    values: Array = variable.transpose(*SAMPLE_DIMS, *(dims or (...,))).values
    return values


def draw_values(variable: xr.DataArray, *dims: str) -> Array:
    """Return the values of a variable, all draws of all chains on one axis.

    Parameters
    ----------
    variable, *dims
        As for :func:`chain_draw_values`.

    Returns
    -------
    ndarray of shape (chain · draw, ...)
        The draws of the first chain, then those of the second, and so on.

    Examples
    --------
    >>> draw_values(xr.DataArray([[1, 2], [3, 4]], dims=("draw", "chain")))
    array([1, 3, 2, 4])
    """
    values = chain_draw_values(variable, *dims)
    flat: Array = values.reshape(values.shape[0] * values.shape[1], *values.shape[2:])
    return flat


def drawn_variables(groups: Mapping[str, xr.Dataset]) -> Iterator[tuple[Address, xr.DataArray]]:
    """Yield every variable that has a value for each draw, with its address."""
    for group, dataset in groups.items():
        for name, variable in dataset.data_vars.items():
            if is_drawn(variable):
                yield (group, str(name)), variable


def named_variables(groups: Mapping[str, xr.Dataset], key: str) -> list[Address]:
    """Return the variables that a key stands for.

    Parameters
    ----------
    groups : mapping of str to Dataset
    key : str
        ``group/name`` for a variable of one group, else a name in every group. Groups and names
        may hold a slash themselves.

    Returns
    -------
    list of (str, str)
        Group and name of each; empty if there is none.

    Examples
    --------
    >>> one = xr.Dataset({"x": 1.0, "a/b": 2.0})
    >>> groups = {"posterior": one, "prior": one, "prior/x": one}
    >>> named_variables(groups, "x")
    [('posterior', 'x'), ('prior', 'x'), ('prior/x', 'x')]
    >>> named_variables(groups, "prior/x"), named_variables(groups, "prior/x/a/b")
    ([('prior', 'x')], [('prior/x', 'a/b')])
    """
    parts = key.split("/")
    for cut in range(1, len(parts)):
        group, name = "/".join(parts[:cut]), "/".join(parts[cut:])
        if group in groups and name in groups[group].data_vars:
            return [(group, name)]
    return [(group, key) for group, dataset in groups.items() if key in dataset.data_vars]


def variable_text(address: Address) -> str:
    """Name a variable in a message; the group is left out where it is the posterior."""
    group, name = address
    return f"variable {name!r}" if group == "posterior" else f"variable {group}/{name}"


def closest(name: str, known: Collection[str]) -> str:
    """Return a hint at the known name that is most like a wrong one; empty if none is like it.

    Examples
    --------
    >>> closest("sigm", ["mu", "sigma"])
    " (did you mean 'sigma'?)"
    """
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def check_draws(groups: Mapping[str, xr.Dataset]) -> None:
    """Raise DataError unless the posterior has draws."""
    if "posterior" not in groups:
        nested = next((path for path in groups if path.endswith("/posterior")), "")
        node = nested.removesuffix("/posterior")
        hint = f"; of several models take one, as in data[{node!r}]" if nested else ""
        found = ", ".join(groups) or "nothing"
        raise DataError(f"there is no group 'posterior'; found {found}{hint}")
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
