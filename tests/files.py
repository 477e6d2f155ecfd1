"""Draws in files, and what is in a file: for the tests that read and write."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import xarray as xr
import zarr

from relabel import simulate

REPOSITORY = Path(__file__).resolve().parent.parent
DATA = REPOSITORY / "data"
RECORDED = REPOSITORY / "tests" / "data"
OWN = ("relabel", "warmup_relabel")
SPEC = simulate.network((2, 3, 1), draws=1).spec


def small_tree(chains=2, draws=20, warmup=False, dtype=float, activation="tanh"):
    """Draws of a 2-3-1 network with coordinates, texts, numbers and attributes beside them."""
    simulated = simulate.network((2, 3, 1), activation, chains=chains, draws=draws, rng=3)
    posterior = simulated.data["posterior"].to_dataset().astype(dtype)
    posterior["sigma"] = (("chain", "draw"), np.linspace(0.1, 0.2, chains * draws).reshape(2, -1))
    posterior = posterior.assign_coords(
        chain=np.arange(chains) + 1,
        draw=10 * np.arange(draws),
        W1_dim_0=["left", "right"],
        kind=("W1_dim_0", ["a", "bc"]),
        half=("draw", 0.5 * np.arange(draws)),
        when=4.5,
    )
    posterior.attrs = {"activation": activation, "number": 3, "list": np.arange(3)}
    posterior["W1"].attrs = {"units": "none", "long_name": "Gewichte, größer"}
    lp = np.sin(np.arange(chains * draws)).reshape(chains, draws)
    stats = xr.Dataset(
        {"lp": (("chain", "draw"), lp), "diverging": (("chain", "draw"), lp > 0.9)},
        coords={"chain": posterior["chain"], "draw": posterior["draw"]},
    )
    X = simulated.data["constant_data"]["X"].values
    constant = xr.Dataset({"X": (("obs", "input"), X), "name": ("input", ["left", "right"])})
    groups = {"posterior": posterior, "sample_stats": stats, "constant_data": constant}
    if warmup:
        early = posterior.isel(draw=slice(0, draws // 2))
        groups["warmup_posterior"] = early + np.float32(0.01) * (early["W1"].dtype == dtype)
        groups["warmup_posterior"].attrs = {"early": "yes"}
    tree = xr.DataTree.from_dict(groups)
    tree.attrs = {"title": "a small network"}
    return tree


def write(data, path):
    """Write a tree or a dataset as the name says."""
    if path.suffix == ".zarr":
        data.to_zarr(path, consolidated=False, zarr_format=3)
    else:
        data.to_netcdf(path, engine="h5netcdf")
    return path


def fingerprint(path):
    """Bytes and times of a file, or of everything in a folder."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in files}


def hdf5_contents(path, leave_out=OWN):
    """Everything in an HDF5 file by name: raw values, storage and attributes."""
    found = {}
    with h5py.File(path, "r") as file:
        found["/"] = _attributes(file, file)

        def look(name, item):
            if name.split("/")[0] in leave_out:
                return
            found[name] = _attributes(file, item)
            if isinstance(item, h5py.Dataset):
                found[name]["="] = (_plain(file, item[()]), *_storage(item))

        file.visititems(look)
    return found


def _storage(item):
    """How the values of an HDF5 dataset are stored."""
    filters = (item.compression, item.compression_opts, item.shuffle, item.fletcher32)
    fill = np.asarray(item.fillvalue).tobytes() if item.dtype.kind in "fiub" else None
    return str(item.dtype), item.shape, item.maxshape, item.chunks, filters, fill


def _attributes(file, item):
    own = [name for name in item.attrs if name != "REFERENCE_LIST"]  # the way back of a dimension
    return {name: (_plain(file, item.attrs[name]), *_kind(item, name)) for name in own}


def _kind(item, name):
    about = item.attrs.get_id(name)
    return str(about.dtype), about.shape


def _plain(file, value):
    """Values that compare equal only if they are the same bit for bit."""
    if isinstance(value, h5py.Empty):
        return ("empty", str(value.dtype))
    if isinstance(value, h5py.Reference):
        return file[value].name if value else None
    if isinstance(value, np.ndarray) and value.dtype.kind == "O":
        return [_plain(file, one) for one in value.ravel()]
    if isinstance(value, np.ndarray | np.generic):
        return (str(value.dtype), value.shape, value.tobytes())
    return value


def zarr_contents(path, leave_out=OWN):
    """Every file of a Zarr store but our own groups and the consolidated copy of metadata."""
    found = {}
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        name = file.relative_to(path).as_posix()
        if name.split("/")[0] not in leave_out and name not in (".zmetadata", "zarr.json"):
            found[name] = file.read_bytes()
    root = zarr.open_group(path, mode="r", use_consolidated=False)
    return found | {"/": dict(root.attrs)}


def run(*args, cwd=None, code="from relabel.cli.app import main; main()", **options):
    """Run the command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code, *map(str, args)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


# Signals end the process, also where the tests run with some of them ignored (nohup).
USUAL_SIGNALS = """
import signal
for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)
"""


def started(code, *args, cwd=None):
    """Start Python code in a process of its own, with pipes to talk to it."""
    return subprocess.Popen(
        [sys.executable, "-c", USUAL_SIGNALS + code, *map(str, args)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
