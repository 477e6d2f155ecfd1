"""Hypothesis draws the same examples in every run, and may take its time over each.

The profile ``explore`` (RELABEL_HYPOTHESIS=explore) draws thousands of new ones instead.

BLAS gets one thread: the products are small, and every core has a worker of its own.
"""

import os
import sys

import pytest
from hypothesis import HealthCheck, settings

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

settings.register_profile(
    "relabel",
    derandomize=True,
    deadline=None,
    max_examples=20,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile(
    "explore",
    settings.get_profile("relabel"),
    derandomize=False,
    max_examples=2000,
)
settings.load_profile(os.environ.get("RELABEL_HYPOTHESIS", "relabel"))


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """Run the command in this process and folder; gives status, output and errors."""
    from relabel.cli import app as cli

    monkeypatch.chdir(tmp_path)

    def called(*args):
        monkeypatch.setattr(sys, "argv", ["relabel", *map(str, args)])
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = end.code or 0
        told = capsys.readouterr()
        return status, told.out, told.err

    return called
