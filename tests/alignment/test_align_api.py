"""`align`, `undo` and `apply` as functions: options, provenance, other data."""

import json

import numpy as np
import pytest
import xarray as xr
from files import DATA, RECORDED, SPEC, small_tree

import relabel
from relabel import DataError, Spec, SpecError
from relabel.alignment.provenance import relabelled
from relabel.data.provenance import Provenance

DEEP = DATA / "tanh_deep.nc"


def same(one, two):
    xr.testing.assert_equal(one["posterior"].to_dataset(), two["posterior"].to_dataset())


# ---------------------------------------------------------------------- provenance


def test_provenance_is_complete():
    aligned = relabel.align(small_tree(), SPEC, rng=4, n_random=1)
    attrs = aligned["relabel"].attrs
    assert set(attrs) == {"relabel"}
    notes = json.loads(attrs["relabel"])
    assert notes == Provenance.of(aligned).as_dict()
    assert relabel.Spec.from_dict(notes["spec"]) == SPEC
    assert notes["criterion"] == {
        "name": "normal",
        "covariance": "diagonal",
        "scales": "slot",
        "shrinkage": None,
        "max_sweeps": 100,
        "var_names": None,
    }
    assert notes["chosen"] == "units are more than permuted"
    assert (
        notes["options"].items() >= {"inputs": "constant_data/X", "n_random": 1, "rng": 4}.items()
    )
    assert set(notes["versions"]) == {"numpy", "scipy", "xarray", "python"}
    assert notes["versions"]["numpy"] == np.__version__
    assert set(notes["variables"]) == {
        "posterior/W1",
        "posterior/b1",
        "posterior/W2",
        "posterior/b2",
    }
    assert relabelled(aligned) == notes["variables"]
    assert notes["losses"] == sorted(notes["losses"], reverse=True)
    assert notes["loss_before"] > notes["losses"][-1]
    assert notes["losses"][-1] == pytest.approx(float(aligned["relabel"]["loss"].sum()))
    assert notes["converged"] is True
    assert notes["warnings"] == []
    own = aligned["relabel"]
    moved = ((own["h_index"] != np.arange(3)) | (own["h_factor"] != 1)).any("h")
    assert notes["n_moved"] == int(moved.sum())
    assert notes["result"].startswith(
        f"{notes['n_moved']} of 40 draws were relabelled; the loss went"
    )


def test_what_the_group_holds():
    tree = small_tree()
    aligned = relabel.align(tree, SPEC)
    own = aligned["relabel"].to_dataset()
    assert {name: v.dims for name, v in own.data_vars.items()} == {
        "checksum_before": ("chain", "draw"),
        "checksum_after": ("chain", "draw"),
        "h_index": ("chain", "draw", "h"),
        "h_factor": ("chain", "draw", "h"),
        "h_margin": ("chain", "draw", "h"),
        "h_rival": ("h",),
        "h_separation": ("h", "h_variable"),
        "loss": ("chain", "draw"),
        "gap": ("chain", "draw"),
        "start": ("chain", "draw"),
    }
    for dim in ("chain", "draw"):
        xr.testing.assert_equal(own[dim].variable, tree["posterior"][dim].variable)
    index, factor = own["h_index"].values, own["h_factor"].values
    for name in ("W1", "b1"):
        before, after = tree["posterior"][name].values, aligned["posterior"][name].values
        shape = (*index.shape[:2], *(1,) * (before.ndim - 3), 3)
        gathered = np.take_along_axis(before, index.reshape(shape), -1) * factor.reshape(shape)
        np.testing.assert_array_equal(after, gathered)
    assert all(isinstance(v.attrs["long_name"], str) for v in own.data_vars.values())
    names = own["start"].attrs["flag_meanings"].split()
    assert len(names) == len(own["start"].attrs["flag_values"])
    assert (own["h_margin"] >= 0).all()


def test_warnings_say_what_the_user_has_to_know():
    relu = small_tree(activation="relu")
    spec = relabel.Spec({"h": "relu"}, SPEC.axes)
    (told,) = Provenance.of(relabel.align(relu, spec)).warnings
    assert "'h' (relu)" in told
    assert "preserves the likelihood, not the prior" in told
    deep = relabel.simulate.network((2, 3, 3, 3, 1), ("relu", "tanh", "relu"), chains=1, draws=3)
    (told,) = Provenance.of(relabel.align(deep.data, deep.spec)).warnings
    assert told.startswith("units 'h1' (relu), 'h3' (relu): scaled permutation preserves")
    hasty = Provenance.of(
        relabel.align(small_tree(), SPEC, criterion=relabel.criteria.Mean(max_sweeps=1))
    ).as_dict()
    assert hasty["converged"] or "not converged after 1 sweeps" in " ".join(hasty["warnings"])


@pytest.mark.parametrize("of", [np.int64, np.float64, int])
def test_numbers_of_any_kind_are_stored(of):
    to = {"chain": of(2), "draw": of(30)}
    aligned = relabel.align(
        small_tree(),
        SPEC,
        criterion=relabel.criteria.ToReference(to),
        rng=np.int64(3),
        n_random=np.int32(1),
    )
    notes = Provenance.of(aligned).as_dict()
    assert notes["criterion"]["reference"] == {"chain": 2, "draw": 30}
    assert notes["options"]["rng"] == 3


# ---------------------------------------------------------------------- criteria


CRITERIA = [
    relabel.criteria.Mean(scale="none"),
    relabel.criteria.Mean(var_names=("W1",)),
    relabel.criteria.Normal(shrinkage=0.5),
    relabel.criteria.Normal(covariance="full", shrinkage=1.5),
    relabel.criteria.Activations(),
    relabel.criteria.Activations(scale="pooled", n_inputs=5),
    relabel.criteria.Order(),
    relabel.criteria.Order(var_names={"h": "W1[1]"}, pin="b1"),
    relabel.criteria.ToReference(),
    relabel.criteria.ToReference("medoid"),
    relabel.criteria.ToReference({"chain": 1, "draw": 0}, scale="none"),
]


@pytest.mark.parametrize("criterion", CRITERIA, ids=repr)
def test_every_criterion(criterion):
    tree = small_tree()
    aligned = relabel.align(tree, SPEC, criterion=criterion)
    described = Provenance.of(aligned).criterion
    assert described == json.loads(json.dumps(criterion.describe()))
    xr.testing.assert_identical(relabel.undo(aligned), tree)
    again = relabel.align(aligned, SPEC, criterion=criterion)
    if not isinstance(criterion, relabel.criteria.ToReference) or (criterion.reference != "medoid"):
        same(again, aligned)


def test_a_reference_as_a_dataset():
    tree = small_tree()
    point = tree["posterior"].to_dataset().isel(chain=1, draw=5)
    aligned = relabel.align(tree, SPEC, criterion=relabel.criteria.ToReference(point))
    by_place = relabel.criteria.ToReference({"chain": 2, "draw": 50})
    same(aligned, relabel.align(tree, SPEC, criterion=by_place))
    lone = tree["posterior"].to_dataset().isel(chain=[1], draw=[5])
    same(aligned, relabel.align(tree, SPEC, criterion=relabel.criteria.ToReference(lone)))
    wrong = {
        "no variable 'b1'": point.drop_vars("b1"),
        "'W1' has the shape": point.isel(W1_dim_1=slice(2)),
        "'b2' is not finite": point.assign(b2=point["b2"] * np.nan),
        "one draw has": tree["posterior"].to_dataset().isel(chain=1),
    }
    for message, other in wrong.items():
        with pytest.raises(relabel.RelabelError, match=message):
            relabel.align(tree, SPEC, criterion=relabel.criteria.ToReference(other))
    with pytest.raises(SpecError, match="reference must be 'map', 'medoid'"):
        relabel.criteria.ToReference("mode")
    tree["sample_stats"].dataset = tree["sample_stats"].to_dataset().drop_vars("lp")
    with pytest.raises(DataError, match="'map' needs the log density"):
        relabel.align(tree, SPEC, criterion=relabel.criteria.ToReference("map"))


# ---------------------------------------------------------------------- inputs, seeds


def deep_draws():
    """The deep network of data/, of which every chain's first draws."""
    draws = relabel.open_draws(DEEP)
    return draws.map_over_datasets(lambda ds: ds.isel(draw=slice(60)) if "draw" in ds.dims else ds)


def test_inputs_of_every_kind():
    draws = deep_draws()
    spec = relabel.propose(draws).spec
    X = draws["constant_data"]["X"].values
    named = relabel.align(draws, spec, inputs="constant_data/X")
    for inputs, where in ((X, "given"), ("auto", "constant_data/X"), (None, None)):
        aligned = relabel.align(draws, spec, inputs=inputs)
        assert Provenance.of(aligned).options["inputs"] == where
        same(aligned, named)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("constant_data/Y", "no variable 'constant_data/Y'; candidates are constant_data/X"),
        ("X", "no variable 'X'"),
        ("posterior/b1", "has the shape"),
        (np.zeros((4, 5)), "the network reads"),
        (np.zeros((0, 2)), "the network reads"),
        (np.zeros(2), "has the shape"),
        (np.full((3, 2), np.nan), "not numeric and finite"),
        (np.array([["a", "b"]]), "not numeric and finite"),
    ],
)
def test_inputs_that_do_not_fit(inputs, message):
    with pytest.raises(SpecError, match=message):
        relabel.align(small_tree(), SPEC, inputs=inputs)


def test_activations_need_inputs():
    tree = small_tree()
    with pytest.raises(SpecError, match="criterion activations: name the inputs"):
        relabel.align(tree, SPEC, criterion=relabel.criteria.Activations(), inputs=None)
    del tree["constant_data"]
    with pytest.raises(SpecError, match="criterion activations: name the inputs"):
        relabel.align(tree, SPEC, criterion=relabel.criteria.Activations())


def test_equal_seeds_give_equal_results():
    draws = deep_draws()
    spec = relabel.propose(draws).spec
    options = {"inputs": None, "n_random": 2, "rng": 11}
    one, two = (relabel.align(draws, spec, **options) for _ in range(2))
    xr.testing.assert_identical(one, two)
    # whatever else is drawn from: NumPy's own state plays no part
    np.random.seed(1)  # noqa: NPY002
    xr.testing.assert_identical(relabel.align(draws, spec, **options), one)


def test_a_generator_gives_the_seed_that_is_recorded():
    one = relabel.align(small_tree(), SPEC, n_random=1, rng=np.random.default_rng(8))
    seed = Provenance.of(one).options["rng"]
    assert isinstance(seed, int)
    xr.testing.assert_identical(one, relabel.align(small_tree(), SPEC, n_random=1, rng=seed))
    again = relabel.align(small_tree(), SPEC, n_random=1, rng=np.random.default_rng(8))
    xr.testing.assert_identical(one, again)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rng": -1}, "rng must be a non-negative integer or a numpy.random.Generator"),
        ({"n_random": 1.5}, "n_random must be a non-negative integer, not 1.5"),
        ({"n_perturbations": -1}, "n_perturbations must be a non-negative integer, not -1"),
        ({"nonfinite": "drop"}, "nonfinite must be one of 'raise', 'skip', not 'drop'"),
        ({"criterion": 3}, "criterion must be a name or an object such as relabel.criteria.Normal"),
        ({"criterion": "maen"}, r"unknown criterion 'maen' \(did you mean 'mean'\?\)"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(SpecError, match=message):
        relabel.align(small_tree(), SPEC, **options)


def test_a_bar_is_shown_and_nothing_else_changes(capsys):
    one, two = (relabel.align(small_tree(), SPEC, progress=shown) for shown in (True, False))
    xr.testing.assert_identical(one, two)
    assert capsys.readouterr().out == ""


def test_progress_is_told():
    told = []
    relabel.align(small_tree(), SPEC, progress=lambda *step: told.append(step))
    assert told
    for stage, done, total in told:
        assert isinstance(stage, str)
        assert 0 <= done <= total


def test_a_mapping_is_the_dims_only_form():
    draws = xr.Dataset({"mu": (("chain", "draw", "k"), [[[0.0, 5.0], [5.1, 0.1], [-0.1, 4.9]]])})
    aligned = relabel.align(draws, {"k": "permutation"})
    np.testing.assert_array_equal(aligned["mu"][0], [[0.0, 5.0], [0.1, 5.1], [-0.1, 4.9]])


def test_dask_stays_lazy():
    tree = small_tree()
    lazy = tree.copy()
    lazy["posterior"].dataset = tree["posterior"].to_dataset().chunk(draw=7)
    aligned = relabel.align(lazy, SPEC)
    assert aligned["posterior"]["W1"].chunks is not None
    same(aligned, relabel.align(tree, SPEC))


# ---------------------------------------------------------------------- again, and back


def test_aligned_draws_compose():
    tree = small_tree()
    first = relabel.align(tree, SPEC)
    criterion = relabel.criteria.ToReference({"chain": 1, "draw": 20})
    second = relabel.align(first, SPEC, criterion=criterion)
    assert Provenance.of(second).earlier == Provenance.of(first)
    xr.testing.assert_identical(relabel.undo(second), tree)
    same(relabel.apply(tree, second), second)
    with pytest.raises(SpecError, match="aligned before under another spec"):
        relabel.align(first, relabel.Spec({"h": "permutation"}, SPEC.axes))
    with pytest.raises(DataError, match="not aligned"):
        relabel.undo(tree)


def test_apply_to_other_data_of_the_same_draws():
    tree = small_tree()
    aligned = relabel.align(tree, SPEC)
    alone = xr.DataTree.from_dict({"posterior": tree["posterior"].to_dataset()})
    done = relabel.apply(alone, aligned)
    same(done, aligned)
    xr.testing.assert_identical(relabel.undo(done), alone)
    dataset = relabel.apply(tree["posterior"].to_dataset(), aligned)
    assert isinstance(dataset, xr.Dataset)
    xr.testing.assert_equal(dataset["W1"], aligned["posterior"]["W1"])
    activation = xr.Dataset(
        {
            "a": (
                ("chain", "draw", "obs", "unit"),
                np.random.default_rng(0).normal(size=(2, 20, 4, 3)),
            )
        }
    )
    spec = relabel.Spec({"h": "tanh"}, {"a": "obs h"})
    seen = relabel.apply(activation, aligned, spec=spec)
    index, factor = (aligned["relabel"][f"h_{kind}"].values for kind in ("index", "factor"))
    expected = np.take_along_axis(activation["a"].values, index[:, :, None, :], -1)
    np.testing.assert_array_equal(seen["a"].values, expected * factor[:, :, None, :])


def test_apply_refuses_other_draws():
    tree = small_tree()
    aligned = relabel.align(tree, SPEC)
    with pytest.raises(DataError, match="aligned before"):
        relabel.apply(aligned, aligned)
    with pytest.raises(DataError, match="not aligned"):
        relabel.apply(tree, tree)
    with pytest.raises(DataError, match="of other draws"):
        relabel.apply(small_tree(draws=100), aligned)
    with pytest.raises(SpecError, match="W1"):
        relabel.apply(tree["sample_stats"].to_dataset(), aligned)


def test_apply_to_other_variables_of_units_that_dimensions_name():
    rng = np.random.default_rng(0)
    values = np.array([0.0, 5.0, 10.0]) + rng.normal(size=(2, 20, 3))
    values = rng.permuted(values, axis=2)
    dims = ("chain", "draw", "component")
    aligned = relabel.align(xr.Dataset({"mu": (dims, values)}), {"component": "permutation"})
    other = xr.Dataset({"other": (dims, values)})
    for spec in (None, {"component": "permutation"}, Spec({"component": "permutation"})):
        carried = relabel.apply(other, aligned, spec=spec)
        np.testing.assert_array_equal(carried["other"], aligned["mu"])
        assert relabel.undo(carried).identical(other)
    with pytest.raises(SpecError, match="unknown variable 'posterior/mu'"):
        relabel.apply(other.rename(component="k"), aligned)
    with pytest.raises(SpecError, match="not a list"):
        relabel.apply(other, aligned, spec=["component"])


def test_other_first_draws_can_only_lower_the_loss():
    tree = relabel.open_draws(RECORDED / "sigmoid_2-4-1.nc")
    spec = relabel.propose(tree, units={"h": "sigmoid"}).spec
    one, five = (relabel.align(tree, spec, n_first=n) for n in (1, 5))
    losses = [float(aligned["relabel"]["loss"].sum()) for aligned in (one, five)]
    assert losses[1] < 0.995 * losses[0]
    assert Provenance.of(five).options["n_first"] == 5
    assert "n_first" not in Provenance.of(one).options
    again = relabel.align(five, spec, n_first=5)
    np.testing.assert_array_equal(again["relabel"]["h_index"], five["relabel"]["h_index"])
    kept = relabel.align(tree, spec, n_first=3, criterion=relabel.criteria.ToReference("map"))
    assert len(Provenance.of(kept).losses) == 1
    with pytest.raises(SpecError, match="n_first must be a positive integer, not 0"):
        relabel.align(tree, spec, n_first=0)
