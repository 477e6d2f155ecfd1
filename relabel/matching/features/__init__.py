"""The draws as criteria see them: features of single units, and pairs of sets of units.

A variable with one axis of units becomes *own features* of these units: an array
``(draws, K, R)`` with the remaining axes flattened. A variable with two (the weights between two
hidden layers, a transition matrix) is a *pair*: ``(draws, K1, K2, R)``. One that is several blocks
(stacked gates) gives features or a pair for each. Both are in gauge-fixed, centred coordinates, in
which every group acts by permutations and signs alone.
"""

from relabel.matching.features.activations import ActivationProblem, layer_size
from relabel.matching.features.conditioning import Conditioned, Conditioning
from relabel.matching.features.layout import (
    Block,
    Column,
    Layout,
    Pair,
    aligned_own,
    aligned_pair,
)
from relabel.matching.features.problem import MatchingRule, Problem, Source, slices_of
from relabel.matching.features.unconstrained import Unconstrained, check_values

__all__ = [
    "ActivationProblem",
    "Block",
    "Column",
    "Conditioned",
    "Conditioning",
    "Layout",
    "MatchingRule",
    "Pair",
    "Problem",
    "Source",
    "Unconstrained",
    "aligned_own",
    "aligned_pair",
    "check_values",
    "layer_size",
    "slices_of",
]
