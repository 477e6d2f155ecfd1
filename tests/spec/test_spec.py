"""The spec: what it refuses, its text forms, and how it fits draws."""

import json

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from relabel.errors import DataError, RelabelError, SpecError
from relabel.groups import GROUPS, Action, group_of
from relabel.spec.spec import ResolvedSpec, Spec, non_finite

SAMPLE = ("chain", "draw")
NET = {"W1": "x -> h", "b1": "-> h", "W2": "h -> y", "b2": "-> y"}


def draws(dtype="float64", /, dims=None, batch=(2, 3), **shapes) -> xr.Dataset:
    """Draws of variables of these shapes, with default dimension names unless given."""
    rng = np.random.default_rng(0)
    variables = {}
    for name, shape in shapes.items():
        core = (dims or {}).get(name) or tuple(f"{name}_dim_{i}" for i in range(len(shape)))
        values = rng.normal(size=(*batch, *shape))
        variables[name] = ((*SAMPLE, *core), values.astype(dtype))
    return xr.Dataset(variables)


def net(**changes) -> xr.Dataset:
    """Draws of a network 3-4-2; a shape replaces that of a variable, None leaves it out."""
    shapes = {"W1": (3, 4), "b1": (4,), "W2": (4, 2), "b2": (2,), "sigma": ()} | changes
    return draws(**{name: shape for name, shape in shapes.items() if shape is not None})


def named(**changes) -> xr.Dataset:
    """The same with named dimensions."""
    dims = {"W1": ("in", "unit"), "b1": ("unit",), "W2": ("unit", "out"), "b2": ("out",)}
    dims |= {name: dim for name, (dim, _) in changes.items()}
    shapes = {"W1": (3, 4), "b1": (4,), "W2": (4, 2), "b2": (2,)}
    shapes |= {name: shape for name, (_, shape) in changes.items()}
    return draws(dims=dims, **shapes)


def message(call, *arguments, kind=SpecError) -> str:
    with pytest.raises(RelabelError) as caught:
        call(*arguments)
    assert isinstance(caught.value, kind)
    return str(caught.value)


def axes_of(resolved: ResolvedSpec) -> dict[str, list]:
    """Address -> (units, role, exponent) of each axis."""
    return {v.address: [(a.units, a.role, a.exponent) for a in v.axes] for v in resolved.variables}


# ---------------------------------------------------------------------- declaration


@pytest.mark.parametrize(
    ("tables", "fragments"),
    [
        ({"units": {}}, ["no units", "units={'h': 'tanh'}"]),
        ({"units": "h"}, ["units must be a table, not 'h'"]),
        ({"units": {"h": "tanh"}, "axes": ["x -> h"]}, ["axes must be a table"]),
        ({"units": {"h": "tanh"}, "sizes": 3}, ["sizes must be a table, not 3"]),
        ({"units": {"h": "tahn"}}, ["unknown activation 'tahn'", "tanh", "'permutation' is valid"]),
        ({"units": {"h": None}}, ["units: 'h' must be a string, not None"]),
        ({"units": {"h": ["tanh"]}}, ["units: 'h' must be a string, not ['tanh']"]),
        ({"units": {3: "tanh"}}, ["units: names must be strings, not 3"]),
        ({"units": {"h^2": "tanh"}}, ["'h^2' cannot name a set of units"]),
        ({"units": {"a b": "tanh"}}, ["'a b' cannot name"]),
        ({"units": {"(h)": "tanh"}}, ["'(h)' cannot name"]),
        ({"units": {"(h": "tanh"}}, ["'(h' cannot name"]),
        ({"units": {"": "tanh"}}, ["'' cannot name"]),
        ({"units": {"_": "tanh"}}, ["'_' cannot name"]),
        ({"units": {"...": "tanh"}}, ["'...' cannot name"]),
        ({"units": {"->": "tanh"}}, ["'->' cannot name"]),
        ({"units": {"h,": "tanh"}}, ["'h,' cannot name"]),
        ({"units": {"chain": "tanh"}}, ["units cannot be named 'chain'"]),
        ({"units": {"draw": "tanh"}}, ["units cannot be named 'draw'"]),
        ({"units": {"a/h": "tanh"}}, ["units cannot be named 'a/h'"]),
        ({"units": {"h": "tanh"}, "axes": {"W": "x -> h -> y"}}, ["variable 'W'", "one arrow"]),
        ({"units": {"h": "tanh"}, "axes": {"W": 3}}, ["axes: 'W' must be a string, not 3"]),
        ({"units": {"h": "tanh"}, "axes": {1: "-> h"}}, ["axes: names must be strings, not 1"]),
        (
            {"units": {"h": "tanh"}, "axes": {"layers": {"0": {"w": "x -> h"}}}},
            ["axes: 'layers' must be a string", 'quotes, as in "layers.0"'],
        ),
        (
            {"units": {"hidden": "tanh"}, "axes": {"W": "x -> hiden"}},
            ["no axis carries the units 'hidden'", "did you mean 'hiden'?"],
        ),
        (
            {"units": {"h": "tanh", "g": "tanh"}, "axes": {"W": "x -> h"}},
            ["no axis carries the units 'g'"],
        ),
        ({"units": {"h": "tanh"}, "values": {"z": "g"}}, ["values of 'z' name 'g'", "no units"]),
        ({"units": {"comp": "tanh"}, "values": {"z": "com"}}, ["did you mean 'comp'?"]),
        ({"units": {"h": "tanh"}, "values": {"z": ["h"]}}, ["values: 'z' must be a string"]),
        ({"units": {"h": "tanh"}, "sizes": {"h": 0}}, ["sizes: 'h' must be a positive", "not 0"]),
        ({"units": {"h": "tanh"}, "sizes": {"h": -2}}, ["positive integer, not -2"]),
        ({"units": {"h": "tanh"}, "sizes": {"h": 2.0}}, ["positive integer, not 2.0"]),
        ({"units": {"h": "tanh"}, "sizes": {"h": True}}, ["positive integer, not True"]),
        ({"units": {"h": "tanh"}, "sizes": {"h": "4"}}, ["positive integer, not '4'"]),
        (
            {"units": {"h": "tanh"}, "axes": NET, "sizes": {"z": 2}},
            ["sizes name 'z', which no axis has"],
        ),
        ({"units": {"h": "relu"}, "gauges": {"h": "norm"}}, ["'norm'", "balanced, unit"]),
        ({"units": {"h": "tanh"}, "gauges": {"h": "unit"}}, ["it has no scale to fix"]),
        ({"units": {"h": "relu"}, "gauges": {"g": "unit"}}, ["gauges name 'g'", "no units"]),
        ({"units": {"h": "relu"}, "gauges": {"h": 1}}, ["gauges: 'h' must be a string"]),
    ],
)
def test_refused_declarations(tables, fragments):
    text = message(lambda: Spec(**tables))
    assert [f for f in fragments if f not in text] == []


@pytest.mark.parametrize("name", ["h", "h1", "hidden_units", "größe", "a-b", "layer.0"])
def test_names_of_units(name):
    assert Spec({name: "tanh"}, {"W": f"x -> {name}"}).units == {name: "tanh"}


def test_sizes_of_any_integer_type_are_plain():
    spec = Spec({"h": "tanh"}, sizes={"h": np.int64(4)})
    assert spec.sizes == {"h": 4}
    assert type(spec.sizes["h"]) is int
    assert Spec.from_toml(spec.to_toml()) == spec


def test_the_spec_keeps_copies_of_its_tables():
    axes = dict(NET)
    spec = Spec({"h": "tanh"}, axes)
    axes["W1"] = "h <- x"
    assert spec.axes == NET


# ---------------------------------------------------------------------- text and back

KEYS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1)
UNITS = st.sampled_from(["h", "h1", "g.2", "größe", "unit_3", "in-ner"])
SYMMETRIES = [*sorted(set(GROUPS) - {"x^d"}), "x^3"]
OTHER = st.sampled_from(["x", "y", "_", "dim"])


@st.composite
def specs(draw) -> Spec:
    """Specs of any tables, every unit carried."""
    units = draw(st.dictionaries(UNITS, st.sampled_from(SYMMETRIES), min_size=1))
    arrow = st.sampled_from(["->", "<-", ""])
    exponent = st.sampled_from(["", "^0", "^2"])
    lines = [
        f"{draw(OTHER)} {draw(arrow)} {draw(st.sampled_from([name, f'({name} k)']))}{tail}"
        for name in units
        for tail in [""] * draw(st.integers(1, 2))
    ]
    lines += [f"{name}{draw(exponent)} ..." for name in units]
    axes = {}
    if draw(st.booleans()):
        keys = draw(st.lists(KEYS, min_size=len(lines), max_size=len(lines), unique=True))
        axes = dict(zip(keys, lines, strict=True))
    named = sorted(name for name, symmetry in units.items() if not group_of(symmetry).rotates)
    values = draw(st.dictionaries(KEYS, st.sampled_from(named), max_size=2)) if named else {}
    sizes = draw(st.dictionaries(st.sampled_from(sorted(units)), st.integers(1, 99)))
    scaled = sorted(name for name, symmetry in units.items() if group_of(symmetry).gauges())
    gauges = {
        name: draw(st.sampled_from(group_of(units[name]).gauges()))
        for name in (draw(st.lists(st.sampled_from(scaled), unique=True)) if scaled else [])
    }
    words = st.sampled_from(["positive", "unit_interval"])
    supports = draw(st.dictionaries(KEYS, words, max_size=2))
    return Spec(units, axes, values, sizes, gauges, supports)


@given(specs())
def test_round_trip(spec):
    assert Spec.from_toml(spec.to_toml()) == spec
    assert Spec.from_json(spec.to_json()) == spec
    assert Spec.from_dict(spec.as_dict()) == spec
    assert list(Spec.from_toml(spec.to_toml()).units) == list(spec.units)


def test_empty_tables_are_left_out():
    assert Spec({"h": "tanh"}).as_dict() == {"units": {"h": "tanh"}}
    assert Spec({"h": "tanh"}).to_toml() == '[units]\nh = "tanh"\n'


def test_toml_as_a_person_writes_it():
    text = """
    [units]
    h = "relu"
    [axes]
    "layers.0.w" = "h <- x"   # as PyTorch does
    'layers.1.w' = "y <- h"
    [values]
    z = "h"
    [sizes]
    x = 3
    [gauges]
    h = "unit"
    """
    assert Spec.from_toml(text) == Spec(
        {"h": "relu"},
        {"layers.0.w": "h <- x", "layers.1.w": "y <- h"},
        {"z": "h"},
        {"x": 3},
        {"h": "unit"},
    )


@pytest.mark.parametrize(
    ("read", "text", "fragment"),
    [
        (Spec.from_toml, "units = [", "not valid TOML"),
        (Spec.from_toml, "", "no table 'units'"),
        (Spec.from_toml, "[axes]\nW = 'x -> h'", "no table 'units'"),
        (Spec.from_toml, "[units]\nh='tanh'\n[axis]\nW='x -> h'", "unknown table 'axis'"),
        (Spec.from_toml, "[units]\nh='tanh'\n[axes]\na.w='x -> h'", 'quotes, as in "a.w"'),
        (Spec.from_toml, "units = 'h'", "units must be a table"),
        (Spec.from_json, "{", "not valid JSON"),
        (Spec.from_json, "[1]", "expected the tables units, axes"),
        (Spec.from_json, "3", "expected the tables units, axes"),
        (Spec.from_json, "null", "expected the tables units, axes"),
        (Spec.from_json, "{}", "no table 'units'"),
        (Spec.from_json, '{"units": {"h": "nope"}}', "unknown activation 'nope'"),
    ],
)
def test_refused_text(read, text, fragment):
    assert fragment in message(read, text)


def test_json_is_json():
    assert json.loads(Spec({"h": "tanh"}, NET).to_json()) == {"units": {"h": "tanh"}, "axes": NET}


# ---------------------------------------------------------------------- bind: what it makes


def test_bind_a_network():
    resolved = Spec({"h": "tanh"}, NET).bind(net())
    assert resolved.sizes == {"h": 4}
    assert axes_of(resolved) == {
        "posterior/W1": [(None, "tail", 1), ("h", "head", 1)],
        "posterior/b1": [("h", "head", 1)],
        "posterior/W2": [("h", "tail", 1), (None, "head", 1)],
        "posterior/b2": [(None, "head", 1)],
    }
    w1 = resolved.variables[0]
    assert (w1.dims, w1.shape) == (("W1_dim_0", "W1_dim_1"), (3, 4))
    assert w1.between() == (("x",), ("h",))
    assert resolved.shifts == ()


def test_out_in_is_the_other_way_round():
    axes = {"W1": "h <- x", "b1": "-> h", "W2": "y <- h"}
    resolved = Spec({"h": "tanh"}, axes).bind(net(W1=(4, 3), W2=(2, 4)))
    assert axes_of(resolved)["posterior/W1"] == [("h", "head", 1), (None, "tail", 1)]
    assert resolved.variables[2].between() == (("h",), ("y",))


@pytest.mark.parametrize(
    ("symmetry", "head", "tail", "square", "only"),
    [
        ("gelu", (0, False), (0, False), (0, False), (0, False)),
        ("tanh", (0, True), (0, True), (0, False), (0, False)),
        ("cos", (0, True), (0, False), (0, False), (0, False)),
        ("relu", (1, False), (-1, False), (2, False), (0, False)),
        ("x^3", (1, True), (-3, True), (2, False), (0, False)),
    ],
)
def test_actions(symmetry, head, tail, square, only):
    axes = {"W1": "x -> h", "s": "-> h^2", "p": "h^0", "W2": "h -> y"}
    resolved = Spec({"h": symmetry}, axes).bind(draws(W1=(3, 4), s=(4,), p=(4,), W2=(4, 2)))
    found = {v.name: a for v in resolved.variables for _, _, a in v.unit_axes()}
    assert found == {
        "W1": Action(*head),
        "s": Action(*square),
        "p": Action(*only),
        "W2": Action(*tail),
    }


def test_the_same_units_on_both_sides():
    axes = {"U": "h -> h", "W": "x -> h", "V": "h -> y", "K": "h h"}
    resolved = Spec({"h": "tanh"}, axes).bind(draws(U=(4, 4), W=(2, 4), V=(4, 1), K=(4, 4)))
    assert axes_of(resolved)["posterior/U"] == [("h", "tail", 1), ("h", "head", 1)]
    assert axes_of(resolved)["posterior/K"] == [("h", "neutral", 1)] * 2


def test_unnamed_axes_and_the_rest():
    axes = {"W": "_ -> h", "V": "h -> ...", "s": "h^0 ..."}
    resolved = Spec({"h": "tanh"}, axes).bind(draws(W=(3, 4), V=(4, 2, 5), s=(4,)))
    assert [v.shape for v in resolved.variables] == [(3, 4), (4, 2, 5), (4,)]
    assert [a.name for a in resolved.variables[1].axes] == ["h", None, None]


def test_products_are_split():
    axes = {"W": "(x -> h)", "V": "(h p) -> y", "b": "-> h"}
    resolved = Spec({"h": "tanh"}, axes).bind(draws(W=(12,), V=(8, 5), b=(4,)))
    shapes = {v.name: v.shape for v in resolved.variables}
    assert shapes == {"W": (3, 4), "V": (4, 2, 5), "b": (4,)}
    assert resolved.variables[0].dims == ("W_dim_0",)


def test_sizes_split_a_product_that_nothing_else_tells():
    axes = {"W": "(x -> h)", "V": "(h -> y)"}
    resolved = Spec({"h": "tanh"}, axes, sizes={"x": 3}).bind(draws(W=(12,), V=(8,)))
    assert [v.shape for v in resolved.variables] == [(3, 4), (4, 2)]


def test_values_are_labels():
    spec = Spec({"k": "permutation"}, {"mu": "k"}, values={"z": "k"})
    data = draws(mu=(3,)).assign(z=((*SAMPLE, "obs"), np.zeros((2, 3, 7), "int8")))
    z = spec.bind(data).variables[1]
    assert (z.name, z.labels_of, z.shape, z.unit_axes()) == ("z", "k", (7,), [])


def test_a_variable_may_carry_units_and_name_them():
    spec = Spec({"k": "permutation"}, {"mu": "k", "next": "k"}, values={"next": "k"})
    data = draws(mu=(3,)).assign(next=((*SAMPLE, "i"), np.zeros((2, 3, 3), int)))
    resolved = spec.bind(data)
    assert [(v.name, v.labels_of) for v in resolved.variables] == [("mu", None), ("next", "k")]


def test_values_alone_need_the_number_of_units():
    data = xr.Dataset({"z": ((*SAMPLE, "obs"), np.zeros((2, 3, 7), int))})
    spec = Spec({"k": "permutation"}, values={"z": "k"})
    assert "number of units 'k' is not known; give sizes" in message(spec.bind, data)
    assert Spec({"k": "permutation"}, values={"z": "k"}, sizes={"k": 3}).bind(data).sizes["k"] == 3


def test_draw_before_chain():
    data = net().transpose("draw", ..., "chain")
    assert axes_of(Spec({"h": "tanh"}, NET).bind(data)) == axes_of(
        Spec({"h": "tanh"}, NET).bind(net())
    )


# ---------------------------------------------------------------------- bind: groups of data


def grouped() -> dict[str, xr.Dataset]:
    mixture = draws(dims={"mu": ("k",), "w": ("k",)}, mu=(3,), w=(3,))
    allocation = draws(dims={"prob": ("obs", "k")}, prob=(7, 3)).assign(
        z=((*SAMPLE, "obs"), np.zeros((2, 3, 7), int)), mu=((*SAMPLE, "g"), np.zeros((2, 3, 3)))
    )
    return {"posterior": mixture, "allocation": allocation}


def test_a_plain_name_stands_for_every_group():
    resolved = Spec({"c": "permutation"}, {"mu": "c"}).bind(grouped())
    assert {"posterior/mu", "allocation/mu"} <= set(axes_of(resolved))


def test_a_group_of_its_own():
    spec = Spec({"c": "permutation"}, {"posterior/mu": "c"}, {"allocation/z": "c"})
    resolved = spec.bind(grouped())
    assert "allocation/mu" not in axes_of(resolved)
    assert [v.address for v in resolved.variables if v.labels_of] == ["allocation/z"]
    assert {v.address for v in resolved.in_group("posterior")} == {"posterior/mu", "posterior/w"}


@pytest.mark.parametrize("order", [("mu", "allocation/mu"), ("allocation/mu", "mu")])
def test_the_line_of_one_group_wins(order):
    lines = {"mu": "c", "allocation/mu": "..."}
    resolved = Spec({"c": "permutation"}, {key: lines[key] for key in order}).bind(grouped())
    assert axes_of(resolved)["allocation/mu"] == [(None, "neutral", 1)]
    assert axes_of(resolved)["posterior/mu"] == [("c", "neutral", 1)]


def test_names_with_slashes_are_variables_where_no_group_is_meant():
    data = draws(**{"nn/W": (3, 4), "nn/V": (4, 2)})
    resolved = Spec({"h": "tanh"}, {"nn/W": "x -> h", "nn/V": "h -> y"}).bind(data)
    assert [v.name for v in resolved.variables] == ["nn/W", "nn/V"]


def test_companions_share_a_named_dimension():
    resolved = Spec({"c": "permutation"}, {"mu": "c"}).bind(grouped())
    assert axes_of(resolved)["posterior/w"] == [("c", "neutral", 1)]
    assert axes_of(resolved)["allocation/prob"] == [(None, "neutral", 1), ("c", "neutral", 1)]
    assert "allocation/z" not in axes_of(resolved)


def test_default_dimensions_have_no_companions():
    resolved = Spec({"h": "gelu"}, {"W1": "x -> h", "W2": "h -> y"}).bind(net())
    assert set(axes_of(resolved)) == {"posterior/W1", "posterior/W2"}


@pytest.mark.parametrize("symmetry", ["tanh", "cos", "sigmoid", "relu"])
def test_companions_of_signs_and_scales_are_asked_about(symmetry):
    data = named(tau=(("unit",), (4,)))
    text = message(Spec({"h": symmetry}, NET).bind, data)
    assert "'tau' shares the dimension 'unit' with the units 'h'" in text
    assert "'h^0' (only permuted)" in text
    axes = axes_of(Spec({"h": symmetry}, {**NET, "tau": "h^0"}).bind(data))
    assert axes["posterior/tau"] == [("h", "neutral", 0)]
    alone = axes_of(Spec({"h": symmetry}, {**NET, "tau": "..."}).bind(data))
    assert alone["posterior/tau"] == [(None, "neutral", 1)]


def test_companions_of_two_sets_are_asked_about():
    dims = {"W1": ("in", "unit"), "W2": ("unit_in", "unit"), "tau": ("unit",)}
    data = draws(dims=dims, W1=(3, 4), W2=(4, 4), tau=(4,))
    units = {"h1": "gelu", "h2": "gelu"}
    text = message(Spec(units, {"W1": "x -> h1", "W2": "h1 -> h2"}).bind, data)
    assert "'tau' shares the dimension 'unit' with the units 'h1' and 'h2'" in text


# ---------------------------------------------------------------------- bind: dimensions only


def test_dimensions_only():
    resolved = Spec({"k": "permutation"}).bind(grouped())
    assert axes_of(resolved) == {
        "posterior/mu": [("k", "neutral", 1)],
        "posterior/w": [("k", "neutral", 1)],
        "allocation/prob": [(None, "neutral", 1), ("k", "neutral", 1)],
    }
    assert resolved.sizes == {"k": 3}


def test_dimensions_only_with_signs():
    resolved = Spec({"unit": "tanh"}).bind(named())
    assert set(axes_of(resolved)) == {"posterior/W1", "posterior/b1", "posterior/W2"}
    assert all(a.action.signed for v in resolved.variables for a in v.axes if a.units)


def test_dimensions_only_unknown_dimension():
    text = message(Spec({"units": "tanh"}).bind, named())
    assert "no variable has a dimension 'units' (did you mean 'unit'?)" in text
    assert "axes={'W1': 'x -> units', ...}" in text
    assert "did you mean" not in message(Spec({"h": "tanh"}).bind, net())


@pytest.mark.parametrize("symmetry", ["cos", "sigmoid", "relu", "square"])
def test_dimensions_only_lack_the_arrow(symmetry):
    text = message(Spec({"unit": symmetry}).bind, named())
    assert f"the units 'unit' ({symmetry}" in text
    assert "need an arrow" in text


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("zeros", [False, True])
def test_dimensions_only_ask_about_what_never_changes_sign(sign, zeros):
    data = named()
    data["alpha"] = sign * (data["b1"].clip(min=0) if zeros else abs(data["b1"]))
    text = message(Spec({"unit": "tanh"}).bind, data)
    assert "'alpha' has the dimension 'unit' and is never" in text
    assert ("negative" if sign > 0 else "positive") in text
    assert "alpha = 'unit^0'" in text
    assert Spec({"unit": "gelu"}).bind(data).sizes == {"unit": 4}


def test_a_nan_does_not_hide_one_sign():
    data = named()
    data["alpha"] = abs(data["b1"])
    data["alpha"][0, 0, 0] = np.nan
    assert "is never negative" in message(Spec({"unit": "tanh"}).bind, data)


@pytest.mark.parametrize("name", ["tau", "sigma_2", "w"])
def test_dimensions_only_permute_scales_and_parts_of_a_whole(name):
    data = named()
    values = abs(data["b1"])
    data[name] = values / values.sum("unit") if name == "w" else values
    resolved = Spec({"unit": "tanh"}).bind(data)
    assert axes_of(resolved)[f"posterior/{name}"] == [("unit", "neutral", 0)]
    assert resolved.complete_spec().axes[f"posterior/{name}"] == "unit^0"
    again = resolved.complete_spec().bind(data)
    assert axes_of(again) == axes_of(resolved)


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_scale_is_positive_in_all_draws(value):
    data = named()
    data["tau"] = abs(data["b1"])
    data["tau"][0, 0, 0] = value
    if value < 0:
        assert axes_of(Spec({"unit": "tanh"}).bind(data))["posterior/tau"][0][2] == 1
    else:
        assert "is never negative" in message(Spec({"unit": "tanh"}).bind, data)


def test_a_default_name_of_one_variable_is_not_a_whole_spec():
    data = draws(mu=(3, 2), cov=(3, 2, 2), L=(5, 3), w=(3,), a=(1,), b=(1,))
    text = message(Spec({"mu_dim_0": "permutation"}).bind, data)
    assert "says nothing of 'cov' (3 × 2 × 2), 'w' (3), which would stay behind" in text
    assert "{'mu': 'component _', 'cov': 'component ...', 'w': 'component'}" in text
    text = message(Spec({"mu_dim_0": "tanh"}).bind, data)
    assert "relabel.propose(draws, units={'h': 'tanh'})" in text
    assert Spec({"mu_dim_0": "permutation"}).bind(data[["mu", "L"]]).sizes == {"mu_dim_0": 3}
    assert Spec({"a_dim_0": "permutation"}).bind(data).sizes == {"a_dim_0": 1}
    assert "'L' (5 × 3)" in message(
        Spec({"M_dim_1": "signed"}).bind, draws(M=(4, 3), L=(5, 3))
    )  # the same axis as in the variable that has the name


# ---------------------------------------------------------------------- bind: what it refuses


def test_unknown_variable():
    spec = Spec({"h": "tanh"}, {**NET, "sigm": ""})
    text = message(spec.bind, net())
    assert "unknown variable 'sigm' (did you mean 'sigma'?)" in text
    assert "the draws have W1, W2, b1, b2, sigma" in text
    assert "did you mean" not in message(Spec({"h": "tanh"}, {"qq": "-> h"}).bind, net())


def test_unknown_variable_among_many():
    many = draws(**{f"v{i}": () for i in range(30)})
    assert "the draws have 30 variables" in message(Spec({"h": "tanh"}, {"W": "-> h"}).bind, many)


def test_unknown_variable_of_a_group():
    text = message(Spec({"c": "permutation"}, {"allocation/pro": "c"}).bind, grouped())
    assert "unknown variable 'allocation/pro' (did you mean 'allocation/prob'?)" in text
    assert "unknown variable 'zz'" in message(
        Spec({"c": "permutation"}, {"mu": "c"}, {"zz": "c"}).bind, grouped()
    )


def test_a_variable_without_draws():
    data = net().assign(metric=(("chain", "m"), np.ones((2, 4))))
    text = message(Spec({"h": "tanh"}, {**NET, "metric": "h^0"}).bind, data)
    assert "'metric' does not have the dimensions chain and draw (it has: chain, m)" in text


@pytest.mark.parametrize(
    ("changes", "fragments"),
    [
        ({"W1": (4, 3)}, ["sizes of 'h' disagree", "4 in variable 'b1', 3 in variable 'W1'"]),
        ({"W2": (2, 4)}, ["sizes of 'h' disagree", "2 in variable 'W2'", "4 in variable 'W1'"]),
        ({"b1": (5,)}, ["5 in variable 'b1', 4 in variable 'W1'", "'h <- x'"]),
        ({"b2": (3,)}, ["sizes of 'y' disagree", "3 in variable 'b2', 2 in variable 'W2'"]),
    ],
)
def test_sizes_that_disagree(changes, fragments):
    text = message(Spec({"h": "tanh"}, NET).bind, net(**changes))
    assert [f for f in fragments if f not in text] == []


def test_sizes_of_the_spec_disagree():
    text = message(Spec({"h": "tanh"}, NET, sizes={"h": 5}).bind, net())
    assert "4 in variable 'W1', 5 in sizes of the spec" in text


def test_the_same_name_twice_must_have_one_size():
    text = message(Spec({"s": "permutation"}, {"A": "s s"}).bind, draws(A=(3, 4)))
    assert "sizes of 's' disagree: 4 in variable 'A', 3 in variable 'A'" in text


@pytest.mark.parametrize(
    ("line", "shape", "fragment"),
    [
        ("x -> h", (4,), "has 1 axes a draw ('W1_dim_0',), but 'x -> h' names 2"),
        ("x -> h", (2, 3, 4), "has 3 axes a draw"),
        ("x -> h", (), "has 0 axes a draw ()"),
        ("a b ... -> h", (3, 4), "names 3; name each, or end with '...'"),
    ],
)
def test_number_of_axes(line, shape, fragment):
    spec = Spec({"h": "gelu"}, {"W1": line})
    assert fragment in message(spec.bind, net(W1=shape))


@pytest.mark.parametrize(
    ("axes", "sizes", "fragment"),
    [
        ({"W": "(x -> h)", "V": "(h -> y)"}, {}, "how 12 splits into (x h); give the sizes, as in"),
        ({"W": "(_ _ -> h)", "V": "(h -> y)"}, {"h": 4}, "(_ _ h); one '_' can be inferred"),
        ({"W": "(x -> h)", "V": "(h -> y)"}, {"x": 5}, "size 12 cannot be (x h) with x = 5"),
        ({"W": "(x -> h)"}, {"x": 3, "h": 5}, "with x = 3 (sizes of the spec), h = 5"),
        ({"W": "(h h)"}, {}, "how 12 splits into (h h); give the sizes, as in sizes={'h': ...}"),
    ],
)
def test_products_that_cannot_be_split(axes, sizes, fragment):
    spec = Spec({"h": "gelu"}, axes, sizes=sizes)
    assert fragment in message(spec.bind, draws(W=(12,), V=(8,)))


def test_the_missing_size_is_the_one_asked_for():
    axes = {"W": "(x a h)", "c": "x"}
    text = message(Spec({"h": "gelu"}, axes).bind, draws(W=(12,), c=(3,)))
    assert "sizes={'a': ...}" in text


@pytest.mark.parametrize("symmetry", ["cos", "sigmoid", "relu"])
def test_missing_arrow(symmetry):
    text = message(Spec({"h": symmetry}, {"W1": "x h", "W2": "h -> y"}).bind, net())
    assert "variable 'W1': the units 'h'" in text
    assert "write '-> h' or 'h ->', or 'h^0'" in text


def test_nothing_writes():
    text = message(Spec({"h": "tanh"}, {"W2": "h -> y"}).bind, net())
    assert "'h' (tanh) are read but nothing writes them" in text


@pytest.mark.parametrize("symmetry", ["tanh", "sigmoid", "relu"])
def test_nothing_reads(symmetry):
    axes = {"W1": "x -> h", "b1": "-> h"}
    text = message(Spec({"h": symmetry}, axes).bind, net())
    assert f"'h' ({symmetry}) are written but nothing reads them" in text


@pytest.mark.parametrize("symmetry", ["gelu", "cos"])
def test_what_is_read_does_not_matter_to_these(symmetry):
    assert Spec({"h": symmetry}, {"W1": "x -> h"}).bind(net()).sizes == {"h": 4}


def test_only_permuted_is_not_written():
    axes = {"b1": "-> h^0", "W2": "h -> y"}
    assert "nothing writes them" in message(Spec({"h": "tanh"}, axes).bind, net())
    axes = {"W1": "x -> h", "b1": "h^0 ->"}
    assert "nothing reads them" in message(Spec({"h": "tanh"}, axes).bind, net())


def test_wrong_arrow():
    axes = {"W1": "x <- h", "b1": "-> h", "W2": "h -> y", "b2": "-> y"}
    text = message(Spec({"h": "tanh"}, axes).bind, net())
    assert "only biases (b1) write the units 'h'" in text
    assert "is an arrow the wrong way round?" in text
    assert Spec({"h": "gelu"}, axes).bind(net()).sizes == {"h": 4}


def test_neutral_axes_need_no_sides():
    resolved = Spec({"f": "tanh"}, {"L": "item f"}).bind(draws(L=(6, 2)))
    assert resolved.variables[0].unit_axes()[0][2] == Action(0, True)


def test_no_units():
    data, spec = net(W1=(3, 0), b1=(0,), W2=(0, 2)), Spec({"h": "tanh"}, NET)
    assert "no units 'h': size 0 in variable 'W1'" in message(spec.bind, data, kind=DataError)


def test_no_units_in_a_product():
    spec = Spec({"h": "gelu"}, {"b": "-> h", "W": "(x -> h)"})
    with pytest.raises(RelabelError, match="h = 0"):
        spec.bind(draws(b=(0,), W=(0,)))


@pytest.mark.parametrize("batch", [(0, 3), (2, 0)])
def test_zero_draws(batch):
    data = draws(batch=batch, W=(3, 4))
    text = message(Spec({"h": "gelu"}, {"W": "x -> h"}).bind, data, kind=DataError)
    assert f"dimension {'chain' if batch[0] == 0 else 'draw'!r} has size 0" in text


@pytest.mark.parametrize("dim", SAMPLE)
def test_no_sample_dimension(dim):
    text = message(Spec({"h": "tanh"}, NET).bind, net().isel({dim: 0}), kind=DataError)
    assert f"the posterior has no dimension {dim!r}" in text
    assert "expand_dims" in text


@pytest.mark.parametrize("data", [xr.Dataset(), {"posterior": xr.Dataset()}])
def test_empty_posterior(data):
    text = message(Spec({"h": "tanh"}, NET).bind, data, kind=DataError)
    assert "'posterior' has no variables: was the file written completely?" in text


def test_no_posterior():
    text = message(Spec({"h": "tanh"}, NET).bind, {"prior": net()}, kind=DataError)
    assert "no group 'posterior'; found prior" in text
    assert "found nothing" in message(Spec({"h": "tanh"}, NET).bind, {}, kind=DataError)


@pytest.mark.parametrize("dtype", ["object", "complex128", "U8"])
def test_dtypes_that_hold_no_numbers(dtype):
    data = net()
    data["b1"] = data["b1"].astype(dtype)
    text = message(Spec({"h": "gelu"}, NET).bind, data, kind=DataError)
    assert "variable 'b1' has the dtype" in text
    assert "convert it to float64" in text


@pytest.mark.parametrize(
    ("symmetry", "dtype", "sound"),
    [
        ("gelu", "int64", True),
        ("gelu", "uint8", True),
        ("gelu", "bool", True),
        ("tanh", "int64", True),
        ("tanh", "uint8", False),
        ("tanh", "bool", False),
        ("relu", "int64", False),
        ("relu", "uint8", False),
        ("relu", "float32", True),
        ("tanh", "float16", True),
    ],
)
def test_dtypes_that_cannot_hold_the_result(symmetry, dtype, sound):
    data = net()
    data["b1"] = data["b1"].astype(dtype)
    spec = Spec({"h": symmetry}, NET)
    if sound:
        assert spec.bind(data).sizes == {"h": 4}
        return
    text = message(spec.bind, data, kind=DataError)
    assert f"'b1' has the dtype {dtype}, but units 'h' may change its scale or sign" in text
    assert Spec({"h": symmetry}, {**NET, "b1": "h^0"}).bind(data).sizes == {"h": 4}


@pytest.mark.parametrize(
    ("dtype", "n_units", "highest"),
    [("bool", 3, 1), ("int8", 129, 127), ("uint8", 257, 255), ("float16", 2050, 2048)],
)
def test_labels_fit_into_their_dtype(dtype, n_units, highest):
    spec = Spec({"k": "permutation"}, {"mu": "k"}, values={"z": "k"})
    labels = ((*SAMPLE, "obs"), np.zeros((2, 3, 7), dtype))
    text = message(spec.bind, draws(mu=(n_units,)).assign(z=labels), kind=DataError)
    assert f"'z' has the dtype {dtype}, which holds labels up to {highest}, but there are" in text
    assert f"{n_units} units 'k'; convert it" in text
    assert spec.bind(draws(mu=(highest + 1,)).assign(z=labels)).sizes["k"] == highest + 1


# ---------------------------------------------------------------------- bind: affine flips


def test_affine_flips_move_the_bias_of_the_reader():
    axes = {**NET, "V2": "h -> z", "c2": "-> z"}
    data = net().merge(draws(V2=(4, 3), c2=(3,)))
    shifts = Spec({"h": "sigmoid"}, axes).bind(data).shifts
    assert [(s.units, s.reader.name, s.bias.name) for s in shifts] == [
        ("h", "W2", "b2"),
        ("h", "V2", "c2"),
    ]


def test_affine_flips_of_a_deep_network():
    axes = {
        "W1": "x -> a",
        "b1": "-> a",
        "W2": "b <- a",
        "b2": "-> b",
        "W3": "b -> y",
        "b3": "-> y",
    }
    data = draws(W1=(3, 4), b1=(4,), W2=(5, 4), b2=(5,), W3=(5, 1), b3=(1,))
    spec = Spec({"a": "sigmoid", "b": "sigmoid"}, axes)
    found = [(s.units, s.reader.name, s.bias.name) for s in spec.bind(data).shifts]
    assert found == [("a", "W2", "b2"), ("b", "W3", "b3")]
    mixed = Spec({"a": "tanh", "b": "sigmoid"}, axes).bind(data).shifts
    assert [s.units for s in mixed] == ["b"]


def test_affine_flips_with_a_single_output():
    axes = {"W1": "x -> h", "b1": "-> h", "V": "h ->", "c": ""}
    data = draws(W1=(3, 4), b1=(4,), V=(4,), c=())
    (shift,) = Spec({"h": "sigmoid"}, axes).bind(data).shifts
    assert (shift.reader.name, shift.bias.name) == ("V", "c")


def test_affine_flips_without_a_bias():
    axes = {"W1": "x -> h", "b1": "-> h", "W2": "h -> y"}
    text = message(Spec({"h": "sigmoid"}, axes).bind, net())
    assert "units 'h' (sigmoid): a flip moves the bias that goes with 'W2', '-> y'" in text
    assert "there must be exactly one, found none" in text


def test_affine_flips_with_two_biases():
    axes = {**NET, "c": "-> y"}
    text = message(Spec({"h": "sigmoid"}, axes).bind, net(c=(2,)))
    assert "exactly one, found b2, c" in text


def test_a_scale_is_not_taken_for_the_bias():
    axes = {"W1": "x -> h", "b1": "-> h", "V": "h ->", "s": "h^0"}
    data = draws(W1=(3, 4), b1=(4,), V=(4,), s=(4,))
    assert "found none" in message(Spec({"h": "sigmoid"}, axes).bind, data)


# ---------------------------------------------------------------------- draws that are not finite


def test_non_finite():
    data = net()
    data["W1"][0, 1, 2, 3] = np.nan
    data["b2"][1, 2, 0] = -np.inf
    data["sigma"][1, 0] = np.nan  # not declared
    resolved = Spec({"h": "tanh"}, NET).bind(data)
    bad = non_finite(resolved, {"posterior": data})
    assert bad.shape == (2, 3)
    assert np.argwhere(bad).tolist() == [[0, 1], [1, 2]]
    turned = {"posterior": data.transpose("draw", ..., "chain")}
    assert np.array_equal(non_finite(resolved, turned), bad)


def test_missing_labels_are_finite():
    spec = Spec({"k": "permutation"}, {"mu": "k"}, values={"z": "k"})
    data = draws(mu=(3,)).assign(z=((*SAMPLE, "obs"), np.full((2, 3, 7), np.nan)))
    assert not non_finite(spec.bind(data), {"posterior": data}).any()


def test_non_finite_of_integers():
    data = net()
    data["b1"] = data["b1"].astype(int)
    resolved = Spec({"h": "tanh"}, NET).bind(data)
    assert not non_finite(resolved, {"posterior": data}).any()
