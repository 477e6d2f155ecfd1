"""Write the golden files of the present form of records: draws before and after alignment.

Run ``python tests/data/make_golden.py`` once for every new form (``FORMAT`` in
relabel/data/provenance.py), and keep the files of the older ones, which
``tests/alignment/test_golden.py`` reads. The files of version 0.1.0 are those of the first form.
"""

from pathlib import Path

import relabel
from relabel.data.provenance import FORMAT
from relabel.simulate import network

FOLDER = Path(__file__).parent / "golden"


def main() -> None:
    """Write ``raw_formatN.nc`` and ``aligned_formatN.nc``."""
    simulated = network((2, 3, 3, 1), ("tanh", "sigmoid"), chains=2, draws=10, rng=1)
    simulated.data.to_netcdf(FOLDER / f"raw_format{FORMAT}.nc", engine="h5netcdf")
    aligned = relabel.align(simulated.data, simulated.spec)
    aligned.to_netcdf(FOLDER / f"aligned_format{FORMAT}.nc", engine="h5netcdf")


if __name__ == "__main__":
    main()
