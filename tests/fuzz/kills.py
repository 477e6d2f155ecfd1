"""Kill commands at random moments: nothing is lost, and but for SIGKILL nothing is left.

``python tests/fuzz/kills.py --n 200 --json results/kills.json`` runs ``relabel align``, ``convert``
and ``undo`` over netCDF, Zarr and files of weights, and ends each by SIGKILL, SIGTERM, SIGINT or
SIGHUP after a random share of the time that it takes. Status 1 if anything was lost or left.
"""

import argparse
import hashlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import xarray as xr

import relabel

SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
ALIGN = ("--units", "k=permutation", "-q")
#: Command, input, output, further words.
JOBS = [
    ("align", "in.nc", "out.nc", ALIGN),
    ("align", "in.zarr", "out.zarr", ALIGN),
    ("align", "in.nc", "out.zarr", ALIGN),
    ("convert", "in.nc", "out.npz", ()),
    ("convert", "in.nc", "out.safetensors", ()),
    ("convert", "in.zarr", "out.nc", ()),
    ("undo", "aligned.nc", "undone.nc", ()),
    ("undo", "aligned.zarr", "undone.zarr", ()),
]


def inputs(folder: Path) -> None:
    """Write the draws that the commands read."""
    rng = np.random.default_rng(0)
    mu = rng.permuted(np.array([0.0, 5, 10]) + 0.1 * rng.normal(size=(4, 5000, 3)), axis=2)
    dims = ("chain", "draw", "k")
    beside = {"y": (("chain", "draw", "row"), rng.normal(size=(4, 5000, 50)))}
    tree = xr.DataTree.from_dict(
        {"posterior": xr.Dataset({"mu": (dims, mu)}), "log_likelihood": xr.Dataset(beside)}
    )
    aligned = relabel.align(tree, {"k": "permutation"})
    for suffix in (".nc", ".zarr"):
        relabel.save(tree, folder / f"in{suffix}")
        relabel.save(aligned, folder / f"aligned{suffix}")


def digest(folder: Path) -> str:
    """Everything in a folder, as one number."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        whole.update(str(path.relative_to(folder)).encode())
        whole.update(path.read_bytes() if path.is_file() else b"")
    return whole.hexdigest()


def one(job: tuple, number: str, share: float, sources: Path, seconds: dict) -> list[str]:
    """Run one command, kill it, and say what is wrong with what it leaves."""
    command, source, name, more = job
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        line = [sys.executable, "-m", "relabel", command, str(sources / source), *more]
        begin = time.monotonic()
        process = subprocess.Popen(
            [*line, "-o", str(folder / name)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        if job not in seconds:
            process.wait()
            seconds[job] = time.monotonic() - begin
        else:
            time.sleep(share * seconds[job])
            process.send_signal(getattr(signal, number))
        errors = process.communicate(timeout=100)[1].decode()
        wrong = [f"{number}: a traceback"] if "Traceback" in errors else []
        left = sorted(path.name for path in folder.iterdir())
        parts = [entry for entry in left if entry.endswith(".part")]
        if parts and number != "SIGKILL":
            wrong.append(f"{number}: left {parts}")
        if set(left) - {name, *parts}:
            wrong.append(f"{number}: left {left}")
        if name in left:
            wrong += [] if _whole(folder / name) else [f"{number}: {name} is not whole"]
        if parts:
            wrong += [] if _told(folder) else [f"{number}: {parts} is not told of"]
        return wrong


def _whole(path: Path) -> bool:
    try:
        found = relabel.open_draws(path)
        posterior = found["posterior"].load() if "posterior" in found else found.load()
        return bool(posterior.sizes["draw"])
    except relabel.RelabelError:
        return False


def _told(folder: Path) -> bool:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        relabel.save(xr.Dataset({"a": (("chain", "draw"), np.zeros((1, 2)))}), folder / "b.nc")
    # a process that was killed before it had its lock is known by its age alone
    locked = any((part / "lock").exists() for part in folder.glob(".*.part"))
    return not locked or any("was left by a run that was killed" in str(w.message) for w in caught)


def main() -> None:
    """Print a summary as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=200, help="how many runs are killed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the summary to a file as well")
    options = parser.parse_args()
    chance, seconds, wrong = random.Random(options.seed), {}, []
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as made:
        sources = Path(made)
        inputs(sources)
        before = digest(sources)
        for job in JOBS:
            wrong += one(job, "none", 1.0, sources, seconds)
        for _ in range(options.n):
            number = chance.choice(SIGNALS)
            counts[number] += 1
            wrong += one(chance.choice(JOBS), number, chance.uniform(0.3, 1.0), sources, seconds)
        changed = digest(sources) != before
    found = {
        "what": "kills",
        "runs": options.n,
        "signals": dict(sorted(counts.items())),
        "sources changed": int(changed),
        "violations": len(wrong),
    }
    text = json.dumps(found, indent=1)
    print(text, *wrong, sep="\n")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(text + "\n", encoding="utf-8")
    sys.exit(bool(wrong or changed))


if __name__ == "__main__":
    main()
