"""Whether the scales of homogeneous units (ReLU) follow their exact law."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from relabel.diagnostics.checks.alignment import AlignmentCheck
from relabel.diagnostics.checks.base import Case, Check, LevelOfTests
from relabel.diagnostics.finding import Finding, Open
from relabel.diagnostics.kernels.scales import ScaleLaw, scale_law
from relabel.diagnostics.measurements import plain_values
from relabel.groups.elements import Element
from relabel.spec.spec import SAMPLE_DIMS

__all__ = ["ScalesCheck"]


@dataclass(frozen=True)
class ScaleRow:
    """Test of the scales of one set of units."""

    statistic: Annotated[float | None, "Kolmogorov-Smirnov distance from the law."]
    ess: Annotated[float | None, "Effective number of independent scales."]
    p_value: Annotated[float | None, "Of the test that they follow it."]
    mean: Annotated[float | None, "Of the transforms: above 1/2 where incoming weights are large."]
    n: Annotated[int, "How many scales there are."]
    n_left: Annotated[int, "Units of single draws that have no law."]
    missing: Annotated[list[str], "Variables without a prior."]

    @classmethod
    def of(cls, found: ScaleLaw) -> ScaleRow:
        """Leave out the name of the units."""
        return cls(
            found.statistic,
            found.ess,
            found.p_value,
            found.mean,
            found.n,
            found.n_left,
            list(found.missing),
        )


@dataclass(frozen=True)
class ScalesMeasurements:
    """Test of the scales of every set of units that has any."""

    scale_law: Annotated[dict[str, ScaleRow], "Units -> test of the exact law of their scales."] = (
        field(default_factory=dict)
    )


@dataclass(frozen=True)
class ScalesCheck(Check[dict[str, ScaleLaw]]):
    """Whether the scales of homogeneous units (ReLU) follow their exact law."""

    name: ClassVar = "scales"
    needs: ClassVar = (AlignmentCheck,)
    subject: ClassVar = "sampler"
    place: ClassVar = 55
    codes: ClassVar = ("scale-law",)
    measurements: ClassVar = ScalesMeasurements

    alpha: LevelOfTests = 0.01

    def run(self, case: Case) -> dict[str, ScaleLaw]:
        """Test the scales that the draws had before alignment."""
        aligned = case.aligned
        posterior = aligned.groups["posterior"]
        elements: Mapping[str, Element] | None = aligned.transformation.elements
        if aligned.transformation.offsets is not None:  # the law is that of the whole weights
            posterior, elements = aligned.original, None
        arrays = {
            v.name: posterior[v.name].transpose(*SAMPLE_DIMS, ...).values
            for v in aligned.resolved.measured()
            if v.unit_axes()
        }
        excluded = aligned.draws.excluded
        return scale_law(
            arrays, aligned.resolved, case.priors, elements=elements, excluded=excluded
        )

    def measure(self, case: Case, result: dict[str, ScaleLaw]) -> ScalesMeasurements:
        """Describe the test of every set of units."""
        return ScalesMeasurements({units: ScaleRow.of(law) for units, law in result.items()})

    def findings(self, case: Case, result: dict[str, ScaleLaw] | None) -> Iterator[Finding]:
        """Point out scales that do not follow their law."""
        found = result or {}
        missing = sorted({name for law in found.values() for name in law.missing})
        if missing:
            yield Open(
                "law of the scale",
                f"the priors of {', '.join(missing)} are not known",
                "give their standard deviations (priors=, --prior W1=1)",
            ).finding()
        for units, law in found.items():
            if law.p_value < self.alpha:
                yield Finding(
                    "scale-law",
                    "warning",
                    f"units {units!r}: scales do not follow their exact law "
                    f"(p = {law.p_value:.2g}), so the sampler has not explored them, or the given "
                    "priors are not those used",
                    plain_values(ScaleRow.of(law)),
                    "run longer; relabel.stats.redraw_scale draws scales exactly",
                )

    def lines(self, numbers: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """List the p-values that are known."""
        for units, law in numbers["scale_law"].items():
            if law["p_value"] is not None:
                yield "scale law", f"{units}: p = {law['p_value']:.2g}"
