"""What the criteria for factor models share: they compare loadings, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, TypeVar

from relabel.errors import SpecError
from relabel.groups import Group
from relabel.matching.criteria.mean import ByMean, Mean
from relabel.matching.features import MatchingRule
from relabel.models.loadings import loadings_of
from relabel.spec.spec import ResolvedSpec

__all__ = ["OfLoadings"]

Own = TypeVar("Own", bound="OfLoadings")


class OfLoadings(ByMean):
    """The mean of the aligned loadings, on the scale on which they come.

    Subclasses are dataclasses with the fields `variable`, the name of the loadings (by default as
    :func:`relabel.models.loadings.loadings_of` finds it), and, where the reference is formed anew,
    `max_sweeps`. Scores and whatever else the factors carry follow.
    """

    rotates: ClassVar[bool] = True
    variable: str | None

    @property
    def mean(self) -> Mean:
        """The mean that loadings are compared by."""
        return Mean(scale="none")

    @property
    def matched_variables(self) -> tuple[str, ...] | None:
        """The name of the loadings."""
        return None if self.variable is None else (self.variable,)

    def check_variable(self) -> None:
        """Raise SpecError unless the option `variable` is a name; leave ``posterior/`` out."""
        self.check_option("variable", _name)

    def resolved(self: Own, resolved: ResolvedSpec) -> Own:
        """Return the criterion with the name of the loadings filled in."""
        units = self._factors(resolved)
        self.rule(resolved.group(units), units)
        found = loadings_of(resolved, units, wanted=self.variable)
        return replace(self, variable=found.name)  # type: ignore[type-var]

    def rules(self, resolved: ResolvedSpec) -> dict[str, MatchingRule]:
        """Return how the factors are rotated and matched."""
        units = self._factors(resolved)
        return {units: self.rule(resolved.group(units), units)}

    def rule(self, group: Group, units: str) -> MatchingRule:
        """Return how units of a group are rotated and matched."""
        raise NotImplementedError

    def _factors(self, resolved: ResolvedSpec) -> str:
        """Return the units that the loadings carry."""
        if len(resolved.sizes) > 1:
            raise SpecError(
                f"criterion {self.name} aligns one set of factors, and the units are "
                f"{', '.join(resolved.sizes)}: use mean, which aligns all of them"
            )
        carried = [
            units
            for v in resolved.measured()
            if v.name == self.variable
            for _, units, _ in v.unit_axes()
        ]
        found = list(dict.fromkeys(carried if self.variable is not None else resolved.sizes))
        if len(found) == 1:
            return found[0]
        known = ", ".join(v.name for v in resolved.measured() if v.unit_axes())
        raise SpecError(
            f"criterion {self.name}: variable {self.variable!r} carries "
            f"{' and '.join(found) or 'no units'}, and loadings carry one set; there are {known}"
        )

    def check_signs(self, group: Group, units: str) -> None:
        """Raise SpecError unless the units are factors."""
        if not group.signs or (group.gauges() and not group.rotates) or group.shifts:
            raise SpecError(
                f"criterion {self.name} is for factors, which change their signs or rotate; the "
                f"units {units!r} are declared {group.label}: declare them 'orthogonal' or 'signed'"
            )


def _name(option: str, value: Any) -> str | None:
    """Return the name of the loadings."""
    if value is not None and (not isinstance(value, str) or not value):
        raise SpecError(f"{option} must be the name of the loadings, not {value!r}")
    return None if value is None else value.removeprefix("posterior/")
