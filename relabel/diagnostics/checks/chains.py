"""Which chains sit in other modes than most, have not settled, or do not move."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel._util.text import join, or_none
from relabel.diagnostics.checks.base import Case, Check, Threshold
from relabel.diagnostics.checks.outputs import OutputsCheck
from relabel.diagnostics.finding import Finding, Open, named
from relabel.matching.draws import log_density
from relabel.numerics.chains import Chains, flag_chains

__all__ = ["ChainsCheck", "SoundChains"]

Array = NDArray[Any]

_SHORT = 10  # draws of a chain, too few to judge it by


@dataclass(frozen=True)
class SoundChains:
    """What was found of the chains.

    Attributes
    ----------
    flags : Chains or None
        None where there is nothing to judge them by.
    sound : ndarray of bool, shape (draws,)
        Which draws belong to chains that are not flagged.
    lp_known : bool
        Whether a log density is stored.
    """

    flags: Chains | None
    sound: Array
    lp_known: bool

    @property
    def n_sound(self) -> int:
        """Number of draws of chains that are not flagged."""
        return int(self.sound.sum())


@dataclass(frozen=True)
class ChainRow:
    """One chain."""

    chain: int | str
    lp_median: float | None
    function_distance: float | None
    flagged: str | None


@dataclass(frozen=True)
class ChainsMeasurements:
    """All chains."""

    chains_flagged: Annotated[
        list[int | str], "Chains that are not in the mode of the others, or have not settled."
    ] = field(default_factory=list)
    chains: Annotated[list[ChainRow], "All chains, and why they are flagged."] = field(
        default_factory=list
    )


@dataclass(frozen=True)
class ChainsCheck(Check[SoundChains]):
    """Which chains sit in other modes than most, have not settled, or do not move."""

    name: ClassVar = "chains"
    uses: ClassVar = (OutputsCheck,)
    subject: ClassVar = "chains"
    place: ClassVar = 40
    codes: ClassVar = ("chains-flagged", "all-chains-flagged")
    measurements: ClassVar = ChainsMeasurements

    n_sd: Annotated[
        float,
        Threshold(
            "``chains-flagged``: gap of a chain's median `lp` beyond which it is flagged, in "
            "standard deviations within chains, plus `n_nats` (see "
            ":func:`relabel.numerics.chains.flag_chains`)."
        ),
    ] = 5.0
    n_nats: Annotated[float, Threshold("``chains-flagged``: nats that are added to that gap.")] = (
        5.0
    )
    function_sd: Annotated[
        float,
        Threshold(
            "``chains-flagged``: distance of a chain's mean outputs, in standard deviations."
        ),
    ] = 3.0

    def run(self, case: Case) -> SoundChains:
        """Compare the chains by their log densities and outputs."""
        draws = case.aligned.draws
        everything = np.ones(len(draws.chain), dtype=bool)
        lp, found = log_density(draws.groups), case.get(OutputsCheck)
        if case.aligned.members or (lp is None and found is None):
            return SoundChains(None, everything, lp is not None)
        flags = flag_chains(
            None if lp is None else np.where(draws.excluded, np.nan, lp),
            None if found is None else found.values,
            n_sd=self.n_sd,
            n_nats=self.n_nats,
            function_sd=self.function_sd,
        )
        return SoundChains(flags, flags.sound[draws.chain], lp is not None)

    def measure(self, case: Case, result: SoundChains) -> ChainsMeasurements:
        """List all chains."""
        flags, names = result.flags, case.aligned.chain_names
        if flags is None:
            return ChainsMeasurements()
        table = [
            ChainRow(
                names[c],
                or_none(flags.lp_median[c]),
                or_none(flags.function_distance[c]),
                flags.reasons.get(c),
            )
            for c in range(flags.n_chains)
        ]
        return ChainsMeasurements([names[c] for c in flags.reasons], table)

    def findings(self, case: Case, result: SoundChains | None) -> Iterator[Finding]:
        """Name the chains that are flagged."""
        assert result is not None
        if not case.aligned.members:
            yield from _unanswered(case, result)
        flags = result.flags
        if flags is None or not flags.reasons:
            return
        names = case.aligned.chain_names
        reasons = {str(names[c]): why for c, why in flags.reasons.items()}
        why = join([f"{c}: {reason}" for c, reason in reasons.items()], most=5, between="; ")
        evidence = {"chains": [names[c] for c in flags.reasons], "reasons": reasons}
        if len(flags.reasons) == flags.n_chains:
            message = f"every chain is flagged: {why}"
            remedy = "run the sampler longer, or from better starting points"
            yield Finding("all-chains-flagged", "error", message, evidence, remedy)
            return
        known = case.aligned.provenance
        done = known is not None and known.options.get("exclude_flagged", False)
        advice = "" if done else "; exclude_flagged=True keeps them out of the reference"
        yield Finding(
            "chains-flagged",
            "warning",
            f"not in the mode of the others: {named('chain', list(reasons))} ({why})",
            evidence,
            f"look at them separately (variable mode){advice}. The number of chains in a mode "
            "does not tell its mass",
        )

    def variables(self, case: Case, result: SoundChains) -> Mapping[str, xr.Variable]:
        """Mark the chains that are flagged."""
        if result.flags is None:
            return {}
        flagged = np.isin(np.arange(result.flags.n_chains), list(result.flags.reasons))
        about = "1 where the chain is not in the mode of the others, or has not settled"
        attrs = {"long_name": about, "units": "1"}
        return {"chain_flagged": xr.Variable(("chain",), flagged.astype(np.int8), attrs)}


def _unanswered(case: Case, result: SoundChains) -> Iterator[Finding]:
    """Say what chains could not be judged by."""
    if not result.lp_known:
        yield Open(
            "chains by lp",
            "there is no finite sample_stats/lp of the same chains and draws",
            "save the log density of every draw with it",
        ).finding()
    n_draws = case.aligned.draws.excluded.shape[1]
    if n_draws < _SHORT:
        why = f"chains have few draws ({n_draws})"
        yield Open("chains", why, f"at least {_SHORT} are needed").finding()
