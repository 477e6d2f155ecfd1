"""Draws to files of any kind, written whole or not at all."""

from __future__ import annotations

import filecmp
import os
import warnings
from collections.abc import Collection, Sequence
from importlib.util import find_spec
from pathlib import Path

from relabel._util.text import join
from relabel._util.validate import flag
from relabel.alignment.provenance import relabelled
from relabel.data.containers import DrawsLike
from relabel.errors import FileError, SpecError
from relabel.io.temporary import abandoned, private_folder, put
from relabel.sources.base import Source
from relabel.sources.failures import first_line
from relabel.sources.kinds import all_sources, source_of, writer_of
from relabel.sources.members import is_pattern, listed

__all__ = ["check_target", "save"]

PathLike = str | os.PathLike[str]

_ONE_FILE = (
    "; one file per member is not written: split one file by the prefix of its names (member_00.)"
)


def save(
    data: DrawsLike,
    target: PathLike,
    *,
    source: PathLike | Sequence[PathLike] | None = None,
    changed: Collection[str] | None = None,
    force: bool = False,
) -> None:
    """Write relabelled draws to a new file, whole or not at all.

    A netCDF or Zarr file of the same format as the source is a copy of it in which only the
    relabelled values and the group ``relabel`` differ; everything else stays the same bit for bit.
    Another format is written from scratch. The file is written in a private folder beside the
    target, and gets its name only when it is complete; the folder is removed whatever happens. Of
    two processes that write one name, the first to be done wins, and the other fails; with `force`
    the last one wins. Files
    of weights hold the posterior alone, in the form in which it came: names, dtypes, members. The
    record of the alignment, which :func:`relabel.undo` needs, is in netCDF and Zarr only.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset
        The draws of `source`, relabelled.
    target : path-like
        Its suffix determines the format: ``.nc``, ``.nc4``, ``.netcdf``, ``.cdf``, ``.h5`` and
        ``.hdf5`` a netCDF-4 file; ``.zarr`` a Zarr store; ``.pt`` or ``.pth``, ``.safetensors``,
        ``.npz``, ``.npy`` and ``.msgpack`` a file of weights, in which members have names such as
        ``member_00.0.weight`` (PyTorch: a list). Sources of other packages add their own.
    source : path-like, or sequence of path-like, optional
        The file that `data` come from. Without it, the target is written from scratch.
    changed : collection of str, optional
        Addresses ``group/name`` of the variables whose values differ from the source; by default
        those that the alignment changed.
    force : bool, default False
        Whether an existing target may be replaced. What this function would not have written
        itself is never replaced: a file whose content is not of the kind that its name says, or a
        store with other files in it. Of a link only the link itself is replaced.

    Raises
    ------
    FileError
        If the target cannot be written: it exists, the disk is full, ... Nothing is left behind.

    Warns
    -----
    UserWarning
        If a process that was killed has left a private folder beside the target.

    Examples
    --------
    >>> import tempfile, relabel
    >>> from relabel.simulate import network
    >>> simulated = network((2, 3, 1), "tanh", chains=2, draws=10)
    >>> aligned = relabel.align(simulated.data, simulated.spec)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     relabel.save(aligned, f"{folder}/aligned.nc")
    ...     again = relabel.open_draws(f"{folder}/aligned.nc").load()
    >>> again["posterior"].to_dataset().equals(aligned["posterior"].to_dataset())
    True
    """
    if not isinstance(target, (str, os.PathLike)):
        raise SpecError(f"target must be a path, not {target!r}")
    target = Path(target)
    kind = check_target(target, source, force=force)
    for note in abandoned(target.absolute().parent):
        warnings.warn(note, stacklevel=2)
    try:
        with private_folder(target) as folder:
            new = folder / target.name
            _write(kind, data, new, _files(source), changed)
            _sync(new)
            _check_place(target, kind, source, force=force)
            _rename(new, target, force=force)
    except FileError:
        raise
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise FileError(f"{target}: could not be written: {first_line(error)}") from error


def _write(
    kind: Source,
    data: DrawsLike,
    new: Path,
    sources: Sequence[Path],
    changed: Collection[str] | None,
) -> None:
    """Write a file: a copy of a single source of the same kind, or from scratch."""
    if kind.update is not None and len(sources) == 1 and source_of(sources[0]) is kind:
        addresses = relabelled(data) if changed is None else changed
        kind.update(data, new, sources[0], addresses)
    elif kind.write is not None:
        kind.write(data, new)


def check_target(
    target: PathLike, source: PathLike | Sequence[PathLike] | None, *, force: bool
) -> Source:
    """Return the kind of file that a target names; refuse it before any work is done.

    Raises
    ------
    FileError
        If the target is the source or holds it, exists already (without `force`), is something
        else than draws, has no folder, its suffix is unknown, or a package that writes it is
        missing.
    """
    flag("force", force)
    target = Path(target)
    for path in _files(source):
        _check_apart(target, path)
    kind = writer_of(target)
    if kind is not None and kind.needs is not None and find_spec(kind.needs[0]) is None:
        package, install = kind.needs
        raise FileError(
            f"{target}: to write it, install the package {package}: pip install {install}"
        )
    _check_place(target, kind, source, force=force)
    if kind is None:
        raise FileError(
            f"{target}: the name must end in {_suffixes()}, which says what to write{_ONE_FILE}"
        )
    return kind


def _check_place(
    target: Path,
    kind: Source | None,
    source: PathLike | Sequence[PathLike] | None,
    *,
    force: bool,
) -> None:
    """Raise FileError unless a file of this kind can be made at this place."""
    folder = kind is not None and kind.folder
    if target.is_dir() and not folder:
        raise FileError(f"{target}: is a folder; name a file in it, or a .zarr store{_ONE_FILE}")
    if os.path.lexists(target) and not force:
        raise FileError(f"{target}: exists already; overwrite it with --force (or force=True)")
    if target.exists() and target.is_dir() != folder:
        raise FileError(
            f"{target}: is a file; a name that ends in {target.suffix} is that of a folder"
        )
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise FileError(f"{target}: is not an ordinary file; it is not replaced")
    if kind is not None and target.exists():
        _check_replaceable(target, kind, _files(source))
    parent = target.absolute().parent
    if not parent.is_dir():
        raise FileError(f"{target}: there is no folder {parent}")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise FileError(f"{target}: the folder {parent} cannot be written to")


def _check_replaceable(target: Path, kind: Source, sources: Sequence[Path]) -> None:
    """Raise FileError unless this kind would have written what is there, or it is empty."""
    if target.is_dir():
        if not kind.detect(target, b""):
            raise FileError(
                f"{target}: is a folder, but not a {kind.name} store; it is not replaced"
            )
        foreign = [path for path in kind.foreign(target) if not _again(path, target, sources)]
        if foreign:
            raise FileError(
                f"{target}: holds files that are not {kind.name}'s ({join(foreign, most=3)}) and "
                "would be deleted; move them away, or write somewhere else"
            )
    elif target.stat().st_size and _known(target) is not kind:
        raise FileError(
            f"{target}: exists, and its content is not {kind.name}, so it is not replaced; move "
            "it away, or write somewhere else"
        )


def _again(path: Path, target: Path, sources: Sequence[Path]) -> bool:
    """Whether the only source has the same file, so that the copy has it again."""
    if len(sources) != 1 or path.is_symlink():
        return False
    other = sources[0] / path.relative_to(target)
    return other.is_file() and filecmp.cmp(path, other, shallow=False)


def _known(path: Path) -> Source | None:
    """Return the kind of a file, None if it is of no kind that can be read."""
    try:
        return source_of(path)
    except FileError:
        return None


def _suffixes() -> str:
    """List the suffixes of all kinds that can be written."""
    kinds = [source for source in all_sources() if source.write is not None]
    return ", ".join(f"{', '.join(kind.suffixes)} ({kind.name})" for kind in kinds)


def _files(source: PathLike | Sequence[PathLike] | None) -> list[Path]:
    """Return nothing, one path or several as a list; a pattern is replaced by matching files."""
    if source is None:
        return []
    fitting = [list(p.parent.glob(p.name)) if is_pattern(p) else [p] for p in listed(source)]
    return [path for found in fitting for path in found]


def _check_apart(target: Path, source: Path) -> None:
    """Raise FileError if the target is the source, is inside it or holds it."""
    if target.exists() and source.exists() and target.samefile(source):
        raise FileError(f"{target}: output and input are the same; the source is never overwritten")
    if source.is_dir() and source.resolve() in target.resolve().parents:
        raise FileError(f"{target}: lies inside the input {source}; write somewhere else")
    if target.resolve() in source.resolve().parents:
        raise FileError(f"{target}: holds the input {source}; write somewhere else")


def _sync(new: Path) -> None:
    """Have the system write everything to the disk, so that its errors come now."""
    files = [p for p in new.rglob("*") if p.is_file()] if new.is_dir() else [new]
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _rename(new: Path, target: Path, *, force: bool) -> None:
    """Give the finished file its name; an old one is replaced."""
    try:
        put(new, target, force=force)
    except FileExistsError:
        raise FileError(
            f"{target}: was written by another process in the meantime, and is not replaced; "
            "write to another name, or overwrite it with --force (or force=True)"
        ) from None
