"""From answers to a verdict: what is found, how grave it is, and what to do about it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.diagnosis import Diagnosis, Finding, Thresholds
from relabel.diagnostics.pairs import Pair
from relabel.diagnostics.redundancy import KINDS
from relabel.questions import Answers
from relabel.spec import SAMPLE_DIMS
from relabel.versions import installed

__all__ = ["diagnosis_of", "with_findings"]

Array = NDArray[Any]

_GRAVITY = ("error", "warning", "info")


def diagnosis_of(answers: Answers, thresholds: Thresholds) -> Diagnosis:
    """Weigh the answers.

    Parameters
    ----------
    answers : Answers
    thresholds : Thresholds

    Returns
    -------
    Diagnosis
        Labels are trustworthy if nothing that was found is an error: the draws were aligned, the
        slots explain more than those of shuffled units, other starts lead to the same labels, and
        every slot has a label that can be believed.
    """
    findings = [
        *_on_labels(answers, thresholds),
        *_on_chains(answers),
        *_on_units(answers),
        *_on_modes(answers),
        *_on_the_sampler(answers, thresholds),
        *_remarks(answers),
    ]
    findings.sort(key=lambda finding: _GRAVITY.index(finding.severity))
    sound = all(finding.severity != "error" for finding in findings)
    return Diagnosis(sound, _numbers(answers, thresholds), tuple(findings))


# ---------------------------------------------------------------------- labels


def _on_labels(answers: Answers, t: Thresholds) -> Iterator[Finding]:
    """Findings that make labels unbelievable."""
    if not answers.was_aligned:
        yield Finding(
            "not-aligned",
            "error",
            "the draws were not aligned: labels mean nothing yet",
            remedy="align them (relabel.align), then diagnose again",
        )
        return
    yield from _null(answers, t)
    yield from _starts(answers, t)
    for units in answers.aligned.bound.sizes:
        if units not in answers.certainty:
            yield Finding(
                "certainty-unknown",
                "error",
                f"nothing can be said of the certainty of the labels of {units!r}",
                remedy="see the open questions",
            )
            continue
        yield from _loose_slots(answers, units, t)
    notes = answers.aligned.notes
    n_sweeps = len(notes["losses"])
    if n_sweeps > t.sweeps or not notes["converged"]:
        end = "" if notes["converged"] else " and had not converged"
        yield Finding(
            "many-sweeps",
            "info",
            f"the alignment took {n_sweeps} sweeps{end}: diffuse draws do that",
            {"sweeps": n_sweeps, "converged": notes["converged"]},
        )


def _null(answers: Answers, t: Thresholds) -> Iterator[Finding]:
    """Slots that explain no more than those of shuffled units."""
    null, sizes = answers.null, answers.aligned.bound.sizes
    if null is None:
        if max(sizes.values()) > 1:
            yield Finding(
                "null-unknown",
                "error",
                "too few draws to compare with shuffled ones",
                {"n_draws": int(answers.sound.sum())},
                "draw more",
            )
        return
    for units, (explained, shuffled) in null.by_units.items():
        if sizes[units] < 2:
            continue
        evidence = {
            "units": units,
            "variance_explained": _plain(explained),
            "variance_explained_null": _plain(shuffled.mean()),
            "threshold": t.null_gap,
        }
        if not np.isfinite(explained):
            yield Finding(
                "no-variance",
                "error",
                f"the units {units!r} are all the same in all draws: nothing tells labels apart",
                evidence,
                "look at the draws: a sampler that moves does not return this",
            )
        elif not explained - shuffled.mean() > t.null_gap:
            yield Finding(
                "null",
                "error",
                f"labels of {units!r} mean nothing: slots explain {explained:.2f} of the variance, "
                f"and {shuffled.mean():.2f} if units are shuffled and aligned again",
                evidence,
                "use what labels do not matter to: outputs, sums over units, effective widths",
            )


def _starts(answers: Answers, t: Thresholds) -> Iterator[Finding]:
    """Labels that could be believed, but for their dependence on the start."""
    for units, shares in (answers.agreement or {}).items():
        firm = np.ones(shares.shape[1], bool)
        if units in answers.certainty:
            firm = answers.confidence(units) >= t.confidence
        agreement = shares[:, firm].mean(axis=1) if firm.any() else np.ones(1)
        if agreement.size and np.median(agreement) < t.agreement:
            yield Finding(
                "starts-disagree",
                "error",
                f"aligned from other first draws, {np.median(agreement):.0%} of the labels of "
                f"{units!r} come out alike",
                {"units": units, "agreement": agreement.tolist(), "threshold": t.agreement},
                "believe no label that changes with the start; another criterion may decide "
                "(relabel.Gaussian)",
            )


def _loose_slots(answers: Answers, units: str, t: Thresholds) -> Iterator[Finding]:
    confidence = answers.confidence(units)
    loose = [int(k) for k in np.flatnonzero(~(confidence >= t.confidence))]
    draws = answers.certainty[units].unmoved[answers.sound]
    ambiguous = float((draws < t.ambiguous).mean())
    if loose:
        firm = sorted(set(range(len(confidence))) - set(loose))
        rest = f"those of slots {_listed(firm)} can" if firm else "so no label can"
        spare = set(answers.sound_redundancy(units).spare) if units in answers.redundancy else set()
        why = "; spare units have no label" if spare & set(loose) else ""
        named = _listed([f"{k} ({confidence[k]:.2f})" for k in loose])
        yield Finding(
            "loose-slots",
            "error",
            f"units {units!r}: labels of slots {named} cannot be believed (in brackets how "
            f"probable it is that they are right{why}); {rest}",
            {"units": units, "slots": loose, "confidence": confidence.tolist()},
            f"use the weights of slots {_listed(firm)}" if firm else "use outputs, not weights",
        )
    elif ambiguous > 1 - t.ambiguous:
        yield Finding(
            "ambiguous-draws",
            "warning",
            f"units {units!r}: {ambiguous:.0%} of the draws have a label that is not certain",
            {"units": units, "share": ambiguous},
            f"weigh draws by {units}_draw_probability, or look at those that are certain",
        )


# ---------------------------------------------------------------------- chains and modes


def _on_chains(answers: Answers) -> Iterator[Finding]:
    chains = answers.chains
    if chains is None or not chains.reasons:
        return
    names = _chain_names(answers)
    reasons = {str(names[c]): why for c, why in chains.reasons.items()}
    told = _listed([f"{c}: {why}" for c, why in reasons.items()], most=5, between="; ")
    evidence = {"chains": [names[c] for c in chains.reasons], "reasons": reasons}
    if len(chains.reasons) == chains.n_chains:
        yield Finding(
            "all-chains-flagged",
            "error",
            f"every chain is flagged: {told}",
            evidence,
            "run the sampler longer, or from better starting points",
        )
        return
    yield Finding(
        "chains-flagged",
        "warning",
        f"chains {_listed(list(reasons))} do not sit in the mode of the others: {told}",
        evidence,
        "look at them apart (variable mode); align with exclude_flagged=True, so that they have no "
        "part in the reference. How many chains sit in a mode says nothing of its mass",
    )


def _on_modes(answers: Answers) -> Iterator[Finding]:
    names = _chain_names(answers)
    for number, mode in enumerate(answers.modes):
        if number == 0:
            continue
        listed = _listed([names[c] for c in mode.chains])
        where = f"mode {number} ({mode.n_draws} draws, chains {listed})"
        evidence = _mode_numbers(answers, number)
        if mode.equivalent_to is not None:
            yield Finding(
                "equivalent-modes",
                "warning",
                f"{where} has the same outputs as mode {mode.equivalent_to}: {mode.cause}",
                evidence,
                "declare the symmetry in the spec, if it is one",
            )
        else:
            yield Finding(
                "modes",
                "warning",
                f"{where} is another mode, which no relabelling of the units explains",
                evidence,
                "treat modes apart; weights must not be averaged over them",
            )


# ---------------------------------------------------------------------- units


def _on_units(answers: Answers) -> Iterator[Finding]:
    for units in answers.redundancy:
        found = answers.sound_redundancy(units)
        pmf = found.width_pmf
        width = found.likely_width
        size = found.eliminated.shape[1]
        if width < size:
            spare = found.spare if answers.was_aligned else []
            which = f": slots {_listed(spare)}" if spare else ""
            yield Finding(
                "spare-units",
                "warning",
                f"{width} of {size} units {units!r} are enough in most draws{which}",
                {"units": units, "slots": spare, "effective_width": pmf.tolist()},
                "a smaller network describes the data; spare units have no stable label",
            )
    for units, pairs in answers.pairs.items():
        unneeded = set(answers.sound_redundancy(units).spare)
        for pair in pairs.duplicated:
            if set(pair.slots) <= unneeded:
                continue  # two units that are not needed
            yield Finding(
                "duplicates",
                "warning",
                f"units {units!r}: slots {pair.slots[0]} and {pair.slots[1]} are one unit twice "
                f"({pair.kind}) in {pair.copies:.0%} of the draws",
                _pair_numbers(units, pair),
                "where the two coincide their labels are exchangeable; relabel.reduce merges them",
            )


# ---------------------------------------------------------------------- the sampler


def _on_the_sampler(answers: Answers, t: Thresholds) -> Iterator[Finding]:
    rhat = {name: found.rhat for name, found in answers.convergence.items()}
    after = rhat.get("weights_after_unflagged", rhat.get("weights_after", np.nan))
    function = rhat.get("function", np.nan)
    if after > t.rhat and answers.was_aligned:
        if function > t.rhat:
            why = "and so have outputs: chains sit in different modes, or have not run long enough"
        elif np.isfinite(function):
            why = "outputs have not: what is left is in the labels, or in spare units"
        else:
            why = "whether outputs have too is not known"
        yield Finding(
            "rhat-weights",
            "warning" if function > t.rhat else "info",
            f"weights have an R-hat of {after:.3f} after alignment; {why}",
            {"rhat_weights": _plain(after), "rhat_function": _plain(function)},
        )
    for units, found in answers.orbit.items():
        if found.p_value < t.alpha:
            yield Finding(
                "orbit-not-uniform",
                "warning",
                f"units {units!r}: chains share copies of the mode more often than by chance "
                f"(p = {found.p_value:.2g})",
                found.summary(),
                "chains started near each other, or prior or sampler tell the units apart: that "
                "they agree proves less than it seems",
            )
    for units, law in answers.scales.items():
        if law.p_value < t.alpha:
            yield Finding(
                "scale-law",
                "warning",
                f"units {units!r}: scales do not follow their exact law (p = {law.p_value:.2g}), "
                "so the sampler has not explored them, or the priors are others",
                law.summary(),
                "run longer; relabel.redraw_scale draws scales exactly",
            )


def _remarks(answers: Answers) -> Iterator[Finding]:
    """What was assumed, and what stayed open."""
    excluded = int(answers.aligned.draws.excluded.sum())
    if excluded:
        yield Finding(
            "excluded", "info", f"{excluded} draws are not finite and take no part", {"n": excluded}
        )
    if answers.aligned.draws.excluded.shape[0] == 1:
        yield Finding(
            "one-chain",
            "info",
            "there is one chain: R-hat compares parts of it, and other modes cannot be seen",
            remedy="run more chains, from other starting points",
        )
    if answers.fitted is not None:
        yield Finding("likelihood", "info", answers.fitted.how, {"inputs": answers.inputs})
    for question in answers.open:
        yield Finding(
            "open",
            "info",
            f"not answered: {question.question}, since {question.why}",
            {"question": question.question},
            question.remedy,
        )


# ---------------------------------------------------------------------- numbers


def _numbers(answers: Answers, t: Thresholds) -> dict[str, Any]:
    """Everything that was measured, as plain values."""
    null, names = answers.null, _chain_names(answers)
    chains = answers.chains
    flagged = [] if chains is None else [names[c] for c in chains.reasons]
    shuffled = None if null is None else null.shuffled
    return {
        "version": installed("posterior-relabel"),
        "confidence": {u: _list(answers.confidence(u)) for u in answers.certainty},
        "ambiguous_draws": {
            u: float((c.unmoved[answers.sound] < t.ambiguous).mean())
            for u, c in answers.certainty.items()
        },
        "certainty": {u: c.how for u, c in answers.certainty.items()},
        "variance_explained": None if null is None else _plain(null.explained),
        "variance_explained_null": None if shuffled is None else _plain(shuffled.mean()),
        "variance_explained_null_interval": None
        if null is None
        else [_plain(end) for end in null.interval(null.shuffled)],
        "variance_explained_units": {}
        if null is None
        else {
            u: {"draws": _plain(v), "null": _plain(s.mean())} for u, (v, s) in null.by_units.items()
        },
        "start_agreement": {
            u: _list(shares.mean(axis=1)) for u, shares in (answers.agreement or {}).items()
        },
        "rhat": _statistics(answers, "rhat"),
        "ess": _statistics(answers, "ess"),
        "chains_flagged": flagged,
        "chains": [] if chains is None else _chain_table(answers),
        "orbit": {u: found.summary() for u, found in answers.orbit.items()},
        "scale_law": {u: found.summary() for u, found in answers.scales.items()},
        "inputs": answers.inputs,
        "likelihood": None if answers.fitted is None else answers.fitted.how,
        "spare_units": {
            u: answers.sound_redundancy(u).spare for u in answers.redundancy if answers.was_aligned
        },
        "effective_width": {u: _width(answers, u) for u in answers.redundancy},
        "duplicate_pairs": [
            _pair_numbers(u, pair)
            for u, p in answers.pairs.items()
            for pair in p.duplicated
            if not set(pair.slots) <= set(answers.sound_redundancy(u).spare)
        ],
        "pairs": [_pair_numbers(u, pair) for u, p in answers.pairs.items() for pair in p.pairs],
        "proximate_rank": {u: _rank_curve(answers, u) for u in answers.redundancy},
        "modes": [_mode_numbers(answers, m) for m in range(len(answers.modes))],
        "slots": _slots(answers),
    }


def _statistics(answers: Answers, name: str) -> dict[str, float | None]:
    """R-hat or ESS of everything; None where it was not computed."""
    kinds = ("weights_before", "weights_after", "invariant", "function", "lp")
    found = {kind: _plain(getattr(c, name)) for kind, c in answers.convergence.items()}
    return dict.fromkeys(kinds) | found


def _width(answers: Answers, units: str) -> dict[str, Any]:
    found = answers.sound_redundancy(units)
    pmf = _list(found.width_pmf)
    return {"pmf": pmf, "median": found.median_width, "how": found.how}


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


def _pair_numbers(units: str, pair: Pair) -> dict[str, Any]:
    return {
        "units": units,
        "slots": list(pair.slots),
        "kind": pair.kind,
        "share": pair.copies,
        "mergeable": pair.mergeable,
        "merge_loss": _plain(pair.merge_loss),
        "distance": _plain(pair.distance),
        "correlation": _plain(pair.correlation),
        "bayes_factors": [
            {
                "tau": c.tau,
                "factor": _plain(c.factor),
                "low": _plain(c.low),
                "high": _plain(c.high),
            }
            for c in pair.closeness
        ],
    }


def _mode_numbers(answers: Answers, number: int) -> dict[str, Any]:
    mode, names = answers.modes[number], _chain_names(answers)
    return {
        "mode": number,
        "n_draws": mode.n_draws,
        "chains": [names[c] for c in mode.chains],
        "lp_median": _plain(mode.lp_median),
        "rhat": _plain(mode.rhat),
        "dip_p": _plain(mode.dip_p),
        "weight_distance": _plain(mode.weight_distance),
        "function_distance": _plain(mode.function_distance),
        "equivalent_to": mode.equivalent_to,
        "cause": mode.cause,
    }


def _chain_table(answers: Answers) -> list[dict[str, Any]]:
    chains, names = answers.chains, _chain_names(answers)
    assert chains is not None
    return [
        {
            "chain": names[c],
            "lp_median": _plain(chains.lp_median[c]),
            "function_distance": _plain(chains.function_distance[c]),
            "flagged": chains.reasons.get(c),
        }
        for c in range(chains.n_chains)
    ]


def _slots(answers: Answers) -> list[dict[str, Any]]:
    """One row for every slot of every set of units."""
    rows = []
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
                    "removal_loss": _plain(np.median(found.removal_loss[:, slot])),
                    "kind": max(kinds, key=lambda name: kinds[name]),
                }
            rows.append({k: _plain(v) if isinstance(v, float) else v for k, v in row.items()})
    return rows


def _chain_names(answers: Answers) -> list[Any]:
    """Coordinates of the chains, or their numbers."""
    posterior = answers.aligned.groups["posterior"]
    names = posterior.coords["chain"].values if "chain" in posterior.coords else None
    if names is None:
        return list(range(posterior.sizes["chain"]))
    return [_name(name) for name in names]


def _name(name: Any) -> Any:
    plain = name.item() if isinstance(name, np.generic) else name
    return plain if isinstance(plain, (int, str)) else str(plain)


def _plain(value: Any) -> float | None:
    number = float(value) if value is not None else float("nan")
    return number if np.isfinite(number) else None


def _list(values: Array) -> list[float | None]:
    return [_plain(value) for value in values]


def _listed(things: Sequence[Any], *, most: int = 10, between: str = ", ") -> str:
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
        width = draws.spread(r.effective_width.astype(np.int16), -1)
        add(f"{u}_effective_width", width, SAMPLE_DIMS, "number of units the draw needs")
        spare = np.isin(np.arange(r.kind.shape[1]), answers.sound_redundancy(u).spare)
        add(f"{u}_spare", spare.astype(np.int8), (u,), "1 where most draws do without this slot")
    if answers.mode is not None:
        mode = draws.spread(answers.mode.astype(np.int16), -1)
        add("mode", mode, SAMPLE_DIMS, "mode the draw sits in; -1 where it was left out")
    if answers.chains is not None:
        flagged = np.isin(np.arange(answers.chains.n_chains), list(answers.chains.reasons))
        about = "1 where the chain is not in the mode of the others, or has not settled"
        add("chain_flagged", flagged.astype(np.int8), ("chain",), about)
    return found
