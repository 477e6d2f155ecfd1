"""Factors that may be rotated: orthogonal matrices, and the gauges that fix them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from relabel.groups.base import Action, Group, Role, Score
from relabel.groups.elements import Dense, Element
from relabel.groups.signed import SignedPermutation
from relabel.numerics.rotations import procrustes

__all__ = ["Orthogonal"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Orthogonal(Group):
    r"""Rotations and reflections: :math:`\Lambda \to \Lambda G'`, :math:`\eta \to \eta G'`.

    The covariance :math:`\Lambda\Lambda' + \Psi` of a factor model and the products of loadings and
    scores are left as they are. The prior is so only if it is isotropic over factors.

    * ``varimax``: every draw's loadings are rotated by varimax first, and what is left to match is
      a signed permutation. ``varimax-kaiser``: likewise, with rows scaled to length one.
    * ``none``: draws are matched by rotations (orthogonal Procrustes).

    References
    ----------
    Papastamoulis, P. & Ntzoufras, I. (2022). On the identifiability of Bayesian factor analytic
    models. *Statistics and Computing* 32, 23. https://doi.org/10.1007/s11222-022-10084-4
    """

    label: ClassVar[str] = "orthogonal group"
    exact: ClassVar[bool] = False
    rotates: ClassVar[bool] = True

    @property
    def signs(self) -> bool:
        """Reflections are among the elements."""
        return True

    def action(self, role: Role) -> Action:
        """Rotate with the units, whatever the role."""
        return Action(power=1, signed=True)

    def gauges(self) -> tuple[str, ...]:
        """How the rotation is fixed, the default first."""
        return ("varimax", "varimax-kaiser", "none")

    def remaining(self, gauge: str) -> Group:
        """Signed permutations, where varimax has fixed the rotation."""
        return self if gauge == "none" else SignedPermutation()

    def identity(self, batch: tuple[int, ...], size: int) -> Element:
        """Return the matrices that change nothing."""
        return Dense.identity(batch, size)

    def random(self, batch: tuple[int, ...], size: int, rng: np.random.Generator) -> Element:
        """Return random rotations and reflections, uniform over the group (Haar)."""
        q, r = np.linalg.qr(rng.normal(size=(*batch, size, size)))
        return Dense(q * np.sign(np.diagonal(r, axis1=-2, axis2=-1))[..., None, :])

    def match(self, score: Score) -> Element:
        """Return the rotation of highest score, one for every draw."""
        return Dense(procrustes(score.odd))

    def margin(self, score: Score, element: Element) -> Array:
        """Return nan: rotations near the best one are nearly as good, and none is the next."""
        return np.full(score.odd.shape[:2], np.nan)
