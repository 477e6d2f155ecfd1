"""Posteriors of networks with one hidden layer, with spare units, copies and other modes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.errors import SpecError
from relabel.groups import activation_of, group_of
from relabel.groups.elements import Monomial, monomial
from relabel.simulate.laplace import WIDE, Task
from relabel.simulate.network import activations_of, spec_of
from relabel.simulate.planted import Simulated, dataset_of, random_element
from relabel.spec.arrays import SAMPLE_DIMS
from relabel.spec.transformation import Transformation

__all__ = ["SimulatedPosterior", "posterior"]

Array = NDArray[Any]


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
        One that is known as a function (see :func:`relabel.groups.activation_of`).
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
    task = Task(inputs, activation, group, own, split, sigma, prior_sd, separation)
    modes, targets = task.found(bool(elsewhere), gap, least_loss, rng)
    mode = rng.permutation((np.arange(chains) >= chains - elsewhere).astype(int))
    theta = np.stack([task.laplace(modes[m], targets, draws, rng) for m in mode])
    whole = task.split_up(theta, modes[mode], rng)
    whole = task.with_spare(whole, targets, spare, rng)
    spec = spec_of({"h": activation}, biases=True)
    clean = dataset_of(task.arrays(whole), SAMPLE_DIMS)
    bound = spec.bind(clean)
    planted = _planted(task, whole, sizes[1], switching, rng)
    moved = planted.apply({"posterior": clean}, bound)["posterior"]
    lp = task.log_density(task.theta(moved), targets)
    truth = {k: v[0, 0] for k, v in task.arrays(task.mean(modes[0], spare)[None, None]).items()}
    groups = {
        "posterior": moved.assign(sigma=(SAMPLE_DIMS, np.full((chains, draws), sigma))),
        "sample_stats": xr.Dataset({"lp": (SAMPLE_DIMS, lp)}),
        "constant_data": _data_of(task, targets),
        "truth": dataset_of(truth, ()),
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


def _data_of(task: Task, targets: Array) -> xr.Dataset:
    """Inputs without the column of ones, and targets."""
    inputs = task.inputs[:, :-1]
    return xr.Dataset({"X": (("obs", "input"), inputs), "y": ("obs", targets)})


def _check_posterior(
    sizes: Sequence[int], activation: str, spare: int, split: int, elsewhere: int, chains: int
) -> None:
    """Refuse what cannot be planted."""
    activations_of(sizes, activation)
    if len(sizes) != 3 or sizes[2] != 1:
        raise SpecError(f"sizes {tuple(sizes)}: inputs, one hidden layer, and one output")
    if activation_of(activation).function is None:
        raise SpecError(f"{activation!r} does not name one activation function")
    own = sizes[1] - spare - split
    if min(spare, split) < 0 or own < max(1, split):
        raise SpecError(f"{sizes[1]} units, of which {spare} spare and {split} copies")
    if not 0 <= elsewhere < chains:
        raise SpecError(f"{elsewhere} of {chains} chains in another mode")
