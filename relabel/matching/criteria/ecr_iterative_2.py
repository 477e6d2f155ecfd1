"""ECR with a pivot from the mean of aligned allocation probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from relabel.groups import Score
from relabel.groups.elements import Element, monomial
from relabel.matching.criteria.base import (
    FromDrawOrLabels,
    Reference,
    StartReference,
    Statistics,
)
from relabel.matching.criteria.ecr import mismatches
from relabel.matching.criteria.stephens import aligned_sum
from relabel.matching.features import Block, Layout
from relabel.matching.moments import Pooled

__all__ = ["ECRIterative2"]

Array = NDArray[Any]


@dataclass(frozen=True)
class ECRIterative2(FromDrawOrLabels):
    r"""ECR with the pivot formed anew from probabilities: the most probable slot on average.

    .. math:: z^*_i = \arg\max_k \frac1m \sum_t p_{t i \sigma_t(k)}

    the last of several maxima. The mismatches of sampled allocations may rise from one sweep to
    the next, since the pivot minimises another loss.

    Parameters
    ----------
    z : str or ndarray, default "allocation/z"
        As in :class:`relabel.criteria.ECR`.
    reference, max_sweeps
        As in :class:`relabel.criteria.ECRIterative1`.
    prob : str or ndarray, default "allocation/prob"
        As in :class:`relabel.criteria.Stephens`.

    References
    ----------
    Papastamoulis, P. & Iliopoulos, G. (2010). An artificial allocations based solution to the
    label switching problem in Bayesian analysis of mixtures of distributions. *Journal of
    Computational and Graphical Statistics* 19(2), 313-331. https://doi.org/10.1198/jcgs.2010.09008

    Examples
    --------
    >>> ECRIterative2(z="z", prob="p").reads
    {'z': 'z', 'prob': 'p'}
    """

    z: str | Array = "allocation/z"
    reference: StartReference = "draw"
    max_sweeps: int = 100
    prob: str | Array = "allocation/prob"
    name: ClassVar[str] = "ecr-iterative-2"
    monotone: ClassVar[bool] = False
    renamed_options: ClassVar[Mapping[str, str]] = {"start": "reference"}

    def __post_init__(self) -> None:
        """Check the options."""
        self.check_start()

    @property
    def reads(self) -> dict[str, Any]:
        """Return where allocations and probabilities are."""
        return {"z": self.z, "prob": self.prob}

    def statistics(
        self, block: Block, layout: Layout, elements: Mapping[str, Element]
    ) -> Statistics:
        """Return the sum of the aligned probabilities, shape (K, n)."""
        (element,) = map(monomial, elements.values())
        prob = block.beside["prob"]
        known = ~np.isnan(prob[:, :, 0])
        if not known.all():
            prob = np.where(known[:, :, None], prob, 0.0)
        return {"sum": aligned_sum(prob, element, known.astype(float))}

    def form_reference(
        self, statistics: Statistics, pooled: Pooled, layout: Layout, previous: Reference | None
    ) -> Reference:
        """Return every observation's most probable slot, the last of several; -1 for none."""
        total = statistics["sum"]
        last = len(total) - 1 - total[::-1].argmax(axis=0)
        return Reference(beside={"pivot": np.where(total.any(axis=0), last, -1)})

    def score(self, block: Block, layout: Layout, reference: Reference, units: str) -> Score:
        """Score by minus the number of a unit's observations that a slot does not hold."""
        return mismatches(block.beside["z"], reference.beside["pivot"], layout.sizes[units])
