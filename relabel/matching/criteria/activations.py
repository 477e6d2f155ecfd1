"""Matching of what units compute on probe inputs, instead of their weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from relabel._util.validate import choice, integer
from relabel.errors import SpecError
from relabel.matching.criteria.base import Criterion
from relabel.matching.criteria.mean import SCALES, ByMean, Mean
from relabel.matching.draws import Draws
from relabel.matching.features import ActivationProblem, Problem, Source
from relabel.matching.probes import Probes
from relabel.spec.spec import ResolvedSpec

__all__ = ["Activations"]


@dataclass(frozen=True)
class Activations(ByMean):
    r"""The iterated mean of activations on probe inputs.

    .. math:: \sum_t \min_{g_t} \sum_{i,k} \bigl((g_t a_t)_k(x_i) - m_k(x_i)\bigr)^2

    A unit's activation does not depend on how the units before it are labelled, so the sets of
    units of a deep network separate and each draw is solved exactly. Units that the data do not
    use differ in their weights only: compare with :class:`relabel.criteria.Mean`.

    Parameters
    ----------
    scale : {"none", "pooled"}
        ``"pooled"`` divides the activations of each set by their pooled standard deviation at
        every input.
    max_sweeps : int, default 100
        Bound on the number of times the mean is formed anew.
    n_inputs : int, default 100
        At most so many of the inputs, evenly spaced, are used.

    References
    ----------
    Ainsworth, S. K., Hayase, J. & Srinivasa, S. (2023). Git Re-Basin: merging models modulo
    permutation symmetries. https://doi.org/10.48550/arXiv.2209.04836

    Examples
    --------
    >>> import relabel
    >>> from relabel.simulate import network, recovery
    >>> simulated = network((2, 3, 3, 1), "tanh", chains=2, draws=10, noise=0.05)
    >>> aligned = relabel.align(simulated.data, simulated.spec, criterion="activations")
    >>> recovery(aligned["relabel"], simulated.planted)["draws"]
    1.0
    """

    scale: Literal["pooled", "none"] = "none"
    max_sweeps: int = 100
    n_inputs: int = 100
    name: ClassVar[str] = "activations"
    forms_mean: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the options."""
        self.check_option("scale", choice, SCALES)
        self.check_option("max_sweeps", integer, 1)
        self.check_option("n_inputs", integer, 1)

    @property
    def mean(self) -> Mean:
        """The mean that activations are compared by."""
        return Mean(self.scale)

    def resolved(self, resolved: ResolvedSpec) -> Criterion:
        """Return the criterion as it is.

        Raises
        ------
        SpecError
            If units have signs that their activations do not show.
        """
        for units in resolved.sizes:
            action = resolved.group(units).action("tail")
            if resolved.group(units).signs and (action is None or not action.signed):
                raise SpecError(
                    f"criterion activations: the activations of {units!r} do not show their signs, "
                    "since the function is even; use mean"
                )
        return self

    def source(self, problem: Problem, draws: Draws, probes: Probes | None) -> Source:
        """Return the draws through the activations of their units."""
        assert probes is not None
        return ActivationProblem(problem, probes.network, probes.points)

    def for_features(self) -> Criterion:
        """Return the mean of the weights: units have no activations by themselves."""
        return self.mean
