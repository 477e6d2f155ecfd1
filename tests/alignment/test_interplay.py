"""What one feature of the notation, of gauges or of criteria does where it meets another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import relabel
from relabel import Spec, SpecError
from relabel.models.forward_pass import Network

SAMPLE = ("chain", "draw")
N = (2, 10)


def drawn(**arrays: Any) -> xr.Dataset:
    return xr.Dataset(
        {
            name: ((*SAMPLE, *(f"{name}_dim_{i}" for i in range(values.ndim - 2))), values)
            for name, values in arrays.items()
        }
    )


def random(seed: int, **shapes: tuple[int, ...]) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=(*N, *shape)) for name, shape in shapes.items()}


# ---------------------------------------------------------------------- flips and companions

DEEP = {"W1": "x -> a", "b1": "-> a", "W2": "a -> b", "b2": "-> b", "V": "b -> y", "c": "-> y"}
DEEP_SHAPES = {"W1": (2, 4), "b1": (4,), "W2": (4, 3), "b2": (3,), "V": (3, 1), "c": (1,)}


def deep_outputs(draws: xr.Dataset) -> Any:
    """The outputs of a network of sigmoid units and then tanh units."""
    w = {name: draws[name].values for name in DEEP}
    points = np.random.default_rng(9).normal(size=(5, 2))
    first = 1 / (1 + np.exp(-(points @ w["W1"] + w["b1"][:, :, None])))
    return np.tanh(first @ w["W2"] + w["b2"][:, :, None]) @ w["V"] + w["c"][:, :, None]


@pytest.mark.parametrize(
    "companions",
    [
        {"W2_var": "a^2 -> b^2"},
        {"W2_var": "a^2 -> b^2", "b2_var": "-> b^2"},
        {"b2_var": "-> |b|"},
        {"b2_var": "-> b^0"},
    ],
)
def test_companions_move_no_bias_and_take_up_no_flip(companions: dict[str, str]) -> None:
    weights = random(0, **DEEP_SHAPES)
    beside = {f"{n}_var": weights[n] ** 2 for n in ("W2", "b2") if f"{n}_var" in companions}
    draws = drawn(**weights, **beside)
    spec = Spec({"a": "sigmoid", "b": "tanh"}, DEEP | companions)
    aligned = relabel.align(draws, spec)
    assert (aligned["relabel_a_factor"] < 0).any()
    np.testing.assert_allclose(deep_outputs(aligned), deep_outputs(draws), rtol=1e-10, atol=1e-12)
    for name in beside:
        sort = np.sort(aligned[name].values.reshape(*N, -1))
        np.testing.assert_array_equal(sort, np.sort(draws[name].values.reshape(*N, -1)))
    for name, values in relabel.undo(aligned).items():
        np.testing.assert_allclose(values, draws[name], rtol=1e-12, atol=1e-14)


def test_a_gate_that_is_only_permuted_has_a_bias_of_its_own_kind() -> None:
    units = {"s": "sigmoid", "h": "tanh"}
    axes = {"W": "x -> s", "G": "s -> (h^0 + h)", "d": "-> (h^0 + h)", "V": "h -> y"}
    draws = drawn(**random(1, W=(2, 3), G=(3, 8), d=(8,), V=(4, 1)))
    shifts = Spec(units, axes).bind(draws).shifts
    assert [(s.reader.key, s.bias.key) for s in shifts] == [("G[0]", "d[0]"), ("G[1]", "d[1]")]


def test_a_batchnorm_after_units_that_flip_is_refused() -> None:
    spec = Spec(
        {"s": "sigmoid", "c": "batchnorm"},
        {"W": "x -> s", "b": "-> s", "U": "s -> c", "mean": "-> c", "V": "c -> y"},
    )
    draws = drawn(**random(2, W=(2, 3), b=(3,), U=(3, 4), mean=(4,), V=(4, 1)))
    with pytest.raises(SpecError, match=r"which a BatchNorm follows.*declare 's' 'permutation'"):
        spec.bind(draws)


# ---------------------------------------------------------------------- Gaussians as flat vectors

PLAIN = {"W": "x -> h", "b": "-> h", "V": "h -> y"}
PLAIN_SHAPES: dict[str, tuple[int, ...]] = {"W": (2, 3), "b": (3,), "V": (3, 1)}


def joined(draws: Any) -> Any:
    return np.concatenate([np.asarray(draws[name]).reshape(*N, -1) for name in PLAIN], axis=-1)


@pytest.mark.parametrize("symmetry", ["relu", "tanh", "permutation"])
def test_gaussians_of_a_flat_vector_are_those_of_its_parts(symmetry: str) -> None:
    means = random(3, **PLAIN_SHAPES)
    root = np.random.default_rng(4).normal(size=(*N, 12, 12))
    cov = root @ root.swapaxes(-1, -2) / 12
    apart = relabel.sources.from_gaussian(means, cov=cov, sample_dims="chain draw")
    flat = relabel.sources.from_gaussian(
        {"theta": joined(means)}, cov=cov, sample_dims="chain draw"
    )
    line = {"theta": f"({' + '.join(PLAIN.values())})"}
    spec = relabel.sources.gaussian_spec(flat, Spec({"h": symmetry}, line, sizes={"x": 2, "h": 3}))
    assert spec.axes["covariance"] == f"{line['theta']} {line['theta']}"
    one = relabel.align(
        apart,
        relabel.sources.gaussian_spec(apart, Spec({"h": symmetry}, PLAIN)),
        criterion="wasserstein",
    )
    two = relabel.align(flat, spec, criterion="wasserstein")
    np.testing.assert_allclose(two["relabel/loss"], one["relabel/loss"], rtol=1e-9)
    np.testing.assert_allclose(two["posterior/theta"], joined(one["posterior"]), rtol=1e-12)
    for name in ("posterior/covariance", "relabel/h_index"):
        np.testing.assert_allclose(two[name], one[name], rtol=1e-12)


def test_standard_deviations_of_alternatives_follow_absolute_values() -> None:
    means = random(5, U=(4, 2), W=(2, 4), R=(1, 2), V=(1, 2))
    fits = relabel.sources.from_gaussian(
        means, sd={"W": np.ones((*N, 2, 4))}, sample_dims="chain draw"
    )
    axes = {"W": "(p + q) <- (i|x)", "U": "i <- z", "R": "r <- p", "V": "r <- q"}
    sizes = {"p": 1, "q": 1}
    means_only = Spec({"i": "tanh"}, axes | {"R": "...", "V": "..."}, sizes=sizes)
    assert relabel.sources.gaussian_spec(fits, means_only).axes["W_sd"] == "(p + q) <- (|i| | x)"


@pytest.mark.parametrize("flat", [False, True])
def test_standard_deviations_are_not_centred_and_are_no_biases(flat: bool) -> None:
    weights = random(12, W=(2, 3), V=(3, 4), c=(4,))
    lines = {"W": "x -> h", "V": "h -> y", "c": "-> y"}
    if flat:
        weights = {"t": np.concatenate([v.reshape(*N, -1) for v in weights.values()], axis=-1)}
        lines = {"t": f"({' + '.join(lines.values())})"}
    fits = relabel.sources.from_gaussian(
        weights, sd={n: np.exp(v) for n, v in weights.items()}, sample_dims="chain draw"
    )
    sizes = {"x": 2, "h": 3, "y": 4} if flat else {}
    spec = Spec({"h": "tanh"}, lines, sizes=sizes, gauges={"y": "centred"})
    spec = relabel.sources.gaussian_spec(fits, spec)
    aligned = relabel.align(fits, spec, criterion="wasserstein")
    for name in weights:
        before, after = (
            np.sort(data[f"posterior/{name}_sd"].values.reshape(*N, -1)) for data in (fits, aligned)
        )
        np.testing.assert_array_equal(after, before)
    network = Network.of(spec.bind(fits["posterior"].to_dataset()))
    assert [[bias.key for bias in layer.biases] for layer in network.layers] == [
        [],
        ["t[2]" if flat else "c"],
    ]


# ---------------------------------------------------------------------- recurrent scales


def recurrent(scale: float) -> xr.Dataset:
    shapes = {"W": (3, 2), "U": (3, 3), "V": (1, 3)}
    return drawn(**{name: scale * values for name, values in random(6, **shapes).items()})


def test_recurrent_units_have_no_gauge_of_unit_norms() -> None:
    axes = {"W": "h <- x", "U": "h <- h", "V": "y <- h"}
    spec = Spec({"h": "relu"}, axes, gauges={"h": "unit"})
    with pytest.raises(SpecError, match="use the gauge 'balanced'"):
        spec.bind(recurrent(1.0))
    aligned = relabel.align(recurrent(1.0), Spec({"h": "relu"}, axes))
    assert (relabel.stats.slots(aligned)["confidence"] > 0).all()  # and no division by zero


def test_units_that_read_one_another_have_none_either() -> None:
    axes = {"W": "g <- x", "U": "h <- g", "R": "g <- h", "V": "y <- h"}
    draws = drawn(**random(7, W=(3, 2), U=(2, 3), R=(3, 2), V=(1, 2)))
    Spec({"g": "relu", "h": "relu"}, axes).bind(draws)
    with pytest.raises(SpecError, match="'h' are read by themselves"):
        Spec({"g": "relu", "h": "relu"}, axes, gauges={"h": "unit"}).bind(draws)


# ---------------------------------------------------------------------- flat vectors on average


def test_the_mean_network_of_flat_vectors_is_that_of_their_parts() -> None:
    weights, points = random(8, **PLAIN_SHAPES), np.random.default_rng(1).normal(size=(7, 2))
    line = {"theta": f"({' + '.join(PLAIN.values())})"}
    one = relabel.align(drawn(**weights), Spec({"h": "tanh"}, PLAIN))
    flat = drawn(theta=joined(weights))
    two = relabel.align(flat, Spec({"h": "tanh"}, line, sizes={"x": 2, "h": 3}))
    targets = np.zeros((7, 1))
    found = [relabel.average(a, inputs=points, targets=targets).loss for a in (one, two)]
    assert found[0] is not None
    assert found[1] is not None
    np.testing.assert_allclose(found[1].members, found[0].members, rtol=1e-12)
    np.testing.assert_allclose(found[1].mean_network, found[0].mean_network, rtol=1e-12)


# ---------------------------------------------------------------------- units on both sides alone


def test_units_that_only_stand_on_both_sides_have_a_gaussian_criterion() -> None:
    rng = np.random.default_rng(10)
    matrix, order = rng.normal(size=(4, 4)), rng.permuted(np.tile(np.arange(4), (20, 1)), axis=1)
    values = np.stack([matrix[np.ix_(one, one)] for one in order]).reshape(*N, 4, 4)
    draws = drawn(T=values + 0.01 * rng.normal(size=values.shape))
    aligned = relabel.align(
        draws,
        Spec({"s": "permutation"}, {"T": "s s"}),
        criterion=relabel.criteria.Normal(covariance="full"),
    )
    assert aligned["T"].values.reshape(-1, 4, 4).std(axis=0).max() < 0.03


# ---------------------------------------------------------------------- centred parts


@pytest.mark.parametrize("ending", ["nc", "zarr"])
def test_offsets_of_a_part_are_not_those_of_a_variable_of_that_number(
    ending: str, tmp_path: Path
) -> None:
    weights = random(11, U=(2, 5), U_1=(2, 3))
    axes = {"U": "x -> (h + y)", "U_1": "h -> y"}
    draws = drawn(**weights)
    aligned = relabel.align(draws, Spec({"h": "tanh"}, axes, gauges={"y": "centred"}))
    for values in (aligned["U"].values[..., 2:], aligned["U_1"].values):
        np.testing.assert_allclose(values.mean(axis=-1), 0.0, atol=1e-14)
    relabel.save(aligned, tmp_path / f"a.{ending}")
    back = relabel.undo(relabel.open_draws(tmp_path / f"a.{ending}"))
    for name, values in draws.items():
        np.testing.assert_allclose(back[name], values, rtol=1e-12, atol=1e-14)
