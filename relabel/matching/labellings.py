"""Labellings by single features, ranks, and distances: rough, quick, and of many kinds.

Each says something that the others miss: sorting finds the one feature that tells units apart, a
metric that bounds the say of what is far off finds units beside others that lie anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel.groups import Score
from relabel.groups.elements import Element, Monomial
from relabel.matching.features import Block, Layout
from relabel.matching.sample import evenly

__all__ = ["COMPARED", "by_cauchy", "by_sorting", "distances", "noise", "ranks", "separation"]

Array = NDArray[Any]

COMPARED = 12  # features that are compared in the bounded metric
_SORTED = 8  # features that units are sorted by
_DRAWS = 4  # draws that the bounded metric begins from
_SWEEPS = 4
_NARROWEST = 0.25  # quantile over slots of the distance to the nearest unit of another draw


def separation(block: Block, layout: Layout, units: str) -> Array:
    r"""How much each feature spreads over all units, compared with within sorted slots.

    .. math:: \tfrac1{2K} \sum_k \log (s^2 / s_k^2)

    in nats, where :math:`s_k^2` is the variance of the *k*-th smallest value; of absolute values
    where the feature flips with its unit.

    Returns
    -------
    ndarray of shape (R,)
    """
    values = layout.features(block, units)
    values = np.where(layout.signed(units), np.abs(values), values)
    whole = values.reshape(values.shape[0] * values.shape[1], values.shape[2]).var(axis=0)
    within = np.sort(values, axis=1).var(axis=0)
    least = 1e-10 * np.where(whole > 0, whole, 1.0)
    ratio: Array = 0.5 * (np.log(whole + least) - np.log(within + least)).mean(axis=0)
    return ratio


def noise(n_units: int) -> float:
    """Return the separation of a feature that is noise, and a little more."""
    normal = np.random.default_rng(0).normal(size=(200, n_units))
    within = np.sort(normal, axis=1).var(axis=0)
    return float(-0.5 * np.log(within).mean()) + 0.15


def by_sorting(
    block: Block, layout: Layout, units: str, separations: Array
) -> Iterator[tuple[str, Element]]:
    """Sort the units of every draw by each of the features that separate them most."""
    features, signed = layout.features(block, units), layout.signed(units)
    for number in np.argsort(-separations, kind="stable")[:_SORTED]:
        values = features[:, :, number]
        factor = np.where(signed[number] & (values < 0), -1.0, 1.0)
        index = np.argsort(values * factor, axis=1, kind="stable")
        column = layout.columns[units][number]
        element = Monomial(index, np.take_along_axis(factor, index, axis=1))
        yield f"sorted by {column.variable}[{column.position}]", element


def by_cauchy(
    block: Block, layout: Layout, units: str, separations: Array
) -> Iterator[tuple[str, Element]]:
    """Match units to medians of their slots by Cauchy densities, from several draws.

    What is far off costs little more than what is off, so units that lie anywhere (empty
    components, spare units) take the slots that the others leave.
    """
    chosen = np.argsort(-separations, kind="stable")[:COMPARED]
    values = layout.features(block, units)[:, :, chosen]
    signed, group = layout.signed(units)[chosen], layout.groups[units]
    for row in evenly(len(values), _DRAWS) if chosen.size else ():
        middle = values[row]
        spread = _nearest(values, middle, signed)
        for _ in range(_SWEEPS):
            element = group.match(_cauchy(values, signed, middle, spread))
            aligned = element.act_on_features(values, signed)
            middle = np.median(aligned, axis=0)
            away = 1.5 * np.median(np.abs(aligned - middle), axis=0)
            spread = np.maximum(away, 1e-3 * spread)
        yield f"nearest to draw {row}", element


def _nearest(values: Array, middle: Array, signed: Array) -> Array:
    """Distance of a narrow slot from the nearest unit of another draw, for each feature."""
    distance = np.abs(values[:, None] - middle[:, None])
    if signed.any():
        flipped = np.abs(values[:, None] + middle[:, None])
        distance = np.where(signed, np.minimum(distance, flipped), distance)
    typical = np.median(distance.min(axis=2), axis=0)
    narrow = np.quantile(typical, _NARROWEST, axis=0, method="lower")
    spread: Array = np.broadcast_to(np.where(narrow > 0, narrow, 1.0), typical.shape)
    return spread


def _cauchy(values: Array, signed: Array, middle: Array, spread: Array) -> Score:
    """Score units as slots by Cauchy densities, split by parity in the sign."""
    size = np.log(spread).sum(axis=1)[:, None]

    def density(sign: float) -> Array:
        turned = np.where(signed, sign, 1.0) * values
        away = (turned[:, None] - middle[:, None]) / spread[:, None]
        found: Array = -np.log1p(away**2).sum(axis=3) - size
        return found

    plus = density(1.0)
    if not signed.any():
        return Score(plus, np.zeros_like(plus))
    minus: Array = density(-1.0)
    return Score(0.5 * (plus + minus), 0.5 * (plus - minus))


def ranks(block: Block, layout: Layout) -> dict[str, Array]:
    """Rank every unit among those of its draw, feature by feature."""
    found = {}
    for units in layout.sizes:
        values = layout.features(block, units)
        values = np.where(layout.signed(units), np.abs(values), values)
        found[units] = np.argsort(np.argsort(values, axis=1), axis=1).astype(float)
    return found


def distances(block: Block, layout: Layout, middle: Mapping[str, Array]) -> dict[str, Array]:
    """Log distance of every value from a middle, feature by feature: small ones count little."""
    found = {}
    for units in layout.sizes:
        away = np.abs(block.own[units] - middle[units])
        typical = (
            np.median(away.reshape(away.shape[0] * away.shape[1], away.shape[2]), axis=0)
            if away.size
            else 1.0
        )
        found[units] = np.log(away + np.where(typical > 0, 0.1 * typical, 1.0))
    return found
