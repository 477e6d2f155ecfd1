"""``relabel demo``: align the draws that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relabel.cli.options import Force
from relabel.cli.output import print_report
from relabel.errors import FileError

__all__ = ["command"]

_DEMOS = {
    "tanh_shallow.nc": "a 2-4-1 network whose chains started at random",
    "tanh_deep.nc": "a 3-4-4-1 network whose chains started in scrambled copies of one mode",
}


def command(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="Folder for the aligned files."),
    ] = None,
    force: Force = False,
) -> None:
    """Align the draws that come with the package: two tanh networks, sampled by NUTS."""
    folder = _data_folder()
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    for name, description in _DEMOS.items():
        typer.echo(f"== {name}: {description}")
        _align(folder / name, None if output is None else output / f"aligned_{name}", force=force)
        typer.echo("")


def _align(file: Path, target: Path | None, *, force: bool) -> None:
    """Align one file, print the report, and write the result if there is a target."""
    from relabel.alignment.alignment import align
    from relabel.alignment.provenance import relabelled
    from relabel.analysis.reports import alignment_report, as_planted
    from relabel.io.reading import open_draws
    from relabel.io.writing import check_target, save
    from relabel.proposals.proposal import propose

    if target is not None:
        check_target(target, file, force=force)
    draws = open_draws(file)
    spec = propose(draws).spec
    assert spec is not None
    aligned = align(draws, spec)
    print_report(alignment_report(draws, aligned))
    share = as_planted(aligned)
    if share is not None:
        typer.echo(f"labels  {100 * share:.1f} % of units and signs as planted")
    if target is not None:
        save(aligned, target, source=file, changed=relabelled(aligned), force=force)
        typer.echo(f"wrote {target}")


def _data_folder() -> Path:
    """Return the folder of the shipped draws: in the installed package, or in the repository."""
    package = Path(__file__).parents[1]
    for folder in (package / "_demo", package.parent / "data"):
        if all((folder / name).exists() for name in _DEMOS):
            return folder
    raise FileError("the draws of the demo were not installed with the package")
