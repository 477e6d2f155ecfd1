"""Provenance: how aligned draws were made, as a typed record; read and written here alone.

The record is JSON text, the attribute ``relabel`` of the group of that name: attributes of netCDF
take no tables. Its key ``format`` counts the forms it has had; records of every older form are
read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import Any

import xarray as xr

from relabel._util.text import plain
from relabel.errors import DataError, SpecError, UnknownSymmetryError
from relabel.spec.spec import Spec

__all__ = ["ATTRIBUTE", "FORMAT", "Provenance"]

#: Name of the attribute (and of the group) that holds the record.
ATTRIBUTE = "relabel"

#: Form of the records that are written. 1: up to version 0.1.0, without this number.
FORMAT = 2


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
    added : tuple of str
        Variables of the group ``relabel`` that were added after the alignment.
    groups : mapping of str to str
        How each group of draws took part: ``"same draws"``, ``"by coordinates"``, ``"by
        position"``, or ``"left: "`` and why. Empty in older records.
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
    ('mean', 1, ('posterior/mu',))
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
    added: tuple[str, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)
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
        except (KeyError, TypeError, ValueError, SpecError) as error:
            raise DataError(
                f"the group 'relabel' is damaged: its attribute cannot be read ({error})"
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
        entries = _upgraded(values)
        known = {entry.name for entry in fields(cls)}
        unknown = sorted(set(entries) - known)
        if unknown:
            raise ValueError(f"unknown entries {', '.join(unknown)}")
        for name in ("spec", "criterion", "options", "versions", "groups"):
            if not isinstance(entries.get(name, {} if name == "groups" else None), Mapping):
                raise TypeError(f"{name} must be a table")
        if not isinstance(entries["criterion"].get("name"), str):
            raise TypeError("the criterion must have a name")
        for name in _TUPLES & set(entries):
            entries[name] = _strings_or_numbers(name, entries[name])
        if entries.get("earlier") is not None:
            entries["earlier"] = cls.from_dict(entries["earlier"])
        return cls(**entries | {"spec": Spec.from_dict(entries["spec"])})

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

    def without_findings(self) -> Provenance:
        """Return the record of the alignment alone, without what was added afterwards."""
        return replace(self, diagnosis=None, added=())


_TUPLES = {"variables", "losses", "warnings", "flags", "offsets", "added", "no_part_in_reference"}
_OPTIONAL = {"flags", "offsets", "added"}

#: Format 1 -> 2: names of the options of `align`. Criteria know the old names of their own.
_OPTIONS = {"seed": "rng", "n_kicks": "n_perturbations"}


@lru_cache(maxsize=16)
def _parsed(text: str) -> Provenance:
    """Parse a record; one that is asked for again is not parsed again."""
    return Provenance.from_dict(json.loads(text))


def _upgraded(values: Any) -> dict[str, Any]:
    """Entries of a record in the present form."""
    if not isinstance(values, Mapping):
        raise TypeError("it must be a table")
    form = values.get("format", 1)
    if not isinstance(form, int) or form > FORMAT:
        raise DataError(
            f"the record of the alignment has the format {form!r}, and this version of relabel "
            f"reads up to {FORMAT}: install a newer version"
        )
    entries = {name: value for name, value in values.items() if name != "format"}
    if form == 1 and isinstance(entries.get("options"), Mapping):
        options = entries["options"].items()
        entries["options"] = {_OPTIONS.get(key, key): value for key, value in options}
    return entries


def _strings_or_numbers(name: str, values: Any) -> tuple[Any, ...] | None:
    """A list of JSON as a tuple."""
    if values is None:
        return None
    if not isinstance(values, (list, tuple)):
        raise TypeError(f"{name} must be a list")
    return tuple(values)
