"""The command on files of weights and of samplers."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from files import RECORDED

import relabel
from relabel.data.provenance import Provenance

DATA = RECORDED / "sources"
ENSEMBLE = DATA / "ensemble_10-64-64-1.safetensors"
POINTS = f"{DATA / 'ensemble_10-64-64-1_data.npz'}"


def arrays(path, **options):
    """Names and values of the posterior in a file."""
    posterior = relabel.open_draws(path, **options)["posterior"]
    return {str(name): array.values for name, array in posterior.data_vars.items()}


def same(one, two):
    return one.keys() == two.keys() and all(
        one[name].dtype == two[name].dtype and np.array_equal(one[name], two[name]) for name in one
    )


def test_an_ensemble_from_its_file_to_the_mean_network(call):
    status, out, err = call(
        "align", ENSEMBLE, "--activation", "relu", "--inputs", f"{POINTS}:X_train",
        "--n-perturbations", 0, "-o", "aligned.nc",
    )  # fmt: skip
    assert (status, err) == (0, "")
    assert "axes, from names and shapes: 0.weight: h1 <- x; 0.bias: -> h1" in out
    assert "independently trained networks" in out
    status, out, err = call(
        "average", "aligned.nc", "--inputs", f"{POINTS}:X_test", "--targets", f"{POINTS}:y_test",
        "--json", "-o", "mean.safetensors",
    )  # fmt: skip
    assert (status, err) == (0, "")
    loss = json.loads(out)["loss"]
    assert loss["before"] == pytest.approx(0.8312, abs=1e-3)
    assert loss["mean_network"] < loss["ensemble"] < loss["before"]
    assert arrays("mean.safetensors", sample_dims="")["4.bias"].shape == (1, 1, 1)


def test_weights_go_in_and_come_out_in_the_form_they_had(call):
    status, _, err = call(
        "align", DATA / "ensemble.safetensors", "--activation", "tanh", "-o", "a.safetensors"
    )
    assert (status, err) == (0, "")
    assert call("align", "a.safetensors", "--activation", "tanh", "-o", "again.nc")[0] == 0
    assert Provenance.of(relabel.open_draws("again.nc")).n_moved == 0
    assert call("convert", "a.safetensors", "-o", "a.npz")[0] == 0
    assert same(arrays("a.npz"), arrays("a.safetensors"))
    assert call("convert", "a.npz", "-o", "a.nc")[0] == 0
    assert same(arrays("a.nc"), arrays("a.safetensors"))


def test_a_file_converted_to_its_own_kind_is_a_copy(call):
    call("align", DATA / "ensemble.safetensors", "--units", "h=tanh", "-o", "aligned.nc")
    assert call("convert", "aligned.nc", "-o", "copy.nc")[0] == 0
    one, two = (relabel.open_draws(f"{name}.nc").load() for name in ("aligned", "copy"))
    assert one.identical(two)
    status, _, err = call("convert", "aligned.nc", "-o", "aligned.nc", "--force")
    assert status == 2
    assert "output and input are the same" in err


def test_undo_of_an_aligned_file_gives_the_weights_back(call):
    source = DATA / "ensemble.safetensors"
    call("align", source, "--units", "h=tanh", "-o", "aligned.nc")
    status, _, err = call("undo", "aligned.nc", "-o", "back.nc")
    assert (status, err) == (0, "")
    assert call("convert", "back.nc", "-o", "back.safetensors")[0] == 0
    assert Path("back.safetensors").read_bytes() == source.read_bytes()


@pytest.mark.parametrize(
    "files",
    [
        [str(DATA / "stan_chain_*.csv")],
        [DATA / f"stan_chain_{i}.csv" for i in (1, 2, 3, 4)],
    ],
)
def test_chains_of_stan(files, call):
    command = ["align", *files, "--units", "j=permutation", "--axes", "beta: j", "-o", "out.nc"]
    status, out, err = call(*command)
    assert (status, err) == (0, "")
    assert "4 × 50" in out
    assert same(
        {"beta": relabel.undo(relabel.open_draws("out.nc"))["posterior"]["beta"].values},
        {"beta": arrays(files)["beta"]},
    )


def test_chains_of_stan_of_unequal_length(call, tmp_path):
    for i in (1, 2):
        shutil.copy(DATA / f"stan_chain_{i}.csv", tmp_path)
    lines = (tmp_path / "stan_chain_2.csv").read_text().splitlines(keepends=True)
    (tmp_path / "stan_chain_2.csv").write_text("".join(lines[:70]))
    files = ["stan_chain_1.csv", "stan_chain_2.csv"]
    status, _, err = call("convert", *files, "-o", "out.nc")
    assert status == 2
    assert "stan_chain_2.csv" in err
    assert not Path("out.nc").exists()
    assert call("convert", *files, "-o", "out.nc", "--truncate")[0] == 0
    assert relabel.open_draws("out.nc")["posterior"].sizes["draw"] < 50


def test_a_folder_of_members_is_inspected(call, tmp_path):
    members = relabel.sources.to_dict(relabel.open_draws(DATA / "ensemble.safetensors"))
    (tmp_path / "run").mkdir()
    for i in range(4):
        np.savez(tmp_path / "run" / f"net_{i}.npz", **{k: v[i] for k, v in members.items()})
    status, out, err = call("inspect", "run")
    assert (status, err) == (0, "")
    assert '"0.weight" = "h <- x"' in out
    assert "draw=4" in out


def test_walkers(call):
    line = "theta: (x -> h + -> h + h -> y + -> y)"
    spec = ["--units", "h=tanh", "--axes", line, "--sizes", "x=1", "--sizes", "h=2"]
    status, out, err = call("align", DATA / "emcee.h5", *spec, "-o", "out.nc")
    assert (status, err) == (0, "")
    assert "walkers, which depend on one another" in out


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["align", "square.npz", "--units", "j=tanh"], "--sample-dims"),
        (["align", DATA / "ensemble.safetensors", "--activation", "tanh", "--units", "h=tanh"],
         "give one"),
        (["align", DATA / "stan_chain_1.csv", "--activation", "tanh"], "do not look like one"),
        (["align", DATA / "stan_chain_1.csv", "--sample-dims", "draw", "--units", "j=tanh"],
         "leave sample_dims='draw' out"),
        (["align", DATA / "ensemble.safetensors", "--activation", "tahn"], "unknown activation"),
        (["align", DATA / "emcee.h5", DATA / "emcee.h5", "--units", "h=tanh"], "given twice"),
        (["align", DATA / "emcee.h5", "--truncate", "--units", "h=tanh"],
         "truncate=True is for Stan CSV; this is emcee"),
        (["align", DATA / "emcee.h5", "--units", "h=tanh", "--sizes", "x=1.5"], "an integer"),
        (["align", DATA / "emcee.h5", "--units", "h=tanh", "--sizes", "x=nan"], "an integer"),
        (["align", "nothing_*.csv", "--units", "h=tanh"], "no file fits this pattern"),
        (["align", DATA / "ensemble.safetensors", "--activation", "tanh", "--inputs",
          f"{POINTS}:X_tets"], "X_test"),
    ],
)  # fmt: skip
def test_refusals(command, told, call):
    np.savez("square.npz", mu=np.zeros((4, 100, 3)))
    status, out, err = call(*command, "-o", "out.nc")
    assert (status, out) == (2, "")
    assert told in err
    assert err.count("\n") == 1
    assert not Path("out.nc").exists()
