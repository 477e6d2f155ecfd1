"""Whether the draws were aligned, and whether the alignment converged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from relabel.alignment.provenance import rotations_left
from relabel.diagnostics.checks.base import Case, Check, Threshold
from relabel.diagnostics.finding import Finding

__all__ = ["AlignmentCheck", "Course"]


@dataclass(frozen=True)
class Course:
    """How the alignment went.

    Attributes
    ----------
    n_sweeps : int
    converged : bool
    """

    n_sweeps: int
    converged: bool


@dataclass(frozen=True)
class AlignmentMeasurements:
    """How the alignment went."""

    sweeps: Annotated[int | None, "Number of sweeps that the alignment took."] = None


@dataclass(frozen=True)
class AlignmentCheck(Check[Course]):
    """Whether the draws were aligned, and whether the alignment converged.

    Checks of labels need it: it has a result only if the draws were aligned.
    """

    name: ClassVar = "alignment"
    subject: ClassVar = "labels"
    place: ClassVar = 15
    codes: ClassVar = ("not-aligned", "criterion", "many-sweeps")
    measurements: ClassVar = AlignmentMeasurements

    sweeps: Annotated[
        float,
        Threshold(
            "``many-sweeps``: more sweeps are pointed out. Sharp modes settle in fewer than five."
        ),
    ] = 10

    def run(self, case: Case) -> Course | None:
        """Read the record."""
        known = case.aligned.provenance
        return None if known is None else Course(len(known.losses), known.converged)

    def measure(self, case: Case, result: Course) -> AlignmentMeasurements:
        """Return the number of sweeps."""
        return AlignmentMeasurements(result.n_sweeps)

    def findings(self, case: Case, result: Course | None) -> Iterator[Finding]:
        """Point out draws that were not aligned, or took long, and criteria that are not known."""
        stand_in = case.aligned.rebuilt.stand_in
        if stand_in:
            yield Finding("criterion", "info", stand_in)
        if result is None:
            yield Finding(
                "not-aligned",
                "error",
                "the draws were not aligned: labels mean nothing yet",
                remedy="align them (relabel.align), then diagnose again",
            )
        elif result.n_sweeps > self.sweeps or not result.converged:
            end = "" if result.converged else " and did not converge"
            rotations = rotations_left(case.aligned.resolved)
            yield Finding(
                "many-sweeps",
                "warning" if rotations else "info",
                f"the alignment took {result.n_sweeps} sweeps{end}, as it does for "
                f"{'diffuse or rotated' if rotations else 'diffuse'} draws",
                {"sweeps": result.n_sweeps, "converged": result.converged},
                rotations,
            )
