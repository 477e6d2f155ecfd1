"""Draws of a mixture, an HMM and a factor model, made by tests/data/make_models.py."""

import json
from dataclasses import dataclass, field

import numpy as np
import pytest
import xarray as xr
from files import RECORDED
from typer.testing import CliRunner

import relabel
from relabel import Spec
from relabel.cli.app import app

DATA = RECORDED / "models"


@dataclass(frozen=True)
class Case:
    """A file, its spec, and the variable that tells its units apart best."""

    name: str
    units: str
    symmetry: str
    leading: str
    axes: dict[str, str]
    values: dict[str, str] = field(default_factory=dict)

    @property
    def path(self):
        return DATA / f"{self.name}.nc"

    @property
    def spec(self):
        return Spec({self.units: self.symmetry}, self.axes, values=self.values)

    def load(self):
        with xr.open_datatree(self.path, engine="h5netcdf") as tree:
            return tree.load()


CASES = [
    Case(
        "pymc_mixture",
        "component",
        "permutation",
        "mu",
        {
            "mu": "component dim",
            "sigma": "component",
            "w": "component",
            "allocation/prob": "obs component",
        },
    ),
    Case(
        "numpyro_hmm",
        "state",
        "permutation",
        "mu",
        {"mu": "state", "sigma": "state", "initial": "state", "transition": "state state"},
        {"allocation/z": "state"},
    ),
    Case(
        "gibbs_factors",
        "factor",
        "signed",
        "Lambda",
        {"Lambda": "item factor", "eta": "obs factor"},
    ),
]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def spread_of_chains(tree, name):
    """Largest distance of the means of two chains, in standard deviations within chains."""
    draws = tree["posterior"][name]
    means = draws.mean("draw")
    return float(((means.max("chain") - means.min("chain")) / draws.std("draw").mean()).max())


@every_case
@pytest.mark.parametrize("criterion", [relabel.criteria.Mean, relabel.criteria.Normal])
def test_chains_agree_after_alignment_and_undo_is_bitwise(case, criterion):
    data = case.load()
    assert spread_of_chains(data, case.leading) > 2
    aligned = relabel.align(data, case.spec, criterion=criterion(var_names=case.leading))
    assert spread_of_chains(aligned, case.leading) < 1.2
    back = relabel.undo(aligned)
    for group in data.children:
        assert data[group].to_dataset().identical(back[group].to_dataset())


def test_the_states_are_the_true_ones_and_paths_follow():
    case = CASES[1]
    data = case.load()
    truth = data["constant_data"]
    aligned = relabel.align(data, case.spec, criterion=relabel.criteria.Mean(var_names="mu"))
    order = aligned["posterior"]["mu"].mean(("chain", "draw")).values.argsort()
    assert truth["true_mu"].values.argsort().tolist() == [0, 1, 2]
    right = (aligned["allocation"]["z"].values == order[truth["true_z"].values]).mean()
    assert right > 0.93
    raw = data["allocation"]["z"].values == truth["true_z"].values
    assert raw.mean() < 0.6


def test_probabilities_follow_the_components():
    case = CASES[0]
    data = case.load()
    aligned = relabel.align(data, case.spec)
    nearest = aligned["posterior"]["mu"].mean(("chain", "draw")).values
    apart = np.abs(nearest[:, None] - data["constant_data"]["true_mu"].values).sum(axis=2)
    order = apart.argmin(axis=0)
    prob = aligned["allocation"]["prob"].mean(("chain", "draw")).values
    truth = order[data["constant_data"]["true_z"].values]
    assert (prob.argmax(axis=1) == truth).mean() > 0.9


def test_loadings_keep_their_covariance_and_find_the_truth():
    case = CASES[2]
    data = case.load()
    aligned = relabel.align(data, case.spec, criterion=relabel.criteria.Mean(var_names="Lambda"))
    old, new = (t["posterior"]["Lambda"].values.astype(float) for t in (data, aligned))
    covariance = [x @ x.swapaxes(2, 3) for x in (old, new)]
    np.testing.assert_allclose(*covariance, atol=1e-6)
    truth = data["constant_data"]["true_Lambda"].values
    mean = new.mean(axis=(0, 1))
    cosine = np.abs(mean.T @ truth) / np.outer(
        np.linalg.norm(mean, axis=0), np.linalg.norm(truth, axis=0)
    )
    assert sorted(cosine.argmax(axis=1)) == [0, 1, 2]
    assert cosine.max(axis=1).min() > 0.85


def run(*arguments):
    """Run a command in this process: starting one for each takes seconds."""
    return CliRunner().invoke(app, list(map(str, arguments)))


@every_case
def test_from_file_to_file(case, tmp_path):
    spec, out, back = tmp_path / "spec.toml", tmp_path / "aligned.nc", tmp_path / "back.nc"
    spec.write_text(case.spec.to_toml(), encoding="utf-8")
    options = ("--spec", spec, "--criterion", "normal", "--set", f"var_names={case.leading}")
    assert run("align", case.path, "-o", out, *options, "-q").exit_code == 0
    assert run("undo", out, "-o", back, "-q").exit_code == 0
    with xr.open_datatree(back, engine="h5netcdf") as found:
        for group, node in case.load().children.items():
            assert node.to_dataset().identical(found[group].to_dataset().load())
    told = run("diagnose", out, "--json")
    assert told.exit_code == 0
    assert json.loads(told.stdout)["labels_trustworthy"]
    assert run("summary", out, "--var-names", "nothing").exit_code == 2
    printed = run("summary", out, "--var-names", case.leading)
    assert printed.exit_code == 0
    header = ["units", "slot", "confidence", "margin"] + ["empty"] * bool(case.values)
    assert printed.stdout.splitlines()[0].split() == header
    assert f"{case.leading}[" in printed.stdout
    found = json.loads(run("summary", out, "--var-names", case.leading, "--json").stdout)
    assert {row["units"] for row in found["slots"] + found["entries"]} == {case.units}
    box = relabel.stats.regions(relabel.open_draws(out), case.leading)[case.leading]
    bounds = np.array([[row["region_lb"], row["region_ub"]] for row in found["entries"]])
    np.testing.assert_allclose(np.sort(bounds, axis=0), np.sort(box.values.reshape(-1, 2), axis=0))


def test_a_summary_of_draws_that_were_not_aligned():
    done = run("summary", CASES[0].path)
    assert done.exit_code == 2
    assert "not aligned" in done.stderr
