"""Criteria: what a relabelling maximises, and how its reference is formed. One file each.

Those of other packages are found by entry points of the group ``relabel.criteria``. A criterion
subclasses :class:`Criterion`; :class:`Block`, :class:`Layout`, :func:`aligned_own` and
:func:`aligned_pair` give it the draws, and it returns a :class:`Reference` and a :class:`Score`.
"""

from relabel.groups import Score
from relabel.matching.criteria.activations import Activations
from relabel.matching.criteria.base import Criterion, Reference, Remarks
from relabel.matching.criteria.data_based import DataBased
from relabel.matching.criteria.ecr import ECR
from relabel.matching.criteria.ecr_iterative_1 import ECRIterative1
from relabel.matching.criteria.ecr_iterative_2 import ECRIterative2
from relabel.matching.criteria.given import ToReference
from relabel.matching.criteria.matchalign import MatchAlign
from relabel.matching.criteria.mean import Mean
from relabel.matching.criteria.normal import Normal
from relabel.matching.criteria.order import Order
from relabel.matching.criteria.permutations import Permutations
from relabel.matching.criteria.pivotal import Pivotal
from relabel.matching.criteria.pra import PRA
from relabel.matching.criteria.procrustes import Procrustes
from relabel.matching.criteria.registry import (
    CRITERIA,
    criterion_of,
    current_options,
    options_of,
    rebuilt,
)
from relabel.matching.criteria.rsp import RSP
from relabel.matching.criteria.sjw import SJW
from relabel.matching.criteria.stephens import Stephens
from relabel.matching.criteria.wasserstein import Wasserstein
from relabel.matching.criteria.wprocrustes import WeightedProcrustes
from relabel.matching.features import Block, Layout, aligned_own, aligned_pair

__all__ = [
    "CRITERIA",
    "ECR",
    "PRA",
    "RSP",
    "SJW",
    "Activations",
    "Block",
    "Criterion",
    "DataBased",
    "ECRIterative1",
    "ECRIterative2",
    "Layout",
    "MatchAlign",
    "Mean",
    "Normal",
    "Order",
    "Permutations",
    "Pivotal",
    "Procrustes",
    "Reference",
    "Remarks",
    "Score",
    "Stephens",
    "ToReference",
    "Wasserstein",
    "WeightedProcrustes",
    "aligned_own",
    "aligned_pair",
    "criterion_of",
    "current_options",
    "options_of",
    "rebuilt",
]

for _criterion in (
    Normal,
    Mean,
    ToReference,
    Activations,
    Order,
    Stephens,
    ECR,
    ECRIterative1,
    ECRIterative2,
    PRA,
    DataBased,
    SJW,
    Pivotal,
    Permutations,
    RSP,
    Procrustes,
    WeightedProcrustes,
    MatchAlign,
    Wasserstein,
):
    CRITERIA.register(_criterion.name, _criterion)
