"""What was measured, as plain values, and as variables of the group ``relabel``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel._util.versions import installed
from relabel.diagnostics.diagnosis import Diagnosis, Thresholds
from relabel.diagnostics.kernels.removal import KINDS
from relabel.diagnostics.kernels.unit_pairs import Pair
from relabel.diagnostics.kernels.widths import Widths
from relabel.diagnostics.questions import Answers
from relabel.spec.spec import SAMPLE_DIMS

__all__ = [
    "chain_names",
    "listed",
    "mode_numbers",
    "numbers_of",
    "pair_numbers",
    "plain",
    "with_findings",
]

Array = NDArray[Any]


# ---------------------------------------------------------------------- numbers


def numbers_of(answers: Answers, t: Thresholds) -> dict[str, Any]:
    """Everything that was measured, as plain values."""
    certainty, redundant, pairs = answers.certainty, answers.redundancy, answers.pairs
    widths = answers.sound_widths()
    return {
        "version": installed("posterior-relabel"),
        "confidence": {u: _list(answers.confidence(u)) for u in certainty},
        "ambiguous_draws": {
            u: float((c.unmoved[answers.sound] < t.ambiguous).mean()) for u, c in certainty.items()
        },
        "certainty": {u: c.how for u, c in certainty.items()},
        "sweeps": len(answers.aligned.notes["losses"]) if answers.was_aligned else None,
        **_structure(answers),
        "rhat": _statistics(answers, "rhat"),
        "ess": _statistics(answers, "ess"),
        **_chain_numbers(answers),
        "orbit": {u: found.summary() for u, found in answers.orbit.items()},
        "scale_law": {u: found.summary() for u, found in answers.scales.items()},
        "inputs": answers.inputs,
        "likelihood": None if answers.fitted is None else answers.fitted.how,
        "spare_units": {u: found.spare for u, found in widths.items() if answers.was_aligned},
        "effective_width": {u: _width(answers, u, found) for u, found in widths.items()},
        "duplicate_pairs": [
            pair_numbers(u, pair)
            for u, p in pairs.items()
            for pair in p.duplicated
            if not set(pair.slots) <= set(answers.sound_redundancy(u).spare)
        ],
        "pairs": [pair_numbers(u, pair) for u, p in pairs.items() for pair in p.pairs],
        "proximate_rank": {u: _rank_curve(answers, u) for u in redundant},
        "modes": [mode_numbers(answers, m) for m in range(len(answers.modes))],
        "slots": _slots(answers),
    }


def _structure(answers: Answers) -> dict[str, Any]:
    """What slots explain, beside shuffled ones and other starts."""
    null, agreement = answers.null, answers.agreement or {}
    starts = {u: _list(shares.mean(axis=1)) for u, shares in agreement.items()}
    if null is None:
        names = ("variance_explained", "variance_explained_null")
        unknown = dict.fromkeys([*names, "variance_explained_null_interval"])
        return unknown | {"variance_explained_units": {}, "start_agreement": starts}
    units = {u: {"draws": plain(v), "null": plain(s.mean())} for u, (v, s) in null.by_units.items()}
    return {
        "variance_explained": plain(null.explained),
        "variance_explained_null": plain(null.shuffled.mean()),
        "variance_explained_null_interval": [plain(x) for x in null.interval(null.shuffled)],
        "variance_explained_units": units,
        "start_agreement": starts,
    }


def _chain_numbers(answers: Answers) -> dict[str, Any]:
    """Chains that are flagged, and what is known of all."""
    chains, names = answers.chains, chain_names(answers)
    if chains is None:
        return {"chains_flagged": [], "chains": []}
    table = [
        {
            "chain": names[c],
            "lp_median": plain(chains.lp_median[c]),
            "function_distance": plain(chains.function_distance[c]),
            "flagged": chains.reasons.get(c),
        }
        for c in range(chains.n_chains)
    ]
    return {"chains_flagged": [names[c] for c in chains.reasons], "chains": table}


def _statistics(answers: Answers, name: str) -> dict[str, float | None]:
    """R-hat or ESS of everything; None where it was not computed."""
    kinds = ("weights_before", "weights_after", "invariant", "function", "lp")
    found = {kind: plain(getattr(c, name)) for kind, c in answers.convergence.items()}
    return dict.fromkeys(kinds) | found


def _width(answers: Answers, units: str, found: Widths) -> dict[str, Any]:
    known = answers.redundancy if units in answers.redundancy else answers.occupancy
    pmf = _list(found.width_pmf)
    return {"pmf": pmf, "median": found.median_width, "how": known[units].how}


def _rank_curve(answers: Answers, units: str) -> dict[str, Any] | None:
    curve = answers.redundancy[units].proximate
    if curve is None:
        return None
    low, middle, high = curve.summary()
    return {
        "epsilon": _list(curve.epsilon),
        "median": _list(middle),
        "low": _list(low),
        "high": _list(high),
    }


def pair_numbers(units: str, pair: Pair) -> dict[str, Any]:
    """What is known of a pair of slots."""
    return {
        "units": units,
        "slots": list(pair.slots),
        "kind": pair.kind,
        "share": pair.copies,
        "mergeable": pair.mergeable,
        "merge_loss": plain(pair.merge_loss),
        "distance": plain(pair.distance),
        "correlation": plain(pair.correlation),
        "bayes_factors": [
            {
                "tau": c.tau,
                "factor": plain(c.factor),
                "low": plain(c.low),
                "high": plain(c.high),
            }
            for c in pair.closeness
        ],
    }


def mode_numbers(answers: Answers, number: int) -> dict[str, Any]:
    """What is known of a mode."""
    mode, names = answers.modes[number], chain_names(answers)
    assert answers.mode is not None
    rows = answers.mode == number
    confidence = {u: _list(answers.mean_label(u, rows)) for u in answers.certainty}
    return {
        "mode": number,
        "n_draws": mode.n_draws,
        "chains": [names[c] for c in mode.chains],
        "lp_median": plain(mode.lp_median),
        "rhat": plain(mode.rhat),
        "dip_p": plain(mode.dip_p),
        "weight_distance": plain(mode.weight_distance),
        "function_distance": plain(mode.function_distance),
        "equivalent_to": mode.equivalent_to,
        "cause": mode.cause,
        "confidence": confidence,
    }


def _slots(answers: Answers) -> list[dict[str, Any]]:
    """One row for every slot of every set of units."""
    rows = []
    occupied = answers.sound_widths() if answers.was_aligned else {}
    for units, size in answers.aligned.bound.sizes.items():
        confidence = answers.confidence(units) if units in answers.certainty else [None] * size
        known = units in answers.redundancy and answers.was_aligned
        found = answers.sound_redundancy(units) if known else None
        for slot in range(size):
            row: dict[str, Any] = {"units": units, "slot": slot, "confidence": confidence[slot]}
            if found is not None:
                kinds = {name: float(share[slot]) for name, share in found.kind_shares.items()}
                row |= {
                    "spare": slot in found.spare,
                    "spare_alone": slot in found.spare_alone,
                    "removal_loss": plain(np.median(found.removal_loss[:, slot])),
                    "kind": max(kinds, key=lambda name: kinds[name]),
                }
            elif units in occupied:
                share = float(1 - occupied[units].eliminated[:, slot].mean())
                row |= {"spare": slot in occupied[units].spare, "occupied": share}
            rows.append({k: plain(v) if isinstance(v, float) else v for k, v in row.items()})
    return rows


def chain_names(answers: Answers) -> list[Any]:
    """Coordinates of the chains, or their numbers."""
    posterior = answers.aligned.groups["posterior"]
    names = posterior.coords["chain"].values if "chain" in posterior.coords else None
    if names is None:
        return list(range(posterior.sizes["chain"]))
    return [_name(name) for name in names]


def _name(name: Any) -> Any:
    plain = name.item() if isinstance(name, np.generic) else name
    return plain if isinstance(plain, (int, str)) else str(plain)


def plain(value: Any) -> float | None:
    """A plain number; None where there is none."""
    number = float(value) if value is not None else float("nan")
    return number if np.isfinite(number) else None


def _list(values: Array) -> list[float | None]:
    return [plain(value) for value in values]


def listed(things: Sequence[Any], *, most: int = 10, between: str = ", ") -> str:
    """Name the first of some things, and how many more there are."""
    more = f"{between}and {len(things) - most} more" if len(things) > most else ""
    return between.join(map(str, things[:most])) + more


# ---------------------------------------------------------------------- the group


def with_findings(answers: Answers, diagnosis: Diagnosis) -> xr.Dataset:
    """Return the group ``relabel`` with what was found; earlier findings are replaced."""
    own = answers.aligned.groups["relabel"]
    notes = json.loads(own.attrs["relabel"])
    own = own.drop_vars([name for name in notes.get("added", ()) if name in own])
    found = _found_variables(answers)
    notes |= {"diagnosis": diagnosis.to_dict(), "added": sorted(found)}
    own = own.assign(found)
    own.attrs = {**own.attrs, "relabel": json.dumps(notes)}
    return own


def _found_variables(answers: Answers) -> dict[str, xr.Variable]:
    lay_out, draws = answers.aligned.by_chain, answers.aligned.draws
    found: dict[str, xr.Variable] = {}

    def add(name: str, values: Array, dims: tuple[str, ...], about: str, **attrs: Any) -> None:
        found[name] = xr.Variable(dims, values, {"long_name": about, "units": "1"} | attrs)

    for u, c in answers.certainty.items():
        slots = (*SAMPLE_DIMS, u)
        about = "probability that the unit and sign in this slot are right"
        add(f"{u}_label_probability", lay_out(c.label), slots, about)
        about = "probability of the labels, against the best alternative that changes this slot"
        add(f"{u}_margin_probability", lay_out(c.pair), slots, about)
        about = "probability that all labels of the draw are right"
        add(f"{u}_draw_probability", lay_out(c.unmoved), SAMPLE_DIMS, about)
    for u, r in answers.redundancy.items():
        slots = (*SAMPLE_DIMS, u)
        nats = "nats" if answers.fitted is not None and answers.fitted.nats else "1"
        about = "divergence of the outputs when this unit is left out and the others are refitted"
        add(f"{u}_removal_loss", lay_out(r.removal_loss), slots, about, units=nats)
        flags = np.arange(-1, len(KINDS), dtype=np.int8)
        meanings = {"flag_values": flags, "flag_meanings": " ".join(("none", *KINDS))}
        kind = draws.spread(r.kind.astype(np.int8), -1)
        add(f"{u}_kind", kind, slots, "what the unit does on the inputs", **meanings)
    sound = answers.sound_widths()
    for u, w in (answers.redundancy | answers.occupancy).items():
        width = draws.spread(w.effective_width.astype(np.int16), -1)
        about = "number of units the draw needs"
        if u in answers.occupancy:
            about = "number of units that are not empty"
        add(f"{u}_effective_width", width, SAMPLE_DIMS, about)
        spare = np.isin(np.arange(w.eliminated.shape[1]), sound[u].spare)
        add(f"{u}_spare", spare.astype(np.int8), (u,), "1 where most draws do without this slot")
    if answers.mode is not None:
        mode = draws.spread(answers.mode.astype(np.int16), -1)
        add("mode", mode, SAMPLE_DIMS, "mode the draw sits in; -1 where it was left out")
    if answers.chains is not None:
        flagged = np.isin(np.arange(answers.chains.n_chains), list(answers.chains.reasons))
        about = "1 where the chain is not in the mode of the others, or has not settled"
        add("chain_flagged", flagged.astype(np.int8), ("chain",), about)
    return found
