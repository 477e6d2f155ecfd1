"""Draws above their optimum: narrow deep networks and arrays between two sets of units.

``python benchmarks/optimum.py`` prints, for networks with 3 to 6 hidden layers of 3 to 6 units, the
share of draws that are not proved optimal, the largest gap, the total loss and the processor time;
and for copies of arrays between rows and columns the share of draws with all labels right.
"""

import argparse
import time
from collections import Counter
from itertools import pairwise

import numpy as np
import xarray as xr

import relabel


def network(sizes, signs, noise, draws, rng):
    """Noisy copies of the weights of one network, every hidden layer relabelled at random."""
    values = {}
    for layer, (n_in, n_out) in enumerate(pairwise(sizes), 1):
        for name, shape in ((f"W{layer}", (n_in, n_out)), (f"b{layer}", (n_out,))):
            both = rng.normal(size=shape) + noise * rng.normal(size=(draws, *shape))
            values[name] = both / np.sqrt(n_in)
    for layer, size in enumerate(sizes[1:-1], 1):
        for t in range(draws):
            order, sign = rng.permutation(size), rng.choice([-1.0, 1.0] if signs else [1.0], size)
            values[f"W{layer}"][t] = (values[f"W{layer}"][t] * sign)[:, order]
            values[f"b{layer}"][t] = (values[f"b{layer}"][t] * sign)[order]
            values[f"W{layer + 1}"][t] = (values[f"W{layer + 1}"][t] * sign[:, None])[order]
    return xr.Dataset({name: (_dims(name, v), v[None]) for name, v in values.items()})


def _dims(name, values):
    return ("chain", "draw", *(f"{name}_{axis}" for axis in range(values.ndim - 1)))


def networks(draws, criterion):
    """Print one line for each kind of network and noise."""
    print("network            noise  not proved  largest gap   total loss  s per draw")
    for activation, size in (("tanh", 3), ("tanh", 4), ("tanh", 5), ("gelu", 5), ("gelu", 6)):
        for depth in (3, 4, 6):
            for noise in (0.3, 0.5, 1.0):
                rng = np.random.default_rng(0)
                sizes = (2, *(size,) * depth, 1)
                data = network(sizes, activation == "tanh", noise, draws, rng)
                begin = time.process_time()
                spec = relabel.mlp(depth, activation)
                aligned = relabel.align(data, spec, inputs=None, criterion=criterion)
                spent = time.process_time() - begin
                gap, loss = aligned["relabel_gap"].values, float(aligned["relabel_loss"].sum())
                print(
                    f"{activation} {depth} × {size:<9}  {noise:5}  {(gap > 0).mean():10.3f}  "
                    f"{gap.max():11.3f}  {loss:11.2f}  {spent / draws:10.4f}",
                    flush=True,
                )


def arrays(draws, criterion):
    """Print one line for each size and noise."""
    print("array     symmetry     noise  right  s per draw")
    for symmetry in ("permutation", "signed"):
        for shape in ((3, 3), (6, 6), (10, 12), (30, 50)):
            for noise in (0.0, 0.1, 0.3):
                rng = np.random.default_rng(0)
                mean = rng.normal(size=shape)
                values = mean + noise * rng.normal(size=(draws, *shape))
                orders = [rng.permutation(shape[0]) for _ in range(draws)]
                for t, order in enumerate(orders):
                    values[t] = values[t][order][:, rng.permutation(shape[1])]
                    if symmetry == "signed":
                        values[t] *= rng.choice([-1, 1], (shape[0], 1))
                        values[t] *= rng.choice([-1, 1], shape[1])
                data = xr.Dataset({"theta": (("chain", "draw", "row", "col"), values[None])})
                spec = relabel.Spec({"row": symmetry, "col": symmetry}, {"theta": "row col"})
                begin = time.process_time()
                aligned = relabel.align(data, spec, criterion=criterion)
                spent = time.process_time() - begin
                index = aligned["relabel_row_index"].values[0]
                labels = Counter(tuple(o[i]) for o, i in zip(orders, index, strict=True))
                right = labels.most_common(1)[0][1] / draws
                size = f"{shape[0]} × {shape[1]}"
                print(f"{size:8}  {symmetry:11}  {noise:5}  {right:5.2f}  {spent / draws:10.4f}")


def main():
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--criterion", default="normal")
    chosen = parser.parse_args()
    networks(chosen.draws, chosen.criterion)
    arrays(chosen.draws, chosen.criterion)


if __name__ == "__main__":
    main()
