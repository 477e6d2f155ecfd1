"""Axes that are several blocks: parsed, bound to draws, acted on and matched part by part."""

from itertools import pairwise

import numpy as np
import pytest
import xarray as xr

import relabel
from relabel import Spec, SpecError, Transformation
from relabel.data.provenance import Provenance
from relabel.groups.elements import Monomial
from relabel.matching.features import Problem
from relabel.models.forward_pass import Network
from relabel.spec.notation import Axis, Blocks, parse

SAMPLE = ("chain", "draw")
RNG = np.random.default_rng


def draws(rng=None, n=(2, 3), **shapes):
    rng = rng or RNG(0)
    return xr.Dataset(
        {
            name: ((*SAMPLE, *(f"{name}_dim_{i}" for i in range(len(s)))), rng.normal(size=n + s))
            for name, s in shapes.items()
        }
    )


def element(rng, batch, *, signs=True, scales=False, **sizes):
    elements = {}
    for units, size in sizes.items():
        index = rng.permuted(np.tile(np.arange(size), (*batch, 1)), axis=-1)
        factor = rng.choice([-1.0, 1.0], size=index.shape) if signs else np.ones(index.shape)
        elements[units] = Monomial(index, factor * (rng.lognormal(size=index.shape) ** scales))
    return Transformation(elements)


def matrices(g, units, *, signed=True, power=0):
    """Matrices (chain, draw, K, K) of an element, by their definition."""
    index, factor = g.elements[units].index, g.elements[units].factor
    multiplier = np.where(signed & (factor < 0), -1.0, 1.0) * np.abs(factor) ** power
    return np.eye(index.shape[-1])[index] * multiplier[..., None]


# ---------------------------------------------------------------------- the notation


def names(text):
    return [
        [[str(axis) for axis in term] for term in axis.terms] if isinstance(axis, Blocks) else axis
        for axis in parse(text).stored
    ]


def test_blocks_are_read():
    (gates, inputs) = parse("(h^0 + h + h^0) <- x").stored
    assert gates == Blocks(((Axis("h", "head", 0),), (Axis("h", "head"),), (Axis("h", "head", 0),)))
    assert inputs == (Axis("x", "tail"),)
    assert parse("(h^0+h+h^0)<-x").stored == (gates, inputs)


def test_arrows_in_brackets_are_local():
    axes = parse("(x -> h + h <- h + ->) other")
    assert axes.local
    assert axes.stored[0].terms == (
        (Axis("x", "tail"), Axis("h", "head")),
        (Axis("h", "head"), Axis("h", "tail")),
        (),
    )
    assert axes.stored[1] == (Axis("other"),)
    assert not axes.relates_parameters()
    assert parse("(x -> h + -> h) (x -> h + -> h)").relates_parameters()
    assert not parse("x -> (h + k)").relates_parameters()


def test_bars():
    assert names("(a|b|c) (x + y + z)") == [[["a"], ["b"], ["c"]], [["x"], ["y"], ["z"]]]
    assert names("(|h| + |k|)") == [[["|h|"], ["|k|"]]]
    assert parse("-> |h|").stored == ((Axis("h", "head", absolute=True),),)
    assert parse("(a + b) <- (i | j) ...").rest == 2
    assert parse("(a | b) (c + d)").stored[0] == Blocks(((Axis("a"),), (Axis("b"),)), zipped=True)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a b", [(0, 0)]),
        ("(a + b) c", [(0, 0), (1, 0)]),
        ("(a + b) (c + d)", [(0, 0), (0, 1), (1, 0), (1, 1)]),
        ("(i | j) (a + b) (k | l)", [(0, 0, 0), (1, 1, 1)]),
    ],
)
def test_parts(text, parts):
    assert list(parse(text).parts()) == parts


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("a + b", "'+' joins blocks of one stored axis, which stand in brackets, as in '(a + b)'"),
        ("a | b", "as in '(a | b)'"),
        ("(a | b + c)", "in one bracket"),
        ("( + a)", "a block without names"),
        ("(a + )", "a block without names"),
        ("(->)", "a block without names"),
        ("(a -> b -> c)", "at most one arrow, found 2"),
        ("x -> (a -> b)", "found 2; with arrows in brackets, one a block, there is none outside"),
        ("(a + b) <- (i | j | k)", "3 alternatives ('|') go with one other axis of as many"),
        ("(a | b) -> y", "the axes with '+' have no blocks"),
        ("(a + b) (c + d) (i | j)", "the axes with '+' have 2 and 2 blocks"),
        ("|h|^2", "cannot read '^'"),
        ("(a + (b c))", "brackets within brackets"),
    ],
)
def test_refused(text, fragment):
    with pytest.raises(SpecError) as caught:
        parse(text)
    assert fragment in str(caught.value)
    assert repr(text) in str(caught.value)


# ---------------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("axes", "shapes", "told", "expected"),
    [
        ({"W": "(h + h + h) x"}, {"W": (12, 2)}, {}, {"h": 4}),
        ({"W": "(a + h) x", "b": "h"}, {"W": (12, 2), "b": (4,)}, {}, {"h": 4}),
        ({"W": "(h d + h + _) x"}, {"W": (20, 2)}, {"h": 3, "d": 4}, {"h": 3}),
        ({"W": "(h _) y"}, {"W": (20, 2)}, {"h": 5}, {"h": 5}),
        ({"W": "(h _ + h)"}, {"W": (20,)}, {"h": 5}, {"h": 5}),
        ({"W": "(a + b) <- (h | h)"}, {"W": (4, 7)}, {"a": 1}, {"h": 7}),
    ],
)
def test_sizes_follow(axes, shapes, told, expected):
    spec = Spec({"h": "permutation"}, axes, sizes=told)
    assert spec.bind(draws(**shapes)).sizes == expected


@pytest.mark.parametrize(
    ("axes", "shapes", "told", "fragment"),
    [
        ({"W": "(h + h) x"}, {"W": (5, 2)}, {}, "an axis of size 5 cannot be (h + h)"),
        ({"W": "(a + h)"}, {"W": (5,)}, {"a": 5}, "size 5 cannot be (a + h) with a = 5 (sizes"),
        ({"W": "(a + h)"}, {"W": (5,)}, {"a": 6}, "size 5 cannot be (a + h) with a = 6"),
        ({"W": "(a + h)"}, {"W": (5,)}, {"a": 2, "h": 2}, "cannot be (a + h) with a = 2"),
        ({"W": "(a + h)"}, {"W": (5,)}, {}, "how 5 splits into (a + h); give the sizes, as in"),
        ({"W": "(_ + h + _)"}, {"W": (5,)}, {"h": 2}, "one '_' can be inferred"),
        ({"W": "(h h + h)"}, {"W": (6,)}, {}, "how 6 splits into (h h + h); give the sizes"),
        ({"W": "(a + b) (h | c)"}, {"W": (4, 7)}, {"a": 1, "h": 6}, "sizes of 'h' disagree: 7 in"),
    ],
)
def test_sizes_that_cannot_be(axes, shapes, told, fragment):
    spec = Spec({"h": "permutation"}, axes, sizes=told)
    with pytest.raises(SpecError) as caught:
        spec.bind(draws(**shapes))
    assert fragment in str(caught.value)


# ---------------------------------------------------------------------- acting


def test_every_block_follows_its_own_units():
    """A skip connection, grouped weights and an attention projection, by matrices."""
    spec = Spec(
        {"a": "tanh", "b": "tanh", "head": "permutation"},
        {
            "Wa": "x -> a",
            "Wb": "b <- x",
            "V": "(a + b) -> y",
            "G": "(_ + a) <- (z | b) _",
            "qkv": "(head dim + head dim + dim) <- r",
        },
        sizes={"dim": 2, "y": 5},
    )
    shapes = {"Wa": (2, 3), "Wb": (4, 2), "V": (7, 5), "G": (5, 4, 2), "qkv": (10, 3)}
    data, rng = draws(**shapes), RNG(1)
    resolved = spec.bind(data)
    assert resolved.sizes == {"a": 3, "b": 4, "head": 2}
    g = Transformation(
        {
            **element(rng, (2, 3), a=3, b=4).elements,
            **element(rng, (2, 3), signs=False, head=2).elements,
        }
    )
    moved = g.apply({"posterior": data}, resolved)["posterior"]
    a, b, head = (matrices(g, units) for units in ("a", "b", "head"))
    old, new = data["V"].values, moved["V"].values
    np.testing.assert_array_equal(new[..., :3, :], a @ old[..., :3, :])
    np.testing.assert_array_equal(new[..., 3:, :], b @ old[..., 3:, :])
    old, new = data["G"].values, moved["G"].values
    np.testing.assert_array_equal(new[..., :2, :, :], old[..., :2, :, :])
    expected = np.einsum("cdij,cdkl,cdjlr->cdikr", a, b, old[..., 2:, :, :])
    np.testing.assert_array_equal(new[..., 2:, :, :], expected)
    old, new = data["qkv"].values, moved["qkv"].values
    for start in (0, 4):
        rows = old[..., start : start + 4, :].reshape(2, 3, 2, 2, 3)
        expected = np.einsum("cdij,cdjkl->cdikl", head, rows).reshape(2, 3, 4, 3)
        np.testing.assert_array_equal(new[..., start : start + 4, :], expected)
    np.testing.assert_array_equal(new[..., 8:, :], old[..., 8:, :])
    back = g.inverse().apply({"posterior": moved}, resolved)["posterior"]
    assert back.identical(data)
    lazy = g.apply({"posterior": data.chunk(draw=2)}, resolved)["posterior"]
    assert lazy["V"].chunks is not None
    assert lazy.compute().identical(moved)


def test_absolute_values_of_scales():
    """Standard deviations follow the scale of their weights, and no sign."""
    lines = {"mean": "(x -> h + -> h + h -> y)", "sd": "(x -> |h| + -> |h| + |h| -> y)"}
    spec = Spec({"h": "linear"}, lines, sizes={"x": 2, "h": 3, "y": 2})
    data = draws(mean=(15,), sd=(15,))
    data["sd"] = abs(data["sd"])
    g = element(RNG(2), (2, 3), h=3, scales=True)
    moved = g.apply({"posterior": data}, spec.bind(data))["posterior"]
    ratio = matrices(g, "h", power=1), matrices(g, "h", power=-1)
    for name, change in (("mean", 1.0), ("sd", None)):
        into, out = (r if change else abs(r) for r in ratio)
        old, new = data[name].values, moved[name].values
        rows = old[..., :6].reshape(2, 3, 2, 3)
        np.testing.assert_allclose(new[..., :6].reshape(2, 3, 2, 3), rows @ into.swapaxes(-1, -2))
        np.testing.assert_allclose(new[..., 6:9], (into @ old[..., 6:9, None])[..., 0])
        rows = old[..., 9:].reshape(2, 3, 3, 2)
        np.testing.assert_allclose(new[..., 9:].reshape(2, 3, 3, 2), out @ rows)
    assert (moved["sd"] > 0).all()
    told = Spec({"h": "linear"}, {"s": "|h|", "mean": lines["mean"]}, sizes={"x": 2, "h": 3})
    with pytest.raises(SpecError, match=r"'-> \|h\|' or '\|h\| ->', or 'h\^0'"):
        told.bind(draws(mean=(15,), s=(3,)))


def test_scales_of_companions_do_not_fix_the_gauge():
    spec = Spec({"h": "relu"}, {"W": "x -> h", "V": "h -> y", "s": "x -> |h|"})
    data = draws(W=(2, 3), V=(3, 2), s=(2, 3))
    without = relabel.align(data[["W", "V"]], Spec({"h": "relu"}, {"W": "x -> h", "V": "h -> y"}))
    aligned = relabel.align(data, spec, criterion=relabel.criteria.Mean(var_names=("W", "V")))
    np.testing.assert_array_equal(aligned["W"], without["W"])
    factor = aligned["relabel_h_factor"].values
    index = aligned["relabel_h_index"].values
    rows = np.take_along_axis(data["s"].values, index[..., None, :], axis=-1)
    np.testing.assert_allclose(aligned["s"], rows * factor[..., None, :])


# ---------------------------------------------------------------------- covariances


FLAT = "(x -> a + -> a + a -> b + -> b + b -> y + -> y)"


def gaussian(rng, n=(2, 6), sizes=(2, 3, 4, 1)):
    """Means and covariances of flat parameter vectors."""
    size = sum(i * o + o for i, o in pairwise(sizes))
    root = rng.normal(size=(*n, size, size))
    arrays = {"theta": rng.normal(size=(*n, size)), "cov": root @ root.swapaxes(-1, -2)}
    dims = {"theta": (*SAMPLE, "p"), "cov": (*SAMPLE, "p", "q")}
    return xr.Dataset({name: (dims[name], arrays[name]) for name in arrays})


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu"])
def test_a_covariance_follows_on_both_axes(activation):
    """The matrix of the transformation is found on unit vectors, by the means alone."""
    spec = Spec(
        {"a": activation, "b": activation},
        {"theta": FLAT, "cov": f"{FLAT} {FLAT}"},
        sizes={"x": 2, "a": 3, "b": 4, "y": 1},
    )
    data = gaussian(RNG(3))
    aligned = relabel.align(data, spec)
    size = data.sizes["p"]
    units = xr.Dataset({"theta": (("e", *SAMPLE, "p"), np.zeros((size, 2, 6, size)))})
    units["theta"].values[:] = np.eye(size)[:, None, None]
    told = Transformation.from_dataset(
        xr.Dataset({n.removeprefix("relabel_"): v for n, v in aligned.items()}), ["a", "b"]
    )
    alone = Spec(spec.units, {"theta": FLAT}, sizes=spec.sizes)
    columns = []
    for e in range(size):
        one = units.isel(e=e)
        columns.append(told.apply({"posterior": one}, alone.bind(one))["posterior"]["theta"].values)
    g = np.stack(columns, axis=-1)
    expected = g @ data["cov"].values @ g.swapaxes(-1, -2)
    np.testing.assert_allclose(aligned["cov"], expected, rtol=1e-12, atol=1e-12)
    only = relabel.align(data[["theta"]], alone)
    for name in ("theta", "relabel_loss"):  # the covariance neither tells labels nor scales
        np.testing.assert_array_equal(aligned[name], only[name])
    back = relabel.undo(aligned)
    assert (activation == "relu") or back[["theta", "cov"]].identical(data)


def test_three_axes_of_units_are_carried_along():
    spec = Spec({"a": "tanh", "b": "tanh"}, {"A": "a _", "B": "b _", "T": "a b a", "P": "a b"})
    data = draws(A=(3, 4), B=(4, 5), T=(3, 4, 3), P=(3, 4))
    resolved = spec.bind(data)
    assert [v.name for v in resolved.variables if v.carried] == ["T"]
    problem = Problem(resolved, {n: v.values.reshape(6, *v.shape[2:]) for n, v in data.items()})
    assert {v.name for v in problem.used} == {"A", "B", "P"}
    aligned = relabel.align(data, spec)
    g = Transformation.from_dataset(
        xr.Dataset({n.removeprefix("relabel_"): v for n, v in aligned.items()}), ["a", "b"]
    )
    a, b = matrices(g, "a"), matrices(g, "b")
    expected = np.einsum("cdij,cdkl,cdmn,cdjln->cdikm", a, b, a, data["T"].values)
    np.testing.assert_array_equal(aligned["T"], expected)
    with pytest.raises(SpecError, match="'T' has 3 axes of units"):
        relabel.align(data, spec, criterion=relabel.criteria.Mean(var_names=("A", "B", "T")))
    with pytest.raises(SpecError, match=r"carries the units 'a'; T .* is carried along only"):
        relabel.align(data, Spec(spec.units, {"B": "b _", "T": "a b a"}))


def test_covariances_of_sigmoid_units_are_refused():
    line = "(x -> h + -> h + h -> y + -> y)"
    spec = Spec(
        {"h": "sigmoid"}, {"theta": line, "cov": f"{line} {line}"}, sizes={"x": 1, "h": 2, "y": 1}
    )
    data = draws(theta=(7,), cov=(7, 7))
    with pytest.raises(SpecError, match=r"'cov' is carried along .* adds weights to biases"):
        spec.bind(data)


# ---------------------------------------------------------------------- matching


LSTM = {
    "W": "(h^0 + h^0 + h + h^0) <- x",
    "U": "(h^0 + h^0 + h + h^0) <- h",
    "b": "-> (h^0 + h^0 + h + h^0)",
    "V": "y <- h",
}


def test_parts_are_features_and_pairs():
    data = draws(W=(12, 2), U=(12, 3), b=(12,), V=(4, 3))
    resolved = Spec({"h": "tanh"}, LSTM).bind(data)
    problem = Problem(resolved, {n: v.values.reshape(6, *v.shape[2:]) for n, v in data.items()})
    assert [pair.signed for pair in problem.layout.pairs] == [
        (False, True),
        (False, True),
        (True, True),
        (False, True),
    ]
    assert len(set(problem.layout.pairs)) == 4
    columns = problem.layout.columns["h"]
    assert len(set(columns)) == len(columns) == 4 * 2 + 4 + 4
    block = problem.block(0)
    np.testing.assert_array_equal(
        block.pairs[2][..., 0], data["U"].values.reshape(6, 12, 3)[:, 6:9]
    )
    chosen = [i for i, c in enumerate(columns) if c.variable == "b"]
    np.testing.assert_array_equal(
        block.own["h"][:, :, chosen], data["b"].values.reshape(6, 4, 3).swapaxes(1, 2)
    )
    assert [columns[i].signed for i in chosen] == [False, False, True, False]
    only = Problem(resolved, problem.arrays, ("W", "V"))
    assert len(only.used) == 5
    assert not only.layout.pairs


def test_record_questions_and_summaries():
    """Every variable is told once, and its entries by the slot that they belong to."""
    spec = Spec({"h": "tanh"}, LSTM)
    rng = RNG(4)
    centre = draws(rng, (1, 1), W=(12, 2), U=(12, 3), b=(12,), V=(4, 3))
    data = centre.isel(chain=[0, 0], draw=[0] * 30) + 0.05 * draws(
        rng, (2, 30), W=(12, 2), U=(12, 3), b=(12,), V=(4, 3)
    )
    g = element(rng, (2, 30), h=3)
    mixed = g.apply({"posterior": data}, spec.bind(data))["posterior"]
    aligned = relabel.align(mixed, spec)
    assert Provenance.of(aligned).variables == tuple(f"posterior/{name}" for name in "WUbV")
    assert Provenance.of(aligned).spec == spec
    assert Spec.from_toml(spec.to_toml()) == spec
    assert relabel.undo(aligned).identical(mixed)
    again = relabel.align(aligned, spec)
    np.testing.assert_array_equal(again["U"], aligned["U"])
    table = relabel.summary(aligned, var_names=["b", "U"])
    assert list(table.loc[("h", 1)].index[:4]) == ["b[1]", "b[4]", "b[7]", "b[10]"]
    np.testing.assert_allclose(
        table.loc[("h", 2, "b[8]"), "mean"], float(aligned["b"][..., 8].mean())
    )
    assert relabel.stats.slots(aligned)["confidence"].min() > 0.99


def test_stacks_are_no_network():
    resolved = Spec({"h": "tanh"}, LSTM).bind(draws(W=(12, 2), U=(12, 3), b=(12,), V=(4, 3)))
    with pytest.raises(SpecError, match=r"'W' is several blocks \('\(h\^0 \+"):
        Network.of(resolved)
    for line, size in (("h <- (x + x)", 6), ("(h + h) <- x", 3)):
        spec = Spec({"h": "tanh"}, {"W": line, "V": "h -> y"})
        resolved = spec.bind(draws(W=(6, 4), V=(size, 2)))
        with pytest.raises(SpecError, match="not layers of their own"):
            Network.of(resolved)


def flat_and_apart(activation, rng, batch=(4, 20), sizes=(2, 3, 1)):
    """The same draws as one vector and as variables, with their specs."""
    lines = {"W1": "x -> h", "b1": "-> h", "W2": "h -> y", "b2": "-> y"}
    shapes = dict(zip(lines, (sizes[:2], sizes[1:2], sizes[1:], sizes[2:]), strict=True))
    centre = draws(rng, (1, 1), **shapes).isel(chain=[0] * batch[0], draw=[0] * batch[1])
    data = centre + 0.1 * draws(rng, batch, **shapes)
    moved = element(rng, batch, h=sizes[1], signs=activation == "tanh")
    apart = Spec({"h": activation}, lines)
    data = moved.apply({"posterior": data}, apart.bind(data))["posterior"]
    theta = np.concatenate([v.values.reshape(*batch, -1) for v in data.values()], axis=-1)
    flat = xr.Dataset({"theta": ((*SAMPLE, "p"), theta)})
    line = f"({' + '.join(lines.values())})"
    known = dict(zip("xhy", sizes, strict=True))
    return (flat, Spec({"h": activation}, {"theta": line}, sizes=known)), (data, apart)


def joined(data):
    arrays = [data[name].values for name in ("W1", "b1", "W2", "b2")]
    return np.concatenate([a.reshape(*a.shape[:2], -1) for a in arrays], axis=-1)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_flat_vector_is_the_network_that_it_holds(activation):
    """Labels, loss, findings, scales drawn anew and the reduced network are the same."""
    (flat, spec), (data, apart) = flat_and_apart(activation, RNG(8))
    inputs = RNG(9).normal(size=(12, 2))
    one, two = relabel.align(flat, spec, inputs=inputs), relabel.align(data, apart, inputs=inputs)
    np.testing.assert_array_equal(one["relabel_h_index"], two["relabel_h_index"])
    np.testing.assert_allclose(one["relabel_loss"], two["relabel_loss"], rtol=1e-9)
    np.testing.assert_allclose(one["theta"], joined(two), rtol=1e-12)
    priors = dict.fromkeys(("W1", "b1", "W2", "b2"), 2.0)
    found = [
        relabel.diagnose(aligned, inputs=inputs, priors=given)[1]
        for aligned, given in ((one, {"theta": 2.0}), (two, priors))
    ]
    texts = [[finding.code for finding in diagnosis.findings] for diagnosis in found]
    assert texts[0] == texts[1]
    small = [relabel.reduce(aligned, inputs=inputs, tolerance=0.05) for aligned in (one, two)]
    kept = small[0]["relabel_h_kept"].values
    np.testing.assert_array_equal(kept, small[1]["relabel_h_kept"])
    np.testing.assert_allclose(small[0]["theta"], joined(small[1]), rtol=1e-9, atol=1e-12)
    if activation == "relu":
        drawn = [
            relabel.stats.redraw_scale(one, {"theta": 2.0}, rng=3),
            relabel.stats.redraw_scale(two, priors, rng=3),
        ]
        np.testing.assert_allclose(drawn[0]["theta"], joined(drawn[1]), rtol=1e-9)


def test_warm_up_that_lacks_a_variable():
    """Every part finds its own reference again, though others are missing."""
    rng, spec = RNG(10), Spec({"h": "tanh"}, LSTM)
    shapes = {"W": (12, 2), "U": (12, 3), "b": (12,), "V": (4, 3)}
    data = draws(rng, (1, 1), **shapes).isel(chain=[0, 0], draw=[0] * 9)
    data = data + 0.05 * draws(rng, (2, 9), **shapes)
    mixed = element(rng, (2, 9), h=3).apply({"posterior": data}, spec.bind(data))["posterior"]
    groups = {"posterior": mixed, "warmup_posterior": mixed[["U", "b", "V"]].isel(draw=slice(4))}
    aligned = relabel.align(xr.DataTree.from_dict(groups), spec)
    for name in ("U", "b", "V"):
        warm = aligned["warmup_posterior"][name]
        np.testing.assert_array_equal(warm, aligned["posterior"][name][:, :4])


def test_batch_norm_carries_the_scale():
    """The convolution is only permuted, since the norm after it takes its scale out."""
    axes = {"conv": "c^0 <- x ...", "gamma": "-> c", "beta": "-> c", "next": "y <- c ..."}
    shapes = {"conv": (4, 2, 3, 3), "gamma": (4,), "beta": (4,), "next": (5, 4, 3, 3)}
    resolved = Spec({"c": "relu"}, axes).bind(draws(**shapes))
    assert resolved.sizes == {"c": 4}
    for wrong in ("c^0 -> x ...", "_ x ...", "..."):
        with pytest.raises(SpecError, match=r"only biases \(gamma, beta\) write"):
            Spec({"c": "relu"}, axes | {"conv": wrong}).bind(draws(**shapes))


def test_a_flip_moves_the_bias_of_its_own_block():
    """Each block of a stacked reader goes with the block of the bias in the same place."""
    spec = Spec(
        {"h": "sigmoid"}, {"W": "h <- x", "b": "-> h", "V": "(y + y) <- h", "c": "-> (y + y)"}
    )
    data = draws(W=(3, 2), b=(3,), V=(8, 3), c=(8,))
    resolved = spec.bind(data)
    g = element(RNG(5), (2, 3), h=3)
    moved = g.apply({"posterior": data}, resolved)["posterior"]

    x = RNG(6).normal(size=2)

    def outputs(w):
        h = 1 / (1 + np.exp(-(w["W"].values @ x + w["b"].values)))
        return (w["V"].values @ h[..., None])[..., 0] + w["c"].values

    np.testing.assert_allclose(outputs(moved), outputs(data), rtol=1e-12)
    assert (moved["c"] != data["c"]).any()
