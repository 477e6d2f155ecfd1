"""The errors that are the user's to mend, each with what is wrong and what to do."""

from __future__ import annotations

__all__ = ["DataError", "FileError", "RelabelError", "SpecError", "UnknownSymmetryError"]


class RelabelError(ValueError):
    """Base of every error that the input, not the library, is at fault for."""


class SpecError(RelabelError):
    """The spec, or an option, is wrong in itself or does not fit the draws."""


class UnknownSymmetryError(SpecError):
    """A spec names a symmetry that neither this package nor an installed one brings.

    Attributes
    ----------
    symmetry : str
        The name.
    """

    def __init__(self, message: str, symmetry: str) -> None:
        super().__init__(message)
        self.symmetry = symmetry


class DataError(RelabelError):
    """The draws themselves cannot be used as they are."""


class FileError(RelabelError):
    """A file cannot be read, or cannot be written."""
