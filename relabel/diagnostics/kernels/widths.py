"""What follows from the units that every draw does without: widths, and which slots are spare."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Widths"]

Array = NDArray[Any]


class Widths:
    """Base of answers that know which units each draw does without.

    Attributes
    ----------
    eliminated : ndarray of bool, shape (draws, K)
        Whether the draw does without the unit in this slot.
    """

    eliminated: Array

    @property
    def effective_width(self) -> Array:
        """Number of units that each draw needs, int of shape (draws,)."""
        width: Array = (~self.eliminated).sum(axis=1)
        return width

    @property
    def width_pmf(self) -> Array:
        """Share of draws that need 0, 1, ..., K units, shape (K + 1,)."""
        counts = np.bincount(self.effective_width, minlength=self.eliminated.shape[1] + 1)
        pmf: Array = counts / len(self.eliminated)
        return pmf

    @property
    def median_width(self) -> float:
        """Median of the effective width."""
        return float(np.median(self.effective_width))

    @property
    def likely_width(self) -> int:
        """Effective width of most draws, the mode of :attr:`width_pmf`; of equals, the largest."""
        pmf = self.width_pmf
        return len(pmf) - 1 - int(pmf[::-1].argmax())

    @property
    def n_spare(self) -> int:
        """How many units can be done without, all at once: K less the likely width."""
        return int(self.eliminated.shape[1]) - self.likely_width

    @property
    def spare(self) -> list[int]:
        """Slots that more than half of the draws do without.

        At most :attr:`n_spare`; there are fewer where it is clear that units are spare, but not
        which, since one may stand in for another.
        """
        share = self.eliminated.mean(axis=0)
        ordered = np.argsort(-share, kind="stable")[: self.n_spare]
        return sorted(int(slot) for slot in ordered if share[slot] > 0.5)
