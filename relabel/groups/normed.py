"""Channels before a BatchNorm: permutations, and a scale that the normalisation takes away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from relabel.groups.scaled import ScaledPermutation

__all__ = ["NormedPermutation"]


@dataclass(frozen=True)
class NormedPermutation(ScaledPermutation):
    r"""Permutations with a positive scale per channel that nothing after it sees.

    BatchNorm divides by the standard deviation of what it is given, so (w, b) → λ(w, b) with
    λ > 0 changes nothing, if the running mean follows as λ and the running variance as λ². Its own
    γ and β, and what reads the channel, stay. The gauge ``unit`` fixes :math:`\lVert w \rVert = 1`
    over the incoming weights alone: biases and running means follow, but have no part in the norm,
    since BatchNorm does not see a bias either.

    Write ``"c <- x ..."`` for a convolution, ``"-> c"`` for its bias and the running mean,
    ``"-> c^2"`` for the running variance, ``"c^0"`` for γ and β, and ``"y <- c"`` for readers.

    Exact where BatchNorm divides by :math:`\sqrt{v}`. It divides by :math:`\sqrt{v + \epsilon}`, so
    with :math:`\epsilon > 0` a normalised value changes by the factor
    :math:`\sqrt{(v + \epsilon) / (v + \epsilon / \lambda^2)}`, about
    :math:`1 + \epsilon (1 - \lambda^{-2}) / 2v`. The likelihood is preserved to that; the prior
    density is not, so the result is a section of the orbit.

    References
    ----------
    Ioffe, S. & Szegedy, C. (2015). Batch normalization: accelerating deep network training by
    reducing internal covariate shift. https://doi.org/10.48550/arXiv.1502.03167
    """

    degree: int = 0
    label: ClassVar[str] = "scaled permutation before a BatchNorm"
    biases_count: ClassVar[bool] = False
    not_an_activation: ClassVar[str] = (
        "it scales what comes into a BatchNorm and nothing behind it, so it takes axes of its own "
        "('c <- x ...', '-> c^2' for the running variance, 'c^0' for weight and bias); write them, "
        "as docs/choosing.md shows"
    )

    def gauges(self) -> tuple[str, ...]:
        """Unit norms of what comes in; what goes out has no scale to balance."""
        return ("unit",)
