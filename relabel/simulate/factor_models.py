"""Simulated draws of factor models, under planted signed permutations or rotations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel._util.validate import choice, real, seed_of
from relabel.errors import SpecError
from relabel.groups import group_of
from relabel.groups.elements import Monomial
from relabel.numerics.assignment import assign
from relabel.simulate.planted import SWITCHING, Simulated, check_counts, random_element, shares_of
from relabel.spec.arrays import SAMPLE_DIMS
from relabel.spec.spec import Spec
from relabel.spec.transformation import Transformation

__all__ = ["SimulatedFactors", "factors", "recovery_of_loadings"]

Array = NDArray[Any]

_CROSS = 0.2  # of all other loadings, how many are not zero
_UNIQUE = 0.5  # true uniqueness of every item

SPEC = Spec(units={"factor": "signed"}, axes={"Lambda": "item factor", "eta": "obs factor"})


@dataclass(frozen=True)
class SimulatedFactors(Simulated):
    """Simulated draws of a factor model.

    Attributes
    ----------
    rotation : ndarray of shape (chain, draw, q, q) or None
        Matrices by which the loadings and scores of each draw were multiplied from the right, if
        rotations were planted; `planted` is then the identity.
    """

    rotation: Array | None


def factors(
    p: int = 12,
    q: int = 3,
    *,
    n: int = 100,
    noise: float = 0.1,
    rotation: bool = False,
    chains: int = 4,
    draws: int = 100,
    switching: Literal["draw", "chain"] = "draw",
    rng: int | np.random.Generator = 0,
) -> SimulatedFactors:
    r"""Simulate draws of a factor model about a sparse truth, labels planted.

    .. math:: \Lambda_t = (\Lambda_0 + \text{noise} \cdot \varepsilon_t) Q_t, \qquad
        \eta_t = (\eta_0 + \text{noise} \cdot \delta_t) Q_t

    with standard normal :math:`\varepsilon_t, \delta_t` and :math:`Q_t` a signed permutation, or
    an orthogonal matrix, uniform. Every item loads on one factor by 0.5 to 1 in size, and with
    probability 0.2 on each of the others by up to 0.3.

    Parameters
    ----------
    p, q : int
        Numbers of items and of factors; not more factors than items.
    n : int, default 100
        Number of data.
    noise : float, default 0.1
        Standard deviation of the draws about the truth.
    rotation : bool, default False
        Whether orthogonal matrices are planted, not signed permutations.
    chains, draws, switching, rng
        As in :func:`mixture`.

    Returns
    -------
    SimulatedFactors
        ``posterior`` has the loadings `Lambda` (item, factor), the scores `eta` (obs, factor) and
        the uniquenesses `psi` (item); ``sample_stats`` has the log likelihood `lp`, scores
        integrated out; ``constant_data`` the data `y` (obs, item).

    Raises
    ------
    SpecError
        If a number is out of range.

    Examples
    --------
    >>> import relabel
    >>> from relabel.simulate import factors, recovery
    >>> simulated = factors(12, 3, draws=20)
    >>> aligned = relabel.align(simulated.data, simulated.spec)
    >>> recovery(aligned["relabel"], simulated.planted)
    {'factor': 1.0, 'draws': 1.0}
    """
    check_counts(p=p, q=q, n=n, chains=chains, draws=draws)
    noise = real("noise", noise, low=0)
    choice("switching", switching, SWITCHING)
    if q > p:
        raise SpecError(f"q must not be greater than p, the number of items {p}, not {q}")
    rng = np.random.default_rng(seed_of(rng))
    batch = (chains, draws)
    truth = {"Lambda": _loadings(p, q, rng), "eta": rng.normal(size=(n, q))}
    y = truth["eta"] @ truth["Lambda"].T + np.sqrt(_UNIQUE) * rng.normal(size=(n, p))
    dims = {"Lambda": ("item", "factor"), "eta": ("obs", "factor")}
    drawn = {
        name: (
            (*SAMPLE_DIMS, *dims[name]),
            value + noise * rng.normal(size=(*batch, *value.shape)),
        )
        for name, value in truth.items()
    }
    psi = _UNIQUE * rng.lognormal(sigma=min(noise, 0.5), size=(*batch, p))
    clean = xr.Dataset({**drawn, "psi": ((*SAMPLE_DIMS, "item"), psi)})
    lp = _log_likelihood(clean["Lambda"].values, psi, y)
    if rotation:
        moved, turned = _rotated(clean, switching, rng)
        planted = Transformation.identity({"factor": q}, batch)
    else:
        planted = Transformation(
            {"factor": random_element(group_of("signed"), batch, q, switching, rng)}
        )
        moved, turned = planted.apply({"posterior": clean}, SPEC.bind(clean))["posterior"], None
    groups = {
        "posterior": moved,
        "sample_stats": xr.Dataset({"lp": (SAMPLE_DIMS, lp)}),
        "constant_data": xr.Dataset({"y": (("obs", "item"), y)}),
        "truth": xr.Dataset({name: (dims[name], value) for name, value in truth.items()}),
    }
    return SimulatedFactors(xr.DataTree.from_dict(groups), SPEC, truth, planted, clean, turned)


def recovery_of_loadings(loadings: Array | xr.DataArray, clean: xr.Dataset) -> dict[str, float]:
    """Compare aligned loadings with the clean ones, whatever aligned them.

    Each column of a draw is assigned to the clean column of that draw to which it is most parallel
    (one assignment per draw, of absolute cosines), with the sign of the cosine.

    Parameters
    ----------
    loadings : ndarray or DataArray of shape (chain, draw, p, q)
    clean : Dataset
        As in :class:`SimulatedFactors`.

    Returns
    -------
    dict of str to float
        As for :func:`recovery`, up to one global signed permutation.

    Raises
    ------
    SpecError
        If the shapes differ.

    Examples
    --------
    >>> simulated = factors(12, 3, draws=5, chains=1)
    >>> recovery_of_loadings(-simulated.clean["Lambda"], simulated.clean)
    {'factor': 1.0, 'draws': 1.0}
    """
    found, right = np.asarray(loadings, dtype=float), clean["Lambda"].values
    if found.shape != right.shape:
        raise SpecError(
            f"loadings must have the shape of the clean ones, {right.shape}, not {found.shape}"
        )
    norms = np.linalg.norm(found, axis=2)[..., None] * np.linalg.norm(right, axis=2)[:, :, None]
    cosine = found.swapaxes(2, 3) @ right / np.maximum(norms, np.finfo(float).tiny)
    batch, q = cosine.shape[:2], cosine.shape[-1]
    index = assign(np.abs(cosine).reshape(-1, q, q)).reshape(*batch, q)
    chosen = np.take_along_axis(cosine, index[..., None], axis=3)[..., 0]
    return shares_of({"factor": Monomial(index, np.where(chosen < 0, -1.0, 1.0))})


def _loadings(p: int, q: int, rng: np.random.Generator) -> Array:
    """Draw a sparse loading matrix in which every factor has items of its own."""
    own = rng.permutation(np.arange(p) % q)[:, None] == np.arange(q)
    small = rng.uniform(-0.3, 0.3, size=(p, q)) * (rng.random((p, q)) < _CROSS)
    large = rng.uniform(0.5, 1.0, size=(p, q)) * rng.choice([-1.0, 1.0], size=(p, q))
    return np.where(own, large, small)


def _rotated(
    clean: xr.Dataset, switching: str, rng: np.random.Generator
) -> tuple[xr.Dataset, Array]:
    """Multiply loadings and scores by an orthogonal matrix for every draw, or every chain."""
    chains, draws, q = (clean.sizes[d] for d in (*SAMPLE_DIMS, "factor"))
    normal = rng.normal(size=(chains, draws if switching == "draw" else 1, q, q))
    orthogonal, triangle = np.linalg.qr(normal)
    orthogonal *= np.where(np.einsum("...ii->...i", triangle) < 0, -1.0, 1.0)[..., None, :]
    turned = np.broadcast_to(orthogonal, (chains, draws, q, q)).copy()
    moved = {name: (clean[name].dims, clean[name].values @ turned) for name in ("Lambda", "eta")}
    return clean.assign(moved), turned


def _log_likelihood(loadings: Array, psi: Array, y: Array) -> Array:
    """Log likelihood with the scores integrated out, shape (chain, draw)."""
    n, p = y.shape
    covariance = loadings @ loadings.swapaxes(-1, -2) + psi[..., None] * np.eye(p)
    fit = np.trace(np.linalg.solve(covariance, y.T @ y), axis1=-2, axis2=-1)
    _, volume = np.linalg.slogdet(covariance)
    density: Array = -0.5 * (fit + n * (volume + p * np.log(2 * np.pi)))
    return density
