"""The plan of the house: sizes of functions, names, packages that say what they are."""

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import relabel

PACKAGE = Path(relabel.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
NAMESPACES = ["criteria", "groups", "models", "simulate", "sources", "stats"]

#: Longest body of a function, without its docstring, and most parameters of one, without
#: `progress`, that every verb has.
MOST_LINES, MOST_PARAMETERS = 50, 12


def name_of(path):
    return path.relative_to(PACKAGE).as_posix()


def functions(path):
    """Yield every function of a file with the lines of its body."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = node.end_lineno - node.lineno + 1
            if ast.get_docstring(node):
                lines -= node.body[0].end_lineno - node.body[0].lineno + 1
            yield node, lines


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_functions_are_short(path):
    long = {node.name: lines for node, lines in functions(path) if lines > MOST_LINES}
    if (
        path.parent.name == "cli"
    ):  # the options of a command are its parameters, a line or more each
        long = {n: k for n, k in long.items() if not n.endswith("_command")}
    assert not long


def parameters(node):
    """Return the names of the parameters of a function."""
    return {arg.arg for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)}


@pytest.mark.parametrize("path", [p for p in FILES if p.parent.name != "cli"], ids=name_of)
def test_functions_take_few_parameters(path):
    wide = {
        node.name: count
        for node, _ in functions(path)
        if (count := len(parameters(node) - {"progress"})) > MOST_PARAMETERS
    }
    assert not wide


def public_names():
    """Yield the public objects with their names."""
    for name in relabel.__all__:
        yield f"relabel.{name}", getattr(relabel, name)
    for space in NAMESPACES:
        module = importlib.import_module(f"relabel.{space}")
        for name in module.__all__:
            yield f"relabel.{space}.{name}", getattr(module, name)


def test_no_module_has_the_name_of_a_public_function():
    taken = {name.rpartition(".")[2] for name, value in public_names() if inspect.isroutine(value)}
    modules = {path.stem for path in FILES} | {path.parent.name for path in FILES}
    assert not taken & modules


@pytest.mark.parametrize("name", [n for n, v in public_names() if inspect.isroutine(v)])
def test_public_functions_say_what_they_do(name):
    value = dict(public_names())[name]
    doc = inspect.getdoc(value) or ""
    assert "Examples\n--------" in doc
    assert ">>>" in doc
    hints = inspect.signature(value)
    assert hints.return_annotation is not inspect.Signature.empty
    for parameter in hints.parameters.values():
        assert parameter.name in doc, parameter.name


@pytest.mark.parametrize("name", ["relabel", *(f"relabel.{space}" for space in NAMESPACES)])
def test_namespaces_are_documented(name):
    module = importlib.import_module(name)
    assert (module.__doc__ or "").count(" ") > 3
    assert sorted(module.__all__) == sorted(set(module.__all__))


def test_packages_say_what_they_are():
    packages = [info.name for info in pkgutil.iter_modules([str(PACKAGE)]) if info.ispkg]
    for name in packages:
        doc = ast.get_docstring(ast.parse((PACKAGE / name / "__init__.py").read_text("utf-8")))
        assert doc, name
        assert len(doc.splitlines()) <= 20, name


def test_words_that_are_not_of_the_field():
    """Identifiers that a reader would have to learn."""
    retired = {"told", "worth", "dealt", "mend", "rooms", "Kick", "Way", "memberships"}
    found = {}
    for path in FILES:
        names = {
            word
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            for word in (
                getattr(node, "id", None),
                getattr(node, "arg", None),
                getattr(node, "name", None),
            )
            if word in retired
        }
        if names:
            found[name_of(path)] = sorted(names)
    assert not found
