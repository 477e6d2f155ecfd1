"""A third party's criterion: the trimmed mean of the draws as the reference."""

from dataclasses import dataclass, replace

import numpy as np

from relabel.criteria import Criterion, Mean, aligned_own, aligned_pair

__all__ = ["Trimmed"]


@dataclass(frozen=True)
class Trimmed(Criterion):
    """Every draw as near as possible to the trimmed mean of all aligned draws.

    A share `trim` of the draws is left out of the mean of every number, at either end, so that
    outlying draws do not pull at it.
    """

    trim: float = 0.1
    max_sweeps: int = 100
    name = "trimmed"
    is_distance = True
    monotone = False  # a trimmed mean does not minimise the squared distances

    def __post_init__(self):
        """Check the options."""
        if not 0 <= self.trim < 0.5:
            raise ValueError(f"criterion trimmed: trim must be between 0 and 0.5, not {self.trim}")

    def statistics(self, block, layout, elements):
        """Return sums of the aligned features, and the features themselves in lists."""
        kept = {f"all {u}": [aligned_own(block, layout, u, elements[u])] for u in layout.sizes}
        for number in range(len(layout.pairs)):
            kept[f"all {number}"] = [aligned_pair(block, layout, number, elements)]
        return Mean().statistics(block, layout, elements) | kept

    def form_reference(self, statistics, pooled, layout, previous):
        """Return the trimmed mean, on the scales of the mean."""
        mean = Mean().form_reference(statistics, pooled, layout, previous)
        own = {units: self._middle(statistics[f"all {units}"]) for units in layout.sizes}
        pairs = tuple(self._middle(statistics[f"all {p}"]) for p in range(len(layout.pairs)))
        return replace(mean, own=own, pairs=pairs)

    def score(self, block, layout, reference, units):
        """Score by minus the squared distance of own features."""
        return Mean().score(block, layout, reference, units)

    def _middle(self, parts):
        """Mean of all draws but the lowest and highest."""
        values = np.sort(np.concatenate(parts), axis=0)
        left_out = int(self.trim * len(values))
        return values[left_out : len(values) - left_out].mean(axis=0)
