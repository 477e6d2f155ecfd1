"""Which likelihood the targets of a network have: as asked for, or as data and draws tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.data.roles import TARGET_GROUPS, find_targets
from relabel.diagnostics.likelihood.base import Evidence, Family, Variables
from relabel.diagnostics.likelihood.families import FAMILIES, Likelihood, guessed
from relabel.diagnostics.likelihood.fitted import Fitted
from relabel.diagnostics.likelihood.relative import Relative
from relabel.errors import SpecError
from relabel.models.forward_pass import Network
from relabel.spec.resolve import closest

__all__ = ["find_likelihood"]

Array = NDArray[Any]

_BLOCK = 2**25  # bytes of one temporary array


def find_likelihood(
    groups: Mapping[str, xr.Dataset],
    wanted: Likelihood | Family | str | None,
    network: Network,
    arrays: Mapping[str, Array],
    inputs: Array,
    *,
    rows: Array | None = None,
    relative: float = 0.01,
    targets: Array | str | None = None,
) -> Fitted:
    r"""Find the likelihood of a network's targets.

    Targets that are not named are looked for in constant_data and observed_data (``y``,
    ``target``, ...; with as many rows as there are inputs). Where no family is named, each is
    asked whether the targets could be its own (:meth:`Family.guess`), and the first is taken:
    values 0 and 1 with one output, and no noise variable, are Bernoulli with the output as logit;
    integers 0 ... C - 1 (or C columns, one of them 1) with C outputs are categorical with the
    outputs as logits; floating-point values are normal with the output as mean; then families of
    other packages are asked. The family finds its own parameters (see :class:`Normal`).

    Parameters
    ----------
    groups : mapping of str to Dataset
        All groups of the data.
    wanted : Likelihood, Family, str or None
        A family, or its name, with everything else looked for; None for the family that fits.
    network : Network
    arrays : mapping of str to ndarray of shape (draws, ...)
        The variables of the draws that take part.
    inputs : ndarray of shape (n, n_inputs)
        All inputs, row by row those of the targets.
    rows : ndarray of int, optional
        Flat positions (chain, then draw) of the draws that take part; all by default.
    relative : float, default 0.01
        Where no likelihood is known: see :class:`Relative`.
    targets : ndarray or str, optional
        The targets, or their address; they take precedence over those that `wanted` names.

    Returns
    -------
    Fitted
        With the parameters of each draw that takes part.

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
    "Normal noise: posterior variable 'sigma'."
    """
    asked = Likelihood.of(wanted)
    family = None if asked is None else asked.resolved()
    outputs = _Outputs(network, arrays, np.asarray(inputs, dtype=float))
    n, n_outputs = len(outputs.inputs), outputs.n_outputs
    chosen = np.arange(outputs.n_draws) if rows is None else rows
    variables = Variables(groups["posterior"], chosen, n_outputs)
    named = targets if targets is not None or asked is None else asked.targets
    values, where = _targets(groups, named, n, n_outputs)
    family = family or guessed(values, variables)
    if family is None and targets is not None and values is not None:
        raise SpecError(
            f"likelihood: targets of the shape {values.shape} and dtype {values.dtype} do not tell "
            f"a family for {n_outputs} outputs; name one of {', '.join(FAMILIES)}"
        )
    if family is None:  # whatever the targets are, the draws may name a noise
        values = where = None
        family = guessed(None, variables)
    if family is not None:
        family.check_outputs(n_outputs)
        values = None if values is None else family.check(values, n, n_outputs, str(where))
    evidence = Evidence(variables, outputs.blocks, n, values, where)
    found = None if family is None else family.find(evidence)
    if family is None or found is None:
        family = Relative(relative)
        found = family.find(evidence)
    return Fitted(family, found[0], how=found[1])


# ---------------------------------------------------------------------- outputs


@dataclass(frozen=True)
class _Outputs:
    """The network's outputs in the draws that take part."""

    network: Network
    arrays: Mapping[str, Array]
    inputs: Array

    @property
    def n_draws(self) -> int:
        return len(next(iter(self.arrays.values())))

    @property
    def n_outputs(self) -> int:
        first = {name: values[:1] for name, values in self.arrays.items()}
        done = self.network.forward(first, self.inputs[:1])
        return int(self.network.joined_outputs(done).shape[-1])

    def blocks(self) -> Iterator[Array]:
        """Outputs of all draws, block by block, shape (draws, n, n_outputs)."""
        first = {name: values[:1] for name, values in self.arrays.items()}
        done = self.network.forward(first, self.inputs[:1])
        width = sum(values.shape[-1] for values in done.sums.values())
        size = max(1, _BLOCK // (8 * len(self.inputs) * width))
        for start in range(0, self.n_draws, size):
            part = {name: v[start : start + size] for name, v in self.arrays.items()}
            yield self.network.joined_outputs(self.network.forward(part, self.inputs))


# ---------------------------------------------------------------------- targets


def _targets(
    groups: Mapping[str, xr.Dataset], named: Array | str | None, n: int, n_outputs: int
) -> tuple[Array | None, str | None]:
    """Targets as given, as named, or as found if all variables that fit agree; and where from."""
    if named is None:
        found = [address for address in find_targets(groups, n) if _fits(_at(groups, address), n)]
        values = [_at(groups, address) for address in found]
        if not values or not all(np.array_equal(each, values[0]) for each in values[1:]):
            return None, None
        return values[0], found[0]
    where = named if isinstance(named, str) else "given"
    array = _named(groups, named) if isinstance(named, str) else np.asarray(named)
    if not _fits(array, n):
        raise SpecError(
            f"likelihood: targets {where} have the shape {array.shape} and dtype {array.dtype}; "
            f"there are {n} inputs, so they must be finite numbers of the shape ({n},) or "
            f"({n}, {n_outputs})"
        )
    return array, where


def _fits(values: Array, n: int) -> bool:
    """Whether values may be targets: numbers, one row for each input."""
    return (
        values.dtype.kind in "fiub"
        and values.ndim in (1, 2)
        and len(values) == n
        and bool(np.isfinite(values).all())
    )


def _at(groups: Mapping[str, xr.Dataset], address: str) -> Array:
    """Return the values of a variable by its address."""
    group, _, name = address.rpartition("/")
    values: Array = groups[group][name].values
    return values


def _named(groups: Mapping[str, xr.Dataset], address: str) -> Array:
    """Return the values of a variable by an address that a user wrote."""
    group, _, name = address.rpartition("/")
    if group not in groups or name not in groups[group]:
        known = [f"{g}/{n}" for g in TARGET_GROUPS for n in groups.get(g, ())]
        raise SpecError(
            f"likelihood: there is no variable {address!r}{closest(address, known)}; name the "
            "targets as group/name"
        )
    return _at(groups, address)
