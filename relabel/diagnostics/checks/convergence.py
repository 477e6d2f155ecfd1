"""R-hat and ESS before and after alignment, and of what no relabelling changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np

from relabel._util.text import formatted, or_none
from relabel.diagnostics.checks.base import Case, Check, Threshold
from relabel.diagnostics.checks.chains import ChainsCheck
from relabel.diagnostics.checks.outputs import OutputsCheck
from relabel.diagnostics.finding import Finding, Open
from relabel.diagnostics.kernels.quantities import invariants, weights_of
from relabel.diagnostics.kernels.rhat_ess import Convergence, convergence
from relabel.diagnostics.measurements import ABSENT
from relabel.matching.draws import log_density

__all__ = ["ConvergenceCheck"]

_WORDS = {
    "weights_before": "weights before",
    "weights_after": "weights after",
    "weights_after_unflagged": "weights after, without flagged chains",
    "invariant": "sums over units",
    "function": "outputs",
    "function_unflagged": "outputs, without flagged chains",
}


@dataclass(frozen=True)
class Statistics:
    """R-hat or ESS of every kind of quantity."""

    weights_before: Annotated[float | None, "of the draws as they came"] = None
    weights_after: Annotated[float | None, "of the aligned draws"] = None
    invariant: Annotated[
        float | None,
        "of sums over units, sums of products and sorted norms, which no relabelling changes",
    ] = None
    function: Annotated[float | None, "of outputs"] = None
    lp: Annotated[float | None, "of the log density"] = None
    weights_after_unflagged: Annotated[
        float | None, "of aligned draws of chains that are not flagged"
    ] = ABSENT
    function_unflagged: Annotated[float | None, "of outputs, of chains that are not flagged"] = (
        ABSENT
    )


@dataclass(frozen=True)
class ConvergenceMeasurements:
    """The worst of every kind of quantity."""

    rhat: Annotated[Statistics, "Largest R-hat of each kind of quantity."] = field(
        default_factory=Statistics
    )
    ess: Annotated[Statistics, "Smallest bulk effective sample size of each."] = field(
        default_factory=Statistics
    )


@dataclass(frozen=True)
class ConvergenceCheck(Check[dict[str, Convergence]]):
    """R-hat and ESS before and after alignment, and of what no relabelling changes.

    The result has an entry for every kind of quantity: see :class:`Statistics`.
    """

    name: ClassVar = "convergence"
    needs: ClassVar = (ChainsCheck,)
    uses: ClassVar = (OutputsCheck,)
    subject: ClassVar = "sampler"
    place: ClassVar = 30
    codes: ClassVar = ("rhat-weights",)
    measurements: ClassVar = ConvergenceMeasurements

    rhat: Annotated[
        float,
        Threshold(
            "``rhat-weights``: larger values are pointed out. Vehtari et al. (2021) ask for 1.01, "
            "which weights of networks seldom reach."
        ),
    ] = 1.05

    def run(self, case: Case) -> dict[str, Convergence] | None:
        """Compute them; independently trained networks have none."""
        aligned = case.aligned
        if aligned.members:
            return None
        found = {"weights_before": convergence(weights_of(aligned.resolved, aligned.original))}
        outputs, flags = case.get(OutputsCheck), case[ChainsCheck].flags
        if aligned.was_aligned:
            after = weights_of(aligned.resolved, aligned.groups["posterior"])
            found["weights_after"] = convergence(after)
            if flags is not None and flags.reasons:
                kept = [array[flags.sound] for array in after]
                found["weights_after_unflagged"] = convergence(kept)
                if outputs is not None:
                    found["function_unflagged"] = convergence([outputs.values[flags.sound]])
        summaries = invariants(aligned.problem, aligned.layout).values()
        found["invariant"] = convergence([aligned.by_chain(array) for array in summaries])
        if outputs is not None:
            found["function"] = convergence([outputs.values])
        lp = log_density(aligned.draws.groups)
        if lp is not None:
            found["lp"] = convergence([lp[:, :, None]])
        return found

    def measure(self, case: Case, result: dict[str, Convergence]) -> ConvergenceMeasurements:
        """Return both statistics of every kind."""
        rhat = {kind: or_none(found.rhat) for kind, found in result.items()}
        ess = {kind: or_none(found.ess) for kind, found in result.items()}
        return ConvergenceMeasurements(Statistics(**rhat), Statistics(**ess))

    def findings(self, case: Case, result: dict[str, Convergence] | None) -> Iterator[Finding]:
        """Point out weights that have not converged, and say why."""
        if result is None:
            return
        if np.isnan(result["weights_before"].rhat):
            n_draws = case.aligned.groups["posterior"].sizes["draw"]
            why = f"chains have few draws ({n_draws}), or all draws are the same"
            yield Open("R-hat and ESS", why, "draw more").finding()
        rhat = {kind: found.rhat for kind, found in result.items()}
        after = rhat.get("weights_after_unflagged", rhat.get("weights_after", np.nan))
        if after > self.rhat:
            yield self._weights(case, after, rhat)

    def _weights(self, case: Case, after: float, rhat: Mapping[str, float]) -> Finding:
        """Weights that have not converged, beside outputs or sums over units."""
        function = rhat.get("function_unflagged", rhat.get("function", np.nan))
        sums, network = rhat["invariant"], case.aligned.network is not None
        if function > self.rhat:
            why = "nor have outputs: chains have not run long enough, or sit in several modes"
        elif np.isfinite(function):
            why = "outputs have: what is left is in the labels, or in spare units"
        elif network or not np.isfinite(sums):
            why = "whether outputs have is not known"
        elif sums > self.rhat:
            why = f"sums over units, which no relabelling changes, have {sums:.3f}: chains have "
            why += "not run long enough, or sit in several modes"
        else:
            why = "sums over units have: what is left is in the labels"
        return Finding(
            "rhat-weights",
            "warning" if function > self.rhat or (not network and sums > self.rhat) else "info",
            f"weights have not converged after alignment (R-hat {after:.3f}); {why}",
            {
                "rhat_weights": or_none(after),
                "rhat_function": or_none(function),
                "rhat_invariant": or_none(sums),
            },
        )

    def lines(self, numbers: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """List R-hat and ESS of all kinds that are known."""
        for word, key, form in (("max R-hat", "rhat", ".3f"), ("min ESS", "ess", ".0f")):
            known = {k: v for k, v in numbers[key].items() if v is not None}
            if known:
                named = [f"{_WORDS.get(k, k)} {formatted(v, form)}" for k, v in known.items()]
                yield word, ", ".join(named)
