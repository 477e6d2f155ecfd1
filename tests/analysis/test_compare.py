"""Several criteria on the same draws: agreement, similarity, where they differ."""

import json

import numpy as np
import pytest
import xarray as xr

import relabel
from relabel import SpecError
from relabel.analysis.comparison import _in_slots_of_first
from relabel.cli import app as cli

UNITS = {"component": "permutation"}


def mixture(chains=2, draws=60, n=40, seed=0):
    """Three components; in a few draws of chain 1 the first two lie so that orderings differ."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, n)
    mu = np.array([0.0, 4.0, 8.0]) + 0.1 * rng.normal(size=(chains, draws, 3))
    mu[1, ::4, :2] = mu[1, ::4, 1::-1]  # the allocations know better than an order
    z = np.broadcast_to(truth, (chains, draws, n)).copy()
    flips = rng.random(z.shape) < 0.05
    z[flips] = rng.integers(0, 3, flips.sum())
    index = rng.permuted(np.tile(np.arange(3), (chains, draws, 1)), axis=2)
    z = np.take_along_axis(np.argsort(index, axis=2), z, axis=2)
    mu = np.take_along_axis(mu, index, axis=2)
    prob = 0.1 / 2 + (0.9 - 0.1 / 2) * (z[..., None] == np.arange(3))
    sample = ("chain", "draw")
    groups = {
        "posterior": xr.Dataset({"mu": ((*sample, "component"), mu)}),
        "allocation": xr.Dataset(
            {"z": ((*sample, "obs"), z), "prob": ((*sample, "obs", "component"), prob)}
        ),
    }
    return xr.DataTree.from_dict(groups), truth


def test_what_is_compared_by_default():
    data, _ = mixture()
    found = relabel.compare(data, UNITS)
    names = [run.name for run in found.runs]
    assert names == ["normal", "mean", "stephens", "ecr-iterative-1", "ecr-iterative-2"]
    bare = xr.DataTree.from_dict({"posterior": data["posterior"].to_dataset()})
    assert [run.name for run in relabel.compare(bare, UNITS).runs] == ["normal", "mean"]
    assert relabel.compare(bare, UNITS).similarity is None


def test_agreement_is_the_share_of_draws_labelled_alike():
    data, _ = mixture()
    found = relabel.compare(data, UNITS, ["stephens", relabel.criteria.Order("mu")])
    assert found.agreement[0, 0] == found.agreement[1, 1] == 1
    # one draw in four of chain 1, which is one in eight of all
    assert found.agreement[0, 1] == found.agreement[1, 0] == 1 - 15 / 120
    (difference,) = found.differences
    assert difference.n_draws == 15
    assert difference.by_chain == [0.0, 0.25]
    assert sorted(difference.slots["component"]) == [0, 15, 15]
    assert "most in chain 1 (25.0 %)" in str(difference)


def test_agreement_does_not_depend_on_one_relabelling_of_all():
    data, _ = mixture()
    pivot = {"chain": 0, "draw": 3}
    other = {"chain": 1, "draw": 5}  # the same classes under other labels
    criteria = {
        "one": relabel.criteria.ECR(reference=pivot),
        "two": relabel.criteria.ECR(reference=other),
    }
    found = relabel.compare(data, UNITS, criteria)
    assert found.agreement[0, 1] == 1
    assert found.similarity[0, 1] == 1
    assert found.differences == []
    assert "all criteria label all draws alike" in str(found)


def test_modal_clusterings_are_the_true_classes():
    data, truth = mixture()
    for criteria in (["ecr-iterative-1", "mean"], ["stephens", "mean"]):
        clusters = relabel.compare(data, UNITS, criteria).clusters
        own = np.array([np.bincount(clusters[0][truth == k]).argmax() for k in range(3)])
        np.testing.assert_array_equal(own[truth], clusters[0])


def test_similarity_is_up_to_one_relabelling():
    one = np.array([0, 0, 1, 1, 2, 2, -1])
    two = np.array([2, 2, 0, 1, 1, 1, 1])
    rows = _in_slots_of_first([(one, 3), (two, 3)])
    np.testing.assert_array_equal(rows[1], [0, 0, 1, 2, 2, 2, 2])
    assert _in_slots_of_first([(one, 3), None]) is None


def test_table_objectives_and_statistics():
    data, _ = mixture()
    found = relabel.compare(data, UNITS, ["mean", "ecr-iterative-1"])
    aligned = relabel.align(
        data, relabel.Spec(UNITS, values={"allocation/z": "component"}), criterion="mean"
    )
    run = found.runs[0]
    assert run.objective == pytest.approx(float(aligned["relabel"]["loss"].sum()))
    assert run.before > run.objective
    assert found.before.rhat > run.convergence.rhat
    assert all(run.seconds > 0 for run in found.runs)
    frame = found.to_dataframe()
    assert list(frame.index) == ["mean", "ecr-iterative-1"]
    assert frame.loc["mean", "objective"] == run.objective
    table = json.loads(found.to_json())
    assert [row["criterion"] for row in table["criteria"]] == ["mean", "ecr-iterative-1"]
    assert np.array(table["clusters"]).shape == (2, 40)


def test_a_constant_variable_gives_valid_json():
    draws = xr.Dataset({"mu": (("chain", "draw", "component"), np.ones((1, 3, 2)))})
    text = relabel.compare(draws, UNITS, ["mean"]).to_json()
    assert json.loads(text)["criteria"][0]["rhat"] is None
    assert "NaN" not in text


def test_what_cannot_be_compared():
    data, _ = mixture()
    cases = [
        (["mean", relabel.criteria.Mean(scale="none")], "occurs twice"),
        (["menu"], "unknown criterion 'menu'"),
        (["stephen"], "did you mean 'stephens'"),
        ([], "criteria must name at least one"),
        ([3], "a criterion must be a name"),
        ([relabel.criteria.ECR(z="allocation/y")], "unknown variable 'allocation/y'"),
    ]
    for criteria, message in cases:
        with pytest.raises(SpecError, match=message):
            relabel.compare(data, UNITS, criteria)


def test_draws_that_are_left_out_have_no_say():
    data, _ = mixture()
    pivots = [{"chain": 0, "draw": 3}, {"chain": 1, "draw": 5}]
    data["posterior"]["mu"].values[0, 10:15] = np.nan
    criteria = dict(
        zip("ab", (relabel.criteria.ECR(reference=pivot) for pivot in pivots), strict=True)
    )
    whole = relabel.compare(data, UNITS, criteria, nonfinite="skip")
    assert whole.agreement[0, 1] == 1
    assert whole.differences == []
    apart = data["allocation"]["z"].values
    apart[0, 10:15] = 0
    again = relabel.compare(data, UNITS, criteria, nonfinite="skip")
    np.testing.assert_array_equal(again.clusters, whole.clusters)


def test_a_proposal_is_no_spec():
    data, _ = mixture()
    with pytest.raises(SpecError, match=r"pass proposal\.spec"):
        relabel.compare(data, relabel.propose(data))


# ---------------------------------------------------------------------- the command


def command(*arguments, status=0):
    """Run the command in this process."""
    with pytest.raises(SystemExit) as ended:
        cli.app(["compare", *map(str, arguments)], prog_name="relabel")
    assert (ended.value.code or 0) == status


def test_options_go_to_the_criteria_that_know_them(tmp_path, capsys):
    data, _ = mixture()
    file = tmp_path / "draws.nc"
    data.to_netcdf(file, engine="h5netcdf")
    chosen = ["--criterion", "stephens", "--criterion", "order", "--units", "component=permutation"]
    command(file, *chosen, "--set", "order.var_names=mu", "--set", "max_sweeps=7", "--json")
    rows = json.loads(capsys.readouterr().out)["criteria"]
    assert [row["criterion"] for row in rows] == ["stephens", "order"]
    assert rows[0]["options"]["max_sweeps"] == 7
    assert rows[1]["options"]["var_names"] == "mu"
    command(file, *chosen, "--set", "order.var_names=mu")
    assert "draws labelled alike" in capsys.readouterr().out
    for wrong, message in (
        ("scale=none", "none of stephens, order has this option"),
        ("mean.scale=none", "none of stephens, order has this option"),
        ("order.menu=mu", "unknown option 'menu'"),
    ):
        command(file, *chosen, "--set", wrong, status=2)
        assert message in capsys.readouterr().err


def test_labels_are_declared_on_the_command_line(tmp_path, capsys):
    data, _ = mixture()
    file = tmp_path / "draws.nc"
    extra = data["allocation"].to_dataset()[["z"]].rename(z="which")
    tree = {"posterior": data["posterior"].to_dataset(), "extra": extra}
    xr.DataTree.from_dict(tree).to_netcdf(file, engine="h5netcdf")
    chosen = ["--units", "component=permutation", "--criterion", "mean", "--json"]
    command(file, *chosen)
    assert json.loads(capsys.readouterr().out)["clusters"] is None
    command(file, *chosen, "--values", "extra/which=component")
    assert np.shape(json.loads(capsys.readouterr().out)["clusters"]) == (1, 40)


def test_a_pivot_on_the_command_line(tmp_path, capsys):
    data, _ = mixture()
    file, out = tmp_path / "draws.nc", tmp_path / "out.nc"
    data.to_netcdf(file, engine="h5netcdf")
    for chosen in (
        ["--criterion", "ecr", "--set", "reference=chain=0,draw=3"],
        ["--criterion", "ecr", "--reference", "chain=0,draw=3"],
        ["--criterion", "pra", "--reference", "chain=0,draw=3"],
    ):
        units = ["--units", "component=permutation", "--force", "-q", "-o", str(out)]
        with pytest.raises(SystemExit) as ended:
            cli.app(["align", str(file), *units, *chosen], prog_name="relabel")
        assert not ended.value.code, capsys.readouterr().err
        with xr.open_datatree(out) as tree:
            assert tree["relabel"]["component_index"][0, 3].values.tolist() == [0, 1, 2]
    chosen = ["--criterion", "stephens", "--reference", "map"]
    with pytest.raises(SystemExit) as ended:
        cli.app(["align", str(file), *units, *chosen], prog_name="relabel")
    assert ended.value.code == 2
    message = "stephens: reference must be one of 'draw', 'labels', 'both', not 'map'"
    assert message in capsys.readouterr().err


def test_progress_names_the_criteria(capsys):
    data, _ = mixture(draws=10)
    seen = []
    found = relabel.compare(data, UNITS, ["mean", "normal"], progress=lambda *s: seen.append(s))
    assert {stage.partition(": ")[0] for stage, _, _ in seen} == {"mean", "normal"}
    assert all(0 <= done <= total for _, done, total in seen)
    shown = relabel.compare(data, UNITS, ["mean", "normal"], progress=True)
    np.testing.assert_array_equal(shown.agreement, found.agreement)
    assert capsys.readouterr().out == ""
