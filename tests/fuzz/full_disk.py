"""Fill the disk at twenty points of each writer: ``python tests/fuzz/full_disk.py --json FILE``.

``relabel convert`` writes onto a file system of its own (tmpfs, which only the superuser of Linux
may mount) that is too small for the result, by sizes from nothing to almost enough. What may not
happen, a *violation*: a status that is not 2; not one line on the standard error; something left.

Prints a summary in JSON, and returns 1 if there was a violation, 2 if nothing could be mounted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import xarray as xr

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # files.py

from files import REPOSITORY

import relabel
from relabel import simulate
from relabel._util.versions import installed

_PAGE = 4096
_LARGE = 2**28
_NEEDS = {"safetensors": "safetensors", "msgpack": "msgpack", "pt": "torch"}
_PACKAGES = ("h5netcdf", "h5py", "numpy", "xarray", "zarr")
#: Each writer: the suffixes of its source and of what it writes.
WRITERS = {
    "netCDF from netCDF": ("nc", "nc"),
    "netCDF from Zarr": ("zarr", "nc"),
    "Zarr from netCDF": ("nc", "zarr"),
    "Zarr from Zarr": ("zarr", "zarr"),
    "npz": ("nc", "npz"),
    "npy": ("one.nc", "npy"),
    "safetensors": ("nc", "safetensors"),
    "msgpack": ("nc", "msgpack"),
    "pt": ("nc", "pt"),
}


def main() -> int:
    """Try all writers whose packages are installed."""
    options = _options()
    began = time.monotonic()
    ended: dict[str, dict[str, int]] = {}
    violations: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory(prefix="full-disk-") as name:
        folder = Path(name)
        _write_sources(folder)
        for writer, (start, end) in WRITERS.items():
            if end in _NEEDS and find_spec(_NEEDS[end]) is None:
                print(f"{writer}: {_NEEDS[end]} is not installed", file=sys.stderr)
                continue
            try:
                found = list(_tried(folder / f"in.{start}", folder, end, options.points))
            except subprocess.CalledProcessError as error:
                print(f"no tmpfs can be mounted: {error.stderr}", file=sys.stderr)
                return 2
            ended[writer] = {"refused in one line": sum(not said for said in found)}
            violations += [{"writer": writer, "text": said} for said in found if said]
    summary = {
        "what": "full disk",
        "writers": len(ended),
        "points_of_each": options.points,
        "refused_in_one_line_and_nothing_left": sum(sum(one.values()) for one in ended.values()),
        "with_a_violation": len(violations),
        "seconds": round(time.monotonic() - began, 1),
        "one_line_and_nothing_left": {name: sum(one.values()) for name, one in ended.items()},
        "versions": {name: installed(name) for name in _PACKAGES},
        "violations": violations,
    }
    _print(summary, options.json)
    return int(bool(violations))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--points", type=int, default=20, help="sizes of the disk for each writer")
    parser.add_argument("--json", type=Path, help="write the summary to this file, too")
    return parser.parse_args()


def _print(summary: dict[str, Any], path: Path | None) -> None:
    text = json.dumps(summary, indent=1)
    print(text)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")


def _write_sources(folder: Path) -> None:
    data = simulate.network((3, 16, 2), "tanh", chains=4, draws=500, rng=1).data
    for suffix in ("nc", "zarr"):
        relabel.save(data, folder / f"in.{suffix}")
    one = xr.DataTree.from_dict({"posterior": data["posterior"].to_dataset()[["W1"]]})
    relabel.save(one, folder / "in.one.nc")


def _tried(source: Path, folder: Path, suffix: str, points: int) -> Iterator[str]:
    """Yield what was wrong at each size of the disk, nothing where all was right."""
    needed = _needed(source, folder, suffix)
    for point in range(points):
        size = max(1, needed * point // points // _PAGE) * _PAGE
        with _disk(folder / "disk", size) as disk:
            ended = _run(source, disk / f"out.{suffix}")
            left = sorted(path.name for path in disk.rglob("*"))
        if ended.returncode != 2:
            yield f"{size} bytes: status {ended.returncode}: {ended.stderr[-300:]}"
        elif ended.stderr.count("\n") != 1:
            yield f"{size} bytes: several lines: {ended.stderr[-300:]}"
        elif left:
            yield f"{size} bytes: left: {', '.join(left)}"
        else:
            yield ""


def _needed(source: Path, folder: Path, suffix: str) -> int:
    """Return the bytes that the result takes on a disk; while it is written there are not fewer."""
    with _disk(folder / "disk", _LARGE) as disk:
        _run(source, disk / f"out.{suffix}").check_returncode()
        about = os.statvfs(disk)
        return (about.f_blocks - about.f_bfree) * about.f_frsize


@contextmanager
def _disk(path: Path, size: int) -> Iterator[Path]:
    """Mount a file system of a given size."""
    path.mkdir(exist_ok=True)
    options = ["-t", "tmpfs", "-o", f"size={size}"]
    subprocess.run(
        ["mount", *options, "tmpfs", str(path)], check=True, capture_output=True, text=True
    )
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


def _run(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "relabel", "convert", str(source), "-o", str(target)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
    )


if __name__ == "__main__":
    sys.exit(main())
