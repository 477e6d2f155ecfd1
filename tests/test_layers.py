"""A module imports only from modules above it; slow dependencies stay out of ``import relabel``."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import relabel

PACKAGE = Path(relabel.__file__).parent

#: From top to bottom. A package stands for its modules, which may import one another.
ORDER = [
    "errors",
    "_util",
    "numerics",
    "groups",
    "spec",
    "data",
    "models",
    "sources",
    "proposals",
    "matching",
    "alignment",
    "io",
    "diagnostics",
    "analysis",
    "accessor",
    "criteria",
    "stats",
    "cli",
    "simulate",
]

MODULES = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if path not in (PACKAGE / "__init__.py", PACKAGE / "__main__.py")
)


def room(dotted: str) -> str:
    """Name of the module or package directly below ``relabel``."""
    return dotted.split(".")[1]


def imports(path: Path) -> set[str]:
    """Everything a module imports, wherever the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
            if node.module == "relabel":
                found |= {f"relabel.{alias.name}" for alias in node.names}
    return found


def test_every_module_has_its_place():
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES}
    assert rooms == set(ORDER)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_point_upwards(path):
    here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    allowed = {*ORDER[: ORDER.index(here)], here}
    own = {room(name) for name in imports(path) if name.startswith("relabel.")}
    assert own <= allowed, f"{here} imports from below: {sorted(own - allowed)}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_nothing_imports_simulate(path):
    own = path.relative_to(PACKAGE).parts[0] == "simulate"
    rooms = {room(name) for name in imports(path) if name.startswith("relabel.")}
    assert own or "simulate" not in rooms


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_the_first_rooms_need_numpy_and_scipy_only(path):
    here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if ORDER.index(here) <= ORDER.index("groups"):
        outside = {name.split(".")[0] for name in imports(path)} - {"relabel", "numpy", "scipy"}
        outside -= {"rich"} if path.name == "progress.py" else set()  # where a bar is shown
        assert outside <= set(sys.stdlib_module_names) | {"__future__"}


def test_import_is_light():
    code = (
        "import sys, relabel; "
        "slow = ('arviz', 'matplotlib', 'dask', 'typer', 'rich', 'xarray', 'scipy', 'numpy'); "
        "print([m for m in slow if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
