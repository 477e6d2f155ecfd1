"""Completion in the shell: names from the registries, and from the file that is given.

The functions with the argument `incomplete` are for Typer's ``autocompletion``. Where nothing is
offered, shells complete names of files.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import typer

from relabel.cli.headers import Header, array_names, read_header

__all__ = [
    "activations",
    "arrays",
    "asked_to_complete",
    "axes",
    "compared_options",
    "complete",
    "criteria",
    "criterion_options",
    "families",
    "priors",
    "references",
    "thresholds",
    "units",
    "units_of_record",
    "values",
    "variables",
]

_REQUEST = "_RELABEL_COMPLETE"  # Typer's variable: asks for completions instead of a run
_SLOW = ("arviz", "pandas", "scipy", "xarray")


Names = Callable[..., Iterable[str]]
Completer = Callable[[typer.Context, str], list[str]]


def _completer(names: Names) -> Completer:
    """Offer those of the names that begin like the incomplete word; none on any error."""

    def offer(ctx: typer.Context, incomplete: str) -> list[str]:
        try:
            return [n for n in dict.fromkeys(names(ctx, incomplete)) if n.startswith(incomplete)]
        except Exception:  # noqa: BLE001
            return []

    offer.__doc__ = names.__doc__
    return offer


# ---------------------------------------------------------------------- names from the registries


@_completer
def criteria(*_: Any) -> Iterable[str]:
    """Offer the names of criteria."""
    from relabel.matching.criteria import CRITERIA

    return CRITERIA


@_completer
def criterion_options(ctx: typer.Context, _: str) -> Iterable[str]:
    """Offer the options of the criterion that is given, or of the default."""
    from relabel.matching.criteria import options_of

    return [f"{option}=" for option in options_of(ctx.params.get("criterion") or "mean")]


@_completer
def compared_options(ctx: typer.Context, _: str) -> Iterable[str]:
    """Offer the options of the criteria that are compared, alone and as ``criterion.option``."""
    from relabel.matching.criteria import options_of

    names = ctx.params.get("criterion") or ()
    pairs = [(name, option) for name in names for option in options_of(name)]
    return [f"{option}=" for _, option in pairs] + [f"{name}.{option}=" for name, option in pairs]


@_completer
def activations(*_: Any) -> Iterable[str]:
    """Offer the names of activations and symmetries."""
    from relabel.groups import GROUPS

    return GROUPS


@_completer
def units(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """Offer ``NAME=ACTIVATION``: dimensions of the file, then activations."""
    name, given, activation = incomplete.partition("=")
    if not given:
        return [f"{dim}=" for dim in _header(ctx).dims]
    return [f"{name}={fitting}" for fitting in activations(ctx, activation)]


@_completer
def families(*_: Any) -> Iterable[str]:
    """Offer the names of likelihoods."""
    from relabel.diagnostics.likelihood import FAMILIES

    return FAMILIES


@_completer
def thresholds(*_: Any) -> Iterable[str]:
    """Offer the names of thresholds."""
    from relabel.diagnostics.thresholds import declared_thresholds

    return [f"{name}=" for name in declared_thresholds()]


# ---------------------------------------------------------------------- names from the given file


@_completer
def variables(ctx: typer.Context, _: str) -> Iterable[str]:
    """Offer the variables of the posterior."""
    return _posterior(ctx)


@_completer
def axes(ctx: typer.Context, _: str) -> Iterable[str]:
    """Offer ``VARIABLE:``, behind which axes are written."""
    return [f"{name}:" for name in _posterior(ctx)]


@_completer
def priors(ctx: typer.Context, _: str) -> Iterable[str]:
    """Offer ``VARIABLE=``, behind which a standard deviation is written."""
    return [f"{name}=" for name in _posterior(ctx)]


@_completer
def values(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """Offer ``VARIABLE=UNITS``, of the units that are given."""
    name, given, _ = incomplete.partition("=")
    if not given:
        return [f"{variable}=" for variable in _posterior(ctx)]
    return [f"{name}={pair.partition('=')[0]}" for pair in ctx.params.get("units") or ()]


@_completer
def units_of_record(ctx: typer.Context, _: str) -> Iterable[str]:
    """Offer the sets of units that the file was aligned by."""
    record = [name for name in _header(ctx).variables if name.startswith("relabel/")]
    elements = [name for name in record if name.endswith(("_index", "_rotation"))]
    return [name[len("relabel/") : name.rindex("_")] for name in elements]


@_completer
def arrays(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """Offer inputs and targets: words, data beside the draws, arrays in an .npz file."""
    path, found, _ = incomplete.rpartition(":")
    if found:
        return [f"{path}:{name}" for name in array_names(Path(path))]
    stored = [v for v in _header(ctx).variables if v.partition("/")[0].endswith("_data")]
    return ["auto", "none", *stored]


@_completer
def references(*_: Any) -> Iterable[str]:
    """Offer the words for references; others are draws and files."""
    return ["map", "medoid"]


def _header(ctx: typer.Context) -> Header:
    """Read the header of the first file on the command line.

    An option without its value stops the parser before it names the files; they are in `args`.
    """
    given = ctx.params.get("files") or ctx.params.get("file") or ctx.args
    files = [given] if isinstance(given, Path) else given
    return read_header(Path(files[0])) if files else Header([], [])


def _posterior(ctx: typer.Context) -> list[str]:
    """Return the names of the posterior's variables."""
    addresses = (address.partition("/") for address in _header(ctx).variables)
    return [name for group, _, name in addresses if group == "posterior"]


# ---------------------------------------------------------------------- the protocol of shells


def asked_to_complete() -> bool:
    """Whether a shell asks this process for completions."""
    return os.environ.get(_REQUEST, "").startswith("complete")


def complete(app: Callable[..., Any]) -> None:
    """Answer the shell and end the process; errors leave nothing to offer.

    Bash splits words at ``=`` and ``:`` and replaces only what follows: its words are put together
    before, and what stands before the last of these signs is taken off every answer.
    """
    before, answer, status = "", io.StringIO(), 0
    sys.meta_path.insert(0, _StandIns())
    warnings.simplefilter("ignore")
    try:
        if os.environ[_REQUEST] == "complete_bash":
            before = _join_words()
        with redirect_stdout(answer), redirect_stderr(io.StringIO()):
            app(prog_name="relabel")
    except SystemExit as end:
        status = int(end.code or 0)
    except Exception:  # noqa: BLE001
        status = 1
    print("\n".join(line.removeprefix(before) for line in answer.getvalue().splitlines()))
    sys.exit(status)


def _join_words() -> str:
    """Put together what bash has split; return the part of the last word that bash keeps."""
    words: list[str] = []
    kept, glued = "", False
    for word in os.environ["COMP_WORDS"].split("\n")[: int(os.environ["COMP_CWORD"]) + 1]:
        sign = word != "" and word.strip("=:") == ""
        if words and (sign or glued):
            kept = words[-1] + word if sign else words[-1]
            words[-1] += word
        else:
            kept = ""
            words.append(word)
        glued = sign
    os.environ["COMP_WORDS"] = "\n".join(words)
    os.environ["COMP_CWORD"] = str(len(words) - 1)
    return kept


class _StandIns(MetaPathFinder, Loader):
    """Finds empty modules in place of packages that take long to import.

    Names and options are known without a single function of theirs. Only for a process that
    completes and ends.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for the packages that are left out, and for all of their modules."""
        if fullname.partition(".")[0] not in _SLOW:
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def exec_module(self, module: ModuleType) -> None:
        """Give the module any attribute that it is asked for: a class that does nothing."""
        module.__dict__["__getattr__"] = _Nothing.made


class _Nothing(type):
    """A class, or a function, that does nothing; every attribute of it is another one."""

    @classmethod
    def made(cls, name: str) -> Any:
        """Make one."""
        if name.startswith("__"):
            raise AttributeError(name)
        return cls(name, (), {})

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Return the class itself in place of an instance, or of what a function returns."""
        return cls

    def __getattr__(cls, name: str) -> Any:
        return cls.made(name)
