"""Undo label switching in posterior draws: permutations, signs, scales and rotations.

The verbs take draws that any sampler has made, and give back the same type: :func:`align` relabels
them, :func:`diagnose` says which labels may be believed, :func:`undo` goes back. :class:`Spec`
declares what is exchangeable.

Further namespaces: :mod:`relabel.models` (ready specs), :mod:`relabel.criteria`,
:mod:`relabel.groups`, :mod:`relabel.sources` (draws of other libraries), :mod:`relabel.stats` and
:mod:`relabel.simulate`. With xarray, ``tree.relabel`` and ``dataset.relabel`` are accessors to the
verbs.

Everything is loaded when it is first used: ``import relabel`` takes about as long as NumPy.
"""

import lazy_loader

from relabel._util.imports import when_imported

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def _register_accessors() -> None:
    """Register ``tree.relabel`` and ``dataset.relabel``."""
    from relabel.accessor import register

    register()


when_imported("xarray", _register_accessors)
