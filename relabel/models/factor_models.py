"""Ready spec of factor models."""

from __future__ import annotations

from collections.abc import Mapping

from relabel._util.validate import string
from relabel.models.tables import allocated_spec, parameter_lines
from relabel.spec.spec import Spec

__all__ = ["factor_model"]


def factor_model(
    loadings: str = "Lambda",
    scores: str | None = "eta",
    *,
    means: str | None = None,
    covariances: str | None = None,
    parameters: Mapping[str, str] | None = None,
    symmetry: str = "signed",
    units: str = "factor",
) -> Spec:
    """Return the spec of a factor model: factors are exchangeable and may change their sign.

    Everything that a factor carries comes along: loadings, scores, factor means and both axes of
    factor covariances. Without them a relabelled draw is not a draw of the model.

    Parameters
    ----------
    loadings : str, default "Lambda"
        Loadings, stored items x factors.
    scores : str or None, default "eta"
        Factor scores, stored observations x factors; None where they were not kept.
    means : str, optional
        Factor means.
    covariances : str, optional
        Factor covariances or correlations, factors x factors.
    parameters : mapping of str to str, optional
        Other variables and their axes, such as ``{"tau": "factor^0"}`` for scales of the factors,
        which are permuted but keep their sign.
    symmetry : {"signed", "permutation", "orthogonal"}, default "signed"
        Permutations and signs; permutations only; or all rotations.
    units : str, default "factor"
        Name of the factors.

    Returns
    -------
    Spec

    Raises
    ------
    SpecError
        If the symmetry is not known, or a name occurs twice.

    Examples
    --------
    >>> spec = factor_model(means="kappa", covariances="Phi")
    >>> spec.units, spec.axes
    ({'factor': 'signed'}, {'Lambda': '_ factor', 'eta': '_ factor', 'kappa': 'factor', \
'Phi': 'factor factor'})
    """
    string("factor_model: units", units)
    named = [(loadings, f"_ {units}"), (scores, f"_ {units}"), (means, units)]
    named.append((covariances, f"{units} {units}"))
    lines = [(name, line) for name, line in named if name is not None]
    lines += parameter_lines("factor_model", units, parameters or {})
    return allocated_spec("factor_model", {units: symmetry}, lines)
