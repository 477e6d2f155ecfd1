"""Channels before a BatchNorm: a scale that the normalisation takes away."""

import numpy as np
import pytest
import xarray as xr

import relabel
from relabel import Spec, Transformation
from relabel.analysis.redrawing import redraw_scale
from relabel.data.provenance import Provenance
from relabel.errors import SpecError
from relabel.groups import Action, group_of
from relabel.models.forward_pass import Network
from relabel.simulate.planted import random_element

SAMPLE = ("chain", "draw")
C, D, X, K, Y = 2, 20, 2, 6, 3
SHAPES = {
    "conv": (K, X, 2, 2),
    "bias": (K,),
    "mean": (K,),
    "var": (K,),
    "gamma": (K,),
    "beta": (K,),
    "read": (Y, K),
    "final": (Y,),
}
AXES = {
    "conv": "c <- x ...",
    "bias": "-> c",
    "mean": "-> c",
    "var": "-> c^2",
    "gamma": "c^0",
    "beta": "c^0",
    "read": "y <- c",
    "final": "-> y",
}
SPEC = Spec({"c": "batchnorm"}, AXES)
PATCHES = np.random.default_rng(7).normal(size=(9, X, 2, 2))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def draws_of(rng, noise=0.1):
    variables = {}
    for name, shape in SHAPES.items():
        values = rng.normal(size=shape) + noise * rng.normal(size=(C, D, *shape))
        values = 0.5 + values**2 if name == "var" else values
        variables[name] = ((*SAMPLE, *(f"{name}_dim_{i}" for i in range(len(shape)))), values)
    return xr.Dataset(variables)


def scrambled(rng, draws, spec=SPEC):
    element = random_element(group_of("batchnorm"), (C, D), K, "draw", rng)
    planted = Transformation({"c": element})
    return planted.apply({"posterior": draws}, spec.bind(draws))["posterior"], planted


def outputs(draws, eps):
    """Convolution at some patches, BatchNorm by its running statistics, tanh, a dense layer."""
    v = {name: draws[name].values for name in SHAPES}
    z = np.einsum("cdkxij,nxij->cdnk", v["conv"], PATCHES) + v["bias"][:, :, None]
    z = (z - v["mean"][:, :, None]) / np.sqrt(v["var"][:, :, None] + eps)
    z = np.tanh(z * v["gamma"][:, :, None] + v["beta"][:, :, None])
    return np.einsum("cdnk,cdyk->cdny", z, v["read"]) + v["final"][:, :, None]


def change(one, two, eps):
    before, after = outputs(one, eps), outputs(two, eps)
    return np.abs(after - before).max() / np.abs(before).max()


def test_the_action():
    group = group_of("BatchNorm")
    assert group.action("head") == Action(1, False)
    assert group.action("tail").trivial
    assert group.action("neutral") is None
    assert group.gauges() == ("unit",)
    assert not group.exact


def test_the_function_stays_without_eps_and_nearly_with_it(rng):
    draws = draws_of(rng)
    moved, _ = scrambled(rng, draws)
    assert change(draws, moved, 0.0) < 1e-10
    aligned = relabel.align(moved, SPEC)
    assert change(moved, aligned, 0.0) < 1e-10
    assert 1e-8 < change(moved, aligned, 1e-5) < 1e-2


def test_the_change_with_eps_is_as_the_docstring_says(rng):
    draws, scale, eps = draws_of(rng), 0.1, 1e-4
    element = group_of("batchnorm").identity((C, D), K)
    element.factor[:] = scale
    resolved = SPEC.bind(draws)
    moved = Transformation({"c": element}).apply({"posterior": draws}, resolved)["posterior"]
    var = draws["var"].values
    for name, factor in (("conv", scale), ("bias", scale), ("mean", scale), ("var", scale**2)):
        np.testing.assert_allclose(moved[name], factor * draws[name])
    ratio = (scale / np.sqrt(scale**2 * var + eps)) / (1 / np.sqrt(var + eps))
    np.testing.assert_allclose(ratio, np.sqrt((var + eps) / (var + eps / scale**2)))
    np.testing.assert_allclose(ratio, 1 + eps * (1 - scale**-2) / (2 * var), rtol=3e-4)


def test_labels_norms_undo_and_idempotence(rng):
    draws = draws_of(rng)
    moved, planted = scrambled(rng, draws)
    aligned = relabel.align(moved, SPEC)
    weights = aligned["conv"].values.reshape(C, D, K, -1)
    np.testing.assert_allclose(np.linalg.norm(weights, axis=-1), 1.0)  # biases do not count
    own = {n: str(n).removeprefix("relabel_") for n in aligned if str(n).startswith("relabel_")}
    found = Transformation.from_dataset(aligned[list(own)].rename(own), ["c"]) @ planted
    labels = found.elements["c"].index.reshape(-1, K)
    assert (labels == labels[0]).all()
    undone = relabel.undo(aligned)
    twice = relabel.align(aligned, SPEC)
    for name in draws:
        np.testing.assert_allclose(undone[name], moved[name], rtol=1e-13, atol=1e-15)
        assert np.array_equal(twice[name], aligned[name])
    fresh = relabel.align(draws, SPEC)
    order = (fresh["relabel_c_index"].values.reshape(-1, K)[0], labels[0])
    for name in ("conv", "mean", "var"):
        one = aligned[name].values[:, :, np.argsort(order[1])]
        two = fresh[name].values[:, :, np.argsort(order[0])]
        np.testing.assert_allclose(one, two, rtol=1e-10, atol=1e-12)


def test_without_the_scale_labels_are_lost(rng):
    moved, planted = scrambled(rng, draws_of(rng)[["conv", "mean", "var"]], part := only_written())
    shares = {}
    for symmetry in ("permutation", "batchnorm"):
        aligned = relabel.align(moved, Spec({"c": symmetry}, part.axes))
        index = planted.elements["c"].index.reshape(-1, K)
        found = aligned["relabel_c_index"].values.reshape(-1, K)
        labels = np.take_along_axis(index, found, axis=1)
        shares[symmetry] = np.unique(labels, axis=0, return_counts=True)[1].max() / len(labels)
    assert shares["permutation"] < 0.8
    assert shares["batchnorm"] == 1.0


def only_written():
    return Spec({"c": "batchnorm"}, {name: AXES[name] for name in ("conv", "mean", "var")})


def test_words(rng):
    aligned = relabel.align(draws_of(rng), SPEC)
    warnings = Provenance.of(aligned).warnings
    assert any("before a BatchNorm preserves the likelihood, not the prior" in w for w in warnings)
    assert not any("both declared as biases" in warning for warning in warnings)
    assert "batchnorm" in str(relabel.stats.alignment_report(draws_of(rng), aligned))


def test_diagnose_and_what_is_refused(rng):
    aligned = relabel.align(draws_of(rng), SPEC)
    _, found = relabel.diagnose(aligned, priors={"conv": 1.0})
    assert found.labels_trustworthy
    assert found.numbers["scale_law"] == {}
    with pytest.raises(SpecError, match="no units have a scale that could be redrawn"):
        redraw_scale(aligned, {"conv": 1.0})
    with pytest.raises(SpecError, match="'batchnorm' does not name one activation function"):
        Network.of(Spec({"h": "batchnorm"}, {"W": "x -> h", "V": "h -> y"}).bind(dense(rng)))
    with pytest.raises(SpecError, match="'balanced' is no gauge of 'c'; choose from unit"):
        Spec(SPEC.units, AXES, gauges={"c": "balanced"})
    with pytest.raises(SpecError, match="need an arrow"):
        Spec(SPEC.units, {**AXES, "gamma": "c"}).bind(draws_of(rng))


def dense(rng):
    values = {"W": rng.normal(size=(1, 4, 2, 3)), "V": rng.normal(size=(1, 4, 3, 2))}
    return xr.Dataset({n: ((*SAMPLE, f"{n}_0", f"{n}_1"), v) for n, v in values.items()})
