"""Simultaneous credible regions and summaries by slot."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from files import RECORDED, REPOSITORY

import relabel
from relabel import DataError, Spec, SpecError
from relabel.analysis.slot_tables import _hdi
from relabel.simulate import hmm, mixture, network

GOLDEN = RECORDED / "golden" / "factor_regions.npz"
SAMPLE = ("chain", "draw")
SHALLOW = relabel.mlp(1, "tanh")


def dataset(values, name="x"):
    """Draws of one variable with the axes (chain, draw, ...)."""
    core = [f"{name}_dim_{i}" for i in range(values.ndim - 2)]
    return xr.Dataset({name: ((*SAMPLE, *core), values)})


def smallest_box(values, prob):
    """By the definition: boxes of order statistics, from the middle out, until enough are in."""
    flat = values.reshape(values.shape[0] * values.shape[1], -1)
    m = len(flat)
    ordered = np.sort(flat, axis=0)
    for s in range(1, m + 1):
        low, high = ordered[m - s], ordered[s - 1]
        share = ((flat >= low) & (flat <= high)).all(axis=1).mean()
        if share >= np.floor(m * prob) / m:
            return low, high, share
    raise AssertionError


@pytest.mark.parametrize("prob", [0.5, 0.9])
def test_the_regions_are_those_of_another_program(prob):
    golden = np.load(GOLDEN)
    found = relabel.stats.regions(dataset(golden["rsp_exact_lambda"][None]), "x", ci_prob=prob)
    both = found["x"].values.reshape(-1, 2).T
    np.testing.assert_array_equal(both, golden[f"credreg_{prob}"])


def test_the_intervals_are_those_of_another_program():
    golden = np.load(GOLDEN)
    found = _hdi(golden["rsp_exact_lambda"].reshape(100, -1), 0.9)
    np.testing.assert_array_equal(np.stack(found), golden["hdi_0.9"])


@pytest.mark.parametrize("prob", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("ties", [False, True])
def test_a_region_is_the_smallest_box_of_order_statistics(prob, ties):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 40, 2, 3)) @ rng.normal(size=(3, 3))
    if ties:
        values = np.round(values)
        values[..., 1, 2] = 4.0
    found = relabel.stats.regions(dataset(values), "x", ci_prob=prob)
    low, high, share = smallest_box(values, prob)
    np.testing.assert_array_equal(found["x"].sel(ci_bound="lower").values.reshape(-1), low)
    np.testing.assert_array_equal(found["x"].sel(ci_bound="upper").values.reshape(-1), high)
    assert found.attrs["share"] == pytest.approx(share)


def test_variables_are_taken_together_and_blocks_do_not_matter(monkeypatch):
    rng = np.random.default_rng(1)
    draws = xr.merge([dataset(rng.normal(size=(2, 50, k)), n) for n, k in (("a", 3), ("b", 8))])
    whole = relabel.stats.regions(draws, ["a", "b"], ci_prob=0.8)
    monkeypatch.setattr("relabel.analysis.credible_regions._BLOCK", 150)
    assert whole.identical(relabel.stats.regions(draws, ["a", "b"], ci_prob=0.8))
    alone = relabel.stats.regions(draws, "a", ci_prob=0.8)
    assert (alone["a"].sel(ci_bound="upper") < whole["a"].sel(ci_bound="upper")).all()
    joined = np.concatenate([draws["a"].values, draws["b"].values], axis=2)
    low, _, share = smallest_box(joined, 0.8)
    np.testing.assert_array_equal(whole["a"].sel(ci_bound="lower"), low[:3])
    assert whole.attrs == {"ci_prob": 0.8, "share": share, "n_draws": 100, "left_out": 0}


def test_draws_that_are_not_finite_are_left_out_and_counted():
    values = np.random.default_rng(2).normal(size=(2, 30, 4))
    spoilt = values.copy()
    spoilt[0, :3, 1] = [np.nan, np.inf, -np.inf]
    found = relabel.stats.regions(dataset(spoilt), "x")
    kept = np.delete(values.reshape(60, 4), [0, 1, 2], axis=0)[None]
    expected = relabel.stats.regions(dataset(kept), "x")
    np.testing.assert_array_equal(found["x"], expected["x"])
    assert (found.attrs["n_draws"], found.attrs["left_out"]) == (57, 3)


@pytest.fixture(scope="module")
def aligned():
    simulated = mixture(3, separation=6, dim=2, draws=40, switching="chain")
    return relabel.align(simulated.data, simulated.spec)


def test_by_default_all_quantities_that_were_aligned(aligned):
    box = relabel.stats.regions(aligned)
    assert list(box) == ["mu", "sigma", "w"]
    assert box["mu"].dims == ("component", "dim", "ci_bound")
    assert list(relabel.stats.regions(aligned, group="allocation")) == [
        "prob"
    ]  # labels have no box
    flat = aligned["posterior"].to_dataset()
    assert relabel.stats.regions(flat, list(box)).identical(box)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"ci_prob": 1.0}, SpecError, "ci_prob must be a number between 0 and 1"),
        ({"ci_prob": True}, SpecError, "ci_prob must be a number between 0 and 1"),
        ({"ci_prob": 1e-4}, DataError, r"too few finite draws \(160 of 160\) for ci_prob=0.0001"),
        ({"var_names": "my"}, SpecError, "no variable 'my'.*mu"),
        ({"var_names": []}, SpecError, "var_names must name at least one"),
        ({"group": "posteriro"}, DataError, "no group 'posteriro'.*posterior"),
        ({"group": "constant_data", "var_names": "x"}, SpecError, "no dimension 'chain'"),
    ],
)
def test_what_has_no_region(aligned, arguments, error, message):
    with pytest.raises(error, match=message):
        relabel.stats.regions(aligned, **arguments)


def test_of_draws_that_were_not_aligned_variables_must_be_named():
    draws = dataset(np.zeros((1, 10, 2)))
    with pytest.raises(DataError, match="were not aligned"):
        relabel.stats.regions(draws)
    assert (relabel.stats.regions(draws, "x")["x"] == 0).all()
    with pytest.raises(DataError, match="not aligned"):
        relabel.summary(draws)


def test_entries_are_summarised_as_arviz_does(aligned):
    import arviz

    table = relabel.summary(aligned)
    posterior = aligned["posterior"].to_dataset()
    rows = {
        f"{name}[{k}, {d}]": (name, k, d)
        for name in ("mu", "sigma")
        for k in range(3)
        for d in range(2)
    } | {f"w[{k}]": ("w", k) for k in range(3)}
    assert sorted(table.index.get_level_values("entry")) == sorted(rows)
    rhat, ess = arviz.rhat(posterior), arviz.ess(posterior)
    box = relabel.stats.regions(aligned)
    for (units, slot, entry), row in table.iterrows():
        name, *place = rows[entry]
        assert (units, slot) == ("component", place[0])
        values = posterior[name].values[:, :, *place].reshape(-1)
        assert row["mean"] == pytest.approx(values.mean())
        assert row["sd"] == pytest.approx(values.std(ddof=1))
        found = (row["r_hat"], row["ess_bulk"], row["region_lb"], row["region_ub"])
        expected = (rhat[name].values[*place], ess[name].values[*place], *box[name].values[*place])
        assert found == pytest.approx(expected)
        interval = arviz.hdi(values, 0.9)
        assert (row["hdi_lb"], row["hdi_ub"]) == pytest.approx(tuple(np.asarray(interval)))


def test_entries_of_some_coordinates(aligned):
    whole = relabel.stats.regions(aligned, ["mu", "w"])
    part = relabel.stats.regions(aligned, ["mu", "w"], coords={"component": [2, 0], "dim": 1})
    assert dict(part.sizes) == {"component": 2, "dim": 1, "ci_bound": 2}
    at = aligned["posterior"].to_dataset()[["mu", "w"]].isel(component=[2, 0], dim=[1])
    assert part.identical(relabel.stats.regions(at, ["mu", "w"]))
    assert (part["w"] != whole["w"].isel(component=[2, 0])).any()  # the box is that of the part
    one_chain = relabel.stats.regions(aligned, "mu", coords={"chain": 1})
    alone = aligned["posterior"].to_dataset().isel(chain=[1])
    assert one_chain.attrs["n_draws"] == 40
    assert one_chain.identical(relabel.stats.regions(alone, "mu"))
    with pytest.raises(SpecError, match=r"no dimension 'components' \(did you mean 'component'"):
        relabel.stats.regions(aligned, "mu", coords={"components": 1})


def test_summary_of_some_coordinates(aligned):
    whole = relabel.summary(aligned)
    part = relabel.summary(aligned, coords={"component": [2, 0], "dim": 1})
    entries = part.index.get_level_values("entry").tolist()
    assert entries == [f"{n}[{k}, 1]" if n != "w" else f"w[{k}]" for k in (0, 2)
                       for n in ("mu", "sigma", "w")]  # fmt: skip
    of_each = ["mean", "sd", "hdi_lb", "hdi_ub", "ess_bulk", "r_hat"]
    pd.testing.assert_frame_equal(part[of_each], whole.loc[part.index, of_each])
    box = relabel.stats.regions(aligned, coords={"component": [0, 2], "dim": 1})
    assert part.attrs["share"] == box.attrs["share"]
    assert part.loc[("component", 2, "mu[2, 1]"), "region_ub"] == box["mu"].values[1, 0, 1]
    chains = relabel.summary(aligned, var_names="w", coords={"chain": [0, 2]})
    values = aligned["posterior"]["w"].values[[0, 2]]
    np.testing.assert_allclose(chains["mean"], values.mean((0, 1)))


def test_summary_of_coordinates_that_are_labelled(aligned):
    posterior = aligned["posterior"].to_dataset().assign_coords(dim=["a", "b"])
    named = aligned.copy()
    named["posterior"].dataset = posterior
    part = relabel.summary(named, var_names="mu", coords={"dim": "b", "component": slice(1, 2)})
    assert part.index.get_level_values("entry").tolist() == ["mu[1, b]", "mu[2, b]"]
    with pytest.raises(SpecError, match="'dim' has no label 1; its labels are a, b"):
        relabel.summary(named, coords={"dim": 1})


def test_coords_that_contradict_each_other_select_nothing():
    aligned = relabel.align(relabel.open_draws(REPOSITORY / "data" / "tanh_shallow.nc"), SHALLOW)
    with pytest.raises(SpecError, match=r"coords=\{'h': \[0\], 'unit': \[1\]\} selects no entry"):
        relabel.summary(aligned, coords={"h": [0], "unit": [1]})
    part = relabel.summary(aligned, coords={"h": [0], "unit": [0]})
    assert set(part.index.get_level_values("slot")) == {0}


def test_coords_are_of_the_group_whichever_variables_are_asked_for(aligned):
    coords = {"dim": 1}  # mu has it, w has not
    both = relabel.summary(aligned, var_names=["mu", "w"], coords=coords)
    alone = relabel.summary(aligned, var_names="w", coords=coords)
    entries = [e for e in both.index.get_level_values("entry") if e.startswith("w")]
    assert alone.index.get_level_values("entry").tolist() == entries


def test_summary_of_slots_whose_units_are_not_dimensions():
    simulated = network((2, 3, 2, 1), "tanh", chains=2, draws=10)
    aligned = relabel.align(simulated.data, simulated.spec)
    part = relabel.summary(aligned, coords={"h1": [2, 0]})
    slots = part.loc["h1"].index.get_level_values("slot")
    assert sorted(set(slots)) == [0, 2]
    between = part.loc["h2"].index.get_level_values("entry")
    assert [e for e in between if e.startswith("W2")] == [
        f"W2[{i}, {j}]" for j in (0, 1) for i in (0, 2)
    ]
    assert [e for e in between if e.startswith("b2")] == ["b2[0]", "b2[1]"]
    with pytest.raises(SpecError, match="'h1' has no label 3; its labels are 0, 1, 2"):
        relabel.summary(aligned, coords={"h1": 3})


def test_summary_of_parts_of_a_flat_vector():
    simulated = network((2, 3, 1), "tanh", chains=2, draws=10)
    posterior = simulated.data["posterior"].to_dataset()
    flat = np.concatenate([posterior[n].values.reshape(2, 10, -1) for n in posterior], axis=2)
    draws = xr.Dataset({"theta": ((*SAMPLE, "i"), flat)})
    lines = " + ".join(f"{line}" for line in ("x -> h", "-> h", "h -> y", "-> y"))
    spec = Spec({"h": "tanh"}, {"theta": f"({lines})"}, sizes={"x": 2, "y": 1})
    aligned = relabel.align(draws, spec)
    whole = relabel.summary(aligned)
    part = relabel.summary(aligned, coords={"h": 1})
    assert part.index.get_level_values("entry").tolist() == [f"theta[{i}]" for i in (1, 4, 7, 10)]
    pd.testing.assert_series_equal(part["mean"], whole.loc[part.index, "mean"])


def test_summary_of_another_group(aligned):
    table = relabel.summary(aligned, group="allocation", coords={"obs": [0, 3]})
    assert table.index.get_level_values("entry").tolist() == [
        f"prob[{i}, {k}]" for k in range(3) for i in (0, 3)
    ]
    values = aligned["allocation"]["prob"].values[:, :, [0, 3]]
    np.testing.assert_allclose(
        table["mean"].values.reshape(3, 2), values.mean((0, 1)).T, rtol=1e-12
    )
    with pytest.raises(SpecError, match="no variable of the group 'constant_data' carries"):
        relabel.summary(aligned, group="constant_data")


def test_progress_of_a_summary(aligned):
    seen = []
    relabel.summary(aligned, progress=lambda *step: seen.append(step))
    assert seen == [("summary", i, 3) for i in (1, 2, 3)]


def test_units_between_and_on_both_sides():
    simulated = network((2, 3, 2, 1), "tanh", chains=2, draws=10)
    table = relabel.summary(relabel.align(simulated.data, simulated.spec), var_names="W2")
    assert table.groupby("units").size().to_dict() == {"h1": 6, "h2": 6}
    assert table.loc[("h2", 1)].index.tolist() == ["W2[0, 1]", "W2[1, 1]", "W2[2, 1]"]
    chain = hmm(2, n=20, chains=2, draws=8)
    both = relabel.summary(relabel.align(chain.data, chain.spec), var_names="transition")
    assert both.loc[("state", 1)].index.tolist() == ["transition[1, 0]", "transition[1, 1]"]


def test_labels_that_are_sure_and_labels_of_noise(aligned):
    sure = relabel.stats.slots(aligned)
    assert (sure["confidence"] > 0.99).all()
    assert (sure["empty"] == 0).all()
    margin = aligned["relabel"]["component_margin"].mean(SAMPLE)
    np.testing.assert_allclose(sure["margin"], margin)
    noise = dataset(np.random.default_rng(0).normal(size=(4, 50, 3)))
    found = relabel.stats.slots(relabel.align(noise, Spec({"h": "permutation"}, {"x": "h"})))
    assert found["confidence"].max() < 0.9
    assert list(found) == ["confidence", "margin"]


@pytest.mark.parametrize("n_draws", [1, 19])
def test_of_few_draws_no_confidence_is_told(n_draws):
    draws = dataset(np.random.default_rng(0).normal(size=(1, n_draws, 3)))
    found = relabel.stats.slots(relabel.align(draws, Spec({"h": "permutation"}, {"x": "h"})))
    assert found["confidence"].isna().all()


def test_what_diagnose_stored_is_used(aligned):
    stored = aligned.copy()
    label = aligned["relabel"]["component_margin"] * 0 + [0.25, 0.5, 0.75]
    stored["relabel"].dataset = (
        aligned["relabel"].to_dataset().assign(component_label_probability=label)
    )
    assert relabel.stats.slots(stored, "component")["confidence"].tolist() == [0.25, 0.5, 0.75]


def test_empty_slots_are_those_that_no_label_names():
    mu = np.array([0.0, 10.0, 20.0]) + np.random.default_rng(0).normal(size=(1, 4, 3))
    z = np.array([[[0, 1, 2, 0], [0, 0, 0, 1], [2, 2, 2, 2], [1, 1, 0, 0]]])
    draws = xr.Dataset({"mu": ((*SAMPLE, "k"), mu), "z": ((*SAMPLE, "obs"), z)})
    spec = Spec({"k": "permutation"}, {"mu": "k"}, values={"z": "k"})
    aligned = relabel.align(draws, spec, criterion=relabel.criteria.Order(var_names="mu"))
    assert relabel.stats.slots(aligned)["empty"].tolist() == [0.25, 0.25, 0.5]


def test_unknown_units_and_variables(aligned):
    with pytest.raises(SpecError, match=r"no units 'components'.*component"):
        relabel.stats.slots(aligned, "components")
    with pytest.raises(SpecError, match="carries the units component"):
        relabel.summary(aligned, var_names="z")


@pytest.mark.parametrize("data", ["with empty slots", "with a flagged chain"])
def test_slots_and_diagnose_say_the_same(data):
    if data == "with empty slots":
        simulated = mixture(3, separation=6, n=12, draws=60)
        groups, spec = simulated.data.copy(), simulated.spec
        z = groups["allocation"]["z"].values.copy()
        z[:, ::3][z[:, ::3] == 1] = 0  # a slot is empty in every third draw
        groups["allocation"]["z"] = groups["allocation"]["z"].copy(data=z)
    else:
        rng = np.random.default_rng(0)
        x = np.array([0.0, 3.0, 6.0]) + rng.normal(size=(3, 50, 3))
        x[2] = 2 * rng.normal(size=(50, 3))
        lp = np.zeros((3, 50, 1)) + rng.normal(size=(3, 50, 1))
        lp[2] -= 100
        posterior, stats = dataset(x), xr.Dataset({"lp": (SAMPLE, lp[..., 0])})
        groups = xr.DataTree.from_dict({"posterior": posterior, "sample_stats": stats})
        spec = Spec({"h": "permutation"}, {"x": "h"})
    aligned = relabel.align(groups, spec)
    stored, diagnosis = relabel.diagnose(aligned)
    (units,) = spec.units
    assert bool(diagnosis.numbers["chains_flagged"]) == (data == "with a flagged chain")
    expected = diagnosis.numbers["confidence"][units]
    assert min(expected) < 0.99
    for found in (relabel.stats.slots(aligned), relabel.stats.slots(stored)):
        assert found["confidence"].tolist() == expected
    pd.testing.assert_frame_equal(relabel.stats.slots(aligned), relabel.stats.slots(stored))
