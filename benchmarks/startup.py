"""How long a start takes: processor time of child processes, as ratios to ``import numpy``.

Prints one line for each statement or command: the median of several runs in seconds, and how many
times that of ``import numpy`` it is. Wanted are at most five for the first two.

Run as ``python benchmarks/startup.py``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
HELP = {
    "import relabel": ["-c", "import relabel"],
    "relabel --help": ["-m", "relabel", "--help"],
    "relabel align --help": ["-m", "relabel", "align", "--help"],
    "relabel --version": ["-m", "relabel", "--version"],
}
COMPLETE = {
    "completing criteria": ["align", "in.nc", "--criterion", ""],
    "completing variables": ["summary", str(REPOSITORY / "data/tanh_deep.nc"), "--var-names", ""],
}


def main() -> None:
    """Run everything in turn, so that slow and fast moments of the machine hit all alike."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9, help="runs of each, of which the median")
    runs = parser.parse_args().runs
    jobs: dict[str, tuple[Sequence[str], Mapping[str, str]]] = {
        "import numpy": (["-c", "import numpy"], {})
    }
    jobs |= {name: (arguments, {}) for name, arguments in HELP.items()}
    for name, words in COMPLETE.items():
        asked = {
            "_RELABEL_COMPLETE": "complete_bash",
            "COMP_WORDS": "\n".join(["relabel", *words]),
            "COMP_CWORD": str(len(words)),
        }
        jobs[name] = (["-m", "relabel"], asked)
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for run in range(runs + 1):
        for name, (arguments, asked) in jobs.items():
            seconds = processor_time(arguments, asked)
            if run:  # the first fills the caches of files and of compiled modules
                times[name].append(seconds)
    unit = statistics.median(times["import numpy"])
    for name, measured in times.items():
        seconds = statistics.median(measured)
        print(f"{name:<22} {seconds:6.3f} s  {seconds / unit:5.1f}")


def processor_time(arguments: Sequence[str], asked: Mapping[str, str]) -> float:
    """Return the user and system time of one run of Python."""
    before = os.times()
    subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **asked},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    after = os.times()
    return (after.children_user - before.children_user) + (
        after.children_system - before.children_system
    )


if __name__ == "__main__":
    main()
