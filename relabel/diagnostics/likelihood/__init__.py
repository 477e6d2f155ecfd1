"""Likelihoods: how much a change of a network's outputs matters, in nats.

In come the draws, their network, inputs, and targets if there are any; out goes a :class:`Fitted`,
the family with its parameters in every draw. A family is one class, in one file each; the registry
:data:`FAMILIES` takes those of other packages (entry points ``relabel.likelihoods``).
"""

from __future__ import annotations

from relabel.diagnostics.likelihood.base import (
    Evidence,
    Family,
    Parameters,
    Variables,
    laid_out,
)
from relabel.diagnostics.likelihood.bernoulli import Bernoulli
from relabel.diagnostics.likelihood.categorical import Categorical
from relabel.diagnostics.likelihood.families import FAMILIES, Likelihood, family_of, guessed
from relabel.diagnostics.likelihood.finding import find_likelihood
from relabel.diagnostics.likelihood.fitted import Fitted
from relabel.diagnostics.likelihood.normal import Normal
from relabel.diagnostics.likelihood.relative import Relative

__all__ = [
    "FAMILIES",
    "Bernoulli",
    "Categorical",
    "Evidence",
    "Family",
    "Fitted",
    "Likelihood",
    "Normal",
    "Parameters",
    "Relative",
    "Variables",
    "family_of",
    "find_likelihood",
    "guessed",
    "laid_out",
]
