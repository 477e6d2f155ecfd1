"""Draws that cannot be compared: not finite, or so large that they drown all others."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.errors import DataError
from relabel.spec.arrays import SAMPLE_DIMS
from relabel.spec.centring import centred_variables
from relabel.spec.spec import ResolvedSpec, extremes

if TYPE_CHECKING:
    from relabel.matching.criteria import Criterion

__all__ = ["Faulty", "check_negatives", "compared_addresses"]

Array = NDArray[Any]

#: A draw this many times as large as the median draw is too large. Sums over draws have 52 bits:
#: added to such a draw, ordinary ones leave no digit. Of a million Cauchy draws one is 10**6 times
#: as large as the median, and one in 10**15 is refused: no posterior with a scale has such tails.
_DROWNS = 2.0**52

#: Where units have scales, weights of any size may be the same function: only squares must fit.
_OVERFLOWS = 2.0**500


def compared_addresses(resolved: ResolvedSpec, criterion: Criterion | None) -> set[str]:
    """Return the addresses of the variables that a criterion compares draws by.

    Those that units are matched on, or that are read instead; those that fix scales, and those that
    are centred. Without a criterion: all that units may be matched on, and allocations. Whatever
    else carries the units moves along, and may hold anything.
    """
    measured = [v for v in resolved.measured() if not v.carried]
    if criterion is None:
        others = [v for v in resolved.in_group("allocation") if v.labels_of is None]
        return {v.address for v in (*measured, *others)}
    reads = {given for given in criterion.reads.values() if isinstance(given, str)}
    found = [v for v in resolved.variables if {v.address, v.name} & reads]
    names = criterion.matched_variables
    if criterion.n_inputs is not None or (names is None and not reads):
        found += measured
    elif names is not None:
        found += [v for v in resolved.measured() if v.name in names]
    scaled = _scaled(resolved)
    found += [v for v in measured if scaled & {units for _, units, _ in v.unit_axes()}]
    found += centred_variables(resolved).values()
    return {v.address for v in found}


def _scaled(resolved: ResolvedSpec) -> set[str]:
    """Return the units that have scales or affine flips, which all their weights decide."""
    groups = {units: resolved.group(units) for units in resolved.sizes}
    return {units for units, group in groups.items() if group.scales or group.shifts}


@dataclass(frozen=True)
class Faulty:
    """Draws that cannot be compared, by what is wrong and by variable: bool of (chain, draw).

    Attributes
    ----------
    shape : tuple of int
        Numbers of chains and of draws.
    infinite : dict of str to ndarray
        Variables -> draws with a NaN or an infinity.
    huge : dict of str to ndarray
        Variables -> draws that are more than 2**52 times as large as the median draw; where units
        have scales, draws whose squares overflow.
    sizes : dict of str to tuple of float
        Variables of `huge` -> largest value, and that of the median draw.
    """

    shape: tuple[int, ...]
    infinite: dict[str, Array]
    huge: dict[str, Array]
    sizes: dict[str, tuple[float, float]]

    @classmethod
    def of(
        cls,
        resolved: ResolvedSpec,
        groups: Mapping[str, xr.Dataset],
        addresses: Collection[str],
    ) -> Faulty:
        """Look through the variables of these addresses."""
        posterior, scaled = groups["posterior"], _scaled(resolved)
        found = cls(tuple(posterior.sizes[dim] for dim in SAMPLE_DIMS), {}, {}, {})
        for variable, low, high in extremes(resolved, groups, addresses):
            bad = ~(np.isfinite(low) & np.isfinite(high))
            if bad.any():
                found.infinite[variable.address] = bad
            if variable.group != "posterior" or bad.all():
                continue
            size = np.where(bad, 0.0, np.maximum(np.abs(low), np.abs(high)))
            middle = float(np.median(size[~bad]))
            free = bool(scaled & {units for _, units, _ in variable.unit_axes()})
            most = _OVERFLOWS if free else _DROWNS * middle
            if middle > 0 and (size > most).any():
                found.huge[variable.address] = size > most
                found.sizes[variable.address] = float(size.max()), middle
        return found

    @property
    def draws(self) -> Array:
        """All of them: bool of shape (chain, draw)."""
        none = np.zeros(self.shape, bool)
        return np.asarray(np.any([none, *self.infinite.values(), *self.huge.values()], axis=0))

    def raise_named(self, posterior: xr.Dataset) -> None:
        """Raise DataError with the draws and the variables, if there is any."""
        parts = []
        if self.infinite:
            bad = np.any(list(self.infinite.values()), axis=0)
            places = f"{_places(bad, posterior)}{_whole_chains(bad)}; in {_counts(self.infinite)}"
            parts.append(f"{bad.sum()} of {bad.size} draws hold NaN or infinities: {places}")
        if self.huge:
            bad = np.any(list(self.huge.values()), axis=0)
            sizes = ", ".join(
                f"{_name(address)} has {most:.3g} there, and {middle:.3g} in the median draw"
                for address, (most, middle) in self.sizes.items()
            )
            parts.append(
                f"{bad.sum()} of {bad.size} draws hold values so large that nothing is left of the "
                f"others beside them: {_places(bad, posterior)}; {sizes}"
            )
        if parts:
            raise DataError(
                f"{'; '.join(parts)}; leave them out with nonfinite='skip' (--skip-nonfinite), or "
                "fix them first"
            )


def check_negatives(resolved: ResolvedSpec, groups: Mapping[str, xr.Dataset]) -> None:
    """Raise DataError if an integer may change its sign whose negative its dtype does not hold."""
    for variable in resolved.variables:
        if not any(action.signed for _, _, action in variable.unit_axes()):
            continue
        dtype = groups[variable.group][variable.name].dtype
        if dtype.kind != "i":
            continue
        least = np.iinfo(dtype).min
        if bool((groups[variable.group][variable.name] == least).any()):
            raise DataError(
                f"{_name(variable.address)} holds {least}, whose negative does not fit its dtype "
                f"{dtype}, and its units may change their sign; convert it to "
                f"{'float64' if dtype.itemsize == 8 else f'int{16 * dtype.itemsize}'} first"
            )


def _name(address: str) -> str:
    """Return the address of a variable, without the group where that is the posterior."""
    return address.removeprefix("posterior/")


def _counts(found: Mapping[str, Array]) -> str:
    """Name variables with the number of draws."""
    return ", ".join(f"{_name(address)} ({bad.sum()})" for address, bad in found.items())


def _places(bad: Array, posterior: xr.Dataset) -> str:
    """Name the first draws by their coordinates."""
    places = np.argwhere(bad)
    named = [
        ", ".join(
            f"{dim} {posterior[dim].values[i] if dim in posterior.coords else i}"
            for dim, i in zip(SAMPLE_DIMS, place, strict=True)
        )
        for place in places[:3]
    ]
    more = f" and {len(places) - 3} more" if len(places) > 3 else ""
    return "; ".join(named) + more


def _whole_chains(bad: Array) -> str:
    """Say that chains are bad as a whole, if they are."""
    whole = bad.all(axis=1)
    if not whole.any() or bad[~whole].any():
        return ""
    return (
        "; all draws of some chains do, and none of the others: if these chains have fewer "
        "units and were padded, align chains of one number of units by themselves"
    )
