"""Allocation and state probabilities, computed from draws and data where a file lacks them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.data.containers import Data, DrawsLike, pack, unpack
from relabel.errors import DataError, SpecError
from relabel.numerics.densities import allocate, check_names, density_of, log_density, smooth
from relabel.spec.arrays import (
    SAMPLE_DIMS,
    check_draws,
    closest,
    core_dims,
    core_shape,
    draw_values,
    drawn_variables,
)

__all__ = ["allocation_probabilities", "state_probabilities", "with_allocation"]

Array = NDArray[Any]

_BLOCK = 2**24  # bytes of the log densities of one block
_TOLERANCE = 1e-3  # of a sum of probabilities


def allocation_probabilities(
    data: DrawsLike,
    x: Array | xr.DataArray,
    family: str,
    parameters: Mapping[str, Any],
    *,
    weights: str | None = "w",
    group: str = "posterior",
    component: str | None = None,
    obs: str = "obs",
) -> xr.DataArray:
    r"""Compute the responsibilities of a mixture: allocation probabilities of every draw.

    .. math:: p_{tik} = \frac{w_{tk} f(x_i \mid \theta_{tk})}{\sum_l w_{tl} f(x_i \mid \theta_{tl})}

    is the probability that observation *i* belongs to component *k* in draw *t*. Draws are
    processed in blocks, so that little memory is needed beside the result.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset
        Draws with the dimensions chain and draw.
    x : ndarray or DataArray of shape (n,) or (n, d)
        Observations. NaN is a missing one, whose probabilities are the weights.
    family : str
        Family of the components (see :func:`relabel.numerics.densities.log_density`): ``"normal"``,
        ``"multivariate_normal"``, ``"spherical_normal"``, ``"student_t"``, ``"lognormal"``,
        ``"exponential"``, ``"gamma"``, ``"beta"``, ``"poisson"``, ``"negative_binomial"``,
        ``"binomial"``, ``"binomial_trials"``, ``"bernoulli"``, ``"categorical"``,
        ``"multinomial"``.
    parameters : mapping
        Parameter of the family -> name of its variable, as in ``{"mean": "mu", "sd": "sigma"}``,
        or one number for all components. A variable without the dimension of the components
        applies to all of them.
    weights : str or None, default "w"
        Variable of the weights; None for equal ones.
    group : str, default "posterior"
        Group of these variables.
    component : str, optional
        Dimension of the components. By default that of the weights; without weights the first
        dimension of a parameter.
    obs : str, default "obs"
        Name of the dimension of observations in the result; a DataArray `x` keeps its own.

    Returns
    -------
    DataArray of float64, dims (chain, draw, obs, component)
        :func:`with_allocation` adds it to the data, with which it is then aligned. NaN in draws
        that hold NaN.

    Raises
    ------
    SpecError
        If the family, a parameter or a variable is unknown.
    DataError
        If shapes do not fit, a parameter is out of its range, or an observation has density 0
        under all components.

    Examples
    --------
    >>> import numpy as np, xarray as xr, relabel
    >>> sample = ("chain", "draw", "component")
    >>> draws = xr.Dataset({"mu": (sample, [[[0.0, 4.0], [4.0, 0.0]]]),
    ...                     "w": (sample, [[[0.5, 0.5], [0.5, 0.5]]])})
    >>> tree = xr.DataTree.from_dict({"posterior": draws})
    >>> prob = relabel.models.allocation_probabilities(
    ...     tree, np.array([0.0, 2.0]), "normal", {"mean": "mu", "sd": 1.0})
    >>> prob.values[0].round(3)
    array([[[1. , 0. ],
            [0.5, 0.5]],
    <BLANKLINE>
           [[0. , 1. ],
            [0.5, 0.5]]])
    >>> tree = relabel.models.with_allocation(tree, prob)
    >>> aligned = relabel.align(tree, {"component": "permutation"})
    >>> aligned["allocation"]["prob"].values[0, :, 0].round(3)
    array([[1., 0.],
           [1., 0.]])
    """
    model = _Model.read(data, x, family, parameters, weights, group, component, obs)
    result = model.empty()
    for rows in model.blocks():
        log = model.log_density(rows)
        with np.errstate(divide="ignore", invalid="ignore"):
            log += np.log(model.weights[rows])[:, None, :]
            allocate(log)
        model.check(log, rows, "every component")
        result[rows] = log
    return model.labelled(result)


def state_probabilities(
    data: DrawsLike,
    x: Array | xr.DataArray,
    family: str,
    parameters: Mapping[str, Any],
    *,
    transition: str = "P",
    initial: str | None = None,
    lengths: Sequence[int] | None = None,
    group: str = "posterior",
    component: str | None = None,
    obs: str = "obs",
) -> xr.DataArray:
    """Compute smoothed state probabilities of a hidden Markov model, for every draw.

    They are the probabilities of each state at each time, given all observations of the sequence,
    by the forward-backward recursions.

    Parameters
    ----------
    data, x, family, parameters, group, obs
        As for :func:`allocation_probabilities`; observations in the order of time.
    transition : str, default "P"
        Variable of the transition matrix, (from, to): rows add up to one.
    initial : str, optional
        Variable of the distribution of the first state; None for equal probabilities.
    lengths : sequence of int, optional
        Lengths of the sequences, one after the other in `x`; one sequence by default.
    component : str, optional
        Dimension of the states; by default the first one of the transition matrix.

    Returns
    -------
    DataArray of float64, dims (chain, draw, obs, state)

    Raises
    ------
    SpecError, DataError
        As for :func:`allocation_probabilities`; and if rows of the transition matrix do not add up
        to one, or lengths not to the number of observations.

    References
    ----------
    Rabiner, L. R. (1989). A tutorial on hidden Markov models. *Proceedings of the IEEE* 77(2),
    257-286. https://doi.org/10.1109/5.18626

    Examples
    --------
    >>> import numpy as np, xarray as xr, relabel
    >>> sample = ("chain", "draw")
    >>> draws = xr.Dataset({
    ...     "mu": ((*sample, "state"), [[[0.0, 2.0]]]),
    ...     "P": ((*sample, "state", "to"), [[[[0.9, 0.1], [0.1, 0.9]]]])})
    >>> x = np.array([0.0, 1.0, 0.0])
    >>> prob = relabel.models.state_probabilities(draws, x, "normal", {"mean": "mu", "sd": 1.0})
    >>> prob.values[0, 0].round(3)
    array([[0.955, 0.045],
           [0.944, 0.056],
           [0.955, 0.045]])
    """
    if component is None:
        component = _first_dim(_dataset(data, group), transition)
    model = _Model.read(data, x, family, parameters, initial, group, component, obs)
    matrix = model.matrix(transition)
    lengths = [model.n] if lengths is None else [int(n) for n in lengths]
    if sum(lengths) != model.n or min(lengths) < 1:
        raise DataError(f"lengths {lengths} do not add up to the {model.n} observations")
    result = model.empty()
    for rows in model.blocks():
        found = smooth(model.log_density(rows), matrix[rows], model.weights[rows], lengths)
        found[np.isnan(matrix[rows]).any(axis=(1, 2))] = np.nan
        model.check(found, rows, "every path of states", matrix)
        result[rows] = found
    return model.labelled(result)


def with_allocation(data: Data, prob: xr.DataArray, *, name: str = "prob") -> Data:
    """Return the data with allocation probabilities in the group ``allocation``.

    :func:`relabel.align` transforms that group with the draws: its dimension of components is
    named as in the posterior.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset
        Draws. A Dataset has no groups, and gets the variable itself.
    prob : DataArray
        What :func:`allocation_probabilities` or :func:`state_probabilities` returned; or any other
        variable of the same draws.
    name : str, default "prob"
        Name of the variable.

    Returns
    -------
    Same type as `data`

    Raises
    ------
    DataError
        If `prob` is of other draws.

    Examples
    --------
    >>> import xarray as xr
    >>> sample = ("chain", "draw", "component")
    >>> draws = xr.Dataset({"mu": (sample, [[[0.0, 4.0]]])})
    >>> tree = xr.DataTree.from_dict({"posterior": draws})
    >>> prob = xr.DataArray([[[[1.0, 0.0]]]], dims=("chain", "draw", "obs", "component"))
    >>> with_allocation(tree, prob)["allocation"]["prob"].dims
    ('chain', 'draw', 'obs', 'component')
    """
    groups = unpack(data)
    check_draws(groups)
    posterior = groups["posterior"]
    for dim in SAMPLE_DIMS:
        if prob.sizes.get(dim) != posterior.sizes[dim]:
            raise DataError(
                f"the probabilities are of other draws: {dim} has the size {prob.sizes.get(dim)}, "
                f"in the posterior {posterior.sizes[dim]}"
            )
    if isinstance(data, xr.Dataset):
        own = groups.get("relabel")  # the record of an alignment, which stays
        return pack(data, {"posterior": posterior.assign({name: prob}), "relabel": own})
    coords = {dim: posterior[dim] for dim in SAMPLE_DIMS if dim in posterior.coords}
    allocation = groups.get("allocation", xr.Dataset(coords=coords))
    return pack(data, {"allocation": allocation.assign({name: prob})})


# ---------------------------------------------------------------------- the draws


@dataclass(frozen=True)
class _Model:
    """Parameters of all draws, and the observations."""

    family: str
    parameters: dict[str, Array]  # (draws, K or 1, ...)
    weights: Array  # (draws, K)
    x: Array
    posterior: xr.Dataset
    component: str
    obs: str
    coords: dict[str, Any]

    @classmethod
    def read(
        cls,
        data: DrawsLike,
        x: Array | xr.DataArray,
        family: str,
        parameters: Mapping[str, Any],
        weights: str | None,
        group: str,
        component: str | None,
        obs: str,
    ) -> _Model:
        """Read all variables and check that they fit."""
        check_names(family, parameters)
        posterior, ranks = _dataset(data, group), density_of(family).ranks
        component = _component(posterior, weights, parameters, component)
        n_units = posterior.sizes[component]
        found = {
            name: _parameter(posterior, value, component, n_units, ranks.get(name, 0))
            for name, value in parameters.items()
        }
        n_draws = posterior.sizes["chain"] * posterior.sizes["draw"]
        shares = np.full((n_draws, n_units), 1 / n_units)
        if weights is not None:
            shares = _parameter(posterior, weights, component, n_units, 0)
            _check_sums(shares, weights)
        values = np.asarray(x)
        if values.ndim == 0 or values.dtype.kind not in "iubf":
            raise DataError(
                "x must hold observations, numbers of shape (n,) or (n, d); it has the shape "
                f"{values.shape} and the dtype {values.dtype}"
            )
        coords = {}
        if isinstance(x, xr.DataArray):
            obs = str(x.dims[0])
            coords = {obs: x.coords[obs]} if obs in x.coords else {}
        if obs in (*SAMPLE_DIMS, component):
            raise SpecError(
                f"the dimension of the observations cannot be {obs!r}, which the draws have; "
                "choose another with obs=, or rename that of x"
            )
        return cls(family, found, shares, values.astype(float), posterior, component, obs, coords)

    @property
    def n(self) -> int:
        """Number of observations."""
        return len(self.x)

    def empty(self) -> Array:
        """Return an array for the result, (draws, n, K)."""
        return np.empty((len(self.weights), self.n, self.weights.shape[1]))

    def blocks(self) -> list[slice]:
        """Return the rows of draws that are processed at once."""
        width = self.x.shape[1] if self.x.ndim == 2 else 1
        step = max(1, _BLOCK // max(1, 8 * self.n * self.weights.shape[1] * width))
        return [slice(i, i + step) for i in range(0, len(self.weights), step)]

    def log_density(self, rows: slice) -> Array:
        """Compute the log densities of some draws, (draws, n, K)."""
        some = {name: value[rows] for name, value in self.parameters.items()}
        log = log_density(self.family, self.x, some)
        return np.array(np.broadcast_to(log, (*log.shape[:-1], self.weights.shape[1])))

    def matrix(self, name: str) -> Array:
        """Return the transition matrices of all draws."""
        n_units = self.weights.shape[1]
        variable = _variable(self.posterior, name)
        values = draw_values(variable).astype(float)
        if values.shape[1:] != (n_units, n_units):
            raise DataError(
                f"{name!r} has the axes {core_dims(variable)} of sizes {values.shape[1:]}; a "
                f"transition matrix of {n_units} states has two of size {n_units}, from and to"
            )
        _check_sums(values, name)
        return values

    def check(self, prob: Array, rows: slice, what: str, *more: Array) -> None:
        """Raise DataError if an observation has density 0; draws with NaN stay NaN."""
        nan = np.isnan(prob).any(axis=(1, 2))
        for row in np.flatnonzero(nan):
            drawn = (*self.parameters.values(), self.weights, *more)
            if all(np.isfinite(value[rows][row]).all() for value in drawn):
                i = int(np.flatnonzero(np.isnan(prob[row]).any(axis=1))[0])
                at = (rows.start + int(row)) // self.posterior.sizes["draw"]
                draw = (rows.start + int(row)) % self.posterior.sizes["draw"]
                raise DataError(
                    f"{what} has density 0 at observation {i} ({self.x[i]}) in chain {at}, draw "
                    f"{draw}: check the family ({self.family}), the data and their scale"
                )

    def labelled(self, values: Array) -> xr.DataArray:
        """Return the result with its dimensions and coordinates."""
        sizes = [self.posterior.sizes[dim] for dim in SAMPLE_DIMS]
        dims = (*SAMPLE_DIMS, self.obs, self.component)
        known = [d for d in (*SAMPLE_DIMS, self.component) if d in self.posterior.coords]
        coords = {d: self.posterior.coords[d].variable for d in known} | self.coords
        about = {"long_name": "probability that the observation belongs to the component"}
        return xr.DataArray(values.reshape(*sizes, *values.shape[1:]), coords, dims, "prob", about)


def _dataset(data: DrawsLike, group: str) -> xr.Dataset:
    groups = unpack(data)
    check_draws(groups)
    if group not in groups:
        raise SpecError(f"there is no group {group!r}; the data have {', '.join(groups)}")
    return groups[group]


def _variable(posterior: xr.Dataset, name: str) -> xr.DataArray:
    known = {key: variable for (_, key), variable in drawn_variables({"": posterior})}
    if name not in known:
        raise SpecError(
            f"unknown variable {name!r}{closest(name, known)}; the draws have {', '.join(known)}"
        )
    return known[name]


def _component(
    posterior: xr.Dataset,
    weights: str | None,
    parameters: Mapping[str, Any],
    given: str | None,
) -> str:
    """Return the dimension of the components, as given or that of the first variable."""
    named = [v for v in (weights, *parameters.values()) if isinstance(v, str)]
    component = _first_dim(posterior, named[0] if named else None) if given is None else given
    if weights is not None and component not in _variable(posterior, weights).dims:
        raise DataError(
            f"{weights!r} has no dimension {component!r}, but {core_dims(posterior[weights])}"
        )
    if component not in posterior.sizes:
        known = ", ".join(map(str, posterior.sizes))
        raise SpecError(f"component={component!r} is not a dimension of the draws: {known}")
    return component


def _first_dim(posterior: xr.Dataset, name: str | None) -> str:
    """Return the first dimension of one draw of a variable."""
    dims = core_dims(_variable(posterior, name)) if name is not None else ()
    if not dims:
        raise SpecError("the dimension of the components is not known; give it with component=")
    return dims[0]


def _parameter(posterior: xr.Dataset, value: Any, component: str, n_units: int, rank: int) -> Array:
    """Return one parameter, (draws, K, ...); K is 1 where it is the same for all components."""
    n_draws = posterior.sizes["chain"] * posterior.sizes["draw"]
    if not isinstance(value, str):
        constant = np.asarray(value, dtype=float)
        if constant.ndim != rank:
            kind = ("a number", "a vector", "a matrix")[rank]
            raise DataError(f"a parameter must be {kind} or the name of a variable, not {value!r}")
        return np.broadcast_to(constant, (n_draws, 1, *constant.shape))
    variable = _variable(posterior, value)
    dims = core_dims(variable)
    first = [dim for dim in dims if dim == component]
    values = draw_values(variable, *first, *(d for d in dims if d != component)).astype(float)
    if len(dims) == rank and component not in dims:
        return values[:, None]
    if len(dims) != rank + 1 or values.shape[1] != n_units:
        kind = ("a number", "a vector", "a matrix")[rank]
        raise DataError(
            f"{value!r} has the axes {dims} of sizes {core_shape(variable)}; it must hold {kind} "
            f"for each of the {n_units} components {component!r}, components first"
        )
    return values


def _check_sums(values: Array, name: str) -> None:
    """Raise DataError unless weights, or rows of a matrix, are probabilities; NaN may be there."""
    sums = values.sum(axis=-1)
    wrong = (np.abs(sums - 1) > _TOLERANCE) | (values < 0).any(axis=-1)
    if wrong.any():
        row = int(np.argwhere(wrong)[0][0])
        raise DataError(
            f"{name!r} must hold probabilities that add up to one over the last axis; in draw "
            f"{row} they are {np.array2string(values[row], precision=4, threshold=20)}"
        )
