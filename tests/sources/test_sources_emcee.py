"""Ensembles of walkers: the HDF5 file of a real run (tests/data/make_sources_samplers.py)."""

import json
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from files import RECORDED

import relabel
from relabel.errors import DataError, FileError, SpecError
from relabel.sources.emcee import from_emcee, to_emcee
from relabel.sources.kinds import source_of

LAYOUT = {"W1": (1, 2), "b1": (2,), "W2": (2, 1), "b2": (1,)}


@pytest.fixture(scope="module")
def path(request):
    return RECORDED / "sources" / "emcee.h5"


@pytest.fixture(scope="module")
def stored(path):
    """All steps that were made; 20 more are allocated."""
    with h5py.File(path) as file:
        assert file["mcmc/chain"].shape == (60, 16, 7)
        return file["mcmc/chain"][:40], file["mcmc/log_prob"][:40]


class Backend:
    """As emcee's backend in memory."""

    def __init__(self, chain, log_prob):
        self.chain, self.log_prob, self.iteration = chain, log_prob, len(chain)

    def get_chain(self):
        return self.chain

    def get_log_prob(self):
        return self.log_prob


def test_walkers_are_one_chain_in_the_order_of_steps(path, stored):
    chain, log_prob = stored
    draws = from_emcee(path)
    posterior = draws["posterior"]
    assert dict(posterior.sizes) == {"chain": 1, "draw": 640, "theta_dim_0": 7}
    assert np.array_equal(posterior["theta"][0], chain.reshape(640, 7))
    assert np.array_equal(draws["sample_stats/lp"][0], log_prob.ravel())
    row = 5 * 16 + 3
    assert (posterior["step"][row], posterior["walker"][row]) == (5, 3)
    assert np.array_equal(posterior["theta"][0, row], chain[5, 3])
    assert posterior.attrs["walkers"] == 16


def test_align_undo_and_back(path, stored, tmp_path):
    draws = from_emcee(path, layout=LAYOUT)
    aligned = relabel.align(draws, relabel.mlp(1, "tanh"))
    assert np.array_equal(to_emcee(relabel.undo(aligned)), stored[0])
    theta = to_emcee(aligned)
    assert theta.shape == stored[0].shape
    assert not np.array_equal(theta, stored[0])
    x = np.linspace(-2, 2, 9)

    def outputs(t):
        return (np.tanh(x[:, None] * t[:2] + t[2:4]) * t[4:6]).sum(axis=1) + t[6]

    for step, walker in ((0, 0), (17, 5), (39, 15)):
        raw, new = outputs(stored[0][step, walker]), outputs(theta[step, walker])
        np.testing.assert_allclose(raw, new, rtol=1e-12)
    relabel.save(aligned, tmp_path / "aligned.nc")
    assert np.array_equal(to_emcee(relabel.open_draws(tmp_path / "aligned.nc")), theta)


def test_the_record_says_that_walkers_are_not_chains(path):
    aligned = relabel.align(from_emcee(path, layout=LAYOUT), relabel.mlp(1, "tanh"))
    warnings = json.loads(aligned["relabel"].attrs["relabel"])["warnings"]
    assert [w for w in warnings if "16 walkers, which depend on one another" in w]


def test_names_and_layouts_split_vectors(path, stored):
    names = [f"p{i}" for i in range(7)]
    named = from_emcee(path, var_names=names)
    assert np.array_equal(named["posterior/p4"][0], stored[0].reshape(-1, 7)[:, 4])
    assert np.array_equal(to_emcee(named), stored[0])
    laid = from_emcee(path, layout={"a": (2, 2), "b": (), "c": [2]})
    assert np.array_equal(laid["posterior/a"][0], stored[0].reshape(-1, 7)[:, :4].reshape(-1, 2, 2))
    assert laid["posterior/b"].shape == (1, 640)
    assert np.array_equal(to_emcee(laid), stored[0])


def test_steps_can_be_left_out(path, stored):
    draws = from_emcee(path, discard=10, thin=3)
    kept = stored[0][12::3]  # emcee's own choice of steps
    assert np.array_equal(to_emcee(draws), kept)
    assert np.array_equal(draws["sample_stats/lp"][0], stored[1][12::3].ravel())


def test_a_backend_in_memory(stored):
    draws = from_emcee(Backend(*stored))
    assert np.array_equal(to_emcee(draws), stored[0])


def test_several_backends_in_one_file(path, tmp_path):
    several = tmp_path / "several.h5"
    with h5py.File(path) as source, h5py.File(several, "w") as target:
        for name in ("first", "second"):
            source.copy("mcmc", target, name=name)
        target["second"].attrs["iteration"] = 7
    assert source_of(several).name == "emcee"
    with pytest.raises(FileError, match=r"several among its backends of emcee \(first, second\)"):
        from_emcee(several)
    assert len(to_emcee(from_emcee(several, group="second"))) == 7
    with pytest.raises(FileError, match="no 'third'"):
        from_emcee(several, group="third")


def test_files_are_recognised_by_their_content(path):
    assert source_of(path).name == "emcee"
    assert source_of(RECORDED / "sigmoid_2-4-1.nc").name == "netCDF"
    for other in (RECORDED / "README.md", RECORDED):
        assert source_of(other) is None


# What is refused


def test_a_file_that_another_process_writes_is_refused_at_once(path, tmp_path):
    busy = tmp_path / "busy.h5"
    busy.write_bytes(path.read_bytes())
    code = "import sys, h5py; f = h5py.File(sys.argv[1], 'r+'); print('open', flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code, str(busy)], **pipes) as writer:
        assert writer.stdout.readline() == "open\n"
        start = time.perf_counter()
        for call in (from_emcee, source_of):
            with pytest.raises(FileError, match=r"busy.h5: another process has it open"):
                call(busy)
        assert time.perf_counter() - start < 1
        writer.communicate("\n")
    assert from_emcee(busy)["posterior"].sizes["draw"] == 640


@pytest.mark.parametrize(
    "said", ["unable to lock file, errno = 33", "file is already open for write"]
)
def test_locks_of_other_systems(path, monkeypatch, said):
    def locked(*_):
        raise OSError(f"Unable to synchronously open file ({said})")

    monkeypatch.setattr(h5py, "File", locked)
    with pytest.raises(FileError, match="another process has it open"):
        from_emcee(path)


def test_files_that_are_no_backends(path, request, tmp_path):
    with pytest.raises(FileError, match="no such file"):
        from_emcee(tmp_path / "none.h5")
    with pytest.raises(FileError, match="cannot be read as HDF5"):
        from_emcee(request.path)
    with pytest.raises(FileError, match=r"none among its backends of emcee \(none\)"):
        from_emcee(RECORDED / "sigmoid_2-4-1.nc")
    (tmp_path / "cut.h5").write_bytes(path.read_bytes()[:20000])
    with pytest.raises(FileError, match=r"cut.h5: cannot be read as HDF5"):
        from_emcee(tmp_path / "cut.h5")
    with pytest.raises(DataError, match="must be a sampler, a backend or a path, not dict"):
        from_emcee({})


def test_no_steps(path, stored, tmp_path):
    empty = tmp_path / "empty.h5"
    empty.write_bytes(path.read_bytes())
    with h5py.File(empty, "r+") as file:
        file["mcmc"].attrs["iteration"] = 0
    for source in (empty, Backend(stored[0][:0], stored[1][:0])):
        with pytest.raises(DataError, match="no steps yet"):
            from_emcee(source)
    with pytest.raises(DataError, match="of 40 steps none is left after discard=40"):
        from_emcee(path, discard=40)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"var_names": ["a", "b"]}, "7 dimensions and 2 different names in var_names"),
        ({"var_names": ["a"] * 7}, "7 dimensions and 1 different names"),
        ({"layout": {"W": (2, 3)}}, r"7 dimensions, but the layout has 6 \(W \(2, 3\)\)"),
        ({"var_names": list("abcdefg"), "layout": LAYOUT}, "not both"),
        ({"layout": {"W": (-7, -1)}}, r"layout.'W'. must be the shape of an array, not \(-7, -1\)"),
        ({"var_names": ["step", *"bcdefg"]}, "'step' is the name of a coordinate"),
        ({"thin": 0}, "thin must be a positive integer, not 0"),
        ({"discard": 1.0}, "discard must be a non-negative integer, not 1.0"),
        ({"discard": -1}, "discard must be a non-negative integer, not -1"),
    ],
)
def test_options_that_do_not_fit(path, options, message):
    with pytest.raises(SpecError, match=message):
        from_emcee(path, **options)


def test_draws_that_cannot_go_back(path):
    draws = from_emcee(path, layout=LAYOUT)
    with pytest.raises(DataError, match="lacks 'W1'"):
        to_emcee(draws["posterior"].to_dataset().drop_vars("W1"))
    with pytest.raises(DataError, match="639 draws, which are not all draws of 16 walkers"):
        to_emcee(draws["posterior"].to_dataset().isel(draw=slice(1, None)))
    with pytest.raises(DataError, match="not of walkers"):
        to_emcee(relabel.open_draws(path.parents[1] / "sigmoid_2-4-1.nc"))
