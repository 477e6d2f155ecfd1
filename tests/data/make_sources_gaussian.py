"""Record what NumPyro's guides fit: python tests/data/make_sources_gaussian.py, half a minute.

Writes sources/gaussian_fits.npz: the fits of tests/frameworks/test_real_gaussian.py, a tanh network
of three units from three starts. Made with NumPyro 0.22.0, JAX 0.10.2 and Python 3.11.
"""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "frameworks"))

import test_gaussian as fitted  # noqa: E402

if __name__ == "__main__":
    found = {"X": fitted.X, "y": fitted.Y}
    guide_params = fitted.fits("AutoNormal")[1]
    for kind in ("loc", "scale"):
        for name in fitted.SHAPES:
            key = f"{name}_auto_{kind}"
            found[f"normal/{key}"] = np.stack([params[key] for params in guide_params])
    posterior = fitted.laplace()["posterior"]
    found["laplace/loc"] = np.concatenate(
        [posterior[name].values[0].reshape(fitted.N_SEEDS, -1) for name in fitted.SHAPES], axis=1
    )
    found["laplace/covariance"] = posterior["covariance"].values[0]
    np.savez_compressed(HERE / "sources" / "gaussian_fits.npz", **found)
