"""Odd units, f(-z) = -f(z): permutations and changes of sign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from relabel.groups.base import Action, Group, Role, Score
from relabel.groups.elements import Element, Monomial, pick

__all__ = ["GreedySigned", "SignedPermutation"]


@dataclass(frozen=True)
class SignedPermutation(Group):
    r"""Signed permutations: (w, b, v) and −(w, b, v) are the same unit.

    Exact under exchangeable priors that are symmetric about zero. There are :math:`2^K K!`
    elements.

    References
    ----------
    Chen, A. M., Lu, H. & Hecht-Nielsen, R. (1993). On the geometry of feedforward neural network
    error surfaces. *Neural Computation* 5(6), 910-927. https://doi.org/10.1162/neco.1993.5.6.910

    Sussmann, H. J. (1992). Uniqueness of the weights for minimal feedforward nets with a given
    input-output map. *Neural Networks* 5(4), 589-593.
    https://doi.org/10.1016/S0893-6080(05)80037-1
    """

    label: ClassVar[str] = "signed permutation"

    @property
    def signs(self) -> bool:
        """Units may change their signs."""
        return True

    def action(self, role: Role) -> Action:
        """Flip with the unit, whatever the role."""
        return Action(power=0, signed=True)


@dataclass(frozen=True)
class GreedySigned(SignedPermutation):
    """Signed permutations, matched slot by slot: each takes the best unit that is left.

    That is not the best element. Algorithms that were published so are run so.
    """

    label: ClassVar[str] = "signed permutation, matched greedily"
    optimal: ClassVar[bool] = False

    def match(self, score: Score) -> Element:
        """Return the element that the slots choose in turn."""
        folded = score.even + np.abs(score.odd)
        n_draws, size = folded.shape[:2]
        index = np.empty((n_draws, size), dtype=np.int64)
        rows = np.arange(n_draws)
        for slot in range(size):
            index[:, slot] = folded[:, slot].argmax(axis=-1)
            folded[rows, :, index[:, slot]] = -np.inf
        return Monomial(index, np.where(pick(score.odd, index) < 0, -1.0, 1.0))
