"""Help pages, the version, and what a start of the command imports."""

import json
import re
import subprocess
import sys

import pytest
import typer

import relabel
from relabel.cli.app import COMMANDS, app

NAMES = [name for names in COMMANDS.values() for name in names]
SLOW = ("arviz", "arviz_base", "arviz_stats", "dask", "h5py", "matplotlib", "pandas", "scipy")
SLOW = (*SLOW, "xarray", "zarr")


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


@pytest.mark.parametrize("arguments", [["--version"], ["-m", "relabel", "--version"]])
def test_version(arguments, call):
    said = f"relabel {relabel.__version__}\n"
    if len(arguments) == 1:
        assert call(*arguments) == (0, said, "")
    else:
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, said, "")


def test_python_m_relabel_is_the_command():
    command = [sys.executable, "-m", "relabel", "inspect", "no.nc"]
    done = subprocess.run(command, capture_output=True, text=True)
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
    import relabel.cli

    files = {p.stem for folder in relabel.cli.__path__ for p in _files(folder)}
    assert {f"{name}_command" for name in NAMES} == {f for f in files if f.endswith("_command")}


def _files(folder):
    from pathlib import Path

    return Path(folder).glob("*.py")


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
    from relabel.matching.criteria import CRITERIA

    text = " ".join(" ".join(page(name)) for name in NAMES)
    named = {name for name in CRITERIA if re.search(rf"\b{name}\b,", text)}
    assert len(named & set(CRITERIA)) < 3
    assert not all(family in text for family in FAMILIES)


def modules_after(arguments, code="from relabel.cli.app import main; main()"):
    """Return which modules a start leaves imported."""
    look = f"""
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))
sys.argv = ["relabel", *{arguments!r}]
{code}
"""
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stderr.splitlines()[-1])


@pytest.mark.parametrize("arguments", [["--help"], *[[name, "--help"] for name in NAMES]])
def test_help_imports_nothing_that_computes(arguments):
    assert {m.partition(".")[0] for m in modules_after(arguments)} & {*SLOW, "numpy"} == set()


def test_import_relabel_imports_nothing_that_computes():
    found = modules_after([], "import relabel")
    assert {m.partition(".")[0] for m in found} & {*SLOW, "numpy", "typer", "rich"} == set()
