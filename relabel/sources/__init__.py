"""Draws in the form of other libraries, as objects and files, and back: one file for each form.

A reader takes objects or paths and returns an :class:`xarray.DataTree` with a group ``posterior``
of the dimensions chain and draw, as :func:`relabel.align` takes it; ``to_*`` gives draws back in
the form of their library. Kinds of files are in the registry :data:`SOURCES`, which
:func:`relabel.open_draws` and :func:`relabel.save` use and other packages can extend. The libraries
themselves are imported where they are used. No pickle is ever loaded.
"""

from relabel.sources.base import Source
from relabel.sources.emcee import from_emcee, to_emcee
from relabel.sources.flat import from_npy, ravel, unravel
from relabel.sources.flax import from_flax
from relabel.sources.gaussian import from_gaussian, gaussian_spec
from relabel.sources.kinds import SOURCES
from relabel.sources.npz import from_dict, from_npz, to_dict
from relabel.sources.numpyro import from_numpyro, to_numpyro
from relabel.sources.pymc import from_pymc
from relabel.sources.pyro import from_pyro
from relabel.sources.pytorch import from_torch, to_torch
from relabel.sources.pytrees import from_pytree, to_pytree
from relabel.sources.safetensors import from_safetensors
from relabel.sources.samples import tree_of
from relabel.sources.stan import from_stan
from relabel.sources.tfp import from_tfp

__all__ = [
    "SOURCES",
    "Source",
    "from_dict",
    "from_emcee",
    "from_flax",
    "from_gaussian",
    "from_npy",
    "from_npz",
    "from_numpyro",
    "from_pymc",
    "from_pyro",
    "from_pytree",
    "from_safetensors",
    "from_stan",
    "from_tfp",
    "from_torch",
    "gaussian_spec",
    "ravel",
    "to_dict",
    "to_emcee",
    "to_numpyro",
    "to_pytree",
    "to_torch",
    "tree_of",
    "unravel",
]
