"""The axes notation: one line says which axes of an array carry which units.

A line names the axes of one draw, in array order. An arrow shows how data flow through the
array: a name at its head is *written* (incoming weights, biases), a name at its tail is *read*
(outgoing weights), and without an arrow an axis is *neutral*.

=====================  =========================================================
``"x -> h"``           incoming weights of *h*, stored (in, out)
``"h <- x"``           the same, stored (out, in)
``"-> h"``             the biases of *h*
``"component dim"``    neutral axes
``"_ h"``              an axis without a name
``"h ..."``            whatever axes remain, without names
``"x -> (gate h)"``    one stored axis that is the product of several
``"(x -> h)"``         a flattened matrix
``"h^0"``, ``"h^2"``   only permuted; carries the square of the factor
``"h -> h"``           the same units on both sides
=====================  =========================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from relabel.errors import SpecError
from relabel.groups import Role

__all__ = ["Axes", "Axis", "parse"]

_TOKEN = re.compile(
    r"->|<-|\.\.\.|[()]"
    r"|\w(?:[\w./:-]*?\w)??(?:\^\d+)?(?=->|<-|\.\.\.|[\s()]|$)"  # a name, with an exponent
)


@dataclass(frozen=True)
class Axis:
    """One named axis: `name` is None for ``_``; `exponent` is the power of the factor."""

    name: str | None
    role: Role = "neutral"
    exponent: int = 1


@dataclass(frozen=True)
class Axes:
    """The axes of one variable, in array order.

    Attributes
    ----------
    stored : tuple of tuple of Axis
        One entry per stored axis: one :class:`Axis`, or several for a product.
    rest : int or None
        Position in `stored` at which ``...`` stands; None without it.
    text : str
        The notation they were parsed from.
    """

    stored: tuple[tuple[Axis, ...], ...]
    rest: int | None
    text: str

    def expand(self, n_dims: int) -> tuple[tuple[Axis, ...], ...] | None:
        """Fill ``...`` up to `n_dims` stored axes; None if the number does not fit."""
        missing = n_dims - len(self.stored)
        if missing < 0 or (missing > 0 and self.rest is None):
            return None
        at = self.rest or 0
        return self.stored[:at] + ((Axis(None),),) * missing + self.stored[at:]

    def names(self) -> set[str]:
        """Return every name that occurs."""
        return {axis.name for group in self.stored for axis in group if axis.name is not None}


def parse(text: str) -> Axes:
    """Read one line of the axes notation.

    Parameters
    ----------
    text : str
        For example ``"x -> h"``; see the table at the head of this module.

    Returns
    -------
    Axes

    Raises
    ------
    SpecError
        If the line does not follow the notation; the message quotes it and says where.

    Examples
    --------
    >>> [axis for (axis,) in parse("h <- x").stored]  # doctest: +NORMALIZE_WHITESPACE
    [Axis(name='h', role='head', exponent=1), Axis(name='x', role='tail', exponent=1)]
    """
    tokens = _tokens(text)
    arrows = [token for token in tokens if token in ("->", "<-")]
    if len(arrows) > 1:
        raise SpecError(f"axes {text!r}: at most one arrow, found {len(arrows)}")
    sides: tuple[Role, Role] = ("tail", "head") if arrows == ["->"] else ("head", "tail")
    role: Role = sides[0] if arrows else "neutral"
    stored: list[tuple[Axis, ...]] = []
    rest: int | None = None
    product: list[Axis] | None = None
    for token in tokens:
        if token in ("->", "<-"):
            role = sides[1]
        elif token == "...":
            if rest is not None or product is not None:
                raise SpecError(f"axes {text!r}: '...' may stand once, outside of brackets")
            rest = len(stored)
        elif token == "(":
            if product is not None:
                raise SpecError(f"axes {text!r}: brackets within brackets")
            product = []
        elif token == ")":
            if not product:
                raise SpecError(f"axes {text!r}: empty or unopened brackets")
            stored.append(tuple(product))
            product = None
        elif product is not None:
            product.append(_axis(token, role))
        else:
            stored.append((_axis(token, role),))
    if product is not None:
        raise SpecError(f"axes {text!r}: a bracket is not closed")
    return Axes(tuple(stored), rest, text)


def _tokens(text: str) -> list[str]:
    """Split a line, refusing what is left over."""
    if not isinstance(text, str):
        raise SpecError(f"axes must be a text such as 'x -> h', not {text!r}")
    tokens = _TOKEN.findall(text)
    left = _TOKEN.sub("", text).strip()
    if left:
        raise SpecError(f"axes {text!r}: cannot read {left!r}; write axes as in 'x -> h^2 (a b)'")
    return tokens


def _axis(token: str, role: Role) -> Axis:
    """Read one name with its exponent."""
    name, _, exponent = token.partition("^")
    axis = Axis(None if name == "_" else name, role)
    return replace(axis, exponent=int(exponent)) if exponent else axis
