"""Where two features meet: cases that were wrong once."""

import json

import numpy as np
import pytest
import xarray as xr

import relabel
from relabel import DataError, Spec, SpecError
from relabel.simulate import network, recovery

SAMPLE = ("chain", "draw")


def posterior(data) -> xr.Dataset:
    return data["posterior"].to_dataset()


def planted(tmp_seed=0, **options):
    return network((2, 4, 4, 1), noise=0.3, chains=4, draws=25, rng=tmp_seed, **options)


@pytest.mark.parametrize("seed", range(3))
def test_alignments_put_together_are_searched_anew(seed):
    """Each part sits in a reference mode of its own."""
    sim = planted(seed)
    parts = [relabel.align(sim.data.isel(chain=[c]), sim.spec) for c in range(4)]
    joined = joined_along_chains(parts, parts)
    fresh = relabel.align(sim.data, sim.spec)["relabel"]["loss"].sum()
    again = relabel.align(joined, sim.spec)["relabel"]["loss"].sum()
    assert float(again) <= float(fresh) + 0.001 * abs(float(fresh))
    with pytest.raises(DataError, match="the values of 75 of 100 draws are not those"):
        relabel.align(joined_along_chains(parts, parts[:1] * 4), sim.spec)


def joined_along_chains(parts, records):
    """Put the posteriors of some alignments beside the records of others."""
    both = {"posterior": parts, "relabel": records}
    return xr.DataTree.from_dict(
        {
            group: xr.concat(
                [tree[group].to_dataset() for tree in trees],
                "chain",
                data_vars="all",
                combine_attrs="override",
            )
            for group, trees in both.items()
        }
    )


def test_sets_on_another_scale_are_matched_too():
    """The rounding of one set says nothing about another that does not interact with it."""
    sim = network((3, 4, 4, 4, 1), "x^3", noise=0.02, chains=2, draws=20)
    aligned = relabel.align(sim.data, sim.spec, criterion=relabel.criteria.Activations())
    shares = recovery(aligned["relabel"], sim.planted)
    assert min(shares.values()) > 0.95  # cubes of cubes have heavy tails: a draw may be lost


def test_excluded_draws_stay_as_they_are_with_affine_flips():
    sim = network((2, 3, 1), "sigmoid", chains=2, draws=10)
    draws = posterior(sim.data).copy(deep=True)
    draws["W2"][1, 3, 0, 0] = np.inf
    aligned = relabel.align(draws, sim.spec, nonfinite="skip")
    for name in ("W1", "b1", "W2", "b2"):
        assert np.array_equal(aligned[name][1, 3], draws[name][1, 3])
        assert np.array_equal(relabel.undo(aligned)[name][1, 3], draws[name][1, 3])


def test_undo_touches_what_align_touched():
    """Two groups share a variable's name, but only one of them has the units."""
    rng = np.random.default_rng(0)
    mu = np.array([0.0, 5, 9]) + rng.normal(size=(2, 10, 3))
    groups = {
        "posterior": xr.Dataset({"mu": ((*SAMPLE, "component"), rng.permuted(mu, axis=-1))}),
        "posterior_predictive": xr.Dataset({"mu": ((*SAMPLE, "obs"), mu)}),
        "unconstrained_posterior": xr.Dataset({"mu": ((*SAMPLE, "free"), mu[..., :2])}),
    }
    tree = xr.DataTree.from_dict(groups)
    aligned = relabel.align(tree, {"component": "permutation"})
    back = relabel.undo(aligned)
    for group, dataset in groups.items():
        assert back[group].to_dataset().identical(dataset)
    assert aligned["posterior_predictive"].to_dataset().identical(groups["posterior_predictive"])


def test_lp_of_other_draws_is_not_used():
    sim = planted()
    lp = xr.Dataset({"lp": (SAMPLE, np.random.default_rng(0).normal(size=(4, 50)))})
    tree = xr.DataTree.from_dict({"posterior": posterior(sim.data), "sample_stats": lp})
    with pytest.raises(DataError, match="lp of the same draws"):
        relabel.align(tree, sim.spec, criterion=relabel.criteria.ToReference("map"))
    assert recovery(relabel.align(tree, sim.spec)["relabel"], sim.planted)["draws"] > 0.9


def test_records_of_other_draws_are_refused():
    sim = planted()
    draws = posterior(sim.data).assign_coords(chain=range(4), draw=range(25))
    aligned = relabel.align(xr.DataTree.from_dict({"posterior": draws}), sim.spec)
    record = aligned["relabel"].to_dataset()
    other = posterior(aligned).isel(draw=[0])
    with pytest.raises(DataError, match="of other draws"):
        relabel.undo(xr.DataTree.from_dict({"posterior": other, "relabel": record}))
    turned = posterior(aligned).isel(chain=[3, 2, 1, 0])  # coordinates tell the order
    back = relabel.undo(xr.DataTree.from_dict({"posterior": turned, "relabel": record}))
    xr.testing.assert_identical(posterior(back), draws.isel(chain=[3, 2, 1, 0]))
    bare = turned.drop_vars(["chain", "draw"])
    with pytest.raises(DataError, match="are not those that the alignment wrote"):
        relabel.undo(xr.DataTree.from_dict({"posterior": bare, "relabel": record}))
    applied = relabel.apply(draws.isel(chain=[3, 2, 1, 0]), aligned)
    xr.testing.assert_equal(applied[list(draws.data_vars)], turned)


def test_recurrent_sigmoid_units_are_refused():
    rng = np.random.default_rng(0)
    shapes = {"W": (2, 3), "U": (3, 3), "b": (3,), "V": (3, 1), "c": (1,)}
    draws = xr.Dataset(
        {
            k: ((*SAMPLE, *(f"{k}{i}" for i in range(len(s)))), rng.normal(size=(1, 4, *s)))
            for k, s in shapes.items()
        }
    )
    axes = {"W": "x -> h", "U": "h -> h", "b": "-> h", "V": "h -> y", "c": "-> y"}
    with pytest.raises(SpecError, match="on both sides"):
        Spec({"h": "sigmoid"}, axes).bind(draws)
    Spec({"h": "tanh"}, axes).bind(draws)


def test_variables_of_the_user_are_not_ours():
    rng = np.random.default_rng(0)
    draws = xr.Dataset(
        {
            "mu": ((*SAMPLE, "component"), rng.normal(size=(2, 5, 3))),
            "relabel_mine": (SAMPLE, np.ones((2, 5))),
        }
    )
    aligned = relabel.align(draws, {"component": "permutation"})
    assert relabel.undo(aligned).identical(draws)
    with pytest.raises(DataError, match="relabel_loss"):
        relabel.align(draws.rename(relabel_mine="relabel_loss"), {"component": "permutation"})
    with pytest.raises(SpecError, match="loss"):
        Spec({"loss": "permutation"})


def test_dtypes_stay_under_affine_flips():
    sim = network((2, 3, 1), "sigmoid", chains=2, draws=10)
    draws = posterior(sim.data)
    draws["b2"] = draws["b2"].astype("float32")
    aligned = relabel.align(draws, sim.spec)
    assert aligned["b2"].dtype == np.float32
    assert (aligned["relabel_h_factor"] < 0).any()


def test_points_are_read_by_the_names_of_dimensions():
    sim = network((3, 3, 1), chains=2, draws=10, noise=0.05)
    draws = posterior(sim.data)
    point = draws.isel(chain=[1], draw=[4])
    turned = point.assign(W1=point["W1"].transpose("W1_dim_1", ..., "W1_dim_0"))
    one = relabel.align(draws, sim.spec, criterion=relabel.criteria.ToReference(point))
    two = relabel.align(draws, sim.spec, criterion=relabel.criteria.ToReference(turned))
    assert np.array_equal(one["W1"], two["W1"])
    assert np.array_equal(one["W1"][1, 4], draws["W1"][1, 4])


def test_warm_ups_without_a_companion_follow():
    sim = network((2, 4, 1), noise=0.05, chains=2, draws=20)
    draws = posterior(sim.data)
    draws["extra"] = draws["b1"] * 2
    warm = posterior(sim.data).isel(draw=slice(0, 5))
    spec = Spec(sim.spec.units, {**sim.spec.axes, "extra": "h"})
    tree = xr.DataTree.from_dict({"posterior": draws, "warmup_posterior": warm})
    aligned = relabel.align(tree, spec)
    assert float(aligned["warmup_posterior"]["W1"].std(SAMPLE).max()) < 0.2
    joined = np.concatenate([aligned[g]["W1"].values for g in tree.children], axis=1)
    assert joined.std(axis=(0, 1)).max() < 0.2
    raw = xr.DataTree.from_dict({"posterior": draws, "warmup_posterior": warm})
    carried = relabel.apply(raw, aligned)
    assert np.array_equal(carried["warmup_posterior"]["W1"], aligned["warmup_posterior"]["W1"])


@pytest.mark.parametrize("line", [("h -> (y z)", "-> (y z)"), ("h -> _ _", "-> _ _")])
def test_biases_of_several_axes_shift(line):
    rng = np.random.default_rng(0)
    fused = "(" in line[0]
    out = (6,) if fused else (2, 3)
    shapes = {"W": (2, 4), "b": (4,), "V": (4, *out), "c": out}
    draws = xr.Dataset(
        {
            k: ((*SAMPLE, *(f"{k}{i}" for i in range(len(s)))), rng.normal(size=(2, 9, *s)))
            for k, s in shapes.items()
        }
    )
    axes = {"W": "x -> h", "b": "-> h", "V": line[0], "c": line[1]}
    spec = Spec({"h": "sigmoid"}, axes, sizes={"y": 2, "z": 3} if fused else {})
    aligned = relabel.align(draws, spec)

    def outputs(data):
        z = data["W"].values.swapaxes(2, 3) @ np.array([0.3, -1.0]) + data["b"].values
        v = data["V"].values.reshape(2, 9, 4, -1)
        return np.einsum("cdh,cdho->cdo", 1 / (1 + np.exp(-z)), v) + data["c"].values.reshape(
            2, 9, -1
        )

    assert (aligned["relabel_h_factor"] < 0).any()
    np.testing.assert_allclose(outputs(aligned), outputs(draws), rtol=1e-12, atol=1e-12)


def test_what_looks_wrong_is_told():
    """A scale that was flipped, allocations left behind, another activation, a second bias."""
    sim = network((2, 3, 1), "tanh", chains=2, draws=10)
    draws = posterior(sim.data).assign_attrs(activation="relu")
    rng = np.random.default_rng(0)
    draws["tau"] = ((*SAMPLE, "k"), rng.lognormal(size=(2, 10, 3)))
    draws["z"] = ((*SAMPLE, "obs"), rng.integers(0, 3, size=(2, 10, 7)))
    spec = Spec(sim.spec.units, {**sim.spec.axes, "tau": "-> h"})
    aligned = relabel.align(draws, spec)
    told = " ".join(json.loads(aligned.attrs["relabel"])["warnings"])
    assert "'tau' had one sign" in told
    assert "'z' holds integers" in told
    assert "attribute says relu" in told
    assert "both declared as biases of 'h'" in told
    quiet = relabel.align(sim.data, sim.spec)
    assert json.loads(quiet["relabel"].attrs["relabel"])["warnings"] == []


def test_other_inputs_are_another_search():
    """Two arrays of inputs are both "given": the record cannot tell them apart, so search again."""
    sim = network((3, 5, 5, 5, 1), noise=1.0, chains=2, draws=10, rng=11)
    options = {"n_perturbations": 0}
    rng = np.random.default_rng(0)
    far, near = 50 * rng.normal(size=(30, 3)), rng.normal(size=(30, 3))
    once = relabel.align(sim.data, sim.spec, inputs=far, **options)
    twice = relabel.align(once, sim.spec, inputs=near, **options)
    start = twice["relabel"]["start"]
    names = dict(zip(start.attrs["flag_values"], start.attrs["flag_meanings"].split(), strict=True))
    found = {names[value] for value in np.unique(start)}
    assert found - {"identity"}  # a record that is believed leaves it everywhere


def test_the_loss_of_one_draw_is_not_negative():
    sim = network((2, 3, 1), chains=1, draws=1)
    aligned = relabel.align(sim.data, sim.spec, criterion="mean")
    notes = json.loads(aligned["relabel"].attrs["relabel"])
    assert 0.0 <= notes["loss_before"] < 1e-12
    assert 0.0 <= notes["losses"][-1] < 1e-12
