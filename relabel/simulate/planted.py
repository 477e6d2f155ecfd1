"""Draws with planted symmetries, and how much of what was planted is found again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.errors import SpecError
from relabel.groups import Group
from relabel.groups.elements import Element
from relabel.numerics.assignment import assign
from relabel.spec.spec import Spec
from relabel.spec.transformation import Transformation

__all__ = ["Simulated", "dataset_of", "random_element", "recovery", "shares_of"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Simulated:
    """Draws with planted symmetries.

    Attributes
    ----------
    data : DataTree
        The groups ``posterior`` (the draws, each under its own element), ``constant_data``
        (probe inputs ``X``) and ``truth`` (the weights all draws scatter about).
    spec : Spec
        Units and axes of the draws.
    truth : dict of str to ndarray
        The true weights by variable.
    planted : Transformation
        What was applied to each draw of `clean`; its inverse carries the draws back.
    clean : Dataset
        The draws before anything was applied to them.
    """

    data: xr.DataTree
    spec: Spec
    truth: dict[str, Array]
    planted: Transformation
    clean: xr.Dataset


def recovery(
    found: Transformation | xr.Dataset | xr.DataTree, planted: Transformation
) -> dict[str, float]:
    """Compare the elements that were found with those that had been planted.

    What was found undoes what was planted up to one global relabelling, which nothing determines:
    ``found @ planted`` should be the same element for all draws. For the share of slots it is the
    element that agrees with most slots, for the share of draws the most frequent one. Scales are
    not compared, only units and signs.

    Parameters
    ----------
    found : Transformation, or the group ``relabel`` of an alignment
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
    """Share of slots, and of whole draws, in which elements are what one element says.

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


def dataset_of(arrays: Mapping[str, Array], lead: tuple[str, ...]) -> xr.Dataset:
    """Name the dimensions as samplers do by default: ``W1_dim_0``, ..."""
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
