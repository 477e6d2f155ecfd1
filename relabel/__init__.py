"""Undo label switching in posterior draws: permutations, signs, scales.

The main entry point is :func:`align`; :class:`Spec` declares what is exchangeable.
"""

from relabel.align import align, apply, relabelled, undo
from relabel.criteria import (
    RSP,
    Activations,
    Gaussian,
    MatchAlign,
    Mean,
    Order,
    Procrustes,
    ToReference,
    WeightedProcrustes,
)
from relabel.diagnose import diagnose
from relabel.diagnosis import Diagnosis, Finding, Thresholds
from relabel.errors import DataError, FileError, RelabelError, SpecError
from relabel.io import open_draws, save
from relabel.likelihood import Likelihood
from relabel.presets import mlp
from relabel.propose import propose
from relabel.redraw import redraw_scale
from relabel.reduce import reduce
from relabel.report import account
from relabel.spec import Spec
from relabel.transformation import Transformation
from relabel.versions import installed

__version__ = installed("posterior-relabel")

__all__ = [
    "RSP",
    "Activations",
    "DataError",
    "Diagnosis",
    "FileError",
    "Finding",
    "Gaussian",
    "Likelihood",
    "MatchAlign",
    "Mean",
    "Order",
    "Procrustes",
    "RelabelError",
    "Spec",
    "SpecError",
    "Thresholds",
    "ToReference",
    "Transformation",
    "WeightedProcrustes",
    "account",
    "align",
    "apply",
    "diagnose",
    "mlp",
    "open_draws",
    "propose",
    "redraw_scale",
    "reduce",
    "relabelled",
    "save",
    "undo",
]
