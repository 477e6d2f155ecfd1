"""ArviZ data of any kind, taken apart into groups and put together again.

Inside the library, data are a dictionary from group to :class:`xarray.Dataset`. Outside they are
an ``InferenceData`` (arviz 0.x), an :class:`xarray.DataTree` (arviz 1.x) or a Dataset.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias, TypeGuard, TypeVar

import xarray as xr

from relabel.data.provenance import Provenance
from relabel.errors import DataError
from relabel.spec.arrays import SAMPLE_DIMS

__all__ = [
    "OWN",
    "PREFIX",
    "Data",
    "DrawsLike",
    "Groups",
    "is_inference_data",
    "own_variables",
    "pack",
    "sharing",
    "unpack",
]

Groups = dict[str, xr.Dataset]


class InferenceDataLike(Protocol):
    """``InferenceData`` of arviz 0.x, by what is used of it."""

    def groups(self) -> list[str]:
        """Return the names of the groups."""

    def __getitem__(self, key: str) -> xr.Dataset:
        """Return one group."""

    def to_datatree(self) -> xr.DataTree:
        """Return the groups as a tree."""


#: Draws as functions take them.
DrawsLike: TypeAlias = xr.DataTree | xr.Dataset | InferenceDataLike

#: Draws of one type: a function that takes it returns it.
Data = TypeVar("Data", bound=DrawsLike)

#: Groups that an alignment adds.
OWN = ("relabel", "warmup_relabel")

#: Prefix of the variables of the group `relabel` in a plain Dataset.
PREFIX = "relabel_"


def is_inference_data(data: Any) -> TypeGuard[InferenceDataLike]:
    """Whether this is the class of arviz 0.x; arviz is not imported for it."""
    kind = type(data)
    return kind.__name__ == "InferenceData" and kind.__module__.split(".")[0] == "arviz"


def unpack(data: DrawsLike) -> Groups:
    """Return the groups of ArviZ data, none of them copied.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset

    Returns
    -------
    dict of str to Dataset
        A Dataset becomes the group ``posterior`` (and ``relabel``, if it was aligned before).

    Raises
    ------
    DataError
        If it is none of the three; the message names a function that reads such data.
    """
    if isinstance(data, xr.Dataset):
        return _unpack_dataset(data)
    if isinstance(data, xr.DataTree):
        return {path: node.to_dataset() for path, node in data.subtree_with_keys if path != "."}
    if is_inference_data(data):
        return {group: data[group] for group in data.groups()}
    raise DataError(
        f"draws must be an InferenceData, a DataTree or a Dataset, not {type(data).__name__}; "
        f"{_reader_of(data)}"
    )


def _reader_of(data: Any) -> str:
    """Name the function that reads draws from such an object."""
    if callable(getattr(data, "state_dict", None)):
        return "one model is one draw: relabel.sources.from_torch([model, ...]) reads several"
    if isinstance(data, list | tuple):
        return (
            "relabel.sources.from_torch reads a list of models or state dicts, "
            "relabel.sources.from_pytree one of other trees, relabel.open_draws files"
        )
    if isinstance(data, Mapping):
        return (
            "relabel.sources.from_dict reads a dictionary of arrays, "
            "relabel.sources.from_pytree a nested one, "
            "relabel.sources.from_torch state dicts by the names of members"
        )
    return "a file is read by relabel.open_draws"


def pack(data: Data, changed: Mapping[str, xr.Dataset | None]) -> Data:
    """Return data of the same kind with some groups replaced, added or (None) taken out.

    Everything else is shared with `data`, which is not changed.
    """
    if isinstance(data, xr.Dataset):
        return _pack_dataset(data, changed)  # type: ignore[return-value]
    if isinstance(data, xr.DataTree):
        tree = data.copy()
        for path, dataset in changed.items():
            if dataset is None:
                del tree[path]
            elif path in tree:
                tree[path].dataset = dataset
            else:
                tree[path] = xr.DataTree(dataset)
        return tree
    groups = {**unpack(data), **changed}
    kind: Any = type(data)
    attrs = getattr(data, "attrs", None)
    return kind(attrs=attrs, **{k: v for k, v in groups.items() if v is not None})  # type: ignore[no-any-return]


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
    if f"{prefix}posterior" not in groups:
        return {}
    posterior = groups[f"{prefix}posterior"]
    found = {}
    for path, dataset in groups.items():
        warmup = path.startswith("warmup_")
        name = path.removeprefix("warmup_")
        # draws of the prior are other draws, even if there are as many
        prior = name != "log_prior" and "prior" in name.split("/", maxsplit=1)[0].split("_")
        if path in OWN or warmup != bool(prefix) or prior:
            continue
        if name == "posterior" or _same_draws(dataset, posterior):
            found[name] = dataset
    return found


def _same_draws(dataset: xr.Dataset, posterior: xr.Dataset) -> bool:
    """Whether the sample dimensions agree in size and, where both have them, in coordinates."""
    for dim in SAMPLE_DIMS:
        if dim not in dataset.dims or dataset.sizes[dim] != posterior.sizes.get(dim):
            return False
        both = dim in dataset.coords and dim in posterior.coords
        if both and not dataset.coords[dim].equals(posterior.coords[dim]):
            return False
    return True


def own_variables(dataset: xr.Dataset) -> list[str]:
    """Return the names of the variables that an alignment and a diagnosis added to a Dataset."""
    if "relabel" not in dataset.attrs:
        return []
    provenance = Provenance.read(dataset.attrs)
    kinds = ("index", "factor", "rotation", "margin")
    written = [f"{name}_{kind}" for name in provenance.spec.units for kind in kinds]
    written += ["loss", "gap", "start", "excluded"]
    written += [*provenance.flags, *provenance.offsets, *provenance.checksums]
    written += provenance.added
    return [f"{PREFIX}{name}" for name in written if f"{PREFIX}{name}" in dataset.data_vars]


def _unpack_dataset(dataset: xr.Dataset) -> Groups:
    if "relabel" not in dataset.attrs:
        return {"posterior": dataset}
    own = own_variables(dataset)
    stored = dataset[own].rename({name: name.removeprefix(PREFIX) for name in own})
    stored.attrs = {"relabel": dataset.attrs["relabel"]}
    posterior = dataset.drop_vars(own)
    posterior.attrs = {k: v for k, v in dataset.attrs.items() if k != "relabel"}
    return {"posterior": posterior, "relabel": stored}


def _pack_dataset(dataset: xr.Dataset, changed: Mapping[str, xr.Dataset | None]) -> xr.Dataset:
    posterior = changed.get("posterior") or _unpack_dataset(dataset)["posterior"]
    own = changed.get("relabel")
    if own is None:
        return posterior
    for dim, size in own.sizes.items():
        if posterior.sizes.get(dim, size) != size:
            raise DataError(
                f"the dataset has a dimension {dim!r} of size {posterior.sizes[dim]}, but there "
                f"are {size} units {dim!r}; give the units another name, or pass a DataTree"
            )
        if dim in posterior.variables and dim not in posterior.dims:
            raise DataError(
                f"the dataset has a variable {dim!r}, named like the units; give the units "
                "another name, or pass a DataTree"
            )
    named = own.rename({name: f"{PREFIX}{name}" for name in own.data_vars})
    taken = [str(name) for name in named.data_vars if name in posterior.variables]
    if taken:
        raise DataError(
            f"the dataset has a variable {taken[0]!r}, which the alignment would overwrite; rename "
            "it, or pass a DataTree"
        )
    merged = posterior.assign(dict(named.data_vars))
    merged.attrs = {**posterior.attrs, **own.attrs}
    return merged
