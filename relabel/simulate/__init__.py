"""Posteriors with planted symmetries, and the oracle that knows what was planted.

For tests, benchmarks and documentation: draws of a feed-forward network of which it is known
which element of the symmetry group was applied to each (:func:`network`); posteriors of networks
with one hidden layer, of which it is also known which units are spare or duplicated and which
chains sit in another mode (:func:`posterior`); draws whose labels mean nothing
(:func:`structureless`); draws of convolutional, residual and attention networks
(:func:`architecture`); and posteriors of mixtures (:func:`mixture`), hidden Markov models
(:func:`hmm`) and factor models (:func:`factors`).
"""

from relabel.simulate.architecture import ARCHITECTURES, architecture, planted_draws
from relabel.simulate.factors import SimulatedFactors, factors, recovery_of_loadings
from relabel.simulate.hmm import hmm
from relabel.simulate.mixture import mixture
from relabel.simulate.network import network, structureless
from relabel.simulate.planted import Simulated, recovery
from relabel.simulate.posterior import SimulatedPosterior, posterior

__all__ = [
    "ARCHITECTURES",
    "Simulated",
    "SimulatedFactors",
    "SimulatedPosterior",
    "architecture",
    "factors",
    "hmm",
    "mixture",
    "network",
    "planted_draws",
    "posterior",
    "recovery",
    "recovery_of_loadings",
    "structureless",
]
