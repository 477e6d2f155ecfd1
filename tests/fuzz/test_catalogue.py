"""The fault catalogue names tests that exist, and its figures come from results."""

import re

import catalogue
import pytest
from files import REPOSITORY

TEXT = catalogue.PAGE.read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)))
ROWS = [line for line in TEXT.splitlines() if re.match(r"\| (?!fault \||---)", line)]

FUZZ = {
    "what": "fuzz",
    "seed": 3,
    "files": 5000,
    "seconds": 1201.0,
    "slowest": 2.5,
    "worked": 1000,
    "refused": 4000,
    "kinds": {"silent": 2},
    "versions": {"numpy": "2.4"},
    "subjects": {"small.nc": {"worked": 3, "refused": 7}},
    "violations": [{"case": 5}, {"case": 5}],
}
KILLS = {"what": "kills", "kills": 200, "lost": 0, "by signal": {"SIGTERM": 60, "SIGINT": 61}}
MARKS = "before\n<!-- figures: x -->\nold\n<!-- end of figures -->\nafter\n"


@pytest.mark.parametrize(("file", "test"), NAMED, ids=[test for _, test in NAMED])
def test_every_test_that_the_page_names_exists(file, test):
    code = (REPOSITORY / file).read_text(encoding="utf-8")
    assert re.search(rf"^def {test}\(", code, re.MULTILINE)


def test_every_promise_names_a_test_or_says_that_it_is_open():
    promises = [row for row in ROWS if TEXT.index(row) < TEXT.index("## How it is tested")]
    assert len(NAMED) > 10
    assert len(promises) > 30
    assert [row for row in promises if not re.search(r"(::|\(open\)|`\.ci/run`)", row)] == []


def test_figures_replace_older_ones():
    once = catalogue.filled(MARKS, [KILLS, FUZZ])
    assert once.startswith("before\n<!-- figures: x -->\n")
    assert once.endswith("<!-- end of figures -->\nafter\n")
    assert "old" not in once
    assert once.index("### Damaged files") < once.index("### Kills")
    for row in (
        "| damaged files | 5,000 |",
        "| with a violation | 1 |",
        "| … of kind silent | 2 |",
    ):
        assert row in once
    for row in ("| `small.nc` | 3 | 7 | 0 |", "| lost | 0 |", "| SIGINT | 61 |"):
        assert row in once
    assert catalogue.filled(once, [KILLS, FUZZ]) == once


def test_what_is_no_result_is_refused():
    with pytest.raises(ValueError, match="no known run: floods"):
        catalogue.filled(MARKS, [{"what": "floods"}])
    with pytest.raises(ValueError, match="between two marks"):
        catalogue.filled("no marks", [KILLS])
