"""Who takes part in an alignment is decided by the coordinates of the draws, and said."""

import dask.array
import numpy as np
import pytest
import xarray as xr
from files import run

import relabel
from relabel.errors import DataError, SpecError

C, D, K = 3, 20, 3
S = ("chain", "draw")
UNITS = {"component": "permutation"}
RNG = np.random.default_rng(5)
MU = RNG.permuted(np.array([-4.0, 0, 4]) + 0.1 * RNG.normal(size=(C, D, K)), axis=2)
LABELS = {"chain": [1, 2, 3], "draw": np.arange(100, 100 + D)}
POSTERIOR = xr.Dataset({"mu": ((*S, "component"), MU)}, LABELS)
REPLICATED = POSTERIOR.rename(mu="mu_rep")


def tree(posterior=POSTERIOR, **groups):
    return xr.DataTree.from_dict({"posterior": posterior, **groups})


def align(data, **options):
    return relabel.align(data, UNITS, **options)


def groups_of(aligned):
    return dict(relabel.Provenance.of(aligned).groups)


def check_same(one, other):
    for path, node in one.subtree_with_keys:
        xr.testing.assert_identical(node.to_dataset(), other[path].to_dataset())


STACKED = REPLICATED.stack(sample=S)
PARTS = {
    "thinned": REPLICATED.isel(draw=slice(None, None, 4)),
    "reversed": REPLICATED.isel(draw=slice(None, None, -1)),
    "chains in another order": REPLICATED.isel(chain=[2, 0, 1]),
    "one chain": REPLICATED.isel(chain=[1]),
    "one chain, without the dimension": REPLICATED.isel(chain=1),
    "one draw, without the dimension": REPLICATED.isel(draw=3),
    "repeated": REPLICATED.isel(draw=[4, 4, 2, 4]),
    "stacked": STACKED,
    "some of the stacked": STACKED.isel(sample=[50, 3, 3, 17]),
    "stacked without an index": STACKED.reset_index("sample"),
    "stacked, draws first": STACKED.transpose("sample", "component"),
}


def expected(part, aligned):
    moved = aligned["posterior"]["mu"]
    if "sample" in part.dims:
        sample = {dim: xr.DataArray(part[dim].values, dims="sample") for dim in S}
    else:
        sample = {dim: part[dim].values for dim in S}
    return moved.sel(sample).transpose(*part["mu_rep"].dims).values


@pytest.mark.parametrize("name", PARTS)
def test_groups_are_relabelled_by_the_labels_of_their_draws(name):
    data = tree(posterior_predictive=PARTS[name])
    aligned = align(data)
    stored = aligned["posterior_predictive"].to_dataset()
    np.testing.assert_array_equal(stored["mu_rep"], expected(PARTS[name], aligned))
    assert stored["mu_rep"].dims == PARTS[name]["mu_rep"].dims
    assert stored.coords.identical(PARTS[name].coords)
    assert groups_of(aligned)["posterior_predictive"] == "by coordinates"
    assert "posterior_predictive: by coordinates" in str(
        relabel.stats.alignment_report(data, aligned)
    )
    check_same(data, relabel.undo(aligned))


@pytest.mark.parametrize("name", ["thinned", "stacked"])
def test_inference_data(name):
    arviz = pytest.importorskip("arviz")
    if not arviz.__version__.startswith("0."):
        pytest.skip("arviz 1 has no InferenceData")
    data = arviz.InferenceData(posterior=POSTERIOR, predictions=PARTS[name], prior=POSTERIOR)
    aligned = align(data)
    found = expected(PARTS[name], aligned)
    np.testing.assert_array_equal(aligned.predictions["mu_rep"], found)
    assert aligned.prior.identical(POSTERIOR)
    assert relabel.undo(aligned).predictions.identical(PARTS[name])
    with pytest.raises(DataError, match="no group 'a/posterior'"):
        align(data, group="a/posterior")


def test_composed_alignments_of_matched_groups_are_undone():
    data = tree(posterior_predictive=PARTS["some of the stacked"], predictions=PARTS["reversed"])
    twice = align(align(data), criterion=relabel.criteria.Order("mu"))
    np.testing.assert_array_equal(
        twice["predictions"]["mu_rep"], expected(PARTS["reversed"], twice)
    )
    check_same(data, relabel.undo(twice))


LEFT = {
    "missing": (REPLICATED.assign_coords(draw=np.arange(101, 101 + D)), "no draw 120"),
    "no labels": (REPLICATED.drop_vars(S).isel(draw=slice(5)), "labels of draw"),
    "stacked without labels": (STACKED.drop_vars(["sample", *S]), "no labels of chain and draw"),
}


@pytest.mark.parametrize("name", LEFT)
def test_groups_without_a_match_are_left_and_named(name):
    part, reason = LEFT[name]
    data = tree(predictions=part)
    aligned = align(data)
    assert aligned["predictions"].to_dataset().identical(part)
    assert groups_of(aligned)["predictions"].startswith("left: ")
    assert reason in groups_of(aligned)["predictions"]
    (warning,) = relabel.Provenance.of(aligned).warnings
    assert "group 'predictions' was left" in warning
    assert reason in warning
    assert warning in str(relabel.stats.alignment_report(data, aligned))
    check_same(data, relabel.undo(aligned))


def test_groups_without_units_are_left_without_a_warning():
    part = xr.Dataset({"lp": (S, np.zeros((C, 4)))})
    aligned = align(tree(sample_stats=part))
    assert groups_of(aligned)["sample_stats"].startswith("left: ")
    assert relabel.Provenance.of(aligned).warnings == ()


def test_equal_labels_that_repeat_are_the_same_draws_and_others_are_left():
    twice = POSTERIOR.assign_coords(draw=np.r_[np.arange(10), np.arange(10)])
    same = twice.rename(mu="mu_rep")
    aligned = align(tree(twice, predictions=same, posterior_predictive=same.isel(draw=slice(5))))
    np.testing.assert_array_equal(aligned["predictions"]["mu_rep"], aligned["posterior"]["mu"])
    assert aligned["posterior_predictive"].to_dataset().identical(same.isel(draw=slice(5)))
    assert "more than once" in groups_of(aligned)["posterior_predictive"]


def test_arrays_for_labels_of_chains_are_none():
    odd = REPLICATED.drop_vars(S).assign_coords(chain=(("other", "place"), np.zeros((2, 2))))
    assert "predictions" in align(tree(predictions=odd)).children


def test_equal_sizes_without_labels_are_matched_by_position_and_this_is_said():
    aligned = align(tree(predictions=REPLICATED.drop_vars(S)))
    np.testing.assert_array_equal(aligned["predictions"]["mu_rep"], aligned["posterior"]["mu"])
    assert groups_of(aligned)["predictions"] == "by position"
    assert "by position" in relabel.Provenance.of(aligned).warnings[0]
    bare = align(tree(POSTERIOR.drop_vars(S), predictions=REPLICATED.drop_vars(S)))
    assert groups_of(bare)["predictions"] == "same draws"


def test_variables_of_matched_groups_can_be_declared():
    z = np.argsort(MU, axis=2)[:, ::5]
    part = xr.Dataset({"z": ((*S, "obs"), z)}, {**LABELS, "draw": LABELS["draw"][::5]})
    data = tree(posterior_predictive=part)
    for key in ("z", "posterior_predictive/z"):
        spec = relabel.Spec(UNITS, {"mu": "component"}, values={key: "component"})
        aligned = relabel.align(data, spec)
        assert (np.ptp(aligned["posterior_predictive"]["z"].values, axis=(0, 1)) == 0).all()
        check_same(data, relabel.undo(aligned))
        assert relabel.diagnose(aligned)[1].labels_trustworthy
    left = tree(posterior_predictive=part.assign_coords(draw=np.arange(4)))
    with pytest.raises(SpecError, match=r"posterior_predictive.*cannot be relabelled.*no draw 0"):
        relabel.align(left, spec)


@pytest.mark.parametrize(("criterion", "name"), [("ecr-iterative-1", "z"), ("stephens", "prob")])
def test_criteria_that_read_a_thinned_group_say_so(criterion, name):
    dims = (*S, "obs", "component") if name == "prob" else (*S, "obs")
    values = np.full((C, D, 5, K), 1 / K) if name == "prob" else RNG.integers(0, K, (C, D, 5))
    thin = xr.Dataset({name: (dims, values)}, LABELS).isel(draw=slice(None, None, 2))
    with pytest.raises(SpecError, match="'allocation' has other draws \\(thinned\\?\\): thin all"):
        align(tree(allocation=thin), criterion=criterion)


def test_verbs_without_a_group_name_the_models():
    nested = xr.DataTree.from_dict({"model": align(tree())})
    for verb in (relabel.summary, relabel.average, relabel.undo):
        with pytest.raises(DataError, match=r"there is 'model/relabel': take data\['model'\]"):
            verb(nested)
    with pytest.raises(DataError, match=r"take one, as in data\['model'\]"):
        relabel.diagnose(nested)


def test_labels_in_a_matched_group_move_and_cannot_be_compared():
    z = np.argsort(MU, axis=2)[:, ::5]
    part = xr.Dataset({"z": ((*S, "obs"), z)}, {**LABELS, "draw": LABELS["draw"][::5]})
    aligned = align(tree(allocation=part))
    assert (np.ptp(aligned["allocation"]["z"].values, axis=(0, 1)) == 0).all()
    with pytest.raises(SpecError, match="allocation/z"):
        align(tree(allocation=part), criterion="ecr-iterative-1")


def test_matched_groups_stay_lazy():
    lazy = PARTS["thinned"].chunk({"draw": 2})
    aligned = align(tree(posterior_predictive=lazy, predictions=STACKED.chunk({"sample": 7})))
    for group in ("posterior_predictive", "predictions"):
        stored = aligned[group]["mu_rep"]
        assert isinstance(stored.data, dask.array.Array)
    np.testing.assert_array_equal(
        aligned["posterior_predictive"]["mu_rep"], expected(PARTS["thinned"], aligned)
    )


def test_apply_follows_the_labels():
    aligned = align(tree())
    part = PARTS["reversed"].isel(draw=slice(7))
    carried = relabel.apply(part, aligned)
    np.testing.assert_array_equal(carried["mu_rep"], expected(part, aligned))
    assert groups_of(carried)["posterior"] == "by coordinates"
    assert relabel.undo(carried).identical(part)


# ---------------------------------------------------------------------- other models

OTHERS = ("posterior_b", "b_posterior", "model_b/posterior", "other_model", "prior", "x/prior")


@pytest.mark.parametrize("name", OTHERS)
def test_other_posteriors_are_left_and_said(name):
    data = tree(**{name: POSTERIOR})
    aligned = align(data)
    assert aligned[name].to_dataset().identical(POSTERIOR)
    assert groups_of(aligned)[name].startswith("left: ")
    warned = any(repr(name) in text for text in relabel.Provenance.of(aligned).warnings)
    assert warned != ("prior" in name)


def test_groups_beside_other_posteriors_are_left():
    data = tree(
        **{
            "posterior_b": POSTERIOR,
            "log_likelihood_b": REPLICATED,
            "log_likelihood": REPLICATED,
            "model_c/posterior": POSTERIOR,
            "model_c/predictions": REPLICATED,
        }
    )
    how = groups_of(align(data))
    assert {name for name, way in how.items() if way == "same draws"} == {
        "posterior",
        "log_likelihood",
    }


def models():
    return xr.DataTree.from_dict(
        {
            "a/posterior": POSTERIOR,
            "a/predictions": PARTS["thinned"],
            "b/posterior": POSTERIOR,
            "b/predictions": REPLICATED,
            "constant_data": xr.Dataset({"y": ("obs", [1.0, 2.0])}),
        }
    )


def test_one_of_several_models_is_aligned_by_its_group():
    data = models()
    aligned = align(data, group="a/posterior")
    alone = align(tree(predictions=PARTS["thinned"]))
    for group in ("posterior", "predictions", "relabel"):
        assert aligned[f"a/{group}"].to_dataset().identical(alone[group].to_dataset())
    for group in ("b/posterior", "b/predictions", "constant_data"):
        assert aligned[group].to_dataset().identical(data[group].to_dataset())
    assert "relabel" not in aligned["b"].children
    assert relabel.diagnose(aligned["a"])[1].labels_trustworthy
    check_same(data, relabel.undo(aligned, group="a/posterior"))
    check_same(aligned["a"], align(data["a"]))
    both = align(aligned, group="b/posterior")
    assert both["a"].identical(aligned["a"])
    with pytest.raises(DataError, match=r"'a/relabel': take data\['a'\]"):
        relabel.undo(aligned)


@pytest.mark.parametrize("group", ["c/posterior", "posterior_b", "a", 3, "/posterior"])
def test_groups_that_are_no_posterior_are_refused(group):
    with pytest.raises((SpecError, DataError), match="group"):
        align(models(), group=group)
    with pytest.raises(DataError, match="no group 'posterior'"):
        align(models())


# ---------------------------------------------------------------------- coordinates


def test_coordinates_over_draws_and_units_move_with_them():
    names = np.array(["low", "middle", "high"])[MU.argsort(2).argsort(2)]
    coords = {
        "height": ((*S, "component"), MU * 10),
        "name": ((*S, "component"), names),
        "component": ["a", "b", "c"],
        "size": ("component", [1, 2, 3]),
        "lp": (S, MU.sum(2)),
    }
    posterior = POSTERIOR.assign_coords(coords)
    part = posterior.rename(mu="mu_rep").stack(sample=S).isel(sample=[9, 44, 2])
    data = tree(posterior, predictions=part)
    aligned = align(data)
    moved = aligned["posterior"].to_dataset()
    np.testing.assert_array_equal(moved["height"], moved["mu"] * 10)
    assert (moved["name"] == moved["name"][0, 0]).all()
    for name in ("component", "size", "lp"):
        assert moved[name].variable.identical(posterior[name].variable)
    stored = aligned["predictions"].to_dataset()
    np.testing.assert_array_equal(stored["height"], stored["mu_rep"] * 10)
    assert "posterior/height" in relabel.Provenance.of(aligned).variables
    check_same(data, relabel.undo(aligned))


def test_coordinates_that_cannot_move_are_named():
    posterior = POSTERIOR.assign_coords(rank=(("draw", "component"), MU[0]))
    aligned = align(posterior)
    np.testing.assert_array_equal(aligned["rank"], MU[0])
    assert "coordinate posterior/rank" in relabel.Provenance.of(aligned).warnings[0]


# ---------------------------------------------------------------------- files and the command


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_files_of_matched_groups(tmp_path, suffix):
    flat = STACKED.isel(sample=[50, 3]).reset_index("sample")
    posterior = POSTERIOR.assign_coords(height=((*S, "component"), MU * 10))
    data = tree(posterior, posterior_predictive=PARTS["thinned"], predictions=flat)
    source, target = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    relabel.save(data, source)
    aligned = align(relabel.open_draws(source))
    relabel.save(aligned, target, source=source)
    again = relabel.open_draws(target)
    check_same(aligned, again)
    check_same(data, relabel.undo(again))


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_the_command_aligns_one_model_of_a_file_and_leaves_the_others(tmp_path, suffix):
    source, one, both, back = (str(tmp_path / f"{name}.{suffix}") for name in "abcd")
    relabel.save(models(), source)
    model = ["--units", "component=permutation", "--quiet"]
    assert run("align", source, "-o", one, "--group", "a/posterior", *model).returncode == 0
    check_same(align(models(), group="a/posterior"), relabel.open_draws(one))
    assert run("align", one, "-o", both, "--group", "b/posterior", *model).returncode == 0
    assert run("undo", both, "-o", back, "--group", "a/posterior", "--quiet").returncode == 0
    found = relabel.open_draws(back)
    assert "relabel" not in found["a"].children
    check_same(models()["a"], found["a"])
    check_same(relabel.open_draws(both)["b"], found["b"])
    assert (
        run("align", source, "-o", back, "--group", "c/posterior", "--force", *model).returncode
        == 2
    )
    assert run("undo", both, "-o", back, "--force").returncode == 2
