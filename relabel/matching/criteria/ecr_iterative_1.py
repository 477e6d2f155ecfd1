"""ECR with a pivot from the most frequent relabelled allocations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from relabel.groups import Score
from relabel.groups.elements import Element, monomial
from relabel.matching.criteria.base import (
    Criterion,
    Reference,
    StartReference,
    Statistics,
    starts_of,
)
from relabel.matching.criteria.ecr import allocated, mismatches, most_frequent
from relabel.matching.features import Block, Layout
from relabel.matching.moments import Pooled

__all__ = ["ECRIterative1"]

Array = NDArray[Any]


@dataclass(frozen=True)
class ECRIterative1(Criterion):
    r"""ECR with the pivot formed anew: every observation's most frequent relabelled allocation.

    .. math:: z^*_i = \operatorname{mode}_t \sigma_t^{-1}(z_{ti})

    which minimises the mismatches given the labels, so the loss never rises.

    Parameters
    ----------
    z : str or ndarray, default "allocation/z"
        As in :class:`relabel.criteria.ECR`.
    reference : {"draw", "labels", "both"}
        The first pivot: one draw (that of the highest `lp`), or the most frequent labels as they
        came. With ``"draw"`` the labels are kept if they turn out no worse.
    max_sweeps : int, default 100
        ResolvedSpec on the number of times the pivot is formed anew.

    References
    ----------
    Papastamoulis, P. & Iliopoulos, G. (2010). An artificial allocations based solution to the
    label switching problem in Bayesian analysis of mixtures of distributions. *Journal of
    Computational and Graphical Statistics* 19(2), 313-331. https://doi.org/10.1198/jcgs.2010.09008

    Examples
    --------
    >>> ECRIterative1(z="z").describe()
    {'name': 'ecr-iterative-1', 'z': 'z', 'reference': 'draw', 'max_sweeps': 100}
    """

    z: str | Array = "allocation/z"
    reference: StartReference = "draw"
    max_sweeps: int = 100
    name: ClassVar[str] = "ecr-iterative-1"
    renamed_options: ClassVar[Mapping[str, str]] = {"start": "reference"}

    def __post_init__(self) -> None:
        """Check the options."""
        self.check_start()

    @property
    def reads(self) -> dict[str, Any]:
        """Return where allocations are."""
        return {"z": self.z}

    @property
    def starts(self) -> tuple[str, ...]:
        """Where the loop starts."""
        return starts_of(self.reference)

    def statistics(
        self, block: Block, layout: Layout, elements: Mapping[str, Element]
    ) -> Statistics:
        """Return how often each observation was in each slot, shape (n, K)."""
        (element,) = map(monomial, elements.values())
        return {"counts": allocated(block.beside["z"], element)}

    def form_reference(
        self, statistics: Statistics, pooled: Pooled, layout: Layout, previous: Reference | None
    ) -> Reference:
        """Return every observation's most frequent slot, the first of several; -1 for none."""
        return most_frequent(statistics["counts"])

    def score(self, block: Block, layout: Layout, reference: Reference, units: str) -> Score:
        """Score by minus the number of a unit's observations that a slot does not hold."""
        return mismatches(block.beside["z"], reference.beside["pivot"], layout.sizes[units])
