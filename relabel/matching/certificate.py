r"""How far the loss of a draw may be above the lowest one that any labelling has.

With the loss *L* of a draw under the last reference, a lower bound *B* on the loss of any labelling
of it, and :math:`L_0` the loss of a draw that lies at the reference (zero for a distance; for
normals half the log determinants of their covariances), the gap is

.. math:: \frac{L - B}{L - \min(B, L_0)}.

:math:`L - L_0` is the distance from the reference, so the gap is the share of the distance that a
better labelling might save at most. It is 0 where the optimum is proved, and 1 where nothing is
known. A constant that is added to all losses, or a change of units, does not change it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel.matching.bounds import boundable, bounded
from relabel.matching.criteria.base import Reference
from relabel.matching.layers import Tree
from relabel.matching.search import View, exact

__all__ = ["gap_of", "upper_bound"]

Array = NDArray[Any]

_STEPS = 100  # along subgradients, where more is to be spent


def upper_bound(view: View, gain: Array, known: Array, certify: bool = False) -> Array:
    """Bound the gain of any labelling of some draws.

    Parameters
    ----------
    view : View
        The draws under the last reference.
    gain : ndarray of shape (draws,)
        Gains of their labellings.
    known : ndarray of shape (draws,)
        Bounds that a search found, or infinity.
    certify : bool, default False
        Whether to spend more: an exact solution where there is one, or steps along subgradients.

    Returns
    -------
    ndarray of shape (draws,)
        At least `gain`; infinite where nothing is known.
    """
    if not boundable(view):
        return np.where(known < np.inf, known, np.inf)
    bound = known.copy()
    rows = np.flatnonzero(known - gain > view.tolerance)
    if rows.size:
        some = view.select(rows)
        tree = Tree.of(view.layout) if certify and not exact(view.layout) else None
        if tree is None:
            found = bounded(some, gain[rows], _STEPS if certify else 0).total
        else:
            found = tree.best(some, gain[rows], np.inf)[2]
        bound[rows] = np.minimum(found, known[rows])
    return np.maximum(bound, gain)


def gap_of(loss: Array, bound: Array, tolerance: Array, reference: Reference) -> Array:
    """Return the gaps of some draws.

    Parameters
    ----------
    loss, bound : ndarray of shape (draws,)
        Their losses, and lower bounds on these.
    tolerance : ndarray of shape (draws,)
        What is only rounding.
    reference : Reference

    Returns
    -------
    ndarray of shape (draws,)
        Between 0 and 1.

    Examples
    --------
    >>> loss, bound = np.array([4.0, 4.0, 4.0]), np.array([4.0, 3.0, -np.inf])
    >>> gap_of(loss, bound, np.zeros(3), Reference())
    array([0.  , 0.25, 1.  ])
    """
    most = loss - np.minimum(bound, _loss_at(reference))
    apart = loss - bound
    unknown = ~np.isfinite(bound)
    share = np.divide(apart, most, out=np.ones_like(loss), where=~unknown & (most > 0))
    return np.where(apart <= tolerance, 0.0, np.clip(share, 0.0, 1.0))


def _loss_at(reference: Reference) -> float:
    """The loss of a draw that lies at the reference."""
    total = reference.pair_constant
    total -= 0.5 * sum(float(np.log(p).sum()) for p in reference.precision.values())
    for root in reference.root.values():
        total -= float(np.log(np.abs(np.einsum("krr->kr", root))).sum())
    return total
