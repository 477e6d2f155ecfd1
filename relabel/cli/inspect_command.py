"""``relabel inspect``: the variables of a file, and a spec for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from relabel.cli.options import SourceOptions, SpecFile
from relabel.cli.output import print_comment, print_table
from relabel.errors import SpecError

if TYPE_CHECKING:
    from relabel.spec.spec import ResolvedSpec

__all__ = ["command"]


def command(source: SourceOptions, spec: SpecFile = None) -> None:
    """Show the variables of FILE and a spec for them: the given one, or a proposal."""
    from relabel.alignment.provenance import stored_elements
    from relabel.data.containers import unpack
    from relabel.data.participants import sharing
    from relabel.io.spec_files import read_spec
    from relabel.proposals.proposal import propose

    draws = source.open()
    groups = unpack(draws)
    shared = sharing(groups)
    resolved = read_spec(spec)[0].bind(shared) if spec else None
    _print_variables(shared, resolved)
    if resolved is None and "relabel" in groups:
        resolved = stored_elements(groups, "")[0].bind(shared)
        print_comment("these draws were aligned before, with this spec")
        typer.echo(resolved.spec.to_toml())
    elif resolved is None:
        proposal = propose(draws)
        if proposal.spec is not None:
            typer.echo("# proposed spec: check it, save it as TOML, and pass it with --spec")
            resolved = proposal.spec.bind(shared)
        typer.echo(proposal.to_toml())
    if resolved is not None:
        _print_units(resolved)
        _print_inputs(resolved, groups)


def _print_variables(shared: Mapping[str, Any], resolved: ResolvedSpec | None) -> None:
    """Print names, sizes and dtypes, and the axes where there is a spec."""
    axes = {v.address: _axes_text(v) for v in resolved.variables} if resolved else {}
    rows = [
        [
            f"{group}/{name}",
            " ".join(f"{dim}={size}" for dim, size in variable.sizes.items()),
            str(variable.dtype),
            axes.get(f"{group}/{name}", ""),
        ]
        for group, dataset in shared.items()
        for name, variable in dataset.data_vars.items()
    ]
    print_table(["variable", "sizes", "dtype", "axes"], rows, beside_spec=True)


def _axes_text(variable: Any) -> str:
    """Write the axes of a variable, each with what the arrow says of it."""
    if variable.window is not None:
        return str(variable.text)
    roles = {"head": " (written)", "tail": " (read)", "neutral": ""}
    text = " ".join(f"{axis.name or '_'}{roles[axis.role]}" for axis in variable.axes)
    return f"{text} (values: {variable.labels_of})" if variable.labels_of else text


def _print_units(resolved: ResolvedSpec) -> None:
    """Print every set of units with its symmetry."""
    rows = []
    for name, activation in resolved.spec.units.items():
        group = resolved.group(name)
        kept = "exact" if group.exact else "likelihood only"
        rows.append([name, str(resolved.sizes[name]), activation, group.label, kept])
    print_table(["units", "size", "activation", "group", "symmetry"], rows, beside_spec=True)


def _print_inputs(resolved: ResolvedSpec, groups: Mapping[str, Any]) -> None:
    """Say which stored variables could be the inputs of a network."""
    from relabel.data.roles import find_inputs
    from relabel.models.forward_pass import Network

    try:
        n_inputs = Network.of(resolved).n_inputs
    except SpecError:
        return
    found = find_inputs(groups, n_inputs)
    hint = "; name one with --inputs" if len(found) > 1 else ""
    print_comment(f"inputs: {', '.join(found) or 'none'}{hint}")
