"""Whether slots explain more than those of shuffled units, or the alignment sorted noise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from relabel._util.text import formatted, or_none
from relabel.diagnostics.checks.alignment import AlignmentCheck
from relabel.diagnostics.checks.base import Case, Check, Threshold
from relabel.diagnostics.checks.certainty import CertaintyCheck
from relabel.diagnostics.checks.chains import ChainsCheck
from relabel.diagnostics.checks.occupancy import OccupancyCheck
from relabel.diagnostics.finding import AVERAGE, Finding, Open
from relabel.diagnostics.kernels.null import Null, shuffled_null

__all__ = ["NullCheck", "Structure"]

Array = NDArray[Any]

_FEW = 20  # draws, of which a handful of noise can look like structure by chance
_CERTAIN = 0.99  # of every slot: noise is never sorted that surely by probabilities that are fitted
_DRAWS_A_FEATURE = 20  # draws for each feature, so that they are fitted, not remembered


@dataclass(frozen=True)
class Structure:
    """Variance that slots explain, beside that of shuffled units.

    Attributes
    ----------
    null : Null
    rows : ndarray of int
        The draws that were looked at: of chains that are not flagged, and without empty slots if
        most have none. What an empty slot holds was drawn from the prior, which is often far wider
        than all else, so that a few such draws would outweigh the others.
    """

    null: Null
    rows: Array


@dataclass(frozen=True)
class Explained:
    """Share of the variance of one set of units that lies between slots."""

    draws: float | None
    null: float | None


@dataclass(frozen=True)
class NullMeasurements:
    """Variance that slots explain."""

    variance_explained: Annotated[float | None, "Share of the variance of units between slots."] = (
        None
    )
    variance_explained_null: Annotated[
        float | None, "The same of shuffled units that were aligned again, mean."
    ] = None
    variance_explained_null_interval: Annotated[
        list[float | None] | None, "Monte Carlo interval of it."
    ] = None
    variance_explained_units: Annotated[dict[str, Explained], "Both, for each set of units."] = (
        field(default_factory=dict)
    )


@dataclass(frozen=True)
class NullCheck(Check[Structure]):
    """Whether slots explain more than those of shuffled units, or the alignment sorted noise."""

    name: ClassVar = "null"
    needs: ClassVar = (AlignmentCheck, ChainsCheck, OccupancyCheck)
    uses: ClassVar = (CertaintyCheck,)
    subject: ClassVar = "labels"
    place: ClassVar = 20
    codes: ClassVar = ("null", "null-unknown", "no-variance", "noisy-features")
    unjudged: ClassVar = ("null-unknown",)
    measurements: ClassVar = NullMeasurements

    null_gap: Annotated[
        float,
        Threshold(
            "``null``: the slots must explain this much more of the variance than those of "
            "shuffled units. The null's own spread is some hundredths at most; below a tenth "
            "little more than noise was sorted.",
            below=1,
        ),
    ] = 0.1

    def run(self, case: Case) -> Structure | Open | None:
        """Shuffle the units of all draws, and align them again."""
        if not _several(case):
            return None  # one unit is in its slot
        full = case[OccupancyCheck].full
        full = full if full.mean() > 0.5 else np.ones_like(full)
        rows = np.flatnonzero(case[ChainsCheck].sound & full)
        if len(rows) < _FEW:
            return Open("null", f"draws are few ({len(rows)})", f"at least {_FEW} are needed")
        step = partial(case.progress, self.name)
        null = shuffled_null(*case.aligned.compared, rows=rows, seed=case.seed, step=step)
        return Structure(null, rows)

    def measure(self, case: Case, result: Structure) -> NullMeasurements:
        """Return the share of variance, of all sets of units and of each."""
        null = result.null
        return NullMeasurements(
            null.explained,
            float(null.shuffled.mean()),
            list(null.interval(null.shuffled)),
            {u: Explained(v, float(s.mean())) for u, (v, s) in null.by_units.items()},
        )

    def findings(self, case: Case, result: Structure | None) -> Iterator[Finding]:
        """Point out sets of units whose slots explain no more than shuffled ones."""
        if result is None:
            if _several(case):
                yield Finding(
                    "null-unknown",
                    "info",
                    "too few draws to compare with shuffled ones",
                    {"n_draws": case[ChainsCheck].n_sound},
                    AVERAGE if case.aligned.members else "draw more",
                )
            return
        for units, (explained, shuffled) in result.null.by_units.items():
            if case.aligned.resolved.sizes[units] < 2:
                continue
            evidence = {
                "units": units,
                "variance_explained": or_none(explained),
                "variance_explained_null": or_none(shuffled.mean()),
                "threshold": self.null_gap,
            }
            if not np.isfinite(explained):
                yield Finding(
                    "no-variance",
                    "error",
                    f"the units {units!r} are the same in all draws: labels cannot be told apart",
                    evidence,
                    "look at the draws: a sampler that moves does not return this",
                )
            elif not explained - shuffled.mean() > self.null_gap:
                yield _no_gap(case, units, explained, float(shuffled.mean()), evidence)

    def lines(self, numbers: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Compare the share of variance with that of shuffled units."""
        if numbers["variance_explained"] is None:
            return
        low, high = (formatted(v, ".3f") for v in numbers["variance_explained_null_interval"])
        explained = formatted(numbers["variance_explained"], ".3f")
        shuffled = formatted(numbers["variance_explained_null"], ".3f")
        line = f"slots explain {explained} of the variance, shuffled ones {shuffled}"
        yield "structure", f"{line} ({low} to {high})"


def _several(case: Case) -> bool:
    """Whether there is a set of two or more units."""
    return max(case.aligned.resolved.sizes.values()) > 1


def _no_gap(
    case: Case, units: str, explained: float, null: float, evidence: dict[str, Any]
) -> Finding:
    """Slots explain hardly more than shuffled ones: noise, or a few good features among noise."""
    found = (
        f"slots explain {explained:.2f} of the variance, and {null:.2f} after units are shuffled "
        "and aligned again"
    )
    labels = case.get(CertaintyCheck)
    if labels is not None and units in labels.by_units:
        needed = _DRAWS_A_FEATURE * labels.by_units[units].n_features
        enough = case[ChainsCheck].n_sound >= needed
        if enough and (labels.confidence(units) >= _CERTAIN).all():
            return Finding(
                "noisy-features",
                "warning",
                f"units {units!r}: {found}; yet labels are certain: some features tell the units "
                "apart, most do not",
                evidence,
                "match on the features that do: relabel.criteria.Mean(var_names=...)",
            )
    return Finding(
        "null",
        "error",
        f"labels of {units!r} are indistinguishable from chance: {found}",
        evidence,
        AVERAGE
        if case.aligned.members
        else "use what does not depend on labels: outputs, sums over units, effective widths",
    )
