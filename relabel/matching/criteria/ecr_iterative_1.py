"""ECR with a pivot from the most frequent relabelled allocations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from relabel.matching.criteria.base import Start, check_count, check_start, starts_of
from relabel.matching.criteria.ecr import ECR

__all__ = ["ECRIterative1"]


@dataclass(frozen=True)
class ECRIterative1(ECR):
    r"""ECR with the pivot formed anew: every observation's most frequent relabelled allocation.

    .. math:: z^*_i = \operatorname{mode}_t \sigma_t^{-1}(z_{ti})

    which minimises the mismatches given the labels, so the loss never rises.

    Parameters
    ----------
    z : str or ndarray, default "allocation/z"
        As in :class:`relabel.criteria.ECR`.
    start : {"draw", "labels", "both"}
        First pivot: one draw (that of the highest `lp`), or the most frequent labels as they came.
        With ``"draw"`` the labels are kept if they turn out no worse.
    max_sweeps : int, default 100
        Bound on the number of times the pivot is formed anew.

    References
    ----------
    Papastamoulis, P. & Iliopoulos, G. (2010). An artificial allocations based solution to the
    label switching problem in Bayesian analysis of mixtures of distributions. *Journal of
    Computational and Graphical Statistics* 19(2), 313-331. https://doi.org/10.1198/jcgs.2010.09008

    Examples
    --------
    >>> ECRIterative1(z="z").describe()
    {'name': 'ecr-iterative-1', 'z': 'z', 'start': 'draw', 'max_sweeps': 100}
    """

    start: Start = "draw"
    max_sweeps: int = 100
    pivot: ClassVar[str] = "map"  # type: ignore[misc]
    name: ClassVar[str] = "ecr-iterative-1"

    def __post_init__(self) -> None:
        """Check the options."""
        check_start(self.name, self.start)
        check_count(self.name, "max_sweeps", self.max_sweeps)

    @property
    def first(self) -> Any:
        """Return nothing: any draw will do."""
        return None

    @property
    def starts(self) -> tuple[str, ...]:
        """Where the loop starts."""
        return starts_of(self.start)
