"""Posteriors with planted symmetries, and the oracle that knows what was planted.

For tests, benchmarks and documentation: draws of a feed-forward network of which it is known
which element of the symmetry group was applied to each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.elements import Monomial
from relabel.errors import SpecError
from relabel.groups import Group, group_of
from relabel.spec import SAMPLE_DIMS, Spec
from relabel.transformation import Transformation

__all__ = ["Simulated", "network", "recovery"]

Array = NDArray[Any]

_N_INPUTS = 100  # probe inputs
_LOG_SCALE_SD = 1.0  # spread of the logarithm of planted scales


@dataclass(frozen=True)
class Simulated:
    """Draws with planted symmetries.

    Attributes
    ----------
    data : DataTree
        The groups ``posterior`` (the draws, each under its own element), ``constant_data``
        (probe inputs ``X``) and ``truth`` (the weights all draws scatter about).
    spec : Spec
        Units and axes of the draws.
    truth : dict of str to ndarray
        The true weights by variable.
    planted : Transformation
        What was applied to each draw of `clean`; its inverse carries the draws back.
    clean : Dataset
        The draws before anything was applied to them.
    """

    data: xr.DataTree
    spec: Spec
    truth: dict[str, Array]
    planted: Transformation
    clean: xr.Dataset


def network(
    sizes: Sequence[int],
    activation: str | Sequence[str] = "tanh",
    *,
    chains: int = 4,
    draws: int = 100,
    noise: float = 0.1,
    switching: Literal["draw", "chain"] = "draw",
    seed: int = 0,
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
    seed : int, default 0
        Seed of everything random.
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

    >>> bound = simulated.spec.bind(simulated.clean)
    >>> draws = {"posterior": simulated.data["posterior"].to_dataset()}
    >>> back = simulated.planted.inverse().apply(draws, bound)["posterior"]
    >>> bool((back["W1"] == simulated.clean["W1"]).all())
    True
    """
    hidden = _activations(sizes, activation)
    if switching not in ("draw", "chain"):
        raise SpecError(f"switching is 'draw' or 'chain', not {switching!r}")
    spec = _spec(hidden, biases=biases)
    rng = np.random.default_rng(seed)
    shapes = _shapes(sizes, biases=biases)
    sd = {name: shapes[f"W{name[1:]}"][0] ** -0.5 for name in shapes}
    truth = {name: sd[name] * rng.normal(size=shape) for name, shape in shapes.items()}
    clean = _dataset(
        {
            name: mean + noise * sd[name] * rng.normal(size=(chains, draws, *mean.shape))
            for name, mean in truth.items()
        },
        SAMPLE_DIMS,
    )
    batch = (chains, draws)
    planted = Transformation(
        {
            units: _random_element(group_of(name), batch, size, switching, rng)
            for (units, name), size in zip(hidden.items(), sizes[1:-1], strict=True)
        }
    )
    posterior = planted.apply({"posterior": clean}, spec.bind(clean))["posterior"]
    inputs = xr.Dataset({"X": (("obs", "input"), rng.normal(size=(_N_INPUTS, sizes[0])))})
    groups = {"posterior": posterior, "constant_data": inputs, "truth": _dataset(truth, ())}
    return Simulated(xr.DataTree.from_dict(groups), spec, truth, planted, clean)


def recovery(
    found: Transformation | xr.Dataset | xr.DataTree, planted: Transformation
) -> dict[str, float]:
    """Compare the elements that were found with those that had been planted.

    What was found undoes what was planted up to one global relabelling, which nothing determines:
    ``found @ planted`` should be the same element for all draws. The most frequent one of each
    set of units is taken for it. Scales are not compared, only units and signs.

    Parameters
    ----------
    found : Transformation, or the group ``relabel`` of an alignment
    planted : Transformation
        As in :class:`Simulated`.

    Returns
    -------
    dict of str to float
        For each set of units the share of slots with the right unit and sign, and as ``"draws"``
        the share of draws in which all slots of all sets are right.

    Examples
    --------
    >>> planted = network((2, 3, 1), "tanh", chains=2, draws=5).planted
    >>> recovery(planted.inverse(), planted)
    {'h': 1.0, 'draws': 1.0}
    """
    if not isinstance(found, Transformation):
        stored = found.to_dataset() if isinstance(found, xr.DataTree) else found
        found = Transformation.from_dataset(stored, list(planted.elements))
    shares: dict[str, float] = {}
    wholly = np.array(True)
    for units, element in (found @ planted).elements.items():
        right = _as_the_mode(element)
        shares[units] = float(right.mean())
        wholly = wholly & right.all(axis=-1)
    return shares | {"draws": float(wholly.mean())}


def _as_the_mode(element: Monomial) -> Array:
    """Which slots hold the unit and the sign that the most frequent element gives them."""
    labels = 2 * element.index + (element.factor < 0)  # a slot's unit and sign in one number
    kinds, counts = np.unique(labels.reshape(-1, element.size), axis=0, return_counts=True)
    same: Array = labels == kinds[counts.argmax()]
    return same


def _activations(sizes: Sequence[int], activation: str | Sequence[str]) -> dict[str, str]:
    """Name the hidden layers and give each its activation."""
    n_hidden = len(sizes) - 2
    if n_hidden < 1 or min(sizes) < 1:
        raise SpecError(
            f"sizes {tuple(sizes)}: name inputs, at least one hidden layer, and outputs, each "
            "at least 1"
        )
    chosen = [activation] * n_hidden if isinstance(activation, str) else list(activation)
    if len(chosen) != n_hidden:
        raise SpecError(f"{len(chosen)} activations for {n_hidden} hidden layers")
    names = ["h"] if n_hidden == 1 else [f"h{layer}" for layer in range(1, n_hidden + 1)]
    return dict(zip(names, chosen, strict=True))


def _spec(hidden: Mapping[str, str], *, biases: bool) -> Spec:
    """Declare the axes of all layers."""
    axes = {}
    for layer, (tail, head) in enumerate(pairwise(["x", *hidden, "y"]), 1):
        axes[f"W{layer}"] = f"{tail} -> {head}"
        if biases:
            axes[f"b{layer}"] = f"-> {head}"
    return Spec(units=hidden, axes=axes)


def _shapes(sizes: Sequence[int], *, biases: bool) -> dict[str, tuple[int, ...]]:
    """Shape of one draw of every variable."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, (n_in, n_out) in enumerate(pairwise(sizes), 1):
        shapes[f"W{layer}"] = (n_in, n_out)
        if biases:
            shapes[f"b{layer}"] = (n_out,)
    return shapes


def _dataset(arrays: Mapping[str, Array], lead: tuple[str, ...]) -> xr.Dataset:
    """Name the dimensions as samplers do by default: ``W1_dim_0``, ..."""
    variables = {}
    for name, values in arrays.items():
        core = tuple(f"{name}_dim_{i}" for i in range(values.ndim - len(lead)))
        variables[name] = ((*lead, *core), values)
    return xr.Dataset(variables)


def _random_element(
    group: Group, batch: tuple[int, int], size: int, switching: str, rng: np.random.Generator
) -> Monomial:
    """Draw an element for every draw, or for every chain."""
    shape = (*(batch if switching == "draw" else (batch[0], 1)), size)
    index = rng.permuted(np.broadcast_to(np.arange(size), shape), axis=-1)
    factor = np.ones(shape)
    if group.signs:
        factor *= rng.choice([-1.0, 1.0], size=shape)
    if group.gauges():
        factor *= rng.lognormal(sigma=_LOG_SCALE_SD, size=shape)
    whole = (*batch, size)
    return Monomial(np.broadcast_to(index, whole).copy(), np.broadcast_to(factor, whole).copy())
