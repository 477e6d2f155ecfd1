"""Arguments of a wrong type are named, with what they must be; never a bare traceback."""

import re

import numpy as np
import pytest
from files import SPEC, small_tree

import relabel
from relabel import criteria, models, simulate, sources, stats

DATA = small_tree()
ALIGNED = relabel.align(DATA, SPEC)
SEVERAL = np.zeros((2, 3))
MIXTURE = simulate.mixture(3, n=20, chains=2, draws=10)


def align(**options):
    return relabel.align(DATA, SPEC, **options)


def mixture_by(criterion):
    return relabel.align(MIXTURE.data, MIXTURE.spec, criterion=criterion)


#: What the message begins with -> calls.
CALLS = {
    "spec must be a relabel.Spec or a table": [lambda: relabel.align(DATA, 3)],
    "draws must be an InferenceData, a DataTree or a Dataset, not int": [
        lambda: relabel.align(3, SPEC),
        lambda: relabel.apply(DATA, 3),
        lambda: relabel.propose(3),
        lambda: relabel.Provenance.of(3),
    ],
    "draws must be an InferenceData, a DataTree or a Dataset, not str": [lambda: relabel.undo("x")],
    "criterion must be a name or an object": [lambda: align(criterion=3)],
    "nonfinite must be one of 'raise', 'skip', not 'drop'": [lambda: align(nonfinite="drop")],
    "exclude_flagged must be True or False": [lambda: align(exclude_flagged=SEVERAL)],
    "var_names must be a string or a list of strings, not 3": [
        lambda: relabel.summary(ALIGNED, var_names=3),
        lambda: stats.regions(ALIGNED, 3),
    ],
    "coords must be a table": [lambda: relabel.summary(ALIGNED, coords=3)],
    "ci_prob must be a number between 0 and 1": [lambda: relabel.summary(ALIGNED, ci_prob="a")],
    "group must be a string, not ": [
        lambda: relabel.summary(ALIGNED, group=SEVERAL),
        lambda: stats.regions(ALIGNED, group=None),
        lambda: stats.regions(ALIGNED, group=[]),
    ],
    "weights must be an array of numbers, not ": [
        lambda: relabel.average(ALIGNED, weights="x"),
        lambda: relabel.average(ALIGNED, weights={}),
    ],
    "chains must be a sequence such as [0, 1], not ": [
        lambda: relabel.average(ALIGNED, chains=3),
        lambda: relabel.average(ALIGNED, chains=SEVERAL),
    ],
    "likelihood must be a relabel.Likelihood or the name of a family": [
        lambda: relabel.average(ALIGNED, likelihood=3),
        lambda: relabel.diagnose(ALIGNED, likelihood=3),
    ],
    "priors must be a mapping": [lambda: relabel.diagnose(ALIGNED, priors=3)],
    "thresholds must be a relabel.Thresholds": [lambda: relabel.diagnose(ALIGNED, thresholds=3)],
    "threshold null_gap must be a number": [lambda: relabel.Thresholds(null_gap="a")],
    "tolerance must be a number between 0 and 1": [lambda: relabel.reduce(ALIGNED, tolerance="a")],
    "activation must be a string": [lambda: relabel.propose(DATA, activation=3)],
    "an activation must be a string such as 'tanh', not ": [
        lambda: relabel.propose(DATA, units={"h": 1}),
        lambda: models.mixer(2, activation=None),
        lambda: models.vit(2, activation=5),
        lambda: models.resnet(activation=5),
        lambda: models.lenet(activation=True),
        lambda: relabel.mlp(2, True),
        lambda: relabel.groups.group_of(3),
    ],
    "units must be a table such as {'h': 'tanh'}, not 3": [lambda: relabel.propose(DATA, 3)],
    "the source must be a path or a sequence of paths, not ": [
        lambda: relabel.open_draws(3),
        lambda: relabel.open_draws(None),
        lambda: relabel.open_draws([3]),
        lambda: relabel.save(ALIGNED, "never.nc", source=5),
    ],
    "target must be a path, not 3": [lambda: relabel.save(ALIGNED, 3)],
    "force must be True or False": [lambda: relabel.save(ALIGNED, "never.nc", force=SEVERAL)],
    "mlp: n_hidden must be a positive integer, not 'a'": [lambda: relabel.mlp("a", "tanh")],
    "mlp: naming must be one of 'flax', 'torch', not 3": [
        lambda: relabel.mlp(1, "tanh", naming=3),
    ],
    "mlp: activation must be a string or one for each layer": [lambda: relabel.mlp(2, None)],
    "mlp: weight must be a string or one for each": [lambda: relabel.mlp(2, "tanh", weight=None)],
    "mlp: bias must be a string or one for each": [lambda: relabel.mlp(2, "tanh", bias=5)],
    "lenet: conv must be a string or one for each layer": [lambda: models.lenet(conv=5)],
    "lenet: norm must be a string or one for each layer": [lambda: models.lenet(norm=5)],
    "mixture: parameters must be a sequence": [lambda: relabel.mixture(3)],
    "hmm: parameters must be a sequence": [lambda: relabel.hmm(None)],
    "hmm: z must be a string or a list of strings, not 5": [lambda: relabel.hmm(z=5)],
    "hmm: prob must be a string or a list of strings": [lambda: relabel.hmm(prob=5)],
    "hmm: each name of a variable must be a string": [lambda: relabel.hmm(transition=[])],
    "factor_model: units must be a string, not []": [lambda: relabel.factor_model(units=[])],
    "resnet: axes must be a table": [lambda: models.resnet(axes=5)],
    "resnet: downsample must be a sequence": [lambda: models.resnet(downsample=5)],
    "resnet: prefix must be a string, not None": [lambda: models.resnet(prefix=None)],
    "prefix must be a string, not None": [lambda: models.mixer(2, prefix=None)],
    "gru: initial must be a sequence": [lambda: models.gru(initial=None)],
    "criteria must be a sequence": [lambda: relabel.compare(DATA, SPEC, 3)],
    "compare: criterion 'a' must be an object": [lambda: relabel.compare(DATA, SPEC, {"a": 1})],
    "compare: unknown option 'seed'; known are ": [lambda: relabel.compare(DATA, SPEC, seed=3)],
    "criterion order: var_names must be a coordinate": [lambda: criteria.Order(3)],
    "a criterion must be named by a string, not []": [
        lambda: criteria.criterion_of([]),
        lambda: criteria.options_of([]),
    ],
    "options must be a table": [
        lambda: criteria.criterion_of("mean", 5),
        lambda: criteria.criterion_of("mean", "nonsense"),
        lambda: criteria.current_options("mean", None),
    ],
    "described must be a table": [lambda: criteria.rebuilt(None)],
    "criterion sjw: x must hold the data": [lambda: mixture_by(criteria.SJW(x=[]))],
    "criterion data-based: x must hold the data": [lambda: mixture_by(criteria.DataBased(x=[]))],
    "spec: units must be a table, not 3": [lambda: relabel.Spec(3)],
    "sizes must be a sequence such as (2, 3, 1), not 3": [
        lambda: simulate.network(3),
        lambda: simulate.posterior(3),
        lambda: simulate.structureless(3),
    ],
    "K must be a positive integer, not 'a'": [
        lambda: simulate.mixture("a"),
        lambda: simulate.hmm("a"),
    ],
    "samples must be a table": [lambda: sources.from_dict(3)],
}


@pytest.mark.parametrize(
    ("message", "call"),
    [(message, call) for message, calls in CALLS.items() for call in calls],
)
def test_wrong_types_are_refused_by_name(message, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(relabel.RelabelError, match="^" + re.escape(message)):
        call()
    assert not any(tmp_path.iterdir())
