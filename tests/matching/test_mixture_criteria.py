"""Criteria for mixtures: the outputs of the R packages, enumeration of all labels, and the laws."""

import itertools
import json
import runpy
import sys

import numpy as np
import pytest
import xarray as xr
from files import RECORDED, REPOSITORY

import relabel
from relabel.alignment.job import Job
from relabel.cli.app import main as cli
from relabel.data.containers import sharing, unpack
from relabel.data.provenance import Provenance
from relabel.diagnostics.aligned import Aligned
from relabel.errors import DataError, SpecError
from relabel.matching.allocation_features import AllocationProblem, with_labels
from relabel.matching.criteria import CRITERIA
from relabel.matching.criteria.factor_criteria import OfLoadings
from relabel.matching.criteria.order import overlaps
from relabel.matching.criteria.pivotal import together
from relabel.matching.draws import Draws

GOLDEN = RECORDED / "golden"
SAMPLE = ("chain", "draw")
UNITS = {"component": "permutation"}
WITH_Z = relabel.Spec(UNITS, values={"allocation/z": "component"})
NORMAL = {"mean": "mu", "variance": "s2"}


def load(name):
    with np.load(GOLDEN / f"{name}.npz") as stored:
        return dict(stored)


def tree_of(theta, z, prob=None, x=None, chains=1):
    """Draws of a mixture; theta holds mu, s2 and w of every component, (draws, K, 3)."""
    variables = {
        name: ((*SAMPLE, "component"), split(theta[..., i], chains))
        for i, name in enumerate(("mu", "s2", "w"))
    }
    groups = {"posterior": xr.Dataset(variables)}
    allocation = {"z": ((*SAMPLE, "obs"), split(z, chains))}
    if prob is not None:
        allocation["prob"] = ((*SAMPLE, "obs", "component"), split(prob, chains))
    groups["allocation"] = xr.Dataset(allocation)
    if x is not None:
        groups["observed_data"] = xr.Dataset({"y": ("obs", x)})
    return xr.DataTree.from_dict(groups)


def split(values, chains):
    return values.reshape(chains, -1, *values.shape[1:])


def simulated(k=3, n=30, m=12, chains=2, seed=0, noise=0.2):
    """A small mixture, its labels switched at random in every draw; and what undoes that."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, k, n) if k else np.zeros(n, int)
    x = rng.normal(3.0 * truth, 1.0)
    mu = 3.0 * np.arange(k) + noise * rng.normal(size=(m, k))
    prob = np.exp(-0.5 * (x[:, None] - mu[:, None, :]) ** 2) + 1e-30
    prob /= prob.sum(axis=2, keepdims=True)
    z = (rng.random((m, n, 1)) > prob.cumsum(axis=2)).sum(axis=2).clip(max=k - 1)
    perm = rng.permuted(np.tile(np.arange(k), (m, 1)), axis=1)
    mu = np.take_along_axis(mu, perm, axis=1)
    prob = np.take_along_axis(prob, perm[:, None, :], axis=2)
    z = np.take_along_axis(np.argsort(perm, axis=1), z, axis=1)
    theta = np.stack([mu, np.ones_like(mu), np.full_like(mu, 1 / k)], axis=2)
    return tree_of(theta, z, prob, x, chains), np.argsort(perm, axis=1)


def mixture_criteria(given=False):
    """One of each; with `given`, those whose reference the labels of the draws do not move."""
    first = {"chain": 0, "draw": 0}
    found = {
        "ecr": relabel.criteria.ECR(reference=first),
        "pra": relabel.criteria.PRA(reference=first),
        "data-based": relabel.criteria.DataBased(reference="data"),
        "order": relabel.criteria.Order(var_names="mu"),
        "pivotal": relabel.criteria.Pivotal(),
    }
    if given:
        return {name: found[name] for name in ("data-based", "order", "pivotal")}
    return found | {
        "data-based, draw": relabel.criteria.DataBased(),
        "stephens": relabel.criteria.Stephens(),
        "stephens, labels": relabel.criteria.Stephens(reference="labels"),
        "ecr-iterative-1": relabel.criteria.ECRIterative1(),
        "ecr-iterative-2": relabel.criteria.ECRIterative2(),
        "sjw": relabel.criteria.SJW(parameters=NORMAL, assign="best"),
        "mean": relabel.criteria.Mean(),
    }


each = pytest.mark.parametrize(
    "criterion", mixture_criteria().values(), ids=mixture_criteria().keys()
)


def index_of(aligned):
    values = aligned["relabel"]["component_index"].values
    return values.reshape(-1, values.shape[-1])


def share_alike(one, two):
    """Share of draws with the same permutation, up to one global relabelling."""
    both = np.take_along_axis(np.argsort(two, axis=1), one, axis=1)
    return np.unique(both, axis=0, return_counts=True)[1].max() / len(one)


def solved(data, criterion):
    """What the loop found, its reference included."""
    groups = unpack(data)
    draws = Draws.read(
        sharing(groups),
        with_labels(relabel.Spec(UNITS), criterion, sharing(groups)),
        "raise",
        groups,
    )
    job = Job(criterion, None, {"n_random": 0, "n_perturbations": 0, "rng": 0})
    return job.run(draws)


# ---------------------------------------------------------------------- against R


@pytest.fixture(scope="module")
def synthetic():
    """Draws on which the R package ran, and what it returned."""
    golden = load("ls_synth_k5")
    z = golden["in_z"].astype(int)
    return tree_of(golden["in_mcmc"], z, golden["in_p"], golden["in_x"]), golden


def exact_cases(golden):
    best, other = (int(golden[name][0]) for name in ("in_mapindex", "in_mapindex_non"))
    draw = {"chain": 0, "draw": best}
    return {
        "stephens_perm": relabel.criteria.Stephens(reference="labels"),
        "ecr_it2_perm": relabel.criteria.ECRIterative2(reference="labels"),
        "ecr_map_perm": relabel.criteria.ECR(reference=draw),
        "ecr_mapnon_perm": relabel.criteria.ECR(reference=golden["in_z"][other]),
        "pra_perm": relabel.criteria.PRA(draw),
        "databased_perm": relabel.criteria.DataBased(reference="data"),
        "aic_c0_perm": relabel.criteria.Order(var_names="mu"),
        "aic_c1_perm": relabel.criteria.Order(var_names="s2"),
        "aic_c2_perm": relabel.criteria.Order(var_names="w"),
    }


@pytest.mark.parametrize("key", exact_cases(load("ls_synth_k5")))
def test_permutations_are_those_of_r(synthetic, key):
    data, golden = synthetic
    aligned = relabel.align(data, UNITS, criterion=exact_cases(golden)[key])
    assert np.array_equal(index_of(aligned), golden[key])


@pytest.mark.parametrize(
    ("criterion", "key"),
    [
        (relabel.criteria.Stephens(), "stephens_perm"),
        (relabel.criteria.ECRIterative2(), "ecr_it2_perm"),
        (relabel.criteria.DataBased(), "databased_perm"),
        (relabel.criteria.Pivotal(), "ecr_map_perm"),
    ],
)
def test_other_starts_agree_with_r_up_to_one_relabelling(synthetic, criterion, key):
    data, golden = synthetic
    aligned = relabel.align(data, UNITS, criterion=criterion)
    assert share_alike(index_of(aligned), golden[key]) == 1


def test_order_by_one_entry_of_a_variable(synthetic):
    data, golden = synthetic
    theta = np.stack([data["posterior"][name].values for name in ("mu", "s2", "w")], axis=-1)
    draws = xr.Dataset({"theta": ((*SAMPLE, "component", "parameter"), theta)})
    for column in range(3):
        criterion = relabel.criteria.Order(var_names=f"theta[{column}]")
        index = relabel.align(draws, UNITS, criterion=criterion)["relabel_component_index"]
        assert np.array_equal(index.values[0], golden[f"aic_c{column}_perm"])


def test_objectives_are_those_of_r(synthetic):
    data, golden = synthetic
    found = Provenance.of(
        relabel.align(data, UNITS, criterion=relabel.criteria.Stephens(reference="labels"))
    ).as_dict()
    assert found["losses"][-1] == pytest.approx(golden["stephens_obj_total"][0], rel=1e-6)
    pivot = int(golden["in_mapindex"][0])
    criterion = relabel.criteria.ECR(reference=golden["in_z"][pivot])
    found = Provenance.of(relabel.align(data, UNITS, criterion=criterion)).as_dict()
    assert found["losses"][-1] == golden["ecr_map_obj"][0]
    aligned = relabel.align(
        data, UNITS, criterion=relabel.criteria.PRA({"chain": 0, "draw": pivot})
    )
    theta = np.take_along_axis(golden["in_mcmc"], index_of(aligned)[:, :, None], axis=1)
    products = (theta * golden["in_mcmc"][pivot]).sum(axis=(1, 2))
    np.testing.assert_allclose(products, golden["pra_obj"])


def mismatches(z, index):
    """Objective of ecr-iterative-1 by its definition: disagreements with the modal labels."""
    new = np.take_along_axis(np.argsort(index, axis=1), z.astype(int), axis=1)
    counts = (new[:, :, None] == np.arange(index.shape[1])).sum(axis=0)
    return (len(z) - counts.max(axis=1)).sum()


@pytest.mark.parametrize("start", ["draw", "labels"])
def test_ecr_iterative_1_is_right_where_r_is_wrong(start):
    golden = load("ls_it1_failure_k8")
    theta = np.random.default_rng(0).normal(size=(50, 8, 3))
    data = tree_of(theta, golden["in_z"].astype(int))
    aligned = relabel.align(data, UNITS, criterion=relabel.criteria.ECRIterative1(reference=start))
    index, of_r = index_of(aligned), golden["ecr_it1_perm_R"]
    assert share_alike(index, golden["true_perm"]) == 1
    assert share_alike(of_r, golden["true_perm"]) == pytest.approx(0.52)
    assert mismatches(golden["in_z"], index) < mismatches(golden["in_z"], of_r)


@pytest.mark.parametrize("start", ["draw", "labels"])
def test_ecr_iterative_1_is_no_worse_than_r(synthetic, start):
    data, golden = synthetic
    aligned = relabel.align(data, UNITS, criterion=relabel.criteria.ECRIterative1(reference=start))
    own = mismatches(golden["in_z"], index_of(aligned))
    assert own <= mismatches(golden["in_z"], golden["ecr_it1_perm"])
    assert own == Provenance.of(aligned).losses[-1]


@pytest.mark.parametrize("name", ["ls_synth_k5", "mix_k5"])
@pytest.mark.parametrize("assign", ["best", "sample"])
def test_sjw_is_right(name, assign):
    golden = load(name)
    own = name == "mix_k5"
    theta, z, x = (golden[key if own else f"in_{key}"] for key in ("mcmc", "z", "x"))
    data = tree_of(theta, z.astype(int), x=x)
    criterion = relabel.criteria.SJW(parameters=NORMAL, assign=assign)
    aligned = relabel.align(data, UNITS, criterion=criterion)
    assert share_alike(index_of(aligned), golden["true_perm"]) == 1
    notes = Provenance.of(aligned).as_dict()
    assert notes["losses"][-1] < notes["loss_before"]


@pytest.mark.parametrize("name", ["ls_synth_k5", "mix_k5"])
@pytest.mark.parametrize(
    "criterion",
    [
        relabel.criteria.ECR(reference={"chain": 0, "draw": 3}),
        relabel.criteria.ECRIterative1(),
        relabel.criteria.PRA({"chain": 0, "draw": 3}),
        relabel.criteria.DataBased(),
        relabel.criteria.DataBased(reference="data"),
        relabel.criteria.Pivotal(),
    ],
    ids=lambda criterion: criterion.name,
)
def test_what_was_planted_is_found(name, criterion):
    golden = load(name)
    own = name == "mix_k5"
    theta, z, x = (golden[key if own else f"in_{key}"] for key in ("mcmc", "z", "x"))
    aligned = relabel.align(tree_of(theta, z.astype(int), x=x), UNITS, criterion=criterion)
    assert share_alike(index_of(aligned), golden["true_perm"]) == 1


# ---------------------------------------------------------------------- against enumeration


def by_definition(criterion, reference, z, prob, x, theta):
    """Loss of every (slot, unit) of one draw, from what the criterion is defined by."""
    k, beside = len(theta), reference.beside
    loss = np.zeros((k, k))
    for slot, unit in itertools.product(range(k), range(k)):
        held = z == unit
        match criterion:
            case relabel.criteria.Pivotal():
                pivots = beside["pivots"]
                group = np.flatnonzero(beside["pivot"] != slot)
                loss[slot, unit] = held[group].sum() / (len(z) + 1)
                loss[slot, unit] += held[np.delete(pivots, slot)].sum()
            case (
                relabel.criteria.ECR()
                | relabel.criteria.ECRIterative1()
                | relabel.criteria.ECRIterative2()
            ):
                loss[slot, unit] = (beside["pivot"][held] != slot).sum()
            case relabel.criteria.Stephens():
                p = np.clip(prob, 1e-6, 1 - 1e-6)
                p = (p / p.sum(axis=1, keepdims=True))[:, unit]
                loss[slot, unit] = (p * (np.log(p) - beside["log q"][slot])).sum()
            case relabel.criteria.DataBased():
                gap = x[held] - x.mean() - beside["mean"][slot]
                loss[slot, unit] = (gap**2 * beside["precision"][slot]).sum()
            case relabel.criteria.SJW():
                mean, variance = beside["mean"][slot], beside["variance"][slot]
                logs = np.log(beside["weights"][slot] / np.sqrt(2 * np.pi * variance))
                loss[slot, unit] = -(logs - (x[held] - mean) ** 2 / variance / 2).sum()
    return loss


@pytest.mark.parametrize("k", [2, 5])
@pytest.mark.parametrize(
    "name",
    ["ecr", "ecr-iterative-1", "ecr-iterative-2", "stephens", "data-based", "pivotal", "sjw"],
)
def test_every_draw_is_the_best_of_all_permutations(name, k):
    criterion = mixture_criteria()[name]
    data, _ = simulated(k=k, n=12, noise=1.5, seed=k)  # overlapping, so that optima are not plain
    solution = solved(data, criterion)
    z, prob = (data["allocation"][v].values for v in ("z", "prob"))
    z, prob = z.reshape(-1, *z.shape[2:]), prob.reshape(-1, *prob.shape[2:])
    x = data["observed_data"]["y"].values
    every = list(itertools.permutations(range(k)))
    index = solution.elements["component"].index
    for t in range(len(z)):
        loss = by_definition(criterion, solution.reference, z[t], prob[t], x, np.arange(k))
        totals = [loss[np.arange(k), list(perm)].sum() for perm in every]
        assert solution.loss[t] == pytest.approx(min(totals), rel=1e-9, abs=1e-9)
        assert loss[np.arange(k), index[t]].sum() == pytest.approx(min(totals), abs=1e-9)
        for slot in range(k):
            changed = [perm[slot] != index[t, slot] for perm in every]
            others = np.array(totals)[changed]
            gain = min(others) - min(totals)
            assert solution.margin["component"][t, slot] == pytest.approx(gain, abs=1e-8)


@pytest.mark.parametrize("name", ["stephens", "ecr-iterative-1", "ecr-iterative-2"])
def test_references_are_those_of_the_aligned_draws(name):
    data, _ = simulated(k=3, noise=1.0)
    solution = solved(data, mixture_criteria()[name])
    z, prob = (data["allocation"][v].values.reshape(12, 30, -1) for v in ("z", "prob"))
    index = solution.elements["component"].index
    aligned = np.take_along_axis(prob, index[:, None, :], axis=2)
    found = solution.reference.beside
    if name == "stephens":
        np.testing.assert_allclose(np.exp(found["log q"]).T, aligned.mean(axis=0), atol=1e-5)
    elif name == "ecr-iterative-2":
        assert np.array_equal(found["pivot"], aligned.mean(axis=0).argmax(axis=1))
    else:
        new = np.take_along_axis(np.argsort(index, axis=1), z[:, :, 0], axis=1)
        counts = (new[:, :, None] == np.arange(3)).sum(axis=0)
        assert np.array_equal(found["pivot"], counts.argmax(axis=1))


def test_em_of_sjw_stands_still_at_its_end():
    """The parameters are the weighted means of all permutations, by their definition."""
    data, _ = simulated(k=3, n=8, noise=1.0)
    solution = solved(data, relabel.criteria.SJW(parameters=NORMAL))
    mu, w = (data["posterior"][v].values.reshape(-1, 3) for v in ("mu", "w"))
    z, x = data["allocation"]["z"].values.reshape(12, -1), data["observed_data"]["y"].values
    found, total = solution.reference.beside, np.zeros((2, 3))
    for t in range(12):
        theta = np.stack([mu[t], w[t]])
        loss = by_definition(relabel.criteria.SJW(), solution.reference, z[t], None, x, mu[t])
        every = np.array(list(itertools.permutations(range(3))))
        logs = -loss[np.arange(3), every].sum(axis=1)
        weight = np.exp(logs - logs.max())
        for perm, share in zip(every, weight / weight.sum(), strict=True):
            total += share * theta[:, perm]
    np.testing.assert_allclose(total / 12, [found["mean"], found["weights"]], rtol=1e-5)


def test_sampled_permutations_have_the_probabilities_they_should():
    z = np.tile([0, 1], (4000, 1))
    theta = np.tile([[0.0, 1.0, 0.5], [1.0, 1.0, 0.5]], (4000, 1, 1))
    data = tree_of(theta, z, x=np.array([0.2, 0.8]))
    best = relabel.criteria.SJW(parameters=NORMAL, assign="best", max_sweeps=1)
    kept = solved(data, best).reference.beside["mean"]
    gain = abs(kept[1] - kept[0]) * 0.6
    solution = solved(data, relabel.criteria.SJW(parameters=NORMAL, max_sweeps=1))
    swapped = (solution.elements["component"].index[:, 0] == 1).mean()
    assert swapped == pytest.approx(1 / (1 + np.exp(gain)), abs=0.03)
    less = solution.margin["component"] < 0
    assert np.array_equal(less[:, 0], solution.elements["component"].index[:, 0] == 1)
    other = solved(data, relabel.criteria.SJW(parameters=NORMAL, max_sweeps=1, rng=1))
    assert not np.array_equal(
        other.elements["component"].index, solution.elements["component"].index
    )


# ---------------------------------------------------------------------- the laws


@each
def test_undo_and_again(criterion):
    data, truth = simulated()
    aligned = relabel.align(data, UNITS, criterion=criterion)
    assert share_alike(index_of(aligned), truth) == 1
    assert relabel.undo(aligned).identical(data)
    again = relabel.align(relabel.undo(aligned), UNITS, criterion=criterion)
    assert np.array_equal(index_of(again), index_of(aligned))


@each
@pytest.mark.parametrize("noise", [0.2, 2.0])
def test_aligned_draws_stay_as_they_are(criterion, noise):
    data, _ = simulated(noise=noise, n=15)
    aligned = relabel.align(data, UNITS, criterion=criterion)
    again = relabel.align(aligned, UNITS, criterion=criterion)
    assert again["posterior"].to_dataset().identical(aligned["posterior"].to_dataset())
    assert again["allocation"].to_dataset().identical(aligned["allocation"].to_dataset())


@pytest.mark.parametrize("seed", range(3))
def test_data_based_keeps_the_labels_of_its_first_draw(seed):
    """On draws without structure too, so that aligning twice changes nothing."""
    rng = np.random.default_rng(seed)
    theta = np.ones((6, 4, 3))
    data = tree_of(theta, rng.integers(0, 4, (6, 8)), x=rng.normal(size=8))
    aligned = relabel.align(data, UNITS, criterion=relabel.criteria.DataBased())
    again = relabel.align(aligned, UNITS, criterion=relabel.criteria.DataBased())
    assert np.array_equal(index_of(aligned)[0], np.arange(4))
    assert again["allocation"].to_dataset().identical(aligned["allocation"].to_dataset())


@pytest.mark.parametrize("name", mixture_criteria(given=True))
def test_the_labels_that_draws_come_with_do_not_matter(name):
    criterion = mixture_criteria(given=True)[name]
    data, _ = simulated(noise=0.6)
    rng = np.random.default_rng(1)
    other = rng.permuted(np.tile(np.arange(3), (2, 6, 1)), axis=2)
    turned = turn(data, other)
    one, two = (relabel.align(d, WITH_Z, criterion=criterion) for d in (data, turned))
    xr.testing.assert_equal(one["posterior"].to_dataset(), two["posterior"].to_dataset())
    xr.testing.assert_equal(one["allocation"].to_dataset(), two["allocation"].to_dataset())


@pytest.mark.parametrize(
    "criterion",
    [
        relabel.criteria.ECR(reference=np.sort(np.arange(30) % 3)),
        relabel.criteria.ECR(reference=sorted(i % 3 for i in range(30))),
        relabel.criteria.PRA(
            xr.Dataset({v: ("component", [1.0, 3.0, 6.0]) for v in ("mu", "s2", "w")})
        ),
    ],
    ids=["ecr", "ecr, a list", "pra"],
)
def test_equivariance_with_a_pivot_that_is_given(criterion):
    data, _ = simulated(noise=1.0)
    turned = turn(data, np.random.default_rng(2).permuted(np.tile(np.arange(3), (2, 6, 1)), axis=2))
    one, two = (relabel.align(d, WITH_Z, criterion=criterion) for d in (data, turned))
    xr.testing.assert_equal(one["posterior"].to_dataset(), two["posterior"].to_dataset())


def turn(data, index):
    """Relabel the draws as given, and forget about it."""
    criterion = relabel.criteria.Permutations(index)
    turned = relabel.align(data, WITH_Z, criterion=criterion)
    del turned["relabel"]
    return turned


@each
def test_lazy_equals_eager(criterion):
    pytest.importorskip("dask")
    data, _ = simulated(noise=0.8)
    lazy = data.copy()
    for group in ("posterior", "allocation"):
        lazy[group].dataset = data[group].to_dataset().chunk(draw=2, chain=1)
    one, two = (relabel.align(d, UNITS, criterion=criterion) for d in (data, lazy))
    for group in ("posterior", "allocation", "relabel"):
        xr.testing.assert_identical(two[group].to_dataset().compute(), one[group].to_dataset())


@each
def test_any_block_size_gives_the_same(criterion, monkeypatch):
    data, _ = simulated(noise=0.8)
    one = relabel.align(data, UNITS, criterion=criterion)
    monkeypatch.setattr("relabel.matching.allocation_features._BLOCK_BYTES", 2**12)
    two = relabel.align(data, UNITS, criterion=criterion)
    assert np.array_equal(index_of(one), index_of(two))
    np.testing.assert_allclose(two["relabel"]["loss"], one["relabel"]["loss"])


@each
@pytest.mark.parametrize("seed", range(2))
def test_the_loss_never_rises(criterion, seed):
    data, _ = simulated(k=4, n=15, noise=3.0, seed=seed)
    notes = Provenance.of(relabel.align(data, UNITS, criterion=criterion)).as_dict()
    losses = np.array(notes["losses"])
    if criterion.monotone:
        assert (np.diff(losses) <= 1e-9 * np.abs(losses[1:])).all()
        assert losses[-1] <= notes["loss_before"] + 1e-9 * abs(losses[-1])


# ---------------------------------------------------------------------- what is missing or strange


@pytest.mark.parametrize("name", ["stephens", "ecr-iterative-2"])
def test_float32_probabilities_and_missing_rows(name):
    data, truth = simulated()
    prob = data["allocation"]["prob"].values.astype(np.float32)
    kind = CRITERIA[name]
    aligned = relabel.align(data, UNITS, criterion=kind(prob=prob))
    assert share_alike(index_of(aligned), truth) == 1
    prob[0, 2, 5] = np.nan
    prob[:, :, 7] = np.nan
    aligned = relabel.align(data, UNITS, criterion=kind(prob=prob))
    assert share_alike(index_of(aligned), truth) == 1
    assert np.isfinite(aligned["relabel"]["loss"]).all()


@pytest.mark.parametrize(
    "kind",
    [
        relabel.criteria.ECR,
        relabel.criteria.ECRIterative1,
        relabel.criteria.DataBased,
        relabel.criteria.Pivotal,
    ],
)
def test_missing_allocations_do_not_count(kind):
    data, truth = simulated(n=40)
    z = data["allocation"]["z"].values.copy()
    z[np.random.default_rng(0).random(z.shape) < 0.2] = -1
    z[:, :, 3] = -1
    pivot = {"reference": {"chain": 0, "draw": 0}} if kind is relabel.criteria.ECR else {}
    aligned = relabel.align(data, UNITS, criterion=kind(z=z, **pivot))
    assert share_alike(index_of(aligned), truth) == 1


def test_observations_that_are_missing_do_not_count():
    data, truth = simulated()
    x = data["observed_data"]["y"].values.copy()
    x[4] = np.nan
    for criterion in (
        relabel.criteria.DataBased(x=x),
        relabel.criteria.SJW(x=x, parameters=NORMAL),
    ):
        aligned = relabel.align(data, UNITS, criterion=criterion)
        assert share_alike(index_of(aligned), truth) == 1
        assert np.isfinite(aligned["relabel"]["loss"]).all()


def test_several_columns_of_data():
    data, truth = simulated()
    rng = np.random.default_rng(3)
    x = np.stack([rng.normal(size=30), data["observed_data"]["y"].values], axis=1)
    for start in ("draw", "data"):
        criterion = relabel.criteria.DataBased(x=x, reference=start)
        assert share_alike(index_of(relabel.align(data, UNITS, criterion=criterion)), truth) == 1


@each
@pytest.mark.parametrize("sizes", [(1, 5, 4), (3, 1, 4), (3, 6, 1), (4, 2, 6)], ids=str)
def test_small_sizes(criterion, sizes):
    k, n, m = sizes
    data, _ = simulated(k=k, n=n, m=m, chains=1)
    aligned = relabel.align(data, UNITS, criterion=criterion)
    assert np.array_equal(np.sort(index_of(aligned), axis=1), np.tile(np.arange(k), (m, 1)))
    assert np.isfinite(aligned["relabel"]["loss"]).all()
    assert not np.isnan(aligned["relabel"]["component_margin"]).any()
    assert relabel.undo(aligned).identical(data)


@each
def test_empty_components(criterion):
    data, _ = simulated(k=3, n=20)
    wide = {
        name: data["posterior"][name].pad(component=(0, 2), constant_values=50.0).values[0]
        for name in ("mu", "s2", "w")
    }
    theta = np.stack(list(wide.values()), axis=-1)
    z, prob = (data["allocation"][v].values[0] for v in ("z", "prob"))
    prob = np.pad(prob, ((0, 0), (0, 0), (0, 2)))
    data = tree_of(theta, z, prob, data["observed_data"]["y"].values)
    aligned = relabel.align(data, WITH_Z, criterion=criterion)
    z = aligned["allocation"]["z"].values[0]
    assert (z == z[0]).mean() > 0.8
    assert np.isfinite(aligned["relabel"]["loss"]).all()


@each
def test_draws_that_are_not_finite_are_left_out(criterion):
    data, truth = simulated(n=40)
    data["posterior"]["mu"].values[1, 2, 0] = np.nan
    if criterion.reads and "mu" not in criterion.reads.values():  # nothing reads it: it moves along
        aligned = relabel.align(data, UNITS, criterion=criterion)
        assert "excluded" not in aligned["relabel"]
        assert share_alike(index_of(aligned), truth) == 1
        back = relabel.undo(aligned)["posterior"]["mu"]
        np.testing.assert_array_equal(back, data["posterior"]["mu"])
        return
    with pytest.raises(DataError, match="skip"):
        relabel.align(data, UNITS, criterion=criterion)
    aligned = relabel.align(data, UNITS, criterion=criterion, nonfinite="skip")
    assert int(aligned["relabel"]["excluded"].sum()) == 1
    assert np.array_equal(aligned["relabel"]["component_index"][1, 2], np.arange(3))
    rest = np.delete(np.arange(12), 8)
    assert share_alike(index_of(aligned)[rest], truth[rest]) == 1


@pytest.mark.parametrize(
    ("criterion", "message"),
    [
        (relabel.criteria.ECR(reference=np.zeros(7, int)), "z has 30, reference has 7"),
        (relabel.criteria.DataBased(x=np.zeros(7)), "z has 30, x has 7"),
        (relabel.criteria.DataBased(x="constant_data/none"), "constant_data/none.* is not there"),
        (relabel.criteria.Stephens(prob=np.full((2, 6, 30, 4), 0.25)), "has 4 probabilities"),
        (relabel.criteria.ECRIterative1(z=np.zeros((2, 5, 30), int)), "chain and draw"),
        (relabel.criteria.SJW(parameters={"mean": "nu", "sd": "s2"}), "no variable 'nu'"),
        (relabel.criteria.SJW(parameters={"mean": "mu"}), "mean"),
        (relabel.criteria.SJW(parameters=NORMAL, family="cauchy"), "cauchy"),
        (relabel.criteria.Order(var_names="nu"), "'nu' is not one coordinate"),
        (
            relabel.criteria.Order(),
            "unique bias; name one, as in var_names='mu': there are mu, ",
        ),
        (relabel.criteria.Permutations(np.zeros((2, 6, 2), int)), r"must be .*\(2, 6, 3\)"),
        (relabel.criteria.Permutations("allocation/z"), "shape"),
        (relabel.criteria.Permutations("allocation/perm"), "is not there"),
        (relabel.criteria.Permutations({"state": np.zeros(1)}), "no units 'state'"),
        (relabel.criteria.Permutations({}), "no index for the units"),
    ],
)
def test_what_does_not_fit_is_named(criterion, message):
    data, _ = simulated()
    with pytest.raises(SpecError, match=message):
        relabel.align(data, UNITS, criterion=criterion)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (relabel.criteria.PRA, {"reference": "mean"}, "pra: reference must be 'map'"),
        (
            relabel.criteria.DataBased,
            {"reference": "labels"},
            "reference must be one of",
        ),
        (relabel.criteria.SJW, {"assign": "worst"}, "assign must be"),
        (relabel.criteria.SJW, {"parameters": {}}, "parameters must be a table"),
        (relabel.criteria.SJW, {"parameters": {"mean": 3}}, "parameters must be a table"),
        (relabel.criteria.SJW, {"rng": -1}, "rng must be"),
        (
            relabel.criteria.SJW,
            {"max_sweeps": 0},
            "max_sweeps must be a positive integer, not 0",
        ),
        (relabel.criteria.Pivotal, {"method": "mus"}, "method must be one of"),
        (relabel.criteria.Pivotal, {"linkage": "ward"}, "linkage must be one of"),
        (relabel.criteria.Pivotal, {"max_obs": 0}, "max_obs must be"),
        (relabel.criteria.Permutations, {}, "index is missing"),
        (relabel.criteria.Permutations, {"index": [0, 1]}, "index must be an array"),
        (relabel.criteria.Permutations, {"index": "a", "factor": 1}, "factor must be an array"),
    ],
)
def test_wrong_options_are_named(kind, options, message):
    with pytest.raises(SpecError, match=message):
        kind(**options)


def test_sjw_refuses_many_components():
    data, _ = simulated(k=9, n=20, m=2, chains=1)
    with pytest.raises(SpecError, match=r"9! of 9 units.*stephens or ecr-iterative-1"):
        relabel.align(data, UNITS, criterion=relabel.criteria.SJW(parameters=NORMAL))


# ---------------------------------------------------------------------- pivotal


def test_pivots_that_coincide_are_flagged_and_not_dropped():
    data, truth = simulated(n=40)
    z = data["allocation"]["z"].values.copy()
    quiet = relabel.align(data, UNITS, criterion=relabel.criteria.Pivotal())
    assert not quiet["relabel"]["pivots_coincide"].any()
    assert not any("pivots" in text for text in Provenance.of(quiet).warnings)
    pivots = solved(data, relabel.criteria.Pivotal()).reference.beside["pivots"]
    one, two = z[1, 4, pivots[0]], z[1, 4, pivots[1]]
    z[1, 4, z[1, 4] == one] = two
    aligned = relabel.align(data, UNITS, criterion=relabel.criteria.Pivotal(z=z))
    flags = aligned["relabel"]["pivots_coincide"].values
    assert flags.sum() == flags[1, 4] == 1
    assert any("in 1 of 12 draws two pivots" in text for text in Provenance.of(aligned).warnings)
    index = index_of(aligned)
    rest = np.delete(np.arange(12), 10)
    assert share_alike(index[rest], truth[rest]) == 1
    groups = solved(data, relabel.criteria.Pivotal(z=z)).reference.beside["pivot"]
    shared = [(groups[z[1, 4] == two] == slot).sum() for slot in range(3)]
    assert len(set(shared)) == 3
    assert index[10, np.argmax(shared)] == two  # where more of its observations belong
    assert np.floor(aligned["relabel"]["loss"].values).sum() == 1
    again = relabel.align(quiet, UNITS, criterion=relabel.criteria.Pivotal())
    assert "pivots_coincide" in again["relabel"]


@pytest.mark.parametrize("method", ["difference", "inside", "outside"])
@pytest.mark.parametrize("max_obs", [12, 2000])
def test_pivots_are_one_of_each_group(method, max_obs):
    data, truth = simulated(n=40)
    criterion = relabel.criteria.Pivotal(method=method, max_obs=max_obs)
    pivots = solved(data, criterion).reference.beside["pivots"]
    z = data["allocation"]["z"].values.reshape(12, -1)
    assert (np.sort(z[:, pivots], axis=1) == np.arange(3)).mean() > 0.9
    assert share_alike(index_of(relabel.align(data, UNITS, criterion=criterion)), truth) == 1


def test_a_plain_dataset_keeps_the_flags_apart():
    data, _ = simulated(n=40)
    flat = xr.merge([data["posterior"].to_dataset(), data["allocation"].to_dataset()[["z"]]])
    aligned = relabel.align(flat, UNITS, criterion=relabel.criteria.Pivotal(z="z"))
    assert "relabel_pivots_coincide" in aligned
    assert relabel.undo(aligned).identical(flat)


def test_similar_allocations_are_counted_by_their_definition():
    data, _ = simulated(n=9, noise=2.0)
    z = data["allocation"]["z"].values.copy()
    z[0, 2, 4] = z[1, 3, 4] = -1
    groups = unpack(data)
    draws = Draws.read(sharing(groups), relabel.Spec(UNITS), "raise")
    source = AllocationProblem(draws, relabel.criteria.Pivotal(z=z))
    found = together(source, np.arange(9), 3)
    flat = z.reshape(12, 9)
    both = (flat[:, :, None] >= 0) & (flat[:, None, :] >= 0)
    alike = (flat[:, :, None] == flat[:, None, :]) & both
    np.testing.assert_allclose(found, alike.sum(axis=0) / both.sum(axis=0), rtol=1e-6)


# ---------------------------------------------------------------------- users' own permutations


def test_own_permutations_are_carried_out_and_judged():
    data, truth = simulated()
    index = truth.reshape(2, 6, 3)
    aligned = relabel.align(data, WITH_Z, criterion=relabel.criteria.Permutations(index))
    assert np.array_equal(aligned["relabel"]["component_index"], index)
    mean = relabel.align(data, WITH_Z, criterion=relabel.criteria.Mean())
    loss, best = (Provenance.of(a).losses[-1] for a in (aligned, mean))
    assert loss == pytest.approx(best)
    assert float(aligned["relabel"]["component_margin"].min()) > 0
    wrong = index.copy()
    wrong[1, 3] = wrong[1, 3, [1, 0, 2]]
    aligned = relabel.align(data, WITH_Z, criterion=relabel.criteria.Permutations(wrong))
    margin = aligned["relabel"]["component_margin"].values
    assert (margin[1, 3, :2] < 0).all()
    assert (np.delete(margin.reshape(12, 3), 9, axis=0) > 0).all()


def test_margins_of_any_permutations_against_enumeration():
    data, _ = simulated(k=4, noise=2.0)
    rng = np.random.default_rng(0)
    index = rng.permuted(np.tile(np.arange(4), (2, 6, 1)), axis=2)
    aligned = relabel.align(
        data, UNITS, criterion=relabel.criteria.Permutations(index, scale="none")
    )
    parts = [data["posterior"][v].values.reshape(12, 4) for v in ("mu", "s2", "w")]
    parts.append(data["allocation"]["prob"].values.reshape(12, 30, 4))
    theta, own = np.stack(parts[:3], axis=2), index.reshape(12, 4)
    mean = np.take_along_axis(theta, own[:, :, None], axis=1).mean(axis=0)
    every = np.array(list(itertools.permutations(range(4))))
    for t in range(12):
        losses = ((theta[t][every] - mean) ** 2).sum(axis=(1, 2))
        mine = ((theta[t][own[t]] - mean) ** 2).sum()
        assert aligned["relabel"]["loss"].values.reshape(-1)[t] == pytest.approx(mine)
        for slot in range(4):
            other = losses[every[:, slot] != own[t, slot]].min()
            found = aligned["relabel"]["component_margin"].values.reshape(12, 4)[t, slot]
            assert found == pytest.approx(other - mine, abs=1e-9)


def test_signs_of_ones_own():
    rng = np.random.default_rng(0)
    draws = xr.Dataset(
        {
            "W1": ((*SAMPLE, "x", "h"), rng.normal(size=(1, 5, 6, 2))),
            "W2": ((*SAMPLE, "h", "y"), rng.normal(size=(1, 5, 2, 1))),
        }
    )
    spec = relabel.Spec({"h": "tanh"}, {"W1": "x -> h", "W2": "h -> y"})
    index = np.tile([1, 0], (1, 5, 1))
    factor = rng.choice([-1, 1], size=(1, 5, 2))
    aligned = relabel.align(draws, spec, criterion=relabel.criteria.Permutations(index, factor))
    expected = draws["W1"].values[..., ::-1] * factor[:, :, None, :]
    assert np.array_equal(aligned["W1"], expected)
    assert relabel.undo(aligned).identical(draws)
    with pytest.raises(DataError, match="other numbers than 1 and -1"):
        relabel.align(draws, spec, criterion=relabel.criteria.Permutations(index, 2 * factor))
    unsigned, criterion = (
        {"h": "permutation"},
        relabel.criteria.Permutations(index, -np.ones_like(index)),
    )
    with pytest.raises(DataError, match="do not have"):
        relabel.align(draws, unsigned, criterion=criterion)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (np.tile([0, 0, 1], (2, 6, 1)), "no permutation of 0 to 2 in 12 of 12 draws"),
        (np.tile([1, 2, 3], (2, 6, 1)), "count from 1: subtract 1"),
        (np.tile([0, 1, np.nan], (2, 6, 1)), "no permutation"),
    ],
)
def test_no_permutations_are_refused(index, message):
    data, _ = simulated()
    with pytest.raises(DataError, match=message):
        relabel.align(data, UNITS, criterion=relabel.criteria.Permutations(index))


def test_own_permutations_skip_draws_and_flagged_chains():
    data, truth = simulated(m=40)
    index = truth.reshape(2, 20, 3).copy()
    index[1, 5] = index[1, 5, ::-1]  # not what the reference would ask for
    data["posterior"]["mu"].values[1, 2, 0] = np.nan
    rng = np.random.default_rng(0)
    lp = rng.normal(size=(2, 20)) - 500.0 * np.arange(2)[:, None]
    data["sample_stats"] = xr.DataTree(xr.Dataset({"lp": (SAMPLE, lp)}))
    aligned = relabel.align(
        data,
        UNITS,
        criterion=relabel.criteria.Permutations(index),
        nonfinite="skip",
        exclude_flagged=True,
    )
    index[1, 2] = np.arange(3)
    assert np.array_equal(aligned["relabel"]["component_index"], index)
    assert Provenance.of(aligned).no_part_in_reference == (1,)


def test_the_record_of_an_alignment_is_not_carried_out_twice():
    data, _ = simulated()
    aligned = relabel.align(data, UNITS)
    criterion = relabel.criteria.Permutations("relabel/component_index")
    with pytest.raises(SpecError, match=r"already.*relabel\.apply"):
        relabel.align(aligned, UNITS, criterion=criterion)


# ---------------------------------------------------------------------- an ordering that cuts


def test_overlaps_by_their_definition():
    rng = np.random.default_rng(0)
    ordered = np.sort(rng.integers(0, 6, size=(15, 4)), axis=1).astype(float)
    expected = [
        np.mean([(a > b) + 0.5 * (a == b) for a in ordered[:, k] for b in ordered[:, k + 1]])
        for k in range(3)
    ]
    np.testing.assert_allclose(overlaps(ordered), expected)
    alike = np.sort(rng.normal(size=(4000, 2)), axis=1)
    assert overlaps(alike)[0] == pytest.approx(1 / 6, abs=0.01)


def test_an_ordering_says_where_it_cuts(synthetic):
    data, golden = synthetic

    def said(by):
        aligned = relabel.align(data, UNITS, criterion=relabel.criteria.Order(var_names=by))
        return [text for text in Provenance.of(aligned).warnings if "ordering" in text]

    assert said("mu") == []
    (text,) = said("s2")
    assert "by 's2' separates slots weakly: overlap of 2 and 3 (0.11), 1 and 2" in text
    theta = golden["in_mcmc"] / golden["in_mcmc"].std(axis=(0, 1))
    index = golden["aic_c1_perm"].astype(int)[:, :, None]
    mean = np.take_along_axis(theta, index, axis=1).mean(axis=0)
    gap = ((theta[:, None] - mean[:, None]) ** 2).sum(axis=3)  # (draws, slots, units)
    every = np.array(list(itertools.permutations(range(5))))
    least = gap[:, np.arange(5), every].sum(axis=2).min(axis=1)
    own = np.take_along_axis(gap, index, axis=2).sum(axis=(1, 2))
    assert f"{(own > least + 1e-9).sum()} of 150 draws lie nearer" in text


# ---------------------------------------------------------------------- on the command line


@pytest.mark.parametrize(
    "words",
    [
        ["pra"],
        ["data-based", "reference=data"],
        ["sjw", 'parameters={mean = "mu", variance = "s2"}', "rng=3"],
        ["pivotal", "method=inside"],
        ["permutations", "index=extra/perm"],
        ["order", "var_names=mu"],
    ],
    ids=lambda words: words[0],
)
def test_on_the_command_line(words, tmp_path, monkeypatch, capsys):
    data, truth = simulated(m=20)
    data["sample_stats"] = xr.DataTree(xr.Dataset({"lp": (SAMPLE, np.zeros((2, 10)))}))
    perm = xr.Dataset({"perm": ((*SAMPLE, "slot"), truth.reshape(2, 10, 3))})
    data["extra"] = xr.DataTree(perm)
    data.to_netcdf(tmp_path / "in.nc", engine="h5netcdf")
    (tmp_path / "spec.toml").write_text('[units]\ncomponent = "permutation"\n')
    name, *options = words
    sets = [part for option in options for part in ("--set", option)]
    paths = [str(tmp_path / name) for name in ("in.nc", "out.nc", "spec.toml")]
    args = ["align", paths[0], "--spec", paths[2], "-o", paths[1], "--criterion", name, *sets]
    monkeypatch.setattr(sys, "argv", ["relabel", *args])
    with pytest.raises(SystemExit) as stopped:
        cli()
    assert stopped.value.code in (0, None), capsys.readouterr().err
    aligned = relabel.open_draws(tmp_path / "out.nc")
    assert share_alike(index_of(aligned), truth) == 1
    assert Provenance.of(aligned).criterion["name"] == name


def test_the_benchmark_runs(monkeypatch, capsys):
    path = REPOSITORY / "benchmarks" / "criteria_speed.py"
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    monkeypatch.setattr(sys, "argv", [str(path), "--quick", "--repeat", "1"])
    runpy.run_path(str(path), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line.startswith("|")][2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert {cell[0].split(" ")[0].rstrip(",") for cell in cells} == (
        set(CRITERIA)
        - {"activations"}
        - {n for n, c in CRITERIA.items() if issubclass(c, OfLoadings)}
    )
    assert all(float(cell[3]) > 0.9 for cell in cells)


# ---------------------------------------------------------------------- what once went wrong


def with_warmup(data, allocation):
    """The same draws as a warm-up, in an order of their own, with or without allocations."""
    groups = {name: child.to_dataset() for name, child in data.children.items()}
    back = {"draw": slice(None, None, -1)}
    groups["warmup_posterior"] = groups["posterior"].isel(back)
    if allocation:
        groups["warmup_allocation"] = groups["allocation"].isel(back)
    return xr.DataTree.from_dict(groups)


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("name", ["ecr", "stephens"])
def test_a_warmup_without_allocations_follows_the_mean(name, stored):
    data, _ = simulated(m=20)
    given = data["allocation"].to_dataset()
    pivot = {"chain": 0, "draw": 0}
    criterion = {
        ("ecr", True): relabel.criteria.ECR(reference=pivot),
        ("ecr", False): relabel.criteria.ECR(z=given["z"].values, reference=pivot),
        ("stephens", True): relabel.criteria.Stephens(),
        ("stephens", False): relabel.criteria.Stephens(prob=given["prob"].values),
    }[name, stored]
    found = relabel.align(with_warmup(data, not stored), WITH_Z, criterion=criterion)
    mu = found["posterior"]["mu"].values
    np.testing.assert_array_equal(found["warmup_posterior"]["mu"].values[:, ::-1], mu)
    notes = json.loads(found["warmup_relabel"].attrs["relabel"])
    assert any("nothing that criterion" in text for text in notes["warnings"])


def test_probabilities_of_some_observations_may_be_missing():
    data, _ = simulated(m=20, n=15)
    whole = relabel.align(data, WITH_Z, criterion=relabel.criteria.Stephens())
    data["allocation"]["prob"].values[:, :, 3] = np.nan
    some = relabel.align(data, WITH_Z, criterion=relabel.criteria.Stephens())
    xr.testing.assert_identical(some["posterior"].to_dataset(), whole["posterior"].to_dataset())
    data["allocation"]["prob"].values[0, 2] = np.nan
    with pytest.raises(DataError, match="1 of 20 draws hold NaN"):
        relabel.align(data, WITH_Z, criterion=relabel.criteria.Stephens())


@pytest.mark.parametrize(
    "criterion", [relabel.criteria.Stephens(), relabel.criteria.ECRIterative1()]
)
def test_no_observations(criterion):
    data, _ = simulated()
    groups = {name: child.to_dataset() for name, child in data.children.items()}
    groups["allocation"] = groups["allocation"].isel(obs=slice(0, 0))
    with pytest.raises(DataError, match="nothing to compare"):
        relabel.align(xr.DataTree.from_dict(groups), WITH_Z, criterion=criterion)


def test_allocations_alone_are_no_posterior():
    data, _ = simulated()
    groups = {"allocation": data["allocation"].to_dataset()}
    groups["posterior"] = xr.Dataset({"tau": (SAMPLE, np.ones((2, 6)))})
    with pytest.raises(SpecError, match="no variable of the posterior carries the units"):
        relabel.align(xr.DataTree.from_dict(groups), UNITS, criterion=relabel.criteria.Stephens())


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.full(30, np.nan), "all missing"),
        (np.append(np.zeros(29), np.inf), "infinities"),
        (np.array(3.0), r"shape \(\)"),
        (np.array(["a"] * 30), "dtype <U1"),
    ],
)
def test_data_that_are_none(x, message):
    with pytest.raises(DataError, match=message):
        relabel.align(simulated()[0], WITH_Z, criterion=relabel.criteria.DataBased(x=x))


def test_sjw_takes_a_number_that_all_components_share():
    data, _ = simulated(m=20)
    expected = relabel.align(data, WITH_Z, criterion=relabel.criteria.SJW(parameters=NORMAL))
    posterior = data["posterior"].to_dataset().drop_vars("w")
    data["posterior"] = xr.DataTree(posterior.assign(s2=(SAMPLE, np.ones((2, 10)))))
    shared = relabel.align(
        data, WITH_Z, criterion=relabel.criteria.SJW(parameters=NORMAL, weights="none")
    )
    xr.testing.assert_identical(shared["posterior"]["mu"], expected["posterior"]["mu"])


def test_labels_that_the_first_alignment_left_behind_are_not_forgotten():
    data, _ = simulated()
    once = relabel.align(data, relabel.Spec(UNITS, {"mu": "component"}))
    with pytest.raises(SpecError, match="under another spec"):
        relabel.align(once, WITH_Z)
    both = relabel.align(relabel.align(data, WITH_Z), UNITS)
    xr.testing.assert_identical(relabel.undo(both)["allocation"]["z"], data["allocation"]["z"])


def test_a_given_pivot_and_given_tables_are_diagnosed_by_the_mean():
    data, found = simulated()
    point = data["posterior"].to_dataset().isel(chain=0, draw=0)
    tables = relabel.criteria.Permutations({"component": split(found, 2)})
    for criterion in (relabel.criteria.PRA(reference=point), tables):
        aligned = relabel.align(data, WITH_Z, criterion=criterion)
        assert "given" in json.dumps(Provenance.of(aligned).criterion)
        read = Aligned.read(aligned)
        assert read.criterion.name in ("mean", "reference")
        assert read.problem.n_draws == 12


def test_a_pivot_in_a_chain_that_is_left_out():
    data, _ = simulated(m=80)
    lp = np.random.default_rng(0).normal(size=(2, 40)) - [[0.0], [500.0]]
    data["sample_stats"] = xr.DataTree(xr.Dataset({"lp": (SAMPLE, lp)}))
    criterion = relabel.criteria.ECR(reference={"chain": 1, "draw": 0})
    with pytest.raises(DataError, match="no part in the reference"):
        relabel.align(data, WITH_Z, criterion=criterion, exclude_flagged=True)


def test_probabilities_backed_by_dask_are_read_block_by_block():
    """Each block reads the chunks that it lies in, of draws that take part, and no others."""
    da = pytest.importorskip("dask.array")
    data, _ = simulated(m=40)
    data["posterior"]["mu"].values[1, 3:5] = np.nan
    whole = data["allocation"]["prob"].values
    read = []

    def chunk(values, block_info=None):
        read.append(block_info[0]["chunk-location"][:2])
        return values

    lazy = da.from_array(whole, chunks=(2, 5, -1, -1)).map_blocks(chunk, dtype=float, meta=whole)
    dims = data["allocation"]["prob"].dims
    groups = sharing(unpack(data)) | {"allocation": xr.Dataset({"prob": (dims, lazy)})}
    draws = Draws.read(groups, relabel.Spec(UNITS), "skip")
    problem = AllocationProblem(draws, relabel.criteria.Stephens())
    problem.slices = [slice(0, 18), slice(18, 24), slice(24, 38)]
    read.clear()
    kept = whole.reshape(40, 30, 3)[draws.rows]
    np.testing.assert_array_equal(problem.block(1).beside["prob"], kept[18:24])
    assert sorted(set(read)) == [(0, 0), (0, 1), (0, 3)]
    for number, rows in enumerate(problem.slices):
        np.testing.assert_array_equal(problem.block(number).beside["prob"], kept[rows])


def test_remarks_say_which_chains_they_are_about():
    data, _ = simulated(m=80)
    data["allocation"]["z"].values[:, ::7] = 0  # all pivots in one component
    lp = np.random.default_rng(0).normal(size=(2, 40)) - [[0.0], [500.0]]
    data["sample_stats"] = xr.DataTree(xr.Dataset({"lp": (SAMPLE, lp)}))
    aligned = relabel.align(
        data, WITH_Z, criterion=relabel.criteria.Pivotal(), exclude_flagged=True
    )
    main, rest = (w for w in Provenance.of(aligned).warnings if "two pivots" in w)
    assert "of 40 draws" in main
    assert rest.startswith("chains that have no part in the reference: in ")


@pytest.mark.parametrize("pivot", [["a", "b"], [[0, 1], [1]], [[0, 1]], []])
def test_lists_that_are_no_pivot(pivot):
    with pytest.raises(SpecError, match="reference must hold labels of shape"):
        relabel.criteria.ECR(reference=pivot)
