"""The best elements of all draws so far, and the solution that they end as."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel.matching.criteria.base import Reference, Remarks
from relabel.matching.features import Layout
from relabel.matching.search import Elements, exact, identity

__all__ = ["STARTS", "Solution", "State"]

Array = NDArray[Any]

#: Names of the starts; a result stores their positions in this list.
STARTS = (
    "exact",  # one set of units, or sets that do not interact: no start matters
    "identity",
    "forward",
    "backward",
    "activations",
    "probes",
    "chain",
    "exhaustive",
    "random",
    "perturbed",
    "informed",
    "relaxed",
    "profiles",
    "joint",
    "layers",
    "jointly",
)


@dataclass
class State:
    """The best elements of all draws so far, and their gains.

    Attributes
    ----------
    elements : dict of str to Element
        Units -> elements of shape (draws, K).
    gain : ndarray of shape (draws,)
        Minus the loss of each draw under the present reference.
    start : ndarray of int, shape (draws,)
        Which of :data:`STARTS` led there.
    open : ndarray of bool, shape (draws,)
        Draws whose starts disagree, or that have moved since they were tried.
    bound : ndarray of shape (draws,)
        No labelling of a draw gains more under the present reference; infinite where not known.
    """

    elements: Elements
    gain: Array
    start: Array
    open: Array
    bound: Array

    @classmethod
    def unmoved(cls, layout: Layout, n_draws: int) -> State:
        """Return all draws as they are."""
        name = "exact" if exact(layout) else "identity"
        start = np.full(n_draws, STARTS.index(name), np.int8)
        gain = np.full(n_draws, -np.inf)
        return cls(identity(layout, n_draws), gain, start, np.ones(n_draws, bool), -gain)

    def rows(self, rows: Any) -> Elements:
        """Return the elements of some draws."""
        return {units: element[rows] for units, element in self.elements.items()}

    def put(self, rows: Any, elements: Elements, gain: Array) -> None:
        """Replace elements and gains of some draws."""
        self.gain[rows] = gain
        for units, element in self.elements.items():
            element.put(rows, elements[units])

    def keep_better(
        self, rows: Any, elements: Elements, gain: Array, tolerance: Array, start: str
    ) -> None:
        """Take over elements of some draws where they are better by more than rounding."""
        better = gain > self.gain[rows] + tolerance
        self.gain[rows] = np.where(better, gain, self.gain[rows])
        self.start[rows] = np.where(better, STARTS.index(start), self.start[rows])
        for units, element in self.elements.items():
            element.put(rows, elements[units].where(better, element[rows]))


@dataclass
class Solution:
    """The result of the loop.

    Attributes
    ----------
    elements : dict of str to Monomial
        Units -> elements of shape (draws, K).
    reference : Reference
    layout : Layout
        The features that the reference is made of.
    loss : ndarray of shape (draws,)
        Loss of each draw under the last reference.
    margin : dict of str to ndarray of shape (draws, K)
        Gain over the best element that changes a slot's unit or sign, other sets held fixed; nan
        for units on both sides of one array.
    start : ndarray of int, shape (draws,)
        Which of :data:`STARTS` won.
    losses : list of float
        Total loss after every sweep, the criterion's penalty included.
    loss_before : float
        Total loss without relabelling, under the reference that fits that best.
    converged : bool
        False if `max_sweeps` ended the loop.
    gap : ndarray of shape (draws,)
        How far each loss may be above the lowest of any labelling: see
        :mod:`relabel.matching.certificate`.
    remarks : Remarks
        Remarks of the criterion on the result.
    begin : str, optional
        The start that led to the first reference, where several were tried.
    """

    elements: Elements
    reference: Reference
    layout: Layout
    loss: Array
    margin: dict[str, Array]
    start: Array
    losses: list[float]
    loss_before: float
    converged: bool
    gap: Array
    remarks: Remarks = field(default_factory=Remarks)
    begin: str | None = None
