"""What is damaged: every recorded file, stores made on the spot, and draws that were aligned."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from files import RECORDED, SPEC, small_tree, write

import relabel
from relabel import Spec
from relabel.alignment.provenance import relabelled
from relabel.simulate import network

SOURCES = RECORDED / "sources"


@dataclass(frozen=True)
class Subject:
    """Draws in files, and how they are opened and aligned.

    `made` writes the files into a folder and returns them. `exact` is whether the elements of the
    spec are permutations and signs, so that the way back is bitwise. `checked` are aligned draws of
    which the values before are known, in ``NAME.raw.nc`` beside the folder: `undo` may lead to
    these alone. `weight` is how often it is drawn.
    """

    name: str
    made: Callable[[Path], list[Path]]
    spec: Spec
    options: Mapping[str, Any] = field(default_factory=dict)
    target: str = ".nc"
    exact: bool = True
    checked: bool = False
    weight: int = 1
    needs: str = "relabel"

    @property
    def installed(self) -> bool:
        """Whether the package that reads it is there."""
        return find_spec(self.needs) is not None


def subjects() -> dict[str, Subject]:
    """Return all subjects by name."""
    found = [*_weights(), *_samplers(), *_netcdf(), *_stores(), *_aligned()]
    return {subject.name: subject for subject in found}


def _copies(*sources: Path) -> Callable[[Path], list[Path]]:
    def made(folder: Path) -> list[Path]:
        return [Path(shutil.copyfile(source, folder / source.name)) for source in sources]

    return made


def _dense(units: str, weight: str, bias: str, arrow: str) -> Spec:
    axes = {
        weight.format(0): f"h {arrow} x" if arrow == "<-" else "x -> h",
        bias.format(0): "-> h",
        weight.format(1): f"y {arrow} h" if arrow == "<-" else "h -> y",
        bias.format(1): "-> y",
    }
    return Spec({"h": units}, axes)


_TORCH = Spec(
    {"h": "tanh"}, {"0.weight": "h <- x", "0.bias": "-> h", "2.weight": "y <- h", "2.bias": "-> y"}
)
_DEEP = Spec(
    {"h1": "permutation", "h2": "permutation"},
    {"0.weight": "h1 <- x", "0.bias": "-> h1", "2.weight": "h2 <- h1", "2.bias": "-> h2"}
    | {"4.weight": "y <- h2", "4.bias": "-> y"},
)
_FLAX = _dense("tanh", "params.Dense_{}.kernel", "params.Dense_{}.bias", "->")


def _weights() -> list[Subject]:
    return [
        Subject("ensemble.pt", _copies(SOURCES / "ensemble.pt"), _TORCH, needs="torch", weight=4),
        *(
            Subject(name, _copies(SOURCES / name), spec, options, target, weight=3)
            for name, spec, options, target in (
                ("ensemble.safetensors", _TORCH, {}, ".safetensors"),
                ("stacked.safetensors", _TORCH, {"sample_dims": "draw"}, ".safetensors"),
                ("stacked.npz", _TORCH, {"sample_dims": "draw"}, ".npz"),
                ("ensemble.msgpack", _FLAX, {}, ".msgpack"),
                ("sgmcmc_10-64-64-1_first10.npz", _DEEP, {}, ".npz"),
                ("ensemble_10-64-64-1.safetensors", _DEEP, {}, ".safetensors"),
            )
        ),
        Subject("flat.npy", _npy, Spec({"k": "permutation"}, {"flat": "k"}), target=".npy"),
    ]


def _npy(folder: Path) -> list[Path]:
    np.save(folder / "flat.npy", np.random.default_rng(0).normal(size=(2, 30, 4)))
    return [folder / "flat.npy"]


def _samplers() -> list[Subject]:
    beta = Spec({"j": "permutation"}, {"beta": "j"})
    theta = Spec(
        {"h": "tanh"}, {"theta": "(x -> h + -> h + h -> y + -> y)"}, sizes={"x": 1, "h": 2}
    )
    chains = [SOURCES / f"stan_chain_{number}.csv" for number in (1, 2, 3, 4)]
    alone = [SOURCES / f"stan_{name}.csv" for name in ("warmup", "variational", "optimum")]
    return [
        Subject("stan chains", _copies(*chains), beta, weight=4),
        *(Subject(path.name, _copies(path), beta, weight=2) for path in alone),
        Subject("emcee.h5", _copies(SOURCES / "emcee.h5"), theta, weight=3),
    ]


def _netcdf() -> list[Subject]:
    golden = RECORDED / "golden"
    deep = relabel.mlp(2, "tanh")
    mixed = network((2, 3, 3, 1), ("tanh", "sigmoid"), draws=1).spec
    layers = _dense("sigmoid", "layers.{}.w", "layers.{}.b", "->")
    recorded = (
        ("tanh_1-5-1", SPEC, True),
        ("tanh_3-4-4-1", deep, True),
        ("relu_3-4-1", Spec({"h": "relu"}, SPEC.axes), False),
        ("sigmoid_2-4-1", layers, False),
    )
    plain = [
        *(("samplers/numpyro_default", SPEC), ("samplers/pymc_unnamed", _unnamed())),
        *(("models/pymc_mixture", Spec({"component": "permutation"})),),
        *(("models/numpyro_hmm", _hmm()), ("models/gibbs_factors", Spec({"factor": "signed"}))),
    ]
    return [
        Subject("small.nc", _small("in.nc"), SPEC, weight=8),
        Subject("raw_format2.nc", _copies(golden / "raw_format2.nc"), mixed, exact=False),
        *(Subject(n, _copies(RECORDED / f"{n}.nc"), s, exact=e) for n, s, e in recorded),
        *(Subject(n, _copies(RECORDED / f"{n}.nc"), spec, weight=2) for n, spec in plain),
        *(
            Subject(name, _copies(golden / name), mixed, exact=False)
            for name in ("aligned_format2.nc", "aligned_0.1.0.nc")
        ),
    ]


def _unnamed() -> Spec:
    axes = {"w_in": "x -> h", "b_in": "-> h", "w_out": "h -> y", "b_out": "-> y"}
    return Spec({"h": "tanh"}, axes)


def _hmm() -> Spec:
    axes = {"mu": "state", "sigma": "state", "initial": "state", "transition": "state state"}
    return Spec({"state": "permutation"}, axes, values={"allocation/z": "state"})


def _small(name: str, **options: Any) -> Callable[[Path], list[Path]]:
    def made(folder: Path) -> list[Path]:
        tree = small_tree(warmup=True)
        if options:
            tree.to_zarr(folder / name, **options)
        elif name.endswith(".nc"):
            packed = {"W1": {"zlib": True, "chunksizes": (1, 10, 2, 3)}}
            tree.to_netcdf(folder / name, engine="h5netcdf", encoding={"/posterior": packed})
        return [folder / name]

    return made


def _stores() -> list[Subject]:
    forms = {
        f"zarr{version}{' consolidated' * consolidated}": (version, consolidated)
        for version in (2, 3)
        for consolidated in (False, True)
    }
    return [
        Subject(
            name,
            _small("in.zarr", zarr_format=version, consolidated=consolidated),
            SPEC,
            target=".zarr",
            weight=4,
        )
        for name, (version, consolidated) in forms.items()
    ]


def _aligned() -> list[Subject]:
    """Aligned draws, of which the values before are known."""
    trees = {
        "network": (lambda: small_tree(warmup=True), SPEC),
        "deep": (_deep, relabel.mlp(2, "tanh")),
        "mixture": (_mixture, Spec({"component": "permutation"})),
    }
    found = []
    for name, (tree, spec) in trees.items():
        for suffix in (".nc", ".zarr"):
            made = _before_and_after(tree, spec, suffix)
            found.append(
                Subject(
                    f"aligned {name}{suffix}", made, spec, target=suffix, checked=True, weight=6
                )
            )
    return found


def _deep() -> Any:
    return network((2, 3, 3, 1), "tanh", chains=2, draws=15, rng=2).data


def _mixture() -> Any:
    rng = np.random.default_rng(4)
    order = np.argsort(rng.random((2, 20, 3)))
    mu = np.take_along_axis(np.array([-3.0, 0.0, 4.0]) + rng.normal(0, 0.2, (2, 20, 3)), order, 2)
    w = np.take_along_axis(rng.dirichlet([20, 30, 50], (2, 20)), order, 2)
    dims = ("chain", "draw", "component")
    posterior = xr.Dataset({"mu": (dims, mu), "w": (dims, w)})
    return xr.DataTree.from_dict({"posterior": posterior})


def _before_and_after(
    tree: Callable[[], Any], spec: Spec, suffix: str
) -> Callable[[Path], list[Path]]:
    def made(folder: Path) -> list[Path]:
        draws, target = tree(), folder / f"in{suffix}"
        aligned = relabel.align(draws, spec)
        relabel.save(aligned, target)
        names = {"posterior": [], "warmup_posterior": []}
        for address in relabelled(aligned):
            group, _, name = address.partition("/")
            names[group].append(name)
        before = {group: draws[group].to_dataset()[own] for group, own in names.items() if own}
        write(xr.DataTree.from_dict(before), folder.parent / f"{folder.name}.raw.nc")
        return [target]

    return made
