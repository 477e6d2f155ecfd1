"""Files to ArviZ data and back, written whole or not at all.

netCDF and Zarr are read and written here, files of weights and of samplers by `sources`.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import tomllib
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from xarray.backends import H5NetCDFStore
from xarray.conventions import encode_cf_variable

from relabel.alignment.provenance import relabelled
from relabel.data.containers import OWN, PREFIX, is_inference_data, own_variables, unpack
from relabel.errors import FileError, SpecError
from relabel.sources.files import (
    READERS,
    WRITERS,
    kind_of,
    missing_package,
    open_source,
    write_source,
)
from relabel.sources.members import is_pattern
from relabel.spec.spec import SAMPLE_DIMS, Spec

__all__ = ["check_target", "load", "open_draws", "read_point", "read_spec", "save"]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_CLASSIC = b"CDF"
_BLOCK_BYTES = 2**26
_PACKED = ("scale_factor", "add_offset")


_Path = str | os.PathLike[str]
_ONE = (str, os.PathLike)


def open_draws(
    path: _Path | Sequence[_Path], *, axes: str | None = None, truncate: bool = False
) -> xr.DataTree | xr.Dataset:
    """Open saved draws: ArviZ's netCDF-4 or Zarr, weights of networks, draws of samplers.

    What a file is is told from its content. The file is never written to, and no code of it is
    run. Variables of netCDF and Zarr (as arviz 0.x and 1.x write them) are read when they are
    first used. The other kinds are read at once, see :mod:`relabel.sources`.

    Parameters
    ----------
    path : path-like, or sequence of path-like
        A file, a Zarr folder, or several files of one kind, which are members (a folder stands for
        the files in it, in natural order).
    axes : str, optional
        The leading axes of stacked arrays, where the file does not tell: ``"chain draw"``,
        ``"draw chain"``, ``"draw"``, or ``""`` for a single member.
    truncate : bool, default False
        Take the first draws of Stan's chains where they were cut short or differ in length.

    Returns
    -------
    DataTree or Dataset
        A Dataset if the file has no groups and holds the draws at its root.

    Raises
    ------
    FileError
        If there is no such file, or it is of no known kind, or it is damaged.
    DataError
        If what it holds are no draws of one model.
    """
    source = open_source(path, axes=axes, truncate=truncate)
    if source is not None:
        return source
    path = _listed(path)[0]
    engine = _engine_of(path)
    if engine == "zarr":
        _refuse_pickles(path)
    try:
        with _quiet_zarr():
            tree = xr.open_datatree(path, engine=engine, **_options(engine, path))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise FileError(
            f"{path}: cannot be read as {_NAMES[engine]}: {_first_line(error)}"
        ) from error
    if not tree.children and set(SAMPLE_DIMS) & set(tree.dims):
        return tree.to_dataset()
    if not tree.children and not tree.data_vars:
        raise FileError(f"{path}: holds no groups and no variables; was it written completely?")
    return tree


def load(
    draws: xr.DataTree | xr.Dataset, names: Collection[str], path: str | os.PathLike[str]
) -> None:
    """Read variables now, so that what is damaged in the file is known for that.

    Parameters
    ----------
    draws : DataTree or Dataset
        What :func:`open_draws` returned.
    names : collection of str
        Names, or addresses ``group/name``; names are those of the posterior and its warm-up. Empty
        stands for all of the posterior.
    path : path-like
        The file, to be named in the message.

    Raises
    ------
    FileError
        If values cannot be read.
    """
    for group, dataset in unpack(draws).items():
        plain = group in ("posterior", "warmup_posterior")
        for name, variable in dataset.variables.items():
            if f"{group}/{name}" in names or (plain and (name in names or not names)):
                try:
                    variable.load()
                except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
                    raise FileError(
                        f"{path}: {group}/{name} cannot be read: {_first_line(error)}"
                    ) from error


_NAMES = {"h5netcdf": "netCDF", "zarr": "Zarr"}


def _engine_of(path: Path) -> str:
    """Tell the format from the content."""
    if not path.exists():
        raise FileError(f"{path}: no such file or folder")
    if path.is_dir():
        if _is_zarr_store(path):
            return "zarr"
        raise FileError(f"{path}: a folder, but not a Zarr store (no zarr.json, no .zgroup)")
    try:
        with path.open("rb") as file:
            magic = file.read(8)
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error
    if magic == _HDF5:
        return "h5netcdf"
    if magic[:3] == _CLASSIC:
        raise FileError(
            f"{path}: a classic netCDF-3 file, which has no groups; save the draws as netCDF-4 "
            "(InferenceData.to_netcdf)"
        )
    raise FileError(
        f"{path}: not a netCDF-4 file{' (it is empty)' if not magic else ''}, nor of another known "
        f"kind: {', '.join(['Zarr', *READERS])}"
    )


def _is_zarr_store(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("zarr.json", ".zgroup", ".zmetadata"))


def _refuse_pickles(store: Path) -> None:
    """Refuse a Zarr store of which a codec is pickle: old versions of numcodecs would run it."""
    about = {".zarray", ".zmetadata", "zarr.json"}
    for path in (Path(p, name) for p, _, names in os.walk(store) for name in about & set(names)):
        try:
            codecs = _codecs(json.loads(path.read_bytes()))
        except (ValueError, OSError, RecursionError) as error:
            raise FileError(f"{store}: cannot be read as Zarr: {path.name} is damaged") from error
        if "pickle" in codecs:
            raise FileError(
                f"{store}: holds values as pickles ({path.parent.name}), and a pickle runs code "
                "when it is loaded; load it yourself in Python, where you trust it, and save "
                "numbers"
            )


def _codecs(about: Any) -> set[str]:
    """Names of all codecs in the metadata of Zarr, of either version of the format."""
    if isinstance(about, dict):
        named = {str(about[key]).rpartition(".")[2] for key in ("id", "name") if key in about}
        return named.union(*map(_codecs, about.values()))
    return set().union(*map(_codecs, about)) if isinstance(about, list) else set()


def _options(engine: str, path: Path) -> dict[str, Any]:
    """Options of xarray that keep it from guessing and warning."""
    if engine == "zarr":
        return {"consolidated": _is_consolidated(path), "chunks": None}
    return {"decode_timedelta": False, "phony_dims": "access"}


def _is_consolidated(path: Path) -> bool:
    if (path / ".zmetadata").exists():
        return True
    root = path / "zarr.json"
    return root.exists() and b'"consolidated_metadata"' in root.read_bytes()


@contextmanager
def _quiet_zarr() -> Iterator[None]:
    """Keep zarr's notes on its own metadata from the user."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Consolidated metadata", UserWarning)
        warnings.filterwarnings("ignore", "The data type", FutureWarning)
        warnings.filterwarnings("ignore", "Object at .* is not recognized", UserWarning)
        yield


def _first_line(error: BaseException) -> str:
    """What went wrong, in one line and without our temporary names."""
    if isinstance(error, shutil.Error):  # holds one triple for each file that was not copied
        return str(error.args[0][0][2]).partition(": '")[0]
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.strip().splitlines()[0]
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def read_spec(path: str | os.PathLike[str]) -> tuple[Spec, dict[str, Any] | None]:
    """Read a spec file.

    Parameters
    ----------
    path : path-like
        TOML with the tables of :class:`relabel.Spec`, and optionally ``[criterion]`` with a
        ``name`` and options.

    Returns
    -------
    Spec
    dict or None
        The table ``criterion``, if there is one.

    Raises
    ------
    FileError, SpecError
        If it cannot be read, or is no spec.
    """
    path = Path(path)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileError(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: cannot be read: {_first_line(error)}") from error
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{path}: not valid TOML: {error}") from error
    criterion = tables.pop("criterion", None)
    if criterion is not None and (not isinstance(criterion, dict) or "name" not in criterion):
        raise SpecError(f'{path}: the table [criterion] needs a name, as in name = "mean"')
    return Spec.from_dict(tables), criterion


def read_point(path: str | os.PathLike[str]) -> tuple[xr.Dataset, str]:
    """Read a reference point from a file of draws.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    Dataset
        One point: the posterior itself if it has no draws; the mean of the draws if they were
        aligned; else the draw of highest ``sample_stats/lp``.
    str
        Which of the three it is.

    Raises
    ------
    FileError
        If the draws were not aligned and there is no ``lp`` to choose one by.
    """
    groups = unpack(open_draws(path))
    if "posterior" not in groups:
        raise FileError(f"{path}: no group 'posterior' to take a reference from")
    posterior = groups["posterior"]
    if not set(SAMPLE_DIMS) & set(posterior.dims):
        return posterior, "the point in the file"
    if "relabel" in groups:
        return posterior.mean(SAMPLE_DIMS), "the mean of its aligned draws"
    lp = groups.get("sample_stats", xr.Dataset()).get("lp")
    if lp is None:
        raise FileError(
            f"{path}: its draws were not aligned and have no sample_stats/lp to choose one by; "
            "align them first, or store a single point"
        )
    best = lp.fillna(-np.inf).argmax(SAMPLE_DIMS)
    return posterior.isel({dim: int(best[dim]) for dim in SAMPLE_DIMS}), "its draw of highest lp"


# ---------------------------------------------------------------------- writing


def check_target(target: _Path, source: _Path | Sequence[_Path] | None, *, force: bool) -> None:
    """Refuse a target that cannot or must not be written, before any work is done.

    Raises
    ------
    FileError
        If the target is the source or holds it, exists already (without `force`), is something
        that is no draws, has no folder, or a package that writes it is missing.
    """
    target = Path(target)
    for path in _listed(source):
        _check_apart(target, path)
    if missing := missing_package(target.suffix):
        raise FileError(f"{target}: to write it, install the package {missing}")
    if target.is_dir() and not _is_zarr_name(target):
        raise FileError(f"{target}: is a folder; name a file in it, or a .zarr store{_ONE_FILE}")
    if target.exists() and not force:
        raise FileError(f"{target}: exists already; overwrite it with --force (or force=True)")
    if target.is_dir() and not _is_zarr_store(target):
        raise FileError(f"{target}: is a folder that is no Zarr store; it is not replaced")
    if target.exists() and target.is_dir() != _is_zarr_name(target):
        raise FileError(f"{target}: is a file; a name that ends in .zarr is that of a folder")
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise FileError(f"{target}: is no ordinary file; it is not replaced")
    folder = target.absolute().parent
    if not folder.is_dir():
        raise FileError(f"{target}: there is no folder {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FileError(f"{target}: the folder {folder} cannot be written to")
    _check_suffix(target)


#: The names that netCDF files have.
_NETCDF = (".nc", ".nc4", ".netcdf", ".cdf", ".h5", ".hdf5")
_ONE_FILE = (
    "; one file per member is not written: split one file by the prefix of its names (member_00.)"
)


def _check_suffix(target: Path) -> None:
    """Refuse a name that does not tell what to write."""
    if target.suffix.lower() in _NETCDF or _is_zarr_name(target) or target.suffix in WRITERS:
        return
    raise FileError(
        f"{target}: the name does not tell what to write; end it in {', '.join(_NETCDF)} (netCDF), "
        f".zarr, or {', '.join(WRITERS)} (weights){_ONE_FILE}"
    )


def _listed(source: _Path | Sequence[_Path] | None) -> list[Path]:
    """None, one path or several, as a list; of a pattern all that fits it."""
    if source is None:
        return []
    paths = [Path(path) for path in ([source] if isinstance(source, _ONE) else source)]
    fitting = [list(p.parent.glob(p.name)) if is_pattern(p) else [p] for p in paths]
    return [path for found in fitting for path in found]


def _check_apart(target: Path, source: Path) -> None:
    """Refuse a target that is the source, lies in it or holds it."""
    if target.exists() and source.exists() and target.samefile(source):
        raise FileError(f"{target}: output and input are the same; the source is never overwritten")
    if source.is_dir() and source.resolve() in target.resolve().parents:
        raise FileError(f"{target}: lies inside the input {source}; write somewhere else")
    if target.resolve() in source.resolve().parents:
        raise FileError(f"{target}: holds the input {source}; write somewhere else")


def save(
    data: Any,
    target: str | os.PathLike[str],
    *,
    source: _Path | Sequence[_Path] | None = None,
    changed: Sequence[str] | None = None,
    force: bool = False,
) -> None:
    """Write relabelled draws to a new file, whole or not at all.

    A file of the same format as the source is made as a copy of it in which only the relabelled
    values and the group ``relabel`` differ; everything else stays bit for bit. Another format is
    written anew. The file gets its name only when it is complete. Files of weights hold the
    posterior alone, in the form in which it came: names, dtypes, members. The record of the
    alignment, which :func:`relabel.undo` needs, goes into netCDF and Zarr only.

    Parameters
    ----------
    data : InferenceData, DataTree or Dataset
        What was opened from `source`, relabelled.
    target : path-like
        A name that ends in ``.zarr`` makes a Zarr store; ``.pt`` or ``.pth``, ``.safetensors``,
        ``.npz``, ``.npy``, ``.msgpack`` make a file of weights, in which members have names such
        as ``member_00.0.weight`` (PyTorch: a list); ``.nc``, ``.nc4``, ``.netcdf``, ``.cdf``,
        ``.h5``, ``.hdf5`` a netCDF-4 file. Other names are refused.
    source : path-like, or sequence of path-like, optional
        The file that `data` come from. Without it, everything is written anew.
    changed : sequence of str, optional
        Addresses ``group/name`` of the variables whose values differ from the source; by default
        those that the alignment wrote.
    force : bool, default False
        Whether an existing target may be replaced.

    Raises
    ------
    FileError
        If the target cannot be written: it exists, the disk is full, ... Nothing is left behind.
    """
    target = Path(target)
    check_target(target, source, force=force)
    weights = target.suffix in WRITERS
    if not weights:
        _check_names(data, target)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        if weights:
            write_source(data, part, target.suffix)
        else:
            engine = "zarr" if _is_zarr_name(target) else "h5netcdf"
            _write_arviz(data, part, engine, _listed(source), changed)
        _sync(part)
        _rename(part, target)
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise FileError(f"{target}: could not be written: {_first_line(error)}") from error
    finally:
        _remove(part)


def _write_arviz(
    data: Any, part: Path, engine: str, sources: Sequence[Path], changed: Sequence[str] | None
) -> None:
    """Write netCDF or Zarr: a copy of a source of the same kind, or anew."""
    if sources and changed is None:
        changed = relabelled(data)
    tree = data.to_datatree() if is_inference_data(data) else data
    alike = len(sources) == 1 and kind_of(sources[0]) == _NAMES[engine]
    with _quiet_zarr():
        if not alike:
            _write_anew(tree, part, engine)
        elif engine == "zarr":
            _copy_zarr(_parts(tree, changed or ()), sources[0], part)
        else:
            _copy_hdf5(_parts(tree, changed or ()), sources[0], part)


def _check_names(data: Any, target: Path) -> None:
    """Refuse names that neither format can hold."""
    for group, dataset in unpack(data).items():
        wrong = [str(name) for name in (*dataset.variables, *dataset.dims) if "/" in str(name)]
        if wrong:
            raise FileError(
                f"{target}: the group {group} has the name {wrong[0]!r}, and a file cannot hold "
                "names with '/'; rename it, as in data.rename({old: old.replace('/', '.')})"
            )


def _is_zarr_name(path: Path) -> bool:
    return path.suffix == ".zarr"


@dataclass(frozen=True)
class _Parts:
    """What differs from the source: relabelled arrays by their place, and our own datasets.

    The draws of a file without groups are at its root, and our variables beside them: `own` then
    has the single key None.
    """

    arrays: dict[str, xr.Variable]
    own: dict[str | None, xr.Dataset]
    flat: bool


def _parts(data: xr.DataTree | xr.Dataset, changed: Sequence[str]) -> _Parts:
    groups = unpack(data)
    flat = isinstance(data, xr.Dataset)
    arrays = {}
    for address in changed:
        group, _, name = address.rpartition("/")
        arrays[name if flat else address] = groups[group][name].variable
    own: dict[str | None, xr.Dataset] = {g: groups[g].drop_encoding() for g in OWN if g in groups}
    if isinstance(data, xr.Dataset) and own:
        own = {None: data[own_variables(data)].reset_coords(drop=True).drop_encoding()}
    return _Parts(arrays, own, flat)


@contextmanager
def _hdf5(part: Path, mode: Literal["r+", "w"]) -> Iterator[Any]:
    """Open an HDF5 file for h5py and h5netcdf; it is changed in memory, and written at the end.

    HDF5 cannot give up a file that it failed to write: it tries again as it is closed, and once
    more as the process ends, which may crash. So it never writes to the disk itself.
    """
    import h5py

    with h5py.File(part, mode, driver="core", backing_store=False, track_order=True) as file:
        yield file
        file.flush()
        image = file.id.get_file_image()
    part.write_bytes(image)


def _write_group(file: Any, group: str | None, dataset: xr.Dataset) -> None:
    """Write a dataset into one group of an open HDF5 file."""
    import h5netcdf

    with h5netcdf.File(file, "r+") as netcdf:
        store = H5NetCDFStore(netcdf, group=group or "/", mode="r+")
        dataset.compute().dump_to_store(store)


def _copy_hdf5(parts: _Parts, source: Path, part: Path) -> None:
    """Copy the file, then replace values in the copy."""
    shutil.copyfile(source, part)
    with _hdf5(part, "r+") as file:
        if parts.flat:
            _clear_root(file)
        for name in [name for name in OWN if name in file]:
            del file[name]
        for place, variable in parts.arrays.items():
            _replace(file[place], variable, place)
        for group, dataset in parts.own.items():
            _write_group(file, group, dataset)


def _clear_root(file: Any) -> None:
    """Take the variables of an earlier alignment out of a netCDF file without groups."""
    if "relabel" not in file.attrs:
        return
    for name in [name for name in file if name.startswith(PREFIX)]:
        for axis in file[name].dims:
            for scale in list(axis.values()):
                axis.detach_scale(scale)
        del file[name]
    del file.attrs["relabel"]
    for name in [name for name in file if _is_idle_dimension(file[name])]:
        del file[name]


def _is_idle_dimension(dataset: Any) -> bool:
    """Whether a netCDF dimension has neither a coordinate nor a variable along it."""
    about = dataset.attrs.get("NAME", b"")
    bare = bytes(about).startswith(b"This is a netCDF dimension but not a netCDF variable")
    return bare and "REFERENCE_LIST" not in dataset.attrs


def _copy_zarr(parts: _Parts, source: Path, part: Path) -> None:
    """Copy the store, then replace values in the copy."""
    import zarr

    shutil.copytree(source, part, copy_function=shutil.copyfile)
    for folder in [part, *(path for path in part.rglob("*") if path.is_dir())]:
        folder.chmod(folder.stat().st_mode | stat.S_IRWXU)  # the source may be read-only
    root = zarr.open_group(part, mode="r+", use_consolidated=False)
    version = root.metadata.zarr_format
    if parts.flat and "relabel" in root.attrs:
        for name in [name for name in root.array_keys() if name.startswith(PREFIX)]:
            del root[name]
        del root.attrs["relabel"]
    for name in [name for name in root.group_keys() if name in OWN]:
        del root[name]
    for place, variable in parts.arrays.items():
        _replace(root[place], variable, place)
    for group, dataset in parts.own.items():
        dataset.to_zarr(part, group=group, mode="a", consolidated=False, zarr_format=version)
    if _is_consolidated(part):
        zarr.consolidate_metadata(part, zarr_format=version)


def _replace(stored: Any, variable: xr.Variable, place: str) -> None:
    """Overwrite the values of one stored array, block by block."""
    if stored.shape != variable.shape:
        raise ValueError(f"{place} has the shape {variable.shape}, the file {stored.shape}")
    packed = [key for key in _PACKED if key in stored.attrs]
    if packed:
        raise ValueError(
            f"{place} is stored packed ({', '.join(packed)}), which would lose digits; "
            "save the draws without packing"
        )
    bytes_a_row = max(1, variable.dtype.itemsize * int(np.prod(variable.shape[1:])))
    step = max(1, _BLOCK_BYTES // bytes_a_row)
    for start in range(0, variable.shape[0], step):
        block = encode_cf_variable(variable[start : start + step].load(), name=place)
        stored[start : start + step] = block.values


def _write_anew(data: xr.DataTree | xr.Dataset, part: Path, engine: str) -> None:
    """Write everything, encodings left behind."""
    tree = data if isinstance(data, xr.DataTree) else xr.DataTree(data)
    groups = [(path, node.to_dataset(inherit=False)) for path, node in tree.subtree_with_keys]
    if engine == "zarr":
        plain = {path: dataset.drop_encoding() for path, dataset in groups}
        xr.DataTree.from_dict(plain).to_zarr(part, mode="w", consolidated=False)
        return
    with _hdf5(part, "w") as file:
        for path, dataset in groups:
            _write_group(file, path.strip("."), dataset.drop_encoding())


def _sync(part: Path) -> None:
    """Have the system write out what it holds back, so that errors come now."""
    files = [p for p in part.rglob("*") if p.is_file()] if part.is_dir() else [part]
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _rename(part: Path, target: Path) -> None:
    """Give the finished file its name; an old one is replaced."""
    if not target.is_dir():
        part.replace(target)
        return
    aside = target.with_name(f".{target.name}.{os.getpid()}.old")
    target.replace(aside)
    try:
        part.replace(target)
    except BaseException:
        aside.replace(target)
        raise
    _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
