"""Inputs at which the network can be evaluated, and its outputs there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from relabel.diagnostics.checks.base import Case, Check
from relabel.diagnostics.finding import Open
from relabel.diagnostics.kernels.quantities import N_POINTS
from relabel.models.forward_pass import Network, all_outputs

__all__ = ["Outputs", "OutputsCheck"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Outputs:
    """A network, its inputs, and its outputs at some of them.

    Attributes
    ----------
    network : Network
    points : ndarray of shape (n, n_inputs)
        All inputs.
    where : str
        Their address, or ``"given"``.
    values : ndarray of shape (chain, draw, n_outputs at up to 64 inputs)
        nan for excluded draws.
    """

    network: Network
    points: Array
    where: str
    values: Array


@dataclass(frozen=True)
class OutputsMeasurements:
    """Where inputs are from."""

    inputs: Annotated[str | None, "Inputs the network was evaluated at."] = None


@dataclass(frozen=True)
class OutputsCheck(Check[Outputs]):
    """Inputs at which the network can be evaluated, and its outputs there."""

    name: ClassVar = "outputs"
    place: ClassVar = 60
    measurements: ClassVar = OutputsMeasurements

    def run(self, case: Case) -> Outputs | Open | None:
        """Evaluate all draws at some of the inputs."""
        aligned = case.aligned
        points, where = aligned.inputs(case.inputs)
        network = aligned.network
        if network is None and not aligned.has_arrows:
            return None  # nothing suggests a network
        if points is None or network is None:
            remedy = "name the inputs (inputs=, --inputs)"
            if network is None:
                remedy = "align under a spec whose arrows describe a network of dense layers"
            if aligned.not_dense is not None:
                where = f"{aligned.not_dense}, and only networks of dense layers are evaluated"
                remedy = "relabel.average(forward=...) computes the loss of the mean network"
            return Open("outputs, chains by outputs, redundancy", where, remedy)
        rows = np.unique(np.linspace(0, len(points) - 1, N_POINTS).round().astype(int))
        posterior = aligned.groups["posterior"]
        values = all_outputs(network, aligned.resolved, posterior, points[rows])
        values[aligned.draws.excluded] = np.nan
        return Outputs(network, points, where, values)

    def measure(self, case: Case, result: Outputs) -> OutputsMeasurements:
        """Name the inputs."""
        return OutputsMeasurements(result.where)
