"""The command, from its arguments to its exit status."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import jsonschema
import numpy as np
import pytest
import xarray as xr
from files import DATA, REPOSITORY, SPEC, fingerprint, small_tree, write

import relabel
from relabel.analysis.reports import as_planted
from relabel.cli import demo_command
from relabel.data.provenance import Provenance
from relabel.diagnostics.diagnosis import schema

SHALLOW, DEEP = DATA / "tanh_shallow.nc", DATA / "tanh_deep.nc"
UNITS = ["--units", "h=tanh"]
ALIGN = ["align", "in.nc", "-o", "out.nc", *UNITS]
SUBPROCESS = {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "200", "TERM": "xterm"}


@pytest.fixture
def small(tmp_path):
    """A small file, and a function that aligns it and opens the result."""
    return write(small_tree(), tmp_path / "in.nc")


@pytest.fixture
def align(call, small):
    def aligned(*args, units=("--units", "h=tanh")):
        status, out, err = call("align", small, "-o", "out.nc", *units, *args)
        assert (status, err) == (0, ""), err
        return relabel.open_draws("out.nc"), out

    return aligned


# ---------------------------------------------------------------------- the account


def test_align_prints_a_plain_account(call):
    status, out, err = call(
        "align", DEEP, "-o", "out.nc", "--units", "h1=tanh", "--units", "h2=tanh"
    )
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert "units      h1: 4 × tanh (signed permutation)" in lines
    assert "draws      4 × 250 (chain × draw), 750 of 1000 relabelled" in lines
    before, after = re.findall(r"^loss +(\S+) before, (\S+) after", out, re.MULTILINE)[0]
    assert float(after) < float(before)
    assert re.search(r"^separated +h1: least log odds [\d.]+ \(slots? \d", out, re.MULTILINE)
    assert re.search(r"^opinion +mean ", out, re.MULTILINE)
    assert re.search(r"^starts +\w+ \d+", out, re.MULTILINE)
    assert re.search(
        r"^margin +h1: worst [\d.]+ \(slot \d, chain \d, draw \d+\); median of a slot [\d.]+ to ",
        out,
        re.MULTILINE,
    )
    table = dict(re.findall(r"^(weights before|weights after|outputs) +(\S+) ", out, re.MULTILINE))
    assert float(table["weights before"]) > 2.8
    assert float(table["weights after"]) < 1.02
    assert float(table["outputs"]) < 1.02
    assert "note: inputs: constant_data/X, the only variable that fits" in lines
    assert any(line.startswith("note: axes, from names and shapes: W1: x -> h1;") for line in lines)
    assert "note: outputs of the network that the spec describes changed by at most" in out
    assert lines[-1] == "wrote out.nc"
    assert "\x1b" not in out


def test_quiet_prints_nothing(call, small):
    assert call("align", small, "-o", "out.nc", "--units", "h=tanh", "--quiet") == (0, "", "")
    assert call("undo", "out.nc", "-o", "back.nc", "-q") == (0, "", "")
    xr.testing.assert_identical(relabel.open_draws("back.nc"), relabel.open_draws(small))


def test_terminal_has_tables_and_bars(small, tmp_path):
    def on_terminal(*args):
        ours, theirs = os.openpty()
        code = "from relabel.cli.app import main; main()"
        command = [sys.executable, "-c", code, *map(str, args)]
        with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=SUBPROCESS) as process:
            os.close(theirs)
            shown = b""
            while True:
                try:
                    piece = os.read(ours, 65536)
                except OSError:
                    break
                if not piece:
                    break
                shown += piece
        os.close(ours)
        assert process.returncode == 0, shown
        return re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", shown.decode()), b"\x1b[" in shown

    shown, styled = on_terminal("align", small, "-o", tmp_path / "out.nc", "--units", "h=tanh")
    assert styled
    assert "┃ max R-hat ┃" in shown
    assert re.search("[a-z]+ ━+ ", shown)


@pytest.mark.skipif(not hasattr(signal, "SIGPIPE"), reason="no such signal on this system")
def test_a_reader_that_stops_reading_ends_the_command(small):
    """Like other tools: no message, and the status of the signal."""
    command = [sys.executable, "-m", "relabel", "inspect", str(small)]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, env=SUBPROCESS)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b"")


def test_a_run_leaves_no_trace_in_the_process(call, small):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(getattr(signal, "SIGPIPE", 2))
    assert call("inspect", small)[0] == 0
    after = signal.getsignal(signal.SIGINT), signal.getsignal(getattr(signal, "SIGPIPE", 2))
    assert after == before


# ---------------------------------------------------------------------- what is exchangeable


def test_dimensions_as_units(call):
    status, out, _ = call("align", SHALLOW, "-o", "out.nc", "--units", "unit=permutation")
    assert status == 0
    assert "units      unit: 4 × permutation" in out
    assert "note: axes, from names and shapes: W1: x -> unit" in out
    assert "unit_index" in relabel.open_draws("out.nc")["relabel"]


def test_dimensions_alone_are_a_spec(call, tmp_path):
    """No network here: every variable with the dimension carries the units."""
    rng = np.random.default_rng(0)
    order = np.argsort(rng.random((2, 30, 3)), axis=-1)
    mu = np.take_along_axis(np.array([-5.0, 0, 5]) + rng.normal(size=(2, 30, 3)), order, -1)
    draws = xr.Dataset({"mu": (("chain", "draw", "component"), mu)})
    xr.DataTree.from_dict({"posterior": draws}).to_netcdf(tmp_path / "mix.nc", engine="h5netcdf")
    status, out, _ = call("align", "mix.nc", "-o", "out.nc", "--units", "component=permutation")
    assert status == 0
    assert "note: axes" not in out
    aligned = relabel.open_draws("out.nc")["posterior"]["mu"].values
    assert np.ptp(aligned.mean(axis=(0, 1))) > 9
    assert (aligned.std(axis=(0, 1)) < 1.3).all()


def test_axes_spec_and_proposal_agree(align, call, small, tmp_path):
    proposed, out = align()
    assert "note: axes, from names and shapes: W1: x -> h; b1: -> h; W2: h -> y; b2: -> y" in out
    axes = [word for name, line in SPEC.axes.items() for word in ("--axes", f"{name}: {line}")]
    named, _ = align("--force", *axes)
    (tmp_path / "spec.toml").write_text(SPEC.to_toml())
    declared, _ = align("--force", units=("--spec", "spec.toml"))
    for other in (named, declared):
        xr.testing.assert_equal(other["posterior"].to_dataset(), proposed["posterior"].to_dataset())
        assert Provenance.of(other).spec.axes == dict(SPEC.axes)


def test_gauge(call, tmp_path):
    write(small_tree(activation="relu"), tmp_path / "relu.nc")
    status, out, _ = call(
        "align", "relu.nc", "-o", "out.nc", "--units", "h=relu", "--gauges", "h=unit"
    )
    assert status == 0
    assert "preserves the likelihood, not the prior" in out
    found = relabel.open_draws("out.nc")
    assert Provenance.of(found).spec.gauges == {"h": "unit"}
    incoming = found["posterior"]["W1"] ** 2
    norms = incoming.sum("W1_dim_0").values + found["posterior"]["b1"].values ** 2
    np.testing.assert_allclose(norms, 1.0)


def test_supports(call, tmp_path):
    rng = np.random.default_rng(0)
    dims = ("chain", "draw", "component")
    sigma = np.exp(rng.normal(size=(1, 30, 2)))
    write(xr.DataTree.from_dict({"posterior": xr.Dataset({"sigma": (dims, sigma)})}),
          tmp_path / "mixture.nc")  # fmt: skip
    command = ("align", "mixture.nc", "-o", "out.nc", "--units", "component=permutation")
    assert call(*command, "--supports", "sigma=positive")[0] == 0
    found = Provenance.of(relabel.open_draws("out.nc"))
    assert found.spec.supports == {"sigma": "positive"}
    status, _, err = call(*command, "--force", "--supports", "sigma=positve")
    assert status == 2
    assert "did you mean 'positive'" in err
    assert "\n" not in err.strip()


# ---------------------------------------------------------------------- criteria


CRITERIA = {
    "mean": (["--set", "scale=none"], {"scale": "none", "max_sweeps": 100}),
    "mean, some variables": (["--set", 'var_names=["W1", "b1"]'], {"var_names": ["W1", "b1"]}),
    "normal": (
        ["--set", "covariance=full", "--set", "shrinkage=3", "--set", "max_sweeps=5"],
        {"covariance": "full", "shrinkage": 3},
    ),
    "activations": (["--set", "n_inputs=7"], {"n_inputs": 7}),
    "order": (["--set", "var_names=norm", "--set", "pin=b1"], {"var_names": "norm", "pin": "b1"}),
    "order, by units": (["--set", 'var_names={h="W1[0]"}'], {"var_names": {"h": "W1[0]"}}),
    "reference": (["--set", "reference=medoid"], {"reference": "medoid"}),
    "reference, one draw": (
        ["--set", "reference={chain=2, draw=30}"],
        {"reference": {"chain": 2, "draw": 30}},
    ),
}


@pytest.mark.parametrize("case", CRITERIA)
def test_every_criterion_with_its_options(case, align):
    name = case.split(",")[0]
    options, expected = CRITERIA[case]
    found, out = align("--criterion", name, *options)
    described = Provenance.of(found).criterion
    assert described["name"] == name
    assert expected.items() <= described.items()
    assert re.search(rf"^criterion +{name} \(", out, re.MULTILINE)


def test_an_option_needs_the_criterion_that_has_it(call, small):
    options = ("--units", "h=tanh", "--set", "scale=none")
    code, _, err = call("align", small, "-o", "out.nc", *options)
    assert code == 2
    assert "--set scale needs --criterion" in err


def test_criterion_in_the_spec_file(align, tmp_path):
    (tmp_path / "spec.toml").write_text(
        SPEC.to_toml()
        + '\n[criterion]\nname = "normal"\ncovariance = "full"\nshrinkage = 4.0\nmax_sweeps = 7\n'
    )
    found, _ = align(units=("--spec", "spec.toml"))
    assert Provenance.of(found).criterion["shrinkage"] == 4.0
    found, _ = align("--set", "shrinkage=5", "--force", units=("--spec", "spec.toml"))
    described = Provenance.of(found).criterion
    assert (described["shrinkage"], described["max_sweeps"]) == (5, 7)
    same = ("--criterion", "normal", "--force")
    found, _ = align(*same, units=("--spec", "spec.toml"))
    assert Provenance.of(found).criterion["max_sweeps"] == 7
    found, _ = align("--criterion", "mean", "--force", units=("--spec", "spec.toml"))
    assert Provenance.of(found).criterion["name"] == "mean"


def unmoved(found, **place):
    """Whether a draw kept its labels."""
    own = found["relabel"].sel(place)
    return (own["h_index"].values == np.arange(3)).all() and (own["h_factor"].values == 1).all()


def test_reference_words_and_draws(align, small):
    tree = small_tree()
    best = tree["sample_stats"]["lp"].to_series()
    chain, draw = best.idxmax()
    found, _ = align("--reference", "map")
    assert unmoved(found, chain=chain, draw=draw)
    found, _ = align("--reference", "chain=2,draw=70", "--force")
    assert unmoved(found, chain=2, draw=70)
    found, _ = align("--reference", "medoid", "--force")
    loss = found["relabel"]["loss"].to_series()
    assert loss.min() == pytest.approx(0, abs=1e-12)
    assert unmoved(found, **dict(zip(loss.index.names, loss.idxmin(), strict=True)))


def test_reference_files(align, call, small, tmp_path):
    tree = small_tree()
    single = tree["posterior"].to_dataset().isel(chain=0, draw=4)
    write(xr.DataTree.from_dict({"posterior": single}), tmp_path / "point.nc")
    found, out = align("--reference", "point.nc")
    assert "note: reference: the point in the file (point.nc)" in out
    assert unmoved(found, chain=1, draw=40)
    raw, out = align("--reference", small, "--force")
    assert "note: reference: its draw of highest lp" in out
    best, _ = align("--reference", "map", "--force")
    xr.testing.assert_equal(raw["posterior"].to_dataset(), best["posterior"].to_dataset())
    (tmp_path / "out.nc").rename(tmp_path / "aligned.nc")
    again, out = align("--reference", "aligned.nc")
    assert "note: reference: the mean of its aligned draws (aligned.nc)" in out
    xr.testing.assert_equal(again["posterior"].to_dataset(), best["posterior"].to_dataset())


# ---------------------------------------------------------------------- inputs


def test_inputs_named_none_and_not_unique(call, tmp_path):
    def align(name, *args):
        status, out, err = call("align", name, "-o", f"out_{name}", *UNITS, "--force", *args)
        assert (status, err) == (0, "")
        return relabel.open_draws(f"out_{name}"), out

    tree = small_tree()
    tree["constant_data"]["Z"] = -tree["constant_data"]["X"]
    write(tree, tmp_path / "two.nc")
    found, out = align("two.nc")
    assert Provenance.of(found).options["inputs"] is None
    told = "several variables could be inputs (constant_data/X, constant_data/Z); name one"
    assert f"note: outputs were not looked at: {told}" in out
    assert not re.search("^outputs", out, re.MULTILINE)
    found, out = align("two.nc", "--inputs", "constant_data/Z")
    assert Provenance.of(found).options["inputs"] == "constant_data/Z"
    assert "note: inputs: constant_data/Z\n" in out
    assert re.search("^outputs", out, re.MULTILINE)
    tree["constant_data"].dataset = tree["constant_data"].to_dataset().drop_vars("Z")
    write(tree, tmp_path / "one.nc")
    found, out = align("one.nc", "--inputs", "none")
    assert Provenance.of(found).options["inputs"] is None
    assert "the inputs constant_data/X were not to be used" in out
    del tree["constant_data"]
    write(tree, tmp_path / "none.nc")
    assert "no inputs are stored with the draws" in align("none.nc")[1]


# ---------------------------------------------------------------------- options of the search


def test_seed_and_random_starts(call):
    options = ("--units", "h1=tanh", "--units", "h2=tanh", "--inputs", "none", "-q")
    for name in ("one.nc", "two.nc"):
        status, _, err = call("align", DEEP, "-o", name, *options, "--rng", 5, "--n-random", 2)
        assert status == 0, err
    one, two = relabel.open_draws("one.nc"), relabel.open_draws("two.nc")
    xr.testing.assert_identical(one, two)
    assert Provenance.of(one).options | {"n_perturbations": 0} == {
        "inputs": None,
        "n_random": 2,
        "n_perturbations": 0,
        "rng": 5,
    }


def test_skip_nonfinite(align, call, small, tmp_path):
    tree = small_tree()
    tree["posterior"]["W1"][1, 2] = np.inf
    write(tree, tmp_path / "in.nc")
    status, out, err = call("align", small, "-o", "out.nc", "--units", "h=tanh")
    assert status == 2
    assert "1 of 40 draws hold NaN or infinities: chain 2, draw 20;" in err
    found, out = align("--skip-nonfinite")
    assert "note: 1 draw is not finite and was left as it is" in out
    assert "of 39 relabelled" in out
    assert found["relabel"]["excluded"].values.sum() == found["relabel"]["excluded"][1, 2] == 1
    assert unmoved(found, chain=2, draw=20)
    assert re.search(r"^weights after +\d", out, re.MULTILINE)


# ---------------------------------------------------------------------- inspect, undo, demo


def test_inspect_proposes_a_spec(call, small, tmp_path):
    status, out, err = call("inspect", small)
    assert (status, err) == (0, "")
    assert re.search(
        r"^# posterior/W1 +chain=2 draw=20 W1_dim_0=2 W1_dim_1=3 +float64$", out, re.MULTILINE
    )
    assert re.search(r"^# h +3 +tanh +signed permutation +exact$", out, re.MULTILINE)
    assert "inputs: constant_data/X" in out
    assert relabel.Spec.from_toml(out) == SPEC  # in a pipe, all else is a comment
    (tmp_path / "spec.toml").write_text(out)
    status, out, err = call("inspect", small, "--spec", "spec.toml")
    assert (status, err) == (0, "")
    assert re.search(r"^# posterior/W1 .* float64 +x \(read\) h \(written\)$", out, re.MULTILINE)
    assert "# proposed" not in out


def test_inspect_shows_blocks_as_they_are_declared(call, tmp_path):
    data = xr.Dataset({"W": (("chain", "draw", "i", "j"), np.ones((1, 2, 6, 2)))})
    xr.DataTree.from_dict({"posterior": data}).to_netcdf(tmp_path / "blocks.nc", engine="h5netcdf")
    (tmp_path / "blocks.toml").write_text(
        '[units]\nh = "permutation"\n[axes]\nW = "(h^0 + h + h) <- x"\n'
    )
    status, out, err = call("inspect", "blocks.nc", "--spec", "blocks.toml")
    assert (status, err) == (0, "")
    assert "(h^0 + h + h) <- x" in out


def test_inspect_says_what_is_in_doubt(call, tmp_path):
    sample = ("chain", "draw")
    draws = xr.Dataset(
        {
            "A_weight": ((*sample, "a", "b"), np.ones((2, 5, 3, 3))),
            "B_weight": ((*sample, "c", "d"), np.ones((2, 5, 3, 3))),
        }
    )
    write(xr.DataTree.from_dict({"posterior": draws}), tmp_path / "square.nc")
    status, out, err = call("inspect", "square.nc")
    assert (status, err) == (0, "")
    assert "# in doubt:" in out
    status, out, err = call("align", "square.nc", "-o", "out.nc", "--units", "h=tanh")
    assert (status, out) == (2, "")
    assert err.startswith("error: no dimension is named h, and the axes are not certain")
    assert err.count("\n") == 1
    assert not (tmp_path / "out.nc").exists()


def test_undo(call, small):
    before = fingerprint(small)
    assert call("align", small, "-o", "out.nc", "--units", "h=tanh")[0] == 0
    assert call("undo", "out.nc", "-o", "back.zarr") == (0, "wrote back.zarr\n", "")
    xr.testing.assert_identical(relabel.open_draws("back.zarr"), small_tree())
    assert fingerprint(small) == before
    status, _, err = call("undo", small, "-o", "never.nc")
    assert (status, err) == (
        2,
        "error: these draws were not aligned: there is no group 'relabel'\n",
    )


def test_demo(call, tmp_path):
    status, out, err = call("demo", "-o", tmp_path)
    assert (status, err) == (0, "")
    assert "labels  100.0 % of units and signs as planted" in out
    assert {p.name for p in tmp_path.iterdir()} == {
        "aligned_tanh_shallow.nc",
        "aligned_tanh_deep.nc",
    }
    status, _, err = call("demo", "-o", tmp_path)
    assert status == 2
    assert "exists already" in err
    status, _, err = call("demo", "-o", tmp_path / "new" / "folder")
    assert (status, err) == (0, "")
    assert (tmp_path / "new" / "folder" / "aligned_tanh_deep.nc").exists()


def test_the_draws_of_the_demo_are_found_where_a_wheel_puts_them(call, tmp_path, monkeypatch):
    monkeypatch.setattr(demo_command, "__file__", str(tmp_path / "relabel" / "cli" / "demo.py"))
    status, out, err = call("demo")
    assert (status, out) == (2, "")
    assert err == "error: the draws of the demo were not installed with the package\n"
    (tmp_path / "relabel" / "_demo").mkdir(parents=True)
    for file in (SHALLOW, DEEP):
        shutil.copy(file, tmp_path / "relabel" / "_demo")
    status, out, err = call("demo")
    assert (status, err) == (0, "")
    assert "labels  100.0 % of units and signs as planted" in out


def test_planted_share_is_counted():
    draws = relabel.open_draws(DEEP)
    spec = relabel.propose(draws).spec
    one = relabel.criteria.ToReference({"chain": 0, "draw": 0}, var_names=("b1", "b2"))
    assert as_planted(relabel.align(draws, spec, criterion=one)) < 0.9
    aligned = relabel.align(draws, spec)
    assert as_planted(aligned) == 1.0
    aligned["relabel"]["h1_factor"][2, 7, 1] *= -1
    assert as_planted(aligned) == pytest.approx(1 - 1 / 8000)
    assert as_planted(relabel.align(small_tree(), SPEC)) is None


# ---------------------------------------------------------------------- status


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["align", "in.nc"], "Missing option"),
        (["align", "in.nc", "-o", "out.nc"], "no units are given"),
        (["align", "in.nc", "-o", "out.nc", "--units", "h"], "'h' is not a pair"),
        (["align", "in.nc", "-o", "out.nc", "--units", "h=tan"], "unknown activation 'tan'"),
        ([*ALIGN, "--axes", "W1"], "not a pair"),
        ([*ALIGN, "--rng", "-1"], "--rng"),
        ([*ALIGN, "--gauges", "h=unit"], "gauge"),
        ([*ALIGN, "--spec", "s.toml"], "either --spec"),
        (["align", "in.nc", "-o", "out.nc", "--spec", "s.toml"], "s.toml: no such file"),
        ([*ALIGN, "--criterion", "best"], "unknown crit"),
        ([*ALIGN, "--set", "scale=none"], "--set scale needs --criterion"),
        ([*ALIGN, "--criterion", "mean", "--set", "scale=x"], "scale must be"),
        ([*ALIGN, "--criterion", "mean", "--set", "skale=x"], "unknown option"),
        ([*ALIGN, "--set", "max_sweeps=x"], "max_sweeps"),
        ([*ALIGN, "--reference", "best"], "and there is no file 'best'"),
        ([*ALIGN, "--reference", "best.nc"], "best.nc: no such file"),
        ([*ALIGN, "--reference", "chain=9,draw=0"], "no chain 9"),
        ([*ALIGN, "--reference", "chain=1"], "name a draw as in chain=0,draw=12"),
        (
            [*ALIGN, "--reference", "map", "--criterion", "mean"],
            "criterion 'mean' has no option 'reference'",
        ),
        ([*ALIGN, "--inputs", "X"], "no variable 'X'"),
        ([*ALIGN, "--inputs", "sample_stats/lp"], "inputs"),
        (["align", "in.nc", "-o", "in.nc", *UNITS, "--force"], "output and input are the same"),
        (["align", "no.nc", *ALIGN[2:]], "no.nc: no such file"),
        (["inspect", "no.nc"], "no.nc: no such file"),
        (["undo", "no.nc", "-o", "out.nc"], "no.nc: no such file"),
        (["summary", "in.nc", "--ci-prob", "2"], "--ci-prob must be a number between 0 and 1"),
        (["align", "in.nc", "-o", "out.nc", "--units", "=tanh"], "'=tanh' is not a pair"),
        ([*ALIGN, "--sizes", "x=two"], "'two' is not a number; write it as in --sizes x=3"),
        ([*ALIGN, "--n-first", "0"], "--n-first"),
        (["vanish"], "No such command"),
    ],
)
def test_errors_of_the_user(args, message, call, small, tmp_path):
    before = fingerprint(tmp_path)
    status, out, err = call(*args)
    assert (status, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
    if err.startswith("error:"):
        assert err.count("\n") == 1
    assert fingerprint(tmp_path) == before


def test_internal_errors(call, small, tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("relabel.alignment.alignment.align", broken)
    status, out, err = call("align", small, "-o", "out.nc", "--units", "h=tanh")
    assert (status, out) == (1, "")
    assert "ZeroDivisionError: oh" in err
    assert "Traceback" in err
    last = err.splitlines()[-1]
    assert re.match("error: internal error in relabel .*; please report it, with the lines", last)
    assert [p.name for p in tmp_path.iterdir()] == ["in.nc"]


def test_ctrl_c_anywhere(call, small, tmp_path, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    places = ("alignment.alignment.align", "analysis.reports.alignment_report", "io.writing.save")
    for place in places:
        with monkeypatch.context() as patched:
            patched.setattr(f"relabel.{place}", interrupted)
            ended = call("align", small, "-o", "out.nc", "--units", "h=tanh")
        assert ended == (130, "", "interrupted: nothing was written\n")
        assert [p.name for p in tmp_path.iterdir()] == ["in.nc"]


# ---------------------------------------------------------------------- diagnose


@pytest.fixture
def diagnose(call, align):
    align()

    def diagnosed(*args):
        return call("diagnose", "out.nc", *args)

    return diagnosed


def test_diagnose_prints_a_report(diagnose):
    status, out, err = diagnose()
    assert (status, err) == (0, "")
    assert out.startswith("labels ")
    assert "confidence  h: " in out


def test_diagnose_prints_json_and_nothing_else(diagnose):
    status, out, err = diagnose("--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    jsonschema.validate(found, schema())
    assert set(found["confidence"]) == {"h"}


def test_diagnose_writes_draws_with_findings(diagnose, call, tmp_path):
    status, out, _ = diagnose("-o", "found.nc")
    assert status == 0
    assert out.endswith("wrote found.nc\n")
    found = relabel.open_draws("found.nc")
    assert {"mode", "h_label_probability"} <= set(found["relabel"].data_vars)
    assert "diagnosis" in Provenance.of(found).as_dict()
    assert diagnose("-o", "found.nc")[0] == 2
    assert diagnose("-o", "found.nc", "--force")[0] == 0
    assert call("undo", "found.nc", "-o", "undone.nc")[0] == 0
    undone, original = (relabel.open_draws(tmp_path / n) for n in ("undone.nc", "in.nc"))
    assert undone["posterior"].identical(original["posterior"])


def test_strict_ends_with_three(diagnose, call):
    assert diagnose("--strict")[0] in (0, 3)
    status, out, _ = call("diagnose", "in.nc", "--strict", "--json")
    assert status == 3
    assert json.loads(out)["labels_trustworthy"] is False
    assert call("diagnose", "in.nc")[0] == 0
    good = json.loads(diagnose("--json")[1])["labels_trustworthy"]
    assert diagnose("--strict")[0] == (0 if good else 3)


def test_diagnose_takes_options(diagnose):
    options = ["--inputs", "constant_data/X", "--likelihood", "normal", "--noise", "0.1"]
    found = json.loads(diagnose("--json", *options, "--rng", "3")[1])
    assert "0.1" in found["likelihood"]
    assert found["inputs"] == "constant_data/X"
    found = json.loads(diagnose("--json", "--noise", "sigma")[1])
    assert "sigma" in found["likelihood"]
    strict = json.loads(diagnose("--json", "--set", "null_gap=0.9")[1])
    assert strict["labels_trustworthy"] is False
    priors = ["--priors", "W1=1", "--priors", "b1=1", "--priors", "W2=1"]
    found = json.loads(diagnose("--json", *priors)[1])
    assert found["pairs"][0]["bayes_factors"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--inputs", "constant_data/Z"], "there is no variable"),
        (["--likelihood", "poisson"], "family"),
        (["--set", "nonsense=1"], "there is no threshold"),
        (["--set", "null_gap=often"], "not a number"),
        (["--set", "null_gap=3"], "between 0 and 1"),
        (["--priors", "W1"], "not a pair"),
        (["--noise", "tau"], "tau"),
    ],
)
def test_what_diagnose_cannot_do_is_said(diagnose, options, message):
    status, out, err = diagnose(*options)
    assert (status, out) == (2, "")
    assert message in err


def test_flagged_chains_are_kept_out(call, tmp_path):
    file = REPOSITORY / "tests" / "data" / "relu_3-4-1.nc"
    common = [file, "--units", "h=relu"]
    assert call("align", *common, "-o", "whole.nc", "-q")[0] == 0
    status, out, _ = call("align", *common, "-o", "main.nc", "--exclude-flagged")
    assert status == 0
    assert re.search("^reference  without chains 3, 4, 5, 7$", out, re.MULTILINE)
    whole, main = (relabel.open_draws(tmp_path / n)["relabel"] for n in ("whole.nc", "main.nc"))
    kept = [0, 1, 2, 6]
    assert main["loss"].values[kept].mean() < whole["loss"].values[kept].mean()


def test_a_summary_leaves_out_what_has_many_entries(call, tmp_path):
    dims = ("chain", "draw", "item", "factor")
    rng = np.random.default_rng(0)
    draws = xr.Dataset(
        {
            "L": (dims, np.array([0.0, 5.0]) + rng.normal(size=(2, 20, 3, 2))),
            "eta": (("chain", "draw", "obs", "factor"), rng.normal(size=(2, 20, 101, 2))),
        }
    )
    draws.to_netcdf("in.nc", engine="h5netcdf")
    assert call("align", "in.nc", "-o", "out.nc", "--units", "factor=permutation")[0] == 0
    status, out, _ = call("summary", "out.nc")
    assert status == 0
    assert "L[2, 1]" in out
    assert "eta[" not in out
    assert "left out, more than 100 entries a slot: eta (101); name them with --var-names" in out
    share = relabel.stats.regions(relabel.open_draws("out.nc"), "L").attrs["share"]
    assert f"the region holds {share:.1%} of the draws (ci_prob 0.9)" in out
    table = json.loads(call("summary", "out.nc", "--json")[1])
    assert table["left_out"] == ["eta"]
    assert table["share"] == share
    named = json.loads(call("summary", "out.nc", "--json", "--var-names", "eta")[1])
    assert named["left_out"] == []
    assert len(named["entries"]) == 202
    xr.Dataset({"eta": draws["eta"]}).to_netcdf("wide.nc", engine="h5netcdf")
    call("align", "wide.nc", "-o", "wide_out.nc", "--units", "factor=permutation")
    status, out, _ = call("summary", "wide_out.nc")
    assert status == 0
    assert "left out" in out
    assert "region" not in out
