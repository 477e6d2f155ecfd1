"""What stayed as it is, though it may belong to the units: axes of their size, labels of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from relabel._util.text import join
from relabel.alignment.checks.values import Shared
from relabel.data.labels_in_draws import could_name, labels_of
from relabel.groups import activation_of
from relabel.matching.draws import Draws
from relabel.spec.leftovers import Leftover, is_default, leftovers, other_dims
from relabel.spec.spec import ResolvedSpec

__all__ = ["left_behind", "left_over", "taken_dims", "unnamed_axes"]

_NAMED = 8  # variables that a sentence names


def left_behind(draws: Draws, shared: Sequence[Shared]) -> list[str]:
    """Return warnings about variables that no spec names and that may belong to its units.

    They are labels; whatever has an axis as long as there are units, one sentence for all sets of
    that size; values that belong to the units together; and units that are named by a dimension
    of one variable. What the spec names is never among them, also where it says (``...``) that it
    carries no units.
    """
    labels = list(_labels(draws))
    skip = {name for name, _ in labels} | {one.name for one in shared}
    return [
        *(sentence for _, sentence in labels),
        *_of_their_size(draws, skip),
        *_second_axes(draws),
        *(_shared(one) for one in shared if not one.declared),
        *_default_names(draws),
        *_labels_from_one(draws),
    ]


def taken_dims(draws: Draws) -> set[str]:
    """Return the dimensions that mean something else than units."""
    carried = {
        (v.group, v.name): [
            dim
            for place, dim in enumerate(v.dims)
            if not any(axis.units for axis in v.axes if axis.place == place)
        ]
        for v in draws.resolved.variables
        if v.unit_axes()
    }
    return other_dims(draws.beside, carried)


def left_over(draws: Draws, size: int) -> list[Leftover]:
    """Return the variables that the spec does not name, with an axis of one size."""
    taken = {(v.group, v.name) for v in draws.resolved.variables}
    return leftovers(draws.groups, taken, size, taken_dims(draws))


def _of_their_size(draws: Draws, skip: set[str]) -> Iterator[str]:
    """Name what has an axis as long as there are units: a sentence for each size."""
    sets: dict[int, list[str]] = {}
    for name, size in draws.resolved.sizes.items():
        sets.setdefault(size, []).append(name)
    for size, units in sets.items():
        found = [left for left in left_over(draws, size) if left.name not in skip]
        if found:
            yield _sentence(draws.resolved, units, size, found)


def unnamed_axes(draws: Draws, size: int) -> Iterator[Leftover]:
    """Yield the variables known by their dimensions that carry units, with another such axis.

    The dimension of that axis is theirs alone, and none of the data.
    """
    spec = draws.resolved.spec
    dims = [str(d) for ds in draws.groups.values() for v in ds.data_vars.values() for d in v.dims]
    data = other_dims(draws.beside, {})
    for v in draws.resolved.measured() if size > 1 else ():
        if v.name in spec.axes or v.address in spec.axes or not v.unit_axes():
            continue
        places = tuple(axis.place for axis in v.axes if not axis.units and axis.size == size)
        alone = [i for i in places if dims.count(v.dims[i]) == 1 and v.dims[i] not in data]
        if alone:
            yield Leftover((v.group, v.name), v.dims, v.shape, tuple(alone), other=False)


def _second_axes(draws: Draws) -> Iterator[str]:
    """Ask about further axes of the units' size in variables that are known by their dimensions."""
    for units, size in draws.resolved.sizes.items():
        found = [left for left in unnamed_axes(draws, size) if _in_doubt(draws, left.name, units)]
        if found:
            what = join((_with_dims(left) for left in found), most=_NAMED)
            yield (
                f"{what}: another axis as long as there are units {units!r} ({size}) was left as "
                "it was: as long by chance, or of these units (as in a transition matrix, or in "
                f"the weights of the next layer)? Name the axes of all variables, with {units!r} "
                "or '_' for that axis"
            )


def _in_doubt(draws: Draws, name: str, units: str) -> bool:
    """Whether a further axis of a variable may be of some units.

    Of a network only where it has more matrices than one that writes the units and one that reads
    them, or none that reads.
    """
    resolved = draws.resolved
    own = [v for v in resolved.measured() if any(axis.units == units for axis in v.axes)]
    carries = name in {v.name for v in own}
    if activation_of(resolved.spec.units[units]).function is None:
        return carries
    matrices = [v for v in own if len(v.axes) > 1]
    sides = {v.axes[-1].units == units for v in matrices}
    return len(matrices) > 2 if carries else len(sides) < 2


def _sentence(
    resolved: ResolvedSpec, units: Sequence[str], size: int, found: Sequence[Leftover]
) -> str:
    """Say what was left as it is, why that matters, and what to do."""
    sure = [left for left in found if not left.other]
    unsure = [left for left in found if left.other]
    of = f"units {join(map(repr, units), most=4)} ({size})"
    network = any(_is_network(resolved, name) for name in units)
    harm = (
        "if they are of the same network, its function has changed"
        if network
        else "if they are of these units, units no longer have the same place in all variables"
    )
    asked = join((_with_dims(left) for left in unsure), most=_NAMED)
    question = f"{asked}: as long by chance, or of these units?" if unsure else ""
    if not sure:
        return (
            f"left as they were, since their dimensions seem to be of something else than {of}: "
            f"{question} Name them in axes, with '...' if they carry no units"
        )
    square = [left.name for left in sure if len(left.places) > 1]
    both = f"; '{units[0]} {units[0]}' where both axes are theirs" if square else ""
    preset = " (of a preset: its number of layers or blocks, its norms)" if network else ""
    first = sure[0]
    line = first.network_line(units[0]) if network else first.line(units[0])
    was, has = ("it was", "it has") if len(sure) == 1 else ("they were", "they have")
    return (
        f"{join(sure, most=_NAMED)}: left as {was}, though {has} an axis as long as there are "
        f"{of}; {harm}: name them in axes{preset}, as in {first.name} = {line!r}{both}, or with "
        "'...' if they carry no units" + (f". Also {question}" if question else "")
    )


def _with_dims(left: Leftover) -> str:
    """Name a variable and the dimensions that are as long as there are units."""
    dims = ", ".join(dict.fromkeys(left.dims[i] for i in left.places))
    return f"{left.name!r} (dimension {dims})"


def _is_network(resolved: ResolvedSpec, units: str) -> bool:
    """Whether units are those of a network: by an activation, or by arrows."""
    return activation_of(resolved.spec.units[units]).function is not None or any(
        axis.units == units and axis.role != "neutral"
        for variable in resolved.measured()
        for axis in variable.axes
    )


def _shared(one: Shared) -> str:
    """Say that values of all units together were left as they are."""
    return (
        f"{one.name!r} {one.reason}: such values belong to the units {one.units!r} in their order, "
        f"not to single units, and were left as they were, so that they no longer go with what "
        f"moved: {one.remedy}"
    )


def _default_names(draws: Draws) -> Iterator[str]:
    """Warn of units that are named by the default name of a dimension of one variable."""
    resolved = draws.resolved
    for units in resolved.sizes if not resolved.spec.axes else ():
        own = {v.address: v.name for v in resolved.variables if units in v.dims}
        if is_default(units) and len(own) == 1:
            (name,) = own.values()
            yield (
                f"{units!r} is the default name of a dimension of {name!r}, so that {name!r} alone "
                "was relabelled: if other variables are of these units, name the axes of all"
            )


def _labels(draws: Draws) -> Iterator[tuple[str, str]]:
    """Find integers that could name units, but are not declared as labels."""
    declared = {(v.group, v.name) for v in draws.resolved.variables}
    for group, dataset in draws.groups.items():
        for name, variable in dataset.data_vars.items():
            if (group, name) not in declared and group != "sample_stats":
                for units, size in draws.resolved.sizes.items():
                    if could_name(variable, size):
                        where = str(name) if group == "posterior" else f"{group}/{name}"
                        yield (
                            where,
                            (
                                f"{where!r} holds integers that could name the {size} units "
                                f"{units!r}, and was left as it is: if they do, add it to values, "
                                f"as in values={{{where!r}: {units!r}}}"
                            ),
                        )


def _labels_from_one(draws: Draws) -> list[str]:
    """Warn of labels that are never 0, though all of them name units."""
    found = []
    for variable in draws.resolved.variables:
        if variable.labels_of is None:
            continue
        labels = labels_of(draws.groups[variable.group][variable.name])
        if labels.lowest is not None and labels.lowest > 0:
            n_units = draws.resolved.sizes[variable.labels_of]
            found.append(
                f"{variable.address} holds labels from {labels.lowest} to {labels.highest}, never "
                f"0, of {n_units} units {variable.labels_of!r}: if they count from one, subtract "
                "one (labels - 1) and align again"
            )
    return found
