"""A third party's package, installed for one test: its folder is put on the path.

`site` holds the package and its metadata as an installer would lay them out. The registries list
entry points once, so they are told to look again, before a test and after it.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from relabel._util.registry import Registry

SITE = Path(__file__).parent / "site"


def refresh():
    """Have all registries list their entry points again."""
    for registry in Registry.instances:
        registry.refresh()


@pytest.fixture
def installed(monkeypatch):
    """Install the example package in this process."""
    monkeypatch.syspath_prepend(str(SITE))
    refresh()
    yield
    monkeypatch.undo()
    for name in [name for name in sys.modules if name.split(".")[0] == "relabel_example"]:
        del sys.modules[name]
    refresh()


@pytest.fixture
def run():
    """Run the command in a process of its own, with or without the example package."""

    def ran(*args, installed=True, cwd=None):
        path = [str(SITE)] * installed + [p for p in [os.environ.get("PYTHONPATH")] if p]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
        command = [sys.executable, "-m", "relabel", *map(str, args)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=cwd)

    return ran
