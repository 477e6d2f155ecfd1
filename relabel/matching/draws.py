"""The draws that take part in an alignment: checked, and laid out one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel._util.validate import choice
from relabel.data.labels_in_draws import labels_of
from relabel.errors import DataError, SpecError
from relabel.groups.elements import Element
from relabel.matching.faulty import Faulty, check_negatives, compared_addresses
from relabel.matching.features import Problem, Unconstrained
from relabel.numerics.labels import check_range
from relabel.spec.centring import Offsets
from relabel.spec.spec import SAMPLE_DIMS, ResolvedSpec, Spec
from relabel.spec.transformation import Transformation

if TYPE_CHECKING:
    from relabel.matching.criteria import Criterion

__all__ = ["Draws", "log_density"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Draws:
    """The draws of one set of groups, checked, one after the other.

    Attributes
    ----------
    resolved : ResolvedSpec
        The spec, bound to the groups.
    groups : dict of str to Dataset
        The groups that share the draws.
    excluded : ndarray of bool, shape (chain, draw)
        Draws that take no part.
    beside : mapping of str to Dataset
        All groups of the data, in which addresses of data and the like are looked up.
    offsets : Offsets, optional
        What is subtracted over centred axes; None where no axis is centred.
    unconstrained : Unconstrained
        What brings scales and probabilities to the real line, for criteria that ask for it.
    """

    resolved: ResolvedSpec
    groups: dict[str, xr.Dataset]
    excluded: Array
    beside: Mapping[str, xr.Dataset] = field(default_factory=dict)
    offsets: Offsets | None = None
    unconstrained: Unconstrained = field(default_factory=Unconstrained)

    @classmethod
    def read(
        cls,
        groups: dict[str, xr.Dataset],
        spec: Spec,
        nonfinite: str,
        beside: Mapping[str, xr.Dataset] | None = None,
        criterion: Criterion | None = None,
    ) -> Draws:
        """Bind the spec to the groups and look for draws that cannot be compared.

        They are sought among the variables that the criterion compares, or that units may be
        matched on.

        Raises
        ------
        SpecError, DataError
            If the spec does not fit the draws; if draws are not finite, or too large, and
            `nonfinite` is ``"raise"``; if the negative of an integer does not fit; if values are
            outside of the support that is declared.
        """
        choice("nonfinite", nonfinite, ("raise", "skip"))
        resolved = spec.bind(groups)
        for variable in resolved.variables:
            if variable.labels_of is not None:
                found = labels_of(variable.chosen(groups[variable.group][variable.name]))
                n_units = resolved.sizes[variable.labels_of]
                check_range(found, n_units, variable.address, variable.labels_of)
        check_negatives(resolved, groups)
        faulty = Faulty.of(resolved, groups, compared_addresses(resolved, criterion))
        if nonfinite == "raise":
            faulty.raise_named(groups["posterior"])
        excluded = faulty.draws
        if excluded.all():
            raise DataError(
                "every draw has a NaN or an infinity, or values too large beside those of the "
                "median draw; there is nothing to align"
            )
        offsets = Offsets.of(resolved, groups["posterior"], excluded)
        unconstrained = Unconstrained.of(resolved, groups["posterior"], excluded)
        beside = groups if beside is None else beside
        return cls(resolved, groups, excluded, beside, offsets, unconstrained)

    @property
    def rows(self) -> Array:
        """Flat positions of the draws that take part."""
        return np.flatnonzero(~self.excluded)

    @property
    def chain(self) -> Array:
        """Which chain each of them belongs to."""
        chain: Array = self.rows // self.excluded.shape[1]
        return chain

    def split(self, apart: Array) -> tuple[Draws, Draws]:
        """Return the draws without some chains (bool, (chain,)), and those of these chains."""
        away = np.broadcast_to(apart[:, None], self.excluded.shape)
        without = replace(self, excluded=self.excluded | away)
        return without, replace(self, excluded=self.excluded | ~away)

    def thinned(self, chains: Array, places: Array, criterion: Criterion) -> Draws:
        """Return some draws of some chains, but for those that a criterion cannot compare."""
        at = np.ix_(chains, places)
        chosen = dict(zip(SAMPLE_DIMS, (chains, places), strict=True))
        groups = {name: dataset.isel(chosen) for name, dataset in self.groups.items()}
        faulty = Faulty.of(self.resolved, groups, compared_addresses(self.resolved, criterion))
        offsets = None
        if self.offsets is not None:
            values = {name: found[at] for name, found in self.offsets.values.items()}
            offsets = replace(self.offsets, values=values)
        excluded = self.excluded[at] | faulty.draws
        return replace(self, groups=groups, excluded=excluded, offsets=offsets)

    def problem(self, criterion: Criterion) -> Problem:
        """Lay out the posterior's variables for the loop, as a criterion matches them."""
        posterior = self.groups["posterior"]
        if not self.resolved.measured():
            raise SpecError(
                f"no variable of the posterior carries the units {', '.join(self.resolved.sizes)}: "
                "they are compared by their parameters; declare those, or move what carries the "
                "units (allocation probabilities) into the posterior"
            )
        arrays = {
            name: self._laid_out(posterior[name].transpose(*SAMPLE_DIMS, ...).values)
            for name in self.resolved.names()
        }
        offsets = {} if self.offsets is None else self.offsets.values
        return Problem(
            self.resolved,
            arrays,
            criterion.matched_variables,
            rules=criterion.rules(self.resolved),
            spreads=criterion.spreads(self.resolved),
            offsets={name: self._laid_out(values) for name, values in offsets.items()},
            unconstrained=self.unconstrained if criterion.unconstrained else None,
        )

    def _laid_out(self, values: Array) -> Array:
        """Values over (chain, draw, ...) of the draws that take part, one after the other."""
        flat = np.ascontiguousarray(values).reshape(-1, *values.shape[2:])
        return flat[self.rows] if self.excluded.any() else flat

    def transformation(self, elements: Mapping[str, Element]) -> Transformation:
        """Return elements and offsets of all draws; those left out stay as they are."""
        whole = Transformation.identity(self.resolved.sizes, self.excluded.shape)
        whole = replace(whole, offsets=self.offsets)
        for units, element in elements.items():
            flat = type(element).identity((self.excluded.size,), element.size)
            flat.put(self.rows, element)
            whole.elements[units] = flat.reshape(*self.excluded.shape)
        return whole

    def spread(self, values: Array, fill: Any) -> Array:
        """Scatter values of the included draws to (chain, draw); the others are filled."""
        whole = np.full((self.excluded.size, *values.shape[1:]), fill, values.dtype)
        whole[self.rows] = values
        return whole.reshape(*self.excluded.shape, *values.shape[1:])


def log_density(groups: Mapping[str, xr.Dataset]) -> Array | None:
    """Return the log posterior density over (chain, draw), nan where not finite; or None."""
    stats = groups.get("sample_stats", xr.Dataset())
    if "lp" not in stats or set(stats["lp"].dims) != set(SAMPLE_DIMS):
        return None
    lp: Array = stats["lp"].transpose(*SAMPLE_DIMS).values.astype(float)
    return np.where(np.isfinite(lp), lp, np.nan) if np.isfinite(lp).any() else None
