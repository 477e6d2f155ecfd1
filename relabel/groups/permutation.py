"""Units that may be exchanged, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from relabel.groups.base import Action, Group, Role

__all__ = ["Permutation"]


@dataclass(frozen=True)
class Permutation(Group):
    """The symmetric group: valid for units of any kind, exact under exchangeable priors.

    References
    ----------
    Hecht-Nielsen, R. (1990). On the algebraic structure of feedforward network weight spaces.
    *Advanced Neural Computers*, 129-135. https://doi.org/10.1016/B978-0-444-88400-8.50019-4
    """

    label: ClassVar[str] = "permutation"

    def action(self, role: Role) -> Action:
        """Permute only, whatever the role."""
        return Action(power=0, signed=False)
