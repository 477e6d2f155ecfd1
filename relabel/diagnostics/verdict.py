"""From answers to a verdict: what is found, how grave it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel.alignment.provenance import rotations_left
from relabel.diagnostics.certainty import FEWEST
from relabel.diagnostics.diagnosis import UNJUDGED, Diagnosis, Finding, Thresholds
from relabel.diagnostics.questions import Answers
from relabel.diagnostics.summary import (
    chain_names,
    listed,
    mode_numbers,
    numbers_of,
    pair_numbers,
    plain,
)

__all__ = ["diagnosis_of"]

Array = NDArray[Any]

_APART = "select the draws of a mode, align and diagnose them by themselves"
_AVERAGE = "judge the alignment by relabel.average: what the mean network is worth"
_CERTAIN = 0.99  # of every slot: noise is never sorted that surely by probabilities that are fitted
_DRAWS_A_FEATURE = 20  # draws for each feature, so that they are fitted, not remembered
_EMPTY = 0.05  # share of draws in which a slot is empty that is worth a word
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
        every slot has a label that can be believed. Where draws are too few to judge by, nothing
        was shown, and they are not.
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
    sound = all(f.severity != "error" and f.code not in UNJUDGED for f in findings)
    return Diagnosis(sound, numbers_of(answers, thresholds), tuple(findings))


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
    if answers.few:
        n_draws = int(answers.sound.sum())
        yield Finding(
            "certainty-unknown",
            "info",
            f"labels cannot be judged from {n_draws} draw{'s' * (n_draws != 1)}; {FEWEST} are "
            "needed. That says nothing against the alignment",
            {"n_draws": n_draws},
            _AVERAGE if answers.members else "draw more",
        )
    for units in answers.aligned.bound.sizes:
        if answers.few:
            break
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
        rotations = rotations_left(answers.aligned.bound)
        yield Finding(
            "many-sweeps",
            "warning" if rotations else "info",
            f"the alignment took {n_sweeps} sweeps{end}: "
            f"{'diffuse or rotated' if rotations else 'diffuse'} draws do that",
            {"sweeps": n_sweeps, "converged": notes["converged"]},
            rotations,
        )


def _null(answers: Answers, t: Thresholds) -> Iterator[Finding]:
    """Slots that explain no more than those of shuffled units."""
    null, sizes = answers.null, answers.aligned.bound.sizes
    if null is None:
        if max(sizes.values()) > 1:
            yield Finding(
                "null-unknown",
                "info",
                "too few draws to compare with shuffled ones",
                {"n_draws": int(answers.sound.sum())},
                _AVERAGE if answers.members else "draw more",
            )
        return
    for units, (explained, shuffled) in null.by_units.items():
        if sizes[units] < 2:
            continue
        evidence = {
            "units": units,
            "variance_explained": plain(explained),
            "variance_explained_null": plain(shuffled.mean()),
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
            yield _no_gap(answers, units, explained, float(shuffled.mean()), evidence)


def _no_gap(
    answers: Answers, units: str, explained: float, null: float, evidence: dict[str, Any]
) -> Finding:
    """Slots explain hardly more than shuffled ones: noise, or a few good features among noise."""
    said = (
        f"slots of {units!r} explain {explained:.2f} of the variance, and {null:.2f} if units are "
    )
    said += "shuffled and aligned again"
    found = answers.certainty.get(units)
    many = found is not None and answers.sound.sum() >= _DRAWS_A_FEATURE * found.n_features
    if many and (answers.confidence(units) >= _CERTAIN).all():
        return Finding(
            "noisy-features",
            "warning",
            f"{said}; yet labels are certain: some features tell the units apart, most do not",
            evidence,
            "match on the features that do: relabel.criteria.Mean(variables=...)",
        )
    return Finding(
        "null",
        "error",
        f"labels of {units!r} can hardly be told from chance: {said}",
        evidence,
        _AVERAGE
        if answers.members
        else "use what labels do not matter to: outputs, sums over units, effective widths",
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
                "(relabel.criteria.Gaussian)",
            )


def _loose_slots(answers: Answers, units: str, t: Thresholds) -> Iterator[Finding]:
    confidence = answers.confidence(units)
    loose = [int(k) for k in np.flatnonzero(~(confidence >= t.confidence))]
    draws = answers.certainty[units].unmoved[answers.sound]
    ambiguous = float((draws < t.ambiguous).mean())
    if loose:
        firm = sorted(set(range(len(confidence))) - set(loose))
        rest = f"those of {_slots(firm)} can" if firm else "so no label can"
        widths = answers.sound_widths()
        spare = set(widths[units].spare) if units in widths else set()
        why = "; spare units have no label" if spare & set(loose) else ""
        empty = widths[units].eliminated[:, loose] if units in answers.occupancy else None
        if empty is not None and empty.mean(axis=0).max() > _EMPTY:
            why = "; where a slot is empty it has no label"
        named = listed([f"{k} ({confidence[k]:.2f})" for k in loose])
        many = "slots" if len(loose) > 1 else "slot"
        yield Finding(
            "loose-slots",
            "error",
            f"units {units!r}: labels of {many} {named} cannot be believed (in brackets how "
            f"probable it is that they are right{why}); {rest}",
            {"units": units, "slots": loose, "confidence": confidence.tolist()},
            _use(answers, firm),
        )
    elif ambiguous > 1 - t.ambiguous:
        yield Finding(
            "ambiguous-draws",
            "warning",
            f"units {units!r}: {ambiguous:.0%} of the draws have a label that is not certain",
            {"units": units, "share": ambiguous},
            f"weigh draws by {units}_draw_probability, or look at those that are certain",
        )


def _use(answers: Answers, firm: Sequence[int]) -> str:
    """What to use where labels of slots are loose."""
    if answers.members:
        return _AVERAGE
    return f"use the weights of {_slots(firm)}" if firm else "use outputs, not weights"


# ---------------------------------------------------------------------- chains and modes


def _on_chains(answers: Answers) -> Iterator[Finding]:
    chains = answers.chains
    if chains is None or not chains.reasons:
        return
    names = chain_names(answers)
    reasons = {str(names[c]): why for c, why in chains.reasons.items()}
    told = listed([f"{c}: {why}" for c, why in reasons.items()], most=5, between="; ")
    evidence = {"chains": [names[c] for c in chains.reasons], "reasons": reasons}
    done = answers.aligned.notes["options"].get("exclude_flagged", False)
    advice = "" if done else "; exclude_flagged=True keeps them out of the reference"
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
        f"not in the mode of the others: {_chains(list(reasons))} ({told})",
        evidence,
        f"look at them apart (variable mode){advice}. How many chains sit in a mode says "
        "nothing of its mass",
    )


def _on_modes(answers: Answers) -> Iterator[Finding]:
    names = chain_names(answers)
    for number, mode in enumerate(answers.modes):
        if number == 0:
            continue
        where = f"mode {number} ({mode.n_draws} draws, {_chains([names[c] for c in mode.chains])})"
        evidence = mode_numbers(answers, number)
        if mode.equivalent_to is not None:
            yield Finding(
                "equivalent-modes",
                "warning",
                f"{where} has nearly the outputs of mode {mode.equivalent_to} "
                f"({mode.equivalent_by:.2f} sd apart): {mode.cause}",
                evidence,
                f"{_APART}; declare the symmetry in the spec, if it is one",
            )
        else:
            yield Finding(
                "modes",
                "warning",
                f"{where} is another mode, which no relabelling of the units explains",
                evidence,
                f"{_APART}; weights must not be averaged over modes",
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
            which = f"; spare: {_slots(spare)}" if spare else ""
            yield Finding(
                "spare-units",
                "warning",
                f"{width} of {size} units {units!r} are enough in most draws{which}",
                {"units": units, "slots": spare, "effective_width": pmf.tolist()},
                "a smaller network describes the data; spare units have no stable label",
            )
    yield from _on_empty(answers)
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
                pair_numbers(units, pair),
                "where the two coincide their labels are exchangeable; relabel.reduce merges them",
            )


def _on_empty(answers: Answers) -> Iterator[Finding]:
    """Components that have no observations in most draws."""
    widths = answers.sound_widths()
    for units in answers.occupancy:
        found = widths[units]
        width, size = found.likely_width, found.eliminated.shape[1]
        spare = found.spare if answers.was_aligned else []
        if width < size or spare:
            share = found.width_pmf[width]
            often = "in most draws" if share > 0.5 else f"most often ({share:.0%} of the draws)"
            which = f"; empty in most draws: {_slots(spare)}" if spare else ""
            yield Finding(
                "spare-units",
                "warning",
                f"{width} of {size} units {units!r} have observations {often}{which}",
                {"units": units, "slots": spare, "effective_width": found.width_pmf.tolist()},
                "fewer components describe the data; one that is empty was drawn from the prior "
                "and has no label",
            )


# ---------------------------------------------------------------------- the sampler


def _on_the_sampler(answers: Answers, t: Thresholds) -> Iterator[Finding]:
    rhat = {name: found.rhat for name, found in answers.convergence.items()}
    after = rhat.get("weights_after_unflagged", rhat.get("weights_after", np.nan))
    function = rhat.get("function_unflagged", rhat.get("function", np.nan))
    if after > t.rhat and answers.was_aligned:
        sums, network = rhat["invariant"], answers.aligned.network is not None
        if function > t.rhat:
            why = "and so have outputs: they have not run long enough, or sit in several modes"
        elif np.isfinite(function):
            why = "outputs have not: what is left is in the labels, or in spare units"
        elif network or not np.isfinite(sums):
            why = "whether outputs have too is not known"
        elif sums > t.rhat:
            why = f"sums over units, which no relabelling changes, have {sums:.3f}: chains have "
            why += "not run long enough, or sit in several modes"
        else:
            why = "sums over units have not: what is left is in the labels"
        yield Finding(
            "rhat-weights",
            "warning" if function > t.rhat or (not network and sums > t.rhat) else "info",
            f"weights have an R-hat of {after:.3f} after alignment; {why}",
            {
                "rhat_weights": plain(after),
                "rhat_function": plain(function),
                "rhat_invariant": plain(sums),
            },
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
                "run longer; relabel.stats.redraw_scale draws scales exactly",
            )


def _remarks(answers: Answers) -> Iterator[Finding]:
    """What was assumed, and what stayed open."""
    if answers.aligned.rebuilt.stand_in:
        yield Finding("criterion", "info", answers.aligned.rebuilt.stand_in)
    excluded = int(answers.aligned.draws.excluded.sum())
    if excluded:
        yield Finding(
            "excluded",
            "info",
            f"draws that are not finite and take no part: {excluded}",
            {"n": excluded},
        )
    if answers.members:
        yield Finding(
            "members",
            "info",
            "the draws are taken for networks trained apart, which are no chain: R-hat, ESS and "
            "what tells chains apart say nothing of them, and are left out",
            remedy=_AVERAGE,
        )
    elif answers.aligned.draws.excluded.shape[0] == 1:
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


def _chains(names: Sequence[Any]) -> str:
    return f"chain{'s' if len(names) > 1 else ''} {listed(names)}"


def _slots(slots: Sequence[int]) -> str:
    return f"slot{'s' if len(slots) > 1 else ''} {listed(slots)}"
