"""A Zarr store to write to, whose writes end when they must: at the first error, or a signal.

zarr writes chunks in other threads, and goes on with those that are pending when one has failed or
the caller has been interrupted. So a store that fails takes no more chunks, in silence, and the
error is raised once, when nothing is written any more.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

from relabel.sources.failures import first_line

__all__ = ["writing"]

_PATIENCE = 10.0  # seconds, to end what is cancelled


class _Writes:
    """The writes of a store, from any thread."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running = 0
        self._ended = False
        self._change = threading.Condition()

    def began(self) -> bool:
        """Count a write, unless there are to be no more."""
        with self._change:
            self._running += not self._ended
            return not self._ended

    def done(self, failure: Exception | None) -> None:
        """Take a write off; the first failure ends all."""
        with self._change:
            self._running -= 1
            if failure is not None:
                self.failure = self.failure or failure
                self._ended = True
            self._change.notify_all()

    def on(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def end(self) -> None:
        """Take no more writes, and wait until none is running and no task of zarr is left."""
        with self._change:
            self._ended = True
            self._change.wait_for(lambda: not self._running, _PATIENCE)
        if self._loop is not None and self._loop.is_running():
            asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).result(_PATIENCE)


async def _cancel_all() -> None:
    """Cancel all other tasks of this loop, and take note of how they end."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class _Store(LocalStore):
    """A folder that nobody else reads yet: values are written straight to their files."""

    def __init__(
        self, root: Path | str, *, read_only: bool = False, writes: _Writes | None = None
    ) -> None:
        super().__init__(root, read_only=read_only)
        self.writes = writes or _Writes()

    def with_read_only(self, read_only: bool = False) -> Self:
        return type(self)(self.root, read_only=read_only, writes=self.writes)

    async def set(self, key: str, value: Buffer) -> None:
        self.writes.on(asyncio.get_running_loop())
        await asyncio.to_thread(self.set_sync, key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        if not (self.root / key).exists():
            await self.set(key, value)

    def set_sync(self, key: str, value: Buffer) -> None:
        self._check_writable()
        if not self.writes.began():
            return
        failure = None
        try:
            path = self.root / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(value.to_bytes())
        except Exception as error:  # noqa: BLE001
            failure = error
        finally:
            self.writes.done(failure)


@contextmanager
def writing(path: Path) -> Iterator[Any]:
    """Give a store at a path; at the end nothing is written there any more.

    Raises
    ------
    OSError
        The first error of a write, if there was one.
    ValueError
        If zarr cannot write as the metadata say: they may be damaged where it does not read.
    """
    store = _Store(path)
    try:
        yield store
    except (LookupError, AttributeError, ArithmeticError, AssertionError) as error:
        if store.writes.failure is None:
            raise ValueError(f"zarr cannot write it: {first_line(error)}") from error
    except Exception:
        if store.writes.failure is None:
            raise
    finally:
        store.writes.end()
    if store.writes.failure is not None:
        raise store.writes.failure
