"""ECR with a pivot from the most frequent relabelled allocations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from relabel.matching.criteria.base import (
    FromDrawOrLabels,
    StartReference,
)
from relabel.matching.criteria.ecr import ByMismatches

__all__ = ["ECRIterative1"]

Array = NDArray[Any]


@dataclass(frozen=True)
class ECRIterative1(FromDrawOrLabels, ByMismatches):
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
        Bound on the number of times the pivot is formed anew.

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
