"""Alignment to a reference that is given and stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import xarray as xr

from relabel.errors import SpecError
from relabel.matching.criteria.mean import Mean

__all__ = ["ToReference"]


@dataclass(frozen=True)
class ToReference(Mean):
    """Every draw as near as possible to one given point.

    Parameters
    ----------
    to : Dataset, mapping, or {"map", "medoid"}
        A Dataset with the posterior's variables and one point (no chain and draw, or one of
        each); ``{"chain": c, "draw": d}``, coordinates of a draw; ``"map"``, the draw of highest
        ``sample_stats/lp``; ``"medoid"``, the draw that lies nearest to the iterated mean.
    scale, variables
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
    >>> criterion = relabel.criteria.ToReference(to={"chain": 0, "draw": 1})
    >>> relabel.align(draws, {"component": "permutation"}, criterion=criterion)["mu"].values[0, 0]
    array([5., 0.])
    """

    scale: Literal["pooled", "none"] = "pooled"
    max_sweeps: int = 0
    variables: tuple[str, ...] | None = None
    to: xr.Dataset | Mapping[str, Any] | str = "map"
    name: ClassVar[str] = "reference"

    @property
    def first(self) -> Any:
        """Return which draw is the reference."""
        return self.to

    def __post_init__(self) -> None:
        """Check the options."""
        if self.max_sweeps != 0:
            raise SpecError("criterion reference: the reference stays; max_sweeps cannot be set")
        self.check_features()
        self.check_point("to", self.to)

    def check_point(self, option: str, value: Any) -> None:
        """Check the option that says which draw or point is the reference."""
        named = isinstance(value, str) and value in ("map", "medoid")
        point = isinstance(value, Mapping) and (
            isinstance(value, xr.Dataset) or set(value) == {"chain", "draw"}
        )
        if not (named or point):
            raise SpecError(
                f"criterion {self.name}: {option!r} is 'map', 'medoid', {{'chain': c, 'draw': d}} "
                f"or a Dataset with one point, not {_shown(value)}; of draws that were aligned, "
                "pass the mean: aligned['posterior'].to_dataset().mean(['chain', 'draw'])"
            )


def _shown(value: Any) -> str:
    """Show a wrong value, in short."""
    text = repr(value)
    return text if len(text) < 60 else f"a {type(value).__name__}"
