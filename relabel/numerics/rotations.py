"""Kernels for rotations: varimax and Procrustes for many draws at once, arrays in and out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["procrustes", "varimax"]

Array = NDArray[Any]

_PER_BLOCK = 256  # draws whose columns stay in the cache
_POLAR_STEPS = 2  # towards the maximum that the columns as they are belong to
_SWEEPS = 3  # of planar rotations in single precision, before Newton's method takes over
_FINISHED = 1e-10  # largest angle of a plane, in radians, of a draw that is done
_FLAT = 1e-13  # share of the fourth moments below which a plane has no best angle
_MAX_STEPS = 200
_LONGEST = 0.5  # radians; a longer step of Newton's method is not trusted
_DEAD = 1e-26  # squared length of a column, beside the longest, that is rounding
_FAR = 1e15  # a radius whose square is a number in single precision
_MAX_INNER = 12  # steps of conjugate gradients within one of Newton's method


def procrustes(score: Array) -> Array:
    r"""Orthogonal matrices of highest score.

    .. math:: \hat G = \arg\max_{G'G = I} \sum_{kj} G_{kj} S_{kj} = U V', \qquad S = U D V'

    Parameters
    ----------
    score : ndarray of shape (..., q, q)

    Returns
    -------
    ndarray of shape (..., q, q)
        Reflections are allowed. Where `score` is singular, one of the optima.

    References
    ----------
    Schönemann, P. H. (1966). A generalized solution of the orthogonal Procrustes problem.
    *Psychometrika* 31(1), 1-10. https://doi.org/10.1007/BF02289451

    Examples
    --------
    >>> import numpy as np
    >>> procrustes(np.array([[0.0, -2.0], [1.0, 0.0]]))
    array([[ 0., -1.],
           [ 1.,  0.]])
    """
    left, _, right = np.linalg.svd(score)
    best: Array = left @ right
    return best + 0.0  # no negative zeros


def varimax(loadings: Array, *, kaiser: bool = False) -> Array:
    r"""Rotate the columns of every draw so that their squares vary most.

    .. math:: \max_{R'R = I} \sum_j \Bigl[ \sum_i b_{ij}^4 - \tfrac1p
        \bigl(\sum_i b_{ij}^2\bigr)^2 \Bigr], \qquad B = \Lambda R

    Two steps of the classical ascent (the polar factor of the slope) and a few sweeps of planar
    rotations (the best angle in every plane of two columns is known) lead near a maximum; Newton's
    method on the rotations, its systems solved by conjugate gradients,
    leads there, so that no plane can be improved by more than rounding. All draws go through it
    together. It starts from the columns as they are: what was rotated before stays as it is, bit
    by bit, but for rounding where all rows are nearly alike. The maximum is a local one, of which
    there may be several.

    Parameters
    ----------
    loadings : ndarray of shape (draws, p, q)
        Columns of zeros are left alone.
    kaiser : bool, default False
        Scale rows to length one for finding the rotation; rows of zeros are left alone.

    Returns
    -------
    ndarray of shape (draws, q, q)
        Orthogonal matrices *R*; ``loadings @ R`` is rotated.

    References
    ----------
    Kaiser, H. F. (1958). The varimax criterion for analytic rotation in factor analysis.
    *Psychometrika* 23(3), 187-200. https://doi.org/10.1007/BF02289233

    Examples
    --------
    >>> import numpy as np
    >>> turned = np.array([[[1.0, 1.0], [2.0, 2.0], [1.0, -1.0]]]) / np.sqrt(2)
    >>> varimax(turned)[0].round(3)
    array([[ 0.707, -0.707],
           [ 0.707,  0.707]])
    """
    n_draws, n_rows, n_factors = loadings.shape
    rotations = np.broadcast_to(np.eye(n_factors), (n_draws, n_factors, n_factors)).copy()
    if n_factors < 2 or not n_rows:
        return rotations
    angle, radius = np.zeros(n_draws), np.full(n_draws, _LONGEST)
    for start in range(0, n_draws, _PER_BLOCK):
        block = _scaled(loadings[start : start + _PER_BLOCK], kaiser)
        angle[start : start + _PER_BLOCK] = _largest_angle(block)
        some = np.flatnonzero(angle[start : start + _PER_BLOCK] >= _FINISHED)
        if some.size:
            turn = _polar_steps(block[some])
            turn = turn @ _orthogonal(_planar(block[some] @ turn, _SWEEPS))
            rotations[start + some] = turn
            angle[start + some] = _largest_angle(block[some] @ turn)
    for _ in range(_MAX_STEPS):
        active = np.flatnonzero(angle >= _FINISHED)
        if not active.size:
            break
        for start in range(0, active.size, _PER_BLOCK):
            rows = active[start : start + _PER_BLOCK]
            block, state = _scaled(loadings[rows], kaiser), (rotations, angle, radius)
            fresh = _step(block, *(part[rows] for part in state))
            for part, values in zip(state, fresh, strict=True):
                part[rows] = values
    return rotations


def _scaled(loadings: Array, kaiser: bool) -> Array:
    """Return entries of size at most one, so that moments do not overflow; rows of length one."""
    if kaiser:
        length = np.linalg.norm(loadings, axis=2, keepdims=True)
        loadings = loadings / np.where(length > 0, length, 1.0)
    largest = np.abs(loadings).max(axis=(1, 2), keepdims=True, initial=0.0)
    return loadings / np.where(largest > 0, largest, 1.0)


def _step(
    loadings: Array, rotation: Array, angle: Array, radius: Array
) -> tuple[Array, Array, Array]:
    """Take one step of Newton's method within a radius, where it gains; return the new state."""
    before = loadings @ rotation
    value = _value(before)
    turn, length = _newton(before, radius, angle)
    after = before @ turn
    gained, nearer = _value(after) - value, _largest_angle(after)
    rounding = 1e-13 * value
    sound = (gained > rounding) | ((gained > -rounding) & (nearer < angle))
    fresh = np.where(sound[:, None, None], _orthogonal(rotation @ turn), rotation)
    radius = np.where(sound, np.minimum(2 * radius, _LONGEST), length / 4)
    stuck = np.flatnonzero((radius < _FINISHED) & ~sound)
    if stuck.size:  # a saddle: planar rotations leave it
        fresh[stuck] = fresh[stuck] @ _orthogonal(_planar(before[stuck], 1))
        radius[stuck] = _LONGEST
        nearer[stuck], sound[stuck] = _largest_angle(loadings[stuck] @ fresh[stuck]), True
    return fresh, np.where(sound, nearer, angle), radius


def _value(columns: Array) -> Array:
    """Return the varimax criterion of every draw."""
    squares = columns**2
    fourth = np.einsum("dij,dij->d", squares, squares)
    value: Array = fourth - (squares.sum(axis=1) ** 2).sum(axis=1) / columns.shape[1]
    return value


def _largest_angle(columns: Array) -> Array:
    """Return the largest of the best angles in all planes of two columns, shape (draws,)."""
    squares = columns**2
    turned = columns.swapaxes(1, 2)
    second, fourth = turned @ columns, squares.swapaxes(1, 2) @ squares
    skew = (squares * columns).swapaxes(1, 2) @ columns
    own, fourth_own = (np.einsum("daa->da", part) for part in (second, fourth))
    n_rows = columns.shape[1]
    difference = own[:, :, None] - own[:, None, :]
    sums = fourth_own[:, :, None] + fourth_own[:, None, :]
    num = 4 * (skew - skew.swapaxes(1, 2)) - 4 * difference * second / n_rows
    den = sums - 6 * fourth - (difference**2 - 4 * second**2) / n_rows
    both = _both_alive(own)
    both &= np.hypot(num, den) > _FLAT * (sums + 2 * fourth)
    both &= ~np.eye(columns.shape[2], dtype=bool)
    far = np.where(both, np.arctan2(np.abs(num), den), 0.0)
    largest: Array = far.max(axis=(1, 2)) / 4
    return largest


def _both_alive(own: Array) -> Array:
    """Return which pairs of columns are more than rounding, given their squared lengths."""
    alive = own > _DEAD * own.max(axis=1, keepdims=True)
    both: Array = alive[:, :, None] & alive[:, None, :]
    return both


def _polar_steps(columns: Array) -> Array:
    """Take a few steps, each to the orthogonal matrix nearest to the slope of the criterion."""
    n_draws, n_rows, size = columns.shape
    turned, still = columns.swapaxes(1, 2), ~(columns != 0).any(axis=1)
    rotation = np.broadcast_to(np.eye(size), (n_draws, size, size))
    alone = still[:, :, None] * np.eye(size)
    for _ in range(_POLAR_STEPS):
        now = columns @ rotation
        squares = now**2
        slope = turned @ (now * (squares - squares.sum(axis=1, keepdims=True) / n_rows))
        rotation = procrustes(slope + alone)
        rotation = np.where(still[:, :, None] | still[:, None, :], alone, rotation)
    return rotation


def _planar(loadings: Array, n_sweeps: int) -> Array:
    """Take sweeps of best planar rotations, in single precision; draws run along the last axis."""
    n_draws, n_rows, n_factors = loadings.shape
    columns = np.empty((n_factors, n_rows + n_factors, n_draws), np.float32)
    columns[:, :n_rows] = loadings.transpose(2, 1, 0)
    columns[:, n_rows:] = np.eye(n_factors)[:, :, None]
    alive = (columns[:, :n_rows] != 0).any(axis=1)
    work = np.empty((2, *columns.shape[1:]), np.float32)
    for _ in range(n_sweeps):
        for one in range(n_factors):
            for two in range(one + 1, n_factors):
                angle = _best_angle(columns[one, :n_rows], columns[two, :n_rows], work[:, :n_rows])
                angle *= alive[one] & alive[two]
                _turn(columns[one], columns[two], np.cos(angle), np.sin(angle), work)
    return columns[:, n_rows:].transpose(2, 1, 0).astype(float)


def _best_angle(one: Array, two: Array, work: Array) -> Array:
    """Return the angle that maximises varimax in the plane of two columns, each (p, draws)."""
    product, difference = work
    np.multiply(two, two, out=product)
    np.multiply(one, one, out=difference)
    difference -= product
    np.multiply(one, two, out=product)
    total, cross = difference.sum(axis=0), 2 * product.sum(axis=0)
    squares = np.einsum("pn,pn->n", difference, difference)
    crosses = 4 * np.einsum("pn,pn->n", product, product)
    mixed = 4 * np.einsum("pn,pn->n", difference, product)
    num = mixed - 2 * total * cross / len(one)
    den = squares - crosses - (total**2 - cross**2) / len(one)
    flat = np.hypot(num, den) <= 1e-6 * (squares + crosses)
    angle: Array = np.where(flat, 0.0, np.arctan2(num, den) / 4).astype(one.dtype)
    return angle


def _turn(one: Array, two: Array, cosine: Array, sine: Array, work: Array) -> None:
    """Turn two columns in their plane, in place."""
    np.multiply(two, sine, out=work[0])
    np.multiply(one, sine, out=work[1])
    one *= cosine
    one += work[0]
    two *= cosine
    two -= work[1]


def _orthogonal(nearly: Array) -> Array:
    """Return matrices that are nearly orthogonal without the rounding of single precision."""
    for _ in range(2):
        nearly = 1.5 * nearly - 0.5 * nearly @ (nearly.swapaxes(-1, -2) @ nearly)
    return nearly


def _newton(columns: Array, radius: Array, angle: Array) -> tuple[Array, Array]:
    r"""Return one step of Newton's method within a radius, and its length.

    Along :math:`R = \exp(\Omega)` the criterion is, to second order,
    :math:`\langle M, \Omega\rangle + \tfrac12 \sum_j \omega_j' C_j \omega_j` with the columns
    :math:`\omega_j` of :math:`\Omega`. The nearer the maximum (the smaller the largest `angle` of a
    plane), the more exactly the system is solved.
    """
    n_rows, size = columns.shape[1:]
    squares, turned = columns**2, columns.swapaxes(1, 2)
    second = turned @ columns
    own = np.einsum("daa->da", second)
    slope = 4 * (turned @ (squares * columns) - second * own[:, None, :] / n_rows)
    curvature = _curvature(*(a.astype(np.float32) for a in (columns, second, slope)))
    both = _both_alive(own)
    slope = (slope - slope.swapaxes(1, 2)) * both
    size_of_slope = np.sqrt(_inner(slope, slope))
    unit_slope = slope / np.where(size_of_slope > 0, size_of_slope, 1.0)[:, None, None]
    step = _conjugate_gradients(
        curvature,
        unit_slope.astype(np.float32),
        both,
        np.minimum(radius / np.where(size_of_slope > 0, size_of_slope, 1.0), _FAR).astype(
            np.float32
        ),
        np.clip(angle**2, 1e-10, 1e-2).astype(np.float32),
    )
    step = step.astype(float) * size_of_slope[:, None, None]
    half, unit = 0.5 * step, np.eye(size)
    return np.linalg.solve(unit - half, unit + half), np.sqrt(_inner(step, step))


def _curvature(columns: Array, second: Array, slope: Array) -> Array:
    """Return the matrices C of :func:`_newton`, shape (draws, q, q, q), in single precision."""
    n_draws, n_rows, size = columns.shape
    own = np.einsum("daa->da", second)
    curvature = np.empty((n_draws, size, size, size), columns.dtype)
    for j in range(size):
        weighted = columns * (12 * columns[:, :, j, None] ** 2)
        np.matmul(weighted.swapaxes(1, 2), columns, out=curvature[:, j])
    curvature -= (own[:, :, None, None] * second[:, None]) * np.float32(4 / n_rows)
    curvature -= (second[:, :, :, None] * second[:, :, None, :]) * np.float32(8 / n_rows)
    curvature -= (0.5 * (slope + slope.swapaxes(1, 2)))[:, None]
    return curvature


def _conjugate_gradients(
    curvature: Array, slope: Array, both: Array, radius: Array, precision: Array
) -> Array:
    """Return skew steps by conjugate gradients, cut off at a radius (Steihaug 1983)."""
    diagonal = np.einsum("djaa->daj", curvature)
    scale = np.abs(diagonal + diagonal.swapaxes(1, 2))
    scale = np.maximum(scale, 0.1 * scale.mean(axis=(1, 2), keepdims=True))
    scale = np.where(both & (scale > 0), scale, 1.0)
    step, rest = np.zeros_like(slope), slope.copy()
    direction = rest / scale
    energy = _inner(rest, direction)
    target, going = energy * precision, energy > 0
    for _ in range(_MAX_INNER):
        pulled = np.matmul(curvature, direction.swapaxes(1, 2)[..., None])[..., 0]
        image = (pulled - pulled.swapaxes(1, 2)) * both
        bent = _inner(direction, image)
        inside = going & (bent > 0)
        length = np.where(inside, energy / np.where(inside, bent, 1.0), 0.0)
        # to the radius along the direction, where that is nearer, or the criterion not concave
        size = np.sqrt(_inner(direction, direction))
        size = np.where(size > 0, size, 1.0)
        along = _inner(step, direction) / size
        left = np.maximum(radius**2 - _inner(step, step), 0.0)
        most = (np.sqrt(along**2 + left) - along) / size
        outside = going & (~inside | (length > most))
        length = np.where(outside, most, length)[:, None, None]
        step += length * direction
        rest -= length * image
        going = inside & ~outside
        fresh = rest / scale
        now = _inner(rest, fresh)
        ratio = np.where(going, now / np.where(going, energy, 1.0), 0.0)
        direction = fresh + ratio[:, None, None] * direction
        energy = np.where(going, now, energy)
        going &= energy > target
        direction *= going[:, None, None]
        if not going.any():
            break
    return step


def _inner(one: Array, two: Array) -> Array:
    """Return the inner product of two skew matrices, each plane counted once."""
    product: Array = np.einsum("dab,dab->d", one, two)
    product *= product.dtype.type(0.5)
    return product
