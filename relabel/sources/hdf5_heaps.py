"""Global heaps of HDF5 files, where texts are kept, looked at before HDF5 reads them.

HDF5 walks through a heap from object to object by the sizes they tell. Where a size takes it no
step forward it walks for ever, and cannot be interrupted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from relabel.errors import FileError

__all__ = ["Span", "check_heaps", "stored_spans"]

#: Where bytes lie in a file: the first one, and one beyond the last.
Span = tuple[int, int]

_SIGNATURE = b"GCOL"
_VERSION = b"\x01\x00\x00\x00"
_BLOCK = 2**22  # bytes read at a time
_LEAST = 2**16  # bytes: what is smaller is searched sooner than left out


def stored_spans(dataset: Any) -> Iterator[Span]:
    """Yield where the values of a dataset lie in its file, if there are many of them.

    Parameters
    ----------
    dataset : h5py.h5d.DatasetID
    """
    import h5py

    spans: list[Span] = []
    with suppress(OSError, RuntimeError, ValueError):  # damaged: nothing is left out
        if dataset.get_create_plist().get_layout() == h5py.h5d.CHUNKED:
            dataset.chunk_iter(
                lambda chunk: spans.append((chunk.byte_offset, chunk.byte_offset + chunk.size))
            )
        elif (start := dataset.get_offset()) is not None:
            spans.append((start, start + dataset.get_storage_size()))
    yield from (span for span in spans if span[1] - span[0] >= _LEAST)


def check_heaps(path: Path, file: Any, values: Iterable[Span]) -> None:
    """Refuse an HDF5 file with a heap in which HDF5 would walk for ever.

    Parameters
    ----------
    path : Path
    file : h5py.File
    values : iterable of (int, int)
        Where values lie: no heaps are looked for there, so that not all of the file is read.

    Raises
    ------
    FileError
        If there is one.
    """
    made = file.id.get_create_plist()
    known = () if made.get_userblock() else values  # some versions count from its end
    with path.open("rb") as stored:
        for place in _found(stored, _between(known, stored.seek(0, 2))):
            if _endless(stored, place, made.get_sizes()[1]):
                raise FileError(
                    f"{path}: the file is damaged: its texts (the heap at byte {place}) cannot be "
                    "read; save the draws again"
                )


def _between(values: Iterable[Span], size: int) -> Iterator[Span]:
    """Yield what lies between the spans, up to the end of the file."""
    last = 0
    for start, stop in sorted(values):
        if last < start:
            yield last, min(start, size)
        last = max(last, stop)
    if last < size:
        yield last, size


def _found(stored: BinaryIO, spans: Iterable[Span]) -> Iterator[int]:
    """Yield all places of the signature of a heap."""
    for start, stop in spans:
        for at in range(start, stop, _BLOCK):
            stored.seek(at)
            block = stored.read(min(_BLOCK, stop - at) + len(_SIGNATURE) - 1)
            hit = block.find(_SIGNATURE)
            while hit >= 0:
                yield at + hit
                hit = block.find(_SIGNATURE, hit + 1)


def _endless(stored: BinaryIO, place: int, length: int) -> bool:
    """Whether what begins at a place is a heap without an end; texts may look like one.

    Parameters
    ----------
    length : int
        Bytes of a size in this file.
    """
    stored.seek(place)
    head = stored.read(8 + length)
    if head[4:8] != _VERSION:
        return False
    at, end = place + len(head), place + int.from_bytes(head[8:], "little")
    while at + 8 + length <= end:
        stored.seek(at)
        entry = stored.read(8 + length)
        if len(entry) < 8 + length:  # the file ends: HDF5 says so
            return False
        stated = int.from_bytes(entry[8:], "little")
        number = int.from_bytes(entry[:2], "little")
        step = 8 + length + -(-stated // 8) * 8 if number else stated
        step %= 2**64  # as HDF5 adds: a size beyond that leads backwards
        if step == 0 or step >= 2**63:
            return True
        at += step
    return False
