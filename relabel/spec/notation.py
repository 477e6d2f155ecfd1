"""The axes notation: one line says which axes of an array carry which units.

A line names the axes of one draw, in array order. An arrow shows how data flow through the
array: a name at its head is *written* (incoming weights, biases), a name at its tail is *read*
(outgoing weights), and without an arrow an axis is *neutral*.

==========================  ====================================================================
``"x -> h"``                incoming weights of *h*, stored (in, out)
``"h <- x"``                the same, stored (out, in)
``"-> h"``                  the biases of *h*
``"component dim"``         neutral axes
``"_ h"``                   an axis without a name
``"h ..."``                 whatever axes remain, without names
``"x -> (gate h)"``         one stored axis that is the product of several
``"(c _) -> y"``            likewise; one factor without a name follows from the others
``"(a + b) -> y"``          one stored axis that is several blocks, one after the other
``"(h^0 + h) <- x"``        likewise; blocks of one name have one size
``"(a + b) <- (i | j)"``    *a* is read from *i* and *b* from *j*: what the whole second axis
                            carries depends on the block of the first (grouped convolutions)
``"(x -> h)"``              a flattened matrix: an arrow within brackets holds within its block
``"(x -> h + -> h)"``       a flat vector: a flattened matrix and then the biases
``"h^0"``, ``"h^2"``        only permuted; carries the square of the factor
``"|h|"``                   carries the absolute value of the factor: a scale, never the sign
``"h -> h"``                the same units on both sides
==========================  ====================================================================

A matrix between flat vectors of parameters (a covariance) has the arrows of the vector on both
axes, as in ``"(x -> h + -> h) (x -> h + -> h)"``.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

from relabel.errors import SpecError
from relabel.groups import Role

__all__ = ["Axes", "Axis", "Blocks", "Product", "StoredAxis", "absolute", "parse", "terms_of"]

#: A name has at most 256 characters, as in netCDF, and an exponent nine digits.
_TOKEN = re.compile(
    r"->|<-|\.\.\.|[()+]"
    r"|(?<!\w)\|\w(?:[\w./:-]{0,254}?\w)??\|(?!\w)"  # a name between bars
    r"|\||\w(?:[\w./:-]{0,254}?\w)??(?:\^\d{1,9})?"  # a name, with an exponent
    r"(?=->|<-|\.\.\.|[\s()+|]|$)"
)
_LONGEST = 4000  # characters of a word: the pattern may look at each as often as a name is long
_ARROWS, _MARKS = ("->", "<-"), ("+", "|")


@dataclass(frozen=True)
class Axis:
    """One named axis: `name` is None for ``_``; `exponent` is the power of the factor.

    `absolute` says that only the absolute value of the factor acts.
    """

    name: str | None
    role: Role = "neutral"
    exponent: int = 1
    absolute: bool = False

    def __str__(self) -> str:
        """Write the axis as in the notation, without its arrow."""
        if self.absolute:
            return f"|{self.name}|"
        return (self.name or "_") + (f"^{self.exponent}" if self.exponent != 1 else "")


#: One stored axis as the product of several.
Product = tuple[Axis, ...]


@dataclass(frozen=True)
class Blocks:
    """One stored axis that is several blocks.

    Attributes
    ----------
    terms : tuple of tuple of Axis
        The product that every block is; one without axes is a single number.
    zipped : bool
        False where the blocks lie one after the other (``+``). True for alternatives (``|``): each
        is the whole axis, where the axis with ``+`` is in the block of the same number.
    """

    terms: tuple[Product, ...]
    zipped: bool = False


StoredAxis = Product | Blocks


@dataclass(frozen=True)
class Axes:
    """The axes of one variable, in array order.

    Attributes
    ----------
    stored : tuple of (tuple of Axis, or Blocks)
        One entry per stored axis: one :class:`Axis`, several for a product, or :class:`Blocks`.
    rest : int or None
        Position in `stored` at which ``...`` stands; None without it.
    text : str
        The notation they were parsed from.
    local : bool
        Whether arrows stand within brackets.
    """

    stored: tuple[StoredAxis, ...]
    rest: int | None
    text: str
    local: bool = False

    def expand(self, n_dims: int) -> tuple[StoredAxis, ...] | None:
        """Fill ``...`` up to `n_dims` stored axes; None if the number does not fit."""
        missing = n_dims - len(self.stored)
        if missing < 0 or (missing > 0 and self.rest is None):
            return None
        at = self.rest or 0
        return self.stored[:at] + ((Axis(None),),) * missing + self.stored[at:]

    def names(self) -> set[str]:
        """Return every name that occurs."""
        every = (axis for stored in self.stored for term in terms_of(stored) for axis in term)
        return {axis.name for axis in every if axis.name is not None}

    def parts(self) -> Iterator[tuple[int, ...]]:
        """Yield every part of the array: the number of the term that each stored axis has there.

        Examples
        --------
        >>> list(parse("(a + b) <- (i | j) x").parts())
        [(0, 0, 0), (1, 1, 0)]
        """
        joined = [isinstance(axis, Blocks) and not axis.zipped for axis in self.stored]
        zipped = [isinstance(axis, Blocks) and axis.zipped for axis in self.stored]
        counts = [
            len(terms_of(axis)) if is_joined else 1
            for axis, is_joined in zip(self.stored, joined, strict=True)
        ]
        for choice in itertools.product(*map(range, counts)):
            lead = next((n for n, is_joined in zip(choice, joined, strict=True) if is_joined), 0)
            yield tuple(lead if z else n for n, z in zip(choice, zipped, strict=True))

    def relates_parameters(self) -> bool:
        """Whether this is a matrix between flat vectors of parameters, such as a covariance."""
        directed = [
            any(axis.role != "neutral" for term in terms_of(stored) for axis in term)
            for stored in self.stored
        ]
        return self.local and sum(directed) > 1


def terms_of(stored: StoredAxis) -> tuple[Product, ...]:
    """Return the products that one stored axis consists of."""
    return stored.terms if isinstance(stored, Blocks) else (stored,)


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
    >>> [axis for (axis,) in parse("h <- x").stored]
    [Axis(name='h', role='head', exponent=1, absolute=False), \
Axis(name='x', role='tail', exponent=1, absolute=False)]
    >>> [[str(axis) for axis in term] for term in parse("(x -> h + -> h)").stored[0].terms]
    [['x', 'h'], ['h']]
    """
    items = _items(text, _tokens(text))
    within = [term for item in items if isinstance(item, _Bracket) for term in item.terms]
    n_outside = sum(item in _ARROWS for item in items)
    n_within = max((sum(token in _ARROWS for token in term) for term in within), default=0)
    n_arrows = n_outside + n_within
    if n_arrows > 1:
        local = "; with arrows in brackets, one a block, there is none outside" if n_within else ""
        raise SpecError(f"axes {text!r}: at most one arrow, found {n_arrows}{local}")
    sides = _sides(item for item in items if isinstance(item, str))
    role, rest = sides[0], None
    stored: list[StoredAxis] = []
    for item in items:
        if item in _ARROWS:
            role = sides[1]
        elif item == "...":
            if rest is not None:
                raise SpecError(f"axes {text!r}: '...' may stand once, outside of brackets")
            rest = len(stored)
        else:
            stored.append(_stored(text, item, role))
    _check_zipped(text, stored)
    return Axes(tuple(stored), rest, text, n_within > 0)


def absolute(text: str, names: Collection[str]) -> str:
    """Put names between bars wherever they stand without an exponent.

    Examples
    --------
    >>> absolute("(h + h^0) <- (i|x)", ["h", "i"])
    '(|h| + h^0) <- (|i| | x)'
    """

    def barred(match: re.Match[str]) -> str:
        token = match[0]
        return f"|{token}|" if token in names else " | " if token == "|" else token

    return re.sub(" +", " ", _TOKEN.sub(barred, text))


@dataclass
class _Bracket:
    """Contents of brackets: the tokens of every term, and the marks that join the terms."""

    terms: list[list[str]] = field(default_factory=lambda: [[]])
    marks: set[str] = field(default_factory=set)


def _items(text: str, tokens: Sequence[str]) -> list[str | _Bracket]:
    """Collect the tokens within each pair of brackets."""
    items: list[str | _Bracket] = []
    bracket: _Bracket | None = None
    for token in tokens:
        if token == "(":
            if bracket is not None:
                raise SpecError(f"axes {text!r}: brackets within brackets")
            bracket = _Bracket()
        elif bracket is None:
            if token == ")":
                raise SpecError(f"axes {text!r}: empty or unopened brackets")
            if token in _MARKS:
                raise SpecError(
                    f"axes {text!r}: {token!r} joins blocks of one stored axis, which stand in "
                    f"brackets, as in '(a {token} b)'"
                )
            items.append(token)
        elif token == ")":
            items.append(bracket)
            bracket = None
        elif token == "...":
            raise SpecError(f"axes {text!r}: '...' may stand once, outside of brackets")
        elif token in _MARKS:
            bracket.marks.add(token)
            bracket.terms.append([])
        else:
            bracket.terms[-1].append(token)
    if bracket is not None:
        raise SpecError(f"axes {text!r}: a bracket is not closed")
    return items


def _stored(text: str, item: str | _Bracket, role: Role) -> StoredAxis:
    """Read one stored axis."""
    if isinstance(item, str):
        return (_axis(item, role),)
    if len(item.marks) > 1:
        raise SpecError(
            f"axes {text!r}: '+' (blocks one after the other) and '|' (alternatives) in one bracket"
        )
    terms = tuple(_term(term, role) for term in item.terms)
    if not all(item.terms) or terms == ((),):
        raise SpecError(f"axes {text!r}: empty or unopened brackets, or a block without names")
    return Blocks(terms, "|" in item.marks) if len(terms) > 1 else terms[0]


def _term(tokens: Sequence[str], role: Role) -> Product:
    """Read one product; an arrow within it gives the roles of its axes."""
    sides = _sides(tokens)
    axes, role = [], sides[0] if sides[0] != sides[1] else role
    for token in tokens:
        if token in _ARROWS:
            role = sides[1]
        else:
            axes.append(_axis(token, role))
    return tuple(axes)


def _sides(tokens: Iterator[str] | Sequence[str]) -> tuple[Role, Role]:
    """Return the roles before and after the arrow; neutral without one."""
    arrow = next((token for token in tokens if token in _ARROWS), None)
    if arrow is None:
        return "neutral", "neutral"
    return ("tail", "head") if arrow == "->" else ("head", "tail")


def _check_zipped(text: str, stored: Sequence[StoredAxis]) -> None:
    """Raise SpecError unless alternatives go with the blocks of exactly one other axis."""
    blocks = [axis for axis in stored if isinstance(axis, Blocks)]
    joined = [len(axis.terms) for axis in blocks if not axis.zipped]
    for axis in blocks:
        if axis.zipped and joined != [len(axis.terms)]:
            raise SpecError(
                f"axes {text!r}: {len(axis.terms)} alternatives ('|') go with one other axis of as "
                f"many blocks ('+'), as in '(a + b) <- (i | j)'; the axes with '+' have "
                f"{' and '.join(map(str, joined)) or 'no'} blocks"
            )


def _tokens(text: str) -> list[str]:
    """Split a line into tokens; raise SpecError if something is left over."""
    if not isinstance(text, str):
        raise SpecError(f"axes must be a string such as 'x -> h', not {text!r}")
    if any(len(word) > _LONGEST for word in text.split()):
        raise SpecError(f"axes {text[:40]!r}...: more than {_LONGEST} characters without a space")
    tokens = _TOKEN.findall(text)
    left = _TOKEN.sub("", text).strip()
    if left:
        raise SpecError(f"axes {text!r}: cannot read {left!r}; write axes as in 'x -> h^2 (a b)'")
    return tokens


def _axis(token: str, role: Role) -> Axis:
    """Read one name with its exponent, or between bars."""
    name, _, exponent = token.strip("|").partition("^")
    axis = Axis(None if name == "_" else name, role, absolute=token.startswith("|"))
    return replace(axis, exponent=int(exponent)) if exponent else axis
