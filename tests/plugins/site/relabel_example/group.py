"""A symmetry of a third party: units with f(z) = z |z|, whose weights have norms of a gauge."""

from dataclasses import dataclass

import numpy as np

from relabel.groups import Action, Activation, Group


@dataclass(frozen=True)
class SignedSquares(Group):
    r"""Permutations, signs and scales: f(cz) = c |c| f(z) for every number c.

    (w, b) → c (w, b) and v → v / (c |c|) leave the network's function as it is. The gauge ``equal``
    is the point where the norms of (w, b) and of v are equal.
    """

    label = "signed and scaled permutation of squares"
    exact = False

    @property
    def signs(self):
        return True

    def action(self, role):
        return {"head": Action(1, True), "tail": Action(-2, True)}.get(role)

    def gauges(self):
        return ("equal",)

    def gauge(self, name, incoming, outgoing):
        alive = (incoming > 0) & (outgoing > 0)
        above, below = np.where(alive, outgoing, 1.0), np.where(alive, incoming, 1.0)
        return (above / below) ** (1 / 6)


SIGNED_SQUARE = Activation(
    SignedSquares(), lambda z: z * np.abs(z), derivative=lambda z: 2 * np.abs(z)
)
