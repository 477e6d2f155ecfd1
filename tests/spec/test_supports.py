"""Supports: what a spec declares of scales and probabilities, and what it refuses."""

import numpy as np
import pytest
import xarray as xr

from relabel import hmm, mixture, topic_model
from relabel.errors import SpecError
from relabel.spec.spec import Spec

UNITS = {"k": "permutation"}
BOTH = {"sigma": "positive", "w": "unit_interval"}


def draws(**dims):
    """Draws of variables with these dimensions, all of size 3."""
    return xr.Dataset(
        {n: (("chain", "draw", *d), np.full((1, 4, *(3 for _ in d)), 0.5)) for n, d in dims.items()}
    )


MIXTURE = draws(mu=("k",), sigma=("k",), w=("k",), alpha=())


def test_text_forms():
    spec = Spec(UNITS, {"sigma": "k", "w": "k"}, supports=BOTH)
    assert spec.as_dict()["supports"] == BOTH
    assert Spec.from_dict(spec.as_dict()) == spec
    assert Spec.from_json(spec.to_json()) == spec
    assert Spec.from_toml(spec.to_toml()) == spec
    assert '[supports]\nsigma = "positive"\nw = "unit_interval"\n' in spec.to_toml()
    assert "supports" not in Spec(UNITS).as_dict()
    assert Spec.from_dict({"units": UNITS}).supports == {}


@pytest.mark.parametrize(
    ("supports", "fragment"),
    [
        ({"sigma": "positve"}, r"'sigma' must be .*, not 'positve' \(did you mean 'positive'"),
        ({"sigma": 1}, "supports: 'sigma' must be a string, not 1"),
        ("sigma", "supports must be a table"),
        ({"sigm": "positive"}, r"unknown variable 'sigm' \(did you mean 'sigma'\?\)"),
        ({"alpha": "positive"}, "supports: 'alpha' carries no units"),
    ],
)
def test_refusals(supports, fragment):
    with pytest.raises(SpecError, match=fragment):
        Spec(UNITS, supports=supports).bind(MIXTURE)


@pytest.mark.parametrize(
    ("symmetry", "axes", "name"),
    [
        ("signed", {"L": "x k"}, "L"),
        ("relu", {"W": "x -> k", "V": "k -> y"}, "W"),
        ("relu", {"W": "x -> k", "V": "k -> y", "s": "-> k^2"}, "s"),
        ("orthogonal", {"L": "x k"}, "L"),
    ],
)
def test_values_that_move_have_no_support(symmetry, axes, name):
    data = draws(**{n: ("x", "y") if line.count(" ") != 1 or n == "L" else ("k",)
                    for n, line in axes.items()})  # fmt: skip
    with pytest.raises(SpecError, match=rf"'{name}' is declared positive, but the units 'k' may"):
        Spec({"k": symmetry}, axes, supports={name: "positive"}).bind(data)


def test_scales_that_are_only_permuted_have_a_support():
    data = draws(W=("x", "k"), V=("k", "y"), s=("k",))
    axes = {"W": "x -> k", "V": "k -> y", "s": "k^0"}
    resolved = Spec({"k": "relu"}, axes, supports={"s": "positive"}).bind(data)
    assert {v.name: v.support for v in resolved.variables} == {
        "W": None, "V": None, "s": "positive",
    }  # fmt: skip


def test_labels_and_centred_variables_have_none():
    data = draws(mu=("k",)).assign(z=(("chain", "draw", "obs"), np.zeros((1, 4, 2), int)))
    with pytest.raises(SpecError, match="'z' carries no units"):
        Spec(UNITS, {"mu": "k"}, {"z": "k"}, supports={"z": "positive"}).bind(data)
    data = draws(V=("k", "y"))
    spec = Spec(UNITS, {"V": "k -> y"}, gauges={"y": "centred"}, supports={"V": "positive"})
    with pytest.raises(SpecError, match="gauge 'centred' of 'y' subtracts"):
        spec.bind(data)


def test_a_group_may_be_named():
    groups = {"posterior": MIXTURE, "prior_like": MIXTURE}
    spec = Spec(UNITS, {"mu": "k", "sigma": "k"}, supports={"posterior/sigma": "positive"})
    found = {v.address: v.support for v in spec.bind(groups).variables}
    assert found["posterior/sigma"] == "positive"
    assert found["prior_like/sigma"] is None
    spec = Spec(UNITS, {"mu": "k", "sigma": "k"}, supports={"sigma": "positive"})
    assert {v.support for v in spec.bind(groups).variables if v.name == "sigma"} == {"positive"}


def test_they_go_with_the_variables_that_are_left():
    spec = Spec(UNITS, {"mu": "k", "sigma": "k", "w": "k"}, supports=BOTH)
    left = {"posterior": MIXTURE[["mu", "w"]]}
    assert spec.present_in(left).supports == {"w": "unit_interval"}
    assert spec.remaining_in(left).supports == {"w": "unit_interval"}
    assert [v.support for v in spec.bind_present(left).variables] == [None, "unit_interval"]
    whole = Spec(UNITS, supports=BOTH).bind(MIXTURE).complete_spec()
    assert whole.supports == BOTH
    assert set(whole.axes) == {"posterior/mu", "posterior/sigma", "posterior/w"}


# ---------------------------------------------------------------------- presets


def test_mixtures():
    assert mixture().supports == BOTH
    assert mixture(["mu"]).supports == {}
    assert mixture(["mu", "sigma"]).supports == {"sigma": "positive"}
    assert mixture({"mu": "component d", "sigma": "component d d"}).supports == {}
    assert mixture({"sigma": "component ..."}).supports == {}
    assert mixture({"sigma": "component d"}).supports == {"sigma": "positive"}
    named = mixture(["m", "tau", "rate", "p"], scales=["tau", "rate"], weights="p")
    assert named.supports == {"tau": "positive", "rate": "positive", "p": "unit_interval"}
    assert mixture(scales=(), weights=()).supports == {}
    with pytest.raises(SpecError, match=r"scales name 'tua', which is none .*did you mean 'tau'"):
        mixture(["tau"], scales="tua")


def test_hidden_markov_and_topic_models():
    assert hmm().supports == {"sigma": "positive"}
    assert hmm(["mu", "s"], scales="s", initial="p0").supports == {
        "s": "positive", "p0": "unit_interval",
    }  # fmt: skip
    both = {"beta": "unit_interval", "theta": "unit_interval"}
    assert topic_model(parameters=["alpha"]).supports == both
    assert topic_model(documents=None).supports == {"beta": "unit_interval"}
