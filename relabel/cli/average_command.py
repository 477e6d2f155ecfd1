"""``relabel average``: the mean network of aligned draws."""

from __future__ import annotations

import typer

from relabel.cli.options import AlignedFile, EvidenceOptions, FollowLinks, Json, OutputOptions

__all__ = ["command"]


def command(
    file: AlignedFile,
    result: OutputOptions,
    evidence: EvidenceOptions,
    as_json: Json = False,
    follow_links: FollowLinks = False,
) -> None:
    """Average the weights of draws that `align` wrote, and compute the loss of the mean network.

    Its loss is shown beside those of the members, of the ensemble of outputs, and of the mean of
    the draws as they were before.
    """
    from relabel.analysis.averaging import average
    from relabel.io.reading import open_draws

    result.check(file)
    found = average(open_draws(file, follow_links=follow_links), **evidence.arguments())
    result.save(found.data)
    if as_json:
        typer.echo(found.to_json())
    elif not result.quiet:
        typer.echo(str(found))
        result.announce()
