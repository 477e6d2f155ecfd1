"""Simulated posteriors of networks with one hidden layer: spare units, copies, other modes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel._util.validate import choice, integer, real, seed_of
from relabel.errors import SpecError
from relabel.groups import activation_of, group_of
from relabel.groups.elements import Monomial, monomial
from relabel.simulate.laplace import WIDE, Task
from relabel.simulate.networks import activations_of, spec_of
from relabel.simulate.planted import (
    SWITCHING,
    Simulated,
    check_counts,
    dataset_of,
    random_element,
)
from relabel.spec.arrays import SAMPLE_DIMS
from relabel.spec.transformation import Transformation

__all__ = ["Regression", "SimulatedPosterior", "posterior"]

Array = NDArray[Any]


@dataclass(frozen=True)
class SimulatedPosterior(Simulated):
    """A simulated posterior, and the units and modes that were planted; slots are those of `clean`.

    Attributes
    ----------
    spare : tuple of int
        Slots whose units have no effect on the data.
    split : tuple of (int, int)
        Pairs of slots that are duplicates of one unit.
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


@dataclass(frozen=True)
class Regression:
    """Data and priors of a simulated posterior, and conditions on its truth.

    Attributes
    ----------
    n : int, default 200
        Number of inputs, standard normal, and of targets.
    sigma : float, default 0.1
        Standard deviation of the noise, which is known.
    prior_sd : float, default 1.5
        Standard deviation of the priors of all weights and biases; of the output's bias ten times
        that, so that the affine flips of sigmoid units, which move it, hardly change the density.
    least_loss : float, default 30.0
        Least number of nats that the removal of a unit of the truth costs, all weights of the
        others refitted.
    separation : float, default 8.0
        Least distance of any two units of the truth, and of a unit from its mirror image, in
        posterior standard deviations. With less of it labels overlap.

    Raises
    ------
    SpecError
        If a number is out of range.
    """

    n: int = 200
    sigma: float = 0.1
    prior_sd: float = 1.5
    least_loss: float = 30.0
    separation: float = 8.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_counts(n=self.n)
        for name in ("sigma", "prior_sd"):
            real(name, getattr(self, name), low=0, open_ends=True)
        for name in ("least_loss", "separation"):
            real(name, getattr(self, name), low=0)


def posterior(
    sizes: Sequence[int] = (2, 3, 1),
    activation: str = "tanh",
    *,
    chains: int = 4,
    draws: int = 250,
    regression: Regression | None = None,
    spare: int = 0,
    split: int = 0,
    elsewhere: int = 0,
    gap: float = 0.0,
    switching: Literal["draw", "chain"] = "chain",
    rng: int | np.random.Generator = 0,
) -> SimulatedPosterior:
    r"""Simulate the posterior of a network with one hidden layer, with planted units and modes.

    A true network is drawn from the prior until it is irreducible and identified (see Notes). With
    :math:`J` the Jacobian of its outputs, the draws are

    .. math:: \theta_t = g_t \cdot (\theta_0 + \varepsilon_t), \qquad
        \varepsilon_t \sim N\bigl(0, (J^\top J / \sigma^2 + P)^{-1}\bigr)

    with *P* the precision of the prior and :math:`g_t` uniform over permutations and signs: the
    Laplace approximation, so that they spread as a posterior does. The draws are chosen from ten
    times as many, with weights: the density of the posterior over that of the approximation. The
    targets are the outputs of a network from the prior plus normal noise, and :math:`\theta_0` is
    the mode of the posterior next to that network.

    Parameters
    ----------
    sizes : sequence of int, default (2, 3, 1)
        Number of inputs, of hidden units (spare and split ones included), and one output.
    activation : str, default "tanh"
        One that is known as a function (see :func:`relabel.groups.activation_of`).
    chains, draws : int
        Number of chains, and of draws in each.
    regression : Regression, optional
        Data and priors; by default 200 inputs, noise of 0.1 and priors of 1.5.
    spare : int, default 0
        Units with incoming weights from the prior, and outgoing weights from their exact
        conditional distribution given everything else, one after the other.
    split : int, default 0
        Number of units (those of largest removal loss) that are duplicated. The incoming weights
        of the two differ by as much as those of one unit vary, about the weights of that unit; they
        share the outgoing weight as :math:`\beta` and :math:`1 - \beta`, uniform on (0.25, 0.75).
    elsewhere : int, default 0
        Number of chains in another mode: a network that least squares found from another start,
        whose outputs differ by 30 to 500 nats. So that there are such modes, the targets then also
        contain a signal, twice as large as the noise, that only a wider network could describe.
    gap : float, default 0.0
        Difference of the log densities of the two modes, to half a nat: targets are moved from the
        outputs of one mode towards those of the other until it is reached.
    switching : {"draw", "chain"}
        Whether every draw has its own permutation and signs, or every chain.
    rng : int or numpy.random.Generator, default 0
        Random seed.

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
        If the sizes, the activation or the numbers of units or chains are out of range.
    DataError
        If no truth is found: there are too many units for so few, or so noisy, data.

    Notes
    -----
    Truths are rejected on purpose, so that these posteriors are easy ones. A truth is kept if (1)
    the removal of each of its units costs `least_loss`; (2) its units have the `separation` of
    `regression`; (3) the Hessian of the posterior is positive definite there; (4) the median draw
    lies less than 0.75 p below it in log density, where p is the number of parameters and a normal
    posterior has p/2. All but (1) hold for the other mode as well.

    Units with a scale (ReLU) are drawn orthogonally to it, and then get scales from their exact
    conditional law. Those scales are part of `planted`.

    Examples
    --------
    >>> simulated = posterior((2, 4, 1), "tanh", spare=1, elsewhere=1, gap=50.0, draws=50)
    >>> simulated.spare, simulated.mode
    ((3,), array([0, 0, 1, 0]))
    >>> lp = simulated.data["sample_stats"]["lp"].median("draw").values
    >>> int((lp > lp.max() - 40).sum())
    3
    """
    check_counts(chains=chains, draws=draws)
    choice("switching", switching, SWITCHING)
    _check_posterior(sizes, activation, spare, split, elsewhere, chains)
    rng = np.random.default_rng(seed_of(rng))
    problem = Regression() if regression is None else regression
    sigma, prior_sd, own = problem.sigma, problem.prior_sd, sizes[1] - spare - split
    inputs = np.column_stack([rng.normal(size=(problem.n, sizes[0])), np.ones(problem.n)])
    group = group_of(activation)
    task = Task(inputs, activation, group, own, split, sigma, prior_sd, problem.separation)
    modes, targets = task.found(bool(elsewhere), gap, problem.least_loss, rng)
    mode = rng.permutation((np.arange(chains) >= chains - elsewhere).astype(int))
    theta = np.stack([task.laplace(modes[m], targets, draws, rng) for m in mode])
    whole = task.split_up(theta, modes[mode], rng)
    whole = task.with_spare(whole, targets, spare, rng)
    spec = spec_of({"h": activation}, biases=True)
    clean = dataset_of(task.arrays(whole), SAMPLE_DIMS)
    planted = _planted(task, whole, sizes[1], switching, rng)
    moved = planted.apply({"posterior": clean}, spec.bind(clean))["posterior"]
    truth = {k: v[0, 0] for k, v in task.arrays(task.mean(modes[0], spare)[None, None]).items()}
    return SimulatedPosterior(
        _tree(task, moved, targets, truth),
        spec,
        truth,
        planted,
        clean,
        spare=tuple(range(own + split, sizes[1])),
        split=tuple((i, own + i) for i in range(split)),
        mode=mode,
        priors={"W1": prior_sd, "b1": prior_sd, "W2": prior_sd, "b2": WIDE * prior_sd},
        sigma=sigma,
    )


def _planted(
    task: Task, whole: Array, size: int, switching: str, rng: np.random.Generator
) -> Transformation:
    """Random elements for all draws; scales of ReLU units from their exact law."""
    chains, draws = whole.shape[:2]
    element = monomial(random_element(task.group, (chains, draws), size, switching, rng))
    if task.group.scales:
        sign = np.sign(element.factor)
        scale = np.take_along_axis(task.scales(whole, rng), element.index, axis=-1)
        element = Monomial(element.index, sign * scale)
    return Transformation({"h": element})


def _tree(task: Task, moved: xr.Dataset, targets: Array, truth: dict[str, Array]) -> xr.DataTree:
    """Return the draws with the noise, their log density, the data and the truth."""
    lp = task.log_density(task.theta(moved), targets)
    inputs = task.inputs[:, :-1]  # without the column of ones
    groups = {
        "posterior": moved.assign(sigma=(SAMPLE_DIMS, np.full(lp.shape, task.sigma))),
        "sample_stats": xr.Dataset({"lp": (SAMPLE_DIMS, lp)}),
        "constant_data": xr.Dataset({"X": (("obs", "input"), inputs), "y": ("obs", targets)}),
        "truth": dataset_of(truth, ()),
    }
    return xr.DataTree.from_dict(groups)


def _check_posterior(
    sizes: Sequence[int], activation: str, spare: int, split: int, elsewhere: int, chains: int
) -> None:
    """Raise SpecError if the numbers of units and chains do not fit one another."""
    activations_of(sizes, activation)
    if len(sizes) != 3 or sizes[2] != 1:
        raise SpecError(
            f"sizes must be those of inputs, one hidden layer, and one output, not {tuple(sizes)}"
        )
    if activation_of(activation).function is None:
        raise SpecError(f"{activation!r} does not name one activation function")
    counts = {"spare": spare, "split": split, "elsewhere": elsewhere}
    for name, value in counts.items():
        integer(name, value, low=0)
    if sizes[1] - spare - split < max(1, split):
        raise SpecError(
            f"there are {sizes[1]} units, of which {spare} are spare and {split} copies: too few "
            "others"
        )
    if elsewhere >= chains:
        raise SpecError(f"elsewhere must be less than chains={chains}, not {elsewhere}")
