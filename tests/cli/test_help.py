"""Help pages, the version, and what a start of the command imports."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from files import REPOSITORY

import relabel
from relabel.cli.app import COMMANDS, app

NAMES = [name for names in COMMANDS.values() for name in names]
SLOW = {"arviz", "arviz_base", "arviz_stats", "dask", "h5py", "matplotlib", "pandas", "scipy"}
SLOW |= {"xarray", "zarr", "numpy"}


def python(*arguments):
    """Run Python in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.fixture
def page(call, monkeypatch):
    """Return a help page on a wide terminal, without its frames."""
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.setenv("TERMINAL_WIDTH", "1000")

    def shown(*command):
        status, out, err = call(*command, "--help")
        assert (status, err) == (0, "")
        return [line.strip("│╭╰╮╯─ \n") for line in out.splitlines()]

    return shown


def test_python_m_relabel_is_the_command(call):
    said = f"relabel {relabel.__version__}\n"
    assert call("--version") == (0, said, "")
    done = python("-m", "relabel", "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
    done = python("-m", "relabel", "inspect", "no.nc")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: no.nc: no such file or folder\n"


def test_commands_are_grouped_by_what_people_do(page):
    lines = page()
    heads = [lines.index(panel) for panel in COMMANDS]
    assert heads == sorted(heads)
    for head, names in zip(heads, COMMANDS.values(), strict=True):
        own = lines[head + 1 : head + 1 + len(names)]
        assert [line.split()[0] for line in own] == list(names)


def test_every_command_file_is_listed():
    files = Path(relabel.__file__).parent.glob("cli/*_command.py")
    assert {f"{name}_command" for name in NAMES} == {path.stem for path in files}


@pytest.mark.parametrize("name", NAMES)
def test_help_pages_have_no_line_breaks_of_the_source(name, page):
    lines = page(name)
    doc = sys.modules[f"relabel.cli.{name}_command"].command.__doc__
    for paragraph in doc.split("\n\n"):
        assert " ".join(paragraph.split()) in lines


def options():
    """Return every option of every command."""
    group = typer.main.get_command(app)
    for name, command in group.commands.items():
        for parameter in command.params:
            if parameter.param_type_name == "option" and parameter.name != "help":
                yield name, parameter


def test_every_option_has_a_sentence_and_says_if_it_is_repeatable():
    seen = 0
    for name, option in options():
        where = f"{name} {option.opts[0]}"
        assert option.help.endswith("."), where
        assert ("repeatable" in option.help) == option.multiple, where
        seen += 1
    assert seen > 50


def test_one_option_means_one_thing():
    """Options of several commands have the same form; help differs only where results do."""
    forms = {}
    for _, option in options():
        form = (option.multiple, option.metavar, option.is_flag)
        forms.setdefault(option.opts[0], set()).add(form)
    several = {name: found for name, found in forms.items() if len(found) > 1}
    assert set(several) <= {"--criterion", "--set", "--units", "--output"}


def test_no_help_lists_names_that_others_may_add(page):
    from relabel.diagnostics.likelihood import FAMILIES
    from relabel.groups import GROUPS
    from relabel.matching.criteria import CRITERIA

    words = {
        word.strip(".,;:()'") for name in NAMES for line in page(name) for word in line.split()
    }
    for names in (CRITERIA, FAMILIES, GROUPS):
        assert not set(names) <= words


def imported_by(arguments, code):
    """Return the packages that a start leaves imported."""
    look = f"""
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))
sys.argv = ["relabel", *{arguments!r}]
{code}
"""
    done = python("-c", look)
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in json.loads(done.stderr.splitlines()[-1])}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *[[n, "--help"] for n in NAMES]])
def test_help_imports_nothing_that_computes(arguments):
    found = imported_by(arguments, "from relabel.cli.app import main; main()")
    assert "typer" in found
    assert found & SLOW == set()


def test_import_relabel_imports_nothing_that_computes():
    found = imported_by([], "import relabel")
    assert "relabel" in found
    assert found & {*SLOW, "typer", "rich"} == set()
