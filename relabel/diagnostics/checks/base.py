"""The protocol of checks, and the case that they are given."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel._util.progress import Report
from relabel.diagnostics.aligned import Aligned
from relabel.diagnostics.finding import Finding, Open
from relabel.diagnostics.likelihood import Likelihood
from relabel.spec.spec import SAMPLE_DIMS

__all__ = ["SUBJECTS", "Case", "Check", "LevelOfTests", "Nothing", "Subject", "Threshold"]

Array = NDArray[Any]
Result = TypeVar("Result")

#: What checks are about, in the order in which the report lists their findings.
Subject = Literal["labels", "chains", "units", "modes", "sampler", "remarks"]
SUBJECTS: tuple[Subject, ...] = ("labels", "chains", "units", "modes", "sampler", "remarks")


@dataclass(frozen=True)
class Threshold:
    """What a threshold is: it annotates a field of a check, whose default is that of the field.

    Attributes
    ----------
    about : str
        The findings it decides on, what it means, and why it is what it is: its documentation in
        :class:`relabel.Thresholds`.
    below : float, optional
        Values lie between 0 and this, both excluded; 1 for probabilities and shares.
    """

    about: str
    below: float | None = None


#: Level that all tests share.
LevelOfTests = Annotated[
    float,
    Threshold(
        "``modes``, ``orbit-not-uniform``, ``scale-law``: level of tests. A hundred sound "
        "posteriors give one false alarm each.",
        below=1,
    ),
]


def no_progress(stage: str, done: int, total: int) -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Nothing:
    """Measurements of a check that measures nothing."""


@dataclass(frozen=True)
class Check(ABC, Generic[Result]):
    """One question about aligned draws, with all that belongs to it.

    A check is a frozen dataclass; its fields are its thresholds, each annotated by a
    :class:`Threshold`. It takes part in :func:`relabel.diagnose` as soon as it is registered in
    :data:`relabel.diagnostics.checks.CHECKS`, from here or by an entry point of the group
    ``relabel.checks`` of another package.

    Attributes
    ----------
    name : str
        As it is registered.
    needs, uses : tuple of Check classes
        Checks that run before this one. It runs only if all that it `needs` have a result, since
        its question makes no sense otherwise; what it `uses` may have none.
    subject : str
        Among which findings the report lists its own.
    place : int
        Where its lines, columns and keys of the JSON stand: the lowest first.
    codes : tuple of str
        Codes of its findings, but for ``"open"``.
    unjudged : tuple of str
        Those of its codes that say that labels could not be judged, so that they are not trusted.
    measurements : type
        Dataclass of the keys that it adds to the JSON, each annotated by what it is: see
        :mod:`relabel.diagnostics.measurements`. Two checks may share a key if both have the same
        type of dictionary there, for different units.
    slot : type, optional
        Dataclass of the columns that it adds to the table of slots, likewise.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[type[Check[Any]], ...]] = ()
    uses: ClassVar[tuple[type[Check[Any]], ...]] = ()
    subject: ClassVar[Subject] = "remarks"
    place: ClassVar[int] = 100
    codes: ClassVar[tuple[str, ...]] = ()
    unjudged: ClassVar[tuple[str, ...]] = ()
    measurements: ClassVar[type[Any]] = Nothing
    slot: ClassVar[type[Any] | None] = None

    @abstractmethod
    def run(self, case: Case) -> Result | Open | None:
        """Compute the result.

        Returns
        -------
        Result, Open or None
            What other checks and the methods below use; an open question if there is no answer;
            None if the question does not arise.
        """

    def measure(self, case: Case, result: Result) -> Any:
        """Return the measurements of a result, of the type `measurements`."""
        return self.measurements()

    def measure_slots(self, case: Case, result: Result) -> Mapping[str, Sequence[Any]]:
        """Return what was measured of every slot: units -> one `slot` for each."""
        return {}

    def findings(self, case: Case, result: Result | None) -> Iterable[Finding]:
        """Say what the user should know; also where there is no result."""
        return ()

    def variables(self, case: Case, result: Result) -> Mapping[str, xr.Variable]:
        """Return variables for the group ``relabel``, by name (see :meth:`Case.variable`)."""
        return {}

    def lines(self, numbers: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        """Return lines of the report, a word and a text each.

        Parameters
        ----------
        numbers : mapping
            Measurements of all checks, as they are in the JSON.
        """
        return ()


@dataclass(frozen=True)
class Case:
    """Aligned draws, and all else that the results of checks depend on.

    Attributes
    ----------
    aligned : Aligned
        Draws that are not finite are excluded: results run over the others.
    inputs, targets, likelihood, priors
        As in :func:`relabel.diagnose`.
    seed : int
    progress : callable
        Called with a stage, the steps done, and the number of steps.
    results : mapping of str to result or None
        Of the checks that a check has declared to need or to use.
    """

    aligned: Aligned
    inputs: Array | str | None = "auto"
    targets: Array | str | None = "auto"
    likelihood: Likelihood | str | None = None
    priors: Mapping[str, float | None] | None = None
    seed: int = 0
    progress: Report = no_progress
    results: Mapping[str, Any] = field(default_factory=dict)

    def get(self, check: type[Check[Result]]) -> Result | None:
        """Return the result of a check that is used, or None if it has none.

        Raises
        ------
        LookupError
            If the check that asks has not declared it.
        """
        if check.name not in self.results:
            raise LookupError(f"the check {check.name!r} is not declared among needs or uses")
        found: Result | None = self.results[check.name]
        return found

    def __getitem__(self, check: type[Check[Result]]) -> Result:
        """Return the result of a check that is needed."""
        found = self.get(check)
        if found is None:
            raise LookupError(f"the check {check.name!r} has no result; declare it among needs")
        return found

    def variable(
        self,
        values: Array,
        about: str,
        of: str | None = None,
        *,
        fill: float = np.nan,
        unit: str = "1",
        **attrs: Any,
    ) -> xr.Variable:
        """Make a variable of the group ``relabel`` from values of the included draws.

        Parameters
        ----------
        values : ndarray of shape (draws,) or (draws, K)
        about : str
            What it is.
        of : str, optional
            Name of the set of units of the last axis.
        fill : float, default nan
            Value of excluded draws.
        unit : str, default "1"
            Unit of measurement.
        **attrs
            Further attributes.
        """
        dims = SAMPLE_DIMS if of is None else (*SAMPLE_DIMS, of)
        values = np.asarray(values, dtype=float if np.isnan(fill) else None)
        whole = self.aligned.draws.spread(values, fill)
        return xr.Variable(dims, whole, {"long_name": about, "units": unit} | attrs)
