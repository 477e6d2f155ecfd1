"""Which copies of the mode the draws came from, and whether they were visited evenly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from relabel._util.text import plain
from relabel.diagnostics.checks.alignment import AlignmentCheck
from relabel.diagnostics.checks.base import Case, Check, LevelOfTests
from relabel.diagnostics.checks.chains import ChainsCheck
from relabel.diagnostics.finding import Finding, Open
from relabel.diagnostics.kernels.orbits import Orbit, orbit
from relabel.diagnostics.measurements import plain_values

__all__ = ["OrbitCheck"]

_SHOWN = 10  # copies whose shares are listed


@dataclass(frozen=True)
class OrbitRow:
    """Copies of one set of units."""

    order: Annotated[int, "Number of copies."]
    visited: Annotated[int, "How many of them hold a draw."]
    largest_shares: Annotated[list[float], "Share of the draws in each, of the largest ten."]
    switching: Annotated[float | None, "Share of consecutive draws in different copies."]
    switching_of_chains: Annotated[list[float | None], "The same for each chain."]
    n_chains: Annotated[int, "Chains that were looked at."]
    overlap: Annotated[float | None, "Probability that draws of two chains share a copy."]
    order_tested: Annotated[int, "Number of copies that ought to be equally common."]
    p_value: Annotated[float | None, "Of the test that they are."]

    @classmethod
    def of(cls, found: Orbit) -> OrbitRow:
        """Leave out what takes much space."""
        return cls(
            found.order,
            found.visited,
            plain(found.shares[:_SHOWN]),
            found.switching,
            plain(found.switching_of_chains),
            found.n_chains,
            found.overlap,
            found.order_tested,
            found.p_value,
        )


@dataclass(frozen=True)
class OrbitMeasurements:
    """Copies of every set of units."""

    orbit: Annotated[
        dict[str, OrbitRow], "Units -> copies of the mode that the draws came from."
    ] = field(default_factory=dict)


@dataclass(frozen=True)
class OrbitCheck(Check[dict[str, Orbit]]):
    """Which copies of the mode the draws came from, and whether they were visited evenly."""

    name: ClassVar = "orbit"
    needs: ClassVar = (AlignmentCheck, ChainsCheck)
    subject: ClassVar = "sampler"
    place: ClassVar = 50
    codes: ClassVar = ("orbit-not-uniform",)
    measurements: ClassVar = OrbitMeasurements

    alpha: LevelOfTests = 0.01

    def run(self, case: Case) -> dict[str, Orbit]:
        """Count the copies, and test whether chains share them by chance."""
        aligned, flags = case.aligned, case[ChainsCheck].flags
        return orbit(
            aligned.transformation.elements,
            aligned.resolved,
            excluded=aligned.draws.excluded,
            flagged=None if flags is None else ~flags.sound,
            seed=case.seed,
        )

    def measure(self, case: Case, result: dict[str, Orbit]) -> OrbitMeasurements:
        """Describe the copies of every set of units."""
        return OrbitMeasurements({units: OrbitRow.of(found) for units, found in result.items()})

    def findings(self, case: Case, result: dict[str, Orbit] | None) -> Iterator[Finding]:
        """Point out chains that share copies."""
        found = result or {}
        for units in sorted(set(case.aligned.transformation.elements) - set(found)):
            yield Open(
                f"copies of {units!r} that were visited",
                "units that rotate have a continuum of copies",
                "align them as 'signed' units to count copies",
            ).finding()
        for units, own in found.items():
            if own.p_value < self.alpha:
                yield Finding(
                    "orbit-not-uniform",
                    "warning",
                    f"units {units!r}: chains share copies of the mode more often than by chance "
                    f"(p = {own.p_value:.2g})",
                    plain_values(OrbitRow.of(own)),
                    "either chains started near each other, or prior or sampler do not treat the "
                    "units alike: that chains agree then proves less than it seems",
                )
