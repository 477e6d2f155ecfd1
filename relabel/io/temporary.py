"""A private folder beside a target, in which the target is written until it is complete.

The folder has a random name, is made exclusively, and nobody else may write in it, so that no link
that somebody planted is ever followed. A lock is held on a file in it while its process lives: a
folder whose lock is free was left by a process that was killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["abandoned", "private_folder", "put"]

_PART = re.compile(r"\..+\.[0-9a-f]{16}\.part")
_LOCK, _NEW = "lock", "lock.new"
_REPLACED = "replaced"
_YOUNG = 2.0  # seconds in which the process surely gets its lock
_AGE = 86400  # seconds; where locks are not to be had, a folder of this age was left behind
_ATTEMPTS = 5
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of Linux


@contextmanager
def private_folder(target: Path) -> Iterator[Path]:
    """Make a folder beside a target, and remove it with all that is still in it at the end.

    Parameters
    ----------
    target : Path
        The folder is called ``.{name of the target}.{16 random hex digits}.part``.

    Yields
    ------
    Path
    """
    part = _made(target)
    lock = None
    try:
        lock = _locked(part)
        yield part
    finally:
        try:
            _remove(part)
        except BaseException:  # a second signal
            _remove(part)
            raise
        finally:
            if lock is not None:
                os.close(lock)


def _made(target: Path) -> Path:
    """Make the folder under a name that nothing has."""
    while True:
        part = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
        try:
            part.mkdir(mode=0o700)
        except FileExistsError:
            continue
        except BaseException:
            _remove(part)
            raise
        return part


def _locked(part: Path) -> int:
    """Lock a file in a folder; it gets its name when it is locked."""
    new = part / _NEW
    lock = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    if fcntl is not None:
        with contextlib.suppress(OSError):  # some file systems have no locks
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            new.rename(part / _LOCK)
    return lock


def abandoned(folder: Path) -> list[str]:
    """Say which private folders in a folder were left by processes that were killed.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    list of str
        One sentence for each, by name.
    """
    try:
        with os.scandir(folder) as entries:
            parts = [
                folder / entry.name
                for entry in entries
                if _PART.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
            ]
        return [_told(part) for part in sorted(parts) if _is_abandoned(part)]
    except OSError:
        return []


def _told(part: Path) -> str:
    if os.path.lexists(part / _REPLACED):
        name = part.name[1:].rpartition(".part")[0].rpartition(".")[0]
        return (
            f"{part} was left by a run that was killed as it replaced {name}; its former content "
            f"is in {part / _REPLACED}"
        )
    return f"{part} was left by a run that was killed; delete it"


def _is_abandoned(part: Path) -> bool:
    """Whether the process that made a private folder is dead."""
    age = time.time() - part.lstat().st_mtime
    free = _is_free(part / _LOCK)
    if free is not None:
        return free
    if age < _YOUNG:
        return False
    return _is_free(part / _NEW) is not False or age > _AGE


def _is_free(path: Path) -> bool | None:
    """Whether nobody holds a lock; None if there is none, False if that cannot be told."""
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        lock = os.open(path, flags)
    except FileNotFoundError:
        return None
    except OSError:
        return False
    try:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # it is held
        return False
    finally:
        os.close(lock)
    return fcntl is not None


def put(new: Path, target: Path, *, force: bool) -> None:
    """Give a finished file or folder its name, in one step.

    Parameters
    ----------
    new : Path
        What was written in the private folder.
    target : Path
    force : bool
        Whether something of this name may be replaced. A link is replaced, not what it names.

    Raises
    ------
    OSError
        If that fails; FileExistsError if there is something of this name and it may not be
        replaced.
    """
    if not new.is_dir():
        if force:
            new.replace(target)
        else:
            _link(new, target)
    elif force and os.path.lexists(target):
        _exchange(new, target)
    else:
        _rename_folder(new, target)


def _link(new: Path, target: Path) -> None:
    """Give a file its name, unless something has it."""
    try:
        os.link(new, target)
    except FileExistsError:
        raise
    except OSError:  # some file systems have no hard links
        if os.path.lexists(target):
            raise FileExistsError(f"{target} exists") from None
        new.rename(target)


def _rename_folder(new: Path, target: Path) -> None:
    """Give a folder its name, unless something has it: then the system refuses."""
    try:
        new.rename(target)
    except OSError as error:
        if os.path.lexists(target):
            raise FileExistsError(f"{target} exists") from error
        raise


def _exchange(new: Path, target: Path) -> None:
    """Let a folder and an old one change their names; where the system cannot, one by one."""
    if _exchanged(new, target):
        return
    aside = new.with_name(_REPLACED)
    target.rename(aside)
    try:
        _rename_folder(new, target)
    except BaseException:
        aside.rename(target)
        raise


def _exchanged(one: Path, other: Path) -> bool:
    """Whether the system could exchange two names in one step."""
    if sys.platform != "linux":
        return False
    try:
        rename = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):  # a C library without it
        return False
    return bool(rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


def _remove(part: Path) -> None:
    """Remove a folder; what holds out is tried again."""
    for _ in range(_ATTEMPTS):
        shutil.rmtree(part, ignore_errors=True)
        if not part.is_dir():
            return
        time.sleep(0.05)
