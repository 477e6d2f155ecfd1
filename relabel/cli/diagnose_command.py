"""``relabel diagnose``: what remains in aligned draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relabel.cli import completion
from relabel.cli.options import (
    AlignedFile,
    EvidenceOptions,
    FollowLinks,
    Json,
    OutputOptions,
    Pairs,
    Rng,
    numbers_of,
)
from relabel.cli.output import shows_progress

if TYPE_CHECKING:
    from relabel.diagnostics.thresholds import Thresholds

__all__ = ["command"]


@dataclass(frozen=True, kw_only=True)
class JudgementOptions:
    """What is held against the prior, where lines are drawn, and what is random."""

    priors: Annotated[
        Pairs,
        typer.Option(
            metavar="VARIABLE=SD",
            autocompletion=completion.priors,
            help="Standard deviation of a variable's normal prior, as in W1=1 (repeatable).",
        ),
    ] = None
    thresholds: Annotated[
        Pairs,
        typer.Option(
            "--set",
            metavar="THRESHOLD=VALUE",
            autocompletion=completion.thresholds,
            help="A threshold of relabel.Thresholds, as in null_gap=0.2 (repeatable).",
        ),
    ] = None
    rng: Rng = 0

    def arguments(self) -> dict[str, Any]:
        """Return the keywords of :func:`relabel.diagnose`."""
        return {
            "priors": numbers_of(self.priors, "--priors W1=1"),
            "thresholds": self._thresholds(),
            "rng": self.rng,
        }

    def _thresholds(self) -> Thresholds:
        from relabel.diagnostics.thresholds import Thresholds

        return Thresholds(**(numbers_of(self.thresholds, "--set null_gap=0.2") or {}))


def command(
    file: AlignedFile,
    result: OutputOptions,
    evidence: EvidenceOptions,
    judgement: JudgementOptions,
    as_json: Json = False,
    follow_links: FollowLinks = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with status 3 if labels are unreliable.")
    ] = False,
) -> None:
    """Report what remains in draws that `align` wrote: labels, chains, units and modes.

    Lines that begin with !! say that labels are unreliable, with ! that something needs a
    decision, with - what was assumed or stayed open. The exit status is 0, or 3 with --strict if
    labels are unreliable, or 2 after an error.
    """
    from relabel._util.progress import reporting
    from relabel.alignment.provenance import relabelled
    from relabel.diagnostics.diagnosing import diagnose
    from relabel.io.reading import open_draws

    result.check(file)
    draws = open_draws(file, follow_links=follow_links)
    if result.output is not None:
        relabelled(draws)  # draws that were not aligned have no record to add findings to
    with reporting(shows_progress(result.quiet)) as progress:
        data, diagnosis = diagnose(
            draws, progress=progress, **evidence.arguments(), **judgement.arguments()
        )
    if result.output is not None:
        result.save(data, source=file, changed=relabelled(data))
    if as_json:
        typer.echo(diagnosis.to_json())
    elif not result.quiet:
        typer.echo(str(diagnosis))
        result.announce()
    if strict and not diagnosis.labels_trustworthy:
        raise typer.Exit(3)
