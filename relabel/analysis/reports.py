"""The account of an alignment: what was done, and how the draws look before and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.alignment.provenance import stored_elements
from relabel.data.containers import sharing, unpack
from relabel.data.provenance import Provenance
from relabel.data.roles import find_inputs
from relabel.diagnostics.kernels.quantities import N_POINTS, weights_of
from relabel.diagnostics.kernels.rhat_ess import Convergence, convergence
from relabel.errors import SpecError
from relabel.groups.elements import Monomial
from relabel.matching.criteria import rebuilt
from relabel.matching.solve import STARTS
from relabel.models.network import Network, outputs_of
from relabel.spec.arrays import SAMPLE_DIMS
from relabel.spec.spec import Bound, Spec

__all__ = ["AlignmentReport", "alignment_report", "as_planted", "shown"]

Array = NDArray[Any]

_APART = 1.1  # R-hat of weights after alignment, above which chains are named


@dataclass(frozen=True)
class AlignmentReport:
    """What :func:`account` found.

    Attributes
    ----------
    facts : list of (str, str)
        A word and a line each.
    table : list of (str, Convergence)
        Weights before, weights after, outputs.
    notes : list of str
        What the user has to know beside.
    """

    facts: list[tuple[str, str]]
    table: list[tuple[str, Convergence]]
    notes: list[str]

    def __str__(self) -> str:
        """Lay the account out as plain lines."""
        width = max(len(word) for word, _ in self.facts)
        lines = [f"{word:<{width}}  {line}" for word, line in self.facts]
        lines.append(f"{'':<14}  max R-hat  min ESS")
        for name, found in self.table:
            rhat, ess = shown(found.rhat, ".3f"), shown(found.ess, ".0f")
            lines.append(f"{name:<14}  {rhat:<9}  {ess}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def shown(value: float, form: str) -> str:
    """Format a number; a dash where there is none."""
    return "–" if np.isnan(value) else format(value, form)


def alignment_report(before: Any, aligned: Any) -> AlignmentReport:
    """Compare draws before and after their alignment.

    Parameters
    ----------
    before, aligned : InferenceData, DataTree or Dataset
        What went into :func:`relabel.align`, and what came out.

    Returns
    -------
    AlignmentReport
        Prints as plain lines.

    Examples
    --------
    >>> import relabel
    >>> from relabel.simulate import network
    >>> simulated = network((2, 3, 1), "tanh", chains=2, draws=50)
    >>> aligned = relabel.align(simulated.data, simulated.spec)
    >>> found = relabel.stats.alignment_report(simulated.data, aligned)
    >>> found.facts[0]
    ('units', 'h: 3 × tanh (signed permutation)')
    """
    notes = Provenance.of(aligned).as_dict()
    old, new = unpack(before), unpack(aligned)
    bound = Spec.from_dict(notes["spec"]).bind(sharing(new))
    table = [
        ("weights before", convergence(weights_of(bound, old["posterior"]))),
        ("weights after", convergence(weights_of(bound, new["posterior"]))),
    ]
    remarks = [*notes["warnings"], _on_allocations(bound, notes["criterion"])]
    where = notes["options"]["inputs"]
    outputs = _outputs(bound, old, where)
    after = _outputs(bound, new, where)
    if outputs is not None and after is not None:
        table.append(("outputs", convergence(outputs.values())))
        remarks.append(_unchanged(outputs, after))
    remarks.append(_on_the_inputs(bound, old, where))
    remarks += _on_the_table(table)
    remarks += _on_the_chains(table, new["relabel"])
    return AlignmentReport(
        _facts(notes, bound, new), table, [remark for remark in remarks if remark]
    )


def as_planted(aligned: Any) -> float | None:
    """Share of labels and signs that undo the scrambles stored with the draws.

    Parameters
    ----------
    aligned : InferenceData, DataTree or Dataset
        ``constant_data`` may hold ``scramble_perm1``, ``scramble_sign1``, ... of (chain, unit),
        one pair for each set of units: unit *k* of a chain started as unit ``perm[k]`` of one
        network, times ``sign[k]``.

    Returns
    -------
    float or None
        Up to one relabelling of all draws, which nothing determines; None without scrambles.
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


def _on_allocations(bound: Bound, described: Mapping[str, Any]) -> str:
    """Point to criteria that compare allocations, where there are some and they were not used."""
    labels = [v.address for v in bound.variables if v.labels_of is not None]
    prob = [v.address for v in bound.variables if v.group == "allocation" and v.labels_of is None]
    criterion = rebuilt(described).criterion
    if not (labels or prob) or criterion is None or criterion.reads:
        return ""
    named = [("ecr-iterative-1", "z", labels), ("stephens", "prob", prob)]
    offers = [f"--criterion {c} --set {kind}={found[0]}" for c, kind, found in named if found]
    return (
        f"{', '.join(labels + prob)} was not compared: where units overlap, criteria that do tell "
        f"them apart better ({' or '.join(offers)}); relabel compare shows where they differ"
    )


def _on_the_chains(table: list[tuple[str, Convergence]], own: xr.Dataset) -> list[str]:
    """Point out chains that no relabelling brings together."""
    after = table[1][1].rhat
    if not after > _APART:
        return []
    if own.sizes["chain"] == 1:
        alone = (
            f"segments of the chain still differ after alignment (R-hat {after:.3f}): it moves "
            "between modes or has not converged; where the draws are networks trained apart, which "
            "are no chain, this means nothing"
        )
        return [alone]
    chains = own["chain"].values if "chain" in own.coords else range(own.sizes["chain"])
    means = own["loss"].transpose(*SAMPLE_DIMS).mean("draw").values
    listed = ", ".join(f"{c}: {loss:.3g}" for c, loss in zip(chains, means, strict=True))
    note = (
        f"chains still differ after alignment (R-hat {after:.3f}): where the outputs differ too, "
        f"they sit in different modes; mean loss by chain {listed}"
    )
    return [note]


def _facts(
    notes: dict[str, Any], bound: Bound, groups: Mapping[str, xr.Dataset]
) -> list[tuple[str, str]]:
    """The lines above the table."""
    own = groups["relabel"]
    facts = [
        ("units", f"{name}: {bound.sizes[name]} × {symmetry} ({bound.group(name).label})")
        for name, symmetry in bound.spec.units.items()
    ]
    chains, draws = (own.sizes[dim] for dim in SAMPLE_DIMS)
    left_out = int(own["excluded"].sum()) if "excluded" in own else 0
    moved = f"{notes['n_moved']} of {chains * draws - left_out} relabelled"
    facts.append(("draws", f"{chains} × {draws} (chain × draw), {moved}"))
    if "no_part_in_reference" in notes:
        left = ", ".join(str(_chain(own, c)) for c in notes["no_part_in_reference"])
        facts.append(
            ("reference", f"without chains {left}" if left else "of all chains: none flagged")
        )
    options = ", ".join(
        f"{k}={v}" for k, v in notes["criterion"].items() if k != "name" and v is not None
    )
    facts.append(("criterion", f"{notes['criterion']['name']} ({options})"))
    sweeps = len(notes["losses"])
    took = "1 sweep" if sweeps == 1 else f"{sweeps} sweeps"
    before, after = notes["loss_before"], notes["losses"][-1]
    facts.append(("loss", f"{before:.6g} before, {after:.6g} after ({took})"))
    codes, counts = np.unique(own["start"].values, return_counts=True)
    won = [f"{STARTS[c]} {n}" for c, n in zip(codes, counts, strict=True) if c >= 0]
    facts.append(("starts", ", ".join(won)))
    facts += [("margin", _margins(units, own)) for units in bound.sizes]
    return facts


def _chain(own: xr.Dataset, position: int) -> Any:
    return own["chain"].values[position] if "chain" in own.coords else position


def _margins(units: str, own: xr.Dataset) -> str:
    """The least certain label of one set of units, where it is, and how certain most are."""
    margin = own[f"{units}_margin"].transpose(*SAMPLE_DIMS, units)
    values = np.where(np.isnan(margin.values), np.inf, margin.values)
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


def _outputs(
    bound: Bound, groups: Mapping[str, xr.Dataset], inputs: str | None
) -> dict[str, Array] | None:
    """Evaluate the network of every draw at some of the inputs; None without network or inputs."""
    network = _network(bound)
    if network is None or inputs in (None, "given"):
        return None
    group, _, name = str(inputs).rpartition("/")
    values = groups[group][name].values
    points = values[np.unique(np.linspace(0, len(values) - 1, N_POINTS).round().astype(int))]
    return outputs_of(network, bound, groups["posterior"], points)


def _network(bound: Bound) -> Network | None:
    try:
        return Network.of(bound)
    except SpecError:
        return None


def _on_the_inputs(bound: Bound, groups: Mapping[str, xr.Dataset], inputs: str | None) -> str:
    """Which inputs were used, and how they were come by; or why none were."""
    network = _network(bound)
    if network is None:
        return ""
    found = find_inputs(groups, network.n_inputs)
    if inputs == "given":
        return "outputs were not looked at: the inputs were given as an array"
    if inputs is not None:
        alone = ", the only variable that fits" if found == [inputs] else ""
        return f"inputs: {inputs}{alone}"
    if not found:
        return "outputs were not looked at: no inputs are stored with the draws"
    if len(found) == 1:
        return f"outputs were not looked at: the inputs {found[0]} were not to be used"
    named = ", ".join(found)
    return f"outputs were not looked at: several variables could be inputs ({named}); name one"


def _unchanged(before: Mapping[str, Array], after: Mapping[str, Array]) -> str:
    """How far relabelling changed the function, which it must not."""
    change = 0.0
    for name, values in before.items():
        finite = np.isfinite(values)
        if (finite != np.isfinite(after[name])).any():
            return "outputs changed: some are finite only before or only after"
        scale = np.abs(values[finite]).max(initial=np.finfo(float).tiny)
        change = max(change, np.abs(values[finite] - after[name][finite]).max(initial=0.0) / scale)
    return f"outputs of the network that the spec describes changed by at most {change:.1e}"


def _on_the_table(table: list[tuple[str, Convergence]]) -> list[str]:
    """How the figures of the table came about."""
    notes = []
    if table[0][1].segments > 1:
        notes.append(f"one chain: R-hat compares {table[0][1].segments} segments of it")
    if table[0][1].n and np.isnan(table[0][1].rhat):
        notes.append("R-hat and ESS need more draws that differ")
    for name, found in table:
        if found.n_used < found.n:
            notes.append(f"{name}: {found.n_used} of {found.n} values, evenly spaced")
    return notes
