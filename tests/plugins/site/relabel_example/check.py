"""A check: how many labels the alignment changed.

It has all that a check can have: a threshold, a measurement, a column of slots, a finding, a line
of the report, and a variable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
import xarray as xr

from relabel.diagnostics.checks.alignment import AlignmentCheck
from relabel.diagnostics.checks.base import Case, Check, Threshold
from relabel.diagnostics.finding import Finding


@dataclass(frozen=True)
class MovedMeasurements:
    """Share of labels that alignment changed."""

    moved: Annotated[dict[str, float], "Units -> share of labels that alignment changed."] = field(
        default_factory=dict
    )


@dataclass(frozen=True)
class MovedSlot:
    """The same of one slot."""

    moved: float


@dataclass(frozen=True)
class MovedCheck(Check[dict[str, np.ndarray]]):
    """How many labels the alignment changed."""

    name: ClassVar = "moved"
    needs: ClassVar = (AlignmentCheck,)
    subject: ClassVar = "labels"
    codes: ClassVar = ("much-moved",)
    measurements: ClassVar = MovedMeasurements
    slot: ClassVar = MovedSlot

    most_moved: Annotated[
        float, Threshold("``much-moved``: larger shares are pointed out.", below=1)
    ] = 0.999

    def run(self, case: Case) -> dict[str, np.ndarray]:
        """Compare the index of every slot with its number, (draws, K)."""
        rows = case.aligned.draws.rows
        elements = case.aligned.transformation.elements
        return {
            units: (e.index.reshape(-1, e.size) != np.arange(e.size))[rows]
            for units, e in elements.items()
        }

    def measure(self, case: Case, result: dict[str, np.ndarray]) -> MovedMeasurements:
        """Return the share of each set of units."""
        return MovedMeasurements({units: moved.mean() for units, moved in result.items()})

    def measure_slots(
        self, case: Case, result: dict[str, np.ndarray]
    ) -> Mapping[str, Sequence[MovedSlot]]:
        """Return the share of each slot."""
        return {
            u: [MovedSlot(share) for share in moved.mean(axis=0)] for u, moved in result.items()
        }

    def findings(self, case: Case, result: dict[str, np.ndarray] | None) -> Iterator[Finding]:
        """Point out sets of units of which nearly all labels changed."""
        for units, moved in (result or {}).items():
            if moved.mean() > self.most_moved:
                message = f"alignment changed {moved.mean():.0%} of the labels of {units!r}"
                yield Finding("much-moved", "warning", message, {"share": moved.mean()})

    def variables(self, case: Case, result: dict[str, np.ndarray]) -> Mapping[str, xr.Variable]:
        """Return the number of labels that changed in each draw."""
        about = "number of labels that alignment changed"
        return {f"{u}_moved": case.variable(m.sum(axis=1), about) for u, m in result.items()}

    def lines(self, numbers: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """List the shares."""
        for units, share in numbers["moved"].items():
            yield "moved", f"{units}: {share:.0%} of the labels"
