"""Independent normals within the slots: the labels under which the draws are most probable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from relabel._util.validate import choice, integer, real
from relabel.groups import Score
from relabel.groups.elements import Element
from relabel.matching.criteria.base import Criterion, Reference, Statistics
from relabel.matching.features import Block, Layout, aligned_own, aligned_pair
from relabel.matching.moments import Pooled

__all__ = ["Normal"]

Array = NDArray[Any]

#: Variance that every value is taken to have beside its own, as a share of the pooled variance.
_RESOLUTION = 1e-10


@dataclass(frozen=True)
class Normal(Criterion):
    scales: Literal["slot", "shared"] = "slot"
    shrinkage: float = 0.4
    max_sweeps: int = 100
    var_names: tuple[str, ...] | None = None
    name: ClassVar[str] = "normal"
    rotates: ClassVar[bool] = True
    tries_starts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the options."""
        self.check_option("scales", choice, ("slot", "shared"))
        self.check_option("shrinkage", real, 0, open_ends=True)
        self.check_option("max_sweeps", integer, 1)
        self.check_var_names()

    @property
    def matched_variables(self) -> tuple[str, ...] | None:
        """Names of the variables that units are matched on."""
        return self.var_names

    def statistics(
        self, block: Block, layout: Layout, elements: Mapping[str, Element]
    ) -> Statistics:
        """Return sums and sums of squares of the aligned features."""
        sums: Statistics = {"n": len(block)}
        for units in layout.sizes:
            aligned = aligned_own(block, layout, units, elements[units])
            sums[f"own {units}"] = aligned.sum(axis=0)
            sums[f"squares {units}"] = np.einsum("dkr,dkr->kr", aligned, aligned)
        for number in range(len(layout.pairs)):
            sums[f"pair {number}"] = aligned_pair(block, layout, number, elements).sum(axis=0)
            sums[f"norm {number}"] = float(block.norms[number][0].sum())
        return sums

    def form_reference(
        self, statistics: Statistics, pooled: Pooled, layout: Layout, previous: Reference | None
    ) -> Reference:
        """Fit a normal to every slot and feature."""
        n = statistics["n"]
        own, precision = {}, {}
        penalty = 0.0
        for units, group in layout.groups.items():
            mean = statistics[f"own {units}"] / n
            scatter = statistics[f"squares {units}"] / n - mean**2
            scatter = np.maximum(scatter, 0.0) + _RESOLUTION * pooled.own[units]
            if self.scales == "shared" or group.rotates:
                variance = np.broadcast_to(scatter.mean(axis=0), scatter.shape)
            else:
                logs, common = thresholded(np.log(scatter), self.shrinkage)
                penalty += 0.5 * n * self.shrinkage * float(np.abs(logs - common).sum())
                variance = np.exp(logs)
            own[units], precision[units] = mean, 1 / variance
            penalty += 0.5 * n * _RESOLUTION * float((pooled.own[units] / variance).sum())
        pairs = tuple(statistics[f"pair {p}"] / n for p in range(len(layout.pairs)))
        variances = [
            max(statistics[f"norm {p}"] / (n * m.size) - float((m**2).mean()), 0.0)
            + _RESOLUTION * v
            for p, (m, v) in enumerate(zip(pairs, pooled.pairs, strict=True))
        ]
        constant = sum(0.5 * m.size * np.log(v) for m, v in zip(pairs, variances, strict=True))
        penalty += sum(
            0.5 * n * _RESOLUTION * m.size * v / s
            for m, v, s in zip(pairs, pooled.pairs, variances, strict=True)
        )
        return Reference(
            own,
            layout.centre,
            {},
            pairs,
            tuple(0.5 / v for v in variances),
            float(constant),
            precision=precision,
            penalty=penalty,
        )

    def score(self, block: Block, layout: Layout, reference: Reference, units: str) -> Score:
        """Score by the log density of own features."""
        return log_density(
            layout.features(block, units),
            layout.signed(units),
            reference.own[units],
            reference.precision[units],
        )


def thresholded(logs: Array, share: float) -> tuple[Array, Array]:
    r"""Log variances of the slots, and what most of them share.

    Minimises, over *u* and *c*,

    .. math:: \sum_k \tfrac12 (u_k + s_k e^{-u_k}) + \tfrac\lambda2 |u_k - c|

    which is convex. `logs` are log s_k, shape (K, R).
    """
    below, above = -np.log1p(-share), np.log1p(share)
    low, high = logs.min(axis=0), logs.max(axis=0)
    for _ in range(60):
        common = 0.5 * (low + high)
        slope = np.clip(1 - np.exp(np.clip(logs - common, -50, 50)), -share, share).sum(axis=0)
        high = np.where(slope >= 0, common, high)
        low = np.where(slope < 0, common, low)
    common = 0.5 * (low + high)
    return np.where(
        logs < common - below, logs + below, np.where(logs > common + above, logs - above, common)
    ), common


def log_density(features: Array, signed: Array, mean: Array, precision: Array) -> Score:
    r"""Log densities of units as slots, constants left out, split by parity in the sign."""
    n_draws, n_units, n_features = features.shape
    scaled = mean * precision
    constant = 0.5 * np.log(precision).sum(axis=1) - 0.5 * (mean * scaled).sum(axis=1)
    flat = features.reshape(-1, n_features)
    shape = (n_draws, n_units, len(mean))
    even = constant - 0.5 * (flat**2 @ precision.T).reshape(shape)
    if not signed.all():
        even += (flat @ np.where(signed, 0.0, scaled).T).reshape(shape)
    if not signed.any():
        odd = np.broadcast_to(0.0, shape)
    else:
        odd = (flat @ np.where(signed, scaled, 0.0).T).reshape(shape)
    return Score(even.swapaxes(1, 2), odd.swapaxes(1, 2))
