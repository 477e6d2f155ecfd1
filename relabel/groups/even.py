"""Even units, f(-z) = f(z): the sign acts on what comes in, not on what goes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from relabel.groups.base import Action, Group, Role

__all__ = ["EvenPermutation"]


@dataclass(frozen=True)
class EvenPermutation(Group):
    """Permutations with flips of the incoming side: (w, b, v) and (−w, −b, v) are one unit.

    Exact under exchangeable priors that are symmetric about zero.

    References
    ----------
    Kůrková, V. & Kainen, P. C. (1994). Functionally equivalent feedforward neural networks.
    *Neural Computation* 6(3), 543-558. https://doi.org/10.1162/neco.1994.6.3.543
    """

    label: ClassVar[str] = "permutation and incoming signs"

    @property
    def signs(self) -> bool:
        """Units may change their signs."""
        return True

    def action(self, role: Role) -> Action | None:
        """Flip what is written, leave what is read; without an arrow it is either."""
        return {"head": Action(0, True), "tail": Action(0, False)}.get(role)
