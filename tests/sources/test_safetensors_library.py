"""Files of safetensors, as the library itself reads and writes them."""

import json

import numpy as np
import pytest
import safetensors.numpy
from files import RECORDED
from safetensors import safe_open

import relabel
from relabel import FileError
from relabel.sources import from_dict, from_safetensors
from relabel.sources.kinds import source_of
from relabel.sources.safetensors import read_safetensors

DATA = RECORDED / "sources"
DTYPES = ["bool", "uint8", "int8", "int16", "uint16", "int32", "uint32", "float32", "float64",
          "int64", "uint64"]  # fmt: skip


def equal(one, two):
    assert list(one) == list(two)
    for name, array in one.items():
        assert (array.dtype, array.shape) == (two[name].dtype, two[name].shape)
        np.testing.assert_array_equal(array, two[name])


@pytest.mark.parametrize(
    "name", ["ensemble.safetensors", "stacked.safetensors", "ensemble_10-64-64-1.safetensors"]
)
def test_recorded_files_are_read_as_the_library_reads_them(name):
    arrays, metadata = read_safetensors(DATA / name)
    with safe_open(DATA / name, framework="np") as file:
        assert metadata == (file.metadata() or {})
        equal({key: arrays[key] for key in sorted(arrays)}, {k: file.get_tensor(k) for k in
              sorted(file.keys())})  # fmt: skip


def test_every_dtype_goes_there_and_back(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        dtype: rng.integers(0, 2, size=(4, *shape)).astype(dtype)
        for dtype, shape in zip(DTYPES, [(), (3,), (2, 0)] * 4, strict=False)
    }
    arrays["big"] = np.arange(8.0).reshape(4, 2).astype(">f8")
    arrays["turned"] = np.arange(8.0).reshape(2, 4).T
    relabel.save(from_dict(arrays, sample_dims="draw"), tmp_path / "a.safetensors")
    theirs = safetensors.numpy.load_file(tmp_path / "a.safetensors")
    native = {name: a.astype(a.dtype.newbyteorder("=")) for name, a in arrays.items()}
    equal({name: theirs[name] for name in native}, native)
    ours = relabel.open_draws(tmp_path / "a.safetensors", sample_dims="draw")["posterior"]
    equal({name: ours[name].values[0] for name in native}, native)


def test_a_single_number_keeps_its_shape(tmp_path):
    relabel.save(from_dict({"s": np.float64(2)}, sample_dims=""), tmp_path / "a.safetensors")
    assert safetensors.numpy.load_file(tmp_path / "a.safetensors")["s"].shape == ()
    again = from_safetensors(tmp_path / "a.safetensors", sample_dims="")
    assert again["posterior/s"].shape == (1, 1)


def test_metadata_keep_their_order(tmp_path):
    """The library writes them in any order."""
    about = {key: f"größer {number}" for number, key in enumerate("zyxwvutsabc")}
    content = safetensors.numpy.save({"member_00.w": np.arange(6.0)})
    end = 8 + int.from_bytes(content[:8], "little")
    header = {"__metadata__": about} | json.loads(content[8:end])
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    whole = len(text).to_bytes(8, "little") + text + content[end:]
    (tmp_path / "a.safetensors").write_bytes(whole)
    tree = relabel.open_draws(tmp_path / "a.safetensors")
    assert list(json.loads(tree["posterior"].attrs["metadata"])) == list("zyxwvutsabc")
    relabel.save(tree, tmp_path / "b.safetensors")
    assert (tmp_path / "b.safetensors").read_bytes() == whole
    with safe_open(tmp_path / "b.safetensors", framework="np") as file:
        assert file.metadata() == about


def test_a_header_that_begins_like_a_pickle(tmp_path):
    """Its length, 640, is written as 80 02, and so begin pickles."""
    path = tmp_path / "a.safetensors"
    for size in range(640):
        safetensors.numpy.save_file({"member_0.w": np.zeros(2)}, path, {"about": "x" * size})
        if path.read_bytes()[:2] == b"\x80\x02":
            break
    assert source_of(path).name == "safetensors"
    assert relabel.open_draws(path)["posterior/w"].shape == (1, 1, 2)


def test_a_name_that_occurs_twice(tmp_path):
    entry = b'"w":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}'
    text = b"{" + entry + b"," + entry + b"}"
    (tmp_path / "a.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    assert list(safetensors.numpy.load_file(tmp_path / "a.safetensors")) == ["w"]
    with pytest.raises(FileError, match="its header has one name twice"):
        relabel.open_draws(tmp_path / "a.safetensors", sample_dims="")
