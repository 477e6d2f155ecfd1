"""Pages of the documentation say what is so."""

import doctest
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from files import REPOSITORY

from relabel.cli import app as cli
from relabel.diagnostics.checks import CHECKS
from relabel.groups import GROUPS
from relabel.io.spec_files import read_spec

ROOT = REPOSITORY
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_print_what_they_say(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    failed, _ = doctest.testfile(
        str(page),
        module_relative=False,
        encoding="utf-8",
        optionflags=doctest.NORMALIZE_WHITESPACE,
    )
    assert failed == 0


def stable(text: str) -> list[str]:
    """Lines that do not depend on the last digits of a computation."""
    return [line for line in text.splitlines() if not re.match("starts|note: outputs", line)]


def test_the_command_prints_what_the_readme_says(tmp_path):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"--units h1=tanh --units h2=tanh\n(.*?)wrote", text, re.DOTALL)
    code = "from relabel.cli.app import main; main()"
    arguments = ["align", "data/tanh_deep.nc", "--units", "h1=tanh", "--units", "h2=tanh", "-o"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, str(tmp_path / "out.nc")],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        encoding="utf-8",
    )
    said, printed = (stable(text) for text in (block[1], done.stdout))
    assert printed[: len(said)] == said


def test_the_diagnosis_prints_what_the_readme_says(tmp_path):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\$ relabel ((?:align|diagnose) .*spare\.nc.*)$", text, re.MULTILINE)
    assert len(commands) == 2
    block = re.search(r"\$ relabel diagnose spare.nc\n(.*?)```", text, re.DOTALL)
    code = "from relabel.cli.app import main; main()"
    for command in commands:
        arguments = command.replace(" spare.nc", f" {tmp_path / 'spare.nc'}").split()
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            encoding="utf-8",
        )
    said, printed = block[1], done.stdout
    assert NUMBER.sub("#", printed) == NUMBER.sub("#", said)
    numbers = [np.array(NUMBER.findall(text), dtype=float) for text in (printed, said)]
    np.testing.assert_allclose(*numbers, rtol=0.1, atol=0.05)  # sums differ between machines


NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")


def test_every_code_of_a_finding_is_explained():
    codes = {code for check in CHECKS.values() for code in check.codes} | {"open"}
    text = (ROOT / "docs" / "choosing.md").read_text(encoding="utf-8")
    assert len(codes) > 15
    assert {code for code in codes if f"`{code}`" not in text} == set()


def test_the_spec_of_the_readme_is_read(tmp_path):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    page = tmp_path / "spec.toml"
    page.write_text(re.search(r"```toml\n(.*?)```", text, re.DOTALL)[1], encoding="utf-8")
    spec, criterion = read_spec(page)
    assert spec.gauges == {"h2": "balanced", "y": "centred"}
    assert criterion == {"name": "mean"}


def test_the_table_of_activations_names_no_unknown_one():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?:odd|even): ([^|]*)\|", text, re.MULTILINE)
    assert len(rows) == 2
    for row in rows:
        assert {name.strip() for name in row.split(",")} <= set(GROUPS)


MODELS = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
CONSOLE = re.findall(r"```console\n\$ relabel (.*?)\n(.*?)```", MODELS, re.DOTALL)


@pytest.mark.parametrize(("command", "said"), CONSOLE, ids=[c.split()[0] for c, _ in CONSOLE])
def test_commands_of_the_models_page(command, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    arguments = shlex.split(command)
    if "-o" in arguments:
        place = arguments.index("-o") + 1
        arguments[place] = str(tmp_path / arguments[place])
    monkeypatch.setattr(sys, "argv", ["relabel", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    printed = capsys.readouterr().out.replace(f"{tmp_path}/", "")
    seconds = re.compile(r" \d+\.\d\d( +\d\.\d{3} +\d+)$", re.MULTILINE)  # of the machine
    assert seconds.sub(r" –\1", printed).splitlines()[: said.count("\n")] == (
        seconds.sub(r" –\1", said).splitlines()
    )


def test_the_mean_network_of_the_readme(tmp_path, call):
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    text = PAGES[0].read_text(encoding="utf-8")
    first, second = re.findall(r"^\$ relabel (.*members\.nc.*)$", text, re.MULTILINE)
    said = re.search(r"\$ relabel average [^\n]*\n(.*?)```", text, re.DOTALL)[1]
    assert call(*shlex.split(first)) == (0, "", "")
    status, printed, err = call(*shlex.split(second))
    assert (status, err) == (0, "")
    assert NUMBER.sub("#", printed) == NUMBER.sub("#", said)
    numbers = [np.array(NUMBER.findall(told), dtype=float) for told in (printed, said)]
    np.testing.assert_allclose(*numbers, rtol=0.1)  # a local optimum: sums differ by machine


SOURCES = (ROOT / "docs" / "sources.md").read_text(encoding="utf-8")


def test_commands_of_the_page_on_sources(tmp_path, call):
    """One after the other, in a folder of their own that sees the repository's files."""
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    blocks = re.findall(r"```console\n(.*?)```", SOURCES, re.DOTALL)
    runs = re.findall(r"^\$ relabel (.*)\n((?:[^$].*\n)*)", "".join(blocks), re.MULTILINE)
    assert len(runs) >= 5
    for command, said in runs:
        status, out, err = call(*shlex.split(command))
        assert (status, err) == (0, ""), command
        assert out.startswith(said) or not said, command
