"""Permutations that were found elsewhere: carried out, and judged like all others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from relabel.errors import SpecError
from relabel.matching.criteria.base import checked_variables
from relabel.matching.criteria.mean import Mean

__all__ = ["Permutations"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Permutations(Mean):
    """The permutations of another program, or of one's own.

    Draws are relabelled by what is given. Their losses and margins are those of
    :class:`relabel.criteria.Mean` under the mean of the draws that were so relabelled; a margin
    below zero
    says that other labels lie nearer to it. Draws of the warm-up, of which nothing is given, are
    matched to that mean. Factors that rotate are rotated first, as their gauge says (by varimax);
    permutations of factors as they came go with factors that are declared ``signed``.

    Parameters
    ----------
    index : ndarray of int of shape (chain, draw, K), str, or mapping of units to such
        Slot *k* takes the draw's unit ``index[..., k]`` (counted from 0); or the address
        ``group/name`` of a variable with these values. Give the inverse (``argsort``) of a
        permutation that says which slot each unit goes to.
    factor : ndarray of shape (chain, draw, K), str, or mapping of units to such, optional
        Signs, 1 or −1, of what slot *k* then holds; only for units that have signs.
    scale, variables
        As in :class:`relabel.criteria.Mean`.

    Examples
    --------
    >>> import numpy as np, xarray as xr, relabel
    >>> mu = np.array([[[0.0, 5.0], [5.1, 0.1], [-0.1, 4.9]]])
    >>> draws = xr.Dataset({"mu": (("chain", "draw", "component"), mu)})
    >>> criterion = relabel.criteria.Permutations(index=np.array([[[1, 0], [0, 1], [1, 0]]]))
    >>> relabel.align(draws, {"component": "permutation"}, criterion=criterion)["mu"].values[0]
    array([[ 5. ,  0. ],
           [ 5.1,  0.1],
           [ 4.9, -0.1]])
    """

    index: Any = None
    factor: Any = None
    scale: Literal["pooled", "none"] = field(default="pooled", kw_only=True)
    variables: tuple[str, ...] | None = field(default=None, kw_only=True)
    max_sweeps: ClassVar[int] = 0  # type: ignore[misc]
    name: ClassVar[str] = "permutations"
    rotates: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the options."""
        self.check_features()
        object.__setattr__(self, "variables", checked_variables(self.name, self.variables))
        if self.index is None:
            raise SpecError(
                "criterion permutations: index is missing; give the permutations as an array of "
                "shape (chain, draw, K), or the address of a variable"
            )
        for option, value in (("index", self.index), ("factor", self.factor)):
            parts = value.values() if isinstance(value, Mapping) else [value]
            for part in parts:
                if not isinstance(part, (str, np.ndarray)) and part is not None:
                    raise SpecError(
                        f"criterion permutations: {option} is an array or the address of a "
                        f"variable, not {part!r}"
                    )
