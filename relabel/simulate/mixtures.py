"""Simulated posteriors of normal mixtures, by a Gibbs sampler that starts at the truth."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax

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

__all__ = ["mixture"]

Array = NDArray[Any]

_BURN_IN = 50
_THIN = 3
_EVEN = 10.0  # parameter of the Dirichlet law of the true weights


def mixture(
    K: int = 3,
    *,
    n: int = 200,
    separation: float = 4.0,
    dim: int = 1,
    chains: int = 4,
    draws: int = 100,
    switching: Literal["draw", "chain"] = "draw",
    missing: float = 0.0,
    rng: int | np.random.Generator = 0,
) -> Simulated:
    r"""Simulate the posterior of a normal mixture, each draw under a random permutation.

    Data are drawn from a mixture whose means lie on a lattice, `separation` apart where standard
    deviations are about one. The draws are those of a Gibbs sampler with conjugate priors
    (Diebolt & Robert 1994), started at the true allocation; every third after 50 is kept.

    Parameters
    ----------
    K : int, default 3
        Number of components.
    n : int, default 200
        Number of observations.
    separation : float, default 4.0
        Distance of neighbouring means, in standard deviations. Below 3 labels overlap.
    dim : int, default 1
        Dimension of the data; covariances are diagonal.
    chains, draws : int
        Number of chains, and of draws in each.
    switching : {"draw", "chain"}
        Whether every draw has its own permutation, or every chain.
    missing : float, default 0.0
        Share of the allocations ``z`` that are missing (-1).
    rng : int or numpy.random.Generator, default 0
        Random seed.

    Returns
    -------
    Simulated
        ``posterior`` has `mu`, `sigma` (component, or component and dim) and the weights `w`;
        ``allocation`` has `z`, integers, and `prob` (obs, component); ``sample_stats`` the
        log posterior density `lp`, `z` summed out; ``constant_data`` the data `x` and `true_z`.

    Raises
    ------
    SpecError
        If a number is out of range.

    Notes
    -----
    A sampler may exchange components by itself. So the *right* labels are defined by the data, not
    by the start of the sampler: slot *k* of `clean` holds the component of the draw that agrees in
    most points with the true component *k*, by the assignment that is best over all components.
    Where components overlap that is one convention among others, and even the true parameters do
    not lead to it in every draw.

    References
    ----------
    Diebolt, J. & Robert, C. P. (1994). Estimation of finite mixture distributions through Bayesian
    sampling. *Journal of the Royal Statistical Society B* 56(2), 363-375.
    https://doi.org/10.1111/j.2517-6161.1994.tb01985.x

    Examples
    --------
    >>> import relabel
    >>> from relabel.simulate import mixture, recovery
    >>> simulated = mixture(3, separation=6.0, draws=50)
    >>> aligned = relabel.align(simulated.data, simulated.spec)
    >>> recovery(aligned["relabel"], simulated.planted)
    {'component': 1.0, 'draws': 1.0}
    """
    check_counts(K=K, n=n, dim=dim, chains=chains, draws=draws)
    separation = real("separation", separation, low=0)
    rng = np.random.default_rng(seed_of(rng))
    mu, sigma = places(K, dim, separation, rng), rng.uniform(0.8, 1.2, size=(K, dim))
    w = rng.dirichlet(np.full(K, _EVEN))
    true_z = np.sort(rng.choice(K, size=n, p=w))
    normals = Normals(mu[true_z] + sigma[true_z] * rng.normal(size=(n, dim)))
    kept = _sampled(normals, sigma, true_z, chains, draws, rng)
    log_joint = normals.log_density(kept["mu"], kept["sigma"]) + np.log(kept["w"])[..., None, :]
    lp = logsumexp(log_joint, axis=-1).sum(axis=-1) + normals.log_prior(kept["mu"], kept["sigma"])
    allocation = xr.Dataset(
        {
            "z": ((*SAMPLE_DIMS, "obs"), kept["z"].astype(np.int16)),
            "prob": ((*SAMPLE_DIMS, "obs", "component"), softmax(log_joint, axis=-1)),
        }
    )
    squeeze = slice(None) if dim > 1 else 0
    core = ("component", "dim")[: min(dim, 2)]
    posterior = xr.Dataset(
        {name: ((*SAMPLE_DIMS, *core), kept[name][..., squeeze]) for name in ("mu", "sigma")}
    ).assign(w=((*SAMPLE_DIMS, "component"), kept["w"]))
    known = xr.Dataset(
        {"x": (("obs", "dim")[: min(dim, 2)], normals.x[:, squeeze]), "true_z": ("obs", true_z)}
    )
    others = {"sample_stats": xr.Dataset({"lp": (SAMPLE_DIMS, lp)}), "constant_data": known}
    truth = {"mu": mu[:, squeeze], "sigma": sigma[:, squeeze], "w": w}
    options: dict[str, Any] = {"switching": switching, "missing": missing, "rng": rng}
    spec = _spec(" ".join(core))
    return planted_allocations(posterior, allocation, others, spec, true_z, truth, **options)


def _spec(core: str) -> Spec:
    """Declare the axes of all variables."""
    return Spec(
        units={"component": "permutation"},
        axes={"mu": core, "sigma": core, "w": "component", "allocation/prob": "obs component"},
        values={"allocation/z": "component"},
    )


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
    kept: dict[str, list[Array]] = {"mu": [], "sigma": [], "w": [], "z": []}
    for step in range(_BURN_IN + _THIN * draws):
        member = one_hot(z, size)
        mu, sigma = normals.draw(member, sigma, rng)
        w = rng.standard_gamma(1.0 + member.sum(axis=1)) + np.finfo(float).tiny
        w /= w.sum(axis=1, keepdims=True)
        log_weight = normals.log_density(mu, sigma) + np.log(w)[:, None, :]
        z = categorical(log_weight, rng)
        if step >= _BURN_IN and (step - _BURN_IN) % _THIN == _THIN - 1:
            for name, value in (("mu", mu), ("sigma", sigma), ("w", w), ("z", z)):
                kept[name].append(value)
    return {name: np.stack(values, axis=1) for name, values in kept.items()}
