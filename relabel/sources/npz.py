"""NumPy's ``.npz`` files, and plain dictionaries of arrays of any library."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.errors import FileError
from relabel.sources.members import (
    MEMBERS,
    NAMED,
    STACKED,
    as_paths,
    from_members,
    noted,
    prefixed,
    split_members,
)
from relabel.sources.samples import as_it_came, notes_of, tree_of

__all__ = ["OBJECTS", "UNREADABLE", "from_dict", "from_npz", "read_npz", "to_dict", "write_npz"]

Array = NDArray[Any]

#: What NumPy raises for a damaged file, or one that promises more than there is memory for.
UNREADABLE = (
    ValueError,
    OSError,
    EOFError,
    KeyError,
    TypeError,
    RuntimeError,
    OverflowError,
    MemoryError,
)

#: What NumPy says of an array that only a pickle could load.
OBJECTS = "allow_pickle=False"


def from_dict(samples: Mapping[str, Any], *, axes: str | None = None) -> xr.DataTree:
    """Lay out a plain dictionary of draws.

    Parameters
    ----------
    samples : mapping of str to array
        Name -> draws, as arrays of NumPy, JAX, PyTorch or TensorFlow.
    axes : str, optional
        The leading axes: ``"chain draw"``, ``"draw chain"`` or ``"draw"``. By default they are
        told from the shapes; where that is not clear, this is an error.

    Returns
    -------
    DataTree

    Raises
    ------
    DataError
        If arrays disagree about the draws, or are no real numbers of single precision at least.

    Examples
    --------
    >>> tree = from_dict({"mu": np.zeros((100, 4, 3))}, axes="draw chain")
    >>> dict(tree["posterior"].sizes)
    {'chain': 4, 'draw': 100, 'mu_dim_0': 3}
    """
    return noted(tree_of(samples, source="dictionary", axes=axes), form=STACKED)


def to_dict(data: Any) -> dict[str, Array]:
    """Return draws as a plain dictionary, with the names and leading axes of their source.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset

    Returns
    -------
    dict of str to array

    Examples
    --------
    >>> to_dict(from_dict({"mu": np.zeros((100, 4, 3))}, axes="draw chain"))["mu"].shape
    (100, 4, 3)
    """
    return as_it_came(data)


def from_npz(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *, axes: str | None = None
) -> xr.DataTree:
    """Read draws from ``.npz`` files, one for all draws or one for each member.

    Parameters
    ----------
    source : path-like, or sequence of path-like
        One file holds stacked arrays, or all members under names such as ``member_00.0.weight``.
        Several files, or a folder of them, are members.
    axes : str, optional
        The leading axes of stacked arrays, as for :func:`from_dict`; ``""`` for a single draw.

    Returns
    -------
    DataTree

    Raises
    ------
    FileError
        If a file is damaged, or holds objects, which only a pickle could load.
    DataError
        If arrays disagree, or members differ.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "draws.npz"
    ...     np.savez(path, mu=np.zeros((4, 100, 3)))
    ...     dict(from_npz(path, axes="chain draw")["posterior"].sizes)
    {'chain': 4, 'draw': 100, 'mu_dim_0': 3}
    """
    paths = as_paths(source)
    read = [read_npz(path) for path in paths]
    if len(paths) > 1:
        label = f"{paths[0]} and {len(paths) - 1} more"
        tree = from_members(read, source=label, names=[path.stem for path in paths])
        return noted(tree, source="npz")
    label = str(paths[0])
    found = split_members(read[0], label) if axes is None else None
    if found is None:
        return noted(tree_of(read[0], source=label, axes=axes), source="npz", form=STACKED)
    names, members, separator = found
    tree = from_members(members, source=label, names=names, form=NAMED)
    return noted(tree, source="npz", separator=separator)


def read_npz(path: Path) -> dict[str, Array]:
    """Read all arrays of one file; objects are refused."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            names = archive.files
            arrays = {name: archive[name] for name in names}
    except FileNotFoundError as error:
        raise FileError(f"{path}: no such file or folder") from error
    except (*UNREADABLE, zipfile.BadZipFile, zlib.error) as error:
        if OBJECTS in str(error):
            raise FileError(
                f"{path}: holds an array of objects, which is a pickle, and a pickle runs code "
                "when it is loaded; load it yourself in Python, where you trust it, and save "
                "arrays of numbers"
            ) from error
        raise FileError(
            f"{path}: cannot be read as .npz; it is damaged or was cut short: {error}"
        ) from error
    if len(arrays) < len(names):
        raise FileError(f"{path}: two of its arrays have the same name")
    return arrays


def write_npz(data: Any, file: BinaryIO) -> None:
    """Write draws to an open file, in the form in which they came.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset
    file : binary file
    """
    members = notes_of(data).get("form") in (MEMBERS, NAMED)
    arrays = prefixed(data, ".") if members else as_it_came(data)
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)
