"""Inputs at which the units of a network are compared by their activations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.data.roles import find_inputs
from relabel.errors import SpecError
from relabel.models.forward_pass import Network, NotDenseError
from relabel.spec.spec import ResolvedSpec

if TYPE_CHECKING:
    from relabel.matching.criteria import Criterion

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
    resolved: ResolvedSpec,
    groups: Mapping[str, xr.Dataset],
    inputs: Array | str | None,
    criterion: Criterion,
    seed: int,
) -> Probes | None:
    """Find the points at which units are compared by their activations.

    Parameters
    ----------
    resolved : ResolvedSpec
    groups : mapping of str to Dataset
        All groups of the data.
    inputs : ndarray, str or None
        As in :func:`relabel.align`.
    criterion : Criterion
        Needs inputs if it compares activations (`n_inputs` is not None).
    seed : int
        Seed of the points that stand in for unknown inputs.

    Returns
    -------
    Probes or None
        None where the spec describes no network that could be evaluated.

    Raises
    ------
    SpecError
        If inputs are named, or the criterion needs them, and they cannot be found.
    """
    needed = criterion.n_inputs is not None
    named = not (inputs is None or (isinstance(inputs, str) and inputs == "auto"))
    try:
        network = Network.of(resolved)
    except SpecError as error:
        if named or needed:
            raise _no_network(error, needed) from error
        return None
    points, where = input_values(network, groups, inputs)
    if points is None and needed:
        raise SpecError(
            f"criterion {criterion.name}: name the inputs (inputs=..., --inputs constant_data/X)"
        )
    if points is None:
        points = np.random.default_rng(seed).normal(size=(_N_PROBES, network.n_inputs))
    most = _N_PROBES if criterion.n_inputs is None else criterion.n_inputs
    chosen = np.unique(np.linspace(0, len(points) - 1, most).round().astype(int))
    return Probes(network, points[chosen], where)


def _no_network(error: SpecError, needed: bool) -> SpecError:
    """Say why units cannot be compared by their activations, and what to do instead."""
    remedy = "use criterion mean" if needed else "leave inputs=None"
    reason = f"inputs: units are compared by their activations at them, but {error}"
    if isinstance(error, NotDenseError):
        return SpecError(
            f"{reason}, and only networks of dense layers are evaluated: {remedy} "
            "(relabel.average takes forward=, a function that evaluates any network)"
        )
    return SpecError(
        f"{reason}; {remedy}, or fix the spec (activations that only permute, as 'permutation' "
        "does, are gelu, silu, softplus, elu, selu, mish and relu6)"
    )


def input_values(
    network: Network, groups: Mapping[str, xr.Dataset], inputs: Array | str | None
) -> tuple[Array | None, str | None]:
    """Return inputs as given, as named, or as found if only one variable fits; and their source."""
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
