"""Draws of Stan: the CSV files that CmdStan writes, and CmdStanPy's objects.

Names of columns are read here and not by stanio, which takes any order of columns for Stan's (rows
of a matrix become columns) and makes the real part of a complex number NaN where its imaginary part
is infinite. Files are read here and not by ArviZ's ``from_cmdstanpy``, which takes only complete
runs of the sampler, as objects of CmdStanPy. The tests compare the results with those of both.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel._util.text import natural_key
from relabel.errors import DataError, FileError
from relabel.sources.base import Source
from relabel.sources.failures import check_file, reading
from relabel.sources.members import exists
from relabel.sources.parts import lengths, posterior_of, stats_group
from relabel.sources.samples import tree_of

__all__ = ["STAN_CSV", "from_stan"]

Array = NDArray[Any]

_SOURCE = "stan"
_METHODS = ("sample", "variational", "pathfinder", "laplace")

#: Stan's columns of statistics -> names of ArviZ.
_STATS = {
    "lp__": "lp",
    "log_p__": "lp",
    "log_q__": "log_q",
    "log_g__": "log_q",
    "accept_stat__": "acceptance_rate",
    "stepsize__": "step_size",
    "treedepth__": "tree_depth",
    "n_leapfrog__": "n_steps",
    "divergent__": "diverging",
    "energy__": "energy",
}
_DIGITS = 18  # of the longest number that Stan writes as a size
_DTYPES = {"tree_depth": np.int64, "n_steps": np.int64, "diverging": np.bool_}


def from_stan(source: Any, *, truncate: bool = False) -> xr.DataTree:
    r"""Read draws of Stan, one CSV file for each chain.

    Columns are placed in arrays by the indices at the end of their names (``Sigma.2.1``), in
    whatever order they are. Parts of tuples and of complex numbers become variables of their own,
    as in ``pair.1`` and ``z.real``. Columns that end in ``__`` become ``sample_stats`` under
    ArviZ's names (``lp__`` is ``lp``); saved warm-up becomes ``warmup_posterior``. Draws of
    ``variational`` (without its first row, the mean), ``pathfinder`` and ``laplace`` are one chain;
    their ``lp`` is the log density of the model.

    Stan counts from one: subtract one from allocations drawn in generated quantities.

    Parameters
    ----------
    source : path-like, sequence of path-like, or a fit of CmdStanPy
        A file, several, or a pattern such as ``"fit_*.csv"``, whose files are read in the order of
        their numbers. Of an object of CmdStanPy the files are read again, without CmdStanPy.
    truncate : bool, default False
        Whether to shorten all chains to the shortest, where some were cut short or have different
        lengths. The attribute ``truncated`` of the posterior then gives their lengths.

    Returns
    -------
    DataTree
        ``posterior``, ``sample_stats``, and ``warmup_posterior`` and ``warmup_sample_stats`` where
        warm-up was saved.

    Raises
    ------
    FileError
        If there is no such file, it is not a CSV file of Stan, is damaged, or is cut short: its
        last line is incomplete, or it has fewer rows than its header announces.
    DataError
        If files belong to different models, hold the same draws, or their chains differ in length.

    References
    ----------
    CmdStan User's Guide, "Stan CSV File Format": https://mc-stan.org/docs/cmdstan-guide/

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in "12":
    ...     text = f"lp__,mu.1,mu.2,S.1.1,S.2.1,S.1.2,S.2.2\n-7,{name},2,11,21,12,22\n"
    ...     size = (folder / f"fit_{name}.csv").write_text(text)
    >>> draws = from_stan(folder / "fit_*.csv")
    >>> dict(draws["posterior"].sizes)["chain"]
    2
    >>> draws["posterior/S"].values[0, 0]
    array([[11., 12.],
           [21., 22.]])
    """
    return _draws_of([_read(path) for path in _paths(source)], truncate)


def _draws_of(files: Sequence[_File], truncate: bool) -> xr.DataTree:
    """Lay the chains of several files out as draws."""
    _check_same_model(files)
    if not truncate:
        for file in files:
            if file.problem:
                raise FileError(f"{file.problem}; run the chain again, or read its draws {_BY}")
    _check_different_draws(files)
    warmup = _even([file.warmup for file in files], files, "warm-up draws", truncate)
    draws = _even([file.draws for file in files], files, "draws", truncate)
    if not len(draws[0]):
        names = " and ".join(str(file.path) for file in files if not len(file.draws))
        raise DataError(f"{names}: there are no draws after the warm-up")
    columns = _Columns.read(files[0])
    groups = columns.groups(draws)
    if len(warmup[0]):
        groups |= {f"warmup_{name}": group for name, group in columns.groups(warmup).items()}
    groups["posterior"].attrs |= _attributes(files, len(draws[0]))
    return xr.DataTree.from_dict(groups)


_BY = "by truncate=True"


def _attributes(files: Sequence[_File], n_draws: int) -> dict[str, Any]:
    first = files[0].config
    attrs = {"stan_files": json.dumps([file.path.name for file in files])}
    attrs |= {f"stan_{key}": first[key] for key in ("model", "method") if key in first}
    if any(file.problem or len(file.draws) > n_draws for file in files):
        attrs["truncated"] = f"to {n_draws} draws: " + _lengths(files, [f.draws for f in files])
    return attrs


# Which files


def _paths(source: Any) -> list[Path]:
    """Return the files of a path, a pattern, a list of paths or a fit, in order."""
    runs = getattr(source, "runset", None) or getattr(source, "_runset", None)
    if runs is not None:
        source = list(runs.csv_files)
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if exists(path) or not set("*?[") & set(str(path)):
            return [path]
        found = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
        source = sorted(map(str, found), key=natural_key)
        if not source:
            raise FileError(f"{path}: no file fits this pattern")
    if not isinstance(source, (list, tuple)) or not source:
        raise FileError(
            "stan: the source must be a path, a pattern, a list of paths or a fit of CmdStanPy, "
            f"not {source if isinstance(source, (list, tuple)) else type(source).__name__}"
        )
    return [Path(path) for path in source]


def _detect(path: Path, start: bytes) -> bool:
    """Whether a file is a CSV file of draws by Stan; its comments may be long."""
    if not path.is_file() or b"\0" in start:
        return False
    with path.open("rb") as file:
        head = file.read(2**16)
    if b"\0" in head:
        return False
    lines = head.decode("utf-8", "replace").splitlines()
    first = next((line for line in lines if line and not line.startswith("#")), "")
    if first:
        return _is_head(first)
    return any(line.startswith("# stan_version_major") for line in lines)


def _is_head(line: str) -> bool:
    """Whether a line names columns as Stan does."""
    first = line.strip().split(",")[:3]
    return bool({"lp__", "log_p__", "lp_approx__"} & set(first))


# One file


@dataclass(frozen=True)
class _File:
    """The content of one file."""

    path: Path
    config: dict[str, str]
    columns: list[str]
    warmup: Array  # (row, column)
    draws: Array
    problem: str  # how it was cut short; empty if it is whole


def _read(path: Path) -> _File:
    check_file(path)
    with reading(path, "Stan CSV"), path.open(encoding="utf-8", errors="replace") as text:
        config, columns, n_lines = _read_head(text, path)
        body = _Body(path, len(columns), n_lines)
        table = _table(body, text)
        if np.isinf(table).any():
            text.seek(0)
            _check_infinities(table, columns, text, path)
    method = config.get("method", "sample")
    if method not in _METHODS:
        raise _no_draws(path, method)
    if method == "variational":
        table = table[1:]  # the first row is the mean
    n_warmup, n_draws = _expected(config, path)
    found = body.n_warmup if body.n_warmup is not None else min(n_warmup or 0, len(table))
    problem = body.cut or _missing(path, len(table), found, n_warmup, n_draws)
    return _File(path, config, columns, table[:found], table[found:], problem)


def _no_draws(path: Path, method: str) -> FileError:
    return FileError(
        f"{path}: written by Stan's method {method!r}, which leaves no draws of parameters; read "
        "the files of the sampler"
    )


def _read_head(text: TextIO, path: Path) -> tuple[dict[str, str], list[str], int]:
    """Read the settings and the names of the columns; settings are ``key = value``."""
    config: dict[str, str] = {}
    for number, line in enumerate(text, start=1):
        if not line.startswith("#"):
            if not _is_head(line):
                break
            if not line.endswith("\n"):
                raise FileError(f"{path}: cut short: it ends in line {number}, before any draw")
            columns = line.strip().split(",")
            if len(set(columns)) < len(columns):
                raise FileError(f"{path}: two of its columns have the same name")
            return config, columns, number
        key, equals, value = line.lstrip("# ").partition("=")
        if equals:
            config.setdefault(key.strip(), value.replace("(Default)", "").strip())
    method = config.get("method", "sample")
    if method not in _METHODS:
        raise _no_draws(path, method)
    if config.get("stan_version_major"):
        raise FileError(f"{path}: cut short: its header names no columns with 'lp__'")
    raise FileError(f"{path}: not a CSV file of Stan: no line names columns, with 'lp__' first")


@dataclass
class _Body:
    """The lines of draws, and the comments between them."""

    path: Path
    n_columns: int
    number: int  # of the line last read
    n_rows: int = 0
    n_warmup: int | None = None
    cut: str = field(default="")

    def rows(self, text: TextIO) -> Iterator[str]:
        """Yield complete lines; an incomplete one may only be the last."""
        n_commas = self.n_columns - 1
        for line in text:
            self.number += 1
            if line[0] == "#":
                if "Adaptation terminated" in line and self.n_warmup is None:
                    self.n_warmup = self.n_rows
            elif line == "\n":
                continue
            elif self.cut:
                raise FileError(f"{self.cut}, and other lines follow: the file is damaged")
            elif line.count(",") != n_commas or line[-1] != "\n":
                n_found = line.count(",") + 1
                self.cut = (
                    f"{self.path}: cut short: line {self.number} has {n_found} of "
                    f"{self.n_columns} values{'' if line[-1] == chr(10) else ' and no end'}, "
                    f"after {self.n_rows} complete rows"
                )
            else:
                self.n_rows += 1
                yield line


def _table(body: _Body, text: TextIO) -> Array:
    """Read all complete rows, (row, column)."""
    rows = body.rows(text)
    first = next(rows, None)
    if first is None:
        return np.empty((0, body.n_columns))
    try:
        return np.loadtxt(chain([first], rows), delimiter=",", comments=None, ndmin=2)
    except FileError:
        raise
    except ValueError as error:
        raise FileError(f"{body.path}: not all values are numbers: {error}") from error


def _check_infinities(table: Array, columns: Sequence[str], text: TextIO, path: Path) -> None:
    """Raise FileError where a finite number is beyond double precision, which reads as infinite."""
    _, _, n_lines = _read_head(text, path)
    for row, line in zip(table, _Body(path, len(columns), n_lines).rows(text), strict=True):
        if not np.isinf(row).any():
            continue
        for column, value, word in zip(columns, row, line.split(","), strict=True):
            if np.isinf(value) and "inf" not in word.lower():
                raise FileError(
                    f"{path}: {column!r} is {word.strip()[:40]} in a row, which is beyond double "
                    "precision"
                )


def _expected(config: Mapping[str, str], path: Path) -> tuple[int | None, int | None]:
    """Return how many rows of warm-up and of draws the settings announce."""
    method = config.get("method", "sample")
    if method != "sample":
        key = {"variational": "output_samples", "laplace": "draws"}.get(method, "")
        return 0, _number(config, key, path)
    thin = _number(config, "thin", path) or 1
    n_draws = _number(config, "num_samples", path)
    saved = config.get("save_warmup") in ("1", "true") and config.get("algorithm") != "fixed_param"
    n_warmup = _number(config, "num_warmup", path) if saved else 0
    return _rounded_up(n_warmup, thin), _rounded_up(n_draws, thin)


def _number(config: Mapping[str, str], key: str, path: Path) -> int | None:
    value = config.get(key, "")
    if not re.fullmatch("[0-9]+", value):
        return None
    if len(value) > _DIGITS:
        raise FileError(f"{path}: its header is damaged: {key} is a number of {len(value)} digits")
    return int(value)


def _rounded_up(number: int | None, thin: int) -> int | None:
    return None if number is None else -(-number // thin)


def _missing(path: Path, n_rows: int, found: int, n_warmup: int | None, n_draws: int | None) -> str:
    """Say how many rows are missing; nothing if none are."""
    if n_draws is None or n_warmup is None or n_rows == n_warmup + n_draws:
        return ""
    if n_rows > n_warmup + n_draws:
        raise FileError(
            f"{path}: has {n_rows} rows, but its header says {n_warmup + n_draws}; were two runs "
            "written to it?"
        )
    warmup = f"{found} of {n_warmup} warm-up draws and " if n_warmup else ""
    return f"{path}: cut short: it has {warmup}{n_rows - found} of {n_draws} draws"


# Several files


def _check_same_model(files: Sequence[_File]) -> None:
    first = files[0]
    for file in files[1:]:
        for key in ("model", "method"):
            one, other = (f.config.get(key, "") for f in (first, file))
            if one != other:
                raise DataError(
                    f"{first.path} has the {key} {one!r}, {file.path} has {other!r}; align them "
                    "separately"
                )
        if file.columns != first.columns:
            one_has, other_has = set(first.columns), set(file.columns)
            only = [c for c in first.columns if c not in other_has]
            other_only = [c for c in file.columns if c not in one_has]
            where, columns = (first, only) if only else (file, other_only)
            difference = f"only {where.path} has {columns[0]!r}" if columns else "in another order"
            raise DataError(f"{first.path} and {file.path} have different columns: {difference}")
    if len(files) > 1 and first.config.get("method", "sample") != "sample":
        raise DataError(
            f"{first.path}: several files of approximate draws ({first.config['method']}) are not "
            "chains; align them one by one"
        )


def _check_different_draws(files: Sequence[_File]) -> None:
    """Raise DataError if a chain is given twice; its id may be that of all chains of a process."""
    for one, other in combinations(files, 2):
        n = min(len(one.draws), len(other.draws))
        if n and _equal(one.draws[:1], other.draws[:1]) and _equal(one.draws[:n], other.draws[:n]):
            raise DataError(
                f"{one.path} and {other.path} hold the same draws: one chain twice, or two chains "
                "with the same seed and id"
            )


def _equal(one: Array, other: Array) -> bool:
    return np.array_equal(one, other, equal_nan=True)


def _even(
    tables: Sequence[Array], files: Sequence[_File], rows: str, truncate: bool
) -> list[Array]:
    """Return tables of the same number of rows."""
    numbers = {len(table) for table in tables}
    if len(numbers) > 1 and not truncate:
        raise DataError(
            f"the chains differ in length: of {rows}, {_lengths(files, tables)}; shorten all to "
            f"the shortest {_BY}"
        )
    return [table[: min(numbers)] for table in tables]


def _lengths(files: Sequence[_File], tables: Sequence[Array]) -> str:
    return lengths([str(file.path) for file in files], [len(table) for table in tables])


# Columns to variables


@dataclass(frozen=True)
class _Columns:
    """The columns of every variable and statistic."""

    stats: dict[str, int]
    variables: dict[str, tuple[Array, tuple[int, ...]]]  # columns in C order, shape

    @classmethod
    def read(cls, file: _File) -> _Columns:
        """Group the columns of a file by their names."""
        stats: dict[str, int] = {}
        places: dict[str, list[tuple[tuple[int, ...], int]]] = {}
        for column, name in enumerate(file.columns):
            if name.endswith("__"):
                if name != "lp__" or "log_p__" not in file.columns:  # lp__ is zero there
                    stats[_STATS.get(name, name.removesuffix("__"))] = column
                continue
            variable, index = _name_and_index(name)
            places.setdefault(variable, []).append((index, column))
        if not places:
            raise DataError(f"{file.path}: there are no parameters, only statistics")
        return cls(stats, {name: _in_order(name, p, file.path) for name, p in places.items()})

    def groups(self, tables: Sequence[Array]) -> dict[str, xr.Dataset]:
        """Return posterior and statistics of one table for each chain."""
        samples = {
            name: np.stack([table[:, order] for table in tables]).reshape(len(tables), -1, *shape)
            for name, (order, shape) in self.variables.items()
        }
        stats: dict[str, Array] = {
            name: np.stack([table[:, column] for table in tables]).astype(_DTYPES.get(name, float))
            for name, column in self.stats.items()
        }
        tree = tree_of(samples, source=_SOURCE, sample_dims="chain draw")
        return {"posterior": posterior_of(tree), "sample_stats": stats_group(stats)}


def _name_and_index(column: str) -> tuple[str, tuple[int, ...]]:
    """Split a column's name: ``x.2:1.3`` is entry (2, 3) of part 1 of the tuples ``x``.

    Examples
    --------
    >>> _name_and_index("Sigma.2.1"), _name_and_index("x.2:1.3"), _name_and_index("z.4.imag")
    (('Sigma', (2, 1)), ('x.1', (2, 3)), ('z.imag', (4,)))
    """
    name, *rest = re.split(r"([.:])", column)
    index = []
    for mark, part in zip(rest[::2], rest[1::2], strict=True):
        if mark == "." and re.fullmatch("[0-9]+", part):
            index.append(int(part[: _DIGITS + 1]))  # what is longer fits no array anyway
        else:
            name += f".{part}"
    return name, tuple(index)


def _in_order(
    name: str, places: Sequence[tuple[tuple[int, ...], int]], path: Path
) -> tuple[Array, tuple[int, ...]]:
    """Return the columns of a variable in C order, and its shape."""
    columns = np.array([column for _, column in places])
    if len({len(index) for index, _ in places}) > 1:
        raise FileError(f"{path}: the columns of {name!r} have different numbers of indices")
    shape = tuple(map(max, zip(*(index for index, _ in places), strict=True)))
    smallest = min((min(index, default=1) for index, _ in places), default=1)
    if math.prod(shape) != len(places) or smallest < 1:
        raise FileError(
            f"{path}: {name!r} has {len(places)} columns, whose indices do not fill an array of "
            f"the shape {shape}"
        )
    if not shape:
        return columns, shape
    indices = np.array([index for index, _ in places])  # distinct, as columns are
    flat = np.ravel_multi_index(tuple((indices - 1).T), shape)
    return columns[np.argsort(flat)], shape


def _read_kind(paths: Sequence[Path], *, truncate: bool = False) -> xr.DataTree:
    return _draws_of([_read(path) for path in paths], truncate)


STAN_CSV = Source("Stan CSV", _detect, _read_kind, options=("truncate",))
