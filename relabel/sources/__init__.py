"""Draws in the form in which other libraries hold them, and back: one file for each form.

Every reader returns an :class:`xarray.DataTree` with a group ``posterior`` of the dimensions chain
and draw, which :func:`relabel.align` takes. The libraries themselves are imported where they are
used. No pickle is ever loaded.
"""

from relabel.sources.flat import from_npy, ravel, unravel
from relabel.sources.flax import from_flax
from relabel.sources.npz import from_dict, from_npz, to_dict
from relabel.sources.pytorch import from_torch, to_state_dicts
from relabel.sources.pytrees import from_pytree, to_pytree
from relabel.sources.safetensors import from_safetensors

__all__ = [
    "from_dict",
    "from_flax",
    "from_npy",
    "from_npz",
    "from_pytree",
    "from_safetensors",
    "from_torch",
    "ravel",
    "to_dict",
    "to_pytree",
    "to_state_dicts",
    "unravel",
]
