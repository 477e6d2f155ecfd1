"""Checks: one question about aligned draws each, in one file each, and the registry of them all.

A file says what its check needs, measures and finds, its thresholds, its lines of the report and
the variables that it stores: see :class:`relabel.diagnostics.checks.base.Check`. To add one, write
the file and name it here, or in the entry points ``relabel.checks`` of another package.
"""

from __future__ import annotations

from typing import Any

from relabel._util.registry import Registry
from relabel.diagnostics.checks.alignment import AlignmentCheck
from relabel.diagnostics.checks.base import Check
from relabel.diagnostics.checks.certainty import CertaintyCheck
from relabel.diagnostics.checks.chains import ChainsCheck
from relabel.diagnostics.checks.convergence import ConvergenceCheck
from relabel.diagnostics.checks.draws import DrawsCheck
from relabel.diagnostics.checks.likelihood import LikelihoodCheck
from relabel.diagnostics.checks.modes import ModesCheck
from relabel.diagnostics.checks.null import NullCheck
from relabel.diagnostics.checks.occupancy import OccupancyCheck
from relabel.diagnostics.checks.orbit import OrbitCheck
from relabel.diagnostics.checks.outputs import OutputsCheck
from relabel.diagnostics.checks.pairs import PairsCheck
from relabel.diagnostics.checks.redundancy import RedundancyCheck
from relabel.diagnostics.checks.scales import ScalesCheck
from relabel.diagnostics.checks.starts import StartsCheck
from relabel.errors import SpecError

__all__ = ["BUILT_IN", "CHECKS", "registered"]

#: In the order in which they run, but that what a check needs runs before it.
BUILT_IN: tuple[type[Check[Any]], ...] = (
    DrawsCheck,
    OutputsCheck,
    ChainsCheck,
    ConvergenceCheck,
    LikelihoodCheck,
    RedundancyCheck,
    OccupancyCheck,
    PairsCheck,
    NullCheck,
    StartsCheck,
    CertaintyCheck,
    AlignmentCheck,
    OrbitCheck,
    ScalesCheck,
    ModesCheck,
)

#: Name -> check, those of other packages too.
CHECKS: Registry[type[Check[Any]]] = Registry("check", "checks", "relabel.checks")

for _check in BUILT_IN:
    CHECKS.register(_check.name, _check)


def registered() -> list[type[Check[Any]]]:
    """Return all checks, those of other packages last.

    Raises
    ------
    SpecError
        If one of another package is no check, or has another name than its entry point; if two
        have one name.
    """
    for name in CHECKS:
        check: Any = CHECKS[name]
        derived = isinstance(check, type) and issubclass(check, Check)
        if not derived or "__dataclass_fields__" not in vars(check) or check.name != name:
            raise SpecError(
                f"the check {name!r} must be a frozen dataclass of that name, derived from "
                f"relabel.diagnostics.checks.base.Check, not {check!r}"
            )
    return list(CHECKS.values())
