"""Alignment to a reference that is given and stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import xarray as xr

from relabel._util.validate import choice
from relabel.errors import SpecError
from relabel.matching.criteria.base import Criterion, is_draw
from relabel.matching.criteria.mean import SCALES, ByMean, Mean

__all__ = ["POINTS", "ToReference", "checked_point"]

#: Draws that stand for a reference by name.
POINTS = ("map", "medoid")


@dataclass(frozen=True)
class ToReference(ByMean):
    """Every draw as near as possible to one given point.

    Parameters
    ----------
    reference : Dataset, mapping, or {"map", "medoid"}
        A Dataset with the posterior's variables and one point (no chain and draw, or one of
        each); ``{"chain": c, "draw": d}``, coordinates of a draw; ``"map"``, the draw of highest
        ``sample_stats/lp``; ``"medoid"``, the draw that lies nearest to the iterated mean.
    scale, var_names
        As in :class:`relabel.criteria.Mean`.

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
    >>> criterion = relabel.criteria.ToReference({"chain": 0, "draw": 1})
    >>> relabel.align(draws, {"component": "permutation"}, criterion=criterion)["mu"].values[0, 0]
    array([5., 0.])
    """

    reference: xr.Dataset | Mapping[str, Any] | str = "map"
    scale: Literal["pooled", "none"] = field(default="pooled", kw_only=True)
    var_names: tuple[str, ...] | None = field(default=None, kw_only=True)
    name: ClassVar[str] = "reference"
    rotates: ClassVar[bool] = True
    named_references: ClassVar[tuple[str, ...]] = POINTS
    renamed_options: ClassVar[Mapping[str, str]] = {"to": "reference", "variables": "var_names"}

    def __post_init__(self) -> None:
        """Check the options."""
        self.check_option("reference", checked_point)
        self.check_option("scale", choice, SCALES)
        self.check_var_names()

    @property
    def mean(self) -> Mean:
        """The mean that features are compared by."""
        return Mean(self.scale, var_names=self.var_names)

    @property
    def first_reference(self) -> Any:
        """Return the draw or point that is the reference."""
        return self.reference

    def for_features(self) -> Criterion:
        """Return the mean by the same features: a point says nothing of shuffled units."""
        return self.mean


def checked_point(option: str, value: Any) -> Any:
    """Return a draw or point that draws are compared with.

    Parameters
    ----------
    option : str
        Name of the option, for messages.
    value : Dataset, mapping, or {"map", "medoid"}

    Raises
    ------
    SpecError
        If it is something else.
    """
    if isinstance(value, xr.Dataset) or is_draw(value):
        return value
    if isinstance(value, str) and value in POINTS:
        return value
    shown = repr(value) if len(repr(value)) < 60 else f"a {type(value).__name__}"
    raise SpecError(
        f"{option} must be 'map', 'medoid', {{'chain': c, 'draw': d}} or a Dataset with one point, "
        f"not {shown}; of draws that were aligned, pass the mean: "
        "aligned['posterior'].to_dataset().mean(['chain', 'draw'])"
    )
