"""Mixtures, hidden Markov, topic and factor models, recognised by names and values of variables."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import xarray as xr

from relabel.data.labels_in_draws import could_name, labels_of
from relabel.errors import RelabelError
from relabel.spec.arrays import SAMPLE_DIMS, core_dims, drawn_variables
from relabel.spec.spec import Spec

__all__ = ["Completed", "complete", "known_dims"]

#: Dimensions that hold exchangeable units, by their names.
_UNITS = r"(mixture_|latent_|hidden_)?(comp(onent)?|mixture|cluster|state|regime|topic|factor)s?"
_FACTORS = r"(latent_|common_)?factors?"

#: Variables that hold labels, by their names.
_LABELS = r"z|s|c|zs|.*(label|alloc|assign|cluster|component|state|path|regime|topic|class).*"

_TOLERANCE = 1e-3  # of a sum of probabilities


@dataclass(frozen=True)
class Completed:
    """A spec, the reasons for what was added to it, and what is in doubt about that."""

    spec: Spec
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


@dataclass
class _Found:
    lines: dict[str, str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


def known_dims(dims: Sequence[str]) -> list[str]:
    """Return the dimensions whose names say that they hold exchangeable units.

    Examples
    --------
    >>> known_dims(["item", "factor"])
    ['factor']
    """
    return [dim for dim in dims if re.fullmatch(_UNITS, dim.lower())]


def complete(spec: Spec, groups: Mapping[str, xr.Dataset], *, signs: bool) -> Completed:
    """Add to a dims-only spec what dimension names alone do not say.

    * A variable with two axes of the units (a transition matrix, a covariance of factors): the
      second has another name, since dimensions cannot repeat.
    * Variables that hold labels of the units.
    * Signs of factors, with what is only permuted (scales).

    Parameters
    ----------
    spec : Spec
        Units that are named like dimensions.
    groups : mapping of str to Dataset
        Groups that share the draws.
    signs : bool
        Whether factors may be proposed to change their sign.

    Returns
    -------
    Completed
    """
    sizes = {str(dim): n for ds in groups.values() for dim, n in ds.sizes.items()}
    found = _Found()
    for units in spec.units:
        for address, variable in _drawn(groups):
            _two_sided(found, address, variable, units, sizes[units])
    for address, variable in _drawn(groups):
        _labels(found, address, variable, {u: sizes[u] for u in spec.units})
    symmetries = dict(spec.units)
    if signs:
        for units in spec.units:
            if re.fullmatch(_FACTORS, units.lower()):
                symmetries[units] = _signs(found, groups, units)
    if not found.lines:
        whole = replace(spec, units=symmetries, values=found.values)
    else:
        lines = _lines_of(spec, _without(groups, found.lines)) | found.lines
        whole = replace(spec, units=symmetries, axes=lines, values=found.values)
    return Completed(whole, tuple(found.notes), tuple(found.doubts))


def _drawn(groups: Mapping[str, xr.Dataset]) -> Iterator[tuple[str, xr.DataArray]]:
    """Yield the name of every variable with draws in a spec, and the variable."""
    for (group, name), variable in drawn_variables(groups):
        if group != "sample_stats":
            yield (name if group == "posterior" else f"{group}/{name}"), variable


def _without(groups: Mapping[str, xr.Dataset], names: Collection[str]) -> dict[str, xr.Dataset]:
    """Return the groups without some variables, named as in a spec."""
    return {
        group: dataset.drop_vars(
            [
                name
                for name in dataset.data_vars
                if (name if group == "posterior" else f"{group}/{name}") in names
            ]
        )
        for group, dataset in groups.items()
    }


def _lines_of(spec: Spec, groups: Mapping[str, xr.Dataset]) -> dict[str, str]:
    """Return the axes of all variables that carry units by their dimensions."""
    try:
        axes = Spec(dict.fromkeys(spec.units, "permutation")).bind(groups).complete_spec().axes
    except RelabelError:
        return {}
    return {address.removeprefix("posterior/"): line for address, line in axes.items()}


def _two_sided(found: _Found, address: str, variable: xr.DataArray, units: str, size: int) -> None:
    """Find a second axis of the units, by its name or because rows are probabilities."""
    dims = core_dims(variable)
    stem = units.lower().rstrip("s")
    similar = [d for d in dims if variable.sizes[d] == size and stem in d.lower()]
    by_name = len(similar) == 2
    rest = [d for d in dims if d != units]
    square = units in dims and len(rest) == 1 and variable.sizes[rest[0]] == size > 1
    if not by_name and not (square and (_stochastic(variable) or _symmetric(variable))):
        return
    both = similar if by_name else [units, *rest]
    line = " ".join(units if dim in both else "_" for dim in dims)
    found.lines[address] = line
    sentence = f"{address!r} has two axes of {units!r}, {' and '.join(both)}: {line!r}"
    if by_name:
        found.notes.append(sentence)
    else:
        found.doubts.append(
            f"{sentence}; that is taken from its size and its values, not from the name {rest[0]!r}"
        )


def _stochastic(variable: xr.DataArray) -> bool:
    """Whether rows or columns of the first draw add up to one."""
    first = variable.isel(dict.fromkeys(SAMPLE_DIMS, 0)).values
    if first.dtype.kind != "f" or (first < 0).any():
        return False
    return any(bool((np.abs(first.sum(axis=axis) - 1) < _TOLERANCE).all()) for axis in (0, 1))


def _symmetric(variable: xr.DataArray) -> bool:
    """Whether the first draw is a symmetric matrix, such as a covariance."""
    first = variable.isel(dict.fromkeys(SAMPLE_DIMS, 0)).values
    return first.dtype.kind == "f" and bool((first == first.T).all()) and bool(first.any())


def _labels(found: _Found, address: str, variable: xr.DataArray, sizes: Mapping[str, int]) -> None:
    """Add a variable to the values if it holds labels of units; a doubt if it may hold them."""
    kind = variable.dtype.kind
    if kind not in "iuf" or set(core_dims(variable)) & set(sizes) or not core_dims(variable):
        return
    group, _, name = address.rpartition("/")
    named = bool(re.fullmatch(_LABELS, name.lower())) or group == "allocation"
    exact = [units for units, size in sizes.items() if could_name(variable, size)]
    if not exact and not (named and kind in "iu"):
        return
    labels = labels_of(variable)
    if labels.lowest is None or labels.highest is None:
        return
    fitting = exact or [u for u, n in sizes.items() if 0 <= labels.lowest <= labels.highest < n]
    if not fitting:
        return
    one = fitting[0]
    if len(fitting) > 1 or not named:
        found.doubts.append(
            f"{address!r} holds integers that could be labels of the units "
            f"{' or '.join(map(repr, fitting))}: if they do, add it to values, as in "
            f"values = {{{address!r}: {one!r}}}"
        )
    elif labels.highest >= sizes[one]:
        found.doubts.append(
            f"{address!r} holds labels from {labels.lowest} to {labels.highest} of the "
            f"{sizes[one]} units {one!r}: they look 1-based; subtract one, and add it to values"
        )
    else:
        found.values[address] = one
        found.notes.append(f"the values of {address!r} are labels of {one!r}, by its name")


def _signs(found: _Found, groups: Mapping[str, xr.Dataset], units: str) -> str:
    """Return the symmetry of factors: signed, if a variable that carries them has both signs."""
    carriers = {a: v for a, v in _drawn(groups) if units in core_dims(v)}
    fixed = [a for a, v in carriers.items() if not (bool((v < 0).any()) and bool((v > 0).any()))]
    if len(fixed) == len(carriers) or any(v.dtype.kind != "f" for v in carriers.values()):
        return "permutation"
    for address in fixed:
        if address not in found.lines:
            dims = core_dims(carriers[address])
            found.lines[address] = " ".join(f"{units}^0" if d == units else "_" for d in dims)
            found.notes.append(f"{address!r} has one sign and is only permuted ({units}^0)")
    found.notes.append(
        f"the units {units!r} are those of a factor model, and may change their sign; where priors "
        "or constraints fix the signs, say 'permutation'; where neither keeps them from rotating, "
        "say 'orthogonal' (criterion rsp or procrustes)"
    )
    for address, variable in carriers.items():
        if len(core_dims(variable)) > 1 and bool((variable == 0).all(SAMPLE_DIMS).any()):
            found.doubts.append(
                f"entries of {address!r} are zero in all draws: if loadings are constrained, "
                f"the entries of {units!r} may not be exchangeable"
            )
    return "signed"
