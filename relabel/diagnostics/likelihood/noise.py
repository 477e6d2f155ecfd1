"""The posterior variable that holds the standard deviation of the noise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel.diagnostics.likelihood.base import Variables
from relabel.errors import SpecError
from relabel.spec.resolve import closest

__all__ = ["named_noise", "noise_names", "noise_of"]

Array = NDArray[Any]

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


def noise_names(variables: Variables) -> list[str]:
    """Return the variables that are named like the noise and could be it.

    They hold one number a draw or one for each output, and it is positive unless the name says
    that it is a logarithm.
    """
    return [
        name
        for name in variables.per_draw((*_NOISE, *_LOGS))
        if name.lower() in _LOGS or (variables.values(name) > 0).all()
    ]


def noise_of(variables: Variables, name: str) -> Array:
    """Return the noise of the draws, shape (draws, 1 or n_outputs)."""
    values = variables.values(name)
    return np.exp(values) if name.lower() in _LOGS else values


def named_noise(variables: Variables, name: str) -> Array:
    """Return the noise of the draws from the variable that the user named.

    Raises
    ------
    SpecError
        If there is no such variable, or if it does not hold positive numbers of the right shape.
    """
    posterior = variables.posterior
    if name not in posterior:
        raise SpecError(
            f"likelihood: the posterior has no variable {name!r}"
            f"{closest(name, [str(v) for v in posterior.data_vars])}; scale must be a positive "
            "number or the variable that holds the standard deviation of the noise"
        )
    if not variables.fits(name):
        each = f", or one for each of {variables.n_outputs} outputs" if variables.n_outputs else ""
        raise SpecError(
            f"likelihood: scale {name!r} has the dimensions {dict(posterior[name].sizes)} and "
            f"dtype {posterior[name].dtype}; it must hold one positive number a draw{each}"
        )
    sd = noise_of(variables, name)
    if not (np.isfinite(sd).all() and (sd > 0).all()):
        raise SpecError(
            f"likelihood: scale {name!r} must be positive in every draw; the smallest is "
            f"{np.nanmin(sd):.3g}. If it is a logarithm, store its exponential, or give a number"
        )
    return sd
