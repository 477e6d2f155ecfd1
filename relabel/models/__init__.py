"""Known models.

Names and sizes come in; specs go out: one function for each family of models. Here are also the
forward pass of a dense network, the loadings of a factor model, and the allocation probabilities
of mixtures and hidden Markov models.
"""

from relabel.models.attention import mixer, vit
from relabel.models.convolutional import lenet, resnet
from relabel.models.dense import mlp
from relabel.models.factor_models import factor_model
from relabel.models.hidden_markov import hmm
from relabel.models.mixtures import mixture
from relabel.models.recurrent import gru, lstm, rnn
from relabel.models.responsibilities import (
    allocation_probabilities,
    state_probabilities,
    with_allocation,
)
from relabel.models.topic_models import topic_model

__all__ = [
    "allocation_probabilities",
    "factor_model",
    "gru",
    "hmm",
    "lenet",
    "lstm",
    "mixer",
    "mixture",
    "mlp",
    "resnet",
    "rnn",
    "state_probabilities",
    "topic_model",
    "vit",
    "with_allocation",
]
