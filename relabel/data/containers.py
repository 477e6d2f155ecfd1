"""ArviZ data of any kind, taken apart into groups and put together again.

Inside the library, data are a dictionary from group to :class:`xarray.Dataset`. Outside they are
an ``InferenceData`` (arviz 0.x), an :class:`xarray.DataTree` (arviz 1.x) or a Dataset.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias, TypeGuard, TypeVar, cast

import xarray as xr

from relabel.data.provenance import Provenance
from relabel.errors import DataError, SpecError

__all__ = [
    "OWN",
    "PREFIX",
    "Data",
    "DrawsLike",
    "Groups",
    "is_inference_data",
    "node_of",
    "own_variables",
    "pack",
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


def unpack(data: DrawsLike, group: str = "posterior") -> Groups:
    """Return the groups of ArviZ data, none of them copied.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset
    group : str, default "posterior"
        Where the posterior is in a tree of several models: of ``"model/posterior"`` the groups
        in ``model``, without that name.

    Returns
    -------
    dict of str to Dataset
        A Dataset becomes the group ``posterior`` (and ``relabel``, if it was aligned before).

    Raises
    ------
    DataError
        If it is none of the three; the message names a function that reads such data. If there is
        no such `group`.
    """
    node = node_of(group)
    if node:
        whole = unpack(data)
        if group not in whole:
            raise DataError(f"there is no group {group!r}; found {', '.join(whole) or 'nothing'}")
        return {p.removeprefix(node): ds for p, ds in whole.items() if p.startswith(node)}
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


def node_of(group: str) -> str:
    """Return the path before the name of a posterior, with its slash; empty at the root.

    Raises
    ------
    SpecError
        If it is not the name of a posterior.

    Examples
    --------
    >>> node_of("model/posterior"), node_of("posterior")
    ('model/', '')
    """
    if not isinstance(group, str):
        raise SpecError(f"group must be a string such as 'model/posterior', not {group!r}")
    node, slash, name = group.rpartition("/")
    if name != "posterior" or group.startswith("/"):
        raise SpecError(
            f"group must be 'posterior' or end in '/posterior', not {group!r}; other draws can be "
            f"given as a Dataset (data[{group!r}].to_dataset(), of InferenceData data[{group!r}])"
        )
    return node + slash


def model_of(data: Data, group: str) -> DrawsLike:
    """Return the part of a tree that holds one model: its posterior and what stands beside it."""
    node = node_of(group).rstrip("/")
    return cast(DrawsLike, data[node]) if node else data


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


def pack(data: Data, changed: Mapping[str, xr.Dataset | None], group: str = "posterior") -> Data:
    """Return data of the same kind with some groups replaced, added or (None) taken out.

    Their names are those that :func:`unpack` gave for the same `group`. Everything else is shared
    with `data`, which is not changed.
    """
    node = node_of(group)
    changed = {f"{node}{path}": dataset for path, dataset in changed.items()}
    if isinstance(data, xr.Dataset):
        return _pack_dataset(data, changed)  # type: ignore[return-value]
    if isinstance(data, xr.DataTree):
        tree = data.copy()
        for path, dataset in changed.items():
            if dataset is None:
                node, _, name = path.rpartition("/")
                del (tree[node] if node else tree)[name]
            elif path in tree:
                tree[path].dataset = dataset
            else:
                tree[path] = xr.DataTree(dataset)
        return tree
    groups = {**unpack(data), **changed}
    kind: Any = type(data)
    attrs = getattr(data, "attrs", None)
    return kind(attrs=attrs, **{k: v for k, v in groups.items() if v is not None})  # type: ignore[no-any-return]


def own_variables(dataset: xr.Dataset) -> list[str]:
    """Return the names of the variables that an alignment and a diagnosis added to a Dataset."""
    if "relabel" not in dataset.attrs:
        return []
    provenance = Provenance.read(dataset.attrs)
    kinds = ("index", "factor", "rotation", "margin", "separation", "rival")
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
