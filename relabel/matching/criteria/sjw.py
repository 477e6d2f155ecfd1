"""Probabilistic relabelling: an EM algorithm that holds every draw's labels for missing data."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from relabel._util.validate import choice, integer, seed_of
from relabel.errors import SpecError
from relabel.groups import Score
from relabel.groups.elements import Element, Monomial, monomial
from relabel.matching.criteria.base import Criterion, Reference, Statistics
from relabel.matching.features import Block, Layout, Source
from relabel.matching.moments import Pooled
from relabel.numerics.assignment import assign
from relabel.numerics.densities import log_density

__all__ = ["SJW"]

Array = NDArray[Any]

_MOST_UNITS = 8  # 40 320 permutations
_LEAST_LOG = -1e9  # of a density that is zero
_SETTLED = 1e-8  # relative change of the parameters
_SLICE = 2**18  # permutations times draws that are weighted at once


@dataclass(frozen=True)
class SJW(Criterion):
    r"""Permutations as missing data, by EM (Sperrin, Jaki and Wit).

    With parameters :math:`\hat\theta_k` and weights :math:`\hat w_k` of every slot, draw *t* has
    the labels of permutation *g* with a probability

    .. math:: w_{tg} \propto \exp \sum_k \sum_{i: z_{ti} = g(k)}
        \log \bigl(\hat w_k f(x_i \mid \hat\theta_k)\bigr)

    (E step); the new parameters are :math:`\hat\theta_k = \frac1m \sum_t \sum_g w_{tg}
    \theta_{t g(k)}` (M step). The complete log likelihood adds up over pairs of a slot and a
    unit, so permutations are weighted by one product of a table per draw, and the M step needs
    the K × K table of :math:`P(g(k) = j)` only. EM runs from the mean of the labels as they came,
    and from one draw; the higher expected complete log likelihood wins. The loss of a draw is
    minus its complete log likelihood at the end.

    All *K*! permutations are weighted, so *K* is at most 8.

    Parameters
    ----------
    z, x
        As in :class:`relabel.criteria.DataBased`.
    parameters : mapping of str to str
        Parameter of the family -> variable that holds it, by default
        ``{"mean": "mu", "sd": "sigma"}``.
    weights : str, optional
        Variable with the weights of the components, ``"w"`` by default; None (or ``"none"``)
        where they have none, or the same.
    family : str, default "normal"
        What the observations of a component are distributed as
        (:func:`relabel.numerics.densities.log_density`).
    assign : {"sample", "best"}
        Whether each draw gets a permutation sampled with the probabilities above, or the most
        probable one.
    rng : int or numpy.random.Generator, default 0
        Random numbers of the sampling, or their seed.
    max_sweeps : int, default 100
        Bound on the number of EM steps of a start.

    References
    ----------
    Sperrin, M., Jaki, T. & Wit, E. (2010). Probabilistic relabelling strategies for the label
    switching problem in Bayesian mixture models. *Statistics and Computing* 20(3), 357-366.
    https://doi.org/10.1007/s11222-009-9129-8

    Examples
    --------
    >>> import numpy as np, xarray as xr, relabel
    >>> sample = ("chain", "draw")
    >>> draws = xr.Dataset(
    ...     {"mu": ((*sample, "component"), [[[0.0, 5.0], [5.1, 0.1], [0.1, 5.1]]]),
    ...      "z": ((*sample, "obs"), [[[0, 0, 1], [1, 1, 0], [0, 0, 1]]])})
    >>> draws["sigma"] = xr.ones_like(draws["mu"])
    >>> criterion = relabel.criteria.SJW(z="z", x=np.array([-0.1, 0.2, 5.3]), weights=None)
    >>> relabel.align(draws, {"component": "permutation"}, criterion=criterion)["mu"].values[0]
    array([[0. , 5. ],
           [0.1, 5.1],
           [0.1, 5.1]])
    """

    z: str | Array = "allocation/z"
    x: str | Array = "observed_data/y"
    parameters: Mapping[str, str] = field(default_factory=lambda: {"mean": "mu", "sd": "sigma"})
    weights: str | None = "w"
    family: str = "normal"
    assign: Literal["sample", "best"] = "sample"
    rng: int | np.random.Generator = 0
    max_sweeps: int = 100
    name: ClassVar[str] = "sjw"
    renamed_options: ClassVar[Mapping[str, str]] = {"seed": "rng"}

    def __post_init__(self) -> None:
        """Check the options."""
        self.check_option("max_sweeps", integer, 1)
        self.check_option("assign", choice, ("sample", "best"))
        object.__setattr__(self, "rng", seed_of(self.rng))
        if self.weights == "none":
            object.__setattr__(self, "weights", None)
        table: Any = self.parameters
        named = isinstance(table, Mapping) and len(table) > 0
        if not (named and all(isinstance(text, str) for text in (*table, *table.values()))):
            raise SpecError(
                "criterion sjw: parameters must be a table from parameters of the family to "
                f"variables, such as {{'mean': 'mu', 'sd': 'sigma'}}, not {table!r}"
            )

    @property
    def reads(self) -> dict[str, Any]:
        """Return where allocations, data and parameters are."""
        places = {f"parameter {name}": variable for name, variable in self.parameters.items()}
        weights = {} if self.weights is None else {"parameter weights": self.weights}
        return {"z": self.z, "x": self.x} | places | weights

    def numbers_per_draw(self, n_units: int) -> int:
        """Return one number per permutation."""
        return math.factorial(min(n_units, _MOST_UNITS))

    def statistics(
        self, block: Block, layout: Layout, elements: Mapping[str, Element]
    ) -> Statistics:
        """Return sums of the parameters of every slot, (K, ...)."""
        (element,) = map(monomial, elements.values())
        sums = {
            name: element.act(value.astype(float), signed=False, power=0).sum(axis=0)
            for name, value in self._values(block).items()
        }
        return {"n": len(block)} | sums

    def form_reference(
        self, statistics: Statistics, pooled: Pooled, layout: Layout, previous: Reference | None
    ) -> Reference:
        """Return the mean parameters of every slot."""
        n = statistics["n"]
        return Reference(beside={k: value / n for k, value in statistics.items() if k != "n"})

    def only_reference(self, source: Source, first: Block | None) -> Reference:
        """Return the parameters that EM ends with, from the better of its starts."""
        (units,) = source.layout.sizes
        size = source.layout.sizes[units]
        if size > _MOST_UNITS:
            raise SpecError(
                f"criterion sjw weights all permutations, {size}! of {size} units; it takes at "
                f"most {_MOST_UNITS} units. Use stephens or ecr-iterative-1"
            )
        starts = [self._mean_as_it_is(source)]
        if first is not None:
            starts.append({k: v[0].astype(float) for k, v in self._values(first).items()})
        ends = [self._maximise(source, start, units) for start in starts]
        best, _ = max(ends, key=lambda end: end[1])
        return best

    def score(self, block: Block, layout: Layout, reference: Reference, units: str) -> Score:
        """Score by the log likelihood of a unit's observations in a slot."""
        z, n_units = block.beside["z"], layout.sizes[units]
        logs = self._logs(block.fixed["x"], reference)  # (n, K)
        even = np.empty((len(z), n_units, n_units))
        for unit in range(n_units):
            even[:, :, unit] = (z == unit).astype(float) @ logs
        return Score(even, np.broadcast_to(0.0, even.shape))

    def pick(self, source: Source, reference: Reference) -> dict[str, Monomial] | None:
        """Return sampled permutations, or None for the best."""
        if self.assign == "best":
            return None
        (units,) = source.layout.sizes
        every, chance = _permutations(source.layout.sizes[units]), np.random.default_rng(self.rng)
        chosen = []
        for table, _ in self._tables(source, reference, units):
            for part, weight in _weights(table):
                bound = weight.cumsum(axis=1)
                drawn = chance.random(len(part)) * bound[:, -1]
                chosen.append((bound <= drawn[:, None]).sum(axis=1))
        index = every[np.concatenate(chosen).clip(max=len(every) - 1)]
        return {units: Monomial(index, np.ones(index.shape))}

    # -------------------------------------------------------------- EM

    def _maximise(
        self, source: Source, start: dict[str, Array], units: str
    ) -> tuple[Reference, float]:
        """Run EM from a start; the parameters, and the expected complete log likelihood."""
        reference = Reference(beside=start)
        for _ in range(self.max_sweeps):
            sums = {name: np.zeros(value.shape) for name, value in start.items()}
            for table, block in self._tables(source, reference, units):
                chance = np.concatenate([_chances(*part) for part in _weights(table)])
                for name, value in self._values(block).items():
                    flat = value.reshape(*value.shape[:2], -1)
                    sums[name] += (chance @ flat).sum(axis=0).reshape(sums[name].shape)
            moved = {name: value / source.n_draws for name, value in sums.items()}
            still = all(
                np.allclose(moved[name], value, rtol=_SETTLED, atol=1e-300)
                for name, value in reference.beside.items()
            )
            reference = Reference(beside=moved)
            if still:
                break
        expected = 0.0
        for table, _ in self._tables(source, reference, units):
            for part, weight in _weights(table):
                expected += float((_chances(part, weight) * part).sum())
        return reference, expected

    def _tables(
        self, source: Source, reference: Reference, units: str
    ) -> Iterator[tuple[Array, Block]]:
        """Log likelihoods of every block, (draws, slots, units), with the block."""
        for number in range(len(source.slices)):
            block = source.block(number)
            yield self.score(block, source.layout, reference, units).even, block

    def _mean_as_it_is(self, source: Source) -> dict[str, Array]:
        """Parameters of every label, averaged over the draws."""
        sums: dict[str, Array] = {}
        for number in range(len(source.slices)):
            for name, value in self._values(source.block(number)).items():
                sums[name] = sums.get(name, 0.0) + value.sum(axis=0, dtype=float)
        return {name: value / source.n_draws for name, value in sums.items()}

    def _values(self, block: Block) -> dict[str, Array]:
        """Parameters of a block by the names that the family knows, (draws, K, ...)."""
        return {
            name.removeprefix("parameter "): value
            for name, value in block.beside.items()
            if name.startswith("parameter ")
        }

    def _logs(self, x: Array, reference: Reference) -> Array:
        """Log of weight times density of every observation in every slot, (n, K)."""
        parameters = dict(reference.beside)
        weights = parameters.pop("weights", None)
        logs = log_density(self.family, x[:, 0] if x.shape[1] == 1 else x, parameters)
        if weights is not None:
            logs = logs + np.log(np.maximum(weights, np.finfo(float).tiny))
        missing: Array = np.asarray(np.isnan(x).any(axis=1))
        return np.where(missing[:, None], 0.0, np.maximum(logs, _LEAST_LOG))


# ---------------------------------------------------------------------- permutations


@cache
def _permutations(size: int) -> Array:
    """All permutations, (K!, K)."""
    return np.array(list(itertools.permutations(range(size))))


@cache
def _indicators(size: int) -> Array:
    """Which pairs (slot, unit) every permutation holds, (K!, K * K)."""
    found: Array = (_permutations(size)[:, :, None] == np.arange(size)).astype(float)
    return found.reshape(len(found), -1)


def _weights(table: Array) -> Iterator[tuple[Array, Array]]:
    """Relative weights of all permutations, (draws, K!), a few draws at a time."""
    n_draws, size, _ = table.shape
    holds = _indicators(size)
    step = max(1, _SLICE // len(holds))
    for start in range(0, n_draws, step):
        part = table[start : start + step]
        best = np.take_along_axis(part, assign(part)[:, :, None], axis=2)  # keeps digits
        logs = (part - best).reshape(len(part), -1) @ holds.T
        logs -= logs.max(axis=1, keepdims=True)
        yield part, np.exp(logs, out=logs)


def _chances(table: Array, weight: Array) -> Array:
    """Probability that a slot takes a unit, (draws, K, K)."""
    total = weight.sum(axis=1)
    chance: Array = (weight @ _indicators(table.shape[1])) / total[:, None]
    return chance.reshape(table.shape)
