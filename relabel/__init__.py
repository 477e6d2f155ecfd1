"""Undo label switching in posterior draws: permutations, signs, scales.

The main entry point is :func:`align`; :class:`Spec` declares what is exchangeable.
"""

from relabel.align import align, apply, undo
from relabel.criteria import Activations, Gaussian, Mean, Order, ToReference
from relabel.errors import DataError, FileError, RelabelError, SpecError
from relabel.spec import Spec
from relabel.transformation import Transformation

__all__ = [
    "Activations",
    "DataError",
    "FileError",
    "Gaussian",
    "Mean",
    "Order",
    "RelabelError",
    "Spec",
    "SpecError",
    "ToReference",
    "Transformation",
    "align",
    "apply",
    "undo",
]
