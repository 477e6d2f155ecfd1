"""InferenceData, DataTree and Dataset: the same type comes out, and nothing else changes."""

import warnings

import numpy as np
import pytest
import xarray as xr
from files import SPEC, small_tree

import relabel
from relabel.data.containers import is_inference_data, pack, unpack
from relabel.data.participants import sharing

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    import arviz

EARLY = arviz.__version__.startswith("0.")
early = pytest.mark.skipif(not EARLY, reason="arviz 1 has no InferenceData")


def assert_only_relabelled(before, after):
    """Dims, coordinates, attributes, encodings and dtypes stay; `before` is not touched."""
    before = before if isinstance(before, dict) else unpack(before)
    after = unpack(after)
    assert set(after) - set(before) <= {"relabel", "warmup_relabel"}
    for group, old in before.items():
        new = after[group]
        assert list(old.variables) == list(new.variables)
        assert list(old.dims) == list(new.dims)
        xr.testing.assert_identical(old.coords.to_dataset(), new.coords.to_dataset())
        xr.testing.assert_identical(xr.Dataset(attrs=old.attrs), xr.Dataset(attrs=new.attrs))
        for name, variable in old.variables.items():
            assert new[name].dims == variable.dims
            assert new[name].dtype == variable.dtype
            assert new[name].attrs == variable.attrs
            assert new[name].encoding == variable.encoding
            if name not in SPEC.axes:
                assert new[name].values.tobytes() == variable.values.tobytes()
            else:  # the same numbers, up to order and sign
                np.testing.assert_array_equal(
                    np.sort(abs(variable.values), axis=None),
                    np.sort(abs(new[name].values), axis=None),
                )


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("warmup", [False, True])
def test_datatree(warmup, dtype):
    tree = small_tree(warmup=warmup, dtype=dtype)
    tree["posterior"]["W1"].encoding = {"zlib": True, "chunksizes": (1, 5, 2, 3)}
    original = tree.copy(deep=True)
    aligned = relabel.align(tree, SPEC)
    assert isinstance(aligned, xr.DataTree)
    xr.testing.assert_identical(tree, original)
    assert_only_relabelled(tree, aligned)
    assert aligned.attrs == tree.attrs
    assert ("warmup_relabel" in aligned) == warmup
    assert aligned["posterior"]["W1"].dtype == dtype
    assert not aligned["posterior"]["W1"].equals(tree["posterior"]["W1"])
    if warmup:
        assert not aligned["warmup_posterior"]["W1"].equals(tree["warmup_posterior"]["W1"])
    xr.testing.assert_identical(relabel.undo(aligned), tree)


def test_nested_groups_and_inherited_coordinates():
    tree = small_tree()
    tree["posterior/part"] = xr.DataTree(xr.Dataset({"z": ("draw", np.arange(20))}))
    tree["other/deep/er"] = xr.DataTree(xr.Dataset({"q": 3}))
    aligned = relabel.align(tree, SPEC)
    assert set(aligned.groups) == {*tree.groups, "/relabel"}
    assert_only_relabelled(tree, aligned)
    xr.testing.assert_identical(relabel.undo(aligned), tree)


def test_coordinates_of_the_root():
    tree = small_tree()
    posterior = tree["posterior"].to_dataset().drop_vars(["chain", "draw", "half"])
    root = xr.Dataset(coords={"chain": [1, 2], "draw": 10 * np.arange(20)})
    tree = xr.DataTree.from_dict({"/": root, "posterior": posterior})
    aligned = relabel.align(tree, SPEC)
    assert list(aligned["relabel"]["draw"].values) == list(root["draw"].values)
    xr.testing.assert_identical(relabel.undo(aligned), tree)


def test_a_branch_of_a_larger_tree():
    tree = xr.DataTree.from_dict({"one": xr.Dataset(), "two": xr.Dataset()})
    for name in tree.children:
        for group, node in small_tree().children.items():
            tree[f"{name}/{group}"] = xr.DataTree(node.to_dataset())
    aligned = relabel.align(tree["two"], SPEC)
    assert set(aligned.children) == {"posterior", "sample_stats", "constant_data", "relabel"}
    xr.testing.assert_equal(aligned, relabel.align(small_tree(), SPEC))


@early
@pytest.mark.parametrize("warmup", [False, True])
def test_inference_data(warmup):
    tree = small_tree(warmup=warmup)
    data = arviz.InferenceData.from_datatree(tree)
    assert is_inference_data(data)
    data.attrs["made"] = "by hand"
    before = {group: dataset.copy(deep=True) for group, dataset in unpack(data).items()}
    aligned = relabel.align(data, SPEC)
    assert type(aligned) is type(data)
    assert aligned.attrs == data.attrs
    assert ("warmup_relabel" in unpack(aligned)) == warmup
    assert_only_relabelled(before, aligned)
    expected = relabel.align(tree, SPEC)
    for group, dataset in unpack(aligned).items():
        xr.testing.assert_equal(dataset, expected[group].to_dataset())
    original = relabel.undo(aligned)
    assert type(original) is type(data)
    assert set(unpack(original)) == set(before)
    for group, dataset in before.items():
        xr.testing.assert_identical(unpack(original)[group], dataset)
        xr.testing.assert_identical(unpack(data)[group], dataset)


@early
def test_inference_data_can_be_summarised_and_saved(tmp_path):
    data = arviz.InferenceData.from_datatree(small_tree())
    aligned = relabel.align(data, SPEC)
    assert float(arviz.rhat(aligned)["W1"].max()) < float(arviz.rhat(data)["W1"].max())
    aligned.to_netcdf(tmp_path / "out.nc")
    again = relabel.open_draws(tmp_path / "out.nc")
    xr.testing.assert_equal(again["relabel"]["h_index"], aligned["relabel"]["h_index"])
    xr.testing.assert_equal(relabel.undo(again)["posterior"]["W1"], data["posterior"]["W1"])


def with_slashes():
    """Draws as NumPyro names them for a Flax module; their names, and their spec."""
    names = {"W1": "nn/Dense_0.kernel", "b1": "nn/Dense_0.bias", "W2": "nn/Dense_1.kernel"}
    names["b2"] = "nn/Dense_1.bias"
    spec = relabel.Spec(SPEC.units, {names[key]: line for key, line in SPEC.axes.items()})
    return small_tree()["posterior"].to_dataset().rename(names), names, spec


def assert_slashes_work(data, relabelled, names):
    expected = unpack(relabel.align(small_tree(), SPEC))["posterior"]
    found = unpack(relabelled)["posterior"]
    for old, new in names.items():
        np.testing.assert_array_equal(found[new].values, expected[old].values)
    back = unpack(relabel.undo(relabelled))["posterior"]
    xr.testing.assert_identical(back, unpack(data)["posterior"])


def test_slashes_in_names_of_a_dataset(tmp_path):
    dataset, names, spec = with_slashes()
    point = small_tree()["sample_stats"]["lp"]
    best = relabel.criteria.ToReference(
        reference=dict(zip(point.dims, point.to_series().idxmax(), strict=True))
    )
    assert_slashes_work(dataset, relabel.align(dataset, spec, criterion=best), names | {})
    aligned = relabel.align(dataset, spec)
    small_tree().to_netcdf(tmp_path / "in.nc", engine="h5netcdf")
    for target in ("out.nc", "out.zarr"):
        with pytest.raises(relabel.FileError, match=r"'nn/Dense_.*cannot hold names with '/'"):
            relabel.save(aligned, tmp_path / target, source=tmp_path / "in.nc", changed=[])
    assert [p.name for p in tmp_path.iterdir()] == ["in.nc"]


@early
def test_slashes_in_names_of_inference_data(tmp_path):
    dataset, names, spec = with_slashes()
    stats = small_tree()["sample_stats"].to_dataset()
    data = arviz.InferenceData(posterior=dataset, sample_stats=stats)
    aligned = relabel.align(data, spec)
    assert type(aligned) is type(data)
    assert_slashes_work(data, aligned, names)
    small_tree().to_netcdf(tmp_path / "in.nc", engine="h5netcdf")
    with pytest.raises(relabel.FileError, match="cannot hold names with '/'"):
        relabel.save(aligned, tmp_path / "out.nc", source=tmp_path / "in.nc", changed=[])


# ---------------------------------------------------------------------- Dataset


def test_dataset():
    dataset = small_tree()["posterior"].to_dataset()
    aligned = relabel.align(dataset, SPEC)
    assert type(aligned) is xr.Dataset
    own = [name for name in aligned.variables if str(name).startswith("relabel_")]
    assert set(own) == {
        "relabel_h_index",
        "relabel_h_factor",
        "relabel_h_margin",
        "relabel_h_rival",
        "relabel_h_separation",
        "relabel_loss",
        "relabel_gap",
        "relabel_start",
        "relabel_checksum_before",
        "relabel_checksum_after",
    }
    assert set(unpack(aligned)) == {"posterior", "relabel"}
    assert_only_relabelled(dataset, aligned)
    xr.testing.assert_identical(relabel.undo(aligned), dataset)
    again = relabel.align(aligned, SPEC)
    assert set(again.variables) == set(aligned.variables)
    xr.testing.assert_identical(relabel.undo(again), dataset)


def test_own_variables_of_a_dataset_that_was_never_aligned():
    dataset = small_tree()["posterior"].to_dataset().assign(relabel_me=3.0)
    assert set(unpack(dataset)) == {"posterior"}
    with pytest.raises(relabel.DataError, match="not aligned"):
        relabel.undo(dataset)


def test_a_dimension_of_the_dataset_named_like_units():
    dataset = small_tree()["posterior"].to_dataset().assign(other=("h", np.zeros(7)))
    with pytest.raises(relabel.DataError, match="dimension 'h' of size 7"):
        relabel.align(dataset, SPEC)
    named = small_tree()["posterior"].to_dataset().assign(h=3.0)
    with pytest.raises(relabel.DataError, match="variable 'h'"):
        relabel.align(named, SPEC)
    tree = xr.DataTree.from_dict({"posterior": named})
    assert "h_index" in relabel.align(tree, SPEC)["relabel"]


def test_pack_leaves_the_original_alone():
    tree = small_tree()
    other = pack(tree, {"relabel": xr.Dataset({"x": 1}), "sample_stats": None})
    assert set(other.children) == {"posterior", "constant_data", "relabel"}
    xr.testing.assert_identical(tree, small_tree())


@pytest.mark.parametrize("data", [None, {"posterior": 3}, np.zeros(3), "draws.nc"])
def test_what_is_no_draws(data):
    with pytest.raises(
        relabel.DataError, match="must be an InferenceData, a DataTree or a Dataset"
    ):
        unpack(data)


# ---------------------------------------------------------------------- which groups share draws


def test_groups_that_share_the_draws():
    sample = ("chain", "draw")
    whole = xr.Dataset({"x": (sample, np.zeros((2, 5)))}, coords={"draw": np.arange(5)})
    other = whole.assign_coords(draw=np.arange(5) + 1)
    groups = {
        "posterior": whole,
        "sample_stats": whole.drop_vars("draw"),
        "log_prior": whole,
        "prior": whole,
        "prior_predictive": whole,
        "sample_stats_prior": whole,
        "prior/deep": whole,
        "shifted": other,
        "shorter": whole.isel(draw=slice(3)),
        "observed_data": xr.Dataset({"y": ("obs", np.zeros(5))}),
        "warmup_posterior": other,
        "warmup_sample_stats": other,
        "relabel": whole,
    }
    assert set(sharing(groups)) == {"posterior", "sample_stats", "log_prior"}
    assert set(sharing(groups, "warmup_")) == {"posterior", "sample_stats"}
    assert sharing({"prior": whole}) == {}


@pytest.mark.parametrize(
    ("draws", "reader"),
    [
        ([{"w": np.zeros(3)}] * 2, "from_torch reads a list of .*from_pytree"),
        ({"w": np.zeros((9, 3))}, "from_dict reads a dictionary of arrays"),
        (type("Net", (), {"state_dict": dict})(), r"from_torch\(\[model, ...\]\)"),
        ("draws.nc", "relabel.open_draws"),
    ],
)
def test_what_is_no_draws_is_told_its_reader(draws, reader):
    with pytest.raises(relabel.DataError, match=reader):
        relabel.align(draws, relabel.Spec({"h": "tanh"}, {"w": "x -> h"}))
