"""Which draws there are, and whether they are a Markov chain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from relabel.diagnostics.checks.base import Case, Check
from relabel.diagnostics.finding import AVERAGE, Finding

__all__ = ["DrawsCheck", "Sample"]


@dataclass(frozen=True)
class Sample:
    """What kind of draws there are.

    Attributes
    ----------
    n_chains : int
    n_excluded : int
        Draws that are not finite.
    members : bool
        Whether they are networks that were trained independently.
    """

    n_chains: int
    n_excluded: int
    members: bool


@dataclass(frozen=True)
class DrawsCheck(Check[Sample]):
    """Which draws there are, and whether they are a Markov chain."""

    name: ClassVar = "draws"
    codes: ClassVar = ("excluded", "members", "one-chain")

    def run(self, case: Case) -> Sample:
        """Look at the draws."""
        excluded = case.aligned.draws.excluded
        return Sample(len(excluded), int(excluded.sum()), case.aligned.members)

    def findings(self, case: Case, result: Sample | None) -> Iterator[Finding]:
        """Say what they are treated as."""
        assert result is not None
        if result.n_excluded:
            message = f"draws that are not finite and are excluded: {result.n_excluded}"
            yield Finding("excluded", "info", message, {"n": result.n_excluded})
        if result.members:
            yield Finding(
                "members",
                "info",
                "the draws are treated as independently trained networks, not as a Markov chain: "
                "R-hat and ESS do not apply, and chains are not compared",
                remedy=AVERAGE,
            )
        elif result.n_chains == 1:
            yield Finding(
                "one-chain",
                "info",
                "there is one chain: R-hat compares parts of it, and other modes cannot be seen",
                remedy="run more chains, from other starting points",
            )
