"""Kill the command at random times: ``python tests/fuzz/kills.py --n 200 --json FILE``.

``relabel align``, ``convert`` and ``undo`` run over netCDF, Zarr and weights, and get SIGKILL,
SIGTERM, SIGINT or SIGHUP at a time drawn from such a run, more often where files are written. (The
first tenth of a second is left out: Python is starting then, and SIGINT has its traceback.) What
may not happen, a *violation*:

source
    the input, or an older file of the target's name, has changed though the run was ended.
target
    the target is there and cannot be read, or lacks values.
left
    something else is there. After SIGKILL a private folder may be, which the next run must tell of.
said
    there are lines on the standard error but for the one of SIGINT, or a traceback.
status
    the status is neither 0 nor that of the signal.

Prints a summary in JSON, and returns 1 if there was a violation.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # files.py

from files import REPOSITORY, fingerprint

import relabel
from relabel import simulate
from relabel._util.versions import installed
from relabel.io.temporary import abandoned

SIGNALS = {
    signal.SIGKILL: (-signal.SIGKILL,),
    signal.SIGTERM: (143, -signal.SIGTERM),  # the latter before Python has started the command
    signal.SIGINT: (130, -signal.SIGINT),
    signal.SIGHUP: (129, -signal.SIGHUP),
}
_INTERRUPTED = ("", "interrupted: nothing was written\n")
_PACKAGES = ("h5netcdf", "h5py", "numpy", "xarray", "zarr")
_START = 0.1  # seconds in which Python starts
_TELLS = 2.5  # seconds until a folder is told of whose process was killed as it made it
_PATIENCE = 60  # seconds for one command


@dataclass(frozen=True)
class Job:
    """One command over files of one kind.

    After its start it began to write at the time `began`, and had written at the time `seconds`.
    `whole` are digests of all that a complete target holds.
    """

    name: str
    source: Path
    suffix: str
    arguments: tuple[str, ...]
    began: float = 0.0
    seconds: float = 0.0
    whole: dict[str, str] = field(default_factory=dict)

    def command(self, target: Path) -> list[str]:
        """Return the command with its arguments."""
        verb, *options = self.arguments
        start = [sys.executable, "-m", "relabel", verb, str(self.source), "-o", str(target)]
        return [*start, "-q", *options]


def main() -> int:
    """Kill as often as the arguments ask for."""
    options = _options()
    rng = np.random.default_rng(options.seed)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        folder = Path(name)
        jobs = [measured(job, folder) for job in prepared(folder)]
        found = [
            killed(jobs[case % len(jobs)], _signal(case, len(jobs)), rng, folder)
            for case in range(options.n)
        ]
    summary = summed(found, options.seed, time.monotonic() - began)
    text = json.dumps(summary, indent=1)
    print(text)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(text + "\n", encoding="utf-8")
    return int(bool(summary["violations"]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--n", type=int, default=200, help="how many kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the summary to this file, too")
    return parser.parse_args()


def _signal(case: int, n_jobs: int) -> signal.Signals:
    """Return the signal of a case: every job gets all of them."""
    return list(SIGNALS)[(case // n_jobs) % len(SIGNALS)]


def prepared(folder: Path) -> list[Job]:
    """Write the sources, of a few megabytes, and return all jobs."""
    inputs = folder / "in"
    inputs.mkdir()
    raw = simulate.network((3, 16, 2), "tanh", chains=4, draws=2000, rng=1).data
    spec = simulate.network((3, 16, 2), draws=1).spec
    aligned = relabel.align(raw, spec, criterion="mean")
    for suffix in ("nc", "zarr"):
        relabel.save(raw, inputs / f"raw.{suffix}")
        relabel.save(aligned, inputs / f"aligned.{suffix}")
    relabel.save(raw, inputs / "raw.npz")
    net = ("--activation", "tanh", "--criterion", "mean")
    stacked = ("--sample-dims", "chain draw")
    return [
        Job("align nc to nc", inputs / "raw.nc", "nc", ("align", *net)),
        Job("align zarr to zarr", inputs / "raw.zarr", "zarr", ("align", *net)),
        Job("align npz to npz", inputs / "raw.npz", "npz", ("align", *net, *stacked)),
        Job("convert nc to zarr", inputs / "raw.nc", "zarr", ("convert",)),
        Job("convert zarr to nc", inputs / "raw.zarr", "nc", ("convert",)),
        Job("convert nc to npz", inputs / "raw.nc", "npz", ("convert",)),
        Job("undo nc", inputs / "aligned.nc", "nc", ("undo",)),
        Job("undo zarr", inputs / "aligned.zarr", "zarr", ("undo",)),
    ]


def measured(job: Job, folder: Path) -> Job:
    """Run a command to its end: how long it takes, and what it writes."""
    out = folder / "out"
    out.mkdir()
    began = time.monotonic()
    process = _started(job, out / f"x.{job.suffix}")
    _wait(process, out, until=True)
    writing = time.monotonic() - began
    _wait(process, out, until=False)
    seconds = time.monotonic() - began
    _, stderr = process.communicate(timeout=_PATIENCE)
    if process.returncode:
        raise RuntimeError(f"{job.name}: {stderr}")
    whole = contents(out / f"x.{job.suffix}")
    shutil.rmtree(out)
    return replace(job, began=writing, seconds=seconds, whole=whole)


def _started(job: Job, target: Path, *, force: bool = False) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*job.command(target), *["--force"] * force],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _wait(process: subprocess.Popen[str], out: Path, *, until: bool) -> None:
    """Wait until a private folder is there, or is not any more, or the process has ended."""
    while process.poll() is None:
        if until == any(path.suffix == ".part" for path in out.iterdir()):
            return
        time.sleep(0.0005)


def contents(path: Path) -> dict[str, str]:
    """Return a digest of all values in a file, by name. Whatever cannot be read raises."""
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    else:
        tree = relabel.open_draws(path)
        groups = tree.subtree if isinstance(tree, xr.DataTree) else [tree]
        found = {
            f"{getattr(group, 'path', '')}/{name}": variable.values
            for group in groups
            for name, variable in group.variables.items()
        }
    return {
        name: hashlib.sha256(f"{array.dtype} {array.shape} ".encode() + array.tobytes()).hexdigest()
        for name, array in found.items()
        if array.dtype != object
    }


@dataclass
class Kill:
    """What became of one killed command."""

    job: str
    signal: str
    writing: bool
    ended: str = ""
    left: int = 0
    violations: list[dict[str, str]] = field(default_factory=list)

    def blame(self, kind: str, text: str) -> None:
        """Note a violation."""
        about = {"kind": kind, "job": self.job, "signal": self.signal, "text": text[-500:]}
        self.violations.append(about)


def killed(job: Job, number: signal.Signals, rng: np.random.Generator, folder: Path) -> Kill:
    """Run a command, end it at a random time, and look at what is there."""
    out = folder / "out"
    out.mkdir()
    target = out / f"x.{job.suffix}"
    writing, force = rng.random() < 0.6, rng.random() < 0.5
    if force:
        _write_older(target)
    source, older = fingerprint(job.source), fingerprint(target) if force else {}
    process = _started(job, target, force=force)
    if writing:
        _wait(process, out, until=True)
        time.sleep(rng.uniform(0, job.seconds - job.began))
    else:
        time.sleep(rng.uniform(_START, job.seconds))
    process.send_signal(number)
    _, stderr = process.communicate(timeout=_PATIENCE)
    found = Kill(job.name, number.name, writing)
    found.ended = "finished" if process.returncode == 0 else "ended"
    _check_end(found, process.returncode, stderr, number)
    if fingerprint(job.source) != source:
        found.blame("source", "the input has changed")
    _check_target(found, job, target, older)
    _check_left(found, out, target, number)
    shutil.rmtree(out)
    return found


def _write_older(target: Path) -> None:
    """Write what `--force` may replace."""
    relabel.save(simulate.network((2, 3, 1), "tanh", chains=2, draws=10).data, target)


def _check_end(found: Kill, status: int, stderr: str, number: signal.Signals) -> None:
    """Check the status, and what was said."""
    if status not in (0, *SIGNALS[number]):
        found.blame("status", f"{status}: {stderr}")
    elif stderr not in (_INTERRUPTED if number == signal.SIGINT else ("",)):
        found.blame("said", stderr)


def _check_target(found: Kill, job: Job, target: Path, older: dict[Path, Any]) -> None:
    """Check that the target is the old one, or complete, or absent."""
    if not target.exists():
        if older or found.ended == "finished":
            found.blame("target", "there is none")
        return
    if older and fingerprint(target) == older:
        if found.ended == "finished":
            found.blame("target", "it is the old one")
        return
    found.ended = "finished"
    try:
        if contents(target) != job.whole:
            found.blame("target", "its values are not those of a run that was not killed")
    except Exception as error:
        found.blame("target", f"cannot be read: {error!r}")


def _check_left(found: Kill, out: Path, target: Path, number: signal.Signals) -> None:
    """Check that nothing else is there but, for SIGKILL, a folder that the next run tells of."""
    extra = [path for path in out.iterdir() if path != target]
    found.left = len(extra)
    if number != signal.SIGKILL and extra:
        found.blame("left", ", ".join(map(str, extra)))
    if extra:
        time.sleep(_TELLS)
    told = " ".join(abandoned(out))
    for path in extra:
        private = path.is_dir() and path.stat().st_mode & 0o077 == 0
        if not (private and f"{path} was left" in told):
            found.blame("left", f"{path} is not told of")


def summed(found: list[Kill], seed: int, seconds: float) -> dict[str, Any]:
    """Return the counts and all violations as plain values."""
    violations = [violation for kill in found for violation in kill.violations]
    kinds = dict.fromkeys(("source", "target", "left", "said", "status"), 0)
    kinds |= Counter(violation["kind"] for violation in violations)
    return {
        "what": "kills",
        "kills": len(found),
        "seed": seed,
        "seconds": round(seconds, 1),
        "while_it_wrote": sum(kill.writing for kill in found),
        "target_absent_or_as_before": sum(kill.ended == "ended" for kill in found),
        "target_complete": sum(kill.ended == "finished" for kill in found),
        "private_folders_left_by_SIGKILL": sum(kill.left for kill in found),
        "with_a_violation": sum(bool(kill.violations) for kill in found),
        "violations_of_a_kind": kinds,
        "signals": dict(sorted(Counter(kill.signal for kill in found).items())),
        "commands": dict(sorted(Counter(kill.job for kill in found).items())),
        "versions": {name: installed(name) for name in _PACKAGES},
        "violations": violations,
    }


if __name__ == "__main__":
    sys.exit(main())
