"""The axes notation: what each line means, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relabel.errors import SpecError
from relabel.spec.notation import Axes, Axis, parse

HEAD, TAIL, NEUTRAL = "head", "tail", "neutral"


def shown(text: str) -> list[list[tuple]]:
    """Every stored axis as a list of (name, role, exponent)."""
    return [[(a.name, a.role, a.exponent) for a in group] for group in parse(text).stored]


MEANINGS = {
    "": [],
    "x -> h": [[("x", TAIL, 1)], [("h", HEAD, 1)]],
    "h <- x": [[("h", HEAD, 1)], [("x", TAIL, 1)]],
    "-> h": [[("h", HEAD, 1)]],
    "h <-": [[("h", HEAD, 1)]],
    "h ->": [[("h", TAIL, 1)]],
    "<- h": [[("h", TAIL, 1)]],
    "x->h": [[("x", TAIL, 1)], [("h", HEAD, 1)]],
    "h<-x": [[("h", HEAD, 1)], [("x", TAIL, 1)]],
    "  x\t->  h ": [[("x", TAIL, 1)], [("h", HEAD, 1)]],
    "a b -> c d": [[("a", TAIL, 1)], [("b", TAIL, 1)], [("c", HEAD, 1)], [("d", HEAD, 1)]],
    "component dim": [[("component", NEUTRAL, 1)], [("dim", NEUTRAL, 1)]],
    "_ h": [[(None, NEUTRAL, 1)], [("h", NEUTRAL, 1)]],
    "_ -> h": [[(None, TAIL, 1)], [("h", HEAD, 1)]],
    "h^0": [[("h", NEUTRAL, 0)]],
    "-> h^0": [[("h", HEAD, 0)]],
    "h^2 k": [[("h", NEUTRAL, 2)], [("k", NEUTRAL, 1)]],
    "h^12": [[("h", NEUTRAL, 12)]],
    "x -> h^2": [[("x", TAIL, 1)], [("h", HEAD, 2)]],
    "h^2 -> y": [[("h", TAIL, 2)], [("y", HEAD, 1)]],
    "h^2->y": [[("h", TAIL, 2)], [("y", HEAD, 1)]],
    "(x h)": [[("x", NEUTRAL, 1), ("h", NEUTRAL, 1)]],
    "( x  h )": [[("x", NEUTRAL, 1), ("h", NEUTRAL, 1)]],
    "(h)": [[("h", NEUTRAL, 1)]],
    "x -> (gate h)": [[("x", TAIL, 1)], [("gate", HEAD, 1), ("h", HEAD, 1)]],
    "(h p) -> k": [[("h", TAIL, 1), ("p", TAIL, 1)], [("k", HEAD, 1)]],
    "(x -> h)": [[("x", TAIL, 1), ("h", HEAD, 1)]],
    "(h <- x)": [[("h", HEAD, 1), ("x", TAIL, 1)]],
    "(x -> h^2)": [[("x", TAIL, 1), ("h", HEAD, 2)]],
    "h -> h": [[("h", TAIL, 1)], [("h", HEAD, 1)]],
    "state state": [[("state", NEUTRAL, 1)], [("state", NEUTRAL, 1)]],
    "conv.0/in:c ü2": [[("conv.0/in:c", NEUTRAL, 1)], [("ü2", NEUTRAL, 1)]],
    "in-channel->h-1": [[("in-channel", TAIL, 1)], [("h-1", HEAD, 1)]],
    "W1_dim_0": [[("W1_dim_0", NEUTRAL, 1)]],
}


@pytest.mark.parametrize("text", MEANINGS)
def test_meaning_of_a_line(text):
    assert shown(text) == MEANINGS[text]
    assert parse(text).rest is None
    assert parse(text).text == text


@pytest.mark.parametrize(
    ("text", "names", "rest"),
    [
        ("...", [], 0),
        ("h ...", ["h"], 1),
        ("... h", ["h"], 0),
        ("a ... h", ["a", "h"], 1),
        ("h...", ["h"], 1),
        ("...h", ["h"], 0),
        ("... -> h", ["h"], 0),
        ("a (b c) ...", ["a", "b", "c"], 2),
    ],
)
def test_place_of_the_rest(text, names, rest):
    axes = parse(text)
    assert [axis.name for group in axes.stored for axis in group] == names
    assert axes.rest == rest


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("x -> h -> y", "at most one arrow, found 2"),
        ("x -> h <- y", "at most one arrow, found 2"),
        ("... h ...", "'...' may stand once"),
        ("(h ...)", "outside of brackets"),
        ("((a b) c)", "brackets within brackets"),
        ("()", "empty or unopened brackets"),
        ("( -> ) h", "empty or unopened brackets"),
        ("a b)", "empty or unopened brackets"),
        ("(a b", "not closed"),
        ("h^", "cannot read 'h^'"),
        ("h^x", "cannot read 'h^'"),
        ("h^-1", "cannot read"),
        ("h ^2", "cannot read '^'"),
        ("(a b)^2", "cannot read '^'"),
        ("x > h", "cannot read '>'"),
        ("x < h", "cannot read '<'"),
        ("x --> h", "cannot read '-'"),
        ("x → h", "cannot read '→'"),
        ("x, h", "cannot read"),
        ("h; x", "cannot read"),
        ("h*", "cannot read"),
        ("[a b]", "cannot read"),
    ],
)
def test_refused(text, fragment):
    with pytest.raises(SpecError) as caught:
        parse(text)
    assert fragment in str(caught.value)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("wrong", [None, 3, ["x", "h"], {"W": "x -> h"}])
def test_not_a_string(wrong):
    with pytest.raises(SpecError, match="must be a string"):
        parse(wrong)


def test_names():
    assert parse("x -> (gate h) _ ... h^2").names() == {"x", "gate", "h"}
    assert parse("_ ...").names() == set()


@pytest.mark.parametrize(
    ("text", "n_dims", "expected"),
    [
        ("x -> h", 2, ["x", "h"]),
        ("x -> h", 1, None),
        ("x -> h", 3, None),
        ("h ...", 1, ["h"]),
        ("h ...", 3, ["h", None, None]),
        ("... h", 3, [None, None, "h"]),
        ("a ... h", 4, ["a", None, None, "h"]),
        ("a ... h", 1, None),
        ("...", 0, []),
        ("...", 2, [None, None]),
        ("", 0, []),
        ("", 1, None),
    ],
)
def test_expand(text, n_dims, expected):
    stored = parse(text).expand(n_dims)
    assert (None if stored is None else [axis.name for (axis,) in stored]) == expected


def test_expand_keeps_roles_and_products():
    stored = parse("... -> (gate h^2)").expand(2)
    assert stored == ((Axis(None),), (Axis("gate", "head"), Axis("h", "head", 2)))


AXIS_NAMES = st.sampled_from(["h", "h1", "x_2", "_", "layers.0.w", "in-out", "größe"])
FACTORS = st.lists(st.tuples(AXIS_NAMES, st.sampled_from([0, 1, 2, 3])), min_size=1, max_size=3)


@given(st.lists(FACTORS, max_size=3), st.lists(FACTORS, max_size=3), st.sampled_from(["->", "<-"]))
def test_written_lines_are_read_back(left, right, arrow):
    def write(side):
        texts = [" ".join(n if e == 1 else f"{n}^{e}" for n, e in group) for group in side]
        return " ".join(f"({t})" if len(g) > 1 else t for t, g in zip(texts, side, strict=True))

    def meant(side, role):
        return tuple(tuple(Axis(None if n == "_" else n, role, e) for n, e in g) for g in side)

    roles = ("tail", "head") if arrow == "->" else ("head", "tail")
    text = f"{write(left)} {arrow} {write(right)}"
    assert parse(text) == Axes(meant(left, roles[0]) + meant(right, roles[1]), None, text)
    assert parse(text.replace(f" {arrow} ", arrow)).stored == parse(text).stored
