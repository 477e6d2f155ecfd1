"""Peak memory of ``relabel align`` from netCDF to netCDF, with much beside the posterior.

The working set of the search is what ``relabel.align`` takes of the same draws in memory. The
command must not take much more, however large the groups are that it only copies.

Run ``python benchmarks/netcdf_memory.py`` (about a minute, and 1 GB of disk).
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import h5netcdf
import numpy as np

SEARCH = """
import relabel, sys
draws = relabel.open_draws(sys.argv[1])
data = draws["posterior"].to_dataset().load()
relabel.align(data, relabel.mlp(1, "tanh"), inputs=None)
"""
COMMAND = "import sys; from relabel.cli.app import main; sys.argv[0] = 'relabel'; main()"
NOTHING = "import relabel.alignment.alignment, relabel.io.reading, relabel.io.writing, h5netcdf"


def write(path: Path, draws: int, beside_mb: int) -> None:
    """Write draws of a network 20-20-1 beside a large group."""
    rng = np.random.default_rng(0)
    shapes = {"W1": (20, 20), "b1": (20,), "W2": (20, 1), "b2": (1,)}
    with h5netcdf.File(path, "w") as file:
        group = file.create_group("posterior")
        group.dimensions = {"chain": 4, "draw": draws}
        for name, shape in shapes.items():
            dims = [f"{name}_dim_{i}" for i in range(len(shape))]
            group.dimensions.update(dict(zip(dims, shape, strict=True)))
            values = rng.normal(size=shape) + 0.1 * rng.normal(size=(4, draws, *shape))
            group.create_variable(name, ("chain", "draw", *dims), data=values)
        large = file.create_group("log_likelihood")
        rows = beside_mb * 2**20 // 8 // 4 // draws
        large.dimensions = {"chain": 4, "draw": draws, "row": rows}
        stored = large.create_variable("y", ("chain", "draw", "row"), float)
        for chain in range(4):
            stored[chain] = rng.normal(size=(draws, rows))


def peak(code: str, *arguments: str) -> float:
    """Peak memory of a process, in MB."""
    line = [sys.executable, "-c", code, *arguments]
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return max(after, before) / 1024


def main() -> None:
    """Print the peaks; from the smallest to the largest, since the system tells the largest yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=5000, help="draws of each of four chains")
    parser.add_argument("--beside", type=int, default=500, help="MB beside the posterior")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.nc", Path(folder) / "out.nc"
        write(source, options.draws, options.beside)
        alone = peak(NOTHING)
        search = peak(SEARCH, str(source))
        line = ["align", str(source), "-o", str(target), "--activation", "tanh", "-q"]
        command = peak(COMMAND, *line)
    print(f"posterior {options.draws * 4 * 441 * 8 / 2**20:.0f} MB, beside it {options.beside} MB")
    print(f"imports {alone:.0f} MB; search {search:.0f} MB; command {command:.0f} MB")
    print(f"command over search: {command / search:.2f}")


if __name__ == "__main__":
    main()
