"""Models that are known: presets in, specs out.

Here are also the forward pass of a dense network, the loadings of a factor model, and the
allocation probabilities of mixtures and hidden Markov models.
"""

from relabel.models.attention import mixer, vit
from relabel.models.convolutional import lenet, resnet
from relabel.models.presets import factor_model, hmm, mixture, mlp, topic_model
from relabel.models.recurrent import gru, lstm, rnn
from relabel.models.responsibilities import (
    allocation_probabilities,
    state_probabilities,
    with_allocation,
)

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
