"""Files and objects that hold weights, read and written without any framework."""

import json
import pickle
import re
import sys
import zipfile
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from files import RECORDED

import relabel
from relabel import DataError, FileError, RelabelError
from relabel.cli import app as cli
from relabel.data.provenance import Provenance
from relabel.sources import (
    from_dict,
    from_flax,
    from_npy,
    from_npz,
    from_pytree,
    from_safetensors,
    from_torch,
    ravel,
    to_dict,
    to_pytree,
    to_torch,
    unravel,
)
from relabel.sources.kinds import source_of
from relabel.sources.members import from_members, members_of, split_members

DATA = RECORDED / "sources"
NAMES = ("0.weight", "0.bias", "2.weight", "2.bias")
SPEC = relabel.mlp(
    1, "tanh", weight=NAMES[::2], bias=NAMES[1::2], naming="torch"
)  # signed permutations, so all is exact


class Trap:
    """What runs code when its pickle is loaded."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return Path.touch, (self.place,)


@pytest.fixture
def trap(tmp_path):
    """A trap, which must not have gone off in the end."""
    place = tmp_path / "code_was_run"
    yield Trap(place)
    assert not place.exists()
    pickle.loads(pickle.dumps(Trap(place)))
    assert place.exists()


@pytest.fixture
def no_jax(monkeypatch):
    monkeypatch.delitem(sys.modules, "jax", raising=False)


def stacked():
    with np.load(DATA / "stacked.npz") as archive:
        return dict(archive)


def members(n=4):
    return [{name: array[i] for name, array in stacked().items()} for i in range(n)]


def arrays_of(tree):
    return {name: variable.values for name, variable in tree["posterior"].data_vars.items()}


def same(found, expected):
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def draws(tree):
    """The draws of one chain, by their names in the source."""
    return {name: array[0] for name, array in arrays_of(tree).items()}


# ---------------------------------------------------------------------- what the libraries wrote


@pytest.mark.parametrize("name", ["ensemble.safetensors", "stacked.safetensors", "stacked.npz"])
def test_recorded_files(name):
    sample_dims = None if name.startswith("ensemble") else "draw"
    tree = relabel.open_draws(DATA / name, sample_dims=sample_dims)
    same(draws(tree), stacked())
    aligned = relabel.align(tree, SPEC)
    assert float(aligned["relabel/loss"].sum()) < 0.1
    same(arrays_of(relabel.undo(aligned)), arrays_of(tree))


def test_a_recorded_msgpack():
    pytest.importorskip("msgpack")
    tree = relabel.open_draws(DATA / "ensemble.msgpack")
    found = draws(tree)
    np.testing.assert_array_equal(
        found["params.Dense_0.kernel"], stacked()["0.weight"].swapaxes(1, 2)
    )
    assert list(tree["posterior"].coords["member"].values[0]) == ["0", "1", "2", "3"]
    assert tree["posterior/params.Dense_0.kernel"].attrs["source_name"] == "params/Dense_0/kernel"


@pytest.mark.parametrize("name", ["ensemble.safetensors", "ensemble.msgpack"])
def test_the_way_back_gives_the_same_bytes(name, tmp_path):
    if name.endswith("msgpack"):
        pytest.importorskip("msgpack")
    tree = relabel.open_draws(DATA / name)
    spec = SPEC if "0.weight" in tree["posterior"] else flax_spec()
    undone = relabel.undo(relabel.align(tree, spec))
    relabel.save(undone, tmp_path / name, source=DATA / name)
    assert (tmp_path / name).read_bytes() == (DATA / name).read_bytes()


def flax_spec():
    layers = ("params.Dense_0", "params.Dense_1")
    return relabel.mlp(
        1, "tanh", weight=[f"{n}.kernel" for n in layers], bias=[f"{n}.bias" for n in layers]
    )


def test_twenty_networks_go_through_unchanged(tmp_path):
    path = DATA / "ensemble_10-64-64-1.safetensors"
    tree = relabel.open_draws(path)
    assert dict(tree["posterior"].sizes)["draw"] == 20
    assert tree["posterior"].attrs["metadata"] == '{"arch": "10-64-64-1 relu", "n_members": "20"}'
    relabel.save(tree, tmp_path / "back.safetensors", source=path)
    assert (tmp_path / "back.safetensors").read_bytes() == path.read_bytes()


def test_an_aligned_file_holds_the_aligned_values(tmp_path):
    aligned = relabel.align(relabel.open_draws(DATA / "ensemble.safetensors"), SPEC)
    for suffix in (".safetensors", ".npz", ".nc", ".zarr"):
        target = tmp_path / f"aligned{suffix}"
        relabel.save(aligned, target, source=DATA / "ensemble.safetensors")
        tree = relabel.open_draws(target)
        same(arrays_of(tree), arrays_of(aligned))
        same({f"{n}": a for n, a in members_of(tree)[3].items()}, members_of(aligned)[3])


def test_stacked_arrays_go_back_stacked(tmp_path):
    for name in ("stacked.safetensors", "stacked.npz"):
        tree = relabel.open_draws(DATA / name, sample_dims="draw")
        relabel.save(tree, tmp_path / name)
        same(draws(relabel.open_draws(tmp_path / name, sample_dims="draw")), stacked())
    written = (tmp_path / "stacked.safetensors").read_bytes()
    assert written == (DATA / "stacked.safetensors").read_bytes()


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("spec.toml").write_text(SPEC.to_toml())
    argv = ["relabel", "align", DATA / "ensemble.safetensors", "-o", "out.safetensors"]
    monkeypatch.setattr(sys, "argv", [*map(str, argv), "--spec", "spec.toml"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    assert "wrote out.safetensors" in capsys.readouterr().out
    aligned = relabel.align(relabel.open_draws(DATA / "ensemble.safetensors"), SPEC)
    same(arrays_of(relabel.open_draws("out.safetensors")), arrays_of(aligned))


# ---------------------------------------------------------------------- members, one file each


def write_members(folder, suffix, numbers=(0, 1, 2, 10), change=lambda i, member: member):
    """One file for each member; the number is also in the values."""
    folder.mkdir(exist_ok=True)
    paths = []
    for i in numbers:
        member = change(i, {"w": np.full((2, 3), float(i)), "n": np.int64(i)})
        path = folder / f"member_{i}{suffix}"
        if suffix == ".npz":
            np.savez(path, **member)
        else:
            write_safetensors(path, member)
        paths.append(path)
    return paths


def write_safetensors(path, arrays, dtypes=(), length=None):
    names = {"float64": "F64", "float32": "F32", "int64": "I64", "float16": "F16", "uint16": "BF16"}
    header, data = {}, b""
    for name, array in arrays.items():
        content = np.asarray(array).tobytes()
        places = [len(data), len(data) + len(content)]
        dtype = dict(dtypes).get(name) or names[str(array.dtype)]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": places}
        data += content
    text = json.dumps(header).encode()
    path.write_bytes((length or len(text)).to_bytes(8, "little") + text + data)
    return path


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_folder_is_read_in_natural_order(suffix, tmp_path):
    write_members(tmp_path / "run", suffix)
    (tmp_path / "run" / ".hidden").write_text("left out")
    tree = relabel.open_draws(tmp_path / "run")
    assert list(draws(tree)["n"]) == [0, 1, 2, 10]
    assert list(tree["posterior"].coords["member"].values[0]) == [
        f"member_{i}" for i in (0, 1, 2, 10)
    ]
    assert draws(tree)["n"].dtype == np.int64


def test_a_list_is_read_in_its_order(tmp_path):
    paths = write_members(tmp_path / "run", ".npz")
    tree = relabel.open_draws([paths[3], paths[0]])
    assert list(draws(tree)["n"]) == [10, 0]
    relabel.save(tree, tmp_path / "one.npz", source=paths)
    assert list(draws(relabel.open_draws(tmp_path / "one.npz"))["n"]) == [10, 0]


def lacking(i, member):
    return {"w": member["w"]} if i == 2 else member


def extra(i, member):
    return {**member, "b": np.zeros(2)} if i == 2 else member


def other_shape(i, member):
    return {**member, "w": np.zeros((2, 4))} if i == 2 else member


def other_dtype(i, member):
    return {**member, "w": member["w"].astype(np.float32)} if i == 2 else member


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lacking, "member 2 lacks 'n', unlike member 0"),
        (extra, "member 2 also has 'b'"),
        (
            other_shape,
            r"'w' is float64 of shape \(2, 3\) in member 0, but float64 of shape \(2, 4\)",
        ),
        (other_dtype, "but float32 of shape .* in member 2: .* of one architecture and precision"),
    ],
)
def test_members_that_differ(change, message, suffix, tmp_path):
    write_members(tmp_path / "run", suffix, change=change)
    with pytest.raises(DataError, match=message):
        relabel.open_draws(tmp_path / "run")


def test_lists_of_files_that_are_no_members(tmp_path):
    paths = write_members(tmp_path / "run", ".npz")
    with pytest.raises(FileError, match=r"member_1.npz: given twice"):
        relabel.open_draws([paths[1], paths[0], tmp_path / "run" / ".." / "run" / "member_1.npz"])
    with pytest.raises(FileError, match="no files"):
        relabel.open_draws([])
    with pytest.raises(FileError, match="no such file"):
        relabel.open_draws([paths[0], tmp_path / "missing.npz"])
    other = write_members(tmp_path / "other", ".safetensors")
    with pytest.raises(
        FileError, match=r"is safetensors, but .*\.npz: members must be of one kind"
    ):
        relabel.open_draws([paths[0], other[0]])
    relabel.save(relabel.open_draws(paths), tmp_path / "draws.nc")
    with pytest.raises(FileError, match="netCDF data are opened one at a time"):
        relabel.open_draws([paths[0], tmp_path / "draws.nc"])
    np.save(tmp_path / "a.npy", np.zeros(3))
    np.save(tmp_path / "b.npy", np.zeros(3))
    with pytest.raises(FileError, match=r"np\.stack"):
        relabel.open_draws([tmp_path / "a.npy", tmp_path / "b.npy"])


def test_folders_that_hold_no_members(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileError, match="no files of draws in it"):
        relabel.open_draws(empty)
    mixed = tmp_path / "mixed"
    write_members(mixed, ".npz")
    write_members(mixed, ".safetensors", numbers=(3,))
    with pytest.raises(FileError, match="members must be of one kind"):
        relabel.open_draws(mixed)
    for name, content in {"notes.txt": b"dear reader", "empty.pt": b""}.items():
        folder = tmp_path / name.partition(".")[0]
        write_members(folder, ".npz")
        (folder / name).write_bytes(content)
        with pytest.raises(
            FileError, match=f"{name}: not a file of weights or draws of a known kind"
        ):
            relabel.open_draws(folder)


# ---------------------------------------------------------------------- names with members in them


@pytest.mark.parametrize("word", ["member_0", "net", "seed-", "model_"])
def test_prefixes(word, tmp_path):
    flat = {f"{word}{i}.{k}": v for i, m in enumerate(members()) for k, v in m.items()}
    np.savez(tmp_path / "all.npz", **flat)
    tree = relabel.open_draws(tmp_path / "all.npz")
    same(draws(tree), stacked())
    relabel.save(tree, tmp_path / "back.npz")
    with np.load(tmp_path / "back.npz") as archive:
        same(dict(archive), flat)
        assert archive.files == list(flat)


def test_layers_are_no_members():
    square = {f"fc{i}.weight": np.zeros((8, 8)) for i in (1, 2)}
    assert split_members(square, "here") is None
    numbers = {"0.weight": np.zeros((8, 8)), "2.weight": np.zeros((8, 8))}
    assert split_members(numbers, "here") is None
    for word in ("cell", "encoderblock_", "self_attn", "ConvBlock_", "rnn", "Expert_"):
        stacked_layers = {f"{word}{i}/kernel": np.zeros((50, 8, 8)) for i in (0, 1)}
        assert split_members(stacked_layers, "here") is None
    different = {"a1.weight": np.zeros((8, 8)), "a2.weight": np.zeros((8, 4))}
    assert split_members(different, "here") is None
    assert split_members({"a1.w": np.zeros(2), "a2.w": np.zeros(2)}, "here") is not None
    assert split_members({"a1.w": np.zeros(2), "b2.w": np.zeros(2)}, "here") is None
    assert split_members({"net1.w": np.zeros(2), "w": np.zeros(2)}, "here") is None


def test_prefixed_members_that_differ(tmp_path):
    flat = {"member_0.w": np.zeros(2), "member_1.w": np.zeros(3)}
    with pytest.raises(DataError, match="in member 1: members must be of one architecture"):
        from_safetensors(write_safetensors(tmp_path / "a.safetensors", flat))
    twice = {"member_1.w": np.zeros(2), "member_01.w": np.zeros(2)}
    with pytest.raises(DataError, match="are the same member twice"):
        from_safetensors(write_safetensors(tmp_path / "b.safetensors", twice))


def test_one_file_without_members_needs_sample_dims(tmp_path):
    path = write_safetensors(tmp_path / "one.safetensors", members()[0])
    with pytest.raises(DataError, match="one member, or are its arrays stacked draws"):
        relabel.open_draws(path)
    one = relabel.open_draws(path, sample_dims="")
    assert one["posterior"].sizes["draw"] == 1
    same({name: array[0] for name, array in draws(one).items()}, members()[0])


# ---------------------------------------------------------------------- damaged and unsafe files


def header_of(entries, tail=b""):
    text = json.dumps(entries).encode() if not isinstance(entries, bytes) else entries
    return len(text).to_bytes(8, "little") + text + tail


W = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


DAMAGED = "cannot be read as safetensors; it is damaged or was cut short"


@pytest.mark.parametrize(
    "content",
    [
        (2**62).to_bytes(8, "little") + b'{"a": 1}',
        b"\xff" * 8 + b"{}",
        header_of({"w": W}, bytes(7)),
        header_of({"w": W}, bytes(9)),
        header_of({"w": {**W, "shape": [3]}}, bytes(8)),
        header_of({"w": {**W, "shape": [-2, -1]}}, bytes(8)),
        header_of({"w": W, "v": W}, bytes(8)),
        header_of({"w": {**W, "data_offsets": [4, 12]}}, bytes(12)),
        header_of({"w": 3}),
        header_of({"__metadata__": 3}),
        header_of(b'{"w": %(w)b, "w": %(w)b}' % {b"w": json.dumps(W).encode()}, bytes(8)),
        header_of(b"{" * 50),
        header_of(b'{"w":' + b"[" * 200_000),
    ],
    ids=range(13),
)
def test_damaged_safetensors(content, tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    message = f"weights.safetensors: {DAMAGED} .{len(content)} bytes.: ."
    with pytest.raises(FileError, match=message):
        relabel.open_draws(path, sample_dims="")


def test_every_cut_of_a_safetensors_file_is_noticed(tmp_path):
    whole = (DATA / "ensemble.safetensors").read_bytes()
    path = tmp_path / "cut.safetensors"
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        with pytest.raises(FileError):
            relabel.open_draws(path)


@pytest.mark.parametrize(
    ("dtype", "told"), [("F16", "float16"), ("BF16", "bfloat16"), ("F8_E4M3", "float8_e4m3")]
)
def test_halves_are_refused(dtype, told, tmp_path):
    array = np.zeros(4, np.uint8 if told.startswith("float8") else np.uint16)
    path = write_safetensors(tmp_path / "half.safetensors", {"w": array}, {"w": dtype})
    with pytest.raises(DataError, match=f"'w' has the dtype {told}, .* convert it to float32"):
        relabel.open_draws(path, sample_dims="draw")
    with pytest.raises(DataError, match="'w' has the dtype float16"):
        from_dict({"w": np.zeros(4, np.float16)})


def test_damaged_npz(tmp_path):
    whole = (DATA / "stacked.npz").read_bytes()
    for length in (100, 600, 1500):
        path = tmp_path / "cut.npz"
        path.write_bytes(whole[:length])
        with pytest.raises(FileError, match=r"cut.npz: cannot be read as .npz; it is damaged"):
            relabel.open_draws(path, sample_dims="draw")
    np.save(tmp_path / "a.npy", np.zeros((40, 3)))
    cut = tmp_path / "cut.npy"
    cut.write_bytes((tmp_path / "a.npy").read_bytes()[:500])
    with pytest.raises(FileError, match=r"cannot be read as .npy; it is damaged"):
        relabel.open_draws(cut)


def npy_of(shape):
    """A .npy file that promises this shape and holds hardly any numbers."""
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(80)


@pytest.mark.parametrize("shape", [(10**14,), (10**30,)])
def test_arrays_of_absurd_size(shape, tmp_path):
    (tmp_path / "a.npy").write_bytes(npy_of(shape))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("w.npy", npy_of(shape))
    for name in ("a.npy", "a.npz"):
        with pytest.raises(FileError, match="damaged or was cut short"):
            relabel.open_draws(tmp_path / name)


@pytest.mark.parametrize(("at", "value", "told"), [(6, 1, "encrypted"), (8, 97, "not supported")])
def test_archives_that_zipfile_cannot_read(at, value, told, tmp_path):
    content = bytearray((DATA / "stacked.npz").read_bytes())
    for mark, offset in ((b"PK\x03\x04", at), (b"PK\x01\x02", at + 2)):
        place = content.find(mark)
        while place >= 0:
            content[place + offset] = value
            place = content.find(mark, place + 4)
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(FileError, match=f"cannot be read as .npz.*{told}"):
        relabel.open_draws(tmp_path / "a.npz")


def test_an_archive_with_one_name_twice(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("w.npy", npy_of((10,)))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("w.npy", npy_of((5,)))
    with pytest.raises(FileError, match="two of its arrays have the same name"):
        relabel.open_draws(tmp_path / "a.npz")


@pytest.mark.parametrize("codec", ["compressor", "filters"])
def test_a_zarr_store_with_a_pickle(codec, trap, tmp_path):
    for folder in ("", "posterior", "posterior/w"):
        (tmp_path / "a.zarr" / folder).mkdir()
        (tmp_path / "a.zarr" / folder / ".zgroup").write_text('{"zarr_format": 2}')
    array = tmp_path / "a.zarr" / "posterior" / "w"
    (array / ".zgroup").unlink()
    pickled = {"id": "pickle", "protocol": 4}
    about = {"zarr_format": 2, "shape": [2, 5], "chunks": [2, 5], "dtype": "|O", "order": "C"}
    about |= {"compressor": None, "fill_value": None, "filters": [{"id": "vlen-utf8"}]}
    if codec == "filters":
        about["filters"].append(pickled)
    else:
        about["compressor"] = pickled
    (array / ".zarray").write_text(json.dumps(about))
    (array / ".zattrs").write_text('{"_ARRAY_DIMENSIONS": ["chain", "draw"]}')
    (array / "0.0").write_bytes(pickle.dumps(trap))
    with pytest.raises(FileError, match=r"a.zarr: holds values as pickles \(w\), and a"):
        relabel.open_draws(tmp_path / "a.zarr")


def test_masks_are_not_dropped():
    with pytest.raises(DataError, match="'w' has masked entries"):
        from_dict({"w": np.ma.masked_array(np.zeros(3), [0, 1, 0])})


def test_objects_in_arrays_are_refused(trap, tmp_path):
    objects = np.array([trap, None], dtype=object)
    np.savez(tmp_path / "a.npz", w=objects)
    np.save(tmp_path / "a.npy", objects)
    for name in ("a.npz", "a.npy"):
        with pytest.raises(FileError, match="a pickle runs code when it is loaded; load it yours"):
            relabel.open_draws(tmp_path / name)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_are_refused(trap, protocol, tmp_path):
    path = tmp_path / "draws.pkl"
    path.write_bytes(pickle.dumps([trap], protocol))
    with pytest.raises(FileError, match=r"is a pickle, and a pickle runs code .*save_file"):
        relabel.open_draws(path)


def test_an_old_pickle_is_nothing_known(trap, tmp_path):
    path = tmp_path / "draws.pt"
    path.write_bytes(pickle.dumps([trap], 0))
    with pytest.raises(
        FileError, match=r"not a netCDF-4 file, nor of another known kind: Zarr, Py"
    ):
        relabel.open_draws(path)


def test_other_archives(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("letter.txt", "dear")
    with pytest.raises(FileError, match="a zip archive, but neither one of PyTorch"):
        relabel.open_draws(tmp_path / "a.pt")


def test_kinds_are_told_from_the_content(tmp_path):
    for name, kind in {
        "ensemble.pt": "PyTorch",
        "ensemble.safetensors": "safetensors",
        "ensemble.msgpack": "msgpack",
        "stacked.npz": ".npz",
    }.items():
        path = tmp_path / "misleading.nc"
        path.write_bytes((DATA / name).read_bytes())
        assert source_of(path).name == kind
    path.write_bytes(b"\x82 no key of text")
    assert source_of(path) is None
    for start in (b"\x81\xa1", b"\xde\x00\x20\xa4", b"\xdf\x00\x00\x00\x20\xd9"):
        path.write_bytes(start)
        assert source_of(path).name == "msgpack"


@pytest.mark.parametrize(
    ("name", "module", "install"),
    [
        ("ensemble.pt", "torch", "torch"),
        ("ensemble.msgpack", "msgpack", '"posterior-relabel[flax]"'),
        ("ensemble.safetensors", "safetensors", '"posterior-relabel[safetensors]"'),
    ],
)
def test_a_missing_package_is_named(name, module, install, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, module, None)
    message = re.escape(f"needs the package {module}: pip install {install}")
    with pytest.raises(FileError, match=f"{name}: .* {message}"):
        relabel.open_draws(DATA / name)
    monkeypatch.setattr("relabel.io.writing.find_spec", lambda _: None)
    message = re.escape(f"to write it, install the package {module}: pip install {install}")
    with pytest.raises(FileError, match=message):
        relabel.save(from_dict(stacked(), sample_dims="draw"), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_state_dicts_need_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(DataError, match="pip install torch"):
        to_torch(from_dict(stacked(), sample_dims="draw"))


def test_orbax_is_recognised_by_its_folder(monkeypatch, tmp_path):
    (tmp_path / "_METADATA").write_text("{}")
    monkeypatch.setitem(sys.modules, "orbax", None)
    with pytest.raises(FileError, match="pip install orbax-checkpoint"):
        from_flax(tmp_path)


def test_nothing_is_left_of_a_failed_write(tmp_path, monkeypatch):
    tree = from_dict(stacked(), sample_dims="draw")
    target = tmp_path / "out.npy"
    target.write_bytes(b"before")
    with pytest.raises(FileError, match=r"could not be written: a .npy file holds one array"):
        relabel.save(tree, target, force=True)
    complex_number = from_dict({"w": np.zeros((3, 2), np.longdouble)}, sample_dims="draw")
    with pytest.raises(FileError, match="which safetensors does not know"):
        relabel.save(complex_number, tmp_path / "out.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["out.npy"]
    assert target.read_bytes() == b"before"


def test_a_target_among_the_members_is_refused(tmp_path):
    write_members(tmp_path / "run", ".npz")
    tree = relabel.open_draws(tmp_path / "run")
    with pytest.raises(FileError, match="lies inside the input"):
        relabel.save(tree, tmp_path / "run" / "out.npz", source=tmp_path / "run")
    paths = sorted((tmp_path / "run").iterdir())
    with pytest.raises(FileError, match="output and input are the same"):
        relabel.save(tree, paths[1], source=paths, force=True)
    with pytest.raises(FileError, match="output and input are the same"):
        relabel.save(tree, paths[1], source=tmp_path / "run" / "*.npz", force=True)


# ---------------------------------------------------------------------- state dicts of any arrays


def test_state_dicts():
    tree = from_torch(members())
    same(draws(tree), stacked())
    assert list(tree["posterior"].data_vars) == list(NAMES)
    nested = from_torch([members()[:2], members()[2:]])
    assert nested["posterior"]["0.weight"].shape == (2, 2, 8, 3)
    same(members_of(nested)[2], members()[2])
    named = from_torch({"a": members()[0], "b": members()[1]})
    assert list(named["posterior"].coords["member"].values[0]) == ["a", "b"]
    same(draws(from_torch(stacked())), stacked())
    parameters, buffers = {"0.weight": stacked()["0.weight"]}, {"0.n": np.arange(4)}
    assert set(draws(from_torch((parameters, buffers)))) == {"0.weight", "0.n"}
    assert set(draws(from_torch((parameters, {})))) == {"0.weight"}


def test_a_list_alone_in_a_dictionary():
    tree = from_torch({"state_dicts": members()})
    same(draws(tree), stacked())
    assert "member" not in tree["posterior"].coords
    chains = from_torch({"chains": [members()[:2], members()[2:]]})
    assert chains["posterior"]["0.weight"].shape == (2, 2, 8, 3)
    with pytest.raises(DataError, match=r"1 names .'a'. for 1 × 2 members"):
        from_members([{"w": np.zeros(2)}] * 2, source="x", names=["a"])


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_prefixes_of_wrappers(prefix):
    wrapped = [{prefix + name: value for name, value in member.items()} for member in members()]
    tree = from_torch([{"state_dict": wrapped[0], "epoch": 3}, {"model": wrapped[1]}])
    assert set(tree["posterior"].data_vars) == set(NAMES)
    same(members_of(tree)[1], wrapped[1])
    partly = [{"module.a": np.zeros(2), "b": np.zeros(2)}] * 2
    assert set(from_torch(partly)["posterior"].data_vars) == {"module.a", "b"}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([], "there are no members"),
        ([{}, {}], "item 0: an empty state dict"),
        ([{0: np.zeros(2)}], "the name 0 is a int; names must be strings"),
        ([{"net": {"w": np.zeros(2)}, "gate": {"w": np.ones(2)}}], "several networks .'net', 'ga"),
        ({"a": {"w": np.zeros(2)}, "model": {"w": np.ones(2)}}, "several networks .'model', 'a'"),
        ([{"w": np.zeros(2), "extra": {"a": 1}}], "item 0: 'extra' is a dict, not a tensor"),
        ([{"w": np.zeros(2)}, 3], "item 1: holds a int; give state dicts"),
        ([[{"w": np.zeros(2)}], [{"w": np.zeros(2)}] * 2], "the chains have 1, 2 draws"),
        ([{"w": np.zeros(2)}, [{"w": np.zeros(2)}]], "state dicts or lists of them, not both"),
        ([[[{"w": np.zeros(2)}]]], "nested too deeply"),
        ([{"w": np.zeros(2)}, {"v": np.zeros(2)}], "member 1 lacks 'w'"),
        ([{"w": np.zeros(2, np.float16)}], "convert it to float32"),
        (3, "holds a int"),
        (
            {"a": {"w": np.zeros(2)}, "losses": [0.1, 0.2]},
            "'losses' holds a list, not a state dict",
        ),
        ({"a": [{"w": np.zeros(2)}] * 2, "b": [{"w": np.ones(2)}] * 2}, "'a' holds a list of 2"),
        ({"states": [1.0, 2.0]}, "'states' holds a list, not a state dict"),
    ],
)
def test_what_are_no_state_dicts(source, message):
    with pytest.raises(DataError, match=message):
        from_torch(source)


def test_axes_are_for_stacked_tensors():
    with pytest.raises(DataError, match="for stacked tensors"):
        from_torch(members(), sample_dims="draw")


# ---------------------------------------------------------------------- dictionaries


@pytest.mark.parametrize("sample_dims", ["chain draw", "draw chain", "draw"])
def test_dictionaries(sample_dims):
    rng = np.random.default_rng(0)
    lead = {"chain draw": (3, 20), "draw chain": (20, 3), "draw": (20,)}[sample_dims]
    source = {"nn/w": rng.normal(size=(*lead, 2, 4)), "n": rng.integers(0, 9, size=lead)}
    tree = from_dict(source, sample_dims=sample_dims)
    assert tree["posterior"].sizes["draw"] == 20
    assert set(tree["posterior"].data_vars) == {"nn.w", "n"}
    same(to_dict(tree), source)


def test_chains_that_came_later_are_kept():
    tree = from_dict({"w": np.zeros((20, 2))}, sample_dims="draw")
    two = tree["posterior"].to_dataset().isel(chain=[0, 0])
    assert to_dict(two)["w"].shape == (2, 20, 2)


def test_axes_that_are_not_clear():
    with pytest.raises(DataError, match="name these axes, by sample_dims='chain draw'"):
        from_dict({"w": np.zeros((4, 100, 3)), "s": np.zeros((4, 100))})
    with pytest.raises(DataError, match="the leading axes"):
        from_dict({"w": np.zeros((4, 100)), "s": np.zeros(5)})


# ---------------------------------------------------------------------- pytrees

Layer = namedtuple("Layer", "weight bias")


def position(lead=()):
    rng = np.random.default_rng(1)
    return {
        "net": [Layer(rng.normal(size=(*lead, 3, 4)), rng.normal(size=(*lead, 4)))],
        "a/b": (rng.normal(size=lead),),
        "none": None,
    }


@pytest.mark.parametrize("sample_dims", ["chain draw", "draw chain"])
def test_pytrees(sample_dims, no_jax):
    source = position((5, 6))
    tree = from_pytree(source, sample_dims=sample_dims)
    assert set(tree["posterior"].data_vars) == {"net.0.weight", "net.0.bias", "a.b.0"}
    back = to_pytree(tree, like=source)
    assert type(back["net"][0]) is Layer
    assert back["none"] is None
    np.testing.assert_array_equal(back["net"][0].weight, source["net"][0].weight)
    np.testing.assert_array_equal(back["a/b"][0], source["a/b"][0])
    plain = to_pytree(tree)
    assert set(plain) == {"net", "a/b"}
    np.testing.assert_array_equal(plain["net"][0]["bias"], source["net"][0].bias)


def test_lists_of_pytrees(no_jax):
    source = [{"w": np.full(2, i), "b": {"c": np.float64(i)}} for i in range(5)]
    tree = from_pytree(source)
    assert dict(tree["posterior"].sizes) == {"chain": 1, "draw": 5, "w_dim_0": 2}
    for like in (None, source, source[0]):
        back = to_pytree(tree, like=like)
        assert len(back) == 5
        np.testing.assert_array_equal(back[3]["w"], source[3]["w"])
        assert back[3]["b"]["c"] == 3
    with pytest.raises(DataError, match="member 2 lacks 'w', unlike"):
        from_pytree([*source[:2], {"b": {"c": np.float64(1)}}])


def test_a_list_of_layers_is_one_tree(no_jax):
    layers = [{"w": np.zeros((50, 3, 8))}, {"w": np.ones((50, 8, 1))}]
    tree = from_pytree(layers)
    assert dict(tree["posterior"].sizes)["draw"] == 50
    assert set(tree["posterior"].data_vars) == {"0.w", "1.w"}
    square = [{"w": np.zeros((50, 8))}, {"w": np.ones((50, 8))}]
    assert set(from_pytree(square, sample_dims="draw")["posterior"].data_vars) == {"0.w", "1.w"}
    np.testing.assert_array_equal(to_pytree(tree, like=layers)[1]["w"], layers[1]["w"])


State = namedtuple("State", "w c")


@pytest.mark.parametrize("kind", ["dict", "namedtuple"])
def test_lists_of_lists_of_pytrees_are_chains(kind, no_jax):
    def snapshot(i):
        w, c = np.full((3, 2), float(i)), {"d": np.float64(i)}
        return {"w": w, "c": c} if kind == "dict" else State(w, c)

    source = [[snapshot(3 * chain + draw) for draw in range(3)] for chain in range(2)]
    tree = from_pytree(source)
    sizes = {"chain": 2, "draw": 3, "w_dim_0": 3, "w_dim_1": 2}
    assert dict(tree["posterior"].sizes) == sizes
    for like in (None, source, source[0], source[0][0]):
        back = to_pytree(tree, like=like)
        assert [len(chain) for chain in back] == [3, 3]
        last = back[1][2]
        assert like is None or type(last) is type(source[0][0])
        w, c = (last["w"], last["c"]) if isinstance(last, dict) else last
        np.testing.assert_array_equal(w, np.full((3, 2), 5.0))
        assert c == {"d": 5.0}
    with pytest.raises(DataError, match="lists of 3, 2 trees of one structure: chains must"):
        from_pytree([source[0], source[1][:2]])


def test_lists_of_layers_are_draws(no_jax):
    arrays = [[np.full((4, 3), i), np.full((3, 2), i)] for i in range(5)]
    tuples = [[(np.full((4, 3), i), np.zeros(3)), (np.full((3, 3), i), np.ones(3))]
              for i in range(5)]  # fmt: skip
    unequal = [[{"w": np.full((4, 3), i)}, {"w": np.full((3, 2), i)}] for i in range(5)]
    square = [[np.full((4, 4), i), np.full((4, 4), i)] for i in range(5)]
    for source, n in ((arrays, 2), (tuples, 4), (unequal, 2), (square, 2)):
        posterior = from_pytree(source)["posterior"]
        assert (posterior.sizes["chain"], posterior.sizes["draw"]) == (1, 5)
        assert len(posterior.data_vars) == n
        assert len(to_pytree(from_pytree(source), like=source)) == 5


def test_an_array_alone(no_jax):
    tree = from_pytree(np.arange(12.0).reshape(6, 2), sample_dims="draw")
    assert list(tree["posterior"].data_vars) == ["theta"]
    np.testing.assert_array_equal(to_pytree(tree), np.arange(12.0).reshape(6, 2))


def test_pytrees_that_do_not_fit(no_jax):
    tree = from_pytree({"w": np.zeros((6, 2))}, sample_dims="draw")
    with pytest.raises(DataError, match="it has 'v', they do not"):
        to_pytree(tree, like={"v": 0.0})
    both = from_pytree({"w": np.zeros((6, 2)), "v": np.zeros(6)}, sample_dims="draw")
    with pytest.raises(DataError, match="it lacks 'v'"):
        to_pytree(both, like={"w": 0.0})
    with pytest.raises(DataError, match="would both be named 'a/b'"):
        from_pytree({"a": {"b": np.zeros(3)}, "a/b": np.zeros(3)}, sample_dims="draw")


def test_pytrees_that_cannot_be_built(no_jax):
    with pytest.raises(DataError, match="'a/b' cannot be nested"):
        to_pytree(from_dict({"a": np.zeros((9, 2)), "a/b": np.zeros((9, 3))}, sample_dims="draw"))
    with pytest.raises(DataError, match="cannot be flattened: '<' not supported"):
        from_pytree({0: np.zeros((9, 2)), "a": np.zeros((9, 2))}, sample_dims="draw")


def test_paths_outlive_a_file(tmp_path, no_jax):
    source = position((5, 6))
    relabel.save(from_pytree(source, sample_dims="draw chain"), tmp_path / "draws.nc")
    tree = relabel.open_draws(tmp_path / "draws.nc")
    back = to_pytree(tree, like=source)
    np.testing.assert_array_equal(back["net"][0].weight, source["net"][0].weight)


# ---------------------------------------------------------------------- flat vectors

LAYOUT = {"z": (3, 4), "b": 4, "a": {"s": ()}}


@pytest.mark.parametrize(("lead", "sample_dims"), [((), None), ((9,), None), ((2, 9), "chain draw"),
                                            ((9, 2), "draw chain")])  # fmt: skip
def test_flat_vectors(lead, sample_dims):
    theta = np.random.default_rng(0).normal(size=(*lead, 17))
    tree = unravel(theta, LAYOUT, sample_dims=sample_dims)
    assert list(tree["posterior"].data_vars) == ["z", "b", "a.s"]
    values = tree["posterior"]["z"].values[0, 0]
    np.testing.assert_array_equal(values.ravel(), theta.reshape(-1, 17)[0, :12])
    assert ravel(tree).tobytes() == theta.tobytes()
    assert ravel(tree).shape == theta.shape


def test_flat_vectors_after_an_alignment():
    theta = np.concatenate([stacked()[name].reshape(4, -1) for name in NAMES], axis=1)
    tree = unravel(theta, {name: stacked()[name].shape[1:] for name in NAMES})
    aligned = relabel.align(tree, SPEC)
    direct = relabel.align(from_torch(members()), SPEC)
    np.testing.assert_array_equal(
        ravel(aligned)[:, :24], arrays_of(direct)["0.weight"].reshape(4, -1)
    )
    np.testing.assert_array_equal(ravel(relabel.undo(aligned)), theta)


def test_layouts_of_arrays_are_sorted_as_jax_does(no_jax):
    layout = {"b": np.zeros(2), "a": [np.zeros((2, 2)), np.float64(0)]}
    tree = unravel(np.arange(7.0), layout)
    assert list(tree["posterior"].data_vars) == ["a.0", "a.1", "b"]
    np.testing.assert_array_equal(tree["posterior"]["b"].values.ravel(), [5, 6])


@pytest.mark.parametrize(
    ("theta", "layout", "sample_dims", "message"),
    [
        (np.zeros((9, 16)), LAYOUT, None, r"layout has 17 numbers \(z \(3, 4\).* vectors have 16"),
        (np.zeros((2, 9, 17)), LAYOUT, None, "name these axes, by sample_dims"),
        (np.zeros((9, 17)), LAYOUT, "chain draw", r"3 in all, but the shape is \(9, 17\)"),
        (np.zeros((9, 17)), {}, None, "the layout is empty"),
        (np.float64(1), LAYOUT, None, "must be a vector, not a single number"),
        (np.zeros((9, 2)), {"a": {"b": 1}, "a/b": 1}, None, "have one name"),
        (np.zeros((9, 2), complex), {"a": 2}, None, "dtype complex"),
    ],
)
def test_vectors_that_do_not_fit(theta, layout, sample_dims, message):
    with pytest.raises(RelabelError, match=message):
        unravel(theta, layout, sample_dims=sample_dims)


def test_ravel_refuses():
    tree = unravel(np.zeros((9, 17)), LAYOUT)
    with pytest.raises(DataError, match="the draws lack 'b'"):
        ravel(tree["posterior"].to_dataset().drop_vars("b"))
    with pytest.raises(DataError, match="one dtype"):
        ravel(from_dict({"w": np.zeros((9, 2)), "n": np.zeros(9, int)}))


def test_npy(tmp_path):
    theta = np.random.default_rng(0).normal(size=(9, 17))
    np.save(tmp_path / "theta.npy", theta)
    tree = from_npy(tmp_path / "theta.npy", layout=LAYOUT)
    np.testing.assert_array_equal(ravel(unravel(tmp_path / "theta.npy", LAYOUT)), theta)
    relabel.save(tree, tmp_path / "back.npy")
    assert (tmp_path / "back.npy").read_bytes() == (tmp_path / "theta.npy").read_bytes()
    plain = relabel.open_draws(tmp_path / "theta.npy")
    assert plain["posterior"]["theta"].shape == (1, 9, 17)
    relabel.save(plain, tmp_path / "again.npy")
    assert (tmp_path / "again.npy").read_bytes() == (tmp_path / "theta.npy").read_bytes()


def test_files_of_earlier_versions_have_another_name_for_the_leading_axes(tmp_path):
    source = {"w": np.arange(12.0).reshape(3, 2, 2)}
    tree = from_dict(source, sample_dims="draw chain")
    assert tree["posterior"].attrs["sample_dims"] == "draw chain"
    tree["posterior"].attrs["sample_axes"] = tree["posterior"].attrs.pop("sample_dims")
    relabel.save(tree, tmp_path / "early.nc")
    early = relabel.open_draws(tmp_path / "early.nc")
    same(to_dict(early), source)
    relabel.save(early, tmp_path / "back.npz")
    with np.load(tmp_path / "back.npz") as archive:
        same(dict(archive), source)
    chains = from_pytree([[{"w": np.zeros(2)}] * 3, [{"w": np.ones(2)}] * 3])
    chains["posterior"].attrs["sample_axes"] = chains["posterior"].attrs.pop("sample_dims")
    assert [len(chain) for chain in to_pytree(chains)] == [3, 3]


def test_sample_dims_are_one_of_four_texts():
    for wrong in ("chain", "draw draw", ["chain", "draw"], 3):
        with pytest.raises(DataError, match="sample_dims must be one of 'chain draw', 'draw cha"):
            from_dict({"w": np.zeros((3, 2))}, sample_dims=wrong)


def test_options_of_one_kind_are_handed_on(tmp_path):
    np.save(tmp_path / "theta.npy", np.zeros((9, 17)))
    draws = relabel.open_draws(tmp_path / "theta.npy", layout=LAYOUT, sample_dims="draw")
    assert draws["posterior/z"].shape == (1, 9, 3, 4)
    steps = relabel.open_draws(DATA / "emcee.h5", discard=10, thin=3)
    assert steps["posterior"].sizes["draw"] == 10 * 16
    for name, options in {"emcee.h5": {"sample_dims": "draw"}, "stacked.npz": {"thin": 2}}.items():
        with pytest.raises(DataError, match=r"is for .*; this is .*, so leave .* out"):
            relabel.open_draws(DATA / name, **options)


def test_suffixes_may_be_capital_letters(tmp_path):
    tree = from_npz(DATA / "stacked.npz", sample_dims="draw")
    for name in ("a.NPZ", "a.NC", "a.Zarr"):
        relabel.save(tree, tmp_path / name)
    assert source_of(tmp_path / "a.NPZ").name == ".npz"
    assert (tmp_path / "a.Zarr").is_dir()


def test_a_folder_with_one_file_of_arviz_is_that_file(tmp_path):
    (tmp_path / "run").mkdir()
    tree = from_npz(DATA / "stacked.npz", sample_dims="draw")
    relabel.save(tree, tmp_path / "run" / "a.nc")
    for given in (tmp_path / "run", [tmp_path / "run"], tmp_path / "run" / "*.nc"):
        same(draws(relabel.open_draws(given)), stacked())


def test_files_of_arviz_are_recognised(tmp_path):
    tree = from_npz(DATA / "stacked.npz", sample_dims="draw")
    for name, kind in {"a.nc": "netCDF", "a.zarr": "Zarr"}.items():
        relabel.save(tree, tmp_path / name)
        assert source_of(tmp_path / name).name == kind


def test_weights_that_a_spec_forgets_are_told():
    """A norm with units of its own size, in members of a network: not declared, so it stays."""
    rng = np.random.default_rng(5)
    members = [
        {
            "fc.weight": rng.normal(size=(6, 3)),
            "norm.weight": rng.normal(size=6),
            "out.weight": rng.normal(size=(2, 6)),
        }
        for _ in range(4)
    ]
    spec = relabel.Spec({"h": "permutation"}, {"fc.weight": "h <- x", "out.weight": "y <- h"})
    draws = relabel.sources.from_pytree(members)
    assert any(
        "'norm.weight' (6): left as it was" in w
        for w in Provenance.of(relabel.align(draws, spec)).warnings
    )
    named = replace(spec, axes={**spec.axes, "norm.weight": "..."})
    assert not any("were left" in w for w in Provenance.of(relabel.align(draws, named)).warnings)
