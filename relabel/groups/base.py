"""What every symmetry group answers: how it acts, which element fits best, how sure that is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from relabel.groups.elements import Dense, Element, Monomial, monomial
from relabel.numerics.assignment import alternatives, assign

__all__ = ["Action", "Group", "Role", "Score"]

Array = NDArray[Any]
Role = Literal["head", "tail", "neutral"]


class Action(NamedTuple):
    r"""How a factor *f* multiplies along an axis: :math:`\mathrm{sign}(f)^{signed} |f|^{power}`."""

    power: int
    signed: bool

    def raised(self, exponent: int) -> Action:
        """Return the action on an axis written with an exponent, such as ``h^2``."""
        return Action(self.power * exponent, self.signed and exponent % 2 == 1)

    @property
    def trivial(self) -> bool:
        """Whether the factor leaves the axis alone."""
        return self.power == 0 and not self.signed


class Score(NamedTuple):
    """Gain of every pair (slot, unit) of every draw, split by its parity in the sign.

    ``even[t, k, j] + s * odd[t, k, j]`` is the gain of putting unit *j* into slot *k* with the
    sign *s*. Both have the shape (draws, K, K); minus the score is a loss.
    """

    even: Array
    odd: Array

    def of(self, element: Element) -> Array:
        r"""Return the total gain of an element, shape (draws,).

        Of a rotation *G* that is :math:`\sum_{kj} G_{kj} odd_{kj}` and the mean over all
        permutations of what is even, which must not depend on the permutation.
        """
        if isinstance(element, Dense):
            mixed = np.einsum("tkj,tkj->t", element.matrix, self.odd)
            return np.asarray(mixed + self.even.sum(axis=(1, 2)) / element.size)
        sign = np.where(element.factor < 0, -1.0, 1.0)
        even, odd = (_pick(part, element.index) for part in self)
        total: Array = (even + sign * odd).sum(axis=-1)
        return total


class Group(ABC):
    """A symmetry group of a set of exchangeable units.

    An element permutes the units and multiplies each by a factor. Signs separate over the pairs
    (slot, unit), so the best element of a group with signs is the assignment on ``even + |odd|``
    with the sign of ``odd`` (+1 where it is zero): 2^K sign patterns are never enumerated.

    Attributes
    ----------
    label : str
        Short name for reports.
    exact : bool
        True when likelihood *and* exchangeable, sign-symmetric priors are preserved, so that a
        relabelled draw is still a posterior draw; False when only the likelihood is.
    shifts : bool
        Whether a change of sign also moves the biases of those who read the unit.
    rotates : bool
        Whether units mix: an element is then a matrix.
    optimal : bool
        Whether :meth:`match` returns the best element; one that does not is believed all the same.
    biases_count : bool
        Whether what is written to the units and reads nothing has a part in the norms of a gauge.
    """

    label: ClassVar[str]
    exact: ClassVar[bool] = True
    shifts: ClassVar[bool] = False
    rotates: ClassVar[bool] = False
    optimal: ClassVar[bool] = True
    biases_count: ClassVar[bool] = True

    @property
    def signs(self) -> bool:
        """Whether a unit may change its sign."""
        return False

    @property
    def commutes(self) -> bool:
        """Whether what changes the inputs of a unit changes its outputs alike, by no constant.

        So it must be where units are added up or normalised behind the activation.
        """
        head, tail = self.action("head"), self.action("tail")
        if self.shifts or self.rotates or head is None or tail is None:
            return False
        return head.signed == tail.signed and head.power == -tail.power

    @abstractmethod
    def action(self, role: Role) -> Action | None:
        """How the factor acts on an axis of this role; None where the role does not tell."""

    def gauges(self) -> tuple[str, ...]:
        """Names of the gauges that fix this group's scales; empty where it has none."""
        return ()

    def gauge(self, name: str, incoming: Array, outgoing: Array) -> Array:
        """Return the scales of one gauge from squared norms, both of shape (draws, K)."""
        raise NotImplementedError(f"{self.label} has no scale to fix")

    def remaining(self, gauge: str) -> Group:
        """Return the group that is left to match when a gauge has been fixed."""
        return self

    def identity(self, batch: tuple[int, ...], size: int) -> Element:
        """Return the element that changes nothing, for every draw of a batch."""
        return Monomial.identity(batch, size)

    def match(self, score: Score) -> Element:
        """Return the element of highest score, one for every draw."""
        index = assign(self._folded(score))
        if not self.signs:
            return Monomial(index, np.ones(index.shape))
        return Monomial(index, np.where(_pick(score.odd, index) < 0, -1.0, 1.0))

    def margin(self, score: Score, element: Element) -> Array:
        """Gain of an optimal element over the best that changes a slot's unit or its sign.

        Parameters
        ----------
        score : Score
            Gains of the pairs.
        element : Monomial
            What :meth:`match` returned for this score.

        Returns
        -------
        ndarray of shape (draws, K)
            In the units of the score; infinite when there is nothing to change to, nan where
            units mix.
        """
        element = monomial(element)
        other_unit = alternatives(self._folded(score), element.index)
        if not self.signs:
            return other_unit
        return np.minimum(other_unit, 2.0 * np.abs(_pick(score.odd, element.index)))

    def _folded(self, score: Score) -> Array:
        """Best gain of every pair over the signs it may take."""
        folded: Array = score.even + (np.abs(score.odd) if self.signs else score.odd)
        return folded


def _pick(part: Array, index: Array) -> Array:
    """Entries (slot, index[slot]) of every draw, shape (draws, K)."""
    picked: Array = np.take_along_axis(part, index[:, :, None], axis=2)[:, :, 0]
    return picked
