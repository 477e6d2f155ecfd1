"""Signals that end the command: they become exceptions, so that nothing is left behind."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["ending_on_signals"]

_NAMES = ("SIGTERM", "SIGHUP", "SIGINT")
_AT_ONCE = 2.0  # seconds in which further signals mean the same
_AGAIN = 10.0  # seconds after which a signal comes again; what is to be removed is gone by then


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """End by SystemExit on SIGTERM and SIGHUP, by KeyboardInterrupt on SIGINT.

    A signal that comes while the first one is being obeyed, such as the SIGHUP of a session that
    ends, does not interrupt that. A signal that is ignored (``nohup``) stays ignored, and a handler
    that somebody else has set stays. At the end the handlers are as they were.
    """
    last = -_AT_ONCE

    def end(number: int, _frame: FrameType | None) -> None:
        nonlocal last
        before, last = last, time.monotonic()
        if last - before < _AT_ONCE:
            return
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    usual = (signal.SIG_DFL, signal.default_int_handler)
    before = {number: signal.getsignal(number) for number in numbers}
    ours = [number for number in numbers if before[number] in usual]
    with _sending_again(ours):
        for number in ours:
            signal.signal(number, end)
        try:
            yield
        finally:
            for number in ours:
                signal.signal(number, before[number])


@contextmanager
def _sending_again(numbers: list[int]) -> Iterator[None]:
    """Send a signal again, from a thread of its own, until it has ended the block.

    Python loses the exception of a handler that runs in a finalizer, and calls no handler while the
    main thread waits for a lock, where the signal came in the instant before the wait.
    """
    heard, said = socket.socketpair()
    said.setblocking(False)
    ended = threading.Event()

    def watch() -> None:
        while number := heard.recv(1):
            if ended.wait(_AGAIN):
                return
            if number[0] in numbers:
                os.kill(os.getpid(), number[0])

    before = signal.set_wakeup_fd(said.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        signal.set_wakeup_fd(before)
        said.close()
        thread.join()
        heard.close()
