"""Symmetry groups of sets of units, and the names that specs give them.

A name from the table `units` of a spec comes in, a :class:`Group` goes out: it says how units may
be exchanged, change their signs, be scaled or rotated, and which element fits a score best.

* :func:`group_of` and :func:`activation_of` look a name up; :data:`GROUPS` has all names.
* :class:`Group` is what a symmetry has to answer, in the words :class:`Action`, :data:`Role` and
  :class:`Score`. Its elements are of kinds (:class:`Element`): :class:`Monomial`, :class:`Dense`.
* :func:`register` adds a symmetry, or an :class:`Activation` with its function, in this process;
  another package adds its own by an entry point in the group ``relabel.groups``.
"""

from relabel.groups.activations import (
    GROUPS,
    Activation,
    activation_of,
    group_of,
    group_of_activation,
    register,
)
from relabel.groups.affine import AffineFlip
from relabel.groups.base import Action, Group, Role, Score
from relabel.groups.elements import Dense, Element, Monomial
from relabel.groups.even import EvenPermutation
from relabel.groups.normed import NormedPermutation
from relabel.groups.orthogonal import Orthogonal
from relabel.groups.permutation import Permutation
from relabel.groups.scaled import ScaledPermutation
from relabel.groups.signed import GreedySigned, SignedPermutation

__all__ = [
    "GROUPS",
    "Action",
    "Activation",
    "AffineFlip",
    "Dense",
    "Element",
    "EvenPermutation",
    "GreedySigned",
    "Group",
    "Monomial",
    "NormedPermutation",
    "Orthogonal",
    "Permutation",
    "Role",
    "ScaledPermutation",
    "Score",
    "SignedPermutation",
    "activation_of",
    "group_of",
    "group_of_activation",
    "register",
]
