"""Flax: nested dictionaries in msgpack, read without Flax; checkpoints of Orbax."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xarray as xr
from numpy.typing import NDArray

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
    single,
    split_members,
)
from relabel.sources.pytrees import nested, path_notes, paths_of
from relabel.sources.samples import as_it_came, notes_of

__all__ = ["from_flax", "is_orbax", "read_msgpack", "read_orbax", "write_msgpack"]

Array = NDArray[Any]
Leaves = dict[tuple[str, ...], Any]

# The extension types of flax.serialization.
_ARRAY, _SCALAR = 1, 3


def from_flax(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *, axes: str | None = None
) -> xr.DataTree:
    """Read parameters that Flax saved: msgpack files, or checkpoints of Orbax.

    Parameters
    ----------
    source : path-like, or sequence of path-like
        Several files or checkpoints, or a folder of them, are members. One holds stacked arrays,
        or a dictionary (or what Flax makes of a list) of members. Of a whole training state only
        ``params`` and ``batch_stats`` are taken. msgpack needs the package msgpack, a checkpoint
        the package orbax-checkpoint; neither needs Flax. Other objects are given to
        :func:`relabel.sources.from_pytree`.
    axes : str, optional
        The leading axes of stacked arrays; ``""`` says that the file is a single member.

    Returns
    -------
    DataTree
        Keys are joined by ``.`` in the names of variables, by ``/`` in ``source_name``.

    Raises
    ------
    FileError
        If a file is damaged, or the package that reads it is missing.
    DataError
        If members differ, an array is of half precision, or it is not clear what the axes are.

    References
    ----------
    The extension types of arrays: https://flax.readthedocs.io (flax.serialization)

    Examples
    --------
    >>> tree = from_flax("ensemble.msgpack", axes="draw")  # doctest: +SKIP
    """
    paths = as_paths(source, is_orbax)
    read = [_weights(read_orbax(p) if is_orbax(p) else read_msgpack(p)) for p in paths]
    if len(paths) > 1:
        label = f"{paths[0]} and {len(paths) - 1} more"
        flat = [_named(leaves, label) for leaves in read]
        names, notes = [path.stem for path in paths], _notes(read[0])
        tree = from_members(flat, source=label, names=names, attrs=notes)
        return noted(tree, source="flax")
    return noted(_from_one(read[0], str(paths[0]), axes), source="flax")


def _from_one(leaves: Leaves, label: str, axes: str | None) -> xr.DataTree:
    found = split_members(_named(leaves, label), label) if axes is None else None
    if found is None:
        tree = noted(single(_named(leaves, label), label, axes), form=STACKED)
        return _with_paths(tree, leaves)
    names, members, _ = found
    below = {path[1:]: leaf for path, leaf in leaves.items()}
    return from_members(members, source=label, names=names, form=NAMED, attrs=_notes(below))


def _with_paths(tree: xr.DataTree, leaves: Leaves) -> xr.DataTree:
    notes = _notes(leaves)
    for variable in tree["posterior"].data_vars.values():
        variable.attrs.update(notes[str(variable.attrs["source_name"])])
    return tree


def _named(leaves: Leaves, label: str) -> dict[str, Any]:
    named = {"/".join(path): leaf for path, leaf in leaves.items()}
    if len(named) < len(leaves):
        raise DataError(f"{label}: two arrays have one name when their keys are joined by '/'")
    return named


def _notes(leaves: Leaves) -> dict[str, dict[str, str]]:
    return {"/".join(path): path_notes(path) for path in leaves}


def _weights(tree: Any) -> Leaves:
    """The parameters of a tree by their paths; of a training state, without its optimizer."""
    if "params" in tree and "opt_state" in tree:
        tree = {key: tree[key] for key in ("params", "batch_stats") if tree.get(key)}
    return dict(_walk(tree, ()))


def _walk(tree: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(tree, Mapping):
        for key, item in tree.items():
            yield from _walk(item, (*path, str(key)))
    elif isinstance(tree, list | tuple):
        for number, item in enumerate(tree):
            yield from _walk(item, (*path, str(number)))
    elif tree is not None:
        yield path, tree


# ---------------------------------------------------------------------- msgpack


def read_msgpack(path: Path) -> dict[str, Any]:
    """Read one file that ``flax.serialization`` wrote, as nested dictionaries.

    Raises
    ------
    FileError
        If it is no such file, is damaged, or the package msgpack is missing.
    """
    msgpack = _msgpack(str(path))
    try:
        tree = msgpack.unpackb(path.read_bytes(), ext_hook=_unpacked, strict_map_key=False)
        tree = _unchunked(tree)
    except (ValueError, TypeError, OSError, KeyError, RecursionError, msgpack.UnpackException) as e:
        raise FileError(
            f"{path}: cannot be read as msgpack of Flax; it is damaged or was cut short: {e}"
        ) from e
    if not isinstance(tree, dict) or not tree:
        raise FileError(f"{path}: msgpack, but no dictionary of parameters, as Flax writes it")
    return tree


def _msgpack(label: str) -> Any:
    try:
        import msgpack
    except ImportError as error:
        raise FileError(f"{label}: msgpack needs the package: pip install msgpack") from error
    return msgpack


@dataclass(frozen=True)
class _Unknown:
    """Stands for an array that NumPy has no dtype for, and which is refused by its name."""

    dtype: str
    shape: tuple[int, ...]


def _unpacked(code: int, data: bytes) -> Any:
    """An array, or a scalar of NumPy: its shape, the name of its dtype, its bytes."""
    if code not in (_ARRAY, _SCALAR):
        raise ValueError(f"a value of the unknown type {code}")
    shape, name, buffer = _msgpack("").unpackb(data)
    if "float16" in name or "float8" in name:
        return _Unknown(name, tuple(shape))
    return np.frombuffer(buffer, dtype=np.dtype(name)).reshape(shape)


def _unchunked(tree: Any) -> Any:
    """Put together arrays that Flax cut because msgpack holds no more than 2³⁰ bytes in one."""
    if not isinstance(tree, dict):
        return tree
    if "__msgpack_chunked_array__" not in tree:
        return {key: _unchunked(item) for key, item in tree.items()}
    shape = [tree["shape"][str(i)] for i in range(len(tree["shape"]))]
    return np.concatenate([tree["chunks"][str(i)] for i in range(len(tree["chunks"]))]).reshape(
        shape
    )


_CHUNK = 2**30


def write_msgpack(data: Any, file: BinaryIO) -> None:
    """Write draws to an open file as ``flax.serialization.to_bytes`` does.

    Members are a dictionary from their names to nested dictionaries; draws that came stacked are
    nested dictionaries of stacked arrays.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset
    file : binary file
    """
    paths = paths_of(data)
    tree: Any
    if notes_of(data).get("form") in (MEMBERS, NAMED):
        members = members_of(data)
        names = member_names(data, len(members))
        tree = {name: _nest(member, paths) for name, member in zip(names, members, strict=True)}
    else:
        tree = _nest(as_it_came(data), paths)
    packer = _msgpack("writing").Packer(default=_packed, strict_types=True)
    file.write(packer.pack(_chunked(tree)))


def _nest(arrays: Mapping[str, Array], paths: Mapping[str, tuple[Any, ...]]) -> Any:
    return nested({tuple(map(str, paths[name])): array for name, array in arrays.items()})


def _chunked(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _chunked(item) for key, item in tree.items()}
    if tree.nbytes <= _CHUNK:
        return tree
    step = _CHUNK // tree.itemsize
    flat = tree.reshape(-1)
    parts = [flat[start : start + step] for start in range(0, flat.size, step)]
    return {
        "__msgpack_chunked_array__": True,
        "shape": {str(i): size for i, size in enumerate(tree.shape)},
        "chunks": {str(i): part for i, part in enumerate(parts)},
    }


def _packed(array: Array) -> Any:
    msgpack = _msgpack("writing")
    content = (array.shape, array.dtype.name, array.tobytes())
    return msgpack.ExtType(_ARRAY, msgpack.packb(content, use_bin_type=True))


# ---------------------------------------------------------------------- Orbax

_ORBAX = ("_CHECKPOINT_METADATA", "_METADATA", "manifest.ocdbt")


def is_orbax(folder: Path) -> bool:
    """Whether a folder is a checkpoint of Orbax."""
    return folder.is_dir() and any((folder / name).exists() for name in _ORBAX)


def read_orbax(folder: Path) -> Any:
    """Read a checkpoint as nested dictionaries of arrays of NumPy.

    Raises
    ------
    FileError
        If it is damaged, or orbax-checkpoint is missing.
    """
    try:
        import jax
        import orbax.checkpoint as ocp
    except ImportError as error:
        raise FileError(
            f"{folder}: a checkpoint of Orbax needs Orbax: pip install orbax-checkpoint; or save "
            "the parameters with flax.serialization.to_bytes, for which msgpack is enough"
        ) from error
    inner = [path for path in (folder / "default", folder / "params", folder) if is_params(path)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            checkpointer = ocp.PyTreeCheckpointer()
            place = inner[0].resolve()
            about = checkpointer.metadata(place).item_metadata.tree
            options = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), about)
            return checkpointer.restore(place, restore_args=options)
    except Exception as error:
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise FileError(f"{folder}: cannot be read as a checkpoint of Orbax: {text}") from error


def is_params(folder: Path) -> bool:
    """Whether a folder holds the arrays of a checkpoint, not only a step of it."""
    return (folder / "_METADATA").exists() or (folder / "manifest.ocdbt").exists()
