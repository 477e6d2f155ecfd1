"""PyTorch: lists of state dicts, stacked tensors, modules, files of weights; and back."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xarray as xr

from relabel.errors import DataError, FileError
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
from relabel.sources.safetensors import from_safetensors, is_safetensors
from relabel.sources.samples import as_it_came, check_names, notes_of, tree_of

__all__ = ["UNSAFE", "from_torch", "load_weights", "to_state_dicts", "write_torch"]

#: What wrappers put before every name of a state dict: DataParallel, torch.compile.
_PREFIXES = ("module.", "_orig_mod.")

#: Where checkpoints keep the weights, beside an optimizer and the like.
_WEIGHTS = ("state_dict", "model_state_dict", "model_state", "model", "module", "net", "weights")

#: Why a pickle is refused, and the way round it.
UNSAFE = (
    "a pickle runs code when it is loaded; load it yourself in Python, where you trust it, and "
    "save the weights with safetensors.torch.save_file or torch.save(model.state_dict(), path)"
)


def from_torch(source: Any, *, axes: str | None = None) -> xr.DataTree:
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
          chain, or a folder of them. They are loaded with ``weights_only=True``: no code of
          theirs is run. Files of safetensors are taken as well.

        State dicts may lie in the usual checkpoints (``{"state_dict": ...}``), and a list of them
        alone in a dictionary (``{"state_dicts": [...]}``).
    axes : str, optional
        The leading axes of stacked tensors: ``"draw"``, ``"chain draw"``, ``"draw chain"``. By
        default they are told from the shapes. A file with stacked tensors needs it.

    Returns
    -------
    DataTree
        Names are those of the state dicts. The prefixes ``module.`` (DataParallel) and
        ``_orig_mod.`` (torch.compile) are left out where all names have them, and are put back by
        :func:`to_state_dicts`. Integers such as ``num_batches_tracked`` come along.

    Raises
    ------
    DataError
        If members differ in names, shapes, dtypes or devices, are of half precision, or are one
        and the same live model.
    FileError
        If a file cannot be read, or would have to run code.

    Examples
    --------
    >>> members = [{"0.weight": np.zeros((8, 3))}, {"0.weight": np.ones((8, 3))}]  # or tensors
    >>> tree = from_torch(members)
    >>> dict(tree["posterior"].sizes)
    {'chain': 1, 'draw': 2, '0.weight_dim_0': 8, '0.weight_dim_1': 3}
    """
    if isinstance(source, str | os.PathLike) or _are_paths(source):
        paths = as_paths(source)
        if all(is_safetensors(path) for path in paths):
            return from_safetensors(paths, axes=axes)
        return _from_files(paths, axes)
    if _is_module(source):
        raise DataError("torch: one module is one draw; give a list of modules")
    if _is_pair(source):
        return _from_stacked({**source[0], **source[1]}, axes or "draw", "torch")
    if _is_state_dict(source):
        return _from_stacked(source, axes, "torch")
    return _from_object(source, axes, "torch")


def _is_pair(source: Any) -> bool:
    """Whether these are stacked parameters and buffers, which no two members are."""
    pair = isinstance(source, tuple) and len(source) == 2 and _is_state_dict(source[0])
    return pair and isinstance(source[1], Mapping) and not set(source[0]) & set(source[1])


def _are_paths(source: Any) -> bool:
    listed = isinstance(source, list | tuple) and len(source) > 0
    return listed and all(isinstance(item, str | os.PathLike) for item in source)


def _from_files(paths: list[Path], axes: str | None) -> xr.DataTree:
    loaded = [_unwrapped(load_weights(path), str(path)) for path in paths]
    if len(paths) > 1:
        label = f"{paths[0]} and {len(paths) - 1} more"
        kinds = {isinstance(item, Mapping) for item in loaded}
        if len(kinds) > 1:
            raise DataError(f"{label}: some files hold one member and others several")
        names = [path.stem for path in paths] if kinds.pop() else None
        return _from_object(loaded, None, label, names)
    if _is_state_dict(loaded[0]) and axes is not None:
        return _from_stacked(loaded[0], axes, str(paths[0]))
    only = [loaded[0]] if _is_state_dict(loaded[0]) else loaded[0]
    return _from_object(only, axes, str(paths[0]))


def load_weights(path: Path) -> Any:
    """Load a file that ``torch.save`` wrote, without running code of it.

    Raises
    ------
    FileError
        If PyTorch is missing, the file cannot be read, or holds more than weights.
    """
    try:
        import torch
    except ImportError as error:
        raise FileError(
            f"{path}: reading a file of PyTorch needs PyTorch: pip install torch; or save the "
            "weights as .safetensors, which needs nothing"
        ) from error
    from pickle import UnpicklingError

    try:
        _check_sums(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f" ({found[1]})" if found else ""
        raise FileError(f"{path}: holds more than weights{what}: {UNSAFE}") from error
    except Exception as error:  # of a damaged file PyTorch raises almost anything
        if "TorchScript" in str(error):
            raise FileError(f"{path}: is a TorchScript program, not weights: {UNSAFE}") from error
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise FileError(
            f"{path}: cannot be read as a file of PyTorch; it is damaged or was cut short: {text}"
        ) from error


def _check_sums(path: Path) -> None:
    """Refuse an archive with damaged bytes, which PyTorch would load: it looks at no checksums."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"the checksum of {damaged} is wrong")


def _from_stacked(tensors: Mapping[str, Any], axes: str | None, label: str) -> xr.DataTree:
    _check_devices([tensors], label)
    prefix = _prefix(tensors)
    plain = {name.removeprefix(prefix): value for name, value in tensors.items()}
    tree = tree_of(plain, source=label, axes=axes, attrs=_source_names(plain, prefix))
    return noted(tree, source="torch", form=STACKED)


def _from_object(
    source: Any, axes: str | None, label: str, names: list[str] | None = None
) -> xr.DataTree:
    """Lay out a list of members, a list of such lists, or a mapping of them."""
    source, form = _unwrapped(source, label), MEMBERS
    if axes is not None:
        raise DataError(f"{label}: axes={axes!r} is for stacked tensors; here each draw is its own")
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
    """Refuse a mapping whose values are no members: other things of a checkpoint, or chains."""
    for key, item in members.items():
        if isinstance(item, Mapping) or _is_module(item):
            continue
        kind = type(item).__name__
        if not _are_members(item):
            raise DataError(
                f"{label}: {key!r} holds a {kind}, no state dict; leave it out, or give the state "
                "dicts as a list"
            )
        raise DataError(
            f"{label}: {key!r} holds a {kind} of {len(item)}, where one state dict is expected; "
            "chains are a list of lists of state dicts, as in list(source.values())"
        )


def _unwrapped(source: Any, label: str) -> Any:
    """Take the weights out of a checkpoint, and a file's mapping of stacked tensors as it is."""
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
    """Whether this is a list of members, as ``{"state_dicts": [...]}`` holds, or one of chains."""
    if not isinstance(item, list | tuple) or not item:
        return False
    return all(isinstance(i, Mapping) or _is_module(i) or _are_members(i) for i in item)


def _check_only_network(checkpoint: Mapping[str, Any], key: str, label: str) -> None:
    """Refuse a checkpoint that holds other weights beside those under `key`."""
    others = [name for name, inner in checkpoint.items() if name != key and _is_state_dict(inner)]
    if others:
        shown = ", ".join(map(repr, [key, *others[:3]]))
        raise DataError(
            f"{label}: holds several networks ({shown}); give the state dict of the one that is "
            f"meant, as in checkpoint[{key!r}], or a list of state dicts if they are members"
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
                f"{label}: {odd[0]!r} is a {kind}, no tensor: take it out of the state dict"
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
    """What wrappers put before all names."""
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
    """Refuse tensors on several devices, and those without values."""
    devices: dict[str, str] = {}
    for number, member in enumerate(members):
        for name, value in member.items():
            device = str(getattr(value, "device", "cpu"))
            devices.setdefault(device, f"{name!r} of member {number}")
    if len(devices) > 1 or "meta" in devices:
        shown = ", ".join(f"{what} on {device!r}" for device, what in list(devices.items())[:3])
        raise DataError(
            f"{label}: tensors must lie on one device and have values, but {shown}; move all to "
            "cpu first, as in {name: value.cpu() for name, value in state_dict.items()}"
        )


def _check_alive(members: Sequence[Mapping[str, Any]], label: str) -> None:
    """Refuse a list that holds the tensors of one live model many times."""
    places = {
        tuple(value.data_ptr() for value in member.values() if hasattr(value, "data_ptr"))
        for member in members
    }
    if len(members) > 1 and len(places) == 1 and any(places.pop()):
        raise DataError(
            f"{label}: all members are the same tensors in memory: state_dict() gives views of the "
            "live model; keep copies, as in copy.deepcopy(model.state_dict())"
        )


def to_state_dicts(data: Any) -> list[dict[str, Any]]:
    """Return one state dict for each draw, chains one after the other.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset
        Draws from :func:`from_torch`, or any others; all variables of the posterior go along.

    Returns
    -------
    list of dict of str to torch.Tensor
        Names (prefixes of wrappers included), their order, dtypes and values are those of the
        draws; the tensors are copies.

    Raises
    ------
    DataError
        If PyTorch is missing, or has no dtype for an array.

    Examples
    --------
    >>> states = to_state_dicts(from_torch(members))  # doctest: +SKIP
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


def write_torch(data: Any, file: BinaryIO) -> None:
    """Write draws to an open file, as ``torch.save`` does and in the form in which they came.

    That is a list of state dicts, with one list for each chain if the source had that; a mapping
    of them if the members had names; stacked tensors if they came stacked.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset
    file : binary file
    """
    import torch

    form = notes_of(data).get("form", STACKED)
    if form == STACKED:
        arrays = as_it_came(data).items()
        torch.save({name: torch.from_numpy(np.array(array)) for name, array in arrays}, file)
        return
    states: Any = to_state_dicts(data)
    if form == NAMED:
        states = dict(zip(member_names(data, len(states)), states, strict=True))
    elif notes_of(data).get("sample_axes") == "chain draw":
        draws = len(states) // _chains(data)
        states = [states[start : start + draws] for start in range(0, len(states), draws)]
    torch.save(states, file)


def _chains(data: Any) -> int:
    from relabel.data.containers import unpack

    return int(unpack(data)["posterior"].sizes["chain"])
