"""Versions of installed distributions."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

__all__ = ["__version__", "installed"]


def installed(distribution: str) -> str:
    """Return the version of an installed distribution, ``"unknown"`` if there is none."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"


__version__ = installed("posterior-relabel")
