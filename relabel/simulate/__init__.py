"""Simulated posteriors with planted symmetries, for tests, benchmarks and documentation.

Sizes, spreads and a seed come in; draws, their spec and the elements that were applied to them
(:class:`Simulated`) go out. Nothing in the library imports this package.

Draws of feed-forward networks about a truth (:func:`network`); posteriors of networks with one
hidden layer, with spare and duplicated units and other modes (:func:`posterior`); draws whose
labels mean nothing (:func:`structureless`); draws of convolutional, residual and attention
networks (:func:`architecture`), or of any other (:func:`planted_draws`); posteriors of mixtures
(:func:`mixture`), hidden Markov models (:func:`hmm`) and factor models (:func:`factors`).
:func:`recovery` and :func:`recovery_of_loadings` compare an alignment with what was planted.
"""

from relabel.simulate.architectures import ARCHITECTURES, architecture, planted_draws
from relabel.simulate.factor_models import SimulatedFactors, factors, recovery_of_loadings
from relabel.simulate.hidden_markov import hmm
from relabel.simulate.mixtures import mixture
from relabel.simulate.networks import network, structureless
from relabel.simulate.planted import Simulated, recovery
from relabel.simulate.posteriors import Regression, SimulatedPosterior, posterior

__all__ = [
    "ARCHITECTURES",
    "Regression",
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
