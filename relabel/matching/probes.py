"""Inputs at which the units of a network are compared by their activations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.data.roles import find_inputs
from relabel.errors import SpecError
from relabel.matching.criteria import Activations, Criterion
from relabel.models.network import Network, NotDenseError
from relabel.spec.spec import Bound

__all__ = ["Probes", "find_probes", "input_values"]

Array = NDArray[Any]

_N_PROBES = 64


@dataclass(frozen=True)
class Probes:
    """A network and the points at which its units are compared.

    Attributes
    ----------
    network : Network
    points : ndarray of shape (n, n_inputs)
    where : str or None
        Where the points come from: the address of a variable, ``"given"``, or None for points
        drawn from a standard normal distribution because no inputs are known.
    """

    network: Network
    points: Array
    where: str | None


def find_probes(
    bound: Bound,
    groups: Mapping[str, xr.Dataset],
    inputs: Array | str | None,
    criterion: Criterion,
    seed: int,
) -> Probes | None:
    """Find the points at which units are compared by their activations.

    Parameters
    ----------
    bound : Bound
    groups : mapping of str to Dataset
        All groups of the data.
    inputs : ndarray, str or None
        As in :func:`relabel.align`.
    criterion : Criterion
        :class:`relabel.criteria.Activations` cannot do without inputs.
    seed : int
        Seed of the points that stand in for unknown inputs.

    Returns
    -------
    Probes or None
        None where the spec describes no network that could be evaluated.

    Raises
    ------
    SpecError
        If inputs are named, or the criterion needs them, and they cannot be had.
    """
    wanted = isinstance(criterion, Activations)
    named = not (inputs is None or (isinstance(inputs, str) and inputs == "auto"))
    try:
        network = Network.of(bound)
    except SpecError as error:
        if named or wanted:
            if isinstance(error, NotDenseError):
                mend = "use criterion mean" if wanted else "leave inputs=None"
                raise SpecError(
                    f"inputs: units are compared by their activations at them, but {error}, and "
                    f"only networks of dense layers are evaluated: {mend} (relabel.average takes "
                    "forward=, a function that evaluates any network)"
                ) from error
            otherwise = "use criterion mean" if wanted else "leave inputs=None"
            raise SpecError(
                f"inputs: units are compared by their activations at them, but {error}; "
                f"{otherwise}, or mend the spec (activations that only permute, as 'permutation' "
                "does, are gelu, silu, softplus, elu, selu, mish and relu6)"
            ) from error
        return None
    points, where = input_values(network, groups, inputs)
    if wanted:
        _check_wanted(bound, points)
    if points is None:
        points = np.random.default_rng(seed).normal(size=(_N_PROBES, network.n_inputs))
    most = criterion.n_inputs if isinstance(criterion, Activations) else _N_PROBES
    chosen = np.unique(np.linspace(0, len(points) - 1, most).round().astype(int))
    return Probes(network, points[chosen], where)


def _check_wanted(bound: Bound, points: Array | None) -> None:
    """Refuse to match activations that are not known, or do not tell all labels."""
    if points is None:
        raise SpecError(
            "criterion activations: name the inputs (inputs=..., --inputs constant_data/X)"
        )
    for units in bound.sizes:
        if bound.group(units).signs and not _tells_sign(bound, units):
            raise SpecError(
                f"criterion activations: the activations of {units!r} do not tell their signs, "
                "since the function is even; use mean"
            )


def _tells_sign(bound: Bound, units: str) -> bool:
    action = bound.group(units).action("tail")
    return action is not None and action.signed


def input_values(
    network: Network, groups: Mapping[str, xr.Dataset], inputs: Array | str | None
) -> tuple[Array | None, str | None]:
    """Inputs as given, as named, or as found if only one variable fits."""
    if inputs is None:
        return None, None
    if isinstance(inputs, str) and inputs == "auto":
        found = find_inputs(groups, network.n_inputs)
        if len(found) != 1:
            return None, None
        inputs = found[0]
    if isinstance(inputs, str):
        group, _, name = inputs.rpartition("/")
        if group not in groups or name not in groups[group]:
            offered = ", ".join(find_inputs(groups, network.n_inputs)) or "none"
            raise SpecError(f"inputs: there is no variable {inputs!r}; candidates are {offered}")
        values, where = groups[group][name].values, inputs
    else:
        values, where = np.asarray(inputs), "given"
    if values.ndim != 2 or values.shape[1] != network.n_inputs or not len(values):
        raise SpecError(
            f"inputs: {where} has the shape {values.shape}; the network reads "
            f"(n, {network.n_inputs})"
        )
    if values.dtype.kind not in "fiub" or not np.isfinite(values).all():
        raise SpecError(f"inputs: {where} is not numeric and finite")
    return values.astype(float), where
