"""What tells the slots apart: the log odds that each variable brings, from fitted normals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel.matching.criteria.base import Reference
from relabel.matching.features import Layout

__all__ = ["Separation", "separation_of"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Separation:
    """How far one set of units is told apart, and by what.

    Attributes
    ----------
    variables : tuple of str
    log_odds : ndarray of shape (K, variables)
        Expected log odds, in nats, of the labels as they are against the ones that are hardest to
        tell from them: this slot's unit exchanged with that of another slot, or of the other sign.
        Those of all variables add up to the log odds of all.
    rival : ndarray of int, shape (K,)
        The slot that each is hardest to tell from; the slot itself where that is the other sign.
    """

    variables: tuple[str, ...]
    log_odds: Array
    rival: Array


def separation_of(reference: Reference, layout: Layout, units: str) -> Separation:
    r"""Return what tells the slots of one set apart, under normals that were fitted to them.

    Two slots with means *m*, *m'* and variances *v*, *v'* are exchanged at the expected cost

    .. math:: \tfrac12 \Bigl[\frac{v'}{v} + \frac{v}{v'} - 2
              + (m - m')^2 \Bigl(\frac1v + \frac1{v'}\Bigr)\Bigr]

    in nats, summed over the features of a variable; a change of sign costs :math:`2 m^2 / v` for
    each feature that flips. Arrays that are shared with other sets count with the labels of those
    held fixed.

    Parameters
    ----------
    reference : Reference
        Of :class:`relabel.criteria.Normal` with diagonal covariances.
    layout : Layout
    units : str
    """
    costs: dict[str, Array] = {}
    for name, cost in (*_own(reference, layout, units), *_shared(reference, layout, units)):
        costs[name] = costs[name] + cost if name in costs else cost
    size = layout.sizes[units]
    if not costs:
        return Separation((), np.zeros((size, 0)), np.arange(size))
    whole = np.stack(list(costs.values()), axis=-1)
    total = whole.sum(axis=-1)
    if not layout.groups[units].signs:
        total[np.diag_indices(size)] = np.inf
    rival = total.argmin(axis=1) if size > 1 or layout.groups[units].signs else np.arange(size)
    return Separation(tuple(costs), whole[np.arange(size), rival], rival)


def _own(reference: Reference, layout: Layout, units: str) -> list[tuple[str, Array]]:
    """Costs (K, K) of each own feature, by its variable; of a change of sign on the diagonal."""
    mean, precision = reference.own[units], reference.precision[units]
    ratio = precision[:, None] / precision[None]
    apart = (mean[:, None] - mean[None]) ** 2
    cost = 0.5 * (ratio + 1 / ratio - 2 + apart * (precision[:, None] + precision[None]))
    here = np.arange(len(mean))
    cost[here, here] = np.where(layout.signed(units), 2 * mean**2 * precision, 0.0)
    return [(column.variable, cost[:, :, i]) for i, column in enumerate(layout.columns[units])]


def _shared(reference: Reference, layout: Layout, units: str) -> list[tuple[str, Array]]:
    """Likewise of the arrays that the set shares with others (or with itself)."""
    found = []
    for number, pair in enumerate(layout.pairs):
        for side in (0, 1):
            if pair.units[side] != units:
                continue
            mean = np.moveaxis(reference.pairs[number], side, 0).reshape(layout.sizes[units], -1)
            weight = reference.pair_weight[number]
            cost = 2 * weight * ((mean[:, None] - mean[None]) ** 2).sum(axis=2)
            here = np.arange(len(mean))
            cost[here, here] = 4 * weight * (mean**2).sum(axis=1) if pair.signed[side] else 0.0
            found.append((pair.variable, cost))
    return found
