"""Checks of allocations and their probabilities: labels from 0 to K-1, rows that add up to one.

A *label* names the unit of an observation. A missing one is -1 in integers, and NaN in floats that
otherwise hold integers (as xarray reads integers with a fill value).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from relabel.errors import DataError

__all__ = [
    "MISSING",
    "Labels",
    "check_range",
    "checked_labels",
    "checked_probabilities",
    "labels_in",
    "moved_labels",
]

Array = NDArray[Any]

#: The label of what has none.
MISSING = -1

_BLOCK = 2**20  # entries looked at in one go
_TOLERANCE = 1e-2  # of a sum of probabilities; five that are rounded to 3 digits sum to 0.998


class Labels(NamedTuple):
    """Lowest and highest label (None if all are missing), and a value that is not a label."""

    lowest: int | None
    highest: int | None
    odd: float | None = None


def labels_in(values: Array) -> Labels:
    """Find the range of labels, leaving out missing ones.

    Parameters
    ----------
    values : ndarray
        Of an integer, bool or float dtype.

    Returns
    -------
    Labels
        `odd` is one of the values that are not integers, if there is any.

    Examples
    --------
    >>> labels_in(np.array([2.0, np.nan, 0.0]))
    Labels(lowest=0, highest=2, odd=None)
    >>> labels_in(np.array([-1, 1], "int8"))
    Labels(lowest=1, highest=1, odd=None)
    """
    lows, highs = [], []
    for part in _blocks(values):
        block = part[~np.isnan(part)] if part.dtype.kind == "f" else part
        if block.dtype.kind == "f":
            odd = block[~np.isfinite(block) | (block != np.rint(block))]
            if odd.size:
                return Labels(None, None, float(odd[0]))
        if block.size and block.dtype.kind != "u" and block.min() == MISSING:
            block = block[block != MISSING]
        if block.size:
            lows.append(int(block.min()))
            highs.append(int(block.max()))
    return Labels(min(lows), max(highs)) if lows else Labels(None, None)


def checked_labels(values: Array, n_units: int, address: str, units: str = "component") -> Array:
    """Return labels as integers, missing ones as -1; raise DataError if they are not sound.

    Parameters
    ----------
    values : ndarray
        Labels of any shape: integers with -1 for missing, bools, or floats that hold integers, with
        NaN for missing.
    n_units : int
        Number of units, K.
    address : str
        Name of the variable, for messages.
    units : str
        Name of the units, for messages.

    Returns
    -------
    ndarray of int
        Of the same shape. Integers are returned as they are, not copied.

    Raises
    ------
    DataError
        If a label is not an integer or lies outside 0 to K-1; labels that look 1-based are
        recognised.

    Examples
    --------
    >>> checked_labels(np.array([0.0, np.nan, 1.0]), 2, "allocation/z")
    array([ 0, -1,  1], dtype=int32)
    >>> checked_labels(np.array([1, 2, 2]), 2, "allocation/z")
    Traceback (most recent call last):
    ...
    relabel.errors.DataError: allocation/z holds labels from 1 to 2, but 'component' has 2 units, \
labelled 0 to 1: they look 1-based; subtract one (labels - 1)
    """
    values = np.asarray(values)
    if values.dtype.kind not in "iubf":
        raise DataError(f"{address} holds labels and cannot be of the dtype {values.dtype}")
    check_range(labels_in(values), n_units, address, units)
    if values.dtype.kind == "b":
        return values.view(np.int8)
    if values.dtype.kind != "f":
        return values
    labels = np.empty(values.shape, np.int32)
    np.copyto(labels, np.where(np.isnan(values), MISSING, values), casting="unsafe")
    return labels


def check_range(found: Labels, n_units: int, address: str, units: str) -> None:
    """Raise DataError unless all labels name units.

    Raises
    ------
    DataError
        See :func:`checked_labels`.
    """
    if found.odd is not None:
        raise DataError(
            f"{address} holds {found.odd:g}, but labels of {units!r} must be integers from 0 to "
            f"{n_units - 1}, NaN where they are missing"
        )
    if found.lowest is None or found.highest is None:
        return
    if found.lowest >= 0 and found.highest < n_units:
        return
    message = (
        f"{address} holds labels from {found.lowest} to {found.highest}, but {units!r} has "
        f"{n_units} units, labelled 0 to {n_units - 1}"
    )
    if found.lowest >= 1 and found.highest == n_units:
        raise DataError(f"{message}: they look 1-based; subtract one (labels - 1)")
    remedy = "number them from 0" if found.highest >= n_units else "mark missing labels by -1"
    raise DataError(f"{message}; {remedy}, or declare another number of units")


def moved_labels(labels: Array, new_label: Array, address: str, units: str = "component") -> Array:
    """Replace every label by the slot that its unit has moved to; missing ones stay missing.

    Parameters
    ----------
    labels : ndarray of shape (..., *core)
        As for :func:`checked_labels`.
    new_label : ndarray of int, shape (..., K)
        Of every draw, the slot of every unit.
    address, units : str
        For messages.

    Returns
    -------
    ndarray
        Of the shape and dtype of `labels`.

    Examples
    --------
    >>> moved_labels(np.array([[0, 1, 2, -1]]), np.array([[2, 0, 1]]), "z")
    array([[ 2,  0,  1, -1]])
    """
    n_units = new_label.shape[-1]
    checked = checked_labels(labels, n_units, address, units)
    core_size = int(np.prod(labels.shape[new_label.ndim - 1 :], dtype=int))
    integers = checked.reshape(-1, core_size)
    # a column for the missing: the index -1 finds it
    dtype = np.int8 if labels.dtype.kind == "b" else labels.dtype
    table = np.empty((len(integers), n_units + 1), dtype)
    table[:, :-1] = new_label.reshape(-1, n_units)
    table[:, -1] = 0 if labels.dtype.kind in "ub" else MISSING
    moved = np.empty(integers.shape, labels.dtype)
    step = max(1, _BLOCK // max(1, integers.shape[1]))
    for start in range(0, len(integers), step):
        rows = slice(start, start + step)
        moved[rows] = np.take_along_axis(table[rows], integers[rows].astype(np.intp), axis=1)
    result: Array = moved.reshape(labels.shape)
    if labels.dtype.kind == "f":
        result[np.isnan(labels)] = np.nan
    return result


def checked_probabilities(
    values: Array, address: str, *, first: int = 0, tolerance: float = _TOLERANCE
) -> Array:
    """Return allocation probabilities as they are; raise DataError if they are not sound.

    Probabilities must be finite, not negative, and add up to one over the components. A row may be
    missing: NaN for all components. Zero probabilities are fine. The array is not copied.

    Parameters
    ----------
    values : ndarray of shape (..., n, K)
        Probabilities of the K components for n observations, the draws first.
    address : str
        Name of the variable, for messages.
    first : int, default 0
        Number of the first draw, for messages.
    tolerance : float, default 1e-2
        Largest distance of a sum from one: float32, and text files of few digits, are not exact.

    Returns
    -------
    ndarray
        `values` itself.

    Raises
    ------
    DataError
        Naming the draw, the observation and the sum.

    Examples
    --------
    >>> p = np.array([[[0.2, 0.8], [1.0, 0.0]]])
    >>> checked_probabilities(p, "allocation/prob") is p
    True
    >>> checked_probabilities(2 * p, "allocation/prob")
    Traceback (most recent call last):
    ...
    relabel.errors.DataError: allocation/prob: the probabilities of observation 0 in draw 0 add \
up to 2, not to one; divide them by their sum over components (the last axis)
    """
    if values.ndim < 2 or values.dtype.kind not in "iubf":
        raise DataError(
            f"{address} must hold numbers, with the axes observation and component; it has the "
            f"shape {values.shape} and the dtype {values.dtype}"
        )
    if values.ndim == 2:
        _check_block(values[None], address, (), 0, tolerance, named=False)
        return values
    step = max(1, _BLOCK // max(1, values.shape[-1] * values.shape[-2]))
    for lead in np.ndindex(values.shape[:-3]):
        part = values[lead]
        for start in range(0, len(part), step):
            _check_block(part[start : start + step], address, lead, first + start, tolerance)
    return values


def _check_block(
    block: Array,
    address: str,
    lead: tuple[int, ...],
    start: int,
    tolerance: float,
    *,
    named: bool = True,
) -> None:
    """Raise DataError unless the probabilities of some draws, (draws, n, K), are sound."""
    if not block.size:
        return
    sums = block @ np.ones(block.shape[-1], np.result_type(block.dtype, np.float32))
    if block.min() >= 0 and np.abs(sums - 1).max() <= tolerance:
        return
    nan = np.isnan(block)
    wrong = ~(np.abs(sums - 1) <= tolerance) | (block < 0).any(axis=-1)
    wrong &= ~nan.all(axis=-1)
    if not wrong.any():
        return
    row, i = np.argwhere(wrong)[0]
    draw = ", ".join(map(str, (*lead, start + row)))
    draw = f"({draw})" if lead else draw
    where = f"observation {i}" + (f" in draw {draw}" if named else "")
    entries = block[row, i]
    if nan[row, i].any():
        raise DataError(
            f"{address}: some probabilities of {where} are NaN; a row is missing as a whole (NaN "
            "for all components) or not at all"
        )
    if (entries < 0).any():
        raise DataError(
            f"{address}: a probability of {where} is {entries.min():g}; probabilities are not "
            "negative (exponentiate logarithms first)"
        )
    if not entries.any():
        raise DataError(
            f"{address}: the probabilities of {where} are all zero, so that it belongs to no "
            "component: if they are missing, make them NaN for all components; if their "
            "exponentials underflowed, subtract the largest logarithm first"
        )
    raise DataError(
        f"{address}: the probabilities of {where} add up to {sums[row, i]:g}, not to one; divide "
        "them by their sum over components (the last axis)"
    )


def _blocks(values: Array) -> Iterator[Array]:
    """Yield flat parts of an array, which is never copied as a whole."""
    if not values.ndim or values.flags.c_contiguous:
        flat = values.reshape(-1)
        for start in range(0, flat.size, _BLOCK):
            yield flat[start : start + _BLOCK]
    else:
        for part in values:
            yield from _blocks(part)
