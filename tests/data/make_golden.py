"""Write the golden files of the present version: draws before and after alignment.

Run ``python tests/data/make_golden.py`` once for every version that changes what is stored, and
keep the files of the older ones: ``tests/alignment/test_golden.py`` reads them all.
"""

from pathlib import Path

import relabel
from relabel.simulate import network

FOLDER = Path(__file__).parent / "golden"


def main() -> None:
    """Write ``raw_VERSION.nc`` and ``aligned_VERSION.nc``."""
    simulated = network((2, 3, 3, 1), ("tanh", "sigmoid"), chains=2, draws=10, rng=1)
    simulated.data.to_netcdf(FOLDER / f"raw_{relabel.__version__}.nc", engine="h5netcdf")
    aligned = relabel.align(simulated.data, simulated.spec)
    aligned.to_netcdf(FOLDER / f"aligned_{relabel.__version__}.nc", engine="h5netcdf")


if __name__ == "__main__":
    main()
