"""Arguments of a wrong type are named, with what they must be; never a bare traceback."""

import pytest
from files import SPEC, small_tree

import relabel
from relabel import RelabelError, simulate

DATA = small_tree()
ALIGNED = relabel.align(DATA, SPEC)

CALLS = {
    "align: spec": lambda: relabel.align(DATA, 3),
    "align: data": lambda: relabel.align(3, SPEC),
    "align: criterion": lambda: relabel.align(DATA, SPEC, criterion=3),
    "align: nonfinite": lambda: relabel.align(DATA, SPEC, nonfinite="drop"),
    "apply": lambda: relabel.apply(DATA, 3),
    "undo": lambda: relabel.undo("x"),
    "summary: var_names": lambda: relabel.summary(ALIGNED, var_names=3),
    "summary: coords": lambda: relabel.summary(ALIGNED, coords=3),
    "summary: ci_prob": lambda: relabel.summary(ALIGNED, ci_prob="a"),
    "summary: group": lambda: relabel.summary(ALIGNED, group="nope"),
    "average: inputs": lambda: relabel.average(ALIGNED, inputs=3),
    "average: weights": lambda: relabel.average(ALIGNED, weights="x"),
    "average: chains": lambda: relabel.average(ALIGNED, chains=3),
    "average: likelihood": lambda: relabel.average(ALIGNED, likelihood=3),
    "reduce: tolerance": lambda: relabel.reduce(ALIGNED, tolerance="a"),
    "propose: data": lambda: relabel.propose(3),
    "propose: activation": lambda: relabel.propose(DATA, activation=3),
    "propose: units": lambda: relabel.propose(DATA, units=3),
    "open_draws": lambda: relabel.open_draws(3),
    "save: target": lambda: relabel.save(ALIGNED, 3),
    "mlp: n_hidden": lambda: relabel.mlp("a", "tanh"),
    "mlp: activation": lambda: relabel.mlp(1, 3),
    "mlp: naming": lambda: relabel.mlp(1, "tanh", naming=3),
    "mixture": lambda: relabel.mixture(3),
    "hmm": lambda: relabel.hmm(3),
    "compare": lambda: relabel.compare(DATA, SPEC, 3),
    "diagnose: priors": lambda: relabel.diagnose(ALIGNED, priors=3),
    "diagnose: thresholds": lambda: relabel.diagnose(ALIGNED, thresholds=3),
    "diagnose: likelihood": lambda: relabel.diagnose(ALIGNED, likelihood=3),
    "redraw_scale": lambda: relabel.stats.redraw_scale(ALIGNED, 3),
    "regions": lambda: relabel.stats.regions(ALIGNED, 3),
    "Order": lambda: relabel.criteria.Order(3),
    "Spec": lambda: relabel.Spec(3),
    "network": lambda: simulate.network(3),
    "from_dict": lambda: relabel.sources.from_dict(3),
    "Provenance": lambda: relabel.Provenance.of(3),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_wrong_types_are_refused_by_name(call):
    with pytest.raises(RelabelError):
        call()
