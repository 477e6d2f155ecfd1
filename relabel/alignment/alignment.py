"""The main job: ArviZ data and a spec in, the same kind of ArviZ data, relabelled, out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.alignment.job import Job
from relabel.alignment.provenance import (
    found_variables,
    provenance_of,
    refuse_reduced,
    stored_elements,
)
from relabel.alignment.result import transformed
from relabel.data.containers import pack, sharing, unpack
from relabel.errors import SpecError
from relabel.matching.allocation_features import located, with_labels
from relabel.matching.criteria import (
    Criterion,
    Mean,
    criterion_of,
)
from relabel.matching.draws import Draws
from relabel.matching.probes import find_probes
from relabel.matching.solve import Progress
from relabel.spec.spec import Spec, spec_of

__all__ = ["align"]

Array = NDArray[Any]
Data = TypeVar("Data")


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
    n_kicks: int = 30,
    seed: int = 0,
    progress: Progress | None = None,
) -> Data:
    r"""Relabel every draw so that all of them sit in one reference mode.

    For each draw *t* the element :math:`g_t` of the model's symmetry group is found that brings
    it nearest to the reference; which distance, and which reference, is the criterion's choice.
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
        As an object, or by its name where all options stay as they are;
        :class:`relabel.criteria.Mean` by default. One that compares allocations or probabilities
        finds them where there is only one variable of them.
    inputs : ndarray of shape (n, n_inputs), str or None, default "auto"
        Inputs at which units are compared by their activations, a start that deep networks need:
        an array, the address of a variable (``"constant_data/X"``), None for none (the start then
        compares units on standard normal points; the loss decides as always), or ``"auto"``
        for the only variable of constant_data that fits, if it is the only one.
    nonfinite : {"raise", "skip"}
        What to do with draws that hold NaN or infinities: refuse them, or leave them out, as they
        are and marked in ``relabel/excluded``.
    exclude_flagged : bool, default False
        Whether chains that sit in other modes, judged by `lp` (and by outputs, where inputs are
        known), have no part in the reference. They are aligned to it all the same.
    n_first : int, default 1
        Number of draws that are tried as the first reference: the usual one, and others at random.
        The descent that ends with the lowest loss is kept. More of them help where an iterated
        mean has several local optima; each costs a whole alignment.
    n_random : int, default 0
        Random starts per draw, for networks with several hidden layers.
    n_kicks : int, default 30
        Rounds of iterated local search on draws whose starts disagree, likewise.
    seed : int, default 0
        Seed of the random starts, the kicks and the probe inputs.
    progress : callable, optional
        Called with the name of a stage, the blocks done and the number of blocks.

    Returns
    -------
    Same type as `data`
        With every variable that carries units relabelled, in all groups that share the draws, and
        a group ``relabel`` (in a Dataset: variables ``relabel_*``):

        ====================  ======================  ==================================
        ``{units}_index``     chain, draw, {units}    slot *k* holds the unit ``index[k]``
        ``{units}_factor``    chain, draw, {units}    what multiplied it
        ``{units}_rotation``  …, {units}, {units}_unit  instead of both, of units that rotate
        ``{variable}_offset`` chain, draw, …          what was subtracted, over a centred axis
        ``{units}_margin``    chain, draw, {units}    gain over the best that changes the slot
        ``loss``              chain, draw             loss of the aligned draw
        ``start``             chain, draw             which start won
        ====================  ======================  ==================================

        and the attribute ``relabel``, JSON text with spec, criterion, losses and warnings. Draws
        that were aligned before compose: the group tells the way from the original draws.

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
    spec = spec_of(spec)
    if isinstance(criterion, str):
        criterion = criterion_of(criterion)
    criterion = Mean() if criterion is None else criterion
    _check_options(criterion, n_first=n_first, n_random=n_random, n_kicks=n_kicks, seed=seed)
    groups = unpack(data)
    if "relabel" in groups:
        stored_elements(groups, "")
        refuse_reduced(groups)
    spec = _as_before(spec, groups)
    criterion = located(criterion, spec, sharing(groups))
    spec = with_labels(spec, criterion, sharing(groups))
    draws = Draws.read(sharing(groups), spec, nonfinite)
    criterion = criterion.resolved(draws.bound)
    criterion.check_rotations(draws.bound)
    probes = find_probes(draws.bound, groups, inputs, criterion, seed)
    search = {"n_random": n_random, "n_kicks": n_kicks, "seed": seed}
    search |= {"n_first": n_first} if n_first > 1 else {}
    job = Job(groups, criterion, probes, search, progress, exclude_flagged)
    flagged = job.flagged(draws)
    solution = job.run(draws, flagged)
    found = {"": (draws, solution)}
    warmup = sharing(groups, "warmup_")
    if warmup:
        warm = Draws.read(warmup, spec.present_in(warmup), nonfinite)
        found["warmup_"] = (warm, job.follow_warmup(warm, draws, solution))
    changed: dict[str, xr.Dataset | None] = {}
    for prefix, (part, result) in found.items():
        provenance = provenance_of(part, result, criterion, job.options)
        if exclude_flagged:
            apart = tuple(np.flatnonzero(flagged).tolist())
            provenance = replace(provenance, no_part_in_reference=apart)
        own = found_variables(part, result)
        changed |= transformed(
            groups, prefix, part.bound, part.transformation(result), own, provenance
        )
    return pack(data, changed)


def _check_options(criterion: Any, **counts: Any) -> None:
    """Check what the type checker would, for those who have none."""
    if not isinstance(criterion, Criterion):
        raise SpecError(
            f"criterion must be an object such as relabel.criteria.Mean(), not {criterion!r}"
        )
    for name, value in counts.items():
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 0:
            raise SpecError(f"{name} is a whole number from 0 on, not {value!r}")
    if counts.get("n_first") == 0:
        raise SpecError("n_first is 1 or more: some draw has to be the first reference")


def _as_before(spec: Spec, groups: Mapping[str, xr.Dataset]) -> Spec:
    """The spec of an earlier alignment, where the axes are left out and the units are the same."""
    if spec.axes or "relabel" not in groups:
        return spec
    earlier, _ = stored_elements(groups, "")
    alike = earlier.units == spec.units and all(
        dict(own).items() <= dict(before).items()
        for own, before in ((spec.values, earlier.values), (spec.gauges, earlier.gauges))
    )
    return earlier if alike else spec
