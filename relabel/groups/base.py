"""What every symmetry group answers: how it acts, which element fits best, how sure that is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from relabel.groups.elements import Element, Monomial, monomial, pick
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
        """Return the total gain of an element, shape (draws,)."""
        return element.gain(self.even, self.odd)


class Group(ABC):
    r"""A symmetry group of a set of exchangeable units.

    A group has to say two things: its :attr:`label`, and by :meth:`action` what the factor of a
    unit does to an axis that is written to the unit, and to one that reads it. Everything else has
    a default, for groups of which an element puts the units into *any* order and multiplies each by
    a factor:

    ============================  ================================================================
    a group with                  also says
    ============================  ================================================================
    changes of sign               :attr:`signs`
    a likelihood-only symmetry    :attr:`exact`
    positive scales               :meth:`gauges`, :meth:`gauge`
    matrices as elements          :attr:`rotates`, :meth:`identity`, :meth:`match`, :meth:`margin`,
                                  :meth:`random`, :meth:`gauges`, :meth:`remaining`
    ============================  ================================================================

    Signs separate over the pairs (slot, unit), so the best element of a group with signs is the
    assignment on ``even + |odd|`` with the sign of ``odd`` (+1 where it is zero): :math:`2^K` sign
    patterns are never enumerated.

    Groups are compared (``==``) when a stored transformation is applied: make them frozen
    dataclasses. :func:`relabel.groups.register` gives a group a name, and so does an entry point
    of another package.

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
        Whether :meth:`match` returns the best element. One that is not the best is kept all the
        same.
    biases_count : bool
        Whether what is written to the units and reads nothing has a part in the norms of a gauge.
    not_an_activation : str
        Why presets, which ask for the activation of a layer, cannot take this symmetry; empty where
        they can.

    Examples
    --------
    Units whose sign shows in what comes in and not in what goes out, f(−z) = f(z):

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Even(Group):
    ...     label = "permutation and incoming signs"
    ...     signs = True
    ...
    ...     def action(self, role):
    ...         return {"head": Action(0, True), "tail": Action(0, False)}.get(role)
    >>> score = Score(np.zeros((1, 2, 2)), np.array([[[0.0, -3.0], [1.0, 0.0]]]))
    >>> Even().match(score)
    Monomial(index=array([[1, 0]]), factor=array([[-1.,  1.]]))
    """

    label: ClassVar[str]
    exact: ClassVar[bool] = True
    shifts: ClassVar[bool] = False
    rotates: ClassVar[bool] = False
    optimal: ClassVar[bool] = True
    biases_count: ClassVar[bool] = True
    not_an_activation: ClassVar[str] = ""

    @abstractmethod
    def action(self, role: Role) -> Action | None:
        """How the factor acts on an axis of this role.

        Parameters
        ----------
        role : {"head", "tail", "neutral"}
            Whether the axis is at the head of an arrow (what is written to the units), at its tail
            (what reads them), or has no arrow.

        Returns
        -------
        Action or None
            None where the role does not determine it: then an arrow is asked for.
        """

    @property
    def signs(self) -> bool:
        """Whether a unit may change its sign."""
        return False

    @property
    def scales(self) -> bool:
        """Whether a unit may be scaled by any positive factor, which a gauge then fixes."""
        return bool(self.gauges()) and not self.rotates

    @property
    def degree(self) -> int:
        """Degree *d* of homogeneity: what reads a unit is divided by the d-th power of its scale.

        It is 0 where units have no scale, or where only what comes in is scaled.
        """
        tail = self.action("tail")
        return -tail.power if self.scales and tail is not None else 0

    @property
    def commutes(self) -> bool:
        """Whether what changes the inputs of a unit changes its outputs alike, by no constant.

        So it must be where units are added up or normalised behind the activation.
        """
        head, tail = self.action("head"), self.action("tail")
        if self.shifts or self.rotates or head is None or tail is None:
            return False
        return head.signed == tail.signed and head.power == -tail.power

    # ------------------------------------------------------------------ gauges

    def gauges(self) -> tuple[str, ...]:
        """Names of the gauges that fix this group's scales or rotations; empty if it has none.

        The first is the default.
        """
        return ()

    def gauge(self, name: str, incoming: Array, outgoing: Array) -> Array:
        r"""Return the scales that bring every draw to a gauge.

        All along an orbit this is one point: from norms :math:`\lambda^2 \cdot` `incoming` and
        :math:`\lambda^{-2d} \cdot` `outgoing` follow scales divided by :math:`\lambda`.

        Parameters
        ----------
        name : str
            One of :meth:`gauges`.
        incoming, outgoing : ndarray of shape (draws, K)
            Squared norms of what is written to each unit, and of what reads it.

        Returns
        -------
        ndarray of shape (draws, K)
            Positive factors; 1 for a unit without such a point.
        """
        raise NotImplementedError(f"{self.label} has no scale to fix")

    def remaining(self, gauge: str) -> Group:
        """Return the group that is left to match when a gauge has been fixed."""
        return self

    # ------------------------------------------------------------------ elements

    def identity(self, batch: tuple[int, ...], size: int) -> Element:
        """Return the element that changes nothing, for every draw of a batch."""
        return Monomial.identity(batch, size)

    def contains(self, element: Element) -> Array:
        """Which draws have an element of this group: bool of the shape of the batch.

        Permutations with factors that the group allows: 1, with signs -1, with scales any positive
        number. Where units rotate, what mixes is an element as well; that its matrix is orthogonal
        is checked where it is read. A group with other factors overrides this.
        """
        if element.mixes:
            return np.full(element.batch, self.rotates)
        factor = monomial(element).factor
        size = np.abs(factor)
        allowed: Any = np.isfinite(size) & (size > 0) if self.scales else size == 1
        if not (self.signs or self.rotates):
            allowed = allowed & (factor > 0)
        found: Array = allowed.all(axis=-1)
        return found

    def random(self, batch: tuple[int, ...], size: int, rng: np.random.Generator) -> Element:
        """Return random elements, for tests and simulations.

        Permutations and signs are uniform, logarithms of scales standard normal.
        """
        shape = (*batch, size)
        index = rng.permuted(np.broadcast_to(np.arange(size), shape), axis=-1)
        factor = np.ones(shape)
        if self.signs:
            factor *= rng.choice([-1.0, 1.0], size=shape)
        if self.scales:
            factor *= rng.lognormal(size=shape)
        return Monomial(index, factor)

    def match(self, score: Score) -> Element:
        """Return the element of highest score, one for every draw."""
        index = assign(self._folded(score))
        if not self.signs:
            return Monomial(index, np.ones(index.shape))
        return Monomial(index, np.where(pick(score.odd, index) < 0, -1.0, 1.0))

    def margin(self, score: Score, element: Element) -> Array:
        """Gain of an optimal element over the best that changes a slot's unit or its sign.

        Parameters
        ----------
        score : Score
            Gains of the pairs.
        element : Element
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
        return np.minimum(other_unit, 2.0 * np.abs(pick(score.odd, element.index)))

    def _folded(self, score: Score) -> Array:
        """Best gain of every pair over the signs it may take."""
        folded: Array = score.even + (np.abs(score.odd) if self.signs else score.odd)
        return folded
