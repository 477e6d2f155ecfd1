"""Elements that users give for all draws: read, checked, laid out one after another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.errors import DataError, SpecError
from relabel.groups.elements import Monomial
from relabel.matching.draws import Draws
from relabel.spec.spec import SAMPLE_DIMS

__all__ = ["given_elements"]

Array = NDArray[Any]


def given_elements(draws: Draws, index: Any, factor: Any) -> dict[str, Monomial]:
    """Return the elements of the draws that take part.

    Parameters
    ----------
    draws : Draws
    index, factor : ndarray, str, or mapping of units to such
        As :class:`relabel.criteria.Permutations` takes them; addresses are looked up in all groups
        of the data.

    Returns
    -------
    dict of str to Monomial
        Units -> elements of shape (draws, K).

    Raises
    ------
    SpecError
        If it is unclear which units an array is for, or arrays have another shape than the draws.
    DataError
        If what is given is no permutation, or no signs.
    """
    sizes = draws.resolved.sizes
    by_units = _by_units(index, sizes, "index")
    signs_by_units = _by_units(factor, sizes, "factor") if factor is not None else {}
    missing = [units for units in sizes if units not in by_units]
    if missing:
        raise SpecError(f"criterion permutations: there is no index for the units {missing[0]!r}")
    elements = {}
    for units, size in sizes.items():
        permutation = _index(_read(draws, by_units[units], size, "index"), size, units)
        signs = np.ones(permutation.shape)
        if signs_by_units.get(units) is not None:
            signs = _signs(_read(draws, signs_by_units[units], size, "factor"), draws, units)
        elements[units] = Monomial(permutation, signs)
    return elements


def _by_units(given: Any, sizes: Mapping[str, int], what: str) -> Mapping[str, Any]:
    """What is given for each set of units; one array stands for the only set."""
    if isinstance(given, Mapping):
        unknown = sorted(set(given) - set(sizes))
        if unknown:
            raise SpecError(
                f"criterion permutations: there are no units {unknown[0]!r}; there are "
                f"{', '.join(sizes)}"
            )
        return given
    if len(sizes) > 1:
        raise SpecError(
            f"criterion permutations: there are several sets of units ({', '.join(sizes)}); give "
            f"{what} as a table from units to arrays"
        )
    return dict.fromkeys(sizes, given)


def _read(draws: Draws, given: Any, size: int, what: str) -> Array:
    """An array, or a variable by its address, for the draws that take part: (draws, K)."""
    values = _variable(draws.beside, given, what) if isinstance(given, str) else np.asarray(given)
    expected = (*draws.excluded.shape, size)
    if values.shape != expected:
        raise SpecError(
            f"criterion permutations: {what} has the shape {values.shape}; it must be (chain, "
            f"draw, units) = {expected}"
        )
    rows: Array = values.reshape(-1, size)[draws.rows]
    return rows


def _variable(groups: Mapping[str, xr.Dataset], address: str, what: str) -> Array:
    group, _, name = address.rpartition("/")
    if group == "relabel":
        raise SpecError(
            f"criterion permutations: {address!r} holds how these draws have been relabelled "
            "already; to relabel other draws of the same chains alike, use relabel.apply"
        )
    found = [g for g, dataset in groups.items() if name in dataset and group in ("", g)]
    if len(found) != 1:
        state = f"is in the groups {', '.join(found)}" if found else "is not there"
        raise SpecError(
            f"criterion permutations: {what} {address!r} {state}; write it as group/name"
        )
    variable = groups[found[0]][name]
    if not set(SAMPLE_DIMS) <= set(variable.dims):
        raise SpecError(f"criterion permutations: {address!r} has no dimensions chain and draw")
    values: Array = variable.transpose(*SAMPLE_DIMS, ...).values
    return values


def _index(values: Array, size: int, units: str) -> Array:
    """Check that every row is a permutation of 0 to K - 1."""
    wrong = (np.sort(values, axis=1) != np.arange(size)).any(axis=1)
    if wrong.any():
        row = values[int(wrong.argmax())].tolist()
        from_one = sorted(row) == list(range(1, size + 1))
        remedy = "; they count from 1: subtract 1" if from_one else ""
        raise DataError(
            f"criterion permutations: the index of {units!r} is no permutation of 0 to {size - 1} "
            f"in {int(wrong.sum())} of {len(values)} draws, as in {row}{remedy}"
        )
    return values.astype(np.intp)


def _signs(values: Array, draws: Draws, units: str) -> Array:
    """Check that factors are signs, and that the units have them."""
    if not (np.abs(values) == 1).all():
        raise DataError(
            f"criterion permutations: the factor of {units!r} holds other numbers than 1 and -1; "
            "scales are fixed by the gauge, so leave them out"
        )
    if (values < 0).any() and not draws.resolved.group(units).signs:
        raise DataError(
            f"criterion permutations: the factor of {units!r} changes signs, which these units "
            f"({draws.resolved.spec.units[units]}) do not have"
        )
    return values.astype(float)
