"""Two sets of units that meet only each other: sorted rows and columns tell the units apart."""

import numpy as np
import pytest
import xarray as xr

import relabel


def arrays(shape, symmetry, noise=0.0, draws=30):
    """Relabelled copies of one array."""
    rng = np.random.default_rng(0)
    mean = rng.normal(size=shape)
    values = np.array([mean + noise * rng.normal(size=shape) for _ in range(draws)])
    for t in range(draws):
        values[t] = values[t][rng.permutation(shape[0])][:, rng.permutation(shape[1])]
        if symmetry == "signed":
            values[t] *= rng.choice([-1, 1], (shape[0], 1)) * rng.choice([-1, 1], shape[1])
    return xr.Dataset({"theta": (("chain", "draw", "row", "col"), values[None])})


@pytest.mark.parametrize("symmetry", ["permutation", "signed"])
@pytest.mark.parametrize("shape", [(3, 3), (6, 6), (10, 12), (20, 15)])
def test_copies_of_an_array_are_all_aligned(shape, symmetry):
    draws = arrays(shape, symmetry)
    spec = relabel.Spec({"row": symmetry, "col": symmetry}, {"theta": "row col"})
    aligned = relabel.align(draws, spec)
    assert float(aligned["theta"].std("draw").max()) < 1e-12
    assert (aligned["relabel_gap"] < 1e-6).all()
