"""Positively homogeneous units, f(λz) = λ^d f(z): permutations and scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from relabel.groups.base import Action, Group, Role

__all__ = ["ScaledPermutation", "balanced"]

Array = NDArray[Any]


@dataclass(frozen=True)
class ScaledPermutation(Group):
    r"""Permutations with a positive scale per unit, and a sign where the unit has a parity.

    (w, b) → λ(w, b) and v → v / λ^d leave the network's function as it is. The scale of each draw
    is fixed by a gauge before units are matched:

    * ``balanced``: the point of least squared norm on the orbit, where
      :math:`\lVert(w, b)\rVert^2 = d \lVert v\rVert^2` for every unit. Convex and unique, across
      layers too.
    * ``unit``: :math:`\lVert(w, b)\rVert = 1`.

    A unit of which one norm is zero has no such point and is left as it is. The likelihood is
    preserved; the prior density is not, so the result is a section of the orbit.

    Attributes
    ----------
    degree : int, default 1
        Degree *d* of homogeneity: 1 for ReLU, 3 for a cubic unit.
    parity : {None, "odd", "even"}
        Whether f(−z) is −f(z) or f(z), which adds the sign of the unit.

    References
    ----------
    Neyshabur, B., Salakhutdinov, R. & Srebro, N. (2015). Path-SGD: path-normalized optimization
    in deep neural networks. https://doi.org/10.48550/arXiv.1506.02617

    Godfrey, C. et al. (2022). On the symmetries of deep learning models and their internal
    representations. https://doi.org/10.48550/arXiv.2205.14258
    """

    degree: int = 1
    parity: Literal["odd", "even"] | None = None
    label: ClassVar[str] = "scaled permutation"
    exact: ClassVar[bool] = False

    @property
    def signs(self) -> bool:
        """Whether a unit may change its sign."""
        return self.parity is not None

    def action(self, role: Role) -> Action | None:
        """Scale what is written by λ and what is read by λ^(-d); without an arrow it is either."""
        head = Action(1, self.signs)
        tail = Action(-self.degree, self.parity == "odd")
        return {"head": head, "tail": tail}.get(role)

    def gauges(self) -> tuple[str, ...]:
        """Both gauges, the default first."""
        return ("balanced", "unit")

    def gauge(self, name: str, incoming: Array, outgoing: Array) -> Array:
        """Return the scales of one gauge from squared norms, both of shape (draws, K)."""
        if name == "balanced":
            return balanced(incoming, outgoing, self.degree)
        return np.where(incoming > 0, incoming, 1.0) ** -0.5


def balanced(incoming: Array, outgoing: Array, degree: int) -> Array:
    r"""Return the scales that make the squared norm of the weights least.

    .. math:: \lambda = (d \lVert v \rVert^2 / \lVert (w, b) \rVert^2)^{1 / (2 + 2 d)}

    Parameters
    ----------
    incoming, outgoing : ndarray
        Squared norms of (w, b) and of v; where one of them is zero the scale is 1.
    degree : int
        Degree *d* of homogeneity.
    """
    sound = (incoming > 0) & (outgoing > 0)
    below = np.where(sound, incoming, 1.0)
    above = np.where(sound, degree * outgoing, 1.0)
    scales: Array = (above / below) ** (0.5 / (1 + degree))
    return scales
