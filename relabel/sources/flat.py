"""One flat vector of parameters for each draw: split by a layout, and joined again."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.data.containers import DrawsLike
from relabel.errors import DataError
from relabel.sources.base import Source
from relabel.sources.failures import check_file, reading
from relabel.sources.members import STACKED, noted
from relabel.sources.npz import read_array
from relabel.sources.pytrees import ALONE, flatten, path_notes
from relabel.sources.samples import (
    as_array,
    as_it_came,
    leading_dims,
    notes_of,
    samples_of,
    tree_of,
)

__all__ = ["NPY", "from_npy", "ravel", "unravel"]

Array = NDArray[Any]
Shapes = dict[tuple[Any, ...], tuple[int, ...]]


def unravel(theta: Any, layout: Any, *, sample_dims: str | None = None) -> xr.DataTree:
    """Split flat parameter vectors into named arrays.

    Parameters
    ----------
    theta : array of shape (..., d), or path-like
        One vector of d numbers for each draw; a path is that of a ``.npy`` file. Entries of an
        array are in C order, as all libraries join them.
    layout : mapping, module or pytree
        Names and shapes of the arrays, in one of these forms:

        * a mapping from name to shape, in the order of the vector (it may be nested);
        * a module of PyTorch, or a mapping from name to tensor such as
          ``dict(model.named_parameters())``: the order of
          ``torch.nn.utils.parameters_to_vector``. A ``state_dict()`` of a network with buffers
          (BatchNorm) has more entries than that;
        * any other pytree of arrays: the order of ``jax.flatten_util.ravel_pytree``, in which
          dictionaries are sorted by key.
    sample_dims : str, optional
        The leading axes: ``"draw"``, ``"chain draw"``, ``"draw chain"``, or ``""`` for one vector.
        By default a matrix is ``"draw"``, a vector ``""``.

    Returns
    -------
    DataTree
        :func:`ravel` joins it again.

    Raises
    ------
    DataError
        If the sizes do not add up to d, or the leading axes are not clear.

    Examples
    --------
    >>> theta = np.arange(2 * 100 * 33.0).reshape(2, 100, 33)
    >>> tree = unravel(theta, {"W1": (3, 8), "b1": 8, "b2": 1}, sample_dims="chain draw")
    >>> tree["posterior/W1"].shape
    (2, 100, 3, 8)
    >>> bool((ravel(tree) == theta).all())
    True
    """
    label = "unravel"
    if isinstance(theta, str | os.PathLike):
        label, theta = str(theta), read_npy(Path(theta))
    theta = as_array(theta, ALONE, label)
    order = _order(theta, sample_dims, label)
    if theta.ndim != len(order) + 1:
        raise DataError(
            f"{label}: the vectors must have the axes ({' '.join(order)}) and one of parameters, "
            f"{len(order) + 1} in all, but the shape is {theta.shape}"
        )
    shapes = _shapes(layout)
    sizes = [math.prod(shape) for shape in shapes.values()]
    if sum(sizes) != theta.shape[-1]:
        raise DataError(
            f"{label}: the layout has {sum(sizes)} numbers ({_shown(shapes)}), but the vectors "
            f"have {theta.shape[-1]}"
        )
    parts = np.split(theta, np.cumsum(sizes)[:-1], axis=-1)
    names = ["/".join(map(str, path)) or ALONE for path in shapes]
    if len(set(names)) < len(names):
        raise DataError(f"{label}: two arrays of the layout have one name: {', '.join(names)}")
    samples = {
        name: part.reshape((*theta.shape[:-1], *shape))
        for name, part, shape in zip(names, parts, shapes.values(), strict=True)
    }
    notes = {name: path_notes(path) for name, path in zip(names, shapes, strict=True)}
    tree = tree_of(samples, source=label, sample_dims=" ".join(order), attrs=notes)
    return noted(tree, source="flat", form=STACKED, layout=json.dumps(names))


def _order(theta: Array, sample_dims: str | None, label: str) -> tuple[str, ...]:
    if theta.ndim == 0:
        raise DataError(f"{label}: parameters must be a vector, not a single number")
    if sample_dims is None and theta.ndim <= 2:
        sample_dims = ("", "draw")[theta.ndim - 1]
    return leading_dims({ALONE: theta}, sample_dims, label)


def _shown(shapes: Shapes) -> str:
    parts = [f"{'/'.join(map(str, path))} {shape}" for path, shape in list(shapes.items())[:4]]
    return ", ".join(parts) + (", ..." if len(shapes) > 4 else "")


def _shapes(layout: Any) -> Shapes:
    """Path -> shape, in the order of the vector."""
    if hasattr(layout, "named_parameters"):
        layout = dict(layout.named_parameters())
    written = list(_written_shapes(layout, ())) if isinstance(layout, Mapping) else []
    if written and all(shape is not None for _, shape in written):
        return {path: shape for path, shape in written if shape is not None}
    if isinstance(layout, Mapping) and any(hasattr(v, "data_ptr") for v in layout.values()):
        return {(name,): tuple(value.shape) for name, value in layout.items()}
    shapes = {path: tuple(np.shape(leaf)) for path, leaf in flatten(layout).items()}
    if not shapes:
        raise DataError("the layout is empty; give a mapping from name to shape")
    return shapes


def _written_shapes(
    layout: Any, path: tuple[Any, ...]
) -> Iterator[tuple[Any, tuple[int, ...] | None]]:
    """Yield path and shape where a layout gives shapes as numbers, else path and None."""
    if isinstance(layout, Mapping):
        for name, item in layout.items():
            yield from _written_shapes(item, (*path, name))
    elif _is_size(layout):
        yield path, (int(layout),)
    elif isinstance(layout, tuple | list) and all(map(_is_size, layout)):
        yield path, tuple(map(int, layout))
    else:
        yield path, None


def _is_size(item: Any) -> bool:
    """Whether this can be the size of an axis."""
    return isinstance(item, int | np.integer) and bool(item >= 0)


def ravel(data: DrawsLike) -> Array:
    """Join the arrays of every draw to one vector, in the order of the layout.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset
        Draws from :func:`unravel`; all variables of other draws are joined in their order.

    Returns
    -------
    array of shape (..., d)
        With the leading axes of the source. Values are those of the draws, bit for bit.

    Raises
    ------
    DataError
        If a variable of the layout is missing, or dtypes differ.

    Examples
    --------
    >>> ravel(unravel(np.arange(6.0), {"w": (2, 2), "b": 2}))
    array([0., 1., 2., 3., 4., 5.])
    """
    samples = as_it_came(data)
    kept = notes_of(data).get("layout")
    names = json.loads(str(kept)) if kept else list(samples)
    missing = [name for name in names if name not in samples]
    if missing or not names:
        raise DataError(f"the draws lack {missing[0]!r}" if missing else "there are no variables")
    dtypes = {samples[name].dtype for name in names}
    if len(dtypes) > 1:
        raise DataError(
            f"the variables have the dtypes {', '.join(sorted(map(str, dtypes)))}, and one vector "
            "has one dtype; convert them first"
        )
    lead = _lead(data)
    flat = [samples[name].reshape(*samples[name].shape[:lead], -1) for name in names]
    return np.concatenate(flat, axis=-1)


def _lead(data: DrawsLike) -> int:
    """Number of leading axes of the arrays of `as_it_came`."""
    inside, outside = next(iter(samples_of(data).values())), next(iter(as_it_came(data).values()))
    return 2 - (inside.ndim - outside.ndim)


def from_npy(
    path: str | os.PathLike[str], *, layout: Any = None, sample_dims: str | None = None
) -> xr.DataTree:
    """Read draws from a ``.npy`` file.

    Parameters
    ----------
    path : path-like
    layout : optional
        As for :func:`unravel`. Without it the draws are one variable, ``theta``.
    sample_dims : str, optional
        As for :func:`unravel`.

    Returns
    -------
    DataTree

    Raises
    ------
    FileError
        If the file is damaged, or holds objects.
    DataError
        If the sizes do not add up, or the leading axes are not clear.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder) / "draws.npy", np.zeros((100, 9)))
    ...     tree = from_npy(Path(folder) / "draws.npy", layout={"w": (2, 4), "b": 1})
    >>> tree["posterior/w"].shape
    (1, 100, 2, 4)
    """
    theta = read_npy(Path(path))
    if layout is not None:
        return unravel(theta, layout, sample_dims=sample_dims)
    order = _order(theta, sample_dims, str(path))
    tree = tree_of({ALONE: theta}, source=str(path), sample_dims=" ".join(order))
    return noted(tree, source="npy", form=STACKED)


def read_npy(path: Path) -> Array:
    """Read one array; objects are refused."""
    check_file(path)
    with reading(path, ".npy"), path.open("rb") as file:
        return read_array(file, path.stat().st_size, "the array")


def _write(data: DrawsLike, path: Path) -> None:
    """Write one vector for each draw, or the only variable as it is."""
    samples = as_it_came(data)
    if "layout" not in notes_of(data) and len(samples) != 1:
        raise DataError(
            f"a .npy file holds one array, and there are {len(samples)} variables; write .npz"
        )
    array = ravel(data) if "layout" in notes_of(data) else next(iter(samples.values()))
    with path.open("xb") as file:
        np.lib.format.write_array(file, array, allow_pickle=False)


def _detect(_path: Path, start: bytes) -> bool:
    return start.startswith(b"\x93NUMPY")


def _read(paths: Sequence[Path], **options: Any) -> xr.DataTree:
    return from_npy(paths[0], **options)


NPY = Source(
    ".npy",
    _detect,
    _read,
    options=("sample_dims", "layout"),
    separate="join their arrays with np.stack",
    suffixes=(".npy",),
    write=_write,
)
