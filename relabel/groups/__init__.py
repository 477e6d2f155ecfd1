"""Symmetry groups of sets of units, and the table from activation names to groups."""

from __future__ import annotations

import re

from relabel.errors import SpecError
from relabel.groups.affine import AffineFlip
from relabel.groups.base import Action, Group, Role, Score
from relabel.groups.even import EvenPermutation
from relabel.groups.normed import NormedPermutation
from relabel.groups.orthogonal import Orthogonal
from relabel.groups.permutation import Permutation
from relabel.groups.scaled import ScaledPermutation
from relabel.groups.signed import GreedySigned, SignedPermutation

__all__ = [
    "SYMMETRIES",
    "Action",
    "AffineFlip",
    "EvenPermutation",
    "GreedySigned",
    "Group",
    "NormedPermutation",
    "Orthogonal",
    "Permutation",
    "Role",
    "ScaledPermutation",
    "Score",
    "SignedPermutation",
    "group_of",
    "group_of_activation",
]

_BY_GROUP: dict[Group, str] = {
    Permutation(): "permutation gelu silu swish softplus elu selu mish relu6",
    SignedPermutation(): "signed tanh erf arctan atan softsign hardtanh sin",
    EvenPermutation(): "cos gaussian",
    AffineFlip(): "sigmoid logistic hard_sigmoid normal_cdf",
    ScaledPermutation(): "relu leaky_relu prelu maxout",
    ScaledPermutation(degree=1, parity="even"): "abs",
    ScaledPermutation(degree=2, parity="even"): "square",
    ScaledPermutation(degree=1, parity="odd"): "linear identity",
    NormedPermutation(): "batchnorm",
    Orthogonal(): "orthogonal rotation",
}

#: Activation (or symmetry) name -> group. ``x^d`` for any d >= 1 is known as well.
SYMMETRIES: dict[str, Group] = {
    name: group for group, names in _BY_GROUP.items() for name in names.split()
}


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
    name = symmetry.strip().lower().replace("-", "_")
    if name in SYMMETRIES:
        return SYMMETRIES[name]
    power = re.fullmatch(r"x\^([1-9]\d*)", name)
    if power:
        degree = int(power[1])
        return ScaledPermutation(degree, "odd" if degree % 2 else "even")
    raise SpecError(
        f"unknown activation {symmetry!r}; known are {', '.join(sorted(SYMMETRIES))} and x^d. "
        "'permutation' is valid for units of any kind"
    )


def group_of_activation(activation: str) -> Group:
    """Return the group of units with this activation, for specs that follow from activations.

    Raises
    ------
    SpecError
        If it is unknown, or ``"batchnorm"``, which takes other axes than an activation.

    Examples
    --------
    >>> group_of_activation("relu").label
    'scaled permutation'
    """
    group = group_of(activation)
    if isinstance(group, NormedPermutation):
        raise SpecError(
            f"{activation!r} is no activation: it scales what comes into a BatchNorm and nothing "
            "behind it, so it takes axes of its own ('c <- x ...', '-> c^2' for the running "
            "variance, 'c^0' for weight and bias); write them, as docs/choosing.md shows"
        )
    return group
