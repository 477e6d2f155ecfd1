"""Few and dissimilar draws: each is matched to the mean of the others, and all to one another."""

import itertools

import numpy as np
import pytest
from files import RECORDED

import relabel
from relabel.criteria import Mean, Normal
from relabel.groups import group_of
from relabel.groups.elements import Monomial
from relabel.matching.features import Block, Column, Layout, Pair
from relabel.matching.jointly import _highest, _Joint
from relabel.matching.others import match_to_others, unsure
from relabel.matching.quadratic import dense
from relabel.matching.sample import Sample
from relabel.matching.search import ascend, identity
from relabel.matching.task import Task
from relabel.simulate import network, recovery

ENSEMBLE = RECORDED / "sources" / "ensemble_10-64-64-1.safetensors"
CRITERIA = [
    Mean(scale="none"),
    Mean(),
    Normal(),
    Normal(scales="shared"),
    Normal(covariance="full"),
]


def task_of(n, criterion, *, symmetry="tanh", sizes=(4, 3), seed=0):
    """Draws without anything in common: one or two sets of units, and a variable of both."""
    rng = np.random.default_rng(seed)
    units = dict(zip("hg", sizes, strict=False))
    group = group_of(symmetry)
    columns = {u: (Column("w", 0, True, True), Column("s", 0, False, True)) for u in units}
    pairs = (Pair("V", ("h", "g"), (group.signs, group.signs), (False, True), None, 1),)
    pairs = pairs if len(units) == 2 else ()
    layout = Layout(units, dict.fromkeys(units, group), columns, pairs)
    own = {u: rng.normal(size=(n, k, 2)) for u, k in units.items()}
    block = Block.of(own, tuple(rng.normal(size=(n, *sizes, 1)) for _ in pairs))
    return Task.of(Sample(layout, block), criterion, None, None)


def total(task, elements):
    """The total loss, the reference that fits best formed anew."""
    state = task.unmoved()
    state.elements = elements
    reference = task.reference_of(state, None)
    return task.total(task.compared(state, reference), reference)


def ascended(task):
    """Where the ordinary descent ends."""
    state, reference = task.unmoved(), None
    for _ in range(50):
        reference = task.reference_of(state, reference)
        for rows, view in task.views(reference, ""):
            state.put(rows, *ascend(view, state.rows(rows)))
    return state, reference


def elements_of(task, units):
    """All elements of one set."""
    size = task.layout.sizes[units]
    signs = [(1.0, -1.0)] * size if task.layout.groups[units].signs else [(1.0,)] * size
    for index in itertools.permutations(range(size)):
        for factor in itertools.product(*signs):
            yield Monomial(np.array([index]), np.array([factor]))


def with_one(state, row, units, element):
    """The elements with one of one draw replaced."""
    elements = {u: g.copy() for u, g in state.elements.items()}
    elements[units].put(slice(row, row + 1), element)
    return elements


@pytest.mark.parametrize("criterion", CRITERIA[:2])
@pytest.mark.parametrize("sizes", [(4,), (3, 3)])
@pytest.mark.parametrize("n", [2, 3, 6])
def test_no_single_set_of_a_single_draw_lowers_the_total_loss(criterion, sizes, n):
    """Exact coordinate descent: by enumeration, the mean formed anew each time."""
    task = task_of(n, criterion, sizes=sizes)
    state, reference = ascended(task)
    first = total(task, state.elements)
    match_to_others(task, state, reference, np.arange(n))
    last = total(task, state.elements)
    assert last <= first + 1e-9
    for row, units in itertools.product(range(n), task.layout.sizes):
        for element in elements_of(task, units):
            assert total(task, with_one(state, row, units, element)) >= last - 1e-9


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("n", [2, 3, 8, 40])
def test_the_total_loss_never_rises(criterion, n):
    if criterion == CRITERIA[-1] and n < 8:
        pytest.skip("no covariance of so few draws")
    for seed, symmetry in itertools.product(range(5), ("tanh", "permutation")):
        task = task_of(n, criterion, seed=seed, symmetry=symmetry)
        state, reference = ascended(task)
        before = task.total(task.compared(state, reference), reference)
        match_to_others(task, state, reference, np.arange(n))
        reference = task.reference_of(state, reference)
        after = task.total(task.compared(state, reference), reference)
        assert after <= before + 1e-9 * abs(before)


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("sizes", [(4,), (4, 3)])
def test_draws_that_the_bound_is_sure_of_do_not_move(criterion, sizes):
    found = 0
    for n, seed in itertools.product((8, 100, 400), range(3)):
        task = task_of(n, criterion, sizes=sizes, seed=seed)
        state, reference = ascended(task)
        sure = np.setdiff1d(np.arange(n), unsure(task, state, reference))
        found += sure.size
        assert not match_to_others(task, state, reference, sure)
    assert found > 100


def test_a_joint_step_is_the_polynomial_that_it_is_said_to_be():
    task = task_of(4, Mean())
    state = task.unmoved()
    reference = task.reference_of(state, None)
    some = task.source.whole[np.array([0, 2])]
    joint = _Joint.of(some, task.layout, reference, 4, state.rows(np.array([0, 2])))
    now = {u: dense(g) for u, g in identity(task.layout, 2).items()}
    rng = np.random.default_rng(0)
    points = {u: 0.5 * x + 0.1 * rng.normal(size=x.shape) for u, x in now.items()}
    scores = joint.scores(points, joint.relaxed(points))
    corners = {u: dense(task.layout.groups[u].match(score)) for u, score in scores.items()}
    coefficients = joint.agreement(joint.along(points, joint.relaxed(points), corners))

    def agreement(points):
        draws = joint.relaxed(points)
        return sum(
            0.5 * (((x.sum(axis=0) + r) ** 2).sum() - (x**2).sum())
            for x, r in zip(draws, joint.rest, strict=True)
        )

    for share in (0.0, 0.3, 1.0):
        there = {u: x + share * (corners[u] - x) for u, x in points.items()}
        assert np.isclose(np.polyval(coefficients[::-1], share), agreement(there))
    slope = sum(
        float((np.stack(score) * (corners[u] - points[u])).sum()) for u, score in scores.items()
    )
    assert np.isclose(coefficients[1], slope)
    where, value = _highest(coefficients)
    grid = np.polyval(coefficients[::-1], np.linspace(0, 1, 1001))
    assert 0 <= where <= 1
    assert value >= grid.max() - 1e-9


@pytest.mark.parametrize(
    ("members", "most"), [(3, 39.079), (5, 51.111), (10, 61.160), (20, 65.805)]
)
def test_trained_networks_end_below_the_baselines(members, most):
    """Distances that Frank-Wolfe over all networks ends at: benchmarks/ensembles.py."""
    draws = relabel.open_draws(ENSEMBLE)["posterior"].to_dataset()
    draws = draws.isel({"chain" if draws.sizes["draw"] == 1 else "draw": slice(members)})
    spec = relabel.Spec(
        {"p": "permutation", "q": "permutation"},
        {
            "0.weight": "p <- x",
            "0.bias": "-> p",
            "2.weight": "q <- p",
            "2.bias": "-> q",
            "4.weight": "y <- q",
        },
    )
    aligned = relabel.align(draws, spec, criterion=Mean(scale="none"), inputs=None)
    spread = aligned[list(spec.axes)].var(("chain", "draw")).sum()
    assert float(sum(spread.values())) < most


@pytest.mark.parametrize("criterion", [Mean(), Normal()])
def test_planted_labels_of_few_noisy_members_are_found(criterion):
    shares = []
    for seed in range(5):
        sim = network((5, 8, 8, 1), "tanh", chains=1, draws=5, noise=0.6, rng=seed)
        aligned = relabel.align(sim.data, sim.spec, criterion=criterion)
        shares.append(recovery(aligned["relabel"], sim.planted)["draws"])
    assert np.mean(shares) > 0.85  # 0.72 where draws are matched to a mean that holds them


@pytest.mark.parametrize("criterion", [Mean(), Normal()])
@pytest.mark.parametrize("n", [1, 2])
def test_one_draw_stays_and_two_meet(criterion, n):
    sim = network((2, 3, 1), "tanh", chains=1, draws=n, noise=0.0, rng=0)
    aligned = relabel.align(sim.data, sim.spec, criterion=criterion)
    assert np.ptp(aligned["posterior"]["W1"].values, axis=1).max() < 1e-12


def test_draws_that_were_aligned_by_the_others_stay():
    sim = network((3, 4, 4, 1), "tanh", noise=1.5, chains=1, draws=12, rng=0)
    once = relabel.align(sim.data, sim.spec, criterion=Mean())
    assert relabel.Provenance.of(relabel.align(once, sim.spec, criterion=Mean())).n_moved == 0
