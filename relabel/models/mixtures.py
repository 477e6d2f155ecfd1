"""Ready spec of finite mixtures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from relabel.models.tables import allocated_spec, parameter_lines
from relabel.spec.spec import Spec

__all__ = ["mixture"]


def mixture(
    parameters: Sequence[str] | Mapping[str, str] = ("mu", "sigma", "w"),
    *,
    scales: str | Sequence[str] | None = None,
    weights: str | Sequence[str] | None = None,
    z: str | Sequence[str] | None = None,
    prob: str | Sequence[str] | None = None,
    units: str = "component",
) -> Spec:
    """Return the spec of a finite mixture: components are exchangeable.

    Parameters
    ----------
    parameters : sequence of str, or mapping of str to str, default ("mu", "sigma", "w")
        Names of the variables with one value for each component, weights included; or a mapping
        from names to axes, as in ``{"mu": "component dim", "w": "component"}``.
    scales : str or sequence of str, optional
        Those of the parameters that are positive: standard deviations, variances, precisions,
        rates. By default ``sigma``, where there is one that is no matrix; ``()`` for none. The
        default criterion compares them by their logarithms.
    weights : str or sequence of str, optional
        Those of the parameters that are probabilities. By default ``w``, where there is one that is
        no matrix; ``()`` for none. The default criterion compares them by their logits.
    z : str or sequence of str, optional
        Allocations: labels from 0 to K-1, of any shape, in any group (``"allocation/z"``).
    prob : str or sequence of str, optional
        Allocation probabilities, with the components last (``"allocation/prob"``).
    units : str, default "component"
        Name of the components.

    Returns
    -------
    Spec

    Raises
    ------
    SpecError
        If there are no parameters, or a name occurs twice; if scales or weights are none of the
        parameters.

    Examples
    --------
    >>> spec = mixture({"mu": "component dim", "w": "component"}, z="allocation/z")
    >>> spec.units, spec.axes, spec.values
    ({'component': 'permutation'}, {'mu': 'component dim', 'w': 'component'}, \
{'allocation/z': 'component'})
    >>> mixture(["m", "var", "pi"], scales="var", weights="pi").supports
    {'var': 'positive', 'pi': 'unit_interval'}
    """
    lines = parameter_lines("mixture", units, parameters)
    symmetry = {units: "permutation"}
    return allocated_spec("mixture", symmetry, lines, z, prob, scales=scales, weights=weights)
