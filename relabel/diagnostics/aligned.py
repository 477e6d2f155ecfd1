"""Aligned draws as checks see them: read once, validated, laid out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.alignment.provenance import refuse_reduced, stored_elements
from relabel.alignment.records import checked_values
from relabel.data.containers import Groups, unpack
from relabel.data.participants import sharing
from relabel.data.provenance import Provenance
from relabel.data.roles import find_inputs, find_targets
from relabel.errors import SpecError
from relabel.matching.criteria import Criterion, Mean, rebuilt
from relabel.matching.criteria.registry import Rebuilt
from relabel.matching.draws import Draws
from relabel.matching.features import Layout, Problem
from relabel.matching.moments import pooled_moments
from relabel.matching.probes import input_values
from relabel.models.forward_pass import ONLY_DENSE, Network, NotDenseError
from relabel.spec.gauges import in_circles
from relabel.spec.spec import SAMPLE_DIMS, ResolvedSpec, ResolvedVariable, Spec
from relabel.spec.transformation import Transformation

__all__ = ["Aligned", "SlotFeatures"]

Array = NDArray[Any]

_MOST_OBSERVATIONS = 200  # evenly spaced, by which labels of allocations are judged
_MEMBERS = ("members", "named members")  # forms of sources that keep draws one by one
_MOST_MEMBERS = 100  # more draws that were kept one by one are snapshots of a chain


@dataclass(frozen=True)
class SlotFeatures:
    """All features that distinguish the units of one set, the other sets held fixed.

    Attributes
    ----------
    values : ndarray of shape (draws, K, R)
        Own features and the entries of pairs, in slot order on both sides, centred and in their
        gauge.
    signed : ndarray of bool, shape (R,)
        Which of them flip with the unit.
    """

    values: Array
    signed: Array


@dataclass(frozen=True)
class Aligned:
    """Aligned draws, their provenance, and all other groups of the data.

    Attributes
    ----------
    groups : dict of str to Dataset
        All groups of the data.
    provenance : Provenance or None
        How they were made; None of draws that were not aligned.
    draws : Draws
        The draws, bound to the spec; those that are not finite are excluded.
    transformation : Transformation
        The elements that carry the original draws into the aligned ones.
    """

    groups: Groups
    provenance: Provenance | None
    draws: Draws
    transformation: Transformation

    @classmethod
    def read(cls, data: Any) -> Aligned:
        """Read aligned data.

        Raises
        ------
        DataError
            If the draws were not aligned, if they were reduced, or if the record is damaged.
        """
        groups = unpack(data)
        stored_elements(groups, "")
        refuse_reduced(groups)
        groups = checked_values(groups)
        spec, transformation = stored_elements(groups, "")
        record = Provenance.within(groups)
        known = rebuilt(record.criterion)
        judged = None if known.reads else known.criterion  # by parameters too, not by labels alone
        draws = Draws.read(sharing(groups), spec, "skip", criterion=judged)
        return cls(groups, record, draws, transformation)

    @classmethod
    def unaligned(cls, groups: Groups, spec: Spec) -> Aligned:
        """Take draws as they are, for checks that do not depend on labels."""
        draws = Draws.read(sharing(groups), spec, "skip")
        identity = Transformation.identity(draws.resolved.sizes, draws.excluded.shape)
        return cls(groups, None, draws, identity)

    @property
    def resolved(self) -> ResolvedSpec:
        """The spec, bound to the draws."""
        return self.draws.resolved

    @property
    def was_aligned(self) -> bool:
        """Whether there is a record of an alignment."""
        return self.provenance is not None

    @property
    def members(self) -> bool:
        """Whether the draws are networks that were trained independently: no Markov chain."""
        n_chains, n_draws = self.draws.excluded.shape
        form = self.groups["posterior"].attrs.get("form")
        return n_chains == 1 and n_draws <= _MOST_MEMBERS and form in _MEMBERS

    @property
    def chain_names(self) -> list[int | str]:
        """Coordinates of the chains, or their numbers."""
        posterior = self.groups["posterior"]
        if "chain" not in posterior.coords:
            return list(range(posterior.sizes["chain"]))
        names = posterior["chain"].values.tolist()
        return [name if isinstance(name, (int, str)) else str(name) for name in names]

    @cached_property
    def original(self) -> xr.Dataset:
        """The posterior as it was before the alignment."""
        shared = self.draws.groups
        return self.transformation.inverse().apply(shared, self.resolved)["posterior"]

    @cached_property
    def rebuilt(self) -> Rebuilt:
        """The criterion of the alignment, as far as the record tells it."""
        known = self.provenance
        return rebuilt(Mean().describe() if known is None else known.criterion)

    @property
    def criterion(self) -> Criterion:
        """Criterion used to realign shuffled units; the default where the original cannot be."""
        return self.rebuilt.for_features

    @cached_property
    def problem(self) -> Problem:
        """The aligned draws laid out for matching."""
        return self.draws.problem(self.criterion)

    @cached_property
    def arrays(self) -> dict[str, Array]:
        """Values of every declared variable of the posterior, (draws, ...), by part."""
        return self.resolved.by_part(self.problem.arrays)

    @cached_property
    def compared(self) -> tuple[Problem, Criterion]:
        """Features that determined the labels, and a criterion usable on permuted units.

        Where the criterion read allocations, these are the features, since parameters may say
        little: the probabilities, or the allocations as zeros and ones, of some observations.
        """
        read = self.rebuilt.reads
        for kind in ("prob", "z"):
            for variable in self.resolved.variables:
                if read.get(kind) in (variable.address, variable.name):
                    return self._allocations(variable), Mean(scale="none")
        return self.problem, self.criterion

    def _allocations(self, variable: ResolvedVariable) -> Problem:
        """Allocations, or their probabilities, at some observations, as features of units."""
        ((units, size),) = self.resolved.sizes.items()
        array = self.draws.groups[variable.group][variable.name]
        carrying = [variable.dims[place] for place, _, _ in variable.unit_axes()]
        rest = [dim for dim in variable.dims if dim not in carrying]
        values = array.transpose(*SAMPLE_DIMS, *rest, *carrying).data
        if variable.labels_of is None:
            values = values.reshape(*values.shape[:2], -1, size)
        else:
            values = values.reshape(*values.shape[:2], -1)
        chosen = np.unique(np.linspace(0, values.shape[2] - 1, _MOST_OBSERVATIONS).round())
        values = np.asarray(values[:, :, chosen.astype(int)])
        if variable.labels_of is not None:
            values = values[..., None] == np.arange(size)
        allocation = xr.Dataset(
            {"allocation": ((*SAMPLE_DIMS, "obs", "unit"), np.nan_to_num(values.astype(float)))}
        )
        spec = Spec({units: self.resolved.spec.units[units]}, {"allocation": f"_ {units}"})
        draws = Draws.read({"posterior": allocation}, spec, "skip")
        return replace(draws, excluded=self.draws.excluded).problem(Mean(scale="none"))

    @cached_property
    def layout(self) -> Layout:
        """Layout of the features, centred at their means."""
        return replace(self.problem.layout, centre=pooled_moments(self.problem).centre)

    @cached_property
    def smooth(self) -> Problem:
        """The aligned draws with incoming norms one where units have a scale.

        Where an outgoing weight changes its sign, balanced features turn with the root of its size,
        which no Gaussian describes; with incoming norms one they pass through zero.
        """
        resolved = self.resolved
        without = in_circles(resolved.variables)  # recurrent units have no such scales
        scaled = [
            u for u in resolved.sizes if "unit" in resolved.group(u).gauges() and u not in without
        ]
        if not scaled:
            return self.problem
        gauges = dict.fromkeys(scaled, "unit")
        spec = replace(resolved.spec, gauges={**resolved.spec.gauges, **gauges})
        used = [variable.name for variable in self.problem.used]
        return Problem(
            replace(resolved, spec=spec),
            self.problem.arrays,
            used,
            rules=self.problem.rules,
            unconstrained=self.problem.unconstrained,
        )

    def features(self, units: str) -> SlotFeatures:
        """All features that distinguish the units of one set."""
        problem = self.smooth
        layout = replace(problem.layout, centre=pooled_moments(problem).centre)
        touching = layout.touching(units)
        parts = []
        for number in range(len(problem.slices)):
            block = problem.block(number)
            rows = [layout.features(block, units)]
            for pair, side in touching:
                values = np.moveaxis(block.pairs[pair], side + 1, 1)
                rows.append(values.reshape(*values.shape[:2], -1))
            parts.append(np.concatenate(rows, axis=2))
        signed = [layout.signed(units)]
        for pair, side in touching:
            other = layout.sizes[layout.pairs[pair].units[1 - side]]
            n_others = other * problem.block(0).pairs[pair].shape[3]
            signed.append(np.full(n_others, layout.pairs[pair].signed[side]))
        return SlotFeatures(np.concatenate(parts), np.concatenate(signed))

    @cached_property
    def network(self) -> Network | None:
        """The network that the spec describes, if it does describe one."""
        try:
            return Network.of(self.resolved)
        except SpecError:
            return None

    @cached_property
    def not_dense(self) -> NotDenseError | None:
        """Why the network cannot be evaluated, if that is because of its layers, not the spec."""
        try:
            Network.of(self.resolved)
        except NotDenseError as error:
            return error
        except SpecError:
            pass
        return None

    @property
    def has_arrows(self) -> bool:
        """Whether the spec has arrows, as those of networks do."""
        axes = [axis for variable in self.resolved.measured() for axis in variable.axes]
        return any(axis.role in ("head", "tail") for axis in axes)

    def inputs(self, wanted: Array | str | None = "auto") -> tuple[Array | None, str]:
        """Return the inputs of the network and where they are from, or why there are none.

        Parameters
        ----------
        wanted : ndarray, str or None, default "auto"
            As an array, or as an address. ``"auto"``: those that the alignment used, or else the
            only variable that fits, or the only one of those with as many rows as there are
            targets. None: none.

        Raises
        ------
        SpecError
            If inputs are named and do not fit, or if the spec describes no network.
        """
        auto = isinstance(wanted, str) and wanted == "auto"
        if self.network is None:
            if wanted is not None and not auto:
                raise SpecError(
                    "inputs: the spec describes no network that could be evaluated; its axes need "
                    "arrows, as in 'x -> h'"
                    if self.not_dense is None
                    else f"inputs: {self.not_dense}: {ONLY_DENSE}"
                )
            return None, "the spec describes no network that could be evaluated"
        if wanted is None:
            return None, "none are to be used (inputs=None)"
        if auto:
            used = None if self.provenance is None else self.provenance.options.get("inputs")
            found = self._fitting_inputs()
            if used not in self._addresses() and len(found) != 1:
                several = f"several variables could be: {', '.join(found)}" if found else ""
                why = several or "none stored"
                return None, f"no inputs are known ({why}); name them with inputs="
            wanted = used if used in self._addresses() else found[0]
        points, where = input_values(self.network, self.groups, wanted)
        assert points is not None
        return points, str(where)

    def _fitting_inputs(self) -> list[str]:
        """Addresses of variables that fit; only the one that targets go with, if there is one."""
        assert self.network is not None
        found = find_inputs(self.groups, self.network.n_inputs)
        paired = [address for address in found if self._targets_for(address)]
        return paired if len(paired) == 1 else found

    def _addresses(self) -> list[str]:
        """Addresses of everything that is stored with the draws."""
        return [f"{group}/{name}" for group, dataset in self.groups.items() for name in dataset]

    def _targets_for(self, address: str) -> list[str]:
        """Addresses of targets with as many entries as these inputs have rows."""
        group, _, name = address.rpartition("/")
        return find_targets(self.groups, len(self.groups[group][name]))

    def by_chain(self, values: Array) -> Array:
        """Scatter values of the included draws to (chain, draw); nan elsewhere."""
        return self.draws.spread(np.asarray(values, dtype=float), np.nan)
