"""What checks say: findings, and open questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from relabel._util.text import join

__all__ = ["AVERAGE", "OPEN", "SEVERITIES", "Finding", "Open", "Severity", "named"]

Severity = Literal["error", "warning", "info"]

#: From the gravest on.
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")

#: Code of findings that name a question that stayed open.
OPEN = "open"

#: Remedy where the draws are networks that were trained independently.
AVERAGE = "judge the alignment by relabel.average: it computes the loss of the mean network"


def named(noun: str, items: Sequence[Any]) -> str:
    """Name some items, with their noun in singular or plural.

    Examples
    --------
    >>> named("slot", [1]), named("slot", [1, 2])
    ('slot 1', 'slots 1, 2')
    """
    return f"{noun}{'s' * (len(items) > 1)} {join(items)}"


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
        What to do; empty where there is nothing to do.
    """

    code: str
    severity: Severity
    message: str
    evidence: dict[str, Any] = field(default_factory=dict)
    remedy: str = ""


@dataclass(frozen=True)
class Open:
    """A question that could not be answered, why not, and what would answer it.

    Attributes
    ----------
    question : str
    why, remedy : str
        Clauses, such as "the draws are few (12)" and "draw more".
    """

    question: str
    why: str
    remedy: str

    def finding(self) -> Finding:
        """Return it as a finding with the code ``"open"``."""
        message = f"not answered: {self.question}, since {self.why}"
        return Finding(OPEN, "info", message, {"question": self.question}, self.remedy)
