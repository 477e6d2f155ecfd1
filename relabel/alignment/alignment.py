"""The main verb: ArviZ data and a spec in, the same kind of ArviZ data, relabelled, out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel._util.progress import Report, reporting
from relabel._util.text import plain
from relabel._util.validate import flag, integer, seed_of
from relabel.alignment.checks import (
    completed,
    refuse_flips,
    refuse_flips_of_parts,
    refuse_unread,
)
from relabel.alignment.default import Default, default_criterion
from relabel.alignment.findings import findings_of
from relabel.alignment.job import Job
from relabel.alignment.provenance import (
    found_variables,
    provenance_of,
    refuse_reduced,
    stored_elements,
)
from relabel.alignment.records import checked_values
from relabel.alignment.references import flagged_chains
from relabel.alignment.result import transformed
from relabel.data.containers import Data, DrawsLike, Groups, model_of, pack, unpack
from relabel.data.participants import Participants, participants
from relabel.data.provenance import MOST_ALIGNMENTS, Provenance
from relabel.errors import DataError, SpecError
from relabel.matching.allocation_features import located, with_labels
from relabel.matching.criteria import Criterion, criterion_of, current_options, rebuilt
from relabel.matching.criteria.registry import is_fully_described
from relabel.matching.draws import Draws
from relabel.matching.probes import find_probes
from relabel.spec.spec import ResolvedSpec, Spec, spec_of

__all__ = ["align"]

Array = NDArray[Any]


def align(
    data: Data,
    spec: Spec | Mapping[str, str],
    *,
    criterion: Criterion | str | None = None,
    inputs: Array | str | None = "auto",
    nonfinite: Literal["raise", "skip"] = "raise",
    exclude_flagged: bool = False,
    n_first: int = 1,
    n_random: int = 0,
    n_perturbations: int = 30,
    certify: bool = False,
    rng: int | np.random.Generator = 0,
    progress: bool | Report = False,
    group: str = "posterior",
) -> Data:
    r"""Relabel every draw so that all of them sit in one reference mode.

    For each draw *t* the element :math:`g_t` of the model's symmetry group is found that brings
    it nearest to the reference; the criterion defines the distance and the reference.
    One set of units is solved exactly (a linear assignment); several sets by coordinate ascent
    from many starts, of which the best is kept.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset
        Draws with the dimensions chain and draw. Dask-backed variables stay lazy in the result.
    spec : Spec, or mapping of str to str
        Units and axes; a mapping is the dims-only form, as in ``{"hidden": "tanh"}``, where
        integers in the group ``allocation`` that name the units are their labels.
    criterion : Criterion or str, optional
        An object, or the name of a criterion with its default options. By default
        :class:`relabel.criteria.Stephens` where allocation probabilities are in the draws,
        :class:`relabel.criteria.ECRIterative1` where allocations are, else
        :class:`relabel.criteria.Normal`; then the record also holds what other criteria make of
        some of the draws. One that compares allocations or probabilities finds them where there is
        only one variable of them.
    inputs : ndarray of shape (n, n_inputs), str or None, default "auto"
        Inputs at which units are compared by their activations, a start that deep networks need:
        an array; the address of a variable (``"constant_data/X"``); ``"auto"`` for the variable of
        constant_data that fits, if it is the only one; or None for none (the start then compares
        units on standard normal points; the loss decides as always).
    nonfinite : {"raise", "skip"}
        How to treat draws that hold NaN or infinities, or values so large (2**52 times those of
        the median draw) that float64 keeps nothing of the others beside them, in a variable that is
        compared: raise an error, or leave them as they are and mark them in ``relabel/excluded``.
        What is not compared may hold anything and moves along.
    exclude_flagged : bool, default False
        Whether to keep chains that sit in other modes, judged by `lp` (and by outputs, where inputs
        are known), out of the reference. They are aligned to it all the same.
    n_first : int, default 1
        Number of draws that are tried as the first reference: the usual one, and others at random.
        The descent that ends with the lowest loss is kept; each costs a whole alignment, but for
        the default criterion, which tries them on a sample of the draws. One is enough where draws
        have something in common: ten changed no loss at noise 0.3, nor in mixtures, and lowered it
        by 0 to 2 % in draws of noise alone (``benchmarks/ensembles.py --first``).
    n_random : int, default 0
        Random starts per draw, for networks with several hidden layers.
    n_perturbations : int, default 30
        Rounds of iterated local search on draws whose starts disagree, likewise.
    certify : bool, default False
        Whether to spend more on proofs that no labelling of a draw has a lower loss, for several
        sets of units that share arrays: see ``gap`` below.
    rng : int or numpy.random.Generator, default 0
        Random numbers of the starts, the perturbations and the probe inputs, or their seed. The
        record keeps the integer.
    progress : bool or callable, default False
        True shows a bar on standard error; a callable is called with the name of a stage, the
        blocks done and the number of blocks.
    group : str, default "posterior"
        The posterior that is aligned, in a tree of several models: of ``"model/posterior"`` the
        groups in ``model`` take part, and the record is ``model/relabel``. All other models stay
        as they are. A model can also be taken out before, as in ``tree["model"]``.

    Returns
    -------
    Same type as `data`
        With every variable that carries units relabelled, in all groups that take part, and a
        group ``relabel`` (in a Dataset: variables ``relabel_*``):

        ====================  ======================  ==================================
        ``{units}_index``     chain, draw, {units}    slot *k* holds the unit ``index[k]``
        ``{units}_factor``    chain, draw, {units}    the factor that it was multiplied by
        ``{units}_rotation``  …, {units}, {units}_unit  instead of both, of units that rotate
        ``{variable}_offset`` chain, draw, …          subtracted over a centred axis
        ``{units}_margin``    chain, draw, {units}    gain over the best that changes the slot
        ``loss``              chain, draw             loss of the aligned draw
        ``gap``               chain, draw             share of it that may be saved at most
        ``start``             chain, draw             the start that led there
        ``{units}_separation``  {units}, …_variable   log odds that tell the slot from its rival
        ``{units}_rival``     {units}                 the slot that is hardest to tell from it
        ====================  ======================  ==================================

        and the attribute ``relabel``, JSON text with spec, criterion, losses and warnings. Draws
        that were aligned before compose: the group holds the way from the original draws.

    Raises
    ------
    SpecError
        If the spec or an option does not fit the draws.
    DataError
        If the draws cannot be used: none, not finite, of a dtype that cannot hold the result.

    See Also
    --------
    undo : The way back.

    Notes
    -----
    Permutations, and flips of odd or even units, preserve likelihood and exchangeable, symmetric
    priors, so a relabelled draw is a draw of the same posterior. Scales (ReLU) and affine flips
    (sigmoid) preserve the likelihood only: the result is a section of the orbit. So do rotations
    of factors, unless the prior is isotropic over factors.

    Groups take part whose draws are the posterior's: all of them in its order, or some of them or
    another order, by their coordinates of chain and draw. Without coordinates on one side groups of
    as many draws are matched by position, and a warning says so. Units are compared in groups of
    all draws only. Draws of the prior and of other posteriors are left; the record says how each
    group took part. Coordinates over chain, draw and units move with the units; those over units
    alone name the slots, and stay.

    The gap of a draw is (loss − bound) / (loss − loss of a draw at the reference), where no
    labelling has a loss below the bound under the last reference: 0 where the labelling is proved
    to be the best one, 1 where nothing is known. One set of units has gap 0, and so have sets that
    are joined as layers are and have at most 5040 labellings each.

    References
    ----------
    Stephens, M. (2000). Dealing with label switching in mixture models. *Journal of the Royal
    Statistical Society B* 62(4), 795-809. https://doi.org/10.1111/1467-9868.00265

    Examples
    --------
    >>> import numpy as np, xarray as xr, relabel
    >>> mu = np.array([[[0.0, 5.0], [5.1, 0.1], [-0.1, 4.9]]])
    >>> draws = xr.Dataset({"mu": (("chain", "draw", "component"), mu)})
    >>> aligned = relabel.align(draws, {"component": "permutation"})
    >>> aligned["mu"].values[0]
    array([[ 0. ,  5. ],
           [ 0.1,  5.1],
           [-0.1,  4.9]])
    >>> bool((relabel.undo(aligned)["mu"] == draws["mu"]).all())
    True
    """
    search = _search(n_first, n_random, n_perturbations, seed_of(rng), certify)
    earlier, groups = _earlier(unpack(data, group))
    taking = participants(groups)
    spec = _spec_as_before(spec_of(spec), earlier)
    default, chosen = default_criterion(spec, taking.same), criterion is None
    criterion = located(_criterion(criterion, default), spec, taking.same)
    spec = with_labels(spec, criterion, taking.views())
    draws, spec, said = _read(model_of(data, group), spec, nonfinite, groups, taking, criterion)
    criterion = _fitting(criterion, draws.resolved)
    probes = find_probes(draws.resolved, groups, inputs, criterion, search["rng"])
    apart = flagged_chains(draws, probes) if flag("exclude_flagged", exclude_flagged) else None
    options = {"inputs": probes.where if probes else None} | search
    options |= {"exclude_flagged": True} if exclude_flagged else {}
    with reporting(progress) as report:
        job = Job(criterion, probes, search, report)
        solution = job.run(draws, apart, _aligned_alike(earlier, groups, criterion, options, spec))
        refuse_flips(draws, solution.elements)
        solution.remarks.warnings.extend([*said, *_on_earlier(earlier, criterion)])
        findings = findings_of(draws, solution, criterion, default, chosen=chosen)
        warmup = participants(groups, "warmup_")
        found = [("", taking, draws, solution)]
        if warmup.same:
            warm = _warm_draws(warmup, spec, nonfinite, groups, criterion)
            found += [("warmup_", warmup, warm, job.follow_warmup(warm, draws, solution))]
    changed: dict[str, xr.Dataset | None] = {}
    for prefix, those, part, result in found:
        whole = _whole(those, part, spec)
        provenance = provenance_of(part, those, whole, result, criterion, options, apart)
        own, done = found_variables(part, result), part.transformation(result.elements)
        if not prefix:
            provenance = findings.noted(provenance.beside(warmup.same))
            own = own.assign(findings.variables)
        changed |= transformed(groups, those, prefix, whole, done, own, provenance)
    return pack(data, changed, group)


def _fitting(criterion: Criterion, resolved: ResolvedSpec) -> Criterion:
    """Return the criterion, bound to the spec; raise where it cannot compare units that rotate."""
    bound = criterion.resolved(resolved)
    bound.check_rotations(resolved)
    return bound


def _warm_draws(
    warmup: Participants,
    spec: Spec,
    nonfinite: str,
    groups: Mapping[str, xr.Dataset],
    criterion: Criterion,
) -> Draws:
    """Read the draws of the warm-up, by what there is of the spec."""
    known = warmup.compared(spec.present_in(warmup.views())).present_in(warmup.same)
    return Draws.read(warmup.same, known, nonfinite, groups, criterion)


def _whole(taking: Participants, draws: Draws, spec: Spec) -> ResolvedSpec:
    """Return the spec, bound to all groups that take part: also to those of other draws."""
    if not taking.matched:
        return draws.resolved
    views = taking.views()
    return spec.present_in(views).bind(views)


def _read(
    data: DrawsLike,
    spec: Spec,
    nonfinite: str,
    groups: Mapping[str, xr.Dataset],
    taking: Participants,
    criterion: Criterion,
) -> tuple[Draws, Spec, list[str]]:
    """Bind the spec to the draws; complete it, and say so, where it leaves out what reads units.

    Raises
    ------
    SpecError
        If it does not fit the draws, or would flip or move one side of a network alone.
    """
    said: list[str] = []
    compared = taking.compared(spec)
    try:
        draws = Draws.read(taking.same, compared, nonfinite, groups, criterion)
        refuse_unread(draws)
    except SpecError:
        whole = completed(data, taking.same, spec)
        if whole is None:
            raise
        spec, said = whole
        draws = Draws.read(taking.same, taking.compared(spec), nonfinite, groups, criterion)
    refuse_flips_of_parts(draws)
    return draws, spec, said


def _criterion(given: Any, default: Default) -> Criterion:
    """Return the criterion that was given by its name or as an object, or the default."""
    if given is None:
        return default.criterion
    criterion = criterion_of(given) if isinstance(given, str) else given
    if not isinstance(criterion, Criterion):
        raise SpecError(
            "criterion must be a name or an object such as relabel.criteria.Normal(), not "
            f"{criterion!r}"
        )
    return criterion


def _search(
    n_first: int, n_random: int, n_perturbations: int, seed: int, certify: bool
) -> dict[str, Any]:
    """Return the checked options of the search, as the record keeps them."""
    n_first = integer("n_first", n_first, 1)
    search = {
        "n_random": integer("n_random", n_random, 0),
        "n_perturbations": integer("n_perturbations", n_perturbations, 0),
        "rng": seed,
    }
    search |= {"certify": True} if flag("certify", certify) else {}
    return search | ({"n_first": n_first} if n_first > 1 else {})


def _earlier(groups: Groups) -> tuple[Provenance | None, Groups]:
    """Return the record of an earlier alignment, if there is one, and the groups in its order.

    Raises
    ------
    DataError
        If the record is not sound, is of other values, or has no room for one more.
    """
    if "relabel" not in groups:
        return None, groups
    stored_elements(groups, "")
    refuse_reduced(groups)
    earlier = Provenance.within(groups)
    if earlier.n_alignments >= MOST_ALIGNMENTS:
        raise DataError(
            f"these draws were aligned {earlier.n_alignments} times, one upon the other, and a "
            "record holds no more; undo that (relabel.undo), then align once"
        )
    return earlier, checked_values(groups)


def _spec_as_before(spec: Spec, earlier: Provenance | None) -> Spec:
    """Return the spec of an earlier alignment, if axes are left out and the units are the same."""
    if spec.axes or earlier is None:
        return spec
    before = earlier.spec
    alike = before.units == spec.units and all(
        dict(own).items() <= dict(known).items()
        for own, known in (
            (spec.values, before.values),
            (spec.gauges, before.gauges),
            (spec.supports, before.supports),
        )
    )
    return before if alike else spec


def _aligned_alike(
    earlier: Provenance | None,
    groups: Mapping[str, xr.Dataset],
    criterion: Criterion,
    options: Mapping[str, Any],
    spec: Spec,
) -> bool:
    """Whether these very draws were aligned before, by the same criterion, supports and options.

    Draws of several alignments, put together, are not: their losses do not add up to the record's.
    Inputs and other arrays that were given are not in the record, so they are not known to be the
    same.
    """
    described = plain(criterion.describe())
    known = is_fully_described(described) and options["inputs"] != "given"
    if earlier is None or not known or earlier.criterion["name"] != criterion.name:
        return False
    if dict(earlier.spec.supports) != dict(spec.supports):
        return False
    before = {key: value for key, value in earlier.criterion.items() if key != "name"}
    before = {"name": criterion.name} | current_options(criterion.name, before)
    alike = all(earlier.options.get(key) == value for key, value in plain(options).items())
    loss = np.nansum(groups["relabel"]["loss"].values)
    total = np.nan if earlier.loss_of_draws is None else earlier.loss_of_draws
    return alike and before == described and bool(np.isclose(loss, total, rtol=1e-9, atol=0))


def _on_earlier(earlier: Provenance | None, criterion: Criterion) -> list[str]:
    """Say that the criterion of an earlier alignment cannot be had any more."""
    known = None if earlier is None else rebuilt(earlier.criterion)
    if known is None or known.criterion is not None:
        return []
    now = f"they are now aligned by criterion {criterion.name!r}"
    return [f"these draws were aligned before, and {known.reason}: {now}"]
