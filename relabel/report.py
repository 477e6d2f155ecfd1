"""The account of an alignment: what was done, and how the draws look before and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.align import provenance
from relabel.containers import sharing, unpack
from relabel.diagnostics.convergence import Convergence, convergence
from relabel.errors import SpecError
from relabel.network import Network
from relabel.probes import find_inputs
from relabel.solve import STARTS
from relabel.spec import SAMPLE_DIMS, Bound, Spec

__all__ = ["Account", "account", "draw_outputs"]

Array = NDArray[Any]

_N_POINTS = 20


@dataclass(frozen=True)
class Account:
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


def account(before: Any, aligned: Any) -> Account:
    """Compare draws before and after their alignment.

    Parameters
    ----------
    before, aligned : InferenceData, DataTree or Dataset
        What went into :func:`relabel.align`, and what came out.

    Returns
    -------
    Account
    """
    notes = provenance(aligned)
    old, new = unpack(before), unpack(aligned)
    bound = Spec.from_dict(notes["spec"]).bind(sharing(new))
    table = [
        ("weights before", convergence(_weights(bound, old))),
        ("weights after", convergence(_weights(bound, new))),
    ]
    remarks = list(notes["warnings"])
    outputs, where = draw_outputs(bound, old, notes["options"]["inputs"])
    if outputs is not None:
        after, _ = draw_outputs(bound, new, notes["options"]["inputs"])
        assert after is not None
        table.append(("outputs", convergence(outputs.values())))
        remarks.append(_unchanged(outputs, after))
    remarks.append(where)
    remarks += _on_the_table(table)
    return Account(_facts(notes, bound, new), table, [remark for remark in remarks if remark])


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
    facts.append(("margin", _worst_margin(bound, own)))
    return facts


def _worst_margin(bound: Bound, own: xr.Dataset) -> str:
    """The least certain label, and where it is."""
    worst = (np.inf, "")
    for units in bound.sizes:
        margin = own[f"{units}_margin"].transpose(*SAMPLE_DIMS, units)
        values = np.where(np.isnan(margin.values), np.inf, margin.values)
        place = np.unravel_index(values.argmin(), values.shape)
        labels = [
            own[dim].values[i] if dim in own.coords else i
            for dim, i in zip(SAMPLE_DIMS, place[:2], strict=True)
        ]
        found = f"slot {place[2]} of {units}, chain {labels[0]}, draw {labels[1]}"
        worst = min(worst, (float(values[place]), found))
    return f"worst {worst[0]:.3g} ({worst[1]})" if worst[1] else "none: nothing can be exchanged"


def _weights(bound: Bound, groups: Mapping[str, xr.Dataset]) -> list[Array]:
    """Every variable of the posterior that relabelling can change."""
    shifted = {shift.bias for shift in bound.shifts}
    return [
        groups["posterior"][v.name].transpose(*SAMPLE_DIMS, ...).values
        for v in bound.measured()
        if v.unit_axes() or v in shifted
    ]


def draw_outputs(
    bound: Bound, groups: Mapping[str, xr.Dataset], inputs: str | None
) -> tuple[dict[str, Array] | None, str]:
    """Evaluate the network of every draw at some of the inputs.

    Parameters
    ----------
    bound : Bound
    groups : mapping of str to Dataset
    inputs : str or None
        Address of the inputs that the alignment used, if any.

    Returns
    -------
    dict of str to ndarray of shape (chain, draw, n, size), or None
        None where there is no network, or no inputs.
    str
        Which inputs were used, or why none.
    """
    try:
        network = Network.of(bound)
    except SpecError:
        return None, ""
    if inputs is None or inputs == "given":
        found = find_inputs(groups, network.n_inputs)
        if not found:
            return None, "outputs were not looked at: no inputs are stored with the draws"
        named = ", ".join(found)
        return None, f"outputs were not looked at: several variables could be inputs ({named})"
    group, _, name = inputs.rpartition("/")
    values = groups[group][name].values
    points = values[np.unique(np.linspace(0, len(values) - 1, _N_POINTS).round().astype(int))]
    posterior = groups["posterior"]
    shape = tuple(posterior.sizes[dim] for dim in SAMPLE_DIMS)
    arrays = {}
    for variable in bound.measured():
        stored = posterior[variable.name].transpose(*SAMPLE_DIMS, ...).values
        arrays[variable.name] = stored.reshape(-1, *stored.shape[2:])
    outputs = network.outputs(arrays, points)
    return (
        {name: value.reshape(*shape, *value.shape[1:]) for name, value in outputs.items()},
        f"inputs: {inputs}",
    )


def _unchanged(before: Mapping[str, Array], after: Mapping[str, Array]) -> str:
    """How far relabelling changed the function, which it must not."""
    change = 0.0
    for name, values in before.items():
        finite = np.isfinite(values) & np.isfinite(after[name])
        scale = np.abs(values[finite]).max(initial=np.finfo(float).tiny)
        change = max(change, np.abs(values - after[name])[finite].max(initial=0.0) / scale)
    return f"outputs changed by at most {change:.1e} of their size"


def _on_the_table(table: list[tuple[str, Convergence]]) -> list[str]:
    """How the figures of the table came about."""
    notes = []
    if table[0][1].segments > 1:
        notes.append(f"one chain: R-hat compares {table[0][1].segments} segments of it")
    for name, found in table:
        if found.n_used < found.n:
            notes.append(f"{name}: {found.n_used} of {found.n} values, evenly spaced")
    return notes
