"""Modes that no relabelling explains, found and told apart from what one would explain."""

import numpy as np
import pytest
from scipy.optimize import linprog

import relabel
from relabel.diagnostics.aligned import Aligned
from relabel.diagnostics.kernels.clustering import clusters, separation
from relabel.diagnostics.kernels.modes import all_features, find_modes
from relabel.diagnostics.kernels.unimodality import dip, dip_test, holm
from relabel.groups.elements import Monomial
from relabel.simulate import network


def dip_by_linear_programs(values):
    """The dip by its definition: for every place of the mode the nearest unimodal function."""
    x = np.sort(values)
    n = len(x)
    best = np.inf
    for mode in range(n):  # U is continuous but for a jump at the mode: unknowns U(x-), U(x_m+), D
        rows, bounds = [], []

        def value(i, right, mode=mode):
            row = np.zeros(n + 2)
            row[n if right and i == mode else i] = 1
            return row

        for i in range(n):
            for right in (False, True):
                for sign in (1, -1):
                    row = sign * value(i, right)
                    row[-1] = -1
                    rows.append(row)
                    bounds.append(sign * (i + right) / n)
        slope = [(value(i + 1, False) - value(i, True)) / (x[i + 1] - x[i]) for i in range(n - 1)]
        rows += [-s for s in slope] + [value(mode, False) - value(mode, True)]
        rows += [slope[i] - slope[i + 1] for i in range(mode - 1)]
        rows += [slope[i + 1] - slope[i] for i in range(mode, n - 2)]
        bounds += [0.0] * (len(rows) - len(bounds))
        aim = np.zeros(n + 2)
        aim[-1] = 1
        found = linprog(aim, np.array(rows), np.array(bounds), bounds=[(0, 1)] * (n + 1) + [(0, 1)])
        if found.status == 0:
            best = min(best, found.fun)
    return best


@pytest.mark.parametrize("n", [5, 8, 13])
def test_dip_is_that_of_its_definition(n):
    rng = np.random.default_rng(n)
    for values in (rng.random(n), np.r_[rng.normal(size=n // 2), rng.normal(5, 1, n - n // 2)]):
        assert dip(values) == pytest.approx(dip_by_linear_programs(values), abs=1e-9)


def test_dip_does_not_change_with_place_and_scale():
    values = np.random.default_rng(0).normal(size=50)
    assert dip(3 * values[::-1] + 100) == pytest.approx(dip(values), abs=1e-12)
    assert dip(np.ones(10)) == 0.05


def test_dip_test_keeps_its_level_and_has_power():
    rng = np.random.default_rng(1)
    uniform = np.array([dip_test(rng.random(64), 64) for _ in range(200)])
    assert 0.01 <= (uniform < 0.05).mean() <= 0.10
    both = [rng.permutation(np.r_[rng.normal(size=32), rng.normal(6, 1, 32)]) for _ in range(20)]
    assert np.mean([dip_test(values, 64) < 0.01 for values in both]) > 0.9
    assert np.isnan(dip_test(rng.random(100), 5))


def test_holm_keeps_nan_and_order():
    adjusted = holm(np.array([0.5, np.nan, 0.01, 0.02]))
    np.testing.assert_allclose(adjusted, [0.5, np.nan, 0.03, 0.04])


def test_separation_of_the_same_is_small_in_many_dimensions():
    rng = np.random.default_rng(2)
    for n_features in (1, 20, 400):
        found = [separation(*rng.normal(size=(2, 200, n_features))) for _ in range(10)]
        assert max(found) < 1
    far = rng.normal(size=(2, 200, 20))
    far[1, :, 3] += 12
    assert separation(*far) > 3


def slow_chains(rng, n_chains, n_draws, n_features, memory=0.97):
    """Chains of one normal distribution, each worth a few draws."""
    values = np.empty((n_chains, n_draws, n_features))
    values[:, 0] = rng.normal(size=(n_chains, n_features))
    for t in range(1, n_draws):
        step = rng.normal(size=(n_chains, n_features)) * np.sqrt(1 - memory**2)
        values[:, t] = memory * values[:, t - 1] + step
    return values


def test_slow_chains_of_one_mode_are_one_mode():
    rng = np.random.default_rng(4)
    chain = np.repeat(np.arange(6), 300)
    for _ in range(10):
        values = slow_chains(rng, 6, 300, 13).reshape(1800, 13)
        assert clusters([values], chain).mode.max() == 0


@pytest.mark.parametrize("n_features", [40])
def test_slow_chains_of_many_features_are_one_mode(n_features):
    rng = np.random.default_rng(9)
    values = slow_chains(rng, 8, 400, n_features, memory=0.98)
    chain = np.repeat(np.arange(8), 400)
    assert clusters([values.reshape(3200, -1)], chain).mode.max() == 0
    values[5:, :, :3] += 12
    found = clusters([values.reshape(3200, -1)], chain)
    assert np.bincount(found.mode).tolist() == [2000, 1200]


def test_a_chain_that_stands_still_is_no_mode_by_itself():
    rng = np.random.default_rng(10)
    values = rng.normal(size=(4, 250, 6))
    values[3, 100:] = values[3, 99]
    found = clusters([values.reshape(1000, 6)], np.repeat(np.arange(4), 250))
    assert found.mode.max() == 0


@pytest.mark.parametrize("n_draws", [1, 3, 5])
def test_separation_of_few_draws(n_draws):
    rng = np.random.default_rng(11)
    few, many = rng.normal(1000, 1, size=(n_draws, 3)), rng.normal(size=(100, 3))
    assert separation(few, many) > 10
    assert separation(many[:n_draws] + 0.1, many) < 2


def test_chains_in_three_modes():
    rng = np.random.default_rng(5)
    values = slow_chains(rng, 7, 300, 13)
    values[[1, 2], :, 4] += 15
    values[6, :, 7] -= 20
    found = clusters([values.reshape(-1, 13)], np.repeat(np.arange(7), 300))
    by_chain = found.mode.reshape(7, 300)
    assert (by_chain == by_chain[:, :1]).all()
    assert by_chain[:, 0].tolist() == [0, 1, 1, 0, 0, 0, 2]


def test_modes_that_every_chain_visits():
    rng = np.random.default_rng(6)
    values = rng.normal(size=(4, 500, 6))
    other = rng.random((4, 500)) < 0.4
    values[other, 2] += 14
    found = clusters([values.reshape(-1, 6)], np.repeat(np.arange(4), 500))
    assert found.mode.max() == 1
    np.testing.assert_array_equal(found.mode == 1, other.reshape(-1))


def test_many_short_chains():
    rng = np.random.default_rng(7)
    values = rng.normal(size=(300, 8))
    values[:90, 0] += 15
    found = clusters([values], np.arange(300))
    assert np.bincount(found.mode).tolist() == [210, 90]


def test_either_view_tells_modes_apart():
    rng = np.random.default_rng(8)
    weights, outputs = rng.normal(size=(2, 400, 5))
    outputs[:200, 1] += 12
    chain = np.repeat(np.arange(4), 100)
    views = [weights, outputs]
    assert clusters(views, chain).mode.tolist() == [0] * 200 + [1] * 200
    assert clusters(views[:1], chain).mode.max() == 0


def modes_of(tree, spec, **options):
    aligned = Aligned.read(relabel.align(tree, spec))
    criterion, chain = relabel.criteria.Mean(), aligned.draws.chain
    return find_modes(aligned.problem, criterion, chain, **options)


def test_copies_of_one_mode_are_one_mode():
    simulated = network((2, 4, 1), "tanh", chains=4, draws=100, switching="chain")
    mode, modes = modes_of(simulated.data, simulated.spec)
    assert len(modes) == 1
    assert (mode == 0).all()
    assert modes[0].rhat < 1.05


def two_modes(*, flipped):
    """Two of four chains with other weights: those of a ReLU unit flipped, or some other ones."""
    simulated = network((3, 3, 1), "relu", chains=4, draws=100, noise=0.03)
    posterior = simulated.clean.copy(deep=True)
    for name in ("W1", "b1"):
        values = posterior[name].values
        values[2:] = -values[2:] if flipped else values[2:] + 5.0
    return posterior, simulated.spec


@pytest.mark.parametrize("flipped", [True, False])
def test_modes_of_one_function_are_named_with_their_cause(flipped):
    posterior, spec = two_modes(flipped=flipped)
    rng = np.random.default_rng(0)
    same = rng.normal(size=(400, 10))  # as if outputs were equal
    mode, modes = modes_of(posterior, spec, outputs=same)
    assert mode.tolist() == [0] * 200 + [1] * 200
    assert modes[1].equivalent_to == 0
    assert ("orientation" in modes[1].cause) == flipped
    apart = same + 30 * (np.arange(400) >= 200)[:, None]
    assert modes_of(posterior, spec, outputs=apart)[1][1].equivalent_to is None


def test_a_sign_that_the_spec_does_not_let_change():
    simulated = network((2, 3, 1), "tanh", chains=4, draws=100, noise=0.03, switching="chain")
    posterior = simulated.clean.copy(deep=True)
    for name in ("W1", "b1", "W2"):
        posterior[name].values[2:] *= -1
    spec = relabel.Spec({"h": "permutation"}, simulated.spec.axes)
    outputs = np.random.default_rng(0).normal(size=(400, 5))
    _, modes = modes_of(posterior, spec, outputs=outputs)
    assert len(modes) == 2
    assert "signs" in modes[1].cause


def test_the_mode_of_highest_density_comes_first():
    posterior, spec = two_modes(flipped=False)
    lp = np.where(np.arange(400) < 200, -50.0, 0.0)
    mode, modes = modes_of(posterior, spec, lp=lp)
    assert [m.lp_median for m in modes] == [0.0, -50.0]
    assert mode.tolist() == [1] * 200 + [0] * 200
    assert [m.chains for m in modes] == [[2, 3], [0, 1]]
    assert modes[1].weight_distance > 5


def test_slots_without_a_label_have_no_say():
    simulated = network((2, 3, 1), "tanh", chains=4, draws=100)
    clean = simulated.clean.copy(deep=True)
    clean["W1"].values[2:, :, :, 1] += 8.0
    read = Aligned.unaligned({"posterior": clean}, simulated.spec)
    chain = read.draws.chain
    assert len(find_modes(read.problem, relabel.criteria.Mean(), chain)[1]) == 2
    loose = {"h": np.array([1])}
    assert len(find_modes(read.problem, relabel.criteria.Mean(), chain, loose=loose)[1]) == 1


def test_what_one_relabelling_brings_together_is_one_mode():
    simulated = network((2, 4, 1), "tanh", chains=4, draws=100, switching="chain", noise=0.03)
    raw = simulated.data["posterior"].to_dataset()
    read = Aligned.unaligned({"posterior": raw}, simulated.spec)
    values = all_features(read.problem, {"h": Monomial.identity((400,), 4)})
    assert clusters([values], read.draws.chain).mode.max() == 3
    assert len(find_modes(read.problem, relabel.criteria.Mean(), read.draws.chain)[1]) == 1
