"""Simulated posteriors with planted symmetries, for tests, benchmarks and documentation.

Sizes, spreads and a seed come in; draws, their spec and the elements that were applied to them go
out. Nothing in the library imports this package. Its functions return a :class:`Simulated`:

====================  ===========================================================================
:func:`network`       draws of feed-forward networks about a truth
:func:`posterior`     posteriors of networks with one hidden layer, with spare and duplicated units
                      and chains in another mode
:func:`structureless` draws of networks whose labels mean nothing
:func:`architecture`  draws of convolutional, residual and attention networks
:func:`planted_draws` draws of any network that a spec describes
:func:`mixture`       posteriors of normal mixtures
:func:`hmm`           posteriors of hidden Markov models
:func:`factors`       draws of factor models
====================  ===========================================================================

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
