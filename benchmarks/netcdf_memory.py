"""How much memory `align` from netCDF to netCDF takes, with and without much beside the posterior.

Every row is a process of its own. The working set of the search is the peak of a process that
opens the file, loads the posterior and aligns it, but writes nothing::

    python benchmarks/netcdf_memory.py [--posterior MB] [--beside MB ...]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import xarray as xr

WORK = """
import resource, sys
import relabel
from relabel.io.reading import load
task, source, target = sys.argv[1:]
draws = relabel.open_draws(source)
if task in ("align", "write"):
    load(draws, ["mu"], source)
    aligned = relabel.align(draws, {"k": "permutation"})
if task == "write":
    relabel.save(aligned, target, source=source)
if task == "convert":
    relabel.save(draws, target)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def make(path: Path, posterior: float, beside: float) -> None:
    """Write draws of a mixture, and a log likelihood that fills the file."""
    rng = np.random.default_rng(0)
    n_draws = int(posterior * 2**20 / 8 / 4 / 8)
    means = np.arange(8.0) + 0.1 * rng.normal(size=(4, n_draws, 8))
    mu = rng.permuted(means, axis=2)
    tree = xr.DataTree.from_dict({"posterior": xr.Dataset({"mu": (("chain", "draw", "k"), mu)})})
    tree.to_netcdf(path, engine="h5netcdf")
    if not beside:
        return
    import h5netcdf

    n_obs = int(beside * 2**20 / 8 / 4 / n_draws)
    with h5netcdf.File(path, "a") as file:
        group = file.create_group("log_likelihood")
        group.dimensions = {"chain": 4, "draw": n_draws, "obs": n_obs}
        y = group.create_variable("y", ("chain", "draw", "obs"), "f8")
        for chain in range(4):
            for start in range(0, n_draws, 1000):
                stop = min(start + 1000, n_draws)
                y[chain, start:stop] = rng.normal(size=(stop - start, n_obs))


def peak(task: str, source: Path, target: Path) -> float:
    """Return the largest resident size of a process that does a task, in MB."""
    command = [sys.executable, "-c", WORK, task, str(source), str(target)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Print one line for each size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--posterior", type=float, default=20)
    parser.add_argument("--beside", type=float, nargs="*", default=[0, 500])
    options = parser.parse_args()
    print("beside   start   search  and writing  ratio  beyond the start  ratio  convert")
    for beside in options.beside:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "in.nc", Path(folder) / "out.nc"
            make(source, options.posterior, beside)
            start, search, whole = (peak(t, source, target) for t in ("open", "align", "write"))
            target.unlink()
            convert = peak("convert", source, target)
        print(
            f"{beside:3.0f} MB  {start:4.0f} MB  {search:4.0f} MB      {whole:4.0f} MB  "
            f"{whole / search:5.2f}           {whole - start:4.0f} MB  "
            f"{(whole - start) / (search - start):5.2f}  {convert:4.0f} MB"
        )


if __name__ == "__main__":
    main()
