"""Whether other first references lead to the same labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from relabel._util.text import plain
from relabel.diagnostics.checks.base import Case, Check, Threshold
from relabel.diagnostics.checks.certainty import CertaintyCheck
from relabel.diagnostics.checks.null import NullCheck
from relabel.diagnostics.finding import Finding
from relabel.diagnostics.kernels.null import agreement_of_starts

__all__ = ["StartsCheck"]

Array = NDArray[Any]


@dataclass(frozen=True)
class StartsMeasurements:
    """How far labels depend on the start."""

    start_agreement: Annotated[
        dict[str, list[float | None]],
        "Units -> share of labels that came out alike from each other start.",
    ] = field(default_factory=dict)


@dataclass(frozen=True)
class StartsCheck(Check[dict[str, Array]]):
    """Whether other first references lead to the same labels.

    The result has for every set of units the share of labels that agree, (starts, K).
    """

    name: ClassVar = "starts"
    needs: ClassVar = (NullCheck,)
    uses: ClassVar = (CertaintyCheck,)
    subject: ClassVar = "labels"
    place: ClassVar = 25
    codes: ClassVar = ("starts-disagree",)
    measurements: ClassVar = StartsMeasurements

    agreement: Annotated[
        float,
        Threshold(
            "``starts-disagree``: share of labels that must come out alike from other starts "
            "(median over starts). Below it the labels reflect the start, not the draws.",
            below=1,
        ),
    ] = 0.9

    def run(self, case: Case) -> dict[str, Array] | None:
        """Align again from other first draws; None where the reference is given."""
        rows, step = case[NullCheck].rows, partial(case.progress, "other starts")
        problem, criterion = case.aligned.compared
        return agreement_of_starts(problem, criterion, rows=rows, seed=case.seed, step=step)

    def measure(self, case: Case, result: dict[str, Array]) -> StartsMeasurements:
        """Return the agreement of every start."""
        return StartsMeasurements({u: plain(shares.mean(axis=1)) for u, shares in result.items()})

    def findings(self, case: Case, result: dict[str, Array] | None) -> Iterator[Finding]:
        """Point out labels that could be believed but for their dependence on the start."""
        labels = case.get(CertaintyCheck)
        for units, shares in (result or {}).items():
            firm = np.ones(shares.shape[1], bool)
            if labels is not None and units in labels.by_units:
                firm = labels.reliable(units)
            agreement = shares[:, firm].mean(axis=1) if firm.any() else np.ones(1)
            if agreement.size and np.median(agreement) < self.agreement:
                yield Finding(
                    "starts-disagree",
                    "error",
                    f"aligned from other first draws, {np.median(agreement):.0%} of the labels of "
                    f"{units!r} come out alike",
                    {
                        "units": units,
                        "agreement": agreement.tolist(),
                        "threshold": self.agreement,
                    },
                    "do not rely on labels that change with the start; another criterion may "
                    "decide (relabel.criteria.Normal)",
                )
