"""Posteriors with planted symmetries, and the oracle that knows what was planted.

For tests, benchmarks and documentation: draws of a feed-forward network of which it is known
which element of the symmetry group was applied to each (:func:`network`); posteriors of networks
with one hidden layer, of which it is also known which units are spare or duplicated and which
chains sit in another mode (:func:`posterior`); and draws whose labels mean nothing
(:func:`structureless`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import least_squares

from relabel.elements import Monomial, monomial
from relabel.errors import DataError, SpecError
from relabel.groups import Group, ScaledPermutation, group_of
from relabel.network import FUNCTIONS
from relabel.spec import SAMPLE_DIMS, Spec
from relabel.transformation import Transformation

__all__ = [
    "Simulated",
    "SimulatedPosterior",
    "network",
    "posterior",
    "recovery",
    "structureless",
]

Array = NDArray[Any]

_N_INPUTS = 100  # probe inputs
_LOG_SCALE_SD = 1.0  # spread of the logarithm of planted scales

_WIDE = 10.0  # prior sd of the output's bias over that of all else: affine flips move it
_BENT = 0.75  # of p: how far below a mode the median draw may lie (p/2 for a normal posterior)
_TRIES, _TRIES_OF_TWO = 2000, 1000  # truths that are tried
_BATCH = 50  # truths that are judged together
_STARTS = 20  # from which another mode is looked for
_APART = (30.0, 500.0)  # nats between the functions of two modes
_BISECTIONS = 12  # for targets between the outputs of two modes
_NEARLY = 0.5  # nats
_SURPLUS = 10  # normal draws to choose each draw of a posterior from
_RIPPLE = 2.0  # sd of the noise that a network with two modes leaves unexplained
_STEP = 1e-6  # of a numeric derivative
_GRID = np.linspace(-4.0, 4.0, 401)  # log-scales at which their law is tabulated


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


@dataclass(frozen=True)
class SimulatedPosterior(Simulated):
    """A simulated posterior, and what was planted in it. Slots are those of `clean`.

    Attributes
    ----------
    spare : tuple of int
        Slots that the data do not see.
    split : tuple of (int, int)
        Pairs of slots that are one unit twice.
    mode : ndarray of int, shape (chains,)
        The mode of every chain: 0 is that of `truth`.
    priors : dict of str to float
        Standard deviations of the normal priors by variable.
    sigma : float
        Standard deviation of the noise.
    """

    spare: tuple[int, ...]
    split: tuple[tuple[int, int], ...]
    mode: Array
    priors: dict[str, float]
    sigma: float


def posterior(
    sizes: Sequence[int] = (2, 3, 1),
    activation: str = "tanh",
    *,
    chains: int = 4,
    draws: int = 250,
    n: int = 200,
    sigma: float = 0.1,
    prior_sd: float = 1.5,
    spare: int = 0,
    split: int = 0,
    elsewhere: int = 0,
    gap: float = 0.0,
    switching: Literal["draw", "chain"] = "chain",
    least_loss: float = 30.0,
    separation: float = 8.0,
    seed: int = 0,
) -> SimulatedPosterior:
    r"""Simulate the posterior of a network with one hidden layer, and plant what is asked for.

    A true network is drawn from the prior, and drawn again until it is irreducible and identified
    (see Notes). With :math:`J` the Jacobian of its outputs, the draws are

    .. math:: \theta_t = g_t \cdot (\theta_0 + \varepsilon_t), \qquad
        \varepsilon_t \sim N\bigl(0, (J^\top J / \sigma^2 + P)^{-1}\bigr)

    with *P* the precision of the prior and :math:`g_t` uniform over permutations and signs: the
    Laplace approximation, so that they spread as a posterior does. Of ten times as many such draws
    those that are kept are chosen with weights, the density of the posterior over that of the
    approximation. The targets are the outputs of a network from the prior plus normal noise, and
    :math:`\theta_0` is the mode of the posterior next to that network.

    Parameters
    ----------
    sizes : sequence of int, default (2, 3, 1)
        Number of inputs, of hidden units (spare and split ones included), and one output.
    activation : str, default "tanh"
        One that :data:`relabel.network.FUNCTIONS` knows.
    chains, draws : int
        Number of chains, and of draws in each.
    n : int, default 200
        Number of inputs, standard normal, and of targets.
    sigma : float, default 0.1
        Standard deviation of the noise, which is known.
    prior_sd : float, default 1.5
        Of all weights and biases; of the output's bias ten times that, so that the affine flips of
        sigmoid units, which move it, hardly change the density.
    spare : int, default 0
        Units with incoming weights from the prior, and outgoing weights from their exact
        conditional distribution given everything else, one after the other.
    split : int, default 0
        Units (those of largest removal loss) that are there twice. The incoming weights of the two
        differ by as much as one unit's vary, about a mean that is the unit's own; they share the
        outgoing weight as :math:`\beta` and :math:`1 - \beta`, uniform on (0.25, 0.75).
    elsewhere : int, default 0
        Chains that sit in another mode: a network that least squares found from another start, of
        which the outputs differ by 30 to 500 nats. For there to be such modes, the targets then
        also hold something, twice as large as the noise, that only a wider network could describe.
    gap : float, default 0.0
        How much lower the log density of that mode is, to half a nat: targets are moved from the
        outputs of the one mode towards those of the other until it is so.
    switching : {"draw", "chain"}
        Whether every draw has its own permutation and signs, or every chain.
    least_loss : float, default 30.0
        Nats that the removal of any unit of the truth costs, all weights of the others refitted.
    separation : float, default 8.0
        Distance of any two units of the truth, and of every unit from its mirror image, in
        posterior standard deviations. With less of it labels overlap.
    seed : int, default 0
        Seed of everything random.

    Returns
    -------
    SimulatedPosterior
        With the targets in ``constant_data/y``, the noise as the variable ``sigma`` of the
        posterior, and the log posterior density of every draw in ``sample_stats/lp``. In `clean`
        the units of the truth come first, then the copies, then the spare units. In `truth` copies
        have half the outgoing weight each, and spare units are zero.

    Raises
    ------
    SpecError
        If the sizes, the activation or the numbers of units or chains make no sense.
    DataError
        If no truth is found: too many units for so few, or so noisy, data.

    Notes
    -----
    Truths are rejected on purpose, so that what is planted is true and these posteriors are easy
    ones. A truth is kept if (1) the removal of each of its units costs `least_loss`; (2) its units
    have the `separation` asked for; (3) the Hessian of the posterior is positive definite there;
    (4) the median draw lies less than 0.75 p below it in log density, where p is the number of
    parameters and a normal posterior has p/2. All but (1) hold of the other mode as well.

    Units with a scale (ReLU) are drawn orthogonally to it, and then get scales from their exact
    law given everything that the likelihood sees. Those scales are part of `planted`.

    Examples
    --------
    >>> simulated = posterior((2, 4, 1), "tanh", spare=1, elsewhere=1, gap=50.0, draws=50)
    >>> simulated.spare, simulated.mode
    ((3,), array([0, 0, 1, 0]))
    >>> lp = simulated.data["sample_stats"]["lp"].median("draw").values
    >>> int((lp > lp.max() - 40).sum())
    3
    """
    _check_posterior(sizes, activation, spare, split, elsewhere, chains)
    rng = np.random.default_rng(seed)
    own = sizes[1] - spare - split
    inputs = np.concatenate([rng.normal(size=(n, sizes[0])), np.ones((n, 1))], axis=1)
    group = group_of(activation)
    task = _Task(inputs, activation, group, own, split, sigma, prior_sd, separation)
    modes, targets = task.found(bool(elsewhere), gap, least_loss, rng)
    mode = rng.permutation((np.arange(chains) >= chains - elsewhere).astype(int))
    theta = np.stack([task.laplace(modes[m], targets, draws, rng) for m in mode])
    whole = task.split_up(theta, modes[mode], rng)
    whole = task.with_spare(whole, targets, spare, rng)
    spec = _spec({"h": activation}, biases=True)
    clean = _dataset(task.arrays(whole), SAMPLE_DIMS)
    bound = spec.bind(clean)
    planted = _planted(task, whole, sizes[1], switching, rng)
    moved = planted.apply({"posterior": clean}, bound)["posterior"]
    lp = task.log_density(task.theta(moved), targets)
    truth = {k: v[0, 0] for k, v in task.arrays(task.mean(modes[0], spare)[None, None]).items()}
    groups = {
        "posterior": moved.assign(sigma=(SAMPLE_DIMS, np.full((chains, draws), sigma))),
        "sample_stats": xr.Dataset({"lp": (SAMPLE_DIMS, lp)}),
        "constant_data": _data_of(task, targets),
        "truth": _dataset(truth, ()),
    }
    return SimulatedPosterior(
        xr.DataTree.from_dict(groups),
        spec,
        truth,
        planted,
        clean,
        spare=tuple(range(own + split, sizes[1])),
        split=tuple((i, own + i) for i in range(split)),
        mode=mode,
        priors={"W1": prior_sd, "b1": prior_sd, "W2": prior_sd, "b2": _WIDE * prior_sd},
        sigma=sigma,
    )


def _planted(
    task: _Task, whole: Array, size: int, switching: str, rng: np.random.Generator
) -> Transformation:
    """Random elements for all draws; scales of ReLU units from their exact law."""
    chains, draws = whole.shape[:2]
    element = _random_element(task.group, (chains, draws), size, switching, rng)
    if isinstance(task.group, ScaledPermutation):
        sign = np.sign(element.factor)
        scale = np.take_along_axis(task.scales(whole, rng), element.index, axis=-1)
        element = Monomial(element.index, sign * scale)
    return Transformation({"h": element})


def _data_of(task: _Task, targets: Array) -> xr.Dataset:
    """Inputs without the column of ones, and targets."""
    inputs = task.inputs[:, :-1]
    return xr.Dataset({"X": (("obs", "input"), inputs), "y": ("obs", targets)})


def structureless(
    sizes: Sequence[int] = (2, 3, 1),
    activation: str = "tanh",
    *,
    law: Literal["normal", "heavy", "two"] = "normal",
    chains: int = 4,
    draws: int = 250,
    seed: int = 0,
) -> Simulated:
    """Simulate draws whose units are all from one distribution, so that labels mean nothing.

    Parameters
    ----------
    sizes : sequence of int, default (2, 3, 1)
        As in :func:`network`.
    activation : str, default "tanh"
    law : {"normal", "heavy", "two"}
        Of a unit: standard normal; Student's t with three degrees of freedom; or two clusters, to
        one of which each unit of each draw is assigned by a coin.
    chains, draws : int
    seed : int, default 0

    Returns
    -------
    Simulated
        The truth is zero, or the middle of the clusters.

    Examples
    --------
    >>> simulated = structureless((2, 3, 1), "relu", law="two", draws=10)
    >>> dict(simulated.data["posterior"]["b1"].sizes)
    {'chain': 4, 'draw': 10, 'b1_dim_0': 3}
    """
    hidden = _activations(sizes, activation)
    if len(hidden) > 1 or law not in ("normal", "heavy", "two"):
        raise SpecError(f"one hidden layer, and the law normal, heavy or two, not {law!r}")
    rng = np.random.default_rng(seed)
    batch, size = (chains, draws), sizes[1]
    units = rng.normal(size=(*batch, size, sizes[0] + 1 + sizes[2]))
    if law == "heavy":
        units /= np.sqrt(rng.chisquare(3, size=(*batch, size, 1)) / 3)
    if law == "two":
        centres = 2 * rng.normal(size=(2, units.shape[-1]))
        units = centres[rng.integers(2, size=(*batch, size))] + 0.3 * units
    w, b, v = np.split(units, [sizes[0], sizes[0] + 1], axis=-1)
    arrays = {"W1": w.swapaxes(-1, -2), "b1": b[..., 0], "W2": v}
    clean = _dataset(arrays | {"b2": 0.1 * rng.normal(size=(*batch, sizes[2]))}, SAMPLE_DIMS)
    spec = _spec(hidden, biases=True)
    truth = {str(name): np.zeros(clean[name].shape[2:]) for name in clean}
    element = _random_element(group_of(activation), batch, size, "draw", rng)
    planted = Transformation({"h": element})
    moved = planted.apply({"posterior": clean}, spec.bind(clean))["posterior"]
    inputs = xr.Dataset({"X": (("obs", "input"), rng.normal(size=(_N_INPUTS, sizes[0])))})
    groups = {"posterior": moved, "constant_data": inputs, "truth": _dataset(truth, ())}
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
        right = _as_the_mode(monomial(element))
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


# ---------------------------------------------------------------------- posteriors


def _check_posterior(
    sizes: Sequence[int], activation: str, spare: int, split: int, elsewhere: int, chains: int
) -> None:
    """Refuse what cannot be planted."""
    _activations(sizes, activation)
    if len(sizes) != 3 or sizes[2] != 1:
        raise SpecError(f"sizes {tuple(sizes)}: inputs, one hidden layer, and one output")
    if activation not in FUNCTIONS:
        raise SpecError(f"{activation!r} does not name one activation function")
    own = sizes[1] - spare - split
    if min(spare, split) < 0 or own < max(1, split):
        raise SpecError(f"{sizes[1]} units, of which {spare} spare and {split} copies")
    if not 0 <= elsewhere < chains:
        raise SpecError(f"{elsewhere} of {chains} chains in another mode")


@dataclass(frozen=True)
class _Task:
    """Inputs, noise and priors; parameters are vectors, unit after unit (w, b, v), then the bias.

    `inputs` has a column of ones, `size` counts the units of the truth, `n_split` those that are
    there twice.
    """

    inputs: Array
    activation: str
    group: Group
    size: int
    n_split: int
    sigma: float
    prior_sd: float
    separation: float

    # ------------------------------------------------------------------ the network

    @property
    def _width(self) -> int:
        """Parameters of one unit."""
        return int(self.inputs.shape[1]) + 1

    def _units(self, theta: Array) -> Array:
        """Lay the units out, shape (..., K, parameters of one unit)."""
        units: Array = theta[..., :-1].reshape(*theta.shape[:-1], -1, self._width)
        return units

    def _prior(self, n_parameters: int) -> Array:
        """Standard deviation of every parameter."""
        return np.append(np.full(n_parameters - 1, self.prior_sd), _WIDE * self.prior_sd)

    def _activations(self, units: Array) -> tuple[Array, Array]:
        """Sums and activations of some units, shape (..., K, n)."""
        sums = units[..., :-1] @ self.inputs.T
        return sums, FUNCTIONS[self.activation](sums)

    def outputs(self, theta: Array) -> Array:
        """Evaluate networks, shape (..., n)."""
        units = self._units(theta)
        active = self._activations(units)[1]
        f: Array = (units[..., -1:] * active).sum(axis=-2) + theta[..., -1:]
        return f

    def jacobian(self, theta: Array) -> Array:
        """Derivatives of the outputs of one network, shape (n, p)."""
        units = self._units(theta)
        sums, active = self._activations(units)
        function = FUNCTIONS[self.activation]
        slope = (function(sums + _STEP) - function(sums - _STEP)) / (2 * _STEP)
        inner = (units[:, -1:] * slope).T[:, :, None] * self.inputs[:, None, :]
        own = np.concatenate([inner, active.T[:, :, None]], axis=2)
        return np.concatenate([own.reshape(len(own), -1), np.ones((len(own), 1))], axis=1)

    def log_density(self, theta: Array, targets: Array) -> Array:
        """Log posterior density but for its normalisation, of networks of any width."""
        sd = self._prior(theta.shape[-1])
        rows = theta.reshape(-1, theta.shape[-1])
        fit = np.concatenate(
            [
                np.square(self.outputs(part) - targets).sum(axis=-1)
                for part in np.array_split(rows, len(rows) // 1000 + 1)
            ]
        )
        fit = fit.reshape(theta.shape[:-1]) / self.sigma**2
        constants = np.log(sd).sum() + len(targets) * np.log(self.sigma)
        constants += 0.5 * (len(targets) + len(sd)) * np.log(2 * np.pi)
        density: Array = -0.5 * (fit + np.square(theta / sd).sum(axis=-1)) - constants
        return density

    def gradient(self, theta: Array, targets: Array) -> Array:
        """Gradient of the log density of one network."""
        pull = self.jacobian(theta).T @ (targets - self.outputs(theta)) / self.sigma**2
        gradient: Array = pull - theta / self._prior(len(theta)) ** 2
        return gradient

    # ------------------------------------------------------------------ truths and modes

    def found(
        self, two: bool, gap: float, least_loss: float, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Find one or two modes, shape (modes, p), and targets that make them modes."""
        noise = self.sigma * rng.normal(size=len(self.inputs))
        for _ in range((_TRIES_OF_TWO if two else _TRIES) // _BATCH):
            truths = self.prior_sd * rng.normal(size=(_BATCH, self.size * self._width + 1))
            for truth in truths[self._losses(truths).min(axis=1) > least_loss]:
                aim = self.outputs(truth) + (self._ripple(rng) if two else 0.0)
                other = self._elsewhere(truth, aim, rng) if two and self._clear(truth) else None
                if two and other is None:
                    continue
                modes, targets = self._modes(truth, other, gap, aim + noise)
                if modes is None or self._losses(modes[:1]).min() < least_loss:
                    continue
                if self._loss_refitted(modes[0]) < least_loss:
                    continue
                if all(self._clear(mode) and self._sound(mode, targets, rng) for mode in modes):
                    order = np.argsort(-self._losses(modes), axis=1)
                    units = np.take_along_axis(self._units(modes), order[:, :, None], axis=1)
                    return self._joined(units, modes[:, -1:]), targets
        raise DataError(
            f"no irreducible network with {self.size} units {self.activation!r}"
            f"{' and a second mode' if two else ''} was found: use more inputs (n), less noise "
            "(sigma), or another number of units"
        )

    def _losses(self, theta: Array) -> Array:
        """Nats that the removal of each unit costs, the others refitted, shape (networks, K)."""
        units = self._units(theta)
        active = self._activations(units)[1]
        basis = np.concatenate([active, np.ones_like(active[:, :1])], axis=1)
        gram = basis @ basis.swapaxes(1, 2)
        gram += 1e-9 * np.trace(gram, axis1=1, axis2=2)[:, None, None] * np.eye(self.size + 1)
        rest = 1 / np.einsum("tkk->tk", np.linalg.inv(gram))[:, :-1]
        losses: Array = 0.5 * units[:, :, -1] ** 2 * rest / self.sigma**2
        return losses

    def _loss_refitted(self, theta: Array) -> float:
        """Least nats that the removal of one unit costs, all weights of the others refitted."""
        units, aim = self._units(theta), self.outputs(theta)
        if len(units) == 1:
            return float(self._losses(theta[None]).min())
        rest = [np.append(np.delete(units, k, axis=0), theta[-1]) for k in range(len(units))]
        return min(self._apart(self._fitted(start, aim), theta) for start in rest)

    def _balanced(self, units: Array) -> Array:
        """Bring units with a scale to the point of largest prior density."""
        if not isinstance(self.group, ScaledPermutation):
            return units
        squares = np.square(units)
        inner, outer = squares[..., :-1].sum(axis=-1), squares[..., -1]
        scale = self.group.gauge("balanced", inner, outer)[..., None]
        return np.concatenate(
            [units[..., :-1] * scale, units[..., -1:] / scale**self.group.degree], axis=-1
        )

    def _covariance(self, theta: Array) -> Array:
        """Covariance of the Laplace approximation, without the directions of scales."""
        jacobian = self.jacobian(theta) / self.sigma
        precision = jacobian.T @ jacobian + np.diag(self._prior(len(theta)) ** -2.0)
        if isinstance(self.group, ScaledPermutation):
            along = self._along_scales(theta, self.group.degree)
            precision += 1e6 * np.trace(precision) * along.T @ along
        return np.linalg.inv(precision)

    def _along_scales(self, theta: Array, degree: int) -> Array:
        """Directions in which the scales of units change, shape (K, p)."""
        units = self._units(theta).copy()
        units[:, -1] *= -degree
        units /= np.maximum(np.linalg.norm(units, axis=1, keepdims=True), 1e-300)
        along = np.zeros((self.size, self.size, self._width))
        along[np.arange(self.size), np.arange(self.size)] = units
        return np.pad(along.reshape(self.size, -1), ((0, 0), (0, 1)))

    def _clear(self, theta: Array) -> bool:
        """Whether units are far apart beside their spread, and each from its mirror image."""
        units, width = self._units(theta), self._width
        blocks = self._covariance(theta)[:-1, :-1].reshape(self.size, width, self.size, width)
        own = np.einsum("kakb->kab", blocks)
        for sign in (1.0, -1.0) if self.group.signs else (1.0,):
            gap = units[:, None] - sign * units
            both = own[:, None] + own
            distance = (gap * np.linalg.solve(both, gap[..., None])[..., 0]).sum(axis=-1)
            if sign > 0:
                distance[np.diag_indices(self.size)] = np.inf
            if distance.min() < self.separation**2:
                return False
        return True

    def _fitted(self, start: Array, targets: Array) -> Array:
        """Climb to a mode of the posterior."""
        sd = self._prior(len(start))

        def residuals(theta: Array) -> Array:
            return np.append((self.outputs(theta) - targets) / self.sigma, theta / sd)

        def slopes(theta: Array) -> Array:
            return np.concatenate([self.jacobian(theta) / self.sigma, np.diag(1 / sd)])

        found: Array = least_squares(residuals, start, slopes, method="lm", max_nfev=200).x
        return np.append(self._balanced(self._units(found)).reshape(-1), found[-1])

    def _apart(self, one: Array, two: Array) -> float:
        """Nats between two functions."""
        return float(0.5 * np.square(self.outputs(one) - self.outputs(two)).sum() / self.sigma**2)

    def _ripple(self, rng: np.random.Generator) -> Array:
        """What a network of twice the width computes, as large as some multiple of the noise."""
        wide = self.outputs(self.prior_sd * rng.normal(size=2 * self.size * self._width + 1))
        ripple: Array = _RIPPLE * self.sigma * (wide - wide.mean()) / wide.std()
        return ripple

    def _elsewhere(self, truth: Array, aim: Array, rng: np.random.Generator) -> Array | None:
        """Look for another network that fits as well, or less well."""
        for _ in range(_STARTS):
            found = self._fitted(self.prior_sd * rng.normal(size=len(truth)), aim)
            if _APART[0] < self._apart(found, truth) < _APART[1] and self._clear(found):
                return found
        return None

    def _modes(
        self, truth: Array, other: Array | None, gap: float, aim: Array
    ) -> tuple[Array | None, Array]:
        """Find the modes near one or two networks, and move targets until `gap` holds."""
        if other is None:
            return self._fitted(truth, aim)[None], aim
        starts, shift = (truth, other), self.outputs(other) - self.outputs(truth)
        low, high, at = 0.0, 0.5, 0.0
        for step in range(_BISECTIONS):
            modes = np.stack([self._fitted(start, aim + at * shift) for start in starts])
            density = self.log_density(modes, aim + at * shift)
            if step == 0 and density[0] < density[1]:
                starts, shift, modes = starts[::-1], -shift, modes[::-1]
                density = density[::-1]
            found = density[0] - density[1]
            if self._apart(*modes) < _APART[0] or (step == 0 and found < gap):
                break
            if abs(found - gap) < _NEARLY:
                return modes, aim + at * shift
            low, high = (at, high) if found > gap else (low, at)
            at = (low + high) / 2
        return None, aim

    def _sound(self, mode: Array, targets: Array, rng: np.random.Generator) -> bool:
        """Whether this is a maximum, and the Laplace approximation about it a good one."""
        slope = self.gradient(mode, targets)
        if slope @ self._covariance(mode) @ slope > 0.1:
            return False
        step = 1e-4 * np.eye(len(mode))
        hessian = np.stack(
            [
                (self.gradient(mode - h, targets) - self.gradient(mode + h, targets)) / 2e-4
                for h in step
            ]
        )
        if np.linalg.eigvalsh(hessian + hessian.T).min() <= 0:
            return False
        some = self.laplace(mode, targets, 200, rng)
        drop = self.log_density(mode, targets) - np.median(self.log_density(some, targets))
        return bool(drop < _BENT * len(mode))

    # ------------------------------------------------------------------ draws

    def laplace(self, mode: Array, targets: Array, n_draws: int, rng: np.random.Generator) -> Array:
        """Draw about one mode, and of ten times as many draws keep those of the posterior."""
        values, vectors = np.linalg.eigh(self._covariance(mode))
        normal = rng.normal(size=(_SURPLUS * n_draws, len(mode)))
        drawn: Array = mode + normal @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
        weight = self.log_density(drawn, targets) + 0.5 * np.square(normal).sum(axis=1)
        kept = np.argpartition(-weight - rng.gumbel(size=len(weight)), n_draws)[:n_draws]
        chosen: Array = drawn[rng.permutation(kept)]
        return chosen

    def split_up(self, theta: Array, modes: Array, rng: np.random.Generator) -> Array:
        """Split the first units in two; `modes` has one row for every chain."""
        if not self.n_split:
            return theta
        units = self._units(theta).copy()
        copies = units[:, :, : self.n_split].copy()
        width = self._width
        for chain, mode in enumerate(modes):
            covariance = self._covariance(mode)
            for i in range(self.n_split):
                place = slice(i * width, (i + 1) * width - 1)
                apart = rng.multivariate_normal(
                    np.zeros(width - 1), covariance[place, place], size=theta.shape[1]
                )
                share = rng.uniform(0.25, 0.75, size=(theta.shape[1], 1))
                units[chain, :, i, :-1] += (1 - share) * apart
                units[chain, :, i, -1:] *= share
                copies[chain, :, i, :-1] -= share * apart
                copies[chain, :, i, -1:] *= 1 - share
        return self._joined(np.concatenate([units, copies], axis=2), theta[..., -1:])

    def with_spare(
        self, theta: Array, targets: Array, n_spare: int, rng: np.random.Generator
    ) -> Array:
        """Add units whose outgoing weight is drawn given everything else."""
        for _ in range(n_spare):
            units = self._units(theta)
            inner = self.prior_sd * rng.normal(size=(*theta.shape[:2], 1, self._width - 1))
            active = FUNCTIONS[self.activation](inner @ self.inputs.T)[:, :, 0]
            left = targets - self.outputs(theta)
            precision = (active**2).sum(axis=-1) / self.sigma**2 + self.prior_sd**-2.0
            mean = (active * left).sum(axis=-1) / self.sigma**2 / precision
            outer = mean + rng.normal(size=mean.shape) / np.sqrt(precision)
            own = np.concatenate([inner, outer[..., None, None]], axis=-1)
            theta = self._joined(np.concatenate([units, own], axis=2), theta[..., -1:])
        return theta

    def mean(self, mode: Array, n_spare: int) -> Array:
        """Return what the clean draws scatter about: copies share, spare units are zero."""
        units = self._units(mode).copy()
        units[: self.n_split, -1] /= 2
        spare = np.zeros((n_spare, self._width))
        whole = np.concatenate([units, units[: self.n_split], spare])
        return np.append(whole.reshape(-1), mode[-1])

    def scales(self, theta: Array, rng: np.random.Generator) -> Array:
        """Draw the scale of every unit from its law given everything that the data see."""
        assert isinstance(self.group, ScaledPermutation)
        degree = self.group.degree
        squares = np.square(self._units(theta) / self.prior_sd)
        inner, outer = squares[..., :-1].sum(axis=-1), squares[..., -1]
        # in log-scales t about the balanced point, where both norms fall on one curve
        middle = np.log(degree * outer / inner) / (2 + 2 * degree)
        inner, outer = inner * np.exp(2 * middle), outer * np.exp(-2 * degree * middle)
        slope = self._width - 1 - degree
        density = slope * _GRID - 0.5 * inner[..., None] * np.exp(2 * _GRID)
        density -= 0.5 * outer[..., None] * np.exp(-2 * degree * _GRID)
        mass = np.exp(density - density.max(axis=-1, keepdims=True)).cumsum(axis=-1)
        level = rng.random(mass.shape[:-1])[..., None] * mass[..., -1:]
        place = (mass < level).sum(axis=-1)
        jitter = rng.uniform(-0.5, 0.5, size=place.shape) * (_GRID[1] - _GRID[0])
        scale: Array = np.exp(middle + _GRID[place] + jitter)
        return scale

    # ------------------------------------------------------------------ layouts

    def _joined(self, units: Array, bias: Array) -> Array:
        """Make vectors of units and biases."""
        return np.concatenate([units.reshape(*bias.shape[:-1], -1), bias], axis=-1)

    def arrays(self, theta: Array) -> dict[str, Array]:
        """Lay parameters out as variables, shapes (chain, draw, ...)."""
        units = self._units(theta)
        return {
            "W1": units[..., :-2].swapaxes(-1, -2),
            "b1": units[..., -2],
            "W2": units[..., -1:],
            "b2": theta[..., -1:],
        }

    def theta(self, dataset: xr.Dataset) -> Array:
        """Undo :meth:`arrays`."""
        w, b, v, d = (dataset[name].values for name in ("W1", "b1", "W2", "b2"))
        units = np.concatenate([w.swapaxes(-1, -2), b[..., None], v], axis=-1)
        return self._joined(units, d)
