"""Checks in the order of their needs, and what each of them contributes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import xarray as xr

from relabel.diagnostics.checks import BUILT_IN, CHECKS
from relabel.diagnostics.checks.base import Case, Check
from relabel.diagnostics.finding import OPEN, Finding, Open
from relabel.diagnostics.measurements import blank_fields, plain_values
from relabel.errors import RelabelError, SpecError

__all__ = ["FAILED", "Outcome", "in_order", "own_group", "run_checks", "with_needs"]

#: Code of the finding on a check of another package that failed.
FAILED = "check-failed"


@dataclass(frozen=True)
class Outcome:
    """All that one check contributes.

    Attributes
    ----------
    check : Check
    result : object
        None where there is no answer.
    numbers : dict of str to plain values
        Its keys of the JSON.
    slots : dict of str to list of dict
        Units -> its columns for every slot.
    findings : list of Finding
    variables : dict of str to Variable
        For the group ``relabel``.
    failed : bool
        Whether it raised an error, or a check did that it needs.
    """

    check: Check[Any]
    result: Any = None
    numbers: dict[str, Any] = field(default_factory=dict)
    slots: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    variables: dict[str, xr.Variable] = field(default_factory=dict)
    failed: bool = False

    @classmethod
    def blank(cls, check: Check[Any], findings: Iterable[Finding] = (), **more: Any) -> Outcome:
        """Contribute findings only, and the keys that are always there."""
        return cls(check, None, blank_fields(check.measurements), {}, list(findings), **more)


def in_order(checks: Iterable[type[Check[Any]]]) -> list[type[Check[Any]]]:
    """Sort checks so that each follows what it needs and uses; else they keep their order.

    Raises
    ------
    SpecError
        If a check needs one that is not registered.
    """
    given = list(checks)
    sorted_: dict[str, type[Check[Any]]] = {}

    def add(check: type[Check[Any]]) -> None:
        for other in (*check.needs, *check.uses):
            if other in check.needs and other.name not in CHECKS:
                raise SpecError(
                    f"the check {check.name!r} needs {other.name!r}, which is not registered"
                )
            if other in given and other.name not in sorted_:
                add(other)
        sorted_[check.name] = check

    for check in given:
        if check.name not in sorted_:
            add(check)
    return list(sorted_.values())


def with_needs(checks: Iterable[type[Check[Any]]]) -> list[type[Check[Any]]]:
    """Return some checks of this package, and all that they need."""
    found: dict[str, type[Check[Any]]] = {}
    waiting = list(checks)
    while waiting:
        check = waiting.pop()
        found[check.name] = check
        waiting += check.needs
    return [check for check in BUILT_IN if check.name in found]


def run_checks(case: Case, checks: Sequence[Check[Any]]) -> dict[str, Outcome]:
    """Run checks that are in order, and return what they contribute, by name.

    An error of a check of another package is a finding, and does not lose what the others found;
    but for a :class:`~relabel.errors.RelabelError`, which says what is wrong with the input.
    """
    done: dict[str, Outcome] = {}
    for number, check in enumerate(checks):
        case.progress(check.name, number, len(checks))
        unmet = [need.name for need in check.needs if _without_result(done, need.name)]
        done[check.name] = _left_out(check, unmet, done) if unmet else _guarded(check, case, done)
    case.progress("done", len(checks), len(checks))
    return done


def _without_result(done: Mapping[str, Outcome], name: str) -> bool:
    return name not in done or done[name].result is None


def _left_out(check: Check[Any], unmet: Sequence[str], done: Mapping[str, Outcome]) -> Outcome:
    """Leave out a check that lacks what it needs: that says why, unless it failed."""
    failed = [name for name in unmet if name in done and done[name].failed]
    if not failed:
        return Outcome.blank(check)
    why = f"the check {failed[0]!r}, which it needs, failed"
    question = Open(check.name, why, f"repair the check {failed[0]!r}")
    return Outcome.blank(check, [question.finding()], failed=True)


def _guarded(check: Check[Any], case: Case, done: Mapping[str, Outcome]) -> Outcome:
    """Ask a check; an error of another package's is a finding."""
    declared = [other.name for other in (*check.needs, *check.uses)]
    view = {name: done[name].result if name in done else None for name in declared}
    try:
        return _asked(check, replace(case, results=view), done)
    except RelabelError:
        raise
    except Exception as error:
        if type(check) in BUILT_IN:
            raise
        return _failed(check, f"{type(error).__name__}: {error}")


def _failed(check: Check[Any], error: str) -> Outcome:
    """What a check contributes that raised an error."""
    finding = Finding(
        FAILED,
        "error",
        f"the check {check.name!r} failed ({error}); the others are not affected",
        {"check": check.name, "module": type(check).__module__, "error": error},
        "report it to its authors, or uninstall its package; what it checks is not known",
    )
    return Outcome.blank(check, [finding], failed=True)


def _asked(check: Check[Any], case: Case, done: Mapping[str, Outcome]) -> Outcome:
    """Ask a check, and collect all that it contributes."""
    answer = check.run(case)
    result = None if isinstance(answer, Open) else answer
    findings = [answer.finding()] if isinstance(answer, Open) else []
    for finding in check.findings(case, result):
        if finding.code not in (*check.codes, OPEN):
            raise ValueError(f"the code {finding.code!r} is not among its codes")
        findings.append(replace(finding, evidence=plain_values(finding.evidence)))
    if result is None:
        outcome = Outcome.blank(check, findings)
    else:
        numbers = check.measure(case, result)
        if not isinstance(numbers, check.measurements):
            raise TypeError(f"measurements are not of the type {check.measurements.__name__}")
        slots = plain_values(check.measure_slots(case, result))
        variables = dict(check.variables(case, result)) if case.aligned.was_aligned else {}
        outcome = Outcome(check, result, plain_values(numbers), slots, findings, variables)
    _check_storable(outcome, case, done)
    return outcome


def _check_storable(outcome: Outcome, case: Case, done: Mapping[str, Outcome]) -> None:
    """Raise an error for what the JSON or the group ``relabel`` cannot hold."""
    found = [asdict(finding) for finding in outcome.findings]
    json.dumps([outcome.numbers, outcome.slots, found], allow_nan=False)
    for units, rows in outcome.slots.items():
        size = case.aligned.resolved.sizes[units]
        if len(rows) != size:
            raise ValueError(f"there are {len(rows)} rows for the {size} slots of {units!r}")
    if not outcome.variables:
        return
    own = own_group(case)
    taken = {*own.variables, *(name for other in done.values() for name in other.variables)}
    twice = taken & outcome.variables.keys()
    if twice:
        raise ValueError(f"there is a variable {twice.pop()!r} already")
    own.assign(outcome.variables)


def own_group(case: Case) -> xr.Dataset:
    """The group ``relabel`` without what an earlier diagnosis added."""
    own = case.aligned.groups["relabel"]
    known = case.aligned.provenance
    added = () if known is None else known.added
    return own.drop_vars([name for name in added if name in own])
