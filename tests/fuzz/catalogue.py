"""Figures of the fault catalogue, from the results of the runs.

``python tests/fuzz/catalogue.py results/*.json`` writes them into docs/reliability.md, between its
two marks. A result is a JSON object whose entry ``what`` says which run it was: ``fuzz``
(``run.py``), ``kills`` or ``full disk``; of the last two every number and text at the top is a line
of the table, and every table in it a table of its own.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"

_MARKS = re.compile(r"(<!-- figures[^>]*-->\n).*?(<!-- end of figures -->)", re.DOTALL)
_TITLES = {"fuzz": "Damaged files", "kills": "Kills", "full disk": "Full disk"}
_HIDDEN = {"what", "versions", "seconds"}


def main(paths: list[str]) -> None:
    """Write the tables of all results into the page."""
    results = [json.loads(Path(path).read_text(encoding="utf-8")) for path in paths]
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")


def filled(page: str, results: list[dict[str, Any]]) -> str:
    """Return the page with the tables of these results instead of those in it.

    Raises
    ------
    ValueError
        If there are no marks in the page, or a result is of no known run.
    """
    unknown = [str(result.get("what")) for result in results if result.get("what") not in _TITLES]
    if unknown:
        raise ValueError(f"no known run: {', '.join(unknown)}; they are {', '.join(_TITLES)}")
    order = sorted(results, key=lambda result: list(_TITLES).index(result["what"]))
    tables = "\n".join(_section(result) for result in order)
    made, marks = _MARKS.subn(lambda found: f"{found[1]}\n{tables}\n{found[2]}", page)
    if marks != 1:
        raise ValueError(f"{PAGE.name}: its figures must stand between two marks")
    return made


def _section(result: dict[str, Any]) -> str:
    rows = _of_fuzz(result) if result["what"] == "fuzz" else _plain(result)
    versions = ", ".join(f"{name} {number}" for name, number in result.get("versions", {}).items())
    about = f"In {result['seconds']:,.0f} s" if "seconds" in result else ""
    about = ", with ".join(filter(None, (about, versions)))
    lines = [f"### {_TITLES[result['what']]}", "", *rows, ""]
    return "\n".join([*lines, f"{about}.", ""] if about else lines)


def _of_fuzz(result: dict[str, Any]) -> list[str]:
    broken = {violation["case"] for violation in result["violations"]}
    kinds = dict.fromkeys(("traceback", "lines", "hang", "signal", "source", "left"), 0)
    kinds |= {"unreadable": 0, "silent": 0} | result["kinds"]
    rows = [
        ("damaged files", result["files"]),
        ("seed", result["seed"]),
        ("read, aligned and undone", result["worked"]),
        ("refused in one line", result["refused"]),
        ("with a violation", len(broken)),
        *((f"… of kind {kind}", number) for kind, number in kinds.items()),
        ("longest, in seconds", result["slowest"]),
    ]
    table = _table(("", "number"), rows)
    ends = ("worked", "refused", "violation")
    subjects = [
        (f"`{name}`", *(counts.get(end, 0) for end in ends))
        for name, counts in result["subjects"].items()
    ]
    return [*table, "", *_table(("file", *ends), subjects)]


def _plain(result: dict[str, Any]) -> list[str]:
    rows = [
        (name.replace("_", " "), value)
        for name, value in result.items()
        if name not in _HIDDEN and isinstance(value, int | float | str)
    ]
    tables = _table(("", "number"), rows)
    for name, value in result.items():
        if isinstance(value, dict) and value and name not in _HIDDEN:
            inner = [
                (key, json.dumps(entry) if isinstance(entry, dict | list) else entry)
                for key, entry in value.items()
            ]
            tables += ["", *_table((name.replace("_", " "), "number"), inner)]
    return tables


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> list[str]:
    lines = [" | ".join(map(_cell, row)) for row in (head, ["---"] * len(head), *rows)]
    return [f"| {line} |" for line in lines]


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


if __name__ == "__main__":
    main(sys.argv[1:])
