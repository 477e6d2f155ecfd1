"""Damage files and try them: ``python tests/fuzz/run.py --files 5000 --seed 0``.

Prints a table and a summary in JSON, and returns 1 if there was a violation (``attack.py`` says
what is one). A case is known by the seed and its number, whatever ran before it:
``python tests/fuzz/run.py --seed 0 --only 1234 --keep FOLDER`` repeats it and keeps the files.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # files.py

import pool
from attack import Outcome, attack

from relabel._util.versions import installed

_SHOWN = 5
_PACKAGES = ("h5netcdf", "h5py", "numpy", "xarray", "zarr")


def main() -> int:
    """Try the cases that the arguments ask for."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        originals = pool.prepare(Path(folder))
        if options.keep is not None:
            return _kept(options, originals)
        began = time.monotonic()
        found = list(_tried(options, originals))
    summary = summed(found, seed=options.seed, seconds=time.monotonic() - began)
    _print_table(summary)
    text = json.dumps(summary, indent=1)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(text + "\n", encoding="utf-8")
    else:
        print(text)
    return int(bool(summary["violations"]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=5000, help="how many damaged files")
    parser.add_argument("--minutes", type=float, default=None, help="end after this time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, nargs="+", help="numbers of the cases to repeat")
    parser.add_argument("--keep", type=Path, help="repeat the case --only here, and keep its files")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds for one file")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the summary to this file")
    options = parser.parse_args()
    if options.keep is not None and len(options.only or ()) != 1:
        parser.error("--keep needs one number in --only")
    return options


def _tried(options: argparse.Namespace, originals: Path) -> Iterator[tuple[Outcome, float]]:
    end = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    numbers = options.only or range(options.files)
    cases = itertools.takewhile(lambda _: time.monotonic() < end, numbers)
    yield from pool.outcomes(
        attack,
        cases,
        originals,
        seed=options.seed,
        processes=options.processes,
        timeout=options.timeout,
    )


def _kept(options: argparse.Namespace, originals: Path) -> int:
    """Repeat one case in this process, in a folder that stays."""
    options.keep.mkdir(parents=True)
    outcome = attack(options.seed, options.only[0], originals, options.keep.absolute())
    print(outcome)
    return int(bool(outcome.violations))


def summed(found: list[tuple[Outcome, float]], *, seed: int, seconds: float) -> dict[str, Any]:
    """Return the counts and all violations as plain values."""
    found = sorted(found, key=lambda pair: pair[0].case)
    ended: dict[str, Counter[str]] = {}
    damages: dict[str, Counter[str]] = {}
    violations = []
    for outcome, _ in found:
        end = "violation" if outcome.violations else outcome.ended.partition(":")[0]
        ended.setdefault(outcome.subject or "?", Counter())[end] += 1
        damages.setdefault(outcome.damage.partition(":")[0][:12], Counter())[end] += 1
        violations += [
            {"case": outcome.case, "subject": outcome.subject, "by": outcome.by}
            | {"damage": outcome.damage}
            | one
            for one in outcome.violations
        ]
    kinds = Counter(violation["kind"] for violation in violations)
    return {
        "what": "fuzz",
        "seed": seed,
        "files": len(found),
        "seconds": round(seconds, 1),
        "slowest": round(max((took for _, took in found), default=0.0), 1),
        "worked": sum(outcome.ended == "worked" for outcome, _ in found),
        "refused": sum(outcome.ended.startswith("refused") for outcome, _ in found),
        "kinds": dict(sorted(kinds.items())),
        "versions": {name: installed(name) for name in _PACKAGES},
        "subjects": {name: dict(counts) for name, counts in sorted(ended.items())},
        "violations": violations,
    }


def _print_table(summary: dict[str, Any]) -> None:
    print(f"{'':34}{'worked':>9}{'refused':>9}{'violation':>11}")
    for name, counts in summary["subjects"].items():
        numbers = [counts.get(end, 0) for end in ("worked", "refused", "violation")]
        print(f"{name:34}{numbers[0]:9}{numbers[1]:9}{numbers[2]:11}")
    places: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for violation in summary["violations"]:
        places.setdefault((violation["kind"], violation["where"]), []).append(violation)
    for (kind, where), those in sorted(places.items(), key=lambda item: -len(item[1])):
        cases = ", ".join(str(one["case"]) for one in those[:_SHOWN])
        print(f"{len(those):5} {kind:11} {where}  (cases {cases})")
        print(f"      {those[0]['subject']}, {those[0]['damage'][:90]}: {those[0]['text'][:160]!r}")
    broken = len({violation["case"] for violation in summary["violations"]})
    print(
        f"{summary['files']} damaged files in {summary['seconds']:g} s: "
        f"{summary['worked']} worked, {summary['refused']} refused, {broken} with violations"
    )


if __name__ == "__main__":
    sys.exit(main())
