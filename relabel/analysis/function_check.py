"""Whether an alignment left the function of networks as it was, by their own forward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel._util.progress import Report, reporting
from relabel._util.validate import integer
from relabel.data.addresses import values_of
from relabel.data.containers import DrawsLike, Groups, unpack
from relabel.data.provenance import Provenance
from relabel.data.roles import automatic_inputs, is_auto
from relabel.errors import DataError, SpecError
from relabel.spec.arrays import SAMPLE_DIMS, check_draws

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FunctionCheck", "check_function"]

Array = NDArray[Any]

_TOLERANCES = {8: 1e-9, 4: 1e-3, 2: 1e-1}  # bytes of the coarsest parameters -> relative change


@dataclass(frozen=True)
class FunctionCheck:
    """Result of :func:`relabel.check_function`: changes of the outputs by an alignment.

    Attributes
    ----------
    changes : ndarray of shape (draws,)
        Largest change of the outputs of each draw that was checked, relative to its largest
        output; infinite where some are finite only before or only after.
    draws : list of (int, int)
        Positions of each, chain and draw.
    tolerance : float
        Largest change that rounding explains at the precision of the draws.
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
        """Return a sentence."""
        n = len(self.draws)
        sentence = f"outputs of {n} draws changed by at most {self.change:.1e} of their size"
        if self.sound:
            return sentence
        chain, draw = self.draws[int(self.changes.argmax())]
        return (
            f"{sentence} (chain {chain}, draw {draw}): the spec is not that of these networks "
            "(connections that skip layers, shared weights, another storage or activation?)"
        )

    def to_dataframe(self) -> pd.DataFrame:
        """Return the change of every draw, indexed by the positions of chain and draw."""
        import pandas as pd

        index = pd.MultiIndex.from_tuples(self.draws, names=list(SAMPLE_DIMS))
        return pd.DataFrame({"change": self.changes}, index=index)


def check_function(
    data: DrawsLike,
    aligned: DrawsLike,
    forward: Callable[[dict[str, Array], Any], Any],
    inputs: Any = "auto",
    *,
    n_draws: int = 20,
    progress: bool | Report = False,
) -> FunctionCheck:
    r"""Compare the outputs of networks before and after their alignment, by their own forward pass.

    .. math:: \max |f(g_t \theta_t, x) - f(\theta_t, x)| \, / \, \max |f(\theta_t, x)|

    A spec says how weights are connected, and nothing in the weights contradicts a wrong one:
    only the forward pass shows a residual connection, a concatenation or a weight that is used
    twice. Relabelling by the right spec changes no output by more than rounding.

    Parameters
    ----------
    data, aligned : InferenceData, DataTree or Dataset
        Argument and result of :func:`relabel.align`.
    forward : callable
        ``forward(params, inputs)`` returns the outputs of one network as one array; `params` maps
        the names of the variables, as they were in the source, to arrays, as in
        :func:`relabel.average`. It must return the same when it is called twice: no dropout.
    inputs : array_like, str, None or any object, default "auto"
        Second argument of `forward`; a few rows of data are enough. A string is the address of a
        variable (``"constant_data/X"``); ``"auto"`` means the inputs of the alignment, or the only
        variable of constant_data that could be inputs, and None if there are none; everything
        else is passed on as it is.
    n_draws : int, default 20
        Number of draws that are checked, evenly spaced.
    progress : bool or callable, default False
        True shows a bar; a callable gets ``(stage, done, total)``.

    Returns
    -------
    FunctionCheck

    Raises
    ------
    DataError
        If the two are not the same draws: other variables, chains or numbers of draws.
    SpecError
        If `forward` does not return an array of numbers, returns other numbers when it is called
        again, or ignores the parameters; or if there is no variable at the address `inputs`.

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
            "check_function: forward must be a function forward(params, inputs) -> outputs, not a "
            f"{type(forward).__name__}"
        )
    n_draws = integer("check_function: n_draws", n_draws, low=1)
    both = unpack(data), unpack(aligned)
    before, after = _same_draws(*both)
    points = _inputs(inputs, both[1])
    rows = _rows(before, n_draws)
    outputs = [_outputs(forward, _params(before, row), points) for row in rows]
    _check_forward(forward, before, points, rows, outputs)
    changes = np.empty(len(rows))
    with reporting(progress) as report:
        for i, (row, old) in enumerate(zip(rows, outputs, strict=True)):
            changes[i] = _change(old, _outputs(forward, _params(after, row), points))
            report("check function", i + 1, len(rows))
    return FunctionCheck(changes, rows, _tolerance(before))


def _inputs(given: Any, groups: Groups) -> Any:
    """Return the second argument of the forward pass."""
    if is_auto(given):
        used = Provenance.within(groups).options.get("inputs") if "relabel" in groups else None
        given, _ = automatic_inputs(groups, used)
    return values_of(groups, given, "inputs") if isinstance(given, str) else given


def _same_draws(old: Groups, new: Groups) -> tuple[xr.Dataset, xr.Dataset]:
    """Return both posteriors; raise DataError unless they have the same variables and shapes."""
    for groups in (old, new):
        check_draws(groups)
    before, after = old["posterior"], new["posterior"]
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
    """Return the positions (chain, draw) of some draws, evenly spaced."""
    n_chains, n_draws = (posterior.sizes[dim] for dim in SAMPLE_DIMS)
    total = n_chains * n_draws
    flat = np.unique(np.linspace(0, total - 1, min(number, total)).round().astype(int))
    return [(int(i // n_draws), int(i % n_draws)) for i in flat]


def _params(posterior: xr.Dataset, row: tuple[int, int]) -> dict[str, Array]:
    """Return all variables of one draw, by their names in the source."""
    place = dict(zip(SAMPLE_DIMS, row, strict=True))
    params = {}
    for name, array in posterior.data_vars.items():
        here = {dim: i for dim, i in place.items() if dim in array.dims}
        params[str(array.attrs.get("source_name", name))] = array.variable.isel(here).values
    return params


def _outputs(forward: Callable[..., Any], params: dict[str, Array], inputs: Any) -> Array:
    """Return the outputs of one network as an array of numbers."""
    given = forward(params, inputs)
    try:
        outputs = np.asarray(given)
    except (TypeError, ValueError) as error:
        raise SpecError(
            f"check_function: forward must return one array of numbers: {error}"
        ) from None
    if outputs.dtype.kind not in "fciub" or outputs.size == 0:
        raise SpecError(
            f"check_function: forward must return one array of numbers, not {type(given).__name__} "
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
    """Raise SpecError if a forward pass draws random numbers, or ignores the parameters."""
    again = _outputs(forward, _params(before, rows[0]), inputs)
    if _change(outputs[0], again) > 0:
        raise SpecError(
            "check_function: forward returns other outputs when it is called again with the same "
            "parameters: switch off dropout (model.eval()), or fix its seed"
        )
    if len(rows) > 1 and all(np.array_equal(outputs[0], o, equal_nan=True) for o in outputs[1:]):
        first, last = (_params(before, row) for row in (rows[0], rows[-1]))
        if any(not np.array_equal(first[name], last[name]) for name in first):
            raise SpecError(
                "check_function: forward returns the same outputs for different draws: does it "
                "load the parameters that it is given?"
            )


def _change(before: Array, after: Array) -> float:
    """Return the largest difference, relative to the largest output."""
    finite = np.isfinite(before)
    if before.shape != after.shape or (finite != np.isfinite(after)).any():
        return float("inf")
    change = np.abs(after[finite] - before[finite]).max(initial=0.0)
    scale = np.abs(before[finite]).max(initial=0.0)
    return float(change / scale) if scale > 0 else (0.0 if change == 0 else float("inf"))


def _tolerance(posterior: Mapping[Any, xr.DataArray]) -> float:
    """Return the largest change of outputs that rounding explains at the precision of draws."""
    sizes = [v.dtype.itemsize for v in posterior.values() if v.dtype.kind == "f"]
    return _TOLERANCES.get(min(sizes, default=8), 1e-9)
