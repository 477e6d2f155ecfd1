"""Records of alignments that were tampered with: the JSON, the elements, the draws beside them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr
from damage import damaged_bytes, damaged_json

Rng = np.random.Generator

_RECORD = "relabel"


def tamper(rng: Rng, path: Path) -> str:
    """Change the record of aligned draws in a netCDF file or Zarr store, or what it speaks of."""
    root = (
        zarr.open_group(path, mode="r+", use_consolidated=False)
        if path.is_dir()
        else h5py.File(path, "r+")
    )
    try:
        name = str(rng.choice(sorted(_WAYS)))
        return f"{name}: {_WAYS[name](rng, root)}"
    finally:
        if not path.is_dir():
            root.close()


def _group(rng: Rng, root: Any) -> Any:
    """Return the group of a record; most often that of the posterior."""
    warm = f"warmup_{_RECORD}"
    return root[warm] if warm in root and rng.random() < 0.2 else root[_RECORD]


def _json(rng: Rng, root: Any) -> str:
    group = _group(rng, root)
    group.attrs[_RECORD], what = damaged_json(rng, str(group.attrs[_RECORD]))
    return what


def _text(rng: Rng, root: Any) -> str:
    group = _group(rng, root)
    made, what = damaged_bytes(rng, str(group.attrs[_RECORD]).encode())
    group.attrs[_RECORD] = made.decode("latin1").replace("\x00", " ")
    return what


def _attribute(rng: Rng, root: Any) -> str:
    group = _group(rng, root)
    value = [None, 3, 0.5, "", "null", "[]", "{}", [1, 2, 3]][int(rng.integers(8))]
    if value is None:
        del group.attrs[_RECORD]
    else:
        group.attrs[_RECORD] = value
    return f"the attribute became {value!r}"


def _arrays(group: Any) -> list[str]:
    return sorted(name for name in group if hasattr(group[name], "shape") and group[name].shape)


def _elements(rng: Rng, root: Any) -> str:
    """Change numbers of the elements: out of range, twice the same, of two draws exchanged."""
    group = _group(rng, root)
    names = [name for name in _arrays(group) if name.endswith(("_index", "_factor", "_start"))]
    name = names[int(rng.integers(len(names)))] if names else _arrays(group)[0]
    array = group[name]
    values = np.asarray(array[...])
    at = tuple(int(rng.integers(size)) for size in values.shape)
    way = int(rng.integers(5))
    if way == 0 and values.ndim == 3:
        other = tuple(int(rng.integers(size)) for size in values.shape[:2])
        values[at[:2]], values[other] = values[other].copy(), values[at[:2]].copy()
        what = f"draws {at[:2]} and {other} exchanged"
    elif way == 1:
        values[...] = np.roll(values, 1, axis=-1)
        what = "rolled"
    else:
        new = [-1, 2, 10**6, 0, 0.5, np.nan, np.inf, -2.5][int(rng.integers(8))]
        new = new if values.dtype.kind == "f" else int(np.nan_to_num(new, posinf=99))
        values[at] = new
        what = f"{at} became {new}"
    array[...] = values
    return f"{name} {what}"


def _drop(rng: Rng, root: Any) -> str:
    """Delete a variable, or a whole group."""
    if rng.random() < 0.15:
        groups = sorted(name for name in root if not hasattr(root[name], "shape"))
        name = groups[int(rng.integers(len(groups)))]
        del root[name]
        return f"group {name} deleted"
    group = root["posterior"] if rng.random() < 0.5 else _group(rng, root)
    name = str(rng.choice(_arrays(group)))
    del group[name]
    return f"{group.name}/{name} deleted"


def _rename(rng: Rng, root: Any) -> str:
    group = root["posterior"] if rng.random() < 0.5 else _group(rng, root)
    name = str(rng.choice(_arrays(group)))
    new = f"{name}_2" if rng.random() < 0.7 else "other"
    if isinstance(group, zarr.Group):
        folder = Path(str(group.store_path.store.root)) / group.path
        shutil.move(folder / name, folder / new)
    else:
        group.move(name, new)
    return f"{group.name}/{name} became {new}"


def _draws(rng: Rng, root: Any) -> str:
    """Change the aligned values: one number, two draws exchanged, all in another order."""
    group = root["posterior"]
    names = [name for name in _arrays(group) if group[name].ndim > 2]
    way = int(rng.integers(3))
    if way == 0:
        name = str(rng.choice(names))
        values = np.asarray(group[name][...])
        at = tuple(int(rng.integers(size)) for size in values.shape)
        values[at] = values[at] + 1.5
        group[name][...] = values
        return f"{name}{at} became larger"
    order = np.arange(group[names[0]].shape[1])
    if way == 1:
        one, other = rng.choice(len(order), 2, replace=False)
        order[[one, other]] = order[[other, one]]
    else:
        rng.shuffle(order)
    for name in names:
        group[name][...] = np.asarray(group[name][...])[:, order]
    return f"draws of all variables in the order {order.tolist()}"


_WAYS: dict[str, Callable[[Rng, Any], str]] = {
    "json": _json,
    "json ": _json,
    "text": _text,
    "attribute": _attribute,
    "elements": _elements,
    "drop": _drop,
    "rename": _rename,
    "draws": _draws,
}
