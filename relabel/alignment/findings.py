"""What is said of the labels beside the labels: how they were chosen, and how sure they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import xarray as xr

from relabel.alignment.default import Default
from relabel.alignment.evidence import Evidence
from relabel.alignment.opinions import Opinion, second_opinions
from relabel.alignment.separated import separation_variables
from relabel.data.provenance import Provenance
from relabel.matching.criteria import Criterion
from relabel.matching.draws import Draws
from relabel.matching.solve import Solution

__all__ = ["Findings", "findings_of"]


@dataclass(frozen=True)
class Findings:
    """What is said of the labels beside the labels.

    Attributes
    ----------
    begin : str, optional
        The start that led to the first reference.
    chosen : str, optional
        Why the criterion was taken, where none was named.
    opinions : tuple of Opinion
        What other criteria would have done, likewise.
    variables : dict of str to Variable
        What tells the slots apart.
    """

    begin: str | None
    chosen: str | None = None
    opinions: tuple[Opinion, ...] = ()
    variables: Mapping[str, xr.Variable] = field(default_factory=dict)

    def noted(self, record: Provenance) -> Provenance:
        """Return the record with these findings."""
        better = sorted((o for o in self.opinions if o.better), key=lambda opinion: opinion.nats)
        return replace(
            record,
            begin=self.begin,
            chosen=self.chosen,
            opinions=tuple(vars(opinion) for opinion in self.opinions),
            warnings=(*record.warnings, *map(str, better[:1])),
        )


def findings_of(
    draws: Draws, solution: Solution, criterion: Criterion, default: Default, *, chosen: bool
) -> Findings:
    """Judge an alignment by some of the draws.

    Parameters
    ----------
    draws : Draws
    solution : Solution
    criterion : Criterion
        The criterion of the alignment.
    default : Default
        What is taken where no criterion is named.
    chosen : bool
        Whether it was; then other criteria are asked for their opinion.
    """
    because = default.because if chosen else None
    reads = default.criterion if default.criterion.found_in(draws.resolved) else None
    allocating = reads if reads is not None and reads.reads else None
    evidence = Evidence.of(draws, solution.elements, allocating)
    if evidence is None:
        return Findings(solution.begin, because)
    opinions = tuple(second_opinions(evidence, criterion)) if chosen else ()
    return Findings(solution.begin, because, opinions, separation_variables(evidence))
