"""The command: its subcommands, each a file of its own, and what errors turn into."""

from __future__ import annotations

import functools
import inspect
import logging
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer

from relabel._util.versions import __version__
from relabel.cli import completion
from relabel.cli.output import OutputError, mend_streams, print_error
from relabel.cli.parameters import with_groups
from relabel.cli.signals import ending_on_signals
from relabel.errors import RelabelError

__all__ = ["COMMANDS", "app", "main"]

#: Panel of the help page -> its commands: each is the function ``command`` in the file
#: ``{name}_command.py`` of this folder. Another command is its file and its name here.
COMMANDS = {
    "Look": ("inspect", "summary"),
    "Align": ("align", "undo", "demo"),
    "Judge": ("diagnose", "compare", "average"),
    "Convert": ("convert",),
}

_ISSUES = "https://github.com/posterior-relabel/relabel/issues"

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Undo label switching in posterior draws: align every draw with one reference mode.",
)


def main() -> None:
    """Run the command; what no command foresees is an internal error."""
    if completion.asked_to_complete():
        completion.complete(app)
    try:
        mend_streams()
        # The tasks by which zarr reads end with the command, and their errors are its errors.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        with _ending_with_its_reader(), ending_on_signals():
            app(prog_name="relabel")
    except OutputError as error:
        _end(2, f"error: {error}")
    except KeyboardInterrupt:
        _end(130, "interrupted: nothing was written")
    except Exception:  # noqa: BLE001
        traceback.print_exc()
        print(
            f"error: internal error in relabel {__version__}; please report it, with the lines "
            f"above, at {_ISSUES}",
            file=sys.stderr,
        )
        sys.exit(1)


@contextmanager
def _ending_with_its_reader() -> Iterator[None]:
    """End without a message, as other tools do, where a reader such as `head` stops reading."""
    if not hasattr(signal, "SIGPIPE"):
        yield
        return
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        yield
    finally:
        sys.stdout.flush()
        signal.signal(signal.SIGPIPE, before)


def _reporting_errors(function: Callable[..., None]) -> Callable[..., None]:
    """Turn errors that the user can fix into one message and status 2."""

    @functools.wraps(function)
    def called(**options: Any) -> None:
        try:
            function(**options)
        except (RelabelError, OSError, MemoryError) as error:
            print_error(f"error: {_message(error)}")
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            print_error("interrupted: nothing was written")
            raise typer.Exit(130) from None

    return called


def _message(error: Exception) -> str:
    """Return what went wrong and, of memory, what to do."""
    if isinstance(error, MemoryError):
        from relabel.sources.failures import first_line  # imports all that computes

        return (
            f"there is not enough memory ({first_line(error)}); take fewer draws (thin them before "
            "they are saved), or leave out variables that are not needed"
        )
    return str(error)


def _end(status: int, message: str) -> NoReturn:
    print_error(message)
    sys.exit(status)


def _help_of(function: Callable[..., None]) -> str:
    """Return the docstring without the line breaks of the source."""
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"relabel {__version__}")
        raise typer.Exit


for _panel, _names in COMMANDS.items():
    for _name in _names:
        _command = import_module(f"relabel.cli.{_name}_command").command
        app.command(_name, help=_help_of(_command), rich_help_panel=_panel)(
            _reporting_errors(with_groups(_command))
        )
