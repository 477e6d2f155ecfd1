"""Input that cannot be used: one clear message, status 2, nothing written; or correct work."""

import os
import re
import shlex
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import xarray as xr
from files import DATA, RECORDED, REPOSITORY, SPEC, fingerprint, small_tree, write

import relabel
from relabel import DataError, SpecError
from relabel.analysis.reports import alignment_report
from relabel.cli import app as cli
from relabel.data.provenance import Provenance

SAMPLE = ("chain", "draw")
LONGEST = 2.0  # seconds of work for one text


@pytest.fixture
def refused(capsys, monkeypatch, tmp_path):
    """Run `align` on in.nc or another file; it must be refused, in one line."""
    monkeypatch.chdir(tmp_path)

    def told(*args, file="in.nc", units=("--units", "h=tanh")):
        before = fingerprint(tmp_path)
        argv = ["relabel", "align", file, "-o", "out.nc", *units, *args]
        monkeypatch.setattr(sys, "argv", list(map(str, argv)))
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        assert (end.value.code, out) == (2, ""), err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert fingerprint(tmp_path) == before
        return err

    return told


@pytest.fixture
def written(tmp_path):
    """Write a changed copy of the small draws to in.nc."""

    def made(change, name="in.nc"):
        posterior = change(small_tree()["posterior"].to_dataset())
        groups = {
            "posterior": posterior,
            "constant_data": small_tree()["constant_data"].to_dataset(),
        }
        return write(xr.DataTree.from_dict(groups), tmp_path / name)

    return made


# ---------------------------------------------------------------------- files


def test_no_such_file(refused):
    assert "in.nc: no such file" in refused()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a netCDF-4 file (it is empty)"),
        (b"chain,draw,W1\n0,0,1.5\n", "not a netCDF-4 file"),
        (b"CDF\x01\x00\x00\x00\x00" + bytes(40), "a classic netCDF-3 file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(200), "cannot be read as HDF5"),
    ],
)
def test_not_a_netcdf(content, message, refused, tmp_path):
    (tmp_path / "in.nc").write_bytes(content)
    assert message in refused()


def test_folders(refused, tmp_path):
    (tmp_path / "in.nc").mkdir()
    assert "a folder, but not a Zarr store" in refused()
    (tmp_path / "in.zarr").mkdir()
    (tmp_path / "in.zarr" / "zarr.json").write_text("{ not json")
    assert "cannot be read as Zarr" in refused(file="in.zarr")
    (tmp_path / "in.zarr" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    assert "holds no groups and no variables" in refused(file="in.zarr")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated_file(share, refused, tmp_path):
    whole = write(small_tree(), tmp_path / "whole.nc").read_bytes()
    (tmp_path / "in.nc").write_bytes(whole[: int(share * len(whole))])
    assert "in.nc: cannot be read as HDF5" in refused()


def test_damaged_values(refused, tmp_path):
    encoding = {"/posterior": {"W1": {"zlib": True, "chunksizes": (2, 20, 2, 3)}}}
    path = tmp_path / "in.nc"
    small_tree().to_netcdf(path, engine="h5netcdf", encoding=encoding)
    with h5py.File(path) as file:
        chunk = file["posterior/W1"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(content)
    assert "in.nc: posterior/W1 cannot be read: " in refused()


@pytest.mark.parametrize("version", [2, 3])
def test_damaged_zarr_values(version, refused, tmp_path):
    small_tree().to_zarr(tmp_path / "in.zarr", zarr_format=version, consolidated=False)
    folder = tmp_path / "in.zarr" / "posterior" / "W1"
    chunk = next(p for p in folder.rglob("*") if p.is_file() and p.name[0] in "0123456789")
    chunk.write_bytes(b"nonsense" * 4)
    assert "in.zarr: posterior/W1 cannot be read: " in refused(file="in.zarr")


def test_no_groups_and_no_posterior(refused, tmp_path):
    with h5py.File(tmp_path / "in.nc", "w"):
        pass
    assert "holds no groups and no variables" in refused()
    write(xr.DataTree.from_dict({"prior": small_tree()["posterior"]}), tmp_path / "prior.nc")
    assert "there is no group 'posterior'; found prior" in refused(file="prior.nc")


# ---------------------------------------------------------------------- draws


CHANGES = {
    "empty posterior": (lambda ds: xr.Dataset(), "has no variables"),
    "no chain": (lambda ds: ds.isel(chain=0, drop=True), "no dimension 'chain'"),
    "no draw": (lambda ds: ds.isel(draw=0, drop=True), "no dimension 'draw'"),
    "renamed": (lambda ds: ds.rename(draw="sample"), "no dimension 'draw'"),
    "no draws": (lambda ds: ds.isel(draw=slice(0)), "no draws"),
    "no units": (
        lambda ds: ds.isel(W1_dim_1=slice(0), b1_dim_0=slice(0), W2_dim_0=slice(0)),
        "no units 'h'",
    ),
    "complex": (lambda ds: ds.assign(b1=ds["b1"] + 0j), "complex"),
    "text": (lambda ds: ds.assign(b1=ds["b1"].astype(str)), "dtype"),
}
AXES = [word for name, line in SPEC.axes.items() for word in ("--axes", f"{name}: {line}")]


@pytest.mark.parametrize("case", CHANGES)
def test_draws_that_cannot_be_used(case, refused, written):
    change, message = CHANGES[case]
    if case == "complex":  # no netCDF type
        with pytest.raises(DataError, match=message):
            relabel.align(change(small_tree()["posterior"].to_dataset()), SPEC)
        return
    written(change)
    assert message in refused(*AXES)


def test_object_dtype():
    dataset = small_tree()["posterior"].to_dataset()
    dataset["b1"] = dataset["b1"].astype(object)
    with pytest.raises(DataError, match=r"'b1' has the dtype object.*convert it to float64"):
        relabel.align(dataset, SPEC)


def test_integers():
    values = np.array([[[3, 1, 2], [1, 2, 3], [2, 3, 1], [1, 3, 2]]], dtype="i2")
    draws = xr.Dataset({"mu": ((*SAMPLE, "component"), values)})
    aligned = relabel.align(draws, {"component": "permutation"})
    assert aligned["mu"].dtype == np.int16
    assert (aligned["mu"].values == aligned["mu"].values[:, :1]).all()
    xr.testing.assert_identical(relabel.undo(aligned), draws)
    unsigned = small_tree()["posterior"].to_dataset()
    unsigned["b1"] = abs(unsigned["b1"] * 10).astype("u1")
    with pytest.raises(DataError, match=r"dtype uint8.*may change its scale or sign"):
        relabel.align(unsigned, SPEC)


def test_axes_that_do_not_fit(refused, written):
    written(lambda ds: ds)
    cases = {
        "W9: x -> h": "unknown variable 'W9' (did you mean 'W",
        "W1: x y -> h": "has 2 axes a draw",
        "W1: x h": "is an arrow the wrong way round?",
        "W1: h -> x": "disagree",
        "W1: x -> -> h": "variable 'W1': ",
    }
    for line, message in cases.items():
        name = line.split(":")[0]
        rest = [w for n, text in SPEC.axes.items() if n != name for w in ("--axes", f"{n}: {text}")]
        assert message in refused("--axes", line, *rest)
    assert "read but nothing writes" in refused("--axes", "W2: h -> y")
    assert "nothing reads them" in refused("--axes", "W1: x -> h")
    assert "tanhh" in refused(*AXES, units=("--units", "h=tanhh"))


def test_sizes_that_disagree(refused, written):
    written(lambda ds: ds.isel(b1_dim_0=slice(0, 2)))
    told = refused(*AXES)
    assert "sizes of 'h' disagree: 2 in variable 'b1', 3 in variable 'W1'" in told
    assert "in the order in which they are stored" in told


def test_ambiguous_square_matrices(refused, tmp_path):
    draws = xr.Dataset(
        {
            "A_weight": ((*SAMPLE, "a", "b"), np.ones((2, 5, 3, 3))),
            "B_weight": ((*SAMPLE, "c", "d"), np.ones((2, 5, 3, 3))),
        }
    )
    write(xr.DataTree.from_dict({"posterior": draws}), tmp_path / "in.nc")
    assert relabel.propose(relabel.open_draws(tmp_path / "in.nc")).doubts
    assert "the axes are not certain" in refused()


# ---------------------------------------------------------------------- not finite


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_draws_that_are_not_finite_are_named(value, refused, written, tmp_path):
    def spoil(ds):
        for place in ((0, 3), (1, 0), (1, 7), (1, 19), (1, 18)):
            ds["W2"][(*place, 1, 0)] = value
        return ds

    path = written(spoil)
    told = refused()
    assert (
        "5 of 40 draws hold NaN or infinities: chain 1, draw 30; chain 2, draw 0; "
        "chain 2, draw 70 and 2 more"
    ) in told
    draws = relabel.open_draws(path)
    aligned = relabel.align(draws, SPEC, nonfinite="skip")
    excluded = aligned["relabel"]["excluded"].values
    assert [tuple(map(int, p)) for p in np.argwhere(excluded)] == [
        (0, 3),
        (1, 0),
        (1, 7),
        (1, 18),
        (1, 19),
    ]
    for name in SPEC.axes:
        before, after = draws["posterior"][name].values, aligned["posterior"][name].values
        assert before[excluded == 1].tobytes() == after[excluded == 1].tobytes()
    own = aligned["relabel"].to_dataset()
    assert (own["h_index"].values[excluded == 1] == np.arange(3)).all()
    assert np.isnan(own["loss"].values[excluded == 1]).all()
    assert (own["start"].values[excluded == 1] == -1).all()
    assert np.isfinite(own["loss"].values[excluded == 0]).all()
    clean = relabel.align(small_tree(), SPEC, inputs="constant_data/X")
    kept = aligned["posterior"]["W1"].values[excluded == 0]
    reference = clean["posterior"]["W1"].values[excluded == 0]
    assert any(np.allclose(kept[..., p] * s, reference) for p, s in _signed_permutations())
    assert "5 draws are not finite" in " ".join(Provenance.of(aligned).warnings)
    found = alignment_report(draws, aligned)
    assert [name for name, _ in found.table] == ["weights before", "weights after", "outputs"]
    assert any(
        note.startswith("outputs of the network that the spec describes changed by at most")
        for note in found.notes
    )
    xr.testing.assert_identical(relabel.undo(aligned), draws)


def _signed_permutations():
    import itertools

    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            yield list(order), np.array(signs)


def test_no_finite_draw_at_all():
    tree = small_tree()
    tree["posterior"]["b1"][:] = np.nan
    with pytest.raises(DataError, match="every draw"):
        relabel.align(tree, SPEC, nonfinite="skip")
    with pytest.raises(SpecError, match="nonfinite must be one of 'raise', 'skip'"):
        relabel.align(small_tree(), SPEC, nonfinite="drop")


# ---------------------------------------------------------------------- little, but enough


SMALL = {
    "one chain": (lambda ds: ds.isel(chain=[0]), True),
    "one draw": (lambda ds: ds.isel(draw=[0]), False),
    "two draws": (lambda ds: ds.isel(draw=[0, 1]), False),
    "one chain of one draw": (lambda ds: ds.isel(draw=[0], chain=[0]), False),
    "one unit": (lambda ds: ds.isel(W1_dim_1=[0], b1_dim_0=[0], W2_dim_0=[0]), True),
}


@pytest.mark.parametrize("case", SMALL)
def test_few_draws_or_units(case, written, capsys, monkeypatch, tmp_path):
    change, has_rhat = SMALL[case]
    path = written(change)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys, "argv", ["relabel", "align", "in.nc", "-o", "out.nc", "--units", "h=tanh", *AXES]
    )
    with pytest.raises(SystemExit) as end:
        cli.main()
    out, err = capsys.readouterr()
    assert (end.value.code, err) == (0, "")
    rhat, ess = re.search(r"^weights after +(\S+) +(\S+)$", out, re.MULTILINE).groups()
    assert (rhat != "–", ess != "–") == (has_rhat, has_rhat)
    assert ("note: one chain: R-hat compares 4 segments of it" in out) == (case == "one chain")
    assert ("R-hat and ESS need more draws" in out) != has_rhat
    aligned = relabel.open_draws("out.nc")
    xr.testing.assert_identical(relabel.undo(aligned), relabel.open_draws(path))
    own = aligned["relabel"].to_dataset()
    assert np.isfinite(own["loss"]).all()
    if case == "one unit":
        assert (own["h_index"] == 0).all()
        assert set(np.unique(own["h_factor"])) == {-1.0, 1.0}


def test_draws_that_do_not_move():
    draws = small_tree()["posterior"].to_dataset().isel(draw=[0] * 6, chain=[0, 0])
    draws = draws.assign_coords(draw=np.arange(6), chain=[0, 1])
    aligned = relabel.align(draws, SPEC)
    for name in SPEC.axes:
        np.testing.assert_array_equal(aligned[name], draws[name])
    assert Provenance.of(aligned).n_moved == 0
    assert np.isnan(alignment_report(draws, aligned).table[0][1].rhat)


def test_a_record_that_is_damaged():
    aligned = relabel.align(small_tree(), SPEC)
    for wrong, message in {
        "h_index": "no permutations",
        "h_factor": "zero or not finite",
    }.items():
        broken = aligned.copy(deep=True)
        broken["relabel"][wrong][0, 0] = 0
        with pytest.raises(DataError, match=message):
            relabel.undo(broken)
    gone = aligned.copy()
    gone["relabel"].dataset = aligned["relabel"].to_dataset().drop_vars("h_index")
    with pytest.raises(DataError, match="'h_index'; it is damaged"):
        relabel.undo(gone)
    for text in ("{", "3", "{}", '{"spec": 3}'):
        broken = aligned.copy()
        broken["relabel"].attrs = {"relabel": text}
        with pytest.raises(DataError, match="damaged"):
            relabel.undo(broken)


def test_the_shipped_files_are_whole():
    for name in ("tanh_shallow.nc", "tanh_deep.nc"):
        assert relabel.propose(relabel.open_draws(DATA / name)).certain


def test_chains_of_different_numbers_of_units():
    mu = np.random.default_rng(0).normal(size=(3, 5, 4))
    mu[1, :, 3] = np.nan  # this chain has three
    draws = xr.Dataset({"mu": (("chain", "draw", "component"), mu)})
    with pytest.raises(DataError, match=r"all draws of some chains do.*align chains of one number"):
        relabel.align(draws, {"component": "permutation"})
    aligned = relabel.align(draws.isel(chain=[0, 2]), {"component": "permutation"})
    assert np.isfinite(aligned["mu"]).all()


# ---------------------------------------------------------------------- texts


TEXTS = {
    "long": "a" * 100_000,
    "round": "(" * 10_000,
    "square": "[" * 10_000,
    "curly": "{a=" * 10_000,
    "digits": "9" * 5000,
    "huge": "1e999",
    "dots": "a." * 10_000 + "a=1",
}
OPTIONS = {
    "units": ("--units", "h={}"),
    "name of units": ("--units", "{}=tanh"),
    "axes": ("--axes", "b2: {}"),
    "arrow": ("--axes", "b2: h -> {}"),
    "variable": ("--axes", "{}: x -> h"),
    "values": ("--values", "z={}"),
    "sizes": ("--sizes", "x={}"),
    "name of sizes": ("--sizes", "{}=3"),
    "gauges": ("--gauges", "h={}"),
    "supports": ("--supports", "b2={}"),
    "activation": ("--activation", "{}"),
    "criterion": ("--criterion", "{}"),
    "set": ("--set", "max_sweeps={}"),
    "name of set": ("--set", "{}=1"),
    "inputs": ("--inputs", "{}"),
    "archive": ("--inputs", "{}.npz:x"),
    "reference": ("--reference", "{}"),
    "chain": ("--reference", "chain={},draw=0"),
    "sample dims": ("--sample-dims", "{}"),
    "rng": ("--rng", "{}"),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_texts_that_are_long_or_nested(option, written, capsys, monkeypatch, tmp_path):
    written(lambda posterior: posterior)
    monkeypatch.chdir(tmp_path)
    name, form = OPTIONS[option]
    for text in TEXTS.values():
        argv = ["relabel", "align", "in.nc", "-o", "out.nc", "--units", "h=tanh"]
        argv += AXES if name == "--axes" or option in ("values", "sizes") else []
        monkeypatch.setattr(sys, "argv", [*argv, "--force", "-q", name, form.format(text)])
        start = time.process_time()
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert time.process_time() - start < LONGEST, text[:20]
        err = capsys.readouterr().err
        assert end.value.code in (0, 2), err
        assert "Traceback" not in err
        if err.startswith("error: "):
            assert err.count("\n") == 1
            assert len(err) < 2100


@pytest.mark.parametrize(
    "line",
    [
        "a" * 100_000,
        "a." * 10_000 + "=",
        "|" + "a." * 10_000 + "=|",
        "^" * 10_000,
        "h^" + "9" * 5000,
        "(" * 10_000,
        "(a + " * 10_000,
        "-> " * 10_000,
        "..." * 10_000,
    ],
)
def test_axes_that_are_long_or_nested(line):
    start = time.process_time()
    with pytest.raises(SpecError):
        relabel.Spec({"h": "tanh"}, {"W": f"{line} -> h"})
    assert time.process_time() - start < LONGEST


def test_specs_that_are_nested(refused, written):
    path = written(lambda posterior: posterior).with_name("spec.toml")
    for text in ("a = " + "[" * 10_000, "[sizes]\nx = " + "9" * 5000, "[units]\nh = 1e999"):
        path.write_text(text)
        assert "spec" in refused("--spec", path, units=())


# ---------------------------------------------------------------------- standard streams


def run(line, folder, **environment):
    """Run a line of the shell, in which $RELABEL is the command."""
    command = shlex.join([sys.executable, "-m", "relabel"])
    environment = {**os.environ, "RELABEL": command, "PYTHONPATH": str(REPOSITORY), **environment}
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env=environment, capture_output=True, timeout=60
    )


STREAMS = {
    "closed pipe": ("$RELABEL inspect a.csv | true; exit ${PIPESTATUS[0]}", 141, b""),
    "closed output": ("$RELABEL inspect a.csv >&-", 141, b""),
    "closed output, help": ("$RELABEL --help >&-", 141, b""),
    "closed output, nothing to print": (
        "$RELABEL convert a.csv -o b.nc -q >&- && $RELABEL inspect b.nc >/dev/null",
        0,
        b"",
    ),
    "full output": (
        "$RELABEL inspect a.csv >/dev/full",
        2,
        b"error: standard output: No space left on device\n",
    ),
    "full output, version": (
        "$RELABEL --version >/dev/full",
        2,
        b"error: standard output: No space left on device\n",
    ),
    "closed errors": ("$RELABEL inspect missing.nc 2>&-", 2, b""),
    "closed input": ("$RELABEL inspect a.csv <&- >/dev/null", 0, b""),
    "pipe as a file": (
        "$RELABEL inspect pipe",
        2,
        b"error: pipe: is a named pipe, not a file; save the draws in a file first\n",
    ),
}


@pytest.mark.parametrize("case", STREAMS)
def test_streams(case, tmp_path):
    (tmp_path / "a.csv").write_bytes((RECORDED / "sources" / "stan_chain_1.csv").read_bytes())
    os.mkfifo(tmp_path / "pipe")
    line, status, told = STREAMS[case]
    done = run(line, tmp_path)
    assert (done.returncode, done.stderr) == (status, told)


def test_output_that_knows_only_ascii(tmp_path):
    draws = small_tree()["posterior"].to_dataset().rename(b1="größe")
    write(xr.DataTree.from_dict({"posterior": draws}), tmp_path / "in.nc")
    plain = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    done = run("$RELABEL inspect in.nc; $RELABEL inspect $'no\\xff.nc'", tmp_path, **plain)
    assert b"posterior/gr" in done.stdout
    assert done.returncode == 2
    assert done.stderr == b"error: no\\udcff.nc: no such file or folder\n"


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (MemoryError("Unable to allocate 8 EiB"), 2, "error: there is not enough memory (Unable"),
        (KeyboardInterrupt(), 130, "interrupted: nothing was written"),
        (DataError("one\ntwo" + "x" * 9000), 2, "error: one two"),
    ],
)
def test_errors_in_one_line(error, status, told, capsys, monkeypatch):
    def failing(*_, **__):
        raise error

    monkeypatch.setattr("relabel.io.reading.open_draws", failing)
    monkeypatch.setattr(sys, "argv", ["relabel", "inspect", "in.nc"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    out, err = capsys.readouterr()
    assert (end.value.code, out, err.count("\n")) == (status, "", 1)
    assert err.startswith(told)
    assert len(err) < 2100
