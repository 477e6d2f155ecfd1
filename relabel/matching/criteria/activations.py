"""Matching of what units compute on probe inputs, instead of their weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from relabel.errors import SpecError
from relabel.matching.criteria.base import check_count
from relabel.matching.criteria.mean import Mean

__all__ = ["Activations"]


@dataclass(frozen=True)
class Activations(Mean):
    r"""The iterated mean of activations on probe inputs.

    .. math:: \sum_t \min_{g_t} \sum_{i,k} \bigl((g_t a_t)_k(x_i) - m_k(x_i)\bigr)^2

    A unit's activation does not depend on how the units before it are labelled, so the sets of
    units of a deep network separate and each draw is solved exactly. Units that the data do not
    use are told apart by their weights only: compare with :class:`relabel.criteria.Mean`.

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

    scale: str = "none"  # type: ignore[assignment]
    max_sweeps: int = 100
    n_inputs: int = 100
    variables: None = None
    name: ClassVar[str] = "activations"

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        if self.variables is not None:
            raise SpecError("criterion activations: activations are compared, not variables")
        check_count("activations", "n_inputs", self.n_inputs)
