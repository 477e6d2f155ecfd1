"""Which copies of the reference mode the draws came from, and how evenly they visited them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relabel.groups.elements import Element
from relabel.spec.spec import ResolvedSpec

__all__ = ["Orbit", "orbit"]

Array = NDArray[Any]

_CELLS = 2**20  # bounds the memory of a block of simulations


@dataclass(frozen=True)
class Orbit:
    """The copies of one set of units that the draws visited.

    Attributes
    ----------
    units : str
        Name of the set.
    order : int
        Number of copies: K!, times 2^K where units may change their sign. Exact.
    visited : int
        How many of them hold a draw.
    shares : ndarray of shape (visited,)
        Share of the draws in each visited copy, the largest first.
    occupancy : ndarray of shape (K, K)
        ``occupancy[k, j]``: share of the draws in which slot *k* was the draw's unit *j*. Rows and
        columns sum to one; 1/K everywhere if all labels are equally common.
    switching : float
        Share of consecutive draws, within chains, that sit in different copies; nan if there are
        no consecutive draws.
    switching_of_chains : ndarray of shape (chain,)
        The same for each chain; nan for those that were left out.
    n_chains : int
        Chains that take part: the independent visits.
    overlap : float
        Probability that draws of two different chains share a copy; nan for one chain. Its
        expectation is one over `order_tested`.
    order_tested : int
        Number of copies that ought to be equally common. For units with affine flips K!, since a
        flip moves the prior of a bias; else `order`.
    p_value : float
        P-value of the uniformity test; nan if the question stays open (see :func:`orbit`).
    """

    units: str
    order: int
    visited: int
    shares: Array
    occupancy: Array
    switching: float
    switching_of_chains: Array
    n_chains: int
    overlap: float
    order_tested: int
    p_value: float


def orbit(
    elements: Mapping[str, Element],
    resolved: ResolvedSpec,
    *,
    excluded: Array | None = None,
    flagged: Array | None = None,
    max_order: int = 5000,
    min_chains: int = 4,
    n_simulations: int = 999,
    seed: int = 0,
) -> dict[str, Orbit]:
    r"""Find the copies of the reference mode that the draws sat in before they were aligned.

    The element *g* of a draw carries it into the reference mode, so the draw sat in the copy
    :math:`g^{-1} \cdot` (reference). Scales are not compared, only units and signs.

    **Uniformity.** Where likelihood and prior treat all units alike, a sampler that does so as
    well, started from points that are spread symmetrically, is in each copy with the same
    probability at any time, however badly it mixes. Draws of one chain depend on each other, and
    a chain that switches need not reach every copy (two spare units change places, the others
    stay), so no number of draws makes a chain more than one independent visit. Hence a
    randomisation test: with :math:`o_c(x)` the share of the draws of chain *c* in copy *x*,

    .. math:: T = \frac{2}{C (C - 1)} \sum_{c < c'} \sum_x o_c(x) \, o_{c'}(x)

    is the probability that draws of two chains share a copy. Under the hypothesis the chains may
    be relabelled one by one by random elements, each as a whole, without changing the
    distribution of *T*; this gives an exact p-value, whatever the dependence within chains.
    Chains that never switch are compared by their one copy, as by a chi-square test of one draw
    of each. The reference drops out, since *T* depends only on which draws share a copy. Spare and
    duplicated units do not disturb it: their labels are noise, but the same noise in all copies.
    It does take for granted that labels were found whatever labels the draws came with; in deep
    networks, a search that stays near them looks like chains that share a copy.

    A small p-value says that chains share copies more often than by chance: they were started
    from one point, or near each other, so that their agreement proves less than it seems to; or
    prior or sampler do not treat the units alike. A large one says no more than that nothing was
    found.

    Parameters
    ----------
    elements : mapping of str to Monomial or Dense
        Units -> elements of the stored transformation, with the batch shape (chain, draw).
    resolved : ResolvedSpec
        The spec, bound to the draws: it says whether units may change their signs.
    excluded : ndarray of bool, shape (chain, draw), optional
        Draws to leave out.
    flagged : ndarray of bool, shape (chain,), optional
        Chains to leave out. Chains in another mode are in no copy of the reference mode, though
        the test holds for them as well.
    max_order : int, default 5000
        Largest group that is tested (six units with signs or seven without are beyond it). In
        larger ones a handful of chains practically never meet, so that any two that do share a
        copy are a finding without a test: see `overlap`.
    min_chains : int, default 4
        With fewer chains the test is not made (nan): its least possible p-value is
        ``order ** (1 - chains)``, and four is what samplers run as a rule.
    n_simulations : int, default 999
        Random relabellings of the chains; the least p-value is ``1 / (n_simulations + 1)``.
    seed : int, default 0
        Seed of the relabellings.

    Returns
    -------
    dict of str to Orbit

    References
    ----------
    Hemerik, J. & Goeman, J. (2018). Exact testing with random permutations. *TEST* 27, 811-825.
    https://doi.org/10.1007/s11749-017-0571-1

    Jasra, A., Holmes, C. C. & Stephens, D. A. (2005). Markov chain Monte Carlo methods and the
    label switching problem in Bayesian mixture modeling. *Statistical Science* 20(1), 50-67.
    https://doi.org/10.1214/088342305000000016

    Examples
    --------
    >>> from relabel.simulate import network
    >>> simulated = network((2, 3, 1), "tanh", chains=6, draws=50, switching="chain")
    >>> resolved = simulated.spec.bind(simulated.clean)
    >>> found = orbit(simulated.planted.inverse().elements, resolved)["h"]
    >>> found.order, found.visited, found.switching
    (48, 6, 0.0)
    >>> found.overlap, found.p_value > 0.05
    (0.0, True)
    """
    used = {}
    for units, element in elements.items():
        if element.mixes:
            continue  # a continuum has no copies to count
        kept = np.ones(element.batch, bool) if excluded is None else ~excluded
        kept = kept if flagged is None else kept & ~flagged[:, None]
        group = resolved.group(units)
        labels = element.labels()
        even_signs = group.signs and not group.shifts  # a flip that shifts moves the prior
        order_tested = _order(element.size, signs=even_signs)
        overlap, p_value = _uniformity(
            labels if even_signs else labels // 2 * 2,
            kept,
            order=order_tested,
            n_simulations=n_simulations if order_tested <= max_order else 0,
            min_chains=min_chains,
            rng=np.random.default_rng(seed),
        )
        used[units] = Orbit(
            units,
            _order(element.size, signs=group.signs),
            *_visits(labels, kept),
            *_switching(labels, kept),
            int(kept.any(axis=1).sum()),
            overlap,
            order_tested,
            p_value,
        )
    return used


def _order(size: int, *, signs: bool) -> int:
    """Return the number of elements, exactly."""
    return math.factorial(size) * (2**size if signs else 1)


def _visits(labels: Array, kept: Array) -> tuple[int, Array, Array]:
    """Count the visited copies; their shares; and how often each unit was in each slot."""
    chosen = labels[kept]
    n_units = labels.shape[-1]
    if not len(chosen):
        return 0, np.zeros(0), np.full((n_units, n_units), np.nan)
    counts = np.sort(np.unique(chosen, axis=0, return_counts=True)[1])[::-1]
    cells = np.arange(n_units) * n_units + chosen // 2
    occupancy = np.bincount(cells.ravel(), minlength=n_units**2).reshape(n_units, n_units)
    return len(counts), counts / len(chosen), occupancy / len(chosen)


def _switching(labels: Array, kept: Array) -> tuple[float, Array]:
    """Share of consecutive draws in different copies, over all chains and in each."""
    pairs = kept[:, 1:] & kept[:, :-1]
    changed = (labels[:, 1:] != labels[:, :-1]).any(axis=-1) & pairs
    n_pairs, n_changed = pairs.sum(axis=1), changed.sum(axis=1)
    rates = np.where(n_pairs > 0, n_changed / np.maximum(n_pairs, 1), np.nan)
    total = int(n_pairs.sum())
    return (float(n_changed.sum() / total) if total else np.nan), rates


def _uniformity(
    labels: Array,
    kept: Array,
    *,
    order: int,
    n_simulations: int,
    min_chains: int,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Probability that two chains share a copy, and its p-value under uniform visits."""
    chain = np.nonzero(kept)[0]
    n_draws = np.bincount(chain, minlength=len(kept))
    n_chains = int((n_draws > 0).sum())
    if n_chains < 2:
        return np.nan, np.nan
    rows = np.column_stack([chain, labels[kept]])
    rows, counts = np.unique(rows, axis=0, return_counts=True)
    chain, copies = rows[:, 0], rows[:, 1:]
    share = counts / n_draws[chain]
    copy = np.unique(copies, axis=0, return_inverse=True)[1].reshape(-1)
    together = float((np.bincount(copy, weights=share) ** 2).sum())
    alone = float((share**2).sum())
    overlap = max(0.0, together - alone) / (n_chains * (n_chains - 1))
    if n_simulations == 0 or n_chains < min_chains or order == 1:
        return overlap, np.nan
    drawn = _together_by_chance(copies, chain, share, order, n_simulations, rng)
    as_large = int((drawn >= together * (1 - 1e-9)).sum())  # equal but for rounding counts
    return overlap, (1 + as_large) / (1 + n_simulations)


def _together_by_chance(
    copies: Array,
    chain: Array,
    share: Array,
    order: int,
    n_simulations: int,
    rng: np.random.Generator,
) -> Array:
    """Sum of squared occupancies when every chain is relabelled at random, per simulation."""
    n_units = copies.shape[1]
    signs = order > math.factorial(n_units)
    shape = (n_simulations, int(chain.max()) + 1, n_units)
    moves = 2 * rng.permuted(np.broadcast_to(np.arange(n_units), shape), axis=-1)
    moves += rng.integers(2, size=shape) if signs else 0
    per_block = max(1, _CELLS // max(order, copies.size))
    totals = []
    for start in range(0, n_simulations, per_block):
        block = moves[start : start + per_block]
        moved = block[:, chain[:, None], copies // 2] ^ (copies % 2)
        cells = _rank(moved, signs=signs) + order * np.arange(len(block))[:, None]
        weights = np.broadcast_to(share, cells.shape).ravel()
        visits = np.bincount(cells.ravel(), weights=weights, minlength=order * len(block))
        totals.append((visits.reshape(len(block), order) ** 2).sum(axis=1))
    return np.concatenate(totals)


def _rank(labels: Array, *, signs: bool) -> Array:
    """Number the elements of a group from 0, by the Lehmer code of the permutation."""
    n_units = labels.shape[-1]
    rank = np.zeros(labels.shape[:-1], np.int64)
    for slot in range(n_units):
        smaller = (labels[..., slot + 1 :] // 2 < labels[..., slot, None] // 2).sum(axis=-1)
        rank = rank * (n_units - slot) + smaller
    for slot in range(n_units if signs else 0):
        rank = 2 * rank + labels[..., slot] % 2
    return rank
