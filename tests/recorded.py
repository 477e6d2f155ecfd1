"""Recorded posteriors of small networks: opened, and their specs."""

import xarray as xr
from files import RECORDED

from relabel import Spec

AXES = {"W1": "x -> h", "b1": "-> h", "W2": "h -> y", "b2": "-> y"}
LAYERS = {
    "W1": "layers.0.w",
    "b1": "layers.0.b",
    "W2": "layers.1.w",
    "b2": "layers.1.b",
}


def read(name, **chosen):
    """Open a file, and choose chains or draws."""
    with xr.open_datatree(RECORDED / f"{name}.nc", engine="h5netcdf") as tree:
        groups = {g: tree[g].to_dataset().load() for g in tree.children}
    return xr.DataTree.from_dict(
        {g: ds.isel(chosen) if "chain" in ds.dims else ds for g, ds in groups.items()}
    )


def spec_of(name, symmetry, **options):
    """One hidden layer h, by the names of the file."""
    own = LAYERS if name.startswith("sigmoid") else {}
    return Spec({"h": symmetry}, {own.get(v, v): line for v, line in AXES.items()}, **options)
