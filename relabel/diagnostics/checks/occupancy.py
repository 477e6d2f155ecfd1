"""Which components of a mixture have no observations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.diagnostics.checks.base import Case, Check
from relabel.diagnostics.checks.chains import ChainsCheck
from relabel.diagnostics.checks.redundancy import (
    EffectiveWidths,
    RedundancyCheck,
    SpareUnits,
    Width,
    width_variables,
)
from relabel.diagnostics.finding import Finding, named
from relabel.diagnostics.kernels.empty_components import Occupancy, occupancy

__all__ = ["EmptyComponents", "OccupancyCheck"]

Array = NDArray[Any]


@dataclass(frozen=True)
class OccupancyMeasurements:
    """Which components have observations."""

    spare_units: SpareUnits = field(default_factory=dict)
    effective_width: EffectiveWidths = field(default_factory=dict)


@dataclass(frozen=True)
class OccupancySlot:
    """Whether a slot has observations."""

    spare: bool
    occupied: Annotated[float, "Share of draws in which the slot has observations (mixtures)."]


@dataclass(frozen=True)
class EmptyComponents:
    """Which slots are empty, of every set of units whose allocations are known.

    Attributes
    ----------
    every, sound : dict of str to Occupancy
        In all draws, and in those of chains that are not flagged.
    full : ndarray of bool, shape (draws,)
        Which draws have no empty slot.
    """

    every: dict[str, Occupancy]
    sound: dict[str, Occupancy]
    full: Array


@dataclass(frozen=True)
class OccupancyCheck(Check[EmptyComponents]):
    """Which components of a mixture have no observations.

    Of units of a network whose outputs are known, redundancy says which are needed.
    """

    name: ClassVar = "occupancy"
    needs: ClassVar = (ChainsCheck,)
    uses: ClassVar = (RedundancyCheck,)
    subject: ClassVar = "units"
    place: ClassVar = 71
    codes: ClassVar = ("spare-units",)
    measurements: ClassVar = OccupancyMeasurements
    slot: ClassVar = OccupancySlot

    def run(self, case: Case) -> EmptyComponents:
        """Look at labels, or allocation probabilities."""
        redundant, rows = case.get(RedundancyCheck), case[ChainsCheck].sound
        known = {} if redundant is None else redundant.every
        found = occupancy(case.aligned.draws)
        every = {units: own for units, own in found.items() if units not in known}
        sound = {u: replace(own, eliminated=own.eliminated[rows]) for u, own in every.items()}
        full = np.ones(len(case.aligned.draws.chain), bool)
        for own in every.values():
            full &= ~own.eliminated.any(axis=1)
        return EmptyComponents(every, sound, full)

    def measure(self, case: Case, result: EmptyComponents) -> OccupancyMeasurements:
        """Return spare slots, and numbers of components that are not empty."""
        sound, labelled = result.sound.items(), case.aligned.was_aligned
        return OccupancyMeasurements(
            {units: found.spare for units, found in sound} if labelled else {},
            {units: Width.of(found, found.how) for units, found in sound},
        )

    def measure_slots(
        self, case: Case, result: EmptyComponents
    ) -> Mapping[str, Sequence[OccupancySlot]]:
        """Say how often each slot is occupied."""
        if not case.aligned.was_aligned:
            return {}
        return {
            units: [
                OccupancySlot(slot in found.spare, float(1 - found.eliminated[:, slot].mean()))
                for slot in range(found.eliminated.shape[1])
            ]
            for units, found in result.sound.items()
        }

    def findings(self, case: Case, result: EmptyComponents | None) -> Iterator[Finding]:
        """Point out components that have no observations in most draws."""
        for units, found in () if result is None else result.sound.items():
            width, size = found.likely_width, found.eliminated.shape[1]
            spare = found.spare if case.aligned.was_aligned else []
            if width == size and not spare:
                continue
            share = found.width_pmf[width]
            often = "in most draws" if share > 0.5 else f"most often ({share:.0%} of the draws)"
            which = f"; empty in most draws: {named('slot', spare)}" if spare else ""
            yield Finding(
                "spare-units",
                "warning",
                f"{width} of {size} units {units!r} have observations {often}{which}",
                {"units": units, "slots": spare, "effective_width": found.width_pmf.tolist()},
                "fewer components describe the data; one that is empty was drawn from the prior "
                "and has no label",
            )

    def variables(self, case: Case, result: EmptyComponents) -> Mapping[str, xr.Variable]:
        """Return numbers of components that are not empty, and spare slots."""
        found: dict[str, xr.Variable] = {}
        for units, every in result.every.items():
            about = "number of units that are not empty"
            found |= width_variables(case, units, every, result.sound[units], about)
        return found
