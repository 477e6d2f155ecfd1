"""A third party's criterion: one file and one line, and it works in every verb and command."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import relabel
from relabel._util.registry import Registry
from relabel.data.provenance import Provenance
from relabel.diagnostics.aligned import Aligned
from relabel.errors import SpecError
from relabel.matching.criteria import CRITERIA, criterion_of, options_of, rebuilt
from relabel.simulate import network, recovery

SITE = Path(__file__).parent / "site"
UNITS = {"component": "permutation"}
SAID = "criterion 'trimmed' is not installed"


def mixture(n=60, seed=0):
    """Means and standard deviations of three components, switched in every draw."""
    rng = np.random.default_rng(seed)
    perm = rng.permuted(np.tile(np.arange(3), (2, n, 1)), axis=2)
    mu = 3.0 * np.arange(3) + 0.2 * rng.normal(size=(2, n, 3))
    mu[:, ::20] += rng.normal(scale=20.0, size=(2, len(range(0, n, 20)), 1))  # outlying draws
    sd = 1.0 + 0.05 * rng.random((2, n, 3))
    draws = {
        name: (("chain", "draw", "component"), np.take_along_axis(values, perm, axis=2))
        for name, values in (("mu", mu), ("sd", sd))
    }
    return xr.DataTree.from_dict({"posterior": xr.Dataset(draws)})


@pytest.fixture
def file(tmp_path):
    """The same draws as a file, with a spec beside it."""
    mixture().to_netcdf(tmp_path / "draws.nc", engine="h5netcdf")
    (tmp_path / "spec.toml").write_text('[units]\ncomponent = "permutation"\n')
    return tmp_path / "draws.nc"


# ---------------------------------------------------------------------- in Python


@pytest.mark.usefixtures("installed")
def test_it_is_named_and_built_like_the_others():
    assert "trimmed" in list(CRITERIA)
    assert options_of("trimmed") == ["trim", "max_sweeps"]
    criterion = criterion_of("trimmed", {"trim": 0.2})
    assert criterion.trim == 0.2
    assert rebuilt(criterion.describe()).criterion == criterion
    with pytest.raises(SpecError, match=r"unknown option 'trin' \(did you mean 'trim'\?\)"):
        criterion_of("trimmed", {"trin": 0.2})


@pytest.mark.usefixtures("installed")
def test_every_verb_takes_it():
    draws = mixture()
    aligned = relabel.align(draws, UNITS, criterion="trimmed")
    assert Provenance.of(aligned).criterion["name"] == "trimmed"
    assert relabel.undo(aligned).identical(draws)
    carried = relabel.apply(draws, aligned)
    assert carried["posterior"].identical(aligned["posterior"])
    data, diagnosis = relabel.diagnose(aligned)
    assert not any(finding.code == "criterion" for finding in diagnosis.findings)
    assert Aligned.read(aligned).criterion.name == "trimmed"
    assert "component_label_probability" in data["relabel"]
    found = relabel.compare(draws, UNITS, ["mean", "trimmed"])
    assert [run.name for run in found.runs] == ["mean", "trimmed"]
    assert set(relabel.summary(data).index.get_level_values("slot")) == {0, 1, 2}
    again = relabel.align(aligned, UNITS, criterion="trimmed")
    assert again["posterior"].identical(aligned["posterior"])
    assert Provenance.of(again).warnings == Provenance.of(aligned).warnings


@pytest.mark.usefixtures("installed")
def test_networks_too():
    """Several sets of units, pairs between them, signs, warm-up, flagged chains."""
    simulated = network((2, 3, 3, 1), "tanh", chains=3, draws=30, noise=0.05)
    options = {"criterion": criterion_of("trimmed"), "inputs": None}
    aligned = relabel.align(simulated.data, simulated.spec, **options)
    assert recovery(aligned["relabel"], simulated.planted)["draws"] == 1.0
    warm = simulated.data.copy()
    warm["warmup_posterior"] = warm["posterior"].copy()
    found = relabel.align(warm, simulated.spec, **options)
    assert found["warmup_posterior"].to_dataset().equals(found["posterior"].to_dataset())
    assert len(relabel.average(aligned).data["posterior"].data_vars) == 6
    draws = small_network()
    reduced = relabel.reduce(relabel.align(draws.data, draws.spec, criterion="trimmed"))
    alive = (np.abs(reduced["posterior"]["W1"].values) > 0).any(axis=-2).sum(axis=-1)
    assert (alive == 2).all()


def small_network():
    """A network with a unit that is a copy of another."""
    made = network((2, 3, 1), "tanh", chains=2, draws=60, noise=0.1)
    weights = made.data["posterior"]
    for name in ("W1", "b1"):
        weights[name].values[..., 1] = weights[name].values[..., 0]
    return made


@pytest.mark.usefixtures("installed")
def test_its_option_does_what_it_says():
    """Outlying draws pull at the mean, and not at the trimmed mean."""
    draws = mixture()
    references = {}
    for trim in (0.0, 0.2):
        criterion = criterion_of("trimmed", {"trim": trim})
        aligned = relabel.align(draws, UNITS, criterion=criterion)
        references[trim] = Provenance.of(aligned).losses[-1]
    mean = relabel.align(draws, UNITS, criterion=relabel.criteria.Mean())
    assert references[0.0] == pytest.approx(Provenance.of(mean).losses[-1], rel=1e-6)
    assert references[0.2] > references[0.0]  # the mean has the lowest sum of squares


# ---------------------------------------------------------------------- on the command line


@pytest.mark.usefixtures("installed")
def test_every_command_takes_it(call, file):
    out, options = file.with_name("out.nc"), ("--spec", file.with_name("spec.toml"))
    status, printed, errors = call(
        "align", file, "-o", out, *options, "--criterion", "trimmed", "--set", "trim=0.2"
    )
    assert (status, errors) == (0, "")
    assert "trimmed (trim=0.2, max_sweeps=100)" in printed
    judged, back = file.with_name("judged.nc"), file.with_name("back.nc")
    for words in (
        ("inspect", out),
        ("diagnose", out, "-o", judged),
        ("compare", file, *options, "--criterion", "mean", "--criterion", "trimmed"),
        ("summary", judged),
        ("undo", out, "-o", back),
    ):
        status, printed, errors = call(*words)
        assert (status, errors) == (0, ""), words[0]
        assert SAID not in printed
    same_draws(back)


@pytest.mark.usefixtures("installed")
def test_commands_for_networks_take_it(call, tmp_path):
    made = small_network()
    relabel.save(made.data, tmp_path / "draws.nc")
    (tmp_path / "spec.toml").write_text(made.spec.to_toml(), encoding="utf-8")
    for words in (
        ("align", "draws.nc", "-o", "out.nc", "--spec", "spec.toml", "--criterion", "trimmed"),
        ("average", "out.nc"),
    ):
        status, _, errors = call(*words)
        assert (status, errors) == (0, ""), words[0]


def test_a_process_of_its_own_finds_it(run, file):
    """Nothing but the entry point leads there."""
    out, options = file.with_name("out.nc"), ("--spec", file.with_name("spec.toml"))
    words = ("align", file, "-o", out, *options, "--criterion", "trimmed")
    done = run(*words)
    assert (done.returncode, done.stderr) == (0, "")
    done = run(*words, "--force", installed=False)
    assert done.returncode == 2
    assert "unknown criterion 'trimmed'" in done.stderr
    assert "Traceback" not in done.stderr


def test_where_it_is_not_installed(request, call, file):
    """What it wrote is opened: the way back is there, and what cannot be done is said."""
    out, options = file.with_name("out.nc"), ("--spec", file.with_name("spec.toml"))
    again = file.with_name("again.nc")
    write(request, out)
    status, printed, errors = call("diagnose", out, "--json")
    assert (status, errors) == (0, "")
    (told,) = (f for f in json.loads(printed)["findings"] if f["code"] == "criterion")
    assert told["message"] == f"{SAID}: units are realigned by criterion 'normal'"
    status, printed, errors = call("align", out, "-o", again, *options)
    assert (status, errors) == (0, "")
    assert f"these draws were aligned before, and {SAID}" in printed
    status, _, errors = call(
        "align", out, "-o", again, "--force", *options, "--criterion", "trimmed"
    )
    assert status == 2
    assert "unknown criterion 'trimmed'; known are normal, mean, reference," in errors
    for words in (("summary", out), ("inspect", out), ("undo", out, "-o", "back.nc")):
        status, _, errors = call(*words)
        assert (status, errors) == (0, ""), words[0]
    same_draws(file.with_name("back.nc"))


def write(request, path):
    """Write draws that were aligned by the criterion, and uninstall it."""
    monkeypatch = request.getfixturevalue("monkeypatch")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(SITE))
        refresh()
        relabel.save(relabel.align(mixture(), UNITS, criterion="trimmed"), path)
    refresh()


def same_draws(path):
    """Check that a file holds the draws as they came."""
    with xr.open_datatree(path, engine="h5netcdf") as back:
        assert back["posterior"].to_dataset().load().equals(mixture()["posterior"].to_dataset())


def refresh():
    """Have all registries list their entry points again."""
    for registry in Registry.instances:
        registry.refresh()


# ---------------------------------------------------------------------- what it takes


def test_it_is_one_file_and_one_line():
    files = [path for path in SITE.rglob("*") if path.suffix in {".py", ".txt"}]
    lines = {
        path.relative_to(SITE).as_posix(): len(re.findall(r"^trimmed = .*$", text, re.MULTILINE))
        for path in files
        for text in [path.read_text(encoding="utf-8")]
        if "trimmed" in text.lower()
    }
    assert lines == {
        "relabel_example/criterion.py": 0,
        "relabel_example-0.1.dist-info/entry_points.txt": 1,
    }
    package = Path(relabel.__file__).parent
    assert not any("trimmed" in path.read_text("utf-8").lower() for path in package.rglob("*.py"))
    source = (SITE / "relabel_example" / "criterion.py").read_text(encoding="utf-8")
    assert set(re.findall(r"^from (relabel\S*)", source, re.MULTILINE)) == {"relabel.criteria"}


def test_two_of_one_name_are_refused(monkeypatch, tmp_path):
    (tmp_path / "other-1.0.dist-info").mkdir()
    (tmp_path / "other-1.0.dist-info" / "METADATA").write_text("Name: other\nVersion: 1.0\n")
    (tmp_path / "other-1.0.dist-info" / "entry_points.txt").write_text(
        "[relabel.criteria]\ntrimmed = other:Trimmed\nmean = other:Mean\n"
    )
    monkeypatch.syspath_prepend(str(SITE))
    monkeypatch.syspath_prepend(str(tmp_path))
    refresh()
    try:
        for name, claims in (
            ("trimmed", ("other:Trimmed (other)", "relabel_example.criterion:Trimmed")),
            ("mean", ("other:Mean (other)", "relabel itself")),
        ):
            with pytest.raises(SpecError, match=f"two criteria are named '{name}'") as caught:
                relabel.align(mixture(), UNITS, criterion=name)
            assert all(claim in str(caught.value) for claim in claims)
    finally:
        monkeypatch.undo()
        refresh()


def test_what_does_not_follow_the_protocol_is_refused(monkeypatch, tmp_path):
    package = tmp_path / "strange.py"
    package.write_text(
        "from dataclasses import dataclass\nfrom relabel.criteria import Mean\n\n\n"
        "def function():\n    pass\n\n\nclass Renamed(Mean):\n    name = 'other'\n"
    )
    (tmp_path / "strange-1.0.dist-info").mkdir()
    (tmp_path / "strange-1.0.dist-info" / "METADATA").write_text("Name: strange\nVersion: 1.0\n")
    (tmp_path / "strange-1.0.dist-info" / "entry_points.txt").write_text(
        "[relabel.criteria]\nfunction = strange:function\nrenamed = strange:Renamed\n"
        "missing = strange:Missing\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    refresh()
    try:
        for name, message in (
            ("function", "'function' must be a dataclass that subclasses relabel.criteria.Crit"),
            ("renamed", "with the attribute name = 'renamed'"),
            ("missing", "'missing' of strange cannot be loaded from strange:Missing"),
        ):
            with pytest.raises(SpecError, match=message):
                criterion_of(name)
            assert rebuilt({"name": name}).criterion is None
    finally:
        monkeypatch.undo()
        refresh()
