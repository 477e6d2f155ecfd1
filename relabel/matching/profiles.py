"""Matching units by what no permutation of their neighbours changes: sorted rows and columns.

Two sets of units that meet only each other (rows and columns of blocks) have no features of their
own that a sweep could begin with.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel.groups import Score
from relabel.groups.elements import Monomial, monomial
from relabel.matching.bounds import side_score
from relabel.matching.features import Layout, aligned_pair
from relabel.matching.search import Elements, View

__all__ = ["by_profiles", "no_features"]

Array = NDArray[Any]


def no_features(layout: Layout) -> bool:
    """Whether two sets of units meet each other, and neither has features of its own."""
    return any(
        not (pair.two_sided or any(layout.columns[units] for units in pair.units))
        for pair in layout.pairs
    ) and not any(group.rotates for group in layout.groups.values())


def by_profiles(view: View) -> Elements:
    """Match all sets of units by own features and sorted rows and columns.

    Of rows that a sign acts on, absolute values are sorted. The signs are then those of the leading
    eigenvector of what every two slots gain with each other.
    """
    scores = dict(view.unary)
    for number, pair in enumerate(view.layout.pairs):
        for side, units in enumerate(pair.units):
            part = side_score(view, number, side, view.reference.pairs[number][None])
            norms = view.block.norms[number][side][:, None, :]
            slots = (view.reference.pairs[number] ** 2).sum(axis=(1 - side, 2))
            own = view.reference.pair_weight[number] * (norms + slots[:, None])
            old = scores[units]
            scores[units] = Score(old.even + part.even - own, old.odd + part.odd)
    elements: Elements = {u: view.layout.groups[u].match(score) for u, score in scores.items()}
    if any(group.signs for group in view.layout.groups.values()):
        _sign(view, elements)
    return elements


def _sign(view: View, elements: Elements) -> None:
    """Give all slots the signs of the leading eigenvector of the quadratic form of their gain."""
    layout = view.layout
    ends = np.cumsum([0, *layout.sizes.values()])
    places = {u: slice(a, b) for u, a, b in zip(layout.sizes, ends, ends[1:], strict=False)}
    form = np.zeros((len(view), ends[-1] + 1, ends[-1] + 1))
    for units, place in places.items():
        element = monomial(elements[units])
        odd = np.take_along_axis(view.unary[units].odd, element.index[:, :, None], axis=2)
        form[:, place, -1] += odd[..., 0] * np.where(element.factor < 0, -1.0, 1.0)
    for number, pair in enumerate(layout.pairs):
        array = aligned_pair(view.block, layout, number, elements)
        gain = np.einsum("nabr,abr->nab", array, view.reference.pairs[number])
        gain *= 2 * view.reference.pair_weight[number]
        one, two = (places[units] for units in pair.units)
        if all(pair.signed):
            form[:, one, two] += gain
        elif any(pair.signed):
            flips = one if pair.signed[0] else two
            form[:, flips, -1] += gain.sum(axis=2 if pair.signed[0] else 1)
    leading = np.linalg.eigh(form + form.swapaxes(1, 2))[1][:, :, -1]
    turned = (leading[:, :-1] < 0) != (leading[:, -1:] < 0)
    for units, place in places.items():
        if layout.groups[units].signs:
            element = monomial(elements[units])
            factor = np.where(turned[:, place], -element.factor, element.factor)
            elements[units] = Monomial(element.index, factor)
