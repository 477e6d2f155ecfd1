"""Elements and losses of all recorded draws, stored so that a change of structure changes none.

``python tests/recorded_results.py`` compares bit for bit; with ``--record`` it stores the present
results, which is right only where results were meant to change. The tests compare signs and
permutations exactly, and numbers to rounding, since another processor may round otherwise.
"""

import argparse
import hashlib
import json
import sys
import warnings
from pathlib import Path

import numpy as np

import relabel
from relabel import Provenance

HERE = Path(__file__).resolve().parent
RECORDED = HERE / "data"
STORED = RECORDED / "golden" / "results.json"

#: File -> symmetry of the units (None: as proposed) -> criteria.
CASES = {
    "relu_10-10-1.nc": {"relu": ["mean", "normal"]},
    "relu_3-4-1.nc": {"relu": ["mean", "normal"], "permutation": ["mean"]},
    "sigmoid_2-4-1.nc": {"sigmoid": ["mean"]},
    "tanh_1-5-1.nc": {"tanh": ["mean", "normal"]},
    "tanh_3-4-4-1.nc": {"tanh": ["mean", "normal", "reference"]},
    "redundancy/relu_2-3-1.nc": {"relu": ["mean"]},
    "redundancy/tanh_2-2-1.nc": {"tanh": ["mean"]},
    "redundancy/tanh_2-3-1_bernoulli.nc": {"tanh": ["mean"]},
    "redundancy/tanh_2-4-1.nc": {"tanh": ["mean"]},
    "redundancy/tanh_2-4-1_two_spare.nc": {"tanh": ["mean"]},
    "samplers/numpyro_default.nc": {"tanh": ["mean"]},
    "samplers/numpyro_plates.nc": {"permutation": ["mean"]},
    "samplers/pymc_named.nc": {"tanh": ["mean"]},
    "samplers/pymc_unnamed.nc": {"tanh": ["mean"]},
    "golden/raw_0.1.0.nc": {"tanh": ["mean"]},
    "models/gibbs_factors.nc": {
        None: ["mean"],
        "orthogonal": ["rsp", "procrustes", "weighted-procrustes", "matchalign"],
    },
    "models/numpyro_hmm.nc": {None: ["mean", "ecr", "ecr-iterative-1"]},
    "models/pymc_mixture.nc": {None: ["mean", "stephens", "pra"]},
    "sources/ensemble.msgpack": {"tanh": ["mean"]},
    "sources/ensemble.safetensors": {"tanh": ["mean"]},
    "sources/ensemble_10-64-64-1.safetensors": {"relu": ["mean"], "permutation": ["mean"]},
    "sources/sgmcmc_10-64-64-1_first10.npz": {"relu": ["mean"]},
    "sources/stacked.npz": {"tanh": ["mean"]},
}


def cases():
    """Names of all cases: file, symmetry and criterion."""
    return [
        (file, symmetry, criterion)
        for file, ways in CASES.items()
        for symmetry, criteria in ways.items()
        for criterion in criteria
    ]


def key_of(case):
    """The name of a case in the stored results."""
    file, symmetry, criterion = case
    return f"{file} {symmetry or 'proposed'} {criterion}"


def result_of(case):
    """Align the draws of a case: losses, and digests of everything that came out."""
    file, symmetry, criterion = case
    draws = relabel.open_draws(RECORDED / file)
    tables = relabel.propose(draws).spec.as_dict()
    if symmetry:
        tables["units"] = dict.fromkeys(tables["units"], symmetry)
        tables.pop("gauges", None)
    aligned = relabel.align(draws, relabel.Spec.from_dict(tables), criterion=criterion)
    own, provenance = aligned["relabel"], Provenance.of(aligned)
    names = [str(name) for name in own.data_vars if not str(name).startswith("checksum_")]
    arrays = {name: own[name].values for name in names}
    exact = {
        name: digest(values if name.endswith("_index") else np.sign(values).astype(np.int8))
        for name, values in arrays.items()
        if name.endswith(("_index", "_factor"))
    }
    posterior = {str(name): v.values for name, v in aligned["posterior"].data_vars.items()}
    bits = {name: digest(values) for name, values in {**arrays, **posterior}.items()}
    return {
        "losses": list(provenance.losses),
        "n_moved": provenance.n_moved,
        "elements": exact,
        "bits": bits,
    }


def digest(values):
    """A short hash of an array, its shape and its dtype."""
    whole = hashlib.sha256(f"{values.dtype} {values.shape}".encode())
    whole.update(np.ascontiguousarray(values).tobytes())
    return whole.hexdigest()[:16]


def main():
    """Compare with what is stored, or store it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="store the present results")
    record = parser.parse_args().record
    warnings.simplefilter("ignore")
    found = {key_of(case): result_of(case) for case in cases()}
    if record:
        STORED.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        return
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    other = [name for name in found if found[name] != stored.get(name)]
    print(f"{len(found) - len(other)} of {len(found)} results are those stored, bit for bit")
    for name in other:
        print(f"differs: {name}")
    sys.exit(bool(other))


if __name__ == "__main__":
    main()
