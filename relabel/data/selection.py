"""Entries of a dimension by their labels, as ArviZ's option ``coords`` names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel._util.text import join
from relabel.errors import SpecError
from relabel.spec.arrays import closest

__all__ = ["positions_of"]


def positions_of(
    dataset: xr.Dataset, coords: Mapping[str, Any] | None, sizes: Mapping[str, int] | None = None
) -> dict[str, NDArray[np.intp]]:
    """Return which entries of some dimensions are selected.

    Parameters
    ----------
    dataset : Dataset
        Its coordinates hold the labels; a dimension without a coordinate is labelled 0, 1, ...
    coords : mapping of str to object, optional
        Dimension -> a label, a list of labels, or a slice of labels (both ends included).
    sizes : mapping of str to int, optional
        Further dimensions and their sizes, labelled 0, 1, ...: sets of units.

    Returns
    -------
    dict of str to ndarray of int
        Dimension -> positions, in the order of the labels that are given.

    Raises
    ------
    SpecError
        If a dimension or a label is unknown; the message names those that are known.

    Examples
    --------
    >>> draws = xr.Dataset({"mu": ("school", [1.0, 2.0, 3.0])}, {"school": ["A", "B", "C"]})
    >>> positions_of(draws, {"school": ["C", "A"]})
    {'school': array([2, 0])}
    >>> positions_of(draws, {"school": slice("B", "C"), "h": 1}, {"h": 2})
    {'school': array([1, 2]), 'h': array([1])}
    """
    if coords is not None and not isinstance(coords, Mapping):
        raise SpecError(f"coords must be a table from dimensions to labels, not {coords!r}")
    known = {**(sizes or {}), **{str(dim): size for dim, size in dataset.sizes.items()}}
    found = {}
    for dim, wanted in (coords or {}).items():
        if dim not in known:
            raise SpecError(
                f"coords: there is no dimension {dim!r}{closest(str(dim), known)}; there are "
                f"{join(known)}"
            )
        numbers = np.arange(known[dim])
        labelled = xr.DataArray(numbers, {dim: dataset.indexes.get(dim, numbers)}, [dim])
        given = wanted if isinstance(wanted, slice) else np.atleast_1d(np.asarray(wanted)).tolist()
        try:
            found[dim] = np.atleast_1d(labelled.sel({dim: given}).values)
        except (KeyError, TypeError) as error:
            raise SpecError(
                f"coords: {dim!r} has no label {_missing(labelled, dim, given)}; its labels are "
                f"{join(labelled[dim].values.tolist())}"
            ) from error
        if not found[dim].size:
            raise SpecError(f"coords: {wanted!r} selects nothing of {dim!r}")
    return found


def _missing(labelled: xr.DataArray, dim: str, given: Any) -> str:
    """Return the first label that there is not."""
    labels = labelled[dim].values.tolist()
    several = given if isinstance(given, list) else [given]
    return repr(next((label for label in several if label not in labels), given))
