"""A symmetry of another package: one file and one line, and it works in every verb and command."""

import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from group_laws import LAWS

import relabel
from relabel import simulate
from relabel._util.registry import Registry
from relabel.errors import SpecError
from relabel.groups import GROUPS, group_of

SITE = Path(__file__).parent / "site"
NAME = "signed_square"
WEIGHTS = ("W1", "b1", "W2", "b2")


@pytest.fixture
def simulated(installed):
    return simulate.network((2, 4, 2), NAME, chains=2, draws=60)


@pytest.fixture
def aligned(simulated):
    return relabel.align(simulated.data, simulated.spec)


def values(data, group="posterior"):
    return data[group].to_dataset()


def forward(params, inputs):
    sums = inputs @ params["W1"] + params["b1"]
    return sums * np.abs(sums) @ params["W2"] + params["b2"]


def test_it_is_one_file_and_one_line():
    files = [path for path in SITE.rglob("*") if path.suffix in {".py", ".txt"}]
    touched = {
        path.relative_to(SITE).as_posix(): len(re.findall(rf"^{NAME} = .*$", text, re.MULTILINE))
        for path in files
        for text in [path.read_text(encoding="utf-8")]
        if re.search("signed_?square", text, re.IGNORECASE)
    }
    assert touched == {
        "relabel_example/group.py": 0,
        "relabel_example-0.1.dist-info/entry_points.txt": 1,
    }
    package = Path(relabel.__file__).parent
    sources = [path.read_text(encoding="utf-8") for path in package.rglob("*.py")]
    assert not any(re.search("signed_?square", text, re.IGNORECASE) for text in sources)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_laws(law):
    for size in range(1, 6):
        law(NAME, size, np.random.default_rng(size))


@pytest.mark.usefixtures("installed")
def test_it_is_listed_with_those_of_relabel():
    assert NAME in GROUPS
    assert group_of("Signed-Square") == group_of(NAME)
    spec = relabel.mlp(2, [NAME, "tanh"])
    assert relabel.Spec.from_toml(spec.to_toml()) == spec


def test_align_finds_what_was_planted(simulated, aligned):
    found = simulate.recovery(aligned["relabel"], simulated.planted)
    assert found == {"h": 1.0, "draws": 1.0}
    w, b, v = (values(aligned)[name].values for name in ("W1", "b1", "W2"))
    into = (w**2).sum(axis=-2) + b**2
    np.testing.assert_allclose(into, (v**2).sum(axis=-1), rtol=1e-12)  # the gauge `equal`


def test_the_function_stays(simulated, aligned):
    inputs = values(simulated.data, "constant_data")["X"].values
    assert relabel.check_function(simulated.data, aligned, forward, inputs).change < 1e-12
    assert "preserves the likelihood, not the prior" in str(
        relabel.stats.alignment_report(simulated.data, aligned)
    )


def test_align_is_equivariant_and_idempotent(simulated, aligned):
    again = relabel.align(aligned, simulated.spec)
    xr.testing.assert_allclose(values(again), values(aligned), rtol=1e-12)
    resolved = simulated.spec.bind(values(simulated.data))
    move = relabel.Transformation(
        {"h": group_of(NAME).random((2, 60), 4, np.random.default_rng(1))}
    )
    moved = move.apply({"posterior": simulated.clean}, resolved)["posterior"]
    one, two = (
        relabel.Transformation.from_dataset(relabel.align(draws, spec)["relabel"].to_dataset(), "h")
        for draws in (xr.DataTree.from_dict({"posterior": d}) for d in (simulated.clean, moved))
        for spec in [simulated.spec]
    )
    relative = (two @ move @ one.inverse()).elements["h"].matrices()
    np.testing.assert_allclose(relative, np.broadcast_to(relative[0, 0], relative.shape), atol=1e-9)


def test_undo_and_apply(simulated, aligned):
    xr.testing.assert_allclose(values(relabel.undo(aligned)), values(simulated.data), rtol=1e-12)
    other = relabel.apply(simulated.data, aligned)
    xr.testing.assert_allclose(values(other), values(aligned), rtol=1e-12)


def test_judging_verbs(simulated, aligned):
    inputs = values(simulated.data, "constant_data")["X"].values
    priors = dict.fromkeys(WEIGHTS, 1.0)
    diagnosed, diagnosis = relabel.diagnose(aligned, inputs=inputs, priors=priors)
    assert "relabel" in diagnosed.children
    assert "h" in str(diagnosis)
    assert "mean network of 120 draws" in str(relabel.average(diagnosed, inputs=inputs))
    assert "all criteria label all draws alike" in str(
        relabel.compare(simulated.data, simulated.spec)
    )
    assert set(relabel.summary(aligned).index.get_level_values("units")) == {"h"}
    assert relabel.stats.slots(aligned).shape[0] == 4
    redrawn = relabel.stats.redraw_scale(aligned, priors=priors)
    assert relabel.check_function(aligned, redrawn, forward, inputs).change < 1e-12


def test_reduce_merges_copies_up_to_sign_and_scale(simulated):
    """A unit that is -2 times another is merged by its own action: v grows by -4 v."""
    draws = values(simulated.data).copy(deep=True)
    draws["W1"][..., 1] = -2 * draws["W1"][..., 0]
    draws["b1"][..., 1] = -2 * draws["b1"][..., 0]
    reduced = relabel.reduce(relabel.align(draws, simulated.spec))
    alive = (np.abs(reduced["W1"].values) > 0).any(axis=-2).sum(axis=-1)
    assert (alive == 3).all()
    inputs = values(simulated.data, "constant_data")["X"].values
    for row in ((0, 0), (1, 5)):
        old, new = ({k: d[k].values[row] for k in WEIGHTS} for d in (draws, reduced))
        np.testing.assert_allclose(forward(new, inputs), forward(old, inputs), rtol=1e-9)


@pytest.fixture
def files(simulated, tmp_path):
    """The draws and their spec as files."""
    relabel.save(simulated.data, tmp_path / "draws.nc")
    (tmp_path / "spec.toml").write_text(simulated.spec.to_toml(), encoding="utf-8")
    return tmp_path / "draws.nc", tmp_path / "spec.toml"


def test_commands(simulated, files, run, tmp_path):
    (draws, spec), out, back = files, tmp_path / "out.nc", tmp_path / "back.nc"
    for command in (
        ["align", draws, "--spec", spec, "-o", out],
        ["undo", out, "-o", back],
        ["diagnose", out],
    ):
        done = run(*command)
        assert done.returncode == 0, done.stderr
    undone = values(relabel.open_draws(back))
    xr.testing.assert_allclose(undone, values(simulated.data), rtol=1e-12)

    done = run("undo", out, "-o", tmp_path / "none.nc", installed=False)
    assert done.returncode == 2
    assert " ".join(done.stderr.split()) == (
        "error: these draws were aligned with the symmetry 'signed_square', which no installed "
        "package brings; install the package that brings it, and try again"
    )
    done = run("align", draws, "--spec", spec, "-o", tmp_path / "none.nc", installed=False)
    assert done.returncode == 2
    assert "unknown activation 'signed_square' (did you mean 'square'?)" in done.stderr
    assert "install that package" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "none.nc").exists()


def test_more_commands(aligned, files, call, tmp_path):
    (draws, spec), out = files, tmp_path / "out.nc"
    relabel.save(aligned, out)
    for command in (["summary", out], ["average", out], ["compare", draws, "--spec", spec]):
        status, _, errors = call(*command)
        assert status == 0, errors


def test_a_second_group_of_one_name_is_refused(installed, tmp_path, monkeypatch):
    info = tmp_path / "others-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1\n")
    lines = ["[relabel.groups]", f"{NAME} = math:pi", "tanh = math:tau"]
    (info / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    for registry in Registry.instances:
        registry.refresh()
    with pytest.raises(SpecError, match=r"two symmetries are named 'signed_square': .*others"):
        group_of(NAME)
    with pytest.raises(SpecError, match=r"two symmetries are named 'tanh': .*relabel itself"):
        relabel.Spec({"h": "tanh"})
