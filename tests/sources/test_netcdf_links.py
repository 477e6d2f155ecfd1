"""HDF5 files that are more than one file, or have several names for one thing."""

import hashlib
import os
import time

import h5py
import numpy as np
import pytest
from files import run, small_tree, write

import relabel
from relabel import FileError

DIMS = ("chain", "draw", "k")
SPEC = {"k": "permutation"}


def values(seed=0, draws=30):
    rng = np.random.default_rng(seed)
    order = np.array([[rng.permutation(3) for _ in range(draws)] for _ in range(2)])
    mu = np.array([0.0, 5, 10]) + 0.1 * rng.normal(size=(2, draws, 3))
    return np.take_along_axis(mu, order, 2)


MU = values()


def scaled(group, dims=DIMS, shape=MU.shape):
    """Dimension scales in a group."""
    for name, size in zip(dims, shape, strict=True):
        if name not in group:
            group.create_dataset(name, data=np.arange(size)).make_scale(name)


def attach(dataset, group, dims=DIMS):
    for i, name in enumerate(dims):
        dataset.dims[i].attach_scale(group[name])


def posterior(file, name="posterior", mu=MU, track_order=True):
    """A group with dimension scales and, unless it is None, a variable along them."""
    group = file.create_group(name, track_order=track_order)
    scaled(group)
    if mu is not None:
        attach(group.create_dataset("mu", data=mu, fillvalue=-5.0), group)
        group["mu"].attrs["units"] = "größer"
    return group


def virtual(group, name, names, source="mu", **options):
    layout = h5py.VirtualLayout(shape=MU.shape, dtype="f8")
    for chain, path in enumerate(names):
        layout[chain] = h5py.VirtualSource(path, source, shape=MU.shape[1:], **options)
    attach(group.create_virtual_dataset(name, layout, fillvalue=np.nan), group)


def chains(folder, stem="chain"):
    paths = [folder / f"{stem}{c}.h5" for c in range(2)]
    for chain, path in enumerate(paths):
        with h5py.File(path, "w") as file:
            file["mu"] = MU[chain]
    return paths


def external(folder, path):
    MU.tofile(folder / "mu.raw")
    with h5py.File(path, "w") as file:
        group = posterior(file, mu=None)
        stored = [(str(folder / "mu.raw"), 0, MU.nbytes)]
        attach(group.create_dataset("mu", shape=MU.shape, dtype="f8", external=stored), group)


def external_beside(folder, path):
    other = MU + 7
    other.tofile(folder / "mu.raw")
    with h5py.File(path, "w") as file:
        group = posterior(file)
        stored = [(str(folder / "mu.raw"), 0, MU.nbytes)]
        attach(group.create_dataset("other", shape=MU.shape, dtype="f8", external=stored), group)


def external_coordinate(folder, path):
    np.arange(30.0).tofile(folder / "draw.raw")
    with h5py.File(path, "w") as file:
        group = file.create_group("posterior")
        stored = [(str(folder / "draw.raw"), 0, 240)]
        group.create_dataset("draw", shape=(30,), dtype="f8", external=stored).make_scale("draw")
        scaled(group)
        attach(group.create_dataset("mu", data=MU), group)


def virtual_absolute(folder, path):
    with h5py.File(path, "w") as file:
        virtual(posterior(file, mu=None), "mu", map(str, chains(folder)))


def virtual_relative(folder, path):
    with h5py.File(path, "w") as file:
        virtual(posterior(file, mu=None), "mu", [p.name for p in chains(folder)])


def virtual_of_the_same_file(folder, path):
    with h5py.File(path, "w") as file:
        for chain in range(2):
            file[f"parts/mu{chain}"] = MU[chain]
        group = posterior(file, mu=None)
        layout = h5py.VirtualLayout(shape=MU.shape, dtype="f8")
        for chain in range(2):
            layout[chain] = h5py.VirtualSource(".", f"parts/mu{chain}", shape=MU.shape[1:])
        attach(group.create_virtual_dataset("mu", layout), group)


def virtual_blocks(folder, path):
    """One file a chain, whose names are counted: ``%b``."""
    for chain in range(2):
        with h5py.File(folder / f"part{chain}.h5", "w") as file:
            file["mu"] = MU[chain : chain + 1]
    with h5py.File(path, "w") as file:
        group = posterior(file, mu=None)
        space = h5py.h5s.create_simple(MU.shape, (h5py.h5s.UNLIMITED, *MU.shape[1:]))
        count = (h5py.h5s.UNLIMITED, 1, 1)
        space.select_hyperslab((0, 0, 0), count, stride=(1, 1, 1), block=(1, *MU.shape[1:]))
        stored = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        part = h5py.h5s.create_simple((1, *MU.shape[1:]))
        stored.set_virtual(space, b"part%b.h5", b"mu", part)
        kind = h5py.h5t.NATIVE_DOUBLE
        full = h5py.h5s.create_simple(MU.shape, (h5py.h5s.UNLIMITED, *MU.shape[1:]))
        made = h5py.Dataset(h5py.h5d.create(group.id, b"mu", kind, full, stored))
        attach(made, group)


def linked_group(folder, path):
    with h5py.File(folder / "store.h5", "w") as file:
        posterior(file)
    with h5py.File(path, "w") as file:
        file["posterior"] = h5py.ExternalLink("store.h5", "/posterior")


def linked_variable(folder, path):
    with h5py.File(folder / "store.h5", "w") as file:
        file["padding"] = np.arange(1000)  # addresses differ from those of the first file
        posterior(file)
    with h5py.File(path, "w") as file:
        posterior(file, mu=None)["mu"] = h5py.ExternalLink("store.h5", "/posterior/mu")


def linked_twice(folder, path):
    linked_group(folder, folder / "middle.h5")
    with h5py.File(path, "w") as file:
        file["posterior"] = h5py.ExternalLink("middle.h5", "/posterior")


def linked_beside(folder, path):
    with h5py.File(folder / "store.h5", "w") as file:
        posterior(file, "start", MU + 7)
    with h5py.File(path, "w") as file:
        posterior(file)
        file["other"] = h5py.ExternalLink("store.h5", "/start")


def two_names(folder, path):
    with h5py.File(path, "w") as file:
        group = posterior(file)
        group["other"] = group["mu"]


def two_names_declared_second(folder, path):
    with h5py.File(path, "w") as file:
        group = posterior(file, track_order=False)
        group["a_first"] = group["mu"]


def soft(folder, path):
    with h5py.File(path, "w") as file:
        posterior(file)["other"] = h5py.SoftLink("/posterior/mu")


def soft_declared(folder, path):
    with h5py.File(path, "w") as file:
        posterior(file, "all")
        file["posterior"] = h5py.SoftLink("/all")


def two_names_of_a_group(folder, path):
    with h5py.File(path, "w") as file:
        posterior(file)
        file["zstart"] = file["posterior"]


KINDS = [
    external,
    external_beside,
    external_coordinate,
    virtual_absolute,
    virtual_relative,
    virtual_of_the_same_file,
    virtual_blocks,
    linked_group,
    linked_variable,
    linked_twice,
    linked_beside,
    two_names,
    two_names_declared_second,
    soft,
    soft_declared,
    two_names_of_a_group,
]


def hashes(folder):
    return {p.name: hashlib.sha1(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def everything(path):
    """Values and dimensions of all datasets, by all names, as h5py reads them."""
    found = {}

    def look(group, prefix):
        for name in group:
            item = group[name]
            if isinstance(item, h5py.Group):
                look(item, f"{prefix}{name}/")
            else:
                dims = [d[0].name.split("/")[-1] if len(d) else "" for d in item.dims]
                found[prefix + name] = (item[()], dims, dict(item.attrs.items()).keys())

    with h5py.File(path, "r") as file:
        look(file, "")
    return found


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_the_copy_holds_all_values_and_the_source_is_not_touched(make, tmp_path):
    (tmp_path / "in").mkdir()
    source, target = tmp_path / "in" / "in.nc", tmp_path / "out.nc"
    make(tmp_path / "in", source)
    before, contents = hashes(tmp_path / "in"), everything(source)
    draws = relabel.open_draws(source)
    expected = relabel.align(draws, SPEC)
    relabel.save(expected, target, source=source, changed=["posterior/mu"])
    assert hashes(tmp_path / "in") == before
    (tmp_path / "in").rename(tmp_path / "moved")  # nothing of the copy lies there
    written = {n: v for n, v in everything(target).items() if not n.startswith("relabel/")}
    assert set(written) == set(contents)
    for name, (array, dims, attributes) in contents.items():
        if name == "posterior/mu":
            np.testing.assert_array_equal(written[name][0], expected["posterior"]["mu"].values)
            assert not np.array_equal(written[name][0], array)
        else:
            np.testing.assert_array_equal(written[name][0], array, err_msg=name)
        assert written[name][1] == dims, name
        assert set(written[name][2]) - {"REFERENCE_LIST"} == set(attributes) - {"REFERENCE_LIST"}
    again = relabel.open_draws(target)
    assert again["posterior"]["mu"].dims == DIMS
    for name, variable in draws["posterior"].variables.items():
        assert name == "mu" or again["posterior"].variables[name].equals(variable), name


def test_both_names_of_a_dataset_are_relabelled_where_both_are_declared(tmp_path):
    two_names(tmp_path, tmp_path / "in.nc")
    draws = relabel.open_draws(tmp_path / "in.nc")
    aligned = relabel.align(draws, SPEC)
    relabel.save(aligned, tmp_path / "out.nc", source=tmp_path / "in.nc")
    with h5py.File(tmp_path / "out.nc") as file:
        np.testing.assert_array_equal(file["posterior/mu"], aligned["posterior"]["mu"])
        np.testing.assert_array_equal(file["posterior/other"], aligned["posterior"]["other"])


def test_undo_of_a_copy_gives_the_values_back(tmp_path):
    linked_variable(tmp_path, tmp_path / "in.nc")
    aligned = relabel.align(relabel.open_draws(tmp_path / "in.nc"), SPEC)
    relabel.save(aligned, tmp_path / "out.nc", source=tmp_path / "in.nc")
    undone = relabel.undo(relabel.open_draws(tmp_path / "out.nc"))
    np.testing.assert_array_equal(undone["posterior"]["mu"], MU)


# ---------------------------------------------------------------------- outside the folder


def outside(make, tmp_path):
    """A file whose other files lie in another folder; links are absolute."""
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").mkdir()
    source = tmp_path / "in" / "in.nc"
    make(tmp_path / "secret", source)
    return source


def linked_absolute(folder, path):
    with h5py.File(folder / "store.h5", "w") as file:
        posterior(file)
    with h5py.File(path, "w") as file:
        file["posterior"] = h5py.ExternalLink(str(folder / "store.h5"), "/posterior")


def linked_upwards(folder, path):
    linked_absolute(folder, path)
    with h5py.File(path, "w") as file:
        file["posterior"] = h5py.ExternalLink("../secret/store.h5", "/posterior")


def linked_by_a_symlink(folder, path):
    linked_absolute(folder, path)
    (path.parent / "store.h5").symlink_to(folder / "store.h5")
    with h5py.File(path, "w") as file:
        file["posterior"] = h5py.ExternalLink("store.h5", "/posterior")


def linked_by_an_inner_file(folder, path):
    linked_absolute(folder, path.parent / "middle.h5")
    with h5py.File(path, "w") as file:
        file["posterior"] = h5py.ExternalLink("middle.h5", "/posterior")


def linked_undeclared(folder, path):
    linked_absolute(folder, path)
    with h5py.File(path, "w") as file:
        posterior(file)
        file["posterior/other"] = h5py.ExternalLink(str(folder / "store.h5"), "/posterior/mu")


def virtual_blocks_outside(folder, path):
    virtual_blocks(folder, path)
    for part in folder.iterdir():
        (path.parent / part.name).symlink_to(part)


OUTSIDE = [
    external,
    external_beside,
    external_coordinate,
    virtual_absolute,
    virtual_blocks_outside,
    linked_absolute,
    linked_upwards,
    linked_by_a_symlink,
    linked_by_an_inner_file,
    linked_undeclared,
]


@pytest.mark.parametrize("make", OUTSIDE, ids=lambda make: make.__name__)
def test_nothing_outside_the_folder_is_read_unasked(make, tmp_path):
    source = outside(make, tmp_path)
    before = hashes(tmp_path / "secret")
    with pytest.raises(FileError, match=r"outside the folder of the file.*--follow-links") as told:
        relabel.open_draws(source)
    assert "\n" not in str(told.value)
    draws = relabel.open_draws(source, follow_links=True)
    relabel.save(relabel.align(draws, SPEC), tmp_path / "out.nc", source=source)
    assert hashes(tmp_path / "secret") == before
    with h5py.File(tmp_path / "out.nc") as file:
        assert "posterior/mu" in file
    relabel.open_draws(tmp_path / "out.nc").load()


@pytest.mark.parametrize("variable", ["HDF5_EXT_PREFIX", "HDF5_VDS_PREFIX", "HDF5_EXTFILE_PREFIX"])
def test_folders_that_the_environment_names_are_outside(variable, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").mkdir()
    make = {
        "HDF5_EXT_PREFIX": linked_group,
        "HDF5_VDS_PREFIX": virtual_relative,
        "HDF5_EXTFILE_PREFIX": external,
    }[variable]
    source = tmp_path / "in" / "in.nc"
    make(tmp_path / "secret", source)
    if make is external:
        with h5py.File(source, "w") as file:
            group = posterior(file, mu=None)
            stored = [("mu.raw", 0, MU.nbytes)]
            attach(group.create_dataset("mu", shape=MU.shape, dtype="f8", external=stored), group)
    os.environ[variable] = str(tmp_path / "secret")
    try:
        with pytest.raises(FileError, match="outside the folder"):
            relabel.open_draws(source)
    finally:
        del os.environ[variable]


@pytest.mark.parametrize("make", [linked_group, virtual_relative, external])
def test_pipes_are_not_opened(make, tmp_path):
    source = tmp_path / "in.nc"
    make(tmp_path, source)
    for path in tmp_path.iterdir():
        if path != source:
            path.unlink()
            os.mkfifo(path)
    start = time.monotonic()
    with pytest.raises(FileError, match="which is not an ordinary file"):
        relabel.open_draws(source)
    assert time.monotonic() - start < 5


def test_a_pipe_outside_is_not_opened(tmp_path):
    source = outside(linked_absolute, tmp_path)
    (tmp_path / "secret" / "store.h5").unlink()
    os.mkfifo(tmp_path / "secret" / "store.h5")
    with pytest.raises(FileError, match="outside the folder"):
        relabel.open_draws(source)


def test_the_command_asks(tmp_path):
    source = outside(linked_absolute, tmp_path)
    arguments = ["align", source, "-o", tmp_path / "out.nc", "--units", "k=permutation"]
    refused = run(*arguments)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "--follow-links" in refused.stderr
    assert run(*arguments, "--follow-links").returncode == 0
    (tmp_path / "other.nc").write_bytes(b"")
    assert run("undo", tmp_path / "out.nc", "-o", tmp_path / "back.nc").returncode == 0


def test_other_kinds_of_files_have_no_links(tmp_path):
    np.savez(tmp_path / "draws.npz", mu=MU)
    with pytest.raises(relabel.RelabelError, match=r"follow_links=True is for netCDF"):
        relabel.open_draws(tmp_path / "draws.npz", follow_links=True)


# ---------------------------------------------------------------------- what is not there


@pytest.mark.parametrize("make", [external, virtual_absolute, virtual_relative])
@pytest.mark.parametrize("declared", [True, False])
def test_values_whose_file_is_gone_are_named(make, declared, tmp_path):
    source = tmp_path / "in.nc"
    make(tmp_path, source)
    for path in tmp_path.iterdir():
        if path != source:
            path.unlink()
    with h5py.File(source, "r+") as file:
        if not declared:
            file["posterior"].move("mu", "other")
            attach(file["posterior"].create_dataset("mu", data=MU), file["posterior"])
    draws = relabel.open_draws(source)
    with pytest.raises(FileError, match=r"in\.nc: posterior/(mu|other) is kept in .*not there"):
        relabel.save(relabel.align(draws, SPEC), tmp_path / "out.nc", source=source)
    assert not (tmp_path / "out.nc").exists()


def dangling(file):
    file["soft"] = h5py.SoftLink("/nowhere")
    file["hard"] = h5py.ExternalLink("not_here.h5", "/posterior")
    file["absolute"] = h5py.ExternalLink("/not/here.h5", "/posterior")
    file["posterior/round"] = h5py.SoftLink("/posterior/round")


def test_dangling_links_are_left_alone(tmp_path):
    source = write(small_tree(), tmp_path / "in.nc")
    with h5py.File(source, "r+") as file:
        dangling(file)
    draws = relabel.open_draws(source)
    assert "soft" not in draws.groups
    aligned = relabel.align(draws, relabel.mlp(1, "tanh"))
    relabel.save(aligned, tmp_path / "out.nc", source=source)
    with h5py.File(tmp_path / "out.nc") as file:
        assert file.get("soft", getlink=True).path == "/nowhere"
        assert file.get("hard", getlink=True).filename == "not_here.h5"
    relabel.undo(relabel.open_draws(tmp_path / "out.nc"))
    assert run("inspect", source).returncode == 0


def nested(file, depth):
    group = file.id
    for _ in range(depth):
        group = h5py.h5g.create(group, b"g")


def loop(file):
    file["posterior/all"] = file["/"]


def soft_loop(file):
    file["posterior/all"] = h5py.SoftLink("/")


def loop_of_two(file):
    file["a/b/c"] = np.arange(3)
    file["a/b/d"] = file["a"]


def doubling(file):
    group = file.create_group("d")
    for _ in range(40):
        inner = group.create_group("a")
        group["b"] = inner
        group = inner


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda file: nested(file, 300), "more than 64 deep"),
        (lambda file: nested(file, 10_000), "more than 64 deep"),
        (loop, "posterior/all leads back to"),
        (soft_loop, "posterior/all leads back to"),
        (loop_of_two, "leads back to"),
        (doubling, "more than 20000 names"),
    ],
)
def test_groups_without_an_end(make, message, tmp_path):
    source = write(small_tree(), tmp_path / "in.nc")
    with h5py.File(source, "r+") as file:
        make(file)
    start = time.monotonic()
    with pytest.raises(FileError, match=message) as told:
        relabel.open_draws(source)
    assert time.monotonic() - start < 3
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 400


# ---------------------------------------------------------------------- references


def test_references_to_what_is_written_anew_are_refused(tmp_path):
    source = tmp_path / "in.nc"
    external(tmp_path, source)
    with h5py.File(source, "r+") as file:
        reference = np.array(file["posterior/mu"].ref, dtype=h5py.ref_dtype)
        file.create_dataset("extra/to", data=reference)
    draws = relabel.open_draws(source)
    with pytest.raises(FileError, match=r"extra/to refers \(its values\).*h5repack"):
        relabel.save(relabel.align(draws, SPEC), tmp_path / "out.nc", source=source)


def test_references_within_another_file_are_refused(tmp_path):
    source = tmp_path / "in.nc"
    linked_group(tmp_path, source)
    with h5py.File(tmp_path / "store.h5", "r+") as file:
        reference = np.array(file["posterior/mu"].ref, dtype=h5py.ref_dtype)
        file["posterior"].create_dataset("to", data=reference)
    draws = relabel.open_draws(source)
    with pytest.raises(FileError, match="posterior/to is in another file"):
        relabel.save(relabel.align(draws, SPEC), tmp_path / "out.nc", source=source)


def test_backends_of_emcee_are_not_read_from_outside(tmp_path):
    (tmp_path / "in").mkdir()
    np.zeros((5, 4, 2)).tofile(tmp_path / "chain.raw")
    source = tmp_path / "in" / "backend.h5"
    with h5py.File(source, "w") as file:
        group = file.create_group("mcmc")
        group.attrs.update({"nwalkers": 4, "ndim": 2, "iteration": 5})
        stored = [(str(tmp_path / "chain.raw"), 0, 5 * 4 * 2 * 8)]
        group.create_dataset("chain", shape=(5, 4, 2), dtype="f8", external=stored)
        group["log_prob"] = np.zeros((5, 4))
    with pytest.raises(FileError, match=r"mcmc/chain is kept in .* outside the folder"):
        relabel.open_draws(source)
