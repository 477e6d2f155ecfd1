"""Named arrays of draws to a tree and back, as all sources need it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.data.containers import DrawsLike, unpack
from relabel.errors import DataError
from relabel.spec.spec import SAMPLE_DIMS

__all__ = [
    "Unreadable",
    "as_array",
    "as_it_came",
    "check_names",
    "leading_dims",
    "notes_of",
    "sample_dims_of",
    "samples_of",
    "stacked",
    "tree_of",
]

Array = NDArray[Any]

_ORDERS = ("chain draw", "draw chain", "draw", "")


def tree_of(
    samples: Mapping[str, Any],
    *,
    source: str,
    sample_dims: str | None = None,
    groups: Mapping[str, xr.Dataset] | None = None,
    dims: Mapping[str, Sequence[str]] | None = None,
    attrs: Mapping[str, Mapping[str, Any]] | None = None,
) -> xr.DataTree:
    """Lay named arrays of draws out as a tree with the group ``posterior``.

    A ``/`` in a name, which no file can hold, becomes a dot; the name as it was is kept in the
    variable's attribute ``source_name``.

    Parameters
    ----------
    samples : mapping of str to array
        Name -> draws, all with the same leading axes.
    source : str
        Where they come from, such as ``"torch"``; for messages, and kept as an attribute.
    sample_dims : str, optional
        The leading axes: ``"chain draw"``, ``"draw chain"``, ``"draw"``, or ``""`` for a single
        draw. By default they follow from the shapes, see :func:`leading_dims`.
    groups : mapping of str to Dataset, optional
        Further groups, such as ``sample_stats``.
    dims : mapping of str to sequence of str, optional
        Names of the remaining dimensions of variables; ``{name}_dim_{i}`` by default.
    attrs : mapping of str to mapping, optional
        Further attributes of variables. A ``source_name`` among them is the name under which the
        variable is written back.

    Returns
    -------
    DataTree

    Raises
    ------
    DataError
        If there are no draws, arrays disagree about them, or one has a dtype that draws cannot
        have (half precision, objects, text, complex numbers).

    Examples
    --------
    >>> import numpy as np
    >>> tree = tree_of({"nn/w": np.zeros((4, 100, 3))}, source="an example",
    ...                sample_dims="chain draw")
    >>> dict(tree["posterior"].sizes)
    {'chain': 4, 'draw': 100, 'nn.w_dim_0': 3}
    >>> tree["posterior/nn.w"].attrs["source_name"]
    'nn/w'
    """
    check_names(samples, source)
    arrays = {name: as_array(value, name, source) for name, value in samples.items()}
    order = leading_dims(arrays, sample_dims, source)
    names = _safe_names(arrays, source)
    variables: dict[str, xr.Variable] = {}
    for name, array in arrays.items():
        safe = names[name]
        rest = (dims or {}).get(name) or [f"{safe}_dim_{i}" for i in range(array.ndim - len(order))]
        values = _chains_first(array, order)
        notes = {"source_name": name, **(attrs or {}).get(name, {})}
        variables[safe] = xr.Variable((*SAMPLE_DIMS, *rest), values, notes)
    posterior = xr.Dataset(variables, attrs={"source": source, "sample_dims": " ".join(order)})
    posterior = posterior.assign_coords(
        {dim: np.arange(posterior.sizes[dim]) for dim in SAMPLE_DIMS}
    )
    return xr.DataTree.from_dict({"posterior": posterior, **(groups or {})})


def check_names(samples: Mapping[Any, Any], source: str) -> None:
    """Raise DataError unless all names are strings (the layers of a list have numbers).

    Raises
    ------
    DataError
        If a name is not a string.
    """
    odd = [name for name in samples if not isinstance(name, str)]
    if odd:
        raise DataError(
            f"{source}: the name {odd[0]!r} is a {type(odd[0]).__name__}; names must be strings, "
            "as in {str(name): array for name, array in samples.items()}"
        )


@dataclass(frozen=True)
class Unreadable:
    """An array in a file whose dtype NumPy does not have; :func:`as_array` refuses it by name."""

    dtype: str
    shape: tuple[int, ...]


def as_array(value: Any, name: str, source: str) -> Array:
    """Return draws of one variable as a NumPy array of numbers.

    Raises
    ------
    DataError
        If they are not numbers of at least single precision.
    """
    dtype = str(getattr(value, "dtype", ""))
    if "float16" in dtype or "float8" in dtype:
        raise DataError(
            f"{source}: {name!r} has the dtype {dtype}, whose three digits are too few to compare "
            "units by; convert it to float32 or float64 first"
        )
    try:
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    except (TypeError, ValueError, RuntimeError) as error:
        device = getattr(value, "device", None)
        where = f" on the device {str(device)!r}" if device is not None else ""
        raise DataError(
            f"{source}: {name!r} is a {type(value).__name__}{where} that cannot be read as an "
            "array; convert it to an ordinary dense array on the cpu"
        ) from error
    if np.ma.is_masked(value):
        raise DataError(
            f"{source}: {name!r} has masked entries; draws must have a value everywhere"
        )
    if array.dtype.kind not in "fiub":
        raise DataError(
            f"{source}: {name!r} has the dtype {dtype or array.dtype}; draws must be real numbers "
            "or integers"
        )
    return array


def leading_dims(
    arrays: Mapping[str, Array], sample_dims: str | None, source: str
) -> tuple[str, ...]:
    """Return the leading axes that all arrays share, as given or as their shapes show.

    Without `sample_dims`: where all arrays share their first axis only, it is ``draw``. Where they
    share a second one too, the shapes do not show whether the two are chain and draw, and in which
    order; this is an error that asks for `sample_dims`.

    Raises
    ------
    DataError
        If the axes are not clear, there are no draws, or arrays disagree.
    """
    if not arrays:
        raise DataError(f"{source}: there are no variables")
    if sample_dims is None:
        sample_dims = _dims_from_shapes(arrays, source)
    order = tuple(str(sample_dims).split())
    if " ".join(order) not in _ORDERS:
        known = ", ".join(map(repr, _ORDERS))
        raise DataError(f"{source}: sample_dims must be one of {known}, not {sample_dims!r}")
    first_name, first = next(iter(arrays.items()))
    for name, array in arrays.items():
        if array.shape[: len(order)] != first.shape[: len(order)] or array.ndim < len(order):
            raise DataError(
                f"{source}: {name!r} has the shape {array.shape} and {first_name!r} {first.shape}: "
                f"the leading axes ({sample_dims}) must agree"
            )
    if 0 in first.shape[: len(order)]:
        raise DataError(f"{source}: there are no draws: {first_name!r} has the shape {first.shape}")
    return order


def _dims_from_shapes(arrays: Mapping[str, Array], source: str) -> str:
    shapes = [array.shape for array in arrays.values()]
    if all(len(shape) > 1 for shape in shapes) and len({shape[:2] for shape in shapes}) == 1:
        raise DataError(
            f"{source}: all arrays begin with the sizes {shapes[0][:2]}: name these axes, by "
            "sample_dims='chain draw', sample_dims='draw chain' or, if only the first is an axis "
            "of draws, sample_dims='draw' (of the command: --sample-dims)"
        )
    return "draw"


def _chains_first(array: Array, order: tuple[str, ...]) -> Array:
    """Bring the leading axes into the order chain, draw; a missing one gets the size 1."""
    if order == ("draw", "chain"):
        return array.swapaxes(0, 1)
    return array[(None,) * (2 - len(order))]


def stacked(members: Sequence[Mapping[str, Any]], source: str) -> dict[str, Array]:
    """Stack the draws of every variable, one mapping for each draw.

    Raises
    ------
    DataError
        If a member lacks a key, has one too many, or has another shape or dtype; the message names
        the member and the key.
    """
    if not members:
        raise DataError(f"{source}: there are no members")
    first = {name: as_array(value, name, source) for name, value in members[0].items()}
    columns: dict[str, list[Array]] = {name: [array] for name, array in first.items()}
    for number, member in enumerate(members[1:], start=1):
        _check_keys(number, set(member), set(first), source)
        for name, array in first.items():
            other = as_array(member[name], name, source)
            if other.shape != array.shape or other.dtype != array.dtype:
                raise DataError(
                    f"{source}: {name!r} is {array.dtype} of shape {array.shape} in member 0, but "
                    f"{other.dtype} of shape {other.shape} in member {number}: members must be of "
                    "one architecture and precision"
                )
            columns[name].append(other)
    return {name: np.stack(arrays) for name, arrays in columns.items()}


def _check_keys(number: int, found: set[str], wanted: set[str], source: str) -> None:
    for verb, names in (("lacks", wanted - found), ("also has", found - wanted)):
        if names:
            shown = ", ".join(map(repr, sorted(names)[:3])) + (", ..." if len(names) > 3 else "")
            raise DataError(
                f"{source}: member {number} {verb} {shown}, unlike member 0: members must be of "
                "one architecture"
            )


def _safe_names(names: Mapping[str, Any], source: str) -> dict[str, str]:
    """Return names that files can hold."""
    safe = {name: name.replace("/", ".") for name in names}
    numbers = Counter(safe.values())
    for name, short in safe.items():
        if not short or short in SAMPLE_DIMS:
            raise DataError(f"{source}: a variable cannot be named {name!r}; rename it")
        if numbers[short] > 1:
            same = [other for other, taken in safe.items() if taken == short]
            raise DataError(
                f"{source}: the variables {' and '.join(map(repr, same))} would both be named "
                f"{short!r}; rename one"
            )
    return safe


def samples_of(data: DrawsLike) -> dict[str, Array]:
    """Return the draws of the posterior under the names of their source, (chain, draw, ...).

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset

    Raises
    ------
    DataError
        If there is no posterior.
    """
    groups = unpack(data)
    if "posterior" not in groups:
        raise DataError(f"there is no group 'posterior'; found {', '.join(groups) or 'nothing'}")
    return {
        str(variable.attrs.get("source_name", name)): variable.transpose(*SAMPLE_DIMS, ...).values
        for name, variable in groups["posterior"].data_vars.items()
        if set(SAMPLE_DIMS) <= set(variable.dims)
    }


def notes_of(data: DrawsLike) -> dict[str, Any]:
    """Return the attributes of the posterior, in which a source keeps how the draws came."""
    return dict(unpack(data).get("posterior", xr.Dataset()).attrs)


def sample_dims_of(notes: Mapping[str, Any]) -> str | None:
    """Return the leading axes in the source, None of draws without a source.

    Files of earlier versions name the attribute ``sample_axes``.
    """
    kept = notes.get("sample_dims", notes.get("sample_axes"))
    return None if kept is None else str(kept)


def as_it_came(data: DrawsLike) -> dict[str, Array]:
    """Return the draws under the names of their source, with the leading axes of their source.

    The leading axes are chain and draw where draws have no source, or have more chains by now than
    their source had axes for.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset

    Returns
    -------
    dict of str to array

    Raises
    ------
    DataError
        If there is no posterior.

    Examples
    --------
    >>> import numpy as np
    >>> tree = tree_of({"w": np.zeros((100, 4, 3))}, source="an example", sample_dims="draw chain")
    >>> as_it_came(tree)["w"].shape
    (100, 4, 3)
    """
    samples = samples_of(data)
    kept = sample_dims_of(notes_of(data))
    order = tuple(kept.split()) if kept in _ORDERS else SAMPLE_DIMS
    sizes = next(iter(samples.values())).shape[:2] if samples else ()
    missing = [size for dim, size in zip(SAMPLE_DIMS, sizes, strict=False) if dim not in order]
    if any(size != 1 for size in missing):
        order = SAMPLE_DIMS
    if order == ("draw", "chain"):
        return {name: array.swapaxes(0, 1) for name, array in samples.items()}
    shape = sizes[2 - len(order) :]
    return {name: array.reshape((*shape, *array.shape[2:])) for name, array in samples.items()}
