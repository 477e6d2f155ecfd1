"""Scales and probabilities compared by logs and logits: the same as logs and logits given."""

import numpy as np
import pytest
import xarray as xr
from scipy.special import logit

import relabel
from relabel.criteria import Mean, Normal
from relabel.data.provenance import Provenance
from relabel.diagnostics.aligned import Aligned
from relabel.errors import DataError
from relabel.matching.draws import Draws
from relabel.matching.features import Unconstrained
from relabel.spec.spec import Spec

DIMS = ("chain", "draw", "component")
UNITS = {"component": "permutation"}
SUPPORTS = {"sigma": "positive", "w": "unit_interval"}
SPEC = Spec(UNITS, {"mu": "component", "sigma": "component", "w": "component"}, supports=SUPPORTS)


def posterior(seed=0, chains=2, n_draws=100, size=3, distance=2.0):
    """Skewed spreads and weights, units shuffled draw by draw."""
    rng = np.random.default_rng(seed)
    shape = (chains, n_draws, size)
    values = {
        "mu": distance * np.arange(size) + rng.normal(size=shape),
        "sigma": np.exp(np.arange(size) + rng.normal(size=shape)),
        "w": rng.dirichlet([0.3, 2.0, 8.0][:size], size=shape[:2]),
    }
    order = np.argsort(rng.random(shape), axis=2)
    return xr.Dataset(
        {name: (DIMS, np.take_along_axis(array, order, 2)) for name, array in values.items()}
    )


def features(draws, criterion=None):
    """Features of all draws by variable, (draws, K)."""
    problem = draws.problem(Normal() if criterion is None else criterion)
    columns = [column.variable for column in problem.layout.columns["component"]]
    values = [problem.block(n).own["component"] for n in range(len(problem.slices))]
    return dict(zip(columns, np.moveaxis(np.concatenate(values), 2, 0), strict=True))


def read(data, spec=SPEC, nonfinite="raise"):
    return Draws.read({"posterior": data}, spec, nonfinite)


def index_of(aligned):
    return aligned["relabel_component_index"].values


# ---------------------------------------------------------------------- the same as given


@pytest.mark.parametrize(
    "criterion", [Normal(), Normal(covariance="full"), Normal(scales="shared")]
)
@pytest.mark.parametrize("seed", range(3))
def test_as_logs_and_logits_that_are_given(criterion, seed):
    data = posterior(seed)
    given = data.assign(sigma=np.log(data["sigma"]), w=(DIMS, logit(data["w"].values)))
    ours = relabel.align(data, SPEC, criterion=criterion)
    theirs = relabel.align(given, UNITS, criterion=criterion)
    np.testing.assert_array_equal(index_of(ours), index_of(theirs))
    np.testing.assert_allclose(ours["relabel_loss"], theirs["relabel_loss"], rtol=1e-9)
    plain = relabel.align(data, UNITS, criterion=criterion)
    assert not np.allclose(ours["relabel_loss"], plain["relabel_loss"], rtol=1e-3)


def test_other_criteria_compare_values_as_they_are():
    data = posterior()
    ours, plain = (relabel.align(data, spec, criterion=Mean()) for spec in (SPEC, UNITS))
    np.testing.assert_array_equal(ours["relabel_loss"], plain["relabel_loss"])


def test_values_written_out_are_not_changed():
    data = posterior()
    aligned = relabel.align(data, SPEC)
    for name in data:
        np.testing.assert_array_equal(np.sort(aligned[name].values), np.sort(data[name].values))
    assert relabel.undo(aligned)[list(data)].equals(data)
    assert Provenance.of(aligned).spec.supports == SUPPORTS


def test_arrays_between_two_sets_stay():
    rng = np.random.default_rng(0)
    data = posterior()[["mu"]].assign(P=((*DIMS, "to"), rng.dirichlet([1.0] * 3, size=(2, 100, 3))))
    axes = {"mu": "component", "P": "component component"}
    spec = Spec(UNITS, axes, supports={"P": "unit_interval"})
    block = read(data, spec).problem(Normal()).block(0)
    flat = data["P"].values.reshape(200, 3, 3)
    np.testing.assert_array_equal(block.pairs[0][..., 0], flat[: len(block)])


def test_integers_and_single_precision():
    data = posterior().astype("float32")
    found = features(read(data.assign(w=data["w"] * np.float32(1 + 1e-7))))
    assert found["sigma"].dtype == float
    assert all(np.isfinite(values).all() for values in found.values())
    counts = posterior().assign(sigma=(DIMS, np.arange(600).reshape(2, 100, 3)))
    assert features(read(counts))["sigma"].min() == np.log(0.5)


# ---------------------------------------------------------------------- zeros and ones


def test_floor():
    data = posterior()
    sigma, w = (data[name].values.copy() for name in ("sigma", "w"))
    sigma[0, 0] = 0.0
    w[0, 0], w[0, 1] = [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]
    found = features(read(data.assign(sigma=(DIMS, sigma), w=(DIMS, w))))
    flat = sigma.reshape(-1, 3)
    np.testing.assert_allclose(found["sigma"][1:], np.log(flat[1:]), rtol=1e-12)
    np.testing.assert_allclose(found["sigma"][0], np.log(0.5 * flat[flat > 0].min()))
    low, high = 0.5 * w[w > 0].min(), 0.5 * (1 - w[w < 1]).min()
    np.testing.assert_allclose(found["w"][0], [np.log(low)] * 2 + [-np.log(high)])
    np.testing.assert_allclose(found["w"][2:], logit(w.reshape(-1, 3)[2:]), rtol=1e-9)


@pytest.mark.parametrize("value", [0.0, 1.0, 5e-324, 1e-310])
def test_constants_and_denormals(value):
    data = posterior()
    constant = (DIMS, np.full((2, 100, 3), value))
    data = data.assign(sigma=constant, w=constant)
    found = features(read(data))
    for name in ("sigma", "w"):
        assert np.isfinite(found[name]).all()
        assert np.ptp(found[name]) == 0
    only = relabel.align(data[["mu"]], UNITS)
    np.testing.assert_array_equal(index_of(relabel.align(data, SPEC)), index_of(only))


def test_zeros_do_not_hide_what_the_others_say():
    data = posterior(distance=8.0)
    sigma = np.where(np.random.default_rng(1).random((2, 100, 3)) < 0.1, 0.0, data["sigma"].values)
    aligned = relabel.align(data.assign(sigma=(DIMS, sigma)), SPEC)
    assert (
        np.argsort(aligned["mu"].values, axis=2) == np.argsort(aligned["mu"].values[0, 0])
    ).all()


# ---------------------------------------------------------------------- refused


NEGATIVE = (
    r"'sigma' is declared positive \(supports\), but 1 of its 600 values are negative, the first "
    "-0.25; .* take 'sigma' out of the table supports"
)


@pytest.mark.parametrize(
    ("name", "value", "fragment"),
    [
        ("sigma", -0.25, NEGATIVE),
        ("w", 1.5, r"'w' is declared unit_interval .* 1 of its 600 values are outside \[0, 1\]"),
        ("w", -0.5, r"outside \[0, 1\], the first -0.5"),
    ],
)
def test_values_outside_are_refused(name, value, fragment):
    data = posterior()
    data[name][1, 3, 2] = value
    with pytest.raises(DataError, match=fragment):
        relabel.align(data, SPEC)
    warm = xr.DataTree.from_dict({"posterior": posterior(), "warmup_posterior": data})
    with pytest.raises(DataError, match=fragment):
        relabel.align(warm, SPEC)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_draws_that_are_left_out_do_not_count(value):
    data = posterior()
    data["mu"][0, 4] = value
    data["sigma"][0, 4] = [-1.0, 0.0, 1e-30]
    found = features(read(data, nonfinite="skip"))
    sound = np.delete(data["sigma"].values.reshape(-1, 3), 4, axis=0)
    np.testing.assert_allclose(found["sigma"], np.log(sound), rtol=1e-12)
    draws = read(data, nonfinite="skip")
    assert draws.unconstrained.floors["posterior/sigma"][0] == 0.5 * sound.min()


def test_a_given_point():
    data = posterior()
    point = data.isel(chain=0, draw=0).copy(deep=True)
    given = data.assign(sigma=np.log(data["sigma"]), w=(DIMS, logit(data["w"].values)))
    problem = read(data).problem(Normal())
    kept = problem.of({name: point[name].values[None] for name in data})
    np.testing.assert_allclose(
        kept.draw(0).own["component"][0, :, 1], given["sigma"][0, 0], rtol=1e-12
    )
    point["sigma"][1] = -2.0
    with pytest.raises(DataError, match="in the given point, variable 'sigma' is declared posi"):
        relabel.align(data, SPEC, criterion=relabel.criteria.ToReference(point))


# ---------------------------------------------------------------------- one scale for all


def test_warmup_on_the_scale_of_the_draws():
    data, warm = posterior(distance=8.0), posterior(7, distance=8.0)
    warm["sigma"][0, :5] = 1e-12
    warm["w"].values[warm["w"].values < 0.01] = 0.0
    tree = xr.DataTree.from_dict({"posterior": data, "warmup_posterior": warm})
    aligned = relabel.align(tree, SPEC)
    means = [aligned[group]["mu"].values for group in ("posterior", "warmup_posterior")]
    order = np.argsort(means[0][0, 0])
    assert all((np.argsort(values, axis=2) == order).all() for values in means)
    assert np.isfinite(aligned["warmup_relabel"]["loss"].values).all()
    lowest = read(data).unconstrained.floors["posterior/sigma"][0]
    # an early spread so small counts as the floor of the draws: its loss says which
    raised = tree.copy()
    raised["warmup_posterior"] = xr.DataTree(warm.assign(sigma=warm["sigma"].clip(min=lowest)))
    other = relabel.align(raised, SPEC)
    np.testing.assert_allclose(
        other["warmup_relabel"]["loss"].values, aligned["warmup_relabel"]["loss"].values, rtol=1e-9
    )


def test_chains_apart_are_on_one_scale():
    data = posterior()
    data["sigma"][1, 0] = [0.0, 1e-6, 1e-6]
    draws = read(data)
    parts = draws.split(np.array([False, True]))
    whole = features(draws)
    for name in data:
        joined = np.concatenate([features(part)[name] for part in parts])
        np.testing.assert_array_equal(joined, whole[name])


def test_flagged_chains_follow():
    data = posterior(chains=4, distance=8.0)
    lp = np.random.default_rng(0).normal(size=(4, 100))
    lp[3] -= 1000
    data["sigma"][3, 0] = 0.0
    stats = xr.Dataset({"lp": (("chain", "draw"), lp)})
    tree = xr.DataTree.from_dict({"posterior": data, "sample_stats": stats})
    aligned = relabel.align(tree, SPEC, exclude_flagged=True)
    assert Provenance.of(aligned).no_part_in_reference == (3,)
    mu = aligned["posterior"]["mu"].values
    assert (np.argsort(mu, axis=2) == np.argsort(mu[0, 0])).all()


def test_the_diagnosis_compares_on_the_same_scale():
    aligned = relabel.align(posterior(), SPEC)
    found = Aligned.read(aligned)
    sigma = np.log(aligned["sigma"].values.reshape(-1, 3))
    seen = found.features("component").values[..., 1]
    np.testing.assert_allclose(seen - seen.mean(), sigma - sigma.mean(), atol=1e-12)
    rows = np.array([3, 8])
    some = found.problem.selected(rows)
    np.testing.assert_allclose(some.block(0).own["component"][..., 1], sigma[rows], rtol=1e-12)
    assert "component" in str(relabel.diagnose(aligned)[1])


def test_the_diagnosis_of_scaled_units_too():
    rng = np.random.default_rng(0)
    values = {
        "W": (("chain", "draw", "input", "unit"), 4.0 + rng.normal(size=(1, 30, 2, 3))),
        "V": (("chain", "draw", "unit"), 5.0 + rng.normal(size=(1, 30, 3))),
        "s": (("chain", "draw", "unit"), np.exp(rng.normal(size=(1, 30, 3)))),
    }
    axes = {"W": "x -> h", "V": "h ->", "s": "h^0"}
    spec = Spec({"h": "relu"}, axes, supports={"s": "positive"})
    aligned = relabel.align(xr.Dataset(values), spec)
    found = Aligned.read(aligned)
    assert found.smooth is not found.problem
    logs = np.log(aligned["s"].values[0])
    seen = found.features("h").values[..., -1]
    np.testing.assert_allclose(seen - seen.mean(), logs - logs.mean(), atol=1e-12)


def test_aligned_again_they_stay():
    once = relabel.align(posterior(), SPEC)
    twice = relabel.align(once, SPEC)
    assert (index_of(twice) == index_of(once)).all() or twice["sigma"].equals(once["sigma"])
    apart = relabel.align(once, UNITS)  # axes and supports of the record
    assert Provenance.of(apart).spec.supports == SUPPORTS


def test_aligned_again_with_other_supports():
    data = posterior(1, distance=1.0)
    without = relabel.align(data, Spec(UNITS, SPEC.axes))
    again, fresh = relabel.align(without, SPEC), relabel.align(data, SPEC)
    assert float(again["relabel_loss"].sum()) <= float(fresh["relabel_loss"].sum()) + 1e-6
    assert relabel.undo(again)[list(data)].equals(data)


def test_nothing_declared_nothing_changed():
    assert (
        Unconstrained.of(Spec(UNITS).bind(posterior()), posterior(), np.zeros((2, 100), bool))
        == Unconstrained()
    )
