"""Simulated draws of feed-forward networks about a truth, and draws whose labels mean nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel._util.validate import choice, iterable, real, seed_of
from relabel.errors import SpecError
from relabel.groups import group_of
from relabel.models.tables import hidden_names, one_each
from relabel.simulate.planted import (
    SWITCHING,
    Simulated,
    check_counts,
    dataset_of,
    random_element,
)
from relabel.spec.arrays import SAMPLE_DIMS
from relabel.spec.spec import Spec
from relabel.spec.transformation import Transformation

__all__ = ["activations_of", "network", "spec_of", "structureless"]

Array = NDArray[Any]

_N_INPUTS = 100  # probe inputs


def network(
    sizes: Sequence[int],
    activation: str | Sequence[str] = "tanh",
    *,
    chains: int = 4,
    draws: int = 100,
    noise: float = 0.1,
    switching: Literal["draw", "chain"] = "draw",
    rng: int | np.random.Generator = 0,
    biases: bool = True,
) -> Simulated:
    r"""Simulate draws of a feed-forward network, each under a random element of its group.

    .. math:: \theta_t = g_t \cdot (\theta_0 + \text{noise} \cdot s \odot \varepsilon_t),
        \qquad \theta_0 \sim N(0, s^2), \quad \varepsilon_t \sim N(0, 1)

    with :math:`s` one over the root of the number of a layer's inputs. The elements are uniform
    over permutations and signs; scales are lognormal.

    Parameters
    ----------
    sizes : sequence of int
        Number of inputs, of the units of each hidden layer, and of outputs.
    activation : str or sequence of str, default "tanh"
        Activation of all hidden layers, or one for each.
    chains, draws : int
        Number of chains, and of draws in each.
    noise : float, default 0.1
        Spread of the draws about the truth, relative to the spread of the weights.
    switching : {"draw", "chain"}
        Whether every draw has its own element, or every chain.
    rng : int or numpy.random.Generator, default 0
        Random seed.
    biases : bool, default True
        Whether the layers have biases ``b1``, ``b2``, ... beside the weights ``W1``, ``W2``, ...

    Returns
    -------
    Simulated
        Weights are stored (in, out). A single hidden layer is named ``h``, several ``h1``,
        ``h2``, ...

    Raises
    ------
    SpecError
        If there is no hidden layer, or the number of activations is not that of hidden layers.

    Examples
    --------
    >>> simulated = network((2, 3, 1), "tanh", chains=2, draws=5)
    >>> simulated.spec.axes
    {'W1': 'x -> h', 'b1': '-> h', 'W2': 'h -> y', 'b2': '-> y'}
    >>> dict(simulated.data["posterior"]["W1"].sizes)
    {'chain': 2, 'draw': 5, 'W1_dim_0': 2, 'W1_dim_1': 3}

    The oracle carries every draw back:

    >>> resolved = simulated.spec.bind(simulated.clean)
    >>> draws = {"posterior": simulated.data["posterior"].to_dataset()}
    >>> back = simulated.planted.inverse().apply(draws, resolved)["posterior"]
    >>> bool((back["W1"] == simulated.clean["W1"]).all())
    True
    """
    hidden = activations_of(sizes, activation)
    check_counts(chains=chains, draws=draws)
    noise = real("noise", noise, low=0)
    choice("switching", switching, SWITCHING)
    spec = spec_of(hidden, biases=biases)
    rng = np.random.default_rng(seed_of(rng))
    shapes = _shapes(sizes, biases=biases)
    sd = {name: shapes[f"W{name[1:]}"][0] ** -0.5 for name in shapes}
    truth = {name: sd[name] * rng.normal(size=shape) for name, shape in shapes.items()}
    clean = dataset_of(
        {
            name: mean + noise * sd[name] * rng.normal(size=(chains, draws, *mean.shape))
            for name, mean in truth.items()
        },
        SAMPLE_DIMS,
    )
    batch = (chains, draws)
    planted = Transformation(
        {
            units: random_element(group_of(name), batch, size, switching, rng)
            for (units, name), size in zip(hidden.items(), sizes[1:-1], strict=True)
        }
    )
    posterior = planted.apply({"posterior": clean}, spec.bind(clean))["posterior"]
    inputs = xr.Dataset({"X": (("obs", "input"), rng.normal(size=(_N_INPUTS, sizes[0])))})
    groups = {"posterior": posterior, "constant_data": inputs, "truth": dataset_of(truth, ())}
    return Simulated(xr.DataTree.from_dict(groups), spec, truth, planted, clean)


def structureless(
    sizes: Sequence[int] = (2, 3, 1),
    activation: str = "tanh",
    *,
    law: Literal["normal", "heavy", "two"] = "normal",
    chains: int = 4,
    draws: int = 250,
    rng: int | np.random.Generator = 0,
) -> Simulated:
    """Simulate draws whose units are all from one distribution, so that labels mean nothing.

    Parameters
    ----------
    sizes : sequence of int, default (2, 3, 1)
        As in :func:`network`.
    activation : str, default "tanh"
        Activation of the hidden layer.
    law : {"normal", "heavy", "two"}
        Distribution of a unit: standard normal; Student's t with three degrees of freedom; or two
        clusters, to one of which each unit of each draw is assigned by a coin.
    chains, draws : int
        Number of chains, and of draws in each.
    rng : int or numpy.random.Generator, default 0
        Random seed.

    Returns
    -------
    Simulated
        The truth is zero.

    Raises
    ------
    SpecError
        If there is more than one hidden layer, or the law is unknown.

    Examples
    --------
    >>> simulated = structureless((2, 3, 1), "relu", law="two", draws=10)
    >>> dict(simulated.data["posterior"]["b1"].sizes)
    {'chain': 4, 'draw': 10, 'b1_dim_0': 3}
    """
    hidden = activations_of(sizes, activation)
    check_counts(chains=chains, draws=draws)
    choice("law", law, ("normal", "heavy", "two"))
    if len(hidden) > 1:
        raise SpecError(f"structureless: there must be one hidden layer, not {len(hidden)}")
    rng = np.random.default_rng(seed_of(rng))
    batch, size = (chains, draws), sizes[1]
    units = rng.normal(size=(*batch, size, sizes[0] + 1 + sizes[2]))
    if law == "heavy":
        units /= np.sqrt(rng.chisquare(3, size=(*batch, size, 1)) / 3)
    if law == "two":
        centres = 2 * rng.normal(size=(2, units.shape[-1]))
        units = centres[rng.integers(2, size=(*batch, size))] + 0.3 * units
    w, b, v = np.split(units, [sizes[0], sizes[0] + 1], axis=-1)
    arrays = {"W1": w.swapaxes(-1, -2), "b1": b[..., 0], "W2": v}
    clean = dataset_of(arrays | {"b2": 0.1 * rng.normal(size=(*batch, sizes[2]))}, SAMPLE_DIMS)
    spec = spec_of(hidden, biases=True)
    truth = {str(name): np.zeros(clean[name].shape[2:]) for name in clean}
    element = random_element(group_of(activation), batch, size, "draw", rng)
    planted = Transformation({"h": element})
    moved = planted.apply({"posterior": clean}, spec.bind(clean))["posterior"]
    inputs = xr.Dataset({"X": (("obs", "input"), rng.normal(size=(_N_INPUTS, sizes[0])))})
    groups = {"posterior": moved, "constant_data": inputs, "truth": dataset_of(truth, ())}
    return Simulated(xr.DataTree.from_dict(groups), spec, truth, planted, clean)


def activations_of(sizes: Sequence[int], activation: str | Sequence[str]) -> dict[str, str]:
    """Return the activations of the hidden layers by their names."""
    n_hidden = len(tuple(iterable("sizes", sizes, "(2, 3, 1)"))) - 2
    if n_hidden < 1 or min(sizes) < 1:
        raise SpecError(
            "sizes must be positive integers for inputs, at least one hidden layer, and outputs, "
            f"not {tuple(sizes)}"
        )
    chosen = one_each("network", "activation", activation, n_hidden)
    return dict(zip(hidden_names(n_hidden), chosen, strict=True))


def spec_of(hidden: Mapping[str, str], *, biases: bool) -> Spec:
    """Return the spec of the network."""
    axes = {}
    for layer, (tail, head) in enumerate(pairwise(["x", *hidden, "y"]), 1):
        axes[f"W{layer}"] = f"{tail} -> {head}"
        if biases:
            axes[f"b{layer}"] = f"-> {head}"
    return Spec(units=hidden, axes=axes)


def _shapes(sizes: Sequence[int], *, biases: bool) -> dict[str, tuple[int, ...]]:
    """Return the shape of one draw of every variable."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, (n_in, n_out) in enumerate(pairwise(sizes), 1):
        shapes[f"W{layer}"] = (n_in, n_out)
        if biases:
            shapes[f"b{layer}"] = (n_out,)
    return shapes
