"""Sigmoid-type units, f(-z) = 1 - f(z): a flip that moves the next bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from relabel.groups.base import Action, Group, Role

__all__ = ["AffineFlip"]


@dataclass(frozen=True)
class AffineFlip(Group):
    """Signed permutations in centred coordinates.

    (w, b, v) and the reader's bias *c* become −(w, b, v) and *c + v*. With the centred bias
    *c + Σv/2* this is an ordinary signed permutation. The likelihood is preserved; the prior of
    *c* is not.

    References
    ----------
    Vlačić, V. & Bölcskei, H. (2021). Affine symmetries and neural network identifiability.
    *Advances in Mathematics* 376, 107485. https://doi.org/10.1016/j.aim.2020.107485
    """

    label: ClassVar[str] = "signed permutation with affine flips"
    exact: ClassVar[bool] = False
    shifts: ClassVar[bool] = True

    @property
    def signs(self) -> bool:
        """Units may change their signs."""
        return True

    def action(self, role: Role) -> Action | None:
        """Flip weights on both sides; without an arrow it may be an activation, which shifts."""
        return None if role == "neutral" else Action(power=0, signed=True)
