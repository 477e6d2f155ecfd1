"""What an HDF5 file is made of: links, and values outside it, looked at before HDF5 opens them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from relabel.errors import FileError
from relabel.sources.failures import naming, reading
from relabel.sources.hdf5_heaps import Span, check_heaps, stored_spans

__all__ = [
    "Graph",
    "Link",
    "Node",
    "check_links",
    "check_names",
    "graph_of",
    "inner_groups",
    "lost_parts",
    "resolves",
]

#: An object of HDF5: the number of its open file, and its address there.
Key = tuple[int, int]

_DEEPEST = 64  # groups within groups
_MOST = 20_000  # names of groups and variables; more would keep h5netcdf busy for minutes

_LINKS = "HDF5_EXT_PREFIX"
_VIRTUAL = "HDF5_VDS_PREFIX"
_RAW = "HDF5_EXTFILE_PREFIX"


# ---------------------------------------------------------------------- other files


@dataclass(frozen=True)
class _Reference:
    """The name of another file, as an HDF5 file holds it.

    Attributes
    ----------
    place : str
        What is kept there.
    name : str
        Where HDF5 is to look for it.
    variable : str
        The variable of the environment that tells HDF5 more folders to look in.
    """

    place: str
    name: str
    variable: str

    def candidates(self, source: Path) -> list[Path]:
        """Return all files that HDF5 may take for it when it opens `source`."""
        own = source.absolute().parent
        texts = os.environ.get(self.variable, "").split(os.pathsep)
        folders = [Path(text.replace("${ORIGIN}", str(own))) for text in texts if text]
        if self.variable == _RAW:
            folders = [*folders, Path.cwd()]
        else:
            folders = [*folders, own, Path.cwd(), source.resolve().parent]
        named = Path(self.name)
        if named.is_absolute():  # HDF5 tries the last part of the name as well
            last = [folder / named.name for folder in folders]
            tried = [named] if self.variable == _RAW else [named, *last]
        else:
            tried = [folder / named for folder in folders]
        if self.variable == _VIRTUAL:
            tried = [path for one in tried for path in _expanded(one)]
        return [path for path in dict.fromkeys(tried) if path.exists()]


def _expanded(path: Path) -> Iterator[Path]:
    """Yield the files of a virtual dataset: ``%b`` in a name stands for the number of a block."""
    if "%b" not in str(path).replace("%%", ""):
        yield Path(str(path).replace("%%", "%"))
        return
    parts = [re.escape(part.replace("%%", "%")) for part in re.split("(?<!%)%b", path.name)]
    if path.parent.is_dir() and "%b" not in str(path.parent):
        pattern = re.compile(r"\d+".join(parts))
        yield from sorted(p for p in path.parent.iterdir() if pattern.fullmatch(p.name))


def check_links(path: Path, *, follow_links: bool) -> None:
    """Refuse an HDF5 file that would have values read from outside its folder.

    External links, external storage and the sources of virtual datasets are resolved as HDF5 does
    (with its variables of the environment) and as the system does (symbolic links), in this file
    and in all that it refers to. Nothing of it is opened before it has passed.

    Parameters
    ----------
    path : Path
    follow_links : bool
        Whether files outside the folder are read.

    Raises
    ------
    FileError
        If there is one and it is not to be read, or it is not an ordinary file.
    """
    folder, todo, seen = path.resolve().parent, [path], set()
    while todo:
        current = todo.pop()
        if (known := (current.resolve(), current.parent.resolve())) in seen:
            continue
        seen.add(known)
        for reference in _references(current, needed=current == path):
            for found in reference.candidates(current):
                at = path if current == path else f"{path} (in {current})"
                if not follow_links and folder not in found.resolve().parents:
                    raise FileError(
                        f"{at}: {reference.place} is kept in {found}, outside the folder of the "
                        "file, and is not read unasked; if you trust the file, say --follow-links "
                        "(in Python follow_links=True)"
                    )
                if not found.is_file():
                    raise FileError(
                        f"{at}: {reference.place} is kept in {found}, which is not an ordinary file"
                    )
                if reference.variable != _RAW:
                    todo.append(found)


def _references(path: Path, needed: bool) -> list[_Reference]:
    """Return the names of other files in one HDF5 file; none if HDF5 cannot open it."""
    import h5py

    try:
        with reading(path, "HDF5"), h5py.File(path, "r") as file:
            references, values = _looked_through(path, h5py.h5g.open(file.id, b"/"))
            check_heaps(path, file, values)
            return references
    except FileError:
        if needed:
            raise
        return []


def _looked_through(path: Path, root: Any) -> tuple[list[_Reference], list[Span]]:
    """Return the references of all objects of a file, and where it keeps values.

    Only hard links are followed.
    """
    import h5py

    references, values = list[_Reference](), list[Span]()
    todo, seen = [("", root)], {h5py.h5o.get_info(root).addr}
    while todo:
        place, group = todo.pop()
        for raw in group:
            name = f"{place}/{os.fsdecode(raw)}".lstrip("/")
            kind = group.links.get_info(raw).type
            if kind == h5py.h5l.TYPE_EXTERNAL:
                file = os.fsdecode(group.links.get_val(raw)[0])
                references.append(_Reference(name, file, _LINKS))
            if kind != h5py.h5l.TYPE_HARD:
                continue
            with naming(f"{path}: {name}"):
                item = h5py.h5o.open(group, raw)
                address = h5py.h5o.get_info(item).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(item, h5py.h5g.GroupID):
                _check_depth(path, name)
                todo.append((name, item))
            elif isinstance(item, h5py.h5d.DatasetID):
                references += _parts(name, item)
                values += stored_spans(item)
    return references, values


def _check_depth(path: Path, name: str) -> None:
    if name.count("/") >= _DEEPEST:
        raise FileError(
            f"{path}: groups lie within groups more than {_DEEPEST} deep "
            f"({name[:40]}...); draws do not"
        )


def _parts(place: str, dataset: Any) -> Iterator[_Reference]:
    """Yield the files that hold values of one dataset."""
    import h5py

    stored = dataset.get_create_plist()
    for i in range(stored.get_external_count()):
        yield _Reference(place, os.fsdecode(stored.get_external(i)[0]), _RAW)
    if stored.get_layout() == h5py.h5d.VIRTUAL:
        for i in range(stored.get_virtual_count()):
            name = os.fsdecode(stored.get_virtual_filename(i))
            if name != ".":  # the file itself
                yield _Reference(place, name, _VIRTUAL)


def lost_parts(place: str, dataset: Any) -> str | None:
    """Return the name of a file that holds values of a dataset, and is not there.

    Of a virtual dataset HDF5 reads fill values instead, without a word.

    Parameters
    ----------
    place : str
    dataset : h5py.h5d.DatasetID
    """
    import h5py

    path = Path(os.fsdecode(h5py.h5f.get_name(dataset)))
    for part in _parts(place, dataset):
        if not part.candidates(path) and "%b" not in part.name:
            return part.name
    return None


def inner_groups(file: Any) -> dict[str, Any]:
    """Return the groups at the root of an open file that are stored in it, without any link.

    Examples
    --------
    >>> import h5py
    >>> file = h5py.File("memory", "w", driver="core", backing_store=False)
    >>> _ = file.create_group("mcmc")
    >>> file["gone"] = h5py.SoftLink("/nowhere")
    >>> list(inner_groups(file))
    ['mcmc']
    """
    import h5py

    names = [name for name in file if isinstance(file.get(name, getlink=True), h5py.HardLink)]
    return {name: file[name] for name in names if file.get(name, getclass=True) is h5py.Group}


# ---------------------------------------------------------------------- names


@dataclass(frozen=True)
class Link:
    """A name in a group: what it leads to, and how."""

    target: Key
    kind: Literal["hard", "soft", "external"]


@dataclass
class Node:
    """A group with its names, or anything else without.

    Attributes
    ----------
    links : dict of str to Link
    group : bool
    apart : bool
        Whether its values are stored outside the file: it is virtual, or external.
    """

    links: dict[str, Link] = field(default_factory=dict)
    group: bool = False
    apart: bool = False


@dataclass(frozen=True)
class Graph:
    """All objects that the names of an HDF5 file lead to, in other files too.

    Names that lead nowhere are not in it.
    """

    root: Key
    nodes: dict[Key, Node]

    def paths(self) -> Iterator[tuple[str, Key]]:
        """Yield every name with what it leads to: a group before what is in it."""
        todo = [("", self.root)]
        while todo:
            path, key = todo.pop()
            if path:
                yield path, key
            links = self.nodes[key].links.items()
            todo += [(f"{path}/{n}".lstrip("/"), link.target) for n, link in reversed(links)]

    def groups(self) -> list[str]:
        """Return the names of all groups, the root as ``"/"``."""
        return ["/", *(path for path, key in self.paths() if self.nodes[key].group)]

    def find(self, path: str) -> Key | None:
        """Return what a name leads to, None if nothing."""
        key = self.root
        for name in path.split("/"):
            link = self.nodes[key].links.get(name)
            if link is None:
                return None
            key = link.target
        return key

    def homes(self) -> dict[Key, str]:
        """Return the first name of every object that is stored in the file itself."""
        found, todo = {self.root: ""}, [("", self.root)]
        while todo:
            path, key = todo.pop()
            for name, link in reversed(self.nodes[key].links.items()):
                if link.kind == "hard" and link.target[0] == self.root[0]:
                    todo.append((f"{path}/{name}".lstrip("/"), link.target))
            found.setdefault(key, path)
            todo = [(p, k) for p, k in todo if k not in found]
        return found

    def below(self, key: Key) -> set[Key]:
        """Return an object and all that its names lead to."""
        found, todo = {key}, [key]
        while todo:
            new = {link.target for link in self.nodes[todo.pop()].links.values()} - found
            found |= new
            todo += new
        return found


def graph_of(path: Path, file: Any) -> Graph:
    """Follow all names of an open HDF5 file. It must have passed :func:`check_links`.

    Raises
    ------
    FileError
        If an object is damaged.
    """
    import h5py

    kinds = {h5py.h5l.TYPE_HARD: "hard", h5py.h5l.TYPE_SOFT: "soft"}
    root = h5py.h5g.open(file.id, b"/")
    held, nodes = [root], {_key(root): Node(group=True)}  # open files keep their numbers
    todo = [("", root)]
    while todo:
        place, group = todo.pop()
        own = nodes[_key(group)]
        for raw in sorted(group) if not _ordered(group) else _by_creation(group):
            name = os.fsdecode(raw)
            kind = kinds.get(group.links.get_info(raw).type, "external")
            at = f"{place}/{name}".lstrip("/")
            if kind != "hard" and not resolves(group, raw):
                continue
            with naming(f"{path}: {at}"):
                item = h5py.h5o.open(group, raw)
                key = _key(item)
            own.links[name] = Link(key, kind)  # type: ignore[arg-type]
            if key in nodes:
                continue
            held += [item] * (key[0] != _key(root)[0])
            nodes[key] = Node(group=isinstance(item, h5py.h5g.GroupID))
            if nodes[key].group:
                _check_depth(path, at)
                todo.append((at, item))
            elif isinstance(item, h5py.h5d.DatasetID):
                nodes[key].apart = any(True for _ in _parts(at, item)) or _is_virtual(item)
    return Graph(_key(root), nodes)


def _key(item: Any) -> Key:
    import h5py

    about = h5py.h5o.get_info(item)
    return about.fileno, about.addr


def _is_virtual(dataset: Any) -> bool:
    import h5py

    return bool(dataset.get_create_plist().get_layout() == h5py.h5d.VIRTUAL)


def _ordered(group: Any) -> bool:
    """Whether a group knows the order in which its names were made."""
    import h5py

    return bool(group.get_create_plist().get_link_creation_order() & h5py.h5p.CRT_ORDER_TRACKED)


def _by_creation(group: Any) -> list[bytes]:
    import h5py

    names: list[bytes] = []
    group.links.iterate(names.append, idx_type=h5py.h5.INDEX_CRT_ORDER)
    return names


def resolves(group: Any, name: bytes) -> bool:
    """Whether a link leads to something."""
    import h5py

    try:
        return bool(h5py.h5o.exists_by_name(group, name))
    except (KeyError, OSError, RuntimeError, ValueError):
        return False


def check_names(path: Path, graph: Graph) -> None:
    """Refuse names without an end, and more of them than can be read.

    Raises
    ------
    FileError
        If a group contains itself, or there are more than 20,000 names.
    """
    counts: dict[Key, int] = {}

    def count(key: Key, place: str, above: tuple[Key, ...]) -> int:
        if key in above:
            raise FileError(f"{path}: the group {place} leads back to one that it is in")
        _check_depth(path, place)
        if key not in counts:
            links = graph.nodes[key].links.items()
            inner = [count(li.target, f"{place}/{n}".lstrip("/"), (*above, key)) for n, li in links]
            counts[key] = 1 + sum(inner)
        return counts[key]

    if count(graph.root, "", ()) > _MOST:
        raise FileError(f"{path}: has more than {_MOST} names of groups and variables")
