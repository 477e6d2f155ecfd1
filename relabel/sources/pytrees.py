"""Pytrees: BlackJAX positions, parameters of JAX libraries, nested dictionaries, and back."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.data.containers import DrawsLike, unpack
from relabel.errors import DataError
from relabel.sources.members import MEMBERS, NAMED, STACKED, from_members, members_of, noted
from relabel.sources.samples import as_it_came, notes_of, sample_dims_of, tree_of

__all__ = ["flatten", "from_pytree", "nested", "path_notes", "paths_of", "to_pytree"]

Array = NDArray[Any]
Path = tuple[Any, ...]

#: The name of an array that is a whole tree by itself.
ALONE = "theta"


def from_pytree(tree: Any, *, sample_dims: str | None = None) -> xr.DataTree:
    """Lay out a pytree of draws: the positions of BlackJAX, parameters of Flax, Equinox, Haiku.

    Parameters
    ----------
    tree : pytree, or list of pytrees
        Nested dictionaries, lists, tuples and named tuples of arrays, and other types that are
        registered with JAX. Either all draws are stacked in each array, or it is a list of trees
        of one structure with the same shapes, one for each draw. A list of lists of such trees
        (dictionaries, named tuples, types registered with JAX) is one chain for each inner
        list. Lists and plain tuples of arrays are not such trees: they are the layers of a draw.
        Where all draws are lists of equal layers, name them: ``[{"layers": draw} for draw in
        draws]``.
    sample_dims : str, optional
        The leading axes of stacked arrays: ``"draw"``, ``"chain draw"`` or ``"draw chain"``. If it
        is given, a list is one tree in any case. By default the axes follow from the shapes.

    Returns
    -------
    DataTree
        The names of variables are the keys joined by ``.`` (``source_name`` has them joined by
        ``/``); an array by itself is ``theta``.

    Raises
    ------
    DataError
        If arrays disagree about the draws, or draws about their structure.

    Examples
    --------
    >>> tree = from_pytree({"layers": [{"w": np.zeros((4, 100, 3, 8))}]}, sample_dims="chain draw")
    >>> list(tree["posterior"].data_vars), dict(tree["posterior"].sizes)["draw"]
    (['layers.0.w'], 100)
    """
    if sample_dims is None and _are_chains(tree):
        chains = [[_named(flatten(draw)) for draw in chain] for chain in tree]
        out = from_members(chains, source="pytree", attrs=_notes(flatten(tree[0][0])))
    elif sample_dims is None and _are_draws(tree):
        flat = [flatten(draw) for draw in tree]
        out = from_members(
            [_named(leaves) for leaves in flat], source="pytree", attrs=_notes(flat[0])
        )
    else:
        leaves = flatten(tree)
        samples, attrs = _named(leaves), _notes(leaves)
        out = tree_of(samples, source="pytree", sample_dims=sample_dims, attrs=attrs)
        out = noted(out, form=STACKED)
    return noted(out, source="pytree")


def _are_chains(tree: Any) -> bool:
    """Whether these are lists of draws: trees, not arrays, which all agree in names and shapes.

    Raises
    ------
    DataError
        If they are, but the lists differ in length.
    """
    listed = isinstance(tree, list) and all(isinstance(chain, list) and chain for chain in tree)
    if not listed or not tree or not all(_is_tree(draw) for chain in tree for draw in chain):
        return False
    layouts = [_layout(draw) for chain in tree for draw in chain]
    if not layouts[0] or any(layout != layouts[0] for layout in layouts):
        return False
    lengths = [len(chain) for chain in tree]
    if len(set(lengths)) > 1:
        raise DataError(
            f"pytree: lists of {', '.join(map(str, lengths))} trees of one structure: chains must "
            "have one length (shorten them, as in [chain[:n] for chain in chains]); where the "
            "lists are layers with stacked draws, give sample_dims='draw'"
        )
    return True


def _is_tree(item: Any) -> bool:
    """Whether this is a tree of its own, not an array, a list or a plain tuple."""
    if isinstance(item, list) or (isinstance(item, tuple) and not hasattr(item, "_fields")):
        return False
    return list(flatten(item)) != [()]


def _layout(tree: Any) -> list[tuple[Path, tuple[int, ...]]]:
    return [(path, np.shape(leaf)) for path, leaf in flatten(tree).items()]


def _are_draws(tree: Any) -> bool:
    """Whether a list holds draws: trees that agree in shapes, or do not share their first size."""
    if not isinstance(tree, list) or not tree:
        return False
    flat = [flatten(draw) for draw in tree]
    if any(list(leaves) != list(flat[0]) for leaves in flat):
        return all(isinstance(draw, Mapping) for draw in tree) and not _share_draws(flat)
    layouts = [[np.shape(leaf) for leaf in leaves.values()] for leaves in flat]
    return all(layout == layouts[0] for layout in layouts) or not _share_draws(flat)


def _share_draws(flat: Sequence[Mapping[Path, Any]]) -> bool:
    """Whether all arrays have the same first size, as stacked ones have."""
    shapes = [np.shape(leaf) for leaves in flat for leaf in leaves.values()]
    return all(shapes) and len({shape[0] for shape in shapes}) == 1


def flatten(tree: Any) -> dict[Path, Any]:
    """Return the arrays of a tree by their paths.

    JAX does it where it is imported, for all types that are registered with it. Otherwise
    dictionaries, lists, tuples and named tuples are flattened, in the order of JAX.

    Examples
    --------
    >>> flatten({"b": [1.0, 2.0], "a": 0.0})
    {('a',): 0.0, ('b', 0): 1.0, ('b', 1): 2.0}
    """
    jax = sys.modules.get("jax")
    try:
        if jax is None:
            return dict(_walk(tree, ()))
        pairs = jax.tree_util.tree_flatten_with_path(tree)[0]
    except (TypeError, ValueError) as error:  # keys of several types have no order
        text = str(error).partition("\n")[0]
        raise DataError(f"pytree: cannot be flattened: {text}") from error
    return {_keys(path): leaf for path, leaf in pairs}


def _keys(path: Sequence[Any]) -> Path:
    """The path of a leaf in plain keys; the ``value`` of an nnx parameter is not part of it."""
    plain = []
    for entry in path:
        for attribute in ("key", "idx", "name"):
            if hasattr(entry, attribute):
                plain.append(getattr(entry, attribute))
                break
    boxed = len(path) > 1 and getattr(path[-1], "name", None) == "value"
    return tuple(plain[:-1] if boxed else plain)


def _walk(tree: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if tree is None:
        return
    if isinstance(tree, Mapping):
        for key in sorted(tree):
            yield from _walk(tree[key], (*path, key))
    elif isinstance(tree, tuple) and hasattr(tree, "_fields"):
        for key in tree._fields:
            yield from _walk(getattr(tree, key), (*path, key))
    elif isinstance(tree, list | tuple):
        for key, item in enumerate(tree):
            yield from _walk(item, (*path, key))
    else:
        yield path, tree


def _name(path: Path) -> str:
    return "/".join(map(str, path)) or ALONE


def _named(leaves: Mapping[Path, Any]) -> dict[str, Any]:
    samples = {_name(path): leaf for path, leaf in leaves.items()}
    if len(samples) < len(leaves):
        names = [_name(path) for path in leaves]
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"pytree: two arrays would both be named {twice!r}; rename a key")
    return samples


def _notes(leaves: Mapping[Path, Any]) -> dict[str, dict[str, str]]:
    return {_name(path): path_notes(path) for path in leaves}


def path_notes(path: Path) -> dict[str, str]:
    """Return an attribute with the path, where the name alone does not determine it."""
    if path and all(isinstance(key, str) and "/" not in key for key in path):
        return {}
    return {"source_path": json.dumps([k if isinstance(k, int) else str(k) for k in path])}


def to_pytree(data: DrawsLike, like: Any = None) -> Any:
    """Return draws as a pytree, with the leading axes (or as the list of draws) of their source.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset
        Draws from :func:`from_pytree`, or any others.
    like : pytree, optional
        A tree of the structure of the result, such as the one that the draws came from. Its
        values are not used, but where it has arrays of JAX the result has them too. Without it,
        dictionaries are nested by name (lists become dictionaries with numbers as keys).

    Returns
    -------
    pytree
        A list of trees if the draws came as a list, and a list of lists if they came as chains.

    Raises
    ------
    DataError
        If `like` has other names than the draws.

    Examples
    --------
    >>> source = {"layers": [{"w": np.zeros((100, 3, 8))}]}
    >>> to_pytree(from_pytree(source, sample_dims="draw"), like=source)["layers"][0]["w"].shape
    (100, 3, 8)
    """
    paths = paths_of(data)
    listed = notes_of(data).get("form") in (MEMBERS, NAMED)
    while listed and isinstance(like, list) and like and not _fits(like, paths):
        like = like[0]
    draws: Any = members_of(data) if listed else [as_it_came(data)]
    trees = [_built(draw, paths, like) for draw in draws]
    if not listed:
        return trees[0]
    if sample_dims_of(notes_of(data)) != "chain draw":
        return trees
    length = int(unpack(data)["posterior"].sizes["draw"])
    return [trees[start : start + length] for start in range(0, len(trees), length)]


def paths_of(data: DrawsLike) -> dict[str, Path]:
    """Return the path of every variable by its name in the source."""
    paths = {}
    for name, variable in unpack(data)["posterior"].data_vars.items():
        source = str(variable.attrs.get("source_name", name))
        kept = variable.attrs.get("source_path")
        paths[source] = tuple(json.loads(str(kept)) if kept else source.split("/"))
    return paths


def _fits(like: Any, paths: Mapping[str, Path]) -> bool:
    return {_name(path) for path in flatten(like)} <= set(paths)


def _built(draw: Mapping[str, Array], paths: Mapping[str, Path], like: Any) -> Any:
    if like is None:
        return nested({paths[name]: np.array(array) for name, array in draw.items()})
    leaves = flatten(like)
    names = [_name(path) for path in leaves]
    missing = [name for name in names if name not in draw]
    extra = [name for name in draw if name not in names]
    if missing or extra:
        difference = f"it has {missing[0]!r}, they do not" if missing else f"it lacks {extra[0]!r}"
        raise DataError(f"`like` must have the structure of the draws: {difference}")
    values = [_as(leaf, draw[name]) for name, leaf in zip(names, leaves.values(), strict=True)]
    jax = sys.modules.get("jax")
    if jax is not None:
        return jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(like), values)
    return _filled(like, iter(values))


def _as(leaf: Any, array: Array) -> Any:
    """Return the array in the library of the leaf."""
    if type(leaf).__module__.partition(".")[0] in ("jax", "jaxlib"):
        return sys.modules["jax"].numpy.array(array)
    return np.array(array)


def _filled(like: Any, values: Iterator[Array]) -> Any:
    if like is None:
        return None
    if isinstance(like, Mapping):
        filled = {key: _filled(like[key], values) for key in sorted(like)}
        return {key: filled[key] for key in like}
    if isinstance(like, tuple) and hasattr(like, "_fields"):
        return type(like)(*(_filled(item, values) for item in like))
    if isinstance(like, list | tuple):
        return type(like)(_filled(item, values) for item in like)
    return next(values)


def nested(leaves: Mapping[Path, Any]) -> Any:
    """Return nested dictionaries, or the array itself if it is alone.

    Examples
    --------
    >>> nested({("a", "w"): 1.0, ("a", "b"): 2.0})
    {'a': {'w': 1.0, 'b': 2.0}}
    """
    if list(leaves) == [()]:
        return leaves[()]
    tree: dict[Any, Any] = {}
    for path, leaf in leaves.items():
        node: Any = tree
        for key in path[:-1]:
            node = node.setdefault(key, {}) if isinstance(node, dict) else None
        if not path or not isinstance(node, dict) or path[-1] in node:
            raise DataError(
                f"{'/'.join(map(str, path))!r} cannot be nested: a part of it is the name of "
                "another array; rename one"
            )
        node[path[-1]] = leaf
    return tree
