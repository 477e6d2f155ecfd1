"""Some of the draws, on which many starts can be tried at little cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from relabel.matching.features import Block, Layout, Source

__all__ = ["Sample", "Seen", "evenly"]


class Sample:
    """Some draws of a source, as one block.

    Parameters
    ----------
    source : Source
    rows : ndarray of int
        Which draws, in ascending order.
    """

    def __init__(self, source: Source, rows: NDArray[np.intp]) -> None:
        self.source, self.rows = source, rows
        self.layout, self.n_draws = source.layout, len(rows)

    @property
    def slices(self) -> list[slice]:
        """The draws of the only block."""
        return [slice(0, self.n_draws)]

    @cached_property
    def _whole(self) -> Block:
        parts = []
        for number, rows in enumerate(self.source.slices):
            inside = self.rows[(self.rows >= rows.start) & (self.rows < rows.stop)]
            if inside.size:
                parts.append(self.source.block(number)[inside - rows.start])
        own = {u: np.concatenate([part.own[u] for part in parts]) for u in self.layout.sizes}
        pairs = zip(*(part.pairs for part in parts), strict=True)
        return Block.of(own, tuple(np.concatenate(arrays) for arrays in pairs))

    def block(self, number: int) -> Block:
        """Features of all of them."""
        return self._whole

    def draw(self, row: int) -> Block:
        """Features of one of them."""
        return self._whole[row : row + 1]


@dataclass(frozen=True)
class Seen:
    """A source whose own features are seen in another way, without pairs and signs."""

    source: Source
    view: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
    centre: dict[str, NDArray[np.float64]]

    @cached_property
    def layout(self) -> Layout:
        """The same features; none flips."""
        layout = self.source.layout
        columns = {
            units: tuple(replace(column, signed=False) for column in columns)
            for units, columns in layout.columns.items()
        }
        return Layout(layout.sizes, layout.groups, columns, ())

    @property
    def n_draws(self) -> int:
        """Number of draws."""
        return self.source.n_draws

    @property
    def slices(self) -> list[slice]:
        """The draws of every block."""
        return self.source.slices

    def block(self, number: int) -> Block:
        """Features of one block, as they are seen."""
        return self._seen(self.source.block(number))

    def draw(self, row: int) -> Block:
        """Features of one draw, as they are seen."""
        return self._seen(self.source.draw(row))

    def _seen(self, block: Block) -> Block:
        return Block.of({u: self.view(x, self.centre[u]) for u, x in block.own.items()}, ())


def evenly(n_draws: int, most: int) -> NDArray[np.intp]:
    """Choose at most so many draws, evenly spaced."""
    if n_draws <= most:
        return np.arange(n_draws)
    return np.unique(np.linspace(0, n_draws - 1, most).round().astype(np.intp))
