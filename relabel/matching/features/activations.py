"""The draws seen through what their units compute."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel.matching.features.layout import Block, Column, Layout
from relabel.matching.features.problem import Problem, slices_of
from relabel.models.forward_pass import Network
from relabel.spec.spec import ResolvedSpec

__all__ = ["ActivationProblem", "layer_size"]

Array = NDArray[Any]


class ActivationProblem:
    """The same draws, seen through what their units compute on probe inputs.

    A unit's activations do not depend on the labels of the units before it, so there are no pairs
    and every set of units stands by itself. Those of affine-flip units are centred at 1/2, where
    a flip is a change of sign.

    Parameters
    ----------
    problem : Problem
        The draws.
    network : Network
        Their forward pass.
    inputs : ndarray of shape (n, n_inputs)
        Where the units are evaluated.
    """

    def __init__(self, problem: Problem, network: Network, inputs: Array) -> None:
        self.problem, self.network, self.inputs = problem, network, inputs
        self.n_draws = problem.n_draws
        widest = max(layer_size(problem.resolved, layer.name) for layer in network.layers)
        self.block_size = problem.block_size_for(8 * widest * len(inputs))
        groups, columns = problem.layout.groups, {}
        for units, group in groups.items():
            action = group.action("tail")
            signed = action is not None and action.signed
            columns[units] = tuple(Column(units, i, signed, True) for i in range(len(inputs)))
        self.layout = Layout(problem.layout.sizes, groups, columns, ())

    @property
    def slices(self) -> list[slice]:
        """The draws of every block."""
        return slices_of(self.n_draws, self.block_size)

    def block(self, number: int) -> Block:
        """Features of one block."""
        return self._make_block(self.slices[number])

    def draw(self, row: int) -> Block:
        """Features of one draw."""
        return self._make_block(slice(row, row + 1))

    def _make_block(self, rows: slice) -> Block:
        values = self.network.activations(self.problem.gauged(rows), self.inputs)
        own = {}
        for units, group in self.layout.groups.items():
            centre = 0.5 if group.shifts else 0.0
            own[units] = np.ascontiguousarray(values[units].swapaxes(1, 2) - centre)
        return Block.of(own, ())


def layer_size(resolved: ResolvedSpec, name: str) -> int:
    """Size of a named axis; 1 for an output that has none."""
    return next((a.size for v in resolved.variables for a in v.axes if a.name == name), 1)
