"""Make the small ensemble of `tests/data/sources/` in the formats of the libraries that write it.

Four networks 3-8-1 (tanh), float32, PyTorch's names and layout: one network, with a little noise,
its hidden units in another order and with other signs in every member. It takes seconds and needs
PyTorch, safetensors and Flax: `python tests/data/make_sources_files.py`.
"""

from pathlib import Path

import flax.serialization
import numpy as np
import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent / "sources"


def members():
    """Four state dicts of NumPy arrays."""
    rng = np.random.default_rng(5)
    W1, b1, W2 = rng.normal(size=(8, 3)), rng.normal(size=8), rng.normal(size=(1, 8))
    made = []
    for _ in range(4):
        order, sign = rng.permutation(8), rng.choice([-1.0, 1.0], size=8)
        noisy = [x + 0.02 * rng.normal(size=x.shape) for x in (W1, b1, W2, np.zeros(1))]
        first, bias, second, last = noisy
        weights = {
            "0.weight": (sign[:, None] * first)[order],
            "0.bias": (sign * bias)[order],
            "2.weight": (second * sign)[:, order],
            "2.bias": last,
        }
        made.append({name: np.array(value, np.float32) for name, value in weights.items()})
    return made


def main():
    """Write all files."""
    numbers = members()
    states = [{k: torch.from_numpy(v) for k, v in member.items()} for member in numbers]
    stacked = {k: np.stack([member[k] for member in numbers]) for k in numbers[0]}
    torch.save(states, HERE / "ensemble.pt")
    prefixed = {f"member_{i}.{k}": v for i, state in enumerate(states) for k, v in state.items()}
    save_file(prefixed, HERE / "ensemble.safetensors", metadata={"made": "by torch"})
    save_file({k: torch.from_numpy(v) for k, v in stacked.items()}, HERE / "stacked.safetensors")
    np.savez(HERE / "stacked.npz", **stacked)
    trees = [
        {"params": {"Dense_0": {"kernel": m["0.weight"].T, "bias": m["0.bias"]},
                    "Dense_1": {"kernel": m["2.weight"].T, "bias": m["2.bias"]}}}
        for m in numbers
    ]  # fmt: skip
    (HERE / "ensemble.msgpack").write_bytes(flax.serialization.to_bytes(trees))


if __name__ == "__main__":
    main()
