"""What a diagnosis says: measurements, findings, the report of both, and the schema of its JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import xarray as xr

from relabel.data.containers import DrawsLike, unpack
from relabel.data.provenance import Provenance
from relabel.diagnostics.checks import BUILT_IN, registered
from relabel.diagnostics.checks.base import Check
from relabel.diagnostics.finding import Finding
from relabel.diagnostics.measurements import always_there, schema_of
from relabel.errors import DataError, SpecError
from relabel.spec.spec import SAMPLE_DIMS

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Diagnosis",
    "by_place",
    "schema",
    "stored_confidence",
    "unjudged_codes",
]

_MARK = {"error": "!!", "warning": "! ", "info": "- "}

#: Keys of the JSON that belong to no check, with their types and descriptions.
_FRAME: dict[str, Any] = {
    "labels_trustworthy": Annotated[
        bool,
        "Whether every label of the chains that are not flagged can be believed; false also where "
        "draws are too few to judge.",
    ],
    "version": Annotated[str, "Of the package."],
    "findings": Annotated[list[Finding], "The gravest first."],
}


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """What :func:`relabel.diagnose` found.

    Attributes
    ----------
    labels_trustworthy : bool
        Whether every label of the chains that are not flagged can be believed; False also where
        the draws are too few to judge.
    numbers : dict
        All that was measured: see ``diagnosis.schema.json`` in the package.
    findings : tuple of Finding
        The gravest first.
    """

    labels_trustworthy: bool
    numbers: Mapping[str, Any]
    findings: tuple[Finding, ...]

    @property
    def codes(self) -> list[str]:
        """Codes of all findings."""
        return [finding.code for finding in self.findings]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, as in the JSON."""
        found = [asdict(finding) for finding in self.findings]
        whole = {"labels_trustworthy": self.labels_trustworthy} | dict(self.numbers)
        return whole | {"findings": found}

    def to_json(self, indent: int | None = 2) -> str:
        """Write everything as JSON; what is not known is null."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Diagnosis:
        """Rebuild a diagnosis from what :meth:`to_dict` returned."""
        numbers = {k: v for k, v in values.items() if k not in ("labels_trustworthy", "findings")}
        findings = tuple(Finding(**finding) for finding in values["findings"])
        return cls(bool(values["labels_trustworthy"]), numbers, findings)

    def to_dataframe(self) -> pd.DataFrame:
        """Return one row per slot: confidence, spare or not, median removal loss, kind."""
        import pandas as pd

        return pd.DataFrame(self.numbers["slots"])

    def _headline(self) -> str:
        if self.labels_trustworthy:
            return "labels can be believed"
        codes = unjudged_codes()
        unjudged = [finding for finding in self.findings if finding.code in codes]
        if not unjudged or any(finding.severity == "error" for finding in self.findings):
            return "labels CANNOT all be believed"
        number = unjudged[0].evidence.get("n_draws")
        few = "" if number is None else f" from {number} draw{'s' * (number != 1)}"
        return f"labels cannot be judged{few}"

    def __repr__(self) -> str:
        """Show the report, as ``print`` does."""
        return str(self)

    def __str__(self) -> str:
        """Format the diagnosis as a short report."""
        apart = " within each mode" if len(self.numbers["modes"]) > 1 else ""
        lines = [self._headline() + apart]
        flagged = self.numbers["chains_flagged"]
        if flagged and len(flagged) < len(self.numbers["chains"]):
            lines[0] += f" ({len(flagged)} of {len(self.numbers['chains'])} chains left out)"
        facts = [fact for check in by_place() for fact in _facts(check, self.numbers)]
        width = max((len(word) for word, _ in facts), default=0)
        lines += [f"{word:<{width}}  {line}" for word, line in facts]
        for finding in self.findings:
            lines.append(f"{_MARK[finding.severity]} {finding.code}: {finding.message}")
            if finding.remedy:
                lines.append(f"     -> {finding.remedy}")
        return "\n".join(lines)


def by_place(checks: Iterable[type[Check[Any]]] | None = None) -> list[type[Check[Any]]]:
    """Return checks in the order of the report and of the keys of the JSON; all by default."""
    return sorted(registered() if checks is None else checks, key=lambda check: check.place)


def unjudged_codes() -> set[str]:
    """Codes of findings that say that labels could not be judged."""
    return {code for check in registered() for code in check.unjudged}


def _facts(check: type[Check[Any]], numbers: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Lines of a check, if its measurements are there: an older version may not have had it."""
    keys = {entry.name for entry in fields(check.measurements) if always_there(entry)}
    if not keys <= numbers.keys():
        return
    try:
        yield from check().lines(numbers)
    except Exception as error:
        if check in BUILT_IN:
            raise
        yield check.name, f"cannot be shown ({type(error).__name__}: {error})"


# ---------------------------------------------------------------------- schema


def schema(checks: Iterable[type[Check[Any]]] | None = None) -> dict[str, Any]:
    """Return the JSON Schema of :meth:`Diagnosis.to_json`.

    It follows from the types of the measurements that checks declare. The file
    ``diagnosis.schema.json`` in the package is that of its own checks.

    Parameters
    ----------
    checks : iterable of Check classes, optional
        All that are registered by default, those of other packages too.

    Raises
    ------
    SpecError
        If two checks measure the same, or what belongs to no check.
    """
    checks = by_place(checks)
    frame = {key: schema_of(hint) for key, hint in _FRAME.items()}
    findings = frame.pop("findings")
    keys: dict[str, Any] = {}
    for check in checks:
        for key, own in schema_of(check.measurements)["properties"].items():
            shared = own.get("type") == "object" and "properties" not in own
            if key in (*_FRAME, "slots") or (key in keys and not (shared and keys[key] == own)):
                raise SpecError(
                    f"the check {check.name!r} measures {key!r}, which is there already"
                )
            keys[key] = own
    properties = frame | keys | {"slots": _slots(checks), "findings": findings}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Diagnosis of aligned posterior draws",
        "description": "What relabel.diagnose found. What is not known is null; chains are named "
        "by their coordinates, slots by their numbers.",
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _slots(checks: Iterable[type[Check[Any]]]) -> dict[str, Any]:
    """Schema of the table of slots; columns that are not always there are not required."""
    columns: dict[str, Any] = {"units": schema_of(str), "slot": schema_of(int)}
    required = list(columns)
    for check in checks:
        if check.slot is None:
            continue
        for name, own in schema_of(check.slot)["properties"].items():
            if columns.setdefault(name, own) != own:
                raise SpecError(f"the check {check.name!r} has another column {name!r} of slots")
        required += [entry.name for entry in fields(check.slot) if always_there(entry)]
    rows = {
        "type": "object",
        "properties": columns,
        "required": required,
        "additionalProperties": False,
    }
    return {"type": "array", "items": rows, "description": "One row for each slot."}


# ---------------------------------------------------------------------- what was stored


def stored_confidence(data: DrawsLike) -> dict[str, xr.DataArray]:
    """Return the mean probability of each slot's label, as :func:`relabel.diagnose` stored it.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset
        What `diagnose` returned.

    Returns
    -------
    dict of str to DataArray
        Units -> confidence, with the units' name as dimension. Draws in which the slot is empty
        count as zero; chains that are flagged are left out, unless all are. Sets of units whose
        labels could not be judged are missing.

    Raises
    ------
    DataError
        If the draws were not aligned, or not diagnosed.

    Examples
    --------
    >>> import relabel
    >>> from relabel.simulate import mixture
    >>> simulated = mixture(3, separation=6, draws=50)
    >>> aligned = relabel.align(simulated.data, simulated.spec)
    >>> data, diagnosis = relabel.diagnose(aligned)
    >>> stored_confidence(data)["component"].round(2).values
    array([1., 1., 1.])
    """
    groups = unpack(data)
    if "relabel" not in groups:
        raise DataError(
            "these draws were not aligned (there is no group 'relabel'): align them "
            "(relabel.align), then diagnose them (relabel.diagnose)"
        )
    if Provenance.within(groups).diagnosis is None:
        raise DataError(
            "these draws were not diagnosed: use the draws that relabel.diagnose returns, as in "
            "data, diagnosis = relabel.diagnose(aligned)"
        )
    own = groups["relabel"]
    included = xr.ones_like(own["loss"].transpose(*SAMPLE_DIMS), dtype=bool)
    if "excluded" in own:
        included &= own["excluded"] == 0
    if "chain_flagged" in own and not own["chain_flagged"].all():
        included &= own["chain_flagged"] == 0
    suffix = "_label_probability"
    found = {}
    for name in filter(lambda name: str(name).endswith(suffix), own.data_vars):
        units = str(name).removesuffix(suffix)
        label = own[name].transpose(*SAMPLE_DIMS, units).values[included.values]
        mean = np.nan_to_num(label).mean(axis=0)
        coords = {units: own[units]} if units in own.coords else None
        found[units] = xr.DataArray(mean, coords, (units,), name=f"{units}_confidence")
    return found
