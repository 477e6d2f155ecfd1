"""Normal noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel._util.validate import real
from relabel.diagnostics.likelihood.base import Evidence, Parameters, Variables
from relabel.diagnostics.likelihood.noise import named_noise, noise_names, noise_of
from relabel.diagnostics.likelihood.squares import Squares
from relabel.errors import SpecError

__all__ = ["Normal"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Normal(Squares):
    r"""Normal noise about the outputs.

    .. math:: y_i \sim N(f_i, \sigma^2), \qquad \mathrm{KL} = \sum_i (f_i - g_i)^2 / (2\sigma^2)

    Parameters
    ----------
    scale : float or str, optional
        The standard deviation, or the posterior variable that holds it: one number a draw, or one
        for each output. By default the posterior variable named ``sigma``, ``noise``, ...; without
        one the root mean square of each draw's own residuals.
    agreement : float, default 3
        A variable that was taken for the noise by its name must be within this factor of the
        residuals' root mean square (medians), where targets are known. The scale of a prior, a
        variance or a precision is seldom that near by chance.

    Raises
    ------
    SpecError
        If an option is not as described.

    Examples
    --------
    >>> parameters = {"scale": np.array([[0.5]])}
    >>> Normal().kl(np.zeros((1, 3, 1)), np.ones((1, 3, 1)), parameters)
    array([6.])
    """

    scale: float | str | None = None
    agreement: float = 3.0

    name = "normal"

    def __post_init__(self) -> None:
        """Check the options."""
        if self.scale is not None and not isinstance(self.scale, str):
            argument = "likelihood: scale, unless it names a posterior variable,"
            real(argument, self.scale, 0, open_ends=True)
        real("likelihood: agreement", self.agreement, 1)

    def guess(self, targets: Array | None, variables: Variables) -> bool:
        """Whether targets are floating-point numbers, or a variable for the noise is there.

        Targets 0 and 1 are normal if there is such a variable. Others that are no floating-point
        numbers are not.
        """
        if targets is None:
            return bool(noise_names(variables))
        if targets.size != len(targets) * (variables.n_outputs or 1):
            return False
        binary = variables.n_outputs == 1 and np.array_equal(np.unique(targets), [0, 1])
        return bool(noise_names(variables)) if binary else targets.dtype.kind == "f"

    def given(self, variables: Variables) -> Parameters:
        """Return the scale that the option gives or names."""
        if self.scale is None:
            raise SpecError(
                "likelihood: normal noise needs a standard deviation, as in "
                "relabel.Likelihood('normal', scale='sigma') or scale=0.1"
            )
        if isinstance(self.scale, str):
            return {"scale": named_noise(variables, self.scale)}
        return {"scale": np.full((len(variables.rows), 1), float(self.scale))}

    def find(self, evidence: Evidence) -> tuple[Parameters, str] | None:
        """Return the scale: as given, as named, as found by its name, or from the residuals."""
        variables = evidence.variables
        if self.scale is not None:
            named = isinstance(self.scale, str)
            how = f"posterior variable {self.scale!r}" if named else f"sd {self.scale:g}, as given"
            return self.given(variables), f"Normal noise: {how}."
        names, residual, note = noise_names(variables), _residual(evidence), ""
        if len(names) == 1:
            sd = noise_of(variables, names[0])
            ratio = 1.0 if residual is None else float(np.median(sd) / np.median(residual))
            if 1 / self.agreement <= ratio <= self.agreement:
                return {"scale": sd}, f"Normal noise: posterior variable {names[0]!r}."
            note = f" (variable {names[0]!r} is {ratio:.2g} times that, so it was not used)"
        elif names:
            note = f" (which of {', '.join(names)} is the noise is not clear)"
        if residual is None:
            return None
        return {"scale": residual}, (
            "Normal noise: no variable holds it, so it is the root mean square residual of each "
            f"draw at the targets ({evidence.where}), median {np.median(residual):.3g}{note}."
        )


def _residual(evidence: Evidence) -> Array | None:
    """Return the root mean square residual of each draw, one for all outputs, shape (draws, 1)."""
    if evidence.targets is None:
        return None
    squares = [np.square(f - evidence.targets).mean(axis=(1, 2)) for f in evidence.outputs()]
    tiny = np.finfo(float).tiny
    residual: Array = np.sqrt(np.maximum(np.concatenate(squares), tiny))[:, None]
    return residual
