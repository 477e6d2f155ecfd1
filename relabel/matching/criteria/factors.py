"""What the criteria for factor models share: they compare loadings, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

from relabel.errors import SpecError
from relabel.groups import Group, Score
from relabel.groups.elements import Element
from relabel.matching.criteria.base import Criterion, Reference, Statistics
from relabel.matching.criteria.mean import Mean
from relabel.matching.features import Block, Layout, Way
from relabel.matching.moments import Pooled
from relabel.models.loadings import loadings_of
from relabel.spec.spec import Bound

__all__ = ["OfLoadings"]

_MEAN = Mean(scale="none")
Own = TypeVar("Own", bound="OfLoadings")


class OfLoadings(Criterion):
    """The mean of the aligned loadings, on the scale on which they come.

    Subclasses are dataclasses with the fields `variable`, the name of the loadings (by default as
    :func:`relabel.models.loadings.loadings_of` tells), and, where the reference is formed anew,
    `max_sweeps`. Scores and whatever else the factors carry follow.
    """

    is_distance: ClassVar[bool] = True
    rotates: ClassVar[bool] = True
    variable: str | None

    @property
    def variables(self) -> tuple[str, ...] | None:
        """The loadings."""
        return None if self.variable is None else (self.variable,)

    def check_variable(self) -> None:
        """Refuse what is no name, and leave ``posterior/`` out."""
        if self.variable is None:
            return
        given: Any = self.variable
        if not isinstance(given, str) or not given:
            raise SpecError(
                f"criterion {self.name}: variable is the name of the loadings, not "
                f"{self.variable!r}"
            )
        object.__setattr__(self, "variable", self.variable.removeprefix("posterior/"))

    def resolved(self: Own, bound: Bound) -> Own:
        """Return the criterion with the name of the loadings filled in."""
        units = self._factors(bound)
        self.way(bound.group(units), units)
        found = loadings_of(bound, units, wanted=self.variable)
        return replace(self, variable=found.name)  # type: ignore[type-var]

    def ways(self, bound: Bound) -> dict[str, Way]:
        """How the factors are rotated and matched."""
        units = self._factors(bound)
        return {units: self.way(bound.group(units), units)}

    def way(self, group: Group, units: str) -> Way:
        """How units of a group are rotated and matched."""
        raise NotImplementedError

    def _factors(self, bound: Bound) -> str:
        """The units that the loadings carry."""
        if len(bound.sizes) > 1:
            raise SpecError(
                f"criterion {self.name} aligns one set of factors, and the units are "
                f"{', '.join(bound.sizes)}: use mean, which aligns all of them"
            )
        carried = [
            units
            for v in bound.measured()
            if v.name == self.variable
            for _, units, _ in v.unit_axes()
        ]
        found = list(dict.fromkeys(carried if self.variable is not None else bound.sizes))
        if len(found) == 1:
            return found[0]
        known = ", ".join(v.name for v in bound.measured() if v.unit_axes())
        raise SpecError(
            f"criterion {self.name}: variable {self.variable!r} carries "
            f"{' and '.join(found) or 'no units'}, and loadings carry one set; there are {known}"
        )

    def check_signs(self, group: Group, units: str) -> None:
        """Refuse units of other models."""
        if not group.signs or (group.gauges() and not group.rotates) or group.shifts:
            raise SpecError(
                f"criterion {self.name} is for factors, which change their signs or rotate; the "
                f"units {units!r} are declared {group.label}: declare them 'orthogonal' or 'signed'"
            )

    # ------------------------------------------------------------------ the loop

    def statistics(
        self, block: Block, layout: Layout, elements: Mapping[str, Element]
    ) -> Statistics:
        """Return sums of the aligned loadings."""
        return _MEAN.statistics(block, layout, elements)

    def reference(
        self, statistics: Statistics, pooled: Pooled, layout: Layout, previous: Reference | None
    ) -> Reference:
        """Return the mean of the aligned loadings."""
        return _MEAN.reference(statistics, pooled, layout, previous)

    def unary(self, block: Block, layout: Layout, reference: Reference, units: str) -> Score:
        """Score by minus the squared distance of loadings."""
        return _MEAN.unary(block, layout, reference, units)


def check_choice(criterion: str, option: str, value: Any, known: tuple[str, ...]) -> None:
    """Refuse what an option does not know."""
    if value not in known:
        offered = " or ".join(map(repr, known))
        raise SpecError(f"criterion {criterion}: {option} is {offered}, not {value!r}")
