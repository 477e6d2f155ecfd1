"""Ranges in which float64 holds values, their squares, and sums over them."""

from __future__ import annotations

import math

__all__ = ["MOST_EXPONENT", "safe_exponent"]

#: Exponents of sizes whose squares, and products of these with weights, float64 holds.
MOST_EXPONENT = 400


def safe_exponent(size: float, most: int = MOST_EXPONENT) -> int:
    """Return the exponent by which values of a size are divided; 0 where their squares are held.

    Or other powers, for another exponent that is the `most` that is left as it is.

    Dividing by ``2**exponent`` is exact, but for values that are denormal before or after.

    Examples
    --------
    >>> safe_exponent(3.0), safe_exponent(2.0**530), safe_exponent(0.0)
    (0, 531, 0)
    """
    if not size or not math.isfinite(size):
        return 0
    exponent = math.frexp(size)[1]
    return exponent if abs(exponent) > most else 0
