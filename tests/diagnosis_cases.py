"""Diagnoses whose JSON is recorded: draws of samplers, and of what is missing."""

from recorded import read

import relabel
from relabel import Spec

LAYER = {"W1": "x -> h", "b1": "-> h", "W2": "h -> y", "b2": "-> y"}
DEEP = {"W1": "x -> h1", "b1": "-> h1", "W2": "h1 -> h2", "b2": "-> h2", "W3": "h2 -> y",
        "b3": "-> y"}  # fmt: skip
STATES = {"mu": "state", "sigma": "state", "initial": "state", "transition": "state state"}
COMPONENTS = {"mu": "component dim", "sigma": "component", "w": "component",
              "allocation/prob": "obs component"}  # fmt: skip
FACTORS = {"Lambda": "item factor", "eta": "obs factor"}
EVERY_4TH, EVERY_10TH = slice(None, None, 4), slice(None, None, 10)


def two_spare(**options):
    tree = read("redundancy/tanh_2-4-1_two_spare")
    return relabel.align(tree, Spec({"h": "tanh"}, LAYER)), options


def relu_chains():
    """Chains of three modes, priors of everything, and an alignment without the worse chains."""
    tree = read("relu_3-4-1", chain=[0, 1, 3, 4, 6], draw=EVERY_4TH)
    priors = {"W1": 1.5, "b1": 1.0, "W2": 1.5, "b2": 1.0}
    return relabel.align(tree, Spec({"h": "relu"}, LAYER)), {"priors": priors}


def hidden_states():
    spec = Spec({"state": "permutation"}, STATES, values={"allocation/z": "state"})
    return relabel.align(read("models/numpyro_hmm"), spec), {}


def components():
    spec = Spec({"component": "permutation"}, COMPONENTS)
    return relabel.align(read("models/pymc_mixture"), spec), {}


def factors():
    return relabel.align(read("models/gibbs_factors"), Spec({"factor": "signed"}, FACTORS)), {}


def deep():
    spec = Spec({"h1": "tanh", "h2": "tanh"}, DEEP)
    return relabel.align(read("tanh_3-4-4-1", draw=EVERY_10TH), spec), {}


def not_aligned():
    return read("redundancy/tanh_2-2-1"), {}


def few_draws():
    """Neither inputs nor a log density, and too few draws for most."""
    tree = read("relu_3-4-1", chain=[0, 1], draw=slice(0, 3))
    posterior = tree["posterior"].to_dataset()
    return relabel.align(posterior, Spec({"h": "relu"}, LAYER)), {}


def members():
    tree = read("relu_3-4-1", chain=[0], draw=EVERY_4TH)
    tree["posterior"].attrs["form"] = "members"
    return relabel.align(tree, Spec({"h": "relu"}, LAYER)), {}


#: Name of the file of the recorded JSON -> draws and options of a diagnosis.
CASES = {
    "two_spare": two_spare,
    "two_spare_one_prior": lambda: two_spare(priors={"W1": 1.0, "b2": None}),
    "relu_chains": relu_chains,
    "hidden_states": hidden_states,
    "components": components,
    "factors": factors,
    "deep": deep,
    "not_aligned": not_aligned,
    "few_draws": few_draws,
    "members": members,
}


def diagnosis_of(name):
    """Diagnose the draws of a case."""
    draws, options = CASES[name]()
    return relabel.diagnose(draws, **options)[1]
