"""Which groups take part in an alignment: decided by the coordinates of their draws, and said."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.data.containers import OWN, Groups
from relabel.data.provenance import BY_COORDS
from relabel.errors import SpecError
from relabel.spec.arrays import SAMPLE_DIMS, named_variables
from relabel.spec.spec import ResolvedSpec, Spec

__all__ = ["Matched", "Participants", "participants", "places_in", "sharing"]

Array = NDArray[Any]

#: Groups of ArviZ (and of this library) that belong to the posterior beside them.
_SIBLINGS = (
    "allocation",
    "log_likelihood",
    "log_prior",
    "posterior_predictive",
    "predictions",
    "sample_stats",
    "unconstrained_posterior",
)

#: How names begin that say "posterior" and are of no second one.
_NOT_SECOND = ("posterior_predictive", "unconstrained_posterior", "warmup_")

_SAME = "same draws"
_BY_POSITION = "by position"
_PRIOR = "draws of the prior"


@dataclass(frozen=True)
class Matched:
    """A group whose draws are some of the posterior's, in any order and number.

    Attributes
    ----------
    stored : Dataset
        The group as it is.
    stacked : str or None
        The dimension of its draws, where it has one for chain and draw together.
    rows : tuple of (ndarray, ndarray)
        Positions of its draws in the posterior, chain and draw; they broadcast against each other
        to the shape of the draws of :meth:`view`.
    """

    stored: xr.Dataset
    stacked: str | None
    rows: tuple[Array, Array]

    def view(self) -> xr.Dataset:
        """Return the group with the dimensions chain and draw."""
        if self.stacked is None:
            return self.stored
        lifted = {}
        for name, variable in self.stored.variables.items():
            if name not in self.stored.indexes and name not in SAMPLE_DIMS:
                lifted[name] = self._lifted(variable)
        coords = {name: v for name, v in lifted.items() if name in self.stored.coords}
        arrays = {name: v for name, v in lifted.items() if name not in coords}
        return xr.Dataset(arrays, coords)

    def restored(self, changed: xr.Dataset, names: Collection[str]) -> xr.Dataset:
        """Return the group with the values that some variables have in a changed view."""
        if self.stacked is None:
            return changed
        fresh = {name: self._lowered(name, changed[name].variable) for name in names}
        coords = {name: v for name, v in fresh.items() if name in self.stored.coords}
        arrays = {name: v for name, v in fresh.items() if name not in coords}
        return self.stored.assign(arrays).assign_coords(coords)

    def _lifted(self, variable: xr.Variable) -> xr.Variable:
        """Give a variable the dimensions chain, of size 1, and draw."""
        if self.stacked not in variable.dims:
            return variable
        dims = ["draw" if dim == self.stacked else dim for dim in variable.dims]
        return xr.Variable(("chain", *dims), variable.data[None], variable.attrs)

    def _lowered(self, name: str, variable: xr.Variable) -> xr.Variable:
        """Take the dimension of size 1 away again."""
        old = self.stored[name].variable
        order = ["draw" if dim == self.stacked else dim for dim in old.dims]
        values = variable.isel(chain=0).transpose(*order).data
        return xr.Variable(old.dims, values, old.attrs, old.encoding)


@dataclass(frozen=True)
class Participants:
    """The groups of draws beside a posterior, by the way they take part.

    Attributes
    ----------
    same : dict of str to Dataset
        Groups with the posterior's draws, in its order.
    matched : dict of str to Matched
        Groups of some of its draws, or in another order, by their coordinates.
    left : dict of str to str
        Groups that are left as they are, and why.
    by_position : tuple of str
        Groups in `same` whose draws, or those of the posterior, have no coordinates.
    beside : mapping of str to Dataset
        The groups in `left`.
    """

    same: Groups
    matched: dict[str, Matched]
    left: dict[str, str]
    by_position: tuple[str, ...]
    beside: Mapping[str, xr.Dataset]

    def views(self) -> Groups:
        """Return all groups that take part, with the dimensions chain and draw."""
        return self.same | {name: group.view() for name, group in self.matched.items()}

    def described(self) -> dict[str, str]:
        """Return how each group takes part, for the record."""
        how = {name: _BY_POSITION if name in self.by_position else _SAME for name in self.same}
        how |= dict.fromkeys(self.matched, BY_COORDS)
        return how | {name: f"left: {why}" for name, why in self.left.items()}

    def compared(self, spec: Spec) -> Spec:
        """Return the spec without what it declares in matched groups alone.

        Units are compared in the draws of the posterior.

        Raises
        ------
        SpecError
            If a variable is declared that is only in a group that is left.
        """
        stored = {name: group.stored for name, group in self.matched.items()}
        elsewhere = set()
        for key in dict.fromkeys((*spec.axes, *spec.values, *spec.supports)):
            if named_variables(self.same, key):
                continue
            if named_variables(stored, key):
                elsewhere.add(key)
            elif found := named_variables(self.beside, key):
                group = found[0][0]
                raise SpecError(
                    f"variable {key!r} is in the group {group!r}, which cannot be relabelled: "
                    f"{self.left[group]}; take it out of the spec"
                )
        if not elsewhere:
            return spec
        axes = {key: line for key, line in spec.axes.items() if key not in elsewhere}
        values = {key: units for key, units in spec.values.items() if key not in elsewhere}
        supports = {key: of for key, of in spec.supports.items() if key not in elsewhere}
        return replace(spec, axes=axes, values=values, supports=supports)

    def remarks(self, resolved: ResolvedSpec) -> list[str]:
        """Say which groups with variables of the units were left, or matched by position."""
        found = []
        for name, why in self.left.items():
            concerned = _carriers(self.beside[name], resolved) if why != _PRIOR else []
            if concerned:
                found.append(
                    f"group {name!r} was left as it is, in its own labels "
                    f"({', '.join(concerned)}): {why}"
                )
        return found + [
            f"group {name!r} was matched with the posterior by position: one of them has no "
            "coordinates of chain or draw"
            for name in self.by_position
            if resolved.in_group(name)
        ]


def participants(groups: Mapping[str, xr.Dataset], prefix: str = "") -> Participants:
    """Find out which groups hold draws of the posterior, under their plain names.

    Draws are matched by the labels of chain and draw. Without labels on one side they are matched
    by position, if there are as many. Draws of the prior and of other models are left.

    Parameters
    ----------
    groups : mapping of str to Dataset
    prefix : {"", "warmup_"}
        ``"warmup_"`` asks for the draws of the warm-up instead.
    """
    found = Participants({}, {}, {}, (), {})
    if f"{prefix}posterior" not in groups:
        return found
    posterior, by_position, beside = groups[f"{prefix}posterior"], [], {}
    for path, dataset in groups.items():
        name = path.removeprefix("warmup_")
        if path in OWN or path.startswith("warmup_") != bool(prefix):
            continue
        if name == "posterior":
            found.same[name] = dataset
            continue
        how = _foreign(name, dataset, posterior, groups) or _match(dataset, posterior)
        if isinstance(how, Matched):
            found.matched[name] = how
        elif how in (_SAME, _BY_POSITION):
            found.same[name] = dataset
            by_position += [name] if how == _BY_POSITION else []
        elif _holds_draws(dataset):
            found.left[name], beside[name] = how, dataset
    return replace(found, by_position=tuple(by_position), beside=beside)


def sharing(groups: Mapping[str, xr.Dataset], prefix: str = "") -> Groups:
    """Return the groups whose draws are those of the posterior, under their plain names.

    Parameters
    ----------
    groups : mapping of str to Dataset
    prefix : {"", "warmup_"}
        ``"warmup_"`` asks for the draws of the warm-up instead.

    Returns
    -------
    dict of str to Dataset
        Empty if there is no ``{prefix}posterior``.
    """
    return participants(groups, prefix).same


def places_in(dataset: xr.Dataset, posterior: xr.Dataset) -> dict[str, Array] | None:
    """Return where draws are in another posterior, by chain and draw.

    None if they are the same, or cannot be told by coordinates.
    """
    found = _match(dataset, posterior)
    if isinstance(found, str) or found.stacked is not None:
        return None
    return {dim: place.ravel() for dim, place in zip(SAMPLE_DIMS, found.rows, strict=True)}


# ---------------------------------------------------------------------- other posteriors


def _foreign(
    name: str, dataset: xr.Dataset, posterior: xr.Dataset, groups: Mapping[str, xr.Dataset]
) -> str | None:
    """Say why a group is of other draws, whatever their coordinates are; None if it may not be."""
    parts = name.split("/")
    if any("prior" in part.split("_") and part != "log_prior" for part in parts):
        return _PRIOR
    for depth in range(1, len(parts)):
        other = "/".join([*parts[:depth], "posterior"])
        if other in groups:
            return f"it belongs to another model; align that by group={other!r} (--group)"
    if _of_second(parts[0], groups):
        return (
            "it belongs to another posterior; align that by itself, as a Dataset or in a group of "
            "its own (model/posterior)"
        )
    if parts[0].startswith(_SIBLINGS):
        return None
    repeated = [str(variable) for variable in dataset.data_vars if variable in posterior.data_vars]
    if repeated:
        return (
            f"it has a variable {repeated[0]!r} as the posterior has, so it may be of another "
            "model; relabel.apply relabels it, as a Dataset, if its draws are the posterior's"
        )
    return None


def _of_second(name: str, groups: Mapping[str, xr.Dataset]) -> bool:
    """Whether a name says that a group is a second posterior, or goes with one."""
    for path in groups:
        known = path == "posterior" or path.startswith(_NOT_SECOND)
        if not known and "posterior" in path.split("_"):
            before, _, after = path.partition("posterior")
            if name.startswith(before) and name.endswith(after):
                return True
    return False


def _carriers(dataset: xr.Dataset, resolved: ResolvedSpec) -> list[str]:
    """Return the variables of a group that seem to carry units: by name, dimension or size."""
    known = {variable.name for variable in resolved.variables}
    sizes = {size for size in resolved.sizes.values() if size > 1}
    found = []
    for key, variable in dataset.data_vars.items():
        core = {d: n for d, n in variable.sizes.items() if d not in (*SAMPLE_DIMS, "sample")}
        alike = key in known or set(core) & set(resolved.sizes) or sizes & set(core.values())
        if alike and core != dict(variable.sizes):
            found.append(str(key))
    return found


# ---------------------------------------------------------------------- labels of draws


def _holds_draws(dataset: xr.Dataset) -> bool:
    """Whether a variable of a group has a dimension of draws."""
    dims = {*SAMPLE_DIMS, "sample", _stacked(dataset)}
    return any(dims & set(variable.dims) for variable in dataset.data_vars.values())


def _stacked(dataset: xr.Dataset) -> str | None:
    """Return the one dimension of the draws, where both labels of a draw are known along it."""
    if not set(SAMPLE_DIMS) <= set(dataset.coords):
        return None
    dims = {str(dim) for name in SAMPLE_DIMS for dim in dataset.coords[name].dims}
    return dims.pop() if len(dims) == 1 else None


def _match(dataset: xr.Dataset, posterior: xr.Dataset) -> Matched | str:
    """Match the draws of a group with the posterior's; or say how they agree, or why not."""
    stacked = _stacked(dataset)
    if stacked is None and not set(SAMPLE_DIMS) <= set(dataset.dims):
        return "its draws have no labels of chain and draw"
    places, ways = [], set()
    for dim in SAMPLE_DIMS:
        ours, theirs = _labels(dataset, dim), _labels(posterior, dim)
        if ours is not None and theirs is not None:
            equal = stacked is None and np.array_equal(ours, theirs)
            place = np.arange(ours.size) if equal else _places(dim, ours, theirs)
            ways.add(_SAME if equal else BY_COORDS)
        elif stacked is None and dataset.sizes[dim] == posterior.sizes.get(dim):
            place = np.arange(dataset.sizes[dim])
            ways.add(_SAME if ours is None and theirs is None else _BY_POSITION)
        else:
            place = (
                f"it has {dataset.sizes.get(dim, 'other')} labels of {dim}, the posterior "
                f"{posterior.sizes.get(dim)}, and not both have coordinates that tell which"
            )
        if isinstance(place, str):
            return place
        places.append(place)
    if BY_COORDS not in ways:
        return _BY_POSITION if _BY_POSITION in ways else _SAME
    chain, draw = places
    if stacked is None:
        return Matched(dataset, None, (chain[:, None], draw[None, :]))
    n = dataset.sizes[stacked]
    return Matched(dataset, stacked, (np.resize(chain, (1, n)), np.resize(draw, (1, n))))


def _labels(dataset: xr.Dataset, dim: str) -> Array | None:
    """Return the labels of chain or draw; None where there are none, or arrays for labels."""
    if dim not in dataset.coords or dataset.coords[dim].ndim > 1:
        return None
    return np.asarray(dataset.coords[dim].values)


def _places(dim: str, ours: Array, theirs: Array) -> Array | str:
    """Return where labels are among the posterior's, or say why that is not known."""
    import pandas as pd

    index = pd.Index(theirs)
    if not index.is_unique:
        return f"labels of {dim} occur more than once in the posterior"
    place: Array = index.get_indexer(np.atleast_1d(ours))
    if (place < 0).any():
        absent = np.atleast_1d(ours)[place < 0]
        return f"the posterior has no {dim} {absent[0]} ({absent.size} labels are not there)"
    return place
