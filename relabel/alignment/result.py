"""The groups of the result: relabelled values, and the record of how they came about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

import xarray as xr
from numpy.typing import NDArray

from relabel.alignment.provenance import (
    stored_elements,
)
from relabel.data.containers import sharing
from relabel.errors import SpecError
from relabel.spec.spec import SAMPLE_DIMS, Bound
from relabel.spec.transformation import Transformation

__all__ = ["transformed"]

Array = NDArray[Any]
Data = TypeVar("Data")


def transformed(
    groups: Mapping[str, xr.Dataset],
    prefix: str,
    bound: Bound,
    transformation: Transformation,
    own: xr.Dataset,
    notes: dict[str, Any],
) -> dict[str, xr.Dataset | None]:
    """Changed groups of the result: the relabelled ones, and the record, composed if need be."""
    shared = sharing(groups, prefix)
    fresh = transformation.apply(shared, bound)
    changed: dict[str, xr.Dataset | None] = {
        f"{prefix}{group}": dataset
        for group, dataset in fresh.items()
        if dataset is not shared[group]
    }
    if f"{prefix}relabel" in groups:
        spec, done = stored_elements(groups, prefix)
        if spec != bound.resolved():
            raise SpecError(
                "these draws were aligned before under another spec, and the two cannot be "
                "composed; undo the first (relabel.undo), then align"
            )
        transformation = transformation @ done
        earlier = json.loads(groups[f"{prefix}relabel"].attrs["relabel"])
        notes["earlier"] = {k: v for k, v in earlier.items() if k not in ("diagnosis", "added")}
    stored = own.assign(transformation.to_dataset().data_vars)
    if transformation.offsets is not None:
        notes["offsets"] = list(transformation.offsets.values)
    coords = {d: shared["posterior"][d] for d in SAMPLE_DIMS if d in shared["posterior"].coords}
    stored = stored.assign_coords(coords)
    stored.attrs = {"relabel": json.dumps(notes)}
    changed[f"{prefix}relabel"] = stored
    return changed
