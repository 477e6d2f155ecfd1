r"""Elements of symmetry groups, batched over draws: one file for each kind.

A kind of element is a subclass of :class:`Element`: it says how it acts on an axis of units, how it
is composed and inverted, and as which labelled arrays it is stored. There are

* :class:`Monomial`: permutations with a factor per slot, :math:`(g x)_k = f_k \, x_{i_k}`;
* :class:`Dense`: orthogonal matrices, :math:`(g x)_k = \sum_j G_{kj} x_j`.

:data:`ELEMENTS` has them by the name of their first stored array, which tells what a file holds.
"""

from relabel.groups.elements.base import ELEMENTS, Element, Stored
from relabel.groups.elements.monomials import Monomial, monomial, pick, take_units
from relabel.groups.elements.rotations import Dense

__all__ = ["ELEMENTS", "Dense", "Element", "Monomial", "Stored", "monomial", "pick", "take_units"]

ELEMENTS.register("rotation", Dense)
ELEMENTS.register("index", Monomial)
