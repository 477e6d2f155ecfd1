"""Sizes of named axes, and how the blocks of a stored axis lie on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from relabel.errors import SpecError
from relabel.spec.arrays import Address, variable_text
from relabel.spec.notation import Blocks, Product, StoredAxis, terms_of

__all__ = ["Block", "adding_up", "blocks_of", "solve_sizes"]

#: One stored axis: its variable, the products that add up to it, its size.
Waiting = tuple[Address, Sequence[Product], int]


def solve_sizes(axes: Sequence[Waiting], given: Mapping[str, int]) -> dict[str, tuple[int, str]]:
    """Infer the size of every named axis; one follows where it alone is unknown on a stored axis.

    Parameters
    ----------
    axes : sequence of (address, products, size)
    given : mapping of str to int
        Sizes that the spec gives.

    Returns
    -------
    dict of str to (int, str)
        Name -> size, and where it is from.

    Raises
    ------
    SpecError
        If sizes disagree, or do not follow.
    """
    known = {name: (size, "sizes of the spec") for name, size in given.items()}
    waiting = list(axes)
    while waiting:
        left = [axis for axis in waiting if not _learn(*axis, known)]
        if len(left) == len(waiting):
            raise SpecError(_unsolved(*left[0], known))
        waiting = left
    return known


def adding_up(stored: StoredAxis) -> list[tuple[Product, ...]]:
    """Return the products that together are the stored axis; several lists for alternatives."""
    terms = terms_of(stored)
    alternatives = isinstance(stored, Blocks) and stored.zipped
    return [(term,) for term in terms] if alternatives else [terms]


@dataclass(frozen=True)
class Block:
    """One block of a stored axis: from where to where it goes, and the product that it is."""

    product: Product
    sizes: tuple[int, ...]
    start: int
    stop: int


def blocks_of(stored: StoredAxis, size: int, known: Mapping[str, int]) -> list[Block]:
    """Return the blocks of one stored axis; the one size without a name follows from the rest."""
    found = []
    for terms in adding_up(stored):
        start = 0
        named = [math.prod(known[axis.name] for axis in term if axis.name) for term in terms]
        blank = [any(axis.name is None for axis in term) for term in terms]
        rest = size - sum(n for n, is_blank in zip(named, blank, strict=True) if not is_blank)
        for term, n, is_blank in zip(terms, named, blank, strict=True):
            sizes = tuple(known[a.name] if a.name else rest // max(n, 1) for a in term)
            stop = start + (rest if is_blank else n)
            found.append(Block(term, sizes, start, stop))
            start = stop
    return found


def _learn(
    address: Address,
    terms: Sequence[Product],
    size: int,
    known: dict[str, tuple[int, str]],
) -> bool:
    """Check one stored axis against the sizes known so far, and add what follows from it.

    Returns False if the axis has to wait until more is known.
    """
    names = [axis.name for term in terms for axis in term]
    if names == [None]:
        return True
    open_names = {name for name in names if name not in known}
    if len(open_names) > 1 or names.count(None) > 1:
        return False
    (missing,) = open_names or {None}
    holders = [[axis.name for axis in term] for term in terms if open_names]
    holders = [names for names in holders if missing in names]
    if any(names.count(missing) > 1 for names in holders):
        return False

    def times(names: Sequence[str | None]) -> int:
        return math.prod(known[name][0] for name in names if name in known)

    every = [[axis.name for axis in term] for term in terms]
    rest = size - sum(times(names) for names in every if names not in holders)
    each = sum(times(names) for names in holders)
    fits = rest == 0 if not open_names else each > 0 and rest >= 0 and rest % each == 0
    if not fits or (len(terms) > 1 and open_names and rest == 0):
        raise SpecError(_disagreement(address, terms, size, known))
    if missing is not None:
        known[missing] = (rest // each, variable_text(address))
    return True


def _disagreement(
    address: Address,
    terms: Sequence[Product],
    size: int,
    known: Mapping[str, tuple[int, str]],
) -> str:
    """Describe sizes that disagree."""
    names = [axis.name for term in terms for axis in term]
    found = {name: known[name] for name in names if name is not None and name in known}
    if len(names) == 1 and names[0] is not None:
        other_size, other = known[names[0]]
        return (
            f"sizes of {names[0]!r} disagree: {size} in {variable_text(address)}, {other_size} in "
            f"{other}; axes are written in the order in which they are stored, and presets expect "
            "the order that they describe; is one of them stored the other way round (write the "
            "arrow as in 'h <- x', or the names in the stored order)?"
        )
    sources = ", ".join(f"{name} = {other} ({where})" for name, (other, where) in found.items())
    return f"{variable_text(address)}: an axis of size {size} cannot be ({_written(terms)})" + (
        f" with {sources}" if sources else ""
    )


def _written(terms: Sequence[Product]) -> str:
    """Write a stored axis, without arrows and exponents."""
    return " + ".join(" ".join(axis.name or "_" for axis in term) or "1" for term in terms)


def _unsolved(
    address: Address,
    terms: Sequence[Product],
    size: int,
    known: Mapping[str, tuple[int, str]],
) -> str:
    """Describe an axis that cannot be split, and what is needed for it."""
    axes = [axis for term in terms for axis in term]
    missing = next((a.name for a in axes if a.name and a.name not in known), None)
    remedy = (
        f"give the sizes, as in sizes={{{missing!r}: ...}}"
        if missing
        else "one '_' can be inferred; give the others names and sizes"
    )
    what = f"{variable_text(address)}: it is not known how {size} splits into ({_written(terms)})"
    return f"{what}; {remedy}"
