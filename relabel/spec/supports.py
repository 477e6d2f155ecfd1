"""Supports: between which bounds every value of a variable lies.

Scales and probabilities have skewed posteriors near their bounds; their logarithms and logits are
far closer to normal. A spec says which variables are such (table ``supports``), and criteria that
compare normals ask for it (:mod:`relabel.matching.features.unconstrained`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import xarray as xr

from relabel.errors import SpecError
from relabel.spec.arrays import closest
from relabel.spec.gauges import centred_axis
from relabel.spec.lines import located
from relabel.spec.variables import ResolvedVariable

__all__ = ["POSITIVE", "UNIT_INTERVAL", "check_support", "with_supports"]

#: Every value is positive: standard deviations, variances, precisions, rates.
POSITIVE = "positive"

#: Every value is between 0 and 1: probabilities, alone or on a simplex.
UNIT_INTERVAL = "unit_interval"

_KNOWN = (POSITIVE, UNIT_INTERVAL)


def check_support(variable: str, support: str) -> None:
    """Raise SpecError unless the support is known."""
    if support not in _KNOWN:
        raise SpecError(
            f"spec: supports: {variable!r} must be {' or '.join(map(repr, _KNOWN))}, not "
            f"{support!r}{closest(support, _KNOWN)}"
        )


def with_supports(
    variables: Sequence[ResolvedVariable],
    supports: Mapping[str, str],
    gauges: Mapping[str, str],
    groups: Mapping[str, xr.Dataset],
) -> tuple[ResolvedVariable, ...]:
    """Return resolved variables with the supports that a spec declares.

    Parameters
    ----------
    variables : sequence of ResolvedVariable
    supports, gauges : mapping
        Tables of the spec.
    groups : mapping of str to Dataset
        Groups that share the draws.

    Raises
    ------
    SpecError
        If there is no such variable, if it carries no units or holds labels, or if its values are
        flipped, scaled, rotated or centred, which leads out of any bounds.
    """
    found = {}
    for key, support in supports.items():
        places = located(groups, key)
        carriers = [v for v in variables if (v.group, v.name) in places and v.labels_of is None]
        if not carriers:
            raise SpecError(
                f"spec: supports: {key!r} carries no units; take it out of supports, or declare "
                "its axes"
            )
        for variable in carriers:
            _check_unmoved(key, support, variable, gauges)
            found[variable.address] = support
    return tuple(
        replace(v, support=found[v.address]) if v.address in found else v for v in variables
    )


def _check_unmoved(
    key: str, support: str, variable: ResolvedVariable, gauges: Mapping[str, str]
) -> None:
    """Raise SpecError if a group or a gauge changes values of the variable."""
    for _, units, action in variable.unit_axes():
        if action.signed or action.power:
            raise SpecError(
                f"spec: supports: {key!r} is declared {support}, but the units {units!r} may "
                "change the sign or the scale of its values; take it out of supports, or write "
                f"'{units}^0' in its axes if it is only permuted"
            )
    axis = centred_axis(variable, gauges)
    if axis is not None:
        raise SpecError(
            f"spec: supports: {key!r} is declared {support}, but the gauge 'centred' of "
            f"{variable.axes[axis].name!r} subtracts means from it; take one of them out"
        )
