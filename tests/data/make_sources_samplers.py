"""Make the small files of samplers in tests/data/sources: CSV files by CmdStan, HDF5 by emcee.

Needs emcee, h5py and prophet. The wheel of prophet brings a program that CmdStan 2.37 compiled;
three of its regressors are made the same, so that their coefficients ``beta`` are exchangeable.
Run as ``python tests/data/make_sources_samplers.py``; it takes a few seconds.
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

TARGET = Path(__file__).parent / "sources"
N_WALKERS, N_STEPS, N_ALLOCATED = 16, 40, 60


def stan_data():
    """A line with a season that three regressors share."""
    rng = np.random.default_rng(20)
    t = np.linspace(0, 1, 5)
    season = np.array([1.0, -1, 1, -1, 1])
    y = 0.4 + 0.8 * t + 0.9 * season + rng.normal(0, 0.1, t.size)
    return {
        "T": t.size,
        "K": 3,
        "t": t.tolist(),
        "cap": [1.0] * t.size,
        "y": y.tolist(),
        "S": 2,
        "t_change": [0.3, 0.6],
        "X": np.stack([season] * 3, axis=1).tolist(),
        "sigmas": [1.0] * 3,
        "tau": 0.05,
        "trend_indicator": 0,
        "s_a": [1.0] * 3,
        "s_m": [0.0] * 3,
    }


def program():
    """The compiled model that prophet brings."""
    spec = importlib.util.find_spec("prophet")
    if spec is None:
        sys.exit("this needs prophet: pip install prophet")
    return Path(spec.origin).parent / "stan_model" / "prophet_model.bin"


def make_stan(folder):
    (Path(folder) / "data.json").write_text(json.dumps(stan_data()))

    def run(name, *options):
        end = ("data", "file=data.json", "random", "seed=1", "output", f"file={name}.csv")
        subprocess.run(
            [program(), *options, *end], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )

    run("chain", "sample", "num_samples=50", "num_warmup=150", "num_chains=4")
    run("warmup", "sample", "num_samples=20", "num_warmup=10", "save_warmup=1", "thin=3")
    run("variational", "variational", "output_samples=10")
    run("optimum", "optimize")
    for path in Path(folder).glob("*.csv"):
        if path.name != "profile.csv":
            (TARGET / f"stan_{path.name}").write_text(path.read_text())


def log_density(theta, x, y):
    """Of a network of one input, two tanh units and one output, with standard normal priors."""
    w1, b1, w2, b2 = theta[0:2], theta[2:4], theta[4:6], theta[6]
    f = np.tanh(x[:, None] * w1 + b1) @ w2 + b2
    return -0.5 * np.sum(theta**2) - 0.5 * np.sum(((y - f) / 0.2) ** 2)


def make_emcee(folder):
    """Keep every tenth step; break off, so that there is allocated space that is not filled."""
    import emcee
    import h5py

    path = Path(folder) / "emcee.h5"
    rng = np.random.default_rng(3)
    x = np.linspace(-2, 2, 30)
    y = np.tanh(2 * x + 1) + rng.normal(0, 0.2, 30)
    backend = emcee.backends.HDFBackend(path, compression="gzip")
    sampler = emcee.EnsembleSampler(N_WALKERS, 7, log_density, args=(x, y), backend=backend)
    state = emcee.State(
        rng.normal(size=(N_WALKERS, 7)), random_state=np.random.RandomState(3).get_state()
    )
    steps = sampler.sample(state, iterations=N_ALLOCATED, thin_by=10)
    for _ in range(N_STEPS):
        next(steps)
    with h5py.File(path) as loose, h5py.File(TARGET / "emcee.h5", "w") as packed:
        loose.copy("mcmc", packed)  # a third of the size: every step left a gap


if __name__ == "__main__":
    TARGET.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        make_stan(folder)
        make_emcee(folder)
