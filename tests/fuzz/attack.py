"""One damaged file on its way through the library or the command, and what may not happen.

It may be read or refused: refused means a ``RelabelError`` of one line, of the command one line and
status 2. What may not happen, a *violation*:

traceback
    another error; of the command another status.
lines
    an error of several lines, or anything beside it on the standard error of the command.
hang, signal
    no end within the time, or an end of the process; found by ``pool.py``.
source
    the input has changed.
left
    there is a file that was not asked for, or a result after a refusal.
unreadable
    what was written cannot be read again, or cannot be undone.
silent
    values differ from what they were, and nothing was said: ``undo`` after ``align`` against the
    draws as they were read; ``undo`` of a record against the draws before the alignment.
"""

from __future__ import annotations

import os
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import damage
import numpy as np
import records
import xarray as xr
from files import fingerprint
from subjects import Subject, subjects

import relabel
from relabel.alignment.provenance import relabelled
from relabel.data.containers import unpack
from relabel.io.reading import load

SHARE_OF_COMMANDS = 0.25


@dataclass
class Outcome:
    """What became of one damaged file."""

    case: int
    subject: str = ""
    by: str = ""
    damage: str = ""
    ended: str = ""
    message: str = ""
    violations: list[dict[str, str]] = field(default_factory=list)

    def blame(self, kind: str, where: str, text: str) -> None:
        """Note a violation."""
        self.violations.append({"kind": kind, "where": where, "text": text[:500]})


class RefusedError(Exception):
    """The input was refused, as it may be."""


def attack(seed: int, case: int, originals: Path, folder: Path) -> Outcome:
    """Damage a copy of a file in `folder`, as seed and number of the case say, and try it."""
    rng = np.random.default_rng([seed, case])
    subject = _drawn(rng)
    paths = _copied(originals / subject.name.replace("/", "_"), folder)
    tampered = subject.checked and rng.random() < 0.7
    said = records.tamper(rng, paths[0]) if tampered else damage.damage(rng, paths)
    by = "command" if rng.random() < SHARE_OF_COMMANDS else "functions"
    outcome = Outcome(case, subject.name, by, said)
    before, names = fingerprint(folder), _names(folder)
    truth = _truth(originals / f"{subject.name}.raw.nc") if subject.checked else None
    try:
        _BY[by](outcome, subject, paths, truth)
        outcome.ended = "worked"
    except RefusedError as refused:
        outcome.ended = f"refused: {refused}"
    now = fingerprint(folder)
    if any(now.get(path) != content for path, content in before.items()):
        outcome.blame("source", outcome.ended, "the input has changed")
    extra = _names(folder) - names - _asked(outcome, subject)
    if extra:
        outcome.blame("left", outcome.ended, ", ".join(sorted(extra)))
    return outcome


@cache
def _all() -> dict[str, Subject]:
    return subjects()


def _drawn(rng: np.random.Generator) -> Subject:
    known = list(_all().values())
    weights = np.array([subject.weight for subject in known], dtype=float)
    while True:  # packages that are not installed change no other case
        subject = known[rng.choice(len(known), p=weights / weights.sum())]
        if subject.installed:
            return subject


def _copied(original: Path, folder: Path) -> list[Path]:
    made = []
    for path in sorted(original.iterdir()):
        copy = shutil.copytree if path.is_dir() else shutil.copyfile
        made.append(Path(copy(path, folder / path.name)))
    return made


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _asked(outcome: Outcome, subject: Subject) -> set[str]:
    """Return the names of results that may be there."""
    unreadable = any(violation["kind"] == "unreadable" for violation in outcome.violations)
    made = 2 if outcome.ended == "worked" else int(unreadable)
    return {f"{name}{subject.target}" for name in ("out", "back")[:made]}


@cache
def _truth(path: Path) -> dict[str, xr.Dataset]:
    with xr.open_datatree(path, engine="h5netcdf") as tree:
        return {name: dataset.load() for name, dataset in unpack(tree).items()}


# ---------------------------------------------------------------- by functions


def _by_functions(
    outcome: Outcome, subject: Subject, paths: list[Path], truth: dict[str, xr.Dataset] | None
) -> None:
    with _stage(outcome, "open"):
        draws = relabel.open_draws(paths if len(paths) > 1 else paths[0], **subject.options)
    with _stage(outcome, "read"):
        load(draws, (), paths[0])
    with suppress(RefusedError), _stage(outcome, "propose"):
        relabel.propose(draws)
    if truth is not None:
        with _stage(outcome, "undo"):
            before = relabel.undo(draws)
        _compare(outcome, "undo", truth, unpack(before), subject.exact)
    _there_and_back(outcome, subject, paths, draws, truth)


def _there_and_back(
    outcome: Outcome,
    subject: Subject,
    paths: list[Path],
    draws: Any,
    truth: dict[str, xr.Dataset] | None,
) -> None:
    """Align, save, read, undo, save: back at the draws as they were read."""
    folder = paths[0].parent
    out, back = (folder / f"{name}{subject.target}" for name in ("out", "back"))
    with _stage(outcome, "align"):
        aligned = relabel.align(draws, subject.spec)
    with _stage(outcome, "save"):
        relabel.save(aligned, out, source=paths)
    with _stage(outcome, "reopen", must=True):
        again = relabel.open_draws(out, **_options_of(out, subject))
        load(again, (), out)
    if out.suffix not in (".nc", ".zarr"):  # no record in files of weights
        expected, found = (_in_order(unpack(data)) for data in (aligned, again))
        _compare(outcome, "reopen", expected, found, exact=True)
        return
    with _stage(outcome, "undo again", must=True):
        undone = relabel.undo(again)
        relabel.save(undone, back, source=out, changed=relabelled(again))
    if truth is None:
        truth = unpack(relabel.undo(draws) if "relabel" in unpack(draws) else draws)
    _compare(outcome, "undo again", truth, unpack(undone), subject.exact)


def _in_order(groups: dict[str, xr.Dataset]) -> dict[str, xr.Dataset]:
    return {"posterior": groups["posterior"].drop_vars(groups["posterior"].coords)}


def _options_of(out: Path, subject: Subject) -> dict[str, Any]:
    return dict(subject.options) if out.suffix not in (".nc", ".zarr") else {}


@contextmanager
def _stage(outcome: Outcome, stage: str, must: bool = False) -> Iterator[None]:
    """Turn errors into a refusal, and into a violation where they may not be."""
    try:
        yield
    except relabel.RelabelError as error:
        outcome.message = str(error)
        if "\n" in str(error).strip():
            outcome.blame("lines", stage, str(error))
        if must:
            outcome.blame("unreadable", stage, str(error))
        raise RefusedError(stage) from error
    except MemoryError as error:
        outcome.message = "MemoryError"
        raise RefusedError(stage) from error
    except Exception as error:
        kind = "unreadable" if must else "traceback"
        outcome.blame(kind, f"{stage}: {_place(error)}", f"{type(error).__name__}: {error}")
        raise RefusedError(stage) from error


def _place(error: BaseException) -> str:
    """Return the last line of this package that an error came through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if f"{os.sep}relabel{os.sep}" in f.filename]
    if not own:
        return type(error).__name__
    last = own[-1]
    name = last.filename.rpartition(f"{os.sep}relabel{os.sep}")[2]
    return f"{type(error).__name__} in relabel/{name}, {last.name}"


def _compare(
    outcome: Outcome,
    where: str,
    expected: dict[str, xr.Dataset],
    found: dict[str, xr.Dataset],
    exact: bool,
) -> None:
    """Blame values of the posterior that differ, or are missing."""
    for group in ("posterior", "warmup_posterior"):
        for name, array in expected.get(group, xr.Dataset()).data_vars.items():
            if group not in found or name not in found[group]:
                outcome.blame("silent", where, f"{group}/{name} is missing")
                continue
            other = found[group][name]
            if set(other.dims) == set(array.dims):
                other = other.transpose(*array.dims)
            if not _same(array.values, other.values, exact):
                outcome.blame("silent", where, f"{group}/{name} differs")


def _same(one: np.ndarray, other: np.ndarray, exact: bool) -> bool:
    if one.shape != other.shape:
        return False
    if exact or one.dtype.kind not in "fc":
        nan = one.dtype.kind in "fc"
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=nan)
    scale = np.max(np.abs(one), initial=0.0, where=np.isfinite(one))
    close = np.isclose(one, other, rtol=1e-6, atol=1e-9 * float(scale), equal_nan=True)
    return bool(close.all())


# ------------------------------------------------------------------ by command


def _by_command(
    outcome: Outcome, subject: Subject, paths: list[Path], truth: dict[str, xr.Dataset] | None
) -> None:
    folder = paths[0].parent
    out, back = (folder / f"{name}{subject.target}" for name in ("out", "back"))
    files = [str(path) for path in paths]
    dims = subject.options.get("sample_dims")
    extra = ["--sample-dims", dims] if dims else []
    with suppress(RefusedError):
        _command(outcome, "inspect", *files, *extra)
    if truth is not None:
        _command(outcome, "undo", *files, "-o", str(back), "-q")
        undone = unpack(relabel.open_draws(back))
        _compare(outcome, "undo", truth, undone, subject.exact)
        return
    _command(outcome, "align", *files, *extra, *_spec_of(subject), "-o", str(out), "-q")
    if out.suffix in (".nc", ".zarr"):
        _command(outcome, "undo", str(out), "-o", str(back), "-q", must=True)


def _spec_of(subject: Subject) -> list[str]:
    spec = subject.spec.as_dict()
    pairs = [("--units", f"{name}={units}") for name, units in spec["units"].items()]
    pairs += [("--axes", f"{name}: {line}") for name, line in spec.get("axes", {}).items()]
    pairs += [("--sizes", f"{name}={size}") for name, size in spec.get("sizes", {}).items()]
    return [word for pair in pairs for word in pair]


def _command(outcome: Outcome, name: str, *args: str, must: bool = False) -> None:
    """Run the command in this process; what it says goes to the standard streams."""
    from relabel.cli import app

    _empty_streams()
    before, sys.argv = sys.argv, ["relabel", name, *args]
    status: Any = 0
    try:
        app.main()
    except SystemExit as end:
        status = end.code or 0
    finally:
        sys.argv = before
    if status == 0:
        return
    said = _told()
    lines = said.strip().splitlines()
    outcome.message = lines[-1] if lines else ""
    if status != 2:
        outcome.blame("traceback", f"relabel {name}: {_last_frame(lines)}", "\n".join(lines[-3:]))
    elif len(lines) != 1:
        outcome.blame("lines", f"relabel {name}", said)
    if must:
        outcome.blame("unreadable", f"relabel {name}", said)
    raise RefusedError(name)


def _last_frame(lines: list[str]) -> str:
    """Return the last place in this package that a printed traceback names, and the error."""
    own = [line for line in lines if f"{os.sep}relabel{os.sep}" in line and ", in " in line]
    errors = [line for line in lines if line[:1].isalpha() and not line.startswith("error:")]
    name = errors[-1].partition(":")[0] if errors else f"{len(lines)} lines"
    place = own[-1].rpartition(f"{os.sep}relabel{os.sep}")[2].split('"')[0] if own else "?"
    function = own[-1].rpartition(", in ")[2] if own else "?"
    return f"{name} in relabel/{place}, {function}"


def capture(folder: Path) -> None:
    """Send the standard streams of this process, of libraries in C too, to files."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        to = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        os.dup2(to, number)
    warnings.simplefilter("ignore", DeprecationWarning)


def _empty_streams() -> None:
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        stream.flush()
        os.ftruncate(number, 0)


def _told() -> str:
    sys.stderr.flush()
    size = os.fstat(2).st_size
    return os.pread(2, size, 0).decode("utf-8", "replace")


_BY: dict[str, Callable[..., None]] = {"functions": _by_functions, "command": _by_command}
