"""``relabel compare``: several criteria on the same draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from relabel.cli import completion
from relabel.cli.options import (
    Json,
    Pairs,
    Quiet,
    SkipNonfinite,
    SourceOptions,
    SpecOptions,
    settings_of,
)
from relabel.cli.output import shows_progress
from relabel.errors import SpecError

if TYPE_CHECKING:
    from relabel.matching.criteria import Criterion

__all__ = ["command"]


def command(
    source: SourceOptions,
    model: SpecOptions,
    criterion: Annotated[
        Pairs,
        typer.Option(
            metavar="NAME",
            autocompletion=completion.criteria,
            help="A criterion, as in stephens (repeatable; an unknown name lists all).",
        ),
    ] = None,
    settings: Annotated[
        Pairs,
        typer.Option(
            "--set",
            metavar="OPTION=VALUE",
            autocompletion=completion.compared_options,
            help="An option of all criteria that have it, or of one, as in mean.scale=none "
            "(repeatable).",
        ),
    ] = None,
    skip_nonfinite: SkipNonfinite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Align the draws of FILE by several criteria; say where they agree. Nothing is written."""
    from relabel._util.progress import reporting
    from relabel.analysis.comparison import compare

    draws = source.open()
    declared = model.resolve(draws)
    criteria = _criteria_of(criterion, settings)
    with reporting(shows_progress(quiet)) as progress:
        found = compare(
            draws,
            declared.spec,
            criteria,
            nonfinite="skip" if skip_nonfinite else "raise",
            progress=progress,
        )
    if as_json:
        typer.echo(found.to_json())
    elif not quiet:
        typer.echo(str(found))
        for line in declared.assumed:
            typer.echo(f"note: {line}")


def _criteria_of(names: Pairs, pairs: Pairs) -> list[Criterion] | None:
    """Return the criteria; an option without a criterion's name goes to all that have it."""
    from relabel.matching.criteria import criterion_of, options_of

    given = settings_of(pairs, "--set mean.scale=none")
    if not names:
        if given:
            raise SpecError("--set needs --criterion: name the criteria that are compared")
        return None
    settings: dict[str, dict[str, Any]] = {name: {} for name in names}
    for key, value in given.items():
        one, dot, option = key.partition(".")
        if dot:
            having = [name for name in names if name == one]
        else:
            option, having = key, [name for name in names if key in options_of(name)]
        if not having:
            raise SpecError(f"--set {key}: none of {', '.join(names)} has this option")
        for name in having:
            settings[name][option] = value
    return [criterion_of(name, settings[name]) for name in names]
