"""Records that were tampered with, or that are of other values, are refused in one line."""

import contextlib
import json
import sys
import warnings

import numpy as np
import pytest
import xarray as xr

import relabel
from relabel import DataError, Provenance, RelabelError
from relabel.cli import app as cli
from relabel.data.checksums import checksums
from relabel.groups import GROUPS, group_of
from relabel.simulate import network

ENTRIES = [
    "spec", "criterion", "options", "variables", "loss_before", "losses", "converged", "n_moved",
    "result", "versions",
]  # fmt: skip


def deep(depth):
    return "[" * depth + "]" * depth


@pytest.fixture(scope="module")
def simulated():
    return network((2, 3, 1), "tanh", chains=2, draws=12, rng=1)


@pytest.fixture(scope="module")
def aligned(simulated):
    return relabel.align(simulated.data, simulated.spec)


def with_own(tree, own):
    changed = tree.copy()
    changed["relabel"] = xr.DataTree(own)
    return changed


def with_posterior(tree, change):
    changed = tree.copy()
    changed["posterior"] = xr.DataTree(change(tree["posterior"].to_dataset()))
    return changed


def text(value):
    return lambda own: own.assign_attrs(relabel=value)


def entry(name, value):
    def change(own):
        values = json.loads(own.attrs["relabel"]) | {name: value}
        return own.assign_attrs(relabel=json.dumps(values))

    return change


def without(name):
    def change(own):
        values = json.loads(own.attrs["relabel"])
        del values[name]
        return own.assign_attrs(relabel=json.dumps(values))

    return change


def nested(number):
    def change(own):
        values = json.loads(own.attrs["relabel"])
        whole = values
        for _ in range(number):
            whole = values | {"earlier": whole}
        return own.assign_attrs(relabel=json.dumps(whole))

    return change


def cell(name, value):
    def change(own):
        array = own[name].astype(type(value)).copy()
        array[0, 0, 0] = value
        return own.assign({name: array})

    return change


def array(name, change):
    return lambda own: own.assign({name: change(own[name])})


TAMPERED = {
    **{f"without {name}": without(name) for name in ENTRIES},
    **{f"{name} is 3.5": entry(name, 3.5) for name in ENTRIES if name != "loss_before"},
    **{f"{name} is null": entry(name, None) for name in ENTRIES},
    **{f"{name} is a text in a list": entry(name, [["x"]]) for name in ENTRIES},
    **{
        f"{name} is {value!r}": entry(name, value)
        for name in ("warnings", "flags", "offsets", "added", "no_part_in_reference", "checksums")
        for value in (7, "text", [None], {"a": 1})
    },
    **{
        f"{name} is {value!r}": entry(name, value)
        for name in ("diagnosis", "reduced", "redrawn")
        for value in (7, "text", [1])
    },
    "format is a text": entry("format", "3"),
    "format is zero": entry("format", 0),
    "format is true": entry("format", True),
    "format is later": entry("format", 99),
    "unknown entry": entry("more", 1),
    "huge integer": entry("n_moved", 10**400),
    "negative number": entry("n_moved", -1),
    "NaN": entry("loss_before", float("nan")),
    "losses hold text": entry("losses", ["1"]),
    "no losses": entry("losses", []),
    "no variables": entry("variables", []),
    "a variable twice": entry("variables", ["posterior/W1", "posterior/W1"]),
    "a variable that is not there": entry("variables", ["posterior/other"]),
    "variables that are no addresses": entry("variables", ["W1"]),
    "a flag that is not there": entry("flags", ["other"]),
    "unknown symmetry": entry("spec", {"units": {"h": "theirs"}}),
    "other symmetry": entry("spec", {"units": {"other": "tanh"}}),
    "spec in a spec": entry("spec", {"units": {"h": {"h": "tanh"}}}),
    "spec of other axes": entry("spec", {"units": {"h": "tanh"}, "axes": {"W1": "h ->"}}),
    "criterion without name": entry("criterion", {"scale": "none"}),
    "criterion with a number": entry("criterion", {"name": 3}),
    "nested earlier": nested(300),
    "earlier is a text": entry("earlier", "before"),
    "earlier is empty": entry("earlier", {}),
    "no attribute": lambda own: own.drop_attrs(deep=False),
    "not JSON": text("{"),
    "empty": text(""),
    "an array": text("[]"),
    "a number": text(7),
    "bytes": text(b"{}"),
    "numbers": text(np.arange(3)),
    "deep": text(deep(100_000)),
    "many digits": text('{"format": ' + "9" * 5000 + "}"),
    "index out of range": cell("h_index", 3),
    "negative index": cell("h_index", -1),
    "index is a fraction": cell("h_index", 0.5),
    "index is NaN": cell("h_index", float("nan")),
    "index twice": array("h_index", xr.zeros_like),
    **{f"factor {f}": cell("h_factor", f) for f in (0.0, 2.0, np.nan, np.inf, -0.5)},
    "index of texts": array("h_index", lambda a: a.astype(str)),
    "index of objects": array("h_index", lambda a: a.astype(object)),
    "factors of texts": array("h_factor", lambda a: a.astype(str)),
    "complex factors": array("h_factor", lambda a: a.astype(complex)),
    "no index": lambda own: own.drop_vars("h_index"),
    "no factor": lambda own: own.drop_vars("h_factor"),
    "more dimensions": array("h_index", lambda a: a.expand_dims(more=2)),
    "fewer dimensions": array("h_index", lambda a: a.isel(h=0)),
    "one unit less": lambda own: own.isel(h=[0, 1]),
    "no units": lambda own: own.isel(h=[]),
    "factor of another size": lambda own: own.assign(
        h_factor=own["h_factor"].isel(h=[0, 1]).rename(h="h2")
    ),
    "one draw less": lambda own: own.isel(draw=slice(1, None)),
    "one chain": lambda own: own.isel(chain=[0]),
    "no loss": lambda own: own.drop_vars("loss"),
    "loss of another name": lambda own: own.rename(loss="loss_2"),
    "loss of texts": array("loss", lambda a: a.astype(str)),
    "loss of units": array("loss", lambda a: a.expand_dims(more=2)),
    "no checksum": lambda own: own.drop_vars("checksum_after"),
    "checksum of floats": array("checksum_after", lambda a: a.astype(float)),
    "checksum of a draw": array("checksum_after", lambda a: a + (a == a[0, 3])),
    "elements of other draws": array(
        "h_index", lambda a: a.copy(data=np.roll(a.values, 1, axis=-1))
    ),
}  # fmt: skip


def test_there_are_sixty_ways():
    assert len(TAMPERED) >= 60


@pytest.mark.parametrize("way", TAMPERED)
def test_tampered_records_are_refused(aligned, simulated, way, tmp_path):
    bad = with_own(aligned, TAMPERED[way](aligned["relabel"].to_dataset()))
    with pytest.raises(DataError) as caught:
        relabel.undo(bad)
    assert "\n" not in str(caught.value)
    for verb in (
        relabel.summary,
        relabel.average,
        relabel.diagnose,
        lambda data: relabel.align(data, simulated.spec),
        lambda data: relabel.apply(simulated.data, data),
        lambda data: relabel.save(data, tmp_path / "bad.nc"),
    ):
        with contextlib.suppress(RelabelError):  # or it does not rely on what is wrong
            verb(bad)


EDITS = {
    "one value": lambda p: p.assign(W1=p["W1"] + (p["W1"] == p["W1"][1, 4, 0, 0])),
    "draws reversed": lambda p: p.isel(draw=slice(None, None, -1)).assign_coords(draw=p["draw"]),
    "chains swapped": lambda p: p.isel(chain=[1, 0]).assign_coords(chain=p["chain"]),
    "single precision": lambda p: p.astype(np.float32),
    "two signs": lambda p: p.assign(W1=-p["W1"], b1=-p["b1"]),
}


@pytest.mark.parametrize("verb", [relabel.undo, relabel.diagnose, relabel.average])
@pytest.mark.parametrize("edit", EDITS)
def test_values_of_others_are_refused(aligned, edit, verb):
    with pytest.raises(DataError, match=r"values of \d+ of 24 draws are not those"):
        verb(with_posterior(aligned, EDITS[edit]))


def test_the_first_draw_that_differs_is_named(aligned):
    with pytest.raises(DataError, match=r"values of 1 of 24 draws.*first is chain 1, draw 4"):
        relabel.undo(with_posterior(aligned, EDITS["one value"]))


def test_coordinates_tell_the_order(simulated):
    labels = {"chain": [0, 1], "draw": np.arange(12) * 10}
    raw = simulated.data["posterior"].to_dataset().assign_coords(labels)
    labelled = relabel.align(xr.DataTree.from_dict({"posterior": raw}), simulated.spec)
    chosen = {"draw": np.random.default_rng(0).permutation(12), "chain": [1, 0]}
    mixed = with_posterior(labelled, lambda p: p.isel(chosen))
    back = relabel.undo(mixed)["posterior"].to_dataset()
    assert all(np.array_equal(back[name], raw[name].isel(chosen)) for name in raw)


def test_all_groups_alike(aligned, simulated):
    chosen = {"draw": [7, 3, 5], "chain": [1]}
    thinned = aligned.map_over_datasets(lambda d: d.isel(chosen, missing_dims="ignore"))
    back, raw = relabel.undo(thinned)["posterior"], simulated.data["posterior"]
    assert all(np.array_equal(back[v], raw[v].isel(chosen)) for v in raw.data_vars)


@pytest.mark.parametrize(
    "change", [lambda p: p.rename(b1="bias"), lambda p: p.drop_vars("b1")], ids=["renamed", "gone"]
)
def test_absent_variables(aligned, simulated, change):
    left = with_posterior(aligned, change)
    with pytest.raises(DataError, match="names posterior/b1, which the draws do not have"):
        relabel.undo(left)
    with pytest.warns(UserWarning, match="not undone.*posterior/b1"):
        back = relabel.undo(left, partial=True)
    for name in ("W1", "W2"):
        assert np.array_equal(back["posterior"][name], simulated.data["posterior"][name])


LEFT = {
    "nothing reads": ("tanh", (2, 3, 1), ["W2"]),
    "nothing reads scales": ("relu", (2, 3, 1), ["W2"]),
    "only a bias writes": ("relu", (2, 3, 1), ["W1", "W2"]),
    "nothing writes": ("tanh", (2, 3, 4, 1), ["W1", "b1"]),
    "units that nothing carries": ("tanh", (2, 3, 4, 1), ["W2", "b2", "W3"]),
    "the bias of the readers": ("sigmoid", (2, 3, 1), ["b2"]),
    "what writes affine flips": ("sigmoid", (2, 3, 1), ["W1", "b1"]),
}


@pytest.mark.parametrize("case", LEFT)
def test_partial_where_the_spec_does_not_bind_any_more(case):
    kind, sizes, gone = LEFT[case]
    simulated = network(sizes, kind, chains=2, draws=12, rng=1)
    left = with_posterior(
        relabel.align(simulated.data, simulated.spec), lambda p: p.drop_vars(gone)
    )
    with pytest.warns(UserWarning, match=f"not undone.*posterior/{gone[0]}"):
        back = relabel.undo(left, partial=True)["posterior"]
    assert back.data_vars
    for name, values in back.data_vars.items():
        np.testing.assert_allclose(values, simulated.data["posterior"][name], atol=1e-12)


@pytest.mark.filterwarnings("ignore:not undone")
@pytest.mark.parametrize(
    ("kind", "gone", "said"),
    [
        ("sigmoid", ["W2"], "moved a bias by 'W2', which is absent"),
        ("tanh", ["W1", "b1", "W2"], "none of the variables that carry h is left"),
        ("tanh", ["W1", "b1", "W2", "b2"], "of other draws"),
    ],
)
def test_partial_where_nothing_can_be_undone(kind, gone, said):
    simulated = network((2, 3, 1), kind, chains=2, draws=12, rng=1)
    left = with_posterior(
        relabel.align(simulated.data, simulated.spec), lambda p: p.drop_vars(gone)
    )
    with pytest.raises(RelabelError, match=said):
        relabel.undo(left, partial=True)


def test_more_alignments_than_a_record_holds_are_refused_before_they_are_written(
    aligned, simulated
):
    last = with_own(aligned, nested(199)(aligned["relabel"].to_dataset()))
    assert Provenance.of(last).n_alignments == 200
    relabel.undo(last)
    with pytest.raises(DataError, match=r"aligned 200 times.*undo"):
        relabel.align(last, simulated.spec)
    one_less = with_own(aligned, nested(198)(aligned["relabel"].to_dataset()))
    relabel.undo(relabel.align(one_less, simulated.spec))


def test_partial_without_absent_variables(aligned):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert relabel.undo(aligned, partial=True).identical(relabel.undo(aligned))


def test_alignments_of_two_symmetries_joined(simulated):
    parts = []
    for chain, kind in ((0, "permutation"), (1, "tanh")):
        part = simulated.data.isel(chain=[chain])
        parts.append(relabel.align(part, relabel.mlp(1, kind)))
    assert (parts[1]["relabel"]["h_factor"] < 0).any()
    groups = {
        name: xr.concat(
            [p[name].to_dataset() for p in parts],
            "chain",
            data_vars="all",
            combine_attrs="override",
        )
        for name in ("posterior", "relabel")
    }
    with pytest.raises(DataError, match="do not belong to the symmetry 'permutation'"):
        relabel.undo(xr.DataTree.from_dict(groups))


def with_warmup(tree):
    warm = tree["posterior"].isel(draw=slice(0, 5)).to_dataset()
    return xr.DataTree.from_dict({**{k: v.to_dataset() for k, v in tree.children.items()},
                                  "warmup_posterior": warm})  # fmt: skip


def test_a_warmup_whose_record_is_gone_is_refused(simulated):
    tree = with_warmup(relabel.undo(relabel.align(simulated.data, simulated.spec)))
    aligned = relabel.align(tree, simulated.spec)
    carried = relabel.apply(tree, aligned)
    for whole in (aligned, carried):
        left = whole.filter(lambda node: node.name != "warmup_relabel")
        for verb in (relabel.undo, lambda data: relabel.align(data, simulated.spec)):
            with pytest.raises(DataError, match=r"warmup_posterior .* 'warmup_relabel', is gone"):
                verb(left)
        kept = left.filter(lambda node: node.name != "warmup_posterior")
        back = relabel.undo(kept)
        assert back["posterior"].to_dataset().identical(tree["posterior"].to_dataset())


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_files_keep_checksums(aligned, simulated, suffix, tmp_path):
    relabel.save(aligned, tmp_path / f"a{suffix}")
    back = relabel.undo(relabel.open_draws(tmp_path / f"a{suffix}"))
    for name, variable in simulated.data["posterior"].data_vars.items():
        assert np.array_equal(back["posterior"][name], variable)


def test_lazy_draws(aligned, simulated):
    lazy = simulated.data.map_over_datasets(lambda d: d.chunk(draw=5) if "draw" in d.dims else d)
    found = relabel.align(lazy, simulated.spec)
    for name in Provenance.of(found).checksums:
        assert np.array_equal(found["relabel"][name], aligned["relabel"][name])
    assert relabel.undo(found)["posterior"]["W1"].equals(simulated.data["posterior"]["W1"])


def test_checksums_do_not_depend_on_the_layout():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(2, 9, 3, 4))
    values[0, 0, 0, :2] = [np.nan, -0.0]
    draws = xr.Dataset({"w": (("chain", "draw", "a", "b"), values)})
    want = checksums({"posterior": draws}, ["posterior/w"])
    others = [
        draws.transpose("a", "draw", "b", "chain"),
        draws.chunk(draw=4, b=3),
        draws.assign(w=(draws["w"].dims, values.astype(">f8"))),
        draws.assign(w=(draws["w"].dims, np.asfortranarray(values))),
    ]
    for other in others:
        assert np.array_equal(checksums({"posterior": other}, ["posterior/w"]), want)
    flipped = draws.assign(w=draws["w"] * xr.DataArray([-1.0, -1.0, 1.0, 1.0], dims="b"))
    assert (checksums({"posterior": flipped}, ["posterior/w"]) != want).all()


@pytest.mark.parametrize("name", sorted(set(GROUPS) - {"x^d"}))
def test_groups_contain_their_own_elements(name):
    group = group_of(name)
    for element in (
        group.random((5, 2), 4, np.random.default_rng(0)),
        group.identity((5, 2), 4),
    ):
        assert group.contains(element).all()
        assert group.contains(element.inverse()).all()


def test_scales_are_renewed_by_a_redraw():
    relu = network((2, 3, 1), "relu", chains=2, draws=12, rng=1)
    found = relabel.align(relu.data, relu.spec)
    drawn = relabel.stats.redraw_scale(found, {"W1": 1.0, "b1": 1.0, "W2": 1.0}, rng=1)
    back = relabel.undo(relabel.align(drawn, relu.spec))
    np.testing.assert_allclose(back["posterior"]["W1"], relu.data["posterior"]["W1"])


ON_FILES = [
    "not JSON", "deep", "format is later", "without spec", "unknown symmetry", "other symmetry",
    "spec of other axes", "a variable that is not there", "nested earlier", "index out of range",
    "index twice", "no factor", "one unit less", "one draw less", "checksum of a draw",
]  # fmt: skip


@pytest.mark.parametrize("way", ON_FILES)
def test_the_command_refuses_tampered_files_in_a_line(aligned, way, tmp_path, monkeypatch, capsys):
    bad = with_own(aligned, TAMPERED[way](aligned["relabel"].to_dataset()))
    file, out = tmp_path / "bad.nc", tmp_path / "out.nc"
    bad.to_netcdf(file, engine="h5netcdf")
    monkeypatch.setattr(sys, "argv", ["relabel", "undo", str(file), "-o", str(out)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    err = capsys.readouterr().err
    assert (end.value.code, err.count("\n"), err[:6]) == (2, 1, "error:")
    assert not out.exists()


def test_the_command_undoes_what_is_left(aligned, simulated, tmp_path, monkeypatch, capsys):
    left = with_posterior(aligned, lambda p: p.drop_vars("W2"))
    file, out = tmp_path / "left.nc", tmp_path / "out.nc"
    left.to_netcdf(file, engine="h5netcdf")
    arguments = ["relabel", "undo", str(file), "-o", str(out), "--partial"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    assert "not undone" in capsys.readouterr().out
    back = relabel.open_draws(out)["posterior"]
    assert np.array_equal(back["W1"], simulated.data["posterior"]["W1"])


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_values_that_were_not_compared_may_be_nan_afterwards(simulated, share):
    kept = xr.DataArray(np.arange(12) >= share * 12, dims="draw")
    raw = with_posterior(
        simulated.data,
        lambda p: p.assign(W2=p["W2"].where(kept)),
    )
    found = relabel.align(raw, simulated.spec, criterion=relabel.criteria.Mean(var_names=["W1"]))
    _, diagnosis = relabel.diagnose(found)
    assert "check-failed" not in diagnosis.to_json()
    assert relabel.undo(found)["posterior"]["W2"].equals(raw["posterior"]["W2"])


def test_the_command(aligned, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out.nc"
    with_posterior(aligned, EDITS["one value"]).to_netcdf(tmp_path / "b.nc", engine="h5netcdf")
    edited = str(tmp_path / "b.nc")
    ways = [
        (["undo", edited, "-o", str(out)], "values of 1 of 24 draws"),
        (["diagnose", edited], "values of 1 of 24 draws"),
    ]
    for arguments, said in ways:
        monkeypatch.setattr(sys, "argv", ["relabel", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        err = capsys.readouterr().err
        assert (end.value.code, err.count("\n")) == (2, 1)
        assert said in err
        assert not out.exists()
