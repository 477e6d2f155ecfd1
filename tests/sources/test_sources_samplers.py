"""Dictionaries and ArviZ data as NumPyro, PyMC, Pyro and TFP return them, without these libraries.

Runs of the libraries themselves are in tests/frameworks.
"""

from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from files import RECORDED

import relabel
from relabel.errors import DataError, SpecError
from relabel.sources.numpyro import _statistics as statistics_of_numpyro
from relabel.sources.numpyro import from_numpyro, to_numpyro
from relabel.sources.pymc import from_pymc
from relabel.sources.pyro import from_pyro
from relabel.sources.tfp import from_tfp

SHAPES = {
    "nn/Dense_0.kernel": (2, 3),
    "nn/Dense_0.bias": (3,),
    "nn/Dense_1.kernel": (3, 1),
    "nn/Dense_1.bias": (1,),
}
SPEC = relabel.mlp(1, "tanh", weight="nn.Dense_{}.kernel", bias="nn.Dense_{}.bias", first=0)


def samples(*lead, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=(*lead, *shape)) for name, shape in SHAPES.items()}


def equal(one, other):
    """The same nested dictionaries, to the bit."""
    if isinstance(one, dict):
        return list(one) == list(other) and all(equal(one[k], other[k]) for k in one)
    return np.array_equal(one, other)


# NumPyro


@pytest.mark.parametrize(("lead", "sample_dims"), [((2, 50), "chain draw"), ((50,), "draw")])
def test_names_of_modules_go_there_and_back(lead, sample_dims, tmp_path):
    given = samples(*lead)
    draws = from_numpyro(given, sample_dims=sample_dims)
    aligned = relabel.align(draws, SPEC)
    relabel.save(aligned, tmp_path / "aligned.nc")
    again = relabel.open_draws(tmp_path / "aligned.nc")
    assert not equal(to_numpyro(again), to_numpyro(draws))
    undone = to_numpyro(relabel.undo(again), group_by_chain="chain" in sample_dims)
    assert equal(undone, given)


def test_statistics_of_hmc_within_gibbs_have_the_names_of_arviz():
    energy, diverging = np.arange(10.0).reshape(2, 5), np.eye(2, 5, dtype=bool)
    fields = {"hmc_state.potential_energy": energy, "hmc_state.diverging": diverging}
    assert equal(statistics_of_numpyro(fields), {"lp": -energy, "diverging": diverging})


def test_samples_are_grouped_by_chain_or_not():
    given = samples(2, 50)
    draws = from_numpyro(given, sample_dims="chain draw")
    flat = to_numpyro(draws)
    assert equal(flat, {name: v.reshape(100, *v.shape[2:]) for name, v in given.items()})


def test_nested_samples_come_back_nested():
    rng = np.random.default_rng(0)
    given = {
        "net": {"l1": {"kernel": rng.normal(size=(2, 50, 3))}, "l2": rng.normal(size=(2, 50))},
        "nn/w": rng.normal(size=(2, 50, 4)),
    }
    draws = from_numpyro(given, sample_dims="chain draw")
    assert set(draws["posterior"].data_vars) == {"net.l1.kernel", "net.l2", "nn.w"}
    assert equal(to_numpyro(draws, group_by_chain=True), given)


def test_one_module_by_its_layers():
    draws = from_numpyro(samples(2, 50), sample_dims="chain draw")
    module = to_numpyro(draws, module="nn")
    assert {name: list(layer) for name, layer in module.items()} == {
        "Dense_0": ["kernel", "bias"],
        "Dense_1": ["kernel", "bias"],
    }
    assert module["Dense_0"]["kernel"].shape == (100, 2, 3)
    with pytest.raises(SpecError, match="no module 'net'; found nn"):
        to_numpyro(draws, module="net")


def test_warmup_data_and_names_of_axes_come_along():
    draws = from_numpyro(
        samples(2, 50),
        sample_dims="chain draw",
        warmup=samples(2, 20, seed=1),
        constant_data={"X": np.ones((6, 2))},
        dims={"nn/Dense_0.bias": ["hidden"]},
        coords={"hidden": ["a", "b", "c"]},
    )
    assert dict(draws["warmup_posterior"].sizes)["draw"] == 20
    for group in ("posterior", "warmup_posterior"):
        assert draws[group]["nn.Dense_0.bias"].dims == ("chain", "draw", "hidden")
        assert draws[group]["hidden"].values.tolist() == ["a", "b", "c"]
    assert draws["constant_data/X"].shape == (6, 2)
    aligned = relabel.align(draws, SPEC)
    assert equal(
        relabel.undo(aligned)["warmup_posterior/nn.Dense_0.kernel"].values,
        samples(2, 20, seed=1)["nn/Dense_0.kernel"],
    )


def test_a_dimension_cannot_have_the_name_of_a_variable():
    given = {"scale": np.ones((2, 50, 3)), "w": np.ones((2, 50, 3, 4, 5))}
    draws = from_numpyro(given, sample_dims="chain draw", dims={"w": ["scale", "draw", "a/b"]})
    assert draws["posterior/w"].dims == ("chain", "draw", "scale_dim", "draw_dim", "a.b")


def test_axes_of_numpyro_that_are_not_clear():
    with pytest.raises(DataError, match="sample_dims='chain draw'"):
        from_numpyro(samples(2, 50))
    with pytest.raises(DataError, match=r"'b' has the shape \(2, 40\)"):
        from_numpyro({"a": np.ones((2, 50)), "b": np.ones((2, 40))}, sample_dims="chain draw")
    with pytest.raises(DataError, match="not list"):
        from_numpyro([np.ones(3)])
    with pytest.raises(DataError, match="float16"):
        from_numpyro({"a": np.ones((2, 50), np.float16)}, sample_dims="chain draw")


# PyMC


def test_arviz_data_pass_through(request):
    path = RECORDED / "samplers" / "pymc_named.nc"
    tree = xr.open_datatree(path, engine="h5netcdf").load()
    kept = from_pymc(tree)
    assert kept.identical(tree)
    assert from_pymc(tree["posterior"].to_dataset())["posterior"].identical(tree["posterior"])


def test_transformed_variables_are_left_out():
    array = (("chain", "draw"), np.ones((2, 5)))
    names = ("sigma", "sigma_log__", "p_simplex__", "x_interval__", "my__own", "W1", "a_log1p__")
    tree = xr.DataTree.from_dict({"posterior": xr.Dataset(dict.fromkeys(names, array))})
    assert list(from_pymc(tree)["posterior"].data_vars) == ["sigma", "my__own", "W1"]


class Trace:
    """As PyMC's MultiTrace."""

    def __init__(self, *lengths, tune=0):
        rng = np.random.default_rng(0)
        self.chains = list(range(len(lengths)))
        self.draws = {
            name: [rng.normal(size=(n, *shape)) for n in lengths]
            for name, shape in (("mu", (3,)), ("s", ()), ("s_log__", ()))
        }
        self.stats = {
            "lp": [rng.normal(size=(n, 1)) for n in lengths],
            "process_time_diff": [np.ones((n, 1)) for n in lengths],
        }
        self.report = SimpleNamespace(n_draws=max(lengths, default=0) - tune)
        self.varnames, self.stat_names = list(self.draws), set(self.stats)

    def __len__(self):
        return len(self.draws["s"][0])

    def get_values(self, name, combine, squeeze):
        assert not combine
        assert not squeeze
        return self.draws[name]

    def get_sampler_stats(self, name, combine, squeeze):
        assert not combine
        assert not squeeze
        return self.stats[name]


def test_a_multitrace_is_laid_out():
    trace = Trace(40, 40, tune=15)
    draws = from_pymc(trace)
    assert list(draws["posterior"].data_vars) == ["mu", "s"]
    mu = np.stack(trace.draws["mu"])
    assert np.array_equal(draws["posterior/mu"], mu[:, 15:])
    assert np.array_equal(draws["warmup_posterior/mu"], mu[:, :15])
    lp = np.stack(trace.stats["lp"])[..., 0]
    assert np.array_equal(draws["sample_stats/lp"], lp[:, 15:])
    assert np.array_equal(draws["warmup_sample_stats/lp"], lp[:, :15])
    assert list(draws["sample_stats"].data_vars) == ["lp"]
    aligned = relabel.align(draws, relabel.mixture(["mu"]))
    assert np.array_equal(relabel.undo(aligned)["posterior/mu"], mu[:, 15:])


def test_names_of_axes_of_a_multitrace():
    model = SimpleNamespace(
        named_vars_to_dims={"mu": ("component",)}, coords={"component": ("a", "b", "c")}
    )
    posterior = from_pymc(Trace(40, 40), model=model)["posterior"]
    assert posterior["mu"].dims == ("chain", "draw", "component")
    assert posterior["component"].values.tolist() == ["a", "b", "c"]


def test_traces_that_are_refused():
    with pytest.raises(DataError, match=r"chain 0 has 40, chain 1 has 30; .*trace\[-30:\]"):
        from_pymc(Trace(40, 30))
    with pytest.raises(DataError, match="no draws"):
        from_pymc(Trace())
    with pytest.raises(DataError, match="no draws"):
        from_pymc(Trace(0, 0))
    with pytest.raises(DataError, match="not dict"):
        from_pymc({})


# Pyro


class Tensor:
    """As a tensor of torch, which leaves its graph and its device before NumPy can have it."""

    def __init__(self, array, ready=False):
        self.array, self.ready = array, ready
        self.shape, self.dtype = array.shape, array.dtype

    def detach(self):
        return self

    def cpu(self):
        return Tensor(self.array, ready=True)

    def __array__(self, dtype=None, copy=None):
        assert self.ready, "can't convert"
        return self.array


class PyroMCMC:
    """As Pyro's MCMC."""

    def __init__(self, given):
        self._samples = given

    def get_samples(self, group_by_chain):
        assert group_by_chain
        return {name: Tensor(value) for name, value in self._samples.items()}

    def diagnostics(self):
        return {"divergences": {"chain 0": [3, 7], "chain 1": []}, "acceptance rate": {}}


def test_pyro_with_its_divergences():
    given = samples(2, 50)
    draws = from_pyro(PyroMCMC(given))
    assert np.array_equal(draws["posterior/nn.Dense_0.kernel"], given["nn/Dense_0.kernel"])
    assert np.argwhere(draws["sample_stats/diverging"].values).tolist() == [[0, 3], [0, 7]]
    relabel.align(draws, SPEC)


def test_dictionaries_of_pyro():
    given = {"w": np.ones((50, 3)), "s": np.ones(50)}
    draws = from_pyro({name: Tensor(value) for name, value in given.items()})
    assert dict(draws["posterior"].sizes) == {"chain": 1, "draw": 50, "w_dim_0": 3}
    with pytest.raises(DataError, match="has not run yet"):
        from_pyro(PyroMCMC({}))
    with pytest.raises(DataError, match="not list"):
        from_pyro([])


# TensorFlow Probability


def test_structures_of_tfp():
    w, s = np.random.default_rng(0).normal(size=(50, 4, 3)), np.ones((50, 4))
    pair = namedtuple("pair", ["w", "s"])
    given = ({"w": w, "s": s}, pair(w, s))
    trees = [from_tfp(g) for g in given] + [from_tfp(g, ["w", "s"]) for g in ([w, s], (w, s))]
    for tree in trees:
        assert tree.identical(trees[0])
        assert np.array_equal(tree["posterior/w"], w.swapaxes(0, 1))
    assert from_tfp(w, ["w"], sample_dims="draw")["posterior"].sizes["w_dim_0"] == 4
    assert dict(from_tfp({"a": {"b": s}})["posterior"].sizes) == {"chain": 4, "draw": 50}


@pytest.mark.parametrize(
    ("given", "names", "message"),
    [
        ([np.ones((5, 4))] * 2, None, "2 tensors without names"),
        ([np.ones((5, 4))] * 2, ["a"], r"2 tensors without names.*not \['a'\]"),
        ([np.ones((5, 4))] * 2, ["a", "a"], "one for each"),
        ({"a": np.ones((5, 4))}, ["b"], "names of their own"),
        ([[np.ones((5, 4))]], ["b"], "samples within samples"),
        ({"a": np.ones((5, 4)), "b": np.ones((5, 3))}, None, "must agree"),
        ({"a": np.ones(5)}, None, "must agree"),
    ],
)
def test_structures_of_tfp_that_are_refused(given, names, message):
    with pytest.raises((SpecError, DataError), match=message):
        from_tfp(given, names)
