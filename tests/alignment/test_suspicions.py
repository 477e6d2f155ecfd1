"""What a spec leaves behind, what it would break: each is told or refused, and nothing else is."""

import json

import numpy as np
import pytest
import xarray as xr

import relabel
from relabel import Spec
from relabel.errors import SpecError

SAMPLE = ("chain", "draw")
MIXTURE = {"mu": "component ...", "w": "component"}
CHAINS, DRAWS, K = 4, 20, 3


def notes_of(aligned):
    attrs = aligned.attrs if isinstance(aligned, xr.Dataset) else aligned["relabel"].attrs
    return json.loads(attrs["relabel"])["warnings"]


def notes(draws, spec):
    return notes_of(relabel.align(draws, spec))


def drawn(dims=None, **arrays):
    """Variables by their values, with default names of dimensions where none are given."""
    named = {
        name: (dims or {}).get(name, tuple(f"{name}_dim_{i}" for i in range(values.ndim - 2)))
        for name, values in arrays.items()
    }
    return xr.Dataset({name: ((*SAMPLE, *named[name]), v) for name, v in arrays.items()})


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def switched(rng, *values, signs=False):
    """Draws of arrays whose first axis are units, in another order (and sign) in every draw."""
    order = rng.permuted(np.tile(np.arange(len(values[0])), (CHAINS, DRAWS, 1)), axis=2)
    sign = rng.choice([-1.0, 1.0], order.shape) if signs else np.ones(order.shape)
    return [
        (value + 0.02 * rng.normal(size=(CHAINS, DRAWS, *np.shape(value))))[
            np.arange(CHAINS)[:, None, None], np.arange(DRAWS)[:, None], order
        ]
        * sign.reshape(*sign.shape, *(1,) * (np.ndim(value) - 1))
        for value in map(np.asarray, values)
    ]


def mixture(rng, **dims):
    """Means in two dimensions, covariances, and weights that add up to one."""
    mu, cov, w = switched(
        rng,
        [[-4.0, 0.0], [0.0, 3.0], [4.0, 1.0]],
        [np.eye(2), 2 * np.eye(2), 3 * np.eye(2)],
        [0.2, 0.3, 0.5],
    )
    return drawn(dims, mu=mu, cov=cov, w=w / w.sum(-1, keepdims=True))


# ---------------------------------------------------------------------- axes of the units' size


def test_everything_of_the_units_size_is_named_in_one_sentence(rng):
    draws = mixture(rng, mu=("component", "dim"))
    for spec in (
        {"component": "permutation"},
        Spec({"component": "permutation"}, {"mu": "component _"}),
    ):
        (note,) = notes(draws, spec)
        assert "'cov' (3 × 2 × 2), 'w' (3): left as they were" in note
        assert "units 'component' (3)" in note
        assert "cov = 'component ...'" in note


def test_one_variable_that_is_left_is_named(rng):
    (note,) = notes(mixture(rng), Spec({"k": "permutation"}, {"mu": "k _", "cov": "k ..."}))
    assert note.startswith("'w' (3): left as it was, though it has an axis")


def test_whole_specs_leave_nothing_to_say(rng):
    draws = mixture(rng)
    assert (
        notes(
            draws,
            relabel.mixture({"mu": "component ...", "cov": "component ...", "w": "component"}),
        )
        == []
    )
    said = Spec({"k": "permutation"}, {"mu": "k _", "cov": "...", "w": "..."})
    assert notes(draws, said) == []
    named = mixture(rng, mu=("k", "x"), cov=("k", "x", "z"), w=("k",))
    assert notes(named, {"k": "permutation"}) == []


def test_sets_of_one_size_share_a_sentence(rng):
    arrays = {name: rng.normal(size=(CHAINS, DRAWS, 3)) for name in ("a", "b", "c")}
    (note,) = notes(
        drawn(**arrays), Spec({"p": "permutation", "q": "permutation"}, {"a": "p", "b": "q"})
    )
    assert "'c' (3)" in note
    assert "units 'p', 'q' (3)" in note


def test_one_unit_says_nothing(rng):
    arrays = {name: rng.normal(size=(CHAINS, DRAWS, 1)) for name in ("a", "b")}
    assert notes(drawn(**arrays), Spec({"k": "permutation"}, {"a": "k"})) == []


@pytest.mark.parametrize("known", ["beside", "data", "entries"])
def test_dimensions_of_something_else_are_asked_about(rng, known):
    """Three features and three components: by chance, or not?"""
    mu, scale = rng.normal(size=(CHAINS, DRAWS, 3, 3)), rng.normal(size=(CHAINS, DRAWS, 3))
    if known == "beside":
        draws = drawn({"mu": ("k", "feature"), "scale": ("feature",)}, mu=mu, scale=scale)
    else:
        draws = drawn({"mu": ("k", "x"), "scale": ("feature",)}, mu=mu[..., :2], scale=scale)
    if known == "entries":
        draws = draws.assign_coords(feature=["age", "height", "income"])
    tree = xr.DataTree.from_dict({"posterior": draws})
    if known == "data":
        tree["constant_data"] = xr.DataTree(
            xr.Dataset({"X": (("obs", "feature"), np.ones((5, 3)))})
        )
    (note,) = notes(tree, {"k": "permutation"})
    assert "'scale' (dimension feature): as long by chance, or of these units?" in note
    axes = {"mu": "k _", "scale": "..."}
    assert notes(tree, Spec({"k": "permutation"}, axes)) == []


def test_groups_that_share_the_draws_are_looked_at(rng):
    draws = mixture(rng, mu=("k", "x"), cov=("k", "x", "z"), w=("k",))
    other = drawn(log_w=np.zeros((CHAINS, DRAWS, 3)))
    stats = drawn(step_size=np.ones((CHAINS, DRAWS, 3)))
    tree = xr.DataTree.from_dict(
        {"posterior": draws, "unconstrained_posterior": other, "sample_stats": stats}
    )
    (note,) = notes(tree, {"k": "permutation"})
    assert "'unconstrained_posterior/log_w' (3)" in note
    assert "step_size" not in note


def test_predictions_of_as_many_observations_are_no_parameters(rng):
    draws = mixture(rng, mu=("k", "x"), cov=("k", "x", "z"), w=("k",))
    predicted = drawn({"y": ("obs",)}, y=rng.normal(size=(CHAINS, DRAWS, 3)))
    tree = xr.DataTree.from_dict(
        {
            "posterior": draws,
            "posterior_predictive": predicted,
            "observed_data": xr.Dataset({"y": ("obs", np.zeros(3))}),
        }
    )
    assert notes(tree, {"k": "permutation"}) == []


# ---------------------------------------------------------------------- default names


def test_a_default_name_is_not_taken_for_the_whole_set(rng):
    draws = mixture(rng)
    with pytest.raises(
        SpecError, match="'w_dim_0' is the default name of a dimension of w"
    ) as error:
        relabel.align(draws, {"w_dim_0": "permutation"})
    text = str(error.value)
    table = text[text.index("axes={") + 5 : text.index("})") + 1]
    spec = Spec({"component": "permutation"}, json.loads(table.replace("'", '"')))
    assert set(spec.axes) == {"mu", "cov", "w"}
    assert notes(draws, spec) == []


def test_a_default_name_is_said_to_be_of_one_variable(rng):
    draws = mixture(rng)[["mu"]]
    (note,) = notes(draws, {"mu_dim_0": "permutation"})
    assert "'mu_dim_0' is the default name of a dimension of 'mu'" in note
    shared = drawn(
        {"mu": ("w_dim_0",), "w": ("w_dim_0",)},
        mu=draws["mu"].values[..., 0],
        w=draws["mu"].values[..., 1],
    )
    assert notes(shared, {"w_dim_0": "permutation"}) == []


# ---------------------------------------------------------------------- what reads the units


def network(rng, names=("W1", "b1", "W2", "b2"), rows="unit", columns=2):
    """One hidden layer, whose outgoing weights name their rows otherwise."""
    w1, b1, w2 = switched(
        rng, rng.normal(size=(3, 5)), rng.normal(size=3), rng.normal(size=(3, columns)), signs=True
    )
    b2 = rng.normal(size=(CHAINS, DRAWS, columns))
    dims = (("feature", "hidden"), ("hidden",), (rows, "cls"), ("cls",))
    arrays = (np.swapaxes(w1, -1, -2), b1, w2, b2)
    return drawn(dict(zip(names, dims, strict=True)), **dict(zip(names, arrays, strict=True)))


def outputs(draws, names=("W1", "b1", "W2", "b2")):
    w1, b1, w2, b2 = (draws[name].values for name in names)
    inputs = np.random.default_rng(1).normal(size=(9, 5))
    return np.tanh(inputs @ w1 + b1[..., None, :]) @ w2 + b2[..., None, :]


@pytest.mark.parametrize("columns", [2, 3])
@pytest.mark.parametrize("activation", ["tanh", "gelu", "relu"])
@pytest.mark.parametrize("rows", ["unit", "W2_dim_0"])
def test_weights_that_read_are_found_by_names_and_shapes(rng, activation, rows, columns):
    draws = network(rng, rows=rows, columns=columns)
    aligned = relabel.align(draws, {"hidden": activation})
    said = "'W2' was taken to read 'hidden' (its axis 1: W2 = 'hidden -> y')"
    assert any(note.startswith(said) for note in notes_of(aligned))
    assert not any("left as" in note for note in notes_of(aligned))
    if activation == "tanh":
        np.testing.assert_allclose(outputs(aligned), outputs(draws), atol=1e-12)
        assert not np.array_equal(aligned["W2"], draws["W2"])
    back = relabel.undo(aligned)
    np.testing.assert_allclose(back["W1"], draws["W1"], rtol=1e-12)


@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_weights_of_other_names_are_asked_for(rng, activation):
    names = ("theta", "alpha", "gamma", "beta")
    draws = network(rng, names)
    with pytest.raises(SpecError, match="nothing reads them: 'gamma'") as error:
        relabel.align(draws, {"hidden": activation})
    axes = str(error.value)
    axes = axes[axes.index("axes={") + 5 : axes.index("}") + 1]
    spec = Spec({"hidden": activation}, json.loads(axes.replace("'", '"')))
    aligned = relabel.align(draws, spec)
    if activation == "tanh":
        np.testing.assert_allclose(outputs(aligned, names), outputs(draws, names), atol=1e-12)


def test_arrows_without_a_reader_are_refused_for_permutations_too(rng):
    draws = network(rng)
    spec = Spec({"h": "gelu"}, {"W1": "x -> h", "b1": "-> h"})
    with pytest.raises(SpecError, match="nothing reads them: 'W2'"):
        relabel.align(draws, spec)
    neutral = Spec({"h": "tanh"}, {"W1": "x h", "b1": "h"})
    with pytest.raises(SpecError, match="nothing reads them: 'W2'"):
        relabel.align(draws, neutral)
    alone = draws.drop_vars(["W2", "b2"])
    relabel.align(alone, spec)  # permuted weights whose readers were not saved
    with pytest.raises(SpecError, match="save the outgoing weights"):
        relabel.align(alone, {"hidden": "tanh"})


def test_whole_networks_are_not_asked_about(rng):
    for rows, shape in (("hidden", slice(None)), ("hidden", 0)):
        draws = network(rng, rows=rows)
        draws["W2"] = draws["W2"] if shape == slice(None) else draws["W2"].isel(cls=0)
        assert notes(draws, {"hidden": "tanh"}) == []
    many = network(rng, rows="hidden", columns=3)  # as many outputs as units
    assert notes(many.drop_vars("b2"), {"hidden": "tanh"}) == []
    turned = draws.transpose(*SAMPLE, "hidden", "feature", ...)
    assert notes(turned, {"hidden": "tanh"}) == []


@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_every_layer_of_a_deep_network_is_read(rng, activation):
    dims = (("x", "h1"), ("h1",), ("h1_in", "h2"), ("h2",), ("h2_in", "y"))
    sizes = {"x": 3, "h1": 4, "h1_in": 4, "h2": 5, "h2_in": 5, "y": 2}
    arrays = [rng.normal(size=(2, 5, *(sizes[d] for d in one))) for one in dims]
    spec = {"h1": activation, "h2": activation}

    def named(names, dims=dims):
        return drawn(dict(zip(names, dims, strict=True)), **dict(zip(names, arrays, strict=True)))

    found = relabel.align(named(("W1", "b1", "W2", "b2", "W3")), spec)
    axes = json.loads(found.attrs["relabel"])["spec"]["axes"]
    assert [axes[name] for name in ("W1", "W2", "W3")] == ["x -> h1", "h1 -> h2", "h2 -> y"]
    with pytest.raises(SpecError, match=r"'B' .4 × 5. would stay behind"):
        relabel.align(named(("A", "b", "B", "c", "C")), spec)
    turned = {"h2": activation, "h1": activation}  # named from the outputs on
    with pytest.raises(SpecError, match="nothing reads them"):
        relabel.align(named(("W1", "b1", "W2", "b2", "W3")), turned)
    last = (*dims[:4], ("h2", "y"))
    said = notes(named(("A", "a", "B", "c", "C"), last), spec)
    assert any("'B' (dimension h1_in): another axis as long as" in note for note in said)
    whole = (*dims[:2], ("h1", "h2"), *last[3:])
    assert not any("axis" in note for note in notes(named(("A", "a", "B", "c", "C"), whole), spec))


def test_a_second_axis_is_asked_about_where_it_has_a_name_of_its_own(rng):
    arrays = {"mu": rng.normal(size=(2, 9, 3)), "P": rng.normal(size=(2, 9, 3, 3))}
    (note,) = notes(
        drawn({"mu": ("state",), "P": ("state", "next")}, **arrays), {"state": "permutation"}
    )
    assert "'P' (dimension next): another axis as long as there are units 'state' (3)" in note
    arrays["Q"] = rng.normal(size=(2, 9, 3, 3))
    dims = {"mu": ("state",), "P": ("state", "dim"), "Q": ("state", "dim")}
    assert notes(drawn(dims, **arrays), {"state": "permutation"}) == []
    said = Spec({"k": "permutation"}, {"mu": "k", "P": "k _", "Q": "k k"})
    assert notes(drawn(dims, **arrays), said) == []


def test_factors_have_no_reader(rng):
    loadings, scores = switched(rng, rng.normal(size=(3, 6)), rng.normal(size=(3, 9)), signs=True)
    draws = drawn({"L": ("f", "item"), "F": ("f", "person")}, L=loadings, F=scores)
    assert notes(draws, {"f": "signed"}) == []


def test_a_forgotten_head_is_named(rng):
    draws = network(rng, rows="hidden")
    draws["wv"] = ((*SAMPLE, "wv_dim_0"), draws["b1"].values)
    arrows = {"W1": "x -> h", "b1": "-> h", "W2": "h -> y", "b2": "-> y"}
    for spec in ({"hidden": "tanh"}, Spec({"h": "tanh"}, arrows)):
        (note,) = notes(draws, spec)
        assert "'wv' (3): left as it was" in note
        assert "its function has changed" in note
        assert "wv = 'h" in note
    assert notes(draws, Spec({"h": "tanh"}, arrows | {"wv": "..."})) == []


# ---------------------------------------------------------------------- signs


def test_parts_of_a_whole_and_scales_are_permuted_and_not_flipped(rng):
    loadings, w = switched(rng, rng.normal(size=(3, 6)), np.array([0.2, 0.3, 0.5]))
    signs = rng.choice([-1.0, 1.0], (CHAINS, DRAWS, 3, 1))
    w = np.abs(w) / np.abs(w).sum(-1, keepdims=True)
    dims = {"L": ("f", "item"), "w": ("f",), "tau": ("f",)}
    draws = drawn(dims, L=loadings * signs, w=w, tau=2 * w)
    aligned = relabel.align(draws, {"f": "signed"})
    assert (aligned["relabel_f_factor"] < 0).any()
    assert (aligned["w"] > 0).all()
    assert (aligned["tau"] > 0).all()
    said = notes_of(aligned)
    assert [note.split(" was ")[0] for note in said] == [
        "'w' cannot be negative, and",
        "'tau' cannot be negative, and",
    ]
    assert json.loads(aligned.attrs["relabel"])["spec"]["axes"]["posterior/w"] == "f^0"
    xr.testing.assert_equal(relabel.undo(aligned), draws)


def test_weights_that_add_up_to_one_break_the_signs_of_a_network(rng):
    draws = network(rng, rows="hidden")
    w = np.abs(draws["W2"].values[..., 0])
    draws["W2"] = ((*SAMPLE, "hidden"), w / w.sum(-1, keepdims=True))
    arrows = {"W1": "x -> h", "b1": "-> h", "W2": "h ->"}
    with pytest.raises(SpecError, match=r"adds up to one.*declare 'h' 'permutation'") as error:
        relabel.align(draws, Spec({"h": "tanh"}, arrows))
    assert "^0" not in str(error.value)
    assert notes(draws, Spec({"h": "permutation"}, arrows)) == []


def test_signs_on_both_sides_cancel(rng):
    """Covariances of factors that are one and zero, or positive, are no parts of a whole."""
    (loadings,) = switched(rng, rng.normal(size=(3, 6)), signs=True)
    draws = drawn(L=loadings, Phi=np.broadcast_to(np.eye(3), (CHAINS, DRAWS, 3, 3)))
    assert notes(draws, Spec({"f": "signed"}, {"L": "f item", "Phi": "f f"})) == []


def test_values_of_one_sign_are_not_flipped(rng):
    """Twelve weights have one sign: not by chance. That three of them do is told."""
    spec = Spec({"h": "tanh"}, {"W1": "x -> h", "b1": "-> h", "W2": "h -> y"})
    draws = network(rng, rows="hidden", columns=4)
    assert notes(draws, spec) == []
    draws["W2"] = abs(draws["W2"])
    with pytest.raises(SpecError, match=r"'W2' has one sign .* declare 'h' 'permutation'"):
        relabel.align(draws, spec)
    few = notes(draws.isel(cls=[0]), spec)
    assert any("'W2' had one sign in all draws and has changed it" in note for note in few)


def test_all_draws_may_be_flipped_to_a_reference(rng):
    """Weights that are positive in all draws, and negative in the copy that is the reference."""
    w1, w2 = rng.normal(size=(5, 3)), rng.lognormal(size=(3, 4))
    noise = 0.01 * rng.normal(size=(CHAINS, DRAWS, 1, 1))
    draws = drawn(W1=w1 + noise, W2=w2 + noise)
    point = relabel.criteria.ToReference(
        xr.Dataset({"W1": (("a", "b"), -w1), "W2": (("c", "d"), -w2)})
    )
    aligned = relabel.align(
        draws, Spec({"h": "tanh"}, {"W1": "x -> h", "W2": "h -> y"}), criterion=point
    )
    assert (aligned["W2"] < 0).all()
    assert any("'W2' had one sign" in note for note in notes_of(aligned))


# ---------------------------------------------------------------------- values of all units


def test_a_reference_class_is_seen_by_its_zeros(rng):
    mu, gamma = switched(rng, [-4.0, 0.0, 4.0], rng.normal(size=(3, 2)))
    dims = {"mu": ("class",), "gamma": ("class", "x")}
    draws = drawn(dims, mu=mu, gamma=gamma - gamma[:, :, -1:])
    (note,) = notes(draws, {"class": "permutation"})
    assert "'gamma' is zero in all draws at some of the units 'class'" in note
    assert notes(drawn(dims, mu=mu, gamma=gamma), {"class": "permutation"}) == []


def test_a_triangle_is_seen_and_a_diagonal_is_not(rng):
    factor = np.tril(rng.normal(size=(CHAINS, DRAWS, 3, 3)))
    draws = drawn(mu=switched(rng, [-4.0, 0.0, 4.0])[0], L=factor)
    spec = Spec({"k": "permutation"}, {"mu": "k", "L": "k k"})
    (note,) = notes(draws, spec)
    assert "'L' is zero in all draws" in note
    draws["L"] = draws["L"] * np.eye(3)
    assert notes(draws, spec) == []
    per_unit = drawn(mu=draws["mu"].values, L=factor)  # a triangle for each unit
    per_unit["L"] = ((*SAMPLE, "a", "b", "c"), np.tril(rng.normal(size=(CHAINS, DRAWS, 3, 2, 2))))
    assert notes(per_unit, Spec({"k": "permutation"}, {"mu": "k", "L": "k ..."})) == []


def sticks_of(w):
    return w / (1 - np.cumsum(w, -1) + w)


@pytest.mark.parametrize(
    ("made", "what"),
    [
        (lambda w: sticks_of(w)[..., :-1], "the sticks of 'w'"),
        (lambda w: np.log(w[..., :-1] / w[..., -1:]), "(against the last unit) of 'w'"),
        (lambda w: np.log(w[..., 1:] / w[..., :1]), "(against the first unit) of 'w'"),
        (
            lambda w: (np.log(w) - np.log(w).mean(-1, keepdims=True))[..., :-1],
            "the unconstrained values of 'w'",
        ),
    ],
)
def test_values_that_probabilities_are_made_of(rng, made, what):
    draws = mixture(rng, mu=("k", "x"), cov=("k", "x", "z"), w=("k",))
    draws["v"] = ((*SAMPLE, "v_dim_0"), made(draws["w"].values))
    (note,) = notes(draws, {"k": "permutation"})
    assert "'v' holds" in note
    assert what in note
    assert "left as they were" in note
    draws["v"] = draws["v"] + 0.1
    assert notes(draws, {"k": "permutation"}) == []


def test_sticks_of_all_units_are_not_values_of_single_units(rng):
    draws = mixture(rng, mu=("k", "x"), cov=("k", "x", "z"), w=("k",))
    draws["v"] = (draws["w"].dims, sticks_of(draws["w"].values))
    (note,) = notes(draws, {"k": "permutation"})
    assert "'v' holds the sticks of 'w'" in note
    assert "permuted all the same" in note
    two = draws[["w"]].isel(k=[0, 1])
    two["w"] = two["w"] / two["w"].sum("k")
    two["v"] = two["w"]  # the first stick of two is the first weight, and a copy is no stick
    assert notes(two, {"k": "permutation"}) == []


@pytest.mark.parametrize("name", ["w_simplex__", "logits"])
def test_names_of_values_of_all_units_but_one(rng, name):
    draws = mixture(rng, mu=("k", "x"), cov=("k", "x", "z"), w=("k",))
    draws[name] = ((*SAMPLE, "free"), rng.normal(size=(CHAINS, DRAWS, 2)))
    (note,) = notes(draws, {"k": "permutation"})
    assert f"'{name}' has 2 values for 3 units" in note
    assert notes(draws.rename({name: "beta"}), {"k": "permutation"}) == []
