"""Some of the draws, on which many starts can be tried at little cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel.matching.features import Block, Layout, Source

__all__ = ["Sample", "evenly"]

Array = NDArray[Any]


@dataclass
class Sample:
    """Some draws of a source, as one block.

    Attributes
    ----------
    layout : Layout
    whole : Block
        The features of these draws.
    """

    layout: Layout
    whole: Block
    n_draws: int = field(init=False)

    def __post_init__(self) -> None:
        """Count the draws."""
        self.n_draws = len(self.whole)

    @classmethod
    def of(cls, source: Source, rows: Array) -> Sample:
        """Take some draws, in ascending order."""
        parts = []
        for number, inside in enumerate(source.slices):
            chosen = rows[(rows >= inside.start) & (rows < inside.stop)]
            if chosen.size:
                parts.append(source.block(number)[chosen - inside.start])
        own = {u: np.concatenate([part.own[u] for part in parts]) for u in source.layout.sizes}
        pairs = zip(*(part.pairs for part in parts), strict=True)
        return cls(source.layout, Block.of(own, tuple(np.concatenate(p) for p in pairs)))

    def seen_as(self, own: Mapping[str, Array]) -> Sample:
        """Return other features of the same units, none of which flips, and no pairs."""
        columns = {
            units: tuple(replace(column, signed=False) for column in columns)
            for units, columns in self.layout.columns.items()
        }
        layout = Layout(self.layout.sizes, self.layout.groups, columns, ())
        return Sample(layout, Block.of(dict(own), ()))

    @property
    def slices(self) -> list[slice]:
        """The draws of the only block."""
        return [slice(0, self.n_draws)]

    def block(self, number: int) -> Block:
        """Features of all of them."""
        return self.whole

    def draw(self, row: int) -> Block:
        """Features of one of them."""
        return self.whole[row : row + 1]


def evenly(n_draws: int, most: int) -> Array:
    """Choose at most so many draws, evenly spaced.

    Examples
    --------
    >>> evenly(10, 3).tolist()
    [0, 4, 9]
    """
    if n_draws <= most:
        return np.arange(n_draws)
    return np.unique(np.linspace(0, n_draws - 1, most).round().astype(np.intp))
