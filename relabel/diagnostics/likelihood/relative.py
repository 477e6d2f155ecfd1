"""No likelihood: changes are compared with the spread of the outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel._util.validate import real
from relabel.diagnostics.likelihood.base import Evidence, Parameters
from relabel.diagnostics.likelihood.squares import Squares

__all__ = ["Relative"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Relative(Squares):
    """What stands in where no likelihood is known; it is not in the registry.

    The divergence is half the squared ratio of the root mean square change to a share of the
    outputs' standard deviation, and 1/2 is its limit whatever the number of parameters.

    Parameters
    ----------
    share : float, default 0.01
        Share of the outputs' standard deviation that a change must reach. One per cent is one part
        in 10 000 of their variance, so only what is all but exactly redundant counts; nothing
        finer can be claimed without knowing the noise.

    Raises
    ------
    SpecError
        If it is not positive.
    """

    share: float = 0.01

    name = "relative"
    nats = False

    def __post_init__(self) -> None:
        """Check the share."""
        real("likelihood: relative", self.share, 0, open_ends=True)

    def find(self, evidence: Evidence) -> tuple[Parameters, str]:
        """Return the scale of each output that makes one half the limit."""
        spread = np.concatenate([f.std(axis=1) for f in evidence.outputs()])
        pooled = np.sqrt(np.square(spread).mean(axis=0))
        floor = np.where(pooled > 0, pooled, 1.0)
        n_terms = evidence.n_inputs * spread.shape[1]
        scale = np.broadcast_to(self.share * floor * np.sqrt(n_terms), spread.shape)
        return {"scale": scale}, (
            "No likelihood is known: a change counts where it moves the outputs by more than "
            f"{100 * self.share:g} % of their standard deviation (root mean square); losses are "
            "half the squared ratio, not nats."
        )

    def limit(self, n_parameters: Any, level: float = 0.95) -> Array:
        """Return 1/2, whatever the number of parameters."""
        return np.full(np.shape(n_parameters), 0.5)
