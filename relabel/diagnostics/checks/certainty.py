"""How certain each label is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel._util.text import formatted, join, plain
from relabel.diagnostics.checks.alignment import AlignmentCheck
from relabel.diagnostics.checks.base import Case, Check, Threshold
from relabel.diagnostics.checks.chains import ChainsCheck
from relabel.diagnostics.checks.occupancy import OccupancyCheck
from relabel.diagnostics.checks.redundancy import RedundancyCheck
from relabel.diagnostics.finding import AVERAGE, Finding, Open, named
from relabel.diagnostics.kernels.certainty import FEWEST, Certainty, soft_labels
from relabel.diagnostics.kernels.widths import Widths

__all__ = ["CertaintyCheck", "LabelProbabilities"]

Array = NDArray[Any]

_EMPTY = 0.05  # share of draws in which a slot is empty that is pointed out
_MOST_SHOWN = 20  # slots of the report


@dataclass(frozen=True)
class LabelProbabilities:
    """Probabilities of labels, of every set of units that has any.

    Attributes
    ----------
    by_units : dict of str to Certainty
        Where a slot is empty, the probability of its label is nan.
    sound : ndarray of bool, shape (draws,)
        Which draws belong to chains that are not flagged.
    least : float
        Mean probability from which on a label can be believed.
    """

    by_units: dict[str, Certainty]
    sound: Array
    least: float

    def confidence(self, units: str) -> Array:
        """Mean probability of each slot's label, over the chains that are not flagged."""
        return self.mean(units, self.sound)

    def mean(self, units: str, rows: Array) -> Array:
        """Mean probability of each slot's label over some draws; 0 where the slot is empty."""
        mean: Array = np.nan_to_num(self.by_units[units].label[rows]).mean(axis=0)
        return mean

    def reliable(self, units: str) -> Array:
        """Which slots have a label that can be believed, bool of shape (K,)."""
        return self.confidence(units) >= self.least

    def ambiguous(self, units: str, below: float) -> float:
        """Share of draws whose labels are all right with a lower probability."""
        return float((self.by_units[units].unmoved[self.sound] < below).mean())


@dataclass(frozen=True)
class CertaintyMeasurements:
    """How certain labels are."""

    confidence: Annotated[
        dict[str, list[float | None]],
        "Units -> mean probability of each slot's label; 0 where it is empty.",
    ] = field(default_factory=dict)
    ambiguous_draws: Annotated[
        dict[str, float], "Units -> share of draws not all labels of which are certain."
    ] = field(default_factory=dict)
    certainty: Annotated[dict[str, str], "Units -> how probabilities of labels were computed."] = (
        field(default_factory=dict)
    )


@dataclass(frozen=True)
class CertaintySlot:
    """How certain the label of a slot is."""

    confidence: float | None = None


@dataclass(frozen=True)
class CertaintyCheck(Check[LabelProbabilities]):
    """How certain each label is."""

    name: ClassVar = "certainty"
    needs: ClassVar = (AlignmentCheck, ChainsCheck)
    uses: ClassVar = (OccupancyCheck, RedundancyCheck)
    subject: ClassVar = "labels"
    place: ClassVar = 10
    codes: ClassVar = ("certainty-unknown", "loose-slots", "ambiguous-draws")
    unjudged: ClassVar = ("certainty-unknown",)
    measurements: ClassVar = CertaintyMeasurements
    slot: ClassVar = CertaintySlot

    confidence: Annotated[
        float,
        Threshold(
            "``loose-slots``: a slot's label can be believed if it is right with this mean "
            "probability. One wrong label in ten moves a slot's mean by a tenth of the distance "
            "of two units, which a plot shows.",
            below=1,
        ),
    ] = 0.9
    ambiguous: Annotated[
        float,
        Threshold(
            "``ambiguous-draws``: a draw is ambiguous if all its labels are right with a lower "
            "probability. In identified posteriors hardly any draw is, in diffuse ones most are; "
            "more than one less this share of them are pointed out.",
            below=1,
        ),
    ] = 0.9

    def run(self, case: Case) -> LabelProbabilities | Open:
        """Compute the probability of every label under one Gaussian for each slot."""
        aligned, sound = case.aligned, case[ChainsCheck].sound
        n_draws = case[ChainsCheck].n_sound
        if n_draws < FEWEST:
            why = f"Gaussians that are fitted to few draws ({n_draws}) make any label look certain"
            return Open("certainty", why, f"at least {FEWEST} are needed")
        empty = case.get(OccupancyCheck)
        found = {}
        for units in aligned.resolved.sizes:
            features = aligned.features(units)
            if not features.values.shape[2]:
                continue
            group = aligned.resolved.group(units).remaining("varimax")
            found[units] = soft_labels(
                features.values, features.signed, group, fit=sound, seed=case.seed
            )
            if empty is not None and units in empty.every:  # what it holds is from the prior
                label = np.where(empty.every[units].eliminated, np.nan, found[units].label)
                found[units] = replace(found[units], label=label)
        return LabelProbabilities(found, sound, self.confidence)

    def measure(self, case: Case, result: LabelProbabilities) -> CertaintyMeasurements:
        """Return the confidence of every slot."""
        names = result.by_units
        return CertaintyMeasurements(
            {units: plain(result.confidence(units)) for units in names},
            {units: result.ambiguous(units, self.ambiguous) for units in names},
            {units: found.how for units, found in names.items()},
        )

    def measure_slots(
        self, case: Case, result: LabelProbabilities
    ) -> Mapping[str, Sequence[CertaintySlot]]:
        """Return the confidence of every slot."""
        return {
            units: [CertaintySlot(value) for value in result.confidence(units)]
            for units in result.by_units
        }

    def findings(self, case: Case, result: LabelProbabilities | None) -> Iterator[Finding]:
        """Name the slots whose labels are unreliable."""
        if result is None:
            yield _few(case)
            return
        for units in case.aligned.resolved.sizes:
            if units not in result.by_units:
                yield Open(
                    f"certainty of {units!r}",
                    "its units are told apart only by arrays that have them on both sides",
                    "declare a variable that carries them once",
                ).finding()
                yield Finding(
                    "certainty-unknown",
                    "error",
                    f"the certainty of the labels of {units!r} is not known",
                    remedy="see the open questions",
                )
            elif not result.reliable(units).all():
                yield _unreliable(case, result, units)
            else:
                yield from self._ambiguous(result, units)

    def _ambiguous(self, result: LabelProbabilities, units: str) -> Iterator[Finding]:
        """Draws of which not all labels are certain, where all slots are."""
        share = result.ambiguous(units, self.ambiguous)
        if share > 1 - self.ambiguous:
            yield Finding(
                "ambiguous-draws",
                "warning",
                f"units {units!r}: {share:.0%} of the draws have a label that is not certain",
                {"units": units, "share": share},
                f"weight draws by {units}_draw_probability, or look at those that are certain",
            )

    def variables(self, case: Case, result: LabelProbabilities) -> Mapping[str, xr.Variable]:
        """Return the probabilities of labels, margins and draws."""
        found: dict[str, xr.Variable] = {}
        for units, own in result.by_units.items():
            about = "probability that the unit and sign in this slot are right"
            found[f"{units}_label_probability"] = case.variable(own.label, about, units)
            about = "probability of the labels, against the best alternative that changes this slot"
            found[f"{units}_margin_probability"] = case.variable(own.pair, about, units)
            about = "probability that all labels of the draw are right"
            found[f"{units}_draw_probability"] = case.variable(own.unmoved, about)
        return found

    def lines(self, numbers: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """List the confidence of the first slots of each set of units."""
        for units, slots in numbers["confidence"].items():
            more = f" ... ({len(slots)} slots)" if len(slots) > _MOST_SHOWN else ""
            shown = " ".join(formatted(value, ".2f") for value in slots[:_MOST_SHOWN])
            yield "confidence", f"{units}: {shown}{more}"


def _few(case: Case) -> Finding:
    """Too few draws to judge any label by."""
    n_draws = case[ChainsCheck].n_sound
    return Finding(
        "certainty-unknown",
        "info",
        f"labels cannot be judged from {n_draws} draw{'s' * (n_draws != 1)}; {FEWEST} are needed. "
        "That says nothing against the alignment",
        {"n_draws": n_draws},
        AVERAGE if case.aligned.members else "draw more",
    )


def _unreliable(case: Case, result: LabelProbabilities, units: str) -> Finding:
    """Slots whose labels are unreliable, why, and what to use instead."""
    confidence, reliable = result.confidence(units), result.reliable(units)
    loose, firm = (np.flatnonzero(mask).tolist() for mask in (~reliable, reliable))
    widths = _widths(case)
    spare = set(widths[units].spare) if units in widths else set()
    why = "; spare units have no label" if spare & set(loose) else ""
    empty = case.get(OccupancyCheck)
    if empty is not None and units in empty.sound:
        share = empty.sound[units].eliminated[:, loose].mean(axis=0)
        why = "; where a slot is empty it has no label" if share.max() > _EMPTY else why
    listed = join([f"{k} ({confidence[k]:.2f})" for k in loose])
    rest = f"those of {named('slot', firm)} are reliable" if firm else "none is reliable"
    remedy = f"use the weights of {named('slot', firm)}" if firm else "use outputs, not weights"
    return Finding(
        "loose-slots",
        "error",
        f"units {units!r}: labels are unreliable in slot{'s' * (len(loose) > 1)} {listed} "
        f"(confidence in brackets{why}); {rest}",
        {"units": units, "slots": loose, "confidence": confidence.tolist()},
        AVERAGE if case.aligned.members else remedy,
    )


def _widths(case: Case) -> dict[str, Widths]:
    """Units -> how many are needed, or occupied, in the chains that are not flagged."""
    found: dict[str, Widths] = {}
    for known in (case.get(OccupancyCheck), case.get(RedundancyCheck)):
        found |= {} if known is None else known.sound
    return found
