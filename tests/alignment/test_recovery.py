"""Planted labels are found again where plain coordinate ascent fails: benchmarks/recovery.py."""

import pytest

import relabel
from relabel.simulate import network, recovery

CASES = [
    ((1, 5, 5, 1), 0.0, 1.0),
    ((3, 10, 10, 1), 0.0, 1.0),
    ((3, 10, 10, 1), 0.5, 0.95),
    ((5, 8, 8, 8, 8, 8, 8, 2), 0.0, 1.0),
    ((5, 8, 8, 8, 8, 8, 8, 2), 0.3, 1.0),
    ((5, 30, 30, 30, 2), 0.0, 1.0),
]


@pytest.mark.parametrize(("sizes", "noise", "least"), CASES)
@pytest.mark.parametrize("inputs", [None, "auto"])
def test_planted_labels_are_recovered(sizes, noise, least, inputs):
    sim = network(sizes, noise=noise, chains=2, draws=20, rng=3)
    truth = relabel.criteria.ToReference(sim.data["truth"].to_dataset())
    for criterion in (truth, relabel.criteria.Mean()):
        aligned = relabel.align(sim.data, sim.spec, inputs=inputs, criterion=criterion)
        assert recovery(aligned["relabel"], sim.planted)["draws"] >= least
