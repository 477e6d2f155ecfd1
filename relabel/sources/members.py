"""Draws that are stored one by one: lists of members, their names, their order."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel._util.text import natural_key
from relabel.data.containers import DrawsLike, unpack
from relabel.errors import DataError, FileError, SpecError
from relabel.sources.failures import check_file, reading
from relabel.sources.samples import as_array, notes_of, samples_of, stacked, tree_of
from relabel.spec.spec import SAMPLE_DIMS

__all__ = [
    "MEMBERS",
    "NAMED",
    "STACKED",
    "as_paths",
    "check_distinct",
    "common_metadata",
    "exists",
    "from_members",
    "is_pattern",
    "listed",
    "member_names",
    "members_of",
    "noted",
    "prefixed",
    "single",
    "split_members",
]

Array = NDArray[Any]
Member = Mapping[str, Any]

#: The forms of draws in their source: a list with one mapping for each draw, such a list with a
#: name for each mapping, and arrays in which all draws are stacked.
MEMBERS, NAMED, STACKED = "members", "named members", "stacked"

_PREFIX = re.compile(r"(?P<word>[^./]*?)(?P<number>\d+)(?P<separator>[./])(?P<rest>.+)")
_MEMBER = {"member", "model", "net", "network", "draw", "sample", "seed", "run", "particle"}
_LAYER = re.compile(
    r".*(layers?|linear|lin|fc|dense|conv\w*|blocks?|stage|hidden|cell|rnn|lstm|gru|attn|attention"
    r"|mlp|ffn?|norm|bn|ln|encoder|decoder|expert|heads?|embed\w*)|h|w|b|mu|l"
)


def check_distinct(paths: Sequence[Path]) -> None:
    """Raise FileError unless every file is listed once."""
    seen: dict[Path, Path] = {}
    for path in paths:
        other = seen.setdefault(path.resolve(), path)
        if other is not path:
            raise FileError(f"{path}: given twice; each file is one member, once")


def from_members(
    members: Sequence[Member] | Sequence[Sequence[Member]],
    *,
    source: str,
    names: Sequence[str] | None = None,
    form: str = MEMBERS,
    attrs: Mapping[str, Mapping[str, Any]] | None = None,
) -> xr.DataTree:
    """Lay members out as draws.

    Parameters
    ----------
    members : sequence of mappings, or of sequences of mappings
        One mapping from name to array for each draw; a nested sequence holds one sequence for each
        chain.
    source : str
        For messages.
    names : sequence of str, optional
        Names of the members, all chains one after the other; kept as the coordinate ``member``.
    form : str, default "members"
        ``"named members"`` if they are written back as a mapping from name to member.
    attrs : mapping, optional
        As in :func:`relabel.sources.samples.tree_of`.

    Returns
    -------
    DataTree

    Raises
    ------
    DataError
        If members differ in names, shapes or dtypes, or chains in length.

    Examples
    --------
    >>> import numpy as np
    >>> tree = from_members([{"w": np.zeros(3)}, {"w": np.ones(3)}], source="an example")
    >>> dict(tree["posterior"].sizes)
    {'chain': 1, 'draw': 2, 'w_dim_0': 3}
    """
    nested = bool(members) and not isinstance(members[0], Mapping)
    chains: Any = members if nested else [members]
    lengths = {len(chain) for chain in chains}
    if len(lengths) > 1:
        shown = ", ".join(str(len(chain)) for chain in chains)
        raise DataError(
            f"{source}: the chains have {shown} draws; chains must have one length: shorten them, "
            "as in [chain[:n] for chain in chains]"
        )
    columns = stacked([member for chain in chains for member in chain], source)
    if nested:
        sizes = (len(chains), lengths.pop())
        columns = {name: array.reshape(*sizes, *array.shape[1:]) for name, array in columns.items()}
    sample_dims = "chain draw" if nested else "draw"
    tree = tree_of(columns, source=source, sample_dims=sample_dims, attrs=attrs)
    tree = noted(tree, form=form)
    return _named(tree, names, source) if names is not None else tree


def _named(tree: xr.DataTree, names: Sequence[str], source: str) -> xr.DataTree:
    posterior = tree["posterior"].to_dataset()
    if "member" in posterior.variables or "member" in posterior.dims:
        return tree
    sizes = [posterior.sizes[dim] for dim in SAMPLE_DIMS]
    if len(names) != np.prod(sizes):
        raise DataError(
            f"{source}: {len(names)} names ({', '.join(map(repr, list(names)[:3]))}) for "
            f"{sizes[0]} × {sizes[1]} members (chain × draw); give one name for each member"
        )
    labels = np.array(list(names)).reshape(sizes)
    tree["posterior"].dataset = posterior.assign_coords(member=(SAMPLE_DIMS, labels))
    return tree


def noted(tree: xr.DataTree, **notes: str | None) -> xr.DataTree:
    """Return the tree with attributes of its posterior set; those that are None are left out."""
    posterior = tree["posterior"].to_dataset()
    kept = {key: value for key, value in notes.items() if value is not None}
    tree["posterior"].dataset = posterior.assign_attrs(kept)
    return tree


def members_of(data: DrawsLike) -> list[dict[str, Array]]:
    """Return one dictionary for each draw, chains one after the other.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset

    Returns
    -------
    list of dict
        Names of the source -> arrays, which share the memory of `data`.

    Examples
    --------
    >>> import numpy as np
    >>> tree = from_members([{"w": np.zeros(3)}, {"w": np.ones(3)}], source="an example")
    >>> members_of(tree)[1]
    {'w': array([1., 1., 1.])}
    """
    samples = samples_of(data)
    if not samples:
        return []
    chains, draws = next(iter(samples.values())).shape[:2]
    return [
        {name: array[chain, draw, ...] for name, array in samples.items()}
        for chain in range(chains)
        for draw in range(draws)
    ]


def member_names(data: DrawsLike, number: int) -> list[str]:
    """Return the names of the members, ``member_00`` and so on where they have none."""
    if notes_of(data).get("form") == NAMED:
        labels = unpack(data)["posterior"].coords.get("member")
        if labels is not None:
            return [str(name) for name in labels.transpose(*SAMPLE_DIMS).values.ravel()]
    width = max(2, len(str(number - 1)))
    return [f"member_{index:0{width}d}" for index in range(number)]


def prefixed(data: DrawsLike, separator: str) -> dict[str, Array]:
    """Return the arrays of all members; their names begin with that of the member."""
    members = members_of(data)
    separator = str(notes_of(data).get("separator", separator))
    names = member_names(data, len(members))
    return {
        f"{prefix}{separator}{name}": array
        for prefix, member in zip(names, members, strict=True)
        for name, array in member.items()
    }


def split_members(
    arrays: Mapping[str, Any], source: str
) -> tuple[list[str], list[dict[str, Any]], str] | None:
    """Split one flat mapping into members, by names such as ``member_00.0.weight``.

    Parameters
    ----------
    arrays : mapping of str to array
        Objects with a shape and a dtype.
    source : str
        For messages.

    Returns
    -------
    names : list of str
        In natural order.
    members : list of dict
    separator : str
        ``"."`` or ``"/"``.

        None instead if the names do not begin with one word and a number, or if the rest of the
        names differs between numbers: ``fc1.weight`` and ``fc2.weight`` are two layers.

    Raises
    ------
    DataError
        If two members have the same number.

    Examples
    --------
    >>> import numpy as np
    >>> flat = {"net10.w": np.zeros(2), "net9.w": np.ones(2)}
    >>> split_members(flat, "an example")
    (['net9', 'net10'], [{'w': array([1., 1.])}, {'w': array([0., 0.])}], '.')
    """
    found = [_PREFIX.fullmatch(name) for name in arrays]
    matches = [match for match in found if match is not None]
    if not matches or len(matches) < len(found):
        return None
    kinds = {(match["word"], match["separator"]) for match in matches}
    if len(kinds) > 1:
        return None
    members: dict[str, dict[str, Any]] = {}
    for match, value in zip(matches, arrays.values(), strict=True):
        members.setdefault(match["word"] + match["number"], {})[match["rest"]] = value
    (word, separator) = kinds.pop()
    if not _are_members(word, separator, list(members.values())):
        return None
    _check_numbers(members, source)
    names = sorted(members, key=natural_key)
    return names, [members[name] for name in names], separator


def _are_members(word: str, separator: str, members: Sequence[Mapping[str, Any]]) -> bool:
    """Whether names that begin with this word and a number are those of members."""
    plain = re.split(r"[_\- ]", word.strip("_- ").lower())[-1]
    if plain in _MEMBER:
        return True
    if _LAYER.fullmatch(plain) or (not plain and separator == "."):
        return False
    layouts = [{name: _layout(value) for name, value in member.items()} for member in members]
    return len(members) > 1 and all(layout == layouts[0] for layout in layouts)


def _layout(value: Any) -> tuple[tuple[int, ...], str]:
    return tuple(np.shape(value)), str(getattr(value, "dtype", ""))


def _check_numbers(names: Iterable[str], source: str) -> None:
    seen: dict[tuple[tuple[int, int | str], ...], str] = {}
    for name in names:
        other = seen.setdefault(tuple(natural_key(name)), name)
        if other != name:
            raise DataError(f"{source}: {other!r} and {name!r} are the same member twice")


def common_metadata(found: Sequence[Mapping[str, str]]) -> str | None:
    """Return the metadata on which all files agree, as JSON."""
    first, *others = found
    same = {k: v for k, v in first.items() if all(other.get(k) == v for other in others)}
    return json.dumps(same, ensure_ascii=False) if same else None


def is_pattern(path: Path) -> bool:
    """Whether a path is not a file but a pattern that names of files may match."""
    return not exists(path) and bool(set("*?[") & set(path.name))


def exists(path: Path) -> bool:
    """Whether there is anything by this name; there is not if no file can have it."""
    try:
        return os.path.lexists(path)
    except (OSError, ValueError):
        return False


def listed(given: Any) -> list[Path]:
    """Return one path or several as a list of paths.

    Examples
    --------
    >>> [path.name for path in listed("run/fit.csv")]
    ['fit.csv']
    """
    several = [given] if isinstance(given, str | os.PathLike) else given
    if not isinstance(several, Iterable) or isinstance(several, Mapping):
        raise SpecError(f"the source must be a path or a sequence of paths, not {given!r}")
    paths = list(several)
    for path in paths:
        if not isinstance(path, str | os.PathLike):
            raise SpecError(f"the source must be a path or a sequence of paths, not {given!r}")
    return [Path(path) for path in paths]


def as_paths(source: Any, whole: Callable[[Path], bool] = lambda _: False) -> list[Path]:
    """Return one path or several as a list of existing paths without duplicates.

    Parameters
    ----------
    source : path-like, or iterable of path-like
        A single folder is replaced by the files in it, in natural order, without hidden ones; a
        pattern (``"fit_*.csv"``) by the files whose names match it.
    whole : callable
        Whether a folder is itself one member.

    Raises
    ------
    FileError
        If there is none, one is missing, or one is given twice.
    """
    paths = listed(source)
    if not paths:
        raise FileError("no files are given")
    if len(paths) == 1 and is_pattern(paths[0]):
        pattern = paths[0]
        paths = sorted(pattern.parent.glob(pattern.name), key=lambda path: natural_key(path.name))
        if not paths:
            raise FileError(f"{pattern}: no file fits this pattern")
    for path in paths:
        check_file(path)
    if len(paths) == 1 and paths[0].is_dir() and not whole(paths[0]):
        folder = paths[0]
        with reading(folder, "a folder"):
            found = [path for path in folder.iterdir() if not path.name.startswith(".")]
        paths = sorted(found, key=lambda path: natural_key(path.name))
        if not paths:
            raise FileError(
                f"{folder}: a folder, but not a Zarr store (no zarr.json, no .zgroup), and there "
                "are no files of draws in it"
            )
    check_distinct(paths)
    return paths


def single(arrays: Mapping[str, Any], label: str, sample_dims: str | None) -> xr.DataTree:
    """Lay out the arrays of one file whose names do not begin with those of members.

    Raises
    ------
    DataError
        If `sample_dims` does not say whether they are stacked draws.
    """
    if sample_dims is None:
        raise DataError(
            f"{label}: is this one member, or are its arrays stacked draws? Its names do not begin "
            "with a member's; give sample_dims='draw' (or 'chain draw', 'draw chain') if they are "
            "stacked, sample_dims='' if it is one member (of the command: --sample-dims)"
        )
    copies = {name: np.array(as_array(value, name, label)) for name, value in arrays.items()}
    return tree_of(copies, source=label, sample_dims=sample_dims)
