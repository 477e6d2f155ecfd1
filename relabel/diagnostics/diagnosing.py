"""What remains after alignment: which labels can be believed, and what no relabelling explains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from relabel._util.progress import Report, reporting
from relabel.data.containers import Groups, pack, unpack
from relabel.diagnostics.aligned import Aligned
from relabel.diagnostics.diagnosis import Diagnosis, Thresholds
from relabel.diagnostics.likelihood import Likelihood
from relabel.diagnostics.questions import Questions
from relabel.diagnostics.summary import with_findings
from relabel.diagnostics.verdict import diagnosis_of
from relabel.errors import DataError, SpecError
from relabel.proposals.proposal import propose

__all__ = ["diagnose"]

Array = NDArray[Any]
Data = TypeVar("Data")


def diagnose(
    aligned: Data,
    *,
    inputs: Array | str | None = None,
    targets: Array | str | None = None,
    likelihood: Likelihood | str | None = None,
    priors: Mapping[str, float | None] | None = None,
    thresholds: Thresholds | None = None,
    seed: int = 0,
    progress: bool | Report = False,
) -> tuple[Data, Diagnosis]:
    """Say what remains after alignment, and how far labels can be trusted.

    Asks, in this order: which chains sit in other modes; how certain every label is; whether the
    slots explain more than those of shuffled units would; whether other starts lead to the same
    labels; how R-hat and ESS compare before and after, in weights, in summaries that no relabelling
    changes, in outputs and in `lp`; which copies of the mode the draws came from; which units are
    spare or duplicated, which components of a mixture are empty; and which modes no symmetry
    explains. What cannot be answered is among the findings, with what would answer it.

    Parameters
    ----------
    aligned : InferenceData, DataTree or Dataset
        What :func:`relabel.align` returned. Of draws that were not aligned, only those questions
        are answered to which labels do not matter.
    inputs : ndarray of shape (n, n_inputs) or str, optional
        Inputs of the network, as an array or as an address (``"constant_data/X"``). By default
        those that the alignment used, or the only variable that fits, or the only one of those
        with as many rows as there are targets.
    targets : ndarray of shape (n,) or (n, n_outputs), or str, optional
        What belongs to the inputs, as an array or as an address (``"constant_data/y"``). By
        default they are looked for among what is stored.
    likelihood : Likelihood or str, optional
        Likelihood of the targets: ``"normal"``, ``"bernoulli"``, ``"categorical"``, or a family of
        another package. By default it is read off the targets, if they are given or stored (see
        :class:`relabel.Likelihood`); what was assumed is among the findings.
    priors : mapping of str to float, optional
        Variable -> standard deviation of its normal prior with mean zero. Lets duplicated pairs be
        held against the prior, and the sampler against the law of the scale (ReLU).
    thresholds : Thresholds, optional
        Where lines are drawn, each with its reason.
    seed : int, default 0
        Of everything random.
    progress : bool or callable, default False
        True shows a bar; a callable is told a stage, the steps done, and the number of steps.

    Returns
    -------
    data : same type as `aligned`
        With findings added to the group ``relabel``; ``{u}`` is the name of a set of units:

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
        If inputs, targets, likelihood or priors do not fit.
    DataError
        If the record of the alignment is damaged, or the draws were reduced.

    Notes
    -----
    Slots that are empty in a draw (labels or allocation probabilities tell) have no label there:
    their ``{u}_label_probability`` is NaN, and counts as zero in means.

    Chains that are flagged take no part in the questions about labels, but in those about chains,
    modes and convergence. Where all are flagged, all take part.

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
    number: Any = seed
    if not isinstance(number, (int, np.integer)) or isinstance(number, bool) or number < 0:
        raise SpecError(f"seed is a whole number from 0 on, not {seed!r}")
    thresholds = Thresholds() if thresholds is None else thresholds
    if not isinstance(thresholds, Thresholds):
        raise SpecError(f"thresholds is a relabel.Thresholds, not a {type(thresholds).__name__}")
    groups = unpack(aligned)
    known = "relabel" in groups
    read = Aligned.read(aligned) if known else _as_it_is(aligned, groups)
    with reporting(progress) as report:
        questions = Questions(inputs, likelihood, priors, thresholds, seed, report, targets)
        answers = questions.ask(read, was_aligned=known)
    diagnosis = diagnosis_of(answers, thresholds)
    if not known:
        return aligned, diagnosis
    return pack(aligned, {"relabel": with_findings(answers, diagnosis)}), diagnosis


def _as_it_is(data: Any, groups: Groups) -> Aligned:
    """Draws that were not aligned, under a spec that names and shapes leave no doubt of."""
    proposal = propose(data)
    if proposal.spec is None or not proposal.certain:
        doubts = "; ".join(proposal.doubts) or "no set of units is evident"
        raise DataError(
            "these draws were not aligned (there is no group 'relabel'), and what their units are "
            f"cannot be told for certain ({doubts}): align them first"
        )
    return Aligned.unaligned(groups, proposal.spec)
