"""The folder of a Zarr store: which files are in it, and which of them are Zarr's."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relabel.errors import FileError

__all__ = ["METADATA", "foreign_files", "leads_outside", "stored_files"]

#: Files of metadata of both versions of the format.
METADATA = frozenset({"zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata"})

Chain = tuple[Path, "Chain"] | None


def stored_files(store: Path, *, follow_links: bool = True) -> Iterator[Path]:
    """Yield all files of a store, those behind links too.

    Parameters
    ----------
    store : Path
    follow_links : bool, default True
        Whether links may lead out of the folder that holds the store.

    Raises
    ------
    FileError
        If there is a link to nothing, in a circle or, without `follow_links`, out of the folder
        that holds the store; a pipe, a device or a socket; or a folder that cannot be read.
    """
    todo: list[tuple[Path, Chain]] = [(store, None)]
    while todo:
        folder, above = todo.pop()
        chain: Chain = (folder.resolve(), above)
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise FileError(f"{folder}: cannot be read: {error.strerror}") from error
        for entry in found:
            path = Path(entry.path)
            if entry.is_symlink():
                _check_link(path, store, chain, follow_links)
            if entry.is_dir():
                todo.append((path, chain))
            elif entry.is_file():
                yield path
            else:
                raise FileError(f"{store}: {path.relative_to(store)} is not an ordinary file")


def _check_link(link: Path, store: Path, above: Chain, follow_links: bool) -> None:
    """Raise FileError if a link is not to be followed."""
    place = f"{store}: {link.relative_to(store)} is a link"
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a circle, before Python 3.13
        raise FileError(f"{place} to nothing") from error
    if not follow_links and _outside(target, store):
        raise FileError(
            f"{place} to {target}, out of the folder that holds the store; if you trust it, pass "
            "--follow-links (or follow_links=True)"
        )
    while above is not None:
        folder, above = above
        if target == folder:
            raise FileError(f"{place} to a folder that it is in itself")


def _outside(target: Path, store: Path) -> bool:
    return store.resolve().parent not in target.parents


def leads_outside(store: Path) -> bool:
    """Whether a link in a store leads out of the folder that holds the store.

    Parameters
    ----------
    store : Path
    """
    return any(
        _outside(path.resolve(), store)
        for folder, folders, files in os.walk(store)
        for path in (Path(folder, name) for name in (*folders, *files))
        if path.is_symlink()
    )


@dataclass(frozen=True)
class _Chunks:
    """How the chunks of one array are named.

    Attributes
    ----------
    folder : Path
    prefix : str
        ``"c"`` where names begin with it.
    separator : str
    counts : tuple of int
        Chunks along every axis.
    """

    folder: Path
    prefix: str
    separator: str
    counts: tuple[int, ...]

    def hold(self, path: Path) -> bool:
        """Whether a file is one of the chunks."""
        words = path.relative_to(self.folder).as_posix().split(self.separator)
        if self.prefix and words.pop(0) != self.prefix:
            return False
        counts = self.counts or (() if self.prefix else (1,))
        return len(words) == len(counts) and all(
            word.isdecimal() and str(int(word)) == word and int(word) < count
            for word, count in zip(words, counts, strict=True)
        )


def foreign_files(store: Path) -> list[Path]:
    """Return what is in a store and not accounted for by its metadata; links too.

    Parameters
    ----------
    store : Path

    Returns
    -------
    list of Path
        Files that are neither metadata nor a chunk of an array, and links.
    """
    found = []
    todo: list[tuple[Path, _Chunks | None]] = [(store, None)]
    while todo:
        folder, chunks = todo.pop()
        chunks = chunks or _chunks_of(folder)
        for path in sorted(folder.iterdir()):
            if path.is_symlink():
                found.append(path)
            elif path.is_dir():
                todo.append((path, chunks))
            elif not _is_zarr(path, chunks):
                found.append(path)
    return found


def _is_zarr(path: Path, chunks: _Chunks | None) -> bool:
    if not path.is_file():
        return False
    if path.name in METADATA and (chunks is None or path.parent == chunks.folder):
        return isinstance(_json(path), dict)
    return chunks is not None and chunks.hold(path)


def _json(path: Path) -> Any:
    """Return the content of a file of metadata, None if it has none."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def _chunks_of(folder: Path) -> _Chunks | None:
    """Return the names of chunks in a folder, None if it is not that of an array."""
    try:
        if (folder / ".zarray").is_file():
            about = _json(folder / ".zarray")
            separator = about.get("dimension_separator") or "."
            return _Chunks(folder, "", separator, _counts(about["shape"], about["chunks"]))
        about = _json(folder / "zarr.json")
        if about is None or about["node_type"] != "array":
            return None
        encoding = about["chunk_key_encoding"]
        plain = encoding["name"] == "default"
        separator = encoding.get("configuration", {}).get("separator", "/" if plain else ".")
        counts = _counts(about["shape"], about["chunk_grid"]["configuration"]["chunk_shape"])
        return _Chunks(folder, "c" if plain else "", separator, counts)
    except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def _counts(shape: list[int], chunks: list[int]) -> tuple[int, ...]:
    return tuple(math.ceil(size / step) for size, step in zip(shape, chunks, strict=True))
