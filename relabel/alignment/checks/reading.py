"""Whether something reads the units of a network: a spec is completed, or refused.

Dimension names are a whole spec only if all arrays of the network have them. Where the outgoing
weights have another name (a second plate, a default name), incoming weights would move alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import xarray as xr

from relabel.alignment.checks.behind import left_over, unnamed_axes
from relabel.data.containers import DrawsLike
from relabel.errors import RelabelError, SpecError
from relabel.groups import activation_of
from relabel.matching.draws import Draws
from relabel.proposals.proposal import propose
from relabel.spec.arrays import core_dims, drawn_variables
from relabel.spec.leftovers import Leftover, is_default, named_as_bias
from relabel.spec.lines import has_effect
from relabel.spec.notation import Axis, parse, terms_of
from relabel.spec.spec import ResolvedVariable, Spec

__all__ = ["completed", "refuse_unread"]


def refuse_unread(draws: Draws) -> None:
    """Raise SpecError if a network's units are written, and what reads them seems to stay behind.

    Arrows say what reads; `Spec.bind` refuses signs and scales without a reader there. Without
    arrows, units are read by a matrix that has them on the other side than another one has, or by
    a vector that is no bias.
    """
    for units, symmetry in draws.resolved.spec.units.items():
        if activation_of(symmetry).function is None:
            continue
        own = [v for v in draws.resolved.measured() if _carries(v, units)]
        if any(v.carried or v.has_side(units, "tail") for v in own):
            continue
        size = draws.resolved.sizes[units]
        found = [left for left in left_over(draws, size) if left.address[0] == "posterior"]
        behind = [left for left in found if not left.other]
        named = {v.name for v in own}
        others = [left for left in unnamed_axes(draws, size) if left.name not in named]
        if _seems_unread(own, behind, others, units, symmetry):
            raise SpecError(_unread(units, symmetry, own, [*others, *behind]))


def completed(
    data: DrawsLike, groups: Mapping[str, xr.Dataset], spec: Spec
) -> tuple[Spec, list[str]] | None:
    """Name the axes of a network whose dimension names do not name them all.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset
    groups : mapping of str to Dataset
        Groups that share the draws.
    spec : Spec
        Of activations and names of dimensions.

    Returns
    -------
    (Spec, list of str) or None
        The spec with its axes, and what was taken to read which units; None unless names and
        shapes are certain and agree with the dimensions that are named.
    """
    dims = {str(dim) for dataset in groups.values() for dim in dataset.dims}
    network = all(activation_of(symmetry).function for symmetry in spec.units.values())
    if spec.axes or not network or not set(spec.units) <= dims:
        return None
    try:
        proposal = propose(data, units=spec.units)
    except RelabelError:
        return None
    found = proposal.spec
    if found is None or not proposal.certain or not found.axes:
        return None
    if not _agrees(found, groups, spec.units):
        return None
    whole = replace(
        found,
        values={**found.values, **spec.values},
        gauges=spec.gauges,
        sizes=spec.sizes,
        supports=spec.supports,
    )
    return whole, _said(whole, groups)


def _carries(variable: ResolvedVariable, units: str) -> bool:
    """Whether an array follows units as weights do."""
    return any(axis.units == units and axis.follows_as_weights for axis in variable.axes)


def _seems_unread(
    own: Sequence[ResolvedVariable],
    behind: Sequence[Leftover],
    others: Sequence[Leftover],
    units: str,
    symmetry: str,
) -> bool:
    """Whether nothing that carries the units seems to read them.

    `behind` are variables that carry no units; `others` carry other units, and may read these.
    """
    if any(v.has_side(units, "head") for v in own):
        return bool(behind) and all(v.has_side(units, "head") for v in own)
    matrices = [v for v in own if len(v.axes) > 1]
    vectors = [v for v in own if len(v.axes) == 1]
    if len({v.axes[-1].units == units for v in matrices}) != 1:
        return False
    if any(not named_as_bias(v.name) for v in vectors):
        return len(vectors) == 1 and any(len(left.shape) > 1 for left in behind)
    alone = len(matrices) == 1 and has_effect(symmetry, "neutral")
    return bool(behind) or bool(others) or alone


def _unread(
    units: str, symmetry: str, own: Sequence[ResolvedVariable], behind: Sequence[Leftover]
) -> str:
    """Say that nothing reads the units, and what to write."""
    lines = {v.name: _written_line(v, units) for v in own}
    written = {dim for left in behind for i, dim in enumerate(left.dims) if i != left.places[0]}
    lines |= {
        left.name: f"-> {left.dims[0]}" if left.dims[0] in written else left.network_line(units)
        for left in behind
    }
    what = f"units {units!r} ({symmetry}) are written, but nothing reads them"
    if not behind:
        return (
            f"{what}, so that flips would change the network: save the outgoing weights with the "
            f"draws and declare them ('{units} -> y'), or use 'permutation'"
        )
    return (
        f"{what}: {', '.join(map(str, behind))} would stay behind and the network compute "
        f"something else. Name the axes of all variables, as in axes={lines}, with '...' for what "
        "carries no units"
    )


def _written_line(variable: ResolvedVariable, units: str) -> str:
    """Write the axes of an array that writes units."""
    if any(axis.role != "neutral" for axis in variable.axes) and variable.text:
        return variable.text
    if len(variable.axes) == 1:
        return f"-> {units}"
    rest = " ".join(
        _name(variable.dims[axis.place], "x") for axis in variable.axes if axis.units != units
    )
    return f"{rest} -> {units}" if variable.axes[-1].units == units else f"{units} <- {rest}"


def _name(dim: str, instead: str) -> str:
    return instead if is_default(dim) else dim


def _agrees(found: Spec, groups: Mapping[str, xr.Dataset], units: Mapping[str, str]) -> bool:
    """Whether every dimension that is named like units carries them in a proposed spec."""
    for (group, name), variable in drawn_variables(groups):
        dims = core_dims(variable)
        if not set(dims) & set(units):
            continue
        if group != "posterior" or name not in found.axes:
            return False
        axes = parse(found.axes[name]).stored
        if len(axes) != len(dims):
            return False
        for dim, stored in zip(dims, axes, strict=True):
            named = [axis.name for term in terms_of(stored) for axis in term]
            if dim in units and named != [dim]:
                return False
    return True


def _said(spec: Spec, groups: Mapping[str, xr.Dataset]) -> list[str]:
    """Say which arrays were taken to carry units that their dimensions do not name."""
    return [
        f"{_taken(name, axis, place, line)}: its dimensions do not say so, names and shapes do"
        for name, line in spec.axes.items()
        for place, stored in enumerate(parse(line).stored)
        for term in terms_of(stored)
        for axis in term
        if axis.name in spec.units and axis.name != core_dims(groups["posterior"][name])[place]
    ]


def _taken(name: str, axis: Axis, place: int, line: str) -> str:
    """Say what an array was taken to do with units on one axis."""
    does = {"tail": "read", "head": "write"}.get(axis.role, "carry")
    return f"{name!r} was taken to {does} {axis.name!r} (its axis {place + 1}: {name} = {line!r})"
