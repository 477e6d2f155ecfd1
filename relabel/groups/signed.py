"""Odd units, f(-z) = -f(z): permutations and changes of sign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from relabel.groups.base import Action, Group, Role

__all__ = ["SignedPermutation"]


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
