"""Scales of gauge-fixed draws, drawn from their exact law."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel._util.progress import Report, reporting
from relabel._util.validate import integer, seed_of
from relabel.alignment.provenance import refuse_reduced, stored_elements
from relabel.alignment.records import checked_values
from relabel.data.checksums import AFTER, checksums
from relabel.data.containers import Data, pack, sharing, unpack
from relabel.data.provenance import Provenance
from relabel.diagnostics.kernels.scales import (
    Priors,
    checked_priors,
    draw_scale,
    enough_sweeps,
    precision_terms,
    scale_parameters,
    scaled_units,
    without_prior,
)
from relabel.errors import SpecError
from relabel.groups.elements import monomial
from relabel.spec.arrays import chain_draw_values, closest
from relabel.spec.centring import centred_variables
from relabel.spec.spec import ResolvedSpec, non_finite
from relabel.spec.transformation import Transformation

__all__ = ["redraw_scale"]

Array = NDArray[Any]

_LEFT = "a norm is zero, so the scale has no law and was left as it was"


def redraw_scale(
    aligned: Data,
    priors: Priors,
    *,
    n_sweeps: int | None = None,
    rng: int | np.random.Generator = 0,
    progress: bool | Report = False,
) -> Data:
    r"""Turn aligned draws of homogeneous units (ReLU, ...) back into draws of the posterior.

    An alignment fixes the scale of every unit by a gauge, which moves draws along orbits on which
    the likelihood is constant but the prior is not. The conditional law of the scales on the orbit
    is known exactly: when incoming weights are multiplied by :math:`e^t` and outgoing ones by
    :math:`e^{-dt}`,

    .. math:: p(t \mid \text{rest}) \propto \exp\{ t (n_{in} - d\, n_{out})
        - \tfrac12 (A e^{2t} + B e^{-2dt}) \}

    with A and B the sums of squared weights over prior variances. With a scale that is drawn from
    it the draw is one of the posterior again, with the labels of the alignment. The scale of the
    sampler is not used.

    Parameters
    ----------
    aligned : InferenceData, DataTree or Dataset
        What :func:`relabel.align` returned.
    priors : mapping of str to float or None
        Variable of the posterior -> standard deviation of the independent normal priors, with mean
        zero, of all its entries. Every variable that holds weights or biases of the units is
        needed. None for a variable without a prior of its own: one that is computed from others,
        or a companion such as the slope of a PReLU.
    n_sweeps : int, optional
        Number of Gibbs sweeps over the sets of units. By default one, which is exact, unless sets
        of scaled units share weights, as neighbouring layers do; then as many as bring the
        influence of the start below 1e-3: a dozen for two layers of a few units, 73 for the layers
        10-64-64-1 (see :func:`relabel.diagnostics.kernels.scales.enough_sweeps`). A sweep takes
        some microseconds for each unit of each draw.
    rng : int or numpy.random.Generator, default 0
        Random seed. Where one sweep is enough, the same seed gives the same scales, whatever the
        gauge.
    progress : bool or callable, default False
        True shows a bar; a callable gets ``(stage, done, total)``.

    Returns
    -------
    Same type as `aligned`
        All groups that share the draws of the posterior are transformed. The stored elements lead
        from the original draws to these, so that :func:`relabel.undo` still returns the original
        ones (up to rounding). The record gains the entry ``redrawn``, and loses the warning that
        the draws are a section of the orbit. Losses and margins are those of the alignment; a
        diagnosis of it is removed, since it is of other values.

        Not changed are units with a norm of zero (their scales have no law; a warning counts them),
        draws that are not finite, and the warm-up, whose draws are not of the posterior.

    Raises
    ------
    DataError
        If the draws were not aligned, or were reduced since.
    SpecError
        If no units have a scale, if a prior is missing or not a positive number, or if the prior
        is not of this form: scales per unit, or units that a variable carries on two axes.

    See Also
    --------
    relabel.diagnostics.kernels.scales.scale_law : Whether the sampler's own scales follow the law.

    Notes
    -----
    Other symmetries are not concerned: the sign of a ReLU unit is part of the function and is never
    changed. In layers of other kinds (sigmoid) the draws remain a section of the orbit.

    References
    ----------
    Neyshabur, B., Salakhutdinov, R. & Srebro, N. (2015). Path-SGD: path-normalized optimization
    in deep neural networks. https://doi.org/10.48550/arXiv.1506.02617

    Jørgensen, B. (1982). *Statistical Properties of the Generalized Inverse Gaussian
    Distribution*. Springer. https://doi.org/10.1007/978-1-4612-5698-4

    Examples
    --------
    >>> import numpy as np, relabel
    >>> from relabel.analysis.redrawing import redraw_scale
    >>> from relabel.simulate import network
    >>> simulated = network((2, 3, 1), "relu", chains=2, draws=50)
    >>> aligned = relabel.align(simulated.data, simulated.spec)
    >>> drawn = redraw_scale(aligned, {"W1": 1.0, "b1": 1.0, "W2": 1.0}, rng=1)

    The function of the network stays, and the original draws can be recovered:

    >>> path = [(d["posterior"]["W1"] * d["posterior"]["W2"].values[:, :, None, :, 0]).values
    ...     for d in (aligned, drawn)]
    >>> np.allclose(*path)
    True
    >>> back = relabel.undo(drawn)["posterior"]
    >>> np.allclose(back["W1"], simulated.data["posterior"]["W1"])
    True
    """
    groups = unpack(aligned)
    stored_elements(groups, "")
    refuse_reduced(groups)
    groups = checked_values(groups)
    spec, done = stored_elements(groups, "")
    shared = sharing(groups)
    resolved = spec.bind(shared)
    if not scaled_units(resolved):
        declared = ", ".join(f"{units!r} ({kind})" for units, kind in spec.units.items())
        raise SpecError(f"no units have a scale that could be redrawn: {declared}")
    _check_not_centred(resolved)
    checked = _complete(resolved, priors, shared["posterior"])
    n_sweeps = None if n_sweeps is None else integer("n_sweeps", n_sweeps, low=1)
    seed = seed_of(rng)
    with reporting(progress) as report:
        drawn = _draw(shared, resolved, checked, np.random.default_rng(seed), n_sweeps, report)
    moved = drawn.scales.apply(shared, resolved)
    changed: dict[str, xr.Dataset | None] = {g: d for g, d in moved.items() if d is not shared[g]}
    own, record = groups["relabel"], Provenance.within(groups)
    stored = own.drop_vars(record.added, errors="ignore")
    stored = stored.assign((drawn.scales @ done).to_dataset().data_vars)
    if AFTER in record.checksums:
        stored[AFTER] = stored[AFTER].copy(data=checksums(moved, record.variables).data)
    options = {"priors": checked, "seed": seed, "n_sweeps": drawn.n_sweeps}
    stored.attrs = {**own.attrs, **_redrawn(record, options, drawn.n_left).attrs()}
    return pack(aligned, changed | {"relabel": stored})


@dataclass(frozen=True)
class _Drawn:
    """Scales of the aligned draws, the number of sweeps, and of scales without a law by units."""

    scales: Transformation
    n_sweeps: int
    n_left: dict[str, int]


def _check_not_centred(resolved: ResolvedSpec) -> None:
    """Raise SpecError for centred weights: the law of the scales is that of whole weights."""
    scaled = scaled_units(resolved)
    for variable in centred_variables(resolved).values():
        units = next((u for _, u, _ in variable.unit_axes() if u in scaled), None)
        if units is not None:
            raise SpecError(
                f"{variable.name!r} was centred, and the law of the scales of {units!r} needs the "
                "whole weights; align without the gauge 'centred', then redraw"
            )


def _complete(
    resolved: ResolvedSpec, priors: Priors, posterior: xr.Dataset
) -> dict[str, float | None]:
    """Return the priors; raise SpecError if one is not sound or missing."""
    checked = checked_priors(resolved, priors)
    for name in checked:
        if name not in posterior:
            known = [str(variable) for variable in posterior.data_vars]
            raise SpecError(f"priors: unknown variable {name!r}{closest(name, known)}")
    missing = without_prior(resolved, checked)
    if missing:
        raise SpecError(
            f"priors lack {', '.join(map(repr, missing))}: the law of the scales needs the prior "
            "standard deviation of every variable that holds weights or biases of the units"
        )
    return checked


def _draw(
    groups: Mapping[str, xr.Dataset],
    resolved: ResolvedSpec,
    priors: Mapping[str, float | None],
    rng: np.random.Generator,
    n_sweeps: int | None,
    report: Report,
) -> _Drawn:
    """Draw the scales of all units, set by set."""
    kept = ~non_finite(resolved, groups)
    arrays = {
        v.name: chain_draw_values(groups["posterior"][v.name])[kept]
        for v in resolved.measured()
        if priors.get(v.name) is not None
    }
    terms = precision_terms(arrays, resolved, priors)
    sweeps = enough_sweeps(terms) if n_sweeps is None else n_sweeps
    scaled = scaled_units(resolved)
    scales = {units: np.ones((int(kept.sum()), resolved.sizes[units])) for units in scaled}
    n_left = {}
    for sweep in range(sweeps):
        for units, degree in scaled.items():
            t = draw_scale(*scale_parameters(terms, scales, units), rng, degree=degree)
            no_law = np.isnan(t)
            scales[units] = scales[units] * np.exp(np.where(no_law, 0.0, t))
            n_left[units] = int(no_law.sum())
        report("redraw scales", sweep + 1, sweeps)
    elements = Transformation.identity(resolved.sizes, kept.shape).elements
    for units, scale in scales.items():
        monomial(elements[units]).factor[kept] = scale
    return _Drawn(Transformation(elements), sweeps, n_left)


def _redrawn(
    record: Provenance, options: Mapping[str, Any], n_left: Mapping[str, int]
) -> Provenance:
    """Return the record of draws with new scales, without findings on the old ones."""
    warnings = [left for w in record.warnings if (left := _without(w, n_left))]
    for units, number in n_left.items():
        opening = f"units {units!r}"
        warnings = [w for w in warnings if not (w.startswith(opening) and w.endswith(_LEFT))]
        if number:
            warnings.append(f"{opening}: in {number} places (unit and draw) {_LEFT}")
    result = record.result
    if record.redrawn is None:
        names = ", ".join(map(repr, n_left))
        result = f"{result}; the scales of {names} were then drawn from their law"
    return replace(
        record.without_findings(), redrawn=options, warnings=tuple(warnings), result=result
    )


def _without(warning: str, drawn: Mapping[str, int]) -> str:
    """Return a warning on the prior without the units whose scales were drawn; maybe empty."""
    head, _, reason = warning.partition(": ")
    if not head.startswith("units ") or not reason.endswith("are a section of the orbit"):
        return warning
    names = head.removeprefix("units ").split(", ")
    left = [name for name in names if not name.startswith(tuple(f"{u!r} (" for u in drawn))]
    return f"units {', '.join(left)}: {reason}" if left else ""
