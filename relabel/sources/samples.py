"""What all sources share: named arrays of draws to a tree, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.data.containers import unpack
from relabel.errors import DataError
from relabel.spec.spec import SAMPLE_DIMS

__all__ = [
    "as_array",
    "as_it_came",
    "check_names",
    "notes_of",
    "sample_axes",
    "samples_of",
    "stacked",
    "tree_of",
]

Array = NDArray[Any]

_ORDERS = (("chain", "draw"), ("draw", "chain"), ("draw",), ())


def tree_of(
    samples: Mapping[str, Any],
    *,
    source: str,
    axes: str | None = None,
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
    axes : str, optional
        The leading axes: ``"chain draw"``, ``"draw chain"``, ``"draw"``, or ``""`` for a single
        draw. By default they are told from the shapes, see :func:`sample_axes`.
    groups : mapping of str to Dataset, optional
        Further groups, such as ``sample_stats``.
    dims : mapping of str to sequence of str, optional
        Names of the remaining dimensions of variables; ``{name}_dim_{i}`` by default.
    attrs : mapping of str to mapping, optional
        Further attributes of variables. A ``source_name`` among them is the name that the way
        back gives.

    Returns
    -------
    DataTree

    Raises
    ------
    DataError
        If there are no draws, arrays disagree about them, or one is of a dtype that draws cannot
        have (half precision, objects, text, complex numbers).

    Examples
    --------
    >>> import numpy as np
    >>> tree = tree_of({"nn/w": np.zeros((4, 100, 3))}, source="an example", axes="chain draw")
    >>> dict(tree["posterior"].sizes)
    {'chain': 4, 'draw': 100, 'nn.w_dim_0': 3}
    >>> tree["posterior/nn.w"].attrs["source_name"]
    'nn/w'
    """
    check_names(samples, source)
    arrays = {name: as_array(value, name, source) for name, value in samples.items()}
    order = sample_axes(arrays, axes, source)
    names = _safe_names(arrays, source)
    variables: dict[str, xr.Variable] = {}
    for name, array in arrays.items():
        safe = names[name]
        rest = (dims or {}).get(name) or [f"{safe}_dim_{i}" for i in range(array.ndim - len(order))]
        values = _chains_first(array, order)
        notes = {"source_name": name, **(attrs or {}).get(name, {})}
        variables[safe] = xr.Variable((*SAMPLE_DIMS, *rest), values, notes)
    posterior = xr.Dataset(variables, attrs={"source": source, "sample_axes": " ".join(order)})
    posterior = posterior.assign_coords(
        {dim: np.arange(posterior.sizes[dim]) for dim in SAMPLE_DIMS}
    )
    return xr.DataTree.from_dict({"posterior": posterior, **(groups or {})})


def check_names(samples: Mapping[Any, Any], source: str) -> None:
    """Refuse names that are no text, such as the numbers of a list of layers.

    Raises
    ------
    DataError
        If there is one.
    """
    odd = [name for name in samples if not isinstance(name, str)]
    if odd:
        raise DataError(
            f"{source}: the name {odd[0]!r} is a {type(odd[0]).__name__}; names must be text, as "
            "in {str(name): array for name, array in samples.items()}"
        )


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
            "array; make it an ordinary dense one and move it to cpu"
        ) from error
    if np.ma.is_masked(value):
        raise DataError(f"{source}: {name!r} has masked entries, which draws cannot have")
    if array.dtype.kind not in "fiub":
        raise DataError(
            f"{source}: {name!r} has the dtype {dtype or array.dtype}; draws are real numbers or "
            "integers"
        )
    return array


def sample_axes(arrays: Mapping[str, Array], axes: str | None, source: str) -> tuple[str, ...]:
    """Return the leading axes that all arrays share, as told or as their shapes tell.

    Without `axes`: where only the first axis is shared by all arrays it is ``draw``; where a
    second is shared as well, it is not clear whether the two are chain and draw, and which is
    which, and the user is asked.

    Raises
    ------
    DataError
        If it is not clear, there are no draws, or arrays disagree.
    """
    if not arrays:
        raise DataError(f"{source}: there are no variables")
    if axes is None:
        axes = _axes_from_shapes(arrays, source)
    order = tuple(axes.split())
    if order not in _ORDERS:
        raise DataError(f"{source}: axes are 'chain draw', 'draw chain' or 'draw', not {axes!r}")
    first_name, first = next(iter(arrays.items()))
    for name, array in arrays.items():
        if array.shape[: len(order)] != first.shape[: len(order)] or array.ndim < len(order):
            raise DataError(
                f"{source}: {name!r} has the shape {array.shape} and {first_name!r} {first.shape}: "
                f"the leading axes ({axes}) must agree"
            )
    if 0 in first.shape[: len(order)]:
        raise DataError(f"{source}: there are no draws: {first_name!r} has the shape {first.shape}")
    return order


def _axes_from_shapes(arrays: Mapping[str, Array], source: str) -> str:
    shapes = [array.shape for array in arrays.values()]
    if all(len(shape) > 1 for shape in shapes) and len({shape[:2] for shape in shapes}) == 1:
        raise DataError(
            f"{source}: all arrays begin with the sizes {shapes[0][:2]}: say which they are, by "
            "axes='chain draw', axes='draw chain' or, if only the first is an axis of draws, "
            "axes='draw' (of the command: --sample-dims)"
        )
    return "draw"


def _chains_first(array: Array, order: tuple[str, ...]) -> Array:
    """Bring the leading axes into the order chain, draw; one that is missing has the size 1."""
    if order == ("draw", "chain"):
        return array.swapaxes(0, 1)
    return array[(None,) * (2 - len(order))]


def stacked(members: Sequence[Mapping[str, Any]], source: str) -> dict[str, Array]:
    """Stack the draws of every variable, one mapping for each draw.

    Raises
    ------
    DataError
        If a member lacks a key, has one too many, or has another shape or dtype; the message says
        which member and which key.
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
    for what, names in (("lacks", wanted - found), ("also has", found - wanted)):
        if names:
            shown = ", ".join(map(repr, sorted(names)[:3])) + (", ..." if len(names) > 3 else "")
            raise DataError(
                f"{source}: member {number} {what} {shown}, unlike member 0: members must be of "
                "one architecture"
            )


def _safe_names(names: Mapping[str, Any], source: str) -> dict[str, str]:
    """Return names that files can hold."""
    safe = {name: name.replace("/", ".") for name in names}
    for name, short in safe.items():
        if not short or short in SAMPLE_DIMS:
            raise DataError(f"{source}: a variable cannot be named {name!r}; rename it")
        same = [other for other, taken in safe.items() if taken == short]
        if len(same) > 1:
            raise DataError(
                f"{source}: the variables {' and '.join(map(repr, same))} would both be named "
                f"{short!r}; rename one"
            )
    return safe


def samples_of(data: Any) -> dict[str, Array]:
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


def notes_of(data: Any) -> dict[str, Any]:
    """Return what a source noted beside the draws: the attributes of the posterior."""
    return dict(unpack(data).get("posterior", xr.Dataset()).attrs)


def as_it_came(data: Any) -> dict[str, Array]:
    """Return the draws under the names of their source, with the leading axes of their source.

    Draws that are from no source here, or have more chains by now than it had axes for, have
    the leading axes chain and draw.

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
    >>> tree = tree_of({"w": np.zeros((100, 4, 3))}, source="an example", axes="draw chain")
    >>> as_it_came(tree)["w"].shape
    (100, 4, 3)
    """
    samples = samples_of(data)
    order = tuple(str(notes_of(data).get("sample_axes", "chain draw")).split())
    sizes = next(iter(samples.values())).shape[:2] if samples else ()
    missing = [size for dim, size in zip(SAMPLE_DIMS, sizes, strict=False) if dim not in order]
    if order not in _ORDERS or any(size != 1 for size in missing):
        order = SAMPLE_DIMS
    if order == ("draw", "chain"):
        return {name: array.swapaxes(0, 1) for name, array in samples.items()}
    shape = sizes[2 - len(order) :]
    return {name: array.reshape((*shape, *array.shape[2:])) for name, array in samples.items()}
