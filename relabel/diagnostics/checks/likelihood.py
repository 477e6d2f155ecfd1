"""The likelihood of the outputs, by which a change of theirs counts in nats."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.data.containers import Groups
from relabel.data.roles import TARGET_GROUPS
from relabel.diagnostics.checks.base import Case, Check
from relabel.diagnostics.checks.outputs import Outputs, OutputsCheck
from relabel.diagnostics.finding import Finding, Open
from relabel.diagnostics.likelihood import Fitted, Likelihood, find_likelihood
from relabel.errors import SpecError
from relabel.spec.gauges import centred_axes

__all__ = ["LikelihoodCheck"]

Array = NDArray[Any]


@dataclass(frozen=True)
class LikelihoodMeasurements:
    """What the likelihood is."""

    likelihood: Annotated[str | None, "The likelihood that was used, and how it was found."] = None


@dataclass(frozen=True)
class LikelihoodCheck(Check[Fitted]):
    """The likelihood of the outputs, by which a change of theirs counts in nats."""

    name: ClassVar = "likelihood"
    needs: ClassVar = (OutputsCheck,)
    place: ClassVar = 65
    codes: ClassVar = ("likelihood",)
    measurements: ClassVar = LikelihoodMeasurements

    def run(self, case: Case) -> Fitted | Open:
        """Find it; where outputs were centred that it reads as they are, there is none."""
        aligned, outputs = case.aligned, case[OutputsCheck]
        given = case.targets is not None and not _auto(case.targets)
        named: dict[str, Any] = {"targets": case.targets} if given else {}
        fitted = find_likelihood(
            _paired(case, outputs),
            case.likelihood,
            outputs.network,
            aligned.arrays,
            outputs.points,
            rows=aligned.draws.rows,
            **named,
        )
        shifted = centred_axes(aligned.resolved.spec.gauges)
        centred = [end for end in outputs.network.ends if end in shifted]
        if centred and fitted.nats and not fitted.family.shift_invariant:
            return Open(
                "redundancy",
                f"the outputs {centred[0]!r} were centred, on which a {fitted.family.name} "
                "likelihood depends",
                f"align without the gauge of {centred[0]!r}, or name the likelihood: categorical",
            )
        return fitted

    def measure(self, case: Case, result: Fitted) -> LikelihoodMeasurements:
        """Say what it is."""
        return LikelihoodMeasurements(result.how)

    def findings(self, case: Case, result: Fitted | None) -> Iterator[Finding]:
        """Say what was assumed."""
        if result is None:
            return
        yield Finding("likelihood", "info", result.how, {"inputs": case[OutputsCheck].where})
        if not result.nats:
            yield Open(
                "removal losses in nats",
                "no likelihood is known, so losses are relative to the spread of the outputs",
                "store the targets as constant_data/y, or name a likelihood",
            ).finding()


def _auto(targets: Array | str | None) -> bool:
    """Whether targets are to be looked for."""
    return isinstance(targets, str) and targets == "auto"


def _paired(case: Case, outputs: Outputs) -> Groups:
    """Groups in which targets of these inputs may be looked for.

    Inputs that were given as an array are paired with the stored targets only if they are the
    stored inputs, or if targets were named.
    """
    groups, wanted = case.aligned.groups, case.likelihood
    named = isinstance(wanted, Likelihood) and wanted.targets is not None
    if case.targets is None and named:
        raise SpecError(
            "targets=None means that none are used, but the likelihood names targets: leave one "
            "of the two out"
        )
    without = {name: ds for name, ds in groups.items() if name not in TARGET_GROUPS}
    if case.targets is None:
        return without
    if outputs.where != "given" or named or not _auto(case.targets):
        return groups
    stored = [
        variable.values
        for group in TARGET_GROUPS
        for variable in groups.get(group, xr.Dataset()).data_vars.values()
    ]
    same = any(np.array_equal(outputs.points, values) for values in stored)
    return groups if same else without
