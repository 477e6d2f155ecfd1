"""Which units are duplicates of one another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np

from relabel.diagnostics.checks.alignment import AlignmentCheck
from relabel.diagnostics.checks.base import Case, Check
from relabel.diagnostics.checks.chains import ChainsCheck
from relabel.diagnostics.checks.likelihood import LikelihoodCheck
from relabel.diagnostics.checks.outputs import OutputsCheck
from relabel.diagnostics.checks.redundancy import LevelOfLosses, RedundancyCheck
from relabel.diagnostics.finding import Finding, Open
from relabel.diagnostics.kernels.unit_pairs import Closeness, Pair, Pairs, pairs, prior_draws
from relabel.diagnostics.measurements import plain_values

__all__ = ["ComparedPairs", "PairsCheck"]


@dataclass(frozen=True)
class BayesFactor:
    """How much the data raise the probability that two units are closer than `tau`."""

    tau: float
    factor: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, close: Closeness) -> BayesFactor:
        """Leave out what the factor was computed from."""
        return cls(close.tau, close.factor, close.low, close.high)


@dataclass(frozen=True)
class PairRow:
    """Two slots."""

    units: str
    slots: list[int]
    kind: Literal["split", "cancelling"]
    share: Annotated[float | None, "Share of draws in which they are copies."]
    mergeable: Annotated[
        float | None, "Share of draws in which one could stand for both, all else refitted."
    ]
    merge_loss: Annotated[float | None, "Median over draws."]
    distance: Annotated[float | None, "Median over draws, in prior standard deviations."]
    correlation: Annotated[float | None, "Median over draws, of activations over the inputs."]
    bayes_factors: Annotated[list[BayesFactor], "Empty where no prior is known."]

    @classmethod
    def of(cls, units: str, pair: Pair) -> PairRow:
        """Describe a pair of one set of units."""
        return cls(
            units,
            list(pair.slots),
            pair.kind,
            pair.copies,
            pair.mergeable,
            pair.merge_loss,
            pair.distance,
            pair.correlation,
            [BayesFactor.of(close) for close in pair.closeness],
        )


@dataclass(frozen=True)
class PairsMeasurements:
    """All pairs."""

    duplicate_pairs: Annotated[
        list[PairRow], "Pairs of slots that are duplicates of one unit in most draws."
    ] = field(default_factory=list)
    pairs: Annotated[list[PairRow], "All pairs that were compared, the nearest first."] = field(
        default_factory=list
    )


@dataclass(frozen=True)
class ComparedPairs:
    """Pairs of slots of every set of two or more units.

    Attributes
    ----------
    by_units : dict of str to Pairs
    without_prior : tuple of str
        Variables whose priors were not given, where those of others were.
    """

    by_units: dict[str, Pairs]
    without_prior: tuple[str, ...]


@dataclass(frozen=True)
class PairsCheck(Check[ComparedPairs]):
    """Which units are duplicates of one another."""

    name: ClassVar = "pairs"
    needs: ClassVar = (AlignmentCheck, ChainsCheck, OutputsCheck, LikelihoodCheck, RedundancyCheck)
    subject: ClassVar = "units"
    place: ClassVar = 75
    codes: ClassVar = ("duplicates",)
    measurements: ClassVar = PairsMeasurements

    level: LevelOfLosses = 0.95

    def run(self, case: Case) -> ComparedPairs:
        """Compare every two units, in the draws of chains that are not flagged."""
        aligned, network = case.aligned, case[OutputsCheck].network
        rows = np.flatnonzero(case[ChainsCheck].sound)
        priors, missing = _known_priors(case)
        found = pairs(
            network,
            {name: array[rows] for name, array in aligned.arrays.items()},
            case[OutputsCheck].points,
            case[LikelihoodCheck][rows],
            removal_loss={
                units: own.removal_loss for units, own in case[RedundancyCheck].sound.items()
            },
            priors=priors,
            prior=prior_draws(aligned.groups, network),
            chains=aligned.draws.chain[rows],
            level=self.level,
            seed=case.seed,
        )
        return ComparedPairs(found, missing)

    def measure(self, case: Case, result: ComparedPairs) -> PairsMeasurements:
        """Return all pairs, and those that are duplicates."""
        return PairsMeasurements(
            [PairRow.of(units, pair) for units, pair in _duplicates(case, result)],
            [PairRow.of(units, pair) for units, p in result.by_units.items() for pair in p.pairs],
        )

    def findings(self, case: Case, result: ComparedPairs | None) -> Iterator[Finding]:
        """Point out duplicates."""
        if result is None:
            return
        if result.without_prior:
            yield Open(
                "duplicated pairs against the prior",
                f"the priors of {', '.join(result.without_prior)} are not known",
                "give their standard deviations (priors=, --prior W1=1)",
            ).finding()
        for units, pair in _duplicates(case, result):
            yield Finding(
                "duplicates",
                "warning",
                f"units {units!r}: slots {pair.slots[0]} and {pair.slots[1]} are duplicates of one "
                f"unit ({pair.kind}) in {pair.copies:.0%} of the draws",
                plain_values(PairRow.of(units, pair)),
                "where the two coincide their labels are exchangeable; relabel.reduce merges them",
            )


def _duplicates(case: Case, result: ComparedPairs) -> Iterator[tuple[str, Pair]]:
    """Pairs that are duplicated, but for two units that are not needed anyway."""
    for units, found in result.by_units.items():
        spare = set(case[RedundancyCheck].sound[units].spare)
        for pair in found.duplicated:
            if not set(pair.slots) <= spare:
                yield units, pair


def _known_priors(case: Case) -> tuple[dict[str, float] | None, tuple[str, ...]]:
    """Priors of what is written to units, if all are known; else those that are missing."""
    declared = case.aligned.resolved.measured()
    written = {
        variable.name
        for variable in declared
        if any(axis.role == "head" and axis.units for axis in variable.axes)
    }
    if case.priors is None:
        return None, ()
    known = {name: sd for name, sd in case.priors.items() if sd is not None}
    missing = tuple(sorted(written - set(known)))
    if missing:
        return None, missing
    return known | {v.key: known[v.name] for v in declared if v.name in known}, ()
