"""Ways to damage a file: bytes, texts, JSON and the members of archives. Each says what it did."""

from __future__ import annotations

import io
import json
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Rng = np.random.Generator

_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_HEAD = 4096
_LIMITS = (0, 1, 0x7F, 0xFF, 0x7FFF_FFFF, 0xFFFF_FFFF, 2**63 - 1, 2**64 - 1, 10**12)
_TOKENS = (
    *(b"1e400", b"-1e308", b"nan", b"inf", b"-1", b"0", b"1e-320", b"", b'"', b"\x00", b"null"),
    *(b"9" * 5000, b"[" * 10_000, b'{"a":' * 10_000, b"\n", b",", "é".encode(), b"\xff\xfe"),
)


# ------------------------------------------------------------------------ bytes


def _place(rng: Rng, size: int) -> int:
    """Return a position: a third of them near the beginning, where headers are."""
    return int(rng.integers(min(size, _HEAD) if rng.random() < 0.3 else size))


def _span(rng: Rng, size: int) -> slice:
    """Return a short or a long piece."""
    start = _place(rng, size)
    longest = max(1, (size - start) // (1 if rng.random() < 0.3 else 20))
    return slice(start, start + int(rng.integers(1, longest + 1)))


def _flip(rng: Rng, data: bytes) -> tuple[bytes, str]:
    made = bytearray(data)
    bits = [(_place(rng, len(data)), int(rng.integers(8))) for _ in range(rng.integers(1, 9))]
    for place, bit in bits:
        made[place] ^= 1 << bit
    return bytes(made), f"flipped bits {bits}"


def _noise(rng: Rng, data: bytes) -> tuple[bytes, str]:
    piece = _span(rng, len(data))
    size = len(data[piece])
    return data[: piece.start] + rng.bytes(size) + data[piece.stop :], f"{size} random bytes"


def _zeros(rng: Rng, data: bytes) -> tuple[bytes, str]:
    piece = _span(rng, len(data))
    size = len(data[piece])
    return data[: piece.start] + bytes(size) + data[piece.stop :], f"{size} zeros"


def _cut(rng: Rng, data: bytes) -> tuple[bytes, str]:
    end = _place(rng, len(data))
    return data[:end], f"cut after {end} of {len(data)} bytes"


def _remove(rng: Rng, data: bytes) -> tuple[bytes, str]:
    piece = _span(rng, len(data))
    return data[: piece.start] + data[piece.stop :], f"left out bytes {piece.start}:{piece.stop}"


def _insert(rng: Rng, data: bytes) -> tuple[bytes, str]:
    start, size = _place(rng, len(data)), int(rng.integers(1, 200))
    return data[:start] + rng.bytes(size) + data[start:], f"{size} bytes more at {start}"


def _swap(rng: Rng, data: bytes) -> tuple[bytes, str]:
    size = int(rng.integers(1, max(2, len(data) // 4)))
    first, second = sorted(int(i) for i in rng.integers(0, max(1, len(data) - size), 2))
    second = max(second, first + size)
    blocks = data[first : first + size], data[second : second + size]
    between = data[first + size : second]
    made = data[:first] + blocks[1] + between + blocks[0] + data[second + size :]
    return made, f"swapped {size} bytes at {first} and {second}"


def _repeat(rng: Rng, data: bytes) -> tuple[bytes, str]:
    piece = _span(rng, len(data))
    return data[: piece.stop] + data[piece] + data[piece.stop :], f"bytes {piece} twice"


def _limit(rng: Rng, data: bytes) -> tuple[bytes, str]:
    """Write a size that no file has where a size may stand."""
    value, width = int(rng.choice(np.array(_LIMITS, dtype=object))), int(rng.choice([1, 2, 4, 8]))
    start = _place(rng, len(data)) // width * width
    order = "little" if rng.random() < 0.8 else "big"
    number = (value % 2 ** (8 * width)).to_bytes(width, order)
    return data[:start] + number + data[start + width :], f"{value} in {width} bytes at {start}"


def _token(rng: Rng, data: bytes) -> tuple[bytes, str]:
    """Replace a number in the text by one that is none, or that is too much."""
    found = list(_NUMBER.finditer(data[: _HEAD if rng.random() < 0.5 else None]))
    if not found:
        return _flip(rng, data)
    at, token = found[rng.integers(len(found))], _TOKENS[rng.integers(len(_TOKENS))]
    shown = token[:12].decode("latin1")
    return data[: at.start()] + token + data[at.end() :], f"{at[0][:20]!r} became {shown!r}"


_BYTES: dict[str, Callable[[Rng, bytes], tuple[bytes, str]]] = {
    "flip": _flip,
    "noise": _noise,
    "zeros": _zeros,
    "cut": _cut,
    "remove": _remove,
    "insert": _insert,
    "swap": _swap,
    "repeat": _repeat,
    "limit": _limit,
    "token": _token,
}


def damaged_bytes(rng: Rng, data: bytes) -> tuple[bytes, str]:
    """Return bytes with one damage, and what it is."""
    kind = str(rng.choice(sorted(_BYTES)))
    made, what = _BYTES[kind](rng, data) if data else (rng.bytes(8), "bytes in an empty file")
    return made, f"{kind}: {what}"


# ------------------------------------------------------------------------- JSON


_VALUES: tuple[Any, ...] = (
    *(None, True, 0, 1, -1, 2, 10**6, 10**30, 1e308, float("nan"), float("inf"), 0.5),
    *("", "h", "tanh", "permutation", "W1", "posterior/W1", "\x00", "a\nb", "chain", "é" * 300),
    *([], {}, [0], [[]], {"": 0}, {"name": "mean"}, ["posterior/W1", "posterior/W1"]),
)


def _places(value: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """List every entry of nested tables and lists as its holder and its key."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            found.append((value, key))
            _places(value[key], found)
    return found


def damaged_json(rng: Rng, text: str) -> tuple[str, str]:
    """Return JSON text with one entry changed, and what was done to it."""
    value = json.loads(text)
    places = _places(value, [])
    if not places:
        return "{", "an open brace"
    holder, key = places[rng.integers(len(places))]
    way = int(rng.integers(6))
    what = f"entry {key!r}"
    if way == 0:
        del holder[key]
        what += " deleted"
    elif way == 1 and isinstance(holder, dict):
        holder[f"{key}2"] = holder.pop(key)
        what += " renamed"
    elif way == 2:
        other, name = places[rng.integers(len(places))]
        holder[key] = json.loads(json.dumps(other[name] if name in _keys(other) else None))
        what += f" replaced by entry {name!r}"
    elif way == 3 and isinstance(holder[key], list):
        holder[key] = holder[key][::-1] + holder[key][:1]
        what += " turned round, one more"
    elif way == 4:
        holder[key] = "NEST"
        made = json.dumps(value).replace('"NEST"', "[" * 10_000 + "]" * 10_000)
        return made, f"{what} nested 10,000 deep"
    else:
        new = _VALUES[rng.integers(len(_VALUES))]
        holder[key] = new
        what += f" became {str(new)[:20]!r}"
    return json.dumps(value), what


def _keys(holder: Any) -> Any:
    return holder if isinstance(holder, dict) else range(len(holder))


# ------------------------------------------------------------- archives, folders


def _inside_archive(rng: Rng, path: Path) -> str:
    """Damage one member of a zip archive, whose checksums then fit the damage."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [(about, archive.read(about)) for about in archive.infolist()]
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, NotImplementedError):
        path.write_bytes(path.read_bytes()[:-1])  # an earlier damage has spoiled it
        return "the last byte left out"
    chosen, what = int(rng.integers(len(members))), "left out"
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for number, (about, data) in enumerate(members):
            if number != chosen:
                archive.writestr(about, data)
            elif rng.random() < 0.9:
                spoiled, what = damaged_bytes(rng, data)
                archive.writestr(about, spoiled)
    path.write_bytes(made.getvalue())
    return f"{what} in member {members[chosen][0].filename}"


def _in_file(rng: Rng, path: Path) -> str:
    if zipfile.is_zipfile(path) and rng.random() < 0.5:
        return _inside_archive(rng, path)
    if path.suffix == ".json" and path.stat().st_size and rng.random() < 0.5:
        text, what = damaged_json(rng, path.read_text(encoding="utf-8"))
        path.write_text(text, encoding="utf-8")
        return f"json: {what}"
    made, what = damaged_bytes(rng, path.read_bytes())
    path.write_bytes(made)
    return what


def _in_folder(rng: Rng, store: Path) -> str:
    files = sorted(path for path in store.rglob("*") if path.is_file())
    about = [path for path in files if path.name in ("zarr.json", ".zmetadata", ".zarray")]
    path = _one(rng, about if about and rng.random() < 0.5 else files)
    name = path.relative_to(store).as_posix()
    way = rng.random()
    if way < 0.1:
        path.unlink()
        return f"deleted {name}"
    if way < 0.15:
        path.unlink()
        path.mkdir()
        return f"a folder for {name}"
    if way < 0.2:
        shutil.rmtree(path.parent) if path.parent != store else path.unlink()
        return f"deleted what {name} is in"
    if way < 0.3:
        other = _one(rng, files)
        path.write_bytes(other.read_bytes())
        return f"{other.relative_to(store)} as {name}"
    return f"{_in_file(rng, path)} in {name}"


def _one(rng: Rng, items: list[Path]) -> Path:
    return items[int(rng.integers(len(items)))]


def damage(rng: Rng, paths: list[Path]) -> str:
    """Damage a file or a store in place, once or (seldom) several times; say how."""
    said = []
    for _ in range(1 if rng.random() < 0.8 else 3):
        path = _one(rng, paths)
        try:
            said.append(_in_folder(rng, path) if path.is_dir() else _in_file(rng, path))
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, RuntimeError):
            break  # too damaged to be damaged once more
    return "; ".join(said)
