"""Provenance: how aligned draws were made, as a typed record; read and written here alone.

The record is JSON text, the attribute ``relabel`` of the group of that name: attributes of netCDF
take no tables. Its key ``format`` counts the forms it has had; records of every older form are
read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import lru_cache
from typing import Any

import xarray as xr

from relabel._util.text import plain
from relabel.data.checksums import AFTER, BEFORE
from relabel.errors import DataError, UnknownSymmetryError
from relabel.spec.spec import Spec

__all__ = ["ATTRIBUTE", "BY_COORDS", "FORMAT", "MOST_ALIGNMENTS", "OWN_RECORD", "Provenance"]

#: Name of the attribute (and of the group) that holds the record.
ATTRIBUTE = "relabel"

#: Form of the records that are written. 1: up to version 0.1.0, without this number; 3: with a
#: checksum of every draw beside it.
FORMAT = 3

#: How a group of other draws than the posterior's takes part.
BY_COORDS = "by coordinates"

#: How the groups of the warm-up take part.
OWN_RECORD = "by a record of their own"

#: Alignments that one record may hold, one after the other; more are no record of ours.
MOST_ALIGNMENTS = 200


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """How aligned draws were made.

    Attributes
    ----------
    spec : Spec
        The spec, with everything filled in that the draws tell.
    criterion : mapping of str to object
        ``name`` and options of the criterion; of arrays and datasets, that they were given.
    options : mapping of str to object
        The other options of :func:`relabel.align`.
    variables : tuple of str
        Addresses ``group/name`` of all variables that were relabelled.
    loss_before, losses : float, tuple of float
        Total loss of the draws as they came, and after every sweep.
    loss_of_draws : float, optional
        Sum of the losses of the draws; None in the oldest records.
    converged : bool
        Whether the last sweep changed nothing.
    n_moved : int
        Number of draws that were relabelled.
    result : str
        The result in a sentence.
    warnings : tuple of str
        What the user has to know of it.
    version, versions : str, mapping of str to str
        Version of relabel, and of the packages it used.
    flags : tuple of str
        Variables of the group ``relabel`` that the criterion added.
    offsets : tuple of str
        Variables whose offsets are stored.
    checksums : tuple of str
        Variables that hold a checksum of every draw, before and after; none in older records.
    added : tuple of str
        Variables of the group ``relabel`` that were added after the alignment.
    groups : mapping of str to str
        How each group of draws took part: ``"same draws"``, ``"by coordinates"``, ``"by
        position"``, ``"by a record of their own"`` (those of the warm-up), or ``"left: "`` and
        why. Empty in older records.
    chosen : str, optional
        Why this criterion was taken, where none was named.
    begin : str, optional
        The start that led to the first reference, where several were tried.
    opinions : tuple of mapping
        What other criteria would have done with some of the draws, where none was named:
        ``criterion``, ``n_draws``, ``differ`` (the share that they label otherwise) and ``nats``
        (by which a draw is more probable under the labels here than under theirs).
    no_part_in_reference : tuple of int, optional
        Chains that were kept out of the reference; None where that was not asked for.
    earlier : Provenance, optional
        The alignment before this one; both are composed.
    diagnosis, reduced, redrawn : mapping, optional
        What :func:`relabel.diagnose`, :func:`relabel.reduce` and
        :func:`relabel.stats.redraw_scale` found or did afterwards.

    Examples
    --------
    >>> import numpy as np, xarray as xr, relabel
    >>> mu = np.array([[[0.0, 5.0], [5.1, 0.1], [-0.1, 4.9]]])
    >>> draws = xr.Dataset({"mu": (("chain", "draw", "component"), mu)})
    >>> aligned = relabel.align(draws, {"component": "permutation"})
    >>> provenance = relabel.Provenance.of(aligned)
    >>> provenance.criterion["name"], provenance.n_moved, provenance.variables
    ('normal', 1, ('posterior/mu',))
    """

    spec: Spec
    criterion: Mapping[str, Any]
    options: Mapping[str, Any]
    variables: tuple[str, ...]
    loss_before: float
    losses: tuple[float, ...]
    converged: bool
    n_moved: int
    result: str
    loss_of_draws: float | None = None
    warnings: tuple[str, ...] = ()
    version: str = "unknown"
    versions: Mapping[str, str]
    flags: tuple[str, ...] = ()
    offsets: tuple[str, ...] = ()
    checksums: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)
    chosen: str | None = None
    begin: str | None = None
    opinions: tuple[Mapping[str, Any], ...] = ()
    no_part_in_reference: tuple[int, ...] | None = None
    earlier: Provenance | None = None
    diagnosis: Mapping[str, Any] | None = None
    reduced: Mapping[str, Any] | None = None
    redrawn: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, data: Any) -> Provenance:
        """Return how aligned draws were made.

        Parameters
        ----------
        data : InferenceData, DataTree or Dataset

        Raises
        ------
        DataError
            If the draws were not aligned, or the record is damaged.
        """
        from relabel.data.containers import unpack

        return cls.within(unpack(data))

    @classmethod
    def within(cls, groups: Mapping[str, xr.Dataset], prefix: str = "") -> Provenance:
        """Return the record among the groups of aligned draws; see :meth:`of`."""
        if f"{prefix}{ATTRIBUTE}" not in groups:
            nested = [path for path in groups if path.endswith(f"/{ATTRIBUTE}")]
            node = nested[0].rpartition("/")[0] if nested else ""
            hint = f"; there is {nested[0]!r}: take data[{node!r}], or its group" if nested else ""
            raise DataError(f"these draws were not aligned: there is no group 'relabel'{hint}")
        return cls.read(groups[f"{prefix}{ATTRIBUTE}"].attrs)

    @classmethod
    def read(cls, attrs: Mapping[Any, Any]) -> Provenance:
        """Read the record from the attributes of a group.

        Raises
        ------
        DataError
            If it cannot be read, or if a later version of relabel wrote it, or if it names a
            symmetry of a package that is not installed.
        """
        try:
            return _parsed(attrs[ATTRIBUTE])
        except UnknownSymmetryError as error:
            raise DataError(
                f"these draws were aligned with the symmetry {error.symmetry!r}, which no "
                "installed package brings; install the package that brings it, and try again"
            ) from error
        except KeyError as error:
            raise DataError(
                "the group 'relabel' is damaged: it has no attribute 'relabel'"
            ) from error
        except RecursionError as error:
            raise DataError(
                "the group 'relabel' is damaged: its attribute is nested too deep to be read"
            ) from error
        except (TypeError, ValueError, OverflowError) as error:
            if "has the format" in str(error):
                raise
            raise DataError(
                f"the group 'relabel' is damaged: its attribute cannot be read ({_line(error)})"
            ) from error

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Provenance:
        """Rebuild a record from what :meth:`as_dict` returned, of this or an older form.

        Raises
        ------
        DataError
            If a later version of relabel wrote it.
        TypeError, ValueError
            If entries are missing or are of another kind.
        """
        records = [_upgraded(values)]
        while (below := records[-1].pop("earlier", None)) is not None:
            if len(records) == MOST_ALIGNMENTS:
                raise ValueError(f"it holds more than {MOST_ALIGNMENTS} alignments")
            records.append(_upgraded(below))
        found = cls(**_checked(records.pop()))
        for entries in reversed(records):
            found = cls(**_checked(entries), earlier=found)
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; entries that say nothing are left out."""
        values: dict[str, Any] = {"format": FORMAT}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if value is None or (value == () and entry.name in _OPTIONAL):
                continue
            values[entry.name] = value.as_dict() if hasattr(value, "as_dict") else plain(value)
        return values

    def attrs(self) -> dict[str, str]:
        """Return the attribute that holds the record."""
        return {ATTRIBUTE: json.dumps(self.as_dict())}

    @property
    def n_alignments(self) -> int:
        """Number of alignments, one after the other: this one and all earlier ones."""
        number, record = 1, self
        while record.earlier is not None:
            number, record = number + 1, record.earlier
        return number

    @property
    def beside_posterior(self) -> tuple[str, ...]:
        """Addresses of the variables whose draws are those of the posterior, in its order."""
        return tuple(
            address
            for address in self.variables
            for group, _, _ in [address.rpartition("/")]
            if group == "posterior" or self.groups.get(group) != BY_COORDS
        )

    def beside(self, warmup: Iterable[str]) -> Provenance:
        """Return the record that knows of groups of the warm-up, which have one of their own."""
        names = [f"warmup_{name}" for name in warmup]
        return replace(self, groups={**self.groups, **dict.fromkeys(names, OWN_RECORD)})

    def without_findings(self) -> Provenance:
        """Return the record of the alignment alone, without what was added afterwards."""
        return replace(self, diagnosis=None, added=())


_OPTIONAL = {"flags", "offsets", "checksums", "added", "opinions"}

#: Format 1 -> 2: names of the options of `align`. Criteria know the old names of their own.
_OPTIONS = {"seed": "rng", "n_kicks": "n_perturbations"}


@lru_cache(maxsize=16)
def _parsed(text: str) -> Provenance:
    """Parse a record; one that is asked for again is not parsed again."""
    if not isinstance(text, str):
        raise TypeError(f"it must be text, not {type(text).__name__}")
    return Provenance.from_dict(json.loads(text, parse_constant=_no_number))


def _no_number(name: str) -> None:
    """Refuse what JSON does not have: NaN and infinities."""
    raise ValueError(f"{name} is no number of JSON")


def _line(error: Exception) -> str:
    """The message of an error in one line of bearable length."""
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _upgraded(values: Any) -> dict[str, Any]:
    """Entries of a record in the present form."""
    if not isinstance(values, Mapping):
        raise TypeError("it must be a table")
    form = values.get("format", 1)
    if not _whole(form) or not 1 <= form <= FORMAT:
        raise DataError(
            f"the record of the alignment has the format {form!r}, and this version of relabel "
            f"reads up to {FORMAT}: install a newer version"
        )
    entries = {name: value for name, value in values.items() if name != "format"}
    if form == 1 and isinstance(entries.get("options"), Mapping):
        options = entries["options"].items()
        entries["options"] = {_OPTIONS.get(key, key): value for key, value in options}
    return entries


def _checked(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Entries of a record, each of the kind that it must be; lists as tuples."""
    names = {entry.name for entry in fields(Provenance)} - {"earlier"}
    unknown, missing = sorted(set(entries) - names), sorted(_REQUIRED - set(entries))
    if unknown:
        raise ValueError(f"unknown entries {', '.join(unknown)}")
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    checked: dict[str, Any] = {}
    for name, value in entries.items():
        sound, what = _KINDS[name]
        optional = name in _MAY_BE_NULL
        if not (sound(value) or (optional and value is None)):
            raise TypeError(f"{name} must be {what}{' or null' if optional else ''}")
        checked[name] = tuple(value) if isinstance(value, (list, tuple)) else value
    checked["losses"] = tuple(math.nan if loss is None else loss for loss in checked["losses"])
    return checked | {"spec": Spec.from_dict(checked["spec"])}


def _whole(value: Any) -> bool:
    """Whether this is an integer that a file can hold."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _number(value: Any) -> bool:
    """Whether this is a finite number."""
    return _whole(value) or (isinstance(value, float) and math.isfinite(value))


def _count(value: Any) -> bool:
    return _whole(value) and bool(value >= 0)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _list_of(sound: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A check of lists all of whose items are sound."""
    return lambda value: isinstance(value, (list, tuple)) and all(map(sound, value))


def _address(value: Any) -> bool:
    return _text(value) and "/" in value.strip("/")


def _variables(value: Any) -> bool:
    return _list_of(_address)(value) and 0 < len(value) == len(set(value))


def _table(value: Any) -> bool:
    return isinstance(value, Mapping)


def _texts(value: Any) -> bool:
    return _table(value) and all(map(_text, value.values()))


def _criterion(value: Any) -> bool:
    return _table(value) and _text(value.get("name"))


def _opinion(value: Any) -> bool:
    kinds = {"criterion": _text, "n_draws": _count, "differ": _number, "nats": _number}
    return _table(value) and {*value} == {*kinds} and all(kinds[k](v) for k, v in value.items())


_Kind = tuple[Callable[[Any], bool], str]
_NAMES: _Kind = (_list_of(_text), "a list of texts")
_TABLE: _Kind = (_table, "a table")

#: Entry -> its check, and what it must be.
_KINDS: dict[str, _Kind] = {
    "spec": _TABLE,
    "criterion": (_criterion, "a table with a name"),
    "options": _TABLE,
    "variables": (_variables, "a list of different addresses group/name"),
    "loss_before": (_number, "a finite number"),
    "losses": (
        lambda value: _list_of(lambda x: x is None or _number(x))(value) and len(value) > 0,
        "a list of numbers",
    ),
    "converged": (lambda value: isinstance(value, bool), "true or false"),
    "n_moved": (_count, "a number of draws"),
    "result": (_text, "a text"),
    "loss_of_draws": (_number, "a finite number"),
    "warnings": _NAMES,
    "version": (_text, "a text"),
    "versions": (_texts, "a table of texts"),
    "flags": _NAMES,
    "offsets": _NAMES,
    "checksums": (
        lambda value: _list_of(_text)(value) and set(value) <= {BEFORE, AFTER},
        f"a list of {BEFORE} and {AFTER}",
    ),
    "added": _NAMES,
    "groups": (_texts, "a table of texts"),
    "chosen": (_text, "a text"),
    "begin": (_text, "a text"),
    "opinions": (_list_of(_opinion), "a list of opinions"),
    "no_part_in_reference": (_list_of(_count), "a list of numbers of chains"),
    "diagnosis": _TABLE,
    "reduced": _TABLE,
    "redrawn": _TABLE,
}
_MAY_BE_NULL = {
    entry.name for entry in fields(Provenance) if entry.default is None and entry.name != "earlier"
}
_REQUIRED = {
    entry.name
    for entry in fields(Provenance)
    if entry.default is MISSING and entry.default_factory is MISSING
}
_LONGEST = 300
