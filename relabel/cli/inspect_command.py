"""``relabel inspect``: the variables of a file, and a spec for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from relabel.cli.options import SourceOptions, SpecFile
from relabel.cli.output import print_comment, print_table
from relabel.errors import SpecError

if TYPE_CHECKING:
    from relabel.spec.spec import Bound

__all__ = ["command"]


def command(source: SourceOptions, spec: SpecFile = None) -> None:
    """Show the variables of FILE and a spec for them: the given one, or a proposal."""
    from relabel.alignment.provenance import stored_elements
    from relabel.data.containers import sharing, unpack
    from relabel.io.spec_files import read_spec
    from relabel.proposals.proposal import propose

    draws = source.open()
    groups = unpack(draws)
    shared = sharing(groups)
    bound = read_spec(spec)[0].bind(shared) if spec else None
    _print_variables(shared, bound)
    if bound is None and "relabel" in groups:
        bound = stored_elements(groups, "")[0].bind(shared)
        print_comment("these draws were aligned before, with this spec")
        typer.echo(bound.spec.to_toml())
    elif bound is None:
        proposal = propose(draws)
        if proposal.spec is not None:
            typer.echo("# proposed spec: check it, save it as TOML, and pass it with --spec")
            bound = proposal.spec.bind(shared)
        typer.echo(proposal.to_toml())
    if bound is not None:
        _print_units(bound)
        _print_inputs(bound, groups)


def _print_variables(shared: Mapping[str, Any], bound: Bound | None) -> None:
    """Print names, sizes and dtypes, and the axes where there is a spec."""
    axes = {v.address: _axes_text(v) for v in bound.variables} if bound else {}
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


def _print_units(bound: Bound) -> None:
    """Print every set of units with its symmetry."""
    rows = []
    for name, activation in bound.spec.units.items():
        group = bound.group(name)
        kept = "exact" if group.exact else "likelihood only"
        rows.append([name, str(bound.sizes[name]), activation, group.label, kept])
    print_table(["units", "size", "activation", "group", "symmetry"], rows, beside_spec=True)


def _print_inputs(bound: Bound, groups: Mapping[str, Any]) -> None:
    """Say which stored variables could be the inputs of a network."""
    from relabel.data.roles import find_inputs
    from relabel.models.forward_pass import Network

    try:
        n_inputs = Network.of(bound).n_inputs
    except SpecError:
        return
    found = find_inputs(groups, n_inputs)
    hint = "; name one with --inputs" if len(found) > 1 else ""
    print_comment(f"inputs: {', '.join(found) or 'none'}{hint}")
