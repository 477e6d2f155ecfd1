"""The mean network: what it is, what it is worth, what is said of it."""

import json
from functools import cache

import numpy as np
import pytest
import xarray as xr
from files import RECORDED
from scipy import special, stats

import relabel
from relabel import DataError, SpecError
from relabel.simulate import architecture
from relabel.sources.samples import tree_of

DATA = RECORDED / "sources"
SAMPLE = ("chain", "draw")
NAMES = {
    "weight": ["0.weight", "2.weight", "4.weight"],
    "bias": ["0.bias", "2.bias", "4.bias"],
    "naming": "torch",
}


def relu_network(params, inputs):
    """The forward pass of the recorded networks, in plain NumPy."""
    first = np.maximum(inputs @ params["0.weight"].T + params["0.bias"], 0)
    second = np.maximum(first @ params["2.weight"].T + params["2.bias"], 0)
    return second @ params["4.weight"].T + params["4.bias"]


@cache
def ensemble():
    tree = relabel.open_draws(DATA / "ensemble_10-64-64-1.safetensors")
    with np.load(DATA / "ensemble_10-64-64-1_data.npz") as data:
        return tree, dict(data)


def small(n_chains=2, n_draws=5, n_outputs=1, seed=0, dtype=float):
    """Draws of a small tanh network with every unit in another place."""
    rng = np.random.default_rng(seed)
    shape = (n_chains, n_draws)
    sizes = {"W": (2, 4), "b": (4,), "V": (4, n_outputs), "c": (n_outputs,)}
    centre = {name: rng.normal(size=size) for name, size in sizes.items()}
    draws = {n: m + 0.05 * rng.normal(size=(*shape, *m.shape)) for n, m in centre.items()}
    for place in np.ndindex(shape):
        order = rng.permutation(4)
        draws["W"][place] = draws["W"][place][:, order]
        draws["b"][place] = draws["b"][place][order]
        draws["V"][place] = draws["V"][place][order]
    dims = {"W": ("x", "h"), "b": ("h",), "V": ("h2", "y"), "c": ("y",)}
    return xr.Dataset({n: ((*SAMPLE, *dims[n]), v.astype(dtype)) for n, v in draws.items()})


SPEC = relabel.Spec(
    {"h": "tanh"}, {"W": "x -> h", "b": "-> h", "V": "h -> y", "c": "-> y"}
)  # fmt: skip


def outputs(params, inputs):
    return np.tanh(inputs @ params["W"] + params["b"]) @ params["V"] + params["c"]


def member(posterior, chain, draw):
    return {name: posterior[name].values[chain, draw] for name in ("W", "b", "V", "c")}


@pytest.mark.parametrize("symmetry", ["relu", "permutation"])
def test_mean_of_an_aligned_ensemble_is_better_than_without(symmetry):
    """Nearer weights need not make a better mean network, but these make one of some use."""
    tree, data = ensemble()
    aligned = relabel.align(
        tree, relabel.mlp(2, symmetry, **NAMES), criterion="mean", n_perturbations=0
    )
    found = relabel.average(
        aligned, forward=relu_network, inputs=data["X_test"], targets=data["y_test"]
    )
    assert found.loss.before == pytest.approx(0.831, abs=0.001)
    assert found.loss.mean_network < found.loss.members.mean()
    assert found.loss.ensemble == pytest.approx(0.646, abs=0.001)
    np.testing.assert_allclose(found.loss.members, data["metrics"][:, 1], rtol=1e-5)
    if symmetry == "relu":  # the spec says how to evaluate it
        alone = relabel.average(aligned, inputs=data["X_test"], targets=data["y_test"])
        assert alone.loss.mean_network == pytest.approx(found.loss.mean_network, rel=1e-5)


def test_snapshots_of_one_basin_stay_as_they_are():
    _, data = ensemble()
    with np.load(DATA / "sgmcmc_10-64-64-1_first10.npz") as stored:
        tree = tree_of(dict(stored), source="a test", sample_dims="draw")
    aligned = relabel.align(tree, relabel.mlp(2, "permutation", **NAMES))
    own = aligned["relabel"]
    notes = json.loads(own.attrs["relabel"])
    flags = dict(zip(own["start"].attrs["flag_values"],
                     own["start"].attrs["flag_meanings"].split(), strict=True))  # fmt: skip
    assert {flags[value] for value in own["start"].values.flat} == {"identity"}
    assert (own["h1_index"].values == np.arange(64)).all()
    assert max(notes["losses"]) <= notes["loss_before"] + 1e-9 * abs(notes["loss_before"])
    found = relabel.average(
        aligned, forward=relu_network, inputs=data["X_test"], targets=data["y_test"]
    )
    assert found.loss.mean_network == found.loss.before


def test_mean_of_every_variable_in_the_dtype_of_the_draws():
    draws = small(dtype=np.float32).assign(
        n_batches=(SAMPLE, np.full((2, 5), 7)), step=(SAMPLE, np.arange(10).reshape(2, 5))
    )
    draws["W"].attrs["source_name"] = "layer/W"
    draws.attrs["source"] = "a test"
    aligned = relabel.align(draws, SPEC)
    found = relabel.average(aligned)
    assert found.data.sizes == {"chain": 1, "draw": 1, "x": 2, "h": 4, "h2": 4, "y": 1}
    assert found.data["n_batches"].item() == 7
    assert "step" not in found.data
    assert any("'step'" in note for note in found.notes)
    assert found.data["W"].dtype == np.float32
    assert found.data["W"].attrs == {"source_name": "layer/W"}
    assert found.data.attrs == {"source": "a test"}
    exact = aligned["W"].values.astype(float).mean(axis=(0, 1))
    np.testing.assert_allclose(found.data["W"].values[0, 0], exact, rtol=1e-7)
    assert found.n_draws == 10


def test_same_container_comes_out():
    posterior = small()
    rng = np.random.default_rng(1)
    groups = {
        "posterior": posterior,
        "sample_stats": xr.Dataset({"lp": (SAMPLE, rng.normal(size=(2, 5)))}),
        "constant_data": xr.Dataset({"X": (("obs", "x"), rng.normal(size=(7, 2)))}),
        "observed_data": xr.Dataset({"y": ("obs", rng.normal(size=7))}),
    }
    found = relabel.average(relabel.align(xr.DataTree.from_dict(groups), SPEC))
    assert isinstance(found.data, xr.DataTree)
    assert set(found.data.children) == {"posterior", "constant_data", "observed_data"}
    assert found.data["posterior"].sizes["draw"] == 1
    assert found.loss.n_inputs == 7  # inputs and targets are found
    assert found.loss.members.shape == (10,)


def test_inference_data_comes_out():
    az = pytest.importorskip("arviz")
    if not az.__version__.startswith("0."):
        pytest.skip("arviz 1 has no InferenceData")
    data = az.InferenceData(posterior=small())
    found = relabel.average(relabel.align(data, SPEC))
    assert type(found.data) is az.InferenceData
    assert found.data.groups() == ["posterior"]


def test_losses_are_those_of_plain_sums(monkeypatch):
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(6, 2)), rng.normal(size=(6, 3))
    draws = small(n_outputs=3)
    aligned = relabel.align(draws, SPEC)
    found = relabel.average(aligned, inputs=x, targets=y).loss
    all_outputs = np.array([outputs(member(draws, *at), x) for at in np.ndindex(2, 5)])
    np.testing.assert_allclose(found.members, np.square(all_outputs - y).mean(axis=(1, 2)))
    assert found.ensemble == pytest.approx(np.square(all_outputs.mean(axis=0) - y).mean())
    for value, kept in ((found.before, draws), (found.mean_network, aligned)):
        mean = {n: kept[n].values.mean(axis=(0, 1)) for n in ("W", "b", "V", "c")}
        assert value == pytest.approx(np.square(outputs(mean, x) - y).mean())
    monkeypatch.setattr("relabel.analysis.averaging._CELLS", 1)
    cut = relabel.average(aligned, inputs=x, targets=y).loss
    np.testing.assert_allclose(cut.members, found.members)
    assert cut.ensemble == pytest.approx(found.ensemble)


@pytest.mark.parametrize("family", ["normal", "bernoulli", "categorical"])
def test_predictive_densities(family):
    rng = np.random.default_rng(3)
    n_outputs = {"normal": 2, "bernoulli": 1, "categorical": 3}[family]
    x = rng.normal(size=(6, 2))
    sigma = rng.uniform(0.5, 1.0, size=(2, 5))
    draws = small(n_outputs=n_outputs).assign(sigma=(SAMPLE, sigma))
    f = np.array([outputs(member(draws, *at), x) for at in np.ndindex(2, 5)])
    if family == "normal":
        y = rng.normal(size=(6, 2))
        density = stats.norm.pdf(y, f, sigma.reshape(-1, 1, 1)).prod(axis=2)
    elif family == "bernoulli":
        y = rng.integers(2, size=6)
        density = stats.bernoulli.pmf(y, special.expit(f[..., 0]))
    else:
        y = rng.integers(3, size=6)
        density = special.softmax(f, axis=-1)[:, np.arange(6), y]
    told = relabel.Likelihood(family, scale="sigma" if family == "normal" else None)
    aligned = relabel.align(draws, SPEC)
    weights = rng.uniform(size=(2, 5))
    found = relabel.average(aligned, inputs=x, targets=y, likelihood=told, weights=weights)
    np.testing.assert_allclose(found.loss.members, -np.log(density).mean(axis=1))
    share = weights.reshape(-1) / weights.sum()
    assert found.loss.ensemble == pytest.approx(-np.log(share @ density).mean())
    assert family in found.loss.measure
    assert found.data["sigma"].item() == pytest.approx((weights * sigma).sum() / weights.sum())


def test_which_draws_take_part():
    draws = small()
    draws["W"][0, 2, 0, 0] = np.nan
    aligned = relabel.align(draws, SPEC, nonfinite="skip")
    found = relabel.average(aligned)
    assert found.n_draws == 9
    assert np.isfinite(found.data["W"]).all()
    assert any("not finite" in note for note in found.notes)
    one = relabel.average(aligned, chains=[1])
    assert one.n_draws == 5
    np.testing.assert_allclose(one.data["W"][0, 0], aligned["W"].values[1].mean(axis=0))
    weights = np.zeros((2, 5))
    weights[1, 3] = 2.0
    single = relabel.average(aligned, weights=weights).data["V"].values[0, 0]
    np.testing.assert_array_equal(single, aligned["V"].values[1, 3])


def test_chains_without_part_in_the_reference_are_left_out():
    draws = small(n_chains=4)
    lp = np.random.default_rng(0).normal(size=(4, 5))
    lp[2] -= 1000
    tree = xr.DataTree.from_dict(
        {"posterior": draws, "sample_stats": xr.Dataset({"lp": (SAMPLE, lp)})}
    )
    aligned = relabel.align(tree, SPEC, exclude_flagged=True)
    found = relabel.average(aligned)
    assert found.n_draws == 15
    assert any("chains 2 had no part" in note for note in found.notes)
    assert relabel.average(aligned, chains=range(4)).n_draws == 20


def test_scales_and_lazy_draws():
    pytest.importorskip("dask")
    spec = relabel.Spec({"h": "relu"}, SPEC.axes)
    eager = relabel.align(small(), spec)
    lazy = relabel.align(small().chunk({"draw": 2}), spec)
    x, y = np.ones((3, 2)), np.ones(3)
    one, two = (relabel.average(a, inputs=x, targets=y) for a in (eager, lazy))
    xr.testing.assert_allclose(one.data, two.data, rtol=1e-13)
    assert one.loss.before == pytest.approx(two.loss.before)


@pytest.mark.parametrize("name", ["bn.running_var", "batch_stats.BatchNorm_0.mean"])
def test_running_statistics_are_told(name):
    draws = small().assign({name: (SAMPLE, np.ones((2, 5)))})
    found = relabel.average(relabel.align(draws, SPEC))
    assert any(f"running statistics of batch norms ({name!r})" in note for note in found.notes)


def test_names_of_the_source_reach_the_function():
    draws = small()
    draws["W"].attrs["source_name"] = "dense/W"
    seen = []

    def forward(params, inputs):
        seen.append(sorted(params))
        return outputs(params | {"W": params["dense/W"]}, inputs)[:, 0]

    aligned = relabel.align(draws, relabel.Spec({"h": "permutation"}, SPEC.axes))
    found = relabel.average(aligned, forward=forward, inputs=np.ones((3, 2)), targets=np.ones(3))
    assert found.loss is not None
    assert seen[0] == ["V", "b", "c", "dense/W"]


def test_a_file_of_it_holds_one_network(tmp_path):
    tree, _ = ensemble()
    spec = relabel.mlp(2, "relu", **NAMES)
    mean = relabel.average(relabel.align(tree, spec, n_perturbations=0)).data
    for suffix in ("npz", "safetensors"):
        relabel.save(mean, tmp_path / f"mean.{suffix}")
        read = relabel.open_draws(tmp_path / f"mean.{suffix}", sample_dims="")["posterior"]
        assert set(read.data_vars) == set(tree["posterior"].data_vars)
        np.testing.assert_array_equal(
            read["2.weight"].values, mean["posterior"]["2.weight"].values, strict=True
        )


def test_account_of_it():
    aligned = relabel.align(small(), SPEC)
    found = relabel.average(aligned, inputs=np.ones((3, 2)), targets=np.ones(3))
    told = json.loads(found.to_json())
    assert told["loss"]["mean_network"] == found.loss.mean_network
    assert len(told["loss"]["members"]) == 10
    assert "mean network before alignment" in str(found)
    assert len(str(found).splitlines()) == 5


@pytest.mark.parametrize(
    ("symmetry", "options", "said"),
    [
        ("permutation", {"inputs": np.ones((3, 2))}, "does not name one activation function; pass"),
        ("tanh", {}, "no inputs are known"),
        ("tanh", {"inputs": np.ones((3, 2))}, "no targets are known"),
        ("tanh", {"forward": outputs}, "forward needs inputs"),
    ],
)
def test_why_there_is_no_loss(symmetry, options, said):
    spec = relabel.Spec({"h": symmetry}, SPEC.axes)
    found = relabel.average(relabel.align(small(), spec), **options)
    assert found.loss is None
    assert any(note.startswith("no loss: ") and said in note for note in found.notes)
    assert said in str(found)
    assert found.as_dict()["loss"] is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"chains": [5]}, "there is no chain 5"),
        ({"weights": np.ones((5, 2))}, r"shape \(chain, draw\)"),
        ({"weights": -np.ones((2, 5))}, "must be finite non-negative numbers"),
        ({"inputs": np.ones((3, 2)), "targets": np.ones(4)}, "there are 3 inputs"),
        ({"inputs": np.ones((3, 4)), "targets": np.ones(3)}, "reads"),
        ({"inputs": "constant_data/X"}, "no variable 'constant_data/X'"),
        ({"forward": "tanh"}, "forward must be a function"),
        (
            {"forward": lambda p, x: 1.0, "inputs": np.ones(3), "targets": np.ones(3)},
            "forward returned",
        ),
        ({"likelihood": "normal"}, "needs a standard deviation"),
        ({"likelihood": relabel.Likelihood("normal", scale="sigm")}, "no variable 'sigm'"),
        ({"likelihood": 3}, "must be a relabel.Likelihood or the name of a family .*, not 3"),
        (
            {"inputs": np.ones((3, 2)), "targets": np.full(3, 2), "likelihood": "bernoulli"},
            "not Bernoulli",
        ),
        (
            {"inputs": np.ones((3, 2)), "targets": np.full(3, 2.5), "likelihood": "categorical"},
            "not categorical",
        ),
        ({"inputs": np.full((3, 2), np.nan)}, "finite"),
    ],
)
def test_what_does_not_fit_is_refused(options, said):
    aligned = relabel.align(small(), SPEC)
    with pytest.raises(SpecError, match=said):
        relabel.average(aligned, **options)


def test_classes_found_beside_the_draws_need_their_likelihood_named():
    data = xr.Dataset({"X": (("obs", "i"), np.random.default_rng(1).normal(size=(12, 2)))})
    observed = xr.Dataset({"y": ("obs", np.arange(12) % 3)})
    groups = {"posterior": small(n_outputs=3), "constant_data": data, "observed_data": observed}
    aligned = relabel.align(xr.DataTree.from_dict(groups), SPEC)
    found = relabel.average(aligned)
    assert found.loss is None
    assert 'say likelihood="categorical"' in found.notes[0]
    assert relabel.average(aligned, likelihood="categorical").loss.mean_network > 0
    with pytest.raises(SpecError, match=r"targets.*; for categorical targets, say lik"):
        relabel.average(aligned, targets="observed_data/y")
    given = {"forward": outputs, "inputs": np.ones((12, 2))}
    with pytest.raises(SpecError, match=r"for categorical targets, say likelihood=.categorical"):
        relabel.average(aligned, **given, targets=np.arange(12) % 3)
    with pytest.raises(SpecError, match="targets") as half:
        relabel.average(aligned, **given, targets=np.arange(12) / 2)
    assert "categorical" not in str(half.value)


def test_draws_must_be_aligned_and_left():
    with pytest.raises(DataError, match="not aligned"):
        relabel.average(small())
    with pytest.raises(DataError, match="no draw is left"):
        relabel.average(relabel.align(small(), SPEC), weights=np.zeros((2, 5)))


def test_inputs_of_an_unknown_activation_are_refused_with_a_remedy():
    tree, data = ensemble()
    spec = relabel.mlp(2, "permutation", **NAMES)
    with pytest.raises(
        SpecError, match=r"'permutation' does not name one .* leave inputs=None, or"
    ):
        relabel.align(tree, spec, inputs=data["X_train"])
    with pytest.raises(SpecError, match="use criterion mean, or fix the spec"):
        relabel.align(tree, spec, criterion="activations")


def convolutional():
    simulated = architecture("lenet", draws=3)
    return simulated.data, simulated.spec


def recurrent():
    rng = np.random.default_rng(0)
    shapes = {"weight_ih_l0": (12, 2), "weight_hh_l0": (12, 3), "bias_ih_l0": (12,),
              "bias_hh_l0": (12,), "fc.weight": (1, 3), "fc.bias": (1,)}  # fmt: skip
    members = [{k: rng.normal(size=v) for k, v in shapes.items()} for _ in range(3)]
    return relabel.sources.from_torch(members), relabel.models.lstm(readout="fc")


def normed():
    rng = np.random.default_rng(0)
    shapes = {"0.weight": (4, 2), "0.bias": (4,), "3.weight": (1, 4), "3.bias": (1,)}
    shapes |= dict.fromkeys(("1.weight", "1.bias", "1.running_mean", "1.running_var"), (4,))
    members = [{k: rng.uniform(0.5, 1, size=v) for k, v in shapes.items()} for _ in range(3)]
    draws = relabel.sources.from_torch(members)
    return draws, relabel.propose(draws, activation="relu").spec


@pytest.mark.parametrize("made", [convolutional, recurrent, normed])
def test_networks_that_are_not_dense_are_told_what_can_be_done(made):
    draws, spec = made()
    x = np.ones((4, 2))
    with pytest.raises(SpecError, match=r"only networks of dense.*: use criterion mean.*forward="):
        relabel.align(draws, spec, criterion="activations")
    with pytest.raises(SpecError, match=r"only networks of dense.*: leave inputs=None.*forward="):
        relabel.align(draws, spec, inputs=x)
    aligned = relabel.align(draws, spec)
    with pytest.raises(SpecError, match=r"only networks of dense layers.*pass forward= to relabel"):
        relabel.diagnose(aligned, inputs=x)
    (note,) = [note for note in relabel.average(aligned, inputs=x).notes if "no loss" in note]
    assert "pass forward=" in note
    assert "arrows" not in note


def stored(**data):
    """Draws with data beside them."""
    groups = {"posterior": small(), "constant_data": xr.Dataset(data)}
    return relabel.align(xr.DataTree.from_dict(groups), SPEC)


def test_inputs_and_targets_have_one_meaning_with_and_without_forward():
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(6, 2)), rng.normal(size=6)
    aligned = stored(X=(("obs", "i"), x), y=("obs", y))
    expected = relabel.average(aligned, inputs=x, targets=y).loss.as_dict()
    for options in (
        {},
        {"inputs": "auto", "targets": "auto"},
        {"inputs": "constant_data/X", "targets": "constant_data/y"},
    ):
        assert relabel.average(aligned, **options).loss.as_dict() == expected
        by_user = relabel.average(aligned, forward=outputs, **options).loss
        np.testing.assert_allclose(by_user.members, expected["members"])
    for given in ({}, {"forward": outputs}):
        for name in ("inputs", "targets"):
            found = relabel.average(aligned, **given, **{name: None})
            assert found.loss is None
            assert f"{name}=None" in found.notes[0]


def test_inputs_that_auto_cannot_choose():
    x = np.ones((6, 2))
    aligned = stored(X=(("obs", "i"), x), Z=(("new", "i"), x))
    for given in ({}, {"forward": outputs}):
        (note,) = relabel.average(aligned, **given).notes
        assert "several variables could be: constant_data/X, constant_data/Z" in note


def test_the_table_and_progress(monkeypatch):
    x = np.random.default_rng(6).normal(size=(4, 2))
    monkeypatch.setattr("relabel.analysis.averaging._CELLS", 1)
    seen = []
    aligned = relabel.align(small(), SPEC)
    loss = relabel.average(
        aligned, inputs=x, targets=x[:, 0], progress=lambda *step: seen.append(step)
    ).loss
    assert seen == [("average", i, 10) for i in range(1, 11)]
    frame = loss.to_dataframe()
    assert frame.index.tolist() == ["members", "before", "mean_network", "ensemble"]
    assert frame.loc["members"].tolist() == [
        loss.members.mean(),
        loss.members.min(),
        loss.members.max(),
    ]
    assert frame.loc["ensemble", "loss"] == loss.ensemble
