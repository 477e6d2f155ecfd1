"""Criteria by their names: built from options, and rebuilt from what a record says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from typing import Any

from relabel._util.registry import Registry
from relabel._util.validate import mapping
from relabel.errors import SpecError
from relabel.matching.criteria.base import GIVEN, Criterion
from relabel.matching.criteria.normal import Normal

__all__ = [
    "CRITERIA",
    "Rebuilt",
    "criterion_of",
    "current_options",
    "is_fully_described",
    "options_of",
    "rebuilt",
]

#: Name, as on the command line -> criterion.
CRITERIA: Registry[type[Criterion]] = Registry("criterion", "criteria", "relabel.criteria")

#: Name of a criterion in older records -> its name and options today.
_BECAME: dict[str, tuple[str, dict[str, Any]]] = {"gaussian": ("normal", {"covariance": "full"})}


def criterion_of(name: str, options: Mapping[str, Any] | None = None) -> Criterion:
    """Build a criterion from its name and options.

    Parameters
    ----------
    name : str
        One of :data:`CRITERIA`.
    options : mapping, optional
        Field -> value.

    Returns
    -------
    Criterion

    Raises
    ------
    SpecError
        If the name or an option is unknown, or a value does not fit.

    Examples
    --------
    >>> criterion_of("mean", {"scale": "none"})
    Mean(scale='none', max_sweeps=100, var_names=None)
    """
    known = options_of(name)
    given = dict(mapping("options", {} if options is None else options, "{'scale': 'none'}"))
    for key in given:
        if key not in known:
            close = get_close_matches(str(key), known, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise SpecError(
                f"criterion {name}: unknown option {key!r}{hint}; known are "
                f"{', '.join(known) or 'none'}"
            )
    try:
        return CRITERIA[name](**given)
    except TypeError as error:
        raise SpecError(f"criterion {name}: {error}") from error


def options_of(name: str) -> list[str]:
    """Return the names of a criterion's options.

    Raises
    ------
    SpecError
        If there is no such criterion, or if it does not follow the protocol.

    Examples
    --------
    >>> options_of("stephens")
    ['prob', 'reference', 'max_sweeps']
    """
    entry: Any = CRITERIA[name]
    protocol = isinstance(entry, type) and issubclass(entry, Criterion) and is_dataclass(entry)
    if not protocol or getattr(entry, "name", None) != name:
        raise SpecError(
            f"criterion {name!r} must be a dataclass that subclasses relabel.criteria.Criterion, "
            f"with the attribute name = {name!r} (by which records name it), not {entry!r}"
        )
    return [option.name for option in fields(entry)]


def current_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of a criterion that are read back from a record, under their present names.

    Options that the criterion no longer has are left out. Those of a criterion that is not
    installed are returned as they are.

    Parameters
    ----------
    name : str
        Name of the criterion.
    options : mapping
        As the record has them, without the name.

    Examples
    --------
    >>> current_options("reference", {"scale": "none", "variables": None, "to": "map"})
    {'scale': 'none', 'var_names': None, 'reference': 'map'}
    """
    mapping("options", options, "{'scale': 'none'}")
    if name not in CRITERIA:
        return dict(options)
    known, renamed = options_of(name), CRITERIA[name].renamed_options
    current = {
        key if key in known else renamed.get(key, key): value for key, value in options.items()
    }
    return {key: value for key, value in current.items() if key in known}


@dataclass(frozen=True)
class Rebuilt:
    """A criterion as far as a record holds it.

    Attributes
    ----------
    criterion : Criterion or None
        None where it cannot be rebuilt.
    reason : str
        Why it cannot be rebuilt, or which options the record does not hold; empty where nothing is
        missing.
    given : tuple of str
        Options that were arrays or datasets, which the record does not hold.
    """

    criterion: Criterion | None
    reason: str = ""
    given: tuple[str, ...] = ()

    @property
    def for_features(self) -> Criterion:
        """Criterion used to realign shuffled units; the default where the original cannot be."""
        found = None if self.criterion is None else self.criterion.for_features()
        return Normal() if found is None else found

    @property
    def reads(self) -> dict[str, Any]:
        """What the criterion read beside the features of units, as far as the record holds it."""
        read = {} if self.criterion is None else self.criterion.reads
        return {name: address for name, address in read.items() if name not in self.given}

    @property
    def stand_in(self) -> str:
        """Say what is compared instead of what the criterion compared; empty where nothing is."""
        if self.criterion is None:
            return f"{self.reason}: units are realigned by criterion {self.for_features.name!r}"
        if set(self.criterion.reads) & set(self.given) & {"z", "prob"}:
            return f"{self.reason}: units are compared by their parameters"
        return ""


def rebuilt(described: Mapping[str, Any]) -> Rebuilt:
    """Rebuild a criterion from what a record says of it: the inverse of `describe`.

    Parameters
    ----------
    described : mapping
        Name and options, as :meth:`Criterion.describe` returns them, of this version or an older.

    Returns
    -------
    Rebuilt

    Examples
    --------
    >>> rebuilt({"name": "mean", "scale": "none"}).criterion
    Mean(scale='none', max_sweeps=100, var_names=None)
    >>> rebuilt({"name": "median"}).stand_in
    "criterion 'median' is not installed: units are realigned by criterion 'normal'"
    """
    described = present(mapping("described", described, "{'name': 'mean'}"))
    name = str(described.get("name"))
    if name not in CRITERIA:
        return Rebuilt(None, f"criterion {name!r} is not installed")
    options = {key: value for key, value in described.items() if key != "name"}
    try:
        options = current_options(name, options)
        criterion = CRITERIA[name].from_record(options)
    except (SpecError, TypeError) as error:
        return Rebuilt(None, f"criterion {name!r} cannot be rebuilt from the record: {error}")
    given = tuple(key for key, value in options.items() if not is_fully_described(value))
    if not given:
        return Rebuilt(criterion)
    reason = (
        f"criterion {name!r} was given {' and '.join(given)} as an array or dataset, which the "
        "record does not hold"
    )
    return Rebuilt(criterion, reason, given)


def present(described: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a description under the names of today: some criteria became cases of others.

    Examples
    --------
    >>> present({"name": "gaussian", "shrinkage": 2.0})
    {'name': 'normal', 'covariance': 'full', 'shrinkage': 2.0}
    """
    name, options = _BECAME.get(str(described.get("name")), (None, {}))
    if name is None:
        return described
    return {"name": name, **options} | {k: v for k, v in described.items() if k != "name"}


def is_fully_described(described: Any) -> bool:
    """Whether a description, or an option in one, holds everything that was given.

    Of arrays and datasets it does not.

    Examples
    --------
    >>> is_fully_described({"name": "ecr", "z": "z", "reference": "given"})
    False
    """
    if isinstance(described, Mapping):
        return all(map(is_fully_described, described.values()))
    return not (isinstance(described, str) and described == GIVEN)
