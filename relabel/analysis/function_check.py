"""Whether an alignment left the function of networks as it was, by their own forward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.data.containers import unpack
from relabel.errors import DataError, SpecError
from relabel.spec.arrays import SAMPLE_DIMS, check_draws

__all__ = ["FunctionCheck", "check_function"]

Array = NDArray[Any]

_TOLERANCES = {8: 1e-9, 4: 1e-3, 2: 1e-1}  # bytes of the coarsest parameters -> relative change


@dataclass(frozen=True)
class FunctionCheck:
    """How far outputs changed.

    Attributes
    ----------
    changes : ndarray of shape (draws,)
        Largest change of the outputs of each draw that was looked at, relative to its largest
        output; infinite where some are finite only before or only after.
    draws : list of (int, int)
        Chain and draw of each, as positions.
    tolerance : float
        What rounding may do at the precision of the draws.
    """

    changes: Array
    draws: list[tuple[int, int]]
    tolerance: float

    @property
    def change(self) -> float:
        """The largest of all changes."""
        return float(self.changes.max())

    @property
    def sound(self) -> bool:
        """Whether no change is larger than rounding explains."""
        return self.change <= self.tolerance

    def __str__(self) -> str:
        """Say it in one sentence."""
        n = len(self.draws)
        told = f"outputs of {n} draws changed by at most {self.change:.1e} of their size"
        if self.sound:
            return told
        chain, draw = self.draws[int(self.changes.argmax())]
        return (
            f"{told} (chain {chain}, draw {draw}): the spec is not that of these networks "
            "(connections that skip layers, shared weights, another storage or activation?)"
        )


def check_function(
    draws: Any,
    aligned: Any,
    forward: Callable[[dict[str, Array], Any], Any],
    inputs: Any = None,
    *,
    n_draws: int = 20,
) -> FunctionCheck:
    r"""Compare the outputs of networks before and after their alignment, by their own forward pass.

    .. math:: \max |f(g_t \theta_t, x) - f(\theta_t, x)| \, / \, \max |f(\theta_t, x)|

    A spec says how weights are connected, and nothing in the weights contradicts a wrong one: a
    residual connection, a concatenation or a weight that is used twice shows in the forward pass
    alone. Relabelling by the right spec changes no output by more than rounding.

    Parameters
    ----------
    draws, aligned : InferenceData, DataTree or Dataset
        What went into :func:`relabel.align`, and what came out.
    forward : callable
        ``forward(params, inputs)`` gives the outputs of one network as one array; `params` maps
        the names of the variables, as they were in the source, to arrays, as in
        :func:`relabel.average`. It must give the same twice: no dropout.
    inputs : optional
        Handed to `forward` as it is. A few rows of data will do.
    n_draws : int, default 20
        How many draws to look at, evenly spaced.

    Returns
    -------
    FunctionCheck

    Raises
    ------
    DataError
        If the two are not the same draws: other variables, chains or numbers of draws.
    SpecError
        If `forward` gives no array of numbers, not the same twice, or ignores the parameters.

    Examples
    --------
    A residual connection, which the names and shapes of a plain network hide:

    >>> import numpy as np, relabel
    >>> from relabel.simulate import network
    >>> simulated = network((2, 3, 3, 1), "tanh", draws=50)
    >>> aligned = relabel.align(simulated.data, simulated.spec)
    >>> def plain(p, x, skip=0.0):
    ...     h = np.tanh(x @ p["W1"] + p["b1"])
    ...     h = np.tanh(h @ p["W2"] + p["b2"]) + skip * h
    ...     return h @ p["W3"] + p["b3"]
    >>> x = np.random.default_rng(0).normal(size=(5, 2))
    >>> relabel.check_function(simulated.data, aligned, plain, x).sound
    True
    >>> residual = lambda p, x: plain(p, x, skip=1.0)
    >>> relabel.check_function(simulated.data, aligned, residual, x).sound
    False
    """
    if not callable(forward):
        raise SpecError(
            "check_function: forward is a function forward(params, inputs) -> outputs, not a "
            f"{type(forward).__name__}"
        )
    before, after = _same_draws(draws, aligned)
    rows = _rows(before, n_draws)
    outputs = [_outputs(forward, _params(before, row), inputs) for row in rows]
    _check_forward(forward, before, inputs, rows, outputs)
    moved = (_outputs(forward, _params(after, row), inputs) for row in rows)
    changes = [_change(old, new) for old, new in zip(outputs, moved, strict=True)]
    return FunctionCheck(np.array(changes), rows, _tolerance(before))


def _same_draws(draws: Any, aligned: Any) -> tuple[xr.Dataset, xr.Dataset]:
    """Both posteriors, which have the same variables of the same shapes."""
    both = unpack(draws), unpack(aligned)
    for groups in both:
        check_draws(groups)
    before, after = (groups["posterior"] for groups in both)
    for name, variable in before.data_vars.items():
        if name not in after:
            raise DataError(f"check_function: the aligned draws have no variable {str(name)!r}")
        one, other = (dict(v.sizes) for v in (variable, after[name]))
        if one != other:
            raise DataError(
                f"check_function: {str(name)!r} has the sizes {one} before and {other} after; give "
                "the draws that were aligned"
            )
    return before, after


def _rows(posterior: xr.Dataset, number: int) -> list[tuple[int, int]]:
    """Positions (chain, draw) of some draws, evenly spaced."""
    if type(number) is not int or number < 1:
        raise SpecError(f"check_function: n_draws must be 1 or more, not {number!r}")
    n_chains, n_draws = (posterior.sizes[dim] for dim in SAMPLE_DIMS)
    total = n_chains * n_draws
    flat = np.unique(np.linspace(0, total - 1, min(number, total)).round().astype(int))
    return [(int(i // n_draws), int(i % n_draws)) for i in flat]


def _params(posterior: xr.Dataset, row: tuple[int, int]) -> dict[str, Array]:
    """All variables of one draw, by the names of the source."""
    place = dict(zip(SAMPLE_DIMS, row, strict=True))
    params = {}
    for name, array in posterior.data_vars.items():
        here = {dim: i for dim, i in place.items() if dim in array.dims}
        params[str(array.attrs.get("source_name", name))] = array.variable.isel(here).values
    return params


def _outputs(forward: Callable[..., Any], params: dict[str, Array], inputs: Any) -> Array:
    """Outputs of one network, as an array of numbers."""
    given = forward(params, inputs)
    try:
        outputs = np.asarray(given)
    except (TypeError, ValueError) as error:
        raise SpecError(
            f"check_function: forward must give one array of numbers: {error}"
        ) from None
    if outputs.dtype.kind not in "fciub" or outputs.size == 0:
        raise SpecError(
            f"check_function: forward must give one array of numbers, not {type(given).__name__} "
            f"of {outputs.dtype} of the shape {outputs.shape}"
        )
    return outputs.astype(np.result_type(outputs.dtype, np.float64))


def _check_forward(
    forward: Callable[..., Any],
    before: xr.Dataset,
    inputs: Any,
    rows: list[tuple[int, int]],
    outputs: list[Array],
) -> None:
    """Refuse what draws random numbers, and what does not use the parameters."""
    again = _outputs(forward, _params(before, rows[0]), inputs)
    if _change(outputs[0], again) > 0:
        raise SpecError(
            "check_function: forward gives other outputs when it is called again with the same "
            "parameters: switch off dropout (model.eval()), fix its seed"
        )
    if len(rows) > 1 and all(np.array_equal(outputs[0], o, equal_nan=True) for o in outputs[1:]):
        first, last = (_params(before, row) for row in (rows[0], rows[-1]))
        if any(not np.array_equal(first[name], last[name]) for name in first):
            raise SpecError(
                "check_function: forward gives the same outputs for different draws: does it load "
                "the parameters that it is given?"
            )


def _change(before: Array, after: Array) -> float:
    """Largest difference, relative to the largest output."""
    finite = np.isfinite(before)
    if before.shape != after.shape or (finite != np.isfinite(after)).any():
        return float("inf")
    change = np.abs(after[finite] - before[finite]).max(initial=0.0)
    scale = np.abs(before[finite]).max(initial=0.0)
    return float(change / scale) if scale > 0 else (0.0 if change == 0 else float("inf"))


def _tolerance(posterior: Mapping[Any, xr.DataArray]) -> float:
    """What rounding may do to the outputs of draws of such a precision."""
    sizes = [v.dtype.itemsize for v in posterior.values() if v.dtype.kind == "f"]
    return _TOLERANCES.get(min(sizes, default=8), 1e-9)
