"""Undo label switching in posterior draws: permutations, signs, scales.

The main entry point is :func:`align`; :class:`Spec` declares what is exchangeable.
"""

from relabel.align import align, apply, relabelled, undo
from relabel.criteria import Activations, Gaussian, Mean, Order, ToReference
from relabel.diagnose import diagnose
from relabel.diagnosis import Diagnosis, Finding, Thresholds
from relabel.errors import DataError, FileError, RelabelError, SpecError
from relabel.io import open_draws, save
from relabel.likelihood import Likelihood
from relabel.memberships import (
    allocation_probabilities,
    state_probabilities,
    with_allocation,
)
from relabel.presets import factor_model, hmm, mixture, mlp, topic_model
from relabel.propose import propose
from relabel.redraw import redraw_scale
from relabel.reduce import reduce
from relabel.report import account
from relabel.spec import Spec
from relabel.transformation import Transformation
from relabel.versions import installed

__version__ = installed("posterior-relabel")

__all__ = [
    "Activations",
    "DataError",
    "Diagnosis",
    "FileError",
    "Finding",
    "Gaussian",
    "Likelihood",
    "Mean",
    "Order",
    "RelabelError",
    "Spec",
    "SpecError",
    "Thresholds",
    "ToReference",
    "Transformation",
    "account",
    "align",
    "allocation_probabilities",
    "apply",
    "diagnose",
    "factor_model",
    "hmm",
    "mixture",
    "mlp",
    "open_draws",
    "propose",
    "redraw_scale",
    "reduce",
    "relabelled",
    "save",
    "state_probabilities",
    "topic_model",
    "undo",
    "with_allocation",
]
