"""Progress of long steps: told to a callable, shown as a bar, or kept quiet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from relabel.errors import SpecError

__all__ = ["Report", "reporting"]

#: Told the name of a stage, the steps done and the number of steps.
Report = Callable[[str, int, int], None]


def _quiet(stage: str, done: int, total: int) -> None:
    """Tell nobody."""


@contextmanager
def reporting(progress: bool | Report) -> Iterator[Report]:
    """Yield a callable to report to.

    Parameters
    ----------
    progress : bool or callable
        True shows a bar on standard error; a callable is handed on.

    Raises
    ------
    SpecError
        If it is neither.
    """
    if callable(progress):
        yield progress
        return
    if not isinstance(progress, bool):
        raise SpecError(f"progress must be a bool or a callable, not {progress!r}")
    if not progress:
        yield _quiet
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=None)

        def show(stage: str, done: int, total: int) -> None:
            bars.update(task, description=stage, completed=done, total=total)

        yield show
