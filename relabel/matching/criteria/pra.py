"""Relabelling to a pivot draw: the labels that lie nearest to it, in the parameters' own units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import xarray as xr

from relabel.matching.criteria.base import Criterion
from relabel.matching.criteria.given import POINTS, checked_point
from relabel.matching.criteria.mean import ByMean, Mean

__all__ = ["PRA"]


@dataclass(frozen=True)
class PRA(ByMean):
    r"""Pivotal reordering: every draw as near as possible to a pivot, none of it rescaled.

    .. math:: \max_{\sigma_t} \sum_k \langle \theta^*_k, \theta_{t \sigma_t(k)} \rangle

    Since :math:`\sum_k \lVert\theta_{t\sigma(k)}\rVert^2` is the same for all permutations, this is

    .. math:: \min_{\sigma_t} \sum_k \lVert \theta_{t \sigma_t(k)} - \theta^*_k \rVert^2

    one assignment per draw, and the loss that is recorded: :class:`relabel.criteria.ToReference`
    with ``scale="none"``. Variables of large numbers decide: name those to match on, or use
    :class:`relabel.criteria.ToReference`.

    Parameters
    ----------
    reference : Dataset, mapping, or {"map", "medoid"}, default "map"
        The pivot, as :class:`relabel.criteria.ToReference` takes it.
    var_names : tuple of str, optional
        Variables to match on; all that carry units by default.

    References
    ----------
    Marin, J.-M., Mengersen, K. & Robert, C. P. (2005). Bayesian modelling and inference on
    mixtures of distributions. *Handbook of Statistics* 25, 459-507.
    https://doi.org/10.1016/S0169-7161(05)25016-2

    Examples
    --------
    >>> import numpy as np, xarray as xr, relabel
    >>> mu = np.array([[[0.0, 5.0], [5.1, 0.1], [-0.1, 4.9]]])
    >>> draws = xr.Dataset({"mu": (("chain", "draw", "component"), mu)})
    >>> criterion = relabel.criteria.PRA({"chain": 0, "draw": 1})
    >>> relabel.align(draws, {"component": "permutation"}, criterion=criterion)["mu"].values[0, 0]
    array([5., 0.])
    """

    reference: xr.Dataset | Mapping[str, Any] | str = "map"
    var_names: tuple[str, ...] | None = field(default=None, kw_only=True)
    name: ClassVar[str] = "pra"
    rotates: ClassVar[bool] = True
    named_references: ClassVar[tuple[str, ...]] = POINTS
    renamed_options: ClassVar[Mapping[str, str]] = {"pivot": "reference", "variables": "var_names"}

    def __post_init__(self) -> None:
        """Check the options."""
        self.check_option("reference", checked_point)
        self.check_var_names()

    @property
    def mean(self) -> Mean:
        """The mean that features are compared by."""
        return Mean(scale="none", var_names=self.var_names)

    @property
    def first_reference(self) -> Any:
        """Return the draw or point that is the pivot."""
        return self.reference

    def for_features(self) -> Criterion:
        """Return the mean by the same features: a pivot says nothing of shuffled units."""
        return self.mean
