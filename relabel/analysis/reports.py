"""The report of an alignment: what was done, and the draws before and after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel._util.text import formatted
from relabel.alignment.opinions import Opinion
from relabel.alignment.provenance import stored_elements
from relabel.alignment.separated import sentence, separations_in
from relabel.data.containers import DrawsLike, Groups, unpack
from relabel.data.participants import sharing
from relabel.data.provenance import Provenance
from relabel.data.roles import find_inputs, is_auto
from relabel.diagnostics.kernels.quantities import N_POINTS, weights_of
from relabel.diagnostics.kernels.rhat_ess import Convergence, convergence
from relabel.errors import SpecError
from relabel.groups.elements import Monomial
from relabel.matching.criteria import rebuilt
from relabel.matching.probes import input_values
from relabel.matching.solve import STARTS
from relabel.models.forward_pass import Network, outputs_of
from relabel.spec.arrays import SAMPLE_DIMS, chain_draw_values
from relabel.spec.spec import ResolvedSpec

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["AlignmentReport", "alignment_report", "as_planted"]

Array = NDArray[Any]

_APART = 1.1  # R-hat of weights after alignment, above which chains are named


@dataclass(frozen=True)
class AlignmentReport:
    """Result of :func:`relabel.stats.alignment_report`; prints as plain lines.

    Attributes
    ----------
    facts : list of (str, str)
        Keyword and text of every line above the table.
    table : list of (str, Convergence)
        R-hat and ESS of weights before, weights after, and outputs.
    notes : list of str
        Warnings, and how the figures were found.
    """

    facts: list[tuple[str, str]]
    table: list[tuple[str, Convergence]]
    notes: list[str]

    def to_dataframe(self) -> pd.DataFrame:
        """Return the table, with the columns ``rhat`` and ``ess``."""
        import pandas as pd

        rows = {name: {"rhat": found.rhat, "ess": found.ess} for name, found in self.table}
        return pd.DataFrame.from_dict(rows, orient="index")

    def __str__(self) -> str:
        """Return the report."""
        width = max(len(word) for word, _ in self.facts)
        lines = [f"{word:<{width}}  {line}" for word, line in self.facts]
        lines.append(f"{'':<14}  max R-hat  min ESS")
        for name, found in self.table:
            rhat, ess = formatted(found.rhat, ".3f"), formatted(found.ess, ".0f")
            lines.append(f"{name:<14}  {rhat:<9}  {ess}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def alignment_report(
    data: DrawsLike, aligned: DrawsLike, *, inputs: Array | str | None = "auto"
) -> AlignmentReport:
    """Compare draws before and after their alignment.

    Parameters
    ----------
    data, aligned : InferenceData, DataTree or Dataset
        Argument and result of :func:`relabel.align`.
    inputs : ndarray of shape (n, n_inputs), str or None, default "auto"
        Inputs at which the outputs of a network are compared: an array, the address of a variable
        (``"constant_data/X"``), None for none, or ``"auto"`` for those of the alignment.

    Returns
    -------
    AlignmentReport
        Prints as plain lines.

    Raises
    ------
    DataError
        If the draws were not aligned, or the record is damaged.
    SpecError
        If `inputs` do not fit the network.

    Examples
    --------
    >>> import relabel
    >>> from relabel.simulate import network
    >>> simulated = network((2, 3, 1), "tanh", chains=2, draws=50)
    >>> aligned = relabel.align(simulated.data, simulated.spec)
    >>> report = relabel.stats.alignment_report(simulated.data, aligned)
    >>> report.facts[0]
    ('units', 'h: 3 × tanh (signed permutation)')
    >>> report.to_dataframe().index.tolist()
    ['weights before', 'weights after', 'outputs']
    """
    record = Provenance.of(aligned)
    before, after = unpack(data), unpack(aligned)
    resolved = stored_elements(after, "")[0].bind(sharing(after))
    table = [
        ("weights before", convergence(weights_of(resolved, before["posterior"]))),
        ("weights after", convergence(weights_of(resolved, after["posterior"]))),
    ]
    notes = [*record.warnings, *_on_allocations(resolved, record.criterion)]
    network = _network(resolved)
    if network is not None:
        points, reason = _points(network, before, inputs, record.options["inputs"])
        if points is not None:
            old, new = (
                outputs_of(network, resolved, g["posterior"], points) for g in (before, after)
            )
            table.append(("outputs", convergence(old.values())))
            notes.append(_change_of_outputs(old, new))
        notes.append(reason)
    notes += _on_the_table(table)
    notes += _on_the_chains(table, after["relabel"])
    return AlignmentReport(_facts(record, resolved, after["relabel"]), table, notes)


def as_planted(aligned: DrawsLike) -> float | None:
    """Return the share of labels and signs that undo the scrambles stored with the draws.

    Parameters
    ----------
    aligned : InferenceData, DataTree or Dataset
        ``constant_data`` may hold ``scramble_perm1``, ``scramble_sign1``, ... of (chain, unit),
        one pair for each set of units: unit *k* of a chain started as unit ``perm[k]`` of one
        network, times ``sign[k]``.

    Returns
    -------
    float or None
        The share up to one relabelling of all draws, which nothing determines; None without
        scrambles.
    """
    groups = unpack(aligned)
    constant = groups.get("constant_data", xr.Dataset())
    if "scramble_perm1" not in constant:
        return None
    _, found = stored_elements(groups, "")
    right = []
    for number, element in enumerate(found.elements.values(), 1):
        if element.mixes:
            return None
        index = constant[f"scramble_perm{number}"].values[:, None]
        factor = constant[f"scramble_sign{number}"].values[:, None]
        shape = (*element.batch, element.size)
        planted = Monomial(np.broadcast_to(index, shape), np.broadcast_to(factor, shape))
        labels = (element @ planted).labels().reshape(-1, element.size)
        kinds, counts = np.unique(labels, axis=0, return_counts=True)
        right.append(labels == kinds[counts.argmax()])
    return float(np.mean(right))


def _on_allocations(resolved: ResolvedSpec, described: Mapping[str, Any]) -> list[str]:
    """Return a hint at criteria that compare allocations, if there are some that were not used."""
    labels = [v.address for v in resolved.variables if v.labels_of is not None]
    prob = [
        v.address for v in resolved.variables if v.group == "allocation" and v.labels_of is None
    ]
    criterion = rebuilt(described).criterion
    if not (labels or prob) or criterion is None or criterion.reads:
        return []
    named = [("ecr-iterative-1", "z", labels), ("stephens", "prob", prob)]
    offers = [f"--criterion {c} --set {kind}={found[0]}" for c, kind, found in named if found]
    hint = (
        f"{', '.join(labels + prob)} was not compared: where units overlap, criteria that compare "
        f"it separate them better ({' or '.join(offers)}); relabel compare shows where they differ"
    )
    return [hint]


def _on_the_chains(table: list[tuple[str, Convergence]], own: xr.Dataset) -> list[str]:
    """Return a note on chains that differ after the alignment."""
    after = table[1][1].rhat
    if not after > _APART:
        return []
    if own.sizes["chain"] == 1:
        alone = (
            f"segments of the chain still differ after alignment (R-hat {after:.3f}): it moves "
            "between modes or has not converged; for independently trained networks, which are not "
            "a Markov chain, this means nothing"
        )
        return [alone]
    chains = own["chain"].values if "chain" in own.coords else range(own.sizes["chain"])
    losses = own["loss"].mean("draw").values
    by_chain = ", ".join(f"{c}: {loss:.3g}" for c, loss in zip(chains, losses, strict=True))
    note = (
        f"chains still differ after alignment (R-hat {after:.3f}): where the outputs differ too, "
        f"they sit in different modes; mean loss by chain {by_chain}"
    )
    return [note]


def _facts(record: Provenance, resolved: ResolvedSpec, own: xr.Dataset) -> list[tuple[str, str]]:
    """Return the lines above the table; `own` is the group ``relabel``."""
    facts = [
        ("units", f"{name}: {resolved.sizes[name]} × {symmetry} ({resolved.group(name).label})")
        for name, symmetry in resolved.spec.units.items()
    ]
    chains, draws = (own.sizes[dim] for dim in SAMPLE_DIMS)
    left_out = int(own["excluded"].sum()) if "excluded" in own else 0
    moved = f"{record.n_moved} of {chains * draws - left_out} relabelled"
    facts.append(("draws", f"{chains} × {draws} (chain × draw), {moved}"))
    others = {name: how for name, how in record.groups.items() if how != "same draws"}
    facts += [("group", f"{name}: {how}") for name, how in others.items()]
    if record.no_part_in_reference is not None:
        labels = own["chain"].values if "chain" in own.coords else range(chains)
        without = ", ".join(str(labels[chain]) for chain in record.no_part_in_reference)
        text = f"without chains {without}" if without else "of all chains: none flagged"
        facts.append(("reference", text))
    criterion = dict(record.criterion)
    name = criterion.pop("name")
    options = ", ".join(f"{k}={v}" for k, v in criterion.items() if v is not None)
    facts.append(("criterion", f"{name} ({options})"))
    if record.chosen is not None:
        facts.append(("default", f"no criterion was named, and {record.chosen}"))
    if record.begin is not None:
        facts.append(("begin", f"the reference that the start {record.begin!r} led to"))
    n = len(record.losses)
    sweeps = "1 sweep" if n == 1 else f"{n} sweeps"
    loss = f"{record.loss_before:.6g} before, {record.losses[-1]:.6g} after ({sweeps})"
    facts.append(("loss", loss))
    codes, counts = np.unique(own["start"].values, return_counts=True)
    starts = [f"{STARTS[c]} {n}" for c, n in zip(codes, counts, strict=True) if c >= 0]
    facts.append(("starts", ", ".join(starts)))
    if "gap" in own:
        facts.append(("optimum", _gaps(own["gap"].values)))
    facts += [("margin", _margins(units, own)) for units in resolved.sizes]
    separations = separations_in(own, resolved.sizes).items()
    facts += [("separated", f"{units}: {sentence(found)}") for units, found in separations]
    return facts + [("opinion", str(Opinion(**opinion))) for opinion in record.opinions]


def _gaps(gap: Array) -> str:
    """Say how many labellings are proved to be the best, and how far the others may be from it."""
    gap = gap[np.isfinite(gap)]
    text = f"proved in {100 * (gap == 0).mean():.4g} % of the draws under the last reference"
    return text if not gap.any() else f"{text}; largest gap {gap.max():.2g} of the distance"


def _margins(units: str, own: xr.Dataset) -> str:
    """Describe the margins of one set of units: the worst and its place, the medians of slots."""
    margin = chain_draw_values(own[f"{units}_margin"], units)
    values = np.where(np.isnan(margin), np.inf, margin)
    if not np.isfinite(values).any():
        return f"{units}: none"
    place = np.unravel_index(values.argmin(), values.shape)
    labels = [
        own[dim].values[i] if dim in own.coords else i
        for dim, i in zip(SAMPLE_DIMS, place[:2], strict=True)
    ]
    slots = np.median(values.reshape(-1, values.shape[2]), axis=0)
    return (
        f"{units}: worst {values[place]:.3g} (slot {place[2]}, chain {labels[0]}, draw "
        f"{labels[1]}); median of a slot {slots.min():.3g} to {slots.max():.3g}"
    )


def _network(resolved: ResolvedSpec) -> Network | None:
    try:
        return Network.of(resolved)
    except SpecError:
        return None


def _points(
    network: Network, groups: Groups, inputs: Array | str | None, used: str | None
) -> tuple[Array | None, str]:
    """Return some of the inputs, evenly spaced, and which they are; or None and why.

    `used` are those of the alignment, in its record: an address, "given" as an array, or None.
    """
    wanted = used if is_auto(inputs) else inputs
    found = find_inputs(groups, network.n_inputs)
    if wanted is None:
        reason = "no inputs are stored with the draws"
        if len(found) == 1:
            reason = f"the inputs {found[0]} were not to be used"
        elif found:
            reason = f"several variables could be inputs ({', '.join(found)}); name one"
        return None, f"outputs were not looked at: {reason}"
    if is_auto(inputs) and wanted == "given":
        return None, "outputs were not looked at: the inputs were given as an array"
    values, where = input_values(network, groups, wanted)
    assert values is not None
    points = values[np.unique(np.linspace(0, len(values) - 1, N_POINTS).round().astype(int))]
    return points, f"inputs: {where}{', the only variable that fits' if found == [where] else ''}"


def _change_of_outputs(before: Mapping[str, Array], after: Mapping[str, Array]) -> str:
    """Describe the change of the outputs, which relabelling must not change."""
    change = 0.0
    for name, values in before.items():
        finite = np.isfinite(values)
        if (finite != np.isfinite(after[name])).any():
            return "outputs changed: some are finite only before or only after"
        scale = np.abs(values[finite]).max(initial=np.finfo(float).tiny)
        change = max(change, np.abs(values[finite] - after[name][finite]).max(initial=0.0) / scale)
    return f"outputs of the network that the spec describes changed by at most {change:.1e}"


def _on_the_table(table: list[tuple[str, Convergence]]) -> list[str]:
    """Return notes on how the figures of the table were computed."""
    notes = []
    if table[0][1].segments > 1:
        notes.append(f"one chain: R-hat compares {table[0][1].segments} segments of it")
    if table[0][1].n and np.isnan(table[0][1].rhat):
        notes.append("R-hat and ESS need more draws that differ")
    for name, found in table:
        if found.n_used < found.n:
            notes.append(f"{name}: {found.n_used} of {found.n} values, evenly spaced")
    return notes
