"""The minimal equivalent network of every draw: fold constants, merge duplicates, drop the dead."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel._util.progress import Report, reporting
from relabel._util.validate import integer, real
from relabel.data.containers import Data, pack, unpack
from relabel.data.provenance import Provenance
from relabel.data.roles import is_auto
from relabel.diagnostics.aligned import Aligned
from relabel.errors import DataError, SpecError
from relabel.groups import Group, activation_of
from relabel.models.forward_pass import Layer, Network
from relabel.spec.arrays import SAMPLE_DIMS, draw_values
from relabel.spec.spec import ResolvedSpec
from relabel.spec.variables import ResolvedVariable

__all__ = ["reduce"]

Array = NDArray[Any]

_CELLS = 2_000_000  # numbers a block of draws may have in one array of activations
_N_POINTS = 64  # normal points at which the change is measured where no inputs are known


def reduce(
    aligned: Data,
    *,
    inputs: Array | str | None = "auto",
    tolerance: float = 1e-6,
    n_ulps: float = 32.0,
    n_tries: int = 3,
    progress: bool | Report = False,
) -> Data:
    r"""Replace the network of every draw by a smaller one of the same function, slots kept.

    A network :math:`f(x) = c + \sum_i v_i\, a(w_i \cdot x + b_i)` is reducible if a unit is dead
    (:math:`v_i = 0`), constant (:math:`w_i = 0`) or a duplicate, :math:`(w, b)_i = s (w, b)_j`
    with a sign or scale *s* that its activation allows, so that
    :math:`a(s z) = \alpha\, a(z) + \kappa`. Then

    .. math:: v_j \leftarrow v_j + \alpha v_i, \qquad c \leftarrow c + \kappa v_i, \qquad
        (w, b, v)_i \leftarrow 0,

    where :math:`\alpha = \pm 1` for odd units, 1 for even ones, :math:`-1` with
    :math:`\kappa = 1` for flipped sigmoids, and :math:`|s|^d` (with the sign of the parity) for
    homogeneous units of degree *d*; :math:`\alpha = 0` and :math:`\kappa = a(b_i)` for a constant.

    First the units are removed that the weights show to be superfluous, layer by layer from the
    inputs on, until there are none: a unit that is removed may leave one before it without a
    reader, or one after it without an input. Then, where inputs are known, further units are
    removed one at a time, in each draw the one that changes least, as long as the outputs at the
    inputs stay within `tolerance`. Nothing is refitted: a nearly constant unit becomes the middle
    of its range, a near duplicate takes the incoming weights of the other.

    Parameters
    ----------
    aligned : InferenceData, DataTree or Dataset
        What :func:`relabel.align` returned.
    inputs : ndarray of shape (n, n_inputs), str or None, default "auto"
        Inputs at which outputs are compared: an array, or the address of a variable
        (``"constant_data/X"``). ``"auto"`` means those that the alignment used, or the only
        variable that fits. With None, or if there are none, only units are removed that the
        weights show to be superfluous.
    tolerance : float, default 1e-6
        Largest change of an output at any input, relative to the scale of that output: its
        standard deviation over the inputs, the median over draws. The default is far below what
        any use of the outputs would notice and far above rounding (a sum over a hundred float64
        units errs by 1e-14), so that units are removed that are dead, constant or duplicates at
        the inputs. With 0 only the weights decide; 0.01 folds nearly constant units.
    n_ulps : float, default 32
        Weights count as equal, and sums as zero, within this many units in the last place of the
        coarsest dtype: scaling and summing a few copies rounds as often as that.
    n_tries : int, default 3
        Number of candidates of a layer that are tried in every draw at every step: those whose
        removal changes least, at the worst input, what their readers receive. After earlier
        removals the outputs need not have quite that order, so more than one is tried; each costs
        a forward pass.
    progress : bool or callable, default False
        True shows a bar; a callable gets ``(stage, done, total)``.

    Returns
    -------
    Same type as `aligned`
        With the weights and biases of the posterior reduced. Shapes and dtypes stay, since the
        slots stay: all weights of a removed unit are zero. The group ``relabel`` gains

        ===================  ======================  ==========================================
        ``{units}_kept``     chain, draw, {units}    1 where the slot still holds a unit, else 0
        ``function_change``  chain, draw             largest change of an output over the inputs,
                                                     relative to its scale; nan for draws left out
        ===================  ======================  ==========================================

        and its record the entry ``reduced``. Where no inputs are known, the change is measured at
        standard normal points.

    Raises
    ------
    DataError
        If the draws were not aligned, if they were reduced before with other options, or if a
        weight is not of a floating dtype.
    SpecError
        If the axes describe no network, the inputs do not fit, or an option is out of range.

    See Also
    --------
    relabel.align : Aligns the draws before; it cannot be undone or repeated on reduced draws.

    Notes
    -----
    The values are no longer those of the draws, so :func:`relabel.undo` does not apply to the
    result; keep the aligned draws. Other variables that carry units (activations, scales ``h^0``)
    and the warm-up are not changed and no longer match: the record lists them. Draws that are not
    finite keep all their units. Variables of the network are loaded into memory. Reducing once
    more, with the same options, changes nothing.

    A removal that the inputs decide holds at the inputs: a ReLU unit that is off at all of them is
    removed, even if it is on elsewhere. Give inputs that cover the range of use, or `tolerance` 0.

    Constants need a bias in every layer that reads the unit. Where one has none, a constant unit
    goes only if its constant is zero, a nearly constant one only if it is nearly zero. Linear
    dependence beyond duplicates (two ReLU units of opposite direction beside a linear one, units
    that are on throughout) is not looked for.

    References
    ----------
    Sussmann, H. J. (1992). Uniqueness of the weights for minimal feedforward nets with a given
    input-output map. *Neural Networks* 5(4), 589-593.
    https://doi.org/10.1016/S0893-6080(05)80037-1

    Farrugia-Roberts, M. (2023). Functional equivalence and path connectivity of reducible
    hyperbolic tangent networks. https://doi.org/10.48550/arXiv.2305.05089

    Examples
    --------
    Two tanh units that are one, of opposite signs, and a third with no input:

    >>> import numpy as np, xarray as xr, relabel
    >>> def each(name, value):
    ...     core = tuple(f"{name}_{i}" for i in range(np.ndim(value)))
    ...     return (("chain", "draw", *core), np.array(value)[None, None])
    >>> values = {"W1": [[2.0, -2.0, 0.0]], "b1": [1.0, -1.0, 0.0],
    ...           "W2": [[3.0], [0.5], [4.0]], "b2": [0.0]}
    >>> draws = xr.Dataset({name: each(name, value) for name, value in values.items()})
    >>> axes = {"W1": "x -> h", "b1": "-> h", "W2": "h -> y", "b2": "-> y"}
    >>> small = relabel.reduce(relabel.align(draws, relabel.Spec({"h": "tanh"}, axes)))
    >>> small["relabel_h_kept"].values[0, 0]
    array([1, 0, 0], dtype=int8)
    >>> small["W1"].values[0, 0], small["W2"].values[0, 0].T
    (array([[2., 0., 0.]]), array([[2.5, 0. , 0. ]]))
    """
    options: dict[str, Any] = {
        "tolerance": _checked_tolerance(tolerance),
        "n_ulps": real("n_ulps", n_ulps, low=1),
        "n_tries": integer("n_tries", n_tries, low=1),
    }
    if _reduced_before(unpack(aligned), options, inputs):
        return aligned
    read = Aligned.read(aligned)
    plan = _Plan.of(read.resolved, read.groups["posterior"], n_ulps)
    points, where = read.inputs(inputs)
    known = points is not None
    before = plan.read(read)
    yardstick = _Yardstick.at(points, before)
    after = before.take(np.arange(before.n_draws))
    blocks = yardstick.blocks(before)
    with reporting(progress) as report:
        for number, rows in enumerate(blocks, 1):
            part = before.take(rows)
            _reduce_exactly(part)
            if known and tolerance > 0:
                _reduce_greedily(part, before.take(rows), yardstick, tolerance, n_tries)
            after.put(rows, part)
            report("reduce", number, len(blocks))
    after.round_to(plan.dtypes)
    entry = options | {
        "inputs": where if known else None,
        "points": _digest(points),
        "warnings": [] if known else [f"only what the weights show was removed: {where}"],
    }
    own = _own_variables(read, after, yardstick.change(before, after), entry)
    return pack(aligned, {"posterior": _posterior(read, after), "relabel": own})


def _checked_tolerance(tolerance: float) -> float:
    """Return the tolerance; raise SpecError unless it is from 0 to below 1."""
    checked = real("tolerance", tolerance, 0, 1)
    if checked == 1:
        raise SpecError(f"tolerance must be less than 1, not {tolerance!r}")
    return checked


def _digest(points: Array | None) -> str | None:
    """Return a hash of inputs, which distinguishes those that were given as arrays."""
    if points is None:
        return None
    cells = np.ascontiguousarray(points, dtype=float)
    return hashlib.sha256(cells.tobytes()).hexdigest()[:16]


def _reduced_before(
    groups: Mapping[str, xr.Dataset], options: Mapping[str, Any], inputs: Array | str | None
) -> bool:
    """Whether the draws were reduced with these options; raise DataError if with others."""
    if "relabel" not in groups:
        return False
    earlier = Provenance.within(groups).reduced
    if earlier is None:
        return False
    if is_auto(inputs):
        same_inputs = True
    elif inputs is None or isinstance(inputs, str):
        same_inputs = earlier.get("inputs") == inputs
    else:
        same_inputs = earlier.get("points") == _digest(inputs)
    if same_inputs and all(earlier.get(key) == value for key, value in options.items()):
        return True
    raise DataError(
        f"these draws were reduced before, with the tolerance {earlier.get('tolerance')} and the "
        f"inputs {earlier.get('inputs')}; the tolerance refers to the function before that, so "
        "reduce the aligned draws instead"
    )


# ---------------------------------------------------------------------- the network


@dataclass(frozen=True)
class _Hidden:
    """One set of hidden units: the variables that write them, and those that read them.

    `outgoing` are pairs (weight, bias of the same reader or None).
    """

    units: str
    function: Callable[[Array], Array]
    group: Group
    incoming: tuple[str, ...]
    biases: tuple[str, ...]
    outgoing: tuple[tuple[str, str | None], ...]

    @property
    def absorbs(self) -> bool:
        """Whether every reader has a bias, to which a constant can be added."""
        return all(bias is not None for _, bias in self.outgoing)

    @property
    def kinds(self) -> tuple[_Kind, ...]:
        """Signs with which one unit can replace another."""
        action = self.group.action("tail")
        kinds = [_Kind(1.0, 1.0, 0.0)]
        if self.group.signs and (self.absorbs or not self.group.shifts):
            signed = action is not None and action.signed
            kinds.append(_Kind(-1.0, -1.0 if signed else 1.0, 1.0 if self.group.shifts else 0.0))
        return tuple(kinds)


class _Kind(NamedTuple):
    r"""For units of incoming sign `sign`: :math:`a(sign\, z) = factor \cdot a(z) + constant`."""

    sign: float
    factor: float
    constant: float


class _Removal(NamedTuple):
    """Unit `unit` of the draws `rows` is replaced by `factor` · unit `into` + `constant`.

    All have the same length, or are single numbers.
    """

    rows: Array
    unit: Any
    into: Any
    factor: Any
    constant: Any


@dataclass(frozen=True)
class _Plan:
    """A network, its hidden units from the inputs on, and how its variables are stored.

    `stored` holds every variable with the axis that is read (None for biases). `rounding` is the
    relative difference below which weights count as equal.
    """

    network: Network
    hidden: tuple[_Hidden, ...]
    stored: dict[str, tuple[ResolvedVariable, str | None]]
    dtypes: dict[str, np.dtype[Any]]
    rounding: float

    @classmethod
    def of(cls, resolved: ResolvedSpec, posterior: xr.Dataset, n_ulps: float) -> _Plan:
        """Read the plan off the arrows of the spec."""
        try:
            network = Network.of(resolved)
        except SpecError as error:
            raise SpecError(
                f"only a network that can be evaluated can be reduced: {error}. Name the "
                "activations of all units, and the axes of all weights and biases with arrows, as "
                "in axes={'W1': 'x -> h', 'b1': '-> h', 'W2': 'h -> y', 'b2': '-> y'}"
            ) from error
        stored: dict[str, tuple[ResolvedVariable, str | None]] = {}
        for layer in network.layers:
            stored |= {v.key: (v, tail) for v, tail in layer.weights}
            stored |= {v.key: (v, None) for v in layer.biases}
        dtypes = {key: posterior[variable.name].dtype for key, (variable, _) in stored.items()}
        for name, dtype in dtypes.items():
            if dtype.kind != "f":
                raise DataError(
                    f"variable {name!r} has the dtype {dtype}, which cannot hold sums of weights; "
                    "convert it to float64 first"
                )
        rounding = n_ulps * max(float(np.finfo(dtype).eps) for dtype in dtypes.values())
        hidden = tuple(_hidden(layer, network, resolved) for layer in network.layers)
        return cls(network, tuple(h for h in hidden if h), stored, dtypes, rounding)

    def read(self, read: Aligned) -> _Block:
        """Return the variables of the draws that are not excluded, in double precision at least."""
        work = np.result_type(np.float64, *self.dtypes.values())
        arrays = {}
        for key, (variable, _) in self.stored.items():
            flat = variable.of(draw_values(read.groups["posterior"][variable.name]))
            arrays[key] = np.ascontiguousarray(flat[read.draws.rows], dtype=work)
        sizes = read.resolved.sizes
        kept = {h.units: np.ones((len(read.draws.rows), sizes[h.units]), bool) for h in self.hidden}
        return _Block(self, arrays, kept)


def _hidden(layer: Layer, network: Network, resolved: ResolvedSpec) -> _Hidden | None:
    """Return the hidden units of one layer; None for outputs."""
    outgoing = tuple(
        (variable.key, reader.biases[0].key if reader.biases else None)
        for reader in network.layers
        for variable, tail in reader.weights
        if tail == layer.name
    )
    function = activation_of(layer.activation).function if layer.activation else None
    if not outgoing or function is None:
        return None
    return _Hidden(
        layer.name,
        function,
        resolved.group(layer.name),
        tuple(variable.key for variable, _ in layer.weights),
        tuple(variable.key for variable in layer.biases),
        outgoing,
    )


# ---------------------------------------------------------------------- draws at work


@dataclass(frozen=True)
class _Block:
    """Some draws: their variables, which are changed in place, and which units are left."""

    plan: _Plan
    arrays: dict[str, Array]
    kept: dict[str, Array]

    @property
    def n_draws(self) -> int:
        """Number of draws."""
        return len(next(iter(self.arrays.values())))

    def take(self, rows: Array) -> _Block:
        """Copy some draws."""
        arrays = {name: values[rows] for name, values in self.arrays.items()}
        return _Block(self.plan, arrays, {units: kept[rows] for units, kept in self.kept.items()})

    def put(self, rows: Array, other: _Block, of: Any = slice(None)) -> None:
        """Overwrite some draws by others."""
        for name, values in self.arrays.items():
            values[rows] = other.arrays[name][of]
        for units, kept in self.kept.items():
            kept[rows] = other.kept[units][of]

    def round_to(self, dtypes: Mapping[str, np.dtype[Any]]) -> None:
        """Round every variable to the dtype it is stored in."""
        for name, values in self.arrays.items():
            values[...] = values.astype(dtypes[name])

    def view(self, name: str) -> Array:
        """Return weights as (draws, tail, head), biases as (draws, units): a view to write to."""
        variable, tail = self.plan.stored[name]
        values = self.arrays[name]
        if tail is None:
            return values.reshape(-1, *(variable.shape or (1,)))
        single = () if variable.between()[1] else (1,)
        matrix = values.reshape(-1, *variable.shape, *single)
        return matrix if variable.axes[0].name == tail else matrix.swapaxes(1, 2)

    def bias(self, hidden: _Hidden) -> Array:
        """Return the sum of the biases of the units, (draws, units)."""
        total = np.zeros(self.kept[hidden.units].shape)
        for name in hidden.biases:
            total = total + self.view(name)
        return total

    def incoming(self, hidden: _Hidden) -> Array:
        """Return the incoming weights of the units, (draws, units, number)."""
        return np.concatenate([self.view(n).swapaxes(1, 2) for n in hidden.incoming], axis=2)

    def outgoing(self, hidden: _Hidden) -> Array:
        """Return the outgoing weights of the units, (draws, units, number)."""
        return np.concatenate([self.view(name) for name, _ in hidden.outgoing], axis=2)

    def remove(self, hidden: _Hidden, what: _Removal) -> None:
        """Remove one unit from every draw in `what`, and change its readers to make up for it."""
        rows, unit, into = what.rows, what.unit, what.into
        factor, constant = (np.reshape(part, (-1, 1)) for part in (what.factor, what.constant))
        for name, bias in hidden.outgoing:
            weights = self.view(name)
            gone = weights[rows, unit]
            weights[rows, into] = _sum(weights[rows, into], factor * gone, self.plan.rounding)
            weights[rows, unit] = 0.0
            if bias is not None:
                self.view(bias)[rows] += constant * gone
        for name in hidden.incoming:
            self.view(name)[rows, :, unit] = 0.0
        for name in hidden.biases:
            self.view(name)[rows, unit] = 0.0
        self.kept[hidden.units][rows, unit] = False

    def outputs(self, points: Array) -> Array:
        """Evaluate all outputs, (draws, n, number)."""
        with np.errstate(over="ignore", invalid="ignore"):
            return np.concatenate(
                list(self.plan.network.outputs(self.arrays, points).values()), axis=2
            )

    def activations(self, hidden: _Hidden, points: Array) -> Array:
        """Evaluate one set of hidden units, (draws, n, units)."""
        with np.errstate(over="ignore", invalid="ignore"):
            return self.plan.network.activations(self.arrays, points)[hidden.units]


def _sum(a: Array, b: Array, rounding: float) -> Array:
    """Add two arrays; sums that are rounding of numbers that cancel become zero."""
    total = a + b
    return np.where(np.abs(total) <= rounding * (np.abs(a) + np.abs(b)), 0.0, total)


@dataclass(frozen=True)
class _Yardstick:
    """Points at which outputs are compared, and the scale of every output."""

    points: Array
    scale: Array

    @classmethod
    def at(cls, points: Array | None, draws: _Block) -> _Yardstick:
        """Measure the outputs; at standard normal points where no inputs are known."""
        if points is None:
            shape = (_N_POINTS, draws.plan.network.n_inputs)
            points = np.random.default_rng(0).normal(size=shape)
        sd, size = [], []
        for rows in cls(points, np.ones(1)).blocks(draws):
            outputs = draws.take(rows).outputs(points)
            with np.errstate(over="ignore", invalid="ignore"):
                sd.append(outputs.std(axis=1))
            size.append(np.abs(outputs).max(axis=1))
        spread, largest = (_median(np.concatenate(part)) for part in (sd, size))
        spread = np.where(spread > 0, spread, largest)  # outputs that do not depend on the inputs
        return cls(points, np.where(spread > 0, spread, 1.0))

    def blocks(self, draws: _Block) -> list[Array]:
        """Cut the draws into blocks of which the activations fit into memory."""
        layers = draws.plan.network.layers
        width = max(draws.view(layer.weights[0][0].key).shape[2] for layer in layers)
        per_block = max(1, _CELLS // (max(len(self.points), width) * width))
        cuts = range(per_block, draws.n_draws, per_block)
        return np.split(np.arange(draws.n_draws), list(cuts))

    def difference(self, before: Array, after: Array) -> Array:
        """Largest change of any output at any point, relative to the output's scale: (draws,)."""
        with np.errstate(over="ignore", invalid="ignore"):
            apart = np.where(after == before, 0.0, np.abs(after - before) / self.scale)
        change: Array = apart.max(axis=(1, 2))
        return np.where(np.isnan(change), np.inf, change)

    def change(self, before: _Block, after: _Block) -> Array:
        """Compare the functions of all draws: (draws,)."""
        parts = [
            self.difference(*(b.take(rows).outputs(self.points) for b in (before, after)))
            for rows in self.blocks(before)
        ]
        return np.concatenate(parts)


def _median(values: Array) -> Array:
    """Median over the draws whose outputs do not overflow; 0 if all do."""
    sound = values[np.isfinite(values).all(axis=1)]
    return np.median(sound, axis=0) if len(sound) else np.zeros(values.shape[1])


# ---------------------------------------------------------------------- removals by the weights


def _reduce_exactly(block: _Block) -> None:
    """Remove the units that the weights show to be superfluous, until there are none."""
    changed = True
    while changed:
        changed = False
        for hidden in block.plan.hidden:
            changed |= _drop_dead(block, hidden)
            changed |= _fold_constant(block, hidden)
            changed |= _merge_duplicates(block, hidden)


def _drop_dead(block: _Block, hidden: _Hidden) -> bool:
    """Remove units that nothing reads."""
    dead = (block.outgoing(hidden) == 0).all(axis=2)
    return _replace(block, hidden, dead, np.zeros(dead.shape))


def _fold_constant(block: _Block, hidden: _Hidden) -> bool:
    """Remove units without inputs; their constants are added to the biases of their readers."""
    constant = (block.incoming(hidden) == 0).all(axis=2)
    value = hidden.function(np.where(constant, block.bias(hidden), 0.0))
    if not hidden.absorbs:
        constant &= value == 0
    return _replace(block, hidden, constant, value)


def _replace(block: _Block, hidden: _Hidden, which: Array, constant: Array) -> bool:
    """Replace some units, (draws, units), by a constant; whether there were any."""
    which = which & block.kept[hidden.units]
    for unit in np.flatnonzero(which.any(axis=0)):
        rows = np.flatnonzero(which[:, unit])
        block.remove(hidden, _Removal(rows, unit, unit, 0.0, constant[rows, unit]))
    return bool(which.any())


def _merge_duplicates(block: _Block, hidden: _Hidden) -> bool:
    """Merge every unit into the first that it is a copy of; whether there were any."""
    kept = block.kept[hidden.units]
    directions, norms = _directions(block, hidden)
    found = False
    for kind in hidden.kinds:
        near = _near(directions, kind.sign, block.plan.rounding)
        near &= np.tri(kept.shape[1], k=-1, dtype=bool)
        near &= kept[:, :, None] & kept[:, None, :]
        for unit, into in np.argwhere(near.any(axis=0)):
            rows = np.flatnonzero(near[:, unit, into] & kept[:, unit] & kept[:, into])
            factor = kind.factor * _ratio(norms[rows, unit], norms[rows, into], hidden.group.degree)
            block.remove(hidden, _Removal(rows, unit, into, factor, kind.constant))
            found |= rows.size > 0
    return found


def _directions(block: _Block, hidden: _Hidden) -> tuple[Array, Array]:
    """Return incoming weights with bias, of norm 1 where scales do not matter; and the norms."""
    into = np.concatenate([block.incoming(hidden), block.bias(hidden)[..., None]], axis=2)
    norms = np.linalg.norm(into, axis=2)
    if hidden.group.degree:
        into /= np.where(norms > 0, norms, 1.0)[..., None]
    return into, norms


def _near(directions: Array, sign: float, rounding: float) -> Array:
    """Return which pairs of units agree up to the sign: bool (draws, units, units)."""
    n_draws, size, n_weights = directions.shape
    gap = np.zeros((n_draws, size, size))
    for weight in range(n_weights):
        column = directions[:, :, weight]
        np.maximum(gap, np.abs(column[:, :, None] - sign * column[:, None, :]), out=gap)
    largest = np.abs(directions).max(axis=2)
    near: Array = gap <= rounding * np.maximum(largest[:, :, None], largest[:, None, :])
    return near


def _ratio(numerator: Array, denominator: Array, degree: int) -> Array:
    """Return the factor between homogeneous units of two norms; infinite for a norm of zero."""
    if degree == 0:
        return np.ones(np.broadcast_shapes(numerator.shape, denominator.shape))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        power: Array = (numerator / denominator) ** degree
    return power


# ---------------------------------------------------------------------- removals by the inputs


def _reduce_greedily(
    block: _Block, original: _Block, yardstick: _Yardstick, tolerance: float, n_tries: int
) -> None:
    """Remove the unit that changes least, in every draw, as long as the outputs allow it."""
    before = original.outputs(yardstick.points)
    active = np.arange(block.n_draws)
    while active.size:
        current, everyone = block.take(active), np.arange(active.size)
        best, least = current.take(everyone), np.full(active.size, np.inf)
        for hidden, what in _trials(current, yardstick.points, n_tries):
            trial = current.take(everyone)
            trial.remove(hidden, what)
            change = yardstick.difference(before[active], trial.outputs(yardstick.points))
            possible = current.kept[hidden.units][what.rows, what.unit] & np.isfinite(what.factor)
            better = np.flatnonzero(possible & (change < least))
            best.put(better, trial, better)
            least[better] = change[better]
        accepted = np.flatnonzero(least <= tolerance)
        result = best.take(accepted)
        _reduce_exactly(result)
        active = active[accepted]
        block.put(active, result)


def _trials(block: _Block, points: Array, n_tries: int) -> Iterator[tuple[_Hidden, _Removal]]:
    """Yield candidates of every layer that change least what readers receive, one a draw each."""
    rows = np.arange(block.n_draws)
    for hidden in block.plan.hidden:
        costs, factor, constant = _costs(block, hidden, points)
        size = costs.shape[1]
        flat = costs.reshape(len(rows), -1)
        n_chosen = min(n_tries, flat.shape[1])
        first = np.argpartition(flat, n_chosen - 1, axis=1)[:, :n_chosen]
        order = np.argsort(np.take_along_axis(flat, first, axis=1), axis=1, kind="stable")
        for chosen in np.take_along_axis(first, order, axis=1).T:
            finite = np.isfinite(flat[rows, chosen])
            unit, into = chosen // size, chosen % size
            what = factor[rows, unit, into], constant[rows, unit, into]
            alpha, kappa = (np.where(finite, part, np.nan) for part in what)
            yield hidden, _Removal(rows, unit, into, alpha, kappa)


def _costs(block: _Block, hidden: _Hidden, points: Array) -> tuple[Array, Array, Array]:
    r"""Return what each removal changes for the readers, and the factor and constant for it.

    Three arrays (draws, units, units): the first axis of units is that of the removed unit, the
    second that of the unit it is merged into; on the diagonal it becomes a constant. The cost is
    :math:`\lVert v_i\rVert \, \max_x |a_i - \alpha a_j - \kappa|`, infinite where there is no
    such removal.
    """
    values = block.activations(hidden, points)
    kept = block.kept[hidden.units]
    own = np.arange(kept.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):
        costs, factor, constant = _best_merges(block, hidden, values)
        highest, lowest = values.max(axis=1), values.min(axis=1)
        middle = (highest + lowest) / 2 if hidden.absorbs else np.zeros(kept.shape)
        costs[:, own, own] = np.maximum(highest - middle, middle - lowest)
        costs *= np.linalg.norm(block.outgoing(hidden), axis=2)[:, :, None]
    factor[:, own, own], constant[:, own, own] = 0.0, middle
    possible = kept[:, :, None] & kept[:, None, :] & np.isfinite(costs)
    return np.where(possible, costs, np.inf), factor, constant


def _best_merges(block: _Block, hidden: _Hidden, values: Array) -> tuple[Array, Array, Array]:
    """Return the largest change of an activation by each merge, its factor and its constant."""
    norms = _directions(block, hidden)[1]
    ratio = _ratio(norms[:, :, None], norms[:, None, :], hidden.group.degree)
    least, factor, constant = (np.full(ratio.shape, fill) for fill in (np.inf, 0.0, 0.0))
    for unit, kind in product(range(values.shape[2]), hidden.kinds):
        by = kind.factor * ratio[:, unit]
        change = values[:, :, unit, None] - by[:, None, :] * values - kind.constant
        largest = np.abs(change, out=change).max(axis=1)
        better = largest < least[:, unit]
        least[:, unit] = np.where(better, largest, least[:, unit])
        factor[:, unit] = np.where(better, by, factor[:, unit])
        constant[:, unit] = np.where(better, kind.constant, constant[:, unit])
    return least, factor, constant


# ---------------------------------------------------------------------- result


def _posterior(read: Aligned, after: _Block) -> xr.Dataset:
    """Return the posterior with the reduced values; excluded draws keep theirs."""
    posterior = read.groups["posterior"]
    fresh: dict[str, xr.DataArray] = {}
    for key, values in after.arrays.items():
        variable, _ = after.plan.stored[key]
        old = fresh.get(variable.name, posterior[variable.name])
        ordered = old.transpose(*SAMPLE_DIMS, ...)
        cells = draw_values(old).copy()
        variable.of(cells)[read.draws.rows] = values.reshape(-1, *variable.shape)
        new = ordered.copy(data=cells.reshape(ordered.shape)).transpose(*old.dims)
        new.attrs, new.encoding = old.attrs, old.encoding
        fresh[variable.name] = new
    return posterior.assign(fresh)


def _own_variables(
    read: Aligned, after: _Block, change: Array, entry: Mapping[str, Any]
) -> xr.Dataset:
    """Return the group `relabel` with the variables and the entry of the record of a reduction."""
    record = Provenance.within(read.groups)
    own = read.groups["relabel"].drop_vars(record.added, errors="ignore")
    fresh = {}
    for units, kept in after.kept.items():
        attrs = {
            "long_name": f"whether slot k of {units} still holds a unit; if not, all its weights "
            "are zero",
            "flag_values": np.array([0, 1], dtype=np.int8),
            "flag_meanings": "removed kept",
        }
        values = read.draws.spread(kept.astype(np.int8), 1)
        fresh[f"{units}_kept"] = xr.Variable((*SAMPLE_DIMS, units), values, attrs)
    points = entry["inputs"] or "standard normal points, since no inputs are known"
    about = "largest change of an output by the reduction, relative to the scale of the output"
    attrs = {"long_name": about, "units": "1", "inputs": points}
    fresh["function_change"] = xr.Variable(SAMPLE_DIMS, read.by_chain(change), attrs)
    own = own.assign(fresh)
    reduced = {
        **entry,
        "result": _sentence(after, change),
        "removed": {units: int((~kept).sum()) for units, kept in after.kept.items()},
        "left": _left(read, after),
    }
    own.attrs |= replace(
        record.without_findings(), reduced=reduced, added=tuple(sorted(fresh))
    ).attrs()
    return own


def _sentence(after: _Block, change: Array) -> str:
    """Return the result in one sentence."""
    parts = []
    for units, kept in after.kept.items():
        left = kept.sum(axis=1)
        parts.append(
            f"of {kept.shape[1]} units {units!r}, {left.mean():.3g} are left on average "
            f"({left.min()} to {left.max()})"
        )
    return f"{'; '.join(parts)}; outputs change by at most {change.max():.1e} of their scale"


def _left(read: Aligned, after: _Block) -> list[str]:
    """Return the addresses of variables that no longer match the weights, and the warm-up."""
    reduced = {variable.address for variable, _ in after.plan.stored.values()}
    units = set(after.kept)
    left = [
        v.address
        for v in read.resolved.variables
        if v.address not in reduced
        and (v.labels_of in units or any(u in units for _, u, _ in v.unit_axes()))
    ]
    left = list(dict.fromkeys(left))
    return left + [group for group in ("warmup_posterior",) if group in read.groups]
