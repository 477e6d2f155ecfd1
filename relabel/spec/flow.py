"""What is written to units and read from them: checks, and the biases that affine flips move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import xarray as xr

from relabel.errors import DataError, SpecError
from relabel.groups import group_of
from relabel.spec.arrays import variable_text
from relabel.spec.lines import has_effect
from relabel.spec.variables import ResolvedVariable, Shift

__all__ = ["check_two_sides", "shifts_of"]


def check_two_sides(
    units: str, symmetries: Mapping[str, str], variables: Sequence[ResolvedVariable]
) -> None:
    """Raise SpecError if nothing makes up for changes of sign or scale of some units.

    Parameters
    ----------
    units : str
    symmetries : mapping of str to str
        Table of all sets of units.
    variables : sequence of ResolvedVariable
    """
    symmetry = symmetries[units]
    heads = [v for v in variables if v.has_side(units, "head")]
    tails = [v for v in variables if v.has_side(units, "tail")]
    if not (heads or tails) or not has_effect(symmetry, "head"):
        return
    what = f"units {units!r} ({symmetry})"
    if not heads:
        raise SpecError(
            f"{what} are read but nothing writes them: declare the incoming weights and "
            f"biases, as in 'x -> {units}' and '-> {units}'"
        )
    if not tails and has_effect(symmetry, "tail"):
        raise SpecError(
            f"{what} are written but nothing reads them, so that flips or scales would "
            f"change the model: declare the outgoing weights, as in '{units} -> y', or use "
            "'permutation'"
        )
    fed = [v for v in variables if v.between()[0] and not v.carried]
    if not any(axis.units == units and axis.role == "head" for v in fed for axis in v.axes):
        named = ", ".join(dict.fromkeys(v.name for v in heads))
        raise SpecError(
            f"only biases ({named}) write the units {units!r}: is an arrow the wrong way "
            f"round? Incoming weights are 'x -> {units}', or '{units} <- x' if stored (out, in)"
        )


def shifts_of(
    symmetries: Mapping[str, str],
    variables: Sequence[ResolvedVariable],
    groups: Mapping[str, xr.Dataset],
    *,
    whole: bool = True,
) -> tuple[Shift, ...]:
    """Find the bias that each affine flip moves: the one with the head of the reader.

    Unless all variables are there (`whole`), it may be absent, and is not moved.

    Raises
    ------
    SpecError
        If there is not exactly one, or if a flip would change something that is not in the draws.
    DataError
        If the bias holds integers.
    """
    shifts = []
    for reader in variables:
        for units, symmetry in symmetries.items():
            if not group_of(symmetry).shifts:
                continue
            if not reader.has_side(units, "tail"):
                _check_no_covariance(units, symmetry, reader)
                continue
            if reader.has_side(units, "head"):
                raise SpecError(
                    f"{reader.name!r} carries the units {units!r} ({symmetry}) on "
                    "both sides: a flip would change their initial state, which is not in the "
                    "draws; use 'permutation'"
                )
            _check_not_normed(units, symmetries, reader)
            if not whole and not any(_is_bias(v, reader) for v in variables):
                continue
            bias = _bias_of(units, symmetry, reader, variables)
            if groups[bias.group][bias.name].dtype.kind != "f":
                raise DataError(
                    f"{variable_text((bias.group, bias.name))} is moved by the flips of "
                    f"{units!r} and cannot stay an integer; convert it to float64"
                )
            shifts.append(Shift(units, reader, bias))
    return tuple(shifts)


def _bias_of(
    units: str, symmetry: str, reader: ResolvedVariable, variables: Sequence[ResolvedVariable]
) -> ResolvedVariable:
    """Return the only bias that is written to the axes that a reader writes to."""
    biases = [v for v in variables if _is_bias(v, reader)]
    if len(biases) > 1:
        biases = [v for v in biases if _written_windows(v) == _written_windows(reader)]
    if len(biases) != 1:
        found = ", ".join(v.name for v in biases) or "none"
        line = f"-> {' '.join(map(str, reader.between()[1]))}".strip()
        raise SpecError(
            f"units {units!r} ({symmetry}): a flip moves the bias that goes with {reader.name!r}, "
            f"{line!r}; there must be exactly one, found {found}. Declare it in axes, or use "
            "'permutation'"
        )
    return biases[0]


def _is_bias(variable: ResolvedVariable, reader: ResolvedVariable) -> bool:
    """Whether a variable is written to the axes that a reader writes to, and has no others."""
    head = _head(reader)
    return (
        variable.labels_of is None
        and variable.group == reader.group
        and _head(variable) == head
        and len(variable.axes) == len(head)
    )


def _head(variable: ResolvedVariable) -> list[tuple[str | None, int, bool]]:
    """Axes at the head of the arrow; a companion (``h^2``) is another axis than a weight."""
    return [(a.name, a.exponent, a.absolute) for a in variable.axes if a.role == "head"]


def _written_windows(variable: ResolvedVariable) -> list[tuple[int, int]]:
    """Where a part lies on the stored axes that are written; empty for a whole variable."""
    if variable.window is None:
        return []
    return [variable.window[axis.place] for axis in variable.axes if axis.role == "head"]


def _check_not_normed(units: str, symmetries: Mapping[str, str], reader: ResolvedVariable) -> None:
    """Raise SpecError if a BatchNorm follows: its running mean would shift the other way."""
    for axis in reader.axes:
        if axis.units and axis.role == "head" and not group_of(symmetries[axis.units]).biases_count:
            raise SpecError(
                f"{variable_text((reader.group, reader.name))} is read from {units!r} "
                f"({symmetries[units]}) and written to {axis.units!r}, which a BatchNorm "
                "follows: it is not known whether a flip moves a bias or a running mean; "
                f"declare {units!r} 'permutation'"
            )


def _check_no_covariance(units: str, symmetry: str, variable: ResolvedVariable) -> None:
    """Raise SpecError for covariances of parameters that a flip adds to one another."""
    if variable.carried and any(axis.units == units for axis in variable.axes):
        raise SpecError(
            f"{variable_text((variable.group, variable.name))} is carried along with the units "
            f"{units!r} ({symmetry}), a flip of which adds weights to biases: what "
            "relates these cannot follow; use 'permutation', or leave it alone ('...')"
        )
