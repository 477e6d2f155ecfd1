"""Units on both sides of an array: brute force, planted labels, and the laws."""

import itertools
import json

import numpy as np
import pytest
import xarray as xr

import relabel
from relabel import Spec, Transformation
from relabel.criteria import Mean, Normal, ToReference
from relabel.groups import Score, group_of
from relabel.groups.elements import Monomial
from relabel.matching import quadratic, search
from relabel.matching.features import Problem
from relabel.matching.quadratic import Quadratic, Stack, dense, whole_group
from relabel.matching.solve import solve
from relabel.simulate import recovery
from relabel.simulate.planted import random_element, shares_of

SAMPLE = ("chain", "draw")

ELMAN = {"W": "x -> h", "U": "h -> h", "b": "-> h", "V": "h -> y"}
GATES = {  # of an LSTM: only the candidate, and what is read, change their sign with the unit
    "Wi": "h^0 <- x",
    "Wc": "h <- x",
    "Ui": "h^0 <- h",
    "Uf": "h^0 <- h",
    "Uo": "h^0 <- h",
    "Uc": "h <- h",
    "bf": "-> h^0",
    "V": "y <- h",
}
STACKED = {  # two layers of recurrent units, three axes and an array that does not flip at all
    "W": "x -> h",
    "U": "h -> h time",
    "S": "h^0 h^0",
    "A": "h -> g",
    "R": "g -> g",
    "V": "g -> y",
}
STREAM = {"E": "x -> d", "A": "d -> h", "B": "h -> d", "D": "d -> d", "V": "d -> y"}


def arrays(lines, sizes, rng, batch=()):
    """Standard normal arrays of the shapes that the notation says."""
    found = {}
    for name, line in lines.items():
        words = line.replace("->", " ").replace("<-", " ").split()
        found[name] = rng.normal(size=(*batch, *(sizes[word.split("^")[0]] for word in words)))
    return found


def dataset(values, lead=SAMPLE):
    """Name the axes."""
    return xr.Dataset(
        {
            name: ((*lead, *(f"{name}{i}" for i in range(v.ndim - len(lead)))), v)
            for name, v in values.items()
        }
    )


def tree_of(draws):
    return xr.DataTree.from_dict({"posterior": draws})


def planted(lines, sizes, units, noise, *, draws=10, seed=0):
    """Draws about one point, each under an element of its own; the point too."""
    rng = np.random.default_rng(seed)
    truth, errors = (arrays(lines, sizes, rng, batch) for batch in ((), (2, draws)))
    clean = dataset({n: v + noise * v.std() * errors[n] for n, v in truth.items()})
    return (*moved(clean, Spec(dict(units), lines), rng), dataset(truth, ()))


def moved(clean, spec, rng):
    """Draws under random elements, the spec, and the elements."""
    batch = tuple(clean.sizes[name] for name in SAMPLE)
    sizes = spec.bind(clean).sizes
    g = Transformation(
        {
            u: random_element(group_of(s), batch, sizes[u], "draw", rng)
            for u, s in spec.units.items()
        }
    )
    return g.apply({"posterior": clean}, spec.bind(clean))["posterior"], spec, g


@pytest.fixture
def unlisted(monkeypatch):
    """Groups are searched, however small."""
    monkeypatch.setattr(quadratic, "_LARGEST_LISTED", 1)
    monkeypatch.setattr(search, "_EXHAUSTIVE_ORDER", 1)


# ---------------------------------------------------------------------- the problem itself


def problem(symmetry, size, *, n=6, seed=0):
    """Random problems with arrays of every kind."""
    rng = np.random.default_rng(seed)
    group = group_of(symmetry)
    kinds = itertools.product((False, True), repeat=2) if group.signs else [(False, False)] * 2
    stacks = [
        Stack(rng.normal(size=(n, size, size, r + 1)), rng.normal(size=(size, size, r + 1)), kind)
        for r, kind in enumerate(kinds)
    ]
    odd = rng.normal(size=(n, size, size)) * group.signs
    return Quadratic(group, Score(rng.normal(size=(n, size, size)), odd), stacks), rng


def gain_by_definition(one, element):
    """Relabel every array by itself and multiply."""
    total = np.zeros(len(one))
    for t, (index, factor) in enumerate(zip(element.index, element.factor, strict=True)):
        slots = np.arange(len(index))
        total[t] = (one.linear.even[t] + factor[:, None] * one.linear.odd[t])[slots, index].sum()
        for stack in one.stacks:
            array = stack.array[t][np.ix_(index, index)]
            for side, signed in enumerate(stack.signed):
                if signed:
                    array = array * factor.reshape((-1, 1, 1) if side == 0 else (1, -1, 1))
            total[t] += (array * stack.mean).sum()
    return total


def neighbours(element, *, signs):
    """All elements that differ in two slots: units exchanged or not, signs changed or not."""
    size = element.size
    for a, b in itertools.combinations(range(size), 2):
        for swap, s, t in itertools.product((False, True), (1, -1), (1, -1)):
            if signs or (s == t == 1 and swap):
                turn = Monomial.identity(element.batch, size)
                turn.index[:, [a, b]] = [b, a] if swap else [a, b]
                turn.factor[:, [a, b]] = [s, t]
                yield turn @ element


@pytest.mark.parametrize("symmetry", ["permutation", "signed"])
def test_the_gain_of_every_element(symmetry):
    one, _ = problem(symmetry, 3)
    everything = whole_group(one.group, 3)
    gains = one.of_all(everything)
    for number in range(len(everything.index)):
        element = everything[np.full(len(one), number)]
        expected = gain_by_definition(one, element)
        np.testing.assert_allclose(one.gain(element), expected, rtol=1e-12)
        np.testing.assert_allclose(gains[:, number], expected, rtol=1e-12)
        point = dense(element)
        slope = (one._slope(point) * point).sum(axis=(0, 2, 3))  # of a form of degree two: twice it
        np.testing.assert_allclose(one.linear.of(element) + slope / 2, expected, rtol=1e-12)
    np.testing.assert_allclose(one.gain(one.best()), gains.max(axis=1), rtol=1e-12)


@pytest.mark.parametrize("symmetry", ["permutation", "signed"])
def test_exchanges_end_where_no_exchange_gains(symmetry):
    one, rng = problem(symmetry, 5)
    begin = random_element(one.group, (1, len(one)), 5, "draw", rng).reshape(len(one))
    signs = one.group.signs
    gain, turn = one._best_exchange(begin)
    there = np.max([one.gain(g) for g in neighbours(begin, signs=signs)], axis=0)
    np.testing.assert_allclose(one.gain(begin) + gain, there, rtol=1e-10)
    np.testing.assert_allclose(one.gain(turn @ begin), there, rtol=1e-10)
    end = one.exchanged(begin, np.full(len(one), 1e-9))
    for other in neighbours(end, signs=signs):
        assert (one.gain(other) <= one.gain(end) + 1e-8).all()


@pytest.mark.parametrize("symmetry", ["permutation", "signed"])
def test_profiles_do_not_depend_on_labels(symmetry):
    """The draws are the reference under known elements, which profiles alone find again."""
    one, rng = problem(symmetry, 6, n=20)
    g = random_element(one.group, (1, 20), 6, "draw", rng).reshape(20)
    stacks = [
        Stack(Stack(np.stack([s.mean] * 20), s.mean, s.signed).moved(g), s.mean, s.signed)
        for s in one.stacks
    ]
    nothing = Score(np.zeros((20, 6, 6)), np.zeros((20, 6, 6)))
    found = Quadratic(one.group, nothing, stacks).by_profiles()
    assert np.array_equal((found @ g).index, np.tile(np.arange(6), (20, 1)))
    assert shares_of({"h": (found @ g).reshape(1, 20)})["h"] > 0.9  # one-sided arrays tell signs


# ---------------------------------------------------------------------- against brute force


def least_losses(draws, point, spec):
    """Least loss of every draw over the whole group of `h`, by applying every element."""
    axes = {name: line.replace("->", " ").split() for name, line in spec.axes.items()}
    resolved = spec.bind(draws)
    best = np.full((draws.sizes["chain"], draws.sizes["draw"]), np.inf)
    everything = whole_group(resolved.group("h"), resolved.sizes["h"])
    for index, factor in zip(everything.index, everything.factor, strict=True):
        loss = np.zeros(best.shape)
        for name, words in axes.items():
            values = draws[name].values
            for axis, word in enumerate(words):
                if word == "h":
                    flips = factor.reshape((-1, *(1 for _ in words[axis + 1 :])))
                    values = values.take(index, axis=axis + 2) * flips
            squares = (values - point[name].values) ** 2
            loss += squares.sum(axis=tuple(range(2, squares.ndim)))
        best = np.minimum(best, loss)
    return best


def unstructured(lines, size, symmetry, draws, seed):
    """Draws and a point without anything in common."""
    rng = np.random.default_rng(seed)
    sizes = {"x": 2, "h": size, "y": 1}
    values, point = (arrays(lines, sizes, rng, batch) for batch in ((1, draws), ()))
    return dataset(values), dataset(point, ()), Spec({"h": symmetry}, lines)


LAYOUTS = [{"U": "h -> h"}, ELMAN]


@pytest.mark.parametrize("lines", LAYOUTS)
@pytest.mark.parametrize(("symmetry", "size"), [("permutation", 5), ("tanh", 4)])
def test_small_groups_are_solved_exactly(lines, symmetry, size):
    draws, point, spec = unstructured(lines, size, symmetry, 30, size)
    criterion = ToReference(point, scale="none")
    own = relabel.align(tree_of(draws), spec, criterion=criterion)["relabel"]
    np.testing.assert_allclose(own["loss"], least_losses(draws, point, spec), rtol=1e-9)
    assert own["start"].attrs["flag_meanings"].split()[int(own["start"][0, 0]) + 1] == "exact"


@pytest.mark.parametrize("lines", LAYOUTS)
@pytest.mark.parametrize(("symmetry", "size"), [("permutation", 5), ("tanh", 4)])
@pytest.mark.usefixtures("unlisted")
def test_local_search_reaches_the_optimum_of_noise(
    lines, symmetry, size, record_testsuite_property
):
    draws, point, spec = unstructured(lines, size, symmetry, 100, size)
    criterion = ToReference(point, scale="none")
    loss = relabel.align(tree_of(draws), spec, criterion=criterion)["relabel"]["loss"].values
    best = least_losses(draws, point, spec)
    assert (loss >= best - 1e-9).all()
    rate = float((loss <= best + 1e-9).mean())
    record_testsuite_property(f"{symmetry}, {len(lines)} arrays", rate)
    assert rate >= 0.97


@pytest.mark.parametrize("lines", LAYOUTS)
@pytest.mark.parametrize(("symmetry", "size"), [("permutation", 6), ("tanh", 5)])
@pytest.mark.usefixtures("unlisted")
def test_local_search_finds_what_is_there(lines, symmetry, size):
    """Without noise the loss is zero at the planted element, and nowhere else."""
    sizes = {"x": 2, "h": size, "y": 1}
    draws, spec, _, point = planted(lines, sizes, {"h": symmetry}, 0.0, draws=20)
    criterion = ToReference(point, scale="none")
    loss = relabel.align(tree_of(draws), spec, criterion=criterion)["relabel"]["loss"].values
    assert (loss < 1e-9).all()


def test_a_two_sided_centre_is_solved_with_the_others():
    """States with transitions, and units that read them: every draw is globally optimal."""
    rng = np.random.default_rng(3)
    lines, sizes = {"P": "s s", "A": "s h"}, {"s": 3, "h": 3}
    draws, point = (
        dataset(arrays(lines, sizes, rng, b), lead) for b, lead in (((1, 40), SAMPLE), ((), ()))
    )
    spec = Spec({"s": "permutation", "h": "signed"}, lines)
    criterion = ToReference(point, scale="none")
    own = relabel.align(tree_of(draws), spec, criterion=criterion)["relabel"]
    best = np.full((1, 40), np.inf)
    states, units = (whole_group(spec.bind(draws).group(u), 3) for u in "sh")
    for s, h in itertools.product(range(len(states.index)), range(len(units.index))):
        p, (i, f) = states.index[s], (units.index[h], units.factor[h])
        loss = ((draws["P"].values[..., p, :][..., p] - point["P"].values) ** 2).sum((2, 3))
        a = draws["A"].values[..., p, :][..., i] * f
        best = np.minimum(best, loss + ((a - point["A"].values) ** 2).sum((2, 3)))
    np.testing.assert_allclose(own["loss"], best, rtol=1e-9)


# ---------------------------------------------------------------------- planted labels

CASES = {
    "elman 16": (ELMAN, {"x": 2, "h": 16, "y": 1}, {"h": "tanh"}),
    "elman 32": (ELMAN, {"x": 2, "h": 32, "y": 1}, {"h": "tanh"}),
    "gates": (GATES, {"x": 2, "h": 16, "y": 1}, {"h": "tanh"}),
    "transitions": ({"P": "s s"}, {"s": 8}, {"s": "permutation"}),
    "transitions 12": ({"P": "s -> s"}, {"s": 12}, {"s": "permutation"}),
    "two layers": (
        STACKED,
        {"x": 2, "h": 10, "g": 9, "y": 1, "time": 2},
        {"h": "tanh", "g": "tanh"},
    ),
    "stream": (STREAM, {"x": 3, "d": 12, "h": 10, "y": 1}, {"d": "permutation", "h": "gelu"}),
}


@pytest.mark.parametrize("noise", [0.05, 0.3])
@pytest.mark.parametrize("case", CASES)
def test_planted_labels_are_recovered(case, noise):
    draws, spec, g, _ = planted(*CASES[case], noise, draws=8)
    aligned = relabel.align(tree_of(draws), spec)
    assert recovery(aligned["relabel"], g)["draws"] >= 0.99
    losses = json.loads(aligned["relabel"].attrs["relabel"])["losses"]
    assert (np.diff(losses) <= 1e-9 * losses[0]).all()


def test_a_transition_matrix_alone_tells_states_apart():
    rng = np.random.default_rng(0)
    truth = 0.5 * np.eye(8) + 0.5 * rng.dirichlet(np.ones(8), size=8)
    clean = np.array([[rng.dirichlet(500 * row, size=20) for row in truth] for _ in range(2)])
    draws, spec, g = moved(
        dataset({"P": clean.transpose(0, 2, 1, 3)}), Spec({"s": "permutation"}, {"P": "s s"}), rng
    )
    aligned = relabel.align(tree_of(draws), spec)
    assert recovery(aligned["relabel"], g)["draws"] == 1.0
    assert json.loads(aligned["relabel"].attrs["relabel"])["warnings"] == []


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("size", [5, 9])
def test_covariances_of_factors(size, alone):
    """Symmetric arrays; alone, they tell signs but for all of them at once, and this is said."""
    rng = np.random.default_rng(size)
    lines = {"C": "f f"} if alone else {"C": "f f", "L": "item f"}
    root = np.eye(size) + 0.7 * rng.normal(size=(size, size))
    spread = root + 0.04 * rng.normal(size=(2, 10, size, size))
    values = {"C": spread @ spread.swapaxes(-1, -2)}
    if not alone:
        values["L"] = rng.normal(size=(10, size)) + 0.3 * rng.normal(size=(2, 10, 10, size))
    draws, spec, g = moved(dataset(values), Spec({"f": "signed"}, lines), rng)
    aligned = relabel.align(tree_of(draws), spec)
    own = aligned["relabel"].to_dataset()
    both = (Transformation.from_dataset(own, ["f"]) @ g).elements["f"]
    same = Monomial(both.index, both.factor * (both.factor[..., :1] if alone else 1))
    assert shares_of({"f": same})["draws"] == 1.0
    said = json.loads(aligned["relabel"].attrs["relabel"])["warnings"]
    assert any("all of them at once" in one for one in said) == alone


def test_full_covariances_share_the_search():
    draws, spec, g, _ = planted(*CASES["elman 16"], 0.1, draws=20)
    aligned = relabel.align(tree_of(draws), spec, criterion=Normal(covariance="full"))
    assert recovery(aligned["relabel"], g)["draws"] == 1.0


# ---------------------------------------------------------------------- laws


@pytest.mark.parametrize("case", ["elman 16", "gates", "transitions 12", "two layers"])
def test_equivariance_and_idempotence(case):
    draws, spec, _, point = planted(*CASES[case], 0.2, draws=6)
    criterion = ToReference(point)
    again, _, _ = moved(draws, spec, np.random.default_rng(7))
    one, two = (relabel.align(tree_of(d), spec, criterion=criterion) for d in (draws, again))
    for name in draws.data_vars:
        assert np.array_equal(one["posterior"][name].values, two["posterior"][name].values)
    mean = relabel.align(tree_of(draws), spec, criterion=Mean())
    twice = relabel.align(tree_of(mean["posterior"].to_dataset()), spec, criterion=Mean())
    for units in spec.units:
        identity = np.arange(mean["relabel"].sizes[units])
        assert (twice["relabel"][f"{units}_index"].values == identity).all()
        assert (twice["relabel"][f"{units}_factor"].values == 1).all()
    back = relabel.undo(mean)["posterior"]
    for name in draws.data_vars:
        assert np.array_equal(back[name].values, draws[name].values)


@pytest.mark.usefixtures("unlisted")
def test_never_worse_than_the_labels_as_they_are():
    draws, point, spec = unstructured(ELMAN, 9, "tanh", 6, 1)
    criterion = ToReference(point, scale="none")
    aligned = relabel.align(tree_of(draws), spec, criterion=criterion)
    there = sum(
        ((draws[n] - point[n]) ** 2).sum([d for d in draws[n].dims if d not in SAMPLE])
        for n in draws.data_vars
    )
    new = sum(
        ((aligned["posterior"][n] - point[n]) ** 2).sum(
            [d for d in draws[n].dims if d not in SAMPLE]
        )
        for n in draws.data_vars
    )
    assert (new.values < there.values).all()
    np.testing.assert_allclose(new.values, aligned["relabel"]["loss"].values, rtol=1e-9)
    again = relabel.align(tree_of(draws), spec, criterion=criterion)
    assert np.array_equal(again["relabel"]["loss"].values, aligned["relabel"]["loss"].values)


@pytest.mark.parametrize("case", ["elman 16", "transitions"])
def test_any_block_size_gives_the_same(case):
    draws, spec, _, _ = planted(*CASES[case], 0.6, draws=8)
    resolved = spec.bind(draws)
    values = {n: v.values.reshape(16, *v.shape[2:]) for n, v in draws.data_vars.items()}
    found = []
    for size in (None, 5):
        problem = Problem(resolved, values, block_size=size)
        found.append(solve(problem, Mean(), problem.draw(3), rng=2))
    for units in spec.units:
        assert found[0].elements[units].equals(found[1].elements[units]).all()
    assert np.array_equal(found[0].start, found[1].start)


def test_units_that_are_only_read_have_no_activations():
    """States that a network reads are no layer of it: the start from activations is left out."""
    lines, sizes = {"P": "s s", "W": "s -> h", "V": "h -> y"}, {"s": 4, "h": 5, "y": 3}
    draws, spec, g, _ = planted(lines, sizes, {"s": "permutation", "h": "tanh"}, 0.05)
    assert recovery(relabel.align(tree_of(draws), spec)["relabel"], g)["draws"] == 1.0
