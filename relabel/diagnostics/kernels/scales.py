r"""The exact law of the scale of homogeneous units, and a check of the sampler by it.

A unit with the activation f(λz) = λ^d f(z) does not change the network when its incoming weights
(bias included) are multiplied by :math:`e^t` and its outgoing ones by :math:`e^{-dt}`. So the
likelihood says nothing of *t*, and under independent priors N(0, σ²) of the weights its law given
all else is known:

.. math:: p(t \mid \text{rest}) \propto \exp\{ t (n_{in} - d\, n_{out})
    - \tfrac12 (A e^{2t} + B e^{-2dt}) \}

with :math:`A = \sum w^2 / \sigma^2` over the :math:`n_{in}` incoming weights, B likewise over the
:math:`n_{out}` outgoing ones. The first term is the Jacobian of the motion, a product of one
factor for each weight. The density is log-concave; for d = 1, :math:`e^{2t}` has the generalised
inverse Gaussian law with :math:`p = (n_{in} - n_{out}) / 2`, a = A and b = B.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import kolmogorov

from relabel.diagnostics.kernels.rhat_ess import convergence
from relabel.errors import SpecError
from relabel.groups.elements import Element, monomial
from relabel.spec.spec import ResolvedSpec, ResolvedVariable

__all__ = [
    "Priors",
    "ScaleLaw",
    "Term",
    "checked_priors",
    "draw_scale",
    "enough_sweeps",
    "precision_terms",
    "scale_cdf",
    "scale_law",
    "scale_parameters",
    "scaled_units",
    "without_prior",
]

Array = NDArray[Any]

#: Variable -> standard deviation of its normal prior; None for a variable that has none.
Priors = Mapping[str, float | None]

_DROP = 25.0  # tables end so many nats below the mode: what lies beyond is less than 1e-9
_NODES = 128  # of a table: errors of the cdf stay below 1e-4 (tests/test_scales.py)
_ROWS = 2**12  # units in a block: its tables should stay in the cache
_HALVINGS = 50
_SLOTS = 50  # units whose effective sample sizes are worked out, at milliseconds each


@dataclass(frozen=True)
class Term:
    """Squared weights in prior units, summed over the axes that carry no scaled units.

    Attributes
    ----------
    values : ndarray of shape (draws, K) or (draws, K1, K2, ...)
    axes : tuple of (units, power)
        The units of each axis, and the power of their scale that multiplies the weights.
    count : int
        Number of weights that each entry sums.
    """

    values: Array
    axes: tuple[tuple[str, int], ...]
    count: int


@dataclass(frozen=True)
class ScaleLaw:
    """Whether the scales of one set of units follow their law.

    Attributes
    ----------
    units : str
    statistic : float
        Kolmogorov-Smirnov distance of the pooled probability integral transforms from uniform.
    ess : float
        Effective number of independent values among them.
    p_value : float
    mean : float
        Mean of the transforms: above 1/2 where incoming weights are too large, outgoing too small.
    n : int
        How many there are.
    n_left : int
        Units of single draws that have no law, since a norm is zero or not finite.
    missing : tuple of str
        Variables without a prior. If there are any the question stays open, and numbers are nan.
    """

    units: str
    statistic: float
    ess: float
    p_value: float
    mean: float
    n: int
    n_left: int
    missing: tuple[str, ...] = ()


# ---------------------------------------------------------------------- the law of one scale


def scale_cdf(
    n_in: int,
    n_out: int,
    incoming: Array,
    outgoing: Array,
    *,
    degree: int = 1,
    at: Array | float = 0.0,
) -> Array:
    r"""Return the probability that the law gives to log-scales below `at`.

    At zero, the draw's own scale, this is its probability integral transform: uniform on (0, 1) if
    the draw comes from the posterior.

    Parameters
    ----------
    n_in, n_out : int
        Number of incoming weights of a unit, biases included, and of outgoing ones.
    incoming, outgoing : ndarray of one shape
        A and B: sums of squared weights, each divided by the variance of its prior.
    degree : int, default 1
        Degree *d* of homogeneity.
    at : ndarray or float, default 0
        Log-scale *t*, relative to the weights that A and B were computed from.

    Returns
    -------
    ndarray of the shape of `incoming`
        To an accuracy of 1e-4, and of 1e-5 where norms are of the size of one; nan for units of
        which a norm is zero or not finite.

    Notes
    -----
    The density is tabulated at 128 points about its mode and integrated by the trapezoidal rule
    with end corrections; between the points the cdf is a cubic.

    References
    ----------
    Jørgensen, B. (1982). *Statistical Properties of the Generalized Inverse Gaussian
    Distribution*. Springer. https://doi.org/10.1007/978-1-4612-5698-4

    Examples
    --------
    As many weights on either side, and equal norms: the scale is in the middle of its law.

    >>> import numpy as np
    >>> scale_cdf(4, 4, np.array([3.0]), np.array([3.0])).round(6)
    array([0.5])
    """
    slope = n_in - degree * n_out
    at = np.broadcast_to(np.asarray(at, dtype=float), np.shape(incoming))
    return _by_blocks(_cdf, slope, degree, incoming, outgoing, at)


def draw_scale(
    n_in: int,
    n_out: int,
    incoming: Array,
    outgoing: Array,
    rng: np.random.Generator,
    *,
    degree: int = 1,
) -> Array:
    """Draw log-scales from their law, by the inverse of :func:`scale_cdf`.

    Parameters
    ----------
    n_in, n_out, incoming, outgoing, degree
        As in :func:`scale_cdf`.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of the shape of `incoming`
        What is to be added to the logarithms of the scales; nan for units that have no law.

    Examples
    --------
    >>> import numpy as np
    >>> a = np.full(1000, 3.0)
    >>> t = draw_scale(4, 4, a, a, np.random.default_rng(0))
    >>> bool(abs(t.mean()) < 0.1)
    True
    """
    uniform = rng.random(np.shape(incoming))
    return _by_blocks(_quantile, n_in - degree * n_out, degree, incoming, outgoing, uniform)


def _by_blocks(
    function: Any, slope: int, degree: int, incoming: Array, outgoing: Array, argument: Array
) -> Array:
    """Work out a function of the law of every unit that has one, some at a time."""
    a, b = (np.asarray(part, dtype=float).ravel() for part in (incoming, outgoing))
    sound = np.flatnonzero(np.isfinite(a) & np.isfinite(b) & (a > 0) & (b > 0))
    result = np.full(a.shape, np.nan)
    for start in range(0, len(sound), _ROWS):
        rows = sound[start : start + _ROWS]
        law = _Law.of(slope, degree, a[rows], b[rows])
        result[rows] = function(law, argument.ravel()[rows])
    return result.reshape(np.shape(incoming))


@dataclass(frozen=True)
class _Law:
    """Tables of the laws of some units, on grids of equal steps: arrays (units, nodes)."""

    first: Array  # log-scale of the first node
    step: Array
    density: Array  # times the step, so that cells have unit width
    mass: Array

    @classmethod
    def of(cls, slope: int, degree: int, incoming: Array, outgoing: Array) -> _Law:
        """Tabulate the laws of units with sound norms."""
        mode, a, b = _mode(slope, degree, incoming, outgoing)
        below, above = _edge(b, 2.0 * degree, a, 2.0), _edge(a, 2.0, b, 2.0 * degree)
        step = (below + above) / (_NODES - 1)
        x = step[:, None] * np.arange(_NODES) - below[:, None]
        a, b = a[:, None], b[:, None]
        up, down = np.expm1(2.0 * x), np.expm1(-2.0 * degree * x)
        log_density = -0.5 * (a * (up - 2.0 * x) + b * (down + 2.0 * degree * x))
        density = step[:, None] * np.exp(log_density)
        slopes = step[:, None] * density * (degree * b * down - a * up)
        cells = (density[:, 1:] + density[:, :-1]) / 2 - np.diff(slopes, axis=1) / 12
        mass = np.zeros_like(density)
        np.cumsum(cells, axis=1, out=mass[:, 1:])
        total = mass[:, -1:].copy()
        return cls(mode - below, step, density / total, mass / total)

    def cell(self, number: Array) -> tuple[Array, Array, Array, Array]:
        """Mass and density at both ends of a cell of each unit."""
        rows = np.arange(len(number))
        ends = [part[rows, number + e] for part in (self.mass, self.density) for e in (0, 1)]
        return ends[0], ends[1], ends[2], ends[3]


def _mode(slope: int, degree: int, incoming: Array, outgoing: Array) -> tuple[Array, Array, Array]:
    """Find the mode, and A and B there, by halving about the balanced point."""
    log_a, log_b = np.log(incoming), np.log(outgoing)
    balanced = (math.log(degree) + log_b - log_a) / (2 + 2 * degree)
    log_m = log_a + 2 * balanced
    side = np.sign(slope)
    rate = 2.0 if slope > 0 else 2.0 * degree
    near = np.zeros_like(log_m)
    far = np.logaddexp(0.0, math.log(abs(slope)) - log_m) / rate if slope else near.copy()
    for _ in range(_HALVINGS if slope else 0):
        middle = (near + far) / 2
        up, down = np.exp(log_m + 2 * side * middle), np.exp(log_m - 2 * degree * side * middle)
        beyond = side * (slope - up + down) < 0
        far, near = np.where(beyond, middle, far), np.where(beyond, near, middle)
    offset = side * (near + far) / 2
    a, b = np.exp(log_m + 2 * offset), np.exp(log_m - 2 * degree * offset) / degree
    return balanced + offset, a, b


def _edge(a: Array, rate: float, b: Array, other_rate: float) -> Array:
    r"""Distance x > 0 at which the log-density has dropped by the set number of nats.

    That is :math:`\frac12 a \psi(r x) + \frac12 b \psi(-s x)` with ψ(y) = e^y - 1 - y. It is
    bounded by ψ(y) ≥ y²/2 and ψ(y) ≥ e^y/2 - 1 for y > 0, and by ψ(-y) ≥ y - 1.
    """
    with np.errstate(divide="ignore", over="ignore"):
        bounds = [
            np.sqrt(4 * _DROP / a) / rate,
            np.log(2 + 4 * _DROP / a) / rate,
            (1 + 2 * _DROP / b) / other_rate,
        ]
    far: Array = np.minimum.reduce(bounds)
    near = np.zeros_like(far)
    for _ in range(_HALVINGS // 2):
        x = (near + far) / 2
        up, down = np.expm1(rate * x) - rate * x, np.expm1(-other_rate * x) + other_rate * x
        beyond = 0.5 * (a * up + b * down) > _DROP
        far, near = np.where(beyond, x, far), np.where(beyond, near, x)
    return far


def _cubic(ends: tuple[Array, Array, Array, Array], x: Array) -> Array:
    """Cubic through the masses at both ends of a cell, with the densities as slopes."""
    low, high, slope_low, slope_high = ends
    y = 1 - x
    value: Array = y**2 * ((1 + 2 * x) * low + x * slope_low) + x**2 * (
        (1 + 2 * y) * high - y * slope_high
    )
    return value


def _cdf(law: _Law, at: Array) -> Array:
    """Probability of log-scales below `at`."""
    place = np.clip((at - law.first) / law.step, 0, _NODES - 1)
    number = np.minimum(place.astype(np.int64), _NODES - 2)
    value: Array = np.clip(_cubic(law.cell(number), place - number), 0.0, 1.0)
    return value


def _quantile(law: _Law, probability: Array) -> Array:
    """Log-scale below which the law has this probability."""
    number = (law.mass[:, 1:-1] <= probability[:, None]).sum(axis=1)
    ends = law.cell(number)
    near, far = np.zeros_like(probability), np.ones_like(probability)
    for _ in range(_HALVINGS):
        x = (near + far) / 2
        beyond = _cubic(ends, x) > probability
        far, near = np.where(beyond, x, far), np.where(beyond, near, x)
    value: Array = law.first + law.step * (number + (near + far) / 2)
    return value


# ---------------------------------------------------------------------- the weights of the draws


def scaled_units(resolved: ResolvedSpec) -> dict[str, int]:
    """Return the sets of units that have a scale, and their degree of homogeneity.

    Not those that nothing reads with a scale (before a BatchNorm): their law is another.
    """
    found = {}
    for units in resolved.sizes:
        group = resolved.group(units)
        action = group.action("tail")
        if group.gauges() and not group.rotates and action is not None and action.power:
            found[units] = -action.power
    return found


def _scaled_axes(
    variable: ResolvedVariable, scaled: Mapping[str, int]
) -> list[tuple[int, str, int]]:
    """Position, units and power of every axis that follows a scale as weights do."""
    return [
        (position, units, action.power)
        for position, units, action in variable.unit_axes()
        if units in scaled and variable.axes[position].follows_as_weights
    ]


def _weights(resolved: ResolvedSpec, units: str | None = None) -> list[ResolvedVariable]:
    """Variables that count as weights of scaled units, or of one set of them."""
    scaled = scaled_units(resolved)
    chosen = set(scaled) if units is None else {units}
    return [
        variable
        for variable in resolved.measured()
        if not variable.carried
        and any(name in chosen for _, name, _ in _scaled_axes(variable, scaled))
    ]


def without_prior(
    resolved: ResolvedSpec, priors: Priors | None, units: str | None = None
) -> tuple[str, ...]:
    """Return the weights of scaled units (or of one set) that `priors` does not name."""
    names = dict.fromkeys(v.name for v in _weights(resolved, units))
    return tuple(name for name in names if name not in (priors or {}))


def checked_priors(resolved: ResolvedSpec, priors: Any) -> dict[str, float | None]:
    """Check the priors that are given.

    Parameters
    ----------
    resolved : ResolvedSpec
    priors : mapping of str to float or None
        Variable -> standard deviation; None for a variable that has no prior of its own (computed
        from others) or, being a companion, does not concern the prior of the weights.

    Returns
    -------
    dict of str to float or None

    Raises
    ------
    SpecError
        For a standard deviation that is not a positive number, and for what the law does not
        cover: prior scales per unit, and units that one variable carries on two axes.
    """
    if not isinstance(priors, Mapping):
        raise SpecError(f"priors must be a mapping such as {{'W1': 1.0}}, not {priors!r}")
    for name, sd in priors.items():
        if sd is not None and (type(sd) is bool or not isinstance(sd, Real)):
            raise SpecError(
                f"priors: {name!r} must be the standard deviation of a normal prior, one number, "
                f"not {sd!r}; a prior scale of each unit, or one that is itself drawn, is not "
                "supported"
            )
        if sd is not None and not 0 < float(sd) < math.inf:
            raise SpecError(
                f"priors: the standard deviation of {name!r} must be a positive number, not {sd!r}"
            )
    _check_covered(resolved, priors)
    return {name: None if sd is None else float(sd) for name, sd in priors.items()}


def _check_covered(resolved: ResolvedSpec, priors: Priors) -> None:
    """Raise SpecError for what the law does not cover."""
    scaled = scaled_units(resolved)
    for variable in resolved.measured():
        if variable.carried:
            continue
        names = [name for _, name, _ in _scaled_axes(variable, scaled)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None and priors.get(variable.name, 1.0) is not None:
            raise SpecError(
                f"priors: {variable.name!r} carries the units {twice!r} on two axes; the law of "
                "the scale of recurrent units is not supported"
            )
        for axis in variable.axes:
            companion = axis.units in scaled and not axis.follows_as_weights
            if companion and priors.get(variable.name, 1.0) is not None:
                raise SpecError(
                    f"{variable.name!r} is a companion of the units {axis.units!r}: if it is a "
                    "prior scale of each unit, their law is another, which is not supported; if it "
                    f"is something else, say so by priors={{{variable.name!r}: None, ...}}"
                )


def precision_terms(
    arrays: Mapping[str, Array], resolved: ResolvedSpec, priors: Mapping[str, float | None]
) -> list[Term]:
    """Sum squared weights in prior units, over everything but scaled units.

    Companions (written with an exponent) and neutral axes do not count, as in the gauges.

    Parameters
    ----------
    arrays : mapping of str to ndarray of shape (draws, ...)
        Variables of the posterior.
    resolved : ResolvedSpec
    priors : mapping of str to float or None
        As :func:`checked_priors` returns them; variables that it does not name are left out. Every
        entry of a variable is taken for a free parameter.

    Returns
    -------
    list of Term
    """
    scaled = scaled_units(resolved)
    terms: dict[tuple[tuple[str, int], ...], Term] = {}
    for variable in _weights(resolved):
        sd = priors.get(variable.name)
        if sd is None:
            continue
        values = variable.of(arrays[variable.name]).astype(float) / sd
        found = _scaled_axes(variable, scaled)
        kept = [position + 1 for position, _, _ in found]
        summed = tuple(a for a in range(1, values.ndim) if a not in kept)
        squares: Array = (values**2).sum(axis=summed)
        key = tuple((units, power) for _, units, power in found)
        count = math.prod(variable.shape) // math.prod(squares.shape[1:])
        if key in terms:
            squares, count = terms[key].values + squares, terms[key].count + count
        terms[key] = Term(squares, key, count)
    return list(terms.values())


def scale_parameters(
    terms: list[Term], scales: Mapping[str, Array], units: str
) -> tuple[int, int, Array, Array]:
    """Return the parameters of the law of one set of units, given the scales of all.

    Parameters
    ----------
    terms : list of Term
    scales : mapping of str to ndarray of shape (draws, K)
        Scales that the weights are multiplied by first.
    units : str

    Returns
    -------
    n_in, n_out : int
    incoming, outgoing : ndarray of shape (draws, K)
    """
    counts = [0, 0]
    norms = [np.zeros_like(scales[units]), np.zeros_like(scales[units])]
    for term in terms:
        for position, (name, power) in enumerate(term.axes):
            if name == units:
                side, keep = int(power < 0), position + 1
                operands: list[Any] = [term.values, [*range(term.values.ndim)]]
                for axis, (other, exponent) in enumerate(term.axes, 1):
                    operands += [scales[other] ** (2 * exponent), [0, axis]]
                norms[side] += np.einsum(*operands, [0, keep])
                entries = math.prod(term.values.shape[1:]) // term.values.shape[keep]
                counts[side] += term.count * entries
    return counts[0], counts[1], norms[0], norms[1]


def enough_sweeps(terms: list[Term], *, tolerance: float = 1e-3) -> int:
    r"""How many Gibbs sweeps over sets of units draw all scales together.

    Sets that share no weights need one. For others the log-density is taken for a quadratic in
    the log-scales of whole sets, in which every weight counts the same, as it does under the prior.
    A sweep then multiplies the influence of the start by :math:`\rho^2`, with :math:`\rho` the
    largest eigenvalue of

    .. math:: J_{uv} = C_{uv} / \sqrt{D_u D_v}

    where :math:`C_{uv}` is the number of weights that the sets *u* and *v* share and :math:`D_u`
    of all weights of *u*, each times the powers of the scales that act on it. If weights are large
    against their prior, norms are balanced and :math:`\rho = \cos(\pi / (L + 1))` for L layers in
    a row; the larger of the two is used. The number that brings the influence below the tolerance
    is doubled, since single units differ from their set.

    Parameters
    ----------
    terms : list of Term
    tolerance : float, default 1e-3
        Share of the start that may remain. Of a few thousand draws no statistic shows so little.

    Returns
    -------
    int
        At least 10 for two layers, 20 for three; more where most weights lie between the layers:
        73 for the layers 10-64-64-1.
    """
    names = sorted({name for term in terms for name, _ in term.axes if len(term.axes) > 1})
    if not names:
        return 1
    shared = np.zeros((len(names), len(names)))
    for term in terms:
        n_weights = term.count * math.prod(term.values.shape[1:])
        for one, power in term.axes:
            for two, other in term.axes:
                if one in names and two in names:
                    shared[names.index(one), names.index(two)] += abs(power * other) * n_weights
    size = np.sqrt(np.diag(shared))
    coupling = shared / size / size[:, None] - np.eye(len(names))
    largest = max(np.linalg.eigvalsh(coupling)[-1], math.cos(math.pi / (len(names) + 1)))
    return math.ceil(math.log(tolerance) / math.log(largest))


# ---------------------------------------------------------------------- the check of the sampler


def scale_law(
    arrays: Mapping[str, Array],
    resolved: ResolvedSpec,
    priors: Priors | None,
    *,
    elements: Mapping[str, Element] | None = None,
    excluded: Array | None = None,
) -> dict[str, ScaleLaw]:
    r"""Test whether a sampler has explored the scales of homogeneous units.

    Given everything that the likelihood sees, the scale of each unit of a posterior draw follows
    the law of :func:`scale_cdf`, so its probability integral transform is uniform. Neither labels
    nor modes matter: all units are pooled. With :math:`F` their empirical distribution,

    .. math:: D = \sup_u |F(u) - u|, \qquad n_{eff} = K^2 / \sum_k 1 / n_k

    where :math:`n_k` is the smaller of the effective sample sizes of the transforms of slot *k*
    and of their distances from 1/2. Of more than 50 slots, that many are looked at. The p-value is
    that of Kolmogorov and Smirnov for :math:`n_{eff}` independent values. Where chains mix slowly
    it errs on the large side, because neighbouring values of F then depend on each other more than
    in independent samples.

    Parameters
    ----------
    arrays : mapping of str to ndarray of shape (chain, draw, ...)
        Variables of the posterior that carry units: of aligned draws, or as they were.
    resolved : ResolvedSpec
        The spec, bound to the draws.
    priors : mapping of str to float or None, optional
        Variable -> standard deviation of its normal prior with mean zero; None for one that has no
        prior of its own. Where a variable is not named the question stays open: see
        :attr:`ScaleLaw.missing`.
    elements : mapping of str to Monomial or Dense, optional
        The stored elements, if the draws are aligned: the scales that the draws had before are
        what is tested.
    excluded : ndarray of bool, shape (chain, draw), optional
        Draws to leave out.

    Returns
    -------
    dict of str to ScaleLaw
        For every set of units that has scales; empty if none has.

    Raises
    ------
    SpecError
        As :func:`checked_priors`.

    References
    ----------
    Cook, S. R., Gelman, A. & Rubin, D. B. (2006). Validation of software for Bayesian models using
    posterior quantiles. *Journal of Computational and Graphical Statistics* 15(3), 675-692.
    https://doi.org/10.1198/106186006X136976

    Examples
    --------
    Draws of the prior, as a sampler without data would return them, and the same with incoming
    weights twice as large and outgoing ones half as large:

    >>> import numpy as np, xarray as xr
    >>> from relabel import Spec
    >>> rng = np.random.default_rng(0)
    >>> arrays = {"W": rng.normal(size=(4, 250, 2, 3)), "V": rng.normal(size=(4, 250, 3))}
    >>> dims = {"W": ("chain", "draw", "x", "unit"), "V": ("chain", "draw", "unit")}
    >>> draws = xr.Dataset({name: (dims[name], values) for name, values in arrays.items()})
    >>> resolved = Spec({"h": "relu"}, {"W": "x -> h", "V": "h ->"}).bind(draws)
    >>> priors = {"W": 1.0, "V": 1.0}
    >>> scale_law(arrays, resolved, priors)["h"].p_value > 0.05
    True
    >>> moved = {"W": 2 * arrays["W"], "V": arrays["V"] / 2}
    >>> found = scale_law(moved, resolved, priors)["h"]
    >>> found.p_value < 1e-6, found.mean > 0.6
    (True, True)
    """
    known = {} if priors is None else checked_priors(resolved, priors)
    missing = {units: without_prior(resolved, known, units) for units in scaled_units(resolved)}
    result = {units: _open(units, missing=missing[units]) for units in missing}
    complete = [units for units in missing if not missing[units]]
    for units, transforms in _transforms(arrays, resolved, known, elements, complete).items():
        result[units] = _tested(units, transforms, excluded)
    return result


def _open(units: str, *, n_left: int = 0, missing: tuple[str, ...] = ()) -> ScaleLaw:
    """No answer."""
    nan = math.nan
    return ScaleLaw(units, nan, nan, nan, nan, 0, n_left, missing)


def _transforms(
    arrays: Mapping[str, Array],
    resolved: ResolvedSpec,
    priors: Mapping[str, float | None],
    elements: Mapping[str, Element] | None,
    complete: list[str],
) -> dict[str, Array]:
    """Probability integral transforms of the scales of some sets, (chain, draw, K)."""
    batch = next(iter(arrays.values())).shape[:2]
    n_draws, scaled = math.prod(batch), scaled_units(resolved)
    flat = {
        v.name: arrays[v.name].reshape(n_draws, *arrays[v.name].shape[2:])
        for v in _weights(resolved)
        if priors.get(v.name) is not None
    }
    terms = precision_terms(flat, resolved, priors)
    scales = {}
    for units in scaled:
        shape = (n_draws, resolved.sizes[units])
        own = np.ones(shape) if elements is None else 1 / np.abs(monomial(elements[units]).factor)
        scales[units] = own.reshape(shape)
    found = {}
    for units in complete:
        values = scale_cdf(*scale_parameters(terms, scales, units), degree=scaled[units])
        found[units] = values.reshape(*batch, -1)
    return found


def _tested(units: str, transforms: Array, excluded: Array | None) -> ScaleLaw:
    """Compare the transforms of one set of units with the uniform distribution."""
    kept = np.ones(transforms.shape[:2], bool) if excluded is None else ~excluded
    values = np.where(kept[..., None], transforms, np.nan)
    pooled = np.sort(values[np.isfinite(values)])
    n, n_left = len(pooled), int(kept.sum()) * transforms.shape[2] - len(pooled)
    if n == 0:
        return _open(units, n_left=n_left)
    steps = np.arange(n + 1) / n
    statistic = float(max((steps[1:] - pooled).max(), (pooled - steps[:-1]).max()))
    n_units = values.shape[2]
    slots = np.unique(np.linspace(0, n_units - 1, min(n_units, _SLOTS)).round().astype(int))
    sizes = np.array([_effective(values[..., slot]) for slot in slots])
    sizes = sizes[np.isfinite(sizes)]
    ess = float(n_units * len(sizes) / (1 / sizes).sum()) if len(sizes) else math.nan
    root = math.sqrt(ess)
    # Stephens (1970): the finite-sample correction of the limiting distribution
    p_value = float(kolmogorov((root + 0.12 + 0.11 / root) * statistic))
    return ScaleLaw(units, statistic, ess, p_value, float(pooled.mean()), n, n_left)


def _effective(values: Array) -> float:
    """Effective sample size of one slot's transforms and of their distances from 1/2."""
    both = np.stack([values, np.abs(values - 0.5)], axis=-1)
    return min(convergence([both]).ess, float(np.isfinite(values).sum()))
