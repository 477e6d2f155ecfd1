"""Draws of real samplers, of which it is known what a sound alignment finds.

The files and their origin are described in tests/data/README.md. Outputs of networks and losses
are worked out here from the arrays, not by the library.
"""

import itertools

import numpy as np
import pytest
import xarray as xr
from recorded import AXES, LAYERS, read, spec_of

import relabel
from relabel.criteria import ToReference
from relabel.diagnostics.kernels.rhat_ess import convergence

MAIN_MODE = [0, 1, 2, 6]  # chains of the ReLU network in its best mode

UNITS = ("W1", "b1", "W2")  # what carries units in a network of one hidden layer

ACTIVATIONS = {
    "relu": lambda z: np.maximum(z, 0),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
}


def arrays(tree, name):
    """Values of all draws by the plain names W1, b1, ..."""
    own = LAYERS if name.startswith("sigmoid") else {}
    known = {variable: plain for plain, variable in own.items()}
    posterior = tree["posterior"]
    return {known.get(v, v): posterior[v].values for v in posterior.data_vars}


def outputs(tree, name, layers=2):
    """Outputs of all draws at the points X_grid."""
    f, w = ACTIVATIONS[name.split("_")[0]], arrays(tree, name)
    values = tree["constant_data"]["X_grid"].values
    for n in range(1, layers + 1):
        values = values @ w[f"W{n}"] + w[f"b{n}"][..., None, :]
        values = f(values) if n < layers else values
    return values[..., 0]


def assert_same_outputs(before, after):
    """Outputs of every draw differ by at most 1e-12 of its largest."""
    size = np.abs(before).max(axis=-1, keepdims=True)
    assert (np.abs(after - before) <= 1e-12 * size).all()


def checked(tree, aligned, variables):
    """R-hat and ESS before and after."""
    return [convergence([t["posterior"][v].values for v in variables]) for t in (tree, aligned)]


@pytest.mark.parametrize(
    ("name", "layers"), [("relu_3-4-1", 2), ("sigmoid_2-4-1", 2), ("tanh_3-4-4-1", 3)]
)
def test_the_forward_pass_here_is_that_of_the_sampler(name, layers):
    tree = read(name)
    stored = tree["posterior_predictive"]["f_grid"].values
    np.testing.assert_allclose(outputs(tree, name, layers), stored, rtol=1e-9, atol=1e-9)


# ---------------------------------------------------------------------- known truth


@pytest.mark.parametrize("inputs", ["constant_data/X", None])
def test_all_labels_and_signs_of_a_deep_network(inputs):
    tree = read("tanh_3-4-4-1")
    spec = relabel.propose(tree).spec
    assert spec.units == {"h1": "tanh", "h2": "tanh"}
    aligned = relabel.align(tree, spec, inputs=inputs)
    for layer in (1, 2):
        unit, sign = true_labels(tree["constant_data"], aligned["relabel"], layer)
        assert sorted(unit[0, 0]) == [0, 1, 2, 3]
        assert (unit == unit[0, 0]).all()
        assert (sign == sign[0, 0]).all()
    before, after = checked(tree, aligned, ["W1", "b1", "W2", "b2", "W3"])
    assert before.rhat > 4
    assert after.rhat < 1.03
    name = "tanh_3-4-4-1"
    assert_same_outputs(outputs(tree, name, 3), outputs(aligned, name, 3))
    xr.testing.assert_identical(relabel.undo(aligned)["posterior"], tree["posterior"])


def true_labels(known, found, layer):
    """Unit of the truth, and its sign, in every slot: slot k was given the unit p[index[k]]."""
    index, factor = (found[f"h{layer}_{part}"].values for part in ("index", "factor"))
    p, s = (known[f"scramble_{part}{layer}"].values[:, None] for part in ("perm", "sign"))
    return np.take_along_axis(p, index, axis=2), np.take_along_axis(s, index, axis=2) * factor


# ---------------------------------------------------------------------- convergence


@pytest.mark.parametrize("gauge", ["balanced", "unit"])
def test_relu_needs_its_scales(gauge):
    name = "relu_3-4-1"
    tree = read(name, chain=MAIN_MODE)
    aligned = relabel.align(tree, spec_of(name, "relu", gauges={"h": gauge}))
    before, after = checked(tree, aligned, UNITS)
    assert before.rhat > 2.7
    assert after.rhat <= 1.01
    assert_same_outputs(outputs(tree, name), outputs(aligned, name))


def test_relu_without_scales_does_not_converge():
    name = "relu_3-4-1"
    tree = read(name, chain=MAIN_MODE)
    aligned = relabel.align(tree, spec_of(name, "permutation"))
    assert checked(tree, aligned, UNITS)[1].rhat > 1.2
    assert_same_outputs(outputs(tree, name), outputs(aligned, name))


def test_sigmoid_needs_its_flips():
    name = "sigmoid_2-4-1"
    tree = read(name)
    aligned = relabel.align(tree, spec_of(name, "sigmoid"))
    before, after = checked(tree, aligned, LAYERS.values())
    assert before.rhat > 1.5
    assert after.rhat <= 1.04
    assert (aligned["relabel"]["h_factor"] < 0).any()
    assert_same_outputs(outputs(tree, name), outputs(aligned, name))
    permuted = relabel.align(tree, spec_of(name, "permutation"))
    assert checked(tree, permuted, LAYERS.values())[1].rhat > 1.15
    assert_same_outputs(outputs(tree, name), outputs(permuted, name))


def test_tanh_gains_effective_draws():
    """No alignment can bring more: the least is that of b2, which no relabelling changes."""
    name = "tanh_1-5-1"
    tree = read(name)
    aligned = relabel.align(tree, spec_of(name, "tanh"))
    before, after = checked(tree, aligned, AXES)
    assert before.ess == pytest.approx(181, abs=1)
    assert after.ess > 2000
    assert checked(tree, aligned, UNITS)[1].ess > 2500
    assert_same_outputs(outputs(tree, name), outputs(aligned, name))


# ---------------------------------------------------------------------- the whole group


@pytest.mark.parametrize("name", ["relu_3-4-1", "sigmoid_2-4-1", "tanh_1-5-1"])
def test_nothing_in_the_whole_group_is_better(name):
    """Forty draws of each file, aligned to one of them: K! permutations, and 2^K signs."""
    tree = forty(read(name))
    symmetry = name.split("_")[0]
    point = {"chain": 0, "draw": 0}
    criterion = ToReference(point)
    aligned = relabel.align(tree, spec_of(name, symmetry), criterion=criterion)
    units, scale = unit_vectors(arrays(tree, name), balanced=symmetry == "relu")
    size = units.shape[1]
    perms = np.array(list(itertools.permutations(range(size))))
    n_signs = 0 if symmetry == "relu" else size
    signs = np.array(list(itertools.product((1, -1), repeat=n_signs)))
    signs = signs if n_signs else np.ones((1, size))
    losses = all_losses(units, units[0], spread(units, flipped=n_signs > 0), perms, signs)
    best = losses.reshape(len(units), -1).argmin(axis=1)
    p, s = np.unravel_index(best, losses.shape[1:])

    draws = aligned["relabel"].to_dataset().stack(sample=("chain", "draw"))
    own = {v: draws[v].transpose("sample", ...).values for v in ("loss", "h_index", "h_factor")}
    np.testing.assert_allclose(own["loss"], losses.min(axis=(1, 2)), rtol=1e-10, atol=1e-10)
    assert np.array_equal(own["h_index"], perms[p])
    factor = signs[s] * np.take_along_axis(scale, perms[p], axis=1)
    np.testing.assert_allclose(own["h_factor"], factor, rtol=1e-12)
    assert len(np.unique(best)) > 1


def forty(tree):
    """Forty draws, evenly spaced, of all chains."""
    chains, draws = (tree["posterior"].sizes[dim] for dim in ("chain", "draw"))
    step = draws * chains // 40
    return tree.map_over_datasets(
        lambda ds: ds.isel(draw=slice(None, None, step)) if "draw" in ds.dims else ds
    )


def unit_vectors(w, *, balanced):
    """Incoming and outgoing weights of every unit (draw, unit, number), and their scales."""
    into = np.concatenate([w["W1"].swapaxes(2, 3), w["b1"][..., None]], axis=3)
    into, out = np.concatenate(into), np.concatenate(w["W2"])
    norms = [np.linalg.norm(part, axis=2) for part in (into, out)]
    scale = np.sqrt(norms[1] / norms[0]) if balanced else np.ones(norms[0].shape)
    return np.concatenate([into * scale[..., None], out / scale[..., None]], axis=2), scale


def spread(units, *, flipped):
    """Mean square of every number over units and draws, about zero if it flips."""
    centre = 0 if flipped else units.mean(axis=(0, 1))
    return ((units - centre) ** 2).mean(axis=(0, 1))


def all_losses(units, slots, variance, perms, signs):
    """Squared distance of every draw under every element (draw, permutation, signs)."""
    slot = np.arange(len(slots))
    pairs = np.stack(
        [((s * units[:, None] - slots[:, None]) ** 2 / variance).sum(axis=3) for s in (1, -1)]
    )
    picked = pairs[:, :, slot, perms]  # (sign, draw, permutation, slot)
    negative = (signs < 0).astype(int)
    return sum(np.moveaxis(picked[negative[:, k], :, :, k], 0, 2) for k in slot)
