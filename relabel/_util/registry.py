"""Registries: names of what can be plugged in, from this package and from others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from relabel.errors import SpecError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["Registry"]

Entry = TypeVar("Entry")


class Registry(Mapping[str, Entry], Generic[Entry]):
    """Entries by name: those registered here, and those of other packages' entry points.

    Another package plugs something in by an entry point of the registry's group, in its
    ``pyproject.toml``::

        [project.entry-points."relabel.criteria"]
        median = "their_package.median:Median"

    Entry points are listed once, when a name is first looked up, and loaded when they are asked
    for.

    Parameters
    ----------
    noun, plural : str
        What an entry is, for messages, as in ``"criterion", "criteria"``.
    group : str
        Group of entry points, as in ``"relabel.criteria"``.

    Raises
    ------
    SpecError
        On look-up, if the name is unknown, if several entries claim it, or if it cannot be loaded.

    Examples
    --------
    >>> shapes = Registry("shape", "shapes", "example.shapes")
    >>> shapes.register("square", "■")
    '■'
    >>> shapes["square"], list(shapes)
    ('■', ['square'])
    >>> shapes["squre"]
    Traceback (most recent call last):
    relabel.errors.SpecError: unknown shape 'squre' (did you mean 'square'?); known are square
    >>> shapes.register("square", "□")
    Traceback (most recent call last):
    relabel.errors.SpecError: two shapes are named 'square': '■' and '□'
    """

    #: All registries there are.
    instances: ClassVar[list[Registry[Any]]] = []

    def __init__(self, noun: str, plural: str, group: str) -> None:
        self.noun, self.plural, self.group = noun, plural, group
        self._known: dict[str, Entry] = {}
        Registry.instances.append(self)

    def register(self, name: str, entry: Entry) -> Entry:
        """Add an entry under a name, and return it.

        Raises
        ------
        SpecError
            If another entry has that name.
        """
        known = self._known.setdefault(name, entry)
        if known is not entry and known != entry:
            raise SpecError(f"two {self.plural} are named {name!r}: {known!r} and {entry!r}")
        return entry

    @cached_property
    def _plugins(self) -> dict[str, list[EntryPoint]]:
        """Entry points of installed packages by name."""
        from importlib.metadata import entry_points

        found: dict[str, list[EntryPoint]] = {}
        for point in dict.fromkeys(entry_points(group=self.group)):
            found.setdefault(point.name, []).append(point)
        return found

    def refresh(self) -> None:
        """Forget which entry points there are; they are listed again at the next look-up."""
        self.__dict__.pop("_plugins", None)

    def __getitem__(self, name: str) -> Entry:
        """Return the entry of a name."""
        if not isinstance(name, str):
            raise SpecError(f"a {self.noun} must be named by a string, not {name!r}")
        plugins = self._plugins.get(name, [])
        if len(plugins) + (name in self._known) > 1:
            claims = [f"{point.value} ({_package(point)})" for point in plugins]
            claims += ["relabel itself"] * (name in self._known)
            raise SpecError(
                f"two {self.plural} are named {name!r}: {' and '.join(claims)}; "
                "uninstall or rename one of them"
            )
        if plugins:
            return self._loaded(plugins[0])
        if name not in self._known:
            close = get_close_matches(str(name), list(self), n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise SpecError(
                f"unknown {self.noun} {name!r}{hint}; known are {', '.join(self) or 'none'}"
            )
        return self._known[name]

    def _loaded(self, point: EntryPoint) -> Entry:
        """Load an entry point; any failure of its package is said to be of it."""
        try:
            entry: Entry = point.load()
        except Exception as error:
            raise SpecError(
                f"{self.noun} {point.name!r} of {_package(point)} cannot be loaded from "
                f"{point.value}: {type(error).__name__}: {error}"
            ) from error
        return entry

    def __contains__(self, name: object) -> bool:
        """Whether there is an entry of this name."""
        return isinstance(name, str) and (name in self._known or name in self._plugins)

    def __iter__(self) -> Iterator[str]:
        """Yield the names: those registered in their order, then those of entry points."""
        return iter(dict.fromkeys([*self._known, *self._plugins]))

    def __eq__(self, other: object) -> bool:
        """Whether both are one registry: to compare entries would load them all."""
        return self is other

    __hash__ = object.__hash__

    def __len__(self) -> int:
        """Return the number of names."""
        return len({*self._known, *self._plugins})


def _package(point: EntryPoint) -> str:
    """Name of the distribution that an entry point comes from."""
    return point.dist.name if point.dist is not None else "unknown package"
