"""Criteria: what a relabelling maximises, and how its reference is formed."""

from relabel.matching import criteria as _criteria
from relabel.matching.criteria import *  # noqa: F403

__all__ = _criteria.__all__
