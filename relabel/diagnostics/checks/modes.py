"""Which modes are left that no relabelling brings together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel._util.text import plain
from relabel.diagnostics.checks.alignment import AlignmentCheck
from relabel.diagnostics.checks.base import Case, Check, LevelOfTests, Threshold
from relabel.diagnostics.checks.certainty import CertaintyCheck
from relabel.diagnostics.checks.outputs import OutputsCheck
from relabel.diagnostics.checks.redundancy import RedundancyCheck
from relabel.diagnostics.finding import Finding, named
from relabel.diagnostics.kernels.modes import Mode, find_modes
from relabel.diagnostics.measurements import plain_values
from relabel.matching.draws import log_density

__all__ = ["Modes", "ModesCheck"]

Array = NDArray[Any]

_SEPARATELY = "select the draws of a mode, align and diagnose them by themselves"


@dataclass(frozen=True)
class Modes:
    """The draws, sorted into modes.

    Attributes
    ----------
    mode : ndarray of int, shape (draws,)
    modes : list of Mode
        That of highest median `lp` first.
    """

    mode: Array
    modes: list[Mode]


@dataclass(frozen=True)
class ModeRow:
    """One mode."""

    mode: int
    n_draws: int
    chains: list[int | str]
    lp_median: float | None
    rhat: float | None
    dip_p: float | None
    weight_distance: float | None
    function_distance: float | None
    equivalent_to: int | None
    cause: str | None
    confidence: Annotated[
        dict[str, list[float | None]],
        "Units -> mean probability of each slot's label, in the draws of the mode.",
    ]


@dataclass(frozen=True)
class ModesMeasurements:
    """All modes."""

    modes: Annotated[list[ModeRow], "Modes, that of highest median lp first."] = field(
        default_factory=list
    )


@dataclass(frozen=True)
class ModesCheck(Check[Modes]):
    """Which modes are left that no relabelling brings together."""

    name: ClassVar = "modes"
    needs: ClassVar = (AlignmentCheck,)
    uses: ClassVar = (OutputsCheck, CertaintyCheck, RedundancyCheck)
    subject: ClassVar = "modes"
    place: ClassVar = 80
    codes: ClassVar = ("modes", "equivalent-modes")
    measurements: ClassVar = ModesMeasurements

    apart: Annotated[
        float,
        Threshold(
            "``modes``: separation of two modes (see "
            ":func:`relabel.diagnostics.kernels.clustering.clusters`)."
        ),
    ] = 2.0
    alpha: LevelOfTests = 0.01
    equivalent: Annotated[
        float,
        Threshold(
            "``equivalent-modes``: distance in function, in standard deviations, below which two "
            "modes have nearly one function: their predictions hardly differ."
        ),
    ] = 1.0

    def run(self, case: Case) -> Modes:
        """Sort the draws by weights and outputs; slots with unreliable labels are left out."""
        aligned, labels = case.aligned, case.get(CertaintyCheck)
        outputs, redundant = case.get(OutputsCheck), case.get(RedundancyCheck)
        rows, lp = aligned.draws.rows, log_density(aligned.draws.groups)
        loose, narrow = {}, None
        if labels is not None:
            loose = {units: np.flatnonzero(~labels.reliable(units)) for units in labels.by_units}
        if redundant is not None:
            fewer = [found.eliminated.any(axis=1) for found in redundant.every.values()]
            narrow = np.logical_or.reduce(fewer)
        values = None if outputs is None else outputs.values
        mode, modes = find_modes(
            aligned.problem,
            aligned.criterion,
            aligned.draws.chain,
            lp=None if lp is None else lp.reshape(-1)[rows],
            outputs=None if values is None else values.reshape(-1, values.shape[2])[rows],
            loose=loose,
            narrow=narrow,
            apart=self.apart,
            alpha=self.alpha,
            equivalent=self.equivalent,
        )
        return Modes(mode, modes)

    def measure(self, case: Case, result: Modes) -> ModesMeasurements:
        """Describe every mode."""
        return ModesMeasurements(
            [_row(case, result, number) for number in range(len(result.modes))]
        )

    def findings(self, case: Case, result: Modes | None) -> Iterator[Finding]:
        """Point out every mode but the first."""
        names = case.aligned.chain_names
        for number, mode in enumerate([] if result is None else result.modes):
            if result is None or number == 0:
                continue
            chains = named("chain", [names[c] for c in mode.chains])
            where = f"mode {number} ({mode.n_draws} draws, {chains})"
            evidence = plain_values(_row(case, result, number))
            if mode.equivalent_to is None:
                yield Finding(
                    "modes",
                    "warning",
                    f"{where} is another mode, which no relabelling of the units explains",
                    evidence,
                    f"{_SEPARATELY}; weights must not be averaged over modes",
                )
            else:
                yield Finding(
                    "equivalent-modes",
                    "warning",
                    f"{where} has nearly the outputs of mode {mode.equivalent_to} "
                    f"({mode.equivalent_by:.2f} sd apart): {mode.cause}",
                    evidence,
                    f"{_SEPARATELY}; declare the symmetry in the spec, if it is one",
                )

    def variables(self, case: Case, result: Modes) -> Mapping[str, xr.Variable]:
        """Return the mode of every draw."""
        about = "mode the draw sits in; -1 where it was left out"
        return {"mode": case.variable(result.mode.astype(np.int16), about, fill=-1)}

    def lines(self, numbers: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Count the modes."""
        if numbers["modes"]:
            yield "modes", str(len(numbers["modes"]))


def _row(case: Case, result: Modes, number: int) -> ModeRow:
    """Describe a mode."""
    mode, names, labels = result.modes[number], case.aligned.chain_names, case.get(CertaintyCheck)
    rows = result.mode == number
    known = () if labels is None else labels.by_units
    return ModeRow(
        number,
        mode.n_draws,
        [names[c] for c in mode.chains],
        mode.lp_median,
        mode.rhat,
        mode.dip_p,
        mode.weight_distance,
        mode.function_distance,
        mode.equivalent_to,
        mode.cause,
        {} if labels is None else {units: plain(labels.mean(units, rows)) for units in known},
    )
