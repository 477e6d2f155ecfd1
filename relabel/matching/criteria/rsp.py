"""Rotation, sign and permutation of factor loadings (RSP), exact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from relabel._util.validate import choice
from relabel.errors import SpecError
from relabel.groups import Group, Score, SignedPermutation
from relabel.groups.elements import Dense, Element
from relabel.matching.criteria.base import FromDrawOrLabels, Reference, StartReference
from relabel.matching.criteria.factor_criteria import OfLoadings
from relabel.matching.features import MatchingRule, Source
from relabel.numerics.rotations import procrustes, varimax

__all__ = ["RSP"]

Array = NDArray[Any]

_GAIN = 1e-9  # share of the squared lengths below which a draw is not nearer


@dataclass(frozen=True)
class RSP(FromDrawOrLabels, OfLoadings):
    r"""Varimax in every draw, then signed permutations towards the mean of the aligned loadings.

    .. math:: \sum_t \min_{s_t, \sigma_t}
        \sum_k \lVert s_{tk} \lambda_{t, \sigma_t(k)} - \bar\lambda_k \rVert^2

    over signs and permutations of the rotated columns :math:`\lambda_{tj}` and over the mean in
    turn, so the loss never rises. Signs separate over pairs of columns, so one assignment a draw is
    exact and the :math:`2^q` patterns of signs are not enumerated.

    Parameters
    ----------
    variable : str, optional
        The loadings; by default the only variable with an axis of the factors and one other, or
        the only one of these that is named so (``lambda`` or ``load`` in its name).
    rotation : {"varimax", "varimax-kaiser", "none"}
        ``"none"`` leaves out the rotation, for factors that are identified but for signs and
        labels.
    optima : {"nearest", "own"}
        Varimax has several local optima where columns are noisy. ``"own"`` takes the one that a
        draw's columns lead to, as published; ``"nearest"`` also tries the one that is found from
        the rotation nearest to the mean, and takes whichever is nearer to the mean, again and again
        until no draw changes: the loss is then a minimum over rotations too, and never higher.
    reference : {"both", "labels", "draw"}
        The first reference: the mean of the (rotated) draws as they come, one draw, or each in
        turn, of which the lower loss is kept.
    max_sweeps : int, default 100
        Bound on the number of times the mean is formed anew.

    References
    ----------
    Papastamoulis, P. & Ntzoufras, I. (2022). On the identifiability of Bayesian factor analytic
    models. *Statistics and Computing* 32, 23. https://doi.org/10.1007/s11222-022-10084-4

    Examples
    --------
    >>> import numpy as np, xarray as xr, relabel
    >>> one = np.array([[1.0, 0.1], [2.0, 0.0], [0.1, 1.0], [0.0, 3.0]])
    >>> quarter = np.array([[0.6, -0.8], [0.8, 0.6]])
    >>> dims = ("chain", "draw", "item", "factor")
    >>> draws = xr.Dataset({"Lambda": (dims, np.stack([one, one @ quarter])[None])})
    >>> spec = relabel.Spec({"factor": "orthogonal"}, {"Lambda": "item factor"})
    >>> aligned = relabel.align(draws, spec, criterion=relabel.criteria.RSP())
    >>> bool(np.allclose(aligned["Lambda"][0, 0], aligned["Lambda"][0, 1]))
    True
    """

    variable: str | None = None
    rotation: Literal["varimax", "varimax-kaiser", "none"] = "varimax"
    optima: Literal["nearest", "own"] = "nearest"
    reference: StartReference = "both"
    max_sweeps: int = 100
    name: ClassVar[str] = "rsp"
    renamed_options: ClassVar[Mapping[str, str]] = {"start": "reference"}

    def __post_init__(self) -> None:
        """Check the options."""
        self.check_variable()
        self.check_option("rotation", choice, ("varimax", "varimax-kaiser", "none"))
        self.check_option("optima", choice, ("nearest", "own"))
        self.check_start()

    def rule(self, group: Group, units: str) -> MatchingRule:
        """Rotate, and match signed permutations."""
        self.check_signs(group, units)
        if self.rotation != "none" and not group.rotates:
            raise SpecError(
                f"criterion rsp: the units {units!r} are declared {group.label}, which no rotation "
                f"leaves alone; declare them 'orthogonal', or set rotation='none'"
            )
        return MatchingRule(SignedPermutation(), self.rotation)

    def turned(
        self, source: Source, reference: Reference, elements: Mapping[str, Element]
    ) -> dict[str, Dense]:
        """Return the rotations to other optima of varimax, of draws that these bring nearer."""
        if self.rotation == "none" or self.optima == "own" or reference.conditioning:
            return {}
        ((units, mean),) = reference.own.items()
        turns = [
            self._nearer(elements[units][rows].act(source.block(number).own[units]), mean)
            for number, rows in enumerate(source.slices)
        ]
        return {units: Dense(np.concatenate(turns))}

    def _nearer(self, aligned: Array, mean: Array) -> Array:
        """Return rotations of aligned columns, (draws, q, q): identities where none is nearer."""
        turn = procrustes(mean @ aligned.swapaxes(1, 2))
        columns = (turn @ aligned).swapaxes(1, 2)
        kaiser = self.rotation == "varimax-kaiser"
        turn = varimax(columns, kaiser=kaiser).swapaxes(1, 2) @ turn
        score = mean @ (turn @ aligned).swapaxes(1, 2)
        matched = SignedPermutation().match(Score(np.zeros(score.shape), score))
        turn = matched.matrices() @ turn
        before, after = (((x - mean) ** 2).sum(axis=(1, 2)) for x in (aligned, turn @ aligned))
        nearer = after < before - _GAIN * (before + (mean**2).sum())
        return np.where(nearer[:, None, None], turn, np.eye(len(mean)))
