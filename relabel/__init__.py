"""Undo label switching in posterior draws: permutations, signs, scales.

The main entry point is :func:`align`; :class:`Spec` declares what is exchangeable.
"""

from relabel.align import align, apply, relabelled, undo
from relabel.attention import mixer, vit
from relabel.average import Average, AverageLoss, average
from relabel.compare import compare
from relabel.convolutional import lenet, resnet
from relabel.criteria import (
    ECR,
    PRA,
    RSP,
    SJW,
    Activations,
    DataBased,
    ECRIterative1,
    ECRIterative2,
    Gaussian,
    MatchAlign,
    Mean,
    Order,
    Permutations,
    Pivotal,
    Procrustes,
    Stephens,
    ToReference,
    Wasserstein,
    WeightedProcrustes,
)
from relabel.diagnose import diagnose
from relabel.diagnosis import Diagnosis, Finding, Thresholds
from relabel.errors import DataError, FileError, RelabelError, SpecError
from relabel.function import FunctionCheck, check_function
from relabel.io import open_draws, save
from relabel.likelihood import Likelihood
from relabel.memberships import (
    allocation_probabilities,
    state_probabilities,
    with_allocation,
)
from relabel.presets import factor_model, hmm, mixture, mlp, topic_model
from relabel.propose import propose
from relabel.recurrent import gru, lstm, rnn
from relabel.redraw import redraw_scale
from relabel.reduce import reduce
from relabel.regions import regions
from relabel.report import account
from relabel.slots import slot_summary, slots
from relabel.sources import (
    from_dict,
    from_emcee,
    from_flax,
    from_gaussian,
    from_npy,
    from_npz,
    from_numpyro,
    from_pymc,
    from_pyro,
    from_pytree,
    from_safetensors,
    from_stan,
    from_tfp,
    from_torch,
    gaussian_spec,
    ravel,
    to_dict,
    to_emcee,
    to_numpyro,
    to_pytree,
    to_state_dicts,
    unravel,
)
from relabel.spec import Spec
from relabel.transformation import Transformation
from relabel.versions import installed

__version__ = installed("posterior-relabel")

__all__ = [
    "ECR",
    "PRA",
    "RSP",
    "SJW",
    "Activations",
    "Average",
    "AverageLoss",
    "DataBased",
    "DataError",
    "Diagnosis",
    "ECRIterative1",
    "ECRIterative2",
    "FileError",
    "Finding",
    "FunctionCheck",
    "Gaussian",
    "Likelihood",
    "MatchAlign",
    "Mean",
    "Order",
    "Permutations",
    "Pivotal",
    "Procrustes",
    "RelabelError",
    "Spec",
    "SpecError",
    "Stephens",
    "Thresholds",
    "ToReference",
    "Transformation",
    "Wasserstein",
    "WeightedProcrustes",
    "account",
    "align",
    "allocation_probabilities",
    "apply",
    "average",
    "check_function",
    "compare",
    "diagnose",
    "factor_model",
    "from_dict",
    "from_emcee",
    "from_flax",
    "from_gaussian",
    "from_npy",
    "from_npz",
    "from_numpyro",
    "from_pymc",
    "from_pyro",
    "from_pytree",
    "from_safetensors",
    "from_stan",
    "from_tfp",
    "from_torch",
    "gaussian_spec",
    "gru",
    "hmm",
    "lenet",
    "lstm",
    "mixer",
    "mixture",
    "mlp",
    "open_draws",
    "propose",
    "ravel",
    "redraw_scale",
    "reduce",
    "regions",
    "relabelled",
    "resnet",
    "rnn",
    "save",
    "slot_summary",
    "slots",
    "state_probabilities",
    "to_dict",
    "to_emcee",
    "to_numpyro",
    "to_pytree",
    "to_state_dicts",
    "topic_model",
    "undo",
    "unravel",
    "vit",
    "with_allocation",
]
