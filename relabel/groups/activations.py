"""Names of symmetries and activations: what a name stands for, its group and its function."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

from relabel._util.registry import Registry
from relabel.errors import SpecError, UnknownSymmetryError
from relabel.groups.affine import AffineFlip
from relabel.groups.base import Group
from relabel.groups.even import EvenPermutation
from relabel.groups.normed import NormedPermutation
from relabel.groups.orthogonal import Orthogonal
from relabel.groups.permutation import Permutation
from relabel.groups.scaled import ScaledPermutation
from relabel.groups.signed import SignedPermutation

__all__ = ["GROUPS", "Activation", "activation_of", "group_of", "group_of_activation", "register"]

Array = NDArray[Any]
Function = Callable[[Array], Array]

_STEP = 1e-6  # of a numeric derivative: rounding and curvature both cost about 1e-10
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
_FAMILY = re.compile(r"\^([1-9]\d*)$")


@dataclass(frozen=True)
class Activation:
    """What a name in the table `units` of a spec stands for.

    Parameters
    ----------
    symmetry : Group
        The symmetry of units with this activation.
    function : callable, optional
        The function itself, elementwise from array to array. None for a name that stands for a
        symmetry alone (``"permutation"``), or for functions with parameters of their own
        (``"prelu"``): such networks are aligned, but not evaluated.
    derivative : callable, optional
        Its derivative; by default differences are taken.
    limits : (float, float), optional
        The two horizontal asymptotes, lower first, for functions that have two.

    Examples
    --------
    >>> tanh = activation_of("tanh")
    >>> tanh.symmetry.label, tanh.parity, tanh.limits
    ('signed permutation', 'odd', (-1.0, 1.0))
    >>> activation_of("maxout").function is None
    True
    """

    symmetry: Group
    function: Function | None = None
    derivative: Function | None = None
    limits: tuple[float, float] | None = None

    @property
    def parity(self) -> Literal["odd", "even"] | None:
        """Whether f(−z) is −f(z) or f(z), as the symmetry says."""
        tail = self.symmetry.action("tail")
        if tail is None or not self.symmetry.signs or self.symmetry.shifts:
            return None
        return "odd" if tail.signed else "even"

    def slope(self, sums: Array) -> Array:
        """Return the derivative of the function, by central differences if it is not given."""
        if self.derivative is not None:
            return self.derivative(sums)
        assert self.function is not None
        step = _STEP * (1.0 + np.abs(sums))
        slope: Array = (self.function(sums + step) - self.function(sums - step)) / (2 * step)
        return slope


#: What a name stands for; of names that end in ``^d``, a function of the positive integer d.
Entry: TypeAlias = Group | Activation | Callable[[int], Activation]

#: What may stand in the table `units` of a spec, by name.
GROUPS: Registry[Entry] = Registry("symmetry", "symmetries", "relabel.groups")


def register(name: str, entry: Entry) -> None:
    r"""Give a symmetry or an activation a name, which specs can then use.

    What is registered is known to this process alone. A package that is installed announces its
    symmetries by entry points instead, which commands find as well::

        [project.entry-points."relabel.groups"]
        sech = "their_package.sech:SECH"

    Parameters
    ----------
    name : str
        In lower case, with ``_`` for ``-``. A name that ends in ``^d`` is that of a family: the
        entry is then a function that takes the positive integer *d*.
    entry : Group or Activation
        A group, if the name stands for a symmetry alone; an activation, if there is a function.

    Raises
    ------
    SpecError
        If something else has that name.

    Examples
    --------
    >>> sech = Activation(EvenPermutation(), lambda z: 1 / np.cosh(z))
    >>> register("sech", sech)
    >>> group_of("sech").label
    'permutation and incoming signs'
    """
    GROUPS.register(_normal(name), entry)


def activation_of(name: str) -> Activation:
    """Return what a name in the table `units` stands for: its symmetry, and its function if any.

    Parameters
    ----------
    name : str
        As :func:`group_of` takes it.

    Returns
    -------
    Activation
        Without a function where the name stands for a symmetry alone.

    Raises
    ------
    SpecError
        If the name is unknown; the message lists the known ones.

    Examples
    --------
    >>> activation_of("x^3").function(np.array([-2.0]))
    array([-8.])
    """
    key = _normal(name)
    degree = _FAMILY.search(key)
    known = key if degree is None else f"{key[: degree.start()]}^d"
    if known not in GROUPS or key.endswith("^d"):
        raise UnknownSymmetryError(_unknown(name, key), name)
    entry = GROUPS[known]
    if degree is not None and callable(entry):
        entry = entry(int(degree[1]))
    if isinstance(entry, Group):
        return Activation(entry)
    if not isinstance(entry, Activation):
        raise SpecError(
            f"symmetry {name!r} must be an instance of Group or Activation, not {entry!r}"
        )
    return entry


def group_of(symmetry: str) -> Group:
    """Return the symmetry group of units with this activation.

    Parameters
    ----------
    symmetry : str
        An activation's name (``"tanh"``, ``"relu"``, ``"x^3"``, ...), ``"signed"`` for units that
        may change their sign as a whole, ``"batchnorm"`` for channels that go into a BatchNorm,
        ``"orthogonal"`` for factors that may be rotated, or ``"permutation"``, which is always
        safe. Upper case and ``-`` for ``_`` are accepted.

    Returns
    -------
    Group

    Raises
    ------
    SpecError
        If the name is unknown; the message lists the known ones.

    Examples
    --------
    >>> group_of("tanh").label, group_of("tanh").exact
    ('signed permutation', True)
    >>> group_of("x^3")
    ScaledPermutation(degree=3, parity='odd')
    """
    return activation_of(symmetry).symmetry


def group_of_activation(activation: str) -> Group:
    """Return the group of units with this activation, for specs that follow from activations.

    Parameters
    ----------
    activation : str
        As :func:`group_of` takes it.

    Returns
    -------
    Group

    Raises
    ------
    SpecError
        If it is unknown, or a symmetry that takes other axes than an activation (``"batchnorm"``).

    Examples
    --------
    >>> group_of_activation("relu").label
    'scaled permutation'
    """
    group = group_of(activation)
    if group.not_an_activation:
        raise SpecError(f"{activation!r} is no activation: {group.not_an_activation}")
    return group


def _normal(name: str) -> str:
    """Return a name as the table has it."""
    if not isinstance(name, str):
        raise SpecError(f"an activation must be a string such as 'tanh', not {name!r}")
    return name.strip().lower().replace("-", "_")


def _unknown(name: str, key: str) -> str:
    """Say that a name is unknown, which are known, and what to do."""
    close = get_close_matches(key, list(GROUPS), n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return (
        f"unknown activation {name!r}{hint}; known are {', '.join(sorted(GROUPS))}. If another "
        "package brings it, install that package. 'permutation' is valid for units of any kind"
    )


# ---------------------------------------------------------------------- the table


def _elu(z: Array) -> Array:
    return np.where(z > 0, z, np.expm1(np.minimum(z, 0.0)))


def _silu(z: Array) -> Array:
    return np.asarray(z * special.expit(z))


def _softplus(z: Array) -> Array:
    return np.logaddexp(0.0, z)


def _power(degree: int) -> Activation:
    """Return the activation z^d."""
    symmetry = ScaledPermutation(degree, "odd" if degree % 2 else "even")
    return Activation(symmetry, lambda z: z**degree)


_PERMUTED, _SIGNED, _FLIPPED = Permutation(), SignedPermutation(), AffineFlip()
_EVEN, _SCALED = EvenPermutation(), ScaledPermutation()
_LINEAR = Activation(ScaledPermutation(1, "odd"), lambda z: z)
_ARCTAN = Activation(_SIGNED, np.arctan, limits=(-np.pi / 2, np.pi / 2))
_LOGISTIC = Activation(_FLIPPED, special.expit, limits=(0.0, 1.0))

_TABLE: dict[str, Entry] = {
    # symmetries alone: these names stand for no function
    "permutation": _PERMUTED,
    "signed": _SIGNED,
    "batchnorm": NormedPermutation(),
    "orthogonal": Orthogonal(),
    "rotation": Orthogonal(),
    # functions with parameters of their own: these names do not determine one
    "prelu": _SCALED,
    "maxout": _SCALED,
    # neither odd nor even
    "gelu": Activation(_PERMUTED, lambda z: z * special.ndtr(z)),
    "silu": Activation(_PERMUTED, _silu),
    "swish": Activation(_PERMUTED, _silu),
    "softplus": Activation(_PERMUTED, _softplus),
    "elu": Activation(_PERMUTED, _elu),
    "selu": Activation(
        _PERMUTED,
        lambda z: _SELU_SCALE * np.where(z > 0, z, _SELU_ALPHA * np.expm1(np.minimum(z, 0))),
    ),
    "mish": Activation(_PERMUTED, lambda z: z * np.tanh(_softplus(z))),
    "relu6": Activation(_PERMUTED, lambda z: np.clip(z, 0, 6)),
    # odd
    "tanh": Activation(_SIGNED, np.tanh, limits=(-1.0, 1.0)),
    "erf": Activation(_SIGNED, special.erf, limits=(-1.0, 1.0)),
    "arctan": _ARCTAN,
    "atan": _ARCTAN,
    "softsign": Activation(_SIGNED, lambda z: z / (1 + np.abs(z)), limits=(-1.0, 1.0)),
    "hardtanh": Activation(_SIGNED, lambda z: np.clip(z, -1, 1), limits=(-1.0, 1.0)),
    "sin": Activation(_SIGNED, np.sin),
    # even
    "cos": Activation(_EVEN, np.cos),
    "gaussian": Activation(_EVEN, lambda z: np.exp(-(z**2))),
    # f(-z) = 1 - f(z)
    "sigmoid": _LOGISTIC,
    "logistic": _LOGISTIC,
    "hard_sigmoid": Activation(_FLIPPED, lambda z: np.clip(z / 6 + 0.5, 0, 1), limits=(0.0, 1.0)),
    "normal_cdf": Activation(_FLIPPED, special.ndtr, limits=(0.0, 1.0)),
    # homogeneous: f(cz) = c^d f(z) for c > 0
    "relu": Activation(_SCALED, lambda z: np.maximum(z, 0.0)),
    "leaky_relu": Activation(_SCALED, lambda z: np.where(z > 0, z, 0.01 * z)),
    "abs": Activation(ScaledPermutation(1, "even"), np.abs),
    "square": Activation(ScaledPermutation(2, "even"), np.square),
    "linear": _LINEAR,
    "identity": _LINEAR,
    "x^d": _power,
}

for _name, _entry in _TABLE.items():
    register(_name, _entry)
