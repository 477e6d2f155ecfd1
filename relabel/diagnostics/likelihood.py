"""The likelihood that tells how much a change of a network's outputs matters, in nats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import special, stats

from relabel.data.roles import TARGET_GROUPS, find_targets
from relabel.errors import SpecError
from relabel.models.network import Network
from relabel.spec.resolve import closest
from relabel.spec.spec import SAMPLE_DIMS

__all__ = [
    "FAMILIES",
    "Fitted",
    "Likelihood",
    "find_likelihood",
    "fitting_targets",
    "log_predictive",
]

Array = NDArray[Any]

FAMILIES = ("gaussian", "bernoulli", "categorical")
_NOISE = (
    "sigma",
    "noise",
    "sd",
    "noise_sd",
    "noise_scale",
    "sigma_obs",
    "obs_sigma",
    "obs_noise",
    "obs_sd",
    "sigma_y",
    "y_sigma",
    "sigma_noise",
)
_LOGS = ("log_sigma", "log_noise_sd", "log_sigma_obs", "log_sigma_noise")
_BLOCK = 2**25  # bytes of one temporary array


@dataclass(frozen=True)
class Likelihood:
    """What a user may say about the likelihood; the rest is looked for.

    Parameters
    ----------
    family : {"gaussian", "bernoulli", "categorical"}
        Of the targets given the network's outputs: these are the mean, the logit, or the logits
        of all classes.
    scale : float or str, optional
        For ``"gaussian"``: the standard deviation of the noise, or the posterior variable that
        holds it. Without it a variable is looked for, then the residuals are taken.
    targets : str, optional
        Address of the targets, such as ``"constant_data/y"``.

    Raises
    ------
    SpecError
        If the family is unknown, or the scale makes no sense.

    Examples
    --------
    >>> Likelihood("gaussian", scale="sigma")
    Likelihood(family='gaussian', scale='sigma', targets=None)
    """

    family: str
    scale: float | str | None = None
    targets: str | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without data."""
        if self.family not in FAMILIES:
            raise SpecError(
                f"likelihood: the family is one of {', '.join(FAMILIES)}, not {self.family!r}"
            )
        if self.scale is not None and self.family != "gaussian":
            raise SpecError(f"likelihood: scale is for gaussian noise; {self.family} has none")
        scale: object = self.scale
        if scale is None or isinstance(scale, str):
            return
        number = isinstance(scale, Real) and not isinstance(scale, bool)
        if not (number and 0 < float(self.scale or 0) < np.inf):
            raise SpecError(
                "likelihood: scale is a positive number or the name of a posterior variable, "
                f"not {self.scale!r}"
            )


@dataclass(frozen=True)
class Fitted:
    r"""A likelihood that is resolved for some draws.

    .. math:: \text{Gaussian: } \sum_i \frac{(f_i - g_i)^2}{2\sigma^2}, \qquad
        \text{else: } \sum_i \mathrm{KL}(p_{f_i} \,\|\, p_{g_i})

    Attributes
    ----------
    family : {"gaussian", "bernoulli", "categorical"}
    sd : ndarray of shape (draws, 1 or n_outputs), or None
        Noise of each draw; for ``"gaussian"`` only.
    weight : float
        How many inputs each of the points stands for.
    nats : bool
        False where no likelihood is known: the divergence is then half the squared ratio of the
        root mean square change to a stated share of the outputs' standard deviation.
    how : str
        A sentence on where all this comes from.

    Examples
    --------
    >>> import numpy as np
    >>> fitted = Fitted("gaussian", np.array([[0.5]]), how="given")
    >>> fitted.kl(np.zeros((1, 3, 1)), np.ones((1, 3, 1)))
    array([6.])
    """

    family: str
    sd: Array | None
    weight: float = 1.0
    nats: bool = True
    how: str = ""

    def __getitem__(self, rows: Any) -> Fitted:
        """Select draws."""
        return self if self.sd is None else replace(self, sd=self.sd[rows])

    def thinned(self, weight: float) -> Fitted:
        """Return the same likelihood where each point stands for `weight` times as many inputs."""
        return replace(self, weight=self.weight * weight)

    def kl(self, f: Array, g: Array) -> Array:
        """Divergence of the outputs *g* from *f*, summed over the inputs.

        Parameters
        ----------
        f, g : ndarray of shape (draws, n, n_outputs)
            Means or logits.

        Returns
        -------
        ndarray of shape (draws,)
            In nats.
        """
        if self.family == "gaussian":
            squares: Array = np.square((f - g) / self._sd).sum(axis=(1, 2))
            return 0.5 * self.weight * squares
        if self.family == "bernoulli":
            # log(1 + e^g) is convex, and the divergence is its Bregman distance
            terms = np.logaddexp(0, g) - np.logaddexp(0, f) - special.expit(f) * (g - f)
        else:
            level = special.logsumexp(g, axis=-1) - special.logsumexp(f, axis=-1)
            terms = level - (special.softmax(f, axis=-1) * (g - f)).sum(axis=-1)
        summed: Array = np.maximum(terms, 0.0).reshape(len(f), -1).sum(axis=1)
        return self.weight * summed

    def gradient(self, f: Array, g: Array) -> Array:
        """Gradient of :meth:`kl` by *g*, shape (draws, n, n_outputs)."""
        if self.family == "gaussian":
            pull: Array = self.weight * (g - f) / self._sd**2
            return pull
        link = special.expit if self.family == "bernoulli" else _softmax
        step: Array = self.weight * (link(g) - link(f))
        return step

    def root(self, f: Array) -> Array:
        """A square root R of the Fisher metric of one input's outputs, F = RᵀR.

        Parameters
        ----------
        f : ndarray of shape (draws, n, n_outputs)

        Returns
        -------
        ndarray of shape (draws, n or 1, n_outputs, n_outputs)
            One for all inputs where the metric does not depend on *f*.
        """
        root: Array
        eye = np.eye(f.shape[-1])
        if self.family == "gaussian":
            root = np.sqrt(self.weight) / self._sd[:, :, :, None] * eye
        elif self.family == "bernoulli":
            p = special.expit(f)
            root = np.sqrt(self.weight * p * (1 - p))[..., None] * eye
        else:
            p = _softmax(f)
            root = np.sqrt(self.weight * p)[..., None] * (eye - p[..., None, :])
        return root

    def limit(self, n_parameters: Any, level: float = 0.95) -> Array:
        r"""Divergence below which parameters are not worth having.

        Parameters
        ----------
        n_parameters : int or ndarray of int
            How many parameters are saved.
        level : float, default 0.95
            What is lost by doing without parameters that mean nothing is about
            :math:`\tfrac12\chi^2_p` (Wilks); its quantile at the customary level.

        Returns
        -------
        ndarray
            :math:`\tfrac12\chi^2_{level, p}`; without a likelihood 1/2, whatever *p*.
        """
        p = np.asarray(n_parameters)
        if not self.nats:
            return np.full(p.shape, 0.5)
        return np.where(p > 0, 0.5 * stats.chi2.ppf(level, np.maximum(p, 1)), 0.0)

    @property
    def _sd(self) -> Array:
        if self.sd is None:
            raise SpecError("likelihood: gaussian noise without a standard deviation")
        return self.sd[:, None, :]


def _softmax(z: Array) -> Array:
    p: Array = special.softmax(z, axis=-1)
    return p


def find_likelihood(
    groups: Mapping[str, xr.Dataset],
    wanted: Likelihood | str | None,
    network: Network,
    arrays: Mapping[str, Array],
    inputs: Array,
    *,
    rows: Array | None = None,
    relative: float = 0.01,
    agreement: float = 3.0,
    targets: Array | str | None = None,
) -> Fitted:
    r"""Find the likelihood of a network's targets.

    Without a wish, targets are looked for in constant_data and observed_data (``y``, ``target``,
    ...; with as many rows as there are inputs). Values 0 and 1 with one output, and no noise
    variable, are Bernoulli with the output as logit; whole numbers 0 ... C - 1 (or C columns, one
    of them 1) with C outputs are categorical with the outputs as logits; floating-point values are
    Gaussian with the output as mean. The noise of a draw is the posterior variable named
    ``sigma``, ``noise``, ...; without one it is the root mean square of the draw's own residuals.

    Parameters
    ----------
    groups : mapping of str to Dataset
        All groups of the data.
    wanted : Likelihood, str or None
        A family's name stands for that family with everything else looked for.
    network : Network
    arrays : mapping of str to ndarray of shape (draws, ...)
        The variables of the draws that take part.
    inputs : ndarray of shape (n, n_inputs)
        All inputs, row by row those of the targets.
    rows : ndarray of int, optional
        Flat positions (chain, then draw) of the draws that take part; all by default.
    relative : float, default 0.01
        Where no likelihood is known: the share of the outputs' standard deviation that a change
        must reach. One per cent is one part in 10 000 of their variance, so only what is all but
        exactly redundant counts; nothing finer can be claimed without knowing the noise.
    agreement : float, default 3
        A variable that was taken for the noise by its name must be within this factor of the
        residuals' root mean square (medians), where targets are known; a prior's scale, a variance
        or a precision is seldom that near by chance.
    targets : ndarray or str, optional
        The targets, or their address; they go before those that `wanted` names.

    Returns
    -------
    Fitted
        With the noise of each draw that takes part.

    Raises
    ------
    SpecError
        If what was asked for is not there, or does not fit the outputs.

    References
    ----------
    Wilks, S. S. (1938). The large-sample distribution of the likelihood ratio for testing
    composite hypotheses. *Annals of Mathematical Statistics* 9(1), 60-62.
    https://doi.org/10.1214/aoms/1177732360

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from relabel.spec.spec import Spec
    >>> sample = ("chain", "draw")
    >>> draws = xr.Dataset({"W": ((*sample, "x", "h"), np.ones((1, 2, 1, 3))),
    ...                     "V": ((*sample, "h", "y"), np.ones((1, 2, 3, 1))),
    ...                     "sigma": (sample, [[0.1, 0.2]])})
    >>> spec = Spec({"h": "relu"}, {"W": "x -> h", "V": "h -> y"})
    >>> arrays = {name: draws[name].values[0] for name in ("W", "V")}
    >>> network = Network.of(spec.bind(draws))
    >>> find_likelihood({"posterior": draws}, None, network, arrays, np.ones((4, 1))).how
    "Gaussian noise: posterior variable 'sigma'."
    """
    asked = Likelihood(wanted) if isinstance(wanted, str) else wanted
    if asked is not None and not isinstance(asked, Likelihood):
        raise SpecError(
            f"likelihood is a relabel.Likelihood, one of {', '.join(FAMILIES)} or None, "
            f"not a {type(asked).__name__}"
        )
    search = _Search(groups, network, arrays, np.asarray(inputs, dtype=float), rows, targets)
    family, known, where = search.family(asked)
    if family is None:
        return search.relative(relative)
    if family != "gaussian":
        outputs = "the output is the logit" if family == "bernoulli" else "outputs are the logits"
        return Fitted(family, None, how=f"{family.capitalize()}{_of(where)}; {outputs}.")
    return search.gaussian(asked.scale if asked else None, known, where, relative, agreement)


def fitting_targets(family: str, targets: Array, n: int, n_outputs: int, where: str) -> Array:
    """Return targets laid out for a family; refuse those that do not fit it and the outputs.

    Parameters
    ----------
    family : {"gaussian", "bernoulli", "categorical"}
    targets : ndarray
        One row for each input; codes or one-hot columns where the family is categorical.
    n, n_outputs : int
        Number of inputs, and of the network's outputs at each.
    where : str
        Where the targets are from, for the message.

    Returns
    -------
    ndarray of shape (n, n_outputs), or of int and shape (n,) for codes

    Raises
    ------
    SpecError
    """
    shown = f"likelihood: targets {where} of shape {targets.shape}"
    if family == "categorical":
        codes = _codes(targets, n_outputs) if len(targets) == n else None
        if codes is None:
            raise SpecError(
                f"{shown} are not categorical: with {n_outputs} outputs (logits), whole "
                f"numbers 0 ... {n_outputs - 1} are needed, one for each of {n} inputs"
            )
        return codes
    if targets.size != n * n_outputs:
        raise SpecError(
            f"{shown} do not fit the network's {n_outputs} outputs at {n} inputs; "
            f"({n}, {n_outputs}) is needed"
        )
    if family == "bernoulli" and (n_outputs != 1 or not np.isin(targets, [0, 1]).all()):
        raise SpecError(
            f"{shown} are not Bernoulli: values 0 and 1 and one output, the logit, are needed "
            f"(there are {n_outputs} outputs, values from {targets.min()} to {targets.max()})"
        )
    return targets.reshape(n, n_outputs).astype(float)


def log_predictive(family: str, outputs: Array, targets: Array, sd: Array | None = None) -> Array:
    """Log density of the targets given the outputs of each draw, shape (draws, n).

    Parameters
    ----------
    family : {"gaussian", "bernoulli", "categorical"}
    outputs : ndarray of shape (draws, n, n_outputs)
        Means or logits.
    targets : ndarray
        As :func:`fitting_targets` returns them.
    sd : ndarray of shape (draws or 1, 1 or n_outputs), optional
        Noise, where the family is Gaussian.

    Examples
    --------
    >>> import numpy as np
    >>> log_predictive("bernoulli", np.zeros((1, 2, 1)), np.array([[0.0], [1.0]])).round(3)
    array([[-0.693, -0.693]])
    """
    if family == "gaussian":
        assert sd is not None
        density: Array = stats.norm.logpdf(targets, outputs, sd[:, None, :]).sum(axis=-1)
        return density
    if family == "bernoulli":
        return np.asarray((targets * outputs - np.logaddexp(0, outputs))[..., 0])
    level = special.logsumexp(outputs, axis=-1)
    return np.asarray(outputs[:, np.arange(len(targets)), targets] - level)


def _of(where: str | None) -> str:
    return f" targets ({where})" if where else " targets"


@dataclass(frozen=True)
class _Search:
    """The data in which a likelihood is looked for."""

    groups: Mapping[str, xr.Dataset]
    network: Network
    arrays: Mapping[str, Array]
    inputs: Array
    rows: Array | None
    given: Array | str | None = None

    # ------------------------------------------------------------------ outputs

    @property
    def n_draws(self) -> int:
        return len(next(iter(self.arrays.values())))

    @property
    def n_outputs(self) -> int:
        first = {name: values[:1] for name, values in self.arrays.items()}
        done = self.network.forward(first, self.inputs[:1])
        return int(self.network.joined_outputs(done).shape[-1])

    def outputs(self) -> Iterator[Array]:
        """Outputs of all draws, block by block, shape (draws, n, n_outputs)."""
        first = {name: values[:1] for name, values in self.arrays.items()}
        done = self.network.forward(first, self.inputs[:1])
        width = sum(values.shape[-1] for values in done.sums.values())
        size = max(1, _BLOCK // (8 * len(self.inputs) * width))
        for start in range(0, self.n_draws, size):
            part = {name: v[start : start + size] for name, v in self.arrays.items()}
            yield self.network.joined_outputs(self.network.forward(part, self.inputs))

    # ------------------------------------------------------------------ family and targets

    def family(self, asked: Likelihood | None) -> tuple[str | None, Array | None, str | None]:
        """Which family, with the targets and their address."""
        targets, where = self.targets(asked)
        if asked is not None:
            if targets is not None:
                targets = self._checked(asked.family, targets, str(where))
            elif asked.family == "bernoulli" and self.n_outputs != 1:
                raise SpecError(
                    f"likelihood: bernoulli needs one output, the logit; there are {self.n_outputs}"
                )
            return asked.family, targets, where
        if targets is None:
            return ("gaussian" if self.noise_names() else None), None, None
        family = self._guess(targets)
        if family is None and self.given is not None:
            raise SpecError(
                f"likelihood: targets of the shape {targets.shape} and dtype {targets.dtype} do "
                f"not tell a family for {self.n_outputs} outputs; name one of {', '.join(FAMILIES)}"
            )
        if family is None:
            return ("gaussian" if self.noise_names() else None), None, None
        return family, self._checked(family, targets, str(where)), where

    def targets(self, asked: Likelihood | None) -> tuple[Array | None, str | None]:
        """Targets as named, or as found if only one variable fits."""
        named = asked.targets if self.given is None and asked is not None else self.given
        if isinstance(named, str):
            return self._named_targets(named), named
        if named is not None:
            return self._allowed(np.asarray(named), "given"), "given"
        known = find_targets(self.groups, len(self.inputs))
        found = [address for address in known if self._fits(self._at(address))]
        if not found:
            return None, None
        different = [a for a in found if not np.array_equal(self._at(a), self._at(found[0]))]
        if different:
            return None, None
        return self._at(found[0]), found[0]

    def _at(self, address: str) -> Array:
        group, _, name = address.rpartition("/")
        values: Array = self.groups[group][name].values
        return values

    def _fits(self, values: Array) -> bool:
        """Whether values may be targets: numbers, one row for each input."""
        return (
            values.dtype.kind in "fiub"
            and values.ndim in (1, 2)
            and len(values) == len(self.inputs)
            and bool(np.isfinite(values).all())
        )

    def _named_targets(self, address: str) -> Array:
        group, _, name = address.rpartition("/")
        if group not in self.groups or name not in self.groups[group]:
            known = [f"{g}/{n}" for g in TARGET_GROUPS for n in self.groups.get(g, ())]
            raise SpecError(
                f"likelihood: there is no variable {address!r}{closest(address, known)}; name the "
                "targets as group/name"
            )
        return self._allowed(self._at(address), address)

    def _allowed(self, values: Array, where: str) -> Array:
        if not self._fits(values):
            raise SpecError(
                f"likelihood: targets {where} have the shape {values.shape} and dtype "
                f"{values.dtype}; there are {len(self.inputs)} inputs, so finite numbers of the "
                f"shape ({len(self.inputs)},) or ({len(self.inputs)}, {self.n_outputs}) are needed"
            )
        return values

    def _guess(self, targets: Array) -> str | None:
        """Family of targets that nobody named."""
        values, n_outputs = np.unique(targets), self.n_outputs
        single = targets.ndim == 1 or targets.shape[1] == 1
        if n_outputs == 1 and single and np.array_equal(values, [0, 1]):
            return "gaussian" if self.noise_names() else "bernoulli"
        if n_outputs > 1 and (_codes(targets, n_outputs) is not None):
            return "categorical"
        fits = targets.size == len(self.inputs) * n_outputs
        return "gaussian" if targets.dtype.kind == "f" and fits else None

    def _checked(self, family: str, targets: Array, where: str) -> Array:
        """Refuse targets that do not fit the family and the outputs."""
        return fitting_targets(family, targets, len(self.inputs), self.n_outputs, where)

    # ------------------------------------------------------------------ noise

    def noise_names(self) -> list[str]:
        """Variables of the posterior that are named like the noise and have one value a draw."""
        posterior = self.groups["posterior"]
        found = []
        for name in map(str, posterior.data_vars):
            named = name.lower() in _NOISE or name.lower() in _LOGS
            if not named or not self._noise_shape(posterior[name]):
                continue
            if name.lower() in _LOGS or (self.noise(name) > 0).all():
                found.append(name)
        return found

    def _noise_shape(self, values: xr.DataArray) -> bool:
        """One value a draw, or one for each output."""
        sizes = [values.sizes[d] for d in values.dims if d not in SAMPLE_DIMS]
        return (
            set(SAMPLE_DIMS) <= set(values.dims)
            and values.dtype.kind == "f"
            and int(np.prod(sizes)) in (1, self.n_outputs)
        )

    def noise(self, name: str) -> Array:
        """Noise of the draws that take part, shape (draws, 1 or n_outputs)."""
        values = self.groups["posterior"][name].transpose(*SAMPLE_DIMS, ...).values
        flat = values.reshape(values.shape[0] * values.shape[1], -1).astype(float)
        flat = flat if self.rows is None else flat[self.rows]
        return np.exp(flat) if name.lower() in _LOGS else flat

    def gaussian(
        self,
        scale: float | str | None,
        targets: Array | None,
        where: str | None,
        relative: float,
        agreement: float,
    ) -> Fitted:
        """Gaussian noise: as given, as named, as found, or from the residuals."""
        if isinstance(scale, str):
            sd, said = self._named_noise(scale), f"posterior variable {scale!r}"
            return Fitted("gaussian", sd, how=f"Gaussian noise: {said}.")
        if scale is not None:
            sd = np.full((self.n_draws, 1), float(scale))
            return Fitted("gaussian", sd, how=f"Gaussian noise: sd {scale:g}, as given.")
        names = self.noise_names()
        residual = None if targets is None else self._residual(targets)
        note = ""
        if len(names) == 1:
            sd = self.noise(names[0])
            ratio = 1.0 if residual is None else float(np.median(sd) / np.median(residual))
            if 1 / agreement <= ratio <= agreement:
                return Fitted(
                    "gaussian", sd, how=f"Gaussian noise: posterior variable {names[0]!r}."
                )
            note = f" (variable {names[0]!r} is {ratio:.2g} times that, so it was not used)"
        elif names:
            note = f" (which of {', '.join(names)} is the noise is not clear)"
        if residual is None:
            return self.relative(relative)
        return Fitted(
            "gaussian",
            residual,
            how=f"Gaussian noise: no variable holds it, so it is the root mean square residual of "
            f"each draw at the targets ({where}), median {np.median(residual):.3g}{note}.",
        )

    def _named_noise(self, name: str) -> Array:
        """Noise from the variable that the user named."""
        posterior = self.groups["posterior"]
        if name not in posterior:
            raise SpecError(
                f"likelihood: the posterior has no variable {name!r}"
                f"{closest(name, [str(v) for v in posterior.data_vars])}; scale is a positive "
                "number or the variable that holds the standard deviation of the noise"
            )
        if not self._noise_shape(posterior[name]):
            raise SpecError(
                f"likelihood: scale {name!r} has the dimensions "
                f"{dict(posterior[name].sizes)} and dtype {posterior[name].dtype}; one positive "
                f"number a draw is needed, or one for each of {self.n_outputs} outputs"
            )
        sd = self.noise(name)
        if not (np.isfinite(sd).all() and (sd > 0).all()):
            raise SpecError(
                f"likelihood: scale {name!r} must be positive in every draw; it goes down to "
                f"{np.nanmin(sd):.3g}. Is it a logarithm? Store its exponential, or give a number"
            )
        return sd

    def _residual(self, targets: Array) -> Array:
        """Root mean square residual of each draw, one for all outputs, shape (draws, 1)."""
        squares = [np.square(f - targets).mean(axis=(1, 2)) for f in self.outputs()]
        tiny = np.finfo(float).tiny
        residual: Array = np.sqrt(np.maximum(np.concatenate(squares), tiny))[:, None]
        return residual

    def relative(self, relative: float) -> Fitted:
        """No likelihood: a change counts relative to the spread of the outputs."""
        if not relative > 0:
            raise SpecError(f"likelihood: relative must be positive, not {relative!r}")
        spread = np.concatenate([f.std(axis=1) for f in self.outputs()])
        pooled = np.sqrt(np.square(spread).mean(axis=0))
        floor = np.where(pooled > 0, pooled, 1.0)
        n_terms = len(self.inputs) * spread.shape[1]
        sd = np.broadcast_to(relative * floor * np.sqrt(n_terms), spread.shape)
        return Fitted(
            "gaussian",
            sd,
            nats=False,
            how=f"No likelihood is known: a change counts where it moves the outputs by more than "
            f"{100 * relative:g} % of their standard deviation (root mean square); losses are half "
            "the squared ratio, not nats.",
        )


def _codes(targets: Array, n_outputs: int) -> Array | None:
    """Class of each row, from codes or one-hot columns; None if they are neither."""
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if targets.ndim == 2:
        hot = np.isin(targets, [0, 1]).all() and (targets.sum(axis=1) == 1).all()
        return targets.argmax(axis=1) if hot and targets.shape[1] == n_outputs else None
    whole = (targets == np.round(targets)).all()
    fits = whole and targets.min() >= 0 and targets.max() <= n_outputs - 1
    codes: Array = targets.astype(int)
    return codes if fits else None
