"""The whole diagnosis: on draws of real samplers, on what is missing, and in files."""

import json
from functools import cache

import jsonschema
import numpy as np
import pytest
import xarray as xr
from files import RECORDED
from recorded import AXES, read, spec_of
from typer.testing import CliRunner

import relabel
from relabel import Diagnosis, Spec, Thresholds
from relabel.cli.app import app
from relabel.diagnostics.aligned import Aligned
from relabel.diagnostics.checks import CHECKS
from relabel.diagnostics.diagnosis import schema, stored_confidence
from relabel.diagnostics.kernels.quantities import invariants
from relabel.simulate import Regression, network
from relabel.simulate import posterior as posterior_of

DATA = RECORDED
CHECK = jsonschema.Draft202012Validator(schema())


@cache
def aligned_draws(name, symmetry, every):
    tree = read(name, draw=slice(None, None, every))
    return relabel.align(tree, spec_of(name.split("/")[-1], symmetry))


@cache
def found_in(name, symmetry, every):
    return relabel.diagnose(aligned_draws(name, symmetry, every))


def diagnosed(name, symmetry, every=1, **options):
    if options:
        data, diagnosis = relabel.diagnose(aligned_draws(name, symmetry, every), **options)
    else:
        data, diagnosis = found_in(name, symmetry, every)
    CHECK.validate(json.loads(diagnosis.to_json()))
    return data, diagnosis


def certain(diagnosis, units="h"):
    return sum(value > 0.9 for value in diagnosis.numbers["confidence"][units])


# ---------------------------------------------------------------------- real samplers


def test_chains_in_worse_modes():
    data, found = diagnosed("relu_3-4-1", "relu", every=2)
    assert found.numbers["chains_flagged"] == [3, 4, 5, 7]
    assert found.labels_trustworthy
    modes = found.numbers["modes"]
    assert modes[0]["chains"] == [0, 1, 2, 6]
    assert sorted(c for mode in modes[1:] for c in mode["chains"]) == [3, 4, 5, 7]
    assert modes[0]["lp_median"] - modes[1]["lp_median"] > 200
    assert found.numbers["rhat"]["weights_after_unflagged"] < 1.02
    assert found.numbers["rhat"]["weights_after"] > 2
    own = data["relabel"]
    assert own["chain_flagged"].values.tolist() == [0, 0, 0, 1, 1, 1, 0, 1]
    assert (own["mode"].values[[0, 1, 2, 6]] == 0).all()
    assert (own["mode"].values[[3, 4, 5, 7]] > 0).all()


def test_modes_of_one_function_are_flips_of_relu_units():
    _, found = diagnosed("relu_3-4-1", "relu", every=2)
    last = found.numbers["modes"][2]
    assert last["equivalent_to"] == 1
    assert "orientation" in last["cause"]


@pytest.mark.parametrize(
    ("name", "symmetry"),
    [("sigmoid_2-4-1", "sigmoid"), ("redundancy/tanh_2-4-1_two_spare", "tanh")],
)
def test_two_spare_units(name, symmetry):
    data, found = diagnosed(name, symmetry)
    assert len(found.numbers["spare_units"]["h"]) == 2
    width = found.numbers["effective_width"]["h"]
    assert width["median"] == 2
    assert np.argmax(width["pmf"]) == 2
    assert certain(found) == 2
    assert not found.labels_trustworthy
    spare = np.flatnonzero(data["relabel"]["h_spare"].values)
    assert spare.tolist() == found.numbers["spare_units"]["h"]


@pytest.mark.parametrize("name", ["tanh_2-2-1", "tanh_2-4-1"])
def test_no_spare_unit(name):
    _, found = diagnosed(f"redundancy/{name}", "tanh")
    assert found.numbers["spare_units"] == {"h": []}
    assert found.numbers["duplicate_pairs"] == []
    assert found.numbers["effective_width"]["h"]["pmf"][-1] > 0.99
    assert found.labels_trustworthy
    assert len(found.numbers["modes"]) == 1


def test_the_closest_pair_does_not_decide():
    """Four units that are all needed have a closer pair than two needed and two spare ones."""
    needed = diagnosed("redundancy/tanh_2-4-1", "tanh")[1]
    spare = diagnosed("redundancy/tanh_2-4-1_two_spare", "tanh")[1]
    closest = [min(p["distance"] for p in d.numbers["pairs"]) for d in (needed, spare)]
    assert closest[0] < closest[1]


def test_a_bernoulli_likelihood():
    _, found = diagnosed("redundancy/tanh_2-3-1_bernoulli", "tanh")
    assert "Bernoulli" in found.numbers["likelihood"]
    assert len(found.numbers["spare_units"]["h"]) == 1
    assert found.numbers["effective_width"]["h"]["median"] == 2


def test_three_slots_are_certain_and_two_are_not():
    _, found = diagnosed("tanh_1-5-1", "tanh", every=8)
    assert certain(found) == 3
    assert not found.labels_trustworthy
    assert "loose-slots" in found.codes


def test_a_deep_network_with_nothing_to_flag():
    tree = read("tanh_3-4-4-1", draw=slice(None, None, 6))
    aligned = relabel.align(tree, relabel.propose(tree).spec)
    _, found = relabel.diagnose(aligned)
    assert found.labels_trustworthy
    assert found.numbers["chains_flagged"] == []
    assert len(found.numbers["modes"]) == 1
    assert found.numbers["spare_units"] == {"h1": [], "h2": []}
    assert certain(found, "h1") == certain(found, "h2") == 4
    assert [finding for finding in found.findings if finding.severity != "info"] == []


def test_priors_check_the_scales():
    priors = {"W1": 1.0, "b1": 1.0, "W2": 1.0}
    _, right = diagnosed("redundancy/relu_2-3-1", "relu", priors=priors)
    assert right.numbers["scale_law"]["h"]["p_value"] > 0.01
    _, wrong = diagnosed("redundancy/relu_2-3-1", "relu", priors=priors | {"W1": 0.2})
    assert "scale-law" in wrong.codes


def test_labels_of_a_diffuse_posterior_mean_nothing():
    _, found = diagnosed("relu_10-10-1", "relu", every=4)
    assert not found.labels_trustworthy
    null = next(f for f in found.findings if f.code == "null")
    assert null.evidence["variance_explained"] - null.evidence["variance_explained_null"] < 0.1
    low, high = found.numbers["variance_explained_null_interval"]
    assert low < found.numbers["variance_explained_null"] < high


# ---------------------------------------------------------------------- no structure


def structureless(chains=4, draws=75):
    simulated = network((3, 6, 1), "tanh", chains=chains, draws=draws)
    rng = np.random.default_rng(0)
    return simulated.clean.map(lambda v: v.copy(data=rng.normal(size=v.shape))), simulated.spec


def test_labels_of_noise_mean_nothing():
    noise, spec = structureless()
    _, found = relabel.diagnose(relabel.align(noise, spec))
    assert not found.labels_trustworthy
    assert "null" in found.codes
    null = found.numbers["variance_explained_null"]
    assert abs(found.numbers["variance_explained"] - null) < 0.1
    assert "CANNOT" in str(found)


# ---------------------------------------------------------------------- what is missing


def small(**options):
    simulated = network((2, 3, 1), "tanh", **({"chains": 4, "draws": 60} | options))
    return simulated.data, simulated.spec


def questions(found):
    return [f.evidence["question"] for f in found.findings if f.code == "open"]


def test_what_is_not_known_is_said():
    tree, spec = small()
    data, found = relabel.diagnose(relabel.align(tree.to_dataset() if 0 else tree, spec))
    assert "chains by lp" in questions(found)
    assert "removal losses in nats" in questions(found)
    assert all(f.remedy for f in found.findings if f.code == "open")
    assert found.labels_trustworthy
    assert found.numbers["rhat"]["lp"] is None
    assert isinstance(data, xr.DataTree)


def test_inputs_are_found_or_left_out():
    """ "auto" takes those of the alignment, or the only ones that fit; None takes none."""
    tree, spec = small(chains=2, draws=30)
    x = tree["constant_data"]["X"].values
    aligned = relabel.align(tree, spec)
    (by_default, auto, none, given) = (
        relabel.diagnose(aligned, **options)[1]
        for options in ({}, {"inputs": "auto"}, {"inputs": None}, {"inputs": x})
    )
    assert auto.numbers["inputs"] == "constant_data/X"
    assert auto.to_dict() == by_default.to_dict()
    assert given.numbers["inputs"] == "given"
    assert given.numbers["effective_width"] == auto.numbers["effective_width"]
    assert none.numbers["inputs"] is None
    assert none.numbers["effective_width"] == {}
    (finding,) = [f for f in none.findings if f.evidence.get("question", "").startswith("outputs")]
    assert "none are to be used (inputs=None)" in finding.message
    two = tree.assign(
        {"constant_data": xr.DataTree(xr.Dataset(dict.fromkeys("XZ", (("n", "i"), x))))}
    )
    _, used = relabel.diagnose(relabel.align(two, spec, inputs="constant_data/Z"))
    assert used.numbers["inputs"] == "constant_data/Z"
    _, several = relabel.diagnose(relabel.align(two, spec), inputs="auto")
    assert several.numbers["inputs"] is None
    assert any("several variables could be" in finding.message for finding in several.findings)
    with pytest.raises(relabel.SpecError, match="no variable 'constant_data/Q'"):
        relabel.diagnose(aligned, inputs="constant_data/Q")


def test_mixtures_have_no_inputs_to_leave_out():
    mu = np.array([0.0, 5.0]) + np.random.default_rng(0).normal(size=(2, 30, 2)) / 4
    draws = xr.Dataset({"mu": (("chain", "draw", "component"), mu)})
    aligned = relabel.align(draws, {"component": "permutation"})
    found = [relabel.diagnose(aligned, inputs=inputs)[1].to_dict() for inputs in ("auto", None)]
    assert found[0] == found[1]


def test_targets_are_found_or_left_out():
    groups, spec = gaussian_data()
    del groups["posterior"]["sigma"]
    tree = xr.DataTree.from_dict(groups)
    aligned = relabel.align(tree, spec)
    (by_default, auto, none) = (
        relabel.diagnose(aligned, **options)[1]
        for options in ({}, {"targets": "auto"}, {"targets": None})
    )
    assert by_default.to_dict() == auto.to_dict()
    assert "constant_data/y" in auto.numbers["likelihood"]
    assert "constant_data/y" not in none.numbers["likelihood"]
    assert "removal losses in nats" in questions(none)
    kind = relabel.Likelihood("normal", targets="constant_data/y")
    with pytest.raises(relabel.SpecError, match="leave one of the two out"):
        relabel.diagnose(aligned, targets=None, likelihood=kind)


def test_targets_as_arrays_and_addresses(tmp_path):
    tree, spec = small(chains=2, draws=30)
    bare = relabel.align(tree["posterior"].to_dataset(), spec)
    x = np.random.default_rng(0).normal(size=(20, 2))
    y = np.random.default_rng(1).normal(size=20)
    _, found = relabel.diagnose(bare, inputs=x, targets=y)
    assert "targets (given)" in found.numbers["likelihood"]
    _, found = relabel.diagnose(bare, inputs=x, targets=(y > 0).astype(int))
    assert found.numbers["likelihood"].startswith("Bernoulli targets (given)")
    constant = xr.Dataset({"X": (("n", "i"), x), "late": ("n", y)})
    stored = tree.assign({"constant_data": xr.DataTree(constant)})
    aligned = relabel.align(stored, spec, inputs="constant_data/X")
    _, found = relabel.diagnose(aligned, targets="constant_data/late")
    assert "targets (constant_data/late)" in found.numbers["likelihood"]
    for wrong, message in ((y[:5], "targets given have the shape"), ("a/b", "no variable 'a/b'"),
                           (np.arange(20), "do not tell a family for 1 outputs")):  # fmt: skip
        with pytest.raises(relabel.SpecError, match=message):
            relabel.diagnose(bare, inputs=x, targets=wrong)
    relabel.save(bare, tmp_path / "a.nc")
    np.savez(tmp_path / "d.npz", x=x, y=y)
    data = tmp_path / "d.npz"
    told = ["--inputs", f"{data}:x", "--targets", f"{data}:y"]
    done = CliRunner().invoke(app, ["diagnose", str(tmp_path / "a.nc"), *told, "--json"])
    assert "targets (given)" in json.loads(done.stdout)["likelihood"]


def test_no_inputs():
    tree, spec = small()
    posterior = tree["posterior"].to_dataset()
    data, found = relabel.diagnose(relabel.align(posterior, spec))
    assert isinstance(data, xr.Dataset)
    assert found.numbers["effective_width"] == {}
    assert any("redundancy" in question for question in questions(found))
    assert found.labels_trustworthy


@pytest.mark.parametrize("options", [{"chains": 1}, {"draws": 5}, {"chains": 1, "draws": 3}])
def test_little_data(options):
    tree, spec = small(**options)
    _, found = relabel.diagnose(relabel.align(tree, spec))
    CHECK.validate(found.to_dict())
    if options.get("chains", 4) * options.get("draws", 60) < 20:
        assert found.numbers["confidence"] == {}
        assert "certainty" in questions(found)
        assert not found.labels_trustworthy
    else:
        assert np.isfinite(found.numbers["confidence"]["h"]).all()
    if options.get("chains") == 1:
        assert "one-chain" in found.codes
    if options.get("draws") == 3:
        assert "R-hat and ESS" in questions(found)


@pytest.mark.parametrize("form", ["members", "named members", None])
def test_few_networks_are_no_failure(form):
    tree, spec = small(chains=1, draws=8)
    tree["posterior"].attrs.update({"form": form} if form else {})
    _, found = relabel.diagnose(relabel.align(tree, spec))
    CHECK.validate(found.to_dict())
    assert not found.labels_trustworthy
    assert str(found).startswith("labels cannot be judged from 8 draws\n")
    assert "!!" not in str(found)
    assert str(relabel.Diagnosis.from_dict(found.to_dict())) == str(found)
    remedies = " ".join(f.remedy for f in found.findings if f.code != "open")
    assert ("relabel.average" in remedies) == (form is not None)
    assert ("draw more" in remedies) == (form is None)
    assert ("members" in found.codes, "one-chain" in found.codes) == (bool(form), not form)


def test_members_have_no_rhat():
    tree, spec = small(chains=1, draws=60)
    tree["posterior"].attrs["form"] = "members"
    _, found = relabel.diagnose(relabel.align(tree, spec))
    CHECK.validate(found.to_dict())
    assert set(found.numbers["rhat"].values()) == {None}
    assert not {"rhat-weights", "one-chain"} & set(found.codes)
    assert not {"R-hat and ESS", "chains", "chains by lp"} & set(questions(found))


def test_long_lists_of_confidences_say_so():
    numbers = {"confidence": {"a": [1.0] * 20, "b": [0.5] * 64}, "ambiguous_draws": {},
               "certainty": {}, "modes": [], "chains_flagged": [], "chains": []}  # fmt: skip
    _, short, long = str(Diagnosis(True, numbers, ())).splitlines()
    assert short.endswith("1.00")
    assert long.endswith("0.50 ... (64 slots)")


def test_one_draw():
    tree, spec = small(chains=1, draws=1)
    _, found = relabel.diagnose(relabel.align(tree, spec))
    assert "null-unknown" in found.codes
    assert not found.labels_trustworthy


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu", "sigmoid"])
def test_one_unit(activation):
    simulated = network((2, 1, 1), activation, draws=60)
    _, found = relabel.diagnose(relabel.align(simulated.data, simulated.spec))
    CHECK.validate(found.to_dict())
    assert found.labels_trustworthy
    assert found.numbers["variance_explained"] is None


def test_constant_draws():
    tree, spec = small()
    still = tree["posterior"].to_dataset().isel(chain=[0], draw=[0] * 30)
    _, found = relabel.diagnose(relabel.align(still, spec))
    CHECK.validate(found.to_dict())
    assert found.numbers["rhat"]["weights_after"] is None


def test_all_chains_flagged():
    tree, spec = small()
    drift = np.linspace(-300, 0, 60) + np.random.default_rng(0).normal(size=(4, 60))
    lp = xr.Dataset({"lp": (("chain", "draw"), drift)})
    tree = xr.DataTree.from_dict({"posterior": tree["posterior"].to_dataset(), "sample_stats": lp})
    _, found = relabel.diagnose(relabel.align(tree, spec))
    assert "all-chains-flagged" in found.codes
    assert not found.labels_trustworthy
    assert certain(found) == 3


def test_draws_that_were_not_aligned():
    tree = read("redundancy/tanh_2-2-1")
    data, found = relabel.diagnose(tree)
    assert data is tree
    assert found.codes[0] == "not-aligned"
    assert not found.labels_trustworthy
    assert found.numbers["effective_width"]["h"]["median"] == 2
    assert found.numbers["rhat"]["function"] < 1.05
    CHECK.validate(found.to_dict())


def test_draws_that_were_not_aligned_and_cannot_be_told():
    draws = xr.Dataset({"a": (("chain", "draw", "k"), np.zeros((2, 20, 3)))})
    with pytest.raises(relabel.DataError, match="align them first"):
        relabel.diagnose(draws)


def test_draws_that_are_not_finite():
    tree, spec = small()
    posterior = tree["posterior"].to_dataset().copy(deep=True)
    posterior["W1"].values[1, 3] = np.nan
    tree["posterior"] = posterior
    data, found = relabel.diagnose(relabel.align(tree, spec, nonfinite="skip"))
    own = data["relabel"]
    assert np.isnan(own["h_label_probability"].values[1, 3]).all()
    assert own["mode"].values[1, 3] == -1
    assert "excluded" in found.codes
    assert found.labels_trustworthy


def test_mixtures_have_no_network():
    mu = np.array([0.0, 5.0, 9.0]) + np.random.default_rng(0).normal(size=(3, 80, 3)) / 4
    draws = xr.Dataset({"mu": (("chain", "draw", "component"), mu)})
    aligned = relabel.align(draws, {"component": "permutation"})
    _, found = relabel.diagnose(aligned)
    assert found.labels_trustworthy
    with pytest.raises(relabel.SpecError, match="no network"):
        relabel.diagnose(aligned, inputs=np.zeros((5, 2)))


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("with_mu", [True, False])
def test_weights_that_add_up_to_one_are_no_structure(size, with_mu):
    rng = np.random.default_rng(size)
    values = {"w": rng.dirichlet(np.full(size, 5.0), size=(4, 120))}
    if with_mu:
        values["mu"] = rng.normal(size=(4, 120, size))
    draws = xr.Dataset({k: (("chain", "draw", "component"), v) for k, v in values.items()})
    _, found = relabel.diagnose(relabel.align(draws, {"component": "permutation"}))
    assert "null" in found.codes
    assert not found.labels_trustworthy
    assert max(found.numbers["confidence"]["component"]) < 0.9
    invariant = found.numbers["rhat"]["invariant"]
    assert invariant < 1.02  # not that of the rounding of a sum that is one


def test_few_good_features_among_noise():
    rng = np.random.default_rng(0)
    mu = 3 * np.arange(5) + rng.normal(size=(4, 250, 5)) / 3
    w = rng.dirichlet(np.full(5, 5.0), size=(4, 250))
    order = rng.permuted(np.tile(np.arange(5), (4, 250, 1)), axis=2)
    values = {"mu": np.take_along_axis(mu, order, 2), "w": np.take_along_axis(w, order, 2)}
    draws = xr.Dataset({k: (("chain", "draw", "component"), v) for k, v in values.items()})
    units = {"component": "permutation"}
    good = relabel.align(draws, units, criterion=relabel.criteria.Normal(covariance="full"))
    slots = good["mu"].values.reshape(-1, 5)
    assert (slots.argsort(axis=1) == slots[0].argsort()).all()
    _, found = relabel.diagnose(good)
    assert found.labels_trustworthy
    assert "noisy-features" in found.codes
    _, poor = relabel.diagnose(relabel.align(draws, units, criterion="mean"))
    assert not poor.labels_trustworthy


def test_the_same_units_on_both_sides_only():
    transition = np.random.default_rng(0).dirichlet(np.ones(3), size=(2, 30, 3))
    draws = xr.Dataset({"P": (("chain", "draw", "a", "b"), transition)})
    aligned = relabel.align(draws, Spec({"s": "permutation"}, {"P": "s s"}))
    _, found = relabel.diagnose(aligned)
    assert "certainty-unknown" in found.codes
    assert not found.labels_trustworthy


def test_wrong_options():
    tree, spec = small()
    aligned = relabel.align(tree, spec)
    with pytest.raises(relabel.SpecError, match="threshold null_gap must be a number between 0"):
        Thresholds(null_gap=2)
    with pytest.raises(relabel.SpecError, match=r"relabel\.Thresholds"):
        relabel.diagnose(aligned, thresholds={"null_gap": 0.2})
    with pytest.raises(relabel.SpecError, match="family"):
        relabel.diagnose(aligned, likelihood="poisson")
    with pytest.raises(relabel.SpecError, match="there is no variable"):
        relabel.diagnose(aligned, inputs="constant_data/Z")


# ---------------------------------------------------------------------- what comes out


def test_diagnosed_draws_are_aligned_draws():
    tree, spec = small()
    aligned = relabel.align(tree, spec)
    data, found = relabel.diagnose(aligned)
    assert data["posterior"].identical(aligned["posterior"])
    assert relabel.undo(data).identical(relabel.undo(aligned))
    again, same = relabel.diagnose(data)
    assert (
        again["relabel"]
        .to_dataset()
        .drop_attrs()
        .identical(data["relabel"].to_dataset().drop_attrs())
    )
    assert same.to_dict() == found.to_dict()
    twice = relabel.align(data, spec)
    assert twice["posterior"].identical(aligned["posterior"])
    assert "mode" not in twice["relabel"]


def test_a_dataset_takes_the_findings_and_gives_them_back():
    tree, spec = small()
    posterior = tree["posterior"].to_dataset()
    data, _ = relabel.diagnose(relabel.align(posterior, spec))
    assert {"relabel_mode", "relabel_h_label_probability"} <= set(data.data_vars)
    assert relabel.undo(data).identical(posterior)
    assert "relabel_mode" in relabel.diagnose(data)[0]


def test_findings_go_through_files(tmp_path):
    tree, spec = small()
    data, found = relabel.diagnose(relabel.align(tree, spec))
    for name in ("a.nc", "a.zarr"):
        relabel.save(data, tmp_path / name)
        back = relabel.open_draws(tmp_path / name)
        stored = json.loads(back["relabel"].attrs["relabel"])["diagnosis"]
        assert Diagnosis.from_dict(stored).to_dict() == found.to_dict()
        assert (back["relabel"]["mode"] == data["relabel"]["mode"]).all()


def test_every_variable_says_what_it_means():
    data, _ = diagnosed("redundancy/tanh_2-2-1", "tanh")
    for name, variable in data["relabel"].data_vars.items():
        if name.removeprefix("h_") not in ("index", "factor"):
            assert variable.attrs["long_name"], name
    assert data["relabel"]["h_removal_loss"].attrs["units"] == "nats"


def test_the_report_in_all_its_forms():
    _, found = diagnosed("redundancy/tanh_2-4-1_two_spare", "tanh")
    frame = found.to_dataframe()
    assert list(frame.columns) == [
        "units",
        "slot",
        "confidence",
        "spare",
        "spare_alone",
        "removal_loss",
        "kind",
    ]
    assert len(frame) == 4
    assert frame["spare"].sum() == 2
    assert str(found).startswith("labels CANNOT")
    assert Diagnosis.from_dict(json.loads(found.to_json())).to_dict() == found.to_dict()


def test_progress_is_told():
    tree, spec = small()
    steps = []
    relabel.diagnose(relabel.align(tree, spec), progress=lambda *step: steps.append(step))
    assert {*CHECKS, "other starts", "done"} == {stage for stage, _, _ in steps}
    assert steps[-1] == ("done", len(CHECKS), len(CHECKS))
    assert all(0 <= done <= total for _, done, total in steps)


def test_progress_is_a_bar_on_standard_error(capsys):
    tree, spec = small(chains=1, draws=20)
    aligned = relabel.align(tree, spec)
    relabel.diagnose(aligned, progress=False)
    assert capsys.readouterr() == ("", "")
    relabel.diagnose(aligned, progress=True)
    assert capsys.readouterr().out == ""


def test_a_threshold_moves_the_line():
    _, found = diagnosed(
        "sigmoid_2-4-1", "sigmoid", every=4, thresholds=Thresholds(confidence=0.99)
    )
    loose = next(f for f in found.findings if f.code == "loose-slots")
    assert loose.evidence["slots"] == [0, 1, 2, 3]


# ---------------------------------------------------------------------- what goes with what


def with_lp(tree, lp):
    lp = xr.Dataset({"lp": (("chain", "draw"), lp)})
    lp = lp.assign_coords(chain=np.arange(4), draw=np.arange(60))
    posterior = tree["posterior"].to_dataset().assign_coords(lp.coords)
    return {"posterior": posterior, "sample_stats": lp}


def test_lp_of_chains_in_another_order_is_not_that_of_the_draws():
    tree, spec = small()
    lp = np.random.default_rng(0).normal(size=(4, 60))
    lp[3] -= 1000
    groups = with_lp(tree, lp)
    _, found = relabel.diagnose(relabel.align(xr.DataTree.from_dict(groups), spec))
    assert found.numbers["chains_flagged"] == [3]
    groups["sample_stats"] = groups["sample_stats"].isel(chain=[3, 2, 1, 0])
    _, found = relabel.diagnose(relabel.align(xr.DataTree.from_dict(groups), spec))
    assert found.numbers["chains_flagged"] == []
    assert "chains by lp" in questions(found)


def test_a_chain_without_draws_leaves_the_others_their_rhat():
    tree, spec = small()
    posterior = tree["posterior"].to_dataset().copy(deep=True)
    posterior["W1"].values[2] = np.nan
    _, found = relabel.diagnose(relabel.align(posterior, spec, nonfinite="skip"))
    assert found.numbers["rhat"]["weights_after"] < 1.1
    assert found.labels_trustworthy


def gaussian_data(targets=None):
    """Draws with a noise variable, inputs and targets that agree with it."""
    made = posterior_of((2, 2, 1), "tanh", chains=4, draws=60, regression=Regression(sigma=0.3))
    groups = {name: node.to_dataset().copy(deep=True) for name, node in made.data.children.items()}
    if targets is not None:
        y = groups["constant_data"]["y"]
        groups["constant_data"]["y"] = y.copy(data=targets(y.values))
    return groups, made.spec


def likelihood_of(groups, spec, **options):
    aligned = relabel.align(xr.DataTree.from_dict(groups), spec, nonfinite="skip")
    return relabel.diagnose(aligned, **options)[1].numbers["likelihood"]


def test_noise_of_the_draws_that_take_part():
    groups, spec = gaussian_data()
    for name in ("W1", "sigma"):
        groups["posterior"][name].values[1, 3] = np.nan
    assert "variable 'sigma'" in likelihood_of(groups, spec)


def test_targets_of_zeros_and_ones_with_a_noise_variable():
    groups, spec = gaussian_data(targets=lambda y: (y > np.median(y)).astype(float))
    assert likelihood_of(groups, spec).startswith("Normal noise")
    del groups["posterior"]["sigma"]
    assert likelihood_of(groups, spec).startswith("Bernoulli")


def test_other_inputs_are_not_paired_with_stored_targets():
    groups, spec = gaussian_data()
    X = groups["constant_data"]["X"].values
    assert "variable 'sigma'" in likelihood_of(groups, spec, inputs=X[::-1])
    assert "variable 'sigma'" in likelihood_of(groups, spec, inputs=X)
    del groups["posterior"]["sigma"]
    assert "root mean square" in likelihood_of(groups, spec, inputs=X)
    assert "No likelihood" in likelihood_of(groups, spec, inputs=X[::-1])


def test_some_priors_leave_the_question_open():
    tree, spec = small()
    aligned = relabel.align(tree, spec)
    _, found = relabel.diagnose(aligned, priors={"W1": 1.0, "b1": None})
    assert "duplicated pairs against the prior" in questions(found)
    for priors in ({"W9": 1.0}, {"W1": "a"}, {"W1": -1.0}, [1.0]):
        with pytest.raises(relabel.SpecError, match="priors"):
            relabel.diagnose(aligned, priors=priors)


def test_of_several_inputs_those_that_go_with_the_targets():
    groups, spec = gaussian_data()
    groups["constant_data"]["X_grid"] = (("grid", "input"), np.zeros((7, 2)))
    aligned = relabel.align(xr.DataTree.from_dict(groups), spec)
    assert relabel.diagnose(aligned)[1].numbers["inputs"] == "constant_data/X"


def test_two_units_that_cancel_are_spare_not_duplicated():
    simulated = network((2, 3, 1), "tanh", chains=4, draws=60, noise=0.03)
    clean = simulated.clean.copy(deep=True)
    for name in ("W1", "b1"):
        clean[name].values[..., 2] = clean[name].values[..., 1]
    clean["W2"].values[..., 2, :] = -clean["W2"].values[..., 1, :]
    constant = simulated.data["constant_data"].to_dataset()
    tree = xr.DataTree.from_dict({"posterior": clean, "constant_data": constant})
    kind = relabel.Likelihood("normal", scale=0.05)
    _, found = relabel.diagnose(relabel.align(tree, simulated.spec), likelihood=kind)
    assert len(found.numbers["spare_units"]["h"]) == 2
    cancelling = [p for p in found.numbers["pairs"] if p["kind"] == "cancelling"]
    assert [p["slots"] for p in cancelling if p["share"] > 0.5] == [
        found.numbers["spare_units"]["h"]
    ]
    assert found.numbers["duplicate_pairs"] == []
    assert "duplicates" not in found.codes


def test_sums_that_are_one_are_no_invariants():
    w = np.random.default_rng(0).dirichlet(np.full(3, 5.0), size=(2, 50)).astype(np.float32)
    draws = xr.Dataset({"w": (("chain", "draw", "component"), w)})
    read = Aligned.unaligned({"posterior": draws}, Spec({"component": "permutation"}))
    (found,) = invariants(read.problem, read.layout).values()
    assert found.shape == (100, 4)  # three sorted norms and a sum of squares, but no sum
    assert found.std(axis=0).min() > 1e-3


def test_inputs_that_are_gone_are_an_open_question():
    tree, spec = small()
    aligned = relabel.align(tree, spec, inputs="constant_data/X")
    del aligned["constant_data"]
    _, found = relabel.diagnose(aligned)
    assert any("redundancy" in question for question in questions(found))


def test_confidence_is_read_from_what_was_stored(tmp_path):
    """Of included draws of chains that are not flagged; empty slots count as zero."""
    tree = read("relu_3-4-1", draw=slice(None, None, 8))
    posterior = tree["posterior"].to_dataset().copy(deep=True)
    posterior["W1"].values[0, 3] = np.nan
    tree["posterior"] = posterior.assign_coords(W1_dim_1=list("abcd"))
    aligned = relabel.align(tree, spec_of("relu_3-4-1", "relu"), nonfinite="skip")
    data, found = relabel.diagnose(aligned)
    assert found.numbers["chains_flagged"]
    relabel.save(data, tmp_path / "a.nc")
    for one in (data, relabel.open_draws(tmp_path / "a.nc")):
        confidence = stored_confidence(one)
        assert list(confidence) == ["h"]
        assert confidence["h"].dims == ("h",)
        np.testing.assert_allclose(confidence["h"], found.numbers["confidence"]["h"], rtol=1e-12)
    flagged = data["relabel"]["chain_flagged"]
    data["relabel"]["chain_flagged"] = xr.ones_like(flagged)
    label = data["relabel"]["h_label_probability"].values
    mean = np.nanmean(label.reshape(-1, 4), axis=0)
    np.testing.assert_allclose(stored_confidence(data)["h"], mean)


def test_confidence_of_flat_datasets_and_empty_slots():
    mu = np.array([0.0, 5.0, 9.0]) + np.random.default_rng(0).normal(size=(2, 40, 3)) / 4
    z = np.random.default_rng(1).integers(0, 2, size=(2, 40, 30))
    z[:, ::2, 0] = 2
    draws = xr.Dataset({"mu": (("chain", "draw", "k"), mu), "z": (("chain", "draw", "n"), z)})
    spec = Spec({"k": "permutation"}, {"mu": "k"}, values={"z": "k"})
    data, found = relabel.diagnose(relabel.align(draws, spec))
    assert isinstance(data, xr.Dataset)
    assert min(found.numbers["confidence"]["k"]) < 0.6
    np.testing.assert_allclose(stored_confidence(data)["k"], found.numbers["confidence"]["k"])


def test_confidence_of_what_was_not_diagnosed():
    tree, spec = small(chains=1, draws=8)
    with pytest.raises(relabel.DataError, match=r"not aligned .*\(relabel\.diagnose\)"):
        stored_confidence(tree)
    aligned = relabel.align(tree, spec)
    with pytest.raises(relabel.DataError, match="not diagnosed: use the draws that relabel"):
        stored_confidence(aligned)
    assert stored_confidence(relabel.diagnose(aligned)[0]) == {}


def test_reducing_diagnosed_draws_drops_what_no_longer_holds():
    tree, spec = small()
    data, _ = relabel.diagnose(relabel.align(tree, spec))
    own = relabel.reduce(data)["relabel"]
    assert "h_removal_loss" not in own
    assert "diagnosis" not in json.loads(own.attrs["relabel"])


@pytest.mark.parametrize("rng", [-1, 0.5, "a", None, True])
def test_seeds_that_are_none(rng):
    tree, spec = small(draws=5)
    with pytest.raises(relabel.SpecError, match="rng must be a non-negative integer or a"):
        relabel.diagnose(relabel.align(tree, spec), rng=rng)


def test_seeds_of_any_kind():
    tree, spec = small(draws=20)
    aligned = relabel.align(tree, spec)
    found = [relabel.diagnose(aligned, rng=rng)[1] for rng in (0, np.int64(0), 3)]
    found += [relabel.diagnose(aligned, rng=np.random.default_rng(3))[1] for _ in range(2)]
    null = [one.numbers["variance_explained_null"] for one in found]
    assert null[0] == null[1] != null[2]
    assert null[3] == null[4]


def test_numbers_of_any_kind_are_thresholds():
    assert Thresholds(alpha=np.float32(0.1), n_sd=np.int64(3)).n_sd == 3


def test_reduced_draws_are_refused():
    tree, spec = small()
    for data in (tree, tree["posterior"].to_dataset()):
        reduced = relabel.reduce(relabel.align(data, spec))
        for refused in (relabel.undo, relabel.diagnose, lambda d: relabel.align(d, spec)):
            with pytest.raises(relabel.DataError, match="were reduced"):
                refused(reduced)
        with pytest.raises(relabel.DataError, match="were reduced"):
            relabel.apply(relabel.undo(relabel.align(data, spec)), reduced)


# ---------------------------------------------------------------------- flagged chains


def test_flagged_chains_have_no_part_in_the_reference():
    tree, spec = read("relu_3-4-1"), Spec({"h": "relu"}, AXES)
    whole = relabel.align(tree, spec, exclude_flagged=True)
    alone = relabel.align(read("relu_3-4-1", chain=[0, 1, 2, 6]), spec)
    for name in ("W1", "b1", "W2"):
        kept = whole["posterior"][name].isel(chain=[0, 1, 2, 6])
        np.testing.assert_array_equal(kept.values, alone["posterior"][name].values)
    assert relabel.undo(whole)["posterior"]["sigma"].identical(tree["posterior"]["sigma"])
    again = relabel.align(whole, spec, exclude_flagged=True)
    np.testing.assert_array_equal(again["posterior"]["W1"], whole["posterior"]["W1"])
    notes = json.loads(whole["relabel"].attrs["relabel"])
    assert notes["no_part_in_reference"] == [3, 4, 5, 7]
    assert notes["options"]["exclude_flagged"] is True
    loss = whole["relabel"]["loss"].values
    np.testing.assert_allclose(loss[[0, 1, 2, 6]], alone["relabel"]["loss"].values, rtol=1e-9)
    assert np.isfinite(loss).all()
    assert loss[[3, 4, 5, 7]].min() > loss[[0, 1, 2, 6]].max()


def test_nothing_to_judge_chains_by():
    tree, spec = small()
    with pytest.raises(relabel.DataError, match="exclude_flagged"):
        relabel.align(tree["posterior"].to_dataset(), spec, exclude_flagged=True)
