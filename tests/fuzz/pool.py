"""Attacks in worker processes, so that hangs and ends of a process are seen."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from multiprocessing.connection import Connection, wait
from pathlib import Path

from attack import Outcome, capture
from subjects import subjects

Attack = Callable[[int, int, Path, Path], Outcome]

_MEMORY = 8 * 2**30


def prepare(folder: Path) -> Path:
    """Write all files that will be damaged, each in a folder of its name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of zarr, on its own metadata
        for subject in filter(lambda one: one.installed, subjects().values()):
            place = folder / subject.name.replace("/", "_")
            place.mkdir()
            subject.made(place)
    return folder


def serve(line: Connection, attack: Attack, seed: int, originals: Path, home: Path) -> None:
    """Answer numbers of cases by outcomes, each in a folder that is new."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    capture(home)
    line.send(None)  # everything is imported
    while (case := line.recv()) is not None:
        folder = home / "case"
        folder.mkdir()
        line.send(attack(seed, case, originals, folder))
        shutil.rmtree(folder)


class _Worker:
    """A process that tries one case at a time."""

    def __init__(self, attack: Attack, seed: int, originals: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self.home = Path(tempfile.mkdtemp(prefix="fuzz-"))
        self.line, other = context.Pipe()
        arguments = (other, attack, seed, originals, self.home)
        self.process = context.Process(target=serve, args=arguments, daemon=True)
        self.process.start()
        other.close()
        self.line.recv()
        self.case = -1
        self.since = time.monotonic()

    def give(self, case: int) -> None:
        self.case, self.since = case, time.monotonic()
        self.line.send(case)

    def answer(self, timeout: float) -> tuple[Outcome | None, bool]:
        """Return what became of the case, None as long as it runs; and if the process lives."""
        if self.line.poll():
            try:
                return self.line.recv(), True
            except EOFError:
                self.process.join()
                outcome = Outcome(self.case, ended="died")
                outcome.blame("signal", f"exit {self.process.exitcode}", self._last_words())
                return outcome, False
        if time.monotonic() - self.since > timeout:
            self.process.kill()
            self.process.join()
            outcome = Outcome(self.case, ended="hung")
            outcome.blame("hang", f"> {timeout:g} s", self._last_words())
            return outcome, False
        return None, True

    def _last_words(self) -> str:
        said = self.home / "stderr"
        return said.read_text(errors="replace")[-300:] if said.exists() else ""

    def end(self) -> None:
        """End the process: it is asked first."""
        with suppress(OSError):
            self.line.send(None)
        self.process.join(2)
        self.process.kill()
        self.process.join()
        self.line.close()
        shutil.rmtree(self.home, ignore_errors=True)


def outcomes(
    attack: Attack,
    cases: Iterable[int],
    originals: Path,
    *,
    seed: int = 0,
    processes: int = 2,
    timeout: float = 30.0,
) -> Iterator[tuple[Outcome, float]]:
    """Yield what became of every case, and its seconds, in the order in which they end."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    waiting, busy = iter(cases), set[_Worker]()
    try:
        for case in islice(waiting, processes):
            worker = _Worker(attack, seed, originals)
            worker.give(case)
            busy.add(worker)
        while busy:
            wait([worker.line for worker in busy], timeout=0.5)
            for worker in list(busy):
                outcome, alive = worker.answer(timeout)
                if outcome is None:
                    continue
                yield outcome, time.monotonic() - worker.since
                busy.remove(worker)
                case = next(waiting, None)
                if not alive or case is None:
                    worker.end()
                if case is not None:
                    heir = worker if alive else _Worker(attack, seed, originals)
                    heir.give(case)
                    busy.add(heir)
    finally:
        for worker in busy:
            worker.end()
