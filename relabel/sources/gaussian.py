"""Gaussian approximations of a posterior (variational fits, Laplace): means and covariances."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from relabel.data.containers import DrawsLike, unpack
from relabel.errors import DataError, SpecError
from relabel.groups import group_of
from relabel.numerics.gaussians import COVARIANCE, COVARIANCE_OF, SD_OF
from relabel.sources.samples import as_array, leading_dims, stacked, tree_of
from relabel.spec.notation import Axis, Blocks, StoredAxis, absolute, parse, terms_of
from relabel.spec.spec import SAMPLE_DIMS, Spec

__all__ = ["from_gaussian", "gaussian_spec"]

Array = NDArray[Any]

_SOURCE = "Gaussian approximations"
_ASYMMETRY = 1e-5  # relative, of float32


def from_gaussian(
    means: Any,
    *,
    sd: Any = None,
    var: Any = None,
    cov: Any = None,
    layout: Mapping[str, Sequence[int]] | None = None,
    sample_dims: str | None = "draw",
) -> xr.DataTree:
    """Lay Gaussian approximations out as draws: one draw for each member (fit, seed).

    Parameters
    ----------
    means : mapping of str to array, sequence of such mappings, or array
        Means by name, of shape (members, ...); or one mapping a member; or flat vectors of shape
        (members, D) with `layout`.
    sd, var : like `means`, optional
        Standard deviations or variances of all or some of the variables.
    cov : array of shape (members, D, D), or mapping of str to array, optional
        One covariance matrix a member over all parameters, in the order of `layout` (by default
        that of the means), each variable flattened in C order; or by name the covariance of single
        variables, of shape (members, size, size).
    layout : mapping of str to shape, optional
        Names and shapes of the parameters, in their order in flat vectors.
    sample_dims : str, default "draw"
        The leading axes: ``"draw"``, ``"chain draw"``, ``"draw chain"``, or ``""`` for one member.

    Returns
    -------
    DataTree
        With the group ``posterior``: the means under their names; ``{name}_sd``, standard
        deviations (the roots of variances, of diagonals of covariances); ``covariance`` or
        ``{name}_cov``.

    Raises
    ------
    DataError
        If names, shapes or sizes disagree, a standard deviation or variance is negative, or a
        covariance is not symmetric.

    See Also
    --------
    gaussian_spec : How these variables follow their units.
    relabel.criteria.Wasserstein : The criterion that compares them.

    Examples
    --------
    >>> import numpy as np
    >>> tree = from_gaussian({"W": np.zeros((5, 2, 3))}, sd={"W": np.ones((5, 2, 3))})
    >>> list(tree["posterior"].data_vars)
    ['W', 'W_sd']
    >>> flat = from_gaussian(np.zeros((5, 8)), cov=np.tile(np.eye(8), (5, 1, 1)),
    ...                      layout={"W": (2, 3), "b": (2,)})
    >>> dict(flat["posterior"].sizes)["parameter"]
    8
    """
    if sum(given is not None for given in (sd, var)) > 1:
        raise DataError(f"{_SOURCE}: give sd or var, not both")
    mean = _by_name(means, layout, "means")
    n_lead = len(leading_dims(mean, sample_dims, _SOURCE))
    _check_layout(mean, layout, n_lead)
    beside = _spreads(mean, sd, var, layout)
    attrs: dict[str, list[str]] = {}
    dims = {name: _dims(name, mean[name].ndim - n_lead) for name in mean}
    for key, rows, values in _covariances(mean, cov, n_lead, list(layout or mean)):
        first = next(iter(mean))
        _check_covariance(key, values, mean[first].shape[:n_lead])
        beside[key], attrs[_safe(key)] = values, [_safe(name) for name in rows]
        end = "parameter" if key == COVARIANCE else f"{_safe(rows[0])}_entry"
        dims[key] = [end, f"{end}_2"]
        for name, part in _diagonals(values, rows, mean, n_lead):
            _check_once(SD_OF.format(name), beside)
            beside[SD_OF.format(name)] = np.sqrt(np.maximum(part, 0))
    for key in beside:
        if key in mean:
            raise DataError(
                f"{_SOURCE}: a mean is named {key!r}, like its standard deviation or covariance; "
                "rename it"
            )
    for name in mean:
        dims[SD_OF.format(name)] = dims[name]
    tree = tree_of(mean | beside, source="gaussian", sample_dims=sample_dims, dims=dims)
    for key, entries in attrs.items():
        tree["posterior"][key].attrs["layout"] = json.dumps(entries)
    return tree


def _safe(name: str) -> str:
    """Name of a variable in a file; see :func:`relabel.sources.samples.tree_of`."""
    return name.replace("/", ".")


def _dims(name: str, n_dims: int) -> list[str]:
    return [f"{_safe(name)}_dim_{i}" for i in range(n_dims)]


def _by_name(given: Any, layout: Mapping[str, Sequence[int]] | None, key: str) -> dict[str, Array]:
    """Arrays by name, from any of the forms of `means`."""
    if isinstance(given, Mapping):
        return {str(name): as_array(value, str(name), _SOURCE) for name, value in given.items()}
    if isinstance(given, (list, tuple)) and all(isinstance(one, Mapping) for one in given):
        return stacked(given, _SOURCE)
    flat = as_array(given, key, _SOURCE)
    if layout is None:
        raise DataError(
            f"{_SOURCE}: {key} of shape {flat.shape} need a layout, the names and shapes of the "
            "parameters in order, as in layout={'W': (3, 4), 'b': (4,)}"
        )
    sizes = [math.prod(shape) for shape in layout.values()]
    if flat.ndim == 0 or flat.shape[-1] != sum(sizes):
        raise DataError(
            f"{_SOURCE}: {key} have the shape {flat.shape}, and the layout has {sum(sizes)} "
            "parameters; the last axis must have this size"
        )
    parts = np.split(flat, np.cumsum(sizes)[:-1], axis=-1)
    return {
        name: part.reshape(*flat.shape[:-1], *shape)
        for part, (name, shape) in zip(parts, layout.items(), strict=True)
    }


def _check_layout(
    mean: Mapping[str, Array], layout: Mapping[str, Sequence[int]] | None, n_lead: int
) -> None:
    """Raise DataError unless the layout has the names and shapes of the means."""
    shapes = {name: array.shape[n_lead:] for name, array in mean.items()}
    wanted = {name: tuple(shape) for name, shape in (layout or shapes).items()}
    if wanted != shapes:
        different = min(set(wanted.items()) ^ set(shapes.items()))
        raise DataError(
            f"{_SOURCE}: the layout and the means disagree about {different[0]!r}: "
            f"{wanted.get(different[0], 'not there')} and {shapes.get(different[0], 'not there')}"
        )


def _spreads(
    mean: Mapping[str, Array], sd: Any, var: Any, layout: Mapping[str, Sequence[int]] | None
) -> dict[str, Array]:
    """Standard deviations under their names in the posterior."""
    key = "sd" if var is None else "var"
    given = sd if var is None else var
    found = {} if given is None else _by_name(given, layout, key)
    for name, array in found.items():
        if name not in mean:
            raise DataError(f"{_SOURCE}: {key} has {name!r}, and means do not")
        if array.shape != mean[name].shape:
            raise DataError(
                f"{_SOURCE}: {key} of {name!r} has the shape {array.shape}, and its means "
                f"{mean[name].shape}"
            )
        if (array < 0).any():
            raise DataError(
                f"{_SOURCE}: {key} of {name!r} must not be negative, and its minimum is "
                f"{np.nanmin(array):.3g}; if these are logarithms, or values before a softplus, "
                "transform them first"
            )
    return {SD_OF.format(n): a if var is None else np.sqrt(a) for n, a in found.items()}


def _covariances(
    mean: Mapping[str, Array], cov: Any, n_lead: int, order: list[str]
) -> Iterator[tuple[str, list[str], Array]]:
    """Yield name, variables of the rows, and values (..., size, size) of every covariance."""
    if cov is None:
        return
    if not isinstance(cov, Mapping):
        yield COVARIANCE, order, _square(as_array(cov, "cov", _SOURCE), order, mean, n_lead)
        return
    for name, given in cov.items():
        if name not in mean:
            raise DataError(f"{_SOURCE}: cov has {name!r}, and means do not")
        array = as_array(given, str(name), _SOURCE)
        yield COVARIANCE_OF.format(name), [name], _square(array, [name], mean, n_lead)


def _square(array: Array, rows: list[str], mean: Mapping[str, Array], n_lead: int) -> Array:
    """A covariance with two flat axes."""
    size = sum(math.prod(mean[name].shape[n_lead:]) for name in rows)
    lead = mean[rows[0]].shape[:n_lead]
    if array.shape[:n_lead] != lead or array.size != math.prod(lead) * size**2:
        raise DataError(
            f"{_SOURCE}: cov has the shape {array.shape}; for {', '.join(map(repr, rows))} it must "
            f"be {(*lead, size, size)}"
        )
    return array.reshape(*lead, size, size)


def _check_covariance(key: str, values: Array, lead: tuple[int, ...]) -> None:
    """Raise DataError unless matrices are symmetric; their eigenvalues are checked in use."""
    sizes = np.abs(values).max(axis=(-1, -2), initial=0.0)
    apart = np.abs(values - values.swapaxes(-1, -2)).max(axis=(-1, -2), initial=0.0)
    bad = apart > _ASYMMETRY * sizes
    if bad.any():
        raise DataError(
            f"{_SOURCE}: {key} is not symmetric in {int(bad.sum())} of {math.prod(lead)} members; "
            "of a triangular factor L give L @ L.T"
        )
    if (np.einsum("...ii->...i", values) < 0).any():
        raise DataError(f"{_SOURCE}: {key} has negative variances on its diagonal")


def _diagonals(
    values: Array, rows: list[str], mean: Mapping[str, Array], n_lead: int
) -> Iterator[tuple[str, Array]]:
    """Yield the variances of every variable of a covariance."""
    diagonal = np.einsum("...ii->...i", values)
    start = 0
    for name in rows:
        size = math.prod(mean[name].shape[n_lead:])
        yield name, diagonal[..., start : start + size].reshape(mean[name].shape)
        start += size


def _check_once(key: str, known: Mapping[str, Any]) -> None:
    if key in known:
        raise DataError(
            f"{_SOURCE}: {key!r} is given, and follows from cov as well; give one of them"
        )


# ---------------------------------------------------------------------- the spec


def gaussian_spec(data: DrawsLike, spec: Spec | Mapping[str, str]) -> Spec:
    """Extend the spec of the means to standard deviations and covariances.

    Standard deviations have the axes of the mean as absolute values (``"x -> |h|"``): scales apply
    to them, signs do not. A covariance has the axes of its variables twice
    (``"(x -> h + -> h) (x -> h + -> h)"``): Σ → GΣGᵀ.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset
        Draws from :func:`from_gaussian`.
    spec : Spec, or mapping of str to str
        Units and axes of the means.

    Returns
    -------
    Spec

    Raises
    ------
    SpecError
        If units flip affinely (a sigmoid's flip adds weights to a bias, which mixes their
        covariances) or rotate, or a covariance has rows of a variable with blocks that is not a
        flat vector.

    Examples
    --------
    >>> import numpy as np
    >>> from relabel.spec.spec import Spec
    >>> spec = Spec({"h": "tanh"}, {"W": "x -> h", "V": "h -> y"})
    >>> means = {"W": np.zeros((5, 2, 3)), "V": np.zeros((5, 3, 1))}
    >>> gaussian_spec(from_gaussian(means, sd=means), spec).axes["W_sd"]
    'x -> |h|'
    >>> tree = from_gaussian(means, cov=np.tile(np.eye(9), (5, 1, 1)))
    >>> gaussian_spec(tree, spec).axes["covariance"]
    '(x -> h + h -> y) (x -> h + h -> y)'
    """
    spec = spec if isinstance(spec, Spec) else Spec(units=spec)
    posterior = unpack(data)["posterior"]
    for units, symmetry in spec.units.items():
        _check_follows(units, symmetry)
    lines = _lines(spec, posterior)
    fresh: dict[str, str] = {}
    sizes = dict(spec.sizes)
    for name, line in lines.items():
        if SD_OF.format(name) in posterior and parse(line).names() & set(spec.units):
            fresh[SD_OF.format(name)] = absolute(line, spec.units)
    for key, array in posterior.data_vars.items():
        if "layout" in array.attrs:
            terms = []
            for entry in json.loads(array.attrs["layout"]):
                term, more = _term(entry, lines.get(entry), posterior, sizes)
                terms.append(term)
                sizes |= more
            joined = f"({' + '.join(terms)})"
            fresh[str(key)] = f"{joined} {joined}"
    return replace(spec, axes={**lines, **spec.axes, **fresh}, sizes=sizes)


def _check_follows(units: str, symmetry: str) -> None:
    """Raise SpecError if elements of the units do more than permute and multiply."""
    group = group_of(symmetry)
    if group.shifts:
        raise SpecError(
            f"units {units!r} ({symmetry}): a flip adds outgoing weights to the next bias, which "
            "mixes its variance with theirs, and standard deviations cannot follow; declare them "
            "'permutation', without the flips"
        )
    if group.rotates:
        raise SpecError(
            f"units {units!r} ({symmetry}) rotate, which standard deviations cannot follow; "
            "declare them 'signed' or 'permutation'"
        )


def _lines(spec: Spec, posterior: xr.Dataset) -> dict[str, str]:
    """Axes of every mean that carries units, by its plain name."""
    if spec.axes:
        return {name.removeprefix("posterior/"): line for name, line in spec.axes.items()}
    beside = {str(n) for n, array in posterior.data_vars.items() if "layout" in array.attrs}
    beside |= {SD_OF.format(name) for name in posterior.data_vars}
    means = posterior.drop_vars([name for name in posterior.data_vars if str(name) in beside])
    found = spec.bind(means).complete_spec().axes
    return {name.removeprefix("posterior/"): line for name, line in found.items()}


def _term(
    name: str, line: str | None, posterior: xr.Dataset, taken: Mapping[str, int]
) -> tuple[str, dict[str, int]]:
    """One block of a flat vector (or all of its blocks) in the notation, and sizes of new axes."""
    array = posterior[name]
    shape = tuple(array.sizes[d] for d in array.dims if d not in SAMPLE_DIMS)
    more: dict[str, int] = {}

    def named(size: int) -> Axis:
        number = next(i for i in range(10**6) if f"flat{i}" not in {**taken, **more})
        more[f"flat{number}"] = size
        return Axis(f"flat{number}")

    if line is None:
        return str(named(math.prod(shape))), more
    stored = parse(line).expand(len(shape))
    if stored is not None and len(stored) == 1 and _flat(stored[0]):
        return " + ".join(map(_written, terms_of(stored[0]))), more
    if stored is None or any(isinstance(axis, Blocks) for axis in stored):
        raise SpecError(
            f"{name!r} has the axes {line!r}, which a block of a covariance cannot have; give "
            "standard deviations, or covariances of other variables only"
        )
    products = [axis for axis in stored if not isinstance(axis, Blocks)]
    axes = []
    for product, size in zip(products, shape, strict=True):
        for axis in product:
            if axis.name is None and len(product) > 1:
                raise SpecError(f"{name!r}: name every factor of {line!r} for a covariance")
            axes.append(replace(named(size), role=axis.role) if axis.name is None else axis)
    return _written(axes), more


def _flat(stored: StoredAxis) -> bool:
    """Whether a stored axis is several blocks, all of them named: a flat vector."""
    blocks = isinstance(stored, Blocks) and not stored.zipped
    return blocks and all(axis.name for term in terms_of(stored) for axis in term)


def _written(axes: Sequence[Axis]) -> str:
    """Axes in the notation, with the arrow that follows from their roles."""
    roles = [axis.role for axis in axes]
    if not axes:
        return "->"
    if set(roles) == {"neutral"}:
        return " ".join(map(str, axes))
    first = next(role for role in roles)
    second = [i for i, role in enumerate(roles) if role != first]
    cut = second[0] if second else len(axes)
    if not second and first == "head":
        cut, arrow = 0, "->"
    else:
        arrow = "->" if first == "tail" else "<-"
    before, after = (" ".join(map(str, part)) for part in (axes[:cut], axes[cut:]))
    return " ".join(part for part in (before, arrow, after) if part)
