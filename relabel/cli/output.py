"""Printing: tables on a terminal, plain lines in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from relabel._util.text import columns, formatted, plain

if TYPE_CHECKING:
    from relabel.analysis.reports import AlignmentReport

__all__ = [
    "print_comment",
    "print_frame",
    "print_report",
    "print_table",
    "records",
    "shows_progress",
]


def shows_progress(quiet: bool) -> bool:
    """Whether to show progress: on a terminal only."""
    return not quiet and sys.stderr.isatty()


def print_comment(line: str) -> None:
    """Print beside a spec: as a comment in a pipe, so that all that is printed is TOML."""
    typer.echo(line if sys.stdout.isatty() else f"# {line}".rstrip())


def print_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, beside_spec: bool = False
) -> None:
    """Print a table with lines on a terminal, plain columns in a pipe.

    Parameters
    ----------
    header, rows : sequence of str, and of such sequences
    beside_spec : bool, default False
        Whether it is printed beside a spec: columns are then comments.
    """
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*header)
        for row in rows:
            table.add_row(*map(Text, row))
        Console().print(table)
        return
    for line in columns(header, rows):
        (print_comment if beside_spec else typer.echo)(line)


def print_frame(table: Any) -> None:
    """Print a DataFrame with its index, numbers with four digits."""
    flat = table.reset_index()
    rows = [
        [f"{value:.4g}" if isinstance(value, float) else str(value) for value in row]
        for row in flat.itertuples(index=False)
    ]
    print_table(list(map(str, flat.columns)), rows)
    typer.echo("")


def records(table: Any) -> list[dict[str, Any]]:
    """Return the rows of a DataFrame as JSON has them: neither nan nor infinity."""
    rows: list[dict[str, Any]] = plain(table.reset_index().to_dict("records"))
    return rows


def print_report(found: AlignmentReport, notes: Sequence[str] = ()) -> None:
    """Print the report of an alignment: with a table on a terminal, as plain lines in a pipe."""
    found = replace(found, notes=[*notes, *found.notes])
    if not sys.stdout.isatty():
        typer.echo(str(found))
        return
    width = max(len(word) for word, _ in found.facts)
    for word, line in found.facts:
        typer.echo(f"{word:<{width}}  {line}")
    rows = [[name, formatted(c.rhat, ".3f"), formatted(c.ess, ".0f")] for name, c in found.table]
    print_table(["", "max R-hat", "min ESS"], rows)
    for note in found.notes:
        typer.echo(f"note: {note}")
