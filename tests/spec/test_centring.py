"""The gauge 'centred': shifts that only a softmax or a LayerNorm reads, taken away and kept."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from scipy import special

import relabel
from relabel import Spec, Transformation
from relabel.analysis.redrawing import redraw_scale
from relabel.cli import app as cli
from relabel.data.provenance import Provenance
from relabel.errors import DataError, SpecError
from relabel.groups import group_of
from relabel.models.forward_pass import Network
from relabel.simulate.planted import random_element
from relabel.spec.centring import Offsets, means_over, subtract

C, D, X, H, Y = 2, 15, 3, 5, 4
SAMPLE = ("chain", "draw")
HEAD = {"W": "x -> h", "b": "-> h", "V": "h -> y", "c": "-> y"}
NORMED = {**HEAD, "gamma": "h", "beta": "h"}
ACTIVATIONS = {
    "tanh": np.tanh,
    "sigmoid": special.expit,
    "relu": lambda z: np.maximum(z, 0.0),
    "cos": np.cos,
    "gelu": lambda z: z * special.ndtr(z),
}
SIZES = {"W": (X, H), "b": (H,), "V": (H, Y), "c": (Y,), "gamma": (H,), "beta": (H,)}
INPUTS = np.random.default_rng(5).normal(size=(6, X))


def draws_of(rng, names, noise=0.1, batch=(C, D), dtype=float):
    """Draws about one point, dimensions named as samplers do."""
    variables = {}
    for name in names:
        values = rng.normal(size=SIZES[name]) + noise * rng.normal(size=(*batch, *SIZES[name]))
        core = tuple(f"{name}_dim_{i}" for i in range(len(SIZES[name])))
        variables[name] = ((*SAMPLE, *core), values.astype(dtype))
    return xr.Dataset(variables)


def scrambled(rng, draws, spec):
    """The same draws with a random element each."""
    batch = (draws.sizes["chain"], draws.sizes["draw"])
    resolved = spec.bind(draws)
    elements = {
        units: random_element(group_of(symmetry), batch, resolved.sizes[units], "draw", rng)
        for units, symmetry in spec.units.items()
    }
    planted = Transformation(elements)
    return planted.apply({"posterior": draws}, resolved)["posterior"], planted


def shifted(rng, draws, names, size=10.0):
    """Add numbers along the last axis, another one for every draw and every row."""
    moved = draws.copy()
    for name in names:
        shape = (*draws[name].shape[:-1], 1)
        number = (size * rng.normal(size=shape)).astype(draws[name].dtype)
        moved[name] = draws[name] + number
    return moved


def values_of(draws):
    """Variables as arrays (chain, draw, ...), axes as declared."""
    return {name: draws[name].transpose(*SAMPLE, ...).values for name in SIZES if name in draws}


def softmax_network(draws, activation):
    v = values_of(draws)
    hidden = ACTIVATIONS[activation](INPUTS @ v["W"] + v["b"][..., None, :])
    return special.softmax(hidden @ v["V"] + v["c"][..., None, :], axis=-1)


def layernorm_network(draws, eps=1e-5):
    v = values_of(draws)
    z = INPUTS @ v["W"] + v["b"][..., None, :]
    z = z - z.mean(-1, keepdims=True)
    z = z / np.sqrt((z**2).mean(-1, keepdims=True) + eps)
    z = z * v["gamma"][..., None, :] + v["beta"][..., None, :]
    return np.tanh(z) @ v["V"] + v["c"][..., None, :]


def largest(one, two):
    return max(float(np.abs(one[name].values - two[name].values).max()) for name in two.data_vars)


def same_bits(one, two):
    return all(np.array_equal(one[name].values, two[name].values) for name in two.data_vars)


def case(activation, rng, gauge="y", **options):
    """A softmax network with shifted logits, or one whose units go into a LayerNorm."""
    if gauge == "y":
        spec, moved = Spec({"h": activation}, HEAD, gauges={"y": "centred"}), ("V", "c")
    else:
        spec, moved = Spec({"h": "permutation"}, NORMED, gauges={"h": "centred"}), ("W", "b")
    draws, planted = scrambled(rng, draws_of(rng, spec.axes, **options), spec)
    return spec, draws, shifted(rng, draws, moved), planted


@pytest.fixture
def rng():
    return np.random.default_rng(0)


CASES = [*((name, "y") for name in ACTIVATIONS), ("gelu", "h")]


# ---------------------------------------------------------------------- the laws


@pytest.mark.parametrize(("activation", "gauge"), CASES)
def test_laws(activation, gauge, rng):
    spec, draws, moved, _ = case(activation, rng, gauge)
    aligned = relabel.align(moved, spec)
    # equivariance: a shift makes no difference
    again = relabel.align(draws, spec)
    for name in draws:
        np.testing.assert_allclose(aligned[name], again[name], rtol=0, atol=1e-10)
    # what is written is centred, and only that
    for name in ("V", "c") if gauge == "y" else ("W", "b"):
        assert np.abs(aligned[name].values.mean(-1)).max() < 1e-14
        assert f"relabel_{name}_offset" in aligned
    assert sum(str(name).endswith("_offset") for name in aligned) == 2
    # the function stays
    evaluate = layernorm_network if gauge == "h" else lambda d: softmax_network(d, activation)
    np.testing.assert_allclose(evaluate(aligned), evaluate(moved), rtol=1e-10, atol=1e-12)
    # undo
    assert largest(relabel.undo(aligned), moved) < 1e-13
    # idempotence
    twice = relabel.align(aligned, spec)
    assert same_bits(twice, aligned[list(moved)])
    for name in aligned:
        if str(name).endswith("_offset"):
            assert np.array_equal(twice[name], aligned[name])
    assert largest(relabel.undo(twice), moved) < 1e-13
    # lazy equals eager
    lazy = relabel.align(moved.chunk({"draw": 4}), spec)
    assert all(lazy[name].chunks is not None for name in moved)
    assert same_bits(lazy.compute(), aligned[list(moved)])


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu"])
def test_transformations_compose(activation, rng):
    """Offsets follow the elements, whatever comes first."""
    spec, draws, moved, _ = case(activation, rng)
    resolved = spec.bind(draws)
    none = np.zeros((C, D), bool)
    parts = []
    for data in (draws, moved):
        element = random_element(group_of(activation), (C, D), H, "draw", rng)
        parts.append(Transformation({"h": element}, Offsets.of(resolved, data, none)))
    first, second = parts

    def apply(transformation, data):
        return transformation.apply({"posterior": data}, resolved)["posterior"]

    assert largest(apply(second @ first, moved), apply(second, apply(first, moved))) < 1e-11
    plain = Transformation(second.elements)
    assert largest(apply(plain @ first, moved), apply(plain, apply(first, moved))) < 1e-11
    assert largest(apply(second @ plain, moved), apply(second, apply(plain, moved))) < 1e-11
    for part in (first, second, second @ first):
        assert largest(apply(part.inverse(), apply(part, moved)), moved) < 1e-11
        assert largest(apply(part, apply(part.inverse(), moved)), moved) < 1e-11
        read = Transformation.from_dataset(part.to_dataset(), ["h"], resolved)
        assert same_bits(apply(read, moved), apply(part, moved))


def without_checksums(aligned):
    """As older versions wrote them: values are not compared with the record."""
    record = replace(Provenance.of(aligned), checksums=())
    names = [name for name in aligned if name.startswith("relabel_checksum")]
    return aligned.drop_vars(names).assign_attrs(record.attrs())


def test_a_second_alignment_of_other_values_composes(rng):
    """What was shifted again after the alignment is added to what was kept."""
    spec, _, moved, _ = case("tanh", rng)
    aligned = relabel.align(moved, spec)
    pushed = shifted(rng, aligned, ["V", "c"], 3.0)
    with pytest.raises(DataError, match="are not those that the alignment wrote"):
        relabel.align(pushed, spec)
    aligned, pushed = without_checksums(aligned), without_checksums(pushed)
    twice = relabel.align(pushed, spec)
    assert largest(twice[list(moved)], aligned[list(moved)]) < 1e-12
    offset = relabel.undo(twice)["V"] - relabel.undo(aligned)["V"]
    assert np.abs(offset).max() > 1
    np.testing.assert_allclose(offset.std("V_dim_1"), 0, atol=1e-12)


def test_centring_commutes_with_permutations_of_the_axis_itself(rng):
    spec, _, moved, planted = case("gelu", rng, "h")
    fresh = relabel.align(moved, spec)
    back = planted.inverse().apply({"posterior": moved}, spec.bind(moved))["posterior"]
    again = relabel.align(back, spec)
    index = again["relabel_h_index"].values
    expected = (Transformation.from_dataset(own_of(fresh), ["h"]) @ planted).elements["h"].index
    kinds = {tuple(np.argsort(a)[b]) for a, b in zip(*map(rows, (index, expected)), strict=True)}
    assert len(kinds) == 1  # up to one relabelling of all draws


def rows(index):
    return index.reshape(-1, index.shape[-1])


def own_of(dataset):
    own = {n: str(n).removeprefix("relabel_") for n in dataset if str(n).startswith("relabel_")}
    return dataset[list(own)].rename(own)


# ---------------------------------------------------------------------- what it is for


def share_right(aligned, planted):
    """Share of draws whose labels are those of most draws."""
    found = Transformation.from_dataset(own_of(aligned), ["h"]) @ planted
    _, counts = np.unique(rows(found.elements["h"].index), axis=0, return_counts=True)
    return counts.max() / counts.sum()


def test_shifts_spoil_the_labels_of_layernorm_units_unless_centred():
    """Eight units, told apart by their incoming weights; shifts ten times as large as these."""
    rng = np.random.default_rng(1)
    lines = {"W": "x -> h", "b": "-> h", "V": "h ->"}
    spec = Spec({"h": "permutation"}, lines, gauges={"h": "centred"})
    draws = xr.Dataset()
    for name, shape, noise in (("W", (X, 8), 0.1), ("b", (8,), 0.1), ("V", (8,), 0.5)):
        values = rng.normal(size=shape) + noise * rng.normal(size=(4, 50, *shape))
        draws[name] = ((*SAMPLE, *(f"{name}_{i}" for i in range(len(shape)))), values)
    draws, planted = scrambled(rng, draws, spec)
    wide, bare = shifted(rng, draws, ["W", "b"]), Spec(spec.units, spec.axes)
    assert share_right(relabel.align(draws, bare), planted) == 1.0
    assert share_right(relabel.align(wide, bare), planted) < 0.1
    assert share_right(relabel.align(wide, spec), planted) == 1.0


# ---------------------------------------------------------------------- containers, layouts


def test_trees_warmup_other_groups_and_files(rng, tmp_path):
    spec, _, moved, _ = case("tanh", rng)
    early = shifted(rng, moved.isel(draw=slice(0, 6)), ["V"])
    generated = xr.Dataset({"V": moved["V"] + 1.0})
    groups = {"posterior": moved, "warmup_posterior": early, "posterior_predictive": generated}
    tree = xr.DataTree.from_dict(groups)
    aligned = relabel.align(tree, spec)
    for prefix in ("", "warmup_"):
        assert np.abs(aligned[f"{prefix}posterior"]["V"].mean("V_dim_1")).max() < 1e-13
        assert set(aligned[f"{prefix}relabel"]["V_offset"].dims) == {*SAMPLE, "V_dim_0"}
    left = aligned["posterior_predictive"]["V"].mean("V_dim_1")  # of the posterior only
    assert np.abs(left).max() > 1
    relabel.save(aligned, tmp_path / "a.nc")
    read = relabel.open_draws(tmp_path / "a.nc")
    assert same_bits(read["relabel"].to_dataset(), aligned["relabel"].to_dataset())
    assert Provenance.of(read).offsets == ("V_offset", "c_offset")
    undone = relabel.undo(read)
    for name, dataset in groups.items():
        assert largest(undone[name].to_dataset(), dataset) < 1e-13
    twice = relabel.align(read, spec)
    assert same_bits(twice["posterior"].to_dataset(), aligned["posterior"].to_dataset())
    some = {"draw": slice(3, 6)}
    part = relabel.undo(read.isel(some))["posterior"].to_dataset()
    assert largest(part, moved.isel(some)) < 1e-13


def test_a_warmup_that_lacks_what_is_centred(rng):
    spec, _, moved, _ = case("gelu", rng)
    groups = {"posterior": moved, "warmup_posterior": moved[["W", "b"]].isel(draw=slice(0, 6))}
    aligned = relabel.align(xr.DataTree.from_dict(groups), spec)
    assert "V_offset" in aligned["relabel"]
    assert "V_offset" not in aligned["warmup_relabel"]
    undone = relabel.undo(aligned)
    for name, dataset in groups.items():
        assert largest(undone[name].to_dataset(), dataset) < 1e-13


def test_inference_data(rng):
    arviz = pytest.importorskip("arviz")
    if int(arviz.__version__.split(".", maxsplit=1)[0]) > 0:
        pytest.skip("arviz 1 has no InferenceData")
    spec, _, moved, _ = case("tanh", rng)
    aligned = relabel.align(arviz.InferenceData(posterior=moved), spec)
    assert np.abs(aligned.posterior["V"].mean("V_dim_1")).max() < 1e-13
    assert largest(relabel.undo(aligned).posterior, moved) < 1e-13


def test_apply_to_other_data(rng):
    """Offsets of variables that are there; zero for those that only the other data have."""
    spec, draws, moved, _ = case("gelu", rng)
    aligned = relabel.align(moved, spec)
    assert same_bits(relabel.apply(moved, aligned), aligned[list(moved)])
    part = Spec(spec.units, {"W": "x -> h", "c": "-> y"}, gauges=spec.gauges)
    other = relabel.apply(draws[["W", "c"]], aligned, spec=part)
    assert "relabel_c_offset" in other
    assert "relabel_V_offset" not in other
    subtracted = draws["c"] - aligned["relabel_c_offset"]
    np.testing.assert_allclose(other["c"], subtracted, atol=1e-13)
    assert largest(relabel.undo(other), draws[["W", "c"]]) < 1e-13
    named = draws[["V"]].rename(V="R")
    more = Spec(spec.units, {"R": "h -> y"}, gauges=spec.gauges)
    new = relabel.apply(named, aligned, spec=more)
    assert not new["relabel_R_offset"].values.any()
    assert largest(relabel.undo(new), named) == 0
    wrong = draws[["V"]].isel(V_dim_0=slice(0, 3)).assign(b=draws["b"])
    lines = Spec(spec.units, {"V": "_ -> y", "b": "-> h"}, gauges=spec.gauges)
    with pytest.raises(DataError, match=r"'V' have the shape \(5,\) a draw.* need \(3,\)"):
        relabel.apply(wrong, aligned, spec=lines)


@pytest.mark.parametrize(
    ("line", "shape", "axis"),
    [("y <- h", (Y, H), 0), ("h -> (y s)", (H, Y * 2), None), ("(h -> y)", (H * Y,), None)],
)
def test_layouts(line, shape, axis, rng):
    """Stored (out, in), an axis that is a product, a flattened matrix."""
    draws = draws_of(rng, ["W", "b"])
    values = rng.normal(size=shape) + 0.1 * rng.normal(size=(C, D, *shape))
    draws["V"] = ((*SAMPLE, *(f"V_dim_{i}" for i in range(len(shape)))), values)
    axes = {"W": "x -> h", "b": "-> h", "V": line}
    spec = Spec({"h": "tanh"}, axes, sizes={"y": Y}, gauges={"y": "centred"})
    aligned = relabel.align(draws.transpose(..., *SAMPLE[::-1]), spec)
    found = aligned["V"].transpose(*SAMPLE, ...).values
    split = found.reshape(C, D, *{0: (Y, H)}.get(axis, (H, Y, -1)))
    assert np.abs(split.mean(2 if axis == 0 else 3)).max() < 1e-14
    assert aligned["V"].dims == draws.transpose(..., *SAMPLE[::-1])["V"].dims
    assert largest(relabel.undo(aligned), draws.transpose(..., *SAMPLE[::-1])) < 1e-14


def test_single_precision_stays(rng):
    spec, _, moved, _ = case("tanh", rng, dtype=np.float32)
    aligned = relabel.align(moved, spec)
    assert {aligned[name].dtype for name in moved} == {np.dtype(np.float32)}
    assert np.abs(aligned["V"].mean("V_dim_1")).max() < 1e-6
    assert same_bits(relabel.align(aligned, spec), aligned[list(moved)])
    assert largest(relabel.undo(aligned), moved) < 1e-5


def test_draws_that_are_not_finite_stay(rng):
    spec, _, moved, _ = case("tanh", rng)
    moved["V"][0, 3, 1, 2] = np.inf
    aligned = relabel.align(moved, spec, nonfinite="skip")
    assert np.array_equal(aligned["V"][0, 3], moved["V"][0, 3])
    assert not aligned["relabel_V_offset"][0, 3].values.any()
    lazy = relabel.align(moved.chunk({"draw": 4}), spec, nonfinite="skip")
    assert np.array_equal(lazy["V"], aligned["V"])


def test_large_offsets_leave_nothing_behind(rng):
    values = 1e7 + rng.normal(size=(40, 6))
    once = subtract(values, means_over(values, 1), 1)
    assert np.abs(once.mean(1)).max() < 1e-15
    assert not means_over(once, 1).any()
    assert np.array_equal(subtract(once, np.zeros(40), 1), once)


def test_what_is_read_neutral_or_a_companion_is_left_alone(rng):
    draws = draws_of(rng, NORMED)
    lines = {**NORMED, "beta": "-> h^0"}
    aligned = relabel.align(draws, Spec({"h": "permutation"}, lines, gauges={"h": "centred"}))
    for name in ("gamma", "beta", "V", "c"):
        assert np.array_equal(np.sort(aligned[name], axis=2), np.sort(draws[name], axis=2))


# ---------------------------------------------------------------------- words and messages


def test_the_record_says_what_was_done(rng):
    spec, _, moved, _ = case("tanh", rng)
    notes = Provenance.of(relabel.align(moved, spec)).as_dict()
    assert "what is written to 'y' was centred (this preserves the likelihood" in notes["result"]
    told = "only a softmax or a LayerNorm reads it, not the prior"
    assert any(told in warning for warning in notes["warnings"])
    plain = Provenance.of(relabel.align(moved, Spec(spec.units, spec.axes))).as_dict()
    assert "centred" not in json.dumps(plain)


def test_text_forms():
    spec = Spec({"h": "relu"}, HEAD, gauges={"h": "unit", "y": "centred"})
    assert Spec.from_toml(spec.to_toml()) == spec
    assert Spec.from_json(spec.to_json()) == spec
    assert 'y = "centred"' in spec.to_toml()


@pytest.mark.parametrize(
    ("units", "axes", "gauges", "message"),
    [
        ({"h": "tanh"}, HEAD, {"h": "centred"}, "may change their signs or scales one by one"),
        ({"h": "relu"}, HEAD, {"h": "centred"}, "declare 'h' 'permutation'"),
        ({"h": "sigmoid"}, HEAD, {"h": "centred"}, "LayerNorm"),
        ({"h": "batchnorm"}, HEAD, {"h": "centred"}, "LayerNorm"),
        ({"h": "tanh"}, HEAD, {"z": "centred"}, "no line of axes writes to it"),
        ({"h": "tanh"}, HEAD, {"x": "centred"}, "no line of axes writes to it"),
        ({"h": "tanh"}, HEAD, {"y": "unit"}, "the gauge of an axis that is no units is 'centred'"),
        ({"h": "gelu"}, {"b": "h", "V": "h -> y"}, {"h": "centred"}, "'-> h'"),
    ],
)
def test_specs_that_are_refused(units, axes, gauges, message):
    with pytest.raises(SpecError) as caught:
        Spec(units, axes, gauges=gauges)
    assert message in str(caught.value)


def test_draws_that_are_refused(rng):
    draws = draws_of(rng, HEAD)
    one = Spec({"h": "tanh"}, HEAD, gauges={"y": "centred"})
    with pytest.raises(SpecError, match="the axis 'y' has one entry"):
        one.bind(draws.isel(V_dim_1=[0], c_dim_0=[0]))
    with pytest.raises(DataError, match="'c' has the dtype int64 and is to be centred"):
        one.bind(draws.assign(c=draws["c"].astype(np.int64)))
    lines = {**HEAD, "V": "h -> y z"}
    both = Spec({"h": "tanh"}, lines, gauges={"y": "centred", "z": "centred"})
    with pytest.raises(SpecError, match="centre one of them"):
        both.bind(draws.assign(V=draws["V"].expand_dims("z", -1)))
    named = draws_of(rng, HEAD).rename(W_dim_1="h", b_dim_0="h", V_dim_0="h")
    bare = Spec({"h": "permutation"}, gauges={"V_dim_1": "centred"})
    with pytest.raises(SpecError, match="no variable of the posterior is written to it"):
        bare.bind(named)


def test_a_record_without_its_offsets_is_damaged(rng):
    spec, _, moved, _ = case("tanh", rng)
    aligned = relabel.align(moved, spec)
    with pytest.raises(DataError, match="has no variable 'V_offset'"):
        relabel.undo(aligned.drop_vars("relabel_V_offset"))
    broken = aligned.copy()
    broken["relabel_V_offset"] = aligned["relabel_V_offset"] * np.nan
    with pytest.raises(DataError, match="V_offset does not fit"):
        relabel.undo(broken)
    with pytest.warns(UserWarning, match="not undone.*posterior/c"):
        back = relabel.undo(aligned.drop_vars("c"), partial=True)
    assert largest(back, moved.drop_vars("c")) < 1e-13


def test_the_scales_of_centred_weights_are_not_redrawn(rng):
    spec, _, moved, _ = case("relu", rng)
    with pytest.raises(SpecError, match="align without the gauge 'centred'"):
        redraw_scale(relabel.align(moved, spec), {"W": 1.0, "b": 1.0, "V": 1.0})


def test_the_law_of_the_scale_is_that_of_the_whole_weights(rng):
    """Draws of the prior are so before they are centred, and the diagnosis goes back to them."""
    variables = {
        name: ((*SAMPLE, *(f"{name}_{i}" for i in range(len(SIZES[name])))), values)
        for name in HEAD
        for values in [rng.normal(size=(2, 80, *SIZES[name]))]
    }
    spec = Spec({"h": "relu"}, HEAD, gauges={"y": "centred"})
    aligned = relabel.align(xr.Dataset(variables), spec)
    _, found = relabel.diagnose(aligned, priors=dict.fromkeys(HEAD, 1.0))
    assert found.numbers["scale_law"]["h"]["p_value"] > 0.01


def test_networks(rng):
    """A softmax head can be evaluated; what stands behind a centred layer is not known."""
    draws = draws_of(rng, HEAD)
    Network.of(Spec({"h": "gelu"}, HEAD, gauges={"y": "centred"}).bind(draws))
    with pytest.raises(SpecError, match=r"centred and read on.*LayerNorm"):
        Network.of(Spec({"h": "gelu"}, HEAD, gauges={"h": "centred"}).bind(draws))


def classified(rng, targets):
    """Draws of a softmax network with inputs and targets, the logits shifted."""
    spec, _, moved, _ = case("tanh", rng, batch=(2, 25))
    inputs = rng.normal(size=(40, X))
    data = xr.Dataset({"X": (("obs", "i"), inputs), "y": ("obs", targets)})
    return spec, xr.DataTree.from_dict({"posterior": moved, "constant_data": data})


def test_a_diagnosis_of_a_softmax_network(rng):
    spec, tree = classified(rng, rng.integers(0, Y, 40))
    aligned = relabel.align(tree, spec)
    account = str(relabel.stats.alignment_report(tree, aligned))
    assert "outputs of the network that the spec describes changed by at most" in account
    assert (
        float(
            account.split("outputs of the network that the spec describes changed by at most ")[
                1
            ].split(maxsplit=1)[0]
        )
        < 1e-12
    )
    _, found = relabel.diagnose(aligned)
    assert found.labels_trustworthy


def test_a_likelihood_that_sees_the_shift_is_told(rng):
    spec, tree = classified(rng, rng.normal(size=40))
    data = tree["constant_data"].to_dataset().drop_vars("y")
    tree["constant_data"] = data.assign(y=(("obs", "o"), rng.normal(size=(40, Y))))
    _, found = relabel.diagnose(relabel.align(tree, spec))
    assert "the outputs 'y' were centred, on which a normal likelihood depends" in str(found)


def test_the_command(rng, tmp_path, monkeypatch, capsys):
    _, tree = classified(rng, rng.integers(0, Y, 40))
    tree.to_netcdf(tmp_path / "in.nc", engine="h5netcdf")
    monkeypatch.chdir(tmp_path)

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["relabel", *args])
        with pytest.raises(SystemExit) as end:
            cli.main()
        told = capsys.readouterr()
        assert not end.value.code, told.err
        return told.out

    lines = [word for name, line in HEAD.items() for word in ("--axes", f"{name}: {line}")]
    for more in (lines, []):
        start = ["align", "in.nc", "-o", "out.nc", "--force", "--units", "h=tanh"]
        told = call(*start, *more, "--gauges", "y=centred")
        assert "what is written to 'y' was centred" in told
    assert "labels can be believed" in call("diagnose", "out.nc")
    assert "V" in call("summary", "out.nc")
    assert 'y = "centred"' in call("inspect", "out.nc")
    call("undo", "out.nc", "-o", "back.nc")
    back = relabel.open_draws("back.nc")["posterior"].to_dataset()
    assert largest(back, tree["posterior"].to_dataset()) < 1e-13
