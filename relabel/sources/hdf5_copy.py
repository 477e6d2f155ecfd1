"""A copy of an HDF5 file that holds all its values itself, written so that no failure is lost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, Literal

import numpy as np

from relabel.errors import FileError
from relabel.sources.arviz_files import blocks_of
from relabel.sources.failures import first_line, naming
from relabel.sources.hdf5_links import Graph, Key, check_names, graph_of, lost_parts, resolves

__all__ = ["copied", "reachable", "written"]

_OF_SCALES = ("DIMENSION_LIST", "REFERENCE_LIST")


# ---------------------------------------------------------------------- writing


class _Guard:
    """A file for HDF5 to write to; the first failure is kept, and nothing is written after it.

    HDF5 cannot give up a file that it failed to write: it tries again as it is closed, and once
    more as the process ends, which may crash. So it never hears of a failure.
    """

    def __init__(self, path: Path, mode: str) -> None:
        self._file = FileIO(path, mode)
        self.failure: BaseException | None = None

    @contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:  # noqa: BLE001 - raised again by `check`
            self.failure = self.failure or error

    def check(self) -> None:
        """Raise the failure."""
        if self.failure is not None:
            raise self.failure

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        """Tell h5py that this is a file."""
        return self._file.read(size)

    def readinto(self, buffer: Any) -> int:
        """Read as much as is asked for, zeros beyond the end."""
        rest = memoryview(buffer).cast("B")
        size = len(rest)
        with self._kept():
            while len(rest) and (n := self._file.readinto(rest)):
                rest = rest[n:]
        rest[:] = bytes(len(rest))
        return size

    def write(self, buffer: Any) -> int:
        rest = memoryview(buffer).cast("B")
        size = len(rest)
        with self._kept():
            while len(rest) and self.failure is None:
                rest = rest[self._file.write(rest) :]
        return size

    def truncate(self, size: int) -> int:
        with self._kept():
            if self.failure is None:
                self._file.truncate(size)
        return size

    def flush(self) -> None:
        """Do nothing: there is no buffer."""

    def close(self) -> None:
        with self._kept():
            self._file.close()


@contextmanager
def written(path: Path, mode: Literal["r+", "w"]) -> Iterator[Any]:
    """Open an HDF5 file for writing; whatever fails, HDF5 is rid of it at the end.

    Raises
    ------
    OSError
        If the system refused to write; it is the system's own error.
    ValueError
        If HDF5 cannot write: the file may be damaged where it does not read.
    """
    guard = _Guard(path, "w+" if mode == "w" else "r+")
    try:
        with reachable(guard, mode) as file:
            yield file
    except (LookupError, AttributeError, ArithmeticError, AssertionError) as error:
        guard.check()
        raise ValueError(f"HDF5 cannot write it: {first_line(error)}") from error
    except Exception:
        guard.check()  # what HDF5 says of it is only a consequence
        raise
    finally:
        guard.close()
    guard.check()


def reachable(path: Any, mode: Literal["r", "r+", "w"]) -> Any:
    """Open an HDF5 file as h5netcdf can take it: without names that lead nowhere.

    Where it is written to, also without those that lead to other files.
    """
    import h5py

    outer = mode == "r"

    class Group(h5py.Group):  # type: ignore[misc]
        opened = ""

        @property
        def name(self) -> str:
            return self.opened or str(super().name)

        def __iter__(self) -> Iterator[str]:
            return (name for name in super().__iter__() if _leads(self.id, name, outer=outer))

    foreign = _foreign()

    class File(h5py.File):  # type: ignore[misc]
        def __getitem__(self, name: Any) -> Any:
            item = super().__getitem__(name)
            kind = type(item)
            if kind is h5py.Dataset and outer and _key_of(item)[0] != _key_of(self)[0]:
                kind = foreign
            elif kind is h5py.Group:
                kind = Group
            if kind is type(item):
                return item
            found = kind(item.id)
            found.opened = name if isinstance(name, str) else ""
            return found

    return File(path, mode, track_order=True) if mode != "r" else File(path, mode)


def _foreign() -> Any:
    """Return the class of datasets of other files: h5netcdf must not follow their references.

    They are references within the other file, and would lead elsewhere in this one.
    """
    import h5py

    class Attributes(h5py.AttributeManager):  # type: ignore[misc]
        def __contains__(self, name: str) -> bool:
            return name not in _OF_SCALES and super().__contains__(name)

        def __getitem__(self, name: str) -> Any:
            if name in _OF_SCALES:
                raise KeyError(name)
            return super().__getitem__(name)

    class Foreign(h5py.Dataset):  # type: ignore[misc]
        opened = ""

        @property
        def name(self) -> str:
            return self.opened

        @property
        def attrs(self) -> Any:
            return Attributes(self)

    Foreign.__module__ = h5py.Dataset.__module__  # h5netcdf asks for it
    return Foreign


def _leads(group: Any, name: str, *, outer: bool) -> bool:
    """Whether a name in a group leads to something; in another file only if `outer`."""
    import h5py

    raw = os.fsencode(name)
    kind = group.links.get_info(raw).type
    if kind == h5py.h5l.TYPE_HARD:
        return True
    return (outer or kind == h5py.h5l.TYPE_SOFT) and resolves(group, raw)


# ---------------------------------------------------------------------- copies


@contextmanager
def copied(source: Path, path: Path, changed: Collection[str]) -> Iterator[Any]:
    """Copy an HDF5 file byte by byte, and open the copy for writing.

    What is not stored in the file itself (external storage, virtual datasets, external links) is
    written anew into the copy, and so is what has further names (soft and hard links), if one of
    them is changed: in the copy every changed name has values of its own.

    Parameters
    ----------
    source : Path
        It must have passed :func:`relabel.sources.hdf5_links.check_links`.
    path : Path
    changed : collection of str
        Places whose values will be overwritten: they are not read.

    Raises
    ------
    FileError
        If something cannot be read, or cannot be written anew.
    """
    import h5py

    with h5py.File(source, "r") as before:
        graph = graph_of(source, before)
        check_names(source, graph)
        places = _to_write_anew(graph, changed)
        shutil.copyfile(source, path)
        with written(path, "r+") as after:
            if places:
                _Renewal(source, before, after, graph, changed).run(places)
            yield after


def _to_write_anew(graph: Graph, changed: Collection[str]) -> list[str]:
    """Return the places where the copy gets objects of its own, each with all below it."""
    homes, inside = graph.homes(), graph.root[0]
    touched = {graph.find(place) for place in changed}
    touched |= {key for key, node in graph.nodes.items() if node.apart or key[0] != inside}
    found: list[str] = []
    todo = [("", graph.root)]
    while todo:
        path, key = todo.pop()
        if homes.get(key) == path and not graph.nodes[key].apart:
            links = graph.nodes[key].links.items()
            todo += [(f"{path}/{n}".lstrip("/"), link.target) for n, link in reversed(links)]
        elif graph.below(key) & touched:
            found.append(path)
    return found


class _Renewal:
    """Objects of one HDF5 file written anew into a copy of it."""

    def __init__(
        self, source: Path, before: Any, after: Any, graph: Graph, changed: Collection[str]
    ) -> None:
        self.source, self.before, self.after = source, before, after
        self.graph, self.changed = graph, changed
        self.datasets: list[str] = []

    def run(self, places: list[str]) -> None:
        """Replace what is at these places."""
        gone = {key for key, place in self.graph.homes().items() if place in places}
        self._refuse_references_to(gone)
        users = self._forget(gone)
        for place in places:
            parent, _, name = place.rpartition("/")
            group = self.after[f"/{parent}"]
            group.id.unlink(os.fsencode(name))
            self._renew(group, name, place)
        for place in self.datasets:
            for axis, scale in enumerate(self._scales(place)):
                if scale is not None:
                    self.after[place].dims[axis].attach_scale(self._scale(place, scale))
        for user, axis, dimension in users:
            self.after[user].dims[axis].attach_scale(self.after[dimension])

    def _refuse_references_to(self, gone: set[Key]) -> None:
        """Refuse references that would lead to what is deleted; those of scales are mended."""
        import h5py

        for key, place in self.graph.homes().items() if gone else ():
            item = self.before[place or "/"]
            arrays = {n: item.attrs[n] for n in item.attrs if n not in _OF_SCALES}
            if isinstance(item, h5py.Dataset) and not self.graph.nodes[key].apart:
                arrays["its values"] = item[()] if h5py.check_ref_dtype(item.dtype) else ()
            for name, values in arrays.items():
                found = np.ravel(np.asarray(values, dtype=object)) if arrays else ()
                references = [r for r in found if isinstance(r, h5py.Reference) and r]
                if any(_key_of(self.before[r]) in gone for r in references):
                    raise FileError(
                        f"{self.source}: {place or 'the root'} refers ({name}) to values that are "
                        "not in the file, and would lead nowhere in a copy that holds them; put "
                        "everything into one file (h5repack, nccopy)"
                    )

    def _forget(self, gone: set[Key]) -> list[tuple[str, int, str]]:
        """Detach what will be deleted from scales and from what they are scales of.

        Virtual datasets are not opened: HDF5 would open their sources, and for writing.
        """
        homes, users = self.graph.homes(), []
        for key, place in homes.items():
            if self.graph.nodes[key].group or not place:
                continue
            stored = self.before[place]
            entries = getattr(stored, "attrs", {}).get("REFERENCE_LIST", ())
            for reference, axis in entries:
                if not reference:
                    continue
                user = _key_of(self.before[reference])
                if key in gone and user in homes and user not in gone:
                    self.after[homes[user]].dims[int(axis)].detach_scale(self.after[place])
                    users.append((homes[user], int(axis), place))
            if key not in gone and any(r and _key_of(self.before[r]) in gone for r, _ in entries):
                self._drop(self.after[place], gone)
        return users

    def _drop(self, scale: Any, gone: set[Key]) -> None:
        """Take deleted datasets out of the list that a scale has of its users."""
        addresses = {address for _, address in gone}
        entries = scale.attrs["REFERENCE_LIST"]
        kept = [e for e in entries if _key_of(self.after[e[0]])[1] not in addresses]
        del scale.attrs["REFERENCE_LIST"]
        if kept:
            scale.attrs.create("REFERENCE_LIST", np.array(kept, entries.dtype))

    def _renew(self, group: Any, name: str, place: str) -> None:
        """Write one object, and all below it, into a group of the copy."""
        import h5py

        raw, key = os.fsencode(name), self.graph.find(place)
        with naming(f"{self.source}: {place}"):
            item = self.before[place]
        foreign = key is not None and key[0] != self.graph.root[0]
        if isinstance(item, h5py.Group):
            made = h5py.Group(h5py.h5g.create(group.id, raw, gcpl=_order_of(item)))
            self._attributes(item, made, place, foreign)
            for inner in self.graph.nodes[key].links if key is not None else ():
                self._renew(made, inner, f"{place}/{inner}")
        elif isinstance(item, h5py.Dataset):
            self._refuse_references(item.id.get_type(), place, foreign)
            made = self._create(group, raw, item)
            self._attributes(item, made, place, foreign)
            self.datasets.append(place)
            if place not in self.changed:
                self._values(item, made, place)
        else:
            kind = h5py.h5t.open(self.before[place].parent.id, raw).copy()
            kind.commit(group.id, raw)

    def _create(self, group: Any, raw: bytes, item: Any) -> Any:
        """Create a dataset like another, with values of its own."""
        import h5py

        kind, space, stored = item.id.get_type().copy(), item.id.get_space(), item._dcpl
        if stored.get_external_count() or stored.get_layout() == h5py.h5d.VIRTUAL:
            plain = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plain.set_attr_creation_order(stored.get_attr_creation_order())
            defined = stored.fill_value_defined() == h5py.h5d.FILL_VALUE_USER_DEFINED
            if item.dtype.kind in "iufb" and defined:
                value = np.zeros((), item.dtype)
                stored.get_fill_value(value)
                plain.set_fill_value(value)
            if item.shape is not None:
                space = h5py.h5s.create_simple(item.shape) if item.shape else space
            stored = plain
        return h5py.Dataset(h5py.h5d.create(group.id, raw, kind, space, stored))

    def _values(self, item: Any, made: Any, place: str) -> None:
        lost = lost_parts(place, item.id)
        if lost is not None:
            raise FileError(f"{self.source}: {place} is kept in {lost}, which is not there")
        if item.shape is None:
            return
        for block in blocks_of(item.shape, item.dtype.itemsize):
            with naming(f"{self.source}: {place}"):
                values = item[block]
            made[block] = values

    def _attributes(self, item: Any, made: Any, place: str, foreign: bool) -> None:
        """Copy attributes with their types; those of dimension scales are made later."""
        import h5py

        for name in (name for name in item.attrs if name not in _OF_SCALES):
            with naming(f"{self.source}: {place}, attribute {name}"):
                old = item.attrs.get_id(name)
                kind, space = old.get_type(), old.get_space()
                self._refuse_references(kind, f"{place}, attribute {name}", foreign)
                empty = space.get_simple_extent_type() == h5py.h5s.NULL
                values = None if empty else np.zeros(old.shape, old.dtype)
                if values is not None:
                    old.read(values)
            new = h5py.h5a.create(made.id, os.fsencode(name), kind.copy(), space)
            if values is not None:
                new.write(values)

    def _refuse_references(self, kind: Any, place: str, foreign: bool) -> None:
        """Refuse references within another file: in this one they would lead elsewhere."""
        import h5py

        if foreign and kind.detect_class(h5py.h5t.REFERENCE):
            raise FileError(
                f"{self.source}: {place} is in another file and holds references into it, which "
                "cannot be copied; put everything into one file (h5repack, nccopy), or remove it"
            )

    def _scales(self, place: str) -> list[str | None]:
        """Return the last part of the name of the scale of each axis."""
        with naming(f"{self.source}: {place}, its dimensions"):
            dims = self.before[place].dims
            return [axis[0].name.rpartition("/")[2] if len(axis) else None for axis in dims]

    def _scale(self, place: str, name: str) -> Any:
        """Return the dimension of that name in the copy: of its group, or of one further up."""
        import h5py

        group = place
        while group:
            group = group.rpartition("/")[0]
            found = self.after.get(f"{group}/{name}")
            if isinstance(found, h5py.Dataset) and h5py.h5ds.is_scale(found.id):
                return found
        raise FileError(
            f"{self.source}: {place} has the dimension {name}, which is in no group that it is in; "
            "put everything into one file (h5repack, nccopy)"
        )


def _key_of(item: Any) -> Key:
    import h5py

    about = h5py.h5o.get_info(item.id)
    return about.fileno, about.addr


def _order_of(group: Any) -> Any:
    """Return properties of a new group that keeps the same order of names.

    The properties themselves cannot be given to a new group: HDF5 crashes.
    """
    import h5py

    old, new = group.id.get_create_plist(), h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    new.set_link_creation_order(old.get_link_creation_order())
    new.set_attr_creation_order(old.get_attr_creation_order())
    return new
