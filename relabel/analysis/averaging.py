"""The mean network: weights averaged after alignment, and the loss of its outputs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel._util.progress import Report, reporting
from relabel._util.text import or_none, plain
from relabel._util.validate import iterable
from relabel.data.addresses import values_of
from relabel.data.containers import DrawsLike, Groups, pack
from relabel.data.roles import automatic_inputs, find_targets, is_auto
from relabel.diagnostics.aligned import Aligned
from relabel.diagnostics.likelihood import Family, Likelihood, Variables, guessed, laid_out
from relabel.errors import DataError, SpecError
from relabel.matching.features import layer_size
from relabel.models.forward_pass import Network
from relabel.sources.samples import sample_dims_of
from relabel.spec.arrays import SAMPLE_DIMS, is_drawn
from relabel.spec.spec import ResolvedSpec

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Average", "AverageLoss", "average"]

Array = NDArray[Any]
Forward = Callable[[dict[str, Array], Array], Any]

_CELLS = 4_000_000  # numbers that the outputs of one block of draws may have
_STATISTICS = re.compile(r"running_(mean|var)|moving_(mean|variance)|batch_stats")


@dataclass(frozen=True)
class AverageLoss:
    """Losses of the members, of their means and of their ensemble; lower is better.

    Attributes
    ----------
    measure : str
        Name of the loss: the mean squared error, or minus the mean log predictive density.
    n_inputs : int
        Number of inputs at which it is computed.
    members : ndarray of shape (draws,)
        Loss of each draw that is averaged.
    before : float
        Loss of the mean of the draws before any alignment.
    mean_network : float
        Loss of the mean of the aligned draws.
    ensemble : float
        Loss of the averaged outputs; under a likelihood, of the averaged predictive density.
    """

    measure: str
    n_inputs: int
    members: Array
    before: float
    mean_network: float
    ensemble: float

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; numbers that are not finite become None."""
        kept = {name: getattr(self, name) for name in ("before", "mean_network", "ensemble")}
        numbers = {name: or_none(value) for name, value in kept.items()}
        members = plain(self.members)
        return {"measure": self.measure, "n_inputs": self.n_inputs, "members": members} | numbers

    def to_dataframe(self) -> pd.DataFrame:
        """Return the losses as a table with the columns ``loss``, ``lowest`` and ``highest``.

        The rows are ``members`` (their mean), ``before``, ``mean_network`` and ``ensemble``.
        """
        import pandas as pd

        rows = {"members": (self.members.mean(), self.members.min(), self.members.max())}
        for name in ("before", "mean_network", "ensemble"):
            rows[name] = (getattr(self, name),) * 3
        return pd.DataFrame.from_dict(rows, orient="index", columns=["loss", "lowest", "highest"])

    def __str__(self) -> str:
        """Return a short table."""
        low, high = self.members.min(), self.members.max()
        rows = [
            ("members, mean", f"{self.members.mean():9.4g}  ({low:.4g} to {high:.4g})"),
            ("mean network before alignment", f"{self.before:9.4g}"),
            ("mean network", f"{self.mean_network:9.4g}"),
            ("ensemble", f"{self.ensemble:9.4g}"),
        ]
        return "\n".join(f"  {name:<30}{number}" for name, number in rows)


@dataclass(frozen=True)
class Average:
    """A mean network: the result of :func:`relabel.average`.

    Attributes
    ----------
    data : InferenceData, DataTree or Dataset
        One chain and one draw: the mean of every variable. Groups that do not share the draws
        (constant_data, observed_data) are those of the aligned data.
    n_draws : int
        Number of draws that were averaged.
    loss : AverageLoss or None
        Loss of the outputs; None where it could not be computed.
    notes : tuple of str
        Why there is no loss, which variables were left out, and warnings.
    """

    data: DrawsLike
    n_draws: int
    loss: AverageLoss | None
    notes: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the data, as plain values for JSON."""
        loss = None if self.loss is None else self.loss.as_dict()
        return {"n_draws": self.n_draws, "loss": loss, "notes": list(self.notes)}

    def to_json(self) -> str:
        """Return :meth:`as_dict` as JSON text."""
        return json.dumps(self.as_dict())

    def __str__(self) -> str:
        """Return a short report."""
        lines = [f"mean network of {self.n_draws} draws"]
        if self.loss is not None:
            lines[0] += f"; {self.loss.measure} at {self.loss.n_inputs} inputs:"
            lines.append(str(self.loss))
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def average(
    aligned: DrawsLike,
    *,
    forward: Forward | None = None,
    inputs: Array | str | None = "auto",
    targets: Array | str | None = "auto",
    likelihood: Likelihood | str | None = None,
    chains: Sequence[Any] | None = None,
    weights: Array | None = None,
    progress: bool | Report = False,
) -> Average:
    r"""Average the weights of aligned draws into one network, and compute its loss.

    .. math:: \bar\theta = \sum_t w_t\, g_t \theta_t \Big/ \sum_t w_t

    Without alignment a mean of networks means nothing: units that do the same sit in different
    slots and cancel. After it the mean may be as good as the ensemble of outputs, at the cost of
    one network. Whether it is, is shown by its loss at inputs and targets (better held out), next
    to the losses of the members, of the ensemble, and of the mean of the draws before alignment.

    Parameters
    ----------
    aligned : InferenceData, DataTree or Dataset
        What :func:`relabel.align` returned.
    forward : callable, optional
        ``forward(params, inputs)`` returns the outputs of one network, of shape (n,) or
        (n, n_outputs); `params` maps names, as they were in the source, to arrays. By default the
        network that the spec describes is evaluated, if it consists of dense layers with known
        activations.
    inputs : ndarray, str or None, default "auto"
        Inputs: an array, or the address of a variable (``"constant_data/X"``). ``"auto"`` means
        those that the alignment used, or the only variable that fits; with None there is no loss.
    targets : ndarray, str or None, default "auto"
        Targets, one row for each input: an array, or the address of a variable. ``"auto"`` means
        those of `likelihood`, or the only ``y`` of constant_data and observed_data; with None
        there is no loss.
    likelihood : Likelihood or str, optional
        The loss is minus the mean log predictive density under this likelihood (``"normal"`` needs
        a `scale`: a number, or a variable of the posterior); by default the mean squared error.
    chains : sequence, optional
        Labels of the chains to average; by default all but those that were kept out of the
        reference (``align(..., exclude_flagged=True)``).
    weights : ndarray of shape (chain, draw), optional
        Non-negative weights of the draws; equal by default. Draws that are not finite have weight
        zero.
    progress : bool or callable, default False
        True shows a bar; a callable gets ``(stage, done, total)``.

    Returns
    -------
    Average

    Raises
    ------
    DataError
        If the draws were not aligned, or no draw is left.
    SpecError
        If an option does not fit: no such chain, weights, inputs or targets of another shape.

    Notes
    -----
    Integers that are the same in all draws are kept, others are left out and named. Means are
    computed in float64 and stored in the dtype of the draws. The means of a batch norm's running
    statistics are not the statistics of the mean network: estimate these again from data.

    References
    ----------
    Ainsworth, S. K., Hayase, J. & Srinivasa, S. (2023). Git Re-Basin: merging models modulo
    permutation symmetries. https://doi.org/10.48550/arXiv.2209.04836

    Jordan, K., Sedghi, H., Saukh, O., Entezari, R. & Neyshabur, B. (2023). REPAIR: renormalizing
    permuted activations for interpolation repair. https://doi.org/10.48550/arXiv.2211.08403

    Examples
    --------
    Two networks of one function whose units stand the other way round:

    >>> import numpy as np, xarray as xr, relabel
    >>> sample = ("chain", "draw")
    >>> draws = xr.Dataset({
    ...     "W": ((*sample, "x", "h"), [[[[1.0, 2.0]], [[2.0, 1.0]]]]),
    ...     "V": ((*sample, "h", "y"), [[[[3.0], [-1.0]], [[-1.0], [3.0]]]])})
    >>> spec = relabel.Spec({"h": "gelu"}, {"W": "x -> h", "V": "h -> y"})
    >>> x, y = np.array([[-1.0], [1.0], [2.0]]), np.array([-0.4, 0.6, 1.9])
    >>> mean = relabel.average(relabel.align(draws, spec), inputs=x, targets=y)
    >>> print(mean)
    mean network of 2 draws; mean squared error at 3 inputs:
      members, mean                   0.00106  (0.00106 to 0.00106)
      mean network before alignment     7.207
      mean network                    0.00106
      ensemble                        0.00106
    >>> mean.data["W"].values
    array([[[[1., 2.]]]])
    """
    read = Aligned.read(aligned)
    posterior = read.draws.groups["posterior"]
    share, notes = _shares(read, chains, weights)
    after, more = _mean_of(posterior, share)
    evaluation, reason = _evaluation(read, forward, inputs, targets, likelihood)
    loss = None
    if evaluation is not None:
        before, _ = _mean_of(read.original, share)
        with reporting(progress) as report:
            loss = evaluation.loss(posterior, share, before, after, report)
    changed: dict[str, xr.Dataset | None] = {"posterior": after}
    changed |= dict.fromkeys(_groups_of_draws(read.groups))
    data = pack(aligned, changed)
    return Average(data, int((share > 0).sum()), loss, (*reason, *notes, *more))


# ---------------------------------------------------------------------- draws and their mean


def _shares(
    read: Aligned, chains: Sequence[Any] | None, weights: Array | None
) -> tuple[Array, list[str]]:
    """Return the share of every draw in the mean, shape (chain, draw), and notes on it."""
    excluded, notes = read.draws.excluded, []
    share = np.ones(excluded.shape)
    if weights is not None:
        try:
            share = np.asarray(weights, dtype=float).copy()
        except (TypeError, ValueError):
            raise SpecError(f"weights must be an array of numbers, not {weights!r}") from None
        if share.shape != excluded.shape or not (np.isfinite(share) & (share >= 0)).all():
            raise SpecError(
                "average: weights must be finite non-negative numbers of the shape (chain, draw) "
                f"= {excluded.shape}; these have the shape {share.shape}"
            )
    labels = read.draws.groups["posterior"]["chain"].values.tolist()
    record = read.provenance
    apart = [] if record is None else list(record.no_part_in_reference or ())
    if chains is not None:
        several = iterable("chains", chains, "[0, 1]")
        if np.ndim(several) != 1 and not isinstance(several, (set, frozenset, range)):
            raise SpecError(f"chains must be a sequence such as [0, 1], not {chains!r}")
        for chain in several:
            if chain not in labels:
                raise SpecError(f"average: there is no chain {chain!r}; there are {labels}")
        share[~np.isin(labels, list(chains))] = 0
    elif apart:
        share[apart] = 0
        notes.append(
            f"the chains {', '.join(str(labels[number]) for number in apart)} had no part in the "
            "reference and are left out; name them in chains=(...) to include them"
        )
    share[excluded] = 0
    if excluded.any():
        notes.append(f"draws that are not finite and are left out: {int(excluded.sum())}")
    if not share.any():
        raise DataError("average: no draw is left to average")
    return share / share.sum(), notes


def _groups_of_draws(groups: Groups) -> list[str]:
    """Return the groups that belong to single draws and are removed; nested ones first."""
    found = [g for g, ds in groups.items() if g != "posterior" and set(SAMPLE_DIMS) & set(ds.dims)]
    return sorted(found, key=lambda group: -group.count("/"))


def _mean_of(posterior: xr.Dataset, share: Array) -> tuple[xr.Dataset, list[str]]:
    """Return the mean draw, and notes on it."""
    kept: dict[str, Any] = {}
    left_out, statistics = [], []
    weights = xr.DataArray(share, dims=SAMPLE_DIMS)
    for name, array in posterior.data_vars.items():
        if not set(SAMPLE_DIMS) & set(array.dims):
            kept[str(name)] = array.variable
            continue
        mean = _mean_values(array, weights) if is_drawn(array) else None
        if mean is None:
            left_out.append(repr(name))
            continue
        stored = array.attrs.get("source_name", name)
        if _STATISTICS.search(str(stored)):
            statistics.append(repr(stored))
        shape = [1 if dim in SAMPLE_DIMS else array.sizes[dim] for dim in array.dims]
        kept[str(name)] = xr.Variable(array.dims, mean.reshape(shape), array.attrs)
    coords = {n: c for n, c in posterior.coords.items() if not set(SAMPLE_DIMS) & set(c.dims)}
    coords |= {dim: [0] for dim in SAMPLE_DIMS}
    notes = []
    if left_out:
        notes.append(
            "left out, since they have no mean (not floating-point numbers, and not the same in "
            f"all draws): {', '.join(left_out)}"
        )
    if statistics:
        notes.append(
            f"the running statistics of batch norms ({', '.join(statistics)}) are means over the "
            "members, not the statistics of the mean network: estimate them again from data before "
            "it is used"
        )
    return xr.Dataset(kept, coords, _of_one(posterior.attrs)), notes


def _of_one(attrs: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return the attributes of a source for a single draw, whose files hold its arrays alone."""
    if sample_dims_of(attrs) is None:
        return dict(attrs)
    gone = ("form", "separator", "sample_axes")
    return {key: note for key, note in attrs.items() if key not in gone} | {"sample_dims": ""}


def _mean_values(array: xr.DataArray, weights: xr.DataArray) -> Array | None:
    """Return the mean of one variable; for integers their only value, or None."""
    values = array.transpose(*SAMPLE_DIMS, ...).drop_vars(list(array.coords))
    chosen = weights.values > 0
    if array.dtype.kind != "f":
        some = values.values[chosen]
        same: Array = some[0]
        return same if (some == same).all() else None
    if not chosen.all():
        values = values.where(weights > 0, 0.0)
    mean = xr.dot(values.astype(float), weights, dim=SAMPLE_DIMS)
    result: Array = mean.values.astype(array.dtype)
    return result


# ---------------------------------------------------------------------- losses


@dataclass(frozen=True)
class _Networks:
    """Function that evaluates the networks of draws.

    Attributes
    ----------
    function : callable
        Arrays (draws, ...) by name -> outputs (draws, n, n_outputs).
    names : dict of str to str
        Variables of the posterior -> their names in the function.
    n_inputs : int
    n_cells : int
        Size of the arrays of one network while it is evaluated.
    """

    function: Callable[[dict[str, Array]], Array]
    names: dict[str, str]
    n_inputs: int
    n_cells: int

    def outputs(self, arrays: Mapping[str, Array]) -> Array:
        """Evaluate some draws, given by the names of the posterior."""
        return self.function({own: arrays[name] for name, own in self.names.items()})

    def n_outputs(self, posterior: xr.Dataset, excluded: Array) -> int:
        """Evaluate one draw, and return the number of outputs."""
        one = _rows_of(posterior, self.names, np.flatnonzero(~excluded)[:1])
        return int(self.outputs(one).shape[-1])


def _rows_of(posterior: xr.Dataset, names: Iterable[str], rows: Array) -> dict[str, Array]:
    """Return some draws of some variables, by their flat positions: shape (rows, ...)."""
    at = np.unravel_index(rows, [posterior.sizes[dim] for dim in SAMPLE_DIMS])
    place = {dim: xr.Variable("row", i) for dim, i in zip(SAMPLE_DIMS, at, strict=True)}
    return {n: posterior[n].variable.isel(place).transpose("row", ...).values for n in names}


@dataclass(frozen=True)
class _Evaluation:
    """Loss of the outputs of networks; the mean squared error without a family."""

    networks: _Networks
    targets: Array
    family: Family | None

    def loss(
        self,
        posterior: xr.Dataset,
        share: Array,
        before: xr.Dataset,
        after: xr.Dataset,
        report: Report,
    ) -> AverageLoss:
        """Compute the loss of the members, their mean before and after, and the ensemble."""
        flat = share.reshape(-1)
        rows = np.flatnonzero(flat > 0)
        size = max(1, _CELLS // self.networks.n_cells)
        members, pooled = [], None
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            losses, terms = self._losses(posterior, some)
            members.append(losses)
            pooled = self._added(pooled, terms, flat[some])
            report("average", start + len(some), len(rows))
        ensemble = np.square(pooled - self.targets) if self.family is None else -np.asarray(pooled)
        first = np.array([0])
        density = f"minus the mean log predictive density ({self.family})"
        return AverageLoss(
            "mean squared error" if self.family is None else density,
            self.networks.n_inputs,
            np.concatenate(members),
            float(self._losses(before, first)[0][0]),
            float(self._losses(after, first)[0][0]),
            float(ensemble.mean()),
        )

    def _losses(self, posterior: xr.Dataset, rows: Array) -> tuple[Array, Array]:
        """Return the losses of some draws, and their outputs or log densities for the ensemble."""
        outputs = self.networks.outputs(_rows_of(posterior, self.networks.names, rows))
        if self.family is None:
            return np.square(outputs - self.targets).mean(axis=(1, 2)), outputs
        parameters = self.family.given(Variables(posterior, rows, outputs.shape[-1]))
        density = self.family.log_density(outputs, self.targets, parameters)
        return -density.mean(axis=1), density

    def _added(self, total: Array | None, terms: Array, share: Array) -> Array:
        """Add the outputs of some draws, or their densities (as logarithms), to a total."""
        if self.family is None:
            part: Array = np.tensordot(share, terms, axes=1)
            return part if total is None else total + part
        part = np.logaddexp.reduce(terms + np.log(share)[:, None], axis=0)
        return part if total is None else np.logaddexp(total, part)


def _evaluation(
    read: Aligned,
    forward: Forward | None,
    inputs: Array | str | None,
    targets: Array | str | None,
    likelihood: Likelihood | str | None,
) -> tuple[_Evaluation | None, list[str]]:
    """Return the evaluation of the networks; or None and why there is none."""
    _check_forward(forward)
    asked = Likelihood.of(likelihood)
    posterior, first = read.draws.groups["posterior"], np.flatnonzero(~read.draws.excluded)[:1]
    family = None if asked is None else asked.resolved()
    if family is not None:  # a missing parameter is an error before anything is computed
        family.given(Variables(posterior, first))
    networks = _networks(read, forward, inputs)
    if isinstance(networks, str):
        return None, [f"no loss: {networks}"]
    if is_auto(targets) and asked is not None and asked.targets is not None:
        targets = asked.targets
    values = _targets_of(read.groups, targets, networks.n_inputs)
    if isinstance(values, str):
        return None, [f"no loss: {values}"]
    n_outputs = networks.n_outputs(posterior, read.draws.excluded)
    where = targets if isinstance(targets, str) and not is_auto(targets) else "(given)"
    if family is not None:
        family.check_outputs(n_outputs)
        laid = family.check(values, networks.n_inputs, n_outputs, where)
        return _Evaluation(networks, laid, family), []
    try:
        laid = laid_out(values, networks.n_inputs, n_outputs, where)
    except SpecError as error:
        fitting = guessed(values, Variables(posterior, first, n_outputs))
        hint = "" if fitting is None else f'; for {fitting} targets, say likelihood="{fitting}"'
        if not is_auto(targets):
            raise SpecError(f"{error}{hint}") from error
        return None, [f"no loss: {error}{hint or '; name the likelihood'}"]
    return _Evaluation(networks, laid, None), []


def _networks(
    read: Aligned, forward: Forward | None, inputs: Array | str | None
) -> _Networks | str:
    """Return the function that evaluates the networks; or why there is none."""
    if forward is not None:
        if is_auto(inputs):
            record = read.provenance
            used = None if record is None else record.options.get("inputs")
            inputs, reason = automatic_inputs(read.groups, used)
            if inputs is None:
                return f"forward needs inputs, and none are known ({reason}); give inputs=..."
        if inputs is None:
            return "none are to be used (inputs=None)"
        points = _numbers(read.groups, inputs, "inputs")
        names = {
            str(name): str(array.attrs.get("source_name", name))
            for name, array in read.draws.groups["posterior"].data_vars.items()
            if is_drawn(array)
        }
        return _Networks(_by_user(forward, points), names, len(points), len(points))
    try:
        network = Network.of(read.resolved)
    except SpecError as error:
        return f"{error}; pass forward=, a function that evaluates the network"
    found, reason = read.inputs(inputs)
    if found is None:
        return reason
    names = {v.name: v.name for v in read.resolved.measured()}
    width = sum(layer_size(read.resolved, layer.name) for layer in network.layers)
    return _Networks(_by_spec(network, read.resolved, found), names, len(found), len(found) * width)


def _check_forward(forward: Any) -> None:
    """Raise SpecError unless `forward` is callable or None."""
    if forward is not None and not callable(forward):
        raise SpecError(
            "average: forward must be a function forward(params, inputs) -> outputs, not a "
            f"{type(forward).__name__}"
        )


def _by_spec(
    network: Network, resolved: ResolvedSpec, points: Array
) -> Callable[[dict[str, Array]], Array]:
    """Evaluate the network that the spec describes, many draws at once."""

    def outputs(arrays: dict[str, Array]) -> Array:
        return network.joined_outputs(network.forward(resolved.by_part(arrays), points))

    return outputs


def _by_user(forward: Forward, points: Array) -> Callable[[dict[str, Array]], Array]:
    """Evaluate the user's function, one network after the other."""

    def outputs(arrays: dict[str, Array]) -> Array:
        n_draws = len(next(iter(arrays.values())))
        found = []
        for row in range(n_draws):
            done = np.asarray(forward({n: v[row] for n, v in arrays.items()}, points), dtype=float)
            if done.ndim == 0 or len(done) != len(points):
                raise SpecError(
                    f"average: forward returned outputs of the shape {done.shape} at {len(points)} "
                    "inputs; they must have the shape (n,) or (n, n_outputs)"
                )
            found.append(done.reshape(len(points), -1))
        return np.stack(found)

    return outputs


def _targets_of(groups: Groups, targets: Array | str | None, n: int) -> Array | str:
    """Return the targets; or why there are none."""
    if targets is None:
        return "no targets are to be used (targets=None)"
    if is_auto(targets):
        found = find_targets(groups, n)
        if len(found) != 1:
            several = f"several could be: {', '.join(found)}" if found else "none stored"
            return f"no targets are known ({several}); pass targets="
        targets = found[0]
    values = _numbers(groups, targets, "targets")
    if values.ndim not in (1, 2) or len(values) != n:
        raise SpecError(
            f"average: targets have the shape {values.shape}; there are {n} inputs, and one row "
            "is needed for each"
        )
    return values


def _numbers(groups: Groups, given: Array | str, what: str) -> Array:
    """Return an array as it is given, or a variable by its address; raise unless it is finite."""
    values = values_of(groups, given, f"average: {what}")
    if values.dtype.kind not in "fiub" or values.ndim == 0 or not np.isfinite(values).all():
        raise SpecError(f"average: {what} must be finite numbers, one row for each input")
    return values
