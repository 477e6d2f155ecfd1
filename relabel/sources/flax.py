"""Flax: nested dictionaries in msgpack, read without Flax, and checkpoints of Orbax."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.data.containers import DrawsLike
from relabel.errors import DataError, FileError
from relabel.sources.base import Source
from relabel.sources.failures import check_file, package, reading
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
from relabel.sources.samples import Unreadable, as_it_came, notes_of

__all__ = ["MSGPACK", "ORBAX", "from_flax", "read_msgpack", "read_orbax"]

Array = NDArray[Any]
Leaves = dict[tuple[str, ...], Any]

# The extension types of flax.serialization.
_ARRAY, _SCALAR = 1, 3

_DTYPE = re.compile("[a-z]+[0-9]*(_?[a-z0-9]+)*")  # as in float32, float8_e4m3fn

_INSTALL = '"posterior-relabel[flax]"'


def from_flax(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    sample_dims: str | None = None,
) -> xr.DataTree:
    """Read parameters saved by Flax: msgpack files, or checkpoints of Orbax.

    Parameters
    ----------
    source : path-like, or sequence of path-like
        Several files or checkpoints, or a folder of them, are members. One holds stacked arrays,
        or a dictionary (or a list, as Flax writes it) of members. Of a whole training state only
        ``params`` and ``batch_stats`` are read. msgpack needs the package msgpack, a checkpoint
        the package orbax-checkpoint; neither needs Flax. Objects in memory are read by
        :func:`relabel.sources.from_pytree`.
    sample_dims : str, optional
        The leading axes of stacked arrays; ``""`` means that the file is a single member.

    Returns
    -------
    DataTree
        Keys are joined by ``.`` in the names of variables, by ``/`` in ``source_name``.

    Raises
    ------
    FileError
        If a file is damaged, or the package that reads it is missing.
    DataError
        If members differ, an array has half precision, or the leading axes are not clear.

    References
    ----------
    The extension types of arrays: https://flax.readthedocs.io (flax.serialization)

    Examples
    --------
    >>> tree = from_flax("ensemble.msgpack", sample_dims="draw")  # doctest: +SKIP
    """
    paths = as_paths(source, _is_orbax)
    trees = [read_orbax(path) if _is_orbax(path) else read_msgpack(path) for path in paths]
    return _from_trees(trees, paths, sample_dims)


def _from_trees(
    trees: Sequence[Any], paths: Sequence[Path], sample_dims: str | None
) -> xr.DataTree:
    """Lay the trees of one or several files out as draws."""
    read = [_weights(tree) for tree in trees]
    if len(paths) > 1:
        label = f"{paths[0]} and {len(paths) - 1} more"
        flat = [_named(leaves, label) for leaves in read]
        names, notes = [path.stem for path in paths], _notes(read[0])
        tree = from_members(flat, source=label, names=names, attrs=notes)
        return noted(tree, source="flax")
    return noted(_from_one(read[0], str(paths[0]), sample_dims), source="flax")


def _from_one(leaves: Leaves, label: str, sample_dims: str | None) -> xr.DataTree:
    found = split_members(_named(leaves, label), label) if sample_dims is None else None
    if found is None:
        tree = noted(single(_named(leaves, label), label, sample_dims), form=STACKED)
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
    """Read one file of ``flax.serialization`` as nested dictionaries.

    Raises
    ------
    FileError
        If it is not such a file, is damaged, or the package msgpack is missing.
    """
    msgpack = package("msgpack", _INSTALL, f"{path}: msgpack")
    check_file(path)
    with reading(path, "msgpack of Flax"):
        tree = msgpack.unpackb(path.read_bytes(), ext_hook=_unpacked, strict_map_key=False)
        tree = _unchunked(tree)
    if not isinstance(tree, dict) or not tree:
        raise FileError(f"{path}: msgpack, but not a dictionary of parameters, as Flax writes it")
    return tree


def _unpacked(code: int, data: bytes) -> Any:
    """Return an array or a scalar from its shape, the name of its dtype, and its bytes."""
    import msgpack

    if code not in (_ARRAY, _SCALAR):
        raise ValueError(f"a value of the unknown type {code}")
    shape, name, buffer = msgpack.unpackb(data)
    if not (isinstance(name, str) and _DTYPE.fullmatch(name)):
        raise ValueError(f"an array of the unknown dtype {name!r}")
    if "float16" in name or "float8" in name:
        return Unreadable(name, tuple(shape))
    return np.frombuffer(buffer, dtype=np.dtype(name)).reshape(shape)


def _unchunked(tree: Any) -> Any:
    """Join arrays that Flax split, because one value of msgpack holds at most 2³⁰ bytes."""
    if not isinstance(tree, dict):
        return tree
    if "__msgpack_chunked_array__" not in tree:
        return {key: _unchunked(item) for key, item in tree.items()}
    shape = [tree["shape"][str(i)] for i in range(len(tree["shape"]))]
    return np.concatenate([tree["chunks"][str(i)] for i in range(len(tree["chunks"]))]).reshape(
        shape
    )


_CHUNK = 2**30


def _write(data: DrawsLike, path: Path) -> None:
    """Write draws as ``flax.serialization.to_bytes`` does.

    Members are a dictionary from their names to nested dictionaries; draws that came stacked are
    nested dictionaries of stacked arrays.
    """
    msgpack = package("msgpack", _INSTALL, "msgpack")
    paths = paths_of(data)
    tree: Any
    if notes_of(data).get("form") in (MEMBERS, NAMED):
        members = members_of(data)
        names = member_names(data, len(members))
        tree = {name: _nest(member, paths) for name, member in zip(names, members, strict=True)}
    else:
        tree = _nest(as_it_came(data), paths)
    packer = msgpack.Packer(default=_packed, strict_types=True)
    with path.open("xb") as file:
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
    import msgpack

    content = (array.shape, array.dtype.name, array.tobytes())
    return msgpack.ExtType(_ARRAY, msgpack.packb(content, use_bin_type=True))


def _detect_msgpack(_path: Path, start: bytes) -> bool:
    """Whether a map begins whose first key is a string, as Flax writes it."""
    if not start:
        return False
    skip = {0xDE: 3, 0xDF: 5}.get(start[0], 1 if 0x81 <= start[0] <= 0x8F else 0)
    key = start[skip : skip + 1]
    return skip > 0 and key != b"" and (0xA0 <= key[0] <= 0xBF or 0xD9 <= key[0] <= 0xDB)


# ---------------------------------------------------------------------- Orbax

_MARKS = ("_CHECKPOINT_METADATA", "_METADATA", "manifest.ocdbt")


def _is_orbax(folder: Path) -> bool:
    """Whether a folder is a checkpoint of Orbax."""
    return folder.is_dir() and any((folder / name).exists() for name in _MARKS)


def read_orbax(folder: Path) -> Any:
    """Read a checkpoint as nested dictionaries of arrays of NumPy.

    Raises
    ------
    FileError
        If it is damaged, or orbax-checkpoint is missing.
    """
    install = "orbax-checkpoint (or save with flax.serialization.to_bytes, for msgpack alone)"
    ocp = package("orbax.checkpoint", install, f"{folder}: a checkpoint of Orbax")
    import jax

    inner = [path for path in (folder / "default", folder / "params", folder) if _is_params(path)]
    with reading(folder, "a checkpoint of Orbax"), _quiet_orbax():
        checkpointer = ocp.PyTreeCheckpointer()
        place = inner[0].resolve()
        about = checkpointer.metadata(place).item_metadata.tree
        options = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), about)
        return checkpointer.restore(place, restore_args=options)


@contextmanager
def _quiet_orbax() -> Iterator[None]:
    """Keep Orbax's messages about its own files from the user."""
    log = logging.getLogger("absl")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _is_params(folder: Path) -> bool:
    """Whether a folder holds the arrays of a checkpoint, not only a step of it."""
    return (folder / "_METADATA").exists() or (folder / "manifest.ocdbt").exists()


def _reader(read: Callable[[Path], Any]) -> Callable[..., xr.DataTree]:
    """Return a reader of files that are all of one format."""

    def read_files(paths: Sequence[Path], *, sample_dims: str | None = None) -> xr.DataTree:
        return _from_trees([read(path) for path in paths], paths, sample_dims)

    return read_files


MSGPACK = Source(
    "msgpack",
    _detect_msgpack,
    _reader(read_msgpack),
    options=("sample_dims",),
    suffixes=(".msgpack",),
    write=_write,
    needs=("msgpack", _INSTALL),
)

ORBAX = Source(
    "Orbax",
    lambda path, _: _is_orbax(path),
    _reader(read_orbax),
    options=("sample_dims",),
    folder=True,
)
