"""Gaussian approximations: as near as possible in the Wasserstein distance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from relabel._util.validate import choice, integer
from relabel.errors import SpecError
from relabel.groups import Score
from relabel.groups.elements import Element, monomial
from relabel.matching.covariance_features import with_covariances
from relabel.matching.criteria.base import (
    Criterion,
    Reference,
    Statistics,
    is_draw,
    unary_distance,
)
from relabel.matching.criteria.mean import Mean
from relabel.matching.draws import Draws
from relabel.matching.features import Block, Layout, Problem, Source
from relabel.matching.moments import Pooled
from relabel.matching.probes import Probes
from relabel.numerics.gaussians import (
    COVARIANCE,
    COVARIANCE_OF,
    SD_OF,
    barycentre,
    fidelity,
    root_of,
    spread_of,
)
from relabel.spec.spec import ResolvedSpec

__all__ = ["Wasserstein"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Wasserstein(Criterion):
    r"""Members as Gaussians, by the squared 2-Wasserstein distance to their barycentre.

    For Gaussian approximations of a posterior (variational fits, Laplace approximations; see
    :func:`relabel.sources.from_gaussian`): every "draw" is the mean of one fit, with standard
    deviations or covariances beside it. Minimises

    .. math:: \sum_t \min_{g_t} W_2^2\big(N(g_t\mu_t, g_t\Sigma_t g_t^T),\; N(m, S)\big)

    over the elements and the reference in turn, so the loss never rises. Diagonal:

    .. math:: W_2^2 = \lVert\mu_1 - \mu_2\rVert^2 + \lVert\sigma_1 - \sigma_2\rVert^2,

    linear in the permutation, and the barycentre is the mean of the means and of the standard
    deviations. With full covariances, the weights of one unit (its own features, those not shared
    with other units) have their joint covariance, and

    .. math:: W_2^2 = \sum_k \lVert\mu_{1k} - \mu_{2k}\rVert^2
        + \operatorname{tr} \Sigma_{1k} + \operatorname{tr} \Sigma_{2k}
        - 2 \operatorname{tr} (\Sigma_{1k}^{1/2} \Sigma_{2k} \Sigma_{1k}^{1/2})^{1/2}

    plus the diagonal distance of weights between two sets of units: the distance of the Gaussians
    with all other covariances left out, which is the most that one assignment can see. It is
    solved exactly. The barycentre of covariances is the fixed point of Álvarez-Esteban et al.
    Nothing is rescaled. Costs :math:`O(K^2 R^3)` a member for *R* weights of a unit.

    Parameters
    ----------
    covariance : {"blocks", "diagonal"}
        Whether covariances, where the members have them, are compared, or standard deviations only.
    reference : mapping, optional
        ``{"chain": c, "draw": d}``: the member that is the reference, and stays; by default the
        barycentre.
    max_sweeps : int, default 100
        Bound on the number of times the barycentre is formed anew; 0 where `reference` is
        given.
    var_names : tuple of str, optional
        Means to match on, with what stands beside them; all that carry units by default.

    References
    ----------
    Rossi, S., Singh, A. & Hannagan, T. (2023). On permutation symmetries in Bayesian neural network
    posteriors: a variational perspective. https://doi.org/10.48550/arXiv.2310.10171

    Álvarez-Esteban, P. C., del Barrio, E., Cuesta-Albertos, J. A. & Matrán, C. (2016). A
    fixed-point approach to barycenters in Wasserstein space. *Journal of Mathematical Analysis and
    Applications* 441(2), 744-762. https://doi.org/10.1016/j.jmaa.2016.04.045

    Examples
    --------
    Fits that differ in their standard deviations only:

    >>> import numpy as np, xarray as xr, relabel
    >>> dims = ("chain", "draw", "component")
    >>> fits = xr.Dataset({"mu": (dims, np.zeros((1, 2, 2))),
    ...                    "mu_sd": (dims, [[[1.0, 3.0], [3.1, 0.9]]])})
    >>> relabel.align(fits, {"component": "permutation"}, criterion="wasserstein")["mu_sd"].values
    array([[[1. , 3. ],
            [0.9, 3.1]]])
    """

    covariance: Literal["blocks", "diagonal"] = "blocks"
    reference: Mapping[str, Any] | None = None
    max_sweeps: int = 100
    var_names: tuple[str, ...] | None = None
    name: ClassVar[str] = "wasserstein"
    is_distance: ClassVar[bool] = True
    renamed_options: ClassVar[Mapping[str, str]] = {"to": "reference", "variables": "var_names"}

    def __post_init__(self) -> None:
        """Check the options."""
        self.check_option("covariance", choice, ("blocks", "diagonal"))
        if self.reference is None:
            self.check_option("max_sweeps", integer, 1)
        elif is_draw(self.reference):
            object.__setattr__(self, "max_sweeps", 0)
        else:
            raise SpecError(
                "criterion wasserstein: reference must be {'chain': c, 'draw': d}, a member, or "
                f"None, not {self.reference!r}"
            )
        self.check_var_names()

    @property
    def matched_variables(self) -> tuple[str, ...] | None:
        """Names of the variables that units are matched on."""
        return self.var_names

    @property
    def first_reference(self) -> Any:
        """Return the member that is the reference."""
        return self.reference

    def source(self, problem: Problem, draws: Draws, probes: Probes | None) -> Source:
        """Return the draws with the covariances beside them that are compared."""
        diagonal = self.covariance == "diagonal"
        return with_covariances(problem, draws.groups["posterior"], diagonal=diagonal)

    def for_features(self) -> Criterion:
        """Return the mean of the same variables as they are, without covariances."""
        return Mean(scale="none", var_names=self.var_names)

    def resolved(self, resolved: ResolvedSpec) -> Criterion:
        """Return the criterion with the means to match on, and their standard deviations, named.

        Raises
        ------
        SpecError
            If units flip affinely or rotate, which leaves no Gaussian of this kind.
        """
        for units in resolved.sizes:
            self._check_group(resolved, units)
        names = list(dict.fromkeys(v.name for v in resolved.measured() if v.unit_axes()))
        beside = {COVARIANCE} | {
            form.format(name) for name in names for form in (SD_OF, COVARIANCE_OF)
        }
        means = [n for n in (self.var_names or names) if n not in beside]
        sds = [SD_OF.format(name) for name in means if SD_OF.format(name) in names]
        return replace(self, var_names=(*means, *sds))

    def spreads(self, resolved: ResolvedSpec) -> tuple[str, ...]:
        """Return the names of all standard deviations: scales are fixed by second moments.

        Where a weight is known to be about zero, its mean alone would fix no scale.
        """
        names = {v.name for v in resolved.measured()}
        return tuple(sorted(names & {SD_OF.format(name) for name in names}))

    def _check_group(self, resolved: ResolvedSpec, units: str) -> None:
        group, symmetry = resolved.group(units), resolved.spec.units[units]
        if group.shifts:
            raise SpecError(
                f"criterion wasserstein: a flip of {units!r} ({symmetry}) adds outgoing weights to "
                "the next bias and so mixes its variance with theirs; declare the units "
                "'permutation', which leaves the flips out"
            )
        if group.rotates:
            raise SpecError(
                f"criterion wasserstein: units {units!r} ({symmetry}) rotate, and no standard "
                "deviations follow a rotation; declare them 'signed' or 'permutation'"
            )

    def statistics(
        self, block: Block, layout: Layout, elements: Mapping[str, Element]
    ) -> Statistics:
        """Return sums of the aligned means and standard deviations, and aligned covariances."""
        sums = Mean(scale="none").statistics(block, layout, elements)
        for units in layout.sizes:
            if f"root {units}" in block.beside:
                sums[f"roots {units}"] = [_aligned_roots(block, layout, units, elements[units])]
        return sums

    def form_reference(
        self, statistics: Statistics, pooled: Pooled, layout: Layout, previous: Reference | None
    ) -> Reference:
        """Return the barycentre of the aligned members."""
        mean = Mean(scale="none").form_reference(statistics, pooled, layout, previous)
        beside = {}
        for units in layout.sizes:
            if f"roots {units}" in statistics:
                key = f"covariance {units}"
                start = None if previous is None else previous.beside[key]
                beside[key] = barycentre(np.concatenate(statistics[f"roots {units}"]), start)
        return replace(mean, beside=beside)

    def score(self, block: Block, layout: Layout, reference: Reference, units: str) -> Score:
        """Score by minus the squared Wasserstein distance of own features."""
        score = unary_distance(
            layout.features(block, units),
            layout.signed(units),
            reference.own[units],
            reference.weight[units],
        )
        if f"root {units}" not in block.beside:
            return score
        flips = _flips(block, layout, units)
        roots = block.beside[f"root {units}"]
        slots = root_of(reference.beside[f"covariance {units}"])
        even = -spread_of(slots)[:, None] - spread_of(roots)[:, None, :]
        same = _overlaps(slots, roots)
        if (flips == flips[0]).all():  # all of them flip, or none: the covariance stays
            return Score(score.even + even + 2 * same, score.odd)
        other = _overlaps(slots, roots * np.outer(flips, flips))
        return Score(score.even + even + same + other, score.odd + same - other)


def _flips(block: Block, layout: Layout, units: str) -> Array:
    """What a change of sign multiplies the features with a covariance by, shape (R,)."""
    signed = layout.signed(units)[block.fixed[f"columns {units}"]]
    return np.where(signed, -1.0, 1.0)


def _aligned_roots(block: Block, layout: Layout, units: str, element: Element) -> Array:
    """Roots of the covariances in slot order, shape (draws, K, R, R)."""
    moved = element.act(block.beside[f"root {units}"], signed=False, power=0)
    if layout.groups[units].signs:
        flips = _flips(block, layout, units)
        negative = monomial(element).factor[:, :, None, None] < 0
        moved = moved * np.where(negative, np.outer(flips, flips), 1.0)
    return moved


def _overlaps(slots: Array, roots: Array) -> Array:
    """Fidelity of every slot and unit, shape (draws, K, K): slots before units."""
    found = [fidelity(slot, roots) for slot in slots]  # one slot at a time bounds the memory
    return np.stack(found, axis=1)
