"""Which components of a mixture have any observations: the number of those that are not empty."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel.diagnostics.kernels.widths import Widths
from relabel.matching.draws import Draws
from relabel.numerics.labels import checked_labels, checked_probabilities
from relabel.spec.spec import ResolvedVariable
from relabel.spec.variables import SAMPLE_DIMS

__all__ = ["Occupancy", "named_by", "occupancy", "probable"]

Array = NDArray[Any]

_BLOCK = 2**22  # entries of the temporary arrays of one block
_EMPTY = np.log(0.5)  # log probability from which a component counts as empty


@dataclass(frozen=True)
class Occupancy(Widths):
    """Which slots are empty in which draws.

    Attributes
    ----------
    eliminated : ndarray of bool, shape (draws, K)
        Whether no observation belongs to the slot.
    how : str
        The variables that show it.
    """

    eliminated: Array
    how: str

    @property
    def spare(self) -> list[int]:
        """Slots that are empty in more than half of the draws.

        All of them, whatever the width: an empty slot is seen, and none can stand in for another.
        """
        return [int(slot) for slot in np.flatnonzero(self.eliminated.mean(axis=0) > 0.5)]


def occupancy(draws: Draws) -> dict[str, Occupancy]:
    r"""Find the components that are not empty, for every set of units whose allocations are known.

    Allocations are labels that the spec names in `values`. Without them, allocation probabilities
    are looked at: variables of the group ``allocation``, or named like probabilities, that carry
    the units once beside other axes and add up to one over them. As the observations are
    independent given a draw, its component *k* is empty with the probability
    :math:`\prod_i (1 - p_{ik})`, and counts as empty where that is above one half.

    Parameters
    ----------
    draws : Draws

    Returns
    -------
    dict of str to Occupancy
        Sets of units without allocations are left out.

    Raises
    ------
    DataError
        If labels or probabilities are not what they should be.

    References
    ----------
    Malsiner-Walli, G., Frühwirth-Schnatter, S. & Grün, B. (2016). Model-based clustering based on
    sparse finite Gaussian mixtures. *Statistics and Computing* 26, 303-324 (the number of
    components that are not empty). https://doi.org/10.1007/s11222-014-9500-2
    """
    found = {}
    for units, size in draws.resolved.sizes.items():
        labels = [v for v in draws.resolved.variables if v.labels_of == units]
        chances = [] if labels else list(_allocations(draws, units))
        occupied = np.zeros((len(draws.rows), size), dtype=bool)
        for variable in labels:
            values = checked_labels(_rows(draws, variable), size, variable.address, units)
            occupied |= named_by(values, size)
        for variable, values in chances:
            occupied |= probable(checked_probabilities(values, variable.address))
        used = ", ".join(v.address for v in [*labels, *(v for v, _ in chances)])
        if used:
            found[units] = Occupancy(~occupied, f"by {'labels' if labels else 'chances'}, {used}")
    return found


def named_by(labels: Array, n_units: int) -> Array:
    """Find the units that occur among the labels of each draw; missing labels are -1.

    Examples
    --------
    >>> named_by(np.array([[0, 0, 2], [-1, 1, 1]]), 3)
    array([[ True, False,  True],
           [False,  True, False]])
    """
    found = np.zeros((len(labels), n_units + 1), dtype=bool)
    for rows in _blocks(labels.shape):
        part = labels[rows].astype(np.intp)
        found[np.arange(len(labels))[rows, None], part] = True
    return found[:, :-1]


def probable(prob: Array) -> Array:
    """Find the components that are not empty, more probably than not, (draws, K).

    Parameters
    ----------
    prob : ndarray of shape (draws, n, K)
        Allocation probabilities; NaN where they are missing.

    Examples
    --------
    >>> probable(np.array([[[0.7, 0.3, 0.0], [0.6, 0.3, 0.1]]]))
    array([[ True,  True, False]])
    """
    found = np.empty((len(prob), prob.shape[2]), dtype=bool)
    with np.errstate(divide="ignore"):
        for rows in _blocks(prob.shape):
            away = np.log1p(-np.clip(prob[rows].astype(float), 0, 1))
            found[rows] = np.nansum(away, axis=1) < _EMPTY
    return found


def _blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Rows of draws that are worked on at once."""
    step = max(1, _BLOCK // max(1, int(np.prod(shape[1:]))))
    for start in range(0, shape[0], step):
        yield slice(start, start + step)


def _allocations(draws: Draws, units: str) -> Iterator[tuple[ResolvedVariable, Array]]:
    """Variables that hold allocation probabilities, with their values (draws, n, K)."""
    for variable in draws.resolved.variables:
        carried = variable.unit_axes()
        named = variable.group == "allocation" or "prob" in variable.name.lower()
        if not named or len(variable.axes) < 2 or [u for _, u, _ in carried] != [units]:
            continue
        values = _rows(draws, variable).reshape(-1, *variable.shape)
        values = np.moveaxis(values, carried[0][0] + 1, -1)
        values = values.reshape(len(values), -1, values.shape[-1])
        first = values[0]
        if np.allclose(first[~np.isnan(first).any(axis=1)].sum(axis=1), 1, atol=1e-2):
            yield variable, values


def _rows(draws: Draws, variable: ResolvedVariable) -> Array:
    """Values of the draws that take part, (draws, everything else)."""
    values = variable.chosen(draws.groups[variable.group][variable.name])
    flat = values.transpose(*SAMPLE_DIMS, ...).values.reshape(draws.excluded.size, -1)
    return flat[draws.rows] if draws.excluded.any() else flat
