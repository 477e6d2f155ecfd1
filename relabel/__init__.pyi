from . import criteria, groups, models, simulate, sources, stats
from ._util.versions import __version__
from .alignment.alignment import align
from .alignment.inverse import undo
from .alignment.transfer import apply
from .analysis.averaging import Average, AverageLoss, average
from .analysis.comparison import Comparison, compare
from .analysis.function_check import FunctionCheck, check_function
from .analysis.reduction import reduce
from .analysis.reports import AlignmentReport
from .analysis.slot_tables import summary
from .data.containers import DrawsLike
from .data.provenance import Provenance
from .diagnostics.diagnosing import diagnose
from .diagnostics.diagnosis import Diagnosis
from .diagnostics.finding import Finding
from .diagnostics.likelihood import Likelihood
from .diagnostics.thresholds import Thresholds
from .errors import DataError, FileError, RelabelError, SpecError
from .io.reading import open_draws
from .io.writing import save
from .models.dense import mlp
from .models.factor_models import factor_model
from .models.hidden_markov import hmm
from .models.mixtures import mixture
from .models.topic_models import topic_model
from .proposals.proposal import Proposal, propose
from .spec.spec import Spec
from .spec.transformation import Transformation

__all__ = [
    "AlignmentReport",
    "Average",
    "AverageLoss",
    "Comparison",
    "DataError",
    "Diagnosis",
    "DrawsLike",
    "FileError",
    "Finding",
    "FunctionCheck",
    "Likelihood",
    "Proposal",
    "Provenance",
    "RelabelError",
    "Spec",
    "SpecError",
    "Thresholds",
    "Transformation",
    "__version__",
    "align",
    "apply",
    "average",
    "check_function",
    "compare",
    "criteria",
    "diagnose",
    "factor_model",
    "groups",
    "hmm",
    "mixture",
    "mlp",
    "models",
    "open_draws",
    "propose",
    "reduce",
    "save",
    "simulate",
    "sources",
    "stats",
    "summary",
    "topic_model",
    "undo",
]
