"""``relabel align``: relabel draws and write them to a new file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relabel.cli import completion
from relabel.cli.options import (
    Group,
    Inputs,
    Pairs,
    RequiredOutputOptions,
    Rng,
    SkipNonfinite,
    SourceOptions,
    SpecOptions,
    array_of,
    model_of,
    pair_of,
    settings_of,
    value_of,
)
from relabel.cli.output import print_report, shows_progress
from relabel.errors import SpecError

if TYPE_CHECKING:
    from relabel.matching.criteria import Criterion

__all__ = ["command"]

_CRITERION = "Criterion"
_SEARCH = "Search"


@dataclass(frozen=True, kw_only=True)
class CriterionOptions:
    """A criterion, its options and its reference."""

    criterion: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=_CRITERION,
            autocompletion=completion.criteria,
            help="Criterion, as in stephens; by default normal, or what compares allocations where "
            "there are some (an unknown name lists all).",
        ),
    ] = None
    settings: Annotated[
        Pairs,
        typer.Option(
            "--set",
            metavar="OPTION=VALUE",
            rich_help_panel=_CRITERION,
            autocompletion=completion.criterion_options,
            help="An option of the criterion, as in scale=none (repeatable).",
        ),
    ] = None
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="POINT",
            rich_help_panel=_CRITERION,
            autocompletion=completion.references,
            help="What draws are compared with, or what the first reference is formed from: map, "
            "medoid, chain=C,draw=D, or a file.",
        ),
    ] = None

    def resolve(self, table: dict[str, Any] | None) -> tuple[Criterion | None, list[str]]:
        """Return the criterion, and what is to be said of its reference.

        Parameters
        ----------
        table : dict or None
            The table ``[criterion]`` of the spec file; options come on top of it.
        """
        from relabel.matching.criteria import criterion_of, options_of

        name, settings = self.criterion, settings_of(self.settings, "--set scale=none")
        if table is not None and name in (None, table["name"]):
            settings = {k: v for k, v in table.items() if k != "name"} | settings
            name = str(table["name"])
        if self.reference is None:
            if settings and name is None:
                raise SpecError(
                    f"--set {next(iter(settings))} needs --criterion: name the criterion whose "
                    "option it is"
                )
            return None if name is None else criterion_of(name, settings), []
        name = name or "reference"
        if "reference" not in options_of(name):
            raise SpecError(
                f"--reference: criterion {name!r} has no option 'reference'; use the criterion "
                "'reference', or another that has one"
            )
        point, notes = _point_of(self.reference)
        try:
            return criterion_of(name, settings | {"reference": point}), notes
        except SpecError as error:
            if isinstance(point, str):
                raise SpecError(f"{error}; and there is no file {point!r}") from error
            raise


def _point_of(text: str) -> tuple[Any, list[str]]:
    """Return what --reference names: a draw, the point in a file, or a word of the criterion."""
    from relabel.io.reading import read_point

    path = Path(text)
    if "=" in text and not path.exists():
        pairs = dict(pair_of(p, "=", "--reference chain=0,draw=12") for p in text.split(","))
        if set(pairs) == {"chain", "draw"}:
            return {key: value_of(value) for key, value in pairs.items()}, []
        raise SpecError(f"--reference {text!r}: name a draw as in chain=0,draw=12")
    if not (path.exists() or path.suffix or len(path.parts) > 1):
        return text, []
    point, which = read_point(text)
    return point, [f"reference: {which} ({text})"]


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """How the best labelling is searched for."""

    inputs: Inputs = "auto"
    skip_nonfinite: SkipNonfinite = False
    exclude_flagged: Annotated[
        bool,
        typer.Option(
            "--exclude-flagged",
            rich_help_panel=_SEARCH,
            help="Keep chains of low lp or other outputs out of the reference.",
        ),
    ] = False
    n_first: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="INTEGER",
            rich_help_panel=_SEARCH,
            help="Draws tried as the first reference; the best is kept.",
        ),
    ] = 1
    n_random: Annotated[
        int,
        typer.Option(
            min=0, metavar="INTEGER", rich_help_panel=_SEARCH, help="Random starts per draw."
        ),
    ] = 0
    n_perturbations: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="INTEGER",
            rich_help_panel=_SEARCH,
            help="Rounds of local search for draws whose starts disagree.",
        ),
    ] = 30
    certify: Annotated[
        bool,
        typer.Option(
            "--certify",
            rich_help_panel=_SEARCH,
            help="Spend more on proofs that no labelling has a lower loss.",
        ),
    ] = False
    rng: Rng = 0

    def arguments(self) -> dict[str, Any]:
        """Return the keywords of :func:`relabel.align`."""
        return {
            "inputs": array_of(self.inputs),
            "nonfinite": "skip" if self.skip_nonfinite else "raise",
            "exclude_flagged": self.exclude_flagged,
            "n_first": self.n_first,
            "n_random": self.n_random,
            "n_perturbations": self.n_perturbations,
            "certify": self.certify,
            "rng": self.rng,
        }


def command(
    source: SourceOptions,
    result: RequiredOutputOptions,
    model: SpecOptions,
    chosen: CriterionOptions,
    search: SearchOptions,
    group: Group = "posterior",
) -> None:
    """Align the draws of FILE with one reference mode and write them to a new file.

    The name of the output tells its kind: netCDF, .zarr, or weights as they came (such as
    .safetensors), which cannot hold the record that `undo` and `diagnose` need.
    """
    from relabel._util.progress import reporting
    from relabel.alignment.alignment import align
    from relabel.alignment.provenance import relabelled
    from relabel.analysis.reports import alignment_report
    from relabel.io.reading import load

    result.check(source.files)
    draws = source.open()
    spec, table, assumed = model.resolve(draws, group)
    criterion, notes = chosen.resolve(table)
    load(draws, {*spec.axes, *spec.values}, source.files[0])
    with reporting(shows_progress(result.quiet)) as progress:
        options = search.arguments() | {"progress": progress, "group": group}
        aligned = align(draws, spec, criterion=criterion, **options)
    before, after = (d if group == "posterior" else model_of(d, group) for d in (draws, aligned))
    report = None if result.quiet else alignment_report(before, after)
    result.save(aligned, source=source.files, changed=relabelled(aligned, group))
    if report is not None:
        print_report(report, [*assumed, *notes])
    result.announce()
