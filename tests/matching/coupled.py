"""Sets of units that share arrays, with everything that a search sees of them."""

import itertools

import numpy as np

from relabel.groups import Permutation, SignedPermutation
from relabel.matching.criteria.base import Reference, unary_distance
from relabel.matching.features import Block, Column, Layout, Pair
from relabel.matching.quadratic import whole_group
from relabel.matching.search import View


def coupled(sizes, edges, signs, rng, *, draws=3, noise=0.5, own=1, width=1):
    """Relabelled noisy copies of a reference; `edges` are (set, set, signed, signed)."""
    names = [f"h{i}" for i in range(len(sizes))]
    size = dict(zip(names, sizes, strict=True))
    group = SignedPermutation() if signs else Permutation()
    columns = {u: tuple(Column("b", i, signs, True) for i in range(own)) for u in names}
    pairs = tuple(
        Pair(f"W{n}", (names[a], names[b]), (s and signs, t and signs), (True, False), width=width)
        for n, (a, b, s, t) in enumerate(edges)
    )
    layout = Layout(size, dict.fromkeys(names, group), columns, pairs)
    mean = {u: rng.normal(size=(k, own)) for u, k in size.items()}
    arrays = tuple(rng.normal(size=(sizes[a], sizes[b], width)) for a, b, *_ in edges)
    features = {u: m + noise * rng.normal(size=(draws, *m.shape)) for u, m in mean.items()}
    seen = [m + noise * rng.normal(size=(draws, *m.shape)) for m in arrays]
    for units, k in size.items():
        element = group.random((draws,), k, rng)
        features[units] = element.act_on_features(features[units], layout.signed(units))
        for number, pair in enumerate(pairs):
            for side in (0, 1):
                if pair.units[side] == units:
                    seen[number] = element.act(
                        seen[number], side, power=0, signed=pair.signed[side]
                    )
    weights = tuple(rng.uniform(0.3, 1.5, len(pairs)))
    reference = Reference(own=mean, pairs=arrays, pair_weight=weights, pair_constant=1.7)
    unary = {u: unary_distance(features[u], layout.signed(u), mean[u], np.ones(own)) for u in names}
    return View(Block.of(features, tuple(seen)), layout, reference, unary)


def highest(view):
    """The highest gain of every draw, all labellings tried."""
    listing = {u: whole_group(view.layout.groups[u], k) for u, k in view.layout.sizes.items()}
    best = np.full(len(view), -np.inf)
    for places in itertools.product(*(range(len(g.index)) for g in listing.values())):
        rows = [np.full(len(view), place) for place in places]
        elements = {u: g[row] for (u, g), row in zip(listing.items(), rows, strict=True)}
        best = np.maximum(best, view.gain(elements))
    return best
