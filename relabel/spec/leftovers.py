"""Variables of the draws that have an axis as long as there are units, and that no spec names."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import xarray as xr

from relabel.spec.arrays import Address, core_dims, core_shape, drawn_variables

__all__ = ["Leftover", "is_default", "leftovers", "named_as_bias", "other_dims"]

_BIAS = {"b", "c", "bias", "biases", "intercept", "intercepts", "offset", "offsets"}
_DATA = ("observed_data", "constant_data", "predictions_constant_data")


def is_default(dim: str) -> bool:
    """Whether a dimension has the name that samplers give by default, as in ``W1_dim_0``."""
    return re.fullmatch(r".*_dim_\d+", dim) is not None


def named_as_bias(name: str) -> bool:
    """Whether a word of a name says that it is a bias.

    Examples
    --------
    >>> named_as_bias("b_hidden"), named_as_bias("beta")
    (True, False)
    """
    return bool(_BIAS & set(re.findall(r"[a-z]+|\d+", name.lower())))


@dataclass(frozen=True)
class Leftover:
    """A variable that no spec names.

    Attributes
    ----------
    address : (str, str)
    dims : tuple of str
    shape : tuple of int
        Of one draw.
    places : tuple of int
        The axes that are as long as there are units.
    other : bool
        Whether all of these axes are known by their names to mean something else.
    """

    address: Address
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    places: tuple[int, ...]
    other: bool

    @property
    def name(self) -> str:
        """Its name as in a spec."""
        group, name = self.address
        return name if group == "posterior" else f"{group}/{name}"

    def __str__(self) -> str:
        return f"{self.name!r} ({' × '.join(map(str, self.shape))})"

    def line(self, units: str) -> str:
        """Write its axes, with the units on the first that is long enough.

        Examples
        --------
        >>> Leftover(("posterior", "cov"), ("a", "b", "c"), (4, 2, 2), (0,), False).line("k")
        'k ...'
        """
        place = self.places[0]
        rest = " ..." if len(self.shape) > place + 1 else ""
        return "_ " * place + units + rest

    def network_line(self, units: str, unnamed: str = "y") -> str:
        """Write its axes as those of an array that reads the units, or is their bias.

        Examples
        --------
        >>> head = Leftover(("posterior", "W2"), ("W2_dim_0", "cls"), (4, 2), (0,), False)
        >>> head.network_line("h")
        'h -> cls'
        """
        if len(self.shape) == 1:
            return f"-> {units}" if named_as_bias(self.address[1]) else f"{units} ->"
        place = self.places[0]
        others = [dim for i, dim in enumerate(self.dims) if i != place]
        rest = " ".join(unnamed if is_default(dim) else dim for dim in others)
        return f"{rest} <- {units}" if place else f"{units} -> {rest}"


def leftovers(
    groups: Mapping[str, xr.Dataset],
    taken: Collection[Address],
    size: int,
    other: Collection[str] = (),
) -> list[Leftover]:
    """Find the variables with draws that have an axis of one size and are not taken.

    Statistics of the sampler are no parameters, and left out; so are axes of data in groups other
    than the posterior (predictions of observations).

    Parameters
    ----------
    groups : mapping of str to Dataset
        Groups that share the draws.
    taken : collection of (str, str)
        Addresses of the variables that a spec names.
    size : int
        Number of units; one unit is no evidence, so that nothing is found.
    other : collection of str
        Dimensions that are known to mean something else.

    Returns
    -------
    list of Leftover
    """
    return [] if size < 2 else list(_found(groups, taken, size, other))


def _found(
    groups: Mapping[str, xr.Dataset], taken: Collection[Address], size: int, other: Collection[str]
) -> Iterator[Leftover]:
    for address, variable in drawn_variables(groups):
        if address in taken or address[0] == "sample_stats" or variable.dtype.kind not in "fiub":
            continue
        dims, shape = core_dims(variable), core_shape(variable)
        places = tuple(i for i, n in enumerate(shape) if n == size)
        known = all(dims[i] in other or _named_entries(variable, dims[i]) for i in places)
        if places and not (known and address[0] != "posterior"):
            yield Leftover(address, dims, shape, places, known)


def other_dims(
    beside: Mapping[str, xr.Dataset], carried: Mapping[Address, Collection[str]]
) -> set[str]:
    """Return the named dimensions that mean something else than units.

    Parameters
    ----------
    beside : mapping of str to Dataset
        All groups; dimensions of observed and constant data are of the data.
    carried : mapping of (str, str) to collection of str
        Dimensions of the variables that a spec names which carry no units there.

    Returns
    -------
    set of str
        Dimensions of default names (``W1_dim_0``) say nothing, but for those of data.
    """
    data = {str(dim) for group in _DATA for dim in beside.get(group, xr.Dataset()).dims}
    return data | {dim for dims in carried.values() for dim in dims if not is_default(dim)}


def _named_entries(variable: xr.DataArray, dim: str) -> bool:
    """Whether the entries of a dimension have names of their own (not c1, c2, ...)."""
    if dim not in variable.coords or variable.coords[dim].dtype.kind not in "UO":
        return False
    labels = [str(label) for label in variable.coords[dim].values]
    return len({label.rstrip("0123456789") for label in labels}) > 1
