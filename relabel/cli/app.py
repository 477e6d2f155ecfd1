"""The command line: inspect, align, compare, diagnose, summary, average, undo, convert, demo."""

from __future__ import annotations

import json
import re
import sys
import tomllib
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from relabel._util.progress import reporting
from relabel._util.text import formatted
from relabel._util.validate import real
from relabel._util.versions import __version__
from relabel.alignment.alignment import align
from relabel.alignment.inverse import undo
from relabel.alignment.provenance import relabelled, stored_elements
from relabel.analysis.averaging import average
from relabel.analysis.comparison import compare
from relabel.analysis.reports import AlignmentReport, alignment_report, as_planted
from relabel.analysis.slot_tables import entries_per_slot, slots, summary
from relabel.data.containers import sharing, unpack
from relabel.data.roles import find_inputs
from relabel.diagnostics.diagnosing import diagnose
from relabel.diagnostics.diagnosis import Thresholds
from relabel.diagnostics.likelihood import FAMILIES, Likelihood
from relabel.errors import FileError, RelabelError, SpecError
from relabel.io.files import check_target, load, open_draws, read_point, read_spec, save
from relabel.matching.criteria import CRITERIA, Criterion, ToReference, criterion_of, options_of
from relabel.models.network import Network
from relabel.proposals.proposal import Proposal, propose
from relabel.sources.npz import read_npz
from relabel.spec.spec import Spec

__all__ = ["app", "main"]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Undo label switching in posterior draws: align every draw with one reference mode.",
)

File = Annotated[Path, typer.Argument(metavar="FILE", help="Aligned draws: netCDF or Zarr.")]
Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...",
        help="Saved draws, known by their content: one file, a folder, or several files of one "
        "kind, which are members of an ensemble or chains.",
    ),
]
SampleAxes = Annotated[
    str | None,
    typer.Option(help="Leading axes of stacked arrays: 'chain draw', 'draw chain' or 'draw'."),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Where the result is written.")]
SpecFile = Annotated[Path | None, typer.Option("--spec", help="A spec as a TOML file.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the output if it exists.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a report.")]
SkipNonfinite = Annotated[
    bool, typer.Option("--skip-nonfinite", help="Leave out draws with NaN or infinities.")
]
Pairs = list[str] | None
Truncate = Annotated[
    bool,
    typer.Option("--truncate", help="Cut Stan's chains to the length of the shortest."),
]
Activation = Annotated[
    str | None,
    typer.Option(help="Activation of all units, as in relu; the axes are told from the names."),
]
UnitsPairs = Annotated[Pairs, typer.Option(help="A set of units, as in h=tanh.")]
AxesPairs = Annotated[Pairs, typer.Option(help="A variable's axes, as in 'W1: x -> h'.")]
ValuesPairs = Annotated[Pairs, typer.Option(help="Whose labels values are, as in z=state.")]
SizePairs = Annotated[Pairs, typer.Option(help="The size of an axis, as in x=3, where needed.")]
GaugePairs = Annotated[
    Pairs, typer.Option(help="How scales and rotations are fixed, as in h=unit or f=varimax.")
]
Inputs = Annotated[str | None, typer.Option(help="Inputs, as in constant_data/X or data.npz:X.")]
Targets = Annotated[str | None, typer.Option(help="Targets, as in constant_data/y or data.npz:y.")]
Family = Annotated[str | None, typer.Option(help=f"Of the targets: {', '.join(FAMILIES)}.")]
Noise = Annotated[
    str | None, typer.Option(help="Noise of a gaussian: a number, or a posterior variable.")
]

_MANY = 100  # entries of a slot, beyond which a variable is summarised on request only


def main() -> None:
    """Run the command; what fails without being foreseen is a fault of ours."""
    try:
        app(prog_name="relabel")
    except Exception:  # noqa: BLE001
        traceback.print_exc()
        print(
            f"error: this is a fault of relabel {__version__}, not yours: {_REPORT}",
            file=sys.stderr,
        )
        sys.exit(1)


_REPORT = (
    "please report it, with the lines above, at https://github.com/posterior-relabel/relabel/issues"
)


@contextmanager
def _errors() -> Iterator[None]:
    """Turn what is the user's to mend into one message and status 2."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (RelabelError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo("interrupted: nothing was written", err=True)
        raise typer.Exit(130) from None


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"relabel {__version__}")
        raise typer.Exit


@app.command("inspect")
def inspect_command(
    files: Files, spec: SpecFile = None, sample_axes: SampleAxes = None, truncate: Truncate = False
) -> None:
    """Show the variables of FILE and a spec for them: the given one, or a proposal."""
    with _errors():
        draws = open_draws(files, axes=sample_axes, truncate=truncate)
        groups = unpack(draws)
        shared = sharing(groups)
        declared = read_spec(spec)[0] if spec else None
        bound = declared.bind(shared) if declared else None
        axes = {v.address: _axes_text(v) for v in bound.variables} if bound else {}
        rows = [
            [
                f"{group}/{name}",
                " ".join(f"{d}={n}" for d, n in variable.sizes.items()),
                str(variable.dtype),
                axes.get(f"{group}/{name}", ""),
            ]
            for group, dataset in shared.items()
            for name, variable in dataset.data_vars.items()
        ]
        _print_table(["variable", "sizes", "dtype", "axes"], rows)
        if bound is None and "relabel" in groups:
            bound = stored_elements(groups, "")[0].bind(shared)
            _comment("these draws were aligned before, with this spec")
            typer.echo(bound.spec.to_toml())
        elif bound is None:
            proposal = propose(draws)
            _print_proposal(proposal)
            bound = proposal.spec.bind(shared) if proposal.spec else None
        if bound is not None:
            units = [
                [n, str(bound.sizes[n]), s, bound.group(n).label, _class(bound.group(n).exact)]
                for n, s in bound.spec.units.items()
            ]
            _print_table(["units", "size", "activation", "group", "symmetry"], units)
            _print_inputs(bound, groups)


@app.command("align")
def align_command(
    files: Files,
    output: Output,
    spec: SpecFile = None,
    activation: Activation = None,
    units: UnitsPairs = None,
    axes: AxesPairs = None,
    values: ValuesPairs = None,
    size: SizePairs = None,
    gauge: GaugePairs = None,
    criterion: Annotated[
        str | None, typer.Option(help=f"What is maximised: {', '.join(CRITERIA)}; default mean.")
    ] = None,
    options: Annotated[
        Pairs, typer.Option("--set", help="An option of the criterion, as in scale=none.")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="Align to (or pivot): map, medoid, chain=C,draw=D, or a file."),
    ] = None,
    inputs: Annotated[
        str | None, typer.Option(help="Inputs: constant_data/X, data.npz:X, or none.")
    ] = None,
    sample_axes: SampleAxes = None,
    truncate: Truncate = False,
    skip_nonfinite: SkipNonfinite = False,
    exclude_flagged: Annotated[
        bool,
        typer.Option(
            "--exclude-flagged", help="Keep chains of low lp or other outputs out of the reference."
        ),
    ] = False,
    first_draws: Annotated[
        int, typer.Option(min=1, help="Draws tried as the first reference; the best is kept.")
    ] = 1,
    random_starts: Annotated[int, typer.Option(min=0, help="Random starts per draw.")] = 0,
    kicks: Annotated[int, typer.Option(min=0, help="Rounds of local search per open draw.")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="Seed of starts, kicks and probes.")] = 0,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Align the draws of FILE with one reference mode and write them to a new file.

    The name of the output tells its kind: netCDF, .zarr, or weights as they came (.pt,
    .safetensors, .npz, .msgpack), which cannot hold the record that `undo` and `diagnose` need.
    """
    with _errors():
        check_target(output, files, force=force)
        draws = open_draws(files, axes=sample_axes, truncate=truncate)
        declared, table, assumed = _spec_of(
            draws, spec, activation, _Tables(units, axes, values, size, gauge)
        )
        chosen, told = _criterion_of(criterion, options, reference, table)
        load(draws, {*declared.axes, *declared.values}, files[0])
        with reporting(_bar(quiet)) as progress:
            aligned = align(
                draws,
                declared,
                criterion=chosen,
                inputs={None: "auto", "none": None}.get(inputs, _named_array(inputs)),
                nonfinite="skip" if skip_nonfinite else "raise",
                exclude_flagged=exclude_flagged,
                n_first=first_draws,
                n_random=random_starts,
                n_kicks=kicks,
                seed=seed,
                progress=progress,
            )
        found = None if quiet else alignment_report(draws, aligned)
        save(aligned, output, source=files, changed=relabelled(aligned), force=force)
        if found is not None:
            _print_account(found, [*assumed, *told])
            typer.echo(f"wrote {output}")


@app.command("diagnose")
def diagnose_command(
    file: File,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where draws with findings are written.")
    ] = None,
    inputs: Inputs = None,
    likelihood: Family = None,
    noise: Noise = None,
    targets: Targets = None,
    prior: Annotated[
        Pairs, typer.Option(help="Standard deviation of a variable's normal prior, as in W1=1.")
    ] = None,
    threshold: Annotated[
        Pairs, typer.Option("--set", help="A threshold of relabel.Thresholds, as in null_gap=0.2.")
    ] = None,
    as_json: Json = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with status 3 if labels cannot be believed.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Say what remains in draws that `align` wrote: labels, chains, units and modes.

    Lines with !! say that labels cannot be believed, ! that something needs a decision, - what was
    assumed or stayed open. Status 0; with --strict 3 if labels cannot be believed; 2 for an error.
    """
    with _errors():
        if output is not None:
            check_target(output, file, force=force)
        draws = open_draws(file)
        if output is not None:
            relabelled(draws)  # of draws that were not aligned there is nothing to write
        with reporting(_bar(quiet)) as progress:
            data, diagnosis = diagnose(
                draws,
                inputs="auto" if inputs is None else _named_array(inputs),
                targets="auto" if targets is None else _named_array(targets),
                likelihood=_likelihood_of(likelihood, noise),
                priors=_numbers_of(prior, "--prior W1=1"),
                thresholds=_thresholds_of(threshold),
                rng=seed,
                progress=progress,
            )
        if output is not None:
            save(data, output, source=file, changed=relabelled(data), force=force)
        if as_json:
            typer.echo(diagnosis.to_json())
        elif not quiet:
            typer.echo(str(diagnosis))
            if output is not None:
                typer.echo(f"wrote {output}")
    if strict and not diagnosis.labels_trustworthy:
        raise typer.Exit(3)


@app.command("compare")
def compare_command(
    files: Files,
    spec: SpecFile = None,
    activation: Activation = None,
    units: UnitsPairs = None,
    axes: AxesPairs = None,
    values: ValuesPairs = None,
    size: SizePairs = None,
    gauge: GaugePairs = None,
    criterion: Annotated[
        Pairs, typer.Option(help=f"A criterion, several times: {', '.join(CRITERIA)}.")
    ] = None,
    options: Annotated[
        Pairs,
        typer.Option(
            "--set", help="An option of all criteria that have it, or of one, as in order.by=mu."
        ),
    ] = None,
    sample_axes: SampleAxes = None,
    truncate: Truncate = False,
    skip_nonfinite: SkipNonfinite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Align the draws of FILE by several criteria; say where they agree. Nothing is written."""
    with _errors():
        draws = open_draws(files, axes=sample_axes, truncate=truncate)
        declared, _, assumed = _spec_of(
            draws, spec, activation, _Tables(units, axes, values, size, gauge)
        )
        chosen = _criteria_of(criterion, options)
        with reporting(_bar(quiet)) as progress:
            found = compare(
                draws,
                declared,
                chosen,
                nonfinite="skip" if skip_nonfinite else "raise",
                progress=progress,
            )
        if as_json:
            typer.echo(found.to_json())
        elif not quiet:
            typer.echo(str(found))
            for line in assumed:
                typer.echo(f"note: {line}")


@app.command("undo")
def undo_command(file: File, output: Output, force: Force = False, quiet: Quiet = False) -> None:
    """Write the draws of FILE as they were before they were aligned."""
    with _errors():
        check_target(output, file, force=force)
        aligned = open_draws(file)
        load(aligned, relabelled(aligned), file)
        original = undo(aligned)
        save(original, output, source=file, changed=relabelled(aligned), force=force)
        if not quiet:
            typer.echo(f"wrote {output}")


@app.command("average")
def average_command(
    file: File,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where the mean network is written.")
    ] = None,
    inputs: Inputs = None,
    targets: Targets = None,
    likelihood: Family = None,
    noise: Noise = None,
    as_json: Json = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Average the weights of draws that `align` wrote; say what the mean network is worth.

    Its loss is shown beside those of the members, of the ensemble of outputs, and of the mean of
    the draws as they were before.
    """
    with _errors():
        if output is not None:
            check_target(output, file, force=force)
        found = average(
            open_draws(file),
            inputs=_named_array(inputs),
            targets=_named_array(targets),
            likelihood=_likelihood_of(likelihood, noise),
        )
        if output is not None:
            save(found.data, output, force=force)
        if as_json:
            typer.echo(found.to_json())
        elif not quiet:
            typer.echo(str(found))
            if output is not None:
                typer.echo(f"wrote {output}")


@app.command("convert")
def convert_command(
    files: Files,
    output: Output,
    sample_axes: SampleAxes = None,
    truncate: Truncate = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Write the draws of FILE as another kind of file, which the name of the output tells.

    Draws of any sampler to netCDF or Zarr, or draws that `align` wrote to weights as they came
    (.pt, .safetensors, .npz, .msgpack).
    """
    with _errors():
        check_target(output, files, force=force)
        draws = open_draws(files, axes=sample_axes, truncate=truncate)
        save(draws, output, source=files, changed=(), force=force)
        if not quiet:
            typer.echo(f"wrote {output}")


@app.command("demo")
def demo_command(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the aligned files.")
    ] = None,
    force: Force = False,
) -> None:
    """Align the draws that come with the package: two tanh networks, sampled by NUTS."""
    with _errors():
        if output is not None:
            output.mkdir(parents=True, exist_ok=True)
        for name, told in _DEMOS.items():
            file = _data_folder() / name
            if output is not None:
                check_target(output / f"aligned_{name}", file, force=force)
            typer.echo(f"== {name}: {told}")
            draws = open_draws(file)
            proposal = propose(draws)
            assert proposal.spec is not None
            aligned = align(draws, proposal.spec)
            _print_account(alignment_report(draws, aligned), [])
            share = as_planted(aligned)
            if share is not None:
                typer.echo(f"labels  {100 * share:.1f} % of units and signs as planted")
            if output is not None:
                target = output / f"aligned_{name}"
                save(aligned, target, source=file, changed=relabelled(aligned), force=force)
                typer.echo(f"wrote {target}")
            typer.echo("")


@app.command("summary")
def summary_command(
    file: File,
    units: Annotated[Pairs, typer.Option(help="A set of units; all by default.")] = None,
    variable: Annotated[
        Pairs,
        typer.Option(help=f"A variable; by default all of at most {_MANY} entries a slot."),
    ] = None,
    prob: Annotated[float, typer.Option(help="Of intervals and of the region.")] = 0.9,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Summarise the slots of draws that `align` wrote: labels, entries, a region for all of them.

    The region holds whole draws: all its entries at once, with the probability given.
    """
    with _errors():
        draws = open_draws(file)
        real("--prob", prob, 0, 1, open_ends=True)
        labels = slots(draws, units)
        numbers = {} if variable else entries_per_slot(draws, units)
        wide = [name for name, number in numbers.items() if number > _MANY]
        chosen = variable or [name for name in numbers if name not in wide]
        entries = summary(draws, units, var_names=chosen, ci_prob=prob) if chosen else None
        share = None if entries is None else entries.attrs["share"]
        if as_json:
            rows = {"slots": _records(labels)}
            rows["entries"] = [] if entries is None else _records(entries)
            typer.echo(json.dumps({"prob": prob, "share": share, "left_out": wide} | rows))
            return
        _print_frame(labels)
        if entries is not None:
            _print_frame(entries)
            typer.echo(f"the region holds {share:.1%} of the draws (prob {prob:g})")
        if wide:
            told = ", ".join(f"{name} ({numbers[name]})" for name in wide)
            told = f"left out, more than {_MANY} entries a slot: {told}"
            typer.echo(f"{told}; name them with --variable")


_DEMOS = {
    "tanh_shallow.nc": "a 2-4-1 network whose chains started at random",
    "tanh_deep.nc": "a 3-4-4-1 network whose chains started in scrambled copies of one mode",
}


def _data_folder() -> Path:
    """Folder of the shipped draws: in the installed package, or in the repository."""
    package = Path(__file__).parents[1]
    for folder in (package / "_demo", package.parent / "data"):
        if (folder / next(iter(_DEMOS))).exists():
            return folder
    raise FileError("the draws of the demo were not installed with the package")


# ---------------------------------------------------------------------- options to objects


class _Tables(NamedTuple):
    """Tables of a spec as they are given on the command line."""

    units: Pairs
    axes: Pairs
    values: Pairs
    sizes: Pairs
    gauges: Pairs

    def spec(self) -> Spec:
        """Put them together."""
        sizes = _numbers_of(self.sizes, "--size x=3") or {}
        return Spec(
            dict(_split(pair, "=", "--units h=tanh") for pair in self.units or []),
            dict(_split(pair, ":", "--axes 'W1: x -> h'") for pair in self.axes or []),
            dict(_split(pair, "=", "--values z=component") for pair in self.values or []),
            {name: _whole(name, size) for name, size in sizes.items()},
            dict(_split(pair, "=", "--gauge h=unit") for pair in self.gauges or []),
        )


def _whole(name: str, size: float) -> int:
    if not size.is_integer():
        raise SpecError(f"--size {name}={size:g}: a size is a whole number")
    return int(size)


def _spec_of(
    draws: Any, file: Path | None, activation: str | None, tables: _Tables
) -> tuple[Spec, dict[str, Any] | None, list[str]]:
    """Spec from a file or from options; what was assumed is told."""
    if file is not None:
        if activation or any(tables):
            raise SpecError(
                "give either --spec, or --activation, or --units with --axes, --values and --gauge"
            )
        spec, table = read_spec(file)
        return spec, table, []
    if activation is not None:
        if any(tables):
            raise SpecError(
                "--activation stands for --units, --axes and the like: give one; "
                "`relabel inspect FILE` prints a spec to change"
            )
        proposal = propose(draws, activation=activation)
        return _certain(proposal), None, _told(proposal)
    if not tables.units:
        raise SpecError(
            "what are the units? give --spec FILE, --units NAME=ACTIVATION, or --activation for "
            "networks; `relabel inspect FILE` proposes a spec"
        )
    spec = tables.spec()
    return (spec, None, []) if spec.axes else _completed(draws, spec)


def _completed(draws: Any, spec: Spec) -> tuple[Spec, None, list[str]]:
    """Complete a spec that names units only: by a proposal, or by the names of dimensions."""
    named = set(spec.units)
    dims = {str(dim) for dataset in sharing(unpack(draws)).values() for dim in dataset.dims}
    try:
        proposal = propose(draws, units=spec.units)
    except SpecError:
        if not named <= dims:
            raise
        return spec, None, []
    found = proposal.spec
    if proposal.certain and found is not None and (found.axes or found.values):
        values = {**found.values, **spec.values}
        found = replace(
            found, values=values, gauges=spec.gauges, sizes={**found.sizes, **spec.sizes}
        )
        return found, None, _told(proposal)
    if named <= dims:
        return spec, None, []
    raise SpecError(
        f"no dimension is named {', '.join(sorted(named - dims))}, and the axes cannot be "
        f"told for certain ({'; '.join(proposal.doubts)}); name them with --axes or --spec"
    )


def _certain(proposal: Proposal) -> Spec:
    """The spec of a proposal without doubts."""
    if proposal.spec is None or not proposal.certain:
        raise SpecError(
            f"the axes cannot be told for certain ({'; '.join(proposal.doubts)}); "
            "`relabel inspect FILE > spec.toml`, mend it, and pass it with --spec"
        )
    return proposal.spec


def _told(proposal: Proposal) -> list[str]:
    """What was read from names and shapes, and what was assumed."""
    spec = proposal.spec
    told = [f"axes, from names and shapes: {_one_line(spec)}"] if spec and spec.axes else []
    return [*told, *proposal.assumptions]


def _one_line(spec: Spec) -> str:
    """The axes, as far as a line holds them."""
    lines = [f"{name}: {line}" for name, line in spec.axes.items()]
    more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return "; ".join([*lines[:_SHOWN], *more])


_SHOWN = 20  # lines of a spec that are printed beside the account


def _named_array(text: str | None) -> NDArray[Any] | str | None:
    """Read an array that is named FILE.npz:NAME; another text is an address beside the draws."""
    path, found, name = (text or "").rpartition(":")
    if not found or not path.endswith(".npz"):
        return text
    arrays = read_npz(Path(path))
    if name not in arrays:
        raise SpecError(f"{path} holds no {name!r}; it holds {', '.join(arrays)}")
    return arrays[name]


def _criterion_of(
    name: str | None, options: Pairs, reference: str | None, table: dict[str, Any] | None
) -> tuple[Criterion | None, list[str]]:
    """Criterion from options or from the table of the spec file."""
    pairs = [_split(pair, "=", "--set scale=none") for pair in options or []]
    settings = {key: _value(value) for key, value in pairs}
    if table is not None and name in (None, table["name"]):
        settings = {k: v for k, v in table.items() if k != "name"} | settings
        name = str(table["name"])
    if reference is None:
        if name is None and not settings:
            return None, []
        return criterion_of(name or "mean", settings), []
    name = name or ToReference.name
    if name != ToReference.name and "pivot" not in options_of(name):
        raise SpecError(
            "--reference goes with the criterion 'reference' and with those that have a pivot, "
            f"not with {name!r}"
        )
    point, told = _reference_of(reference)
    if name != ToReference.name:
        return criterion_of(name, settings | {"pivot": point}), told
    return criterion_of(ToReference.name, settings | {"to": point}), told


def _criteria_of(names: Pairs, options: Pairs) -> list[Criterion] | None:
    """Criteria of a comparison; an option without a criterion's name goes to all that know it."""
    pairs = [_split(pair, "=", "--set stephens.start=labels") for pair in options or []]
    if not names:
        if pairs:
            raise SpecError("--set needs --criterion: name the criteria that are compared")
        return None
    settings: dict[str, dict[str, Any]] = {name: {} for name in names}
    for key, text in pairs:
        one, dot, option = key.partition(".")
        if not dot:
            option, known = key, [name for name in names if key in options_of(name)]
        else:
            known = [name for name in names if name == one]
        if not known:
            raise SpecError(f"--set {key}={text}: none of {', '.join(names)} has this option")
        for name in known:
            settings[name][option] = _value(text)
    return [criterion_of(name, settings[name]) for name in names]


def _reference_of(text: str) -> tuple[Any, list[str]]:
    """What --reference names: a word, a draw, or a file."""
    if text in ("map", "medoid"):
        return text, []
    if "=" in text and not Path(text).exists():
        pairs = dict(_split(p, "=", "--reference chain=0,draw=12") for p in text.split(","))
        if set(pairs) == {"chain", "draw"}:
            return {key: _value(value) for key, value in pairs.items()}, []
        raise SpecError(f"--reference {text!r}: a draw is named as in chain=0,draw=12")
    point, what = read_point(text)
    return point, [f"reference: {what} ({text})"]


def _likelihood_of(family: str | None, noise: str | None) -> Likelihood | None:
    """What the options say of the likelihood; None where they say nothing."""
    if family is None:
        if noise is None:
            return None
        family = "gaussian"
    scale = None if noise is None else _value(noise)
    return Likelihood(family, scale)


def _numbers_of(pairs: Pairs, example: str) -> dict[str, float] | None:
    """Names and numbers; None where there are none."""
    if not pairs:
        return None
    found = {}
    for name, text in (_split(pair, "=", example) for pair in pairs):
        try:
            found[name] = float(text)
        except ValueError:
            raise SpecError(f"{text!r} is not a number; write it as in {example}") from None
    return found


def _thresholds_of(pairs: Pairs) -> Thresholds:
    """Thresholds with some of them set."""
    return Thresholds(**(_numbers_of(pairs, "--set null_gap=0.2") or {}))


def _split(text: str, separator: str, example: str) -> tuple[str, str]:
    """Split a pair at the first separator."""
    key, found, value = text.partition(separator)
    if not (found and key.strip() and value.strip()):
        raise SpecError(f"{text!r} is not a pair; write it as in {example}")
    return key.strip(), value.strip()


def _value(text: str) -> Any:
    """Read a value: chain=C,draw=D, TOML where it is that, else text."""
    if re.fullmatch(r"chain=[^,=]+,draw=[^,=]+", text):
        return {key: _value(value) for key, value in (part.split("=") for part in text.split(","))}
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


# ---------------------------------------------------------------------- printing


def _bar(quiet: bool) -> bool:
    """Whether to show progress: on a terminal only."""
    return not quiet and sys.stderr.isatty()


def _records(table: Any) -> list[dict[str, Any]]:
    """Rows of a table as JSON has them: no nan, no infinity."""
    rows = table.reset_index().to_dict("records")
    return [
        {k: None if isinstance(v, float) and not isfinite(v) else v for k, v in row.items()}
        for row in rows
    ]


def _print_frame(table: Any) -> None:
    """Print a DataFrame, with its index."""
    flat = table.reset_index()
    rows = [[_cell(value) for value in row] for row in flat.itertuples(index=False)]
    _print_table(list(map(str, flat.columns)), rows, beside=False)
    typer.echo("")


def _cell(value: Any) -> str:
    """A number with four digits, anything else as it is."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _print_account(found: AlignmentReport, told: list[str]) -> None:
    """The account as a table on a terminal, as plain lines in a pipe."""
    found = replace(found, notes=[*told, *found.notes])
    if not sys.stdout.isatty():
        typer.echo(str(found))
        return
    width = max(len(word) for word, _ in found.facts)
    for word, line in found.facts:
        typer.echo(f"{word:<{width}}  {line}")
    rows = [[name, formatted(c.rhat, ".3f"), formatted(c.ess, ".0f")] for name, c in found.table]
    _print_table(["", "max R-hat", "min ESS"], rows)
    for note in found.notes:
        typer.echo(f"note: {note}")


def _print_proposal(proposal: Proposal) -> None:
    if proposal.spec is not None:
        typer.echo("# proposed spec: check it, save it as TOML, and pass it with --spec")
    typer.echo(proposal.to_toml())


def _comment(line: str) -> None:
    """Print beside a spec: as a comment in a pipe, so that all that is printed is TOML."""
    typer.echo(line if sys.stdout.isatty() else f"# {line}".rstrip())


def _print_inputs(bound: Any, groups: Any) -> None:
    try:
        n_inputs = Network.of(bound).n_inputs
    except SpecError:
        return
    found = find_inputs(groups, n_inputs)
    which = ", ".join(found) or "none"
    named = "" if len(found) == 1 else "; name one with --inputs" if found else ""
    _comment(f"inputs: {which}{named}")


def _print_table(header: list[str], rows: list[list[str]], beside: bool = True) -> None:
    """A table with lines on a terminal, plain columns in a pipe: `beside` a spec as comments."""
    if sys.stdout.isatty():
        table = Table(*header)
        for row in rows:
            table.add_row(*map(Text, row))
        Console().print(table)
        return
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        line = "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip()
        (_comment if beside else typer.echo)(line)


def _axes_text(variable: Any) -> str:
    if variable.window is not None:
        return str(variable.text)
    text = " ".join(f"{axis.name or '_'}{_ARROWS[axis.role]}" for axis in variable.axes)
    return f"{text} (values: {variable.labels_of})" if variable.labels_of else text


_ARROWS = {"head": " (written)", "tail": " (read)", "neutral": ""}


def _class(exact: bool) -> str:
    return "exact" if exact else "likelihood only"
