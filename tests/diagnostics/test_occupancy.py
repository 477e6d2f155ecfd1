"""Which components are empty; and every question of a diagnosis, of mixtures and the like."""

import json
import sys

import jsonschema
import numpy as np
import pytest
import xarray as xr
from scipy import stats

import relabel
from relabel.alignment.provenance import relabelled
from relabel.cli import app as cli
from relabel.diagnostics.diagnosis import schema
from relabel.diagnostics.kernels.empty_components import Occupancy, named_by, occupancy, probable
from relabel.errors import DataError, SpecError
from relabel.matching.draws import Draws
from relabel.matching.moments import pooled_moments

SAMPLE = ("chain", "draw")
CHECK = jsonschema.Draft202012Validator(schema())
TRUE = np.array([0.0, 3.0, 6.0])


def shuffled(rng: np.random.Generator, *arrays: np.ndarray, z: np.ndarray) -> list[np.ndarray]:
    """Permute components (the third axis) of every draw at random, and labels with them."""
    index = np.argsort(rng.random(arrays[0].shape[:3]), axis=-1)
    found = [
        np.take_along_axis(a, index.reshape(*index.shape, *(1,) * (a.ndim - 3)), 2) for a in arrays
    ]
    slot_of = np.argsort(index, axis=-1)
    return [*found, np.take_along_axis(slot_of, z, axis=-1)]


def sparse(n_units: int = 5, n: int = 80, *, draws: int = 60, rare: float = 0.0) -> xr.DataTree:
    """A mixture of which three components are occupied; the others are drawn from the prior.

    The third is empty in a share of the draws, `rare`.
    """
    rng = np.random.default_rng(0)
    x = np.repeat(TRUE, n // 3 + 1)[:n] + 0.5 * rng.normal(size=n)
    shape = (2, draws, n_units)
    mu = rng.normal(-40, 5, shape)
    mu[..., :3] = TRUE + 0.1 * rng.normal(size=(2, draws, 3))
    w = np.full(shape, 1e-9)
    w[..., :3] = 1 / 3
    empty = rng.random((2, draws)) < rare
    mu[empty, 2] = rng.normal(40, 5, empty.sum())
    w /= w.sum(axis=-1, keepdims=True)
    f = w[:, :, None] * stats.norm.pdf(x[:, None], mu[:, :, None], 0.5)
    prob = f / f.sum(axis=-1, keepdims=True)
    z = prob.argmax(axis=-1)
    mu, w, prob, z = shuffled(rng, mu, w, np.moveaxis(prob, -1, 2), z=z)
    posterior = {"mu": ((*SAMPLE, "component"), mu), "w": ((*SAMPLE, "component"), w)}
    allocation = {
        "z": ((*SAMPLE, "obs"), z.astype("int8")),
        "prob": ((*SAMPLE, "obs", "component"), np.moveaxis(prob, 2, -1).astype("float32")),
    }
    return xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset(posterior),
            "allocation": xr.Dataset(allocation),
            "observed_data": xr.Dataset({"x": ("obs", x)}),
        }
    )


BY_LABELS = relabel.mixture(["mu", "w"], z="allocation/z", prob="allocation/prob")
BY_CHANCES = relabel.mixture(["mu", "w"], prob="allocation/prob")


def diagnosed(data, spec=None):
    aligned = data if spec is None else relabel.align(data, spec)
    found, diagnosis = relabel.diagnose(aligned)
    CHECK.validate(json.loads(diagnosis.to_json()))
    return found, diagnosis


# ---------------------------------------------------------------------- what is empty


@pytest.mark.parametrize("spec", [BY_LABELS, BY_CHANCES])
def test_empty_components_are_spare(spec):
    data, found = diagnosed(sparse(), spec)
    numbers = found.numbers
    spare = numbers["spare_units"]["component"]
    assert len(spare) == 2
    assert numbers["effective_width"]["component"]["pmf"] == [0, 0, 0, 1, 0, 0]
    assert numbers["effective_width"]["component"]["median"] == 3
    kind = "labels, allocation/z" if spec is BY_LABELS else "chances, allocation/prob"
    assert numbers["effective_width"]["component"]["how"] == f"by {kind}"
    assert [slot["spare"] for slot in numbers["slots"]] == [k in spare for k in range(5)]
    assert [slot["occupied"] for slot in numbers["slots"]] == [
        float(k not in spare) for k in range(5)
    ]
    (finding,) = [f for f in found.findings if f.code == "spare-units"]
    assert "3 of 5 units 'component' have observations in most draws" in finding.message
    assert finding.evidence["slots"] == spare
    assert "width" in str(found)
    own = data["relabel"]
    assert (own["component_effective_width"] == 3).all()
    assert np.flatnonzero(own["component_spare"]).tolist() == spare


def test_all_slots_that_are_mostly_empty_are_named():
    """Two slots are empty in six of ten draws each, but both in few: most often four are full."""
    empty = np.zeros((10, 5), dtype=bool)
    empty[:6, 3] = empty[4:, 4] = True
    found = Occupancy(empty, "by labels, z")
    assert found.likely_width == 4
    assert found.spare == [3, 4]


def test_an_empty_slot_has_no_label():
    data, found = diagnosed(sparse(), BY_LABELS)
    spare = found.numbers["spare_units"]["component"]
    own, confidence = data["relabel"], found.numbers["confidence"]["component"]
    gone = np.isnan(own["component_label_probability"]).all(SAMPLE)
    assert np.flatnonzero(gone).tolist() == spare
    assert all(c == 0 if k in spare else c > 0.95 for k, c in enumerate(confidence))
    (loose,) = [f for f in found.findings if f.code == "loose-slots"]
    assert loose.evidence["slots"] == spare
    assert "where a slot is empty it has no label" in loose.message
    assert not found.labels_trustworthy


@pytest.mark.parametrize(("rare", "trusted"), [(0.0, True), (0.03, True), (0.3, False)])
def test_a_slot_that_is_empty_at_times(rare, trusted):
    data, found = diagnosed(sparse(3, rare=rare), BY_LABELS)
    pmf = found.numbers["effective_width"]["component"]["pmf"]
    assert pmf[2] == pytest.approx(rare, abs=0.08)
    assert found.numbers["spare_units"] == {"component": []}
    assert "spare-units" not in found.codes
    assert found.labels_trustworthy == trusted
    assert np.isnan(data["relabel"]["component_label_probability"]).mean() == pytest.approx(
        pmf[2] / 3
    )


def test_labels_and_chances_agree():
    tree = sparse(5, rare=0.3)
    groups = {name: tree[name].to_dataset() for name in ("posterior", "allocation")}
    one, two = (occupancy(Draws.read(groups, s, "raise")) for s in (BY_LABELS, BY_CHANCES))
    assert np.array_equal(one["component"].eliminated, two["component"].eliminated)
    z = tree["allocation"]["z"].values.reshape(-1, 80)
    brute = np.array([[k not in row for k in range(5)] for row in z])
    assert np.array_equal(one["component"].eliminated, brute)


def test_draws_that_were_not_aligned():
    tree = sparse()
    _, found = diagnosed(tree)
    assert found.numbers["effective_width"]["component"]["median"] == 3
    assert found.numbers["spare_units"] == {}
    assert found.codes[0] == "not-aligned"


def test_several_labels_count_together_and_missing_ones_do_not():
    z = np.array([[0, -1, 2], [-1, -1, -1]])
    assert named_by(z, 3).tolist() == [[True, False, True], [False] * 3]
    p = np.full((2, 4, 3), np.nan)
    p[0, :2] = [0.5, 0.2, 0.3]
    assert probable(p).tolist() == [[True, False, True], [False] * 3]  # 0.36 < 0.5, 0.51 > 0.5
    tree = sparse()
    z = tree["allocation"]["z"]
    halves = {"a": z[..., :10].rename(obs="o"), "b": z[..., 10:].rename(obs="p")}
    tree["allocation"] = xr.DataTree(xr.Dataset(halves))
    spec = relabel.mixture(["mu", "w"], z=["a", "b"])
    assert diagnosed(tree, spec)[1].numbers["effective_width"]["component"]["pmf"][3] == 1


def test_blocks_make_no_difference(monkeypatch):
    rng = np.random.default_rng(0)
    z, p = rng.integers(-1, 6, (50, 30)), rng.dirichlet(np.full(6, 0.05), (50, 30))
    whole = named_by(z, 6), probable(p)
    monkeypatch.setattr("relabel.diagnostics.kernels.empty_components._BLOCK", 100)
    assert np.array_equal(named_by(z, 6), whole[0])
    assert np.array_equal(probable(p), whole[1])


def test_what_is_no_allocation():
    """Loadings of an allocation group, or probabilities that do not add up, tell nothing."""
    tree = sparse()
    tree["allocation"]["prob"] = tree["allocation"]["prob"] * 2
    assert diagnosed(tree, relabel.mixture(["mu", "w"]))[1].numbers["effective_width"] == {}
    tree = sparse()
    tree["allocation"]["prob"].values[1, 2, 3] = 0.5
    with pytest.raises(DataError, match=r"allocation/prob: .* observation 3 in draw 62 add up"):
        diagnosed(tree, BY_CHANCES)


def test_draws_that_are_left_out():
    tree = sparse()
    tree["posterior"]["mu"].values[0, :5, 0] = np.nan
    aligned = relabel.align(tree, BY_LABELS, nonfinite="skip")
    data, found = diagnosed(aligned)
    assert (data["relabel"]["component_effective_width"][0, :5] == -1).all()
    assert found.numbers["effective_width"]["component"]["pmf"][3] == 1


@pytest.mark.parametrize("draws", [100, 40_000])
def test_weights_that_are_all_the_same_have_no_scale(draws):
    """They vary by the rounding of their mean, which must not be taken for a scale."""
    shape = (1, draws, 3)
    mu = TRUE + np.random.default_rng(0).normal(size=shape)
    posterior = {"mu": ((*SAMPLE, "component"), mu)}
    posterior["w"] = ((*SAMPLE, "component"), np.full(shape, 1 / 3))
    found = Draws.read({"posterior": xr.Dataset(posterior)}, relabel.mixture(["mu", "w"]), "raise")
    moments = pooled_moments(found.problem(relabel.criteria.Mean()))
    assert moments.own["component"][0] == pytest.approx(7, rel=0.2)
    assert moments.own["component"][1] == pytest.approx(1 / 9)


# ---------------------------------------------------------------------- hidden Markov models


def hidden(draws: int = 60) -> tuple[xr.DataTree, np.ndarray]:
    """A hidden Markov model whose labels switch in every draw, with its state path."""
    rng = np.random.default_rng(1)
    shape = (3, draws, 3)
    path = np.repeat([0, 1, 2, 1, 0, 2], 5)
    P = rng.dirichlet(np.ones(3), (*shape[:2], 3)) * 0.1 + 0.9 * np.array(
        [[0.8, 0.2, 0.0], [0.1, 0.8, 0.1], [0.3, 0.0, 0.7]]
    )
    mu = TRUE + 0.3 * rng.normal(size=shape)
    z = np.where(rng.random((3, draws, 30)) < 0.9, path, rng.integers(0, 3, (3, draws, 30)))
    index = np.argsort(rng.random(shape), axis=-1)
    slot_of = np.argsort(index, axis=-1)
    take = np.take_along_axis
    P = take(take(P, index[..., None], 2), index[:, :, None], 3)
    posterior = {
        "mu": ((*SAMPLE, "state"), take(mu, index, 2)),
        "P": ((*SAMPLE, "state", "state_to"), P),
        "path": ((*SAMPLE, "time"), take(slot_of, z, 2)),
    }
    lp = xr.Dataset({"lp": (SAMPLE, rng.normal(size=(3, draws)))})
    tree = xr.DataTree.from_dict({"posterior": xr.Dataset(posterior), "sample_stats": lp})
    return tree, index


def test_every_question_of_a_hidden_markov_model():
    tree, index = hidden()
    aligned = relabel.align(tree, relabel.hmm(["mu"], z="path"))
    found = np.take_along_axis(index, aligned["relabel"]["state_index"].values, axis=-1)
    assert (found == found[0, 0]).all()
    P = aligned["posterior"]["P"].values
    assert (np.diagonal(P, axis1=2, axis2=3) > 0.6).all()
    assert (P.std(axis=(0, 1)) < 0.05).all()
    _, diagnosis = diagnosed(aligned)
    assert diagnosis.labels_trustworthy
    assert min(diagnosis.numbers["confidence"]["state"]) > 0.95
    explained = diagnosis.numbers["variance_explained"]  # of the path, which was compared
    assert explained > diagnosis.numbers["variance_explained_null"] + 0.3
    assert explained > 0.8
    assert diagnosis.numbers["effective_width"]["state"]["pmf"][3] == 1
    assert diagnosis.numbers["orbit"]["state"]
    assert len(diagnosis.numbers["modes"]) == 1
    for kind in ("weights_after", "invariant", "lp"):
        assert diagnosis.numbers["rhat"][kind] < 1.05
    assert [f.code for f in diagnosis.findings if f.severity != "info"] == []


@pytest.mark.parametrize(
    "spec",
    [
        relabel.Spec({"state": "permutation"}, {"P": "state state", "mu": "..."}),
        relabel.hmm(["mu"], z="path"),
    ],
)
def test_transition_matrices_that_are_half_declared(spec):
    """The matrix alone tells the states apart as well: nothing to warn of."""
    tree, _ = hidden(5)
    if spec.values == {}:
        tree["posterior"] = xr.DataTree(tree["posterior"].to_dataset().drop_vars("path"))
    assert json.loads(relabel.align(tree, spec)["relabel"].attrs["relabel"])["warnings"] == []


def test_a_second_axis_that_is_named_like_the_units_is_asked_about():
    tree, _ = hidden(5)
    for spec in ({"state": "permutation"}, relabel.Spec({"state": "permutation"}, {"mu": "state"})):
        with pytest.raises(SpecError, match=r"'state' and 'state_to'.*\(P = 'state state'\)"):
            relabel.align(tree, spec)


def test_square_variables_that_are_left_behind_are_pointed_out():
    tree, _ = hidden(5)
    posterior = tree["posterior"].to_dataset().rename(state_to="to")
    posterior["P"] = posterior["P"].rename(state="from").drop_vars("from", errors="ignore")
    tree["posterior"] = xr.DataTree(posterior)
    told = json.loads(
        relabel.align(tree, relabel.hmm(["mu"], transition="P", z="path"))["relabel"].attrs[
            "relabel"
        ]
    )["warnings"]
    assert not any("left as" in one for one in told)
    spec = relabel.Spec({"state": "permutation"}, values={"path": "state"})
    told = json.loads(relabel.align(tree, spec)["relabel"].attrs["relabel"])["warnings"]
    (one,) = (one for one in told if "left as" in one)
    assert "'P' (3 × 3): left as it was" in one
    assert "'state state' where both axes are theirs" in one


def test_chains_in_other_modes_of_a_mixture():
    """Two components share their places in one chain: no relabelling mends that."""
    tree = sparse(3)
    mu = tree["posterior"]["mu"].values
    away = 12.0 + 0.1 * np.random.default_rng(0).normal(size=mu[1].shape)
    mu[1] = np.where(mu[1] > 4.5, away, mu[1])
    _, found = diagnosed(tree, BY_LABELS)
    assert found.numbers["rhat"]["weights_after"] > 1.05
    (finding,) = [f for f in found.findings if f.code == "rhat-weights"]
    assert "sums over units, which no relabelling changes, have" in finding.message
    assert finding.severity == "warning"
    assert len(found.numbers["modes"]) == 2


# ---------------------------------------------------------------------- the command


def test_the_command_shows_empty_components(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sparse().to_netcdf("in.nc", engine="h5netcdf")

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["relabel", *args])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code in (0, None)
        return capsys.readouterr().out

    assert '"allocation/z" = "component"' in call("inspect", "in.nc")
    call("align", "in.nc", "-o", "out.nc", "--units", "component=permutation")
    aligned = relabel.open_draws("out.nc")
    assert "allocation/z" in relabelled(aligned)
    assert "3 of 5 units 'component' have observations" in call("diagnose", "out.nc")
