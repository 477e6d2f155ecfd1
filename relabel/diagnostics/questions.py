"""The questions that are asked of aligned draws, one after the other, and their answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from numbers import Real
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel._util.progress import Report
from relabel.data.containers import Groups
from relabel.data.roles import TARGET_GROUPS
from relabel.diagnostics.aligned import Aligned
from relabel.diagnostics.certainty import FEWEST, Certainty, soft_labels
from relabel.diagnostics.comparison import N_POINTS, invariants, weights_of
from relabel.diagnostics.convergence import Convergence, convergence
from relabel.diagnostics.diagnosis import Thresholds
from relabel.diagnostics.likelihood import Fitted, Likelihood, find_likelihood
from relabel.diagnostics.modes import Mode, find_modes
from relabel.diagnostics.null import Null, agreement_of_starts, shuffled_null
from relabel.diagnostics.occupancy import Occupancy, occupancy
from relabel.diagnostics.orbit import Orbit, orbit
from relabel.diagnostics.pairs import Pairs, pairs, prior_draws
from relabel.diagnostics.redundancy import Redundancy, redundancy
from relabel.diagnostics.scales import ScaleLaw, scale_law
from relabel.diagnostics.widths import Widths
from relabel.errors import SpecError
from relabel.groups.elements import Element
from relabel.matching.draws import log_density
from relabel.models.network import Network, all_outputs
from relabel.numerics.chains import Chains, flag_chains
from relabel.spec.gauges import centred_axes
from relabel.spec.resolve import closest
from relabel.spec.spec import SAMPLE_DIMS

__all__ = ["Answers", "Open", "Questions"]

Array = NDArray[Any]

_SHORT = 10  # draws of a chain, too few to judge it by
_MEMBERS = ("members", "named members")  # forms of sources that keep draws one by one
_MOST_MEMBERS = 100  # more that were kept one by one are snapshots of a chain
_FEW = 20  # draws, of which a handful of noise can look like structure by chance


@dataclass(frozen=True)
class Open:
    """A question that could not be answered, why, and what would answer it."""

    question: str
    why: str
    remedy: str


@dataclass
class Answers:
    """What was found. Draws that are not finite take no part; arrays run over those that do."""

    aligned: Aligned
    was_aligned: bool = True
    chains: Chains | None = None
    certainty: dict[str, Certainty] = field(default_factory=dict)
    null: Null | None = None
    agreement: dict[str, Array] | None = None
    convergence: dict[str, Convergence] = field(default_factory=dict)
    orbit: dict[str, Orbit] = field(default_factory=dict)
    scales: dict[str, ScaleLaw] = field(default_factory=dict)
    inputs: str | None = None
    fitted: Fitted | None = None
    redundancy: dict[str, Redundancy] = field(default_factory=dict)
    pairs: dict[str, Pairs] = field(default_factory=dict)
    occupancy: dict[str, Occupancy] = field(default_factory=dict)
    mode: Array | None = None
    modes: list[Mode] = field(default_factory=list)
    open: list[Open] = field(default_factory=list)

    @cached_property
    def sound(self) -> Array:
        """Which draws belong to chains that are not flagged: bool of shape (draws,)."""
        chain = self.aligned.draws.chain
        return np.ones(len(chain), bool) if self.chains is None else self.chains.sound[chain]

    @cached_property
    def members(self) -> bool:
        """Whether the draws are networks that were trained apart: of these none follows another."""
        posterior, shape = self.aligned.groups["posterior"], self.aligned.draws.excluded.shape
        single = shape[0] == 1 and shape[1] <= _MOST_MEMBERS
        return single and posterior.attrs.get("form") in _MEMBERS

    @property
    def few(self) -> bool:
        """Whether there are fewer draws than any label could be judged by."""
        return int(self.sound.sum()) < FEWEST

    @cached_property
    def full(self) -> Array:
        """Which draws have no empty slot: bool of shape (draws,)."""
        full = np.ones(len(self.aligned.draws.chain), bool)
        for found in self.occupancy.values():
            full &= ~found.eliminated.any(axis=1)
        return full

    def confidence(self, units: str) -> Array:
        """Mean probability of each slot's label, over the chains that are not flagged.

        Draws in which the slot is empty count as zero: it has no label there.
        """
        return self.mean_label(units, self.sound)

    def mean_label(self, units: str, rows: Array) -> Array:
        """Mean probability of each slot's label over some draws."""
        mean: Array = np.nan_to_num(self.certainty[units].label[rows]).mean(axis=0)
        return mean

    def sound_redundancy(self, units: str) -> Redundancy:
        """Redundancy in the chains that are not flagged."""
        found, rows = self.redundancy[units], self.sound
        return replace(
            found,
            removal_loss=found.removal_loss[rows],
            kind=found.kind[rows],
            eliminated=found.eliminated[rows],
        )

    def sound_widths(self) -> dict[str, Widths]:
        """Units -> how many are needed, or occupied, in the chains that are not flagged."""
        found: dict[str, Widths] = {
            units: replace(each, eliminated=each.eliminated[self.sound])
            for units, each in self.occupancy.items()
        }
        return found | {units: self.sound_redundancy(units) for units in self.redundancy}


@dataclass(frozen=True)
class Questions:
    """Everything the answers depend on beside the draws."""

    inputs: Array | str | None
    likelihood: Likelihood | str | None
    priors: Mapping[str, float | None] | None
    thresholds: Thresholds
    seed: int
    report: Report
    targets: Array | str | None = None

    def ask(self, aligned: Aligned, *, was_aligned: bool = True) -> Answers:
        """Ask all questions; of draws that were not aligned, those that need no labels."""
        _check_priors(self.priors, [v.name for v in aligned.bound.measured()])
        answers = Answers(aligned, was_aligned)
        points, where = aligned.inputs(self.inputs)
        outputs = self._outputs(answers, points, where)
        steps: list[tuple[str, Callable[[], None]]] = [
            ("chains", partial(self._chains, answers, outputs)),
            ("convergence", partial(self._convergence, answers, outputs)),
            ("redundancy", partial(self._redundancy, answers, points)),
            ("occupancy", partial(self._occupancy, answers)),
        ]
        if was_aligned:
            steps += [
                ("certainty", partial(self._certainty, answers)),
                ("null", partial(self._null, answers)),
                ("orbit", partial(self._orbit, answers)),
                ("modes", partial(self._modes, answers, outputs)),
            ]
        for number, (name, step) in enumerate(steps):
            self.report(name, number, len(steps))
            step()
        self.report("done", len(steps), len(steps))
        return answers

    def ask_labels(self, aligned: Aligned) -> Answers:
        """Ask only how certain labels are, and what that depends on: sound chains, empty slots."""
        answers = Answers(aligned)
        points, where = aligned.inputs(self.inputs)
        self._chains(answers, self._outputs(answers, points, where))
        if occupancy(aligned.draws):  # of units of a network, redundancy tells which are empty
            self._redundancy(answers, points)
            self._occupancy(answers)
        self._certainty(answers)
        return answers

    # ------------------------------------------------------------------ chains, convergence

    def _outputs(self, answers: Answers, points: Array | None, where: str) -> Array | None:
        """Outputs of all draws at some of the inputs, (chain, draw, n); nan for excluded ones."""
        aligned = answers.aligned
        if aligned.network is None and not _arrows(aligned):
            return None  # no network was spoken of
        if points is None or aligned.network is None:
            remedy = "name the inputs (inputs=, --inputs)"
            if aligned.network is None:
                remedy = "align under a spec whose arrows describe a network of dense layers"
                if aligned.not_dense is not None:
                    where = f"{aligned.not_dense}, and only networks of dense layers are evaluated"
                    remedy = "relabel.average(forward=...) says what the mean network is worth"
            answers.open.append(Open("outputs, chains by outputs, redundancy", where, remedy))
            return None
        answers.inputs = where
        rows = np.unique(np.linspace(0, len(points) - 1, N_POINTS).round().astype(int))
        posterior = aligned.groups["posterior"]
        outputs = all_outputs(aligned.network, aligned.bound, posterior, points[rows])
        outputs[aligned.draws.excluded] = np.nan
        return outputs

    def _chains(self, answers: Answers, outputs: Array | None) -> None:
        aligned, t = answers.aligned, self.thresholds
        if answers.members:
            return
        lp = log_density(aligned.draws.groups)
        if lp is None:
            answers.open.append(
                Open(
                    "chains by lp",
                    "there is no finite sample_stats/lp of the same chains and draws",
                    "save the log density of every draw with it",
                )
            )
        else:
            lp = np.where(aligned.draws.excluded, np.nan, lp)
        n_draws = aligned.draws.excluded.shape[1]
        if n_draws < _SHORT:
            answers.open.append(
                Open("chains", f"draws a chain are few ({n_draws})", f"{_SHORT} and more tell")
            )
        if lp is not None or outputs is not None:
            answers.chains = flag_chains(
                lp, outputs, n_sd=t.n_sd, n_nats=t.n_nats, function_sd=t.function_sd
            )

    @staticmethod
    def _original(aligned: Aligned) -> xr.Dataset:
        """The posterior as it was before the alignment."""
        shared, bound = aligned.draws.groups, aligned.bound
        return aligned.transformation.inverse().apply(shared, bound)["posterior"]

    def _convergence(self, answers: Answers, outputs: Array | None) -> None:
        aligned = answers.aligned
        if answers.members:
            return
        bound, posterior = aligned.bound, aligned.groups["posterior"]
        before = self._original(aligned)
        found = {"weights_before": convergence(weights_of(bound, before))}
        if answers.was_aligned:
            after = weights_of(bound, posterior)
            found["weights_after"] = convergence(after)
            if answers.chains is not None and answers.chains.reasons:
                sound = answers.chains.sound
                found["weights_after_unflagged"] = convergence([array[sound] for array in after])
                if outputs is not None:
                    found["function_unflagged"] = convergence([outputs[sound]])
        summaries = invariants(aligned.problem, aligned.layout).values()
        found["invariant"] = convergence([aligned.by_chain(array) for array in summaries])
        if outputs is not None:
            found["function"] = convergence([outputs])
        lp = log_density(aligned.draws.groups)
        if lp is not None:
            found["lp"] = convergence([lp[:, :, None]])
        answers.convergence = found
        if np.isnan(found["weights_before"].rhat):
            why = f"draws a chain are few ({posterior.sizes['draw']}), or all the same"
            answers.open.append(Open("R-hat and ESS", why, "draw more"))

    # ------------------------------------------------------------------ redundancy

    @staticmethod
    def _seen_by_the_likelihood(answers: Answers, network: Network) -> bool:
        """Whether outputs were centred that the likelihood reads as they are: no softmax."""
        fitted, gauges = answers.fitted, answers.aligned.bound.spec.gauges
        centred = [end for end in network.ends if end in centred_axes(gauges)]
        if fitted is None or not centred or not fitted.nats or fitted.family.shift_invariant:
            return False
        answers.fitted = None
        answers.open.append(
            Open(
                "redundancy",
                f"the outputs {centred[0]!r} were centred, which a {fitted.family} likelihood sees",
                f"align without the gauge of {centred[0]!r}, or name the likelihood: categorical",
            )
        )
        return True

    def _redundancy(self, answers: Answers, points: Array | None) -> None:
        aligned, network = answers.aligned, answers.aligned.network
        if points is None or network is None:
            return
        arrays = aligned.bound.by_part(aligned.problem.arrays)
        rows = aligned.draws.rows
        answers.fitted = find_likelihood(
            self._paired(aligned, points, answers.inputs),
            self.likelihood,
            network,
            arrays,
            points,
            rows=rows,
            targets=self.targets,
        )
        if self._seen_by_the_likelihood(answers, network):
            return
        why = answers.fitted.family.why_no_refits
        if why is not None:
            remedy = "name another likelihood; relabel.average gives the losses of whole networks"
            answers.open.append(Open("removal losses, widths, duplicated units", why, remedy))
            return
        if not answers.fitted.nats:
            answers.open.append(
                Open(
                    "removal losses in nats",
                    "no likelihood is known, so losses are relative to the spread of the outputs",
                    "store the targets as constant_data/y, or name a likelihood",
                )
            )
        answers.redundancy = redundancy(
            network, arrays, points, answers.fitted, level=self.thresholds.level
        )
        if answers.was_aligned:
            sound = np.flatnonzero(answers.sound)
            answers.pairs = pairs(
                network,
                {name: array[sound] for name, array in arrays.items()},
                points,
                answers.fitted[sound],
                removal_loss={u: r.removal_loss[sound] for u, r in answers.redundancy.items()},
                priors=self._known_priors(answers),
                prior=prior_draws(aligned.groups, network),
                chains=aligned.draws.chain[sound],
                level=self.thresholds.level,
                seed=self.seed,
            )

    def _paired(self, aligned: Aligned, points: Array, where: str | None) -> Groups:
        """Groups in which targets of these inputs may be looked for.

        Inputs that were given as an array are paired with the stored targets only if they are the
        stored inputs, or if targets were named.
        """
        named = isinstance(self.likelihood, Likelihood) and self.likelihood.targets is not None
        named = named or self.targets is not None
        if where != "given" or named:
            return aligned.groups
        stored = [
            variable.values
            for group in TARGET_GROUPS
            for variable in aligned.groups.get(group, xr.Dataset()).data_vars.values()
        ]
        if any(np.array_equal(points, values) for values in stored):
            return aligned.groups
        return {name: ds for name, ds in aligned.groups.items() if name not in TARGET_GROUPS}

    def _known_priors(self, answers: Answers) -> dict[str, float] | None:
        """Priors of what is written to units, if all are known."""
        measured = answers.aligned.bound.measured()
        written = {
            variable.name
            for variable in measured
            if any(axis.role == "head" and axis.units for axis in variable.axes)
        }
        known = {name: sd for name, sd in (self.priors or {}).items() if sd is not None}
        missing = sorted(written - set(known))
        if self.priors is None:
            return None
        if missing:
            answers.open.append(
                Open(
                    "duplicated pairs against the prior",
                    f"the priors of {', '.join(missing)} are not known",
                    "give their standard deviations (priors=, --prior W1=1)",
                )
            )
            return None
        return known | {v.key: known[v.name] for v in measured if v.name in known}

    def _occupancy(self, answers: Answers) -> None:
        """Which components have any observations, where the units are no units of a network."""
        found = occupancy(answers.aligned.draws)
        answers.occupancy = {u: o for u, o in found.items() if u not in answers.redundancy}

    # ------------------------------------------------------------------ labels

    def _certainty(self, answers: Answers) -> None:
        aligned, n_draws = answers.aligned, int(answers.sound.sum())
        if n_draws < FEWEST:
            why = f"Gaussians that are fitted to few draws ({n_draws}) make any label look certain"
            answers.open.append(Open("certainty", why, f"at least {FEWEST} are needed"))
            return
        for units in aligned.bound.sizes:
            features = aligned.features(units)
            if not features.values.shape[2]:
                answers.open.append(
                    Open(
                        f"certainty of {units!r}",
                        "its units are told apart by arrays with the same units on both sides only",
                        "declare a variable that carries them once",
                    )
                )
                continue
            answers.certainty[units] = soft_labels(
                features.values,
                features.signed,
                aligned.bound.group(units).remaining("varimax"),
                fit=answers.sound,
                seed=self.seed,
            )
            if units in answers.occupancy:
                _without_empty(answers, units)

    def _null(self, answers: Answers) -> None:
        aligned = answers.aligned
        rows = np.flatnonzero(answers.sound & _mostly(answers.full))
        if max(aligned.bound.sizes.values()) < 2:
            return  # one unit is in its slot
        if len(rows) < _FEW:
            answers.open.append(
                Open("null", f"draws are few ({len(rows)})", f"at least {_FEW} are needed")
            )
            return
        (problem, criterion), seed = aligned.compared, self.seed
        step = partial(self.report, "null")
        answers.null = shuffled_null(problem, criterion, rows=rows, seed=seed, step=step)
        step = partial(self.report, "other starts")
        answers.agreement = agreement_of_starts(problem, criterion, rows=rows, seed=seed, step=step)

    # ------------------------------------------------------------------ orbit, scales

    def _orbit(self, answers: Answers) -> None:
        aligned = answers.aligned
        elements = aligned.transformation.elements
        excluded = aligned.draws.excluded
        flagged = None if answers.chains is None else ~answers.chains.sound
        answers.orbit = orbit(
            elements, aligned.bound, excluded=excluded, flagged=flagged, seed=self.seed
        )
        for units in sorted(set(elements) - set(answers.orbit)):
            answers.open.append(
                Open(
                    f"copies of {units!r} that were visited",
                    "units that rotate have a continuum of copies",
                    "align them as 'signed' units to count copies",
                )
            )
        posterior = aligned.groups["posterior"]
        known: Mapping[str, Element] | None = elements
        if aligned.transformation.offsets is not None:  # the law is that of the whole weights
            posterior, known = self._original(aligned), None
        arrays = {
            v.name: posterior[v.name].transpose(*SAMPLE_DIMS, ...).values
            for v in aligned.bound.measured()
            if v.unit_axes()
        }
        answers.scales = scale_law(
            arrays, aligned.bound, self.priors, elements=known, excluded=excluded
        )
        missing = {name for law in answers.scales.values() for name in law.missing}
        if missing:
            answers.open.append(
                Open(
                    "law of the scale",
                    f"the priors of {', '.join(sorted(missing))} are not known",
                    "give their standard deviations (priors=, --prior W1=1)",
                )
            )

    # ------------------------------------------------------------------ modes

    def _modes(self, answers: Answers, outputs: Array | None) -> None:
        aligned, t = answers.aligned, self.thresholds
        rows = aligned.draws.rows
        lp = log_density(aligned.draws.groups)
        loose = {
            units: np.flatnonzero(answers.confidence(units) < t.confidence)
            for units in answers.certainty
        }
        narrow = [r.eliminated.any(axis=1) for r in answers.redundancy.values()]
        answers.mode, answers.modes = find_modes(
            aligned.problem,
            aligned.criterion,
            aligned.draws.chain,
            lp=None if lp is None else lp.reshape(-1)[rows],
            outputs=None if outputs is None else outputs.reshape(-1, outputs.shape[2])[rows],
            loose=loose,
            narrow=np.logical_or.reduce(narrow) if narrow else None,
            apart=t.apart,
            alpha=t.alpha,
            equivalent=t.equivalent,
        )


def _mostly(full: Array) -> Array:
    """Draws without empty slots if most are; else all.

    What an empty slot holds was drawn from the prior, which is often far wider than all else, so
    that a few such draws would outweigh the others.
    """
    return full if full.mean() > 0.5 else np.ones_like(full)


def _without_empty(answers: Answers, units: str) -> None:
    """Take the labels of empty slots back: what they hold was drawn from the prior."""
    found = answers.certainty[units]
    label = np.where(answers.occupancy[units].eliminated, np.nan, found.label)
    answers.certainty[units] = replace(found, label=label)


def _arrows(aligned: Aligned) -> bool:
    """Whether the spec has arrows, as those of networks do."""
    axes = [axis for variable in aligned.bound.measured() for axis in variable.axes]
    return any(axis.role in ("head", "tail") for axis in axes)


def _check_priors(priors: Any, names: Sequence[str]) -> None:
    """Refuse priors of variables that are not there, and such as are no standard deviations."""
    if priors is None:
        return
    if not isinstance(priors, Mapping):
        raise SpecError(f"priors is a table such as {{'W1': 1.0}}, not {priors!r}")
    for name, sd in priors.items():
        if name not in names:
            raise SpecError(
                f"priors: no declared variable is named {name!r}{closest(str(name), names)}"
            )
        number = isinstance(sd, Real) and not isinstance(sd, bool)
        if sd is not None and not (number and 0 < float(sd) < np.inf):
            raise SpecError(f"priors: {name!r} must have a positive number, not {sd!r}")
