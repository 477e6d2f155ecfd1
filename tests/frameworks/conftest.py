"""Tests against real libraries, which a plain run of the tests skips where they are missing.

With the environment variable ``RELABEL_FRAMEWORKS`` set, a library that is missing is an error.
"""

import importlib.util
import os

SAMPLERS = ["numpyro", "pymc", "pyro", "blackjax", "emcee", "cmdstanpy"]
LIBRARIES = ["torch", "flax", "orbax", "safetensors", *SAMPLERS]

if os.environ.get("RELABEL_FRAMEWORKS"):
    absent = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    assert not absent, f"not installed: {', '.join(absent)}"
