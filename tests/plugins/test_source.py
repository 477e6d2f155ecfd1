"""A third party's source in every verb and command: one file and one line."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

import relabel
from relabel import DataError, FileError, SpecError
from relabel.sources import SOURCES, Source
from relabel.sources.kinds import source_of, writer_of

SITE = Path(__file__).parent / "site"
SPEC = relabel.Spec({"j": "permutation"}, {"mu": "j", "sigma": "j"})


def mixture(chains=2, draws=40, n=3):
    """Draws of a mixture whose components change their places."""
    rng = np.random.default_rng(0)
    order = np.stack([rng.permutation(n) for _ in range(chains * draws)])
    order = order.reshape(chains, draws, n)
    mu = np.array([-3.0, 0.0, 4.0])[order] + 0.1 * rng.normal(size=order.shape)
    sigma = np.array([0.5, 1.0, 2.0])[order] + 0.05 * rng.normal(size=order.shape)
    return relabel.sources.from_dict(
        {"mu": mu, "sigma": sigma, "tau": rng.normal(size=(chains, draws))},
        sample_dims="chain draw",
    )


def values(draws):
    posterior = draws["posterior"]
    return {str(name): array.values for name, array in posterior.data_vars.items()}


def same(one, two):
    return one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


@pytest.fixture
def table(installed, tmp_path):
    """A table of draws, written by the third party's source."""
    path = tmp_path / "in.draws"
    relabel.save(mixture(), path)
    assert path.read_text().startswith("#draws\nmu:3 sigma:3 tau\n0 ")
    return path


# ---------------------------------------------------------------------- verbs


def test_every_verb_takes_its_draws(table, tmp_path):
    draws = relabel.open_draws(table)
    assert same(values(draws), values(mixture()))
    aligned = relabel.align(draws, SPEC)
    assert float(aligned["posterior/mu"].std(["chain", "draw"]).max()) < 0.2
    assert same(values(relabel.undo(aligned)), values(draws))
    assert relabel.diagnose(aligned)[1].labels_trustworthy
    assert relabel.compare(draws, SPEC).to_json()
    assert len(relabel.summary(aligned)) == 6
    relabel.save(aligned, tmp_path / "out.draws", source=table)
    assert same(values(relabel.open_draws(tmp_path / "out.draws")), values(aligned))
    relabel.save(aligned, tmp_path / "out.nc", source=table)
    assert same(values(relabel.undo(relabel.open_draws(tmp_path / "out.nc"))), values(draws))


def test_its_own_option(table):
    table.write_text(table.read_text().replace(".", ","))
    assert same(values(relabel.open_draws(table, decimal=",")), values(mixture()))
    with pytest.raises(FileError, match=r"in.draws: a damaged table of draws: could not"):
        relabel.open_draws(table)
    with pytest.raises(DataError, match=r"truncate=True is for Stan CSV; this is draws table, so"):
        relabel.open_draws(table, truncate=True)
    relabel.save(mixture(), table.with_suffix(".nc"))
    with pytest.raises(DataError, match=r"decimal=',' is for draws table; this is netCDF, so lea"):
        relabel.open_draws(table.with_suffix(".nc"), decimal=",")
    with pytest.raises(DataError, match="no kind of file has the option 'delimiter'"):
        relabel.open_draws(table, delimiter=",")


def test_files_that_are_read_one_at_a_time(table):
    shutil.copy(table, table.with_name("two.draws"))
    with pytest.raises(FileError, match="draws table data are opened one at a time; join them wit"):
        relabel.open_draws([table, table.with_name("two.draws")])
    relabel.save(mixture(), table.with_name("a.npz"))
    with pytest.raises(FileError, match=r"draws table data are opened one at a time"):
        relabel.open_draws([table.with_name("a.npz"), table])


def test_a_failed_write_leaves_nothing(table):
    before = table.read_bytes()
    wide = xr.Dataset({"W": (("chain", "draw", "x", "y"), np.zeros((2, 5, 2, 3)))})
    with pytest.raises(FileError, match="exists already"):
        relabel.save(wide, table)
    with pytest.raises(FileError, match=r"in.draws: could not be written: a table of draws holds"):
        relabel.save(wide, table, force=True)
    assert [path.name for path in table.parent.iterdir()] == ["in.draws"]
    assert table.read_bytes() == before


# ---------------------------------------------------------------------- commands


def test_every_command_takes_its_files(table, run, tmp_path):
    units = ["--units", "j=permutation", "--axes", "mu: j", "--axes", "sigma: j"]

    def output(*args):
        done = run(*args, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout

    assert "posterior/mu" in output("inspect", "in.draws")
    assert "wrote out.draws" in output("align", "in.draws", *units, "-o", "out.draws")
    assert output("align", "in.draws", *units, "-q", "-o", "out.nc") == ""
    assert same(
        values(relabel.open_draws(tmp_path / "out.draws")),
        values(relabel.align(mixture(), SPEC)),
    )
    assert json.loads(output("compare", "in.draws", *units, "--json"))
    assert output("convert", "in.draws", "-o", "in.nc") == "wrote in.nc\n"
    assert output("convert", "in.nc", "-o", "again.draws") == "wrote again.draws\n"
    assert (tmp_path / "again.draws").read_text() == table.read_text()
    assert output("undo", "out.nc", "-o", "back.nc")
    output("convert", "back.nc", "-o", "back.draws")
    assert (tmp_path / "back.draws").read_text() == table.read_text()


def test_without_it_the_file_is_of_no_known_kind(table, run, tmp_path):
    refused = run("inspect", table, installed=False)
    assert refused.returncode == 2
    assert "in.draws: not a netCDF-4 file, nor of another known kind: Zarr" in refused.stderr
    assert "draws table" not in refused.stderr
    refused = run("convert", Path(relabel.__file__), "-o", tmp_path / "a.nc")
    assert "emcee, draws table" in refused.stderr


# ---------------------------------------------------------------------- one file and one line


def test_it_takes_one_file_and_one_line(table, tmp_path):
    """A package of that file and that line alone is a source."""
    site = tmp_path / "site"
    (site / "other_package").mkdir(parents=True)
    shutil.copy(SITE / "relabel_example" / "source.py", site / "other_package")
    lines = (SITE / "relabel_example-0.1.dist-info" / "entry_points.txt").read_text().splitlines()
    line = lines[lines.index("[relabel.sources]") + 1]
    assert [entry for entry in lines if ".source:" in entry] == [line]
    about = site / "other_package-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: other-package\nVersion: 0.1\n")
    (about / "entry_points.txt").write_text(
        f"[relabel.sources]\n{line.replace('relabel_example', 'other_package')}\n"
    )
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "relabel", "convert", table, "-o", tmp_path / "out.nc"],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert same(values(relabel.open_draws(tmp_path / "out.nc")), values(mixture()))


# ---------------------------------------------------------------------- several of them


@pytest.fixture
def plug_in(monkeypatch, tmp_path):
    """Install packages, each with one module and one entry point."""

    def install(package, name, code):
        site = tmp_path / "site"
        (site / f"{package}-1.dist-info").mkdir(parents=True)
        (site / f"{package}.py").write_text(code)
        about = site / f"{package}-1.dist-info"
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
        (about / "entry_points.txt").write_text(f"[relabel.sources]\n{name} = {package}:ENTRY\n")
        monkeypatch.syspath_prepend(str(site))
        SOURCES.refresh()
        installed.append(package)

    installed = []
    yield install
    monkeypatch.undo()
    for package in installed:
        sys.modules.pop(package, None)
    SOURCES.refresh()


SAME_NAME = """
from relabel.sources import Source
ENTRY = Source("netCDF", lambda path, start: False, lambda paths: None)
"""


def test_two_sources_of_one_name_are_refused_by_name(plug_in, tmp_path):
    plug_in("their_netcdf", "netCDF", SAME_NAME)
    message = r"two sources are named 'netCDF': their_netcdf:ENTRY \(their_netcdf\) and relabel it"
    with pytest.raises(SpecError, match=message):
        relabel.open_draws(__file__)


def test_two_sources_of_one_suffix_are_refused_by_name(plug_in, tmp_path):
    plug_in("their_npz", "their arrays", SAME_NAME.replace("netCDF", "their arrays").replace(
        "lambda paths: None", "None, suffixes=('.npz',), write=print"))  # fmt: skip
    with pytest.raises(FileError, match=r"a.NPZ: .npz and their arrays both write files that end"):
        writer_of(Path("a.NPZ"))
    assert writer_of(Path("a.npy")).name == ".npy"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("ENTRY = print", "'odd' of relabel.sources must be a relabel.sources.Source of that na"),
        (SAME_NAME, "'odd' of relabel.sources must be .* not Source.name='netCDF'"),
        ("import no_such_module", "source 'odd' of odd_one cannot be loaded from odd_one:ENTRY"),
    ],
)
def test_entry_points_that_are_no_source(code, message, plug_in):
    plug_in("odd_one", "odd", code)
    with pytest.raises(SpecError, match=message):
        relabel.open_draws(__file__)


HDF5 = """
import h5py
from relabel.sources import Source, tree_of
def detect(path, start):
    if not start.startswith(b"\\x89HDF"):
        return False
    with h5py.File(path) as file:
        return "their_version" in file.attrs
def read(paths):
    with h5py.File(paths[0]) as file:
        return tree_of({"w": file["w"][()]}, source="theirs", sample_dims="draw")
ENTRY = Source("theirs", detect, read)
"""


def test_other_packages_know_their_own_files_in_hdf5(plug_in, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["w"] = np.arange(6.0).reshape(3, 2)
        file.attrs["their_version"] = 1
    assert source_of(tmp_path / "a.h5").name == "netCDF"
    plug_in("their_hdf5", "theirs", HDF5)
    assert source_of(tmp_path / "a.h5").name == "theirs"
    draws = relabel.open_draws(tmp_path / "a.h5")
    assert draws["posterior/w"].values.tolist() == [[[0, 1], [2, 3], [4, 5]]]
    relabel.save(mixture(), tmp_path / "b.nc")
    assert source_of(tmp_path / "b.nc").name == "netCDF"


# ---------------------------------------------------------------------- each file is looked at once


@pytest.fixture
def looked_at(monkeypatch):
    """Paths that a source was asked about, in order."""
    asked = []

    def detect(path, start):
        asked.append(path.name)
        return False

    watching = Source("watching", detect, lambda paths: None)
    monkeypatch.setitem(SOURCES._known, "watching", watching)
    return asked


def test_each_file_is_looked_at_once(looked_at, tmp_path):
    for name in ("a.nc", "a.zarr", "a.npz", "b.npz", "a.npy"):
        data = mixture() if name != "a.npy" else mixture()["posterior"].to_dataset()[["mu"]]
        relabel.save(data, tmp_path / name)
        looked_at.clear()
        relabel.open_draws(tmp_path / name, **{"sample_dims": "chain draw"} if "np" in name else {})
        assert looked_at == [name]
    looked_at.clear()
    relabel.open_draws(sorted(tmp_path.glob("*.npz")))
    assert looked_at == ["a.npz", "b.npz"]
    (tmp_path / "run").mkdir()
    for name in ("a.npz", "b.npz"):
        (tmp_path / name).rename(tmp_path / "run" / name)
    looked_at.clear()
    relabel.open_draws(tmp_path / "run")
    assert looked_at == ["run", "a.npz", "b.npz"]
    draws = relabel.open_draws(tmp_path / "a.nc")
    aligned = relabel.align(draws, SPEC)
    looked_at.clear()
    relabel.save(aligned, tmp_path / "out.nc", source=tmp_path / "a.nc")
    assert looked_at == ["a.nc"]


def test_a_source_is_a_plain_value():
    with pytest.raises(AttributeError):
        SOURCES["netCDF"].name = "other"
    assert replace(SOURCES["netCDF"], name="other").suffixes[0] == ".nc"
    assert list(SOURCES)[:2] == ["netCDF", "Zarr"]
