"""PyTorch: lists of state dicts, stacked tensors, modules and files of weights, and back."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from relabel.data.containers import DrawsLike, unpack
from relabel.errors import DataError, FileError
from relabel.sources.base import Source, start_of
from relabel.sources.failures import check_expansion, check_file, package, reading
from relabel.sources.members import (
    MEMBERS,
    NAMED,
    STACKED,
    as_paths,
    from_members,
    member_names,
    members_of,
    noted,
)
from relabel.sources.npz import names_in_archive
from relabel.sources.safetensors import from_safetensors, is_safetensors
from relabel.sources.samples import as_it_came, check_names, notes_of, sample_dims_of, tree_of

__all__ = ["PYTORCH", "from_torch", "load_weights", "refuse_pickle", "to_torch"]

#: Prefixes of the names of a state dict, from DataParallel and torch.compile.
_PREFIXES = ("module.", "_orig_mod.")

#: Keys under which checkpoints hold the weights, beside an optimizer and the like.
_WEIGHTS = ("state_dict", "model_state_dict", "model_state", "model", "module", "net", "weights")

#: Why a pickle is refused, and what to do instead.
_UNSAFE = (
    "a pickle runs code when it is loaded; load it yourself in Python, where you trust it, and "
    "save the weights with safetensors.torch.save_file or torch.save(model.state_dict(), path)"
)

#: Beginning of files from before PyTorch wrote zip archives: a pickled number.
_OLD_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def from_torch(source: Any, *, sample_dims: str | None = None) -> xr.DataTree:
    """Lay out the weights of several networks of one architecture as draws.

    Parameters
    ----------
    source : list, dict, module or path
        One of

        * a list of state dicts or of modules, one for each draw; a nested list holds one list for
          each chain;
        * a dictionary of stacked tensors, or the pair (parameters, buffers) of them that
          ``torch.func.stack_module_state`` returns;
        * a mapping from the name of a member to its state dict;
        * the path of a ``.pt`` file with one of these (a file with a single state dict is one
          member), or several such files, one for each member or, if they hold lists, for each
          chain, or a folder of them. They are loaded with ``weights_only=True``: none of their
          code is run. Files of safetensors are read as well.

        State dicts may be inside the usual checkpoints (``{"state_dict": ...}``), and a list of
        them may be the only entry of a dictionary (``{"state_dicts": [...]}``).
    sample_dims : str, optional
        The leading axes of stacked tensors: ``"draw"``, ``"chain draw"``, ``"draw chain"``. By
        default they follow from the shapes. A file with stacked tensors needs it.

    Returns
    -------
    DataTree
        Names are those of the state dicts. The prefixes ``module.`` (DataParallel) and
        ``_orig_mod.`` (torch.compile) are removed where all names have them, and
        :func:`to_torch` adds them again. Integers such as ``num_batches_tracked`` are kept.

    Raises
    ------
    DataError
        If members differ in names, shapes, dtypes or devices, have half precision, or share the
        memory of one live model.
    FileError
        If a file cannot be read without running code of it.

    Examples
    --------
    >>> members = [{"0.weight": np.zeros((8, 3))}, {"0.weight": np.ones((8, 3))}]  # or tensors
    >>> tree = from_torch(members)
    >>> dict(tree["posterior"].sizes)
    {'chain': 1, 'draw': 2, '0.weight_dim_0': 8, '0.weight_dim_1': 3}
    """
    if isinstance(source, str | os.PathLike) or _are_paths(source):
        paths = as_paths(source)
        if all(is_safetensors(path, start_of(path)) for path in paths):
            return from_safetensors(paths, sample_dims=sample_dims)
        return _from_files(paths, sample_dims=sample_dims)
    if _is_module(source):
        raise DataError("torch: one module is one draw; give a list of modules")
    if _is_pair(source):
        return _from_stacked({**source[0], **source[1]}, sample_dims or "draw", "torch")
    if _is_state_dict(source):
        return _from_stacked(source, sample_dims, "torch")
    return _from_object(source, sample_dims, "torch")


def _is_pair(source: Any) -> bool:
    """Whether this is a pair of stacked parameters and buffers: two members share names."""
    pair = isinstance(source, tuple) and len(source) == 2 and _is_state_dict(source[0])
    return pair and isinstance(source[1], Mapping) and not set(source[0]) & set(source[1])


def _are_paths(source: Any) -> bool:
    listed = isinstance(source, list | tuple) and len(source) > 0
    return listed and all(isinstance(item, str | os.PathLike) for item in source)


def _from_files(paths: Sequence[Path], *, sample_dims: str | None = None) -> xr.DataTree:
    loaded = [_unwrapped(load_weights(path), str(path)) for path in paths]
    if len(paths) > 1:
        label = f"{paths[0]} and {len(paths) - 1} more"
        kinds = {isinstance(item, Mapping) for item in loaded}
        if len(kinds) > 1:
            raise DataError(f"{label}: some files hold one member and others several")
        names = [path.stem for path in paths] if kinds.pop() else None
        return _from_object(loaded, None, label, names)
    if _is_state_dict(loaded[0]) and sample_dims is not None:
        return _from_stacked(loaded[0], sample_dims, str(paths[0]))
    only = [loaded[0]] if _is_state_dict(loaded[0]) else loaded[0]
    return _from_object(only, sample_dims, str(paths[0]))


def load_weights(path: Path) -> Any:
    """Load a file of ``torch.save`` without running code of it.

    Raises
    ------
    FileError
        If PyTorch is missing, the file cannot be read, or holds more than weights.
    """
    torch = package("torch", "torch (or save the weights as .safetensors)", f"{path}: PyTorch")
    from pickle import UnpicklingError

    check_file(path)
    with reading(path, "a file of PyTorch"):
        _check_archive(path)
        try:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        except UnpicklingError as error:
            found = re.search(r"GLOBAL ([\w.]+)", str(error))
            other = f" ({found[1]})" if found else ""
            raise FileError(f"{path}: holds more than weights{other}: {_UNSAFE}") from error
        except RuntimeError as error:
            if "TorchScript" in str(error):
                raise FileError(f"{path}: a TorchScript program, not weights: {_UNSAFE}") from error
            raise
        check_expansion(path, _n_bytes(loaded))
        return loaded


def _n_bytes(item: Any) -> int:
    """Size of all tensors as arrays: a tensor may repeat a few values that are stored once."""
    if isinstance(item, Mapping):
        item = list(item.values())
    if isinstance(item, list | tuple):
        return sum(map(_n_bytes, item))
    return int(getattr(item, "nbytes", 0))


def _check_archive(path: Path) -> None:
    """Check the sizes in an archive, and its checksums, which PyTorch does not check."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            check_expansion(path, sum(entry.file_size for entry in archive.infolist()))
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"the checksum of {damaged} is wrong")


def _from_stacked(tensors: Mapping[str, Any], sample_dims: str | None, label: str) -> xr.DataTree:
    _check_devices([tensors], label)
    prefix = _prefix(tensors)
    plain = {name.removeprefix(prefix): value for name, value in tensors.items()}
    attrs = _source_names(plain, prefix)
    tree = tree_of(plain, source=label, sample_dims=sample_dims, attrs=attrs)
    return noted(tree, source="torch", form=STACKED)


def _from_object(
    source: Any, sample_dims: str | None, label: str, names: list[str] | None = None
) -> xr.DataTree:
    """Lay out a list of members, a list of such lists, or a mapping of them."""
    source, form = _unwrapped(source, label), MEMBERS
    if sample_dims is not None:
        raise DataError(
            f"{label}: sample_dims={sample_dims!r} is for stacked tensors; these are members, one "
            "for each draw"
        )
    if isinstance(source, Mapping):
        _check_named(source, label)
        names, form, source = [str(name) for name in source], NAMED, list(source.values())
    members = [_member(item, f"{label}: item {number}") for number, item in enumerate(source)]
    if len({isinstance(member, Mapping) for member in members}) > 1:
        raise DataError(f"{label}: a list holds state dicts or lists of them, not both")
    flat = [m for item in members for m in ([item] if isinstance(item, Mapping) else item)]
    if not all(isinstance(member, Mapping) for member in flat):
        raise DataError(f"{label}: lists are nested too deeply: chains of lists of state dicts")
    _check_devices(flat, label)
    prefix = _prefix(flat[0]) if flat else ""
    plain: Any = [_without(prefix, item) for item in members]
    attrs = _source_names(_without(prefix, flat[0]), prefix) if flat else None
    tree = from_members(plain, source=label, names=names, form=form, attrs=attrs)
    _check_alive(flat, label)
    return noted(tree, source="torch")


def _check_named(members: Mapping[Any, Any], label: str) -> None:
    """Raise DataError unless all values are members, not chains or other parts of a checkpoint."""
    for key, item in members.items():
        if isinstance(item, Mapping) or _is_module(item):
            continue
        kind = type(item).__name__
        if not _are_members(item):
            raise DataError(
                f"{label}: {key!r} holds a {kind}, not a state dict; leave it out, or give the "
                "state dicts as a list"
            )
        raise DataError(
            f"{label}: {key!r} holds a {kind} of {len(item)}, where one state dict is expected; "
            "chains are a list of lists of state dicts, as in list(source.values())"
        )


def _unwrapped(source: Any, label: str) -> Any:
    """Return the weights inside a checkpoint; a mapping of stacked tensors as it is."""
    if isinstance(source, Mapping) and not _is_state_dict(source):
        for key in _WEIGHTS:
            inner = source.get(key)
            if isinstance(inner, Mapping | list | tuple) and len(inner):
                _check_only_network(source, key, label)
                return _unwrapped(inner, label)
        only = next(iter(source.values())) if len(source) == 1 else None
        return _unwrapped(only, label) if _are_members(only) else source
    if isinstance(source, Mapping | list | tuple):
        return source
    raise DataError(
        f"{label}: holds a {type(source).__name__}; give state dicts, as model.state_dict() returns"
    )


def _are_members(item: Any) -> bool:
    """Whether this is a list of members, as in ``{"state_dicts": [...]}``, or of chains."""
    if not isinstance(item, list | tuple) or not item:
        return False
    return all(isinstance(i, Mapping) or _is_module(i) or _are_members(i) for i in item)


def _check_only_network(checkpoint: Mapping[str, Any], key: str, label: str) -> None:
    """Raise DataError if a checkpoint holds other weights beside those under `key`."""
    others = [name for name, inner in checkpoint.items() if name != key and _is_state_dict(inner)]
    if others:
        shown = ", ".join(map(repr, [key, *others[:3]]))
        raise DataError(
            f"{label}: holds several networks ({shown}); give the state dict of one of them, as in "
            f"checkpoint[{key!r}], or a list of state dicts if they are members"
        )


def _member(item: Any, label: str) -> Any:
    """One member as a state dict, or one chain as a list of them."""
    if _is_module(item):
        return item.state_dict()
    item = _unwrapped(item, label)
    if isinstance(item, Mapping):
        if not item:
            raise DataError(f"{label}: an empty state dict: the network has no parameters")
        odd = [name for name, value in item.items() if not _is_tensor(value)]
        if odd:
            kind = type(item[odd[0]]).__name__
            raise DataError(
                f"{label}: {odd[0]!r} is a {kind}, not a tensor: remove it from the state dict"
            )
        return item
    return [_member(inner, f"{label}, {number}") for number, inner in enumerate(item)]


def _is_module(item: Any) -> bool:
    return not isinstance(item, type) and callable(getattr(item, "state_dict", None))


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape")


def _is_state_dict(item: Any) -> bool:
    tensors = isinstance(item, Mapping) and all(map(_is_tensor, item.values()))
    return tensors and len(item) > 0


def _prefix(member: Mapping[str, Any]) -> str:
    """The prefix that wrappers add to all names."""
    prefix = ""
    check_names(member, "torch")
    while found := [p for p in _PREFIXES if all(name.startswith(prefix + p) for name in member)]:
        prefix += found[0]
    return prefix


def _without(prefix: str, item: Any) -> Any:
    if isinstance(item, Mapping):
        return {str(name).removeprefix(prefix): value for name, value in item.items()}
    return [_without(prefix, inner) for inner in item]


def _source_names(plain: Mapping[str, Any], prefix: str) -> dict[str, dict[str, str]]:
    return {name: {"source_name": prefix + name} for name in plain}


def _check_devices(members: Sequence[Mapping[str, Any]], label: str) -> None:
    """Raise DataError unless all tensors are on one device and have values."""
    devices: dict[str, str] = {}
    for number, member in enumerate(members):
        for name, value in member.items():
            device = str(getattr(value, "device", "cpu"))
            devices.setdefault(device, f"{name!r} of member {number}")
    if len(devices) > 1 or "meta" in devices:
        shown = ", ".join(f"{first} is on {device!r}" for device, first in [*devices.items()][:3])
        raise DataError(
            f"{label}: tensors must be on one device and have values, but {shown}; move all to the "
            "cpu first, as in {name: value.cpu() for name, value in state_dict.items()}"
        )


def _check_alive(members: Sequence[Mapping[str, Any]], label: str) -> None:
    """Raise DataError if all members share the tensors of one live model."""
    places = {
        tuple(value.data_ptr() for value in member.values() if hasattr(value, "data_ptr"))
        for member in members
    }
    if len(members) > 1 and len(places) == 1 and any(places.pop()):
        raise DataError(
            f"{label}: all members share the same tensors in memory: state_dict() returns views of "
            "the live model; store copies, as in copy.deepcopy(model.state_dict())"
        )


def to_torch(data: DrawsLike) -> list[dict[str, Any]]:
    """Return one state dict for each draw, chains one after the other.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset
        Draws from :func:`from_torch`, or any others; all variables of the posterior are taken.

    Returns
    -------
    list of dict of str to torch.Tensor
        Names (with prefixes of wrappers), their order, dtypes and values are those of the draws;
        the tensors are copies.

    Raises
    ------
    DataError
        If PyTorch is missing, or has no dtype for an array.

    Examples
    --------
    >>> states = to_torch(from_torch(members))  # doctest: +SKIP
    >>> model.load_state_dict(states[0])  # doctest: +SKIP
    """
    try:
        import torch
    except ImportError as error:
        raise DataError("state dicts of PyTorch need PyTorch: pip install torch") from error
    try:
        return [
            {name: torch.from_numpy(np.array(array)) for name, array in member.items()}
            for member in members_of(data)
        ]
    except TypeError as error:
        raise DataError(f"not all draws can be tensors: {error}") from error


def _write(data: DrawsLike, path: Path) -> None:
    """Write draws as ``torch.save`` does, in the form in which they came.

    That is a list of state dicts, with one list for each chain if the source had that; a mapping
    of them if the members had names; stacked tensors if they came stacked.
    """
    import torch

    form = notes_of(data).get("form", STACKED)
    content: Any
    if form == STACKED:
        arrays = as_it_came(data).items()
        content = {name: torch.from_numpy(np.array(array)) for name, array in arrays}
    else:
        content = to_torch(data)
        if form == NAMED:
            content = dict(zip(member_names(data, len(content)), content, strict=True))
        elif sample_dims_of(notes_of(data)) == "chain draw":
            draws = len(content) // int(unpack(data)["posterior"].sizes["chain"])
            content = [content[start : start + draws] for start in range(0, len(content), draws)]
    with path.open("xb") as file:
        torch.save(content, file)


def _detect(path: Path, start: bytes) -> bool:
    names = names_in_archive(path, start)
    archive = any(name == "data.pkl" or name.endswith("/data.pkl") for name in names)
    return archive or start.startswith(_OLD_START)


def refuse_pickle(path: Path, start: bytes) -> None:
    """Raise FileError if a file, which no source knows, is a pickle."""
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise FileError(f"{path}: is a pickle, and {_UNSAFE}")


PYTORCH = Source(
    "PyTorch",
    _detect,
    _from_files,
    options=("sample_dims",),
    suffixes=(".pt", ".pth"),
    write=_write,
    needs=("torch", "torch"),
)
