"""What tells the slots apart: the log odds that each variable brings, from fitted normals."""

from __future__ import annotations

from collections.abc import Iterator
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
        tell from them: this slot's unit exchanged with that of another slot (as they are, or with
        both signs changed), or of the other sign. Those of all variables add up to the log odds of
        all.
    rival : ndarray of int, shape (K,)
        The slot that each is hardest to tell from; the slot itself where that is the other sign.
    """

    variables: tuple[str, ...]
    log_odds: Array
    rival: Array

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: for every slot its rival, and the log odds by variable."""
        rows = zip(self.rival.tolist(), self.log_odds.tolist(), strict=True)
        return {
            "variables": list(self.variables),
            "slots": [{"rival": rival, "log_odds": row} for rival, row in rows],
        }


def separation_of(reference: Reference, layout: Layout, units: str) -> Separation:
    r"""Return what tells the slots of one set apart, under normals that were fitted to them.

    Two slots with means *m*, *m'* and variances *v*, *v'* are exchanged at the expected cost

    .. math:: \tfrac12 \Bigl[\frac{v'}{v} + \frac{v}{v'} - 2
              + (m - m')^2 \Bigl(\frac1v + \frac1{v'}\Bigr)\Bigr]

    in nats, summed over the features of a variable; where both change their signs, features that
    flip have :math:`m + m'` in it. A change of sign costs :math:`2 m^2 / v` for each feature that
    flips. Arrays that are shared with other sets count with the labels of those
    held fixed.

    Parameters
    ----------
    reference : Reference
        Of :class:`relabel.criteria.Normal` with diagonal covariances.
    layout : Layout
    units : str
    """
    size, signs = layout.sizes[units], layout.groups[units].signs
    costs: dict[str, Array] = {}
    for name, cost in (*_own(reference, layout, units), *_shared(reference, layout, units)):
        costs[name] = costs[name] + cost if name in costs else cost
    if not costs or (size == 1 and not signs):
        return Separation(tuple(costs), np.zeros((size, len(costs))), np.arange(size))
    whole = np.stack(list(costs.values()), axis=-1)
    whole[1] /= 1 + np.eye(size)[:, :, None]  # one slot changes its sign, not two
    total = whole.sum(axis=-1)
    total[0][np.diag_indices(size)] = np.inf
    if not signs:
        total[1] = np.inf
    sign, rival = np.divmod(total.swapaxes(0, 1).reshape(size, -1).argmin(axis=1), size)
    return Separation(tuple(costs), whole[sign, np.arange(size), rival], rival)


def _own(reference: Reference, layout: Layout, units: str) -> Iterator[tuple[str, Array]]:
    """Yield variables and the costs of exchanges by their own features; see :func:`_exchanged`."""
    mean, precision = reference.own[units], reference.precision[units]
    signed = layout.signed(units)
    centred = mean - np.where(signed, 0.0, mean.mean(axis=0))
    names = np.array([column.variable for column in layout.columns[units]])
    for name in dict.fromkeys(names.tolist()):
        own = names == name
        yield name, _exchanged(centred[:, own], precision[:, own], signed[own])


def _shared(reference: Reference, layout: Layout, units: str) -> Iterator[tuple[str, Array]]:
    """Likewise of the arrays that the set shares with others (or with itself)."""
    size = layout.sizes[units]
    for number, pair in enumerate(layout.pairs):
        for side in (0, 1):
            if pair.units[side] == units:
                mean = np.moveaxis(reference.pairs[number], side, 0).reshape(size, -1)
                precision = np.full(mean.shape, 2 * reference.pair_weight[number])
                yield pair.variable, _exchanged(mean, precision, np.array(pair.signed[side]))


def _exchanged(mean: Array, precision: Array, signed: Array) -> Array:
    """Expected costs (2, K, K) of exchanging two slots as they are, or with both signs changed."""
    ratios = precision @ (1 / precision).T
    scaled = precision * mean
    squares = (scaled * mean).sum(axis=1)[:, None] + precision @ (mean**2).T
    across = np.stack([scaled @ mean.T, (scaled * np.where(signed, -1.0, 1.0)) @ mean.T])
    apart = squares - 2 * across
    spread = 0.5 * (ratios + ratios.T) - mean.shape[1]
    costs: Array = spread + np.maximum(0.5 * (apart + apart.swapaxes(1, 2)), 0.0)
    return costs
