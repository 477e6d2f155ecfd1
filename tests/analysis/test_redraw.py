"""Scales redrawn after an alignment: posterior draws again, and the way back."""

import json
import warnings
from itertools import pairwise

import numpy as np
import pytest
import xarray as xr
from files import RECORDED
from scipy.stats import kstest, norm

import relabel
from relabel import DataError, Spec, SpecError
from relabel.analysis.redrawing import _without, redraw_scale
from relabel.data.containers import unpack
from relabel.data.provenance import Provenance
from relabel.diagnostics.kernels.scales import scale_law
from relabel.simulate import network

DATA = RECORDED
RELU_PRIORS = {"W1": 1.5, "b1": 1.0, "W2": 1.5, "b2": 1.0}  # as its stored log density tells
ONES = {"W1": 1.0, "b1": 1.0, "W2": 1.0}
SHALLOW = {"W1": "x -> h", "b1": "-> h", "W2": "h -> y", "b2": "-> y"}
DEEP = {"W1": "x -> h1", "b1": "-> h1", "W2": "h1 -> h2", "b2": "-> h2", "W3": "h2 -> y"}


def from_the_prior(sizes, priors, *, chains=4, draws=500, seed=0):
    """Draws of all weights of a network whose posterior is the prior."""
    rng = np.random.default_rng(seed)
    shapes = {}
    for n, (n_in, n_out) in enumerate(pairwise(sizes), 1):
        shapes |= {f"W{n}": (n_in, n_out), f"b{n}": (n_out,)}
    posterior = xr.Dataset(
        {
            name: (
                ("chain", "draw", *(f"{name}_{i}" for i in range(len(shape)))),
                priors.get(name, 1.0) * rng.normal(size=(chains, draws, *shape)),
            )
            for name, shape in shapes.items()
        }
    )
    return xr.DataTree.from_dict({"posterior": posterior})


def weights(data):
    return {name: v.values for name, v in unpack(data)["posterior"].data_vars.items()}


def assert_close(one, two, rtol=1e-9):
    assert one.keys() == two.keys()
    for name, values in one.items():
        np.testing.assert_allclose(two[name], values, rtol=rtol, atol=1e-12)


@pytest.fixture(scope="module")
def simulated():
    return network((2, 3, 1), "relu", chains=2, draws=40, rng=3)


@pytest.fixture(scope="module")
def aligned(simulated):
    return relabel.align(simulated.data, simulated.spec)


# ---------------------------------------------------------------------- a known posterior


@pytest.mark.parametrize("symmetry", ["relu", "square", "linear"])
@pytest.mark.parametrize("gauge", ["balanced", "unit"])
def test_draws_of_the_prior_are_draws_of_the_prior_again(symmetry, gauge):
    """Labels have moved, so the units are pooled: norms have chi laws, signs are even."""
    priors = {"W1": 1.5, "b1": 0.5, "W2": 2.0}
    spec = Spec({"h": symmetry}, SHALLOW, gauges={"h": gauge})
    tree = from_the_prior((2, 3, 2), priors)
    aligned = relabel.align(tree, spec)
    assert_not_of_the_prior(weights(aligned), priors)
    drawn = redraw_scale(aligned, priors, rng=1)
    assert_of_the_prior(weights(drawn), priors)
    assert_close(weights(tree), weights(relabel.undo(drawn)))


def pooled(w, priors):
    """P-values of all entries' absolute values, and of squared norms of units."""
    found = {
        name: kstest(np.abs(w[name]).ravel() / sd, lambda x: 2 * norm.cdf(x) - 1).pvalue
        for name, sd in priors.items()
    }
    into = (w["W1"] ** 2).sum(axis=2) / priors["W1"] ** 2 + w["b1"] ** 2 / priors["b1"] ** 2
    found["in"] = kstest(into.ravel(), "chi2", args=(w["W1"].shape[2] + 1,)).pvalue
    return found


def assert_of_the_prior(w, priors):
    assert min(pooled(w, priors).values()) > 1e-3
    for name, sd in priors.items():
        assert (w[name] ** 2).mean() == pytest.approx(sd**2, rel=0.08)


def assert_not_of_the_prior(w, priors):
    assert min(pooled(w, priors).values()) < 1e-6


def test_neighbouring_layers_are_drawn_together():
    priors = {"W1": 1.0, "b1": 1.0, "W2": 0.5, "b2": 2.0, "W3": 1.0}
    tree = from_the_prior((2, 3, 3, 1), priors, draws=400)
    spec = Spec({"h1": "relu", "h2": "relu"}, DEEP)
    aligned = relabel.align(tree, spec, n_perturbations=0)
    assert_not_of_the_prior(weights(aligned), priors)
    drawn = redraw_scale(aligned, priors, rng=1)
    assert Provenance.of(drawn).redrawn["n_sweeps"] == 12
    assert_of_the_prior(weights(drawn), priors)
    assert_close(weights(tree), weights(relabel.undo(drawn)))


def test_the_start_is_forgotten_in_enough_sweeps():
    """Two starts that meet the same random numbers: the gauge, and scales drawn before."""
    priors = {"W1": 1.0, "b1": 1.0, "W2": 0.5, "b2": 2.0, "W3": 1.0}
    spec = Spec({"h1": "relu", "h2": "relu"}, DEEP)
    tree = from_the_prior((2, 3, 3, 1), priors, chains=2, draws=50)
    aligned = relabel.align(tree, spec, n_perturbations=0)
    other = redraw_scale(aligned, priors, rng=9, n_sweeps=1)
    distances = []
    for n_sweeps in (1, None):
        one, two = (
            weights(redraw_scale(start, priors, rng=2, n_sweeps=n_sweeps))["W2"]
            for start in (aligned, other)
        )
        distances.append(np.abs(np.log(one / two)).max())
    assert distances[0] > 0.1
    assert distances[1] < 1e-3


def test_a_real_posterior():
    """NUTS draws of a ReLU network: its scales wander slowly, redrawn ones are independent."""
    with xr.open_datatree(DATA / "relu_3-4-1.nc", engine="h5netcdf") as file:
        tree = file.load()
    spec = Spec({"h": "relu"}, SHALLOW)
    drawn = redraw_scale(relabel.align(tree, spec), RELU_PRIORS)
    w, raw = weights(drawn), weights(tree)
    values = np.maximum(tree["constant_data"]["X_grid"].values @ w["W1"] + w["b1"][..., None, :], 0)
    f = (values @ w["W2"] + w["b2"][..., None, :])[..., 0]
    np.testing.assert_allclose(
        f, tree["posterior_predictive"]["f_grid"].values, rtol=1e-8, atol=1e-9
    )
    assert_close(raw, weights(relabel.undo(drawn)))
    resolved = spec.bind(tree["posterior"].to_dataset())
    found = scale_law(w, resolved, RELU_PRIORS)["h"]
    assert found.p_value > 0.01
    assert found.ess > 10_000  # of 12800; of the sampler's own scales less than 500
    for name in ("W1", "b1", "W2"):
        assert (w[name] ** 2).mean() == pytest.approx((raw[name] ** 2).mean(), rel=0.15)


# ---------------------------------------------------------------------- what comes out


def test_same_type_and_everything_else_as_it_was(simulated, aligned):
    drawn = redraw_scale(aligned, ONES)
    assert isinstance(drawn, xr.DataTree)
    xr.testing.assert_identical(drawn["constant_data"], aligned["constant_data"])
    xr.testing.assert_identical(drawn["posterior"]["b2"], aligned["posterior"]["b2"])
    for name in ("h_index", "h_margin", "loss", "gap", "start"):
        xr.testing.assert_identical(drawn["relabel"][name], aligned["relabel"][name])
    flat = redraw_scale(
        relabel.align(simulated.data["posterior"].to_dataset(), simulated.spec), ONES
    )
    assert isinstance(flat, xr.Dataset)
    assert_close(weights(drawn), weights(flat), rtol=1e-12)
    xr.testing.assert_allclose(
        relabel.undo(flat), simulated.data["posterior"].to_dataset(), rtol=1e-12
    )


def test_inference_data():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz
    if not arviz.__version__.startswith("0."):
        pytest.skip("arviz 1 has no InferenceData")
    simulated = network((2, 3, 1), "relu", chains=2, draws=10)
    data = arviz.InferenceData(posterior=simulated.data["posterior"].to_dataset())
    drawn = redraw_scale(relabel.align(data, simulated.spec), ONES)
    assert isinstance(drawn, arviz.InferenceData)
    assert_close(weights(data), weights(relabel.undo(drawn)))


def test_one_warning_for_several_sets_goes_with_all_of_them():
    simulated = network((2, 3, 3, 3, 1), ("relu", "sigmoid", "relu"), chains=1, draws=5)
    drawn = redraw_scale(relabel.align(simulated.data, simulated.spec),
                         dict.fromkeys(simulated.data["posterior"].data_vars, 1.0))  # fmt: skip
    assert not any("'h1'" in w or "'h3'" in w for w in Provenance.of(drawn).warnings)
    said = "units 'h1' (relu), 'h2' (relu): x; the draws are a section of the orbit"
    assert _without(said, {"h1": 0}).startswith("units 'h2' (relu): x;")
    assert _without(said, {"h1": 0, "h2": 0}) == ""


def test_the_record_says_so(aligned):
    before, after = (
        Provenance.of(aligned).as_dict(),
        Provenance.of(redraw_scale(aligned, ONES, rng=5)).as_dict(),
    )
    assert any("section of the orbit" in w for w in before["warnings"])
    assert after["warnings"] == []
    assert after["redrawn"] == {"priors": ONES, "seed": 5, "n_sweeps": 1}
    assert after["result"].endswith("; the scales of 'h' were then drawn from their law")
    twice = Provenance.of(redraw_scale(redraw_scale(aligned, ONES), ONES, rng=7)).as_dict()
    assert twice["result"] == after["result"]
    assert twice["redrawn"]["seed"] == 7


def test_the_record_survives_a_file(aligned, tmp_path):
    drawn = redraw_scale(aligned, ONES)
    relabel.save(drawn, tmp_path / "drawn.nc")
    again = relabel.open_draws(tmp_path / "drawn.nc")
    assert_close(weights(drawn), weights(again), rtol=0)
    assert Provenance.of(again).as_dict() == Provenance.of(drawn).as_dict()


def test_the_gauge_and_the_old_scale_do_not_matter(simulated, aligned):
    """The same seed gives the same draws from another gauge, and from redrawn ones."""
    other = Spec(simulated.spec.units, simulated.spec.axes, gauges={"h": "unit"})
    by_unit = relabel.align(simulated.data, other)
    first = redraw_scale(aligned, ONES, rng=2)
    order = [by_unit["relabel"]["h_index"].values, aligned["relabel"]["h_index"].values]
    if np.array_equal(*order):
        assert_close(weights(first), weights(redraw_scale(by_unit, ONES, rng=2)), rtol=1e-6)
    again = redraw_scale(redraw_scale(aligned, ONES, rng=9), ONES, rng=2)
    assert_close(weights(first), weights(again), rtol=1e-6)
    assert not np.allclose(weights(first)["W1"], weights(redraw_scale(aligned, ONES, rng=3))["W1"])


def test_aligning_redrawn_draws_gives_the_alignment_again(simulated, aligned):
    drawn = redraw_scale(aligned, ONES)
    again = relabel.align(drawn, simulated.spec)
    assert_close(weights(aligned), weights(again))
    np.testing.assert_array_equal(aligned["relabel"]["h_index"], again["relabel"]["h_index"])
    np.testing.assert_allclose(aligned["relabel"]["h_factor"], again["relabel"]["h_factor"])
    assert Provenance.of(again).earlier.redrawn["seed"] == 0
    assert any("section of the orbit" in w for w in Provenance.of(again).warnings)
    assert_close(weights(simulated.data), weights(relabel.undo(again)))


def test_lazy_draws_stay_lazy(simulated):
    pytest.importorskip("dask")
    lazy = simulated.data["posterior"].to_dataset().chunk({"draw": 7})
    aligned = relabel.align(lazy, simulated.spec)
    drawn = redraw_scale(aligned, ONES)
    assert drawn["W1"].chunks
    eager = redraw_scale(relabel.align(lazy.compute(), simulated.spec), ONES)
    assert_close(weights(eager), weights(drawn), rtol=1e-12)


def test_other_groups_follow_and_the_warm_up_does_not(simulated):
    posterior = simulated.data["posterior"].to_dataset()
    lp = xr.Dataset({"W1": posterior["W1"]})
    groups = {
        "posterior": posterior,
        "unconstrained_posterior": lp,
        "warmup_posterior": posterior[{"draw": [0, 1]}],
    }
    aligned = relabel.align(xr.DataTree.from_dict(groups), simulated.spec)
    drawn = redraw_scale(aligned, ONES)
    np.testing.assert_array_equal(drawn["unconstrained_posterior"]["W1"], drawn["posterior"]["W1"])
    for group in ("warmup_posterior", "warmup_relabel"):
        xr.testing.assert_identical(drawn[group], aligned[group])
    back = relabel.undo(drawn)
    np.testing.assert_allclose(back["warmup_posterior"]["W1"], groups["warmup_posterior"]["W1"])
    np.testing.assert_allclose(back["unconstrained_posterior"]["W1"], posterior["W1"])


def test_float32_stays(simulated):
    single = simulated.data["posterior"].to_dataset().astype(np.float32)
    drawn = redraw_scale(relabel.align(single, simulated.spec), ONES)
    assert drawn["W1"].dtype == np.float32
    assert_close(weights(single), weights(relabel.undo(drawn)), rtol=1e-4)


def test_layers_without_scales_keep_theirs():
    simulated = network((2, 3, 3, 1), ("tanh", "relu"), chains=2, draws=20)
    aligned = relabel.align(simulated.data, simulated.spec)
    drawn = redraw_scale(aligned, {"W2": 1.0, "b2": 1.0, "W3": 1.0})
    xr.testing.assert_identical(drawn["posterior"]["W1"], aligned["posterior"]["W1"])
    assert Provenance.of(drawn).redrawn["n_sweeps"] == 1
    assert_close(weights(simulated.data), weights(relabel.undo(drawn)))


def test_units_and_draws_without_a_law_are_left(simulated):
    posterior = simulated.data["posterior"].to_dataset().copy(deep=True)
    posterior["W2"].values[0, 3, 1] = 0.0
    posterior["W1"].values[1, 4, 0, 0] = np.nan
    aligned = relabel.align(posterior, simulated.spec, nonfinite="skip")
    drawn = redraw_scale(aligned, ONES)
    notes = Provenance.of(drawn).as_dict()
    assert any("in 1 places (unit and draw) a norm is zero" in w for w in notes["warnings"])
    assert any("not finite" in w for w in notes["warnings"])
    np.testing.assert_array_equal(drawn["W2"].values[1, 4], posterior["W2"].values[1, 4])
    slot = int(np.flatnonzero(aligned["W2"].values[0, 3, :, 0] == 0)[0])
    np.testing.assert_array_equal(
        drawn["W1"].values[0, 3, :, slot], aligned["W1"].values[0, 3, :, slot]
    )
    moved = drawn["W1"].values[0, 3] != aligned["W1"].values[0, 3]
    assert moved.all(axis=0).sum() == 2
    assert len(Provenance.of(redraw_scale(drawn, ONES)).warnings) == len(notes["warnings"])


# ---------------------------------------------------------------------- what is refused


def test_draws_that_were_not_aligned(simulated):
    with pytest.raises(DataError, match="not aligned"):
        redraw_scale(simulated.data, ONES)


def test_units_without_a_scale():
    simulated = network((2, 3, 1), "tanh", chains=2, draws=5)
    aligned = relabel.align(simulated.data, simulated.spec)
    with pytest.raises(SpecError, match=r"no units have a scale .*'h' \(tanh\)"):
        redraw_scale(aligned, ONES)


@pytest.mark.parametrize(
    ("priors", "message"),
    [
        ({"W1": 1.0}, "priors lack 'b1', 'W2'"),
        (ONES | {"W1": -1.0}, "'W1' must be a positive number, not -1.0"),
        (ONES | {"W11": 1.0}, r"unknown variable 'W11' \(did you mean 'W1'\?\)"),
        (ONES | {"W2": "tau"}, "is not supported"),
    ],
)
def test_priors_that_do_not_do(aligned, priors, message):
    with pytest.raises(SpecError, match=message):
        redraw_scale(aligned, priors)


@pytest.mark.parametrize("n_sweeps", [0, -1, 1.5, True, "many"])
def test_numbers_of_sweeps_that_are_none(aligned, n_sweeps):
    with pytest.raises(SpecError, match="n_sweeps must be a positive integer"):
        redraw_scale(aligned, ONES, n_sweeps=n_sweeps)


def noted(aligned, **more):
    """The same draws with further entries in their record."""
    groups = unpack(aligned)
    own = groups["relabel"].copy()
    own.attrs = {"relabel": json.dumps(json.loads(own.attrs["relabel"]) | more)}
    return xr.DataTree.from_dict(groups | {"relabel": own})


def test_reduced_draws(aligned):
    with pytest.raises(DataError, match="reduced"):
        redraw_scale(noted(aligned, reduced={"tolerance": 1.0}), ONES)


def test_a_diagnosis_of_other_values_is_taken_out(aligned):
    diagnosed = noted(aligned, diagnosis={"findings": []}, added=["h_soft", "gone"])
    diagnosed["relabel"]["h_soft"] = diagnosed["relabel"]["h_margin"]
    drawn = redraw_scale(diagnosed, ONES)
    assert "h_soft" not in drawn["relabel"]
    assert not {"diagnosis", "added"} & Provenance.of(drawn).as_dict().keys()
    assert "h_margin" in drawn["relabel"]


def test_a_variable_that_was_taken_out(aligned):
    flat = unpack(aligned)
    short = xr.DataTree.from_dict(flat | {"posterior": flat["posterior"].drop_vars("b1")})
    with pytest.raises(DataError, match="names posterior/b1, which the draws do not have"):
        redraw_scale(short, ONES)


def test_the_record_is_plain_json(aligned):
    drawn = redraw_scale(
        aligned, {name: np.float64(sd) for name, sd in ONES.items()}, rng=np.int64(4)
    )
    assert json.loads(unpack(drawn)["relabel"].attrs["relabel"])["redrawn"]["seed"] == 4


def test_a_generator_and_progress(aligned):
    seen = []
    generator = np.random.default_rng(3)
    drawn = redraw_scale(aligned, ONES, rng=generator, progress=lambda *step: seen.append(step))
    assert seen == [("redraw scales", 1, 1)]
    seed = Provenance.of(drawn).redrawn["seed"]
    assert seed == int(np.random.default_rng(3).integers(2**32))
    again = weights(redraw_scale(aligned, ONES, rng=seed))
    for name, values in weights(drawn).items():
        np.testing.assert_array_equal(values, again[name])
    with pytest.raises(SpecError, match="rng must be a non-negative integer or a numpy"):
        redraw_scale(aligned, ONES, rng=-1)
