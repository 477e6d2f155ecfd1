"""Simulated posteriors of hidden Markov models, by a Gibbs sampler that starts at the truth."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel._util.validate import real, seed_of
from relabel.simulate.gibbs import (
    Normals,
    categorical,
    one_hot,
    places,
    planted_allocations,
)
from relabel.simulate.planted import Simulated, check_counts
from relabel.spec.arrays import SAMPLE_DIMS
from relabel.spec.spec import Spec

__all__ = ["hmm"]

Array = NDArray[Any]

_BURN_IN = 30
_TINY = np.finfo(float).tiny

SPEC = Spec(
    units={"state": "permutation"},
    axes={
        "mu": "state",
        "sigma": "state",
        "initial": "state",
        "transition": "state state",
        "allocation/prob": "obs state",
    },
    values={"allocation/z": "state"},
)


def hmm(
    K: int = 3,
    *,
    n: int = 150,
    separation: float = 3.0,
    stay: float = 0.8,
    chains: int = 4,
    draws: int = 50,
    switching: Literal["draw", "chain"] = "draw",
    missing: float = 0.0,
    rng: int | np.random.Generator = 0,
) -> Simulated:
    r"""Simulate the posterior of a hidden Markov model with normal emissions, labels planted.

    The draws are those of a Gibbs sampler that draws whole paths of states (forward filtering,
    backward sampling; Chib 1996), started at the true path; all after 30 are kept.

    Parameters
    ----------
    K : int, default 3
        Number of states.
    n : int, default 150
        Length of the series.
    separation : float, default 3.0
        Distance of neighbouring means, in standard deviations.
    stay : float, default 0.8
        Probability of staying in a state; the others are equally probable but for a random factor,
        so that states differ by where they lead to.
    chains, draws, switching, missing, rng
        As in :func:`mixture`.

    Returns
    -------
    Simulated
        ``posterior`` has `mu`, `sigma` and `initial` (state), and `transition` (state, state_to),
        both axes of which are states; ``allocation`` the paths `z` and the smoothed probabilities
        `prob`; ``sample_stats`` the log posterior density `lp`, paths summed out;
        ``constant_data`` the series `x` and `true_z`. The right labels are defined as in
        :func:`mixture`.

    Raises
    ------
    SpecError
        If a number is out of range.

    References
    ----------
    Chib, S. (1996). Calculating posterior distributions and modal estimates in Markov mixture
    models. *Journal of Econometrics* 75(1), 79-97. https://doi.org/10.1016/0304-4076(95)01770-4

    Examples
    --------
    >>> import relabel
    >>> from relabel.simulate import hmm, recovery
    >>> simulated = hmm(3, separation=5.0, draws=20)
    >>> by_mean = relabel.criteria.Mean(var_names="mu")  # transitions are known less well
    >>> aligned = relabel.align(simulated.data, simulated.spec, criterion=by_mean)
    >>> recovery(aligned["relabel"], simulated.planted)
    {'state': 1.0, 'draws': 1.0}
    """
    check_counts(K=K, n=n, chains=chains, draws=draws)
    separation, stay = real("separation", separation, low=0), real("stay", stay, 0, 1)
    rng = np.random.default_rng(seed_of(rng))
    mu, sigma = places(K, 1, separation, rng), rng.uniform(0.8, 1.2, size=(K, 1))
    transition = stay * np.eye(K) + (1 - stay) * rng.dirichlet(np.full(K, 2.0), size=K)
    true_z = _path(transition, n, rng)
    normals = Normals(mu[true_z] + sigma[true_z] * rng.normal(size=(n, 1)))
    kept = _sampled(normals, sigma, true_z, chains, draws, rng)
    density = normals.log_density(kept["mu"], kept["sigma"])
    forward, evidence = filtered(density, kept["initial"], kept["transition"])
    lp = evidence + normals.log_prior(kept["mu"], kept["sigma"])
    prob = _smoothed(forward, kept["transition"])
    allocation = xr.Dataset(
        {
            "z": ((*SAMPLE_DIMS, "obs"), kept["z"].astype(np.int16)),
            "prob": ((*SAMPLE_DIMS, "obs", "state"), prob),
        }
    )
    dims = (*SAMPLE_DIMS, "state")
    posterior = xr.Dataset(
        {
            "mu": (dims, kept["mu"][..., 0]),
            "sigma": (dims, kept["sigma"][..., 0]),
            "initial": (dims, kept["initial"]),
            "transition": ((*dims, "state_to"), kept["transition"]),
        }
    )
    known = xr.Dataset({"x": ("obs", normals.x[:, 0]), "true_z": ("obs", true_z)})
    others = {"sample_stats": xr.Dataset({"lp": (SAMPLE_DIMS, lp)}), "constant_data": known}
    first = np.full(K, 1 / K)
    truth = {"mu": mu[:, 0], "sigma": sigma[:, 0], "initial": first, "transition": transition}
    options: dict[str, Any] = {"switching": switching, "missing": missing, "rng": rng}
    return planted_allocations(posterior, allocation, others, SPEC, true_z, truth, **options)


def filtered(density: Array, initial: Array, transition: Array) -> tuple[Array, Array]:
    """Return the probabilities of states given the past, and the log evidence.

    `density` has the shape (..., n, K); the leading axes are those of `initial` and `transition`.
    """
    top = density.max(axis=-1, keepdims=True)
    likely = np.exp(density - top)
    forward = np.empty_like(likely)
    evidence = top[..., 0].sum(axis=-1)
    ahead = initial
    for t in range(density.shape[-2]):
        joint = ahead * likely[..., t, :] + _TINY
        total = joint.sum(axis=-1, keepdims=True)
        forward[..., t, :] = joint / total
        evidence = evidence + np.log(total[..., 0])
        ahead = (forward[..., t, None, :] @ transition)[..., 0, :]
    return forward, evidence


def _smoothed(forward: Array, transition: Array) -> Array:
    """Return the probabilities of states given the whole series."""
    prob = forward.copy()
    for t in range(forward.shape[-2] - 2, -1, -1):
        ahead = (forward[..., t, None, :] @ transition)[..., 0, :]
        pull = transition @ (prob[..., t + 1, :] / np.maximum(ahead, _TINY))[..., None]
        prob[..., t, :] = forward[..., t, :] * pull[..., 0]
        prob[..., t, :] /= prob[..., t, :].sum(axis=-1, keepdims=True)
    return prob


def _backward(forward: Array, transition: Array, rng: np.random.Generator) -> Array:
    """Draw a path for every chain, from the last state to the first."""
    chains, n, _ = forward.shape
    path = np.empty((chains, n), dtype=np.int64)
    weight = np.log(forward + _TINY)
    moves = np.log(transition + _TINY)
    path[:, -1] = categorical(weight[:, -1], rng)
    every = np.arange(chains)
    for t in range(n - 2, -1, -1):
        path[:, t] = categorical(weight[:, t] + moves[every, :, path[:, t + 1]], rng)
    return path


def _path(transition: Array, n: int, rng: np.random.Generator) -> Array:
    """Draw the true path."""
    path = np.empty(n, dtype=np.int64)
    path[0] = rng.integers(len(transition))
    for t in range(1, n):
        path[t] = rng.choice(len(transition), p=transition[path[t - 1]])
    return path


def _dirichlet(count: Array, rng: np.random.Generator) -> Array:
    """Draw probabilities given counts, under a uniform prior, along the last axis."""
    mass = rng.standard_gamma(1.0 + count) + _TINY
    drawn: Array = mass / mass.sum(axis=-1, keepdims=True)
    return drawn


def _sampled(
    normals: Normals,
    sigma: Array,
    true_z: Array,
    chains: int,
    draws: int,
    rng: np.random.Generator,
) -> dict[str, Array]:
    """Run the Gibbs sampler, all chains at once; shapes (chain, draw, ...)."""
    size = len(sigma)
    z = np.broadcast_to(true_z, (chains, len(true_z)))
    sigma = np.broadcast_to(sigma, (chains, *sigma.shape))
    names = ("mu", "sigma", "initial", "transition", "z")
    kept: dict[str, list[Array]] = {name: [] for name in names}
    for step in range(_BURN_IN + draws):
        member = one_hot(z, size)
        mu, sigma = normals.draw(member, sigma, rng)
        initial = _dirichlet(member[:, 0], rng)
        transition = _dirichlet(member[:, :-1].swapaxes(1, 2) @ member[:, 1:], rng)
        forward, _ = filtered(normals.log_density(mu, sigma), initial, transition)
        z = _backward(forward, transition, rng)
        if step >= _BURN_IN:
            for name, value in zip(names, (mu, sigma, initial, transition, z), strict=True):
                kept[name].append(value)
    return {name: np.stack(values, axis=1) for name, values in kept.items()}
