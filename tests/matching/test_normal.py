"""The default criterion: labels beyond doubt, its fit, and draws that leave little to fit."""

import importlib.util
import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

import relabel
from relabel.criteria import Mean, Normal
from relabel.errors import SpecError
from relabel.matching.criteria.normal import diagonal_score, thresholded
from relabel.simulate import network, recovery

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "labels.py"


def planted_cases():
    """The posteriors of the benchmark."""
    found = importlib.util.spec_from_file_location("labels_benchmark", BENCHMARK)
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module
    found.loader.exec_module(module)
    return module


labels = planted_cases()
DIMS = ("chain", "draw", "component")


def align(**arrays):
    """Align draws of one chain; arrays are (draws, K)."""
    data = xr.Dataset({name: (DIMS, np.asarray(array)[None]) for name, array in arrays.items()})
    return relabel.align(data, {"component": "permutation"})


@pytest.mark.parametrize("case", labels.CASES, ids=lambda case: case[0])
def test_labels_beyond_doubt_are_found(case):
    _, make, options = case
    rng = np.random.default_rng([11, *map(int, options)])
    planted = make(rng, *options)
    data, order = planted.draws(rng)
    aligned = relabel.align(data, planted.spec)
    index = aligned[f"relabel_{planted.units}_index"].values
    least = 0.96 if "4 sds" in case[0] else 0.99  # four sds overlap: no method finds them all
    assert labels.share_right(order, index, planted.real) >= least


# ---------------------------------------------------------------------- the fit


@given(
    st.lists(st.floats(-8, 8), min_size=2, max_size=6),
    st.floats(0.05, 0.95),
)
def test_thresholded_variances_are_the_best(logs, share):
    scatter = np.exp(np.array(logs))

    def objective(point):
        u, c = point[:-1], point[-1]
        return (u + scatter * np.exp(-u) + share * np.abs(u - c)).sum()

    chosen, common = thresholded(np.array(logs)[:, None], share)
    ours = objective(np.append(chosen.ravel(), common))
    for begin in (np.append(logs, np.mean(logs)), np.append(logs, np.median(logs))):
        other = minimize(objective, begin, method="Nelder-Mead", options={"maxiter": 4000})
        assert ours <= other.fun + 1e-6 * abs(other.fun)


def test_shared_scales_are_the_mean():
    logs = np.log([[1.0], [2.0], [9.0]])
    chosen, _ = thresholded(logs, np.inf)
    np.testing.assert_allclose(np.exp(chosen), 4.0)


def test_scores_are_log_densities():
    rng = np.random.default_rng(0)
    x, mean, precision = rng.normal(size=(5, 3, 4)), rng.normal(size=(3, 4)), rng.random((3, 4))
    signed = np.array([True, False, True, False])
    score = diagonal_score(x, signed, mean, precision)
    for sign in (1.0, -1.0):
        turned = np.where(signed, sign, 1.0) * x
        away = turned[:, None] - mean[None, :, None]
        density = 0.5 * (np.log(precision)[:, None] - precision[:, None] * away**2).sum(axis=-1)
        np.testing.assert_allclose(score.even + sign * score.odd, density)


def test_labels_do_not_depend_on_units_of_measurement():
    rng = np.random.default_rng(3)
    data, _ = labels.mixture(rng, 4).draws(rng)
    other = data.assign(mu=1e-3 * data["mu"] + 7, sigma=1e6 * data["sigma"])
    one, two = (relabel.align(d, {"component": "permutation"}) for d in (data, other))
    name = "relabel_component_index"
    np.testing.assert_array_equal(one[name], two[name])


def test_the_loss_is_that_of_the_best_labelling():
    rng = np.random.default_rng(5)
    x = np.array([0.0, 3.0, 9.0]) + rng.normal(size=(6, 3))
    x = rng.permuted(x, axis=1)
    aligned = align(mu=x)
    slots = np.take_along_axis(x, aligned["relabel_component_index"].values[0], axis=1)

    def total(values):
        logs, common = thresholded(np.log(values.var(axis=0) + 1e-10 * x.var())[:, None], 0.4)
        v = np.exp(logs[:, 0])
        fit = 0.5 * (len(values) * np.log(v) + ((values - values.mean(axis=0)) ** 2).sum(0) / v)
        return (fit + 0.5 * len(values) * 0.4 * np.abs(logs - common)[:, 0]).sum()

    every = itertools.product(itertools.permutations(range(3)), repeat=5)
    least = min(
        total(np.stack([x[0], *(row[list(p)] for row, p in zip(x[1:], way, strict=True))]))
        for way in every
    )
    assert total(slots) == pytest.approx(least, abs=1e-6)


def test_margins_are_log_odds():
    rng = np.random.default_rng(0)
    x = rng.permuted(np.array([0.0, 4.0]) + rng.normal(size=(400, 2)), axis=1)
    aligned = align(mu=x)
    slots = np.sort(x, axis=1)
    mean, variance = slots.mean(axis=0), slots.var(axis=0).mean()
    odds = (slots[:, 1] - slots[:, 0]) * (mean[1] - mean[0]) / variance
    margin = aligned["relabel_component_margin"].values[0, :, 0]
    np.testing.assert_allclose(margin, odds, rtol=0.02)


# ---------------------------------------------------------------------- little to go by

RNG = np.random.default_rng(1)
PLAIN = np.array([0.0, 5.0, 9.0]) + 0.1 * RNG.normal(size=(40, 3))
EDGE = {
    "one draw": {"mu": PLAIN[:1]},
    "two draws": {"mu": PLAIN[:2]},
    "more units than draws": {"mu": np.arange(20.0) + RNG.normal(size=(3, 20))},
    "a constant feature": {"mu": PLAIN, "c": np.ones((40, 3))},
    "nothing but constants": {"c": np.ones((40, 3))},
    "constant in one slot": {"mu": np.where(np.arange(3) == 1, 5.0, PLAIN)},
    "duplicated draws": {"mu": np.repeat(PLAIN[:4], 10, axis=0)},
    "equal units": {"mu": np.repeat(PLAIN[:, :1], 3, axis=1)},
    "parts at 0 and 1": {"mu": PLAIN, "w": np.tile([0.0, 0.0, 1.0], (40, 1))},
    "scales at 0": {"mu": PLAIN, "sigma": np.zeros((40, 3))},
}


@pytest.mark.parametrize("case", EDGE)
def test_little_to_go_by(case):
    order = np.argsort(RNG.random(next(iter(EDGE[case].values())).shape), axis=1)
    arrays = {name: np.take_along_axis(a, order, axis=1) for name, a in EDGE[case].items()}
    aligned = align(**arrays)
    own = relabel.Provenance.of(aligned)
    assert np.isfinite(own.losses).all()
    assert all(b <= a + 1e-9 * abs(a) for a, b in itertools.pairwise(own.losses))
    assert own.losses[-1] <= own.loss_before + 1e-9 * abs(own.loss_before)
    if case in ("a constant feature", "constant in one slot", "parts at 0 and 1", "scales at 0"):
        slots = aligned["mu"].values[0]
        assert (np.ptp(slots, axis=0) < 1).all()


# ---------------------------------------------------------------------- options


def test_a_large_share_is_refused():
    with pytest.raises(SpecError, match="shrinkage must be at most 1 for diagonal"):
        Normal(shrinkage=2.0)
    assert Normal("full", shrinkage=2.0).weight == 2.0
    assert Normal(scales="shared").weight == np.inf


def test_a_start_wins_where_the_mean_sorts_noise():
    rng = np.random.default_rng(7)
    data, order = labels.mixture(rng, 4).draws(rng)
    by_mean = relabel.align(data, {"component": "permutation"}, criterion=Mean())
    index = by_mean["relabel_component_index"].values
    assert labels.share_right(order, index, range(4)) < 0.5


def test_few_draws_are_not_sorted_by_how_they_spread_by_chance():
    shares = {None: [], 0.4: []}
    for seed in range(4):
        made = network((10, 32, 1), "relu", chains=1, draws=20, noise=0.6, rng=seed)
        for shrinkage, found in shares.items():
            aligned = relabel.align(made.data, made.spec, criterion=Normal(shrinkage=shrinkage))
            found.append(recovery(aligned["relabel"], made.planted)["draws"])
    assert np.mean(shares[None]) > np.mean(shares[0.4]) + 0.03
