"""The registry of plug-ins: names, look-up, entry points, two of one name."""

import sys

import pytest

from relabel._util.registry import Registry
from relabel.errors import SpecError


@pytest.fixture
def shapes():
    registry = Registry("shape", "shapes", "tests.shapes")
    yield registry
    Registry.instances.remove(registry)


def install(folder, monkeypatch, package, points):
    """Lay a distribution out as an installer does, and put it on the path."""
    info = folder / package / f"{package}-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
    lines = [f"{name} = {target}" for name, target in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[tests.shapes]", *lines]))
    monkeypatch.syspath_prepend(str(folder / package))


def test_entries_keep_their_order(shapes):
    shapes.register("square", "s")
    shapes.register("circle", "c")
    assert list(shapes) == ["square", "circle"]
    assert len(shapes) == 2
    assert "circle" in shapes
    assert "oval" not in shapes
    assert dict(shapes) == {"square": "s", "circle": "c"}


def test_unknown_names_are_refused_with_the_closest(shapes):
    shapes.register("square", "s")
    with pytest.raises(SpecError, match=r"unknown shape 'sqare' \(did you mean 'square'\?\)"):
        shapes["sqare"]


def test_entry_points_are_loaded_when_asked_for(shapes, tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, "theirs", {"pi": "math:pi", "broken": "no_such_module:x"})
    assert set(shapes) == {"pi", "broken"}  # none was loaded
    assert shapes["pi"] == pytest.approx(3.141592653589793)
    with pytest.raises(SpecError, match=r"shape 'broken' of theirs cannot be loaded.*no_such_mod"):
        shapes["broken"]
    assert "no_such_module" not in sys.modules


def test_two_of_one_name_are_refused_by_name(shapes, tmp_path, monkeypatch):
    shapes.register("square", "s")
    install(tmp_path, monkeypatch, "theirs", {"square": "math:pi", "tau": "math:tau"})
    install(tmp_path, monkeypatch, "others", {"tau": "math:e"})
    with pytest.raises(SpecError, match=r"two shapes are named 'square': math:pi \(theirs\) and"):
        shapes["square"]
    with pytest.raises(SpecError, match="two shapes are named 'tau'"):
        shapes["tau"]
    with pytest.raises(SpecError, match="two shapes are named 'square'"):
        shapes.register("square", "another")


def test_refresh_lists_again(shapes, tmp_path, monkeypatch):
    assert list(shapes) == []
    install(tmp_path, monkeypatch, "theirs", {"pi": "math:pi"})
    assert list(shapes) == []
    shapes.refresh()
    assert list(shapes) == ["pi"]


def test_registries_are_compared_without_loading(shapes, tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, "theirs", {"broken": "no_such_module:x"})
    assert shapes != Registry("shape", "shapes", "tests.shapes")
    assert shapes == shapes  # noqa: PLR0124
    assert hash(shapes) == hash(shapes)
    Registry.instances.pop()
