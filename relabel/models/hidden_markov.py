"""Ready spec of hidden Markov models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from relabel.models.tables import allocated_spec, parameter_lines
from relabel.spec.spec import Spec

__all__ = ["hmm"]


def hmm(
    parameters: Sequence[str] | Mapping[str, str] = ("mu", "sigma"),
    *,
    transition: str = "P",
    initial: str | None = None,
    scales: str | Sequence[str] | None = None,
    z: str | Sequence[str] | None = None,
    prob: str | Sequence[str] | None = None,
    units: str = "state",
) -> Spec:
    """Return the spec of a hidden Markov model: states are exchangeable.

    A relabelling permutes both axes of the transition matrix.

    Parameters
    ----------
    parameters : sequence of str, or mapping of str to str, default ("mu", "sigma")
        Names of the state-wise parameters, or names and axes, as in ``{"mu": "state dim"}``.
    transition : str, default "P"
        Transition matrix, of either orientation.
    initial : str, optional
        Distribution of the first state; None where it is fixed. The default criterion compares it
        by its logits.
    scales : str or sequence of str, optional
        Those of the parameters that are positive: standard deviations, variances, precisions,
        rates. By default ``sigma``, where there is one that is no matrix; ``()`` for none. The
        default criterion compares them by their logarithms.
    z : str or sequence of str, optional
        State paths: labels from 0 to K-1, of any shape, in any group.
    prob : str or sequence of str, optional
        State probabilities, with the states last.
    units : str, default "state"
        Name of the states.

    Returns
    -------
    Spec

    Raises
    ------
    SpecError
        If a name occurs twice, or scales are none of the parameters.

    Examples
    --------
    >>> spec = hmm(["mu"], initial="p0", z="path")
    >>> spec.axes, spec.values
    ({'P': 'state state', 'p0': 'state', 'mu': 'state'}, {'path': 'state'})
    """
    lines = [(transition, f"{units} {units}")]
    if initial is not None:
        lines.append((initial, units))
    lines += parameter_lines("hmm", units, parameters)
    symmetry, weights = {units: "permutation"}, () if initial is None else initial
    return allocated_spec("hmm", symmetry, lines, z, prob, scales=scales, weights=weights)
