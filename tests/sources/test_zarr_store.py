"""What a Zarr store may hold: links, pipes, damaged chunks, metadata that disagree."""

import json
import os

import numpy as np
import pytest
import xarray as xr

import relabel
from relabel import FileError

UNITS = {"k": "permutation"}


@pytest.fixture(params=[2, 3], ids=["zarr2", "zarr3"])
def store(request, tmp_path):
    rng = np.random.default_rng(0)
    mu = rng.permuted(np.array([0.0, 5, 10]) + 0.1 * rng.normal(size=(2, 50, 3)), axis=2)
    tree = xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset({"mu": (("chain", "draw", "k"), mu)}),
            "constant_data": xr.Dataset({"X": ("row", np.arange(50.0))}),
        }
    )
    path = tmp_path / "folder" / "in.zarr"
    tree.to_zarr(path, mode="w", consolidated=False, zarr_format=request.param)
    return path


def chunk(store, name):
    """The only chunk of an array."""
    return next(p for p in (store / name).rglob("*") if p.is_file() and p.name[0] in "0123456789c")


def aligned(store, target, **options):
    """Align a store into another one."""
    result = relabel.align(relabel.open_draws(store, **options), UNITS)
    relabel.save(result, target, source=store)
    return relabel.open_draws(target)["posterior/mu"].values


def test_a_link_out_of_the_folder_is_not_followed_unasked(store, tmp_path):
    kept = tmp_path / "kept"
    place = chunk(store, "posterior/mu")
    place.rename(kept)
    place.symlink_to(kept)
    before = kept.read_bytes()
    with pytest.raises(FileError, match=r"out of the folder that holds the store.*--follow-links"):
        relabel.open_draws(store)
    values = aligned(store, tmp_path / "out.zarr", follow_links=True)
    assert (np.ptp(values, axis=(0, 1)) < 2).all()
    assert kept.read_bytes() == before
    assert not any(path.is_symlink() for path in (tmp_path / "out.zarr").rglob("*"))


def test_a_link_to_nothing_is_refused(store):
    (store / "posterior" / "link").symlink_to("nowhere")
    with pytest.raises(FileError, match="is a link to nothing"):
        relabel.open_draws(store)


def test_hard_links_are_not_written_through(store, tmp_path):
    place, other = chunk(store, "posterior/mu"), tmp_path / "other"
    os.link(place, other)
    before = other.read_bytes()
    aligned(store, tmp_path / "out.zarr")
    assert other.read_bytes() == before
    assert place.read_bytes() == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_is_refused_at_once(store):
    os.mkfifo(store / "posterior" / "pipe")
    with pytest.raises(FileError, match="is not an ordinary file"):
        relabel.open_draws(store)


def test_a_damaged_chunk_beside_the_posterior_is_named(store, tmp_path):
    place = chunk(store, "constant_data/X")
    place.write_bytes(place.read_bytes()[:20])
    opened = relabel.open_draws(store)
    with pytest.raises(FileError, match=r"in\.zarr: constant_data/X cannot be read|X cannot be"):
        relabel.save(opened, tmp_path / "out.nc")
    assert not (tmp_path / "out.nc").exists()


def test_metadata_that_are_held_twice_and_differ_are_refused(store):
    import zarr

    zarr.consolidate_metadata(store)
    own = store / "posterior" / "mu"
    file = next(own / name for name in (".zarray", "zarr.json") if (own / name).exists())
    about = json.loads(file.read_text())
    about["shape"] = [2, 40, 3]
    file.write_text(json.dumps(about))
    with pytest.raises(
        FileError, match="consolidated metadata disagree with those of posterior/mu"
    ):
        relabel.open_draws(store)
