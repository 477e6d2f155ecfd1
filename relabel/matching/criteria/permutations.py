"""Permutations that were found elsewhere: carried out, and judged like all others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from relabel._util.validate import choice
from relabel.errors import SpecError
from relabel.groups.elements import Element
from relabel.matching.criteria.base import Criterion
from relabel.matching.criteria.given import ToReference
from relabel.matching.criteria.mean import SCALES, ByMean, Mean
from relabel.matching.draws import Draws
from relabel.matching.given_permutations import given_elements

__all__ = ["Permutations"]


@dataclass(frozen=True)
class Permutations(ByMean):
    """The permutations of another program, or of one's own.

    Draws are relabelled by the given permutations. Their losses and margins are those of
    :class:`relabel.criteria.Mean` under the mean of the draws that were so relabelled; a margin
    below zero says that other labels lie nearer to it. Draws of the warm-up, for which none are
    given, are matched to that mean. Factors that rotate are rotated
    first, as their gauge says (by varimax); permutations of factors as they came go with factors
    that are declared ``signed``.

    Parameters
    ----------
    index : ndarray of int of shape (chain, draw, K), str, or mapping of units to such
        Slot *k* takes the draw's unit ``index[..., k]`` (counted from 0); or the address
        ``group/name`` of a variable with these values. Give the inverse (``argsort``) of a
        permutation that says which slot each unit goes to.
    factor : ndarray of shape (chain, draw, K), str, or mapping of units to such, optional
        Signs, 1 or −1, of what slot *k* then holds; only for units that have signs.
    scale, var_names
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
    var_names: tuple[str, ...] | None = field(default=None, kw_only=True)
    name: ClassVar[str] = "permutations"
    renamed_options: ClassVar[Mapping[str, str]] = {"variables": "var_names"}

    def __post_init__(self) -> None:
        """Check the options."""
        self.check_option("scale", choice, SCALES)
        self.check_var_names()
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
                        f"criterion permutations: {option} must be an array or the address of a "
                        f"variable, not {part!r}"
                    )

    @property
    def mean(self) -> Mean:
        """The mean that the relabelled draws are compared with."""
        return Mean(self.scale, var_names=self.var_names)

    def given(self, draws: Draws) -> Mapping[str, Element]:
        """Return the given permutations of the draws that take part."""
        return given_elements(draws, self.index, self.factor)

    def for_features(self) -> Criterion:
        """Return the criterion that brings draws near to one of them by the same features."""
        return ToReference(scale=self.scale, var_names=self.var_names)

    @classmethod
    def from_record(cls, options: Mapping[str, Any]) -> Criterion:
        """Rebuild the criterion, which is then good for comparisons only.

        Of arrays the record says that they were given, as if that were their address.
        """
        return cls(**options)
