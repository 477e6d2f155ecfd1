"""Draws of TensorFlow Probability: tensors in the structures that its samplers return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr

from relabel.errors import DataError, SpecError
from relabel.sources.parts import flattened
from relabel.sources.samples import tree_of

__all__ = ["from_tfp"]

_SOURCE = "tfp"


def from_tfp(
    samples: Any, var_names: Sequence[str] | None = None, *, sample_dims: str = "draw chain"
) -> xr.DataTree:
    """Read draws of TensorFlow Probability, whose leading axes are draw and chain.

    Parameters
    ----------
    samples : mapping of str to tensor, namedtuple, sequence of tensors, or tensor
        The states of ``tfp.mcmc.sample_chain``, in any structure; tensors of TensorFlow, JAX or
        NumPy.
    var_names : sequence of str, optional
        Names of the parts of a sequence without names, in its order, or of a single tensor.
    sample_dims : str, default "draw chain"
        Leading axes; ``"draw"`` for one chain that was not batched. The samplers of
        ``tfp.experimental.mcmc`` return (draw, chain, ...) as well.

    Returns
    -------
    DataTree

    Raises
    ------
    SpecError
        If `var_names` are needed and not given, or their number is wrong.
    DataError
        If arrays disagree about draws and chains.

    Examples
    --------
    >>> import numpy as np
    >>> draws = from_tfp([np.zeros((100, 4, 3)), np.zeros((100, 4))], ["w", "sigma"])
    >>> dict(draws["posterior"].sizes)
    {'chain': 4, 'draw': 100, 'w_dim_0': 3}
    """
    return tree_of(_named(samples, var_names), source=_SOURCE, sample_dims=sample_dims)


def _named(samples: Any, var_names: Sequence[str] | None) -> dict[str, Any]:
    """Give every part its name."""
    fields = getattr(samples, "_fields", None)
    if fields is not None:
        samples = dict(zip(fields, samples, strict=True))
    if isinstance(samples, Mapping):
        if var_names is not None:
            raise SpecError("tfp: the samples have names of their own; leave var_names out")
        return flattened(samples)
    parts = list(samples) if isinstance(samples, (list, tuple)) else [samples]
    if any(isinstance(part, (list, tuple, Mapping)) for part in parts):
        raise DataError("tfp: samples within samples have no names; give a mapping of tensors")
    if var_names is None or len(var_names) != len(parts) or len(set(var_names)) != len(parts):
        raise SpecError(
            f"tfp: the samples are {len(parts)} tensors without names: give var_names, one for each"
            + (f", not {list(var_names)}" if var_names is not None else "")
        )
    return dict(zip(var_names, parts, strict=True))
