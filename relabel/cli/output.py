"""Printing: tables on a terminal, plain lines in a pipe."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from relabel._util.text import columns, formatted, plain

if TYPE_CHECKING:
    from relabel.analysis.reports import AlignmentReport

__all__ = [
    "OutputError",
    "mend_streams",
    "print_comment",
    "print_error",
    "print_frame",
    "print_report",
    "print_table",
    "records",
    "shows_progress",
]


_LONGEST = 2000  # characters of a message


class OutputError(Exception):
    """What is printed cannot be written."""


class _Output(io.TextIOWrapper):
    """Standard output whose failures are told from those of files."""

    def write(self, text: str) -> int:
        """Write a text."""
        with _telling_failure():
            return super().write(text)

    def flush(self) -> None:
        """Write what is left in the buffer."""
        with _telling_failure():
            super().flush()


@contextlib.contextmanager
def _telling_failure() -> Iterator[None]:
    """Raise OutputError where standard output fails, and throw the rest away: it is said once."""
    try:
        yield
    except OSError as error:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.close(nothing)
        raise OutputError(f"standard output: {error.strerror or error}") from error


def mend_streams() -> None:
    """Make standard streams usable that are closed, or cannot encode every character.

    A closed standard output becomes a pipe that nobody reads: the first that is printed ends the
    command without a message, as `head` does. Otherwise the next file that is opened would get its
    number, and what is printed would be written into it.
    """
    if None in (sys.stdin, sys.stdout, sys.stderr):
        _open_missing()
    if type(sys.stdout) is io.TextIOWrapper and sys.stdout.buffer.fileno() == 1:
        encoding, errors, lines = sys.stdout.encoding, sys.stdout.errors, sys.stdout.line_buffering
        sys.stdout = _Output(sys.stdout.detach(), encoding, errors, line_buffering=lines)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")


def _open_missing() -> None:
    """Open those of the file descriptors 0, 1 and 2 that are closed."""
    nothing = os.open(os.devnull, os.O_RDWR)
    while nothing <= 2:  # the lowest number that is free is taken each time
        nothing = os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        unread, end = os.pipe()
        os.close(unread)
        os.dup2(end, 1)
        os.close(end)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    os.close(nothing)


def print_error(message: str) -> None:
    """Print a message in one line, shortened in the middle if it is very long."""
    line = " ".join(message.split("\n")) if "\n" in message else message
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    if len(line) > _LONGEST:
        line = f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"
    with contextlib.suppress(OSError):
        typer.echo(line, err=True)


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
