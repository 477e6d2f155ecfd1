"""The law of the scale of homogeneous units, against SciPy, quadrature and known posteriors."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest
import xarray as xr
from files import RECORDED
from scipy.integrate import quad
from scipy.stats import geninvgauss, kstest

import relabel
from relabel import Spec, SpecError
from relabel.diagnostics.checks.scales import ScaleRow
from relabel.diagnostics.kernels.scales import (
    checked_priors,
    draw_scale,
    enough_sweeps,
    precision_terms,
    scale_cdf,
    scale_law,
    scale_parameters,
    without_prior,
)
from relabel.diagnostics.measurements import plain_values
from relabel.spec.transformation import Transformation

DATA = RECORDED
RELU_PRIORS = {"W1": 1.5, "b1": 1.0, "W2": 1.5, "b2": 1.0}  # as its stored log density tells
SHALLOW = {"W1": "x -> h", "b1": "-> h", "W2": "h -> y", "b2": "-> y"}
DEEP = {
    "W1": "x -> h1",
    "b1": "-> h1",
    "W2": "h1 -> h2",
    "b2": "-> h2",
    "W3": "h2 -> y",
    "b3": "-> y",
}


def from_the_prior(sizes, priors, *, chains=4, draws=500, seed=0):
    """Draws of all weights of a network, as a sampler without data would return them."""
    rng = np.random.default_rng(seed)
    shapes = {}
    for n, (n_in, n_out) in enumerate(pairwise(sizes), 1):
        shapes |= {f"W{n}": (n_in, n_out), f"b{n}": (n_out,)}
    return xr.Dataset(
        {
            name: (
                ("chain", "draw", *(f"{name}_{i}" for i in range(len(shape)))),
                priors[name] * rng.normal(size=(chains, draws, *shape)),
            )
            for name, shape in shapes.items()
        }
    )


def values_of(dataset):
    return {name: variable.values for name, variable in dataset.data_vars.items()}


# ---------------------------------------------------------------------- one scale


@pytest.mark.parametrize(("n_in", "n_out"), [(1, 1), (4, 1), (1, 6), (11, 10), (30, 2)])
def test_relu_scales_are_generalised_inverse_gaussian(n_in, n_out):
    rng = np.random.default_rng(0)
    a, b = 10 ** rng.uniform(-3, 4, size=(2, 60))
    t = draw_scale(n_in, n_out, a, b, rng)
    law = geninvgauss((n_in - n_out) / 2, np.sqrt(a * b), scale=np.sqrt(b / a))
    np.testing.assert_allclose(
        scale_cdf(n_in, n_out, a, b, at=t), law.cdf(np.exp(2 * t)), atol=1e-5
    )


def test_the_law_is_that_of_norms_and_their_ratio():
    """With r = |(w, b)|, s = |v|, m = rs, t = log(r / s) / 2: as written down elsewhere."""
    n_in, n_out, sd_in, sd_out, m, t = 5, 3, 1.5, 0.7, 2.0, 0.4

    def density(t):
        return np.exp(
            t * (n_in - n_out) - m / 2 * (np.exp(2 * t) / sd_in**2 + np.exp(-2 * t) / sd_out**2)
        )

    r, s = math.sqrt(m) * math.exp(t), math.sqrt(m) * math.exp(-t)
    found = scale_cdf(n_in, n_out, np.array((r / sd_in) ** 2), np.array((s / sd_out) ** 2))
    expected = quad(density, -10, t)[0] / quad(density, -10, 10)[0]
    assert float(found) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("degree", [1, 2, 3, 5])
@pytest.mark.parametrize(
    ("a", "b"), [(3.0, 2.0), (1e-6, 1e-6), (1e-12, 1e4), (1e5, 1e-3), (1e6, 1e6)]
)
@pytest.mark.parametrize("n_in", [1, 7, 40])
def test_any_degree_by_quadrature(degree, a, b, n_in):
    n_out = 4
    p = np.array([0.001, 0.2, 0.5, 0.9, 0.999])
    size = np.full(p.shape, 1.0)
    t = scale_quantiles(n_in, n_out, a * size, b * size, p, degree)
    c = n_in - degree * n_out

    def log_density(x):
        return c * x - (a * np.exp(2 * x) + b * np.exp(-2 * degree * x)) / 2

    grid = np.linspace(t[0] - 4 * (t[2] - t[0]), t[-1] + 4 * (t[-1] - t[2]), 200_001)
    density = np.exp(log_density(grid) - log_density(grid).max())
    mass = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    np.testing.assert_allclose(np.interp(t, grid, mass / mass[-1]), p, atol=1e-4)
    np.testing.assert_allclose(
        scale_cdf(n_in, n_out, a * size, b * size, degree=degree, at=t), p, atol=1e-9
    )


class Fixed:
    """In place of a generator of random numbers: numbers that are known."""

    def __init__(self, numbers):
        self.numbers = numbers

    def random(self, shape):
        return self.numbers.reshape(shape)


def scale_quantiles(n_in, n_out, a, b, p, degree):
    return draw_scale(n_in, n_out, a, b, Fixed(p), degree=degree)


@pytest.mark.parametrize("size", [1e-300, 1e-100, 1e300])
def test_extreme_norms_give_finite_scales(size):
    a = np.full(20, size)
    t = draw_scale(4, 3, a, a, np.random.default_rng(0))
    assert np.isfinite(t).all()
    cdf = scale_cdf(4, 3, a, a)
    assert ((cdf >= 0) & (cdf <= 1)).all()


def test_zero_norms_have_no_law():
    a, b = (
        np.array([[0.0, 1.0, np.nan], [1.0, 1.0, np.inf]]),
        np.array([[1.0, 0.0, 1.0], [1.0, 2.0, 1.0]]),
    )
    lawless = [[True, True, True], [False, False, True]]
    assert (np.isnan(scale_cdf(3, 2, a, b)) == lawless).all()
    assert (np.isnan(draw_scale(3, 2, a, b, np.random.default_rng(0))) == lawless).all()


def test_blocks_of_units_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    a, b = rng.gamma(2.0, size=(2, 50, 3))
    whole = draw_scale(4, 2, a, b, np.random.default_rng(1))
    monkeypatch.setattr("relabel.diagnostics.kernels.scales._ROWS", 7)
    assert np.array_equal(whole, draw_scale(4, 2, a, b, np.random.default_rng(1)))


# ---------------------------------------------------------------------- weights to parameters


def test_weights_are_counted_by_their_arrows():
    rng = np.random.default_rng(0)
    sizes, priors = (2, 3, 4, 1), {"W1": 1.0, "b1": 2.0, "W2": 0.5, "b2": 1.0, "W3": 3.0, "b3": 1.0}
    draws = from_the_prior(sizes, priors, chains=1, draws=5)
    axes = {
        "W1": "x -> h1",
        "b1": "-> h1",
        "W2": "h1 -> h2",
        "b2": "-> h2",
        "W3": "h2 -> y",
        "b3": "-> y",
    }
    resolved = Spec({"h1": "relu", "h2": "square"}, axes).bind(draws)
    w = {name: values[0] for name, values in values_of(draws).items()}
    terms = precision_terms(w, resolved, priors)
    scales = {"h1": rng.lognormal(size=(5, 3)), "h2": rng.lognormal(size=(5, 4))}
    one, two = scales["h1"], scales["h2"]
    n_in, n_out, a, b = scale_parameters(terms, scales, "h1")
    assert (n_in, n_out) == (3, 4)
    np.testing.assert_allclose(a, ((w["W1"] ** 2).sum(1) + w["b1"] ** 2 / 4) * one**2)
    np.testing.assert_allclose(b, ((w["W2"] / 0.5 / one[:, :, None] * two[:, None]) ** 2).sum(2))
    n_in, n_out, a, b = scale_parameters(terms, scales, "h2")
    assert (n_in, n_out) == (4, 1)
    moved = w["W2"] / 0.5 / one[:, :, None] * two[:, None]
    np.testing.assert_allclose(a, (moved**2).sum(1) + (w["b2"] * two) ** 2)
    np.testing.assert_allclose(b, (w["W3"][:, :, 0] / 3 / two**2) ** 2)
    assert without_prior(resolved, {"W1": 1.0, "W2": 1.0}) == ("b1", "b2", "W3")
    assert without_prior(resolved, {"W1": 1.0, "W2": 1.0}, "h1") == ("b1",)


def test_sweeps_are_enough_from_any_start():
    """Starts that differ by factors of e^2 come together, when they meet the same numbers."""
    priors = {"W1": 1.0, "b1": 1.0, "W2": 0.4, "b2": 1.0, "W3": 1.0, "b3": 1.0}
    draws = from_the_prior((2, 6, 6, 1), priors, chains=1, draws=20)
    resolved = Spec({"h1": "relu", "h2": "relu"}, DEEP).bind(draws)
    w = {name: values[0] for name, values in values_of(draws).items()}
    terms = precision_terms(w, resolved, priors)
    shares = [36 / math.sqrt(54 * 48), math.cos(math.pi / 3)]
    assert enough_sweeps(terms) == math.ceil(math.log(1e-3) / math.log(max(shares)))
    ends = []
    for start in (math.exp(-1), math.exp(1)):
        scales = {units: np.full((20, 6), start) for units in resolved.sizes}
        rng = np.random.default_rng(0)
        for _ in range(enough_sweeps(terms)):
            for units in resolved.sizes:
                t = draw_scale(*scale_parameters(terms, scales, units), rng)
                scales[units] = scales[units] * np.exp(t)
        ends.append(np.log(np.stack(list(scales.values()))))
    assert np.abs(ends[0] - ends[1]).max() < 5e-3


def test_one_sweep_is_enough_for_one_layer():
    draws = from_the_prior((2, 3, 1), RELU_PRIORS, chains=1, draws=4)
    arrays = {name: values[0] for name, values in values_of(draws).items()}
    assert enough_sweeps(precision_terms(arrays, shallow(), RELU_PRIORS)) == 1


def test_layouts_of_arrays_do_not_matter():
    rng = np.random.default_rng(0)
    w, v = rng.normal(size=(6, 2, 3, 5)), rng.normal(size=(6, 5, 4, 2))
    sample = ("chain", "draw")
    plain = xr.Dataset(
        {"w": ((*sample, "a", "b", "c"), w[None]), "v": ((*sample, "d", "e", "f"), v[None])}
    )
    flat = xr.Dataset(
        {
            "w": ((*sample, "a", "b"), np.moveaxis(w, 3, 1).reshape(1, 6, 5, 6)),
            "v": ((*sample, "c", "d"), v.reshape(1, 6, 20, 2)),
        }
    )
    first = Spec({"h": "relu"}, {"w": "_ _ -> h", "v": "h _ -> y"}).bind(plain)
    second = Spec({"h": "relu"}, {"w": "h <- x", "v": "(h place) -> y"}, sizes={"place": 4}).bind(
        flat
    )
    found = []
    for resolved, draws in ((first, plain), (second, flat)):
        arrays = {name: values[0] for name, values in values_of(draws).items()}
        terms = precision_terms(arrays, resolved, {"w": 1.0, "v": 2.0})
        found.append(scale_parameters(terms, {"h": np.ones((6, 5))}, "h"))
    assert found[0][:2] == found[1][:2] == (6, 8)
    for one, two in zip(found[0][2:], found[1][2:], strict=True):
        np.testing.assert_allclose(one, two)


# ---------------------------------------------------------------------- priors


def shallow(symmetry="relu", **more):
    """A bound network of one hidden layer, and companions."""
    draws = from_the_prior((2, 3, 1), RELU_PRIORS, chains=1, draws=4)
    axes = SHALLOW | {name: line for name, (line, _) in more.items()}
    extra = {name: (("chain", "draw", f"{name}_0"), np.ones((1, 4, 3))) for name in more}
    return Spec({"h": symmetry}, axes).bind(draws.assign(extra))


@pytest.mark.parametrize(
    ("priors", "message"),
    [
        ([("W1", 1.0)], "priors must be a mapping"),
        ({"W1": 0.0}, "standard deviation of 'W1' must be a positive number, not 0.0"),
        ({"W1": -1}, "a positive number"),
        ({"W1": math.nan}, "a positive number"),
        ({"W1": math.inf}, "a positive number"),
        ({"W1": True}, "one number, not True"),
        (
            {"W1": "tau"},
            "a prior scale of each unit, or one that is itself drawn, is not supported",
        ),
        ({"W1": np.ones(3)}, "is not supported"),
    ],
)
def test_wrong_priors_are_refused(priors, message):
    with pytest.raises(SpecError, match=message):
        checked_priors(shallow(), priors)


@pytest.mark.parametrize("line", ["h^0", "-> h^2"])
def test_companions_must_be_explained(line):
    resolved = shallow(tau=(line, 3))
    with pytest.raises(SpecError, match="'tau' is a companion of the units 'h'"):
        checked_priors(resolved, RELU_PRIORS)
    assert checked_priors(resolved, RELU_PRIORS | {"tau": None})["tau"] is None
    assert without_prior(resolved, RELU_PRIORS) == ()


def test_recurrent_units_are_not_supported():
    rng = np.random.default_rng(0)
    sample = ("chain", "draw")
    shapes = {"W": (2, 3), "U": (3, 3), "V": (3, 1)}
    draws = xr.Dataset(
        {n: ((*sample, f"{n}0", f"{n}1"), rng.normal(size=(1, 4, *s))) for n, s in shapes.items()}
    )
    resolved = Spec({"h": "relu"}, {"W": "x -> h", "U": "h -> h", "V": "h -> y"}).bind(draws)
    with pytest.raises(SpecError, match="'U' carries the units 'h' on two axes"):
        checked_priors(resolved, {"W": 1.0, "U": 1.0, "V": 1.0})


# ---------------------------------------------------------------------- the check of a sampler


@pytest.mark.parametrize("symmetry", ["relu", "square", "x^3", "linear"])
def test_draws_of_the_prior_follow_the_law(symmetry):
    draws = from_the_prior((2, 3, 1), RELU_PRIORS, seed=1)
    resolved = Spec({"h": symmetry}, SHALLOW).bind(draws)
    found = scale_law(values_of(draws), resolved, RELU_PRIORS)["h"]
    assert found.p_value > 0.01
    assert (found.n, found.n_left) == (4 * 500 * 3, 0)
    assert 3000 < found.ess <= 6000
    json.dumps(plain_values(ScaleRow.of(found)), allow_nan=False)


def test_wrong_scales_are_found():
    draws = from_the_prior((2, 3, 1), RELU_PRIORS)
    resolved = Spec({"h": "relu"}, SHALLOW).bind(draws)
    found = scale_law(values_of(draws), resolved, RELU_PRIORS | {"W1": 2.0})["h"]
    assert found.p_value < 1e-6
    assert found.mean < 0.45


def test_the_stored_factor_tells_the_first_scale():
    draws = from_the_prior((2, 3, 2), RELU_PRIORS, draws=100)
    spec = Spec({"h": "relu"}, SHALLOW)
    resolved = spec.bind(draws)
    aligned = relabel.align(xr.DataTree.from_dict({"posterior": draws}), spec)
    stored = Transformation.from_dataset(aligned["relabel"].to_dataset(), ["h"])
    fresh = values_of(aligned["posterior"].to_dataset())
    before = scale_law(values_of(draws), resolved, RELU_PRIORS)["h"]
    after = scale_law(fresh, resolved, RELU_PRIORS, elements=stored.elements)["h"]
    assert after.statistic == pytest.approx(before.statistic, abs=1e-9)
    assert scale_law(fresh, resolved, RELU_PRIORS)["h"].p_value < 1e-6  # the gauge is no draw


def test_deep_networks_use_the_scales_of_all_sets():
    priors = {"W1": 1.0, "b1": 1.0, "W2": 0.5, "b2": 1.0, "W3": 1.0, "b3": 1.0}
    draws = from_the_prior((2, 3, 3, 1), priors, draws=300)
    axes = {"W1": "x -> h1", "b1": "-> h1", "W2": "h1 -> h2", "b2": "-> h2", "W3": "h2 -> y"}
    spec = Spec({"h1": "relu", "h2": "relu"}, axes)
    resolved = spec.bind(draws)
    aligned = relabel.align(xr.DataTree.from_dict({"posterior": draws}), spec, n_perturbations=0)
    stored = Transformation.from_dataset(aligned["relabel"].to_dataset(), ["h1", "h2"])
    fresh = values_of(aligned["posterior"].to_dataset())
    before = scale_law(values_of(draws), resolved, priors)
    after = scale_law(fresh, resolved, priors, elements=stored.elements)
    for units, found in before.items():
        assert found.p_value > 0.01
        assert after[units].statistic == pytest.approx(found.statistic, abs=1e-9)


def test_without_priors_the_question_stays_open():
    resolved = shallow()
    arrays = values_of(from_the_prior((2, 3, 1), RELU_PRIORS, chains=1, draws=4))
    found = scale_law(arrays, resolved, None)["h"]
    assert found.missing == ("W1", "b1", "W2")
    assert plain_values(ScaleRow.of(found))["p_value"] is None
    assert scale_law(arrays, resolved, {"W1": 1.0, "W2": 1.0})["h"].missing == ("b1",)
    assert scale_law(arrays, shallow("tanh"), None) == {}


def test_a_missing_prior_leaves_other_layers_alone():
    priors = {"W1": 1.0, "b1": 1.0, "W2": 1.0, "b2": 1.0}
    draws = from_the_prior((2, 3, 3, 1), priors | {"W3": 1.0, "b3": 1.0}, draws=50)
    resolved = Spec({"h1": "relu", "h2": "relu"}, DEEP).bind(draws)
    found = scale_law(values_of(draws), resolved, priors)
    assert (found["h1"].missing, found["h2"].missing) == ((), ("W3",))
    assert found["h1"].p_value > 0.01
    assert math.isnan(found["h2"].p_value)


def test_of_many_units_some_tell_the_effective_size(monkeypatch):
    draws = from_the_prior((2, 12, 1), RELU_PRIORS)
    resolved = Spec({"h": "relu"}, SHALLOW).bind(draws)
    full = scale_law(values_of(draws), resolved, RELU_PRIORS)["h"]
    monkeypatch.setattr("relabel.diagnostics.kernels.scales._SLOTS", 4)
    part = scale_law(values_of(draws), resolved, RELU_PRIORS)["h"]
    assert part.statistic == full.statistic
    assert part.ess == pytest.approx(full.ess, rel=0.1)


def test_draws_and_units_without_a_law_are_left_out():
    draws = from_the_prior((2, 3, 1), RELU_PRIORS, draws=100)
    resolved = Spec({"h": "relu"}, SHALLOW).bind(draws)
    arrays = values_of(draws)
    arrays["W2"][0, 3, 1] = 0.0
    arrays["W1"][2, 7] = np.nan
    excluded = np.isnan(arrays["W1"]).any(axis=(2, 3))
    found = scale_law(arrays, resolved, RELU_PRIORS, excluded=excluded)["h"]
    assert (found.n, found.n_left) == (399 * 3 - 1, 1)
    assert found.p_value > 0.01
    nothing = scale_law(arrays, resolved, RELU_PRIORS, excluded=np.ones((4, 100), bool))["h"]
    assert plain_values(ScaleRow.of(nothing))["statistic"] is None


def test_nuts_explores_the_scales_of_a_relu_network():
    """All chains, those in lesser modes as well: given the rest, the law is the same everywhere."""
    with xr.open_datatree(DATA / "relu_3-4-1.nc", engine="h5netcdf") as file:
        draws = file["posterior"].to_dataset().load()
    resolved = Spec({"h": "relu"}, SHALLOW).bind(draws)
    arrays = values_of(draws)
    found = scale_law(arrays, resolved, RELU_PRIORS)["h"]
    assert found.p_value > 0.1
    assert found.statistic < 0.03
    assert found.ess < 500  # of 12800: the sampler wanders slowly along the orbits
    assert scale_law(arrays, resolved, RELU_PRIORS | {"W1": 1.0})["h"].p_value < 1e-4


def test_drawn_scales_are_uniform_in_their_law():
    rng = np.random.default_rng(0)
    a, b = rng.gamma(2.0, size=(2, 2000))
    t = draw_scale(5, 2, a, b, rng)
    moved = scale_cdf(5, 2, a * np.exp(2 * t), b * np.exp(-2 * t))
    assert kstest(moved, "uniform").pvalue > 0.01
