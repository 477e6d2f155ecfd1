"""Where `diagnose` draws its lines: the thresholds that checks declare, and values for them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, get_type_hints

from relabel._util.validate import real
from relabel.diagnostics.checks import BUILT_IN, registered
from relabel.diagnostics.checks.base import Check, Threshold
from relabel.errors import SpecError
from relabel.spec.resolve import closest

__all__ = ["Thresholds", "declared_thresholds"]


def declared_thresholds(
    checks: Iterable[type[Check[Any]]] | None = None,
) -> dict[str, tuple[float, Threshold]]:
    """Return the default of every threshold, and what it is.

    Parameters
    ----------
    checks : iterable of Check classes, optional
        All that are registered by default, those of other packages too.

    Raises
    ------
    SpecError
        If two checks declare a threshold of one name differently.
    """
    found: dict[str, tuple[float, Threshold]] = {}
    for check in registered() if checks is None else checks:
        hints = get_type_hints(check, include_extras=True)
        for entry in fields(check):
            own: tuple[Any, Threshold] = (entry.default, hints[entry.name].__metadata__[0])
            if found.setdefault(entry.name, own) != own:
                raise SpecError(
                    f"the check {check.name!r} declares the threshold {entry.name!r} otherwise "
                    "than another check: rename it, or uninstall its package"
                )
    return found


@dataclass(frozen=True, init=False)
class Thresholds:
    """Where :func:`relabel.diagnose` draws its lines; none depends on the data set.

    Each threshold is declared by a check, with its reason; those of other packages' checks are set
    alike. On the command line each is set as in ``--set null_gap=0.2``.

    Raises
    ------
    SpecError
        If there is no such threshold, or it is not a positive number, or a probability not below
        one.

    Examples
    --------
    >>> thresholds = Thresholds(null_gap=0.2)
    >>> thresholds.null_gap, thresholds.confidence
    (0.2, 0.9)
    >>> Thresholds(rhat=-1)
    Traceback (most recent call last):
    relabel.errors.SpecError: threshold rhat must be a positive number, not -1
    """

    _chosen: tuple[tuple[str, float], ...]

    def __init__(self, **values: float) -> None:
        declared = declared_thresholds()
        for name in values:
            if name not in declared:
                raise SpecError(
                    f"there is no threshold {name!r}{closest(name, declared)}; there are "
                    f"{', '.join(declared)}"
                )
        chosen = {
            name: real(f"threshold {name}", value, 0, declared[name][1].below, open_ends=True)
            for name, value in values.items()
        }
        object.__setattr__(self, "_chosen", tuple(sorted(chosen.items())))

    def __getattr__(self, name: str) -> float:
        """Return the value of a threshold."""
        declared = {} if name.startswith("_") else declared_thresholds()
        if name not in declared:
            raise AttributeError(f"there is no threshold {name!r}", name=name, obj=self)
        return dict(self._chosen).get(name, declared[name][0])

    def __dir__(self) -> list[str]:
        """List the thresholds as well."""
        return [*super().__dir__(), *declared_thresholds()]

    def __repr__(self) -> str:
        """Show what was chosen."""
        return f"Thresholds({', '.join(f'{name}={value!r}' for name, value in self._chosen)})"

    def applied(self, check: type[Check[Any]]) -> Check[Any]:
        """Return a check with its thresholds set."""
        own = {entry.name for entry in fields(check)}
        return check(**{name: value for name, value in self._chosen if name in own})


def _documented(doc: str, declared: Mapping[str, tuple[float, Threshold]]) -> str:
    """Insert the thresholds of the package's own checks into a docstring, as parameters."""
    lines = ["Parameters", "----------"]
    for name, (default, threshold) in declared.items():
        lines.append(f"{name} : float, default {default:g}")
        lines += textwrap.wrap(threshold.about, 92, initial_indent="    ", subsequent_indent="    ")
    before, raises, after = doc.partition("    Raises\n")
    return before + textwrap.indent("\n".join(lines), "    ") + "\n\n" + raises + after


Thresholds.__doc__ = _documented(Thresholds.__doc__ or "", declared_thresholds(BUILT_IN))
