"""Options that commands share: each is declared once, and groups of them turn into objects."""

from __future__ import annotations

import re
import tomllib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from relabel.cli import completion
from relabel.errors import SpecError

if TYPE_CHECKING:
    from relabel.diagnostics.likelihood import Likelihood
    from relabel.proposals.proposal import Proposal
    from relabel.spec.spec import Spec

__all__ = [
    "AlignedFile",
    "Declared",
    "EvidenceOptions",
    "FollowLinks",
    "Force",
    "Group",
    "Inputs",
    "Json",
    "OutputOptions",
    "Pairs",
    "Quiet",
    "RequiredOutputOptions",
    "Rng",
    "SkipNonfinite",
    "SourceOptions",
    "SpecFile",
    "SpecOptions",
    "array_of",
    "numbers_of",
    "pair_of",
    "settings_of",
    "value_of",
]

#: What a repeatable option gives: one string for each time, None for none.
Pairs = list[str] | None

_SPEC = "Spec"
_WITH_NOISE = "normal"  # the likelihood that --noise alone stands for
_SHOWN = 20  # lines of a spec that are printed beside the report

AlignedFile = Annotated[Path, typer.Argument(metavar="FILE", help="Aligned draws: netCDF or Zarr.")]
Group = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="The posterior, in a file of several models, as in model/posterior.",
    ),
]
SpecFile = Annotated[
    Path | None,
    typer.Option("--spec", metavar="FILE", rich_help_panel=_SPEC, help="A spec as a TOML file."),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the output if it exists.")]
FollowLinks = Annotated[
    bool,
    typer.Option("--follow-links", help="Read values that netCDF keeps outside its folder."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a report.")]
Rng = Annotated[int, typer.Option(min=0, metavar="INTEGER", help="Random seed.")]
SkipNonfinite = Annotated[
    bool, typer.Option("--skip-nonfinite", help="Leave out draws with NaN or infinities.")
]
Inputs = Annotated[
    str,
    typer.Option(
        metavar="ARRAY",
        autocompletion=completion.arrays,
        help="Inputs of the network: auto (those of the alignment, or the only variable that "
        "fits), none, an address such as constant_data/X, or an array such as data.npz:X.",
    ),
]


# ---------------------------------------------------------------------- draws in and out


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """Files of draws, and how they are read."""

    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help="Saved draws, known by their content: one file, a folder, or several files of one "
            "kind, which are members of an ensemble or chains.",
        ),
    ]
    sample_dims: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Leading axes of stacked arrays: 'chain draw', 'draw chain' or 'draw'.",
        ),
    ] = None
    truncate: Annotated[
        bool, typer.Option("--truncate", help="Cut Stan's chains to the length of the shortest.")
    ] = False
    follow_links: FollowLinks = False

    def open(self) -> Any:
        """Open the draws."""
        from relabel.io.reading import open_draws

        return open_draws(
            self.files,
            sample_dims=self.sample_dims,
            truncate=self.truncate,
            follow_links=self.follow_links,
        )


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """A file that is written if it is named, and what is printed."""

    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where the result is written."),
    ] = None
    force: Force = False
    quiet: Quiet = False

    def check(self, source: Path | Sequence[Path]) -> None:
        """Refuse an output that cannot be written, before any work is done."""
        from relabel.io.temporary import abandoned
        from relabel.io.writing import check_target

        if self.output is not None:
            check_target(self.output, source, force=self.force)
            for note in abandoned(self.output.absolute().parent):
                typer.echo(f"note: {note}", err=True)

    def save(
        self,
        data: Any,
        *,
        source: Path | Sequence[Path] | None = None,
        changed: Sequence[str] | None = None,
    ) -> None:
        """Write the draws."""
        from relabel.io.writing import save

        if self.output is None:
            return
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*was left by a run that was killed", UserWarning)
            save(data, self.output, source=source, changed=changed, force=self.force)

    def announce(self) -> None:
        """Say that the file was written."""
        if self.output is not None and not self.quiet:
            typer.echo(f"wrote {self.output}")


@dataclass(frozen=True, kw_only=True)
class RequiredOutputOptions(OutputOptions):
    """A file that is written."""

    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where the result is written.")
    ] = field()


# ---------------------------------------------------------------------- the spec


class Declared(NamedTuple):
    """A spec, the table ``[criterion]`` of its file, and what was assumed."""

    spec: Spec
    criterion: dict[str, Any] | None = None
    assumed: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class SpecOptions:
    """A spec: as a file, as tables, or by the activation of a network."""

    spec: SpecFile = None
    activation: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=_SPEC,
            autocompletion=completion.activations,
            help="Activation of all units of a network, as in relu; axes follow from the names.",
        ),
    ] = None
    units: Annotated[
        Pairs,
        typer.Option(
            metavar="UNITS=ACTIVATION",
            rich_help_panel=_SPEC,
            autocompletion=completion.units,
            help="A set of units, as in h=tanh (repeatable).",
        ),
    ] = None
    axes: Annotated[
        Pairs,
        typer.Option(
            metavar="VARIABLE:AXES",
            rich_help_panel=_SPEC,
            autocompletion=completion.axes,
            help="Axes of a variable, as in 'W1: x -> h' (repeatable).",
        ),
    ] = None
    values: Annotated[
        Pairs,
        typer.Option(
            metavar="VARIABLE=UNITS",
            rich_help_panel=_SPEC,
            autocompletion=completion.values,
            help="A variable whose values are labels of units, as in z=state (repeatable).",
        ),
    ] = None
    sizes: Annotated[
        Pairs,
        typer.Option(
            metavar="AXIS=SIZE",
            rich_help_panel=_SPEC,
            help="The size of an axis that variables do not tell, as in x=3 (repeatable).",
        ),
    ] = None
    gauges: Annotated[
        Pairs,
        typer.Option(
            metavar="UNITS=GAUGE",
            rich_help_panel=_SPEC,
            help="How scales and rotations are fixed, as in h=unit or f=varimax (repeatable).",
        ),
    ] = None
    supports: Annotated[
        Pairs,
        typer.Option(
            metavar="VARIABLE=SUPPORT",
            rich_help_panel=_SPEC,
            help="Where values lie, as in sigma=positive or w=unit_interval (repeatable).",
        ),
    ] = None

    @property
    def _tables(self) -> tuple[Pairs, ...]:
        return (self.units, self.axes, self.values, self.sizes, self.gauges, self.supports)

    def resolve(self, draws: Any, group: str = "posterior") -> Declared:
        """Return the spec for some draws; `group` is their posterior.

        Raises
        ------
        SpecError
            If none is given, or several, or the draws do not tell its axes.
        """
        from relabel.data.containers import node_of
        from relabel.io.spec_files import read_spec
        from relabel.proposals.proposal import propose

        if node_of(group):
            draws = model_of(draws, group)
        if self.spec is not None:
            if self.activation or any(self._tables):
                raise SpecError(
                    "give either --spec, or --activation, or --units with --axes, --values and "
                    "--gauges"
                )
            return Declared(*read_spec(self.spec))
        if self.activation is not None:
            if any(self._tables):
                raise SpecError(
                    "--activation stands for --units, --axes and the like: give one; "
                    "`relabel inspect FILE` prints a spec to change"
                )
            proposal = propose(draws, activation=self.activation)
            return Declared(_certain(proposal), assumed=_assumed(proposal))
        if not self.units:
            raise SpecError(
                "no units are given: give --spec FILE, --units NAME=ACTIVATION, or --activation "
                "for networks; `relabel inspect FILE` proposes a spec"
            )
        spec = self._from_tables()
        return Declared(spec) if spec.axes else _completed(draws, spec)

    def _from_tables(self) -> Spec:
        from relabel.spec.spec import Spec

        sizes = numbers_of(self.sizes, "--sizes x=3") or {}
        for name, size in sizes.items():
            if not size.is_integer():
                raise SpecError(f"--sizes {name}={size:g}: a size must be an integer")
        return Spec(
            dict(pair_of(pair, "=", "--units h=tanh") for pair in self.units or []),
            dict(pair_of(pair, ":", "--axes 'W1: x -> h'") for pair in self.axes or []),
            dict(pair_of(pair, "=", "--values z=component") for pair in self.values or []),
            {name: int(size) for name, size in sizes.items()},
            dict(pair_of(pair, "=", "--gauges h=unit") for pair in self.gauges or []),
            dict(pair_of(pair, "=", "--supports w=unit_interval") for pair in self.supports or []),
        )


def model_of(draws: Any, group: str) -> Any:
    """Return the model of a posterior, out of a tree of several."""
    from relabel.data.containers import node_of, unpack

    unpack(draws, group)  # refuses a group that is not there
    return draws[node_of(group).rstrip("/")]


def _completed(draws: Any, spec: Spec) -> Declared:
    """Complete a spec that names units only: by a proposal, or by the names of dimensions."""
    from relabel.data.containers import unpack
    from relabel.data.participants import sharing
    from relabel.proposals.proposal import propose

    named = set(spec.units)
    dims = {str(dim) for dataset in sharing(unpack(draws)).values() for dim in dataset.dims}
    try:
        proposal = propose(draws, units=spec.units)
    except SpecError:
        if not named <= dims:
            raise
        return Declared(spec)
    found = proposal.spec
    if proposal.certain and found is not None and (found.axes or found.values):
        values = {**found.values, **spec.values}
        sizes = {**found.sizes, **spec.sizes}
        found = replace(
            found, values=values, gauges=spec.gauges, sizes=sizes, supports=spec.supports
        )
        return Declared(found, assumed=_assumed(proposal))
    if named <= dims:
        return Declared(spec)
    raise SpecError(
        f"no dimension is named {', '.join(sorted(named - dims))}, and the axes are not certain "
        f"({'; '.join(proposal.doubts)}); name them with --axes or --spec"
    )


def _certain(proposal: Proposal) -> Spec:
    """Return the spec of a proposal without doubts."""
    if proposal.spec is None or not proposal.certain:
        raise SpecError(
            f"the axes are not certain ({'; '.join(proposal.doubts)}); write them to a file with "
            "`relabel inspect FILE > spec.toml`, fix it, and pass it with --spec"
        )
    return proposal.spec


def _assumed(proposal: Proposal) -> list[str]:
    """Return what was read from names and shapes, and what was assumed."""
    lines = (
        [f"{name}: {line}" for name, line in proposal.spec.axes.items()] if proposal.spec else []
    )
    if len(lines) > _SHOWN:
        lines[_SHOWN:] = [f"and {len(lines) - _SHOWN} more"]
    read = [f"axes, from names and shapes: {'; '.join(lines)}"] if lines else []
    return [*read, *proposal.assumptions]


# ---------------------------------------------------------------------- inputs and the likelihood


@dataclass(frozen=True, kw_only=True)
class EvidenceOptions:
    """Inputs and targets of a network, and the likelihood of the targets."""

    inputs: Inputs = "auto"
    targets: Annotated[
        str,
        typer.Option(
            metavar="ARRAY",
            autocompletion=completion.arrays,
            help="Targets: auto (a stored variable that fits), none, an address such as "
            "constant_data/y, or an array such as data.npz:y.",
        ),
    ] = "auto"
    likelihood: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=completion.families,
            help="Likelihood of the targets, as in bernoulli (an unknown name lists all).",
        ),
    ] = None
    noise: Annotated[
        str | None,
        typer.Option(
            metavar="SD",
            autocompletion=completion.variables,
            help="Standard deviation of normal noise: a number, or a posterior variable.",
        ),
    ] = None

    def arguments(self) -> dict[str, Any]:
        """Return the keywords inputs, targets and likelihood of the verbs."""
        return {
            "inputs": array_of(self.inputs),
            "targets": array_of(self.targets),
            "likelihood": self._likelihood(),
        }

    def _likelihood(self) -> Likelihood | None:
        from relabel.diagnostics.likelihood import Likelihood

        if self.likelihood is None and self.noise is None:
            return None
        scale = None if self.noise is None else value_of(self.noise)
        return Likelihood(self.likelihood or _WITH_NOISE, scale)


def array_of(text: str) -> Any:
    """Return ``"auto"``, None for ``"none"``, the array of FILE.npz:NAME, or an address."""
    path, found, name = text.rpartition(":")
    if not found or not path.endswith(".npz"):
        return None if text == "none" else text
    from relabel.sources.npz import read_npz

    arrays = read_npz(Path(path))
    if name not in arrays:
        raise SpecError(f"{path} holds no {name!r}; it holds {', '.join(arrays)}")
    return arrays[name]


# ---------------------------------------------------------------------- pairs and values


def pair_of(text: str, separator: str, example: str) -> tuple[str, str]:
    """Split a pair at the first separator."""
    key, found, value = text.partition(separator)
    if not (found and key.strip() and value.strip()):
        raise SpecError(f"{text!r} is not a pair; write it as in {example}")
    return key.strip(), value.strip()


def numbers_of(pairs: Pairs, example: str) -> dict[str, float] | None:
    """Return names and numbers; None where there are none."""
    if not pairs:
        return None
    found = {}
    for name, text in (pair_of(pair, "=", example) for pair in pairs):
        try:
            found[name] = float(text)
        except ValueError:
            raise SpecError(f"{text!r} is not a number; write it as in {example}") from None
    return found


def settings_of(pairs: Pairs, example: str) -> dict[str, Any]:
    """Return names and values."""
    return {name: value_of(text) for name, text in (pair_of(p, "=", example) for p in pairs or [])}


def value_of(text: str) -> Any:
    """Read a value: chain=C,draw=D, TOML where it is that, else a string."""
    if re.fullmatch(r"chain=[^,=]+,draw=[^,=]+", text):
        return {name: value_of(value) for name, value in (p.split("=") for p in text.split(","))}
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    except (ValueError, RecursionError, MemoryError) as error:
        from relabel.sources.failures import first_line

        shown = f"{text[:40]}..." if len(text) > 40 else text
        raise SpecError(f"the value {shown!r} cannot be read: {first_line(error)}") from error
