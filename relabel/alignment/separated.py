"""What tells the slots apart, as variables of the group ``relabel``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import numpy as np
import xarray as xr

from relabel.alignment.evidence import Evidence
from relabel.matching.separations import Separation, separation_of

__all__ = ["sentence", "separation_variables", "separations_in"]


def separation_variables(evidence: Evidence) -> dict[str, xr.Variable]:
    """Return ``{units}_separation`` and ``{units}_rival`` of every set of units."""
    reference, task = evidence.fitted()
    found: dict[str, xr.Variable] = {}
    for units in task.layout.sizes:
        separation = separation_of(reference, task.layout, units)
        found[f"{units}_separation"] = xr.Variable(
            (units, f"{units}_variable"),
            separation.log_odds,
            {
                "long_name": "log odds by which a slot is told from its rival, by variable",
                "variables": json.dumps(separation.variables),
            },
        )
        about = "slot that each is hardest to tell from; itself where that is its other sign"
        rival = separation.rival.astype(np.int64)
        found[f"{units}_rival"] = xr.Variable((units,), rival, {"long_name": about})
    return found


def separations_in(own: xr.Dataset, names: Iterable[str]) -> dict[str, Separation]:
    """Read what tells the slots apart from the group ``relabel``; sets without it are left out."""
    return {
        units: Separation(
            tuple(json.loads(own[f"{units}_separation"].attrs["variables"])),
            own[f"{units}_separation"].transpose(units, ...).values,
            own[f"{units}_rival"].values,
        )
        for units in names
        if f"{units}_separation" in own
    }


def sentence(separation: Separation) -> str:
    """Say which slot is hardest to tell from another, and what tells it.

    Examples
    --------
    >>> import numpy as np
    >>> from relabel.matching.separations import Separation
    >>> log_odds = np.array([[4.0, 0.5], [9.0, 0.0]])
    >>> sentence(Separation(("mu", "w"), log_odds, np.array([1, 0])))
    'least log odds 4.5 (slots 0 and 1): mu 4, w 0.5'
    """
    total = separation.log_odds.sum(axis=1)
    worst = int(total.argmin())
    rival = int(separation.rival[worst])
    where = f"slot {worst} and its other sign" if rival == worst else f"slots {worst} and {rival}"
    brought: Mapping[str, float] = dict(
        zip(separation.variables, separation.log_odds[worst].tolist(), strict=True)
    )
    ordered = sorted(brought.items(), key=lambda entry: -entry[1])
    by = ", ".join(f"{name} {nats:.3g}" for name, nats in ordered)
    return f"least log odds {total[worst]:.3g} ({where}): {by}"
