"""What remains after alignment: which labels can be believed, and what no relabelling explains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel._util.progress import Report, reporting
from relabel._util.validate import real, seed_of
from relabel._util.versions import installed
from relabel.data.containers import Data, Groups, pack, unpack
from relabel.diagnostics.aligned import Aligned
from relabel.diagnostics.checks import CHECKS, registered
from relabel.diagnostics.checks.base import SUBJECTS, Case, Check
from relabel.diagnostics.checks.certainty import CertaintyCheck
from relabel.diagnostics.checks.chains import ChainsCheck
from relabel.diagnostics.checks.occupancy import OccupancyCheck
from relabel.diagnostics.checks.outputs import OutputsCheck
from relabel.diagnostics.checks.redundancy import RedundancyCheck
from relabel.diagnostics.diagnosis import Diagnosis, by_place, schema, unjudged_codes
from relabel.diagnostics.finding import OPEN, SEVERITIES, Finding
from relabel.diagnostics.kernels.empty_components import occupancy
from relabel.diagnostics.likelihood import Likelihood
from relabel.diagnostics.measurements import blank_fields
from relabel.diagnostics.running import Outcome, in_order, own_group, run_checks, with_needs
from relabel.diagnostics.thresholds import Thresholds
from relabel.errors import DataError, SpecError
from relabel.proposals.proposal import propose
from relabel.spec.resolve import closest

__all__ = ["diagnose", "label_confidence"]

Array = NDArray[Any]


def diagnose(
    data: Data,
    *,
    inputs: Array | str | None = "auto",
    targets: Array | str | None = "auto",
    likelihood: Likelihood | str | None = None,
    priors: Mapping[str, float | None] | None = None,
    thresholds: Thresholds | None = None,
    rng: int | np.random.Generator = 0,
    progress: bool | Report = False,
) -> tuple[Data, Diagnosis]:
    """Say what remains after alignment, and how far labels can be trusted.

    Runs all checks of :data:`relabel.diagnostics.checks.CHECKS`: which chains sit in other modes;
    how certain every label is; whether the slots explain more than those of shuffled units would;
    whether other starts lead to the same labels; how R-hat and ESS compare before and after, in
    weights, in summaries that no relabelling changes, in outputs and in `lp`; which copies of the
    mode the draws came from; which units are spare or duplicated, which components of a mixture
    are empty; and which modes no symmetry explains. A question that cannot be answered is among
    the findings, with what would answer it.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset
        What :func:`relabel.align` returned. Draws that were not aligned are given only the checks
        that do not depend on labels.
    inputs : ndarray of shape (n, n_inputs), str or None, default "auto"
        Inputs of the network, as an array or as an address (``"constant_data/X"``). ``"auto"``:
        those that the alignment used, or the only variable that fits, or the only one of those
        with as many rows as there are targets. None: none, so that outputs stay unknown.
    targets : ndarray of shape (n,) or (n, n_outputs), str or None, default "auto"
        Targets of these inputs, as an array or as an address (``"constant_data/y"``). ``"auto"``:
        looked for among what is stored. None: none.
    likelihood : Likelihood or str, optional
        Likelihood of the targets: ``"normal"``, ``"bernoulli"``, ``"categorical"``, a family of
        another package, or one in full (see :class:`relabel.Likelihood`). By default it follows
        from the targets; what was assumed is among the findings.
    priors : mapping of str to float or None, optional
        Variable -> standard deviation of its normal prior with mean zero. With it, duplicated
        pairs are compared with the prior, and the sampler with the law of the scale (ReLU).
    thresholds : Thresholds, optional
        Where lines are drawn, each with its reason.
    rng : int or numpy.random.Generator, default 0
        Random seed.
    progress : bool or callable, default False
        True shows a bar; a callable is called with a stage, the steps done, and the number of
        steps.

    Returns
    -------
    data : same type as `data`
        With results added to the group ``relabel``; ``{u}`` is the name of a set of units:

        ==========================  ==================  ======================================
        ``{u}_label_probability``   chain, draw, {u}    that this slot's unit and sign are right
        ``{u}_margin_probability``  chain, draw, {u}    of them, against the best alternative
        ``{u}_draw_probability``    chain, draw         that all labels of the draw are right
        ``{u}_removal_loss``        chain, draw, {u}    nats lost without this unit
        ``{u}_kind``                chain, draw, {u}    active, dead, constant, linear, saturated
        ``{u}_effective_width``     chain, draw         units that are needed, or not empty
        ``{u}_spare``               {u}                 1 where the slot is spare
        ``mode``                    chain, draw         the mode, -1 where none is known
        ``chain_flagged``           chain               1 where the chain sits elsewhere
        ==========================  ==================  ======================================

        Data that were not aligned are returned as they are.
    diagnosis : Diagnosis
        Prints as a report; ``to_json()``, ``to_dataframe()``.

    Raises
    ------
    SpecError
        If inputs, targets, likelihood or priors do not fit, or if two checks of other packages
        have one name.
    DataError
        If the record of the alignment is damaged, or the draws were reduced.

    Notes
    -----
    Slots that are empty in a draw (as labels or allocation probabilities show) have no label there:
    their ``{u}_label_probability`` is NaN, and counts as zero in means.

    Chains that are flagged are left out of the checks of labels, but not of those of chains, modes
    and convergence. If all are flagged, all are kept.

    A check of another package that raises an error is an error among the findings
    (``check-failed``); what the others found is not affected.

    Examples
    --------
    >>> import relabel
    >>> from relabel.simulate import network
    >>> simulated = network((2, 3, 1), "tanh", draws=100, noise=0.1)
    >>> aligned = relabel.align(simulated.data, simulated.spec)
    >>> data, diagnosis = relabel.diagnose(aligned)
    >>> diagnosis.labels_trustworthy
    True
    >>> diagnosis.numbers["variance_explained"] > 0.9
    True
    >>> data["relabel"]["h_label_probability"].dims
    ('chain', 'draw', 'h')
    """
    seed = seed_of(rng)
    thresholds = Thresholds() if thresholds is None else thresholds
    if not isinstance(thresholds, Thresholds):
        raise SpecError(
            f"thresholds must be a relabel.Thresholds, not a {type(thresholds).__name__}"
        )
    schema()  # refuses checks that do not go together
    groups = unpack(data)
    aligned = Aligned.read(data) if "relabel" in groups else _as_it_is(data, groups)
    _check_priors(priors, [v.name for v in aligned.resolved.measured()])
    checks = [thresholds.applied(check) for check in in_order(registered())]
    with reporting(progress) as report:
        case = Case(aligned, inputs, targets, likelihood, priors, seed, report)
        done = run_checks(case, checks)
    diagnosis = _diagnosis(case, done)
    if not aligned.was_aligned:
        return data, diagnosis
    return pack(data, {"relabel": _with_results(case, done, diagnosis)}), diagnosis


def label_confidence(aligned: Aligned) -> tuple[Array, dict[str, Array]]:
    """Compute only how certain labels are, and what that depends on.

    Parameters
    ----------
    aligned : Aligned

    Returns
    -------
    sound : ndarray of bool, shape (draws,)
        Which draws belong to chains that are not flagged.
    confidence : dict of str to ndarray of shape (K,)
        Units -> mean probability of each slot's label; without units whose labels cannot be judged.
    """
    wanted: list[type[Check[Any]]] = [CertaintyCheck, OutputsCheck, OccupancyCheck]
    if occupancy(aligned.draws):  # those of a network are judged by redundancy
        wanted.append(RedundancyCheck)
    done = run_checks(Case(aligned), [check() for check in in_order(with_needs(wanted))])
    labels = done[CertaintyCheck.name].result
    known = () if labels is None else labels.by_units
    sound: Array = done[ChainsCheck.name].result.sound
    return sound, {units: labels.confidence(units) for units in known}


def _as_it_is(data: Data, groups: Groups) -> Aligned:
    """Draws that were not aligned, under a spec that names and shapes leave no doubt of."""
    proposal = propose(data)
    if proposal.spec is None or not proposal.certain:
        doubts = "; ".join(proposal.doubts) or "no set of units is evident"
        raise DataError(
            "these draws were not aligned (there is no group 'relabel'), and their units are not "
            f"evident ({doubts}): align them first"
        )
    return Aligned.unaligned(groups, proposal.spec)


def _check_priors(priors: Any, names: Sequence[str]) -> None:
    """Raise SpecError unless priors are standard deviations of declared variables."""
    if priors is None:
        return
    if not isinstance(priors, Mapping):
        raise SpecError(f"priors must be a mapping such as {{'W1': 1.0}}, not {priors!r}")
    for name, sd in priors.items():
        if name not in names:
            raise SpecError(
                f"priors: no declared variable is named {name!r}{closest(str(name), names)}"
            )
        if sd is not None:
            real(f"priors: the standard deviation of {name!r}", sd, 0, open_ends=True)


# ---------------------------------------------------------------------- what comes out


def _diagnosis(case: Case, done: Mapping[str, Outcome]) -> Diagnosis:
    """Collect what all checks found.

    Labels are trustworthy if no finding is an error, and none says that labels could not be
    judged.
    """
    findings = _sorted_findings(done)
    unjudged = unjudged_codes()
    sound = all(f.severity != "error" and f.code not in unjudged for f in findings)
    numbers: dict[str, Any] = {"version": installed("posterior-relabel")}
    for check in by_place():
        for key, value in done[check.name].numbers.items():
            numbers[key] = numbers[key] | value if key in numbers else value
    return Diagnosis(sound, numbers | {"slots": _slots(case, done)}, tuple(findings))


def _sorted_findings(done: Mapping[str, Outcome]) -> list[Finding]:
    """Sort findings by severity, then by subject; open questions in the order they were asked."""
    registered = list(CHECKS)

    def place(entry: tuple[Check[Any], Finding]) -> tuple[int, ...]:
        check, finding = entry
        gravity = SEVERITIES.index(finding.severity)
        if finding.code == OPEN:
            return gravity, 1
        return gravity, 0, SUBJECTS.index(check.subject), registered.index(check.name)

    found = [(outcome.check, one) for outcome in done.values() for one in outcome.findings]
    return [finding for _, finding in sorted(found, key=place)]


def _slots(case: Case, done: Mapping[str, Outcome]) -> list[dict[str, Any]]:
    """One row for every slot of every set of units, with the columns of all checks."""
    rows = []
    outcomes = [done[check.name] for check in by_place() if check.slot is not None]
    for units, size in case.aligned.resolved.sizes.items():
        for slot in range(size):
            row: dict[str, Any] = {"units": units, "slot": slot}
            for outcome in outcomes:
                blank = blank_fields(outcome.check.slot)
                row |= outcome.slots[units][slot] if units in outcome.slots else blank
            rows.append(row)
    return rows


def _with_results(case: Case, done: Mapping[str, Outcome], diagnosis: Diagnosis) -> xr.Dataset:
    """Return the group ``relabel`` with the results; those of an earlier diagnosis are replaced."""
    found = {name: own for outcome in done.values() for name, own in outcome.variables.items()}
    own = own_group(case).assign(found)
    known = case.aligned.provenance
    assert known is not None
    known = replace(known, diagnosis=diagnosis.to_dict(), added=tuple(sorted(found)))
    return own.assign_attrs(known.attrs())
