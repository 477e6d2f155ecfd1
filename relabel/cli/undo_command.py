"""``relabel undo``: write draws as they were before they were aligned."""

from __future__ import annotations

from typing import Annotated

import typer

from relabel.cli.options import AlignedFile, RequiredOutputOptions

__all__ = ["command"]


def command(
    file: AlignedFile,
    result: RequiredOutputOptions,
    partial: Annotated[
        bool,
        typer.Option(
            "--partial", help="Undo what is left where recorded variables were renamed or dropped."
        ),
    ] = False,
) -> None:
    """Write the draws of FILE as they were before they were aligned."""
    import warnings

    from relabel.alignment.inverse import said_of_absent, undo
    from relabel.alignment.provenance import relabelled
    from relabel.data.containers import unpack
    from relabel.io.reading import load, open_draws

    result.check(file)
    aligned = open_draws(file)
    recorded, groups = relabelled(aligned), unpack(aligned)
    changed = [
        address
        for address in recorded
        for group, _, name in [address.rpartition("/")]
        if group in groups and name in groups[group]
    ]
    load(aligned, changed, file)
    left = said_of_absent(groups) if partial else ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what it says is printed below
        undone = undo(aligned, partial=partial)
    result.save(undone, source=file, changed=changed)
    if left and not result.quiet:
        typer.echo(f"note: {left}")
    result.announce()
