"""Relabel other data that share the draws, as the draws were relabelled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import xarray as xr

from relabel.alignment.provenance import (
    check_same_draws,
    refuse_reduced,
    stored_elements,
    written_by,
)
from relabel.alignment.result import transformed
from relabel.data.containers import Data, DrawsLike, pack, unpack
from relabel.data.participants import participants, places_in
from relabel.data.provenance import Provenance
from relabel.errors import DataError, SpecError
from relabel.groups import group_of
from relabel.spec.spec import ResolvedSpec, Spec, spec_of
from relabel.spec.transformation import Transformation

__all__ = ["apply"]


def apply(data: Data, aligned: DrawsLike, *, spec: Spec | Mapping[str, str] | None = None) -> Data:
    """Relabel other data that share the draws, as `aligned` was relabelled.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset
        Draws in their original labels: those of `aligned`, or some of them, in any order, by
        their coordinates chain and draw.
    aligned : InferenceData, DataTree or Dataset
        What :func:`align` returned.
    spec : Spec, or mapping of str to str, optional
        The axes of the variables of `data`, if they are not those of `aligned`; the units must be
        the same. A mapping is the dims-only form, which is also taken where `data` has no variable
        of `aligned` that carries units.

    Returns
    -------
    Same type as `data`
        With the group ``relabel`` of `aligned`, so that :func:`undo` works.

    Raises
    ------
    DataError, SpecError
        If `aligned` was not aligned, if `data` has other draws, or if `data` was aligned already.

    Examples
    --------
    >>> import numpy as np, xarray as xr, relabel
    >>> sample = ("chain", "draw")
    >>> mu = np.array([[[0.0, 5.0], [5.1, 0.1], [-0.1, 4.9]]])
    >>> draws = xr.Dataset({"mu": ((*sample, "component"), mu)})
    >>> aligned = relabel.align(draws, {"component": "permutation"})
    >>> w = np.array([[[0.2, 0.8], [0.7, 0.3], [0.3, 0.7]]])
    >>> weights = xr.Dataset({"w": ((*sample, "component"), w)})
    >>> relabel.apply(weights, aligned)["w"].values[0]
    array([[0.2, 0.8],
           [0.3, 0.7],
           [0.3, 0.7]])
    """
    groups, source = unpack(data), unpack(aligned)
    spec = None if spec is None else spec_of(spec)
    if "relabel" in groups:
        raise DataError("these draws were aligned before; undo that first")
    stored_elements(source, "")
    refuse_reduced(source)
    changed: dict[str, xr.Dataset | None] = {}
    for prefix in ("", "warmup_"):
        if f"{prefix}relabel" in source and f"{prefix}posterior" in groups:
            changed |= _carried_over(groups, source, prefix, spec)
    return pack(data, changed)


def _carried_over(
    groups: Mapping[str, xr.Dataset],
    source: Mapping[str, xr.Dataset],
    prefix: str,
    spec: Spec | None,
) -> dict[str, xr.Dataset | None]:
    """Relabel groups by the elements that are stored with others."""
    taking = participants(groups, prefix)
    places = places_in(taking.same["posterior"], source[f"{prefix}relabel"])
    how = taking.described() | ({"posterior": "by coordinates"} if places else {})
    if places is not None:
        names = [f"{prefix}{name}" for name in ("posterior", "relabel")]
        source = {**source, **{name: source[name].isel(places) for name in names}}
    _, transformation = stored_elements(source, prefix)
    check_same_draws(source[f"{prefix}relabel"], taking.same["posterior"])
    views = taking.views()
    provenance = Provenance.within(source, prefix)
    if spec is None:
        spec = _spec_for(views, provenance)
    elif prefix:
        spec = spec.present_in(views)
    taking.compared(spec)
    resolved = spec.bind(views)
    _check_same_units(transformation, provenance.spec, resolved)
    own = source[f"{prefix}relabel"]
    own = own.drop_vars(provenance.offsets)
    if transformation.offsets is not None:
        transformation = replace(
            transformation, offsets=transformation.offsets.restricted(resolved)
        )
    provenance = replace(
        provenance,
        spec=resolved.complete_spec(),
        variables=written_by(resolved, views),
        offsets=(),
        groups=how,
        n_moved=transformation.n_moved(),
    )
    if not prefix and "warmup_relabel" in source:
        provenance = provenance.beside(participants(groups, "warmup_").same)
    own = own.drop_attrs(deep=False)
    return transformed(groups, taking, prefix, resolved, transformation, own, provenance)


def _check_same_units(done: Transformation, before: Spec, resolved: ResolvedSpec) -> None:
    """Refuse a relabelling of other units than these draws have."""
    for units, element in done.elements.items():
        if resolved.sizes.get(units) != element.size:
            raise DataError(
                f"the relabelling is of {element.size} units {units!r}; these draws have "
                f"{resolved.sizes.get(units, 'none')} of them"
            )
        was, now = before.units[units], resolved.spec.units[units]
        if group_of(was) != group_of(now):
            raise SpecError(
                f"the units {units!r} were aligned as {was!r}, and the spec declares them {now!r}: "
                f"declare them {was!r}; '{units}^0' in axes is for what is only permuted"
            )


def _spec_for(groups: Mapping[str, xr.Dataset], provenance: Provenance) -> Spec:
    """Return the stored spec; or the dims-only form, where none of its variables is there."""
    stored, known = provenance.spec, provenance.variables
    there = {f"{group}/{name}" for group, ds in groups.items() for name in ds.data_vars}
    dims = {dim for dataset in groups.values() for dim in dataset.dims}
    return stored if there & set(known) or not dims & set(stored.units) else Spec(stored.units)
