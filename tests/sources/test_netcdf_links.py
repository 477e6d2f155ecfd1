"""What a netCDF file keeps elsewhere: never written to, read outside its folder only when asked."""

import contextlib

import h5py
import numpy as np
import pytest

import relabel
from relabel import FileError

SHAPE = (2, 30, 3)
UNITS = {"k": "permutation"}


def draws():
    rng = np.random.default_rng(0)
    order = np.argsort(rng.random(SHAPE), axis=2)
    return np.take_along_axis(np.array([0.0, 5, 10]) + 0.1 * rng.normal(size=SHAPE), order, 2)


def with_scales(group):
    for name, size in zip(("chain", "draw", "k"), SHAPE, strict=True):
        group.create_dataset(name, data=np.arange(size)).make_scale(name)


def attached(group, dataset):
    for axis, name in enumerate(("chain", "draw", "k")):
        dataset.dims[axis].attach_scale(group[name])


def stored(path, values):
    """A file that holds everything itself."""
    with h5py.File(path, "w") as file:
        group = file.create_group("posterior")
        with_scales(group)
        attached(group, group.create_dataset("mu", data=values))


def external(folder, inner, name):
    raw = inner / "mu.raw"
    draws().tofile(raw)
    with h5py.File(folder / "in.nc", "w") as file:
        group = file.create_group("posterior")
        with_scales(group)
        place = [(name(raw), 0, draws().nbytes)]
        attached(group, group.create_dataset("mu", SHAPE, "f8", external=place))
    return [raw]


def virtual(folder, inner, name):
    layout = h5py.VirtualLayout(SHAPE, "f8")
    paths = [inner / f"chain{chain}.h5" for chain in range(2)]
    for chain, path in enumerate(paths):
        with h5py.File(path, "w") as file:
            file["mu"] = draws()[chain]
        layout[chain] = h5py.VirtualSource(name(path), "mu", SHAPE[1:])
    with h5py.File(folder / "in.nc", "w") as file:
        group = file.create_group("posterior")
        with_scales(group)
        group.create_virtual_dataset("mu", layout, fillvalue=np.nan)
        attached(group, group["mu"])
    return paths


def linked(folder, inner, name):
    stored(inner / "store.h5", draws())
    with h5py.File(folder / "in.nc", "w") as file:
        with_scales(file.create_group("posterior"))
        file["posterior/mu"] = h5py.ExternalLink(name(inner / "store.h5"), "/posterior/mu")
    return [inner / "store.h5"]


def linked_group(folder, inner, name):
    stored(inner / "store.h5", draws())
    with h5py.File(folder / "in.nc", "w") as file:
        file["posterior"] = h5py.ExternalLink(name(inner / "store.h5"), "/posterior")
    return [inner / "store.h5"]


KINDS = [external, virtual, linked, linked_group]


def bytes_of(paths):
    return [path.read_bytes() for path in paths]


def aligned(folder, **options):
    """Align the file of a folder into another one; return the values of the result."""
    source, target = folder / "in.nc", folder / "out.nc"
    before = relabel.open_draws(source, **options)
    result = relabel.align(before, UNITS)
    relabel.save(result, target, source=source)
    with h5py.File(target) as file:
        found = file["posterior/mu"]
        assert not found.external
        assert not found.is_virtual
        return found[...]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_kept_elsewhere_is_never_written_to(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept = kind(tmp_path, tmp_path, str)
    before = bytes_of([*kept, tmp_path / "in.nc"])
    try:
        values = aligned(tmp_path)
    except FileError:  # HDF5 cannot read every one of these: then it is refused
        assert not (tmp_path / "out.nc").exists()
    else:
        np.testing.assert_array_equal(np.sort(values, axis=2), np.sort(draws(), axis=2))
        assert (np.ptp(values, axis=(0, 1)) < 2).all()
    assert bytes_of([*kept, tmp_path / "in.nc"]) == before


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_outside_the_folder_is_not_read_unasked(kind, tmp_path):
    folder, inner = tmp_path / "folder", tmp_path / "elsewhere"
    folder.mkdir()
    inner.mkdir()
    kept = kind(folder, inner, str)
    before = bytes_of(kept)
    with pytest.raises(FileError, match=r"outside the folder of the file.*--follow-links"):
        relabel.open_draws(folder / "in.nc")
    if kind is not linked_group:
        values = aligned(folder, follow_links=True)
        np.testing.assert_array_equal(np.sort(values, axis=2), np.sort(draws(), axis=2))
    assert bytes_of(kept) == before


def test_a_symbolic_link_out_of_the_folder_is_outside(tmp_path):
    folder, inner = tmp_path / "folder", tmp_path / "elsewhere"
    folder.mkdir()
    inner.mkdir()
    stored(inner / "store.h5", draws())
    (folder / "store.h5").symlink_to(inner / "store.h5")
    with h5py.File(folder / "in.nc", "w") as file:
        with_scales(file.create_group("posterior"))
        file["posterior/mu"] = h5py.ExternalLink("store.h5", "/posterior/mu")
    with pytest.raises(FileError, match="outside the folder"):
        relabel.open_draws(folder / "in.nc")


@pytest.mark.parametrize("link", ["hard", "soft"])
def test_a_second_name_keeps_its_values(link, tmp_path):
    stored(tmp_path / "in.nc", draws())
    with h5py.File(tmp_path / "in.nc", "r+") as file:
        file["posterior/mu_start"] = (
            file["posterior/mu"] if link == "hard" else h5py.SoftLink("/posterior/mu")
        )
    spec = relabel.Spec(UNITS, {"mu": "k", "mu_start": "..."})
    result = relabel.align(relabel.open_draws(tmp_path / "in.nc"), spec)
    relabel.save(result, tmp_path / "out.nc", source=tmp_path / "in.nc")
    with h5py.File(tmp_path / "out.nc") as file:
        np.testing.assert_array_equal(file["posterior/mu_start"], draws())
        np.testing.assert_array_equal(file["posterior/mu"], result["posterior/mu"])


def test_links_to_nothing_are_passed_over(tmp_path):
    stored(tmp_path / "in.nc", draws())
    with h5py.File(tmp_path / "in.nc", "r+") as file:
        file["other_run"] = h5py.ExternalLink("not_here.h5", "/posterior")
        file["nowhere"] = h5py.SoftLink("/not/here")
    values = aligned(tmp_path)
    assert (np.ptp(values, axis=(0, 1)) < 2).all()


def test_a_group_that_holds_the_root_is_refused_or_passed_over(tmp_path):
    stored(tmp_path / "in.nc", draws())
    with h5py.File(tmp_path / "in.nc", "r+") as file:
        file["posterior/self"] = file["/"]
    with contextlib.suppress(FileError):
        aligned(tmp_path)


@pytest.mark.parametrize("depth", [300, 10_000])
def test_groups_nested_deeply_are_no_hang(depth, tmp_path):
    stored(tmp_path / "in.nc", draws())
    with h5py.File(tmp_path / "in.nc", "r+") as file:
        group = file.create_group("deep").id
        for _ in range(depth):
            group = h5py.h5g.create(group, b"g")
    with contextlib.suppress(FileError):
        relabel.open_draws(tmp_path / "in.nc")


def test_damage_beside_the_posterior_is_named(tmp_path):
    stored(tmp_path / "in.nc", draws())
    with h5py.File(tmp_path / "in.nc", "r+") as file:
        group = file.create_group("constant_data")
        group.create_dataset("x", data=np.arange(50)).make_scale("x")
        packed = group.create_dataset("X", data=np.arange(50.0), chunks=(50,), compression="gzip")
        packed.dims[0].attach_scale(group["x"])
        offset = packed.id.get_chunk_info(0).byte_offset
    with (tmp_path / "in.nc").open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 20)
    opened = relabel.open_draws(tmp_path / "in.nc")
    with pytest.raises(FileError, match=r"in\.nc: .*constant_data/X cannot be read"):
        relabel.save(opened, tmp_path / "out.zarr")
    assert not (tmp_path / "out.zarr").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["in.nc"]
