"""``relabel summary``: tables of the slots of aligned draws."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from relabel.cli import completion
from relabel.cli.options import AlignedFile, FollowLinks, Pairs, pair_of, value_of
from relabel.cli.output import print_frame, records

__all__ = ["command"]

_MANY = 100  # entries of a slot, beyond which a variable is summarised on request only


@dataclass(frozen=True, kw_only=True)
class SlotOptions:
    """Which units and variables are summarised, and how."""

    units: Annotated[
        Pairs,
        typer.Option(
            metavar="NAME",
            autocompletion=completion.units_of_record,
            help="A set of units; all by default (repeatable).",
        ),
    ] = None
    var_names: Annotated[
        Pairs,
        typer.Option(
            metavar="NAME",
            autocompletion=completion.variables,
            help=f"A variable; by default all of at most {_MANY} entries a slot (repeatable).",
        ),
    ] = None
    coords: Annotated[
        Pairs,
        typer.Option(
            metavar="DIM=LABEL",
            help="Entries at this label alone, as in item=3 or component=0 (repeatable).",
        ),
    ] = None
    group: Annotated[
        str, typer.Option(metavar="NAME", help="The group that holds the variables.")
    ] = "posterior"
    ci_prob: Annotated[
        float,
        typer.Option(
            metavar="NUMBER", help="Probability content of the intervals and of the region."
        ),
    ] = 0.9

    def selection(self) -> dict[str, list[Any]]:
        """Return the labels of every dimension that is named."""
        found: dict[str, list[Any]] = {}
        for dim, text in (pair_of(pair, "=", "--coords item=3") for pair in self.coords or ()):
            found.setdefault(dim, []).append(value_of(text))
        return found


def command(
    file: AlignedFile,
    chosen: SlotOptions,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    follow_links: FollowLinks = False,
) -> None:
    """Summarise the slots of draws that `align` wrote: labels, entries, a region for all of them.

    The region holds whole draws: all their entries at once, with the probability given.
    """
    from relabel._util.validate import real
    from relabel.analysis.slot_tables import entries_per_slot, slots, summary
    from relabel.io.reading import open_draws

    draws = open_draws(file, follow_links=follow_links)
    ci_prob = real("--ci-prob", chosen.ci_prob, 0, 1, open_ends=True)
    labels = slots(draws, chosen.units)
    numbers = {} if chosen.var_names else entries_per_slot(draws, chosen.units)
    wide = [name for name, number in numbers.items() if number > _MANY]
    names = chosen.var_names or [name for name in numbers if name not in wide]
    entries = None
    if names:
        entries = summary(
            draws,
            chosen.units,
            var_names=names,
            coords=chosen.selection() or None,
            group=chosen.group,
            ci_prob=ci_prob,
        )
    share = None if entries is None else entries.attrs["share"]
    if as_json:
        rows = {"slots": records(labels), "entries": [] if entries is None else records(entries)}
        typer.echo(json.dumps({"ci_prob": ci_prob, "share": share, "left_out": wide} | rows))
        return
    print_frame(labels)
    if entries is not None:
        print_frame(entries)
        typer.echo(f"the region holds {share:.1%} of the draws (ci_prob {ci_prob:g})")
    if wide:
        listed = ", ".join(f"{name} ({numbers[name]})" for name in wide)
        typer.echo(
            f"left out, more than {_MANY} entries a slot: {listed}; name them with --var-names"
        )
