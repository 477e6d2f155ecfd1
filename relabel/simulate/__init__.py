"""Posteriors with planted symmetries, and the oracle that knows what was planted.

For tests, benchmarks and documentation: draws of a feed-forward network of which it is known
which element of the symmetry group was applied to each (:func:`network`); posteriors of networks
with one hidden layer, of which it is also known which units are spare or duplicated and which
chains sit in another mode (:func:`posterior`); and draws whose labels mean nothing
(:func:`structureless`).
"""

from relabel.simulate.network import network, structureless
from relabel.simulate.planted import Simulated, recovery
from relabel.simulate.posterior import SimulatedPosterior, posterior

__all__ = [
    "Simulated",
    "SimulatedPosterior",
    "network",
    "posterior",
    "recovery",
    "structureless",
]
