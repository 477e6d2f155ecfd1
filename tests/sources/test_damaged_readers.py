"""Damaged, hostile and odd files: draws come back, or one of this package's errors, at once."""

import os
import pickle
import socket
import struct
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from files import RECORDED

from relabel import DataError, FileError, SpecError
from relabel.data.containers import unpack
from relabel.io.reading import load, open_draws
from relabel.io.spec_files import read_spec
from relabel.sources import failures, from_npy, from_npz, from_stan
from relabel.sources.failures import reading

OURS = (FileError, DataError, SpecError)
N_DAMAGES = 40
LONGEST = 3.0  # seconds for one file, on a busy machine

#: All recorded files but those of HDF5, which have tests of their own.
FILES = sorted(path for path in (RECORDED / "sources").iterdir() if path.suffix != ".h5")


def opened(path, **options):
    """Open and load draws; return the error of this package, or None. Any other error escapes."""
    start = time.perf_counter()
    try:
        draws = open_draws(path, **options)
        load(draws, [], path)
        assert unpack(draws)
        told = None
    except OURS as error:
        told = str(error)
        assert str(path) in told, told
    assert time.perf_counter() - start < LONGEST
    return told


def damaged(content, rng, number):
    """Cut a file, flip bytes, or overwrite, remove or repeat a stretch of it."""
    content = bytearray(content)
    place = int(rng.integers(len(content)))
    if number % 8 == 0:
        return bytes(content[:place])
    if number % 8 == 1:
        stretch = slice(place, place + int(rng.integers(1, 64)))
        content[stretch] = rng.bytes(len(content[stretch]))
    elif number % 8 == 2:
        del content[place : place + int(rng.integers(1, 64))]
    elif number % 8 == 3:
        content[place:place] = content[place : place + int(rng.integers(1, 64))]
    else:  # where the structure is: mostly near the two ends
        for _ in range(int(rng.integers(1, 4))):
            near = int(rng.integers(min(len(content), 600)))
            content[near if rng.random() < 0.6 else -1 - near] = int(rng.integers(256))
    return bytes(content)


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_damaged_files(file, tmp_path):
    pytest.importorskip({".pt": "torch", ".msgpack": "msgpack"}.get(file.suffix, "numpy"))
    if file.suffix == ".safetensors":
        pytest.importorskip("safetensors")
    content = file.read_bytes()
    rng = np.random.default_rng(zlib.crc32(file.name.encode()))
    options = {} if file.suffix == ".csv" else {"sample_dims": "draw"}
    for number in range(N_DAMAGES):
        path = tmp_path / f"damaged_{number}{file.suffix}"
        path.write_bytes(damaged(content, rng, number))
        try:
            opened(path, **(options if number % 2 else {}))
        except Exception as error:
            raise AssertionError(f"damage {number}: {type(error).__name__}: {error}") from error


@pytest.mark.parametrize("number", range(N_DAMAGES))
def test_damaged_npy(number, tmp_path):
    rng = np.random.default_rng(number)
    np.save(tmp_path / "a.npy", rng.normal(size=(20, 3)))
    path = tmp_path / "b.npy"
    path.write_bytes(damaged((tmp_path / "a.npy").read_bytes(), rng, number))
    opened(path)


# ---------------------------------------------------------------------- what is no file


def test_what_is_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("dangling").symlink_to("nowhere")
    Path("loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    told = {
        "pipe": "a named pipe",
        "socket": "a socket",
        "dangling": "a link to something that does not exist",
        "loop": "cannot be read",
        "/dev/zero": "a device",
        "/dev/null": "a device",
        "a\0b": "cannot be read",
        "x" * 300: "cannot be read: File name too long",
        "x/" * 2500: "cannot be read: File name too long",
    }
    for path, message in told.items():
        for read in (open_draws, from_npz, from_npy, from_stan, read_spec):
            with pytest.raises(FileError, match=message):
                read(path)


def test_a_pipe_among_members(tmp_path):
    np.savez(tmp_path / "a.npz", w=np.zeros((4, 2)))
    os.mkfifo(tmp_path / "b.npz")
    assert "b.npz: is a named pipe" in opened(tmp_path)


# ---------------------------------------------------------------------- announced sizes


def npy_header(shape, descr="<f8"):
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    text = text.encode() + b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2**60, 4), "bytes follow|bytes, but 80 follow"),
        ((-1, 4), "but 80 follow"),
        ((3, 3), "but 80 follow"),
        ("(" * 4000, "damaged"),
        ("(" + "9" * 5000 + ",)", "damaged"),
    ],
)
def test_sizes_of_npy(shape, message, tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(npy_header(shape) + bytes(80))
    with pytest.raises(FileError, match=message):
        from_npy(path)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("mu.npy", path.read_bytes())
    with pytest.raises(FileError, match=rf"a.npz: .*({message})"):
        from_npz(tmp_path / "a.npz")


def test_zip_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(failures, "_SMALL", 2**20)
    path = tmp_path / "a.npz"
    np.savez_compressed(path, mu=np.zeros(2**18))
    assert "more than 100 times as many" in opened(path, sample_dims="draw")


def test_a_reader_that_goes_to_a_place_before_the_file(tmp_path):
    """As zip readers do in the files of PyTorch that were cut short."""
    path = tmp_path / "a.pt"
    path.write_bytes(b"PK")
    message = r"a\.pt: cannot be read as PyTorch; it is damaged or was cut short \(2 bytes\)"
    with pytest.raises(FileError, match=message), reading(path, "PyTorch"), path.open("rb") as file:
        file.seek(-1)


def test_an_archive_that_lies_about_its_sizes(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, mu=np.zeros((10, 3)))
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\x01\x02") + 24  # the size in the directory
    content[place : place + 4] = struct.pack("<I", 2**31)
    path.write_bytes(content)
    assert "more than 100 times as many" in opened(path)


def test_tensors_that_repeat_one_number(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "a.pt"
    torch.save([{"w": torch.zeros(1).expand(2**20, 2**20)}], path)
    assert "more than 100 times as many" in opened(path)


@pytest.mark.parametrize(
    "header",
    [
        '{"a":{"dtype":"F64","shape":[1152921504606846976],"data_offsets":[0,16]}}',
        '{"a":{"dtype":"F64","shape":[' + "9" * 5000 + '],"data_offsets":[0,16]}}',
        '{"a":' * 10_000,
        "[" * 10_000,
        '{"a":{"dtype":"F64","shape":[1e999],"data_offsets":[0,16]}}',
        '{"__metadata__":{"a":1},"b":{"dtype":"F64","shape":[2],"data_offsets":[0,16]}}',
    ],
)
def test_headers_of_safetensors(header, tmp_path):
    pytest.importorskip("safetensors")
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + bytes(16))
    assert opened(path, sample_dims="draw")
    path.write_bytes(struct.pack("<Q", 2**62) + header.encode())
    assert opened(path)


def test_msgpack_that_is_nested_or_of_a_hostile_dtype(tmp_path):
    msgpack = pytest.importorskip("msgpack")
    path = tmp_path / "a.msgpack"
    path.write_bytes(b"\x81\xa1a" * 900 + b"\x01")
    assert opened(path, sample_dims="draw")
    path.write_bytes(b"\x81\xa1a" * 100_000)
    assert opened(path)
    for dtype in ("(" * 10_000, "object", 3, None, "V9"):
        array = msgpack.ExtType(1, msgpack.packb(((2,), dtype, bytes(16))))
        path.write_bytes(msgpack.packb({"w": array}))
        assert opened(path, sample_dims="draw")
    array = msgpack.ExtType(1, msgpack.packb(((2**60,), "float64", bytes(16))))
    path.write_bytes(msgpack.packb({"w": array}))
    assert opened(path, sample_dims="draw")


# ---------------------------------------------------------------------- pickles


class Evil:
    """Runs code when it is loaded."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_no_pickle_is_run(tmp_path):
    evil, mark = np.array([Evil(tmp_path / "ran")], dtype=object), tmp_path / "ran"
    np.save(tmp_path / "a.npy", evil, allow_pickle=True)
    np.savez(tmp_path / "a.npz", w=evil)
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps(Evil(mark), protocol=2))
        archive.writestr("a/version", "3")
    for protocol in range(6):
        (tmp_path / f"{protocol}.pkl").write_bytes(pickle.dumps(Evil(mark), protocol=protocol))
    for path in sorted(tmp_path.iterdir()):
        assert opened(path, **({"sample_dims": "draw"} if path.suffix == ".npz" else {}))
    assert not mark.exists()


# ---------------------------------------------------------------------- Stan CSV


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# num_samples = " + "9" * 5000 + "\nlp__,mu\n-1,2\n", "num_samples is a number of 5000"),
        ("# num_samples = ²\nlp__,mu\n-1,2\n", None),
        ("lp__,mu.²\n-1,2\n", None),
        ("lp__,mu." + "9" * 5000 + "\n-1,2\n", "do not fill an array"),
        ("lp__,mu\n-1," + "[" * 10_000 + "\n", "not all values are numbers"),
        ("lp__,mu\n-1," + "9" * 10_000 + "\n", "beyond double precision"),
        ("lp__,mu\n-1,1e999\n", "beyond double precision"),
        ("lp__,mu\n-1,inf\n", None),
        ("lp__," + ",".join(f"a{i}" for i in range(20_000)) + "\n", "no draws"),
        ("lp__,mu:" + "1:" * 10_000 + "\n-1,2\n", None),
    ],
)
def test_stan(text, message, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(text)
    told = opened(path)
    assert (told is None) if message is None else (message in told)


# ---------------------------------------------------------------------- specs


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 10_000,
        "[units]\nh = " + "{a=" * 10_000,
        "[sizes]\nx = " + "9" * 5000,
        "[" + "a." * 10_000 + "b]\n",
        "[units]\nh = 'tanh'\n[axes]\nW = '" + "(" * 10_000 + " -> h'",
        "[units]\nh = '" + "a" * 100_000 + "'",
        "[units]\nh = '" + "x(" * 10_000 + "'",
        "[units]\nh = 'tanh'\n[sizes]\nx = 1e999",
        "[units]\nh = 'tanh'\n[criterion]\nname = " + "[" * 10_000,
    ],
)
def test_specs(text, tmp_path):
    path = tmp_path / "spec.toml"
    path.write_text(text)
    start = time.perf_counter()
    with pytest.raises(OURS):
        read_spec(path)
    assert time.perf_counter() - start < LONGEST


# ---------------------------------------------------------------------- the border


@pytest.mark.parametrize("kind", [KeyError, MemoryError, RecursionError, ZeroDivisionError])
def test_the_border(kind, tmp_path):
    with (
        pytest.raises(FileError, match=r"a\.x: .* as letters") as told,
        reading(tmp_path / "a.x", "letters"),
    ):
        raise kind("what is wrong")
    assert isinstance(told.value.__cause__, kind)


def test_the_border_names_the_file_once(tmp_path):
    for message in ("mu has no draws", f"{tmp_path / 'b'}: mu has no draws"):
        with (
            pytest.raises(DataError, match=f"^{tmp_path}") as told,
            reading([tmp_path / "a", tmp_path / "b"], "letters"),
        ):
            raise DataError(message)
        assert str(told.value).count(str(tmp_path)) == 1
    with pytest.raises(KeyboardInterrupt), reading(tmp_path, "letters"):
        raise KeyboardInterrupt


def test_values_that_cannot_be_read():
    class Lazy(xr.backends.BackendArray):
        shape, dtype = (1, 3), np.dtype(float)

        def __getitem__(self, key):
            raise MemoryError("Unable to allocate 8 EiB")

    lazy = xr.core.indexing.LazilyIndexedArray(Lazy())
    draws = xr.Dataset({"mu": (("chain", "draw"), lazy)})
    with pytest.raises(FileError, match=r"a.nc: posterior/mu cannot be read: there is not enough"):
        load(draws, [], "a.nc")
