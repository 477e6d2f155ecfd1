"""The protocol of a likelihood family, and what a family may read of the draws."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from relabel.errors import SpecError
from relabel.spec.spec import SAMPLE_DIMS

__all__ = ["Evidence", "Family", "Parameters", "Variables", "laid_out"]

Array = NDArray[Any]

#: What a likelihood takes beside the outputs (a noise scale), by name; draws come first.
Parameters = Mapping[str, Array]


@dataclass(frozen=True)
class Variables:
    """The posterior's variables in some draws.

    Attributes
    ----------
    posterior : Dataset
    rows : ndarray of int, shape (draws,)
        Flat positions (chain, then draw) of the draws.
    n_outputs : int or None
        Number of outputs of the network; None where it is not known yet.
    """

    posterior: xr.Dataset
    rows: Array
    n_outputs: int | None = None

    def per_draw(self, names: Collection[str]) -> list[str]:
        """Return the variables of these names (in any case) that :meth:`fits` accepts."""
        every = map(str, self.posterior.data_vars)
        return [name for name in every if name.lower() in names and self.fits(name)]

    def fits(self, name: str) -> bool:
        """Whether a variable holds one floating-point number a draw, or one for each output."""
        values = self.posterior[name]
        size = int(np.prod([values.sizes[d] for d in values.dims if d not in SAMPLE_DIMS]))
        return (
            set(SAMPLE_DIMS) <= set(values.dims)
            and values.dtype.kind == "f"
            and (size == 1 or self.n_outputs in (None, size))
        )

    def values(self, name: str) -> Array:
        """Return the values of a variable, float64 of shape (draws, size)."""
        values = self.posterior[name].transpose(*SAMPLE_DIMS, ...).values
        return values.reshape(values.shape[0] * values.shape[1], -1).astype(float)[self.rows]


@dataclass(frozen=True)
class Evidence:
    """What the parameters of a likelihood are found from.

    Attributes
    ----------
    variables : Variables
        Of the draws that take part.
    outputs : callable
        Returns an iterator over the outputs of all draws, block by block, each of shape
        (draws, n, n_outputs).
    n_inputs : int
        Number of inputs, *n*.
    targets : ndarray or None
        As :meth:`Family.check` returned them; None where they are not known.
    where : str or None
        Where the targets are from.
    """

    variables: Variables
    outputs: Callable[[], Iterator[Array]]
    n_inputs: int
    targets: Array | None = None
    where: str | None = None

    @property
    def n_draws(self) -> int:
        """Number of draws."""
        return len(self.variables.rows)


@dataclass(frozen=True)
class Family(ABC):
    r"""A likelihood family: the law of the targets, given a network's outputs.

    A family is one class. It may be a frozen dataclass; its fields are its options, and every
    field has a default. A family of another package is a subclass with an entry point in the group
    ``relabel.likelihoods``; its name works wherever a likelihood is named.

    Outputs have the shape (draws, n, n_outputs), for n inputs. Parameters that a draw holds beside
    the network (a noise scale) come as a mapping from names to arrays, draws first.

    :meth:`log_density` and :meth:`predict` must be given. :meth:`kl`, :meth:`gradient` and
    :meth:`root` belong together: networks without one of their units are refitted by Fisher
    scoring, which needs all three. Under a family that lacks them the questions about removal
    losses, widths and duplicated units stay open, and everything else works.

    Attributes
    ----------
    name : str
        As in ``Likelihood("normal")`` and ``--likelihood normal``.
    outputs_are : str
        What the outputs stand for, for reports, as in ``"the output is the logit"``.
    quadratic : bool
        Whether :meth:`kl` is a sum of squares of changes of the outputs. Refits of weights that
        the outputs read are then exact.
    shift_invariant : bool
        Whether the density stays as it is when one number is added to all outputs (a softmax).
    nats : bool
        Whether divergences are in nats.

    Examples
    --------
    Targets of an exponential law whose logarithmic rate is the output:

    >>> class Exponential(Family):
    ...     name = "exponential"
    ...     outputs_are = "outputs are the log rates"
    ...     def log_density(self, outputs, targets, parameters):
    ...         return (outputs - np.exp(outputs) * targets).sum(axis=-1)
    ...     def predict(self, outputs, parameters):
    ...         return np.exp(-outputs)
    >>> Exponential().log_density(np.zeros((1, 2, 1)), np.array([[1.0], [2.0]]), {})
    array([[-1., -2.]])
    >>> print(Exponential().why_no_refits)
    the family exponential has no divergence with gradient and Fisher root
    """

    name: ClassVar[str]
    outputs_are: ClassVar[str]
    quadratic: ClassVar[bool] = False
    shift_invariant: ClassVar[bool] = False
    nats: ClassVar[bool] = True

    def __str__(self) -> str:
        """Return the name."""
        return self.name

    # ------------------------------------------------------------------ targets

    def guess(self, targets: Array | None, variables: Variables) -> bool:
        """Whether targets that nobody described could be of this family.

        Families are asked in the order of the registry, those of other packages last, and the
        first that agrees is taken.

        Parameters
        ----------
        targets : ndarray or None
            Finite numbers, of shape (n,) or (n, columns); None where there are none.
        variables : Variables
            What the draws hold, with the number of outputs.
        """
        return False

    def check_outputs(self, n_outputs: int) -> None:  # noqa: B027  (most take any number)
        """Raise SpecError unless networks with so many outputs can have this likelihood."""

    def check(self, targets: Array, n: int, n_outputs: int, where: str) -> Array:
        """Return targets as the densities take them.

        Parameters
        ----------
        targets : ndarray
            Finite numbers, one row for each input.
        n, n_outputs : int
            Number of inputs, and of the network's outputs at each.
        where : str
            Where the targets are from, for the message.

        Returns
        -------
        ndarray
            By default float64 of shape (n, n_outputs).

        Raises
        ------
        SpecError
            If shapes or values do not fit.
        """
        return laid_out(targets, n, n_outputs, where)

    # ------------------------------------------------------------------ parameters

    def given(self, variables: Variables) -> Parameters:
        """Return the parameters of some draws that the options determine.

        Raises
        ------
        SpecError
            If they do not, or name a variable that is missing or does not fit.
        """
        return {}

    def find(self, evidence: Evidence) -> tuple[Parameters, str] | None:
        """Return the parameters of the draws, and a sentence on how they were found.

        None where they cannot be found. Options go before everything else.

        Raises
        ------
        SpecError
            As :meth:`given`.
        """
        where = f" ({evidence.where})" if evidence.where else ""
        sentence = f"{self.name.capitalize()} targets{where}; {self.outputs_are}."
        return self.given(evidence.variables), sentence

    # ------------------------------------------------------------------ densities

    @abstractmethod
    def log_density(self, outputs: Array, targets: Array, parameters: Parameters) -> Array:
        """Log density of the targets under each draw.

        Parameters
        ----------
        outputs : ndarray of shape (draws, n, n_outputs)
        targets : ndarray
            As :meth:`check` returns them.
        parameters : mapping of str to ndarray

        Returns
        -------
        ndarray of shape (draws, n)
            The log predictive density of an ensemble is the log of its mean over the draws.
        """

    @abstractmethod
    def predict(self, outputs: Array, parameters: Parameters) -> Array:
        """Expected targets, shape (draws, n, n_outputs); of classes, their probabilities."""

    # ------------------------------------------------------------------ refits

    def kl(self, f: Array, g: Array, parameters: Parameters, weight: float = 1.0) -> Array:
        r"""Divergence of the outputs *g* from *f*.

        .. math:: w \sum_i \mathrm{KL}(p_{f_i} \,\|\, p_{g_i})

        Parameters
        ----------
        f, g : ndarray of shape (draws, n, n_outputs)
        parameters : mapping of str to ndarray
        weight : float, default 1
            How many observations each input stands for, *w*.

        Returns
        -------
        ndarray of shape (draws,)
        """
        raise NotImplementedError(self.why_no_refits)

    def gradient(self, f: Array, g: Array, parameters: Parameters, weight: float = 1.0) -> Array:
        """Gradient of :meth:`kl` by *g*, shape (draws, n, n_outputs)."""
        raise NotImplementedError(self.why_no_refits)

    def root(self, f: Array, parameters: Parameters, weight: float = 1.0) -> Array:
        r"""A square root *R* of the Fisher metric of one input's outputs, :math:`F = R^\top R`.

        *F* is the second derivative of :meth:`kl` by *g* where g = f.

        Returns
        -------
        ndarray of shape (draws, n or 1, n_outputs, n_outputs)
            One for all inputs where the metric does not depend on *f*.
        """
        raise NotImplementedError(self.why_no_refits)

    @property
    def why_no_refits(self) -> str | None:
        """Why networks without a unit cannot be refitted; None where they can."""
        parts = ("kl", "gradient", "root")
        if all(getattr(type(self), part) is not getattr(Family, part) for part in parts):
            return None
        return f"the family {self.name} has no divergence with gradient and Fisher root"

    def limit(self, n_parameters: Any, level: float = 0.95) -> Array:
        r"""Divergence below which parameters are not needed.

        Parameters
        ----------
        n_parameters : int or ndarray of int
            How many parameters are saved, *p*.
        level : float, default 0.95
            Without parameters that mean nothing about :math:`\tfrac12\chi^2_p` is lost (Wilks);
            the customary level of its quantile.

        Returns
        -------
        ndarray
            :math:`\tfrac12\chi^2_{level, p}`.
        """
        p = np.asarray(n_parameters)
        return np.where(p > 0, 0.5 * stats.chi2.ppf(level, np.maximum(p, 1)), 0.0)


def laid_out(targets: Array, n: int, n_outputs: int, where: str) -> Array:
    """Return targets as float64 of shape (n, n_outputs).

    Raises
    ------
    SpecError
        If their number is another.
    """
    if targets.size != n * n_outputs:
        raise SpecError(
            f"likelihood: targets {where} of shape {targets.shape} do not fit the network's "
            f"{n_outputs} outputs at {n} inputs; the shape must be ({n}, {n_outputs})"
        )
    return targets.reshape(n, n_outputs).astype(float)
