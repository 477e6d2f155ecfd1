"""Accessors ``tree.relabel`` and ``dataset.relabel``: thin over the functions of :mod:`relabel`.

The functions are imported where they are called, since accessors are registered as soon as xarray
is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import xarray as xr

if TYPE_CHECKING:
    from relabel.data.provenance import Provenance
    from relabel.diagnostics.diagnosis import Diagnosis
    from relabel.spec.spec import Spec

__all__ = ["RelabelAccessor", "register"]

Data = TypeVar("Data", bound="xr.DataTree | xr.Dataset")


class RelabelAccessor(Generic[Data]):
    """What can be done with draws, as methods of the draws.

    The group ``relabel`` of an aligned tree is ``tree["relabel"]``.

    Parameters
    ----------
    data : DataTree or Dataset
        Draws with the dimensions chain and draw.

    Examples
    --------
    >>> import numpy as np, xarray as xr, relabel
    >>> mu = np.array([[[0.0, 5.0], [5.1, 0.1], [-0.1, 4.9]]])
    >>> draws = xr.Dataset({"mu": (("chain", "draw", "component"), mu)})
    >>> aligned = draws.relabel.align({"component": "permutation"})
    >>> aligned.relabel.undo().identical(draws)
    True
    """

    def __init__(self, data: Data) -> None:
        self._data = data

    def align(self, spec: Spec | Mapping[str, str], **options: Any) -> Data:
        """Relabel every draw: see :func:`relabel.align`."""
        from relabel.alignment.alignment import align

        return align(self._data, spec, **options)

    def undo(self) -> Data:
        """Return the draws as they were before any alignment: see :func:`relabel.undo`."""
        from relabel.alignment.inverse import undo

        return undo(self._data)

    def diagnose(self, **options: Any) -> tuple[Data, Diagnosis]:
        """Say which labels may be believed: see :func:`relabel.diagnose`."""
        from relabel.diagnostics.diagnosing import diagnose

        return diagnose(self._data, **options)

    @property
    def provenance(self) -> Provenance:
        """How aligned draws were made: see :class:`relabel.Provenance`."""
        from relabel.data.provenance import Provenance

        return Provenance.of(self._data)

    @property
    def confidence(self) -> dict[str, xr.DataArray]:
        """Mean probability that the label of each slot is right, by set of units.

        Read from what :func:`relabel.diagnose` added to the draws; without that it is an error.
        """
        from relabel.diagnostics.diagnosis import stored_confidence

        return stored_confidence(self._data)


def register() -> None:
    """Register the accessor for trees and datasets."""
    for registrar in (xr.register_datatree_accessor, xr.register_dataset_accessor):
        registrar("relabel")(RelabelAccessor)  # type: ignore[no-untyped-call]
