"""The registry of likelihood families, and how a user names one."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from numpy.typing import NDArray

from relabel._util.registry import Registry
from relabel.diagnostics.likelihood.base import Family, Variables
from relabel.diagnostics.likelihood.bernoulli import Bernoulli
from relabel.diagnostics.likelihood.categorical import Categorical
from relabel.diagnostics.likelihood.normal import Normal
from relabel.errors import SpecError
from relabel.spec.resolve import closest

__all__ = ["FAMILIES", "Likelihood", "family_of", "guessed"]

Array = NDArray[Any]

#: Name -> family. Targets that nobody described are taken for those of the first that fits.
FAMILIES: Registry[type[Family]] = Registry(
    "likelihood family", "likelihood families", "relabel.likelihoods"
)
for _family in (Bernoulli, Categorical, Normal):
    FAMILIES.register(_family.name, _family)


def family_of(family: str | Family, **options: Any) -> Family:
    """Return a family with its options.

    Parameters
    ----------
    family : str or Family
        One of :data:`FAMILIES`, or a family itself.
    **options
        Options of the family, that replace those it has.

    Raises
    ------
    SpecError
        If the name or an option is unknown, or an option does not fit.

    Examples
    --------
    >>> family_of("normal", scale=0.1)
    Normal(scale=0.1, agreement=3.0)
    >>> family_of("bernoulli", scale=0.1)
    Traceback (most recent call last):
    relabel.errors.SpecError: likelihood: bernoulli has no option 'scale'; it has none
    """
    found: Any = FAMILIES[family]() if isinstance(family, str) else family
    if not isinstance(found, Family):
        raise SpecError(
            f"likelihood: {family!r} must be a relabel.diagnostics.likelihood.Family, not a "
            f"{type(found).__name__}"
        )
    known = [field.name for field in fields(found)]
    for option in options:
        if option not in known:
            raise SpecError(
                f"likelihood: {found} has no option {option!r}{closest(option, known)}; it has "
                f"{', '.join(known) or 'none'}"
            )
    return replace(found, **options)


def guessed(targets: Array | None, variables: Variables) -> Family | None:
    """Return the first family that targets could be of; None where there is none.

    Parameters
    ----------
    targets : ndarray or None
        Finite numbers, one row for each input; without them the draws may tell.
    variables : Variables
        What the draws hold, with the number of outputs.
    """
    every = (family_of(name) for name in FAMILIES)
    return next((family for family in every if family.guess(targets, variables)), None)


@dataclass(frozen=True)
class Likelihood:
    """What a user may say about the likelihood; the rest is looked for.

    Parameters
    ----------
    family : str or Family
        Likelihood of the targets given the network's outputs: ``"normal"`` (outputs are the
        means), ``"bernoulli"`` (the output is the logit), ``"categorical"`` (outputs are the
        logits of all classes), or a family of another package.
    scale : float or str, optional
        For ``"normal"``, and families with such an option: the standard deviation of the noise, or
        the posterior variable that holds it. Without it a variable is looked for, then the
        residuals are taken.
    targets : str, optional
        Address of the targets, such as ``"constant_data/y"``.

    Raises
    ------
    SpecError
        If the family is unknown, or the scale does not fit it.

    Examples
    --------
    >>> Likelihood("normal", scale="sigma")
    Likelihood(family='normal', scale='sigma', targets=None)
    """

    family: str | Family
    scale: float | str | None = None
    targets: str | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without data."""
        self.resolved()

    def resolved(self) -> Family:
        """Return the family with its options."""
        return family_of(self.family, **({} if self.scale is None else {"scale": self.scale}))

    @classmethod
    def of(cls, wanted: Likelihood | Family | str | None) -> Likelihood | None:
        """Return what an argument ``likelihood`` says; None stays None.

        Raises
        ------
        SpecError
            If it is something else.
        """
        if wanted is None or isinstance(wanted, Likelihood):
            return wanted
        if not isinstance(wanted, (str, Family)):
            raise SpecError(
                f"likelihood must be a relabel.Likelihood or the name of a family "
                f"({', '.join(FAMILIES)}), not {wanted!r}"
            )
        return cls(wanted)
