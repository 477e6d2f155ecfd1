"""What a diagnosis says: thresholds, findings, and the report of both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

from relabel.errors import SpecError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["UNJUDGED", "Diagnosis", "Finding", "Thresholds", "schema"]

#: Codes of findings that say that labels cannot be judged; as errors they say why for some units.
UNJUDGED = ("certainty-unknown", "null-unknown")

Severity = Literal["error", "warning", "info"]
_NAMES = {
    "weights_before": "weights before",
    "weights_after": "weights after",
    "weights_after_unflagged": "weights after, without flagged chains",
    "invariant": "sums over units",
    "function": "outputs",
    "function_unflagged": "outputs, without flagged chains",
}
_MOST_SHOWN = 20  # slots of the report
_LEAST_SHOWN = 0.005  # share of draws that is named
_MARK = {"error": "!!", "warning": "! ", "info": "- "}


@dataclass(frozen=True)
class Thresholds:
    """Where :func:`relabel.diagnose` draws its lines; none depends on the data set.

    On the command line each is set as in ``--set null_gap=0.2``.

    Parameters
    ----------
    confidence : float, default 0.9
        ``loose-slots``: a slot's label can be believed if it is right with this mean probability.
        One wrong label in ten moves a slot's mean by a tenth of the distance of two units, which is
        what a plot shows.
    ambiguous : float, default 0.9
        ``ambiguous-draws``: a draw is ambiguous if all its labels are right with a lower
        probability. In posteriors that are identified it is hardly any draw, in diffuse ones most;
        more than one less this share of them are pointed out.
    null_gap : float, default 0.1
        ``null``: the slots must explain this much more of the variance than those of shuffled
        units. The null's own spread is some hundredths at most; below a tenth little more than
        noise was sorted.
    agreement : float, default 0.9
        ``starts-disagree``: share of labels that must come out alike from other starts (median over
        starts): below it the labels tell the start, not the draws.
    sweeps : int, default 10
        ``many-sweeps``: more are worth a remark: sharp modes settle in fewer than five.
    rhat : float, default 1.05
        ``rhat-weights``: larger values are pointed out. Vehtari et al. (2021) ask for 1.01, of
        which weights of networks are seldom capable.
    n_sd, n_nats : float, default 5.0
        ``chains-flagged``: gap of a chain's median `lp` beyond which it is flagged, in standard
        deviations within chains plus nats (see :func:`relabel.numerics.chains.flag_chains`).
    function_sd : float, default 3.0
        ``chains-flagged``: distance of a chain's mean outputs, in standard deviations.
    level : float, default 0.95
        ``spare-units``, ``duplicates``: level of the chi-squared quantile that removal and merge
        losses are held against.
    apart : float, default 2.0
        ``modes``: separation (see :func:`relabel.diagnostics.kernels.clustering.clusters`).
    alpha : float, default 0.01
        ``modes``, ``orbit-not-uniform``, ``scale-law``: level of tests. A hundred sound posteriors
        give one false alarm each.
    equivalent : float, default 1.0
        ``equivalent-modes``: distance in function, in standard deviations, below which two modes
        have nearly one function: predictions hardly tell them apart.

    Raises
    ------
    SpecError
        If a threshold is not a positive number, or a probability not below one.
    """

    confidence: float = 0.9
    ambiguous: float = 0.9
    null_gap: float = 0.1
    agreement: float = 0.9
    sweeps: int = 10
    rhat: float = 1.05
    n_sd: float = 5.0
    n_nats: float = 5.0
    function_sd: float = 3.0
    level: float = 0.95
    apart: float = 2.0
    alpha: float = 0.01
    equivalent: float = 1.0

    def __post_init__(self) -> None:
        """Check that all are numbers that make sense."""
        shares = ("confidence", "ambiguous", "null_gap", "agreement", "level", "alpha")
        for entry in fields(self):
            value: Any = getattr(self, entry.name)
            number = isinstance(value, Real) and not isinstance(value, bool)
            most = 1.0 if entry.name in shares else float("inf")
            if not number or not 0 < value < most:
                raise SpecError(
                    f"threshold {entry.name} lies between 0 and {most:g}, not {value!r}"
                )


@dataclass(frozen=True)
class Finding:
    """One thing that the user should know.

    Attributes
    ----------
    code : str
        Stable name, such as ``"null"`` or ``"chains-flagged"``.
    severity : {"error", "warning", "info"}
        An error: labels cannot be believed. A warning: something to act upon.
    message : str
        In plain words.
    evidence : dict
        The numbers behind it.
    remedy : str
        What to do; empty where there is nothing.
    """

    code: str
    severity: Severity
    message: str
    evidence: dict[str, Any] = field(default_factory=dict)
    remedy: str = ""


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """What :func:`relabel.diagnose` found.

    Attributes
    ----------
    labels_trustworthy : bool
        Whether every label of the chains that are not flagged can be believed; False also where
        the draws are too few to tell.
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
        unjudged = [finding for finding in self.findings if finding.code in UNJUDGED]
        if not unjudged or any(finding.severity == "error" for finding in self.findings):
            return "labels CANNOT all be believed"
        number = unjudged[0].evidence["n_draws"]
        return f"labels cannot be judged from {number} draw{'s' * (number != 1)}"

    def __repr__(self) -> str:
        """Show the report, as ``print`` does."""
        return str(self)

    def __str__(self) -> str:
        """Lay the diagnosis out as a short report."""
        apart = " within each mode" if len(self.numbers["modes"]) > 1 else ""
        lines = [self._headline() + apart]
        flagged = self.numbers["chains_flagged"]
        if flagged and len(flagged) < len(self.numbers["chains"]):
            lines[0] += f" ({len(flagged)} of {len(self.numbers['chains'])} chains left out)"
        facts = _facts(self.numbers)
        width = max(len(word) for word, _ in facts) if facts else 0
        lines += [f"{word:<{width}}  {line}" for word, line in facts]
        for finding in self.findings:
            lines.append(f"{_MARK[finding.severity]} {finding.code}: {finding.message}")
            if finding.remedy:
                lines.append(f"     -> {finding.remedy}")
        return "\n".join(lines)


def _facts(numbers: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The figures of the report: a word and a line each."""
    facts = [
        ("confidence", f"{units}: {_first(slots)}")
        for units, slots in numbers["confidence"].items()
    ]
    if numbers["variance_explained"] is not None:
        low, high = (_shown(end, ".3f") for end in numbers["variance_explained_null_interval"])
        explained = _shown(numbers["variance_explained"], ".3f")
        shuffled = _shown(numbers["variance_explained_null"], ".3f")
        line = f"slots explain {explained} of the variance, shuffled ones {shuffled}"
        facts.append(("structure", f"{line} ({low} to {high})"))
    for word, key, form in (("max R-hat", "rhat", ".3f"), ("min ESS", "ess", ".0f")):
        known = {k: v for k, v in numbers[key].items() if v is not None}
        named = ", ".join(f"{_NAMES.get(k, k)} {format(v, form)}" for k, v in known.items())
        facts += [(word, named)] if known else []
    for units, law in numbers["scale_law"].items():
        if law["p_value"] is not None:
            facts.append(("scale law", f"{units}: p = {law['p_value']:.2g}"))
    for units, width in numbers["effective_width"].items():
        pmf = enumerate(width["pmf"])
        needed = ", ".join(f"{n} in {share:.0%}" for n, share in pmf if share >= _LEAST_SHOWN)
        facts.append(("width", f"{units}: {needed} of the draws"))
    if numbers["modes"]:
        facts.append(("modes", str(len(numbers["modes"]))))
    return facts


def _first(slots: list[float | None]) -> str:
    """The confidence of the first slots, and how many there are if that is not all."""
    more = f" ... ({len(slots)} slots)" if len(slots) > _MOST_SHOWN else ""
    return " ".join(_shown(value, ".2f") for value in slots[:_MOST_SHOWN]) + more


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def schema() -> dict[str, Any]:
    """Return the JSON Schema of :meth:`Diagnosis.to_json`."""
    text = (
        resources.files("relabel.diagnostics").joinpath("diagnosis.schema.json").read_text("utf-8")
    )
    loaded: dict[str, Any] = json.loads(text)
    return loaded
