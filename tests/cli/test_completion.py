"""Completion, as a shell asks for it: by variables of the environment, in a process of its own."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from files import REPOSITORY, small_tree, write

from relabel.cli.headers import read_header
from relabel.diagnostics.likelihood import FAMILIES
from relabel.diagnostics.thresholds import declared_thresholds
from relabel.groups import GROUPS
from relabel.matching.criteria import CRITERIA, options_of

ENVIRONMENT = {k: v for k, v in os.environ.items() if "COMPLETE" not in k}
ENVIRONMENT["PYTHONPATH"] = str(REPOSITORY)


@pytest.fixture
def complete(tmp_path):
    """Complete the last of some words as zsh asks for it: nothing is split."""
    write(small_tree(), tmp_path / "in.nc")

    def offered(*words, code="from relabel.cli.app import main; main()"):
        line = " ".join(["relabel", *map(str, words)])
        asked = {"_RELABEL_COMPLETE": "complete_fish", "_TYPER_COMPLETE_ARGS": line}
        asked["_TYPER_COMPLETE_FISH_ACTION"] = "get-args"
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=ENVIRONMENT | asked,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return [line.split("\t")[0] for line in done.stdout.splitlines() if line]

    return offered


@pytest.fixture
def bash(tmp_path):
    """Complete the last of some words as bash asks for it: words are split at = and :."""
    write(small_tree(), tmp_path / "in.nc")

    def offered(*words):
        asked = {
            "_RELABEL_COMPLETE": "complete_bash",
            "COMP_WORDS": "\n".join(["relabel", *words]),
            "COMP_CWORD": str(len(words)),
        }
        done = subprocess.run(
            [sys.executable, "-m", "relabel"],
            env=ENVIRONMENT | asked,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split()

    return offered


# ---------------------------------------------------------------------- names from the registries


def test_criteria(bash):
    assert bash("align", "in.nc", "--criterion", "") == list(CRITERIA)
    fitting = [name for name in CRITERIA if name.startswith("ecr")]
    assert bash("align", "in.nc", "--criterion", "ecr") == fitting
    assert bash("compare", "in.nc", "--criterion", "mean", "--criterion", "ecr") == fitting


def test_options_of_criteria(bash, complete):
    offered = complete("align", "in.nc", "--criterion", "normal", "--set", "")
    assert offered == [f"{option}=" for option in options_of("normal")]
    assert bash("align", "in.nc", "--set", "sc") == ["scale="]
    chosen = ["compare", "in.nc", "--criterion", "mean", "--criterion", "normal", "--set"]
    assert "max_sweeps=" in bash(*chosen, "")
    assert bash(*chosen, "normal.sh") == ["normal.shrinkage="]
    assert bash("align", "in.nc", "--criterion", "nonsense", "--set", "") == []


def test_activations_behind_units(bash, complete):
    fitting = [name for name in GROUPS if name.startswith("ta")]
    assert "tanh" in fitting
    assert complete("align", "in.nc", "--units", "h=ta") == [f"h={name}" for name in fitting]
    assert bash("align", "in.nc", "--units", "h", "=", "ta") == fitting
    assert bash("align", "in.nc", "--units", "h", "=") == list(GROUPS)
    assert bash("align", "in.nc", "--units", "g", "=", "tanh", "--units", "h", "=", "ta") == fitting
    assert bash("align", "in.nc", "--activation", "ta") == fitting


def test_families_and_thresholds(bash):
    assert bash("diagnose", "in.nc", "--likelihood", "") == list(FAMILIES)
    assert bash("average", "in.nc", "--likelihood", "") == list(FAMILIES)
    assert bash("diagnose", "in.nc", "--set", "") == [f"{name}=" for name in declared_thresholds()]


# ---------------------------------------------------------------------- names from the file


@pytest.mark.parametrize("suffix", [".nc", ".zarr", ".npz"])
def test_variables_of_the_file(suffix, complete, tmp_path):
    if suffix == ".zarr":
        write(small_tree(), tmp_path / "in.zarr")
    if suffix == ".npz":
        np.savez(tmp_path / "in.npz", W1=np.zeros((4, 2)), b1=np.zeros(4))
    offered = complete("align", f"in{suffix}", "--axes", "")
    assert {"W1:", "b1:"} <= set(offered)
    assert not {"chain:", "draw:", "lp:", "X:"} & set(offered)
    assert complete("summary", f"in{suffix}", "--var-names", "W") == [
        name for name in ("W1", "W2") if f"{name}:" in offered
    ]
    assert complete("align", f"in{suffix}", "--units", "h=tanh", "--values", "b1=") == ["b1=h"]


def test_variables_of_a_netcdf_file_in_bash(bash):
    assert bash("summary", "in.nc", "--var-names", "W") == ["W1", "W2"]
    assert bash("diagnose", "in.nc", "--priors", "W") == ["W1=", "W2="]
    assert bash("diagnose", "in.nc", "--noise", "s") == ["sigma"]
    assert bash("summary", "no.nc", "--var-names", "W") == []
    assert bash("summary", "--var-names", "W") == []


def test_inputs_are_words_data_and_arrays(bash, complete, tmp_path):
    stored = ["constant_data/X", "constant_data/name"]
    assert complete("align", "in.nc", "--inputs", "") == ["auto", "none", *stored]
    np.savez(tmp_path / "data.npz", X_train=np.zeros(3), X_test=np.zeros(3), y=np.zeros(3))
    expected = ["X_train", "X_test"]
    assert complete("diagnose", "in.nc", "--inputs", "data.npz:X") == [
        f"data.npz:{name}" for name in expected
    ]
    assert bash("diagnose", "in.nc", "--targets", "data.npz", ":", "X") == expected


def test_units_of_the_record(bash, call, tmp_path):
    write(small_tree(), tmp_path / "in.nc")
    assert call("align", "in.nc", "-o", "out.nc", "--units", "h=tanh", "-q")[0] == 0
    assert bash("summary", "out.nc", "--units", "") == ["h"]


def test_names_of_dimensions_are_names_of_units(complete, tmp_path):
    draws = xr.Dataset({"mu": (("chain", "draw", "component"), np.zeros((1, 2, 3)))})
    for name, write_to in {"a.nc": draws.to_netcdf, "b.zarr": draws.to_zarr}.items():
        options = {"engine": "h5netcdf"} if name == "a.nc" else {"consolidated": False}
        write_to(tmp_path / name, **options)
        assert complete("align", name, "--units", "comp") == ["component="]
        assert complete("summary", name, "--var-names", "") == ["mu"]


def test_files_are_left_to_the_shell(bash):
    assert bash("align", "i") == []
    assert bash("align", "in.nc", "--spec", "") == []
    assert bash("align", "in.nc", "-o", "") == []


# ---------------------------------------------------------------------- quick, and never an error


def test_nothing_that_computes_is_imported(complete):
    look = """
import atexit, sys
def note():
    names = ("scipy", "xarray", "pandas", "arviz")
    print("imported:", *[m for m in names if hasattr(sys.modules.get(m), "__version__")])
atexit.register(note)
from relabel.cli.app import main; main()
"""
    for words in (["align", "in.nc", "--criterion", "mea"], ["align", "in.nc", "--units", "h=tan"]):
        *_, offered, imported = complete(*words, code=look)
        assert offered in ("mean", "h=tanh")
        assert imported == "imported:"


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\nnonsense", b"PK\x03\x04", b"text"])
def test_damaged_files_offer_nothing(content, bash, tmp_path):
    (tmp_path / "bad.nc").write_bytes(content)
    for option in ("--axes", "--units", "--inputs"):
        assert set(bash("align", "bad.nc", option, "")) <= {"auto", "none"}
    (tmp_path / "folder.zarr").mkdir()
    (tmp_path / "folder.zarr" / "x").mkdir()
    (tmp_path / "folder.zarr" / "x" / "zarr.json").write_text("{")
    assert bash("align", "folder.zarr", "--axes", "") == []


def test_a_request_that_makes_no_sense_is_quiet(tmp_path):
    for asked in ({"COMP_WORDS": "relabel 'align", "COMP_CWORD": "1"}, {"COMP_WORDS": "relabel"}):
        done = subprocess.run(
            [sys.executable, "-m", "relabel"],
            env=ENVIRONMENT | {"_RELABEL_COMPLETE": "complete_bash"} | asked,
            capture_output=True,
            text=True,
        )
        assert done.stderr == ""


def test_headers_name_what_xarray_reads(tmp_path):
    tree = small_tree(warmup=True)
    expected = {
        f"{g}/{n}" for g, node in tree.children.items() for n in node.to_dataset().data_vars
    }
    for name in ("a.nc", "b.zarr"):
        header = read_header(write(tree, tmp_path / name))
        assert expected <= set(header.variables)
        coordinates = {v.rpartition("/")[2] for v in set(header.variables) - expected}
        assert coordinates == {"kind", "half", "when"}  # of no dimension's name
        assert {"chain", "draw", "W1_dim_0", "obs"} <= set(header.dims)


# ---------------------------------------------------------------------- in a real bash


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_installed_completion_works_in_bash(tmp_path):
    write(small_tree(), tmp_path / "in.nc")
    program = tmp_path / "bin" / "relabel"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m relabel "$@"\n')
    program.chmod(0o755)
    home = {"HOME": str(tmp_path), "PATH": f"{program.parent}:{os.environ['PATH']}"}

    def run(script):
        done = subprocess.run(
            ["bash", "--norc", "-c", script],
            env=ENVIRONMENT | home,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    assert "bash completion installed" in run("relabel --install-completion; true")
    asked = """
source ~/.bash_completions/relabel.sh
COMP_WORDS=(relabel align in.nc --units h = tan) COMP_CWORD=6
_relabel_completion relabel
echo "${COMPREPLY[@]}"
"""
    assert run(asked) == "tanh\n"
