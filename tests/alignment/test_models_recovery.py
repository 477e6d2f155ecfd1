"""The table of recovered labels: benchmarks/models_recovery.py."""

import importlib.util
import sys

import pytest
from files import REPOSITORY

import relabel
from relabel.matching.criteria import CRITERIA
from relabel.simulate import mixture, recovery

PATH = REPOSITORY / "benchmarks" / "models_recovery.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("models_recovery", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["models_recovery"] = module
    spec.loader.exec_module(module)
    return module


def test_the_quick_table_has_every_criterion(benchmark, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["models_recovery.py", "--quick"])
    benchmark.main()
    printed = capsys.readouterr()
    for rows in (benchmark.MIXTURES, benchmark.FACTORS):
        for row in rows:
            assert (f"| {row.label} |" in printed.out) == (row.name in CRITERIA)
    assert printed.out.count("| truth | 1.00 (1.00) | 1.00 (1.00) |") == 2
    assert "–" not in printed.out, printed.err


def test_means_separate_what_all_parameters_do_not():
    """Well separated means; weights and spreads that all components share only add noise."""
    made = mixture(12, n=350, separation=6.0, draws=30)
    shares = {}
    for names in (None, "mu"):
        aligned = relabel.align(
            made.data, made.spec, criterion=relabel.criteria.Mean(var_names=names)
        )
        shares[names] = recovery(aligned["relabel"], made.planted)["component"]
    assert shares["mu"] > 0.99
    assert shares[None] < shares["mu"]
