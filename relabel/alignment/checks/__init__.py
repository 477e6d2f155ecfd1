"""Signs that a spec does not fit the draws: a declaration is refused, or the user is warned.

A spec and draws come in. `reading` completes a spec of dimension names that leaves out what reads
its units, or refuses it; `suspicions` returns sentences for the record, never acted upon.
"""

from __future__ import annotations

from collections.abc import Mapping

from relabel.alignment.checks.behind import left_behind
from relabel.alignment.checks.networks import about_networks
from relabel.alignment.checks.reading import completed, refuse_unread
from relabel.alignment.checks.values import (
    about_values,
    refuse_flips,
    refuse_flips_of_parts,
    values_of_sets,
)
from relabel.groups.elements import Element
from relabel.matching.draws import Draws

__all__ = ["completed", "refuse_flips", "refuse_flips_of_parts", "refuse_unread", "suspicions"]


def suspicions(draws: Draws, elements: Mapping[str, Element]) -> list[str]:
    """Return warnings about a spec, a sentence each.

    Parameters
    ----------
    draws : Draws
        The draws and the spec that was bound to them.
    elements : mapping of str to Monomial or Dense
        The elements that acted on them.

    Returns
    -------
    list of str
        Variables of the units' size that were left behind, values that belong to all units
        together, one-signed values that were flipped, labels that may count from one, units whose
        signs nothing carries once, an activation that contradicts the posterior's own attribute,
        two biases of one set of units, draws of walkers, weights that were one array stored twice
        and are relabelled apart.
    """
    shared = values_of_sets(draws)
    return [
        *about_values(draws, elements, shared),
        *left_behind(draws, shared),
        *about_networks(draws),
    ]
