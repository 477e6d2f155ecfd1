"""Tests against real libraries, which a plain test run skips where they are not installed.

With the environment variable ``RELABEL_FRAMEWORKS`` set, a library that is missing is an error.
"""

import importlib
import os

import pytest

LIBRARIES = ("torch", "flax", "safetensors", "numpyro", "pymc", "blackjax", "emcee", "cmdstanpy")


@pytest.fixture(autouse=True, scope="session")
def every_library_is_there():
    if os.environ.get("RELABEL_FRAMEWORKS"):
        for name in (*LIBRARIES, "pyro", "orbax.checkpoint"):
            importlib.import_module(name)
