"""Which units a network could do without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel._util.text import plain
from relabel.diagnostics.checks.base import Case, Check, Threshold
from relabel.diagnostics.checks.chains import ChainsCheck
from relabel.diagnostics.checks.likelihood import LikelihoodCheck
from relabel.diagnostics.checks.outputs import OutputsCheck
from relabel.diagnostics.finding import Finding, Open, named
from relabel.diagnostics.kernels.removal import KINDS, ProximateRank, Redundancy, redundancy
from relabel.diagnostics.kernels.widths import Widths

__all__ = [
    "EffectiveWidths",
    "LevelOfLosses",
    "RedundancyCheck",
    "RedundantUnits",
    "SpareUnits",
    "Width",
    "width_lines",
    "width_variables",
]

Array = NDArray[Any]

_LEAST_SHOWN = 0.005  # share of draws that is named


@dataclass(frozen=True)
class Width:
    """Effective width of a set of units."""

    pmf: list[float]
    median: float
    how: str

    @classmethod
    def of(cls, found: Widths, how: str) -> Width:
        """Summarise the widths of all draws."""
        return cls(plain(found.width_pmf), found.median_width, how)


#: Level that removal and merge losses share.
LevelOfLosses = Annotated[
    float,
    Threshold(
        "``spare-units``, ``duplicates``: level of the chi-squared quantile that removal and merge "
        "losses are compared with.",
        below=1,
    ),
]

#: Keys that networks and mixtures share.
SpareUnits = Annotated[
    dict[str, list[int]],
    "Units -> slots that most draws do without, or in which they are empty (mixtures).",
]
EffectiveWidths = Annotated[
    dict[str, Width],
    "Units -> share of draws that need 0, 1, ... units, or in which so many are not empty "
    "(mixtures); their median.",
]


def width_variables(
    case: Case, units: str, every: Widths, sound: Widths, about: str
) -> Mapping[str, xr.Variable]:
    """Variables of the width of each draw and of spare slots."""
    width = every.effective_width.astype(np.int16)
    spare = np.isin(np.arange(every.eliminated.shape[1]), sound.spare).astype(np.int8)
    attrs = {"long_name": "1 where most draws do without this slot", "units": "1"}
    return {
        f"{units}_effective_width": case.variable(width, about, fill=-1),
        f"{units}_spare": xr.Variable((units,), spare, attrs),
    }


def width_lines(numbers: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Lines of the report on effective widths."""
    for units, width in numbers["effective_width"].items():
        pmf = enumerate(width["pmf"])
        needed = ", ".join(f"{n} in {share:.0%}" for n, share in pmf if share >= _LEAST_SHOWN)
        yield "width", f"{units}: {needed} of the draws"


@dataclass(frozen=True)
class RankCurve:
    """Proximate rank at each distance: median and central 90 % over draws."""

    epsilon: list[float | None]
    median: list[float | None]
    low: list[float | None]
    high: list[float | None]

    @classmethod
    def of(cls, found: ProximateRank | None) -> RankCurve | None:
        """Summarise the ranks of all draws."""
        if found is None:
            return None
        low, middle, high = (plain(line) for line in found.quantiles())
        return cls(plain(found.epsilon), middle, low, high)


@dataclass(frozen=True)
class RedundancyMeasurements:
    """Which units are needed."""

    spare_units: SpareUnits = field(default_factory=dict)
    effective_width: EffectiveWidths = field(default_factory=dict)
    proximate_rank: Annotated[
        dict[str, RankCurve | None], "Units -> curve of the proximate rank over draws."
    ] = field(default_factory=dict)


@dataclass(frozen=True)
class RedundancySlot:
    """What a slot holds."""

    spare: bool
    spare_alone: Annotated[bool, "Whether most draws could do without this slot, all others kept."]
    removal_loss: Annotated[float | None, "Median over draws, in nats if a likelihood is known."]
    kind: Annotated[str, f"One of {', '.join(KINDS)}, in most draws."]


@dataclass(frozen=True)
class RedundantUnits:
    """Redundancy of every set of units that something reads.

    Attributes
    ----------
    every, sound : dict of str to Redundancy
        In all draws, and in those of chains that are not flagged.
    """

    every: dict[str, Redundancy]
    sound: dict[str, Redundancy]


@dataclass(frozen=True)
class RedundancyCheck(Check[RedundantUnits]):
    """Which units a network could do without."""

    name: ClassVar = "redundancy"
    needs: ClassVar = (ChainsCheck, OutputsCheck, LikelihoodCheck)
    subject: ClassVar = "units"
    place: ClassVar = 70
    codes: ClassVar = ("spare-units",)
    measurements: ClassVar = RedundancyMeasurements
    slot: ClassVar = RedundancySlot

    level: LevelOfLosses = 0.95

    def run(self, case: Case) -> RedundantUnits | Open:
        """Remove units one by one, and as many as can be removed together."""
        outputs, rows = case[OutputsCheck], case[ChainsCheck].sound
        arrays, fitted = case.aligned.arrays, case[LikelihoodCheck]
        if fitted.family.why_no_refits is not None:
            return Open(
                "removal losses, widths, duplicated units",
                fitted.family.why_no_refits,
                "name another likelihood; relabel.average gives the losses of whole networks",
            )
        every = redundancy(outputs.network, arrays, outputs.points, fitted, level=self.level)
        sound = {
            units: replace(
                found,
                removal_loss=found.removal_loss[rows],
                kind=found.kind[rows],
                eliminated=found.eliminated[rows],
            )
            for units, found in every.items()
        }
        return RedundantUnits(every, sound)

    def measure(self, case: Case, result: RedundantUnits) -> RedundancyMeasurements:
        """Return spare slots, effective widths and proximate ranks."""
        sound, labelled = result.sound.items(), case.aligned.was_aligned
        return RedundancyMeasurements(
            {units: found.spare for units, found in sound} if labelled else {},
            {units: Width.of(found, found.how) for units, found in sound},
            {units: RankCurve.of(found.proximate) for units, found in result.every.items()},
        )

    def measure_slots(
        self, case: Case, result: RedundantUnits
    ) -> Mapping[str, Sequence[RedundancySlot]]:
        """Say what each slot holds; without labels slots hold nothing in particular."""
        if not case.aligned.was_aligned:
            return {}
        return {units: _slots(found) for units, found in result.sound.items()}

    def findings(self, case: Case, result: RedundantUnits | None) -> Iterator[Finding]:
        """Point out sets of units of which fewer are enough."""
        for units, found in () if result is None else result.sound.items():
            width, size = found.likely_width, found.eliminated.shape[1]
            if width == size:
                continue
            spare = found.spare if case.aligned.was_aligned else []
            which = f"; spare: {named('slot', spare)}" if spare else ""
            yield Finding(
                "spare-units",
                "warning",
                f"{width} of {size} units {units!r} are enough in most draws{which}",
                {"units": units, "slots": spare, "effective_width": found.width_pmf.tolist()},
                "a smaller network describes the data; spare units have no stable label",
            )

    def variables(self, case: Case, result: RedundantUnits) -> Mapping[str, xr.Variable]:
        """Return removal losses, kinds, effective widths and spare slots."""
        unit = "nats" if case[LikelihoodCheck].nats else "1"
        flags = np.arange(-1, len(KINDS), dtype=np.int8)
        meanings: dict[str, Any] = {
            "flag_values": flags,
            "flag_meanings": " ".join(("none", *KINDS)),
        }
        found: dict[str, xr.Variable] = {}
        for units, every in result.every.items():
            about = (
                "divergence of the outputs when this unit is left out and the others are refitted"
            )
            found[f"{units}_removal_loss"] = case.variable(
                every.removal_loss, about, units, unit=unit
            )
            about = "what the unit does on the inputs"
            kind = every.kind.astype(np.int8)
            found[f"{units}_kind"] = case.variable(kind, about, units, fill=-1, **meanings)
            about = "number of units the draw needs"
            found |= width_variables(case, units, every, result.sound[units], about)
        return found

    def lines(self, numbers: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """List effective widths, those of mixtures too."""
        return width_lines(numbers)


def _slots(found: Redundancy) -> list[RedundancySlot]:
    """One row for every slot."""
    shares = found.kind_shares
    return [
        RedundancySlot(
            slot in found.spare,
            slot in found.spare_alone,
            float(np.median(found.removal_loss[:, slot])),
            max(shares, key=lambda kind, slot=slot: float(shares[kind][slot])),  # type: ignore[misc]
        )
        for slot in range(found.eliminated.shape[1])
    ]
