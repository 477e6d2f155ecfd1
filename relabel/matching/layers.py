"""Sets of units joined without a cycle, as layers are: the optimum over all of them jointly.

Each two neighbours meet in arrays of their own, so the best elements of all sets are found by
passing messages from the leaves to the root: the algorithm of Viterbi where the sets are a chain.
All elements of each set are listed. Bounds (:mod:`relabel.matching.bounds`) leave few of them, and
few pairs of them, that can still beat a labelling that is known.

References
----------
Viterbi, A. J. (1967). Error bounds for convolutional codes and an asymptotically optimum decoding
algorithm. *IEEE Transactions on Information Theory* 13(2), 260-269.
https://doi.org/10.1109/TIT.1967.1054010
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel.groups import Score
from relabel.groups.elements import Monomial
from relabel.matching.bounds import Bound, bounded, constant
from relabel.matching.features import Layout
from relabel.matching.quadratic import Quadratic, dense, listed, whole_group
from relabel.matching.search import Elements, View

__all__ = ["Edge", "Tree"]

Array = NDArray[Any]

_STEPS = 12  # of the bound by which elements are left out
_CHUNK = 256  # elements whose pairs are scored at once
_DRAWS = 32  # whose elements are listed at once


@dataclass(frozen=True)
class Edge:
    """Two sets of units that share arrays; messages go from the `child` to the `parent`."""

    child: str
    parent: str
    pairs: tuple[int, ...]


@dataclass(frozen=True)
class Tree:
    """Sets of units that are joined without a cycle and can all be listed.

    Attributes
    ----------
    edges : tuple of Edge
        Leaves first.
    roots : tuple of str
        One of every connected part.
    """

    edges: tuple[Edge, ...]
    roots: tuple[str, ...]

    @classmethod
    def of(cls, layout: Layout) -> Tree | None:
        """Return the tree of the sets of units; None where they are no trees, or not listed.

        Examples
        --------
        >>> from relabel.groups import Permutation
        >>> from relabel.matching.features import Pair
        >>> sizes = {"h1": 3, "h2": 4, "h3": 3}
        >>> no = (False, False)
        >>> pairs = (Pair("W2", ("h1", "h2"), no, no), Pair("W3", ("h2", "h3"), no, no))
        >>> groups, columns = dict.fromkeys(sizes, Permutation()), dict.fromkeys(sizes, ())
        >>> Tree.of(Layout(sizes, groups, columns, pairs)).roots
        ('h2',)
        """
        if not all(g.optimal and listed(g, layout.sizes[u]) for u, g in layout.groups.items()):
            return None
        joined: dict[frozenset[str], list[int]] = {}
        for number, pair in enumerate(layout.pairs):
            if not pair.two_sided:
                joined.setdefault(frozenset(pair.units), []).append(number)
        edges: list[Edge] = []
        roots: list[str] = []
        seen: set[str] = set()
        degree = {u: sum(u in both for both in joined) for u in layout.sizes}
        for root in sorted(layout.sizes, key=lambda units: -degree[units]):  # leaves cost less
            if root in seen:
                continue
            roots.append(root)
            front = [root]
            while front:
                parent = front.pop()
                seen.add(parent)
                for both, pairs in joined.items():
                    (child,) = both - {parent} if parent in both else (parent,)
                    if child != parent and child not in seen:
                        edges.append(Edge(child, parent, tuple(pairs)))
                        seen.add(child)
                        front.append(child)
        return cls(tuple(edges[::-1]), tuple(roots)) if len(edges) == len(joined) else None

    def below(self, units: str) -> set[str]:
        """Return a set of units and all sets whose messages go through it."""
        found = {units}
        for edge in reversed(self.edges):
            if edge.parent in found:
                found.add(edge.child)
        return found

    def best(self, view: View, gain: Array, work: float) -> tuple[Elements, Array, Array]:
        """Find the best elements of all sets jointly.

        Parameters
        ----------
        view : View
            Some draws under a reference.
        gain : ndarray of shape (draws,)
            Gains of labellings that are known.
        work : float
            Pairs of elements that one draw may score; a draw that needs more is given up.

        Returns
        -------
        elements : dict of str to Monomial
            Those of draws that have nothing better than `gain` mean nothing.
        gain : ndarray of shape (draws,)
            The highest gain; where that is the `gain` given, or the draw was given up, -inf.
        bound : ndarray of shape (draws,)
            No labelling gains more: the highest gain, or an upper bound where it was given up.
        """
        everything = {
            u: whole_group(g, view.layout.sizes[u]) for u, g in view.layout.groups.items()
        }
        chosen = {u: np.zeros(len(view), int) for u in everything}
        best, bound = np.full(len(view), -np.inf), np.empty(len(view))
        for start in range(0, len(view), _DRAWS):
            part = np.arange(start, min(start + _DRAWS, len(view)))
            some = view.select(part)
            limit = bounded(some, gain[part], _STEPS)
            bound[part] = limit.total
            needed = gain[part] + some.tolerance
            rows = np.flatnonzero(limit.total > needed)
            bound[part] = np.where(limit.total > needed, limit.total, gain[part])
            if rows.size:
                listing = _Listing.of(self, some, limit, everything)
                for row in rows:
                    found = listing.solve(int(row), float(needed[row]), work)
                    if found is None:
                        continue
                    top, path = found
                    bound[part[row]] = max(top, gain[part[row]])
                    if path:
                        best[part[row]] = top
                        for units, place in path.items():
                            chosen[units][part[row]] = place
        return {u: everything[u][places] for u, places in chosen.items()}, best, bound


@dataclass(frozen=True)
class _Listing:
    """Gains of all elements of all sets, for some draws.

    Attributes
    ----------
    alone : dict of str to ndarray of shape (draws, order)
        Gain of each element by own features and two-sided pairs.
    most : dict of str to ndarray of shape (draws, order)
        Bound on the gain of a draw if a set has this element.
    shares : dict of (pair, side) to ndarray of shape (draws, order)
        Part of each side of each pair in these bounds.
    """

    tree: Tree
    view: View
    limit: Bound
    fixed: Array
    matrices: dict[str, Array]
    alone: dict[str, Array] = field(default_factory=dict)
    most: dict[str, Array] = field(default_factory=dict)
    shares: dict[tuple[int, int], Array] = field(default_factory=dict)

    @classmethod
    def of(
        cls, tree: Tree, view: View, limit: Bound, everything: Mapping[str, Monomial]
    ) -> _Listing:
        """List the elements."""
        layout = view.layout
        matrices = {u: _matrices(elements) for u, elements in everything.items()}
        found = cls(tree, view, limit, constant(view), matrices)
        for units, elements in everything.items():
            group = layout.groups[units]
            problem = Quadratic(group, view.unary[units], view.stacks[units])
            found.alone[units] = problem.of_all(elements)
            scores = _of_all(limit.scores[units], elements)
            rest = limit.total - limit.highest[units]
            found.most[units] = rest[:, None] + scores
            for number, side in layout.touching(units):
                found.shares[number, side] = _of_all(limit.parts[number, side], elements)
        return found

    def solve(self, row: int, least: float, work: float) -> tuple[float, dict[str, int]] | None:
        """Find the best elements of one draw that gain more than `least`.

        Returns the highest gain and the elements; `least` and none, if nothing gains more; None if
        that takes more than `work` pairs of elements.
        """
        nothing: tuple[float, dict[str, int]] = (-np.inf, {})
        alive = {u: np.flatnonzero(most[row] > least) for u, most in self.most.items()}
        value = {u: self.alone[u][row, places] for u, places in alive.items()}
        back: dict[str, Array] = {}
        for edge in self.tree.edges:
            child, parent = edge.child, edge.parent
            if not (alive[child].size and alive[parent].size):
                return nothing
            if self._is_leaf(child):
                message, places = self._from_leaf(edge, row, alive[parent])
                back[child] = np.zeros(len(self.matrices[parent][0]), int)
                back[child][alive[parent]] = places
                value[parent] = value[parent] + message
                continue
            low, high = self._limits(edge, row, alive, value)
            inner = np.argsort(-low, kind="stable")
            inner = inner[low[inner] + high.max() > least]
            outer = np.argsort(-high, kind="stable")
            outer = outer[high[outer] + low.max() > least]
            widths = np.searchsorted(-high[outer], low[inner] - least)  # pairs that may gain
            work -= widths.sum()
            if work < 0:
                return None
            message, places = self._message(
                edge, row, alive[child][inner], value[child][inner], alive[parent][outer], widths
            )
            back[child] = np.zeros(len(self.matrices[parent][0]), int)
            back[child][alive[parent][outer]] = places
            alive[parent], value[parent] = alive[parent][outer], value[parent][outer] + message
        if not all(alive[root].size for root in self.tree.roots):
            return nothing
        total, path = float(self.fixed[row]), {}
        for root in self.tree.roots:
            top = int(value[root].argmax())
            total += float(value[root][top])
            path[root] = int(alive[root][top])
        for edge in reversed(self.tree.edges):
            path[edge.child] = int(back[edge.child][path[edge.parent]])
        return (total, path) if total > least else nothing

    def _limits(
        self, edge: Edge, row: int, alive: Mapping[str, Array], value: Mapping[str, Array]
    ) -> tuple[Array, Array]:
        """Bounds that add up: elements of the child and below, of the parent and all else."""
        low, inside = value[edge.child], self.tree.below(edge.child)
        for number in edge.pairs:
            side = self.view.layout.pairs[number].units.index(edge.child)
            low = low + self.shares[number, side][row, alive[edge.child]]
        high = self.most[edge.parent][row, alive[edge.parent]]
        high = high - sum(float(self.limit.highest[units][row]) for units in inside)
        return low, high

    def _message(
        self, edge: Edge, row: int, inner: Array, value: Array, outer: Array, widths: Array
    ) -> tuple[Array, Array]:
        """The best gain from below for elements of the parent, and the child's element it takes."""
        tables, child, parent = self._tables(edge, row), edge.child, edge.parent
        best, chosen = np.full(len(outer), -np.inf), np.zeros(len(outer), int)
        right = {s: self.matrices[parent][s][outer] for _, s in tables}
        for start in range(0, len(inner), _CHUNK):
            width = int(widths[start])
            if not width:
                break
            places = inner[start : start + _CHUNK]
            gain = np.zeros((width, len(places)))
            for (one, two), table in tables.items():
                gain += right[two][:width] @ (self.matrices[child][one][places] @ table).T
            gain += value[start : start + _CHUNK]
            top = gain.argmax(axis=1)
            most = gain[np.arange(width), top]
            better = most > best[:width]
            best[:width] = np.where(better, most, best[:width])
            chosen[:width] = np.where(better, places[top], chosen[:width])
        return best, chosen

    def _is_leaf(self, units: str) -> bool:
        """Whether the signs of a set need not be listed: nothing else bears on them."""
        layout = self.view.layout
        inner = any(edge.parent == units for edge in self.tree.edges)
        return layout.groups[units].signs and not inner and not layout.two_sided(units)

    def _from_leaf(self, edge: Edge, row: int, outer: Array) -> tuple[Array, Array]:
        """The message of a set with signs: of each permutation the best signs follow."""
        size = self.view.layout.sizes[edge.child]
        score = [
            part[row].ravel() + np.zeros((len(outer), 1)) for part in self.view.unary[edge.child]
        ]
        for (one, two), table in self._tables(edge, row).items():
            score[one] += self.matrices[edge.parent][two][outer] @ table.T
        permutations = self.matrices[edge.child][0][:: 2**size]
        gain = (score[0] + np.abs(score[1])) @ permutations.T
        place = gain.argmax(axis=1)
        negative = (score[1] < 0).reshape(-1, size, size)
        taken = permutations.reshape(-1, size, size).argmax(axis=2)[place]
        flipped = np.take_along_axis(negative, taken[:, :, None], axis=2)[..., 0]
        code = flipped @ (1 << np.arange(size)[::-1])  # the order of :func:`whole_group`
        return gain[np.arange(len(outer)), place], place * 2**size + code

    def _tables(self, edge: Edge, row: int) -> dict[tuple[int, int], Array]:
        """What every two entries of the matrices of child and parent gain, by how they flip."""
        tables: dict[tuple[int, int], Array] = {}
        for number in edge.pairs:
            pair, weight = self.view.layout.pairs[number], self.view.reference.pair_weight[number]
            array, mean = self.view.block.pairs[number][row], self.view.reference.pairs[number]
            signed = pair.signed
            if pair.units[0] != edge.child:
                array, mean, signed = array.swapaxes(0, 1), mean.swapaxes(0, 1), signed[::-1]
            (k, m), key = mean.shape[:2], (int(signed[0]), int(signed[1]))
            table = 2 * weight * np.einsum("acr,bdr->abcd", mean, array, optimize=True)
            tables[key] = tables.get(key, 0.0) + table.reshape(k * k, m * m)
        return tables


def _matrices(everything: Monomial) -> Array:
    """The matrices of all elements, without signs and with them, shape (2, order, K K)."""
    return dense(everything).reshape(2, len(everything.index), -1)


def _of_all(score: Score, everything: Monomial) -> Array:
    """Gain of all elements by a linear score, shape (draws, order)."""
    matrices = _matrices(everything)
    n = len(score.even)
    total: Array = score.even.reshape(n, -1) @ matrices[0].T
    total += score.odd.reshape(n, -1) @ matrices[1].T
    return total
