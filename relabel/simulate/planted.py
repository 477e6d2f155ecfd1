"""Draws with planted symmetries, and the recovery of what was planted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel._util.validate import integer
from relabel.errors import SpecError
from relabel.groups import Group
from relabel.groups.elements import Element
from relabel.numerics.assignment import assign
from relabel.spec.spec import Spec
from relabel.spec.transformation import Transformation

__all__ = [
    "SWITCHING",
    "Simulated",
    "check_counts",
    "dataset_of",
    "random_element",
    "recovery",
    "shares_of",
]

Array = NDArray[Any]

#: Whether every draw has its own element, or every chain.
SWITCHING = ("draw", "chain")


@dataclass(frozen=True)
class Simulated:
    """Draws with planted symmetries.

    Attributes
    ----------
    data : DataTree
        The groups ``posterior`` (the draws, each under its own element), ``constant_data``
        (probe inputs ``X``) and ``truth`` (the weights about which all draws scatter).
    spec : Spec
        Units and axes of the draws.
    truth : dict of str to ndarray
        The true weights by variable.
    planted : Transformation
        Elements that were applied to the draws of `clean`; their inverse carries the draws back.
    clean : Dataset
        The draws before these elements were applied.
    """

    data: xr.DataTree
    spec: Spec
    truth: dict[str, Array]
    planted: Transformation
    clean: xr.Dataset


def recovery(
    found: Transformation | xr.Dataset | xr.DataTree, planted: Transformation
) -> dict[str, float]:
    """Compare the elements that were found with those that were planted.

    The elements that were found undo the planted ones up to one global relabelling, which nothing
    determines: ``found @ planted`` should be the same element for all draws. The share of slots
    refers to the element that agrees with most slots, the share of draws to the most frequent one.
    Scales are not compared, only units and signs.

    Parameters
    ----------
    found : Transformation, Dataset or DataTree
        Elements, or the group ``relabel`` of an alignment.
    planted : Transformation
        As in :class:`Simulated`.

    Returns
    -------
    dict of str to float
        For each set of units the share of slots with the right unit and sign, and as ``"draws"``
        the share of draws in which all slots of all sets are right.

    Raises
    ------
    SpecError
        If units were rotated; see :func:`recovery_of_loadings`.

    Examples
    --------
    >>> from relabel.simulate import network
    >>> planted = network((2, 3, 1), "tanh", chains=2, draws=5).planted
    >>> recovery(planted.inverse(), planted)
    {'h': 1.0, 'draws': 1.0}
    """
    if not isinstance(found, Transformation):
        stored = found.to_dataset() if isinstance(found, xr.DataTree) else found
        found = Transformation.from_dataset(stored, list(planted.elements))
    rotated = [u for u, g in found.elements.items() if g.mixes]
    if rotated:
        raise SpecError(
            f"recovery: {rotated[0]!r} were rotated, and labels cannot be compared one by one; use "
            "recovery_of_loadings"
        )
    return shares_of((found @ planted).elements)


def shares_of(elements: Mapping[str, Element]) -> dict[str, float]:
    """Return the share of slots, and of whole draws, in which elements agree with one element.

    For slots it is the element that agrees with most of them, which is an assignment; for draws
    the most frequent one. Scales are not compared.
    """
    shares: dict[str, float] = {}
    wholly = np.array(True)
    for units, element in elements.items():
        labels = element.labels()
        rows = labels.reshape(-1, element.size)
        kinds, counts = np.unique(rows, axis=0, return_counts=True)
        wholly = wholly & (labels == kinds[counts.argmax()]).all(axis=-1)
        cells = np.arange(element.size) * (2 * element.size) + rows  # slot, unit and sign
        table = np.bincount(cells.reshape(-1), minlength=2 * element.size**2) / len(rows)
        table = table.reshape(element.size, element.size, 2).max(axis=-1)
        chosen = assign(table[None])[0]
        shares[units] = float(table[np.arange(element.size), chosen].mean())
    return shares | {"draws": float(wholly.mean())}


def check_counts(**counts: Any) -> None:
    """Raise SpecError unless all of these are positive integers."""
    for name, value in counts.items():
        integer(name, value, low=1)


def dataset_of(arrays: Mapping[str, Array], lead: tuple[str, ...]) -> xr.Dataset:
    """Return a Dataset with dimensions that are named as by samplers: ``W1_dim_0``, ..."""
    variables = {}
    for name, values in arrays.items():
        core = tuple(f"{name}_dim_{i}" for i in range(values.ndim - len(lead)))
        variables[name] = ((*lead, *core), values)
    return xr.Dataset(variables)


def random_element(
    group: Group, batch: tuple[int, int], size: int, switching: str, rng: np.random.Generator
) -> Element:
    """Draw an element for every draw, or for every chain."""
    own = batch if switching == "draw" else (batch[0], 1)
    return group.random(own, size, rng).broadcast(*batch)
